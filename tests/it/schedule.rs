//! `groupcast schedule` with real mappings and their runs.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::support::cli::{Place, Receiver, mapping};

/// A mapping of one trait of its own; `schedule` comes above it.
fn scheduled(name: &str, schedule: &str) -> String {
    format!("{schedule}\n{}", mapping(&format!("{name} = \"n\""), ""))
}

fn place() -> Place {
    let place = Place::with(&Receiver::start());
    place.warehouse("CREATE TABLE accounts AS SELECT 'k' || i AS id, i AS n FROM range(3) r(i)");
    let settings = place.read("groupcast.toml");
    place.write("groupcast.toml", &format!("{settings}\n[daemon]\ntimezone = \"Asia/Kathmandu\"\n"));
    for (name, schedule) in [
        ("nightly", "schedule = { cron = '0 2 * * *', timezone = 'Europe/Berlin' }"),
        ("daily", "schedule = '@daily'"),
        ("often", "schedule = { every = '45m' }"),
        ("follower", "schedule = { after = 'often' }"),
        ("off", "enabled = false\nschedule = '@daily'"),
        ("plain", ""),
    ] {
        place.mapping(name, &scheduled(name, schedule));
    }
    place
}

fn sync<'a>(all: &'a Value, name: &str) -> &'a Value {
    all["syncs"].as_array().unwrap().iter().find(|sync| sync["sync"] == name).unwrap()
}

fn time(text: &Value) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text.as_str().unwrap()).unwrap().to_utc()
}

#[test]
fn the_next_times_are_shown_with_their_time_zone() {
    let place = place();
    let all = place.run(&["schedule", "--next", "5", "--json"]).exits(0).json();
    let now = time(&all["now"]);
    assert_eq!(all["syncs"].as_array().unwrap().len(), 6);
    for (name, zone, hour) in
        [("nightly", "Europe/Berlin", "T02:00:00+0"), ("daily", "Asia/Kathmandu", "T00:00:00+05:45")]
    {
        let sync = sync(&all, name);
        assert_eq!((&sync["timezone"], &sync["last_run"]), (&json!(zone), &Value::Null));
        let next = sync["next"].as_array().unwrap();
        assert_eq!(next.len(), 5);
        let mut before = now;
        for fire in next {
            assert!(fire["local"].as_str().unwrap().contains(hour), "{fire}");
            let utc = time(&fire["utc"]);
            assert!(time(&fire["local"]) == utc && utc > before && utc - before < TimeDelta::hours(26), "{fire}");
            before = utc;
        }
    }
    let often = sync(&all, "often");
    assert!(often["overdue_since"].is_string() && often["schedule"] == "every 45m", "{often}");
    for (name, enabled) in [("follower", true), ("off", false), ("plain", true)] {
        let sync = sync(&all, name);
        assert_eq!((&sync["enabled"], &sync["next"]), (&json!(enabled), &json!([])), "{sync}");
    }
    let text = place.run(&["schedule"]).exits(0);
    let nightly = text.stdout.lines().position(|line| line.starts_with("nightly")).unwrap();
    let lines: Vec<&str> = text.stdout.lines().skip(nightly).take(3).collect();
    assert!(lines.iter().all(|line| line.contains(" 02:00:00 +0")), "three times: {lines:?}");
    text.says(&[
        "after often succeeds",
        "disabled",
        "manual: no schedule",
        "immediately: it never ran",
        "No daemon is running",
    ]);
    let one = place.run(&["schedule", "daily"]).exits(0);
    assert!(!one.stdout.contains("nightly"), "{}", one.stdout);
    place.run(&["schedule", "dayly"]).exits(2).says(&["did you mean `daily`?"]);
    place.run(&["schedule", "--next", "0"]).exits(2);
    assert!(place.ledger_bytes().is_empty(), "looking writes nothing");
}

#[test]
fn runs_on_record_move_intervals_and_followers() {
    let place = place();
    place.run(&["run", "follower"]).exits(0);
    place.run(&["run", "often"]).exits(0);
    let ledger = place.ledger_bytes();
    let all = place.run(&["schedule", "--json"]).exits(0).json();
    assert_eq!(place.ledger_bytes(), ledger, "the ledger is only read");
    let (often, follower) = (sync(&all, "often"), sync(&all, "follower"));
    let started = time(&often["last_run"]["started_at"]);
    assert_eq!(often["overdue_since"], Value::Null);
    let apart = time(&often["next"][0]["utc"]) - started;
    assert!(apart <= TimeDelta::minutes(45) && apart > TimeDelta::minutes(44), "{apart}");
    assert_eq!(follower["overdue_since"].as_str().map(|text| text.len()), Some(20), "often ended after it: {follower}");
    place.run(&["schedule", "often"]).exits(0).says(&["succeeded"]);
    place.run(&["schedule", "follower"]).exits(0).says(&["immediately: overdue", "since 20"]);
}

#[test]
fn a_schedule_that_cannot_be_is_told_at_its_place() {
    let place = place();
    place.mapping("follower", &scheduled("follower", "schedule = { after = 'oftn' }"));
    place.run(&["schedule"]).exits(0).says(&["nightly", "follower.toml has mistakes"]);
    place.run(&["check"]).exits(2).says(&["sync `oftn` not found", "did you mean `often`?", "follower.toml:1:22"]);
    place.mapping("follower", &scheduled("follower", "schedule = { cron = '@daily', timezone = 'Berlin' }"));
    place.run(&["check"]).exits(2).says(&["`timezone` is not a time zone", "did you mean `Europe/Berlin`?"]);
    place.mapping("follower", &scheduled("follower", "schedule = '@daily'"));
    let settings = place.read("groupcast.toml");
    place.write("groupcast.toml", &settings.replace("Asia/Kathmandu", "Asia/Katmandoo"));
    place.run(&["check"]).exits(2).says(&["did you mean `Asia/K", "groupcast.toml"]);
}

#[test]
fn a_country_that_changed_its_clocks_this_year_runs_at_its_new_time() {
    let place = place();
    // British Columbia stays on UTC-7, Manitoba on UTC-5, Morocco on UTC: since this year, in winter too.
    for (name, zone, offset) in [
        ("vancouver", "America/Vancouver", "-07:00"),
        ("winnipeg", "America/Winnipeg", "-05:00"),
        ("casablanca", "Africa/Casablanca", "+00:00"),
    ] {
        let schedule = format!("schedule = {{ cron = '0 9 20 1 *', timezone = '{zone}' }}");
        place.mapping(name, &scheduled(name, &schedule));
        let all = place.run(&["schedule", name, "--next", "1", "--json"]).exits(0).json();
        let local = sync(&all, name)["next"][0]["local"].as_str().unwrap();
        assert!(local.ends_with(&format!("-01-20T09:00:00{offset}")), "{name}: {local}");
        assert!(all["tzdata"].as_str().unwrap() >= "2026f", "{}", all["tzdata"]);
    }
    // An abbreviation is no time zone, and suggests one that keeps daylight saving.
    place.mapping("vancouver", &scheduled("vancouver", "schedule = { cron = '0 9 * * *', timezone = 'PST' }"));
    place.run(&["check"]).exits(2).says(&["did you mean `America/Los_Angeles`?"]);
}
