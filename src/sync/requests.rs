//! Which requests would a run send? For people, without sending them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::decide::Decision;
use crate::destination::batch::{self, Size};
use crate::destination::{AddressedChange, Attempt, Destination, Element, Part, Route};

/// A request that a run would send, with its secrets masked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestView {
    /// The HTTP method.
    pub method: String,
    /// The whole address.
    pub url: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub body: String,
}

/// The requests that a run would send about a page of decisions, packed as it packs them, with secrets masked.
pub fn of_page(destination: &dyn Destination, page: &[Decision], now: DateTime<Utc>) -> Vec<RequestView> {
    let mut rounds: Vec<(AddressedChange, std::vec::IntoIter<Part>)> = Vec::new();
    for addressed in page.iter().filter_map(Decision::addressed) {
        // What cannot be carried is rejected without a request.
        if let Ok(parts) = destination.parts(&addressed) {
            rounds.push((addressed, parts.into_iter()));
        }
    }
    let mut requests = Vec::new();
    // Parts of one group follow each other: a round takes the next part of each.
    loop {
        let mut by_route: BTreeMap<Route, Vec<(Element, usize)>> = BTreeMap::new();
        for (addressed, parts) in &mut rounds {
            if let Some(part) = parts.next() {
                let element = destination.element(addressed, &part);
                by_route.entry(part.route).or_default().push((element, part.change.traits_count()));
            }
        }
        if by_route.is_empty() {
            return requests;
        }
        for (route, elements) in by_route {
            let sizes: Vec<Size> =
                elements.iter().map(|(element, traits)| Size { bytes: element.bytes.len(), traits: *traits }).collect();
            for batch in batch::pack(&sizes, &destination.limits(route), usize::MAX).batches {
                let carried: Vec<&Element> = batch.iter().map(|at| &elements[*at].0).collect();
                let attempt = Attempt { at: now, number: 1, request: 0 };
                let request = destination.masked(&destination.request(route, &carried, attempt));
                requests.push(RequestView {
                    method: request.method.to_owned(),
                    body: String::from_utf8_lossy(&request.body).into_owned(),
                    headers: request.headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
                    url: request.url,
                });
            }
        }
    }
}
