//! Which values can Amplitude hold, and how are they written?

use serde_json::Value;

use super::{CHARS_MAX, LongStrings};
use crate::model::{Op, number};

/// Amplitude allows 40 layers; `group_properties` is the first and the operator's object the second.
const DEPTH_MAX: usize = 38;

/// Fails when a trait (or a member of a nested object) cannot have this name.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    // Most names are far shorter than the limit; only a long one is worth counting.
    if name.is_empty() {
        return Err("a trait or object member has an empty name: rename or remove it".to_owned());
    }
    if name.len() > CHARS_MAX && name.chars().count() > CHARS_MAX {
        return Err("a trait or object member has a name of more than 1,024 characters: shorten it".to_owned());
    }
    Ok(())
}

/// Fails with the reason and the remedy when this operator cannot be given this value.
pub(super) fn check_for(op: Op, value: &Value, long_strings: LongStrings) -> Result<(), String> {
    match (op, value) {
        (Op::Add, Value::Number(_)) | (Op::Set | Op::SetOnce | Op::Append | Op::Prepend, _) => {
            check(value, long_strings)
        }
        (Op::Add, _) => Err("only numbers can be added: declare `as = \"number\"`".to_owned()),
    }
}

/// Fails with the reason and the remedy when a trait cannot have this value, or a list be given these elements.
fn check(value: &Value, long_strings: LongStrings) -> Result<(), String> {
    if value.is_null() {
        return Err("a null, whose effect Amplitude does not document: set `on_null` to `unset` or `skip`".to_owned());
    }
    check_nested(value, long_strings, 0)
}

fn check_nested(value: &Value, long_strings: LongStrings, depth: usize) -> Result<(), String> {
    match value {
        Value::Null | Value::Bool(_) => Ok(()),
        Value::Number(number) if number::fits_double(&number.to_string()) => Ok(()),
        Value::Number(_) => {
            Err("a number that Amplitude would round (it keeps 64-bit floats): declare `as = \"string\"`".to_owned())
        }
        Value::String(text) => match long_strings {
            LongStrings::Reject if kept(text).len() < text.len() => Err(
                "a string of more than 1,024 characters: shorten it with `sql`, or set `long_strings = \"truncate\"`"
                    .to_owned(),
            ),
            LongStrings::Reject | LongStrings::Truncate => Ok(()),
        },
        Value::Array(_) | Value::Object(_) if depth == DEPTH_MAX => {
            Err("objects nested deeper than 40 levels: send it `as = \"string\"`".to_owned())
        }
        Value::Array(items) => items.iter().try_for_each(|item| match item {
            Value::Array(_) => {
                Err("an array inside an array, which Amplitude drops: send it `as = \"string\"`".to_owned())
            }
            item => check_nested(item, long_strings, depth + 1),
        }),
        Value::Object(members) => members.iter().try_for_each(|(name, member)| {
            check_name(name)?;
            check_nested(member, long_strings, depth + 1)
        }),
    }
}

/// The first 1,024 characters (Unicode code points, as the vendor's Python client counts).
fn kept(text: &str) -> &str {
    if text.len() <= CHARS_MAX {
        return text;
    }
    text.char_indices().nth(CHARS_MAX).map_or(text, |(end, _)| &text[..end])
}

/// An upper bound of the percent-encoded bytes of a value: a control character becomes `%5Cu0000`, eight for one.
pub(super) fn bytes_at_most(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 8,
        Value::Number(number) => 8 + 3 * number.to_string().len(),
        Value::String(text) => 8 * (text.len() + 2),
        Value::Array(items) => 8 + items.iter().map(|item| 3 + bytes_at_most(item)).sum::<usize>(),
        Value::Object(members) => {
            8 + members.iter().map(|(name, member)| 8 * (name.len() + 3) + bytes_at_most(member)).sum::<usize>()
        }
    }
}

/// A text as JSON.
pub(super) fn write_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("writing a string to memory cannot fail");
}

/// A checked value as JSON: nested nulls left out, long strings cut. Numbers keep their digits.
pub(super) fn write(out: &mut Vec<u8>, value: &Value, long_strings: LongStrings) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(bool) => out.extend_from_slice(bool.to_string().as_bytes()),
        Value::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::String(text) => match long_strings {
            LongStrings::Reject => write_text(out, text),
            LongStrings::Truncate => write_text(out, kept(text)),
        },
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
        Value::Object(members) => {
            out.push(b'{');
            for (at, (name, member)) in members.iter().filter(|(_, member)| !member.is_null()).enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_text(out, name);
                out.push(b':');
                write(out, member, long_strings);
            }
            out.push(b'}');
        }
    }
}
