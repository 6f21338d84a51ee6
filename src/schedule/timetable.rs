//! Which moment of a sync's schedule is due now, and when must one look again? A state machine of one sync, told when
//! runs start and end; whoever owns it brings the clock.
//!
//! - **Overlap**: a moment that comes during a run is skipped, or one run is queued behind it.
//! - **Missed**: a moment seen more than [`LATE_MAX`] late (the program was down, the machine asleep) is made up for by one
//!   run, or skipped. What was missed while down follows from the last run's record.
//! - **Clock set back**: the moment that fired last does not fire again. Earlier ones come round again: waiting until
//!   the clock is where it was could take as long as the step, so it is never more than one interval.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Fire, Plan, Rule};
use crate::mapping::{CatchUp, Overlap};

/// How late a moment may be seen and still count as seen in time: a restart takes less.
pub const LATE_MAX: TimeDelta = TimeDelta::seconds(60);
/// How many missed moments are counted before "that many and more" will do.
const MISSED_MAX: u64 = 10_000;

/// A run as it was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended; absent when nobody knows.
    pub ended_at: Option<DateTime<Utc>>,
}

/// What is known when a timetable begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// The sync's last run, whoever started it.
    pub last: Option<Recorded>,
    /// When a run of the followed sync last ended well, for `after`.
    pub followed_ended_at: Option<DateTime<Utc>>,
}

/// What a look at the timetable found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Look {
    /// A run is due now, for this moment. The caller starts it and says so with [`Timetable::started`].
    pub due: Option<DateTime<Utc>>,
    /// Moments that passed without a run of their own since the last look, at most a rough ten thousand.
    pub skipped: u64,
    /// When to look again at the latest; none when only an event can change anything.
    pub next: Option<DateTime<Utc>>,
}

/// The timetable of one sync.
#[derive(Debug, Clone)]
pub struct Timetable {
    plan: Plan,
    /// Moments up to here are settled; for an interval, where it is measured from. None: the interval never began.
    settled: Option<DateTime<Utc>>,
    /// The moment of a cron expression that fired last.
    fired: Option<DateTime<Utc>>,
    /// A moment that waits for the end of the current run, or a followed run that ended.
    waiting: Option<DateTime<Utc>>,
    running: bool,
    /// Skipped moments not yet told.
    skipped: u64,
}

impl Timetable {
    /// A timetable that begins now, with what earlier runs left.
    pub fn resume(plan: Plan, checkpoint: Checkpoint, now: DateTime<Utc>) -> Timetable {
        let mut table = Timetable { plan, settled: None, fired: None, waiting: None, running: false, skipped: 0 };
        let started = checkpoint.last.map(|last| last.started_at);
        // Moments during a finished run were skipped then, unless they were to be queued.
        let ended = checkpoint.last.and_then(|last| last.ended_at).filter(|_| table.plan.overlap == Overlap::Skip);
        match table.plan.rule {
            Rule::Cron(..) => {
                table.settled = Some(ended.max(started).unwrap_or(now));
                table.fired = started.and_then(|started| table.latest(started));
            }
            Rule::Every(interval) => {
                table.settled = started.map(|started| last_step(started, interval, ended.unwrap_or(started)));
            }
            Rule::After(_) => {
                // A start that is still to come was recorded by a clock that was ahead, and tells nothing.
                let ended_since =
                    checkpoint.followed_ended_at.filter(|ended| Some(*ended) > started || started > Some(now));
                if started.is_some() && table.plan.catch_up == CatchUp::Once {
                    table.waiting = ended_since;
                }
            }
        }
        table
    }

    /// The plan it keeps.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What is due. To be called at [`Look::next`], after each event, and once in a while (the clock may be set).
    pub fn look(&mut self, now: DateTime<Utc>) -> Look {
        // The clock was set back: go on from here.
        self.settled = self.settled.map(|settled| settled.min(now));
        self.pass(now);
        let due = self.waiting.filter(|_| !self.running);
        let skipped = std::mem::take(&mut self.skipped);
        Look { due, skipped, next: self.coming().map(|fire| fire.at) }
    }

    /// A run began, due or by hand. Whatever waited is settled by it.
    pub fn started(&mut self, now: DateTime<Utc>) {
        self.pass(now);
        self.running = true;
        let moment = self.waiting.take();
        match self.plan.rule {
            Rule::Cron(..) => self.fired = moment.or(self.fired),
            Rule::Every(_) => self.settled = Some(now),
            Rule::After(_) => {}
        }
    }

    /// The run ended, however.
    pub fn ended(&mut self, now: DateTime<Utc>) {
        // What came during the run is judged as such, although nobody may have looked.
        self.pass(now);
        self.running = false;
    }

    /// A run of the followed sync ended by itself, with everything delivered or some groups rejected.
    pub fn followed_ended(&mut self, now: DateTime<Utc>) {
        if let Rule::After(_) = self.plan.rule {
            self.came(now, 1);
        }
    }

    /// The next `count` starts after now, if nothing else happens. Empty for a sync that follows another one.
    pub fn upcoming(&self, now: DateTime<Utc>, count: usize) -> Vec<DateTime<Utc>> {
        let mut ahead = self.clone();
        if ahead.running {
            // How long the current run takes is not known: as if it ended now.
            ahead.ended(now);
        }
        let mut at = now;
        let mut starts = Vec::new();
        while starts.len() < count {
            let look = ahead.look(at);
            if look.due.is_some() {
                if at > now {
                    starts.push(at);
                }
                // How long a run takes is not known: as if it took no time.
                ahead.started(at);
                ahead.ended(at);
            } else if let Some(next) = look.next {
                at = next.max(at);
            } else {
                break;
            }
        }
        starts
    }

    /// The next moment that is not settled.
    fn coming(&self) -> Option<Fire> {
        let fire = self.plan.next_after(self.settled?)?;
        if Some(fire.moment) == self.fired { self.plan.next_after(fire.moment) } else { Some(fire) }
    }

    /// Settles every moment whose time has come.
    fn pass(&mut self, now: DateTime<Utc>) {
        if let Rule::Every(_) = self.plan.rule
            && self.settled.is_none()
        {
            // Never run: the first run is due, and until it starts the interval counts from now.
            self.settled = Some(now);
            self.came(now, 1);
            return;
        }
        let Some(first) = self.coming().filter(|fire| fire.at <= now) else { return };
        let (last, count) = self.passed(first, now);
        self.settled = Some(last.moment);
        let late = now.signed_duration_since(last.at) > LATE_MAX;
        if late && !self.running && self.plan.catch_up == CatchUp::Skip {
            self.skipped += count;
        } else {
            self.came(last.moment, count);
        }
    }

    /// `count` moments came, `moment` the last of them.
    fn came(&mut self, moment: DateTime<Utc>, count: u64) {
        if self.running && self.plan.overlap == Overlap::Skip {
            self.skipped += count;
        } else {
            // One run for all of them.
            self.skipped += count - 1 + u64::from(self.waiting.is_some());
            self.waiting = Some(moment);
        }
    }

    /// The last of the moments from `first` on whose time has come, and how many there are.
    fn passed(&self, first: Fire, now: DateTime<Utc>) -> (Fire, u64) {
        if let Rule::Every(interval) = self.plan.rule {
            let moment = last_step(first.moment, interval, now);
            let steps = moment.signed_duration_since(first.moment).num_seconds() / interval.num_seconds().max(1);
            let fire = Fire { moment, at: self.plan.jittered(moment) };
            if fire.at <= now {
                return (fire, steps.unsigned_abs() + 1);
            }
            let before = moment - interval;
            return (Fire { moment: before, at: self.plan.jittered(before) }, steps.unsigned_abs().max(1));
        }
        let (mut last, mut count) = (first, 1);
        while let Some(fire) = self.plan.next_after(last.moment).filter(|fire| fire.at <= now) {
            (last, count) = (fire, count + 1);
            if count >= MISSED_MAX {
                // Jump: the moment before the latest is certainly past its jitter, which is shorter than an interval.
                let jitter = TimeDelta::from_std(self.plan.jitter).unwrap_or_default();
                if let Some(moment) = self.latest(now - jitter).filter(|moment| *moment > last.moment) {
                    last = Fire { moment, at: self.plan.jittered(moment) };
                }
                break;
            }
        }
        (last, count)
    }

    /// The last moment up to `until`, within a good century.
    fn latest(&self, until: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let back = (0..32).map(|power| TimeDelta::seconds(1 << power));
        let mut starts = back.filter_map(|back| until.checked_sub_signed(back));
        let up_to = |after| self.plan.next_after(after).map(|fire| fire.moment).filter(|moment| *moment <= until);
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
