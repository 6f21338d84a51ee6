//! The ledger in a PostgreSQL database: for teams that keep no file, or whose processes come and go.
//!
//! | module | what it holds |
//! |---|---|
//! | `open` | opening: the server's version, the schema's, the lease |
//! | `server`, `session`, `error` | the server; connections, transactions, attempts; what failures mean |
//! | `lease`, `held_lease`, `lease_keeper` | what a process has to itself for a time |
//! | `shared` | what processes that use the ledger know of each other |
//! | `generation` | is the database older than what was sent from this machine? |
//! | `schema` | the tables, and how an older schema becomes a current one |
//! | `hashes` | DuckDB's hashes of groups, which the server cannot compute |
//! | `protocol`, `begin`, `fold`, `record` | the protocol of a run |
//! | `compare`, `candidates` | the comparison, and pages of candidates |
//! | `history`, `kv`, `storage` | queries, key-value notes, the place |
//! | `import` | groups that come from another ledger |
//!
//! Rows are compared in a DuckDB instance in memory, by the DuckDB ledger's own statements: `sums` comes from the server, and
//! of the buckets that differ keys and fingerprints. Documents are looked up for a page of candidates at a time.

mod begin;
mod candidates;
mod compare;
mod error;
mod fold;
mod generation;
mod hashes;
mod held_lease;
mod history;
mod import;
mod kv;
mod lease;
mod lease_keeper;
mod open;
mod protocol;
mod record;
mod schema;
mod server;
mod session;
mod shared;
mod storage;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

pub use lease::LASTS as LEASE_LASTS;
pub(super) use storage::{backup_error, stand_in};

use super::duckdb::candidates::Candidates;
use super::kept_requests::KeptRequests;
use super::shared::sync_lease;
use super::{Access, Retention};
use crate::duckdb::DuckDbConnection;
use crate::error::{Error, Kind, Result};
use error::Failure;
use generation::Generation;
use held_lease::HeldLease;
use lease::Leases;
use session::{Session, reading};

/// A connection to a ledger in PostgreSQL.
pub struct PostgresLedger {
    session: Session,
    /// The instance in which rows are compared.
    duckdb: DuckDbConnection,
    /// None for a ledger that is not written.
    leases: Option<Arc<Leases>>,
    retention: Retention,
    /// What was sent from this machine; none without a file that keeps it.
    generation: Option<Arc<Generation>>,
    /// Why this was not the newest ledger when it was opened.
    outdated: Option<String>,
    /// The requests that are kept on this machine, beside the file that represents the ledger; none without one.
    kept_requests: Option<KeptRequests>,
    /// Up to so many candidates come in key order.
    ordered_max: u64,
    /// Whether stored hashes are this DuckDB's; otherwise no bucket is taken for equal.
    hashes_alike: bool,
    /// What this connection's comparison found.
    found: Arc<Mutex<Found>>,
    /// Whether a plan has folded what a crashed run left, in a transaction that is rolled back when the plan is done.
    plan_is_open: AtomicBool,
}

/// What a comparison found, and the run's sync.
#[derive(Clone, Default)]
struct Found {
    candidates: Candidates,
    /// Its name and number; none while no run goes on over this connection.
    sync: Option<(String, i32)>,
    /// The lease of the sync, from the beginning of a run to its end.
    lease: Option<Arc<HeldLease>>,
}

impl PostgresLedger {
    /// Another connection to the same ledger ([`Ledger::connect`](super::Ledger::connect)). It is made when it is needed.
    pub fn another(&self, access: Access) -> Result<PostgresLedger> {
        Ok(PostgresLedger {
            session: Session::new(Arc::clone(&self.session.server)),
            duckdb: self.duckdb.sibling()?,
            leases: self.leases.clone().filter(|_| access == Access::ReadWrite),
            retention: self.retention,
            generation: self.generation.clone(),
            outdated: self.outdated.clone(),
            kept_requests: self.kept_requests.clone(),
            ordered_max: self.ordered_max,
            hashes_alike: self.hashes_alike,
            found: Arc::default(),
            plan_is_open: AtomicBool::new(false),
        })
    }

    /// The same ledger with another limit up to which candidates come in key order, so that what happens to very many can
    /// be tried with few.
    pub fn ordered_up_to(self, ordered_max: u64) -> PostgresLedger {
        PostgresLedger { ordered_max, ..self }
    }

    /// The same ledger with a place for the last requests of groups that were not delivered.
    pub(super) fn keeping(self, requests: KeptRequests) -> PostgresLedger {
        PostgresLedger { kept_requests: Some(requests), ..self }
    }

    /// The instance in which rows are compared.
    pub fn duckdb(&self) -> &DuckDbConnection {
        &self.duckdb
    }

    /// An error of the comparison with the ledger's place; one of the source has its own.
    fn own(&self, error: Error) -> Error {
        if error.kind() == Kind::Ledger { error.at(self.session.server.place()) } else { error }
    }

    fn sql(&self, text: &str) -> String {
        self.session.server.sql(text)
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock()
    }

    /// The number of the run's sync, if it is this one.
    fn number_at_hand(&self, sync: &str) -> Option<i32> {
        self.found().sync.as_ref().filter(|(name, _)| name == sync).map(|(_, number)| *number)
    }

    fn is_read_only(&self) -> bool {
        self.leases.is_none()
    }

    fn has_open_plan(&self) -> bool {
        self.plan_is_open.load(Ordering::SeqCst)
    }

    /// What a plan folded is gone with its connection.
    fn check_plan(&self, is_new: bool) -> Result<(), Failure> {
        if !is_new || !self.has_open_plan() {
            return Ok(());
        }
        let lost = Error::new(Kind::Ledger, "the connection was lost in the middle of the plan").advise("plan again");
        Err(Failure::Final(lost))
    }

    /// A failure in a plan's transaction ends it.
    fn of_plan(&self, failure: Failure) -> Failure {
        if !self.plan_is_open.swap(false, Ordering::SeqCst) || !failure.may_pass() {
            return failure;
        }
        Failure::Final(failure.error(&self.session.server, "read the ledger"))
    }

    /// Nothing is read or written for a run once another process has its sync.
    fn check_lease(&self) -> Result<(), Failure> {
        self.generation.as_ref().map_or(Ok(()), |generation| generation.check())?;
        self.found().lease.as_ref().map_or(Ok(()), |lease| lease.check_known())
    }

    fn leases(&self) -> Result<&Arc<Leases>> {
        self.leases.as_ref().ok_or_else(|| Error::new(Kind::Bug, "a ledger that was opened to read is written"))
    }

    /// The lease of a sync, for work on it: this process's, or one for this work.
    async fn lease_for(&self, sync: &str) -> Result<Arc<HeldLease>> {
        self.take_lease(&sync_lease(sync), Duration::ZERO, "").await
    }

    async fn take_lease(&self, lease: &str, attempt: Duration, detail: &str) -> Result<Arc<HeldLease>> {
        let leases = self.leases()?;
        reading!(self, "claim a lease", |client| leases.claim(client, lease, attempt, detail).await?)
    }

    /// The lease of the run that goes on over this connection, or of one that this process runs over another.
    fn lease_of_run(&self, sync: &str) -> Result<Arc<HeldLease>> {
        let lease = sync_lease(sync);
        let own = self.found().lease.clone();
        let held = own.or_else(|| self.leases.as_ref().and_then(|leases| leases.state.held(&lease)));
        held.ok_or_else(|| held_lease::lost(&lease))
    }

    /// Gives a lease back, if nothing else in this process needs it. Where that fails it is tried once more later.
    async fn give_back(&self, lease: Arc<HeldLease>) {
        let Ok(leases) = self.leases() else { return };
        if let Ok(lent) = self.session.lend().await
            && let Ok(client) = lent.client()
        {
            leases.state.release(client, lease).await;
            lent.done();
        }
    }
}

/// A text as the server can store it, which has no null characters. For texts that are shown, not compared.
fn stored(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// A key as it is read.
fn key_text(key: Vec<u8>) -> String {
    String::from_utf8(key).unwrap_or_else(|bad| String::from_utf8_lossy(bad.as_bytes()).into_owned())
}
