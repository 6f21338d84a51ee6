//! Does the roster keep its promises whatever happens, in whatever order, on whatever clock? Random days of a few syncs.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use proptest::prelude::*;

use super::tests::{after, asked, every, joining, timetable};
use super::*;
use crate::mapping::Overlap;
use crate::scheduler::timetable::{Checkpoint, Recorded};

/// Syncs: every 5 minutes, every hour, after the first, and one without a schedule.
const SYNCS: [&str; 4] = ["five", "hour", "after", "manual"];
const PARALLEL: usize = 2;

#[derive(Debug, Clone)]
enum Happening {
    Passes(i64),
    ClockSet(i64),
    Ends(usize, Ending),
    Asks(usize, RunOptions),
    TakesBack(usize),
    Pauses(usize, bool),
    Leaves(usize),
    Joins(usize),
    Reschedules(usize, bool),
    Plans(usize),
    Planned(usize),
    AnotherChance,
    Restarts,
    Dies,
}

fn ending() -> impl Strategy<Value = Ending> {
    prop_oneof![
        4 => Just(Ending::Well),
        1 => Just(Ending::Stopped),
        2 => prop_oneof![Just(Kind::SourceBusy), Just(Kind::Guard), Just(Kind::Bug)].prop_map(Ending::Failed),
    ]
}

fn ask() -> impl Strategy<Value = RunOptions> {
    (
        any::<bool>(),
        any::<bool>(),
        prop::option::weighted(0.2, Just("k".to_owned())),
        prop::option::weighted(0.2, 1..9_u64),
    )
        .prop_map(|(full, retry_rejected, group, limit)| RunOptions {
            full,
            retry_rejected,
            group,
            limit,
            ..RunOptions::default()
        })
}

fn happening() -> impl Strategy<Value = Happening> {
    let sync = 0..SYNCS.len();
    prop_oneof![
        12 => (1..4_000_i64).prop_map(Happening::Passes),
        1 => (-90_000..90_000_i64).prop_map(Happening::ClockSet),
        12 => (sync.clone(), ending()).prop_map(|(sync, ending)| Happening::Ends(sync, ending)),
        4 => (sync.clone(), ask()).prop_map(|(sync, ask)| Happening::Asks(sync, ask)),
        1 => sync.clone().prop_map(Happening::TakesBack),
        2 => (sync.clone(), any::<bool>()).prop_map(|(sync, paused)| Happening::Pauses(sync, paused)),
        1 => sync.clone().prop_map(Happening::Leaves),
        2 => sync.clone().prop_map(Happening::Joins),
        1 => (sync.clone(), any::<bool>()).prop_map(|(sync, scheduled)| Happening::Reschedules(sync, scheduled)),
        1 => sync.clone().prop_map(Happening::Plans),
        3 => sync.prop_map(Happening::Planned),
        1 => Just(Happening::AnotherChance),
        1 => Just(Happening::Restarts),
        1 => Just(Happening::Dies),
    ]
}

fn scheduled(sync: &str, now: DateTime<Utc>, last: Option<Recorded>) -> Option<Timetable> {
    let minutes = match sync {
        "five" => 5,
        "hour" => 60,
        _ => return if sync == "after" { after("after", "five", CatchUp::Once).timetable } else { None },
    };
    let template = every(sync, minutes).timetable?;
    Some(Timetable::resume(template.plan().clone(), Checkpoint { last, ..Checkpoint::default() }, now))
}

/// What is expected of the roster, kept beside it.
struct World {
    roster: Roster,
    now: DateTime<Utc>,
    /// Runs under way.
    running: BTreeMap<String, String>,
    /// What waits, by sync.
    waiting: BTreeMap<String, String>,
    last: BTreeMap<String, Recorded>,
    planning: Vec<String>,
    runs: u32,
    /// Runs of one group or with a limit: none of the schedule's, and nobody follows them.
    parts: BTreeSet<String>,
}

impl World {
    fn new() -> World {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap_or_default();
        let mut roster = Roster::new(PARALLEL);
        for sync in SYNCS {
            roster.join(sync, joining(scheduled(sync, now, None)));
        }
        let (running, waiting, last) = Default::default();
        World { roster, now, running, waiting, last, planning: Vec::new(), runs: 0, parts: BTreeSet::new() }
    }

    fn paused(&self, sync: &str) -> bool {
        self.roster.doing(sync, self.now).is_some_and(|doing| doing.paused_since.is_some())
    }

    /// Looks, starts what is to start, and checks all that must hold of it.
    fn look(&mut self) {
        // With room left a look must either start something or name a later moment: else its caller would spin.
        for round in 0.. {
            assert!(round < 10, "it never comes to rest");
            let look = self.roster.look(self.now);
            assert!(look.next.is_none_or(|next| next > self.now), "{:?} is not after {}", look.next, self.now);
            for start in &look.starts {
                let run = match &start.cause {
                    Cause::Asked(asked) => {
                        assert_eq!(self.waiting.remove(&start.sync), Some(asked.run.clone()), "nobody asked for it");
                        if asked.options.is_partial() {
                            self.parts.insert(asked.run.clone());
                        }
                        asked.run.clone()
                    }
                    cause => {
                        assert!(!self.paused(&start.sync), "{} is paused and starts by itself: {cause:?}", start.sync);
                        assert_ne!(start.sync, "manual", "it has no schedule");
                        self.runs += 1;
                        format!("run-{}", self.runs)
                    }
                };
                assert!(!self.planning.contains(&start.sync), "a plan of {} is being made", start.sync);
                let before = self.running.insert(start.sync.clone(), run.clone());
                assert_eq!(before, None, "two runs of {}", start.sync);
                self.roster.started(start, &run, self.now);
                self.last.insert(start.sync.clone(), Recorded { started_at: self.now, ended_at: None });
            }
            assert_eq!(self.roster.running(), self.running.len());
            assert!(self.running.len() <= PARALLEL, "{:?}", self.running);
            let deaths = |sync: &String| self.roster.doing(sync, self.now).map_or(0, |doing| doing.trouble.deaths);
            let candidates: Vec<_> = self.running.keys().filter(|sync| deaths(sync) > 0).collect();
            assert!(candidates.len() <= 1, "{candidates:?} may kill each other");
            if look.starts.is_empty() {
                break;
            }
        }
        for sync in self.roster.names() {
            let Some(doing) = self.roster.doing(&sync, self.now) else { continue };
            let held = doing.trouble.not_before.map(|until| until.signed_duration_since(self.now));
            assert!(held.is_none_or(|held| held <= PAUSE_MAX), "{sync} is held back for {held:?}");
            assert_eq!(doing.asked.map(|asked| asked.run), self.waiting.get(&sync).cloned(), "what {sync} waits for");
        }
    }

    fn end(&mut self, sync: &str, ending: Ending) {
        if self.running.remove(sync).is_some() {
            self.roster.ended(sync, ending, self.now);
            if let Some(last) = self.last.get_mut(sync) {
                last.ended_at = Some(self.now);
            }
        }
    }

    fn happens(&mut self, happening: &Happening) {
        match happening {
            Happening::Passes(seconds) | Happening::ClockSet(seconds) => self.now += TimeDelta::seconds(*seconds),
            Happening::Ends(sync, ending) => self.end(SYNCS[*sync], *ending),
            Happening::Asks(sync, ask) => {
                let sync = SYNCS[*sync];
                self.runs += 1;
                let one = Asked { since: self.now, ..asked(&format!("asked-{}", self.runs), 0, ask.clone()) };
                match self.roster.ask(sync, one.clone()) {
                    Ok((run, false)) => {
                        assert_eq!((run, self.waiting.insert(sync.to_owned(), one.run.clone())), (one.run, None))
                    }
                    Ok((run, true)) => assert_eq!(Some(&run), self.waiting.get(sync), "joins the one that waits"),
                    Err(Declined::Waiting(run)) => assert_eq!(Some(&run), self.waiting.get(sync)),
                    Err(declined) => assert!(!self.roster.names().iter().any(|name| name == sync), "{declined:?}"),
                }
            }
            Happening::TakesBack(sync) => {
                if let Some(run) = self.waiting.remove(SYNCS[*sync]) {
                    assert_eq!(self.roster.take_back(&run).as_deref(), Some(SYNCS[*sync]));
                }
            }
            Happening::Pauses(sync, paused) => {
                drop(self.roster.pause(SYNCS[*sync], paused.then_some(self.now), self.now))
            }
            Happening::Leaves(sync) => {
                self.roster.leave(SYNCS[*sync]);
                self.waiting.remove(SYNCS[*sync]);
            }
            Happening::Joins(sync) => {
                let sync = SYNCS[*sync];
                let timetable = scheduled(sync, self.now, self.last.get(sync).copied());
                if self.roster.knows(sync) {
                    self.roster.reschedule(sync, timetable, true, self.now);
                } else {
                    self.roster.join(sync, joining(timetable));
                }
            }
            Happening::Reschedules(sync, with) => {
                let sync = SYNCS[*sync];
                let timetable = scheduled(sync, self.now, self.last.get(sync).copied()).filter(|_| *with);
                self.roster.reschedule(sync, timetable, true, self.now);
            }
            Happening::Plans(sync) => {
                if self.roster.plan(SYNCS[*sync]).is_ok() {
                    assert!(!self.running.contains_key(SYNCS[*sync]));
                    self.planning.push(SYNCS[*sync].to_owned());
                }
            }
            Happening::Planned(sync) => self.planned(SYNCS[*sync]),
            Happening::AnotherChance => self.roster.another_chance(),
            Happening::Restarts => self.restart(false),
            Happening::Dies => self.restart(true),
        }
    }

    fn planned(&mut self, sync: &str) {
        let before = self.planning.len();
        self.planning.retain(|planning| planning != sync);
        if self.planning.len() < before {
            self.roster.planned(sync);
        }
    }

    /// A new process: what is on record and what was noted is all that is left. `died`: nobody told the old one to end.
    fn restart(&mut self, died: bool) {
        let under_way: Vec<String> = self.running.keys().cloned().collect();
        let names = self.roster.names();
        let doings: Vec<_> = names.iter().filter_map(|name| self.roster.doing(name, self.now)).collect();
        self.roster = Roster::new(PARALLEL);
        self.planning.clear();
        for sync in std::mem::take(&mut self.running).into_keys() {
            if let Some(last) = self.last.get_mut(&sync) {
                last.ended_at = Some(self.now);
            }
        }
        for (sync, doing) in names.iter().zip(doings) {
            let timetable = scheduled(sync, self.now, self.last.get(sync).copied());
            let mut trouble = Trouble { again: doing.trouble.again && timetable.is_some(), ..doing.trouble };
            if died && under_way.contains(sync) {
                let failures = trouble.failures + 1;
                let not_before = self.now.checked_add_signed(pause_after(failures) - pause_after(1));
                let deaths = trouble.deaths + 1;
                trouble = Trouble { failures, not_before, again: timetable.is_some(), deaths };
            }
            let Doing { asked, paused_since, .. } = doing;
            self.roster.join(sync, Joining { timetable, enabled: true, paused_since, trouble, asked });
        }
    }

    /// Everything comes to rest: whatever waits must be started, and whoever has a schedule must run again.
    fn comes_to_rest(&mut self) {
        for sync in SYNCS {
            self.planned(sync);
            if !self.roster.knows(sync) {
                self.roster.join(sync, joining(None));
            }
            let timetable = scheduled(sync, self.now, self.last.get(sync).copied());
            self.roster.reschedule(sync, timetable, true, self.now);
            // A pause outlives that its sync left for a while.
            self.roster.pause(sync, None, self.now).expect("it is on the roster");
        }
        let mut ran = BTreeMap::<String, u32>::new();
        // Three hours: the longest pause and two of the longest interval.
        for _ in 0..3 * 60 {
            self.look();
            for sync in SYNCS {
                if let Some(run) = self.running.get(sync) {
                    let whole = !self.parts.contains(run);
                    *ran.entry(sync.to_owned()).or_default() += u32::from(whole);
                    self.end(sync, Ending::Well);
                }
            }
            self.now += TimeDelta::minutes(1);
        }
        assert!(self.waiting.is_empty(), "never started: {:?}", self.waiting);
        let ran = |sync: &str| ran.get(sync).copied().unwrap_or_default();
        assert!((35..=38).contains(&ran("five")), "five ran {} times in three hours", ran("five"));
        assert!((2..=5).contains(&ran("hour")), "hour ran {} times in three hours", ran("hour"));
        assert!(ran("after") >= ran("five") - 1, "after ran {} times, five {}", ran("after"), ran("five"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens(happenings in prop::collection::vec(happening(), 1..120)) {
        let mut world = World::new();
        world.look();
        for happening in &happenings {
            world.happens(happening);
            world.look();
        }
        world.comes_to_rest();
    }
}

#[test]
fn a_clock_set_back_holds_nobody_back() {
    let mut world = World::new();
    world.look();
    world.end("five", Ending::Failed(Kind::SourceBusy));
    world.now -= TimeDelta::days(3);
    world.look();
    let doing = world.roster.doing("five", world.now);
    let until = doing.and_then(|doing| doing.trouble.not_before).map(|until| until.signed_duration_since(world.now));
    assert_eq!(until, Some(PAUSE_MAX));
    world.now += PAUSE_MAX;
    assert!(world.roster.look(world.now).starts.iter().any(|start| start.sync == "five"));
}

#[test]
fn a_sync_that_lost_its_schedule_is_not_tried_again_by_itself() {
    let mut world = World::new();
    world.look();
    world.end("five", Ending::Failed(Kind::SourceBusy));
    world.roster.reschedule("five", None, true, world.now);
    world.now += PAUSE_MAX;
    assert!(!world.roster.look(world.now).starts.iter().any(|start| start.sync == "five"));
}

#[test]
fn what_is_missed_because_there_is_no_room_is_made_up_for() {
    let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap_or_default();
    let mut roster = Roster::new(1);
    let rule = |minutes| Rule::Every(TimeDelta::minutes(minutes));
    roster.join("long", joining(Some(timetable("long", rule(600), Overlap::Skip, CatchUp::Once, now))));
    roster.join("other", joining(Some(timetable("other", rule(60), Overlap::Skip, CatchUp::Skip, now))));
    let starts = roster.look(now).starts;
    assert_eq!(starts.len(), 1);
    roster.started(&starts[0], "run-1", now);
    for minute in 1..300 {
        assert!(roster.look(now + TimeDelta::minutes(minute)).starts.is_empty());
    }
    let later = now + TimeDelta::minutes(300);
    roster.ended("long", Ending::Well, later);
    assert_eq!(roster.look(later).starts.first().map(|start| start.sync.as_str()), Some("other"));
}
