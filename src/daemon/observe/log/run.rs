//! The lines of a run: when it started, and one with all its counts when it ended.

use tracing::{Level, Span};

use crate::ledger::RunStatus;
use crate::service::views::RunDetail;
use crate::service::views::words::{self, lasting};

/// The span of a run: every line inside carries its sync and its id. Of the highest level, because a span that the filter
/// leaves out takes its fields along.
pub fn run_span(sync: &str, run: &str) -> Span {
    tracing::error_span!("run", sync, run)
}

/// A run started.
pub fn run_started(sync: &str, run: &str, started_by: &str) {
    let by = if started_by.is_empty() { String::new() } else { format!(" by {started_by}") };
    tracing::info!(sync, run, started_by, event = "run started", "started{by}");
}

/// The one line of a run that has ended, with its counts. `advice` is the error's own, where that is at hand; else it is
/// the one of its kind.
pub fn run_ended(ended: &RunDetail, advice: Option<&str>) {
    let (run, detail) = (&ended.run, &ended.detail);
    let counts = run.counts.clone().unwrap_or_default();
    let seconds = run.seconds().unwrap_or_default();
    let advice = advice.map(str::to_owned).or_else(|| words::advice(run));
    let message = run_message(ended, advice.as_deref());
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
                delivered = counts.changes.delivered,
                rejected = counts.changes.rejected,
                pending = counts.changes.pending,
                unconfirmed = counts.changes.unconfirmed,
                rejected_unchanged = counts.rejected_unchanged,
                invalid_keys = counts.invalid_keys,
                new = counts.new,
                missing = counts.missing,
                removed_delivered = counts.removed.delivered,
                removed_rejected = counts.removed.rejected,
                removed_pending = counts.removed.pending,
                removed_unconfirmed = counts.removed.unconfirmed,
                traits_set = counts.traits_set,
                traits_unset = counts.traits_unset,
                requests = counts.requests,
                retries = counts.retries,
                bytes = detail.bytes,
                rate_wait_ms = detail.rate_wait_ms,
                retry_wait_ms = detail.retry_wait_ms,
                error = run.error.as_deref(),
                error_kind = run.error_kind.as_deref(),
                guard = run.guard.as_deref(),
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

/// WARN: nothing is lost and the next run continues. ERROR: it needs a person.
fn run_level(ended: &RunDetail) -> Level {
    let kind = ended.run.error_kind.as_deref();
    match ended.run.status {
        RunStatus::Queued | RunStatus::Running | RunStatus::Succeeded | RunStatus::Cancelled => Level::INFO,
        // It was cancelled or limited.
        RunStatus::Incomplete if matches!(kind, None | Some("interrupted")) => Level::INFO,
        RunStatus::Failed if matches!(kind, Some("source_busy" | "ledger_busy")) => Level::WARN,
        RunStatus::SucceededWithRejections | RunStatus::Incomplete | RunStatus::Crashed => Level::WARN,
        RunStatus::StoppedByGuard | RunStatus::Failed => Level::ERROR,
    }
}

fn run_message(ended: &RunDetail, advice: Option<&str>) -> String {
    let run = &ended.run;
    let sync = &run.sync;
    let took = run.seconds().filter(|seconds| *seconds >= 0.0).map(std::time::Duration::from_secs_f64);
    let took = took.map_or_else(String::new, |took| format!(" ({})", lasting(took)));
    let counts = run.counts.as_ref().map_or_else(|| "nothing counted".to_owned(), words::counts);
    let error = run.error.as_deref().map_or_else(String::new, |error| format!(": {error}"));
    let advice = advice.map_or_else(String::new, |advice| format!("; {advice}"));
    match run.status {
        RunStatus::Queued => "queued".to_owned(),
        RunStatus::Running => "running".to_owned(),
        RunStatus::Succeeded => format!("finished: {counts}{took}"),
        RunStatus::SucceededWithRejections => {
            format!("finished with rejections: {counts}{took}; `groupcast rejected {sync}` shows why")
        }
        RunStatus::Cancelled => format!("cancelled: {counts}{took}; the next run continues"),
        RunStatus::Incomplete => format!("finished incomplete: {counts}{took}{error}{advice}"),
        RunStatus::StoppedByGuard => format!("stopped by a guard{took}{error}{advice}"),
        RunStatus::Failed => format!("failed{took}{error}{advice}"),
        RunStatus::Crashed => format!("crashed{took}{error}; the next run recovers it"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::LogFormat;
    use super::super::lines::recorded::RecordedLines;
    use super::*;
    use crate::service::views::RunView;
    use crate::sync::report::{Counts, Detail, OutcomeCounts};
    use chrono::DateTime;
    use serde_json::{Value, json};

    fn ended(status: RunStatus, kind: Option<&str>, error: Option<&str>) -> RunDetail {
        let started_at = DateTime::parse_from_rfc3339("2026-11-22T02:00:00Z").unwrap().to_utc();
        let changes = OutcomeCounts { delivered: 10, ..OutcomeCounts::default() };
        RunDetail {
            run: RunView {
                sync: "accounts".to_owned(),
                run: "20261122T020000.000Z-1a2b".to_owned(),
                status,
                started_at,
                ended_at: Some(started_at + std::time::Duration::from_millis(1_200)),
                started_by: "schedule".to_owned(),
                counts: Some(Counts { rows: 10_000, unchanged: 9_990, changes, requests: 3, ..Counts::default() }),
                error: error.map(str::to_owned),
                error_kind: kind.map(str::to_owned),
                guard: (kind == Some("guard")).then(|| "keys".to_owned()),
                holder: None,
            },
            detail: Detail { bytes: 4_096, ..Detail::default() },
            progress: None,
            rejected: Vec::new(),
        }
    }

    #[test]
    fn a_good_run_is_one_line() {
        let lines = RecordedLines::during(LogFormat::Human, "info", || {
            run_ended(&ended(RunStatus::Succeeded, None, None), None);
        });
        assert_eq!(
            lines,
            ["2026-11-22T02:00:01Z INFO  accounts 20261122T020000.000Z-1a2b: \
              finished: 10,000 rows, 9,990 unchanged, 10 delivered (1.2 s)"]
        );
    }

    #[test]
    fn machines_read_every_count_as_a_number() {
        let lines = RecordedLines::during(LogFormat::Json, "info", || {
            let guarded = ended(RunStatus::StoppedByGuard, Some("guard"), Some("stopped by the guard `keys` before"));
            run_ended(&guarded, Some("the error's own advice"));
        });
        let line: Value = serde_json::from_str(&lines[0]).unwrap();
        for (key, value) in [
            ("timestamp", json!("2026-11-22T02:00:01.234Z")),
            ("level", json!("error")),
            ("sync", json!("accounts")),
            ("run", json!("20261122T020000.000Z-1a2b")),
            ("status", json!("stopped_by_guard")),
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
    fn every_result_has_its_level_and_its_text() {
        for (status, kind, level, words) in [
            (RunStatus::SucceededWithRejections, None, "WARN ", "`groupcast rejected accounts` shows why"),
            (RunStatus::Cancelled, Some("interrupted"), "INFO ", "cancelled: 10,000 rows"),
            (RunStatus::Incomplete, None, "INFO ", "finished incomplete"),
            (RunStatus::Incomplete, Some("destination"), "WARN ", ": it broke; check the destination"),
            (RunStatus::Failed, Some("source_busy"), "WARN ", "failed (1.2 s): it broke; nothing if it passes"),
            (RunStatus::Failed, Some("source"), "ERROR", "failed (1.2 s): it broke; check the source's credentials"),
            (RunStatus::StoppedByGuard, Some("guard"), "ERROR", "stopped by a guard (1.2 s): it broke"),
            (RunStatus::Crashed, None, "WARN ", "crashed (1.2 s); the next run recovers it"),
        ] {
            let lines = RecordedLines::during(LogFormat::Human, "info", || {
                run_ended(&ended(status, kind, kind.map(|_| "it broke")), None);
            });
            assert_eq!(lines.len(), 1);
            assert!(lines[0].contains(&format!(" {level} accounts ")) && lines[0].contains(words), "{}", lines[0]);
        }
    }

    #[test]
    fn a_hostile_error_cannot_forge_a_line() {
        let forged = "boom\n2026-11-22T02:00:01Z INFO  accounts r: succeeded\u{1b}[2J\u{9b}1m\r\u{2028}\u{202e}";
        for format in [LogFormat::Human, LogFormat::Json] {
            let lines = RecordedLines::during(format, "info", || {
                run_ended(&ended(RunStatus::Failed, Some("source"), Some(forged)), Some(forged));
                tracing::info!(sync = "a\nb", run = "c\u{1b}", "plain {forged}");
            });
            assert_eq!(lines.len(), 2, "{lines:?}");
            for line in &lines {
                assert!(!line.contains(words::is_unsafe), "{line:?}");
            }
            if format == LogFormat::Json {
                let line: Value = serde_json::from_str(&lines[0]).unwrap();
                assert_eq!(line["error"], forged, "escaped, not changed");
            }
        }
    }
}
