//! The table of all syncs on the overview.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::badge::{run_status, state_badge};
use super::chart::sparkline;
use super::context::PageContext;
use super::format::{age, distance, thousands};
use super::health::Health;
use super::links::{run_path, sync_path, with_query};
use super::mirror;
use super::params::Params;
use super::runs::changed;
use super::schedule::next_run;
use super::sync_filter::{ListedSync, SyncFilter};
use super::table::{NarrowLayout, number, table, text};
use super::text::{name, shown_line};
use crate::ledger::RunStatus;
use crate::service::api::SyncError;
use crate::service::views::{RunView, SyncView};

/// The caption of the table.
const CAPTION: &str = "Lag is the time since the last run that succeeded, with or without rejections.";

/// All syncs that the query asks for; `latest` are the latest runs of each.
pub(super) fn section(
    context: &PageContext,
    params: &Params,
    syncs: &[SyncView],
    latest: &BTreeMap<String, Vec<RunView>>,
) -> Markup {
    let filter = SyncFilter::of(params);
    let usable = syncs.iter().map(ListedSync::Usable);
    let broken = context.about.sync_errors.iter().filter(|error| !error.runs).map(ListedSync::Broken);
    let all: Vec<ListedSync<'_>> = usable.chain(broken).collect();
    let listed = filter.apply(all.clone());
    let row = |(index, row): (usize, &ListedSync<'_>)| match row {
        ListedSync::Usable(sync) => sync_row(context, sync, &spark(index, latest.get(&sync.sync))),
        ListedSync::Broken(error) => broken_row(error),
    };
    let rows: Vec<Vec<Markup>> = listed.iter().enumerate().map(row).collect();
    html! {
        section id="all" aria-labelledby="all-h" {
            h2 id="all-h" { "All syncs" }
            @if all.len() > 1 || filter.is_narrow() { (filter.form(&all, listed.len())) }
            @if rows.is_empty() {
                p class="empty" { "No sync matches. " a href="/" { "Show all" } }
            } @else {
                (table("syncs", CAPTION, NarrowLayout::Cards,
                    &[text("Sync"), text("Health"), text("Last run"), text("Next run"), number("Lag"),
                        text("Changed per run"), number("Synced groups")],
                    &rows))
            }
        }
    }
}

/// The newest run comes first; a chart goes the other way.
fn spark(index: usize, runs: Option<&Vec<RunView>>) -> Markup {
    let finished = runs.into_iter().flatten().rev().filter(|run| run.status != RunStatus::Running);
    let figures: Vec<Option<u64>> = finished.map(|run| run.counts.as_ref().map(changed)).collect();
    sparkline(&format!("spark-{index}"), "Changed groups", &figures)
}

fn broken_row(error: &SyncError) -> Vec<Markup> {
    let none = || html! { span class="soft" { "–" } };
    let named = html! { (name(&error.sync)) div class="soft" { (shown_line(&error.file)) } };
    vec![named, Health::Error.badge().html(), none(), none(), none(), none(), none()]
}

fn sync_row(context: &PageContext, sync: &SyncView, spark: &Markup) -> Vec<Markup> {
    let now = context.now;
    let groups = &sync.groups;
    vec![
        html! {
            a href=(sync_path(&sync.sync)) { (name(&sync.sync)) }
            div class="soft" {
                (name(&sync.source)) " → " (name(&sync.destination))
                @for tag in &sync.tags { " " a class="tag" href=(with_query("/", &[("tag", tag)])) { (name(tag)) } }
            }
            @if let Some(note) = mirror::note(sync) { div class="soft" { (note) } }
        },
        html! { (Health::of(sync).badge().html()) div class="soft" { (state_badge(sync).word) } },
        match &sync.last_run {
            None => html! { span class="soft" { "never" } },
            Some(run) => html! {
                a class="quiet" href=(run_path(&run.run)) { (run_status(run.status).html()) }
                div class="soft" { (age(now, run.ended_at.unwrap_or(run.started_at))) }
            },
        },
        next_run(now, sync),
        match sync.last_success_at {
            Some(at) => html! { span title={ "since " (at.to_rfc3339()) } { (distance(now - at)) } },
            None => html! { span class="soft" { "never" } },
        },
        spark.clone(),
        html! {
            (thousands(groups.synced))
            @if groups.rejected > 0 {
                div class="soft" {
                    a href=(with_query("/rejected", &[("sync", &sync.sync)])) { (thousands(groups.rejected)) " rejected" }
                }
            }
            @if groups.unconfirmed > 0 { div class="soft" { (thousands(groups.unconfirmed)) " unconfirmed" } }
        },
    ]
}
