//! The record of a run: how it begins, how it ends, and what it leaves for the next one.

use chrono::{DateTime, Utc};

/// A run that begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunStart {
    /// The sync's name.
    pub sync: String,
    /// The run's id; ids of later runs sort after it.
    pub run: String,
    /// What the run is about, as one text: the mapping's fingerprint and all else that must be the same for a cursor to
    /// go on. The ledger only compares it.
    pub mapping: String,
    /// The mapping's traits: what the run may send.
    pub traits: Vec<String>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// Who or what started it, for people.
    pub started_by: String,
    /// Whether it covers a part only (one group, the first so many changes): such a run serves no scheduled time.
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
pub enum RunStatus {
    /// Not yet started: it waits for its turn, and no ledger has it.
    Queued,
    /// Not yet ended.
    Running,
    /// Everything that differed was delivered.
    #[serde(alias = "delivered")]
    #[strum(to_string = "succeeded", serialize = "delivered")]
    Succeeded,
    /// Everything that differed was sent; some groups were rejected.
    #[serde(alias = "some_rejected")]
    #[strum(to_string = "succeeded_with_rejections", serialize = "some_rejected")]
    SucceededWithRejections,
    /// It ended by itself with changes pending; the next run sends them.
    Incomplete,
    /// A guard stopped it before the first byte.
    #[serde(alias = "guarded")]
    #[strum(to_string = "stopped_by_guard", serialize = "guarded")]
    StoppedByGuard,
    /// It failed.
    Failed,
    /// Its process ended without recording it; the next run folded what it left.
    #[serde(alias = "died")]
    #[strum(to_string = "crashed", serialize = "died")]
    Crashed,
    /// It was stopped on request; the next run sends what is pending.
    Cancelled,
}

impl RunStatus {
    /// The name in the `runs` table and in `--json`.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The status of this name.
    pub fn from_name(name: &str) -> Option<RunStatus> {
        name.parse().ok()
    }
}

/// Where an incremental run reads from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cursor {
    /// The greatest value of the cursor column so far, as text.
    At(String),
    /// The start: the whole model, because groups before the cursor are pending.
    ReadAll,
}

/// The record of a finished run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunCheckpoint {
    /// How it ended.
    pub status: RunStatus,
    /// When.
    pub ended_at: DateTime<Utc>,
    /// Every count, as JSON.
    pub counts: String,
    /// Rows the source yielded, when all were read: what the next run's drop guard compares with.
    pub rows: Option<u64>,
    /// Where the next incremental run may go on; none where that is as before.
    pub cursor: Option<Cursor>,
    /// Whether the whole model was read.
    pub full: bool,
    /// Why it failed, when it did.
    pub error: Option<String>,
    /// The failure's kind, by name.
    pub error_kind: Option<String>,
    /// The guard that stopped it, by name.
    pub guard: Option<String>,
    /// The detail beyond the counts, as JSON. The ledger only stores it.
    pub detail: String,
}

/// What earlier runs left for the next one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PreviousRun {
    /// Crashed runs, which were folded.
    pub recovered: Vec<String>,
    /// The cursor of the last run that moved it, with the same mapping.
    pub cursor: Option<Cursor>,
    /// When the whole model was last read to the end with the same mapping.
    pub full_read_at: Option<DateTime<Utc>>,
    /// Rows of the last run that read the whole model.
    pub rows: Option<u64>,
}
