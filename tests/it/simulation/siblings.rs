//! Does each of several syncs that share a ledger's file at the same time end exactly as it would alone? Each is a history
//! on a thread and a connection of its own; beside them somebody asks questions, and now and then a copy of the files is
//! taken as a kill would leave them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::DateTime;
use groupcast::duckdb::{Limits, ledger_error};
use groupcast::ledger::duckdb::DuckDbLedger;
use groupcast::ledger::{Access, CompareOptions, Ledger, MissingScope, Retention, RunStart, RunStatus, SourceRows};
use groupcast::model::{Cell, ColumnType};

use super::history::{Genre, Palette, history};
use super::store::Store;
use super::world::{DRIZZLE, STORM};
use crate::support::rows::stage;

const SYNCS: [&str; 4] = ["accounts", "teams", "it's", "Ünits"];
/// Shorter than any run, so that every end of a run forgets what can be forgotten, while others are under way.
const RETENTION: Retention =
    Retention { journal: Duration::from_millis(3), runs: Duration::from_millis(3), requests: Duration::ZERO };

/// Threads as a daemon has them: comparing with all of them and going on with one is part of what is shared.
fn limits() -> Limits {
    Limits { threads: 2, ..Limits::standard() }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
}

/// What everybody may ask at any time must be sound at any time.
async fn ask(asking: &DuckDbLedger) {
    for sync in SYNCS {
        let groups = asking.history().groups(sync, None, 1_000).await.unwrap();
        let keys: BTreeSet<&String> = groups.iter().map(|group| &group.key).collect();
        assert_eq!(keys.len(), groups.len(), "{sync} knows a group twice");
        asking.history().group_counts(sync).await.unwrap();
        for run in asking.history().runs(Some(sync), None, 3).await.unwrap() {
            asking.history().changes(&run.run, None, 0, 10).await.unwrap();
        }
        asking.history().group_history(sync, "g1", None, 5).await.unwrap();
    }
}

/// Opens a copy of the files as the next process would after a kill, and takes up what was left.
async fn survives(file: &Path, copy: &Path) {
    let log = |path: &Path| path.with_extension("duckdb.wal");
    let number = |path: &Path| path.with_extension("duckdb.generation");
    // The number follows the ledger: one copied before its ledger is never ahead of it.
    std::fs::copy(number(file), number(copy)).unwrap();
    // The log first grows and is folded only when it is large: a file copied before its log is a file as it was.
    std::fs::copy(file, copy).unwrap();
    if log(file).exists() {
        std::fs::copy(log(file), log(copy)).unwrap();
    }
    let ledger = DuckDbLedger::open(copy, &limits(), RETENTION).await.unwrap();
    assert_eq!(ledger.storage().outdated(), None);
    for died in ledger.history().unfinished_runs().await.unwrap() {
        ledger.mark_crashed(&died, died.started_at, "killed", "interrupted").await.unwrap();
        let (record, _) = ledger.history().run(&died.run).await.unwrap().unwrap();
        assert_eq!(record.status, RunStatus::Crashed);
    }
    assert!(ledger.history().unfinished_runs().await.unwrap().is_empty());
    ask(&ledger).await;
}

fn side_by_side(seed: u64, genre: Genre) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.duckdb");
    let of = Arc::new(block_on(DuckDbLedger::open(&file, &limits(), RETENTION)).unwrap());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let questions = scope.spawn(|| {
            let asking = of.another(Access::ReadWrite).unwrap();
            let mut asked = 0;
            while !done.load(Ordering::SeqCst) {
                block_on(ask(&asking));
                block_on(survives(&file, &folder.path().join(format!("copy-{asked}.duckdb"))));
                asked += 1;
            }
            asked
        });
        let ended: Vec<_> = (SYNCS.iter().enumerate())
            .map(|(n, sync)| {
                let (of, genre) = (&of, Genre { sync, ..genre });
                scope.spawn(move || {
                    let seed = seed * 10 + n as u64;
                    let shared = block_on(history(seed, &genre, &mut Store::sibling(of)));
                    let alone = block_on(history(seed, &genre, &mut Store::memory()));
                    (seed, shared, alone)
                })
            })
            .collect();
        let ended: Vec<_> = ended.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::SeqCst);
        let asked = questions.join().unwrap();
        assert!(asked > 0);
        for ended in ended {
            let (seed, shared, alone) = ended.expect("a history panicked");
            assert!(shared.is_ok(), "seed {seed}: {shared:?}");
            assert_eq!(shared, alone, "seed {seed}");
        }
    });
    block_on(async {
        // Nothing is left open, and the file opens again.
        drop(of);
        let ledger = DuckDbLedger::open(&file, &limits(), RETENTION).await.unwrap();
        assert!(ledger.history().unfinished_runs().await.unwrap().is_empty());
        ask(&ledger).await;
    });
}

#[tokio::test]
async fn a_long_statement_of_one_run_holds_no_other_up() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { threads: 4, ..Limits::standard() };
    let ledger = DuckDbLedger::open(&folder.path().join("ledger.duckdb"), &limits, RETENTION).await.unwrap();
    let runs = |sync: &str| RunStart {
        sync: sync.to_owned(),
        run: format!("run-{sync}"),
        mapping: "m".to_owned(),
        traits: vec!["plan".to_owned()],
        started_at: DateTime::UNIX_EPOCH,
        started_by: "test".to_owned(),
        partial: false,
    };
    // GIVEN a run whose model takes for ever, on all threads
    let long = ledger.another(Access::ReadWrite).unwrap();
    long.begin(&runs("long")).await.unwrap();
    let duckdb = long.duckdb().clone();
    let reading = tokio::spawn(async move {
        let endless = |connection: &mut duckdb::Connection| {
            let sql = "SELECT sum(hash(i)) FROM range(200000000000) r(i)";
            connection.query_row(sql, [], |row| row.get::<_, Option<f64>>(0)).map_err(ledger_error("read"))
        };
        duckdb.call("read", endless).await
    });
    // WHEN others begin, compare, end and are asked
    let others = async {
        for sync in ["one", "two", "three"] {
            let other = ledger.another(Access::ReadWrite).unwrap();
            other.begin(&runs(sync)).await.unwrap();
            let rows = [(Some("k".to_owned()), vec![Cell::Int(1)])];
            let staged = stage(other.duckdb(), &rows, &[ColumnType::Int]).await.unwrap();
            let scope = CompareOptions {
                salt: "m".to_owned(),
                missing: MissingScope::All,
                retry_rejected: false,
                act_on_missing: false,
            };
            let found = other.compare(sync, SourceRows::Staged(&staged), &scope).await.unwrap();
            assert_eq!(found.new, 1);
            other.mark(sync, &format!("run-{sync}"), vec!["k".to_owned()]).await.unwrap();
            ledger.kv().put("paused/one", "now").await.unwrap();
        }
    };
    // THEN none of that waits for it
    let done = tokio::time::timeout(Duration::from_secs(60), others).await;
    assert!(!reading.is_finished());
    long.duckdb().interrupt();
    reading.await.unwrap().unwrap_err();
    done.expect("the others wait");
}

#[test]
fn histories_that_share_a_file_end_as_those_alone() {
    for (seed, weather, palette) in [(1, STORM, Palette::Any), (2, DRIZZLE, Palette::Equal)] {
        side_by_side(700_000 + seed, Genre { groups: 40, runs: 6, concurrency: 1, ..super::genre(weather, palette) });
    }
}
