//! The product in one function: given what a row says now and what is synced to the destination, what must be sent.
//!
//! [`delta`] alone decides what is sent; SQL only proposes candidates. It is pure and total.
//!
//! Confirmation: a known document is *confirmed* when every request ever made about the group was settled. Otherwise some
//! request may or may not have been applied, and everything is resent, unsets included. In that state a trait we
//! may not speak about (a null under `skip`, a removed trait under `keep`) is recorded as [`document::unconfirmed`]: still
//! visible, equal to nothing. A trait that is set once in that state is recorded as [`document::taken`]: whichever
//! value came first stays, and no response says which.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::document::{self, Document, Traits};
use super::number;

/// What a trait's new value does at the destination.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Hash, serde::Serialize, strum::IntoStaticStr, strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Op {
    /// Replace the value.
    #[default]
    Set,
    /// Set the value only where the destination has none yet.
    SetOnce,
    /// Add the difference to the known value, so that others may add to the same number.
    Add,
    /// Append the new elements to a list that others may append to as well.
    Append,
    /// Prepend the new elements.
    Prepend,
}

impl Op {
    /// Every operator.
    pub const ALL: &'static [Op] = <Op as strum::VariantArray>::VARIANTS;

    /// Its name in a mapping file.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether applying it twice differs from applying it once. What became of such a change must be known before the
    /// trait can be spoken about again.
    pub fn accumulates(self) -> bool {
        matches!(self, Op::Add | Op::Append | Op::Prepend)
    }
}

/// What a null in the source means for a trait.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    strum::IntoStaticStr,
    strum::VariantArray,
    strum::VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum OnNull {
    /// Remove the trait from the group.
    #[default]
    Unset,
    /// Send a JSON null.
    Null,
    /// Say nothing; whatever the destination holds stays.
    Skip,
}

impl OnNull {
    /// Its name in a mapping file.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// How one trait behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TraitRule {
    /// What a new value does.
    pub op: Op,
    /// What a null means.
    pub on_null: OnNull,
    /// Whether it is sent along with every change of its group: tools behind a destination take a group's type or name
    /// from the traits of each call. Only with [`Op::Set`].
    pub always: bool,
}

/// How the traits of a mapping behave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// The mapped traits.
    pub traits: BTreeMap<String, TraitRule>,
    /// Whether a trait that the known document has and the mapping no longer names is unset (else it is left alone).
    pub unset_removed: bool,
    /// Whether an accumulating trait whose last change has an unknown outcome is set to the source's value (else the
    /// group is held). The operator asks for it.
    pub overwrite_unknown: bool,
}

/// What we believe the destination holds for a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Known<'a> {
    /// Exactly this document; an empty one for a group that was never spoken about.
    Confirmed(&'a Document),
    /// This document, or something that an unconfirmed request made of it.
    Unconfirmed(&'a Document),
}

/// What is sent about one group.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Change {
    /// Traits to replace.
    #[serde(default, skip_serializing_if = "Traits::is_empty")]
    pub set: Traits,
    /// Traits to set only where the destination has none.
    #[serde(default, skip_serializing_if = "Traits::is_empty")]
    pub set_once: Traits,
    /// Numbers to add to what the destination holds.
    #[serde(default, skip_serializing_if = "Traits::is_empty")]
    pub add: Traits,
    /// Lists of elements to append.
    #[serde(default, skip_serializing_if = "Traits::is_empty")]
    pub append: Traits,
    /// Lists of elements to prepend.
    #[serde(default, skip_serializing_if = "Traits::is_empty")]
    pub prepend: Traits,
    /// Traits to remove.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unset: BTreeSet<String>,
    /// Traits that did not change and are sent along, with the values that the destination holds. Never a reason to send,
    /// and not counted.
    #[serde(default, skip_serializing_if = "Traits::is_empty")]
    pub repeated: Traits,
    /// Remove the whole group.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub delete: bool,
}

impl Change {
    /// What travels: the repeated traits are set like any other.
    pub fn as_sent(&self) -> Change {
        let mut sent = self.clone();
        sent.set.append(&mut sent.repeated);
        sent
    }

    /// Whether there is nothing to say; what is only repeated is nothing.
    pub fn is_empty(&self) -> bool {
        !self.delete && self.traits_count() == 0
    }

    /// Whether it does nothing but replace values.
    pub fn only_sets(&self) -> bool {
        self.traits_count() == self.set.len() && !self.delete
    }

    /// The values under each operator.
    pub fn by_op(&self) -> [(Op, &Traits); 5] {
        [
            (Op::Set, &self.set),
            (Op::SetOnce, &self.set_once),
            (Op::Add, &self.add),
            (Op::Append, &self.append),
            (Op::Prepend, &self.prepend),
        ]
    }

    /// The values under one operator, to be filled.
    pub fn under(&mut self, op: Op) -> &mut Traits {
        match op {
            Op::Set => &mut self.set,
            Op::SetOnce => &mut self.set_once,
            Op::Add => &mut self.add,
            Op::Append => &mut self.append,
            Op::Prepend => &mut self.prepend,
        }
    }

    /// Every trait that is given a value, with its operator.
    pub fn values(&self) -> impl Iterator<Item = (Op, &String, &Value)> {
        self.by_op().into_iter().flat_map(|(op, traits)| traits.iter().map(move |(name, value)| (op, name, value)))
    }

    /// Every trait that changes.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.values().map(|(_, name, _)| name).chain(&self.unset)
    }

    /// Whether saying it twice could differ from saying it once.
    pub fn accumulates(&self) -> bool {
        self.by_op().iter().any(|(op, traits)| op.accumulates() && !traits.is_empty())
    }

    /// How many traits change.
    pub fn traits_count(&self) -> usize {
        self.by_op().iter().map(|(_, traits)| traits.len()).sum::<usize>() + self.unset.len()
    }
}

/// A change and what the destination holds once it is acknowledged.
#[derive(Debug, Clone, PartialEq)]
pub struct Delta {
    /// What to say; empty when the destination already holds the new document.
    pub change: Change,
    /// What to remember once it is acknowledged (or at once, when there is nothing to say).
    pub after: After,
    /// Why nothing may be sent about the group, if so: a trait accumulates, and what became of its last change is not
    /// known, or its value is not of the kind that accumulates.
    pub held: Option<String>,
}

/// The document that a change leads to.
#[derive(Debug, Clone, PartialEq)]
pub enum After {
    /// Exactly what the change sets, as for nearly every new group: a million of them need no second copy.
    WhatIsSet,
    /// This one.
    Document(Document),
    /// The one with this canonical text, for those of which many are held at a time.
    Text(Arc<str>),
}

impl After {
    /// The document, given the change it belongs to.
    pub fn document(self, change: &Change) -> Document {
        match self {
            After::WhatIsSet => Document(change.set.clone()),
            After::Document(document) => document,
            After::Text(text) => Document::from_text(&text).unwrap_or_default(),
        }
    }

    /// Its canonical text, given the change it belongs to.
    pub fn text(self, change: &Change) -> Arc<str> {
        match self {
            After::Text(text) => text,
            other => other.document(change).to_text().into(),
        }
    }
}

/// What must be sent so that the destination holds `new`.
///
/// A trait marked `always` whose value changed is a change like any other. Where it did not, it is repeated beside the
/// others' changes, with the row's value, which is certainly held; alone it is never sent. A null that is skipped, or
/// that has removed the trait, is not repeated.
///
/// `new` has a value for every mapped trait, an explicit null where the source has one. The change is minimal when
/// `known` is confirmed and complete when it is not; it is empty exactly when `known` is confirmed and nothing differs, or
/// when the rules leave nothing to say.
pub fn delta(new: Document, known: Known<'_>, rules: &Rules) -> Delta {
    let (before, confirmed) = match known {
        Known::Confirmed(document) => (&document.0, true),
        Known::Unconfirmed(document) => (&document.0, false),
    };
    debug_assert!(rules.traits.keys().all(|name| new.0.contains_key(name)), "a mapped trait has no value");
    let (mut set, mut change, mut after) = (new.0, Change::default(), Traits::new());
    let mut hold = None;
    let mut unchanged = Traits::new();
    let sure = |held: Option<&Value>| confirmed && !held.is_some_and(document::is_unknown);
    // What stays in `set` is moved, not copied: for a new group that is all of it.
    set.retain(|name, value| {
        let Some(rule) = rules.traits.get(name) else { return false };
        let held = before.get(name);
        match (rule.op, &*value, rule.on_null) {
            (Op::SetOnce, Value::Null, _) | (_, Value::Null, OnNull::Skip) => {
                if let Some(held) = held {
                    after.insert(name.clone(), if confirmed { held.clone() } else { document::unconfirmed() });
                }
                false
            }
            (_, Value::Null, OnNull::Unset) => {
                if held.is_some() || !confirmed {
                    change.unset.insert(name.clone());
                }
                false
            }
            (Op::SetOnce, _, _) => {
                let value = std::mem::take(value);
                match held {
                    // Whatever the destination took first stays; a later value is not sent.
                    Some(held) if confirmed && *held != document::unconfirmed() => {
                        after.insert(name.clone(), held.clone());
                    }
                    _ => {
                        let first = confirmed && held.is_none();
                        after.insert(name.clone(), if first { value.clone() } else { document::taken() });
                        change.set_once.insert(name.clone(), value);
                    }
                }
                false
            }
            (op, other, _) if op.accumulates() && !other.is_null() && (sure(held) || !rules.overwrite_unknown) => {
                if !sure(held) {
                    hold.get_or_insert_with(|| unknown_outcome(name, op));
                }
                match accumulated(op, held, value) {
                    Ok(Some(more)) => drop(change.under(op).insert(name.clone(), more)),
                    Ok(None) => {}
                    Err(reason) => drop(hold.get_or_insert_with(|| format!("trait `{name}`: {reason}"))),
                }
                after.insert(name.clone(), std::mem::take(value));
                false
            }
            _ => {
                let says = !confirmed || held != Some(value);
                if rule.always && !says {
                    unchanged.insert(name.clone(), value.clone());
                }
                if !before.is_empty() {
                    after.insert(name.clone(), if says { value.clone() } else { std::mem::take(value) });
                }
                says
            }
        }
    });
    for (name, held) in before {
        if rules.traits.contains_key(name) {
            continue;
        }
        if rules.unset_removed {
            change.unset.insert(name.clone());
        } else {
            after.insert(name.clone(), if confirmed { held.clone() } else { document::unconfirmed() });
        }
    }
    let mut change = Change { set, ..change };
    if !change.is_empty() {
        change.repeated = unchanged;
    }
    let after = match (before.is_empty(), after.is_empty()) {
        (true, true) if !change.set.is_empty() => After::WhatIsSet,
        (true, _) => After::Document(Document(change.set.clone().into_iter().chain(after).collect())),
        (false, _) => After::Document(Document(after)),
    };
    Delta { change, after, held: hold }
}

fn unknown_outcome(name: &str, op: Op) -> String {
    format!(
        "outcome unknown: an earlier `{}` to trait `{name}` may or may not have been applied, and repeating it could \
         apply it twice; look at the group at the destination, then run with `--retry-rejected`, which sets the trait \
         to the warehouse's value",
        op.name()
    )
}

/// What brings the held value to the new one by accumulating; nothing when it is there already.
fn accumulated(op: Op, held: Option<&Value>, new: &Value) -> Result<Option<Value>, String> {
    if op == Op::Add {
        let Value::Number(new) = new else {
            return Err("`op = \"add\"` needs a number: declare `as = \"number\"`".to_owned());
        };
        let difference = match held {
            None => new.to_string(),
            Some(Value::Number(held)) => number::difference(new.as_str(), held.as_str())
                .ok_or("a number too long to be subtracted: use `op = \"set\"`")?,
            Some(_) => {
                return Err("what the destination holds is no number: set it once with `op = \"set\"`".to_owned());
            }
        };
        return document::number_value(&difference).map(|number| (difference != "0").then_some(number));
    }
    let elements = |value: &Value| match value {
        Value::Array(items) => items.clone(),
        one => vec![one.clone()],
    };
    // Elements that are there already are counted, not only looked up: a list may hold one twice.
    let mut there = held.map(elements).unwrap_or_default();
    let mut fresh = elements(new);
    fresh.retain(|item| match there.iter().position(|other| other == item) {
        Some(at) => {
            there.swap_remove(at);
            false
        }
        None => true,
    });
    Ok((!fresh.is_empty()).then_some(Value::Array(fresh)))
}

/// What must be sent about a group that left the model, when its traits are to be unset.
pub fn unset_all(known: Known<'_>, rules: &Rules) -> Change {
    let (before, confirmed) = match known {
        Known::Confirmed(document) => (&document.0, true),
        Known::Unconfirmed(document) => (&document.0, false),
    };
    let mut unset: BTreeSet<String> = before.keys().cloned().collect();
    if !confirmed {
        unset.extend(rules.traits.keys().cloned());
    }
    Change { unset, ..Change::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn document(value: Value) -> Document {
        let Value::Object(traits) = value else { panic!("an object") };
        Document(traits)
    }

    /// The change and the document it leads to.
    fn delta(new: &Document, known: Known<'_>, rules: &Rules) -> (Change, Document) {
        let Delta { change, after, held } = super::delta(new.clone(), known, rules);
        assert_eq!(held, None);
        let after = after.document(&change);
        (change, after)
    }

    fn rules(traits: &[(&str, Op, OnNull)], unset_removed: bool) -> Rules {
        let traits = traits
            .iter()
            .map(|(name, op, on_null)| ((*name).to_owned(), TraitRule { op: *op, on_null: *on_null, always: false }));
        Rules { traits: traits.collect(), unset_removed, overwrite_unknown: false }
    }

    #[test]
    fn only_what_differs_is_said() {
        let rules = rules(
            &[("arr", Op::Set, OnNull::Unset), ("name", Op::Set, OnNull::Unset), ("plan", Op::Set, OnNull::Unset)],
            false,
        );
        let known = document(json!({"arr": 1, "name": "Acme", "plan": "free"}));
        let new = document(json!({"arr": 2, "name": "Acme", "plan": null}));
        let (change, after) = delta(&new, Known::Confirmed(&known), &rules);
        assert_eq!(serde_json::to_value(&change).unwrap(), json!({"set": {"arr": 2}, "unset": ["plan"]}));
        assert_eq!(after, document(json!({"arr": 2, "name": "Acme"})));
        assert!(delta(&new, Known::Confirmed(&after), &rules).0.is_empty());
        let again = delta(&new, Known::Unconfirmed(&after), &rules).0;
        assert_eq!(
            serde_json::to_value(&again).unwrap(),
            json!({"set": {"arr": 2, "name": "Acme"}, "unset": ["plan"]})
        );
    }

    #[test]
    fn what_always_travels_goes_along_with_changes_and_never_causes_one() {
        let mut rules = rules(&[("arr", Op::Set, OnNull::Unset), ("name", Op::Set, OnNull::Unset)], false);
        rules.traits.get_mut("name").unwrap().always = true;
        let said = |new: Value, known: Known<'_>| {
            let (change, after) = delta(&document(new), known, &rules);
            (serde_json::to_value(&change).unwrap(), change.traits_count(), after)
        };
        let known = document(json!({"arr": 1, "name": "Acme"}));
        let first = said(json!({"arr": 1, "name": "Acme"}), Known::Confirmed(&Document::default()));
        assert_eq!(
            (first.0, first.1),
            (json!({"set": {"arr": 1, "name": "Acme"}}), 2),
            "all of a new group is a change"
        );
        let second = said(json!({"arr": 2, "name": "Acme"}), Known::Confirmed(&known));
        assert_eq!((second.0, second.1), (json!({"set": {"arr": 2}, "repeated": {"name": "Acme"}}), 1));
        assert_eq!(second.2, document(json!({"arr": 2, "name": "Acme"})));
        let nothing = said(json!({"arr": 1, "name": "Acme"}), Known::Confirmed(&known));
        assert_eq!((nothing.0, nothing.2), (json!({}), known.clone()), "it is no reason to send");
        let renamed = said(json!({"arr": 1, "name": "Acme Inc"}), Known::Confirmed(&known));
        assert_eq!((renamed.0, renamed.1), (json!({"set": {"name": "Acme Inc"}}), 1), "its own change is a change");
        let unset = said(json!({"arr": null, "name": "Acme"}), Known::Confirmed(&known));
        assert_eq!(unset.0, json!({"unset": ["arr"], "repeated": {"name": "Acme"}}));
        let gone = said(json!({"arr": 2, "name": null}), Known::Confirmed(&known));
        assert_eq!(gone.0, json!({"set": {"arr": 2}, "unset": ["name"]}), "there is nothing to repeat");
        let unconfirmed = said(json!({"arr": 2, "name": "Acme"}), Known::Unconfirmed(&known));
        assert_eq!(unconfirmed.0, json!({"set": {"arr": 2, "name": "Acme"}}), "everything is sent anyway");
    }

    #[test]
    fn set_once_speaks_only_where_nothing_is_held() {
        let rules = rules(&[("first_plan", Op::SetOnce, OnNull::Unset)], false);
        let new = document(json!({"first_plan": "pro"}));
        let first = delta(&new, Known::Confirmed(&Document::default()), &rules);
        assert_eq!(serde_json::to_value(&first.0).unwrap(), json!({"set_once": {"first_plan": "pro"}}));
        let later = document(json!({"first_plan": "enterprise"}));
        assert!(delta(&later, Known::Confirmed(&first.1), &rules).0.is_empty());
        let gone = document(json!({"first_plan": null}));
        assert_eq!(delta(&gone, Known::Confirmed(&first.1), &rules).1, first.1);
    }

    #[test]
    fn accumulating_traits_say_the_difference_and_are_held_where_it_is_not_known() {
        let all =
            [("n", Op::Add, OnNull::Unset), ("tags", Op::Append, OnNull::Unset), ("log", Op::Prepend, OnNull::Skip)];
        let rules = rules(&all, false);
        let first = document(json!({"n": 1.5, "tags": ["a", "a"], "log": "x"}));
        let (change, after) = delta(&first, Known::Confirmed(&Document::default()), &rules);
        let said = json!({"add": {"n": 1.5}, "append": {"tags": ["a", "a"]}, "prepend": {"log": ["x"]}});
        assert_eq!(serde_json::to_value(&change).unwrap(), said);
        assert_eq!(after, first);
        let second = document(json!({"n": 1, "tags": ["a", "b", "a", "a"], "log": null}));
        let (change, after) = delta(&second, Known::Confirmed(&after), &rules);
        assert_eq!(
            serde_json::to_value(&change).unwrap(),
            json!({"add": {"n": -0.5}, "append": {"tags": ["b", "a"]}}),
            "only what is new, twice where it is there twice more"
        );
        assert_eq!(after, document(json!({"n": 1, "tags": ["a", "b", "a", "a"], "log": "x"})));
        assert!(delta(&second, Known::Confirmed(&after), &rules).0.is_empty());

        let unknown = super::delta(second.clone(), Known::Unconfirmed(&after), &rules);
        assert!(unknown.held.unwrap().starts_with("outcome unknown: an earlier `add` to trait `n`"));
        let overwrite = Rules { overwrite_unknown: true, ..rules };
        let (change, _) = delta(&second, Known::Unconfirmed(&after), &overwrite);
        assert_eq!(
            serde_json::to_value(&change).unwrap(),
            json!({"set": {"n": 1, "tags": ["a", "b", "a", "a"]}}),
            "the operator asked to overwrite"
        );
        let text =
            super::delta(document(json!({"n": "7", "tags": [], "log": null})), Known::Confirmed(&after), &overwrite);
        assert!(text.held.unwrap().contains("trait `n`: `op = \"add\"` needs a number"));
    }

    #[test]
    fn removed_traits_follow_the_policy_and_stay_visible() {
        let known = document(json!({"name": "Acme", "old": 7}));
        let new = document(json!({"name": "Acme"}));
        let keep = rules(&[("name", Op::Set, OnNull::Unset)], false);
        let kept = delta(&new, Known::Confirmed(&known), &keep);
        assert!(kept.0.is_empty());
        assert_eq!(kept.1, known);
        let unset = Rules { unset_removed: true, ..keep };
        let dropped = delta(&new, Known::Confirmed(&kept.1), &unset);
        assert_eq!(serde_json::to_value(&dropped.0).unwrap(), json!({"unset": ["old"]}));
        assert_eq!(dropped.1, new);
    }

    #[test]
    fn a_skipped_null_in_an_unconfirmed_state_leaves_nothing_we_would_trust_later() {
        let rules = rules(&[("plan", Op::Set, OnNull::Skip)], false);
        let known = document(json!({"plan": "free"}));
        let null = document(json!({"plan": null}));
        let after = delta(&null, Known::Unconfirmed(&known), &rules).1;
        let back = delta(&known, Known::Confirmed(&after), &rules);
        assert_eq!(serde_json::to_value(&back.0).unwrap(), json!({"set": {"plan": "free"}}));
    }

    #[test]
    fn a_first_value_said_in_an_unconfirmed_state_is_held_but_not_known() {
        let once = rules(&[("plan", Op::SetOnce, OnNull::Unset)], false);
        let (free, pro) = (document(json!({"plan": "free"})), document(json!({"plan": "pro"})));
        // `free` may have arrived; then `pro` does not replace it.
        let maybe = document(json!({"plan": document::unconfirmed()}));
        let second = delta(&pro, Known::Unconfirmed(&maybe), &once);
        assert_eq!(serde_json::to_value(&second.0).unwrap(), json!({"set_once": {"plan": "pro"}}));
        assert!(delta(&free, Known::Confirmed(&second.1), &once).0.is_empty());
        let replace = rules(&[("plan", Op::Set, OnNull::Unset)], false);
        let edited = delta(&pro, Known::Confirmed(&second.1), &replace);
        assert_eq!(serde_json::to_value(&edited.0).unwrap(), json!({"set": {"plan": "pro"}}));
    }

    #[test]
    fn a_first_value_that_may_not_have_arrived_is_said_again_after_a_null() {
        let once = rules(&[("plan", Op::SetOnce, OnNull::Unset)], false);
        let maybe = document(json!({"plan": document::unconfirmed()}));
        let settled = delta(&document(json!({"plan": null})), Known::Unconfirmed(&maybe), &once);
        assert!(settled.0.is_empty());
        let back = delta(&document(json!({"plan": "pro"})), Known::Confirmed(&settled.1), &once);
        assert_eq!(serde_json::to_value(&back.0).unwrap(), json!({"set_once": {"plan": "pro"}}));
    }

    /// What a destination does with a change.
    fn apply(held: &Document, change: &Change) -> Document {
        let mut held = held.0.clone();
        for (name, value) in &change.set {
            held.insert(name.clone(), value.clone());
        }
        for (name, value) in &change.set_once {
            held.entry(name.clone()).or_insert_with(|| value.clone());
        }
        for name in &change.unset {
            held.remove(name);
        }
        Document(held)
    }

    /// What the destination must hold for `new`, given what it held.
    fn wanted(new: &Document, held: &Document, rules: &Rules) -> Document {
        let mut want = Traits::new();
        for (name, value) in &held.0 {
            if !rules.traits.contains_key(name) && !rules.unset_removed {
                want.insert(name.clone(), value.clone());
            }
        }
        for (name, rule) in &rules.traits {
            let value = &new.0[name];
            let held = held.0.get(name);
            let result = match (rule.op, value, rule.on_null) {
                (Op::SetOnce, Value::Null, _) | (_, Value::Null, OnNull::Skip) => held,
                (Op::SetOnce, value, _) => held.or(Some(value)),
                (_, Value::Null, OnNull::Unset) => None,
                (_, value, _) => Some(value),
            };
            if let Some(value) = result {
                want.insert(name.clone(), value.clone());
            }
        }
        Document(want)
    }

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(json!(null)),
            Just(json!(0)),
            Just(json!("pro")),
            Just(json!(["a", null])),
            Just(json!({"city": "Ulm"})),
        ]
    }

    fn scenario() -> impl Strategy<Value = (Rules, Document, Document, Document)> {
        let names = ["a", "b", "c", "d"];
        let rule = prop_oneof![
            Just(None),
            (
                prop_oneof![Just(Op::Set), Just(Op::SetOnce)],
                prop_oneof![Just(OnNull::Unset), Just(OnNull::Null), Just(OnNull::Skip)]
            )
                .prop_map(|(op, on_null)| Some(TraitRule { op, on_null, always: false })),
            any::<bool>().prop_map(|skip| {
                let on_null = if skip { OnNull::Skip } else { OnNull::Null };
                Some(TraitRule { op: Op::Set, on_null, always: true })
            }),
        ];
        let per_trait = (rule, value(), prop::option::of(value()), prop::option::of(value()));
        (prop::collection::vec(per_trait, 4), any::<bool>()).prop_map(move |(columns, unset_removed)| {
            let mut rules = Rules { unset_removed, ..Rules::default() };
            let [mut new, mut known, mut drifted] = [Traits::new(), Traits::new(), Traits::new()];
            for (name, (rule, value, held, attempted)) in names.iter().zip(columns) {
                if let Some(rule) = rule {
                    rules.traits.insert((*name).to_owned(), rule);
                    new.insert((*name).to_owned(), value);
                }
                if let Some(held) = &held {
                    known.insert((*name).to_owned(), held.clone());
                }
                if let Some(attempted) = attempted.or(held) {
                    drifted.insert((*name).to_owned(), attempted);
                }
            }
            (rules, Document(new), Document(known), Document(drifted))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn applying_a_confirmed_delta_gives_the_wanted_document((rules, new, known, _) in scenario()) {
            let (change, after) = delta(&new, Known::Confirmed(&known), &rules);
            let want = wanted(&new, &known, &rules);
            prop_assert_eq!(&apply(&known, &change), &want);
            prop_assert_eq!(&after, &want);
            prop_assert_eq!(change.is_empty(), want == known, "silence means nothing differs, and only then");
            prop_assert!(delta(&new, Known::Confirmed(&after), &rules).0.is_empty());
            // What is repeated changes nothing, is complete, and is there only beside a change.
            prop_assert_eq!(&apply(&known, &change.as_sent()), &want);
            let sent = change.as_sent().set;
            for (name, rule) in rules.traits.iter().filter(|(_, rule)| rule.always) {
                let value = &new.0[name];
                let skipped = value.is_null() && rule.on_null == OnNull::Skip;
                let said = !change.is_empty() && !skipped;
                prop_assert_eq!(sent.get(name), said.then_some(value), "{}", name);
            }
            prop_assert!(change.repeated.keys().all(|name| rules.traits[name].always && !change.set.contains_key(name)));
            prop_assert!(!change.is_empty() || change.repeated.is_empty());
        }

        /// Whatever an unconfirmed request made of the known document, the trait names it could touch being known or
        /// mapped, the delta brings every trait we may speak about to its value, and `after` claims nothing false.
        #[test]
        fn an_unconfirmed_delta_heals_any_drift((rules, new, known, drifted) in scenario()) {
            let drifted = Document(drifted.0.into_iter()
                .filter(|(name, _)| known.0.contains_key(name) || rules.traits.contains_key(name)).collect());
            let (change, after) = delta(&new, Known::Unconfirmed(&known), &rules);
            let held = apply(&drifted, &change);
            prop_assert_eq!(&held, &wanted(&new, &drifted, &rules));
            for (name, value) in &after.0 {
                if *value == document::taken() {
                    prop_assert!(held.0.contains_key(name), "{}", name);
                } else if *value != document::unconfirmed() {
                    prop_assert_eq!(held.0.get(name), Some(value), "{}", name);
                }
            }
            for (name, value) in &held.0 {
                let spoken = rules.traits.get(name).is_some_and(|rule| rule.op == Op::Set && !new.0[name].is_null());
                prop_assert!(!spoken || after.0.get(name) == Some(value));
            }
        }

        /// What is remembered after an unconfirmed state serves the next change, with whatever rules the mapping has by
        /// then: values come and go, operators and policies are edited.
        #[test]
        fn what_an_unconfirmed_delta_remembers_serves_the_next(
            (rules, new, known, drifted) in scenario(), (next_rules, next, _, _) in scenario()
        ) {
            // The ledger shows every trait that was attempted.
            let mut seen = known;
            for name in drifted.0.keys() {
                seen.0.entry(name.clone()).or_insert_with(document::unconfirmed);
            }
            let first = delta(&new, Known::Unconfirmed(&seen), &rules);
            let held = apply(&drifted, &first.0);
            let second = delta(&next, Known::Confirmed(&first.1), &next_rules);
            let ends = apply(&held, &second.0);
            prop_assert_eq!(&ends, &wanted(&next, &held, &next_rules));
        }

        #[test]
        fn unsetting_all_leaves_nothing((rules, _, known, drifted) in scenario()) {
            prop_assert_eq!(apply(&known, &unset_all(Known::Confirmed(&known), &rules)), Document::default());
            let drifted = Document(drifted.0.into_iter()
                .filter(|(name, _)| known.0.contains_key(name) || rules.traits.contains_key(name)).collect());
            prop_assert_eq!(apply(&drifted, &unset_all(Known::Unconfirmed(&known), &rules)), Document::default());
        }
    }
}
