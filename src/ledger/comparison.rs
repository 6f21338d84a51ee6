//! The comparison: the rows it is given, its options, what it counts, and the candidates it finds.

use crate::model::{Cell, Document, document};
use crate::source::Staged;

/// How many duplicate keys a comparison names.
pub const DUPLICATE_EXAMPLES_MAX: usize = 10;
/// How many keys of new and of missing groups a comparison names, where there are both.
pub const KEY_EXAMPLES_MAX: usize = 3;

/// The rows of a run, as a source handed them over.
pub enum SourceRows<'a> {
    /// Staged in a DuckDB instance of their own.
    Staged(&'a Staged),
    /// In memory: key and cells of each row.
    Rows(&'a [(Option<String>, Vec<Cell>)]),
}

/// What a comparison looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompareOptions {
    /// Mixed into every fingerprint: the mapping's own, so that an edited mapping makes every row a candidate once.
    pub salt: String,
    /// Which synced groups may be found missing.
    pub missing: MissingScope,
    /// Whether rejected groups are candidates although they did not change.
    pub retry_rejected: bool,
    /// Whether a group that is only missing is a candidate (its policy is to unset or delete), or merely counted.
    pub act_on_missing: bool,
}

/// Which synced groups a comparison may find missing from the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MissingScope {
    /// All of them: the rows are the whole model.
    All,
    /// Only these: the rows are those of these groups.
    Only(Vec<String>),
    /// None: the rows are what changed lately.
    None,
}

/// What a comparison found. Rows are source rows; groups are groups of the ledger.
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
    /// Groups that the destination holds, or may hold, before this run: all but those that were only ever rejected.
    #[serde(alias = "known")]
    pub synced: u64,
    /// Candidates without a group in the ledger.
    pub new: u64,
    /// Candidates with a row and a group in the ledger.
    pub changed: u64,
    /// Groups of the ledger that are not among the rows.
    pub missing: u64,
    /// Some of their keys, where there are new groups as well.
    #[serde(default)]
    pub missing_examples: Vec<String>,
    /// Some keys of new groups, likewise.
    #[serde(default)]
    pub new_examples: Vec<String>,
    /// Candidates among the missing.
    #[serde(alias = "missing_suspects")]
    pub missing_candidates: u64,
    /// Those of them that the destination holds, or may hold: what a removal takes away.
    #[serde(default)]
    pub removable: u64,
    /// Rows rejected earlier that did not change.
    #[serde(alias = "held")]
    pub rejected_unchanged: u64,
    /// Rows that equal the synced state.
    pub unchanged: u64,
}

impl Comparison {
    /// Rows that cannot be synced because of their key.
    pub fn invalid_keys(&self) -> u64 {
        self.null_keys + self.empty_keys + self.duplicate_rows
    }

    /// All candidates.
    pub fn candidates(&self) -> u64 {
        self.new + self.changed + self.missing_candidates
    }
}

/// Why a group is a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CandidateKind {
    /// A row whose group the ledger does not have.
    New,
    /// A row whose group the ledger has, with another fingerprint, unconfirmed, or rejected earlier.
    Changed,
    /// A group of the ledger without a row.
    Missing,
}

/// A group that may differ from the synced state.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The group's id.
    pub key: String,
    /// Why it is a candidate.
    pub kind: CandidateKind,
    /// The row, in the projection's order; empty for a missing group.
    pub cells: Vec<Cell>,
    /// The bytes of the row's cells, where they are too many to be read; then the cells are null.
    pub oversize: Option<u64>,
    /// The row's fingerprint; `None` for a missing group.
    pub fingerprint: Option<u64>,
    /// The synced document; empty for a new group. Attempted traits it lacks are there as `model::document::unconfirmed`.
    pub synced: Document,
    /// Whether the synced document was confirmed when the run began.
    pub confirmed: bool,
    /// The journal sequence of the last delivery to the group; 0 without one.
    pub settled_seq: u64,
    /// The document that was rejected and why, when it was rejected last.
    pub rejected: Option<(Document, String)>,
    /// What of it cannot be read, when the ledger is damaged there. The group is then unconfirmed.
    pub unreadable: Option<String>,
}

/// A synced document with the attempted traits that it lacks: the destination may or may not hold them.
pub fn with_attempted<'a>(mut synced: Document, attempted: impl IntoIterator<Item = &'a String>) -> Document {
    for name in attempted {
        synced.0.entry(name.clone()).or_insert_with(document::unconfirmed);
    }
    synced
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs on record keep the figures that earlier versions wrote in other words.
    #[test]
    fn comparisons_of_earlier_versions_are_read() {
        let earlier = r#"{"rows":9,"null_keys":0,"empty_keys":0,"duplicate_rows":0,"duplicate_examples":[],"known":8,"new":2,
            "changed":3,"missing":1,"missing_suspects":1,"removable":1,"held":4,"unchanged":0}"#;
        let read: Comparison = serde_json::from_str(earlier).unwrap();
        assert_eq!((read.synced, read.missing_candidates, read.rejected_unchanged), (8, 1, 4));
    }
}
