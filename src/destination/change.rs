//! A change on its way: addressed to one group, cut into parts, each encoded as one element of a request.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::Route;
use crate::model::{Change, PlainDocument, Traits};

/// The user that a group call names, where the destination wants one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum User {
    /// A known user's id.
    Id(String),
    /// An anonymous id.
    Anonymous(String),
}

/// From so many bytes on a group's whole document is checked. The least documented limit is 1 MB, and no encoding
/// makes more than seven bytes of one.
pub const LARGE_DOCUMENT_BYTES: usize = 128 * 1024;

/// A change addressed to one group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AddressedChange {
    /// The group's id.
    pub key: String,
    /// The user of the call, if the mapping names one.
    pub user: Option<User>,
    /// When its run began.
    pub at: DateTime<Utc>,
    /// The change, repeated traits among those that are set; shared with the journal's entry where there are none.
    pub change: Arc<Change>,
    /// The traits among those set that did not change. Every request that a change is cut into carries them.
    pub repeated: Traits,
    /// What the group will hold, where that is large: vendors limit the whole of it as well.
    pub large_document: Option<Arc<Traits>>,
    /// Where the group was never sent and has plain values only: what is set, and the route that takes it. Then `change` is
    /// empty.
    pub plain: Option<PlainSet>,
    /// The journal sequence at which the group was last settled (0: never). With the change's content it makes dedup
    /// keys that are stable over retries and differ between two acknowledged changes.
    pub settled_seq: u64,
}

/// Plain values that are set for a group that was never sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainSet {
    /// The values.
    pub document: PlainDocument,
    /// The endpoint that takes them.
    pub route: Route,
}

/// A share of a change that one request carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The endpoint that takes it.
    pub route: Route,
    /// Its traits: the whole change, shared, or a part of it.
    pub change: Arc<Change>,
}

/// One part as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Element {
    /// Its bytes in a request body. The same part gives the same bytes.
    pub bytes: Vec<u8>,
    /// What follows the route's address, for a route that takes one element per request and names it there (a path or a
    /// query, encoded); empty otherwise.
    pub address: String,
    /// What the vendor calls it in its responses, where it has a result for each element; empty otherwise.
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
