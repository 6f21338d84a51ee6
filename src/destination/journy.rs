//! How does journy.io's REST API want a change of an account, and what does its answer mean?
//!
//! `POST /accounts/upsert` takes one account: `{"identification":{"accountId":…},"properties":{…}}`, where a null deletes
//! the property, and `DELETE /accounts` takes the identification alone. Both may be repeated. (journy.io's other way in,
//! the Segment-compatible tracking endpoint, wants a user with every call and cannot delete.)
//!
//! What is refused here rather than there: objects, lists of anything but texts that are not empty, and numbers that a
//! double would round. Members (`members`) are not sent: who belongs to an account is not a trait of it.
//!
//! The quota is 5,000 requests in any hour, and counts single accounts. Once an answer says that none is left, nothing is
//! sent until the window has moved: until the answer's reset time if it has one, else for an hour, after which the
//! window holds none of our requests.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use serde::Deserialize;
use serde_json::{Value, json};

use super::evidence::{self, Body, Said};
use super::response::words;
use super::{
    AddressedChange, Attempt, Destination, Element, Features, MappingFinding, Part, RequestLimits, Route, TraitShape,
    UserRule, Verdict,
};
use crate::error::{Error, Kind, Result};
use crate::io::http::{Request, Response};
use crate::model::{Change, OnNull, Op, number};
use crate::secret::Secret;

/// The endpoint that creates and updates.
const UPSERT: Route = 0;
/// The endpoint that deletes.
const DELETE: Route = 1;
/// No limit is documented; an account of more than a megabyte is a mistake.
const BODY_BYTES_MAX: usize = 1_000_000;
/// "Sliding window … per hour".
const WINDOW: Duration = Duration::from_secs(3_600);
/// The pause after a 429 that says nothing about when to come back.
const THROTTLED: Duration = Duration::from_secs(60);
/// Reset times from here on are seconds since 1970; below, seconds from now.
const EPOCH_SECONDS_MIN: f64 = 1_000_000_000.0;

/// The `[destinations.<name>]` table of `type = "journy"`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// An API key with the permission `TrackData`.
    pub api_key: Secret,
    /// Replaces `https://api.journy.io`, for proxies and tests.
    #[serde(default)]
    pub base_url: Option<String>,
}

/// journy.io's accounts.
pub struct Journy {
    base: String,
    api_key: Secret,
    group_type: String,
}

impl Journy {
    /// The destination that these settings describe. journy.io has accounts and no other groups, so the group type's name
    /// goes nowhere.
    ///
    /// Errors ([`Kind::Config`]): a key that cannot be a header, a `base_url` that is no plain http(s) address.
    pub fn new(settings: &Settings, group_type: &str) -> Result<Journy> {
        let key = settings.api_key.expose();
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::new(Kind::Config, "`api_key` is empty or no journy.io key")
                .advise("create a key with the permission TrackData in journy.io under Connections"));
        }
        let base = match &settings.base_url {
            Some(base) => super::base_url(base)?,
            None => "https://api.journy.io".to_owned(),
        };
        Ok(Journy { base, api_key: settings.api_key.clone(), group_type: group_type.to_owned() })
    }

    /// The vendor's words about a refusal: its message and the fields it names, else the body as it is.
    fn says(&self, response: &Response) -> String {
        let answer: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        let fields = answer.pointer("/errors/fields").and_then(Value::as_object);
        let named = fields.into_iter().flatten().map(|(field, problem)| {
            let problem = problem.as_str().map_or_else(|| problem.to_string(), str::to_owned);
            format!("{field}: {problem}")
        });
        let message = answer.get("message").and_then(Value::as_str).filter(|message| !message.is_empty());
        let parts: Vec<String> = message.map(str::to_owned).into_iter().chain(named).collect();
        if parts.is_empty() {
            return words(response, &[&self.api_key]);
        }
        words(&Response { body: parts.join("; ").into_bytes(), ..response.clone() }, &[&self.api_key])
    }
}

/// A property's name as far as it counts: the vendor's Python client lower-cases and trims names, and its specification
/// calls them case-insensitive.
fn plain(name: &str) -> String {
    name.trim().to_lowercase()
}

/// Whether a body has the form of journy.io's responses: a `message`, and a `meta`.
fn describes(body: &Body) -> bool {
    body.member("message").is_some_and(Value::is_string) || body.member("meta").is_some_and(Value::is_object)
}

/// Whether a refusal is about the key's header rather than the account.
fn blames_the_key(response: &Response) -> bool {
    let answer: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let headers = answer.pointer("/errors/parameters/header").and_then(Value::as_object);
    headers.is_some_and(|headers| headers.keys().any(|name| name.eq_ignore_ascii_case("x-api-key")))
}

/// Fails with the reason and the remedy when a property cannot have this value.
fn check(value: &Value) -> Result<(), String> {
    match value {
        Value::Null => {
            Err("a null, which deletes a property at journy.io: set `on_null` to `unset` or `skip`".to_owned())
        }
        Value::Bool(_) | Value::String(_) => Ok(()),
        Value::Number(number) if number::fits_double(number.as_str()) => Ok(()),
        Value::Number(_) => {
            Err("a number that journy.io would round (it keeps 64-bit floats): declare `as = \"string\"`".to_owned())
        }
        Value::Array(items) => {
            if items.iter().all(|item| item.as_str().is_some_and(|text| !text.is_empty())) {
                return Ok(());
            }
            Err("a list with something else than texts that are not empty, which journy.io refuses: cast and filter \
                 its elements with `sql`, or send it `as = \"string\"`"
                .to_owned())
        }
        Value::Object(_) => {
            Err("an object, which journy.io does not take: map its members as traits of their own, or send it \
                 `as = \"string\"`"
                .to_owned())
        }
    }
}

impl Destination for Journy {
    fn name(&self) -> &'static str {
        "journy"
    }

    fn features(&self) -> Features {
        Features {
            ops: &[Op::Set],
            // A null on the wire deletes the property, so it is what `unset` sends and cannot be a value.
            on_null: &[OnNull::Unset, OnNull::Skip],
            delete: true,
            exact_numbers: false,
            objects: false,
            gzip: false,
            user: UserRule::Never,
        }
    }

    fn limits(&self, _: Route) -> RequestLimits {
        RequestLimits {
            elements_max: 1,
            traits_max: usize::MAX,
            body_bytes_max: BODY_BYTES_MAX,
            element_bytes_max: BODY_BYTES_MAX,
            envelope_bytes: 0,
            separator_bytes: 0,
        }
    }

    fn findings(&self, traits: &[TraitShape<'_>]) -> Vec<MappingFinding> {
        let mut found = Vec::new();
        for (at, shape) in traits.iter().enumerate() {
            if let Some(other) = traits[..at].iter().find(|other| plain(other.name) == plain(shape.name)) {
                found.push(MappingFinding {
                    about: Some(shape.name.to_owned()),
                    error: true,
                    what: format!("journy.io takes this name and `{}` for the same", other.name),
                    help: "rename one of them: capitals do not count".to_owned(),
                });
            }
        }
        if !["account", "accounts"].contains(&self.group_type.to_lowercase().as_str()) {
            found.push(MappingFinding {
                about: None,
                error: false,
                what: "journy.io has accounts and no other groups: these are sent as accounts".to_owned(),
                help: "set `type = \"account\"` under `[group]`, and let one mapping only write accounts".to_owned(),
            });
        }
        found
    }

    fn parts(&self, addressed: &AddressedChange) -> Result<Vec<Part>, String> {
        let AddressedChange { key, change, .. } = addressed;
        if key.is_empty() {
            return Err("the group's key is empty: give the row a key, or leave it out with `where`".to_owned());
        }
        if change.is_empty() {
            return Ok(Vec::new());
        }
        if change.delete {
            let change = Arc::new(Change { delete: true, ..Change::default() });
            return Ok(vec![Part { route: DELETE, change }]);
        }
        if change.names().any(|name| name.trim().is_empty()) {
            return Err("a trait has an empty name: rename or remove it".to_owned());
        }
        for (op, name, value) in change.values() {
            if op != Op::Set {
                return Err(format!("trait `{name}`: journy.io has no `{}`: use `set`", op.name()));
            }
            if change.unset.contains(name) {
                return Err(format!("trait `{name}` is set and unset at once: give it one operator"));
            }
            check(value).map_err(|reason| format!("trait `{name}`: {reason}"))?;
        }
        // A trait renamed in its capitals alone is unset under one name and set under the other. In one request the null
        // could win; one after the other the value does, whether or not journy.io tells the names apart.
        let taken: BTreeSet<String> = change.set.keys().map(|name| plain(name)).collect();
        let first: BTreeSet<String> =
            change.unset.iter().filter(|name| taken.contains(&plain(name))).cloned().collect();
        if first.is_empty() {
            return Ok(vec![Part { route: UPSERT, change: Arc::clone(change) }]);
        }
        let rest = Change { unset: change.unset.difference(&first).cloned().collect(), ..Change::clone(change) };
        let along =
            addressed.repeated.iter().filter(|(name, _)| !first.iter().any(|unset| plain(unset) == plain(name)));
        let set = along.map(|(name, value)| (name.clone(), value.clone())).collect();
        let first = Change { set, unset: first, ..Change::default() };
        Ok([first, rest].map(|change| Part { route: UPSERT, change: Arc::new(change) }).into())
    }

    fn element(&self, addressed: &AddressedChange, part: &Part) -> Element {
        let mut body = json!({"identification": {"accountId": addressed.key}});
        if part.route == UPSERT {
            let nulls = part.change.unset.iter().map(|name| (name.clone(), Value::Null));
            let values = part.change.set.iter().map(|(name, value)| (name.clone(), value.clone()));
            body["properties"] = values.chain(nulls).collect();
        }
        body.to_string().into_bytes().into()
    }

    fn request(&self, route: Route, elements: &[&Element], _: Attempt) -> Request {
        let (method, path) = if route == DELETE { ("DELETE", "/accounts") } else { ("POST", "/accounts/upsert") };
        Request {
            method,
            url: format!("{}{path}", self.base),
            headers: vec![
                ("content-type", "application/json".to_owned()),
                ("x-api-key", self.api_key.expose().to_owned()),
            ],
            body: elements.iter().flat_map(|element| element.bytes.iter().copied()).collect(),
            gzip: false,
        }
    }

    fn interpret(&self, route: Route, _: usize, response: &Response) -> Verdict {
        let reason = self.says(response);
        const KEY: &str =
            "check `api_key`: it must be enabled and have the permission TrackData (journy.io → Connections)";
        match response.status {
            400 if blames_the_key(response) => return Verdict::stop(reason, KEY),
            // Newer specifications name it for a disabled key; a firewall's has another form.
            403 if Body::of(response).member("meta").is_some() => return Verdict::stop(reason, KEY),
            // What is to be deleted is not there. Any other 404 to a deletion is one of something else at this address.
            404 if route == DELETE && Body::of(response).member("meta").is_some() => return Verdict::ACCEPTED,
            _ => {}
        }
        let asked = response.retry_after();
        let api = evidence::Api {
            vendor: "journy.io",
            // 201 is what the specification names; its introduction calls every 2xx a success.
            statuses: &[200, 201],
            body: &|body| match route {
                // No body is documented for a deletion.
                DELETE if body.text.is_empty() => Said::Taken(None),
                _ => Said::taken_if(describes(body) && !body.says_no() && !body.speaks_of_an_error()),
            },
            address: "`base_url`",
            credentials: KEY,
            plan: "check the journy.io plan: it asks for payment",
            // Of an empty quota `pause` takes care; this is for a 429 that does not speak of it.
            after: if response.status == 429 { asked.or(Some(THROTTLED)) } else { asked },
        };
        evidence::judge(response, reason, &api)
    }

    fn pause(&self, response: &Response) -> Option<Duration> {
        if response.header("x-ratelimit-remaining")?.trim() != "0" {
            return None;
        }
        let until_reset = || {
            let seconds: f64 =
                response.header("x-ratelimit-reset")?.trim().parse().ok().filter(|at: &f64| at.is_finite())?;
            if seconds < EPOCH_SECONDS_MIN {
                return Duration::try_from_secs_f64(seconds).ok();
            }
            // A time, read against the answer's own clock.
            let now = DateTime::parse_from_rfc2822(response.header("date")?.trim()).ok()?.timestamp();
            Duration::try_from_secs_f64((seconds - now as f64).max(0.0)).ok()
        };
        Some(until_reset().or_else(|| response.retry_after()).unwrap_or(WINDOW).min(WINDOW))
    }

    /// A GET of the address's root: no key, no data.
    fn probe(&self) -> Option<Request> {
        Some(Request::get(format!("{}/", self.base)))
    }

    fn masked(&self, request: &Request) -> Request {
        let mask = |(name, value): &(&'static str, String)| {
            (*name, if *name == "x-api-key" { "***".to_owned() } else { value.clone() })
        };
        Request { headers: request.headers.iter().map(mask).collect(), ..request.clone() }
    }
}

#[cfg(test)]
mod tests;
