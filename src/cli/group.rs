//! `groupcast group`: one group with its synced state, its history, and the requests that are kept of it.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use super::args::Cli;
use super::ledger::all_readable;
use super::only_sync::only_sync;
use super::screen::{self, ADD, BOLD, CHANGE, DIM, REMOVE, paint, when};
use super::service::{self, Access};
use super::table::Table;
use super::text::{after_key, is_shortened, shown_key, shown_value};
use super::{group_requests, print_json, remote};
use crate::error::{Error, Kind, Within};
use crate::model::Document;
use crate::service::api::ServiceError;
use crate::service::open::{self, Failure};
use crate::service::views::GroupView;
use crate::service::views::words::one_line;

/// What is shown beside what the ledger has.
#[derive(Clone, Copy)]
pub(super) struct Beside {
    /// What the destination holds.
    pub(super) remote: bool,
    /// The requests that the group was in last.
    pub(super) requests: bool,
}

pub(super) async fn group(
    cli: &Cli,
    named: Option<&str>,
    key: &str,
    number: u64,
    beside: Beside,
) -> Result<u8, Failure> {
    let project = Arc::new(super::read_project(cli)?);
    if named.is_none() && project.names().contains(&key) {
        let error = Error::new(Kind::Config, format!("`{key}` is a sync, and the group's key is missing"));
        return Err(error.advise(format!("write `groupcast group {key} KEY`")).into());
    }
    let sync = only_sync(&project, named, "groupcast group SYNC KEY")?;
    let opened = service::open(cli, &project, Access::Read).await?;
    let found = match opened.service.group(sync, key, None, number).await {
        Err(missing @ ServiceError::NotFound(_)) => Err(missing),
        found => Ok(found?),
    };
    let requests = match beside.requests {
        true => Some(opened.service.requests(sync, key).await?),
        false => None,
    };
    let remote = match beside.remote {
        true => {
            let file = open::named(&project, sync)?;
            Some(remote::look(&project, file, key).await.within(|| format!("sync {sync}"))?)
        }
        false => None,
    };
    let group = match found {
        Ok(group) => group,
        Err(missing)
            if !remote.as_ref().is_some_and(remote::Remote::exists) && requests.as_ref().is_none_or(Vec::is_empty) =>
        {
            return Err(missing.into());
        }
        Err(_) => GroupView {
            sync: sync.to_owned(),
            key: key.to_owned(),
            label: None,
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
        if let Some(requests) = &requests {
            group["requests"] = serde_json::to_value(requests).unwrap_or_default();
        }
        print_json(&group);
        return damaged.map(|()| 0);
    }
    let mut out = screen::stdout();
    writeln!(out, "{}{} in {sync}", paint(BOLD, shown_key(key)), after_key(group.label.as_deref()))?;
    if let Some(what) = &group.unreadable {
        writeln!(out, "{} {what}", paint(REMOVE, "unreadable:"))?;
    }
    if !group.synced {
        let state = if group.history.is_empty() {
            "not synced: this sync has sent nothing about it"
        } else {
            "not synced: removed, or never delivered"
        };
        writeln!(out, "{}", paint(CHANGE, state))?;
    }
    if let Some(run) = &group.unconfirmed_in {
        let state = format!(
            "unconfirmed since run {run}: no response to what was sent; the next run resends the group in full"
        );
        writeln!(out, "{}", paint(CHANGE, state))?;
    }
    if let Some(rejected) = &group.rejected {
        writeln!(out, "{} {}", paint(REMOVE, "rejected:"), one_line(&rejected.reason))?;
    }
    if !group.traits.is_empty() {
        let mut table = Table::new(&["trait", "value", "sent", "run"]).spare(&["run", "sent"]).wraps("value");
        for (name, synced) in &group.traits {
            let sent = synced.sent_at.map_or_else(String::new, when);
            table.add_row([shown_key(name), shown_value(&synced.value), sent, synced.run.clone().unwrap_or_default()]);
        }
        writeln!(out)?;
        table.write(&mut out, screen::width())?;
        if group.traits.values().any(|synced| is_shortened(&synced.value)) {
            writeln!(out, "\n{}", paint(DIM, "values that end in … are longer; `--json` has them whole"))?;
        }
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
    if let Some(requests) = &requests {
        group_requests::show(requests, group.history.first().map(|entry| entry.run.as_str()))?;
    }
    if let Some(remote) = &remote {
        let known = group.traits.iter().map(|(name, synced)| (name.clone(), synced.value.clone()));
        remote.show(&Document(known.collect()))?;
    }
    damaged.map(|()| 0)
}
