//! The files that a config depends on, and the state in which they were read. The loader notes each file it looks for, wherever
//! it is and whether it exists, so that a daemon knows what to watch.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use parking_lot::Mutex;

/// What differs when a file was changed or replaced: its size, when it was written, which file it is, and when that was
/// last changed. The last two tell apart what archives and reproducible builds date alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    bytes: u64,
    written: Option<SystemTime>,
    file: (u64, u64),
    changed: (i64, i64),
}

impl Mark {
    /// Of a file that these are the metadata of.
    pub fn of(meta: &Metadata) -> Mark {
        Mark {
            bytes: meta.len(),
            written: meta.modified().ok(),
            file: (meta.dev(), meta.ino()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// The mark of the file at `path`; `None` if the file does not exist or cannot be seen.
    pub fn at(path: &Path) -> Option<Mark> {
        std::fs::metadata(path).ok().map(|meta| Mark::of(&meta))
    }
}

/// The files that were looked for.
#[derive(Debug, Default)]
pub struct Files(Mutex<BTreeMap<PathBuf, Option<Mark>>>);

impl Files {
    /// Notes a file that is about to be read: a change from now on is a change.
    pub fn note(&self, path: &Path) {
        let mark = Mark::at(path);
        self.0.lock().entry(path.to_path_buf()).or_insert(mark);
    }

    /// What was noted: each file with its mark, none where it was missing.
    pub fn noted(self) -> BTreeMap<PathBuf, Option<Mark>> {
        self.0.into_inner()
    }
}
