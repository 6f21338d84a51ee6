//! What is said about one candidate: the row's document, the policy, and `delta`. Pure.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::destination::{AddressedChange, LARGE_DOCUMENT_BYTES, User};
use crate::ledger::{Candidate, CandidateKind, ChangeOutcome, JournalEntry};
use crate::mapping::OnMissing;
use crate::mapping::compile::Assembly;
use crate::model::{After, Cell, Change, Delta, Document, Known, Rules, delta, delta::unset_all, document};
use crate::source::staged::ROW_BYTES_MAX;

/// How candidates of one sync are decided.
pub struct Judge {
    /// How a row becomes a document.
    pub assembly: Assembly,
    /// How traits behave.
    pub rules: Rules,
    /// What happens to a group that left the model.
    pub on_missing: OnMissing,
    /// Whether a document that was refused before is tried again.
    pub retry_rejected: bool,
    /// When the run began.
    pub at: DateTime<Utc>,
}

/// The decision about one candidate.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The group's id.
    pub key: String,
    /// Why it was looked at.
    pub kind: CandidateKind,
    /// What was known of it, for showing the difference.
    pub before: Document,
    /// Whether that was certain.
    pub certain: bool,
    /// The row's fingerprint.
    pub fingerprint: Option<u64>,
    /// The journal sequence at which it was last settled.
    pub settled_seq: u64,
    /// The user it is said with.
    pub user: Option<User>,
    /// When the run that says it began.
    pub at: DateTime<Utc>,
    /// The row, for the document to remember when it is refused; empty for a missing group.
    pub cells: Vec<Cell>,
    /// What follows.
    pub verdict: Judgement,
}

/// What follows from a candidate.
#[derive(Debug, Clone, PartialEq)]
pub enum Judgement {
    /// Nothing is said; this is what the destination holds (`None`: forget the group).
    Same {
        /// What to remember.
        after: Option<After>,
    },
    /// Something is said.
    Say {
        /// What.
        change: Arc<Change>,
        /// What to remember once it is acknowledged (`None`: forget the group).
        after: Option<After>,
    },
    /// The row cannot be said, or was refused before and did not change.
    Refused {
        /// Whether the row's own values are why, rather than what was sent of it before.
        unsendable: bool,
        /// Why.
        reason: String,
    },
}

impl Judge {
    /// Decides one candidate.
    pub fn judge(&self, candidate: Candidate) -> Decision {
        let Candidate { key, kind, cells, oversize, fingerprint, known, certain, settled_seq, rejected, unreadable: _ } =
            candidate;
        let user = self.assembly.user(&key, if kind == CandidateKind::Missing { &[] } else { &cells });
        let state = if certain { Known::Certain(&known) } else { Known::Unconfirmed(&known) };
        let too_large = oversize.filter(|_| kind != CandidateKind::Missing);
        let verdict = match kind {
            _ if too_large.is_some() => Judgement::Refused {
                unsendable: true,
                reason: format!(
                    "the values of this row have {:.1} MB; a group can have at most {} MB",
                    too_large.unwrap_or_default() as f64 / 1_048_576.0,
                    ROW_BYTES_MAX / 1_048_576
                ),
            },
            CandidateKind::Missing => {
                let change = match self.on_missing {
                    OnMissing::Delete => Change { delete: true, ..Change::default() },
                    OnMissing::Unset | OnMissing::Keep => unset_all(state, &self.rules),
                };
                if change.is_empty() {
                    Judgement::Same { after: None }
                } else {
                    Judgement::Say { change: Arc::new(change), after: None }
                }
            }
            CandidateKind::New | CandidateKind::Changed => match (self.assembly.document(&cells), &user) {
                (Err(reason), _) => Judgement::Refused { unsendable: true, reason },
                (Ok(_), Err(reason)) => Judgement::Refused { unsendable: true, reason: reason.clone() },
                (Ok(document), Ok(_)) => match rejected {
                    Some((refused, reason)) if refused == document && !self.retry_rejected => {
                        Judgement::Refused { unsendable: false, reason }
                    }
                    _ => {
                        let Delta { change, after, held } = delta(document, state, &self.rules);
                        if let Some(reason) = held {
                            Judgement::Refused { unsendable: false, reason }
                        } else if change.is_empty() {
                            Judgement::Same { after: Some(after) }
                        } else {
                            Judgement::Say { change: Arc::new(change), after: Some(after) }
                        }
                    }
                },
            },
        };
        let cells = if kind == CandidateKind::Missing { Vec::new() } else { cells };
        let user = user.unwrap_or_default();
        Decision { key, kind, before: known, certain, fingerprint, settled_seq, user, at: self.at, cells, verdict }
    }

    /// The row's document, as far as there is one. Made again rather than kept: only refusals need it. A row without its
    /// user has none, or it would still be held when it gets one, since the user is no part of the document.
    fn document(&self, decision: &Decision) -> Document {
        match decision.kind {
            CandidateKind::Missing => Document::default(),
            _ if self.assembly.user(&decision.key, &decision.cells).is_err() => Document::default(),
            CandidateKind::New | CandidateKind::Changed => self.assembly.document(&decision.cells).unwrap_or_default(),
        }
    }

    /// The journal's line once the outcome is known. `outcome` is ignored where the decision alone settles it.
    pub fn entry(&self, decision: Decision, outcome: ChangeOutcome, reason: Option<String>) -> JournalEntry {
        let outcome = decision.outcome(outcome);
        let refused = matches!(outcome, ChangeOutcome::Rejected | ChangeOutcome::PartlyRejected)
            .then(|| After::Document(self.document(&decision)));
        let Decision { key, fingerprint, verdict, .. } = decision;
        let (change, after, reason) = match verdict {
            Judgement::Same { after } => (Arc::default(), after, None),
            Judgement::Refused { reason, .. } => (Arc::default(), None, Some(reason)),
            Judgement::Say { change, after } => (change, after, reason),
        };
        JournalEntry { key, change, document: refused.or(after), fingerprint, outcome, reason }
    }
}

impl Decision {
    /// What the destination is told, if anything.
    pub fn addressed(&self) -> Option<AddressedChange> {
        let Judgement::Say { change, after } = &self.verdict else { return None };
        let sent = if change.repeated.is_empty() { Arc::clone(change) } else { Arc::new(change.as_sent()) };
        let document = match after {
            Some(After::Document(document)) => Some(&document.0),
            Some(After::WhatIsSet) => Some(&change.set),
            None => None,
        };
        let large = document.filter(|traits| document::bytes_at_least(traits) >= LARGE_DOCUMENT_BYTES);
        Some(AddressedChange {
            key: self.key.clone(),
            user: self.user.clone(),
            at: self.at,
            change: sent,
            repeated: change.repeated.clone(),
            large_document: large.map(|traits| Arc::new(traits.clone())),
            settled_seq: self.settled_seq,
        })
    }

    /// Turns a change that the destination cannot carry into a refusal.
    pub(super) fn refuse(&mut self, reason: String) {
        if matches!(self.verdict, Judgement::Say { .. }) {
            self.verdict = Judgement::Refused { unsendable: true, reason };
        }
    }

    /// The change, if something is said.
    pub fn change(&self) -> Option<&Change> {
        match &self.verdict {
            Judgement::Say { change, .. } => Some(change),
            _ => None,
        }
    }

    /// What is recorded when delivery reports `outcome`: where nothing is said, the decision itself settles it.
    pub fn outcome(&self, outcome: ChangeOutcome) -> ChangeOutcome {
        let outcome = match self.verdict {
            Judgement::Same { .. } => ChangeOutcome::Same,
            Judgement::Refused { .. } => ChangeOutcome::Rejected,
            Judgement::Say { .. } => outcome,
        };
        match outcome {
            // Something of a group that the ledger does not know may be there already (an older ledger). A rejection does
            // not change that, and there is no row yet that would go on saying so.
            ChangeOutcome::Rejected if self.kind == CandidateKind::New && !self.certain => {
                ChangeOutcome::PartlyRejected
            }
            outcome => outcome,
        }
    }
}
