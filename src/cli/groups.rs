//! The questions: how do the syncs stand, what was run, what is known of a group, what was rejected — and the ledger's
//! own commands.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

use chrono::{DateTime, Utc};
use serde_json::json;
use tokio::sync::watch;

use super::args::{Cli, LedgerCommand};
use super::client::Client;
use super::plan::{shown_key, shown_value, written};
use super::screen::{self, ADD, BOLD, CHANGE, DIM, Progress, REMOVE, paint, plural, thousands};
use super::told::Teller;
use super::{print_json, remote};
use crate::config::Project;
use crate::delivery::Signal;
use crate::error::{Error, Kind, Result, Within};
use crate::io::http::HttpClient;
use crate::io::{Clock, Random, SystemClock};
use crate::ledger::RunStatus;
use crate::mapping::MappingFile;
use crate::model::Document;
use crate::service::open::job::Job;
use crate::service::open::{self, Failure};
use crate::service::views::words::one_line;
use crate::service::views::{ExportedView, GroupView, RunDetail, State, SyncView};
use crate::sync::{RunOptions, RunOrigin};

pub(super) fn when(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// Cells of a table stay without colour: the table measures them as they are.
pub(super) fn status_text(status: RunStatus) -> String {
    status.name().replace('_', " ")
}

pub(super) async fn status(cli: &Cli, syncs: &[String]) -> Result<u8, Failure> {
    let project = open::project(&cli.folder)?;
    super::show_broken(cli, &project);
    let files = asked_about(&project, syncs)?;
    let teller = Teller::open(&project).await?;
    let now = SystemClock::start().now();
    let views = teller.syncs(&project, &files, now, 1).await?;
    if cli.json {
        print_json(&json!({"syncs": views, "broken": super::broken_json(&project)}));
        return Ok(0);
    }
    let by_daemon = matches!(teller, Teller::Daemon(_));
    let mut head = vec!["sync", "destination", "known", "unconfirmed", "rejected", "last run", "ended"];
    if by_daemon {
        head.extend(["now", "next"]);
    }
    let mut table = screen::table(&head);
    for view in &views {
        let disabled = if view.enabled { String::new() } else { " (disabled)".to_owned() };
        let last = view.last_run.as_ref();
        let mut row = vec![
            format!("{}{disabled}", view.sync),
            view.destination.clone(),
            thousands(view.standing.synced),
            thousands(view.standing.unconfirmed),
            thousands(view.standing.rejected),
            last.map_or_else(|| "never".to_owned(), |run| status_text(run.status)),
            last.and_then(|run| run.ended_at).map_or_else(String::new, when),
        ];
        if by_daemon {
            row.extend([doing(view), next(view)]);
        }
        table.add_row(row);
    }
    let mut out = screen::stdout();
    writeln!(out, "{table}")?;
    if let Teller::Daemon(client) = &teller {
        writeln!(out, "\n{}", paint(DIM, format!("told by {}", client.whom())))?;
    }
    Ok(0)
}

/// The mappings that a question is about: all, or those of these names. A name whose mapping has mistakes has no answer of
/// its own here.
pub(super) fn asked_about<'a>(project: &'a Project, syncs: &[String]) -> Result<Vec<&'a MappingFile>> {
    syncs.iter().try_for_each(|sync| open::exists(project, sync))?;
    let asked = |file: &&MappingFile| syncs.is_empty() || syncs.contains(&file.mapping.name);
    Ok(project.mappings.iter().filter(asked).collect())
}

/// What the daemon does about a sync.
fn doing(view: &SyncView) -> String {
    let Some(activity) = &view.activity else { return String::new() };
    match (activity.state, &activity.running) {
        (State::Running, Some(progress)) => match progress.candidates {
            Some(candidates) if candidates > 0 => {
                format!("{} {} of {}", progress.phase, thousands(progress.settled), thousands(candidates))
            }
            _ => progress.phase.clone(),
        },
        (State::Running, None) => "running".to_owned(),
        (State::Waiting, _) => "waits for room".to_owned(),
        (State::Paused, _) => "paused".to_owned(),
        (State::BackingOff, _) => format!("{} in a row", plural(u64::from(activity.failures), "failure")),
        (State::Scheduled, _) => "scheduled".to_owned(),
        (State::Manual, _) => "no schedule".to_owned(),
        (State::Disabled, _) => "disabled".to_owned(),
    }
}

/// When a sync is started next by itself.
fn next(view: &SyncView) -> String {
    let Some(activity) = view.activity.as_ref().filter(|activity| activity.state != State::Paused) else {
        return String::new();
    };
    let scheduled = view.schedule.as_ref().and_then(|schedule| schedule.next.first()).map(|fire| fire.utc);
    activity.next_try_at.or(scheduled).map_or_else(String::new, when)
}

pub(super) async fn runs(cli: &Cli, sync: Option<&str>, number: u64) -> Result<u8, Failure> {
    let project = open::project(&cli.folder)?;
    if let Some(sync) = sync {
        open::exists(&project, sync)?;
    }
    let runs = Teller::open(&project).await?.runs(sync, number).await?;
    if cli.json {
        print_json(&json!({ "runs": runs }));
        return Ok(0);
    }
    let mut table =
        screen::table(&["run", "sync", "by", "status", "rows", "delivered", "rejected", "open", "took", "remark"]);
    for run in &runs {
        let counts = run.counts.clone().unwrap_or_default();
        table.add_row([
            run.run.clone(),
            run.sync.clone(),
            run.started_by.clone(),
            status_text(run.status),
            thousands(counts.rows),
            thousands(counts.changes.delivered + counts.removed.delivered),
            thousands(counts.changes.rejected + counts.removed.rejected),
            thousands(counts.unfinished()),
            run.seconds().map_or_else(String::new, |took| format!("{took:.1} s")),
            run.error.clone().unwrap_or_default(),
        ]);
    }
    let mut out = screen::stdout();
    if runs.is_empty() {
        writeln!(out, "no runs yet; `groupcast run` makes the first")?;
    } else {
        writeln!(out, "{table}")?;
    }
    Ok(0)
}

pub(super) async fn group(cli: &Cli, sync: &str, key: &str, number: u64, remote: bool) -> Result<u8, Failure> {
    let project = open::project(&cli.folder)?;
    open::exists(&project, sync)?;
    let told = Teller::open(&project).await?.group(sync, key, number).await?;
    let remote = match remote {
        true => {
            let file = open::named(&project, sync)?;
            Some(remote::look(&project, file, key).await.within(|| format!("sync {sync}"))?)
        }
        false => None,
    };
    if told.is_none() && !remote.as_ref().is_some_and(remote::Remote::exists) {
        return Err(Error::new(Kind::Config, format!("nothing is known of group `{}` in {sync}", shown_key(key)))
            .advise(format!("`groupcast plan {sync} --group {}` shows whether the source has it", shown_key(key)))
            .into());
    }
    let group = told.unwrap_or_else(|| GroupView {
        sync: sync.to_owned(),
        key: key.to_owned(),
        known: false,
        unconfirmed_in: None,
        rejected: None,
        traits: BTreeMap::new(),
        history: Vec::new(),
        unreadable: None,
    });
    let damaged = all_readable(sync, group.unreadable.as_ref().map(|_| key.to_owned()).as_slice());
    if cli.json {
        let mut group = serde_json::to_value(&group).unwrap_or_default();
        if let Some(remote) = &remote {
            group["remote"] = remote.json();
        }
        print_json(&group);
        return damaged.map(|()| 0);
    }
    let mut out = screen::stdout();
    writeln!(out, "{} in {sync}", paint(BOLD, shown_key(key)))?;
    if let Some(what) = &group.unreadable {
        writeln!(out, "{} {what}", paint(REMOVE, "unreadable:"))?;
    }
    if !group.known {
        let words = if group.history.is_empty() {
            "this sync has said nothing about it"
        } else {
            "removed; the destination is told nothing about it any more"
        };
        writeln!(out, "{}", paint(CHANGE, words))?;
    }
    if let Some(run) = &group.unconfirmed_in {
        let words = format!(
            "unconfirmed since run {run}: what was said then may or may not have arrived; the next run says everything again"
        );
        writeln!(out, "{}", paint(CHANGE, words))?;
    }
    if let Some(rejected) = &group.rejected {
        writeln!(out, "{} {}", paint(REMOVE, "rejected:"), one_line(&rejected.reason))?;
    }
    if !group.traits.is_empty() {
        let mut table = screen::table(&["trait", "value", "sent", "run"]);
        for (name, held) in &group.traits {
            let sent = held.sent_at.map_or_else(String::new, when);
            table.add_row([shown_key(name), shown_value(&held.value), sent, held.run.clone().unwrap_or_default()]);
        }
        writeln!(out, "\n{table}")?;
    }
    if !group.history.is_empty() {
        writeln!(out, "\n{}", paint(BOLD, "History"))?;
    }
    for entry in &group.history {
        let reason = entry.reason.as_ref().map_or_else(String::new, |reason| format!("  {}", one_line(reason)));
        writeln!(out, "{}  {}  {}{reason}", when(entry.at), entry.outcome.replace('_', " "), paint(DIM, &entry.run))?;
        for (op, name, value) in entry.change.values() {
            let verb = if op.accumulates() { format!("{} ", op.name()) } else { String::new() };
            writeln!(out, "    {} {name} = {verb}{}", paint(ADD, "+"), shown_value(value))?;
        }
        for (name, value) in &entry.change.repeated {
            let remark = paint(DIM, "(unchanged, sent with every change)");
            writeln!(out, "    {} {name} = {} {remark}", paint(DIM, "="), shown_value(value))?;
        }
        for name in &entry.change.unset {
            writeln!(out, "    {} {name}", paint(REMOVE, "-"))?;
        }
        if entry.change.delete {
            writeln!(out, "    {} the group was deleted", paint(REMOVE, "-"))?;
        }
    }
    drop(out);
    if let Some(remote) = &remote {
        let known = group.traits.iter().map(|(name, held)| (name.clone(), held.value.clone()));
        remote.show(&Document(known.collect()))?;
    }
    damaged.map(|()| 0)
}

/// Requests over time, one line of bars.
fn bars(slots: &[u64]) -> String {
    let most = slots.iter().copied().max().unwrap_or(0).max(1);
    let bar = |slot: &u64| match *slot {
        0 => ' ',
        some => ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'][((some * 8).div_ceil(most) as usize).clamp(1, 8) - 1],
    };
    slots.iter().map(bar).collect()
}

/// `groupcast runs show ID`.
pub(super) async fn show_run(cli: &Cli, run: &str) -> Result<u8, Failure> {
    let project = open::project(&cli.folder)?;
    let told = Teller::open(&project).await?.run(run).await?;
    if cli.json {
        print_json(&serde_json::to_value(&told).unwrap_or_default());
        return Ok(0);
    }
    let RunDetail { run, detail, progress, rejected } = &told;
    let mut out = screen::stdout();
    writeln!(out, "{} of {}: {}", paint(BOLD, &run.run), run.sync, status_text(run.status))?;
    let by = if run.started_by.is_empty() { String::new() } else { format!(", started by {}", run.started_by) };
    let took = run.seconds().map_or_else(String::new, |took| format!(", took {took:.1} s"));
    writeln!(out, "  {}{took}{by}", when(run.started_at))?;
    if let Some(error) = &run.error {
        writeln!(out, "  {} {error}", paint(REMOVE, "error:"))?;
        if let Some(advice) = &detail.advice {
            writeln!(out, "  {} {advice}", paint(BOLD, "help:"))?;
        }
    }
    if let Some(progress) = progress {
        let of = progress.candidates.map_or_else(String::new, |candidates| format!(" of {}", thousands(candidates)));
        writeln!(
            out,
            "  {}: {} rows read, {}{of} settled",
            progress.phase,
            thousands(progress.rows_read),
            thousands(progress.settled)
        )?;
    }
    if let Some(counts) = &run.counts {
        let said = &counts.changes;
        writeln!(
            out,
            "\n{} = {} unchanged + {} delivered + {} rejected + {} not sent + {} unknown",
            plural(counts.rows, "row"),
            thousands(counts.unchanged),
            thousands(said.delivered),
            thousands(said.rejected),
            thousands(said.pending),
            thousands(said.unconfirmed),
        )?;
        if counts.removed.total() > 0 {
            let removed = &counts.removed;
            writeln!(
                out,
                "of {} that left the model: {} removed, {} rejected, {} not sent, {} unknown",
                plural(removed.total(), "group"),
                thousands(removed.delivered),
                thousands(removed.rejected),
                thousands(removed.pending),
                thousands(removed.unconfirmed),
            )?;
        }
        writeln!(
            out,
            "{} set, {} unset; {}, {} of them repeated",
            plural(counts.traits_set, "trait"),
            thousands(counts.traits_unset),
            plural(counts.requests, "request"),
            thousands(counts.retries),
        )?;
    }
    if !detail.guards.is_empty() {
        let mut table = screen::table(&["guard", "reads", "of", "share", "passes up to", ""]);
        for reading in &detail.guards {
            let percent = |share: f64| format!("{:.1} %", share * 100.0);
            let share = if reading.whole == 0 { 0.0 } else { reading.part as f64 / reading.whole as f64 };
            let at_most = if reading.exact { "" } else { "at most " };
            table.add_row([
                reading.guard.clone(),
                format!("{at_most}{} {}", thousands(reading.part), reading.what),
                thousands(reading.whole),
                reading.share_max.map_or_else(String::new, |_| percent(share)),
                reading.share_max.map_or_else(String::new, percent),
                if reading.trips { "stops".to_owned() } else { String::new() },
            ]);
        }
        writeln!(out, "\n{table}")?;
    }
    if detail.timeline.requests.iter().any(|slot| *slot > 0) {
        let slot = detail.timeline.slot_ms as f64 / 1000.0;
        writeln!(out, "\nrequests {}  {slot} s each", bars(&detail.timeline.requests))?;
        if detail.timeline.retries.iter().any(|slot| *slot > 0) {
            writeln!(out, "repeats  {}", bars(&detail.timeline.retries))?;
        }
        let statuses = detail.by_status.iter().map(|(status, count)| match status {
            0 => format!("{} without an answer", thousands(*count)),
            status => format!("{} × {status}", thousands(*count)),
        });
        writeln!(out, "answers  {}", statuses.collect::<Vec<_>>().join(", "))?;
    }
    for remark in &detail.remarks {
        writeln!(out, "{} {remark}", paint(CHANGE, "warning:"))?;
    }
    for (warning, count) in &detail.warnings {
        writeln!(out, "{} {warning} ({} times)", paint(CHANGE, "the destination warned:"), thousands(*count))?;
    }
    if !rejected.is_empty() {
        let mut table = screen::table(&["rejected group", "reason"]);
        for group in rejected {
            table.add_row([shown_key(&group.key), one_line(group.reason.as_deref().unwrap_or_default()).into_owned()]);
        }
        writeln!(out, "\n{table}")?;
    }
    Ok(0)
}

pub(super) async fn rejected(cli: &Cli, sync: Option<&str>, number: u64) -> Result<u8, Failure> {
    let project = open::project(&cli.folder)?;
    let syncs: Vec<&str> = match sync {
        Some(sync) => {
            open::exists(&project, sync)?;
            vec![sync]
        }
        None => {
            let sound = project.mappings.iter().map(|file| file.mapping.name.as_str());
            sound.chain(project.broken.iter().map(|broken| broken.name.as_str())).collect()
        }
    };
    let teller = Teller::open(&project).await?;
    let mut table = screen::table(&["sync", "group", "since", "reason"]);
    let mut all = Vec::new();
    for sync in syncs {
        for group in teller.rejected(sync, number).await? {
            if !cli.json {
                table.add_row([
                    group.sync.clone(),
                    shown_key(&group.key),
                    when(group.at),
                    one_line(&group.reason).into_owned(),
                ]);
            }
            all.push(group);
        }
    }
    if cli.json {
        print_json(&json!({ "rejected": all }));
        return Ok(0);
    }
    let mut out = screen::stdout();
    if table.is_empty() {
        writeln!(out, "no group is rejected")?;
    } else {
        writeln!(
            out,
            "{table}\n\nThey are sent again when their rows change, or with `groupcast run --retry-rejected`."
        )?;
    }
    Ok(0)
}

pub(super) async fn ledger(cli: &Cli, asked: &LedgerCommand) -> Result<u8, Failure> {
    let project = open::project(&cli.folder)?;
    match asked {
        LedgerCommand::Adopt { sync } => adopt(cli, &project, sync).await,
        LedgerCommand::Export { sync } => {
            open::exists(&project, sync)?;
            let teller = Teller::open(&project).await?;
            let mut unreadable = Vec::new();
            let mut out = std::io::BufWriter::new(std::io::stdout());
            let mut write = |group: ExportedView| -> std::io::Result<()> {
                serde_json::to_writer(&mut out, &group)?;
                out.write_all(b"\n")?;
                if group.unreadable.is_some() {
                    unreadable.push(group.key);
                }
                Ok(())
            };
            teller.export(sync, &mut |group| written(screen::unless_closed(write(group)))).await?;
            written(screen::unless_closed(out.flush()))?;
            drop(out);
            all_readable(sync, &unreadable).map(|()| 0)
        }
        LedgerCommand::Backup { file } => {
            let copied = match open::backup(&project, file).await {
                Err(busy) if busy.kind() == Kind::LedgerBusy => {
                    Client::find(&project, busy).await?.backup(file).await?
                }
                copied => copied?,
            };
            if cli.json {
                print_json(&json!({"file": file, "syncs": copied.syncs, "groups": copied.groups}));
            } else {
                let (groups, syncs) = (plural(copied.groups, "group"), plural(copied.syncs, "sync"));
                writeln!(anstream::stdout().lock(), "{groups} of {syncs} copied to {}", file.display())?;
            }
            Ok(0)
        }
        LedgerCommand::Reset { sync, group, forget, yes } => {
            open::exists(&project, sync)?;
            let teller = Teller::open_to_write(&project).await?;
            if !*yes && !confirmed(sync, group.as_deref(), teller.known(sync).await?, *forget)? {
                return Err(Error::new(Kind::Config, "nothing was reset")
                    .advise("answer `yes`, or add `--yes`")
                    .into());
            }
            let keys = group.clone().map(|group| vec![group]);
            let count = match &teller {
                Teller::Ledger(ledger) => {
                    let mark = format!("reset-{}", SystemClock::start().now().format("%Y%m%dT%H%M%SZ"));
                    ledger.reset(sync, keys.as_deref(), &mark, *forget).await?
                }
                Teller::Daemon(client) => client.reset(sync, group.as_deref(), *forget).await?,
            };
            if cli.json {
                print_json(&json!({"sync": sync, "groups": count, "forgotten": forget}));
            } else {
                let what = if *forget { "forgotten" } else { "said again in full at the next run" };
                writeln!(screen::stdout(), "{sync}: {} {what}", plural(count, "group"))?;
            }
            Ok(0)
        }
    }
}

/// Fails, naming them, if groups of an export could not be read.
fn all_readable(sync: &str, unreadable: &[String]) -> Result<(), Failure> {
    let Some(first) = unreadable.first() else { return Ok(()) };
    let more = match unreadable.len() - 1 {
        0 => String::new(),
        more => format!(" and of {}", plural(more as u64, "other group")),
    };
    let what = format!("what the ledger holds of group `{}`{more} cannot be read", shown_key(first));
    Err(Error::new(Kind::Ledger, what)
        .advise(format!(
            "`groupcast ledger reset {sync} --group KEY` has everything sent again about one, which replaces what is damaged"
        ))
        .at(format!("sync {sync}"))
        .into())
}

/// Asks on a terminal; elsewhere the answer is no.
fn confirmed(sync: &str, group: Option<&str>, known: u64, forget: bool) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    let whom = group.map_or_else(|| plural(known, "group"), |group| format!("group {}", shown_key(group)));
    let what = if forget { "forget" } else { "say again in full" };
    write!(screen::stderr(), "{what} {whom} of {sync}? Type `yes`: ")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

async fn adopt(cli: &Cli, project: &Project, sync: &str) -> Result<u8, Failure> {
    let file = open::named(project, sync)?;
    let adopted = match Teller::open_to_write(project).await? {
        Teller::Daemon(client) => client.adopt(sync).await?,
        Teller::Ledger(ledger) => {
            let (_sender, signal) = watch::channel(Signal::Go);
            let job = Job {
                project,
                file,
                ledger: ledger.as_ref(),
                http_client: &HttpClient::new()?,
                clock: &SystemClock::start(),
                random: &Random::from_entropy(),
                monitor: &Progress::new(sync, true),
                options: &RunOptions::default(),
                origin: &RunOrigin::of("adoption"),
                signal,
            };
            job.adopt().await?
        }
    };
    if cli.json {
        print_json(&json!({"sync": sync, "adopted": adopted}));
    } else {
        writeln!(
            screen::stdout(),
            "{sync}: {} taken as held by {} already; the next run sends what changes from now on",
            plural(adopted, "group"),
            file.mapping.destination
        )?;
    }
    Ok(0)
}
