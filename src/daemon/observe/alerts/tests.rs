//! Every change is reported once and arrives: the states from scripted runs, the sending against real HTTP.

mod arriving;
mod states;

use chrono::{DateTime, Utc};

use super::*;
use crate::ledger::{GroupCounts, RunStatus};
use crate::secret::Secret;
use crate::service::views::{ActivityState as Doing, RunDetail, RunView, ScheduleView, SyncActivity};
use crate::sync::report::{Counts, Detail, OutcomeCounts};

fn at(minute: i64) -> DateTime<Utc> {
    let midnight = DateTime::parse_from_rfc3339("2026-11-22T00:00:00Z").unwrap().to_utc();
    midnight + chrono::TimeDelta::minutes(minute)
}

/// A run of `accounts` that begins at a minute and takes one.
fn run(minute: i64, status: RunStatus, kind: Option<&str>) -> RunDetail {
    let rejected = if status == RunStatus::SucceededWithRejections { 5 } else { 0 };
    RunDetail {
        run: RunView {
            sync: "accounts".to_owned(),
            run: format!("run-{minute}"),
            status,
            started_at: at(minute),
            ended_at: Some(at(minute + 1)),
            started_by: "schedule".to_owned(),
            counts: Some(Counts {
                rows: 100,
                unchanged: 100 - rejected,
                changes: OutcomeCounts { rejected, ..OutcomeCounts::default() },
                ..Counts::default()
            }),
            error: kind.map(|kind| match kind {
                "guard" => "stopped by the guard `removed` before anything was sent: 21 of 100".to_owned(),
                kind => format!("it broke: {kind}"),
            }),
            error_kind: kind.map(str::to_owned),
            guard: (status == RunStatus::StoppedByGuard).then(|| "removed".to_owned()),
            holder: None,
        },
        detail: Detail::default(),
        progress: None,
        rejected: Vec::new(),
    }
}

fn good(minute: i64) -> RunDetail {
    run(minute, RunStatus::Succeeded, None)
}

fn failed(minute: i64, kind: &str) -> RunDetail {
    run(minute, RunStatus::Failed, Some(kind))
}

fn ended(detail: &RunDetail) -> ObservedRun<'_> {
    ObservedRun { detail, destination: "crm", advice: None, whole: true, full: true, rejected_groups: 0 }
}

/// `accounts` with a schedule that is overdue since a minute.
fn overdue(since: Option<i64>) -> SyncView {
    SyncView {
        sync: "accounts".to_owned(),
        source: "warehouse".to_owned(),
        destination: "crm".to_owned(),
        destination_type: "webhook".to_owned(),
        group_type: "company".to_owned(),
        enabled: true,
        tags: Vec::new(),
        groups: GroupCounts::default(),
        schedule: Some(ScheduleView {
            expression: "0 2 * * *".to_owned(),
            timezone: "UTC".to_owned(),
            overdue_since: since.map(at),
            next: Vec::new(),
        }),
        last_run: None,
        last_success_at: None,
        compare: Default::default(),
        mirror: None,
        activity: Some(SyncActivity {
            holder: None,
            state: Doing::Scheduled,
            running: None,
            queued: None,
            paused_since: None,
            failures: 0,
            next_attempt_at: None,
        }),
    }
}

fn settings(url: &str, format: &str) -> config::Alerts {
    config::Alerts { url: Some(Secret::new(url)), format: format.to_owned(), ..config::Alerts::default() }
}
