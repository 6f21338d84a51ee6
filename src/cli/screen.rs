//! What a person sees: colours, tables, errors. Plain when piped.

use std::io::{IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use chrono::{DateTime, Utc};

use super::bar;
use crate::error::Error;
use crate::ledger::RunStatus;
use crate::service::views::words::for_terminal;
pub(super) use crate::service::views::words::{plural, thousands};

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
    // Not locked meanwhile: see `bar::beside`.
    Shown(anstream::stderr())
}

/// Writes what may go to a terminal, beside a progress bar that is there.
pub(super) struct Shown<W>(W);

impl<W: Write> Write for Shown<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        bar::beside(|| unless_closed(self.0.write_all(for_terminal(&text).as_bytes())))?;
        Ok(bytes.len())
    }

    /// As one text: a colour may come in pieces.
    fn write_fmt(&mut self, text: std::fmt::Arguments<'_>) -> std::io::Result<()> {
        let text = text.to_string();
        bar::beside(|| unless_closed(self.0.write_all(for_terminal(&text).as_bytes())))
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

/// The columns of the terminal that standard output is; none where it is a pipe or a file, or the terminal's width is not known.
pub(super) fn width() -> Option<usize> {
    if !std::io::stdout().is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(0, |size| usize::from(size.ws_col));
    let variable = || std::env::var("COLUMNS").ok()?.parse().ok();
    Some(size).filter(|columns| *columns > 0).or_else(variable)
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
    let text = format!("{} {what}\n  {} {advice}", paint(CHANGE.bold(), "warning:"), paint(BOLD, "help:"));
    // A closed standard error cannot be reported anywhere.
    bar::beside(|| drop(writeln!(anstream::stderr(), "{text}")));
}
