//! The encoding for a webhook: a change as parts, elements and requests.

use super::{ACCUMULATING, HEAD, REPEATABLE, Signing, TAIL, Webhook, WebhookBody, signature, whole_address};
use crate::destination::shared::dedup_id;
use crate::destination::{AddressedChange, Attempt, Element, Part, User};
use crate::error::Result;
use crate::io::http::Request;
use crate::model::{Change, PlainDocument};
use chrono::SecondsFormat;
use serde::Serialize;
use std::sync::Arc;

/// One change as it is written.
#[derive(Serialize)]
pub(super) struct EncodedChange<'a> {
    pub(super) id: String,
    pub(super) group_type: &'a str,
    pub(super) key: &'a str,
    pub(super) at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<EncodedUser<'a>>,
    #[serde(flatten)]
    pub(super) change: &'a Change,
}

/// The user of a mapping's `[user]`.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum EncodedUser<'a> {
    Id(&'a str),
    AnonymousId(&'a str),
}

impl Webhook {
    pub(super) fn encode_parts(&self, addressed: &AddressedChange) -> Result<Vec<Part>, String> {
        let change = &addressed.change;
        if change.is_empty() {
            return Ok(Vec::new());
        }
        let route = if change.accumulates() { ACCUMULATING } else { REPEATABLE };
        Ok(vec![Part { route, change: Arc::clone(change) }])
    }

    pub(super) fn encode_element(&self, addressed: &AddressedChange, part: &Part) -> Element {
        serde_json::to_vec(&EncodedChange {
            id: dedup_id::uuid(dedup_id::digest(&self.group_type, addressed, &part.change)),
            change: &part.change,
            ..self.envelope(addressed)
        })
        .expect("writing JSON values to memory cannot fail")
        .into()
    }

    pub(super) fn encode_plain(&self, addressed: &AddressedChange, document: &PlainDocument) -> Element {
        let envelope = EncodedChange {
            id: dedup_id::uuid(dedup_id::of_plain(&self.group_type, addressed, document)),
            ..self.envelope(addressed)
        };
        let mut json = serde_json::to_vec(&envelope).expect("writing JSON values to memory cannot fail");
        json.pop();
        json.extend_from_slice(br#","set":"#);
        json.extend_from_slice(document.text.as_bytes());
        json.push(b'}');
        json.into()
    }

    /// What every change has beside itself.
    fn envelope<'a>(&'a self, addressed: &'a AddressedChange) -> EncodedChange<'a> {
        EncodedChange {
            id: String::new(),
            group_type: &self.group_type,
            key: &addressed.key,
            at: addressed.at.to_rfc3339_opts(SecondsFormat::Millis, true),
            user: addressed.user.as_ref().map(|user| match user {
                User::Id(id) => EncodedUser::Id(id),
                User::Anonymous(id) => EncodedUser::AnonymousId(id),
            }),
            change: &addressed.change,
        }
    }

    pub(super) fn encode_request(&self, elements: &[&Element], attempt: Attempt) -> Request {
        let mut body = Vec::with_capacity(elements.iter().map(|element| element.bytes.len() + 1).sum::<usize>() + 16);
        if self.body == WebhookBody::Batch {
            body.extend_from_slice(HEAD);
        }
        for (at, element) in elements.iter().enumerate() {
            if at > 0 {
                body.push(b',');
            }
            body.extend_from_slice(&element.bytes);
        }
        if self.body == WebhookBody::Batch {
            body.extend_from_slice(TAIL);
        }
        let mut sent: Vec<(&'static str, String)> = Vec::new();
        if self.headers.iter().all(|header| header.name != "content-type") {
            sent.push(("content-type", "application/json".to_owned()));
        }
        sent.extend(self.headers.iter().map(|header| (header.name, header.value.clone())));
        if let Some(Signing { secret, signature_header, timestamp_header }) = &self.signing {
            // Of the attempt, not of the change: a receiver rejects what was signed long ago.
            let timestamp = attempt.at.timestamp().to_string();
            sent.push((signature_header, signature::signature(secret, &timestamp, &body)));
            sent.push((timestamp_header, timestamp));
        }
        let url = match &self.secret_path {
            // Checked when the settings were read.
            Some(path) => whole_address(&self.shown_url, path).unwrap_or_else(|_| self.shown_url.clone()),
            None => self.shown_url.clone(),
        };
        Request { method: self.method, url, headers: sent, body, gzip: false }
    }
}
