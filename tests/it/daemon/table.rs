//! The command table: every command in every situation — no daemon, a daemon, a daemon with a broken mapping file, a daemon busy
//! with the sync, another command that has the ledger open. Output, `--json`, help line and exit code.

use serde_json::Value;

use super::alike::normalized;
use super::{edit, place, scheduled};
use crate::support::cli::{Output, Place, Receiver, Running, until};
use crate::support::daemon::Daemon;

/// A command and its exit codes: without a broken mapping, and with one.
type Row = (&'static [&'static str], i32, i32);

/// What reads. It works whoever has the ledger open.
const READS: &[Row] = &[
    (&["status"], 0, 0),
    (&["status", "accounts"], 0, 0),
    (&["status", "--json"], 0, 0),
    (&["status", "acounts"], 2, 2),
    (&["status", "--select", "source:warehouse", "--exclude", "nobody"], 2, 2),
    (&["runs"], 0, 0),
    (&["runs", "accounts", "--json"], 0, 0),
    (&["runs", "show", "RUN"], 0, 0),
    (&["runs", "show", "RUN", "--json"], 0, 0),
    (&["runs", "show", "nothing"], 2, 2),
    (&["runs", "show", "nothing", "--json"], 2, 2),
    (&["schedule"], 0, 0),
    (&["schedule", "--json"], 0, 0),
    (&["group", "accounts", "k1"], 0, 0),
    (&["group", "accounts", "k1", "--json"], 0, 0),
    (&["group", "accounts", "k1", "--requests"], 0, 0),
    (&["group", "accounts", "k1", "--requests", "--json"], 0, 0),
    (&["group", "accounts", "nobody"], 2, 2),
    (&["group", "acounts", "k1", "--json"], 2, 2),
    (&["rejected"], 0, 0),
    (&["rejected", "accounts", "--json"], 0, 0),
    (&["ledger", "export", "accounts"], 0, 0),
    (&["ledger", "export", "acounts"], 2, 2),
    (&["check"], 0, 2),
    (&["check", "--json"], 0, 2),
    (&["test"], 2, 2),
    (&["test", "accounts", "--json"], 2, 2),
    (&["schema", "test"], 0, 0),
    (&["schema", "output"], 0, 0),
    (&["fmt", "--check", "--json"], 1, 2),
    (&["dbt", "exposures"], 0, 0),
    (&["dbt", "exposures", "--json"], 0, 0),
];

/// What plans or writes.
const WORKS: &[Row] = &[
    (&["plan"], 0, 2),
    (&["plan", "accounts", "--json"], 0, 0),
    (&["plan", "accounts", "--requests", "--show", "1"], 0, 0),
    (&["plan", "acounts"], 2, 2),
    (&["plan", "accounts", "--output", "markdown", "--trait", "rev", "--kind", "changed"], 0, 0),
    (&["plan", "accounts", "--detailed-exitcode", "--show", "0"], 5, 5),
    (&["plan", "accounts", "--group", "nobody"], 0, 0),
    (&["plan", "--out", "all.plan"], 0, 2),
    (&["plan", "accounts", "--out", "some.plan", "--json"], 0, 0),
    (&["run", "--plan", "some.plan", "--json"], 0, 0),
    (&["run", "--plan", "nosuch.plan"], 2, 2),
    (&["run", "accounts"], 0, 0),
    (&["run", "accounts", "--json"], 0, 0),
    (&["run", "--json"], 0, 2),
    (&["run", "accounts", "--limit", "1", "--retry-rejected"], 0, 0),
    (&["run", "accounts", "--group", "k1", "--group", "k2", "--retry-rejected"], 0, 0),
    (&["run", "acounts", "--json"], 2, 2),
    (&["verify", "accounts"], 2, 2),
    (&["verify", "accounts", "--json"], 2, 2),
    (&["ledger", "reset", "accounts"], 2, 2),
    (&["ledger", "reset", "accounts", "--group", "k1", "--yes", "--json"], 0, 0),
    (&["ledger", "rename", "nobody", "accounts"], 2, 2),
    (&["ledger", "rename", "accounts", "others", "--json"], 2, 2),
    (&["ledger", "drop", "accounts", "--yes"], 2, 2),
    (&["ledger", "import", "no.jsonl"], 2, 2),
    (&["ledger", "adopt", "accounts"], 0, 0),
    (&["ledger", "adopt", "accounts", "--json"], 0, 0),
    (&["doctor"], 0, 1),
    (&["doctor", "--json"], 0, 1),
    (&["daemon", "drain", "another"], 2, 2),
    (&["daemon", "drain", "another", "--json"], 2, 2),
];

fn project(receiver: &Receiver) -> Place {
    let place = place(receiver, 3);
    place.mapping("accounts", &scheduled("schedule = { cron = '0 2 1 1 *', catch_up = 'skip' }"));
    place.run(&["run"]).exits(0);
    edit(&place, "UPDATE accounts SET rev = 1 WHERE id = 'k1'");
    place
}

fn run_id(place: &Place) -> String {
    let runs = place.run(&["runs", "--json"]).exits(0).json();
    runs["runs"][0]["run"].as_str().unwrap().to_owned()
}

/// Runs a command, with the id of a run where one is needed.
#[track_caller]
fn run(place: &Place, command: &[&str], run: &str, code: i32) -> Output {
    let arguments: Vec<&str> = command.iter().map(|word| if *word == "RUN" { run } else { word }).collect();
    let output = place.run(&arguments);
    assert_eq!(output.code, Some(code), "{command:?}\n--- stdout\n{}\n--- stderr\n{}", output.stdout, output.stderr);
    if command.contains(&"--json") {
        for line in output.stdout.lines() {
            let value: Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{command:?}: {error}: {line}"));
            assert!(value.is_object(), "{command:?}: {line}");
        }
    } else if code == 1 || code == 2 {
        // The next step, or the place of a mistake in a file.
        let text = output.all();
        assert!(text.contains("help:") || text.contains(" --> "), "{command:?} names no next step: {text}");
    }
    output
}

/// Without what only a daemon shows: what it does about each sync, and where it is.
fn comparable(command: &[&str], output: &Output) -> String {
    let text = format!("{}\n--- stderr\n{}", normalized(&output.stdout), normalized(&output.stderr));
    match command[0] {
        "status" | "schedule" if output.code == Some(0) => String::new(),
        // It tells whether there is a daemon, and how long things took.
        "doctor" => String::new(),
        _ => text,
    }
}

#[test]
fn every_command_does_the_same_with_and_without_a_daemon_and_a_broken_mapping() {
    for broken in [false, true] {
        let (alone, beside) = (Receiver::start(), Receiver::start());
        let story = |place: &Place| -> Vec<String> {
            let id = run_id(place);
            let rows = READS.iter().chain(WORKS).chain(READS);
            rows.map(|(command, sound, with_broken)| {
                let code = if broken { *with_broken } else { *sound };
                let output = run(place, command, &id, code);
                format!("$ groupcast {}\n{}", command.join(" "), comparable(command, &output))
            })
            .collect()
        };
        let prepared = |receiver: &Receiver| {
            let place = project(receiver);
            if broken {
                place.mapping("broken", "source = \"warehouse\"\n[group\n");
            }
            place
        };
        let without = story(&prepared(&alone));
        let place = prepared(&beside);
        let daemon = Daemon::start(&place);
        let with = story(&place);
        daemon.stop().exits(0);
        for (without, with) in without.iter().zip(&with) {
            assert_eq!(with.replace(&beside.url, &alone.url), *without, "broken mapping: {broken}");
        }
        assert_eq!(alone.vendor.groups(), beside.vendor.groups());
    }
}

/// Responses that do not come, until the run that waits for them is stopped.
fn stuck(receiver: &Receiver) {
    super::slow(receiver, 600_000);
}

/// The reads, while a run of `accounts` is in progress in another process.
#[track_caller]
fn reads_work(place: &Place, id: &str) {
    for (command, code, _) in READS {
        run(place, command, id, *code);
    }
    let runs = place.run(&["runs", "accounts", "-n", "1", "--json"]).exits(0).json();
    assert_eq!(runs["runs"][0]["status"], "running", "{runs}");
    let id = runs["runs"][0]["run"].as_str().unwrap();
    place.run(&["runs", "show", id]).exits(0).says(&["sending: 3 rows read"]);
}

#[test]
fn reads_work_while_the_daemon_is_busy_with_the_sync_and_the_rest_says_so() {
    let receiver = Receiver::start();
    let place = project(&receiver);
    place.warehouse("CREATE TABLE others AS SELECT 'o1' AS id, 'n' AS name, 0 AS rev");
    place.mapping("others", &scheduled("").replace("\"accounts\"", "\"others\"").replace("\"company\"", "\"team\""));
    let id = run_id(&place);
    let daemon = Daemon::start(&place);
    stuck(&receiver);
    let busy = daemon.trigger("accounts", &serde_json::json!({}));
    until("the run sends", || {
        (daemon.get(&format!("/api/v1/runs/{busy}")).body["progress"]["phase"] == "sending").then_some(())
    });
    reads_work(&place, &id);
    place.run(&["ledger", "backup", "copy.duckdb"]).exits(0);
    // One that cannot be planned now keeps no other from it.
    let plan = run(&place, &["plan"], &id, 1);
    assert!(plan.stdout.contains("others  warehouse → amplitude (team)"), "{}", plan.all());
    assert!(plan.stdout.contains("1 to add"), "{}", plan.all());
    for command in [
        &["plan", "accounts"] as &[&str],
        &["verify", "accounts"],
        &["ledger", "adopt", "accounts"],
        &["ledger", "reset", "accounts", "--yes"],
    ] {
        let output = run(&place, command, &id, 1);
        assert!(output.all().contains(&format!("run {busy} of accounts is in progress")), "{}", output.all());
    }
    // A run is queued behind it, and Ctrl-C takes it back.
    let queued = place.start(&["run", "accounts"]);
    until("the person hears that it is queued", || queued.stderr().contains("queued behind other runs").then_some(()));
    queued.signal("INT");
    let output = queued.wait().exits(130);
    assert!(output.all().contains("was cancelled before it began"), "{}", output.all());
    for _ in 0..2 {
        daemon.post(&format!("/api/v1/runs/{busy}/cancel"), &serde_json::json!({})).is(202);
    }
    daemon.ended(&busy);
    daemon.stop().exits(0);
}

/// Starts a run that does not end by itself, and waits until it sends.
fn stuck_run(place: &Place, receiver: &Receiver) -> Running {
    stuck(receiver);
    let before = receiver.requests();
    let running = place.start(&["run", "accounts"]);
    until("the run sends", || (receiver.requests() > before).then_some(()));
    running
}

#[test]
fn reads_work_while_another_command_has_the_ledger_open_and_the_rest_names_it() {
    let receiver = Receiver::start();
    let place = project(&receiver);
    let id = run_id(&place);
    let running = stuck_run(&place, &receiver);
    reads_work(&place, &id);
    let holder = format!("`groupcast run` (process {}, since 20", running.pid());
    for command in [
        &["run", "accounts"] as &[&str],
        &["run", "accounts", "--json"],
        &["ledger", "adopt", "accounts"],
        &["ledger", "reset", "accounts", "--yes"],
        &["daemon", "--listen", "127.0.0.1:0"],
    ] {
        let output = run(&place, command, &id, 1);
        assert!(output.all().contains(&holder), "{command:?}: {}", output.all());
    }
    let plan = run(&place, &["plan", "accounts"], &id, 1);
    assert!(plan.all().contains("of accounts is in progress"), "{}", plan.all());
    running.signal("INT");
    running.signal("INT");
    let output = running.wait().exits(130);
    assert!(output.stderr.contains("stopping: waiting for requests in flight (Ctrl-C again to abort)"));
    assert!(!place.path("state/ledger.duckdb.sock").exists(), "the socket goes with the command");
}

#[test]
fn a_killed_run_is_not_shown_as_running() {
    let receiver = Receiver::start();
    let place = project(&receiver);
    stuck_run(&place, &receiver).kill();
    let runs = place.run(&["runs", "-n", "1", "--json"]).exits(0).json();
    let last = &runs["runs"][0];
    assert_ne!(last["status"], "running", "{last}");
    assert!(last["error"].as_str().unwrap().contains("unconfirmed groups will be resent"), "{last}");
    let shown = place.run(&["runs", "show", last["run"].as_str().unwrap(), "--json"]).exits(0).json();
    assert_eq!(shown["run"]["status"], last["status"]);
    let status = place.run(&["status", "--json"]).exits(0).json();
    assert_eq!(status["syncs"][0]["last_run"]["status"], last["status"]);
    super::slow(&receiver, 0);
    place.run(&["run"]).exits(0).says(&["recovered crashed run"]);
}
