//! How does Amplitude's Group Identify API want a change, and what does its answer mean?
//!
//! `POST /groupidentify` takes a form of two fields: `api_key`, and `identification`, the JSON text of an array with one
//! object per group. There is no user, no time and no deduplication key, so only operators that may be repeated are
//! used: `$set`, `$setOnce` and `$unset`. One bad identification refuses the whole request.
//!
//! Rules of ours where the vendor says nothing, or where its own clients disagree:
//!
//! - Nulls inside arrays and nested objects are left out. Amplitude's Python client drops a whole array that holds a
//!   null, and so does its Node client; losing one element beats losing all of them.
//! - An array directly inside an array is refused: both clients drop it silently.
//! - A number that a double cannot hold is refused, nested ones included: the vendor's JSON parser would round it.
//! - Strings of more than 1,024 characters are refused, or cut by `long_strings = "truncate"`; the vendor would cut them,
//!   and the ledger would then remember a value that the destination does not hold.

mod value;

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::reply::{retry_after, words};
use super::{
    Addressed, Applied, Attempt, Destination, Element, Features, Limits, Part, Reply, Request, Route, Verdict,
};
use crate::error::{Error, Kind, Result};
use crate::model::{Change, OnNull, Op};
use crate::secret::Secret;

/// Identifications in a request (Group Identify API, "Considerations").
const IDENTIFICATIONS_MAX: usize = 1_024;
/// Group properties in a request, summed over its identifications (the same page says "per request", and is taken literally).
const PROPERTIES_MAX: usize = 1_024;
/// "1 mb", read in the narrowest way: a million bytes of the encoded body.
const BODY_BYTES_MAX: usize = 1_000_000;
/// Characters in a group's value, a property's name, and (unless cut) a string.
const CHARS_MAX: usize = 1_024;
/// The pause that the sister Identify API asks for after a 429.
const THROTTLED: Duration = Duration::from_secs(15);

/// The body after the key: `[`, and what follows the elements: `]`.
const IDENTIFICATION: &str = "&identification=%5B";
const END: &str = "%5D";
const COMMA: &str = "%2C";
/// The three operator wrappers of an identification, percent-encoded, with commas: 24 + 28 + 26 bytes, and some room.
const OPERATORS_BYTES: usize = 96;

/// Which of Amplitude's two data centres holds the project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Region {
    /// `api2.amplitude.com`.
    #[default]
    Us,
    /// `api.eu.amplitude.com`.
    Eu,
}

/// What happens to a string of more than 1,024 characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LongStrings {
    /// The group is rejected, and the reason names the trait.
    #[default]
    Reject,
    /// The first 1,024 characters are sent.
    Truncate,
}

/// The `[destinations.<name>]` table of `type = "amplitude"`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The project's API key.
    pub api_key: Secret,
    /// The project's region; US when absent.
    #[serde(default)]
    pub region: Option<Region>,
    /// Replaces the region's address, for proxies and tests: `http://127.0.0.1:8321`.
    #[serde(default)]
    pub base_url: Option<String>,
    /// What happens to long strings.
    #[serde(default)]
    pub long_strings: LongStrings,
}

/// Amplitude, for one group type.
pub struct Amplitude {
    url: String,
    api_key: Secret,
    group_type: String,
    long_strings: LongStrings,
    /// `api_key=…&identification=%5B`. Holds the key.
    head: String,
}

impl Amplitude {
    /// The destination that these settings describe, for groups of `group_type`.
    ///
    /// Errors ([`Kind::Config`]): an empty key or group type, a `base_url` that is no plain http(s) address.
    pub fn new(settings: &Settings, group_type: &str) -> Result<Amplitude> {
        let key = settings.api_key.expose();
        if key.trim().is_empty() {
            return Err(
                Error::new(Kind::Config, "`api_key` is empty").advise("set it to the Amplitude project's API key")
            );
        }
        if group_type.is_empty() || group_type.chars().count() > CHARS_MAX {
            return Err(Error::new(Kind::Config, "the group type must have 1 to 1,024 characters")
                .advise("set `type` under `[group]` to the group type's name in Amplitude"));
        }
        let base = match (&settings.base_url, settings.region.unwrap_or_default()) {
            (Some(base), _) => super::base_url(base)?,
            (None, Region::Us) => "https://api2.amplitude.com".to_owned(),
            (None, Region::Eu) => "https://api.eu.amplitude.com".to_owned(),
        };
        let encoded: String = form_urlencoded::byte_serialize(key.as_bytes()).collect();
        Ok(Amplitude {
            url: format!("{base}/groupidentify"),
            api_key: settings.api_key.clone(),
            group_type: group_type.to_owned(),
            long_strings: settings.long_strings,
            head: format!("api_key={encoded}{IDENTIFICATION}"),
        })
    }

    fn says(&self, reply: &Reply) -> String {
        words(reply, &[&self.api_key])
    }
}

/// One trait of a change, by what is done to it.
#[derive(Clone, Copy)]
enum Slot<'a> {
    Set(&'a str, &'a serde_json::Value),
    SetOnce(&'a str, &'a serde_json::Value),
    Unset(&'a str),
}

impl<'a> Slot<'a> {
    fn all(change: &'a Change) -> impl Iterator<Item = Slot<'a>> {
        let set = change.set.iter().map(|(name, value)| Slot::Set(name, value));
        let once = change.set_once.iter().map(|(name, value)| Slot::SetOnce(name, value));
        set.chain(once).chain(change.unset.iter().map(|name| Slot::Unset(name)))
    }

    fn name(self) -> &'a str {
        match self {
            Slot::Set(name, _) | Slot::SetOnce(name, _) | Slot::Unset(name) => name,
        }
    }

    fn put(self, change: &mut Change) {
        match self {
            Slot::Set(name, value) => drop(change.set.insert(name.to_owned(), value.clone())),
            Slot::SetOnce(name, value) => drop(change.set_once.insert(name.to_owned(), value.clone())),
            Slot::Unset(name) => drop(change.unset.insert(name.to_owned())),
        }
    }

    /// An upper bound of its encoded bytes, without encoding: no byte of text becomes more than eight.
    fn bytes_at_most(self) -> usize {
        8 * (self.name().len() + 8)
            + match self {
                Slot::Set(_, value) | Slot::SetOnce(_, value) => value::bytes_at_most(value),
                Slot::Unset(_) => 8,
            }
    }

    /// Its encoded bytes, comma included.
    fn bytes(self, long_strings: LongStrings) -> usize {
        let mut json = Vec::new();
        self.write(&mut json, long_strings);
        form_urlencoded::byte_serialize(&json).map(str::len).sum::<usize>() + COMMA.len()
    }

    fn write(self, out: &mut Vec<u8>, long_strings: LongStrings) {
        value::write_text(out, self.name());
        out.push(b':');
        match self {
            Slot::Set(_, value) | Slot::SetOnce(_, value) => value::write(out, value, long_strings),
            Slot::Unset(_) => out.extend_from_slice(br#""-""#),
        }
    }
}

impl Destination for Amplitude {
    fn name(&self) -> &'static str {
        "amplitude"
    }

    fn features(&self) -> Features {
        Features {
            ops: &[Op::Set, Op::SetOnce],
            // What a JSON null does is not documented, so it is not offered.
            on_null: &[OnNull::Unset, OnNull::Skip],
            delete: false,
            exact_numbers: false,
            objects: true,
            gzip: false,
            user: false,
        }
    }

    fn limits(&self, _: Route) -> Limits {
        let envelope_bytes = self.head.len() + END.len();
        Limits {
            elements_max: IDENTIFICATIONS_MAX,
            traits_max: PROPERTIES_MAX,
            body_bytes_max: BODY_BYTES_MAX,
            element_bytes_max: BODY_BYTES_MAX - envelope_bytes,
            envelope_bytes,
            separator_bytes: COMMA.len(),
        }
    }

    fn parts(&self, addressed: &Addressed) -> Result<Vec<Part>, String> {
        let Addressed { key, change, .. } = addressed;
        if change.delete {
            return Err("Amplitude has no call that deletes a group: set `on_missing` to `keep` or `unset`".to_owned());
        }
        match key.chars().count() {
            0 => return Err("the group's key is empty: give the row a key, or leave it out with `where`".to_owned()),
            1..=CHARS_MAX => {}
            _ => return Err("the group's key has more than 1,024 characters: use a shorter column".to_owned()),
        }
        if change.accumulates() {
            return Err(
                "Amplitude's Group Identify API may apply an `add`, `append` or `prepend` twice: use `set`".to_owned()
            );
        }
        for slot in Slot::all(change) {
            value::check_name(slot.name())?;
            if let Slot::Set(name, value) | Slot::SetOnce(name, value) = slot {
                value::check(value, self.long_strings).map_err(|reason| format!("trait `{name}`: {reason}"))?;
            }
        }
        let twice =
            change.unset.iter().find(|name| change.set.contains_key(*name) || change.set_once.contains_key(*name));
        if let Some(name) = twice.or_else(|| change.set.keys().find(|name| change.set_once.contains_key(*name))) {
            return Err(format!("trait `{name}` is under two operators"));
        }
        if change.is_empty() {
            return Ok(Vec::new());
        }
        let bare = self.element(addressed, &Part { route: 0, change: Arc::default() }).bytes.len() + OPERATORS_BYTES;
        let room = self.limits(0).element_bytes_max.saturating_sub(bare);
        if change.traits_count() <= PROPERTIES_MAX && Slot::all(change).map(Slot::bytes_at_most).sum::<usize>() <= room
        {
            return Ok(vec![Part { route: 0, change: Arc::clone(change) }]);
        }
        let mut parts = vec![Change::default()];
        let mut filled = 0;
        for slot in Slot::all(change) {
            let bytes = slot.bytes(self.long_strings);
            let last = parts.last().map_or(0, Change::traits_count);
            if last == PROPERTIES_MAX || last > 0 && filled + bytes > room {
                parts.push(Change::default());
                filled = 0;
            }
            filled += bytes;
            parts.last_mut().into_iter().for_each(|part| slot.put(part));
        }
        Ok(parts.into_iter().map(|change| Part { route: 0, change: Arc::new(change) }).collect())
    }

    fn element(&self, addressed: &Addressed, part: &Part) -> Element {
        let mut json = br#"{"group_properties":{"#.to_vec();
        let groups: [(&str, Vec<Slot<'_>>); 3] = [
            ("$set", Slot::all(&part.change).filter(|slot| matches!(slot, Slot::Set(..))).collect()),
            ("$setOnce", Slot::all(&part.change).filter(|slot| matches!(slot, Slot::SetOnce(..))).collect()),
            ("$unset", Slot::all(&part.change).filter(|slot| matches!(slot, Slot::Unset(..))).collect()),
        ];
        let mut first = true;
        for (operator, slots) in groups.iter().filter(|(_, slots)| !slots.is_empty()) {
            if !std::mem::take(&mut first) {
                json.push(b',');
            }
            value::write_text(&mut json, operator);
            json.extend_from_slice(b":{");
            for (at, slot) in slots.iter().enumerate() {
                if at > 0 {
                    json.push(b',');
                }
                slot.write(&mut json, self.long_strings);
            }
            json.push(b'}');
        }
        json.extend_from_slice(br#"},"group_type":"#);
        value::write_text(&mut json, &self.group_type);
        json.extend_from_slice(br#","group_value":"#);
        value::write_text(&mut json, &addressed.key);
        json.push(b'}');
        let mut encoded = Vec::with_capacity(json.len() * 2);
        for chunk in form_urlencoded::byte_serialize(&json) {
            encoded.extend_from_slice(chunk.as_bytes());
        }
        encoded.into()
    }

    fn request(&self, _: Route, elements: &[&Element], _: Attempt) -> Request {
        let bytes = elements.iter().map(|element| element.bytes.len() + COMMA.len()).sum::<usize>();
        let mut body = Vec::with_capacity(self.head.len() + bytes + END.len());
        body.extend_from_slice(self.head.as_bytes());
        for (at, element) in elements.iter().enumerate() {
            if at > 0 {
                body.extend_from_slice(COMMA.as_bytes());
            }
            body.extend_from_slice(&element.bytes);
        }
        body.extend_from_slice(END.as_bytes());
        Request {
            method: "POST",
            url: self.url.clone(),
            headers: vec![("content-type", "application/x-www-form-urlencoded".to_owned())],
            body,
            gzip: false,
        }
    }

    fn interpret(&self, _: Route, _: usize, reply: &Reply) -> Verdict {
        let reason = self.says(reply);
        let stop = |advice: &str| Verdict::Stop { reason: reason.clone(), advice: advice.to_owned() };
        match reply.status {
            // The body is plain text (`success`) and promises nothing more than the status does.
            200..=299 => Verdict::DELIVERED,
            300..=399 => stop(
                "check `base_url`: the address answers with a redirect, which is not followed because it would carry the API key elsewhere",
            ),
            400 if speaks_of_the_key(&reply.body) => stop(
                "check the key and the region (a US key on the EU host, or the other way round, is answered like this)",
            ),
            401 | 403 => {
                stop("check the key and the region, and whether a proxy or firewall stands between here and Amplitude")
            }
            402 => stop("check that the Amplitude plan includes the Accounts add-on"),
            404 | 405 => stop("check `base_url`: there is no Group Identify API at this address"),
            407 => stop("give the proxy credentials: it asks for authentication"),
            413 => Verdict::TooLarge { reason },
            429 => {
                let after = retry_after(reply).unwrap_or_default().max(THROTTLED);
                Verdict::Retry { reason, after: Some(after), applied: Applied::No }
            }
            408 => Verdict::Retry { reason, after: retry_after(reply), applied: Applied::Maybe },
            400..=499 => Verdict::Refused { reason },
            // 5xx, and statuses that mean nothing to HTTP.
            _ => Verdict::Retry { reason, after: retry_after(reply), applied: Applied::Maybe },
        }
    }

    /// A GET of the address's root: no key, no data. A key cannot be tried without writing, so none is.
    fn probe(&self) -> Option<Request> {
        let root = self.url.trim_end_matches("groupidentify").to_owned();
        Some(Request { method: "GET", url: root, headers: Vec::new(), body: Vec::new(), gzip: false })
    }

    fn masked(&self, request: &Request) -> Request {
        let mut masked = request.clone();
        if let Some(rest) = request.body.strip_prefix(self.head.as_bytes()) {
            masked.body = [b"api_key=***", IDENTIFICATION.as_bytes(), rest].concat();
        }
        masked
    }
}

/// Whether a 400 is about the API key rather than the data: `Invalid API key: …`, `invalid_api_key`, `missing api_key`.
fn speaks_of_the_key(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body).to_lowercase().replace(['_', '-'], " ");
    [
        "invalid api key",
        "missing api key",
        "unknown api key",
        "api key is invalid",
        "api key is missing",
        "api key not found",
    ]
    .iter()
    .any(|phrase| text.contains(phrase))
}

#[cfg(test)]
mod tests;
