//! The run loop: ticks the [queue](crate::scheduler::queue), starts the runs that are due, and drains at the end.
//!
//! A shutdown stops every run (what was acknowledged is recorded), waits for the drain's deadline, then abandons requests in
//! flight; what does not end even then is recovered at the next start, like after a kill.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, watch};

use super::ledger_watch::{self, LedgerChange};
use super::run_task::EndedRun;
use super::supervisor::Supervisor;
use crate::delivery::Signal;
use crate::format::duration;
use crate::scheduler::queue::DueRun;
use crate::service::views::words::plural;
use crate::sync::RunOptions;

/// Longest between two ticks: the clock may be set, and a scheduled time is late after a minute.
const TICK_MAX: Duration = Duration::from_secs(30);
/// The loop ticks at least every [`TICK_MAX`]; after three times that it hangs.
const SILENT_MAX: Duration = Duration::from_secs(90);
/// How long abandoned runs get to record what was acknowledged.
const ABANDONED_MAX: Duration = Duration::from_secs(5);

impl Supervisor {
    /// Runs what is due until it is stopped, then drains. Each run that ended goes to `ended`. Returns how many runs were
    /// left behind.
    pub(super) async fn run_loop(
        self: &Arc<Self>,
        mut stop: watch::Receiver<Signal>,
        ended: mpsc::UnboundedSender<EndedRun>,
    ) -> usize {
        while *stop.borrow_and_update() == Signal::Go {
            if self.ledger_gave_up().await {
                tracing::error!(
                    "this process cannot use the ledger any more: DuckDB gave it up after a failed write or an \
                     internal error, or a database lost its latest transactions; what was recorded is safe, and the daemon stops, so that a restart \
                     opens it again"
                );
                break;
            }
            if self.peers.is_name_taken() || (self.queue().is_draining() && self.running().is_empty()) {
                break;
            }
            self.tick();
            // Before each run: the record of a run on a ledger that is gone would be lost, with all it sent.
            let wait = if self.may_start().await { self.start_due(&ended).await } else { ledger_watch::RETRY_EVERY };
            tokio::select! {
                () = self.woken.notified() => {}
                () = self.clock.sleep(wait) => {}
                () = self.ledger_watch.repair(self.ledger.as_ref(), self.clock.as_ref()) => {}
                _ = stop.changed() => {}
            }
        }
        self.drain(stop).await
    }

    /// Starts what is due, and returns how long nothing else is.
    async fn start_due(self: &Arc<Self>, ended: &mpsc::UnboundedSender<EndedRun>) -> Duration {
        let now = self.clock.now();
        let (starts, wait) = self.due(now, ended);
        match self.ledger.shared() {
            Some(shared) if !starts.is_empty() => self.claim_due(shared, starts, ended).await,
            _ => wait,
        }
    }

    /// What is due and has to be claimed first, and how long nothing else is. What need not be claimed is started.
    fn due(
        self: &Arc<Self>,
        now: DateTime<Utc>,
        ended: &mpsc::UnboundedSender<EndedRun>,
    ) -> (Vec<DueRun<RunOptions>>, Duration) {
        let mut queue = self.queue();
        let mut tick = queue.tick(now);
        for (sync, count) in &tick.skipped {
            tracing::warn!(sync, count, "skipped {}", plural(*count, "scheduled time"));
            self.notifier.metrics.skipped(sync, *count);
        }
        let is_shared = self.ledger.shared().is_some();
        let claimed_first = if is_shared { std::mem::take(&mut tick.starts) } else { Vec::new() };
        for start in tick.starts {
            let task = self.task_of(start.clone(), now);
            queue.started(&start, &task.run, now);
            self.spawn(task, ended.clone());
            self.changed();
        }
        let until = tick.next.map(|next| next.signed_duration_since(now).to_std().unwrap_or_default());
        (claimed_first, until.unwrap_or(TICK_MAX).min(TICK_MAX))
    }

    /// Whether runs may start now. A change for the worse or the better is reported once.
    async fn may_start(&self) -> bool {
        let found = self.ledger_usable().await;
        let now = self.clock.now();
        if let Some(change) = self.ledger_watch.note(&found, now) {
            match &change {
                LedgerChange::Usable(since) => {
                    tracing::info!("the ledger is usable again: runs start");
                    self.notifier.alerts.ledger(None, *since, now);
                }
                LedgerChange::Unusable(error, since) => {
                    let advice = error.advice().unwrap_or_default();
                    tracing::error!("no run starts: {error}; {advice}");
                    self.notifier.alerts.ledger(Some(error), *since, now);
                }
            }
            self.notifier.service_manager.status(&self.status_line());
            self.changed();
        }
        found.is_ok()
    }

    /// The loop works.
    fn tick(&self) {
        let now = u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_tick.store(now, Ordering::Relaxed);
    }

    /// Feeds the service manager's watchdog as long as the loop works, for ever.
    pub(super) async fn keep_alive(self: Arc<Self>) {
        let alive = || {
            let last_tick = Duration::from_millis(self.last_tick.load(Ordering::Relaxed));
            self.clock.elapsed().saturating_sub(last_tick) < SILENT_MAX
        };
        self.notifier.service_manager.keep_alive(self.clock.as_ref(), alive).await;
    }

    /// Stops every run within the deadline, then abandons requests in flight. Returns how many runs even that did not end.
    async fn drain(&self, mut stop: watch::Receiver<Signal>) -> usize {
        self.queue().stop();
        let deadline = self.project().settings.daemon.drain;
        let runs = self.running().len();
        if runs > 0 {
            let within = duration(deadline);
            tracing::info!(runs, "stopping: waiting up to {within} for requests in flight (Ctrl-C again to abort)");
        }
        self.notifier.service_manager.stopping("stopping: waiting for requests in flight", deadline + ABANDONED_MAX);
        let began = self.clock.elapsed();
        self.signal_all(Signal::Stop);
        self.changed();
        let mut abandoned = None;
        loop {
            self.tick();
            let left = self.running().len();
            if left == 0 {
                return 0;
            }
            let elapsed = self.clock.elapsed().saturating_sub(began);
            let hurried = *stop.borrow_and_update() == Signal::Abandon;
            if abandoned.is_none() && (elapsed >= deadline || hurried) {
                tracing::warn!(runs = left, "aborting requests in flight; the next start resends their groups");
                self.signal_all(Signal::Abandon);
                abandoned = Some(elapsed);
            }
            let until = abandoned.map_or(deadline, |since| since + ABANDONED_MAX);
            if abandoned.is_some() && elapsed >= until {
                tracing::warn!(
                    runs = left,
                    "{} did not stop; the next start recovers them",
                    plural(left as u64, "run")
                );
                return left;
            }
            tokio::select! {
                () = self.woken.notified() => {}
                () = self.clock.sleep(until.saturating_sub(elapsed).min(TICK_MAX)) => {}
                changed = stop.changed() => {
                    if changed.is_err() {
                        // No further signal can come.
                        self.clock.sleep(until.saturating_sub(elapsed).min(Duration::from_millis(50))).await;
                    }
                }
            }
        }
    }

    fn signal_all(&self, level: Signal) {
        for running in self.running().values() {
            running.tracker.stopping();
            running.signal.send_modify(|signal| *signal = level.max(*signal));
        }
    }
}
