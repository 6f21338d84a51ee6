//! Runs: the list of all of them, and the charts and the table of one sync's.

use axum::extract::RawQuery;
use axum::response::Response;
use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::badge::run_status;
use super::chart::{AxisUnit, Bar, Chart, bars};
use super::context::PageContext;
use super::format::{age, clock, minute, plural, span, thousands};
use super::layout::{NavItem, PageContent, breadcrumbs};
use super::links::{run_path, sync_path, with_query};
use super::params::Params;
use super::respond;
use super::table::{NarrowLayout, number, table, text};
use super::text::{name, short, shown_line};
use crate::ledger::RunStatus;
use crate::service::api::ServiceResult;
use crate::service::views::RunView;
use crate::sync::report::Counts;

/// Runs on one page of the list.
const PAGE_RUNS: u64 = 50;

/// Groups a run changed: acknowledged changes, removals included.
pub(super) fn changed(counts: &Counts) -> u64 {
    counts.changes.delivered + counts.removed.delivered
}

/// Groups whose changes were rejected.
pub(super) fn rejected(counts: &Counts) -> u64 {
    counts.changes.rejected + counts.removed.rejected
}

/// `GET /runs`, `?before=` a run for older ones, `?sync=` for those of one sync.
pub(super) async fn page(context: PageContext, query: RawQuery) -> Response {
    let page = build(&context, &Params::of_query(&query)).await;
    respond::page(&context, page)
}

async fn build(context: &PageContext, params: &Params) -> ServiceResult<PageContent> {
    let (sync, before) = (params.one("sync"), params.one("before"));
    // One more than is shown: are there older ones?
    let mut runs = context.service.runs(sync, before, PAGE_RUNS + 1).await?;
    let more = runs.len() as u64 > PAGE_RUNS;
    runs.truncate(PAGE_RUNS as usize);
    let filter: Vec<(&str, &str)> = sync.map(|sync| ("sync", sync)).into_iter().collect();
    let older = runs.last().filter(|_| more).map(|last| {
        let mut pairs = filter.clone();
        pairs.push(("before", &last.run));
        with_query("/runs", &pairs)
    });
    let busy = runs.iter().any(|run| run.status == RunStatus::Running);
    let body = html! {
        (breadcrumbs(&[("/", "Overview")], "Runs"))
        h1 { "Runs" @if let Some(sync) = sync { " of " bdi { (shown_line(sync)) } } }
        @if let Some(sync) = sync {
            p { a href=(sync_path(sync)) { "Back to the sync" } " · " a href="/runs" { "Runs of all syncs" } }
        }
        @if runs.is_empty() {
            section class="empty" aria-label="No runs" {
                @if before.is_some() {
                    p { "No older runs. " a href=(with_query("/runs", &filter)) { "Back to the latest" } }
                } @else {
                    p { strong { "No runs yet." } }
                    p {
                        "Open a sync from the " a href="/" { "overview" } " and press “Run now”, or wait for its "
                        "schedule."
                    }
                }
            }
        } @else {
            section id="list" aria-label="Runs" {
                (runs_table(context.now, "runs", "Runs, newest first", &runs, sync.is_none()))
            }
            nav class="pages" aria-label="Pages" {
                @if before.is_some() { a href=(with_query("/runs", &filter)) { "Latest runs" } }
                @if let Some(older) = &older { a href=(older) rel="next" { "Older runs" } }
            }
        }
    };
    Ok(PageContent::new("Runs", NavItem::Runs, body).live(busy && before.is_none()))
}

/// Runs as a table.
pub(super) fn runs_table(now: DateTime<Utc>, id: &str, caption: &str, runs: &[RunView], with_sync: bool) -> Markup {
    let count = |run: &RunView, of: fn(&Counts) -> u64| match &run.counts {
        Some(counts) => html! { (thousands(of(counts))) },
        None => html! { span class="soft" { "–" } },
    };
    // On a phone the first column stays in sight.
    let mut columns = match with_sync {
        true => vec![text("Sync"), text("Status"), text("Started")],
        false => vec![text("Started"), text("Status")],
    };
    columns.extend([
        number("Rows"),
        number("Changed"),
        number("Rejected"),
        number("Pending"),
        number("Duration"),
        text("Started by"),
    ]);
    let rows: Vec<Vec<Markup>> = (runs.iter())
        .map(|run| {
            let started = html! {
                a href=(run_path(&run.run)) { (age(now, run.started_at)) }
                " " time class="soft" datetime=(run.started_at.to_rfc3339()) data-form="minute" {
                    (minute(now, run.started_at)) " UTC"
                }
            };
            let status = html! {
                (run_status(run.status).html())
                @if let Some(error) = &run.error {
                    // The sync has a column or a page of its own.
                    @let error = error.strip_prefix(&format!("sync {}: ", run.sync)).unwrap_or(error);
                    div class="soft clip" title=(shown_line(error)) { (short(error)) }
                }
            };
            let mut cells = match with_sync {
                true => vec![html! { a href=(sync_path(&run.sync)) { (name(&run.sync)) } }, status, started],
                false => vec![started, status],
            };
            cells.extend([
                count(run, |counts| counts.rows),
                count(run, changed),
                count(run, rejected),
                count(run, Counts::unfinished),
                html! { (run.seconds().map_or_else(|| "–".to_owned(), span)) },
                html! { (shown_line(&run.started_by)) },
            ]);
            cells
        })
        .collect();
    table(id, caption, NarrowLayout::Scroll, &columns, &rows)
}

/// Rows, changes and durations of a sync's runs; `runs` come the newest first.
pub(super) fn charts(now: DateTime<Utc>, runs: &[RunView]) -> Markup {
    let finished: Vec<&RunView> = runs.iter().rev().filter(|run| run.status != RunStatus::Running).collect();
    let labels = |finished: &[&RunView]| match finished {
        [] => Vec::new(),
        [one] => vec![String::new(), minute(now, one.started_at)],
        [first, .., last] => vec![minute(now, first.started_at), minute(now, last.started_at)],
    };
    let bar = |run: &RunView, what: String, value: Option<f64>, stacked: f64| {
        let title = format!("{} UTC, {}: {what}", clock(now, run.started_at), run_status(run.status).word);
        Bar { value, stacked, title }
    };
    let without = || "no result".to_owned();
    let rows: Vec<Bar> = (finished.iter())
        .map(|run| {
            let rows = run.counts.as_ref().map(|counts| counts.rows);
            bar(run, rows.map_or_else(without, |rows| plural(rows, "row")), rows.map(|rows| rows as f64), 0.0)
        })
        .collect();
    let changes: Vec<Bar> = (finished.iter())
        .map(|run| {
            let figures = run.counts.as_ref().map(|counts| (changed(counts), rejected(counts)));
            let what = figures.map_or_else(without, |(changed, rejected)| {
                format!("{} changed, {} rejected", thousands(changed), thousands(rejected))
            });
            let stacked = figures.map_or(0.0, |(_, rejected)| rejected as f64);
            bar(run, what, figures.map(|(changed, _)| changed as f64), stacked)
        })
        .collect();
    let durations: Vec<Bar> =
        (finished.iter()).map(|run| bar(run, run.seconds().map_or_else(without, span), run.seconds(), 0.0)).collect();
    let chart = |id, title, what: &str, series, unit, bars_shown: &[Bar]| {
        let summary = match bars_shown.last() {
            Some(last) => format!("{what} of {}; the latest: {}.", plural(bars_shown.len() as u64, "run"), last.title),
            None => "No runs yet.".to_owned(),
        };
        let labels = labels(&finished);
        bars(&Chart { id, title, summary, series, cross: "no result", unit, bars: bars_shown, labels, whole: false })
    };
    html! {
        div class="charts" {
            (chart("chart-rows", "Rows per run", "Rows", ("rows", None), AxisUnit::Count, &rows))
            (chart("chart-changes", "Changed and rejected groups per run", "Changed and rejected groups",
                ("changed", Some("rejected")), AxisUnit::Count, &changes))
            (chart("chart-durations", "Duration per run", "Durations", ("duration", None), AxisUnit::Seconds, &durations))
        }
    }
}
