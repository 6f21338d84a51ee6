//! The identity of a file, however its path is written.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Which file a path leads to, however the path is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// That of the file or folder at `path`.
    pub fn of(path: &Path) -> std::io::Result<FileId> {
        Ok(FileId::of_metadata(&std::fs::metadata(path)?))
    }

    /// That of the file that was looked up.
    pub fn of_metadata(found: &std::fs::Metadata) -> FileId {
        FileId { device: found.dev(), inode: found.ino() }
    }
}
