//! `groupcast run --url`: runs at a daemon on another machine, for schedulers: it waits, fails when the run fails, and prints
//! where the run is shown. No config folder is needed.

use std::io::Write;
use std::path::Path;

use tokio::sync::watch;

use super::args::{Cli, RunArgs};
use super::detach::detach;
use super::exit::with_sync;
use super::progress::{Display, Progress};
use super::run::{FinishedRuns, chosen_of_plan, listen};
use super::screen::{self, DIM, paint};
use super::text;
use crate::delivery::Signal;
use crate::error::{Error, Kind, Result};
use crate::io::files;
use crate::service::follow;
use crate::service::open::Failure;
use crate::service::open::selection::Selection;
use crate::service::url::DaemonUrl;
use crate::sync::RunOptions;
use crate::sync::plan_file::{self, SealedPlan};

/// Where the token is, unless `--token-file` names a file.
const TOKEN_VARIABLE: &str = "GROUPCAST_TOKEN";
/// Bytes of a token's file.
const TOKEN_BYTES_MAX: u64 = 64 * 1024;

pub(super) async fn run_at(cli: &Cli, args: &RunArgs, url: &str) -> Result<u8, Failure> {
    // Before anything travels: a file that cannot be used is the likelier mistake.
    let plan = args.plan.as_deref().map(plan_file::sealed).transpose()?;
    let daemon = DaemonUrl::new(url, token(args.token_file.as_deref())?)?;
    if daemon.exposes_token() {
        screen::print_warning("the token travels unencrypted", "use `https://`, or a network that only you can read");
    }
    let selection = args.select.which.read()?;
    let syncs = selection.of_views(&daemon.syncs().await?)?;
    let runs = match plan {
        Some(plan) => {
            let options = args.select.options("run", &[], args.limit)?;
            planned_runs(&daemon, &plan, (&selection, &syncs), &options).await?
        }
        None => {
            if syncs.is_empty() {
                let advice = "`--select` and `--exclude` leave none; one that is not enabled runs only by its name";
                screen::print_warning("the daemon has no such enabled sync: nothing to do", advice);
            }
            let names: Vec<&str> = syncs.iter().map(String::as_str).collect();
            let options = args.select.options("run", &names, args.limit)?;
            syncs.into_iter().map(|sync| (sync, options.clone())).collect()
        }
    };
    if args.detach {
        return detach(cli, &daemon, runs, |run| Some(daemon.run_page(run))).await;
    }
    let signal = listen()?;
    let mut finished = FinishedRuns::new(cli);
    for (sync, options) in &runs {
        if *signal.borrow() >= Signal::Stop {
            finished.interrupted();
            break;
        }
        let (result, run) = followed(cli, &daemon, (sync, options), url, signal.clone()).await;
        let taken = finished.take(sync, run.as_deref(), result);
        // Last, where orchestrators take a command's last line for its result.
        if let (Some(run), false) = (run, cli.json) {
            text::written(writeln!(screen::stdout(), "{}", paint(DIM, daemon.run_page(&run))))?;
        }
        taken?;
    }
    Ok(finished.code())
}

/// The runs of a plan, which the daemon keeps from now on: of all its syncs, or of the selected ones.
async fn planned_runs(
    daemon: &DaemonUrl,
    plan: &SealedPlan,
    (selection, syncs): (&Selection, &[String]),
    options: &RunOptions,
) -> Result<Vec<(String, RunOptions)>, Failure> {
    let planned = plan.syncs.iter().map(|sync| &sync.planned);
    // One that is gone since is an error of its run, not left out.
    let selected: Vec<&str> = match selection.is_everything() {
        true => planned.clone().map(|of| of.sync.as_str()).collect(),
        false => syncs.iter().map(String::as_str).collect(),
    };
    let chosen = chosen_of_plan(planned, selection, &selected)?;
    let file = daemon.accept_plan(plan).await?;
    Ok(chosen.into_iter().map(|of| (of.sync.clone(), of.run_options(options, &file))).collect())
}

/// Runs a sync to its end; also the run's id, where it got one.
async fn followed(
    cli: &Cli,
    daemon: &DaemonUrl,
    (sync, options): (&str, &RunOptions),
    url: &str,
    signal: watch::Receiver<Signal>,
) -> (Result<crate::sync::report::Report, Failure>, Option<String>) {
    let display = if cli.json { Display::Quiet } else { Display::Bar };
    let progress = Progress::new(sync, display).of(Some(url));
    let result = follow::execute(daemon, sync, options, &progress, signal).await;
    progress.finish();
    (result.map_err(|error| with_sync(error.into(), sync)), progress.run())
}

/// The token of the API: from a file, or from the environment.
fn token(file: Option<&Path>) -> Result<Option<String>> {
    let token = match file {
        Some(path) => {
            let failed = |error: std::io::Error| {
                Error::new(Kind::Config, "failed to read the token").because(error).at(path.display().to_string())
            };
            let bytes = files::read(path, TOKEN_BYTES_MAX).map_err(failed)?;
            String::from_utf8_lossy(&bytes).into_owned()
        }
        None => std::env::var(TOKEN_VARIABLE).unwrap_or_default(),
    };
    let token = token.trim();
    if token.chars().any(|char| !char.is_ascii_graphic()) {
        return Err(Error::new(Kind::Config, "the token has characters that no token has")
            .advise(format!("look at `{TOKEN_VARIABLE}` or the file: it must have the token alone, on one line")));
    }
    Ok(Some(token.to_owned()).filter(|token| !token.is_empty()))
}
