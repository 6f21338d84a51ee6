//! Writing to the ledger: one transaction at a time over all connections, and the generation that each one leaves.

use std::sync::Arc;

use duckdb::Connection;

use super::DuckDbLedger;
use super::generation::Generations;
use super::place::{FilePlace, LogPlace};
use crate::duckdb::ledger_error;
use crate::error::{Result, Within};

/// An open ledger's files.
pub(super) struct Files {
    pub(super) file: Arc<FilePlace>,
    pub(super) log: Arc<LogPlace>,
    pub(super) generations: Option<Arc<Generations>>,
}

impl Files {
    /// Fails when the ledger's file is not at its path; saves what a log contains that is not at its own. Between
    /// transactions only.
    pub(super) fn repair(&self, connection: &Connection) -> Result<()> {
        self.file.check()?;
        if self.log.is_lost() {
            connection.execute_batch("CHECKPOINT").map_err(ledger_error("save what the ledger's lost log contains"))?;
            tracing::warn!(
                "the ledger's log (`.wal`) was moved or deleted while the ledger is open; its content is in the ledger's \
                 file now, and nothing is lost. Leave it alone while a process has the ledger open"
            );
        }
        Ok(())
    }
}

impl DuckDbLedger {
    /// Runs `work` in a transaction of its own; writers of all connections take turns.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&Connection) -> duckdb::Result<T> + Send + 'static,
    ) -> Result<T> {
        let writing = Arc::clone(&self.writing);
        self.call(what, move |connection| {
            let _turn = writing.lock();
            transaction(connection, what, work)
        })
        .await
    }

    /// [`DuckDbLedger::write`], unless the file is not where it was opened: what the next start must find is written there.
    pub(super) async fn write_in_place<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&Connection) -> duckdb::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (writing, files) = (Arc::clone(&self.writing), self.files());
        self.call(what, move |connection| {
            let _turn = writing.lock();
            files.map_or(Ok(()), |files| files.repair(connection))?;
            transaction(connection, what, work)
        })
        .await
    }

    /// Like [`DuckDbLedger::write`], for work after which something may be sent, or which changes the synced state, if it
    /// returns so: the generation it makes is recorded before this returns. With `in_place` like [`DuckDbLedger::write_in_place`].
    pub(super) async fn write_generation<T: Send + 'static>(
        &self,
        what: &'static str,
        in_place: bool,
        work: impl FnOnce(&Connection) -> duckdb::Result<(T, bool)> + Send + 'static,
    ) -> Result<T> {
        let (writing, generations) = (Arc::clone(&self.writing), self.generations.clone());
        let files = self.files().filter(|_| in_place);
        self.call(what, move |connection| {
            let _turn = writing.lock();
            files.map_or(Ok(()), |files| files.repair(connection))?;
            let (value, reached) = transaction(connection, what, |connection| {
                let (value, counts) = work(connection)?;
                let counted = generations.as_deref().filter(|_| counts);
                Ok((value, counted.map(|generations| generations.raise(connection)).transpose()?))
            })?;
            if let (Some(generations), Some(reached)) = (generations, reached) {
                generations.record(reached)?;
            }
            Ok(value)
        })
        .await
    }

    pub(super) async fn call<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.duckdb.call(what, work).await.within(|| self.path.clone())
    }
}

/// Runs `work` in a transaction of its own.
pub(super) fn transaction<T>(
    connection: &mut Connection,
    what: &'static str,
    work: impl FnOnce(&Connection) -> duckdb::Result<T>,
) -> Result<T> {
    connection.execute_batch("BEGIN").map_err(ledger_error(what))?;
    let done = work(connection).and_then(|value| connection.execute_batch("COMMIT").map(|()| value));
    done.map_err(|error| {
        // A failed COMMIT has already rolled back; either way the first error is the one that matters.
        drop(connection.execute_batch("ROLLBACK"));
        ledger_error(what)(error)
    })
}
