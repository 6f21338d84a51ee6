//! The last requests of a group, as its page shows them.

use maud::{Markup, html};

use super::badge::outcome;
use super::context::PageContext;
use super::format::{plural, span, time_relative};
use super::links::run_link;
use super::text::{shown, shown_line};
use crate::service::views::{Excerpt, Exchange, GroupRequestView, HttpHeader};

/// The fragment of the section's address.
pub(super) const FRAGMENT: &str = "requests";
/// Characters of a body that are shown: the API has the rest of what is kept.
const CHARS_MAX: usize = 20_000;

/// The section with the requests; nothing where none is kept.
pub(super) fn section(context: &PageContext, requests: &[GroupRequestView]) -> Markup {
    html! {
        @if !requests.is_empty() {
            section aria-labelledby="requests-h" id=(FRAGMENT) {
                h2 id="requests-h" { @if requests.len() == 1 { "Last request" } @else { "Last requests" } }
                p class="soft" { "Secrets are masked. A delivered group's request is kept only if the run was for that group alone." }
                @for kept in requests { (one(context, kept)) }
            }
        }
    }
}

fn one(context: &PageContext, kept: &GroupRequestView) -> Markup {
    let Exchange { took_ms, attempts, request, response, no_response, .. } = &kept.exchange;
    html! {
        article class="card" {
            h3 { (shown_line(&request.method)) " " bdi { (shown_line(&request.url)) } }
            p {
                (outcome(kept.outcome.name())) " " (time_relative(context.now, kept.at)) " · run " (run_link(&kept.run)) " · "
                @if *attempts > 1 { (attempts) " attempts, the last took " } @else { "took " }
                (span(*took_ms as f64 / 1_000.0))
                @if kept.groups > 1 { " · carried " (plural(kept.groups, "group")) }
            }
            (message("Request headers", &request.headers))
            (body("Request body", &request.body))
            @if let Some(part) = &kept.part { (body("Part about this group", part)) }
            @match response {
                Some(response) => {
                    p { strong { "HTTP " (response.status) } }
                    (message("Response headers", &response.headers))
                    (body("Response body", &response.body))
                }
                None => { p class="message" { "No response: " (shown(no_response.as_deref().unwrap_or("none came"))) } }
            }
        }
    }
}

fn message(title: &str, headers: &[HttpHeader]) -> Markup {
    html! {
        @if !headers.is_empty() {
            details class="long" {
                summary { (title) }
                pre tabindex="0" {
                    @for HttpHeader { name, value } in headers { (shown_line(name)) ": " (shown_line(value)) "\n" }
                }
            }
        }
    }
}

fn body(title: &str, body: &Excerpt) -> Markup {
    let beyond = body.text.chars().skip(CHARS_MAX).count() as u64;
    html! {
        @if body.text.is_empty() && body.bytes_left_out == 0 {
            p class="soft" { (title) ": empty" }
        } @else {
            details class="long" open[body.text.len() < 4_000] {
                summary { (title) }
                pre tabindex="0" { (shown(&body.text.chars().take(CHARS_MAX).collect::<String>())) }
                @if beyond > 0 { p class="soft" { "… and " (plural(beyond, "more character")) ", which the API has" } }
                @if body.bytes_left_out > 0 {
                    p class="soft" { "… and " (plural(body.bytes_left_out, "more byte")) ", which are not kept" }
                }
            }
        }
    }
}
