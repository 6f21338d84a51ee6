//! A vendor on a real socket whose rules a test gives: one thread per connection, scripted faults, everything kept.
//!
//! HTTP by hand rather than by a framework, because breaking a connection between a request and its answer is half of
//! what it is for, and because blocking it serves tests with a runtime and tests of the real program alike.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use groupcast::delivery::{Delivery, DeliveryOutcome, DeliverySettings, Signal};
use groupcast::destination::{AddressedChange, Destination};
use groupcast::error::Result;
use groupcast::io::Random;
use groupcast::io::http::HttpClient;
use groupcast::model::Change;
use parking_lot::{Mutex, MutexGuard};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::clock::SimulatedClock;
use super::toy::RecordedOutcomes;

/// A request as it came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Received {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// What it was answered with; zero when the connection was broken.
    pub(crate) status: u16,
}

impl Received {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// An answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn new(status: u16, body: impl ToString) -> Answer {
        Answer { status, headers: Vec::new(), body: body.to_string() }
    }
}

/// A vendor's rules and state.
pub(crate) trait Api: Send + 'static {
    /// Carries a request out and answers it.
    fn take(&mut self, request: &Received) -> Answer;
}

/// What happens to a request instead of the usual.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// The connection breaks before the request is looked at.
    Drop,
    /// The request is carried out, and the connection breaks before the answer.
    ApplyThenDrop,
    /// This answer; the request is not carried out.
    Instead(Answer),
    /// This answer, though the request is carried out.
    ApplyThen(Answer),
}

/// The vendor; clones are the same one. It serves for as long as the test process lives.
pub(crate) struct StandIn<A> {
    shared: Arc<Shared<A>>,
    pub(crate) url: String,
}

impl<A> Clone for StandIn<A> {
    fn clone(&self) -> StandIn<A> {
        StandIn { shared: self.shared.clone(), url: self.url.clone() }
    }
}

struct Shared<A> {
    api: Mutex<A>,
    script: Mutex<VecDeque<Fault>>,
    received: Mutex<Vec<Received>>,
}

impl<A: Api> StandIn<A> {
    pub(crate) fn start(api: A) -> StandIn<A> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared { api: Mutex::new(api), script: Mutex::default(), received: Mutex::default() });
        let serving = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = serving.clone();
                // A connection that ends in the middle of a request is the client's affair.
                std::thread::spawn(move || drop(serve(&shared, stream)));
            }
        });
        StandIn { shared, url }
    }

    /// What happens to the next requests, one each; then everything is usual again.
    pub(crate) fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.script.lock().extend(faults);
    }

    /// From now on everything is usual again.
    pub(crate) fn calm(&self) {
        self.shared.script.lock().clear();
    }

    /// Its rules and state.
    pub(crate) fn api(&self) -> MutexGuard<'_, A> {
        self.shared.api.lock()
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.shared.received.lock().clone()
    }

    /// The statuses of all requests, in their order.
    pub(crate) fn statuses(&self) -> Vec<u16> {
        self.shared.received.lock().iter().map(|request| request.status).collect()
    }
}

/// One request; the connection closes with its answer.
fn serve<A: Api>(shared: &Shared<A>, stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(()) };
    let mut request = Received { method, target, ..Received::default() };
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        request.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = request.headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    request.body.resize(length, 0);
    reader.read_exact(&mut request.body)?;
    let fault = shared.script.lock().pop_front().unwrap_or(Fault::None);
    let take = || shared.api.lock().take(&request);
    let answer = match fault {
        Fault::None => Some(take()),
        Fault::Drop => None,
        Fault::ApplyThenDrop => {
            take();
            None
        }
        Fault::Instead(answer) => Some(answer),
        Fault::ApplyThen(answer) => {
            take();
            Some(answer)
        }
    };
    let status = answer.as_ref().map_or(0, |answer| answer.status);
    shared.received.lock().push(Received { status, ..request });
    let Some(answer) = answer else { return stream.shutdown(std::net::Shutdown::Both) };
    let mut head = format!("HTTP/1.1 {status} Said\r\ncontent-length: {}\r\nconnection: close\r\n", answer.body.len());
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    (&stream).write_all(format!("{head}\r\n{}", answer.body).as_bytes())
}

/// A stand-in, the real way out and a clock on which waiting takes no time.
pub(crate) struct Scene<A> {
    pub(crate) vendor: StandIn<A>,
    pub(crate) clock: Arc<SimulatedClock>,
    pub(crate) settings: DeliverySettings,
    http_client: HttpClient,
}

impl<A: Api> Scene<A> {
    pub(crate) fn new(api: A) -> Scene<A> {
        Scene {
            vendor: StandIn::start(api),
            clock: Arc::default(),
            settings: DeliverySettings::default(),
            http_client: HttpClient::new().unwrap(),
        }
    }

    /// Delivers a page.
    pub(crate) async fn deliver(
        &self,
        destination: &dyn Destination,
        changes: &[AddressedChange],
    ) -> (Result<()>, Vec<DeliveryOutcome>) {
        let (random, outcomes) = (Random::seeded(7), RecordedOutcomes::default());
        let (_signal, signalled) = watch::channel(Signal::Go);
        let settings = self.settings.clone();
        let delivery = Delivery::new(destination, &self.http_client, &*self.clock, &random, settings, signalled);
        let outcome = delivery.deliver(changes, &outcomes).await;
        (outcome, outcomes.all(changes.len()))
    }

    /// Delivers a page, all of which must arrive.
    pub(crate) async fn arrives(&self, destination: &dyn Destination, changes: &[AddressedChange]) {
        let (outcome, outcomes) = self.deliver(destination, changes).await;
        outcome.unwrap();
        assert_eq!(outcomes.iter().find(|outcome| **outcome != DeliveryOutcome::Delivered), None);
    }

    /// Says each page until all of it arrived: what was not acknowledged is said again. Returns what the groups must hold
    /// in the end.
    pub(crate) async fn insist(&self, destination: &dyn Destination, pages: Vec<Vec<AddressedChange>>) -> Groups {
        let mut wanted = Groups::new();
        for mut left in pages {
            for _ in 0..100 {
                let (_, outcomes) = self.deliver(destination, &left).await;
                let mut again = Vec::new();
                for (change, outcome) in left.into_iter().zip(outcomes) {
                    match outcome {
                        DeliveryOutcome::Delivered => carry_out(&mut wanted, &change),
                        _ => again.push(change),
                    }
                }
                left = again;
                if left.is_empty() {
                    break;
                }
            }
            assert!(left.is_empty(), "everything arrives in the end");
        }
        wanted
    }
}

/// What groups hold, by key.
pub(crate) type Groups = BTreeMap<String, Map<String, Value>>;

/// What a change makes of the groups.
pub(crate) fn carry_out(groups: &mut Groups, addressed: &AddressedChange) {
    let change = &*addressed.change;
    if change.delete {
        groups.remove(&addressed.key);
        return;
    }
    let held = groups.entry(addressed.key.clone()).or_default();
    held.extend(change.set.clone());
    for (name, value) in &change.set_once {
        held.entry(name.clone()).or_insert_with(|| value.clone());
    }
    for (name, more) in &change.add {
        let sum = held.get(name).and_then(Value::as_i64).unwrap_or(0) + more.as_i64().unwrap();
        held.insert(name.clone(), json!(sum));
    }
    for (name, more) in &change.append {
        let mut list = held.remove(name).and_then(|list| list.as_array().cloned()).unwrap_or_default();
        list.extend(more.as_array().unwrap().clone());
        held.insert(name.clone(), Value::Array(list));
    }
    for name in &change.unset {
        held.remove(name);
    }
}

/// A change of one group.
pub(crate) fn change(key: &str, change: Value) -> AddressedChange {
    AddressedChange {
        key: key.to_owned(),
        change: Arc::new(serde_json::from_value(change).unwrap()),
        ..AddressedChange::default()
    }
}

/// So many groups with so many traits each.
pub(crate) fn groups(count: usize, traits: usize) -> Vec<AddressedChange> {
    let set: Map<String, Value> = (0..traits).map(|at| (format!("t{at}"), json!(at))).collect();
    (0..count).map(|at| change(&format!("g{at}"), json!({"set": set}))).collect()
}

/// Pages of changes that set, set once, unset and delete.
pub(crate) fn pages() -> impl Strategy<Value = Vec<Vec<AddressedChange>>> {
    let one = (0_u8..20, 0_u8..6, 0_u8..6, 0_u8..6, 0_u32..100, 0_u8..10);
    let one = one.prop_map(|(key, set, once, unset, value, delete)| {
        let name = |prefix: &str, at: u8| format!("{prefix}{at}");
        let change = if delete == 0 {
            Change { delete: true, ..Change::default() }
        } else {
            Change {
                set: (0..set).map(|at| (name("s", at), json!(value))).collect(),
                set_once: (0..once).map(|at| (name("o", at), json!(format!("first {value}")))).collect(),
                unset: (set..set + unset).map(|at| name("s", at)).collect(),
                ..Change::default()
            }
        };
        AddressedChange { key: format!("g{key}"), change: change.into(), ..AddressedChange::default() }
    });
    let page = prop::collection::vec(one, 1..30).prop_map(|mut page| {
        // A run says one change about a group.
        let mut keys = BTreeSet::new();
        page.retain(|change: &AddressedChange| keys.insert(change.key.clone()));
        page
    });
    prop::collection::vec(page, 1..6)
}

/// What networks and servers do.
pub(crate) fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let one = (0_u8..9).prop_map(|kind| match kind {
        0 => Fault::Drop,
        1 => Fault::ApplyThenDrop,
        2 => Fault::Instead(Answer::new(500, "no")),
        3 => Fault::ApplyThen(Answer::new(502, "no")),
        4 => Fault::Instead(Answer::new(429, "slow down")),
        5 => Fault::Instead(Answer::new(413, "too large")),
        6 => Fault::Instead(Answer { headers: vec![("retry-after", "7".to_owned())], ..Answer::new(503, "") }),
        _ => Fault::None,
    });
    prop::collection::vec(one, 0..25)
}
