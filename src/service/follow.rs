//! A run that another process carries out: submitted, followed, and returned like one of this process.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::api::{EnqueuedRun, RunMonitor, Service, ServiceError, ServiceResult};
use super::views::RunDetail;
use crate::delivery::Signal;
use crate::error::{Error, Kind};
use crate::io::{Clock, SystemClock};
use crate::ledger::RunStatus;
use crate::sync::report::Report;
use crate::sync::{BY_COMMAND_LINE, Event, RunOptions};

/// Between two queries of a run: short at first, because most are short.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(300);
/// How long a run is queued before a person hears of it: most begin immediately.
const QUEUED_SILENTLY: Duration = Duration::from_secs(1);

/// What carries runs out.
#[async_trait]
pub trait RunHost: Send + Sync {
    /// Requests a run.
    async fn trigger(&self, sync: &str, options: RunOptions, by: &str) -> ServiceResult<EnqueuedRun>;
    /// A run as it is now.
    async fn run(&self, run: &str) -> ServiceResult<RunDetail>;
    /// Cancels a run.
    async fn cancel(&self, run: &str) -> ServiceResult<()>;
}

#[async_trait]
impl<S: Service + ?Sized> RunHost for S {
    async fn trigger(&self, sync: &str, options: RunOptions, by: &str) -> ServiceResult<EnqueuedRun> {
        Service::trigger(self, sync, options, by).await
    }

    async fn run(&self, run: &str) -> ServiceResult<RunDetail> {
        Service::run(self, run).await
    }

    async fn cancel(&self, run: &str) -> ServiceResult<()> {
        Service::cancel(self, run).await
    }
}

/// Runs a sync at `host`, to its end.
pub async fn execute<Host: RunHost + ?Sized>(
    host: &Host,
    sync: &str,
    options: &RunOptions,
    monitor: &dyn RunMonitor,
    signal: watch::Receiver<Signal>,
) -> ServiceResult<Report> {
    let submitted = host.trigger(sync, options.clone(), BY_COMMAND_LINE).await?;
    monitor.submitted(&submitted);
    let run = &submitted.run;
    let clock = SystemClock::start();
    let (mut passed_on, mut pause, mut queued) = (Signal::Go, FIRST_PAUSE, false);
    let detail = loop {
        let detail = match host.run(run).await {
            // Only a run that never began leaves no record.
            Err(ServiceError::NotFound(_)) => {
                let what = format!("run {run} was cancelled before it began");
                return Err(Error::new(Kind::Interrupted, what).into());
            }
            detail => detail?,
        };
        if detail.run.status != RunStatus::Running {
            break detail;
        }
        if let Some(at) = &detail.progress {
            if at.phase == "queued" && !queued && clock.elapsed() >= QUEUED_SILENTLY {
                queued = true;
                monitor.queued();
            }
            monitor.progress(at);
        }
        let now = *signal.borrow();
        if now > passed_on {
            passed_on = now;
            match host.cancel(run).await {
                // It ended meanwhile.
                Ok(()) | Err(ServiceError::NotFound(_) | ServiceError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        clock.sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    };
    if let Some(found) = &detail.detail.found {
        monitor.note(Event::Compared(found));
    }
    report(detail)
}

/// The report of a run from its record, or its failure.
fn report(detail: RunDetail) -> ServiceResult<Report> {
    let RunDetail { run, mut detail, .. } = detail;
    if !detail.problems.is_empty() {
        return Err(ServiceError::Problems(std::mem::take(&mut detail.problems).into()));
    }
    let seconds = run.seconds().unwrap_or_default();
    let stopped = run.error.map(|error| {
        let kind = run.error_kind.as_deref().and_then(Kind::from_name).unwrap_or(Kind::Bug);
        Error::new(kind, error).maybe_advise(detail.advice.clone())
    });
    let failed = matches!(run.status, RunStatus::StoppedByGuard | RunStatus::Failed) || detail.found.is_none();
    let stopped = match stopped {
        Some(error) if failed => return Err(error.into()),
        stopped => stopped,
    };
    Ok(Report {
        sync: run.sync,
        run: run.run,
        status: run.status,
        counts: run.counts.unwrap_or_default(),
        full: detail.full,
        seconds,
        beyond_limit: detail.beyond_limit,
        warnings: detail.warnings.clone(),
        detail,
        stopped,
    })
}
