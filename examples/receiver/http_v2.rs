//! What would Amplitude's HTTP V2 API do with `$groupidentify` events? Its own rules: a 400 names the events it is about,
//! an `insert_id` is remembered for seven days, and too many events are throttled or are too many for the day.
//!
//! A request is taken whole or not at all. Where the documentation leaves a choice, this one is strict: a group's event
//! names no user and no device, has an `insert_id`, and stands once in a request.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::http::HeaderMap;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde_json::{Map, Value, json};

use super::{Identification, Rules, Vendor, locked, operations};

pub(super) const PATH: &str = "/2/httpapi";
const EVENTS_MAX: usize = 2_000;
/// Properties under one operator; the official clients send none where there are more.
const PROPERTIES_MAX: usize = 1_024;
/// How long an `insert_id` is remembered.
const REMEMBERED: TimeDelta = TimeDelta::days(7);
/// How long nothing is taken once there were too many events.
const THROTTLED: Duration = Duration::from_secs(30);

/// What is remembered between requests.
#[derive(Default)]
pub(super) struct Memory {
    /// When an `insert_id` was seen, and with what.
    seen: HashMap<String, (DateTime<Utc>, Value)>,
    day: NaiveDate,
    events_today: u64,
    second: i64,
    events_this_second: u64,
    throttled_until: DateTime<Utc>,
}

struct Event {
    identification: Identification,
    insert_id: String,
    whole: Value,
}

/// Fields and the events in which they are wrong.
type Wrong = BTreeMap<String, Vec<usize>>;

type Refusal = (u16, Value);

fn refusal(status: u16, error: &str) -> Refusal {
    (status, json!({"code": status, "error": error}))
}

fn lacking(field: &str) -> Refusal {
    (400, json!({"code": 400, "error": "Request missing required field", "missing_field": field}))
}

impl Vendor {
    /// Checks a request by the rules and carries it out if `apply`.
    pub(super) fn handle_events(&self, rules: &Rules, headers: &HeaderMap, body: &[u8], apply: bool) -> (u16, String) {
        let now = self.clock.now();
        let mut memory = locked(&self.memory);
        let checked = events(rules, headers, body)
            .and_then(|(events, bytes)| memory.admit(rules, now, events.len()).map(|()| (events, bytes)));
        let (events, bytes) = match checked {
            Ok(checked) => checked,
            Err((status, answer)) => {
                let answer = answer.to_string();
                self.tell(rules, status, &answer, body.len(), &[]);
                return (status, answer);
            }
        };
        let count = events.len();
        let answer = json!({"code": 200, "events_ingested": count, "payload_size_bytes": bytes,
            "server_upload_time": now.timestamp_millis()});
        let answer = answer.to_string();
        let mut fresh = Vec::with_capacity(count);
        for Event { identification, insert_id, whole } in events {
            match memory.seen.get(&insert_id) {
                Some((at, said)) if now - *at < REMEMBERED => {
                    self.counts.repeated.fetch_add(1, Ordering::Relaxed);
                    self.counts.misnamed.fetch_add(u64::from(*said != whole), Ordering::Relaxed);
                }
                _ => {
                    if apply {
                        memory.seen.insert(insert_id, (now, whole));
                    }
                    fresh.push(identification);
                }
            }
        }
        self.tell(rules, 200, &answer, body.len(), &fresh);
        if apply {
            memory.events_today += count as u64;
            memory.events_this_second += count as u64;
            self.carry_out(fresh);
        }
        (200, answer)
    }
}

impl Memory {
    /// Whether so many more events are taken now.
    fn admit(&mut self, rules: &Rules, now: DateTime<Utc>, count: usize) -> Result<(), Refusal> {
        if self.day != now.date_naive() {
            (self.day, self.events_today) = (now.date_naive(), 0);
        }
        if self.second != now.timestamp() {
            (self.second, self.events_this_second) = (now.timestamp(), 0);
        }
        let spent = |per: Option<u64>, events: u64| per.is_some_and(|per| events >= per);
        let mut quota = json!({});
        if spent(rules.events_per_day, self.events_today) {
            quota = json!({"": self.events_today});
        } else if spent(rules.events_per_second, self.events_this_second) {
            self.throttled_until = now + THROTTLED;
        } else if now >= self.throttled_until {
            return Ok(());
        }
        Err((
            429,
            json!({"code": 429, "error": "Too many requests for some devices and users",
                "eps_threshold": rules.events_per_second, "throttled_devices": {}, "throttled_users": {},
                "throttled_events": (0..count).collect::<Vec<_>>(),
                "exceeded_daily_quota_users": {}, "exceeded_daily_quota_devices": quota}),
        ))
    }
}

/// The checked events of a request, and its bytes once unpacked.
fn events(rules: &Rules, headers: &HeaderMap, body: &[u8]) -> Result<(Vec<Event>, usize), Refusal> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut unpacked = Vec::new();
    match header("content-encoding") {
        "" => unpacked.extend_from_slice(body),
        "gzip" => {
            let read = flate2::read::GzDecoder::new(body).read_to_end(&mut unpacked);
            read.map_err(|_| refusal(400, "Invalid JSON request body"))?;
        }
        _ => return Err(refusal(415, "Unsupported content encoding")),
    }
    if unpacked.len() > rules.body_bytes_max {
        return Err(refusal(413, "Payload too large"));
    }
    if !header("content-type").starts_with("application/json") {
        return Err(refusal(415, "Unsupported content type"));
    }
    let Ok(Value::Object(mut request)) = serde_json::from_slice(&unpacked) else {
        return Err(refusal(400, "Invalid JSON request body"));
    };
    match request.remove("api_key") {
        Some(Value::String(key)) if rules.api_key.as_ref().is_none_or(|expected| *expected == key) => {}
        Some(Value::String(key)) => return Err(refusal(400, &format!("Invalid API key: {key}"))),
        _ => return Err(lacking("api_key")),
    }
    let Some(Value::Array(items)) = request.remove("events").filter(|events| *events != json!([])) else {
        return Err(lacking("events"));
    };
    request.remove("options");
    if !request.is_empty() {
        return Err(refusal(400, "Unexpected fields"));
    }
    if items.len() > EVENTS_MAX {
        return Err(refusal(413, "Payload too large"));
    }
    let (mut events, mut groups) = (Vec::with_capacity(items.len()), BTreeSet::new());
    let (mut invalid, mut missing) = (Wrong::new(), Wrong::new());
    for (at, item) in items.into_iter().enumerate() {
        let Value::Object(fields) = item else { return Err(refusal(400, "Invalid event JSON")) };
        let event = event(rules, fields, &mut |field, is_missing| {
            let wrong = if is_missing { &mut missing } else { &mut invalid };
            wrong.entry(field.to_owned()).or_default().push(at);
        });
        if let Some(event) = event {
            if !groups.insert(event.identification.group.clone()) {
                return Err(refusal(400, "a group twice in one request"));
            }
            events.push(event);
        }
    }
    if invalid.is_empty() && missing.is_empty() {
        return Ok((events, unpacked.len()));
    }
    Err((
        400,
        json!({"code": 400, "error": "Invalid field values on some events", "missing_field": null,
            "events_with_invalid_fields": invalid, "events_with_missing_fields": missing}),
    ))
}

/// Checks one event; tells `wrong` which fields are, and whether they are missing.
fn event(rules: &Rules, mut fields: Map<String, Value>, wrong: &mut dyn FnMut(&str, bool)) -> Option<Event> {
    let whole = Value::Object(fields.clone());
    let mut sound = true;
    let mut take = |field: &str, right: &dyn Fn(&Value) -> bool| {
        let value = fields.remove(field);
        if !value.as_ref().is_some_and(right) {
            wrong(field, value.is_none());
            sound = false;
        }
        value.unwrap_or_default()
    };
    take("event_type", &|kind| *kind == "$groupidentify");
    take("time", &Value::is_u64);
    let insert_id = take("insert_id", &|id| id.as_str().is_some_and(|id| !id.is_empty()));
    let groups = take("groups", &|groups| {
        let groups = groups.as_object();
        groups.is_some_and(|groups| {
            groups.len() == 1
                && groups
                    .iter()
                    .all(|(kind, group)| !kind.is_empty() && group.as_str().is_some_and(|group| !group.is_empty()))
        })
    });
    let properties = take("group_properties", &|properties| {
        properties.as_object().is_some_and(|properties| {
            properties.values().all(|traits| traits.as_object().is_none_or(|traits| traits.len() <= PROPERTIES_MAX))
                && operations(properties.clone()).is_ok()
        })
    });
    for field in fields.keys() {
        wrong(field, false);
        sound = false;
    }
    let (Value::Object(groups), Value::Object(properties), Value::String(insert_id), true) =
        (groups, properties, insert_id, sound)
    else {
        return None;
    };
    let (kind, group) = groups.into_iter().next()?;
    let group = (kind, group.as_str()?.to_owned());
    if rules.poison.contains(&group.1) {
        wrong("group_properties", false);
        return None;
    }
    let operations = operations(properties).ok()?;
    Some(Event { identification: Identification { group, operations }, insert_id, whole })
}
