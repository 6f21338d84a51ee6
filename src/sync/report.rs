//! What a run did, in numbers that must add up.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::error::Error;
use crate::ledger::{Comparison, Outcome, Status};
use crate::model::Change;

/// What became of rows (or of groups that left the model).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Acknowledged by the destination.
    pub delivered: u64,
    /// Refused, by the destination or before sending.
    pub rejected: u64,
    /// Certainly not applied; the next run says it.
    pub not_sent: u64,
    /// Perhaps applied; the next run says it again in full.
    pub unknown: u64,
}

impl Tally {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.delivered + self.rejected + self.not_sent + self.unknown
    }
}

/// Every count of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Rows the source yielded.
    pub rows: u64,
    /// Rows whose group already holds its document.
    pub unchanged: u64,
    /// What became of the other rows. `rejected` includes those held back and those with an invalid key.
    #[serde(flatten)]
    pub said: Tally,
    /// Rows that were rejected earlier, did not change, and were therefore not sent again.
    pub held: u64,
    /// Rows without a usable key: null, empty, or shared with another row.
    pub invalid_keys: u64,
    /// Rows of groups never known before, among those that had something to say.
    pub new: u64,
    /// Known groups that are not in the model.
    pub missing: u64,
    /// What became of those, when the policy is to unset or delete.
    pub removed: Tally,
    /// Traits set, in acknowledged changes.
    pub traits_set: u64,
    /// Traits unset, in acknowledged changes.
    pub traits_unset: u64,
    /// Requests sent, repeats included.
    pub requests: u64,
    /// Repeats among them.
    pub retries: u64,
}

impl Counts {
    /// Counts with what the comparison alone decides.
    pub(super) fn of(found: &Comparison) -> Counts {
        Counts {
            rows: found.rows,
            unchanged: found.unchanged,
            said: Tally { rejected: found.held + found.invalid_keys(), ..Tally::default() },
            held: found.held,
            invalid_keys: found.invalid_keys(),
            missing: found.missing,
            ..Counts::default()
        }
    }

    /// Adds one suspect's outcome.
    pub(super) fn add(&mut self, outcome: Outcome, change: &Change, missing: bool, new: bool) {
        if matches!(outcome, Outcome::Same | Outcome::Adopted) {
            self.unchanged += u64::from(!missing);
            return;
        }
        let tally = if missing { &mut self.removed } else { &mut self.said };
        match outcome {
            Outcome::Same | Outcome::Adopted => {}
            Outcome::Delivered => {
                tally.delivered += 1;
                self.traits_set += (change.traits_count() - change.unset.len()) as u64;
                self.traits_unset += change.unset.len() as u64;
            }
            Outcome::Rejected | Outcome::PartlyRejected => tally.rejected += 1,
            Outcome::NotSent => tally.not_sent += 1,
            Outcome::Unknown => tally.unknown += 1,
        }
        self.new += u64::from(new);
    }

    /// Whether every row is accounted for (invariant 8 of the design).
    pub fn add_up(&self) -> bool {
        self.rows == self.unchanged + self.said.total()
    }

    /// How a run with these counts ended, if nothing else went wrong.
    pub fn status(&self) -> Status {
        let open = self.said.not_sent + self.said.unknown + self.removed.not_sent + self.removed.unknown;
        if open > 0 {
            Status::Incomplete
        } else if self.said.rejected + self.removed.rejected > 0 {
            Status::SomeRejected
        } else {
            Status::Delivered
        }
    }
}

/// A finished run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The sync's name.
    pub sync: String,
    /// The run's id.
    pub run: String,
    /// How it ended.
    pub status: Status,
    /// Every count.
    pub counts: Counts,
    /// Whether the whole model was read.
    pub full: bool,
    /// How long it took.
    pub seconds: f64,
    /// Suspects left for a later run because of `--limit`.
    pub beyond_limit: u64,
    /// What the destination remarked about requests it took, and how often.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub warnings: BTreeMap<String, u64>,
    /// Why it did not finish, for a run that was stopped or gave up.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "error_object")]
    pub stopped: Option<Error>,
}

/// An error as machines read it.
pub fn error_json(error: &Error) -> serde_json::Value {
    serde_json::json!({"kind": error.kind().name(), "message": error.to_string(), "advice": error.advice()})
}

fn error_object<S: serde::Serializer>(error: &Option<Error>, out: S) -> std::result::Result<S::Ok, S::Error> {
    error.as_ref().map(error_json).serialize(out)
}

impl Report {
    /// The process exit code: 0 all delivered, 1 something is left to say, 3 some rejected, 130 interrupted. What
    /// `--limit` left is no failure: the operator asked for it.
    pub fn exit_code(&self) -> u8 {
        if let Some(error) = &self.stopped {
            return error.kind().exit_code();
        }
        let open = self.counts.said.not_sent
            + self.counts.removed.not_sent
            + self.counts.said.unknown
            + self.counts.removed.unknown;
        match self.status {
            Status::Incomplete if self.beyond_limit > 0 && open == self.beyond_limit => {
                if self.counts.said.rejected + self.counts.removed.rejected > 0 { 3 } else { 0 }
            }
            Status::Delivered => 0,
            Status::SomeRejected => 3,
            _ => 1,
        }
    }
}
