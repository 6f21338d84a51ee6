//! The tables and views that the user may read.

use super::{Postgres, rows};
use crate::error::Result;
use crate::source::TableListing;

/// Relations of people, with the rows that the last ANALYZE estimated: -1 where there was none.
const TABLES: &str = "SELECT n.nspname, c.relname, c.relkind IN ('v', 'f'), c.reltuples::bigint \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema') \
     AND n.nspname NOT LIKE 'pg\\_%' AND has_table_privilege(c.oid, 'SELECT') \
     ORDER BY 1, 2 LIMIT 2000";

impl Postgres {
    pub(super) async fn list_tables(&mut self) -> Result<Vec<TableListing>> {
        self.begin().await?;
        let target = self.target.clone();
        let read = self.link().await?.client.simple_query(TABLES).await;
        let read = read.map_err(|error| target.query_error("failed to list the tables", &error, TABLES, &[]))?;
        self.let_go().await?;
        Ok(rows(&read, |row| {
            let text = |at: usize| row.get(at).unwrap_or_default();
            // A partitioned table has no rows of its own, and an estimate of 0 is that of an empty table.
            let rows = text(3).parse::<u64>().ok();
            TableListing::of_parts(&[text(0), text(1)], rows, text(2) == "t")
        }))
    }
}
