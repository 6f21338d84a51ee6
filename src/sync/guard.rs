//! Guards: what stops a run before the first byte is sent, and the readings it stops with. Pure.
//!
//! Each guard is evaluated into a [`Reading`], which is stored with the run: its figures, its message and its advice. The
//! guards of shares protect the synced state: a group counts as changed when a synced value is replaced or removed, so a
//! trait added to a mapping does not trip them, and neither does a first run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind};
use crate::format;
use crate::ledger::{CandidateKind, Comparison};
use crate::mapping::{Guards, OnDuplicate};
use crate::model::document;
use crate::source::dbt::DbtState;

use super::decide::{Action, Decision};

/// The guards, by the name that `--accept` takes.
pub const NAMES: [&str; 10] =
    ["dbt", "renamed", "keys", "empty", "rows-dropped", "keys-changed", "removed", "changed", "nulled", "unsendable"];

/// What the decisions of all candidates would do to the synced state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Impact {
    /// Synced groups of which a value is replaced or removed.
    pub changed: u64,
    /// By trait, synced groups of which it becomes null or is removed.
    pub nulled: BTreeMap<String, u64>,
    /// Rows decided.
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
        let synced = |name: &String| decision.before.0.get(name).filter(|value| !document::is_unknown(value));
        let replaced = change.set.iter().any(|(name, value)| synced(name).is_some_and(|before| before != value));
        let removed = change.unset.iter().any(|name| synced(name).is_some());
        self.changed += u64::from(replaced || removed);
        let nulls = change.set.iter().filter(|(_, value)| value.is_null()).map(|(name, _)| name);
        for name in change.unset.iter().chain(nulls) {
            if synced(name).is_some_and(|before| !before.is_null()) {
                *self.nulled.entry(name.clone()).or_default() += 1;
            }
        }
    }
}

/// What is synced under the name that a sync seems to have had before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormerName {
    /// The former name.
    pub sync: String,
    /// The sync's name now.
    pub now: String,
    /// How many groups are synced under the former one.
    pub synced: u64,
}

/// The guards of one run.
pub struct GuardSet<'a> {
    /// The mapping's thresholds.
    pub guards: &'a Guards,
    /// What happens to shared keys.
    pub on_duplicate: OnDuplicate,
    /// Guards that are accepted this once.
    pub accepted: &'a BTreeSet<String>,
    /// Whether the rows are the whole model.
    pub full: bool,
    /// What is synced under a former name of the sync, where this run would send it again.
    pub former: Option<FormerName>,
    /// How dbt's last build of the model went, or why that is not known; none where no guard asks.
    pub dbt: Option<Result<DbtState, String>>,
    /// When the run began.
    pub now: DateTime<Utc>,
}

/// What a guard measured in a run, beside its limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Reading {
    /// The guard's name.
    pub guard: String,
    /// What it measures, for people.
    pub what: String,
    /// The figure: groups or rows.
    pub part: u64,
    /// Of how many; 0 when there was nothing to compare with.
    pub whole: u64,
    /// The greatest share that passes, from 0 to 1; none for guards that count.
    #[schemars(range(min = 0, max = 1))]
    pub share_max: Option<f64>,
    /// Whether the figure is exact; else it is an upper bound.
    pub exact: bool,
    /// Whether it stops a run that does not accept it.
    pub trips: bool,
    /// What it found, where it trips.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What to do about it, where it trips.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Reading {
    /// A guard that counts.
    fn count(guard: &str, what: &str, (part, whole): (u64, u64), trips: bool) -> Reading {
        let (guard, what) = (guard.to_owned(), what.to_owned());
        Reading { guard, what, part, whole, share_max: None, exact: true, trips, message: None, advice: None }
    }

    /// The same with what it found and what to do about it, if it trips.
    fn explained(self, message: impl FnOnce() -> String, advice: &str) -> Reading {
        if !self.trips {
            return self;
        }
        let limit = self.share_max.map_or_else(String::new, |share| {
            let percent = self.part as f64 * 100.0 / self.whole as f64;
            format!(" ({percent:.1} %, limit {:.1} %)", share * 100.0)
        });
        let name = &self.guard;
        let advice = format!("{advice}; if this is right, accept it once with `--accept {name}`");
        Reading { message: Some(format!("{}{limit}", message())), advice: Some(advice), ..self }
    }

    /// The error of a run that this guard stops.
    pub fn error(&self) -> Error {
        let message = self.message.as_deref().unwrap_or_default();
        Error::new(Kind::Guard, format!("stopped by the guard `{}` before anything was sent: {message}", self.guard))
            .advise(self.advice.as_deref().unwrap_or_default())
    }
}

impl GuardSet<'_> {
    /// What each guard measures, whether or not it is accepted. Without the impact the figures it would give are upper
    /// bounds; `first` is the impact of the first page alone.
    pub fn readings(
        &self,
        found: &Comparison,
        rows_before: Option<u64>,
        impact: Option<&Impact>,
        first: Option<&Impact>,
    ) -> Vec<Reading> {
        let mut readings = vec![self.of_dbt(), self.of_former_name()];
        readings.extend(self.of_comparison(found, rows_before));
        readings.extend(self.of_impact(found, impact));
        readings.push(self.of_first_page(first));
        readings
    }

    /// The first guard that stops the run: one that trips and is not accepted.
    pub fn stopping<'r>(&self, readings: &'r [Reading]) -> Option<&'r Reading> {
        readings.iter().find(|reading| reading.trips && !self.accepted.contains(&reading.guard))
    }

    /// A guard that compares a share with its limit.
    fn share(&self, guard: &str, what: &str, (part, whole): (u64, u64), share_max: f64, exact: bool) -> Reading {
        let trips = exact && part >= self.guards.groups_min && exceeds(part, whole, share_max);
        Reading { share_max: Some(share_max), exact, ..Reading::count(guard, what, (part, whole), trips) }
    }

    /// How the model's last build went.
    fn of_dbt(&self) -> Reading {
        let limits = self.guards;
        let problem = match &self.dbt {
            None => None,
            Some(Err(why)) => Some(why.clone()),
            Some(Ok(state)) => {
                let age = self.now.signed_duration_since(state.at).to_std().unwrap_or_default();
                let old = limits.dbt_age_max.filter(|max| age > *max);
                let old = old.map(|max| {
                    let (age, max) = (format::duration(whole_minutes(age)), format::duration(max));
                    format!("dbt last ran {age} ago, longer than {max}")
                });
                state.problem.clone().filter(|_| limits.dbt).or(old)
            }
        };
        let figure = (u64::from(problem.is_some()), u64::from(self.dbt.is_some()));
        Reading::count("dbt", "builds of the model by dbt that failed or are too old", figure, problem.is_some())
            .explained(|| problem.unwrap_or_default(), "look at dbt's log and run it again")
    }

    /// What is synced under a former name. There is no share of it that is harmless: all of it would be sent again.
    fn of_former_name(&self) -> Reading {
        let synced = self.former.as_ref().map_or(0, |former| former.synced);
        let reading = Reading::count("renamed", "groups synced under a former name", (synced, 0), synced > 0);
        let Some(FormerName { sync, now, .. }) = &self.former else { return reading };
        reading.explained(
            || {
                format!(
                    "`{now}` has nothing synced, and {synced} groups of `{sync}`, which has no mapping, are synced to the same \
                     destination"
                )
            },
            &format!(
                "if the file was renamed, `groupcast ledger rename {sync} {now}` keeps what is synced, and otherwise \
                 `groupcast ledger drop {sync}` removes it"
            ),
        )
    }

    /// What the comparison alone shows: keys, an empty source, a drop of rows, groups that left.
    fn of_comparison(&self, found: &Comparison, rows_before: Option<u64>) -> Vec<Reading> {
        let limits = self.guards;
        let shared = if self.on_duplicate == OnDuplicate::Fail { found.duplicate_rows } else { 0 };
        let unusable = found.null_keys + found.empty_keys + shared;
        let before = rows_before.filter(|_| self.full).unwrap_or(0);
        let empty = self.full && limits.empty && found.rows == 0 && found.synced > 0;
        let renamed = self.renamed(found).unwrap_or(0);
        let dropped = before.saturating_sub(found.rows);
        vec![
            Reading::count("keys", "rows without a usable key", (unusable, found.rows), unusable > 0).explained(
                || unusable_keys(found, unusable, shared),
                if shared > 0 {
                    "make the key unique in the model, or set `on_duplicate = \"skip\"` under [policy]"
                } else {
                    "give every row a key, or filter them with `where` under [model]"
                },
            ),
            Reading::count("empty", "rows the model yields", (found.rows, found.synced), empty).explained(
                || format!("the model yields no rows, {} groups are synced", found.synced),
                "check the job that fills the model",
            ),
            self.share(
                "rows-dropped",
                "rows fewer than at the last run",
                (dropped, before),
                limits.rows_dropped_max,
                true,
            )
            .explained(
                || format!("the model yields {} rows, {before} at the last run", found.rows),
                "check the job that fills the model, or raise `rows_dropped_max` under [guards]",
            ),
            self.share(
                "keys-changed",
                "synced groups that are gone while as many new ones came",
                (renamed, found.synced),
                limits.keys_changed_max,
                true,
            )
            .explained(
                || {
                    format!(
                        "{renamed} of {} synced groups are gone (such as {}), and {} new ones came (such as {})",
                        found.synced,
                        examples(&found.missing_examples),
                        found.new,
                        examples(&found.new_examples)
                    )
                },
                "compare the keys: one that is written in another way (`00123` and `123`) makes every group a new one; \
                 write it as before in the model's `sql`, or raise `keys_changed_max` under [guards]",
            ),
            self.share(
                "removed",
                "synced groups that would be removed",
                (found.removable, found.synced),
                limits.removed_max,
                true,
            )
            .explained(
                || format!("{} of {} synced groups left the model and would be removed", found.removable, found.synced),
                "check the model's filter, or raise `removed_max` under [guards]",
            ),
        ]
    }

    /// What only the decisions show: synced values replaced, traits turning null.
    fn of_impact(&self, found: &Comparison, impact: Option<&Impact>) -> [Reading; 2] {
        let known = found.synced;
        let changed = impact.map_or(found.changed, |impact| impact.changed);
        let most = impact.and_then(|impact| impact.nulled.iter().max_by_key(|(_, count)| **count));
        let nulled = match impact {
            Some(_) => most.map_or(0, |(_, count)| *count),
            None => found.changed,
        };
        [
            self.share(
                "changed",
                "synced groups with a value replaced or removed",
                (changed, known),
                self.guards.changed_max,
                impact.is_some() || changed == 0,
            )
            .explained(
                || format!("{changed} of {known} synced groups would have values replaced or removed"),
                "run `groupcast plan` to see them, or raise `changed_max` under [guards]",
            ),
            self.share(
                "nulled",
                "synced groups of which one trait turns null",
                (nulled, known),
                self.guards.nulled_max,
                impact.is_some() || nulled == 0,
            )
            .explained(
                || {
                    let name = most.map_or("", |(name, _)| name.as_str());
                    format!("trait `{name}` turns null for {nulled} of {known} synced groups")
                },
                "check the column behind it, or raise `nulled_max` under [guards]",
            ),
        ]
    }

    /// Rows whose values cannot become what the mapping declares, among the first that would be sent.
    fn of_first_page(&self, first: Option<&Impact>) -> Reading {
        let (unsendable, rows) = first.map_or((0, 0), |first| (first.unsendable, first.rows));
        self.share(
            "unsendable",
            "rows that cannot become what the mapping declares",
            (unsendable, rows),
            self.guards.unsendable_max,
            true,
        )
        .explained(
            || {
                let reason = first.and_then(|first| first.reason.as_deref()).unwrap_or_default();
                format!("{unsendable} of the first {rows} rows cannot be sent: {reason}")
            },
            "declare another `as`, or convert the column in the mapping's SQL",
        )
    }

    /// Synced groups that are gone, where about as many new ones came: at least half as many.
    fn renamed(&self, found: &Comparison) -> Option<u64> {
        (self.full && found.missing > 0 && found.new >= found.missing.div_ceil(2)).then_some(found.missing)
    }

    /// Whether the exact impact must be known before anything is sent: only when the candidates could trip a guard at all.
    pub fn needs_impact(&self, found: &Comparison) -> bool {
        let lowest = self.guards.changed_max.min(self.guards.nulled_max);
        found.changed >= self.guards.groups_min && exceeds(found.changed, found.synced, lowest)
    }
}

fn whole_minutes(of: Duration) -> Duration {
    Duration::from_secs(of.as_secs() / 60 * 60)
}

fn unusable_keys(found: &Comparison, unusable: u64, shared: u64) -> String {
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
    format!("{unusable} of {} rows cannot be synced: {}", found.rows, parts.join(", "))
}

/// `a`, `b`, `c`: keys as they are shown beside figures.
fn examples(keys: &[String]) -> String {
    let shown: Vec<String> = keys.iter().map(|key| format!("`{}`", crate::mapping::reader::shown(key))).collect();
    if shown.is_empty() { "keys that cannot be shown".to_owned() } else { shown.join(", ") }
}

fn exceeds(part: u64, whole: u64, share_max: f64) -> bool {
    whole > 0 && part as f64 > share_max * whole as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set<'a>(guards: &'a Guards, accepted: &'a BTreeSet<String>) -> GuardSet<'a> {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        GuardSet { guards, on_duplicate: OnDuplicate::Fail, accepted, full: true, former: None, dbt: None, now }
    }

    impl GuardSet<'_> {
        fn comparison(&self, found: &Comparison, before: Option<u64>) -> std::result::Result<(), Error> {
            self.stop(&self.readings(found, before, None, None))
        }

        fn impact(&self, impact: &Impact, synced: u64) -> std::result::Result<(), Error> {
            let found = Comparison { rows: 1, synced, ..Comparison::default() };
            self.stop(&self.readings(&found, None, Some(impact), None))
        }

        fn sendable(&self, first: &Impact) -> std::result::Result<(), Error> {
            self.stop(&self.readings(&Comparison::default(), None, None, Some(first)))
        }

        fn stop(&self, readings: &[Reading]) -> std::result::Result<(), Error> {
            assert_eq!(readings.iter().map(|reading| reading.guard.as_str()).collect::<Vec<_>>(), NAMES);
            self.stopping(readings).map_or(Ok(()), |reading| Err(reading.error()))
        }
    }

    #[test]
    fn each_guard_stops_with_figures_and_its_flag() {
        let (guards, none) = (Guards::default(), BTreeSet::new());
        let sound = Comparison { rows: 100, synced: 100, unchanged: 100, ..Comparison::default() };
        assert!(set(&guards, &none).comparison(&sound, Some(100)).is_ok());
        for (found, before, name, figure) in [
            (Comparison { null_keys: 2, ..sound.clone() }, None, "keys", "2 without a key"),
            (
                Comparison { duplicate_rows: 2, duplicate_examples: vec!["a1".to_owned()], ..sound.clone() },
                None,
                "keys",
                "such as a1",
            ),
            (Comparison { rows: 0, ..sound.clone() }, None, "empty", "100 groups are synced"),
            (sound.clone(), Some(150), "rows-dropped", "150 at the last run"),
            (Comparison { missing_candidates: 30, removable: 21, ..sound.clone() }, None, "removed", "21.0 %"),
        ] {
            let error = set(&guards, &none).comparison(&found, before).unwrap_err();
            assert_eq!(error.kind(), Kind::Guard);
            assert!(error.to_string().contains(figure), "{error}");
            assert!(error.advice().unwrap().contains(&format!("--accept {name}")), "{error}");
            let accepted = BTreeSet::from([name.to_owned()]);
            assert!(set(&guards, &accepted).comparison(&found, before).is_ok(), "{name}");
        }
        let impact = Impact { changed: 51, nulled: BTreeMap::from([("arr".to_owned(), 21)]), ..Impact::default() };
        assert!(set(&guards, &none).impact(&impact, 100).unwrap_err().to_string().contains("51 of 100"));
        let accepted = BTreeSet::from(["changed".to_owned()]);
        assert!(set(&guards, &accepted).impact(&impact, 100).unwrap_err().to_string().contains("`arr` turns null"));
        assert!(NAMES.contains(&"nulled"));
    }

    #[test]
    fn a_model_that_dbt_did_not_build_stops_a_run() {
        let accepted = BTreeSet::new();
        let asked = Guards { dbt: true, dbt_age_max: Some(Duration::from_secs(86_400)), ..Guards::default() };
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let state = |hours: i64, problem: Option<&str>| {
            let at = now - chrono::TimeDelta::hours(hours);
            Ok(DbtState { at, problem: problem.map(str::to_owned) })
        };
        let sound = Comparison { rows: 1, synced: 1, ..Comparison::default() };
        let of = |dbt| GuardSet { dbt: Some(dbt), ..set(&asked, &accepted) }.comparison(&sound, None);
        assert!(of(state(1, None)).is_ok());
        for (dbt, words) in [
            (state(1, Some("the model `a` ended with `error`")), "ended with `error`"),
            (state(25, None), "dbt last ran 25h ago, longer than 1d"),
            (Err("dbt has left no target/run_results.json".to_owned()), "has left no"),
        ] {
            let error = of(dbt).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
            assert!(error.advice().unwrap().contains("--accept dbt"), "{error}");
        }
    }

    #[test]
    fn what_is_synced_under_a_former_name_stops_a_run() {
        let (guards, accepted) = (Guards::default(), BTreeSet::new());
        let former = FormerName { sync: "accounts".to_owned(), now: "crm".to_owned(), synced: 1_200 };
        let found = Comparison { rows: 1_250, new: 1_250, ..Comparison::default() };
        let renamed = GuardSet { former: Some(former), ..set(&guards, &accepted) };
        let error = renamed.comparison(&found, None).unwrap_err();
        assert!(error.to_string().contains("`crm` has nothing synced, and 1200 groups of `accounts`"), "{error}");
        for advice in ["`groupcast ledger rename accounts crm`", "`groupcast ledger drop accounts`", "--accept renamed"]
        {
            assert!(error.advice().unwrap().contains(advice), "{error}");
        }
        let accepted = BTreeSet::from(["renamed".to_owned()]);
        assert!(GuardSet { accepted: &accepted, ..renamed }.comparison(&found, None).is_ok());
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
        let error = set(&guards, &none).comparison(&found, Some(100)).unwrap_err();
        assert!(error.to_string().contains("90 of 100 synced groups are gone (such as `00123`)"), "{error}");
        assert!(error.to_string().contains("90 new ones came (such as `123`) (90.0 %, limit 50.0 %)"), "{error}");
        assert!(error.advice().unwrap().contains("--accept keys-changed"));
        let readings = set(&guards, &none).readings(&found, Some(100), None, None);
        assert!(readings.iter().any(|reading| reading.guard == "keys-changed" && reading.trips));
        for (found, full) in [
            // A half-finished load, growth, a real turnover below the threshold, an incremental read.
            (Comparison { new: 30, ..found.clone() }, true),
            (Comparison { missing: 0, ..found.clone() }, true),
            (Comparison { missing: 50, new: 50, ..found.clone() }, true),
            (found.clone(), false),
        ] {
            assert!(GuardSet { full, ..set(&guards, &none) }.comparison(&found, None).is_ok(), "{found:?}");
        }
        let accepted = BTreeSet::from(["keys-changed".to_owned()]);
        assert!(set(&guards, &accepted).comparison(&found, Some(100)).is_ok());
    }

    #[test]
    fn rows_that_mostly_cannot_be_sent_stop_a_run() {
        let (guards, none) = (Guards::default(), BTreeSet::new());
        let reason = Some("trait `arr`: cannot convert text \"…\" to number".to_owned());
        let impact = Impact { rows: 100, unsendable: 51, reason, ..Impact::default() };
        let error = set(&guards, &none).sendable(&impact).unwrap_err();
        assert!(error.to_string().contains("51 of the first 100 rows cannot be sent: trait `arr`"), "{error}");
        assert!(error.advice().unwrap().contains("--accept unsendable"));
        assert!(set(&guards, &none).sendable(&Impact { unsendable: 50, ..impact.clone() }).is_ok());
        assert!(set(&guards, &none).sendable(&Impact { rows: 19, unsendable: 19, ..impact }).is_ok());
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
        let skipping = GuardSet { on_duplicate: OnDuplicate::Skip, ..set(&guards, &none) };
        assert!(skipping.comparison(&found, Some(28)).is_ok());
        assert!(!skipping.needs_impact(&Comparison { changed: 19, synced: 20, ..found.clone() }));
        assert!(skipping.needs_impact(&Comparison { changed: 20, synced: 30, ..found }));
    }
}
