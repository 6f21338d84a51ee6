//! What is a ledger's in PostgreSQL alone: leases and their fences, connections that break, what a plan sees of a crashed
//! run, and refusals with a next step.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use groupcast::duckdb::Limits;
use groupcast::error::{Error, Kind};
use groupcast::io::{Clock, SystemClock};
use groupcast::ledger::postgres::PostgresLedger;
use groupcast::ledger::{
    Access, CandidateKind, ChangeOutcome, CompareOptions, JournalEntry, Ledger, MissingScope, Retention, RunCheckpoint,
    RunStart, RunStatus, SourceRows,
};
use groupcast::model::{After, Cell, Change, ColumnType, Document};
use groupcast::source::postgres::PostgresSettings;
use serde_json::json;

use crate::support::postgres::{Cluster, Database, SCRAM_PASSWORD, SCRAM_USER, shared};
use crate::support::rows::{Row, stage};

fn at(second: u64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + second as i64, 0).unwrap()
}

fn start(number: u64) -> RunStart {
    RunStart {
        sync: "accounts".to_owned(),
        run: format!("run-{number:04}"),
        mapping: "m".to_owned(),
        traits: vec!["plan".to_owned()],
        started_at: at(number * 100),
        started_by: "test".to_owned(),
        partial: false,
    }
}

fn checkpoint(number: u64) -> RunCheckpoint {
    RunCheckpoint {
        status: RunStatus::Succeeded,
        ended_at: at(number * 100 + 50),
        counts: "{}".to_owned(),
        rows: Some(number),
        cursor: None,
        full: true,
        error: None,
        error_kind: None,
        guard: None,
        detail: "{}".to_owned(),
    }
}

fn delivered(key: &str) -> JournalEntry {
    let set = Document::from_text(r#"{"plan":"p\u0000ro 😀"}"#).unwrap().0;
    JournalEntry {
        key: key.to_owned(),
        is_new: true,
        change: Arc::new(Change { set, ..Change::default() }),
        document: Some(After::WhatIsSet),
        fingerprint: Some(u64::MAX - 1),
        outcome: ChangeOutcome::Delivered,
        reason: None,
    }
}

async fn open(database: &Database) -> Result<PostgresLedger, Error> {
    open_as(&database.settings(json!({})), "groupcast").await
}

async fn open_as(settings: &PostgresSettings, schema: &str) -> Result<PostgresLedger, Error> {
    PostgresLedger::open(settings, schema, &Limits::standard(), Retention::FOREVER).await
}

async fn open_to_read(database: &Database) -> PostgresLedger {
    let settings = database.settings(json!({}));
    PostgresLedger::open_read_only(&settings, "groupcast", &Limits::standard()).await.unwrap().unwrap()
}

async fn compare(ledger: &PostgresLedger, rows: &[Row]) -> Vec<groupcast::ledger::Candidate> {
    let staged = stage(ledger.duckdb(), rows, &[ColumnType::Int]).await.unwrap();
    let options = CompareOptions {
        salt: "m".to_owned(),
        missing: MissingScope::All,
        retry_rejected: false,
        act_on_missing: true,
    };
    ledger.compare("accounts", SourceRows::Staged(&staged), &options).await.unwrap();
    ledger.page(0, 100).await.unwrap()
}

fn row(key: &str) -> Row {
    (Some(key.to_owned()), vec![Cell::Int(1)])
}

/// Ends every other session in the database, as a server that restarts does.
async fn end_sessions(database: &Database) {
    database
        .execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
             AND pid <> pg_backend_pid()",
        )
        .await;
}

/// The lease of the sync that these tests run.
const LEASE: &str = "sync/accounts";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_at_a_time_has_a_sync_and_one_that_lost_it_cannot_write() {
    let database = shared().create_database().await;
    let (ledger, second) = (open(&database).await.unwrap(), open(&database).await.unwrap());
    ledger.begin(&start(1)).await.unwrap();
    // GIVEN one process with the sync, another is refused it, and learns which has it
    for busy in [
        second.begin(&start(2)).await.map(drop),
        second.reset("accounts", None, "reset", false).await.map(drop),
        second.drop_sync("accounts").await.map(drop),
        second.rename("accounts", "others").await.map(drop),
    ] {
        let busy = busy.unwrap_err();
        assert_eq!(busy.kind(), Kind::LedgerBusy);
        assert!(busy.to_string().contains(&format!("process {}", std::process::id())), "{busy}");
        assert!(busy.advice().unwrap().contains("free again"), "{busy}");
    }
    // AND another sync, and reading, go on beside it
    let others = RunStart { sync: "others".to_owned(), ..start(3) };
    second.begin(&others).await.unwrap();
    second.finish("others", &others.run, checkpoint(3)).await.unwrap();
    assert_eq!(open_to_read(&database).await.history().unfinished_runs().await.unwrap().len(), 1);
    // WHEN its run ends, the next one need not wait
    ledger.finish("accounts", "run-0001", checkpoint(1)).await.unwrap();
    second.begin(&start(4)).await.unwrap();
    second.finish("accounts", "run-0004", checkpoint(4)).await.unwrap();
    ledger.begin(&start(5)).await.unwrap();
    let beside = ledger.another(Access::ReadWrite).unwrap();
    beside.kv().put("paused/accounts", "now").await.unwrap();
    // AND one that is found gone on this machine is replaced at once
    database.execute("UPDATE groupcast.leases SET holder = regexp_replace(holder, '\"started\":\"[0-9]*\"', '\"started\":\"1\"')").await;
    assert_eq!(second.begin(&start(6)).await.unwrap().recovered, ["run-0005"]);
    // THEN whatever the first does of that run is refused, and nothing of it is kept
    let refused = ledger.mark("accounts", "run-0005", vec!["acme".to_owned()]).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::LedgerBusy, "{refused}");
    assert!(refused.to_string().contains("has taken sync `accounts` over"), "{refused}");
    for refused in [
        ledger.record("accounts", "run-0005", at(1), vec![delivered("acme")]).await,
        ledger.finish("accounts", "run-0005", checkpoint(5)).await,
        beside.record("accounts", "run-0005", at(1), vec![delivered("acme")]).await,
    ] {
        assert_eq!(refused.unwrap_err().kind(), Kind::LedgerBusy);
    }
    assert!(second.history().group_counts("accounts").await.unwrap().is_empty());
    // AND it goes on with other syncs
    assert!(!ledger.storage().is_invalidated());
    ledger.begin(&RunStart { sync: "others".to_owned(), ..start(7) }).await.unwrap();
    ledger.finish("others", "run-0007", checkpoint(7)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_lease_is_taken_after_one_attempt_and_nothing_is_sent_under_it() {
    let database = shared().create_database().await;
    let (ledger, second) = (open(&database).await.unwrap(), open(&database).await.unwrap());
    let attempt = Duration::from_secs(2);
    let claim = ledger.shared().unwrap().claim(LEASE, attempt, "{}").await.unwrap();
    assert!(claim.may_send());
    ledger.begin(&start(1)).await.unwrap();
    database.execute("UPDATE groupcast.leases SET until = now() WHERE name = 'sync/accounts'").await;
    // Nobody has taken it over yet, and somebody may at any moment.
    let refused = ledger.mark("accounts", "run-0001", vec!["acme".to_owned()]).await.unwrap_err();
    assert!(refused.to_string().contains("extend its lease"), "{refused}");
    // A request may be on its way: for as long as one may take the sync is not another's.
    let busy = second.begin(&start(2)).await.unwrap_err();
    assert_eq!(busy.kind(), Kind::LedgerBusy, "{busy}");
    // What was sent before may be recorded.
    ledger.record("accounts", "run-0001", at(1), vec![delivered("acme")]).await.unwrap();
    SystemClock::start().sleep(attempt + Duration::from_millis(200)).await;
    assert_eq!(second.begin(&start(2)).await.unwrap().recovered, ["run-0001"]);
    assert_eq!(second.history().group_counts("accounts").await.unwrap().synced, 1);
    assert!(ledger.finish("accounts", "run-0001", checkpoint(1)).await.is_err());
    assert!(claim.is_lost() && !claim.may_send());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_not_extended_permits_no_request_before_the_server_lets_another_process_have_it() {
    let cluster = Cluster::start();
    let settings = serde_json::from_value(json!({
        "url": format!("postgres://root_user@127.0.0.1:{}/postgres", cluster.port())
    }));
    let lasts = Duration::from_secs(4);
    let ledger =
        PostgresLedger::open_leasing(&settings.unwrap(), "groupcast", lasts, &Limits::standard(), Retention::FOREVER)
            .await
            .unwrap();
    let claim = ledger.shared().unwrap().claim(LEASE, Duration::from_secs(1), "{}").await.unwrap();
    // It is extended for as long as the server is there,
    SystemClock::start().sleep(lasts + Duration::from_secs(2)).await;
    assert!(claim.may_send());
    // and no longer.
    cluster.stop();
    let stopped = SystemClock::start();
    SystemClock::start().sleep(lasts / 4).await;
    while claim.may_send() {
        assert!(stopped.elapsed() < lasts, "it may have been taken over");
        SystemClock::start().sleep(Duration::from_millis(50)).await;
    }
    assert!(!claim.is_lost(), "no other process has it, as far as is known");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_an_older_version_are_changed_while_no_other_process_uses_them() {
    let database = shared().create_database().await;
    let (ledger, other) = (open(&database).await.unwrap(), open(&database).await.unwrap());
    ledger.begin(&start(1)).await.unwrap();
    database
        .execute(
            "UPDATE groupcast.version SET version = 1; DROP SEQUENCE groupcast.fences; \
             DROP TABLE groupcast.machines; ALTER TABLE groupcast.version DROP COLUMN ledger; \
             ALTER TABLE groupcast.leases DROP COLUMN attempt, DROP COLUMN since, DROP COLUMN detail, DROP COLUMN request",
        )
        .await;
    let busy = open(&database).await.err().unwrap();
    assert_eq!(busy.kind(), Kind::LedgerBusy, "{busy}");
    assert!(busy.advice().unwrap().contains("stop or drain every daemon"), "{busy}");
    drop((ledger, other));
    let ledger = open(&database).await.unwrap();
    assert_eq!(ledger.begin(&start(2)).await.unwrap().recovered, ["run-0001"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_connections_lose_nothing_and_repeat_nothing() {
    let database = shared().create_database().await;
    let ledger = open(&database).await.unwrap();
    ledger.begin(&start(1)).await.unwrap();
    let keys = ["a\0b", "acme", "é😀"];
    let rows: Vec<Row> = keys.map(row).into_iter().collect();
    let candidates = compare(&ledger, &rows).await;
    assert!(candidates.iter().all(|candidate| candidate.kind == CandidateKind::New && candidate.confirmed));
    end_sessions(&database).await;
    ledger.mark("accounts", "run-0001", keys.map(str::to_owned).into()).await.unwrap();
    end_sessions(&database).await;
    let entries = candidates
        .iter()
        .map(|candidate| JournalEntry { fingerprint: candidate.fingerprint, ..delivered(&candidate.key) });
    ledger.record("accounts", "run-0001", at(1), entries.collect()).await.unwrap();
    end_sessions(&database).await;
    ledger.finish("accounts", "run-0001", checkpoint(1)).await.unwrap();
    end_sessions(&database).await;
    // THEN each was recorded once, with every character
    let groups = ledger.history().groups("accounts", None, 9).await.unwrap();
    assert_eq!(groups.iter().map(|group| group.key.as_str()).collect::<Vec<_>>(), keys);
    assert!(groups.iter().all(|group| group.document.to_text() == "{\"plan\":\"p\\u0000ro 😀\"}"));
    let changes = ledger.history().changes("run-0001", None, 0, 9).await.unwrap();
    assert_eq!(changes.iter().map(|change| change.entry.seq).collect::<Vec<_>>(), [1, 2, 3]);
    // AND a quiet run finds nothing to do
    ledger.begin(&start(2)).await.unwrap();
    assert_eq!(compare(&ledger, &rows).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_sees_a_crashed_run_folded_and_leaves_it_as_it_is() {
    let database = shared().create_database().await;
    let ledger = open(&database).await.unwrap();
    ledger.begin(&start(1)).await.unwrap();
    ledger.mark("accounts", "run-0001", vec!["acme".to_owned(), "silent".to_owned()]).await.unwrap();
    ledger.record("accounts", "run-0001", at(1), vec![delivered("acme")]).await.unwrap();
    // While the process lives, its run goes on.
    let plan = open_to_read(&database).await;
    assert_eq!(plan.begin(&start(2)).await.unwrap().recovered, Vec::<String>::new());
    drop(ledger);
    for _ in 0..2 {
        let begun = plan.begin(&start(2)).await.unwrap();
        assert_eq!(begun.recovered, ["run-0001"]);
        let candidates = compare(&plan, &[row("acme"), row("silent")]).await;
        let found: Vec<_> = candidates.iter().map(|found| (found.key.as_str(), found.kind, found.confirmed)).collect();
        assert_eq!(found, [("acme", CandidateKind::Changed, true), ("silent", CandidateKind::Changed, false)]);
        assert_eq!(candidates[1].synced.0.keys().collect::<Vec<_>>(), ["plan"], "attempted traits are there");
    }
    drop(plan);
    let ledger = open(&database).await.unwrap();
    assert_eq!(ledger.begin(&start(2)).await.unwrap().recovered, ["run-0001"]);
    assert_eq!(compare(&ledger, &[row("acme"), row("silent")]).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_were_hashed_otherwise_are_hashed_again() {
    let database = shared().create_database().await;
    {
        let ledger = open(&database).await.unwrap();
        ledger.begin(&start(1)).await.unwrap();
        let candidates = compare(&ledger, &[row("acme"), row("other")]).await;
        let entries = candidates
            .iter()
            .map(|candidate| JournalEntry { fingerprint: candidate.fingerprint, ..delivered(&candidate.key) });
        ledger.record("accounts", "run-0001", at(1), entries.collect()).await.unwrap();
        ledger.finish("accounts", "run-0001", checkpoint(1)).await.unwrap();
    }
    database
        .execute("UPDATE groupcast.version SET hashing = 'an older DuckDB'; UPDATE groupcast.synced SET bucket = 7, row_hash = 7")
        .await;
    let summary = "SELECT sum(groups)::text || ' ' || (SELECT sum(row_hash::numeric + CASE WHEN row_hash < 0 THEN 18446744073709551616 ELSE 0 END) \
        = (SELECT sum(sum) FROM groupcast.sums) FROM groupcast.synced) FROM groupcast.sums";
    for opens_to_read in [true, false] {
        let ledger = if opens_to_read { open_to_read(&database).await } else { open(&database).await.unwrap() };
        ledger.begin(&start(2)).await.unwrap();
        assert_eq!(compare(&ledger, &[row("acme"), row("other")]).await, [], "read only: {opens_to_read}");
        let sums: String = database.client().query_one(summary, &[]).await.unwrap().get(0);
        assert_eq!(sums, "2 true", "the triggers keep the sums whoever writes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_have_a_next_step_and_show_no_password() {
    let database = shared().create_database().await;
    database.execute(SCRAM_USER).await;
    let expect = |error: Error, kind: Kind, says: &str, advises: &str| {
        assert_eq!(error.kind(), kind, "{error}");
        let (text, advice) = (error.to_string(), error.advice().unwrap_or_default().to_owned());
        assert!(text.contains(says), "{text}");
        assert!(advice.contains(advises), "{text}\n{advice}");
        for shown in [text, advice] {
            assert!(!shown.contains(SCRAM_PASSWORD) && !shown.contains("wrong-password"), "{shown}");
            assert!(!shown.contains("this source"), "{shown}");
        }
    };
    let as_user = |password: &str| {
        let url = format!("postgres://scram_user:{password}@127.0.0.1:{}/{}", shared().port(), database.name());
        database.settings(json!({ "url": url }))
    };
    let error = open_as(&as_user("wrong-password"), "groupcast").await.err().unwrap();
    expect(error, Kind::Ledger, "scram_user", "correct the password");
    let error = open_as(&as_user(SCRAM_PASSWORD), "groupcast").await.err().unwrap();
    expect(error, Kind::Ledger, "may not create", "CREATE SCHEMA \"groupcast\" AUTHORIZATION \"scram_user\"");
    // The statement that it prints is enough.
    database.execute("CREATE SCHEMA groupcast AUTHORIZATION scram_user").await;
    drop(open_as(&as_user(SCRAM_PASSWORD), "groupcast").await.unwrap());
    let other = database.settings_as("without_rights", json!({ "sslmode": "disable" }));
    database.execute("CREATE ROLE without_rights LOGIN").await;
    let error = open_as(&other, "groupcast").await.err().unwrap();
    expect(error, Kind::Ledger, "permission denied", "CREATE SCHEMA");

    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody =
        database.settings(json!({ "url": format!("postgres://root_user:wrong-password@127.0.0.1:{closed}/x") }));
    let error = open_as(&nobody, "groupcast").await.err().unwrap();
    expect(error, Kind::Ledger, "nothing listens", "start the server");
    let missing = format!("postgres://root_user@127.0.0.1:{}/no_such_database", shared().port());
    let error = open_as(&database.settings(json!({ "url": missing })), "groupcast").await.err().unwrap();
    expect(error, Kind::Ledger, "no_such_database", "correct the database");

    database.execute("UPDATE groupcast.version SET version = 99").await;
    expect(open(&database).await.err().unwrap(), Kind::Ledger, "version 99", "newer Groupcast");
    database.execute("CREATE SCHEMA foreign_one; CREATE TABLE foreign_one.runs (a int)").await;
    let error = open_as(&database.settings(json!({})), "foreign_one").await.err().unwrap();
    expect(error, Kind::Ledger, "already exists", "state.schema");
    let error = open_as(&database.settings(json!({})), &"x".repeat(64)).await.err().unwrap();
    expect(error, Kind::Config, "63 bytes", "schema = ");
    database.execute("CREATE DATABASE latin_ledger ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0").await;
    let latin = format!("postgres://root_user@127.0.0.1:{}/latin_ledger", shared().port());
    let error = open_as(&database.settings(json!({ "url": latin })), "groupcast").await.err().unwrap();
    expect(error, Kind::Ledger, "LATIN1", "ENCODING 'UTF8'");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_that_cannot_be_read_makes_its_own_group_unconfirmed() {
    let database = shared().create_database().await;
    let ledger = open(&database).await.unwrap();
    ledger.begin(&start(1)).await.unwrap();
    ledger.record("accounts", "run-0001", at(1), vec![delivered("acme"), delivered("other")]).await.unwrap();
    ledger.finish("accounts", "run-0001", checkpoint(1)).await.unwrap();
    database.execute("UPDATE groupcast.synced SET document = '{\"plan\":' WHERE key = 'acme'").await;
    ledger.begin(&start(2)).await.unwrap();
    let candidates = compare(&ledger, &[row("acme"), row("other")]).await;
    assert_eq!(candidates.iter().map(|found| found.confirmed).collect::<Vec<_>>(), [false, true]);
    let group = ledger.history().group("accounts", "acme").await.unwrap().unwrap();
    assert!(group.unreadable.unwrap().contains("cannot be read"));
}

/// Two processes that open a ledger at the same time for the first time make it once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_is_made_once() {
    let database = shared().create_database().await;
    let opened = tokio::time::timeout(Duration::from_secs(60), async {
        tokio::join!(open(&database), open(&database), open(&database))
    });
    let (one, two, three) = opened.await.unwrap();
    for opened in [one, two, three] {
        opened.unwrap();
    }
}
