//! The journal: what became of each candidate of a run.

use std::sync::Arc;

use crate::model::{After, Change};

/// What became of one candidate.
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
pub enum ChangeOutcome {
    /// The synced document is right: nothing to send.
    #[serde(alias = "same")]
    #[strum(to_string = "unchanged", serialize = "same")]
    Unchanged,
    /// Marked as synced without sending.
    Adopted,
    /// Acknowledged.
    Delivered,
    /// Rejected, by the destination or before sending; nothing of it was applied.
    Rejected,
    /// Rejected after a part of it had been applied.
    PartlyRejected,
    /// Not sent yet: certainly not applied.
    #[serde(alias = "not_sent")]
    #[strum(to_string = "pending", serialize = "not_sent")]
    Pending,
    /// Sent without a response: perhaps applied.
    #[serde(alias = "unknown")]
    #[strum(to_string = "unconfirmed", serialize = "unknown")]
    Unconfirmed,
}

impl ChangeOutcome {
    /// The outcome of this name.
    pub fn from_name(name: &str) -> Option<ChangeOutcome> {
        name.parse().ok()
    }

    /// The name in the journal.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq)]
pub struct JournalEntry {
    /// The group's id.
    pub key: String,
    /// Whether the comparison found that the ledger had nothing of this group.
    pub is_new: bool,
    /// What was sent, or would have been; shared with delivery. Empty where `document` is the text of all that was set.
    pub change: Arc<Change>,
    /// What the destination has once this is delivered; `None` when the group is then forgotten. For a rejection: the
    /// document that was rejected.
    pub document: Option<After>,
    /// The row's fingerprint; `None` for a missing group.
    pub fingerprint: Option<u64>,
    /// What became of it.
    pub outcome: ChangeOutcome,
    /// The error message.
    pub reason: Option<String>,
}
