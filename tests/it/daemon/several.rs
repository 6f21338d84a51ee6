//! Several daemons over one ledger in PostgreSQL: each scheduled time runs once, one that is killed or frozen is taken over,
//! and pauses, requests and drains reach all of them. Real processes, a real server, a receiver that sees what is in flight.

mod soak;

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use groupcast::io::http::LATE_MAX;
use groupcast::io::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::support::cli::{Place, until, within};
use crate::support::daemon::Daemon;
use crate::support::flights::Flights;
use crate::support::postgres::{Database, shared};

/// How long the leases of these tests last.
const LEASE: Duration = Duration::from_secs(6);

/// Two databases, a warehouse's and a ledger's, and a receiver.
struct World {
    warehouse: String,
    ledger: String,
    receiver: Flights,
    syncs: usize,
}

fn database() -> Database {
    // Its client's task ends with the runtime; only its name is used from here on.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(shared().create_database())
}

fn sql(database: &str, text: &str) -> Vec<tokio_postgres::Row> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = shared().client(database).await;
        match text.starts_with("SELECT") {
            true => client.query(text, &[]).await.unwrap(),
            false => {
                client.batch_execute(text).await.unwrap();
                Vec::new()
            }
        }
    })
}

impl World {
    fn new(syncs: usize, groups: usize, delay: Duration) -> World {
        let (warehouse, ledger) = (database().name().to_owned(), database().name().to_owned());
        for sync in 0..syncs {
            sql(
                &warehouse,
                &format!(
                    "CREATE TABLE accounts_{sync} AS SELECT 's{sync}-k' || i AS id, 0 AS rev FROM generate_series(1, {groups}) i"
                ),
            );
        }
        World { warehouse, ledger, receiver: Flights::start(delay), syncs }
    }

    /// A config folder like every other one's.
    fn place(&self, schedule: &str, daemon: &str) -> Place {
        let server = format!("127.0.0.1:{}", shared().port());
        self.place_that_reaches(&server, &self.receiver.url, schedule, daemon)
    }

    /// The same, with the addresses of the server and the receiver.
    fn place_that_reaches(&self, server: &str, receiver: &str, schedule: &str, daemon: &str) -> Place {
        let place = Place::new();
        // The server's certificate is for `localhost`.
        let query = if server.starts_with("127.") { "" } else { "?sslmode=disable" };
        let url = |database: &str| format!("postgres://root_user@{server}/{database}{query}");
        place.write(
            "groupcast.toml",
            &format!(
                "[state]\nurl = \"{}\"\nlease = \"{}s\"\n\n[sources.warehouse]\ntype = \"postgres\"\nurl = \"{}\"\n\n\
                 [destinations.hook]\ntype = \"webhook\"\nurl = \"{}\"\ntimeout = \"5s\"\nbatch_max = 5\nconcurrency = 2\n\n\
                 [daemon]\n{daemon}\n",
                url(&self.ledger),
                LEASE.as_secs(),
                url(&self.warehouse),
                receiver
            ),
        );
        for sync in 0..self.syncs {
            place.mapping(
                &format!("sync_{sync}"),
                &format!(
                    "{schedule}\nsource = \"warehouse\"\ndestination = \"hook\"\n\n[model]\ntable = \"accounts_{sync}\"\n\n\
                     [group]\ntype = \"type_{sync}\"\nkey = \"id\"\n\n[traits]\nrev = \"rev\"\n\n[guards]\nchanged_max = 1\n"
                ),
            );
        }
        place
    }

    fn update(&self, rev: u64) {
        for sync in 0..self.syncs {
            sql(&self.warehouse, &format!("UPDATE accounts_{sync} SET rev = {rev}"));
        }
    }

    /// Every run, the oldest first: sync, id, status, start, end, who started it.
    fn runs(&self) -> Vec<RunRow> {
        let rows = sql(
            &self.ledger,
            "SELECT s.name, r.run, r.status, r.started_at, r.ended_at, r.started_by FROM groupcast.runs r \
             JOIN groupcast.syncs s ON s.id = r.sync ORDER BY r.started_at",
        );
        rows.iter()
            .map(|row| RunRow {
                sync: row.get(0),
                run: row.get(1),
                status: row.get(2),
                started_at: row.get(3),
                ended_at: row.get(4),
                started_by: row.get(5),
            })
            .collect()
    }
}

#[derive(Debug, Clone)]
struct RunRow {
    sync: String,
    run: String,
    status: String,
    started_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
    started_by: String,
}

fn daemon(place: &Place, name: &str) -> Daemon {
    Daemon::begin(place, None, || place.start(&["daemon", "--listen", "127.0.0.1:0", "--name", name]))
}

/// Fails where two runs of one sync overlapped.
fn never_overlap(runs: &[RunRow]) {
    let mut last: BTreeMap<&str, &RunRow> = BTreeMap::new();
    for run in runs {
        if let Some(before) = last.insert(&run.sync, run) {
            assert!(before.ended_at.is_some_and(|ended| ended <= run.started_at), "{before:?} overlaps {run:?}");
        }
    }
}

#[test]
fn each_scheduled_time_is_run_once_by_one_of_two_daemons_and_both_show_it() {
    let world = World::new(4, 10, Duration::from_millis(20));
    let schedule = "schedule = '*/4 * * * * *'";
    let places = [world.place(schedule, "parallel_runs = 2"), world.place(schedule, "parallel_runs = 2")];
    let (one, two) = (daemon(&places[0], "one"), daemon(&places[1], "two"));
    until("each sync has run four times", || {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        world.runs().into_iter().for_each(|run| *counts.entry(run.sync).or_default() += 1);
        (counts.len() == 4 && counts.values().all(|count| *count >= 4)).then_some(())
    });
    // The same is seen at both, and from a folder without a daemon.
    for daemon in [&one, &two] {
        let daemons = daemon.get("/api/v1/daemons").is(200);
        let names: Vec<&str> = daemons.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["one", "two"]);
    }
    let elsewhere = world.place(schedule, "");
    let status = elsewhere.run(&["status", "--json"]).exits(0).json();
    assert_eq!(status["daemons"].as_array().unwrap().len(), 2, "{status}");
    elsewhere.run(&["status"]).exits(0).says(&["daemon one (process", "daemon two (process"]);
    // A second daemon of one name is refused, with what to do.
    let refused = elsewhere.run(&["daemon", "--listen", "127.0.0.1:0", "--name", "one"]).exits(1);
    assert!(refused.all().contains("a daemon with the name `one` runs already"), "{}", refused.all());
    for daemon in [one, two] {
        let log = daemon.stop().exits(0).stderr;
        assert!(log.contains("finished: 10 rows"), "both have run something: {log}");
    }
    let runs = world.runs();
    never_overlap(&runs);
    let mut times: BTreeMap<(&str, i64), Vec<&RunRow>> = BTreeMap::new();
    for run in runs.iter().filter(|run| run.started_by == "schedule") {
        times.entry((&run.sync, run.started_at.timestamp() / 4)).or_default().push(run);
    }
    for (time, runs) in times {
        assert_eq!(runs.len(), 1, "{time:?}: {runs:?}");
    }
    assert_eq!(world.receiver.faults(), Vec::<String>::new());
    assert_eq!(world.receiver.holding("rev", &json!(0)), 40);
}

/// The daemon that has a run of a sync, and the run.
fn holder(world: &World, sync: &str) -> Option<(String, String)> {
    let name = format!("sync/{sync}");
    let rows = sql(
        &world.ledger,
        &format!("SELECT detail FROM groupcast.leases WHERE name = '{name}' AND until > clock_timestamp()"),
    );
    let detail: Value = serde_json::from_str(rows.first()?.get(0)).ok()?;
    Some((detail["daemon"].as_str()?.to_owned(), detail["run"].as_str()?.to_owned()))
}

/// Waits until a run sends. Returns the daemon that has it, which may be any of the two, and the other one.
fn sending(world: &World, run: &str, [one, two]: [Daemon; 2]) -> (Daemon, Daemon) {
    until("the run sends", || (world.receiver.requests() > 2).then_some(()));
    match holder(world, "sync_0") {
        Some((name, held)) if held == run && name == "one" => (one, two),
        Some((name, held)) if held == run && name == "two" => (two, one),
        other => panic!("{other:?} has {run}"),
    }
}

#[test]
fn a_daemon_that_is_killed_is_taken_over_at_once_and_a_request_survives_it() {
    // So many that the run goes on while the other one is asked about it: half a minute.
    const GROUPS: usize = 300;
    let world = World::new(1, GROUPS, Duration::from_secs(1));
    let places = [world.place("schedule = '0 0 1 1 *'", ""), world.place("schedule = '0 0 1 1 *'", "")];
    let daemons = [daemon(&places[0], "one"), daemon(&places[1], "two")];
    let run = daemons[0].trigger("sync_0", &json!({}));
    let (one, two) = sending(&world, &run, daemons);
    let name = holder(&world, "sync_0").map(|(name, _)| name).expect("a daemon has the run");
    // The other shows it, and where it is; a request is queued behind it.
    let shown = until("the other knows where it is", || {
        let shown = two.get(&format!("/api/v1/runs/{run}")).is(200);
        shown["run"]["holder"].is_string().then_some(shown)
    });
    assert_eq!(shown["run"]["status"], "running", "{shown}");
    let first = format!("daemon {name} (process");
    assert!(shown["run"]["holder"].as_str().unwrap().starts_with(&first), "{shown}");
    // And how far it is, like a run of its own.
    until("the other knows how far it is", || {
        let shown = two.get(&format!("/api/v1/runs/{run}")).is(200);
        let done = shown["progress"]["done"].as_u64().filter(|done| *done > 0)?;
        assert_eq!(
            (&shown["progress"]["candidates"], &shown["progress"]["phase"], &shown["progress"]["run"]),
            (&json!(GROUPS), &json!("sending"), &json!(run)),
            "{shown}"
        );
        Some(done)
    });
    let activity = two.get("/api/v1/syncs/sync_0").is(200)["sync"]["activity"].clone();
    assert_eq!(
        (&activity["running"]["rows_read"], &activity["running"]["run"]),
        (&json!(GROUPS), &json!(run)),
        "{activity}"
    );
    for path in ["/", "/syncs/sync_0", &format!("/runs/{run}")] {
        let page = two.get(path).text;
        assert!(page.contains("<progress") && page.contains(&first), "{path}: {page}");
    }
    let metrics = two.get("/metrics").text;
    for line in
        ["groupcast_daemons 2", "groupcast_draining 0", "groupcast_leases_held 1", "groupcast_leases_lost_total 0"]
    {
        assert!(metrics.lines().any(|shown| shown == line), "{line}: {metrics}");
    }
    assert!(metrics.contains("groupcast_running{sync=\"sync_0\",destination=\"hook\"} 0"), "{metrics}");
    assert!(one.get("/metrics").text.contains("groupcast_leases_held 2"), "its name and its run");
    let queued = one.trigger("sync_0", &json!({ "full": true }));
    let clock = SystemClock::start();
    drop(one.kill());
    world.receiver.slow(Duration::from_millis(50));
    let ended = two.ended(&queued);
    let took = clock.elapsed();
    println!("taken over and run to the end {:.1} s after the kill", took.as_secs_f64());
    assert_eq!(ended["run"]["status"], "succeeded", "{ended}");
    let crashed = two.ended(&run);
    assert_eq!(crashed["run"]["status"], "crashed", "{crashed}");
    assert!(crashed["run"]["error"].as_str().unwrap().contains("ended or was cut off"), "{crashed}");
    drop(two.stop().exits(0));
    assert_eq!(world.runs().iter().filter(|row| row.run == queued).count(), 1, "it ran once");
    never_overlap(&world.runs());
    assert_eq!(world.receiver.faults(), Vec::<String>::new());
    assert_eq!(world.receiver.holding("rev", &json!(0)), GROUPS);
}

#[test]
fn a_daemon_that_was_frozen_writes_nothing_more_of_its_syncs_and_goes_on_as_a_daemon() {
    // So many that the run is not over before the daemon is frozen.
    const GROUPS: usize = 200;
    let world = World::new(2, GROUPS, Duration::from_secs(1));
    let schedule = "schedule = '0 0 1 1 *'";
    let places = [world.place(schedule, ""), world.place(schedule, "")];
    let daemons = [daemon(&places[0], "one"), daemon(&places[1], "two")];
    let run = daemons[0].trigger("sync_0", &json!({}));
    let (one, two) = sending(&world, &run, daemons);
    one.signal("STOP");
    world.receiver.slow(Duration::from_millis(50));
    let clock = SystemClock::start();
    // The lease, the destination's timeout, and how long the operating system goes on sending.
    let expected = LEASE + Duration::from_secs(5) + LATE_MAX;
    let recorded = within(2 * expected, "the other records the run as crashed", || {
        let runs = world.runs();
        runs.iter().find(|row| row.run == run && row.status == "crashed").cloned()
    });
    let took = clock.elapsed();
    println!("taken over {:.1} s after the freeze; the lease lasts {} s", took.as_secs_f64(), LEASE.as_secs());
    assert!(took >= expected - LEASE / 2, "requests of the frozen one may still arrive: {took:?}");
    assert!(world.runs().iter().all(|row| row.run != run || row.ended_at == recorded.ended_at));
    until("the other runs the sync again", || {
        world.runs().iter().any(|row| row.run != run && row.status == "succeeded").then_some(())
    });
    let before = world.runs();
    one.signal("CONT");
    until("the first notices", || one.log().contains("has taken sync `sync_0` over").then_some(()));
    until("its run is over", || (one.get("/api/v1/about").is(200)["running"] == 0).then_some(()));
    let after = world.runs();
    assert_eq!(
        after.iter().find(|row| row.run == run).map(|row| (&row.status, row.ended_at)),
        before.iter().find(|row| row.run == run).map(|row| (&row.status, row.ended_at)),
        "it writes nothing more of that run"
    );
    assert!(one.get("/metrics").text.contains("groupcast_leases_lost_total 1\n"), "{}", one.get("/metrics").text);
    // It goes on as a daemon.
    let ended = one.run("sync_1", &json!({}));
    assert_eq!(ended["run"]["status"], "succeeded", "{ended}");
    drop((one.stop().exits(0), two.stop().exits(0)));
    never_overlap(&world.runs());
    assert_eq!(world.receiver.faults(), Vec::<String>::new());
    assert_eq!(world.receiver.holding("rev", &json!(0)), 2 * GROUPS);
}

#[test]
fn a_pause_holds_everywhere_a_cancel_reaches_the_holder_and_a_drained_daemon_leaves_the_rest_to_others() {
    let world = World::new(2, 40, Duration::from_millis(300));
    let schedule = "schedule = '*/2 * * * * *'";
    let places = [world.place(schedule, ""), world.place(schedule, "")];
    let (one, two) = (daemon(&places[0], "one"), daemon(&places[1], "two"));
    until("both syncs ran", || (world.runs().iter().filter(|row| row.status == "succeeded").count() > 3).then_some(()));
    for sync in ["sync_0", "sync_1"] {
        one.post(&format!("/api/v1/syncs/{sync}/pause"), &json!({})).is(200);
    }
    until("the pause is seen at the other", || {
        let syncs = two.get("/api/v1/syncs").is(200);
        syncs.as_array().unwrap().iter().all(|sync| !sync["activity"]["paused_since"].is_null()).then_some(())
    });
    until("nothing runs any more", || world.runs().iter().all(|row| row.ended_at.is_some()).then_some(()));
    let count = world.runs().len();
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(world.runs().len(), count, "no run starts while the syncs are paused");
    // A request is run by whichever daemon claims it; it is cancelled at the other one.
    world.update(1);
    world.receiver.slow(Duration::from_secs(1));
    let run = one.trigger("sync_0", &json!({}));
    let (name, _) = until("the run goes on", || {
        (world.receiver.in_flight() > 0).then(|| holder(&world, "sync_0")).flatten().filter(|(_, held)| *held == run)
    });
    let other = if name == "one" { &two } else { &one };
    other.post(&format!("/api/v1/runs/{run}/cancel"), &json!({})).is(202);
    assert_eq!(one.ended(&run)["run"]["status"], "cancelled");
    // WHEN one is drained while it has a run, it finishes that and ends
    world.receiver.slow(Duration::from_secs(2));
    let run = one.trigger("sync_1", &json!({}));
    let (name, _) = until("the run goes on", || holder(&world, "sync_1").filter(|(_, held)| *held == run));
    let (drained, left, folder) = if name == "one" { (one, two, &places[1]) } else { (two, one, &places[0]) };
    folder.run(&["daemon", "drain", &name]).exits(0).says(&["is draining", "sync_1"]);
    folder.run(&["daemon", "drain", "three"]).exits(2).says(&["no daemon `three`"]);
    let log = drained.stop_was_asked().exits(0).stderr;
    assert!(log.contains("draining"), "{log}");
    assert_eq!(left.ended(&run)["run"]["status"], "succeeded", "it ended with the run that it had");
    let daemons = left.get("/api/v1/daemons").is(200);
    assert_eq!(daemons.as_array().unwrap().len(), 1, "{daemons}");
    // THEN the schedules go on at the other
    world.receiver.slow(Duration::ZERO);
    let seen = world.runs().len();
    for sync in ["sync_0", "sync_1"] {
        left.post(&format!("/api/v1/syncs/{sync}/resume"), &json!({})).is(200);
    }
    until("both syncs run again", || (world.runs().len() > seen + 3).then_some(()));
    until("all is sent", || (world.receiver.holding("rev", &json!(1)) == 80).then_some(()));
    drop(left.stop().exits(0));
    never_overlap(&world.runs());
    assert_eq!(world.receiver.faults(), Vec::<String>::new());
}

#[test]
fn a_command_elsewhere_runs_beside_a_daemon_and_is_seen_there() {
    let world = World::new(1, 120, Duration::from_secs(1));
    let schedule = "schedule = '0 0 1 1 *'";
    let (place, elsewhere) = (world.place(schedule, ""), world.place(schedule, ""));
    let one = daemon(&place, "one");
    let command = elsewhere.start(&["run"]);
    let seen = until("the daemon shows the command's run", || {
        let syncs = one.get("/api/v1/syncs").is(200);
        syncs[0]["activity"]["holder"].as_str().map(str::to_owned)
    });
    assert!(seen.contains(&format!("process {}", command.pid())), "{seen}");
    // How far it is, at the daemon and from a folder without one.
    until("the daemon shows its progress", || {
        let syncs = one.get("/api/v1/syncs").is(200);
        (syncs[0]["activity"]["running"]["done"].as_u64() > Some(0)).then_some(())
    });
    let status = world.place(schedule, "").run(&["status"]).exits(0);
    status.says(&["sending", "of 120 at process", "daemon one (process"]);
    // Its sync waits for it, and the daemon's own run comes after.
    let run = one.trigger("sync_0", &json!({}));
    command.wait().exits(0);
    assert_eq!(one.ended(&run)["run"]["status"], "succeeded");
    one.get(&format!("/api/v1/runs/{run}")).is(200);
    drop(one.stop().exits(0));
    never_overlap(&world.runs());
    assert_eq!(world.receiver.faults(), Vec::<String>::new());
}

#[test]
fn a_run_of_a_command_elsewhere_is_cancelled_from_a_daemon_as_by_ctrl_c() {
    let world = World::new(2, 120, Duration::from_secs(1));
    let schedule = "schedule = '0 0 1 1 *'";
    let (place, elsewhere) = (world.place(schedule, ""), world.place(schedule, ""));
    let one = daemon(&place, "one");
    let command = elsewhere.start(&["run", "sync_0", "sync_1"]);
    let run = until("the daemon shows the command's run", || {
        let progress = one.get("/api/v1/syncs/sync_0").is(200)["sync"]["activity"]["running"].clone();
        progress["run"].as_str().filter(|_| progress["done"].as_u64() > Some(0)).map(str::to_owned)
    });
    // WHEN it is cancelled at the daemon
    let clock = SystemClock::start();
    one.post(&format!("/api/v1/runs/{run}/cancel"), &json!({})).is(202);
    let ended = one.ended(&run);
    println!(
        "cancelled {:.1} s after the request; the lease lasts {} s",
        clock.elapsed().as_secs_f64(),
        LEASE.as_secs()
    );
    // THEN it ends as by Ctrl-C, and the command continues with its other sync
    assert_eq!(ended["run"]["status"], "cancelled", "{ended}");
    assert_eq!(ended["run"]["error_kind"], "interrupted", "{ended}");
    let counts = &ended["run"]["counts"];
    assert_eq!(counts["delivered"].as_u64().unwrap() + counts["pending"].as_u64().unwrap(), 120, "{ended}");
    world.receiver.slow(Duration::ZERO);
    command.wait().exits(130).says(&["sync_0: cancelled by another process", "120 delivered"]);
    // AND the next run sends the rest, once.
    assert_eq!(one.run("sync_0", &json!({}))["run"]["status"], "succeeded");
    drop(one.stop().exits(0));
    never_overlap(&world.runs());
    assert_eq!(world.receiver.faults(), Vec::<String>::new());
    assert_eq!(world.receiver.holding("rev", &json!(0)), 240);
}
