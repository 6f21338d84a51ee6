//! The constructor: which kind of ledger keeps the state of a project.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::duckdb::DuckDbLedger;
use super::kept_requests::KeptRequests;
use super::postgres::{self, PostgresLedger};
use super::{BackupSummary, Ledger, duckdb, file_error};
use crate::duckdb::Limits;
use crate::error::{Error, Result};
use crate::source::postgres::PostgresSettings;

/// How long history is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The journal: what was sent to each group. Both are measured by the runs since, not by the clock alone.
    pub journal: Duration,
    /// The records of runs. What the next run needs of earlier ones is kept however old it is.
    pub runs: Duration,
    /// The last requests of groups that were not delivered, by the clock; zero for never keeping one.
    pub requests: Duration,
}

impl Retention {
    /// For a ledger that is only read.
    pub const FOREVER: Retention = Retention { journal: Duration::MAX, runs: Duration::MAX, requests: Duration::MAX };
}

/// Opens the ledger at `path` to write, creating it when absent.
///
/// Errors: [`Kind::LedgerBusy`](crate::error::Kind::LedgerBusy) when another process has it open;
/// [`Kind::Ledger`](crate::error::Kind::Ledger) when it cannot be read or written, or a newer version wrote it.
pub async fn open(path: &Path, limits: &Limits, retention: Retention) -> Result<Arc<dyn Ledger>> {
    Ok(Arc::new(DuckDbLedger::open(path, limits, retention).await?))
}

/// Opens the ledger at `path` for queries and plans; an empty one where none exists yet.
///
/// Errors: as [`open`].
pub async fn open_read_only(path: &Path, limits: &Limits) -> Result<Arc<dyn Ledger>> {
    Ok(Arc::new(match std::fs::metadata(path) {
        Ok(_) => DuckDbLedger::open_read_only(path, limits).await?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => DuckDbLedger::in_place_of(path, limits).await?,
        // There may be one, so it must not be taken for an empty one.
        Err(error) => return Err(file_error::read_error(&error).at(format!("ledger {}", path.display()))),
    }))
}

/// Opens the ledger in a schema of a PostgreSQL database to write, creating it when absent. The file at `stand_in` represents
/// it on this machine: beside it is what is beside a ledger's file. `lease` is how long a lease lasts that is not extended.
///
/// Errors: as [`open`], also where the server cannot be reached; [`Kind::Config`](crate::error::Kind::Config), the settings
/// cannot be used.
pub async fn open_in_postgres(
    server: &PostgresSettings,
    schema: &str,
    lease: Duration,
    stand_in: &Path,
    limits: &Limits,
    retention: Retention,
) -> Result<Arc<dyn Ledger>> {
    let ledger = PostgresLedger::open_leasing(server, schema, lease, limits, retention).await?;
    postgres::stand_in(stand_in, server, schema)?;
    let ledger = ledger.recorded_at(duckdb::beside(stand_in, "generation")).await?;
    Ok(Arc::new(ledger.keeping(kept_beside(stand_in, retention))))
}

/// Opens the ledger in a schema of a PostgreSQL database for queries and plans. Nothing where it was not made yet.
///
/// Errors: as [`open_in_postgres`], but for [`Kind::LedgerBusy`](crate::error::Kind::LedgerBusy): it is read beside others.
pub async fn open_in_postgres_read_only(
    server: &PostgresSettings,
    schema: &str,
    stand_in: &Path,
    limits: &Limits,
) -> Result<Option<Arc<dyn Ledger>>> {
    let ledger = PostgresLedger::open_read_only(server, schema, limits).await?;
    let kept = kept_beside(stand_in, Retention::FOREVER);
    Ok(ledger.map(|ledger| Arc::new(ledger.keeping(kept)) as Arc<dyn Ledger>))
}

/// The requests that are kept beside the file that represents a ledger.
fn kept_beside(stand_in: &Path, retention: Retention) -> KeptRequests {
    KeptRequests::new(duckdb::beside(stand_in, "requests"), retention.requests)
}

/// The folder of the plans that a daemon was sent, beside the file that represents a ledger.
pub fn plans_beside(stand_in: &Path) -> PathBuf {
    duckdb::beside(stand_in, "plans")
}

/// The error of a backup of a ledger in PostgreSQL, which is backed up with its database.
pub fn postgres_backup_error(schema: &str) -> Error {
    postgres::backup_error(schema)
}

/// A ledger in memory, with a local ledger's every property but durability.
pub async fn in_memory(limits: &Limits) -> Result<Arc<dyn Ledger>> {
    Ok(Arc::new(DuckDbLedger::in_memory(limits).await?))
}

/// Copies the ledger at `path` to the new file `to`, while no process has it open.
///
/// Errors: [`Kind::LedgerBusy`](crate::error::Kind::LedgerBusy) while a process has it open;
/// [`Kind::Config`](crate::error::Kind::Config), there is such a file already, or no ledger;
/// [`Kind::Ledger`](crate::error::Kind::Ledger), it cannot be read, or the copy cannot be written.
pub async fn backup(path: &Path, to: &Path, limits: &Limits) -> Result<BackupSummary> {
    duckdb::backup(path, to, limits).await
}
