//! Does the destination end up equal to the source, whatever happens on the way? Random histories of source edits,
//! mapping edits, drops, lost answers and crashes through the real run, against a destination that applies what it is
//! told. After two quiet runs both must be equal, and a quiet run over settled groups must send nothing.
//!
//! The protocol was first argued in a reference model with two wrong variants; they live here as `mutants`, because a
//! simulation that cannot fail proves nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use groupcast::delivery::{Delivery, Settings, Signal};
use groupcast::destination::file::{File, Settings as FileSettings};
use groupcast::destination::{Applied, NoReply, Reply, Request};
use groupcast::env::{Clock, Random, Transport};
use groupcast::error::{Error, Kind, Result};
use groupcast::ledger::memory::MemoryLedger;
use groupcast::ledger::{
    Begun, Checkpoint, Comparison, Entry, HistoryEntry, Incoming, KnownGroup, Ledger, RunRecord, RunStart, Scope,
    Standing, Status, Suspect,
};
use groupcast::mapping::compile::Projection;
use groupcast::mapping::{
    At, Expr, Field, From, Guards, Mapping, Model, OnDuplicate, OnMissing, OnRemovedTrait, Policy, Trait,
};
use groupcast::model::{Cell, Change, ColumnType, Document, OnNull, Op};
use groupcast::sync::{self, Event, Monitor, Options, Reader, Rows, Session};
use serde_json::Value;
use tokio::sync::watch;

/// Time stands still but for sleeps, which take none.
struct StillClock(Mutex<Duration>);

#[async_trait]
impl Clock for StillClock {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000, 0).unwrap() + TimeDelta::from_std(self.elapsed()).unwrap()
    }

    fn elapsed(&self) -> Duration {
        let mut now = self.0.lock().unwrap();
        *now += Duration::from_millis(1);
        *now
    }

    async fn sleep(&self, duration: Duration) {
        *self.0.lock().unwrap() += duration;
    }
}

struct Silence;

impl Monitor for Silence {
    fn note(&self, _: Event<'_>) {}
}

/// How bad a history is.
#[derive(Clone, Copy)]
struct Weather {
    refused: f64,
    dropped: f64,
    lost_answer: f64,
    rejected: f64,
    crash: f64,
}

const STORM: Weather = Weather { refused: 0.05, dropped: 0.05, lost_answer: 0.1, rejected: 0.05, crash: 0.03 };
const DRIZZLE: Weather = Weather { refused: 0.01, dropped: 0.01, lost_answer: 0.02, rejected: 0.01, crash: 0.005 };
const QUIET: Weather = Weather { refused: 0.0, dropped: 0.0, lost_answer: 0.0, rejected: 0.0, crash: 0.0 };

struct World {
    random: fastrand::Rng,
    weather: Weather,
    held: BTreeMap<String, BTreeMap<String, Value>>,
    /// Groups whose present row the destination refuses; corrected before the quiet runs.
    poisoned: BTreeSet<String>,
    requests: u64,
}

impl World {
    fn happens(&mut self, chance: f64) -> bool {
        self.random.f64() < chance
    }

    fn apply(&mut self, key: &str, change: &Change) {
        if change.delete {
            self.held.remove(key);
            return;
        }
        let group = self.held.entry(key.to_owned()).or_default();
        group.extend(change.set.clone());
        for (name, value) in &change.set_once {
            group.entry(name.clone()).or_insert_with(|| value.clone());
        }
        for name in &change.unset {
            group.remove(name);
        }
        if group.is_empty() {
            self.held.remove(key);
        }
    }
}

/// A destination that applies NDJSON lines, in whatever weather.
struct Sky<'a>(&'a Mutex<World>);

#[async_trait]
impl Transport for Sky<'_> {
    async fn send(&self, request: &Request, _: Duration) -> Result<Reply, NoReply> {
        let mut world = self.0.lock().unwrap();
        world.requests += 1;
        let weather = world.weather;
        if world.happens(weather.refused) {
            return Err(NoReply { applied: Applied::No, what: "connection refused".to_owned() });
        }
        if world.happens(weather.dropped) {
            return Err(NoReply { applied: Applied::Maybe, what: "connection reset".to_owned() });
        }
        let lines: Vec<Value> = request
            .body
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).expect("a line is JSON"))
            .collect();
        let key = |line: &Value| line["key"].as_str().expect("a line has a key").to_owned();
        if lines.iter().any(|line| world.poisoned.contains(&key(line))) {
            return Ok(Reply { status: 400, body: b"no such plan".to_vec(), ..Reply::default() });
        }
        for line in &lines {
            let change: Change = serde_json::from_value(without_address(line.clone())).expect("a line is a change");
            world.apply(&key(line), &change);
        }
        if world.happens(weather.lost_answer) {
            return Err(NoReply { applied: Applied::Maybe, what: "no answer".to_owned() });
        }
        Ok(Reply { status: 200, ..Reply::default() })
    }
}

fn without_address(mut line: Value) -> Value {
    let fields = line.as_object_mut().expect("a line is an object");
    fields.retain(|name, _| ["set", "set_once", "unset", "delete"].contains(&name.as_str()));
    line
}

/// A ledger whose process dies now and then: every call may fail before or after it took effect.
struct Mortal<'a> {
    ledger: &'a dyn Ledger,
    world: &'a Mutex<World>,
    mutant: Mutant,
    dead: Mutex<bool>,
}

/// Ways of getting the protocol wrong.
#[derive(Clone, Copy, PartialEq)]
enum Mutant {
    None,
    /// Nothing is marked before it is sent.
    NoMark,
    /// An unknown outcome is taken for "not sent".
    UnknownIsNotSent,
}

impl Mortal<'_> {
    fn alive(&self) -> Result<()> {
        let mut dead = self.dead.lock().unwrap();
        let mut world = self.world.lock().unwrap();
        let chance = world.weather.crash;
        *dead = *dead || world.happens(chance);
        if *dead { Err(Error::new(Kind::Ledger, "the process died")) } else { Ok(()) }
    }
}

#[async_trait]
impl Ledger for Mortal<'_> {
    async fn begin(&self, start: &RunStart) -> Result<Begun> {
        self.alive()?;
        self.ledger.begin(start).await
    }
    async fn compare(&self, sync: &str, incoming: Incoming<'_>, scope: &Scope) -> Result<Comparison> {
        self.alive()?;
        self.ledger.compare(sync, incoming, scope).await
    }
    async fn page(&self, from: u64, count: u64) -> Result<Vec<Suspect>> {
        // Small pages, so that several are on their way in one run.
        self.ledger.page(from, count.min(3)).await
    }
    async fn mark(&self, sync: &str, run: &str, keys: Vec<String>) -> Result<()> {
        self.alive()?;
        if self.mutant != Mutant::NoMark {
            self.ledger.mark(sync, run, keys).await?;
        }
        self.alive()
    }
    async fn record(&self, sync: &str, run: &str, at: DateTime<Utc>, mut entries: Vec<Entry>) -> Result<()> {
        self.alive()?;
        if self.mutant == Mutant::UnknownIsNotSent {
            for entry in &mut entries {
                if entry.outcome == groupcast::ledger::Outcome::Unknown {
                    entry.outcome = groupcast::ledger::Outcome::NotSent;
                }
            }
        }
        self.ledger.record(sync, run, at, entries).await?;
        self.alive()
    }
    async fn finish(&self, sync: &str, run: &str, checkpoint: Checkpoint) -> Result<()> {
        self.alive()?;
        self.ledger.finish(sync, run, checkpoint).await?;
        self.alive()
    }
    async fn known(&self, sync: &str, key: &str) -> Result<Option<KnownGroup>> {
        self.ledger.known(sync, key).await
    }
    async fn history(&self, sync: &str, key: &str, count: u64) -> Result<Vec<HistoryEntry>> {
        self.ledger.history(sync, key, count).await
    }
    async fn rejected(&self, sync: &str, count: u64) -> Result<Vec<KnownGroup>> {
        self.ledger.rejected(sync, count).await
    }
    async fn runs(&self, sync: Option<&str>, count: u64) -> Result<Vec<RunRecord>> {
        self.ledger.runs(sync, count).await
    }
    async fn standing(&self, sync: &str) -> Result<Standing> {
        self.ledger.standing(sync).await
    }
    async fn reset(&self, sync: &str, key: Option<&str>, mark: &str, forget: bool) -> Result<u64> {
        self.ledger.reset(sync, key, mark, forget).await
    }
    async fn export(&self, sync: &str, after: Option<&str>, count: u64) -> Result<Vec<KnownGroup>> {
        self.ledger.export(sync, after, count).await
    }
}

/// The source: rows of four columns.
struct Shelf<'a>(&'a BTreeMap<String, [Option<u8>; 4]>);

fn column_index(expr: &Expr) -> usize {
    match expr {
        Expr::Column(name) => usize::from(name.as_bytes()[0] - b'a'),
        Expr::Sql(sql) => usize::from(sql.as_bytes()[0] - b'a'),
    }
}

#[async_trait]
impl Reader for Shelf<'_> {
    async fn read(&mut self, projection: &Projection, _: &(dyn Fn(u64) + Send + Sync)) -> Result<Rows> {
        let rows = self.0.iter().map(|(key, columns)| {
            let cells = projection.columns.iter().map(|expr| match columns[column_index(expr)] {
                Some(value) => Cell::Int(i64::from(value)),
                None => Cell::Null,
            });
            (Some(key.clone()), cells.collect())
        });
        Ok(Rows::Memory { rows: rows.collect(), kinds: vec![ColumnType::Int; projection.columns.len()] })
    }
    async fn release(&mut self) -> Result<()> {
        Ok(())
    }
    fn interrupt(&self) {}
}

fn mapping(traits: &[(&str, &str, OnNull)], removed: OnRemovedTrait, missing: OnMissing) -> Mapping {
    let traits = traits.iter().map(|(name, column, on_null)| Trait {
        name: (*name).to_owned(),
        value: Field::Column { expr: Expr::Column((*column).to_owned()), declared: None },
        op: Op::Set,
        on_null: Some(*on_null),
        at: At::default(),
    });
    Mapping {
        name: "accounts".to_owned(),
        file: "mappings/accounts.toml".to_owned(),
        source: "warehouse".to_owned(),
        destination: "sky".to_owned(),
        enabled: true,
        schedule: None,
        model: Model { from: From::Table(vec!["accounts".to_owned()]), filter: None },
        group_type: "company".to_owned(),
        key: "id".to_owned(),
        user: None,
        traits: traits.collect(),
        policy: Policy {
            on_null: OnNull::Unset,
            on_missing: missing,
            on_removed_trait: removed,
            on_duplicate: OnDuplicate::Fail,
        },
        guards: Guards { groups_min: u64::MAX, empty: false, ..Guards::default() },
        incremental: None,
    }
}

/// Runs the sync once in the world's weather. Whether it ended by itself is the report's to say.
async fn run_once(
    world: &Mutex<World>,
    ledger: &dyn Ledger,
    mutant: Mutant,
    mapping: &Mapping,
    source: &BTreeMap<String, [Option<u8>; 4]>,
    clock: &StillClock,
) -> Result<sync::report::Report> {
    let seed = world.lock().unwrap().random.u64(..);
    let random = Random::seeded(seed);
    let (_signal, signal) = watch::channel(Signal::Go);
    let destination = File::new(&FileSettings { path: Some("changes.ndjson".into()) }, "company");
    let transport = Sky(world);
    let settings = Settings { attempts_max: 2, concurrency: 2, ..Settings::default() };
    let delivery = Delivery::new(&destination, &transport, clock, &random, settings, signal.clone());
    let mortal = Mortal { ledger, world, mutant, dead: Mutex::new(false) };
    let fingerprint = format!("{:?}", mapping.traits);
    let session = Session {
        mapping,
        fingerprint: &fingerprint,
        ledger: &mortal,
        delivery: Some(&delivery),
        clock,
        random: &random,
        monitor: &Silence,
        options: &Options::default(),
        signal,
    };
    sync::run(&session, &mut Shelf(source)).await
}

/// One history; the error says what went wrong.
async fn history(seed: u64, weather: Weather, mutant: Mutant, ledger: &dyn Ledger) -> Result<(), String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let missing = if random.bool() { OnMissing::Unset } else { OnMissing::Delete };
    let base = [("plan", "a", OnNull::Unset), ("arr", "b", OnNull::Null), ("seats", "c", OnNull::Unset)];
    let wider = [base[0], base[1], base[2], ("region", "d", OnNull::Unset)];
    let renamed = [("plan", "d", OnNull::Unset), base[1], base[2]];
    let fewer = [base[0], base[1]];
    let edits: [&[(&str, &str, OnNull)]; 4] = [&base, &wider, &renamed, &fewer];
    let mut chosen = 0;
    let mut source: BTreeMap<String, [Option<u8>; 4]> = BTreeMap::new();
    let world = Mutex::new(World {
        random: fastrand::Rng::with_seed(seed ^ 0x5eed),
        weather,
        held: BTreeMap::new(),
        poisoned: BTreeSet::new(),
        requests: 0,
    });
    let clock = StillClock(Mutex::new(Duration::ZERO));
    for _ in 0..12 {
        for _ in 0..random.usize(0..4) {
            let key = format!("g{}", random.u8(0..5));
            if random.u8(0..8) == 0 {
                source.remove(&key);
            } else {
                let value = [None, Some(0), Some(1), Some(2)][random.usize(0..4)];
                source.entry(key).or_insert([Some(0); 4])[random.usize(0..4)] = value;
            }
        }
        if random.u8(0..10) == 0 {
            chosen = random.usize(0..edits.len());
        }
        {
            let mut world = world.lock().unwrap();
            world.poisoned.clear();
            if world.happens(weather.rejected) {
                let key = format!("g{}", world.random.u8(0..5));
                world.poisoned.insert(key);
            }
        }
        let mapping = mapping(edits[chosen], OnRemovedTrait::Unset, missing);
        // A run that dies or gives up is what this is about.
        drop(run_once(&world, ledger, mutant, &mapping, &source, &clock).await);
    }
    // What was refused is corrected at the source, and the weather clears up.
    for columns in source.values_mut() {
        columns[1] = Some(columns[1].unwrap_or(0) + 10);
    }
    {
        let mut world = world.lock().unwrap();
        world.weather = QUIET;
        world.poisoned.clear();
    }
    let mapping = mapping(edits[chosen], OnRemovedTrait::Unset, missing);
    for quiet in 0..2 {
        let report = run_once(&world, ledger, mutant, &mapping, &source, &clock).await.map_err(|e| e.to_string())?;
        if report.status != Status::Delivered {
            return Err(format!("quiet run {quiet} ended {:?}", report.status));
        }
    }
    let wanted: BTreeMap<String, BTreeMap<String, Value>> = source
        .iter()
        .map(|(key, columns)| {
            let traits = edits[chosen].iter().filter_map(|(name, column, on_null)| {
                let value = columns[usize::from(column.as_bytes()[0] - b'a')];
                match value {
                    Some(value) => Some(((*name).to_owned(), Value::from(value))),
                    None => (*on_null == OnNull::Null).then(|| ((*name).to_owned(), Value::Null)),
                }
            });
            (key.clone(), traits.collect())
        })
        .filter(|(_, traits): &(String, BTreeMap<_, _>)| !traits.is_empty())
        .collect();
    let held = normalized(&world.lock().unwrap().held);
    if held != normalized(&wanted) {
        return Err(format!("destination {held:?}\nsource      {wanted:?}"));
    }
    let before = world.lock().unwrap().requests;
    run_once(&world, ledger, mutant, &mapping, &source, &clock).await.map_err(|e| e.to_string())?;
    if world.lock().unwrap().requests != before {
        return Err("a quiet run over settled groups sent something".to_owned());
    }
    Ok(())
}

/// Equal values are equal texts, whichever type held the number.
fn normalized(groups: &BTreeMap<String, BTreeMap<String, Value>>) -> BTreeMap<String, String> {
    let text = |traits: &BTreeMap<String, Value>| Document(traits.clone().into_iter().collect()).to_text();
    groups.iter().map(|(key, traits)| (key.clone(), text(traits))).collect()
}

/// Seeds from `from` on, over all cores. The first seed that fails, with its words.
fn failures(from: u64, count: u64, weather: Weather, mutant: Mutant) -> Vec<(u64, String)> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers)
            .map(|worker| {
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    let seeds = (from..from + count).filter(|seed| seed % workers == worker);
                    seeds
                        .filter_map(|seed| {
                            let ledger = MemoryLedger::default();
                            let result = runtime.block_on(history(seed, weather, mutant, &ledger));
                            result.err().map(|error| (seed, error))
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a history panicked")).collect()
    })
}

#[test]
fn twenty_thousand_histories_converge() {
    for (from, weather) in [(0, STORM), (1_000_000, DRIZZLE)] {
        let failed = failures(from, 10_000, weather, Mutant::None);
        assert!(failed.is_empty(), "{} of 10,000 seeds failed, first: {:?}", failed.len(), failed[0]);
    }
}

#[test]
fn mutants_of_the_protocol_are_caught() {
    for mutant in [Mutant::NoMark, Mutant::UnknownIsNotSent] {
        assert!(!failures(0, 1_000, STORM, mutant).is_empty());
    }
}

#[test]
fn the_same_seed_tells_the_same_history() {
    let told = |mutant| failures(500, 300, STORM, mutant);
    assert_eq!(told(Mutant::NoMark), told(Mutant::NoMark));
}
