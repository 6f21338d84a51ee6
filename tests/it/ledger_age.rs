//! Does an older ledger know that it is one, and a damaged one what it has lost? Files that were removed, restored, moved,
//! written by an earlier version, or changed on the disk.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use groupcast::duckdb::Limits;
use groupcast::ledger::duckdb::DuckDbLedger;
use groupcast::ledger::{Ledger, Retention, RunCheckpoint, RunStart, RunStatus};
use serde_json::{Value, json};

use crate::support::amplitude::Fault;
use crate::support::cli::{Place, Receiver, mapping, settings};
use crate::support::daemon::Daemon;

/// Five groups with a value that changes, one that may be null, and one that others may add to.
fn place(receiver: &Receiver) -> Place {
    let place = Place::with(receiver);
    place.write("groupcast.toml", &settings(&receiver.url, ""));
    place.warehouse(
        "CREATE TABLE accounts AS SELECT 'k' || i AS id, 1 AS rev, 'x' AS note, i AS n FROM range(1, 6) r(i)",
    );
    let traits = "rev = \"rev\"\nnote = \"note\"\nn = { column = \"n\", op = \"add\" }\n";
    place.mapping("accounts", &mapping(traits, "[guards]\nchanged_max = 1\nnulled_max = 1"));
    place
}

/// Whether every group of the warehouse is held exactly as it is there.
#[track_caller]
fn assert_right(receiver: &Receiver, place: &Place) {
    let warehouse = duckdb::Connection::open(place.path("warehouse.duckdb")).unwrap();
    let mut rows =
        warehouse.prepare("SELECT id, to_json({rev: rev, note: note, n: n})::VARCHAR FROM accounts").unwrap();
    let rows = rows.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))).unwrap();
    let held = receiver.vendor.groups();
    for row in rows {
        let (key, text) = row.unwrap();
        let Value::Object(mut wanted) = serde_json::from_str(&text).unwrap() else { panic!("{text}") };
        wanted.retain(|_, value| !value.is_null());
        assert_eq!(held.get(&("company".to_owned(), key.clone())), Some(&wanted), "{key}");
    }
}

fn state(place: &Place, name: &str) -> PathBuf {
    place.path("state").join(name)
}

/// Copies a file over another one, or nothing.
fn copy(from: &Path, to: &Path) {
    std::fs::copy(from, to).unwrap();
}

/// The operator's way through a run that holds groups whose additions may have arrived: look, then decide.
fn settle(place: &Place) {
    if place.run(&["run"]).code == Some(3) {
        place.run(&["run", "--retry-rejected"]).exits(0);
    }
    place.run(&["run"]).exits(0).says(&["nothing sent"]);
}

#[test]
fn a_restored_ledger_makes_everything_unconfirmed_and_a_current_one_nothing() {
    for lost in ["restored", "without the number", "beside another ledger's", "a new one"] {
        let receiver = Receiver::start();
        let place = place(&receiver);
        place.run(&["run"]).exits(0);
        // Nothing is wrong with a copy while nothing was sent since.
        place.run(&["ledger", "backup", "copy.duckdb"]).exits(0).says(&["5 groups of 1 sync copied to copy.duckdb"]);
        place.run(&["ledger", "backup", "copy.duckdb"]).exits(2).says(&["exists already"]);
        copy(&place.path("copy.duckdb"), &state(&place, "ledger.duckdb"));
        let quiet = place.run(&["run"]).exits(0).says(&["nothing sent"]);
        assert!(!quiet.all().contains("unconfirmed"), "{}", quiet.all());
        // WHEN values change, one becomes null, a group is new, and after that an older ledger is put in its place
        place.warehouse("UPDATE accounts SET rev = 2, n = n + 10; INSERT INTO accounts VALUES ('new', 2, 'y', 7)");
        place.run(&["run"]).exits(0);
        copy(&place.path("copy.duckdb"), &state(&place, "ledger.duckdb"));
        let number = state(&place, "ledger.duckdb.generation");
        match lost {
            "without the number" => std::fs::remove_file(&number).unwrap(),
            "beside another ledger's" => std::fs::write(&number, r#"{"ledger":"another","generation":3}"#).unwrap(),
            "a new one" => std::fs::remove_file(state(&place, "ledger.duckdb")).unwrap(),
            _ => {}
        }
        // AND the source is back at what that ledger knows, but for the new group's null
        place.warehouse("UPDATE accounts SET rev = 1, n = n - 10; UPDATE accounts SET note = NULL WHERE id = 'new'");
        // THEN a plan tells, and writes nothing
        let before = place.ledger_bytes();
        let plan = place.run(&["plan"]).exits(0).says(&["warning:", "every group is unconfirmed now", ".generation"]);
        assert!(plan.all().contains("unconfirmed: resent in full") || plan.all().contains("cannot be sent"));
        if lost == "restored" {
            plan.says(&["older than what was last sent from it", "restored from a backup"]);
            let status = place.run(&["status", "--json"]).exits(0).json();
            assert_eq!(status["syncs"][0]["groups"]["unconfirmed"], json!(5), "{status}");
        }
        assert_eq!(place.ledger_bytes(), before);
        // AND the next runs leave the destination right, although additions can only be set now
        place.run(&["run"]).exits(3).says(&["warning:", "resends everything"]);
        settle(&place);
        assert_right(&receiver, &place);
        // AND after that it is a ledger like any other
        place.warehouse("UPDATE accounts SET n = n + 1; INSERT INTO accounts VALUES ('later', 1, NULL, 3)");
        let run = place.run(&["run"]).exits(0).says(&["delivered"]);
        assert!(!run.all().contains("unconfirmed"), "{lost}: {}", run.all());
        assert_right(&receiver, &place);
    }
}

#[test]
fn a_log_that_was_removed_is_missed() {
    let receiver = Receiver::start();
    let place = place(&receiver);
    place.run(&["run"]).exits(0);
    place.warehouse("UPDATE accounts SET rev = 2");
    // GIVEN a run that was killed when its changes had arrived: what it marked is in the log alone
    let answer = std::sync::Arc::new(tokio::sync::Notify::new());
    receiver.vendor.script([Fault::ApplyThenDrop, Fault::Hold(std::sync::Arc::clone(&answer))]);
    let counts = &receiver.vendor.counts.requests;
    let seen = counts.load(std::sync::atomic::Ordering::SeqCst);
    let run = place.start(&["run"]);
    crate::support::cli::until("a request", || {
        (counts.load(std::sync::atomic::Ordering::SeqCst) > seen + 1).then_some(())
    });
    run.kill();
    // WHEN its log is removed, and the source is back at what the ledger knows
    std::fs::remove_file(state(&place, "ledger.duckdb.wal")).unwrap();
    place.warehouse("UPDATE accounts SET rev = 1");
    place.run(&["run"]).says(&["warning:", "its log (`.wal`) is missing"]);
    settle(&place);
    assert_right(&receiver, &place);
}

#[test]
fn a_daemon_whose_log_was_lost_tells_and_sends_everything_again() {
    let receiver = Receiver::start();
    let place = place(&receiver);
    place.mapping(
        "teams",
        &mapping("rev = \"rev\"\nnote = \"note\"\n", "[guards]\nchanged_max = 1").replace("\"company\"", "\"team\""),
    );
    place.run(&["run"]).exits(0);
    // GIVEN two runs side by side, and a daemon that is killed after them
    place.warehouse("UPDATE accounts SET rev = 2");
    let daemon = Daemon::start(&place);
    let runs = ["accounts", "teams"].map(|sync| daemon.trigger(sync, &json!({})));
    for run in &runs {
        assert_eq!(daemon.ended(run)["run"]["status"], json!("succeeded"));
    }
    daemon.kill();
    // WHEN the log is lost, the source is back, and a document is damaged besides
    std::fs::remove_file(state(&place, "ledger.duckdb.wal")).unwrap();
    place.warehouse("UPDATE accounts SET rev = 1");
    edit(&place, "UPDATE synced SET document = '{' WHERE key = 'k2'");
    let daemon = Daemon::start(&place);
    // THEN whoever asks is told
    let standing = daemon.get("/api/v1/syncs/teams").is(200)["sync"]["groups"].clone();
    assert_eq!(standing, json!({"synced": 5, "unconfirmed": 5, "rejected": 0}));
    let group = daemon.get("/api/v1/syncs/teams/groups/k2").is(200);
    assert!(group["unreadable"].as_str().unwrap().contains("its synced document cannot be read"), "{group}");
    place.run(&["group", "teams", "k2"]).exits(1).says(&["unreadable:"]);
    let page = daemon.get("/syncs/teams/groups?key=k2");
    assert!(page.text.contains("The ledger is damaged here"), "{}", page.text);
    // AND everything is sent again
    let counts = daemon.run("teams", &json!({}))["run"]["counts"].clone();
    assert_eq!((&counts["delivered"], &counts["unchanged"]), (&json!(5), &json!(0)), "{counts}");
    assert_eq!(daemon.run("accounts", &json!({"retry_rejected": true}))["run"]["status"], json!("succeeded"));
    assert_right(&receiver, &place);
    assert_eq!(receiver.group("team", "k2").unwrap()["rev"], json!(1));
    let output = daemon.stop().exits(0);
    output.says(&[
        "its log (`.wal`) is missing",
        "every group is unconfirmed now",
        "its synced document cannot be read",
    ]);
    place.run(&["run"]).exits(0).says(&["teams: 5 rows: 5 unchanged; nothing sent"]);
}

#[test]
fn a_backup_holds_what_is_only_in_the_log_and_a_busy_ledger_says_so() {
    let receiver = Receiver::start();
    let place = place(&receiver);
    place.run(&["ledger", "backup", "copy.duckdb"]).exits(2).says(&["there is no ledger yet"]);
    let answer = std::sync::Arc::new(tokio::sync::Notify::new());
    receiver.vendor.script([Fault::Hold(std::sync::Arc::clone(&answer))]);
    let counts = &receiver.vendor.counts.requests;
    let run = place.start(&["run"]);
    crate::support::cli::until("a request", || (counts.load(std::sync::atomic::Ordering::SeqCst) > 0).then_some(()));
    // The run that has the ledger open makes the copy itself.
    place.run(&["ledger", "backup", "while-it-sends.duckdb"]).exits(0).says(&["copied to while-it-sends.duckdb"]);
    let copied = duckdb::Connection::open(place.path("while-it-sends.duckdb")).unwrap();
    let marked: u64 = copied.query_row("SELECT count(*) FROM marks", [], |row| row.get(0)).unwrap();
    assert_eq!(marked, 5, "what is being sent is unconfirmed in the copy");
    drop(copied);
    run.kill();
    assert!(state(&place, "ledger.duckdb.wal").exists());
    let before = place.ledger_bytes();
    place.run(&["ledger", "backup", "copy.duckdb", "--json"]).exits(0);
    assert_eq!(place.ledger_bytes(), before);
    let copied = duckdb::Connection::open(place.path("copy.duckdb")).unwrap();
    let marked: u64 = copied.query_row("SELECT count(*) FROM marks", [], |row| row.get(0)).unwrap();
    assert_eq!(marked, 5);
    assert_eq!(mode(&place.path("copy.duckdb")), 0o600);
    assert!(!place.path("copy.duckdb.part").exists());
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Edits the ledger as damage would.
fn edit(place: &Place, sql: &str) {
    let ledger = duckdb::Connection::open(state(place, "ledger.duckdb")).unwrap();
    ledger.execute_batch(sql).unwrap();
}

#[test]
fn a_document_that_cannot_be_read_is_its_own_groups_matter_alone() {
    for healing in ["an edited row", "reset", "reset of one group", "adopt"] {
        let receiver = Receiver::start();
        let place = place(&receiver);
        place.run(&["run"]).exits(0);
        let deep = format!("{{\"note\":{}1{}}}", "[".repeat(130), "]".repeat(130));
        edit(
            &place,
            &format!(
                "UPDATE synced SET document = '{{\"rev\":' WHERE key = 'k2'; UPDATE synced SET document = '{deep}' WHERE key = 'k3';
                 UPDATE journal SET change = 'nonsense', document = NULL WHERE key = 'k2'"
            ),
        );
        // THEN an export tells all others, and names it
        let export = place.run(&["ledger", "export", "accounts"]).exits(1);
        let lines: Vec<Value> = export.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 5);
        let line = |key: &str| lines.iter().find(|line| line["key"] == key).unwrap();
        assert_eq!((&line("k2")["document"], &line("k1")["document"]["rev"]), (&json!(null), &json!(1)));
        assert!(line("k2")["unreadable"].as_str().unwrap().contains("its synced document cannot be read"));
        export.says(&["group `k2` and 1 other group cannot be read", "groupcast ledger reset accounts --group"]);
        // AND so does whoever looks at the group
        place
            .run(&["group", "accounts", "k2"])
            .exits(1)
            .says(&["unreadable: its synced document cannot be read", "what was sent cannot be read in the ledger"]);
        place.run(&["group", "accounts", "k1"]).exits(0);
        let group = place.run(&["group", "accounts", "k3", "--json"]).exits(1);
        assert!(group.stdout.contains("recursion limit"), "{}", group.stdout);
        // WHEN it is to be sent
        match healing {
            "reset" => drop(place.run(&["ledger", "reset", "accounts", "--yes"]).exits(0)),
            "reset of one group" => {
                for key in ["k2", "k3"] {
                    place.run(&["ledger", "reset", "accounts", "--group", key, "--yes"]).exits(0);
                }
            }
            "adopt" => {
                place.warehouse("UPDATE accounts SET rev = 1");
                edit(&place, "UPDATE synced SET fingerprint = 0");
                place.run(&["ledger", "adopt", "accounts"]).exits(0);
            }
            _ => place.warehouse("UPDATE accounts SET rev = 2"),
        }
        let run = place.run(&["run"]);
        if healing != "adopt" {
            // THEN the run names it, and its group alone is sent in full, or held for its addition
            run.exits(3).says(&["group `k2`: its synced document cannot be read", "the group is resent in full"]);
        }
        settle(&place);
        assert_right(&receiver, &place);
        place.run(&["ledger", "export", "accounts"]).exits(0);
    }
}

#[test]
fn json_too_deep_to_be_read_back_is_rejected_by_name_before_it_is_sent() {
    let place = Place::new();
    place.write(
        "groupcast.toml",
        "[sources.warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n\n\
         [destinations.amplitude]\ntype = \"file\"\npath = \"out.ndjson\"\n",
    );
    place.warehouse(
        "CREATE TABLE accounts AS SELECT 'd' || d AS id, (repeat('[', d) || '1' || repeat(']', d))::JSON AS j
         FROM (VALUES (1), (99), (100), (101), (126), (127), (300)) v(d)",
    );
    place.mapping("accounts", &mapping("j = \"j\"\no = { inner = \"j\" }\n", "[guards]\nchanged_max = 1"));
    place.run(&["run"]).exits(3).says(&["2 delivered", "5 rejected"]);
    let rejected = place.run(&["rejected"]).exits(0);
    for key in ["d100", "d101", "d126", "d127", "d300"] {
        assert!(rejected.stdout.contains(key), "{}", rejected.stdout);
    }
    rejected.says(&["trait `o`: JSON nested deeper than 100 levels: flatten it with `sql`"]);
    assert_eq!(place.read("out.ndjson").lines().count(), 2);
    // What was sent can be read by everybody.
    place.run(&["group", "accounts", "d99", "--json"]).exits(0);
    assert_eq!(place.run(&["ledger", "export", "accounts"]).exits(0).stdout.lines().count(), 7);
    place.run(&["run"]).exits(3).says(&["nothing sent"]);
    place.warehouse("UPDATE accounts SET j = '[1]'");
    place.run(&["run"]).exits(0).says(&["6 delivered"]);
}

#[test]
fn a_clock_that_was_ahead_once_is_no_reason_to_read_less() {
    let receiver = Receiver::start();
    let place = Place::with(&receiver);
    place.warehouse(
        "CREATE TABLE accounts AS SELECT 'k' || i AS id, 1 AS rev, TIMESTAMP '2026-01-01' + to_days(i::INT) AS at
         FROM range(1, 6) r(i)",
    );
    let incremental = "[incremental]\ncursor = \"at\"\nlookback = \"1h\"\nfull_every = \"7d\"";
    place.mapping("accounts", &mapping("rev = \"rev\"\n", incremental));
    place.run(&["run"]).exits(0);
    // A row behind the cursor is seen by a full run only.
    place.warehouse("UPDATE accounts SET rev = 2 WHERE id = 'k1'");
    place.run(&["run"]).exits(0).says(&["nothing sent"]);
    edit(&place, "UPDATE runs SET ended_at = TIMESTAMP '2096-01-01 00:00:00' WHERE full_read");
    place.run(&["run"]).exits(0).says(&["1 delivered"]);
    place.warehouse("UPDATE accounts SET rev = 3 WHERE id = 'k1'");
    place.run(&["run"]).exits(0).says(&["nothing sent"]);
}

/// On a clock that was never set certificates cannot be checked, nor times told apart.
#[test]
#[cfg(target_os = "linux")]
fn a_clock_before_1970_is_refused_before_anything_is_read_or_sent() {
    // What Rust needs to link has a C compiler.
    const SHIM: &str = "#define _GNU_SOURCE\n#include <time.h>\n#include <unistd.h>\n#include <sys/syscall.h>\n\
        int clock_gettime(clockid_t id, struct timespec *at) {\n\
        int failed = (int) syscall(SYS_clock_gettime, id, at);\n\
        if (!failed && id == CLOCK_REALTIME) at->tv_sec -= 2000000000;\n\
        return failed;\n}\n";
    let receiver = Receiver::start();
    let mut place = place(&receiver);
    place.write("shim.c", SHIM);
    let shim = place.path("shim.so");
    let built =
        std::process::Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&shim).arg(place.path("shim.c")).status();
    assert!(built.unwrap().success());
    // GIVEN a machine that believes it is 1963
    place.set("LD_PRELOAD", shim.to_str().unwrap());
    for command in [&["run"][..], &["plan"], &["status"], &["check"], &["daemon"]] {
        place.run(command).exits(2).says(&["clock shows a time before 1970", "set the clock"]);
    }
    assert_eq!(receiver.requests(), 0);
    assert!(!place.path("state").exists());
    // WHEN its clock is set THEN it works
    place.unset("LD_PRELOAD");
    place.run(&["run"]).exits(0).says(&["5 delivered"]);
}

/// Records a quiet run, so many days after some day.
async fn quiet_run(ledger: &DuckDbLedger, number: u32, days: i64) {
    let day = |days: i64| DateTime::<Utc>::from_timestamp(1_800_000_000, 0).unwrap() + TimeDelta::days(days);
    let start = RunStart {
        sync: "accounts".to_owned(),
        run: format!("run-{number:04}"),
        mapping: "m".to_owned(),
        traits: Vec::new(),
        started_at: day(days),
        started_by: "test".to_owned(),
        partial: false,
    };
    ledger.begin(&start).await.unwrap();
    let checkpoint = RunCheckpoint {
        status: RunStatus::Succeeded,
        ended_at: day(days) + TimeDelta::seconds(1),
        counts: "{}".to_owned(),
        rows: None,
        cursor: None,
        full: false,
        error: None,
        error_kind: None,
        guard: None,
        detail: String::new(),
    };
    ledger.finish("accounts", &start.run, checkpoint).await.unwrap();
}

#[tokio::test]
async fn history_is_forgotten_by_its_age_and_not_by_a_clock_that_jumped() {
    let folder = tempfile::tempdir().unwrap();
    let days = |days: u64| Duration::from_secs(days * 86_400);
    let retention = Retention { journal: days(90), runs: days(90), requests: days(90) };
    let ledger =
        DuckDbLedger::open(&folder.path().join("ledger.duckdb"), &Limits::standard(), retention).await.unwrap();
    let count = async || ledger.history().runs(None, None, 1_000).await.unwrap().len();
    // Every fifth day: 18 runs are younger than 90 days, and the oldest is just as old.
    for number in 0..30 {
        quiet_run(&ledger, number, i64::from(number) * 5).await;
    }
    let kept = count().await;
    assert!((18..=20).contains(&kept), "{kept}");
    // WHEN the clock is seventy years ahead for five runs, and right again
    for number in 30..35 {
        quiet_run(&ledger, number, 25_000 + i64::from(number)).await;
    }
    let after_jump = count().await;
    assert!(after_jump >= kept, "the jump counts for nine days: {after_jump} of {kept}");
    for number in 35..40 {
        quiet_run(&ledger, number, i64::from(number) * 5).await;
    }
    assert!(count().await >= kept);
    // AND the last success is the last run's, not the latest time
    let last = ledger.history().last_success("accounts").await.unwrap().unwrap();
    assert!(last < DateTime::<Utc>::from_timestamp(1_800_000_000, 0).unwrap() + TimeDelta::days(400), "{last}");
}

fn checksum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
    words.fold(5381, |sum, word| sum ^ word.wrapping_mul(0xbf58_476d_1ce4_e5b9))
}

/// Makes a DuckDB file claim to be of another format, written by another version.
fn claim(path: &Path, format: u64, version: &str) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[52..84].fill(0);
    // The first header of what DuckDB 2.0 writes only says that the others tell.
    let first = if format < 64 { format } else { 999 };
    bytes[12..20].copy_from_slice(&first.to_le_bytes());
    bytes[52..52 + version.len()].copy_from_slice(version.as_bytes());
    for header in [4096, 8192] {
        bytes[header + 56..header + 64].copy_from_slice(&format.to_le_bytes());
    }
    for header in [0, 4096, 8192] {
        let sum = checksum(&bytes[header + 8..header + 4096]);
        bytes[header..header + 8].copy_from_slice(&sum.to_le_bytes());
    }
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn files_of_a_newer_duckdb_say_what_to_do() {
    let receiver = Receiver::start();
    let place = place(&receiver);
    place.run(&["run"]).exits(0);
    let ledger = std::fs::read(state(&place, "ledger.duckdb")).unwrap();
    claim(&state(&place, "ledger.duckdb"), 70, "v3.1.0");
    for command in [&["run"][..], &["plan"], &["status"], &["ledger", "backup", "x.duckdb"]] {
        place.run(command).exits(1).says(&["written by a newer DuckDB (DuckDB v3.1.0)", "update Groupcast"]);
    }
    claim(&state(&place, "ledger.duckdb"), 63, "v0.9.2");
    place.run(&["run"]).exits(1).says(&["written by a very old DuckDB (DuckDB v0.9.2)"]);
    std::fs::write(state(&place, "ledger.duckdb"), ledger).unwrap();
    claim(&place.path("warehouse.duckdb"), 70, "v3.1.0");
    place.run(&["run"]).exits(2).says(&["newer DuckDB (DuckDB v3.1.0) than Groupcast has", "STORAGE_VERSION"]);
    claim(&place.path("warehouse.duckdb"), 63, "v0.9.2");
    place.run(&["run"]).exits(2).says(&["very old DuckDB (DuckDB v0.9.2)", "EXPORT DATABASE"]);
    claim(&place.path("warehouse.duckdb"), 69, "v2.0.1");
    place.run(&["run"]).exits(0).says(&["nothing sent"]);
}

#[test]
fn what_is_written_is_for_its_owner_alone_and_a_file_size_limit_is_an_error() {
    let receiver = Receiver::start();
    let place = place(&receiver);
    place.write(
        "groupcast.toml",
        &format!(
            "{}\n[destinations.out]\ntype = \"file\"\npath = \"out/changes.ndjson\"\n",
            settings(&receiver.url, "")
        ),
    );
    place.mapping("outward", &mapping("rev = \"rev\"\n", "").replace("\"amplitude\"", "\"out\""));
    let shell = |before: &str, arguments: &str| {
        let mut command = std::process::Command::new("sh");
        place.prepare(&mut command);
        command.arg("-c").arg(format!("{before}; exec {} {arguments}", env!("CARGO_BIN_EXE_groupcast")));
        crate::support::cli::start(command)
    };
    let answer = std::sync::Arc::new(tokio::sync::Notify::new());
    receiver.vendor.script([Fault::Hold(std::sync::Arc::clone(&answer))]);
    let counts = &receiver.vendor.counts.requests;
    let run = shell("umask 0", "run");
    crate::support::cli::until("a request", || (counts.load(std::sync::atomic::Ordering::SeqCst) > 0).then_some(()));
    // While it runs, its log is there as well, and no core would be dumped.
    for name in ["ledger.duckdb", "ledger.duckdb.wal", "ledger.duckdb.generation"] {
        assert_eq!(mode(&state(&place, name)), 0o600, "{name}");
    }
    #[cfg(target_os = "linux")]
    {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", run.pid())).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    }
    answer.notify_waiters();
    run.wait().exits(0);
    // What the destination `file` writes is meant for others.
    assert_eq!((mode(&place.path("out")), mode(&place.path("out/changes.ndjson"))), (0o777, 0o666));
    // WHEN nothing may grow any more
    place.warehouse("INSERT INTO accounts SELECT 'm' || i, 1, repeat('x', 500) || i, 1 FROM range(400) r(i)");
    let limited = shell("ulimit -f 600", "run accounts").wait();
    assert_eq!(limited.code, Some(1), "{}", limited.all());
    limited.says(&["limit"]);
    place.run(&["run"]);
    settle(&place);
    assert_right(&receiver, &place);
}
