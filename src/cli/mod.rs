//! The commands: what a person types becomes calls of the library, and what comes back becomes text or JSON.
//!
//! Nothing here decides what is sent; a command opens what it needs (`open`), calls `sync` or `ledger`, and shows the
//! result. Results go to standard output, progress and errors to standard error.

mod args;
mod client;
mod daemon;
mod groups;
mod init;
mod plan;
mod remote;
mod run;
mod sample;
mod schedule;
mod screen;
mod told;

use std::io::Write;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use serde_json::{Value, json};

use self::args::{Cli, Color, Command, RunsCommand};
use crate::config::{Diagnostics, Project};
use crate::error::{Error, Kind};
use crate::io::http::Transport;
use crate::io::http::{CallLimits, HttpClient};
use crate::io::process;
use crate::io::{Clock, SystemClock};
use crate::ledger::Ledger;
use crate::mapping::MappingFile;
use crate::mapping::diagnostic::{Diagnostic, Severity};
use crate::service::open::{self, Failure};
use crate::service::views::words::json_line;
use crate::sync::report::error_json;

/// Parses the command line, runs the command, and returns the exit code.
pub fn main() -> u8 {
    let cli = Cli::parse();
    match cli.color {
        Color::Auto => {}
        Color::Always => anstream::ColorChoice::Always.write_global(),
        Color::Never => anstream::ColorChoice::Never.write_global(),
    }
    let clock = SystemClock::start();
    if clock.now() <= chrono::DateTime::UNIX_EPOCH {
        // Certificates cannot be checked then, nor times told apart.
        screen::print_error(
            &Error::new(Kind::Config, "this machine's clock shows a time before 1970")
                .advise("set the clock, and run again; nothing was read or sent"),
        );
        return Kind::Config.exit_code();
    }
    process::dump_no_core();
    if !matches!(cli.command, Command::Init(_)) {
        process::keep_files_private();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            drop(writeln!(std::io::stderr(), "error: failed to start: {error}"));
            return 1;
        }
    };
    {
        let _within = runtime.enter();
        process::survive_file_size_limit();
    }
    let code = runtime.block_on(command(&cli)).unwrap_or_else(|failure| show_failure(&cli, &failure));
    runtime.shutdown_timeout(process::STATEMENTS_MAX);
    code
}

async fn command(cli: &Cli) -> Result<u8, Failure> {
    match &cli.command {
        Command::Init(asked) => init::init(cli, asked).await,
        Command::Check { connect } => check(cli, *connect).await,
        Command::Plan { select, show, requests } => plan::plan(cli, select, show.0, *requests).await,
        Command::Run { select, limit } => run::run(cli, select, *limit).await,
        Command::Status { syncs } => groups::status(cli, syncs).await,
        Command::Runs { command: Some(RunsCommand::Show { run }), .. } => groups::show_run(cli, run).await,
        Command::Runs { sync, number, command: None } => groups::runs(cli, sync.as_deref(), *number).await,
        Command::Daemon { listen } => daemon::daemon(cli, listen.as_deref()).await,
        Command::Schedule { syncs, next } => schedule::schedule(cli, syncs, usize::from(*next)).await,
        Command::Group { sync, key, number, remote } => groups::group(cli, sync, key, *number, *remote).await,
        Command::Verify { sync, repair, show } => remote::verify(cli, sync, *repair, show.0).await,
        Command::Rejected { sync, number } => groups::rejected(cli, sync.as_deref(), *number).await,
        Command::Ledger(asked) => groups::ledger(cli, asked).await,
        Command::Completions { shell } => {
            // In memory first: the generator panics when the pipe it writes to is closed early.
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "groupcast", &mut script);
            drop(std::io::stdout().lock().write_all(&script));
            Ok(0)
        }
    }
}

fn show_failure(cli: &Cli, failure: &Failure) -> u8 {
    match failure {
        Failure::Error(error) if cli.json => {
            print_json(&json!({"error": error_json(error)}));
            error.kind().exit_code()
        }
        Failure::Error(error) => {
            screen::print_error(error);
            error.kind().exit_code()
        }
        Failure::Problems(problems) => {
            show_problems(cli, problems);
            2
        }
    }
}

/// Prints problems: to standard output as JSON, to standard error as text.
fn show_problems(cli: &Cli, problems: &Diagnostics) {
    if cli.json {
        print_json(&json!({ "problems": problems.shown() }));
    } else {
        // Colour is stripped where there is no terminal; a closed standard error cannot be reported anywhere.
        drop(write!(screen::stderr(), "{}", problems.render(true)));
    }
}

/// Prints a loaded project's warnings to standard error, and which mappings have mistakes.
fn show_warnings(cli: &Cli, project: &Project) {
    let warnings = project.problems.warnings();
    if !cli.json && !warnings.is_empty() {
        drop(write!(screen::stderr(), "{}", warnings.render(true)));
    }
    show_broken(cli, project);
}

/// Says on standard error which mappings have mistakes; in JSON it is part of the answer ([`broken_json`]).
fn show_broken(cli: &Cli, project: &Project) {
    for broken in project.broken.iter().filter(|_| !cli.json) {
        let what = format!("{} has mistakes, so that `{}` cannot run", broken.file, broken.name);
        screen::print_warning(&what, "`groupcast check` shows them; the other syncs are not affected");
    }
}

/// The mappings that have mistakes.
fn broken_json(project: &Project) -> Value {
    project.broken.iter().map(|broken| json!({"sync": broken.name, "file": broken.file})).collect()
}

/// Tells on standard error that a ledger is not the newest there was, if so.
fn warn_of_older(ledger: &dyn Ledger) {
    if let Some(why) = ledger.storage().outdated() {
        screen::print_warning(why, crate::ledger::OUTDATED_ADVICE);
    }
}

/// Prints one JSON value on a line of its own.
fn print_json(value: &Value) {
    // A closed pipe ends the output, not the command: a run must finish its bookkeeping.
    drop(writeln!(std::io::stdout().lock(), "{}", json_line(value.to_string())));
}

async fn check(cli: &Cli, connect: bool) -> Result<u8, Failure> {
    let project = open::project(&cli.folder)?;
    let mut problems = project.problems.clone();
    if connect {
        let mut found = Vec::new();
        let http_client = HttpClient::new()?;
        for file in &project.mappings {
            match unavailable(&project, file, &http_client).await? {
                Some(silent) => found.push(silent),
                None => found.extend(remote::remarks(&project, file, &http_client).await?),
            }
            match open::source_of(&project, file).await {
                Ok(mut source) => match open::connected_check(file, source.as_mut()).await {
                    Ok(problems) => {
                        let sound = problems.iter().all(|problem| problem.severity != Severity::Error);
                        found.extend(problems);
                        match open::sample::of_source(file, source.as_mut(), sound).await {
                            Ok(remarks) => found.extend(remarks),
                            Err(error) => found.push(unreachable(file, &error)),
                        }
                        if sound {
                            match open::sample::remarks(file, source.as_mut()).await {
                                Ok(remarks) => found.extend(remarks),
                                Err(error) => found.push(unreachable(file, &error)),
                            }
                        }
                    }
                    Err(error) => found.push(unreachable(file, &error)),
                },
                Err(error) => found.push(unreachable(file, &error)),
            }
        }
        problems.append(Diagnostics::about(&project.mappings, found));
    }
    let code = if problems.has_errors() { 2 } else { 0 };
    if cli.json {
        print_json(&json!({ "problems": problems.shown() }));
        return Ok(code);
    }
    show_problems(cli, &problems);
    if code == 0 {
        let asked = if connect {
            ", the destinations answer, and the sources agree"
        } else {
            "; `--connect` asks sources and destinations as well"
        };
        writeln!(
            screen::stdout(),
            "{} {} fine{asked}",
            screen::paint(screen::ADD, "ok:"),
            screen::plural(project.mappings.len() as u64, "mapping")
                + if project.mappings.len() == 1 { " is" } else { " are" },
        )?;
    }
    Ok(code)
}

/// Longest a destination may take to respond to a check. That it responds at all is enough.
const PROBE_LIMITS: CallLimits = CallLimits { timeout: Duration::from_secs(15), body_bytes_max: 0 };

/// A destination that cannot be reached, as a problem at the line that names it.
async fn unavailable(
    project: &Project,
    file: &MappingFile,
    http_client: &HttpClient,
) -> Result<Option<Diagnostic>, Error> {
    let settings = open::destination_of(project, file)?;
    let Some(request) = open::destination(settings, &file.mapping.group_type)?.probe() else { return Ok(None) };
    let Err(no_response) = http_client.send(&request, PROBE_LIMITS).await else { return Ok(None) };
    let what = format!("destination `{}` ({}) is unavailable: {}", settings.name, settings.kind, no_response.what);
    let address: Vec<String> =
        open::destination_type(settings)?.address_settings().iter().map(|name| format!("`{name}`")).collect();
    let problem = Diagnostic::error(&file.mapping.file, &file.at("destination"), what);
    Ok(Some(problem.help(format!(
        "check {} of the destination, and this machine's network and proxy settings",
        address.join(" and ")
    ))))
}

/// A source that could not be asked, as a problem at the line that names it.
fn unreachable(file: &MappingFile, error: &Error) -> Diagnostic {
    let at = file.at("source");
    Diagnostic::error(&file.mapping.file, &at, error.to_string()).maybe_help(error.advice().map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
