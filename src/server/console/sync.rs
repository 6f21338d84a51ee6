//! The page of a sync: its state, runs, guards and mapping, and the forms that command it.

use axum::extract::Path;
use axum::response::Response;
use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::badge::{run_status, state_badge};
use super::context::PageContext;
use super::format::{age, distance, plural, thousands, time};
use super::guards::{readings, stopped_by_guard};
use super::issues::last_run_issue;
use super::layout::{NavItem, PageContent, breadcrumbs, definition_list};
use super::links::{destination_path, group_search, run_path, sync_path, with_query};
use super::progress::progress;
use super::runs::{charts, runs_table};
use super::schedule::{scheduled_time, starts_at};
use super::text::shown_line;
use super::{mapping, mirror, respond, retry};
use crate::ledger::RunStatus;
use crate::service::api::ServiceResult;
use crate::service::views::{ActivityState, SyncView};

/// Runs in the table; the charts show more.
const RUNS_SHOWN: usize = 12;

/// `GET /syncs/{sync}`.
pub(super) async fn page(context: PageContext, Path(sync): Path<String>) -> Response {
    let page = build(&context, &sync).await;
    respond::page(&context, page)
}

async fn build(context: &PageContext, name: &str) -> ServiceResult<PageContent> {
    let detail = context.service.sync(name).await?;
    let (sync, now) = (&detail.sync, context.now);
    let activity = sync.activity.as_ref();
    let last = sync.last_run.as_ref();
    let guarded = last.filter(|run| run.status == RunStatus::StoppedByGuard);
    let guards = detail.last.as_ref().map(|last| last.guards.as_slice()).unwrap_or_default();
    let busy = activity.is_some_and(|activity| activity.running.is_some() || activity.queued.is_some());
    let body = html! {
        (breadcrumbs(&[("/", "Overview")], &sync.sync))
        div id="head" {
            h1 { bdi { (shown_line(&sync.sync)) } " " (badges(sync)) }
            p class="soft" {
                bdi { (shown_line(&sync.source)) } " → "
                a href=(destination_path(&sync.destination)) { bdi { (shown_line(&sync.destination)) } } " ("
                (shown_line(&sync.destination_type)) "), group type " bdi { (shown_line(&sync.group_type)) }
            }
        }
        (actions(context, sync, detail.mapping.cursor.is_some()))
        (issue(context, sync))
        @if let Some(run) = guarded {
            (stopped_by_guard(context, run, guards, detail.mapping.cursor.is_some()))
        }
        div id="now" { (current_runs(context, sync)) }
        section id="status" aria-labelledby="status-h" {
            h2 id="status-h" { "Status" }
            (status(now, sync))
        }
        (mirror::section(now, sync, detail.last.as_ref().and_then(|last| last.mirror.as_ref())))
        (group_search(&sync.sync, None))
        section id="history" aria-labelledby="history-h" {
            h2 id="history-h" { "Runs" }
            @if detail.runs.is_empty() {
                p class="empty" { "No runs yet. Review the plan, then press “Run now”." }
            } @else {
                (charts(now, &detail.runs))
                @let latest = &detail.runs[..detail.runs.len().min(RUNS_SHOWN)];
                (runs_table(now, "runs", "Latest runs, newest first", latest, false))
                p { a href=(with_query("/runs", &[("sync", &sync.sync)])) { "All runs of this sync" } }
            }
        }
        section id="guards" aria-labelledby="guards-h" {
            h2 id="guards-h" { "Guards" }
            @if detail.last.is_some() { (readings(guards)) }
            @else if detail.runs.is_empty() { p class="soft" { "Guards are evaluated by the first run." } }
            @else { p class="soft" { "No run has evaluated the guards yet." } }
        }
        (mapping::section(&detail.mapping))
    };
    Ok(PageContent::new(name, NavItem::Elsewhere, body).live(busy))
}

/// The issue of the last run; a run stopped by a guard has a section of its own.
fn issue(context: &PageContext, sync: &SyncView) -> Markup {
    let guarded = sync.last_run.as_ref().is_some_and(|run| run.status == RunStatus::StoppedByGuard);
    html! {
        @if let Some(issue) = last_run_issue(context.now, sync).filter(|_| !guarded) {
            section id="issue" class={ "notice " (issue.tone) } aria-label="Last run" { (issue.html(sync, false)) }
        }
    }
}

/// The badges of the heading: what the daemon does about the sync, and the last run's status when it is bad.
fn badges(sync: &SyncView) -> Markup {
    let bad = sync.last_run.as_ref().map(|run| run_status(run.status)).filter(|badge| badge.tone == "bad");
    html! {
        (state_badge(sync).html())
        @if let Some(badge) = bad { " " (badge.html()) }
    }
}

fn actions(context: &PageContext, sync: &SyncView, incremental: bool) -> Markup {
    let path = sync_path(&sync.sync);
    let paused = sync.activity.as_ref().is_some_and(|activity| activity.state == ActivityState::Paused);
    let run = format!("{path}/run");
    html! {
        div class="actions" role="group" aria-label="Actions" {
            (context.post_form(&run, html! {}, html! { button class="primary" { "Run now" } }))
            a class="button" href={ (path) "/plan" } rel="nofollow" data-slow="Reading the source…" { "Plan" }
            @if incremental {
                (context.post_form(&run, html! { input type="hidden" name="full" value="1"; },
                    html! { button { "Full run" } }))
            }
            @if sync.groups.rejected > 0 {
                (retry::of_all(context, &sync.sync, html! { "Retry " (thousands(sync.groups.rejected)) " rejected…" }))
            }
            @if paused {
                (context.post_form(&format!("{path}/resume"), html! {}, html! { button { "Resume" } }))
            } @else if sync.enabled {
                (context.post_form(&format!("{path}/pause"), html! {}, html! { button { "Pause" } }))
            }
        }
    }
}

fn current_runs(context: &PageContext, sync: &SyncView) -> Markup {
    let running = sync.activity.as_ref().and_then(|activity| activity.running.as_ref());
    let queued = sync.activity.as_ref().and_then(|activity| activity.queued.as_ref());
    let holder = sync.activity.as_ref().and_then(|activity| activity.holder.as_ref());
    html! {
        @if let Some(running) = running {
            section class="card" aria-labelledby="running-h" {
                h2 id="running-h" { a href=(run_path(&running.run)) { "Current run" } " "
                    span class="soft" { "started " (age(context.now, running.started_at)) " by "
                        (shown_line(&running.started_by))
                        @if let Some(holder) = holder { ", at " (shown_line(holder)) } } }
                (progress("progress", running))
            }
        } @else if let Some(holder) = holder {
            section class="card" aria-labelledby="running-h" {
                h2 id="running-h" { "In use " span class="soft" { "at " (shown_line(holder)) } }
            }
        }
        @if let Some(queued) = queued {
            section class="card" aria-labelledby="queued-h" {
                h2 id="queued-h" { a href=(run_path(&queued.run)) { "Queued run" } " "
                    span class="soft" { "since " (time(context.now, queued.since)) } }
                p { (starts_at(context, running.is_some())) }
            }
        }
    }
}

fn status(now: DateTime<Utc>, sync: &SyncView) -> Markup {
    let groups = &sync.groups;
    let mut pairs = vec![
        ("Synced groups", html! { (thousands(groups.synced)) }),
        (
            "Unconfirmed",
            html! {
                (thousands(groups.unconfirmed))
                @if groups.unconfirmed > 0 { span class="soft" { " resent in full by the next run" } }
            },
        ),
        (
            "Rejected",
            html! {
                @if groups.rejected == 0 { "0" }
                @else { a href=(with_query("/rejected", &[("sync", &sync.sync)])) { (thousands(groups.rejected)) } }
            },
        ),
        (
            "Last success",
            match sync.last_success_at {
                Some(at) => time(now, at),
                None => html! { "never" },
            },
        ),
    ];
    if let Some(at) = sync.last_success_at {
        pairs.push(("Lag", html! { (distance(now - at)) }));
    }
    match &sync.schedule {
        None => pairs.push(("Schedule", html! { "manual" })),
        Some(schedule) => {
            let written = html! {
                code { (shown_line(&schedule.expression)) } " " span class="soft" { (shown_line(&schedule.timezone)) }
            };
            pairs.push(("Schedule", written));
            if let Some(since) = schedule.overdue_since {
                pairs.push(("Overdue since", time(now, since)));
            }
            let state = sync.activity.as_ref().map(|activity| activity.state);
            if state == Some(ActivityState::Paused) {
                pairs.push(("Next runs", html! { "none while the sync is paused" }));
            } else if !sync.enabled {
                pairs.push(("Next runs", html! { "none: the mapping sets " code { "enabled = false" } }));
            } else if !schedule.next.is_empty() {
                pairs.push((
                    "Next runs",
                    html! {
                        ol class="plain" {
                            @for at in &schedule.next { li { (scheduled_time(now, at, &schedule.timezone)) } }
                        }
                    },
                ));
            }
        }
    }
    if let Some(activity) = &sync.activity {
        if let Some(at) = activity.paused_since {
            pairs.push(("Paused since", time(now, at)));
        }
        if activity.failures > 0 {
            pairs.push(("Failed in a row", html! { (plural(u64::from(activity.failures), "run")) }));
        }
        if let Some(at) = activity.next_attempt_at {
            pairs.push(("Next retry", time(now, at)));
        }
    }
    definition_list(&pairs)
}
