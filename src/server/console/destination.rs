//! The page of a destination: its health, how it responded, its last error, and the syncs that use it.

use std::collections::BTreeMap;

use axum::extract::Path;
use axum::response::Response;
use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::badge::run_status;
use super::context::PageContext;
use super::format::{age, plural, thousands, time, time_relative};
use super::health::Health;
use super::layout::{NavItem, PageContent, breadcrumbs, definition_list};
use super::links::{run_path, sync_path, with_query};
use super::run_requests::by_status;
use super::text::{name, shown, shown_line};
use super::{respond, table};
use crate::error::{Error, Kind};
use crate::service::api::{ServiceError, ServiceResult};
use crate::service::views::{RunView, SyncDetail, SyncView};

/// Syncs whose last run is read for its responses.
const READ: usize = 50;
/// Runs of each sync among which the last error is looked for.
const RUNS: u64 = 16;

/// `GET /destinations/{destination}`.
pub(super) async fn page(context: PageContext, Path(destination): Path<String>) -> Response {
    let page = build(&context, &destination).await;
    respond::page(&context, page)
}

async fn build(context: &PageContext, destination: &str) -> ServiceResult<PageContent> {
    let mut syncs = context.service.syncs(0).await?;
    syncs.retain(|sync| sync.destination == destination);
    let Some(first) = syncs.first() else {
        let error = Error::new(Kind::Config, format!("no sync uses a destination `{destination}`"));
        return Err(ServiceError::NotFound(error.advise("the overview lists syncs with their destinations")));
    };
    let mut latest = context.service.latest_runs(RUNS).await?;
    latest.retain(|name, _| syncs.iter().any(|sync| sync.sync == *name));
    let mut details = Vec::new();
    for sync in syncs.iter().take(READ) {
        details.push(context.service.sync(&sync.sync).await?);
    }
    let worst = syncs.iter().map(Health::of).min().unwrap_or(Health::New);
    let responses = responses(&details);
    let body = html! {
        (breadcrumbs(&[("/", "Overview")], destination))
        div id="head" {
            h1 { bdi { (shown_line(destination)) } " " (worst.badge().html()) }
            p class="soft" { "A destination of the type " (shown_line(&first.destination_type))
                ". Its health is the worst of its syncs." }
            (facts(context.now, &syncs))
        }
        (last_error(context.now, latest.values().flatten()))
        section aria-labelledby="responses-h" {
            h2 id="responses-h" { "Responses" }
            @if responses.is_empty() { p class="calm" { "The last runs sent no requests." } }
            @else { (by_status(&responses, "Responses to the last run of each sync, by status")) }
        }
        section aria-labelledby="syncs-h" {
            h2 id="syncs-h" { "Syncs" }
            (table_of(context.now, &syncs))
            p { a href=(with_query("/", &[("destination", destination)])) { "Show them on the overview" } }
        }
    };
    Ok(PageContent::new(destination, NavItem::Elsewhere, body).live(false))
}

fn facts(now: DateTime<Utc>, syncs: &[SyncView]) -> Markup {
    let sum = |of: fn(&SyncView) -> u64| html! { (thousands(syncs.iter().map(of).sum())) };
    definition_list(&[
        ("Syncs", html! { (syncs.len()) }),
        ("Synced groups", sum(|sync| sync.groups.synced)),
        ("Rejected", sum(|sync| sync.groups.rejected)),
        ("Unconfirmed", sum(|sync| sync.groups.unconfirmed)),
        (
            "Last success",
            match syncs.iter().filter_map(|sync| sync.last_success_at).max() {
                Some(at) => time(now, at),
                None => html! { "never" },
            },
        ),
    ])
}

/// Responses to the last runs, by status.
fn responses(syncs: &[SyncDetail]) -> BTreeMap<u16, u64> {
    let mut all = BTreeMap::new();
    for (status, count) in syncs.iter().filter_map(|sync| sync.last.as_ref()).flat_map(|last| &last.by_status) {
        *all.entry(*status).or_default() += count;
    }
    all
}

fn last_error<'a>(now: DateTime<Utc>, runs: impl Iterator<Item = &'a RunView>) -> Markup {
    let refused = runs.filter(|run| run.error_kind.as_deref() == Some(Kind::Destination.name()));
    let last = refused.max_by_key(|run| run.started_at);
    html! {
        section aria-labelledby="error-h" {
            h2 id="error-h" { "Last error" }
            @match last.and_then(|run| Some((run, run.error.as_deref()?))) {
                None => p class="calm" { span aria-hidden="true" { "✓ " } "The destination refused none of the latest runs." },
                Some((run, error)) => div class="notice bad" {
                    p class="message" { (shown(error)) }
                    p class="do" { (time_relative(now, run.started_at)) " · "
                        a href=(run_path(&run.run)) { "Run of " bdi { (shown_line(&run.sync)) } } }
                },
            }
        }
    }
}

fn table_of(now: DateTime<Utc>, syncs: &[SyncView]) -> Markup {
    let rows: Vec<Vec<Markup>> = (syncs.iter())
        .map(|sync| {
            vec![
                html! { a href=(sync_path(&sync.sync)) { (name(&sync.sync)) } },
                Health::of(sync).badge().html(),
                match &sync.last_run {
                    None => html! { span class="soft" { "never" } },
                    Some(run) => html! {
                        a class="quiet" href=(run_path(&run.run)) { (run_status(run.status).html()) }
                        div class="soft" { (age(now, run.ended_at.unwrap_or(run.started_at))) }
                    },
                },
                html! { (shown_line(&sync.group_type)) },
                html! { (thousands(sync.groups.synced)) },
                html! { (thousands(sync.groups.rejected)) },
            ]
        })
        .collect();
    let columns = [
        table::text("Sync"),
        table::text("Health"),
        table::text("Last run"),
        table::text("Group type"),
        table::number("Synced groups"),
        table::number("Rejected"),
    ];
    table::table("syncs", &plural(syncs.len() as u64, "sync"), table::NarrowLayout::Cards, &columns, &rows)
}
