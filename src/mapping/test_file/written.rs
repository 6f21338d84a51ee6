//! A value that a test file writes in TOML, as canonical JSON, with where each part of it is.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::{Map, Value};
use toml::de::DeValue;

use crate::mapping::diagnostic::At;
use crate::mapping::reader::{Entry, Report, integer, shown};
use crate::model::document;

/// The one key of a table that writes JSON where TOML cannot: a null, a number of more than 64 bits.
const JSON: &str = "json";

/// A value and the places of its parts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Written {
    /// The value.
    pub value: Value,
    /// By JSON pointer (`/documents/acct_1/name`), where the value is in the file's text.
    pub places: BTreeMap<String, Range<usize>>,
}

impl Written {
    /// The value of an entry; none when a mistake in it was reported.
    pub(super) fn read(entry: &Entry<'_>, report: &mut Report<'_>) -> Option<Written> {
        let mut places = BTreeMap::new();
        let value = value(entry.value, &entry.at, "", &mut places, report)?;
        Some(Written { value, places })
    }

    /// Where a part is, or what is nearest around it.
    pub fn place(&self, pointer: &str) -> Option<Range<usize>> {
        let mut written = pointer;
        loop {
            match self.places.get(written) {
                Some(place) => return Some(place.clone()),
                None => written = &written[..written.rfind('/')?],
            }
        }
    }
}

/// A member's name as part of a JSON pointer.
pub fn pointer(above: &str, name: &str) -> String {
    format!("{above}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// A TOML value as canonical JSON; dates and times are their text.
pub(super) fn value(
    value: &DeValue<'_>,
    at: &At,
    here: &str,
    places: &mut BTreeMap<String, Range<usize>>,
    report: &mut Report<'_>,
) -> Option<Value> {
    places.insert(here.to_owned(), at.span.clone());
    let inner = |span: Range<usize>| At { span, path: at.path.clone() };
    Some(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Datetime(moment) => Value::String(moment.to_string()),
        DeValue::Integer(_) => Value::Number(whole(value, at, report)?.into()),
        DeValue::Float(number) => decimal(number.as_str(), at, report)?,
        DeValue::Array(items) => {
            let item = |(n, item): (usize, &toml::Spanned<DeValue<'_>>)| {
                self::value(item.get_ref(), &inner(item.span()), &pointer(here, &n.to_string()), places, report)
            };
            Value::Array(items.iter().enumerate().map(item).collect::<Option<_>>()?)
        }
        DeValue::Table(table) => match (table.get(JSON), table.len()) {
            (Some(text), 1) => json(text.get_ref(), &inner(text.span()), report)?,
            _ => {
                let mut members = Map::new();
                for (name, member) in table.iter() {
                    let name = name.get_ref();
                    let value =
                        self::value(member.get_ref(), &inner(member.span()), &pointer(here, name), places, report)?;
                    members.insert(name.to_string(), value);
                }
                Value::Object(members)
            }
        },
    })
}

/// A whole number. TOML and what rewrites it know 64 bits; more are written as JSON.
pub(super) fn whole(value: &DeValue<'_>, at: &At, report: &mut Report<'_>) -> Option<i64> {
    let number = integer(value);
    if let (None, DeValue::Integer(digits)) = (number, value) {
        let error = report.error(at, "a whole number of more than 64 bits, which TOML does not have");
        report.push(error.help(format!("write it as JSON: `{{ json = \"{}\" }}`", shown(digits.as_str()))));
    }
    number
}

fn decimal(text: &str, at: &At, report: &mut Report<'_>) -> Option<Value> {
    let number = document::number_value(text.trim_start_matches('+')).ok();
    if number.is_none() {
        let error = report.error(at, format!("JSON has no number `{}`", shown(text)));
        report.push(error.help("write it as text: put it in quotes"));
    }
    number
}

/// The JSON in the text of `{ json = '…' }`.
fn json(text: &DeValue<'_>, at: &At, report: &mut Report<'_>) -> Option<Value> {
    let DeValue::String(text) = text else {
        let error = report.error(at, "`json` must be JSON in quotes");
        report.push(error.help("write it like `{ json = 'null' }`"));
        return None;
    };
    let read = serde_json::from_str(text).map_err(|error| error.to_string()).and_then(document::canonicalize);
    match read {
        Ok(value) => Some(value),
        Err(problem) => {
            report.push(report.error(at, format!("not valid JSON: {problem}")));
            None
        }
    }
}
