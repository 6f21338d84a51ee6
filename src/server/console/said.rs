//! What did a run say, group by group? A page of it at a time.

use maud::{Markup, html};

use super::table::{Shape, table, text};
use super::values;
use super::visit::{Params, Visit};
use super::words::{group_link, long, outcome, plural, run_path, thousands, time_relative, with_query};
use crate::ledger::RunStatus;
use crate::service::api::ServiceResult;
use crate::service::views::RunView;

/// Groups on a page.
const PAGE_GROUPS: u64 = 25;
/// The outcomes one may look for, and how they are called.
const OUTCOMES: [(&str, &str); 6] = [
    ("delivered", "delivered"),
    ("rejected", "rejected"),
    ("partly_rejected", "partly rejected"),
    ("not_sent", "not sent"),
    ("unknown", "unknown"),
    ("adopted", "adopted"),
];

/// What a run said, from `?from=`, of `?outcome=`.
pub(super) async fn section(visit: &Visit, view: &RunView, params: &Params) -> ServiceResult<Markup> {
    let (run, sync) = (view.run.as_str(), view.sync.as_str());
    let wanted = params.one("outcome").filter(|wanted| OUTCOMES.iter().any(|(name, _)| name == wanted));
    let from = params.number("from", 0);
    // One more than is shown tells whether there are more.
    let mut said = visit.service.run_changes(run, wanted, from, PAGE_GROUPS + 1).await?;
    let more = said.len() as u64 > PAGE_GROUPS;
    said.truncate(PAGE_GROUPS as usize);
    let to = |from: u64| {
        let from = from.to_string();
        let mut pairs: Vec<(&str, &str)> = wanted.map(|wanted| ("outcome", wanted)).into_iter().collect();
        pairs.push(("from", &from));
        format!("{}#said", with_query(&run_path(run), &pairs))
    };
    let rows: Vec<Vec<Markup>> = (said.iter())
        .map(|said| {
            vec![
                group_link(sync, &said.key),
                html! {
                    (outcome(&said.outcome))
                    @if let Some(reason) = &said.reason { div class="soft" { (long(reason)) } }
                },
                html! {
                    details class="long" {
                        summary {
                            @if said.change.delete { "the group is deleted" }
                            @else { (plural(said.change.traits_count() as u64, "trait")) }
                        }
                        (values::change(&said.change, None))
                    }
                },
                time_relative(visit.now, said.at),
            ]
        })
        .collect();
    let columns = [text("Group"), text("Outcome"), text("What was said"), text("When")];
    let anything = !rows.is_empty() || wanted.is_some() || from > 0;
    Ok(html! {
        section id="said" aria-labelledby="said-h" {
            h2 id="said-h" { "What it said" }
            @if anything {
                form method="get" action={ (run_path(run)) "#said" } class="filter" {
                    label for="outcome" { "Outcome" }
                    select id="outcome" name="outcome" {
                        option value="" selected[wanted.is_none()] { "all" }
                        @for (name, word) in OUTCOMES {
                            option value=(name) selected[wanted == Some(name)] { (word) }
                        }
                    }
                    button { "Show" }
                }
            }
            @if rows.is_empty() {
                p class="calm" {
                    @if anything { "No group fits." }
                    @else if view.status == RunStatus::Running { "Nothing is recorded yet." }
                    @else if view.status == RunStatus::Died {
                        "Nothing is recorded. What it sent just before it died is unconfirmed, and said again in full."
                    }
                    @else { "It said nothing about any group." }
                }
            } @else {
                @let last = from + rows.len() as u64;
                (table("said-table", &format!("Groups {} to {}", thousands(from + 1), thousands(last)), Shape::Cards,
                    &columns, &rows))
            }
            nav class="pages" aria-label="Pages of what it said" {
                @if from > 0 { a href=(to(from.saturating_sub(PAGE_GROUPS))) rel="prev" { "Earlier" } }
                @if more { a href=(to(from + PAGE_GROUPS)) rel="next" { "Later" } }
            }
        }
    })
}
