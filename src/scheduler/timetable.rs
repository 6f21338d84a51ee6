//! The timetable of one sync: which of its scheduled times is due now, and when to check again. A state machine: the
//! caller reports when runs start and end, and brings the clock.
//!
//! - **Overlap**: a scheduled time that comes during a run is skipped, or one run is queued behind it.
//! - **Missed**: a scheduled time seen more than [`LATE_MAX`] late (the program was down, the machine asleep) is made up
//!   for by one run, or skipped. What was missed while down follows from the last run's record.
//! - **Clock set back**: the scheduled time that started the last run does not start another one. Earlier ones come again:
//!   waiting until the clock is where it was could take as long as the step, so it is never more than one interval.
//! - **Overdue**: since the oldest scheduled time after the last success that no success has served, however many
//!   scheduled times, attempts and failures came after it. A run under way that is the first attempt serves what came
//!   before it started; what comes during it is overdue. A success serves what passed during it, unless another run is
//!   queued for that.

use chrono::{DateTime, TimeDelta, Utc};

use super::cron::{ScheduledTime, SyncSchedule, Trigger};
use crate::mapping::{CatchUp, Overlap};

/// How late a scheduled time may be seen and still count as on time: a restart takes less.
pub const LATE_MAX: TimeDelta = TimeDelta::seconds(60);
/// How many missed times are counted before "that many and more" will do.
const MISSED_MAX: u64 = 10_000;

/// When a recorded run started and ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunSpan {
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// When it ended, if that is recorded.
    pub ended_at: Option<DateTime<Utc>>,
}

/// The recorded runs that a timetable continues from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunHistory {
    /// The sync's last run, scheduled or not.
    pub last: Option<RunSpan>,
    /// When a run of the followed sync last succeeded, for `after`.
    pub followed_ended_at: Option<DateTime<Utc>>,
    /// The sync's last successful run, as far as records go back.
    pub success: Option<RunSpan>,
    /// When the first run after that success started, or the first recorded one if none succeeded.
    pub attempted_at: Option<DateTime<Utc>>,
    /// When the last run since that success ended.
    pub failed_at: Option<DateTime<Utc>>,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Due {
    /// A run is due now, for this scheduled time. The caller starts it and calls [`Timetable::started`].
    pub now: Option<DateTime<Utc>>,
    /// Scheduled times that passed without a run of their own since the last tick, at most a rough ten thousand.
    pub skipped: u64,
    /// When to tick again at the latest; none when only an event can change anything.
    pub next: Option<DateTime<Utc>>,
}

/// The timetable of one sync.
#[derive(Debug, Clone)]
pub struct Timetable {
    schedule: SyncSchedule,
    /// Scheduled times up to here are handled; for an interval, where it is measured from. None: the interval never began.
    handled: Option<DateTime<Utc>>,
    /// The time of a cron expression that started the last run.
    last_fired: Option<DateTime<Utc>>,
    /// A scheduled time that waits for the end of the current run, or the end of a followed run.
    waiting: Option<DateTime<Utc>>,
    running: bool,
    /// The oldest scheduled time since the last success that neither a success nor the run under way serves.
    overdue: Option<DateTime<Utc>>,
    /// What was overdue when the run under way started; overdue again unless it succeeds.
    serving: Option<DateTime<Utc>>,
    /// The first scheduled time that came during the run under way.
    during: Option<DateTime<Utc>>,
    /// Whether a run failed to serve what is overdue: then another attempt under way does not hide it.
    attempted: bool,
    /// Skipped times not yet reported.
    skipped: u64,
}

impl Timetable {
    /// A timetable that begins now and continues from recorded runs.
    pub fn resume(schedule: SyncSchedule, history: RunHistory, now: DateTime<Utc>) -> Timetable {
        let mut table = Timetable {
            schedule,
            handled: None,
            last_fired: None,
            waiting: None,
            running: false,
            overdue: None,
            serving: None,
            during: None,
            attempted: false,
            skipped: 0,
        };
        let started = history.last.map(|last| last.started_at);
        // Times during a finished run were skipped then, unless they were to be queued.
        let ended = history.last.and_then(|last| last.ended_at).filter(|_| table.schedule.overlap == Overlap::Skip);
        match table.schedule.trigger {
            Trigger::Cron(..) => {
                table.handled = Some(ended.max(started).unwrap_or(now));
                table.last_fired = started.and_then(|started| table.latest(started));
            }
            Trigger::Every(interval) => {
                table.handled = started.map(|started| last_step(started, interval, ended.unwrap_or(started)));
            }
            Trigger::After(_) => {
                // A start in the future was recorded by a clock that was ahead, and proves nothing.
                let ended_since =
                    history.followed_ended_at.filter(|ended| Some(*ended) > started || started > Some(now));
                if started.is_some() && table.schedule.catch_up == CatchUp::Once {
                    table.waiting = ended_since;
                }
            }
        }
        // What waits already is a run of the followed sync that ended since.
        table.overdue = table.overdue_after(history, now).or(table.waiting);
        table.attempted = table.overdue.is_some() && history.failed_at >= table.overdue;
        table
    }

    /// What recorded runs left overdue: nothing after a success, else the first scheduled time after the last one.
    fn overdue_after(&self, history: RunHistory, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let attempted_at = history.attempted_at?;
        let first = match (&self.schedule.trigger, history.success) {
            // The last run that was followed is recorded, the first one is not.
            (Trigger::After(_), success) => {
                let followed = history.followed_ended_at?;
                let unserved = success.is_none_or(|success| followed > success.started_at);
                unserved.then(|| followed.min(attempted_at))
            }
            // The first run was due at the start.
            (Trigger::Every(_), None) => Some(attempted_at),
            (Trigger::Every(interval), Some(success)) => {
                let until = success.ended_at.filter(|_| self.schedule.overlap == Overlap::Skip);
                let step = last_step(success.started_at, *interval, until.unwrap_or(success.started_at));
                self.schedule.next_after(step).map(|next| next.starts_at)
            }
            (Trigger::Cron(..), success) => {
                // A run that is on time starts within a minute of its scheduled time and jitter.
                let jitter = TimeDelta::from_std(self.schedule.jitter).unwrap_or_default();
                let from = match success {
                    Some(success) if self.schedule.overlap == Overlap::Skip => {
                        success.ended_at.unwrap_or(success.started_at)
                    }
                    Some(success) => success.started_at,
                    None => attempted_at.checked_sub_signed(LATE_MAX + jitter)?,
                };
                self.schedule.next_after(from).map(|next| next.starts_at)
            }
        };
        first.filter(|at| *at <= now)
    }

    /// The schedule it follows.
    pub fn schedule(&self) -> &SyncSchedule {
        &self.schedule
    }

    /// What is due. To be called at [`Due::next`], after each event, and once in a while (the clock may be set).
    pub fn tick(&mut self, now: DateTime<Utc>) -> Due {
        // The clock was set back: go on from here.
        self.handled = self.handled.map(|handled| handled.min(now));
        self.overdue = self.overdue.map(|overdue| overdue.min(now));
        self.advance(now);
        let due = self.waiting.filter(|_| !self.running);
        let skipped = std::mem::take(&mut self.skipped);
        Due { now: due, skipped, next: self.upcoming_time().map(|next| next.starts_at) }
    }

    /// A run started, scheduled or manual. It serves whatever was waiting.
    pub fn started(&mut self, now: DateTime<Utc>) {
        self.advance(now);
        self.running = true;
        if !self.attempted {
            self.serving = self.overdue.take();
        }
        self.during = None;
        let time = self.waiting.take();
        match self.schedule.trigger {
            Trigger::Cron(..) => self.last_fired = time.or(self.last_fired),
            Trigger::Every(_) => self.handled = Some(now),
            Trigger::After(_) => {}
        }
    }

    /// A run started in another process at `at`, which may be before the last tick, and may have ended. A time that came
    /// since is not what it serves: it came during the run, or after it.
    pub fn started_elsewhere(&mut self, at: DateTime<Utc>, ended_at: Option<DateTime<Utc>>) {
        let later = self.waiting.filter(|waiting| *waiting > at);
        self.started(at);
        match later {
            Some(later) if ended_at.is_some_and(|ended_at| ended_at < later) => self.waiting = Some(later),
            Some(later) => self.arrived(later, 1),
            None => {}
        }
    }

    /// The run ended, successfully or not.
    pub fn ended(&mut self, succeeded: bool, now: DateTime<Utc>) {
        // What came during the run counts as such, even if there was no tick meanwhile.
        self.advance(now);
        self.running = false;
        let serving = self.serving.take();
        if succeeded {
            // What came meanwhile and is not queued was skipped: the schedule says that one run serves all of it.
            self.overdue = self.during.filter(|_| self.waiting.is_some());
            self.attempted = false;
        } else {
            self.overdue = [serving, self.overdue].into_iter().flatten().min();
            self.attempted = self.overdue.is_some();
        }
    }

    /// Since when a scheduled run is overdue, as of the last tick; see the module's docs.
    pub fn overdue_since(&self) -> Option<DateTime<Utc>> {
        self.overdue
    }

    /// The sync was paused until now: what is overdue counts from here.
    pub fn resumed(&mut self, now: DateTime<Utc>) {
        self.advance(now);
        (self.overdue, self.during) = (self.overdue.map(|_| now), self.during.map(|_| now));
    }

    /// A run of the followed sync ended with everything delivered, or all but some rejected groups.
    pub fn followed_ended(&mut self, now: DateTime<Utc>) {
        if let Trigger::After(_) = self.schedule.trigger {
            self.arrived(now, 1);
            self.mark_overdue(now);
        }
    }

    /// The next `count` starts after now, if nothing else happens. Empty for a sync that follows another one.
    pub fn upcoming(&self, now: DateTime<Utc>, count: usize) -> Vec<DateTime<Utc>> {
        let mut ahead = self.clone();
        if ahead.running {
            // How long the current run takes is unknown: as if it ended now.
            ahead.ended(true, now);
        }
        let mut at = now;
        let mut starts = Vec::new();
        while starts.len() < count {
            let due = ahead.tick(at);
            if due.now.is_some() {
                if at > now {
                    starts.push(at);
                }
                // How long a run takes is unknown: as if it took no time.
                ahead.started(at);
                ahead.ended(true, at);
            } else if let Some(next) = due.next {
                at = next.max(at);
            } else {
                break;
            }
        }
        starts
    }

    /// The next scheduled time that is not handled.
    fn upcoming_time(&self) -> Option<ScheduledTime> {
        let next = self.schedule.next_after(self.handled?)?;
        if Some(next.time) == self.last_fired { self.schedule.next_after(next.time) } else { Some(next) }
    }

    /// Handles every scheduled time up to now.
    fn advance(&mut self, now: DateTime<Utc>) {
        if let Trigger::Every(_) = self.schedule.trigger
            && self.handled.is_none()
        {
            // No run yet: the first one is due, and until it starts the interval counts from now.
            self.handled = Some(now);
            self.arrived(now, 1);
            self.mark_overdue(now);
            return;
        }
        let Some(first) = self.upcoming_time().filter(|next| next.starts_at <= now) else { return };
        let (last, count) = self.passed(first, now);
        self.handled = Some(last.time);
        let late = now.signed_duration_since(last.starts_at) > LATE_MAX;
        if late && !self.running && self.schedule.catch_up == CatchUp::Skip {
            self.skipped += count;
        } else {
            self.arrived(last.time, count);
            self.mark_overdue(first.starts_at);
        }
    }

    /// A run was to start at this time.
    fn mark_overdue(&mut self, at: DateTime<Utc>) {
        self.overdue.get_or_insert(at);
        if self.running {
            self.during.get_or_insert(at);
        }
    }

    /// `count` scheduled times came, `last` the last of them.
    fn arrived(&mut self, last: DateTime<Utc>, count: u64) {
        if self.running && self.schedule.overlap == Overlap::Skip {
            self.skipped += count;
        } else {
            // One run for all of them.
            self.skipped += count - 1 + u64::from(self.waiting.is_some());
            self.waiting = Some(last);
        }
    }

    /// The last of the scheduled times from `first` up to now, and how many there are.
    fn passed(&self, first: ScheduledTime, now: DateTime<Utc>) -> (ScheduledTime, u64) {
        if let Trigger::Every(interval) = self.schedule.trigger {
            let time = last_step(first.time, interval, now);
            let steps = time.signed_duration_since(first.time).num_seconds() / interval.num_seconds().max(1);
            let last = self.schedule.with_jitter(time);
            if last.starts_at <= now {
                return (last, steps.unsigned_abs() + 1);
            }
            return (self.schedule.with_jitter(time - interval), steps.unsigned_abs().max(1));
        }
        let (mut last, mut count) = (first, 1);
        while let Some(next) = self.schedule.next_after(last.time).filter(|next| next.starts_at <= now) {
            (last, count) = (next, count + 1);
            if count >= MISSED_MAX {
                // Jump: the time before the latest is certainly past its jitter, which is shorter than an interval.
                let jitter = TimeDelta::from_std(self.schedule.jitter).unwrap_or_default();
                if let Some(time) = self.latest(now - jitter).filter(|time| *time > last.time) {
                    last = self.schedule.with_jitter(time);
                }
                break;
            }
        }
        (last, count)
    }

    /// The last scheduled time up to `until`, within a good century.
    fn latest(&self, until: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let back = (0..32).map(|power| TimeDelta::seconds(1 << power));
        let mut starts = back.filter_map(|back| until.checked_sub_signed(back));
        let up_to = |after| self.schedule.next_after(after).map(|next| next.time).filter(|time| *time <= until);
        let mut latest = starts.find_map(up_to)?;
        while let Some(later) = up_to(latest) {
            latest = later;
        }
        Some(latest)
    }
}

/// `from` plus as many whole intervals as fit before `until`.
fn last_step(from: DateTime<Utc>, interval: TimeDelta, until: DateTime<Utc>) -> DateTime<Utc> {
    let fit = until.signed_duration_since(from).num_seconds().max(0) / interval.num_seconds().max(1);
    let whole = TimeDelta::try_seconds(fit * interval.num_seconds()).unwrap_or_default();
    from.checked_add_signed(whole).unwrap_or(from)
}
