//! How does a change become `group_properties`, and into which parts is one cut that no request holds whole?
//!
//! Every value is under an operator, never plain beside one: the vendor does not document what a mixture means.

use std::sync::Arc;

use serde_json::Value;

use super::{CHARS_MAX, LongStrings, value};
use crate::destination::AddressedChange;
use crate::model::{Change, Op, Traits};

/// Group properties in one identification or event. The Group Identify API names it as a request's limit; the official
/// clients empty an operator's object that holds more.
pub(super) const PROPERTIES_MAX: usize = 1_024;
/// The six operators around their properties, commas included: 73 bytes, or 157 percent-encoded.
pub(super) const OPERATORS_BYTES: usize = 160;

/// One trait of a change, by what is done to it.
#[derive(Clone, Copy)]
pub(super) enum Slot<'a> {
    Value(Op, &'a str, &'a Value),
    Unset(&'a str),
}

impl<'a> Slot<'a> {
    pub(super) fn all(change: &'a Change) -> impl Iterator<Item = Slot<'a>> {
        let values = change.values().map(|(op, name, value)| Slot::Value(op, name, value));
        values.chain(change.unset.iter().map(|name| Slot::Unset(name)))
    }

    fn name(self) -> &'a str {
        match self {
            Slot::Value(_, name, _) | Slot::Unset(name) => name,
        }
    }

    pub(super) fn put(self, change: &mut Change) {
        match self {
            Slot::Value(op, name, value) => drop(change.under(op).insert(name.to_owned(), value.clone())),
            Slot::Unset(name) => drop(change.unset.insert(name.to_owned())),
        }
    }

    /// An upper bound of its encoded bytes, without encoding: no byte of text becomes more than eight.
    pub(super) fn bytes_at_most(self) -> usize {
        8 * (self.name().len() + 8)
            + match self {
                Slot::Value(_, _, value) => value::bytes_at_most(value),
                Slot::Unset(_) => 8,
            }
    }

    /// Its bytes, as `encoded` counts those of a JSON text.
    pub(super) fn bytes(self, long_strings: LongStrings, encoded: fn(&[u8]) -> usize) -> usize {
        let mut json = vec![b','];
        self.write(&mut json, long_strings);
        encoded(&json)
    }

    fn write(self, out: &mut Vec<u8>, long_strings: LongStrings) {
        value::write_text(out, self.name());
        out.push(b':');
        match self {
            Slot::Value(_, _, value) => value::write(out, value, long_strings),
            Slot::Unset(_) => out.extend_from_slice(br#""-""#),
        }
    }
}

/// Fails with the reason and the remedy when Amplitude cannot take this change.
pub(super) fn check(addressed: &AddressedChange, long_strings: LongStrings) -> Result<(), String> {
    let AddressedChange { key, change, .. } = addressed;
    if change.delete {
        return Err("Amplitude has no call that deletes a group: set `on_missing` to `keep` or `unset`".to_owned());
    }
    match key.chars().count() {
        0 => return Err("the group's key is empty: give the row a key, or leave it out with `where`".to_owned()),
        1..=CHARS_MAX => {}
        _ => return Err("the group's key has more than 1,024 characters: use a shorter column".to_owned()),
    }
    for slot in Slot::all(change) {
        value::check_name(slot.name())?;
        if let Slot::Value(op, name, value) = slot {
            value::check_for(op, value, long_strings).map_err(|reason| format!("trait `{name}`: {reason}"))?;
        }
    }
    let also = |name: &String, op: Option<Op>| {
        change.by_op().into_iter().any(|(other, traits)| Some(other) != op && traits.contains_key(name))
    };
    // Most changes only set, and then there is nothing to look up.
    let twice = change.unset.iter().find(|name| also(name, None)).or_else(|| {
        let mut others = change.values().filter(|(op, _, _)| *op != Op::Set);
        others.find(|(op, name, _)| also(name, Some(*op))).map(|(_, name, _)| name)
    });
    twice.map_or(Ok(()), |name| Err(format!("trait `{name}` has two operators: use one")))
}

/// Cuts a checked change into shares of at most [`PROPERTIES_MAX`] traits and `room` bytes, as `encoded` counts those of a
/// JSON text, each with those that are `repeated`. The whole change, shared, where that is possible. Fails when one trait
/// alone needs more.
pub(super) fn cut(
    change: Arc<Change>,
    repeated: &Traits,
    room: usize,
    long_strings: LongStrings,
    encoded: fn(&[u8]) -> usize,
) -> Result<Vec<Arc<Change>>, String> {
    if change.is_empty() {
        return Ok(Vec::new());
    }
    if change.traits_count() <= PROPERTIES_MAX && Slot::all(&change).map(Slot::bytes_at_most).sum::<usize>() <= room {
        return Ok(vec![change]);
    }
    if repeated.len() >= PROPERTIES_MAX {
        return Err(format!(
            "{} traits are marked `always`, and a request holds at most {PROPERTIES_MAX}",
            repeated.len()
        ));
    }
    let along = Change { set: repeated.clone(), ..Change::default() };
    let along_bytes: usize = Slot::all(&along).map(|slot| slot.bytes(long_strings, encoded)).sum();
    let room = room.saturating_sub(along_bytes);
    let mut shares = vec![along.clone()];
    let mut filled = 0;
    let changed = |slot: &Slot<'_>| !matches!(slot, Slot::Value(Op::Set, name, _) if repeated.contains_key(*name));
    for slot in Slot::all(&change).filter(changed) {
        let bytes = slot.bytes(long_strings, encoded);
        if bytes > room {
            let name = slot.name();
            return Err(format!(
                "trait `{name}` takes {bytes} bytes in a request, which holds at most {room}: shorten it"
            ));
        }
        let last = shares.last().map_or(0, Change::traits_count);
        if last == PROPERTIES_MAX || filled > 0 && filled + bytes > room {
            shares.push(along.clone());
            filled = 0;
        }
        filled += bytes;
        shares.last_mut().into_iter().for_each(|share| slot.put(share));
    }
    Ok(shares.into_iter().map(Arc::new).collect())
}

/// Writes a checked change as JSON: `{"$set":{…},"$unset":{…}}`.
pub(super) fn write(out: &mut Vec<u8>, change: &Change, long_strings: LongStrings) {
    let values = change.by_op().map(|(op, traits)| {
        let slots: Vec<_> = traits.iter().map(|(name, value)| Slot::Value(op, name, value)).collect();
        (operator(op), slots)
    });
    let unsets = ("$unset", change.unset.iter().map(|name| Slot::Unset(name)).collect());
    out.push(b'{');
    let mut first = true;
    for (operator, slots) in values.into_iter().chain([unsets]).filter(|(_, slots)| !slots.is_empty()) {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        value::write_text(out, operator);
        out.extend_from_slice(b":{");
        for (at, slot) in slots.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            slot.write(out, long_strings);
        }
        out.push(b'}');
    }
    out.push(b'}');
}

fn operator(op: Op) -> &'static str {
    match op {
        Op::Set => "$set",
        Op::SetOnce => "$setOnce",
        Op::Add => "$add",
        Op::Append => "$append",
        Op::Prepend => "$prepend",
    }
}
