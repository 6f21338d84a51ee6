//! The last and the next 24 hours on the overview: a lane for each sync with its runs and scheduled times, and the same as a
//! table.

use chrono::{DateTime, TimeDelta, Utc};
use maud::{Markup, html};

use super::badge::run_status;
use super::context::PageContext;
use super::format::{plural, relative, time_relative};
use super::links::{run_path, sync_path};
use super::table::{NarrowLayout, table, text};
use super::text::{name, shown_line};
use crate::service::api::ServiceResult;
use crate::service::views::{ActivityState, RunView, SyncView};

/// Scheduled times of a sync that are shown: every half hour for a day.
pub(super) const TIMES: usize = 48;
/// Runs that are read for the last day.
const RUNS: u64 = 500;
/// Lanes: as many syncs as a screen has room for.
const LANES: usize = 20;
/// Rows of the table, in each direction.
const ROWS: usize = 50;

/// The hours in each direction.
const HOURS: i64 = 24;

/// The section; empty where no run is known or scheduled within these hours.
pub(super) async fn section(context: &PageContext, syncs: &[SyncView]) -> ServiceResult<Markup> {
    let now = context.now;
    let mut runs = context.service.runs(None, None, RUNS).await?;
    runs.retain(|run| now - run.started_at <= TimeDelta::hours(HOURS));
    let mut lanes: Vec<Lane<'_>> = syncs.iter().map(|sync| Lane::of(now, sync, &runs)).collect();
    lanes.retain(|lane| !lane.runs.is_empty() || !lane.next.is_empty());
    if lanes.is_empty() {
        return Ok(html! {});
    }
    let hidden = lanes.len().saturating_sub(LANES);
    Ok(html! {
        section id="day" aria-labelledby="day-h" {
            h2 id="day-h" { "Last and next 24 hours" }
            div class="day" {
                @for (index, lane) in lanes.iter().take(LANES).enumerate() { (lane.html(now, index)) }
                div class="day-axis" aria-hidden="true" {
                    span {} span class="hours" { span { "24 h ago" } span { "now" } span { "in 24 h" } }
                }
            }
            @if hidden > 0 { p class="soft" { "… and " (plural(hidden as u64, "more sync")) } }
            details class="figures" {
                summary { "Show as table" }
                (times(now, &lanes))
            }
        }
    })
}

/// The runs and scheduled times of a sync within the hours.
struct Lane<'a> {
    sync: &'a SyncView,
    runs: Vec<&'a RunView>,
    next: Vec<DateTime<Utc>>,
}

impl<'a> Lane<'a> {
    fn of(now: DateTime<Utc>, sync: &'a SyncView, runs: &'a [RunView]) -> Lane<'a> {
        let state = sync.activity.as_ref().map(|activity| activity.state);
        let starts = sync.enabled && !matches!(state, Some(ActivityState::Paused | ActivityState::Disabled));
        let times = sync.schedule.iter().filter(|_| starts).flat_map(|schedule| &schedule.next).map(|time| time.utc);
        Lane {
            sync,
            runs: runs.iter().filter(|run| run.sync == sync.sync).collect(),
            next: times.filter(|at| *at - now <= TimeDelta::hours(HOURS)).take(TIMES).collect(),
        }
    }

    fn html(&self, now: DateTime<Utc>, index: usize) -> Markup {
        let bad = self.runs.iter().filter(|run| matches!(run_status(run.status).tone, "bad" | "warn")).count();
        html! {
            a href=(sync_path(&self.sync.sync)) { (name(&self.sync.sync)) }
            svg role="img" aria-labelledby={ "lane-" (index) } width="100%" height="20" {
                title id={ "lane-" (index) } {
                    (shown_line(&self.sync.sync)) ": " (plural(self.runs.len() as u64, "run"))
                    @if bad > 0 { ", " (bad) " with problems" }
                    ", " (self.next.len()) " scheduled"
                }
                line class="axis" x1="0" x2="100%" y1="19.5" y2="19.5" {}
                line class="grid" x1="50%" x2="50%" y1="0" y2="20" {}
                @for run in &self.runs {
                    @let badge = run_status(run.status);
                    // What went wrong is higher too: colours alone would not do.
                    @let high = if badge.tone == "good" { 8 } else { 16 };
                    rect class=(badge.tone) x=(place(now, run.started_at)) width="4" y=(19 - high) height=(high) {
                        title { (badge.word) ", " (relative(now, run.started_at)) }
                    }
                }
                @for at in &self.next {
                    circle class="planned-time" cx=(place(now, *at)) cy="13" r="2.5" { title { "scheduled " (relative(now, *at)) } }
                }
            }
        }
    }
}

/// Where a time is on the axis, as a share of its width.
fn place(now: DateTime<Utc>, at: DateTime<Utc>) -> String {
    let share = (at - now).num_seconds() as f64 / (HOURS * 3_600) as f64;
    format!("{:.2}%", (50.0 + 50.0 * share).clamp(0.0, 99.5))
}

/// Runs and scheduled times around now, in order.
fn times(now: DateTime<Utc>, lanes: &[Lane<'_>]) -> Markup {
    let mut past: Vec<(DateTime<Utc>, &SyncView, Option<&RunView>)> = Vec::new();
    let mut next = Vec::new();
    for lane in lanes {
        past.extend(lane.runs.iter().map(|run| (run.started_at, lane.sync, Some(*run))));
        next.extend(lane.next.iter().map(|at| (*at, lane.sync, None)));
    }
    past.sort_by_key(|(at, ..)| *at);
    next.sort_by_key(|(at, ..)| *at);
    let shown = past.iter().skip(past.len().saturating_sub(ROWS)).chain(next.iter().take(ROWS));
    let rows: Vec<Vec<Markup>> = shown
        .map(|(at, sync, run)| {
            vec![
                html! { (name(&sync.sync)) },
                time_relative(now, *at),
                match run {
                    Some(run) => {
                        html! { a class="quiet" href=(run_path(&run.run)) { (run_status(run.status).html()) } }
                    }
                    None => html! { "scheduled" },
                },
            ]
        })
        .collect();
    let columns = [text("Sync"), text("When"), text("Status")];
    let caption = format!("The nearest {ROWS} runs and scheduled times, at most");
    table("day-table", &caption, NarrowLayout::Scroll, &columns, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn now_is_in_the_middle() {
        let now = DateTime::UNIX_EPOCH;
        let at = |hours| place(now, now + TimeDelta::hours(hours));
        assert_eq!([at(-24), at(-12), at(0), at(12), at(24)], ["0.00%", "25.00%", "50.00%", "75.00%", "99.50%"]);
    }
}
