//! Texts for counts, times and failures: the same in logs, alerts and on the screen. Pure.

use std::time::Duration;

use super::RunView;
pub use crate::format::{for_terminal, is_unsafe, json_line, one_line, thousands};
use crate::ledger::RunStatus;
use crate::sync::report::Counts;

/// "1 group", "2 groups".
pub fn plural(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", thousands(count), if count == 1 { "" } else { "s" })
}

/// "1.2 s", "3 min 20 s", "2 h 5 min", "3 d 4 h": two units at most.
pub fn lasting(took: Duration) -> String {
    let seconds = took.as_secs();
    let two = |first: u64, unit: &str, second: u64, smaller: &str| match second {
        0 => format!("{first} {unit}"),
        _ => format!("{first} {unit} {second} {smaller}"),
    };
    match seconds {
        0..60 => format!("{:.1} s", took.as_secs_f64()),
        60..3_600 => two(seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

/// "10,000 rows, 9,990 unchanged, 10 delivered": what is zero is left out, but for the rows and the unchanged.
pub fn counts(counts: &Counts) -> String {
    let mut words = format!("{}, {} unchanged", plural(counts.rows, "row"), thousands(counts.unchanged));
    for (count, what) in [
        (counts.changes.delivered, "delivered"),
        (counts.removed.delivered, "removed"),
        (counts.rejected(), "rejected"),
        (counts.changes.pending + counts.removed.pending, "pending"),
        (counts.changes.unconfirmed + counts.removed.unconfirmed, "unconfirmed"),
    ] {
        if count > 0 {
            words.push_str(&format!(", {} {what}", thousands(count)));
        }
    }
    words
}

/// What a person does next about a run that did not end well, where only its line in the list of runs is at hand, or its
/// record is of a version that did not keep the error's own advice: the advice of the kind.
pub fn advice(run: &RunView) -> Option<String> {
    let sync = &run.sync;
    let words = match (run.status, run.error_kind.as_deref()?) {
        (RunStatus::StoppedByGuard, _) => {
            let name = run.guard.as_deref()?;
            return Some(format!(
                "look at `groupcast plan {sync}`; if this is right, accept it once with `groupcast run {sync} --accept {name}`"
            ));
        }
        (_, "config") => "correct the config or the mapping; `groupcast check --connect` shows the place",
        (_, "source") => {
            "check the source's credentials and permissions and the model's SQL; `groupcast check --connect` tries them"
        }
        (_, "source_busy") => "nothing if it passes, the next run tries again; else look at the source",
        (_, "destination") => {
            "check the destination, its credentials and the network; the next run sends what is pending"
        }
        (_, "ledger") => "check the disk and the permissions of the ledger's file",
        (_, "ledger_busy") => "stop the other process that has the ledger open",
        (_, "bug") => "report this with the log lines of the run",
        _ => return None,
    };
    Some(words.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::report::OutcomeCounts;
    use chrono::DateTime;

    #[test]
    fn numbers_and_times_read_well() {
        assert_eq!([0, 999, 1_234_567].map(thousands), ["0", "999", "1,234,567"]);
        assert_eq!(plural(1, "row"), "1 row");
        assert_eq!(plural(1000, "row"), "1,000 rows");
        for (millis, words) in [
            (0, "0.0 s"),
            (1_240, "1.2 s"),
            (60_000, "1 min"),
            (200_000, "3 min 20 s"),
            (7_500_000, "2 h 5 min"),
            (86_400_000, "1 d"),
            (273_600_000, "3 d 4 h"),
        ] {
            assert_eq!(lasting(Duration::from_millis(millis)), words);
        }
    }

    #[test]
    fn counts_name_what_happened() {
        let quiet = Counts { rows: 10_000, unchanged: 10_000, ..Counts::default() };
        assert_eq!(counts(&quiet), "10,000 rows, 10,000 unchanged");
        let changes = OutcomeCounts { delivered: 1, rejected: 2, pending: 3, unconfirmed: 4 };
        let removed = OutcomeCounts { delivered: 10, rejected: 20, pending: 30, unconfirmed: 40 };
        let busy = Counts { rows: 10, changes, removed, ..Counts::default() };
        assert_eq!(
            counts(&busy),
            "10 rows, 0 unchanged, 1 delivered, 10 removed, 22 rejected, 33 pending, 44 unconfirmed"
        );
    }

    #[test]
    fn every_failure_has_a_next_step() {
        let run = |status, kind: &str, error: &str| RunView {
            holder: None,
            sync: "accounts".to_owned(),
            run: "r".to_owned(),
            status,
            started_at: DateTime::UNIX_EPOCH,
            ended_at: None,
            started_by: String::new(),
            counts: None,
            error: Some(error.to_owned()),
            error_kind: Some(kind.to_owned()),
            guard: (kind == "guard").then(|| "rows-dropped".to_owned()),
        };
        for kind in ["config", "source", "source_busy", "destination", "ledger", "ledger_busy", "bug"] {
            assert!(advice(&run(RunStatus::Failed, kind, "")).is_some(), "{kind}");
        }
        assert_eq!(advice(&run(RunStatus::Incomplete, "interrupted", "")), None);
        let guarded =
            run(RunStatus::StoppedByGuard, "guard", "stopped by the guard `rows-dropped` before anything was sent: …");
        assert!(advice(&guarded).unwrap().ends_with("`groupcast run accounts --accept rows-dropped`"));
    }
}
