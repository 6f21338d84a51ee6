//! The log of the process: lines on standard error, for people or for machines.
//!
//! Everything goes through `tracing`, with three conventions:
//!
//! - The message is complete; fields repeat it for machines. The human format prints only the message, the JSON format
//!   prints both.
//! - Whatever belongs to a run happens inside its [`run_span`], so that each of its lines carries the sync and the run's
//!   id. A spawned task must be given the span (`tracing::Instrument`), because spans do not follow a task by themselves.
//! - No message and no field holds a secret or a trait's value. Errors do not, by the rule of [`crate::error`]. Events of
//!   dependencies are not shown at any level: HTTP and database libraries do not keep that rule.
//!
//! Spans for OpenTelemetry are not made from these: `service::trace` watches runs instead, so that what leaves the process is
//! decided in one place.

mod filter;
mod lines;
mod run;
mod writer;

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use tracing_subscriber::layer::SubscriberExt;

pub use self::filter::{LogFilter, VARIABLE, filter};
use self::lines::LogLines;
pub use self::run::{run_ended, run_span, run_started};
use self::writer::LogWriter;
pub use self::writer::dropped;
use crate::error::{Error, Kind, Result};
use crate::io::SystemClock;

/// How long the last lines may take where standard error is not read.
const LAST_LINES_MAX: Duration = Duration::from_secs(1);

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// `2026-11-22T02:00:01Z INFO  accounts 20261122T020000.000Z-1a2b: finished: …`
    #[default]
    Human,
    /// One JSON object per line.
    Json,
}

impl LogFormat {
    /// The format of this name in `[daemon]`: `human`, `json`.
    pub fn from_name(name: &str) -> Option<LogFormat> {
        match name {
            "human" => Some(LogFormat::Human),
            "json" => Some(LogFormat::Json),
            _ => None,
        }
    }
}

/// Sends every line of this process to standard error from now on, and panics as lines too. Once per process.
///
/// Under systemd, when standard error is the journal itself, human lines have no time, which the journal notes anyway, and
/// begin with the priority (`<4>`) that the journal takes off and files them under: `journalctl -p warning` works.
pub fn init(format: LogFormat, filter: LogFilter) -> Result<()> {
    let journal = std::env::var("JOURNAL_STREAM").ok();
    let journal = std::fs::metadata("/proc/self/fd/2")
        .is_ok_and(|stderr| is_journal(journal.as_deref(), stderr.dev(), stderr.ino()));
    let failed = || Error::new(Kind::Bug, "failed to start the log");
    let lines = LogLines {
        format,
        filter,
        journal,
        colour: anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never,
        clock: Arc::new(SystemClock::start()),
        out: LogWriter::start(std::io::stderr()).map_err(|error| failed().because(error))?,
    };
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines))
        .map_err(|error| failed().because(error))?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        panicked(&place, panic.payload().downcast_ref::<&'static str>().copied());
        // It may be the process's last line.
        flush();
    }));
    Ok(())
}

/// Waits until the lines so far are written, but not for ever: for the end of the process. Returns whether they are.
pub fn flush() -> bool {
    writer::flush(LAST_LINES_MAX)
}

/// `JOURNAL_STREAM` names the journal's device and inode; only if standard error still is that stream does the journal
/// read our lines (systemd.exec(5)).
fn is_journal(variable: Option<&str>, device: u64, inode: u64) -> bool {
    variable == Some(format!("{device}:{inode}").as_str())
}

/// A panic's line. A message that was put together at run time may quote a trait's value and is left out; a literal one
/// cannot.
fn panicked(place: &str, literal: Option<&'static str>) {
    let message = literal.unwrap_or("its message is left out, because it may quote a value");
    tracing::error!("internal error: panicked at {place}: {message}; report this with the lines before it");
}

#[cfg(test)]
mod tests {
    use super::lines::recorded::RecordedLines;
    use super::*;
    use crate::io::Clock;
    use serde_json::{Value, json};

    #[test]
    fn only_the_journal_itself_is_the_journal() {
        assert!(is_journal(Some("8:1234"), 8, 1234));
        assert!(!is_journal(Some("8:1234"), 8, 99), "standard error was redirected");
        assert!(!is_journal(None, 8, 1234));
        assert_eq!((LogFormat::from_name("json"), LogFormat::from_name("yaml")), (Some(LogFormat::Json), None));
    }

    #[test]
    fn a_panic_is_a_line_without_values() {
        let lines = RecordedLines::during(LogFormat::Human, "info", || {
            panicked("src/x.rs:1:2", Some("index out of bounds"));
            panicked("src/x.rs:1:2", None);
        });
        assert!(lines[0].contains("panicked at src/x.rs:1:2: index out of bounds"));
        assert!(lines[1].contains("left out"));
    }

    /// What the next tests run in a process of its own, because a process has one log; does nothing otherwise.
    #[test]
    fn a_process_that_logs() {
        let Some(lines) = std::env::var_os("GROUPCAST_TEST_LOGS") else { return };
        init(LogFormat::Json, filter().unwrap()).unwrap();
        assert_eq!(init(LogFormat::Human, LogFilter::default()).unwrap_err().kind(), Kind::Bug, "once per process");
        run_started("accounts", "r1", "schedule");
        for line in 0..lines.to_string_lossy().parse().unwrap() {
            tracing::warn!(line, "beyond the level of info");
        }
        let secret = "s3cret".to_owned();
        run_span("accounts", "r1").in_scope(|| std::panic::catch_unwind(|| panic!("{secret}")).unwrap_err());
        println!("ended with {} dropped", dropped());
    }

    fn process_that_logs(lines: &str) -> std::process::Command {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "daemon::observe::log::tests::a_process_that_logs", "--nocapture"]).envs([
            ("GROUPCAST_TEST_LOGS", lines),
            (VARIABLE, "warn"),
            ("RUST_BACKTRACE", "0"),
        ]);
        command
    }

    #[test]
    fn lines_and_panics_go_to_standard_error() {
        let child = process_that_logs("1").output().unwrap();
        assert!(child.status.success(), "{child:?}");
        let lines: Vec<Value> = String::from_utf8(child.stderr).unwrap().lines().map(parsed).collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert_eq!((&lines[0]["level"], &lines[0]["message"]), (&json!("warn"), &json!("beyond the level of info")));
        assert_eq!(
            (&lines[1]["level"], &lines[1]["sync"], &lines[1]["run"]),
            (&json!("error"), &json!("accounts"), &json!("r1"))
        );
        let message = lines[1]["message"].as_str().unwrap();
        let panicked = message.starts_with("internal error: panicked at src/daemon/observe/log/mod.rs:");
        assert!(panicked && !message.contains("s3cret"), "{message}");
    }

    #[test]
    fn standard_error_that_is_not_read_stops_nothing() {
        use std::process::Stdio;
        let clock = SystemClock::start();
        // GIVEN a pipe of 64 KiB on standard error that stays unread, and 2 MB of lines
        let mut child = process_that_logs("20000").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stderr, stdout) = (child.stderr.take(), child.stdout.take());
        // THEN the process goes on to its end,
        let mut output = String::new();
        std::io::Read::read_to_string(&mut stdout.unwrap(), &mut output).unwrap();
        assert!(child.wait().unwrap().success());
        assert!(clock.elapsed() < Duration::from_secs(20), "{:?}", clock.elapsed());
        // and knows how many lines were dropped
        let dropped = output.split("ended with ").nth(1).and_then(|rest| rest.split(' ').next());
        let dropped: u64 = dropped.unwrap_or_else(|| panic!("{output}")).parse().unwrap();
        assert!(dropped > 1_000, "{dropped}");
        drop(stderr);
    }

    fn parsed(line: &str) -> Value {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))
    }
}
