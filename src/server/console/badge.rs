//! Badges: a colour, a sign and a word for a status, so that no one depends on the colour alone.

use maud::{Markup, html};

use super::text::shown_line;
use crate::ledger::RunStatus;
use crate::service::views::{ActivityState, SyncView};

/// The colour's name, the sign and the word of a status.
pub(super) struct Badge {
    pub(super) tone: &'static str,
    pub(super) sign: &'static str,
    pub(super) word: &'static str,
}

impl Badge {
    pub(super) fn html(&self) -> Markup {
        html! { span class={ "badge " (self.tone) } { span aria-hidden="true" { (self.sign) } " " (self.word) } }
    }
}

/// The status of a run.
pub(super) fn run_status(status: RunStatus) -> Badge {
    let (tone, sign, word) = match status {
        RunStatus::Queued => ("busy", "○", "queued"),
        RunStatus::Running => ("busy", "●", "running"),
        RunStatus::Succeeded => ("good", "✓", "succeeded"),
        RunStatus::SucceededWithRejections => ("warn", "!", "succeeded with rejections"),
        RunStatus::Incomplete => ("warn", "!", "incomplete"),
        RunStatus::StoppedByGuard => ("bad", "■", "stopped by a guard"),
        RunStatus::Failed => ("bad", "✕", "failed"),
        RunStatus::Crashed => ("bad", "✕", "crashed"),
        RunStatus::Cancelled => ("warn", "–", "cancelled"),
    };
    Badge { tone, sign, word }
}

/// What the daemon does about a sync, or without a daemon, what its mapping schedules.
pub(super) fn state_badge(sync: &SyncView) -> Badge {
    sync_state(match &sync.activity {
        Some(activity) => activity.state,
        None if !sync.enabled => ActivityState::Disabled,
        None if sync.schedule.is_some() => ActivityState::Scheduled,
        None => ActivityState::Manual,
    })
}

/// What the daemon does about a sync.
pub(super) fn sync_state(state: ActivityState) -> Badge {
    let (tone, sign, word) = match state {
        ActivityState::Running => ("busy", "●", "running"),
        ActivityState::Queued => ("busy", "○", "queued"),
        ActivityState::Paused => ("warn", "‖", "paused"),
        ActivityState::BackingOff => ("bad", "↻", "backing off"),
        ActivityState::Scheduled => ("plain", "○", "scheduled"),
        ActivityState::Manual => ("plain", "○", "manual"),
        ActivityState::Disabled => ("plain", "–", "disabled"),
    };
    Badge { tone, sign, word }
}

/// The outcome of a change.
pub(super) fn outcome(name: &str) -> Markup {
    let (tone, sign, word) = match name {
        "delivered" => ("good", "✓", "delivered"),
        "adopted" => ("plain", "✓", "adopted"),
        "unchanged" => ("plain", "=", "unchanged"),
        "rejected" => ("bad", "✕", "rejected"),
        "partly_rejected" => ("bad", "✕", "partly rejected"),
        "pending" => ("warn", "–", "pending"),
        "unconfirmed" => ("warn", "?", "unconfirmed"),
        other => return html! { span class="badge plain" { (shown_line(other)) } },
    };
    Badge { tone, sign, word }.html()
}
