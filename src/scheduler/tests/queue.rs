//! Which run starts when: syncs on a clock that tests move.

use chrono::TimeDelta;

use super::*;
use crate::error::Kind;
use crate::scheduler::backoff::delay_after;
use crate::scheduler::queue::{EnqueueError, RunQueue, RunResult, StartCause, SyncState};

/// The syncs that start now, confirmed as started.
fn begin(queue: &mut RunQueue<Request>, minute: i64) -> Vec<String> {
    let starts = queue.tick(at(minute)).starts;
    let names = starts.iter().map(|start| start.sync.clone()).collect();
    for start in &starts {
        let run = match &start.cause {
            StartCause::Queued(queued) => queued.run.clone(),
            _ => format!("run-{minute}"),
        };
        queue.started(start, &run, at(minute));
    }
    names
}

#[test]
fn one_run_per_sync_and_a_limit_in_all() {
    let mut queue = RunQueue::new(2);
    for sync in ["a", "b", "c"] {
        queue.add(sync, every(sync, 10));
    }
    assert_eq!(begin(&mut queue, 0), ["a", "b"], "never run: due at once, as many as there is room for");
    assert!(begin(&mut queue, 30).is_empty(), "no second run of a, no third in all");
    queue.ended("a", RunResult::Succeeded, at(31));
    assert_eq!(begin(&mut queue, 31), ["c"], "the one that waited longest");
    queue.ended("b", RunResult::Succeeded, at(32));
    queue.ended("c", RunResult::Succeeded, at(32));
    assert_eq!(queue.running(), 0);
    assert_eq!(
        begin(&mut queue, 41),
        ["a", "b"],
        "an interval counts from the start; times during the run were skipped"
    );
}

#[test]
fn failures_back_off_and_recover() {
    let mut queue = RunQueue::new(4);
    queue.add("nightly", every("nightly", 24 * 60));
    let mut minute = 0;
    let mut pauses = Vec::new();
    for _ in 0..8 {
        assert_eq!(begin(&mut queue, minute), ["nightly"]);
        queue.ended("nightly", RunResult::Failed(Kind::SourceBusy), at(minute));
        let next = queue.tick(at(minute)).next.unwrap();
        let pause = next.signed_duration_since(at(minute)).num_minutes();
        assert!(queue.tick(next - TimeDelta::seconds(1)).starts.is_empty());
        assert_eq!(queue.status("nightly", at(minute)).unwrap().state, SyncState::BackingOff);
        pauses.push(pause);
        minute += pause;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(queue.tick(at(minute)).starts[0].cause, StartCause::Retry);
    begin(&mut queue, minute);
    queue.ended("nightly", RunResult::Succeeded, at(minute));
    let status = queue.status("nightly", at(minute)).unwrap();
    assert_eq!((status.state, status.backoff), (SyncState::Scheduled, Backoff::default()));
}

#[test]
fn what_needs_a_person_waits_for_the_schedule() {
    for kind in [Kind::Guard, Kind::Config, Kind::Source] {
        let mut queue = RunQueue::new(4);
        queue.add("a", every("a", 60));
        begin(&mut queue, 0);
        queue.ended("a", RunResult::Failed(kind), at(1));
        let status = queue.status("a", at(1)).unwrap();
        let shown = (status.state, status.backoff.failures, status.backoff.not_before);
        assert_eq!(shown, (SyncState::Scheduled, 1, None), "{kind:?}: no attempt is promised that there will not be");
        for minute in 1..60 {
            assert!(begin(&mut queue, minute).is_empty(), "{kind:?} at {minute}");
        }
        assert_eq!(begin(&mut queue, 60), ["a"]);
    }
}

#[test]
fn a_busy_schedule_is_stretched_by_failures() {
    let mut queue = RunQueue::new(4);
    queue.add("a", every("a", 1));
    let mut starts = Vec::new();
    for minute in 0..200 {
        if !begin(&mut queue, minute).is_empty() {
            starts.push(minute);
            queue.ended("a", RunResult::Failed(Kind::Guard), at(minute));
            let status = queue.status("a", at(minute)).unwrap();
            let until = at(minute) + delay_after(status.backoff.failures);
            assert_eq!((status.state, status.backoff.not_before), (SyncState::BackingOff, Some(until)));
        }
    }
    assert_eq!(starts, [0, 1, 3, 7, 15, 31, 63, 123, 183]);
    queue.clear_backoff();
    assert_eq!(begin(&mut queue, 200), ["a"], "a changed config is tried at once");
}

#[test]
fn a_manual_sync_is_not_retried() {
    let mut queue = RunQueue::new(4);
    queue.add("a", init(None));
    queue.enqueue("a", queued("r1", 0, WHOLE)).unwrap();
    begin(&mut queue, 0);
    queue.ended("a", RunResult::Failed(Kind::SourceBusy), at(0));
    let status = queue.status("a", at(0)).unwrap();
    assert_eq!((status.state, status.backoff.failures, status.backoff.not_before), (SyncState::Manual, 1, None));
    assert!((0..200).all(|minute| begin(&mut queue, minute).is_empty()));
}

#[test]
fn a_failing_sync_does_not_disturb_the_others() {
    let mut queue = RunQueue::new(1);
    queue.add("bad", every("bad", 1));
    queue.add("good", every("good", 5));
    let (mut bad, mut good) = (0, 0);
    for minute in 0..100 {
        for name in begin(&mut queue, minute) {
            let failed = name == "bad";
            *(if failed { &mut bad } else { &mut good }) += 1;
            queue.ended(&name, if failed { RunResult::Failed(Kind::Bug) } else { RunResult::Succeeded }, at(minute));
        }
    }
    assert_eq!(good, 20);
    assert!(bad < 10, "{bad}");
}

#[test]
fn a_request_is_served_once_and_none_is_lost() {
    let mut queue = RunQueue::new(1);
    queue.add("a", init(None));
    assert_eq!(queue.enqueue("unknown", queued("r0", 0, WHOLE)), Err(EnqueueError::UnknownSync));
    assert_eq!(queue.enqueue("a", queued("r1", 0, WHOLE)), Ok(("r1".to_owned(), false)));
    assert_eq!(queue.enqueue("a", queued("r2", 0, WHOLE)), Ok(("r1".to_owned(), true)), "joins the queued one");
    assert_eq!(begin(&mut queue, 0), ["a"]);
    // The data may have changed after the run under way has read it: a new request gets a run of its own.
    assert_eq!(queue.enqueue("a", queued("r3", 1, WHOLE)), Ok(("r3".to_owned(), false)));
    let full = Request { full: true, ..WHOLE };
    assert_eq!(queue.enqueue("a", queued("r4", 1, full)), Ok(("r3".to_owned(), true)), "the queued run does both");
    assert_eq!(queue.enqueue("a", queued("r5", 1, PART)), Err(EnqueueError::AlreadyQueued("r3".to_owned())));
    assert!(begin(&mut queue, 2).is_empty());
    queue.ended("a", RunResult::Succeeded, at(3));
    let starts = queue.tick(at(3)).starts;
    let StartCause::Queued(merged) = &starts[0].cause else { panic!("{starts:?}") };
    assert!(merged.request.full && merged.run == "r3");
    begin(&mut queue, 3);
    assert_eq!(queue.cancel_queued("r3"), None, "it has begun");
    queue.enqueue("a", queued("r6", 4, WHOLE)).unwrap();
    assert_eq!(queue.cancel_queued("r6").as_deref(), Some("a"));
    queue.ended("a", RunResult::Succeeded, at(5));
    assert!(begin(&mut queue, 5).is_empty());
    queue.stop();
    assert_eq!(queue.enqueue("a", queued("r7", 6, WHOLE)), Err(EnqueueError::ShuttingDown));
}

#[test]
fn a_paused_sync_runs_on_request_only_and_catches_up() {
    let mut queue = RunQueue::new(4);
    queue.add("a", every("a", 10));
    begin(&mut queue, 0);
    queue.ended("a", RunResult::Succeeded, at(1));
    queue.pause("a", Some(at(2)), at(2)).unwrap();
    queue.pause("a", Some(at(3)), at(3)).unwrap();
    assert_eq!(queue.status("a", at(3)).unwrap().paused_since, Some(at(2)), "since the first time");
    for minute in 2..60 {
        assert!(begin(&mut queue, minute).is_empty());
    }
    queue.enqueue("a", queued("requested", 35, WHOLE)).unwrap();
    assert_eq!(begin(&mut queue, 35), ["a"]);
    queue.ended("a", RunResult::Succeeded, at(36));
    queue.pause("a", None, at(40)).unwrap();
    assert!(begin(&mut queue, 40).is_empty(), "the interval counts from the requested run");
    assert_eq!(begin(&mut queue, 45), ["a"]);
    queue.ended("a", RunResult::Succeeded, at(45));
    queue.pause("a", Some(at(46)), at(46)).unwrap();
    queue.pause("a", None, at(80)).unwrap();
    assert_eq!(begin(&mut queue, 80), ["a"], "one run makes up for what was missed");
}

#[test]
fn followers_follow_successful_whole_runs() {
    let mut queue = RunQueue::new(4);
    queue.add("first", every("first", 60));
    queue.add("second", after("second", "first", CatchUp::Once));
    queue.add("third", after("third", "second", CatchUp::Once));
    assert_eq!(begin(&mut queue, 0), ["first"]);
    assert!(begin(&mut queue, 1).is_empty());
    queue.ended("first", RunResult::Succeeded, at(2));
    assert_eq!(begin(&mut queue, 2), ["second"]);
    queue.ended("second", RunResult::Failed(Kind::Guard), at(3));
    assert!(begin(&mut queue, 3).is_empty(), "a failure is not followed");
    queue.enqueue("first", queued("part", 4, PART)).unwrap();
    assert_eq!(begin(&mut queue, 4), ["first"]);
    queue.ended("first", RunResult::Succeeded, at(5));
    assert!(begin(&mut queue, 5).is_empty(), "a run of one group is not followed");
    assert_eq!(begin(&mut queue, 60), ["first"], "and it served no scheduled time");
}

#[test]
fn a_partial_run_serves_no_scheduled_time() {
    let mut queue = RunQueue::new(4);
    queue.add("a", every("a", 10));
    begin(&mut queue, 0);
    queue.ended("a", RunResult::Succeeded, at(1));
    queue.enqueue("a", queued("part", 9, PART)).unwrap();
    assert_eq!(begin(&mut queue, 9), ["a"]);
    assert!(begin(&mut queue, 10).is_empty(), "one run of a sync at a time");
    queue.ended("a", RunResult::Failed(Kind::Destination), at(11));
    assert_eq!(begin(&mut queue, 11), ["a"], "the scheduled time waited, and a partial failure starts no backoff");
}

#[test]
fn syncs_that_crashed_together_run_one_at_a_time() {
    let mut queue = RunQueue::new(4);
    for (sync, crashes) in [("a", 2), ("b", 1), ("c", 1), ("well", 0)] {
        let backoff = Backoff { failures: crashes, crashes, retry: true, not_before: None };
        queue.add(sync, SyncInit { backoff, ..every(sync, 10) });
    }
    assert_eq!(begin(&mut queue, 0), ["b", "well"], "the one with the fewest crashes, and the one without");
    assert!(begin(&mut queue, 1).is_empty());
    queue.ended("well", RunResult::Succeeded, at(1));
    assert!(begin(&mut queue, 1).is_empty());
    queue.ended("b", RunResult::Succeeded, at(2));
    assert_eq!(begin(&mut queue, 2), ["c"]);
    // It ended: whether well or not, the process is still there.
    queue.ended("c", RunResult::Failed(Kind::Source), at(3));
    assert_eq!(begin(&mut queue, 3), ["a"]);
    let mut beside = begin(&mut queue, 30);
    beside.sort();
    assert_eq!(beside, ["b", "c", "well"], "a sync that has shown that it ends runs beside a crashing one");
    for sync in ["a", "b", "c", "well"] {
        queue.ended(sync, RunResult::Succeeded, at(31));
    }
    assert_eq!(begin(&mut queue, 50).len(), 4, "no sync counts as crashing any more");
}

#[test]
fn a_crashing_sync_that_is_requested_waits_its_turn() {
    let mut queue = RunQueue::new(4);
    for sync in ["a", "b"] {
        let backoff = Backoff { failures: 1, crashes: 1, retry: true, not_before: None };
        queue.add(sync, SyncInit { backoff, ..every(sync, 10) });
    }
    queue.enqueue("b", queued("r1", 0, WHOLE)).unwrap();
    assert_eq!(begin(&mut queue, 0), ["b"], "the requested one comes first");
    queue.enqueue("a", queued("r2", 1, WHOLE)).unwrap();
    assert!(begin(&mut queue, 1).is_empty());
    // A cancelled run has shown nothing, and makes room.
    queue.ended("b", RunResult::Cancelled, at(2));
    assert_eq!(begin(&mut queue, 2), ["a"]);
    queue.ended("a", RunResult::Succeeded, at(3));
    assert_eq!(queue.status("b", at(3)).unwrap().backoff.crashes, 1);
}

#[test]
fn a_plan_keeps_runs_out_until_it_ends() {
    let mut queue = RunQueue::new(1);
    queue.add("a", every("a", 10));
    queue.plan_started("a").unwrap();
    assert!(begin(&mut queue, 0).is_empty());
    assert_eq!(queue.plan_started("a"), Err(EnqueueError::Busy(None)));
    queue.plan_ended("a");
    assert_eq!(begin(&mut queue, 1), ["a"]);
    assert_eq!(queue.plan_started("a"), Err(EnqueueError::Busy(Some("run-1".to_owned()))));
}

#[test]
fn a_removed_sync_ends_its_run_first() {
    let mut queue = RunQueue::new(4);
    queue.add("a", every("a", 1));
    begin(&mut queue, 0);
    queue.remove("a");
    assert_eq!(queue.running(), 1);
    assert!(queue.names().is_empty());
    assert_eq!(queue.enqueue("a", queued("r", 1, WHOLE)), Err(EnqueueError::UnknownSync));
    queue.ended("a", RunResult::Succeeded, at(1));
    assert!(!queue.contains("a"));
    assert!(begin(&mut queue, 9).is_empty());
}
