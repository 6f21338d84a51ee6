//! The scheduler against simulated days: single rules, a year in nine time zones, random histories, crashing processes.

mod crashes;
mod overdue;
mod peers;
mod queue;
mod storm;
mod times;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::backoff::Backoff;
use super::cron::{SyncSchedule, Trigger};
use super::queue::{QueueRequest, QueuedRun, SyncInit};
use super::timetable::{RunHistory, Timetable};
use crate::mapping::{CatchUp, Overlap};

/// What a run of these tests is to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Request {
    full: bool,
    group: Option<&'static str>,
}

impl QueueRequest for Request {
    fn is_partial(&self) -> bool {
        self.group.is_some()
    }

    fn merge(&mut self, other: Request) {
        self.full |= other.full;
    }
}

const WHOLE: Request = Request { full: false, group: None };
const PART: Request = Request { full: false, group: Some("k") };

/// A minute of a day.
fn at(minute: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + minute * 60, 0).unwrap_or_default()
}

fn timetable(sync: &str, trigger: Trigger, overlap: Overlap, catch_up: CatchUp, now: DateTime<Utc>) -> Timetable {
    let schedule = SyncSchedule { sync: sync.to_owned(), trigger, jitter: Duration::ZERO, catch_up, overlap };
    Timetable::resume(schedule, RunHistory::default(), now)
}

fn every(sync: &str, minutes: i64) -> SyncInit<Request> {
    let trigger = Trigger::Every(TimeDelta::minutes(minutes));
    init(Some(timetable(sync, trigger, Overlap::Skip, CatchUp::Once, at(0))))
}

fn after(sync: &str, other: &str, catch_up: CatchUp) -> SyncInit<Request> {
    init(Some(timetable(sync, Trigger::After(other.to_owned()), Overlap::Skip, catch_up, at(0))))
}

fn init(timetable: Option<Timetable>) -> SyncInit<Request> {
    SyncInit { timetable, enabled: true, paused_since: None, backoff: Backoff::default(), queued: None }
}

fn queued(run: &str, minute: i64, request: Request) -> QueuedRun<Request> {
    QueuedRun { run: run.to_owned(), request, requested_by: "api".to_owned(), since: at(minute) }
}
