//! What does a full run of an incremental sync leave to the next run, when it fails between marking and recording?

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use groupcast::delivery::Signal;
use groupcast::error::{Error, Kind, Result};
use groupcast::io::http::HttpClient;
use groupcast::io::{Random, SystemClock};
use groupcast::ledger::{
    Access, Candidate, CompareOptions, Comparison, History, ImportedGroups, JournalEntry, KeyValue, Ledger,
    PreviousRun, RunCheckpoint, RunRecord, RunStart, SourceRows, Storage,
};
use groupcast::service::job::Context;
use groupcast::service::open;
use groupcast::sync::{Event, Monitor, RunOptions, RunOrigin};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::support::cli::{KEY, Place, Receiver, mapping, settings};

/// A ledger that cannot record outcomes.
struct FullDisk(Arc<dyn Ledger>);

#[async_trait]
impl Ledger for FullDisk {
    async fn begin(&self, start: &RunStart) -> Result<PreviousRun> {
        self.0.begin(start).await
    }
    async fn compare(&self, sync: &str, rows: SourceRows<'_>, options: &CompareOptions) -> Result<Comparison> {
        self.0.compare(sync, rows, options).await
    }
    async fn page(&self, from: u64, count: u64) -> Result<Vec<Candidate>> {
        self.0.page(from, count).await
    }
    async fn mark(&self, sync: &str, run: &str, keys: Vec<String>) -> Result<()> {
        self.0.mark(sync, run, keys).await
    }
    async fn record(&self, _: &str, _: &str, _: DateTime<Utc>, _: Vec<JournalEntry>) -> Result<()> {
        Err(Error::new(Kind::Ledger, "the disk is full"))
    }
    async fn finish(&self, sync: &str, run: &str, checkpoint: RunCheckpoint) -> Result<()> {
        self.0.finish(sync, run, checkpoint).await
    }
    async fn mark_crashed(&self, record: &RunRecord, at: DateTime<Utc>, error: &str, kind: &str) -> Result<()> {
        self.0.mark_crashed(record, at, error, kind).await
    }
    async fn reset(&self, sync: &str, keys: Option<&[String]>, mark: &str, forget: bool) -> Result<u64> {
        self.0.reset(sync, keys, mark, forget).await
    }
    async fn rename(&self, from: &str, to: &str) -> Result<u64> {
        self.0.rename(from, to).await
    }
    async fn import(&self, sync: &str, groups: ImportedGroups, replace: bool) -> Result<u64> {
        self.0.import(sync, groups, replace).await
    }
    async fn drop_sync(&self, sync: &str) -> Result<u64> {
        self.0.drop_sync(sync).await
    }
    fn history(&self) -> &dyn History {
        self.0.history()
    }
    fn kv(&self) -> &dyn KeyValue {
        self.0.kv()
    }
    fn storage(&self) -> &dyn Storage {
        self.0.storage()
    }
    fn connect(&self, access: Access) -> Result<Arc<dyn Ledger>> {
        self.0.connect(access)
    }
}

struct Silence;

impl Monitor for Silence {
    fn note(&self, _: Event<'_>) {}
}

/// Runs the sync with these options over a ledger that cannot record, and gives its error.
async fn fail(folder: &Path, options: &RunOptions) -> Error {
    let project = open::project(folder).unwrap();
    let ledger = FullDisk(open::ledger(&project).await.unwrap());
    let http_client = HttpClient::new().unwrap();
    let (clock, random, origin) = (SystemClock::start(), Random::from_entropy(), RunOrigin::of("test"));
    let context =
        Context { project: &project, ledger: &ledger, http_client: &http_client, clock: &clock, random: &random };
    let (_signal, signal) = watch::channel(Signal::Go);
    let job = context.job("accounts", (options, &origin), &Silence, signal).unwrap();
    job.run().await.unwrap_err().as_error()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_after_marking_in_a_full_run_does_not_wait_for_the_next_scheduled_full_read() {
    let receiver = Receiver::start();
    let place = Place::new();
    place.write("key", KEY);
    place.write("groupcast.toml", &settings(&receiver.url, "").replace("${AMPLITUDE_API_KEY}", "${file:key}"));
    place.warehouse(
        "CREATE TABLE accounts (id VARCHAR, n INTEGER, updated_at TIMESTAMP);
         INSERT INTO accounts VALUES ('old', 1, '2024-01-01'), ('new', 1, '2024-02-01')",
    );
    place.mapping(
        "accounts",
        &mapping("n = \"n\"", "[guards]\nchanged_max = 1\n[incremental]\ncursor = \"updated_at\"\nfull_every = \"7d\""),
    );
    let run = || {
        let report = place.run(&["run", "--json"]).exits(0).json()["runs"][0].clone();
        let counts = &report["counts"];
        (report["full"] == true, counts["rows"].clone(), counts["delivered"].clone())
    };
    let full = |delivered: u64| (true, json!(2), json!(delivered));
    let incremental = (false, json!(1), json!(0));
    assert_eq!((run(), run()), (full(2), incremental.clone()));
    // GIVEN a change of a row that incremental runs do not read, which a full run sends without recording it
    place.warehouse("UPDATE accounts SET n = 2 WHERE id = 'old'");
    assert_eq!(run(), incremental);
    let error = fail(&place.path(""), &RunOptions { full: true, ..RunOptions::default() }).await;
    assert_eq!(error.kind(), Kind::Ledger, "{error}");
    let last = place.run(&["runs", "-n", "1", "--json"]).exits(0).json();
    assert_eq!(last["runs"][0]["status"], "failed", "{last}");
    let unconfirmed = |place: &Place| -> Vec<String> {
        let groups = place.run(&["ledger", "export", "accounts"]).exits(0).json_lines();
        let unconfirmed = groups.iter().filter(|group| !group["unconfirmed_in"].is_null());
        unconfirmed.map(|group| group["key"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(unconfirmed(&place), ["old"]);
    // THEN the next run reads everything and settles it, days before a full read is due
    assert_eq!(run(), full(1));
    assert_eq!(unconfirmed(&place), [""; 0]);
    assert_eq!(receiver.group("company", "old").unwrap()["n"], Value::from(2));
    assert_eq!(run(), incremental);
}
