//! Who starts when: syncs on a clock that tests move.

use std::time::Duration;

use chrono::TimeDelta;

use super::*;
use crate::mapping::{CatchUp, Overlap};
use crate::scheduler::Plan;
use crate::scheduler::timetable::Checkpoint;

fn at(minute: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + minute * 60, 0).unwrap()
}

pub(super) fn timetable(sync: &str, rule: Rule, overlap: Overlap, catch_up: CatchUp, now: DateTime<Utc>) -> Timetable {
    let plan = Plan { sync: sync.to_owned(), rule, jitter: Duration::ZERO, catch_up, overlap };
    Timetable::resume(plan, Checkpoint::default(), now)
}

pub(super) fn every(sync: &str, minutes: i64) -> Joining {
    let rule = Rule::Every(TimeDelta::minutes(minutes));
    joining(Some(timetable(sync, rule, Overlap::Skip, CatchUp::Once, at(0))))
}

pub(super) fn after(sync: &str, other: &str, catch_up: CatchUp) -> Joining {
    joining(Some(timetable(sync, Rule::After(other.to_owned()), Overlap::Skip, catch_up, at(0))))
}

pub(super) fn joining(timetable: Option<Timetable>) -> Joining {
    Joining { timetable, enabled: true, paused_since: None, trouble: Trouble::default(), asked: None }
}

pub(super) fn asked(run: &str, minute: i64, options: RunOptions) -> Asked {
    Asked { run: run.to_owned(), options, by: "api".to_owned(), since: at(minute) }
}

/// The syncs that start now, confirmed as started.
fn begin(roster: &mut Roster, minute: i64) -> Vec<String> {
    let starts = roster.look(at(minute)).starts;
    let names = starts.iter().map(|start| start.sync.clone()).collect();
    for start in &starts {
        let run = match &start.cause {
            Cause::Asked(asked) => asked.run.clone(),
            _ => format!("run-{minute}"),
        };
        roster.started(start, &run, at(minute));
    }
    names
}

#[test]
fn one_run_per_sync_and_so_many_in_all() {
    let mut roster = Roster::new(2);
    for sync in ["a", "b", "c"] {
        roster.join(sync, every(sync, 10));
    }
    assert_eq!(begin(&mut roster, 0), ["a", "b"], "never run: due at once, as many as there is room for");
    assert!(begin(&mut roster, 30).is_empty(), "no second run of a, no third in all");
    roster.ended("a", Ending::Well, at(31));
    assert_eq!(begin(&mut roster, 31), ["c"], "the one that waited longest");
    roster.ended("b", Ending::Well, at(32));
    roster.ended("c", Ending::Well, at(32));
    assert_eq!(roster.running(), 0);
    assert_eq!(
        begin(&mut roster, 41),
        ["a", "b"],
        "an interval counts from the start; moments during the run were skipped"
    );
}

#[test]
fn failures_back_off_and_recover() {
    let mut roster = Roster::new(4);
    roster.join("nightly", every("nightly", 24 * 60));
    let mut minute = 0;
    let mut pauses = Vec::new();
    for _ in 0..8 {
        assert_eq!(begin(&mut roster, minute), ["nightly"]);
        roster.ended("nightly", Ending::Failed(Kind::SourceBusy), at(minute));
        let next = roster.look(at(minute)).next.unwrap();
        let pause = next.signed_duration_since(at(minute)).num_minutes();
        assert!(roster.look(next - TimeDelta::seconds(1)).starts.is_empty());
        assert_eq!(roster.doing("nightly", at(minute)).unwrap().state, State::BackingOff);
        pauses.push(pause);
        minute += pause;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(roster.look(at(minute)).starts[0].cause, Cause::Retry);
    begin(&mut roster, minute);
    roster.ended("nightly", Ending::Well, at(minute));
    let doing = roster.doing("nightly", at(minute)).unwrap();
    assert_eq!((doing.state, doing.trouble), (State::Scheduled, Trouble::default()));
}

#[test]
fn what_needs_a_person_waits_for_the_schedule() {
    for kind in [Kind::Guard, Kind::Config, Kind::Source] {
        let mut roster = Roster::new(4);
        roster.join("a", every("a", 60));
        begin(&mut roster, 0);
        roster.ended("a", Ending::Failed(kind), at(1));
        let doing = roster.doing("a", at(1)).unwrap();
        let told = (doing.state, doing.trouble.failures, doing.trouble.not_before);
        assert_eq!(told, (State::Scheduled, 1, None), "{kind:?}: no try is promised that there will not be");
        for minute in 1..60 {
            assert!(begin(&mut roster, minute).is_empty(), "{kind:?} at {minute}");
        }
        assert_eq!(begin(&mut roster, 60), ["a"]);
    }
}

#[test]
fn a_busy_schedule_is_stretched_by_failures() {
    let mut roster = Roster::new(4);
    roster.join("a", every("a", 1));
    let mut starts = Vec::new();
    for minute in 0..200 {
        if !begin(&mut roster, minute).is_empty() {
            starts.push(minute);
            roster.ended("a", Ending::Failed(Kind::Guard), at(minute));
            let doing = roster.doing("a", at(minute)).unwrap();
            let until = at(minute) + pause_after(doing.trouble.failures);
            assert_eq!((doing.state, doing.trouble.not_before), (State::BackingOff, Some(until)));
        }
    }
    assert_eq!(starts, [0, 1, 3, 7, 15, 31, 63, 123, 183]);
    roster.another_chance();
    assert_eq!(begin(&mut roster, 200), ["a"], "a changed config is tried at once");
}

#[test]
fn what_runs_by_hand_is_not_tried_again() {
    let mut roster = Roster::new(4);
    roster.join("a", joining(None));
    roster.ask("a", asked("r1", 0, RunOptions::default())).unwrap();
    begin(&mut roster, 0);
    roster.ended("a", Ending::Failed(Kind::SourceBusy), at(0));
    let doing = roster.doing("a", at(0)).unwrap();
    assert_eq!((doing.state, doing.trouble.failures, doing.trouble.not_before), (State::Manual, 1, None));
    assert!((0..200).all(|minute| begin(&mut roster, minute).is_empty()));
}

#[test]
fn a_failing_sync_does_not_disturb_the_others() {
    let mut roster = Roster::new(1);
    roster.join("bad", every("bad", 1));
    roster.join("good", every("good", 5));
    let (mut bad, mut good) = (0, 0);
    for minute in 0..100 {
        for name in begin(&mut roster, minute) {
            let failed = name == "bad";
            *(if failed { &mut bad } else { &mut good }) += 1;
            roster.ended(&name, if failed { Ending::Failed(Kind::Bug) } else { Ending::Well }, at(minute));
        }
    }
    assert_eq!(good, 20);
    assert!(bad < 10, "{bad}");
}

#[test]
fn who_asks_is_served_once_and_nobody_is_lost() {
    let mut roster = Roster::new(1);
    roster.join("a", joining(None));
    assert_eq!(roster.ask("nobody", asked("r0", 0, RunOptions::default())), Err(Declined::Unknown));
    assert_eq!(roster.ask("a", asked("r1", 0, RunOptions::default())), Ok(("r1".to_owned(), false)));
    assert_eq!(
        roster.ask("a", asked("r2", 0, RunOptions::default())),
        Ok(("r1".to_owned(), true)),
        "joins the one that waits"
    );
    assert_eq!(begin(&mut roster, 0), ["a"]);
    // The data may have changed after the run under way has read it: whoever asks now gets a run of their own.
    assert_eq!(roster.ask("a", asked("r3", 1, RunOptions::default())), Ok(("r3".to_owned(), false)));
    let full = RunOptions { full: true, accept: ["empty".to_owned()].into(), ..RunOptions::default() };
    assert_eq!(roster.ask("a", asked("r4", 1, full)), Ok(("r3".to_owned(), true)), "the waiting run does both");
    let one = RunOptions { group: Some("k".to_owned()), ..RunOptions::default() };
    assert_eq!(roster.ask("a", asked("r5", 1, one)), Err(Declined::Waiting("r3".to_owned())));
    assert!(begin(&mut roster, 2).is_empty());
    roster.ended("a", Ending::Well, at(3));
    let starts = roster.look(at(3)).starts;
    let Cause::Asked(waited) = &starts[0].cause else { panic!("{starts:?}") };
    assert!(waited.options.full && waited.options.accept.contains("empty") && waited.run == "r3");
    begin(&mut roster, 3);
    assert_eq!(roster.take_back("r3"), None, "it has begun");
    roster.ask("a", asked("r6", 4, RunOptions::default())).unwrap();
    assert_eq!(roster.take_back("r6").as_deref(), Some("a"));
    roster.ended("a", Ending::Well, at(5));
    assert!(begin(&mut roster, 5).is_empty());
    roster.stop();
    assert_eq!(roster.ask("a", asked("r7", 6, RunOptions::default())), Err(Declined::Stopping));
}

#[test]
fn a_paused_sync_starts_by_hand_only_and_catches_up() {
    let mut roster = Roster::new(4);
    roster.join("a", every("a", 10));
    begin(&mut roster, 0);
    roster.ended("a", Ending::Well, at(1));
    roster.pause("a", Some(at(2)), at(2)).unwrap();
    roster.pause("a", Some(at(3)), at(3)).unwrap();
    assert_eq!(roster.doing("a", at(3)).unwrap().paused_since, Some(at(2)), "since the first time");
    for minute in 2..60 {
        assert!(begin(&mut roster, minute).is_empty());
    }
    roster.ask("a", asked("by-hand", 35, RunOptions::default())).unwrap();
    assert_eq!(begin(&mut roster, 35), ["a"]);
    roster.ended("a", Ending::Well, at(36));
    roster.pause("a", None, at(40)).unwrap();
    assert!(begin(&mut roster, 40).is_empty(), "the interval counts from the run by hand");
    assert_eq!(begin(&mut roster, 45), ["a"]);
    roster.ended("a", Ending::Well, at(45));
    roster.pause("a", Some(at(46)), at(46)).unwrap();
    roster.pause("a", None, at(80)).unwrap();
    assert_eq!(begin(&mut roster, 80), ["a"], "one run makes up for what was missed");
}

#[test]
fn followers_follow_good_ends_of_whole_runs() {
    let mut roster = Roster::new(4);
    roster.join("first", every("first", 60));
    roster.join("second", after("second", "first", CatchUp::Once));
    roster.join("third", after("third", "second", CatchUp::Once));
    assert_eq!(begin(&mut roster, 0), ["first"]);
    assert!(begin(&mut roster, 1).is_empty());
    roster.ended("first", Ending::Well, at(2));
    assert_eq!(begin(&mut roster, 2), ["second"]);
    roster.ended("second", Ending::Failed(Kind::Guard), at(3));
    assert!(begin(&mut roster, 3).is_empty(), "a failure is not followed");
    let part = RunOptions { group: Some("k".to_owned()), ..RunOptions::default() };
    roster.ask("first", asked("part", 4, part)).unwrap();
    assert_eq!(begin(&mut roster, 4), ["first"]);
    roster.ended("first", Ending::Well, at(5));
    assert!(begin(&mut roster, 5).is_empty(), "a run of one group is not followed");
    assert_eq!(begin(&mut roster, 60), ["first"], "and it settled no moment");
}

#[test]
fn a_run_of_one_group_hides_no_moment() {
    let mut roster = Roster::new(4);
    roster.join("a", every("a", 10));
    begin(&mut roster, 0);
    roster.ended("a", Ending::Well, at(1));
    let part = RunOptions { group: Some("k".to_owned()), ..RunOptions::default() };
    roster.ask("a", asked("part", 9, part)).unwrap();
    assert_eq!(begin(&mut roster, 9), ["a"]);
    assert!(begin(&mut roster, 10).is_empty(), "one run of a sync at a time");
    roster.ended("a", Ending::Failed(Kind::Destination), at(11));
    assert_eq!(begin(&mut roster, 11), ["a"], "the moment waited, and the failure of a part starts no back-off");
}

#[test]
fn syncs_whose_runs_died_together_run_one_at_a_time() {
    let mut roster = Roster::new(4);
    for (sync, deaths) in [("a", 2), ("b", 1), ("c", 1), ("well", 0)] {
        let trouble = Trouble { failures: deaths, deaths, again: true, not_before: None };
        roster.join(sync, Joining { trouble, ..every(sync, 10) });
    }
    assert_eq!(begin(&mut roster, 0), ["b", "well"], "the one with the fewest deaths, and who did not die");
    assert!(begin(&mut roster, 1).is_empty());
    roster.ended("well", Ending::Well, at(1));
    assert!(begin(&mut roster, 1).is_empty());
    roster.ended("b", Ending::Well, at(2));
    assert_eq!(begin(&mut roster, 2), ["c"]);
    // It ended: whether well or not, the process is still there.
    roster.ended("c", Ending::Failed(Kind::Source), at(3));
    assert_eq!(begin(&mut roster, 3), ["a"]);
    let mut beside = begin(&mut roster, 30);
    beside.sort();
    assert_eq!(beside, ["b", "c", "well"], "who has shown that it ends runs beside a candidate");
    for sync in ["a", "b", "c", "well"] {
        roster.ended(sync, Ending::Well, at(31));
    }
    assert_eq!(begin(&mut roster, 50).len(), 4, "nobody is a candidate any more");
}

#[test]
fn a_suspect_that_somebody_asks_for_waits_its_turn() {
    let mut roster = Roster::new(4);
    for sync in ["a", "b"] {
        let trouble = Trouble { failures: 1, deaths: 1, again: true, not_before: None };
        roster.join(sync, Joining { trouble, ..every(sync, 10) });
    }
    roster.ask("b", asked("r1", 0, RunOptions::default())).unwrap();
    assert_eq!(begin(&mut roster, 0), ["b"], "who asked comes first");
    roster.ask("a", asked("r2", 1, RunOptions::default())).unwrap();
    assert!(begin(&mut roster, 1).is_empty());
    // One that is stopped has shown nothing, and makes room.
    roster.ended("b", Ending::Stopped, at(2));
    assert_eq!(begin(&mut roster, 2), ["a"]);
    roster.ended("a", Ending::Well, at(3));
    assert_eq!(roster.doing("b", at(3)).unwrap().trouble.deaths, 1);
}

#[test]
fn a_plan_keeps_runs_out_and_lets_go() {
    let mut roster = Roster::new(1);
    roster.join("a", every("a", 10));
    roster.plan("a").unwrap();
    assert!(begin(&mut roster, 0).is_empty());
    assert_eq!(roster.plan("a"), Err(Declined::Busy(None)));
    roster.planned("a");
    assert_eq!(begin(&mut roster, 1), ["a"]);
    assert_eq!(roster.plan("a"), Err(Declined::Busy(Some("run-1".to_owned()))));
}

#[test]
fn a_sync_that_leaves_the_config_ends_its_run_first() {
    let mut roster = Roster::new(4);
    roster.join("a", every("a", 1));
    begin(&mut roster, 0);
    roster.leave("a");
    assert_eq!(roster.running(), 1);
    assert!(roster.names().is_empty());
    assert_eq!(roster.ask("a", asked("r", 1, RunOptions::default())), Err(Declined::Unknown));
    roster.ended("a", Ending::Well, at(1));
    assert!(!roster.knows("a"));
    assert!(begin(&mut roster, 9).is_empty());
}
