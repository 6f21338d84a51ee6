//! Several queues with one record of runs, as daemons over one ledger have them: each scheduled time is run once, whichever of
//! them claims it, and however late the others learn of it.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::scheduler::queue::{DueRun, RunQueue, RunResult};

const SYNCS: [&str; 3] = ["cron", "every", "follower"];

/// Numbers that look random, the same for the same seed.
struct Numbers(u64);

impl Numbers {
    fn up_to(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % (bound + 1)
    }
}

/// A recorded run.
#[derive(Debug, Clone)]
struct Run {
    sync: &'static str,
    by: usize,
    started: i64,
    ended: Option<i64>,
}

fn second(at: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + at, 0).unwrap_or_default()
}

struct Daemon {
    queue: RunQueue<Request>,
    /// What of each run was taken in: that it started, that it ended.
    seen: BTreeSet<(usize, bool)>,
}

struct World {
    daemons: Vec<Daemon>,
    runs: Vec<Run>,
    leases: BTreeMap<&'static str, usize>,
}

impl World {
    fn new(count: usize) -> World {
        let cron = || {
            let schedule = crate::mapping::cron::parse("* * * * *").unwrap();
            let trigger = Trigger::Cron(Box::new(schedule), crate::time_zone::Zone::utc());
            init(Some(timetable("cron", trigger, Overlap::Skip, CatchUp::Once, second(0))))
        };
        let daemon = || {
            let mut queue = RunQueue::new(2);
            queue.add("cron", cron());
            queue.add("every", every("every", 2));
            queue.add("follower", after("follower", "every", CatchUp::Once));
            Daemon { queue, seen: BTreeSet::new() }
        };
        World { daemons: (0..count).map(|_| daemon()).collect(), runs: Vec::new(), leases: BTreeMap::new() }
    }

    /// Takes in what others did, of one sync or of all.
    fn take_in(&mut self, at: usize, only: Option<&str>) {
        let World { daemons, runs, .. } = self;
        let daemon = &mut daemons[at];
        let mut events = Vec::new();
        for (id, run) in
            runs.iter().enumerate().filter(|(_, run)| run.by != at && only.is_none_or(|only| only == run.sync))
        {
            let ended = run.ended;
            if daemon.seen.insert((id, false)) {
                events.push((run.started, false, run.clone()));
            }
            if let Some(ended) = ended.filter(|_| daemon.seen.insert((id, true))) {
                events.push((ended, true, run.clone()));
            }
        }
        events.sort_by_key(|(at, has_ended, _)| (*at, !*has_ended));
        for (at, has_ended, run) in events {
            match has_ended {
                false => daemon.queue.started_elsewhere(run.sync, second(at), run.ended.map(second)),
                true => daemon.queue.ended_elsewhere(run.sync, true, Backoff::default(), second(at)),
            }
        }
    }

    fn look(&mut self, at: usize) {
        self.take_in(at, None);
        for sync in SYNCS {
            let elsewhere = self.leases.get(sync).filter(|holder| **holder != at).map(|_| "run".to_owned());
            self.daemons[at].queue.held_elsewhere(sync, elsewhere);
        }
    }

    fn claim(&mut self, at: usize, start: &DueRun<Request>, now: i64) {
        let sync = SYNCS.into_iter().find(|sync| *sync == start.sync).unwrap();
        if self.leases.contains_key(sync) {
            self.daemons[at].queue.held_elsewhere(sync, Some(String::new()));
            return;
        }
        self.take_in(at, Some(sync));
        let queue = &mut self.daemons[at].queue;
        queue.held_elsewhere(sync, None);
        let due = queue.tick(second(now)).starts.into_iter().find(|due| due.sync == sync);
        if let Some(due) = due {
            queue.started(&due, "run", second(now));
            self.leases.insert(sync, at);
            self.runs.push(Run { sync, by: at, started: now, ended: None });
        }
    }
}

#[test]
fn each_scheduled_time_is_run_once_by_one_of_several_daemons() {
    for seed in 0..60 {
        let mut random = Numbers(seed);
        let mut world = World::new(1 + seed as usize % 3);
        let last = 3_600;
        for now in 0..last {
            for at in 0..world.daemons.len() {
                let runs: Vec<usize> = (0..world.runs.len())
                    .filter(|id| world.runs[*id].by == at && world.runs[*id].ended.is_none())
                    .collect();
                for id in runs {
                    if random.up_to(9) == 0 {
                        world.runs[id].ended = Some(now);
                        let sync = world.runs[id].sync;
                        world.daemons[at].queue.ended(sync, RunResult::Succeeded, second(now));
                        world.leases.remove(sync);
                    }
                }
                if random.up_to(3) == 0 {
                    world.look(at);
                }
                let starts = world.daemons[at].queue.tick(second(now)).starts;
                if let Some(start) = starts.first() {
                    world.claim(at, start, now);
                }
            }
        }
        let of = |name: &str| world.runs.iter().filter(|run| run.sync == name).cloned().collect::<Vec<_>>();
        // A run that began late in one minute may end in the next, whose time it then skips.
        let mut minutes = BTreeMap::new();
        for run in of("cron") {
            let time = (1_800_000_000 + run.started) / 60;
            assert!(minutes.insert(time, run.clone()).is_none(), "seed {seed}: minute {time} was run twice: {run:?}");
        }
        assert!(minutes.len() as i64 > last / 60 * 3 / 4, "seed {seed}: {} of {} minutes", minutes.len(), last / 60);
        let every = of("every");
        for pair in every.windows(2) {
            assert!(pair[1].started - pair[0].started >= 120, "seed {seed}: {pair:?}");
            assert!(pair[1].started - pair[0].started < 180, "seed {seed}: {pair:?}");
        }
        let followers = of("follower");
        let ended = every.iter().filter(|run| run.ended.is_some()).count();
        assert!(
            followers.len() <= ended && followers.len() + 2 >= ended,
            "seed {seed}: {} after {ended}",
            followers.len()
        );
    }
}
