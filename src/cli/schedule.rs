//! `groupcast schedule`: when does each sync run next, by its schedule and its last run?

use std::io::Write;

use chrono::{DateTime, SecondsFormat, Utc};
use chrono_tz::Tz;
use serde_json::{Value, json};

use super::args::Cli;
use super::groups::{run_json, status_text, when};
use super::{print_json, screen};
use crate::config::Project;
use crate::env::{Clock, SystemClock};
use crate::error::{Result, Within};
use crate::ledger::{Ledger, RunRecord, Status};
use crate::mapping::{Mapping, When};
use crate::open::{self, Failure};
use crate::schedule::Plan;
use crate::schedule::timetable::{Checkpoint, Recorded, Timetable};

/// How many runs are looked through for the last one of a followed sync that ended well.
const RUNS_LOOKED_AT: u64 = 1_000;

/// What is told about one sync.
struct Told {
    /// The moment since which a run is overdue.
    overdue: Option<DateTime<Utc>>,
    next: Vec<DateTime<Utc>>,
    last: Option<RunRecord>,
    zone: Tz,
}

pub(super) async fn schedule(cli: &Cli, syncs: &[String], count: usize) -> Result<u8, Failure> {
    let project = open::project(&cli.folder)?;
    let files = if syncs.is_empty() { project.mappings.iter().collect() } else { open::chosen(&project, syncs)? };
    let ledger = open::ledger_to_read(&project).await?;
    let now = SystemClock::start().now();
    let mut table = screen::table(&["sync", "schedule", "zone", "next", "UTC", "last run"]);
    let mut all = Vec::new();
    for file in files {
        let mapping = &file.mapping;
        let told = told(&project, mapping, &ledger, now, count).await.within(|| format!("sync {}", mapping.name))?;
        if cli.json {
            all.push(as_json(mapping, &told));
        } else {
            table.add_row(row(mapping, &told));
        }
    }
    if cli.json {
        print_json(&json!({"now": exact(now), "syncs": all}));
        return Ok(0);
    }
    let mut out = anstream::stdout().lock();
    if table.is_empty() {
        writeln!(out, "there are no mappings; `groupcast init` writes one")?;
    } else {
        writeln!(out, "{table}\n\nNothing runs schedules yet: run `groupcast run` from cron or a CI job.")?;
    }
    Ok(0)
}

async fn told(
    project: &Project,
    mapping: &Mapping,
    ledger: &impl Ledger,
    now: DateTime<Utc>,
    count: usize,
) -> Result<Told> {
    let zone = project.settings.daemon.zone();
    let last = ledger.runs(Some(&mapping.name), 1).await?.pop();
    let zone_shown = mapping.schedule.as_ref().and_then(|schedule| schedule.timezone).unwrap_or(zone);
    let Some(plan) = Plan::of(mapping, zone)? else {
        return Ok(Told { overdue: None, next: Vec::new(), last, zone: zone_shown });
    };
    let followed_ended_at = match mapping.schedule.as_ref().map(|schedule| &schedule.when) {
        Some(When::After(other)) => {
            let runs = ledger.runs(Some(other), RUNS_LOOKED_AT).await?;
            let well = |run: &&RunRecord| matches!(run.status, Status::Delivered | Status::SomeRejected);
            runs.iter().find(well).and_then(|run| run.ended_at)
        }
        _ => None,
    };
    let recorded = last.as_ref().map(|run| Recorded { started_at: run.started_at, ended_at: run.ended_at });
    let mut timetable = Timetable::resume(plan, Checkpoint { last: recorded, followed_ended_at }, now);
    let next = timetable.upcoming(now, count);
    Ok(Told { overdue: timetable.look(now).due, next, last, zone: zone_shown })
}

fn exact(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// The schedule as a person wrote it, its refinements included.
fn written(mapping: &Mapping) -> Option<String> {
    let schedule = mapping.schedule.as_ref()?;
    let jitter = crate::mapping::units::written(schedule.jitter);
    Some(if schedule.jitter.is_zero() {
        schedule.when.to_string()
    } else {
        format!("{} + up to {jitter}", schedule.when)
    })
}

fn as_json(mapping: &Mapping, told: &Told) -> Value {
    let zoned = |at: &DateTime<Utc>| at.with_timezone(&told.zone).to_rfc3339_opts(SecondsFormat::Secs, false);
    let next = told.next.iter().map(|at| json!({"local": zoned(at), "utc": exact(*at)}));
    json!({"sync": mapping.name, "enabled": mapping.enabled, "schedule": written(mapping),
        "timezone": mapping.schedule.as_ref().map(|_| told.zone.name()), "overdue_since": told.overdue.map(exact),
        "next": next.collect::<Vec<_>>(), "last_run": told.last.as_ref().map(run_json)})
}

fn row(mapping: &Mapping, told: &Told) -> [String; 6] {
    let (mut local, mut utc) = (Vec::new(), Vec::new());
    match &mapping.schedule {
        _ if !mapping.enabled => local.push("disabled".to_owned()),
        None => local.push("never: no schedule".to_owned()),
        Some(schedule) => {
            if let Some(since) = told.overdue {
                let never_ran = told.last.is_none();
                local.push(if never_ran { "at once: it never ran" } else { "at once: overdue" }.to_owned());
                utc.push(if never_ran { String::new() } else { format!("since {}", when(since)) });
            }
            if let When::After(other) = &schedule.when {
                local.push(format!("when {other} ends well"));
            } else if told.next.is_empty() {
                local.push("never again".to_owned());
            }
        }
    }
    for at in &told.next {
        local.push(at.with_timezone(&told.zone).format("%a %Y-%m-%d %H:%M:%S %:z").to_string());
        utc.push(when(*at));
    }
    let last = told.last.as_ref().map_or_else(
        || "never".to_owned(),
        |run| format!("{} {}", when(run.ended_at.unwrap_or(run.started_at)), status_text(run.status)),
    );
    let zone = mapping.schedule.as_ref().map_or_else(String::new, |_| told.zone.name().to_owned());
    [mapping.name.clone(), written(mapping).unwrap_or_default(), zone, local.join("\n"), utc.join("\n"), last]
}
