//! The requests of a run: over time, by status, and what the destination warned about.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::chart::{AxisUnit, Bar, Chart, bars};
use super::format::{bytes, plural, span, thousands};
use super::layout::definition_list;
use super::progress::retries;
use super::table::{NarrowLayout, number, table, text};
use super::text::long;
use crate::sync::report::{Counts, Detail};
use crate::sync::timeline::Timeline;

/// The section with the requests.
pub(super) fn section(detail: &Detail, counts: Option<&Counts>) -> Markup {
    let waited = |ms: u64| html! { (span(ms as f64 / 1_000.0)) };
    html! {
        section aria-labelledby="requests-h" {
            h2 id="requests-h" { "Requests" }
            @if detail.by_status.is_empty() {
                p class="calm" { @if counts.is_some() { "No request was sent." } @else { "No requests are recorded." } }
            } @else {
                (timeline(&detail.timeline))
                div class="beside" {
                    (by_status(&detail.by_status, "Responses by status"))
                    (definition_list(&[
                        ("Median latency", milliseconds(detail.latency.median_ms())),
                        ("95th percentile", milliseconds(detail.latency.p95_ms())),
                        ("Slowest response", milliseconds(detail.latency.max_ms())),
                        ("Request bodies, before compression", html! { (bytes(detail.bytes)) }),
                        ("Traits in acknowledged requests", html! { (thousands(detail.traits_sent)) }),
                        ("Waited for the rate limit", waited(detail.rate_wait_ms)),
                        ("Waited before retries", waited(detail.retry_wait_ms)),
                    ]))
                }
            }
            @if !detail.remarks.is_empty() {
                h3 { "Warnings" }
                ul { @for remark in &detail.remarks { li { (long(remark)) } } }
            }
            @if !detail.warnings.is_empty() {
                h3 { "Warnings from the destination" }
                ul {
                    @for (warning, times) in &detail.warnings {
                        li { (long(warning)) " " span class="soft" { (plural(*times, "time")) } }
                    }
                }
            }
        }
    }
}

/// Responses by status, as a table.
pub(super) fn by_status(responses: &BTreeMap<u16, u64>, caption: &str) -> Markup {
    let rows: Vec<Vec<Markup>> = (responses.iter())
        .map(|(status, attempts)| {
            let name = if *status == 0 { "no response".to_owned() } else { status.to_string() };
            vec![html! { (name) }, html! { (thousands(*attempts)) }]
        })
        .collect();
    table("by-status", caption, NarrowLayout::Scroll, &[text("HTTP status"), number("Responses")], &rows)
}

/// A latency; none where nothing was measured.
pub(super) fn milliseconds(latency: Option<u64>) -> Markup {
    html! { @match latency {
        Some(ms) => (span(ms as f64 / 1_000.0)),
        None => span class="soft" { "–" },
    } }
}

fn timeline(timeline: &Timeline) -> Markup {
    let slot = timeline.slot_ms as f64 / 1_000.0;
    let total: u64 = timeline.requests.iter().sum();
    let repeated: u64 = timeline.retries.iter().sum();
    let at = |index: usize| (timeline.requests[index], timeline.retries.get(index).copied().unwrap_or(0));
    let shown: Vec<Bar> = (0..timeline.requests.len())
        .map(|index| {
            let (all, again) = at(index);
            let from = start_of(index as u64 * timeline.slot_ms);
            Bar {
                value: Some(all.saturating_sub(again) as f64),
                stacked: again as f64,
                title: format!("from {from}: {} including {}", plural(all, "request"), retries(again)),
            }
        })
        .collect();
    let rows: Vec<Vec<Markup>> = (0..timeline.requests.len())
        .filter(|index| at(*index).0 > 0)
        .map(|index| {
            let (all, again) = at(index);
            vec![
                html! { (start_of(index as u64 * timeline.slot_ms)) },
                html! { (thousands(all)) },
                html! { (thousands(again)) },
            ]
        })
        .collect();
    let whole = span(timeline.requests.len() as f64 * slot);
    html! {
        (bars(&Chart {
            id: "timeline",
            title: &format!("Requests per {}", span(slot)),
            summary: format!("{} in {whole} including {}.", plural(total, "request"), retries(repeated)),
            series: ("first attempts", Some("retries")),
            cross: "",
            unit: AxisUnit::Count,
            bars: &shown,
            labels: vec!["0 s".to_owned(), span(timeline.requests.len() as f64 * slot / 2.0), whole.clone()],
            whole: true,
        }))
        @if !rows.is_empty() {
            details class="figures" {
                summary { "Show as table" }
                (table("timeline-table", "Requests over time", NarrowLayout::Scroll,
                    &[text("From"), number("Requests"), number("Retries")], &rows))
            }
        }
    }
}

/// The start of a slot, exactly: slots are multiples of a quarter of a second.
fn start_of(ms: u64) -> String {
    format!("{} s", ms as f64 / 1_000.0)
}
