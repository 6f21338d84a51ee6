//! Destinations without IO: what one vendor's API accepts ([`Features`], [`RequestLimits`]), how a change is encoded for it,
//! and what its response means ([`Verdict`]). Sockets, clocks and retries are in `delivery`.
//!
//! A new destination is a folder `<vendor>/{mod,settings,encode,response,tests}.rs` and one row of [`registry`]; what
//! several vendors need is in [`shared`].
//!
//! A change travels as one or more *parts*, each for one *route* (an endpoint of the API). Parts of one route are
//! encoded once into *elements*; elements are packed into a request by all limits at once, and a split or a bisection
//! re-packs the same elements, so a retry carries the very same bytes.

pub mod amplitude;
pub mod batch;
mod change;
mod destination_type;
pub mod file;
pub mod journy;
pub mod mixpanel;
pub mod posthog;
pub mod readback;
pub mod registry;
mod seal;
pub mod segment;
pub mod shared;
pub mod thrivestack;
mod verdict;
pub mod webhook;

use std::time::Duration;

use serde_json::Value;

pub use change::{AddressedChange, Attempt, Element, LARGE_DOCUMENT_BYTES, Part, PlainSet, User};
pub use destination_type::{DestinationType, OwnKey};
pub use seal::{ConfiguredDestination, DestinationSeal};
pub use verdict::{Blame, ElementVerdict, Verdict};

use crate::error::Result as Outcome;
use crate::io::http::{Request, Response};
use crate::model::cell::As;
use crate::model::{OnNull, Op, PlainDocument};
use crate::secret::Secret;

/// What a destination can carry out; checked when a mapping is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Features {
    /// Operators a trait may use.
    pub ops: &'static [Op],
    /// Null policies a trait may use.
    pub on_null: &'static [OnNull],
    /// Whether a group can be deleted.
    pub delete: bool,
    /// Whether numbers arrive exactly however long they are. If not, a number that a double cannot hold is rejected
    /// locally rather than rounded by the vendor's JSON parser.
    pub exact_numbers: bool,
    /// Whether nested objects are values.
    pub objects: bool,
    /// Whether request bodies may be sent with `Content-Encoding: gzip`.
    pub gzip: bool,
    /// Whether calls mention a user as well.
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

/// A trait of a mapping, as far as a destination can check it before anything is read.
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

/// A finding of a destination about a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappingFinding {
    /// The trait it is about; the whole mapping when absent.
    pub about: Option<String>,
    /// Whether nothing can be sent this way. Otherwise it is a warning.
    pub error: bool,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub help: String,
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

    /// The vendor's rate limit for `route`, beside the operator's own. Routes without one share the operator's.
    fn pace(&self, _route: Route) -> Option<Pace> {
        None
    }

    /// Whether a request of several elements with the verdict [`Verdict::TooLarge`] may have been applied in part.
    fn too_large_in_part(&self, _route: Route) -> bool {
        false
    }

    /// How many group types it accepts, if there is a limit.
    fn group_types_max(&self) -> Option<usize> {
        None
    }

    /// How it is read back, if it can be.
    fn readback(&self) -> Option<&dyn readback::ReadBack> {
        None
    }

    /// Findings about a mapping's traits beyond [`Features`]: reserved names, names that collide.
    fn findings(&self, _traits: &[TraitShape<'_>]) -> Vec<MappingFinding> {
        Vec::new()
    }

    /// The next request that must be made before a change can be encoded (which number a group type has, whether an
    /// endpoint exists); it changes nothing. `None` once the destination is set up.
    fn setup_request(&self) -> Option<Request> {
        None
    }

    /// Takes the response to [`Destination::setup_request`]. The request is not made again, unless this fails.
    fn set_up(&mut self, _response: &Response) -> Outcome<()> {
        Ok(())
    }

    /// Cuts a change into parts, in the order in which they must be delivered, each of which fits `limits`' trait count.
    /// The parts together are exactly the change. Fails with the reason when the change cannot be carried at
    /// all (a key too long, a number that would be rounded): the group is then rejected without a request.
    fn parts(&self, change: &AddressedChange) -> Result<Vec<Part>, String>;

    /// Encodes one part of a change as an element of a request.
    fn element(&self, addressed: &AddressedChange, part: &Part) -> Element;

    /// Whether plain values of traits with these names may be sent by [`Destination::plain_element`]: nothing about them, but
    /// perhaps about a group's key, needs a check. Asked once per run.
    fn takes_plain(&self, _names: &[&str]) -> bool {
        false
    }

    /// The route that takes these plain values of a group that was never sent, as one element; `None` where
    /// [`Destination::parts`] has to decide. `addressed` is without a change.
    fn plain_route(&self, _addressed: &AddressedChange, _document: &PlainDocument) -> Option<Route> {
        None
    }

    /// Encodes plain values for the route of [`Destination::plain_route`]: the same bytes as [`Destination::element`] gives
    /// for a change that sets them.
    fn plain_element(&self, _addressed: &AddressedChange, _document: &PlainDocument) -> Element {
        Element::default()
    }

    /// Builds the request that carries these elements. Its body is at most `envelope_bytes` + the elements +
    /// `separator_bytes` between each two. Called for every attempt: only what describes the attempt itself may differ.
    fn request(&self, route: Route, elements: &[&Element], attempt: Attempt) -> Request;

    /// What `response` means. Total: any status, headers and bytes give a verdict. Nothing but the vendor's documented
    /// acknowledgement is ever [`Verdict::Accepted`] (see `shared/status.rs`), and a deletion of what is not there.
    fn interpret(&self, route: Route, elements: usize, response: &Response) -> Verdict;

    /// The same, given the elements that the request carried: for vendors with a result for each, by its id.
    fn interpret_each(&self, route: Route, elements: &[&Element], response: &Response) -> Verdict {
        self.interpret(route, elements.len(), response)
    }

    /// Where a request of one element failed in a way that may mean that there was nothing to do: a request that changes
    /// nothing and whose response [`Destination::confirms`] reads.
    fn confirmation_request(&self, _route: Route, _element: &Element, _response: &Response) -> Option<Request> {
        None
    }

    /// Whether the response to [`Destination::confirmation_request`] shows that the element's change is in place.
    fn confirms(&self, _route: Route, _element: &Element, _response: &Response) -> bool {
        false
    }

    /// How long nothing more may be sent after this response, whatever its verdict: the vendor allows no more requests.
    fn pause(&self, _response: &Response) -> Option<Duration> {
        None
    }

    /// A request that changes nothing and carries no secret; any response to it shows that the destination can be reached. `None` where there is nothing to reach.
    fn probe(&self) -> Option<Request> {
        None
    }

    /// The request as it may be shown to a person: same shape, secrets masked.
    fn masked(&self, request: &Request) -> Request;

    /// Its secrets, which are masked in everything that the vendor returns.
    fn secrets(&self) -> Vec<Secret>;
}
