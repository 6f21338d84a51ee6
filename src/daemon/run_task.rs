//! A run as a task of its own, with a connection of its own to the ledger. Its failure, or its panic, ends that task and
//! nothing else: it is recorded as crashed, recovered like a run whose process was killed, and the sync backs off.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, watch};
use tracing::Instrument;

use super::observe::log;
use super::supervisor::{ActiveRun, Supervisor};
use crate::config::Project;
use crate::delivery::Signal;
use crate::error::{Error, Kind, Result};
use crate::ledger::shared::{Claim, sync_lease};
use crate::ledger::{Access, RunStatus};
use crate::scheduler::queue::{DueRun, RunResult, StartCause};
use crate::service::open::Failure;
use crate::service::peers::RunLease;
use crate::service::tracker::Tracker;
use crate::service::views::RunView;
use crate::sync::report::Report;
use crate::sync::{RunOptions, RunOrigin};

/// A run that is to start.
pub(super) struct RunTask {
    sync: String,
    pub(super) run: String,
    options: RunOptions,
    started_by: String,
    started_at: DateTime<Utc>,
    was_queued: bool,
    claim: Option<Claim>,
}

impl RunTask {
    /// The same with the lease of its sync.
    pub(super) fn claimed(self, claim: Claim) -> RunTask {
        RunTask { claim: Some(claim), ..self }
    }
}

/// A run that ended.
pub(super) struct EndedRun {
    pub(super) sync: String,
    pub(super) run: String,
    /// Whether it was one of the schedule's kind: not of one group, nor limited.
    pub(super) whole: bool,
    pub(super) panicked: bool,
    /// What to do about its failure.
    pub(super) advice: Option<String>,
    /// What is known of it if it could not be recorded.
    pub(super) unrecorded: RunView,
}

impl Supervisor {
    /// The task of a run that starts now.
    pub(super) fn task_of(&self, start: DueRun<RunOptions>, now: DateTime<Utc>) -> RunTask {
        let was_queued = matches!(start.cause, StartCause::Queued(_));
        let (run, started_by, options) = match start.cause {
            StartCause::Queued(queued) => (queued.run, queued.requested_by, queued.request),
            StartCause::Scheduled(_) => (self.new_run(now), "schedule".to_owned(), RunOptions::default()),
            StartCause::Retry => (self.new_run(now), "retry".to_owned(), RunOptions::default()),
        };
        RunTask { sync: start.sync, run, options, started_by, started_at: now, was_queued, claim: None }
    }

    /// Starts a run.
    pub(super) fn spawn(self: &Arc<Self>, task: RunTask, ended: mpsc::UnboundedSender<EndedRun>) {
        let RunTask { sync, run, options, started_by, started_at, was_queued, claim } = task;
        let (sender, signal) = watch::channel(Signal::Go);
        let tracker = Arc::new(Tracker::new(&run, started_at, &started_by).timed(Arc::clone(&self.clock)));
        let running = ActiveRun { run: run.clone(), signal: sender, tracker: Arc::clone(&tracker), cancelled: false };
        self.running().insert(sync.clone(), running);
        let span = log::run_span(&sync, &run);
        let whole = !options.is_partial();
        let mut unrecorded = tracker.run_view(&sync);
        let reported = Arc::clone(&tracker);
        // The config of now: a later one may not have the sync any more.
        let project = self.project();
        // Draining has a deadline of its own.
        let grace = Some(project.settings.daemon.drain);
        let origin = RunOrigin { run: Some(run.clone()), started_by, grace };
        let supervisor = Arc::clone(self);
        let work = async move {
            log::run_started(&sync, &run, &origin.started_by);
            if let (Some(shared), Some(claim)) = (supervisor.ledger.shared(), &claim) {
                let report = RunLease::report(reported, Some(supervisor.peers.name.clone()));
                drop(shared.describe(&sync_lease(&sync), &report()).await);
                claim.report_by(report);
            }
            supervisor.store_interrupted(&sync, None).await;
            let inner = Arc::clone(&supervisor);
            let name = sync.clone();
            let work =
                async move { inner.execute(&project, &name, (&options, &origin), tracker.as_ref(), signal).await };
            let joined = supervisor.work.spawn(work.in_current_span()).await;
            let panicked = joined.is_err();
            let (result, error) = match joined {
                Ok(Ok(report)) => (result_of(&report), report.stopped),
                Ok(Err(failure)) => {
                    let error = failure.as_error();
                    let interrupted = error.kind() == Kind::Interrupted;
                    (if interrupted { RunResult::Cancelled } else { RunResult::Failed(error.kind()) }, Some(error))
                }
                Err(_) => {
                    let error = Error::new(Kind::Bug, "internal error: the run panicked; the log shows where")
                        .advise("report it with the log lines around it");
                    (RunResult::Failed(Kind::Bug), Some(error))
                }
            };
            // Then another daemon has recorded its end, and runs the sync.
            let is_lost = claim.as_ref().is_some_and(|claim| claim.is_lost());
            if let Some(error) = error.as_ref().filter(|_| !is_lost) {
                // The cause that kept it from recording its own end may be over.
                supervisor.record_crash(&sync, &run, error).await;
                unrecorded.status = RunStatus::Failed;
                unrecorded.error = Some(error.to_string());
                unrecorded.error_kind = Some(error.kind().name().to_owned());
            }
            if was_queued {
                supervisor.forget_queued(&sync, &run).await;
            }
            let cancelled = supervisor.running().remove(&sync).is_some_and(|running| running.cancelled);
            if result == RunResult::Cancelled && !cancelled && !is_lost {
                // The daemon shuts down: the next start continues the run immediately.
                supervisor.store_interrupted(&sync, Some(&run)).await;
            }
            let result = if is_lost { RunResult::Cancelled } else { result };
            supervisor.queue().ended(&sync, result, supervisor.clock.now());
            if is_lost {
                supervisor.begin_anew(&sync).await;
            }
            drop(claim);
            let advice = error.as_ref().and_then(Error::advice).map(str::to_owned);
            // The receiver is gone only when the process ends.
            let _ = ended.send(EndedRun { sync, run, whole, panicked, advice, unrecorded });
            supervisor.wake();
        };
        tokio::spawn(work.instrument(span));
    }

    /// One run, with the given project.
    async fn execute(
        &self,
        project: &Project,
        sync: &str,
        options: (&RunOptions, &RunOrigin),
        tracker: &Tracker,
        signal: watch::Receiver<Signal>,
    ) -> Result<Report, Failure> {
        let ledger = self.ledger.connect(Access::ReadWrite)?;
        self.context(project, ledger.as_ref()).job(sync, options, tracker, signal)?.run().await
    }

    /// Has a sync that another daemon has run meanwhile continue from what is recorded.
    async fn begin_anew(&self, sync: &str) {
        let project = self.project();
        let Some(file) = project.mappings.iter().find(|file| file.mapping.name == sync) else { return };
        match self.restored(&project, &file.mapping).await {
            Ok(init) => self.queue().begin_anew(sync, init),
            Err(error) => tracing::warn!(sync, "failed to read what is recorded of the sync: {error}"),
        }
    }

    /// Records a run that ended without recording it: its task panicked, or the ledger could not be written.
    async fn record_crash(&self, sync: &str, run: &str, error: &Error) {
        let (text, kind) = (error.to_string(), error.kind().name());
        let recorded = async {
            match self.ledger.history().run(run).await? {
                Some((record, _)) => self.ledger.mark_crashed(&record, self.clock.now(), &text, kind).await,
                None => Ok(()),
            }
        };
        if let Err(error) = recorded.await {
            tracing::error!(sync, run, "failed to record the end of the run: {error}");
        }
    }
}

/// The result of a run that gave a report.
fn result_of(report: &Report) -> RunResult {
    match (report.status, &report.stopped) {
        (RunStatus::Succeeded | RunStatus::SucceededWithRejections, _) => RunResult::Succeeded,
        (_, Some(stopped)) if stopped.kind() == Kind::Interrupted => RunResult::Cancelled,
        (_, stopped) => RunResult::Failed(stopped.as_ref().map_or(Kind::Destination, Error::kind)),
    }
}
