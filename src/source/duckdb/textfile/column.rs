//! A column of a text file: what its values are, over all of the table's files.

use super::options::Options;
use super::row::Value;
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

/// What was seen of a column while its files were read.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    pub(super) shape: Shape,
    pub(super) members: Option<Members>,
    /// Values that are dates in the source's own format, and dates with a time. Not counted any more once one was not.
    dates: u64,
    times: u64,
    /// Values that are dates with the time zero, as sheets have dates.
    midnights: u64,
}

impl Facts {
    /// Takes a value into account; `place` is where it stands.
    pub(super) fn see(&mut self, value: Option<Value<'_>>, place: u64, options: &Options) {
        match value {
            None => {}
            Some(Value::Text(text)) => {
                let before = self.shape.values;
                self.shape.see(text, place, options.decimal_comma);
                self.midnights += u64::from(self.midnights == before && text.ends_with(MIDNIGHT));
                if options.has_formats() {
                    self.dates += u64::from(self.dates == before && options.date(text).is_some());
                    self.times += u64::from(self.times == before && options.time(text).is_some());
                }
            }
            Some(Value::Json(text)) => {
                self.members.get_or_insert_default().see(text);
                match text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
                    Some(string) if !string.contains('\\') && !string.is_empty() => {
                        self.shape.see(string.as_bytes(), place, false)
                    }
                    // No number, date or time has an escape.
                    _ => self.shape.see(text.as_bytes(), place, false),
                }
            }
        }
    }

    /// The way of writing that all values of a column share, where it is not their own.
    pub(super) fn notation(&self, options: &Options, is_sheet: bool) -> Notation {
        let all = self.shape.values;
        if self.members.is_some() || all == 0 {
            Notation::Own
        } else if options.all_text {
            Notation::Text
        } else if self.dates == all {
            Notation::Date
        } else if self.times == all {
            Notation::Time
        } else if is_sheet && self.midnights == all {
            Notation::Midnight
        } else {
            Notation::Own
        }
    }
}

/// The time of a sheet's cell that has a date alone.
const MIDNIGHT: &[u8] = b" 00:00:00";

/// How the values of a column are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notation {
    /// As they are read.
    Own,
    /// Text, whatever they look like.
    Text,
    /// Dates in the source's format.
    Date,
    /// Dates with a time in the source's format.
    Time,
    /// Dates with the time zero.
    Midnight,
}

impl Notation {
    /// A value as it is read on.
    pub(super) fn read<'a>(self, value: &'a [u8], options: &Options, kept: &'a mut String) -> &'a [u8] {
        let read = match self {
            Notation::Own | Notation::Text => None,
            Notation::Date => options.date(value),
            Notation::Time => options.time(value),
            Notation::Midnight => return value.strip_suffix(MIDNIGHT).unwrap_or(value),
        };
        match read {
            Some(read) => {
                *kept = read;
                kept.as_bytes()
            }
            None => value,
        }
    }
}

/// A column of the whole table.
#[derive(Debug, Clone)]
pub(in crate::source::duckdb) struct TextColumn {
    pub(in crate::source::duckdb) name: String,
    pub(super) shape: Shape,
    pub(super) members: Option<Members>,
    pub(super) notation: Notation,
    /// The file, and the two columns of it that have this name.
    pub(super) twice: Option<String>,
    pub(super) decimal_comma: bool,
    /// A file with the column, and one without.
    pub(super) missing: Option<(String, String)>,
}

impl TextColumn {
    /// What its values mean.
    pub(in crate::source::duckdb) fn kind(&self) -> ColumnType {
        match self.notation {
            Notation::Own => {}
            Notation::Text => return ColumnType::Text,
            Notation::Date | Notation::Midnight => return ColumnType::Written(As::Date),
            Notation::Time => return ColumnType::Written(As::Timestamp),
        }
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
    pub(in crate::source::duckdb) fn sql_type(&self, options: &Options) -> String {
        match self.notation {
            Notation::Own => {}
            Notation::Text => return "VARCHAR".to_owned(),
            Notation::Date | Notation::Midnight => return "DATE".to_owned(),
            Notation::Time => return options.time_type().to_owned(),
        }
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
