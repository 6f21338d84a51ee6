//! The encoding for Amplitude's Group Identify API: a change as parts, elements and requests.

use super::properties::OPERATORS_BYTES;
use super::{Amplitude, COMMA, END, ONCE, REPEATABLE, properties, value};
use crate::destination::{AddressedChange, Destination, Element, Part, Route};
use crate::error::Result;
use crate::io::http::Request;
use crate::model::{Change, Op, Traits};
use std::sync::Arc;

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
        let mut json = br#"{"group_properties":"#.to_vec();
        properties::write(&mut json, &part.change, self.long_strings);
        json.extend_from_slice(br#","group_type":"#);
        value::write_text(&mut json, &self.group_type);
        json.extend_from_slice(br#","group_value":"#);
        value::write_text(&mut json, &addressed.key);
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
