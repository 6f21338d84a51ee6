//! What is each sync doing, and which one starts now? Pure: a state machine over all syncs, told what happens and when.
//!
//! - One run of a sync at a time, and at most so many runs in all. Runs that were asked for come first, in the order in
//!   which they were asked for, then those whose moment came first.
//! - A run that cannot begin yet waits: one per sync. Asking again for the same joins it, because it has not read the source.
//! - After failures a sync is not started by itself before [`pause_after`]. A failure that may pass by itself is tried again
//!   then, whatever the schedule says; one that needs a person waits for the schedule's next moment.
//! - Syncs during whose last run the process died run one at a time, those with the fewest deaths first, until a run of
//!   theirs ends: the one that kills the process then dies alone, waits longer each time, and the others go on.
//! - A paused sync starts by hand only. Its moments count as missed: `catch_up` decides what happens when it is resumed.
//! - A run of one group, or of the first so many changes, is none of the schedule's runs: it settles no moment, its failure
//!   starts no back-off, and syncs that follow do not follow it.

mod trouble;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use self::trouble::PAUSE_MAX;
pub use self::trouble::{Trouble, may_pass, pause_after};
use crate::error::Kind;
use crate::mapping::CatchUp;
use crate::scheduler::Rule;
use crate::scheduler::timetable::Timetable;
use crate::service::views::State;
use crate::sync::RunOptions;

/// A run that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Asked {
    /// The id it will have.
    pub run: String,
    /// What is requested of it.
    #[serde(alias = "ask")]
    pub options: RunOptions,
    /// Who asked: `api`, `console`.
    pub by: String,
    /// Since when it waits.
    pub since: DateTime<Utc>,
}

/// Why a run starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Somebody asked.
    Asked(Asked),
    /// Its schedule says so, for this moment.
    Moment(DateTime<Utc>),
    /// The last run failed in a way that may pass, or was cut short.
    Retry,
}

/// A run to start now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The sync.
    pub sync: String,
    /// Why.
    pub cause: Cause,
}

/// What a look at the roster found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// What starts now. The caller confirms each with [`Roster::started`] before it looks again.
    pub starts: Vec<Start>,
    /// Moments that passed without a run of their own, by sync.
    pub skipped: Vec<(String, u64)>,
    /// When to look again at the latest, if nothing happens before.
    pub next: Option<DateTime<Utc>>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Everything was delivered, or all but some rejected groups.
    Well,
    /// It failed, or left something to say.
    Failed(Kind),
    /// Somebody stopped it: no failure of the sync.
    Stopped,
}

/// What a run is busy with.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Busy {
    /// A run of the schedule's kind.
    Whole(String),
    /// A run that is none of the schedule's.
    Part(String),
    /// A plan.
    Plan,
}

/// One sync.
#[derive(Debug)]
struct Post {
    timetable: Option<Timetable>,
    enabled: bool,
    busy: Option<Busy>,
    asked: Option<Asked>,
    paused_since: Option<DateTime<Utc>>,
    trouble: Trouble,
    /// It left the config while a run was under way.
    leaving: bool,
}

impl Post {
    /// Whether a run of it is under way although the process died during its last one.
    fn may_kill(&self) -> bool {
        self.trouble.deaths > 0 && matches!(self.busy, Some(Busy::Whole(_) | Busy::Part(_)))
    }
}

/// A run that could begin now.
#[derive(Debug)]
struct Ready {
    /// Runs that somebody asked for come first.
    class: u8,
    since: DateTime<Utc>,
    deaths: u32,
    start: Start,
}

/// All syncs.
#[derive(Debug)]
pub struct Roster {
    posts: BTreeMap<String, Post>,
    parallel: usize,
    stopping: bool,
}

/// What is known of a sync when it joins the roster.
#[derive(Debug)]
pub struct Joining {
    /// Its timetable; none without a schedule.
    pub timetable: Option<Timetable>,
    /// Whether schedules run it.
    pub enabled: bool,
    /// Since when it is paused.
    pub paused_since: Option<DateTime<Utc>>,
    /// What is remembered of failures.
    pub trouble: Trouble,
    /// A run that waits since before a restart.
    pub asked: Option<Asked>,
}

/// Why a run was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Declined {
    /// There is no such sync.
    Unknown,
    /// Another run with other options waits already.
    Waiting(String),
    /// Something else is under way, and what was asked for does not wait.
    Busy(Option<String>),
    /// The daemon is stopping.
    Stopping,
}

/// What a sync is doing, for those who ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doing {
    /// In a word.
    pub state: State,
    /// The run that waits.
    pub asked: Option<Asked>,
    /// Since when it is paused.
    pub paused_since: Option<DateTime<Utc>>,
    /// What is remembered of failures.
    pub trouble: Trouble,
}

impl Roster {
    /// An empty roster for so many runs at a time.
    pub fn new(parallel: usize) -> Roster {
        Roster { posts: BTreeMap::new(), parallel: parallel.max(1), stopping: false }
    }

    /// Sets how many runs may go on at a time.
    pub fn set_parallel(&mut self, parallel: usize) {
        self.parallel = parallel.max(1);
    }

    /// Adds a sync.
    pub fn join(&mut self, sync: &str, joining: Joining) {
        let Joining { timetable, enabled, paused_since, trouble, asked } = joining;
        let post = Post { timetable, enabled, busy: None, asked, paused_since, trouble, leaving: false };
        self.posts.insert(sync.to_owned(), post);
    }

    /// Gives a sync its new timetable: what it is doing goes on, and so do pauses and failures.
    pub fn reschedule(&mut self, sync: &str, mut timetable: Option<Timetable>, enabled: bool, now: DateTime<Utc>) {
        let Some(post) = self.posts.get_mut(sync) else { return };
        if let (Some(Busy::Whole(_)), Some(timetable)) = (&post.busy, &mut timetable) {
            timetable.started(now);
        }
        // What has no schedule any more starts by hand only, retries included.
        post.trouble.again &= timetable.is_some();
        (post.timetable, post.enabled, post.leaving) = (timetable, enabled, false);
    }

    /// Ends every pause after failures: the config was changed, and it may be what was wrong.
    pub fn another_chance(&mut self) {
        for post in self.posts.values_mut() {
            post.trouble.not_before = None;
        }
    }

    /// Whether it is on the roster.
    pub fn knows(&self, sync: &str) -> bool {
        self.posts.contains_key(sync)
    }

    /// Takes a sync off the roster, at the end of what it is doing. A run that waits is taken back.
    pub fn leave(&mut self, sync: &str) {
        match self.posts.get_mut(sync) {
            Some(post) if post.busy.is_some() => {
                (post.leaving, post.timetable, post.asked) = (true, None, None);
            }
            _ => drop(self.posts.remove(sync)),
        }
    }

    /// The syncs by name.
    pub fn names(&self) -> Vec<String> {
        self.posts.iter().filter(|(_, post)| !post.leaving).map(|(name, _)| name.clone()).collect()
    }

    /// From now on nothing starts.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Whether nothing starts any more.
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// What starts now, and when to look again.
    pub fn look(&mut self, now: DateTime<Utc>) -> Look {
        let mut look = Look::default();
        if self.stopping {
            return look;
        }
        let mut ready: Vec<Ready> = Vec::new();
        let mut wake = |at: Option<DateTime<Utc>>| look.next = [look.next, at].into_iter().flatten().min();
        // Nothing waits for longer than the longest pause, also when the clock was set back since.
        let longest = now.checked_add_signed(PAUSE_MAX);
        for (sync, post) in &mut self.posts {
            post.trouble.not_before =
                post.trouble.not_before.map(|until| longest.map_or(until, |most| until.min(most)));
            let start = |cause| Start { sync: sync.clone(), cause };
            let free = post.busy.is_none();
            let deaths = post.trouble.deaths;
            if let Some(asked) = post.asked.as_ref().filter(|_| free) {
                ready.push(Ready { class: 0, since: asked.since, deaths, start: start(Cause::Asked(asked.clone())) });
                continue;
            }
            if post.paused_since.is_some() || !post.enabled || post.leaving {
                continue;
            }
            let seen = post.timetable.as_mut().map(|timetable| timetable.look(now)).unwrap_or_default();
            if seen.skipped > 0 {
                look.skipped.push((sync.clone(), seen.skipped));
            }
            wake(seen.next);
            if !free {
                continue;
            }
            let held_until = post.trouble.not_before.filter(|until| *until > now);
            match (seen.due, held_until) {
                (Some(since), None) => {
                    ready.push(Ready { class: 1, since, deaths, start: start(Cause::Moment(since)) });
                }
                (None, None) if post.trouble.again => {
                    let since = post.trouble.not_before.unwrap_or(now);
                    ready.push(Ready { class: 1, since, deaths, start: start(Cause::Retry) });
                }
                (due, Some(until)) if due.is_some() || post.trouble.again => wake(Some(until)),
                _ => {}
            }
        }
        let mut chosen = if self.posts.values().any(Post::may_kill) {
            None
        } else {
            let candidates = ready.iter().filter(|ready| ready.deaths > 0);
            candidates
                .min_by_key(|ready| (ready.class, ready.deaths, ready.since))
                .map(|ready| ready.start.sync.clone())
        };
        ready.retain(|ready| ready.deaths == 0 || chosen.take_if(|chosen| *chosen == ready.start.sync).is_some());
        ready.sort_by_key(|ready| (ready.class, ready.since));
        let room = self.parallel.saturating_sub(self.running());
        look.starts = ready.into_iter().take(room).map(|ready| ready.start).collect();
        look
    }

    /// A run began, as a look had said.
    pub fn started(&mut self, start: &Start, run: &str, now: DateTime<Utc>) {
        let Some(post) = self.posts.get_mut(&start.sync) else { return };
        let part = match &start.cause {
            Cause::Asked(asked) => {
                post.asked = None;
                asked.options.is_partial()
            }
            Cause::Moment(_) | Cause::Retry => false,
        };
        if part {
            post.busy = Some(Busy::Part(run.to_owned()));
            return;
        }
        post.busy = Some(Busy::Whole(run.to_owned()));
        post.trouble.again = false;
        // The look that found this start may have been the only one since the sync was resumed.
        if let Some(timetable) = post.timetable.as_mut() {
            timetable.started(now);
        }
    }

    /// A run ended. Syncs that follow this one learn of it.
    pub fn ended(&mut self, sync: &str, ending: Ending, now: DateTime<Utc>) {
        let Some(post) = self.posts.get_mut(sync) else { return };
        let busy = post.busy.take();
        if post.leaving {
            self.posts.remove(sync);
            return;
        }
        let Some(Busy::Whole(_)) = busy else { return };
        if let Some(timetable) = post.timetable.as_mut() {
            timetable.ended(ending == Ending::Well, now);
        }
        match ending {
            Ending::Well => post.trouble = Trouble::default(),
            Ending::Stopped => post.trouble = Trouble { again: false, ..post.trouble },
            Ending::Failed(kind) => {
                let failures = post.trouble.failures.saturating_add(1);
                let scheduled = post.timetable.is_some();
                let not_before = now.checked_add_signed(pause_after(failures));
                post.trouble = Trouble { failures, not_before, again: scheduled && may_pass(kind), deaths: 0 };
            }
        }
        if ending == Ending::Well {
            for post in self.posts.values_mut() {
                let paused = post.paused_since.is_some();
                let Some(timetable) = post.timetable.as_mut() else { continue };
                let follows = matches!(&timetable.plan().rule, Rule::After(other) if other == sync);
                if follows && !(paused && timetable.plan().catch_up == CatchUp::Skip) {
                    timetable.followed_ended(now);
                }
            }
        }
    }

    /// Asks for a run, which will have this id. Returns the id of the run that will do it, and whether that one was waiting
    /// already.
    pub fn ask(&mut self, sync: &str, asked: Asked) -> Result<(String, bool), Declined> {
        let stopping = self.stopping;
        let post = self.posts.get_mut(sync).filter(|post| !post.leaving).ok_or(Declined::Unknown)?;
        if stopping {
            return Err(Declined::Stopping);
        }
        match &mut post.asked {
            None => {
                let run = asked.run.clone();
                post.asked = Some(asked);
                Ok((run, false))
            }
            Some(waiting) if waiting.options == asked.options => Ok((waiting.run.clone(), true)),
            // A whole run that also accepts a guard, reads everything or tries rejected groups again does for both.
            Some(waiting) if !waiting.options.is_partial() && !asked.options.is_partial() => {
                waiting.options.full |= asked.options.full;
                waiting.options.retry_rejected |= asked.options.retry_rejected;
                waiting.options.accept.extend(asked.options.accept);
                Ok((waiting.run.clone(), true))
            }
            Some(waiting) => Err(Declined::Waiting(waiting.run.clone())),
        }
    }

    /// Takes back a run that waits. Returns its sync; none when no such run waits.
    pub fn take_back(&mut self, run: &str) -> Option<String> {
        let mut posts = self.posts.iter_mut();
        let (sync, post) = posts.find(|(_, post)| post.asked.as_ref().is_some_and(|asked| asked.run == run))?;
        post.asked = None;
        Some(sync.clone())
    }

    /// Pauses a sync, or resumes it (`None`). What its schedule owes counts from the resumption.
    pub fn pause(&mut self, sync: &str, since: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Result<(), Declined> {
        let post = self.posts.get_mut(sync).filter(|post| !post.leaving).ok_or(Declined::Unknown)?;
        if let (Some(_), None, Some(timetable)) = (post.paused_since, since, &mut post.timetable) {
            timetable.excuse(now);
        }
        post.paused_since = match (post.paused_since, since) {
            (Some(before), Some(_)) => Some(before),
            (_, since) => since,
        };
        if since.is_none() {
            // Whoever resumes it wants to see it run.
            post.trouble.not_before = None;
        }
        Ok(())
    }

    /// Whether a sync could be reserved for a plan.
    pub fn may_plan(&self, sync: &str) -> Result<(), Declined> {
        let post = self.posts.get(sync).filter(|post| !post.leaving).ok_or(Declined::Unknown)?;
        match &post.busy {
            _ if self.stopping => Err(Declined::Stopping),
            None => Ok(()),
            Some(Busy::Plan) => Err(Declined::Busy(None)),
            Some(Busy::Whole(run) | Busy::Part(run)) => Err(Declined::Busy(Some(run.clone()))),
        }
    }

    /// Reserves a sync for a plan: no run of it begins until [`Roster::planned`].
    pub fn plan(&mut self, sync: &str) -> Result<(), Declined> {
        self.may_plan(sync)?;
        if let Some(post) = self.posts.get_mut(sync) {
            post.busy = Some(Busy::Plan);
        }
        Ok(())
    }

    /// The plan is made.
    pub fn planned(&mut self, sync: &str) {
        let Some(post) = self.posts.get_mut(sync) else { return };
        if post.busy == Some(Busy::Plan) {
            post.busy = None;
            if post.leaving {
                self.posts.remove(sync);
            }
        }
    }

    /// Runs under way.
    pub fn running(&self) -> usize {
        self.posts.values().filter(|post| matches!(post.busy, Some(Busy::Whole(_) | Busy::Part(_)))).count()
    }

    /// Runs that wait, by sync.
    pub fn waiting(&self) -> BTreeMap<String, Asked> {
        let asked = |(sync, post): (&String, &Post)| Some((sync.clone(), post.asked.clone()?));
        self.posts.iter().filter_map(asked).collect()
    }

    /// What a sync is doing. Its trouble tells of a next try only where there will be one: not for a sync that runs by hand,
    /// and not where the schedule's next moment comes later than the pause ends.
    pub fn doing(&self, sync: &str, now: DateTime<Utc>) -> Option<Doing> {
        let post = self.posts.get(sync)?;
        let next_try = post.trouble.not_before.filter(|until| {
            let timetable = post.timetable.as_ref().filter(|_| *until > now);
            let moment = || timetable.and_then(|timetable| timetable.upcoming(now, 1).first().copied());
            let due = || timetable.is_some_and(|timetable| timetable.clone().look(now).due.is_some());
            timetable.is_some() && (post.trouble.again || due() || moment().is_some_and(|moment| moment <= *until))
        });
        let trouble = Trouble { not_before: next_try, ..post.trouble };
        let backing_off = next_try.is_some();
        let state = match &post.busy {
            Some(Busy::Whole(_) | Busy::Part(_)) => State::Running,
            _ if post.asked.is_some() => State::Waiting,
            _ if post.paused_since.is_some() => State::Paused,
            _ if !post.enabled => State::Disabled,
            _ if backing_off => State::BackingOff,
            _ if post.timetable.is_none() => State::Manual,
            _ => State::Scheduled,
        };
        Some(Doing { state, asked: post.asked.clone(), paused_since: post.paused_since, trouble })
    }

    /// The timetable of a sync as it stands.
    pub fn timetable(&self, sync: &str) -> Option<&Timetable> {
        self.posts.get(sync)?.timetable.as_ref()
    }
}

#[cfg(test)]
mod deaths;
#[cfg(test)]
mod storm;
#[cfg(test)]
mod tests;
