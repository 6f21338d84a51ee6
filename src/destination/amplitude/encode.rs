//! The encoding for Amplitude's Group Identify API: a change as parts, elements and requests.

use super::properties::OPERATORS_BYTES;
use super::{Amplitude, CHARS_MAX, COMMA, END, ONCE, REPEATABLE, properties, value};
use crate::destination::{AddressedChange, Destination, Element, Part, Route};
use crate::error::Result;
use crate::io::http::Request;
use crate::model::{Change, Op, PlainDocument, Traits};
use std::sync::Arc;

/// How an identification begins.
const PROPERTIES: &[u8] = br#"{"group_properties":"#;

/// The bytes of a text in a form.
pub(super) fn encoded_bytes(text: &[u8]) -> usize {
    form_urlencoded::byte_serialize(text).map(str::len).sum()
}

/// What may be sent again and what must not, each with its route.
pub(super) fn shares(change: &Arc<Change>, repeated: &Traits) -> Vec<(Route, Arc<Change>)> {
    if !change.accumulates() {
        return vec![(REPEATABLE, Arc::clone(change))];
    }
    let (mut again, mut once) = ((**change).clone(), Change { set: repeated.clone(), ..Change::default() });
    for op in Op::ALL.iter().copied().filter(|op| op.accumulates()) {
        *once.under(op) = std::mem::take(again.under(op));
    }
    // The idempotent part comes first: when it fails, nothing was accumulated yet.
    let only_repeats = again.traits_count() == repeated.len();
    let again = (!only_repeats).then(|| (REPEATABLE, Arc::new(again)));
    again.into_iter().chain([(ONCE, Arc::new(once))]).collect()
}

impl Amplitude {
    pub(super) fn encode_parts(&self, addressed: &AddressedChange) -> Result<Vec<Part>, String> {
        properties::check(addressed, self.long_strings)?;
        if addressed.change.is_empty() {
            return Ok(Vec::new());
        }
        let bare = self.element(addressed, &Part { route: REPEATABLE, change: Arc::default() }).bytes.len();
        let room = self.limits(REPEATABLE).element_bytes_max.saturating_sub(bare + OPERATORS_BYTES);
        let mut parts = Vec::with_capacity(1);
        for (route, change) in shares(&addressed.change, &addressed.repeated) {
            let cut = properties::cut(change, &addressed.repeated, room, self.long_strings, encoded_bytes)?;
            parts.extend(cut.into_iter().map(|change| Part { route, change }));
        }
        Ok(parts)
    }

    pub(super) fn encode_element(&self, addressed: &AddressedChange, part: &Part) -> Element {
        let mut json = PROPERTIES.to_vec();
        properties::write(&mut json, &part.change, self.long_strings);
        self.identification(json, &addressed.key)
    }

    /// Whether plain values certainly fit into one identification: no byte of theirs becomes more than three.
    pub(super) fn plainly_fits(&self, key: &str, document: &PlainDocument) -> bool {
        let bytes = 3 * (document.text.len() + OPERATORS_BYTES) + 18 * (key.len() + self.group_type.len()) + 256;
        (1..=CHARS_MAX).contains(&key.len()) && bytes <= self.limits(REPEATABLE).element_bytes_max
    }

    pub(super) fn encode_plain(&self, key: &str, document: &PlainDocument) -> Element {
        let mut json = Vec::with_capacity(document.text.len() + key.len() + self.group_type.len() + 96);
        json.extend_from_slice(PROPERTIES);
        json.extend_from_slice(br#"{"$set":"#);
        json.extend_from_slice(document.text.as_bytes());
        json.push(b'}');
        self.identification(json, key)
    }

    /// Ends an identification that has its properties.
    fn identification(&self, mut json: Vec<u8>, key: &str) -> Element {
        json.extend_from_slice(br#","group_type":"#);
        value::write_text(&mut json, &self.group_type);
        json.extend_from_slice(br#","group_value":"#);
        value::write_text(&mut json, key);
        json.push(b'}');
        let mut encoded = Vec::with_capacity(json.len() * 2);
        for chunk in form_urlencoded::byte_serialize(&json) {
            encoded.extend_from_slice(chunk.as_bytes());
        }
        encoded.into()
    }

    pub(super) fn encode_request(&self, elements: &[&Element]) -> Request {
        let bytes = elements.iter().map(|element| element.bytes.len() + COMMA.len()).sum::<usize>();
        let mut body = Vec::with_capacity(self.head.len() + bytes + END.len());
        body.extend_from_slice(self.head.as_bytes());
        for (at, element) in elements.iter().enumerate() {
            if at > 0 {
                body.extend_from_slice(COMMA.as_bytes());
            }
            body.extend_from_slice(&element.bytes);
        }
        body.extend_from_slice(END.as_bytes());
        Request {
            method: "POST",
            url: self.url.clone(),
            headers: vec![("content-type", "application/x-www-form-urlencoded".to_owned())],
            body,
            gzip: false,
        }
    }
}
