//! The progress of a run.

use maud::{Markup, html};

use super::format::{plural, thousands};
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
            }
        }
    }
}

/// `1 retry`, `2 retries`.
pub(super) fn retries(count: u64) -> String {
    format!("{} {}", thousands(count), if count == 1 { "retry" } else { "retries" })
}
