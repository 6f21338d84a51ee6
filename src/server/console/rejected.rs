//! The rejected groups, by their error messages.

use axum::extract::RawQuery;
use axum::response::Response;
use maud::{Markup, html};

use super::context::PageContext;
use super::diff;
use super::error_messages::{MessageGroups, RejectedFilter, by_message};
use super::format::{plural, time_relative};
use super::group_requests;
use super::layout::{NavItem, PageContent, breadcrumbs};
use super::links::{group_link, group_path, label_after, run_of_group, sync_path, with_query};
use super::params::Params;
use super::table::{NarrowLayout, table, text};
use super::text::{long, name, shown_line};
use super::{respond, retry};
use crate::service::api::ServiceResult;
use crate::service::views::RejectedView;

/// Groups read of one sync: with documents of a kilobyte, a few megabytes.
const READ: u64 = 2_000;
/// Groups read of each sync where all syncs are shown.
const READ_OF_EACH: u64 = 200;
/// Error messages shown of a sync.
const MESSAGES_SHOWN: usize = 20;
/// Groups shown with each error message …
const SHOWN_OF_EACH: usize = 5;
/// … and with the only one.
const SHOWN: usize = 200;

/// `GET /rejected`, `?sync=`, `?q=` and `?message=` for some.
pub(super) async fn page(context: PageContext, query: RawQuery) -> Response {
    let page = build(&context, &RejectedFilter::of(&Params::of_query(&query))).await;
    respond::page(&context, page)
}

async fn build(context: &PageContext, filter: &RejectedFilter) -> ServiceResult<PageContent> {
    let sync = filter.sync.as_deref();
    let most = if sync.is_some() { READ } else { READ_OF_EACH };
    // One more than is read: are there more?
    let rejected = context.service.rejected(sync, None, most + 1).await?;
    let sections: Vec<Markup> = (rejected.chunk_by(|one, other| one.sync == other.sync).enumerate())
        .filter_map(|(index, groups)| of_sync(context, index, groups, filter, most as usize))
        .collect();
    let body = html! {
        (breadcrumbs(&[("/", "Overview")], "Rejected"))
        h1 { "Rejected groups" @if let Some(sync) = sync { " of " bdi { (shown_line(sync)) } } }
        @if sync.is_some() { p { a href="/rejected" { "Rejected groups of all syncs" } } }
        @if rejected.is_empty() {
            p class="calm" { span aria-hidden="true" { "✓ " } "No rejected groups." }
        } @else {
            p { "A rejected group is excluded until its row changes. Correct the row or the mapping, or retry." }
            (search(filter))
            @if sections.is_empty() {
                p class="empty" { "No rejected group matches. " a href=(with_query("/rejected", &all_of(filter))) { "Show all" } }
            }
            @for section in &sections { (section) }
        }
    };
    Ok(PageContent::new("Rejected groups", NavItem::Rejected, body).live(false))
}

/// The query without search and message.
fn all_of(filter: &RejectedFilter) -> Vec<(&str, &str)> {
    filter.sync.as_deref().map(|sync| ("sync", sync)).into_iter().collect()
}

fn search(filter: &RejectedFilter) -> Markup {
    html! {
        form class="filter" role="search" aria-label="Rejected groups" method="get" action="/rejected" {
            @if let Some(sync) = &filter.sync { input type="hidden" name="sync" value=(sync); }
            label class="field" { span { "Search in keys and error messages" }
                input name="q" type="search" autocomplete="off" autocapitalize="none" spellcheck="false"
                    value=[filter.search.as_deref()];
            }
            button { "Search" }
            @if filter.is_narrow() { a href=(with_query("/rejected", &all_of(filter))) { "Show all" } }
        }
    }
}

/// The groups of a sync that match; none where there are none.
fn of_sync(
    context: &PageContext,
    index: usize,
    groups: &[RejectedView],
    filter: &RejectedFilter,
    most: usize,
) -> Option<Markup> {
    let sync = groups.first()?.sync.as_str();
    let more = groups.len() > most;
    let matching = groups.iter().take(most).filter(|group| filter.matches(group));
    let messages = by_message(matching);
    let count: usize = messages.iter().map(|message| message.groups.len()).sum();
    let shown = &messages[..messages.len().min(MESSAGES_SHOWN)];
    let download = |kind: &str| with_query(&format!("/rejected.{kind}"), &filter.pairs(Some(sync)));
    (count > 0).then(|| {
        html! {
            section aria-labelledby={ "rejected-" (index) "-h" } {
                h2 id={ "rejected-" (index) "-h" } { a href=(sync_path(sync)) { (name(sync)) } " "
                    span class="soft" {
                        (plural(count as u64, "group")) @if more { " among the first " (most) } ", "
                        (plural(messages.len() as u64, "error message"))
                    }
                }
                div class="actions" role="group" aria-label={ "Actions for " (shown_line(sync)) } {
                    @if filter.is_narrow() {
                        (retry::of_matching(context, sync, &filter.pairs(Some(sync)),
                            html! { "Retry matching…" span class="hidden" { " of " (shown_line(sync)) } }))
                    } @else {
                        (retry::of_all(context, sync, html! { "Retry rejected of " (shown_line(sync)) "…" }))
                    }
                    a class="button" href=(download("csv")) download { "Download CSV" span class="hidden" { " of " (shown_line(sync)) } }
                    a class="button" href=(download("json")) download { "Download JSON" span class="hidden" { " of " (shown_line(sync)) } }
                }
                @for (number, message) in shown.iter().enumerate() {
                    (of_message(context, &format!("rejected-{index}-{number}"), sync, message, messages.len() == 1))
                }
                @if messages.len() > shown.len() {
                    p class="soft" { "… and " (plural((messages.len() - shown.len()) as u64, "more error message"))
                        ": search for them, or download all." }
                }
                @if more {
                    p class="soft" {
                        @if filter.sync.is_none() {
                            a href=(with_query("/rejected", &filter.pairs(Some(sync)))) { "More of " (shown_line(sync)) } ". "
                        }
                        "The download has all."
                    }
                }
            }
        }
    })
}

fn of_message(context: &PageContext, id: &str, sync: &str, message: &MessageGroups<'_>, only: bool) -> Markup {
    let shown = &message.groups[..message.groups.len().min(if only { SHOWN } else { SHOWN_OF_EACH })];
    let form = format!("{id}-retry");
    let rows: Vec<Vec<Markup>> = (shown.iter())
        .map(|group| {
            vec![
                html! { (retry::select_box(&form, &group.key)) (group_link(sync, &group.key)) (label_after(group.label.as_deref())) },
                time_relative(context.now, group.at),
                html! {
                    (diff::document(&plural(group.document.len() as u64, "trait"), &group.document))
                    a href=(format!("{}#{}", group_path(sync, &group.key), group_requests::FRAGMENT)) {
                        "Request" span class="hidden" { " of " (shown_line(&group.key)) }
                    }
                },
                context.post_form(
                    &run_of_group(sync, &group.key),
                    html! { input type="hidden" name="retry_rejected" value="1"; },
                    html! { button { "Retry" span class="hidden" { " " (shown_line(&group.key)) } } },
                ),
            ]
        })
        .collect();
    let count = plural(message.groups.len() as u64, "group");
    let caption = match shown.len() == message.groups.len() {
        true => count,
        false => format!("{} of {count}", shown.len()),
    };
    html! {
        article class="card" aria-labelledby={ (id) "-h" } {
            h3 id={ (id) "-h" } class="message" { (long(message.text)) }
            (table(id, &caption, NarrowLayout::Cards, &[text("Group"), text("When"), text("Payload"), text("Retry")], &rows))
            div class="actions" role="group" aria-label="Retry groups with this error message" {
                (retry::of_selected(context, &form, sync))
                @if message.groups.len() > 1 && !only {
                    (retry::of_matching(context, sync, &[("message", &message.id())],
                        html! { "Retry all with this message…" }))
                }
            }
            @if shown.len() < message.groups.len() && !only {
                p { a href=(with_query("/rejected", &[("sync", sync), ("message", &message.id())])) {
                    "Groups with this error message" } }
            }
        }
    }
}
