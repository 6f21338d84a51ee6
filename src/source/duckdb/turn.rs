//! The turn at a DuckDB file: within this process one source at a time has a file attached.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::OwnedMutexGuard;

use crate::duckdb::FileHold;
use crate::error::{Error, Kind, Result};

/// Longest that a source waits for another one of this process to release the same file.
const TURN_MAX: Duration = Duration::from_secs(600);

/// The turn at a file. Clones are the same turn.
#[derive(Clone)]
pub(super) struct Turn {
    /// The source that has locked it has the turn.
    file: Arc<tokio::sync::Mutex<()>>,
    /// None once it was passed on.
    had: Arc<Mutex<Option<OwnedMutexGuard<()>>>>,
}

impl Turn {
    /// Waits until no other source of this process has the file open.
    pub(super) async fn wait(file: &Path) -> Result<Turn> {
        let path = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_path_buf());
        let turns = {
            let mut files = FILES.lock();
            Arc::clone(files.entry(path).or_default())
        };
        match tokio::time::timeout(TURN_MAX, Arc::clone(&turns).lock_owned()).await {
            Ok(had) => Ok(Turn { file: turns, had: Arc::new(Mutex::new(Some(had))) }),
            Err(_) => Err(Error::new(Kind::SourceBusy, "another run of this process is still reading this file")
                .advise(
                    "wait for the run that reads it: it ends when its statement makes no progress for `stall_timeout_seconds`",
                )),
        }
    }

    fn had(&self) -> MutexGuard<'_, Option<OwnedMutexGuard<()>>> {
        self.had.lock()
    }

    /// Lets others at the file although it is still open here. What is read from it here does not matter any more.
    pub(super) fn pass_on(&self) {
        drop(self.had().take());
    }
}

impl FileHold for Turn {
    fn is_active(&self) -> bool {
        self.had().is_some()
    }

    fn reacquire(&mut self) {
        if !self.is_active() {
            let again = Arc::clone(&self.file).blocking_lock_owned();
            *self.had() = Some(again);
        }
    }
}

/// Whose turn it is with each file; see the module's docs.
static FILES: Mutex<BTreeMap<PathBuf, Arc<tokio::sync::Mutex<()>>>> = Mutex::new(BTreeMap::new());
