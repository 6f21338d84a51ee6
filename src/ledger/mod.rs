//! The ledger: the synced state of every destination, the comparison that finds what differs from it, and the journal of
//! every change.
//!
//! # The protocol
//!
//! 1. [`Ledger::begin`] folds whatever an earlier, crashed run of the same sync left behind, then records a new run.
//! 2. [`Ledger::compare`] takes the source's rows, read in one snapshot, and finds the *candidates*: rows whose
//!    fingerprint differs from the synced one, rows never seen, unconfirmed groups, and synced groups that left the model.
//!    SQL may find too many candidates, never too few; `model::delta` decides.
//! 3. For each page of candidates: [`Ledger::page`], then [`Ledger::mark`] for those about which something will be sent
//!    — durable before the first byte is sent — and [`Ledger::record`] for each batch as its response arrives.
//! 4. [`Ledger::finish`] folds the run into the synced state and writes its checkpoint, in one transaction.
//!
//! # Marks
//!
//! A *mark* says: this run is about to send this group, and does not know the outcome yet. Marks are appended, never
//! updated in place, and folded into `unconfirmed_in`, where an older mark is kept. A marked group without a recorded
//! outcome, or with the outcome *unknown*, is unconfirmed: its destination may hold the synced document or what was
//! attempted, so the next run resends it in full. *Not sent* is certain too — no byte left — and leaves the group as
//! confirmed as it was. A run therefore reads `unconfirmed_in IS NULL` as "confirmed when this run began": its own marks
//! are not in that column yet.
//!
//! An unconfirmed group also remembers which traits were *attempted*: all that the marking runs' mappings name. The
//! mapping may have been edited since, and a trait that only the lost request contained must still be seen, so that it
//! can be unset. [`Candidate::synced`] shows such traits as `model::document::unsure`.
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
//! ([`KeyValue`]), and [`Ledger::storage`] looks after the place where all of it is kept ([`Storage`]).
//!
//! A new kind of ledger is a folder beside [`duckdb`], a branch in [`open`](mod@open), and a row in the conformance suite
//! (`tests/it/ledger.rs`), whose executable specification is a ledger in memory.

mod comparison;
pub mod duckdb;
pub mod file_error;
mod history;
mod journal;
mod kv;
mod open;
mod run;
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
pub use journal::{ChangeOutcome, JournalEntry};
pub use kv::KeyValue;
pub use open::{Retention, backup, open, open_read_only};
pub use run::{PreviousRun, RunCheckpoint, RunStart, RunStatus};
pub use storage::{BackupSummary, OUTDATED_ADVICE, Storage};

/// The rows of a run, as a source handed them over.
pub enum Incoming<'a> {
    /// Within reach of the local ledger's DuckDB connection.
    Staged(&'a Staged),
    /// In memory: key and cells of each row.
    Rows(&'a [(Option<String>, Vec<Cell>)]),
}

/// What a comparison looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Mixed into every fingerprint: the mapping's own, so that an edited mapping makes every row a suspect once.
    pub salt: String,
    /// Which known groups may be found missing.
    pub missing: Missing,
    /// Whether rejected groups are suspects although they did not change.
    pub retry_rejected: bool,
    /// Whether a group that is only missing is a suspect (its policy is to unset or delete), or merely counted.
    pub act_on_missing: bool,
}

/// Which known groups a comparison may find missing from the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// All of them: the rows are the whole model.
    All,
    /// Only this one: the rows are this group.
    Only(String),
    /// None: the rows are what changed lately.
    None,
}

/// What a comparison found. Rows are source rows; groups are known groups.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Comparison {
    /// Rows read.
    pub rows: u64,
    /// Rows without a key.
    pub null_keys: u64,
    /// Rows whose key is the empty text.
    pub empty_keys: u64,
    /// Rows that share their key with another one.
    pub duplicate_rows: u64,
    /// Some of the keys that several rows share.
    pub duplicate_examples: Vec<String>,
    /// Groups that the destination holds, or may hold, before this run: all on record but those that were only ever refused.
    pub known: u64,
    /// Suspects that were never known.
    pub new: u64,
    /// Suspects that are known.
    pub changed: u64,
    /// Known groups that are not among the rows.
    pub missing: u64,
    /// Some of their keys, and some of those that were never known, where there are both.
    #[serde(default)]
    pub missing_examples: Vec<String>,
    /// Keys of new groups, likewise.
    #[serde(default)]
    pub new_examples: Vec<String>,
    /// Suspects among the missing.
    pub missing_candidates: u64,
    /// Those of them that the destination holds, or may hold: what a removal takes away.
    #[serde(default)]
    pub removable: u64,
    /// Rows rejected earlier that did not change: held back.
    pub held: u64,
    /// Rows that equal what is known.
    pub unchanged: u64,
}

impl Comparison {
    /// Rows that cannot be synced because of their key.
    pub fn invalid_keys(&self) -> u64 {
        self.null_keys + self.empty_keys + self.duplicate_rows
    }

    /// All suspects.
    pub fn candidates(&self) -> u64 {
        self.new + self.changed + self.missing_candidates
    }
}

/// Why a group is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everything.
    ReadWrite,
    /// Queries and plans: what a plan folds and compares leaves the ledger as it is.
    ReadOnly,
}

/// A group that may differ from what is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The group's id.
    pub key: String,
    /// Why it is looked at.
    pub kind: CandidateKind,
    /// The row, in the projection's order; empty for a missing group.
    pub cells: Vec<Cell>,
    /// The bytes of the row's cells, where they are too many to be read; then the cells are null.
    pub oversize: Option<u64>,
    /// The row's fingerprint; `None` for a missing group.
    pub fingerprint: Option<u64>,
    /// The known document; empty for a new group. Attempted traits it lacks are there as `model::document::unsure`.
    pub known: Document,
    /// Whether the known document was certain when the run began.
    pub certain: bool,
    /// The journal sequence at which the group was last settled; 0 for never.
    pub settled_seq: u64,
    /// The document that was rejected and why, when the group's last word is a rejection.
    pub rejected: Option<(Document, String)>,
    /// What of it cannot be read, when the ledger is damaged there. The group is then not certain.
    pub unreadable: Option<String>,
}

/// A known document with the traits that were attempted and whose values nobody knows.
fn with_attempted<'a>(mut known: Document, attempted: impl IntoIterator<Item = &'a String>) -> Document {
    for name in attempted {
        known.0.entry(name.clone()).or_insert_with(document::unsure);
    }
    known
}

/// What became of one suspect.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    strum::EnumString,
    strum::IntoStaticStr,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Outcome {
    /// Nothing had to be said.
    Same,
    /// Taken as held by the destination without saying it.
    Adopted,
    /// Acknowledged.
    Delivered,
    /// Refused, by the destination or before sending; nothing of it was applied.
    Rejected,
    /// Refused after a part of it had been applied.
    PartlyRejected,
    /// Certainly not applied.
    NotSent,
    /// Perhaps applied.
    Unknown,
}

impl Outcome {
    /// The outcome of this name.
    pub fn from_name(name: &str) -> Option<Outcome> {
        name.parse().ok()
    }

    /// The name in the journal.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The group's id.
    pub key: String,
    /// What was said, or would have been; shared with what was delivered.
    pub change: Arc<Change>,
    /// What the destination holds once this is delivered; `None` when the group is then forgotten. For a rejection: the
    /// document that was refused.
    pub document: Option<After>,
    /// The row's fingerprint; `None` for a missing group.
    pub fingerprint: Option<u64>,
    /// What became of it.
    pub outcome: Outcome,
    /// The destination's words, or ours.
    pub reason: Option<String>,
}

/// A run that begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunStart {
    /// The sync's name.
    pub sync: String,
    /// The run's id; ids of later runs sort after it.
    pub run: String,
    /// What the run is about, as one text: the mapping's fingerprint and whatever else must be the same for a cursor to
    /// go on. The ledger only compares it.
    pub mapping: String,
    /// The mapping's traits: what the run may speak about.
    pub traits: Vec<String>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// Who or what started it: a word for people.
    pub started_by: String,
    /// Whether it looks at a part only (one group, the first so many changes): none of a schedule's runs.
    pub partial: bool,
}

/// How a run ended.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    strum::EnumString,
    strum::IntoStaticStr,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Status {
    /// Not yet.
    Running,
    /// Everything that differed was delivered.
    Delivered,
    /// It ended by itself; some groups were rejected.
    SomeRejected,
    /// It ended by itself or was stopped before everything was said; the rest is said by the next run.
    Incomplete,
    /// A guard stopped it before the first byte.
    Guarded,
    /// It failed.
    Failed,
    /// The process died; the next run folded what it left.
    Died,
}

impl Status {
    /// The name in the `runs` table and in `--json`.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The status of this name.
    pub fn from_name(name: &str) -> Option<Status> {
        name.parse().ok()
    }
}

/// The record of a finished run.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// How it ended.
    pub status: Status,
    /// When.
    pub ended_at: DateTime<Utc>,
    /// Every count, as JSON.
    pub counts: String,
    /// Rows the source yielded, when all were read: what the next run's drop guard compares with.
    pub rows: Option<u64>,
    /// Where incremental reading may go on, when it may.
    pub cursor: Option<String>,
    /// Whether the whole model was read.
    pub full: bool,
    /// Why it failed, when it did.
    pub error: Option<String>,
    /// The failure's kind, by name.
    pub error_kind: Option<String>,
    /// What the record tells beyond its counts, as JSON. The ledger only keeps it.
    pub detail: String,
}

/// A run as it is remembered.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRecord {
    /// The sync's name.
    pub sync: String,
    /// The run's id.
    pub run: String,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended, if it did.
    pub ended_at: Option<DateTime<Utc>>,
    /// How it ended.
    pub status: Status,
    /// Every count, as JSON; empty for a run that died.
    pub counts: String,
    /// Why it failed, when it did.
    pub error: Option<String>,
    /// What it was about: [`RunStart::mapping`].
    pub mapping: String,
    /// Who or what started it; empty for runs recorded before that was kept.
    pub started_by: String,
    /// Whether it looked at a part only.
    pub partial: bool,
    /// The failure's kind, by name.
    pub error_kind: Option<String>,
}

/// What earlier runs left for the next one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Begun {
    /// Runs that had died and were folded.
    pub recovered: Vec<String>,
    /// The cursor of the last run that moved it, with the same mapping.
    pub cursor: Option<String>,
    /// When the whole model was last read to the end with the same mapping.
    pub full_read_at: Option<DateTime<Utc>>,
    /// Rows of the last run that read the whole model.
    pub rows: Option<u64>,
}

/// One line of a group's history.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryEntry {
    /// The journal sequence.
    pub seq: u64,
    /// The run that said it.
    pub run: String,
    /// When its outcome was recorded.
    pub at: DateTime<Utc>,
    /// What was said.
    pub change: Change,
    /// What became of it.
    pub outcome: String,
    /// The destination's words.
    pub reason: Option<String>,
}

/// What one run said about one group.
#[derive(Debug, Clone, PartialEq)]
pub struct SaidGroup {
    /// The group's id.
    pub key: String,
    /// What was recorded.
    pub entry: HistoryEntry,
}

/// A group as it is known.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownGroup {
    /// The group's id.
    pub key: String,
    /// The document the destination is known to hold.
    pub document: Document,
    /// The run that last spoke about it without learning the outcome.
    pub unconfirmed_in: Option<String>,
    /// The document that was refused, and why, when that is the last word.
    pub rejected: Option<(Document, String)>,
    /// When this was recorded.
    pub at: DateTime<Utc>,
    /// What of it cannot be read, when the ledger is damaged there: a document that cannot be read is empty here.
    pub unreadable: Option<String>,
}

/// How the ledger stands for one sync.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct GroupCounts {
    /// Groups that the destination is known to hold: delivered, or adopted. One that was only ever rejected, or sent without
    /// learning what became of it, is not among them.
    pub known: u64,
    /// Groups whose state at the destination is uncertain, delivered before or not.
    pub unconfirmed: u64,
    /// Groups whose last word is a rejection, delivered before or not.
    pub rejected: u64,
}

impl GroupCounts {
    /// Whether there is nothing on record: no group that was delivered, may have been, or was refused.
    pub fn is_empty(&self) -> bool {
        self.known + self.unconfirmed + self.rejected == 0
    }
}

/// Where comparison happens and knowledge is kept. One run of a sync at a time; the caller sees to that.
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

    /// Queries about runs, groups and the journal.
    fn history(&self) -> &dyn History;

    /// Small texts that must survive a restart.
    fn kv(&self) -> &dyn KeyValue;

    /// The place where the ledger is kept.
    fn storage(&self) -> &dyn Storage;

    /// Another connection to the same ledger, for work beside this connection's: the candidates of a run belong to its
    /// connection, everything that lasts is shared. A plan over a read-only connection takes an unfinished run of its sync
    /// for one that crashed; the caller sees to it that there is none.
    fn connect(&self, access: Access) -> Result<Arc<dyn Ledger>>;
}
