//! Which moment of a sync's schedule is due now, and when must one look again? A state machine of one sync, told when
//! runs start and end; whoever owns it brings the clock.
//!
//! - **Overlap**: a moment that comes during a run is skipped, or one run is queued behind it.
//! - **Missed**: a moment seen more than [`LATE_MAX`] late (the program was down, the machine asleep) is made up for by one
//!   run, or skipped. What was missed while down follows from the last run's record.
//! - **Clock set back**: the moment that fired last does not fire again. Earlier ones come round again: waiting until
//!   the clock is where it was could take as long as the step, so it is never more than one interval.
//! - **Overdue**: since the oldest scheduled time after the last success that no success has served, however many scheduled
//!   times, attempts and failures came after it. A run under way that is the first attempt at what is owed serves what came
//!   before it began; what comes while it goes on is overdue. A success serves what passed during it, unless another
//!   run is queued for that.

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
    /// The sync's last run that ended well, as far as runs are remembered.
    pub success: Option<Recorded>,
    /// When the first run after that success began, or the first one remembered if none ended well.
    pub attempted_at: Option<DateTime<Utc>>,
    /// When the last run since that success ended.
    pub failed_at: Option<DateTime<Utc>>,
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
    /// The oldest scheduled time since the last success that neither a success nor the run under way serves.
    owed: Option<DateTime<Utc>>,
    /// What was owed when the run under way began; owed again unless it ends well.
    serving: Option<DateTime<Utc>>,
    /// The first scheduled time that came during the run under way.
    during: Option<DateTime<Utc>>,
    /// Whether a run failed to serve what is owed: then another attempt under way does not hide it.
    tried: bool,
    /// Skipped moments not yet told.
    skipped: u64,
}

impl Timetable {
    /// A timetable that begins now, with what earlier runs left.
    pub fn resume(plan: Plan, checkpoint: Checkpoint, now: DateTime<Utc>) -> Timetable {
        let mut table = Timetable {
            plan,
            settled: None,
            fired: None,
            waiting: None,
            running: false,
            owed: None,
            serving: None,
            during: None,
            tried: false,
            skipped: 0,
        };
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
        // What waits already is a run of the followed sync that ended since.
        table.owed = table.owed_by(checkpoint, now).or(table.waiting);
        table.tried = table.owed.is_some() && checkpoint.failed_at >= table.owed;
        table
    }

    /// What earlier runs left owed: nothing after a success, else the first scheduled time after the last one.
    fn owed_by(&self, checkpoint: Checkpoint, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let attempted_at = checkpoint.attempted_at?;
        let first = match (&self.plan.rule, checkpoint.success) {
            // What was followed last is known, what was followed first is not.
            (Rule::After(_), success) => {
                let followed = checkpoint.followed_ended_at?;
                let unserved = success.is_none_or(|success| followed > success.started_at);
                unserved.then(|| followed.min(attempted_at))
            }
            // The first run was due at once.
            (Rule::Every(_), None) => Some(attempted_at),
            (Rule::Every(interval), Some(success)) => {
                let until = success.ended_at.filter(|_| self.plan.overlap == Overlap::Skip);
                let step = last_step(success.started_at, *interval, until.unwrap_or(success.started_at));
                self.plan.next_after(step).map(|fire| fire.at)
            }
            (Rule::Cron(..), success) => {
                // A run that is on time begins within a minute of its scheduled time and jitter.
                let jitter = TimeDelta::from_std(self.plan.jitter).unwrap_or_default();
                let from = match success {
                    Some(success) if self.plan.overlap == Overlap::Skip => {
                        success.ended_at.unwrap_or(success.started_at)
                    }
                    Some(success) => success.started_at,
                    None => attempted_at.checked_sub_signed(LATE_MAX + jitter)?,
                };
                self.plan.next_after(from).map(|fire| fire.at)
            }
        };
        first.filter(|at| *at <= now)
    }

    /// The plan it keeps.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What is due. To be called at [`Look::next`], after each event, and once in a while (the clock may be set).
    pub fn look(&mut self, now: DateTime<Utc>) -> Look {
        // The clock was set back: go on from here.
        self.settled = self.settled.map(|settled| settled.min(now));
        self.owed = self.owed.map(|owed| owed.min(now));
        self.pass(now);
        let due = self.waiting.filter(|_| !self.running);
        let skipped = std::mem::take(&mut self.skipped);
        Look { due, skipped, next: self.coming().map(|fire| fire.at) }
    }

    /// A run began, due or by hand. Whatever waited is settled by it.
    pub fn started(&mut self, now: DateTime<Utc>) {
        self.pass(now);
        self.running = true;
        if !self.tried {
            self.serving = self.owed.take();
        }
        self.during = None;
        let moment = self.waiting.take();
        match self.plan.rule {
            Rule::Cron(..) => self.fired = moment.or(self.fired),
            Rule::Every(_) => self.settled = Some(now),
            Rule::After(_) => {}
        }
    }

    /// The run ended, `well` or not.
    pub fn ended(&mut self, well: bool, now: DateTime<Utc>) {
        // What came during the run is judged as such, although nobody may have looked.
        self.pass(now);
        self.running = false;
        let serving = self.serving.take();
        if well {
            // What came meanwhile and is not queued was skipped: the schedule says that one run does for all of it.
            self.owed = self.during.filter(|_| self.waiting.is_some());
            self.tried = false;
        } else {
            self.owed = [serving, self.owed].into_iter().flatten().min();
            self.tried = self.owed.is_some();
        }
    }

    /// Since when a scheduled run is overdue; see the module's docs. As of the last look.
    pub fn overdue_since(&self) -> Option<DateTime<Utc>> {
        self.owed
    }

    /// Somebody kept the sync from running by itself until now: what is overdue counts from here.
    pub fn excuse(&mut self, now: DateTime<Utc>) {
        self.pass(now);
        (self.owed, self.during) = (self.owed.map(|_| now), self.during.map(|_| now));
    }

    /// A run of the followed sync ended by itself, with everything delivered or some groups rejected.
    pub fn followed_ended(&mut self, now: DateTime<Utc>) {
        if let Rule::After(_) = self.plan.rule {
            self.came(now, 1);
            self.owe(now);
        }
    }

    /// The next `count` starts after now, if nothing else happens. Empty for a sync that follows another one.
    pub fn upcoming(&self, now: DateTime<Utc>, count: usize) -> Vec<DateTime<Utc>> {
        let mut ahead = self.clone();
        if ahead.running {
            // How long the current run takes is not known: as if it ended now.
            ahead.ended(true, now);
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
                ahead.ended(true, at);
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
            self.owe(now);
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
            self.owe(first.at);
        }
    }

    /// A scheduled time came at which a run is to start.
    fn owe(&mut self, at: DateTime<Utc>) {
        self.owed.get_or_insert(at);
        if self.running {
            self.during.get_or_insert(at);
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
