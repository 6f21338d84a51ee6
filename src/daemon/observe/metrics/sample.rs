//! The values of metrics: numbers and histograms.

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Sample {
    /// A whole number.
    Count(u64),
    /// Any number.
    Number(f64),
    /// A histogram with the upper ends of its buckets.
    Distribution(Histogram, &'static [f64]),
}

/// Observations by the bucket they fall into; the last bucket holds what is beyond all upper ends.
#[derive(Debug, Clone, Default)]
pub(super) struct Histogram {
    pub(super) counts: Vec<u64>,
    pub(super) sum: f64,
}

impl Histogram {
    pub(super) fn observe(&mut self, upper_ends: &[f64], value: f64) {
        self.counts.resize(upper_ends.len() + 1, 0);
        let bucket = upper_ends.iter().position(|end| value <= *end).unwrap_or(upper_ends.len());
        self.counts[bucket] += 1;
        self.sum += value;
    }
}

/// Labels with their values.
pub(super) type Labels = Vec<(&'static str, String)>;
