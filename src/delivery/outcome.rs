//! Outcomes: of a request, once its attempts are over, and of a change, once its requests are.

use std::sync::Arc;

use async_trait::async_trait;

use crate::destination::{Blame, ElementVerdict};
use crate::error::Result;
use crate::io::http::exchange::RawExchange;

/// The outcome of one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// Every part was acknowledged.
    Delivered,
    /// The change itself is at fault; sending it again is pointless.
    Rejected {
        /// The vendor's error message, or ours.
        reason: String,
        /// Whether the destination may hold some of it all the same: an earlier part was delivered, or an earlier
        /// attempt had no clear response.
        partly_applied: bool,
    },
    /// It had no effect. The next run sends it again.
    NotSent {
        /// Why.
        reason: String,
    },
    /// It may have had an effect, in whole or in part.
    Unconfirmed {
        /// Why.
        reason: String,
    },
}

/// A request as it was sent last, and what came back.
#[derive(Debug, PartialEq, Eq)]
pub struct LastRequest {
    /// No other request of this delivery has it.
    pub number: u64,
    /// How many changes it carried.
    pub changes: usize,
    /// The request and its response.
    pub exchange: RawExchange,
}

/// A request that carried a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeRequest {
    /// The request, shared with other changes that it carried.
    pub request: Arc<LastRequest>,
    /// What it carried of this change, where it carried others as well.
    pub part: Option<Vec<u8>>,
}

/// The end of one change.
#[derive(Debug)]
pub struct SettledChange {
    /// Its index in the page.
    pub index: usize,
    /// Its outcome.
    pub outcome: DeliveryOutcome,
    /// The requests it was in last, in their order, where they are [kept](super::DeliverySettings::keep).
    pub requests: Vec<ChangeRequest>,
}

/// Records the outcomes of changes as they arrive.
#[async_trait]
pub trait Settle: Send + Sync {
    /// Records these outcomes, durably. Called once for requests that finish together, never twice for one change, and
    /// never concurrently with itself by one [`Delivery::deliver`](super::Delivery::deliver). After an error nothing more is
    /// sent.
    async fn settle(&self, settled: Vec<SettledChange>) -> Result<()>;
}

/// How a request ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RequestEnd {
    Accepted {
        warning: Option<String>,
    },
    Rejected {
        reason: String,
    },
    RejectedSome {
        elements: Vec<(usize, String)>,
    },
    TooLarge {
        reason: String,
    },
    Stop {
        reason: String,
        advice: String,
        blame: Blame,
    },
    /// Attempts or time are used up, or repeating would not be safe.
    GaveUp {
        reason: String,
        /// Whether the destination failed at this request, rather than being unreachable or asking to wait: then a part
        /// of it may succeed.
        failing: bool,
    },
    /// The run or the page was stopped before a response that ends it.
    Halted {
        reason: &'static str,
    },
}

/// The outcome of a request: its end, and whether some attempt before it may have been applied.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RequestOutcome {
    /// The end of the elements that are not [`RequestOutcome::settled`].
    pub(super) end: RequestEnd,
    /// How often it was sent.
    pub(super) attempts: u32,
    /// How many of these the destination failed at: no response, or one of a failing server.
    pub(super) failures: u32,
    /// How many requests were accepted since the destination first failed at this one.
    pub(super) accepted_since: u64,
    pub(super) maybe_applied: bool,
    /// The outcomes of single elements, where the response names them.
    pub(super) settled: Vec<ElementOutcome>,
    /// The last attempt, where it is kept.
    pub(super) last: Option<Arc<LastRequest>>,
}

/// The outcome of one element, by its index in the request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ElementOutcome {
    pub(super) index: usize,
    pub(super) verdict: ElementVerdict,
    /// Whether an attempt before the one that settled it may have been applied.
    pub(super) maybe_applied: bool,
    /// The attempt that settled it, where it is kept.
    pub(super) last: Option<Arc<LastRequest>>,
}
