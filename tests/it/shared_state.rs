//! The program with its ledger in PostgreSQL: runs, what is shown, two processes, and moving between ledgers.

use std::time::Duration;

use groupcast::io::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::support::cli::{Place, Receiver, mapping, settings, until};
use crate::support::pooler::Pooler;
use crate::support::postgres::{Cluster, Database, shared};

/// A database of its own, made outside of any runtime of the test.
fn database() -> Database {
    // Its client's task ends with the runtime; only its name is used from here on.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(shared().create_database())
}

fn url(database: &Database) -> String {
    format!("postgres://root_user@127.0.0.1:{}/{}", shared().port(), database.name())
}

/// Accounts with a plan each; the ledger in this database, if one is given.
fn place(receiver: &Receiver, url: Option<&str>, groups: usize) -> Place {
    let mut place = Place::with(receiver);
    if let Some(url) = url {
        place.set("GROUPCAST__STATE__URL", url);
    }
    place.warehouse(&format!(
        "CREATE TABLE accounts AS SELECT 'k' || i AS id, 'free' AS plan FROM range({groups}) r(i)"
    ));
    place.mapping("accounts", &mapping("plan = \"plan\"\n", "[guards]\nchanged_max = 1\n"));
    place
}

#[test]
fn runs_over_a_ledger_in_postgresql_send_what_changed_and_everything_shows_it() {
    let (receiver, database) = (Receiver::start(), database());
    let place = place(&receiver, Some(&url(&database)), 50);
    place.run(&["plan"]).exits(0).says(&["50"]);
    place.run(&["run"]).exits(0);
    assert!(receiver.group("company", "k7").is_some());
    let seen = receiver.requests();
    place.run(&["run"]).exits(0);
    assert_eq!(receiver.requests(), seen, "a quiet run sends nothing");
    place.warehouse("UPDATE accounts SET plan = 'pro' WHERE id = 'k7'; DELETE FROM accounts WHERE id = 'k8'");
    let plan = place.run(&["plan", "--json"]).exits(0);
    assert_eq!(receiver.requests(), seen, "{}", plan.all());
    place.run(&["run"]).exits(0);
    assert_eq!(receiver.requests(), seen + 1);
    assert_eq!(receiver.group("company", "k7").unwrap()["plan"], json!("pro"));
    place.run(&["status"]).exits(0).says(&["accounts"]);
    place.run(&["group", "accounts", "k7"]).exits(0).says(&["pro"]);
    place.run(&["runs"]).exits(0);
    place.run(&["doctor"]).says(&["PostgreSQL at 127.0.0.1", "schema groupcast", "synced groups"]);
    place.run(&["check", "--connect"]).exits(0);
    place.run(&["ledger", "backup", "copy.duckdb"]).exits(2).says(&["pg_dump --schema=groupcast"]);
    place.run(&["ledger", "reset", "accounts", "--group", "k7", "--yes"]).exits(0);
    place.run(&["run"]).exits(0);
    assert_eq!(receiver.requests(), seen + 2);
    // Nothing of the ledger is kept here but the file that represents it, and how often something was sent from here.
    let names: Vec<_> = place.ledger_bytes().into_keys().map(|path| path.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["ledger.postgres", "ledger.postgres.generation"]);
}

#[test]
fn another_process_waits_for_one_that_runs_and_takes_over_from_one_that_was_killed() {
    let (receiver, database) = (Receiver::start(), database());
    let pooler = Pooler::start("transaction", "default_pool_size = 3");
    let direct = place(&receiver, Some(&url(&database)), 50);
    let elsewhere = place(&receiver, Some(&pooler.url(&database)), 50);
    receiver.vendor.change(|rules| rules.answer_after = Duration::from_secs(30));
    let running = direct.start(&["run"]);
    until("a request", || (receiver.requests() > 0).then_some(()));
    // Another folder: no socket leads from there to the process.
    elsewhere.run(&["run"]).exits(1).says(&["is using sync `accounts`", &format!("process {}", running.pid())]);
    elsewhere.run(&["ledger", "reset", "accounts", "--yes"]).exits(1).says(&["is using sync `accounts`"]);
    elsewhere.run(&["status"]).exits(0);
    running.kill();
    receiver.vendor.change(|rules| rules.answer_after = Duration::ZERO);
    let clock = SystemClock::start();
    elsewhere.run(&["plan"]).exits(0);
    elsewhere.run(&["run"]).exits(0).says(&["unconfirmed groups will be resent"]);
    assert!(clock.elapsed() < Duration::from_secs(25), "a process that is gone is not waited for");
    let seen = receiver.requests();
    elsewhere.run(&["run"]).exits(0);
    assert_eq!(receiver.requests(), seen);
}

#[test]
fn a_server_that_restarts_in_the_middle_of_runs_loses_no_group() {
    let (receiver, cluster) = (Receiver::start(), Cluster::start());
    let url = format!("postgres://root_user@127.0.0.1:{}/postgres", cluster.port());
    let place = place(&receiver, Some(&url), 300);
    place.write("groupcast.toml", &settings(&receiver.url, "concurrency = 1\n"));
    place.run(&["plan"]).exits(0);
    receiver.vendor.change(|rules| rules.answer_after = Duration::from_millis(200));
    for round in 0..4 {
        place.warehouse(&format!("UPDATE accounts SET plan = 'plan {round}'"));
        let seen = receiver.requests();
        let run = place.start(&["run"]);
        until("a request", || (receiver.requests() > seen).then_some(()));
        cluster.restart();
        let ended = run.wait();
        if ended.code != Some(0) {
            assert!(ended.all().contains("ledger in PostgreSQL at 127.0.0.1"), "{}", ended.all());
        }
    }
    // THEN a run that is left alone brings every group to where it should be
    place.run(&["run"]).exits(0);
    let seen = receiver.requests();
    place.run(&["run"]).exits(0);
    assert_eq!(receiver.requests(), seen);
    for group in 0..300 {
        assert_eq!(receiver.group("company", &format!("k{group}")).unwrap()["plan"], json!("plan 3"));
    }
}

/// A copy of a database as it is now, as a backup that is restored.
fn copied(database: &Database) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let copy = format!("{}_copy", database.name());
    runtime.block_on(async {
        let client = shared().client("postgres").await;
        let make = format!("CREATE DATABASE {copy} TEMPLATE {}", database.name());
        // A session that has just ended may be in the way.
        while let Err(busy) = client.batch_execute(&make).await {
            assert!(busy.as_db_error().is_some_and(|error| error.message().contains("being accessed")), "{busy:?}");
            SystemClock::start().sleep(Duration::from_millis(50)).await;
        }
    });
    format!("postgres://root_user@127.0.0.1:{}/{copy}", shared().port())
}

#[test]
fn a_database_that_lacks_what_was_sent_from_here_is_recognized_and_everything_is_sent_again() {
    let (receiver, database) = (Receiver::start(), database());
    let mut place = place(&receiver, Some(&url(&database)), 20);
    place.run(&["run"]).exits(0);
    // GIVEN a backup from before a change was sent, and undone in the warehouse
    let copy = copied(&database);
    place.warehouse("UPDATE accounts SET plan = 'pro' WHERE id = 'k7'");
    place.run(&["run"]).exits(0);
    place.warehouse("UPDATE accounts SET plan = 'free' WHERE id = 'k7'");
    // WHEN it is restored, THEN what it lacks is not believed
    place.set("GROUPCAST__STATE__URL", &copy);
    let seen = receiver.requests();
    place
        .run(&["run"])
        .exits(0)
        .says(&["older than what was last sent from this machine", "every group is unconfirmed"]);
    assert_eq!(receiver.group("company", "k7").unwrap()["plan"], json!("free"));
    assert_eq!(crate::support::cli::changes_sent(&receiver.since(seen)).len(), 20);
    // AND it is right from then on
    let seen = receiver.requests();
    let quiet = place.run(&["run"]).exits(0);
    assert!(!quiet.all().contains("older than"), "{}", quiet.all());
    assert_eq!(receiver.requests(), seen);
    // A folder that sent nothing knows nothing of it.
    let elsewhere = self::place(&receiver, Some(&copy), 20);
    assert!(!elsewhere.run(&["run"]).exits(0).all().contains("older than"));
}

#[test]
fn a_ledger_that_was_moved_by_its_address_alone_is_refused() {
    let (receiver, database) = (Receiver::start(), database());
    let mut place = place(&receiver, None, 5);
    place.run(&["run"]).exits(0);
    let seen = receiver.requests();
    place.set("GROUPCAST__STATE__URL", &url(&database));
    place.run(&["run"]).exits(2).says(&["would send everything again", "groupcast ledger import"]);
    assert_eq!(receiver.requests(), seen);
}

/// The lines of an export with some groups in every state.
fn mixed(exported: &str) -> String {
    let mut lines: Vec<String> = exported.lines().map(str::to_owned).collect();
    let mut edit = |at: usize, change: &dyn Fn(&mut Value)| {
        let mut line: Value = serde_json::from_str(&lines[at]).unwrap();
        change(&mut line);
        lines[at] = line.to_string();
    };
    for at in 0..10 {
        edit(at, &|line| {
            line["unconfirmed_in"] = json!("run-of-old");
            line["attempted"] = json!(["a \"lost\" trait", "plan"]);
        });
        edit(at + 10, &|line| {
            line["rejected"] = json!({ "document": line["document"].clone(), "reason": "it's no plan" });
        });
        edit(at + 20, &|line| {
            line["rejected"] = json!({ "document": line["document"].clone(), "reason": "never taken" });
            (line["document"], line["seq"], line["unconfirmed_in"]) = (json!({}), json!(0), Value::Null);
        });
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[test]
fn a_hundred_thousand_groups_move_between_ledgers_and_nothing_is_sent_again() {
    const GROUPS: usize = 100_000;
    let (receiver, database) = (Receiver::start(), database());
    let file = place(&receiver, None, GROUPS);
    file.run(&["ledger", "adopt", "accounts"]).exits(0);
    file.write("mixed.jsonl", &mixed(&file.run(&["ledger", "export", "accounts"]).exits(0).stdout));
    // GIVEN a ledger in a file with groups in every state
    file.run(&["ledger", "import", "mixed.jsonl"]).exits(2).says(&["100000 groups", "--replace"]);
    file.run(&["ledger", "import", "mixed.jsonl", "--replace"]).exits(0).says(&["100,000 groups imported"]);
    let exported = file.run(&["ledger", "export", "accounts"]).exits(0).stdout;
    let parsed = |text: &str| -> Vec<Value> { text.lines().map(|line| serde_json::from_str(line).unwrap()).collect() };
    assert_eq!(parsed(&exported), parsed(&file.read("mixed.jsonl")));
    // WHEN it is moved to PostgreSQL, and back to another file
    let server = place(&receiver, Some(&url(&database)), GROUPS);
    server.write("accounts.jsonl", &exported);
    server.run(&["ledger", "import", "accounts.jsonl", "--json"]).exits(0);
    server.run(&["ledger", "import", "accounts.jsonl"]).exits(2).says(&["--replace"]);
    assert!(server.run(&["ledger", "export", "accounts"]).exits(0).stdout == exported, "the same lines come out");
    let back = place(&receiver, None, GROUPS);
    back.write("accounts.jsonl", &server.run(&["ledger", "export", "accounts"]).exits(0).stdout);
    back.run(&["ledger", "import", "accounts.jsonl"]).exits(0);
    assert!(back.run(&["ledger", "export", "accounts"]).exits(0).stdout == exported);
    // THEN each of them would send the unconfirmed groups, and those alone
    for place in [&file, &server, &back] {
        let status = place.run(&["status", "--json"]).exits(0).json();
        let groups = &status["syncs"][0]["groups"];
        assert_eq!((&groups["unconfirmed"], &groups["rejected"]), (&json!(10), &json!(20)), "{status}");
        assert_eq!(groups["synced"], json!(GROUPS - 10));
        let seen = receiver.requests();
        place.run(&["run"]);
        let sent = crate::support::cli::changes_sent(&receiver.since(seen));
        assert_eq!(sent.len(), 10, "{sent:?}");
    }
}

#[test]
fn a_file_that_is_no_export_changes_nothing_and_the_line_is_named() {
    let (receiver, database) = (Receiver::start(), database());
    let place = place(&receiver, Some(&url(&database)), 3);
    place.run(&["ledger", "adopt", "accounts"]).exits(0);
    let exported = place.run(&["ledger", "export", "accounts"]).exits(0).stdout;
    let lines: Vec<&str> = exported.lines().collect();
    let with = |at: usize, key: &str, value: Value| {
        let mut line: Value = serde_json::from_str(lines[at]).unwrap();
        line[key] = value;
        let mut all: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        all[at] = line.to_string();
        all.join("\n")
    };
    for (text, says) in [
        (String::new(), "no group"),
        (format!("{}\n{{\"key\":", lines[0]), "in.jsonl:2:"),
        (format!("{}\n{}", lines[1], lines[0]), "in.jsonl:2"),
        (format!("{}\n{}", lines[0], lines[0]), "order of the keys"),
        (with(2, "sync", json!("acounts")), "did you mean `accounts`"),
        (with(1, "seq", Value::Null), "no `seq`"),
        (with(1, "document", Value::Null), "damaged"),
        (with(1, "fingerprint", json!("abc")), "no number"),
    ] {
        place.write("in.jsonl", &text);
        place.run(&["ledger", "import", "in.jsonl", "--replace"]).exits(2).says(&[says]);
        // A sync before the broken one was imported whole; the same groups are there either way.
        assert_eq!(
            place.run(&["ledger", "export", "accounts"]).exits(0).stdout.lines().count(),
            if says.contains("did you") { 2 } else { 3 }
        );
        place.write("whole.jsonl", &exported);
        place.run(&["ledger", "import", "whole.jsonl", "--replace"]).exits(0);
    }
}
