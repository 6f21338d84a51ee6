//! The questions: how do the syncs stand, what was run, what is known of a group, what was rejected — and the ledger's
//! own commands.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::json;

use super::args::{Cli, LedgerCommand};
use super::plan::{shown_key, shown_value, written};
use super::screen::{self, ADD, BOLD, CHANGE, DIM, REMOVE, paint, plural, thousands};
use super::service::{self, Access, Opened};
use super::{print_json, remote};
use crate::config::Project;
use crate::error::{Error, Kind, Result, Within};
use crate::ledger::RunStatus;
use crate::mapping::MappingFile;
use crate::model::Document;
use crate::service::api::{Service, ServiceError};
use crate::service::open::{self, Failure};
use crate::service::remote::RemoteService;
use crate::service::views::words::one_line;
use crate::service::views::{ActivityState, ExportedGroup, GroupView, RunDetail, SyncView};

pub(super) fn when(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// Cells of a table stay without colour: the table measures them as they are.
pub(super) fn status_text(status: RunStatus) -> String {
    status.name().replace('_', " ")
}

pub(super) async fn status(cli: &Cli, syncs: &[String]) -> Result<u8, Failure> {
    let project = Arc::new(open::project(&cli.folder)?);
    super::show_broken(cli, &project);
    let files = selected(&project, syncs)?;
    let opened = service::open(&project, Access::Read).await?;
    let views = selected_views(&opened, &files, 1).await?;
    if cli.json {
        print_json(&json!({"syncs": views, "broken": super::broken_json(&project)}));
        return Ok(0);
    }
    let by_daemon = views.iter().any(|view| view.activity.is_some());
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
            thousands(view.groups.synced),
            thousands(view.groups.unconfirmed),
            thousands(view.groups.rejected),
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
    if let Some(source) = &opened.source {
        writeln!(out, "\n{}", paint(DIM, format!("source: {source}")))?;
    }
    Ok(0)
}

/// The mappings of the selected syncs: all, or those of these names. A sync whose mapping has mistakes has none.
pub(super) fn selected<'a>(project: &'a Project, syncs: &[String]) -> Result<Vec<&'a MappingFile>> {
    syncs.iter().try_for_each(|sync| open::exists(project, sync))?;
    let is_selected = |file: &&MappingFile| syncs.is_empty() || syncs.contains(&file.mapping.name);
    Ok(project.mappings.iter().filter(is_selected).collect())
}

/// The views of these syncs, each with the next `times` of its schedule.
pub(super) async fn selected_views(
    opened: &Opened,
    files: &[&MappingFile],
    times: usize,
) -> Result<Vec<SyncView>, Failure> {
    let mut views = opened.service.syncs(times).await?;
    views.retain(|view| files.iter().any(|file| file.mapping.name == view.sync));
    Ok(views)
}

/// What the daemon does about a sync.
fn doing(view: &SyncView) -> String {
    let Some(activity) = &view.activity else { return String::new() };
    match (activity.state, &activity.running) {
        (ActivityState::Running, Some(progress)) => match progress.candidates {
            Some(candidates) if candidates > 0 => {
                format!("{} {} of {}", progress.phase, thousands(progress.done), thousands(candidates))
            }
            _ => progress.phase.clone(),
        },
        (ActivityState::Running, None) => "running".to_owned(),
        (ActivityState::Queued, _) => "queued".to_owned(),
        (ActivityState::Paused, _) => "paused".to_owned(),
        (ActivityState::BackingOff, _) => {
            format!("backing off after {}", plural(u64::from(activity.failures), "failure"))
        }
        (ActivityState::Scheduled, _) => "scheduled".to_owned(),
        (ActivityState::Manual, _) => "manual".to_owned(),
        (ActivityState::Disabled, _) => "disabled".to_owned(),
    }
}

/// When a sync is started next by itself.
fn next(view: &SyncView) -> String {
    let Some(activity) = view.activity.as_ref().filter(|activity| activity.state != ActivityState::Paused) else {
        return String::new();
    };
    let scheduled = view.schedule.as_ref().and_then(|schedule| schedule.next.first()).map(|fire| fire.utc);
    activity.next_attempt_at.or(scheduled).map_or_else(String::new, when)
}

pub(super) async fn runs(cli: &Cli, sync: Option<&str>, number: u64) -> Result<u8, Failure> {
    let project = Arc::new(open::project(&cli.folder)?);
    if let Some(sync) = sync {
        open::exists(&project, sync)?;
    }
    let runs = service::open(&project, Access::Read).await?.service.runs(sync, None, number).await?;
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
            thousands(counts.said.delivered + counts.removed.delivered),
            thousands(counts.said.rejected + counts.removed.rejected),
            thousands(counts.open()),
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
    let project = Arc::new(open::project(&cli.folder)?);
    open::exists(&project, sync)?;
    let opened = service::open(&project, Access::Read).await?;
    let found = match opened.service.group(sync, key, None, number).await {
        Err(missing @ ServiceError::NotFound(_)) => Err(missing),
        found => Ok(found?),
    };
    let remote = match remote {
        true => {
            let file = open::named(&project, sync)?;
            Some(remote::look(&project, file, key).await.within(|| format!("sync {sync}"))?)
        }
        false => None,
    };
    let group = match found {
        Ok(group) => group,
        Err(missing) if !remote.as_ref().is_some_and(remote::Remote::exists) => return Err(missing.into()),
        Err(_) => GroupView {
            sync: sync.to_owned(),
            key: key.to_owned(),
            synced: false,
            unconfirmed_in: None,
            rejected: None,
            traits: BTreeMap::new(),
            history: Vec::new(),
            unreadable: None,
        },
    };
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
    if !group.synced {
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
    let project = Arc::new(open::project(&cli.folder)?);
    let found = service::open(&project, Access::Read).await?.service.run(run).await?;
    if cli.json {
        print_json(&serde_json::to_value(&found).unwrap_or_default());
        return Ok(0);
    }
    let RunDetail { run, detail, progress, rejected } = &found;
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
            thousands(progress.done)
        )?;
    }
    if let Some(counts) = &run.counts {
        let said = &counts.said;
        writeln!(
            out,
            "\n{} = {} unchanged + {} delivered + {} rejected + {} not sent + {} unknown",
            plural(counts.rows, "row"),
            thousands(counts.unchanged),
            thousands(said.delivered),
            thousands(said.rejected),
            thousands(said.not_sent),
            thousands(said.unknown),
        )?;
        if counts.removed.total() > 0 {
            let removed = &counts.removed;
            writeln!(
                out,
                "of {} that left the model: {} removed, {} rejected, {} not sent, {} unknown",
                plural(removed.total(), "group"),
                thousands(removed.delivered),
                thousands(removed.rejected),
                thousands(removed.not_sent),
                thousands(removed.unknown),
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
    let project = Arc::new(open::project(&cli.folder)?);
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
    let opened = service::open(&project, Access::Read).await?;
    let mut table = screen::table(&["sync", "group", "since", "reason"]);
    let mut all = Vec::new();
    for sync in syncs {
        for group in opened.service.rejected(Some(sync), None, number).await? {
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
    let project = Arc::new(open::project(&cli.folder)?);
    match asked {
        LedgerCommand::Adopt { sync } => adopt(cli, &project, sync).await,
        LedgerCommand::Export { sync } => {
            open::exists(&project, sync)?;
            let opened = service::open(&project, Access::Read).await?;
            let mut unreadable = Vec::new();
            let mut out = std::io::BufWriter::new(std::io::stdout());
            let mut write = |group: ExportedGroup| -> std::io::Result<()> {
                serde_json::to_writer(&mut out, &group)?;
                out.write_all(b"\n")?;
                if group.unreadable.is_some() {
                    unreadable.push(group.key);
                }
                Ok(())
            };
            let groups = opened.service.export(sync).await?;
            groups.for_each(|group| written(screen::unless_closed(write(group)))).await?;
            written(screen::unless_closed(out.flush()))?;
            drop(out);
            all_readable(sync, &unreadable).map(|()| 0)
        }
        LedgerCommand::Backup { file } => {
            let copied = match open::backup(&project, file).await {
                Err(busy) if busy.kind() == Kind::LedgerBusy => {
                    RemoteService::find(&project, busy).await?.backup(file).await?
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
            let opened = service::open(&project, Access::Write("groupcast ledger reset")).await?;
            if !*yes {
                let synced = opened
                    .service
                    .syncs(0)
                    .await?
                    .iter()
                    .find(|view| view.sync == *sync)
                    .map_or(0, |view| view.groups.synced);
                if !confirmed(sync, group.as_deref(), synced, *forget)? {
                    let error = Error::new(Kind::Config, "nothing was reset");
                    return Err(error.advise("answer `yes`, or add `--yes`").into());
                }
            }
            let count = opened.service.reset(sync, group.as_deref(), *forget).await?;
            if cli.json {
                print_json(&json!({"sync": sync, "groups": count, "forgotten": forget}));
            } else {
                let what = if *forget { "forgotten" } else { "will be resent in full by the next run" };
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
    let what = if forget { "forget" } else { "resend in full" };
    write!(screen::stderr(), "{what} {whom} of {sync}? Type `yes`: ")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

async fn adopt(cli: &Cli, project: &Arc<Project>, sync: &str) -> Result<u8, Failure> {
    let file = open::named(project, sync)?;
    let opened = service::open(project, Access::Write("groupcast ledger adopt")).await?;
    let adopted = opened.service.adopt(sync).await?.for_each(|()| Ok(())).await?;
    if cli.json {
        print_json(&json!({"sync": sync, "adopted": adopted}));
    } else {
        writeln!(
            screen::stdout(),
            "{sync}: {} marked as synced at {}; the next run sends what changes from now on",
            plural(adopted, "group"),
            file.mapping.destination
        )?;
    }
    Ok(0)
}
