//! The page of a group: its synced traits, when and by which run each was sent, and its history.

use axum::extract::{Path, RawQuery};
use axum::response::Response;
use maud::{Markup, html};

use super::badge::{Badge, outcome};
use super::context::PageContext;
use super::diff::{self, value};
use super::format::{plural, time_relative};
use super::group_requests;
use super::layout::{NavItem, PageContent, breadcrumbs};
use super::links::{copy_button, group_search, label_after, run_link, run_of_group, sync_path, with_query};
use super::params::Params;
use super::respond;
use super::table::{NarrowLayout, table, text};
use super::text::{long, short, shown, shown_line};
use crate::error::{Error, Kind};
use crate::service::api::{ServiceError, ServiceResult};
use crate::service::views::{GroupView, HistoryView};

/// Changes of a group's history.
const HISTORY: u64 = 100;

/// `GET /syncs/{sync}/groups?key=`.
pub(super) async fn page(context: PageContext, Path(sync): Path<String>, query: RawQuery) -> Response {
    let params = Params::of_query(&query);
    match (build(&context, &sync, &params).await, params.one("key")) {
        (Err(error @ ServiceError::NotFound(_)), Some(key)) if context.service.sync(&sync).await.is_ok() => {
            // One that is pending and new has no history yet.
            let requests = context.service.requests(&sync, key).await.unwrap_or_default();
            let links = not_synced(&sync, key);
            respond::error_with(&context, error, &html! { (links) (group_requests::section(&context, &requests)) })
        }
        (page, _) => respond::page(&context, page),
    }
}

/// Links from a group without a sync history.
fn not_synced(sync: &str, key: &str) -> Markup {
    let path = sync_path(sync);
    let plan = with_query(&format!("{path}/plan"), &[("group", key)]);
    html! {
        div class="actions" role="group" aria-label="Actions" {
            a class="button" href=(plan) rel="nofollow" data-slow="Reading the source…" {
                "Plan for " bdi { (short(key)) }
            }
            a class="button" href=(path) { "Back to " bdi { (short(sync)) } }
        }
        (group_search(sync, Some(key)))
    }
}

async fn build(context: &PageContext, sync: &str, params: &Params) -> ServiceResult<PageContent> {
    let Some(key) = params.one("key") else {
        let error = Error::new(Kind::Config, "the key of the group is missing")
            .advise("open a group from the sync's page, by its key");
        return Err(ServiceError::Invalid(error));
    };
    let group = match context.service.group(sync, key, None, HISTORY).await {
        Ok(group) => group,
        Err(ServiceError::NotFound(error)) => {
            let next =
                "compare the key with the source's, character by character; `groupcast plan` lists groups not sent yet";
            let error = if error.advice().is_some() { error } else { error.advise(next) };
            return Err(ServiceError::NotFound(error));
        }
        Err(error) => return Err(error),
    };
    let requests = context.service.requests(sync, key).await?;
    let path = sync_path(sync);
    let body = html! {
        (breadcrumbs(&[("/", "Overview"), (&path, sync)], &short(key)))
        h1 {
            bdi { (shown_line(key)) } (label_after(group.label.as_deref())) " " (badge(&group).html()) " "
            (copy_button(key, "the key"))
        }
        p class="soft" { "A group of " a href=(path) { bdi { (shown_line(sync)) } } "." }
        @if let Some(what) = &group.unreadable {
            section class="notice bad" aria-label="Unreadable" {
                p { strong { "The ledger is damaged here: " } (shown(what)) }
                p class="do" {
                    "On the command line, " code { "groupcast ledger reset" } " forces a full resend of this group, which "
                    "replaces the damaged record."
                }
            }
        }
        @if let Some(run) = &group.unconfirmed_in {
            section class="notice warn" aria-label="Unconfirmed" {
                p {
                    strong { "Unconfirmed. " } "Run " (run_link(run)) " sent a change and got no response; the next run resends "
                    "this group in full."
                }
            }
        }
        @if let Some(rejected) = &group.rejected {
            section class="notice bad" aria-label="Rejected" {
                p { strong { "Rejected:" } }
                p class="message" { (shown(&rejected.reason)) }
                (diff::document("Rejected payload", &rejected.document))
                p class="do" {
                    "The group is excluded until its row changes. Correct the row or the mapping, or retry."
                }
            }
        }
        (actions(context, sync, key, group.rejected.is_some()))
        (group_requests::section(context, &requests))
        (traits(context, &group))
        (history(context, &group.history))
        (group_search(sync, None))
    };
    Ok(PageContent::new(short(key), NavItem::Elsewhere, body).live(false))
}

fn badge(group: &GroupView) -> Badge {
    match group {
        GroupView { rejected: Some(_), .. } => Badge { tone: "bad", sign: "✕", word: "rejected" },
        GroupView { unconfirmed_in: Some(_), .. } => Badge { tone: "warn", sign: "?", word: "unconfirmed" },
        GroupView { synced: true, .. } => Badge { tone: "good", sign: "✓", word: "synced" },
        _ => Badge { tone: "plain", sign: "–", word: "no longer synced" },
    }
}

fn actions(context: &PageContext, sync: &str, key: &str, rejected: bool) -> Markup {
    let plan = with_query(&format!("{}/plan", sync_path(sync)), &[("group", key)]);
    let run = run_of_group(sync, key);
    html! {
        div class="actions" role="group" aria-label="Actions" {
            a class="button" href=(plan) rel="nofollow" data-slow="Reading the source…" { "Plan for this group" }
            @if rejected {
                (context.post_form(&run, html! { input type="hidden" name="retry_rejected" value="1"; },
                    html! { button { "Retry" } }))
            }
        }
    }
}

fn traits(context: &PageContext, group: &GroupView) -> Markup {
    let rows: Vec<Vec<Markup>> = (group.traits.iter())
        .map(|(name, synced)| {
            vec![
                html! { bdi { (long(name)) } },
                value(&synced.value),
                match synced.sent_at {
                    Some(at) => time_relative(context.now, at),
                    None => html! { span class="soft" { "before the recorded history" } },
                },
                match &synced.run {
                    Some(run) => run_link(run),
                    None => html! { span class="soft" { "–" } },
                },
            ]
        })
        .collect();
    let columns = [text("Trait"), text("Value"), text("Last sent"), text("Run")];
    html! {
        section aria-labelledby="traits-h" {
            h2 id="traits-h" { "Synced traits" }
            @if rows.is_empty() { p class="calm" { "No synced traits." } }
            @else { (table("traits", &plural(rows.len() as u64, "trait"), NarrowLayout::Cards, &columns, &rows)) }
        }
    }
}

fn history(context: &PageContext, history: &[HistoryView]) -> Markup {
    html! {
        section aria-labelledby="history-h" {
            h2 id="history-h" { "History" }
            @if history.is_empty() { p class="calm" { "No recorded changes." } }
            ol class="history" reversed[history.len() > 1] {
                @for line in history {
                    li {
                        p {
                            (outcome(&line.outcome)) " " (time_relative(context.now, line.at)) " · run "
                            (run_link(&line.run))
                        }
                        @if let Some(reason) = &line.reason { p class="message" { (shown(reason)) } }
                        (diff::change(&line.change, None))
                    }
                }
            }
            @if history.len() as u64 >= HISTORY {
                p class="soft" { "Only the latest " (HISTORY) " changes are shown." }
            }
        }
    }
}
