//! The rejected groups, with their error messages.

use axum::extract::RawQuery;
use axum::response::Response;
use maud::{Markup, html};

use super::context::PageContext;
use super::diff;
use super::format::{plural, time_relative};
use super::layout::{NavItem, PageContent, breadcrumbs};
use super::links::{group_link, label_after, sync_path, with_query};
use super::params::Params;
use super::respond;
use super::table::{NarrowLayout, table, text};
use super::text::{long, shown_line};
use crate::service::api::ServiceResult;
use crate::service::views::RejectedView;

/// Groups shown of one sync.
const SHOWN: u64 = 200;
/// Groups shown of each sync where all syncs are shown: a page of 200 syncs stays readable.
const SHOWN_OF_EACH: u64 = 20;

/// `GET /rejected`, `?sync=` for those of one sync.
pub(super) async fn page(context: PageContext, query: RawQuery) -> Response {
    let page = build(&context, Params::of_query(&query).one("sync")).await;
    respond::page(&context, page)
}

async fn build(context: &PageContext, sync: Option<&str>) -> ServiceResult<PageContent> {
    let most = if sync.is_some() { SHOWN } else { SHOWN_OF_EACH };
    // One more than is shown: are there more?
    let rejected = context.service.rejected(sync, None, most + 1).await?;
    let body = html! {
        (breadcrumbs(&[("/", "Overview")], "Rejected"))
        h1 { "Rejected groups" @if let Some(sync) = sync { " of " bdi { (shown_line(sync)) } } }
        @if sync.is_some() { p { a href="/rejected" { "Rejected groups of all syncs" } } }
        @if rejected.is_empty() {
            p class="calm" { span aria-hidden="true" { "✓ " } "No rejected groups." }
        } @else {
            p {
                "A rejected group is excluded until its row changes. Correct the row or the mapping, or retry."
            }
            @for (index, groups) in rejected.chunk_by(|one, other| one.sync == other.sync).enumerate() {
                (of_sync(context, index, groups, most as usize))
            }
        }
    };
    Ok(PageContent::new("Rejected groups", NavItem::Rejected, body))
}

fn of_sync(context: &PageContext, index: usize, groups: &[RejectedView], most: usize) -> Markup {
    let sync = groups.first().map(|group| group.sync.as_str()).unwrap_or_default();
    let more = groups.len() > most;
    let groups = &groups[..groups.len().min(most)];
    let rows: Vec<Vec<Markup>> = (groups.iter())
        .map(|group| {
            vec![
                html! { (group_link(&group.sync, &group.key)) (label_after(group.label.as_deref())) },
                html! { span class="message" { (long(&group.reason)) } },
                time_relative(context.now, group.at),
                diff::document(&plural(group.document.len() as u64, "trait"), &group.document),
            ]
        })
        .collect();
    let columns = [text("Group"), text("Error message"), text("When"), text("Payload")];
    let caption = if more { format!("The first {most}") } else { plural(groups.len() as u64, "group") };
    html! {
        section aria-labelledby={ "rejected-" (index) "-h" } {
            h2 id={ "rejected-" (index) "-h" } { a href=(sync_path(sync)) { bdi { (shown_line(sync)) } } }
            div class="actions" role="group" aria-label={ "Actions for " (shown_line(sync)) } {
                (context.post_form(&format!("{}/run", sync_path(sync)),
                    html! { input type="hidden" name="retry_rejected" value="1"; },
                    html! { button { "Retry rejected of " (shown_line(sync)) } }))
            }
            (table(&format!("rejected-{index}"), &caption, NarrowLayout::Cards, &columns, &rows))
            @if more && most as u64 == SHOWN_OF_EACH {
                p { a href=(with_query("/rejected", &[("sync", sync)])) { "More of " (shown_line(sync)) } }
            } @else if more {
                p class="soft" { "On the command line, " code { "groupcast rejected" } " lists all." }
            }
        }
    }
}
