//! What a mapping file means: the specification of one sync.

use super::sections::guards::Guards;
use super::sections::incremental::Incremental;
use super::sections::model::{Compare, DbtModel, Model};
use super::sections::policy::Policy;
use super::sections::schedule::Schedule;
use super::sections::traits::Trait;
use super::sections::user::User;

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
    /// By which it can be selected, in order.
    pub tags: Vec<String>,
    /// When it runs, as written; the scheduler gives it meaning.
    pub schedule: Option<Schedule>,
    /// What yields the account rows.
    pub model: Model,
    /// Where its rows are compared, if not where the source says.
    pub compare: Option<Compare>,
    /// What dbt knows of it, where the mapping names one of dbt's.
    pub dbt: Option<DbtModel>,
    /// The group type's name at the destination.
    pub group_type: String,
    /// The column that holds the group's id.
    pub key: String,
    /// The trait whose value is shown beside the key.
    pub label: Option<String>,
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
