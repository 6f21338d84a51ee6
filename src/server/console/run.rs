//! The page of a run: its result, its progress, what went wrong, and what to do next.

use axum::extract::{Path, RawQuery};
use axum::response::Response;
use maud::{Markup, html};

use super::badge::{outcome, run_status, sync_state};
use super::context::PageContext;
use super::format::{plural, span, time, time_relative};
use super::guards::{self, stopped_by_guard};
use super::layout::{NavItem, PageContent, breadcrumbs, definition_list};
use super::links::{copy_button, group_link, run_path, sync_path};
use super::next_step::next_step;
use super::params::Params;
use super::progress::progress;
use super::schedule::starts_at;
use super::table::{NarrowLayout, table, text};
use super::text::{long, prose, sentence, shown, shown_line};
use super::{changes, diff, respond, retry, run_comparison, run_counts, run_log, run_requests, run_traits};
use crate::config::Diagnostics;
use crate::ledger::RunStatus;
use crate::mapping::diagnostic::Problem;
use crate::service::api::{ServiceError, ServiceResult};
use crate::service::views::{ActivityState, ChangeView, QueuedRunView, RunDetail, RunProgress, RunView};

/// `GET /runs/{run}`, `?outcome=` and `?from=` for its changes, `?joined=` after a request that joined it.
pub(super) async fn page(context: PageContext, Path(run): Path<String>, query: RawQuery) -> Response {
    let page = build(&context, &run, &Params::of_query(&query)).await;
    respond::page(&context, page)
}

async fn build(context: &PageContext, id: &str, params: &Params) -> ServiceResult<PageContent> {
    let detail = match context.service.run(id).await {
        Ok(detail) => detail,
        Err(error @ ServiceError::NotFound(_)) => return without_record(context, id, params, error).await,
        Err(error) => return Err(error),
    };
    let run = &detail.run;
    let running = run.status == RunStatus::Running;
    if detail.progress.as_ref().is_some_and(|progress| progress.phase == "queued")
        && let Some((queued, behind)) = queued_run(context, &run.sync, id).await
    {
        return Ok(queued_page(context, &run.sync, &queued, behind, params));
    }
    let sync = sync_path(&run.sync);
    let changes = changes::section(context, run, params).await?;
    let previous = run_comparison::previous(context, run).await?;
    let comparison = run_comparison::section(context, run, previous.as_ref().map(|previous| &previous.run));
    let before = previous.as_ref().map(|previous| previous.detail.guards.as_slice());
    let body = html! {
        (breadcrumbs(&[("/", "Overview"), (&sync, &run.sync)], "Run"))
        div id="head" {
            h1 { "Run of " bdi { (shown_line(&run.sync)) } " " (run_status(run.status).html()) }
            (head(context, run))
        }
        (joined(params))
        @if let Some(progress) = &detail.progress { (progress_section(progress)) }
        @if running { (cancel(context, run, detail.progress.as_ref())) } @else { (result(context, &detail).await) }
        @if let Some(counts) = &run.counts { (run_counts::section(&run.sync, counts, run.status)) }
        (run_traits::section(&detail.detail.traits))
        @if !running { (run_requests::section(&detail.detail, run.counts.as_ref())) }
        (run_log::section(context, &detail.detail.log))
        (guards::section(&detail.detail.guards, before))
        (comparison)
        @if !detail.rejected.is_empty() { (rejections(context, &run.sync, &detail.rejected)) }
        (changes)
    };
    let title = format!("Run of {}: {}", run.sync, run_status(run.status).word);
    Ok(PageContent::new(title, NavItem::Elsewhere, body).live(running))
}

fn joined(params: &Params) -> Markup {
    html! {
        @if params.flag("joined") {
            p class="notice plain" role="status" {
                "An equal run was queued already; it has not read the source yet, so your request joined it."
            }
        }
    }
}

fn progress_section(at: &RunProgress) -> Markup {
    html! {
        section id="progress-section" class="card" aria-labelledby="progress-h" {
            h2 id="progress-h" { "Progress" }
            (progress("progress", at))
        }
    }
}

/// A queued run of this id, and whether another run of its sync is in progress.
async fn queued_run(context: &PageContext, sync: &str, id: &str) -> Option<(QueuedRunView, bool)> {
    let activity = context.service.sync(sync).await.ok()?.sync.activity?;
    let behind = activity.running.is_some();
    Some((activity.queued.filter(|queued| queued.run == id)?, behind))
}

/// A run without a record: it is queued, or about to start.
async fn without_record(
    context: &PageContext,
    id: &str,
    params: &Params,
    error: ServiceError,
) -> ServiceResult<PageContent> {
    for sync in context.service.syncs(0).await? {
        let Some(activity) = &sync.activity else { continue };
        if let Some(queued) = activity.queued.as_ref().filter(|queued| queued.run == id) {
            return Ok(queued_page(context, &sync.sync, queued, activity.running.is_some(), params));
        }
        if let Some(running) = activity.running.as_ref().filter(|running| running.run == id) {
            let path = sync_path(&sync.sync);
            let body = html! {
                (breadcrumbs(&[("/", "Overview"), (&path, &sync.sync)], "Run"))
                h1 { "Run of " bdi { (shown_line(&sync.sync)) } " " (run_status(RunStatus::Running).html()) }
                (progress_section(running))
            };
            return Ok(PageContent::new(format!("Run of {}", sync.sync), NavItem::Elsewhere, body).live(true));
        }
    }
    Err(error)
}

fn queued_page(
    context: &PageContext,
    sync: &str,
    queued: &QueuedRunView,
    behind: bool,
    params: &Params,
) -> PageContent {
    let path = sync_path(sync);
    let options = &queued.options;
    let body = html! {
        (breadcrumbs(&[("/", "Overview"), (&path, sync)], "Run"))
        h1 { "Run of " bdi { (shown_line(sync)) } " " (sync_state(ActivityState::Queued).html()) }
        (joined(params))
        p { "Queued since " (time(context.now, queued.since)) ". " (starts_at(context, behind)) }
        @if options.flags().next().is_some() || !options.accept.is_empty() || options.group.is_some() {
            ul {
                @for flag in options.flags() { li { (flag.effect) } }
                @for guard in &options.accept { li { "accepts the guard " code { (shown_line(guard)) } } }
                @if let Some(groups) = &options.group {
                    @match groups.iter().next().filter(|_| groups.iter().len() == 1) {
                        Some(group) => li { "only the group " (group_link(sync, group)) },
                        None => li { "only " (plural(groups.iter().len() as u64, "group")) },
                    }
                }
            }
        }
        div class="actions" role="group" aria-label="Actions" {
            (context.post_form(&format!("{}/cancel", run_path(&queued.run)),
                html! { input type="hidden" name="sync" value=(sync); },
                html! { button { "Cancel this run" } }))
        }
    };
    PageContent::new(format!("Run of {sync}"), NavItem::Elsewhere, body).live(true)
}

fn head(context: &PageContext, run: &RunView) -> Markup {
    let mut pairs = vec![("Started", time(context.now, run.started_at))];
    if let Some(at) = run.ended_at {
        pairs.push(("Finished", time(context.now, at)));
    }
    if let Some(seconds) = run.seconds() {
        pairs.push(("Duration", html! { (span(seconds)) }));
    }
    if !run.started_by.is_empty() {
        pairs.push(("Started by", html! { (shown_line(&run.started_by)) }));
    }
    if let Some(holder) = &run.holder {
        pairs.push(("Runs at", html! { (shown_line(holder)) }));
    }
    pairs.push(("Run ID", html! { code { (shown_line(&run.run)) } " " (copy_button(&run.run, "the run ID")) }));
    definition_list(&pairs)
}

fn cancel(context: &PageContext, run: &RunView, at: Option<&RunProgress>) -> Markup {
    let stopping = at.is_some_and(|at| at.phase == "stopping");
    html! {
        div class="actions" role="group" aria-label="Actions" {
            (context.post_form(&format!("{}/cancel", run_path(&run.run)), html! {}, html! {
                button class=[stopping.then_some("danger")] {
                    (if stopping { "Abort requests in flight" } else { "Cancel this run" })
                }
            }))
            a class="button" href=(run_path(&run.run)) { "Refresh" }
        }
        p class="soft" {
            @if stopping { "Groups of aborted requests are unconfirmed and will be resent in full by the next run." }
            @else { "Changes that were acknowledged are recorded; the next run sends what is pending." }
        }
    }
}

/// Mistakes in a mapping, with its lines.
fn drawn(problems: &[Problem]) -> String {
    Diagnostics::from(problems.to_vec()).render(false).trim_end().to_owned()
}

/// What went wrong with a run that has finished, and what to do next.
async fn result(context: &PageContext, detail: &RunDetail) -> Markup {
    let run = &detail.run;
    // A mapping may have been deleted since; then there is nothing to run.
    let sync = context.service.sync(&run.sync).await.ok();
    let incremental = sync.as_ref().is_some_and(|sync| sync.mapping.cursor.is_some());
    let latest = sync.as_ref().and_then(|sync| sync.sync.last_run.as_ref()).is_some_and(|last| last.run == run.run);
    let again = format!("{}/run", sync_path(&run.sync));
    let tone = run_status(run.status).tone;
    html! {
        @if run.status == RunStatus::StoppedByGuard && latest {
            (stopped_by_guard(context, run, &detail.detail.guards, incremental))
        } @else if run.error.is_some() || run.status == RunStatus::Crashed {
            section class={ "notice " (tone) } aria-label="Error" {
                @if !detail.detail.problems.is_empty() {
                    pre tabindex="0" aria-label="Errors" { (shown(&drawn(&detail.detail.problems))) }
                } @else if let Some(error) = &run.error { p class="message" { (shown(error)) } }
                p { strong { "Next step: " }
                    @if run.status == RunStatus::StoppedByGuard { "None: a later run has taken place." }
                    @else if run.status == RunStatus::Crashed {
                        "Find out why the process ended during this run. The next run recovers: unconfirmed groups will "
                        "be resent in full."
                    }
                    @else if let Some(advice) = &detail.detail.advice { (prose(&sentence(advice))) }
                    @else { (prose(next_step(run.error_kind.as_deref()))) }
                }
            }
        }
        @if latest && matches!(run.status, RunStatus::Failed | RunStatus::Crashed | RunStatus::Incomplete | RunStatus::SucceededWithRejections) {
            div class="actions" role="group" aria-label="Actions" {
                (context.post_form(&again, html! {}, html! { button class="primary" { "Run again" } }))
                @if run.status == RunStatus::SucceededWithRejections {
                    (retry::of_all(context, &run.sync, html! { "Retry rejected…" }))
                }
            }
        }
    }
}

fn rejections(context: &PageContext, sync: &str, rejected: &[ChangeView]) -> Markup {
    let rows: Vec<Vec<Markup>> = (rejected.iter())
        .map(|change| {
            vec![
                group_link(sync, &change.key),
                html! { (outcome(&change.outcome)) },
                html! { span class="message" { (long(change.reason.as_deref().unwrap_or("no error message"))) } },
                html! { (time_relative(context.now, change.at)) },
                html! {
                    details class="long" {
                        summary { (plural(change.change.traits_count() as u64, "trait")) }
                        (diff::change(&change.change, None))
                    }
                },
            ]
        })
        .collect();
    let columns = [text("Group"), text("Outcome"), text("Error message"), text("When"), text("Payload")];
    html! {
        section aria-labelledby="rejections-h" {
            h2 id="rejections-h" { "Rejected groups" }
            (table("rejections", "Groups that this run could not sync", NarrowLayout::Cards, &columns, &rows))
        }
    }
}
