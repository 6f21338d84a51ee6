//! The metrics, as Prometheus text. Each is an entry in `definitions`, and nothing else needs to know it.
//!
//! Counters live here and grow when a run ends; gauges are read at each scrape. Every label comes from a bounded set: syncs
//! and destinations from the config, the rest from lists, and what the network or a caller makes up falls into a class of its
//! own. A sync that left the config takes its series along.
//!
//! The text is the classic format (version 0.0.4), which every scraper reads, rather than OpenMetrics, which the scraper must
//! request.

mod definitions;
mod metric;
mod page;
mod sample;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use self::definitions::METRICS;
pub use self::metric::Scrape;
use self::metric::{CounterUnit, Metric, MetricSource, SyncEvent};
use self::page::MetricsPage;
use self::sample::{Histogram, Labels, Sample};
use crate::service::views::{RunDetail, SyncView};

/// Counts since the process started. Nothing here waits.
#[derive(Default)]
pub struct Metrics(Mutex<Totals>);

#[derive(Default)]
struct Totals {
    syncs: BTreeMap<String, SyncTotals>,
    reloads: [u64; 2],
}

/// The counters of a sync.
#[derive(Default)]
struct SyncTotals {
    /// Its destination; the counters start again when the mapping names another one.
    destination: Option<String>,
    /// By the metric's name and the values of its labels.
    counters: BTreeMap<(&'static str, Vec<String>), u64>,
    histograms: BTreeMap<&'static str, Histogram>,
    events: BTreeMap<SyncEvent, u64>,
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new() -> Metrics {
        Metrics::default()
    }

    /// Counts a run that ended.
    pub fn run_ended(&self, ended: &RunDetail, destination: &str) {
        let mut totals = self.0.lock();
        let sync = totals.syncs.entry(ended.run.sync.clone()).or_default();
        if sync.destination.as_deref().is_some_and(|before| before != destination) {
            *sync = SyncTotals::default();
        }
        sync.destination = Some(destination.to_owned());
        for metric in METRICS {
            match &metric.source {
                MetricSource::Runs { count, .. } => {
                    for (labels, counted) in count(ended) {
                        *sync.counters.entry((metric.name, labels)).or_default() += counted;
                    }
                }
                MetricSource::Distribution { of, ends } => {
                    if let Some(value) = of(ended) {
                        sync.histograms.entry(metric.name).or_default().observe(ends, value.max(0.0));
                    }
                }
                MetricSource::Events(_) | MetricSource::Sync(_) | MetricSource::Process(_) => {}
            }
        }
    }

    /// Scheduled times were skipped.
    pub fn skipped(&self, sync: &str, count: u64) {
        self.event(sync, SyncEvent::Skipped, count);
    }

    /// A run panicked.
    pub fn panicked(&self, sync: &str) {
        self.event(sync, SyncEvent::Panicked, 1);
    }

    fn event(&self, sync: &str, event: SyncEvent, count: u64) {
        *self.0.lock().syncs.entry(sync.to_owned()).or_default().events.entry(event).or_default() += count;
    }

    /// The config was reloaded, or failed to be.
    pub fn reloaded(&self, success: bool) {
        self.0.lock().reloads[usize::from(!success)] += 1;
    }

    /// Everything as text ([`METRICS_CONTENT_TYPE`](crate::service::api::METRICS_CONTENT_TYPE)).
    pub fn render(&self, mut scrape: Scrape<'_>) -> String {
        let mut totals = self.0.lock();
        totals.syncs.retain(|name, _| scrape.syncs.iter().any(|view| view.sync == *name));
        scrape.reloads = totals.reloads;
        let none = SyncTotals::default();
        let mut page = MetricsPage::default();
        for metric in METRICS {
            let samples = match &metric.source {
                MetricSource::Process(read) => {
                    read(&scrape).into_iter().map(|(values, sample)| (named(metric, values), sample)).collect()
                }
                _ => {
                    let mut samples = Vec::new();
                    for view in scrape.syncs {
                        let totals = totals.syncs.get(&view.sync).unwrap_or(&none);
                        for (values, sample) in of_sync(metric, totals, view, scrape.now) {
                            let mut labels =
                                vec![("sync", view.sync.clone()), ("destination", view.destination.clone())];
                            labels.extend(named(metric, values));
                            samples.push((labels, sample));
                        }
                    }
                    samples
                }
            };
            page.add(metric.name, metric.help, metric.kind(), samples);
        }
        drop(totals);
        page.text()
    }
}

/// Labels with their names.
fn named(metric: &Metric, values: Vec<String>) -> Labels {
    metric.labels.iter().map(|(name, _)| *name).zip(values).collect()
}

/// The series of a metric for one sync.
fn of_sync(metric: &Metric, totals: &SyncTotals, view: &SyncView, now: DateTime<Utc>) -> Vec<(Vec<String>, Sample)> {
    match &metric.source {
        MetricSource::Runs { initial, unit, .. } => {
            let initial = initial().into_iter().map(|values| values.into_iter().map(str::to_owned).collect());
            let mut series: BTreeMap<Vec<String>, u64> = initial.map(|values| (values, 0)).collect();
            let counted = totals.counters.iter().filter(|((name, _), _)| *name == metric.name);
            series.extend(counted.map(|((_, values), count)| (values.clone(), *count)));
            let sample = |count| match unit {
                CounterUnit::Count => Sample::Count(count),
                CounterUnit::Milliseconds => Sample::Number(count as f64 / 1_000.0),
            };
            series.into_iter().map(|(values, count)| (values, sample(count))).collect()
        }
        MetricSource::Distribution { ends, .. } => {
            let histogram = totals.histograms.get(metric.name).cloned().unwrap_or_default();
            vec![(Vec::new(), Sample::Distribution(histogram, ends))]
        }
        MetricSource::Events(event) => {
            vec![(Vec::new(), Sample::Count(totals.events.get(event).copied().unwrap_or_default()))]
        }
        MetricSource::Sync(read) => read(view, now).map(|sample| (Vec::new(), sample)).into_iter().collect(),
        MetricSource::Process(_) => Vec::new(),
    }
}

#[cfg(test)]
mod docs;
#[cfg(test)]
mod tests;
