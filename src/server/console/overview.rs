//! The overview: what needs attention, what is running, what runs next, and all syncs. The page for three in the morning.

use axum::extract::RawQuery;
use axum::response::Response;
use maud::{Markup, html};

use super::context::PageContext;
use super::format::{age, distance};
use super::issues::{Issue, issues};
use super::layout::{NavItem, PageContent};
use super::links::{run_path, sync_path};
use super::params::Params;
use super::progress::progress;
use super::schedule::scheduled_time;
use super::text::{prose, sentence, shown, shown_line};
use super::{day, respond, sync_list};
use crate::service::api::{ServiceResult, SyncError};
use crate::service::views::{ActivityState, DaemonView, ScheduledTime, SyncView};

/// Runs in a sparkline.
const SPARK_RUNS: u64 = 16;
/// Times shown under "Next".
const NEXT_SHOWN: usize = 5;

/// `GET /`, with the fields of [`SyncFilter`](super::sync_filter::SyncFilter).
pub(super) async fn page(context: PageContext, query: RawQuery) -> Response {
    let page = build(&context, &Params::of_query(&query)).await;
    respond::page(&context, page)
}

async fn build(context: &PageContext, params: &Params) -> ServiceResult<PageContent> {
    let syncs = context.service.syncs(day::TIMES).await?;
    if syncs.is_empty() && context.about.sync_errors.is_empty() {
        return Ok(PageContent::new("Overview", NavItem::Overview, no_syncs()).live(false));
    }
    let latest = context.service.latest_runs(SPARK_RUNS).await?;
    let daemons = context.service.daemons().await?;
    let mut found: Vec<(&SyncView, Issue)> =
        syncs.iter().flat_map(|sync| issues(context.now, sync).into_iter().map(move |issue| (sync, issue))).collect();
    // Failures before warnings; within those by name.
    found.sort_by_key(|(_, issue)| issue.tone != "bad");
    let day = day::section(context, &syncs).await?;
    let busy = syncs.iter().any(|sync| matches!(state(sync), Some(ActivityState::Running | ActivityState::Queued)));
    let body = html! {
        h1 { "Overview" }
        (attention(&context.about.sync_errors, &found))
        div class="two" {
            (running(context, &syncs, &daemons))
            (next(context, &syncs))
        }
        (day)
        (sync_list::section(context, params, &syncs, &latest))
    };
    Ok(PageContent::new("Overview", NavItem::Overview, body).live(busy))
}

fn no_syncs() -> Markup {
    html! {
        h1 { "Overview" }
        section class="empty" aria-label="No syncs yet" {
            p { strong { "No syncs yet." } }
            ol {
                li { code { "groupcast init" } " writes a configuration and a mapping to start from." }
                li { "Edit them: the source, the destination, which column becomes which trait." }
                li {
                    code { "groupcast check" } " lists what is still wrong. The daemon reloads the files automatically."
                }
            }
        }
    }
}

fn state(sync: &SyncView) -> Option<ActivityState> {
    sync.activity.as_ref().map(|activity| activity.state)
}

fn attention(errors: &[SyncError], found: &[(&SyncView, Issue)]) -> Markup {
    html! {
        section id="attention" aria-labelledby="attention-h" {
            h2 id="attention-h" { "Needs attention" }
            @if errors.is_empty() && found.is_empty() {
                p class="calm" { span aria-hidden="true" { "✓ " } "Nothing needs attention." }
            } @else {
                ul class="issues" {
                    @for error in errors { li class="notice bad" { (sync_error(error)) } }
                    @for (sync, issue) in found {
                        li class={ "notice " (issue.tone) } { (issue.html(sync, true)) }
                    }
                }
            }
        }
    }
}

/// A sync whose mapping has errors.
fn sync_error(error: &SyncError) -> Markup {
    html! {
        p {
            span class="sign" aria-hidden="true" { "✕" } " "
            strong { bdi { (shown_line(&error.sync)) } } ": "
            @if error.runs { "The mapping has errors; the sync runs with its last good version." }
            @else { "The mapping has errors; the sync does not run." }
        }
        p class="message" { (shown(&error.error)) }
        p class="do" {
            @if let Some(advice) = &error.advice { (prose(&sentence(advice))) " " }
            "Correct " code { (shown_line(&error.file)) } "; it is reloaded automatically."
        }
    }
}

fn running(context: &PageContext, syncs: &[SyncView], daemons: &[DaemonView]) -> Markup {
    let active = || syncs.iter().filter_map(|sync| Some((sync, sync.activity.as_ref()?)));
    let running: Vec<_> = active()
        .filter_map(|(sync, activity)| Some((sync, activity.running.as_ref()?, activity.holder.as_ref())))
        .collect();
    let queued: Vec<_> = active().filter_map(|(sync, activity)| Some((sync, activity.queued.as_ref()?))).collect();
    let elsewhere: Vec<_> = active()
        .filter(|(_, activity)| activity.running.is_none())
        .filter_map(|(sync, activity)| Some((sync, activity.holder.as_ref()?)))
        .collect();
    html! {
        section id="running" aria-labelledby="running-h" {
            h2 id="running-h" { "Running now" }
            @if running.is_empty() && queued.is_empty() && elsewhere.is_empty() {
                p class="calm" { "No run is in progress." }
            }
            @for (index, (sync, run, holder)) in running.iter().enumerate() {
                article class="card" {
                    h3 {
                        a href=(run_path(&run.run)) { bdi { (shown_line(&sync.sync)) } }
                        " " span class="soft" { "started " (age(context.now, run.started_at)) " by "
                            (shown_line(&run.started_by))
                            @if let Some(holder) = holder { ", at " (shown_line(holder)) } }
                    }
                    (progress(&format!("progress-{index}"), run))
                }
            }
            @for (sync, holder) in &elsewhere {
                article class="card" {
                    h3 {
                        a href=(sync_path(&sync.sync)) { bdi { (shown_line(&sync.sync)) } }
                        " " span class="soft" { "at " (shown_line(holder)) }
                    }
                }
            }
            @for (sync, run) in &queued {
                article class="card" {
                    h3 {
                        a href=(run_path(&run.run)) { bdi { (shown_line(&sync.sync)) } }
                        " " span class="soft" { "queued for " (distance(context.now - run.since)) }
                    }
                }
            }
            @if daemons.len() > 1 || daemons.iter().any(|daemon| daemon.draining) {
                (daemon_list(context, daemons))
            }
        }
    }
}

/// The daemons that share the ledger.
fn daemon_list(context: &PageContext, daemons: &[DaemonView]) -> Markup {
    html! {
        h3 { "Daemons" }
        ul class="plain" {
            @for daemon in daemons {
                li {
                    strong { bdi { (shown_line(&daemon.name)) } }
                    " " span class="soft" {
                        (shown_line(&daemon.process)) ", " (shown_line(&daemon.version)) ", started "
                        (age(context.now, daemon.since))
                        @if context.about.name.as_ref() == Some(&daemon.name) { ", this one" }
                    }
                    ": "
                    @if daemon.draining { "draining" @if !daemon.running.is_empty() { ", " } }
                    @if !daemon.running.is_empty() { "runs " (shown_line(&daemon.running.join(", "))) }
                    @else if !daemon.draining { "idle" }
                }
            }
        }
    }
}

fn next(context: &PageContext, syncs: &[SyncView]) -> Markup {
    let starts = |sync: &&SyncView| {
        !matches!(state(sync), Some(ActivityState::Paused | ActivityState::Disabled)) && sync.enabled
    };
    let mut times: Vec<(&SyncView, &ScheduledTime, &str)> = (syncs.iter().filter(starts))
        .filter_map(|sync| Some((sync, sync.schedule.as_ref()?)))
        .flat_map(|(sync, schedule)| schedule.next.iter().map(move |at| (sync, at, schedule.timezone.as_str())))
        .collect();
    times.sort_by_key(|(_, at, _)| at.utc);
    times.truncate(NEXT_SHOWN);
    html! {
        section id="next" aria-labelledby="next-h" {
            h2 id="next-h" { "Next" }
            @if times.is_empty() {
                p class="calm" { "No run is scheduled: syncs are manual, follow another one, or are paused." }
            } @else {
                ol class="plain next" {
                    @for (sync, at, time_zone) in &times {
                        li {
                            a href=(sync_path(&sync.sync)) { bdi { (shown_line(&sync.sync)) } } " "
                            (scheduled_time(context.now, at, time_zone))
                        }
                    }
                }
            }
        }
    }
}
