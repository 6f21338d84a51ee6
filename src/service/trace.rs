//! The trace of a run: a job is watched from outside, through what it is given (its monitor, its transport, its reader), and
//! every run, phase, statement and request becomes a span.
//!
//! | span | kind | parent | from |
//! |---|---|---|---|
//! | `run` | internal | `TRACEPARENT`, or none | the job |
//! | `prepare`, `compare`, `send` | internal | `run` | the monitor's events |
//! | `SELECT` | client | `run` | the reader |
//! | `POST` and other methods | client | `run` | the transport |
//!
//! Attributes hold names of the config folder, ids of runs, counts and kinds of errors: never a secret, an address's path, a
//! statement's text, a group's key, a trait's value, or an error message, which may quote any of these.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;

use super::open::Failure;
use crate::error::{Error, Result};
use crate::io::Clock;
use crate::io::http::{CallLimits, NoResponse, Request, Response, Transport};
use crate::mapping::Mapping;
use crate::mapping::compile::Projection;
use crate::otlp::{Exporter, Span, SpanContext, SpanKind, exporter};
use crate::source::RowsSummary;
use crate::source::mirror::{MirrorAnswer, MirrorChange, MirrorQuery, MirrorSettings};
use crate::sync::report::Report;
use crate::sync::{Event, Monitor, Reader, Rows, Warehouse};

/// A point in time by both clocks.
#[derive(Clone, Copy)]
struct SpanStart {
    at: DateTime<Utc>,
    elapsed: Duration,
}

/// A run on its way.
pub(super) struct RunTrace<'a> {
    exporter: &'static Exporter,
    clock: &'a dyn Clock,
    context: SpanContext,
    /// How OpenTelemetry calls the source's database.
    system: &'static str,
    began: SpanStart,
    seen: Mutex<Seen>,
}

/// What is known of the run so far.
struct Seen {
    /// The run's span, until it is sent.
    run: Span,
    /// The phase it is in, and since when.
    phase: Option<(&'static str, SpanStart)>,
}

impl<'a> RunTrace<'a> {
    /// The trace of a run that begins, if it is exported. The types are those of the config.
    pub(super) fn begin(
        mapping: &Mapping,
        (source_type, destination_type): (&str, &str),
        clock: &'a dyn Clock,
    ) -> Option<RunTrace<'a>> {
        let exporter = exporter()?;
        let (context, parent) = exporter.root()?;
        let began = SpanStart { at: clock.now(), elapsed: clock.elapsed() };
        let mut run = Span {
            context,
            parent,
            name: "run".to_owned(),
            kind: SpanKind::Internal,
            started_at: began.at,
            ended_at: began.at,
            attributes: Vec::new(),
            failed: false,
        };
        for (name, value) in [
            ("groupcast.sync", &*mapping.name),
            ("groupcast.source", &*mapping.source),
            ("groupcast.source.type", source_type),
            ("groupcast.destination", &*mapping.destination),
            ("groupcast.destination.type", destination_type),
            ("groupcast.group_type", &*mapping.group_type),
        ] {
            run.set(name, value);
        }
        let seen = Mutex::new(Seen { run, phase: Some(("prepare", began)) });
        Some(RunTrace { exporter, clock, context, system: system_name(source_type), began, seen })
    }

    /// Watches the run's events on their way to its own monitor.
    pub(super) fn monitor<'t>(&'t self, inner: &'t dyn Monitor) -> impl Monitor + 't {
        TracedMonitor { trace: self, inner }
    }

    /// Watches its requests.
    pub(super) fn transport<'t>(&'t self, inner: &'t dyn Transport) -> impl Transport + 't {
        TracedTransport { trace: self, inner }
    }

    /// Watches its statements.
    pub(super) fn reader<'t>(&'t self, warehouse: Warehouse) -> Box<dyn Reader + 't> {
        Box::new(TracedReader { trace: self, inner: warehouse })
    }

    fn now(&self) -> SpanStart {
        SpanStart { at: self.clock.now(), elapsed: self.clock.elapsed() }
    }

    /// A span of this run from `began` to now. Its length is measured by the clock that no one sets.
    fn span(&self, name: &str, kind: SpanKind, began: SpanStart) -> Span {
        let took = TimeDelta::from_std(self.clock.elapsed().saturating_sub(began.elapsed)).unwrap_or_default();
        Span {
            context: self.exporter.child(self.context),
            parent: Some(self.context.span),
            name: name.to_owned(),
            kind,
            started_at: began.at,
            ended_at: began.at + took,
            attributes: Vec::new(),
            failed: false,
        }
    }

    /// Ends the phase it is in, and begins the next one.
    fn next_phase(&self, name: Option<&'static str>) {
        let next = name.map(|name| (name, self.now()));
        let ended = std::mem::replace(&mut self.seen.lock().phase, next);
        if let Some((name, began)) = ended {
            self.exporter.send(self.span(name, SpanKind::Internal, began));
        }
    }

    /// The run has ended.
    pub(super) fn end(&self, result: &Result<Report, Failure>) {
        self.next_phase(None);
        let mut run = self.seen.lock().run.clone();
        run.ended_at = self.span("", SpanKind::Internal, self.began).ended_at;
        let error = match result {
            Err(failure) => Some(failure.as_error()),
            Ok(report) => {
                run.set("groupcast.status", report.status.name());
                let counts = &report.counts;
                for (name, count) in [
                    ("groupcast.rows", counts.rows),
                    ("groupcast.unchanged", counts.unchanged),
                    ("groupcast.delivered", counts.changes.delivered + counts.removed.delivered),
                    ("groupcast.rejected", counts.rejected()),
                    ("groupcast.pending", counts.changes.pending + counts.removed.pending),
                    ("groupcast.unconfirmed", counts.changes.unconfirmed + counts.removed.unconfirmed),
                    ("groupcast.requests", counts.requests),
                    ("groupcast.retries", counts.retries),
                ] {
                    run.set(name, count);
                }
                report.stopped.as_ref().map(Error::again)
            }
        };
        if let Some(error) = error {
            run.failed = true;
            run.set("error.type", error.kind().name());
        }
        self.exporter.send(run);
    }
}

/// Ends phases where events do.
struct TracedMonitor<'a, 't> {
    trace: &'a RunTrace<'t>,
    inner: &'a dyn Monitor,
}

impl Monitor for TracedMonitor<'_, '_> {
    fn note(&self, event: Event<'_>) {
        match &event {
            Event::Began { run, .. } => {
                self.trace.next_phase(None);
                self.trace.seen.lock().run.set("groupcast.run", *run);
            }
            Event::Compared(_) => self.trace.next_phase(Some("send")),
            _ => {}
        }
        self.inner.note(event);
    }
}

/// A span for each request.
struct TracedTransport<'a, 't> {
    trace: &'a RunTrace<'t>,
    inner: &'a dyn Transport,
}

#[async_trait]
impl Transport for TracedTransport<'_, '_> {
    async fn send(&self, request: &Request, limits: CallLimits) -> Result<Response, NoResponse> {
        let began = self.trace.now();
        let result = self.inner.send(request, limits).await;
        let mut span = self.trace.span(request.method, SpanKind::Client, began);
        span.set("http.request.method", request.method);
        // The path may be a secret.
        if let Ok(url) = url::Url::parse(&request.url)
            && let Some(host) = url.host_str()
        {
            span.set("server.address", host);
            span.set("server.port", u64::from(url.port_or_known_default().unwrap_or_default()));
        }
        span.set("http.request.body.size", request.body.len() as u64);
        match &result {
            Ok(response) => {
                span.set("http.response.status_code", u64::from(response.status));
                span.failed = response.status >= 400;
                if span.failed {
                    span.set("error.type", &*response.status.to_string());
                }
            }
            Err(_) => {
                span.failed = true;
                span.set("error.type", "no_response");
            }
        }
        self.trace.exporter.send(span);
        result
    }
}

/// How OpenTelemetry calls the database of a source's type.
fn system_name(source_type: &str) -> &'static str {
    match source_type {
        "postgres" => "postgresql",
        "duckdb" | "files" => "duckdb",
        _ => "other_sql",
    }
}

/// A span for each statement at the source.
struct TracedReader<'a, 't> {
    trace: &'a RunTrace<'t>,
    inner: Warehouse,
}

impl TracedReader<'_, '_> {
    fn statement(&self, purpose: &str, began: SpanStart, error: Option<&Error>, rows: Option<u64>) {
        let mut span = self.trace.span("SELECT", SpanKind::Client, began);
        span.set("db.system.name", self.trace.system);
        span.set("db.operation.name", "SELECT");
        span.set("groupcast.statement", purpose);
        if let Some(rows) = rows {
            span.set("db.response.returned_rows", rows);
        }
        if let Some(error) = error {
            span.failed = true;
            span.set("error.type", error.kind().name());
        }
        self.trace.exporter.send(span);
    }
}

#[async_trait]
impl Reader for TracedReader<'_, '_> {
    async fn read(&mut self, projection: &Projection, rows: &(dyn Fn(u64) + Send + Sync)) -> Result<Rows> {
        let (began, read) = (self.trace.now(), Mutex::new(None));
        let counted = |so_far| {
            *read.lock() = Some(so_far);
            rows(so_far);
        };
        let result = self.inner.read(projection, &counted).await;
        self.statement("rows", began, result.as_ref().err(), read.into_inner());
        self.trace.next_phase(Some("compare"));
        result
    }

    fn sums_rows(&self) -> bool {
        self.inner.sums_rows()
    }

    async fn summary(&mut self, projection: &Projection) -> Result<Option<RowsSummary>> {
        let began = self.trace.now();
        let result = self.inner.summary(projection).await;
        self.statement("sums", began, result.as_ref().err(), None);
        result
    }

    fn mirror(&self) -> Option<MirrorSettings> {
        self.inner.mirror()
    }

    async fn compare(
        &mut self,
        projection: &Projection,
        query: &MirrorQuery,
        rows: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(Rows, MirrorAnswer)> {
        let (began, read) = (self.trace.now(), Mutex::new(None));
        let counted = |so_far| {
            *read.lock() = Some(so_far);
            rows(so_far);
        };
        let result = self.inner.compare(projection, query, &counted).await;
        self.statement("differences", began, result.as_ref().err(), read.into_inner());
        self.trace.next_phase(Some("compare"));
        result
    }

    async fn change_mirror(&mut self, projection: &Projection, change: &MirrorChange) -> Result<()> {
        let began = self.trace.now();
        let result = self.inner.change_mirror(projection, change).await;
        self.statement("mirror", began, result.as_ref().err(), None);
        result
    }

    async fn release(&mut self) -> Result<()> {
        self.inner.release().await
    }

    fn interrupt(&self) {
        self.inner.interrupt();
    }
}
