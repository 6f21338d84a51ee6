//! `groupcast ledger`: export, import, backup, reset, adopt, rename, drop.

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use serde_json::json;

use super::args::{Cli, LedgerCommand};
use super::only_sync::only_sync;
use super::screen::{self, plural};
use super::service::{self, Access};
use super::text::{shown_key, written};
use super::{ledger_import, print_json};
use crate::config::Project;
use crate::error::{Error, Kind};
use crate::service::api::Service;
use crate::service::open::{self, Failure};
use crate::service::remote::RemoteService;
use crate::service::views::ExportedGroup;

pub(super) async fn ledger(cli: &Cli, command: &LedgerCommand) -> Result<u8, Failure> {
    let project = Arc::new(super::read_project(cli)?);
    match command {
        LedgerCommand::Adopt { sync } => {
            adopt(cli, &project, only_sync(&project, sync.as_deref(), "groupcast ledger adopt SYNC")?).await
        }
        LedgerCommand::Export { sync } => {
            let sync = only_sync(&project, sync.as_deref(), "groupcast ledger export SYNC")?;
            let opened = service::open(cli, &project, Access::Read).await?;
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
        LedgerCommand::Import { file, replace } => ledger_import::import(cli, &project, file, *replace).await,
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
        LedgerCommand::Rename { from, to } => {
            let opened = service::open(cli, &project, Access::Write("groupcast ledger rename")).await?;
            let groups = opened.service.rename(from, to).await?;
            if cli.json {
                print_json(&json!({"from": from, "to": to, "groups": groups}));
            } else {
                writeln!(screen::stdout(), "{from}: {} now of {to}", plural(groups, "group"))?;
            }
            Ok(0)
        }
        LedgerCommand::Drop { sync, yes } => {
            let opened = service::open(cli, &project, Access::Write("groupcast ledger drop")).await?;
            let orphaned = opened.service.orphaned_syncs().await?;
            let synced = orphaned.iter().find(|orphaned| orphaned.sync == *sync).map_or(0, |found| found.groups.synced);
            if !*yes && !confirmed(sync, "drop what is recorded of", None, synced)? {
                let error = Error::new(Kind::Config, "nothing was dropped");
                return Err(error.advise("confirm with `yes`, or add `--yes`").into());
            }
            let groups = opened.service.drop_sync(sync).await?;
            if cli.json {
                print_json(&json!({"sync": sync, "groups": groups}));
            } else {
                writeln!(screen::stdout(), "{sync}: {} dropped from the ledger", plural(groups, "group"))?;
            }
            Ok(0)
        }
        LedgerCommand::Reset { sync, group, forget, yes } => {
            let sync = only_sync(&project, sync.as_deref(), "groupcast ledger reset SYNC")?;
            let opened = service::open(cli, &project, Access::Write("groupcast ledger reset")).await?;
            if !*yes {
                let synced = opened
                    .service
                    .syncs(0)
                    .await?
                    .iter()
                    .find(|view| view.sync == sync)
                    .map_or(0, |view| view.groups.synced);
                let what = if *forget { "forget" } else { "resend in full" };
                if !confirmed(sync, what, group.as_deref(), synced)? {
                    let error = Error::new(Kind::Config, "nothing was reset");
                    return Err(error.advise("confirm with `yes`, or add `--yes`").into());
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
pub(super) fn all_readable(sync: &str, unreadable: &[String]) -> Result<(), Failure> {
    let Some(first) = unreadable.first() else { return Ok(()) };
    let more = match unreadable.len() - 1 {
        0 => String::new(),
        more => format!(" and {}", plural(more as u64, "other group")),
    };
    let what = format!("the ledger is damaged: group `{}`{more} cannot be read", shown_key(first));
    Err(Error::new(Kind::Ledger, what)
        .advise(format!(
            "`groupcast ledger reset {sync} --group KEY` has the next run resend one in full, which replaces what is damaged"
        ))
        .at(format!("sync {sync}"))
        .into())
}

/// Asks for confirmation on a terminal; without a terminal, nothing is confirmed.
fn confirmed(sync: &str, what: &str, group: Option<&str>, known: u64) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    let whom = group.map_or_else(|| plural(known, "group"), |group| format!("group {}", shown_key(group)));
    write!(screen::stderr(), "{what} {whom} of {sync}? Type `yes`: ")?;
    let mut typed = String::new();
    std::io::stdin().read_line(&mut typed)?;
    Ok(typed.trim() == "yes")
}

async fn adopt(cli: &Cli, project: &Arc<Project>, sync: &str) -> Result<u8, Failure> {
    let file = open::named(project, sync)?;
    let opened = service::open(cli, project, Access::Write("groupcast ledger adopt")).await?;
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
