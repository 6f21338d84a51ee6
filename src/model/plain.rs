//! Plain values: booleans, short strings, dates, times, and numbers that a double holds. Every destination takes them, and
//! nothing about them needs a decision.
//!
//! Most groups of a first run have nothing else. Their document is their change, and its text is written straight from the
//! row's cells ([`PlainDocument`]), without a map or a value in between. What is not plain takes the general way:
//! [`super::cell::to_json`] and [`super::delta::delta`].

use std::sync::Arc;

use serde_json::Value;

use super::cell::{self, As, Cell, ColumnType};
use super::number;

/// Bytes of a plain string. Below every limit that a vendor has for a value.
const STRING_BYTES_MAX: usize = 1_000;

/// The document of a group that was never sent, with plain values only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainDocument {
    /// As [`super::Document::to_text`] gives it.
    pub text: Arc<str>,
    /// How many traits it has.
    pub traits: usize,
    /// Positions of the mapping's traits, sorted by name, that it has no value of.
    pub omitted: Box<[u16]>,
}

/// What became of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Its value was written.
    Value,
    /// It is null, and nothing was written.
    Null,
    /// It has no plain value, or none at all; what was written of it does not count.
    NotPlain,
}

/// Writes the JSON of a cell as [`cell::to_json`] gives it, if that is plain.
pub fn write(out: &mut Vec<u8>, cell: &Cell, kind: &ColumnType, declared: Option<As>) -> Written {
    let target = declared.or_else(|| kind.default_as());
    let value = match (cell, kind, target) {
        (Cell::Null, ..) => return Written::Null,
        (Cell::Bool(bool), ColumnType::Bool, Some(As::Boolean)) => {
            return literal(out, if *bool { "true" } else { "false" });
        }
        (Cell::Int(int), ColumnType::Int, Some(As::Integer | As::Number)) => {
            return match int.unsigned_abs() <= 1 << 53 {
                true => literal(out, &int.to_string()),
                false => Written::NotPlain,
            };
        }
        (Cell::Double(double), ColumnType::Float64, Some(As::Number)) if double.is_finite() => {
            return number::of_double(*double).map_or(Written::NotPlain, |digits| literal(out, &digits));
        }
        (Cell::Text(text), ColumnType::Decimal, Some(As::Number)) => {
            return match number::canonical(text).filter(|digits| number::fits_double(digits)) {
                Some(digits) => literal(out, &digits),
                None => Written::NotPlain,
            };
        }
        (Cell::Text(text), ColumnType::Text | ColumnType::Uuid, Some(As::String)) => return string(out, text),
        _ => cell::to_json(cell, kind, declared),
    };
    value.map_or(Written::NotPlain, |value| write_value(out, &value))
}

/// Writes a value if it is plain.
pub fn write_value(out: &mut Vec<u8>, value: &Value) -> Written {
    match value {
        Value::Null => Written::Null,
        Value::Bool(bool) => literal(out, if *bool { "true" } else { "false" }),
        Value::Number(number) if number::fits_double(number.as_str()) => literal(out, number.as_str()),
        Value::String(text) => string(out, text),
        Value::Number(_) | Value::Array(_) | Value::Object(_) => Written::NotPlain,
    }
}

fn literal(out: &mut Vec<u8>, text: &str) -> Written {
    out.extend_from_slice(text.as_bytes());
    Written::Value
}

fn string(out: &mut Vec<u8>, text: &str) -> Written {
    if text.len() > STRING_BYTES_MAX || text.contains('\0') {
        return Written::NotPlain;
    }
    match serde_json::to_writer(out, text) {
        Ok(()) => Written::Value,
        Err(_) => Written::NotPlain,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cells() -> impl Strategy<Value = (Cell, ColumnType)> {
        let texts = || prop_oneof!["\\PC{0,12}", "[\"\\\\\n\t\u{1}]{0,4}", "-?[0-9]{1,20}(\\.[0-9]{0,4})?", "[01]"];
        prop_oneof![
            any::<bool>().prop_map(|bool| (Cell::Bool(bool), ColumnType::Bool)),
            any::<i64>().prop_map(|int| (Cell::Int(int), ColumnType::Int)),
            (-100_000_i64..100_000).prop_map(|days| (Cell::Int(days), ColumnType::Date)),
            any::<i32>().prop_map(|seconds| (Cell::Int(i64::from(seconds) * 1_000_100), ColumnType::Timestamp)),
            any::<f64>().prop_map(|double| (Cell::Double(double), ColumnType::Float64)),
            any::<f32>().prop_map(|float| (Cell::Double(f64::from(float)), ColumnType::Float32)),
            texts().prop_map(|text| (Cell::Text(text), ColumnType::Text)),
            texts().prop_map(|text| (Cell::Text(text), ColumnType::Decimal)),
            texts().prop_map(|text| (Cell::Text(text), ColumnType::Json)),
        ]
    }

    proptest! {
        #[test]
        fn what_is_plain_is_written_as_its_value_would_be((cell, kind) in cells(), declared in prop::option::of(prop::sample::select(As::ALL))) {
            let mut out = Vec::new();
            let written = write(&mut out, &cell, &kind, declared);
            let value = cell::to_json(&cell, &kind, declared);
            match written {
                Written::Value => prop_assert_eq!(String::from_utf8(out).unwrap(), value.unwrap().to_string()),
                Written::Null => prop_assert_eq!(value, Ok(Value::Null)),
                Written::NotPlain => {
                    let number = |text: &str| !number::fits_double(text);
                    let expected = match &value {
                        Err(_) | Ok(Value::Array(_) | Value::Object(_)) => true,
                        Ok(Value::Number(digits)) => number(digits.as_str()) || digits.as_str().len() > 15,
                        Ok(Value::String(text)) => text.contains('\0') || text.len() > STRING_BYTES_MAX,
                        Ok(_) => false,
                    };
                    prop_assert!(expected, "{:?}", value);
                }
            }
        }
    }
}
