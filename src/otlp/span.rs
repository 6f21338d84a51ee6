//! A finished span, and the JSON of an export (OTLP 1.x: `ExportTraceServiceRequest`).

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

/// Where a span is: its trace and itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanContext {
    /// The trace's id.
    pub trace: u128,
    /// The span's id.
    pub span: u64,
}

/// What a span is about, by the protocol's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// Work of this process.
    Internal = 1,
    /// A request to another one.
    Client = 3,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttributeValue {
    /// Text.
    Text(String),
    /// A count.
    Count(u64),
}

impl From<&str> for AttributeValue {
    fn from(text: &str) -> AttributeValue {
        AttributeValue::Text(text.to_owned())
    }
}

impl From<u64> for AttributeValue {
    fn from(count: u64) -> AttributeValue {
        AttributeValue::Count(count)
    }
}

/// A finished span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Where it is.
    pub context: SpanContext,
    /// The span it is a part of.
    pub parent: Option<u64>,
    /// Its name: one of a few.
    pub name: String,
    /// What it is about.
    pub kind: SpanKind,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: DateTime<Utc>,
    /// What is known about it. Never a secret, a key of a group or the value of a trait.
    pub attributes: Vec<(&'static str, AttributeValue)>,
    /// Whether it failed.
    pub failed: bool,
}

impl Span {
    /// Adds an attribute.
    pub fn set(&mut self, name: &'static str, value: impl Into<AttributeValue>) {
        self.attributes.push((name, value.into()));
    }

    fn json(&self) -> Value {
        // 64-bit integers are text in this JSON, and ids hexadecimal.
        let nanoseconds = |at: DateTime<Utc>| at.timestamp_nanos_opt().unwrap_or_default().to_string();
        let attributes: Vec<Value> = (self.attributes.iter())
            .map(|(name, value)| {
                let value = match value {
                    AttributeValue::Text(text) => json!({"stringValue": text}),
                    AttributeValue::Count(count) => json!({"intValue": count.to_string()}),
                };
                json!({"key": name, "value": value})
            })
            .collect();
        json!({
            "traceId": format!("{:032x}", self.context.trace),
            "spanId": format!("{:016x}", self.context.span),
            "parentSpanId": self.parent.map_or_else(String::new, |parent| format!("{parent:016x}")),
            "name": self.name,
            "kind": self.kind as u8,
            "startTimeUnixNano": nanoseconds(self.started_at),
            "endTimeUnixNano": nanoseconds(self.ended_at),
            "attributes": attributes,
            // STATUS_CODE_UNSET, STATUS_CODE_ERROR
            "status": {"code": if self.failed { 2 } else { 0 }},
        })
    }
}

/// The body of an export.
pub(super) fn request(resource: &[(String, String)], spans: &[Span]) -> Value {
    let resource: Vec<Value> =
        resource.iter().map(|(name, value)| json!({"key": name, "value": {"stringValue": value}})).collect();
    json!({
        "resourceSpans": [{
            "resource": {"attributes": resource},
            "scopeSpans": [{
                "scope": {"name": "groupcast", "version": env!("CARGO_PKG_VERSION")},
                "spans": spans.iter().map(Span::json).collect::<Vec<_>>(),
            }],
        }],
    })
}
