//! The tables and views of a DuckDB file, or the files of a folder.

use super::attached::Database;
use super::{DuckDb, textfile};
use crate::error::Result;
use crate::source::TableListing;
use crate::source::statement_error::statement_error;

impl DuckDb {
    pub(super) async fn list_tables(&mut self) -> Result<Vec<TableListing>> {
        if matches!(self.database, Database::Empty) {
            return Ok(self.files());
        }
        self.look("list the tables", None, |connection, attached| {
            let sizes = "SELECT schema_name || '.' || table_name, estimated_size FROM duckdb_tables() \
                         WHERE database_name = current_database()";
            let sizes = attached.inside(connection, |connection| {
                let read = || -> duckdb::Result<std::collections::BTreeMap<String, i64>> {
                    connection.prepare(sizes)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
                };
                read().map_err(|error| statement_error("list the tables", &error))
            })?;
            let listing = attached.relations(connection)?.into_iter().map(|relation| {
                let rows = sizes.get(&format!("{}.{}", relation.schema, relation.name));
                let rows = rows.filter(|_| relation.is_table).and_then(|rows| u64::try_from(*rows).ok());
                let parts = [relation.schema.as_str(), relation.name.as_str()];
                let parts = if relation.schema == "main" { &parts[1..] } else { &parts };
                TableListing::of_parts(parts, rows, !relation.is_table)
            });
            Ok(listing.collect())
        })
        .await
    }

    fn files(&self) -> Vec<TableListing> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let names = entries.filter(|entry| entry.path().is_file()).map(|entry| entry.file_name());
        let mut names: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
        let is_parquet = |name: &str| name.to_ascii_lowercase().ends_with(".parquet");
        names.retain(|name| !name.starts_with('.') && (textfile::is_read(name) || is_parquet(name)));
        names.sort();
        names.into_iter().map(|name| TableListing { name, rows: None, is_view: false }).collect()
    }
}
