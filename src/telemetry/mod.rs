//! How does the process tell what it does, line by line? For people or for machines, on standard error.
//!
//! Everything goes through `tracing`, with three conventions:
//!
//! - The message says everything in words; fields say it again for machines. The human format prints only the message,
//!   the JSON format prints both.
//! - Whatever belongs to a run happens inside its [`run_span`], so that each of its lines carries the sync and the run's
//!   id. A spawned task must be given the span (`tracing::Instrument`), for spans do not follow a task by themselves.
//! - No message and no field holds a secret or a trait's value. Errors do not, by the rule of [`crate::error`]. Events of
//!   dependencies are not shown at any level: HTTP and database libraries do not keep that rule.
//!
//! # Why no OpenTelemetry
//!
//! `tracing-opentelemetry` with an OTLP exporter over HTTP adds 19 crates to a tree of 260 (`opentelemetry`,
//! its SDK, its exporter, `prost` with a protobuf code generator's output, a second version of `rand`), another thing to
//! configure, and another queue that can be full when the process stops. What it would show is small: a run is one process
//! talking to one source and one destination, so there is no trace to put together across services. What a run did is in
//! its record (counts, waits, requests over time), in one line of the log with the same id, and in the metrics. A log
//! collector that wants spans can make them from the lines `run began` and `run ended`, which carry the id and the seconds.

mod lines;

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use tracing::{Level, Span};
use tracing_subscriber::layer::SubscriberExt;

use crate::error::{Error, Kind, Result};
use crate::io::SystemClock;
use crate::ledger::RunStatus;
use crate::service::views::RunDetail;
use crate::service::views::words::{self, lasting};
use lines::Lines;

/// Names the level: `error`, `warn`, `info` (the default), `debug`.
pub const LEVEL_VARIABLE: &str = "GROUPCAST_LOG";

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, strum::EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum Format {
    /// `2026-11-22T02:00:01Z INFO  accounts 20261122T020000.000Z-1a2b: finished: …`
    #[default]
    Human,
    /// One JSON object per line.
    Json,
}

impl Format {
    /// The format of this name in `[daemon]`: `human`, `json`.
    pub fn from_name(name: &str) -> Option<Format> {
        name.parse().ok()
    }
}

/// The level that [`LEVEL_VARIABLE`] asks for.
pub fn level() -> Result<Level> {
    std::env::var_os(LEVEL_VARIABLE).map_or(Ok(Level::INFO), |text| level_of(&text.to_string_lossy()))
}

fn level_of(text: &str) -> Result<Level> {
    match text.trim().to_ascii_lowercase().as_str() {
        "" | "info" => Ok(Level::INFO),
        "error" => Ok(Level::ERROR),
        "warn" => Ok(Level::WARN),
        "debug" => Ok(Level::DEBUG),
        _ => Err(Error::new(Kind::Config, format!("`{LEVEL_VARIABLE}` is not a level"))
            .advise("set it to error, warn, info or debug")),
    }
}

/// Sends every line of this process to standard error from now on, and panics as lines too. Once per process.
///
/// Under systemd, when standard error is the journal itself, human lines have no time, which the journal notes anyway, and
/// begin with the priority (`<4>`) that the journal takes off and files them under: `journalctl -p warning` works.
pub fn init(format: Format, level: Level) -> Result<()> {
    let journal = std::env::var("JOURNAL_STREAM").ok();
    let journal = std::fs::metadata("/proc/self/fd/2")
        .is_ok_and(|stderr| is_journal(journal.as_deref(), stderr.dev(), stderr.ino()));
    let lines = Lines {
        format,
        level,
        journal,
        colour: anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never,
        clock: Arc::new(SystemClock::start()),
        out: parking_lot::Mutex::new(Box::new(std::io::stderr())),
    };
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines))
        .map_err(|error| Error::new(Kind::Bug, "failed to start the log").because(error))?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        panicked(&place, panic.payload().downcast_ref::<&'static str>().copied());
    }));
    Ok(())
}

/// `JOURNAL_STREAM` names the journal's device and inode; only if standard error still is that stream does the journal
/// read our lines (systemd.exec(5)).
fn is_journal(variable: Option<&str>, device: u64, inode: u64) -> bool {
    variable == Some(format!("{device}:{inode}").as_str())
}

/// A panic's line. A message that was put together at run time may quote a trait's value and is left out; a literal one
/// cannot.
fn panicked(place: &str, literal: Option<&'static str>) {
    let message = literal.unwrap_or("its message is left out, for it may quote a value");
    tracing::error!("panicked at {place}: {message}; report this with the lines before it");
}

/// The span of a run: every line inside carries its sync and its id. Of the highest level, for a span that the level
/// leaves out takes its fields along.
pub fn run_span(sync: &str, run: &str) -> Span {
    tracing::error_span!("run", sync, run)
}

/// A run begins.
pub fn run_began(sync: &str, run: &str, started_by: &str) {
    let by = if started_by.is_empty() { String::new() } else { format!(" by {started_by}") };
    tracing::info!(sync, run, started_by, event = "run began", "started{by}");
}

/// The one line of a run that has ended, with its counts. `advice` is the error's own, where that is at hand; else it is
/// the one of its kind.
pub fn run_finished(ended: &RunDetail, advice: Option<&str>) {
    let (run, detail) = (&ended.run, &ended.detail);
    let counts = run.counts.clone().unwrap_or_default();
    let seconds = run.seconds().unwrap_or_default();
    let advice = advice.map(str::to_owned).or_else(|| words::advice(run));
    let message = run_words(ended, advice.as_deref());
    // A macro, because the level of an event is fixed where it is written.
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                sync = run.sync,
                run = run.run,
                event = "run ended",
                status = run.status.name(),
                started_by = run.started_by,
                seconds,
                rows = counts.rows,
                unchanged = counts.unchanged,
                delivered = counts.said.delivered,
                rejected = counts.said.rejected,
                not_sent = counts.said.not_sent,
                unknown = counts.said.unknown,
                held = counts.held,
                invalid_keys = counts.invalid_keys,
                new = counts.new,
                missing = counts.missing,
                removed_delivered = counts.removed.delivered,
                removed_rejected = counts.removed.rejected,
                removed_not_sent = counts.removed.not_sent,
                removed_unknown = counts.removed.unknown,
                traits_set = counts.traits_set,
                traits_unset = counts.traits_unset,
                requests = counts.requests,
                retries = counts.retries,
                bytes = detail.bytes,
                rate_wait_ms = detail.rate_wait_ms,
                retry_wait_ms = detail.retry_wait_ms,
                error = run.error.as_deref(),
                error_kind = run.error_kind.as_deref(),
                guard = words::guard_of(run),
                advice = advice.as_deref(),
                "{message}"
            )
        };
    }
    match run_level(ended) {
        Level::ERROR => line!(error),
        Level::WARN => line!(warn),
        _ => line!(info),
    }
}

/// WARN: nothing is lost and the next run goes on. ERROR: it needs somebody.
fn run_level(ended: &RunDetail) -> Level {
    let kind = ended.run.error_kind.as_deref();
    match ended.run.status {
        RunStatus::Running | RunStatus::Delivered => Level::INFO,
        // Somebody stopped it, or limited what it may say.
        RunStatus::Incomplete if matches!(kind, None | Some("interrupted")) => Level::INFO,
        RunStatus::Failed if matches!(kind, Some("source_busy" | "ledger_busy")) => Level::WARN,
        RunStatus::SomeRejected | RunStatus::Incomplete | RunStatus::Died => Level::WARN,
        RunStatus::Guarded | RunStatus::Failed => Level::ERROR,
    }
}

fn run_words(ended: &RunDetail, advice: Option<&str>) -> String {
    let run = &ended.run;
    let sync = &run.sync;
    let took = run.seconds().filter(|seconds| *seconds >= 0.0).map(std::time::Duration::from_secs_f64);
    let took = took.map_or_else(String::new, |took| format!(" ({})", lasting(took)));
    let counts = run.counts.as_ref().map_or_else(|| "nothing counted".to_owned(), words::counts);
    let error = run.error.as_deref().map_or_else(String::new, |error| format!(": {error}"));
    let advice = advice.map_or_else(String::new, |advice| format!("; {advice}"));
    match run.status {
        RunStatus::Running => "still running".to_owned(),
        RunStatus::Delivered => format!("finished: {counts}{took}"),
        RunStatus::SomeRejected => format!("finished: {counts}{took}; `groupcast rejected {sync}` shows why"),
        RunStatus::Incomplete if run.error_kind.as_deref() == Some("interrupted") => {
            format!("stopped: {counts}{took}; the next run says what is left")
        }
        RunStatus::Incomplete => format!("ended with something left to say: {counts}{took}{error}{advice}"),
        RunStatus::Guarded => format!("stopped by a guard{took}{error}{advice}"),
        RunStatus::Failed => format!("failed{took}{error}{advice}"),
        RunStatus::Died => format!("died{took}{error}; the next run recovers what it left"),
    }
}

#[cfg(test)]
mod tests {
    use super::lines::recorded::Recorded;
    use super::*;
    use crate::service::views::RunView;
    use crate::sync::report::{Counts, Detail, Tally};
    use chrono::DateTime;
    use serde_json::{Value, json};

    fn ended(status: RunStatus, kind: Option<&str>, error: Option<&str>) -> RunDetail {
        let started_at = DateTime::parse_from_rfc3339("2026-11-22T02:00:00Z").unwrap().to_utc();
        let said = Tally { delivered: 10, ..Tally::default() };
        RunDetail {
            run: RunView {
                sync: "accounts".to_owned(),
                run: "20261122T020000.000Z-1a2b".to_owned(),
                status,
                started_at,
                ended_at: Some(started_at + std::time::Duration::from_millis(1_200)),
                started_by: "schedule".to_owned(),
                counts: Some(Counts { rows: 10_000, unchanged: 9_990, said, requests: 3, ..Counts::default() }),
                error: error.map(str::to_owned),
                error_kind: kind.map(str::to_owned),
            },
            detail: Detail { bytes: 4_096, ..Detail::default() },
            progress: None,
            rejected: Vec::new(),
        }
    }

    #[test]
    fn a_good_run_is_one_line() {
        let lines = Recorded::during(Format::Human, Level::INFO, || {
            run_finished(&ended(RunStatus::Delivered, None, None), None);
        });
        assert_eq!(
            lines,
            ["2026-11-22T02:00:01Z INFO  accounts 20261122T020000.000Z-1a2b: \
              finished: 10,000 rows, 9,990 unchanged, 10 delivered (1.2 s)"]
        );
    }

    #[test]
    fn machines_read_every_count_as_a_number() {
        let lines = Recorded::during(Format::Json, Level::INFO, || {
            let guarded = ended(RunStatus::Guarded, Some("guard"), Some("stopped by the guard `keys` before"));
            run_finished(&guarded, Some("the error's own advice"));
        });
        let line: Value = serde_json::from_str(&lines[0]).unwrap();
        for (key, value) in [
            ("timestamp", json!("2026-11-22T02:00:01.234Z")),
            ("level", json!("error")),
            ("sync", json!("accounts")),
            ("run", json!("20261122T020000.000Z-1a2b")),
            ("status", json!("guarded")),
            ("rows", json!(10_000)),
            ("delivered", json!(10)),
            ("requests", json!(3)),
            ("bytes", json!(4_096)),
            ("seconds", json!(1.2)),
            ("guard", json!("keys")),
            ("advice", json!("the error's own advice")),
            ("event", json!("run ended")),
        ] {
            assert_eq!(line[key], value, "{key}");
        }
        assert!(lines[0].starts_with(r#"{"timestamp":"#), "the time comes first: {}", lines[0]);
    }

    #[test]
    fn every_end_has_its_level_and_its_words() {
        for (status, kind, level, words) in [
            (RunStatus::SomeRejected, None, "WARN ", "`groupcast rejected accounts` shows why"),
            (RunStatus::Incomplete, Some("interrupted"), "INFO ", "stopped: 10,000 rows"),
            (RunStatus::Incomplete, None, "INFO ", "ended with something left to say"),
            (RunStatus::Incomplete, Some("destination"), "WARN ", ": it broke; check the destination"),
            (RunStatus::Failed, Some("source_busy"), "WARN ", "failed (1.2 s): it broke; nothing if it passes"),
            (RunStatus::Failed, Some("source"), "ERROR", "failed (1.2 s): it broke; check the source's credentials"),
            (RunStatus::Guarded, Some("guard"), "ERROR", "stopped by a guard (1.2 s): it broke"),
            (RunStatus::Died, None, "WARN ", "the next run recovers what it left"),
        ] {
            let lines = Recorded::during(Format::Human, Level::INFO, || {
                run_finished(&ended(status, kind, kind.map(|_| "it broke")), None);
            });
            assert_eq!(lines.len(), 1);
            assert!(lines[0].contains(&format!(" {level} accounts ")) && lines[0].contains(words), "{}", lines[0]);
        }
    }

    #[test]
    fn a_hostile_error_cannot_forge_a_line() {
        let forged = "boom\n2026-11-22T02:00:01Z INFO  accounts r: finished\u{1b}[2J\u{9b}1m\r\u{2028}\u{202e}";
        for format in [Format::Human, Format::Json] {
            let lines = Recorded::during(format, Level::INFO, || {
                run_finished(&ended(RunStatus::Failed, Some("source"), Some(forged)), Some(forged));
                tracing::info!(sync = "a\nb", run = "c\u{1b}", "plain {forged}");
            });
            assert_eq!(lines.len(), 2, "{lines:?}");
            for line in &lines {
                assert!(!line.contains(words::is_unsafe), "{line:?}");
            }
            if format == Format::Json {
                let line: Value = serde_json::from_str(&lines[0]).unwrap();
                assert_eq!(line["error"], forged, "escaped, not changed");
            }
        }
    }

    #[test]
    fn levels_are_plain_words() {
        assert_eq!(level_of("WARN ").unwrap(), Level::WARN);
        assert_eq!(level_of("").unwrap(), Level::INFO);
        let error = level_of("groupcast=trace").unwrap_err();
        assert_eq!((error.kind(), error.advice()), (Kind::Config, Some("set it to error, warn, info or debug")));
        assert_eq!((Format::from_name("json"), Format::from_name("yaml")), (Some(Format::Json), None));
    }

    #[test]
    fn only_the_journal_itself_is_the_journal() {
        assert!(is_journal(Some("8:1234"), 8, 1234));
        assert!(!is_journal(Some("8:1234"), 8, 99), "standard error was redirected");
        assert!(!is_journal(None, 8, 1234));
    }

    #[test]
    fn a_panic_is_a_line_without_values() {
        let lines = Recorded::during(Format::Human, Level::INFO, || {
            panicked("src/x.rs:1:2", Some("index out of bounds"));
            panicked("src/x.rs:1:2", None);
        });
        assert!(lines[0].contains("panicked at src/x.rs:1:2: index out of bounds"));
        assert!(lines[1].contains("left out"));
    }

    /// What the next test runs in a process of its own, because a process has one log; does nothing otherwise.
    #[test]
    fn a_process_that_logs() {
        if std::env::var_os("GROUPCAST_TEST_LOGS").is_none() {
            return;
        }
        init(Format::Json, level().unwrap()).unwrap();
        assert_eq!(init(Format::Human, Level::INFO).unwrap_err().kind(), Kind::Bug, "once per process");
        run_began("accounts", "r1", "schedule");
        tracing::warn!("beyond the level of info");
        let secret = "s3cret".to_owned();
        run_span("accounts", "r1").in_scope(|| std::panic::catch_unwind(|| panic!("{secret}")).unwrap_err());
    }

    #[test]
    fn lines_and_panics_go_to_standard_error() {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "telemetry::tests::a_process_that_logs", "--nocapture"])
            .envs([("GROUPCAST_TEST_LOGS", "1"), (LEVEL_VARIABLE, "warn"), ("RUST_BACKTRACE", "0")])
            .output()
            .unwrap();
        assert!(child.status.success(), "{child:?}");
        let lines: Vec<Value> = String::from_utf8(child.stderr).unwrap().lines().map(parsed).collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert_eq!((&lines[0]["level"], &lines[0]["message"]), (&json!("warn"), &json!("beyond the level of info")));
        assert_eq!(
            (&lines[1]["level"], &lines[1]["sync"], &lines[1]["run"]),
            (&json!("error"), &json!("accounts"), &json!("r1"))
        );
        let message = lines[1]["message"].as_str().unwrap();
        assert!(message.starts_with("panicked at src/telemetry/mod.rs:") && !message.contains("s3cret"), "{message}");
    }

    fn parsed(line: &str) -> Value {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))
    }
}
