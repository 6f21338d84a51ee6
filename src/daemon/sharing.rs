//! Sharing the work with [peers](super::peers): claims, what others did, and taking over from one that is gone.
//!
//! Every daemon has the same schedules, and its own [queue](crate::scheduler::queue). What it starts it claims first, by the
//! lease of the sync; then it takes in what others did since it looked last, and starts the run only if it is still due. What
//! others start, end, pause and queue it learns by looking every other second. A run whose process has lost its lease is
//! recorded as crashed by whichever daemon sees it first, and the sync runs again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::mpsc;

use super::peers::SeenRun;
use super::run_task::EndedRun;
use super::supervisor::Supervisor;
use crate::error::{Kind, Result};
use crate::ledger::kv::{PAUSED, note_of};
use crate::ledger::shared::{LeaseRecord, daemon_lease, sync_lease};
use crate::ledger::{RunRecord, RunStatus, SharedState};
use crate::scheduler::backoff::Backoff;
use crate::scheduler::queue::DueRun;
use crate::service::open;
use crate::service::peers::{self, CancelRequest, DRAIN, DaemonLease, RunLease};
use crate::sync::RunOptions;

/// Between two looks at what others do.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The latest runs that a look takes in; what was missed is taken in when its sync is claimed.
const RUNS_MAX: u64 = 100;
/// Runs of one sync that are taken in when it is claimed.
const RUNS_OF_SYNC_MAX: u64 = 10;
/// Runs that are remembered.
const REMEMBERED_MAX: usize = 2_000;
/// How much later a daemon claims what is due for each run that it has under way: the idle one claims first.
const CLAIM_LATER: Duration = Duration::from_millis(10);
/// Longest that it claims later by chance, so that two that are equally idle take turns.
const CLAIM_LATER_MAX_MS: u64 = 10;
/// Before what could not be claimed is tried again.
const CLAIM_AGAIN: Duration = Duration::from_secs(1);

impl Supervisor {
    /// Looks at what others do, for ever.
    pub(super) async fn follow_peers(self: Arc<Self>) {
        let Some(shared) = self.ledger.shared() else { return };
        let every = LOOK_EVERY.min(shared.lease_lasts() / 4);
        loop {
            self.clock.sleep(every).await;
            // Why the ledger cannot be used is reported where runs start.
            if let Err(error) = self.look().await {
                tracing::debug!("failed to read what other daemons do: {error}");
            }
            self.woken.notify_one();
        }
    }

    /// Remembers the runs that are recorded so far.
    pub(super) async fn meet_peers(&self) -> Result<()> {
        if self.ledger.shared().is_none() {
            return Ok(());
        }
        let runs = self.queries.history().runs(None, None, RUNS_MAX).await?;
        let ended = runs.into_iter().filter(|run| run.status != RunStatus::Running);
        self.peers.known().runs.extend(ended.map(|run| (run.run, SeenRun::Ended)));
        Ok(())
    }

    /// Takes in what others did since the last look.
    pub(super) async fn look(&self) -> Result<()> {
        let (Some(shared), Some(queries)) = (self.ledger.shared(), self.queries.shared()) else { return Ok(()) };
        self.keep_name(shared).await?;
        let _turn = self.peers.turn.lock().await;
        let unfinished = self.queries.history().unfinished_runs().await?;
        let leases = queries.leases().await?;
        let mut runs = self.queries.history().runs(None, None, RUNS_MAX).await?;
        let listed = |run: &str| unfinished.iter().chain(&runs).any(|listed| listed.run == run);
        let running =
            |(run, seen): (&String, &SeenRun)| (*seen == SeenRun::Running && !listed(run)).then(|| run.clone());
        let gone: Vec<String> = self.peers.known().runs.iter().filter_map(running).collect();
        for run in gone {
            runs.extend(self.queries.history().run(&run).await?.map(|(record, _)| record));
        }
        let mut changed = self.take_in(&runs).await?;
        {
            let mut queue = self.queue();
            for sync in queue.names() {
                let lease = peers::lease_of(&leases, &sync).filter(|lease| !lease.is_own);
                queue.held_elsewhere(
                    &sync,
                    lease.map(|lease| RunLease::begun(lease).unwrap_or_else(|| lease.holder.clone())),
                );
            }
            let mut known = self.peers.known();
            changed |= known.leases != leases;
            known.leases = leases;
        }
        self.recover(unfinished).await?;
        changed |= self.take_in_notes().await?;
        self.heed();
        if changed {
            self.changed();
        }
        Ok(())
    }

    /// Keeps this daemon's name: others may have found its lease expired.
    async fn keep_name(&self, shared: &dyn SharedState) -> Result<()> {
        let is_lost = self.peers.known().own.as_ref().is_some_and(|own| own.is_lost());
        let (lease, text) = (daemon_lease(&self.peers.name), self.about_lease());
        if is_lost {
            self.peers.known().own = None;
            match shared.claim(&lease, Duration::ZERO, &text).await {
                Ok(own) => self.peers.known().own = Some(own),
                Err(busy) if busy.kind() == Kind::LedgerBusy => {
                    tracing::error!("another daemon has the name `{}` now: {busy}", self.peers.name);
                    self.peers.name_taken.store(true, Ordering::SeqCst);
                }
                Err(error) => return Err(error),
            }
        } else if self.peers.known().described != text {
            shared.describe(&lease, &text).await?;
        }
        self.peers.known().described = text;
        Ok(())
    }

    fn about_lease(&self) -> String {
        let draining = {
            let queue = self.queue();
            queue.is_draining() || queue.is_stopped()
        };
        let detail = DaemonLease { version: env!("CARGO_PKG_VERSION").to_owned(), draining };
        serde_json::to_string(&detail).unwrap_or_default()
    }

    /// Takes in runs of other processes, in the order in which they started and ended. Returns whether there was any.
    async fn take_in(&self, runs: &[RunRecord]) -> Result<bool> {
        let mut events: Vec<(DateTime<Utc>, bool, &RunRecord)> = Vec::new();
        {
            let here: BTreeSet<String> = self.running().keys().cloned().collect();
            let mut known = self.peers.known();
            for run in runs {
                let seen = known.runs.get(&run.run).copied();
                // While a run of the sync goes on here, another one elsewhere is of after that.
                if matches!(seen, Some(SeenRun::Own | SeenRun::Ended)) || here.contains(&run.sync) {
                    continue;
                }
                let has_ended = run.status != RunStatus::Running;
                if seen.is_none() {
                    events.push((run.started_at, false, run));
                }
                if has_ended {
                    // After its start, also where a clock was set back during it.
                    let after_start = run.started_at + TimeDelta::microseconds(1);
                    events.push((run.ended_at.map_or(after_start, |ended| ended.max(after_start)), true, run));
                    known.ended.push(run.run.clone());
                    self.peers.run_ended.notify_one();
                }
                known.runs.insert(run.run.clone(), if has_ended { SeenRun::Ended } else { SeenRun::Running });
            }
            while known.runs.len() > REMEMBERED_MAX {
                known.runs.pop_first();
            }
        }
        events.sort_by_key(|(at, has_ended, run)| (*at, !*has_ended, run.run.as_str()));
        for (at, has_ended, run) in &events {
            self.note_run(&run.run);
            if run.partial {
                continue;
            }
            if !has_ended {
                self.queue().started_elsewhere(&run.sync, *at, run.ended_at);
                continue;
            }
            let succeeded = matches!(run.status, RunStatus::Succeeded | RunStatus::SucceededWithRejections);
            let project = self.project();
            let file = project.mappings.iter().find(|file| file.mapping.name == run.sync);
            let backoff = match file.filter(|_| !succeeded) {
                Some(file) => self.restored(&project, &file.mapping).await?.backoff,
                None => Backoff::default(),
            };
            self.queue().ended_elsewhere(&run.sync, succeeded, backoff, *at);
        }
        Ok(!events.is_empty())
    }

    /// Records runs whose process has lost their leases as crashed.
    async fn recover(&self, unfinished: Vec<RunRecord>) -> Result<()> {
        let leases = self.peers.leases();
        for run in unfinished {
            if self.runs_here(&run.run) || peers::lease_of(&leases, &run.sync).is_some() {
                continue;
            }
            match self.record_lost(&run, &leases).await {
                // Another daemon was first.
                Err(busy) if busy.kind() == Kind::LedgerBusy => {}
                recorded => recorded?,
            }
        }
        Ok(())
    }

    fn runs_here(&self, run: &str) -> bool {
        self.running().values().any(|running| running.run == run)
    }

    /// Records a run as crashed that had one of these leases.
    async fn record_lost(&self, run: &RunRecord, leases: &[LeaseRecord]) -> Result<()> {
        let left = leases.iter().find(|lease| lease.name == sync_lease(&run.sync) && !lease.is_own);
        let whom = left.map_or_else(|| "its process".to_owned(), |lease| lease.holder.clone());
        let error = format!("{whom} ended or was cut off during this run; its unconfirmed groups will be resent");
        self.ledger.mark_crashed(run, self.clock.now(), &error, Kind::Interrupted.name()).await?;
        tracing::warn!(sync = run.sync, run = run.run, "recovered crashed run {}: {error}", run.run);
        self.forget_queued(&run.sync, &run.run).await;
        Ok(())
    }

    /// Takes in pauses, queued runs and interrupted runs as they are stored. Returns whether anything was new.
    async fn take_in_notes(&self) -> Result<bool> {
        // No request comes between what is stored and what is in use.
        let _turn = self.orders.lock().await;
        let notes = self.queries.kv().all().await?;
        let mut changed = false;
        let names = self.queue().names();
        for sync in names {
            let note = |kind| notes.get(&note_of(kind, &sync)).map(String::as_str);
            changed |= self.take_in_note(&sync, note(PAUSED), note("waiting"));
            if let Some(run) = note("stopped")
                && self.peers.known().heeded.insert(format!("stopped {run}"))
            {
                self.queue().retry(&sync);
            }
        }
        Ok(changed)
    }

    fn take_in_note(&self, sync: &str, paused: Option<&str>, waiting: Option<&str>) -> bool {
        let now = self.clock.now();
        let queued = waiting.and_then(|text| self.stored_run(sync, text));
        let mut queue = self.queue();
        let Some(status) = queue.status(sync, now) else { return false };
        let mut changed = false;
        if paused.is_some() != status.paused_since.is_some() {
            let since = paused.map(|text| text.parse().unwrap_or(now));
            changed = queue.pause(sync, since, now).is_ok();
        }
        if status.queued != queued {
            queue.set_queued(sync, queued);
            changed = true;
        }
        changed
    }

    /// Sees to what others want of this daemon.
    fn heed(&self) {
        for lease in self.peers.leases().into_iter().filter(|lease| lease.is_own) {
            let Some(request) = lease.request else { continue };
            if request == DRAIN {
                self.start_draining();
            } else if let Ok(CancelRequest { cancel, .. }) = serde_json::from_str(&request)
                && self.peers.known().heeded.insert(request.clone())
            {
                self.cancel_running(&cancel);
            }
        }
    }

    /// Starts no more runs from now on; the daemon ends with those it has.
    pub(super) fn start_draining(&self) {
        let mut queue = self.queue();
        if !queue.is_draining() {
            queue.drain();
            drop(queue);
            let runs = self.running().len();
            tracing::info!(runs, "draining: no run starts here any more, and the daemon ends with those under way");
            self.notifier.service_manager.status(&self.status_line());
            self.wake();
        }
    }

    /// Claims one of the syncs that are due, and starts its run if it still is. Returns how long nothing else is to be done.
    pub(super) async fn claim_due(
        self: &Arc<Self>,
        shared: &dyn SharedState,
        starts: Vec<DueRun<RunOptions>>,
        ended: &mpsc::UnboundedSender<EndedRun>,
    ) -> Duration {
        let at = self.random.up_to(starts.len().saturating_sub(1) as u64);
        let Some(start) = usize::try_from(at).ok().and_then(|at| starts.get(at)) else { return CLAIM_AGAIN };
        let under_way = u32::try_from(self.running().len()).unwrap_or(u32::MAX);
        let by_chance = Duration::from_millis(self.random.up_to(CLAIM_LATER_MAX_MS));
        self.clock.sleep(CLAIM_LATER.saturating_mul(under_way) + by_chance).await;
        match self.claim(shared, &start.sync, ended).await {
            Ok(()) => Duration::ZERO,
            Err(error) => {
                tracing::warn!(sync = start.sync, "failed to claim the sync: {error}");
                CLAIM_AGAIN
            }
        }
    }

    async fn claim(
        self: &Arc<Self>,
        shared: &dyn SharedState,
        sync: &str,
        ended: &mpsc::UnboundedSender<EndedRun>,
    ) -> Result<()> {
        let project = self.project();
        let Some(file) = project.mappings.iter().find(|file| file.mapping.name == sync) else { return Ok(()) };
        let attempt = open::attempt_longest(&project, file)?;
        let detail = RunLease::text(None, "", Some(&self.peers.name));
        let claim = match shared.claim(&sync_lease(sync), attempt, &detail).await {
            Ok(claim) => claim,
            Err(busy) if busy.kind() == Kind::LedgerBusy => {
                // Until the next look shows what has it.
                self.queue().held_elsewhere(sync, Some(String::new()));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        {
            let _turn = self.peers.turn.lock().await;
            let of_sync = async || self.queries.history().runs(Some(sync), None, RUNS_OF_SYNC_MAX).await;
            let mut runs = of_sync().await?;
            let left: Vec<&RunRecord> = runs.iter().filter(|run| run.status == RunStatus::Running).collect();
            if !left.is_empty() {
                // No process has its lease but this one.
                for run in left {
                    self.record_lost(run, &self.peers.leases()).await?;
                }
                runs = of_sync().await?;
            }
            self.take_in(&runs).await?;
        }
        {
            let _turn = self.orders.lock().await;
            let kv = self.queries.kv();
            let (paused, waiting) = (kv.get(&note_of(PAUSED, sync)).await?, kv.get(&note_of("waiting", sync)).await?);
            self.take_in_note(sync, paused.as_deref(), waiting.as_deref());
        }
        let now = self.clock.now();
        let mut queue = self.queue();
        queue.held_elsewhere(sync, None);
        let Some(start) = queue.tick(now).starts.into_iter().find(|start| start.sync == sync) else { return Ok(()) };
        let task = self.task_of(start.clone(), now).claimed(claim);
        queue.started(&start, &task.run, now);
        drop(queue);
        self.peers.begins(&task.run);
        self.spawn(task, ended.clone());
        self.changed();
        Ok(())
    }
}
