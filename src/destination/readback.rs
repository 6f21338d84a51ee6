//! Reading back what a destination holds, without IO: the requests, and what their responses contain. For `verify`,
//! `group --remote` and `check --connect`; a run never reads back.

use serde_json::Value;

use super::Pace;
use crate::error::Result;
use crate::io::http::{Request, Response};
use crate::model::Traits;

/// A query about the groups of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadBackQuery<'a> {
    /// All groups, a page of them: the first, or the one at this cursor.
    Page(Option<&'a str>),
    /// The group with this key.
    Find(&'a str),
    /// Who and what has been seen together with the group.
    Related(&'a str),
    /// What people did to the group.
    Activity(&'a str),
    /// The names of the traits that any group has.
    Names,
    /// Some values of this trait.
    Values(&'a str),
}

/// A group as the destination stores it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RemoteGroup {
    /// Its id.
    pub key: String,
    /// All its traits, not only the mapped ones.
    pub traits: Traits,
}

/// A page of groups.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Page {
    /// The groups, in the destination's order.
    pub groups: Vec<RemoteGroup>,
    /// Where the next page is; none after the last.
    pub next: Option<String>,
}

/// A person or another group that has been seen together with a group.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Related {
    /// `person`, or the group type.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// What it is called, if that is known.
    pub name: Option<String>,
}

/// Something that was done to a group.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Activity {
    /// When, as the destination writes it.
    pub at: String,
    /// What, as the destination calls it.
    pub what: String,
    /// The trait it was done to, if it is about one.
    pub about: Option<String>,
    /// Who did it, if a person.
    pub by: Option<String>,
}

/// A destination that can be read back. Requests change nothing; none is made before the destination's setup requests
/// ([`super::Destination::setup_request`]).
pub trait ReadBack: Send + Sync {
    /// How often it may be queried.
    fn pace(&self) -> Option<Pace>;

    /// The request of a query. `None` when there is nothing to read: the destination has no groups of this type yet.
    fn request(&self, query: ReadBackQuery<'_>) -> Option<Request>;

    /// The response to [`ReadBackQuery::Page`].
    fn page(&self, response: &Response) -> Result<Page>;

    /// The response to [`ReadBackQuery::Find`]; `None` when there is no such group.
    fn found(&self, response: &Response) -> Result<Option<RemoteGroup>>;

    /// The response to [`ReadBackQuery::Related`].
    fn related(&self, response: &Response) -> Result<Vec<Related>>;

    /// The response to [`ReadBackQuery::Activity`], the latest first.
    fn activity(&self, response: &Response) -> Result<Vec<Activity>>;

    /// The response to [`ReadBackQuery::Names`]; `None` when this server does not know.
    fn names(&self, response: &Response) -> Option<Vec<String>>;

    /// The response to [`ReadBackQuery::Values`], the most frequent first; `None` when this server does not know.
    fn values(&self, response: &Response) -> Option<Vec<Value>>;

    /// A sent value, as the destination stores it.
    fn held(&self, value: &Value) -> Value {
        value.clone()
    }
}
