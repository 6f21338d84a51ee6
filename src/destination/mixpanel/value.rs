//! Which values can a Mixpanel group profile hold, and how are they written?

use serde_json::Value;

use super::{LongStrings, PROPERTIES_MAX, Properties, TEXT_BYTES_MAX, json};
use crate::model::number;

/// Elements of a list, and members of an object ("Data Types": 255 keys).
const ITEMS_MAX: usize = 255;
/// Bytes of a list or an object in a profile ("Data Types": 256 KB).
const NESTED_BYTES_MAX: usize = 256_000;
/// Layers of lists and objects, the value itself included ("Data Types": 3).
const DEPTH_MAX: usize = 3;

const _: () = assert!(ITEMS_MAX <= PROPERTIES_MAX, "an object is no larger than a profile's update");

/// Fails when a trait (or a member of a nested object) cannot have this name.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    match name.len() {
        0 => Err("a trait or object member has an empty name: rename or remove it".to_owned()),
        1..=TEXT_BYTES_MAX => Ok(()),
        _ => Err("a trait or object member has a name of more than 255 bytes: shorten it".to_owned()),
    }
}

/// Fails with the reason and the remedy when a trait cannot have this value.
pub(super) fn check(value: &Value, long_strings: LongStrings) -> Result<(), String> {
    if value.is_null() {
        return Err("a null, whose effect Mixpanel does not document: set `on_null` to `unset` or `skip`".to_owned());
    }
    check_nested(value, long_strings, 0)?;
    if (value.is_array() || value.is_object()) && bytes(value, long_strings) > NESTED_BYTES_MAX {
        return Err("a list or object of more than 256 KB, Mixpanel's limit: send less of it".to_owned());
    }
    Ok(())
}

/// Fails when these elements cannot be added to a list that holds each value once.
pub(super) fn check_union(value: &Value, long_strings: LongStrings) -> Result<(), String> {
    let Value::Array(items) = value else {
        return Err("the appended value is not a list: send it `as = \"list\"`".to_owned());
    };
    check(value, long_strings)?;
    if items.iter().any(|item| !matches!(item, Value::String(_) | Value::Number(_))) {
        return Err("Mixpanel's `$union` accepts only strings and numbers: use `op = \"set\"` for this list".to_owned());
    }
    let mut texts: Vec<String> = items.iter().map(json).collect();
    texts.sort_unstable();
    if texts.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(
            "a value twice in what is appended, and Mixpanel's `$union` keeps each once: remove repetitions with \
             `sql`, or use `op = \"set\"`"
                .to_owned(),
        );
    }
    Ok(())
}

fn check_nested(value: &Value, long_strings: LongStrings, depth: usize) -> Result<(), String> {
    match value {
        Value::Null | Value::Bool(_) => Ok(()),
        Value::Number(number) if number::fits_double(number.as_str()) => Ok(()),
        Value::Number(_) => {
            Err("a number that Mixpanel would round (it keeps 64-bit floats): declare `as = \"string\"`".to_owned())
        }
        Value::String(text) => match long_strings {
            LongStrings::Reject if text.len() > TEXT_BYTES_MAX => {
                Err("a string of more than 255 bytes: shorten it with `sql`, or set `long_strings = \"truncate\"`"
                    .to_owned())
            }
            LongStrings::Reject | LongStrings::Truncate => Ok(()),
        },
        Value::Array(_) | Value::Object(_) if depth == DEPTH_MAX => {
            Err("lists and objects nested deeper than 3 levels: send it `as = \"string\"`".to_owned())
        }
        Value::Array(items) if items.len() > ITEMS_MAX => {
            Err("a list of more than 255 elements: send fewer of them, or their number".to_owned())
        }
        Value::Array(items) => items.iter().try_for_each(|item| match item {
            Value::Array(_) => {
                Err("a list inside a list, which Mixpanel cannot report on: send it `as = \"string\"`".to_owned())
            }
            item => check_nested(item, long_strings, depth + 1),
        }),
        Value::Object(members) if members.len() > ITEMS_MAX => {
            Err("an object of more than 255 members: map what is needed as traits of its own".to_owned())
        }
        Value::Object(members) => members.iter().try_for_each(|(name, member)| {
            check_name(name)?;
            check_nested(member, long_strings, depth + 1)
        }),
    }
}

/// As many whole characters as fit.
fn kept(text: &str) -> &str {
    if text.len() <= TEXT_BYTES_MAX {
        return text;
    }
    let end = (0..=TEXT_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}

/// The bytes of a value as it is written.
pub(super) fn bytes(value: &Value, long_strings: LongStrings) -> usize {
    let mut out = Vec::new();
    write(&mut out, value, long_strings);
    out.len()
}

/// Named values as a JSON object.
pub(super) fn write_members(out: &mut Vec<u8>, members: &Properties, long_strings: LongStrings) {
    out.push(b'{');
    for (at, (name, member)) in members.iter().filter(|(_, member)| !member.is_null()).enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(json(name).as_bytes());
        out.push(b':');
        write(out, member, long_strings);
    }
    out.push(b'}');
}

/// A checked value as JSON: nested nulls left out, long strings cut. Numbers keep their digits.
fn write(out: &mut Vec<u8>, value: &Value, long_strings: LongStrings) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => out.extend_from_slice(json(value).as_bytes()),
        Value::String(text) => {
            let text = if long_strings == LongStrings::Truncate { kept(text) } else { text };
            out.extend_from_slice(json(text).as_bytes());
        }
        Value::Array(items) => {
            out.push(b'[');
            for (at, item) in items.iter().filter(|item| !item.is_null()).enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write(out, item, long_strings);
            }
            out.push(b']');
        }
        Value::Object(members) => write_members(out, members, long_strings),
    }
}
