//! The tracker of a run: a monitor that knows how far the run is.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use chrono::{DateTime, Utc};
use parking_lot::{Mutex, MutexGuard};

use super::pace::Pace;
use crate::delivery::DeliveryCounters;
use crate::io::Clock;
use crate::ledger::RunStatus;
use crate::service::views::{RunDetail, RunProgress, RunView};
use crate::sync::{Event, Monitor};

/// Notes that wait to be read: a ledger that is damaged in more places is damaged as a whole.
const NOTES_MAX: usize = 100;

/// Knows how far one run is.
pub struct Tracker {
    run: String,
    started_at: DateTime<Utc>,
    started_by: String,
    /// For the pace; without it none is known.
    clock: Option<Arc<dyn Clock>>,
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
    pace: Pace,
}

impl Tracker {
    /// Of a run that starts.
    pub fn new(run: &str, started_at: DateTime<Utc>, started_by: &str) -> Tracker {
        let (run, started_by) = (run.to_owned(), started_by.to_owned());
        Tracker { run, started_at, started_by, clock: None, seen: Mutex::default() }
    }

    /// With the pace of the sending, by this clock.
    pub fn timed(self, clock: Arc<dyn Clock>) -> Tracker {
        Tracker { clock: Some(clock), ..self }
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
        let mut seen = self.seen();
        self.record_pace(&mut seen);
        let seen = seen;
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
            per_second: seen.pace.per_second(),
        }
    }
}

impl Tracker {
    /// Adds the run's log so far, unless it is on record already.
    pub fn log_into(&self, of: &mut RunDetail) {
        if let Some(counters) = self.seen().counters.as_deref().filter(|_| of.detail.log.is_empty()) {
            of.detail.log = counters.log.lines();
        }
    }

    /// The run's id.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Takes note of how much is done now, while the run sends.
    fn record_pace(&self, seen: &mut Seen) {
        if let Some(clock) = self.clock.as_ref().filter(|_| seen.candidates.is_some()) {
            let done = seen.done;
            seen.pace.record(clock.elapsed(), done);
        }
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
        self.record_pace(&mut seen);
    }

    /// The run as it is shown until it is recorded.
    pub fn run_view(&self, sync: &str) -> RunView {
        RunView {
            holder: None,
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::time::Duration;

    use async_trait::async_trait;

    use super::*;
    use crate::ledger::Comparison;

    /// Shows so many seconds.
    #[derive(Default)]
    struct Seconds(AtomicU64);

    #[async_trait]
    impl Clock for Seconds {
        fn now(&self) -> DateTime<Utc> {
            DateTime::UNIX_EPOCH
        }

        fn elapsed(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::Relaxed))
        }

        async fn sleep(&self, _: Duration) {}
    }

    #[test]
    fn the_pace_is_that_of_the_sending() {
        let clock = Arc::new(Seconds::default());
        let tracker = Tracker::new("r", DateTime::UNIX_EPOCH, "api").timed(Arc::<Seconds>::clone(&clock));
        // Reading takes a minute, which does not count.
        tracker.observe(&Event::Reading(100));
        clock.0.store(60, Ordering::Relaxed);
        tracker.observe(&Event::Compared(&Comparison::default()));
        assert_eq!(tracker.progress().per_second, None);
        for second in 61..=64 {
            clock.0.store(second, Ordering::Relaxed);
            tracker.observe(&Event::Sending { settled: 50, total: 1_000 });
        }
        let at = tracker.progress();
        assert_eq!((at.done, at.per_second), (200, Some(50.0)));
        // Without a clock there is none.
        let tracker = Tracker::new("r", DateTime::UNIX_EPOCH, "api");
        tracker.observe(&Event::Compared(&Comparison::default()));
        tracker.observe(&Event::Sending { settled: 50, total: 1_000 });
        assert_eq!(tracker.progress().per_second, None);
    }
}
