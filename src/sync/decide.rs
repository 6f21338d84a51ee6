//! The decision about one candidate: the row's document, the policy, and `delta`. Pure.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::destination::{AddressedChange, Destination, LARGE_DOCUMENT_BYTES, PlainSet, User};
use crate::ledger::{Candidate, CandidateKind, ChangeOutcome, JournalEntry};
use crate::mapping::OnMissing;
use crate::mapping::compile::Assembly;
use crate::mapping::plain::PlainAssembly;
use crate::model::{
    After, Cell, Change, Delta, Document, Known, PlainDocument, Rules, delta, delta::unset_all, document,
};
use crate::source::staged::ROW_BYTES_MAX;

/// Decides the candidates of one sync.
pub struct Decider {
    /// How a row becomes a document.
    pub assembly: Assembly,
    /// How a row with plain values becomes the text of its document, where the destination takes it as that.
    pub plain: Option<PlainAssembly>,
    /// How traits behave.
    pub rules: Rules,
    /// What happens to a group that left the model.
    pub on_missing: OnMissing,
    /// Whether a document that was rejected before is sent again.
    pub retry_rejected: bool,
    /// When the run began.
    pub at: DateTime<Utc>,
}

/// The decision about one candidate.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The group's id.
    pub key: String,
    /// Why it is a candidate.
    pub kind: CandidateKind,
    /// The synced document, for showing the difference.
    pub before: Document,
    /// Whether that was confirmed.
    pub confirmed: bool,
    /// The row's fingerprint.
    pub fingerprint: Option<u64>,
    /// The journal sequence of its last delivery.
    pub settled_seq: u64,
    /// The user it is sent with.
    pub user: Option<User>,
    /// When the run that sends it began.
    pub at: DateTime<Utc>,
    /// The row, for the document to store when it is rejected; empty for a missing group.
    pub cells: Vec<Cell>,
    /// What is done.
    pub action: Action,
}

/// What is done about a candidate.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Nothing is sent; this is what the destination has (`None`: forget the group).
    Unchanged {
        /// The synced document from now on.
        after: Option<After>,
    },
    /// A change is sent.
    Send {
        /// The change.
        change: Arc<Change>,
        /// The synced document once it is acknowledged (`None`: forget the group).
        after: Option<After>,
    },
    /// A group that was never sent is sent with the plain values that it has.
    SendPlain {
        /// They, and the synced document once they are acknowledged.
        document: PlainDocument,
    },
    /// The row cannot be sent, or was rejected before and did not change.
    Reject {
        /// Whether the row's own values are why, rather than what was sent of it before.
        unsendable: bool,
        /// Why.
        reason: String,
    },
}

/// The change that sets the values of a plain document.
fn spelled_out(document: &PlainDocument) -> Change {
    Change { set: Document::from_text(&document.text).unwrap_or_default().0, ..Change::default() }
}

impl Decider {
    /// Decides one candidate.
    pub fn decide(&self, candidate: Candidate) -> Decision {
        let Candidate {
            key,
            kind,
            cells,
            oversize,
            fingerprint,
            synced,
            confirmed,
            settled_seq,
            rejected,
            unreadable: _,
        } = candidate;
        let user = self.assembly.user(&key, if kind == CandidateKind::Missing { &[] } else { &cells });
        let state = if confirmed { Known::Confirmed(&synced) } else { Known::Unconfirmed(&synced) };
        let too_large = oversize.filter(|_| kind != CandidateKind::Missing);
        let is_plain =
            kind == CandidateKind::New && confirmed && rejected.is_none() && user.is_ok() && too_large.is_none();
        let plain = self.plain.as_ref().filter(|_| is_plain).and_then(|plain| plain.document(&cells));
        let action = match kind {
            _ if too_large.is_some() => Action::Reject {
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
                    Action::Unchanged { after: None }
                } else {
                    Action::Send { change: Arc::new(change), after: None }
                }
            }
            CandidateKind::New | CandidateKind::Changed if let Some(document) = plain => Action::SendPlain { document },
            CandidateKind::New | CandidateKind::Changed => match (self.assembly.document(&cells), &user) {
                (Err(reason), _) => Action::Reject { unsendable: true, reason },
                (Ok(_), Err(reason)) => Action::Reject { unsendable: true, reason: reason.clone() },
                (Ok(document), Ok(_)) => match rejected {
                    Some((rejected, reason)) if rejected == document && !self.retry_rejected => {
                        Action::Reject { unsendable: false, reason }
                    }
                    _ => {
                        let Delta { change, after, held } = delta(document, state, &self.rules);
                        if let Some(reason) = held {
                            Action::Reject { unsendable: false, reason }
                        } else if change.is_empty() {
                            Action::Unchanged { after: Some(after) }
                        } else {
                            Action::Send { change: Arc::new(change), after: Some(after) }
                        }
                    }
                },
            },
        };
        let cells = if kind == CandidateKind::Missing { Vec::new() } else { cells };
        let user = user.unwrap_or_default();
        Decision { key, kind, before: synced, confirmed, fingerprint, settled_seq, user, at: self.at, cells, action }
    }

    /// The row's document, as far as there is one. Made again rather than kept: only rejections need it. A row without its
    /// user has none, or it would stay rejected when it gets one, since the user is no part of the document.
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
        let rejected = matches!(outcome, ChangeOutcome::Rejected | ChangeOutcome::PartlyRejected)
            .then(|| After::Document(self.document(&decision)));
        let Decision { key, kind, fingerprint, action, .. } = decision;
        let (change, after, reason) = match action {
            Action::SendPlain { document } if matches!(outcome, ChangeOutcome::Delivered | ChangeOutcome::Adopted) => {
                (Arc::default(), Some(After::Text(document.text)), reason)
            }
            Action::SendPlain { document } => (Arc::new(spelled_out(&document)), Some(After::WhatIsSet), reason),
            Action::Unchanged { after } => (Arc::default(), after, None),
            Action::Reject { reason, .. } => (Arc::default(), None, Some(reason)),
            Action::Send { change, after } => (change, after, reason),
        };
        let is_new = kind == CandidateKind::New;
        JournalEntry { key, is_new, change, document: rejected.or(after), fingerprint, outcome, reason }
    }
}

impl Decider {
    /// The journal's line for a row that is taken for synced without being sent; none for a group that left the model or
    /// whose row cannot be sent.
    pub fn adopted(&self, decision: Decision) -> Option<JournalEntry> {
        if decision.kind == CandidateKind::Missing || matches!(decision.action, Action::Reject { .. }) {
            return None;
        }
        let mut entry = self.entry(decision, ChangeOutcome::Adopted, None);
        let change = std::mem::take(&mut entry.change);
        entry.document = entry.document.map(|after| After::Text(after.text(&change)));
        Some(entry)
    }
}

impl Decision {
    /// The change as a destination encodes it, if one is sent.
    pub fn addressed(&self) -> Option<AddressedChange> {
        let (change, after) = match &self.action {
            Action::Send { change, after } => (change, after),
            Action::SendPlain { document } => {
                return Some(AddressedChange {
                    key: self.key.clone(),
                    user: self.user.clone(),
                    at: self.at,
                    plain: Some(PlainSet { document: document.clone(), route: 0 }),
                    settled_seq: self.settled_seq,
                    ..AddressedChange::default()
                });
            }
            Action::Unchanged { .. } | Action::Reject { .. } => return None,
        };
        let sent = if change.repeated.is_empty() { Arc::clone(change) } else { Arc::new(change.as_sent()) };
        let document = match after {
            Some(After::Document(document)) => Some(&document.0),
            Some(After::WhatIsSet) => Some(&change.set),
            Some(After::Text(_)) | None => None,
        };
        let large = document.filter(|traits| document::bytes_at_least(traits) >= LARGE_DOCUMENT_BYTES);
        Some(AddressedChange {
            key: self.key.clone(),
            user: self.user.clone(),
            at: self.at,
            change: sent,
            repeated: change.repeated.clone(),
            large_document: large.map(|traits| Arc::new(traits.clone())),
            plain: None,
            settled_seq: self.settled_seq,
        })
    }

    /// The change as the destination takes it: plain values are spelled out where it does not take them as they are.
    pub(super) fn addressed_to(&mut self, destination: &dyn Destination) -> Option<AddressedChange> {
        let mut addressed = self.addressed()?;
        let Some(plain) = addressed.plain.take() else { return Some(addressed) };
        if let Some(route) = destination.plain_route(&addressed, &plain.document) {
            return Some(AddressedChange { plain: Some(PlainSet { route, ..plain }), ..addressed });
        }
        let change = Arc::new(spelled_out(&plain.document));
        self.action = Action::Send { change, after: Some(After::WhatIsSet) };
        self.addressed()
    }

    /// Whether anything is sent.
    pub(super) fn sends(&self) -> bool {
        matches!(self.action, Action::Send { .. } | Action::SendPlain { .. })
    }

    /// How many traits are given a value, and how many are removed.
    pub(super) fn traits(&self) -> (usize, usize) {
        match &self.action {
            Action::Send { change, .. } => (change.traits_count() - change.unset.len(), change.unset.len()),
            Action::SendPlain { document } => (document.traits, 0),
            Action::Unchanged { .. } | Action::Reject { .. } => (0, 0),
        }
    }

    /// Turns a change that the destination cannot carry into a rejection.
    pub(super) fn reject(&mut self, reason: String) {
        if self.sends() {
            self.action = Action::Reject { unsendable: true, reason };
        }
    }

    /// The change, if one is sent.
    pub fn change(&self) -> Option<&Change> {
        match &self.action {
            Action::Send { change, .. } => Some(change),
            _ => None,
        }
    }

    /// What is recorded when delivery reports `outcome`: where nothing is sent, the decision itself is the outcome.
    pub fn outcome(&self, outcome: ChangeOutcome) -> ChangeOutcome {
        let outcome = match self.action {
            Action::Unchanged { .. } => ChangeOutcome::Unchanged,
            Action::Reject { .. } => ChangeOutcome::Rejected,
            Action::Send { .. } | Action::SendPlain { .. } => outcome,
        };
        match outcome {
            // A group that an outdated ledger does not have may be at the destination already. A rejection does
            // not change that, and there is no row yet to keep it unconfirmed.
            ChangeOutcome::Rejected if self.kind == CandidateKind::New && !self.confirmed => {
                ChangeOutcome::PartlyRejected
            }
            outcome => outcome,
        }
    }
}
