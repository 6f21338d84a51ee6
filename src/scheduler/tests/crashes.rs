//! One sync that crashes the process: whole days, minute by minute. The others go on.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::scheduler::backoff::{PastResult, PastRun};
use crate::scheduler::queue::{RunQueue, RunResult};
use crate::scheduler::timetable::RunSpan;

const SYNCS: [&str; 5] = ["a", "b", "c", "d", "e"];
const INTERVAL: i64 = 10;
const DAY: i64 = 24 * 60;

/// A day of syncs that run every ten minutes, of which one crashes the process.
struct Day {
    guilty: usize,
    /// Minutes after which a run of the guilty one crashes the process.
    crashes_after: i64,
    /// Minutes that runs of the others take.
    lasting: Vec<i64>,
    parallel: usize,
    queue: RunQueue<Request>,
    /// Since when a run is under way.
    running: BTreeMap<&'static str, i64>,
    /// The recorded runs with their starts, the oldest first.
    records: BTreeMap<&'static str, Vec<(i64, PastRun)>>,
    crashes: usize,
}

impl Day {
    fn new(guilty: usize, crashes_after: i64, lasting: Vec<i64>, parallel: usize) -> Day {
        let (queue, running, records) = (RunQueue::new(parallel), BTreeMap::new(), BTreeMap::new());
        let mut day = Day { guilty, crashes_after, lasting, parallel, queue, running, records, crashes: 0 };
        day.begins(0);
        day
    }

    fn begins(&mut self, minute: i64) {
        self.queue = RunQueue::new(self.parallel);
        for sync in SYNCS {
            let records: Vec<(i64, PastRun)> = self.records.get(sync).into_iter().flatten().rev().copied().collect();
            let span = |(started, run): &(i64, PastRun)| RunSpan { started_at: at(*started), ended_at: run.ended_at };
            let history = RunHistory { last: records.first().map(span), ..RunHistory::default() };
            let schedule = every(sync, INTERVAL).timetable.unwrap().schedule().clone();
            let timetable = Some(Timetable::resume(schedule, history, at(minute)));
            let past: Vec<PastRun> = records.iter().map(|(_, run)| *run).collect();
            let backoff = Backoff::after(&past, false, at(minute), true);
            self.queue.add(sync, SyncInit { timetable, backoff, ..every(sync, INTERVAL) });
        }
    }

    fn record(&mut self, sync: &'static str, started: i64, minute: i64, result: PastResult) {
        let run = PastRun { ended_at: Some(at(minute)), result };
        self.records.entry(sync).or_default().push((started, run));
    }

    fn passes(&mut self, minute: i64) {
        let started = self.running.get(SYNCS[self.guilty]).copied();
        if started.is_some_and(|started| minute - started >= self.crashes_after) {
            self.crashes += 1;
            for (sync, started) in std::mem::take(&mut self.running) {
                self.record(sync, started, minute, PastResult::ProcessCrashed);
            }
            self.begins(minute);
        }
        let guilty = self.guilty;
        for (index, sync) in SYNCS.into_iter().enumerate().filter(|(index, _)| *index != guilty) {
            if let Some(started) =
                self.running.get(sync).copied().filter(|started| minute - started >= self.lasting[index])
            {
                self.running.remove(sync);
                self.queue.ended(sync, RunResult::Succeeded, at(minute));
                self.record(sync, started, minute, PastResult::Succeeded);
            }
        }
        for start in self.queue.tick(at(minute)).starts {
            self.queue.started(&start, "run", at(minute));
            let sync = SYNCS.into_iter().find(|sync| *sync == start.sync).unwrap();
            self.running.insert(sync, minute);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_guilty_one_is_found_and_the_others_go_on(
        guilty in 0..SYNCS.len(),
        crashes_after in 0..9_i64,
        lasting in prop::collection::vec(1..8_i64, SYNCS.len()),
        parallel in 2..6_usize,
    ) {
        let mut day = Day::new(guilty, crashes_after, lasting, parallel);
        for minute in 0..DAY {
            day.passes(minute);
        }
        // Seven attempts with growing delays, then one an hour.
        prop_assert!((20..=36).contains(&day.crashes), "{} crashes", day.crashes);
        for (index, sync) in SYNCS.into_iter().enumerate() {
            let succeeded = day.records[sync].iter().filter(|(_, run)| run.result == PastResult::Succeeded).count();
            if index == guilty {
                prop_assert_eq!(succeeded, 0);
            } else {
                // 144 without a guilty one beside it.
                prop_assert!(succeeded >= 80, "{} succeeded {} times; {} crashes", sync, succeeded, day.crashes);
            }
        }
    }
}
