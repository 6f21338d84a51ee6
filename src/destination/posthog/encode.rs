//! The encoding for PostHog: a change as parts, elements and requests.

use super::{
    CHARS_MAX, CREATE, DELETE_PROPERTY, DEPTH_MAX, PostHog, UPDATE_PROPERTY, UPSERT_PROPERTIES, WriteVia, capture,
    capture_v1, check_name, rest,
};
use crate::destination::{AddressedChange, Attempt, Element, Part, Route};
use crate::error::Result;
use crate::io::http::Request;
use crate::model::{Op, number};
use serde_json::Value;

pub(super) fn check(value: &Value, depth: usize) -> Result<(), String> {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
        Value::Number(number) if number::canonical(number.as_str()).is_none() => {
            Err("a number that JSON cannot represent: declare `as = \"string\"`".to_owned())
        }
        Value::Number(number) if number::fits_double(number.as_str()) => Ok(()),
        Value::Number(_) => {
            Err("a number that PostHog would round (it keeps 64-bit floats): declare `as = \"string\"`".to_owned())
        }
        Value::Array(_) | Value::Object(_) if depth == DEPTH_MAX => {
            Err("objects nested deeper than 100 levels: send it `as = \"string\"`".to_owned())
        }
        Value::Array(items) => items.iter().try_for_each(|item| check(item, depth + 1)),
        Value::Object(members) => members.values().try_for_each(|member| check(member, depth + 1)),
    }
}

impl PostHog {
    /// Fails with the reason when this change cannot be sent.
    pub(super) fn refuse(&self, addressed: &AddressedChange) -> Result<(), String> {
        let AddressedChange { key, change, .. } = addressed;
        if change.delete {
            return Err("PostHog cannot delete a group: set `on_missing` to `keep` or `unset`".to_owned());
        }
        if key.is_empty() {
            return Err("the group's key is empty: give the row a key, or leave it out with `where`".to_owned());
        }
        if key.contains('\0') {
            return Err("the group's key contains a NUL character, which PostHog drops, so that it could become another key: remove it with `sql`".to_owned());
        }
        if key.len() > CHARS_MAX && key.chars().count() > CHARS_MAX {
            return Err("the group's key has more than 400 characters: use a shorter column".to_owned());
        }
        if let Some(document) = &addressed.large_document {
            capture::check_whole(document)?;
        }
        for (op, name, value) in change.values() {
            if op != Op::Set {
                return Err(format!("trait `{name}`: PostHog's groups have no `{}`: use `op = \"set\"`", op.name()));
            }
            check_name(name)?;
            check(value, 0).map_err(|reason| format!("trait `{name}`: {reason}"))?;
            if value.is_null() && self.write_via == WriteVia::Rest {
                return Err(format!(
                    "trait `{name}`: PostHog's REST API accepts no null: set `on_null` to `unset` or `skip`, or use \
                     `write_via = \"capture\"`"
                ));
            }
        }
        change.unset.iter().try_for_each(|name| {
            check_name(name)?;
            match change.set.contains_key(name) {
                true => Err(format!("trait `{name}` is both set and unset: use one operator")),
                false => Ok(()),
            }
        })
    }

    /// Removals first: they take effect at once, while events wait in PostHog's queue. The other way round ingestion, which
    /// reads a group and writes it back, could bring a removed trait back.
    pub(super) fn encode_parts(&self, addressed: &AddressedChange) -> Result<Vec<Part>, String> {
        self.refuse(addressed)?;
        let mut parts = Vec::new();
        if !addressed.change.unset.is_empty() {
            let Some(rest) = &self.rest else {
                return Err(
                    "removing a trait needs `personal_api_key` and `project_id`: set them, or set `on_null` to \
                            `null` or `skip`"
                        .to_owned(),
                );
            };
            match (rest.knows_the_type(), addressed.settled_seq) {
                (true, _) => parts.extend(rest::removals(&addressed.change)),
                // PostHog creates the type with the first group call, so there is nothing to remove yet.
                (false, 0) => {}
                (false, _) => {
                    return Err(format!(
                        "PostHog does not list the group type `{}` (yet), so no trait can be removed: events may still \
                         wait in its queue; run again later with `--retry-rejected`",
                        self.group_type
                    ));
                }
            }
        }
        match (&self.rest, self.write_via) {
            (Some(rest), WriteVia::Rest) => parts.extend(rest.settings(addressed)?),
            _ => parts.extend(capture::events(self, addressed)?),
        }
        Ok(parts)
    }

    pub(super) fn encode_element(&self, addressed: &AddressedChange, part: &Part) -> Element {
        match (&self.rest, part.route) {
            (Some(rest), DELETE_PROPERTY | CREATE | UPDATE_PROPERTY | UPSERT_PROPERTIES) => {
                rest.element(&addressed.key, part)
            }
            _ => capture::event(self, addressed, &part.change),
        }
    }

    pub(super) fn encode_request(&self, route: Route, elements: &[&Element], attempt: Attempt) -> Request {
        match (&self.rest, route, elements) {
            (Some(rest), DELETE_PROPERTY | CREATE | UPDATE_PROPERTY | UPSERT_PROPERTIES, [element]) => {
                rest.request(element)
            }
            _ if self.is_v1() => Request {
                method: "POST",
                url: format!("{}{}", self.base, capture_v1::PATH),
                headers: capture_v1::headers(self.api_key.expose(), attempt),
                body: capture_v1::body(elements, attempt.at),
                gzip: self.gzip,
            },
            _ => Request {
                method: "POST",
                url: format!("{}batch/", self.base),
                headers: vec![("content-type", "application/json".to_owned())],
                body: capture::body(&self.head, elements, attempt.at),
                gzip: self.gzip,
            },
        }
    }
}
