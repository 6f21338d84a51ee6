//! How did the sending go over time? Requests and repeats in at most [`SLOTS_MAX`] equal slots, however long it takes. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Slots of a timeline: as many as a chart has room for. Two small numbers each make a kilobyte in the run's record.
pub const SLOTS_MAX: usize = 120;

/// Requests over time. Slot `n` holds what was sent from `n` to `n + 1` times [`Timeline::slot_ms`] after the sending began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Timeline {
    /// How long a slot is, in milliseconds.
    pub slot_ms: u64,
    /// Attempts per slot, repeats included.
    pub requests: Vec<u64>,
    /// Repeats per slot.
    pub retries: Vec<u64>,
}

impl Default for Timeline {
    fn default() -> Timeline {
        Timeline { slot_ms: 250, requests: Vec::new(), retries: Vec::new() }
    }
}

impl Timeline {
    /// Notes how many requests and repeats there were in all when so much time had passed. Totals never decrease.
    pub fn note(&mut self, passed: Duration, requests: u64, retries: u64) {
        let passed = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        while passed / self.slot_ms >= SLOTS_MAX as u64 {
            self.slot_ms = self.slot_ms.saturating_mul(2);
            self.requests = halved(&self.requests);
            self.retries = halved(&self.retries);
        }
        let slot = (passed / self.slot_ms) as usize;
        add(&mut self.requests, slot, requests);
        add(&mut self.retries, slot, retries);
    }
}

fn halved(slots: &[u64]) -> Vec<u64> {
    slots.chunks(2).map(|pair| pair.iter().sum()).collect()
}

/// Puts what is new since the last total into its slot.
fn add(slots: &mut Vec<u64>, slot: usize, total: u64) {
    let so_far: u64 = slots.iter().sum();
    if slots.len() <= slot {
        slots.resize(slot + 1, 0);
    }
    slots[slot] += total.saturating_sub(so_far);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeline_keeps_its_sums_however_long_it_gets() {
        let mut timeline = Timeline::default();
        for second in 0..5_000_u64 {
            timeline.note(Duration::from_secs(second), second * 3, second);
            assert!(timeline.requests.len() <= SLOTS_MAX && timeline.retries.len() <= SLOTS_MAX);
            assert_eq!(timeline.requests.iter().sum::<u64>(), second * 3);
            assert_eq!(timeline.retries.iter().sum::<u64>(), second);
        }
        assert!(timeline.requests.len() > SLOTS_MAX / 2 - 2, "the resolution is used: {}", timeline.requests.len());
    }
}
