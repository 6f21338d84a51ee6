//! The definitions of all metrics: one entry each, from which the counters, the page for Prometheus and the table in
//! `docs/daemon.md` follow.

use chrono::{DateTime, Utc};

use super::metric::{Counted, Metric, Source, SyncEvent, Unit, Values};
use super::sample::Sample;
use crate::ledger::RunStatus;
use crate::service::views::{ActivityState, RunDetail, SyncView};
use crate::sync::guard;

/// Upper ends of the buckets of run durations, in seconds: from a run that finds nothing to a first load of millions.
const DURATIONS: &[f64] = &[0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 10_800.0];

/// The statuses of runs that ended.
fn statuses() -> Vec<&'static str> {
    use RunStatus::{Cancelled, Crashed, Failed, Incomplete, StoppedByGuard, Succeeded, SucceededWithRejections};
    [Succeeded, SucceededWithRejections, Incomplete, StoppedByGuard, Failed, Crashed, Cancelled]
        .map(|status| status.name())
        .into()
}

fn starters() -> Vec<&'static str> {
    vec!["schedule", "retry", "api", "console", "command_line", "other"]
}

fn outcomes() -> Vec<&'static str> {
    vec!["delivered", "rejected", "pending", "unconfirmed"]
}

fn actions() -> Vec<&'static str> {
    vec!["set", "unset"]
}

fn guards() -> Vec<&'static str> {
    guard::NAMES.into()
}

fn reload_results() -> Vec<&'static str> {
    vec!["success", "failure"]
}

fn alert_results() -> Vec<&'static str> {
    vec!["sent", "dropped"]
}

/// Values without a list: names from the config, or HTTP statuses.
fn open() -> Vec<&'static str> {
    Vec::new()
}

/// A counter without labels of its own, from the start.
fn single() -> Vec<Vec<&'static str>> {
    vec![Vec::new()]
}

fn each(values: Values) -> Vec<Vec<&'static str>> {
    values().into_iter().map(|value| vec![value]).collect()
}

fn one(count: u64) -> Counted {
    vec![(Vec::new(), count)]
}

fn by(values: Values, counts: impl IntoIterator<Item = u64>) -> Counted {
    values().into_iter().map(|value| vec![value.to_owned()]).zip(counts).collect()
}

/// An HTTP status as a label: those that are in use, and a class for any other.
fn status_label(status: u16) -> String {
    match status {
        0 => "none".to_owned(),
        200..=208 | 300..=308 | 400..=431 | 451 | 500..=511 | 520..=530 => status.to_string(),
        100..=599 => format!("{}xx", status / 100),
        _ => "other".to_owned(),
    }
}

/// What started a run, as a label.
fn starter(started_by: &str) -> String {
    let label = started_by.replace(' ', "_");
    if starters().contains(&label.as_str()) { label } else { "other".to_owned() }
}

fn changes(ended: &RunDetail) -> Counted {
    let counts = ended.run.counts.clone().unwrap_or_default();
    // Groups that were rejected earlier, or have no key, were not rejected in this run.
    let rejected = counts.rejected().saturating_sub(counts.rejected_unchanged + counts.invalid_keys);
    by(
        outcomes,
        [
            counts.changes.delivered + counts.removed.delivered,
            rejected,
            counts.changes.pending + counts.removed.pending,
            counts.changes.unconfirmed + counts.removed.unconfirmed,
        ],
    )
}

fn unix_time(at: DateTime<Utc>) -> Sample {
    Sample::Number(at.timestamp_millis() as f64 / 1_000.0)
}

fn seconds_since(at: DateTime<Utc>, now: DateTime<Utc>) -> Sample {
    Sample::Number(((now - at).num_milliseconds() as f64 / 1_000.0).max(0.0))
}

fn flag(set: bool) -> Sample {
    Sample::Count(u64::from(set))
}

fn next_run(view: &SyncView) -> Option<Sample> {
    let starts = |state| !matches!(state, ActivityState::Paused | ActivityState::Disabled | ActivityState::Manual);
    let starts = view.activity.as_ref().is_none_or(|activity| starts(activity.state));
    Some(unix_time(view.schedule.as_ref()?.next.first().filter(|_| starts)?.utc))
}

/// A value without labels.
fn plain(sample: Sample) -> Vec<(Vec<String>, Sample)> {
    vec![(Vec::new(), sample)]
}

fn labelled(values: Values, counts: [u64; 2]) -> Vec<(Vec<String>, Sample)> {
    by(values, counts).into_iter().map(|(labels, count)| (labels, Sample::Count(count))).collect()
}

/// Every metric, in the order of the page and the table.
pub(super) const METRICS: &[Metric] = &[
    Metric {
        name: "runs_total",
        labels: &[("status", statuses), ("started_by", starters)],
        help: "Runs by their status and by what started them.",
        source: Source::Runs {
            count: |ended| vec![(vec![ended.run.status.name().to_owned(), starter(&ended.run.started_by)], 1)],
            initial: || statuses().into_iter().map(|status| vec![status, "schedule"]).collect(),
            unit: Unit::Count,
        },
    },
    Metric {
        name: "run_duration_seconds",
        labels: &[],
        help: "How long runs took.",
        source: Source::Distribution { of: |ended| ended.run.seconds(), ends: DURATIONS },
    },
    Metric {
        name: "rows_read_total",
        labels: &[],
        help: "Rows read from the source.",
        source: Source::Runs {
            // A run that a guard stopped has found rows and counted nothing yet.
            count: |ended| {
                let counted = ended.run.counts.as_ref().map_or(0, |counts| counts.rows);
                one(ended.detail.found.as_ref().map_or(counted, |found| found.rows))
            },
            initial: single,
            unit: Unit::Count,
        },
    },
    Metric {
        name: "rows_unchanged_total",
        labels: &[],
        help: "Rows whose document was already synced.",
        source: Source::Runs {
            count: |ended| one(ended.run.counts.as_ref().map_or(0, |counts| counts.unchanged)),
            initial: single,
            unit: Unit::Count,
        },
    },
    Metric {
        name: "candidates_total",
        labels: &[],
        help: "Candidates: rows and missing groups that may differ from the synced state and were compared in full.",
        source: Source::Runs {
            count: |ended| one(ended.detail.found.as_ref().map_or(0, |found| found.candidates())),
            initial: single,
            unit: Unit::Count,
        },
    },
    Metric {
        name: "changes_total",
        labels: &[("outcome", outcomes)],
        help: "Changes by their outcome. Groups that stay rejected since an earlier run do not count again.",
        source: Source::Runs { count: changes, initial: || each(outcomes), unit: Unit::Count },
    },
    Metric {
        name: "traits_total",
        labels: &[("action", actions)],
        help: "Traits set and unset in acknowledged changes.",
        source: Source::Runs {
            count: |ended| {
                let counts = ended.run.counts.clone().unwrap_or_default();
                by(actions, [counts.traits_set, counts.traits_unset])
            },
            initial: || each(actions),
            unit: Unit::Count,
        },
    },
    Metric {
        name: "requests_total",
        labels: &[("status", open)],
        help: "Requests by HTTP status, retries included: `none` had no response, rare statuses are `2xx` … `5xx` or \
               `other`.",
        source: Source::Runs {
            count: |ended| {
                let by_status = ended.detail.by_status.iter();
                by_status.map(|(status, count)| (vec![status_label(*status)], *count)).collect()
            },
            initial: Vec::new,
            unit: Unit::Count,
        },
    },
    Metric {
        name: "request_retries_total",
        labels: &[],
        help: "Requests that retried an earlier one.",
        source: Source::Runs {
            count: |ended| one(ended.run.counts.as_ref().map_or(0, |counts| counts.retries)),
            initial: single,
            unit: Unit::Count,
        },
    },
    Metric {
        name: "request_bytes_total",
        labels: &[],
        help: "Bytes of request bodies, retries included, before compression.",
        source: Source::Runs { count: |ended| one(ended.detail.bytes), initial: single, unit: Unit::Count },
    },
    Metric {
        name: "rate_limit_wait_seconds_total",
        labels: &[],
        help: "Time that requests waited for the rate limit, added up over requests that wait together.",
        source: Source::Runs {
            count: |ended| one(ended.detail.rate_wait_ms),
            initial: single,
            unit: Unit::Milliseconds,
        },
    },
    Metric {
        name: "retry_wait_seconds_total",
        labels: &[],
        help: "Time that requests waited before a retry, added up over requests that wait together.",
        source: Source::Runs {
            count: |ended| one(ended.detail.retry_wait_ms),
            initial: single,
            unit: Unit::Milliseconds,
        },
    },
    Metric {
        name: "guard_stops_total",
        labels: &[("guard", guards)],
        help: "Runs that a guard stopped.",
        source: Source::Runs {
            count: |ended| match ended.run.status {
                RunStatus::StoppedByGuard => {
                    vec![(vec![ended.run.guard.clone().unwrap_or_else(|| "unknown".to_owned())], 1)]
                }
                _ => Vec::new(),
            },
            initial: || each(guards),
            unit: Unit::Count,
        },
    },
    Metric {
        name: "skipped_scheduled_times_total",
        labels: &[],
        help: "Scheduled times that passed without a run of their own: an earlier run was still going, or the daemon was \
               down.",
        source: Source::Events(SyncEvent::Skipped),
    },
    Metric {
        name: "panics_total",
        labels: &[],
        help: "Runs that panicked, which is a bug.",
        source: Source::Events(SyncEvent::Panicked),
    },
    Metric {
        name: "last_success_timestamp_seconds",
        labels: &[],
        help: "When a run last succeeded; absent before the first time.",
        source: Source::Sync(|view, _| view.last_success_at.map(unix_time)),
    },
    Metric {
        name: "lag_seconds",
        labels: &[],
        help: "Time since a run last succeeded; absent before the first time.",
        source: Source::Sync(|view, now| Some(seconds_since(view.last_success_at?, now))),
    },
    Metric {
        name: "overdue_seconds",
        labels: &[],
        help: "Time since the oldest scheduled time after the last success that no success has served (a first attempt \
               under way serves what came before it started); 0 when there is none, absent without a schedule.",
        source: Source::Sync(|view, now| {
            let overdue_since = view.schedule.as_ref()?.overdue_since;
            Some(overdue_since.map_or(Sample::Number(0.0), |since| seconds_since(since, now)))
        }),
    },
    Metric {
        name: "next_run_timestamp_seconds",
        labels: &[],
        help: "When the schedule starts the next run; absent when it starts none.",
        source: Source::Sync(|view, _| next_run(view)),
    },
    Metric {
        name: "synced_groups",
        labels: &[],
        help: "Groups that were delivered or adopted; one that was only ever rejected or unconfirmed does not count.",
        source: Source::Sync(|view, _| Some(Sample::Count(view.groups.synced))),
    },
    Metric {
        name: "unconfirmed_groups",
        labels: &[],
        help: "Groups that the destination may or may not hold as they were sent; the next run resends them.",
        source: Source::Sync(|view, _| Some(Sample::Count(view.groups.unconfirmed))),
    },
    Metric {
        name: "rejected_groups",
        labels: &[],
        help: "Groups that are rejected and excluded until their row changes.",
        source: Source::Sync(|view, _| Some(Sample::Count(view.groups.rejected))),
    },
    Metric {
        name: "consecutive_failures",
        labels: &[],
        help: "Failed runs in a row.",
        source: Source::Sync(|view, _| Some(Sample::Count(u64::from(view.activity.as_ref()?.failures)))),
    },
    Metric {
        name: "running",
        labels: &[],
        help: "Whether a run is under way: 1 or 0.",
        source: Source::Sync(|view, _| Some(flag(view.activity.as_ref()?.running.is_some()))),
    },
    Metric {
        name: "paused",
        labels: &[],
        help: "Whether the sync is paused: 1 or 0.",
        source: Source::Sync(|view, _| Some(flag(view.activity.as_ref()?.paused_since.is_some()))),
    },
    Metric {
        name: "enabled",
        labels: &[],
        help: "Whether the sync's schedule is enabled: 1 or 0.",
        source: Source::Sync(|view, _| Some(flag(view.enabled))),
    },
    Metric {
        name: "mapping_problem",
        labels: &[("sync", open)],
        help: "1 for each sync whose mapping file has mistakes: it runs with its last valid mapping, or not at all.",
        source: Source::Process(|scrape| {
            scrape.mistaken.iter().map(|sync| (vec![sync.clone()], Sample::Count(1))).collect()
        }),
    },
    Metric {
        name: "config_problems",
        labels: &[],
        help: "1 while the config files have mistakes: an older config is in use, for all syncs or for some.",
        source: Source::Process(|scrape| plain(flag(scrape.about.config_problems.is_some()))),
    },
    Metric {
        name: "config_reloads_total",
        labels: &[("result", reload_results)],
        help: "Reloads of the config by their result.",
        source: Source::Process(|scrape| labelled(reload_results, scrape.reloads)),
    },
    Metric {
        name: "config_read_timestamp_seconds",
        labels: &[],
        help: "When the config in use was read.",
        source: Source::Process(|scrape| plain(unix_time(scrape.about.config_read_at))),
    },
    Metric {
        name: "ledger_problem",
        labels: &[],
        help: "1 while no run starts because the ledger's file was moved or cannot be written.",
        source: Source::Process(|scrape| plain(flag(scrape.about.ledger_problem.is_some()))),
    },
    Metric {
        name: "alerts_total",
        labels: &[("result", alert_results)],
        help: "Alerts that the webhook accepted, and alerts that were dropped.",
        source: Source::Process(|scrape| labelled(alert_results, scrape.alerts)),
    },
    Metric {
        name: "log_lines_dropped_total",
        labels: &[],
        help: "Log lines that were dropped because standard error was not read in time.",
        source: Source::Process(|scrape| plain(Sample::Count(scrape.log_lines_dropped))),
    },
    Metric {
        name: "runs_under_way",
        labels: &[],
        help: "Runs under way.",
        source: Source::Process(|scrape| plain(Sample::Count(scrape.about.running as u64))),
    },
    Metric {
        name: "runs_parallel_max",
        labels: &[],
        help: "The limit of runs at a time.",
        source: Source::Process(|scrape| plain(Sample::Count(scrape.about.parallel_runs as u64))),
    },
    Metric {
        name: "start_time_seconds",
        labels: &[],
        help: "When the process started, as a Unix time.",
        source: Source::Process(|scrape| plain(unix_time(scrape.about.started_at))),
    },
    Metric {
        name: "stopping",
        labels: &[],
        help: "1 while the daemon shuts down.",
        source: Source::Process(|scrape| plain(flag(scrape.about.stopping))),
    },
    Metric {
        name: "build_info",
        labels: &[("version", open)],
        help: "Always 1; the label has the version.",
        source: Source::Process(|scrape| vec![(vec![scrape.about.version.clone()], Sample::Count(1))]),
    },
];
