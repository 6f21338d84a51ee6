//! A daemon that is killed in the middle of a run, or stopped: nothing is lost, and little is sent twice.

use std::collections::BTreeMap;
use std::time::Duration;

use groupcast::io::{Clock, SystemClock};
use serde_json::{Value, json};

use super::{holding, slow, wide, wide_mapping};
use crate::support::cli::{Receiver, identifications, until};
use crate::support::daemon::Daemon;

const GROUPS: usize = 400;
/// Groups per request: a request carries 1,024 traits of a hundred each.
const PER_REQUEST: usize = 10;
const IN_FLIGHT: usize = 2;

/// How often each group was sent, over all requests.
fn sent(receiver: &Receiver) -> BTreeMap<String, usize> {
    let mut sent = BTreeMap::new();
    for request in receiver.since(0).iter().filter(|request| request.status == 200) {
        for one in identifications(&request.body) {
            *sent.entry(one["group_value"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    sent
}

fn daily(daemon: &Daemon) -> Value {
    daemon.get("/api/v1/syncs/accounts").is(200)
}

#[test]
fn runs_that_crashed_together_start_again_one_at_a_time() {
    let receiver = Receiver::start();
    let place = wide(&receiver, 40);
    let syncs = ["accounts", "teams", "units"];
    let kinds = ["company", "team", "unit"];
    for (sync, kind) in syncs.iter().zip(kinds) {
        place.mapping(
            sync,
            &wide_mapping("schedule = { every = '24h' }").replace("\"company\"", &format!("\"{kind}\"")),
        );
    }
    slow(&receiver, 700);
    // GIVEN a process that dies while all of them run
    let daemon = Daemon::start(&place);
    let running = |daemon: &Daemon| daemon.get("/api/v1/about").is(200)["running"].as_u64().unwrap();
    // A run that has not sent anything yet may not be on record either, and would be no suspect.
    let sends = |kind: &str| {
        let mut requests = receiver.since(0).into_iter();
        requests.any(|request| identifications(&request.body).iter().any(|one| one["group_type"] == kind))
    };
    until("all send", || (running(&daemon) == 3 && kinds.iter().all(|kind| sends(kind))).then_some(()));
    daemon.kill();
    // WHEN it starts again
    let daemon = Daemon::start(&place);
    let mut most = 0;
    until("all have succeeded", || {
        most = most.max(running(&daemon));
        let last = |sync: &&str| daemon.get(&format!("/api/v1/syncs/{sync}")).is(200)["runs"][0]["status"].clone();
        syncs.iter().all(|sync| last(sync) == "succeeded").then_some(())
    });
    // THEN they ran one after the other
    assert_eq!(most, 1);
    let output = daemon.stop().exits(0);
    assert!(output.stderr.contains("they run one at a time"), "{}", output.stderr);
}

#[test]
fn a_daemon_killed_in_the_middle_of_a_run_goes_on_where_it_was() {
    let receiver = Receiver::start();
    let place = wide(&receiver, GROUPS);
    place.mapping("accounts", &wide_mapping("schedule = { every = '24h' }"));
    slow(&receiver, 60);
    // A sync that never ran is due at once.
    let daemon = Daemon::start(&place);
    until("half of it is sent", || (receiver.requests() > GROUPS / PER_REQUEST / 2).then_some(()));
    let first = daily(&daemon)["runs"][0]["run"].as_str().unwrap().to_owned();
    daemon.kill();
    slow(&receiver, 0);
    // WHEN it starts again, the day is not over and no scheduled time has come
    let daemon = Daemon::start(&place);
    let second = until("it goes on by itself", || {
        let runs = daily(&daemon)["runs"].as_array().unwrap().clone();
        (runs[0]["run"] != json!(first) && runs[0]["status"] == "succeeded").then(|| runs.clone())
    });
    assert_eq!((&second[0]["started_by"], &second[1]["status"]), (&json!("retry"), &json!("crashed")), "{second:?}");
    assert_eq!(second.len(), 2);
    // THEN everything arrived, and only what was in flight was sent again
    assert_eq!(holding(&receiver, "t99", 0), GROUPS);
    let sent = sent(&receiver);
    let twice = sent.values().filter(|count| **count > 1).count();
    assert_eq!(sent.len(), GROUPS);
    assert!(sent.values().all(|count| *count <= 2), "{sent:?}");
    assert!(twice <= IN_FLIGHT * PER_REQUEST + PER_REQUEST, "{twice} groups were sent twice");
    // AND the schedule goes on from there
    let next = daily(&daemon)["sync"]["schedule"]["next"][0]["utc"].as_str().unwrap().to_owned();
    let hours = chrono::DateTime::parse_from_rfc3339(&next).unwrap().to_utc() - SystemClock::start().now();
    assert!((23..=24).contains(&hours.num_hours()), "{next}");
    daemon.stop().exits(0);
}

#[test]
fn a_daemon_stops_in_time_and_continues_later() {
    let receiver = Receiver::start();
    let place = wide(&receiver, GROUPS);
    place.mapping("accounts", &wide_mapping("schedule = { every = '24h' }"));
    slow(&receiver, 100);
    let daemon = Daemon::start(&place);
    until("it sends", || (receiver.requests() > 5).then_some(()));
    let clock = SystemClock::start();
    daemon.stop().exits(0);
    assert!(clock.elapsed() < Duration::from_secs(20), "what is in flight ends, nothing more is started");
    let before = sent(&receiver);
    assert!(before.len() < GROUPS);
    let runs = place.run(&["runs", "--json"]).exits(0).json();
    assert_eq!(runs["runs"][0]["status"], "cancelled");
    slow(&receiver, 0);
    let daemon = Daemon::start(&place);
    until("it goes on", || (holding(&receiver, "t99", 0) == GROUPS).then_some(()));
    let sent = sent(&receiver);
    assert!(sent.values().all(|count| *count == 1), "what was acknowledged was recorded: {sent:?}");
    daemon.stop().exits(0);
}

#[test]
fn a_drain_has_an_end() {
    let receiver = Receiver::start();
    let mut place = wide(&receiver, GROUPS);
    place.set("GROUPCAST__DAEMON__DRAIN", "1s");
    place.mapping("accounts", &wide_mapping("schedule = { every = '24h' }"));
    slow(&receiver, 30_000);
    let daemon = Daemon::start(&place);
    until("requests are in flight", || {
        (daily(&daemon)["sync"]["activity"]["running"]["requests"] == json!(2)).then_some(())
    });
    let clock = SystemClock::start();
    daemon.stop().exits(0);
    assert!(clock.elapsed() < Duration::from_secs(15), "{:?}", clock.elapsed());
    let status = place.run(&["status", "--json"]).exits(0).json();
    assert_eq!(status["syncs"][0]["last_run"]["counts"]["unconfirmed"], json!(2 * PER_REQUEST), "{status}");
}

#[test]
fn a_drain_waits_for_slow_responses() {
    let receiver = Receiver::start();
    let place = wide(&receiver, GROUPS);
    place.mapping("accounts", &wide_mapping("schedule = { every = '24h' }"));
    // Longer than a run of the command line waits, and less than the drain of half a minute.
    slow(&receiver, 12_000);
    let daemon = Daemon::start(&place);
    until("requests are in flight", || (receiver.requests() == IN_FLIGHT).then_some(()));
    daemon.stop().exits(0);
    let status = place.run(&["status", "--json"]).exits(0).json();
    let counts = &status["syncs"][0]["last_run"]["counts"];
    let delivered = json!(IN_FLIGHT * PER_REQUEST);
    assert_eq!((&counts["delivered"], &counts["unconfirmed"]), (&delivered, &json!(0)), "{status}");
}

#[test]
fn a_second_signal_abandons_what_is_in_flight_at_once() {
    let receiver = Receiver::start();
    let place = wide(&receiver, GROUPS);
    place.mapping("accounts", &wide_mapping("schedule = { every = '24h' }"));
    slow(&receiver, 30_000);
    let daemon = Daemon::start(&place);
    until("requests are in flight", || (receiver.requests() == IN_FLIGHT).then_some(()));
    let clock = SystemClock::start();
    // GIVEN a drain that would take half a minute
    daemon.signal("INT");
    until("it stops", || (daemon.get("/api/v1/about").is(200)["stopping"] == json!(true)).then_some(()));
    // WHEN Ctrl-C is pressed once more, or the service manager stops it in its own way
    daemon.stop().exits(0);
    assert!(clock.elapsed() < Duration::from_secs(15), "{:?}", clock.elapsed());
    // THEN what was not acknowledged is unconfirmed, and the next start resends it
    let status = place.run(&["status", "--json"]).exits(0).json();
    assert_eq!(status["syncs"][0]["last_run"]["counts"]["unconfirmed"], json!(IN_FLIGHT * PER_REQUEST), "{status}");
    slow(&receiver, 0);
    let daemon = Daemon::start(&place);
    until("it goes on", || (holding(&receiver, "t99", 0) == GROUPS).then_some(()));
    daemon.stop().exits(0);
}
