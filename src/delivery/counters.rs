//! What delivery has done so far, readable while it runs: counts, and the log of its run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use super::latency::Latency;
use super::run_log::{LogLevel, RunLog};

/// Counts of requests, bytes, waits and warnings.
#[derive(Debug, Default)]
pub struct DeliveryCounters {
    /// Attempts started, repeated ones included.
    pub requests: AtomicU64,
    /// Attempts after the first.
    pub retries: AtomicU64,
    /// Body bytes of all attempts, before compression.
    pub bytes: AtomicU64,
    /// Milliseconds spent waiting for the rate limit, summed over concurrent requests.
    pub rate_wait_ms: AtomicU64,
    /// Milliseconds spent waiting before retries, summed likewise.
    pub retry_wait_ms: AtomicU64,
    /// Traits in acknowledged requests.
    pub traits_sent: AtomicU64,
    /// What happened; the run itself adds to it.
    pub log: RunLog,
    latency: Mutex<Latency>,
    by_status: Mutex<BTreeMap<u16, u64>>,
    warnings: Mutex<BTreeMap<String, u64>>,
}

impl DeliveryCounters {
    /// Attempts by HTTP status; 0 represents no response.
    pub fn by_status(&self) -> BTreeMap<u16, u64> {
        self.by_status.lock().clone()
    }

    pub(super) fn count_status(&self, status: u16) {
        *self.by_status.lock().entry(status).or_default() += 1;
    }

    /// How long responses took.
    pub fn latency(&self) -> Latency {
        self.latency.lock().clone()
    }

    pub(super) fn count_response(&self, took: Duration) {
        self.latency.lock().record(took);
    }

    /// Warnings about accepted requests, and how often each came.
    pub fn warnings(&self) -> BTreeMap<String, u64> {
        self.warnings.lock().clone()
    }

    /// Counts a warning. Of many different ones, which would name groups or requests, only the first are kept.
    pub(super) fn warn(&self, warning: &str, now: DateTime<Utc>) {
        const DIFFERENT_MAX: usize = 10;
        let mut warnings = self.warnings.lock();
        if warnings.len() < DIFFERENT_MAX || warnings.contains_key(warning) {
            let times = warnings.entry(warning.to_owned()).or_default();
            *times += 1;
            if *times == 1 {
                self.log.add(now, LogLevel::Warning, &format!("warning from the destination: {warning}"));
            }
        }
    }

    pub(super) fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }

    pub(super) fn add_wait(counter: &AtomicU64, wait: Duration) {
        DeliveryCounters::add(counter, u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    }
}
