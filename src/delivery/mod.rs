//! Delivery: how changes become acknowledged requests, and what became of each.
//!
//! [`Delivery::deliver`] takes a page of changes and gives every one exactly one [`DeliveryOutcome`], through [`Settle`], one call
//! per finished request. In between: parts → [`pack`](crate::destination::batch) → token → send → interpret → retry,
//! split, bisect or settle. The rules:
//!
//! - Two parts of one key are never in one request and never in flight together; the parts of a change follow each other.
//! - Every attempt, first or repeated, takes a token of the rate limit, and every repetition carries the same elements.
//! - "Definitely did not happen" ([`DeliveryOutcome::NotSent`]) and "may have happened" ([`DeliveryOutcome::Unconfirmed`]) are never confused: one
//!   attempt without a clear answer, or one delivered part, is enough for the latter.
//! - Everything ends: attempts, waits, bisection, and a destination that refuses or fails without end.

mod ask;
mod blame;
mod deliver;
pub mod pace;
mod request;
mod work;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

pub use ask::{ReadBackClient, ask, prepare};
pub use deliver::Delivery;

use crate::error::Result;

/// Longest response to a change that is read: vendors' are a few hundred bytes, errors for each element a few thousand.
const RESPONSE_BYTES_MAX: usize = 64 * 1024;
/// Longest response to a question: a page of groups with all their traits.
const READ_BYTES_MAX: usize = 32 * 1024 * 1024;

/// How a destination is spoken to.
#[derive(Debug, Clone, PartialEq)]
pub struct DeliverySettings {
    /// Requests in flight at a time (at least one).
    pub concurrency: usize,
    /// Attempts started per second, evenly spaced; no limit when absent.
    pub requests_per_second: Option<f64>,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// How long one request may take from its first attempt, waits included.
    pub retry_for: Duration,
    /// Attempts per request.
    pub attempts_max: u32,
    /// How long requests in flight may go on after we were asked to stop.
    pub grace: Duration,
}

impl Default for DeliverySettings {
    fn default() -> DeliverySettings {
        DeliverySettings {
            concurrency: 4,
            requests_per_second: None,
            timeout: Duration::from_secs(30),
            retry_for: Duration::from_secs(600),
            attempts_max: 8,
            grace: Duration::from_secs(10),
        }
    }
}

/// What became of one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// Every part was acknowledged.
    Delivered,
    /// The change itself is at fault; repeating it is pointless.
    Rejected {
        /// Ours or the vendor's words.
        reason: String,
        /// Whether the destination may hold some of it all the same: an earlier part was delivered, or an earlier
        /// attempt had no clear answer. Then what it holds is unconfirmed.
        partly_applied: bool,
    },
    /// It definitely had no effect. The next run sends it again.
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

/// Takes the outcomes of changes, as they are known.
#[async_trait]
pub trait Settle: Send + Sync {
    /// Records these outcomes, durably. The first of a pair is the change's index in the page. Called once for
    /// requests that finish together, never twice for one change, and never concurrently with itself by one
    /// [`Delivery::deliver`]. After an error nothing more is sent.
    async fn settle(&self, outcomes: Vec<(usize, DeliveryOutcome)>) -> Result<()>;
}

/// Whether delivery goes on. Signals only ever rise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Signal {
    /// Go on.
    #[default]
    Go,
    /// Start no request; those in flight have [`DeliverySettings::grace`] to finish.
    Stop,
    /// Give up what is in flight at once; its outcome is unknown.
    Abandon,
}

/// What delivery has done so far, readable while it runs.
#[derive(Debug, Default)]
pub struct DeliveryCounters {
    /// Attempts started, repeated ones included.
    pub requests: AtomicU64,
    /// Attempts that repeated an earlier one.
    pub retries: AtomicU64,
    /// Body bytes of all attempts, before compression.
    pub bytes: AtomicU64,
    /// Milliseconds spent waiting for the rate limit, summed over concurrent requests.
    pub rate_wait_ms: AtomicU64,
    /// Milliseconds spent waiting before repetitions, summed likewise.
    pub retry_wait_ms: AtomicU64,
    /// Traits in acknowledged requests.
    pub traits_sent: AtomicU64,
    by_status: Mutex<BTreeMap<u16, u64>>,
    warnings: Mutex<BTreeMap<String, u64>>,
}

impl DeliveryCounters {
    /// Attempts by HTTP status; 0 stands for no answer.
    pub fn by_status(&self) -> BTreeMap<u16, u64> {
        self.by_status.lock().clone()
    }

    fn count_status(&self, status: u16) {
        *self.by_status.lock().entry(status).or_default() += 1;
    }

    /// What the destination remarked about requests it took, and how often.
    pub fn warnings(&self) -> BTreeMap<String, u64> {
        self.warnings.lock().clone()
    }

    /// Counts a remark. Of many different ones, which would name groups or requests, only the first are kept.
    fn warn(&self, warning: &str) {
        const DIFFERENT_MAX: usize = 10;
        let mut warnings = self.warnings.lock();
        if warnings.len() < DIFFERENT_MAX || warnings.contains_key(warning) {
            *warnings.entry(warning.to_owned()).or_default() += 1;
        }
    }

    fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }

    fn add_wait(counter: &AtomicU64, wait: Duration) {
        DeliveryCounters::add(counter, u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    }
}
