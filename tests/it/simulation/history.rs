//! How does one history go? Random edits, runs in bad weather, deaths; then the weather clears up and all must be well.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use groupcast::delivery::{Delivery, DeliverySettings, Signal};
use groupcast::destination::file::{File, FileSettings};
use groupcast::duckdb::DuckDbConnection;
use groupcast::error::Result;
use groupcast::io::{Clock, Random};
use groupcast::ledger::duckdb::DuckDbLedger;
use groupcast::ledger::{RunStatus, SyncedGroup};
use groupcast::mapping::compile::{Projection, Restriction};
use groupcast::mapping::{
    At, Compare, Expr, Field, From, Guards, Mapping, Model, OnDuplicate, OnMissing, OnRemovedTrait, Policy, Trait,
    fingerprint,
};
use groupcast::model::{Cell, ColumnType, OnNull, Op};
use groupcast::source::mirror::{MirrorAnswer, MirrorChange, MirrorQuery, MirrorSettings};
use groupcast::sync::{self, Event, GroupKeys, Monitor, Reader, Rows, RunOptions, RunOrigin, Session};
use serde_json::Value;
use tokio::sync::watch;

use super::mirrors::{Mirrors, Row};
use super::store::{Mortal, Mutant, Store};
use super::world::{Group, Picky, QUIET, Sky, Source, Truth, Weather, World, value_of, wanted};
use crate::support::rows::stage;

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

/// Which mappings a history draws.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Palette {
    /// Four mappings of `set` traits whose nulls are said, removed traits and missing groups removed: in the end the
    /// destination equals the source.
    Equal,
    /// Any operator and any policy for any trait, edited at any time.
    Any,
}

/// What kind of history.
#[derive(Clone, Copy)]
pub(super) struct Genre {
    pub(super) weather: Weather,
    pub(super) palette: Palette,
    pub(super) mutant: Mutant,
    /// Groups the source can have. What happens to one hardly touches another, so many cost less than many histories.
    pub(super) groups: u8,
    /// Runs before the weather clears up.
    pub(super) runs: u32,
    /// Requests in flight at a time. With one, histories over different ledgers are the same to the letter.
    pub(super) concurrency: usize,
    /// The sync's name.
    pub(super) sync: &'static str,
    /// Whether rows are compared in their warehouse.
    pub(super) mirrored: bool,
}

/// How it ended.
#[derive(Debug, PartialEq)]
pub(super) struct Outcome {
    held: BTreeMap<String, Group>,
    known: Vec<SyncedGroup>,
    requests: u64,
    deaths: u32,
}

/// The source: rows of four columns.
struct Shelf<'a> {
    source: &'a Source,
    duckdb: Option<&'a DuckDbConnection>,
    /// The warehouse's mirrors, if it keeps any.
    mirrors: Option<&'a Mutex<Mirrors>>,
}

impl Shelf<'_> {
    fn rows(&self, projection: &Projection) -> Vec<Row> {
        let column = |expr: &Expr| match expr {
            Expr::Column(name) => usize::from(name.as_bytes()[0] - b'a'),
            Expr::Sql(sql) => panic!("no SQL is mapped here: {sql}"),
        };
        let asked = |key: &str| match &projection.restriction {
            Some(Restriction::Groups(groups)) => groups.iter().any(|group| group == key),
            _ => true,
        };
        let rows = self.source.iter().filter(|(key, _)| asked(key)).map(|(key, row)| {
            let cells = projection.columns.iter().map(|expr| match row[column(expr)] {
                Some(value) => Cell::Int(i64::from(value)),
                None => Cell::Null,
            });
            (Some(key.clone()), cells.collect())
        });
        rows.collect()
    }

    async fn handed(&self, projection: &Projection, rows: Vec<Row>) -> Result<Rows> {
        let kinds = vec![ColumnType::Int; projection.columns.len()];
        match self.duckdb {
            Some(duckdb) => stage(duckdb, &rows, &kinds).await.map(Rows::Staged),
            None => Ok(Rows::Memory { rows, kinds }),
        }
    }
}

#[async_trait]
impl Reader for Shelf<'_> {
    async fn read(&mut self, projection: &Projection, _: &(dyn Fn(u64) + Send + Sync)) -> Result<Rows> {
        self.handed(projection, self.rows(projection)).await
    }
    fn mirror(&self) -> Option<MirrorSettings> {
        let settings = MirrorSettings { compare: Compare::Warehouse, schema: "mirrors".to_owned() };
        self.mirrors.map(|_| settings)
    }
    async fn compare(
        &mut self,
        projection: &Projection,
        query: &MirrorQuery,
        _: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(Rows, MirrorAnswer)> {
        let mirrors = self.mirrors.expect("it keeps mirrors");
        let (rows, answer) = mirrors.lock().unwrap().compare(self.rows(projection), query)?;
        Ok((self.handed(projection, rows).await?, answer))
    }
    async fn change_mirror(&mut self, projection: &Projection, change: &MirrorChange) -> Result<()> {
        let rows = self.rows(projection);
        self.mirrors.expect("it keeps mirrors").lock().unwrap().change(rows, change)
    }
    async fn release(&mut self) -> Result<()> {
        Ok(())
    }
    fn interrupt(&self) {}
}

fn mapped(name: &str, column: &str, op: Op, on_null: OnNull) -> Trait {
    let expr = Expr::Column(column.to_owned());
    Trait {
        name: name.to_owned(),
        value: Field::Column { expr, declared: None },
        op,
        on_null: Some(on_null),
        always: false,
        at: At::default(),
    }
}

fn mapping(traits: Vec<Trait>, removed: OnRemovedTrait, missing: OnMissing) -> Mapping {
    Mapping {
        name: "accounts".to_owned(),
        file: "mappings/accounts.toml".to_owned(),
        source: "warehouse".to_owned(),
        destination: "sky".to_owned(),
        enabled: true,
        tags: Vec::new(),
        schedule: None,
        model: Model { from: From::Table(vec!["accounts".to_owned()]), filter: None },
        compare: None,
        dbt: None,
        group_type: "company".to_owned(),
        key: "id".to_owned(),
        label: None,
        user: None,
        traits,
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

impl Palette {
    /// A mapping; `missing` is the history's own policy where it has one.
    fn draw(self, random: &mut fastrand::Rng, missing: OnMissing) -> Mapping {
        if self == Palette::Any {
            let columns = ["a", "b", "c", "d"];
            let nulls = [OnNull::Unset, OnNull::Null, OnNull::Skip];
            let mut traits = Vec::new();
            for (at, name) in ["plan", "arr", "seats", "region"].into_iter().enumerate() {
                let column = if random.u8(0..3) == 0 { columns[random.usize(0..4)] } else { columns[at] };
                let op = if random.u8(0..3) == 0 { Op::SetOnce } else { Op::Set };
                let on_null = nulls[random.usize(0..3)];
                if name == "arr" || random.u8(0..4) > 0 {
                    let always = op == Op::Set && at % 2 == 1;
                    traits.push(Trait { always, ..mapped(name, column, op, on_null) });
                }
            }
            let removed = if random.bool() { OnRemovedTrait::Unset } else { OnRemovedTrait::Keep };
            let missing = [OnMissing::Unset, OnMissing::Delete, OnMissing::Keep][random.usize(0..3)];
            return mapping(traits, removed, missing);
        }
        let set = |name, column, on_null| mapped(name, column, Op::Set, on_null);
        let arr = set("arr", "b", OnNull::Null);
        let (plan, seats) = (set("plan", "a", OnNull::Unset), set("seats", "c", OnNull::Unset));
        let traits = match random.u8(0..4) {
            0 => vec![plan, arr, seats],
            1 => vec![plan, arr, seats, set("region", "d", OnNull::Unset)],
            2 => vec![set("plan", "d", OnNull::Unset), arr, seats],
            _ => vec![plan, arr],
        };
        mapping(traits, OnRemovedTrait::Unset, missing)
    }
}

/// Runs the sync once in the world's weather. Whether it ended by itself is the report's to say; whether it died, the
/// second.
async fn run_once(
    (world, mirrors): (&Mutex<World>, &Mutex<Mirrors>),
    store: &Store,
    genre: &Genre,
    trait_by_trait: bool,
    options: &RunOptions,
    clock: &StillClock,
) -> (Result<sync::report::Report>, bool) {
    let (seed, truth) = {
        let mut world = world.lock().unwrap();
        world.settled_before = world.settled.clone();
        (world.random.u64(..), world.truth.clone())
    };
    let random = Random::seeded(seed);
    let (_signal, signal) = watch::channel(Signal::Go);
    let file = File::new(&FileSettings { path: Some("changes.ndjson".into()) }, "company");
    let destination = Picky { file, trait_by_trait };
    let transport = Sky(world);
    let settings = DeliverySettings { attempts_max: 2, concurrency: genre.concurrency, ..DeliverySettings::default() };
    let delivery = Delivery::new(&destination, &transport, clock, &random, settings, signal.clone());
    let mortal = Mortal {
        ledger: store.ledger(),
        world,
        mutant: genre.mutant,
        mirrors,
        dead: Mutex::new(false),
        page: u64::from(genre.groups) * 3 / 5,
        seen: Mutex::default(),
    };
    let session = Session {
        mapping: &truth.mapping,
        fingerprint: &truth.fingerprint,
        syncs: None,
        destination: None,
        ledger: &mortal,
        delivery: Some(&delivery),
        clock,
        random: &random,
        monitor: &Silence,
        options,
        origin: &RunOrigin::default(),
        signal,
    };
    let mirrors = Some(mirrors).filter(|_| genre.mirrored);
    let mut shelf = Shelf { source: &truth.source, duckdb: store.duckdb(), mirrors };
    let done = sync::run(&session, &mut shelf).await;
    let dead = *mortal.dead.lock().unwrap();
    (done, dead)
}

/// Plans the sync beside whatever else goes on in the ledger's file, where nothing is marked, said or recorded.
async fn plan_once(world: &Mutex<World>, ledger: &DuckDbLedger, options: &RunOptions) -> Result<(), String> {
    let truth = world.lock().unwrap().truth.clone();
    let (_signal, signal) = watch::channel(Signal::Go);
    let session = Session {
        mapping: &truth.mapping,
        fingerprint: &truth.fingerprint,
        syncs: None,
        destination: None,
        ledger,
        delivery: None,
        clock: &StillClock(Mutex::new(Duration::ZERO)),
        random: &Random::seeded(1),
        monitor: &Silence,
        options,
        origin: &RunOrigin::default(),
        signal,
    };
    let mut shelf = Shelf { source: &truth.source, duckdb: Some(ledger.duckdb()), mirrors: None };
    let plan = sync::plan(&session, &mut shelf, &|_| None, &mut |_| Ok(())).await.map_err(|error| error.to_string())?;
    if options.group.is_none() && plan.found.rows != truth.source.len() as u64 {
        return Err(format!("planned over {} rows of {}", plan.found.rows, truth.source.len()));
    }
    Ok(())
}

/// Everything that is known for certain is held, and everything that is held is seen: what the next change relies on.
async fn check_known(sync: &str, world: &Mutex<World>, store: &Store) -> Result<(), String> {
    let known = store.ledger().history().groups(sync, None, 1_000).await.map_err(|error| error.to_string())?;
    let held = world.lock().unwrap().held.clone();
    let seen: BTreeSet<&String> = known.iter().map(|group| &group.key).collect();
    if let Some(key) = held.keys().find(|key| !seen.contains(key)) {
        return Err(format!("{key} is held and not known"));
    }
    for group in known.iter().filter(|group| group.unconfirmed_in.is_none()) {
        let nothing = Group::new();
        let held = held.get(&group.key).unwrap_or(&nothing);
        let wrong =
            |name: &String, value: &Value| value["$groupcast"].is_null() && held.get(name) != Some(&value.to_string());
        let unseen = |name: &&String| !group.document.0.contains_key(*name);
        if group.document.0.iter().any(|(name, value)| wrong(name, value)) || held.keys().any(|name| unseen(&name)) {
            return Err(format!("{} is known as {} and holds {held:?}", group.key, group.document.to_text()));
        }
    }
    Ok(())
}

/// The destination holds what the source has, given what it held before; but for groups that are not settled yet.
fn check_held(
    truth: &Truth,
    before: &BTreeMap<String, Group>,
    held: &BTreeMap<String, Group>,
    open: &[String],
) -> Result<(), String> {
    let nothing = Group::new();
    let keys: BTreeSet<&String> = truth.source.keys().chain(before.keys()).chain(held.keys()).collect();
    for key in keys.into_iter().filter(|key| !open.contains(key)) {
        let row = truth.source.get(key);
        let wanted = wanted(before.get(key).unwrap_or(&nothing), row, &truth.mapping);
        let held = held.get(key).unwrap_or(&nothing);
        if *held != wanted {
            let traits: Vec<_> =
                truth.mapping.traits.iter().map(|mapped| (&mapped.name, mapped.op, mapped.on_null)).collect();
            let values: Option<Vec<_>> =
                row.map(|row| truth.mapping.traits.iter().map(|mapped| value_of(mapped, row)).collect());
            return Err(format!("{key} holds {held:?}, wanted {wanted:?}, traits {traits:?}, source {values:?}"));
        }
    }
    Ok(())
}

fn edit_source(random: &mut fastrand::Rng, source: &mut Source, groups: u8) {
    for _ in 0..random.u8(0..4) * (groups / 5) {
        let key = format!("g{}", random.u8(0..groups));
        if random.u8(0..8) == 0 {
            source.remove(&key);
        } else {
            let value = [None, Some(0), Some(1), Some(2)][random.usize(0..4)];
            source.entry(key).or_insert([Some(0); 4])[random.usize(0..4)] = value;
        }
    }
}

/// One history; the error says what went wrong.
pub(super) async fn history(seed: u64, genre: &Genre, store: &mut Store) -> Result<Outcome, String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let missing = if random.bool() { OnMissing::Unset } else { OnMissing::Delete };
    let trait_by_trait = random.bool();
    let draw =
        |random: &mut fastrand::Rng| Mapping { name: genre.sync.to_owned(), ..genre.palette.draw(random, missing) };
    let first = draw(&mut random);
    let truth = Truth { source: Source::new(), fingerprint: fingerprint(&first), mapping: first };
    let world = Mutex::new(World {
        random: fastrand::Rng::with_seed(seed ^ 0x5eed),
        weather: genre.weather,
        held: BTreeMap::new(),
        poisoned: BTreeSet::new(),
        requests: 0,
        truth,
        settled: BTreeMap::new(),
        settled_before: BTreeMap::new(),
        complaints: Vec::new(),
    });
    let mirrors = Mirrors::new(seed);
    let clock = StillClock(Mutex::new(Duration::ZERO));
    // A mutant is to be caught by where it leads, not by what it thinks on the way.
    let strict = genre.mutant == Mutant::None;
    let mut deaths = 0;
    for _ in 0..genre.runs {
        let edited = random.u8(0..if genre.palette == Palette::Any { 5 } else { 10 }) == 0;
        let edited = edited.then(|| draw(&mut random));
        let groups = (0..random.u8(1..4)).map(|_| format!("g{}", random.u8(0..genre.groups)));
        let groups = GroupKeys::new(groups.collect::<Vec<_>>()).unwrap();
        let options = RunOptions {
            retry_rejected: random.u8(0..6) == 0,
            limit: (random.u8(0..8) == 0).then(|| random.u64(0..3)),
            group: groups.filter(|_| random.u8(0..8) == 0),
            ..RunOptions::default()
        };
        {
            let mut world = world.lock().unwrap();
            edit_source(&mut random, &mut world.truth.source, genre.groups);
            if let Some(mapping) = edited {
                world.truth.fingerprint = fingerprint(&mapping);
                world.truth.mapping = mapping;
            }
            world.poisoned.clear();
            let chance = world.weather.rejected;
            for _ in 0..genre.groups / 5 {
                if world.happens(chance) {
                    let key = format!("g{}", world.random.u8(0..genre.groups));
                    world.poisoned.insert(key);
                }
            }
        }
        if let Some(beside) = store.beside() {
            plan_once(&world, &beside, &options).await?;
        }
        if genre.mirrored {
            mirrors.lock().unwrap().suffer();
        }
        let held_before = world.lock().unwrap().held.clone();
        // A run that dies or gives up is what this is about.
        let (done, dead) = run_once((&world, &mirrors), store, genre, trait_by_trait, &options, &clock).await;
        if dead {
            deaths += 1;
            store.die(genre.sync).await;
        } else if random.u8(0..16) == 0 {
            store.reopen().await;
        }
        // A mirror hides nothing at any time, not only in the end. What was rejected before waits for its row to change.
        let is_whole = !options.is_partial() && done.as_ref().is_ok_and(|run| run.status == RunStatus::Succeeded);
        if genre.mirrored && genre.palette == Palette::Equal && is_whole {
            let history = store.ledger();
            let open = history.history().unconfirmed_or_rejected(genre.sync, 1_000).await;
            let open = open.map_err(|error| error.to_string())?;
            let world = world.lock().unwrap();
            check_held(&world.truth, &held_before, &world.held, &open).map_err(|wrong| format!("amid: {wrong}"))?;
        }
        if strict && done.is_ok() {
            check_known(genre.sync, &world, store).await?;
        }
        if random.u8(0..40) == 0 {
            let key = random.bool().then(|| "g1".to_owned());
            store
                .ledger()
                .reset(genre.sync, key.as_ref().map(std::slice::from_ref), "reset", false)
                .await
                .map_err(|error| error.to_string())?;
            world.lock().unwrap().settled.retain(|settled, _| key.as_ref().is_some_and(|key| key != settled));
        }
    }
    mirrors.lock().unwrap().is_fair = true;
    // The weather clears up; some of what was refused is corrected at the source, the rest is retried.
    let before = {
        let mut world = world.lock().unwrap();
        world.weather = QUIET;
        world.poisoned.clear();
        if random.bool() {
            for row in world.truth.source.values_mut() {
                row[1] = Some(row[1].unwrap_or(0) + 10);
            }
        }
        world.held.clone()
    };
    for quiet in 0..2 {
        let options = RunOptions { retry_rejected: quiet == 0, ..RunOptions::default() };
        let (done, _) = run_once((&world, &mirrors), store, genre, trait_by_trait, &options, &clock).await;
        let report = done.map_err(|error| error.to_string())?;
        if report.status != RunStatus::Succeeded {
            return Err(format!("quiet run {quiet} ended {:?}", report.status));
        }
    }
    let (truth, held, requests) = {
        let world = world.lock().unwrap();
        (world.truth.clone(), world.held.clone(), world.requests)
    };
    check_held(&truth, &before, &held, &[])?;
    if strict {
        check_known(genre.sync, &world, store).await?;
    }
    let standing = store.ledger().history().group_counts(genre.sync).await.map_err(|error| error.to_string())?;
    if (standing.unconfirmed, standing.rejected) != (0, 0) && truth.mapping.policy.on_missing != OnMissing::Keep {
        return Err(format!("after two quiet runs {standing:?}"));
    }
    let (done, _) = run_once((&world, &mirrors), store, genre, trait_by_trait, &RunOptions::default(), &clock).await;
    done.map_err(|error| error.to_string())?;
    let world = world.into_inner().unwrap();
    if world.requests != requests {
        return Err("a quiet run over settled groups sent something".to_owned());
    }
    if let (true, Some(complaint)) = (strict, world.complaints.first()) {
        return Err(complaint.clone());
    }
    let mut known =
        store.ledger().history().groups(genre.sync, None, 1_000).await.map_err(|error| error.to_string())?;
    // Times and run ids depend on how often the clock was looked at, fingerprints are each ledger's own.
    for group in &mut known {
        group.fingerprint = group.fingerprint.map(|_| 0);
        // Syncs that share a ledger share its sequences.
        group.settled_seq = group.settled_seq.min(1);
        (group.at, group.unconfirmed_in) =
            (DateTime::default(), group.unconfirmed_in.take().map(|_| "a run".to_owned()));
    }
    Ok(Outcome { held, known, requests, deaths })
}
