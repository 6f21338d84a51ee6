//! OpenTelemetry: spans of runs, exported by OTLP over HTTP as JSON (the cargo feature `otlp`).
//!
//! [`start`] reads the standard variables, and [`Exporter`] sends what it is given from a thread of its own: a collector that is
//! slow or down costs a run nothing, and spans that find no room are dropped and counted. What becomes a span is decided by
//! `service::trace`, which watches a job from outside.
//!
//! Ours rather than the crates `opentelemetry*`: with an OTLP exporter these are nineteen more crates for everyone who builds
//! (counted; `prost` and `tonic` among them), while the part of the protocol that a sender of finished spans needs is one
//! JSON object, documented and stable. What that leaves out is said in `docs/daemon.md`: metrics, logs, protobuf and
//! gRPC, and samplers.

mod exporter;
mod settings;
mod span;

pub use exporter::{Exporter, Flush, exporter, start};
pub use span::{AttributeValue, Span, SpanContext, SpanKind};
