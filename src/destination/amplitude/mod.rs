//! Amplitude: how a change is encoded for its two APIs, and what their responses mean.
//!
//! Two APIs accept group properties. This file is the Group Identify API (`api = "groupidentify"`, the default);
//! [`http_v2`] sends the same properties as `$groupidentify` events. What both share is in `properties` (operators) and
//! `value` (values).
//!
//! `POST /groupidentify` takes a form of two fields: `api_key`, and `identification`, the JSON text of an array with one
//! object per group. There is no user, no time and no deduplication key. So `$set`, `$setOnce` and `$unset`, which may be
//! repeated, travel on a route of their own, before `$add`, `$append` and `$prepend`, which are given up when their outcome
//! is unknown. One bad identification rejects the whole request.
//!
//! Rules of ours where the vendor says nothing, or where its own clients disagree:
//!
//! - Nulls inside arrays and nested objects are left out. Amplitude's Python client drops a whole array that holds a
//!   null, and so does its Node client; losing one element beats losing all of them.
//! - An array directly inside an array is rejected: both clients drop it silently.
//! - A number that a double cannot hold is rejected, nested ones included: the vendor's JSON parser would round it.
//! - Strings of more than 1,024 characters are rejected, or cut by `long_strings = "truncate"`; the vendor would cut them,
//!   and the ledger would then remember a value that the destination does not hold.

mod encode;
mod response;
mod settings;
pub use crate::destination::shared::settings::LongStrings;
use crate::destination::{DestinationType, OwnKey};
use crate::model::setting::{Setting, SettingValues};
use response::by_status;
pub use settings::{AmplitudeApi, AmplitudeRegion, AmplitudeSettings};

pub mod http_v2;
mod properties;
mod value;

use std::time::Duration;

use super::{
    AddressedChange, Attempt, Destination, Element, Features, MappingFinding, Part, RequestLimits, Route, TraitShape,
    UserRule, Verdict,
};
use crate::error::{Error, Kind, Result};
use crate::io::http::{Request, Response};
use crate::model::{OnNull, Op, PlainDocument};
use crate::secret::Secret;
use properties::PROPERTIES_MAX;

/// Identifications in a request (Group Identify API, "Considerations").
const IDENTIFICATIONS_MAX: usize = 1_024;
/// Identifications in a request that is not repeated. When Amplitude fails, the groups of every request in flight are rejected
/// until the operator decides, so that there should be few of them.
const ONCE_IDENTIFICATIONS_MAX: usize = 100;
/// "1 mb", read in the narrowest way: a million bytes of the encoded body.
const BODY_BYTES_MAX: usize = 1_000_000;
/// Characters in a group's value, a property's name, and (unless cut) a string.
const CHARS_MAX: usize = 1_024;
/// The pause that the sister Identify API asks for after a 429.
const THROTTLED: Duration = Duration::from_secs(15);

/// What may be sent again, and what must not be. Both go to the same URL.
const REPEATABLE: Route = 0;
const ONCE: Route = 1;

/// The body after the key: `[`, and what follows the elements: `]`.
const IDENTIFICATION: &str = "&identification=%5B";
const END: &str = "%5D";
const COMMA: &str = "%2C";

/// The destination that these settings describe, for groups of `group_type`, by whichever API they name.
///
/// Errors ([`Kind::Config`]): as those of [`Amplitude::new`] and [`http_v2::HttpV2::new`].
pub fn open(settings: &AmplitudeSettings, group_type: &str) -> Result<Box<dyn Destination>> {
    Ok(match settings.api {
        AmplitudeApi::GroupIdentify => Box::new(Amplitude::new(settings, group_type)?),
        AmplitudeApi::HttpV2 => Box::new(http_v2::HttpV2::new(settings, group_type)?),
    })
}

/// The type `amplitude`.
pub struct AmplitudeType;

impl DestinationType for AmplitudeType {
    fn name(&self) -> &'static str {
        "amplitude"
    }

    fn settings(&self) -> &'static [Setting] {
        settings::SETTINGS
    }

    fn own_keys(&self) -> &'static [OwnKey] {
        &[OwnKey { setting: "api_key", prefix: None }]
    }

    fn unsealed_settings(&self) -> &'static [&'static str] {
        &["batch_max", "gzip"]
    }

    fn open(&self, settings: &SettingValues, group_type: &str) -> Result<Box<dyn Destination>> {
        open(&settings.parse()?, group_type)
    }
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
    pub fn new(settings: &AmplitudeSettings, group_type: &str) -> Result<Amplitude> {
        let base = settings.base(group_type)?;
        if settings.gzip {
            return Err(Error::new(
                Kind::Config,
                "`gzip` with the Group Identify API, which accepts no compressed requests",
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
            what: "Amplitude's Group Identify API cannot tell a retried `add`, `append` or `prepend` from a new one"
                .to_owned(),
            help: "set `api = \"http_v2\"` at the destination: there Amplitude recognises a retry by its id".to_owned(),
        };
        accumulates.then_some(remark).into_iter().collect()
    }

    fn parts(&self, addressed: &AddressedChange) -> Result<Vec<Part>, String> {
        self.encode_parts(addressed)
    }

    fn element(&self, addressed: &AddressedChange, part: &Part) -> Element {
        self.encode_element(addressed, part)
    }

    fn takes_plain(&self, names: &[&str]) -> bool {
        names.len() <= PROPERTIES_MAX && names.iter().all(|name| value::check_name(name).is_ok())
    }

    fn plain_route(&self, addressed: &AddressedChange, document: &PlainDocument) -> Option<Route> {
        self.plainly_fits(&addressed.key, document).then_some(REPEATABLE)
    }

    fn plain_element(&self, addressed: &AddressedChange, document: &PlainDocument) -> Element {
        self.encode_plain(&addressed.key, document)
    }

    fn request(&self, _: Route, elements: &[&Element], _: Attempt) -> Request {
        self.encode_request(elements)
    }

    fn interpret(&self, _: Route, _: usize, response: &Response) -> Verdict {
        self.verdict(response)
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

    fn secrets(&self) -> Vec<Secret> {
        vec![self.api_key.clone()]
    }
}

#[cfg(test)]
mod tests;
