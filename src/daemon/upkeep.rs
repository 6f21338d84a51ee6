//! What commands do to the ledger itself, where a daemon holds it: the daemon does it for them.

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};

use super::office::{ITEMS_WAITING, Office, Reserved, failed, give, unknown};
use super::tracker::Tracker;
use crate::delivery::Signal;
use crate::error::{Error, Kind, Result};
use crate::ledger::Ledger;
use crate::ledger::local::LocalLedger;
use crate::service::api::{Answer, UnderWay, Upkeep};
use crate::service::open::job::Job;
use crate::service::open::{self, Failure};
use crate::service::views::{ExportedView, ask};
use crate::sync::Options;
use crate::sync::verify::{Drifted, Verified};

/// Groups that are read at a time.
const PAGE: u64 = 10_000;

/// Does something with a [`Job`] of the reserved sync.
async fn with_job<End>(
    Reserved(supervisor, sync): &Reserved,
    options: &Options,
    signal: watch::Receiver<Signal>,
    work: impl AsyncFnOnce(&Job<'_>) -> Result<End, Failure>,
) -> Answer<End> {
    let project = supervisor.project();
    let ledger = supervisor.ledger.sibling()?;
    let tracker = Tracker::new("", supervisor.clock.now(), &options.started_by);
    let job = Job {
        project: &project,
        file: open::named(&project, sync).map_err(failed)?,
        ledger: &ledger,
        http_client: &supervisor.http_client,
        clock: supervisor.clock.as_ref(),
        random: &supervisor.random,
        monitor: &tracker,
        options,
        signal,
    };
    work(&job).await.map_err(failed)
}

async fn export_all(ledger: &LocalLedger, sync: &str, items: &mpsc::Sender<ExportedView>) -> Result<()> {
    let mut after: Option<String> = None;
    loop {
        let page = ledger.export(sync, after.as_deref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.key.clone());
        give(items, page.into_iter().map(|group| ask::exported(sync, group)))?;
    }
}

#[async_trait]
impl Upkeep for Office {
    async fn export(&self, sync: &str) -> Answer<UnderWay<ExportedView, ()>> {
        if !self.exists(sync) {
            return Err(unknown("sync", sync));
        }
        // It only looks, so that it holds up no run and waits for none.
        let (ledger, sync) = (self.ledger.sibling_read_only()?, sync.to_owned());
        let (found, items) = mpsc::channel(ITEMS_WAITING);
        let exported = self.work.spawn(async move { export_all(&ledger, &sync, &found).await });
        let end = async move {
            let failed = |panic| Err(Error::new(Kind::Bug, "failed to export the ledger").because(panic));
            Ok(exported.await.unwrap_or_else(failed)?)
        };
        Ok(UnderWay { items, end: Box::pin(end) })
    }

    async fn reset(&self, sync: &str, group: Option<&str>, forget: bool) -> Answer<u64> {
        let group = group.map(str::to_owned);
        let resetting = |reserved: Reserved, _: mpsc::Sender<()>, _| async move {
            let Reserved(supervisor, sync) = &reserved;
            let ledger = supervisor.ledger.sibling()?;
            let mark = format!("reset-{}", supervisor.clock.now().format("%Y%m%dT%H%M%SZ"));
            Ok(ledger.reset(sync, group.as_deref(), &mark, forget).await?)
        };
        self.0.make(sync, "reset the ledger", resetting).await?.end.await
    }

    async fn adopt(&self, sync: &str) -> Answer<UnderWay<(), u64>> {
        self.0
            .make(sync, "adopt the groups", |reserved: Reserved, _, signal| async move {
                with_job(&reserved, &Options::adoption(), signal, async |job: &Job<'_>| job.adopt().await).await
            })
            .await
    }

    async fn verify(&self, sync: &str, repair: bool) -> Answer<UnderWay<Drifted, Verified>> {
        self.0
            .make(sync, "verify the groups", move |reserved: Reserved, items, signal| async move {
                let options = Options { started_by: "verify".to_owned(), ..Options::default() };
                with_job(&reserved, &options, signal, async |job: &Job<'_>| {
                    let sink = &mut |drifted| give(&items, [drifted]);
                    Ok(job.verify(repair, sink).await?)
                })
                .await
            })
            .await
    }
}
