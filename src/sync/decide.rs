//! What is said about one suspect: the row's document, the policy, and `delta`. Pure.

use std::sync::Arc;

use crate::destination::Addressed;
use crate::ledger::{Entry, Outcome, Suspect, SuspectKind};
use crate::mapping::OnMissing;
use crate::mapping::compile::Assembly;
use crate::model::{Change, Delta, Document, Known, Rules, delta, delta::unset_all};

/// How suspects of one sync are decided.
pub struct Judge {
    /// How a row becomes a document.
    pub assembly: Assembly,
    /// How traits behave.
    pub rules: Rules,
    /// What happens to a group that left the model.
    pub on_missing: OnMissing,
    /// Whether a document that was refused before is tried again.
    pub retry_rejected: bool,
}

/// The decision about one suspect.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The group's id.
    pub key: String,
    /// Why it was looked at.
    pub kind: SuspectKind,
    /// What was known of it, for showing the difference.
    pub before: Document,
    /// Whether that was certain.
    pub certain: bool,
    /// The row's fingerprint.
    pub fingerprint: Option<u64>,
    /// The journal sequence at which it was last settled.
    pub settled_seq: u64,
    /// What follows.
    pub verdict: Judgement,
}

/// What follows from a suspect.
#[derive(Debug, Clone, PartialEq)]
pub enum Judgement {
    /// Nothing is said; this is what the destination holds (`None`: forget the group).
    Same {
        /// What to remember.
        after: Option<Document>,
    },
    /// Something is said.
    Say {
        /// What.
        change: Arc<Change>,
        /// The row's document, which is remembered when it is refused.
        document: Document,
        /// What to remember once it is acknowledged (`None`: forget the group).
        after: Option<Document>,
    },
    /// The row cannot be said, or was refused before and did not change.
    Refused {
        /// The document, as far as there is one.
        document: Document,
        /// Why.
        reason: String,
    },
}

impl Judge {
    /// Decides one suspect.
    pub fn judge(&self, suspect: Suspect) -> Decision {
        let Suspect { key, kind, cells, fingerprint, known, certain, settled_seq, rejected } = suspect;
        let state = if certain { Known::Certain(&known) } else { Known::Uncertain(&known) };
        let verdict = match kind {
            SuspectKind::Missing => {
                let Delta { change, .. } = match self.on_missing {
                    OnMissing::Delete => {
                        Delta { change: Change { delete: true, ..Change::default() }, after: Document::default() }
                    }
                    OnMissing::Unset | OnMissing::Keep => unset_all(state, &self.rules),
                };
                if change.is_empty() {
                    Judgement::Same { after: None }
                } else {
                    Judgement::Say { change: Arc::new(change), document: Document::default(), after: None }
                }
            }
            SuspectKind::New | SuspectKind::Changed => match self.assembly.document(&cells) {
                Err(reason) => Judgement::Refused { document: Document::default(), reason },
                Ok(document) => match rejected {
                    Some((refused, reason)) if refused == document && !self.retry_rejected => {
                        Judgement::Refused { document, reason }
                    }
                    _ => {
                        let Delta { change, after } = delta(&document, state, &self.rules);
                        if change.is_empty() {
                            Judgement::Same { after: Some(after) }
                        } else {
                            Judgement::Say { change: Arc::new(change), document, after: Some(after) }
                        }
                    }
                },
            },
        };
        Decision { key, kind, before: known, certain, fingerprint, settled_seq, verdict }
    }
}

impl Decision {
    /// What the destination is told, if anything.
    pub fn addressed(&self) -> Option<Addressed> {
        let Judgement::Say { change, .. } = &self.verdict else { return None };
        Some(Addressed { key: self.key.clone(), change: Arc::clone(change), settled_seq: self.settled_seq })
    }

    /// Turns a change that the destination cannot carry into a refusal.
    pub(super) fn refuse(&mut self, reason: String) {
        if let Judgement::Say { document, .. } = &mut self.verdict {
            self.verdict = Judgement::Refused { document: std::mem::take(document), reason };
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
    pub fn outcome(&self, outcome: Outcome) -> Outcome {
        match self.verdict {
            Judgement::Same { .. } => Outcome::Same,
            Judgement::Refused { .. } => Outcome::Rejected,
            Judgement::Say { .. } => outcome,
        }
    }

    /// The journal's line once the outcome is known. `outcome` is ignored where the decision alone settles it.
    pub fn entry(self, outcome: Outcome, reason: Option<String>) -> Entry {
        let outcome = self.outcome(outcome);
        let (change, document, reason) = match self.verdict {
            Judgement::Same { after } => (Arc::default(), after, None),
            Judgement::Refused { document, reason } => (Arc::default(), Some(document), Some(reason)),
            Judgement::Say { change, document, after } => {
                let refused = matches!(outcome, Outcome::Rejected | Outcome::PartlyRejected);
                (change, if refused { Some(document) } else { after }, reason)
            }
        };
        Entry { key: self.key, change, document, fingerprint: self.fingerprint, outcome, reason }
    }
}
