//! The place of the ledger: can it be reached, and written?

use std::path::Path;

use async_trait::async_trait;

use super::PostgresLedger;
use super::session::{reading, writing};
use crate::error::{Error, Kind, Result};
use crate::ledger::file_error::write_error;
use crate::ledger::{BackupSummary, Storage};
use crate::source::postgres::PostgresSettings;

#[async_trait]
impl Storage for PostgresLedger {
    fn outdated(&self) -> Option<&str> {
        self.outdated.as_deref()
    }

    async fn repair(&self) -> Result<()> {
        reading!(self, "reach the ledger", |client| client.batch_execute("").await?)
    }

    async fn check_writable(&self) -> Result<()> {
        if self.is_read_only() {
            return Ok(());
        }
        // Locking a row needs the right to write, and a server that writes.
        let lock = self.sql("SELECT version FROM @.version FOR SHARE");
        writing!(self, None, "write to the ledger", |client, _again| drop(client.query_typed(&lock, &[]).await?))
    }

    /// A database that lost transactions under way.
    fn is_invalidated(&self) -> bool {
        self.generation.as_ref().is_some_and(|generation| generation.check().is_err())
    }

    async fn backup(&self, _to: &Path) -> Result<BackupSummary> {
        Err(backup_error(&self.session.server.schema_name).at(self.session.server.place()))
    }
}

/// Writes the file that represents the ledger on this machine, unless it is there.
pub(in crate::ledger) fn stand_in(path: &Path, server: &PostgresSettings, schema: &str) -> Result<()> {
    let failed = |error: std::io::Error| {
        write_error("failed to write the file that represents the ledger", error).at(path.display().to_string())
    };
    let text = format!(
        "The ledger is in PostgreSQL at {}, in the schema {schema}. This file represents it on this machine.\n",
        server.shown()
    );
    match std::fs::read(path) {
        Ok(found) if found == text.as_bytes() => Ok(()),
        // Nothing else is overwritten: it may be a ledger's file.
        Ok(found) if !found.starts_with(b"The ledger is in PostgreSQL") => {
            Err(Error::new(Kind::Config, "the file that is to stand for the ledger in PostgreSQL is another one")
                .advise("remove `state.path`, or name a file that does not exist")
                .at(path.display().to_string()))
        }
        _ => {
            if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                std::fs::create_dir_all(folder).map_err(failed)?;
            }
            std::fs::write(path, text).map_err(failed)
        }
    }
}

/// A ledger in PostgreSQL is backed up as everything is there.
pub(in crate::ledger) fn backup_error(schema: &str) -> Error {
    Error::new(Kind::Config, "a ledger in PostgreSQL is not copied to a file").advise(format!(
        "back it up with the database: `pg_dump --schema={schema} --file=ledger.sql DATABASE`, or with your server's backups"
    ))
}
