//! What the definition of a metric consists of.

use chrono::{DateTime, Utc};

use super::sample::Sample;
use crate::ledger::shared::LeaseCounts;
use crate::service::api::About;
use crate::service::views::{RunDetail, SyncView};

/// What a scrape reads.
pub struct Scrape<'a> {
    /// All syncs of the config in use: the counters of others are forgotten.
    pub syncs: &'a [SyncView],
    /// Syncs whose mapping file has mistakes.
    pub mistaken: Vec<String>,
    /// The daemon itself.
    pub about: &'a About,
    /// Alerts sent and dropped.
    pub alerts: [u64; 2],
    /// Reloads of the config that succeeded and failed; filled in by [`Metrics::render`](super::Metrics::render).
    pub reloads: [u64; 2],
    /// Daemons that use the ledger, this one included.
    pub daemons: u64,
    /// This process's leases in the ledger.
    pub leases: LeaseCounts,
    /// Lines of the log that were dropped.
    pub log_lines_dropped: u64,
    /// Now.
    pub now: DateTime<Utc>,
}

/// A metric.
pub(super) struct Metric {
    /// Its name, without the common prefix.
    pub(super) name: &'static str,
    /// Its labels, beside those of its source, each with its values where there is a list of them.
    pub(super) labels: &'static [(&'static str, LabelValues)],
    /// What it means: a sentence.
    pub(super) help: &'static str,
    /// Where it comes from.
    pub(super) source: MetricSource,
}

/// The values of a label.
pub(super) type LabelValues = fn() -> Vec<&'static str>;
/// Label values and a number.
pub(super) type Counted = Vec<(Vec<String>, u64)>;

/// Label values and a value.
pub(super) type Labelled = Vec<(Vec<String>, Sample)>;

/// Where a metric comes from. Those of syncs have the labels `sync` and `destination`.
pub(super) enum MetricSource {
    /// A counter of a sync, which adds up over ended runs. Series with the `initial` label values exist from the start,
    /// because a rate over a series that appears with its first event misses that event.
    Runs { count: fn(&RunDetail) -> Counted, initial: fn() -> Vec<Vec<&'static str>>, unit: CounterUnit },
    /// A histogram of a sync over ended runs, with the upper ends of its buckets.
    Distribution { of: fn(&RunDetail) -> Option<f64>, ends: &'static [f64] },
    /// A counter of events of a sync other than the end of a run.
    Events(SyncEvent),
    /// A gauge of a sync, read at each scrape; absent where there is no value.
    Sync(fn(&SyncView, DateTime<Utc>) -> Option<Sample>),
    /// A counter or gauge of the process, read at each scrape.
    Process(fn(&Scrape<'_>) -> Labelled),
}

/// What a counter counts.
#[derive(Clone, Copy)]
pub(super) enum CounterUnit {
    /// Things.
    Count,
    /// Milliseconds, shown as seconds.
    Milliseconds,
}

/// Events of a sync that no record of a run contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SyncEvent {
    /// A scheduled time was skipped.
    Skipped,
    /// A run panicked.
    Panicked,
}

impl Metric {
    /// Whether it has the labels `sync` and `destination`.
    #[cfg(test)]
    pub(super) fn is_of_sync(&self) -> bool {
        !matches!(self.source, MetricSource::Process(_))
    }

    /// Its type, as Prometheus names it.
    pub(super) fn kind(&self) -> &'static str {
        match self.source {
            MetricSource::Distribution { .. } => "histogram",
            _ if self.name.ends_with("_total") => "counter",
            _ => "gauge",
        }
    }
}
