//! Amplitude's HTTP V2 API: how a change becomes an event, and what its responses mean.
//!
//! `POST /2/httpapi` takes JSON: the key and an array of events. A change of a group is an event called
//! `$groupidentify` without a user or a device, as Amplitude's own clients send it. Two things are better here than at the
//! Group Identify API: Amplitude ignores an event whose `insert_id` it has seen within seven days, so that even `$add` may
//! be repeated, and a 400 says which events it is about.
//!
//! The `insert_id` follows from the group, what is sent, and the beginning of the run that says it. A retry within
//! the run carries the same one. Another run never does: a value that was set, replaced and set again within the seven
//! days, with only lost responses in between, would otherwise be taken for a retry and ignored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::properties::{self, OPERATORS_BYTES};
use super::{AmplitudeSettings, BODY_BYTES_MAX, LongStrings, by_status, value};
use crate::destination::shared::dedup_id;
use crate::destination::shared::error_message::error_message;
use crate::destination::shared::status::{Acknowledgement, ResponseBody};
use crate::destination::{
    AddressedChange, Attempt, Destination, Element, Features, Part, RequestLimits, Route, UserRule, Verdict,
};
use crate::error::Result;
use crate::io::http::{Applied, Request, Response};
use crate::model::{OnNull, Op};
use crate::secret::Secret;

/// Events in a request (HTTP V2 API, "Upload limit").
const EVENTS_MAX: usize = 2_000;
/// The pause that the documentation asks for after a 429.
const THROTTLED: Duration = Duration::from_secs(30);

const MASKED_HEAD: &str = r#"{"api_key":"***","events":["#;
const END: &str = "]}";

/// What an event must have in some projects and no group's event has.
const IDENTITIES: [&str; 2] = ["user_id", "device_id"];
const WANTS_IDENTITY: &str = "use `api = \"groupidentify\"`: this project accepts no event without a user or a device";

/// Amplitude's HTTP V2 API, for one group type.
pub struct HttpV2 {
    url: String,
    api_key: Secret,
    group_type: String,
    long_strings: LongStrings,
    gzip: bool,
    batch_max: usize,
    /// `{"api_key":"…","events":[`. Holds the key.
    head: String,
}

impl HttpV2 {
    /// The destination that these settings describe, for groups of `group_type`.
    ///
    /// Errors ([`Kind::Config`](crate::error::Kind)): an empty key or group type, a `base_url` that is no plain http(s)
    /// address.
    pub fn new(settings: &AmplitudeSettings, group_type: &str) -> Result<HttpV2> {
        let base = settings.base(group_type)?;
        let mut head = br#"{"api_key":"#.to_vec();
        value::write_text(&mut head, settings.api_key.expose());
        head.extend_from_slice(br#","events":["#);
        Ok(HttpV2 {
            url: format!("{base}/2/httpapi"),
            api_key: settings.api_key.clone(),
            group_type: group_type.to_owned(),
            long_strings: settings.long_strings,
            gzip: settings.gzip,
            batch_max: settings.batch_max.unwrap_or(EVENTS_MAX).min(EVENTS_MAX),
            head: String::from_utf8(head).expect("JSON written from text is UTF-8"),
        })
    }

    /// A 400: about us, about some events, or about the request as a whole.
    fn bad_request(&self, elements: usize, response: &Response, answer: &Answer, reason: String) -> Verdict {
        let stop = |advice: &str| Verdict::stop(reason.clone(), advice);
        let named = answer.named();
        let nobody = named.values().flatten().any(|field| IDENTITIES.contains(&field.as_str()));
        match answer.missing_field() {
            Some(field) if IDENTITIES.contains(&field) => return stop(WANTS_IDENTITY),
            Some("api_key") => return stop("set `api_key` to the Amplitude project's API key"),
            _ if nobody => return stop(WANTS_IDENTITY),
            _ if answer.error().is_some_and(|error| error.to_lowercase().contains("invalid request path")) => {
                return stop("check `base_url`: Amplitude's API is not at this address");
            }
            _ => {}
        }
        let told = |fields: &BTreeSet<String>| match fields.is_empty() {
            true => reason.clone(),
            false => {
                let fields: Vec<String> = fields.iter().map(|field| format!("`{field}`")).collect();
                self.api_key.mask(&format!("{reason}: {}", fields.join(", ")))
            }
        };
        let some: Vec<(usize, String)> =
            named.iter().filter(|(at, _)| **at < elements).map(|(at, fields)| (*at, told(fields))).collect();
        match some.first() {
            None => by_status(response, reason, THROTTLED, &|_| Acknowledgement::Undocumented),
            // A project that takes nothing at all must look like one, so a rejection of everything is not taken apart here.
            Some((_, first)) if some.len() == elements => Verdict::rejected(first.clone()),
            Some(_) => Verdict::RejectedSome { elements: some },
        }
    }
}

impl Destination for HttpV2 {
    fn name(&self) -> &'static str {
        "amplitude"
    }

    fn features(&self) -> Features {
        Features {
            ops: Op::ALL,
            // What a JSON null does is not documented, so it is not offered.
            on_null: &[OnNull::Unset, OnNull::Skip],
            delete: false,
            exact_numbers: false,
            objects: true,
            gzip: true,
            user: UserRule::Never,
        }
    }

    fn limits(&self, _: Route) -> RequestLimits {
        let envelope_bytes = self.head.len() + END.len();
        RequestLimits {
            elements_max: self.batch_max,
            // Properties are limited per event, see `properties::PROPERTIES_MAX`.
            traits_max: usize::MAX,
            body_bytes_max: BODY_BYTES_MAX,
            element_bytes_max: BODY_BYTES_MAX - envelope_bytes,
            envelope_bytes,
            separator_bytes: 1,
        }
    }

    fn parts(&self, addressed: &AddressedChange) -> Result<Vec<Part>, String> {
        properties::check(addressed, self.long_strings)?;
        if addressed.change.is_empty() {
            return Ok(Vec::new());
        }
        let bare = self.element(addressed, &Part { route: 0, change: Arc::default() }).bytes.len();
        let room = self.limits(0).element_bytes_max.saturating_sub(bare + OPERATORS_BYTES);
        let cut =
            properties::cut(Arc::clone(&addressed.change), &addressed.repeated, room, self.long_strings, <[u8]>::len)?;
        Ok(cut.into_iter().map(|change| Part { route: 0, change }).collect())
    }

    fn element(&self, addressed: &AddressedChange, part: &Part) -> Element {
        let time = addressed.at.timestamp_millis();
        let insert_id = dedup_id::uuid(dedup_id::digest(&self.group_type, addressed, &part.change));
        let mut json = br#"{"event_type":"$groupidentify","groups":{"#.to_vec();
        value::write_text(&mut json, &self.group_type);
        json.push(b':');
        value::write_text(&mut json, &addressed.key);
        json.extend_from_slice(br#"},"group_properties":"#);
        properties::write(&mut json, &part.change, self.long_strings);
        json.extend_from_slice(format!(r#","insert_id":"{insert_id}","time":{time}}}"#).as_bytes());
        json.into()
    }

    fn request(&self, _: Route, elements: &[&Element], _: Attempt) -> Request {
        let events: Vec<&[u8]> = elements.iter().map(|element| element.bytes.as_slice()).collect();
        let mut body = self.head.clone().into_bytes();
        body.extend_from_slice(&events.join(&b','));
        body.extend_from_slice(END.as_bytes());
        let headers = vec![("content-type", "application/json".to_owned())];
        Request { method: "POST", url: self.url.clone(), headers, body, gzip: self.gzip }
    }

    fn interpret(&self, _: Route, elements: usize, response: &Response) -> Verdict {
        let answer = Answer::read(&response.body);
        let reason = match answer.told() {
            Some(told) => error_message(&Response { body: told.into_bytes(), ..response.clone() }, &[&self.api_key]),
            None => error_message(response, &[&self.api_key]),
        };
        match response.status {
            400 => self.bad_request(elements, response, &answer, reason),
            // Amplitude's own 503 says that nothing was accepted. One of a proxy, which has another form, does not.
            503 if answer.0["code"].as_u64() == Some(503) => {
                Verdict::Retry { reason, after: response.retry_after(), applied: Applied::No }
            }
            _ => by_status(response, reason, THROTTLED, &|body| ingested(body, elements)),
        }
    }

    /// A GET of the address's root: no key, no data. A key cannot be tried without writing, so none is.
    fn probe(&self) -> Option<Request> {
        Some(Request::get(self.url.trim_end_matches("2/httpapi").to_owned()))
    }

    fn masked(&self, request: &Request) -> Request {
        let mut masked = request.clone();
        if let Some(rest) = request.body.strip_prefix(self.head.as_bytes()) {
            masked.body = [MASKED_HEAD.as_bytes(), rest].concat();
        }
        masked
    }

    fn secrets(&self) -> Vec<Secret> {
        vec![self.api_key.clone()]
    }
}

/// The acknowledgement: `{"code":200,"events_ingested":n,…}` with as many events as were sent. Fewer are no delivery:
/// it does not name the missing ones, so the request is cut until each event is counted or alone.
fn ingested(body: &ResponseBody, elements: usize) -> Acknowledgement {
    let count = body.member("events_ingested").and_then(Value::as_u64);
    if body.member("code").and_then(Value::as_u64) != Some(200) || body.mentions_error() && count != Some(0) {
        return Acknowledgement::Undocumented;
    }
    match count {
        None => Acknowledgement::Undocumented,
        Some(0) => Acknowledgement::Rejected(Applied::No),
        Some(count) if count < elements as u64 => Acknowledgement::Rejected(Applied::Maybe),
        Some(_) => Acknowledgement::Accepted(None),
    }
}

/// A response's JSON; null when it has none.
struct Answer(Value);

impl Answer {
    fn read(body: &[u8]) -> Answer {
        Answer(serde_json::from_slice(body).unwrap_or_default())
    }

    fn error(&self) -> Option<&str> {
        self.0["error"].as_str()
    }

    /// The field that the request as a whole lacks.
    fn missing_field(&self) -> Option<&str> {
        self.0["missing_field"].as_str()
    }

    /// What it says, without the lists of events.
    fn told(&self) -> Option<String> {
        let error = self.error()?;
        Some(match self.missing_field() {
            Some(field) => format!("{error}: `{field}`"),
            None => error.to_owned(),
        })
    }

    /// The events it names, with the fields that are wrong with them.
    fn named(&self) -> BTreeMap<usize, BTreeSet<String>> {
        let mut named: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
        let indexes = |list: &Value| -> Vec<usize> {
            let indexes = list.as_array().into_iter().flatten().filter_map(Value::as_u64);
            indexes.filter_map(|index| usize::try_from(index).ok()).collect()
        };
        for key in ["events_with_invalid_fields", "events_with_missing_fields", "events_with_invalid_id_lengths"] {
            for (field, list) in self.0[key].as_object().into_iter().flatten() {
                for index in indexes(list) {
                    named.entry(index).or_default().insert(field.clone());
                }
            }
        }
        for index in indexes(&self.0["silenced_events"]) {
            named.entry(index).or_default();
        }
        named
    }
}

#[cfg(test)]
mod tests;
