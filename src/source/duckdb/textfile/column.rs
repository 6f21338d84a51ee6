//! A column of a text file: what its values are, over all of the table's files.

use super::shape::{self, Decided, Shape};
use crate::model::ColumnType;
use crate::model::cell::As;

/// The name of a column as it is written, within a view and the table.
pub(super) fn written(position: usize) -> String {
    format!("\"\u{1}{position}\"")
}

/// What the values of a column are in a file of objects.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Members {
    pub(super) strings: u64,
    pub(super) numbers: u64,
    pub(super) booleans: u64,
    pub(super) nested: u64,
}

impl Members {
    pub(super) fn see(&mut self, value: &str) {
        match value.as_bytes().first() {
            Some(b'"') => self.strings += 1,
            Some(b't' | b'f') => self.booleans += 1,
            Some(b'{' | b'[') => self.nested += 1,
            _ => self.numbers += 1,
        }
    }

    /// How many sorts of values there are.
    pub(super) fn sorts(&self) -> usize {
        [self.strings, self.numbers, self.booleans, self.nested].iter().filter(|count| **count > 0).count()
    }
}

/// A column of the whole table.
#[derive(Debug, Clone)]
pub(in crate::source::duckdb) struct TextColumn {
    pub(in crate::source::duckdb) name: String,
    pub(super) shape: Shape,
    pub(super) members: Option<Members>,
    /// The file, and the two columns of it that have this name.
    pub(super) twice: Option<String>,
    pub(super) decimal_comma: bool,
    /// A file with the column, and one without.
    pub(super) missing: Option<(String, String)>,
}

impl TextColumn {
    /// What its values mean.
    pub(in crate::source::duckdb) fn kind(&self) -> ColumnType {
        let natural = match self.members {
            Some(members) if members.nested > 0 => return ColumnType::Json,
            Some(members) if members.sorts() > 1 => As::Json,
            Some(members) if members.numbers > 0 => As::Number,
            Some(members) if members.booleans > 0 => As::Boolean,
            // What is a string in JSON stays one; its time only orders it.
            Some(_) if self.is_time() => As::String,
            Some(_) => return ColumnType::Text,
            None => match self.shape.decided() {
                Decided::Text if self.decimal_comma => return ColumnType::CommaText,
                Decided::Text => return ColumnType::Text,
                Decided::Integer => As::Integer,
                Decided::Number => As::Number,
                Decided::Boolean => As::Boolean,
                Decided::Date => As::Date,
                Decided::LocalTime | Decided::ZonedTime => As::Timestamp,
            },
        };
        ColumnType::Written(natural)
    }

    pub(super) fn is_time(&self) -> bool {
        matches!(self.shape.decided(), Decided::Date | Decided::LocalTime | Decided::ZonedTime)
    }

    /// Whether its values are kept as JSON, because some of them are nothing else.
    pub(super) fn is_json(&self) -> bool {
        self.members.is_some_and(|members| members.nested > 0 || members.sorts() > 1)
    }

    /// The type that SQL sees.
    pub(in crate::source::duckdb) fn sql_type(&self) -> String {
        match self.members {
            None => self.shape.sql_type(),
            Some(_) if self.is_json() => "JSON".to_owned(),
            Some(members) if members.numbers > 0 => match self.shape.sql_type() {
                // Numbers all the same, in another notation; those beyond 64 bits are no doubles.
                text if text == "VARCHAR" && self.shape.look_of(shape::Look::Long).0 == 0 => "DOUBLE".to_owned(),
                other => other,
            },
            Some(members) if members.booleans > 0 => "BOOLEAN".to_owned(),
            Some(_) if self.is_time() => self.shape.sql_type(),
            Some(_) => "VARCHAR".to_owned(),
        }
    }
}
