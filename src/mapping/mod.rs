//! What a mapping file means. The shape a person writes is in [`mod@file`]; here is the meaning the rest of the crate uses.
//! Pure: parsing, checking and compiling to SQL read no files and open no connections.

pub mod check;
pub mod compile;
pub mod diagnostic;
pub mod dialect;
pub mod file;
pub mod fingerprint;
#[cfg(test)]
mod golden;
pub(crate) mod reader;
pub mod remedy;
pub mod schedule;
mod sql;
pub mod template;
mod timing;
mod traits;
pub mod units;

use std::time::Duration;

use serde_json::Value;

use crate::model::cell::As;
use crate::model::{OnNull, Op};

pub use file::MappingFile;
pub use fingerprint::fingerprint;

/// One mapping: model → group type → traits → destination. At run time, a sync of the same name.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapping {
    /// The sync's name: the file's stem.
    pub name: String,
    /// The file it was read from, for messages.
    pub file: String,
    /// The source's name in `groupcast.toml`.
    pub source: String,
    /// The destination's name in `groupcast.toml`.
    pub destination: String,
    /// Whether schedules run it.
    pub enabled: bool,
    /// When it runs, as written; [`crate::scheduler`] gives it meaning.
    pub schedule: Option<Schedule>,
    /// What yields the account rows.
    pub model: Model,
    /// The group type's name at the destination.
    pub group_type: String,
    /// The column that holds the group's id.
    pub key: String,
    /// The user a group call names, for destinations that want one.
    pub user: Option<User>,
    /// The mapped traits, in the file's order.
    pub traits: Vec<Trait>,
    /// What happens to nulls, removed traits, missing groups and duplicate keys.
    pub policy: Policy,
    /// When a run stops itself before sending.
    pub guards: Guards,
    /// Reads only rows that changed since the last checkpoint, when set.
    pub incremental: Option<Incremental>,
}

/// When a sync runs, as written. [`crate::scheduler`] gives it meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// What it waits for.
    pub when: When,
    /// The zone of a cron expression; the config's, or UTC, when absent.
    pub timezone: Option<crate::time_zone::Zone>,
    /// The most that a run may start after its moment.
    pub jitter: Duration,
    /// What happens about moments that passed while nobody looked.
    pub catch_up: CatchUp,
    /// What happens about a moment that comes while the sync still runs.
    pub overlap: Overlap,
}

/// What a schedule waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// A cron expression of 5 to 7 fields, or `@daily` and its kin; checked by [`schedule::cron`].
    Cron(String),
    /// So much time since the last run began.
    Every(Duration),
    /// The end of another sync's run.
    After(String),
}

impl std::fmt::Display for When {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            When::Cron(text) => out.write_str(text),
            When::Every(interval) => write!(out, "every {}", crate::format::duration(*interval)),
            When::After(other) => write!(out, "after {other}"),
        }
    }
}

/// What happens about missed moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CatchUp {
    /// One run makes up for all of them.
    #[default]
    Once,
    /// Nothing; the next moment counts.
    Skip,
}

/// What happens about a moment during a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overlap {
    /// Nothing.
    #[default]
    Skip,
    /// One run follows the current one, however many moments passed.
    Queue,
}

/// The rows of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// Where they come from.
    pub from: From,
    /// A SQL condition in the source's dialect that rows must satisfy.
    pub filter: Option<String>,
}

/// A table or a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// A table or view, one to three name parts as written (`analytics.dim_accounts`).
    Table(Vec<String>),
    /// A query in the source's dialect, without a trailing semicolon.
    Query(String),
}

/// The user that group calls are made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Whether it is an anonymous id rather than a known user's.
    pub anonymous: bool,
    /// Where it comes from.
    pub from: UserFrom,
}

/// Where a user's id comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserFrom {
    /// Texts with the group's key between each two of them: `account:{key}` is `["account:", ""]`, a constant one text.
    Template(Vec<String>),
    /// A column or an SQL expression.
    Expr(Expr),
}

/// One trait.
#[derive(Debug, Clone, PartialEq)]
pub struct Trait {
    /// Its name at the destination.
    pub name: String,
    /// Where its value comes from.
    pub value: Field,
    /// What a new value does.
    pub op: Op,
    /// What a null means; the policy's when absent.
    pub on_null: Option<OnNull>,
    /// Whether it is sent along with every change of its group, although it did not change.
    pub always: bool,
    /// Where the mapping file names it, for messages.
    pub at: At,
}

/// A value's origin.
#[derive(Debug, Clone, PartialEq)]
pub enum Field {
    /// A column or an SQL expression over columns.
    Column {
        /// The column as written, or the SQL expression.
        expr: Expr,
        /// The declared JSON type.
        declared: Option<As>,
    },
    /// The same value for every group.
    Const(Value),
    /// An object with named members, in name order.
    Object(Vec<(String, Field)>),
}

/// What is selected from the source.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Expr {
    /// A column by name.
    Column(String),
    /// SQL in the source's dialect.
    Sql(String),
}

/// A place in the mapping file: line and column from 1, and the key's dotted path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct At {
    /// Byte range in the file's text.
    pub span: std::ops::Range<usize>,
    /// `traits.arr`.
    pub path: String,
}

/// What happens in the cases that need a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// A null in a trait's column.
    pub on_null: OnNull,
    /// A group that left the model.
    pub on_missing: OnMissing,
    /// A trait that left the mapping.
    pub on_removed_trait: OnRemovedTrait,
    /// Two rows with one key.
    pub on_duplicate: OnDuplicate,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            on_null: OnNull::Unset,
            on_missing: OnMissing::Keep,
            on_removed_trait: OnRemovedTrait::Keep,
            on_duplicate: OnDuplicate::Fail,
        }
    }
}

/// What happens to a group that left the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnMissing {
    /// Nothing.
    Keep,
    /// Its traits are unset.
    Unset,
    /// It is deleted, where the destination can.
    Delete,
}

/// What happens to a trait that left the mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnRemovedTrait {
    /// Nothing; the destination keeps its last value.
    Keep,
    /// It is unset.
    Unset,
}

/// What happens when two rows have one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDuplicate {
    /// The run stops before anything is sent.
    Fail,
    /// None of the rows of that key is sent; they are counted and shown.
    Skip,
}

/// Thresholds that stop a run before the first byte. A share is of the groups known or read, from 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Guards {
    /// Stop when the model yields no row at all although groups are known.
    pub empty: bool,
    /// Largest share of rows fewer than at the last run.
    pub rows_dropped_max: f64,
    /// Largest share of known groups that change.
    pub changed_max: f64,
    /// Largest share of known groups that may be gone while about as many new ones came: a key that is spelled otherwise.
    pub keys_changed_max: f64,
    /// Largest share of known groups that are unset or deleted because they left the model.
    pub removed_max: f64,
    /// Largest share of known groups for which one trait turns null.
    pub nulled_max: f64,
    /// Largest share of rows whose values cannot become what the mapping declares.
    pub unsendable_max: f64,
    /// The share guards stay quiet while fewer groups than this are concerned: small numbers swing.
    pub groups_min: u64,
}

impl Default for Guards {
    fn default() -> Guards {
        Guards {
            empty: true,
            rows_dropped_max: 0.3,
            keys_changed_max: 0.5,
            changed_max: 0.5,
            removed_max: 0.1,
            nulled_max: 0.2,
            unsendable_max: 0.5,
            groups_min: 20,
        }
    }
}

/// Reading only what changed since the last checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incremental {
    /// A timestamp, date or integer column that grows when a row changes.
    pub cursor: String,
    /// How far behind the checkpoint reading starts, for rows committed late.
    pub lookback: Duration,
    /// How often everything is read all the same, to find groups that left the model.
    pub full_every: Duration,
}
