//! Key-value notes. No lease is needed to write one: it is true from any process.

use std::collections::BTreeMap;

use async_trait::async_trait;
use tokio_postgres::types::Type;

use super::session::{reading, writing};
use super::{PostgresLedger, stored};
use crate::error::Result;
use crate::ledger::KeyValue;

#[async_trait]
impl KeyValue for PostgresLedger {
    async fn get(&self, name: &str) -> Result<Option<String>> {
        let sql = self.sql("SELECT text FROM @.kv WHERE name = $1");
        reading!(self, "read a note", |client| {
            let found = client.query_typed_opt(&sql, &[(&name, Type::TEXT)]).await?;
            found.map(|row| row.try_get(0)).transpose()?
        })
    }

    async fn all(&self) -> Result<BTreeMap<String, String>> {
        let sql = self.sql("SELECT name, text FROM @.kv");
        reading!(self, "read the notes", |client| {
            let rows = client.query_typed(&sql, &[]).await?;
            rows.iter()
                .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
                .collect::<Result<_, tokio_postgres::Error>>()?
        })
    }

    async fn put(&self, name: &str, text: &str) -> Result<()> {
        let sql = "INSERT INTO @.kv (name, text) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET text = EXCLUDED.text";
        let sql = self.sql(sql);
        writing!(self, None, "write a note", |client, _again| {
            client.execute_typed(&sql, &[(&stored(name), Type::TEXT), (&stored(text), Type::TEXT)]).await?;
        })
    }

    async fn delete(&self, name: &str) -> Result<()> {
        let sql = self.sql("DELETE FROM @.kv WHERE name = $1");
        writing!(self, None, "drop a note", |client, _again| {
            client.execute_typed(&sql, &[(&name, Type::TEXT)]).await?;
        })
    }

    async fn delete_if(&self, name: &str, contains: &str) -> Result<()> {
        let sql = self.sql("DELETE FROM @.kv WHERE name = $1 AND strpos(text, $2) > 0");
        writing!(self, None, "drop a note", |client, _again| {
            client.execute_typed(&sql, &[(&name, Type::TEXT), (&contains, Type::TEXT)]).await?;
        })
    }
}
