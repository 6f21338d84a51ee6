//! `groupcast status`: each sync with its groups by state and its last run.

use std::io::Write;
use std::sync::Arc;

use serde_json::json;

use super::args::{Cli, SyncSelection};
use super::orphans::warn_of_renamed;
use super::print_json;
use super::screen::{self, DIM, paint, plural, status_text, thousands, when};
use super::service::{self, Access, Opened};
use super::table::Table;
use crate::config::TargetName;
use crate::mapping::{Compare, MappingFile};
use crate::service::open::Failure;
use crate::service::views::{ActivityState, DaemonView, OrphanedSync, SyncView};

pub(super) async fn status(cli: &Cli, which: &SyncSelection) -> Result<u8, Failure> {
    let project = Arc::new(super::read_project(cli)?);
    super::show_broken(cli, &project);
    let files = which.read()?.files(&project)?;
    let opened = service::open(cli, &project, Access::Read).await?;
    let views = selected_views(&opened, &files, 1).await?;
    let names: Vec<&str> = files.iter().map(|file| file.mapping.name.as_str()).collect();
    let orphaned = warn_of_renamed(opened.service.as_ref(), &names, cli.json).await?;
    let daemons = opened.service.daemons().await?;
    if cli.json {
        let target = project.settings.target.as_ref().map(TargetName::as_str);
        print_json(
            &json!({"target": target, "syncs": views, "daemons": daemons, "broken": super::broken_json(&project), "orphaned": orphaned}),
        );
        return Ok(0);
    }
    let by_daemon = views.iter().any(|view| view.activity.is_some());
    let mut head = vec!["sync", "destination", "synced", "unconfirmed", "rejected", "last run", "ended at"];
    if by_daemon {
        head.extend(["state", "next run"]);
    }
    let by_warehouse = views.iter().any(|view| view.compare == Compare::Warehouse);
    if by_warehouse {
        head.push("mirror");
    }
    let mut table = Table::new(&head).spare(&["mirror", "ended at", "destination", "unconfirmed", "next run"]);
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
        if by_warehouse {
            row.push(mirror(view));
        }
        table.add_row(row);
    }
    let mut out = screen::stdout();
    table.write(&mut out, screen::width())?;
    for OrphanedSync { sync, groups, .. } in &orphaned {
        let what = format!("{sync}: {} without a mapping", plural(groups.synced, "synced group"));
        writeln!(out, "\n{what}; `groupcast ledger rename {sync} NAME` or `groupcast ledger drop {sync}`")?;
    }
    if project.settings.state.database.is_some() && !daemons.is_empty() {
        writeln!(out)?;
        for daemon in &daemons {
            writeln!(out, "{}", about_daemon(daemon))?;
        }
    }
    if let Some(source) = &opened.source {
        writeln!(out, "\n{}", paint(DIM, format!("source: {source}")))?;
    }
    Ok(0)
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

/// The mirror of a sync that its warehouse is to compare: its keys, and whether it is behind.
fn mirror(view: &SyncView) -> String {
    match &view.mirror {
        _ if view.compare == Compare::Local => String::new(),
        None => "none".to_owned(),
        Some(mirror) => {
            let keys = plural(mirror.keys, "key");
            match (mirror.unmirrored, mirror.behind_since) {
                (0, _) => keys,
                (waiting, Some(since)) => format!("{keys}, {} waiting since {}", thousands(waiting), when(since)),
                (waiting, None) => format!("{keys}, {} waiting", thousands(waiting)),
            }
        }
    }
}

/// A daemon in a line.
fn about_daemon(daemon: &DaemonView) -> String {
    let DaemonView { name, process, version, since, draining, running } = daemon;
    let runs = match (running.is_empty(), draining) {
        (true, false) => "idle".to_owned(),
        (true, true) => "draining".to_owned(),
        (false, false) => format!("runs {}", running.join(", ")),
        (false, true) => format!("draining: runs {}", running.join(", ")),
    };
    format!("daemon {name} ({process}, {version}, since {}): {runs}", when(*since))
}

/// What the daemon does about a sync.
fn doing(view: &SyncView) -> String {
    let Some(activity) = &view.activity else { return String::new() };
    let elsewhere = activity.holder.as_ref().map_or_else(String::new, |holder| format!(" at {holder}"));
    match (activity.state, &activity.running) {
        (ActivityState::Running, Some(progress)) => match progress.candidates {
            Some(candidates) if candidates > 0 => {
                format!("{} {} of {}{elsewhere}", progress.phase, thousands(progress.done), thousands(candidates))
            }
            _ if progress.rows_read > 0 => {
                format!("{}, {} read{elsewhere}", progress.phase, plural(progress.rows_read, "row"))
            }
            _ => format!("{}{elsewhere}", progress.phase),
        },
        (ActivityState::Running, None) => format!("running{elsewhere}"),
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
