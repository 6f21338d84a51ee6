//! `groupcast run`: sync after sync, with a line for each and the worst exit code.

use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::args::{Cli, Select};
use super::client::Client;
use super::print_json;
use super::screen::{self, ADD, CHANGE, DIM, Progress, REMOVE, paint, plural, thousands};
use crate::config::Project;
use crate::delivery::Signal;
use crate::error::{Error, Kind, Result, Within};
use crate::io::http::HttpClient;
use crate::io::{Clock, Random, SystemClock};
use crate::ledger::Ledger;
use crate::ledger::RunStatus;
use crate::mapping::MappingFile;
use crate::service::open::job::Job;
use crate::service::open::{self, Failure};
use crate::service::views::RunDetail;
use crate::sync::report::{Report, error_json};
use crate::sync::{BY_COMMAND_LINE, Event, Monitor, RunOptions, RunOrigin};

/// What all syncs of a command share.
struct Shared<'a> {
    project: &'a Project,
    ledger: &'a dyn Ledger,
    http_client: &'a HttpClient,
    clock: &'a SystemClock,
    random: &'a Random,
    options: &'a RunOptions,
    signal: watch::Receiver<Signal>,
    quiet: bool,
}

pub(super) async fn run(cli: &Cli, select: &Select, limit: Option<u64>) -> Result<u8, Failure> {
    let project = open::project(&cli.folder)?;
    super::show_warnings(cli, &project);
    let files = open::chosen(&project, &select.syncs)?;
    let options = select.options(limit)?;
    // The lock decides: only while another process has the ledger open is there a daemon to ask.
    let ledger = match open::ledger(&project).await {
        Ok(ledger) => ledger,
        Err(busy) if busy.kind() == Kind::LedgerBusy => {
            let client = Client::find(&project, busy).await?;
            return by_daemon(cli, &project, (&files, select.syncs.is_empty()), &client, &options).await;
        }
        Err(error) => return Err(error.into()),
    };
    super::warn_of_older(ledger.as_ref());
    let (http_client, clock, random) = (HttpClient::new()?, SystemClock::start(), Random::from_entropy());
    let signal = listen()?;
    let shared = Shared {
        project: &project,
        ledger: ledger.as_ref(),
        http_client: &http_client,
        clock: &clock,
        random: &random,
        options: &options,
        signal: signal.clone(),
        quiet: cli.json,
    };
    let mut ended = Ended::new(cli);
    for file in files {
        if *signal.borrow() >= Signal::Stop {
            ended.interrupted();
            break;
        }
        ended.take(&file.mapping.name, one(&shared, file).await)?;
    }
    ended.broken(&project, &select.syncs)?;
    Ok(ended.code())
}

/// The runs of a command as they end: shown one by one, or as one JSON value at the end.
struct Ended<'a> {
    cli: &'a Cli,
    code: u8,
    json: Vec<Value>,
}

impl Ended<'_> {
    fn new(cli: &Cli) -> Ended<'_> {
        Ended { cli, code: 0, json: Vec::new() }
    }

    fn interrupted(&mut self) {
        self.code = worse(self.code, Kind::Interrupted.exit_code());
    }

    /// One sync's end. That it failed is no reason to leave out the others.
    fn take(&mut self, sync: &str, ended: Result<Report, Failure>) -> Result<(), Failure> {
        match ended {
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
                self.json.push(json!({"sync": sync, "status": status, "error": error_json(&error)}));
                self.code = worse(self.code, error.kind().exit_code());
            }
            Err(failure @ Failure::Problems(_)) if self.cli.json => {
                return self.take(sync, Err(Failure::Error(failure.as_error())));
            }
            Err(failure) => self.code = worse(self.code, super::show_failure(self.cli, &failure)),
        }
        Ok(())
    }

    /// The syncs that are asked for and cannot run, because their mappings have mistakes.
    fn broken(&mut self, project: &Project, asked: &[String]) -> Result<(), Failure> {
        let all = project.broken.iter().filter(|_| asked.is_empty());
        all.filter_map(|broken| Some((&broken.name, project.mistakes(&broken.name)?)))
            .try_for_each(|(name, mistakes)| self.take(name, Err(mistakes.into())))
    }

    /// The command's exit code, after the last line.
    fn code(self) -> u8 {
        if self.cli.json {
            print_json(&json!({"runs": self.json, "exit_code": self.code}));
        }
        self.code
    }
}

/// Between two looks at a run of the daemon.
const FOLLOW: Duration = Duration::from_millis(300);
/// Looks at a run that waits before a person is told that it does: most begin at once.
const LOOKS_BEFORE_WAITING: u32 = 5;

/// Runs that the daemon does, because it holds the ledger: asked for and followed, one after the other.
async fn by_daemon(
    cli: &Cli,
    project: &Project,
    (files, all): (&[&MappingFile], bool),
    client: &Client,
    options: &RunOptions,
) -> Result<u8, Failure> {
    let signal = listen()?;
    let mut ended = Ended::new(cli);
    for file in files {
        if *signal.borrow() >= Signal::Stop {
            ended.interrupted();
            break;
        }
        let sync = &file.mapping.name;
        let progress = Progress::new(sync, cli.json);
        let run = one_by_daemon(client, sync, options, &progress, &signal, cli.json).await;
        progress.finish();
        ended.take(sync, run.map_err(Failure::Error))?;
    }
    if all {
        ended.broken(project, &[])?;
    }
    Ok(ended.code())
}

/// One sync, as [`one`] does it.
async fn one_by_daemon(
    client: &Client,
    sync: &str,
    options: &RunOptions,
    progress: &Progress,
    signal: &watch::Receiver<Signal>,
    quiet: bool,
) -> Result<Report> {
    let accepted = client.trigger(sync, options).await.within(|| format!("sync {sync}"))?;
    let run = &accepted.run;
    if !quiet {
        let words = if accepted.joined { "joins a run that waits" } else { "is run" };
        progress.say(&format!("{sync}: {words} by {} as {run}", client.whom()));
    }
    let clock = SystemClock::start();
    let (mut passed_on, mut waits) = (Signal::Go, 0);
    let detail = loop {
        let Some(detail) = client.run(run).await? else {
            let what = format!("run {run} was taken back before it began");
            return Err(Error::new(Kind::Interrupted, what).at(format!("sync {sync}")));
        };
        if detail.run.status != RunStatus::Running {
            break detail;
        }
        if let Some(at) = &detail.progress {
            waits += u32::from(at.phase == "waiting");
            if waits == LOOKS_BEFORE_WAITING {
                progress.say(&format!("{sync}: waits until the daemon has room for it"));
            }
            progress.follow(at);
        }
        let now = *signal.borrow();
        if now > passed_on {
            passed_on = now;
            client.cancel(run).await?;
        }
        clock.sleep(FOLLOW).await;
    };
    if let Some(found) = &detail.detail.found {
        progress.note(Event::Compared(found));
    }
    report(detail).map_err(|error| match error.to_string().starts_with(&format!("sync {sync}: ")) {
        true => error,
        false => error.at(format!("sync {sync}")),
    })
}

/// A run's record as what it was made from: the run's report, or its failure.
fn report(detail: RunDetail) -> Result<Report> {
    let RunDetail { run, detail, .. } = detail;
    let seconds = run.seconds().unwrap_or_default();
    let stopped = run.error.map(|error| {
        let kind = run.error_kind.as_deref().and_then(Kind::from_name).unwrap_or(Kind::Bug);
        let error = Error::new(kind, error);
        match &detail.advice {
            Some(advice) => error.advise(advice.clone()),
            None => error,
        }
    });
    let failed = matches!(run.status, RunStatus::StoppedByGuard | RunStatus::Failed) || detail.found.is_none();
    let stopped = match stopped {
        Some(error) if failed => return Err(error),
        stopped => stopped,
    };
    Ok(Report {
        sync: run.sync,
        run: run.run,
        status: run.status,
        counts: run.counts.unwrap_or_default(),
        full: detail.full,
        seconds,
        beyond_limit: detail.beyond_limit,
        warnings: detail.warnings.clone(),
        detail,
        stopped,
    })
}

/// One sync, with its progress.
async fn one(shared: &Shared<'_>, file: &MappingFile) -> Result<Report, Failure> {
    let progress = Progress::new(&file.mapping.name, shared.quiet);
    let job = Job {
        project: shared.project,
        file,
        ledger: shared.ledger,
        http_client: shared.http_client,
        clock: shared.clock,
        random: shared.random,
        monitor: &progress,
        options: shared.options,
        origin: &RunOrigin::of(BY_COMMAND_LINE),
        signal: shared.signal.clone(),
    };
    let report = job.run().await;
    progress.finish();
    report
}

/// The exit code that needs more attention: bad config, then failures, then an interruption, a guard, rejections.
pub(super) fn worse(left: u8, right: u8) -> u8 {
    let rank = |code: u8| [0, 3, 4, 130, 1, 2].iter().position(|known| *known == code).unwrap_or(4);
    if rank(right) > rank(left) { right } else { left }
}

/// Turns SIGINT and SIGTERM into signals of delivery: the first stops, the second abandons what is in flight.
fn listen() -> Result<watch::Receiver<Signal>, Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |error| Error::new(Kind::Bug, "failed to listen for signals").because(error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let (sender, receiver) = watch::channel(Signal::Go);
    tokio::spawn(async move {
        for (level, words) in [
            (Signal::Stop, "stopping: what is in flight may finish; once more to abandon it"),
            (Signal::Abandon, "abandoning what is in flight; the next run says it again"),
        ] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            // Nobody is left to tell when standard error is gone.
            drop(writeln!(std::io::stderr(), "{words}"));
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
    let mut part = |count: u64, word: &str, style| {
        if count > 0 {
            parts.push(paint(style, format!("{} {word}", thousands(count))));
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
        (requests, retries) => format!("; {} of which {} repeated", plural(requests, "request"), thousands(retries)),
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
            "  {} rejected earlier did not change and {} held back; see `groupcast rejected {}`, try with `--retry-rejected`",
            thousands(counts.rejected_unchanged),
            if counts.rejected_unchanged == 1 { "is" } else { "are" },
            report.sync
        )?;
    } else if counts.changes.rejected + counts.removed.rejected > counts.invalid_keys {
        writeln!(out, "  `groupcast rejected {}` shows why", report.sync)?;
    }
    if report.beyond_limit > 0 {
        writeln!(out, "  {} left by --limit; the next run goes on there", plural(report.beyond_limit, "group"))?;
    }
    for remark in &report.detail.remarks {
        writeln!(out, "  {} {remark}", paint(CHANGE, "warning:"))?;
    }
    for (warning, count) in &report.warnings {
        let times = if *count == 1 { String::new() } else { format!(" ({} times)", thousands(*count)) };
        writeln!(out, "  {} {warning}{times}", paint(CHANGE, "the destination warns:"))?;
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
