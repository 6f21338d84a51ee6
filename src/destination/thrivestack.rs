//! How does ThriveStack's Group API want a change, and what does its answer mean?
//!
//! `POST /api/group` takes a JSON array of groups, each with the user that it is said with; `wire = "single"` writes the
//! one object of the vendor's first documentation instead. The API sets traits, and says nothing about nulls, removal,
//! deletion or repetition: a null is sent as a null, and there is no call for the other two. There is no deduplication
//! key either. A request with an unknown outcome is repeated all the same, because saying the same values twice changes
//! nothing; the run's report counts repetitions.
//!
//! Rules of ours:
//!
//! - `timestamp` is always there, although the server would fill it in: a value read last night is not this morning's.
//! - `context.group_id` and `traits.group_type` are sent unless `legacy_fields = false`. The documentation of 2024 and
//!   2025 required them; today's names them as optional.
//! - Values keep their types. `employees` was text in the first documentation and is a number today: the mapping's `as`
//!   decides, and `check` tells when it disagrees with the wire.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::evidence::{self, Body, Said};
use super::plain_json::{self, moment};
use super::reserved::{self, Folding, Reserved, Wanted, reserved};
use super::response::words;
use super::{
    AddressedChange, Attempt, Destination, Element, Features, MappingFinding, Part, RequestLimits, Route, TraitShape,
    User, UserRule, Verdict,
};
use crate::error::{Error, Kind, Result};
use crate::io::http::{Applied, Request, Response};
use crate::model::{OnNull, Op};
use crate::secret::Secret;

/// Groups in a request (the API's page of 2025; today's names no limit).
const GROUPS_MAX: usize = 1_000;
/// "2 MB" (the same page), read in the narrowest way.
const BODY_BYTES_MAX: usize = 2_000_000;
/// Characters of a warning that are kept.
const WARNING_CHARS_MAX: usize = 200;

const MEMBERS: Wanted = Wanted::Members(&["city", "country", "postal_code", "state", "street"]);
/// Reserved in both documentations, `employees` apart.
const RESERVED: [Reserved; 12] = [
    reserved("account_name", Wanted::Text),
    reserved("account_domain", Wanted::Text),
    reserved("address", MEMBERS),
    reserved("avatar", Wanted::Text),
    reserved("created_at", Wanted::Moment),
    reserved("description", Wanted::Text),
    reserved("email", Wanted::Text),
    reserved("group_type", Wanted::Text),
    reserved("industry", Wanted::Text),
    reserved("phone", Wanted::Text),
    reserved("plan", Wanted::Text),
    reserved("website", Wanted::Text),
];
const EMPLOYEES: Reserved = Reserved {
    name: "employees",
    wanted: Wanted::Number,
    note: "a number today, text in the first documentation, which `wire = \"single\"` follows",
};
const EMPLOYEES_SINGLE: Reserved = Reserved { wanted: Wanted::Text, ..EMPLOYEES };

/// How groups are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wire {
    /// An array of groups: the API since 2025.
    #[default]
    Array,
    /// One object per request: the API's first documentation.
    Single,
}

fn yes() -> bool {
    true
}

/// The `[destinations.<name>]` table of `type = "thrivestack"`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The environment's API key.
    pub api_key: Secret,
    /// Replaces ThriveStack's address.
    #[serde(default)]
    pub base_url: Option<String>,
    /// How groups are written.
    #[serde(default)]
    pub wire: Wire,
    /// Whether `context.group_id` and `traits.group_type` are sent.
    #[serde(default = "yes")]
    pub legacy_fields: bool,
    /// What else stands in every group's `context`: `source`, `device_id`, `session_id`.
    #[serde(default)]
    pub context: Option<toml::Table>,
}

/// ThriveStack, for one group type.
pub struct ThriveStack {
    base: String,
    api_key: Secret,
    group_type: String,
    wire: Wire,
    legacy_fields: bool,
    context: Map<String, Value>,
}

#[derive(Serialize)]
struct Group<'a> {
    #[serde(skip_serializing_if = "Map::is_empty")]
    context: Map<String, Value>,
    group_id: &'a str,
    timestamp: String,
    traits: &'a Map<String, Value>,
    user_id: &'a str,
}

impl ThriveStack {
    /// The destination that these settings describe, for groups of `group_type`.
    ///
    /// Errors ([`Kind::Config`]): a key that is empty or cannot stand in a header, a `base_url` that is no plain http(s)
    /// address, a `context` with a `group_id` of its own.
    pub fn new(settings: &Settings, group_type: &str) -> Result<ThriveStack> {
        let key = settings.api_key.expose();
        if key.trim().is_empty() || !key.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(Error::new(Kind::Config, "`api_key` is empty or cannot stand in a header")
                .advise("set it to the API key of the environment in ThriveStack (Settings → API keys)"));
        }
        let context = match settings.context.as_ref().map(serde_json::to_value) {
            Some(Ok(Value::Object(context))) => context,
            _ => Map::new(),
        };
        if context.contains_key("group_id") {
            return Err(Error::new(Kind::Config, "`context` holds a `group_id`")
                .advise("remove it: every group's own id is sent there"));
        }
        let base = settings.base_url.as_deref().unwrap_or("https://api.app.thrivestack.ai");
        Ok(ThriveStack {
            base: super::base_url(base)?,
            api_key: settings.api_key.clone(),
            group_type: group_type.to_owned(),
            wire: settings.wire,
            legacy_fields: settings.legacy_fields,
            context,
        })
    }
}

impl Destination for ThriveStack {
    fn name(&self) -> &'static str {
        "thrivestack"
    }

    fn features(&self) -> Features {
        Features {
            ops: &[Op::Set],
            on_null: &[OnNull::Null, OnNull::Skip],
            delete: false,
            exact_numbers: false,
            objects: true,
            gzip: false,
            user: UserRule::RequiredKnown,
        }
    }

    fn limits(&self, _: Route) -> RequestLimits {
        let (elements_max, envelope_bytes) = match self.wire {
            Wire::Array => (GROUPS_MAX, 2),
            Wire::Single => (1, 0),
        };
        RequestLimits {
            elements_max,
            traits_max: usize::MAX,
            body_bytes_max: BODY_BYTES_MAX,
            element_bytes_max: BODY_BYTES_MAX - envelope_bytes,
            envelope_bytes,
            separator_bytes: 1,
        }
    }

    fn findings(&self, traits: &[TraitShape<'_>]) -> Vec<MappingFinding> {
        let spec = "ThriveStack's documentation";
        let employees = match self.wire {
            Wire::Array => EMPLOYEES,
            Wire::Single => EMPLOYEES_SINGLE,
        };
        let mut found = reserved::collisions("ThriveStack", Folding::Capitals, traits);
        found.extend(reserved::mistyped(spec, &RESERVED, Folding::Capitals, traits));
        found.extend(reserved::mistyped(spec, &[employees], Folding::Capitals, traits));
        if self.legacy_fields
            && let Some(shape) = traits.iter().find(|shape| is_group_type(shape.name))
        {
            found.push(MappingFinding {
                about: Some(shape.name.to_owned()),
                error: true,
                what: format!("`{}` is sent with every group already, as `[group] type`", shape.name),
                help: "remove the trait, or set `legacy_fields = false` at the destination".to_owned(),
            });
        }
        found
    }

    fn parts(&self, addressed: &AddressedChange) -> Result<Vec<Part>, String> {
        let AddressedChange { key, user, change, .. } = addressed;
        plain_json::check_only_sets("ThriveStack", addressed)?;
        plain_json::check_id("the group's key", key)?;
        match user {
            Some(User::Id(id)) => plain_json::check_id("the user's id", id)?,
            Some(User::Anonymous(_)) => {
                return Err("ThriveStack takes known users only: write `id = …` under `[user]`".to_owned());
            }
            None => {
                return Err("no user: ThriveStack refuses a group without `user_id`; add `[user]` to the mapping, \
                            like `id = \"account:{key}\"`"
                    .to_owned());
            }
        }
        plain_json::check_traits(&change.set)?;
        if self.legacy_fields
            && let Some(name) = change.set.keys().find(|name| is_group_type(name))
        {
            return Err(format!(
                "trait `{name}` is sent with every group already: remove it, or set `legacy_fields = false`"
            ));
        }
        if change.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![Part { route: 0, change: Arc::clone(change) }])
    }

    fn element(&self, addressed: &AddressedChange, part: &Part) -> Element {
        let mut context = self.context.clone();
        let mut more = Map::new();
        if self.legacy_fields {
            context.insert("group_id".to_owned(), Value::String(addressed.key.clone()));
            more = part.change.set.clone();
            more.insert("group_type".to_owned(), Value::String(self.group_type.clone()));
        }
        let group = Group {
            context,
            group_id: &addressed.key,
            timestamp: moment(addressed.at),
            traits: if self.legacy_fields { &more } else { &part.change.set },
            user_id: addressed.user.as_ref().map_or("", plain_json::user_id),
        };
        serde_json::to_vec(&group).expect("writing JSON values to memory cannot fail").into()
    }

    fn request(&self, _: Route, elements: &[&Element], _: Attempt) -> Request {
        let mut body = Vec::with_capacity(elements.iter().map(|element| element.bytes.len() + 1).sum::<usize>() + 1);
        let array = self.wire == Wire::Array;
        if array {
            body.push(b'[');
        }
        for (at, element) in elements.iter().enumerate() {
            if at > 0 {
                body.push(b',');
            }
            body.extend_from_slice(&element.bytes);
        }
        if array {
            body.push(b']');
        }
        let headers =
            vec![("content-type", "application/json".to_owned()), ("x-api-key", self.api_key.expose().to_owned())];
        Request { method: "POST", url: format!("{}/api/group", self.base), headers, body, gzip: false }
    }

    fn interpret(&self, _: Route, _: usize, response: &Response) -> Verdict {
        let reason = words(response, &[&self.api_key]);
        let body = |body: &Body| match body.member("success") {
            Some(Value::Bool(true)) if !body.speaks_of_an_error() => Said::Taken(warning(&body.json, &self.api_key)),
            Some(Value::Bool(false)) => Said::Refused(Applied::No),
            _ => Said::Foreign,
        };
        let api = evidence::Api {
            vendor: "ThriveStack",
            statuses: &[200],
            body: &body,
            address: "`base_url`",
            credentials: "check `api_key`: it must be the environment's API key (Settings → API keys)",
            plan: "check the ThriveStack plan: it asks for payment",
            after: response.retry_after(),
        };
        evidence::judge(response, reason, &api)
    }

    /// A GET of the server's root: no key, no data.
    fn probe(&self) -> Option<Request> {
        Some(Request::get(format!("{}/", self.base)))
    }

    fn masked(&self, request: &Request) -> Request {
        let mut masked = request.clone();
        for (_, value) in masked.headers.iter_mut().filter(|(name, _)| *name == "x-api-key") {
            *value = "***".to_owned();
        }
        masked
    }
}

fn is_group_type(name: &str) -> bool {
    Folding::Capitals.fold(name) == "group_type"
}

/// The answer's `warnings`: texts, or objects with a message. Their ids differ from answer to answer and are left out,
/// so that equal warnings are counted together.
fn warning(answer: &Value, key: &Secret) -> Option<String> {
    let warnings = answer.get("warnings")?.as_array()?;
    let text = |warning: &Value| match warning {
        Value::String(text) => text.clone(),
        Value::Object(members) => ["message", "warning", "description"]
            .iter()
            .find_map(|name| members.get(*name)?.as_str())
            .map_or_else(|| warning.to_string(), str::to_owned),
        other => other.to_string(),
    };
    let first = key.mask(&text(warnings.first()?)).replace(char::is_control, " ");
    let mut kept: String = first.chars().take(WARNING_CHARS_MAX).collect();
    if kept.len() < first.len() {
        kept.push('…');
    }
    Some(match warnings.len() {
        1 => kept,
        count => format!("{kept} (and {} more in the same answer)", count - 1),
    })
}

#[cfg(test)]
mod tests;
