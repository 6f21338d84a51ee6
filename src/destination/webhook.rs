//! How does a change travel to an address of the operator's own, and what counts as its being taken?
//!
//! One change per request (`body = "single"`) or several (`"batch"`: `{"changes":[…]}`), each as
//! `{"id":…,"group_type":…,"key":…,"at":…,"set":{…},"unset":[…]}` with only the operators it has, or `"delete":true`, and
//! with `"user":{"id":…}` or `{"anonymous_id":…}` if the mapping has a `[user]`. `at` is when the run began.
//!
//! The `id` is the same for every repetition of a change within its run and another one for everything else, so a receiver
//! that remembers ids can ignore repetitions; `dedup = true` says that this one does, and only then changes that
//! accumulate are repeated. The next run's ids are new even where it says the same: if the answers to "plan: pro" and
//! then to "plan: free" were both lost, a third run's "plan: pro" must not pass for the first. (Nothing is lost by that:
//! after an unclear outcome a run sets and unsets, which may be repeated, and holds what accumulates.)
//!
//! Everything a mapping can ask for can be written, numbers keep all their digits, and a change is never cut: a change that
//! does not fit into `bytes_max` is rejected.
//!
//! What it deliberately is not: a template language. A receiver that wants another shape is a function of ten lines, and
//! it is the better place for them. Partial acceptance of a batch is not read either: a batch is taken or it is not, and
//! halves of a refused one are sent again until the guilty change is alone.

mod headers;
mod signature;
mod success;

use std::fmt::Write;
use std::sync::Arc;

use chrono::SecondsFormat;
use serde::{Deserialize, Serialize};

use super::evidence;
use super::response::words;
use super::{
    AddressedChange, Attempt, Blame, Destination, Element, Features, Part, RequestLimits, Route, User, UserRule,
    Verdict, dedup,
};
use crate::error::{Error, Kind, Result};
use crate::io::http::{Applied, Request, Response};
use crate::model::{Change, OnNull, Op};
use crate::secret::Secret;
use headers::Header;
use success::{Failure, Success};

/// Changes that may be repeated, or whose receiver recognises repetitions.
const REPEATABLE: Route = 0;
/// Changes that accumulate.
const ACCUMULATING: Route = 1;

const HEAD: &[u8] = br#"{"changes":["#;
const TAIL: &[u8] = b"]}";

/// Changes in a batch, and bytes in a body, unless configured: what common receivers take without being told to.
const BATCH_MAX: usize = 100;
const BYTES_MAX: usize = 1_000_000;

/// The request's method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// `POST`.
    #[default]
    Post,
    /// `PUT`.
    Put,
    /// `PATCH`.
    Patch,
}

/// How many changes a body holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Body {
    /// One, as the body itself.
    Single,
    /// Several, as `{"changes":[…]}`.
    #[default]
    Batch,
}

/// The `[destinations.<name>]` table of `type = "webhook"`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The receiver's address, without secrets.
    pub url: String,
    /// What follows the address and is secret: `/hooks/catch/123/abc`, `?token=…`.
    #[serde(default)]
    pub secret_path: Option<Secret>,
    /// The method.
    #[serde(default)]
    pub method: Method,
    /// Headers that hold no secret.
    #[serde(default)]
    pub headers: Option<toml::Table>,
    /// Those that do: `Name: value`, one per line.
    #[serde(default)]
    pub auth_header: Option<Secret>,
    /// One change per request, or several.
    #[serde(default)]
    pub body: Body,
    /// Changes in a batch.
    #[serde(default)]
    pub batch_max: Option<usize>,
    /// Bytes of a body.
    #[serde(default)]
    pub bytes_max: Option<usize>,
    /// The statuses that mean success: `2xx`, or a list like `200, 202`.
    #[serde(default)]
    pub success: Option<String>,
    /// A JSON pointer into the answer's body …
    #[serde(default)]
    pub success_pointer: Option<String>,
    /// … and the value that must stand there.
    #[serde(default)]
    pub success_equals: Option<String>,
    /// The key of the signature; unsigned when absent.
    #[serde(default)]
    pub signing_secret: Option<Secret>,
    /// The header of the signature.
    #[serde(default)]
    pub signature_header: Option<String>,
    /// The header of the time that is signed with the body.
    #[serde(default)]
    pub timestamp_header: Option<String>,
    /// Whether the receiver ignores an `id` it has seen before.
    #[serde(default)]
    pub dedup: bool,
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
    body: Body,
    batch_max: usize,
    bytes_max: usize,
    success: Success,
    dedup: bool,
    /// Everything that may not come back in the receiver's words.
    secrets: Vec<Secret>,
}

struct Signing {
    secret: Secret,
    signature_header: &'static str,
    timestamp_header: &'static str,
}

/// One change as it is written.
#[derive(Serialize)]
struct Said<'a> {
    id: String,
    group_type: &'a str,
    key: &'a str,
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Named<'a>>,
    #[serde(flatten)]
    change: &'a Change,
}

/// The user of a mapping's `[user]`.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Named<'a> {
    Id(&'a str),
    AnonymousId(&'a str),
}

impl Webhook {
    /// The destination that these settings describe, for groups of `group_type`.
    ///
    /// Errors ([`Kind::Config`]): an address, header or success rule that cannot be.
    pub fn new(settings: &Settings, group_type: &str) -> Result<Webhook> {
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
            return Err(Error::new(Kind::Config, format!("the header `{}` is there twice", pair[0]))
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
                Method::Post => "POST",
                Method::Put => "PUT",
                Method::Patch => "PATCH",
            },
            shown_url,
            secret_path: settings.secret_path.clone(),
            headers: all,
            signing,
            body: settings.body,
            batch_max: if settings.body == Body::Single { 1 } else { settings.batch_max.unwrap_or(BATCH_MAX).max(1) },
            bytes_max: settings.bytes_max.unwrap_or(BYTES_MAX),
            success: Success::new(settings)?,
            dedup: settings.dedup,
            secrets,
        })
    }

    fn says(&self, response: &Response) -> String {
        words(response, &self.secrets.iter().collect::<Vec<_>>())
    }
}

impl Signing {
    fn new(secret: &Secret, settings: &Settings) -> Result<Signing> {
        if secret.expose().len() < 16 {
            return Err(Error::new(Kind::Config, "`signing_secret` has less than 16 bytes and could be guessed")
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

/// What a page of HTML with a 2xx means.
fn page(reason: String) -> Verdict {
    let advice = "check `url`: the response is a web page, so that something else may be answering there; if this is how \
                  your receiver answers, set `success = \"200\"`";
    let reason = format!("{reason} (a web page)");
    Verdict::Stop { reason, advice: advice.to_owned(), blame: Blame::Unclear, applied: Applied::Maybe }
}

/// The configured address. Addresses are shown, so what could be a secret is not taken.
fn address(text: &str) -> Result<String> {
    let wrong = |what: &str| {
        Error::new(Kind::Config, format!("`url` {what}"))
            .advise("write it like `https://example.com/hooks/groups`, and put what is secret in `secret_path`")
    };
    let url = url::Url::parse(text).map_err(|_| wrong("is no address"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(wrong("is no http or https address"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("holds more than a host and a path"));
    }
    Ok(url.as_str().to_owned())
}

/// The address with its secret rest; between the two there is one slash, or the question mark of a query.
fn whole_address(shown: &str, secret: &Secret) -> Result<String> {
    let rest = secret.expose();
    let whole = match rest.strip_prefix('/') {
        Some(path) => format!("{}/{path}", shown.trim_end_matches('/')),
        None if rest.starts_with('?') => format!("{shown}{rest}"),
        None => format!("{}/{rest}", shown.trim_end_matches('/')),
    };
    let same_host = |url: &url::Url| url::Url::parse(shown).is_ok_and(|shown| shown.origin() == url.origin());
    match url::Url::parse(&whole) {
        Ok(url) if same_host(&url) && url.fragment().is_none() && !rest.chars().any(char::is_whitespace) => Ok(whole),
        _ => Err(Error::new(Kind::Config, "`secret_path` is no path or query")
            .advise("let it hold what follows the host, like `/hooks/catch/…` or `?token=…`")),
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
        let envelope_bytes = if self.body == Body::Single { 0 } else { HEAD.len() + TAIL.len() };
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
        let change = &addressed.change;
        if change.is_empty() {
            return Ok(Vec::new());
        }
        let route = if change.accumulates() { ACCUMULATING } else { REPEATABLE };
        Ok(vec![Part { route, change: Arc::clone(change) }])
    }

    fn element(&self, addressed: &AddressedChange, part: &Part) -> Element {
        serde_json::to_vec(&Said {
            id: dedup::uuid(dedup::digest(&self.group_type, addressed, &part.change)),
            group_type: &self.group_type,
            key: &addressed.key,
            at: addressed.at.to_rfc3339_opts(SecondsFormat::Millis, true),
            user: addressed.user.as_ref().map(|user| match user {
                User::Id(id) => Named::Id(id),
                User::Anonymous(id) => Named::AnonymousId(id),
            }),
            change: &part.change,
        })
        .expect("writing JSON values to memory cannot fail")
        .into()
    }

    fn request(&self, _: Route, elements: &[&Element], attempt: Attempt) -> Request {
        let mut body = Vec::with_capacity(elements.iter().map(|element| element.bytes.len() + 1).sum::<usize>() + 16);
        if self.body == Body::Batch {
            body.extend_from_slice(HEAD);
        }
        for (at, element) in elements.iter().enumerate() {
            if at > 0 {
                body.push(b',');
            }
            body.extend_from_slice(&element.bytes);
        }
        if self.body == Body::Batch {
            body.extend_from_slice(TAIL);
        }
        let mut sent: Vec<(&'static str, String)> = Vec::new();
        if self.headers.iter().all(|header| header.name != "content-type") {
            sent.push(("content-type", "application/json".to_owned()));
        }
        sent.extend(self.headers.iter().map(|header| (header.name, header.value.clone())));
        if let Some(Signing { secret, signature_header, timestamp_header }) = &self.signing {
            // Of the attempt, not of the change: a receiver refuses what was signed long ago.
            let timestamp = attempt.at.timestamp().to_string();
            sent.push((signature_header, signature::signature(secret, &timestamp, &body)));
            sent.push((timestamp_header, timestamp));
        }
        let url = match &self.secret_path {
            // Checked when the settings were read.
            Some(path) => whole_address(&self.shown_url, path).unwrap_or_else(|_| self.shown_url.clone()),
            None => self.shown_url.clone(),
        };
        Request { method: self.method, url, headers: sent, body, gzip: false }
    }

    fn interpret(&self, _: Route, _: usize, response: &Response) -> Verdict {
        let mut reason = self.says(response);
        const REFUSED: &str = "check `auth_header`, `secret_path` and `signing_secret`: the receiver refuses us";
        let stop = |advice: &str, blame| Verdict::Stop {
            reason: reason.clone(),
            advice: advice.to_owned(),
            blame,
            applied: Applied::No,
        };
        match response.status {
            200..=299 => match self.success.failure(response) {
                None if self.success.takes_a_page() || !evidence::is_page(response) => return Verdict::ACCEPTED,
                None => return page(reason),
                Some(_) if evidence::is_page(response) => return page(reason),
                Some(Failure { rule, said }) => {
                    let _ = write!(reason, " ({rule})");
                    return Verdict::Rejected { reason, applied: if said { Applied::No } else { Applied::Maybe } };
                }
            },
            404 | 410 => {
                let advice = "check `url` and `secret_path`: there is no receiver at this address (any more)";
                return stop(advice, Blame::Unclear);
            }
            405 => return stop("check `method` and `url`: the receiver does not take this method", Blame::Unclear),
            _ => {}
        }
        let api = evidence::Api {
            vendor: "the receiver",
            statuses: &[],
            body: &|_| evidence::Said::Foreign,
            address: "`url`",
            credentials: REFUSED,
            plan: "look at the receiver: it asks for payment",
            after: response.retry_after(),
        };
        evidence::judge(response, reason, &api)
    }

    /// A GET of the address's root: no path, no header, no data. A receiver has no call that changes nothing.
    fn probe(&self) -> Option<Request> {
        let mut url = url::Url::parse(&self.shown_url).ok()?;
        url.set_path("/");
        Some(Request::get(url.to_string()))
    }

    fn masked(&self, request: &Request) -> Request {
        let secret = |name: &str| {
            // All that were configured: a value that came through `${…}` cannot be told from one that did not.
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
}

#[cfg(test)]
mod tests;
