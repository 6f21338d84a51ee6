//! Errors about the ledger's file and what is beside it, each with what to do about its cause.

use std::io::ErrorKind;

use crate::error::{Error, Kind};

/// A file or folder of the ledger that cannot be read.
pub fn read_error(error: &std::io::Error) -> Error {
    let failed = Error::new(Kind::Ledger, "the ledger's file cannot be read");
    let failed = if error.kind() == ErrorKind::PermissionDenied {
        failed.advise("run this as the user that owns the ledger, or give this user access to its folder and file")
    } else {
        failed.advise("set `state.path` in groupcast.toml to a file in a folder that exists on this machine")
    };
    failed.because(error.to_string())
}

/// A failure to write beside the ledger, with what to do about this cause.
pub fn write_error(what: &str, error: std::io::Error) -> Error {
    let advice = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "free space on the ledger's disk, or raise this user's limit on it; nothing was lost"
        }
        ErrorKind::PermissionDenied => "give this user write access to the ledger's folder",
        ErrorKind::ReadOnlyFilesystem => {
            "mount the file system of the ledger's folder so that it can be written, or set `state.path` in groupcast.toml"
        }
        _ => "look at the ledger's folder and its file system, or set `state.path` in groupcast.toml",
    };
    Error::new(Kind::Ledger, what).advise(advice).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_to_write_is_told_by_its_cause() {
        for (kind, expected) in [
            (ErrorKind::StorageFull, "free space"),
            (ErrorKind::QuotaExceeded, "free space"),
            (ErrorKind::PermissionDenied, "write access"),
            (ErrorKind::ReadOnlyFilesystem, "mount"),
            (ErrorKind::Other, "state.path"),
        ] {
            let error = write_error("failed to write", std::io::Error::from(kind));
            assert!(error.advice().unwrap().contains(expected), "{kind:?}: {error}");
        }
    }
}
