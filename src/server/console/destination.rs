//! The page of a destination: its health, its limits, how fast and with what it responded, its last error, and the syncs that
//! use it.

use axum::extract::Path;
use axum::response::Response;
use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::badge::run_status;
use super::context::PageContext;
use super::format::{age, plural, span, thousands, time, time_relative};
use super::health::Health;
use super::layout::{NavItem, PageContent, breadcrumbs, definition_list};
use super::links::{run_path, sync_path, with_query};
use super::run_requests::{by_status, milliseconds};
use super::text::{name, shown, shown_line};
use super::{respond, table};
use crate::error::{Error, Kind};
use crate::service::api::{ServiceError, ServiceResult};
use crate::service::views::{DeliveryLimits, DestinationRun, DestinationView, RunView, SyncView};

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
    let view = context.service.destination(destination).await?;
    let worst = syncs.iter().map(Health::of).min().unwrap_or(Health::New);
    let body = html! {
        (breadcrumbs(&[("/", "Overview")], destination))
        div id="head" {
            h1 { bdi { (shown_line(destination)) } " " (worst.badge().html()) }
            p class="soft" { "A destination of the type " (shown_line(&first.destination_type))
                ". Its health is the worst of its syncs." }
            (facts(context.now, &syncs))
        }
        (last_error(context.now, latest.values().flatten()))
        section id="limits" aria-labelledby="limits-h" {
            h2 id="limits-h" { "Limits" }
            (limits(&view.limits))
        }
        (traffic(context.now, &view))
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

fn limits(limits: &DeliveryLimits) -> Markup {
    definition_list(&[
        (
            "Rate limit",
            match limits.requests_per_second {
                Some(rate) => html! { (per_second(rate)) " for each run" },
                None => html! { "none configured; the vendor's own limits apply" },
            },
        ),
        ("Requests in flight", html! { "up to " (thousands(limits.concurrency)) }),
        ("Timeout", html! { (span(limits.timeout_seconds as f64)) }),
        (
            "Attempts",
            html! { "up to " (thousands(u64::from(limits.attempts_max))) " in " (span(limits.retry_for_seconds as f64)) },
        ),
    ])
}

/// `95.5 requests per second`.
fn per_second(rate: f64) -> String {
    let rate = if rate < 100.0 { format!("{rate:.1}") } else { thousands(rate.round() as u64) };
    format!("{} requests per second", rate.strip_suffix(".0").unwrap_or(&rate))
}

/// What was measured in the latest runs.
fn traffic(now: DateTime<Utc>, view: &DestinationView) -> Markup {
    let all = &view.traffic;
    let waited = |ms: u64| html! { (span(ms as f64 / 1_000.0)) };
    html! {
        section id="traffic" aria-labelledby="traffic-h" {
            h2 id="traffic-h" { "Requests and latency" }
            @if view.runs.is_empty() {
                p class="calm" { "The latest runs sent no requests." }
            } @else {
                p class="soft" {
                    "Measured in the latest "
                    @if view.runs.len() == 1 { "run" } @else { (view.runs.len()) " runs" }
                    " that sent requests. Latencies are rounded "
                    "up by an eighth at most."
                }
                div class="beside" {
                    (by_status(&all.by_status, "Responses by status"))
                    (definition_list(&[
                        ("Median latency", milliseconds(all.latency.median_ms())),
                        ("95th percentile", milliseconds(all.latency.p95_ms())),
                        ("Slowest response", milliseconds(all.latency.max_ms())),
                        ("Busiest second", html! {
                            @match all.per_second_max {
                                Some(rate) => (per_second(rate)),
                                None => span class="soft" { "–" },
                            }
                        }),
                        ("Throttled (429)", html! { (thousands(all.throttled)) }),
                        ("Server errors (5xx)", html! { (thousands(all.server_errors)) }),
                        ("Waited for the rate limit", waited(all.rate_wait_ms)),
                        ("Waited before retries", waited(all.retry_wait_ms)),
                    ]))
                }
                (runs(now, &view.runs))
            }
        }
    }
}

fn runs(now: DateTime<Utc>, runs: &[DestinationRun]) -> Markup {
    let rows: Vec<Vec<Markup>> = (runs.iter())
        .map(|run| {
            let traffic = &run.traffic;
            vec![
                html! {
                    a href=(run_path(&run.run)) { (name(&run.sync)) }
                    div class="soft" { (age(now, run.started_at)) }
                },
                run_status(run.status).html(),
                html! { (thousands(traffic.requests)) },
                html! { (thousands(traffic.retries)) },
                html! { (thousands(traffic.throttled)) },
                html! { (thousands(traffic.server_errors + traffic.no_response)) },
                milliseconds(traffic.latency.median_ms()),
                milliseconds(traffic.latency.p95_ms()),
            ]
        })
        .collect();
    let columns = [
        table::text("Run"),
        table::text("Status"),
        table::number("Requests"),
        table::number("Retries"),
        table::number("Throttled"),
        table::number("Failed"),
        table::number("Median"),
        table::number("95th percentile"),
    ];
    table::table("destination-runs", "Requests by run, newest first", table::NarrowLayout::Cards, &columns, &rows)
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
