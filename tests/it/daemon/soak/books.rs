//! Do the counts add up? Every run's record is read once, before it is pruned, and the sums are held against the metrics.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::caller::Caller;
use crate::daemon::adds_up;

/// Runs looked at each time: far more than end between two looks, and those that took long beside them.
const LOOKED_AT: usize = 200;

/// What is kept of a run.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) sync: String,
    pub(super) status: String,
    started_at: DateTime<Utc>,
    ended_at: DateTime<Utc>,
    error_kind: Option<String>,
    error: String,
}

/// Series name and labels → value, as the metrics page has them.
type Series = BTreeMap<(String, String), u64>;

/// All runs that ended.
#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) runs: BTreeMap<String, Kept>,
    /// The ids that were given out.
    pub(super) accepted: BTreeSet<String>,
    sums: Series,
}

fn time(text: &Value) -> DateTime<Utc> {
    text.as_str().unwrap_or_else(|| panic!("no time: {text}")).parse().unwrap()
}

/// Whether a run has not ended.
fn in_progress(run: &Value) -> bool {
    run["status"] == "running" || run["status"] == "queued"
}

impl Books {
    /// Reads the records of runs that ended since the last time.
    pub(super) fn collect(&mut self, caller: &Caller) {
        let listed = caller.get(&format!("/api/v1/runs?count={LOOKED_AT}")).is(200);
        let listed = listed.as_array().unwrap();
        let mut new = 0;
        for run in listed {
            let id = run["run"].as_str().unwrap();
            if in_progress(run) || self.runs.contains_key(id) {
                continue;
            }
            new += 1;
            let detail = caller.get(&format!("/api/v1/runs/{id}")).is(200);
            self.enter(id, &detail);
        }
        assert!(new < LOOKED_AT, "runs ended faster than they were looked at");
        // Runs are listed by when they were asked for: one that waited for long stands far below.
        for id in self.open() {
            let shown = caller.get(&format!("/api/v1/runs/{id}"));
            if shown.status == 200 && !in_progress(&shown.body["run"]) {
                self.enter(&id, &shown.body);
            }
        }
    }

    /// Accepted runs that have not ended.
    pub(super) fn open(&self) -> Vec<String> {
        self.accepted.iter().filter(|run| !self.runs.contains_key(*run)).cloned().collect()
    }

    fn enter(&mut self, id: &str, shown: &Value) {
        let (run, detail) = (&shown["run"], &shown["detail"]);
        adds_up(run);
        let text = |name: &str| run[name].as_str().unwrap_or_default().to_owned();
        let kept = Kept {
            sync: text("sync"),
            status: text("status"),
            started_at: time(&run["started_at"]),
            ended_at: time(&run["ended_at"]),
            error_kind: run["error_kind"].as_str().map(str::to_owned),
            error: text("error"),
        };
        let counts = &run["counts"];
        let count = |at: &Value, name: &str| at[name].as_u64().unwrap_or_else(|| panic!("no {name}: {shown}"));
        let of_both = |name: &str| count(counts, name) + count(&counts["removed"], name);
        let by_status = detail["by_status"].as_object().unwrap();
        let requests: u64 = by_status.values().map(|count| count.as_u64().unwrap()).sum();
        assert_eq!(requests, count(counts, "requests"), "requests by status: {shown}");
        let of = |more: &str| format!("{}{more}", kept.sync);
        let mut add = |name: &str, labels: String, more: u64| {
            // A series without an event may stand in the metrics or not.
            if more > 0 {
                *self.sums.entry((name.to_owned(), labels)).or_default() += more;
            }
        };
        for (status, count) in by_status {
            let status = if status == "0" { "none" } else { status };
            add("requests_total", of(&format!(" {status}")), count.as_u64().unwrap());
        }
        let rejected =
            of_both("rejected").saturating_sub(count(counts, "rejected_unchanged") + count(counts, "invalid_keys"));
        add("changes_total", of(" delivered"), of_both("delivered"));
        add("changes_total", of(" rejected"), rejected);
        add("changes_total", of(" pending"), of_both("pending"));
        add("changes_total", of(" unconfirmed"), of_both("unconfirmed"));
        add("traits_total", of(" set"), count(counts, "traits_set"));
        add("traits_total", of(" unset"), count(counts, "traits_unset"));
        add("request_retries_total", of(""), count(counts, "retries"));
        add("request_bytes_total", of(""), count(detail, "bytes"));
        add("rows_unchanged_total", of(""), count(counts, "unchanged"));
        add("rows_read_total", of(""), detail["found"]["rows"].as_u64().unwrap_or(count(counts, "rows")));
        add("runs_total", of(&format!(" {} {}", text("started_by"), kept.status)), 1);
        self.runs.insert(id.to_owned(), kept);
    }

    /// Runs of one sync never overlap.
    pub(super) fn follow_each_other(&self) {
        let mut by_sync: BTreeMap<&str, Vec<&Kept>> = BTreeMap::new();
        for run in self.runs.values() {
            by_sync.entry(&run.sync).or_default().push(run);
        }
        for runs in by_sync.values_mut() {
            runs.sort_by_key(|run| run.started_at);
            for pair in runs.windows(2) {
                assert!(pair[0].ended_at <= pair[1].started_at, "these overlap: {pair:?}");
            }
        }
    }

    /// Requests by destination, as the records have them.
    pub(super) fn requests(&self, destination_of: impl Fn(&str) -> &'static str) -> BTreeMap<&'static str, u64> {
        let mut requests = BTreeMap::new();
        for ((_, labels), count) in self.sums.iter().filter(|((name, _), _)| name == "requests_total") {
            let sync = labels.split(' ').next().unwrap();
            *requests.entry(destination_of(sync)).or_default() += count;
        }
        requests
    }

    /// What the metrics have and the records have not, or the other way round.
    pub(super) fn differ_from(&self, metrics: &str) -> Vec<String> {
        let shown = series(metrics);
        let names: BTreeSet<&String> = self.sums.keys().map(|(name, _)| name).collect();
        let shown: Series = shown.into_iter().filter(|((name, _), value)| names.contains(name) && *value > 0).collect();
        let all: BTreeSet<_> = shown.keys().chain(self.sums.keys()).collect();
        let differs = all.into_iter().filter(|key| shown.get(*key) != self.sums.get(*key));
        differs.map(|key| format!("{key:?}: metrics {:?}, records {:?}", shown.get(key), self.sums.get(key))).collect()
    }

    /// How many runs ended how; failures by kind.
    pub(super) fn endings(&self) -> BTreeMap<String, usize> {
        let mut endings = BTreeMap::new();
        for run in self.runs.values() {
            let kind = run.error_kind.as_deref().filter(|_| run.status == "failed");
            *endings
                .entry(format!("{}{}", run.status, kind.map_or(String::new(), |kind| format!(" ({kind})"))))
                .or_default() += 1;
        }
        endings
    }

    /// The error of the latest failure of each kind.
    pub(super) fn failures(&self) -> BTreeMap<&str, &str> {
        let failed = self.runs.values().filter_map(|run| Some((run.error_kind.as_deref()?, run.error.as_str())));
        failed.collect()
    }

    /// How many runs each sync had.
    pub(super) fn by_sync(&self) -> BTreeMap<String, usize> {
        let mut by_sync = BTreeMap::new();
        for run in self.runs.values() {
            *by_sync.entry(run.sync.clone()).or_default() += 1;
        }
        by_sync
    }
}

/// The counters of the syncs: name without prefix, and the labels' values, that of the destination left out.
fn series(metrics: &str) -> Series {
    let mut series = Series::new();
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, rest)) = line.strip_prefix("groupcast_").and_then(|line| line.split_once('{')) else {
            continue;
        };
        let (labels, value) = rest.split_once("} ").unwrap();
        let labels: BTreeMap<&str, &str> = labels.split(',').filter_map(|label| label.split_once('=')).collect();
        let (Some(sync), Ok(value)) = (labels.get("sync"), value.parse()) else { continue };
        let others = labels.iter().filter(|(label, _)| !["sync", "destination"].contains(label));
        let all = std::iter::once(sync).chain(others.map(|(_, value)| value));
        let values: Vec<&str> = all.map(|value| value.trim_matches('"')).collect();
        series.insert((name.to_owned(), values.join(" ")), value);
    }
    series
}
