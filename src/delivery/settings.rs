//! Settings of delivery: concurrency, rate, timeouts and retries.

use std::time::Duration;

/// How requests are sent to a destination.
#[derive(Debug, Clone, PartialEq)]
pub struct DeliverySettings {
    /// The destination's name in `groupcast.toml`, for messages; empty if it has no name.
    pub destination: String,
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
    /// How long requests in flight may go on after a stop signal.
    pub grace: Duration,
    /// Of which changes the last requests are handed to [`Settle`](super::Settle).
    pub keep: KeepRequests,
}

/// Of which changes the last requests are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeepRequests {
    /// Of none.
    #[default]
    Never,
    /// Of those that were not delivered.
    Undelivered,
    /// Of all.
    Always,
}

impl Default for DeliverySettings {
    fn default() -> DeliverySettings {
        DeliverySettings {
            destination: String::new(),
            concurrency: 4,
            requests_per_second: None,
            timeout: Duration::from_secs(30),
            retry_for: Duration::from_secs(600),
            attempts_max: 8,
            grace: Duration::from_secs(10),
            keep: KeepRequests::default(),
        }
    }
}
