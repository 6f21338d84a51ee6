//! The view of a text file: the relation that a table's rows make, for SQL by their types, and each column also as it is written.

use std::sync::Arc;

use duckdb::Connection;

use super::column::written;
use super::{FileProfile, READINGS_MAX, TextTable, load};
use crate::duckdb::quote_identifier;
use crate::error::{Kind, Result};
use crate::mapping::compile::Projection;
use crate::model::ColumnType;

/// The relation that a table's rows make: for SQL by their types, and each column also as it is written.
pub(in crate::source::duckdb) struct View {
    profile: Arc<FileProfile>,
    needed: Vec<usize>,
    /// What follows FROM within the view.
    from: String,
}

/// The number of a row, within a view.
pub(in crate::source::duckdb) const ROW: &str = "\"\u{1}row\"";

/// The temporary table of loaded rows, quoted.
pub(in crate::source::duckdb) fn table() -> String {
    format!("temp.main.{}", quote_identifier(load::TABLE))
}

impl TextTable {
    /// Loads the rows that a projection needs.
    pub(in crate::source::duckdb) fn load(&self, connection: &Connection, projection: &Projection) -> Result<View> {
        for reading in 1.. {
            let profile = self.profile()?;
            profile.whole()?;
            let needed = profile.needed(projection)?;
            let key = profile.column(&projection.key)?.0;
            match load::load(connection, &profile, &self.options, key, &needed) {
                Err(error) if error.kind() == Kind::SourceBusy && reading < READINGS_MAX => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok(View { profile, needed, from: table() }),
            }
        }
        unreachable!("the last reading returns")
    }
}

impl View {
    /// The columns that a projection needs, without rows, to ask for types.
    pub(in crate::source::duckdb) fn empty(profile: Arc<FileProfile>, projection: &Projection) -> Result<View> {
        let needed = profile.needed(projection)?;
        Ok(View::without_rows(profile, needed))
    }

    /// All columns, without rows.
    pub(in crate::source::duckdb) fn empty_of_all(profile: Arc<FileProfile>) -> View {
        let all = (0..profile.columns.len()).collect();
        View::without_rows(profile, all)
    }

    fn without_rows(profile: Arc<FileProfile>, needed: Vec<usize>) -> View {
        let columns: Vec<String> =
            needed.iter().map(|position| format!(", NULL::VARCHAR AS {}", written(*position))).collect();
        let from = format!("(SELECT NULL::VARCHAR AS k{}, 0::BIGINT AS rowid WHERE false)", columns.concat());
        View { profile, needed, from }
    }

    /// As it stands after FROM.
    pub(in crate::source::duckdb) fn sql(&self) -> String {
        let mut selected = vec!["k".to_owned()];
        selected.extend(self.needed.iter().map(|position| written(*position)));
        for (position, column) in self.profile.visible().filter(|(position, _)| self.needed.contains(position)) {
            let (raw, kind) = (written(position), column.sql_type(&self.profile.options));
            let text = match self.profile.options.decimal_comma && column.members.is_none() && kind != "VARCHAR" {
                true => format!("replace({raw}, ',', '.')"),
                false => raw,
            };
            selected.push(format!("CAST({text} AS {kind}) AS {}", quote_identifier(&column.name)));
        }
        format!("(SELECT {}, rowid AS {ROW} FROM {}) AS model", selected.join(", "), self.from)
    }

    /// Every column with the type that SQL sees.
    pub(in crate::source::duckdb) fn columns(&self) -> Vec<(String, String)> {
        self.profile.columns().map(|column| (column.name.clone(), column.sql_type(&self.profile.options))).collect()
    }

    /// What a column's values mean.
    pub(in crate::source::duckdb) fn kind(&self, name: &str) -> Option<ColumnType> {
        Some(self.profile.column(name).ok()?.1.kind())
    }

    /// SQL for a column as it is written.
    pub(in crate::source::duckdb) fn written(&self, name: &str) -> Option<String> {
        Some(written(self.profile.column(name).ok()?.0))
    }
}
