//! Which ledger keeps a history, how does its process die, and how could the protocol be got wrong?

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::memory_ledger::MemoryLedger;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use groupcast::duckdb::{DuckDbConnection, Limits};
use groupcast::error::{Error, Kind, Result};
use groupcast::ledger::duckdb::DuckDbLedger;
use groupcast::ledger::mirror::MirrorRecord;
use groupcast::ledger::postgres::PostgresLedger;
use groupcast::ledger::{
    Access, Candidate, ChangeOutcome, CompareOptions, Comparison, History, ImportedGroups, JournalEntry, KeyValue,
    Ledger, PreviousRun, Retention, RunCheckpoint, RunRecord, RunStart, SourceRows, Storage,
};
use groupcast::model::{After, Document, document};
use serde_json::Value;

/// Longer than any history.
const RETENTION: Retention = Retention {
    journal: Duration::from_secs(90 * 86_400),
    runs: Duration::from_secs(180 * 86_400),
    requests: Duration::ZERO,
};

use super::mirrors::Mirrors;
use super::world::World;
use crate::support::postgres::shared;

/// The ledger of one history.
pub(super) enum Store {
    Memory(MemoryLedger),
    Local {
        ledger: Option<DuckDbLedger>,
        folder: tempfile::TempDir,
        lives: u32,
    },
    /// In a schema of the shared server.
    Server {
        ledger: Option<PostgresLedger>,
        schema: String,
    },
    /// One connection of several to the same file, as a daemon's runs have them.
    Sibling {
        of: Arc<DuckDbLedger>,
        ledger: DuckDbLedger,
        deaths: u32,
    },
}

async fn open(path: &Path) -> DuckDbLedger {
    // One thread: these histories have a few dozen groups.
    let limits = Limits { threads: 1, ..Limits::standard() };
    DuckDbLedger::open(path, &limits, RETENTION).await.unwrap()
}

async fn open_on_server(schema: &str) -> PostgresLedger {
    let limits = Limits { threads: 1, ..Limits::standard() };
    let url = format!("postgres://root_user@127.0.0.1:{}/postgres", shared().port());
    let settings = serde_json::from_value(serde_json::json!({ "url": url })).unwrap();
    PostgresLedger::open(&settings, schema, &limits, RETENTION).await.unwrap()
}

fn file(folder: &tempfile::TempDir, lives: u32) -> PathBuf {
    folder.path().join(format!("ledger-{lives}.duckdb"))
}

impl Store {
    pub(super) fn memory() -> Store {
        Store::Memory(MemoryLedger::default())
    }

    pub(super) async fn local() -> Store {
        let folder = tempfile::tempdir().unwrap();
        Store::Local { ledger: Some(open(&file(&folder, 0)).await), folder, lives: 0 }
    }

    pub(super) async fn server(seed: u64) -> Store {
        let schema = format!("simulation_{seed}");
        Store::Server { ledger: Some(open_on_server(&schema).await), schema }
    }

    pub(super) fn sibling(of: &Arc<DuckDbLedger>) -> Store {
        Store::Sibling { of: Arc::clone(of), ledger: of.another(Access::ReadWrite).unwrap(), deaths: 0 }
    }

    pub(super) fn ledger(&self) -> &dyn Ledger {
        match self {
            Store::Memory(ledger) => ledger,
            Store::Local { ledger, .. } => ledger.as_ref().expect("it is open"),
            Store::Server { ledger, .. } => ledger.as_ref().expect("it is open"),
            Store::Sibling { ledger, .. } => ledger,
        }
    }

    /// For a plan beside other syncs' runs.
    pub(super) fn beside(&self) -> Option<DuckDbLedger> {
        match self {
            Store::Sibling { of, .. } => Some(of.another(Access::ReadOnly).unwrap()),
            Store::Memory(_) | Store::Local { .. } | Store::Server { .. } => None,
        }
    }

    /// Where rows are staged, if they are.
    pub(super) fn duckdb(&self) -> Option<&DuckDbConnection> {
        match self {
            Store::Memory(_) => None,
            Store::Local { ledger, .. } => ledger.as_ref().map(DuckDbLedger::duckdb),
            Store::Server { ledger, .. } => ledger.as_ref().map(PostgresLedger::duckdb),
            Store::Sibling { ledger, .. } => Some(ledger.duckdb()),
        }
    }

    /// The process is killed: the next one finds the bytes as they are on the disk at this moment, the log not folded
    /// into the file. A memory ledger outlives its run.
    pub(super) async fn die(&mut self, sync: &str) {
        if let Store::Sibling { of, ledger, deaths } = self {
            // Only the run dies. The process may record that, or leave it to the next run.
            *deaths += 1;
            if *deaths % 2 == 0 {
                for run in of.history().unfinished_runs().await.unwrap().iter().filter(|run| run.sync == sync) {
                    of.mark_crashed(run, run.started_at, "died", "bug").await.unwrap();
                }
            }
            *ledger = of.another(Access::ReadWrite).unwrap();
        }
        if let Store::Server { ledger, schema } = self {
            // What a transaction had not committed is gone with its connection.
            drop(ledger.take());
            *ledger = Some(open_on_server(schema).await);
        }
        let Store::Local { ledger, folder, lives } = self else { return };
        let (left, next) = (file(folder, *lives), file(folder, *lives + 1));
        let log = |path: &Path| path.with_extension("duckdb.wal");
        std::fs::copy(&left, &next).unwrap();
        let number = |path: &Path| path.with_extension("duckdb.generation");
        std::fs::copy(number(&left), number(&next)).unwrap();
        if log(&left).exists() {
            std::fs::copy(log(&left), log(&next)).unwrap();
        }
        let opened = open(&next).await;
        assert_eq!(opened.storage().outdated(), None, "a kill is no loss");
        *ledger = Some(opened);
        *lives += 1;
    }

    /// The process ends in peace and another one begins.
    pub(super) async fn reopen(&mut self) {
        if let Store::Sibling { of, ledger, .. } = self {
            *ledger = of.another(Access::ReadWrite).unwrap();
        }
        if let Store::Server { ledger, schema } = self {
            drop(ledger.take());
            *ledger = Some(open_on_server(schema).await);
        }
        let Store::Local { ledger, folder, lives } = self else { return };
        drop(ledger.take());
        *ledger = Some(open(&file(folder, *lives)).await);
    }
}

/// Ways of getting the protocol wrong.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Mutant {
    None,
    /// Nothing is marked before it is sent.
    NoMark,
    /// An unknown outcome is taken for "not sent".
    UnknownIsNotSent,
    /// An unknown outcome is taken for "delivered".
    UnknownIsDelivered,
    /// A run's own mark takes the place of an older one, so that an unconfirmed group reads as certain when it is spoken
    /// about: the reference model's `overwrite`.
    Overwrite,
    /// A change of which a part was applied before the rest was refused is taken for one that was refused whole.
    PartIsNothing,
    /// The traits that an unconfirmed request spoke about are forgotten with the mapping that named them.
    ForgetsAttempted,
    /// A trait that was not spoken about while its group was unconfirmed is remembered with the value it had before.
    TrustsTheUnsaid,
    /// A trait that may be held is taken for one that is.
    UnsureIsHeld,
    /// What a run is about to send is not noted as unmirrored.
    NothingIsUnmirrored,
    /// A mirror is taken for what it should be.
    TrustsTheMirror,
    /// A first value that was said while its group was unconfirmed is taken for the one that is held.
    TrustsTheFirst,
}

/// A ledger whose process dies now and then: every call may fail before or after it took effect.
pub(super) struct Mortal<'a> {
    pub(super) ledger: &'a dyn Ledger,
    pub(super) world: &'a Mutex<World>,
    pub(super) mutant: Mutant,
    pub(super) mirrors: &'a Mutex<Mirrors>,
    pub(super) dead: Mutex<bool>,
    /// Candidates per page: few, so that several pages are on their way in one run.
    pub(super) page: u64,
    /// What was known of the candidates.
    pub(super) seen: Mutex<BTreeMap<String, Document>>,
}

impl Mortal<'_> {
    fn alive(&self) -> Result<()> {
        let mut dead = self.dead.lock().unwrap();
        let mut world = self.world.lock().unwrap();
        let chance = world.weather.crash;
        *dead = *dead || world.happens(chance);
        if *dead { Err(Error::new(Kind::Ledger, "the process died")) } else { Ok(()) }
    }

    /// What the mutant makes of a candidate.
    fn misread(&self, mut candidate: Candidate) -> Candidate {
        match self.mutant {
            Mutant::Overwrite => candidate.confirmed = true,
            Mutant::ForgetsAttempted => candidate.synced.0.retain(|_, value| *value != document::unconfirmed()),
            Mutant::UnsureIsHeld => {
                for value in candidate.synced.0.values_mut().filter(|value| **value == document::unconfirmed()) {
                    *value = Value::from("something");
                }
            }
            _ => {}
        }
        candidate
    }

    /// What the mutant makes of an outcome.
    fn miswrite(&self, mut entry: JournalEntry) -> JournalEntry {
        let (key, change) = (entry.key.clone(), entry.change.clone());
        entry.outcome = match (self.mutant, entry.outcome) {
            (Mutant::UnknownIsNotSent, ChangeOutcome::Unconfirmed) => ChangeOutcome::Pending,
            (Mutant::UnknownIsDelivered, ChangeOutcome::Unconfirmed) => ChangeOutcome::Delivered,
            (Mutant::PartIsNothing, ChangeOutcome::PartlyRejected) => ChangeOutcome::Rejected,
            (_, outcome) => outcome,
        };
        if let (Mutant::TrustsTheUnsaid, Some(document)) = (self.mutant, spelled(&mut entry)) {
            let seen = self.seen.lock().unwrap();
            for (name, value) in document.0.iter_mut().filter(|(_, value)| **value == document::unconfirmed()) {
                if let Some(before) = seen.get(&key).and_then(|known| known.0.get(name)) {
                    value.clone_from(before);
                }
            }
        }
        if let (Mutant::TrustsTheFirst, Some(document)) = (self.mutant, spelled(&mut entry)) {
            for (name, value) in document.0.iter_mut().filter(|(_, value)| **value == document::taken()) {
                if let Some(first) = change.set_once.get(name) {
                    value.clone_from(first);
                }
            }
        }
        entry
    }
}

/// The document an entry leads to, spelled out so that a mutant can spoil it.
fn spelled(entry: &mut JournalEntry) -> Option<&mut Document> {
    let after = entry.document.take()?;
    entry.document = Some(After::Document(after.document(&entry.change)));
    match &mut entry.document {
        Some(After::Document(document)) => Some(document),
        _ => None,
    }
}

#[async_trait]
impl Ledger for Mortal<'_> {
    async fn begin(&self, start: &RunStart) -> Result<PreviousRun> {
        self.alive()?;
        let begun = self.ledger.begin(start).await?;
        self.alive()?;
        Ok(begun)
    }
    async fn compare(&self, sync: &str, rows: SourceRows<'_>, options: &CompareOptions) -> Result<Comparison> {
        self.alive()?;
        self.ledger.compare(sync, rows, options).await
    }
    async fn page(&self, from: u64, count: u64) -> Result<Vec<Candidate>> {
        let page = self.ledger.page(from, count.min(self.page)).await?;
        let page: Vec<Candidate> = page.into_iter().map(|candidate| self.misread(candidate)).collect();
        let seen = page.iter().map(|candidate| (candidate.key.clone(), candidate.synced.clone()));
        self.seen.lock().unwrap().extend(seen);
        Ok(page)
    }
    async fn mark(&self, sync: &str, run: &str, keys: Vec<String>) -> Result<()> {
        self.alive()?;
        if self.mutant != Mutant::NoMark {
            let settled = keys.clone();
            self.ledger.mark(sync, run, keys).await?;
            self.world.lock().unwrap().settled.retain(|key, _| !settled.contains(key));
        }
        self.alive()
    }
    async fn record(&self, sync: &str, run: &str, at: DateTime<Utc>, entries: Vec<JournalEntry>) -> Result<()> {
        self.alive()?;
        let entries: Vec<JournalEntry> = entries.into_iter().map(|entry| self.miswrite(entry)).collect();
        let outcomes: Vec<(String, ChangeOutcome)> =
            entries.iter().map(|entry| (entry.key.clone(), entry.outcome)).collect();
        self.ledger.record(sync, run, at, entries).await?;
        {
            let mut world = self.world.lock().unwrap();
            for (key, outcome) in outcomes {
                if matches!(outcome, ChangeOutcome::Unchanged | ChangeOutcome::Delivered) {
                    let settled = world.truth.of(&key);
                    world.settled.insert(key, settled);
                } else {
                    world.settled.remove(&key);
                }
            }
        }
        self.alive()
    }
    async fn finish(&self, sync: &str, run: &str, checkpoint: RunCheckpoint) -> Result<()> {
        self.alive()?;
        self.ledger.finish(sync, run, checkpoint).await?;
        self.alive()
    }
    async fn mark_crashed(&self, record: &RunRecord, at: DateTime<Utc>, error: &str, kind: &str) -> Result<()> {
        self.ledger.mark_crashed(record, at, error, kind).await
    }
    async fn reset(&self, sync: &str, keys: Option<&[String]>, mark: &str, forget: bool) -> Result<u64> {
        self.ledger.reset(sync, keys, mark, forget).await
    }
    async fn rename(&self, from: &str, to: &str) -> Result<u64> {
        self.ledger.rename(from, to).await
    }
    async fn import(&self, sync: &str, groups: ImportedGroups, replace: bool) -> Result<u64> {
        self.ledger.import(sync, groups, replace).await
    }
    async fn drop_sync(&self, sync: &str) -> Result<u64> {
        self.ledger.drop_sync(sync).await
    }
    fn history(&self) -> &dyn History {
        self.ledger.history()
    }
    fn kv(&self) -> &dyn KeyValue {
        self
    }
    fn storage(&self) -> &dyn Storage {
        self.ledger.storage()
    }
    fn connect(&self, access: Access) -> Result<Arc<dyn Ledger>> {
        self.ledger.connect(access)
    }
}

#[async_trait]
impl KeyValue for Mortal<'_> {
    async fn get(&self, name: &str) -> Result<Option<String>> {
        let text = self.ledger.kv().get(name).await?;
        let record = text.as_ref().and_then(|text| serde_json::from_str::<MirrorRecord>(text).ok());
        match record {
            Some(mut record) if self.mutant == Mutant::TrustsTheMirror => {
                self.mirrors.lock().unwrap().trusted(&mut record);
                Ok(serde_json::to_string(&record).ok())
            }
            _ => Ok(text),
        }
    }
    async fn all(&self) -> Result<BTreeMap<String, String>> {
        self.ledger.kv().all().await
    }
    async fn put(&self, name: &str, text: &str) -> Result<()> {
        self.alive()?;
        match serde_json::from_str::<MirrorRecord>(text) {
            Ok(record) if self.mutant == Mutant::NothingIsUnmirrored => {
                let record = MirrorRecord { unmirrored: Vec::new(), ..record };
                self.ledger.kv().put(name, &serde_json::to_string(&record).unwrap()).await?;
            }
            _ => self.ledger.kv().put(name, text).await?,
        }
        self.alive()
    }
    async fn delete(&self, name: &str) -> Result<()> {
        self.alive()?;
        self.ledger.kv().delete(name).await?;
        self.alive()
    }
    async fn delete_if(&self, name: &str, contains: &str) -> Result<()> {
        self.ledger.kv().delete_if(name, contains).await
    }
}
