//! What a person sees: colours, tables, progress, errors. Plain when piped.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use chrono::{DateTime, Utc};
use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use parking_lot::{Mutex, MutexGuard};

use crate::error::Error;
use crate::ledger::RunStatus;
use crate::service::api::{EnqueuedRun, RunMonitor};
use crate::service::views;
use crate::service::views::words::for_terminal;
pub(super) use crate::service::views::words::{plural, thousands};
use crate::sync::{Event, Monitor};

/// Green: new, fine.
pub(super) const ADD: Style = AnsiColor::Green.on_default();
/// Yellow: changed, worth a look.
pub(super) const CHANGE: Style = AnsiColor::Yellow.on_default();
/// Red: removed, wrong.
pub(super) const REMOVE: Style = AnsiColor::Red.on_default();
/// Names.
pub(super) const BOLD: Style = Style::new().bold();
/// Side remarks.
pub(super) const DIM: Style = Style::new().dimmed();

/// `text` in a style; `anstream` strips it where there is no terminal.
pub(super) fn paint(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Standard output for people: colours where there is a terminal, and nothing that would act on it or hide on it.
pub(super) fn stdout() -> Shown<impl Write> {
    Shown(anstream::stdout().lock())
}

/// Standard error likewise.
pub(super) fn stderr() -> Shown<impl Write> {
    Shown(anstream::stderr().lock())
}

/// Writes what may go to a terminal.
pub(super) struct Shown<W>(W);

impl<W: Write> Write for Shown<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        unless_closed(self.0.write_all(for_terminal(&String::from_utf8_lossy(bytes)).as_bytes()))?;
        Ok(bytes.len())
    }

    /// As one text: a colour may come in pieces.
    fn write_fmt(&mut self, text: std::fmt::Arguments<'_>) -> std::io::Result<()> {
        unless_closed(self.0.write_all(for_terminal(&text.to_string()).as_bytes()))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        unless_closed(self.0.flush())
    }
}

/// A reader that has enough (`groupcast plan | head`) is no failure, and the command goes on to its end.
pub(super) fn unless_closed(written: std::io::Result<()>) -> std::io::Result<()> {
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

pub(super) fn when(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// Cells of a table stay without colour: the table measures them as they are.
pub(super) fn status_text(status: RunStatus) -> String {
    status.name().replace('_', " ")
}

/// A table without frames, for lists that are also piped into other programs.
pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().map(|name| name.to_uppercase()));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// The error as a person reads it: what, then the next step.
pub(super) fn print_error(error: &Error) {
    let mut out = stderr();
    // A closed standard error cannot be reported anywhere.
    drop(writeln!(out, "{} {error}", paint(REMOVE.bold(), "error:")));
    if let Some(advice) = error.advice() {
        drop(writeln!(out, "  {} {advice}", paint(BOLD, "help:")));
    }
}

/// Something to know that stops nothing, with the next step.
pub(super) fn print_warning(what: &str, advice: &str) {
    let mut out = anstream::stderr().lock();
    // A closed standard error cannot be reported anywhere.
    drop(writeln!(out, "{} {what}\n  {} {advice}", paint(CHANGE.bold(), "warning:"), paint(BOLD, "help:")));
}

/// Shows a run's progress: a bar on a terminal, a plain line every few seconds otherwise.
pub(super) struct Progress {
    name: String,
    source: Option<String>,
    state: Mutex<State>,
}

struct State {
    bar: Option<ProgressBar>,
    done: u64,
    decile: u64,
}

impl Progress {
    /// Progress of one sync. `quiet` shows nothing.
    pub(super) fn new(name: &str, quiet: bool) -> Progress {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            bar.set_style(spinner());
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        let decile = if quiet { u64::MAX } else { 0 };
        Progress { name: name.to_owned(), source: None, state: Mutex::new(State { bar, done: 0, decile }) }
    }

    /// The same for runs of the process `source`, if it is another one.
    pub(super) fn of(self, source: Option<&str>) -> Progress {
        Progress { source: source.map(str::to_owned), ..self }
    }

    /// Prints a line, above the bar if there is one.
    fn line(&self, line: &str) {
        let state = self.state();
        match &state.bar {
            Some(bar) => bar.println(line),
            None if state.decile == u64::MAX => {}
            // A closed standard error cannot be reported anywhere.
            None => drop(writeln!(stderr(), "{line}")),
        }
    }

    /// Takes the bar off the screen.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.state().bar {
            bar.finish_and_clear();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{prefix}  {spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix}  {bar:32} {human_pos}/{human_len} groups  {rate}  {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("rate", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            // Writing to the bar's own buffer cannot fail.
            let _ = write!(out, "{}/s", thousands(state.per_sec() as u64));
        })
}

impl RunMonitor for Progress {
    fn submitted(&self, run: &EnqueuedRun) {
        let source = self.source.as_deref().unwrap_or_default();
        let joined = if run.joined { ", which was queued already" } else { "" };
        self.line(&format!("{}: submitted to {source} (run {}{joined})", self.name, run.run));
    }

    fn queued(&self) {
        self.line(&format!("{}: queued behind other runs", self.name));
    }

    fn progress(&self, at: &views::RunProgress) {
        let Some(total) = at.candidates else { return self.note(Event::Reading(at.rows_read)) };
        let done = {
            let state = self.state();
            if let Some(bar) = state.bar.as_ref().filter(|bar| bar.length() != Some(total)) {
                bar.set_length(total);
                bar.set_style(bar_style());
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
        let mut state = self.state();
        let line = match event {
            Event::Began { .. } => return,
            Event::Recovered(runs) => {
                let runs = runs.join(", ");
                let line = format!("{}: recovered crashed run {runs}; unconfirmed groups will be resent", self.name);
                if let Some(bar) = &state.bar {
                    bar.println(line);
                    return;
                }
                line
            }
            Event::Unreadable { key, what } => {
                let key = super::text::shown_key(key);
                let line = format!("{}: group `{key}`: {what}; the group is resent in full", self.name);
                match &state.bar {
                    Some(bar) => bar.println(line),
                    // Also beside JSON and a plan: it names what is damaged.
                    None => drop(writeln!(anstream::stderr().lock(), "{line}")),
                }
                return;
            }
            Event::Reading(rows) => {
                if let Some(bar) = &state.bar {
                    bar.set_message(format!("reading, {} so far", plural(rows, "row")));
                }
                return;
            }
            Event::Compared(found) => {
                let line = format!(
                    "{}: {} read: {} to compare, {} unchanged",
                    self.name,
                    plural(found.rows, "row"),
                    thousands(found.candidates()),
                    thousands(found.unchanged)
                );
                if let Some(bar) = &state.bar {
                    bar.set_length(found.candidates());
                    bar.set_style(bar_style());
                    return;
                }
                line
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
        if state.decile != u64::MAX {
            drop(writeln!(stderr(), "{line}"));
        }
    }
}
