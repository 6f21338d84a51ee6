//! The tracker of a run: a monitor that knows how far the run is.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use chrono::{DateTime, Utc};
use parking_lot::{Mutex, MutexGuard};

use crate::delivery::DeliveryCounters;
use crate::ledger::RunStatus;
use crate::service::views::{RunProgress, RunView};
use crate::sync::{Event, Monitor};

/// Notes that wait to be read: a ledger that is damaged in more places is damaged as a whole.
const NOTES_MAX: usize = 100;

/// Knows how far one run is.
pub struct Tracker {
    run: String,
    started_at: DateTime<Utc>,
    started_by: String,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    rows: u64,
    candidates: Option<u64>,
    done: u64,
    reading: bool,
    queued: bool,
    stopping: bool,
    counters: Option<Arc<DeliveryCounters>>,
    notes: Vec<String>,
}

impl Tracker {
    /// Of a run that starts.
    pub fn new(run: &str, started_at: DateTime<Utc>, started_by: &str) -> Tracker {
        Tracker { run: run.to_owned(), started_at, started_by: started_by.to_owned(), seen: Mutex::default() }
    }

    /// Of a run that is queued.
    pub fn queued(run: &str, since: DateTime<Utc>, queued_by: &str) -> Tracker {
        let tracker = Tracker::new(run, since, queued_by);
        tracker.seen().queued = true;
        tracker
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock()
    }

    /// The run is to stop.
    pub fn stopping(&self) {
        self.seen().stopping = true;
    }

    /// How far the run is.
    pub fn progress(&self) -> RunProgress {
        let seen = self.seen();
        let phase = match (seen.stopping, seen.candidates, seen.reading) {
            _ if seen.queued => "queued",
            (true, _, _) => "stopping",
            (_, Some(_), _) => "sending",
            (_, None, true) => "reading",
            (_, None, false) => "starting",
        };
        let counted = |of: fn(&DeliveryCounters) -> u64| seen.counters.as_deref().map_or(0, of);
        RunProgress {
            run: self.run.clone(),
            started_at: self.started_at,
            started_by: self.started_by.clone(),
            phase: phase.to_owned(),
            rows_read: seen.rows,
            candidates: seen.candidates,
            done: seen.done,
            requests: counted(|counters| counters.requests.load(Ordering::Relaxed)),
            retries: counted(|counters| counters.retries.load(Ordering::Relaxed)),
        }
    }
}

impl Tracker {
    /// The run's id.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Takes note of an event, without a word in the log.
    pub fn observe(&self, event: &Event<'_>) {
        let mut seen = self.seen();
        match event {
            Event::Began { counters, .. } => {
                seen.reading = true;
                seen.counters.clone_from(counters);
            }
            Event::Reading(rows) => seen.rows = *rows,
            Event::Compared(found) => {
                seen.rows = found.rows;
                seen.candidates = Some(found.candidates());
            }
            Event::Sending { settled, .. } => seen.done += settled,
            Event::Unreadable { key, what } if seen.notes.len() < NOTES_MAX => {
                let key = crate::format::one_line(key);
                seen.notes.push(format!("group `{key}`: {what}; the group is resent in full"));
            }
            Event::Recovered(_) | Event::Unreadable { .. } => {}
        }
    }

    /// The run as it is shown until it is recorded.
    pub fn run_view(&self, sync: &str) -> RunView {
        RunView {
            sync: sync.to_owned(),
            run: self.run.clone(),
            status: RunStatus::Running,
            started_at: self.started_at,
            ended_at: None,
            started_by: self.started_by.clone(),
            counts: None,
            error: None,
            error_kind: None,
            guard: None,
        }
    }

    /// What a person should know and has not been shown yet.
    pub fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut self.seen().notes)
    }
}

impl Monitor for Tracker {
    fn note(&self, event: Event<'_>) {
        match &event {
            Event::Recovered(runs) => {
                tracing::warn!("recovered crashed run {}; unconfirmed groups will be resent", runs.join(", "));
            }
            Event::Unreadable { key, what } => {
                tracing::warn!(group = key, "{what}; the group is resent in full");
            }
            _ => {}
        }
        self.observe(&event);
    }
}
