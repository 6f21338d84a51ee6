//! The place of the ledger's file: is it still the one that is open, and is there room to write beside it?
//!
//! A file that is moved, replaced or deleted while it is open goes on taking writes that the next start will not find:
//! what was sent meanwhile would be resent. So it is checked before a run begins and before groups are marked. The
//! same goes for the log beside it, whose content can still be saved ([`LogPlace`]).

use parking_lot::Mutex;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::{Error, Kind, Result};
use crate::io::file_id::FileId;
use crate::ledger::file_error::{read_error, write_error};

/// What a probe writes: a commit of a small run, and more than a file system keeps inside a directory entry.
const PROBE_BYTES: usize = 64 * 1024;

/// What to do about a ledger that is not where it was.
const PUT_BACK: &str = "no run starts meanwhile: move the same file, and its `.wal` if there is one, back to this path; if it \
    is lost, stop the process, put a backup there, and start again";

/// An open ledger's file.
#[derive(Debug)]
pub(super) struct FilePlace {
    path: PathBuf,
    id: FileId,
}

impl FilePlace {
    /// The place of a file that was opened just now.
    pub(super) fn of(path: &Path) -> Result<FilePlace> {
        let id = FileId::of(path).map_err(|error| read_error(&error))?;
        Ok(FilePlace { path: path.to_path_buf(), id })
    }

    /// The path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Fails when the path does not lead to the open file any more.
    pub(super) fn check(&self) -> Result<()> {
        let what = match FileId::of(&self.path) {
            Ok(id) if id == self.id => return Ok(()),
            Ok(_) => "the ledger's file was replaced by another one while it is open",
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                "the ledger's file was moved or deleted while it is open"
            }
            Err(error) => return Err(read_error(&error)),
        };
        Err(Error::new(Kind::Ledger, what).advise(PUT_BACK))
    }

    /// Fails when nothing can be written beside the file, where its log goes: a full disk, a quota, a read-only file system.
    pub(super) fn probe(&self) -> Result<()> {
        let mut name = self.path.file_name().unwrap_or_default().to_os_string();
        name.push(".probe");
        let probe = self.path.with_file_name(name);
        // One that a killed process left. Made anew, so that no link in its place is followed.
        drop(std::fs::remove_file(&probe));
        let written = std::fs::File::create_new(&probe).and_then(|mut file| {
            file.write_all(&[0; PROBE_BYTES])?;
            // Some file systems look for room only now.
            file.sync_data()
        });
        drop(std::fs::remove_file(&probe));
        written.map_err(|error| write_error("nothing can be written beside the ledger", error))
    }
}

/// DuckDB's log beside an open ledger. It comes with the first write and goes with a checkpoint; in between it holds what the
/// file does not have yet, and a log that was unlinked or moved away meanwhile goes on taking writes that the next start
/// will not find.
#[derive(Debug)]
pub(super) struct LogPlace {
    /// As the kernel names it: without links.
    path: PathBuf,
    /// The log as it was last seen at its path. A number alone is reused for another file immediately.
    seen: Mutex<Option<(FileId, SystemTime)>>,
}

impl LogPlace {
    pub(super) fn of(log: &Path) -> LogPlace {
        let folder = log.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_path_buf());
        LogPlace { path: folder.join(log.file_name().unwrap_or_default()), seen: Mutex::default() }
    }

    /// Its bytes, where there is one.
    pub(super) fn bytes(&self) -> Option<u64> {
        Some(std::fs::metadata(&self.path).ok()?.len())
    }

    /// Whether the log that this process has open is not at its path. Looks at the open files without opening any: closing
    /// one would release this process's locks. Where the system does not list them, the answer is no.
    pub(super) fn is_lost(&self) -> bool {
        let unlinked = {
            let mut name = self.path.clone().into_os_string();
            name.push(" (deleted)");
            PathBuf::from(name)
        };
        let mut seen = self.seen.lock();
        let (mut lost, mut there) = (false, None);
        for open in std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
            let Ok(name) = std::fs::read_link(open.path()) else { continue };
            let identity = || {
                let about = std::fs::metadata(open.path()).ok()?;
                Some((FileId::of_metadata(&about), about.created().ok()?))
            };
            if name == self.path {
                there = identity();
            } else if name == unlinked || (seen.is_some() && identity() == *seen) {
                lost = true;
            }
        }
        *seen = there.or(*seen);
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_left_its_place_is_noticed_and_one_that_comes_back_too() {
        let folder = tempfile::tempdir().unwrap();
        let (path, aside) = (folder.path().join("ledger.duckdb"), folder.path().join("aside"));
        std::fs::write(&path, "one").unwrap();
        let place = FilePlace::of(&path).unwrap();
        place.check().unwrap();
        std::fs::rename(&path, &aside).unwrap();
        let gone = place.check().unwrap_err();
        assert!(gone.to_string().contains("moved or deleted"), "{gone}");
        std::fs::write(&path, "two").unwrap();
        let replaced = place.check().unwrap_err();
        assert!(replaced.to_string().contains("replaced by another"), "{replaced}");
        assert!(replaced.advice().unwrap().contains("back to this path"));
        std::fs::rename(&aside, &path).unwrap();
        place.check().unwrap();
        // The same file by another way.
        std::os::unix::fs::symlink(&path, &aside).unwrap();
        assert_eq!(FileId::of(&aside).unwrap(), FileId::of(&path).unwrap());
        place.probe().unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "a probe leaves nothing behind");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_log_that_is_open_and_not_at_its_path_is_lost_and_one_that_was_closed_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (log, aside) = (folder.path().join("ledger.duckdb.wal"), folder.path().join("aside"));
        let place = LogPlace::of(&log);
        assert!(!place.is_lost(), "none yet");
        for take_away in
            [&|| std::fs::remove_file(&log).unwrap(), &|| std::fs::rename(&log, &aside).unwrap()] as [&dyn Fn(); 2]
        {
            let open = std::fs::File::create(&log).unwrap();
            assert!(!place.is_lost());
            take_away();
            assert!(place.is_lost());
            // Another one in its place does not hide that.
            std::fs::write(&log, "another").unwrap();
            assert!(place.is_lost());
            drop(open);
            assert!(!place.is_lost(), "after a checkpoint");
            std::fs::remove_file(&log).unwrap();
            // What gets its number, and what is only called alike, is another file.
            let _other = std::fs::File::create(folder.path().join("other")).unwrap();
            let _like = std::fs::File::create(folder.path().join("ledger.duckdb.wal.not")).unwrap();
            assert!(!place.is_lost());
        }
    }
}
