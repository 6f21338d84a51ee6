//! A plan for people: the changes that a run would send, group by group, and what becomes of each trait over all of them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::decide::{Action, Decision};
use crate::destination::User;
use crate::format::{cut, cut_both};
use crate::ledger::CandidateKind;
use crate::model::document::{self, Document};
use crate::model::{Change, Traits};

/// The kinds of a planned change, as they can be filtered by.
pub const CHANGE_KINDS: [&str; 4] = ["new", "changed", "missing", "rejected"];

/// Examples that a summary keeps of a trait: as many as show a pattern.
const EXAMPLES_MAX: usize = 3;
/// Characters of an example's values: a line of a terminal has room for two.
const EXAMPLE_CHARS_MAX: usize = 60;

/// One group of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PlannedChange {
    /// The group's id.
    pub key: String,
    /// What it is called: the value of the mapping's `label`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// `new`, `changed`, `missing`.
    #[schemars(extend("enum" = ["new", "changed", "missing"]))]
    pub kind: String,
    /// Whether the synced state is confirmed; else the group is resent in full.
    pub certain: bool,
    /// The synced values of the traits concerned.
    pub before: Traits,
    /// What would be sent; nothing for a group that cannot be sent.
    pub change: Change,
    /// The user that the call names, where the mapping has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<PlannedUser>,
    /// Why it cannot be sent.
    pub rejection: Option<String>,
}

/// The user that a call names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlannedUser {
    /// A known user's id.
    Id(String),
    /// An anonymous id.
    AnonymousId(String),
}

impl PlannedUser {
    fn of(user: &User) -> PlannedUser {
        match user {
            User::Id(id) => PlannedUser::Id(id.clone()),
            User::Anonymous(id) => PlannedUser::AnonymousId(id.clone()),
        }
    }
}

impl PlannedChange {
    /// A decision as a plan shows it, called by the value of the trait `label`; none where nothing is to be sent.
    pub fn of(decision: &Decision, label: Option<&str>) -> Option<PlannedChange> {
        let (before, change, rejection) = match &decision.action {
            Action::Unchanged { .. } => return None,
            Action::SendPlain { document } => {
                let set = Document::from_text(&document.text).unwrap_or_default().0;
                (Traits::new(), Change { set, ..Change::default() }, None)
            }
            Action::Reject { reason, .. } => (Traits::new(), Change::default(), Some(reason.clone())),
            Action::Send { change, .. } => {
                let synced = |name: &String| Some((name.clone(), decision.before.0.get(name)?.clone()));
                (change.names().filter_map(synced).collect(), change.as_ref().clone(), None)
            }
        };
        let kind = match decision.kind {
            CandidateKind::New => "new",
            CandidateKind::Changed => "changed",
            CandidateKind::Missing => "missing",
        };
        let certain = decision.confirmed;
        let label = label.and_then(|label| {
            let sent = change.values().map(|(_, name, value)| (name, value)).chain(&change.repeated);
            document::label(label, sent.chain(&decision.before.0))
        });
        let user = decision.user.as_ref().filter(|_| rejection.is_none()).map(PlannedUser::of);
        let (key, kind) = (decision.key.clone(), kind.to_owned());
        Some(PlannedChange { key, label, kind, certain, before, change, user, rejection })
    }
}

/// Which changes of a plan are shown. An empty set does not restrict anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChangeFilter {
    /// Only changes of one of these traits.
    pub traits: BTreeSet<String>,
    /// Only changes of one of these kinds ([`CHANGE_KINDS`]).
    pub kinds: BTreeSet<String>,
}

impl ChangeFilter {
    /// Whether anything is filtered out.
    pub fn is_empty(&self) -> bool {
        self.traits.is_empty() && self.kinds.is_empty()
    }

    /// Whether a change is shown.
    pub fn admits(&self, planned: &PlannedChange) -> bool {
        let kind = if planned.rejection.is_some() { "rejected" } else { &planned.kind };
        (self.kinds.is_empty() || self.kinds.contains(kind))
            && (self.traits.is_empty() || planned.change.names().any(|name| self.traits.contains(name)))
    }
}

/// What a plan does to one trait, over all groups that its filter admits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TraitSummary {
    /// The trait.
    pub name: String,
    /// Groups that get a value for it and had none.
    pub added: u64,
    /// Groups whose value changes.
    pub changed: u64,
    /// Groups from which it is removed.
    pub unset: u64,
    /// The first few groups with values of their own.
    pub examples: Vec<TraitExample>,
}

/// What a plan does to a trait of one group. Values are JSON, shortened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TraitExample {
    /// The group's id.
    pub key: String,
    /// The synced value, if there is one.
    pub before: Option<String>,
    /// The value that is sent, unless the trait is removed.
    pub after: Option<String>,
}

/// Sums up the changes of a plan by trait.
#[derive(Debug, Default)]
pub struct TraitTotals(BTreeMap<String, TraitSummary>);

impl TraitTotals {
    /// Adds a group.
    pub fn add(&mut self, planned: &PlannedChange, filter: &ChangeFilter) {
        let shown = |name: &String| filter.traits.is_empty() || filter.traits.contains(name);
        for (_, name, value) in planned.change.values().filter(|(_, name, _)| shown(name)) {
            self.count(planned, name, Some(value));
        }
        for name in planned.change.unset.iter().filter(|name| shown(name)) {
            self.count(planned, name, None);
        }
    }

    fn count(&mut self, planned: &PlannedChange, name: &str, value: Option<&Value>) {
        if !self.0.contains_key(name) {
            let empty = TraitSummary { name: name.to_owned(), added: 0, changed: 0, unset: 0, examples: Vec::new() };
            self.0.insert(name.to_owned(), empty);
        }
        let Some(summary) = self.0.get_mut(name) else { return };
        let before = planned.before.get(name);
        match (before, value) {
            (_, None) => summary.unset += 1,
            (None, Some(_)) => summary.added += 1,
            (Some(_), Some(_)) => summary.changed += 1,
        }
        if summary.examples.len() < EXAMPLES_MAX {
            let (before, after) = match (before, value) {
                (Some(before), Some(after)) => {
                    let [before, after] = cut_both(&text(before), &text(after), EXAMPLE_CHARS_MAX);
                    (Some(before), Some(after))
                }
                (before, after) => (before.map(shortened), after.map(shortened)),
            };
            let is_known = |example: &TraitExample| (&example.before, &example.after) == (&before, &after);
            if !summary.examples.iter().any(is_known) {
                summary.examples.push(TraitExample { key: planned.key.clone(), before, after });
            }
        }
    }

    /// The traits by name.
    pub fn finish(self) -> Vec<TraitSummary> {
        self.0.into_values().collect()
    }
}

/// A value as JSON.
fn text(value: &Value) -> String {
    if document::is_unknown(value) { "(unconfirmed)".to_owned() } else { value.to_string() }
}

/// The same, as far as a line has room for it.
fn shortened(value: &Value) -> String {
    cut(&text(value), EXAMPLE_CHARS_MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn planned(key: &str, kind: &str, before: Value, set: Value, unset: &[&str]) -> PlannedChange {
        let (Value::Object(before), Value::Object(set)) = (before, set) else { panic!() };
        let unset = unset.iter().map(|name| (*name).to_owned()).collect();
        let change = Change { set, unset, ..Change::default() };
        let (key, kind) = (key.to_owned(), kind.to_owned());
        PlannedChange { key, label: None, kind, certain: true, before, change, user: None, rejection: None }
    }

    #[test]
    fn traits_are_summed_up_over_all_groups_with_a_few_examples() {
        let mut totals = TraitTotals::default();
        let all = ChangeFilter::default();
        for at in 0..5 {
            totals.add(&planned(&format!("n{at}"), "new", json!({}), json!({"plan": at, "arr": 1}), &[]), &all);
        }
        totals.add(
            &planned("c", "changed", json!({"plan": "x".repeat(80), "old": 1}), json!({"plan": 2}), &["old"]),
            &all,
        );
        let found = totals.finish();
        let counts: Vec<_> = found.iter().map(|of| (of.name.as_str(), of.added, of.changed, of.unset)).collect();
        assert_eq!(counts, [("arr", 5, 0, 0), ("old", 0, 0, 1), ("plan", 5, 1, 0)]);
        assert_eq!(
            found[2].examples.iter().map(|example| example.key.as_str()).collect::<Vec<_>>(),
            ["n0", "n1", "n2"]
        );
        let removed = TraitExample { key: "c".to_owned(), before: Some("1".to_owned()), after: None };
        assert_eq!(found[1].examples, [removed]);
    }

    #[test]
    fn a_long_value_is_shortened_between_characters() {
        let text = shortened(&json!("é".repeat(200)));
        assert_eq!(text.chars().count(), EXAMPLE_CHARS_MAX + 1);
        assert!(text.ends_with('…'));
        assert_eq!(shortened(&document::unconfirmed()), "(unconfirmed)");
    }

    #[test]
    fn a_group_is_called_by_what_is_sent_or_else_by_what_is_synced() {
        let action = |change: Value| Action::Send {
            change: std::sync::Arc::new(Change { set: change.as_object().unwrap().clone(), ..Change::default() }),
            after: None,
        };
        let decision = |before: Value, action: Action| Decision {
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
        };
        let label = |decision: Decision| PlannedChange::of(&decision, Some("name")).unwrap().label;
        let old = json!({"name": "Acme", "plan": "free"});
        assert_eq!(label(decision(old.clone(), action(json!({"plan": "pro"})))).as_deref(), Some("Acme"));
        assert_eq!(label(decision(old.clone(), action(json!({"name": "Acme 2"})))).as_deref(), Some("Acme 2"));
        assert_eq!(label(decision(json!({}), action(json!({"plan": "pro"})))), None);
        let rejected = Action::Reject { unsendable: true, reason: "no".to_owned() };
        assert_eq!(label(decision(old.clone(), rejected)).as_deref(), Some("Acme"));
        assert_eq!(PlannedChange::of(&decision(old, action(json!({"plan": "pro"}))), None).unwrap().label, None);
    }

    #[test]
    fn filters_go_by_trait_and_by_kind() {
        let new = planned("n", "new", json!({}), json!({"plan": 1}), &[]);
        let gone = planned("g", "missing", json!({"arr": 1}), json!({}), &["arr"]);
        let rejected =
            PlannedChange { rejection: Some("too large".to_owned()), ..planned("r", "new", json!({}), json!({}), &[]) };
        let admitted = |traits: &[&str], kinds: &[&str]| {
            let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            let filter = ChangeFilter { traits: set(traits), kinds: set(kinds) };
            [&new, &gone, &rejected].map(|planned| filter.admits(planned))
        };
        assert_eq!(admitted(&[], &[]), [true, true, true]);
        assert_eq!(admitted(&["arr"], &[]), [false, true, false]);
        assert_eq!(admitted(&[], &["new"]), [true, false, false]);
        assert_eq!(admitted(&[], &["rejected", "missing"]), [false, true, true]);
        assert_eq!(admitted(&["plan"], &["missing"]), [false, false, false]);
    }
}
