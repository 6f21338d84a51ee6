//! What the daemon stores in the ledger over a restart, and how it continues from there: pauses, queued runs, runs that its
//! shutdown interrupted, and the backoff that recorded runs leave.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::project;
use super::supervisor::Supervisor;
use crate::config::Project;
use crate::error::{Kind, Result};
use crate::ledger::kv::{PAUSED, note_of};
use crate::ledger::{RunRecord, RunStatus};
use crate::mapping::Mapping;
use crate::mapping::diagnostic::listed_all;
use crate::scheduler::backoff::{Backoff, PastResult, PastRun};
use crate::scheduler::queue::{QueueRequest, QueuedRun, SyncInit};
use crate::service::queries;
use crate::sync::RunOptions;

/// Recorded runs of a sync that its backoff is computed from: after seven failures the delay does not grow any more.
const PAST_RUNS: u64 = 20;

impl QueueRequest for RunOptions {
    fn is_partial(&self) -> bool {
        RunOptions::is_partial(self)
    }

    fn merge(&mut self, other: RunOptions) {
        other.flags().for_each(|flag| flag.turn_on(self));
        self.accept.extend(other.accept);
    }
}

/// A queued run as it is stored.
#[derive(Serialize, Deserialize)]
struct StoredRun {
    run: String,
    #[serde(alias = "ask")]
    options: RunOptions,
    by: String,
    since: DateTime<Utc>,
}

/// A queued run as it is stored.
pub(super) fn text_of(queued: QueuedRun<RunOptions>) -> String {
    let QueuedRun { run, request: options, requested_by: by, since } = queued;
    serde_json::to_string(&StoredRun { run, options, by, since }).unwrap_or_default()
}

/// How a recorded run ended, for the backoff. A crash whose record has an error of another kind than an interruption was
/// recorded by the process that went on.
fn past_run(run: &RunRecord) -> PastRun {
    let kind = run.error_kind.as_deref().and_then(Kind::from_name);
    let result = match (run.status, kind) {
        (RunStatus::Succeeded | RunStatus::SucceededWithRejections, _) => PastResult::Succeeded,
        (RunStatus::Crashed, None | Some(Kind::Interrupted)) => PastResult::ProcessCrashed,
        (RunStatus::Crashed, _) => PastResult::RunCrashed,
        (_, Some(Kind::Interrupted)) => PastResult::Interrupted,
        (_, kind) => PastResult::Failed(kind),
    };
    PastRun { ended_at: run.ended_at, result }
}

impl Supervisor {
    /// Continues where the last process ended: crashed runs are recovered, pauses and queued runs restored.
    pub(super) async fn restore(&self) -> Result<()> {
        let project = self.project();
        project::log_mistakes(&project);
        self.meet_peers().await?;
        for crashed in self.ledger.history().unfinished_runs().await? {
            let error = "the process ended during this run; its unconfirmed groups will be resent";
            match self.ledger.mark_crashed(&crashed, self.clock.now(), error, Kind::Interrupted.name()).await {
                // It goes on in another process.
                Err(busy) if busy.kind() == Kind::LedgerBusy && self.ledger.shared().is_some() => continue,
                recorded => recorded?,
            }
            let (sync, run) = (&crashed.sync, &crashed.run);
            tracing::warn!(sync, run, "recovered crashed run {run}; unconfirmed groups will be resent");
        }
        let mut crashing = Vec::new();
        for file in &project.mappings {
            let init = self.restored(&project, &file.mapping).await?;
            if init.backoff.crashes > 0 {
                crashing.push(file.mapping.name.as_str());
            }
            self.queue().add(&file.mapping.name, init);
        }
        if crashing.len() > 1 {
            tracing::warn!(
                "the process crashed during the last runs of {}: one of them may be the cause, so they run one at a time \
                 until each has ended once",
                listed_all(crashing)
            );
        }
        self.look().await
    }

    /// The state of a sync that is added to the queue.
    pub(super) async fn restored(&self, project: &Project, mapping: &Mapping) -> Result<SyncInit<RunOptions>> {
        let name = &mapping.name;
        let now = self.clock.now();
        let stored = self.ledger.kv().all().await?;
        let paused_since = self.stored_pause(name, now).await?;
        let mut queued = stored.get(&note_of("waiting", name)).and_then(|text| self.stored_run(name, text));
        if let Some(QueuedRun { run, .. }) = &queued
            && self.ledger.history().run(run).await?.is_some_and(|(record, _)| record.status != RunStatus::Running)
        {
            // It had started, and its result is recorded.
            self.forget_queued(name, run).await;
            queued = None;
        }
        let timetable = queries::timetable(project, mapping, self.ledger.history(), now).await?;
        let shut_down = stored.contains_key(&note_of("stopped", name));
        let runs = self.ledger.history().whole_runs(name, PAST_RUNS).await?;
        let past: Vec<PastRun> = runs.iter().map(past_run).collect();
        let backoff = Backoff::after(&past, shut_down, now, timetable.is_some());
        Ok(SyncInit { timetable, enabled: mapping.enabled, paused_since, backoff, queued })
    }

    /// A queued run as it is stored, unless it has begun.
    pub(super) fn stored_run(&self, sync: &str, text: &str) -> Option<QueuedRun<RunOptions>> {
        let read = serde_json::from_str(text).inspect_err(|error| {
            tracing::error!(sync, "failed to read a queued run: {error}; request it again");
        });
        let StoredRun { run, options, by, since } = read.ok()?;
        let queued = QueuedRun { run, request: options, requested_by: by, since };
        Some(queued).filter(|queued| !self.peers.has_begun(&queued.run))
    }

    /// Stores a queued run.
    pub(super) async fn store_queued(&self, sync: &str, queued: QueuedRun<RunOptions>) -> Result<()> {
        self.ledger.kv().put(&note_of("waiting", sync), &text_of(queued)).await
    }

    /// Forgets this queued run, and not another one that is queued now.
    pub(super) async fn forget_queued(&self, sync: &str, run: &str) {
        if let Err(error) = self.ledger.kv().delete_if(&note_of("waiting", sync), run).await {
            tracing::error!(sync, run, "failed to forget a queued run: {error}");
        }
    }

    /// Since when a sync is paused. A pause stays one even if its time cannot be read.
    pub(super) async fn stored_pause(&self, sync: &str, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>> {
        let stored = self.ledger.kv().get(&note_of(PAUSED, sync)).await?;
        Ok(stored.map(|text| text.parse().unwrap_or(now)))
    }

    /// Stores since when a sync is paused, or that it is not.
    pub(super) async fn store_pause(&self, sync: &str, since: Option<DateTime<Utc>>) -> Result<()> {
        match since {
            Some(since) => self.ledger.kv().put(&note_of(PAUSED, sync), &since.to_rfc3339()).await,
            None => self.ledger.kv().delete(&note_of(PAUSED, sync)).await,
        }
    }

    /// Stores that the shutdown interrupted a run, which the next start continues without waiting for its schedule; or that
    /// a run started since.
    pub(super) async fn store_interrupted(&self, sync: &str, run: Option<&str>) {
        let (kv, name) = (self.ledger.kv(), note_of("stopped", sync));
        let stored = match run {
            Some(run) => kv.put(&name, run).await,
            None => kv.delete(&name).await,
        };
        if let Err(error) = stored {
            tracing::error!(sync, "failed to store whether the run is to be continued at the next start: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::GroupKeys;

    #[test]
    fn a_run_queued_by_an_earlier_version_is_read() {
        let text = r#"{"run":"20261122T020000.000Z-1a2b","ask":{"full":true,"accept":["empty"]},"by":"api",
                       "since":"2026-11-22T02:00:00Z"}"#;
        let stored: StoredRun = serde_json::from_str(text).unwrap();
        assert_eq!((stored.run.as_str(), stored.by.as_str()), ("20261122T020000.000Z-1a2b", "api"));
        assert!(stored.options.full && stored.options.accept.contains("empty"));
    }

    #[test]
    fn a_queued_run_serves_every_request_for_a_whole_run() {
        let mut queued = RunOptions { retry_rejected: true, ..RunOptions::default() };
        queued.merge(RunOptions { full: true, accept: ["empty".to_owned()].into(), ..RunOptions::default() });
        assert!(queued.full && queued.retry_rejected && queued.accept.contains("empty"));
        assert!(!queued.is_partial());
        assert!(RunOptions { limit: Some(1), ..RunOptions::default() }.is_partial());
        assert!(RunOptions { group: Some(GroupKeys::one("k")), ..RunOptions::default() }.is_partial());
    }
}
