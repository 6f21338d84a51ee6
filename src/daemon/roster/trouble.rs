//! What do earlier runs tell about a sync's failures? How many in a row, how long nothing is tried, and how often the
//! process died during its runs. Pure.

use chrono::{DateTime, TimeDelta, Utc};

use crate::error::Kind;
use crate::ledger::{RunRecord, Status};

/// The pause after the first failure; doubled with each further one.
const PAUSE_FIRST: TimeDelta = TimeDelta::seconds(60);
/// The longest pause: a vendor or warehouse that is back is noticed within the hour.
pub(super) const PAUSE_MAX: TimeDelta = TimeDelta::seconds(3_600);

/// How long nothing is tried by itself after so many failures in a row.
pub fn pause_after(failures: u32) -> TimeDelta {
    // Six doublings of a minute pass the hour.
    let doublings = failures.saturating_sub(1).min(6);
    (PAUSE_FIRST * (1 << doublings)).min(PAUSE_MAX)
}

/// Whether what failed in this way may well succeed a little later, without anybody doing something.
pub fn may_pass(kind: Kind) -> bool {
    match kind {
        Kind::SourceBusy | Kind::Destination | Kind::Ledger | Kind::LedgerBusy | Kind::Bug => true,
        Kind::Config | Kind::Source | Kind::Guard | Kind::Interrupted => false,
    }
}

/// What is remembered of failures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trouble {
    /// Failed runs in a row.
    pub failures: u32,
    /// Nothing is tried by itself before this.
    pub not_before: Option<DateTime<Utc>>,
    /// Whether it is tried then although no moment has come.
    pub again: bool,
    /// Runs in a row during which the process died. It may be this sync that kills it, or one that ran beside it: such
    /// syncs run one at a time until they have shown that they end.
    pub deaths: u32,
}

fn well(run: &RunRecord) -> bool {
    matches!(run.status, Status::Delivered | Status::SomeRejected)
}

fn kind(run: &RunRecord) -> Option<Kind> {
    run.error_kind.as_deref().and_then(Kind::from_name)
}

/// Whether the process ended during this run. One that panicked, or whose record could not be written, is recorded as dead
/// by the process that goes on, with the kind of its error.
fn process_died(run: &RunRecord) -> bool {
    run.status == Status::Died && kind(run).is_none_or(|kind| kind == Kind::Interrupted)
}

impl Trouble {
    /// What earlier runs tell, the newest run first. `stopped`: the last process was told to end during a run.
    pub fn of(runs: &[RunRecord], stopped: bool, now: DateTime<Utc>, scheduled: bool) -> Trouble {
        let interrupted = |run: &&RunRecord| run.status != Status::Died && kind(run) == Some(Kind::Interrupted);
        // A run that somebody stopped has not shown whether it would have ended.
        let deaths = runs.iter().skip_while(interrupted).take_while(|run| process_died(run)).count();
        let deaths = u32::try_from(deaths).unwrap_or(u32::MAX);
        let Some(last) = runs.first().filter(|run| !well(run)) else { return Trouble::default() };
        if stopped {
            return Trouble { again: scheduled, deaths, ..Trouble::default() };
        }
        let in_a_row = runs.iter().take_while(|run| !well(run));
        let failed = in_a_row.filter(|run| run.status == Status::Died || kind(run) != Some(Kind::Interrupted));
        let failures = u32::try_from(failed.count()).unwrap_or(u32::MAX);
        if failures == 0 {
            return Trouble::default();
        }
        let died = last.status == Status::Died;
        let again = scheduled && (died || kind(last).is_some_and(may_pass));
        // One death may be anything; more of them in a row may be ours.
        let pause = if died { pause_after(failures) - pause_after(1) } else { pause_after(failures) };
        let not_before = last.ended_at.unwrap_or(now).checked_add_signed(pause);
        Trouble { failures, not_before: not_before.filter(|at| *at > now), again, deaths }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + minute * 60, 0).unwrap()
    }

    /// Runs, the oldest first, one a minute, as the ledger has them: the newest first.
    fn runs(ended: &[(Status, Option<Kind>)]) -> Vec<RunRecord> {
        let record = |(minute, (status, kind)): (usize, &(Status, Option<Kind>))| RunRecord {
            sync: "accounts".to_owned(),
            run: format!("r{minute:03}"),
            status: *status,
            started_at: at(minute as i64),
            ended_at: Some(at(minute as i64)),
            counts: String::new(),
            error: None,
            mapping: String::new(),
            started_by: String::new(),
            partial: false,
            error_kind: kind.map(|kind| kind.name().to_owned()),
        };
        ended.iter().enumerate().map(record).rev().collect()
    }

    #[test]
    fn deaths_of_the_process_are_counted_and_others_are_not() {
        let died = (Status::Died, Some(Kind::Interrupted));
        let stopped = (Status::Incomplete, Some(Kind::Interrupted));
        for (ended, failures, deaths, pause) in [
            (vec![], 0, 0, 0),
            (vec![died], 1, 1, 0),
            (vec![died, died], 2, 2, 1),
            (vec![died, died, died, died], 4, 4, 7),
            (vec![died, (Status::Delivered, None)], 0, 0, 0),
            (vec![died, (Status::Failed, Some(Kind::Source))], 2, 0, 2),
            (vec![(Status::Died, Some(Kind::Bug))], 1, 0, 0),
            (vec![(Status::Died, None)], 1, 1, 0),
            (vec![died, stopped], 1, 1, 1),
        ] {
            let now = at(ended.len() as i64 - 1);
            let trouble = Trouble::of(&runs(&ended), false, now, true);
            let held = trouble.not_before.map_or(0, |until| (until - now).num_minutes());
            assert_eq!((trouble.failures, trouble.deaths, held), (failures, deaths, pause), "{ended:?}");
        }
        let trouble = Trouble::of(&runs(&[died, died, stopped]), true, at(9), true);
        assert_eq!((trouble.failures, trouble.again, trouble.deaths), (0, true, 2), "a stop clears nobody");
    }
}
