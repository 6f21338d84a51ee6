//! The exporter: takes finished spans without ever waiting, and sends them from a thread of its own.
//!
//! Limits: [`QUEUED_MAX`] spans wait, further ones are dropped and counted; an export has at most [`BATCH_MAX`] spans, is made
//! at least every [`EXPORT_EVERY`], and is not repeated; the end of the process waits [`LAST_EXPORT_MAX`] for the last.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use super::settings::{OtlpSettings, settings, trace_parent};
use super::span::{Span, SpanContext, request};
use crate::io::http::{CallLimits, HttpClient, Request, Transport};
use crate::io::{Clock, Random, SystemClock};

/// Spans that wait to be sent: OpenTelemetry's usual number, a few megabytes at most.
const QUEUED_MAX: usize = 2_048;
/// Spans of one export.
const BATCH_MAX: usize = 512;
/// How long a span waits for others.
const EXPORT_EVERY: Duration = Duration::from_secs(5);
/// How long the process's end waits for the last spans.
const LAST_EXPORT_MAX: Duration = Duration::from_secs(2);
/// Most of a collector's response that is read.
const RESPONSE_BYTES_MAX: usize = 4 * 1024;

/// What the thread is given.
enum Message {
    Span(Box<Span>),
    /// Send what is there, and answer.
    Flush(SyncSender<()>),
}

/// Takes spans.
pub struct Exporter {
    queue: SyncSender<Message>,
    random: Random,
    dropped: AtomicU64,
    /// The span of another process that runs of this one are parts of, and whether its trace is recorded.
    parent: Option<(SpanContext, bool)>,
}

static EXPORTER: OnceLock<Exporter> = OnceLock::new();

/// The exporter of this process, where one was [started](start).
pub fn exporter() -> Option<&'static Exporter> {
    EXPORTER.get()
}

/// Sends what is left when it is dropped.
pub struct Flush;

impl Drop for Flush {
    fn drop(&mut self) {
        let Some(exporter) = exporter() else { return };
        let (done, ended) = sync_channel(1);
        // A thread that does not take it, because an export hangs, has had its time.
        if exporter.queue.try_send(Message::Flush(done)).is_ok() {
            let _ = ended.recv_timeout(LAST_EXPORT_MAX);
        }
        let dropped = exporter.dropped.load(Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!(
                dropped,
                "spans were dropped: the collector does not take them, or not as fast as they come"
            );
        }
    }
}

/// Starts the export of this process, if the environment names a collector. `joins`: runs become a part of the trace that
/// `TRACEPARENT` names; not those of a daemon, which outlives the trace it was started in.
///
/// Errors: a variable that cannot be obeyed, or no thread or connection can be had. Nothing is exported then.
pub fn start(joins: bool) -> Result<Option<Flush>, String> {
    let variable = |name: &str| std::env::var(name).ok();
    let Some(settings) = settings(variable)? else { return Ok(None) };
    let parent = variable("TRACEPARENT").filter(|_| joins).and_then(|text| trace_parent(&text));
    let client = HttpClient::new().map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let (queue, waiting) = sync_channel(QUEUED_MAX);
    let thread = std::thread::Builder::new().name("otlp".to_owned());
    let spawned = thread.spawn(move || {
        let sender = Sender { client, headers: headers(&settings), settings, failed: false };
        runtime.block_on(sender.work(&waiting));
    });
    spawned.map_err(|error| error.to_string())?;
    let exporter = Exporter { queue, random: Random::from_entropy(), dropped: AtomicU64::new(0), parent };
    // A process starts one.
    let _ = EXPORTER.set(exporter);
    Ok(Some(Flush))
}

impl Exporter {
    /// The context of a run's span and its parent; none where its trace is not recorded.
    pub fn root(&self) -> Option<(SpanContext, Option<u64>)> {
        match self.parent {
            Some((_, false)) => None,
            Some((parent, true)) => Some((self.child(parent), Some(parent.span))),
            None => {
                let trace = u128::from(self.id()) << 64 | u128::from(self.id());
                Some((SpanContext { trace, span: self.id() }, None))
            }
        }
    }

    /// The context of a new span in the trace of another one.
    pub fn child(&self, of: SpanContext) -> SpanContext {
        SpanContext { span: self.id(), ..of }
    }

    fn id(&self) -> u64 {
        // Never zero, which is no id.
        self.random.up_to(u64::MAX - 1) + 1
    }

    /// Takes a finished span, if there is room.
    pub fn send(&self, span: Span) {
        if self.queue.try_send(Message::Span(Box::new(span))).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The headers of an export. Their names live as long as the program, which reads them once.
fn headers(settings: &OtlpSettings) -> Vec<(&'static str, String)> {
    let own = settings.headers.iter().map(|(name, value)| {
        let lasting: &'static str = name.to_ascii_lowercase().leak();
        (lasting, value.clone())
    });
    own.chain([("content-type", "application/json".to_owned())]).collect()
}

/// Sends what comes through the queue.
struct Sender {
    client: HttpClient,
    headers: Vec<(&'static str, String)>,
    settings: OtlpSettings,
    /// Whether the last export failed, which is logged once.
    failed: bool,
}

impl Sender {
    async fn work(mut self, waiting: &Receiver<Message>) {
        let clock = SystemClock::start();
        let mut spans: Vec<Span> = Vec::new();
        let mut due = Duration::MAX;
        loop {
            let left = due.saturating_sub(clock.elapsed()).min(Duration::from_secs(3_600));
            let flushed = match waiting.recv_timeout(left) {
                Ok(Message::Span(span)) => {
                    if spans.is_empty() {
                        due = clock.elapsed() + EXPORT_EVERY;
                    }
                    spans.push(*span);
                    None
                }
                Ok(Message::Flush(done)) => Some(done),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if spans.len() >= BATCH_MAX || flushed.is_some() || clock.elapsed() >= due {
                self.export(&mut spans).await;
                due = Duration::MAX;
            }
            if let Some(done) = flushed {
                let _ = done.send(());
            }
        }
    }

    async fn export(&mut self, spans: &mut Vec<Span>) {
        if spans.is_empty() {
            return;
        }
        let body = request(&self.settings.resource, spans).to_string().into_bytes();
        let count = spans.len();
        spans.clear();
        let request = Request {
            method: "POST",
            url: self.settings.endpoint.clone(),
            headers: self.headers.clone(),
            body,
            gzip: false,
        };
        let limits = CallLimits { timeout: self.settings.timeout, body_bytes_max: RESPONSE_BYTES_MAX };
        let failure = match self.client.send(&request, limits).await {
            Ok(response) if (200..300).contains(&response.status) => None,
            Ok(response) => Some(format!("HTTP {}", response.status)),
            Err(no_response) => Some(no_response.what),
        };
        match failure {
            None => self.failed = false,
            Some(what) => {
                if let Some(exporter) = exporter() {
                    exporter.dropped.fetch_add(count as u64, Ordering::Relaxed);
                }
                if !std::mem::replace(&mut self.failed, true) {
                    tracing::warn!("the OpenTelemetry collector takes no spans: {what}; runs go on without it");
                }
            }
        }
    }
}
