//! The search, filters and order of the list of syncs: a form whose fields are the page's query, so that it works without a
//! script and the address keeps it.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::badge::state_badge;
use super::format::plural;
use super::health::Health;
use super::params::Params;
use super::text::shown_line;
use crate::service::api::SyncError;
use crate::service::views::SyncView;

/// A row of the list.
#[derive(Clone, Copy)]
pub(super) enum ListedSync<'a> {
    /// A sync with a mapping that can be used.
    Usable(&'a SyncView),
    /// A sync without one, which is known by its file alone.
    Broken(&'a SyncError),
}

/// The orders, as the address and as people write them.
const ORDERS: [(&str, &str); 6] = [
    ("name", "name"),
    ("health", "health, worst first"),
    ("last", "last run, newest first"),
    ("next", "next run, soonest first"),
    ("rejected", "rejected, most first"),
    ("groups", "synced groups, most first"),
];
/// The states of a sync that a daemon has, as [`state_badge`] names them.
const STATES: [&str; 7] = ["running", "queued", "paused", "backing off", "scheduled", "manual", "disabled"];

/// What is searched, filtered and ordered by. Values that nothing has are kept: they find nothing.
pub(super) struct SyncFilter<'a> {
    search: Option<&'a str>,
    state: Option<&'a str>,
    tag: Option<&'a str>,
    destination: Option<&'a str>,
    order: &'a str,
}

impl<'a> SyncFilter<'a> {
    pub(super) fn of(params: &'a Params) -> SyncFilter<'a> {
        let order = params.one("sort").filter(|order| ORDERS.iter().any(|(name, _)| name == order));
        SyncFilter {
            search: params.one("q"),
            state: params.one("state"),
            tag: params.one("tag"),
            destination: params.one("destination"),
            order: order.unwrap_or("name"),
        }
    }

    /// Whether some syncs may not be listed.
    pub(super) fn is_narrow(&self) -> bool {
        [self.search, self.state, self.tag, self.destination].iter().any(Option::is_some)
    }

    fn matches(&self, row: ListedSync<'_>) -> bool {
        let of = |wanted: Option<&str>, has: &dyn Fn(&str) -> bool| wanted.is_none_or(has);
        match row {
            ListedSync::Usable(sync) => {
                let state = (Health::of(sync).badge().word, state_badge(sync).word);
                of(self.search, &|wanted| {
                    let wanted = wanted.to_lowercase();
                    let fields = [&sync.sync, &sync.source, &sync.destination, &sync.group_type];
                    fields.into_iter().chain(&sync.tags).any(|field| field.to_lowercase().contains(&wanted))
                }) && of(self.state, &|wanted| state.0 == wanted || state.1 == wanted)
                    && of(self.tag, &|wanted| sync.tags.iter().any(|tag| tag == wanted))
                    && of(self.destination, &|wanted| sync.destination == wanted)
            }
            ListedSync::Broken(error) => {
                of(self.search, &|wanted| error.sync.to_lowercase().contains(&wanted.to_lowercase()))
                    && of(self.state, &|wanted| wanted == Health::Error.badge().word)
                    && self.tag.is_none()
                    && self.destination.is_none()
            }
        }
    }

    /// The rows that match, in order. `rows` are by name.
    pub(super) fn apply(&self, mut rows: Vec<ListedSync<'a>>) -> Vec<ListedSync<'a>> {
        rows.retain(|row| self.matches(*row));
        let usable = |row: &ListedSync<'a>| match row {
            ListedSync::Usable(sync) => Some(*sync),
            ListedSync::Broken(_) => None,
        };
        match self.order {
            "health" => rows.sort_by_key(|row| usable(row).map_or(Health::Error, Health::of)),
            "last" => {
                rows.sort_by_key(|row| Reverse(usable(row).and_then(|sync| Some(sync.last_run.as_ref()?.started_at))))
            }
            // Those without a time come last.
            "next" => {
                rows.sort_by_key(|row| usable(row).and_then(next_at).map_or((true, None), |at| (false, Some(at))))
            }
            "rejected" => rows.sort_by_key(|row| Reverse(usable(row).map_or(0, |sync| sync.groups.rejected))),
            "groups" => rows.sort_by_key(|row| Reverse(usable(row).map_or(0, |sync| sync.groups.synced))),
            _ => {}
        }
        rows
    }

    /// The form, above `listed` of `all` rows.
    pub(super) fn form(&self, all: &[ListedSync<'_>], listed: usize) -> Markup {
        let syncs = || {
            all.iter().filter_map(|row| match row {
                ListedSync::Usable(sync) => Some(*sync),
                ListedSync::Broken(_) => None,
            })
        };
        let tags: BTreeSet<&str> = syncs().flat_map(|sync| &sync.tags).map(String::as_str).collect();
        let destinations: BTreeSet<&str> = syncs().map(|sync| sync.destination.as_str()).collect();
        let states: Vec<&str> = Health::ALL.map(|health| health.badge().word).into_iter().chain(STATES).collect();
        let many = destinations.len() > 1 || self.destination.is_some();
        html! {
            form class="filter" role="search" aria-label="Syncs" method="get" action="/" {
                label class="field" { span { "Search" }
                    input name="q" type="search" autocomplete="off" spellcheck="false" value=[self.search];
                }
                (choice("State", "state", &states, self.state))
                @if !tags.is_empty() || self.tag.is_some() {
                    (choice("Tag", "tag", &tags.into_iter().collect::<Vec<_>>(), self.tag))
                }
                @if many {
                    (choice("Destination", "destination", &destinations.into_iter().collect::<Vec<_>>(),
                        self.destination))
                }
                label class="field" { span { "Sort by" }
                    select name="sort" {
                        @for (name, words) in ORDERS { option value=(name) selected[name == self.order] { (words) } }
                    }
                }
                button { "Show" }
                @if self.is_narrow() {
                    span class="soft" role="status" {
                        (listed) " of " (plural(all.len() as u64, "sync")) " · " a href="/" { "Show all" }
                    }
                }
            }
        }
    }
}

/// When a sync runs next by itself.
fn next_at(sync: &SyncView) -> Option<DateTime<Utc>> {
    let retry = sync.activity.as_ref().and_then(|activity| activity.next_attempt_at);
    retry.or_else(|| sync.schedule.as_ref()?.next.first().map(|time| time.utc))
}

/// A field whose first choice is all.
fn choice(label: &str, name: &str, values: &[&str], chosen: Option<&str>) -> Markup {
    let unknown = chosen.filter(|chosen| !values.contains(chosen));
    html! {
        label class="field" { span { (label) }
            select name=(name) {
                option value="" { "all" }
                @for value in values.iter().copied().chain(unknown) {
                    option value=(value) selected[Some(value) == chosen] { (shown_line(value)) }
                }
            }
        }
    }
}
