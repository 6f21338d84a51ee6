//! The shared state: what processes that use one ledger at the same time know of each other. Only a ledger in a database has
//! one; a file belongs to one process.
//!
//! What a process does alone it has a *lease* of: a sync while it runs, its own name as a daemon. Leases expire, and every
//! transaction that writes checks its lease, so that a process which was frozen or cut off writes nothing more once another
//! one has taken its lease.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::sync::watch;

use crate::error::Result;

/// The lease of a sync.
pub fn sync_lease(sync: &str) -> String {
    format!("sync/{sync}")
}

/// The lease of a daemon's name.
pub fn daemon_lease(name: &str) -> String {
    format!("daemon/{name}")
}

/// A lease that this process has. It is given back when the last copy of the claim is dropped.
pub type Claim = Arc<dyn Lease>;

/// What the holder of a lease reports of itself, as JSON. It is called by the thread that extends leases, and must not wait.
pub type LeaseReport = Box<dyn Fn() -> String + Send + Sync>;

/// What is known of a lease that this process has, without looking.
pub trait Lease: Send + Sync {
    /// Whether another process has taken it meanwhile. It does not come back.
    fn is_lost(&self) -> bool;

    /// Whether a request may be sent now under this lease: by this machine's clocks it has not expired.
    fn may_send(&self) -> bool;

    /// From now on the lease's detail is replaced by this report whenever the lease is extended, by the same statement.
    fn report_by(&self, report: LeaseReport);

    /// What another process wants of this one, as of the last extension of the lease.
    fn requests(&self) -> watch::Receiver<Option<String>>;
}

/// The leases of this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeaseCounts {
    /// Those that it has.
    pub held: u64,
    /// Those that other processes have taken from it since it started.
    pub lost: u64,
}

/// A lease as every process sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRecord {
    /// What it is for: [`sync_lease`], [`daemon_lease`].
    pub name: String,
    /// The process that has or had it, for people.
    pub holder: String,
    /// Whether that process still has it: another one cannot take it now.
    pub is_held: bool,
    /// Whether it is this process's.
    pub is_own: bool,
    /// Since when.
    pub since: DateTime<Utc>,
    /// What the holder reports of itself, as JSON.
    pub detail: String,
    /// What another process wants of the holder.
    pub request: Option<String>,
}

/// What processes that use one ledger at the same time know of each other.
#[async_trait]
pub trait SharedState: Send + Sync {
    /// Takes a lease, or another copy of one that this process has. `attempt` is how long after its beginning a request of the
    /// holder may still arrive: the next one to take the lease after it has expired waits for so long, because a request
    /// cannot be called back.
    ///
    /// Errors: [`Kind::LedgerBusy`](crate::error::Kind::LedgerBusy), another process has it.
    async fn claim(&self, lease: &str, attempt: Duration, detail: &str) -> Result<Claim>;

    /// Replaces what this process reports of a lease that it has.
    async fn describe(&self, lease: &str, detail: &str) -> Result<()>;

    /// Every lease that a process has, or had when it ended without giving it back.
    async fn leases(&self) -> Result<Vec<LeaseRecord>>;

    /// Lets the holder of a lease know what is wanted of it. False where no process has it.
    async fn request(&self, lease: &str, request: &str) -> Result<bool>;

    /// Keeps a note in place of the `expected` one, if it still is that one. Returns whether it was.
    async fn replace_note(&self, name: &str, expected: Option<&str>, text: &str) -> Result<bool>;

    /// How many leases this process has, and has lost.
    fn lease_counts(&self) -> LeaseCounts;

    /// How long a lease lasts that is not extended.
    fn lease_lasts(&self) -> Duration;
}
