//! The run queue: which run of all syncs starts now. A state machine: the caller reports what happens, and when.
//!
//! - One run of a sync at a time, and a limit of runs in all. Queued runs come first, in the order in which they were
//!   requested, then those whose scheduled time came first.
//! - One run per sync is queued. Another request joins it if it can, because the queued run has not read the source yet.
//! - After failures a sync does not start by itself before [`delay_after`]. A transient failure is retried then, whatever
//!   the schedule says; one that needs a person waits for the next scheduled time.
//! - Syncs during whose last run the process crashed run one at a time, those with the fewest crashes first, until a run of
//!   theirs ends: the one that crashes the process then crashes it alone, backs off longer each time, and the others go on.
//! - A paused sync runs only on request. Its scheduled times count as missed: `catch_up` decides what happens when it is
//!   resumed.
//! - A partial run (of one group, or of so many changes) is not one of the schedule's: it serves no scheduled time, its
//!   failure starts no backoff, and no other sync follows it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::backoff::{Backoff, DELAY_MAX, delay_after, is_transient};
use super::cron::Trigger;
use super::entry::{Busy, SyncEntry};
pub use super::entry::{QueueRequest, QueuedRun, SyncInit, SyncState, SyncStatus};
use super::timetable::Timetable;
use crate::error::Kind;
use crate::mapping::CatchUp;

/// Why a run starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartCause<R> {
    /// It was queued.
    Queued(QueuedRun<R>),
    /// Its scheduled time came.
    Scheduled(DateTime<Utc>),
    /// The last run failed transiently, or was interrupted.
    Retry,
}

/// A run to start now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueRun<R> {
    /// The sync.
    pub sync: String,
    /// Why.
    pub cause: StartCause<R>,
}

/// What a tick of the queue yields.
#[derive(Debug, PartialEq, Eq)]
pub struct Tick<R> {
    /// The runs that start now. The caller confirms each with [`RunQueue::started`] before the next tick.
    pub starts: Vec<DueRun<R>>,
    /// Scheduled times that passed without a run of their own, by sync.
    pub skipped: Vec<(String, u64)>,
    /// When to tick again at the latest, if nothing happens before.
    pub next: Option<DateTime<Utc>>,
}

/// The result of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunResult {
    /// Everything was delivered, or all but some rejected groups.
    Succeeded,
    /// It failed or was left incomplete.
    Failed(Kind),
    /// It was cancelled: no failure of the sync.
    Cancelled,
}

/// Why a request was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnqueueError {
    /// There is no such sync.
    UnknownSync,
    /// Another run with other options is queued already.
    AlreadyQueued(String),
    /// A run, or a plan (`None`), is under way, and the request cannot be queued.
    Busy(Option<String>),
    /// The daemon is shutting down.
    ShuttingDown,
}

/// A run that could start now.
struct Ready<R> {
    /// Queued runs come first.
    class: u8,
    since: DateTime<Utc>,
    crashes: u32,
    start: DueRun<R>,
}

/// The queue of all syncs.
#[derive(Debug)]
pub struct RunQueue<R> {
    entries: BTreeMap<String, SyncEntry<R>>,
    parallel: usize,
    stopped: bool,
    draining: bool,
}

impl<R: QueueRequest> RunQueue<R> {
    /// An empty queue that starts at most `parallel` runs at a time.
    pub fn new(parallel: usize) -> RunQueue<R> {
        RunQueue { entries: BTreeMap::new(), parallel: parallel.max(1), stopped: false, draining: false }
    }

    /// Sets the limit of runs at a time.
    pub fn set_parallel(&mut self, parallel: usize) {
        self.parallel = parallel.max(1);
    }

    /// Adds a sync.
    pub fn add(&mut self, sync: &str, init: SyncInit<R>) {
        self.entries.insert(sync.to_owned(), SyncEntry::new(init));
    }

    /// Gives a sync its new timetable. Its run, pause and backoff stay.
    pub fn reschedule(&mut self, sync: &str, mut timetable: Option<Timetable>, enabled: bool, now: DateTime<Utc>) {
        let Some(entry) = self.entries.get_mut(sync) else { return };
        if let (Some(Busy::Run(_)), Some(timetable)) = (&entry.busy, &mut timetable) {
            timetable.started(now);
        }
        // A manual sync is not retried either.
        entry.backoff.retry &= timetable.is_some();
        (entry.timetable, entry.enabled, entry.removed) = (timetable, enabled, false);
    }

    /// Ends every backoff: the config was changed, and it may have been the cause.
    pub fn clear_backoff(&mut self) {
        for entry in self.entries.values_mut() {
            entry.backoff.not_before = None;
        }
    }

    /// Whether it has this sync.
    pub fn contains(&self, sync: &str) -> bool {
        self.entries.contains_key(sync)
    }

    /// Removes a sync, or marks it to be removed when its run ends. A queued run is cancelled.
    pub fn remove(&mut self, sync: &str) {
        match self.entries.get_mut(sync) {
            Some(entry) if entry.busy.is_some() => {
                (entry.removed, entry.timetable, entry.queued) = (true, None, None);
            }
            _ => drop(self.entries.remove(sync)),
        }
    }

    /// The syncs by name.
    pub fn names(&self) -> Vec<String> {
        self.entries.iter().filter(|(_, entry)| !entry.removed).map(|(name, _)| name.clone()).collect()
    }

    /// From now on nothing starts.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// From now on nothing starts here; requests are still queued, for other daemons or the next start.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether it drains.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Whether nothing starts any more.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// What starts now, and when to tick again.
    pub fn tick(&mut self, now: DateTime<Utc>) -> Tick<R> {
        let mut tick = Tick { starts: Vec::new(), skipped: Vec::new(), next: None };
        if self.stopped || self.draining {
            return tick;
        }
        let mut ready: Vec<Ready<R>> = Vec::new();
        let mut wake = |at: Option<DateTime<Utc>>| tick.next = [tick.next, at].into_iter().flatten().min();
        // No backoff is longer than the longest delay, also when the clock was set back since.
        let longest = now.checked_add_signed(DELAY_MAX);
        for (sync, entry) in &mut self.entries {
            entry.backoff.not_before =
                entry.backoff.not_before.map(|until| longest.map_or(until, |most| until.min(most)));
            let free = entry.is_free();
            let crashes = entry.backoff.crashes;
            let mut starts = |class, since, cause| {
                ready.push(Ready { class, since, crashes, start: DueRun { sync: sync.clone(), cause } });
            };
            if let Some(queued) = entry.queued.as_ref().filter(|_| free) {
                starts(0, queued.since, StartCause::Queued(queued.clone()));
                continue;
            }
            if entry.paused_since.is_some() || !entry.enabled || entry.removed {
                continue;
            }
            let due = entry.timetable.as_mut().map(|timetable| timetable.tick(now)).unwrap_or_default();
            if due.skipped > 0 {
                tick.skipped.push((sync.clone(), due.skipped));
            }
            wake(due.next);
            if !free {
                continue;
            }
            let backs_off_until = entry.backoff.not_before.filter(|until| *until > now);
            match (due.now, backs_off_until) {
                (Some(time), None) => starts(1, time, StartCause::Scheduled(time)),
                (None, None) if entry.backoff.retry => {
                    starts(1, entry.backoff.not_before.unwrap_or(now), StartCause::Retry);
                }
                (due, Some(until)) if due.is_some() || entry.backoff.retry => wake(Some(until)),
                _ => {}
            }
        }
        self.limit_crashing(&mut ready);
        ready.sort_by_key(|ready| (ready.class, ready.since));
        let room = self.parallel.saturating_sub(self.running());
        tick.starts = ready.into_iter().take(room).map(|ready| ready.start).collect();
        tick
    }

    /// Lets at most one sync run during whose last run the process crashed: the one with the fewest crashes.
    fn limit_crashing(&self, ready: &mut Vec<Ready<R>>) {
        let one_runs = self.entries.values().any(|entry| entry.backoff.crashes > 0 && entry.is_running());
        let crashing = ready.iter().filter(|ready| ready.crashes > 0 && !one_runs);
        let mut chosen = crashing
            .min_by_key(|ready| (ready.class, ready.crashes, ready.since))
            .map(|ready| ready.start.sync.clone());
        ready.retain(|ready| ready.crashes == 0 || chosen.take_if(|chosen| *chosen == ready.start.sync).is_some());
    }

    /// A run of the last tick started.
    pub fn started(&mut self, start: &DueRun<R>, run: &str, now: DateTime<Utc>) {
        let Some(entry) = self.entries.get_mut(&start.sync) else { return };
        let partial = match &start.cause {
            StartCause::Queued(queued) => {
                entry.queued = None;
                queued.request.is_partial()
            }
            StartCause::Scheduled(_) | StartCause::Retry => false,
        };
        if partial {
            entry.busy = Some(Busy::PartialRun(run.to_owned()));
            return;
        }
        entry.busy = Some(Busy::Run(run.to_owned()));
        entry.backoff.retry = false;
        // The tick that yielded this start may have been the only one since the sync was resumed.
        if let Some(timetable) = entry.timetable.as_mut() {
            timetable.started(now);
        }
    }

    /// A run ended. Syncs that follow this one become due.
    pub fn ended(&mut self, sync: &str, result: RunResult, now: DateTime<Utc>) {
        let Some(entry) = self.entries.get_mut(sync) else { return };
        let busy = entry.busy.take();
        if entry.removed {
            self.entries.remove(sync);
            return;
        }
        let Some(Busy::Run(_)) = busy else { return };
        if let Some(timetable) = entry.timetable.as_mut() {
            timetable.ended(result == RunResult::Succeeded, now);
        }
        match result {
            RunResult::Succeeded => entry.backoff = Backoff::default(),
            RunResult::Cancelled => entry.backoff.retry = false,
            RunResult::Failed(kind) => {
                let failures = entry.backoff.failures.saturating_add(1);
                let retry = entry.timetable.is_some() && is_transient(kind);
                let not_before = now.checked_add_signed(delay_after(failures));
                entry.backoff = Backoff { failures, not_before, retry, crashes: 0 };
            }
        }
        if result == RunResult::Succeeded {
            self.follow(sync, now);
        }
    }

    /// Syncs that follow this one become due.
    fn follow(&mut self, sync: &str, now: DateTime<Utc>) {
        for entry in self.entries.values_mut() {
            let paused = entry.paused_since.is_some();
            let Some(timetable) = entry.timetable.as_mut() else { continue };
            let schedule = timetable.schedule();
            let follows = matches!(&schedule.trigger, Trigger::After(other) if other == sync);
            if follows && !(paused && schedule.catch_up == CatchUp::Skip) {
                timetable.followed_ended(now);
            }
        }
    }

    /// Gives a sync another state: other processes ran it meanwhile.
    pub fn begin_anew(&mut self, sync: &str, init: SyncInit<R>) {
        if let Some(entry) = self.entries.get_mut(sync).filter(|entry| !entry.removed && entry.busy.is_none()) {
            *entry = SyncEntry::new(init);
        }
    }

    /// Another process has a sync for a run of this id, or for something else; or none has it any more.
    pub fn held_elsewhere(&mut self, sync: &str, run: Option<String>) {
        if let Some(entry) = self.entries.get_mut(sync) {
            entry.elsewhere = run;
        }
    }

    /// A run of the whole sync started in another process, and ended there if `ended_at` says so.
    pub fn started_elsewhere(&mut self, sync: &str, at: DateTime<Utc>, ended_at: Option<DateTime<Utc>>) {
        let Some(entry) = self.entries.get_mut(sync).filter(|entry| !entry.is_running()) else { return };
        entry.backoff.retry = false;
        if let Some(timetable) = entry.timetable.as_mut() {
            timetable.started_elsewhere(at, ended_at);
        }
    }

    /// A run of the whole sync ended in another process; `backoff` is what recorded runs leave. Syncs that follow this one
    /// become due.
    pub fn ended_elsewhere(&mut self, sync: &str, succeeded: bool, backoff: Backoff, at: DateTime<Utc>) {
        let Some(entry) = self.entries.get_mut(sync).filter(|entry| !entry.is_running()) else { return };
        if let Some(timetable) = entry.timetable.as_mut() {
            timetable.ended(succeeded, at);
        }
        entry.backoff = backoff;
        if succeeded {
            self.follow(sync, at);
        }
    }

    /// The queued run of a sync as it is stored, where other processes queue and start runs too.
    pub fn set_queued(&mut self, sync: &str, queued: Option<QueuedRun<R>>) {
        if let Some(entry) = self.entries.get_mut(sync).filter(|entry| !entry.removed) {
            entry.queued = queued;
        }
    }

    /// Has a sync with a schedule run again now: its last run was interrupted in another process.
    pub fn retry(&mut self, sync: &str) {
        if let Some(entry) = self.entries.get_mut(sync).filter(|entry| entry.timetable.is_some() && entry.is_free()) {
            (entry.backoff.retry, entry.backoff.not_before) = (true, None);
        }
    }

    fn entry(&mut self, sync: &str) -> Result<&mut SyncEntry<R>, EnqueueError> {
        self.entries.get_mut(sync).filter(|entry| !entry.removed).ok_or(EnqueueError::UnknownSync)
    }

    /// Queues a run. Returns the id of the run that serves the request, and whether that one was queued already.
    pub fn enqueue(&mut self, sync: &str, wanted: QueuedRun<R>) -> Result<(String, bool), EnqueueError> {
        let stopped = self.stopped;
        let entry = self.entry(sync)?;
        if stopped {
            return Err(EnqueueError::ShuttingDown);
        }
        match &mut entry.queued {
            None => {
                let run = wanted.run.clone();
                entry.queued = Some(wanted);
                Ok((run, false))
            }
            Some(queued) if queued.request == wanted.request => Ok((queued.run.clone(), true)),
            Some(queued) if !queued.request.is_partial() && !wanted.request.is_partial() => {
                queued.request.merge(wanted.request);
                Ok((queued.run.clone(), true))
            }
            Some(queued) => Err(EnqueueError::AlreadyQueued(queued.run.clone())),
        }
    }

    /// Cancels a queued run. Returns its sync; none when no such run is queued.
    pub fn cancel_queued(&mut self, run: &str) -> Option<String> {
        let mut entries = self.entries.iter_mut();
        let (sync, entry) = entries.find(|(_, entry)| entry.queued.as_ref().is_some_and(|queued| queued.run == run))?;
        entry.queued = None;
        Some(sync.clone())
    }

    /// Pauses a sync, or resumes it (`None`). What is overdue counts from then.
    pub fn pause(&mut self, sync: &str, since: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Result<(), EnqueueError> {
        let entry = self.entry(sync)?;
        if let (Some(_), None, Some(timetable)) = (entry.paused_since, since, &mut entry.timetable) {
            timetable.resumed(now);
        }
        entry.paused_since = match (entry.paused_since, since) {
            (Some(before), Some(_)) => Some(before),
            (_, since) => since,
        };
        if since.is_none() {
            // It is resumed to see it run.
            entry.backoff.not_before = None;
        }
        Ok(())
    }

    /// Whether a plan of a sync could be made now.
    pub fn check_plan(&self, sync: &str) -> Result<(), EnqueueError> {
        let entry = self.entries.get(sync).filter(|entry| !entry.removed).ok_or(EnqueueError::UnknownSync)?;
        match &entry.busy {
            _ if self.stopped => Err(EnqueueError::ShuttingDown),
            None => match &entry.elsewhere {
                Some(run) => Err(EnqueueError::Busy(Some(run.clone()))),
                None => Ok(()),
            },
            Some(Busy::Plan) => Err(EnqueueError::Busy(None)),
            Some(Busy::Run(run) | Busy::PartialRun(run)) => Err(EnqueueError::Busy(Some(run.clone()))),
        }
    }

    /// Reserves a sync for a plan: no run of it starts until [`RunQueue::plan_ended`].
    pub fn plan_started(&mut self, sync: &str) -> Result<(), EnqueueError> {
        self.check_plan(sync)?;
        self.entry(sync)?.busy = Some(Busy::Plan);
        Ok(())
    }

    /// The plan is made, or was given up.
    pub fn plan_ended(&mut self, sync: &str) {
        let Some(entry) = self.entries.get_mut(sync) else { return };
        if entry.busy == Some(Busy::Plan) {
            entry.busy = None;
            if entry.removed {
                self.entries.remove(sync);
            }
        }
    }

    /// The number of runs under way.
    pub fn running(&self) -> usize {
        self.entries.values().filter(|entry| entry.is_running()).count()
    }

    /// The queued runs, by sync.
    pub fn queued(&self) -> BTreeMap<String, QueuedRun<R>> {
        let queued = |(sync, entry): (&String, &SyncEntry<R>)| Some((sync.clone(), entry.queued.clone()?));
        self.entries.iter().filter_map(queued).collect()
    }

    /// The status of a sync.
    pub fn status(&self, sync: &str, now: DateTime<Utc>) -> Option<SyncStatus<R>> {
        Some(self.entries.get(sync)?.status(now))
    }

    /// The timetable of a sync as it is now.
    pub fn timetable(&self, sync: &str) -> Option<&Timetable> {
        self.entries.get(sync)?.timetable.as_ref()
    }
}
