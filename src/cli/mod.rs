//! The commands: what a person types becomes calls of the library, and what comes back becomes text or JSON.
//!
//! Nothing here decides what is sent; a command opens what it needs (`open`), calls `sync` or `ledger`, and shows the
//! result. Results go to standard output, progress and errors to standard error.

mod args;
mod bar;
mod check;
mod daemon;
mod dbt;
mod detach;
mod doctor;
mod drain;
mod exit;
mod fmt;
mod group;
mod group_requests;
mod init;
mod junit;
mod ledger;
mod ledger_import;
mod man;
mod new_files;
mod only_sync;
mod orphans;
mod output_schema;
mod plan;
mod progress;
mod prompt;
mod rejected;
mod remote;
mod run;
mod run_at;
mod runs;
mod sample;
mod schedule;
mod schema;
mod screen;
mod service;
#[cfg(feature = "otlp")]
mod spans;
mod status;
mod suggest;
mod table;
mod test;
mod text;
mod verify;
mod wizard;

use std::io::Write;

use clap::{CommandFactory, Parser};
use serde_json::{Value, json};

use self::args::{Cli, Color, Command, DaemonCommand, RunsCommand};
use crate::config::{Diagnostics, Project};
use crate::error::{Error, Kind};
use crate::io::process;
use crate::io::{Clock, SystemClock};
use crate::ledger::Ledger;
use crate::mapping::MappingFile;
use crate::service::open::selection::Selection;
use crate::service::open::{self, Failure};
use crate::service::views::words::json_line;
use crate::source::adbc;
use crate::sync::report::error_json;

/// Parses the command line, runs the command, and returns the exit code.
pub fn main() -> u8 {
    // Not a command: how this program starts itself to load a driver.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == adbc::READER_ARGUMENT) {
        return adbc::run_reader();
    }
    let cli = Cli::try_parse().unwrap_or_else(|error| suggest::improve(error).exit());
    match cli.color {
        Color::Auto => {}
        Color::Always => anstream::ColorChoice::Always.write_global(),
        Color::Never => anstream::ColorChoice::Never.write_global(),
    }
    let clock = SystemClock::start();
    if clock.now() <= chrono::DateTime::UNIX_EPOCH {
        // Certificates cannot be checked then, nor times compared.
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
    #[cfg(feature = "otlp")]
    let _exported = spans::start(&cli.command);
    let code = runtime.block_on(command(&cli)).unwrap_or_else(|failure| show_failure(&cli, &failure));
    runtime.shutdown_timeout(process::STATEMENTS_MAX);
    code
}

async fn command(cli: &Cli) -> Result<u8, Failure> {
    match &cli.command {
        Command::Init(options) => init::init(cli, options).await,
        Command::Check { connect } => check::check(cli, *connect).await,
        Command::Test(options) => test::test(cli, options).await,
        Command::Fmt(options) => fmt::fmt(cli, options),
        Command::Schema(options) => schema::schema(cli, options),
        Command::Doctor => doctor::doctor(cli).await,
        Command::Plan(options) => plan::plan(cli, options).await,
        Command::Run(options) => match &options.url {
            Some(url) => run_at::run_at(cli, options, url).await,
            None => run::run(cli, options).await,
        },
        Command::Status { which } => status::status(cli, which).await,
        Command::Runs { command: Some(RunsCommand::Show { run }), .. } => runs::show_run(cli, run).await,
        Command::Runs { sync, number, command: None } => runs::runs(cli, sync.as_deref(), *number).await,
        Command::Daemon { command: Some(DaemonCommand::Drain { name }), .. } => {
            drain::drain(cli, name.as_deref()).await
        }
        Command::Daemon { listen, name, .. } => daemon::daemon(cli, listen.as_deref(), name.as_deref()).await,
        Command::Schedule { which, next } => schedule::schedule(cli, which, usize::from(*next)).await,
        Command::Group { sync, key, number, remote, requests } => {
            group::group(cli, sync.as_deref(), key, *number, group::Beside { remote: *remote, requests: *requests })
                .await
        }
        Command::Verify { sync, repair, show } => verify::verify(cli, sync.as_deref(), *repair, show.0).await,
        Command::Rejected { sync, number } => rejected::rejected(cli, sync.as_deref(), *number).await,
        Command::Ledger(command) => ledger::ledger(cli, command).await,
        Command::Dbt(command) => dbt::dbt(cli, command),
        Command::Completions { shell } => {
            // In memory first: the generator panics when the pipe it writes to is closed early.
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "groupcast", &mut script);
            drop(std::io::stdout().lock().write_all(&script));
            Ok(0)
        }
        Command::Man { folder } => man::man(cli, folder),
    }
}

/// Reads the project of the config folder; the target is named on standard error.
fn read_project(cli: &Cli) -> Result<Project, Failure> {
    if let Some(target) = cli.target.as_ref().filter(|_| !cli.json) {
        let what = format!("target: {target} ({})", cli.location().settings_file());
        drop(writeln!(screen::stderr(), "{}", screen::paint(screen::DIM, what)));
    }
    open::project(cli.location())
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

/// Prints to standard error which mappings have mistakes; in JSON it is part of the output ([`broken_json`]).
fn show_broken(cli: &Cli, project: &Project) {
    for broken in project.broken.iter().filter(|_| !cli.json) {
        let what = format!("{} has mistakes: sync `{}` cannot run", broken.file, broken.name);
        screen::print_warning(&what, "`groupcast check` shows them; other syncs are not affected");
    }
}

/// Prints a warning to standard error where nothing is selected; mappings with mistakes are reported as such.
fn warn_of_none(chosen: &[&MappingFile], project: &Project, selection: &Selection) {
    if chosen.is_empty()
        && selection.broken(project).is_empty()
        && let Some((what, advice)) = selection.why_none(project)
    {
        screen::print_warning(what, advice);
    }
}

/// The mappings that have mistakes.
fn broken_json(project: &Project) -> Value {
    project.broken.iter().map(|broken| json!({"sync": broken.name, "file": broken.file})).collect()
}

/// Prints a warning to standard error if the ledger is not the newest there was.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
