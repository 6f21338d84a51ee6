//! The health of a sync in one word: the worst that is known of it.

use super::badge::Badge;
use crate::ledger::RunStatus;
use crate::service::views::SyncView;

/// From bad to good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Health {
    /// Its mapping has errors.
    Error,
    /// Its last run failed or crashed.
    Failing,
    /// A guard stopped its last run.
    Blocked,
    /// A scheduled time passed without a run that succeeded.
    Late,
    /// Some groups are rejected or pending.
    Degraded,
    /// It has never run.
    New,
    /// Everything is synced.
    Healthy,
}

impl Health {
    /// From bad to good.
    pub(super) const ALL: [Health; 7] =
        [Health::Error, Health::Failing, Health::Blocked, Health::Late, Health::Degraded, Health::New, Health::Healthy];

    /// Of a sync with a usable mapping.
    pub(super) fn of(sync: &SyncView) -> Health {
        let overdue = sync.enabled && sync.schedule.as_ref().is_some_and(|schedule| schedule.overdue_since.is_some());
        match sync.last_run.as_ref().map(|run| run.status) {
            Some(RunStatus::Failed | RunStatus::Crashed) => Health::Failing,
            Some(RunStatus::StoppedByGuard) => Health::Blocked,
            _ if overdue => Health::Late,
            _ if sync.groups.rejected > 0 => Health::Degraded,
            Some(RunStatus::Incomplete | RunStatus::SucceededWithRejections | RunStatus::Cancelled) => Health::Degraded,
            Some(RunStatus::Succeeded) => Health::Healthy,
            // While its first run is in progress there is nothing to judge by.
            Some(RunStatus::Queued | RunStatus::Running) if sync.last_success_at.is_some() => Health::Healthy,
            Some(RunStatus::Queued | RunStatus::Running) | None => Health::New,
        }
    }

    /// As a badge.
    pub(super) fn badge(self) -> Badge {
        let (tone, sign, word) = match self {
            Health::Error => ("bad", "✕", "error"),
            Health::Failing => ("bad", "✕", "failing"),
            Health::Blocked => ("bad", "■", "blocked"),
            Health::Late => ("warn", "!", "late"),
            Health::Degraded => ("warn", "!", "degraded"),
            Health::New => ("plain", "○", "new"),
            Health::Healthy => ("good", "✓", "healthy"),
        };
        Badge { tone, sign, word }
    }
}
