//! How far is a run? Listens to it, and answers whoever asks.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use chrono::{DateTime, Utc};
use parking_lot::{Mutex, MutexGuard};

use crate::delivery::DeliveryCounters;
use crate::ledger::RunStatus;
use crate::service::views::{Progress, RunView};
use crate::sync::{Event, Monitor};

/// Listens to one run.
pub(super) struct Tracker {
    run: String,
    started_at: DateTime<Utc>,
    started_by: String,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    rows: u64,
    candidates: Option<u64>,
    settled: u64,
    reading: bool,
    waiting: bool,
    stopping: bool,
    counters: Option<Arc<DeliveryCounters>>,
}

impl Tracker {
    pub(super) fn new(run: &str, started_at: DateTime<Utc>, started_by: &str) -> Tracker {
        Tracker { run: run.to_owned(), started_at, started_by: started_by.to_owned(), seen: Mutex::default() }
    }

    /// For a run that waits.
    pub(super) fn waiting(run: &str, since: DateTime<Utc>, asked_by: &str) -> Tracker {
        let tracker = Tracker::new(run, since, asked_by);
        tracker.seen().waiting = true;
        tracker
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock()
    }

    /// The run was asked to stop.
    pub(super) fn stopping(&self) {
        self.seen().stopping = true;
    }

    /// The run as it is shown until it is recorded.
    pub(super) fn run_view(&self, sync: &str) -> RunView {
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

    pub(super) fn progress(&self) -> Progress {
        let seen = self.seen();
        let phase = match (seen.stopping, seen.candidates, seen.reading) {
            _ if seen.waiting => "waiting",
            (true, _, _) => "stopping",
            (_, Some(_), _) => "sending",
            (_, None, true) => "reading",
            (_, None, false) => "starting",
        };
        let counted = |of: fn(&DeliveryCounters) -> u64| seen.counters.as_deref().map_or(0, of);
        Progress {
            run: self.run.clone(),
            started_at: self.started_at,
            started_by: self.started_by.clone(),
            phase: phase.to_owned(),
            rows_read: seen.rows,
            candidates: seen.candidates,
            settled: seen.settled,
            requests: counted(|counters| counters.requests.load(Ordering::Relaxed)),
            retries: counted(|counters| counters.retries.load(Ordering::Relaxed)),
        }
    }
}

impl Monitor for Tracker {
    fn note(&self, event: Event<'_>) {
        let mut seen = self.seen();
        match event {
            Event::Began { counters, .. } => {
                seen.reading = true;
                seen.counters = counters;
            }
            Event::Recovered(runs) => {
                tracing::warn!(recovered = runs.join(", "), "recovered what a run that died had left");
            }
            Event::Unreadable { key, what } => {
                tracing::warn!(group = key, "{what}; everything is sent again about this group");
            }
            Event::Reading(rows) => seen.rows = rows,
            Event::Compared(found) => {
                seen.rows = found.rows;
                seen.candidates = Some(found.candidates());
            }
            Event::Sending { settled, .. } => seen.settled += settled,
        }
    }
}
