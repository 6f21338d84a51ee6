//! Do all ledgers keep the contract? The memory ledger is the specification: random histories drive all, and after
//! every step they must answer alike.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::support::memory_ledger::MemoryLedger;
use chrono::{DateTime, Utc};
use groupcast::duckdb::Limits;
use groupcast::error::Kind;
use groupcast::ledger::duckdb::DuckDbLedger;
use groupcast::ledger::kv::note_of;
use groupcast::ledger::mirror::MIRROR;
use groupcast::ledger::postgres::PostgresLedger;
use groupcast::ledger::{
    Access, Candidate, CandidateKind, ChangeOutcome, CompareOptions, Comparison, JournalEntry, Ledger, MissingScope,
    Retention, RunCheckpoint, RunStart, RunStatus, SourceRows, SyncedGroup,
};
use groupcast::model::{After, Cell, Change, ColumnType, Document};
use groupcast::source::postgres::PostgresSettings;
use serde_json::json;

use crate::support::pooler::Pooler;
use crate::support::postgres::shared;
use crate::support::rows::{Row, stage};

const KINDS: [ColumnType; 2] = [ColumnType::Int, ColumnType::Text];
const RETENTION: Retention = Retention {
    journal: Duration::from_secs(90 * 86_400),
    runs: Duration::from_secs(180 * 86_400),
    requests: Duration::ZERO,
};

fn at(second: u64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + second as i64, 0).unwrap()
}

fn start(sync: &str, number: u64) -> RunStart {
    RunStart {
        sync: sync.to_owned(),
        run: format!("run-{number:04}"),
        mapping: "m".to_owned(),
        traits: vec![format!("t{}", number % 3), "it's".to_owned()],
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

fn scope(salt: &str) -> CompareOptions {
    CompareOptions { salt: salt.to_owned(), missing: MissingScope::All, retry_rejected: false, act_on_missing: true }
}

fn document(text: &str) -> Document {
    Document::from_text(text).unwrap()
}

/// A ledger, fed with rows in memory.
enum Subject {
    Memory(MemoryLedger),
    Local(DuckDbLedger),
    Server(PostgresLedger),
}

impl Subject {
    fn ledger(&self) -> &dyn Ledger {
        match self {
            Subject::Memory(ledger) => ledger,
            Subject::Local(ledger) => ledger,
            Subject::Server(ledger) => ledger,
        }
    }

    async fn compare(&self, sync: &str, rows: &[Row], scope: &CompareOptions) -> Comparison {
        match self {
            Subject::Memory(ledger) => ledger.compare(sync, SourceRows::Rows(rows), scope).await.unwrap(),
            Subject::Local(ledger) => {
                let staged = stage(ledger.duckdb(), rows, &KINDS).await.unwrap();
                ledger.compare(sync, SourceRows::Staged(&staged), scope).await.unwrap()
            }
            Subject::Server(ledger) => {
                let staged = stage(ledger.duckdb(), rows, &KINDS).await.unwrap();
                ledger.compare(sync, SourceRows::Staged(&staged), scope).await.unwrap()
            }
        }
    }

    /// All candidates in key order, without the fingerprint's value, which is each ledger's own.
    async fn candidates(&self) -> Vec<Candidate> {
        let mut all = Vec::new();
        loop {
            let page = self.ledger().page(all.len() as u64, 3).await.unwrap();
            if page.is_empty() {
                break;
            }
            all.extend(page);
        }
        all.sort_by(|left: &Candidate, right| left.key.cmp(&right.key));
        all
    }
}

fn comparable(candidates: &[Candidate]) -> Vec<Candidate> {
    let bare = |candidate: &Candidate| Candidate { fingerprint: candidate.fingerprint.map(|_| 0), ..candidate.clone() };
    candidates.iter().map(bare).collect()
}

/// Where the ledgers of a test are.
struct Places {
    folder: tempfile::TempDir,
    server: PostgresSettings,
}

impl Places {
    /// New ones. `server` reaches a database that is not used for anything else.
    fn new(server: PostgresSettings) -> Places {
        Places { folder: tempfile::tempdir().unwrap(), server }
    }

    async fn local(&self) -> DuckDbLedger {
        let path = self.folder.path().join("ledger.duckdb");
        DuckDbLedger::open(&path, &Limits::standard(), RETENTION).await.unwrap()
    }

    async fn server(&self, schema: &str) -> PostgresLedger {
        // One thread: these histories have a few groups.
        let limits = Limits { threads: 1, ..Limits::standard() };
        PostgresLedger::open(&self.server, schema, &limits, RETENTION).await.unwrap()
    }

    /// All kinds of ledgers, empty; the specification first.
    async fn subjects(&self, schema: &str) -> [Subject; 3] {
        let (local, server) = (self.local().await, self.server(schema).await);
        [Subject::Memory(MemoryLedger::default()), Subject::Local(local), Subject::Server(server)]
    }
}

/// A group without its fingerprint's value.
fn bare(group: &SyncedGroup) -> SyncedGroup {
    SyncedGroup { fingerprint: group.fingerprint.map(|_| 0), ..group.clone() }
}

/// Has a ledger take over its own groups, as if they came from another one.
async fn import_again(ledger: &dyn Ledger, sync: &str) -> u64 {
    let groups = ledger.history().groups(sync, None, 1000).await.unwrap();
    let (sender, receiver) = tokio::sync::mpsc::channel(1000);
    for page in groups.chunks(2) {
        sender.send(Ok(page.to_vec())).await.unwrap();
    }
    drop(sender);
    ledger.import(sync, receiver, true).await.unwrap()
}

/// Everything a ledger answers about a sync.
async fn answers(ledger: &dyn Ledger, sync: &str) -> String {
    let history = ledger.history();
    let counts = history.group_counts(sync).await.unwrap();
    let mut out = format!("{counts:?}\n");
    assert_eq!(history.all_group_counts().await.unwrap().get(sync).cloned().unwrap_or_default(), counts);
    let groups = history.groups(sync, None, 1000).await.unwrap();
    for group in &groups {
        out.push_str(&format!("{:?}\n", bare(group)));
        assert_eq!(history.group(sync, &group.key).await.unwrap().as_ref(), Some(group));
        let entries = history.group_history(sync, &group.key, None, 100).await.unwrap();
        out.push_str(&format!("{entries:?}\n"));
        if let Some(newest) = entries.first() {
            let earlier = history.group_history(sync, &group.key, Some(newest.seq), 100).await.unwrap();
            assert_eq!(earlier, entries[1..]);
        }
    }
    let half = groups.get(groups.len() / 2).map(|group| group.key.clone());
    out.push_str(&format!("{}\n", history.groups(sync, half.as_deref(), 1000).await.unwrap().len()));
    let rejected = history.rejected(sync, None, 1000).await.unwrap();
    assert_eq!(history.all_rejected(1000).await.unwrap().remove(sync).unwrap_or_default(), rejected);
    if let Some(first) = rejected.first() {
        assert_eq!(history.rejected(sync, Some(&first.key), 1000).await.unwrap(), rejected[1..]);
    }
    out.push_str(&format!("{:?}\n", rejected.iter().map(bare).collect::<Vec<_>>()));
    let open = |group: &&SyncedGroup| group.unconfirmed_in.is_some() || group.rejected.is_some();
    let open: Vec<String> = groups.iter().filter(open).map(|group| group.key.clone()).collect();
    let mut listed = history.unconfirmed_or_rejected(sync, 1000).await.unwrap();
    listed.sort();
    assert_eq!(listed, open);
    assert_eq!(history.unconfirmed_or_rejected(sync, 1).await.unwrap().len(), open.len().min(1));
    out.push_str(&format!("{:?}\n", ledger.kv().get(&note_of(MIRROR, sync)).await.unwrap()));
    let runs = history.runs(Some(sync), None, 1000).await.unwrap();
    out.push_str(&format!("{runs:?}\n"));
    if let Some(newest) = runs.first() {
        assert_eq!(history.runs(Some(sync), Some(&newest.run), 1000).await.unwrap(), runs[1..]);
    }
    let detailed = history.runs_with_details(sync, 1000).await.unwrap();
    assert_eq!(detailed.iter().map(|(run, _)| run.clone()).collect::<Vec<_>>(), runs);
    for (run, detail) in detailed {
        assert_eq!(history.run(&run.run).await.unwrap(), Some((run.clone(), detail)));
        out.push_str(&format!("{:?}\n", history.changes(&run.run, None, 0, 1000).await.unwrap()));
        let rejected = history.changes(&run.run, Some(ChangeOutcome::Rejected), 1, 3).await.unwrap();
        out.push_str(&format!("{rejected:?}\n"));
    }
    let since = history.since_success(sync).await.unwrap();
    assert_eq!(since.success.as_ref().and_then(|run| run.ended_at), history.last_success(sync).await.unwrap());
    out.push_str(&format!("{since:?}\n"));
    out.push_str(&format!("{:?}\n", history.last_successes().await.unwrap()));
    out.push_str(&format!("{:?}\n", history.latest_runs(2).await.unwrap()));
    out.push_str(&format!("{:?}\n", history.whole_runs(sync, 3).await.unwrap()));
    out.push_str(&format!("{:?}\n", history.unfinished_runs().await.unwrap()));
    out
}

#[tokio::test]
async fn ledgers_answer_alike_over_random_histories() {
    let database = shared().create_database().await;
    // The server's in every fourth.
    random_histories(&database.settings(json!({})), 0..25, |seed| seed % 4 == 0).await;
}

/// The same with a pooler that gives every transaction another connection to the server, of few.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ledgers_answer_alike_behind_a_pooler() {
    let database = shared().create_database().await;
    let pooler = Pooler::start("transaction", "default_pool_size = 3\nserver_round_robin = 1");
    let settings = json!({ "url": pooler.url(&database), "sslmode": "disable" });
    random_histories(&serde_json::from_value(settings).unwrap(), 100..103, |_| true).await;
}

async fn random_histories(server: &PostgresSettings, seeds: std::ops::Range<u64>, with_server: impl Fn(u64) -> bool) {
    for seed in seeds {
        let places = Places::new(server.clone());
        let schema = format!("history {seed}");
        // Every other time as if all candidates were very many: not in key order.
        let ordered_max = if seed % 2 == 0 { u64::MAX } else { 0 };
        // Every third time as if documents were large, and every other of those not all of them.
        let inline_max = [usize::MAX, 0, usize::MAX, usize::MAX, 12, usize::MAX][seed as usize % 6];
        let as_if = |subject: Subject| match subject {
            Subject::Local(ledger) => Subject::Local(ledger.ordered_up_to(ordered_max).inline_up_to(inline_max)),
            Subject::Server(ledger) => Subject::Server(ledger.ordered_up_to(ordered_max)),
            memory => memory,
        };
        let mut subjects = vec![Subject::Memory(MemoryLedger::default()), Subject::Local(places.local().await)];
        if with_server(seed) {
            subjects.push(Subject::Server(places.server(&schema).await));
        }
        subjects = subjects.into_iter().map(as_if).collect();
        let mut random = fastrand::Rng::with_seed(seed);
        let mut rows: BTreeMap<String, i64> = BTreeMap::new();
        for number in 0..8 {
            for _ in 0..random.usize(0..4) {
                let key = format!("k{}", random.u8(0..7));
                if random.u8(0..5) == 0 {
                    rows.remove(&key)
                } else {
                    rows.insert(key, random.i64(0..3))
                };
            }
            let mut incoming: Vec<Row> = rows
                .iter()
                .map(|(key, value)| (Some(key.clone()), vec![Cell::Int(*value), Cell::Text("é😀".to_owned())]))
                .collect();
            if random.u8(0..4) == 0 {
                incoming.push((None, vec![Cell::Null, Cell::Null]));
                incoming.push((Some(String::new()), vec![Cell::Null, Cell::Null]));
                incoming.push((Some("k3".to_owned()), vec![Cell::Int(9), Cell::Null]));
            }
            random.shuffle(&mut incoming);
            let missing = match random.u8(0..6) {
                0 => MissingScope::None,
                1 => MissingScope::Only(vec!["k2".to_owned()]),
                2 => MissingScope::Only(["k1", "k2", "k9"].map(str::to_owned).to_vec()),
                _ => MissingScope::All,
            };
            if let MissingScope::Only(only) = &missing {
                incoming.retain(|(key, _)| key.as_ref().is_some_and(|key| only.contains(key)));
            }
            let scope = CompareOptions {
                salt: if random.u8(0..6) == 0 { "edited" } else { "m" }.to_owned(),
                missing,
                retry_rejected: random.u8(0..5) == 0,
                act_on_missing: random.bool(),
            };
            let dies = random.u8(0..4) == 0;
            let outcomes = fastrand::Rng::with_seed(seed * 1000 + number);
            let mut seen = Vec::new();
            for subject in &subjects {
                let begin = start("accounts", number);
                let begun = subject.ledger().begin(&begin).await.unwrap();
                // What is known of a mirror outlives runs, and nothing else that changes groups.
                subject.ledger().kv().put(&note_of(MIRROR, "accounts"), &begin.run).await.unwrap();
                let found = subject.compare("accounts", &incoming, &scope).await;
                let candidates = subject.candidates().await;
                assert_eq!(candidates.len() as u64, found.candidates(), "seed {seed} run {number}");
                let outcomes = &mut outcomes.clone();
                let mut entries = Vec::new();
                for candidate in &candidates {
                    let outcome = [
                        ChangeOutcome::Unchanged,
                        ChangeOutcome::Adopted,
                        ChangeOutcome::Delivered,
                        ChangeOutcome::Delivered,
                        ChangeOutcome::Delivered,
                        ChangeOutcome::Rejected,
                        ChangeOutcome::PartlyRejected,
                        ChangeOutcome::Pending,
                        ChangeOutcome::Unconfirmed,
                    ][outcomes.usize(0..9)];
                    if !matches!(outcome, ChangeOutcome::Unchanged | ChangeOutcome::Adopted) {
                        let keys = vec![candidate.key.clone()];
                        subject.ledger().mark("accounts", &begin.run, keys).await.unwrap();
                    }
                    let gone = candidate.kind == CandidateKind::Missing;
                    let after = (!gone).then(|| Document(json!({"v": number}).as_object().unwrap().clone()));
                    let refused = matches!(outcome, ChangeOutcome::Rejected | ChangeOutcome::PartlyRejected);
                    let mut change = Change { set: after.clone().unwrap_or_default().0, ..Change::default() };
                    if outcomes.bool() {
                        change.unset.insert("old".to_owned());
                    }
                    entries.push(JournalEntry {
                        key: candidate.key.clone(),
                        is_new: candidate.kind == CandidateKind::New,
                        change: if matches!(
                            outcome,
                            ChangeOutcome::Unchanged | ChangeOutcome::Pending | ChangeOutcome::Adopted
                        ) {
                            Change::default().into()
                        } else {
                            change.into()
                        },
                        document: match after {
                            // As the real protocol does it for most new groups.
                            Some(_) if !refused && outcomes.bool() => Some(After::WhatIsSet),
                            after if refused => Some(After::Document(after.unwrap_or_default())),
                            after => after.map(After::Document),
                        },
                        fingerprint: candidate.fingerprint,
                        outcome,
                        reason: refused.then(|| "no such plan".to_owned()),
                    });
                }
                // A run that dies has recorded only some outcomes.
                if dies {
                    entries.truncate(entries.len() / 2);
                }
                for batch in entries.chunks(2) {
                    subject.ledger().record("accounts", &begin.run, at(number), batch.to_vec()).await.unwrap();
                }
                if !dies {
                    subject.ledger().finish("accounts", &begin.run, checkpoint(number)).await.unwrap();
                }
                let answered = answers(subject.ledger(), "accounts").await;
                seen.push((begun, found, comparable(&candidates), answered));
            }
            for other in &seen[1..] {
                assert_eq!(seen[0], *other, "seed {seed} run {number}");
            }
            if random.u8(0..3) == 0 {
                // The ledger's own process dies as well.
                let mut reopened = Vec::new();
                for subject in subjects {
                    reopened.push(as_if(match subject {
                        Subject::Memory(ledger) => Subject::Memory(ledger),
                        Subject::Local(ledger) => {
                            drop(ledger);
                            Subject::Local(places.local().await)
                        }
                        Subject::Server(ledger) => {
                            drop(ledger);
                            Subject::Server(places.server(&schema).await)
                        }
                    }));
                }
                subjects = reopened;
            }
            if random.u8(0..9) == 0 {
                let (keys, forget) =
                    ([None, Some(vec![]), Some(vec!["k1"]), Some(vec!["k1", "k3", "nobody's"])], random.bool());
                let keys = keys[random.usize(0..4)]
                    .as_ref()
                    .map(|keys| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>());
                let mut concerned = Vec::new();
                for subject in &subjects {
                    concerned.push(subject.ledger().reset("accounts", keys.as_deref(), "reset", forget).await.unwrap());
                }
                assert!(concerned.iter().all(|count| *count == concerned[0]), "{concerned:?}");
            }
            if random.u8(0..9) == 0 {
                let mut seen = Vec::new();
                for subject in &subjects {
                    let count = import_again(subject.ledger(), "accounts").await;
                    seen.push((count, answers(subject.ledger(), "accounts").await));
                }
                assert!(seen.iter().all(|other| *other == seen[0]), "{seen:?}");
            }
            if random.u8(0..9) == 0 {
                // Renamed and renamed back, whatever was left behind.
                let mut seen = Vec::new();
                for subject in &subjects {
                    let ledger = subject.ledger();
                    let moved = ledger.rename("accounts", "renamed").await.unwrap();
                    let there = answers(ledger, "renamed").await;
                    assert!(ledger.history().group_counts("accounts").await.unwrap().is_empty());
                    assert_eq!(ledger.history().runs(Some("accounts"), None, 9).await.unwrap(), []);
                    assert_eq!(ledger.rename("renamed", "accounts").await.unwrap(), moved);
                    seen.push((moved, there));
                }
                assert!(seen.iter().all(|other| *other == seen[0]), "{seen:?}");
            }
        }
        let mut dropped = Vec::new();
        for subject in &subjects {
            let groups = subject.ledger().drop_sync("accounts").await.unwrap();
            dropped.push((groups, answers(subject.ledger(), "accounts").await));
        }
        assert!(dropped.iter().all(|other| *other == dropped[0]), "seed {seed}: {dropped:?}");
        assert_eq!(subjects[0].ledger().history().runs(None, None, 9).await.unwrap(), []);
    }
}

async fn first_run(subject: &Subject, number: u64, outcome: ChangeOutcome) {
    let begin = start("accounts", number);
    subject.ledger().begin(&begin).await.unwrap();
    let rows = [(Some("acme".to_owned()), vec![Cell::Int(1), Cell::Text("pro".to_owned())])];
    subject.compare("accounts", &rows, &scope("m")).await;
    let candidates = subject.candidates().await;
    let after = document(r#"{"plan":"pro"}"#);
    subject.ledger().mark("accounts", &begin.run, vec!["acme".to_owned()]).await.unwrap();
    let entry = JournalEntry {
        key: "acme".to_owned(),
        is_new: candidates[0].kind == CandidateKind::New,
        change: Change { set: after.0.clone(), ..Change::default() }.into(),
        document: Some(After::Document(after)),
        fingerprint: candidates[0].fingerprint,
        outcome,
        reason: Some("why".to_owned()),
    };
    subject.ledger().record("accounts", &begin.run, at(1), vec![entry]).await.unwrap();
    subject.ledger().finish("accounts", &begin.run, checkpoint(number)).await.unwrap();
}

async fn looked_at_again(subject: &Subject, number: u64) -> Vec<Candidate> {
    subject.ledger().begin(&start("accounts", number)).await.unwrap();
    let rows = [(Some("acme".to_owned()), vec![Cell::Int(1), Cell::Text("pro".to_owned())])];
    subject.compare("accounts", &rows, &scope("m")).await;
    subject.candidates().await
}

#[tokio::test]
async fn outcomes_leave_what_the_contract_says() {
    let database = shared().create_database().await;
    for (outcome, again, certain) in [
        (ChangeOutcome::Delivered, false, true),
        (ChangeOutcome::Unchanged, false, true),
        (ChangeOutcome::Rejected, false, true),
        (ChangeOutcome::PartlyRejected, false, false),
        (ChangeOutcome::Pending, true, true),
        (ChangeOutcome::Unconfirmed, true, false),
    ] {
        let places = Places::new(database.settings(json!({})));
        for subject in places.subjects(&format!("{outcome:?}")).await {
            first_run(&subject, 1, outcome).await;
            let candidates = looked_at_again(&subject, 2).await;
            assert_eq!(!candidates.is_empty(), again, "{outcome:?}");
            assert!(candidates.iter().all(|candidate| candidate.confirmed == certain), "{outcome:?}");
            let unconfirmed = subject.ledger().history().group_counts("accounts").await.unwrap().unconfirmed;
            assert_eq!(unconfirmed, u64::from(!certain), "{outcome:?}");
        }
    }
}

/// A group counts as known once the destination has taken it, and guards measure against what it may hold.
#[tokio::test]
async fn what_was_never_delivered_is_not_known() {
    let database = shared().create_database().await;
    let places = Places::new(database.settings(json!({})));
    for subject in places.subjects("groupcast").await {
        let ledger = subject.ledger();
        let row = |key: &str, value| (Some(key.to_owned()), vec![Cell::Int(value), Cell::Null]);
        let entry = |candidate: &Candidate, outcome| JournalEntry {
            key: candidate.key.clone(),
            is_new: candidate.kind == CandidateKind::New,
            change: Arc::new(Change { set: document(r#"{"a":1}"#).0, ..Change::default() }),
            document: Some(After::WhatIsSet),
            fingerprint: candidate.fingerprint,
            outcome,
            reason: Some("no".to_owned()),
        };
        // GIVEN one group of each outcome
        let outcomes = [
            ("delivered", ChangeOutcome::Delivered),
            ("partly", ChangeOutcome::PartlyRejected),
            ("refused", ChangeOutcome::Rejected),
            ("unknown", ChangeOutcome::Unconfirmed),
        ];
        let rows: Vec<Row> = outcomes.iter().map(|(key, _)| row(key, 1)).collect();
        ledger.begin(&start("accounts", 1)).await.unwrap();
        subject.compare("accounts", &rows, &scope("m")).await;
        let candidates = subject.candidates().await;
        ledger
            .mark("accounts", "run-0001", candidates.iter().map(|candidate| candidate.key.clone()).collect())
            .await
            .unwrap();
        let outcome = |candidate: &Candidate| outcomes.iter().find(|(key, _)| *key == candidate.key).unwrap().1;
        let entries = candidates.iter().map(|candidate| entry(candidate, outcome(candidate))).collect();
        ledger.record("accounts", "run-0001", at(100), entries).await.unwrap();
        ledger.finish("accounts", "run-0001", checkpoint(1)).await.unwrap();
        // THEN one is known
        let standing = ledger.history().group_counts("accounts").await.unwrap();
        assert_eq!((standing.synced, standing.unconfirmed, standing.rejected), (1, 2, 2));
        assert_eq!(ledger.history().all_group_counts().await.unwrap()["accounts"], standing);
        // AND all but the refused one may be held: only they are taken away
        ledger.begin(&start("accounts", 2)).await.unwrap();
        let found = subject.compare("accounts", &[], &CompareOptions { retry_rejected: true, ..scope("m") }).await;
        assert_eq!((found.synced, found.missing, found.missing_candidates, found.removable), (3, 4, 4, 3));
        ledger.finish("accounts", "run-0002", checkpoint(2)).await.unwrap();
        // AND one that was delivered before it was refused stays known
        ledger.begin(&start("accounts", 3)).await.unwrap();
        subject.compare("accounts", &[row("delivered", 2)], &scope("m")).await;
        let candidates = subject.candidates().await;
        let changed = candidates.iter().find(|candidate| candidate.key == "delivered").unwrap();
        ledger.record("accounts", "run-0003", at(300), vec![entry(changed, ChangeOutcome::Rejected)]).await.unwrap();
        ledger.finish("accounts", "run-0003", checkpoint(3)).await.unwrap();
        let standing = ledger.history().group_counts("accounts").await.unwrap();
        assert_eq!((standing.synced, standing.unconfirmed, standing.rejected), (1, 2, 3));
    }
}

#[tokio::test]
async fn a_read_only_ledger_shows_a_dead_run_folded_and_leaves_the_file_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.duckdb");
    {
        let ledger = DuckDbLedger::open(&path, &Limits::standard(), RETENTION).await.unwrap();
        ledger.begin(&start("accounts", 1)).await.unwrap();
        ledger.mark("accounts", "run-0001", vec!["acme".to_owned()]).await.unwrap();
    }
    // Opening once more writes the log into the file, so that the bytes can be compared.
    drop(DuckDbLedger::open(&path, &Limits::standard(), RETENTION).await.unwrap());
    let before = std::fs::read(&path).unwrap();
    {
        let ledger = DuckDbLedger::open_read_only(&path, &Limits::standard()).await.unwrap();
        let begun = ledger.begin(&start("accounts", 2)).await.unwrap();
        assert_eq!(begun.recovered, ["run-0001"]);
        let subject = Subject::Local(ledger);
        let rows = [(Some("acme".to_owned()), vec![Cell::Int(1), Cell::Null])];
        let found = subject.compare("accounts", &rows, &scope("m")).await;
        assert_eq!((found.synced, found.changed), (1, 1));
        let candidates = subject.candidates().await;
        assert!(!candidates[0].confirmed);
    }
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn outcomes_of_few_groups_outlive_a_kill_for_who_reads_and_for_who_writes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.duckdb");
    let ledger = DuckDbLedger::open(&path, &Limits::standard(), RETENTION).await.unwrap();
    let entry = |key: &str, outcome| JournalEntry {
        key: key.to_owned(),
        is_new: true,
        change: Arc::default(),
        document: Some(After::Text("{\"plan\":\"\\u0000'pro'\"}".into())),
        fingerprint: Some(7),
        outcome,
        reason: (outcome == ChangeOutcome::Rejected).then(|| "no".to_owned()),
    };
    // GIVEN two runs at a time, killed when each had some outcomes and one that is missing
    let beside = ledger.another(Access::ReadWrite).unwrap();
    for (ledger, sync) in [(&ledger, "accounts"), (&beside, "it's \"users\"")] {
        ledger.begin(&start(sync, 1)).await.unwrap();
        ledger.mark(sync, "run-0001", ["a", "b", "c"].map(str::to_owned).into()).await.unwrap();
    }
    for sync in ["accounts", "it's \"users\""] {
        let ledger = if sync == "accounts" { &ledger } else { &beside };
        ledger.record(sync, "run-0001", at(101), vec![entry("a", ChangeOutcome::Delivered)]).await.unwrap();
        ledger.record(sync, "run-0001", at(102), vec![entry("b", ChangeOutcome::Rejected)]).await.unwrap();
    }
    let left = folder.path().join("left.duckdb");
    std::fs::copy(&path, &left).unwrap();
    for beside in ["wal", "generation"] {
        std::fs::copy(path.with_extension(format!("duckdb.{beside}")), left.with_extension(format!("duckdb.{beside}")))
            .unwrap();
    }
    let rows: Vec<Row> =
        ["a", "b", "c"].map(|key| (Some(key.to_owned()), vec![Cell::Int(1), Cell::Null])).into_iter().collect();
    let look = async |ledger: DuckDbLedger| {
        let mut seen = Vec::new();
        for sync in ["accounts", "it's \"users\""] {
            assert_eq!(ledger.begin(&start(sync, 2)).await.unwrap().recovered, ["run-0001"], "{sync}");
            let staged = stage(ledger.duckdb(), &rows, &KINDS).await.unwrap();
            ledger.compare(sync, SourceRows::Staged(&staged), &scope("m")).await.unwrap();
            let mut page = ledger.page(0, 10).await.unwrap();
            page.sort_by(|one, other| one.key.cmp(&other.key));
            seen.push(comparable(&page));
        }
        seen
    };
    // THEN a plan and the next run find the same
    let plan = look(DuckDbLedger::open_read_only(&left, &Limits::standard()).await.unwrap()).await;
    let next = DuckDbLedger::open(&left, &Limits::standard(), RETENTION).await.unwrap();
    for sync in ["accounts", "it's \"users\""] {
        let lines = next.history().group_history(sync, "a", None, 9).await.unwrap();
        assert_eq!(lines.iter().map(|line| line.outcome.as_str()).collect::<Vec<_>>(), ["delivered"], "{sync}");
    }
    let run = look(next).await;
    assert_eq!(plan, run);
    for candidates in run {
        let of = |key: &str| candidates.iter().find(|candidate| candidate.key == key).unwrap();
        assert_eq!((of("a").confirmed, of("a").synced.to_text()), (true, "{\"plan\":\"\\u0000'pro'\"}".to_owned()));
        assert!(of("a").settled_seq > 0 && of("b").rejected.is_some() && !of("c").confirmed, "{candidates:?}");
    }
}

#[tokio::test]
async fn files_that_cannot_be_a_ledger_are_refused_with_a_next_step() {
    let folder = tempfile::tempdir().unwrap();
    let open = |name: &str| {
        let path = folder.path().join(name);
        async move { DuckDbLedger::open(&path, &Limits::standard(), RETENTION).await.err() }
    };
    let newer = folder.path().join("newer.duckdb");
    duckdb::Connection::open(&newer)
        .and_then(|file| file.execute_batch("CREATE TABLE meta (version UINTEGER); INSERT INTO meta VALUES (99)"))
        .unwrap();
    let error = open("newer.duckdb").await.unwrap();
    assert!(error.to_string().contains("version 99") && error.advice().unwrap().contains("newer Groupcast"), "{error}");

    let foreign = folder.path().join("foreign.duckdb");
    duckdb::Connection::open(&foreign).and_then(|file| file.execute_batch("CREATE TABLE accounts (id INT)")).unwrap();
    let error = open("foreign.duckdb").await.unwrap();
    assert!(error.to_string().contains("not a ledger") && error.advice().unwrap().contains("state.path"), "{error}");

    std::fs::write(folder.path().join("corrupt.duckdb"), [0u8; 40_000]).unwrap();
    let error = open("corrupt.duckdb").await.unwrap();
    assert_eq!(error.kind(), Kind::Ledger);
    assert!(error.advice().is_some(), "{error}");

    std::fs::write(folder.path().join("file"), "").unwrap();
    let error = open("file/ledger.duckdb").await.unwrap();
    assert!(error.advice().unwrap().contains("state.path"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_stays_open_keeps_its_files_in_bounds() {
    const GROUPS: usize = 10;
    // More in a run than the log may keep.
    const GROUP_BYTES: usize = 2_000_000;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.duckdb");
    let bytes = |name: &str| std::fs::metadata(folder.path().join(name)).map_or(0, |meta| meta.len());
    let forgetful = Retention { journal: Duration::ZERO, runs: Duration::ZERO, requests: Duration::ZERO };
    let ledger = DuckDbLedger::open(&path, &Limits::standard(), forgetful).await.unwrap();
    let asking = ledger.another(Access::ReadWrite).unwrap();
    let mut random = fastrand::Rng::with_seed(3);
    // Nothing that compresses well.
    let noise: String = std::iter::repeat_with(|| random.alphanumeric()).take(GROUP_BYTES).collect();
    let mut sizes = Vec::new();
    // WHEN every group is said anew in run after run
    for number in 1..=5 {
        let beside = ledger.another(Access::ReadWrite).unwrap();
        let start = start("accounts", number);
        beside.begin(&start).await.unwrap();
        let keys: Vec<String> = (0..GROUPS).map(|group| format!("g{group}")).collect();
        beside.mark("accounts", &start.run, keys.clone()).await.unwrap();
        let entries = keys.into_iter().map(|key| {
            let set = [("t".to_owned(), json!(format!("{number} {key} {noise}")))].into_iter().collect();
            let change = Arc::new(Change { set, ..Change::default() });
            let document = Some(After::WhatIsSet);
            JournalEntry {
                key,
                is_new: number == 1,
                change,
                document,
                fingerprint: Some(number),
                outcome: ChangeOutcome::Delivered,
                reason: None,
            }
        });
        beside.record("accounts", &start.run, at(number * 100), entries.collect()).await.unwrap();
        let (finished, known) = tokio::join!(
            beside.finish("accounts", &start.run, checkpoint(number)),
            asking.history().group("accounts", "g7")
        );
        finished.unwrap();
        known.unwrap();
        // THEN the log is folded although nobody closes the file
        assert!(bytes("ledger.duckdb.wal") < 1_000_000, "the log has {} bytes", bytes("ledger.duckdb.wal"));
        sizes.push(bytes("ledger.duckdb"));
    }
    // AND what was replaced or forgotten makes room for what comes
    let content = (GROUPS * GROUP_BYTES) as u64;
    assert!(sizes.iter().all(|size| *size < 3 * content), "{sizes:?}");
    // AND nothing is lost
    drop((asking, ledger));
    let ledger = DuckDbLedger::open(&path, &Limits::standard(), forgetful).await.unwrap();
    assert_eq!(ledger.history().group_counts("accounts").await.unwrap().synced, GROUPS as u64);
    assert_eq!(ledger.history().runs(None, None, 10).await.unwrap().len(), 1);
}
