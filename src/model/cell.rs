//! One column value of one row, and how it becomes JSON.
//!
//! Every source reduces its columns to four *physical* forms that DuckDB can hold and hash — boolean, 64-bit integer,
//! double, text — and a [`ColumnType`] that says what they mean. One function, [`to_json`], gives the JSON, so a
//! PostgreSQL and a DuckDB source that hold the same rows yield byte-equal documents.
//!
//! | column type | physical form |
//! |---|---|
//! | `Bool` | boolean |
//! | `Int` (up to 64 bits, signed) | integer |
//! | `HugeInt`, `Decimal` | text: digits; `NaN`, `Infinity`, `-Infinity` |
//! | `Float32`, `Float64` | double |
//! | `Text`, `Uuid`, `Other`, `Written`, `CommaText` | text |
//! | `Json` | text: JSON |
//! | `Bytes` | text: lower-case hex |
//! | `Date` | integer: days since 1970-01-01; `i64::MAX`/`i64::MIN` are ±infinity |
//! | `Time` | integer: microseconds since midnight (24:00:00 is allowed) |
//! | `Timestamp` | integer: microseconds since 1970-01-01 UTC, ±infinity as for `Date` |
//! | `TimestampNs` | integer: nanoseconds since 1970-01-01 UTC, ±infinity as for `Date` |
//! | `Interval` | text: `months days microseconds` |
//! | `List(t)` | text: a JSON array of the elements' physical forms; in it booleans and integers are bare, everything else a string, null is null |

use chrono::{DateTime, NaiveDate, NaiveTime, SecondsFormat, TimeDelta};
use serde_json::Value;

use super::{document, number, spelling};

/// What a column's physical values mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnType {
    /// True or false.
    Bool,
    /// A whole number of up to 64 bits.
    Int,
    /// A whole number beyond 64 bits.
    HugeInt,
    /// An exact decimal of any precision.
    Decimal,
    /// A 32-bit float, printed with the digits a 32-bit float has.
    Float32,
    /// A 64-bit float.
    Float64,
    /// Text, enums included.
    Text,
    /// A UUID.
    Uuid,
    /// JSON text.
    Json,
    /// Binary data.
    Bytes,
    /// A calendar date.
    Date,
    /// A time of day.
    Time,
    /// A point in time; one without a zone is read as UTC.
    Timestamp,
    /// A point in time with nanoseconds.
    TimestampNs,
    /// Months, days and microseconds.
    Interval,
    /// Elements of one type; arrays of arrays nest.
    List(Box<ColumnType>),
    /// A type we do not decode; the server's own text.
    Other,
    /// Text in a file whose every value is written as this type, and becomes it where the mapping declares nothing. With
    /// `String` it is text that only sorts like a time; with `Json` it is JSON that is no array or object.
    Written(As),
    /// Text in a file whose numbers have a decimal comma.
    CommaText,
}

/// A physical value.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// No value.
    Null,
    /// Boolean.
    Bool(bool),
    /// Integer.
    Int(i64),
    /// Double.
    Double(f64),
    /// Text.
    Text(String),
}

/// The JSON type a mapping declares for a trait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, strum::IntoStaticStr, strum::VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum As {
    /// A string.
    String,
    /// Any number.
    Number,
    /// A whole number.
    Integer,
    /// True or false.
    Boolean,
    /// `YYYY-MM-DD`.
    Date,
    /// RFC 3339 in UTC.
    Timestamp,
    /// Whatever JSON the text holds.
    Json,
    /// An array.
    List,
}

impl As {
    /// Every type.
    pub const ALL: &'static [As] = <As as strum::VariantArray>::VARIANTS;

    /// Its name in a mapping file.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

impl ColumnType {
    /// What a trait becomes when its mapping declares nothing; `None` when a person must decide (`Decimal`, `HugeInt`:
    /// a number may be rounded by the vendor, a string cannot be summed).
    pub fn default_as(&self) -> Option<As> {
        Some(match self {
            ColumnType::Bool => As::Boolean,
            ColumnType::Int => As::Integer,
            ColumnType::HugeInt | ColumnType::Decimal => return None,
            ColumnType::Float32 | ColumnType::Float64 => As::Number,
            ColumnType::Text
            | ColumnType::Uuid
            | ColumnType::Bytes
            | ColumnType::Time
            | ColumnType::Interval
            | ColumnType::CommaText
            | ColumnType::Other => As::String,
            ColumnType::Json => As::Json,
            ColumnType::Date => As::Date,
            ColumnType::Timestamp | ColumnType::TimestampNs => As::Timestamp,
            ColumnType::List(_) => As::List,
            ColumnType::Written(natural) => *natural,
        })
    }

    /// Whether any value of this type can become the declared JSON type; what depends on the value is decided row by row.
    pub fn can_become(&self, declared: As) -> bool {
        if matches!(self, ColumnType::Written(_) | ColumnType::CommaText) {
            return ColumnType::Text.can_become(declared);
        }
        match declared {
            As::String => true,
            As::Number | As::Integer => matches!(
                self,
                ColumnType::Int
                    | ColumnType::HugeInt
                    | ColumnType::Decimal
                    | ColumnType::Float32
                    | ColumnType::Float64
                    | ColumnType::Text
                    | ColumnType::Json
            ),
            As::Boolean => {
                matches!(self, ColumnType::Bool | ColumnType::Int | ColumnType::Text | ColumnType::Json)
            }
            As::Date | As::Timestamp => {
                matches!(self, ColumnType::Date | ColumnType::Timestamp | ColumnType::TimestampNs | ColumnType::Text)
            }
            // The server's text of other types is no JSON, but for some values by chance.
            As::Json => !matches!(self, ColumnType::Bytes | ColumnType::Other),
            As::List => matches!(self, ColumnType::List(_) | ColumnType::Json | ColumnType::Text),
        }
    }

    /// Whether a column of this type can be a group's key: its text is the same in every engine.
    pub fn can_be_key(&self) -> bool {
        matches!(
            self,
            ColumnType::Int
                | ColumnType::HugeInt
                | ColumnType::Text
                | ColumnType::Uuid
                | ColumnType::Decimal
                | ColumnType::Written(_)
                | ColumnType::CommaText
        )
    }

    /// Whether its values grow with time or by counting.
    pub fn can_be_cursor(&self) -> bool {
        matches!(
            self,
            ColumnType::Int
                | ColumnType::Date
                | ColumnType::Timestamp
                | ColumnType::TimestampNs
                | ColumnType::Written(As::Integer | As::Date | As::Timestamp | As::String)
        )
    }
}

/// The JSON of a cell, or why it has none. The reason names the problem and the remedy, never the value.
pub fn to_json(cell: &Cell, kind: &ColumnType, declared: Option<As>) -> Result<Value, String> {
    if *cell == Cell::Null {
        return Ok(Value::Null);
    }
    if let (Cell::Text(text), ColumnType::Written(natural)) = (cell, kind) {
        let target = declared.unwrap_or(*natural);
        return match (natural, text.starts_with('"'), target) {
            // A string among other values of JSON is what it means; other values are their own text.
            (As::Json, true, As::Json) => parse_json(text),
            (As::Json, true, _) => {
                to_json(&Cell::Text(parsed(text, "text that is not valid JSON")?), &ColumnType::Text, Some(target))
            }
            // Without a decimal comma no number has one.
            (As::Number | As::Integer, _, As::Number | As::Integer | As::Json) if text.contains(',') => {
                to_json(&Cell::Text(text.replace(',', ".")), &ColumnType::Text, Some(As::Number))
            }
            _ => to_json(cell, &ColumnType::Text, Some(target)),
        };
    }
    if let (Cell::Text(text), ColumnType::CommaText) = (cell, kind) {
        let target = declared.unwrap_or(As::String);
        let pointed = text.replace(',', ".");
        return match target {
            As::Number | As::Integer if !text.contains('.') => {
                to_json(&Cell::Text(pointed), &ColumnType::Text, Some(target))
            }
            _ => to_json(cell, &ColumnType::Text, Some(target)),
        };
    }
    let target = declared
        .or_else(|| kind.default_as())
        .ok_or("a number that may need more than 15 digits: declare `as = \"number\"` or `as = \"string\"`")?;
    match target {
        As::String => Ok(Value::String(text(cell, kind)?)),
        As::Number | As::Integer => {
            let spelled = match (cell, kind) {
                // An integer's digits are canonical as they are.
                (Cell::Int(int), ColumnType::Int) => return Ok(Value::Number((*int).into())),
                (Cell::Double(double), kind) => float_text(*double, kind),
                (Cell::Text(text), ColumnType::Json) => match serde_json::from_str(text) {
                    Ok(Value::Number(number)) => number.to_string(),
                    Ok(Value::Null) => return Ok(Value::Null),
                    _ => return Err(cannot_convert("JSON", text, target)),
                },
                (Cell::Text(text), _) => text.trim().to_owned(),
                _ => return Err(mismatch(kind, target)),
            };
            let value = document::number_value(&spelled)
                .or_else(|failed| match (spelling::number(&spelled), kind) {
                    (Some(digits), ColumnType::Text) => document::number_value(&digits),
                    _ => Err(failed),
                })
                .map_err(|_| match kind {
                    ColumnType::Text | ColumnType::Written(_) | ColumnType::CommaText => {
                        cannot_convert("text", &spelled, target)
                    }
                    _ => format!("cannot convert {spelled:?} to {}: JSON has no such number", target.name()),
                })?;
            if target == As::Integer && !matches!(&value, Value::Number(n) if number::is_integer(&n.to_string())) {
                return Err(format!("cannot convert {spelled:?} to integer: it has a fraction"));
            }
            Ok(value)
        }
        As::Boolean => match (cell, kind) {
            (Cell::Bool(bool), _) => Ok(Value::Bool(*bool)),
            (Cell::Int(0), _) => Ok(Value::Bool(false)),
            (Cell::Int(1), _) => Ok(Value::Bool(true)),
            (Cell::Text(text), ColumnType::Text | ColumnType::Json | ColumnType::Other) => {
                match text.trim().to_ascii_lowercase().as_str() {
                    "true" | "t" | "yes" | "y" | "on" | "1" | "1.0" => Ok(Value::Bool(true)),
                    "false" | "f" | "no" | "n" | "off" | "0" | "0.0" => Ok(Value::Bool(false)),
                    _ => Err(cannot_convert("text", text, target)),
                }
            }
            _ => Err(format!("cannot convert {:?} to boolean: only 0 and 1 are", self::text(cell, kind)?)),
        },
        As::Date => match kind {
            ColumnType::Date => finite(&text(cell, kind)?),
            ColumnType::Timestamp | ColumnType::TimestampNs => {
                let text = finite_text(&text(cell, kind)?)?;
                Ok(Value::String(text.split('T').next().unwrap_or_default().to_owned()))
            }
            _ => parse_date(&text(cell, kind)?).map(|date| Value::String(date.format("%Y-%m-%d").to_string())),
        },
        As::Timestamp => match kind {
            ColumnType::Timestamp | ColumnType::TimestampNs => finite(&text(cell, kind)?),
            ColumnType::Date => Ok(Value::String(format!("{}T00:00:00Z", finite_text(&text(cell, kind)?)?))),
            _ => parse_timestamp(&text(cell, kind)?),
        },
        As::Json => match (cell, kind) {
            (Cell::Text(text), ColumnType::Json | ColumnType::Text | ColumnType::Other) => parse_json(text),
            (_, kind) => match kind.default_as() {
                Some(As::Json) | None => to_json(cell, kind, Some(As::Number)),
                Some(natural) => to_json(cell, kind, Some(natural)),
            },
        },
        As::List => match (cell, kind) {
            (Cell::Text(text), ColumnType::List(element)) => {
                let items = parsed(text, "a list that could not be read")?;
                list(items, element)
            }
            (Cell::Text(text), kind) => match (parse_json(text), kind) {
                (Ok(list @ Value::Array(_)), _) => Ok(list),
                (Ok(Value::Null), _) => Ok(Value::Null),
                (read, ColumnType::Text) => match (spelling::array(text), read) {
                    (Some(items), _) => Ok(Value::Array(items)),
                    (None, Err(reason)) => Err(reason),
                    (None, Ok(_)) => Err(cannot_convert("JSON", text, target)),
                },
                (Err(reason), _) => Err(reason),
                (Ok(_), _) => Err(cannot_convert("JSON", text, target)),
            },
            _ => Err(mismatch(kind, target)),
        },
    }
}

fn mismatch(kind: &ColumnType, target: As) -> String {
    format!("a {kind:?} column cannot become {target:?}").to_lowercase()
}

/// Why a value cannot become what is declared. It shows enough of the value to find it, and no more.
fn cannot_convert(what: &str, value: &str, target: As) -> String {
    const CHARACTERS_MAX: usize = 30;
    let mut shown: String = value.chars().take(CHARACTERS_MAX).collect();
    if value.chars().nth(CHARACTERS_MAX).is_some() {
        shown.push('…');
    }
    format!("cannot convert {what} {shown:?} to {}", target.name())
}

/// Such a reason without the value, for errors and logs, which contain none.
pub fn without_value(reason: &str) -> String {
    match (reason.find('"'), reason.rfind('"')) {
        (Some(first), Some(last)) if first < last => format!("{}\"…\"{}", &reason[..first], &reason[last + 1..]),
        _ => reason.to_owned(),
    }
}

fn parse_json(text: &str) -> Result<Value, String> {
    // Files written by editors and Excel begin with a byte order mark.
    let text = text.trim_start_matches('\u{feff}');
    document::canonicalize(parsed(text, "text that is not valid JSON")?)
}

fn parsed<T: serde::de::DeserializeOwned>(text: &str, otherwise: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| {
        let deep = error.to_string().starts_with("recursion limit");
        if deep { document::too_deep() } else { otherwise.to_owned() }
    })
}

/// The elements of a list, each by its natural JSON type; exact numbers stay numbers, in their own digits.
fn list(items: Vec<Value>, element: &ColumnType) -> Result<Value, String> {
    let items = items.into_iter().map(|item| match (item, element) {
        (Value::Null, _) => Ok(Value::Null),
        (Value::Array(inner), ColumnType::List(element)) => list(inner, element),
        // PostgreSQL's array types do not say how many dimensions a value has.
        (Value::Array(inner), element) => list(inner, element),
        (Value::Bool(bool), _) => to_json(&Cell::Bool(bool), element, None),
        (Value::Number(number), _) => {
            let int = number.as_i64().ok_or("a list that could not be read")?;
            to_json(&Cell::Int(int), element, None)
        }
        (Value::String(text), ColumnType::Float32 | ColumnType::Float64) => {
            to_json(&Cell::Double(text.parse().map_err(|_| "a list that could not be read")?), element, None)
        }
        (Value::String(text), _) => {
            let declared = element.default_as().unwrap_or(As::Number);
            to_json(&Cell::Text(text), element, Some(declared))
        }
        (Value::Object(_), _) => Err("a list that could not be read".to_owned()),
    });
    Ok(Value::Array(items.collect::<Result<_, String>>()?))
}

/// The canonical text of a cell: what `as = "string"` sends and what a key is.
pub fn text(cell: &Cell, kind: &ColumnType) -> Result<String, String> {
    Ok(match (cell, kind) {
        (Cell::Null, _) => String::new(),
        (Cell::Bool(bool), _) => bool.to_string(),
        (Cell::Int(int), ColumnType::Date) => date_text(*int)?,
        (Cell::Int(int), ColumnType::Timestamp) => timestamp_text(*int, 1_000_000)?,
        (Cell::Int(int), ColumnType::TimestampNs) => timestamp_text(*int, 1_000_000_000)?,
        (Cell::Int(int), ColumnType::Time) => time_text(*int)?,
        (Cell::Int(int), _) => int.to_string(),
        (Cell::Double(double), kind) => {
            let spelled = float_text(*double, kind);
            number::canonical(&spelled).unwrap_or(spelled)
        }
        (Cell::Text(text), ColumnType::Interval) => interval_text(text).ok_or("an interval that could not be read")?,
        (Cell::Text(text), ColumnType::Json) => parse_json(text)?.to_string(),
        (Cell::Text(_), ColumnType::List(_)) => to_json(cell, kind, Some(As::List))?.to_string(),
        (Cell::Text(text), _) => text.clone(),
    })
}

fn float_text(double: f64, kind: &ColumnType) -> String {
    if double.is_nan() {
        "NaN".to_owned()
    } else if double.is_infinite() {
        if double > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else if *kind == ColumnType::Float32 {
        // The cell holds the float widened; narrowing it back gives the digits a person wrote.
        let float = double as f32;
        number::of_float(float).unwrap_or_else(|| format!("{float:e}"))
    } else {
        number::of_double(double).unwrap_or_else(|| format!("{double:e}"))
    }
}

const OUT_OF_RANGE: &str = "a date outside the years -262143 to 262142: filter or change it with `sql`";

fn infinity(int: i64) -> Option<&'static str> {
    match int {
        i64::MAX => Some("infinity"),
        i64::MIN => Some("-infinity"),
        _ => None,
    }
}

fn finite_text(text: &str) -> Result<String, String> {
    if text.ends_with("infinity") {
        return Err("an infinite date: send it `as = \"string\"` or change it with `sql`".to_owned());
    }
    Ok(text.to_owned())
}

fn finite(text: &str) -> Result<Value, String> {
    finite_text(text).map(Value::String)
}

/// ISO 8601; years before 0001 and after 9999 have a sign (`-0043` is 44 BC).
fn date_text(days: i64) -> Result<String, String> {
    if let Some(infinity) = infinity(days) {
        return Ok(infinity.to_owned());
    }
    let date = TimeDelta::try_days(days).and_then(|delta| NaiveDate::default().checked_add_signed(delta));
    // What `Debug` writes is ISO 8601, without a pattern to be read for every value.
    Ok(format!("{:?}", date.ok_or(OUT_OF_RANGE)?))
}

fn timestamp_text(ticks: i64, ticks_per_second: i64) -> Result<String, String> {
    if let Some(infinity) = infinity(ticks) {
        return Ok(infinity.to_owned());
    }
    let nanos = (ticks.rem_euclid(ticks_per_second) * (1_000_000_000 / ticks_per_second)) as u32;
    let at = DateTime::from_timestamp(ticks.div_euclid(ticks_per_second), nanos).ok_or(OUT_OF_RANGE)?;
    Ok(at.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

fn time_text(micros: i64) -> Result<String, String> {
    if micros == 86_400_000_000 {
        return Ok("24:00:00".to_owned());
    }
    let seconds = u32::try_from(micros.div_euclid(1_000_000)).map_err(|_| "a time outside the day")?;
    let time = NaiveTime::from_num_seconds_from_midnight_opt(seconds, (micros.rem_euclid(1_000_000) * 1_000) as u32);
    Ok(time.ok_or("a time outside the day")?.format("%H:%M:%S%.f").to_string())
}

/// `months days microseconds` as an ISO 8601 duration (`P1Y2M3DT4H5M6.5S`).
fn interval_text(text: &str) -> Option<String> {
    let mut fields = text.split(' ').map(|field| field.parse::<i64>());
    let (months, days, micros) = (fields.next()?.ok()?, fields.next()?.ok()?, fields.next()?.ok()?);
    let mut out = String::from("P");
    for (amount, unit) in [(months / 12, 'Y'), (months % 12, 'M'), (days, 'D')] {
        if amount != 0 {
            out.push_str(&format!("{amount}{unit}"));
        }
    }
    let seconds = micros / 1_000_000;
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, micros - seconds / 60 * 60_000_000);
    if micros != 0 {
        out.push('T');
        for (amount, unit) in [(hours, 'H'), (minutes, 'M')] {
            if amount != 0 {
                out.push_str(&format!("{amount}{unit}"));
            }
        }
        if rest != 0 {
            let sign = if rest < 0 { "-" } else { "" };
            let fraction = format!("{:06}", rest.abs() % 1_000_000);
            let fraction = fraction.trim_end_matches('0');
            let point = if fraction.is_empty() { "" } else { "." };
            out.push_str(&format!("{sign}{}{point}{fraction}S", rest.abs() / 1_000_000));
        }
    }
    if out == "P" {
        out.push_str("T0S");
    }
    Some(out)
}

fn parse_date(text: &str) -> Result<NaiveDate, String> {
    spelling::date(text)
        .ok_or_else(|| "text that is no date (YYYY-MM-DD), or one that can be read in two ways".to_owned())
}

fn parse_timestamp(text: &str) -> Result<Value, String> {
    let utc = spelling::timestamp(text).ok_or_else(|| {
        "text that is no timestamp (RFC 3339, or YYYY-MM-DD HH:MM:SS), or one that can be read in two ways".to_owned()
    })?;
    Ok(Value::String(utc.to_rfc3339_opts(SecondsFormat::AutoSi, true)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text_cell(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }

    fn value_text(cell: Cell, kind: ColumnType, declared: Option<As>) -> String {
        to_json(&cell, &kind, declared).unwrap().to_string()
    }

    #[test]
    fn numbers_are_never_rounded() {
        let decimal = "1234567890123456789012345678.0123456789";
        assert_eq!(value_text(Cell::Int(9007199254740993), ColumnType::Int, None), "9007199254740993");
        assert_eq!(value_text(text_cell(decimal), ColumnType::Decimal, Some(As::Number)), decimal);
        assert_eq!(value_text(text_cell(decimal), ColumnType::Decimal, Some(As::String)), format!("{decimal:?}"));
        assert_eq!(value_text(Cell::Double(0.1), ColumnType::Float64, None), "0.1");
        assert_eq!(value_text(Cell::Double(f64::from(0.1f32)), ColumnType::Float32, None), "0.1");
        assert_eq!(value_text(Cell::Double(1e21), ColumnType::Float64, None), "1000000000000000000000");
        assert_eq!(value_text(Cell::Double(-0.0), ColumnType::Float64, None), "0");
        assert_eq!(
            value_text(Cell::Double(5.0), ColumnType::Float64, None),
            value_text(Cell::Int(5), ColumnType::Int, None)
        );
        assert_eq!(value_text(text_cell("1.50"), ColumnType::Decimal, Some(As::Number)), "1.5");
        assert!(to_json(&text_cell("1.5"), &ColumnType::Decimal, None).unwrap_err().contains("declare"));
        for (cell, kind) in [(Cell::Double(f64::NAN), ColumnType::Float64), (text_cell("NaN"), ColumnType::Decimal)] {
            assert!(to_json(&cell, &kind, Some(As::Number)).unwrap_err().contains("JSON has no such number"));
            assert_eq!(to_json(&cell, &kind, Some(As::String)).unwrap(), json!("NaN"));
        }
        assert!(to_json(&text_cell("1.5"), &ColumnType::Decimal, Some(As::Integer)).is_err());
    }

    #[test]
    fn times_are_utc_iso_8601() {
        assert_eq!(text(&Cell::Int(-1), &ColumnType::Date).unwrap(), "1969-12-31");
        assert_eq!(text(&Cell::Int(-735_160), &ColumnType::Date).unwrap(), "-0043-03-15");
        assert_eq!(text(&Cell::Int(i64::MAX), &ColumnType::Date).unwrap(), "infinity");
        assert!(to_json(&Cell::Int(i64::MIN), &ColumnType::Date, None).unwrap_err().contains("infinite"));
        assert!(to_json(&Cell::Int(i64::MAX - 1), &ColumnType::Date, None).unwrap_err().contains("years"));
        assert_eq!(text(&Cell::Int(-500_000), &ColumnType::Timestamp).unwrap(), "1969-12-31T23:59:59.500Z");
        assert_eq!(text(&Cell::Int(1), &ColumnType::TimestampNs).unwrap(), "1970-01-01T00:00:00.000000001Z");
        assert_eq!(text(&Cell::Int(45_296_789_000), &ColumnType::Time).unwrap(), "12:34:56.789");
        assert_eq!(text(&Cell::Int(86_400_000_000), &ColumnType::Time).unwrap(), "24:00:00");
        assert_eq!(
            to_json(&Cell::Int(0), &ColumnType::Date, Some(As::Timestamp)).unwrap(),
            json!("1970-01-01T00:00:00Z")
        );
        assert_eq!(to_json(&Cell::Int(0), &ColumnType::Timestamp, Some(As::Date)).unwrap(), json!("1970-01-01"));
        let zoned = text_cell("2024-05-06 09:08:07.5+02");
        assert_eq!(to_json(&zoned, &ColumnType::Text, Some(As::Timestamp)).unwrap(), json!("2024-05-06T07:08:07.500Z"));
    }

    #[test]
    fn intervals_are_iso_8601_durations() {
        for (stored, expected) in [
            ("14 3 14706500000", "P1Y2M3DT4H5M6.5S"),
            ("0 0 0", "PT0S"),
            ("-1 0 0", "P-1M"),
            ("0 0 -500000", "PT-0.5S"),
            ("0 1 0", "P1D"),
        ] {
            assert_eq!(text(&text_cell(stored), &ColumnType::Interval).unwrap(), expected);
        }
    }

    #[test]
    fn lists_keep_their_elements_types() {
        let ints = ColumnType::List(Box::new(ColumnType::Int));
        assert_eq!(value_text(text_cell("[1,null,9007199254740993]"), ints, None), "[1,null,9007199254740993]");
        let decimals = ColumnType::List(Box::new(ColumnType::Decimal));
        assert_eq!(value_text(text_cell(r#"["1.50","2"]"#), decimals, None), "[1.5,2]");
        let dates = ColumnType::List(Box::new(ColumnType::List(Box::new(ColumnType::Date))));
        assert_eq!(value_text(text_cell("[[0],[]]"), dates, None), r#"[["1970-01-01"],[]]"#);
        let matrix = ColumnType::List(Box::new(ColumnType::Int));
        assert_eq!(value_text(text_cell("[[1,2],[null,4]]"), matrix, None), "[[1,2],[null,4]]");
        let floats = ColumnType::List(Box::new(ColumnType::Float64));
        assert!(to_json(&text_cell(r#"["NaN"]"#), &floats, None).is_err());
    }

    #[test]
    fn text_becomes_what_the_mapping_declares() {
        let of = |text: &str, declared| to_json(&text_cell(text), &ColumnType::Text, Some(declared));
        assert_eq!(of("Yes", As::Boolean).unwrap(), json!(true));
        assert!(of("maybe", As::Boolean).is_err());
        assert_eq!(of(" 12 ", As::Integer).unwrap(), json!(12));
        assert!(of("", As::Number).is_err());
        assert_eq!(of(r#"{"b":1.0,"a":[]}"#, As::Json).unwrap().to_string(), r#"{"a":[],"b":1}"#);
        assert_eq!(of(r#"["x"]"#, As::List).unwrap(), json!(["x"]));
        assert!(of("x,y", As::List).is_err());
        assert_eq!(of(r#"{x,"y z"}"#, As::List).unwrap(), json!(["x", "y z"]));
        assert!(of(r#"{"x":1}"#, As::List).is_err());
        assert_eq!(of("2024-05-06T10:00:00Z", As::Date).unwrap(), json!("2024-05-06"));
        assert!(of("06.05.2024", As::Date).is_err());
    }
}
