//! The rows that a test is given, cell by cell as TOML has them.

use std::collections::BTreeMap;

use serde_json::Value;
use toml::Spanned;
use toml::de::DeValue;

use super::written;
use crate::mapping::diagnostic::At;
use crate::mapping::reader::{Report, Section};

/// A row of the model.
#[derive(Debug, Clone, PartialEq)]
pub struct GivenRow {
    /// Its cells, in the order they are written.
    pub cells: Vec<GivenCell>,
}

/// A cell of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct GivenCell {
    /// The column.
    pub column: String,
    /// The value.
    pub value: Given,
    /// Where the column is named.
    pub at: At,
}

/// A cell's value, by what it is in TOML. Numbers and times are their text, so that no digit is lost.
#[derive(Debug, Clone, PartialEq)]
pub enum Given {
    /// No value; in TOML a column that is left out.
    Null,
    /// True or false.
    Boolean(bool),
    /// A whole number.
    Integer(String),
    /// Any other number.
    Float(String),
    /// Text.
    Text(String),
    /// A calendar date.
    Date(String),
    /// A time of day.
    Time(String),
    /// A date and time without a zone.
    Timestamp(String),
    /// A date and time with a zone.
    ZonedTimestamp(String),
    /// A list.
    List(Value),
    /// A table, or JSON.
    Json(Value),
}

/// Reads a row; none when a mistake in it was reported.
pub(super) fn row(n: usize, item: &Spanned<DeValue<'_>>, above: &str, report: &mut Report<'_>) -> Option<GivenRow> {
    let at = At { span: item.span(), path: format!("{above}[{n}]") };
    let DeValue::Table(table) = item.get_ref() else {
        let error = report.error(&at, "a row must be a table");
        report.push(error.help("write it like `{ account_id = \"acct_1\", name = \"Acme\" }`"));
        return None;
    };
    let mut cells = Vec::new();
    for entry in (Section { table, at }).entries() {
        let value = match entry.value {
            DeValue::Boolean(flag) => Given::Boolean(*flag),
            DeValue::Integer(_) => Given::Integer(written::whole(entry.value, &entry.at, report)?.to_string()),
            DeValue::Float(number) => Given::Float(number.as_str().to_owned()),
            DeValue::String(text) => Given::Text(text.to_string()),
            DeValue::Datetime(moment) => {
                let text = moment.to_string();
                match (moment.date, moment.time, moment.offset) {
                    (Some(_), Some(_), Some(_)) => Given::ZonedTimestamp(text),
                    (Some(_), Some(_), None) => Given::Timestamp(text),
                    (Some(_), None, _) => Given::Date(text),
                    (None, _, _) => Given::Time(text),
                }
            }
            DeValue::Array(_) | DeValue::Table(_) => {
                Given::from(written::value(entry.value, &entry.at, "", &mut BTreeMap::new(), report)?)
            }
        };
        cells.push(GivenCell { column: entry.key.to_owned(), value, at: entry.key_at.clone() });
    }
    Some(GivenRow { cells })
}

impl From<Value> for Given {
    /// A value of a JSON file.
    fn from(value: Value) -> Given {
        match value {
            Value::Null => Given::Null,
            Value::Bool(flag) => Given::Boolean(flag),
            Value::Number(number) => {
                let text = number.to_string();
                let whole = text.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit());
                if whole { Given::Integer(text) } else { Given::Float(text) }
            }
            Value::String(text) => Given::Text(text),
            Value::Array(_) => Given::List(value),
            Value::Object(_) => Given::Json(value),
        }
    }
}
