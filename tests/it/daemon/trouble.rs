//! A daemon whose surroundings fail: a warehouse that never responds, a client that disconnects, a log that is not read, a
//! kill while runs are queued.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use groupcast::io::{Clock, SystemClock};
use serde_json::{Value, json};

use super::{edit, holding, place, scheduled, slow};
use crate::support::cli::{Place, Receiver, mapping, settings, until};
use crate::support::daemon::Daemon;

/// A PostgreSQL that accepts connections and never responds: its port, and how many it accepted.
fn silent() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepted = Arc::<AtomicUsize>::default();
    let counting = Arc::clone(&accepted);
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept() {
            kept.push(stream);
            counting.fetch_add(1, Ordering::SeqCst);
        }
    });
    (port, accepted)
}

/// Gives a sync `hung` a source that never responds; returns how many connections it accepted.
fn with_silent_source(place: &Place, receiver: &Receiver) -> Arc<AtomicUsize> {
    let (port, accepted) = silent();
    let silent = format!(
        "\n[sources.silent]\ntype = \"postgres\"\nurl = \"postgres://u@127.0.0.1:{}/d\"\nconnect_timeout_seconds = 600\n",
        port
    );
    place.write("groupcast.toml", &format!("{}{silent}", settings(&receiver.url, "")));
    let hung = mapping("rev = \"rev\"", "").replace("\"warehouse\"", "\"silent\"").replace("\"company\"", "\"team\"");
    place.mapping("hung", &hung);
    accepted
}

fn activity(daemon: &Daemon, sync: &str) -> Value {
    daemon.get(&format!("/api/v1/syncs/{sync}")).is(200)["sync"]["activity"].clone()
}

#[test]
fn a_source_that_never_answers_holds_nobody_up() {
    let receiver = Receiver::start();
    let mut place = place(&receiver, 5);
    place.set("GROUPCAST__DAEMON__DRAIN", "1s");
    let asked_of = with_silent_source(&place, &receiver);
    place.mapping("good", &scheduled("schedule = '* * * * * *'"));
    let daemon = Daemon::start(&place);
    let run = daemon.trigger("hung", &json!({}));
    until("it waits for its source", || (activity(&daemon, "hung")["state"] == "running").then_some(()));
    // others go on
    until("the good one has run three times", || {
        let runs = daemon.get("/api/v1/syncs/good/runs?count=9").is(200);
        (runs.as_array().unwrap().iter().filter(|run| run["status"] == "succeeded").count() >= 3).then_some(())
    });
    // it can be cancelled
    let clock = SystemClock::start();
    daemon.post(&format!("/api/v1/runs/{run}/cancel"), &json!({}));
    let ended = daemon.ended(&run);
    assert!(clock.elapsed() < Duration::from_secs(20), "{:?}", clock.elapsed());
    assert_eq!((&ended["run"]["status"], &ended["run"]["error_kind"]), (&json!("cancelled"), &json!("interrupted")));
    assert_eq!(activity(&daemon, "hung")["failures"], 0, "a cancelled run is no failure");
    // a plan without a client releases the sync
    {
        let before = asked_of.load(Ordering::SeqCst);
        let mut asking = TcpStream::connect(daemon.url.trim_start_matches("http://")).unwrap();
        write!(asking, "GET /api/v1/syncs/hung/plan HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        // Not asked for a second plan until then: that could be the one that is made, and never answered.
        until("the plan is being made", || (asked_of.load(Ordering::SeqCst) > before).then_some(()));
        daemon.get("/api/v1/syncs/hung/plan").is(409);
    }
    let run = daemon.trigger("hung", &json!({}));
    until("the sync runs", || (activity(&daemon, "hung")["running"]["run"] == json!(run)).then_some(()));
    // and the daemon ends although it still waits
    let clock = SystemClock::start();
    daemon.stop().exits(0);
    assert!(clock.elapsed() < Duration::from_secs(20), "{:?}", clock.elapsed());
}

#[test]
fn a_limit_of_plans_at_a_time_a_few_wait_and_the_rest_is_refused() {
    let receiver = Receiver::start();
    let mut place = place(&receiver, 5);
    place.set("GROUPCAST__DAEMON__PARALLEL_RUNS", "2");
    place.set("GROUPCAST__DAEMON__DRAIN", "1s");
    let asked_of = with_silent_source(&place, &receiver);
    let hung = place.read("mappings/hung.toml");
    for number in 0..30 {
        place.mapping(&format!("hung{number}"), &hung.replace("\"team\"", &format!("\"team{number}\"")));
    }
    place.mapping("good", &scheduled(""));
    let daemon = Daemon::start(&place);
    let ask = |number: usize| {
        let mut stream = TcpStream::connect(daemon.url.trim_start_matches("http://")).unwrap();
        write!(stream, "GET /api/v1/syncs/hung{number}/plan HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        stream.set_nonblocking(true).unwrap();
        Some(stream)
    };
    // Two are made, sixteen wait. Those two first: the others may come in any order.
    let mut asking: Vec<Option<TcpStream>> = (0..2).map(ask).collect();
    until("two sources are asked", || (asked_of.load(Ordering::SeqCst) == 2).then_some(()));
    asking.extend((2..30).map(ask));
    let mut refused = 0;
    until("twelve are told to come again", || {
        for place in &mut asking {
            let mut answer = [0; 4_096];
            let Some(Ok(bytes)) = place.as_mut().map(|stream| stream.read(&mut answer)) else { continue };
            let answer = String::from_utf8_lossy(&answer[..bytes]).to_lowercase();
            assert!(answer.starts_with("http/1.1 503 ") && answer.contains("retry-after: "), "{answer}");
            assert!(answer.contains("16 plans are queued already"), "{answer}");
            (*place, refused) = (None, refused + 1);
        }
        (refused == 12).then_some(())
    });
    assert_eq!(asked_of.load(Ordering::SeqCst), 2);
    // runs have places of their own
    assert_eq!(daemon.run("good", &json!({}))["run"]["status"], "succeeded");
    // who goes away makes room for the next, and so on
    let waiting = asking.iter_mut().filter(|place| place.is_some()).take(6);
    waiting.for_each(|place| *place = None);
    until("others are asked", || (asked_of.load(Ordering::SeqCst) > 2).then_some(()));
    drop(asking);
    until("a plan is made", || (daemon.get("/api/v1/syncs/good/plan").status == 200).then_some(()));
    daemon.stop().exits(0);
}

#[test]
fn a_plan_without_a_client_releases_the_warehouse() {
    let receiver = Receiver::start();
    let place = place(&receiver, 5);
    // Of a type that the mapping takes: else the plan is refused once the columns are known.
    let endless = "sql = \"SELECT id, name, (SELECT count(*) FROM range(200000000000) r(i) WHERE hash(i) % 7 = 3) AS rev \
                   FROM accounts\"";
    place.mapping("accounts", &scheduled("").replace("table = \"accounts\"", endless));
    let daemon = Daemon::start(&place);
    let mut asking = TcpStream::connect(daemon.url.trim_start_matches("http://")).unwrap();
    write!(asking, "GET /api/v1/syncs/accounts/plan HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let warehouse = place.path("warehouse.duckdb").canonicalize().unwrap();
    let holds = || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().flatten();
        open.filter_map(|fd| std::fs::read_link(fd.path()).ok()).any(|path| path == warehouse)
    };
    asking.set_nonblocking(true).unwrap();
    // It is opened for a moment to describe the columns, too: that is over within fewer looks.
    let mut looks_in_a_row = 0;
    until("the warehouse is read", || {
        let mut answer = [0; 4_096];
        if let Ok(bytes) = asking.read(&mut answer) {
            panic!("the plan has no end, and was answered: {}", String::from_utf8_lossy(&answer[..bytes]));
        }
        looks_in_a_row = if holds() { looks_in_a_row + 1 } else { 0 };
        (looks_in_a_row > 500).then_some(())
    });
    drop(asking);
    until("the file is let go", || (!holds()).then_some(()));
    edit(&place, "UPDATE accounts SET rev = 1");
    let read_at = || daemon.get("/api/v1/about").is(200)["config_read_at"].clone();
    let before = read_at();
    place.mapping("accounts", &scheduled(""));
    daemon.signal("HUP");
    // A plan by the old mapping would have no end.
    until("the mapping is taken over", || (read_at() != before).then_some(()));
    until("the sync is free", || {
        let plan = daemon.get("/api/v1/syncs/accounts/plan");
        (plan.status == 200 && plan.body["add"] == 5).then_some(())
    });
    daemon.stop().exits(0);
}

#[test]
fn a_queued_run_survives_a_kill_also_behind_another_one() {
    let receiver = Receiver::start();
    let mut place = place(&receiver, 5);
    place.set("GROUPCAST__DAEMON__PARALLEL_RUNS", "1");
    place.mapping("accounts", &scheduled(""));
    place.mapping("teams", &scheduled("").replace("\"company\"", "\"team\""));
    let daemon = Daemon::start(&place);
    slow(&receiver, 1_500);
    // GIVEN a run, another sync's run behind it, and one more of the first sync behind both
    let first = daemon.trigger("accounts", &json!({}));
    until("the first sends", || (receiver.requests() > 0).then_some(()));
    let between = daemon.trigger("teams", &json!({}));
    let last = daemon.trigger("accounts", &json!({}));
    assert_ne!(first, last);
    daemon.ended(&first);
    until("the second sends", || (receiver.requests() > 1).then_some(()));
    assert_eq!(activity(&daemon, "accounts")["queued"]["run"], json!(last));
    // WHEN the process is killed
    daemon.kill();
    slow(&receiver, 0);
    edit(&place, "UPDATE accounts SET rev = 7");
    // THEN the queued run runs under its id
    let daemon = Daemon::start(&place);
    let ended = daemon.ended(&last);
    assert_eq!(ended["run"]["status"], "succeeded", "{ended}");
    assert_eq!(holding(&receiver, "rev", 7), 5);
    assert_eq!(daemon.ended(&between)["run"]["status"], "crashed");
    daemon.stop().exits(0);
}

#[test]
fn a_run_that_was_taken_back_or_whose_mapping_went_is_not_remembered() {
    let receiver = Receiver::start();
    let mut place = place(&receiver, 5);
    place.set("GROUPCAST__DAEMON__PARALLEL_RUNS", "1");
    for (name, kind) in [("accounts", "company"), ("teams", "team"), ("units", "unit")] {
        place.mapping(name, &scheduled("").replace("\"company\"", &format!("\"{kind}\"")));
    }
    let units = place.read("mappings/units.toml");
    let daemon = Daemon::start(&place);
    slow(&receiver, 3_000);
    daemon.trigger("accounts", &json!({}));
    until("the first sends", || (receiver.requests() > 0).then_some(()));
    let taken_back = daemon.trigger("teams", &json!({}));
    let gone = daemon.trigger("units", &json!({}));
    daemon.post(&format!("/api/v1/runs/{taken_back}/cancel"), &json!({}));
    std::fs::remove_file(place.path("mappings/units.toml")).unwrap();
    daemon.signal("HUP");
    until("it left", || (daemon.get("/api/v1/syncs/units").status == 404).then_some(()));
    daemon.kill();
    place.mapping("units", &units);
    let daemon = Daemon::start(&place);
    for (sync, run) in [("teams", taken_back), ("units", gone)] {
        assert_eq!(activity(&daemon, sync)["queued"], Value::Null, "{sync}");
        assert_eq!(daemon.get(&format!("/api/v1/runs/{run}")).status, 404, "{sync}");
    }
    daemon.stop().exits(0);
}

#[test]
fn whoever_asks_and_goes_away_gets_the_run() {
    let receiver = Receiver::start();
    let place = place(&receiver, 5);
    place.mapping("accounts", &scheduled(""));
    let daemon = Daemon::start(&place);
    for round in 1..=20 {
        let mut asking = TcpStream::connect(daemon.url.trim_start_matches("http://")).unwrap();
        let body = "{}";
        write!(
            asking,
            "POST /api/v1/syncs/accounts/runs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        // Half of them wait for the first byte of the answer, the others for nothing.
        if round % 2 == 0 {
            asking.read_exact(&mut [0]).unwrap();
        }
    }
    // Nothing waits longer than the run before it takes: nobody has to look for it again.
    let clock = SystemClock::start();
    until("nothing waits or runs", || {
        let activity = activity(&daemon, "accounts");
        (activity["state"] == "manual").then_some(())
    });
    assert!(clock.elapsed() < Duration::from_secs(15), "{:?}", clock.elapsed());
    daemon.stop().exits(0);
}

#[test]
fn a_query_that_never_ends_ends_its_own_run_and_the_others_of_its_file_go_on() {
    let receiver = Receiver::start();
    let place = place(&receiver, 5);
    let settings = place.read("groupcast.toml");
    let path = "path = \"warehouse.duckdb\"";
    assert!(settings.contains(path));
    place.write("groupcast.toml", &settings.replace(path, &format!("{path}\nstall_timeout_seconds = 3")));
    let endless = "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT 1 FROM r) \
                   SELECT 'k' AS id, 'n' AS name, max(i) AS rev FROM r";
    let endless = scheduled("").replace("table = \"accounts\"", &format!("sql = \"{endless}\""));
    assert!(endless.contains("RECURSIVE"));
    place.mapping("accounts", &endless);
    place.mapping("second", &scheduled("").replace("\"company\"", "\"second\""));
    place.mapping("third", &scheduled("").replace("\"company\"", "\"third\""));
    let daemon = Daemon::start(&place);
    // GIVEN one that reads without end
    let stuck = daemon.trigger("accounts", &json!({}));
    until("it reads", || (activity(&daemon, "accounts")["state"] == "running").then_some(()));
    // WHEN two others of the same file are asked for
    let others = ["second", "third"].map(|sync| daemon.trigger(sync, &json!({})));
    // THEN it fails by name, and they are delivered
    let failed = daemon.ended(&stuck)["run"].clone();
    assert_eq!(failed["status"], "failed", "{failed}");
    assert_eq!(failed["error_kind"], "source_busy", "{failed}");
    assert!(failed["error"].as_str().unwrap().contains("no progress for 3s"), "{failed}");
    for run in others {
        let ended = daemon.ended(&run)["run"].clone();
        assert_eq!(ended["status"], "succeeded", "{ended}");
    }
    daemon.stop().exits(0);
}

#[test]
fn a_daemon_runs_and_stops_although_its_standard_error_is_not_read() {
    let receiver = Receiver::start();
    let place = place(&receiver, 3);
    place.mapping("accounts", &scheduled("schedule = { every = '24h' }"));
    // GIVEN a pipe on standard error that is full, and stays so
    let (unread, mut pipe) = std::io::pipe().unwrap();
    pipe.write_all(&[b' '; 64 * 1024]).unwrap();
    let mut command = place.command(&["daemon", "--listen", "127.0.0.1:0"]);
    let mut daemon = command.stderr(pipe).spawn().unwrap();
    // THEN what is due runs
    until("everything arrived", || (receiver.vendor.groups().len() == 3).then_some(()));
    // AND it stops when it is stopped
    let clock = SystemClock::start();
    let killed = std::process::Command::new("kill").args(["-TERM", &daemon.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert!(daemon.wait().unwrap().success());
    assert!(clock.elapsed() < Duration::from_secs(20), "{:?}", clock.elapsed());
    drop(unread);
}
