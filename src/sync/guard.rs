//! Guards: what stops a run before the first byte is sent, and the figures it says so with. Pure.
//!
//! The share guards protect what a destination already holds: a group counts as changed when a held value is replaced
//! or removed, so a trait added to a mapping does not trip them, and neither does a first run.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::ledger::{CandidateKind, Comparison};
use crate::mapping::{Guards, OnDuplicate};
use crate::model::document;

use super::decide::{Action, Decision};

/// The guards, by the name that `--accept` takes.
pub const NAMES: [&str; 8] =
    ["keys", "empty", "rows-dropped", "keys-changed", "removed", "changed", "nulled", "unsendable"];

/// What the decisions of all candidates would do to what is held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Impact {
    /// Known groups of which a held value is replaced or removed.
    pub changed: u64,
    /// By trait, known groups whose held value becomes null or is removed.
    pub nulled: BTreeMap<String, u64>,
    /// Rows looked at.
    pub rows: u64,
    /// Rows among them whose values cannot become what the mapping declares.
    pub unsendable: u64,
    /// Why the first of them cannot.
    pub reason: Option<String>,
}

impl Impact {
    /// Adds one decision.
    pub fn add(&mut self, decision: &Decision) {
        self.rows += u64::from(decision.kind != CandidateKind::Missing);
        if let Action::Reject { unsendable: true, reason } = &decision.action
            && decision.kind != CandidateKind::Missing
        {
            self.unsendable += 1;
            self.reason.get_or_insert_with(|| crate::model::cell::without_value(reason));
        }
        let Action::Send { change, .. } = &decision.action else { return };
        if decision.kind != CandidateKind::Changed {
            return;
        }
        let held = |name: &String| decision.before.0.get(name).filter(|value| !document::is_unknown(value));
        let replaced = change.set.iter().any(|(name, value)| held(name).is_some_and(|held| held != value));
        let removed = change.unset.iter().any(|name| held(name).is_some());
        self.changed += u64::from(replaced || removed);
        let nulls = change.set.iter().filter(|(_, value)| value.is_null()).map(|(name, _)| name);
        for name in change.unset.iter().chain(nulls) {
            if held(name).is_some_and(|held| !held.is_null()) {
                *self.nulled.entry(name.clone()).or_default() += 1;
            }
        }
    }
}

/// The guards of one run.
pub struct GuardSet<'a> {
    /// The mapping's thresholds.
    pub guards: &'a Guards,
    /// What happens to shared keys.
    pub on_duplicate: OnDuplicate,
    /// Guards that the operator accepts this once.
    pub accepted: &'a BTreeSet<String>,
    /// Whether the rows are the whole model.
    pub full: bool,
}

/// What a guard saw in a run, beside what it lets pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Reading {
    /// The guard's name.
    pub guard: String,
    /// What it looks at, for people.
    pub what: String,
    /// The figure: groups or rows.
    pub part: u64,
    /// Of how many; 0 when there was nothing to compare with.
    pub whole: u64,
    /// The share that passes, from 0 to 1; none for guards that count.
    pub share_max: Option<f64>,
    /// Whether the figure is exact; else it is no more than that.
    pub exact: bool,
    /// Whether it stops a run.
    pub trips: bool,
}

impl GuardSet<'_> {
    /// What each guard sees, whether or not it is accepted. Without the impact the figures it would give are upper bounds.
    pub fn readings(&self, found: &Comparison, rows_before: Option<u64>, impact: Option<&Impact>) -> Vec<Reading> {
        let share = |guard: &str, what: &str, part: u64, whole: u64, share_max: f64, exact: bool| Reading {
            guard: guard.to_owned(),
            what: what.to_owned(),
            part,
            whole,
            share_max: Some(share_max),
            exact,
            trips: exact && part >= self.guards.groups_min && exceeds(part, whole, share_max),
        };
        let counted = |guard: &str, what: &str, part: u64, whole: u64, trips: bool| Reading {
            guard: guard.to_owned(),
            what: what.to_owned(),
            part,
            whole,
            share_max: None,
            exact: true,
            trips,
        };
        let shared = if self.on_duplicate == OnDuplicate::Fail { found.duplicate_rows } else { 0 };
        let unusable = parts_total(found, shared);
        let before = rows_before.filter(|_| self.full).unwrap_or(0);
        let empty = self.full && self.guards.empty && found.rows == 0 && found.synced > 0;
        let renamed = self.renamed(found).unwrap_or(0);
        let (unsendable, rows) = impact.map_or((0, 0), |impact| (impact.unsendable, impact.rows));
        let changed = impact.map_or(found.changed, |impact| impact.changed);
        let nulled = impact.map_or(found.changed, |impact| impact.nulled.values().copied().max().unwrap_or(0));
        vec![
            counted("keys", "rows without a usable key", unusable, found.rows, unusable > 0),
            counted("empty", "rows the model yields", found.rows, found.synced, empty),
            share(
                "rows-dropped",
                "rows fewer than at the last run",
                before.saturating_sub(found.rows),
                before,
                self.guards.rows_dropped_max,
                true,
            ),
            share(
                "keys-changed",
                "known groups that are gone while as many new ones came",
                renamed,
                found.synced,
                self.guards.keys_changed_max,
                true,
            ),
            share(
                "removed",
                "known groups that would be removed",
                found.removable,
                found.synced,
                self.guards.removed_max,
                true,
            ),
            share(
                "changed",
                "known groups whose held values are replaced or removed",
                changed,
                found.synced,
                self.guards.changed_max,
                impact.is_some() || changed == 0,
            ),
            share(
                "nulled",
                "known groups of which one trait turns null",
                nulled,
                found.synced,
                self.guards.nulled_max,
                impact.is_some() || nulled == 0,
            ),
            share(
                "unsendable",
                "rows that cannot become what the mapping declares",
                unsendable,
                rows,
                self.guards.unsendable_max,
                true,
            ),
        ]
    }

    /// What the comparison alone can tell: keys, an empty source, a drop of rows, groups that left.
    pub fn comparison(&self, found: &Comparison, rows_before: Option<u64>) -> Result<()> {
        let shared = if self.on_duplicate == OnDuplicate::Fail { found.duplicate_rows } else { 0 };
        if found.null_keys + found.empty_keys + shared > 0 {
            let mut parts = Vec::new();
            for (count, what) in [(found.null_keys, "without a key"), (found.empty_keys, "with an empty key")] {
                if count > 0 {
                    parts.push(format!("{count} {what}"));
                }
            }
            if shared > 0 {
                let examples = found.duplicate_examples.join(", ");
                parts.push(format!("{shared} that share their key with another row (such as {examples})"));
            }
            let figures =
                format!("{} of {} rows cannot be synced: {}", parts_total(found, shared), found.rows, parts.join(", "));
            let hint = if shared > 0 {
                "make the key unique in the model, or set `on_duplicate = \"skip\"` under [policy]"
            } else {
                "give every row a key, or filter them with `where` under [model]"
            };
            self.stop("keys", figures, hint)?;
        }
        if self.full && self.guards.empty && found.rows == 0 && found.synced > 0 {
            self.stop(
                "empty",
                format!("the model yields no rows, {} groups are known", found.synced),
                "look at the job that fills the model",
            )?;
        }
        if let Some(before) = rows_before.filter(|before| self.full && *before > found.rows) {
            let dropped = before - found.rows;
            self.share(
                "rows-dropped",
                dropped,
                before,
                self.guards.rows_dropped_max,
                format!("the model yields {} rows, {before} at the last run", found.rows),
                "look at the job that fills the model, or raise `rows_dropped_max` under [guards]",
            )?;
        }
        if let Some(gone) = self.renamed(found) {
            self.share(
                "keys-changed",
                gone,
                found.synced,
                self.guards.keys_changed_max,
                format!(
                    "{gone} of {} known groups are gone (such as {}), and {} new ones came (such as {})",
                    found.synced,
                    examples(&found.missing_examples),
                    found.new,
                    examples(&found.new_examples)
                ),
                "compare the keys: one that is written in another way (`00123` and `123`) makes every group a new one; \
                 write it as before in the model's `sql`, or raise `keys_changed_max` under [guards]",
            )?;
        }
        self.share(
            "removed",
            found.removable,
            found.synced,
            self.guards.removed_max,
            format!("{} of {} known groups left the model and would be removed", found.removable, found.synced),
            "look at the model's filter, or raise `removed_max` under [guards]",
        )
    }

    /// Known groups that are gone, where about as many new ones came: at least half as many.
    fn renamed(&self, found: &Comparison) -> Option<u64> {
        (self.full && found.missing > 0 && found.new >= found.missing.div_ceil(2)).then_some(found.missing)
    }

    /// Rows whose values cannot become what the mapping declares, among the first that would be sent.
    pub fn sendable(&self, impact: &Impact) -> Result<()> {
        self.share(
            "unsendable",
            impact.unsendable,
            impact.rows,
            self.guards.unsendable_max,
            format!(
                "{} of the first {} rows cannot be sent: {}",
                impact.unsendable,
                impact.rows,
                impact.reason.as_deref().unwrap_or_default()
            ),
            "declare another `as`, or convert the column in the mapping's SQL",
        )
    }

    /// Whether the exact impact must be known before anything is sent: only when the candidates could trip a guard at all.
    pub fn needs_impact(&self, found: &Comparison) -> bool {
        let lowest = self.guards.changed_max.min(self.guards.nulled_max);
        found.changed >= self.guards.groups_min && exceeds(found.changed, found.synced, lowest)
    }

    /// What only the decisions can tell: held values replaced, traits turning null.
    pub fn impact(&self, impact: &Impact, known: u64) -> Result<()> {
        self.share(
            "changed",
            impact.changed,
            known,
            self.guards.changed_max,
            format!("{} of {known} known groups would have held values replaced or removed", impact.changed),
            "run `groupcast plan` to see them, or raise `changed_max` under [guards]",
        )?;
        for (name, nulled) in &impact.nulled {
            self.share(
                "nulled",
                *nulled,
                known,
                self.guards.nulled_max,
                format!("trait `{name}` turns null for {nulled} of {known} known groups"),
                "look at the column behind it, or raise `nulled_max` under [guards]",
            )?;
        }
        Ok(())
    }

    fn share(&self, name: &str, part: u64, whole: u64, share_max: f64, figures: String, hint: &str) -> Result<()> {
        if part < self.guards.groups_min || !exceeds(part, whole, share_max) {
            return Ok(());
        }
        let percent = part as f64 * 100.0 / whole as f64;
        self.stop(name, format!("{figures} ({percent:.1} %, at most {:.1} % pass)", share_max * 100.0), hint)
    }

    fn stop(&self, name: &str, figures: String, hint: &str) -> Result<()> {
        if self.accepted.contains(name) {
            return Ok(());
        }
        Err(Error::new(Kind::Guard, format!("stopped by the guard `{name}` before anything was sent: {figures}"))
            .advise(format!("{hint}; if this is right, accept it once with `--accept {name}`")))
    }
}

/// `a`, `b`, `c`: keys as they are shown beside figures.
fn examples(keys: &[String]) -> String {
    let shown: Vec<String> = keys.iter().map(|key| format!("`{}`", crate::mapping::reader::shown(key))).collect();
    if shown.is_empty() { "none that can be shown".to_owned() } else { shown.join(", ") }
}

fn parts_total(found: &Comparison, shared: u64) -> u64 {
    found.null_keys + found.empty_keys + shared
}

fn exceeds(part: u64, whole: u64, share_max: f64) -> bool {
    whole > 0 && part as f64 > share_max * whole as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch<'a>(guards: &'a Guards, accepted: &'a BTreeSet<String>) -> GuardSet<'a> {
        GuardSet { guards, on_duplicate: OnDuplicate::Fail, accepted, full: true }
    }

    #[test]
    fn each_guard_stops_with_figures_and_its_flag() {
        let (guards, none) = (Guards::default(), BTreeSet::new());
        let sound = Comparison { rows: 100, synced: 100, unchanged: 100, ..Comparison::default() };
        assert!(watch(&guards, &none).comparison(&sound, Some(100)).is_ok());
        for (found, before, name, figure) in [
            (Comparison { null_keys: 2, ..sound.clone() }, None, "keys", "2 without a key"),
            (
                Comparison { duplicate_rows: 2, duplicate_examples: vec!["a1".to_owned()], ..sound.clone() },
                None,
                "keys",
                "such as a1",
            ),
            (Comparison { rows: 0, ..sound.clone() }, None, "empty", "100 groups are known"),
            (sound.clone(), Some(150), "rows-dropped", "150 at the last run"),
            (Comparison { missing_candidates: 30, removable: 21, ..sound.clone() }, None, "removed", "21.0 %"),
        ] {
            let error = watch(&guards, &none).comparison(&found, before).unwrap_err();
            assert_eq!(error.kind(), Kind::Guard);
            assert!(error.to_string().contains(figure), "{error}");
            assert!(error.advice().unwrap().contains(&format!("--accept {name}")), "{error}");
            let accepted = BTreeSet::from([name.to_owned()]);
            assert!(watch(&guards, &accepted).comparison(&found, before).is_ok(), "{name}");
        }
        let impact = Impact { changed: 51, nulled: BTreeMap::from([("arr".to_owned(), 21)]), ..Impact::default() };
        assert!(watch(&guards, &none).impact(&impact, 100).unwrap_err().to_string().contains("51 of 100"));
        let accepted = BTreeSet::from(["changed".to_owned()]);
        assert!(watch(&guards, &accepted).impact(&impact, 100).unwrap_err().to_string().contains("`arr` turns null"));
        assert!(NAMES.contains(&"nulled"));
    }

    #[test]
    fn keys_that_are_written_otherwise_stop_a_run() {
        let (guards, none) = (Guards::default(), BTreeSet::new());
        let found = Comparison {
            rows: 100,
            synced: 100,
            missing: 90,
            new: 90,
            missing_examples: vec!["00123".to_owned()],
            new_examples: vec!["123".to_owned()],
            ..Comparison::default()
        };
        let error = watch(&guards, &none).comparison(&found, Some(100)).unwrap_err();
        assert!(error.to_string().contains("90 of 100 known groups are gone (such as `00123`)"), "{error}");
        assert!(
            error.to_string().contains("90 new ones came (such as `123`) (90.0 %, at most 50.0 % pass)"),
            "{error}"
        );
        assert!(error.advice().unwrap().contains("--accept keys-changed"));
        let readings = watch(&guards, &none).readings(&found, Some(100), None);
        assert!(readings.iter().any(|reading| reading.guard == "keys-changed" && reading.trips));
        for (found, full) in [
            // A half-finished load, growth, a real turnover below the threshold, an incremental read.
            (Comparison { new: 30, ..found.clone() }, true),
            (Comparison { missing: 0, ..found.clone() }, true),
            (Comparison { missing: 50, new: 50, ..found.clone() }, true),
            (found.clone(), false),
        ] {
            assert!(GuardSet { full, ..watch(&guards, &none) }.comparison(&found, None).is_ok(), "{found:?}");
        }
        let accepted = BTreeSet::from(["keys-changed".to_owned()]);
        assert!(watch(&guards, &accepted).comparison(&found, Some(100)).is_ok());
    }

    #[test]
    fn rows_that_mostly_cannot_be_sent_stop_a_run() {
        let (guards, none) = (Guards::default(), BTreeSet::new());
        let reason = Some("trait `arr`: cannot convert text \"…\" to number".to_owned());
        let impact = Impact { rows: 100, unsendable: 51, reason, ..Impact::default() };
        let error = watch(&guards, &none).sendable(&impact).unwrap_err();
        assert!(error.to_string().contains("51 of the first 100 rows cannot be sent: trait `arr`"), "{error}");
        assert!(error.advice().unwrap().contains("--accept unsendable"));
        assert!(watch(&guards, &none).sendable(&Impact { unsendable: 50, ..impact.clone() }).is_ok());
        assert!(watch(&guards, &none).sendable(&Impact { rows: 19, unsendable: 19, ..impact }).is_ok());
    }

    #[test]
    fn small_numbers_and_shared_keys_that_may_be_skipped_stay_quiet() {
        let (guards, none) = (Guards::default(), BTreeSet::new());
        let found = Comparison {
            rows: 10,
            synced: 12,
            missing_candidates: 5,
            removable: 5,
            duplicate_rows: 2,
            ..Comparison::default()
        };
        let skipping = GuardSet { on_duplicate: OnDuplicate::Skip, ..watch(&guards, &none) };
        assert!(skipping.comparison(&found, Some(28)).is_ok());
        assert!(!skipping.needs_impact(&Comparison { changed: 19, synced: 20, ..found.clone() }));
        assert!(skipping.needs_impact(&Comparison { changed: 20, synced: 30, ..found }));
    }
}
