//! Backup: a ledger is copied whole by DuckDB, with what is still in its log, into a file of its own.
//!
//! Never by copying bytes: another handle on an open file, once closed, would release the lock that this process has on it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use duckdb::Connection;

use super::DuckDbLedger;
use super::generation::{beside, sync_folder};
use crate::duckdb::{DuckDbConnection, Limits, first_line, is_full, ledger_error, quote_identifier, quote_literal};
use crate::error::{Error, Kind, Result, Within};
use crate::ledger::{Access, BackupSummary};

/// Copies the ledger at `path` to the new file `to`, as of now and with everything its log holds.
///
/// Errors: [`Kind::LedgerBusy`] while a run or a daemon has it open; [`Kind::Config`], there is such a file already, or no
/// ledger; [`Kind::Ledger`], it cannot be read, or the copy cannot be written.
pub async fn backup(path: &Path, to: &Path, limits: &Limits) -> Result<BackupSummary> {
    if !path.exists() {
        return Err(Error::new(Kind::Config, "there is no ledger yet").advise("run a sync first").at(shown(path)));
    }
    check_target(path, to)?;
    // Opened once as every reader opens it: a busy, damaged or foreign file is reported as such.
    drop(DuckDbLedger::open_read_only(path, limits).await?);
    let duckdb = DuckDbConnection::open(None, limits)?;
    let (from, to) = (path.to_path_buf(), to.to_path_buf());
    duckdb
        .call("copy the ledger", move |connection| {
            let attach = format!("ATTACH {} AS ledger (READ_ONLY)", quote_literal(&shown(&from)));
            connection.execute_batch(&attach).map_err(ledger_error("open the ledger"))?;
            copy(connection, "ledger", &to)
        })
        .await
        .within(|| format!("ledger {}", path.display()))
}

/// One backup of an open ledger at a time: two to the same file would write into each other's.
static OPEN_LEDGER: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Interrupts the statement that makes a copy, when the copy is not awaited any more.
struct Unwanted(Option<DuckDbConnection>);

impl Drop for Unwanted {
    fn drop(&mut self) {
        if let Some(duckdb) = &self.0 {
            duckdb.interrupt();
        }
    }
}

impl DuckDbLedger {
    /// Copies this open ledger to the new file `to`, as [`backup`] does. Runs go on meanwhile: the copy is as of its
    /// start, between two transactions, and has the generation of that time. If it is not awaited any more it ends, and
    /// leaves nothing.
    pub(super) async fn copy_to(&self, to: &Path) -> Result<BackupSummary> {
        let _one = OPEN_LEDGER.lock().await;
        if let Some(file) = &self.file {
            file.check()?;
            check_target(file.path(), to)?;
        }
        let own = self.another(Access::ReadOnly)?;
        let mut unwanted = Unwanted(Some(own.duckdb().clone()));
        let to = to.to_path_buf();
        let copied = own
            .call("copy the ledger", move |connection| {
                let database = "SELECT current_database()";
                let database: String = connection
                    .query_row(database, [], |row| row.get(0))
                    .map_err(ledger_error("read the ledger's name"))?;
                copy(connection, &database, &to)
            })
            .await;
        unwanted.0 = None;
        copied
    }
}

/// Rejects a target that exists, and one that has the name of a file of the ledger.
fn check_target(ledger: &Path, to: &Path) -> Result<()> {
    if std::fs::symlink_metadata(to).is_ok() {
        return Err(Error::new(Kind::Config, "this file exists already")
            .advise("name a new file, or move this one away first")
            .at(shown(to)));
    }
    let folder = |path: &Path| {
        fs::canonicalize(path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new(".")))
    };
    let own = ["wal", "generation", "generation.part", "sock", "daemon", "probe", "requests", "requests.part"]
        .map(|suffix| beside(ledger, suffix));
    let is_own = own.iter().any(|own| own.file_name() == to.file_name());
    if is_own && folder(ledger).is_ok_and(|here| folder(to).is_ok_and(|there| here == there)) {
        return Err(Error::new(Kind::Config, "the ledger keeps something of its own under this name")
            .advise("name another file")
            .at(shown(to)));
    }
    Ok(())
}

/// Where the ledger of an older version is kept when it is brought to the current one.
pub(super) fn of_version(ledger: &Path, version: usize) -> PathBuf {
    beside(ledger, &format!("v{version}-backup"))
}

/// Copies an attached database to a file, in the format the database has, so that a program that reads the one can read the
/// other. A file of this name is replaced once the copy is whole.
pub(super) fn copy(connection: &Connection, database: &str, to: &Path) -> Result<BackupSummary> {
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
        connection.execute_batch(&attach).map_err(copy_error(&part))?;
        let written = || -> duckdb::Result<BackupSummary> {
            connection.execute_batch(&format!("COPY FROM DATABASE {} TO copied", quote_identifier(database)))?;
            connection.execute_batch("CHECKPOINT copied")?;
            // An older ledger's table has another name.
            let table = "SELECT table_name FROM duckdb_tables() WHERE database_name = 'copied' \
                AND table_name IN ('synced', 'known')";
            let table: String = connection.query_row(table, [], |row| row.get(0))?;
            let count = format!("SELECT count(DISTINCT sync), count(*) FROM copied.main.{table}");
            connection.query_row(&count, [], |row| Ok(BackupSummary { syncs: row.get(0)?, groups: row.get(1)? }))
        };
        let copied = written();
        let let_go = connection.execute_batch("DETACH copied");
        let copied = copied.and_then(|copied| let_go.map(|()| copied)).map_err(copy_error(&part))?;
        fs::set_permissions(&part, Permissions::from_mode(0o600)).map_err(failed)?;
        fs::rename(&part, to).and_then(|()| sync_folder(to)).map_err(failed)?;
        Ok(copied)
    })();
    if whole.is_err() {
        for left in [part.clone(), beside(&part, "wal")] {
            drop(fs::remove_file(left));
        }
    }
    whole
}

/// The error of a statement that failed because of the copy's file, or of the ledger's.
fn copy_error(part: &Path) -> impl Fn(duckdb::Error) -> Error {
    let part = shown(part);
    move |error| {
        let text = error.to_string();
        let failed = Error::new(Kind::Ledger, "failed to write the copy").because(first_line(&text));
        if is_full(&text) {
            failed.advise("free space where the copy goes, or name a file on another disk; the ledger is as it was")
        } else if text.contains(&part) {
            failed.advise("name a file in a folder that exists and that this user may write to")
        } else {
            ledger_error("make the copy")(error)
        }
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
