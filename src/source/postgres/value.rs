//! Values of PostgreSQL: what a type means, and how its binary values become physical cells.
//!
//! Decoders exist only for types whose binary form is documented and stable. Every other type is cast to text by the
//! server ([`Wire::Cast`]), so a value is either decoded exactly or is the server's own text, never a guess. `char(n)`
//! loses its padding by that cast, as SQL defines the conversion, and `inet` shows its netmask.
//!
//! Decoders write straight into a column's growing byte buffer: no allocation per value.

use std::io::Write as _;

use tokio_postgres::types::{Kind, Type};

use super::types;
use crate::model::ColumnType;
use crate::source::staging::batch::Physical;

/// How a column's values travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wire {
    /// One byte.
    Bool,
    /// Signed, 2 bytes.
    Int2,
    /// Signed, 4 bytes.
    Int4,
    /// Signed, 8 bytes.
    Int8,
    /// Unsigned, 4 bytes.
    Oid,
    /// IEEE 754, 4 bytes.
    Float4,
    /// IEEE 754, 8 bytes.
    Float8,
    /// Base-10000 digits.
    Numeric,
    /// UTF-8.
    Text,
    /// A version byte and UTF-8.
    Jsonb,
    /// 16 bytes.
    Uuid,
    /// Bytes.
    Bytea,
    /// Days since 2000-01-01, 4 bytes.
    Date,
    /// Microseconds since midnight, 8 bytes.
    Time,
    /// Microseconds since 2000-01-01, 8 bytes.
    Timestamp,
    /// Microseconds, days, months.
    Interval,
    /// An array of elements.
    List(Box<Wire>),
    /// Not decoded: the server casts it to text.
    Cast,
    /// Elements are not decoded: the server casts the array to `text[]`.
    CastList,
    /// An array of a domain: the server casts it to an array of the built-in type of this name, whose elements are decoded.
    BaseList(String, Box<Wire>),
}

impl Wire {
    /// What holds the decoded values.
    pub(super) fn physical(&self) -> Physical {
        match self {
            Wire::Bool => Physical::Bool,
            Wire::Int2 | Wire::Int4 | Wire::Int8 | Wire::Oid | Wire::Date | Wire::Time | Wire::Timestamp => {
                Physical::Int
            }
            Wire::Float4 | Wire::Float8 => Physical::Double,
            Wire::Numeric
            | Wire::Text
            | Wire::Jsonb
            | Wire::Uuid
            | Wire::Bytea
            | Wire::Interval
            | Wire::List(_)
            | Wire::Cast
            | Wire::CastList
            | Wire::BaseList(..) => Physical::Text,
        }
    }

    /// The expression as it is selected so that it travels in this form, and the form that then arrives. What is selected
    /// is always of a built-in type: the driver would look any other up with a named statement, which poolers do not bear.
    pub(super) fn select(self, sql: &str) -> (String, Wire) {
        match self {
            Wire::Cast => (format!("({sql})::text"), Wire::Text),
            Wire::CastList => (format!("({sql})::text[]"), Wire::List(Box::new(Wire::Text))),
            Wire::BaseList(name, element) => (format!("({sql})::pg_catalog.{name}[]"), Wire::List(element)),
            wire => (sql.to_owned(), wire),
        }
    }

    /// The same for a group's key, which is always text: only what is text already, or decodes to the very text that
    /// the server's cast gives, is not cast.
    pub(super) fn select_key(self, sql: &str) -> (String, Wire) {
        match self {
            Wire::Text | Wire::Uuid => (sql.to_owned(), self),
            _ => (format!("({sql})::text"), Wire::Text),
        }
    }
}

/// What a server type means, and how its values travel. Domains mean their base type.
pub(super) fn meaning(of: &Type) -> (ColumnType, Wire) {
    match *of {
        Type::BOOL => (ColumnType::Bool, Wire::Bool),
        Type::INT2 => (ColumnType::Int, Wire::Int2),
        Type::INT4 => (ColumnType::Int, Wire::Int4),
        Type::INT8 => (ColumnType::Int, Wire::Int8),
        Type::OID => (ColumnType::Int, Wire::Oid),
        Type::FLOAT4 => (ColumnType::Float32, Wire::Float4),
        Type::FLOAT8 => (ColumnType::Float64, Wire::Float8),
        Type::NUMERIC => (ColumnType::Decimal, Wire::Numeric),
        Type::TEXT | Type::VARCHAR | Type::NAME | Type::UNKNOWN => (ColumnType::Text, Wire::Text),
        // `char(n)` is padded and `"char"` is a byte of no particular encoding: the server's text is the plain value.
        Type::BPCHAR | Type::CHAR => (ColumnType::Text, Wire::Cast),
        Type::UUID => (ColumnType::Uuid, Wire::Uuid),
        Type::JSON => (ColumnType::Json, Wire::Text),
        Type::JSONB => (ColumnType::Json, Wire::Jsonb),
        Type::BYTEA => (ColumnType::Bytes, Wire::Bytea),
        Type::DATE => (ColumnType::Date, Wire::Date),
        Type::TIME => (ColumnType::Time, Wire::Time),
        Type::TIMESTAMP | Type::TIMESTAMPTZ => (ColumnType::Timestamp, Wire::Timestamp),
        Type::INTERVAL => (ColumnType::Interval, Wire::Interval),
        _ => match of.kind() {
            Kind::Domain(base) => meaning(base),
            Kind::Enum(_) => (ColumnType::Text, Wire::Cast),
            Kind::Array(element) => match (meaning(element), types::base(element)) {
                // An array of a domain over an array has no array type of ours; its text is unambiguous.
                ((ColumnType::List(_), _), _) => (ColumnType::Other, Wire::Cast),
                ((kind, Wire::Cast), _) => (ColumnType::List(Box::new(kind)), Wire::CastList),
                ((kind, wire), base) => match Type::from_oid(base.oid()) {
                    Some(_) if base == element => (ColumnType::List(Box::new(kind)), Wire::List(Box::new(wire))),
                    Some(known) => {
                        (ColumnType::List(Box::new(kind)), Wire::BaseList(known.name().to_owned(), Box::new(wire)))
                    }
                    None => (ColumnType::List(Box::new(kind)), Wire::CastList),
                },
            },
            Kind::Simple if of.name() == "citext" => (ColumnType::Text, Wire::Cast),
            _ => (ColumnType::Other, Wire::Cast),
        },
    }
}

/// Days from 1970-01-01 to 2000-01-01.
const EPOCH_DAYS: i64 = 10_957;
/// Microseconds from 1970-01-01 to 2000-01-01.
const EPOCH_MICROS: i64 = EPOCH_DAYS * 86_400 * 1_000_000;

/// The value of a column whose physical form is an integer.
pub(super) fn int(wire: &Wire, raw: &[u8]) -> Option<i64> {
    Some(match wire {
        Wire::Int2 => i16::from_be_bytes(raw.try_into().ok()?).into(),
        Wire::Int4 => i32::from_be_bytes(raw.try_into().ok()?).into(),
        Wire::Int8 | Wire::Time => i64::from_be_bytes(raw.try_into().ok()?),
        Wire::Oid => u32::from_be_bytes(raw.try_into().ok()?).into(),
        Wire::Date => match i32::from_be_bytes(raw.try_into().ok()?) {
            i32::MAX => i64::MAX,
            i32::MIN => i64::MIN,
            days => i64::from(days) + EPOCH_DAYS,
        },
        Wire::Timestamp => match i64::from_be_bytes(raw.try_into().ok()?) {
            infinity @ (i64::MAX | i64::MIN) => infinity,
            // The server's years end at 294276, ours some thirty years earlier. What lies between must not become
            // infinity; it is out of range for JSON either way.
            micros => micros.saturating_add(EPOCH_MICROS).min(i64::MAX - 1),
        },
        _ => return None,
    })
}

/// The value of a column whose physical form is a double.
pub(super) fn double(wire: &Wire, raw: &[u8]) -> Option<f64> {
    Some(match wire {
        Wire::Float4 => f32::from_be_bytes(raw.try_into().ok()?).into(),
        Wire::Float8 => f64::from_be_bytes(raw.try_into().ok()?),
        _ => return None,
    })
}

/// Appends the value of a column whose physical form is text. `None` when the bytes are not what the type sends.
pub(super) fn text(wire: &Wire, raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    match wire {
        Wire::Text => out.extend_from_slice(raw),
        Wire::Jsonb => match raw.split_first()? {
            (1, json) => out.extend_from_slice(json),
            _ => return None,
        },
        Wire::Numeric => numeric(raw, out)?,
        Wire::Uuid => uuid(raw, out)?,
        Wire::Bytea => hex(raw, out),
        Wire::Interval => interval(raw, out)?,
        Wire::List(element) => list(element, raw, out)?,
        _ => return None,
    }
    Some(())
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn hex(raw: &[u8], out: &mut Vec<u8>) {
    out.reserve(raw.len() * 2);
    for byte in raw {
        out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
}

fn uuid(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let raw: &[u8; 16] = raw.try_into().ok()?;
    for (index, part) in [&raw[..4], &raw[4..6], &raw[6..8], &raw[8..10], &raw[10..]].into_iter().enumerate() {
        if index > 0 {
            out.push(b'-');
        }
        hex(part, out);
    }
    Some(())
}

fn interval(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let micros = i64::from_be_bytes(raw.get(..8)?.try_into().ok()?);
    let days = i32::from_be_bytes(raw.get(8..12)?.try_into().ok()?);
    let months = i32::from_be_bytes(raw.get(12..16)?.try_into().ok()?);
    match (months, days, micros) {
        // PostgreSQL 17's infinite intervals. They have no ISO 8601 form, so these texts are refused row by row.
        (i32::MAX, i32::MAX, i64::MAX) => out.extend_from_slice(b"infinity"),
        (i32::MIN, i32::MIN, i64::MIN) => out.extend_from_slice(b"-infinity"),
        _ => write!(out, "{months} {days} {micros}").ok()?,
    }
    (raw.len() == 16).then_some(())
}

/// The digits as the server prints them: `dscale` digits after the point, no more and no fewer.
fn numeric(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let word = |at: usize| Some(u16::from_be_bytes([*raw.get(at)?, *raw.get(at + 1)?]));
    let (count, weight, sign, scale) = (word(0)?, word(2)? as i16, word(4)?, word(6)?);
    let digits = &raw[8..];
    if digits.len() != usize::from(count) * 2 {
        return None;
    }
    match sign {
        0x0000 => {}
        0x4000 => out.push(b'-'),
        0xC000 => {
            out.extend_from_slice(b"NaN");
            return Some(());
        }
        0xD000 => {
            out.extend_from_slice(b"Infinity");
            return Some(());
        }
        0xF000 => {
            out.extend_from_slice(b"-Infinity");
            return Some(());
        }
        _ => return None,
    }
    // The group of four digits with the value 10000^exponent.
    let group = |exponent: i32| -> u16 {
        match usize::try_from(i32::from(weight) - exponent) {
            Ok(index) if index < usize::from(count) => u16::from_be_bytes([digits[index * 2], digits[index * 2 + 1]]),
            _ => 0,
        }
    };
    if weight < 0 {
        out.push(b'0');
    }
    for exponent in (0..=i32::from(weight)).rev() {
        let spelled = four(group(exponent))?;
        let leading = if exponent == i32::from(weight) {
            spelled.iter().take(3).take_while(|digit| **digit == b'0').count()
        } else {
            0
        };
        out.extend_from_slice(&spelled[leading..]);
    }
    if scale > 0 {
        out.push(b'.');
        let (mut left, mut exponent) = (usize::from(scale), -1);
        while left > 0 {
            let spelled = four(group(exponent))?;
            let taken = left.min(4);
            out.extend_from_slice(&spelled[..taken]);
            left -= taken;
            exponent -= 1;
        }
    }
    Some(())
}

fn four(group: u16) -> Option<[u8; 4]> {
    let digit = |of: u16| b'0' + (of % 10) as u8;
    (group < 10_000).then(|| [digit(group / 1000), digit(group / 100), digit(group / 10), digit(group)])
}

/// Most dimensions an array has (`MAXDIM` of the server).
const DIMENSIONS_MAX: usize = 6;

/// A JSON array of the elements' physical forms; one level of brackets per dimension.
fn list(element: &Wire, raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut rest = raw;
    let dimensions = usize::try_from(take_i32(&mut rest)?).ok()?;
    let _flags = take_i32(&mut rest)?;
    let _element_type = take_i32(&mut rest)?;
    if dimensions == 0 {
        out.extend_from_slice(b"[]");
        return Some(());
    }
    if dimensions > DIMENSIONS_MAX {
        return None;
    }
    let mut lengths = [0; DIMENSIONS_MAX];
    for length in &mut lengths[..dimensions] {
        *length = usize::try_from(take_i32(&mut rest)?).ok()?;
        let _lower_bound = take_i32(&mut rest)?;
    }
    nested(element, &lengths[..dimensions], &mut rest, out)?;
    rest.is_empty().then_some(())
}

fn nested(element: &Wire, lengths: &[usize], rest: &mut &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (length, inner) = lengths.split_first()?;
    out.push(b'[');
    for index in 0..*length {
        if index > 0 {
            out.push(b',');
        }
        if inner.is_empty() {
            list_element(element, rest, out)?;
        } else {
            nested(element, inner, rest, out)?;
        }
    }
    out.push(b']');
    Some(())
}

fn list_element(element: &Wire, rest: &mut &[u8], out: &mut Vec<u8>) -> Option<()> {
    let length = take_i32(rest)?;
    if length == -1 {
        out.extend_from_slice(b"null");
        return Some(());
    }
    let raw = take(rest, usize::try_from(length).ok()?)?;
    match element.physical() {
        Physical::Bool => out.extend_from_slice(if boolean(raw)? { b"true" } else { b"false" }),
        Physical::Int => write!(out, "{}", int(element, raw)?).ok()?,
        Physical::Double => {
            out.push(b'"');
            float(element, raw, out)?;
            out.push(b'"');
        }
        Physical::Text => {
            out.push(b'"');
            let start = out.len();
            text(element, raw, out)?;
            escape(out, start);
            out.push(b'"');
        }
    }
    Some(())
}

/// A float's shortest text, by its own width: the digits a person wrote.
fn float(wire: &Wire, raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let value = double(wire, raw)?;
    if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"Infinity".as_slice() } else { b"-Infinity" });
    } else if *wire == Wire::Float4 {
        write!(out, "{}", value as f32).ok()?;
    } else {
        write!(out, "{value}").ok()?;
    }
    Some(())
}

/// Turns the text from `start` on into the inside of a JSON string.
fn escape(out: &mut Vec<u8>, start: usize) {
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
    if !out[start..].iter().any(special) {
        return;
    }
    for byte in out.split_off(start) {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..=0x1f => {
                out.extend_from_slice(b"\\u00");
                hex(&[byte], out);
            }
            _ => out.push(byte),
        }
    }
}

/// The value of a boolean column.
pub(super) fn boolean(raw: &[u8]) -> Option<bool> {
    match raw {
        [0] => Some(false),
        [1] => Some(true),
        _ => None,
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn take_i32(rest: &mut &[u8]) -> Option<i32> {
    Some(i32::from_be_bytes(take(rest, 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(wire: &Wire, raw: &[u8]) -> Option<String> {
        let mut out = Vec::new();
        text(wire, raw, &mut out)?;
        Some(String::from_utf8(out).unwrap())
    }

    fn numeric_raw(weight: i16, sign: u16, scale: u16, digits: &[u16]) -> Vec<u8> {
        let mut raw = Vec::new();
        for word in [digits.len() as u16, weight as u16, sign, scale].iter().chain(digits) {
            raw.extend_from_slice(&word.to_be_bytes());
        }
        raw
    }

    #[test]
    fn numerics_are_spelled_as_the_server_does() {
        for (weight, sign, scale, digits, expected) in [
            (0, 0, 0, &[][..], "0"),
            (0, 0, 2, &[], "0.00"),
            (0, 0x4000, 2, &[1, 5000], "-1.50"),
            (-1, 0, 4, &[1], "0.0001"),
            (-2, 0, 10, &[12, 3400], "0.0000001234"),
            (1, 0, 0, &[1], "10000"),
            (2, 0, 1, &[123, 0, 7, 9000], "12300000007.9"),
            (0, 0, 3, &[9999, 9990], "9999.999"),
            (0, 0xC000, 0, &[], "NaN"),
            (0, 0xD000, 0, &[], "Infinity"),
            (0, 0xF000, 0, &[], "-Infinity"),
        ] {
            assert_eq!(decoded(&Wire::Numeric, &numeric_raw(weight, sign, scale, digits)).as_deref(), Some(expected));
        }
        assert_eq!(decoded(&Wire::Numeric, &numeric_raw(0, 0, 0, &[10_000])), None);
        assert_eq!(decoded(&Wire::Numeric, &numeric_raw(0, 0x1234, 0, &[])), None);
        assert_eq!(decoded(&Wire::Numeric, &[0, 5, 0, 0, 0, 0, 0, 0]), None);
    }

    #[test]
    fn lists_are_json_of_physical_forms() {
        let mut raw = Vec::new();
        for word in [2i32, 1, 25, 2, 1, 1, 1, 2] {
            raw.extend_from_slice(&word.to_be_bytes());
        }
        raw.extend_from_slice(b"a\"");
        raw.extend_from_slice(&(-1i32).to_be_bytes());
        let texts = Wire::List(Box::new(Wire::Text));
        assert_eq!(decoded(&texts, &raw).as_deref(), Some(r#"[["a\""],[null]]"#));
        for cut in 0..raw.len() {
            assert_eq!(decoded(&texts, &raw[..cut]), None, "a cut value is no value");
        }
        raw.push(0);
        assert_eq!(decoded(&texts, &raw), None, "nor is one with something behind it");
        assert_eq!(decoded(&texts, &[0; 12]).as_deref(), Some("[]"));
    }

    #[test]
    fn timestamps_near_the_end_do_not_become_infinite() {
        assert_eq!(int(&Wire::Timestamp, &(i64::MAX - 7).to_be_bytes()), Some(i64::MAX - 1));
        assert_eq!(int(&Wire::Timestamp, &i64::MAX.to_be_bytes()), Some(i64::MAX));
        assert_eq!(int(&Wire::Date, &i32::MIN.to_be_bytes()), Some(i64::MIN));
        assert_eq!(int(&Wire::Timestamp, &0i64.to_be_bytes()), Some(946_684_800_000_000));
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_decoder_panic(raw in proptest::collection::vec(any::<u8>(), 0..80)) {
            for wire in [Wire::Numeric, Wire::Jsonb, Wire::Uuid, Wire::Interval, Wire::List(Box::new(Wire::Numeric)),
                Wire::List(Box::new(Wire::Float4)), Wire::List(Box::new(Wire::Bool))] {
                let _ = text(&wire, &raw, &mut Vec::new());
            }
            let _ = (int(&Wire::Date, &raw), int(&Wire::Timestamp, &raw), double(&Wire::Float8, &raw), boolean(&raw));
        }

        #[test]
        fn strings_in_lists_are_valid_json(value in ".*") {
            let mut out = value.clone().into_bytes();
            escape(&mut out, 0);
            let read: String = serde_json::from_str(&format!("\"{}\"", String::from_utf8(out).unwrap())).unwrap();
            prop_assert_eq!(read, value);
        }
    }
}
