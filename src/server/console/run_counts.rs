//! The counts of a run, as sums that add up.

use maud::{Markup, html};

use super::format::{plural, thousands};
use super::links::with_query;
use super::progress::retries;
use crate::ledger::RunStatus;
use crate::sync::report::{Counts, OutcomeCounts};

/// The section with the counts.
pub(super) fn section(sync: &str, counts: &Counts, status: RunStatus) -> Markup {
    let finished = matches!(status, RunStatus::Succeeded | RunStatus::SucceededWithRejections);
    let rejected_now = counts.changes.rejected.saturating_sub(counts.rejected_unchanged + counts.invalid_keys);
    html! {
        section aria-labelledby="counts-h" {
            h2 id="counts-h" { "Counts" }
            p class="sum" {
                (term("whole", counts.rows, if counts.rows == 1 { "row" } else { "rows" })) (sign("="))
                (term("", counts.unchanged, "unchanged")) (sign("+")) (tally(&counts.changes))
            }
            @if !counts.add_up() {
                p class="notice bad" {
                    strong { "These counts do not add up. " } "That is a bug: report it with this page."
                }
            }
            @if counts.changes.rejected > 0 {
                p class="soft" {
                    "Rejected: " (thousands(rejected_now)) " by this run, " (thousands(counts.rejected_unchanged))
                    " by earlier runs and not retried, " (thousands(counts.invalid_keys)) " without a valid key. "
                    @if counts.rejected_unchanged > 0 { a href=(with_query("/rejected", &[("sync", sync)])) { "View rejected" } }
                }
            }
            @if counts.missing > 0 {
                h3 { "Groups missing from the model" }
                @if counts.removed.total() > 0 {
                    p class="sum" {
                        (term("whole", counts.removed.total(), "to remove")) (sign("=")) (tally(&counts.removed))
                    }
                }
                p class="soft" {
                    (plural(counts.missing, "synced group")) " missing from the model"
                    @if counts.removed.total() == 0 && finished { "; the policy keeps them" }
                    "."
                }
            }
            p {
                (plural(counts.traits_set, "trait")) " set and " (thousands(counts.traits_unset)) " unset; "
                (plural(counts.new, "new group")) "; " (plural(counts.requests, "request"))
                @if counts.retries > 0 { " including " (retries(counts.retries)) }
                "."
            }
        }
    }
}

fn term(class: &str, count: u64, what: &str) -> Markup {
    html! { span class={ "term " (class) } { b { (thousands(count)) } " " span { (what) } } }
}

fn sign(sign: &str) -> Markup {
    html! { span class="sign" { (sign) } }
}

fn tally(tally: &OutcomeCounts) -> Markup {
    html! {
        (term("good", tally.delivered, "delivered")) (sign("+"))
        (term("bad", tally.rejected, "rejected")) (sign("+"))
        (term("warn", tally.pending, "pending")) (sign("+"))
        (term("warn", tally.unconfirmed, "unconfirmed"))
    }
}
