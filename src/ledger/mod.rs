//! The ledger: the synced state of every destination, the comparison that finds what differs from it, and the journal of
//! every change.
//!
//! # The protocol
//!
//! 1. [`Ledger::begin`] folds what an earlier, crashed run of the same sync left behind, then records a new run.
//! 2. [`Ledger::compare`] takes the source's rows, read in one snapshot, and finds the *candidates*: rows whose
//!    fingerprint differs from the synced one, rows never seen, unconfirmed groups, and synced groups that left the model.
//!    SQL may find too many candidates, never too few; `model::delta` decides.
//! 3. For each page of candidates: [`Ledger::page`], then [`Ledger::mark`] for those about which something will be sent
//!    — durable before the first byte is sent — and [`Ledger::record`] for each batch as its response arrives.
//! 4. [`Ledger::finish`] folds the run into the synced state and writes its checkpoint, in one transaction.
//!
//! # Marks
//!
//! A *mark* means that this run is about to send this group, and does not know the outcome yet. Marks are appended, never
//! updated in place, and folded into `unconfirmed_in`, where an older mark is kept. A marked group without a recorded
//! outcome, or with the outcome *unknown*, is unconfirmed: its destination may hold the synced document or what was
//! attempted, so the next run resends it in full. *Not sent* is certain too — no byte left — and leaves the group as
//! confirmed as it was. A run therefore reads `unconfirmed_in IS NULL` as "confirmed when this run began": its own marks
//! are not in that column yet.
//!
//! An unconfirmed group also remembers which traits were *attempted*: all that the marking runs' mappings name. The
//! mapping may have been edited since, and a trait that only the lost request contained must still be seen, so that it
//! can be unset. [`Candidate::synced`] shows such traits as `model::document::unconfirmed`.
//!
//! # The synced state
//!
//! | outcome | document | fingerprint | unconfirmed | rejected |
//! |---|---|---|---|---|
//! | delivered, same, adopted | the new one | the new one | no | no |
//! | rejected | kept | the new one: no candidate again until it changes | as before (yes, if a part was applied) | yes |
//! | not sent | kept | kept | as before | as before |
//! | unknown | kept | kept | yes | no |
//!
//! A stored document that cannot be read makes its own group unconfirmed, by name, and no other: the group is resent in
//! full, and what is then acknowledged replaces the document. Queries report it, and never show an empty document instead.
//!
//! # The three faces
//!
//! [`Ledger`] is the protocol; [`Ledger::history`] answers queries ([`History`]), [`Ledger::kv`] keeps small texts
//! ([`KeyValue`]), and [`Ledger::storage`] looks after the place where all of it is kept ([`Storage`]). Where several processes
//! use it at a time, [`Ledger::shared`] is what they know of each other ([`SharedState`]). Beside it, and none
//! of its state, are the [kept requests](kept_requests).
//!
//! A new kind of ledger is a folder beside [`duckdb`] and [`postgres`], a constructor in `open`, and a row in the conformance suite
//! (`tests/it/ledger.rs`), whose executable specification is a ledger in memory.

mod comparison;
pub mod duckdb;
pub mod file_error;
mod history;
mod import;
mod journal;
pub mod kept_requests;
pub mod kv;
pub mod mirror;
mod open;
pub mod postgres;
mod run;
pub mod shared;
mod storage;

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::error::Result;

pub use comparison::{
    Candidate, CandidateKind, CompareOptions, Comparison, DUPLICATE_EXAMPLES_MAX, KEY_EXAMPLES_MAX, MissingScope,
    SourceRows, with_attempted,
};
pub use history::{ChangeRecord, GroupCounts, History, HistoryEntry, RunRecord, SinceSuccess, SyncedGroup};
pub use import::ImportedGroups;
pub use journal::{ChangeOutcome, JournalEntry};
pub use kv::KeyValue;
pub use open::{
    Retention, backup, in_memory, open, open_in_postgres, open_in_postgres_read_only, open_read_only, plans_beside,
    postgres_backup_error,
};
pub use run::{Cursor, PreviousRun, RunCheckpoint, RunStart, RunStatus};
pub use shared::SharedState;
pub use storage::{BackupSummary, OUTDATED_ADVICE, Storage};

/// What a connection may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everything.
    ReadWrite,
    /// Queries and plans: what a plan folds and compares leaves the ledger as it is.
    ReadOnly,
}

/// One connection to a ledger: the protocol of a run. One run of a sync at a time; the caller sees to that.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Folds runs of this sync that crashed, and records the new one as running.
    ///
    /// Afterwards every synced document is confirmed, or marked with the run that left it unconfirmed.
    async fn begin(&self, start: &RunStart) -> Result<PreviousRun>;

    /// Finds the candidates among the rows and keeps them for [`Ledger::page`]. Writes nothing that lasts.
    ///
    /// Every row that differs from its group's synced document is a candidate, unless its key is invalid: rows with a
    /// null, empty or duplicate key are counted and left out. After it returns the source is no longer needed.
    async fn compare(&self, sync: &str, rows: SourceRows<'_>, options: &CompareOptions) -> Result<Comparison>;

    /// The synced state of a sync in one short text, as far as a comparison depends on it: while it is equal, the same rows
    /// give the same result. `None` where it cannot say.
    async fn synced_summary(&self, _sync: &str) -> Result<Option<String>> {
        Ok(None)
    }

    /// The candidates from position `from` (0 for the first), at most `count`. Each appears once over all pages.
    async fn page(&self, from: u64, count: u64) -> Result<Vec<Candidate>>;

    /// Marks these groups: the run is about to send them. Durable when it returns. Nothing of a group may be sent before.
    async fn mark(&self, sync: &str, run: &str, keys: Vec<String>) -> Result<()>;

    /// Records outcomes. Durable when it returns. At most one entry per group and run.
    async fn record(&self, sync: &str, run: &str, at: DateTime<Utc>, entries: Vec<JournalEntry>) -> Result<()>;

    /// Folds the run into the synced state and writes its checkpoint, in one transaction.
    async fn finish(&self, sync: &str, run: &str, checkpoint: RunCheckpoint) -> Result<()>;

    /// Records that an unfinished run crashed, and folds what it left, as the next run of the sync would. Nothing happens
    /// to a run that has ended.
    async fn mark_crashed(&self, record: &RunRecord, at: DateTime<Utc>, error: &str, kind: &str) -> Result<()>;

    /// Makes the next run resend everything, of all groups of a sync or of these. Synced documents stay, unconfirmed
    /// under `mark`, so that removals are sent too; with `forget` they are dropped instead, as if nothing had ever been
    /// sent. Cursors of earlier runs no longer count: an incremental run would not read old rows. Returns the number of
    /// groups concerned.
    async fn reset(&self, sync: &str, keys: Option<&[String]>, mark: &str, forget: bool) -> Result<u64>;

    /// Gives everything recorded of the sync `from` to `to`, which has no groups: its mapping file has another name now. The
    /// next run of `to` compares with what `from` has sent. Returns the number of groups.
    async fn rename(&self, from: &str, to: &str) -> Result<u64>;

    /// Imports the groups of a sync from another ledger, in one transaction: a run that comes next sends what it would
    /// have sent there. A sync that has groups, or a run that has not ended, is refused, unless it is to `replace` those.
    /// Cursors of earlier runs no longer count. Returns the number of groups.
    async fn import(&self, sync: &str, groups: ImportedGroups, replace: bool) -> Result<u64>;

    /// Drops everything recorded of a sync: its groups, their history, its runs. Returns the number of groups.
    async fn drop_sync(&self, sync: &str) -> Result<u64>;

    /// Queries about runs, groups and the journal.
    fn history(&self) -> &dyn History;

    /// Small texts that must survive a restart.
    fn kv(&self) -> &dyn KeyValue;

    /// The place where the ledger is kept.
    fn storage(&self) -> &dyn Storage;

    /// What processes that use it at the same time know of each other; none where one process has it.
    fn shared(&self) -> Option<&dyn SharedState> {
        None
    }

    /// Another connection to the same ledger, for work beside this connection's: the candidates of a run belong to its
    /// connection, everything that lasts is shared. A plan over a read-only connection takes an unfinished run of its sync
    /// for one that crashed; the caller excludes that.
    fn connect(&self, access: Access) -> Result<Arc<dyn Ledger>>;
}
