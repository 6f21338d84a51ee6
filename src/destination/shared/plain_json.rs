//! Plain JSON: checks of names and values for servers that store traits as they come, and the bytes that they take.
//!
//! For vendors that pass traits on to many stores (Segment and its kin, ThriveStack): what one of those stores would
//! round, cut or reject is rejected here, with the trait's name and a remedy, rather than changed behind the ledger's back.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value;

use crate::destination::{AddressedChange, User};
use crate::model::document::Traits;
use crate::model::number;

/// RudderStack takes 200 layers, the deepest limit that is documented; a trait's value starts at the fifth.
const DEPTH_MAX: usize = 190;

/// Fails with the reason and the remedy when a change says more than "replace these values": these vendors have no call
/// that removes anything, and none for operators.
pub(in crate::destination) fn check_only_sets(vendor: &str, addressed: &AddressedChange) -> Result<(), String> {
    let change = &addressed.change;
    if change.delete {
        return Err(format!("{vendor} has no call that deletes a group: set `on_missing` to `keep`"));
    }
    if !change.unset.is_empty() {
        return Err(format!(
            "{vendor} has no call that removes a trait: set `on_null` to `null` or `skip`, and `on_missing` and \
             `on_removed_trait` to `keep`"
        ));
    }
    match change.by_op().iter().find(|(op, traits)| *op != crate::model::Op::Set && !traits.is_empty()) {
        Some((op, _)) => Err(format!("{vendor} has no `op = \"{}\"`: use `set`", op.name())),
        None => Ok(()),
    }
}

/// Fails when a group's id or a user's cannot be sent.
pub(in crate::destination) fn check_id(what: &str, id: &str) -> Result<(), String> {
    if id.trim().is_empty() {
        return Err(format!("{what} is empty: give the row one, or leave it out with `where`"));
    }
    if id.contains('\0') {
        return Err(format!(
            "{what} contains a NUL character, which databases behind the destination cannot hold: remove it with `sql`"
        ));
    }
    Ok(())
}

/// The user's id, whatever its kind.
pub(in crate::destination) fn user_id(user: &User) -> &str {
    match user {
        User::Id(id) | User::Anonymous(id) => id,
    }
}

/// Fails with the reason and the remedy when a trait cannot have its name or value.
pub(in crate::destination) fn check_traits(traits: &Traits) -> Result<(), String> {
    for (name, value) in traits {
        check_name(name)?;
        check(value, 0).map_err(|reason| format!("trait `{name}`: {reason}"))?;
    }
    Ok(())
}

/// Fails when a trait, or a member of an object, cannot have this name.
pub(in crate::destination) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("a trait or object member has an empty name: rename or remove it".to_owned());
    }
    if name.contains('\0') {
        return Err("the name of a trait or object member contains a NUL character: rename it".to_owned());
    }
    Ok(())
}

fn check(value: &Value, depth: usize) -> Result<(), String> {
    match value {
        Value::Null | Value::Bool(_) => Ok(()),
        Value::Number(number) if number::fits_double(number.as_str()) => Ok(()),
        Value::Number(_) => {
            Err("a number that is rounded on its way (JSON parsers keep 64-bit floats): declare `as = \"string\"`"
                .to_owned())
        }
        Value::String(text) if text.contains('\0') => {
            Err("a NUL character, which databases behind the destination drop or reject: remove it with `sql`"
                .to_owned())
        }
        Value::String(_) => Ok(()),
        Value::Array(_) | Value::Object(_) if depth == DEPTH_MAX => {
            Err(format!("nested deeper than {DEPTH_MAX} levels: send it `as = \"string\"`"))
        }
        Value::Array(items) => items.iter().try_for_each(|item| check(item, depth + 1)),
        Value::Object(members) => members.iter().try_for_each(|(name, member)| {
            check_name(name)?;
            check(member, depth + 1)
        }),
    }
}

/// A text as JSON.
pub(in crate::destination) fn write_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("writing a string to memory cannot fail");
}

/// An upper bound of the bytes of these traits as JSON, without writing them: a control character becomes `\u0000`, six
/// bytes for one.
pub(in crate::destination) fn bytes_at_most(traits: &Traits) -> usize {
    fn value_bytes(value: &Value) -> usize {
        match value {
            Value::Null | Value::Bool(_) => 5,
            Value::Number(number) => number.as_str().len(),
            Value::String(text) => 6 * text.len() + 2,
            Value::Array(items) => 2 + items.iter().map(|item| 1 + value_bytes(item)).sum::<usize>(),
            Value::Object(members) => bytes_at_most(members),
        }
    }
    2 + traits.iter().map(|(name, value)| 6 * name.len() + 4 + value_bytes(value)).sum::<usize>()
}

/// The trait that takes most bytes, for the person who must shorten one.
pub(in crate::destination) fn largest(traits: &Traits) -> Option<(&str, usize)> {
    let bytes = |value: &Value| serde_json::to_string(value).map_or(0, |text| text.len());
    traits.iter().map(|(name, value)| (name.as_str(), bytes(value))).max_by_key(|(_, bytes)| *bytes)
}

/// A timestamp in ISO 8601, UTC, with milliseconds and `Z`: 24 bytes.
pub(in crate::destination) fn timestamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::model::document::number_value;

    fn traits(value: Value) -> Traits {
        Traits::from_iter([("t".to_owned(), value)])
    }

    #[test]
    fn what_a_store_behind_the_vendor_would_change_is_refused_with_a_remedy() {
        for value in [
            json!(null),
            json!(true),
            json!("é😀\u{2028}"),
            json!({"a": [null, {"b": null}]}),
            number_value("0.1").unwrap(),
            number_value("1e21").unwrap(),
            number_value("9007199254740992").unwrap(),
        ] {
            assert_eq!(check_traits(&traits(value.clone())), Ok(()), "{value}");
        }
        let mut deep = json!("x");
        for _ in 0..=DEPTH_MAX {
            deep = json!([deep]);
        }
        for (value, reason) in [
            (number_value("9007199254740993").unwrap(), "trait `t`: a number that is rounded on its way"),
            (json!({"a": [number_value("0.12345678901234567890").unwrap()]}), "declare `as = \"string\"`"),
            (json!("a\0b"), "trait `t`: a NUL character"),
            (json!({"a\0": 1}), "contains a NUL character"),
            (json!({"": 1}), "an empty name"),
            (deep, "nested deeper than 190 levels"),
        ] {
            let told = check_traits(&traits(value)).unwrap_err();
            assert!(told.contains(reason), "{told}");
        }
        assert!(check_traits(&Traits::from_iter([(String::new(), json!(1))])).is_err());
        for id in ["", " ", "a\0"] {
            assert!(check_id("the group's key", id).is_err(), "{id:?}");
        }
        assert_eq!(check_id("the group's key", "Acme Corp/é"), Ok(()));
    }

    #[test]
    fn moments_are_24_bytes() {
        assert_eq!(timestamp(DateTime::UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
        let at = DateTime::from_timestamp_nanos(1_732_298_400_123_999_999);
        assert_eq!(timestamp(at), "2024-11-22T18:00:00.123Z");
    }

    proptest! {
        #[test]
        fn the_bound_is_one(names in prop::collection::vec(".{0,8}", 0..6), text in ".{0,40}|[\0-\u{1f}]{0,40}", number in any::<f64>()) {
            let value = json!({"a": [text, number, null, false], "b": {"c": number}});
            let traits: Traits = names.into_iter().map(|name| (name, value.clone())).collect();
            prop_assert!(serde_json::to_string(&traits).unwrap().len() <= bytes_at_most(&traits));
        }
    }
}
