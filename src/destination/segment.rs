//! How do Segment, and the vendors that speak its protocol, want a change, and what do their answers mean?
//!
//! A change is one `group` message: `groupId`, a user, and as `traits` the values that changed. Messages travel together
//! to a batch endpoint, or one by one where a vendor has none. What differs from vendor to vendor is a row of
//! `preset.rs`, and every field of the row can be set in the configuration.
//!
//! The protocol replaces values and keeps what is not mentioned. A null replaces like any other value; nothing removes a
//! trait, and nothing deletes a group. What it deliberately is not: a client for events (`track`, `identify`), and a
//! judge of delivery. Segment answers 200 to a wrong key, to a message without a user and to a batch of too many
//! messages, and drops them all; so whatever can be known beforehand is checked here, and the rest is documented.
//!
//! Rules of ours:
//!
//! - A message above the vendor's limit is refused, never cut or split: to many tools behind Segment the last group call
//!   is a statement of its own.
//! - `context` and `integrations` are the configuration's and equal in all messages; nothing about a group stands there.
//! - `messageId` follows from the change (see `dedup.rs`), so a vendor that remembers ids drops what we repeat. Vendors
//!   that do not are told the same values twice, which changes nothing.
//! - The group type is not sent, since the protocol has none. It counts in `messageId`, and in the ledger.

mod downstream;
mod preset;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use serde::Serialize;
use serde_json::Value;

use self::downstream::Tool;
use self::preset::{Auth, Preset, base64, preset};
pub use self::settings::{Settings, ShownBy, Wants, Wire};
use self::settings::{auth, context, headers, is_header_value, json};
use super::evidence;
use super::plain_json::{self, moment};
use super::reserved::{self, Folding, Reserved, Wanted, reserved};
use super::response::words;
use super::{
    AddressedChange, Attempt, Destination, Element, Features, MappingFinding, Part, RequestLimits, Route, TraitShape,
    User, UserRule, Verdict, dedup,
};
use crate::error::{Error, Kind, Result};
use crate::io::http::{Applied, Request, Response};
use crate::model::document::Traits;
use crate::model::{OnNull, Op};
use crate::secret::Secret;

/// What a batch's body starts with; the moment of 24 bytes and [`SENT_AT_END`] follow.
const SENT_AT: &str = r#"{"sentAt":""#;
const SENT_AT_END: &str = r#"","#;
const MOMENT_BYTES: usize = 24;
const BATCH: &str = r#""batch":["#;
const BATCH_END: &str = "]}";

/// How the group spec compares names ("traits are case-insensitive", `createdAt` and `created_at`).
const FOLDING: Folding = Folding::CapitalsAndUnderscores;

/// The group spec's reserved traits.
const RESERVED: [Reserved; 13] = [
    reserved("address", Wanted::Members(&["city", "country", "postalCode", "state", "street"])),
    reserved("avatar", Wanted::Text),
    reserved("createdAt", Wanted::Moment),
    reserved("description", Wanted::Text),
    reserved("email", Wanted::Text),
    Reserved {
        name: "employees",
        wanted: Wanted::Number,
        note: "its table says string, its samples send a number, and tools compare it as one",
    },
    reserved("id", Wanted::Text),
    reserved("industry", Wanted::Text),
    reserved("name", Wanted::Text),
    reserved("phone", Wanted::Text),
    reserved("website", Wanted::Text),
    reserved("plan", Wanted::Text),
    // Only journy.io's, and last: the others leave it out.
    reserved("status", Wanted::Word(&["lead", "trial", "trial_expired", "paying", "churn"])),
];

/// A server that speaks Segment's protocol, for one group type.
pub struct Segment {
    preset: Preset,
    base: String,
    url: String,
    group_type: String,
    key: Secret,
    /// What the key became for its header; as secret as the key.
    shown_key: Secret,
    /// Headers that may be shown.
    headers: Vec<(&'static str, String)>,
    /// Headers that may not.
    secret_headers: Vec<(&'static str, String)>,
    /// `"writeKey":"…",` or nothing.
    key_field: String,
    /// What follows at the top of a batch, `"batch":[` included; nothing where messages travel alone.
    batch_head: String,
    success: Vec<u16>,
    context: Value,
    integrations: Option<Value>,
    /// The tools behind it, as configured; nothing where that is not said.
    downstream: Option<Vec<&'static Tool>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    anonymous_id: Option<&'a str>,
    context: &'a Value,
    group_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    integrations: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
    timestamp: String,
    traits: &'a Traits,
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
}

impl Segment {
    /// The destination that these settings describe, for groups of `group_type`.
    ///
    /// Errors ([`Kind::Config`]): an unknown preset, an address that is missing or odd, a key that cannot be shown or is
    /// shown nowhere, a header that is none.
    pub fn new(settings: &Settings, group_type: &str) -> Result<Segment> {
        let wrong = |what: String, advice: &str| Error::new(Kind::Config, what).advise(advice);
        let name = settings.preset.as_deref().unwrap_or("segment");
        let mut row = *preset(name).ok_or_else(|| {
            wrong(format!("there is no preset `{name}`"), &format!("use one of {}", preset_names().join(", ")))
        })?;
        let key = settings.write_key.expose();
        if key.trim().is_empty() {
            return Err(wrong("`write_key` is empty".to_owned(), &format!("set it to {}", row.key_is)));
        }
        let base = settings.base_url.as_deref().or(row.base_url).ok_or_else(|| {
            let what = format!("preset `{name}` needs a `base_url`");
            wrong(what, "write the server's address: `base_url = \"https://dataplane.example.com\"`")
        })?;
        let base = super::base_url(base)?;
        row.single = settings.wire.map_or(row.single, |wire| wire == Wire::Single);
        let (path_name, path) = match row.single {
            true => ("group_path", settings.group_path.as_deref().or(row.group_path)),
            false => ("batch_path", settings.batch_path.as_deref().or(row.batch_path)),
        };
        let path = path.ok_or_else(|| {
            let what = format!("preset `{name}` has no `{path_name}`");
            wrong(what, "write it, or choose the other `wire`: `batch` or `single`")
        })?;
        if path.contains(['?', '#']) || path.contains(char::is_whitespace) {
            return Err(wrong(format!("`{path_name}` is no path"), "write it like `/v1/batch`, without a query"));
        }
        row.auth = auth(settings, row.auth)?;
        row.key_in_body = settings.key_in_body.unwrap_or(row.key_in_body);
        row.event_bytes_max = settings.event_bytes_max.unwrap_or(row.event_bytes_max);
        row.batch_bytes_max = settings.batch_bytes_max.unwrap_or(row.batch_bytes_max);
        row.batch_count_max = settings.batch_count_max.unwrap_or(row.batch_count_max);
        row.gzip = settings.gzip.unwrap_or(row.gzip);
        row.message_id = settings.message_id.unwrap_or(row.message_id);
        row.whole_batch_fails = settings.whole_batch_fails.unwrap_or(row.whole_batch_fails);
        row.user = match settings.user {
            Some(Wants::Required) => UserRule::Required,
            Some(Wants::Optional) => UserRule::Optional,
            None => row.user,
        };
        if row.auth == Auth::None && !row.key_in_body {
            let advice = "choose an `auth`, or set `key_in_body = true`";
            return Err(wrong("`write_key` would be sent nowhere".to_owned(), advice));
        }
        let shown_key = match row.auth {
            Auth::Basic => base64(format!("{key}:").as_bytes()),
            _ => key.to_owned(),
        };
        if row.auth != Auth::None && !is_header_value(&shown_key) {
            return Err(wrong("`write_key` cannot stand in a header".to_owned(), "look for a line break in it"));
        }
        let mut secret_headers = match row.auth {
            Auth::Basic | Auth::BasicRaw => vec![("authorization", format!("Basic {shown_key}"))],
            Auth::Bearer => vec![("authorization", format!("Bearer {shown_key}"))],
            Auth::Header(name) => vec![(name, shown_key.clone())],
            Auth::None => Vec::new(),
        };
        let configured = headers(settings.headers.as_ref())?;
        let own = row.headers.iter().filter(|(name, _)| configured.iter().all(|(other, _)| other != name));
        let mut headers = vec![("content-type", "application/json".to_owned())];
        headers.extend(own.map(|(name, value)| (*name, (*value).to_owned())));
        secret_headers.retain(|(name, _)| configured.iter().all(|(other, _)| other != name));
        secret_headers.extend(configured);
        let context = context(settings.context.as_ref())?;
        let integrations = settings.integrations.as_ref().map(|table| json(table, "integrations")).transpose()?;
        let key_field = match row.key_in_body {
            true => format!("\"writeKey\":{},", Value::String(key.to_owned())),
            false => String::new(),
        };
        let batch_head = match (row.single, row.batch_context) {
            (true, _) => String::new(),
            (false, false) => BATCH.to_owned(),
            (false, true) => {
                let integrations =
                    integrations.as_ref().map(|value| format!("\"integrations\":{value},")).unwrap_or_default();
                format!("\"context\":{context},{integrations}{BATCH}")
            }
        };
        let tools = settings.downstream.as_deref().map(downstream::tools).transpose().map_err(|name| {
            let known: Vec<&str> = downstream::TOOLS.iter().map(|tool| tool.name).collect();
            let what = format!("`downstream` names `{name}`, of which nothing is known here");
            wrong(what, &format!("leave it out; known are {}", known.join(", ")))
        })?;
        Ok(Segment {
            downstream: tools,
            url: format!("{base}/{}", path.trim_start_matches('/')),
            base,
            group_type: group_type.to_owned(),
            key: settings.write_key.clone(),
            shown_key: Secret::new(shown_key),
            headers,
            secret_headers,
            key_field,
            batch_head,
            success: settings.success_status.map_or_else(|| row.success.to_vec(), |status| vec![status]),
            context,
            integrations,
            preset: row,
        })
    }

    fn says(&self, response: &Response) -> String {
        let mut secrets = vec![&self.key, &self.shown_key];
        let configured: Vec<Secret> = self.secret_headers.iter().map(|(_, value)| Secret::new(value.clone())).collect();
        secrets.extend(&configured);
        words(response, &secrets)
    }

    /// The body before the elements: `{"sentAt":"…","writeKey":"…","batch":[`.
    fn head(&self, sent_at: &str) -> String {
        format!("{SENT_AT}{sent_at}{SENT_AT_END}{}{}", self.key_field, self.batch_head)
    }
}

/// What stands behind a destination, as far as its settings tell.
#[derive(Debug, serde::Deserialize)]
pub struct Behind {
    preset: Option<String>,
    downstream: Option<String>,
}

impl Behind {
    /// Traits that the calls of a mapping should all have: see `downstream.rs`.
    pub fn needed_in_every_call(&self) -> Vec<&'static str> {
        let Some(preset) = preset(self.preset.as_deref().unwrap_or("segment")) else { return Vec::new() };
        let tools = self.downstream.as_deref().and_then(|list| downstream::tools(list).ok());
        downstream::needed(preset, tools.as_deref())
    }
}

/// The names of all presets.
pub(crate) fn preset_names() -> Vec<&'static str> {
    preset::PRESETS.iter().map(|preset| preset.name).collect()
}

impl Destination for Segment {
    fn name(&self) -> &'static str {
        "segment"
    }

    fn features(&self) -> Features {
        Features {
            ops: &[Op::Set],
            on_null: &[OnNull::Null, OnNull::Skip],
            delete: false,
            exact_numbers: false,
            objects: true,
            gzip: self.preset.gzip,
            user: self.preset.user,
        }
    }

    fn limits(&self, _: Route) -> RequestLimits {
        let head = SENT_AT.len() + MOMENT_BYTES + SENT_AT_END.len() + self.key_field.len() + self.batch_head.len();
        let row = &self.preset;
        if row.single {
            // The moment and the key join the message itself, of which one brace is the element's.
            let envelope_bytes = head - 1;
            return RequestLimits {
                elements_max: 1,
                traits_max: usize::MAX,
                body_bytes_max: row.event_bytes_max,
                element_bytes_max: row.event_bytes_max.saturating_sub(envelope_bytes),
                envelope_bytes,
                separator_bytes: 1,
            };
        }
        RequestLimits {
            elements_max: row.batch_count_max,
            traits_max: usize::MAX,
            body_bytes_max: row.batch_bytes_max,
            element_bytes_max: row.event_bytes_max,
            envelope_bytes: head + BATCH_END.len(),
            separator_bytes: 1,
        }
    }

    fn findings(&self, traits: &[TraitShape<'_>]) -> Vec<MappingFinding> {
        let spec = if self.preset.status_words { "journy.io's group spec" } else { "the group spec" };
        let count = RESERVED.len() - usize::from(!self.preset.status_words);
        let mut found = reserved::collisions(self.preset.vendor, FOLDING, traits);
        found.extend(reserved::mistyped(spec, &RESERVED[..count], FOLDING, traits));
        if let Some(tool) = self.preset.tool {
            found.extend(tool.findings(true, traits));
        }
        for tool in self.downstream.iter().flatten() {
            found.extend(tool.findings(false, traits));
        }
        if self.preset.passes_on && self.downstream.is_none() && !traits.iter().any(|shape| shape.always) {
            found.push(downstream::nothing_always(self.preset.vendor));
        }
        found
    }

    fn parts(&self, addressed: &AddressedChange) -> Result<Vec<Part>, String> {
        let AddressedChange { key, user, change, .. } = addressed;
        let vendor = self.preset.vendor;
        plain_json::check_only_sets(vendor, addressed)?;
        plain_json::check_id("the group's key", key)?;
        match user {
            Some(user) => plain_json::check_id("the user's id", plain_json::user_id(user))?,
            None if self.preset.user == UserRule::Optional => {}
            None => {
                return Err(format!(
                    "no user: {vendor} drops a group call without one, or refuses its whole batch; add `[user]` to the mapping"
                ));
            }
        }
        plain_json::check_traits(&change.set)?;
        for tool in self.preset.tool.into_iter().chain(self.downstream.iter().flatten().copied()) {
            tool.refuse(key, change.set.keys())?;
        }
        if change.is_empty() {
            return Ok(Vec::new());
        }
        let part = Part { route: 0, change: Arc::clone(change) };
        let room = self.limits(0).element_bytes_max;
        let bare = self.element(addressed, &Part { route: 0, change: Arc::default() }).bytes.len();
        if bare + plain_json::bytes_at_most(&change.set) > room {
            let bytes = self.element(addressed, &part).bytes.len();
            if bytes > room {
                let (largest, its) = plain_json::largest(&change.set).unwrap_or_default();
                return Err(format!(
                    "the group call takes {bytes} bytes; {vendor} takes at most {room} and may drop a larger one silently: \
                     shorten `{largest}` ({its} bytes) with `sql`, or leave it out"
                ));
            }
        }
        Ok(vec![part])
    }

    fn element(&self, addressed: &AddressedChange, part: &Part) -> Element {
        let AddressedChange { key, user, at, .. } = addressed;
        let message_id = || dedup::uuid(dedup::digest(&self.group_type, addressed, &part.change));
        let message = Message {
            anonymous_id: match user {
                Some(User::Anonymous(id)) => Some(id),
                _ => None,
            },
            context: &self.context,
            group_id: key,
            integrations: self.integrations.as_ref(),
            message_id: self.preset.message_id.then(message_id),
            timestamp: moment(*at),
            traits: &part.change.set,
            r#type: "group",
            user_id: match user {
                Some(User::Id(id)) => Some(id),
                _ => None,
            },
        };
        serde_json::to_vec(&message).expect("writing JSON values to memory cannot fail").into()
    }

    fn request(&self, _: Route, elements: &[&Element], attempt: Attempt) -> Request {
        let mut body = self.head(&moment(attempt.at)).into_bytes();
        body.reserve(elements.iter().map(|element| element.bytes.len() + 1).sum::<usize>() + BATCH_END.len());
        if self.preset.single {
            // The message is an object and never empty, so its members follow ours.
            elements.iter().for_each(|element| body.extend_from_slice(element.bytes.get(1..).unwrap_or_default()));
        } else {
            for (at, element) in elements.iter().enumerate() {
                if at > 0 {
                    body.push(b',');
                }
                body.extend_from_slice(&element.bytes);
            }
            body.extend_from_slice(BATCH_END.as_bytes());
        }
        let headers = self.headers.iter().chain(&self.secret_headers).cloned().collect();
        Request { method: "POST", url: self.url.clone(), headers, body, gzip: self.preset.gzip }
    }

    fn interpret(&self, _: Route, _: usize, response: &Response) -> Verdict {
        let reason = self.says(response);
        match response.status {
            400 if !self.preset.whole_batch_fails && speaks_of_size(&response.body) => {
                return Verdict::TooLarge { reason };
            }
            // The official clients repeat both; 460 is a load balancer's "the client went away".
            410 | 460 => return Verdict::Retry { reason, after: asked(response), applied: Applied::Maybe },
            _ => {}
        }
        let vendor = self.preset.vendor;
        let credentials = format!("check `write_key`: it must be {}, of a source that is enabled", self.preset.key_is);
        let plan = format!("check the {vendor} plan: it asks for payment");
        let expected: Vec<String> = self.success.iter().map(u16::to_string).collect();
        let address = match response.status {
            200..=299 if !self.success.contains(&response.status) => format!(
                "`base_url` and `preset` ({vendor} answers {} to what it takes; `success_status` sets another one)",
                expected.join(" or ")
            ),
            _ => "`base_url` and `preset`".to_owned(),
        };
        let api = evidence::Api {
            vendor,
            statuses: &self.success,
            body: &|body| self.preset.acknowledges.says(body),
            address: &address,
            credentials: &credentials,
            plan: &plan,
            after: asked(response),
        };
        evidence::judge(response, reason, &api)
    }

    /// A GET of the server's root: no key, no data. A key cannot be tried without writing, and Segment would say yes to
    /// any, so none is.
    fn probe(&self) -> Option<Request> {
        Some(Request::get(format!("{}/", self.base)))
    }

    fn masked(&self, request: &Request) -> Request {
        let mut masked = request.clone();
        for (name, value) in &mut masked.headers {
            if self.secret_headers.iter().any(|(secret, _)| secret == name) {
                *value = "***".to_owned();
            }
        }
        let at = SENT_AT.len() + MOMENT_BYTES + SENT_AT_END.len();
        if !self.key_field.is_empty()
            && masked.body.get(at..at + self.key_field.len()) == Some(self.key_field.as_bytes())
        {
            masked.body.splice(at..at + self.key_field.len(), *br#""writeKey":"***","#);
        }
        masked
    }
}

/// Whether a 400 is about the request's size.
fn speaks_of_size(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body).to_lowercase();
    ["too large", "too big", "exceeds max", "exceeded max", "size limit", "maximum size"]
        .iter()
        .any(|phrase| text.contains(phrase))
}

/// How long the answer asks us to wait: the longer of `Retry-After` and `X-RateLimit-Reset`, which holds seconds, or, where
/// a proxy follows the other custom, a Unix time, read against the answer's own `Date`.
fn asked(response: &Response) -> Option<Duration> {
    const YEAR_SECONDS: u64 = 31_536_000;
    let reset = response.header("x-ratelimit-reset").and_then(|value| value.trim().parse::<u64>().ok());
    let reset = reset.and_then(|value| {
        if value < YEAR_SECONDS {
            return Some(Duration::from_secs(value));
        }
        let now = DateTime::parse_from_rfc2822(response.header("date")?.trim()).ok()?;
        Some(Duration::from_secs(value.saturating_sub(u64::try_from(now.timestamp()).ok()?)))
    });
    response.retry_after().max(reset)
}

#[cfg(test)]
mod tests;
