//! A row of any file: its columns by name, and its values by the position of their column.

use std::collections::BTreeMap;

use super::records::Records;

/// A value as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// Text between delimiters, never empty.
    Text(&'a [u8]),
    /// A value of JSON that is not null: its text.
    Json(&'a str),
}

/// A row: its values by the position of their column.
pub(super) enum Row<'a> {
    Delimited { records: &'a Records, fields: &'a [Option<usize>], nulls: &'a [String] },
    Sheet { values: &'a [String], fields: &'a [Option<usize>] },
    Objects { text: &'a str, spans: &'a [Option<(usize, usize)>] },
}

impl Row<'_> {
    /// The value that is there, if there is one.
    pub(super) fn value(&self, position: usize) -> Option<Value<'_>> {
        match self {
            Row::Delimited { records, fields, nulls } => {
                let value = records.value((*fields.get(position)?)?);
                let is_null = value.is_empty() || nulls.iter().any(|null| null.as_bytes() == value);
                (!is_null).then_some(Value::Text(value))
            }
            Row::Sheet { values, fields } => {
                let value = values.get((*fields.get(position)?)?)?.as_bytes();
                (!value.is_empty()).then_some(Value::Text(value))
            }
            Row::Objects { text, spans } => {
                let (start, end) = (*spans.get(position)?)?;
                Some(Value::Json(&text[start..end]))
            }
        }
    }
}

/// Columns by name, in the order they were met.
#[derive(Debug, Clone, Default)]
pub(super) struct Columns {
    pub(super) names: Vec<String>,
    positions: BTreeMap<String, usize>,
}

impl Columns {
    pub(super) fn add(&mut self, name: &str) -> usize {
        if let Some(position) = self.positions.get(name) {
            return *position;
        }
        self.names.push(name.to_owned());
        self.positions.insert(name.to_owned(), self.names.len() - 1);
        self.names.len() - 1
    }
}
