//! `groupcast doctor`: everything that a person who helps would want to know, each with its state and the next step.

mod config;
mod ends;
mod ledger;
mod machine;

use std::io::Write;

use serde::Serialize;
use serde_json::json;

use super::args::Cli;
use super::print_json;
use super::screen::{self, ADD, BOLD, CHANGE, DIM, REMOVE, paint, plural};
use super::table::{TEXT_MIN, wrapped};
use crate::error::Error;
use crate::service::open::Failure;

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Health {
    Ok,
    Warning,
    Error,
}

/// One thing that was examined. It never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Examined {
    /// What it is: `ledger`, `source warehouse`.
    subject: String,
    state: Health,
    /// What was found.
    what: String,
    /// The next step.
    help: Option<String>,
}

impl Examined {
    fn new(subject: &str, state: Health, what: impl Into<String>) -> Examined {
        Examined { subject: subject.to_owned(), state, what: what.into(), help: None }
    }

    fn ok(subject: &str, what: impl Into<String>) -> Examined {
        Examined::new(subject, Health::Ok, what)
    }

    fn warning(subject: &str, what: impl Into<String>, help: impl Into<String>) -> Examined {
        Examined { help: Some(help.into()), ..Examined::new(subject, Health::Warning, what) }
    }

    fn error(subject: &str, error: &Error) -> Examined {
        let help = error.advice().map(str::to_owned);
        Examined { help, ..Examined::new(subject, Health::Error, error.to_string()) }
    }
}

pub(super) async fn doctor(cli: &Cli) -> Result<u8, Failure> {
    let mut findings = Findings::new(cli.json);
    findings.add(machine::examine())?;
    findings.add(machine::engine().await)?;
    let (found, project) = config::examine(cli);
    findings.add(found)?;
    if let Some(project) = &project {
        findings.add(ledger::examine(project).await)?;
        for settings in project.settings.sources.values() {
            findings.add(vec![ends::source(project, settings).await])?;
        }
        for settings in project.settings.destinations.values() {
            findings.add(ends::destination(project, settings).await)?;
        }
    }
    let count = |state: Health| findings.all.iter().filter(|found| found.state == state).count() as u64;
    let (errors, warnings) = (count(Health::Error), count(Health::Warning));
    if cli.json {
        print_json(&json!({"findings": findings.all, "errors": errors, "warnings": warnings}));
    } else {
        let counts = format!("{}, {}", plural(errors, "error"), plural(warnings, "warning"));
        writeln!(screen::stdout(), "\n{}", paint(BOLD, counts))?;
    }
    Ok(u8::from(errors > 0))
}

/// What was found so far. Each thing is shown at once: a destination that does not respond takes a while.
struct Findings {
    json: bool,
    all: Vec<Examined>,
}

/// Columns of the states, of the subjects, and before the texts.
const WORD_WIDTH: usize = 7;
const SUBJECT_WIDTH: usize = 20;
const TEXT_AT: usize = WORD_WIDTH + 2 + SUBJECT_WIDTH + 2;
/// What is before the next step.
const HELP: &str = "help:";

/// Writes a text that begins behind so many columns. On a terminal its further lines begin there, too.
fn write_text(out: &mut impl Write, text: &str, column: usize) -> std::io::Result<()> {
    let Some(room) = screen::width().and_then(|width| width.checked_sub(column)).filter(|room| *room >= TEXT_MIN)
    else {
        return writeln!(out, "{text}");
    };
    let lines = wrapped(text, room);
    let mut lines = lines.lines();
    writeln!(out, "{}", lines.next().unwrap_or_default())?;
    lines.try_for_each(|line| writeln!(out, "{:column$}{line}", ""))
}

impl Findings {
    fn new(json: bool) -> Findings {
        Findings { json, all: Vec::new() }
    }

    fn add(&mut self, found: Vec<Examined>) -> std::io::Result<()> {
        let mut out = screen::stdout();
        for found in found.iter().filter(|_| !self.json) {
            let (style, word) = match found.state {
                Health::Ok => (ADD, "ok"),
                Health::Warning => (CHANGE, "warning"),
                Health::Error => (REMOVE, "error"),
            };
            let word = paint(style, format!("{word:WORD_WIDTH$}"));
            // A long name pushes its own line only.
            write!(out, "{word}  {:SUBJECT_WIDTH$}  ", found.subject)?;
            write_text(&mut out, &found.what, TEXT_AT)?;
            if let Some(help) = &found.help {
                write!(out, "{:TEXT_AT$}{} ", "", paint(DIM, HELP))?;
                write_text(&mut out, help, TEXT_AT + HELP.len() + 1)?;
            }
        }
        self.all.extend(found);
        Ok(())
    }
}
