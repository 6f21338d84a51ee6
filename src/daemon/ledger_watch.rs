//! The watch over the ledger's file: may a run start, or would its record be lost?
//!
//! A ledger that was moved away from its path, or that cannot be written because the disk is full, lets no run start: the
//! daemon reports it in its log, at `/readyz`, in the console and with an alert, and continues by itself once the ledger is
//! usable again. Files that are missing beside it (its log, its generation) are restored before a restart would miss them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::io::Clock;
use crate::ledger::Ledger;

/// How long the result of a test write is good: `/readyz` is open to everyone, and must not be a way to write to the disk
/// without end.
const PROBE_AGE_MAX: Duration = Duration::from_secs(5);
/// Between two checks of a ledger that lets no run start.
pub(super) const RETRY_EVERY: Duration = Duration::from_secs(5);
/// Between two checks of the files beside it while nothing else happens.
const FILES_EVERY: Duration = Duration::from_secs(5);

/// What was found out about the ledger's file.
#[derive(Default)]
pub(super) struct LedgerWatch {
    /// When a test write was last tried, on the daemon's clock, and its error.
    probed: Mutex<Option<(Duration, Option<Error>)>>,
    /// The problem that was reported, and since when it lasts.
    reported: Mutex<Option<(DateTime<Utc>, String)>>,
}

/// A change that is to be reported.
pub(super) enum LedgerChange {
    /// No run starts since then, for this reason.
    Unusable(Error, DateTime<Utc>),
    /// Runs start again, after a problem that lasted since then.
    Usable(DateTime<Utc>),
}

impl LedgerWatch {
    /// Fails when the next start could not find what a run records: the file is not at its path, or the disk is full.
    pub(super) async fn check(&self, ledger: &dyn Ledger, clock: &dyn Clock) -> Result<()> {
        ledger.storage().repair().await?;
        let now = clock.elapsed();
        let recent = {
            let probed = self.probed.lock();
            let fresh = probed.as_ref().filter(|(at, _)| now.saturating_sub(*at) < PROBE_AGE_MAX);
            fresh.map(|(_, found)| found.as_ref().map(Error::again))
        };
        let found = match recent {
            Some(found) => found,
            None => {
                let found = ledger.storage().check_writable().await.err();
                *self.probed.lock() = Some((now, found.as_ref().map(Error::again)));
                found
            }
        };
        found.map_or(Ok(()), Err)
    }

    /// Checks the files beside the ledger for ever. What cannot be restored is reported where runs start.
    pub(super) async fn repair(&self, ledger: &dyn Ledger, clock: &dyn Clock) {
        loop {
            clock.sleep(FILES_EVERY).await;
            drop(ledger.storage().repair().await);
        }
    }

    /// Takes note of a check. Returns a change for the worse or the better that is not reported yet.
    pub(super) fn note(&self, found: &Result<()>, now: DateTime<Utc>) -> Option<LedgerChange> {
        let mut reported = self.reported.lock();
        match (reported.clone(), found) {
            (None, Ok(())) => None,
            (Some((since, _)), Ok(())) => {
                *reported = None;
                Some(LedgerChange::Usable(since))
            }
            (Some((_, text)), Err(error)) if text == error.to_string() => None,
            (before, Err(error)) => {
                let since = before.map_or(now, |(since, _)| since);
                *reported = Some((since, error.to_string()));
                Some(LedgerChange::Unusable(error.again(), since))
            }
        }
    }

    /// Why no run starts, if the ledger lets none start.
    pub(super) fn problem(&self) -> Option<String> {
        self.reported.lock().as_ref().map(|(_, problem)| problem.clone())
    }
}
