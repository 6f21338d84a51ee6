//! The encoding for Mixpanel: a change as parts, elements and requests.

use super::{Mixpanel, PROPERTIES_MAX, TEXT_BYTES_MAX, UPDATE_BYTES_MAX, json, value};
use crate::destination::{AddressedChange, Destination, Element, Part};
use crate::error::Result;
use crate::io::http::Request;
use crate::model::{Change, Op, Traits};
use serde_json::Value;
use std::sync::Arc;

/// The name of an operator on the wire.
pub(super) fn wire_name(op: Op) -> &'static str {
    match op {
        Op::SetOnce => "$set_once",
        Op::Append => "$union",
        // The others are rejected before.
        Op::Set | Op::Add | Op::Prepend => "$set",
    }
}

/// A change being cut: one operator per part, and no more of it than an update may hold.
pub(super) struct Cut {
    pub(super) room: usize,
    pub(super) parts: Vec<Change>,
    pub(super) filled: usize,
    pub(super) open: bool,
    /// What every part under the present operator sets as well.
    pub(super) along: Traits,
    pub(super) along_bytes: usize,
}

impl Cut {
    fn new(room: usize) -> Cut {
        Cut { room, parts: Vec::new(), filled: 0, open: false, along: Traits::new(), along_bytes: 0 }
    }

    /// What comes next is under another operator.
    fn close(&mut self) {
        self.open = false;
    }

    /// Begins a part.
    fn open(&mut self) {
        self.parts.push(Change { set: self.along.clone(), ..Change::default() });
        self.filled = self.along_bytes;
        self.open = true;
    }

    /// Puts a property of so many bytes (without its comma) into the part it belongs to.
    fn add(&mut self, bytes: usize, put: impl FnOnce(&mut Change)) {
        let full = self.parts.last().is_none_or(|part| {
            part.traits_count() >= PROPERTIES_MAX
                || part.traits_count() > self.along.len() && self.filled + bytes + 1 > self.room
        });
        if full || !self.open {
            self.open();
        }
        self.filled += bytes + 1;
        if let Some(part) = self.parts.last_mut() {
            put(part);
        }
    }

    fn parts(self) -> Vec<Part> {
        self.parts.into_iter().map(|change| Part { route: 0, change: Arc::new(change) }).collect()
    }
}

/// A trait that is under two operators, whose parts would contradict each other.
pub(super) fn twice(change: &Change) -> Option<&String> {
    let mut names: Vec<&String> = change.names().collect();
    names.sort_unstable();
    names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

impl Mixpanel {
    /// The bytes of an update before its operator's content, at most.
    pub(super) fn bare_bytes(&self, key: &str) -> usize {
        self.head.len() + json(key).len() + r#","$set_once":{}}"#.len()
    }

    pub(super) fn encode_parts(&self, addressed: &AddressedChange) -> Result<Vec<Part>, String> {
        let AddressedChange { key, change, .. } = addressed;
        match key.len() {
            0 => return Err("the group's key is empty: give the row a key, or leave it out with `where`".to_owned()),
            1..=TEXT_BYTES_MAX => {}
            _ => return Err("the group's key has more than 255 bytes: use a shorter column".to_owned()),
        }
        if change.is_empty() {
            return Ok(Vec::new());
        }
        if change.delete {
            let change = Arc::new(Change { delete: true, ..Change::default() });
            return Ok(vec![Part { route: 0, change }]);
        }
        for name in change.names() {
            value::check_name(name)?;
        }
        for (op, name, value) in change.values() {
            let checked = match op {
                Op::Set | Op::SetOnce => value::check(value, self.long_strings),
                Op::Append => value::check_union(value, self.long_strings),
                Op::Add | Op::Prepend => Err(format!("Mixpanel has no `{}` for groups: use `set`", op.name())),
            };
            checked.map_err(|reason| format!("trait `{name}`: {reason}"))?;
        }
        if let Some(name) = twice(change) {
            return Err(format!("trait `{name}` has two operators: use one"));
        }
        let operators = change.by_op().iter().filter(|(_, traits)| !traits.is_empty()).count();
        if operators + usize::from(!change.unset.is_empty()) == 1 && change.traits_count() <= PROPERTIES_MAX {
            // Nearly every change of nearly every run: nothing to cut, so nothing is copied.
            let whole = Part { route: 0, change: Arc::clone(change) };
            if self.element(addressed, &whole).bytes.len() <= self.limits(0).element_bytes_max {
                return Ok(vec![whole]);
            }
        }
        let mut cut = Cut::new(UPDATE_BYTES_MAX.saturating_sub(self.bare_bytes(key)));
        for name in &change.unset {
            cut.add(json(name).len(), |part| part.unset.extend([name.clone()]));
        }
        let bytes = |name: &String, value: &Value| json(name).len() + 1 + value::bytes(value, self.long_strings);
        for (op, traits) in change.by_op() {
            cut.close();
            cut.along = if op == Op::Set { addressed.repeated.clone() } else { Traits::new() };
            cut.along_bytes = cut.along.iter().map(|(name, value)| bytes(name, value) + 1).sum();
            if !cut.along.is_empty() && traits.len() == cut.along.len() {
                cut.open();
                continue;
            }
            for (name, value) in
                traits.iter().filter(|(name, _)| op != Op::Set || !addressed.repeated.contains_key(*name))
            {
                cut.add(bytes(name, value), |part| part.under(op).extend([(name.clone(), value.clone())]));
            }
        }
        Ok(cut.parts())
    }

    pub(super) fn encode_element(&self, addressed: &AddressedChange, part: &Part) -> Element {
        let mut out = self.head.clone().into_bytes();
        out.extend_from_slice(json(&addressed.key).as_bytes());
        let change = &part.change;
        if change.delete {
            out.extend_from_slice(br#","$delete":"""#);
        }
        if !change.unset.is_empty() {
            out.extend_from_slice(format!(r#","$unset":{}"#, json(&change.unset)).as_bytes());
        }
        for (op, traits) in change.by_op().into_iter().filter(|(_, traits)| !traits.is_empty()) {
            out.extend_from_slice(format!(r#","{}":"#, wire_name(op)).as_bytes());
            value::write_members(&mut out, traits, self.long_strings);
        }
        out.push(b'}');
        out.into()
    }

    pub(super) fn encode_request(&self, elements: &[&Element]) -> Request {
        let mut body = Vec::with_capacity(elements.iter().map(|element| element.bytes.len() + 1).sum::<usize>() + 2);
        body.push(b'[');
        for (at, element) in elements.iter().enumerate() {
            if at > 0 {
                body.push(b',');
            }
            body.extend_from_slice(&element.bytes);
        }
        body.push(b']');
        Request {
            method: "POST",
            // `strict` has every update validated and named when it fails; `ip=0` keeps our address out of the profiles.
            url: format!("{}/groups?strict=1&verbose=1&ip=0", self.base),
            headers: vec![("content-type", "application/json".to_owned()), ("accept", "application/json".to_owned())],
            body,
            gzip: false,
        }
    }
}
