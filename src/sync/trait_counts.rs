//! Which traits did a run send? Counted over the groups that the destination acknowledged.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::decide::{Action, Decision};

/// Traits counted: more than any mapping has. A line of the record is some sixty bytes.
const TRAITS_MAX: usize = 1_000;

/// In how many groups a trait was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct TraitCounts {
    /// Groups that got a value for it and had none.
    pub added: u64,
    /// Groups whose value was replaced, or sent again because it was unconfirmed.
    pub changed: u64,
    /// Groups from which it was removed.
    pub unset: u64,
}

/// Counts traits while a run sends.
#[derive(Debug, Default)]
pub(super) struct TraitTally {
    counts: HashMap<String, TraitCounts>,
    /// New groups that were sent as plain documents: a million of them are counted without a look at their traits.
    plain: u64,
    /// By position of the trait, how many of those had no value for it.
    plain_without: Vec<u64>,
}

impl TraitTally {
    /// Adds the change of a group, which was acknowledged.
    pub(super) fn add(&mut self, decision: &Decision) {
        match &decision.action {
            Action::SendPlain { document } => {
                self.plain += 1;
                for position in document.omitted.iter().map(|position| usize::from(*position)) {
                    if self.plain_without.len() <= position {
                        self.plain_without.resize(position + 1, 0);
                    }
                    self.plain_without[position] += 1;
                }
            }
            Action::Send { change, .. } => {
                for (_, name, _) in change.values() {
                    let had = decision.before.0.contains_key(name);
                    self.count(name, |counts| if had { counts.changed += 1 } else { counts.added += 1 });
                }
                for name in &change.unset {
                    self.count(name, |counts| counts.unset += 1);
                }
            }
            Action::Unchanged { .. } | Action::Reject { .. } => {}
        }
    }

    fn count(&mut self, name: &str, add: impl FnOnce(&mut TraitCounts)) {
        let is_full = self.counts.len() >= TRAITS_MAX;
        match self.counts.get_mut(name) {
            Some(counts) => add(counts),
            None if is_full => {}
            None => add(self.counts.entry(name.to_owned()).or_default()),
        }
    }

    /// The counts by trait. `plain` are the traits of plain documents, sorted by name.
    pub(super) fn finish<'n>(mut self, plain: impl Iterator<Item = &'n str>) -> BTreeMap<String, TraitCounts> {
        for (position, name) in plain.enumerate() {
            let without = self.plain_without.get(position).copied().unwrap_or_default();
            let added = self.plain.saturating_sub(without);
            if added > 0 {
                self.count(name, |counts| counts.added += added);
            }
        }
        self.counts.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::ledger::CandidateKind;
    use crate::model::{Change, Document, PlainDocument};

    fn decision(before: Value, action: Action) -> Decision {
        Decision {
            key: "k".to_owned(),
            kind: CandidateKind::Changed,
            before: Document(before.as_object().unwrap().clone()),
            confirmed: true,
            fingerprint: None,
            settled_seq: 0,
            user: None,
            at: chrono::DateTime::UNIX_EPOCH,
            cells: Vec::new(),
            action,
        }
    }

    #[test]
    fn each_trait_is_counted_by_what_became_of_it() {
        let mut tally = TraitTally::default();
        let change = Change {
            set: json!({"plan": "pro", "city": "Bonn"}).as_object().unwrap().clone(),
            unset: ["old".to_owned()].into(),
            ..Change::default()
        };
        let send = Action::Send { change: Arc::new(change), after: None };
        tally.add(&decision(json!({"plan": "free", "old": 1}), send));
        for omitted in [vec![], vec![1_u16], vec![1]] {
            let document = PlainDocument { text: "{}".into(), traits: 3 - omitted.len(), omitted: omitted.into() };
            tally.add(&decision(json!({}), Action::SendPlain { document }));
        }
        tally.add(&decision(json!({}), Action::Reject { unsendable: true, reason: String::new() }));
        let counts = tally.finish(["city", "never", "plan"].into_iter());
        let found: Vec<_> = counts.iter().map(|(name, of)| (name.as_str(), of.added, of.changed, of.unset)).collect();
        assert_eq!(found, [("city", 4, 0, 0), ("never", 1, 0, 0), ("old", 0, 0, 1), ("plan", 3, 1, 0)]);
    }

    #[test]
    fn so_many_traits_are_counted_and_no_more() {
        let mut tally = TraitTally::default();
        for at in 0..3_000 {
            let change = Change { set: [(format!("t{at}"), json!(1))].into_iter().collect(), ..Change::default() };
            tally.add(&decision(json!({}), Action::Send { change: Arc::new(change), after: None }));
        }
        assert_eq!(tally.finish(std::iter::empty()).len(), TRAITS_MAX);
    }
}
