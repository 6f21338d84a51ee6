//! Scheduled times: a simulated year per time zone against a minute-by-minute walk, and each rule alone.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, NaiveDateTime, TimeDelta, TimeZone, Timelike, Utc};

use crate::mapping::{self, CatchUp, Overlap};
use crate::scheduler::cron::{ScheduledTime, SyncSchedule, Trigger};
use crate::scheduler::timetable::{RunHistory, RunSpan, Timetable};
use crate::time_zone::Zone;

fn at(text: &str) -> DateTime<Utc> {
    NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").unwrap().and_utc()
}

fn minutes(minutes: i64) -> TimeDelta {
    TimeDelta::minutes(minutes)
}

fn schedule(trigger: Trigger) -> SyncSchedule {
    SyncSchedule {
        sync: "accounts".to_owned(),
        trigger,
        jitter: std::time::Duration::ZERO,
        catch_up: CatchUp::Once,
        overlap: Overlap::Skip,
    }
}

fn tz(name: &str) -> Zone {
    Zone::named(name).unwrap()
}

fn cron(text: &str, zone: Zone) -> SyncSchedule {
    schedule(Trigger::Cron(Box::new(mapping::cron::parse(text).unwrap()), zone))
}

fn every(interval: i64) -> SyncSchedule {
    schedule(Trigger::Every(minutes(interval)))
}

/// The first `count` scheduled times after `from`.
fn times(schedule: &SyncSchedule, from: &str, count: usize) -> Vec<DateTime<Utc>> {
    let next = |next: &ScheduledTime| schedule.next_after(next.time);
    std::iter::successors(schedule.next_after(at(from)), next).map(|next| next.time).take(count).collect()
}

/// A cron expression and, written apart from it, whether it means a wall time.
type Case = (&'static str, fn(NaiveDateTime) -> bool);

const CASES: [Case; 8] = [
    ("0 2 * * *", |wall| (wall.hour(), wall.minute()) == (2, 0)),
    ("30 2 * * *", |wall| (wall.hour(), wall.minute()) == (2, 30)),
    ("*/15 * * * *", |wall| wall.minute() % 15 == 0),
    ("@daily", |wall| (wall.hour(), wall.minute()) == (0, 0)),
    ("5 1-3 * * *", |wall| (1..=3).contains(&wall.hour()) && wall.minute() == 5),
    ("45 1 * * 0", |wall| (wall.hour(), wall.minute()) == (1, 45) && wall.weekday() == chrono::Weekday::Sun),
    ("59 23 31 * *", |wall| (wall.day(), wall.hour(), wall.minute()) == (31, 23, 59)),
    ("0 */6 * 3,11 1-5", |wall| {
        wall.minute() == 0
            && wall.hour() % 6 == 0
            && [3, 11].contains(&wall.month())
            && wall.weekday().number_from_monday() <= 5
    }),
];

fn zones() -> [Zone; 9] {
    [
        Zone::utc(),
        tz("Europe/Berlin"),
        tz("America/New_York"),
        tz("America/St_Johns"),
        // Half an hour of daylight saving.
        tz("Australia/Lord_Howe"),
        tz("Asia/Kathmandu"),
        // The gap is at midnight, where @daily is.
        tz("America/Santiago"),
        // Daylight saving across the end of the year.
        tz("Pacific/Auckland"),
        // Changes around Ramadan, not around summer.
        tz("Africa/Casablanca"),
    ]
}

/// Every minute of the year as a wall clock shows it: a wall time that the clock jumped over counts for the
/// minute after the jump, and one that it has shown before counts no more.
fn walk(
    zone: Zone,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    cases: &[Case],
) -> BTreeMap<&'static str, Vec<DateTime<Utc>>> {
    let mut starts: BTreeMap<&'static str, Vec<DateTime<Utc>>> = BTreeMap::new();
    let wall = |instant: DateTime<Utc>| zone.from_utc_datetime(&instant.naive_utc()).naive_local();
    let mut shown = wall(from - minutes(1));
    let mut instant = from;
    while instant < to {
        let shows = wall(instant);
        let mut new = Vec::new();
        while shown < shows {
            shown += minutes(1);
            new.push(shown);
        }
        for (text, means) in cases {
            if new.iter().any(|wall| means(*wall)) {
                starts.entry(text).or_default().push(instant);
            }
        }
        instant += minutes(1);
    }
    starts
}

#[test]
fn a_year_in_nine_time_zones_equals_a_walk_over_its_minutes() {
    let (from, to) = (at("2026-01-01 00:00"), at("2027-01-01 00:00"));
    let mut changes = 0;
    for zone in zones() {
        let expected = walk(zone, from, to, &CASES);
        for (text, _) in CASES {
            let schedule = cron(text, zone);
            let mut starts = Vec::new();
            let mut table = Timetable::resume(schedule, RunHistory::default(), from - minutes(1));
            // A daemon that sleeps until the next tick, with runs that take no time.
            let mut now = from - minutes(1);
            while now < to {
                let seen = table.tick(now);
                if let Some(time) = seen.now {
                    assert_eq!((time, seen.skipped), (now, 0), "{text} in {zone}");
                    starts.push(now);
                    table.started(now);
                    table.ended(true, now);
                }
                now = seen.next.unwrap();
            }
            assert_eq!(starts, expected[text], "{text} in {zone}");
        }
        let daily = &expected["0 2 * * *"];
        let days = daily.windows(2).map(|pair| pair[1] - pair[0]).filter(|day| *day != minutes(24 * 60)).count();
        assert_eq!(daily.len(), 365, "{zone}");
        changes += days;
    }
    assert!(changes >= 12, "the year has its clock changes: {changes}");
}

#[test]
fn times_in_a_gap_come_once_right_after_it() {
    // 2026-03-29 in Berlin: 02:00 to 03:00 does not exist; 01:00 UTC shows 03:00.
    let nightly = cron("30 2 * * *", tz("Europe/Berlin"));
    assert_eq!(times(&nightly, "2026-03-28 12:00", 2), [at("2026-03-29 01:00"), at("2026-03-30 00:30")],);
    let often = cron("*/20 2,3 * * *", tz("Europe/Berlin"));
    assert_eq!(
        times(&often, "2026-03-29 00:00", 3),
        [at("2026-03-29 01:00"), at("2026-03-29 01:20"), at("2026-03-29 01:40")],
    );
    // 2026-10-04 in Lord Howe: 02:00 to 02:30 does not exist; 15:30 UTC of the day before shows 02:30.
    let half = cron("15 2 * * *", tz("Australia/Lord_Howe"));
    assert_eq!(times(&half, "2026-10-03 12:00", 1), [at("2026-10-03 15:30")]);
    // 2011-12-30 does not exist in Samoa at all: a gap of a day.
    let samoa = cron("0 12 * * *", tz("Pacific/Apia"));
    assert_eq!(times(&samoa, "2011-12-29 23:00", 2), [at("2011-12-30 10:00"), at("2011-12-30 22:00")],);
}

#[test]
fn times_that_exist_twice_come_the_first_time() {
    // 2026-10-25 in Berlin: 02:00 to 03:00 comes at 00:00 UTC and again at 01:00 UTC.
    let nightly = cron("30 2 * * *", tz("Europe/Berlin"));
    assert_eq!(times(&nightly, "2026-10-24 12:00", 2), [at("2026-10-25 00:30"), at("2026-10-26 01:30")],);
    // QueuedRun in the middle of the second pass.
    assert_eq!(times(&nightly, "2026-10-25 01:10", 1), [at("2026-10-26 01:30")]);
    let hourly = cron("@hourly", tz("Europe/Berlin"));
    assert_eq!(times(&hourly, "2026-10-24 23:30", 2), [at("2026-10-25 00:00"), at("2026-10-25 02:00")],);
    let seconds = cron("*/10 * * * * *", tz("Europe/Berlin"));
    assert_eq!(times(&seconds, "2026-10-25 01:10", 1), [at("2026-10-25 02:00")]);
}

#[test]
fn scheduled_times_end_with_the_years_and_no_time_is_too_far() {
    let once = cron("0 0 2 1 1 ? 2027", Zone::utc());
    assert_eq!(times(&once, "2026-01-01 00:00", 5), [at("2027-01-01 02:00")]);
    for zone in zones() {
        assert_eq!(cron("@daily", zone).next_after(DateTime::<Utc>::MAX_UTC), None);
        assert!(cron("@daily", zone).next_after(DateTime::<Utc>::MIN_UTC).is_some());
    }
    assert_eq!(every(45).next_after(DateTime::<Utc>::MAX_UTC), None);
}

#[test]
fn jitter_delays_the_same_sync_and_time_equally() {
    let mut schedule = cron("0 * * * *", Zone::utc());
    schedule.jitter = std::time::Duration::from_secs(300);
    let mut other = schedule.clone();
    other.sync = "contacts".to_owned();
    let mut delays = std::collections::BTreeSet::new();
    let mut same = 0;
    let mut from = at("2026-01-01 00:00");
    for _ in 0..500 {
        let (next, again, theirs) =
            (schedule.next_after(from), schedule.clone().next_after(from), other.next_after(from));
        assert_eq!(next, again);
        let ScheduledTime { time, starts_at } = next.unwrap();
        let delay = (starts_at - time).num_seconds();
        assert!((0..=300).contains(&delay), "{delay}");
        delays.insert(delay);
        same += u64::from(theirs == next);
        from = time;
    }
    assert!(delays.len() > 200 && same < 20, "{} delays, {same} the same", delays.len());
    // The timetable is due at the delayed time, once per scheduled time.
    let start = at("2026-01-01 00:00");
    let starts = Timetable::resume(schedule.clone(), RunHistory::default(), start).upcoming(start, 24);
    let first = schedule.next_after(start).unwrap();
    assert_eq!((starts.len(), starts[0]), (24, first.starts_at));
    assert!(starts.windows(2).all(|pair| (55..=65).contains(&(pair[1] - pair[0]).num_minutes())), "{starts:?}");
}

/// A timetable whose last run took from `started` to `ended`.
fn resumed(schedule: SyncSchedule, started: &str, ended: &str, now: &str) -> Timetable {
    let last = RunSpan { started_at: at(started), ended_at: Some(at(ended)) };
    Timetable::resume(schedule, RunHistory { last: Some(last), ..RunHistory::default() }, at(now))
}

#[test]
fn a_time_during_a_run_is_skipped_or_queued_once() {
    for (overlap, due, skipped) in [(Overlap::Skip, None, 3), (Overlap::Queue, Some(at("2026-01-01 03:00")), 2)] {
        let mut schedule = cron("0 * * * *", Zone::utc());
        schedule.overlap = overlap;
        let mut table = Timetable::resume(schedule, RunHistory::default(), at("2025-12-31 23:30"));
        assert_eq!(table.tick(at("2026-01-01 00:00")).now, Some(at("2026-01-01 00:00")));
        table.started(at("2026-01-01 00:00"));
        let seen = table.tick(at("2026-01-01 01:00"));
        assert_eq!((seen.now, seen.next), (None, Some(at("2026-01-01 02:00"))), "nothing is due during a run");
        // No tick at 02:00 and 03:00.
        table.ended(true, at("2026-01-01 03:20"));
        let after = table.tick(at("2026-01-01 03:20"));
        assert_eq!((after.now, after.skipped + seen.skipped), (due, skipped), "{overlap:?}");
        assert_eq!(after.next, Some(at("2026-01-01 04:00")));
        if due.is_some() {
            table.started(at("2026-01-01 03:20"));
            table.ended(true, at("2026-01-01 03:40"));
            assert_eq!(table.tick(at("2026-01-01 03:40")).now, None, "one run, not one per scheduled time");
        }
    }
}

#[test]
fn missed_times_are_made_up_for_by_one_run_or_skipped() {
    for (catch_up, due, skipped) in [(CatchUp::Once, Some(at("2026-01-05 02:00")), 2), (CatchUp::Skip, None, 3)] {
        let mut schedule = cron("0 2 * * *", Zone::utc());
        schedule.catch_up = catch_up;
        let mut table = resumed(schedule.clone(), "2026-01-02 02:00", "2026-01-02 02:10", "2026-01-05 09:00");
        let seen = table.tick(at("2026-01-05 09:00"));
        assert_eq!((seen.now, seen.skipped, seen.next), (due, skipped, Some(at("2026-01-06 02:00"))), "{catch_up:?}");
        if due.is_some() {
            table.started(at("2026-01-05 09:00"));
            table.ended(true, at("2026-01-05 09:10"));
        }
        assert_eq!(table.tick(at("2026-01-05 09:10")).now, None);
        // A restart within a minute misses nothing.
        let mut table = resumed(schedule, "2026-01-02 02:00", "2026-01-02 02:10", "2026-01-03 02:00");
        assert_eq!(table.tick(at("2026-01-03 02:01")).now, Some(at("2026-01-03 02:00")), "{catch_up:?}");
    }
    // Never run, so nothing was missed.
    let mut table = Timetable::resume(cron("@daily", Zone::utc()), RunHistory::default(), at("2026-01-05 09:00"));
    assert_eq!(table.tick(at("2026-01-05 09:00")).now, None);
    // A year of missed seconds is answered at once, by its last.
    let mut table =
        resumed(cron("* * * * * *", Zone::utc()), "2025-01-01 00:00", "2025-01-01 00:00", "2026-01-01 00:00");
    assert_eq!(table.tick(at("2026-01-01 00:00")).now, Some(at("2026-01-01 00:00")));
}

#[test]
fn what_was_skipped_during_the_recorded_run_was_not_missed() {
    let mut schedule = cron("0 * * * *", Zone::utc());
    let due = |schedule: &SyncSchedule| {
        resumed(schedule.clone(), "2026-01-01 00:00", "2026-01-01 01:10", "2026-01-01 01:30")
            .tick(at("2026-01-01 01:30"))
    };
    assert_eq!(due(&schedule).now, None);
    schedule.overlap = Overlap::Queue;
    assert_eq!(due(&schedule).now, Some(at("2026-01-01 01:00")));
    // A crashed run skipped nothing.
    schedule.overlap = Overlap::Skip;
    let crashed = RunSpan { started_at: at("2026-01-01 00:00"), ended_at: None };
    let history = RunHistory { last: Some(crashed), ..RunHistory::default() };
    let mut table = Timetable::resume(schedule, history, at("2026-01-01 01:30"));
    assert_eq!(table.tick(at("2026-01-01 01:30")).now, Some(at("2026-01-01 01:00")));
}

#[test]
fn an_interval_counts_from_the_last_start() {
    let mut table = Timetable::resume(every(45), RunHistory::default(), at("2026-01-01 00:07"));
    assert_eq!(table.tick(at("2026-01-01 00:07")).now, Some(at("2026-01-01 00:07")), "the first run is due at once");
    table.started(at("2026-01-01 00:08"));
    table.ended(true, at("2026-01-01 00:38"));
    let seen = table.tick(at("2026-01-01 00:38"));
    assert_eq!((seen.now, seen.next), (None, Some(at("2026-01-01 00:53"))));
    // A manual run counts too.
    table.started(at("2026-01-01 00:40"));
    table.ended(true, at("2026-01-01 00:41"));
    assert_eq!(table.tick(at("2026-01-01 00:53")).next, Some(at("2026-01-01 01:25")));
    // A run longer than the interval skips what it ran over.
    table.started(at("2026-01-01 02:00"));
    table.ended(true, at("2026-01-01 03:40"));
    let seen = table.tick(at("2026-01-01 03:40"));
    assert_eq!((seen.now, seen.skipped, seen.next), (None, 2, Some(at("2026-01-01 04:15"))));
    // Over a clock change in any zone it stays an interval.
    assert_eq!(
        times(&every(60), "2026-03-29 00:00", 3),
        [at("2026-03-29 01:00"), at("2026-03-29 02:00"), at("2026-03-29 03:00")],
    );
    for (catch_up, due, next) in
        [(CatchUp::Once, Some(at("2026-01-01 09:00")), "2026-01-01 09:45"), (CatchUp::Skip, None, "2026-01-01 09:45")]
    {
        let mut schedule = every(45);
        schedule.catch_up = catch_up;
        let mut table = resumed(schedule, "2026-01-01 00:00", "2026-01-01 00:01", "2026-01-01 09:10");
        let seen = table.tick(at("2026-01-01 09:10"));
        assert_eq!((seen.now, seen.next), (due, Some(at(next))), "{catch_up:?}");
    }
}

#[test]
fn following_another_sync_is_due_when_it_succeeded() {
    let after = |overlap| SyncSchedule { overlap, ..schedule(Trigger::After("first".to_owned())) };
    let now = at("2026-01-01 00:00");
    for overlap in [Overlap::Skip, Overlap::Queue] {
        let mut table = Timetable::resume(after(overlap), RunHistory::default(), now);
        assert_eq!((table.tick(now).now, table.tick(now).next), (None, None));
        table.followed_ended(now);
        assert_eq!(table.tick(now).now, Some(now));
        table.started(now);
        table.followed_ended(now + minutes(5));
        table.followed_ended(now + minutes(6));
        table.ended(true, now + minutes(7));
        let queued = (overlap == Overlap::Queue).then_some(now + minutes(6));
        assert_eq!(table.tick(now + minutes(7)).now, queued, "{overlap:?}");
    }
    // The program ended between the other's end and its own start.
    let last = Some(RunSpan { started_at: now, ended_at: Some(now + minutes(1)) });
    for (catch_up, ended, due) in [
        (CatchUp::Once, Some(now + minutes(60)), Some(now + minutes(60))),
        (CatchUp::Skip, Some(now + minutes(60)), None),
        (CatchUp::Once, Some(now - minutes(1)), None),
        (CatchUp::Once, None, None),
    ] {
        let schedule = SyncSchedule { catch_up, ..after(Overlap::Skip) };
        let mut table = Timetable::resume(
            schedule,
            RunHistory { last, followed_ended_at: ended, ..RunHistory::default() },
            now + minutes(90),
        );
        assert_eq!(table.tick(now + minutes(90)).now, due, "{catch_up:?} {ended:?}");
    }
}

#[test]
fn a_clock_set_back_repeats_nothing_and_waits_no_longer_than_an_interval() {
    let mut table = Timetable::resume(cron("0 2 * * *", Zone::utc()), RunHistory::default(), at("2026-01-05 01:00"));
    assert_eq!(table.tick(at("2026-01-05 02:00")).now, Some(at("2026-01-05 02:00")));
    table.started(at("2026-01-05 02:00"));
    table.ended(true, at("2026-01-05 02:05"));
    // An hour back: 02:00 comes again and starts nothing.
    for now in ["2026-01-05 01:30", "2026-01-05 02:00", "2026-01-05 02:30"] {
        let seen = table.tick(at(now));
        assert_eq!((seen.now, seen.next), (None, Some(at("2026-01-06 02:00"))), "{now}");
    }
    // A year back: the next night counts.
    let seen = table.tick(at("2025-01-05 12:00"));
    assert_eq!((seen.now, seen.next), (None, Some(at("2025-01-06 02:00"))));
    assert_eq!(table.tick(at("2025-01-06 02:00")).now, Some(at("2025-01-06 02:00")));

    // The same from the record of a run, after a restart.
    let daily = || cron("0 2 * * *", Zone::utc());
    let mut table = resumed(daily(), "2026-01-05 02:00", "2026-01-05 02:05", "2026-01-05 01:30");
    assert_eq!(table.tick(at("2026-01-05 01:30")).next, Some(at("2026-01-06 02:00")));
    let mut table = resumed(daily(), "2030-01-05 02:00", "2030-01-05 02:05", "2026-01-05 01:30");
    assert_eq!(table.tick(at("2026-01-05 01:30")).next, Some(at("2026-01-05 02:00")));

    // An interval starts anew.
    let mut table = resumed(every(45), "2026-01-05 02:00", "2026-01-05 02:05", "2026-01-05 02:10");
    assert_eq!(table.tick(at("2026-01-05 02:10")).next, Some(at("2026-01-05 02:45")));
    assert_eq!(table.tick(at("2026-01-05 01:10")).next, Some(at("2026-01-05 01:55")));
    assert_eq!(table.tick(at("2026-01-05 01:55")).now, Some(at("2026-01-05 01:55")));
}

#[test]
fn the_next_times_are_known_during_a_run_too() {
    let now = at("2026-01-05 02:00");
    for overlap in [Overlap::Skip, Overlap::Queue] {
        for schedule in [cron("0 2 * * *", Zone::utc()), every(60), schedule(Trigger::After("other".to_owned()))] {
            let count = if matches!(schedule.trigger, Trigger::After(_)) { 0 } else { 3 };
            let mut table =
                Timetable::resume(SyncSchedule { overlap, ..schedule }, RunHistory::default(), now - minutes(1));
            table.tick(now);
            table.started(now);
            assert_eq!(table.upcoming(now + minutes(5), 3).len(), count, "{overlap:?}");
            // A scheduled time that passed during it changes nothing about that.
            table.tick(now + TimeDelta::days(2));
            assert_eq!(table.upcoming(now + TimeDelta::days(2), 3).len(), count, "{overlap:?}");
        }
    }
}
