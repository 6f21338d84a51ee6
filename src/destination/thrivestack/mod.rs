//! ThriveStack: how a change is encoded for its Group API, and what the responses mean.
//!
//! `POST /api/group` takes a JSON array of groups, each with a user; `wire = "single"` writes the
//! one object of the vendor's first documentation instead. The API sets traits, and says nothing about nulls, removal,
//! deletion or retry: a null is sent as a null, and there is no call for the other two. There is no deduplication
//! key either. A request with an unknown outcome is repeated all the same, because sending the same values twice changes
//! nothing; the run's report counts retries.
//!
//! Rules of ours:
//!
//! - `timestamp` is always there, although the server would fill it in: a value read last night is not this morning's.
//! - `context.group_id` and `traits.group_type` are sent unless `legacy_fields = false`. The documentation of 2024 and
//!   2025 required them; today's names them as optional.
//! - Values keep their types. `employees` was text in the first documentation and is a number today: the mapping's `as`
//!   decides, and `check` warns when it disagrees with the API.

mod encode;
mod response;
mod settings;
use crate::destination::DestinationType;
use crate::destination::shared::settings::base_url;
use crate::model::setting::{Setting, SettingValues};
use encode::is_group_type;
pub use settings::{ThriveStackSettings, ThriveStackWire};

use serde_json::{Map, Value};

use super::{
    AddressedChange, Attempt, Destination, Element, Features, MappingFinding, Part, RequestLimits, Route, TraitShape,
    UserRule, Verdict,
};
use crate::destination::shared::reserved_traits::{self, ExpectedType, NameFolding, ReservedTrait, reserved_trait};
use crate::error::{Error, Kind, Result};
use crate::io::http::{Request, Response};
use crate::model::{OnNull, Op};
use crate::secret::Secret;

/// Groups in a request (the API's page of 2025; today's names no limit).
const GROUPS_MAX: usize = 1_000;
/// "2 MB" (the same page), read in the narrowest way.
const BODY_BYTES_MAX: usize = 2_000_000;
/// Characters of a warning that are kept.
const WARNING_CHARS_MAX: usize = 200;

const MEMBERS: ExpectedType = ExpectedType::Members(&["city", "country", "postal_code", "state", "street"]);
/// ReservedTrait in both documentations, `employees` apart.
const RESERVED: [ReservedTrait; 12] = [
    reserved_trait("account_name", ExpectedType::Text),
    reserved_trait("account_domain", ExpectedType::Text),
    reserved_trait("address", MEMBERS),
    reserved_trait("avatar", ExpectedType::Text),
    reserved_trait("created_at", ExpectedType::Timestamp),
    reserved_trait("description", ExpectedType::Text),
    reserved_trait("email", ExpectedType::Text),
    reserved_trait("group_type", ExpectedType::Text),
    reserved_trait("industry", ExpectedType::Text),
    reserved_trait("phone", ExpectedType::Text),
    reserved_trait("plan", ExpectedType::Text),
    reserved_trait("website", ExpectedType::Text),
];
const EMPLOYEES: ReservedTrait = ReservedTrait {
    name: "employees",
    wanted: ExpectedType::Number,
    note: "a number today, text in the first documentation, which `wire = \"single\"` follows",
};
const EMPLOYEES_SINGLE: ReservedTrait = ReservedTrait { wanted: ExpectedType::Text, ..EMPLOYEES };

/// The type `thrivestack`.
pub struct ThriveStackType;

impl DestinationType for ThriveStackType {
    fn name(&self) -> &'static str {
        "thrivestack"
    }

    fn settings(&self) -> &'static [Setting] {
        settings::SETTINGS
    }

    fn open(&self, settings: &SettingValues, group_type: &str) -> Result<Box<dyn Destination>> {
        Ok(Box::new(ThriveStack::new(&settings.parse()?, group_type)?))
    }
}

/// ThriveStack, for one group type.
pub struct ThriveStack {
    base: String,
    api_key: Secret,
    group_type: String,
    wire: ThriveStackWire,
    legacy_fields: bool,
    context: Map<String, Value>,
}

impl ThriveStack {
    /// The destination that these settings describe, for groups of `group_type`.
    ///
    /// Errors ([`Kind::Config`]): a key that is empty or cannot be sent in a header, a `base_url` that is no plain http(s)
    /// address, a `context` with a `group_id` of its own.
    pub fn new(settings: &ThriveStackSettings, group_type: &str) -> Result<ThriveStack> {
        let key = settings.api_key.expose();
        if key.trim().is_empty() || !key.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(Error::new(Kind::Config, "`api_key` is empty or cannot be sent in a header")
                .advise("set it to the API key of the environment in ThriveStack (Settings → API keys)"));
        }
        let context = match settings.context.as_ref().map(serde_json::to_value) {
            Some(Ok(Value::Object(context))) => context,
            _ => Map::new(),
        };
        if context.contains_key("group_id") {
            return Err(Error::new(Kind::Config, "`context` contains a `group_id`")
                .advise("remove it: every group's own id is sent there"));
        }
        let base = settings.base_url.as_deref().unwrap_or("https://api.app.thrivestack.ai");
        Ok(ThriveStack {
            base: base_url(base)?,
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
            ThriveStackWire::Array => (GROUPS_MAX, 2),
            ThriveStackWire::Single => (1, 0),
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
            ThriveStackWire::Array => EMPLOYEES,
            ThriveStackWire::Single => EMPLOYEES_SINGLE,
        };
        let mut found = reserved_traits::collisions("ThriveStack", NameFolding::Capitals, traits);
        found.extend(reserved_traits::mistyped(spec, &RESERVED, NameFolding::Capitals, traits));
        found.extend(reserved_traits::mistyped(spec, &[employees], NameFolding::Capitals, traits));
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
        self.encode_parts(addressed)
    }

    fn element(&self, addressed: &AddressedChange, part: &Part) -> Element {
        self.encode_element(addressed, part)
    }

    fn request(&self, _: Route, elements: &[&Element], _: Attempt) -> Request {
        self.encode_request(elements)
    }

    fn interpret(&self, _: Route, _: usize, response: &Response) -> Verdict {
        self.verdict(response)
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

    fn secrets(&self) -> Vec<Secret> {
        vec![self.api_key.clone()]
    }
}

#[cfg(test)]
mod tests;
