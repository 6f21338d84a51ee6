//! The definitions of all metrics: one entry each, from which the counters, the page for Prometheus and the table in
//! `docs/daemon.md` follow.

use chrono::{DateTime, Utc};

use super::metric::{Counted, CounterUnit, LabelValues, Labelled, Metric, MetricSource, Scrape, SyncEvent};
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

fn each(values: LabelValues) -> Vec<Vec<&'static str>> {
    values().into_iter().map(|value| vec![value]).collect()
}

fn one(count: u64) -> Counted {
    vec![(Vec::new(), count)]
}

fn by(values: LabelValues, counts: impl IntoIterator<Item = u64>) -> Counted {
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
fn plain(sample: Sample) -> Labelled {
    vec![(Vec::new(), sample)]
}

fn labelled(values: LabelValues, counts: [u64; 2]) -> Labelled {
    by(values, counts).into_iter().map(|(labels, count)| (labels, Sample::Count(count))).collect()
}

/// A counter of a sync over ended runs.
const fn counter(name: &'static str, help: &'static str, count: fn(&RunDetail) -> Counted) -> Metric {
    let source = MetricSource::Runs { count, initial: single, unit: CounterUnit::Count };
    Metric { name, labels: &[], help, source }
}

/// The same for milliseconds, shown as seconds.
const fn seconds(name: &'static str, help: &'static str, count: fn(&RunDetail) -> Counted) -> Metric {
    let source = MetricSource::Runs { count, initial: single, unit: CounterUnit::Milliseconds };
    Metric { name, labels: &[], help, source }
}

/// The same with labels of its own, and the label values of the series that exist from the start.
const fn split(
    name: &'static str,
    labels: &'static [(&'static str, LabelValues)],
    help: &'static str,
    count: fn(&RunDetail) -> Counted,
    initial: fn() -> Vec<Vec<&'static str>>,
) -> Metric {
    Metric { name, labels, help, source: MetricSource::Runs { count, initial, unit: CounterUnit::Count } }
}

/// A counter of other events of a sync.
const fn event(name: &'static str, help: &'static str, event: SyncEvent) -> Metric {
    Metric { name, labels: &[], help, source: MetricSource::Events(event) }
}

/// A gauge of a sync.
const fn gauge(name: &'static str, help: &'static str, read: fn(&SyncView, DateTime<Utc>) -> Option<Sample>) -> Metric {
    Metric { name, labels: &[], help, source: MetricSource::Sync(read) }
}

/// A metric of the process.
const fn process(
    name: &'static str,
    labels: &'static [(&'static str, LabelValues)],
    help: &'static str,
    read: fn(&Scrape<'_>) -> Labelled,
) -> Metric {
    Metric { name, labels, help, source: MetricSource::Process(read) }
}

/// Every metric, in the order of the page and the table.
pub(super) const METRICS: &[Metric] = &[
    split(
        "runs_total",
        &[("status", statuses), ("started_by", starters)],
        "Runs by their status and by what started them.",
        |ended| vec![(vec![ended.run.status.name().to_owned(), starter(&ended.run.started_by)], 1)],
        || statuses().into_iter().map(|status| vec![status, "schedule"]).collect(),
    ),
    Metric {
        name: "run_duration_seconds",
        labels: &[],
        help: "How long runs took.",
        source: MetricSource::Distribution { of: |ended| ended.run.seconds(), ends: DURATIONS },
    },
    counter(
        "rows_read_total",
        "Rows read from the source.",
        // A run that a guard stopped has found rows and counted nothing yet.
        |ended| {
            let counted = ended.run.counts.as_ref().map_or(0, |counts| counts.rows);
            one(ended.detail.found.as_ref().map_or(counted, |found| found.rows))
        },
    ),
    counter("rows_unchanged_total", "Rows whose document was already synced.", |ended| {
        one(ended.run.counts.as_ref().map_or(0, |counts| counts.unchanged))
    }),
    counter(
        "candidates_total",
        "Candidates: rows and missing groups that may differ from the synced state and were compared in full.",
        |ended| one(ended.detail.found.as_ref().map_or(0, |found| found.candidates())),
    ),
    split(
        "changes_total",
        &[("outcome", outcomes)],
        "Changes by their outcome. Groups that stay rejected since an earlier run do not count again.",
        changes,
        || each(outcomes),
    ),
    split(
        "traits_total",
        &[("action", actions)],
        "Traits set and unset in acknowledged changes.",
        |ended| {
            let counts = ended.run.counts.clone().unwrap_or_default();
            by(actions, [counts.traits_set, counts.traits_unset])
        },
        || each(actions),
    ),
    split(
        "requests_total",
        &[("status", open)],
        "Requests by HTTP status, retries included: `none` had no response, rare statuses are `2xx` … `5xx` or `other`.",
        |ended| {
            let by_status = ended.detail.by_status.iter();
            by_status.map(|(status, count)| (vec![status_label(*status)], *count)).collect()
        },
        Vec::new,
    ),
    counter("request_retries_total", "Requests that retried an earlier one.", |ended| {
        one(ended.run.counts.as_ref().map_or(0, |counts| counts.retries))
    }),
    counter("request_bytes_total", "Bytes of request bodies, retries included, before compression.", |ended| {
        one(ended.detail.bytes)
    }),
    seconds(
        "rate_limit_wait_seconds_total",
        "Time that requests waited for the rate limit, added up over requests that wait together.",
        |ended| one(ended.detail.rate_wait_ms),
    ),
    seconds(
        "retry_wait_seconds_total",
        "Time that requests waited before a retry, added up over requests that wait together.",
        |ended| one(ended.detail.retry_wait_ms),
    ),
    split(
        "guard_stops_total",
        &[("guard", guards)],
        "Runs that a guard stopped.",
        |ended| match ended.run.status {
            RunStatus::StoppedByGuard => {
                vec![(vec![ended.run.guard.clone().unwrap_or_else(|| "unknown".to_owned())], 1)]
            }
            _ => Vec::new(),
        },
        || each(guards),
    ),
    event(
        "skipped_scheduled_times_total",
        "Scheduled times that passed without a run of their own: an earlier run was still going, or the daemon was down.",
        SyncEvent::Skipped,
    ),
    counter(
        "mirror_rebuilds_total",
        "Runs that made the mirror anew: the first one, and those that could not rely on it.",
        |ended| one(u64::from(ended.detail.mirror.as_ref().is_some_and(|mirror| mirror.rebuilt))),
    ),
    event("panics_total", "Runs that panicked, which is a bug.", SyncEvent::Panicked),
    gauge("last_success_timestamp_seconds", "When a run last succeeded; absent before the first time.", |view, _| {
        view.last_success_at.map(unix_time)
    }),
    gauge("lag_seconds", "Time since a run last succeeded; absent before the first time.", |view, now| {
        Some(seconds_since(view.last_success_at?, now))
    }),
    gauge(
        "overdue_seconds",
        "Time since the oldest scheduled time after the last success that no success has served (a first attempt under way \
         serves what came before it started); 0 when nothing is overdue, absent without a schedule.",
        |view, now| {
            let overdue_since = view.schedule.as_ref()?.overdue_since;
            Some(overdue_since.map_or(Sample::Number(0.0), |since| seconds_since(since, now)))
        },
    ),
    gauge(
        "next_run_timestamp_seconds",
        "When the schedule starts the next run; absent when it starts none.",
        |view, _| next_run(view),
    ),
    gauge(
        "synced_groups",
        "Groups that were delivered or adopted; one that was only ever rejected or unconfirmed does not count.",
        |view, _| Some(Sample::Count(view.groups.synced)),
    ),
    gauge(
        "unconfirmed_groups",
        "Groups that the destination may or may not hold as they were sent; the next run resends them.",
        |view, _| Some(Sample::Count(view.groups.unconfirmed)),
    ),
    gauge("rejected_groups", "Groups that are rejected and excluded until their row changes.", |view, _| {
        Some(Sample::Count(view.groups.rejected))
    }),
    gauge("consecutive_failures", "Failed runs in a row.", |view, _| {
        Some(Sample::Count(u64::from(view.activity.as_ref()?.failures)))
    }),
    gauge("mirror_rows", "Rows of the mirror in the warehouse; absent without a mirror.", |view, _| {
        Some(Sample::Count(view.mirror.as_ref()?.rows))
    }),
    gauge(
        "mirror_unmirrored_keys",
        "Keys that the mirror may not hold as they are, which the next run compares in any case; absent without a mirror.",
        |view, _| Some(Sample::Count(view.mirror.as_ref()?.unmirrored)),
    ),
    gauge(
        "mirror_behind_seconds",
        "Time since there are such keys; 0 when there are none, absent without a mirror.",
        |view, now| {
            let behind_since = view.mirror.as_ref()?.behind_since;
            Some(behind_since.map_or(Sample::Number(0.0), |since| seconds_since(since, now)))
        },
    ),
    gauge(
        "mirror_rebuild_timestamp_seconds",
        "When the mirror was made or last rebuilt; absent without a mirror.",
        |view, _| Some(unix_time(view.mirror.as_ref()?.made_at)),
    ),
    gauge("running", "Whether this daemon has a run under way: 1 or 0.", |view, _| {
        let activity = view.activity.as_ref()?;
        Some(flag(activity.running.is_some() && activity.holder.is_none()))
    }),
    gauge("paused", "Whether the sync is paused: 1 or 0.", |view, _| {
        Some(flag(view.activity.as_ref()?.paused_since.is_some()))
    }),
    gauge("enabled", "Whether the sync's schedule is enabled: 1 or 0.", |view, _| Some(flag(view.enabled))),
    process(
        "mapping_problem",
        &[("sync", open)],
        "1 for each sync whose mapping file has mistakes: it runs with its last valid mapping, or not at all.",
        |scrape| scrape.mistaken.iter().map(|sync| (vec![sync.clone()], Sample::Count(1))).collect(),
    ),
    process(
        "config_problems",
        &[],
        "1 while the config files have mistakes: an older config is in use, for all syncs or for some.",
        |scrape| plain(flag(scrape.about.config_problems.is_some())),
    ),
    process(
        "config_reloads_total",
        &[("result", reload_results)],
        "Reloads of the config by their result.",
        |scrape| labelled(reload_results, scrape.reloads),
    ),
    process("config_read_timestamp_seconds", &[], "When the config in use was read.", |scrape| {
        plain(unix_time(scrape.about.config_read_at))
    }),
    process(
        "ledger_problem",
        &[],
        "1 while no run starts because the ledger's file was moved or cannot be written.",
        |scrape| plain(flag(scrape.about.ledger_problem.is_some())),
    ),
    process(
        "alerts_total",
        &[("result", alert_results)],
        "Alerts that the webhook accepted, and alerts that were dropped.",
        |scrape| labelled(alert_results, scrape.alerts),
    ),
    process(
        "log_lines_dropped_total",
        &[],
        "Log lines that were dropped because standard error was not read in time.",
        |scrape| plain(Sample::Count(scrape.log_lines_dropped)),
    ),
    process("runs_under_way", &[], "Runs under way.", |scrape| plain(Sample::Count(scrape.about.running as u64))),
    process("runs_parallel_max", &[], "The limit of runs at a time.", |scrape| {
        plain(Sample::Count(scrape.about.parallel_runs as u64))
    }),
    process("start_time_seconds", &[], "When the process started, as a Unix time.", |scrape| {
        plain(unix_time(scrape.about.started_at))
    }),
    process("daemons", &[], "Daemons that use the ledger, this one included.", |scrape| {
        plain(Sample::Count(scrape.daemons))
    }),
    process(
        "draining",
        &[],
        "1 while the daemon is drained: it starts no run, and ends with those it has.",
        |scrape| plain(flag(scrape.about.draining)),
    ),
    process(
        "leases_held",
        &[],
        "Leases that this daemon has in the ledger: of its name, and of the syncs that it runs. 0 with a ledger in a file.",
        |scrape| plain(Sample::Count(scrape.leases.held)),
    ),
    process(
        "leases_lost_total",
        &[],
        "Leases that another process has taken from this daemon, because it did not extend them in time.",
        |scrape| plain(Sample::Count(scrape.leases.lost)),
    ),
    process("stopping", &[], "1 while the daemon shuts down.", |scrape| plain(flag(scrape.about.stopping))),
    process("build_info", &[("version", open)], "Always 1; the label has the version.", |scrape| {
        vec![(vec![scrape.about.version.clone()], Sample::Count(1))]
    }),
];
