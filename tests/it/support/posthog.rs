//! What would PostHog do? A stand-in on a real socket with the rules of its capture service, its ingestion and its REST
//! API (`ee/clickhouse/views/groups.py`), and the groups' state.
//!
//! Ingestion is as silent as the real one: a sixth group type, an empty key, a `$group_set` that is no object or an event
//! without person processing is answered with 200 and dropped.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Read;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use parking_lot::Mutex;
use serde_json::{Map, Number, Value, json};
use tokio::net::TcpListener;

pub(crate) const TOKEN: &str = "phc_Pr0ject7f1d2c9a4b8e6f05";
pub(crate) const PERSONAL: &str = "phx_Pers0nal3e9b8a7c6d5f4e21";
pub(crate) const PROJECT: &str = "4711";

const GROUP_TYPES_MAX: usize = 5;
const EVENT_BYTES_MAX: usize = 1_000_000;
const BODY_BYTES_MAX: usize = 20 * 1024 * 1024;
const V1_BODY_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Distinct ids that capture v1 does not take, whatever their capitals.
const ILLEGAL_IDS: [&str; 19] = [
    "0",
    "00000000-0000-0000-0000-000000000000",
    "[object object]",
    "anonymous",
    "backend",
    "distinct_id",
    "distinctid",
    "email",
    "false",
    "guest",
    "id",
    "nan",
    "none",
    "not_authenticated",
    "null",
    "system",
    "true",
    "undefined",
    "user",
];

/// How the stand-in behaves.
pub(crate) struct Rules {
    /// An event about one of these groups makes the whole batch a 400.
    pub(crate) poison: BTreeSet<String>,
    /// The project is over its quota: 200, and everything is dropped.
    pub(crate) over_quota: bool,
    /// An event that was seen before (by its uuid) is dropped.
    pub(crate) dedup: bool,
    /// Events wait until [`Vendor::ingest`].
    pub(crate) lag: bool,
    /// Bytes of one event as it is queued.
    pub(crate) event_bytes_max: usize,
    /// Bytes of a group's properties on their way to the database.
    pub(crate) group_bytes_max: usize,
    /// Groups on a page of the list.
    pub(crate) page: usize,
    pub(crate) has_upsert: bool,
    pub(crate) has_definitions: bool,
    /// Whether it has capture v1.
    pub(crate) has_v1: bool,
    /// What capture v1 says of events about these groups, one after the other; `ok` when there is nothing left.
    pub(crate) of_each: BTreeMap<String, VecDeque<(&'static str, &'static str)>>,
    /// Older servers fail where a property that is to be removed is not there.
    pub(crate) fails_at_absent: bool,
    /// What the personal key may do.
    pub(crate) scopes: BTreeSet<&'static str>,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            poison: BTreeSet::new(),
            over_quota: false,
            dedup: true,
            lag: false,
            event_bytes_max: EVENT_BYTES_MAX,
            group_bytes_max: 1_000_000,
            page: 100,
            has_upsert: false,
            has_definitions: false,
            has_v1: true,
            of_each: BTreeMap::new(),
            fails_at_absent: false,
            scopes: ["group:read", "group:write", "activity_log:read"].into(),
        }
    }
}

/// What happens to a request instead of the usual.
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// This answer, whether or not the request is carried out.
    Answer { status: u16, headers: Vec<(&'static str, String)>, body: String, apply: bool },
}

/// An answer with this status.
pub(crate) fn answers(status: u16, apply: bool) -> Fault {
    Fault::Answer { status, headers: Vec::new(), body: String::new(), apply }
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) method: Method,
    pub(crate) uri: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) status: u16,
}

impl Received {
    /// The body as JSON, unpacked if need be.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&unpacked(&self.body).unwrap()).unwrap()
    }

    /// The events of a batch.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.json()["batch"].as_array().unwrap().clone()
    }

    /// Their uuids.
    pub(crate) fn uuids(&self) -> Vec<String> {
        self.events().iter().map(|event| event["uuid"].as_str().unwrap().to_owned()).collect()
    }
}

#[derive(Debug, Clone, Default)]
struct Group {
    properties: Map<String, Value>,
    created: u64,
    activity: Vec<Value>,
}

#[derive(Default)]
struct Held {
    types: Vec<String>,
    groups: BTreeMap<(usize, String), Group>,
    seen: BTreeSet<String>,
    queued: Vec<Value>,
    script: VecDeque<Fault>,
    received: Vec<Received>,
    dropped: Vec<&'static str>,
    created: u64,
}

/// The stand-in; clones are the same one.
#[derive(Clone)]
pub(crate) struct Vendor {
    rules: Arc<Mutex<Rules>>,
    held: Arc<Mutex<Held>>,
}

type Answer = (u16, Value);

/// An error as Django REST framework writes it here.
fn problem(status: u16, kind: &str, code: &str, detail: &str, attr: Option<&str>) -> Answer {
    (status, json!({"type": kind, "code": code, "detail": detail, "attr": attr}))
}

fn invalid(attr: &str, detail: &str) -> Answer {
    problem(400, "validation_error", "invalid_input", detail, Some(attr))
}

fn not_found() -> Answer {
    problem(404, "invalid_request", "not_found", "Not found.", None)
}

fn unpacked(body: &[u8]) -> std::io::Result<Vec<u8>> {
    if !body.starts_with(&[0x1f, 0x8b]) {
        return Ok(body.to_vec());
    }
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(body).read_to_end(&mut plain)?;
    Ok(plain)
}

/// A value as PostHog keeps it: numbers as doubles, no NUL.
fn kept(value: Value) -> Value {
    let text = |text: String| text.replace('\0', "");
    match value {
        Value::Number(number) => {
            let double: f64 = number.to_string().parse().unwrap();
            Value::Number(Number::from_string_unchecked(format!("{double}")))
        }
        Value::String(plain) => text(plain).into(),
        Value::Array(items) => items.into_iter().map(kept).collect(),
        Value::Object(members) => members.into_iter().map(|(name, member)| (text(name), kept(member))).collect(),
        other => other,
    }
}

impl Held {
    /// What ingestion makes of one event.
    fn ingest(&mut self, event: &Value, dedup: bool, group_bytes_max: usize) {
        let properties = &event["properties"];
        let uuid = event["uuid"].as_str().unwrap_or_default();
        if dedup && !uuid.is_empty() && !self.seen.insert(uuid.to_owned()) {
            return self.dropped.push("duplicate");
        }
        if properties["$process_person_profile"] == json!(false) {
            return self.dropped.push("no person processing");
        }
        let key = match &properties["$group_key"] {
            Value::String(text) => text.replace('\0', ""),
            Value::Number(number) if number.as_str() != "0" => number.to_string(),
            _ => String::new(),
        };
        let group_type = properties["$group_type"].as_str().unwrap_or_default();
        if key.is_empty() || group_type.is_empty() {
            return self.dropped.push("no key or type");
        }
        let set = match &properties["$group_set"] {
            Value::Null => Map::new(),
            Value::Object(set) => set.clone(),
            _ => return self.dropped.push("invalid_group_set"),
        };
        let Some(index) = self.index_of(group_type) else { return self.dropped.push("a sixth group type") };
        let Value::Object(set) = kept(Value::Object(set)) else { unreachable!() };
        let mut merged =
            self.groups.get(&(index, key.clone())).map(|group| group.properties.clone()).unwrap_or_default();
        merged.extend(set);
        // The properties travel as text inside JSON.
        if Value::from(Value::from(merged.clone()).to_string()).to_string().len() > group_bytes_max {
            return self.dropped.push("group_upsert_message_size_too_large");
        }
        self.group(index, &key).properties = merged;
    }

    fn index_of(&mut self, group_type: &str) -> Option<usize> {
        if let Some(index) = self.types.iter().position(|known| known == group_type) {
            return Some(index);
        }
        (self.types.len() < GROUP_TYPES_MAX).then(|| {
            self.types.push(group_type.to_owned());
            self.types.len() - 1
        })
    }

    fn group(&mut self, index: usize, key: &str) -> &mut Group {
        self.created += 1;
        let created = self.created;
        self.groups.entry((index, key.to_owned())).or_insert_with(|| Group { created, ..Group::default() })
    }

    fn shown(&self, index: usize, key: &str) -> Option<Value> {
        let group = self.groups.get(&(index, key.to_owned()))?;
        Some(json!({"group_type_index": index, "group_key": key, "group_properties": group.properties,
            "created_at": format!("2026-01-01T00:00:00.{:06}Z", group.created)}))
    }
}

impl Vendor {
    pub(crate) fn new(rules: Rules) -> Vendor {
        Vendor { rules: Arc::new(Mutex::new(rules)), held: Arc::default() }
    }

    /// Serves until it is dropped.
    pub(crate) async fn serve(self, listener: TcpListener) -> std::io::Result<()> {
        let router = Router::new()
            .route("/", get(|| async { "ok" }))
            .route("/batch/", post(batch))
            .route("/i/v1/analytics/events", any(batch_v1))
            .route("/api/projects/{project}/{*below}", any(rest))
            .layer(DefaultBodyLimit::max(64 * 1024 * 1024))
            .with_state(self);
        axum::serve(listener, router).await
    }

    /// Serves on a port and a thread of its own, for as long as the test process lives. Returns the address.
    pub(crate) fn start(&self) -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = self.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { serving.serve(TcpListener::from_std(listener).unwrap()).await.unwrap() });
        });
        url
    }

    /// What happens to the next requests, one each; then everything is usual again.
    pub(crate) fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.held.lock().script.extend(faults);
    }

    /// From now on everything is usual again.
    pub(crate) fn calm(&self) {
        self.held.lock().script.clear();
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.rules.lock());
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.held.lock().received.clone()
    }

    /// Why events were dropped without a word.
    pub(crate) fn dropped(&self) -> Vec<&'static str> {
        self.held.lock().dropped.clone()
    }

    /// Makes these group types, in this order.
    pub(crate) fn create_types(&self, names: &[&str]) {
        self.held.lock().types.extend(names.iter().map(|name| (*name).to_owned()));
    }

    /// Takes in what waits.
    pub(crate) fn ingest(&self) {
        let group_bytes_max = self.rules.lock().group_bytes_max;
        let mut held = self.held.lock();
        for event in std::mem::take(&mut held.queued) {
            held.ingest(&event, false, group_bytes_max);
        }
    }

    /// A group's properties.
    pub(crate) fn group(&self, group_type: &str, key: &str) -> Option<Map<String, Value>> {
        self.groups(group_type).remove(key)
    }

    /// All groups of a type.
    pub(crate) fn groups(&self, group_type: &str) -> BTreeMap<String, Map<String, Value>> {
        let held = self.held.lock();
        let index = held.types.iter().position(|known| known == group_type);
        let of_type = held.groups.iter().filter(|((of, _), _)| Some(*of) == index);
        of_type.map(|((_, key), group)| (key.clone(), group.properties.clone())).collect()
    }

    /// Changes a group behind everybody's back; without properties left it is gone.
    pub(crate) fn tamper(&self, group_type: &str, key: &str, change: impl FnOnce(&mut Map<String, Value>)) {
        let mut held = self.held.lock();
        let index = held.index_of(group_type).unwrap();
        let group = held.group(index, key);
        change(&mut group.properties);
        if group.properties.is_empty() {
            held.groups.remove(&(index, key.to_owned()));
        }
    }

    fn batch(&self, headers: &HeaderMap, body: &[u8]) -> Answer {
        let rules = self.rules.lock();
        let refused = |status, words: &str| (status, Value::from(words));
        if body.len() > BODY_BYTES_MAX {
            return refused(413, "payload too large");
        }
        let json_type =
            headers.get("content-type").is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
        let parsed = unpacked(body).ok().and_then(|plain| serde_json::from_slice::<Value>(&plain).ok());
        let (true, Some(parsed)) = (json_type, parsed) else { return refused(400, "failed to decode request") };
        let token = parsed["api_key"].as_str().unwrap_or_default();
        if token.is_empty() || token.starts_with("phx_") || token.len() > 64 || headers.contains_key("authorization") {
            return refused(401, "event submitted with an invalid token");
        }
        let events = parsed["batch"].as_array().cloned().unwrap_or_default();
        if events.is_empty() {
            return refused(400, "request holds no event");
        }
        for event in &events {
            let text = |field: &str| event[field].as_str().unwrap_or_default();
            if text("event").is_empty() || text("distinct_id").is_empty() {
                return refused(400, "event submitted without a distinct_id or name");
            }
            if rules.poison.contains(event["properties"]["$group_key"].as_str().unwrap_or_default()) {
                return refused(400, "failed to parse an event");
            }
        }
        if rules.over_quota {
            return (200, json!({"status": "Ok", "quota_limited": ["events"]}));
        }
        let mut held = self.held.lock();
        for event in events {
            let queued = json!({"uuid": event["uuid"], "distinct_id": event["distinct_id"], "ip": "127.0.0.1",
                "data": event.to_string(), "now": "2026-01-01T00:00:00Z", "sent_at": parsed["sent_at"], "token": token});
            if queued.to_string().len() > rules.event_bytes_max {
                return refused(413, "event too large");
            }
            match (token == TOKEN, rules.lag) {
                // A token that looks like one is not known to be wrong here.
                (false, _) => held.dropped.push("unknown token"),
                (true, true) => held.queued.push(event),
                (true, false) => held.ingest(&event, rules.dedup, rules.group_bytes_max),
            }
        }
        (200, json!({"status": "Ok"}))
    }

    /// Capture v1: the answer for each event, whole requests refused for what is wrong with one.
    fn batch_v1(&self, method: &Method, headers: &HeaderMap, body: &[u8]) -> Answer {
        let mut rules = self.rules.lock();
        let refused = |status, tag: &str| {
            (status, json!({"error": tag, "error_description": tag, "error_uri": "https://posthog.com/docs/api"}))
        };
        if !rules.has_v1 {
            return (404, Value::from("Not Found"));
        }
        if *method != Method::POST {
            return (405, Value::from(""));
        }
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let needed = ["posthog-sdk-info", "posthog-attempt", "posthog-request-id", "posthog-request-timestamp"];
        if needed.iter().any(|name| header(name).is_empty()) {
            return refused(400, "missing_required_headers");
        }
        let token = header("authorization").strip_prefix("Bearer ").unwrap_or_default();
        if !token.starts_with("phc_") {
            return refused(401, "invalid_api_token");
        }
        if !header("content-type").starts_with("application/json") {
            return refused(415, "unsupported_content_type");
        }
        if body.len() > V1_BODY_BYTES_MAX {
            return refused(413, "payload_too_large");
        }
        let packed = body.starts_with(&[0x1f, 0x8b]);
        let plain = unpacked(body).ok().filter(|_| packed == (header("content-encoding") == "gzip"));
        let parsed = plain.and_then(|plain| serde_json::from_slice::<Value>(&plain).ok());
        let Some(parsed) = parsed else { return refused(400, "request_parsing_error") };
        let events = parsed["batch"].as_array().cloned().unwrap_or_default();
        if events.is_empty() || parsed["created_at"].as_str().is_none() {
            return refused(400, "empty_batch");
        }
        let mut ids = BTreeSet::new();
        for event in &events {
            let text = |field: &str| event[field].as_str().unwrap_or_default().trim().to_owned();
            let distinct = text("distinct_id");
            match () {
                () if text("uuid").len() != 36 => return refused(400, "missing_event_uuid"),
                () if !ids.insert(text("uuid")) => return refused(400, "duplicate_event_uuid"),
                () if distinct.is_empty() => return refused(400, "missing_distinct_id"),
                () if distinct.len() > 200 => return refused(400, "distinct_id_too_large"),
                () if ILLEGAL_IDS.contains(&distinct.to_lowercase().as_str()) => {
                    return refused(400, "malformed_distinct_id");
                }
                () => {}
            }
        }
        let mut held = self.held.lock();
        let mut results = Map::new();
        for event in events {
            let key = event["properties"]["$group_key"].as_str().unwrap_or_default();
            let next = rules.of_each.get_mut(key).and_then(VecDeque::pop_front);
            let (result, details) = match next {
                _ if rules.over_quota => ("drop", "billing_limit_exceeded"),
                None if rules.poison.contains(key) => ("drop", "invalid_options"),
                next => next.unwrap_or(("ok", "")),
            };
            let mut entry = json!({"result": result});
            if !details.is_empty() {
                entry["details"] = details.into();
            }
            results.insert(event["uuid"].as_str().unwrap().to_owned(), entry);
            match (result, details) {
                ("ok" | "warning", _) if token != TOKEN => held.dropped.push("unknown token"),
                ("warning", "person_processing_disabled") => held.dropped.push("no person processing"),
                ("ok" | "warning", _) => held.ingest(&event, rules.dedup, rules.group_bytes_max),
                _ => {}
            }
        }
        (200, json!({"results": results}))
    }

    fn rest(&self, method: &Method, project: &str, below: &str, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Answer {
        let rules = self.rules.lock();
        let bearer = headers.get("authorization").and_then(|value| value.to_str().ok());
        let unrouted = || problem(404, "invalid_request", "not_found", "Endpoint not found.", None);
        let action = match below.strip_prefix("groups/") {
            Some(action) => action.trim_end_matches('/'),
            None if below == "groups_types/" => "types",
            None => return unrouted(),
        };
        let (needed, taken) = match action {
            "types" | "find" | "related" | "property_values" => ("group:read", Method::GET),
            "property_definitions" if rules.has_definitions => ("group:read", Method::GET),
            "activity" => ("activity_log:read", Method::GET),
            "" if method == Method::GET => ("group:read", Method::GET),
            "" | "update_property" | "delete_property" => ("group:write", Method::POST),
            "upsert_properties" if rules.has_upsert => ("group:write", Method::POST),
            _ => return unrouted(),
        };
        if bearer != Some(&format!("Bearer {PERSONAL}")) {
            let detail = "Personal API key found in request Authorization header is invalid.";
            return problem(401, "authentication_error", "authentication_failed", detail, None);
        }
        if project != PROJECT {
            return problem(404, "invalid_request", "not_found", "Project not found.", None);
        }
        if *method != taken {
            return problem(
                405,
                "invalid_request",
                "method_not_allowed",
                &format!("Method \"{method}\" not allowed."),
                None,
            );
        }
        if !rules.scopes.contains(needed) {
            let detail = format!("API key missing required scope '{needed}'");
            return problem(403, "authentication_error", "permission_denied", &detail, None);
        }
        let query: BTreeMap<String, String> =
            form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        let sent: Value = serde_json::from_slice(body).unwrap_or_default();
        let mut held = self.held.lock();
        if action == "types" {
            let types = held.types.iter().enumerate();
            return (200, types.map(|(at, name)| json!({"group_type": name, "group_type_index": at})).collect());
        }
        if action == "property_definitions" {
            let mut found: BTreeMap<String, BTreeSet<&String>> = BTreeMap::new();
            for ((index, _), group) in &held.groups {
                found.entry(index.to_string()).or_default().extend(group.properties.keys());
            }
            let named = |names: BTreeSet<&String>| {
                names.iter().map(|name| json!({"name": name, "count": 1})).collect::<Value>()
            };
            return (200, found.into_iter().map(|(index, names)| (index, named(names))).collect());
        }
        if let "" | "upsert_properties" = action
            && *method == Method::POST
        {
            return write(&mut held, &sent, action.is_empty());
        }
        let Some(index) = query.get("group_type_index") else {
            return invalid("group_type_index", "This query parameter is required.");
        };
        let Ok(index) = index.parse::<usize>() else {
            return invalid("group_type_index", "A valid integer is required.");
        };
        let required = |name: &str| query.get(name).filter(|value| !value.is_empty()).cloned();
        match action {
            "" => list(&held, &rules, index, query.get("cursor").map(String::as_str)),
            "related" => match required("id") {
                Some(id) if held.groups.contains_key(&(index, id.clone())) => (
                    200,
                    json!([{"type": "person", "id": "0190", "distinct_ids": ["user-1"], "properties": {"email": format!("a@{id}.example")}},
                           {"type": "group", "id": "site-1", "group_type_index": 0, "properties": {"name": "Site"}}]),
                ),
                Some(_) => (200, json!([])),
                None => invalid("id", "This query parameter is required."),
            },
            "property_values" => {
                let Some(name) = required("key") else { return invalid("key", "This query parameter is required.") };
                let values = held.groups.iter().filter(|((of, _), _)| *of == index);
                let values =
                    values.filter_map(|(_, group)| group.properties.get(&name)).filter(|value| !value.is_null());
                let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let results: Value = values.take(20).map(|value| json!({"name": shown(value), "count": 1})).collect();
                (200, json!({"results": results, "refreshing": false}))
            }
            _ => {
                let Some(key) = required("group_key") else {
                    return invalid("group_key", "This query parameter is required.");
                };
                one(&mut held, &rules, action, index, &key, &sent)
            }
        }
    }
}

/// `POST groups/` and `upsert_properties`.
fn write(held: &mut Held, sent: &Value, create: bool) -> Answer {
    let (Some(index), Some(key)) = (sent["group_type_index"].as_u64(), sent["group_key"].as_str()) else {
        return invalid("group_key", "This field is required.");
    };
    let index = index as usize;
    if index >= held.types.len() {
        return not_found();
    }
    if create && held.groups.contains_key(&(index, key.to_owned())) {
        return invalid("detail", "A group with this key already exists");
    }
    let Value::Object(properties) = kept(sent["group_properties"].clone()) else {
        return invalid("group_properties", "Not a valid object.");
    };
    let group = held.group(index, key);
    group.properties.extend(properties);
    group.activity.push(json!({"created_at": "2026-01-02T00:00:00Z", "activity": "create_group", "user": null,
        "detail": {"name": null, "changes": []}}));
    (if create { 201 } else { 200 }, held.shown(index, key).unwrap())
}

/// What concerns one existing group.
fn one(held: &mut Held, rules: &Rules, action: &str, index: usize, key: &str, sent: &Value) -> Answer {
    let Some(group) = held.groups.get_mut(&(index, key.to_owned())) else { return not_found() };
    let mut log = |name: &str, what: &str| {
        group.activity.insert(
            0,
            json!({"created_at": "2026-01-03T00:00:00Z", "activity": what,
            "user": {"email": "ops@example.com"}, "detail": {"name": name, "changes": []}}),
        );
    };
    match action {
        "activity" => return (200, json!({"results": group.activity, "next": null, "previous": null})),
        "update_property" => {
            let Some(name) = sent["key"].as_str().filter(|name| !name.is_empty()) else {
                return invalid("key", "This field is required.");
            };
            if sent["value"].is_null() {
                return invalid("value", "This field is required.");
            }
            log(name, "update_property");
            group.properties.insert(name.to_owned(), kept(sent["value"].clone()));
        }
        "delete_property" => {
            let Some(name) = sent["$unset"].as_str() else { return invalid("$unset", "This field is required.") };
            if !group.properties.contains_key(name) && rules.fails_at_absent {
                return (
                    500,
                    json!({"type": "server_error", "code": "error", "detail": "A server error occurred.", "attr": null}),
                );
            }
            if !group.properties.contains_key(name) {
                return invalid("$unset", &format!("Property '{name}' does not exist on this group."));
            }
            log(name, "update_property");
            group.properties.remove(name);
        }
        _ => {}
    }
    (200, held.shown(index, key).unwrap())
}

/// By time of creation, a page at a time; the next page's address names a host that only the inside knows.
fn list(held: &Held, rules: &Rules, index: usize, cursor: Option<&str>) -> Answer {
    let mut all: Vec<(u64, &String)> =
        held.groups.iter().filter(|((of, _), _)| *of == index).map(|((_, key), group)| (group.created, key)).collect();
    all.sort_unstable();
    let after = cursor.and_then(|cursor| cursor.parse().ok()).unwrap_or(0);
    let mut rest = all.into_iter().filter(|(created, _)| *created > after).peekable();
    let page: Vec<(u64, &String)> = rest.by_ref().take(rules.page).collect();
    let next = rest.peek().and(page.last()).map(|(created, _)| {
        format!("http://django.internal:8000/api/projects/{PROJECT}/groups/?group_type_index={index}&cursor={created}")
    });
    let results: Value = page.into_iter().filter_map(|(_, key)| held.shown(index, key)).collect();
    (200, json!({"next": next, "previous": null, "results": results}))
}

fn answered(
    vendor: &Vendor,
    method: Method,
    uri: &Uri,
    headers: HeaderMap,
    body: &Bytes,
    usual: impl FnOnce() -> Answer,
) -> Response {
    let fault = vendor.held.lock().script.pop_front().unwrap_or(Fault::None);
    let mut more = Vec::new();
    let (status, answer) = match fault {
        Fault::None => {
            let (status, answer) = usual();
            let plain = answer.as_str().map(str::to_owned);
            (status, plain.unwrap_or_else(|| answer.to_string()))
        }
        Fault::Answer { status, headers, body, apply } => {
            if apply {
                usual();
            }
            more = headers;
            (status, body)
        }
    };
    let received = Received { method, uri: uri.to_string(), headers, body: body.to_vec(), status };
    vendor.held.lock().received.push(received);
    let mut response = answer.into_response();
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in more {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_str(&value).unwrap());
    }
    response
}

async fn batch(State(vendor): State<Vendor>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    answered(&vendor, method, &uri, headers.clone(), &body, || vendor.batch(&headers, &body))
}

async fn batch_v1(State(vendor): State<Vendor>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    answered(&vendor, method.clone(), &uri, headers.clone(), &body, || vendor.batch_v1(&method, &headers, &body))
}

async fn rest(
    State(vendor): State<Vendor>,
    Path((project, below)): Path<(String, String)>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let usual = || vendor.rest(&method, &project, &below, &uri, &headers, &body);
    answered(&vendor, method.clone(), &uri, headers.clone(), &body, usual)
}
