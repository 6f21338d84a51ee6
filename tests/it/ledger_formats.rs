//! Does every format of the ledger that was ever written still open? A small file of each, read as it is and brought to the
//! present one.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use chrono::DateTime;
use groupcast::duckdb::Limits;
use groupcast::ledger::duckdb::DuckDbLedger;
use groupcast::ledger::{ChangeOutcome, Cursor, Ledger, Retention, RunStart, RunStatus};
use groupcast::sync::report::{Counts, Detail};

fn unpacked(packed: &[u8], to: &Path) {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut bytes).unwrap();
    std::fs::write(to, bytes).unwrap();
}

/// A ledger of version 2 as DuckDB 1.5.6 wrote it, with the log of a run that was killed: the tables of commit 28a228e,
/// three groups of `accounts` (one rejected), one finished run and one that marked two groups and settled one.
const V2: &[u8] = include_bytes!("../fixtures/ledger-v2-duckdb-1.5.6.gz");
const V2_LOG: &[u8] = include_bytes!("../fixtures/ledger-v2-duckdb-1.5.6.wal.gz");

#[tokio::test]
async fn a_ledger_of_duckdb_1_5_is_brought_to_this_version_with_a_copy_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.duckdb");
    unpacked(V2, &path);
    unpacked(V2_LOG, &folder.path().join("ledger.duckdb.wal"));
    let before = std::fs::read(&path).unwrap();
    // Looked at before the first run of the new version: as it is, with the killed run folded.
    {
        let ledger = DuckDbLedger::open_read_only(&path, &Limits::standard()).await.unwrap();
        assert_eq!(ledger.storage().outdated(), None);
        assert_eq!(ledger.history().group_counts("accounts").await.unwrap().synced, 3);
        assert_eq!(
            ledger.history().group("accounts", "initech").await.unwrap().unwrap().rejected.unwrap().1,
            "no such plan"
        );
    }
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let retention = Retention::FOREVER;
    let ledger = DuckDbLedger::open(&path, &Limits::standard(), retention).await.unwrap();
    assert_eq!(ledger.storage().outdated(), None);
    assert_eq!(ledger.kv().all().await.unwrap().len(), 1);
    let start = RunStart {
        sync: "accounts".to_owned(),
        run: "20261103T080000.000Z-0003".to_owned(),
        mapping: "m".to_owned(),
        traits: vec!["plan".to_owned(), "seats".to_owned()],
        started_at: DateTime::from_timestamp(1_794_000_000, 0).unwrap(),
        started_by: "test".to_owned(),
        partial: false,
    };
    assert_eq!(ledger.begin(&start).await.unwrap().recovered, ["20261102T080000.000Z-0002"]);
    let group = async |key: &str| ledger.history().group("accounts", key).await.unwrap().unwrap();
    assert_eq!(group("acme").await.document.to_text(), r#"{"plan":"pro","seats":13}"#);
    assert_eq!(group("globex").await.unconfirmed_in.as_deref(), Some("20261102T080000.000Z-0002"));
    drop(ledger);
    // The copy is what it was, its log included, in a format that the old program reads.
    let copy = folder.path().join("ledger.duckdb.v2-backup");
    let mode = std::fs::metadata(&copy).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(std::fs::read(&copy).unwrap()[12..20], 64_u64.to_le_bytes(), "the format of DuckDB 1.0 to 1.5");
    let old = duckdb::Connection::open(&copy).unwrap();
    let count = |sql: &str| old.query_row(sql, [], |row| row.get::<_, u64>(0)).unwrap();
    assert_eq!(count("SELECT version FROM meta"), 2);
    assert_eq!((count("SELECT count(*) FROM pending"), count("SELECT count(*) FROM journal")), (2, 4));
    // AND nothing is copied again
    std::fs::remove_file(&copy).unwrap();
    drop(DuckDbLedger::open(&path, &Limits::standard(), retention).await.unwrap());
    assert!(!copy.exists());
}

/// A ledger of version 3 as DuckDB 2.0.1 wrote it: the tables of commit f6e5874, one finished run of three groups, of which
/// `globex` has a document of 6,011 bytes in its row.
const V3: &[u8] = include_bytes!("../fixtures/ledger-v3-duckdb-2.0.1.gz");

#[tokio::test]
async fn a_ledger_with_long_documents_in_their_rows_is_read_and_brought_to_this_version() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.duckdb");
    unpacked(V3, &path);
    let recorded = "{\"ledger\":\"dbdbb7e7-b6a5-4b19-b148-7573f14543ca\",\"generation\":2}\n";
    std::fs::write(folder.path().join("ledger.duckdb.generation"), recorded).unwrap();
    let before = std::fs::read(&path).unwrap();
    let long = async |ledger: &DuckDbLedger| {
        assert_eq!(ledger.storage().outdated(), None);
        let group = ledger.history().group("accounts", "globex").await.unwrap().unwrap();
        assert_eq!(group.document.to_text().len(), 6_011);
        assert_eq!(ledger.history().group_history("accounts", "globex", None, 9).await.unwrap()[0].change.set.len(), 1);
        assert_eq!(ledger.history().groups("accounts", None, 9).await.unwrap().len(), 3);
    };
    long(&DuckDbLedger::open_read_only(&path, &Limits::standard()).await.unwrap()).await;
    assert_eq!(std::fs::read(&path).unwrap(), before, "looked at as it is");
    let retention = Retention::FOREVER;
    long(&DuckDbLedger::open(&path, &Limits::standard(), retention).await.unwrap()).await;
    let old = duckdb::Connection::open(folder.path().join("ledger.duckdb.v3-backup")).unwrap();
    assert_eq!(old.query_row("SELECT version FROM meta", [], |row| row.get::<_, u64>(0)).unwrap(), 3);
}

/// A ledger of each version as DuckDB 2.0.1 writes it. One group is synced, one unconfirmed, one rejected; a run ended in
/// each way there is, the last but one without moving the cursor; the latest crashed after it had delivered a new group.
const EACH: [&[u8]; 6] = [
    include_bytes!("../fixtures/ledger-v1.gz"),
    include_bytes!("../fixtures/ledger-v2.gz"),
    include_bytes!("../fixtures/ledger-v3.gz"),
    include_bytes!("../fixtures/ledger-v4.gz"),
    include_bytes!("../fixtures/ledger-v5.gz"),
    include_bytes!("../fixtures/ledger-v6.gz"),
];

/// The same answers of every version, whatever words it was written in.
async fn check_history(ledger: &DuckDbLedger, version: usize) {
    let history = ledger.history();
    let counts = history.group_counts("accounts").await.unwrap();
    // From version 6 on a group that was new is synced once it was delivered, before its run ends.
    let synced = if version < 6 { 2 } else { 3 };
    assert_eq!((counts.synced, counts.unconfirmed, counts.rejected), (synced, 1, 1), "version {version}");
    let first = history.group_history("accounts", "acme", None, 10).await.unwrap().pop().unwrap();
    assert_eq!(first.change.set["plan"], "pro", "version {version}");
    let mut runs = history.runs(Some("accounts"), None, 100).await.unwrap();
    runs.reverse();
    let statuses: Vec<RunStatus> = runs.iter().map(|run| run.status).collect();
    let expected = [
        RunStatus::Succeeded,
        RunStatus::SucceededWithRejections,
        RunStatus::StoppedByGuard,
        RunStatus::Crashed,
        RunStatus::Incomplete,
        RunStatus::Failed,
        RunStatus::Running,
    ];
    assert_eq!(statuses, expected, "version {version}");
    assert_eq!(history.last_success("accounts").await.unwrap(), runs[1].ended_at);
    assert_eq!(runs[2].guard.as_deref(), Some("removed"), "version {version}");
    let counts: Counts = serde_json::from_str(&runs[1].counts).unwrap();
    assert_eq!((counts.changes.delivered, counts.changes.rejected, counts.changes.unconfirmed), (1, 1, 1));
    if version > 1 {
        let detail = history.run(&runs[0].run).await.unwrap().unwrap().1;
        let found = serde_json::from_str::<Detail>(&detail).unwrap().found.unwrap();
        assert_eq!((found.synced, found.rejected_unchanged), (2, 1), "version {version}");
        assert_eq!(ledger.kv().get("paused/accounts").await.unwrap().as_deref(), Some("2026-11-07T08:00:00Z"));
    }
    let sent = history.changes(&runs[1].run, None, 0, 10).await.unwrap();
    let outcomes: Vec<(&str, &str)> =
        sent.iter().map(|change| (change.key.as_str(), change.entry.outcome.as_str())).collect();
    assert_eq!(outcomes, [("globex", ChangeOutcome::Unconfirmed.name()), ("initech", ChangeOutcome::Rejected.name())]);
}

/// What the next run finds: the crashed one folded, and everything to be read.
async fn check_next_run(ledger: &DuckDbLedger, version: usize) {
    let start = RunStart {
        sync: "accounts".to_owned(),
        run: "20261108T080000.000Z-0008".to_owned(),
        mapping: "m".to_owned(),
        traits: vec!["plan".to_owned()],
        started_at: DateTime::from_timestamp(1_794_124_800, 0).unwrap(),
        started_by: "test".to_owned(),
        partial: false,
    };
    let previous = ledger.begin(&start).await.unwrap();
    assert_eq!(previous.recovered, ["20261107T080000.000Z-0007"], "version {version}");
    assert_eq!(previous.cursor, Some(Cursor::ReadAll), "version {version}");
    let group = async |key: &str| ledger.history().group("accounts", key).await.unwrap();
    let hooli = group("hooli").await.unwrap();
    assert_eq!((hooli.document.to_text().as_str(), hooli.unconfirmed_in), (r#"{"plan":"max"}"#, None));
    assert_eq!(group("acme").await.unwrap().document.to_text(), r#"{"plan":"pro"}"#);
    assert!(group("umbrella").await.is_none(), "certainly not sent");
    let stark = group("stark").await.unwrap();
    assert_eq!(stark.unconfirmed_in.as_deref(), Some("20261107T080000.000Z-0007"), "sent, no response");
    let initech = group("initech").await.unwrap();
    assert_eq!(initech.rejected.unwrap().1, "no such plan");
}

#[tokio::test]
async fn every_format_that_was_ever_written_is_read_and_brought_to_the_present_one() {
    for (packed, version) in EACH.into_iter().zip(1..) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.duckdb");
        unpacked(packed, &path);
        let before = std::fs::read(&path).unwrap();
        match DuckDbLedger::open_read_only(&path, &Limits::standard()).await {
            Ok(ledger) => {
                check_history(&ledger, version).await;
                check_next_run(&ledger, version).await;
            }
            Err(error) => assert!(version == 1 && error.advice().unwrap().contains("groupcast run"), "{error}"),
        }
        assert_eq!(std::fs::read(&path).unwrap(), before, "version {version} is read as it is");
        for _ in 0..2 {
            let ledger = DuckDbLedger::open(&path, &Limits::standard(), Retention::FOREVER).await.unwrap();
            check_history(&ledger, version).await;
        }
        let ledger = DuckDbLedger::open(&path, &Limits::standard(), Retention::FOREVER).await.unwrap();
        check_next_run(&ledger, version).await;
        let copy = folder.path().join(format!("ledger.duckdb.v{version}-backup"));
        assert_eq!(copy.exists(), version < EACH.len(), "a copy of version {version} is kept");
    }
}
