//! Do memory and handles stay flat over many real runs against a receiver with faults, and do the counts add up?
//!
//! The real program with ten syncs over DuckDB, Parquet, CSV and PostgreSQL, every second and on demand, while sources
//! are edited, receivers fail in every way they can, config files change, and queries are made. Two sizes of one soak:
//! a short one with every test run, and `make soak`.

mod books;
mod caller;
mod gauges;
mod world;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use groupcast::io::{Clock, SystemClock};
use serde_json::{Value, json};

use self::books::Books;
use self::caller::Caller;
use self::gauges::Sample;
use self::world::{SOUND, UNSOUND, World};
use crate::support::cli::{Place, until};
use crate::support::daemon::Daemon;

/// Between two checks of what ended: much less than records are kept.
const LOOK: Duration = Duration::from_millis(250);
/// Triggered runs that may be open before another one is requested.
const OPEN_MAX: usize = 6;
/// Longest that accepted runs may take once nothing fails any more.
const END_MAX: Duration = Duration::from_secs(60);
/// Every guard: a run that must go through accepts them all.
const GUARDS: [&str; 9] =
    ["renamed", "keys", "empty", "rows-dropped", "keys-changed", "removed", "changed", "nulled", "unsendable"];

/// How long a soak goes on, and how closely it is observed.
struct Size {
    /// Runs that have ended before the faults stop.
    runs: usize,
    /// Runs between two samples.
    every: usize,
    /// How long records are kept.
    kept: Duration,
}

/// What the ledger's file may have however little it holds.
const FILE_BYTES_MIN: u64 = 32 * 1024 * 1024;
/// What the ledger's log may have, with what the run under way adds to it: `ledger::local` folds it at 16 MB.
const LOG_KB_MAX: u64 = 20 * 1024;

#[test]
fn a_short_soak_leaves_nothing_behind() {
    let samples = soak(&Size { runs: 60, every: 4, kept: Duration::from_secs(10) });
    gauges::are_flat(&samples, 0.25);
}

#[test]
#[ignore = "takes many minutes: `make soak`"]
fn a_long_soak_stays_flat() {
    let runs = std::env::var("GROUPCAST_SOAK_RUNS").map_or(6_000, |runs| runs.parse().expect("a number of runs"));
    let samples = soak(&Size { runs, every: (runs / 30).max(5), kept: Duration::from_secs(60) });
    println!("{}\n{}", gauges::table(&samples), gauges::figures(&samples));
    gauges::are_flat(&samples, 0.1);
    gauges::stay_below(&samples, "wal_kb", LOG_KB_MAX);
}

/// Books and samples, kept beside the chaos.
struct Watch {
    books: Arc<Mutex<(Books, Vec<Sample>)>>,
    end: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Watch {
    fn start(daemon: &Daemon, world: &World, every: usize) -> Watch {
        let (books, end) = (Arc::<Mutex<(Books, Vec<Sample>)>>::default(), Arc::<AtomicBool>::default());
        let (watching, ending) = (Arc::clone(&books), Arc::clone(&end));
        let (pid, ledger) = (daemon.pid(), world.place.path("state/ledger.duckdb"));
        let caller = Caller::new(&daemon.url);
        let clock = SystemClock::start();
        let thread = std::thread::spawn(move || {
            while !ending.load(Ordering::Relaxed) {
                {
                    let (books, samples) = &mut *watching.lock().unwrap();
                    books.collect(&caller);
                    let ended = books.runs.len();
                    if ended >= samples.last().map_or(0, |last| last.runs / every * every) + every {
                        samples.push(gauges::sample(pid, &ledger, ended, clock.elapsed().as_secs()));
                    }
                }
                std::thread::sleep(LOOK);
            }
        });
        Watch { books, end, thread }
    }

    /// Looks at the books.
    #[track_caller]
    fn books<T>(&self, look: impl FnOnce(&mut Books) -> T) -> T {
        assert!(!self.thread.is_finished(), "the watch ended: see above");
        look(&mut self.books.lock().unwrap().0)
    }

    fn finish(self) -> (Books, Vec<Sample>) {
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        Arc::into_inner(self.books).unwrap().into_inner().unwrap()
    }
}

/// The whole story. Returns what was sampled.
fn soak(size: &Size) -> Vec<Sample> {
    let mut world = World::new(&format!("{}s", size.kept.as_secs()), 7);
    let clock = SystemClock::start();
    let daemon = Daemon::start(&world.place);
    let caller = Caller::new(&daemon.url);
    let watch = Watch::start(&daemon, &world, size.every);
    // A sync that runs at the beginning and at the end: what it needs of its records outlives them.
    let seldom_runs = [json!({}), json!({}), json!({}), json!({}), json!({"group": "k1"})];
    for options in &seldom_runs {
        daemon.run("seldom", options);
    }
    let mut round = 0;
    while watch.books(|books| books.runs.len()) < size.runs {
        round += 1;
        disturb(&mut world, &daemon, round);
        order(&world, &caller, &watch);
        query(&world, &caller);
        until("triggered runs end", || watch.books(|books| (books.open().len() <= OPEN_MAX).then_some(())));
    }
    settle(&world, &daemon, &caller, &watch);
    until("old records are dropped", || {
        let left = caller.get("/api/v1/syncs/seldom/runs").is(200).as_array().unwrap().len();
        (left < seldom_runs.len()).then_some(())
    });
    let seldom = daemon.run("seldom", &json!({}));
    assert_eq!(seldom["detail"]["full"], false, "the cursor outlived the records of its runs: {seldom}");
    converge(&world, &daemon);
    agree(&world, &daemon, &caller, &watch);
    let pruned = caller.get("/api/v1/runs?count=1000").is(200).as_array().unwrap().len();
    let (books, samples) = watch.finish();
    books.follow_each_other();
    assert!(books.open().is_empty(), "accepted and never recorded: {:?}", books.open());
    println!("{} runs in {} s, {pruned} records left", books.runs.len(), clock.elapsed().as_secs());
    println!("ended: {:?}\nby sync: {:?}\nrequests: {:?}", books.endings(), books.by_sync(), world.requests());
    println!("failures by kind, the latest of each: {:#?}", books.failures());
    assert!(books.runs.len() > 100 && pruned < books.runs.len(), "{} runs, {pruned} kept", books.runs.len());
    let output = daemon.stop().exits(0);
    assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
    audit(&world, size);
    samples
}

/// What may happen to a daemon from outside.
fn disturb(world: &mut World, daemon: &Daemon, round: usize) {
    if world.below(10) < 8 {
        world.edit();
    }
    if world.below(2) == 0 {
        world.trouble();
    }
    if round.is_multiple_of(25) {
        world.configure();
    }
    if round.is_multiple_of(40) {
        daemon.signal("HUP");
    }
}

/// Requests a few runs, and cancels some.
fn order(world: &World, caller: &Caller, watch: &Watch) {
    for _ in 0..1 + world.below(3) {
        // What cannot succeed is requested now and then: each of its runs waits for a repetition.
        let sync = if world.below(12) == 0 { world.one_of(&UNSOUND) } else { world.one_of(&SOUND[..]) };
        if sync == "seldom" {
            continue;
        }
        let response = caller.post(&format!("/api/v1/syncs/{sync}/runs"), &world.ask(sync));
        if response.status == 409 {
            continue;
        }
        let run = response.is(202)["run"].as_str().unwrap().to_owned();
        watch.books(|books| books.accepted.insert(run.clone()));
        if world.below(15) == 0 {
            let cancelled = caller.post(&format!("/api/v1/runs/{run}/cancel"), &json!({})).status;
            assert!([202, 404, 409].contains(&cancelled), "{cancelled}");
            // One that had not started leaves no record.
            if caller.get(&format!("/api/v1/runs/{run}")).status == 404 {
                watch.books(|books| books.accepted.remove(&run));
            }
        }
    }
}

/// Queries what people and scrapers query.
fn query(world: &World, caller: &Caller) {
    let sync = world.one_of(&SOUND[..]);
    let paths = [
        "/".to_owned(),
        "/runs".to_owned(),
        "/rejected".to_owned(),
        "/metrics".to_owned(),
        "/api/v1/syncs".to_owned(),
        "/api/v1/rejected".to_owned(),
        format!("/syncs/{sync}"),
        format!("/api/v1/syncs/{sync}"),
        format!("/api/v1/syncs/{sync}/groups/k3"),
        format!("/api/v1/syncs/{sync}/plan"),
    ];
    let path = &paths[world.below(paths.len() as u64) as usize];
    let response = caller.get(path);
    let plan = path.ends_with("/plan");
    // A plan may find the sync busy or the warehouse being written; a group may not be known yet.
    let fine = response.status == 200 || plan && [409, 503].contains(&response.status) || response.status == 404;
    assert!(fine, "{path}: {} {}", response.status, response.text);
}

/// The faults stop, and every requested run ends.
fn settle(world: &World, daemon: &Daemon, caller: &Caller, watch: &Watch) {
    world.calm_down();
    daemon.signal("HUP");
    until("the sound config is taken over", || {
        let about = caller.get("/api/v1/about").is(200);
        about["config_problems"].is_null().then_some(())
    });
    let clock = SystemClock::start();
    loop {
        let open = watch.books(|books| books.open());
        if open.is_empty() {
            return;
        }
        let states = || open.iter().map(|run| caller.get(&format!("/api/v1/runs/{run}")).text).collect::<Vec<_>>();
        assert!(clock.elapsed() < END_MAX, "accepted, and not ended within {END_MAX:?}: {open:?}\n{:#?}", states());
        std::thread::sleep(LOOK);
    }
}

/// One run of each sync makes its receiver hold what its source has, and the next one sends nothing.
fn converge(world: &World, daemon: &Daemon) {
    let everything = json!({"full": true, "retry_rejected": true, "accept": GUARDS});
    for sync in SOUND {
        let run = daemon.run(sync, &everything);
        assert_eq!(run["run"]["status"], "succeeded", "{run}");
        let (wanted, held) = (world.wanted(sync), world.held(sync));
        let differs: BTreeMap<_, _> = (wanted.keys().chain(held.keys()))
            .filter(|key| wanted.get(*key) != held.get(*key))
            .map(|key| (key, (wanted.get(key), held.get(key))))
            .collect();
        assert!(differs.is_empty(), "{sync}: wanted and held differ: {differs:?}");
        let again = daemon.run(sync, &json!({}));
        let counts = &again["run"]["counts"];
        assert_eq!((&again["run"]["status"], &counts["requests"]), (&json!("succeeded"), &json!(0)), "{again}");
    }
}

/// Nothing runs any more; records, metrics and receivers agree.
fn agree(world: &World, daemon: &Daemon, caller: &Caller, watch: &Watch) {
    for sync in SOUND.into_iter().chain(UNSOUND) {
        daemon.post(&format!("/api/v1/syncs/{sync}/pause"), &json!({})).is(200);
    }
    until("nothing runs", || (caller.get("/api/v1/about").is(200)["running"] == 0).then_some(()));
    // The observer gets a run just after it has ended, and the watch checks every now and then.
    let mut differ = Vec::new();
    for _ in 0..50 {
        let metrics = caller.get("/metrics").text;
        differ = watch.books(|books| {
            books.collect(caller);
            books.differ_from(&metrics)
        });
        if differ.is_empty() {
            break;
        }
        std::thread::sleep(LOOK);
    }
    assert!(differ.is_empty(), "metrics and records differ: {differ:#?}");
    let listed = caller.get("/api/v1/runs?count=1000").is(200);
    let running: Vec<&Value> = listed.as_array().unwrap().iter().filter(|run| run["status"] == "running").collect();
    assert!(running.is_empty(), "{running:?}");
    let destination_of = |sync: &str| match sync {
        "two" => "events",
        "shop" => "hook",
        "nobody" => "nowhere",
        _ => "amplitude",
    };
    let mut requests = watch.books(|books| books.requests(destination_of));
    requests.remove("nowhere");
    assert_eq!(requests, world.requests(), "requests as recorded and as received");
}

/// What the ledger's file holds in the end: what is known, and what happened lately.
fn audit(world: &World, size: &Size) {
    let ledger = duckdb::Connection::open(world.place.path("state/ledger.duckdb")).unwrap();
    let number = |sql: &str| -> u64 { ledger.query_row(sql, [], |row| row.get(0)).unwrap() };
    assert_eq!(number("SELECT count(*) FROM marks"), 0, "marks are folded");
    assert_eq!(number("SELECT count(*) FROM runs WHERE status = 'running'"), 0);
    let newest = "(SELECT max(ended_at) FROM runs)";
    let old = format!("recorded_at < {newest} - INTERVAL {} SECOND", size.kept.as_secs() + 1);
    assert_eq!(number(&format!("SELECT count(*) FROM journal WHERE {old}")), 0, "the journal is pruned");
    let texts = "(SELECT sum(length(key) + length(document)) FROM synced) +
        (SELECT coalesce(sum(length(key) + length(change)), 0) FROM journal) +
        (SELECT sum(length(mapping) + length(counts) + length(detail)) FROM runs)";
    let (content, bytes) = (number(&format!("SELECT ({texts})::UBIGINT")), file_bytes(&world.place));
    println!("the ledger has {bytes} bytes, the texts in it {content}");
    // Blocks of 256 kB, some for each column of each table, and as many again while new ones are written.
    assert!(bytes < FILE_BYTES_MIN + 4 * content, "{bytes} bytes hold {content}");
}

/// The file with its log.
fn file_bytes(place: &Place) -> u64 {
    let bytes = |name: &str| std::fs::metadata(place.path(name)).map_or(0, |meta| meta.len());
    bytes("state/ledger.duckdb") + bytes("state/ledger.duckdb.wal")
}
