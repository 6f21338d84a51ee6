//! Events: how `$groupidentify` is written for `POST /batch/`, and what capture's response means.

use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{AddressedChange, CAPTURE, Element, Part, PostHog, RequestLimits, Verdict, usual_api};
use crate::destination::shared::dedup_id;
use crate::destination::shared::plain_json;
use crate::destination::shared::status::{self, Acknowledgement, ResponseBody};
use crate::io::http::Response;
use crate::model::{Change, PlainDocument, Traits};

/// Events in a request, as PostHog's own Python library sends them. The server has no limit.
const EVENTS_MAX: usize = 100;
/// Bytes of a request, by the same library. The server takes 20 MB.
const BODY_BYTES_MAX: usize = 5 * 1024 * 1024;
/// Bytes of one event as capture writes it to its queue (`kafka_producer_message_max_bytes`).
const EVENT_BYTES_MAX: usize = 1_000_000;
/// Capture wraps an event: token, address, times, and its ids once more.
const WRAPPING_BYTES: usize = 2_048;
/// What a distinct id may have: capture cuts off what is beyond 200 characters, capture v1 rejects more than 200 bytes.
const DISTINCT_ID_MAX: usize = 200;

/// What comes before the events of a body.
pub(super) fn head(api_key: &str) -> String {
    format!(r#"{{"api_key":{},"batch":["#, Value::from(api_key))
}

/// A time as PostHog's Node library writes it: RFC 3339, UTC, milliseconds.
pub(super) fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn tail(sent_at: DateTime<Utc>) -> String {
    format!(r#"],"sent_at":"{}"}}"#, time(sent_at))
}

pub(super) fn limits(head: &str) -> RequestLimits {
    RequestLimits {
        elements_max: EVENTS_MAX,
        traits_max: usize::MAX,
        body_bytes_max: BODY_BYTES_MAX,
        element_bytes_max: EVENT_BYTES_MAX - WRAPPING_BYTES,
        envelope_bytes: head.len() + tail(DateTime::UNIX_EPOCH).len(),
        separator_bytes: 1,
    }
}

pub(super) fn body(head: &str, elements: &[&Element], sent_at: DateTime<Utc>) -> Vec<u8> {
    let events = elements.iter().map(|element| element.bytes.len() + 1).sum::<usize>();
    let mut body = Vec::with_capacity(head.len() + events + 64);
    body.extend_from_slice(head.as_bytes());
    for (at, element) in elements.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&element.bytes);
    }
    body.extend_from_slice(tail(sent_at).as_bytes());
    body
}

/// The change's values as events, each of which fits capture's queue. One event but for huge groups: properties are
/// merged, so it does not matter how many events bring them.
pub(super) fn events(posthog: &PostHog, addressed: &AddressedChange) -> Result<Vec<Part>, String> {
    let set = &addressed.change.set;
    if set.is_empty() {
        return Ok(Vec::new());
    }
    let whole = addressed.change.unset.is_empty();
    let only_sets = || Arc::new(Change { set: set.clone(), ..Change::default() });
    let all = if whole { Arc::clone(&addressed.change) } else { only_sets() };
    let bare = quoted_bytes(&event(posthog, addressed, &Change::default()).bytes) + WRAPPING_BYTES;
    Ok(split(set, &addressed.repeated, EVENT_BYTES_MAX.saturating_sub(bare))?.map_or_else(
        || vec![Part { route: CAPTURE, change: all }],
        |shares| shares.into_iter().map(|change| Part { route: CAPTURE, change: Arc::new(change) }).collect(),
    ))
}

/// Shares of these traits that take at most `room` bytes each as text inside a JSON string, each with those that are
/// `repeated`; nothing when one share holds them all. Fails when a single trait is too large.
pub(super) fn split(set: &Traits, repeated: &Traits, room: usize) -> Result<Option<Vec<Change>>, String> {
    if set.iter().map(|(name, value)| bytes_at_most(value) + 7 * name.len() + 8).sum::<usize>() <= room {
        return Ok(None);
    }
    let member_bytes = |name: &str, value: &Value| {
        let mut json = Vec::new();
        write_text(&mut json, name);
        json.push(b':');
        write(&mut json, value);
        quoted_bytes(&json) + 1
    };
    let along = Change { set: repeated.clone(), ..Change::default() };
    let room = room.saturating_sub(repeated.iter().map(|(name, value)| member_bytes(name, value)).sum());
    let mut shares = vec![along.clone()];
    let mut filled = 0;
    for (name, value) in set.iter().filter(|(name, _)| !repeated.contains_key(*name)) {
        let bytes = member_bytes(name, value);
        if bytes > room {
            return Err(format!(
                "trait `{name}` takes {bytes} bytes; PostHog accepts events of at most 1,000,000: shorten it with `sql`"
            ));
        }
        if filled + bytes > room {
            shares.push(along.clone());
            filled = 0;
        }
        filled += bytes;
        shares.last_mut().into_iter().for_each(|share| drop(share.set.insert(name.clone(), value.clone())));
    }
    Ok(Some(shares))
}

/// An upper bound of a value's bytes as text inside a JSON string: `\u0001` becomes `\\u0001`, seven for one.
fn bytes_at_most(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 6,
        Value::Number(number) => number.as_str().len() + 1,
        Value::String(text) => 7 * text.len() + 5,
        Value::Array(items) => 3 + items.iter().map(|item| 1 + bytes_at_most(item)).sum::<usize>(),
        Value::Object(members) => {
            3 + members.iter().map(|(name, member)| 7 * name.len() + 6 + bytes_at_most(member)).sum::<usize>()
        }
    }
}

/// The bytes of JSON text once it is in a JSON string: capture puts an event into its queue like this.
fn quoted_bytes(json: &[u8]) -> usize {
    json.len() + json.iter().filter(|byte| matches!(byte, b'"' | b'\\')).count()
}

/// A stable id per group, as PostHog's Node library makes it: events of one group stay in one partition and so in order,
/// and no new person appears with every event.
fn distinct_id(group_type: &str, key: &str, by_bytes: bool) -> String {
    let id = format!("${group_type}_{key}");
    if id.len() <= DISTINCT_ID_MAX || !by_bytes && id.chars().count() <= DISTINCT_ID_MAX {
        return id;
    }
    format!("$groupcast_{}", hex::encode(Sha256::digest(id.as_bytes())))
}

/// One `$groupidentify`.
pub(super) fn event(posthog: &PostHog, addressed: &AddressedChange, change: &Change) -> Element {
    let digest = dedup_id::digest(&posthog.group_type, addressed, change);
    event_of(posthog, addressed, digest, |out| write_object(out, &change.set))
}

/// One `$groupidentify` that sets plain values.
pub(super) fn plain_event(posthog: &PostHog, addressed: &AddressedChange, document: &PlainDocument) -> Element {
    let digest = dedup_id::of_plain(&posthog.group_type, addressed, document);
    event_of(posthog, addressed, digest, |out| out.extend_from_slice(document.text.as_bytes()))
}

/// Whether plain values certainly fit into one event, as text inside a JSON string.
pub(super) fn plainly_fits(key: &str, document: &PlainDocument) -> bool {
    7 * (document.text.len() + key.len()) + WRAPPING_BYTES <= EVENT_BYTES_MAX / 2
}

fn event_of(
    posthog: &PostHog,
    addressed: &AddressedChange,
    digest: [u8; 32],
    write_set: impl FnOnce(&mut Vec<u8>),
) -> Element {
    let AddressedChange { key, at, .. } = addressed;
    let group_type = &posthog.group_type;
    let mut out = br#"{"event":"$groupidentify","distinct_id":"#.to_vec();
    write_text(&mut out, &distinct_id(group_type, key, posthog.is_v1()));
    let uuid = dedup_id::uuid(digest);
    out.extend_from_slice(
        format!(r#","uuid":"{uuid}","timestamp":"{}","properties":{{"$group_type":"#, time(*at)).as_bytes(),
    );
    write_text(&mut out, group_type);
    out.extend_from_slice(br#","$group_key":"#);
    write_text(&mut out, key);
    out.extend_from_slice(br#","$group_set":"#);
    write_set(&mut out);
    out.extend_from_slice(
        concat!(
            r#","$lib":"groupcast","$lib_version":""#,
            env!("CARGO_PKG_VERSION"),
            r#"","$geoip_disable":true,"$is_server":true}}"#
        )
        .as_bytes(),
    );
    Element { bytes: out, id: uuid, ..Element::default() }
}

/// Fails when what the group would hold is more than ingestion keeps: it merges the properties, and drops the group's
/// update when they pass the size of a message (`group_upsert_message_size_too_large`), long after the event was accepted.
pub(super) fn check_whole(document: &Traits) -> Result<(), String> {
    let mut json = Vec::new();
    write_object(&mut json, document);
    let (bytes, room) = (quoted_bytes(&json), EVENT_BYTES_MAX - WRAPPING_BYTES);
    if bytes <= room {
        return Ok(());
    }
    let (largest, its) = plain_json::largest(document).unwrap_or_default();
    Err(format!(
        "the group's traits would take {bytes} bytes together; PostHog keeps at most {room}, and drops a larger group after it \
         has accepted the event: shorten `{largest}` ({its} bytes) with `sql`, or leave it out"
    ))
}

/// A text as PostHog stores it: its database knows no NUL.
pub(super) fn without_nul(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "").into() } else { text.into() }
}

/// A text as JSON, without NULs.
fn write_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, &without_nul(text)).expect("writing a string to memory cannot fail");
}

fn write_object(out: &mut Vec<u8>, members: &Traits) {
    out.push(b'{');
    for (at, (name, member)) in members.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_text(out, name);
        out.push(b':');
        write(out, member);
    }
    out.push(b'}');
}

/// A checked value as JSON. Nulls stay, numbers keep their digits.
pub(super) fn write(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(bool) => out.extend_from_slice(if *bool { b"true" } else { b"false" }),
        Value::Number(number) => out.extend_from_slice(number.as_str().as_bytes()),
        Value::String(text) => write_text(out, text),
        Value::Array(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write(out, item);
            }
            out.push(b']');
        }
        Value::Object(members) => write_object(out, members),
    }
}

/// The acknowledgement is `{"status":"Ok"}`, or `{"status":1}` from servers before the one written in Rust. It may name
/// quotas that were passed: those events were dropped.
pub(super) fn interpret(response: &Response, reason: String) -> Verdict {
    if let (200, Some(what)) = (response.status, limited(&response.body)) {
        return Verdict::stop(
            format!("PostHog dropped the events: over the quota for {what}"),
            "raise the project's billing limit in PostHog (Billing → RequestLimits), then run again: nothing was recorded as \
             delivered",
        );
    }
    let taken = |body: &ResponseBody| {
        let status = body.member("status");
        let word = status.and_then(Value::as_str).is_some_and(|status| status.eq_ignore_ascii_case("ok"));
        let one = status.and_then(Value::as_u64) == Some(1);
        Acknowledgement::accepted_if((word || one) && !body.mentions_error())
    };
    let credentials = "check `api_key`: it is the project API key (`phc_…`), not a personal one";
    status::classify(response, reason, &usual_api(response, &taken, "`base_url`", credentials))
}

/// Which quota an accepting response says was exceeded, if any: the events were then dropped.
fn limited(body: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let names: Vec<String> = match answer.get("quota_limited")? {
        Value::Array(items) => {
            items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned)).collect()
        }
        _ => Vec::new(),
    };
    (!names.is_empty()).then(|| names.join(", ").chars().take(200).filter(|char| !char.is_control()).collect())
}
