//! Is a model that did not change left unread, where its server can sum it up, and every change found all the same?

use std::sync::Mutex;

use groupcast::delivery::Signal;
use groupcast::io::http::HttpClient;
use groupcast::io::{Random, SystemClock};
use groupcast::service::job::Context;
use groupcast::service::open;
use groupcast::sync::report::Report;
use groupcast::sync::{Event, Monitor, RunOptions, RunOrigin};
use tokio::sync::watch;

use crate::support::cli::Place;
use crate::support::postgres::{Database, shared};

const MAPPING: &str = "source = \"warehouse\"\ndestination = \"out\"\n[model]\ntable = \"accounts\"\n[group]\n\
    type = \"company\"\nkey = \"id\"\n[traits]\nplan = \"plan\"\nn = { column = \"n\", as = \"string\" }\n";

/// How many rows were read.
#[derive(Default)]
struct RowsRead(Mutex<u64>);

impl Monitor for RowsRead {
    fn note(&self, event: Event<'_>) {
        if let Event::Reading(rows) = event {
            *self.0.lock().unwrap() = rows;
        }
    }
}

async fn database() -> Database {
    let database = shared().create_database().await;
    database
        .execute(
            "CREATE TABLE accounts (id text, plan text, n numeric); INSERT INTO accounts SELECT 'a' || i, 'free', 1.50 \
             FROM generate_series(1, 3000) i",
        )
        .await;
    database
}

fn place(port: u16, database: &Database) -> Place {
    let place = Place::new();
    place.write(
        "groupcast.toml",
        &format!(
            "[sources.warehouse]\ntype = \"postgres\"\nurl = \"postgres://root_user@127.0.0.1:{port}/{}?sslmode=disable\"\n\
             [destinations.out]\ntype = \"file\"\npath = \"out.ndjson\"\n",
            database.name()
        ),
    );
    place.mapping("accounts", MAPPING);
    place
}

/// Runs the sync; its report, and how many rows were read.
async fn run_with(place: &Place, options: &RunOptions) -> (Report, u64) {
    let project = open::project(&place.path("")).unwrap();
    let ledger = open::ledger(&project).await.unwrap();
    let http_client = HttpClient::new().unwrap();
    let (clock, random, origin) = (SystemClock::start(), Random::from_entropy(), RunOrigin::of("test"));
    let context =
        Context { project: &project, ledger: &*ledger, http_client: &http_client, clock: &clock, random: &random };
    let (_signal, signal) = watch::channel(Signal::Go);
    let read = RowsRead::default();
    let job = context.job("accounts", (options, &origin), &read, signal).unwrap();
    let report = job.run().await.unwrap_or_else(|failure| panic!("{}", failure.as_error()));
    (report, *read.0.lock().unwrap())
}

/// Rows, delivered and unchanged groups of a run, and how many rows were read.
async fn run(place: &Place) -> (u64, u64, u64, u64) {
    let (report, read) = run_with(place, &RunOptions::default()).await;
    (report.counts.rows, report.counts.changes.delivered, report.counts.unchanged, read)
}

/// Two runs that find nothing changed: one that reads as ever, and one that sums up as well.
async fn settle(place: &Place, rows: u64) {
    for _ in 0..2 {
        assert_eq!(run(place).await, (rows, 0, rows, rows));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_did_not_change_are_not_read_and_every_change_is_found() {
    let database = database().await;
    let place = place(shared().port(), &database);
    assert_eq!(run(&place).await, (3000, 3000, 0, 3000));
    settle(&place, 3000).await;
    for _ in 0..2 {
        assert_eq!(run(&place).await, (3000, 0, 3000, 0));
    }
    // The same number in other digits.
    database.execute("UPDATE accounts SET n = 1.5 WHERE id = 'a7'").await;
    assert_eq!(run(&place).await, (3000, 1, 2999, 3000));
    settle(&place, 3000).await;
    assert_eq!(run(&place).await, (3000, 0, 3000, 0));
    database.execute("DELETE FROM accounts WHERE id = 'a7'; INSERT INTO accounts VALUES ('b', 'pro', 1)").await;
    assert_eq!(run(&place).await, (3000, 1, 2999, 3000));
    // A group that left the model and is kept: nothing to do about it, so nothing needs to be read either.
    settle(&place, 3000).await;
    let (report, read) = run_with(&place, &RunOptions::default()).await;
    assert_eq!((read, report.detail.found.unwrap().missing), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_mapping_another_synced_state_and_who_requests_it_have_everything_read() {
    let database = database().await;
    let place = place(shared().port(), &database);
    run(&place).await;
    settle(&place, 3000).await;
    assert_eq!(run(&place).await.3, 0);
    let full = RunOptions { full: true, ..RunOptions::default() };
    assert_eq!(run_with(&place, &full).await.1, 3000);
    // WHEN a group is to be sent again THEN it is
    place.run(&["ledger", "reset", "accounts", "--group", "a5", "--yes"]).exits(0);
    assert_eq!(run(&place).await, (3000, 1, 2999, 3000));
    settle(&place, 3000).await;
    assert_eq!(run(&place).await.3, 0);
    // WHEN the mapping is edited THEN every row is compared again
    place.mapping("accounts", &MAPPING.replace("plan = \"plan\"", "the_plan = \"plan\""));
    let (report, read) =
        run_with(&place, &RunOptions { accept: ["changed".to_owned()].into(), ..RunOptions::default() }).await;
    assert_eq!((read, report.counts.changes.delivered), (3000, 3000));
    settle(&place, 3000).await;
    assert_eq!(run(&place).await.3, 0);
    place.run(&["plan"]).exits(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_without_a_key_and_with_the_same_key_are_reported_as_ever() {
    let database = database().await;
    database.execute("INSERT INTO accounts VALUES (NULL, 'x', 1), ('', 'x', 1), ('a1', 'other', 1)").await;
    let place = place(shared().port(), &database);
    place.mapping("accounts", &format!("{MAPPING}[policy]\non_duplicate = \"skip\"\n"));
    let options = RunOptions { accept: ["keys".to_owned()].into(), ..RunOptions::default() };
    let mut found = Vec::new();
    for _ in 0..4 {
        let (report, read) = run_with(&place, &options).await;
        found.push((read, report.detail.found.unwrap(), report.status));
    }
    assert_eq!((found[2].0, found[3].0), (3003, 0));
    assert_eq!((&found[3].1, found[3].2), (&found[2].1, found[2].2));
    let last = &found[3].1;
    assert_eq!((last.null_keys, last.empty_keys, last.duplicate_rows), (1, 1, 2));
    assert_eq!(last.duplicate_examples, ["a1"]);
}
