//! Is it noticed that the ledger is moved, replaced or removed while it is open, or that nothing can be written beside it?
//! What is delivered then would be forgotten, and sent again by the next start.

use std::process::Command;

use serde_json::{Value, json};

use super::{edit, holding, place, scheduled, slow};
use crate::support::cli::{Place, Receiver, start, until};
use crate::support::daemon::Daemon;
use crate::support::stand_in::{Answer, Api, Received, StandIn};

/// A webhook that takes everything.
struct Webhook;

impl Api for Webhook {
    fn take(&mut self, _: &Received) -> Answer {
        Answer::new(200, "ok")
    }
}

fn rename(place: &Place, from: &str, to: &str) {
    std::fs::rename(place.path(from), place.path(to)).unwrap();
}

/// Waits until the daemon is not ready, and returns why.
#[track_caller]
fn not_ready(daemon: &Daemon, text: &str) -> Value {
    until(text, || {
        let response = daemon.get("/readyz");
        (response.status == 503 && response.text.contains(text)).then_some(response.body["error"].clone())
    })
}

#[track_caller]
fn ready(daemon: &Daemon) {
    until("it is ready", || (daemon.get("/readyz").status == 200).then_some(()));
}

#[test]
fn no_run_starts_while_the_ledger_is_not_at_its_path() {
    let receiver = Receiver::start();
    let hook = StandIn::start(Webhook);
    let mut place = place(&receiver, 5);
    let alerts = "\n[daemon.alerts]\nurl = \"${ALERTS}\"\nformat = \"json\"\n";
    place.set("ALERTS", &hook.url);
    place.write("groupcast.toml", &format!("{}{alerts}", place.read("groupcast.toml")));
    place.mapping("accounts", &scheduled("schedule = '* * * * * *'"));
    let daemon = Daemon::start(&place);
    until("it delivers", || (receiver.vendor.groups().len() == 5).then_some(()));
    // WHEN the file is moved away, and a row changes
    rename(&place, "state/ledger.duckdb", "state/aside");
    let why = not_ready(&daemon, "was moved or deleted while it is open");
    assert_eq!(why["kind"], "ledger");
    assert!(why["advice"].as_str().unwrap().contains("back to this path"), "{why}");
    let alert_of = |event: &str| {
        let alert = hook.received().into_iter().map(|request| request.json()).find(|message| message["event"] == event);
        alert.filter(|message| message["sync"] == "")
    };
    let alert = until("an alert", || alert_of("ledger_unusable"));
    assert!(alert["error"].as_str().unwrap().contains("moved or deleted"), "{alert}");
    let seen = receiver.requests();
    edit(&place, "UPDATE accounts SET rev = 7 WHERE id = 'k1'");
    // THEN neither a schedule nor a person starts a run
    let response = daemon.post("/api/v1/syncs/accounts/runs", &json!({}));
    assert_eq!(response.status, 500, "{}", response.text);
    assert!(response.text.contains("moved or deleted"), "{}", response.text);
    assert!(daemon.get("/api/v1/about").is(200)["ledger_problem"].as_str().unwrap().contains("moved or deleted"));
    assert!(daemon.get("/metrics").text.contains("groupcast_ledger_problem 1"));
    assert_eq!(receiver.requests(), seen);
    // AND once it is back everything continues, and nothing is reported twice
    rename(&place, "state/aside", "state/ledger.duckdb");
    ready(&daemon);
    until("the row arrives", || (holding(&receiver, "rev", 7) == 1).then_some(()));
    until("the recovery is reported", || alert_of("recovered"));
    let output = daemon.stop().exits(0).says(&["no run starts: ", "the ledger is usable again"]);
    assert_eq!(output.stderr.matches("no run starts: ").count(), 1, "once: {}", output.stderr);
    place.run(&["run"]).exits(0).says(&["nothing sent"]);
    assert_eq!(receiver.requests(), seen + 1);
}

#[test]
fn a_ledger_that_is_replaced_or_goes_with_its_folder_is_noticed() {
    let receiver = Receiver::start();
    let place = place(&receiver, 5);
    place.mapping("accounts", &scheduled(""));
    let daemon = Daemon::start(&place);
    daemon.run("accounts", &json!({}));
    rename(&place, "state/ledger.duckdb", "state/aside");
    std::fs::copy(place.path("state/aside"), place.path("state/ledger.duckdb")).unwrap();
    not_ready(&daemon, "was replaced by another one");
    rename(&place, "state/aside", "state/ledger.duckdb");
    ready(&daemon);
    rename(&place, "state", "elsewhere");
    not_ready(&daemon, "was moved or deleted");
    rename(&place, "elsewhere", "state");
    ready(&daemon);
    place.run(&["status"]).exits(0).says(&[&daemon.url]);
    // A backup that is put in its place takes another daemon, whose files the first one leaves alone.
    rename(&place, "state", "elsewhere");
    std::fs::create_dir(place.path("state")).unwrap();
    std::fs::copy(place.path("elsewhere/ledger.duckdb"), place.path("state/ledger.duckdb")).unwrap();
    let second = Daemon::start(&place);
    place.run(&["status"]).exits(0).says(&[&second.url]);
    daemon.stop().exits(0);
    place.run(&["status"]).exits(0).says(&[&second.url]);
    second.stop().exits(0);
}

/// Something that happens to a ledger's files.
type Mishap<'a> = &'a dyn Fn(&Place);

/// What was taken away or changed beside an open ledger is made good before a kill can miss it.
#[test]
fn a_log_and_a_generation_that_vanish_under_the_daemon_are_restored() {
    const LOG: &str = "state/ledger.duckdb.wal";
    const GENERATION: &str = "state/ledger.duckdb.generation";
    let take_away: [(&str, Mishap<'_>); 6] = [
        (".wal", &|place| std::fs::remove_file(place.path(LOG)).unwrap()),
        (".wal", &|place| rename(place, LOG, "aside")),
        (".wal", &|place| {
            place.write("another", "no log at all");
            rename(place, "another", LOG);
        }),
        (".generation", &|place| std::fs::remove_file(place.path(GENERATION)).unwrap()),
        (".generation", &|place| place.write(GENERATION, "{\"ledger\":\"another\",\"generation\":900}")),
        (".generation", &|place| place.write(GENERATION, "")),
    ];
    let receiver = Receiver::start();
    let place = place(&receiver, 5);
    place.mapping("accounts", &scheduled(""));
    for (round, (what, take_away)) in take_away.iter().enumerate() {
        edit(&place, &format!("UPDATE accounts SET rev = {round} + 100"));
        let daemon = Daemon::start(&place);
        daemon.run("accounts", &json!({}));
        assert!(place.path(LOG).exists(), "what the run left is in the log");
        let recorded: Value = serde_json::from_slice(&std::fs::read(place.path(GENERATION)).unwrap()).unwrap();
        take_away(&place);
        // WHEN it is made good without any request, and the daemon is killed then
        until(&format!("round {round}: {what} is made good"), || {
            let log = daemon.log();
            let logged = log.contains(what) && log.contains("nothing is lost");
            // The daemon may just be writing its notes, which records a generation too; nothing was missing then.
            let again =
                std::fs::read(place.path(GENERATION)).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
            let newer = again.is_some_and(|again| {
                again["ledger"] == recorded["ledger"] && again["generation"].as_u64() >= recorded["generation"].as_u64()
            });
            (logged || (*what == ".generation" && newer)).then_some(())
        });
        daemon.kill();
        // THEN nothing was forgotten
        let seen = receiver.requests();
        place.run(&["run"]).exits(0).says(&["nothing sent"]);
        assert_eq!(receiver.requests(), seen, "{what}");
    }
}

#[test]
fn a_run_under_way_stops_before_it_says_more() {
    let receiver = Receiver::start();
    let place = place(&receiver, 12_000);
    place.mapping("accounts", &scheduled(""));
    slow(&receiver, 300);
    let running = place.start(&["run"]);
    until("it sends", || (receiver.requests() > 0).then_some(()));
    rename(&place, "state/ledger.duckdb", "state/aside");
    slow(&receiver, 0);
    // The marks of a page are written before its first request: no page after the one that was marked is sent.
    running.wait().exits(1).says(&["was moved or deleted while it is open", "back to this path"]);
    let sent = receiver.vendor.groups().len();
    assert!(sent < 12_000, "{sent}");
    rename(&place, "state/aside", "state/ledger.duckdb");
    place.run(&["run"]).exits(0);
    assert_eq!(receiver.vendor.groups().len(), 12_000);
    place.run(&["run"]).exits(0).says(&["nothing sent"]);
}

#[test]
fn a_full_disk_is_reported_before_a_run_starts() {
    let receiver = Receiver::start();
    let place = place(&receiver, 5);
    place.mapping("accounts", &scheduled(""));
    // The signal that goes with the limit is ignored, as a service manager may; then writing fails.
    let daemon = Daemon::begin(&place, None, || {
        let mut limited = Command::new("sh");
        place.prepare(&mut limited);
        let script = "trap '' XFSZ; exec \"$0\" daemon --listen 127.0.0.1:0";
        limited.args(["-c", script, env!("CARGO_BIN_EXE_groupcast")]);
        start(limited)
    });
    daemon.run("accounts", &json!({}));
    let limit = |bytes: &str| {
        let pid = daemon.pid().to_string();
        let set =
            Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}:unlimited")]).output().unwrap();
        assert!(set.status.success(), "{set:?}");
    };
    limit("4096");
    let why = not_ready(&daemon, "nothing can be written beside the ledger");
    assert!(why["advice"].as_str().unwrap().contains("free space"), "{why}");
    limit("unlimited");
    ready(&daemon);
    edit(&place, "UPDATE accounts SET rev = 1");
    daemon.run("accounts", &json!({}));
    assert_eq!(holding(&receiver, "rev", 1), 5);
    daemon.stop().exits(0);
}
