//! How long responses take: counted in buckets, so that the median of a million needs no list of a million, and those of
//! several runs can be added. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Buckets per doubling: a figure is at most an eighth too high. Two hours, the longest of responses, are in bucket 184.
const PER_DOUBLING: u64 = 8;

/// How long responses took.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(from = "LatencyFigures", into = "LatencyFigures")]
#[schemars(with = "LatencyFigures")]
pub struct Latency {
    /// Responses by the upper end of their bucket, in milliseconds.
    buckets: BTreeMap<u64, u64>,
}

/// How long responses took, in milliseconds, rounded up by an eighth at most. An attempt without a response is not counted.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
struct LatencyFigures {
    /// How many there were.
    responses: u64,
    /// Half of them took no longer.
    median_ms: Option<u64>,
    /// Of 100, 95 took no longer.
    p95_ms: Option<u64>,
    /// None took longer.
    max_ms: Option<u64>,
    /// How many took so long, by milliseconds.
    by_ms: BTreeMap<u64, u64>,
}

impl From<LatencyFigures> for Latency {
    fn from(figures: LatencyFigures) -> Latency {
        Latency { buckets: figures.by_ms }
    }
}

impl From<Latency> for LatencyFigures {
    fn from(latency: Latency) -> LatencyFigures {
        LatencyFigures {
            responses: latency.responses(),
            median_ms: latency.median_ms(),
            p95_ms: latency.p95_ms(),
            max_ms: latency.max_ms(),
            by_ms: latency.buckets,
        }
    }
}

/// The upper end of the bucket that so many milliseconds are in.
fn bucket(ms: u64) -> u64 {
    let width = (ms.max(1).ilog2()).saturating_sub(PER_DOUBLING.ilog2());
    ms.div_ceil(1 << width) << width
}

impl Latency {
    /// Takes in a response.
    pub fn record(&mut self, took: Duration) {
        let ms = u64::try_from(took.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX / 2);
        *self.buckets.entry(bucket(ms.max(1))).or_default() += 1;
    }

    /// Takes in those of another run.
    pub fn add(&mut self, other: &Latency) {
        for (ms, count) in &other.buckets {
            *self.buckets.entry(*ms).or_default() += count;
        }
    }

    /// How many responses there were.
    pub fn responses(&self) -> u64 {
        self.buckets.values().sum()
    }

    /// Half of the responses took no longer.
    pub fn median_ms(&self) -> Option<u64> {
        self.at(50)
    }

    /// Of 100 responses, 95 took no longer.
    pub fn p95_ms(&self) -> Option<u64> {
        self.at(95)
    }

    /// No response took longer.
    pub fn max_ms(&self) -> Option<u64> {
        self.buckets.last_key_value().map(|(ms, _)| *ms)
    }

    /// What so many of 100 responses did not exceed.
    fn at(&self, percent: u64) -> Option<u64> {
        let rank = (self.responses() * percent).div_ceil(100);
        let mut seen = 0;
        self.buckets.iter().find_map(|(ms, count)| {
            seen += count;
            (seen >= rank).then_some(*ms)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn half_of_the_responses_are_below_the_median() {
        let mut latency = Latency::default();
        assert_eq!((latency.median_ms(), latency.responses()), (None, 0));
        for ms in 1..=100 {
            latency.record(Duration::from_millis(ms));
        }
        assert_eq!((latency.median_ms(), latency.p95_ms(), latency.max_ms()), (Some(52), Some(96), Some(104)));
        let mut both = latency.clone();
        both.add(&latency);
        assert_eq!((both.responses(), both.median_ms()), (200, Some(52)));
        latency.record(Duration::from_micros(20));
        assert_eq!(latency.at(0), Some(1), "nothing takes no time");
        latency.record(Duration::MAX);
        assert_eq!(latency.responses(), 102);
    }

    #[test]
    fn figures_are_written_beside_the_buckets_and_read_from_them() {
        let mut latency = Latency::default();
        for ms in [12, 12, 300] {
            latency.record(Duration::from_millis(ms));
        }
        let written = serde_json::to_value(&latency).unwrap();
        let expected = serde_json::json!({"responses": 3, "median_ms": 12, "p95_ms": 320, "max_ms": 320, "by_ms": {"12": 2, "320": 1}});
        assert_eq!(written, expected);
        assert_eq!(serde_json::from_value::<Latency>(written).unwrap(), latency);
        assert_eq!(serde_json::from_str::<Latency>("{}").unwrap(), Latency::default());
    }

    proptest! {
        #[test]
        fn a_figure_is_at_most_an_eighth_too_high(ms in 1_u64..8_000_000) {
            let up_to = bucket(ms);
            prop_assert!(up_to >= ms && up_to as f64 <= ms as f64 * 1.126 && bucket(up_to) == up_to);
        }
    }
}
