//! The questions: how do the syncs stand, what was run, what is known of a group, what was rejected — and the ledger's
//! own commands.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::args::{Cli, LedgerCommand};
use super::plan::{shown_key, shown_value};
use super::screen::{self, ADD, BOLD, CHANGE, DIM, Progress, REMOVE, paint, plural, thousands};
use super::{print_json, remote};
use crate::config::Project;
use crate::delivery::{Outside, Signal};
use crate::env::{Clock, Random, SystemClock};
use crate::error::{Error, Kind, Result, Within};
use crate::ledger::{HistoryEntry, KnownGroup, Ledger, RunRecord, Status};
use crate::model::Document;
use crate::open::job::Job;
use crate::open::{self, Failure};
use crate::sync::Options;

/// Groups per page of an export.
const EXPORT_PAGE: u64 = 10_000;

pub(super) fn when(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// Cells of a table stay without colour: the table measures them as they are.
pub(super) fn status_text(status: Status) -> String {
    status.name().replace('_', " ")
}

pub(super) async fn status(cli: &Cli, syncs: &[String]) -> Result<u8, Failure> {
    let project = open::project(&cli.folder)?;
    let files = if syncs.is_empty() { project.mappings.iter().collect() } else { open::chosen(&project, syncs)? };
    let ledger = open::ledger_to_read(&project).await?;
    let mut table = screen::table(&["sync", "destination", "known", "uncertain", "rejected", "last run", "ended"]);
    let mut all = Vec::new();
    for file in files {
        let mapping = &file.mapping;
        let standing = ledger.standing(&mapping.name).await?;
        let last = ledger.runs(Some(&mapping.name), 1).await?.pop();
        if cli.json {
            all.push(json!({"sync": mapping.name, "destination": mapping.destination, "enabled": mapping.enabled,
                "standing": standing, "last_run": last.as_ref().map(run_json)}));
            continue;
        }
        let disabled = if mapping.enabled { String::new() } else { " (disabled)".to_owned() };
        table.add_row([
            format!("{}{disabled}", mapping.name),
            mapping.destination.clone(),
            thousands(standing.known),
            thousands(standing.unsettled),
            thousands(standing.rejected),
            last.as_ref().map_or_else(|| "never".to_owned(), |run| status_text(run.status)),
            last.as_ref().and_then(|run| run.ended_at).map_or_else(String::new, when),
        ]);
    }
    if cli.json {
        print_json(&json!({ "syncs": all }));
    } else {
        writeln!(anstream::stdout().lock(), "{table}")?;
    }
    Ok(0)
}

pub(super) fn run_json(run: &RunRecord) -> Value {
    let counts: Value = serde_json::from_str(&run.counts).unwrap_or(Value::Null);
    json!({"sync": run.sync, "run": run.run, "status": run.status, "started_at": run.started_at.to_rfc3339(),
        "ended_at": run.ended_at.map(|at| at.to_rfc3339()), "counts": counts, "error": run.error})
}

pub(super) async fn runs(cli: &Cli, sync: Option<&str>, number: u64) -> Result<u8, Failure> {
    let project = open::project(&cli.folder)?;
    if let Some(sync) = sync {
        open::named(&project, sync)?;
    }
    let ledger = open::ledger_to_read(&project).await?;
    let runs = ledger.runs(sync, number).await?;
    if cli.json {
        print_json(&json!({"runs": runs.iter().map(run_json).collect::<Vec<_>>()}));
        return Ok(0);
    }
    let mut table =
        screen::table(&["run", "sync", "status", "rows", "delivered", "rejected", "open", "took", "remark"]);
    for run in &runs {
        let counts: Value = serde_json::from_str(&run.counts).unwrap_or(Value::Null);
        let count = |name: &str| counts[name].as_u64().unwrap_or(0);
        let removed = |name: &str| counts["removed"][name].as_u64().unwrap_or(0);
        let both = |name: &str| thousands(count(name) + removed(name));
        let open = count("not_sent") + count("unknown") + removed("not_sent") + removed("unknown");
        let took = run.ended_at.map(|ended| ended.signed_duration_since(run.started_at).num_milliseconds());
        table.add_row([
            run.run.clone(),
            run.sync.clone(),
            status_text(run.status),
            thousands(count("rows")),
            both("delivered"),
            both("rejected"),
            thousands(open),
            took.map_or_else(String::new, |took| format!("{:.1} s", took as f64 / 1000.0)),
            run.error.clone().unwrap_or_default(),
        ]);
    }
    let mut out = anstream::stdout().lock();
    if runs.is_empty() {
        writeln!(out, "no runs yet; `groupcast run` makes the first")?;
    } else {
        writeln!(out, "{table}")?;
    }
    Ok(0)
}

/// When a trait was last said, and by which run.
fn last_said<'a>(history: &'a [HistoryEntry], name: &str) -> Option<&'a HistoryEntry> {
    let said = |entry: &&HistoryEntry| {
        let change = &entry.change;
        entry.outcome == "delivered" && change.names().any(|spoken| spoken == name)
    };
    history.iter().find(said)
}

pub(super) async fn group(cli: &Cli, sync: &str, key: &str, number: u64, remote: bool) -> Result<u8, Failure> {
    let project = open::project(&cli.folder)?;
    let file = open::named(&project, sync)?;
    let ledger = open::ledger_to_read(&project).await?;
    let known = ledger.known(sync, key).await?;
    // Enough history to find when each trait was last said.
    let history = ledger.history(sync, key, number.max(1_000)).await?;
    let remote = match remote {
        true => Some(remote::look(&project, file, key).await.within(|| format!("sync {sync}"))?),
        false => None,
    };
    if known.is_none() && history.is_empty() && !remote.as_ref().is_some_and(remote::Remote::exists) {
        return Err(Error::new(Kind::Config, format!("nothing is known of group `{}` in {sync}", shown_key(key)))
            .advise(format!("`groupcast plan {sync} --group {}` shows whether the source has it", shown_key(key)))
            .into());
    }
    let document = known.as_ref().map(|known| known.document.clone()).unwrap_or_default();
    if cli.json {
        let history = &history[..history.len().min(number as usize)];
        let mut group = group_json(sync, key, known.as_ref(), &document, history);
        if let Some(remote) = &remote {
            group["remote"] = remote.json();
        }
        print_json(&group);
        return Ok(0);
    }
    let mut out = anstream::stdout().lock();
    writeln!(out, "{} in {sync}", paint(BOLD, shown_key(key)))?;
    match &known {
        None if history.is_empty() => writeln!(out, "{}", paint(CHANGE, "this sync has said nothing about it"))?,
        None => writeln!(out, "{}", paint(CHANGE, "removed; the destination is told nothing about it any more"))?,
        Some(KnownGroup { unsettled_in: Some(run), .. }) => writeln!(
            out,
            "{}",
            paint(
                CHANGE,
                format!(
                    "uncertain since run {run}: what was said then may or may not have arrived; the next run says everything again"
                )
            )
        )?,
        Some(_) => {}
    }
    if let Some((_, reason)) = known.as_ref().and_then(|known| known.rejected.as_ref()) {
        writeln!(out, "{} {reason}", paint(REMOVE, "rejected:"))?;
    }
    if !document.0.is_empty() {
        let mut table = screen::table(&["trait", "value", "sent", "run"]);
        for (name, value) in &document.0 {
            let said = last_said(&history, name);
            table.add_row([
                name.clone(),
                shown_value(value),
                said.map_or_else(String::new, |entry| when(entry.at)),
                said.map_or_else(String::new, |entry| entry.run.clone()),
            ]);
        }
        writeln!(out, "\n{table}")?;
    }
    if !history.is_empty() {
        writeln!(out, "\n{}", paint(BOLD, "History"))?;
    }
    for entry in history.iter().take(number as usize) {
        let reason = entry.reason.as_ref().map_or_else(String::new, |reason| format!("  {reason}"));
        writeln!(out, "{}  {}  {}{reason}", when(entry.at), entry.outcome.replace('_', " "), paint(DIM, &entry.run))?;
        for (op, name, value) in entry.change.values() {
            let verb = if op.accumulates() { format!("{} ", op.name()) } else { String::new() };
            writeln!(out, "    {} {name} = {verb}{}", paint(ADD, "+"), shown_value(value))?;
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
        remote.show(&document)?;
    }
    Ok(0)
}

fn group_json(
    sync: &str,
    key: &str,
    known: Option<&KnownGroup>,
    document: &Document,
    history: &[HistoryEntry],
) -> Value {
    let traits: BTreeMap<&String, Value> = document
        .0
        .iter()
        .map(|(name, value)| {
            let said = last_said(history, name);
            let entry = json!({"value": value, "sent_at": said.map(|said| said.at.to_rfc3339()), "run": said.map(|said| &said.run)});
            (name, entry)
        })
        .collect();
    let history: Vec<Value> = history
        .iter()
        .map(|entry| {
            json!({"seq": entry.seq, "run": entry.run, "at": entry.at.to_rfc3339(), "outcome": entry.outcome,
                "reason": entry.reason, "change": entry.change})
        })
        .collect();
    json!({"sync": sync, "key": key, "known": known.is_some(),
        "unsettled_in": known.and_then(|known| known.unsettled_in.as_ref()),
        "rejected": known.and_then(|known| known.rejected.as_ref()).map(|(document, reason)| json!({"document": document.0, "reason": reason})),
        "traits": traits, "history": history})
}

pub(super) async fn rejected(cli: &Cli, sync: Option<&str>, number: u64) -> Result<u8, Failure> {
    let project = open::project(&cli.folder)?;
    let files = match sync {
        Some(sync) => vec![open::named(&project, sync)?],
        None => project.mappings.iter().collect(),
    };
    let ledger = open::ledger_to_read(&project).await?;
    let mut table = screen::table(&["sync", "group", "since", "reason"]);
    let mut all = Vec::new();
    for file in files {
        let sync = &file.mapping.name;
        for group in ledger.rejected(sync, number).await? {
            let Some((document, reason)) = group.rejected else { continue };
            if cli.json {
                all.push(json!({"sync": sync, "key": group.key, "at": group.at.to_rfc3339(), "reason": reason, "document": document.0}));
            } else {
                table.add_row([sync.clone(), shown_key(&group.key), when(group.at), reason]);
            }
        }
    }
    if cli.json {
        print_json(&json!({ "rejected": all }));
        return Ok(0);
    }
    let mut out = anstream::stdout().lock();
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
            open::named(&project, sync)?;
            let ledger = open::ledger_to_read(&project).await?;
            let mut after: Option<String> = None;
            loop {
                let page = ledger.export(sync, after.as_deref(), EXPORT_PAGE).await?;
                let Some(last) = page.last() else { return Ok(0) };
                after = Some(last.key.clone());
                let mut out = std::io::BufWriter::new(std::io::stdout().lock());
                for group in page {
                    let rejected =
                        group.rejected.map(|(document, reason)| json!({"document": document.0, "reason": reason}));
                    writeln!(
                        out,
                        "{}",
                        json!({"sync": sync, "key": group.key, "document": group.document.0,
                            "unsettled_in": group.unsettled_in, "rejected": rejected, "at": group.at.to_rfc3339()})
                    )?;
                }
                out.flush()?;
            }
        }
        LedgerCommand::Reset { sync, group, forget, yes } => {
            open::named(&project, sync)?;
            let ledger = open::ledger(&project).await?;
            let standing = ledger.standing(sync).await?;
            if !*yes && !confirmed(sync, group.as_deref(), standing.known, *forget)? {
                return Err(Error::new(Kind::Config, "nothing was reset")
                    .advise("answer `yes`, or add `--yes`")
                    .into());
            }
            let mark = format!("reset-{}", SystemClock::start().now().format("%Y%m%dT%H%M%SZ"));
            let count = ledger.reset(sync, group.as_deref(), &mark, *forget).await?;
            if cli.json {
                print_json(&json!({"sync": sync, "groups": count, "forgotten": forget}));
            } else {
                let what = if *forget { "forgotten" } else { "said again in full at the next run" };
                writeln!(anstream::stdout().lock(), "{sync}: {} {what}", plural(count, "group"))?;
            }
            Ok(0)
        }
    }
}

/// Asks on a terminal; elsewhere the answer is no.
fn confirmed(sync: &str, group: Option<&str>, known: u64, forget: bool) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    let whom = group.map_or_else(|| plural(known, "group"), |group| format!("group {}", shown_key(group)));
    let what = if forget { "forget" } else { "say again in full" };
    write!(anstream::stderr().lock(), "{what} {whom} of {sync}? Type `yes`: ")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

async fn adopt(cli: &Cli, project: &Project, sync: &str) -> Result<u8, Failure> {
    let file = open::named(project, sync)?;
    let ledger = open::ledger(project).await?;
    let options = Options { started_by: "adoption".to_owned(), ..Options::default() };
    let (_sender, signal) = watch::channel(Signal::Go);
    let job = Job {
        project,
        file,
        ledger: &ledger,
        outside: &Outside::new()?,
        clock: &SystemClock::start(),
        random: &Random::from_entropy(),
        monitor: &Progress::new(sync, true),
        options: &options,
        signal,
    };
    let adopted = job.adopt().await?;
    if cli.json {
        print_json(&json!({"sync": sync, "adopted": adopted}));
    } else {
        writeln!(
            anstream::stdout().lock(),
            "{sync}: {} taken as held by {} already; the next run sends what changes from now on",
            plural(adopted, "group"),
            file.mapping.destination
        )?;
    }
    Ok(0)
}
