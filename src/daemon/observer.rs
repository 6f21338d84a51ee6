//! The observer task: every run that ended goes to the log, the metrics and the alerts; so do mistakes in mappings when the
//! config was read. Once a minute the alerts check which syncs are late, and the service manager gets the status.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::observe::{alerts, log};
use super::run_task::EndedRun;
use super::service::DaemonService;
use super::supervisor::Supervisor;
use crate::delivery::Signal;
use crate::io::Random;
use crate::ledger::RunStatus;
use crate::service::api::Service;
use crate::service::open::Failure;
use crate::service::queries;
use crate::service::views::{RunDetail, RunView};

/// Between two checks for late syncs.
const CHECK_EVERY: Duration = Duration::from_secs(60);
/// How long the last alerts may take at the end. What is unsent then is stored.
const LAST_ALERTS_MAX: Duration = Duration::from_secs(5);

/// Observes runs until every one has ended, or the rest was left behind.
pub(super) async fn observe(
    supervisor: Arc<Supervisor>,
    mut ended: mpsc::UnboundedReceiver<EndedRun>,
    stop: watch::Receiver<Signal>,
    mut left_behind: watch::Receiver<bool>,
) {
    let service = DaemonService(Arc::clone(&supervisor));
    let sending = {
        let supervisor = Arc::clone(&supervisor);
        tokio::spawn(async move {
            let random = Random::from_entropy();
            supervisor.notifier.alerts.send(&supervisor.http_client, supervisor.clock.as_ref(), &random).await;
        })
    };
    supervisor.config_read.notify_one();
    // One pause from check to check, however many runs end meanwhile.
    let mut pause = supervisor.clock.sleep(CHECK_EVERY);
    loop {
        tokio::select! {
            run = ended.recv() => match run {
                Some(run) => run_ended(&supervisor, &run).await,
                None => break,
            },
            true = async { left_behind.wait_for(|left| *left).await.is_ok() } => {
                while let Ok(run) = ended.try_recv() {
                    run_ended(&supervisor, &run).await;
                }
                break;
            }
            () = supervisor.peers.run_ended.notified() => ended_elsewhere(&supervisor).await,
            () = supervisor.config_read.notified() => {
                if sends_alerts(&supervisor).await
                    && supervisor.notifier.alerts.check_mappings(supervisor.clock.now(), &mistaken(&supervisor))
                {
                    store_alerts(&supervisor).await;
                }
            }
            () = &mut pause, if *stop.borrow() == Signal::Go => {
                check(&supervisor, &service).await;
                pause = supervisor.clock.sleep(CHECK_EVERY);
            }
        }
    }
    if tokio::time::timeout(LAST_ALERTS_MAX, supervisor.notifier.alerts.sent()).await.is_err() {
        tracing::warn!("some alerts are unsent; the next start sends them");
    }
    sending.abort();
    store_alerts(&supervisor).await;
}

async fn run_ended(supervisor: &Supervisor, ended: &EndedRun) {
    let detail = match queries::run_detail(supervisor.queries.history(), &ended.run).await {
        Ok(Some(detail)) if detail.run.status != RunStatus::Running => detail,
        // Its end could not be recorded, most likely because the ledger cannot be written.
        _ => RunDetail {
            run: RunView { ended_at: Some(supervisor.clock.now()), ..ended.unrecorded.clone() },
            detail: Default::default(),
            progress: None,
            rejected: Vec::new(),
        },
    };
    let destination = destination_of(supervisor, &ended.sync);
    log::run_ended(&detail, ended.advice.as_deref());
    supervisor.notifier.metrics.run_ended(&detail, &destination);
    if ended.panicked {
        supervisor.notifier.metrics.panicked(&ended.sync);
    }
    note_alert(supervisor, &detail, &destination, (ended.whole, ended.advice.as_deref())).await;
    supervisor.notifier.service_manager.status(&supervisor.status_line());
}

/// Takes note of runs that ended in other processes. One daemon sends the alerts of all.
async fn ended_elsewhere(supervisor: &Supervisor) {
    for run in supervisor.peers.take_ended() {
        if let Ok(Some(detail)) = queries::run_detail(supervisor.queries.history(), &run).await {
            let destination = destination_of(supervisor, &detail.run.sync);
            let advice = detail.detail.advice.clone();
            let whole = supervisor
                .queries
                .history()
                .run(&run)
                .await
                .is_ok_and(|found| found.is_some_and(|(run, _)| !run.partial));
            note_alert(supervisor, &detail, &destination, (whole, advice.as_deref())).await;
        }
    }
}

async fn note_alert(
    supervisor: &Supervisor,
    detail: &RunDetail,
    destination: &str,
    (whole, advice): (bool, Option<&str>),
) {
    if !sends_alerts(supervisor).await {
        return;
    }
    // Where the ledger cannot be read, the run's own counts do.
    let rejected_groups =
        supervisor.queries.history().group_counts(&detail.run.sync).await.unwrap_or_default().rejected;
    supervisor.notifier.alerts.run_ended(&alerts::ObservedRun {
        destination,
        advice,
        whole,
        full: detail.run.status != RunStatus::Failed && detail.detail.full,
        rejected_groups,
        detail,
    });
    store_alerts(supervisor).await;
}

/// Whether this daemon sends the alerts of all. One that does from now on continues from what the one before has stored.
async fn sends_alerts(supervisor: &Supervisor) -> bool {
    let (is_first, was_first) = supervisor.peers.note_first();
    if is_first && !was_first && supervisor.ledger.shared().is_some() {
        match alerts::stored(supervisor.queries.as_ref()).await {
            Ok(stored) => supervisor.notifier.alerts.resume(stored.as_deref()),
            Err(error) => tracing::warn!("failed to read the stored state of the alerts: {error}"),
        }
    }
    is_first
}

/// The destination of a sync.
fn destination_of(supervisor: &Supervisor, sync: &str) -> String {
    let project = supervisor.project();
    let file = project.mappings.iter().find(|file| file.mapping.name == sync);
    file.map(|file| file.mapping.destination.clone()).unwrap_or_default()
}

async fn check(supervisor: &Supervisor, service: &DaemonService) {
    // Which syncs are late can be told only with all of them.
    if sends_alerts(supervisor).await
        && let Ok(syncs) = service.syncs(0).await
    {
        supervisor.notifier.alerts.check(supervisor.clock.now(), &syncs, &mistaken(supervisor));
        store_alerts(supervisor).await;
    }
    supervisor.notifier.service_manager.status(&supervisor.status_line());
}

/// The syncs whose mapping has mistakes.
fn mistaken(supervisor: &Supervisor) -> Vec<alerts::Mistaken> {
    let project = supervisor.project();
    let mistaken = project.broken.iter().filter_map(|broken| {
        let error = Failure::from(project.mistakes(&broken.name)?).as_error();
        let runs = project.mappings.iter().any(|file| file.mapping.name == broken.name);
        Some(alerts::Mistaken { sync: broken.name.clone(), error, runs })
    });
    mistaken.collect()
}

async fn store_alerts(supervisor: &Supervisor) {
    if !supervisor.peers.is_first() {
        return;
    }
    if supervisor.ledger_problem().is_some() {
        // That the ledger is unusable is reported; the alerts are stored once it is usable again.
        return;
    }
    let Some(text) = supervisor.notifier.alerts.to_store() else { return };
    if let Err(error) = supervisor.ledger.kv().put(alerts::KEY, &text).await {
        tracing::error!("failed to store the state of the alerts: {error}");
    }
}
