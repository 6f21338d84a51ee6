//! Who hears of what happened? Every run that ends goes to the log, the metrics and the alerts; once a minute the alerts and
//! the service manager hear how things stand.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::alert;
use super::metrics::Metrics;
use super::notify::Notifier;
use super::service::DaemonService;
use super::supervisor::{Ended, Supervisor};
use crate::delivery::Signal;
use crate::io::Random;
use crate::ledger::{Ledger, RunStatus};
use crate::service::api::Service;
use crate::service::views::words::plural;
use crate::service::views::{RunDetail, RunView, ask};
use crate::telemetry;

/// Between two looks at how things stand.
const LOOK: Duration = Duration::from_secs(60);
/// How long the last messages may take at the end. What is left then is kept.
const FAREWELL_MAX: Duration = Duration::from_secs(5);
/// The name under which the state of the alerts is kept.
const ALERTS: &str = "alerts";

/// Tells everybody.
pub(super) struct Herald {
    pub(super) metrics: Metrics,
    pub(super) alerts: alert::Alerts,
    pub(super) notifier: Notifier,
}

impl Herald {
    /// For these settings, going on from what was kept.
    pub(super) fn new(settings: Option<&crate::config::Alerts>, kept: Option<&str>) -> crate::error::Result<Herald> {
        Ok(Herald {
            metrics: Metrics::new(),
            alerts: alert::Alerts::new(settings, kept)?,
            notifier: Notifier::from_env(),
        })
    }
}

impl Supervisor {
    /// What is kept about alerts, for the next start.
    pub(super) async fn kept_alerts(ledger: &dyn Ledger) -> crate::error::Result<Option<String>> {
        ledger.kv().get(ALERTS).await
    }

    async fn keep_alerts(&self) {
        if self.ledger_problem().is_some() {
            // It is told already that nothing can be kept; what there is to keep is kept once that is over.
            return;
        }
        let Some(text) = self.herald.alerts.to_keep() else { return };
        if let Err(error) = self.ledger.kv().put(ALERTS, &text).await {
            tracing::error!("failed to keep what was told in alerts: {error}");
        }
    }

    /// How things stand in a line, for the service manager.
    pub(super) fn status_line(&self) -> String {
        let (syncs, running) = (self.queue().names().len() as u64, self.running().len());
        let problems = self.config_problems().map_or("", |_| "; the changed config has mistakes");
        let ledger = self.ledger_problem().map_or("", |_| "; no run starts: the ledger cannot be used");
        format!("{}, {running} running{problems}{ledger}", plural(syncs, "sync"))
    }

    /// A run ended.
    async fn hear(&self, ended: &Ended) {
        let detail = match ask::run_detail(self.asking.history(), &ended.run).await {
            Ok(Some(detail)) if detail.run.status != RunStatus::Running => detail,
            // Its end could not be written, most likely because the ledger cannot be.
            _ => RunDetail {
                run: RunView { ended_at: Some(self.clock.now()), ..ended.unrecorded.clone() },
                detail: Default::default(),
                progress: None,
                rejected: Vec::new(),
            },
        };
        let project = self.project();
        let destination = (project.mappings.iter().find(|file| file.mapping.name == ended.sync))
            .map(|file| file.mapping.destination.clone())
            .unwrap_or_default();
        telemetry::run_finished(&detail, ended.advice.as_deref());
        self.herald.metrics.run_ended(&detail, &destination);
        if ended.panicked {
            self.herald.metrics.panicked(&ended.sync);
        }
        // Unknown is as good as none: the counts of the run stand for themselves.
        let rejected_known = self.asking.history().group_counts(&ended.sync).await.unwrap_or_default().rejected;
        self.herald.alerts.run_ended(&alert::Ended {
            destination: &destination,
            advice: ended.advice.as_deref(),
            whole: ended.whole,
            full: detail.run.status != RunStatus::Failed && detail.detail.full,
            rejected_known,
            detail: &detail,
        });
        self.keep_alerts().await;
        self.herald.notifier.status(&self.status_line());
    }

    /// How things stand.
    async fn look_around(&self, service: &DaemonService) {
        // Without a whole list nothing can be said of who is late.
        if let Ok(syncs) = service.syncs(0).await {
            self.herald.alerts.look(self.clock.now(), &syncs);
            self.keep_alerts().await;
        }
        self.herald.notifier.status(&self.status_line());
    }

    /// Tells everybody until every run has ended, or the rest was `left` behind.
    pub(super) async fn tell(
        self: Arc<Self>,
        mut endings: mpsc::UnboundedReceiver<Ended>,
        stop: watch::Receiver<Signal>,
        mut left: watch::Receiver<bool>,
    ) {
        let service = DaemonService(Arc::clone(&self));
        let sending = {
            let supervisor = Arc::clone(&self);
            tokio::spawn(async move {
                let random = Random::from_entropy();
                supervisor.herald.alerts.send(&supervisor.http_client, supervisor.clock.as_ref(), &random).await;
            })
        };
        // One pause from look to look, however many runs end meanwhile.
        let mut pause = self.clock.sleep(LOOK);
        loop {
            tokio::select! {
                ended = endings.recv() => match ended {
                    Some(ended) => self.hear(&ended).await,
                    None => break,
                },
                true = async { left.wait_for(|left| *left).await.is_ok() } => {
                    while let Ok(ended) = endings.try_recv() {
                        self.hear(&ended).await;
                    }
                    break;
                }
                () = &mut pause, if *stop.borrow() == Signal::Go => {
                    self.look_around(&service).await;
                    pause = self.clock.sleep(LOOK);
                }
            }
        }
        if tokio::time::timeout(FAREWELL_MAX, self.herald.alerts.sent()).await.is_err() {
            tracing::warn!("some alerts could not be sent yet; the next start sends them");
        }
        sending.abort();
        self.keep_alerts().await;
    }
}
