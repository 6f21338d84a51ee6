//! The product in one function: given what a row says now and what the destination is known to hold, what must be said.
//!
//! [`delta`] alone decides what is sent; SQL only proposes suspects. It is pure and total.
//!
//! Certainty: a known document is *certain* when every request ever made about the group was settled. Otherwise some
//! request may or may not have been applied, and everything is said again, unsets included. In that state a trait we
//! may not speak about (a null under `skip`, a removed trait under `keep`) is recorded as [`document::unsure`]: still
//! visible, equal to nothing. A trait that is set once in that state is recorded as [`document::taken`]: whichever
//! value came first stays, and we are not told which.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::document::{self, Document, Traits};

/// What a trait's new value does at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Replace the value.
    #[default]
    Set,
    /// Set the value only where the destination has none yet.
    SetOnce,
}

/// What a null in the source means for a trait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnNull {
    /// Remove the trait from the group.
    #[default]
    Unset,
    /// Send a JSON null.
    Null,
    /// Say nothing; whatever the destination holds stays.
    Skip,
}

/// How one trait behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TraitRule {
    /// What a new value does.
    pub op: Op,
    /// What a null means.
    pub on_null: OnNull,
}

/// How the traits of a mapping behave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// The mapped traits.
    pub traits: BTreeMap<String, TraitRule>,
    /// Whether a trait that the known document has and the mapping no longer names is unset (else it is left alone).
    pub unset_removed: bool,
}

/// What we believe the destination holds for a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Known<'a> {
    /// Exactly this document; an empty one for a group that was never spoken about.
    Certain(&'a Document),
    /// This document, or something that an unsettled request made of it.
    Uncertain(&'a Document),
}

/// What is said about one group.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Change {
    /// Traits to replace.
    #[serde(default, skip_serializing_if = "Traits::is_empty")]
    pub set: Traits,
    /// Traits to set only where the destination has none.
    #[serde(default, skip_serializing_if = "Traits::is_empty")]
    pub set_once: Traits,
    /// Traits to remove.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unset: BTreeSet<String>,
    /// Remove the whole group.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub delete: bool,
}

impl Change {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        !self.delete && self.traits_count() == 0
    }

    /// How many traits are spoken about.
    pub fn traits_count(&self) -> usize {
        self.set.len() + self.set_once.len() + self.unset.len()
    }
}

/// A change and the document the destination holds once it is acknowledged.
#[derive(Debug, Clone, PartialEq)]
pub struct Delta {
    /// What to say; empty when the destination already holds the new document.
    pub change: Change,
    /// What to remember once it is acknowledged (or at once, when there is nothing to say).
    pub after: Document,
}

/// What must be said so that the destination holds `new`.
///
/// `new` has a value for every mapped trait, an explicit null where the source has one. The change is minimal when
/// `known` is certain and complete when it is not; it is empty exactly when `known` is certain and nothing differs, or
/// when the rules leave nothing to say.
pub fn delta(new: &Document, known: Known<'_>, rules: &Rules) -> Delta {
    let (before, certain) = match known {
        Known::Certain(document) => (&document.0, true),
        Known::Uncertain(document) => (&document.0, false),
    };
    let mut change = Change::default();
    let mut after = Traits::new();
    for (name, rule) in &rules.traits {
        let value = new.0.get(name).unwrap_or(&Value::Null);
        let held = before.get(name);
        match (rule.op, value, rule.on_null) {
            (Op::SetOnce, Value::Null, _) | (Op::Set, Value::Null, OnNull::Skip) => {
                if let Some(held) = held {
                    after.insert(name.clone(), if certain { held.clone() } else { document::unsure() });
                }
            }
            (Op::Set, Value::Null, OnNull::Unset) => {
                if held.is_some() || !certain {
                    change.unset.insert(name.clone());
                }
            }
            (Op::SetOnce, value, _) => match held {
                // Whatever the destination took first stays; a later value is not said.
                Some(held) if certain && *held != document::unsure() => {
                    after.insert(name.clone(), held.clone());
                }
                _ => {
                    let first = certain && held.is_none();
                    change.set_once.insert(name.clone(), value.clone());
                    after.insert(name.clone(), if first { value.clone() } else { document::taken() });
                }
            },
            (Op::Set, value, _) => {
                if !certain || held != Some(value) {
                    change.set.insert(name.clone(), value.clone());
                }
                after.insert(name.clone(), value.clone());
            }
        }
    }
    for (name, held) in before {
        if rules.traits.contains_key(name) {
            continue;
        }
        if rules.unset_removed {
            change.unset.insert(name.clone());
        } else {
            after.insert(name.clone(), if certain { held.clone() } else { document::unsure() });
        }
    }
    Delta { change, after: Document(after) }
}

/// What must be said about a group that left the model, when its traits are to be unset.
pub fn unset_all(known: Known<'_>, rules: &Rules) -> Delta {
    let (before, certain) = match known {
        Known::Certain(document) => (&document.0, true),
        Known::Uncertain(document) => (&document.0, false),
    };
    let mut unset: BTreeSet<String> = before.keys().cloned().collect();
    if !certain {
        unset.extend(rules.traits.keys().cloned());
    }
    Delta { change: Change { unset, ..Change::default() }, after: Document::default() }
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

    fn rules(traits: &[(&str, Op, OnNull)], unset_removed: bool) -> Rules {
        let traits =
            traits.iter().map(|(name, op, on_null)| ((*name).to_owned(), TraitRule { op: *op, on_null: *on_null }));
        Rules { traits: traits.collect(), unset_removed }
    }

    #[test]
    fn only_what_differs_is_said() {
        let rules = rules(
            &[("arr", Op::Set, OnNull::Unset), ("name", Op::Set, OnNull::Unset), ("plan", Op::Set, OnNull::Unset)],
            false,
        );
        let known = document(json!({"arr": 1, "name": "Acme", "plan": "free"}));
        let new = document(json!({"arr": 2, "name": "Acme", "plan": null}));
        let Delta { change, after } = delta(&new, Known::Certain(&known), &rules);
        assert_eq!(serde_json::to_value(&change).unwrap(), json!({"set": {"arr": 2}, "unset": ["plan"]}));
        assert_eq!(after, document(json!({"arr": 2, "name": "Acme"})));
        assert!(delta(&new, Known::Certain(&after), &rules).change.is_empty());
        let again = delta(&new, Known::Uncertain(&after), &rules).change;
        assert_eq!(
            serde_json::to_value(&again).unwrap(),
            json!({"set": {"arr": 2, "name": "Acme"}, "unset": ["plan"]})
        );
    }

    #[test]
    fn set_once_speaks_only_where_nothing_is_held() {
        let rules = rules(&[("first_plan", Op::SetOnce, OnNull::Unset)], false);
        let new = document(json!({"first_plan": "pro"}));
        let first = delta(&new, Known::Certain(&Document::default()), &rules);
        assert_eq!(serde_json::to_value(&first.change).unwrap(), json!({"set_once": {"first_plan": "pro"}}));
        let later = document(json!({"first_plan": "enterprise"}));
        assert!(delta(&later, Known::Certain(&first.after), &rules).change.is_empty());
        let gone = document(json!({"first_plan": null}));
        assert_eq!(delta(&gone, Known::Certain(&first.after), &rules).after, first.after);
    }

    #[test]
    fn removed_traits_follow_the_policy_and_stay_visible() {
        let known = document(json!({"name": "Acme", "old": 7}));
        let new = document(json!({"name": "Acme"}));
        let keep = rules(&[("name", Op::Set, OnNull::Unset)], false);
        let kept = delta(&new, Known::Certain(&known), &keep);
        assert!(kept.change.is_empty());
        assert_eq!(kept.after, known);
        let unset = Rules { unset_removed: true, ..keep };
        let dropped = delta(&new, Known::Certain(&kept.after), &unset);
        assert_eq!(serde_json::to_value(&dropped.change).unwrap(), json!({"unset": ["old"]}));
        assert_eq!(dropped.after, new);
    }

    #[test]
    fn a_skipped_null_in_an_uncertain_state_leaves_nothing_we_would_trust_later() {
        let rules = rules(&[("plan", Op::Set, OnNull::Skip)], false);
        let known = document(json!({"plan": "free"}));
        let null = document(json!({"plan": null}));
        let after = delta(&null, Known::Uncertain(&known), &rules).after;
        let back = delta(&known, Known::Certain(&after), &rules);
        assert_eq!(serde_json::to_value(&back.change).unwrap(), json!({"set": {"plan": "free"}}));
    }

    #[test]
    fn a_first_value_said_in_an_uncertain_state_is_held_but_not_known() {
        let once = rules(&[("plan", Op::SetOnce, OnNull::Unset)], false);
        let (free, pro) = (document(json!({"plan": "free"})), document(json!({"plan": "pro"})));
        // `free` may have arrived; then `pro` does not replace it.
        let maybe = document(json!({"plan": document::unsure()}));
        let second = delta(&pro, Known::Uncertain(&maybe), &once);
        assert_eq!(serde_json::to_value(&second.change).unwrap(), json!({"set_once": {"plan": "pro"}}));
        assert!(delta(&free, Known::Certain(&second.after), &once).change.is_empty());
        let replace = rules(&[("plan", Op::Set, OnNull::Unset)], false);
        let edited = delta(&pro, Known::Certain(&second.after), &replace);
        assert_eq!(serde_json::to_value(&edited.change).unwrap(), json!({"set": {"plan": "pro"}}));
    }

    #[test]
    fn a_first_value_that_may_not_have_arrived_is_said_again_after_a_null() {
        let once = rules(&[("plan", Op::SetOnce, OnNull::Unset)], false);
        let maybe = document(json!({"plan": document::unsure()}));
        let settled = delta(&document(json!({"plan": null})), Known::Uncertain(&maybe), &once);
        assert!(settled.change.is_empty());
        let back = delta(&document(json!({"plan": "pro"})), Known::Certain(&settled.after), &once);
        assert_eq!(serde_json::to_value(&back.change).unwrap(), json!({"set_once": {"plan": "pro"}}));
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
                (Op::SetOnce, Value::Null, _) | (Op::Set, Value::Null, OnNull::Skip) => held,
                (Op::SetOnce, value, _) => held.or(Some(value)),
                (Op::Set, Value::Null, OnNull::Unset) => None,
                (Op::Set, value, _) => Some(value),
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
                .prop_map(|(op, on_null)| Some(TraitRule { op, on_null })),
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
        fn applying_a_certain_delta_gives_the_wanted_document((rules, new, known, _) in scenario()) {
            let Delta { change, after } = delta(&new, Known::Certain(&known), &rules);
            let want = wanted(&new, &known, &rules);
            prop_assert_eq!(&apply(&known, &change), &want);
            prop_assert_eq!(&after, &want);
            prop_assert_eq!(change.is_empty(), want == known, "silence means nothing differs, and only then");
            prop_assert!(delta(&new, Known::Certain(&after), &rules).change.is_empty());
        }

        /// Whatever an unsettled request made of the known document, the trait names it could touch being known or
        /// mapped, the delta brings every trait we may speak about to its value, and `after` claims nothing false.
        #[test]
        fn an_uncertain_delta_heals_any_drift((rules, new, known, drifted) in scenario()) {
            let drifted = Document(drifted.0.into_iter()
                .filter(|(name, _)| known.0.contains_key(name) || rules.traits.contains_key(name)).collect());
            let Delta { change, after } = delta(&new, Known::Uncertain(&known), &rules);
            let held = apply(&drifted, &change);
            prop_assert_eq!(&held, &wanted(&new, &drifted, &rules));
            for (name, value) in &after.0 {
                if *value == document::taken() {
                    prop_assert!(held.0.contains_key(name), "{}", name);
                } else if *value != document::unsure() {
                    prop_assert_eq!(held.0.get(name), Some(value), "{}", name);
                }
            }
            for (name, value) in &held.0 {
                let spoken = rules.traits.get(name).is_some_and(|rule| rule.op == Op::Set && !new.0[name].is_null());
                prop_assert!(!spoken || after.0.get(name) == Some(value));
            }
        }

        /// What is remembered after an uncertain state serves the next change, with whatever rules the mapping has by
        /// then: values come and go, operators and policies are edited.
        #[test]
        fn what_an_uncertain_delta_remembers_serves_the_next(
            (rules, new, known, drifted) in scenario(), (next_rules, next, _, _) in scenario()
        ) {
            // The ledger shows every trait that was attempted.
            let mut seen = known;
            for name in drifted.0.keys() {
                seen.0.entry(name.clone()).or_insert_with(document::unsure);
            }
            let first = delta(&new, Known::Uncertain(&seen), &rules);
            let held = apply(&drifted, &first.change);
            let second = delta(&next, Known::Certain(&first.after), &next_rules);
            let ends = apply(&held, &second.change);
            prop_assert_eq!(&ends, &wanted(&next, &held, &next_rules));
        }

        #[test]
        fn unsetting_all_leaves_nothing((rules, _, known, drifted) in scenario()) {
            prop_assert_eq!(apply(&known, &unset_all(Known::Certain(&known), &rules).change), Document::default());
            let drifted = Document(drifted.0.into_iter()
                .filter(|(name, _)| known.0.contains_key(name) || rules.traits.contains_key(name)).collect());
            prop_assert_eq!(apply(&drifted, &unset_all(Known::Uncertain(&known), &rules).change), Document::default());
        }
    }
}
