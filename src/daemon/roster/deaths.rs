//! Does one sync that kills the process take the others with it? Whole days with a guilty one, minute by minute.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::tests::every;
use super::*;
use crate::ledger::{RunRecord, Status};
use crate::scheduler::timetable::{Checkpoint, Recorded};

const SYNCS: [&str; 5] = ["a", "b", "c", "d", "e"];
const INTERVAL: i64 = 10;
const DAY: i64 = 24 * 60;

fn at(minute: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + minute * 60, 0).unwrap()
}

/// A day of syncs that run every ten minutes, of which one kills the process.
struct Day {
    guilty: usize,
    /// Minutes after which a run of the guilty one kills.
    kills_after: i64,
    /// Minutes that runs of the others take.
    lasting: Vec<i64>,
    parallel: usize,
    roster: Roster,
    /// Since when a run is under way.
    running: BTreeMap<&'static str, i64>,
    /// What is on record, the oldest first.
    records: BTreeMap<&'static str, Vec<RunRecord>>,
    deaths: usize,
}

impl Day {
    fn new(guilty: usize, kills_after: i64, lasting: Vec<i64>, parallel: usize) -> Day {
        let (roster, running, records) = (Roster::new(parallel), BTreeMap::new(), BTreeMap::new());
        let mut day = Day { guilty, kills_after, lasting, parallel, roster, running, records, deaths: 0 };
        day.begins(0);
        day
    }

    fn begins(&mut self, minute: i64) {
        self.roster = Roster::new(self.parallel);
        for sync in SYNCS {
            let newest_first: Vec<RunRecord> = self.records.get(sync).into_iter().flatten().rev().cloned().collect();
            let recorded = |run: &RunRecord| Recorded { started_at: run.started_at, ended_at: run.ended_at };
            let checkpoint = Checkpoint { last: newest_first.first().map(recorded), ..Checkpoint::default() };
            let plan = every(sync, INTERVAL).timetable.unwrap().plan().clone();
            let timetable = Some(Timetable::resume(plan, checkpoint, at(minute)));
            let trouble = Trouble::of(&newest_first, false, at(minute), true);
            self.roster.join(sync, Joining { timetable, trouble, ..every(sync, INTERVAL) });
        }
    }

    fn record(&mut self, sync: &'static str, began: i64, minute: i64, status: Status) {
        let record = RunRecord {
            sync: sync.to_owned(),
            run: format!("{began:06}"),
            started_at: at(began),
            ended_at: Some(at(minute)),
            status,
            counts: String::new(),
            error: None,
            mapping: String::new(),
            started_by: String::new(),
            partial: false,
            error_kind: (status == Status::Died).then(|| Kind::Interrupted.name().to_owned()),
        };
        self.records.entry(sync).or_default().push(record);
    }

    fn passes(&mut self, minute: i64) {
        let began = self.running.get(SYNCS[self.guilty]).copied();
        if began.is_some_and(|began| minute - began >= self.kills_after) {
            self.deaths += 1;
            for (sync, began) in std::mem::take(&mut self.running) {
                self.record(sync, began, minute, Status::Died);
            }
            self.begins(minute);
        }
        let guilty = self.guilty;
        for (index, sync) in SYNCS.into_iter().enumerate().filter(|(index, _)| *index != guilty) {
            if let Some(began) = self.running.get(sync).copied().filter(|began| minute - began >= self.lasting[index]) {
                self.running.remove(sync);
                self.roster.ended(sync, Ending::Well, at(minute));
                self.record(sync, began, minute, Status::Delivered);
            }
        }
        for start in self.roster.look(at(minute)).starts {
            self.roster.started(&start, "run", at(minute));
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
        kills_after in 0..9_i64,
        lasting in prop::collection::vec(1..8_i64, SYNCS.len()),
        parallel in 2..6_usize,
    ) {
        let mut day = Day::new(guilty, kills_after, lasting, parallel);
        for minute in 0..DAY {
            day.passes(minute);
        }
        // Seven tries with growing pauses, then one an hour.
        prop_assert!((20..=36).contains(&day.deaths), "{} deaths", day.deaths);
        for (index, sync) in SYNCS.into_iter().enumerate() {
            let well = day.records[sync].iter().filter(|run| run.status == Status::Delivered).count();
            if index == guilty {
                prop_assert_eq!(well, 0);
            } else {
                // 144 without a guilty one beside it.
                prop_assert!(well >= 80, "{} ended well {} times; {} deaths", sync, well, day.deaths);
            }
        }
    }
}
