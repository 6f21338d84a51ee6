//! What a run did, in numbers that must add up.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::guard::Reading;
use super::mirror::MirrorReport;
use super::timeline::Timeline;
use super::trait_counts::TraitCounts;
use crate::delivery::{DeliveryCounters, Latency, LogLines};
use crate::error::Error;
use crate::ledger::{ChangeOutcome, Comparison, RunStatus};
use crate::mapping::diagnostic::Problem;

/// Rows, or groups that left the model, by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct OutcomeCounts {
    /// Acknowledged by the destination.
    pub delivered: u64,
    /// Rejected, by the destination or before sending.
    pub rejected: u64,
    /// Not sent yet; the next run sends them.
    #[serde(alias = "not_sent")]
    pub pending: u64,
    /// Sent without a response; the next run resends them in full.
    #[serde(alias = "unknown")]
    pub unconfirmed: u64,
}

impl OutcomeCounts {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.delivered + self.rejected + self.pending + self.unconfirmed
    }
}

/// Every count of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(from = "Value")]
pub struct Counts {
    /// Rows the source yielded.
    pub rows: u64,
    /// Rows that equal the synced state.
    pub unchanged: u64,
    /// The other rows. `rejected` includes those that did not change and those with an invalid key.
    #[serde(flatten)]
    pub changes: OutcomeCounts,
    /// Rows that were rejected earlier, did not change, and were therefore not sent again.
    pub rejected_unchanged: u64,
    /// Rows without a usable key: null, empty, or shared with another row.
    pub invalid_keys: u64,
    /// Rows of new groups, among the delivered.
    pub new: u64,
    /// Groups of the ledger that are not in the model.
    pub missing: u64,
    /// Those of them that the policy unsets or deletes.
    pub removed: OutcomeCounts,
    /// Traits set, in acknowledged changes.
    pub traits_set: u64,
    /// Traits unset, in acknowledged changes.
    pub traits_unset: u64,
    /// Requests sent, retries included.
    pub requests: u64,
    /// Retries among them.
    pub retries: u64,
}

/// Written out, because a flattened field and numbers of any size do not go together in serde.
impl From<Value> for Counts {
    fn from(value: Value) -> Counts {
        let count = |name: &str| value[name].as_u64().unwrap_or(0);
        let tally = |value: &Value| serde_json::from_value::<OutcomeCounts>(value.clone()).unwrap_or_default();
        Counts {
            rows: count("rows"),
            unchanged: count("unchanged"),
            changes: tally(&value),
            rejected_unchanged: count("rejected_unchanged").max(count("held")),
            invalid_keys: count("invalid_keys"),
            new: count("new"),
            missing: count("missing"),
            removed: tally(&value["removed"]),
            traits_set: count("traits_set"),
            traits_unset: count("traits_unset"),
            requests: count("requests"),
            retries: count("retries"),
        }
    }
}

impl Counts {
    /// Changes that the next run sends or resends: pending or unconfirmed.
    pub fn unfinished(&self) -> u64 {
        self.changes.pending + self.changes.unconfirmed + self.removed.pending + self.removed.unconfirmed
    }

    /// Rejected groups, by the destination or before sending, now or earlier.
    pub fn rejected(&self) -> u64 {
        self.changes.rejected + self.removed.rejected
    }

    /// Counts with what the comparison alone decides.
    pub(super) fn of(found: &Comparison) -> Counts {
        Counts {
            rows: found.rows,
            unchanged: found.unchanged,
            changes: OutcomeCounts {
                rejected: found.rejected_unchanged + found.invalid_keys(),
                ..OutcomeCounts::default()
            },
            rejected_unchanged: found.rejected_unchanged,
            invalid_keys: found.invalid_keys(),
            missing: found.missing,
            ..Counts::default()
        }
    }

    /// Adds one candidate's outcome.
    pub(super) fn add(&mut self, outcome: ChangeOutcome, (set, unset): (usize, usize), missing: bool, new: bool) {
        if matches!(outcome, ChangeOutcome::Unchanged | ChangeOutcome::Adopted) {
            self.unchanged += u64::from(!missing);
            return;
        }
        let tally = if missing { &mut self.removed } else { &mut self.changes };
        match outcome {
            ChangeOutcome::Unchanged | ChangeOutcome::Adopted => {}
            ChangeOutcome::Delivered => {
                tally.delivered += 1;
                self.traits_set += set as u64;
                self.traits_unset += unset as u64;
            }
            ChangeOutcome::Rejected | ChangeOutcome::PartlyRejected => tally.rejected += 1,
            ChangeOutcome::Pending => tally.pending += 1,
            ChangeOutcome::Unconfirmed => tally.unconfirmed += 1,
        }
        self.new += u64::from(new);
    }

    /// Whether every row is accounted for (invariant 8 of the design).
    pub fn add_up(&self) -> bool {
        self.rows == self.unchanged + self.changes.total()
    }

    /// How a run with these counts ended, if nothing else went wrong. What was left out because of a limit was not to be sent.
    pub fn status(&self, beyond_limit: u64) -> RunStatus {
        if self.unfinished() > beyond_limit {
            RunStatus::Incomplete
        } else if self.changes.rejected + self.removed.rejected > 0 {
            RunStatus::SucceededWithRejections
        } else {
            RunStatus::Succeeded
        }
    }
}

/// The detail of a run's record, beyond its counts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Detail {
    /// Whether the whole model was read.
    pub full: bool,
    /// Changes left pending because of `--limit`.
    pub beyond_limit: u64,
    /// What the comparison found, if there was one.
    pub found: Option<Comparison>,
    /// What each guard measured.
    pub guards: Vec<Reading>,
    /// Attempts by HTTP status; 0 without a response.
    pub by_status: BTreeMap<u16, u64>,
    /// Milliseconds spent waiting for the rate limit, summed over concurrent requests.
    pub rate_wait_ms: u64,
    /// Milliseconds spent waiting before retries, summed likewise.
    pub retry_wait_ms: u64,
    /// Body bytes of all attempts, before compression.
    pub bytes: u64,
    /// Traits in acknowledged requests.
    pub traits_sent: u64,
    /// How long responses took.
    pub latency: Latency,
    /// Requests over time.
    pub timeline: Timeline,
    /// By trait, in how many acknowledged groups it was added, changed and unset.
    pub traits: BTreeMap<String, TraitCounts>,
    /// What happened and when, as far as it is out of the ordinary.
    pub log: LogLines,
    /// Warnings of the destination about requests it accepted, and how often.
    pub warnings: BTreeMap<String, u64>,
    /// What is odd about the source's rows or went wrong beside the run, for people.
    pub remarks: Vec<String>,
    /// What it did with its mirror, if it wants one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<MirrorReport>,
    /// The guard that stopped the run, until it is recorded.
    #[serde(skip)]
    pub stopped_by: Option<String>,
    /// What to do about the error that the run ended with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// The mistakes in the mapping that the source found before anything was read, each at its place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
}

impl Detail {
    /// Takes what delivery counted.
    pub(super) fn take(&mut self, counters: &DeliveryCounters) {
        self.by_status = counters.by_status();
        self.rate_wait_ms = counters.rate_wait_ms.load(Ordering::Relaxed);
        self.retry_wait_ms = counters.retry_wait_ms.load(Ordering::Relaxed);
        self.bytes = counters.bytes.load(Ordering::Relaxed);
        self.traits_sent = counters.traits_sent.load(Ordering::Relaxed);
        self.warnings = counters.warnings();
        self.latency = counters.latency();
        self.log = counters.log.lines();
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
    pub status: RunStatus,
    /// Every count.
    pub counts: Counts,
    /// Whether the whole model was read.
    pub full: bool,
    /// How long it took.
    pub seconds: f64,
    /// Changes left pending because of `--limit`.
    pub beyond_limit: u64,
    /// Warnings of the destination about requests it accepted, and how often.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub warnings: BTreeMap<String, u64>,
    /// The detail of the run's record.
    #[serde(skip)]
    pub detail: Detail,
    /// Why it did not finish, for a run that was stopped or cancelled.
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
    /// The process exit code: 0 succeeded, 1 changes are left, 3 some rejected, 130 cancelled. What `--limit`
    /// left is no failure: it was requested.
    pub fn exit_code(&self) -> u8 {
        if let Some(error) = &self.stopped {
            return error.kind().exit_code();
        }
        match self.status {
            RunStatus::Succeeded => 0,
            RunStatus::SucceededWithRejections => 3,
            _ => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_survive_being_kept_as_text() {
        let tally =
            |from: u64| OutcomeCounts { delivered: from, rejected: from + 1, pending: from + 2, unconfirmed: from + 3 };
        let counts = Counts {
            rows: 1,
            unchanged: 2,
            changes: tally(10),
            rejected_unchanged: 3,
            invalid_keys: 4,
            new: 5,
            missing: 6,
            removed: tally(20),
            traits_set: 7,
            traits_unset: 8,
            requests: 9,
            retries: 30,
        };
        let text = serde_json::to_string(&counts).unwrap();
        assert_eq!(serde_json::from_str::<Counts>(&text).unwrap(), counts);
    }
}
