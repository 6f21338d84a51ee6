//! The encoding for journy.io: a change as parts, elements and requests.

use super::{DELETE, Journy, UPSERT, plain};
use crate::destination::{AddressedChange, Element, Part, Route};
use crate::error::Result;
use crate::io::http::Request;
use crate::model::{Change, Op, number};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Fails with the reason and the remedy when a property cannot have this value.
pub(super) fn check(value: &Value) -> Result<(), String> {
    match value {
        Value::Null => {
            Err("a null, which deletes a property at journy.io: set `on_null` to `unset` or `skip`".to_owned())
        }
        Value::Bool(_) | Value::String(_) => Ok(()),
        Value::Number(number) if number::fits_double(number.as_str()) => Ok(()),
        Value::Number(_) => {
            Err("a number that journy.io would round (it keeps 64-bit floats): declare `as = \"string\"`".to_owned())
        }
        Value::Array(items) => {
            if items.iter().all(|item| item.as_str().is_some_and(|text| !text.is_empty())) {
                return Ok(());
            }
            Err("a list with elements other than non-empty strings, which journy.io rejects: cast and filter \
                 its elements with `sql`, or send it `as = \"string\"`"
                .to_owned())
        }
        Value::Object(_) => {
            Err("an object, which journy.io does not accept: map its members as traits of their own, or send it \
                 `as = \"string\"`"
                .to_owned())
        }
    }
}

impl Journy {
    pub(super) fn encode_parts(&self, addressed: &AddressedChange) -> Result<Vec<Part>, String> {
        let AddressedChange { key, change, .. } = addressed;
        if key.is_empty() {
            return Err("the group's key is empty: give the row a key, or leave it out with `where`".to_owned());
        }
        if change.is_empty() {
            return Ok(Vec::new());
        }
        if change.delete {
            let change = Arc::new(Change { delete: true, ..Change::default() });
            return Ok(vec![Part { route: DELETE, change }]);
        }
        if change.names().any(|name| name.trim().is_empty()) {
            return Err("a trait has an empty name: rename or remove it".to_owned());
        }
        for (op, name, value) in change.values() {
            if op != Op::Set {
                return Err(format!("trait `{name}`: journy.io has no `{}`: use `set`", op.name()));
            }
            if change.unset.contains(name) {
                return Err(format!("trait `{name}` is both set and unset: use one operator"));
            }
            check(value).map_err(|reason| format!("trait `{name}`: {reason}"))?;
        }
        // A trait renamed in its capitals alone is unset under one name and set under the other. In one request the null
        // could win; one after the other the value does, whether or not journy.io tells the names apart.
        let taken: BTreeSet<String> = change.set.keys().map(|name| plain(name)).collect();
        let first: BTreeSet<String> =
            change.unset.iter().filter(|name| taken.contains(&plain(name))).cloned().collect();
        if first.is_empty() {
            return Ok(vec![Part { route: UPSERT, change: Arc::clone(change) }]);
        }
        let rest = Change { unset: change.unset.difference(&first).cloned().collect(), ..Change::clone(change) };
        let along =
            addressed.repeated.iter().filter(|(name, _)| !first.iter().any(|unset| plain(unset) == plain(name)));
        let set = along.map(|(name, value)| (name.clone(), value.clone())).collect();
        let first = Change { set, unset: first, ..Change::default() };
        Ok([first, rest].map(|change| Part { route: UPSERT, change: Arc::new(change) }).into())
    }

    pub(super) fn encode_element(&self, addressed: &AddressedChange, part: &Part) -> Element {
        let mut body = json!({"identification": {"accountId": addressed.key}});
        if part.route == UPSERT {
            let nulls = part.change.unset.iter().map(|name| (name.clone(), Value::Null));
            let values = part.change.set.iter().map(|(name, value)| (name.clone(), value.clone()));
            body["properties"] = values.chain(nulls).collect();
        }
        body.to_string().into_bytes().into()
    }

    pub(super) fn encode_request(&self, route: Route, elements: &[&Element]) -> Request {
        let (method, path) = if route == DELETE { ("DELETE", "/accounts") } else { ("POST", "/accounts/upsert") };
        Request {
            method,
            url: format!("{}{path}", self.base),
            headers: vec![
                ("content-type", "application/json".to_owned()),
                ("x-api-key", self.api_key.expose().to_owned()),
            ],
            body: elements.iter().flat_map(|element| element.bytes.iter().copied()).collect(),
            gzip: false,
        }
    }
}
