//! The log of a run: what happened and when, in few lines, kept with the run's record. It has the beginning and the end of
//! what there was to log; in between, lines are counted and dropped.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Lines kept of the beginning: they show how it started …
const FIRST_MAX: usize = 50;
/// … and of the end. With [`CHARS_MAX`] that is a record of 100 kilobytes at most; one of a usual run has a line or two.
const LAST_MAX: usize = 150;
/// Characters of a line: an error message and what is done about it.
const CHARS_MAX: usize = 400;

/// How serious a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// What a run does.
    Info,
    /// What it gets over by itself.
    Warning,
    /// Why it ends early.
    Error,
}

impl LogLevel {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            LogLevel::Info => "info",
            LogLevel::Warning => "warning",
            LogLevel::Error => "error",
        }
    }
}

/// A line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LogLine {
    /// When it was logged, the last time.
    pub at: DateTime<Utc>,
    /// How serious it is.
    pub level: LogLevel,
    /// What happened. Error messages of others are in it with their secrets masked.
    pub text: String,
    /// How often in a row, if more than once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
}

/// The lines of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct LogLines {
    /// The first and the last lines.
    pub lines: Vec<LogLine>,
    /// Lines in between that were dropped.
    pub dropped: u64,
    /// How many of the lines were logged before those.
    pub before_dropped: u64,
}

impl LogLines {
    /// Whether nothing was logged.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

/// The log of a run under way.
#[derive(Debug, Default)]
pub struct RunLog(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    first: Vec<LogLine>,
    last: VecDeque<LogLine>,
    dropped: u64,
}

impl RunLog {
    /// Adds a line. The same one as before is counted.
    pub fn add(&self, at: DateTime<Utc>, level: LogLevel, text: &str) {
        let text = match text.char_indices().nth(CHARS_MAX) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text.to_owned(),
        };
        let kept = &mut *self.0.lock();
        let before = kept.last.back_mut().or(kept.first.last_mut());
        if let Some(before) = before.filter(|before| before.level == level && before.text == text) {
            before.at = at;
            before.times = Some(before.times.unwrap_or(1) + 1);
            return;
        }
        let line = LogLine { at, level, text, times: None };
        if kept.first.len() < FIRST_MAX {
            kept.first.push(line);
            return;
        }
        if kept.last.len() == LAST_MAX {
            kept.last.pop_front();
            kept.dropped += 1;
        }
        kept.last.push_back(line);
    }

    /// The lines so far.
    pub fn lines(&self) -> LogLines {
        let kept = self.0.lock();
        LogLines {
            lines: kept.first.iter().chain(&kept.last).cloned().collect(),
            dropped: kept.dropped,
            before_dropped: if kept.dropped > 0 { kept.first.len() as u64 } else { 0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(texts: impl IntoIterator<Item = String>) -> LogLines {
        let log = RunLog::default();
        for (second, text) in texts.into_iter().enumerate() {
            log.add(DateTime::from_timestamp(second as i64, 0).unwrap(), LogLevel::Warning, &text);
        }
        log.lines()
    }

    #[test]
    fn the_beginning_and_the_end_are_kept() {
        let kept = log((0..1_000).map(|at| format!("line {at}")));
        assert_eq!((kept.lines.len(), kept.dropped, kept.before_dropped), (200, 800, 50));
        let texts: Vec<&str> = kept.lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!((texts[0], texts[49], texts[50], texts[199]), ("line 0", "line 49", "line 850", "line 999"));
        let few = log((0..60).map(|at| format!("line {at}")));
        assert_eq!((few.lines.len(), few.dropped, few.before_dropped), (60, 0, 0));
    }

    #[test]
    fn what_repeats_is_counted_and_what_is_long_is_cut() {
        let kept = log(["a", "a", "b", "a"].map(str::to_owned));
        let lines: Vec<_> =
            kept.lines.iter().map(|line| (line.text.as_str(), line.times, line.at.timestamp())).collect();
        assert_eq!(lines, [("a", Some(2), 1), ("b", None, 2), ("a", None, 3)]);
        let repeated = log(std::iter::repeat_n("é".repeat(9_000), 5_000));
        assert_eq!((repeated.lines.len(), repeated.lines[0].times, repeated.dropped), (1, Some(5_000), 0));
        assert_eq!(repeated.lines[0].text.chars().count(), CHARS_MAX + 1);
    }
}
