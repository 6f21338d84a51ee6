//! OpenTelemetry: spans of runs, exported by OTLP over HTTP as JSON (the cargo feature `otlp`).
//!
//! [`start`] reads the standard variables, and [`Exporter`] sends what it is given from a thread of its own: a collector that is
//! slow or down costs a run nothing, and spans that find no room are dropped and counted. What becomes a span is decided by
//! `service::trace`, which watches a job from outside.
//!
//! Ours rather than the crates `opentelemetry*`: with JSON over HTTP and nothing else these are fifteen more crates (0.33), and
//! their exporter would still need a client and a thread of ours, so that exports go through the same proxies and TLS as all
//! requests and the end of a run waits for none. What a sender of finished spans needs of the protocol is one JSON object,
//! documented and stable. `docs/daemon.md` lists what that leaves out: protobuf, gRPC, metrics and logs.

mod exporter;
mod settings;
mod span;

pub use exporter::{Exporter, Flush, exporter, start};
pub use span::{AttributeValue, Span, SpanContext, SpanKind};
