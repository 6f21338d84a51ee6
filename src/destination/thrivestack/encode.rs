//! The encoding for ThriveStack: a change as parts, elements and requests.

use super::{ThriveStack, ThriveStackWire};
use crate::destination::shared::plain_json::{self, timestamp};
use crate::destination::shared::reserved_traits::NameFolding;
use crate::destination::{AddressedChange, Element, Part, User};
use crate::error::Result;
use crate::io::http::Request;
use serde::Serialize;
use serde_json::{Map, Value};
use std::sync::Arc;

#[derive(Serialize)]
pub(super) struct Group<'a> {
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(super) context: Map<String, Value>,
    pub(super) group_id: &'a str,
    pub(super) timestamp: String,
    pub(super) traits: &'a Map<String, Value>,
    pub(super) user_id: &'a str,
}

pub(super) fn is_group_type(name: &str) -> bool {
    NameFolding::Capitals.fold(name) == "group_type"
}

impl ThriveStack {
    pub(super) fn encode_parts(&self, addressed: &AddressedChange) -> Result<Vec<Part>, String> {
        let AddressedChange { key, user, change, .. } = addressed;
        plain_json::check_only_sets("ThriveStack", addressed)?;
        plain_json::check_id("the group's key", key)?;
        match user {
            Some(User::Id(id)) => plain_json::check_id("the user's id", id)?,
            Some(User::Anonymous(_)) => {
                return Err("ThriveStack accepts only known users: write `id = …` under `[user]`".to_owned());
            }
            None => {
                return Err("no user: ThriveStack rejects a group without `user_id`; add `[user]` to the mapping, \
                            like `id = \"account:{key}\"`"
                    .to_owned());
            }
        }
        plain_json::check_traits(&change.set)?;
        if self.legacy_fields
            && let Some(name) = change.set.keys().find(|name| is_group_type(name))
        {
            return Err(format!(
                "trait `{name}` is sent with every group already: remove it, or set `legacy_fields = false`"
            ));
        }
        if change.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![Part { route: 0, change: Arc::clone(change) }])
    }

    pub(super) fn encode_element(&self, addressed: &AddressedChange, part: &Part) -> Element {
        let mut context = self.context.clone();
        let mut more = Map::new();
        if self.legacy_fields {
            context.insert("group_id".to_owned(), Value::String(addressed.key.clone()));
            more = part.change.set.clone();
            more.insert("group_type".to_owned(), Value::String(self.group_type.clone()));
        }
        let group = Group {
            context,
            group_id: &addressed.key,
            timestamp: timestamp(addressed.at),
            traits: if self.legacy_fields { &more } else { &part.change.set },
            user_id: addressed.user.as_ref().map_or("", plain_json::user_id),
        };
        serde_json::to_vec(&group).expect("writing JSON values to memory cannot fail").into()
    }

    pub(super) fn encode_request(&self, elements: &[&Element]) -> Request {
        let mut body = Vec::with_capacity(elements.iter().map(|element| element.bytes.len() + 1).sum::<usize>() + 1);
        let array = self.wire == ThriveStackWire::Array;
        if array {
            body.push(b'[');
        }
        for (at, element) in elements.iter().enumerate() {
            if at > 0 {
                body.push(b',');
            }
            body.extend_from_slice(&element.bytes);
        }
        if array {
            body.push(b']');
        }
        let headers =
            vec![("content-type", "application/json".to_owned()), ("x-api-key", self.api_key.expose().to_owned())];
        Request { method: "POST", url: format!("{}/api/group", self.base), headers, body, gzip: false }
    }
}
