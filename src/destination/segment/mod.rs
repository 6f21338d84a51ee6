//! Segment, and the vendors that speak its protocol: how a change is encoded, and what the responses mean.
//!
//! A change is one `group` message: `groupId`, a user, and as `traits` the values that changed. Messages travel together
//! to a batch endpoint, or one by one where a vendor has none. What differs from vendor to vendor is a row of
//! `preset.rs`, and every field of the row can be set in the configuration.
//!
//! The protocol replaces values and keeps what is not mentioned. A null replaces like any other value; nothing removes a
//! trait, and nothing deletes a group. What it deliberately is not: a client for events (`track`, `identify`), and a
//! proof of delivery. Segment responds 200 to a wrong key, to a message without a user and to a batch of too many
//! messages, and drops them all; so what can be known beforehand is checked here, and the rest is documented.
//!
//! Rules of ours:
//!
//! - A message above the vendor's limit is rejected, never cut or split: to many tools behind Segment the last group call
//!   is a statement of its own.
//! - `context` and `integrations` are the configuration's and equal in all messages; nothing about a group is there.
//! - `messageId` follows from the change (see `dedup_id.rs`), so a vendor that remembers ids drops what we repeat. Vendors
//!   that do not get the same values twice, which changes nothing.
//! - The group type is not sent, since the protocol has none. It counts in `messageId`, and in the ledger.

mod encode;
mod response;
use crate::destination::shared::plain_json;
use crate::destination::shared::settings::base_url;
use crate::destination::{DestinationType, OwnKey};
use crate::model::setting::{Setting, SettingValues};

mod always_traits;
mod downstream;
mod preset;
mod settings;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::Value;

use self::downstream::Tool;
use self::preset::{Auth, Preset, preset};
pub use self::settings::{KeyPlacement, SegmentSettings, SegmentWire, UserSetting};
use self::settings::{auth, context, headers, is_header_value, json};
use super::{
    AddressedChange, Attempt, Destination, Element, Features, MappingFinding, Part, RequestLimits, Route, TraitShape,
    UserRule, Verdict,
};
use crate::destination::shared::reserved_traits::{self, ExpectedType, NameFolding, ReservedTrait, reserved_trait};
use crate::error::{Error, Kind, Result};
use crate::io::http::{Request, Response};
use crate::model::{OnNull, Op, PlainDocument};
use crate::secret::Secret;

/// What a batch's body starts with; the timestamp of 24 bytes and [`SENT_AT_END`] follow.
const SENT_AT: &str = r#"{"sentAt":""#;
const SENT_AT_END: &str = r#"","#;
const MOMENT_BYTES: usize = 24;
const BATCH: &str = r#""batch":["#;
const BATCH_END: &str = "]}";

/// How the group spec compares names ("traits are case-insensitive", `createdAt` and `created_at`).
const FOLDING: NameFolding = NameFolding::CapitalsAndUnderscores;

/// The group spec's reserved traits.
const RESERVED: [ReservedTrait; 13] = [
    reserved_trait("address", ExpectedType::Members(&["city", "country", "postalCode", "state", "street"])),
    reserved_trait("avatar", ExpectedType::Text),
    reserved_trait("createdAt", ExpectedType::Timestamp),
    reserved_trait("description", ExpectedType::Text),
    reserved_trait("email", ExpectedType::Text),
    ReservedTrait {
        name: "employees",
        wanted: ExpectedType::Number,
        note: "its table says string, its samples send a number, and tools compare it as one",
    },
    reserved_trait("id", ExpectedType::Text),
    reserved_trait("industry", ExpectedType::Text),
    reserved_trait("name", ExpectedType::Text),
    reserved_trait("phone", ExpectedType::Text),
    reserved_trait("website", ExpectedType::Text),
    reserved_trait("plan", ExpectedType::Text),
    // Only journy.io's, and last: the others leave it out.
    reserved_trait("status", ExpectedType::OneOf(&["lead", "trial", "trial_expired", "paying", "churn"])),
];

/// The type `segment`.
pub struct SegmentType;

impl DestinationType for SegmentType {
    fn name(&self) -> &'static str {
        "segment"
    }

    fn settings(&self) -> &'static [Setting] {
        settings::SETTINGS
    }

    fn key_prefixes(&self) -> &'static [(&'static str, &'static str)] {
        &[("sgp_", "a token for Segment's public API")]
    }

    fn own_keys(&self) -> &'static [OwnKey] {
        &[OwnKey { setting: "write_key", prefix: None }]
    }

    fn always_traits(&self, settings: &SettingValues) -> Vec<&'static str> {
        settings.parse().map_or_else(|_| Vec::new(), |of: SegmentSettings| always_traits::always_traits(&of))
    }

    fn unsealed_settings(&self) -> &'static [&'static str] {
        &["batch_bytes_max", "batch_count_max", "gzip"]
    }

    fn open(&self, settings: &SettingValues, group_type: &str) -> Result<Box<dyn Destination>> {
        Ok(Box::new(Segment::new(&settings.parse()?, group_type)?))
    }
}

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
    /// The tools behind it, as configured; nothing where that is not configured.
    downstream: Option<Vec<&'static Tool>>,
}

impl Segment {
    /// The destination that these settings describe, for groups of `group_type`.
    ///
    /// Errors ([`Kind::Config`]): an unknown preset, an address that is missing or odd, a key that cannot be shown or is
    /// shown nowhere, a header that is not valid.
    pub fn new(settings: &SegmentSettings, group_type: &str) -> Result<Segment> {
        let wrong = |what: String, advice: &str| Error::new(Kind::Config, what).advise(advice);
        let name = settings.preset.as_deref().unwrap_or("segment");
        let mut row = *preset(name).ok_or_else(|| {
            wrong(format!("there is no preset `{name}`"), &format!("use one of {}", preset::NAMES.join(", ")))
        })?;
        let key = settings.write_key.expose();
        if key.trim().is_empty() {
            return Err(wrong("`write_key` is empty".to_owned(), &format!("set it to {}", row.key_is)));
        }
        let base = settings.base_url.as_deref().or(row.base_url).ok_or_else(|| {
            let what = format!("preset `{name}` needs a `base_url`");
            wrong(what, "write the server's address: `base_url = \"https://dataplane.example.com\"`")
        })?;
        let base = base_url(base)?;
        row.single = settings.wire.map_or(row.single, |wire| wire == SegmentWire::Single);
        let (path_name, path) = match row.single {
            true => ("group_path", settings.group_path.as_deref().or(row.group_path)),
            false => ("batch_path", settings.batch_path.as_deref().or(row.batch_path)),
        };
        let path = path.ok_or_else(|| {
            let what = format!("preset `{name}` has no `{path_name}`");
            wrong(what, "write it, or choose the other `wire`: `batch` or `single`")
        })?;
        if path.contains(['?', '#']) || path.contains(char::is_whitespace) {
            return Err(wrong(format!("`{path_name}` is not a path"), "write it like `/v1/batch`, without a query"));
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
            Some(UserSetting::Required) => UserRule::Required,
            Some(UserSetting::Optional) => UserRule::Optional,
            None => row.user,
        };
        if row.auth == Auth::None && !row.key_in_body {
            let advice = "choose an `auth`, or set `key_in_body = true`";
            return Err(wrong("`write_key` would be sent nowhere".to_owned(), advice));
        }
        let shown_key = match row.auth {
            Auth::Basic => BASE64_STANDARD.encode(format!("{key}:")),
            _ => key.to_owned(),
        };
        if row.auth != Auth::None && !is_header_value(&shown_key) {
            return Err(wrong("`write_key` cannot be sent in a header".to_owned(), "look for a line break in it"));
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
            let what = format!("`downstream` names `{name}`, which is not a known tool");
            wrong(what, &format!("remove it, or use one of {}", known.join(", ")))
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
            // The timestamp and the key join the message itself, of which one brace is the element's.
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
        let mut found = reserved_traits::collisions(self.preset.vendor, FOLDING, traits);
        found.extend(reserved_traits::mistyped(spec, &RESERVED[..count], FOLDING, traits));
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

    /// Tools behind it look at a group's traits and key.
    fn takes_plain(&self, names: &[&str]) -> bool {
        let has_tools = self.preset.tool.is_some() || self.downstream.as_ref().is_some_and(|tools| !tools.is_empty());
        !has_tools && names.iter().all(|name| plain_json::check_name(name).is_ok())
    }

    fn plain_route(&self, addressed: &AddressedChange, document: &PlainDocument) -> Option<Route> {
        self.plainly_fits(addressed, document).then_some(0)
    }

    fn plain_element(&self, addressed: &AddressedChange, document: &PlainDocument) -> Element {
        self.encode_plain(addressed, document)
    }

    fn parts(&self, addressed: &AddressedChange) -> Result<Vec<Part>, String> {
        self.encode_parts(addressed)
    }

    fn element(&self, addressed: &AddressedChange, part: &Part) -> Element {
        self.encode_element(addressed, part)
    }

    fn request(&self, _: Route, elements: &[&Element], attempt: Attempt) -> Request {
        self.encode_request(elements, attempt)
    }

    fn interpret(&self, _: Route, _: usize, response: &Response) -> Verdict {
        self.verdict(response)
    }

    /// A GET of the server's root: no key, no data. A key cannot be tried without writing, and Segment accepts any, so
    /// none is.
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

    fn secrets(&self) -> Vec<Secret> {
        let configured = self.secret_headers.iter().map(|(_, value)| Secret::new(value.clone()));
        [self.key.clone(), self.shown_key.clone()].into_iter().chain(configured).collect()
    }
}

#[cfg(test)]
mod tests;
