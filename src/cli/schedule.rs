//! `groupcast schedule`: when does each sync run next, by its schedule and its last run?

use std::io::Write;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::args::{Cli, SyncSelection};
use super::screen::{status_text, when};
use super::service::{self, Access};
use super::status::selected_views;
use super::table::Table;
use super::{print_json, screen};
use crate::io::{Clock, SystemClock};
use crate::ledger::RunStatus;
use crate::mapping::{Mapping, When};
use crate::service::open::Failure;
use crate::service::views::{RunView, SyncView, build};
use crate::time_zone::{self, Zone};

pub(super) async fn schedule(cli: &Cli, which: &SyncSelection, count: usize) -> Result<u8, Failure> {
    let project = Arc::new(super::read_project(cli)?);
    super::show_broken(cli, &project);
    let files = which.read()?.files(&project)?;
    let now = SystemClock::start().now();
    let opened = service::open(cli, &project, Access::Read).await?;
    let views = selected_views(&opened, &files, count).await?;
    if cli.json {
        let all: Vec<Value> = views.iter().map(as_json).collect();
        let broken = super::broken_json(&project);
        print_json(&json!({"now": exact(now), "tzdata": time_zone::version(), "syncs": all, "broken": broken}));
        return Ok(0);
    }
    let mut table = Table::new(&["sync", "schedule", "time zone", "next run", "UTC", "last run"]).spare(&[
        "last run",
        "UTC",
        "time zone",
    ]);
    for view in &views {
        let Some(file) = files.iter().find(|file| file.mapping.name == view.sync) else { continue };
        table.add_row(row(&file.mapping, view, build::zone(&project, &file.mapping)));
    }
    let mut out = screen::stdout();
    if table.is_empty() {
        writeln!(out, "no mappings yet; `groupcast init` writes one")?;
    } else {
        table.write(&mut out, screen::width())?;
        writeln!(out, "\ntime zones from the tz database {}", time_zone::tables())?;
        if opened.source.is_none() {
            writeln!(out, "\nNo daemon is running: `groupcast daemon` keeps these schedules.")?;
        }
    }
    Ok(0)
}

fn exact(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn as_json(view: &SyncView) -> Value {
    let schedule = view.schedule.as_ref();
    let next = schedule.map(|schedule| schedule.next.iter());
    let next = next.into_iter().flatten().map(|fire| json!({"local": fire.local, "utc": exact(fire.utc)}));
    json!({"sync": view.sync, "enabled": view.enabled, "schedule": schedule.map(|schedule| &schedule.expression),
        "timezone": schedule.map(|schedule| &schedule.timezone),
        "overdue_since": schedule.and_then(|schedule| schedule.overdue_since).map(exact),
        "next": next.collect::<Vec<_>>(), "last_run": view.last_run})
}

fn row(mapping: &Mapping, view: &SyncView, zone: Zone) -> [String; 6] {
    let (mut local, mut utc) = (Vec::new(), Vec::new());
    let next = view.schedule.as_ref().map(|schedule| schedule.next.as_slice()).unwrap_or_default();
    match (&mapping.schedule, &view.schedule) {
        _ if !mapping.enabled => local.push("disabled".to_owned()),
        (Some(schedule), Some(view_of)) => {
            if let Some(since) = view_of.overdue_since {
                let never_ran = view.last_run.is_none();
                let failed = |run: &RunView| {
                    !matches!(
                        run.status,
                        RunStatus::Succeeded
                            | RunStatus::SucceededWithRejections
                            | RunStatus::Running
                            | RunStatus::Crashed
                    )
                };
                local.push(match &view.last_run {
                    None => "immediately: it never ran".to_owned(),
                    // It was tried: when it is tried again depends on how it failed.
                    Some(last) if failed(last) => "overdue".to_owned(),
                    Some(_) => "immediately: overdue".to_owned(),
                });
                utc.push(if never_ran { String::new() } else { format!("since {}", when(since)) });
            }
            if let When::After(other) = &schedule.when {
                local.push(format!("after {other} succeeds"));
            } else if next.is_empty() {
                local.push("never again".to_owned());
            }
        }
        _ => local.push("manual: no schedule".to_owned()),
    }
    for fire in next {
        local.push(fire.utc.with_timezone(&zone).format("%a %Y-%m-%d %H:%M:%S %:z").to_string());
        utc.push(when(fire.utc));
    }
    let last = view.last_run.as_ref().map_or_else(
        || "never".to_owned(),
        |run| format!("{} {}", when(run.ended_at.unwrap_or(run.started_at)), status_text(run.status)),
    );
    let written = view.schedule.as_ref().map(|schedule| schedule.expression.clone()).unwrap_or_default();
    let zone = if mapping.schedule.is_some() { zone.name().to_owned() } else { String::new() };
    [mapping.name.clone(), written, zone, local.join("\n"), utc.join("\n"), last]
}
