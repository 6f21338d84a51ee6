//! Does every vendor end with what the warehouse says? Histories of source edits, mapping edits, refusals, lost answers
//! and deaths, through the real run, the real delivery and the real way out, against a stand-in for each vendor that
//! has its real rules and keeps the groups. After two quiet runs it must hold what [`wanted`] says, nothing it holds may
//! be a value that the warehouse never had, and the second quiet run must send nothing. One way out that tells a lie shows
//! that such a history can fail.
//!
//! `simulation` tells tens of thousands of histories to a destination that is simply right; this one tells few, to
//! destinations as they are: with their own limits, nulls, deletions, memories of ids and answers.

mod vendors;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::memory_ledger::MemoryLedger;
use async_trait::async_trait;
use groupcast::delivery::{self, Delivery, DeliverySettings, Signal};
use groupcast::destination::amplitude::AmplitudeApi;
use groupcast::destination::posthog::WriteVia;
use groupcast::destination::thrivestack::ThriveStackWire;
use groupcast::destination::webhook::WebhookBody;
use groupcast::destination::{Destination, Features, UserRule};
use groupcast::error::Result;
use groupcast::io::http::CallLimits;
use groupcast::io::http::HttpClient;
use groupcast::io::http::Transport;
use groupcast::io::http::{Applied, NoResponse, Request, Response};
use groupcast::io::{Clock, Random};
use groupcast::ledger::{Ledger, RunStatus};
use groupcast::mapping::compile::{Projection, Restriction};
use groupcast::mapping::{
    At, Expr, Field, From, Guards, Mapping, Model, OnDuplicate, OnMissing, OnRemovedTrait, Policy, Trait, User,
    UserFrom, fingerprint,
};
use groupcast::model::{Cell, ColumnType, OnNull, Op};
use groupcast::sync::report::Report;
use groupcast::sync::{self, Event, GroupKeys, Monitor, Reader, Rows, RunOptions, RunOrigin, Session};
use serde_json::{Map, Value, json};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;

use self::vendors::{Amplitudes, PostHogs, journy, mixpanel, segment, thrivestack, webhook};
use crate::support::clock::SimulatedClock;
use crate::support::segment::Kind;

/// Histories per vendor.
const SEEDS: u64 = 40;
/// Runs before the weather clears up.
const RUNS: u32 = 12;
/// Groups the source can have.
const GROUPS: u8 = 10;
/// The chance that a request goes wrong.
const MISHAP: f64 = 0.4;
/// The chance that a run dies.
const DEATH: f64 = 0.3;

/// What a group holds.
type Group = Map<String, Value>;
type Groups = BTreeMap<String, Group>;

/// How a request goes wrong.
#[derive(Debug, Clone, Copy)]
enum Mishap {
    /// This answer, and nothing was carried out.
    Refused(u16),
    /// It was carried out, and this is the answer.
    Doubtful(u16),
    /// It was carried out, and the answer is lost.
    Lost,
}

const MISHAPS: [Mishap; 8] = [
    Mishap::Refused(429),
    Mishap::Refused(500),
    Mishap::Refused(503),
    Mishap::Doubtful(500),
    Mishap::Doubtful(502),
    Mishap::Lost,
    Mishap::Lost,
    Mishap::Lost,
];

/// A vendor at work.
trait Vendor: Send + Sync {
    /// A way to speak to it, as a new process would make one.
    fn destination(&self) -> Box<dyn Destination>;
    /// What happens to the next request.
    fn spoil(&self, mishap: Mishap);
    /// What it holds.
    fn held(&self) -> Groups;
    /// What it was told that it must never be.
    fn complaint(&self) -> Option<String> {
        None
    }
}

/// A row: the columns `a` (text), `b` (whole), `c` (fraction) and `d` (truth), each null or one of three values.
type Row = [Option<usize>; 4];
type Source = BTreeMap<String, Row>;

const KINDS: [ColumnType; 4] = [ColumnType::Text, ColumnType::Int, ColumnType::Float64, ColumnType::Bool];

fn cell(column: usize, value: Option<usize>) -> Cell {
    let Some(value) = value else { return Cell::Null };
    match column {
        0 => Cell::Text(["free", "größer & \"besser\"", "enterprise"][value].to_owned()),
        1 => Cell::Int([0, 12, 4_000_000_000][value]),
        2 => Cell::Double([0.5, 12.25, -3.75][value]),
        _ => Cell::Bool(value == 1),
    }
}

/// A cell as a trait's value.
fn source_value(column: usize, value: usize) -> Value {
    match cell(column, Some(value)) {
        Cell::Text(text) => text.into(),
        Cell::Int(int) => int.into(),
        Cell::Double(double) => json!(double),
        Cell::Bool(bool) => bool.into(),
        Cell::Null => Value::Null,
    }
}

fn column(expr: &Expr) -> usize {
    match expr {
        Expr::Column(name) => usize::from(name.as_bytes()[0] - b'a'),
        Expr::Sql(sql) => panic!("no SQL is mapped here: {sql}"),
    }
}

/// What the source says for a trait.
fn value_of(mapped: &Trait, row: &Row) -> Option<Value> {
    let Field::Column { expr, .. } = &mapped.value else { panic!("traits are columns here") };
    row[column(expr)].map(|value| source_value(column(expr), value))
}

struct Shelf<'a>(&'a Source);

#[async_trait]
impl Reader for Shelf<'_> {
    async fn read(&mut self, projection: &Projection, _: &(dyn Fn(u64) + Send + Sync)) -> Result<Rows> {
        let asked = |key: &str| match &projection.restriction {
            Some(Restriction::Groups(groups)) => groups.iter().any(|group| group == key),
            _ => true,
        };
        let columns: Vec<usize> = projection.columns.iter().map(column).collect();
        let rows = self.0.iter().filter(|(key, _)| asked(key));
        let rows = rows.map(|(key, row)| (Some(key.clone()), columns.iter().map(|at| cell(*at, row[*at])).collect()));
        Ok(Rows::Memory { rows: rows.collect(), kinds: columns.iter().map(|at| KINDS[*at].clone()).collect() })
    }
    async fn release(&mut self) -> Result<()> {
        Ok(())
    }
    fn interrupt(&self) {}
}

struct Silence;

impl Monitor for Silence {
    fn note(&self, _: Event<'_>) {}
}

/// A mapping that the destination can carry out.
fn draw(random: &mut fastrand::Rng, features: &Features) -> Mapping {
    let nulls = features.on_null;
    let can_unset = nulls.contains(&OnNull::Unset);
    let mut traits = Vec::new();
    let mut map = |name: &str, column: &str, op| {
        let expr = Expr::Column(column.to_owned());
        let always = op == Op::Set && random.u8(0..3) == 0;
        traits.push(Trait {
            name: name.to_owned(),
            value: Field::Column { expr, declared: None },
            op,
            on_null: Some(if random.u8(0..4) == 0 { nulls[random.usize(0..nulls.len())] } else { nulls[0] }),
            always,
            at: At::default(),
        });
        random.u8(0..4)
    };
    // Added, removed, renamed, and meaning something else.
    let variant = map("arr", "b", Op::Set);
    map(if variant == 0 { "tier" } else { "plan" }, if variant == 1 { "d" } else { "a" }, Op::Set);
    if variant < 3 {
        map("seats", "c", Op::Set);
    }
    if variant > 1 {
        map("active", "d", Op::Set);
    }
    if features.ops.contains(&Op::SetOnce) {
        map("first", "a", Op::SetOnce);
    }
    let mut missing = vec![OnMissing::Keep];
    if can_unset {
        missing.push(OnMissing::Unset);
    }
    if features.delete {
        missing.push(OnMissing::Delete);
    }
    let named = matches!(features.user, UserRule::Required | UserRule::RequiredKnown);
    let template = || UserFrom::Template(vec!["account:".to_owned(), String::new()]);
    Mapping {
        name: "accounts".to_owned(),
        file: "mappings/accounts.toml".to_owned(),
        source: "warehouse".to_owned(),
        destination: "vendor".to_owned(),
        enabled: true,
        tags: Vec::new(),
        schedule: None,
        model: Model { from: From::Table(vec!["accounts".to_owned()]), filter: None },
        compare: None,
        dbt: None,
        group_type: "company".to_owned(),
        key: "id".to_owned(),
        label: None,
        user: named.then(|| User { anonymous: false, from: template() }),
        traits,
        policy: Policy {
            on_null: nulls[0],
            on_missing: missing[random.usize(0..missing.len())],
            on_removed_trait: match can_unset && random.bool() {
                true => OnRemovedTrait::Unset,
                false => OnRemovedTrait::Keep,
            },
            on_duplicate: OnDuplicate::Fail,
        },
        guards: Guards { groups_min: u64::MAX, empty: false, ..Guards::default() },
        incremental: None,
    }
}

fn edit(random: &mut fastrand::Rng, source: &mut Source) {
    for _ in 0..random.u8(0..16) {
        let key = format!("g{} & sons", random.u8(0..GROUPS));
        if random.u8(0..8) == 0 {
            source.remove(&key);
        } else {
            let value = [None, Some(0), Some(1), Some(2)][random.usize(0..4)];
            source.entry(key).or_insert([Some(0); 4])[random.usize(0..4)] = value;
        }
    }
}

/// What a group must hold in the end, given what it held `before` the weather cleared up; the table is at
/// `simulation::world::wanted`. What we may not speak about must stay as it was.
fn wanted(before: &Group, row: Option<&Row>, mapping: &Mapping) -> Group {
    let Some(row) = row else {
        return if mapping.policy.on_missing == OnMissing::Keep { before.clone() } else { Group::new() };
    };
    let mut group = match mapping.policy.on_removed_trait {
        OnRemovedTrait::Keep => before.clone(),
        OnRemovedTrait::Unset => Group::new(),
    };
    for mapped in &mapping.traits {
        let held = before.get(&mapped.name).cloned();
        let wanted = match (mapped.op, value_of(mapped, row), mapped.on_null) {
            (Op::SetOnce, value, _) => held.or(value),
            (_, Some(value), _) => Some(value),
            (_, None, Some(OnNull::Null)) => Some(Value::Null),
            (_, None, Some(OnNull::Skip)) => held,
            (_, None, _) => None,
        };
        match wanted {
            Some(value) => drop(group.insert(mapped.name.clone(), value)),
            None => drop(group.remove(&mapped.name)),
        }
    }
    group
}

/// When a run dies.
#[derive(Debug, Clone, Copy)]
struct Death {
    /// At which of its requests.
    request: u64,
    /// Whether that one was still sent.
    after: bool,
}

struct Road {
    random: fastrand::Rng,
    mishap: f64,
    mishaps: u64,
    sent: u64,
    death: Option<Death>,
    /// What a dead process sent goes on to arrive.
    in_flight: Vec<JoinHandle<()>>,
}

/// The way to the vendor, on which things go wrong.
struct Weather<'a> {
    http_client: &'a Arc<HttpClient>,
    vendor: &'a Arc<Box<dyn Vendor>>,
    road: Mutex<Road>,
    dead: Notify,
    /// Whether it says that a request may have arrived whose answer is lost, instead of that it did not.
    honest: bool,
}

#[async_trait]
impl Transport for Weather<'_> {
    async fn send(&self, request: &Request, limits: CallLimits) -> Result<Response, NoResponse> {
        let (death, answered) = {
            let mut road = self.road.lock().unwrap();
            road.sent += 1;
            let (sent, chance) = (road.sent, road.mishap);
            let death = road.death.filter(|death| death.request == sent);
            if let Some(Death { after: false, .. }) = death {
                (death, None)
            } else {
                let mishap = (road.random.f64() < chance).then(|| MISHAPS[road.random.usize(0..MISHAPS.len())]);
                road.mishaps += u64::from(mishap.is_some());
                let (tell, answered) = oneshot::channel();
                let (http_client, vendor, request) = (self.http_client.clone(), self.vendor.clone(), request.clone());
                road.in_flight.push(tokio::spawn(async move {
                    if let Some(mishap) = mishap {
                        vendor.spoil(mishap);
                    }
                    // Nobody listens where the process has died.
                    drop(tell.send(http_client.send(&request, limits).await));
                }));
                (death, Some(answered))
            }
        };
        let response = match answered {
            Some(answered) => Some(answered.await.unwrap()),
            None => None,
        };
        match response {
            Some(Err(silent)) if death.is_none() && !self.honest => Err(NoResponse { applied: Applied::No, ..silent }),
            Some(response) if death.is_none() => response,
            _ => {
                self.dead.notify_one();
                std::future::pending().await
            }
        }
    }
}

/// One vendor, one source, one ledger.
struct World {
    random: fastrand::Rng,
    vendor: Arc<Box<dyn Vendor>>,
    http_client: Arc<HttpClient>,
    clock: SimulatedClock,
    ledger: MemoryLedger,
    source: Source,
    mapping: Mapping,
    /// Group, trait and value: all that was ever true.
    ever: BTreeSet<(String, String, String)>,
    honest: bool,
    outcome: Outcome,
}

/// What happened, so that a history in which nothing does is noticed.
#[derive(Debug, Default)]
struct Outcome {
    deaths: u64,
    mishaps: u64,
    failures: u64,
}

impl World {
    /// A run, and the requests that its delivery made; `None`: it died.
    async fn run(&mut self, options: &RunOptions, quiet: bool) -> Option<Result<(Report, u64)>> {
        for (key, row) in &self.source {
            for mapped in &self.mapping.traits {
                let value = value_of(mapped, row).unwrap_or_default();
                self.ever.insert((key.clone(), mapped.name.clone(), value.to_string()));
            }
        }
        self.clock.sleep(Duration::from_secs(60)).await;
        let within = [1, 2, 4, 8][self.random.usize(0..4)];
        let death = Death { request: self.random.u64(1..=within), after: self.random.bool() };
        let weather = Weather {
            http_client: &self.http_client,
            vendor: &self.vendor,
            road: Mutex::new(Road {
                random: self.random.fork(),
                mishap: if quiet { 0.0 } else { MISHAP },
                mishaps: 0,
                sent: 0,
                death: (!quiet && self.random.f64() < DEATH).then_some(death),
                in_flight: Vec::new(),
            }),
            dead: Notify::new(),
            honest: self.honest,
        };
        let random = Random::seeded(self.random.u64(..));
        let settings =
            DeliverySettings { attempts_max: 2, concurrency: self.random.usize(1..4), ..DeliverySettings::default() };
        let mut destination = self.vendor.destination();
        let fingerprint = fingerprint(&self.mapping);
        let run = async {
            delivery::prepare(&mut *destination, &weather, &self.clock, &random).await?;
            let (_signal, signal) = watch::channel(Signal::Go);
            let delivery = Delivery::new(&*destination, &weather, &self.clock, &random, settings, signal.clone());
            let session = Session {
                mapping: &self.mapping,
                fingerprint: &fingerprint,
                syncs: None,
                destination: None,
                ledger: &self.ledger,
                delivery: Some(&delivery),
                clock: &self.clock,
                random: &random,
                monitor: &Silence,
                options,
                origin: &RunOrigin::default(),
                signal,
            };
            let report = sync::run(&session, &mut Shelf(&self.source)).await?;
            Ok((report, delivery.counters().requests.load(std::sync::atomic::Ordering::Relaxed)))
        };
        let done = tokio::select! {
            biased;
            () = weather.dead.notified() => None,
            done = run => Some(done),
        };
        let road = weather.road.into_inner().unwrap();
        for arrived in road.in_flight {
            arrived.await.unwrap();
        }
        self.outcome.mishaps += road.mishaps;
        self.outcome.deaths += u64::from(done.is_none());
        let delivered =
            |done: &Result<(Report, u64)>| done.as_ref().is_ok_and(|(report, _)| report.status == RunStatus::Succeeded);
        self.outcome.failures += u64::from(done.as_ref().is_some_and(|done| !delivered(done)));
        done
    }

    async fn quiet_run(&mut self) -> std::result::Result<u64, String> {
        let done = self.run(&RunOptions::default(), true).await.expect("nobody dies in a quiet run");
        match done {
            Ok((report, requests)) if report.status == RunStatus::Succeeded => Ok(requests),
            other => Err(format!("a quiet run ended {other:?}", other = other.map(|(report, _)| report.counts))),
        }
    }
}

/// What a vendor holds; whether a group without traits exists is not told apart.
fn held(vendor: &dyn Vendor) -> Groups {
    vendor.held().into_iter().filter(|(_, group)| !group.is_empty()).collect()
}

/// One history; the error says what went wrong.
async fn history(seed: u64, vendor: Box<dyn Vendor>, honest: bool) -> std::result::Result<Outcome, String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let features = vendor.destination().features();
    let mut world = World {
        mapping: draw(&mut random, &features),
        random: random.fork(),
        vendor: Arc::new(vendor),
        http_client: Arc::new(HttpClient::new().unwrap()),
        clock: SimulatedClock::default(),
        ledger: MemoryLedger::default(),
        source: Source::new(),
        ever: BTreeSet::new(),
        honest,
        outcome: Outcome::default(),
    };
    let mut previous = Source::new();
    for run in 0..RUNS {
        // Values that return are the hardest: what was said in between may have arrived or not.
        let now = world.source.clone();
        if random.bool() {
            world.source = previous;
        } else {
            edit(&mut random, &mut world.source);
        }
        previous = now;
        if run > 0 && random.u8(0..4) == 0 {
            world.mapping = draw(&mut random, &features);
        }
        let groups = (0..random.u8(1..4)).map(|_| format!("g{} & sons", random.u8(0..GROUPS)));
        let groups = GroupKeys::new(groups.collect::<Vec<_>>()).unwrap();
        let options = RunOptions {
            limit: (random.u8(0..8) == 0).then(|| random.u64(0..3)),
            group: groups.filter(|_| random.u8(0..10) == 0),
            ..RunOptions::default()
        };
        // A run that dies or gives up is what this is about.
        world.run(&options, false).await;
    }
    if random.bool() {
        world.source = previous;
    }
    let before = held(&**world.vendor);
    world.quiet_run().await?;
    let again = world.quiet_run().await?;
    if again > 0 {
        return Err(format!("a quiet run over settled groups sent {again} requests"));
    }
    let nothing = Group::new();
    let after = held(&**world.vendor);
    let keys: BTreeSet<&String> = world.source.keys().chain(before.keys()).chain(after.keys()).collect();
    for key in keys {
        let row = world.source.get(key);
        let wanted = wanted(before.get(key).unwrap_or(&nothing), row, &world.mapping);
        let held = after.get(key).unwrap_or(&nothing);
        if *held != wanted {
            let policy = &world.mapping.policy;
            return Err(format!("{key} holds {held:?}, wanted {wanted:?}, source {row:?}, policy {policy:?}"));
        }
        for (name, value) in held {
            if !world.ever.contains(&(key.clone(), name.clone(), value.to_string())) {
                return Err(format!("{key} holds {name} = {value}, which never was so"));
            }
        }
    }
    let standing = world.ledger.history().group_counts("accounts").await.map_err(|error| error.to_string())?;
    if (standing.unconfirmed, standing.rejected) != (0, 0) && world.mapping.policy.on_missing != OnMissing::Keep {
        return Err(format!("after two quiet runs {standing:?}"));
    }
    match world.vendor.complaint() {
        Some(complaint) => Err(complaint),
        None => Ok(world.outcome),
    }
}

/// Tells a vendor its histories, which are others than another's.
fn converges(first_seed: u64, start: impl Fn() -> Box<dyn Vendor>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut all = Outcome::default();
    for seed in first_seed..first_seed + SEEDS {
        match runtime.block_on(history(seed, start(), true)) {
            Ok(outcome) => {
                all.deaths += outcome.deaths;
                all.mishaps += outcome.mishaps;
                all.failures += outcome.failures;
            }
            Err(fault) => panic!("seed {seed}: {fault}"),
        }
    }
    assert!(all.deaths > 0 && all.mishaps > 0 && all.failures > 0, "nothing happened: {all:?}");
}

#[test]
fn a_lost_answer_taken_for_a_lost_request_is_caught() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = |seed| runtime.block_on(history(seed, webhook(WebhookBody::Single, false), false));
    let caught = (0..200).find_map(|seed| outcome(seed).err());
    assert!(caught.is_some_and(|fault| fault.contains(", wanted ")), "a history that cannot fail proves nothing");
}

#[test]
fn amplitude_ends_as_the_warehouse() {
    converges(1_000, || Box::new(Amplitudes::start(AmplitudeApi::GroupIdentify)));
}

#[test]
fn amplitudes_second_api_ends_as_the_warehouse() {
    converges(2_000, || Box::new(Amplitudes::start(AmplitudeApi::HttpV2)));
}

#[test]
fn posthog_by_events_ends_as_the_warehouse() {
    converges(3_000, || Box::new(PostHogs::start(WriteVia::Capture, false)));
}

#[test]
fn posthog_by_events_and_its_rest_api_ends_as_the_warehouse() {
    converges(4_000, || Box::new(PostHogs::start(WriteVia::Capture, true)));
}

#[test]
fn posthog_by_its_rest_api_ends_as_the_warehouse() {
    converges(5_000, || Box::new(PostHogs::start(WriteVia::Rest, true)));
}

#[test]
fn segment_ends_as_the_warehouse() {
    converges(6_000, || segment(Kind::Segment));
}

#[test]
fn rudderstack_ends_as_the_warehouse() {
    converges(7_000, || segment(Kind::RudderStack));
}

#[test]
fn customerio_ends_as_the_warehouse() {
    converges(8_000, || segment(Kind::CustomerIo));
}

#[test]
fn dittofeed_ends_as_the_warehouse() {
    converges(9_000, || segment(Kind::Dittofeed));
}

#[test]
fn accoil_ends_as_the_warehouse() {
    converges(10_000, || segment(Kind::Accoil));
}

#[test]
fn jitsu_ends_as_the_warehouse() {
    converges(11_000, || segment(Kind::Jitsu));
}

#[test]
fn thrivestack_ends_as_the_warehouse() {
    converges(12_000, || thrivestack(ThriveStackWire::Array));
    converges(13_000, || thrivestack(ThriveStackWire::Single));
}

#[test]
fn mixpanel_ends_as_the_warehouse() {
    converges(14_000, mixpanel);
}

#[test]
fn journy_ends_as_the_warehouse() {
    converges(15_000, journy);
}

#[test]
fn a_webhooks_receiver_ends_as_the_warehouse() {
    for remembers in [false, true] {
        converges(16_000, || webhook(WebhookBody::Batch, remembers));
        converges(17_000, || webhook(WebhookBody::Single, remembers));
    }
}
