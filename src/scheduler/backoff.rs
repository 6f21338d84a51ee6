//! The backoff of one sync: how long it waits after failures, and how many crashes in a row it has seen. Pure.

use chrono::{DateTime, TimeDelta, Utc};

use crate::error::Kind;

/// The delay after the first failure; doubled with each further one.
const DELAY_FIRST: TimeDelta = TimeDelta::seconds(60);
/// The longest delay: a vendor or warehouse that is back is noticed within the hour.
pub const DELAY_MAX: TimeDelta = TimeDelta::seconds(3_600);

/// How long a sync does not start by itself after so many failures in a row.
pub fn delay_after(failures: u32) -> TimeDelta {
    // Six doublings of a minute pass the hour.
    let doublings = failures.saturating_sub(1).min(6);
    (DELAY_FIRST * (1 << doublings)).min(DELAY_MAX)
}

/// Whether a failure of this kind may be over a little later without anybody's help.
pub fn is_transient(kind: Kind) -> bool {
    match kind {
        Kind::SourceBusy | Kind::Destination | Kind::Ledger | Kind::LedgerBusy | Kind::Bug => true,
        Kind::Config | Kind::Source | Kind::Guard | Kind::PlanOutdated | Kind::Interrupted => false,
    }
}

/// How an earlier run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PastResult {
    /// Everything was delivered, or all but some rejected groups.
    Succeeded,
    /// It failed or was left incomplete, for a reason of this kind where one is recorded.
    Failed(Option<Kind>),
    /// It was cancelled, or the process shut down in good order.
    Interrupted,
    /// The process ended during it.
    ProcessCrashed,
    /// It panicked or could not record its end, and the process went on.
    RunCrashed,
}

impl PastResult {
    fn is_crash(self) -> bool {
        matches!(self, PastResult::ProcessCrashed | PastResult::RunCrashed)
    }
}

/// An earlier run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PastRun {
    /// When it ended, if that is known.
    pub ended_at: Option<DateTime<Utc>>,
    /// How it ended.
    pub result: PastResult,
}

/// The backoff of a sync.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backoff {
    /// Failed runs in a row.
    pub failures: u32,
    /// The sync does not start by itself before this.
    pub not_before: Option<DateTime<Utc>>,
    /// Whether it starts then even though no scheduled time has come.
    pub retry: bool,
    /// Runs in a row during which the process crashed. This sync may be the cause, or one that ran beside it: such syncs
    /// run one at a time until each has shown that its run ends.
    pub crashes: u32,
}

impl Backoff {
    /// The backoff after earlier runs, the newest first. `shut_down`: the last process was shut down during a run.
    pub fn after(runs: &[PastRun], shut_down: bool, now: DateTime<Utc>, scheduled: bool) -> Backoff {
        // An interrupted run has not shown whether it would have ended.
        let shown = runs.iter().skip_while(|run| run.result == PastResult::Interrupted);
        let crashes = shown.take_while(|run| run.result == PastResult::ProcessCrashed).count();
        let crashes = u32::try_from(crashes).unwrap_or(u32::MAX);
        let Some(last) = runs.first().filter(|run| run.result != PastResult::Succeeded) else {
            return Backoff::default();
        };
        if shut_down {
            return Backoff { retry: scheduled, crashes, ..Backoff::default() };
        }
        let in_a_row = runs.iter().take_while(|run| run.result != PastResult::Succeeded);
        let failures = in_a_row.filter(|run| run.result != PastResult::Interrupted).count();
        let failures = u32::try_from(failures).unwrap_or(u32::MAX);
        if failures == 0 {
            return Backoff::default();
        }
        let retry = scheduled
            && match last.result {
                PastResult::Failed(kind) => kind.is_some_and(is_transient),
                result => result.is_crash(),
            };
        // One crash may be anything; several in a row may be this sync's doing.
        let spared = if last.result.is_crash() { delay_after(1) } else { TimeDelta::zero() };
        let not_before = last.ended_at.unwrap_or(now).checked_add_signed(delay_after(failures) - spared);
        Backoff { failures, not_before: not_before.filter(|at| *at > now), retry, crashes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + minute * 60, 0).unwrap()
    }

    /// Runs one a minute, given with the oldest first, returned with the newest first.
    fn runs(results: &[PastResult]) -> Vec<PastRun> {
        let run =
            |(minute, result): (usize, &PastResult)| PastRun { ended_at: Some(at(minute as i64)), result: *result };
        results.iter().enumerate().map(run).rev().collect()
    }

    #[test]
    fn crashes_of_the_process_are_counted_and_others_are_not() {
        use PastResult::{Failed, Interrupted, ProcessCrashed, RunCrashed, Succeeded};
        for (results, failures, crashes, delay) in [
            (vec![], 0, 0, 0),
            (vec![ProcessCrashed], 1, 1, 0),
            (vec![ProcessCrashed; 2], 2, 2, 1),
            (vec![ProcessCrashed; 4], 4, 4, 7),
            (vec![ProcessCrashed, Succeeded], 0, 0, 0),
            (vec![ProcessCrashed, Failed(Some(Kind::Source))], 2, 0, 2),
            (vec![RunCrashed], 1, 0, 0),
            (vec![ProcessCrashed, Interrupted], 1, 1, 1),
        ] {
            let now = at(results.len() as i64 - 1);
            let backoff = Backoff::after(&runs(&results), false, now, true);
            let minutes = backoff.not_before.map_or(0, |until| (until - now).num_minutes());
            assert_eq!((backoff.failures, backoff.crashes, minutes), (failures, crashes, delay), "{results:?}");
        }
        let backoff = Backoff::after(&runs(&[ProcessCrashed, ProcessCrashed, Interrupted]), true, at(9), true);
        assert_eq!((backoff.failures, backoff.retry, backoff.crashes), (0, true, 2), "a shutdown proves nothing");
    }
}
