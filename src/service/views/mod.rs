//! The views of syncs, runs and groups: one shape for `--json`, the HTTP API and the console. [`build`] makes them from the
//! ledger's records.
//!
//! Every type can be read back, because the command line gets them from the process that has the ledger open. Times are
//! UTC; shares go from 0 to 1. Nothing here holds a setting of a source or destination, so no secret can come along.

pub mod build;
pub mod destination;
pub mod words;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::destination::{DeliveryLimits, DestinationRun, DestinationView, Traffic};
use crate::destination::DestinationSeal;
pub use crate::io::http::exchange::{Excerpt, Exchange, HttpHeader};
use crate::ledger::{ChangeOutcome, Comparison, GroupCounts, RunStatus};
use crate::mapping::Compare;
use crate::model::{Change, Traits};
use crate::sync::RunOptions;
use crate::sync::planned::ChangeFilter;
pub use crate::sync::planned::{PlannedChange, TraitExample, TraitSummary};
use crate::sync::report::{Counts, Detail};
pub use crate::sync::requests::RequestView;

/// A sync with its groups by state, its schedule and its last run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SyncView {
    /// Its name.
    pub sync: String,
    /// The source's name.
    pub source: String,
    /// The destination's name.
    pub destination: String,
    /// The destination's type: `amplitude`, `file`.
    pub destination_type: String,
    /// The group type at the destination.
    pub group_type: String,
    /// Whether schedules run it.
    pub enabled: bool,
    /// Its tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Known, unconfirmed and rejected groups.
    pub groups: GroupCounts,
    /// When it runs.
    pub schedule: Option<ScheduleView>,
    /// The last run.
    pub last_run: Option<RunView>,
    /// When the last successful run ended: everything was delivered, or all but some rejected groups.
    pub last_success_at: Option<DateTime<Utc>>,
    /// `warehouse` where its warehouse is to compare; absent where rows are compared on this machine.
    #[serde(default, skip_serializing_if = "is_local")]
    #[schemars(with = "String", extend("enum" = ["local", "warehouse"]))]
    pub compare: Compare,
    /// What its warehouse compares with; absent where there is no mirror.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<MirrorView>,
    /// What the daemon does about it; without a daemon, the run that a command has under way. Absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity: Option<SyncActivity>,
}

fn is_local(compare: &Compare) -> bool {
    *compare == Compare::Local
}

/// The mirror of a sync: keys and fingerprints in its warehouse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct MirrorView {
    /// Its table, without the schema.
    pub table: String,
    /// The schema of its table.
    #[serde(default)]
    pub schema: String,
    /// Keys that it holds.
    pub keys: u64,
    /// Rows of the table; those that do not count any more go with a compaction.
    pub rows: u64,
    /// Keys that the next run compares in any case.
    pub unmirrored: u64,
    /// When it was made.
    pub made_at: DateTime<Utc>,
    /// Why it was made then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when it is behind: there are keys that the next run compares in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind_since: Option<DateTime<Utc>>,
}

/// When a sync runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ScheduleView {
    /// The schedule as a person wrote it: `0 2 * * *`, `every 45m`, `after accounts`.
    pub expression: String,
    /// The time zone in which it is read.
    pub timezone: String,
    /// The oldest scheduled time since the last success that no run has served: since when a run is overdue.
    pub overdue_since: Option<DateTime<Utc>>,
    /// The next times; empty for a sync that follows another one.
    pub next: Vec<ScheduledTime>,
}

/// A time at which a sync will run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ScheduledTime {
    /// With the offset of the schedule's zone.
    pub local: String,
    /// In UTC.
    pub utc: DateTime<Utc>,
}

/// What the daemon does about a sync.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SyncActivity {
    /// The state.
    pub state: ActivityState,
    /// The run under way.
    pub running: Option<RunProgress>,
    /// The queued run.
    pub queued: Option<QueuedRunView>,
    /// Since when it is paused.
    pub paused_since: Option<DateTime<Utc>>,
    /// Failed runs in a row.
    pub failures: u32,
    /// After failures: not before this is it tried again by itself.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// The daemon or command that has the run under way, where it is another one than the daemon that says this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
}

/// A daemon that uses the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DaemonView {
    /// Its name.
    pub name: String,
    /// Its process, and the machine that this is on.
    pub process: String,
    /// Its program's version.
    pub version: String,
    /// When it started.
    pub since: DateTime<Utc>,
    /// Whether it starts no more runs, and ends with those it has.
    pub draining: bool,
    /// The syncs that it runs now.
    pub running: Vec<String>,
}

/// The state of a sync in the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActivityState {
    /// A run is under way.
    Running,
    /// A run begins as soon as there is room.
    Queued,
    /// Only manual runs start.
    Paused,
    /// The last runs failed; the next try has a time.
    BackingOff,
    /// Waits for its schedule.
    Scheduled,
    /// It has no schedule: only manual runs start.
    Manual,
    /// Its mapping has `enabled = false`.
    Disabled,
}

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RunProgress {
    /// The run's id.
    pub run: String,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// Who or what started it.
    pub started_by: String,
    /// `queued`, `starting`, `reading`, `sending`, `stopping`.
    #[schemars(extend("enum" = ["queued", "starting", "reading", "sending", "stopping"]))]
    pub phase: String,
    /// Rows read so far.
    pub rows_read: u64,
    /// Candidates, once the comparison is done.
    pub candidates: Option<u64>,
    /// Those whose outcome is recorded.
    pub done: u64,
    /// Requests sent so far, repeats included.
    pub requests: u64,
    /// Repeats among them.
    pub retries: u64,
    /// Groups done per second of late, while it sends; none before that is known.
    #[serde(default)]
    pub per_second: Option<f64>,
}

/// A queued run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct QueuedRunView {
    /// The id it will have.
    pub run: String,
    /// Since when.
    pub since: DateTime<Utc>,
    /// What is requested of it.
    pub options: RunOptions,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RunView {
    /// The sync's name.
    pub sync: String,
    /// The run's id.
    pub run: String,
    /// Its status; `running` until it ends.
    pub status: RunStatus,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Who or what started it: `schedule`, `retry`, `api`, `console`, `command line`; empty where that is not known.
    #[serde(default)]
    pub started_by: String,
    /// Every count; none for a run that is in progress or crashed.
    pub counts: Option<Counts>,
    /// Why it failed or stopped.
    pub error: Option<String>,
    /// The failure's kind.
    #[serde(default)]
    pub error_kind: Option<String>,
    /// The guard that stopped it, by the name that `accept` takes.
    #[serde(default)]
    pub guard: Option<String>,
    /// The daemon or command that has it under way, where that is another process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
}

impl RunView {
    /// How long it took, once it has ended.
    pub fn seconds(&self) -> Option<f64> {
        let took = self.ended_at?.signed_duration_since(self.started_at);
        Some(took.num_milliseconds() as f64 / 1000.0)
    }
}

/// A run with its whole record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RunDetail {
    /// The run.
    pub run: RunView,
    /// The rest of its record; for a run that is in progress only its log, for one that crashed nothing.
    pub detail: Detail,
    /// How far it is, while it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<RunProgress>,
    /// Groups it could not deliver, the first few, with their error messages.
    pub rejected: Vec<ChangeView>,
}

/// What a run sent about one group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ChangeView {
    /// The group's id.
    pub key: String,
    /// When the outcome was recorded.
    pub at: DateTime<Utc>,
    /// What became of it: `delivered`, `rejected`, `partly_rejected`, `not_sent`, `unknown`, `adopted`.
    #[schemars(with = "ChangeOutcome")]
    pub outcome: String,
    /// The error message.
    pub reason: Option<String>,
    /// What was sent, or would have been.
    pub change: Change,
}

/// A sync with its mapping and the readings of its guards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SyncDetail {
    /// The sync.
    pub sync: SyncView,
    /// Its mapping.
    pub mapping: MappingView,
    /// The last run's record, for the guards' readings; none before the first run.
    pub last: Option<Detail>,
    /// The latest runs, the newest first.
    pub runs: Vec<RunView>,
}

/// A mapping, for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct MappingView {
    /// The mapping's file.
    pub file: String,
    /// The table, or the query's text.
    pub model: String,
    /// The condition rows must satisfy.
    pub filter: Option<String>,
    /// The column with the group's id.
    pub key: String,
    /// The cursor column of an incremental mapping.
    pub cursor: Option<String>,
    /// The traits, in the file's order.
    pub traits: Vec<TraitView>,
    /// The policy's settings by name: `on_null`, `on_missing`, `on_removed_trait`, `on_duplicate`.
    pub policy: BTreeMap<String, String>,
}

/// One trait of a mapping.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TraitView {
    /// Its name at the destination.
    pub name: String,
    /// What yields it: a column, a SQL expression, a constant, nested columns.
    pub from: String,
    /// The type it is sent as, when the mapping declares one.
    pub kind: Option<String>,
    /// `set`, `set_once`, `add`, `append`, `prepend`.
    #[schemars(extend("enum" = ["set", "set_once", "add", "append", "prepend"]))]
    pub op: String,
    /// What happens to null: its own policy, or the mapping's.
    pub on_null: String,
    /// Whether it is sent along with every change of its group.
    pub always: bool,
}

/// What a run would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PlanView {
    /// The sync's name.
    pub sync: String,
    /// Whether the whole model was read.
    pub full: bool,
    /// What the comparison found.
    pub comparison: Comparison,
    /// Groups to add.
    pub add: u64,
    /// Groups to change.
    pub change: u64,
    /// Groups to remove.
    pub remove: u64,
    /// Rows without a difference.
    pub unchanged: u64,
    /// Rows that cannot be sent, or were rejected earlier.
    pub rejected: u64,
    /// Those among them that were rejected earlier and did not change.
    pub rejected_unchanged: u64,
    /// Traits to set.
    pub traits_set: u64,
    /// Traits to unset.
    pub traits_unset: u64,
    /// The guard that would stop the run, as [`error`](crate::sync::report::error_json) objects are, with its name as `guard`.
    pub guard: Option<Value>,
    /// The first changes.
    pub changes: Vec<PlannedChange>,
    /// Changes beyond those.
    pub hidden: u64,
    /// What becomes of each trait, over all changes.
    #[serde(default)]
    pub traits: Vec<TraitSummary>,
    /// The fingerprint of the mapping that the plan was made with.
    #[serde(default)]
    pub mapping: String,
}

/// A sync that the ledger has groups of, and the config folder has no mapping for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct OrphanedSync {
    /// Its name.
    pub sync: String,
    /// Its groups by state.
    pub groups: GroupCounts,
    /// Where they were sent, as far as that is recorded.
    pub destination: Option<String>,
    /// As groups of which type.
    pub group_type: Option<String>,
    /// When its last run began.
    pub last_run_at: Option<DateTime<Utc>>,
    /// Syncs without a run so far that would send to the same groups: its mapping file may have got one of these names.
    pub renamed_to: Vec<String>,
}

/// A group as the ledger knows it: a line of `groupcast ledger export`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ExportedGroup {
    /// When this was recorded.
    pub at: DateTime<Utc>,
    /// Traits that were sent while it is unconfirmed: the destination may have them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempted: Vec<String>,
    /// The synced document; `null` where the ledger is damaged.
    pub document: Option<Traits>,
    /// The fingerprint of the row that was compared last, in decimal digits.
    #[serde(default)]
    pub fingerprint: Option<String>,
    /// The group's id.
    pub key: String,
    /// What was rejected, while the group is rejected.
    pub rejected: Option<ExportedRejection>,
    /// The journal sequence of the last delivery, of which dedup keys are made; 0 without one. Versions before 0.2 did not
    /// export it.
    #[serde(default)]
    pub seq: Option<u64>,
    /// The sync.
    pub sync: String,
    /// What of it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
    /// The run that last sent something about it without learning the outcome.
    pub unconfirmed_in: Option<String>,
}

/// What was rejected of a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ExportedRejection {
    /// The document; none where the ledger is damaged.
    pub document: Option<Traits>,
    /// Why.
    pub reason: String,
}

/// What is requested of a plan. As JSON, every key may be left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlanRequest {
    /// The options of the run that is planned.
    pub options: RunOptions,
    /// How many changes to show; all without it.
    pub show: Option<usize>,
    /// Whether to show the requests that a run would send.
    pub requests: bool,
    /// Which changes are shown and summed up; the counts are those of all.
    pub filter: ChangeFilter,
}

impl PlanRequest {
    /// A plan of which the first changes are shown.
    pub fn showing(options: RunOptions, changes: usize) -> PlanRequest {
        PlanRequest { options, show: Some(changes), ..PlanRequest::default() }
    }
}

/// A part of a plan that is being made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanPart {
    /// A group that a run would send something about.
    Change(Box<PlannedChange>),
    /// A request that it would send.
    Request(RequestView),
    /// Something a person should know about the ledger.
    Warning(String),
    /// The settings of the destination that the plan is made for.
    Destination(DestinationSeal),
}

/// What is known of one group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct GroupView {
    /// The sync's name.
    pub sync: String,
    /// The group's id.
    pub key: String,
    /// What it is called: the value of the mapping's `label`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Whether it is synced: the destination acknowledged it.
    pub synced: bool,
    /// The run that last sent it without a response.
    pub unconfirmed_in: Option<String>,
    /// The rejected document, while the group is rejected.
    pub rejected: Option<RejectedDocument>,
    /// Every trait with its value, and when it was last sent.
    pub traits: BTreeMap<String, SyncedTrait>,
    /// Its history, the latest first.
    pub history: Vec<HistoryView>,
    /// What of it the ledger cannot read, when it is damaged there; the traits are then not all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
}

/// A rejected document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RejectedDocument {
    /// The document.
    pub document: Traits,
    /// The error message.
    pub reason: String,
}

/// A trait as it is synced to the destination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SyncedTrait {
    /// Its value.
    pub value: Value,
    /// When it was last sent, as far as the history reaches.
    pub sent_at: Option<DateTime<Utc>>,
    /// By which run.
    pub run: Option<String>,
}

/// One line of a group's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HistoryView {
    /// The journal sequence.
    pub seq: u64,
    /// The run.
    pub run: String,
    /// When its outcome was recorded.
    pub at: DateTime<Utc>,
    /// What became of it.
    #[schemars(with = "ChangeOutcome")]
    pub outcome: String,
    /// The error message.
    pub reason: Option<String>,
    /// What was sent.
    pub change: Change,
}

/// A request that a group was in last, and its response: kept of groups that were not delivered, and of those that a run was
/// for alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct GroupRequestView {
    /// The run that sent it.
    pub run: String,
    /// What became of the group in that run.
    pub outcome: ChangeOutcome,
    /// When that was recorded.
    pub at: DateTime<Utc>,
    /// How many groups the request carried.
    pub groups: u64,
    /// What it carried of this group, where it carried others as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Excerpt>,
    /// The request and its response, secrets masked.
    pub exchange: Exchange,
}

/// A rejected group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RejectedView {
    /// The sync's name.
    pub sync: String,
    /// The group's id.
    pub key: String,
    /// What it is called: the value of the mapping's `label`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// When it was recorded.
    pub at: DateTime<Utc>,
    /// The error message.
    pub reason: String,
    /// The rejected document.
    pub document: Traits,
}
