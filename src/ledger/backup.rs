//! How is a ledger copied whole? By DuckDB, with what is still in its log, into a file of its own.
//!
//! Never by copying bytes: another handle on an open file, once closed, would let go of the lock that this process has on it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use duckdb::Connection;

use super::generation::{beside, sync_folder};
use crate::duck::{Duck, Limits, ledger_error, quote_identifier, quote_literal};
use crate::error::{Error, Kind, Result, Within};

/// What a copy holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// Syncs of which a group is known.
    pub syncs: u64,
    /// Known groups of all of them.
    pub groups: u64,
}

/// Copies the ledger at `path` to the new file `to`, as of now and with everything its log holds.
///
/// Errors: [`Kind::LedgerBusy`] while a run or a daemon has it open; [`Kind::Config`], there is such a file already, or no
/// ledger; [`Kind::Ledger`], it cannot be read, or the copy cannot be written.
pub async fn backup(path: &Path, to: &Path, limits: &Limits) -> Result<Copied> {
    if !path.exists() {
        return Err(Error::new(Kind::Config, "there is no ledger yet").advise("run a sync first").at(shown(path)));
    }
    if to.exists() {
        return Err(Error::new(Kind::Config, "this file exists already")
            .advise("name a new file, or move this one away first")
            .at(shown(to)));
    }
    // Opened once as every reader opens it: a busy, damaged or foreign file is told as such.
    drop(super::local::LocalLedger::open_read_only(path, limits).await?);
    let duck = Duck::open(None, limits)?;
    let (from, to) = (path.to_path_buf(), to.to_path_buf());
    duck.call("copy the ledger", move |connection| {
        let attach = format!("ATTACH {} AS ledger (READ_ONLY)", quote_literal(&shown(&from)));
        connection.execute_batch(&attach).map_err(ledger_error("open the ledger"))?;
        copy(connection, "ledger", &to)?;
        let count = "SELECT count(DISTINCT sync), count(*) FROM ledger.known";
        connection
            .query_row(count, [], |row| Ok(Copied { syncs: row.get(0)?, groups: row.get(1)? }))
            .map_err(ledger_error("count groups"))
    })
    .await
    .within(|| format!("ledger {}", path.display()))
}

/// Where the ledger of an older version is kept when it is brought to the current one.
pub(super) fn of_version(ledger: &Path, version: usize) -> PathBuf {
    beside(ledger, &format!("v{version}-backup"))
}

/// Copies an attached database to a file, in the format the database has, so that whoever can read the one can read the
/// other. A file of this name is replaced once the copy is whole.
pub(super) fn copy(connection: &Connection, database: &str, to: &Path) -> Result<()> {
    let part = beside(to, "part");
    let failed = |error: std::io::Error| {
        Error::new(Kind::Ledger, "failed to write the copy")
            .advise("name a file in a folder this user may write to, on a disk with room for it")
            .because(error)
            .at(shown(to))
    };
    let whole = (|| {
        drop(fs::remove_file(&part));
        let format = format!(
            "SELECT coalesce(tags['storage_version'], '') FROM duckdb_databases() WHERE database_name = {}",
            quote_literal(database)
        );
        let format: String =
            connection.query_row(&format, [], |row| row.get(0)).map_err(ledger_error("read the ledger's format"))?;
        let format = match format.trim_end_matches('+') {
            "" => String::new(),
            version => format!(" (STORAGE_VERSION {})", quote_literal(version)),
        };
        let attach = format!("ATTACH {} AS copied{format}", quote_literal(&shown(&part)));
        connection.execute_batch(&attach).map_err(ledger_error("make the copy"))?;
        let copied = connection
            .execute_batch(&format!("COPY FROM DATABASE {} TO copied; CHECKPOINT copied", quote_identifier(database)));
        let let_go = connection.execute_batch("DETACH copied");
        copied.and(let_go).map_err(ledger_error("make the copy"))?;
        fs::set_permissions(&part, Permissions::from_mode(0o600)).map_err(failed)?;
        fs::rename(&part, to).and_then(|()| sync_folder(to)).map_err(failed)
    })();
    if whole.is_err() {
        for left in [part.clone(), beside(&part, "wal")] {
            drop(fs::remove_file(left));
        }
    }
    whole
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
