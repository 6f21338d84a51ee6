//! The files of the ledger: is it the newest there was, is it where it was opened, is there room to write?

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use super::DuckDbLedger;
use crate::error::{Error, Kind, Result};
use crate::ledger::{BackupSummary, Storage};

#[async_trait]
impl Storage for DuckDbLedger {
    fn outdated(&self) -> Option<&str> {
        self.outdated.as_deref()
    }

    async fn repair(&self) -> Result<()> {
        let Some(files) = self.files() else { return Ok(()) };
        let checked = tokio::task::spawn_blocking(move || {
            files.file.check()?;
            let whole =
                !files.log.is_lost() && files.generations.as_ref().is_none_or(|recorded| recorded.is_recorded());
            Ok((!whole).then_some(files))
        });
        let bug = |panic| Err(Error::new(Kind::Bug, "failed to check the ledger's files").because(panic));
        let found = checked.await.unwrap_or_else(bug).map_err(|error: Error| error.at(self.path.clone()))?;
        let Some(files) = found else { return Ok(()) };
        let writing = Arc::clone(&self.writing);
        self.call("repair the ledger's files", move |connection| {
            // A writer may be about to record what was missed.
            let _turn = writing.lock();
            files.repair(connection)?;
            files.generations.as_deref().map_or(Ok(false), |generations| generations.repair(connection)).map(|repaired| {
                if repaired {
                    tracing::warn!(
                        "the `.generation` file beside the ledger was deleted or changed while the ledger is open; it is \
                         right again, and nothing is lost"
                    );
                }
            })
        })
        .await
    }

    async fn check_writable(&self) -> Result<()> {
        let Some(file) = self.file.clone() else { return Ok(()) };
        let checked = tokio::task::spawn_blocking(move || file.check().and_then(|()| file.probe()));
        let bug = |panic| Err(Error::new(Kind::Bug, "failed to check the ledger's file").because(panic));
        checked.await.unwrap_or_else(bug).map_err(|error: Error| error.at(self.path.clone()))
    }

    fn is_invalidated(&self) -> bool {
        self.duckdb.is_invalidated()
    }

    async fn backup(&self, to: &Path) -> Result<BackupSummary> {
        self.copy_to(to).await
    }
}
