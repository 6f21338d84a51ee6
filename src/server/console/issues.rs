//! Issues of a sync: what needs attention, why, and what to do next.

use chrono::{DateTime, TimeDelta, Utc};
use maud::{Markup, html};

use super::badge::run_status;
use super::format::{distance, plural, relative, thousands};
use super::links::{run_path, sync_path, with_query};
use super::next_step::next_step;
use super::text::{prose, shown, shown_line};
use crate::ledger::RunStatus;
use crate::service::views::{ActivityState, SyncView};
use crate::sync::report::Counts;

/// A due run starts within seconds; only after this time is it an issue.
const OVERDUE_MIN: TimeDelta = TimeDelta::minutes(2);

/// Something that needs attention.
pub(super) struct Issue {
    /// `bad` or `warn`.
    pub(super) tone: &'static str,
    sign: &'static str,
    what: String,
    message: Option<String>,
    next_step: String,
    link: (String, &'static str),
}

impl Issue {
    /// The issue as text; with a link to the sync's page where it is not shown there.
    pub(super) fn html(&self, sync: &SyncView, link_to_sync: bool) -> Markup {
        let (path, name) = &self.link;
        html! {
            p {
                span class="sign" aria-hidden="true" { (self.sign) } " "
                @if link_to_sync {
                    a href=(sync_path(&sync.sync)) { strong { bdi { (shown_line(&sync.sync)) } } } ": "
                }
                (self.what) "."
            }
            @if let Some(message) = &self.message { p class="message" { (shown(message)) } }
            p class="do" {
                (prose(&self.next_step)) " "
                a href=(path) { (name) span class="hidden" { ": " (shown_line(&sync.sync)) } }
            }
        }
    }
}

/// The issue of a sync's last run.
pub(super) fn last_run_issue(now: DateTime<Utc>, sync: &SyncView) -> Option<Issue> {
    let run = sync.last_run.as_ref()?;
    let at = relative(now, run.ended_at.unwrap_or(run.started_at));
    let badge = run_status(run.status);
    let failures = sync.activity.as_ref().map_or(0, |activity| activity.failures);
    let in_a_row = if failures > 1 { format!(", the {} failure in a row", ordinal(failures)) } else { String::new() };
    let retry = match sync.activity.as_ref().and_then(|activity| activity.next_attempt_at) {
        Some(at) => format!(" The next retry is {}.", relative(now, at)),
        None if sync.schedule.is_none() && sync.enabled => " The sync has no schedule: run it again.".to_owned(),
        None => String::new(),
    };
    let (what, next_step) = match run.status {
        RunStatus::StoppedByGuard => (
            format!("Stopped by a guard {at}; nothing was sent"),
            "Compare the figures; accept the guard once if they are right.".to_owned(),
        ),
        RunStatus::Failed => {
            (format!("Failed {at}{in_a_row}"), format!("{}{retry}", next_step(run.error_kind.as_deref())))
        }
        RunStatus::Crashed => (
            format!("Crashed {at}{in_a_row}"),
            format!("The next run recovers; find out why the process ended.{retry}"),
        ),
        RunStatus::Incomplete => {
            let pending = run.counts.as_ref().map_or(0, Counts::unfinished);
            (
                format!("Finished incomplete {at}: {} pending", plural(pending, "group")),
                format!("The next run sends them.{retry}"),
            )
        }
        RunStatus::Cancelled => {
            let pending = run.counts.as_ref().map_or(0, Counts::unfinished);
            (format!("Cancelled {at}: {} pending", plural(pending, "group")), format!("The next run continues.{retry}"))
        }
        RunStatus::Queued | RunStatus::Running | RunStatus::Succeeded | RunStatus::SucceededWithRejections => {
            return None;
        }
    };
    let link = match run.status {
        RunStatus::StoppedByGuard => (format!("{}#guard", sync_path(&sync.sync)), "Review guard"),
        _ => (run_path(&run.run), "View run"),
    };
    Some(Issue { tone: badge.tone, sign: badge.sign, what, message: run.error.clone(), next_step, link })
}

/// The issues of a sync, the worst first.
pub(super) fn issues(now: DateTime<Utc>, sync: &SyncView) -> Vec<Issue> {
    let mut found: Vec<Issue> = last_run_issue(now, sync).into_iter().collect();
    let state = sync.activity.as_ref().map(|activity| activity.state);
    let idle = !matches!(
        state,
        Some(ActivityState::Running | ActivityState::Queued | ActivityState::Paused | ActivityState::BackingOff)
    );
    let overdue = sync.schedule.as_ref().and_then(|schedule| schedule.overdue_since);
    if let Some(since) = overdue.filter(|since| idle && sync.enabled && now - *since > OVERDUE_MIN) {
        found.push(Issue {
            tone: "warn",
            sign: "!",
            what: format!("Overdue for {}", distance(now - since)),
            message: None,
            next_step: "Other runs may use all parallel runs; see which are in progress.".to_owned(),
            link: (sync_path(&sync.sync), "View sync"),
        });
    }
    let rejected = sync.groups.rejected;
    if rejected > 0 {
        found.push(Issue {
            tone: "warn",
            sign: "!",
            what: format!("{} rejected", plural(rejected, "group")),
            message: None,
            next_step: "Read the error messages and correct the rows or the mapping; a changed row is sent again \
                        automatically."
                .to_owned(),
            link: (with_query("/rejected", &[("sync", &sync.sync)]), "View rejected"),
        });
    }
    found
}

fn ordinal(count: u32) -> String {
    let suffix = match (count % 100, count % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    format!("{}{suffix}", thousands(u64::from(count)))
}

#[cfg(test)]
mod tests {
    use super::ordinal;

    #[test]
    fn ordinals_have_their_endings() {
        assert_eq!(
            [1, 2, 3, 4, 11, 12, 13, 21, 102, 111].map(ordinal).join(" "),
            "1st 2nd 3rd 4th 11th 12th 13th 21st 102nd 111th"
        );
    }
}
