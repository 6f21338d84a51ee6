//! The entry of one sync in the [queue](super::queue): its timetable, the run it is busy with, the run that is queued, its
//! pause and its backoff.

use chrono::{DateTime, Utc};

use super::backoff::Backoff;
use super::timetable::Timetable;

/// What a queued run is to do. The scheduler needs to know only this much of it.
pub trait QueueRequest: Clone + PartialEq {
    /// Whether it covers a part of the sync: one group, or so many changes. Such a run is not one of the schedule's.
    fn is_partial(&self) -> bool;

    /// Adds what another request for a whole run wants, so that one run does both.
    fn merge(&mut self, other: Self);
}

/// A run that is queued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedRun<R> {
    /// The id it will have.
    pub run: String,
    /// What it is to do.
    pub request: R,
    /// Who requested it: `api`, `console`.
    pub requested_by: String,
    /// Since when it is queued.
    pub since: DateTime<Utc>,
}

/// What an entry is busy with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Busy {
    /// A run of the whole sync.
    Run(String),
    /// A run of a part of it.
    PartialRun(String),
    /// A plan.
    Plan,
}

/// One sync.
#[derive(Debug)]
pub(super) struct SyncEntry<R> {
    pub(super) timetable: Option<Timetable>,
    pub(super) enabled: bool,
    pub(super) busy: Option<Busy>,
    /// The run that another process has under way, by its id where it is known.
    pub(super) elsewhere: Option<String>,
    pub(super) queued: Option<QueuedRun<R>>,
    pub(super) paused_since: Option<DateTime<Utc>>,
    pub(super) backoff: Backoff,
    /// Its sync was removed from the config while it was busy.
    pub(super) removed: bool,
}

/// The state of a sync that is added to the queue.
#[derive(Debug)]
pub struct SyncInit<R> {
    /// Its timetable; none for a manual sync.
    pub timetable: Option<Timetable>,
    /// Whether its schedule is enabled.
    pub enabled: bool,
    /// Since when it is paused.
    pub paused_since: Option<DateTime<Utc>>,
    /// Its backoff.
    pub backoff: Backoff,
    /// A run that was queued before a restart.
    pub queued: Option<QueuedRun<R>>,
}

/// The state of a sync in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncState {
    /// A run is under way.
    Running,
    /// A run is queued and starts as soon as there is room.
    Queued,
    /// Only requested runs start.
    Paused,
    /// The last runs failed, and the next attempt has a time.
    BackingOff,
    /// It waits for its schedule.
    Scheduled,
    /// It has no schedule: only requested runs start.
    Manual,
    /// Its mapping sets `enabled = false`.
    Disabled,
}

/// The status of a sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncStatus<R> {
    /// In a word.
    pub state: SyncState,
    /// The queued run.
    pub queued: Option<QueuedRun<R>>,
    /// Since when it is paused.
    pub paused_since: Option<DateTime<Utc>>,
    /// Its backoff; `not_before` only where there will be an attempt then.
    pub backoff: Backoff,
}

impl<R: QueueRequest> SyncEntry<R> {
    pub(super) fn new(init: SyncInit<R>) -> SyncEntry<R> {
        let SyncInit { timetable, enabled, paused_since, backoff, queued } = init;
        SyncEntry { timetable, enabled, busy: None, elsewhere: None, queued, paused_since, backoff, removed: false }
    }

    /// Whether a run of it can start.
    pub(super) fn is_free(&self) -> bool {
        self.busy.is_none() && self.elsewhere.is_none()
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.busy, Some(Busy::Run(_) | Busy::PartialRun(_)))
    }

    /// The status. It promises a next attempt only where there will be one: not for a manual sync, and not where the
    /// schedule's next time comes later than the backoff ends.
    pub(super) fn status(&self, now: DateTime<Utc>) -> SyncStatus<R> {
        let next_attempt = self.backoff.not_before.filter(|until| {
            let timetable = self.timetable.as_ref().filter(|_| *until > now);
            let next = || timetable.and_then(|timetable| timetable.upcoming(now, 1).first().copied());
            let due = || timetable.is_some_and(|timetable| timetable.clone().tick(now).now.is_some());
            timetable.is_some() && (self.backoff.retry || due() || next().is_some_and(|next| next <= *until))
        });
        let state = if self.is_running() || self.elsewhere.is_some() {
            SyncState::Running
        } else if self.queued.is_some() {
            SyncState::Queued
        } else if self.paused_since.is_some() {
            SyncState::Paused
        } else if !self.enabled {
            SyncState::Disabled
        } else if next_attempt.is_some() {
            SyncState::BackingOff
        } else if self.timetable.is_none() {
            SyncState::Manual
        } else {
            SyncState::Scheduled
        };
        SyncStatus {
            state,
            queued: self.queued.clone(),
            paused_since: self.paused_since,
            backoff: Backoff { not_before: next_attempt, ..self.backoff },
        }
    }
}
