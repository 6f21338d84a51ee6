//! DuckDB's errors (locked, full, corrupt, of a newer version), each with its kind and advice.

use std::path::Path;

use crate::error::{Error, Kind};

/// What to do about a ledger that cannot be read. Not `adopt`: it would take for sent what never was, and removals would be
/// lost. Beside the file that says how new it was, a restored ledger and a new one know that they do not know everything.
const DAMAGED: &str = "restore the ledger from a backup (`groupcast ledger backup` makes one) and remove its `.wal`; without \
    one, move the file and its `.wal` aside. Leave the `.generation` file in its place either way: the next run then sends \
    everything again. Groups that have left the source meanwhile are only removed if the backup knows them";

/// What a file says of the DuckDB that made it. To be asked of a file only that this process has not open: closing it once
/// more would let go of the lock.
pub(crate) fn made_by(path: &Path) -> Option<String> {
    use std::io::Read;
    let mut header = [0; 84];
    std::fs::File::open(path).ok()?.read_exact(&mut header).ok()?;
    let version = header[52..].split(|byte| *byte == 0).next().and_then(|text| std::str::from_utf8(text).ok())?;
    let plausible = version.starts_with('v') && version.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c));
    plausible.then(|| format!("DuckDB {version}"))
}

/// Whether a file is of a format that this DuckDB does not read yet, or (`Some(false)`) does not read any more.
pub(crate) fn format_is_newer(text: &str) -> Option<bool> {
    let lower = text.to_lowercase();
    let is_about = ["storage version", "version number", "newer version"].iter().any(|words| lower.contains(words));
    is_about.then(|| !text.contains("older development version"))
}

/// Whether DuckDB found that a file's bytes are not what it wrote.
pub(crate) fn is_damaged(text: &str) -> bool {
    ["Corrupt", "checksum", "Could not read enough bytes"].iter().any(|words| text.contains(words))
}

/// Whether a failure ends the use of every connection.
pub(super) fn invalidates(text: &str) -> bool {
    text.contains("FATAL Error") || text.contains("database has been invalidated")
}

/// Whether there is no room to write: the disk, a quota, or a limit on a file's size.
pub(crate) fn is_full(text: &str) -> bool {
    ["No space left", "disk is full", "File too large", "quota exceeded"].iter().any(|words| text.contains(words))
}

/// Classifies a failure to open a database file.
pub(super) fn open_error(text: &str, path: Option<&Path>) -> Error {
    let maker = || path.and_then(made_by).map_or_else(String::new, |maker| format!(" ({maker})"));
    let error = if text.contains("Conflicting lock") || text.contains("Could not set lock") {
        Error::new(Kind::LedgerBusy, "another process has this file open")
            .advise("wait for it to finish, or stop it; `groupcast` runs one process per ledger")
    } else if text.contains("not a valid DuckDB database file") || is_damaged(text) {
        Error::new(Kind::Ledger, "this file is not a readable DuckDB database").advise(DAMAGED)
    } else if let Some(newer) = format_is_newer(text) {
        match newer {
            true => Error::new(Kind::Ledger, format!("this file was written by a newer DuckDB{}", maker()))
                .advise("update Groupcast: use the version that wrote this file, or a newer one; nothing was changed"),
            false => Error::new(Kind::Ledger, format!("this file was written by a very old DuckDB{}", maker()))
                .advise("set `state.path` in groupcast.toml to a file of its own"),
        }
    } else if text.contains("ermission denied") || text.contains("Read-only") || text.contains("read-only") {
        Error::new(Kind::Ledger, "this file cannot be written")
            .advise("give this user write access to the file and its folder")
    } else if is_full(text) {
        Error::new(Kind::Ledger, "the disk is full").advise("free space on this disk and run again; nothing was lost")
    } else {
        Error::new(Kind::Ledger, "failed to open the database file")
            .advise("set `state.path` in groupcast.toml to a file of its own, in a folder this user may write to")
    };
    let path = path.map_or_else(|| "in-memory database".to_owned(), |path| path.display().to_string());
    error.because(first_line(text)).at(path)
}

/// A failed statement on the ledger's own tables.
pub fn ledger_error(what: &'static str) -> impl Fn(duckdb::Error) -> Error {
    move |error| {
        let text = error.to_string();
        let failed = Error::new(Kind::Ledger, format!("failed to {what}"));
        let failed = if is_full(&text) {
            failed.advise(
                "free space on the ledger's disk, or raise this user's limit on it, and run again; nothing was lost",
            )
        } else if is_damaged(&text) {
            failed.advise(DAMAGED)
        } else if text.contains("INTERRUPT") {
            Error::new(Kind::Interrupted, format!("interrupted while trying to {what}"))
        } else if text.contains("Out of Memory") || text.contains("failed to allocate") {
            failed.advise(
                "raise `state.memory` in groupcast.toml, or free space where DuckDB spills (`state.temp_folder`)",
            )
        } else if text.contains("read-only") {
            failed.advise("give this user write access to the ledger's file and folder")
        } else {
            failed
        };
        failed.because(first_line(&text))
    }
}

/// DuckDB repeats the statement below its message; the first lines are what a person needs.
pub fn first_line(text: &str) -> String {
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or("no details").trim().to_owned()
}
