//! journy.io: how a change of an account is encoded for its REST API, and what the responses mean.
//!
//! `POST /accounts/upsert` takes one account: `{"identification":{"accountId":…},"properties":{…}}`, where a null deletes
//! the property, and `DELETE /accounts` takes the identification alone. Both may be repeated. (journy.io's other way in,
//! the Segment-compatible tracking endpoint, wants a user with every call and cannot delete.)
//!
//! Rejected before anything is sent: objects, lists of anything but non-empty strings, and numbers that a
//! double would round. Members (`members`) are not sent: who belongs to an account is not a trait of it.
//!
//! The quota is 5,000 requests in any hour, and counts single accounts. Once a response says that none is left, nothing is
//! sent until the window has moved: until the response's reset time if it has one, else for an hour, after which the
//! window holds none of our requests.

mod encode;
mod response;
mod settings;
use crate::destination::DestinationType;
use crate::destination::shared::settings::base_url;
use crate::model::setting::{Setting, SettingValues};
pub use settings::JournySettings;

use std::time::Duration;

use super::{
    AddressedChange, Attempt, Destination, Element, Features, MappingFinding, Part, RequestLimits, Route, TraitShape,
    UserRule, Verdict,
};
use crate::error::{Error, Kind, Result};
use crate::io::http::{Request, Response};
use crate::model::{OnNull, Op};
use crate::secret::Secret;

/// The endpoint that creates and updates.
const UPSERT: Route = 0;
/// The endpoint that deletes.
const DELETE: Route = 1;
/// No limit is documented; an account of more than a megabyte is a mistake.
const BODY_BYTES_MAX: usize = 1_000_000;
/// "Sliding window … per hour".
const WINDOW: Duration = Duration::from_secs(3_600);
/// The pause after a 429 without a `Retry-After`.
const THROTTLED: Duration = Duration::from_secs(60);
/// Reset times from here on are seconds since 1970; below, seconds from now.
const EPOCH_SECONDS_MIN: f64 = 1_000_000_000.0;

/// The type `journy`.
pub struct JournyType;

impl DestinationType for JournyType {
    fn name(&self) -> &'static str {
        "journy"
    }

    fn settings(&self) -> &'static [Setting] {
        settings::SETTINGS
    }

    fn open(&self, settings: &SettingValues, group_type: &str) -> Result<Box<dyn Destination>> {
        Ok(Box::new(Journy::new(&settings.parse()?, group_type)?))
    }
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
    pub fn new(settings: &JournySettings, group_type: &str) -> Result<Journy> {
        let key = settings.api_key.expose();
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::new(Kind::Config, "`api_key` is empty or not a journy.io key")
                .advise("create a key with the permission TrackData in journy.io under Connections"));
        }
        let base = match &settings.base_url {
            Some(base) => base_url(base)?,
            None => "https://api.journy.io".to_owned(),
        };
        Ok(Journy { base, api_key: settings.api_key.clone(), group_type: group_type.to_owned() })
    }
}

/// A property's name as far as it counts: the vendor's Python client lower-cases and trims names, and its specification
/// calls them case-insensitive.
fn plain(name: &str) -> String {
    name.trim().to_lowercase()
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
                    what: format!("journy.io treats this name and `{}` as the same", other.name),
                    help: "rename one of them: capitals do not count".to_owned(),
                });
            }
        }
        if !["account", "accounts"].contains(&self.group_type.to_lowercase().as_str()) {
            found.push(MappingFinding {
                about: None,
                error: false,
                what: "journy.io has accounts and no other groups: these are sent as accounts".to_owned(),
                help: "set `type = \"account\"` under `[group]`, and let only one mapping write accounts".to_owned(),
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

    fn request(&self, route: Route, elements: &[&Element], _: Attempt) -> Request {
        self.encode_request(route, elements)
    }

    fn interpret(&self, route: Route, _: usize, response: &Response) -> Verdict {
        self.verdict(route, response)
    }

    fn pause(&self, response: &Response) -> Option<Duration> {
        self.pause_after(response)
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

    fn secrets(&self) -> Vec<Secret> {
        vec![self.api_key.clone()]
    }
}

#[cfg(test)]
mod tests;
