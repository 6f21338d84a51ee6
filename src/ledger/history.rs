//! The history: queries about runs, groups, and what was sent to them.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::kept_requests::KeptRequests;
use super::{ChangeOutcome, RunStatus};
use crate::error::Result;
use crate::model::{Change, Document};

/// Queries about a ledger. The newest comes first, groups come in key order.
#[async_trait]
pub trait History: Send + Sync {
    /// The latest runs of one sync or of all, before the run `before` if given, at most `count`.
    async fn runs(&self, sync: Option<&str>, before: Option<&str>, count: u64) -> Result<Vec<RunRecord>>;

    /// One run with its detail ([`RunCheckpoint::detail`](super::RunCheckpoint::detail), empty while it is running).
    async fn run(&self, run: &str) -> Result<Option<(RunRecord, String)>>;

    /// The latest runs of a sync with their details, at most `count`.
    async fn runs_with_details(&self, sync: &str, count: u64) -> Result<Vec<(RunRecord, String)>>;

    /// The latest runs of every sync, at most `each` of one: one query instead of one per sync.
    async fn latest_runs(&self, each: u64) -> Result<BTreeMap<String, Vec<RunRecord>>>;

    /// The latest runs of a sync that were not partial, at most `count`: what a schedule goes by.
    async fn whole_runs(&self, sync: &str, count: u64) -> Result<Vec<RunRecord>>;

    /// Every run that is recorded as running, the oldest first: the order to fold them in.
    async fn unfinished_runs(&self) -> Result<Vec<RunRecord>>;

    /// When the last successful run of a sync ended. Runs are in the order of their ids: a clock that was ahead once has
    /// left a later time.
    async fn last_success(&self, sync: &str) -> Result<Option<DateTime<Utc>>>;

    /// When the last successful run of every sync ended.
    async fn last_successes(&self) -> Result<BTreeMap<String, DateTime<Utc>>>;

    /// The last successful run of a sync, and the attempts since: what a schedule still owes.
    async fn since_success(&self, sync: &str) -> Result<SinceSuccess>;

    /// How many groups of a sync are synced, unconfirmed, rejected.
    async fn group_counts(&self, sync: &str) -> Result<GroupCounts>;

    /// The same of every sync that has a group.
    async fn all_group_counts(&self) -> Result<BTreeMap<String, GroupCounts>>;

    /// The synced state of a group, if there is any.
    async fn group(&self, sync: &str, key: &str) -> Result<Option<SyncedGroup>>;

    /// Groups of a sync after the group `after`, if given: at most `count`, fewer where documents are large, none only after
    /// the last.
    async fn groups(&self, sync: &str, after: Option<&str>, count: u64) -> Result<Vec<SyncedGroup>>;

    /// Rejected groups of a sync after the group `after`, if given, at most `count`.
    async fn rejected(&self, sync: &str, after: Option<&str>, count: u64) -> Result<Vec<SyncedGroup>>;

    /// Rejected groups of every sync, at most `each` of one.
    async fn all_rejected(&self, each: u64) -> Result<BTreeMap<String, Vec<SyncedGroup>>>;

    /// The keys of groups that are unconfirmed or rejected, at most `count`, in any order: what is compared whether or not its row
    /// changed.
    async fn unconfirmed_or_rejected(&self, sync: &str, count: u64) -> Result<Vec<String>>;

    /// What was sent to a group before the sequence `before`, if given, at most `count`.
    async fn group_history(&self, sync: &str, key: &str, before: Option<u64>, count: u64) -> Result<Vec<HistoryEntry>>;

    /// What a run sent, in the order in which it was recorded: groups with their outcomes, from position `from`, at most
    /// `count`; of one outcome or of all. What only confirmed the synced state is not kept.
    async fn changes(
        &self,
        run: &str,
        outcome: Option<ChangeOutcome>,
        from: u64,
        count: u64,
    ) -> Result<Vec<ChangeRecord>>;

    /// The last requests of groups that were not delivered; none where no place for them is.
    fn kept_requests(&self) -> Option<&KeptRequests> {
        None
    }
}

/// A recorded run.
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
    pub status: RunStatus,
    /// Every count, as JSON; empty for a run that crashed.
    pub counts: String,
    /// Why it failed, when it did.
    pub error: Option<String>,
    /// What must be the same for a cursor to count: [`RunStart::mapping`](super::RunStart::mapping).
    pub mapping: String,
    /// Who or what started it; empty for runs recorded before that was kept.
    pub started_by: String,
    /// Whether it covered only a part of the model.
    pub partial: bool,
    /// The failure's kind, by name.
    pub error_kind: Option<String>,
    /// The guard that stopped it, by name.
    pub guard: Option<String>,
}

/// The last successful run that was not partial, and the attempts since.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SinceSuccess {
    /// That run, if there is one.
    pub success: Option<RunRecord>,
    /// When the first attempt after it began; without one, the first recorded one.
    pub attempted_at: Option<DateTime<Utc>>,
    /// When the latest attempt after it ended.
    pub failed_at: Option<DateTime<Utc>>,
}

/// One entry of a group's history.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryEntry {
    /// The journal sequence.
    pub seq: u64,
    /// The run that sent it.
    pub run: String,
    /// When its outcome was recorded.
    pub at: DateTime<Utc>,
    /// What was sent.
    pub change: Change,
    /// The outcome, by name.
    pub outcome: String,
    /// The error message.
    pub reason: Option<String>,
}

/// What one run sent to one group.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangeRecord {
    /// The group's id.
    pub key: String,
    /// What was recorded.
    pub entry: HistoryEntry,
}

/// The synced state of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct SyncedGroup {
    /// The group's id.
    pub key: String,
    /// The synced document: what the destination acknowledged last.
    pub document: Document,
    /// The run that last sent it without learning the outcome.
    pub unconfirmed_in: Option<String>,
    /// The document that was rejected last, and why, until its row changes.
    pub rejected: Option<(Document, String)>,
    /// When this was recorded.
    pub at: DateTime<Utc>,
    /// The fingerprint of the row that was compared last.
    pub fingerprint: Option<u64>,
    /// Traits that were sent while it is unconfirmed, in order of their names.
    pub attempted: Vec<String>,
    /// The journal sequence of the last delivery; 0 without one.
    pub settled_seq: u64,
    /// What of it cannot be read, when the ledger is damaged there: a document that cannot be read is empty here.
    pub unreadable: Option<String>,
}

/// How many groups of a sync the ledger has, by state.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct GroupCounts {
    /// Groups that the destination holds: delivered, or adopted. One that was only ever rejected, or sent without a response,
    /// is not among them.
    pub synced: u64,
    /// Groups whose state at the destination is unconfirmed, delivered before or not.
    pub unconfirmed: u64,
    /// Groups that were rejected and did not change since, delivered before or not.
    pub rejected: u64,
}

impl GroupCounts {
    /// Whether no group was delivered, may have been, or was rejected.
    pub fn is_empty(&self) -> bool {
        self.synced + self.unconfirmed + self.rejected == 0
    }
}
