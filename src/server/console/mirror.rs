//! Where the rows of a sync are compared, and the mirror that its warehouse compares with.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::format::{bytes, plural, time};
use super::layout::definition_list;
use super::text::{shown, shown_line};
use crate::mapping::Compare;
use crate::service::views::{MirrorView, SyncView};
use crate::sync::mirror::MirrorReport;

/// Bytes of a mirror's row, about: a key, two numbers, and what a warehouse adds.
const ROW_BYTES: u64 = 40;

/// The section about a sync whose warehouse is to compare, with what the last run did.
pub(super) fn section(now: DateTime<Utc>, sync: &SyncView, last: Option<&MirrorReport>) -> Markup {
    let wants = sync.compare == Compare::Warehouse;
    if !wants && sync.mirror.is_none() {
        return html! {};
    }
    let mut pairs = vec![("Rows are compared", html! { (if wants { "in the warehouse" } else { "locally" }) })];
    if let Some(report) = last.filter(|_| wants) {
        pairs.push(("Last run", last_run(report)));
    }
    match &sync.mirror {
        Some(mirror) => pairs.extend(about(now, mirror, wants)),
        None => pairs.push(("Mirror", html! { "none; the next run of the whole model makes it" })),
    }
    html! {
        section id="mirror" aria-labelledby="mirror-h" {
            h2 id="mirror-h" { "Comparison" }
            (definition_list(&pairs))
        }
    }
}

/// What a run did, and why where it compared locally.
fn last_run(report: &MirrorReport) -> Markup {
    let read = plural(report.rows_read, "row");
    html! {
        @match report.compared {
            Compare::Warehouse => { "compared in the warehouse; " (read) " left it" }
            Compare::Local => {
                "compared locally"
                @if let Some(reason) = &report.reason { ": " span class="message" { (shown(reason)) } }
                @if report.rebuilt { div class="soft" { "The mirror was made anew, and " (read) " were read." } }
                @else { div class="soft" { "There is no mirror until it can be made." } }
            }
        }
    }
}

fn about(now: DateTime<Utc>, mirror: &MirrorView, wants: bool) -> Vec<(&'static str, Markup)> {
    let table = match mirror.schema.as_str() {
        "" => mirror.table.clone(),
        schema => format!("{schema}.{}", mirror.table),
    };
    let mut pairs = vec![
        (
            "Mirror",
            html! {
                code { (shown_line(&table)) }
                @if !wants { div class="soft" { "Not used any more; a run that compares in the warehouse makes it anew." } }
            },
        ),
        (
            "Mirror size",
            html! {
                (plural(mirror.keys, "key")) " in " (plural(mirror.rows, "row")) " "
                span class="soft" { "about " (bytes(mirror.rows.saturating_mul(ROW_BYTES))) }
            },
        ),
        (
            "Last rebuilt",
            html! {
                (time(now, mirror.made_at))
                @if let Some(reason) = &mirror.reason { div class="soft" { (shown(reason)) } }
            },
        ),
    ];
    let waiting = html! {
        @if mirror.unmirrored == 0 { "nothing" }
        @else {
            (plural(mirror.unmirrored, "key"))
            @if let Some(since) = mirror.behind_since { ", since " (time(now, since)) }
            div class="soft" { "The mirror may not hold them; the next run compares them in any case." }
        }
    };
    pairs.push(("Waiting", waiting));
    pairs
}

/// Where a sync's rows are compared, in the list; none where they are compared locally, as most are.
pub(super) fn note(sync: &SyncView) -> Option<String> {
    if sync.compare == Compare::Local {
        return None;
    }
    Some(match &sync.mirror {
        Some(mirror) if mirror.unmirrored > 0 => {
            format!("compared in the warehouse, {} of the mirror waiting", plural(mirror.unmirrored, "key"))
        }
        None if sync.last_success_at.is_some() => "no mirror: compared locally".to_owned(),
        _ => "compared in the warehouse".to_owned(),
    })
}
