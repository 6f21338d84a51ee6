//! Delivery: changes become acknowledged requests, and each change gets one outcome.
//!
//! [`Delivery::deliver`] takes a page of changes and gives every one exactly one [`DeliveryOutcome`], through [`Settle`],
//! one call per finished request. In between: parts → [batches](crate::destination::batch) → token → send → interpret →
//! retry, split, bisect or settle. The rules:
//!
//! - Two parts of one key are never in one request and never in flight together; the parts of a change follow each other.
//! - Every attempt takes a token of the rate limit, and every retry carries the same elements.
//! - "It had no effect" ([`DeliveryOutcome::NotSent`]) and "it may have had one" ([`DeliveryOutcome::Unconfirmed`]) are
//!   never confused: one attempt without a clear response, or one delivered part, is enough for the latter.
//! - Everything ends: attempts, waits, bisection, and a destination that rejects or fails without end.

mod breaker;
mod counters;
mod deliver;
mod latency;
mod outcome;
pub mod pace;
mod piece;
mod query;
mod reaction;
mod request;
mod run_log;
mod settings;
mod stop;
mod work;

pub use counters::DeliveryCounters;
pub use deliver::Delivery;
pub use latency::Latency;
pub use outcome::{ChangeRequest, DeliveryOutcome, LastRequest, Settle, SettledChange};
pub use query::{ReadBackClient, prepare, query};
pub use run_log::{LogLevel, LogLine, LogLines, RunLog};
pub use settings::{DeliverySettings, KeepRequests};
pub use stop::{Permit, Signal};
