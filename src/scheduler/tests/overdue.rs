//! Overdue runs: random days of a schedule against the list of its times, and single cases.

use chrono::TimeDelta;
use proptest::prelude::*;

use super::at;
use crate::mapping::{self, CatchUp, Overlap};
use crate::scheduler::cron::{SyncSchedule, Trigger};
use crate::scheduler::timetable::{RunHistory, RunSpan, Timetable};

fn schedule(trigger: Trigger, overlap: Overlap) -> SyncSchedule {
    SyncSchedule {
        sync: "accounts".to_owned(),
        trigger,
        jitter: std::time::Duration::ZERO,
        catch_up: CatchUp::Once,
        overlap,
    }
}

fn every_ten(overlap: Overlap) -> SyncSchedule {
    schedule(
        Trigger::Cron(Box::new(mapping::cron::parse("*/10 * * * *").unwrap()), crate::time_zone::Zone::utc()),
        overlap,
    )
}

/// Since when a run is overdue, in minutes.
fn overdue(table: &mut Timetable, minute: i64) -> Option<i64> {
    table.tick(at(minute));
    table.overdue_since().map(|since| (since - at(0)).num_minutes())
}

#[derive(Debug, Clone)]
enum Happening {
    Passes(i64),
    Starts,
    Ends(bool),
    Restarts,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => (1..25_i64).prop_map(Happening::Passes),
        3 => Just(Happening::Starts),
        3 => any::<bool>().prop_map(Happening::Ends),
        1 => Just(Happening::Restarts),
    ]
}

/// A run as the model remembers it.
#[derive(Debug, Clone, Copy)]
struct Run {
    started: i64,
    ended: Option<i64>,
    succeeded: bool,
}

/// The schedule's times are the multiples of ten: the first one after `after`, if it has come.
fn first_time_after(after: i64, now: i64) -> Option<i64> {
    let first = after.div_euclid(10) * 10 + 10;
    (first <= now).then_some(first)
}

/// What the documentation says, over all runs so far.
fn expected(runs: &[Run], overlap: Overlap, now: i64) -> Option<i64> {
    let success = runs.iter().rposition(|run| run.succeeded && run.ended.is_some());
    let served_until = success.map_or(0, |at| match overlap {
        Overlap::Skip => runs[at].ended.unwrap_or_default(),
        Overlap::Queue => runs[at].started,
    });
    let since = &runs[success.map_or(0, |at| at + 1)..];
    let failed_to_serve =
        since.iter().filter_map(|run| run.ended).any(|ended| first_time_after(served_until, ended).is_some());
    match since.last().filter(|run| run.ended.is_none()) {
        Some(first_attempt) if !failed_to_serve => first_time_after(served_until.max(first_attempt.started), now),
        _ => first_time_after(served_until, now),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn overdue_counts_from_the_oldest_unserved_time(
        happenings in prop::collection::vec(happening(), 1..80),
        queue in any::<bool>(),
    ) {
        let overlap = if queue { Overlap::Queue } else { Overlap::Skip };
        let mut now = 1;
        let mut runs = vec![Run { started: 0, ended: Some(1), succeeded: true }];
        let history = |runs: &[Run]| {
            let recorded =
                |run: &Run| RunSpan { started_at: at(run.started), ended_at: run.ended.map(at) };
            let success = runs.iter().rposition(|run| run.succeeded && run.ended.is_some());
            let since = &runs[success.map_or(0, |at| at + 1)..];
            RunHistory {
                last: runs.last().map(recorded),
                followed_ended_at: None,
                success: success.map(|at| recorded(&runs[at])),
                attempted_at: since.first().map(|run| at(run.started)),
                failed_at: since.iter().filter_map(|run| run.ended).max().map(at),
            }
        };
        let mut table = Timetable::resume(every_ten(overlap), history(&runs), at(now));
        for happening in &happenings {
            let running = runs.last().is_some_and(|run| run.ended.is_none());
            match happening {
                Happening::Passes(minutes) => now += minutes,
                Happening::Starts if !running => {
                    table.started(at(now));
                    runs.push(Run { started: now, ended: None, succeeded: false });
                }
                Happening::Ends(succeeded) if running => {
                    table.ended(*succeeded, at(now));
                    let run = runs.last_mut().unwrap();
                    (run.ended, run.succeeded) = (Some(now), *succeeded);
                }
                Happening::Restarts => {
                    // The run under way is recorded as crashed.
                    if let Some(run) = runs.last_mut().filter(|run| run.ended.is_none()) {
                        run.ended = Some(now);
                    }
                    table = Timetable::resume(every_ten(overlap), history(&runs), at(now));
                }
                Happening::Starts | Happening::Ends(_) => {}
            }
            prop_assert_eq!(overdue(&mut table, now), expected(&runs, overlap, now), "at {}: {:?}", now, runs);
        }
    }
}

#[test]
fn a_short_interval_does_not_hide_how_long_nothing_succeeded() {
    // Every five minutes, and for two hours there is no room for it.
    let mut table = Timetable::resume(
        schedule(Trigger::Every(TimeDelta::minutes(5)), Overlap::Skip),
        RunHistory {
            last: Some(RunSpan { started_at: at(0), ended_at: Some(at(1)) }),
            success: Some(RunSpan { started_at: at(0), ended_at: Some(at(1)) }),
            ..RunHistory::default()
        },
        at(1),
    );
    for minute in 1..120 {
        assert_eq!(overdue(&mut table, minute), (minute >= 5).then_some(5), "at {minute}");
    }
    // Then it runs, fails, and is retried: what is overdue does not start anew with each attempt.
    for minute in (120..240).step_by(10) {
        table.started(at(minute));
        let served = minute == 120;
        assert_eq!(overdue(&mut table, minute), (!served).then_some(5), "the first attempt serves it: {minute}");
        table.ended(false, at(minute + 2));
        assert_eq!(overdue(&mut table, minute + 2), Some(5));
    }
    table.started(at(240));
    table.ended(true, at(247));
    assert_eq!(overdue(&mut table, 247), None, "a success serves all of it");
    assert_eq!(overdue(&mut table, 250), Some(250));
}

#[test]
fn a_run_that_goes_on_is_late_for_what_it_does_not_serve() {
    let nightly = || schedule(Trigger::Every(TimeDelta::hours(24)), Overlap::Skip);
    let mut table = Timetable::resume(nightly(), RunHistory::default(), at(0));
    assert_eq!(overdue(&mut table, 0), Some(0), "never run: due at once");
    table.started(at(3));
    assert_eq!(overdue(&mut table, 23 * 60), None, "a long run is not late");
    assert_eq!(overdue(&mut table, 30 * 60), Some(24 * 60 + 3), "one that the next night finds running is");
}

#[test]
fn what_a_pause_delayed_counts_from_its_end() {
    let mut table = Timetable::resume(every_ten(Overlap::Skip), RunHistory::default(), at(1));
    assert_eq!(overdue(&mut table, 90), Some(10));
    table.resumed(at(95));
    assert_eq!(overdue(&mut table, 95), Some(95));
    assert_eq!(overdue(&mut table, 99), Some(95));
}

#[test]
fn times_that_are_to_be_skipped_are_not_overdue() {
    let schedule = SyncSchedule { catch_up: CatchUp::Skip, ..every_ten(Overlap::Skip) };
    let last = Some(RunSpan { started_at: at(0), ended_at: Some(at(1)) });
    let mut table = Timetable::resume(schedule, RunHistory { last, success: last, ..RunHistory::default() }, at(95));
    assert_eq!(overdue(&mut table, 95), None, "the program was down, and the schedule says to skip what that missed");
    assert_eq!(overdue(&mut table, 100), Some(100));
}

#[test]
fn a_clock_set_back_makes_nothing_late_in_the_future() {
    let mut table = Timetable::resume(every_ten(Overlap::Skip), RunHistory::default(), at(1));
    assert_eq!(overdue(&mut table, 500), Some(10));
    assert_eq!(overdue(&mut table, 5), Some(5), "an hour that has not come is not overdue");
}
