//! The address of the daemon that has a ledger open: a small file beside the ledger, for people.
//!
//! Nothing is ever sent to the address in it: commands use the [socket](super::socket). A daemon that was killed leaves the
//! file behind, so it counts only while the process it names has the ledger's lock.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::ledger::file_error::write_error;

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

/// A daemon, for people.
pub fn whom(url: &str, pid: u32) -> String {
    format!("the daemon at {url} (process {pid})")
}

/// The address in a file; none when there is no such file, or it is not whole.
fn read(path: &Path) -> Option<Address> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// The daemon that has a ledger open, for people: the address beside the ledger, if `busy`, which says that another process
/// has the ledger's lock, names the same process.
pub fn of_holder(ledger: &Path, busy: &Error) -> Option<String> {
    let address = read(&path(ledger)).filter(|_| busy.kind() == Kind::LedgerBusy)?;
    // As DuckDB reports it; elsewhere the process of a lock is not known.
    busy.to_string().contains(&format!("(PID {})", address.pid)).then(|| whom(&address.url, address.pid))
}

/// A written address, removed when it is dropped.
pub struct Written {
    path: PathBuf,
    address: Address,
}

impl Written {
    /// Writes it; a file of an earlier daemon is replaced.
    pub fn write(path: PathBuf, address: Address) -> Result<Written> {
        let text = serde_json::to_vec(&address).unwrap_or_default();
        std::fs::write(&path, text).map_err(|error| {
            // What is left on a full disk is an empty file.
            drop(std::fs::remove_file(&path));
            write_error("failed to write the daemon's address beside the ledger", error).at(path.display().to_string())
        })?;
        Ok(Written { path, address })
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        // Another daemon may have written its own, when the ledger was moved away from this one.
        if read(&self.path).as_ref() == Some(&self.address) {
            // Left behind it does no harm.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_of_the_process_that_has_the_lock_only() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = folder.path().join("ledger.duckdb");
        let address = Address { url: "http://127.0.0.1:4780".to_owned(), pid: 123 };
        let written = Written::write(path(&ledger), address).unwrap();
        let busy = |pid: &str| {
            Error::new(Kind::LedgerBusy, "another process has this file open").because(format!(
                "Could not set lock on file: Conflicting lock is held in /usr/bin/groupcast (PID {pid})"
            ))
        };
        assert_eq!(
            of_holder(&ledger, &busy("123")).as_deref(),
            Some("the daemon at http://127.0.0.1:4780 (process 123)")
        );
        assert_eq!(of_holder(&ledger, &busy("1234")), None);
        assert_eq!(of_holder(&ledger, &Error::new(Kind::Ledger, "damaged (PID 123)")), None);
        drop(written);
        assert_eq!(of_holder(&ledger, &busy("123")), None);
    }

    #[test]
    fn another_ones_address_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(&folder.path().join("ledger.duckdb"));
        let address = |pid| Address { url: "http://127.0.0.1:1".to_owned(), pid };
        let first = Written::write(path.clone(), address(1)).unwrap();
        let second = Written::write(path.clone(), address(2)).unwrap();
        drop(first);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
    }
}
