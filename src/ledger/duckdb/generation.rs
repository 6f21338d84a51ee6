//! The generation: a number in a file beside the ledger, by which an outdated ledger is recognized.
//!
//! What DuckDB committed last is in its log (`ledger.duckdb.wal`) until that is folded into the file. A file whose log was
//! removed, and one that was restored from a backup, opens without complaint and is simply older: what was sent since would
//! be forgotten, and groups would stay wrong for ever. So every transaction after which something may be sent, and every one
//! that changes the synced state, carries the next *generation*. Once it is durable, the number is written to
//! `ledger.duckdb.generation` and synced, and only then does the caller go on. A ledger behind that number is an older one,
//! and nothing in it is confirmed.
//!
//! - The ledger is always the first: a crash between the two leaves a ledger ahead of the number, which is no alarm.
//! - A run that sends nothing writes nothing here. Others write once for each page of changes and once at their end.
//! - Without the file a ledger may or may not be the newest: then it is taken for an outdated one, unless nothing
//!   was ever sent from it. The same holds beside the file of another ledger.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use duckdb::Connection;
use serde::{Deserialize, Serialize};

use crate::duckdb::ledger_error;
use crate::error::{Error, Kind, Result};

/// The generation of a ledger, as recorded beside it and in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::ledger) struct Recorded {
    /// The ledger's id.
    pub(in crate::ledger) ledger: String,
    /// The last generation that was durable.
    pub(in crate::ledger) generation: u64,
}

/// A file beside the ledger: its name with `.SUFFIX` behind.
pub(in crate::ledger) fn beside(ledger: &Path, suffix: &str) -> PathBuf {
    let mut name = ledger.file_name().unwrap_or_default().to_os_string();
    name.push(".");
    name.push(suffix);
    ledger.with_file_name(name)
}

/// Why a ledger may not be the newest; `name` is the name of the file beside it.
pub(super) fn outdated(own: &Recorded, recorded: Option<&Recorded>, name: &str) -> Option<String> {
    match recorded {
        None if own.generation == 0 => None,
        None => Some(format!("`{name}` is missing, so this may not be the newest ledger")),
        Some(recorded) if recorded.ledger != own.ledger => (recorded.generation > 0).then(|| {
            format!("`{name}` belongs to another ledger, from which changes were sent that this one does not contain")
        }),
        Some(recorded) => (recorded.generation > own.generation).then(|| {
            format!(
                "this ledger is older than what was last sent from it (`{name}` says {}, the ledger {}): its log \
                 (`.wal`) is missing, or it was restored from a backup",
                recorded.generation, own.generation
            )
        }),
    }
}

/// The generations of one ledger, shared by all its connections.
pub(super) struct Generations {
    path: PathBuf,
    id: String,
    latest: AtomicU64,
}

impl Generations {
    pub(super) fn of(path: PathBuf, own: Recorded) -> Generations {
        Generations { path, id: own.ledger, latest: AtomicU64::new(own.generation) }
    }

    /// Counts the transaction under way as the next generation. Writers take turns.
    pub(super) fn raise(&self, connection: &Connection) -> duckdb::Result<u64> {
        let next = self.latest.fetch_add(1, Ordering::SeqCst) + 1;
        connection.execute("UPDATE identity SET generation = ?", [next])?;
        Ok(next)
    }

    /// Whether what was last reached is recorded. While a transaction is under way it may be what came before.
    pub(super) fn is_recorded(&self) -> bool {
        let latest = Recorded { ledger: self.id.clone(), generation: self.latest.load(Ordering::SeqCst) };
        read(&self.path).is_ok_and(|recorded| recorded == Some(latest))
    }

    /// Records the ledger's own generation where another one is recorded, or none. Between transactions only. Returns
    /// whether that was so.
    pub(super) fn repair(&self, connection: &Connection) -> Result<bool> {
        let own: u64 = connection
            .query_row("SELECT generation FROM identity", [], |row| row.get(0))
            .map_err(ledger_error("read the ledger's identity"))?;
        let right =
            read(&self.path)?.is_some_and(|found| found == Recorded { ledger: self.id.clone(), generation: own });
        if !right {
            self.record(own)?;
        }
        Ok(!right)
    }

    /// Records a generation that is durable. Durable itself when it returns.
    pub(super) fn record(&self, generation: u64) -> Result<()> {
        write(&self.path, &Recorded { ledger: self.id.clone(), generation }).map_err(|error| failed(&self.path, error))
    }
}

pub(in crate::ledger) fn failed(path: &Path, error: std::io::Error) -> Error {
    let full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge);
    let advice = match full {
        true => "free space on the ledger's disk, or raise this user's limit on it, and run again; nothing was lost",
        false => "give this user read and write access to the file and its folder",
    };
    Error::new(Kind::Ledger, "failed to use the file with the ledger's generation")
        .advise(advice)
        .because(error)
        .at(path.display().to_string())
}

pub(in crate::ledger) fn write(path: &Path, recorded: &Recorded) -> std::io::Result<()> {
    let part = beside(path, "part");
    let mut text = serde_json::to_vec(recorded)?;
    text.push(b'\n');
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&part, path)?;
    sync_folder(path)
}

/// Makes a new name in a file's folder durable.
pub(super) fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// What is recorded beside a ledger; nothing where there is no such file, or it does not make sense.
pub(in crate::ledger) fn read(path: &Path) -> Result<Option<Recorded>> {
    match fs::read(path) {
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(ledger: &str, generation: u64) -> Recorded {
        Recorded { ledger: ledger.to_owned(), generation }
    }

    #[test]
    fn a_ledger_is_the_newest_only_if_nothing_was_sent_that_it_does_not_know() {
        let ours = |generation| Some(recorded("a", generation));
        for (own, beside, is_older) in [
            // Nothing was ever sent from it: a new one, and one of a version that had no such file.
            (0, None, false),
            (0, ours(0), false),
            (0, ours(1), true),
            (7, ours(7), false),
            // A crash between the two.
            (8, ours(7), false),
            (6, ours(7), true),
            (7, None, true),
            (7, Some(recorded("b", 0)), false),
            (7, Some(recorded("b", 3)), true),
            (0, Some(recorded("b", 3)), true),
        ] {
            let why = outdated(&recorded("a", own), beside.as_ref(), "ledger.duckdb.generation");
            assert_eq!(why.is_some(), is_older, "{own} {beside:?}: {why:?}");
        }
    }

    #[test]
    fn it_is_written_whole_for_its_owner_alone_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = beside(&folder.path().join("ledger.duckdb"), "generation");
        assert_eq!(read(&path).unwrap(), None);
        for generation in [1, 2] {
            write(&path, &recorded("a", generation)).unwrap();
            assert_eq!(read(&path).unwrap(), Some(recorded("a", generation)));
        }
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        fs::write(&path, "{\"ledger\":").unwrap();
        assert_eq!(read(&path).unwrap(), None, "what is not whole is as good as missing");
    }
}
