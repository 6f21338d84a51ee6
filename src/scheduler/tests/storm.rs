//! The promises of the queue on random days of a few syncs, in any order and on any clock.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::error::Kind;
use crate::scheduler::backoff::{DELAY_MAX, delay_after};
use crate::scheduler::queue::{EnqueueError, RunQueue, RunResult, StartCause, SyncStatus};
use crate::scheduler::timetable::RunSpan;

/// Syncs: every 5 minutes, every hour, after the first, and one without a schedule.
const SYNCS: [&str; 4] = ["five", "hour", "after", "manual"];
const PARALLEL: usize = 2;

#[derive(Debug, Clone)]
enum Happening {
    Passes(i64),
    ClockSet(i64),
    Ends(usize, RunResult),
    Enqueues(usize, Request),
    CancelsQueued(usize),
    Pauses(usize, bool),
    Removes(usize),
    Adds(usize),
    Reschedules(usize, bool),
    Plans(usize),
    Planned(usize),
    ClearsBackoff,
    Restarts,
    Crashes,
}

fn ending() -> impl Strategy<Value = RunResult> {
    prop_oneof![
        4 => Just(RunResult::Succeeded),
        1 => Just(RunResult::Cancelled),
        2 => prop_oneof![Just(Kind::SourceBusy), Just(Kind::Guard), Just(Kind::Bug)].prop_map(RunResult::Failed),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    (any::<bool>(), prop::option::weighted(0.4, Just("k"))).prop_map(|(full, group)| Request { full, group })
}

fn happening() -> impl Strategy<Value = Happening> {
    let sync = 0..SYNCS.len();
    prop_oneof![
        12 => (1..4_000_i64).prop_map(Happening::Passes),
        1 => (-90_000..90_000_i64).prop_map(Happening::ClockSet),
        12 => (sync.clone(), ending()).prop_map(|(sync, ending)| Happening::Ends(sync, ending)),
        4 => (sync.clone(), request()).prop_map(|(sync, request)| Happening::Enqueues(sync, request)),
        1 => sync.clone().prop_map(Happening::CancelsQueued),
        2 => (sync.clone(), any::<bool>()).prop_map(|(sync, paused)| Happening::Pauses(sync, paused)),
        1 => sync.clone().prop_map(Happening::Removes),
        2 => sync.clone().prop_map(Happening::Adds),
        1 => (sync.clone(), any::<bool>()).prop_map(|(sync, scheduled)| Happening::Reschedules(sync, scheduled)),
        1 => sync.clone().prop_map(Happening::Plans),
        3 => sync.prop_map(Happening::Planned),
        1 => Just(Happening::ClearsBackoff),
        1 => Just(Happening::Restarts),
        1 => Just(Happening::Crashes),
    ]
}

fn scheduled(sync: &str, now: DateTime<Utc>, last: Option<RunSpan>) -> Option<Timetable> {
    let minutes = match sync {
        "five" => 5,
        "hour" => 60,
        _ => return if sync == "after" { after("after", "five", CatchUp::Once).timetable } else { None },
    };
    let template = every(sync, minutes).timetable?;
    Some(Timetable::resume(template.schedule().clone(), RunHistory { last, ..RunHistory::default() }, now))
}

/// What is expected of the queue.
struct World {
    queue: RunQueue<Request>,
    now: DateTime<Utc>,
    /// Runs under way.
    running: BTreeMap<String, String>,
    /// The queued runs, by sync.
    queued: BTreeMap<String, String>,
    last: BTreeMap<String, RunSpan>,
    planning: Vec<String>,
    runs: u32,
    /// Partial runs: not of the schedule, and not followed.
    parts: BTreeSet<String>,
}

impl World {
    fn new() -> World {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap_or_default();
        let mut queue = RunQueue::new(PARALLEL);
        for sync in SYNCS {
            queue.add(sync, init(scheduled(sync, now, None)));
        }
        let (running, queued, last) = Default::default();
        World { queue, now, running, queued, last, planning: Vec::new(), runs: 0, parts: BTreeSet::new() }
    }

    fn paused(&self, sync: &str) -> bool {
        self.queue.status(sync, self.now).is_some_and(|status| status.paused_since.is_some())
    }

    /// Ticks, starts what is to start, and checks the promises.
    fn tick(&mut self) {
        // With room left a tick must either start something or name a later time: else its caller would spin.
        for round in 0.. {
            assert!(round < 10, "it never comes to rest");
            let tick = self.queue.tick(self.now);
            assert!(tick.next.is_none_or(|next| next > self.now), "{:?} is not after {}", tick.next, self.now);
            for start in &tick.starts {
                let run = match &start.cause {
                    StartCause::Queued(queued) => {
                        assert_eq!(self.queued.remove(&start.sync), Some(queued.run.clone()), "it was not requested");
                        if queued.request.is_partial() {
                            self.parts.insert(queued.run.clone());
                        }
                        queued.run.clone()
                    }
                    cause => {
                        assert!(!self.paused(&start.sync), "{} is paused and started by itself: {cause:?}", start.sync);
                        assert_ne!(start.sync, "manual", "it has no schedule");
                        self.runs += 1;
                        format!("run-{}", self.runs)
                    }
                };
                assert!(!self.planning.contains(&start.sync), "a plan of {} is being made", start.sync);
                let before = self.running.insert(start.sync.clone(), run.clone());
                assert_eq!(before, None, "two runs of {}", start.sync);
                self.queue.started(start, &run, self.now);
                self.last.insert(start.sync.clone(), RunSpan { started_at: self.now, ended_at: None });
            }
            assert_eq!(self.queue.running(), self.running.len());
            assert!(self.running.len() <= PARALLEL, "{:?}", self.running);
            let crashes = |sync: &String| self.queue.status(sync, self.now).map_or(0, |status| status.backoff.crashes);
            let candidates: Vec<_> = self.running.keys().filter(|sync| crashes(sync) > 0).collect();
            assert!(candidates.len() <= 1, "{candidates:?} may crash each other");
            if tick.starts.is_empty() {
                break;
            }
        }
        for sync in self.queue.names() {
            let Some(status) = self.queue.status(&sync, self.now) else { continue };
            let delay = status.backoff.not_before.map(|until| until.signed_duration_since(self.now));
            assert!(delay.is_none_or(|delay| delay <= DELAY_MAX), "{sync} backs off for {delay:?}");
            assert_eq!(
                status.queued.map(|queued| queued.run),
                self.queued.get(&sync).cloned(),
                "what is queued of {sync}"
            );
        }
    }

    fn end(&mut self, sync: &str, ending: RunResult) {
        if self.running.remove(sync).is_some() {
            self.queue.ended(sync, ending, self.now);
            if let Some(last) = self.last.get_mut(sync) {
                last.ended_at = Some(self.now);
            }
        }
    }

    fn happens(&mut self, happening: &Happening) {
        match happening {
            Happening::Passes(seconds) | Happening::ClockSet(seconds) => self.now += TimeDelta::seconds(*seconds),
            Happening::Ends(sync, ending) => self.end(SYNCS[*sync], *ending),
            Happening::Enqueues(sync, request) => {
                let sync = SYNCS[*sync];
                self.runs += 1;
                let one = QueuedRun { since: self.now, ..queued(&format!("queued-{}", self.runs), 0, request.clone()) };
                match self.queue.enqueue(sync, one.clone()) {
                    Ok((run, false)) => {
                        assert_eq!((run, self.queued.insert(sync.to_owned(), one.run.clone())), (one.run, None))
                    }
                    Ok((run, true)) => assert_eq!(Some(&run), self.queued.get(sync), "joins the queued one"),
                    Err(EnqueueError::AlreadyQueued(run)) => assert_eq!(Some(&run), self.queued.get(sync)),
                    Err(declined) => assert!(!self.queue.names().iter().any(|name| name == sync), "{declined:?}"),
                }
            }
            Happening::CancelsQueued(sync) => {
                if let Some(run) = self.queued.remove(SYNCS[*sync]) {
                    assert_eq!(self.queue.cancel_queued(&run).as_deref(), Some(SYNCS[*sync]));
                }
            }
            Happening::Pauses(sync, paused) => {
                drop(self.queue.pause(SYNCS[*sync], paused.then_some(self.now), self.now))
            }
            Happening::Removes(sync) => {
                self.queue.remove(SYNCS[*sync]);
                self.queued.remove(SYNCS[*sync]);
            }
            Happening::Adds(sync) => {
                let sync = SYNCS[*sync];
                let timetable = scheduled(sync, self.now, self.last.get(sync).copied());
                if self.queue.contains(sync) {
                    self.queue.reschedule(sync, timetable, true, self.now);
                } else {
                    self.queue.add(sync, init(timetable));
                }
            }
            Happening::Reschedules(sync, with) => {
                let sync = SYNCS[*sync];
                let timetable = scheduled(sync, self.now, self.last.get(sync).copied()).filter(|_| *with);
                self.queue.reschedule(sync, timetable, true, self.now);
            }
            Happening::Plans(sync) => {
                if self.queue.plan_started(SYNCS[*sync]).is_ok() {
                    assert!(!self.running.contains_key(SYNCS[*sync]));
                    self.planning.push(SYNCS[*sync].to_owned());
                }
            }
            Happening::Planned(sync) => self.planned(SYNCS[*sync]),
            Happening::ClearsBackoff => self.queue.clear_backoff(),
            Happening::Restarts => self.restart(false),
            Happening::Crashes => self.restart(true),
        }
    }

    fn planned(&mut self, sync: &str) {
        let before = self.planning.len();
        self.planning.retain(|planning| planning != sync);
        if self.planning.len() < before {
            self.queue.plan_ended(sync);
        }
    }

    /// A new process, which continues from what is stored. `crashed`: the old one was not shut down.
    fn restart(&mut self, crashed: bool) {
        let under_way: Vec<String> = self.running.keys().cloned().collect();
        let names = self.queue.names();
        let statuses: Vec<_> = names.iter().filter_map(|name| self.queue.status(name, self.now)).collect();
        self.queue = RunQueue::new(PARALLEL);
        self.planning.clear();
        for sync in std::mem::take(&mut self.running).into_keys() {
            if let Some(last) = self.last.get_mut(&sync) {
                last.ended_at = Some(self.now);
            }
        }
        for (sync, status) in names.iter().zip(statuses) {
            let timetable = scheduled(sync, self.now, self.last.get(sync).copied());
            let mut backoff = Backoff { retry: status.backoff.retry && timetable.is_some(), ..status.backoff };
            if crashed && under_way.contains(sync) {
                let failures = backoff.failures + 1;
                let not_before = self.now.checked_add_signed(delay_after(failures) - delay_after(1));
                let crashes = backoff.crashes + 1;
                backoff = Backoff { failures, not_before, retry: timetable.is_some(), crashes };
            }
            let SyncStatus { queued, paused_since, .. } = status;
            self.queue.add(sync, SyncInit { timetable, enabled: true, paused_since, backoff, queued });
        }
    }

    /// Everything comes to rest: what is queued must start, and what has a schedule must run again.
    fn comes_to_rest(&mut self) {
        for sync in SYNCS {
            self.planned(sync);
            if !self.queue.contains(sync) {
                self.queue.add(sync, init(None));
            }
            let timetable = scheduled(sync, self.now, self.last.get(sync).copied());
            self.queue.reschedule(sync, timetable, true, self.now);
            // A pause survives that its sync was removed for a while.
            self.queue.pause(sync, None, self.now).expect("it is in the queue");
        }
        let mut ran = BTreeMap::<String, u32>::new();
        // Three hours: the longest pause and two of the longest interval.
        for _ in 0..3 * 60 {
            self.tick();
            for sync in SYNCS {
                if let Some(run) = self.running.get(sync) {
                    let whole = !self.parts.contains(run);
                    *ran.entry(sync.to_owned()).or_default() += u32::from(whole);
                    self.end(sync, RunResult::Succeeded);
                }
            }
            self.now += TimeDelta::minutes(1);
        }
        assert!(self.queued.is_empty(), "never started: {:?}", self.queued);
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
        world.tick();
        for happening in &happenings {
            world.happens(happening);
            world.tick();
        }
        world.comes_to_rest();
    }
}

#[test]
fn a_clock_set_back_does_not_prolong_a_backoff() {
    let mut world = World::new();
    world.tick();
    world.end("five", RunResult::Failed(Kind::SourceBusy));
    world.now -= TimeDelta::days(3);
    world.tick();
    let status = world.queue.status("five", world.now);
    let until = status.and_then(|status| status.backoff.not_before).map(|until| until.signed_duration_since(world.now));
    assert_eq!(until, Some(DELAY_MAX));
    world.now += DELAY_MAX;
    assert!(world.queue.tick(world.now).starts.iter().any(|start| start.sync == "five"));
}

#[test]
fn a_sync_that_lost_its_schedule_is_not_retried() {
    let mut world = World::new();
    world.tick();
    world.end("five", RunResult::Failed(Kind::SourceBusy));
    world.queue.reschedule("five", None, true, world.now);
    world.now += DELAY_MAX;
    assert!(!world.queue.tick(world.now).starts.iter().any(|start| start.sync == "five"));
}

#[test]
fn what_is_missed_because_there_is_no_room_is_made_up_for() {
    let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap_or_default();
    let mut queue = RunQueue::new(1);
    let rule = |minutes| Trigger::Every(TimeDelta::minutes(minutes));
    queue.add("long", init(Some(timetable("long", rule(600), Overlap::Skip, CatchUp::Once, now))));
    queue.add("other", init(Some(timetable("other", rule(60), Overlap::Skip, CatchUp::Skip, now))));
    let starts = queue.tick(now).starts;
    assert_eq!(starts.len(), 1);
    queue.started(&starts[0], "run-1", now);
    for minute in 1..300 {
        assert!(queue.tick(now + TimeDelta::minutes(minute)).starts.is_empty());
    }
    let later = now + TimeDelta::minutes(300);
    queue.ended("long", RunResult::Succeeded, later);
    assert_eq!(queue.tick(later).starts.first().map(|start| start.sync.as_str()), Some("other"));
}
