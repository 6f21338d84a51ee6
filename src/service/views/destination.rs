//! The view of a destination: what is configured for sending to it, and how it responded to the latest runs.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::RunView;
use crate::config::DestinationSettings;
use crate::delivery::Latency;
use crate::ledger::RunStatus;
use crate::sync::report::Detail;

/// Runs in the view: as many as a page has room for.
const RUNS_MAX: usize = 20;

/// A destination: how it is sent to, and how it responded lately.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DestinationView {
    /// Its name.
    pub destination: String,
    /// Its type: `amplitude`, `file`.
    pub destination_type: String,
    /// The syncs that send to it, by name.
    pub syncs: Vec<String>,
    /// What is configured.
    pub limits: DeliveryLimits,
    /// What was measured, over the runs below.
    pub traffic: Traffic,
    /// The latest runs that sent requests, the newest first.
    pub runs: Vec<DestinationRun>,
}

/// The limits of sending to a destination, of each run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DeliveryLimits {
    /// Attempts started per second at most; none where only the vendor's own limits apply.
    pub requests_per_second: Option<f64>,
    /// Requests in flight at a time.
    pub concurrency: u64,
    /// How long an attempt may take.
    pub timeout_seconds: u64,
    /// How long a request is retried.
    pub retry_for_seconds: u64,
    /// How often a request is attempted.
    pub attempts_max: u32,
}

/// The requests of one run or of several.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Traffic {
    /// Attempts, retries included.
    pub requests: u64,
    /// Retries among them.
    pub retries: u64,
    /// Attempts that were throttled: HTTP 429.
    pub throttled: u64,
    /// Attempts at which the destination failed: HTTP 5xx.
    pub server_errors: u64,
    /// Attempts without a response.
    pub no_response: u64,
    /// Attempts by HTTP status; 0 without a response.
    pub by_status: BTreeMap<u16, u64>,
    /// The most attempts per second, where the sending took long enough to measure it.
    pub per_second_max: Option<f64>,
    /// Milliseconds spent waiting for the rate limit, summed over concurrent requests.
    pub rate_wait_ms: u64,
    /// Milliseconds spent waiting before retries, summed likewise.
    pub retry_wait_ms: u64,
    /// How long responses took.
    pub latency: Latency,
}

/// What one run sent to a destination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DestinationRun {
    /// The sync.
    pub sync: String,
    /// The run's id.
    pub run: String,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// How it ended.
    pub status: RunStatus,
    /// Its requests.
    pub traffic: Traffic,
}

/// Attempts per second in the busiest second or slot of a run that sent for longer than one.
fn per_second_max(detail: &Detail) -> Option<f64> {
    let timeline = &detail.timeline;
    let slots = usize::try_from(1_000_u64.div_ceil(timeline.slot_ms.max(1))).unwrap_or(1);
    let busiest = timeline.requests.windows(slots).map(|second| second.iter().sum::<u64>()).max()?;
    (timeline.requests.len() > slots).then(|| busiest as f64 * 1_000.0 / (slots as u64 * timeline.slot_ms) as f64)
}

impl Traffic {
    /// The requests of a run.
    fn of(detail: &Detail, retries: u64) -> Traffic {
        let sum = |matches: fn(u16) -> bool| {
            detail.by_status.iter().filter(|(status, _)| matches(**status)).map(|(_, count)| count).sum()
        };
        Traffic {
            requests: sum(|_| true),
            retries,
            throttled: sum(|status| status == 429),
            server_errors: sum(|status| status >= 500),
            no_response: sum(|status| status == 0),
            by_status: detail.by_status.clone(),
            per_second_max: per_second_max(detail),
            rate_wait_ms: detail.rate_wait_ms,
            retry_wait_ms: detail.retry_wait_ms,
            latency: detail.latency.clone(),
        }
    }

    /// Adds the requests of another run.
    fn add(&mut self, other: &Traffic) {
        self.requests += other.requests;
        self.retries += other.retries;
        self.throttled += other.throttled;
        self.server_errors += other.server_errors;
        self.no_response += other.no_response;
        for (status, count) in &other.by_status {
            *self.by_status.entry(*status).or_default() += count;
        }
        let busiest = self.per_second_max.into_iter().chain(other.per_second_max);
        self.per_second_max = busiest.max_by(f64::total_cmp);
        self.rate_wait_ms += other.rate_wait_ms;
        self.retry_wait_ms += other.retry_wait_ms;
        self.latency.add(&other.latency);
    }
}

/// The view of a destination, from the latest runs of its syncs and what is on record of them.
pub fn view(settings: &DestinationSettings, syncs: Vec<String>, runs: Vec<(RunView, Detail)>) -> DestinationView {
    let delivery = &settings.delivery;
    let sent = runs.into_iter().filter(|(_, detail)| !detail.by_status.is_empty());
    let mut runs: Vec<DestinationRun> = sent
        .map(|(run, detail)| DestinationRun {
            sync: run.sync,
            run: run.run,
            started_at: run.started_at,
            status: run.status,
            traffic: Traffic::of(&detail, run.counts.map_or(0, |counts| counts.retries)),
        })
        .collect();
    runs.sort_by(|one, other| other.run.cmp(&one.run));
    runs.truncate(RUNS_MAX);
    let mut traffic = Traffic::default();
    runs.iter().for_each(|run| traffic.add(&run.traffic));
    DestinationView {
        destination: settings.name.clone(),
        destination_type: settings.kind.clone(),
        syncs,
        limits: DeliveryLimits {
            requests_per_second: delivery.requests_per_second,
            concurrency: delivery.concurrency as u64,
            timeout_seconds: delivery.timeout.as_secs(),
            retry_for_seconds: delivery.retry_for.as_secs(),
            attempts_max: delivery.attempts_max,
        },
        traffic,
        runs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::timeline::Timeline;

    #[test]
    fn runs_are_added_up_and_the_busiest_second_counts() {
        let of = |requests: &[u64], throttled: u64| {
            let timeline = Timeline { slot_ms: 250, requests: requests.to_vec(), retries: Vec::new() };
            let by_status = [(0, 1), (200, requests.iter().sum()), (429, throttled), (503, 2)].into();
            Traffic::of(&Detail { timeline, by_status, ..Detail::default() }, throttled)
        };
        let (quick, slow) = (of(&[40, 2], 0), of(&[1, 5, 5, 0, 0, 9, 1, 1], 3));
        assert_eq!((quick.per_second_max, slow.per_second_max), (None, Some(14.0)));
        let mut both = quick;
        both.add(&slow);
        assert_eq!((both.requests, both.retries, both.throttled), (42 + 22 + 6 + 3, 3, 3));
        assert_eq!((both.server_errors, both.no_response, both.per_second_max), (4, 2, Some(14.0)));
        let long = Timeline { slot_ms: 4_000, requests: vec![8, 20], retries: Vec::new() };
        assert_eq!(per_second_max(&Detail { timeline: long, ..Detail::default() }), Some(5.0));
    }
}
