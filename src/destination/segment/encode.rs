//! The encoding for Segment's protocol: a change as parts, elements and requests.

use super::{BATCH_END, SENT_AT, SENT_AT_END, Segment};
use crate::destination::shared::dedup_id;
use crate::destination::shared::plain_json::{self, timestamp};
use crate::destination::{AddressedChange, Attempt, Destination, Element, Part, User, UserRule};
use crate::error::Result;
use crate::io::http::Request;
use crate::model::PlainDocument;
use crate::model::document::Traits;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::sync::Arc;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Message<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) anonymous_id: Option<&'a str>,
    pub(super) context: &'a Value,
    pub(super) group_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) integrations: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message_id: Option<String>,
    pub(super) timestamp: String,
    pub(super) traits: TraitsText<'a>,
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user_id: Option<&'a str>,
}

/// The traits of a message.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum TraitsText<'a> {
    Values(&'a Traits),
    Plain(&'a RawValue),
}

impl Segment {
    /// The body before the elements: `{"sentAt":"…","writeKey":"…","batch":[`.
    pub(super) fn head(&self, sent_at: &str) -> String {
        format!("{SENT_AT}{sent_at}{SENT_AT_END}{}{}", self.key_field, self.batch_head)
    }

    pub(super) fn encode_parts(&self, addressed: &AddressedChange) -> Result<Vec<Part>, String> {
        let AddressedChange { key, user, change, .. } = addressed;
        let vendor = self.preset.vendor;
        plain_json::check_only_sets(vendor, addressed)?;
        plain_json::check_id("the group's key", key)?;
        match user {
            Some(user) => plain_json::check_id("the user's id", plain_json::user_id(user))?,
            None if self.preset.user == UserRule::Optional => {}
            None => {
                return Err(format!(
                    "no user: {vendor} drops a group call without one, or rejects its whole batch; add `[user]` to the mapping"
                ));
            }
        }
        plain_json::check_traits(&change.set)?;
        for tool in self.preset.tool.into_iter().chain(self.downstream.iter().flatten().copied()) {
            tool.refuse(key, change.set.keys())?;
        }
        if change.is_empty() {
            return Ok(Vec::new());
        }
        let part = Part { route: 0, change: Arc::clone(change) };
        let room = self.limits(0).element_bytes_max;
        let bare = self.element(addressed, &Part { route: 0, change: Arc::default() }).bytes.len();
        if bare + plain_json::bytes_at_most(&change.set) > room {
            let bytes = self.element(addressed, &part).bytes.len();
            if bytes > room {
                let (largest, its) = plain_json::largest(&change.set).unwrap_or_default();
                return Err(format!(
                    "the group call takes {bytes} bytes; {vendor} takes at most {room} and may drop a larger one silently: \
                     shorten `{largest}` ({its} bytes) with `sql`, or leave it out"
                ));
            }
        }
        Ok(vec![part])
    }

    pub(super) fn encode_element(&self, addressed: &AddressedChange, part: &Part) -> Element {
        let message_id = || dedup_id::digest(&self.group_type, addressed, &part.change);
        self.message(addressed, TraitsText::Values(&part.change.set), message_id)
    }

    /// Whether plain values certainly can be sent for this group.
    pub(super) fn plainly_fits(&self, addressed: &AddressedChange, document: &PlainDocument) -> bool {
        let AddressedChange { key, user, .. } = addressed;
        let users = match user {
            Some(user) => plain_json::check_id("the user's id", plain_json::user_id(user)).is_ok(),
            None => self.preset.user == UserRule::Optional,
        };
        let bare = self.element(addressed, &Part { route: 0, change: Arc::default() }).bytes.len();
        users
            && plain_json::check_id("the group's key", key).is_ok()
            && bare + document.text.len() <= self.limits(0).element_bytes_max
    }

    pub(super) fn encode_plain(&self, addressed: &AddressedChange, document: &PlainDocument) -> Element {
        let message_id = || dedup_id::of_plain(&self.group_type, addressed, document);
        let traits = serde_json::from_str(&document.text).expect("a plain document is JSON");
        self.message(addressed, TraitsText::Plain(traits), message_id)
    }

    fn message(
        &self,
        addressed: &AddressedChange,
        traits: TraitsText<'_>,
        message_id: impl FnOnce() -> [u8; 32],
    ) -> Element {
        let AddressedChange { key, user, at, .. } = addressed;
        let message = Message {
            anonymous_id: match user {
                Some(User::Anonymous(id)) => Some(id),
                _ => None,
            },
            context: &self.context,
            group_id: key,
            integrations: self.integrations.as_ref(),
            message_id: self.preset.message_id.then(|| dedup_id::uuid(message_id())),
            timestamp: timestamp(*at),
            traits,
            r#type: "group",
            user_id: match user {
                Some(User::Id(id)) => Some(id),
                _ => None,
            },
        };
        serde_json::to_vec(&message).expect("writing JSON values to memory cannot fail").into()
    }

    pub(super) fn encode_request(&self, elements: &[&Element], attempt: Attempt) -> Request {
        let mut body = self.head(&timestamp(attempt.at)).into_bytes();
        body.reserve(elements.iter().map(|element| element.bytes.len() + 1).sum::<usize>() + BATCH_END.len());
        if self.preset.single {
            // The message is an object and never empty, so its members follow ours.
            elements.iter().for_each(|element| body.extend_from_slice(element.bytes.get(1..).unwrap_or_default()));
        } else {
            for (at, element) in elements.iter().enumerate() {
                if at > 0 {
                    body.push(b',');
                }
                body.extend_from_slice(&element.bytes);
            }
            body.extend_from_slice(BATCH_END.as_bytes());
        }
        let headers = self.headers.iter().chain(&self.secret_headers).cloned().collect();
        Request { method: "POST", url: self.url.clone(), headers, body, gzip: self.preset.gzip }
    }
}
