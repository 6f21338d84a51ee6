//! What was not found at the source: a mistake in the mapping, or something that is being made anew just now?
//!
//! dbt and similar tools drop a view and create it again, and for minutes a table or column is missing. A run at that time is
//! retried by the daemon, like one of a busy source, if an earlier run of the same mapping has read it. A run that a person
//! started is not retried: the error shows what is missing, and where.

use chrono::{DateTime, Utc};

use super::BY_COMMAND_LINE;
use super::report::Counts;
use super::session::Session;
use crate::error::{Error, Kind, Result};
use crate::ledger::{RunRecord, RunStatus};

/// Runs looked through for one that has read the source; a sync that fails once a minute is away for hours before they end.
const RUNS_MAX: u64 = 500;

impl Session<'_> {
    /// A failure to find something at the source, with what it means for this sync.
    pub async fn missing_for_now(&self, error: Error) -> Error {
        let by_a_person = self.origin.run.is_none() || self.origin.started_by == BY_COMMAND_LINE;
        if !error.is_missing() || by_a_person {
            return error;
        }
        match self.last_read().await {
            Ok(Some(read_at)) => {
                let what = format!("{error}; the run of {} still read it", read_at.format("%Y-%m-%d %H:%M UTC"));
                let mistake = error.advice().map(|advice| format!(": {advice}")).unwrap_or_default();
                Error::new(Kind::SourceBusy, what).advise(format!(
                    "wait until it exists again (dbt recreates views, for example); nothing was sent. If it is gone for good, \
                     edit the mapping{mistake}"
                ))
            }
            // An error of the ledger shows when the ledger is used.
            Ok(None) | Err(_) => error,
        }
    }

    /// When the last run began that has read rows by this very mapping.
    async fn last_read(&self) -> Result<Option<DateTime<Utc>>> {
        let runs = self.ledger.history().runs(Some(&self.mapping.name), None, RUNS_MAX).await?;
        Ok(runs.iter().find(|run| self.has_read(run)).map(|run| run.started_at))
    }

    fn has_read(&self, run: &RunRecord) -> bool {
        let about: serde_json::Value = serde_json::from_str(&run.mapping).unwrap_or_default();
        let same = about[0].as_str() == Some(self.fingerprint) && about[1].as_str() == Some(&self.mapping.source);
        let rows = || serde_json::from_str::<Counts>(&run.counts).is_ok_and(|counts| counts.rows > 0);
        same && match run.status {
            RunStatus::Succeeded | RunStatus::SucceededWithRejections | RunStatus::StoppedByGuard => true,
            RunStatus::Incomplete | RunStatus::Cancelled => rows(),
            RunStatus::Queued | RunStatus::Running | RunStatus::Failed | RunStatus::Crashed => false,
        }
    }
}
