//! What would Amplitude do? A stand-in on a real socket that enforces the documented rules and keeps the groups' state: for
//! the quick start (`cargo run --example receiver`), for benchmarks, and for the tests, which can make it fail in any way a
//! network does. This file has the Group Identify API, and what a group's properties become; events are in [`http_v2`].
//!
//! Where the documentation is silent it is strict, so that nothing unsure passes: a null, a query string, an unknown
//! field or two identifications of one group in a request are refused.

#[path = "http_v2.rs"]
pub(crate) mod http_v2;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use groupcast::io::{Clock, SystemClock};
use serde_json::{Map, Number, Value, json};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

const IDENTIFICATIONS_MAX: usize = 1_024;
const PROPERTIES_MAX: usize = 1_024;
const STRING_CHARS_MAX: usize = 1_024;

/// How the stand-in behaves.
pub(crate) struct Rules {
    /// The only key it takes; any when absent.
    pub(crate) api_key: Option<String>,
    /// Larger bodies are answered with 413.
    pub(crate) body_bytes_max: usize,
    /// Group values that make a whole request a 400.
    pub(crate) poison: BTreeSet<String>,
    /// Keeps every request as it came.
    pub(crate) record: bool,
    /// Events a second, at [`http_v2`]; more are throttled.
    pub(crate) events_per_second: Option<u64>,
    /// Events a day, at [`http_v2`].
    pub(crate) events_per_day: Option<u64>,
    /// How long the answer takes once a request is carried out.
    pub(crate) answer_after: Duration,
    /// Only counts: no rules, no state. For benchmarks.
    pub(crate) count_only: bool,
    /// Told about every answered request.
    pub(crate) tell: Option<fn(&Told<'_>)>,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            api_key: None,
            body_bytes_max: 1_000_000,
            poison: BTreeSet::new(),
            record: false,
            events_per_second: None,
            events_per_day: None,
            answer_after: Duration::ZERO,
            count_only: false,
            tell: None,
        }
    }
}

/// A request and its answer, for a person.
pub(crate) struct Told<'a> {
    pub(crate) status: u16,
    pub(crate) answer: &'a str,
    pub(crate) bytes: usize,
    /// Group type, group value, and the traits with the operator's sign.
    pub(crate) groups: Vec<(&'a str, &'a str, Vec<String>)>,
}

/// What happens to a request instead of the usual.
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// The connection breaks before the request is looked at.
    Drop,
    /// The request is carried out, and the connection breaks before the answer.
    ApplyThenDrop,
    /// This answer, whether or not the request is carried out.
    Answer { status: u16, headers: Vec<(&'static str, String)>, body: String, apply: bool },
    /// The request is looked at once this is notified.
    Hold(Arc<Notify>),
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) uri: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// Zero when the connection was dropped.
    pub(crate) status: u16,
}

/// Counts of everything so far.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) requests: AtomicU64,
    pub(crate) accepted: AtomicU64,
    pub(crate) groups: AtomicU64,
    pub(crate) traits: AtomicU64,
    pub(crate) bytes: AtomicU64,
    /// Events that were ignored, because one with their `insert_id` was taken within seven days.
    pub(crate) repeated: AtomicU64,
    /// Those among them that said something else: a mistake of whoever sent them.
    pub(crate) misnamed: AtomicU64,
    /// Requests whose response is held back now, by `answer_after`.
    pub(crate) in_flight: AtomicU64,
}

/// A request in flight, until it is answered or its connection is gone.
struct InFlight(Arc<Counts>);

impl InFlight {
    fn begin(counts: &Arc<Counts>) -> InFlight {
        counts.in_flight.fetch_add(1, Ordering::SeqCst);
        InFlight(Arc::clone(counts))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Group type and value → its traits.
pub(crate) type Groups = BTreeMap<(String, String), Map<String, Value>>;

/// The stand-in; clones are the same one.
#[derive(Clone)]
pub(crate) struct Vendor {
    rules: Arc<Mutex<Rules>>,
    groups: Arc<Mutex<Groups>>,
    script: Arc<Mutex<VecDeque<Fault>>>,
    received: Arc<Mutex<Vec<Received>>>,
    memory: Arc<Mutex<http_v2::Memory>>,
    clock: Arc<dyn Clock>,
    pub(crate) counts: Arc<Counts>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Operator, property and value.
type Operation = (&'static str, String, Value);

/// One identification, checked.
struct Identification {
    group: (String, String),
    operations: Vec<Operation>,
}

impl Vendor {
    pub(crate) fn new(rules: Rules) -> Vendor {
        Vendor::with_clock(rules, Arc::new(SystemClock::start()))
    }

    /// A vendor whose days and seconds pass on this clock.
    pub(crate) fn with_clock(rules: Rules, clock: Arc<dyn Clock>) -> Vendor {
        Vendor {
            rules: Arc::new(Mutex::new(rules)),
            groups: Arc::default(),
            script: Arc::default(),
            received: Arc::default(),
            memory: Arc::default(),
            clock,
            counts: Arc::default(),
        }
    }

    /// Serves until it is dropped.
    pub(crate) async fn serve(self, listener: TcpListener) -> std::io::Result<()> {
        let router = Router::new()
            .route("/groupidentify", post(take))
            .route(http_v2::PATH, post(take))
            .route("/groups/{type}/{value}", get(show))
            .route("/stats", get(stats))
            .layer(DefaultBodyLimit::max(64 * 1024 * 1024))
            .with_state(self);
        axum::serve(Door(listener), router.into_make_service_with_connect_info::<Cut>()).await
    }

    /// What happens to the next requests, one each; then everything is usual again.
    pub(crate) fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        locked(&self.script).extend(faults);
    }

    /// From now on everything is usual again.
    pub(crate) fn calm(&self) {
        locked(&self.script).clear();
    }

    /// Changes the rules.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut locked(&self.rules));
    }

    /// Changes what is held, as somebody else's request would.
    pub(crate) fn edit(&self, edit: impl FnOnce(&mut Groups)) {
        edit(&mut locked(&self.groups));
    }

    pub(crate) fn groups(&self) -> Groups {
        locked(&self.groups).clone()
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        locked(&self.received).clone()
    }

    /// Checks a request by the rules and carries it out if `apply`.
    fn handle(&self, uri: &Uri, headers: &HeaderMap, body: &[u8], apply: bool) -> (u16, String) {
        let rules = locked(&self.rules);
        self.counts.bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
        let events = uri.path() == http_v2::PATH;
        if rules.count_only {
            let groups = count(body, if events { br#""$groupidentify""# } else { b"%22group_value%22%3A%22" });
            self.counts.groups.fetch_add(groups, Ordering::Relaxed);
            self.counts.accepted.fetch_add(1, Ordering::Relaxed);
            return (200, "success".to_owned());
        }
        if events {
            return self.handle_events(&rules, headers, body, apply);
        }
        let checked = identifications(&rules, uri, headers, body);
        let (status, answer) = match &checked {
            Ok(_) => (200, "success".to_owned()),
            Err((status, answer)) => (*status, answer.clone()),
        };
        let identifications = checked.unwrap_or_default();
        self.tell(&rules, status, &answer, body.len(), &identifications);
        if apply && status == 200 {
            self.carry_out(identifications);
        }
        (status, answer)
    }

    fn tell(&self, rules: &Rules, status: u16, answer: &str, bytes: usize, identifications: &[Identification]) {
        let Some(tell) = rules.tell else { return };
        let groups = identifications.iter().map(|one| {
            let traits = one.operations.iter().map(|(operator, name, value)| match *operator {
                "$unset" => format!("-{name}"),
                "$setOnce" => format!("{name} once {value}"),
                "$add" => format!("{name} + {value}"),
                "$append" => format!("{name}, then {value}"),
                "$prepend" => format!("{value}, then {name}"),
                _ => format!("{name} = {value}"),
            });
            (one.group.0.as_str(), one.group.1.as_str(), traits.collect())
        });
        tell(&Told { status, answer, bytes, groups: groups.collect() });
    }

    fn carry_out(&self, identifications: Vec<Identification>) {
        let traits = identifications.iter().map(|one| one.operations.len() as u64).sum();
        self.counts.accepted.fetch_add(1, Ordering::Relaxed);
        self.counts.groups.fetch_add(identifications.len() as u64, Ordering::Relaxed);
        self.counts.traits.fetch_add(traits, Ordering::Relaxed);
        let mut groups = locked(&self.groups);
        for Identification { group, operations } in identifications {
            let traits = groups.entry(group).or_default();
            operations.into_iter().for_each(|operation| operate(traits, operation));
        }
    }
}

/// What one operation makes of a group's properties.
fn operate(traits: &mut Map<String, Value>, (operator, name, value): Operation) {
    let list = |value| match value {
        Value::Array(items) => items,
        one => vec![one],
    };
    match operator {
        "$unset" => drop(traits.remove(&name)),
        "$setOnce" => drop(traits.entry(name).or_insert(value)),
        "$add" => match (traits.get(&name), value) {
            (None, value) => drop(traits.insert(name, value)),
            (Some(Value::Number(there)), Value::Number(more)) => {
                let sum = double(there) + double(&more);
                traits.insert(name, Value::Number(Number::from_string_unchecked(sum.to_string())));
            }
            // Nothing can be added to what is no number.
            (Some(_), _) => {}
        },
        "$append" | "$prepend" => {
            let (there, more) = (traits.remove(&name).map(list).unwrap_or_default(), list(value));
            let all = if operator == "$append" { [there, more] } else { [more, there] };
            traits.insert(name, Value::Array(all.concat()));
        }
        _ => drop(traits.insert(name, value)),
    }
}

fn double(number: &Number) -> f64 {
    number.as_str().parse().unwrap_or(f64::NAN)
}

fn count(body: &[u8], pattern: &[u8]) -> u64 {
    // The pattern starts with a percent sign, so most positions are dismissed by one comparison.
    body.windows(pattern.len()).filter(|window| *window == pattern).count() as u64
}

type Refusal = (u16, String);

fn bad(what: impl Into<String>) -> Refusal {
    (400, what.into())
}

fn identifications(rules: &Rules, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Result<Vec<Identification>, Refusal> {
    if body.len() > rules.body_bytes_max {
        return Err((413, "Payload too large".to_owned()));
    }
    if uri.query().is_some() {
        return Err(bad("unexpected query"));
    }
    let content_type = headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if content_type.split(';').next() != Some("application/x-www-form-urlencoded") {
        return Err(bad("unsupported content type"));
    }
    let (mut key, mut text) = (None, None);
    for (name, value) in form_urlencoded::parse(body) {
        match name.as_ref() {
            "api_key" if key.is_none() => key = Some(value),
            "identification" if text.is_none() => text = Some(value),
            _ => return Err(bad("unexpected field")),
        }
    }
    let key = key.unwrap_or_default();
    if key.is_empty() || rules.api_key.as_ref().is_some_and(|expected| *expected != key) {
        return Err(bad(format!("Invalid API key: {key}")));
    }
    let parsed: Value = serde_json::from_str(&text.unwrap_or_default()).map_err(|_| bad("missing_event"))?;
    let items = match parsed {
        Value::Array(items) if !items.is_empty() => items,
        object @ Value::Object(_) => vec![object],
        _ => return Err(bad("missing_event")),
    };
    if items.len() > IDENTIFICATIONS_MAX {
        return Err(bad("too many identifications"));
    }
    let identifications = items.into_iter().map(identification).collect::<Result<Vec<_>, _>>()?;
    if identifications.iter().map(|one| one.operations.len()).sum::<usize>() > PROPERTIES_MAX {
        return Err(bad("too many group properties"));
    }
    let mut groups = BTreeSet::new();
    for one in &identifications {
        if !groups.insert(&one.group) {
            return Err(bad("a group twice in one request"));
        }
        if rules.poison.contains(&one.group.1) {
            return Err(bad("invalid_group_properties"));
        }
    }
    Ok(identifications)
}

fn identification(value: Value) -> Result<Identification, Refusal> {
    let Value::Object(mut fields) = value else { return Err(bad("an identification is no object")) };
    let (kind, group, properties) =
        (fields.remove("group_type"), fields.remove("group_value"), fields.remove("group_properties"));
    let (Some(Value::String(kind)), Some(Value::String(group)), Some(Value::Object(properties)), true) =
        (kind, group, properties, fields.is_empty())
    else {
        return Err(bad("an identification has missing, unknown or mistyped fields"));
    };
    if kind.is_empty() || group.is_empty() {
        return Err(bad("empty group type or value"));
    }
    Ok(Identification { group: (kind, group), operations: operations(properties)? })
}

/// The operations of `group_properties`.
fn operations(properties: Map<String, Value>) -> Result<Vec<Operation>, Refusal> {
    let mut operations = Vec::new();
    let operators = properties.keys().filter(|name| name.starts_with('$')).count();
    if operators == 0 {
        operations.extend(properties.into_iter().map(|(name, value)| ("$set", name, value)));
    } else if operators < properties.len() {
        return Err(bad("operators and plain properties are mixed"));
    } else {
        for (operator, traits) in properties {
            let known = ["$set", "$setOnce", "$add", "$append", "$prepend", "$unset"];
            let Some(operator) = known.into_iter().find(|known| *known == operator) else {
                return Err(bad("an operator this stand-in does not know"));
            };
            let Value::Object(traits) = traits else { return Err(bad("an operator without an object")) };
            operations.extend(traits.into_iter().map(|(name, value)| (operator, name, value)));
        }
    }
    let mut names = BTreeSet::new();
    for (operator, name, value) in &mut operations {
        if name.is_empty() || !names.insert(name.clone()) {
            return Err(bad("a property without a name, or under two operators"));
        }
        if *operator == "$unset" && *value != "-" {
            return Err(bad("`$unset` with a value other than `-`"));
        }
        if *operator == "$add" && !value.is_number() {
            return Err(bad("`$add` with a value that is no number"));
        }
        *value = held(value.take())?;
    }
    Ok(operations)
}

/// A value as the vendor keeps it: numbers as doubles, strings cut.
fn held(value: Value) -> Result<Value, Refusal> {
    Ok(match value {
        Value::Null => return Err(bad("a null")),
        Value::Number(number) => Value::Number(Number::from_string_unchecked(double(&number).to_string())),
        Value::String(text) => Value::String(text.chars().take(STRING_CHARS_MAX).collect()),
        Value::Array(items) => items.into_iter().map(held).collect::<Result<_, _>>()?,
        Value::Object(members) => Value::Object(
            members.into_iter().map(|(name, member)| Ok((name, held(member)?))).collect::<Result<_, Refusal>>()?,
        ),
        Value::Bool(_) => value,
    })
}

async fn take(
    State(vendor): State<Vendor>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    vendor.counts.requests.fetch_add(1, Ordering::Relaxed);
    let fault = locked(&vendor.script).pop_front().unwrap_or(Fault::None);
    let mut more = Vec::new();
    let (status, answer) = match fault {
        Fault::None => vendor.handle(&uri, &headers, &body, true),
        Fault::Hold(until) => {
            until.notified().await;
            vendor.handle(&uri, &headers, &body, true)
        }
        Fault::Drop => (0, String::new()),
        Fault::ApplyThenDrop => {
            vendor.handle(&uri, &headers, &body, true);
            (0, String::new())
        }
        Fault::Answer { status, headers: answered, body: answer, apply } => {
            if apply {
                vendor.handle(&uri, &headers, &body, true);
            }
            more = answered;
            (status, answer)
        }
    };
    if locked(&vendor.rules).record {
        let received = Received { uri: uri.to_string(), headers, body: body.to_vec(), status };
        locked(&vendor.received).push(received);
    }
    // Looked at again and again, so that whoever makes answers slow can let go of those under way.
    let clock = SystemClock::start();
    let mut in_flight = Some(InFlight::begin(&vendor.counts));
    while in_flight.is_some() {
        let left = {
            // Let go within the lock: what is in flight after a change of the rules is held by these.
            let rules = locked(&vendor.rules);
            let left = rules.answer_after.saturating_sub(clock.elapsed());
            in_flight = in_flight.filter(|_| !left.is_zero());
            left
        };
        clock.sleep(left.min(Duration::from_millis(20))).await;
    }
    if status == 0 {
        cut.0.store(true, Ordering::SeqCst);
    }
    let mut response = answer.into_response();
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in more {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}

async fn show(State(vendor): State<Vendor>, Path(group): Path<(String, String)>) -> Response {
    match locked(&vendor.groups).get(&group) {
        Some(traits) => json_response(&Value::Object(traits.clone())),
        None => (StatusCode::NOT_FOUND, "no such group\n").into_response(),
    }
}

async fn stats(State(vendor): State<Vendor>) -> Response {
    let Counts { requests, accepted, groups, traits, bytes, repeated, misnamed, in_flight: _ } = &*vendor.counts;
    let [requests, accepted, groups, traits, bytes, repeated, misnamed] =
        [requests, accepted, groups, traits, bytes, repeated, misnamed].map(|count| count.load(Ordering::Relaxed));
    json_response(&json!({
        "requests": requests, "accepted": accepted, "identifications": groups, "traits": traits, "bytes": bytes,
        "repeated": repeated, "misnamed": misnamed,
        "groups_known": locked(&vendor.groups).len(),
    }))
}

fn json_response(value: &Value) -> Response {
    ([("content-type", "application/json")], format!("{value:#}\n")).into_response()
}

/// A listener whose connections can be broken from inside a handler.
struct Door(TcpListener);

/// Breaks its connection instead of the next answer.
#[derive(Clone)]
struct Cut(Arc<AtomicBool>);

struct Breakable {
    stream: TcpStream,
    cut: Cut,
}

impl axum::serve::Listener for Door {
    type Io = Breakable;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Breakable, Self::Addr) {
        let (stream, address) = axum::serve::Listener::accept(&mut self.0).await;
        (Breakable { stream, cut: Cut(Arc::default()) }, address)
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

impl Connected<axum::serve::IncomingStream<'_, Door>> for Cut {
    fn connect_info(stream: axum::serve::IncomingStream<'_, Door>) -> Cut {
        stream.io().cut.clone()
    }
}

impl AsyncRead for Breakable {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Breakable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        if self.cut.0.load(Ordering::SeqCst) {
            return Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
