//! Destinations without IO: what one vendor's API takes ([`Features`], [`RequestLimits`]), how a change is written for it, and
//! what its answer means ([`Verdict`]). Sockets, clocks and retries live in `delivery`; a new destination is one file here.
//!
//! A change travels as one or more *parts*, each for one *route* (an endpoint of the API). Parts of one route are
//! encoded once into *elements*; elements are packed into a request by all limits at once, and a split or a bisection
//! re-packs the same elements, so a retry carries the very same bytes.

pub mod amplitude;
mod dedup;
mod evidence;
pub mod file;
pub mod journy;
pub mod mixpanel;
pub mod pack;
mod plain_json;
pub mod posthog;
pub mod readback;
mod reserved;
pub(crate) mod response;
pub mod segment;
pub mod thrivestack;
pub mod webhook;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::error::{Error, Kind, Result as Outcome};
use crate::io::http::{Applied, Request, Response};
use crate::model::cell::As;
use crate::model::{Change, OnNull, Op, Traits};

/// What a destination can carry out; checked when a mapping is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Features {
    /// Operators a trait may use.
    pub ops: &'static [Op],
    /// Null policies a trait may use.
    pub on_null: &'static [OnNull],
    /// Whether a group can be deleted.
    pub delete: bool,
    /// Whether numbers arrive exactly however long they are. If not, a number that a double cannot hold is refused
    /// locally rather than rounded by the vendor's JSON parser.
    pub exact_numbers: bool,
    /// Whether nested objects are values.
    pub objects: bool,
    /// Whether request bodies may be sent with `Content-Encoding: gzip`.
    pub gzip: bool,
    /// Whether calls speak of a user as well.
    pub user: UserRule,
}

/// What a destination makes of a mapping's `[user]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserRule {
    /// Every call names a user, known or anonymous: a mapping must have one.
    Required,
    /// Every call names a user by a known id: a mapping must have one, and an anonymous id will not do.
    RequiredKnown,
    /// A call may name one.
    Optional,
    /// No call can.
    Never,
}

/// What one request of a route may hold. All limits hold at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLimits {
    /// Elements in a request.
    pub elements_max: usize,
    /// Traits summed over all elements of a request.
    pub traits_max: usize,
    /// Bytes of a request body before compression.
    pub body_bytes_max: usize,
    /// Bytes of one element.
    pub element_bytes_max: usize,
    /// Bytes of a request body around its elements.
    pub envelope_bytes: usize,
    /// Bytes between two elements.
    pub separator_bytes: usize,
}

/// An endpoint of a destination's API, by its own numbering.
pub type Route = u8;

/// How often a vendor lets us call: `burst` attempts at once, and `per_second` from then on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Routes of one lane share the allowance.
    pub lane: u8,
    /// Attempts per second in the long run.
    pub per_second: f64,
    /// Attempts that may be made without a pause after a rest.
    pub burst: u32,
}

/// The user that a group call names, where the destination wants one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum User {
    /// A known user's id.
    Id(String),
    /// An anonymous id.
    Anonymous(String),
}

/// From so many bytes on a group's document is looked at as a whole. The least that is documented is 1 MB, and no encoding
/// makes more than seven bytes of one.
pub const LARGE_DOCUMENT_BYTES: usize = 128 * 1024;

/// A change addressed to one group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AddressedChange {
    /// The group's id.
    pub key: String,
    /// The user it is said with, if the mapping names one.
    pub user: Option<User>,
    /// When the run that says it began.
    pub at: DateTime<Utc>,
    /// What to say about it, repeated traits among those that are set; shared with the journal's entry where there are none.
    pub change: Arc<Change>,
    /// The traits among those set that did not change. Every request that a change is cut into carries them.
    pub repeated: Traits,
    /// What the group will hold, where that is large: vendors limit the whole of it as well.
    pub large_document: Option<Arc<Traits>>,
    /// The journal sequence at which the group was last settled (0: never). With the change's content it makes dedup
    /// keys that are stable over retries and differ between two acknowledged changes.
    pub settled_seq: u64,
}

/// A share of a change that one request carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The endpoint that takes it.
    pub route: Route,
    /// The traits it speaks about: the whole change, shared, or a share of it.
    pub change: Arc<Change>,
}

/// One part as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Element {
    /// The bytes that stand for it in a request body. The same part gives the same bytes.
    pub bytes: Vec<u8>,
    /// What follows the route's address, for a route that takes one element per request and names it there (a path or a
    /// query, encoded); empty otherwise.
    pub address: String,
    /// What the vendor calls it in its responses, where it answers for each element; empty otherwise.
    pub id: String,
}

impl From<Vec<u8>> for Element {
    fn from(bytes: Vec<u8>) -> Element {
        Element { bytes, ..Element::default() }
    }
}

/// One attempt at a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// When it is made, by our clock.
    pub at: DateTime<Utc>,
    /// From 1.
    pub number: u32,
    /// The same for every attempt at a request whose elements have ids, and no other request's.
    pub request: u128,
}

/// What a trait of a mapping looks like, for what a destination has to say about it before anything is read.
#[derive(Debug, Clone, PartialEq)]
pub struct TraitShape<'a> {
    /// Its name.
    pub name: &'a str,
    /// What a new value does.
    pub op: Op,
    /// The declared JSON type, if any.
    pub declared: Option<As>,
    /// The value, when it is the same for every group.
    pub constant: Option<&'a Value>,
    /// The names of its members, when it is an object.
    pub members: Option<Vec<&'a str>>,
    /// Whether it is sent along with every change of its group.
    pub always: bool,
}

/// What a destination has to say about a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappingFinding {
    /// The trait it is about; the whole mapping when absent.
    pub about: Option<String>,
    /// Whether nothing can be sent this way. Otherwise it is a warning.
    pub error: bool,
    /// What is the matter.
    pub what: String,
    /// What to do.
    pub help: String,
}

/// What a response means for the elements of its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every element was taken.
    Accepted {
        /// What the vendor remarked all the same.
        warning: Option<String>,
    },
    /// The request was refused because of something in it. Several elements: bisect. One: it is rejected.
    Rejected {
        /// The vendor's words, secrets masked.
        reason: String,
        /// Whether some of it may have been applied all the same.
        applied: Applied,
    },
    /// The vendor told of each element what became of it.
    PerElement {
        /// What became of these, by index.
        verdicts: Vec<(usize, ElementVerdict)>,
        /// What the vendor remarked about those that it took.
        warning: Option<String>,
        /// What the response means for the others, if there are any; never the like of this.
        rest: Box<Verdict>,
    },
    /// These elements (by index) were refused, and nothing else was taken either: resend the rest.
    RejectedSome {
        /// Index and the vendor's words.
        elements: Vec<(usize, String)>,
    },
    /// The request was too large. Several elements: split. One: it is rejected.
    TooLarge {
        /// The vendor's words.
        reason: String,
    },
    /// Not now. Send the same elements again.
    Retry {
        /// The vendor's words.
        reason: String,
        /// How long the vendor wants us to wait at least.
        after: Option<Duration>,
        /// Whether the request may have been applied all the same.
        applied: Applied,
    },
    /// The destination, or something before it, refuses us rather than the data, as far as one response can tell:
    /// nothing more is sent in this run, unless `blame` leaves a doubt and other requests are accepted.
    Stop {
        /// The vendor's words.
        reason: String,
        /// The operator's next step.
        advice: String,
        /// How certain it is that no group could be delivered.
        blame: Blame,
        /// Whether the request may have been applied all the same.
        applied: Applied,
    },
}

/// What became of one element for good, where the vendor tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ElementVerdict {
    /// It was taken.
    Accepted,
    /// It was refused, and had no effect.
    Rejected {
        /// The vendor's words.
        reason: String,
    },
    /// It may or may not have an effect.
    Unclear {
        /// Why.
        reason: String,
    },
}

/// Whom a response blames that is not about the data by its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// Certainly us: the vendor's own words about the key, a plan, a quota, a proxy's login. No group could be delivered.
    Us,
    /// Our credentials, unless other requests are accepted.
    Credentials,
    /// Us, or something in this very request: a firewall refuses single texts like this, and a wrong address refuses
    /// everything like this. Only other requests tell.
    Unclear,
}

impl Verdict {
    /// Every element was taken, without a remark.
    pub const ACCEPTED: Verdict = Verdict::Accepted { warning: None };

    /// Nothing was taken, and no group could be: see [`Blame::Us`].
    fn stop(reason: String, advice: impl Into<String>) -> Verdict {
        Verdict::Stop { reason, advice: advice.into(), blame: Blame::Us, applied: Applied::No }
    }

    /// Something in the request was refused, and nothing of it applied.
    fn refused(reason: String) -> Verdict {
        Verdict::Rejected { reason, applied: Applied::No }
    }
}

/// One vendor's API. Pure: no clock, no sockets, no randomness.
pub trait Destination: Send + Sync {
    /// The type's name in `groupcast.toml`, for messages.
    fn name(&self) -> &'static str;

    /// What it can carry out.
    fn features(&self) -> Features;

    /// What one request of `route` may hold.
    fn limits(&self, route: Route) -> RequestLimits;

    /// Whether a request of `route` may be sent again when its outcome is unknown: repeating it changes nothing, or the
    /// vendor recognises it. If not, such a request is given up, and its groups stay unconfirmed.
    fn repeatable(&self, _route: Route) -> bool {
        true
    }

    /// How often `route` may be called, whatever the operator allows. Routes without a pace share the operator's own.
    fn pace(&self, _route: Route) -> Option<Pace> {
        None
    }

    /// Whether a request of several elements that was answered with [`Verdict::TooLarge`] may have been applied in part.
    fn too_large_in_part(&self, _route: Route) -> bool {
        false
    }

    /// How many group types it takes, if there is a limit.
    fn group_types_max(&self) -> Option<usize> {
        None
    }

    /// How it is asked what it holds, if it can be.
    fn readback(&self) -> Option<&dyn readback::ReadBack> {
        None
    }

    /// What it has to say about a mapping's traits beyond [`Features`]: reserved names, names that collide.
    fn findings(&self, _traits: &[TraitShape<'_>]) -> Vec<MappingFinding> {
        Vec::new()
    }

    /// What must be asked before anything can be said (which number a group type has, whether an endpoint exists):
    /// requests that change nothing, one after the other, until there is none.
    fn setup_request(&self) -> Option<Request> {
        None
    }

    /// Takes the answer to [`Destination::setup_request`]. It is not asked again, unless this fails.
    fn set_up(&mut self, _reply: &Response) -> Outcome<()> {
        Ok(())
    }

    /// Cuts a change into parts, in the order in which they must be delivered, each of which fits `limits`' trait count.
    /// The parts together say exactly what the change says. Fails with the reason when the change cannot be carried at
    /// all (a key too long, a number that would be rounded): the group is then rejected without a request.
    fn parts(&self, change: &AddressedChange) -> Result<Vec<Part>, String>;

    /// Writes one part of a change as it stands in a request.
    fn element(&self, addressed: &AddressedChange, part: &Part) -> Element;

    /// Builds the request that carries these elements. Its body is at most `envelope_bytes` + the elements +
    /// `separator_bytes` between each two. Called for every attempt: only what tells of the attempt itself may differ.
    fn request(&self, route: Route, elements: &[&Element], attempt: Attempt) -> Request;

    /// What `response` means. Total: any status, headers and bytes give a verdict. Nothing but the vendor's documented
    /// acknowledgement is ever [`Verdict::Accepted`] (see `evidence.rs`), and a deletion of what is not there.
    fn interpret(&self, route: Route, elements: usize, response: &Response) -> Verdict;

    /// The same, given the elements that the request carried: for vendors that answer for each by its id.
    fn interpret_each(&self, route: Route, elements: &[&Element], response: &Response) -> Verdict {
        self.interpret(route, elements.len(), response)
    }

    /// Where a request of one element failed in a way that may mean that there was nothing to do: a question that changes
    /// nothing and whose answer [`Destination::confirms`] reads.
    fn confirmation_request(&self, _route: Route, _element: &Element, _reply: &Response) -> Option<Request> {
        None
    }

    /// Whether the answer to [`Destination::confirmation_request`] shows that what the element wants is so.
    fn confirms(&self, _route: Route, _element: &Element, _answer: &Response) -> bool {
        false
    }

    /// How long nothing more may be sent after this response, whatever its verdict: the vendor's count of requests left has
    /// come to its end.
    fn pause(&self, _reply: &Response) -> Option<Duration> {
        None
    }

    /// A request that changes nothing and carries no secret; that it is answered at all, whatever the status, shows that
    /// the destination can be reached. `None` where there is nothing to reach.
    fn probe(&self) -> Option<Request> {
        None
    }

    /// The request as it may be shown to a person: same shape, secrets masked.
    fn masked(&self, request: &Request) -> Request;
}

/// A configured `base_url` without its trailing slash. Fails ([`Kind::Config`]) when it is no plain http(s) address: one
/// with credentials, a query or a fragment would put secrets into addresses, which are logged.
fn base_url(text: &str) -> Outcome<String> {
    let wrong = |what: &str| {
        Error::new(Kind::Config, format!("`base_url` {what}"))
            .advise("write it like `https://proxy.example.com/amplitude`, without credentials, query or fragment")
    };
    let url = url::Url::parse(text).map_err(|_| wrong("is no address"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(wrong("is no http or https address"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("holds more than a host and a path"));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_hold_a_host_and_a_path() {
        assert_eq!(base_url("http://127.0.0.1:8321/").unwrap(), "http://127.0.0.1:8321");
        assert_eq!(base_url("https://proxy.example.com/a/b").unwrap(), "https://proxy.example.com/a/b");
        for text in
            ["", "api.amplitude.com", "file:/etc/passwd", "ftp://a", "https://u:p@a", "https://a?k=v", "https://a#f"]
        {
            let error = base_url(text).unwrap_err();
            assert_eq!(error.kind(), Kind::Config, "{text}");
            assert!(!error.to_string().contains("u:p"), "no secret in the text");
        }
    }
}
