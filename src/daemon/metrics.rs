//! What do we count, and what is it now? Prometheus text.
//!
//! Counters live here and grow when a run ends; gauges are read off the syncs when somebody scrapes. Every label comes from
//! a bounded set: syncs and destinations from the config, the rest from the lists below, and what the network or a caller
//! makes up falls into a class of its own. A sync that left the config takes its series along.
//!
//! The text is the classic format (version 0.0.4), which every scraper reads, rather than OpenMetrics, which needs the
//! scraper to ask for it.

mod page;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use parking_lot::{Mutex, MutexGuard};

use crate::ledger::RunStatus;
use crate::service::api::About;
use crate::service::views::words::guard_of;
use crate::service::views::{RunDetail, State, SyncView};
use page::{Histogram, Page, Sample};

/// The content type of [`Metrics::render`]'s text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper ends of the buckets of run durations, in seconds: from a run that finds nothing to a first load of millions.
const DURATIONS: [f64; 13] = [0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 10_800.0];
/// How runs end.
const STATUSES: [RunStatus; 6] = [
    RunStatus::Delivered,
    RunStatus::SomeRejected,
    RunStatus::Incomplete,
    RunStatus::Guarded,
    RunStatus::Failed,
    RunStatus::Died,
];

/// Counts since the process started. Nothing here waits.
#[derive(Debug, Default)]
pub struct Metrics(Mutex<Totals>);

#[derive(Debug, Default)]
struct Totals {
    syncs: BTreeMap<String, Sums>,
    reloads_taken: u64,
    reloads_refused: u64,
    alerts_told: u64,
    alerts_lost: u64,
}

/// What a sync's runs add up to.
#[derive(Debug, Clone, Default)]
struct Sums {
    /// Where they went; the sums start anew when the mapping says another one.
    destination: Option<String>,
    rows: u64,
    unchanged: u64,
    candidates: u64,
    delivered: u64,
    rejected: u64,
    not_sent: u64,
    unknown: u64,
    traits_set: u64,
    traits_unset: u64,
    requests: BTreeMap<String, u64>,
    retries: u64,
    rate_wait_ms: u64,
    retry_wait_ms: u64,
    bytes: u64,
    runs: BTreeMap<(&'static str, &'static str), u64>,
    durations: Histogram,
    guards: BTreeMap<&'static str, u64>,
    skipped: u64,
    panics: u64,
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new() -> Metrics {
        Metrics::default()
    }

    /// Counts a run that has ended, whoever started it.
    pub fn run_ended(&self, ended: &RunDetail, destination: &str) {
        let (run, detail) = (&ended.run, &ended.detail);
        let mut totals = self.totals();
        let sums = totals.of(&run.sync);
        if sums.destination.as_deref().is_some_and(|before| before != destination) {
            *sums = Sums::default();
        }
        sums.destination = Some(destination.to_owned());
        let counts = run.counts.clone().unwrap_or_default();
        // A run that a guard stopped has compared and counted nothing yet.
        sums.rows += detail.found.as_ref().map_or(counts.rows, |found| found.rows);
        sums.candidates += detail.found.as_ref().map_or(0, |found| found.candidates());
        sums.unchanged += counts.unchanged;
        sums.delivered += counts.said.delivered + counts.removed.delivered;
        // What was only held back, or has no key, was not refused in this run.
        sums.rejected += counts.rejected().saturating_sub(counts.held + counts.invalid_keys);
        sums.not_sent += counts.said.not_sent + counts.removed.not_sent;
        sums.unknown += counts.said.unknown + counts.removed.unknown;
        sums.traits_set += counts.traits_set;
        sums.traits_unset += counts.traits_unset;
        sums.retries += counts.retries;
        sums.rate_wait_ms += detail.rate_wait_ms;
        sums.retry_wait_ms += detail.retry_wait_ms;
        sums.bytes += detail.bytes;
        for (status, count) in &detail.by_status {
            *sums.requests.entry(status_label(*status)).or_default() += count;
        }
        *sums.runs.entry((run.status.name(), starter(&run.started_by))).or_default() += 1;
        if let Some(seconds) = run.seconds() {
            sums.durations.observe(&DURATIONS, seconds.max(0.0));
        }
        if run.status == RunStatus::Guarded {
            *sums.guards.entry(guard_of(run).unwrap_or("unknown")).or_default() += 1;
        }
    }

    /// Scheduled moments passed without a run of their own, because an earlier run was still going or the daemon was down.
    pub fn moments_skipped(&self, sync: &str, count: u64) {
        self.totals().of(sync).skipped += count;
    }

    /// A run panicked.
    pub fn panicked(&self, sync: &str) {
        self.totals().of(sync).panics += 1;
    }

    /// The config was read again, and taken over or refused.
    pub fn reloaded(&self, taken: bool) {
        let mut totals = self.totals();
        if taken { totals.reloads_taken += 1 } else { totals.reloads_refused += 1 }
    }

    /// What became of alerts, in all since the start.
    pub fn alerts(&self, told: u64, lost: u64) {
        let mut totals = self.totals();
        (totals.alerts_told, totals.alerts_lost) = (told, lost);
    }

    /// Everything as text ([`CONTENT_TYPE`]). `syncs` are all syncs of the config in use: what was counted of others is
    /// forgotten.
    pub fn render(&self, syncs: &[SyncView], about: &About, now: DateTime<Utc>) -> String {
        let mut page = Page::default();
        let mut totals = self.totals();
        totals.syncs.retain(|name, _| syncs.iter().any(|view| view.sync == *name));
        counters(&mut page, &totals, syncs);
        gauges(&mut page, syncs, now);
        daemon(&mut page, &totals, about);
        drop(totals);
        page.text()
    }

    fn totals(&self) -> MutexGuard<'_, Totals> {
        self.0.lock()
    }
}

impl Totals {
    fn of(&mut self, sync: &str) -> &mut Sums {
        self.syncs.entry(sync.to_owned()).or_default()
    }
}

/// A status as a label: those that are in use, and a class for whatever else a server answers.
fn status_label(status: u16) -> String {
    match status {
        0 => "none".to_owned(),
        200..=208 | 300..=308 | 400..=431 | 451 | 500..=511 | 520..=530 => status.to_string(),
        100..=599 => format!("{}xx", status / 100),
        _ => "other".to_owned(),
    }
}

/// Who started a run, as a label.
fn starter(started_by: &str) -> &'static str {
    match started_by {
        "schedule" => "schedule",
        "retry" => "retry",
        "api" => "api",
        "console" => "console",
        "command line" => "command_line",
        _ => "other",
    }
}

type Labels = Vec<(&'static str, String)>;

fn labels(view: &SyncView) -> Labels {
    vec![("sync", view.sync.clone()), ("destination", view.destination.clone())]
}

fn with(view: &SyncView, more: &[(&'static str, &str)]) -> Labels {
    let mut labels = labels(view);
    labels.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
    labels
}

fn seconds(ms: u64) -> Sample {
    Sample::Number(ms as f64 / 1_000.0)
}

/// What a sync counts under several labels.
type Split = dyn Fn(&SyncView, &Sums) -> Vec<(Labels, u64)>;

/// Every counter of every sync, from zero on: a rate over a series that appears with its first event misses that event.
fn counters(page: &mut Page, totals: &Totals, syncs: &[SyncView]) {
    let none = Sums::default();
    let each: Vec<(&SyncView, &Sums)> =
        syncs.iter().map(|view| (view, totals.syncs.get(&view.sync).unwrap_or(&none))).collect();
    let mut count = |name: &'static str, help: &'static str, of: fn(&Sums) -> Sample| {
        page.counter(name, help, each.iter().map(|(view, sums)| (labels(view), of(sums))).collect());
    };
    count("rows_read_total", "Rows that the source yielded.", |sums| Sample::Count(sums.rows));
    count("rows_unchanged_total", "Rows whose group already held its document.", |sums| Sample::Count(sums.unchanged));
    count("candidates_total", "Rows and missing groups that were looked at because they may differ.", |sums| {
        Sample::Count(sums.candidates)
    });
    count("request_retries_total", "Requests that repeated an earlier one.", |sums| Sample::Count(sums.retries));
    count("request_bytes_total", "Bytes of request bodies, repeats included, before compression.", |sums| {
        Sample::Count(sums.bytes)
    });
    count("rate_limit_wait_seconds_total", "Time that requests waited for the rate limit, added up.", |sums| {
        seconds(sums.rate_wait_ms)
    });
    count("retry_wait_seconds_total", "Time that requests waited before a repetition, added up.", |sums| {
        seconds(sums.retry_wait_ms)
    });
    count("skipped_moments_total", "Scheduled moments that passed without a run of their own.", |sums| {
        Sample::Count(sums.skipped)
    });
    count("panics_total", "Runs that panicked, which is a bug.", |sums| Sample::Count(sums.panics));
    let mut split = |name: &'static str, help: &'static str, of: &Split| {
        let samples = each.iter().flat_map(|(view, sums)| of(view, sums));
        page.counter(name, help, samples.map(|(labels, count)| (labels, Sample::Count(count))).collect());
    };
    split("changes_total", "What became of changes: rows and missing groups with something to say.", &|view, sums| {
        let outcomes = [
            ("delivered", sums.delivered),
            ("rejected", sums.rejected),
            ("not_sent", sums.not_sent),
            ("unknown", sums.unknown),
        ];
        outcomes.map(|(outcome, count)| (with(view, &[("outcome", outcome)]), count)).into()
    });
    split("traits_total", "Traits set and unset, in acknowledged changes.", &|view, sums| {
        let actions = [("set", sums.traits_set), ("unset", sums.traits_unset)];
        actions.map(|(action, count)| (with(view, &[("action", action)]), count)).into()
    });
    split("requests_total", "Requests by HTTP status, repeats included; `none` had no answer.", &|view, sums| {
        sums.requests.iter().map(|(status, count)| (with(view, &[("status", status)]), *count)).collect()
    });
    split("runs_total", "Runs by how they ended and who started them.", &|view, sums| {
        let mut runs: BTreeMap<_, _> = STATUSES.iter().map(|status| ((status.name(), "schedule"), 0)).collect();
        runs.extend(sums.runs.iter().map(|(labels, count)| (*labels, *count)));
        let samples = runs.into_iter();
        samples.map(|((status, by), count)| (with(view, &[("status", status), ("started_by", by)]), count)).collect()
    });
    split("guard_stops_total", "Runs that a guard stopped.", &|view, sums| {
        let mut guards: BTreeMap<&str, u64> = crate::sync::guard::NAMES.iter().map(|name| (*name, 0)).collect();
        guards.extend(sums.guards.iter().map(|(name, count)| (*name, *count)));
        guards.into_iter().map(|(guard, count)| (with(view, &[("guard", guard)]), count)).collect()
    });
    let durations = each.iter().map(|(view, sums)| (labels(view), Sample::Spread(sums.durations.clone())));
    page.histogram("run_duration_seconds", "How long runs took.", &DURATIONS, durations.collect());
}

/// How every sync stands now.
fn gauges(page: &mut Page, syncs: &[SyncView], now: DateTime<Utc>) {
    let time = |at: DateTime<Utc>| at.timestamp_millis() as f64 / 1_000.0;
    let since = |at: DateTime<Utc>| ((now - at).num_milliseconds() as f64 / 1_000.0).max(0.0);
    let mut gauge = |name: &'static str, help: &'static str, of: &dyn Fn(&SyncView) -> Option<Sample>| {
        page.gauge(name, help, syncs.iter().filter_map(|view| Some((labels(view), of(view)?))).collect());
    };
    gauge("last_success_timestamp_seconds", "When a run last ended well; absent before the first time.", &|view| {
        Some(Sample::Number(time(view.last_success_at?)))
    });
    gauge("lag_seconds", "Time since a run last ended well; absent before the first time.", &|view| {
        Some(Sample::Number(since(view.last_success_at?)))
    });
    gauge("overdue_seconds", "How long a scheduled run is overdue; 0 when it is not.", &|view| {
        Some(Sample::Number(view.schedule.as_ref()?.overdue_since.map_or(0.0, since)))
    });
    gauge(
        "next_run_timestamp_seconds",
        "When the schedule starts the next run; absent when it starts none.",
        &|view| {
            let starts = |state| !matches!(state, State::Paused | State::Disabled | State::Manual);
            let starts = view.activity.as_ref().is_none_or(|activity| starts(activity.state));
            let next = view.schedule.as_ref()?.next.first().filter(|_| starts)?;
            Some(Sample::Number(time(next.utc)))
        },
    );
    gauge("known_groups", "Groups that the destination is known to hold.", &|view| {
        Some(Sample::Count(view.standing.known))
    });
    gauge("unconfirmed_groups", "Known groups whose state at the destination is unconfirmed.", &|view| {
        Some(Sample::Count(view.standing.unconfirmed))
    });
    gauge("rejected_groups", "Groups whose last word is a rejection.", &|view| {
        Some(Sample::Count(view.standing.rejected))
    });
    gauge("enabled", "Whether schedules run the sync.", &|view| Some(Sample::Count(u64::from(view.enabled))));
    let activity = |view: &SyncView| view.activity.clone();
    gauge("running", "Whether a run is under way.", &|view| {
        Some(Sample::Count(u64::from(activity(view)?.running.is_some())))
    });
    gauge("paused", "Whether somebody paused the sync.", &|view| {
        Some(Sample::Count(u64::from(activity(view)?.paused_since.is_some())))
    });
    gauge("consecutive_failures", "Failed runs in a row.", &|view| {
        Some(Sample::Count(u64::from(activity(view)?.failures)))
    });
}

/// The process and its config.
fn daemon(page: &mut Page, totals: &Totals, about: &About) {
    let time = |at: DateTime<Utc>| Sample::Number(at.timestamp_millis() as f64 / 1_000.0);
    let one = |sample| vec![(Labels::new(), sample)];
    let split = |label, counts: [(&str, u64); 2]| {
        counts.map(|(value, count)| (vec![(label, value.to_owned())], Sample::Count(count))).into()
    };
    let reloads = split("result", [("taken", totals.reloads_taken), ("refused", totals.reloads_refused)]);
    page.counter("config_reloads_total", "How often the config was read again, and taken over or refused.", reloads);
    let alerts = split("result", [("told", totals.alerts_told), ("lost", totals.alerts_lost)]);
    page.counter("alerts_total", "Messages that the alert webhook took, and those given up.", alerts);
    let problems = u64::from(about.config_problems.is_some());
    page.gauge(
        "config_problems",
        "Whether the config files as they are now could not be taken over: the config in use is older.",
        one(Sample::Count(problems)),
    );
    let ledger = u64::from(about.ledger_problem.is_some());
    let help = "Whether no run starts because the ledger's file was moved or cannot be written.";
    page.gauge("ledger_problem", help, one(Sample::Count(ledger)));
    page.gauge("config_read_timestamp_seconds", "When the config in use was read.", one(time(about.config_read_at)));
    page.gauge("start_time_seconds", "When the process started, as a Unix time.", one(time(about.started_at)));
    page.gauge("runs_under_way", "Runs under way.", one(Sample::Count(about.running as u64)));
    page.gauge(
        "runs_parallel_max",
        "Runs of different syncs at a time.",
        one(Sample::Count(about.parallel_runs as u64)),
    );
    page.gauge("stopping", "Whether the daemon is stopping.", one(Sample::Count(u64::from(about.stopping))));
    let version = vec![(vec![("version", about.version.clone())], Sample::Count(1))];
    page.gauge("build_info", "Always 1; the label says which version runs.", version);
}

#[cfg(test)]
mod tests;
