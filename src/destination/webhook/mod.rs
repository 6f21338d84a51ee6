//! Webhook: a change as a request to a URL of the operator's own, and what counts as success.
//!
//! One change per request (`body = "single"`) or several (`"batch"`: `{"changes":[…]}`), each as
//! `{"id":…,"group_type":…,"key":…,"at":…,"set":{…},"unset":[…]}` with only the operators it has, or `"delete":true`, and
//! with `"user":{"id":…}` or `{"anonymous_id":…}` if the mapping has a `[user]`. `at` is when the run began.
//!
//! The `id` is the same for every retry of a change within its run and another one for everything else, so a receiver
//! that remembers ids can ignore retries; `dedup = true` says that this one does, and only then changes that
//! accumulate are repeated. The next run's ids are new even where it says the same: if the responses to "plan: pro" and
//! then to "plan: free" were both lost, a third run's "plan: pro" must not pass for the first. (Nothing is lost by that:
//! after an unclear outcome a run sets and unsets, which may be repeated, and holds what accumulates.)
//!
//! Everything a mapping can do can be written, numbers keep all their digits, and a change is never cut: a change that
//! does not fit into `bytes_max` is rejected.
//!
//! What it deliberately is not: a template language. A receiver that wants another shape is a function of ten lines, and
//! it is the better place for them. Partial acceptance of a batch is not read either: a batch is taken or it is not, and
//! halves of a rejected one are sent again until the guilty change is alone.

mod encode;
mod response;
mod settings;
use crate::destination::DestinationType;
use crate::model::setting::{Setting, SettingValues};
pub use settings::{WebhookBody, WebhookMethod, WebhookSettings};
use settings::{address, whole_address};

mod headers;
mod signature;
mod success;

use super::{AddressedChange, Attempt, Destination, Element, Features, Part, RequestLimits, Route, UserRule, Verdict};
use crate::error::{Error, Kind, Result};
use crate::io::http::{Request, Response};
use crate::model::{OnNull, Op, PlainDocument};
use crate::secret::Secret;
use headers::Header;
use success::Success;

/// Changes that may be repeated, or whose receiver recognises retries.
const REPEATABLE: Route = 0;
/// Changes that accumulate.
const ACCUMULATING: Route = 1;

const HEAD: &[u8] = br#"{"changes":["#;
const TAIL: &[u8] = b"]}";

/// Changes in a batch, and bytes in a body, unless configured: what common receivers accept by default.
const BATCH_MAX: usize = 100;
const BYTES_MAX: usize = 1_000_000;

/// The type `webhook`.
pub struct WebhookType;

impl DestinationType for WebhookType {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn settings(&self) -> &'static [Setting] {
        settings::SETTINGS
    }

    fn unsealed_settings(&self) -> &'static [&'static str] {
        &["batch_max", "bytes_max", "signing_secret"]
    }

    fn open(&self, settings: &SettingValues, group_type: &str) -> Result<Box<dyn Destination>> {
        Ok(Box::new(Webhook::new(&settings.parse()?, group_type)?))
    }
}

/// An address of the operator's own, for one group type.
pub struct Webhook {
    group_type: String,
    method: &'static str,
    /// The address as it may be shown.
    shown_url: String,
    /// What follows it and may not.
    secret_path: Option<Secret>,
    headers: Vec<Header>,
    signing: Option<Signing>,
    body: WebhookBody,
    batch_max: usize,
    bytes_max: usize,
    success: Success,
    dedup: bool,
    /// Everything to mask in the receiver's messages.
    secrets: Vec<Secret>,
}

struct Signing {
    secret: Secret,
    signature_header: &'static str,
    timestamp_header: &'static str,
}

impl Webhook {
    /// The destination that these settings describe, for groups of `group_type`.
    ///
    /// Errors ([`Kind::Config`]): an address, header or success rule that cannot be.
    pub fn new(settings: &WebhookSettings, group_type: &str) -> Result<Webhook> {
        let shown_url = address(&settings.url)?;
        if let Some(path) = &settings.secret_path {
            whole_address(&shown_url, path)?;
        }
        let mut all = settings.headers.as_ref().map_or_else(|| Ok(Vec::new()), headers::plain)?;
        all.extend(headers::secret(settings.auth_header.as_ref().map_or("", Secret::expose))?);
        let signing = match &settings.signing_secret {
            None => None,
            Some(secret) => Some(Signing::new(secret, settings)?),
        };
        let own = signing.iter().flat_map(|signing| [signing.signature_header, signing.timestamp_header]);
        let mut names: Vec<&str> = all.iter().map(|header| header.name).chain(own).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::new(Kind::Config, format!("the header `{}` is set twice", pair[0]))
                .advise("remove it from `headers` or `auth_header`"));
        }
        let mut secrets: Vec<Secret> = settings.secret_path.iter().chain(&settings.signing_secret).cloned().collect();
        // Short plain values are words that a receiver may use by chance.
        for header in all.iter().filter(|header| header.secret || header.value.len() >= 12) {
            secrets.push(Secret::new(header.value.clone()));
            // A receiver that repeats a token leaves out `Bearer`.
            secrets.extend(header.value.rsplit(' ').next().map(Secret::new));
        }
        Ok(Webhook {
            group_type: group_type.to_owned(),
            method: match settings.method {
                WebhookMethod::Post => "POST",
                WebhookMethod::Put => "PUT",
                WebhookMethod::Patch => "PATCH",
            },
            shown_url,
            secret_path: settings.secret_path.clone(),
            headers: all,
            signing,
            body: settings.body,
            batch_max: if settings.body == WebhookBody::Single {
                1
            } else {
                settings.batch_max.unwrap_or(BATCH_MAX).max(1)
            },
            bytes_max: settings.bytes_max.unwrap_or(BYTES_MAX),
            success: Success::new(settings)?,
            dedup: settings.dedup,
            secrets,
        })
    }
}

impl Signing {
    fn new(secret: &Secret, settings: &WebhookSettings) -> Result<Signing> {
        if secret.expose().len() < 16 {
            return Err(Error::new(Kind::Config, "`signing_secret` has fewer than 16 bytes and could be guessed")
                .advise("make one with `openssl rand -hex 32`"));
        }
        let name = |configured: &Option<String>, key: &str, standard: &str| {
            headers::name(configured.as_deref().unwrap_or(standard)).ok_or_else(|| {
                Error::new(Kind::Config, format!("`{key}` is not a header's name"))
                    .advise(format!("write it like `{standard}`"))
            })
        };
        Ok(Signing {
            secret: secret.clone(),
            signature_header: name(&settings.signature_header, "signature_header", "x-groupcast-signature")?,
            timestamp_header: name(&settings.timestamp_header, "timestamp_header", "x-groupcast-timestamp")?,
        })
    }
}

impl Destination for Webhook {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn features(&self) -> Features {
        Features {
            ops: Op::ALL,
            on_null: &[OnNull::Unset, OnNull::Null, OnNull::Skip],
            delete: true,
            exact_numbers: true,
            objects: true,
            gzip: false,
            user: UserRule::Optional,
        }
    }

    fn limits(&self, _: Route) -> RequestLimits {
        let envelope_bytes = if self.body == WebhookBody::Single { 0 } else { HEAD.len() + TAIL.len() };
        RequestLimits {
            elements_max: self.batch_max,
            traits_max: usize::MAX,
            body_bytes_max: self.bytes_max,
            element_bytes_max: self.bytes_max.saturating_sub(envelope_bytes),
            envelope_bytes,
            separator_bytes: 1,
        }
    }

    fn repeatable(&self, route: Route) -> bool {
        route == REPEATABLE || self.dedup
    }

    fn parts(&self, addressed: &AddressedChange) -> Result<Vec<Part>, String> {
        self.encode_parts(addressed)
    }

    fn element(&self, addressed: &AddressedChange, part: &Part) -> Element {
        self.encode_element(addressed, part)
    }

    fn takes_plain(&self, _: &[&str]) -> bool {
        true
    }

    fn plain_route(&self, _: &AddressedChange, _: &PlainDocument) -> Option<Route> {
        Some(REPEATABLE)
    }

    fn plain_element(&self, addressed: &AddressedChange, document: &PlainDocument) -> Element {
        self.encode_plain(addressed, document)
    }

    fn request(&self, _: Route, elements: &[&Element], attempt: Attempt) -> Request {
        self.encode_request(elements, attempt)
    }

    fn interpret(&self, _: Route, _: usize, response: &Response) -> Verdict {
        self.verdict(response)
    }

    /// A GET of the address's root: no path, no header, no data. A receiver has no call that changes nothing.
    fn probe(&self) -> Option<Request> {
        let mut url = url::Url::parse(&self.shown_url).ok()?;
        url.set_path("/");
        Some(Request::get(url.to_string()))
    }

    fn masked(&self, request: &Request) -> Request {
        let secret = |name: &str| {
            // All that were configured: a value that came through `${…}` cannot be distinguished from one that did not.
            self.headers.iter().any(|header| header.name == name && name != "content-type")
                || self.signing.iter().any(|signing| signing.signature_header == name)
        };
        let mask = |(name, value): &(&'static str, String)| {
            (*name, if secret(name) { "***".to_owned() } else { value.clone() })
        };
        let url = match &self.secret_path {
            Some(_) if request.url.starts_with(self.shown_url.trim_end_matches('/')) => {
                format!("{}/***", self.shown_url.trim_end_matches('/'))
            }
            _ => request.url.clone(),
        };
        Request { url, headers: request.headers.iter().map(mask).collect(), ..request.clone() }
    }

    fn secrets(&self) -> Vec<Secret> {
        self.secrets.clone()
    }
}

#[cfg(test)]
mod tests;
