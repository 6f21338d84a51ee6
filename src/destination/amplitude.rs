//! How does Amplitude want a change, and what do its answers mean?
//!
//! Two APIs take group properties. This file speaks the Group Identify API (`api = "groupidentify"`, the default);
//! [`http_v2`] sends the same properties as `$groupidentify` events. What both share is in `properties` (operators) and
//! `value` (values).
//!
//! `POST /groupidentify` takes a form of two fields: `api_key`, and `identification`, the JSON text of an array with one
//! object per group. There is no user, no time and no deduplication key. So `$set`, `$setOnce` and `$unset`, which may be
//! repeated, travel on a route of their own, before `$add`, `$append` and `$prepend`, which are given up when their outcome
//! is unknown. One bad identification refuses the whole request.
//!
//! Rules of ours where the vendor says nothing, or where its own clients disagree:
//!
//! - Nulls inside arrays and nested objects are left out. Amplitude's Python client drops a whole array that holds a
//!   null, and so does its Node client; losing one element beats losing all of them.
//! - An array directly inside an array is refused: both clients drop it silently.
//! - A number that a double cannot hold is refused, nested ones included: the vendor's JSON parser would round it.
//! - Strings of more than 1,024 characters are refused, or cut by `long_strings = "truncate"`; the vendor would cut them,
//!   and the ledger would then remember a value that the destination does not hold.

pub mod http_v2;
mod properties;
mod value;

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::evidence::{self, Body, Said};
use super::response::words;
use super::{
    AddressedChange, Attempt, Destination, Element, Features, MappingFinding, Part, RequestLimits, Route, TraitShape,
    UserRule, Verdict,
};
use crate::error::{Error, Kind, Result};
use crate::io::http::{Request, Response};
use crate::model::{Change, OnNull, Op, Traits};
use crate::secret::Secret;
use properties::{OPERATORS_BYTES, PROPERTIES_MAX};

/// Identifications in a request (Group Identify API, "Considerations").
const IDENTIFICATIONS_MAX: usize = 1_024;
/// Identifications in a request that is not repeated. When Amplitude fails, the groups of every request in flight are held
/// until the operator decides, so that there should be few of them.
const ONCE_IDENTIFICATIONS_MAX: usize = 100;
/// "1 mb", read in the narrowest way: a million bytes of the encoded body.
const BODY_BYTES_MAX: usize = 1_000_000;
/// Characters in a group's value, a property's name, and (unless cut) a string.
const CHARS_MAX: usize = 1_024;
/// The pause that the sister Identify API asks for after a 429.
const THROTTLED: Duration = Duration::from_secs(15);

/// What may be said again, and what must not. Both go to the same address.
const REPEATABLE: Route = 0;
const ONCE: Route = 1;

/// The body after the key: `[`, and what follows the elements: `]`.
const IDENTIFICATION: &str = "&identification=%5B";
const END: &str = "%5D";
const COMMA: &str = "%2C";

/// Which API takes the properties.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Api {
    /// `POST /groupidentify`.
    #[default]
    #[serde(rename = "groupidentify")]
    GroupIdentify,
    /// `POST /2/httpapi`: recognises repetitions, and says which groups it refuses.
    HttpV2,
}

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
    /// Which API takes the properties.
    #[serde(default)]
    pub api: Api,
    /// The project's region; US when absent.
    #[serde(default)]
    pub region: Option<Region>,
    /// Replaces the region's address, for proxies and tests: `http://127.0.0.1:8321`.
    #[serde(default)]
    pub base_url: Option<String>,
    /// What happens to long strings.
    #[serde(default)]
    pub long_strings: LongStrings,
    /// Whether bodies travel compressed; [`Api::HttpV2`] only.
    #[serde(default)]
    pub gzip: bool,
    /// Groups in a request; the API's own limit when absent.
    #[serde(default)]
    pub batch_max: Option<usize>,
}

impl Settings {
    /// Settings with nothing but a key.
    pub fn new(api_key: Secret) -> Settings {
        Settings {
            api_key,
            api: Api::default(),
            region: None,
            base_url: None,
            long_strings: LongStrings::Reject,
            gzip: false,
            batch_max: None,
        }
    }

    /// The address before the API's path, once key and group type were found to be usable.
    fn base(&self, group_type: &str) -> Result<String> {
        if self.api_key.expose().trim().is_empty() {
            return Err(
                Error::new(Kind::Config, "`api_key` is empty").advise("set it to the Amplitude project's API key")
            );
        }
        if group_type.is_empty() || group_type.chars().count() > CHARS_MAX {
            return Err(Error::new(Kind::Config, "the group type must have 1 to 1,024 characters")
                .advise("set `type` under `[group]` to the group type's name in Amplitude"));
        }
        match (&self.base_url, self.region.unwrap_or_default()) {
            (Some(base), _) => super::base_url(base),
            (None, Region::Us) => Ok("https://api2.amplitude.com".to_owned()),
            (None, Region::Eu) => Ok("https://api.eu.amplitude.com".to_owned()),
        }
    }
}

/// The destination that these settings describe, for groups of `group_type`, by whichever API they name.
///
/// Errors ([`Kind::Config`]): as those of [`Amplitude::new`] and [`http_v2::HttpV2::new`].
pub fn open(settings: &Settings, group_type: &str) -> Result<Box<dyn Destination>> {
    Ok(match settings.api {
        Api::GroupIdentify => Box::new(Amplitude::new(settings, group_type)?),
        Api::HttpV2 => Box::new(http_v2::HttpV2::new(settings, group_type)?),
    })
}

/// Amplitude's Group Identify API, for one group type.
pub struct Amplitude {
    url: String,
    api_key: Secret,
    group_type: String,
    long_strings: LongStrings,
    batch_max: usize,
    /// `api_key=…&identification=%5B`. Holds the key.
    head: String,
}

impl Amplitude {
    /// The destination that these settings describe, for groups of `group_type`.
    ///
    /// Errors ([`Kind::Config`]): an empty key or group type, a `base_url` that is no plain http(s) address, compression.
    pub fn new(settings: &Settings, group_type: &str) -> Result<Amplitude> {
        let base = settings.base(group_type)?;
        if settings.gzip {
            return Err(Error::new(
                Kind::Config,
                "`gzip` with the Group Identify API, which takes no compressed requests",
            )
            .advise("remove `gzip`, or set `api = \"http_v2\"`"));
        }
        let encoded: String = form_urlencoded::byte_serialize(settings.api_key.expose().as_bytes()).collect();
        Ok(Amplitude {
            url: format!("{base}/groupidentify"),
            api_key: settings.api_key.clone(),
            group_type: group_type.to_owned(),
            long_strings: settings.long_strings,
            batch_max: settings.batch_max.unwrap_or(IDENTIFICATIONS_MAX),
            head: format!("api_key={encoded}{IDENTIFICATION}"),
        })
    }
}

/// The bytes of a text in a form.
fn encoded_bytes(text: &[u8]) -> usize {
    form_urlencoded::byte_serialize(text).map(str::len).sum()
}

/// What may be said again and what must not, each with its route.
fn shares(change: &Arc<Change>, repeated: &Traits) -> Vec<(Route, Arc<Change>)> {
    if !change.accumulates() {
        return vec![(REPEATABLE, Arc::clone(change))];
    }
    let (mut again, mut once) = ((**change).clone(), Change { set: repeated.clone(), ..Change::default() });
    for op in Op::ALL.iter().copied().filter(|op| op.accumulates()) {
        *once.under(op) = std::mem::take(again.under(op));
    }
    // The idempotent part comes first: when it fails, nothing was accumulated yet.
    let only_repeats = again.traits_count() == repeated.len();
    let again = (!only_repeats).then(|| (REPEATABLE, Arc::new(again)));
    again.into_iter().chain([(ONCE, Arc::new(once))]).collect()
}

impl Destination for Amplitude {
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
            gzip: false,
            user: UserRule::Never,
        }
    }

    fn limits(&self, route: Route) -> RequestLimits {
        let envelope_bytes = self.head.len() + END.len();
        RequestLimits {
            elements_max: self.batch_max.min(if route == ONCE {
                ONCE_IDENTIFICATIONS_MAX
            } else {
                IDENTIFICATIONS_MAX
            }),
            traits_max: PROPERTIES_MAX,
            body_bytes_max: BODY_BYTES_MAX,
            element_bytes_max: BODY_BYTES_MAX - envelope_bytes,
            envelope_bytes,
            separator_bytes: COMMA.len(),
        }
    }

    fn repeatable(&self, route: Route) -> bool {
        route != ONCE
    }

    fn findings(&self, traits: &[TraitShape<'_>]) -> Vec<MappingFinding> {
        let accumulates = traits.iter().any(|mapped| mapped.op.accumulates());
        let remark = MappingFinding {
            about: None,
            error: false,
            what: "Amplitude's Group Identify API cannot tell a repeated `add`, `append` or `prepend` from a new one"
                .to_owned(),
            help: "set `api = \"http_v2\"` at the destination: there Amplitude recognises a repetition by its id"
                .to_owned(),
        };
        accumulates.then_some(remark).into_iter().collect()
    }

    fn parts(&self, addressed: &AddressedChange) -> Result<Vec<Part>, String> {
        properties::check(addressed, self.long_strings)?;
        if addressed.change.is_empty() {
            return Ok(Vec::new());
        }
        let bare = self.element(addressed, &Part { route: REPEATABLE, change: Arc::default() }).bytes.len();
        let room = self.limits(REPEATABLE).element_bytes_max.saturating_sub(bare + OPERATORS_BYTES);
        let mut parts = Vec::with_capacity(1);
        for (route, change) in shares(&addressed.change, &addressed.repeated) {
            let cut = properties::cut(change, &addressed.repeated, room, self.long_strings, encoded_bytes)?;
            parts.extend(cut.into_iter().map(|change| Part { route, change }));
        }
        Ok(parts)
    }

    fn element(&self, addressed: &AddressedChange, part: &Part) -> Element {
        let mut json = br#"{"group_properties":"#.to_vec();
        properties::write(&mut json, &part.change, self.long_strings);
        json.extend_from_slice(br#","group_type":"#);
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

    fn interpret(&self, _: Route, _: usize, response: &Response) -> Verdict {
        by_status(response, words(response, &[&self.api_key]), THROTTLED, &says_success)
    }

    /// A GET of the address's root: no key, no data. A key cannot be tried without writing, so none is.
    fn probe(&self) -> Option<Request> {
        Some(Request::get(self.url.trim_end_matches("groupidentify").to_owned()))
    }

    fn masked(&self, request: &Request) -> Request {
        let mut masked = request.clone();
        if let Some(rest) = request.body.strip_prefix(self.head.as_bytes()) {
            masked.body = [b"api_key=***", IDENTIFICATION.as_bytes(), rest].concat();
        }
        masked
    }
}

/// The Group Identify API's acknowledgement: the word `success`, whatever its content type, or JSON with the code 200 as
/// the sister APIs write it.
fn says_success(body: &Body) -> Said {
    let word = body.json.as_str().unwrap_or(&body.text).eq_ignore_ascii_case("success");
    let code = body.member("code").and_then(Value::as_u64) == Some(200);
    Said::taken_if(word || code && !body.speaks_of_an_error())
}

/// Whether a 429 is about the day rather than the moment, as the HTTP V2 API's page describes it for both.
fn quota_is_used_up(body: &[u8]) -> bool {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    ["exceeded_daily_quota_users", "exceeded_daily_quota_devices"].iter().any(|key| match &answer[*key] {
        Value::Object(members) => !members.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    })
}

/// What an answer means, given what its API's acknowledgement says. After a 429 nothing is sent for `throttled` at least.
fn by_status(response: &Response, reason: String, throttled: Duration, body: &dyn Fn(&Body) -> Said) -> Verdict {
    if response.status == 400 && speaks_of_the_key(&response.body) {
        return Verdict::stop(
            reason,
            "check the key and the region (a US key on the EU host, or the other way round, is answered like this)",
        );
    }
    if response.status == 429 && quota_is_used_up(&response.body) {
        return Verdict::stop(
            reason,
            "run again tomorrow: the daily quota at Amplitude is used up; ask Amplitude for a larger one",
        );
    }
    let asked = response.retry_after();
    let api = evidence::Api {
        vendor: "Amplitude",
        statuses: &[200],
        body,
        address: "`base_url`",
        credentials: "check `api_key` and `region`",
        plan: "check that the Amplitude plan includes the Accounts add-on",
        after: if response.status == 429 { Some(asked.unwrap_or_default().max(throttled)) } else { asked },
    };
    evidence::judge(response, reason, &api)
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
