//! The record of a run: how it begins, how it ends, and what it leaves for the next one.

use chrono::{DateTime, Utc};

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
pub enum RunStatus {
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

/// What earlier runs left for the next one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PreviousRun {
    /// Runs that had died and were folded.
    pub recovered: Vec<String>,
    /// The cursor of the last run that moved it, with the same mapping.
    pub cursor: Option<String>,
    /// When the whole model was last read to the end with the same mapping.
    pub full_read_at: Option<DateTime<Utc>>,
    /// Rows of the last run that read the whole model.
    pub rows: Option<u64>,
}
