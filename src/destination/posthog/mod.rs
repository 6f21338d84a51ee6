//! PostHog: how a change is encoded for its APIs, and what their responses mean.
//!
//! Three ways in, one way back:
//!
//! - `capture`: `$groupidentify` events to `POST /batch/`, as PostHog's own server libraries send them. PostHog's REST
//!   documentation itself says to change groups this way. Top-level properties are merged, in the order of arrival.
//! - `rest`: with a personal API key, `delete_property` removes a trait, which no event can; and with
//!   `write_via = "rest"` everything is sent by `POST groups/`, `update_property`, or `upsert_properties` where the server
//!   has it.
//! - `read`: with the same key, `groups/` (the list), `find`, `related`, `activity`, `property_definitions` and
//!   `property_values` are read for `verify`, `group --remote` and `check --connect`.
//!
//! That is every endpoint of PostHog's groups API, and `groups_types`, which has a type's index.
//!
//! - `capture_v1`: with `capture = "v1"`, the same events by the newer protocol, which has a result for each event. It is not the
//!   default because it is opt-in in PostHog's own libraries, and older servers and proxies do not route it; `"auto"` asks
//!   once, by a GET that changes nothing.
//!
//! What it deliberately is not: `$set_once`, counters and lists, which PostHog's groups do not have; and deletion, because a single group cannot
//! be deleted there.
//!
//! A 200 from `/batch/` says that the events were queued. What ingestion then drops silently (a sixth group type, a
//! project without the add-on, a wrong but well-formed token) only reading back shows.

mod encode;
mod response;
mod settings;
use crate::destination::shared::settings::base_url;
use crate::destination::{DestinationType, OwnKey};
use crate::model::setting::{Setting, SettingValues};
use response::usual_api;
pub use settings::{CaptureProtocol, PostHogRegion, PostHogSettings, WriteVia};

mod capture;
mod capture_v1;
mod read;
mod rest;

use self::rest::Rest;
use super::readback::ReadBack;
use super::{
    AddressedChange, Attempt, Destination, Element, Features, MappingFinding, Pace, Part, RequestLimits, Route,
    TraitShape, UserRule, Verdict,
};
use crate::error::{Error, Kind, Result};
use crate::io::http::{Request, Response};
use crate::model::{OnNull, Op, PlainDocument};
use crate::secret::Secret;

/// Events to `/batch/`.
const CAPTURE: Route = 0;
/// One trait of one group removed.
const DELETE_PROPERTY: Route = 1;
/// One group created, without traits.
const CREATE: Route = 2;
/// One trait of one group set.
const UPDATE_PROPERTY: Route = 3;
/// Traits of one group set, the group created if need be.
const UPSERT_PROPERTIES: Route = 4;

/// Characters of a group type and of a group's key (capture API documentation).
const CHARS_MAX: usize = 400;
/// A project's group types; events of a sixth are dropped (`MAX_GROUP_TYPES_PER_TEAM`).
const GROUP_TYPES_MAX: usize = 5;
/// How deep a value may nest. Capture's parser ends at 128 levels, three of which are the event's own.
const DEPTH_MAX: usize = 100;

/// The type `posthog`.
pub struct PostHogType;

impl DestinationType for PostHogType {
    fn name(&self) -> &'static str {
        "posthog"
    }

    fn settings(&self) -> &'static [Setting] {
        settings::SETTINGS
    }

    fn readback_settings(&self) -> Option<&'static str> {
        Some("`personal_api_key` and `project_id`")
    }

    fn key_prefixes(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("phx_", "a personal API key of PostHog"),
            ("phc_", "a project API key of PostHog"),
            ("phs_", "a secret key of PostHog"),
        ]
    }

    fn own_keys(&self) -> &'static [OwnKey] {
        &[
            OwnKey { setting: "api_key", prefix: Some("phc_") },
            OwnKey { setting: "personal_api_key", prefix: Some("phx_") },
        ]
    }

    fn unsealed_settings(&self) -> &'static [&'static str] {
        &["gzip", "personal_api_key"]
    }

    fn open(&self, settings: &SettingValues, group_type: &str) -> Result<Box<dyn Destination>> {
        Ok(Box::new(PostHog::new(&settings.parse()?, group_type)?))
    }
}

/// PostHog, for one group type.
pub struct PostHog {
    /// Where events go, with a slash at the end.
    base: String,
    api_key: Secret,
    group_type: String,
    write_via: WriteVia,
    gzip: bool,
    /// What comes before the events of a body. Holds the key.
    head: String,
    rest: Option<Rest>,
    capture: CaptureProtocol,
    /// Whether the server has yet to be queried for its protocols.
    asks_for_v1: bool,
}

impl PostHog {
    /// The destination that these settings describe, for groups of `group_type`.
    ///
    /// Errors ([`Kind::Config`]): keys that are empty or swapped, half of what REST needs, a URL that is not valid.
    pub fn new(settings: &PostHogSettings, group_type: &str) -> Result<PostHog> {
        let wrong = |what: &str, advice: &str| Err(Error::new(Kind::Config, what).advise(advice));
        let key = settings.api_key.expose().trim();
        if key.is_empty() {
            return wrong("`api_key` is empty", "set it to the project API key (Settings → Project, `phc_…`)");
        }
        if key.starts_with("phx_") {
            let advice = "set `api_key` to the project API key (`phc_…`), and this one as `personal_api_key`";
            return wrong("`api_key` is a personal API key, which cannot send events", advice);
        }
        if settings.capture != CaptureProtocol::V0 && !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            let advice = "copy it again from Settings → Project: `phc_` and letters and digits";
            return wrong("`api_key` cannot be sent in a header, as capture v1 needs it", advice);
        }
        if group_type.is_empty() || group_type.contains('\0') || group_type.chars().count() > CHARS_MAX {
            let advice = "set `type` under `[group]` to the group type's name in PostHog";
            return wrong("the group type must have 1 to 400 characters, none of them NUL", advice);
        }
        let region = settings.region.unwrap_or_default();
        let base = match (&settings.base_url, region) {
            (Some(base), _) => base_url(base)?,
            (None, PostHogRegion::Us) => "https://us.i.posthog.com".to_owned(),
            (None, PostHogRegion::Eu) => "https://eu.i.posthog.com".to_owned(),
        };
        let app = match (&settings.app_url, &settings.base_url, region) {
            (Some(app), _, _) => Some(base_url(app)?),
            // Where events go may be a proxy that must never see the personal key.
            (None, Some(_), _) => None,
            (None, None, PostHogRegion::Us) => Some("https://us.posthog.com".to_owned()),
            (None, None, PostHogRegion::Eu) => Some("https://eu.posthog.com".to_owned()),
        };
        let rest = match (&settings.personal_api_key, &settings.project_id, app) {
            (None, None, _) if settings.write_via == WriteVia::Rest => {
                let advice = "set both (the key with the scopes `group:read` and `group:write`), or remove `write_via`";
                return wrong("`write_via = \"rest\"` needs `personal_api_key` and `project_id`", advice);
            }
            (None, None, _) => None,
            (Some(key), Some(project), Some(app)) => Some(Rest::new(key, project, &app, settings.write_via)?),
            (Some(_), Some(_), None) => {
                let advice =
                    "set `app_url` to the address of PostHog itself (a self-hosted one: the same as `base_url`)";
                return wrong("`base_url` is set and `app_url` is not, so the URL of the REST API is unknown", advice);
            }
            _ => {
                let advice = "set both, or neither: together they let traits be removed and read back";
                return wrong("only one of `personal_api_key` and `project_id` is set", advice);
            }
        };
        Ok(PostHog {
            base: format!("{base}/"),
            api_key: Secret::new(key),
            group_type: group_type.to_owned(),
            write_via: settings.write_via,
            gzip: settings.gzip.unwrap_or(true),
            head: capture::head(key),
            rest,
            asks_for_v1: settings.capture != CaptureProtocol::V0 && settings.write_via == WriteVia::Capture,
            capture: settings.capture,
        })
    }

    /// Whether events travel by capture v1: as configured, or as the server responded.
    fn is_v1(&self) -> bool {
        self.capture == CaptureProtocol::V1
    }
}

fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("a trait has an empty name: rename or remove it".to_owned());
    }
    if name.contains('\0') {
        return Err("a trait's name contains a NUL character, which PostHog drops: rename it".to_owned());
    }
    Ok(())
}

impl Destination for PostHog {
    fn name(&self) -> &'static str {
        "posthog"
    }

    fn features(&self) -> Features {
        Features {
            ops: &[Op::Set],
            on_null: match (&self.rest, self.write_via) {
                (None, _) => &[OnNull::Null, OnNull::Skip],
                (Some(_), WriteVia::Capture) => &[OnNull::Unset, OnNull::Null, OnNull::Skip],
                (Some(_), WriteVia::Rest) => &[OnNull::Unset, OnNull::Skip],
            },
            delete: false,
            exact_numbers: false,
            objects: true,
            gzip: true,
            user: UserRule::Never,
        }
    }

    fn limits(&self, route: Route) -> RequestLimits {
        match route {
            CAPTURE if self.is_v1() => {
                RequestLimits { envelope_bytes: capture_v1::envelope_bytes(), ..capture::limits(&self.head) }
            }
            CAPTURE => capture::limits(&self.head),
            _ => rest::LIMITS,
        }
    }

    fn pace(&self, route: Route) -> Option<Pace> {
        (route != CAPTURE).then_some(rest::PACE)
    }

    /// An event too large for the queue behind capture is noticed when those before it are in the queue already.
    fn too_large_in_part(&self, route: Route) -> bool {
        route == CAPTURE && !self.is_v1()
    }

    fn group_types_max(&self) -> Option<usize> {
        Some(GROUP_TYPES_MAX)
    }

    fn readback(&self) -> Option<&dyn ReadBack> {
        self.rest.as_ref().map(|rest| rest as &dyn ReadBack)
    }

    fn findings(&self, traits: &[TraitShape<'_>]) -> Vec<MappingFinding> {
        let mut remarks = Vec::new();
        for shape in traits {
            let about = Some(shape.name.to_owned());
            if let Err(what) = check_name(shape.name) {
                remarks.push(MappingFinding { about, error: true, what, help: "rename the trait".to_owned() });
            } else if shape.name.starts_with('$') {
                let what = format!("`{}` looks like one of PostHog's own properties, which begin with `$`", shape.name);
                let help = "rename the trait, unless you mean to write that property".to_owned();
                remarks.push(MappingFinding { about, error: false, what, help });
            }
        }
        remarks
    }

    fn setup_request(&self) -> Option<Request> {
        if self.asks_for_v1 {
            return Some(Request::get(format!("{}{}", self.base, capture_v1::PATH)));
        }
        self.rest.as_ref()?.setup_request()
    }

    fn set_up(&mut self, response: &Response) -> Result<()> {
        if std::mem::take(&mut self.asks_for_v1) {
            match (self.capture, capture_v1::is_there(response.status)) {
                (CaptureProtocol::Auto, there) => {
                    self.capture = if there { CaptureProtocol::V1 } else { CaptureProtocol::V0 }
                }
                (CaptureProtocol::V1, false) => {
                    let what = format!(
                        "the server has no capture v1: {} at {}",
                        self.error_message(response),
                        capture_v1::PATH
                    );
                    return Err(Error::new(Kind::Config, what)
                        .advise("remove `capture`, or set it to `\"auto\"`; behind a proxy, let it pass this path"));
                }
                _ => {}
            }
            return Ok(());
        }
        match &mut self.rest {
            Some(rest) => rest.set_up(response, &self.group_type),
            None => Ok(()),
        }
    }

    fn takes_plain(&self, names: &[&str]) -> bool {
        let by_events = self.rest.is_none() || self.write_via == WriteVia::Capture;
        by_events && names.iter().all(|name| check_name(name).is_ok())
    }

    fn plain_route(&self, addressed: &AddressedChange, document: &PlainDocument) -> Option<Route> {
        let takes_key = self.refuse(addressed).is_ok() && capture::plainly_fits(&addressed.key, document);
        takes_key.then_some(CAPTURE)
    }

    fn plain_element(&self, addressed: &AddressedChange, document: &PlainDocument) -> Element {
        capture::plain_event(self, addressed, document)
    }

    fn parts(&self, addressed: &AddressedChange) -> Result<Vec<Part>, String> {
        self.encode_parts(addressed)
    }

    fn element(&self, addressed: &AddressedChange, part: &Part) -> Element {
        self.encode_element(addressed, part)
    }

    fn request(&self, route: Route, elements: &[&Element], attempt: Attempt) -> Request {
        self.encode_request(route, elements, attempt)
    }

    fn interpret(&self, route: Route, _: usize, response: &Response) -> Verdict {
        self.verdict(route, response)
    }

    fn interpret_each(&self, route: Route, elements: &[&Element], response: &Response) -> Verdict {
        self.verdict_per_element(route, elements, response)
    }

    fn confirmation_request(&self, route: Route, element: &Element, response: &Response) -> Option<Request> {
        self.rest.as_ref()?.confirmation_request(route, element, response)
    }

    fn confirms(&self, _: Route, element: &Element, answer: &Response) -> bool {
        rest::is_removed(element, answer)
    }

    /// A GET of the address's root: no key, no data.
    fn probe(&self) -> Option<Request> {
        Some(Request::get(self.base.clone()))
    }

    fn masked(&self, request: &Request) -> Request {
        let mut masked = request.clone();
        if let Some(events) = request.body.strip_prefix(self.head.as_bytes()) {
            masked.body = [capture::head("***").as_bytes(), events].concat();
        }
        for (_, value) in masked.headers.iter_mut().filter(|(name, _)| *name == "authorization") {
            *value = "Bearer ***".to_owned();
        }
        masked
    }

    fn secrets(&self) -> Vec<Secret> {
        std::iter::once(&self.api_key).chain(self.rest.as_ref().map(Rest::key)).cloned().collect()
    }
}

#[cfg(test)]
mod tests;
