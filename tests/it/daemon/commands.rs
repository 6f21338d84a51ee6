//! Do the commands ask the daemon that holds the ledger?

use serde_json::{Value, json};

use super::{edit, holding, place, scheduled, slow};
use crate::support::cli::{Receiver, until};
use crate::support::daemon::Daemon;

/// What a command says with JSON, without what differs by the moment.
fn comparable(value: &Value) -> Value {
    let mut value = value.clone();
    for sync in value["syncs"].as_array_mut().into_iter().flatten() {
        let sync = sync.as_object_mut().unwrap();
        sync.remove("activity");
        sync.remove("next");
        if let Some(schedule) = sync.get_mut("schedule").and_then(Value::as_object_mut) {
            schedule.remove("next");
        }
    }
    let all = value.as_object_mut().unwrap();
    all.remove("now");
    all.remove("daemons");
    value
}

#[test]
fn questions_are_answered_alike_with_and_without_a_daemon() {
    let receiver = Receiver::start();
    let place = place(&receiver, 5);
    place.mapping("accounts", &scheduled("schedule = { cron = '0 2 * * *', timezone = 'Europe/Berlin' }"));
    receiver.vendor.change(|rules| rules.poison = ["k4".to_owned()].into());
    place.run(&["run"]).exits(3);
    let runs = place.run(&["runs", "--json"]).exits(0).json();
    let run = runs["runs"][0]["run"].as_str().unwrap().to_owned();
    let questions: [&[&str]; 7] = [
        &["status", "--json"],
        &["runs", "--json"],
        &["runs", "show", &run, "--json"],
        &["schedule", "--next", "12", "--json"],
        &["group", "accounts", "k2", "--json"],
        &["rejected", "--json"],
        &["runs", "accounts", "-n", "1", "--json"],
    ];
    let before: Vec<Value> = questions.iter().map(|question| place.run(question).exits(0).json()).collect();
    // What was only ever refused is not known to be there.
    let standing = json!({"synced": 4, "unconfirmed": 0, "rejected": 1});
    assert_eq!(before[0]["syncs"][0]["groups"], standing);
    let plan = place.run(&["plan", "--json"]).exits(0).stdout;
    let daemon = Daemon::start(&place);
    for (question, before) in questions.iter().zip(&before) {
        let now = place.run(question).exits(0).json();
        assert_eq!(comparable(&now), comparable(before), "{question:?}");
    }
    assert_eq!(place.run(&["plan", "--json"]).exits(0).stdout, plan);
    let schedule = place.run(&["schedule", "--next", "12", "--json"]).exits(0).json();
    assert_eq!(schedule["syncs"][0]["next"].as_array().unwrap().len(), 12);
    assert_eq!(daemon.get("/api/v1/syncs/accounts").is(200)["sync"]["groups"], standing);
    let metrics = daemon.get("/metrics").text;
    let known = metrics.lines().find(|line| line.starts_with("groupcast_synced_groups{")).unwrap();
    assert!(known.ends_with(" 4"), "{known}");
    place.run(&["status"]).exits(0).says(&["scheduled", &daemon.url]);
    place.run(&["group", "accounts", "nobody"]).exits(2).says(&["no sync history"]);
    place.run(&["runs", "show", "nothing"]).exits(2).says(&["nothing"]);
    daemon.stop().exits(0);
}

#[test]
fn run_is_done_by_the_daemon_and_followed() {
    let receiver = Receiver::start();
    let place = place(&receiver, 5);
    place.mapping("accounts", &scheduled(""));
    let daemon = Daemon::start(&place);
    place.run(&["run"]).exits(0).says(&["accounts: 5 rows", "5 delivered", "the daemon at"]);
    edit(&place, "UPDATE accounts SET rev = 3 WHERE id = 'k1'");
    let report = place.run(&["run", "--json"]).exits(0).json();
    assert_eq!(report["runs"][0]["counts"]["delivered"], 1, "{report}");
    assert_eq!(holding(&receiver, "rev", 3), 1);
    edit(&place, "DELETE FROM accounts");
    place.run(&["run"]).exits(4).says(&["stopped by the guard `empty`"]);
    // an interruption is passed on
    edit(&place, "INSERT INTO accounts SELECT 'n' || i, 'x', 1 FROM range(9000) r(i)");
    slow(&receiver, 500);
    let running = place.start(&["run"]);
    let seen = receiver.requests();
    until("it sends", || (receiver.requests() > seen).then_some(()));
    running.signal("INT");
    running.wait().exits(130);
    slow(&receiver, 0);
    let last = &daemon.get("/api/v1/runs").is(200)[0];
    assert_eq!((&last["status"], &last["error_kind"]), (&json!("cancelled"), &json!("interrupted")), "{last}");
    daemon.stop().exits(0);
}

#[test]
fn two_daemons_do_not_share_a_ledger() {
    let receiver = Receiver::start();
    let place = place(&receiver, 1);
    place.mapping("accounts", &scheduled(""));
    let daemon = Daemon::start(&place);
    let second = place.run(&["daemon", "--listen", "127.0.0.1:0"]);
    second.exits(1).says(&["a daemon already runs with this ledger", &daemon.pid().to_string()]);
    assert_eq!(daemon.get("/readyz").status, 200, "the first goes on");
    // a file left behind by a daemon that was killed misleads nobody
    daemon.kill();
    place.run(&["status"]).exits(0);
    let daemon = Daemon::start(&place);
    daemon.stop().exits(0);
}
