//! The encoding for a file: lines of NDJSON: a change as parts, elements and requests.

use super::File;
use crate::destination::shared::plain_json;
use crate::destination::{AddressedChange, Element, Part, Route};
use crate::io::http::Request;
use crate::model::{Change, PlainDocument};
use serde::Serialize;
use std::sync::Arc;

#[derive(Serialize)]
pub(super) struct Line<'a> {
    pub(super) group_type: &'a str,
    pub(super) key: &'a str,
    #[serde(flatten)]
    pub(super) change: &'a Change,
}

impl File {
    pub(super) fn encode_parts(&self, change: &AddressedChange) -> Result<Vec<Part>, String> {
        if change.change.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![Part { route: Route::from(change.change.accumulates()), change: Arc::clone(&change.change) }])
    }

    pub(super) fn encode_element(&self, addressed: &AddressedChange, part: &Part) -> Element {
        serde_json::to_vec(&Line { group_type: &self.group_type, key: &addressed.key, change: &part.change })
            .expect("writing JSON values to memory cannot fail")
            .into()
    }

    pub(super) fn encode_plain(&self, key: &str, document: &PlainDocument) -> Element {
        let mut line = Vec::with_capacity(document.text.len() + key.len() + self.group_type.len() + 64);
        line.extend_from_slice(br#"{"group_type":"#);
        plain_json::write_text(&mut line, &self.group_type);
        line.extend_from_slice(br#","key":"#);
        plain_json::write_text(&mut line, key);
        line.extend_from_slice(br#","set":"#);
        line.extend_from_slice(document.text.as_bytes());
        line.push(b'}');
        line.into()
    }

    pub(super) fn encode_request(&self, elements: &[&Element]) -> Request {
        let mut body = Vec::with_capacity(elements.iter().map(|element| element.bytes.len() + 1).sum());
        for element in elements {
            body.extend_from_slice(&element.bytes);
            body.push(b'\n');
        }
        Request { method: "APPEND", url: self.url.clone(), headers: Vec::new(), body, gzip: false }
    }
}
