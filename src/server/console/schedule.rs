//! Scheduled times, and when a queued run starts.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::context::PageContext;
use super::format::age;
use super::text::shown_line;
use crate::service::views::{ActivityState, ScheduledTime, SyncView};

/// A scheduled time: how far away, in the schedule's time zone, and in UTC.
pub(super) fn scheduled_time(now: DateTime<Utc>, at: &ScheduledTime, time_zone: &str) -> Markup {
    html! {
        span class="when" { (age(now, at.utc)) } " "
        span class="soft" {
            time datetime=(at.local) data-form="weekday" {
                (local_minute(at)) " " (shown_line(time_zone))
                @if time_zone != "UTC" { " · " (at.utc.format("%H:%M")) "\u{a0}UTC" }
            }
        }
    }
}

/// `Sun 22 Nov 04:16`, in the schedule's time zone.
fn local_minute(at: &ScheduledTime) -> String {
    let local = DateTime::parse_from_rfc3339(&at.local).map(|local| local.format("%a %-d %b %H:%M").to_string());
    local.unwrap_or_else(|_| shown_line(&at.local))
}

/// When a sync runs next, in a cell.
pub(super) fn next_run(now: DateTime<Utc>, sync: &SyncView) -> Markup {
    let activity = sync.activity.as_ref();
    match (activity.map(|activity| activity.state), &sync.schedule) {
        (Some(ActivityState::Paused), _) => html! { span class="soft" { "paused" } },
        (Some(ActivityState::Disabled), _) => html! { span class="soft" { "disabled" } },
        (Some(ActivityState::BackingOff), _) if activity.is_some_and(|activity| activity.next_attempt_at.is_some()) => {
            let at = activity.and_then(|activity| activity.next_attempt_at).unwrap_or(now);
            html! { span class="when" { (age(now, at)) } div class="soft" { "retry" } }
        }
        (_, None) => html! { span class="soft" { "manual" } },
        (_, Some(schedule)) => match schedule.next.first() {
            Some(at) => html! {
                span class="when" { (age(now, at.utc)) }
                div class="soft" { time datetime=(at.local) data-form="weekday" { (local_minute(at)) " " (shown_line(&schedule.timezone)) } }
            },
            None => html! { span class="soft" { (shown_line(&schedule.expression)) } },
        },
    }
}

/// When a queued run starts.
pub(super) fn starts_at(context: &PageContext, behind_its_own: bool) -> &'static str {
    match (context.about.stopping, behind_its_own) {
        (true, _) => "The daemon is shutting down: it starts after the restart.",
        (false, true) => "It starts when the sync's current run has finished.",
        (false, false) => "It starts as soon as fewer runs are in progress.",
    }
}
