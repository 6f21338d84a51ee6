//! Where does the daemon that holds a ledger listen? A small file beside the ledger says so, for the commands.
//!
//! It holds no secret. A daemon that was killed leaves it behind; whoever reads it finds nobody there.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};

/// Where a daemon listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The API's address as this machine reaches it: `http://127.0.0.1:4780`.
    pub url: String,
    /// The process.
    pub pid: u32,
}

/// The file's path for a ledger.
pub fn path(ledger: &Path) -> PathBuf {
    let mut name = ledger.file_name().unwrap_or_default().to_os_string();
    name.push(".daemon");
    ledger.with_file_name(name)
}

/// The address in a file; none when there is no such file, or it is not whole.
pub fn read(path: &Path) -> Option<Address> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// A written address, removed when it is dropped.
pub struct Written(PathBuf);

impl Written {
    /// Writes it; a file of an earlier daemon is replaced.
    pub fn write(path: PathBuf, address: &Address) -> Result<Written> {
        let text = serde_json::to_vec(address).unwrap_or_default();
        std::fs::write(&path, text).map_err(|error| {
            Error::new(Kind::Ledger, "failed to write the daemon's address beside the ledger")
                .advise("give this user write access to the ledger's folder")
                .because(error)
                .at(path.display().to_string())
        })?;
        Ok(Written(path))
    }
}

impl Address {
    /// The daemon, for people.
    pub fn whom(&self) -> String {
        format!("the daemon at {} (process {})", self.url, self.pid)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        // Left behind it does no harm.
        drop(std::fs::remove_file(&self.0));
    }
}
