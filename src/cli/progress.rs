//! A run's progress: a bar on a terminal, a plain line every few seconds otherwise.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::style::ProgressTracker;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use parking_lot::Mutex;

use super::bar;
use super::screen::{plural, stderr, thousands};
use crate::service::api::{EnqueuedRun, RunMonitor};
use crate::service::pace::Pace;
use crate::service::views;
use crate::sync::{Event, Monitor};

/// Shows the progress of one run.
pub(super) struct Progress {
    name: String,
    source: Option<String>,
    state: Mutex<State>,
}

struct State {
    bar: Option<ProgressBar>,
    /// The run's id.
    run: Option<String>,
    done: u64,
    decile: u64,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Display {
    /// A bar where standard error is a terminal, lines otherwise.
    Bar,
    /// Lines: the changes themselves go to the same terminal.
    Lines,
    /// Not at all.
    Quiet,
}

impl Progress {
    /// Progress of one sync.
    pub(super) fn new(name: &str, display: Display) -> Progress {
        let bar = (display == Display::Bar && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            bar.set_style(spinner());
            bar.set_message(narrow(name));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar::show(bar.clone());
            bar
        });
        let decile = if display == Display::Quiet { u64::MAX } else { 0 };
        Progress { name: name.to_owned(), source: None, state: Mutex::new(State { bar, run: None, done: 0, decile }) }
    }

    /// The same for runs of the process `source`, if it is another one.
    pub(super) fn of(self, source: Option<&str>) -> Progress {
        Progress { source: source.map(str::to_owned), ..self }
    }

    /// The run's id, where it got one: also one that failed is on record.
    pub(super) fn run(&self) -> Option<String> {
        self.state.lock().run.clone()
    }

    /// Prints a line, above the bar if there is one.
    fn line(&self, line: &str) {
        if self.state.lock().decile != u64::MAX {
            // A closed standard error cannot be reported anywhere.
            drop(writeln!(stderr(), "{line}"));
        }
    }

    /// Takes the bar off the screen.
    pub(super) fn finish(&self) {
        if self.state.lock().bar.take().is_some() {
            bar::remove();
        }
    }

    /// From now on the bar shows how many of `total` groups are done.
    fn set_total(&self, bar: &ProgressBar, total: u64) {
        bar.set_length(total);
        bar.set_style(bar_style(&self.name));
    }
}

impl RunMonitor for Progress {
    fn assigned(&self, run: &str) {
        self.state.lock().run.get_or_insert_with(|| run.to_owned());
    }

    fn submitted(&self, run: &EnqueuedRun) {
        self.assigned(&run.run);
        let source = self.source.as_deref().unwrap_or_default();
        let joined = if run.joined { ", which was queued already" } else { "" };
        self.line(&format!("{}: submitted to {source} (run {}{joined})", self.name, run.run));
    }

    fn queued(&self) {
        self.line(&format!("{}: queued behind other runs", self.name));
    }

    fn cancelled_elsewhere(&self, aborts: bool) {
        let what = match aborts {
            false => "waiting for requests in flight",
            true => "aborting requests in flight; the next run resends them",
        };
        self.line(&format!("{}: cancelled by another process: {what}", self.name));
    }

    fn progress(&self, at: &views::RunProgress) {
        let Some(total) = at.candidates else { return self.note(Event::Reading(at.rows_read)) };
        let done = {
            let state = self.state.lock();
            if let Some(bar) = state.bar.as_ref().filter(|bar| bar.length() != Some(total)) {
                self.set_total(bar, total);
            }
            state.done
        };
        if at.done > done {
            self.note(Event::Sending { settled: at.done - done, total });
        }
    }
}

impl Monitor for Progress {
    fn note(&self, event: Event<'_>) {
        let mut state = self.state.lock();
        let line = match event {
            Event::Began { .. } => return,
            Event::Recovered(runs) => {
                let runs = runs.join(", ");
                format!("{}: recovered crashed run {runs}; unconfirmed groups will be resent", self.name)
            }
            Event::Unreadable { key, what } => {
                let key = super::text::shown_key(key);
                // Also beside JSON and a plan: it names what is damaged.
                drop(writeln!(stderr(), "{}: group `{key}`: {what}; the group is resent in full", self.name));
                return;
            }
            Event::Reading(rows) => {
                if let Some(bar) = &state.bar {
                    bar.set_message(format!("{}  reading, {} so far", narrow(&self.name), plural(rows, "row")));
                }
                return;
            }
            Event::Compared(found) => {
                if let Some(bar) = &state.bar {
                    self.set_total(bar, found.candidates());
                    return;
                }
                format!(
                    "{}: {} read: {} to compare, {} unchanged",
                    self.name,
                    plural(found.rows, "row"),
                    thousands(found.candidates()),
                    thousands(found.unchanged)
                )
            }
            Event::Sending { settled, total } => {
                state.done += settled;
                if let Some(bar) = &state.bar {
                    bar.set_position(state.done);
                    return;
                }
                // Ten lines a run at most, and only for runs that take a while.
                let decile = state.done * 10 / total.max(1);
                if total < 10_000 || state.decile == u64::MAX || decile <= state.decile {
                    return;
                }
                state.decile = decile;
                format!("{}: {} of {} groups", self.name, thousands(state.done), thousands(total))
            }
        };
        drop(state);
        self.line(&line);
    }
}

/// While the number of groups is not known; the message is cut to the terminal's width.
fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn bar_style(name: &str) -> ProgressStyle {
    ProgressStyle::with_template("{line}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("line", Line { name: narrow(name), pace: Pace::default() })
}

/// The bar's line, with the pace since the bar was first drawn.
#[derive(Clone)]
struct Line {
    name: String,
    pace: Pace,
}

impl ProgressTracker for Line {
    fn clone_box(&self) -> Box<dyn ProgressTracker> {
        Box::new(self.clone())
    }

    fn tick(&mut self, state: &ProgressState, _: Instant) {
        self.pace.record(state.elapsed(), state.pos());
    }

    fn reset(&mut self, _: &ProgressState, _: Instant) {
        self.pace = Pace::default();
    }

    fn write(&self, state: &ProgressState, out: &mut dyn std::fmt::Write) {
        let columns = rustix::termios::tcgetwinsize(std::io::stderr()).map_or(0, |size| usize::from(size.ws_col));
        let total = state.len().unwrap_or(state.pos());
        // A terminal that does not say how wide it is has 80 columns.
        let columns = if columns == 0 { 80 } else { columns };
        // Writing to the bar's own buffer cannot fail.
        let _ = out.write_str(&line(columns, &self.name, state.pos(), total, self.pace.per_second()));
    }
}

/// The widest bar.
const BAR_MAX: usize = 32;
/// The narrowest that is worth its place.
const BAR_MIN: usize = 8;

/// One line of progress that is shorter than `columns`: the cursor stays on it, so that the next drawing replaces it and
/// nothing else. What there is no room for is left out: first the bar gets shorter, then the pace goes, then the bar, then the
/// end of the name, then everything but the counts.
fn line(columns: usize, name: &str, done: u64, total: u64, per_second: Option<f64>) -> String {
    let room = columns.saturating_sub(1);
    let counts = format!("{}/{} groups", thousands(done), thousands(total));
    let left = per_second.map(|pace| format!("  {} left", remaining(total.saturating_sub(done), pace)));
    let left = left.unwrap_or_default();
    let pace = per_second.map(|pace| format!("  {}/s", thousands(pace.round() as u64))).unwrap_or_default();
    let whole = name.chars().count() + 2 + counts.chars().count() + left.len();
    for pace in [pace.as_str(), ""] {
        // Two blanks between the bar and the counts.
        let bar = room.saturating_sub(whole + pace.len() + 2).min(BAR_MAX);
        if bar >= BAR_MIN {
            return format!("{name}  {}  {counts}{pace}{left}", bar_of(bar, done, total));
        }
    }
    let counts = format!("{counts}{left}");
    let room_for_name = room.saturating_sub(counts.chars().count() + 2);
    let text = match room_for_name {
        0..4 => counts,
        room_for_name => format!("{}  {counts}", cut(name, room_for_name)),
    };
    text.chars().take(room).collect()
}

/// A bar of so many characters.
fn bar_of(width: usize, done: u64, total: u64) -> String {
    let share = if total == 0 { 1.0 } else { (done as f64 / total as f64).min(1.0) };
    let full = (share * width as f64) as usize;
    format!("{}{}", "█".repeat(full), "░".repeat(width - full))
}

/// The beginning of a text, with a sign that there is more of it.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// How long the rest takes: `45 s`, `12 min`, `3 h 20 min`.
fn remaining(groups: u64, per_second: f64) -> String {
    let seconds = (groups as f64 / per_second).ceil() as u64;
    let minutes = seconds.div_ceil(60);
    match seconds {
        0..100 => format!("{seconds} s"),
        100..6_000 => format!("{minutes} min"),
        6_000..360_000 => format!("{} h {} min", minutes / 60, minutes % 60),
        _ => "days".to_owned(),
    }
}

/// A name in characters that each take one column: the others are counted differently by every terminal, and a line that is
/// longer than expected would leave a piece of itself behind.
fn narrow(name: &str) -> String {
    name.chars().map(|char| if (' '..'\u{300}').contains(&char) { char } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_fits_every_width() {
        let names =
            ["a", "accounts", "accounts_of_all_regions_with_their_contracts_and_health_scores", &"n".repeat(300)];
        let counts = [(0, 0), (0, 7), (5, 7), (7, 7), (123_456, 1_000_000), (9_999_999, 10_000_000), (3, 0)];
        for name in names {
            for (done, total) in counts {
                for pace in [None, Some(0.2), Some(1_234.5), Some(1e6)] {
                    for columns in 0..220 {
                        let line = line(columns, name, done, total, pace);
                        assert!(line.chars().count() <= columns.saturating_sub(1), "{columns}: {line}");
                        assert!(!line.contains('\n'));
                    }
                    let usual = line(80, name, done, total, pace);
                    assert!(usual.contains(&thousands(done)) && usual.contains(&thousands(total)), "{usual}");
                }
            }
        }
    }

    #[test]
    fn what_there_is_room_for_is_shown() {
        let at = |columns, name| line(columns, name, 250_000, 1_000_000, Some(19_876.4));
        assert_eq!(
            at(200, "accounts"),
            "accounts  ████████░░░░░░░░░░░░░░░░░░░░░░░░  250,000/1,000,000 groups  19,876/s  38 s left"
        );
        assert_eq!(
            at(80, "accounts"),
            "accounts  █████░░░░░░░░░░░░░░░░░  250,000/1,000,000 groups  19,876/s  38 s left"
        );
        assert_eq!(at(60, "accounts"), "accounts  ███░░░░░░░░░  250,000/1,000,000 groups  38 s left");
        assert_eq!(at(50, "accounts"), "accounts  250,000/1,000,000 groups  38 s left");
        assert_eq!(at(44, "accounts"), "accou…  250,000/1,000,000 groups  38 s left");
        assert_eq!(at(30, "accounts"), "250,000/1,000,000 groups  38 ");
        let unknown = line(80, "accounts", 0, 1_000_000, None);
        assert!(unknown.ends_with("0/1,000,000 groups"), "{unknown}");
    }

    #[test]
    fn the_time_left_is_in_a_unit_that_suits_it() {
        let cases =
            [(0, "0 s"), (99, "99 s"), (100, "2 min"), (3_600, "60 min"), (6_001, "1 h 41 min"), (400_000, "days")];
        for (seconds, text) in cases {
            assert_eq!(remaining(seconds, 1.0), text);
        }
        assert_eq!(remaining(10, 4.0), "3 s");
    }

    #[test]
    fn names_take_a_column_per_character() {
        assert_eq!(narrow("größe"), "größe");
        assert_eq!(narrow("客户\u{301}a\t"), "???a?");
    }
}
