//! Do commands get the whole answer of a daemon, however long it is, and notice one that is not whole?

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use groupcast::io::file_id::FileId;
use serde_json::{Value, json};

use super::{edit, place, scheduled};
use crate::support::cli::{Place, Receiver, mapping};
use crate::support::daemon::Daemon;

/// A mapping of thirty traits.
fn wide() -> String {
    let mut traits = String::new();
    for number in 0..30 {
        writeln!(traits, "trait_{number} = {{ sql = \"name || repeat(' {number}', 40)\" }}").unwrap();
    }
    mapping(&traits, "[guards]\nchanged_max = 1")
}

#[test]
fn a_plan_of_any_size_is_shown_alike_with_and_without_a_daemon() {
    let receiver = Receiver::start();
    for groups in [20, 3_000] {
        let place = place(&receiver, groups);
        place.mapping("accounts", &wide());
        let plans: [&[&str]; 4] = [
            &["plan"],
            &["plan", "--show", "all"],
            &["plan", "--json"],
            &["plan", "accounts", "--show", "7", "--group", "k3"],
        ];
        let before: Vec<String> = plans.iter().map(|plan| place.run(plan).exits(0).stdout).collect();
        assert!(before[2].len() > 64 * 1024, "{}", before[2].len());
        assert_eq!(before[2].lines().count(), groups + 1);
        let daemon = Daemon::start(&place);
        for (plan, before) in plans.iter().zip(&before) {
            assert!(place.run(plan).exits(0).stdout == *before, "{plan:?} of {groups} groups");
        }
        daemon.stop().exits(0);
    }
    assert_eq!(receiver.requests(), 0);
}

#[test]
fn long_lists_are_told_alike_with_and_without_a_daemon() {
    let receiver = Receiver::start();
    let place = place(&receiver, 3);
    place.mapping("accounts", &scheduled(""));
    place.run(&["run"]).exits(0);
    // GIVEN a history longer than any page
    let ledger = duckdb::Connection::open(place.path("state/ledger.duckdb")).unwrap();
    ledger
        .execute_batch(
            "INSERT INTO synced (sync, key, document, rejected_document, rejected_reason, seq, recorded_at)
                 SELECT 'accounts', 'r' || lpad(i::VARCHAR, 5, '0'), '{}', '{\"name\":\"x\"}', repeat('no ', 50), 0,
                     TIMESTAMP '2026-01-01' FROM range(2500) r(i);
             INSERT INTO journal (sync, run, seq, key, change, outcome, recorded_at)
                 SELECT 'accounts', 'r' || i, 100 + i, 'k1', '{\"set\":{\"name\":\"n' || i || '\"}}', 'delivered',
                     TIMESTAMP '2026-01-01' FROM range(2500) r(i);
             INSERT INTO runs (sync, run, mapping, traits, started_at, ended_at, status, counts, error)
                 SELECT 'accounts', '20250101T000000.000Z-' || lpad(i::VARCHAR, 5, '0'), '', [], TIMESTAMP '2025-01-01',
                     TIMESTAMP '2025-01-01', 'failed', '{}', repeat('out of luck ', 20) FROM range(2500) r(i);
             UPDATE meta SET next_seq = 10000",
        )
        .unwrap();
    ledger.close().map_err(|(_, error)| error).unwrap();
    let questions: [&[&str]; 6] = [
        &["rejected", "-n", "2400", "--json"],
        &["rejected", "-n", "9000", "--json"],
        &["group", "accounts", "k1", "-n", "2300", "--json"],
        &["group", "accounts", "k1", "-n", "9000", "--json"],
        &["runs", "-n", "2200", "--json"],
        &["runs", "accounts", "-n", "9000", "--json"],
    ];
    let before: Vec<Value> = questions.iter().map(|question| place.run(question).exits(0).json()).collect();
    assert_eq!(before[0]["rejected"].as_array().unwrap().len(), 2_400);
    assert_eq!(before[3]["history"].as_array().unwrap().len(), 2_501);
    let daemon = Daemon::start(&place);
    for (question, before) in questions.iter().zip(&before) {
        assert!(place.run(question).exits(0).json() == *before, "{question:?}");
    }
    daemon.stop().exits(0);
}

#[test]
fn a_plan_whose_reader_went_away_lets_go_of_the_sync() {
    let receiver = Receiver::start();
    let place = place(&receiver, 20_000);
    place.mapping("accounts", &wide());
    let daemon = Daemon::start(&place);
    // A pager that is closed on the first screen.
    let mut pager = std::process::Command::new("sh");
    place.prepare(&mut pager);
    pager.args(["-c", "\"$0\" plan --show all | head -n 3 >/dev/null", env!("CARGO_BIN_EXE_groupcast")]);
    crate::support::cli::start(pager).wait().exits(0);
    edit(&place, "DELETE FROM accounts WHERE id > 'k1'");
    place.run(&["run"]).exits(0).says(&["2 delivered"]);
    daemon.stop().exits(0);
}

/// Answers as the daemon of this project says hello, and then with `answer`, whatever is asked.
fn pretend(place: &Place, answer: &'static str) -> std::thread::JoinHandle<()> {
    let id = |path: &str| serde_json::to_value(FileId::of(&place.path(path)).unwrap()).unwrap();
    let hello = json!({"version": "0", "pid": 7, "url": "http://127.0.0.1:7", "ledger": id("state/ledger.duckdb"),
        "folder": place.path(""), "folder_id": id("")});
    let socket = place.path("state/ledger.duckdb.sock");
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        let mut answers = [format!("HTTP/1.1 200 OK\r\n\r\n{hello}"), answer.to_owned()].into_iter().peekable();
        while answers.peek().is_some() {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
                let mut bytes = [0; 4096];
                let read = stream.read(&mut bytes).unwrap();
                assert!(read > 0, "the request is whole");
                asked.extend_from_slice(&bytes[..read]);
            }
            // What commands show beside what they are for.
            let is_beside = String::from_utf8_lossy(&asked).contains("/ledger/orphaned ");
            let answer = if is_beside { "HTTP/1.1 200 OK\r\n\r\n[]".to_owned() } else { answers.next().unwrap() };
            // The other side may have what it wants.
            let _ = stream.write_all(answer.as_bytes());
        }
    })
}

#[test]
fn an_answer_that_is_cut_off_is_an_error_of_its_own() {
    let receiver = Receiver::start();
    let place = place(&receiver, 3);
    place.mapping("accounts", &scheduled(""));
    place.run(&["run"]).exits(0);
    let _lock = duckdb::Connection::open(place.path("state/ledger.duckdb")).unwrap();
    let change = r#"{"item":{"change":{"key":"k1","kind":"new","certain":true,"before":{},"change":{"set":{"a":1}},"rejection":null}}}"#;
    let line: &'static str = Box::leak(
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{change}\n\r\n", change.len() + 1)
            .into_boxed_str(),
    );
    let whole: &'static str = Box::leak(format!("{line}0\r\n\r\n").into_boxed_str());
    let cases: [(&[&str], &'static str); 5] = [
        // The connection ends in the middle, or the lines end without the last one.
        (&["plan"], line),
        (&["plan", "--json"], whole),
        (&["status"], "HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n[{\"sync\""),
        (&["runs"], "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n[\r\n"),
        (&["group", "accounts", "k1"], "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"),
    ];
    for (command, answer) in cases {
        let pretended = pretend(&place, answer);
        let output = place.run(command).exits(1);
        assert!(output.all().contains("was cut off"), "{command:?}: {}", output.all());
        assert!(!output.all().contains("one version"), "{command:?}: {}", output.all());
        pretended.join().unwrap();
    }
    // What is whole and makes no sense is something else.
    let pretended = pretend(&place, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
    place.run(&["status"]).exits(1).says(&["cannot be read", "one version"]);
    pretended.join().unwrap();
}
