//! Key-value notes in the table `notes`.

use std::collections::BTreeMap;

use async_trait::async_trait;
use duckdb::OptionalExt;

use super::DuckDbLedger;
use crate::duckdb::ledger_error;
use crate::error::Result;
use crate::ledger::KeyValue;

#[async_trait]
impl KeyValue for DuckDbLedger {
    async fn get(&self, name: &str) -> Result<Option<String>> {
        let name = name.to_owned();
        self.call("read a note", move |connection| {
            connection
                .query_row("SELECT text FROM kv WHERE name = ?", [name], |row| row.get(0))
                .optional()
                .map_err(ledger_error("read a note"))
        })
        .await
    }

    async fn all(&self) -> Result<BTreeMap<String, String>> {
        self.call("read the notes", |connection| {
            let read = || -> duckdb::Result<BTreeMap<String, String>> {
                let mut notes = connection.prepare("SELECT name, text FROM kv")?;
                notes.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
            };
            read().map_err(ledger_error("read the notes"))
        })
        .await
    }

    async fn put(&self, name: &str, text: &str) -> Result<()> {
        let (name, text) = (name.to_owned(), text.to_owned());
        self.write_in_place("keep a note", move |connection| {
            connection.execute("DELETE FROM kv WHERE name = ?", [&name])?;
            connection.execute("INSERT INTO kv VALUES (?, ?)", [name, text]).map(drop)
        })
        .await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.write_in_place("drop a note", move |connection| {
            connection.execute("DELETE FROM kv WHERE name = ?", [name]).map(drop)
        })
        .await
    }

    async fn delete_if(&self, name: &str, contains: &str) -> Result<()> {
        let (name, contains) = (name.to_owned(), contains.to_owned());
        self.write("drop a note", move |connection| {
            connection.execute("DELETE FROM kv WHERE name = ? AND contains(text, ?)", [name, contains]).map(drop)
        })
        .await
    }
}
