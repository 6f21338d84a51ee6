//! `groupcast run`: sync after sync, with a line for each and the worst exit code.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::args::{Cli, RunArgs};
use super::detach::detach;
use super::exit::{with_sync, worse};
use super::orphans::warn_of_renamed;
use super::print_json;
use super::progress::{Display, Progress};
use super::screen::{self, ADD, CHANGE, DIM, REMOVE, paint, plural, thousands};
use super::service::{self, Access};
use crate::config::{Project, TargetName};
use crate::delivery::Signal;
use crate::destination::registry;
use crate::error::{Error, Kind};
use crate::ledger::RunStatus;
use crate::mapping::MappingFile;
use crate::mapping::diagnostic::listed_all;
use crate::service::open::selection::Selection;
use crate::service::open::{self, Failure};
use crate::sync::RunOptions;
use crate::sync::plan_file::{self, PlannedSync};
use crate::sync::report::{Report, error_json};

pub(super) async fn run(cli: &Cli, args: &RunArgs) -> Result<u8, Failure> {
    let RunArgs { select, limit, plan, .. } = args;
    let (limit, plan) = (*limit, plan.as_deref());
    let project = Arc::new(super::read_project(cli)?);
    super::show_warnings(cli, &project);
    let selection = select.which.read()?;
    let runs = match plan {
        Some(plan) => planned_runs(&project, &selection, &select.options("run", &[], limit)?, plan)?,
        None => {
            let files = selection.chosen(&project)?;
            super::warn_of_none(&files, &project, &selection);
            let options = select.options("run", &selection.names_of(&files, &project), limit)?;
            files.into_iter().map(|file| (file, options.clone())).collect()
        }
    };
    let access = if args.detach { Access::Read } else { Access::Write("groupcast run") };
    let opened = service::open(cli, &project, access).await?;
    let names: Vec<&str> = runs.iter().map(|(file, _)| file.mapping.name.as_str()).collect();
    warn_of_renamed(opened.service.as_ref(), &names, cli.json).await?;
    if args.detach {
        let runs = runs.into_iter().map(|(file, options)| (file.mapping.name.clone(), options)).collect();
        return detach(cli, opened.service.as_ref(), runs, |_| None).await;
    }
    let signal = listen()?;
    let mut finished = FinishedRuns::new(cli);
    for (file, options) in runs {
        if *signal.borrow() >= Signal::Stop {
            finished.interrupted();
            break;
        }
        let sync = &file.mapping.name;
        let display = match cli.json {
            true => Display::Quiet,
            false if prints_changes(&project, &file.mapping.destination) => Display::Lines,
            false => Display::Bar,
        };
        let progress = Progress::new(sync, display).of(opened.source.as_deref());
        let run = opened.service.execute(sync, &options, &progress, signal.clone()).await;
        progress.finish();
        finished.take(sync, progress.run().as_deref(), run.map_err(|error| with_sync(error.into(), sync)))?;
    }
    if plan.is_none() {
        finished.broken(&project, &selection)?;
    }
    Ok(finished.code())
}

/// The runs of a plan: of all its syncs, or of the selected ones, each with the options it was planned with.
fn planned_runs<'a>(
    project: &'a Project,
    selection: &Selection,
    options: &RunOptions,
    plan: &Path,
) -> Result<Vec<(&'a MappingFile, RunOptions)>, Failure> {
    let (file, planned) = plan_file::contents(plan, project.settings.target.as_ref().map(TargetName::as_str))?;
    selection.chosen(project)?;
    let mut selected: Vec<&str> =
        selection.files(project)?.into_iter().map(|file| file.mapping.name.as_str()).collect();
    // A sync that is gone or broken since is an error, not left out.
    let is_sound = |name: &str| project.mappings.iter().any(|file| file.mapping.name == name);
    selected.extend(planned.iter().map(|of| of.sync.as_str()).filter(|name| !is_sound(name)));
    let chosen =
        chosen_of_plan(planned.iter(), selection, &selected).map_err(|error| error.at(plan.display().to_string()))?;
    chosen.into_iter().map(|of| Ok((open::named(project, &of.sync)?, of.run_options(options, &file)))).collect()
}

/// The syncs of a plan that are selected.
///
/// Errors ([`Kind::Config`]): none of them is, or one that the plan does not have is selected by its name.
pub(super) fn chosen_of_plan<'a>(
    planned: impl Iterator<Item = &'a PlannedSync> + Clone,
    selection: &Selection,
    selected: &[&str],
) -> Result<Vec<&'a PlannedSync>, Error> {
    let is_planned = |name: &str| planned.clone().any(|of| of.sync == name);
    if let Some(absent) = selected.iter().find(|name| selection.names(name) && !is_planned(name)) {
        let has = listed_all(planned.map(|planned| planned.sync.as_str()));
        let error = Error::new(Kind::Config, format!("the plan has no sync `{absent}`"));
        return Err(error.advise(format!("it has {has}")));
    }
    let chosen: Vec<&PlannedSync> = planned.filter(|of| selected.contains(&of.sync.as_str())).collect();
    if chosen.is_empty() {
        return Err(Error::new(Kind::Config, "the selected syncs are not in the plan")
            .advise("leave out `--select` and `--exclude` to run all of it"));
    }
    Ok(chosen)
}

/// The runs of a command as they end: shown one by one, or as one JSON value at the end.
pub(super) struct FinishedRuns<'a> {
    cli: &'a Cli,
    code: u8,
    json: Vec<Value>,
}

impl FinishedRuns<'_> {
    pub(super) fn new(cli: &Cli) -> FinishedRuns<'_> {
        FinishedRuns { cli, code: 0, json: Vec::new() }
    }

    pub(super) fn interrupted(&mut self) {
        self.code = worse(self.code, Kind::Interrupted.exit_code());
    }

    /// The end of one run, with its id if it got one. A failure stops none of the others.
    pub(super) fn take(
        &mut self,
        sync: &str,
        run: Option<&str>,
        result: Result<Report, Failure>,
    ) -> Result<(), Failure> {
        match result {
            Ok(report) => {
                self.code = worse(self.code, report.exit_code());
                if self.cli.json {
                    self.json.push(serde_json::to_value(&report).unwrap_or(Value::Null));
                } else {
                    show(&report)?;
                }
            }
            Err(Failure::Error(error)) if self.cli.json => {
                let status = match error.kind() {
                    Kind::Guard => RunStatus::StoppedByGuard,
                    Kind::Interrupted => RunStatus::Incomplete,
                    _ => RunStatus::Failed,
                };
                let mut end = json!({"sync": sync, "status": status, "error": error_json(&error)});
                if let Some(run) = run {
                    end["run"] = json!(run);
                }
                self.json.push(end);
                self.code = worse(self.code, error.kind().exit_code());
            }
            Err(failure @ Failure::Problems(_)) if self.cli.json => {
                return self.take(sync, run, Err(Failure::Error(failure.as_error())));
            }
            Err(failure) => self.code = worse(self.code, super::show_failure(self.cli, &failure)),
        }
        Ok(())
    }

    /// The selected syncs that cannot run, because their mappings have mistakes.
    fn broken(&mut self, project: &Project, selection: &Selection) -> Result<(), Failure> {
        let all = selection.broken(project).into_iter();
        all.filter_map(|broken| Some((&broken.name, project.mistakes(&broken.name)?)))
            .try_for_each(|(name, mistakes)| self.take(name, None, Err(mistakes.into())))
    }

    /// The command's exit code, after the last line.
    pub(super) fn code(self) -> u8 {
        if self.cli.json {
            print_json(&json!({"runs": self.json, "exit_code": self.code}));
        }
        self.code
    }
}

/// Whether a destination writes its lines to the terminal, where a bar between them would be in the way.
fn prints_changes(project: &Project, destination: &str) -> bool {
    let Some(settings) = project.settings.destinations.get(destination) else { return false };
    let file = registry::find(&settings.kind).filter(|of| of.name() == "file");
    let to_stdout = file.is_some_and(|of| of.output_file(&settings.values).is_ok_and(|path| path.is_none()));
    to_stdout && std::io::stdout().is_terminal()
}

/// Turns SIGINT and SIGTERM into signals of delivery: the first stops, the second abandons what is in flight.
pub(super) fn listen() -> Result<watch::Receiver<Signal>, Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |error| Error::new(Kind::Bug, "failed to listen for signals").because(error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let (sender, receiver) = watch::channel(Signal::Go);
    tokio::spawn(async move {
        for (level, text) in [
            (Signal::Stop, "stopping: waiting for requests in flight (Ctrl-C again to abort)"),
            (Signal::Abandon, "aborting requests in flight; the next run resends them"),
        ] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            // A closed standard error cannot be reported anywhere.
            drop(writeln!(screen::stderr(), "{text}"));
            sender.send_replace(level);
        }
        // The channel stays open until the process ends.
        std::future::pending::<()>().await;
    });
    Ok(receiver)
}

/// A run's line.
fn show(report: &Report) -> Result<(), Failure> {
    let counts = &report.counts;
    let mut out = screen::stdout();
    let mut parts = vec![format!("{} unchanged", thousands(counts.unchanged))];
    let mut part = |count: u64, state: &str, style| {
        if count > 0 {
            parts.push(paint(style, format!("{} {state}", thousands(count))));
        }
    };
    part(counts.changes.delivered, "delivered", ADD);
    part(counts.removed.delivered, "removed", CHANGE);
    part(counts.changes.rejected + counts.removed.rejected, "rejected", REMOVE);
    part(counts.changes.pending + counts.removed.pending, "pending", CHANGE);
    part(counts.changes.unconfirmed + counts.removed.unconfirmed, "unconfirmed", CHANGE);
    let traits = match (counts.traits_set, counts.traits_unset) {
        (0, 0) => String::new(),
        (set, 0) => format!("; {} set", plural(set, "trait")),
        (set, unset) => format!("; {} set, {} unset", plural(set, "trait"), thousands(unset)),
    };
    let requests = match (counts.requests, counts.retries) {
        (0, _) => "; nothing sent".to_owned(),
        (requests, 0) => format!("; {}", plural(requests, "request")),
        (requests, retries) => format!("; {}, {} of them retries", plural(requests, "request"), thousands(retries)),
    };
    writeln!(
        out,
        "{}: {}: {}{traits}{requests} {}",
        paint(screen::BOLD, &report.sync),
        plural(counts.rows, "row"),
        parts.join(", "),
        paint(DIM, format!("({:.1} s, {})", report.seconds, report.run)),
    )?;
    if counts.rejected_unchanged > 0 {
        writeln!(
            out,
            "  {} rejected earlier and unchanged: see `groupcast rejected {}`; `--retry-rejected` sends them again",
            thousands(counts.rejected_unchanged),
            report.sync
        )?;
    } else if counts.changes.rejected + counts.removed.rejected > counts.invalid_keys {
        writeln!(out, "  `groupcast rejected {}` shows the error messages", report.sync)?;
    }
    if report.beyond_limit > 0 {
        writeln!(out, "  limit reached: {} pending; the next run continues", plural(report.beyond_limit, "change"))?;
    }
    for remark in &report.detail.remarks {
        writeln!(out, "  {} {remark}", paint(CHANGE, "warning:"))?;
    }
    for (warning, count) in &report.warnings {
        let times = if *count == 1 { String::new() } else { format!(" ({} times)", thousands(*count)) };
        writeln!(out, "  {} {warning}{times}", paint(CHANGE, "destination warning:"))?;
    }
    drop(out);
    if let Some(error) = &report.stopped {
        screen::print_error(error);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::worse;

    #[test]
    fn the_worst_exit_code_wins() {
        assert_eq!(worse(0, 3), 3);
        assert_eq!(worse(1, 3), 1);
        assert_eq!(worse(4, 3), 4);
        assert_eq!(worse(1, 2), 2);
        assert_eq!(worse(130, 1), 1);
    }
}
