//! Groups on their way from one ledger to another.

use tokio::sync::mpsc;

use super::SyncedGroup;
use crate::error::{Error, Kind, Result};

/// Groups of one sync, some at a time, in key order. An error among them ends the import, which then changes nothing.
pub type ImportedGroups = mpsc::Receiver<Result<Vec<SyncedGroup>>>;

/// The error of an import over a sync that has something in the ledger.
pub(super) fn refused(sync: &str, groups: u64) -> Error {
    let what = match groups {
        0 => format!("a run of sync `{sync}` has not ended in this ledger"),
        1 => format!("sync `{sync}` has a group in this ledger already"),
        groups => format!("sync `{sync}` has {groups} groups in this ledger already"),
    };
    Error::new(Kind::Config, what)
        .advise("add `--replace` if what is imported is newer than what this ledger has: the rest of it is dropped")
}
