//! The progress of a run.

use maud::{Markup, html};

use super::format::{plural, span, thousands};
use super::text::shown_line;
use crate::service::views::RunProgress;

/// A progress bar with its figures. `id` is unique on the page.
pub(super) fn progress(id: &str, at: &RunProgress) -> Markup {
    let phase = match at.phase.as_str() {
        "starting" => "Starting",
        "reading" => "Reading the source",
        "sending" => "Sending",
        "stopping" => "Stopping: waiting for requests in flight",
        other => other,
    };
    html! {
        div class="progress" {
            label for=(id) { (shown_line(phase)) }
            @match at.candidates {
                Some(candidates) if candidates > 0 => {
                    span { (thousands(at.done)) " of " (plural(candidates, "group")) " done" }
                    progress id=(id) max=(candidates) value=(at.done.min(candidates)) {}
                }
                _ => {
                    span { (plural(at.rows_read, "row")) " read" }
                    progress id=(id) {}
                }
            }
            span class="soft" {
                (plural(at.rows_read, "row")) ", " (plural(at.requests, "request"))
                @if at.retries > 0 { " including " (retries(at.retries)) }
                @if let Some(pace) = pace(at) { " · " (pace) }
            }
        }
    }
}

/// The recent pace, and how long the rest takes at it.
fn pace(at: &RunProgress) -> Option<String> {
    let per_second = at.per_second.filter(|pace| *pace >= 0.05)?;
    let left = at.candidates?.saturating_sub(at.done);
    let pace = if per_second < 10.0 { format!("{per_second:.1}") } else { thousands(per_second.round() as u64) };
    let rest =
        if left == 0 { String::new() } else { format!(", about {} left", span((left as f64 / per_second).ceil())) };
    Some(format!("{pace} groups per second{rest}"))
}

/// `1 retry`, `2 retries`.
pub(super) fn retries(count: u64) -> String {
    format!("{} {}", thousands(count), if count == 1 { "retry" } else { "retries" })
}
