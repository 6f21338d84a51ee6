//! Which groups did the destinations refuse, and in which words?

use axum::extract::RawQuery;
use axum::response::Response;
use maud::{Markup, html};

use super::page::{Here, Page, crumbs};
use super::table::{Shape, table, text};
use super::values;
use super::visit::{Params, Visit};
use super::words::{group_link, long, plural, shown_line, sync_path, time_relative, with_query};
use crate::service::api::ServiceResult;
use crate::service::views::RejectedView;

/// Groups shown of one sync.
const SHOWN: u64 = 200;
/// And of each where all syncs are shown: a page with 200 syncs' worth stays readable.
const SHOWN_OF_EACH: u64 = 20;

/// `GET /rejected`, `?sync=` for those of one sync.
pub(super) async fn page(visit: Visit, query: RawQuery) -> Response {
    let page = build(&visit, Params::of_query(&query).one("sync")).await;
    visit.respond(page)
}

async fn build(visit: &Visit, sync: Option<&str>) -> ServiceResult<Page> {
    let most = if sync.is_some() { SHOWN } else { SHOWN_OF_EACH };
    // One more than is shown tells whether there are more.
    let rejected = visit.service.rejected(sync, None, most + 1).await?;
    let body = html! {
        (crumbs(&[("/", "Overview")], "Rejected"))
        h1 { "Rejected groups" @if let Some(sync) = sync { " of " bdi { (shown_line(sync)) } } }
        @if sync.is_some() { p { a href="/rejected" { "Those of all syncs" } } }
        @if rejected.is_empty() {
            p class="calm" { span aria-hidden="true" { "✓ " } "No group's last word is a rejection." }
        } @else {
            p {
                "A changed row is tried again by itself. Unchanged ones wait until you correct the row or the mapping, "
                "or retry them."
            }
            @for (index, groups) in rejected.chunk_by(|one, other| one.sync == other.sync).enumerate() {
                (of_one(visit, index, groups, most as usize))
            }
        }
    };
    Ok(Page::new("Rejected groups", Here::Rejected, body))
}

fn of_one(visit: &Visit, index: usize, groups: &[RejectedView], most: usize) -> Markup {
    let sync = groups.first().map(|group| group.sync.as_str()).unwrap_or_default();
    let more = groups.len() > most;
    let groups = &groups[..groups.len().min(most)];
    let rows: Vec<Vec<Markup>> = (groups.iter())
        .map(|group| {
            vec![
                group_link(&group.sync, &group.key),
                html! { span class="message" { (long(&group.reason)) } },
                time_relative(visit.now, group.at),
                values::document(&plural(group.document.len() as u64, "trait"), &group.document),
            ]
        })
        .collect();
    let columns = [text("Group"), text("The destination's words"), text("When"), text("Document")];
    let caption = if more { format!("The first {most}") } else { plural(groups.len() as u64, "group") };
    html! {
        section aria-labelledby={ "rejected-" (index) "-h" } {
            h2 id={ "rejected-" (index) "-h" } { a href=(sync_path(sync)) { bdi { (shown_line(sync)) } } }
            div class="orders" role="group" aria-label={ "Orders for " (shown_line(sync)) } {
                (visit.order(&format!("{}/run", sync_path(sync)),
                    html! { input type="hidden" name="retry_rejected" value="1"; },
                    html! { button { "Retry the rejected of " (shown_line(sync)) } }))
            }
            (table(&format!("rejected-{index}"), &caption, Shape::Cards, &columns, &rows))
            @if more && most as u64 == SHOWN_OF_EACH {
                p { a href=(with_query("/rejected", &[("sync", sync)])) { "More of " (shown_line(sync)) } }
            } @else if more {
                p class="soft" { "On the command line, " code { "groupcast rejected" } " shows the others." }
            }
        }
    }
}
