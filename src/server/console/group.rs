//! What does the destination hold about one group, and when and by which run was each trait sent?

use axum::extract::{Path, RawQuery};
use axum::response::Response;
use maud::{Markup, html};

use super::page::{Here, Page, crumbs};
use super::sync::search;
use super::table::{Shape, table, text};
use super::values::{self, value};
use super::visit::{Params, Visit};
use super::words::{
    Mark, long, outcome, plural, run_path, short, shown, shown_line, sync_path, time_relative, with_query,
};
use crate::error::{Error, Kind};
use crate::service::api::{ServiceError, ServiceResult};
use crate::service::views::{GroupView, HistoryView};

/// Lines of a group's history.
const HISTORY: u64 = 100;

/// `GET /syncs/{sync}/groups?key=`.
pub(super) async fn page(visit: Visit, Path(sync): Path<String>, query: RawQuery) -> Response {
    let params = Params::of_query(&query);
    match (build(&visit, &sync, &params).await, params.one("key")) {
        (Err(refusal @ ServiceError::NotFound(_)), Some(key)) if visit.service.sync(&sync).await.is_ok() => {
            visit.refuse_with(refusal, &elsewhere(&sync, key))
        }
        (page, _) => visit.respond(page),
    }
}

/// Where to look for a group of which nothing is known.
fn elsewhere(sync: &str, key: &str) -> Markup {
    let path = sync_path(sync);
    let plan = with_query(&format!("{path}/plan"), &[("group", key)]);
    html! {
        div class="orders" role="group" aria-label="Orders" {
            a class="button" href=(plan) rel="nofollow" data-slow="Reading the source…" {
                "Plan for " bdi { (short(key)) }
            }
            a class="button" href=(path) { "Back to " bdi { (short(sync)) } }
        }
        (search(sync, Some(key)))
    }
}

async fn build(visit: &Visit, sync: &str, params: &Params) -> ServiceResult<Page> {
    let Some(key) = params.one("key") else {
        let error = Error::new(Kind::Config, "no group was named").advise("open one from the sync's page, by its key");
        return Err(ServiceError::Invalid(error));
    };
    let group = match visit.service.group(sync, key, None, HISTORY).await {
        Ok(group) => group,
        Err(ServiceError::NotFound(error)) => {
            let next = "compare the key letter by letter with the source's; `groupcast plan` shows groups not sent yet";
            let error = if error.advice().is_some() { error } else { error.advise(next) };
            return Err(ServiceError::NotFound(error));
        }
        Err(refused) => return Err(refused),
    };
    let path = sync_path(sync);
    let body = html! {
        (crumbs(&[("/", "Overview"), (&path, sync)], &short(key)))
        h1 { bdi { (shown_line(key)) } " " (stands(&group).badge()) }
        p class="soft" { "A group of " a href=(path) { bdi { (shown_line(sync)) } } "." }
        @if let Some(what) = &group.unreadable {
            section class="notice bad" aria-label="Unreadable" {
                p { strong { "The ledger is damaged here: " } (shown(what)) }
                p class="do" {
                    "On the command line, " code { "groupcast ledger reset" } " has everything sent again about this group, "
                    "which replaces what is damaged."
                }
            }
        }
        @if let Some(run) = &group.unconfirmed_in {
            section class="notice warn" aria-label="Unconfirmed" {
                p {
                    strong { "Unconfirmed. " } "A run spoke about it and did not learn the outcome (" (run_link(run))
                    "); the next run says everything again."
                }
            }
        }
        @if let Some(refused) = &group.rejected {
            section class="notice bad" aria-label="Rejected" {
                p { strong { "Its last document was rejected:" } }
                p class="message" { (shown(&refused.reason)) }
                (values::document("The document that was refused", &refused.document))
                p class="do" {
                    "Correct the row or the mapping: a changed row is tried again by itself. Or try it again as it is."
                }
            }
        }
        (orders(visit, &path, key, group.rejected.is_some()))
        (traits(visit, &group))
        (history(visit, &group.history))
        (search(sync, None))
    };
    Ok(Page::new(short(key), Here::Elsewhere, body))
}

fn stands(group: &GroupView) -> Mark {
    match group {
        GroupView { rejected: Some(_), .. } => Mark { tone: "bad", sign: "✕", word: "rejected" },
        GroupView { unconfirmed_in: Some(_), .. } => Mark { tone: "warn", sign: "?", word: "unconfirmed" },
        GroupView { known: true, .. } => Mark { tone: "good", sign: "✓", word: "known" },
        _ => Mark { tone: "plain", sign: "–", word: "not known any more" },
    }
}

fn run_link(run: &str) -> Markup {
    html! { a href=(run_path(run)) { (shown_line(run)) } }
}

fn orders(visit: &Visit, path: &str, key: &str, rejected: bool) -> Markup {
    let plan = with_query(&format!("{path}/plan"), &[("group", key)]);
    let run = with_query(&format!("{path}/run"), &[("group", key)]);
    html! {
        div class="orders" role="group" aria-label="Orders" {
            a class="button" href=(plan) rel="nofollow" data-slow="Reading the source…" { "Plan for this group" }
            @if rejected {
                (visit.order(&run, html! { input type="hidden" name="retry_rejected" value="1"; },
                    html! { button { "Try it again" } }))
            }
        }
    }
}

fn traits(visit: &Visit, group: &GroupView) -> Markup {
    let rows: Vec<Vec<Markup>> = (group.traits.iter())
        .map(|(name, held)| {
            vec![
                html! { bdi { (long(name)) } },
                value(&held.value),
                match held.sent_at {
                    Some(at) => time_relative(visit.now, at),
                    None => html! { span class="soft" { "before the history begins" } },
                },
                match &held.run {
                    Some(run) => run_link(run),
                    None => html! { span class="soft" { "–" } },
                },
            ]
        })
        .collect();
    let columns = [text("Trait"), text("Value"), text("Last sent"), text("By run")];
    html! {
        section aria-labelledby="traits-h" {
            h2 id="traits-h" { "What the destination holds" }
            @if rows.is_empty() { p class="calm" { "No trait is known." } }
            @else { (table("traits", &plural(rows.len() as u64, "trait"), Shape::Cards, &columns, &rows)) }
        }
    }
}

fn history(visit: &Visit, history: &[HistoryView]) -> Markup {
    html! {
        section aria-labelledby="history-h" {
            h2 id="history-h" { "What was said" }
            @if history.is_empty() { p class="calm" { "Nothing, as far as the history reaches." } }
            ol class="story" reversed[history.len() > 1] {
                @for line in history {
                    li {
                        p {
                            (outcome(&line.outcome)) " " (time_relative(visit.now, line.at)) " · run "
                            (run_link(&line.run))
                        }
                        @if let Some(reason) = &line.reason { p class="message" { (shown(reason)) } }
                        (values::change(&line.change, None))
                    }
                }
            }
            @if history.len() as u64 >= HISTORY {
                p class="soft" { "Only the latest " (HISTORY) " are shown." }
            }
        }
    }
}
