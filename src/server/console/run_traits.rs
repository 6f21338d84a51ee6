//! What a run did to each trait.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use maud::{Markup, html};

use super::format::{plural, thousands};
use super::table::{NarrowLayout, number, table, text};
use super::text::name;
use crate::sync::trait_counts::TraitCounts;

/// Traits shown before the rest is collapsed.
const SHOWN: usize = 12;

/// The section with the counts per trait; none for a run that sent none.
pub(super) fn section(traits: &BTreeMap<String, TraitCounts>) -> Markup {
    if traits.is_empty() {
        return html! {};
    }
    let mut sorted: Vec<(&String, &TraitCounts)> = traits.iter().collect();
    sorted.sort_by_key(|(_, of)| Reverse(of.added + of.changed + of.unset));
    let rows: Vec<Vec<Markup>> = (sorted.into_iter())
        .map(|(trait_name, of)| {
            let figure =
                |count: u64| html! { @if count == 0 { span class="soft" { "0" } } @else { (thousands(count)) } };
            vec![html! { (name(trait_name)) }, figure(of.added), figure(of.changed), figure(of.unset)]
        })
        .collect();
    let columns = [text("Trait"), number("Added"), number("Changed"), number("Unset")];
    let (first, rest) = rows.split_at(rows.len().min(SHOWN));
    html! {
        section id="traits" aria-labelledby="traits-h" {
            h2 id="traits-h" { "Traits" }
            (table("traits-table", "Acknowledged groups by trait, the most frequent first", NarrowLayout::Scroll, &columns, first))
            @if !rest.is_empty() {
                details class="figures" {
                    summary { (plural(rest.len() as u64, "more trait")) }
                    (table("more-traits-table", "The other traits", NarrowLayout::Scroll, &columns, rest))
                }
            }
        }
    }
}
