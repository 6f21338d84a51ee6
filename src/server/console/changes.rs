//! The changes of a run, group by group, a page at a time.

use maud::{Markup, html};

use super::badge::outcome;
use super::context::PageContext;
use super::format::{plural, thousands, time_relative};
use super::links::{group_link, run_path, with_query};
use super::params::Params;
use super::table::{NarrowLayout, table, text};
use super::text::long;
use super::{diff, retry};
use crate::ledger::RunStatus;
use crate::service::api::ServiceResult;
use crate::service::views::{ChangeView, RunView};

/// Changes on a page.
const PAGE_CHANGES: u64 = 25;
/// The outcomes of the filter, and their labels.
const OUTCOMES: [(&str, &str); 6] = [
    ("delivered", "delivered"),
    ("rejected", "rejected"),
    ("partly_rejected", "partly rejected"),
    ("pending", "pending"),
    ("unconfirmed", "unconfirmed"),
    ("adopted", "adopted"),
];
/// The outcomes of groups that can be sent again.
const RETRIED: [&str; 4] = ["rejected", "partly_rejected", "pending", "unconfirmed"];
/// The id of the form for that.
const FORM: &str = "changes-retry";

/// The section with the changes, from `?from=`, with `?outcome=`.
pub(super) async fn section(context: &PageContext, view: &RunView, params: &Params) -> ServiceResult<Markup> {
    let (run, sync) = (view.run.as_str(), view.sync.as_str());
    let wanted = params.one("outcome").filter(|wanted| OUTCOMES.iter().any(|(name, _)| name == wanted));
    let from = params.number("from", 0);
    // One more than is shown: are there more?
    let mut changes = context.service.run_changes(run, wanted, from, PAGE_CHANGES + 1).await?;
    let more = changes.len() as u64 > PAGE_CHANGES;
    changes.truncate(PAGE_CHANGES as usize);
    let to = |from: u64| {
        let from = from.to_string();
        let mut pairs: Vec<(&str, &str)> = wanted.map(|wanted| ("outcome", wanted)).into_iter().collect();
        pairs.push(("from", &from));
        format!("{}#changes", with_query(&run_path(run), &pairs))
    };
    let retried = |change: &&ChangeView| RETRIED.contains(&change.outcome.as_str());
    let rows: Vec<Vec<Markup>> = (changes.iter())
        .map(|change| {
            vec![
                html! {
                    @if retried(&change) { (retry::select_box(FORM, &change.key)) }
                    (group_link(sync, &change.key))
                },
                html! {
                    (outcome(&change.outcome))
                    @if let Some(reason) = &change.reason { div class="soft" { (long(reason)) } }
                },
                html! {
                    details class="long" {
                        summary {
                            @if change.change.delete { "the group is deleted" }
                            @else { (plural(change.change.traits_count() as u64, "trait")) }
                        }
                        (diff::change(&change.change, None))
                    }
                },
                time_relative(context.now, change.at),
            ]
        })
        .collect();
    let columns = [text("Group"), text("Outcome"), text("Payload"), text("When")];
    let anything = !rows.is_empty() || wanted.is_some() || from > 0;
    Ok(html! {
        section id="changes" aria-labelledby="changes-h" {
            h2 id="changes-h" { "Changes" }
            @if anything {
                form method="get" action={ (run_path(run)) "#changes" } class="filter" {
                    label for="outcome" { "Outcome" }
                    select id="outcome" name="outcome" {
                        option value="" selected[wanted.is_none()] { "all" }
                        @for (name, label) in OUTCOMES {
                            option value=(name) selected[wanted == Some(name)] { (label) }
                        }
                    }
                    button { "Show" }
                }
            }
            @if rows.is_empty() {
                p class="calm" {
                    @if anything { "No change matches." }
                    @else if view.status == RunStatus::Running { "No change is recorded yet." }
                    @else if view.status == RunStatus::Crashed {
                        "No change is recorded. What was sent just before the crash is unconfirmed and will be resent."
                    }
                    @else { "No changes." }
                }
            } @else {
                @let last = from + rows.len() as u64;
                (table("changes-table", &format!("Changes {} to {}", thousands(from + 1), thousands(last)), NarrowLayout::Cards,
                    &columns, &rows))
                @if view.status != RunStatus::Running && changes.iter().any(|change| retried(&change)) {
                    div class="actions" role="group" aria-label="Retry changes" { (retry::of_selected(context, FORM, sync)) }
                }
            }
            nav class="pages" aria-label="Pages of changes" {
                @if from > 0 { a href=(to(from.saturating_sub(PAGE_CHANGES))) rel="prev" { "Previous" } }
                @if more { a href=(to(from + PAGE_CHANGES)) rel="next" { "Next" } }
            }
        }
    })
}
