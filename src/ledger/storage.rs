//! The storage of a ledger: is it the newest there was, is it where it should be, can it be written, how is it backed up?

use std::path::Path;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};

/// What follows from an outdated ledger ([`Storage::outdated`]).
pub const OUTDATED_ADVICE: &str = "every group is unconfirmed now, and the next full run of each sync resends everything; \
    groups that only lost runs sent, and that have left the source, stay at the destination as they are";

/// What a backup contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupSummary {
    /// Syncs that have a synced group.
    pub syncs: u64,
    /// Synced groups of all of them.
    pub groups: u64,
}

/// Where a ledger is kept.
#[async_trait]
pub trait Storage: Send + Sync {
    /// Why the ledger was not the newest there was when it was opened, if so: what was sent since is not in it. No group is
    /// confirmed then, and the next run of each sync resends everything.
    fn outdated(&self) -> Option<&str> {
        None
    }

    /// Checks that the next start will find what is written now, and repairs what can be repaired.
    ///
    /// Errors: the ledger is not where it was opened, or something could not be repaired.
    async fn repair(&self) -> Result<()> {
        Ok(())
    }

    /// Checks that there is room to write. It writes a little to find out.
    async fn check_writable(&self) -> Result<()> {
        Ok(())
    }

    /// Whether an error reported that the database was invalidated, or that another process has the ledger now: it must be
    /// opened again by a new process. Errors quote what they are about, so a query that still works proves otherwise.
    fn is_invalidated(&self) -> bool {
        false
    }

    /// Copies the whole ledger to the new file `to`, as of now. Runs go on meanwhile. A backup that is not awaited to its
    /// end leaves nothing.
    async fn backup(&self, _to: &Path) -> Result<BackupSummary> {
        Err(Error::new(Kind::Ledger, "this ledger cannot be copied to a file")
            .advise("back it up with the tools of the database it is kept in"))
    }
}
