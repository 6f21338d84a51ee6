//! The format of a line: a `tracing` layer that writes events with the fields of the spans around them.
//!
//! Ours rather than `tracing-subscriber`'s own formats, because those nest spans where a log search wants one flat
//! object, and print text as it is where we must escape it.

use std::sync::Arc;

use anstyle::{AnsiColor, Style};
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::writer::LogWriter;
use super::{LogFilter, LogFormat};
use crate::io::Clock;
use crate::service::views::words::{json_line, one_line};

/// Writes lines.
pub(super) struct LogLines<O> {
    pub(super) format: LogFormat,
    /// Which lines are written.
    pub(super) filter: LogFilter,
    /// Whether the journal reads them: then human lines have a priority instead of a time.
    pub(super) journal: bool,
    /// Whether a terminal shows them.
    pub(super) colour: bool,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) out: O,
}

/// Where lines go.
pub(super) trait Out: Send + Sync + 'static {
    fn line(&self, line: String);
}

impl Out for LogWriter {
    fn line(&self, line: String) {
        LogWriter::line(self, line);
    }
}

/// The fields of a span or an event.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl<S: Subscriber + for<'span> LookupSpan<'span>, O: Out> Layer<S> for LogLines<O> {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.filter.enables(metadata)
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(Fields(of_span)) = span.extensions().get() {
                fields.0.extend(of_span.clone());
            }
        }
        // The event's own fields take precedence over those of the spans around it.
        event.record(&mut fields);
        let level = *event.metadata().level();
        self.out.line(match self.format {
            LogFormat::Human => self.human(level, &fields.0),
            LogFormat::Json => json(self.clock.now(), level, fields.0),
        });
    }
}

fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> &'a str {
    fields.get(name).and_then(Value::as_str).unwrap_or_default()
}

impl<O> LogLines<O> {
    fn human(&self, level: Level, fields: &Map<String, Value>) -> String {
        let paint = |style: Style, text: String| if self.colour { format!("{style}{text}{style:#}") } else { text };
        let begin = if self.journal {
            // The priorities of syslog (sd-daemon(3)).
            let priority = match level {
                Level::ERROR => 3,
                Level::WARN => 4,
                Level::INFO => 6,
                Level::DEBUG | Level::TRACE => 7,
            };
            format!("<{priority}>")
        } else {
            let time = self.clock.now().to_rfc3339_opts(SecondsFormat::Secs, true);
            let style = match level {
                Level::ERROR => AnsiColor::Red.on_default().bold(),
                Level::WARN => AnsiColor::Yellow.on_default(),
                Level::INFO => AnsiColor::Green.on_default(),
                Level::DEBUG | Level::TRACE => Style::new().dimmed(),
            };
            format!("{} {} ", paint(Style::new().dimmed(), time), paint(style, format!("{level:<5}")))
        };
        let message = one_line(text(fields, "message"));
        let (sync, run) = (one_line(text(fields, "sync")), one_line(text(fields, "run")));
        match (&*sync, &*run) {
            ("", "") => format!("{begin}{message}"),
            (sync, "") => format!("{begin}{}: {message}", paint(Style::new().bold(), sync.to_owned())),
            (sync, run) => format!("{begin}{} {run}: {message}", paint(Style::new().bold(), sync.to_owned())),
        }
    }
}

/// The object of a line: time, level, message, sync and run first, for people who read it raw.
fn json(now: DateTime<Utc>, level: Level, mut fields: Map<String, Value>) -> String {
    let mut line = String::from("{");
    let mut put = |name: &str, value: &Value| {
        let comma = if line.len() > 1 { "," } else { "" };
        line.push_str(&format!("{comma}{}:{value}", Value::from(name)));
    };
    put("timestamp", &now.to_rfc3339_opts(SecondsFormat::Millis, true).into());
    put("level", &level.as_str().to_ascii_lowercase().into());
    for name in ["message", "sync", "run"] {
        if let Some(value) = fields.remove(name) {
            put(name, &value);
        }
    }
    for (name, value) in fields.iter().filter(|(name, _)| !matches!(name.as_str(), "timestamp" | "level")) {
        put(name, value);
    }
    line.push('}');
    json_line(line)
}

/// Catches what would be written, for tests.
#[cfg(test)]
pub(super) mod recorded {
    use std::sync::Arc;

    use chrono::{DateTime, Utc};
    use parking_lot::Mutex;
    use tracing::Subscriber;
    use tracing_subscriber::layer::SubscriberExt;

    use super::super::LogFilter;
    use super::{LogFormat, LogLines, Out};
    use crate::io::Clock;

    /// What was written.
    #[derive(Clone, Default)]
    pub(in super::super) struct RecordedLines(Arc<Mutex<Vec<String>>>);

    impl Out for RecordedLines {
        fn line(&self, line: String) {
            self.0.lock().push(line);
        }
    }

    impl RecordedLines {
        pub(super) fn subscriber(
            &self,
            format: LogFormat,
            level: &str,
            journal: bool,
            colour: bool,
        ) -> impl Subscriber + use<> {
            let filter = LogFilter::parse(level).unwrap();
            let (clock, out) = (Arc::new(Still), self.clone());
            tracing_subscriber::registry().with(LogLines { format, filter, journal, colour, clock, out })
        }

        pub(super) fn lines(&self) -> Vec<String> {
            self.0.lock().clone()
        }

        /// The lines written while `work` ran.
        pub(in super::super) fn during(format: LogFormat, level: &str, work: impl FnOnce()) -> Vec<String> {
            let recorded = RecordedLines::default();
            tracing::subscriber::with_default(recorded.subscriber(format, level, false, false), work);
            recorded.lines()
        }
    }

    /// A clock that stands still.
    struct Still;

    #[async_trait::async_trait]
    impl Clock for Still {
        fn now(&self) -> DateTime<Utc> {
            DateTime::parse_from_rfc3339("2026-11-22T02:00:01.234Z").unwrap().to_utc()
        }

        fn elapsed(&self) -> std::time::Duration {
            std::time::Duration::ZERO
        }

        async fn sleep(&self, _: std::time::Duration) {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::run_span;
    use super::recorded::RecordedLines;
    use super::*;
    use serde_json::json;
    use tracing::Instrument;

    #[test]
    fn every_line_of_a_run_carries_its_id() {
        let lines = RecordedLines::during(LogFormat::Human, "warn", || {
            tracing::warn!("outside");
            run_span("accounts", "r1").in_scope(|| {
                tracing::warn!("inside");
                tracing::info!("too quiet");
                tracing::error_span!("page", page = 7).in_scope(|| tracing::error!("deeper"));
                tracing::warn!(sync = "other", "about another");
            });
            tracing::warn!(sync = "accounts", "of no run");
        });
        assert_eq!(
            lines,
            [
                "2026-11-22T02:00:01Z WARN  outside",
                "2026-11-22T02:00:01Z WARN  accounts r1: inside",
                "2026-11-22T02:00:01Z ERROR accounts r1: deeper",
                "2026-11-22T02:00:01Z WARN  other r1: about another",
                "2026-11-22T02:00:01Z WARN  accounts: of no run",
            ]
        );
    }

    #[tokio::test]
    async fn spawned_tasks_take_the_span_along() {
        let recorded = RecordedLines::default();
        let _guard = tracing::subscriber::set_default(recorded.subscriber(LogFormat::Json, "info", false, false));
        let task = async {
            tokio::task::yield_now().await;
            tracing::info!(rows = 3_u64, ok = true, share = 0.5, behind = -1_i64, error = %"why", "read");
        };
        tokio::spawn(task.instrument(run_span("accounts", "r1"))).await.unwrap();
        let line: Value = serde_json::from_str(&recorded.lines()[0]).unwrap();
        assert_eq!(
            line,
            json!({
                "timestamp": "2026-11-22T02:00:01.234Z", "level": "info", "message": "read", "sync": "accounts",
                "run": "r1", "rows": 3, "ok": true, "share": 0.5, "behind": -1, "error": "why"
            })
        );
    }

    #[test]
    fn fields_may_come_later_and_cannot_replace_the_time() {
        let lines = RecordedLines::during(LogFormat::Json, "debug", || {
            let span = tracing::error_span!("run", sync = "accounts", run = tracing::field::Empty);
            span.record("run", "r2");
            span.in_scope(|| tracing::debug!(timestamp = "never", level = "never", nan = f64::NAN, "late"));
        });
        assert_eq!(
            lines,
            [
                r#"{"timestamp":"2026-11-22T02:00:01.234Z","level":"debug","message":"late","sync":"accounts","run":"r2","nan":null}"#
            ]
        );
    }

    #[test]
    fn dependencies_are_silent() {
        let lines = RecordedLines::during(LogFormat::Human, "debug", || {
            tracing::error!(target: "hyper::client", "https://hooks.example/secret");
            tracing::error!(target: "groupcasting", "not us");
            tracing::debug!("us");
        });
        assert_eq!(lines, ["2026-11-22T02:00:01Z DEBUG us"]);
    }

    #[test]
    fn the_journal_gets_priorities_and_a_terminal_gets_colours() {
        let journal = RecordedLines::default();
        tracing::subscriber::with_default(journal.subscriber(LogFormat::Human, "debug", true, false), || {
            tracing::error!("e");
            tracing::warn!("w");
            tracing::info!("i");
            tracing::debug!(sync = "a", "d");
        });
        assert_eq!(journal.lines(), ["<3>e", "<4>w", "<6>i", "<7>a: d"]);
        let terminal = RecordedLines::default();
        tracing::subscriber::with_default(terminal.subscriber(LogFormat::Human, "debug", false, true), || {
            tracing::warn!("w \u{1b}[31m");
        });
        assert_eq!(terminal.lines(), ["\u{1b}[2m2026-11-22T02:00:01Z\u{1b}[0m \u{1b}[33mWARN \u{1b}[0m w \\u{1b}[31m"]);
    }
}
