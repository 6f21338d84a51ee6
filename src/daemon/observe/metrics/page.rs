//! The page of one scrape: families in order, each with its help, its type and its samples.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::sample::{Labels, Sample};

/// What every name begins with.
pub(super) const PREFIX: &str = "groupcast";

#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    samples: Vec<(Labels, Sample)>,
}

/// The page of one scrape.
#[derive(Debug, Default)]
pub(super) struct MetricsPage(Vec<Family>);

impl MetricsPage {
    /// Adds a family of this type, as Prometheus names it.
    pub(super) fn add(&mut self, name: &'static str, help: &'static str, kind: &str, samples: Vec<(Labels, Sample)>) {
        let kind = match kind {
            "counter" => MetricType::Counter,
            "histogram" => MetricType::Histogram,
            _ => MetricType::Gauge,
        };
        self.0.push(Family { name, help, kind, samples });
    }

    /// The text. A family without samples is left out.
    pub(super) fn text(self) -> String {
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        // Writing to a string does not fail, and every family here can be written.
        let _ = encode_registry(&mut text, &registry);
        text
    }
}

impl Collector for MetricsPage {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        for family in self.0.iter().filter(|family| !family.samples.is_empty()) {
            let mut out = encoder.encode_descriptor(family.name, family.help, None, family.kind)?;
            for (labels, sample) in &family.samples {
                if labels.is_empty() {
                    write(&mut out, sample)?;
                } else {
                    write(&mut out.encode_family(labels)?, sample)?;
                }
            }
        }
        Ok(())
    }
}

/// Counters are written as gauges are: the encoder's own way appends `_total` to the sample and not to the family's type,
/// as OpenMetrics wants it; the classic format has it in both.
fn write(out: &mut MetricEncoder<'_>, sample: &Sample) -> std::fmt::Result {
    match sample {
        Sample::Count(count) => out.encode_gauge(count),
        Sample::Number(number) => out.encode_gauge(number),
        Sample::Distribution(histogram, ends) => {
            let ends = ends.iter().copied().chain([f64::INFINITY]);
            let counts = histogram.counts.iter().copied().chain(std::iter::repeat(0));
            let buckets: Vec<(f64, u64)> = ends.zip(counts).collect();
            out.encode_histogram::<NoLabelSet>(histogram.sum, histogram.counts.iter().sum(), &buckets, None)
        }
    }
}
