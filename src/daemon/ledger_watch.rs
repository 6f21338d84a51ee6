//! The watch over the ledger's file: may a run start, or would what it does be lost?
//!
//! A ledger that was moved away from its path, or that cannot be written for want of room, lets no run start: the daemon
//! says so in its log, at `/readyz`, in the console and with an alert, and goes on by itself once it is well again. What is
//! missing beside it (its log, the file that tells how new it is) is made good at once, before a restart would miss it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use super::supervisor::Supervisor;
use crate::error::{Error, Result};

/// How long an answer about room on the disk is good: `/readyz` is open to everyone, and must not be a way to have the disk
/// written to without end.
const PROBE_AGE_MAX: Duration = Duration::from_secs(5);
/// Between two looks at a ledger that lets no run start.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Between two looks at the files beside it while nothing else happens.
const FILES_EVERY: Duration = Duration::from_secs(5);

/// What is known of the ledger's file.
#[derive(Default)]
pub(super) struct LedgerWatch {
    /// When it was last tried to write beside it, on the daemon's clock, and what came of it.
    probed: Mutex<Option<(Duration, Option<Error>)>>,
    /// What was told about it, and since when, while it lets no run start.
    told: Mutex<Option<(DateTime<Utc>, String)>>,
}

impl Supervisor {
    /// Fails when what a run does could not be found by the next start: the file is not at its path, or there is no room
    /// beside it.
    pub(super) async fn ledger_usable(&self) -> Result<()> {
        let storage = self.ledger.storage();
        storage.repair().await?;
        let now = self.clock.elapsed();
        let recent = {
            let probed = self.ledger_watch.probed.lock();
            let fresh = probed.as_ref().filter(|(at, _)| now.saturating_sub(*at) < PROBE_AGE_MAX);
            fresh.map(|(_, found)| found.as_ref().map(Error::again))
        };
        let found = match recent {
            Some(found) => found,
            None => {
                let found = storage.check_writable().await.err();
                *self.ledger_watch.probed.lock() = Some((now, found.as_ref().map(Error::again)));
                found
            }
        };
        found.map_or(Ok(()), Err)
    }

    /// Looks at the files beside the ledger, again and again. What cannot be made good is told where runs start.
    pub(super) async fn mend_ledger_files(&self) {
        loop {
            self.clock.sleep(FILES_EVERY).await;
            drop(self.ledger.storage().repair().await);
        }
    }

    /// Whether runs may start now. A change for the worse or the better is told everybody, once.
    pub(super) async fn may_start(&self) -> bool {
        let found = self.ledger_usable().await;
        let now = self.clock.now();
        let problem = found.as_ref().err().map(ToString::to_string);
        let before = {
            let mut told = self.ledger_watch.told.lock();
            let since = told.as_ref().map_or(now, |(since, _)| *since);
            std::mem::replace(&mut *told, problem.clone().map(|problem| (since, problem)))
        };
        match (&before, &found) {
            (None, Ok(())) => {}
            (Some((since, _)), Ok(())) => {
                tracing::info!("the ledger can be used again: runs start");
                self.herald.alerts.ledger(None, *since, now);
            }
            (Some((_, told)), Err(error)) if *told == error.to_string() => {}
            (_, Err(error)) => {
                let advice = error.advice().unwrap_or_default();
                tracing::error!("no run starts: {error}; {advice}");
                let since = before.as_ref().map_or(now, |(since, _)| *since);
                self.herald.alerts.ledger(Some(error), since, now);
            }
        }
        if before.map(|(_, told)| told) != problem {
            self.herald.notifier.status(&self.status_line());
        }
        found.is_ok()
    }

    /// Why no run starts, when the ledger does not let any.
    pub(super) fn ledger_problem(&self) -> Option<String> {
        let told = self.ledger_watch.told.lock();
        told.as_ref().map(|(_, problem)| problem.clone())
    }
}
