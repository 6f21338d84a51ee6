//! What commands do to the ledger itself, where a daemon holds it: the daemon does it for them.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::service::{DaemonService, ITEMS_WAITING, Reserved, failed, give, unknown};
use super::supervisor::Supervisor;
use super::tracker::Tracker;
use crate::delivery::Signal;
use crate::error::{Error, Kind, Result};
use crate::ledger::{Access, History};
use crate::service::api::{ResultStream, ServiceResult};
use crate::service::open::job::Job;
use crate::service::open::{self, Failure};
use crate::service::views::{ExportedView, ask};
use crate::sync::verify::{Drifted, Verified};
use crate::sync::{RunOptions, RunOrigin};

/// Groups that are read at a time.
const PAGE: u64 = 10_000;

/// Does something with a [`Job`] of the reserved sync.
async fn with_job<End>(
    Reserved(supervisor, sync): &Reserved,
    (options, origin): (&RunOptions, &RunOrigin),
    signal: watch::Receiver<Signal>,
    work: impl AsyncFnOnce(&Job<'_>) -> Result<End, Failure>,
) -> ServiceResult<End> {
    let project = supervisor.project();
    let ledger = supervisor.ledger.connect(Access::ReadWrite)?;
    let tracker = Tracker::new("", supervisor.clock.now(), &origin.started_by);
    let job = Job {
        project: &project,
        file: open::named(&project, sync).map_err(failed)?,
        ledger: ledger.as_ref(),
        http_client: &supervisor.http_client,
        clock: supervisor.clock.as_ref(),
        random: &supervisor.random,
        monitor: &tracker,
        options,
        origin,
        signal,
    };
    work(&job).await.map_err(failed)
}

async fn export_all(history: &dyn History, sync: &str, items: &mpsc::Sender<ExportedView>) -> Result<()> {
    let mut after: Option<String> = None;
    loop {
        let page = history.groups(sync, after.as_deref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.key.clone());
        give(items, page.into_iter().map(|group| ask::exported(sync, group)))?;
    }
}

pub(super) async fn export(service: &DaemonService, sync: &str) -> ServiceResult<ResultStream<ExportedView, ()>> {
    if !service.exists(sync) {
        return Err(unknown("sync", sync));
    }
    // It only looks, so that it holds up no run and waits for none.
    let (ledger, sync) = (service.ledger.connect(Access::ReadOnly)?, sync.to_owned());
    let (found, items) = mpsc::channel(ITEMS_WAITING);
    let exported = service.work.spawn(async move { export_all(ledger.history(), &sync, &found).await });
    let end = async move {
        let failed = |panic| Err(Error::new(Kind::Bug, "failed to export the ledger").because(panic));
        Ok(exported.await.unwrap_or_else(failed)?)
    };
    Ok(ResultStream { items, end: Box::pin(end) })
}

pub(super) async fn reset(
    supervisor: &Arc<Supervisor>,
    sync: &str,
    group: Option<&str>,
    forget: bool,
) -> ServiceResult<u64> {
    let group = group.map(str::to_owned);
    let resetting = |reserved: Reserved, _: mpsc::Sender<()>, _| async move {
        let Reserved(supervisor, sync) = &reserved;
        let ledger = supervisor.ledger.connect(Access::ReadWrite)?;
        let mark = format!("reset-{}", supervisor.clock.now().format("%Y%m%dT%H%M%SZ"));
        Ok(ledger.reset(sync, group.as_ref().map(std::slice::from_ref), &mark, forget).await?)
    };
    supervisor.make(sync, "reset the ledger", resetting).await?.end.await
}

pub(super) async fn adopt(supervisor: &Arc<Supervisor>, sync: &str) -> ServiceResult<ResultStream<(), u64>> {
    supervisor
        .make(sync, "adopt the groups", |reserved: Reserved, _, signal| async move {
            with_job(&reserved, (&RunOptions::default(), &RunOrigin::of("adoption")), signal, async |job: &Job<'_>| {
                job.adopt().await
            })
            .await
        })
        .await
}

pub(super) async fn verify(
    supervisor: &Arc<Supervisor>,
    sync: &str,
    repair: bool,
) -> ServiceResult<ResultStream<Drifted, Verified>> {
    supervisor
        .make(sync, "verify the groups", move |reserved: Reserved, items, signal| async move {
            let options = (&RunOptions::default(), &RunOrigin::of("verify"));
            with_job(&reserved, options, signal, async |job: &Job<'_>| {
                let sink = &mut |drifted| give(&items, [drifted]);
                Ok(job.verify(repair, sink).await?)
            })
            .await
        })
        .await
}
