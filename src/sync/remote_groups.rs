//! Groups read back from a destination: kept in a database in memory that spills to disk, looked up by key.

use std::collections::{HashMap, HashSet};

use duckdb::params;

use crate::duckdb::{DuckDbConnection, Limits, ledger_error};
use crate::error::{Error, Kind, Result};
use crate::model::{Document, Traits};

/// The mapped traits of all groups of one type at a destination.
pub struct RemoteGroups {
    duckdb: DuckDbConnection,
}

impl RemoteGroups {
    /// Without groups yet.
    pub async fn open(limits: &Limits) -> Result<RemoteGroups> {
        let duckdb = DuckDbConnection::open(None, limits)?;
        duckdb
            .call("prepare to read groups back", |connection| {
                connection
                    .execute_batch("CREATE TABLE remote_group (key VARCHAR NOT NULL, traits VARCHAR NOT NULL)")
                    .map_err(ledger_error("prepare to read groups back"))
            })
            .await?;
        Ok(RemoteGroups { duckdb })
    }

    /// Adds a page of groups.
    pub(super) async fn add(&self, groups: Vec<(String, Document)>) -> Result<()> {
        self.duckdb
            .call("store remote groups", move |connection| {
                let store = || -> duckdb::Result<()> {
                    let mut appender = connection.appender("remote_group")?;
                    groups.iter().try_for_each(|(key, traits)| appender.append_row(params![key, traits.to_text()]))?;
                    appender.flush()
                };
                store().map_err(ledger_error("store remote groups"))
            })
            .await
    }

    /// How many groups there are.
    pub(super) async fn count(&self) -> Result<u64> {
        self.duckdb
            .call("count remote groups", |connection| {
                connection
                    .query_row("SELECT count(DISTINCT key) FROM remote_group", [], |row| row.get(0))
                    .map_err(ledger_error("count remote groups"))
            })
            .await
    }

    /// The groups with these keys, which are after the first bound and up to the last.
    pub(super) async fn among(
        &self,
        keys: HashSet<String>,
        after: Option<String>,
        last: String,
    ) -> Result<HashMap<String, Traits>> {
        self.duckdb
            .call("compare groups", move |connection| {
                let read = |connection: &duckdb::Connection| -> duckdb::Result<Vec<(String, String)>> {
                    // No key is empty, so the empty text is before all. Between the two there may be any number of groups
                    // that are not ours: they are skipped.
                    let mut select =
                        connection.prepare("SELECT key, traits FROM remote_group WHERE key > ? AND key <= ?")?;
                    let mut rows = select.query(params![after.unwrap_or_default(), last])?;
                    let mut found = Vec::with_capacity(keys.len());
                    while let Some(row) = rows.next()? {
                        let key: String = row.get(0)?;
                        if keys.contains(&key) {
                            found.push((key, row.get(1)?));
                        }
                    }
                    Ok(found)
                };
                let rows = read(connection).map_err(ledger_error("compare groups"))?;
                let parsed = rows.into_iter().map(|(key, text)| {
                    let document = Document::from_text(&text);
                    document.map(|document| (key, document.0)).map_err(|error| Error::new(Kind::Bug, error))
                });
                parsed.collect()
            })
            .await
    }
}
