//! The service of a running daemon: queries over its ledger, with what its queue and its runs add, and commands by its
//! scheduler.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, watch};

use super::observe::{log, metrics};
use super::plans::{Full, WAITING_MAX};
use super::supervisor::Supervisor;
use crate::config::{Project, TargetName};
use crate::delivery::Signal;
use crate::error::{Error, Kind};
use crate::io::process_id::ProcessId;
use crate::ledger::{self, Access, BackupSummary, Ledger, RunStatus, SharedState};
use crate::scheduler::queue::{EnqueueError, SyncState};
use crate::service::api::{About, EnqueuedRun, PlanStream, ResultStream, Service, ServiceError, ServiceResult};
use crate::service::commands;
use crate::service::job::{Context, Job};
use crate::service::open;
use crate::service::peers::{self, RunLease};
use crate::service::queries::{Queries, sync_errors, unknown_run};
use crate::service::tracker::Tracker;
use crate::service::views::{
    ActivityState, ChangeView, DaemonView, DestinationView, ExportedGroup, GroupRequestView, GroupView, OrphanedSync,
    PlanRequest, QueuedRunView, RejectedView, RunDetail, RunView, SyncActivity, SyncDetail, SyncView, build,
};
use crate::sync::options::PlanFile;
use crate::sync::plan_file::{self, SealedPlan};
use crate::sync::verify::{Drifted, Verified};
use crate::sync::{RunOptions, RunOrigin};

/// The service of a daemon.
pub(super) struct DaemonService(pub(super) Arc<Supervisor>);

impl std::ops::Deref for DaemonService {
    type Target = Supervisor;

    fn deref(&self) -> &Supervisor {
        &self.0
    }
}

/// A sync that is reserved for a plan or the like: no run of it begins until this is dropped.
struct Reserved(Arc<Supervisor>, String);

impl Drop for Reserved {
    fn drop(&mut self) {
        self.0.queue().plan_ended(&self.1);
        self.0.wake();
    }
}

impl Reserved {
    /// Does something with a [`Job`] of the sync, over this ledger.
    async fn with_job<End>(
        &self,
        ledger: &dyn Ledger,
        (options, origin): (&RunOptions, &RunOrigin),
        signal: watch::Receiver<Signal>,
        work: impl AsyncFnOnce(&Job<'_>, &Tracker) -> ServiceResult<End>,
    ) -> ServiceResult<End> {
        let Reserved(supervisor, sync) = self;
        let project = supervisor.project();
        let tracker = Tracker::new("", supervisor.clock.now(), &origin.started_by);
        let job = supervisor.context(&project, ledger).job(sync, (options, origin), &tracker, signal)?;
        work(&job, &tracker).await
    }
}

impl Supervisor {
    /// What its jobs share.
    pub(super) fn context<'a>(&'a self, project: &'a Project, ledger: &'a dyn Ledger) -> Context<'a> {
        let (http_client, clock, random) = (&self.http_client, self.clock.as_ref(), &self.random);
        Context { project, ledger, http_client, clock, random }
    }

    pub(super) fn about(&self) -> About {
        let (stopping, running) = (self.queue().is_stopped(), self.running().len());
        let draining = self.queue().is_draining();
        // After the others: whoever takes a changed config over holds the roster when it takes this.
        let config = self.config.read();
        let daemon = &config.project.settings.daemon;
        About {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            target: config.project.settings.target.as_ref().map(ToString::to_string),
            started_at: self.started_at,
            config_read_at: config.read_at,
            config_problems: config.problems.clone(),
            ledger_problem: self.ledger_problem(),
            sync_errors: sync_errors(&config.project),
            stopping,
            running,
            parallel_runs: daemon.parallel_runs,
            timezone: daemon.zone().name().to_owned(),
            tzdata: crate::time_zone::tables(),
            name: Some(self.peers.name.clone()),
            draining,
        }
    }

    fn service_queries<'a>(&'a self, project: &'a Project) -> Queries<'a> {
        Queries { project, history: self.queries.history(), kv: self.queries.kv(), now: self.clock.now() }
    }

    /// Fails while a run of a sync without a mapping is in progress: it began before the mapping was removed.
    fn has_ended(&self, sync: &str) -> ServiceResult<()> {
        match self.running().get(sync) {
            None => Ok(()),
            Some(running) => {
                let error = Error::new(Kind::LedgerBusy, format!("run {} of {sync} is in progress", running.run));
                Err(ServiceError::Conflict(error.advise("try again when it has ended")))
            }
        }
    }

    /// This daemon, where it is the only one.
    fn alone(&self) -> DaemonView {
        DaemonView {
            name: self.peers.name.clone(),
            process: ProcessId::own().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since: self.started_at,
            draining: self.queue().is_draining(),
            running: self.running().keys().cloned().collect(),
        }
    }

    fn activity(&self, sync: &str) -> Option<SyncActivity> {
        let status = self.queue().status(sync, self.clock.now())?;
        let here = self.running().get(sync).map(|running| running.tracker.progress());
        let elsewhere = self.peers.elsewhere(sync).filter(|_| here.is_none());
        let queued =
            status.queued.map(|queued| QueuedRunView { run: queued.run, since: queued.since, options: queued.request });
        Some(SyncActivity {
            state: match status.state {
                SyncState::Running => ActivityState::Running,
                SyncState::Queued => ActivityState::Queued,
                SyncState::Paused => ActivityState::Paused,
                SyncState::BackingOff => ActivityState::BackingOff,
                SyncState::Scheduled => ActivityState::Scheduled,
                SyncState::Manual => ActivityState::Manual,
                SyncState::Disabled => ActivityState::Disabled,
            },
            running: here.or_else(|| RunLease::of(elsewhere.as_ref()?).progress),
            queued,
            paused_since: status.paused_since,
            failures: status.backoff.failures,
            next_attempt_at: status.backoff.not_before.filter(|_| status.backoff.failures > 0),
            holder: elsewhere.as_ref().map(peers::holder),
        })
    }

    /// The error of a request that the run queue refused.
    fn declined(&self, declined: EnqueueError, sync: &str) -> ServiceError {
        let conflict =
            |what: String, advice: &str| ServiceError::Conflict(Error::new(Kind::LedgerBusy, what).advise(advice));
        match declined {
            EnqueueError::UnknownSync => match open::exists(&self.project(), sync) {
                Err(error) => ServiceError::NotFound(error),
                Ok(()) => match open::named(&self.project(), sync) {
                    Err(failure) => failure.into(),
                    Ok(_) => conflict(format!("sync `{sync}` is being reloaded"), "repeat the request"),
                },
            },
            EnqueueError::AlreadyQueued(run) => conflict(
                format!("run {run} of {sync} is queued already, with other options"),
                "wait until it has begun, or cancel it",
            ),
            EnqueueError::Busy(Some(run)) => {
                conflict(format!("run {run} of {sync} is in progress"), "try again when it has ended, or cancel it")
            }
            EnqueueError::Busy(None) => {
                conflict(format!("a plan of {sync} is in progress"), "try again when it has ended")
            }
            EnqueueError::ShuttingDown => {
                conflict("the daemon is shutting down".to_owned(), "try again after it has been restarted")
            }
        }
    }

    /// Produces a stream that reads a source or a ledger: in one of the places for plans, while no run of the sync begins.
    async fn reserve<Item, End, Producing>(
        self: &Arc<Self>,
        sync: &str,
        what: &'static str,
        produce: impl FnOnce(Reserved, mpsc::Sender<Item>, watch::Receiver<Signal>) -> Producing,
    ) -> ServiceResult<ResultStream<Item, End>>
    where
        Item: Send + 'static,
        End: Send + 'static,
        Producing: Future<Output = ServiceResult<End>> + Send + 'static,
    {
        // What is refused anyway need not wait; the sync is not kept from its runs before this begins.
        let may_plan = self.queue().check_plan(sync);
        may_plan.map_err(|refused| self.declined(refused, sync))?;
        let place = self.plans.place().await.map_err(|Full| {
            let what = format!("{WAITING_MAX} plans are queued already");
            ServiceError::Busy(Error::new(Kind::SourceBusy, what).advise("try again when some have ended"))
        })?;
        let reserved = self.queue().plan_started(sync);
        reserved.map_err(|refused| self.declined(refused, sync))?;
        let reserved = Reserved(Arc::clone(self), sync.to_owned());
        Ok(ResultStream::spawn(&self.work, what, |items, signal| {
            let producing = produce(reserved, items, signal);
            async move {
                let _place = place;
                producing.await
            }
        }))
    }

    /// A run counts as running until its sync is free again: what follows it must not find the sync busy.
    fn mark_running(&self, run: &mut RunView) {
        let busy = self.queue().check_plan(&run.sync);
        if matches!(busy, Err(EnqueueError::Busy(Some(busy))) if busy == run.run) {
            (run.status, run.ended_at) = (RunStatus::Running, None);
        }
        if run.status == RunStatus::Running {
            run.holder = self.peers.elsewhere(&run.sync).as_ref().map(peers::holder);
        }
    }

    /// The runs in progress that have no record yet.
    fn unrecorded(&self, sync: Option<&str>, recorded: &[RunView]) -> Vec<RunView> {
        let running = self.running();
        let wanted = running.iter().filter(|(name, running)| {
            sync.is_none_or(|sync| sync == *name) && !recorded.iter().any(|run| run.run == running.run)
        });
        wanted.map(|(name, running)| running.tracker.run_view(name)).collect()
    }
}

fn starting_detail(sync: &str, tracker: &Tracker) -> RunDetail {
    RunDetail {
        run: tracker.run_view(sync),
        detail: Default::default(),
        progress: Some(tracker.progress()),
        rejected: Vec::new(),
    }
}

/// Carries a command out to its end, also when its caller is gone.
async fn to_the_end<T: Send + 'static>(
    command: impl Future<Output = crate::error::Result<T>> + Send + 'static,
) -> crate::error::Result<T> {
    let done = tokio::spawn(command).await;
    done.unwrap_or_else(|panic| Err(Error::new(Kind::Bug, "failed to carry out the command").because(panic)))
}

#[async_trait]
impl Service for DaemonService {
    async fn execute(
        &self,
        sync: &str,
        options: &RunOptions,
        monitor: &dyn crate::service::api::RunMonitor,
        signal: watch::Receiver<Signal>,
    ) -> ServiceResult<crate::sync::report::Report> {
        crate::service::follow::execute(self, sync, options, monitor, signal).await
    }

    async fn about(&self) -> ServiceResult<About> {
        Ok(self.0.about())
    }

    fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        Some(self.changes.subscribe())
    }

    async fn ready(&self) -> ServiceResult<()> {
        if self.queue().is_stopped() {
            return Err(self.declined(EnqueueError::ShuttingDown, ""));
        }
        self.ledger_usable().await?;
        self.queries.history().runs(None, None, 1).await?;
        Ok(())
    }

    async fn syncs(&self, times: usize) -> ServiceResult<Vec<SyncView>> {
        let project = self.project();
        let mut records = self.service_queries(&project).records().await?;
        let views = project.mappings.iter().map(|file| {
            let name = &file.mapping.name;
            let record = records.remove(name).unwrap_or_default();
            let timetable = self.queue().timetable(name).cloned();
            let mut view = build::sync(&project, &file.mapping, record, timetable, self.clock.now(), times);
            view.activity = self.activity(name);
            view
        });
        Ok(views.collect())
    }

    async fn sync(&self, sync: &str) -> ServiceResult<SyncDetail> {
        let project = self.project();
        let queries = self.service_queries(&project);
        let timetable = self.queue().timetable(sync).cloned();
        let mut detail = queries.sync_by(queries.file(sync)?, timetable).await?;
        detail.sync.activity = self.activity(sync);
        detail.runs.splice(0..0, self.unrecorded(Some(sync), &detail.runs));
        Ok(detail)
    }

    async fn destination(&self, destination: &str) -> ServiceResult<DestinationView> {
        self.service_queries(&self.project()).destination(destination).await
    }

    async fn trigger(&self, sync: &str, options: RunOptions, by: &str) -> ServiceResult<EnqueuedRun> {
        options.check().map_err(ServiceError::Invalid)?;
        // As a task of its own: its caller may go away before it is written down and begun.
        let (supervisor, name, by) = (Arc::clone(&self.0), sync.to_owned(), by.to_owned());
        match to_the_end(async move { supervisor.ask(&name, options, &by).await }).await? {
            Ok((run, joined)) => Ok(EnqueuedRun { sync: sync.to_owned(), run, joined }),
            Err(refused) => Err(self.declined(refused, sync)),
        }
    }

    async fn accept_plan(&self, plan: SealedPlan) -> ServiceResult<PlanFile> {
        let settings = &self.project().settings;
        let checked = plan_file::check_sealed(&plan, settings.target.as_ref().map(TargetName::as_str));
        checked.map_err(|error| match error.kind() {
            Kind::PlanOutdated => ServiceError::Conflict(error),
            _ => ServiceError::Invalid(error),
        })?;
        let folder = ledger::plans_beside(&settings.state.path);
        let kept = tokio::task::spawn_blocking(move || plan_file::keep(plan, &folder)).await;
        let kept = kept.unwrap_or_else(|panic| Err(Error::new(Kind::Bug, "failed to keep the plan").because(panic)));
        Ok(kept?)
    }

    async fn plan_stream(&self, sync: &str, request: PlanRequest) -> ServiceResult<PlanStream> {
        request.options.check().map_err(ServiceError::Invalid)?;
        let planning = move |reserved: Reserved, parts, signal| async move {
            let ledger = reserved.0.ledger.connect(Access::ReadOnly)?;
            let origin = RunOrigin::of("plan");
            reserved
                .with_job(
                    ledger.as_ref(),
                    (&request.options, &origin),
                    signal,
                    async |job: &Job<'_>, tracker: &Tracker| commands::plan(job, &request, tracker, &parts).await,
                )
                .await
        };
        self.0.reserve(sync, "make the plan", planning).await
    }

    async fn cancel(&self, run: &str) -> ServiceResult<()> {
        let (supervisor, id) = (Arc::clone(&self.0), run.to_owned());
        let cancelling = async move { Ok(supervisor.cancel(&id).await || supervisor.cancel_elsewhere(&id).await?) };
        if to_the_end(cancelling).await? {
            return Ok(());
        }
        match self.queries.history().run(run).await? {
            Some(_) => {
                let error = Error::new(Kind::Config, format!("run {run} has ended"));
                Err(ServiceError::Conflict(error.advise("there is nothing left to cancel")))
            }
            None => Err(unknown_run(run)),
        }
    }

    async fn pause(&self, sync: &str, paused: bool) -> ServiceResult<SyncActivity> {
        let (supervisor, name) = (Arc::clone(&self.0), sync.to_owned());
        let done = to_the_end(async move { supervisor.pause(&name, paused).await }).await?;
        done.map_err(|refused| self.declined(refused, sync))?;
        self.activity(sync).ok_or_else(|| self.declined(EnqueueError::UnknownSync, sync))
    }

    async fn runs(&self, sync: Option<&str>, before: Option<&str>, count: u64) -> ServiceResult<Vec<RunView>> {
        let mut runs = self.service_queries(&self.project()).runs(sync, before, count).await?;
        runs.iter_mut().for_each(|run| self.mark_running(run));
        if before.is_none() {
            runs.splice(0..0, self.unrecorded(sync, &runs));
            runs.truncate(usize::try_from(count).unwrap_or(usize::MAX));
        }
        Ok(runs)
    }

    async fn latest_runs(&self, each: u64) -> ServiceResult<BTreeMap<String, Vec<RunView>>> {
        let mut latest = self.service_queries(&self.project()).latest_runs(each).await?;
        latest.values_mut().filter_map(|runs| runs.first_mut()).for_each(|run| self.mark_running(run));
        let recorded: Vec<RunView> = latest.values().filter_map(|runs| runs.first().cloned()).collect();
        for run in self.unrecorded(None, &recorded) {
            let runs = latest.entry(run.sync.clone()).or_default();
            runs.insert(0, run);
            runs.truncate(usize::try_from(each).unwrap_or(usize::MAX));
        }
        Ok(latest)
    }

    async fn run(&self, run: &str) -> ServiceResult<RunDetail> {
        // It may begin between two of the places where it is looked up: then the second pass finds it.
        for _ in 0..2 {
            let in_progress = {
                let running = self.running();
                let found = running.iter().find(|(_, running)| running.run == run);
                found.map(|(sync, running)| (sync.clone(), Arc::clone(&running.tracker)))
            };
            if let Some(mut detail) = self.service_queries(&self.project()).find_run(run).await? {
                if let Some((_, tracker)) = in_progress {
                    detail.progress = Some(tracker.progress());
                    tracker.log_into(&mut detail);
                }
                self.mark_running(&mut detail.run);
                if detail.run.holder.is_some() {
                    let elsewhere = self.peers.elsewhere(&detail.run.sync);
                    detail.progress =
                        detail.progress.or_else(|| peers::progress_of(elsewhere.as_ref()?, &detail.run.run));
                }
                return Ok(detail);
            }
            if let Some((sync, tracker)) = in_progress {
                return Ok(starting_detail(&sync, &tracker));
            }
            let queued = self.queue().queued().into_iter().find(|(_, asked)| asked.run == run);
            if let Some((sync, asked)) = queued {
                return Ok(starting_detail(&sync, &Tracker::queued(run, asked.since, &asked.requested_by)));
            }
            // It may be about to begin in another process.
            let leases = match self.queries.shared() {
                Some(shared) => shared.leases().await?,
                None => Vec::new(),
            };
            let begins = leases.iter().find(|lease| lease.is_held && RunLease::of(lease).run.as_deref() == Some(run));
            if let Some((lease, sync)) = begins.and_then(|lease| Some((lease, lease.name.strip_prefix("sync/")?))) {
                let mut detail =
                    starting_detail(sync, &Tracker::new(run, lease.since, &RunLease::of(lease).started_by));
                detail.run.holder = Some(peers::holder(lease));
                detail.progress = peers::progress_of(lease, run).or(detail.progress);
                return Ok(detail);
            }
            // It may be queued at another daemon.
            self.0.look().await?;
        }
        Err(unknown_run(run))
    }

    async fn run_changes(
        &self,
        run: &str,
        outcome: Option<&str>,
        from: u64,
        count: u64,
    ) -> ServiceResult<Vec<ChangeView>> {
        let changes = self.service_queries(&self.project()).run_changes(run, outcome, from, count).await?;
        if changes.is_empty() {
            // Whether it sent nothing, or does not exist.
            Service::run(self, run).await?;
        }
        Ok(changes)
    }

    async fn rejected(&self, sync: Option<&str>, after: Option<&str>, count: u64) -> ServiceResult<Vec<RejectedView>> {
        self.service_queries(&self.project()).rejected(sync, after, count).await
    }

    async fn group(&self, sync: &str, key: &str, before: Option<u64>, count: u64) -> ServiceResult<GroupView> {
        self.service_queries(&self.project()).group(sync, key, before, count).await
    }

    async fn requests(&self, sync: &str, key: &str) -> ServiceResult<Vec<GroupRequestView>> {
        self.service_queries(&self.project()).requests(sync, key).await
    }

    async fn backup(&self, file: &Path) -> ServiceResult<BackupSummary> {
        Ok(self.ledger.storage().backup(file).await?)
    }

    async fn export(&self, sync: &str) -> ServiceResult<ResultStream<ExportedGroup, ()>> {
        self.service_queries(&self.project()).exists(sync)?;
        // It only reads, so that it holds up no run and waits for none.
        let (ledger, sync) = (self.ledger.connect(Access::ReadOnly)?, sync.to_owned());
        Ok(ResultStream::spawn(&self.work, "export the ledger", |items, _| async move {
            commands::export(ledger.history(), &sync, &items).await
        }))
    }

    async fn reset(&self, sync: &str, group: Option<&str>, forget: bool) -> ServiceResult<u64> {
        let group = group.map(str::to_owned);
        let resetting = |reserved: Reserved, _: mpsc::Sender<()>, _| async move {
            let Reserved(supervisor, sync) = &reserved;
            let ledger = supervisor.ledger.connect(Access::ReadWrite)?;
            commands::reset(ledger.as_ref(), supervisor.clock.as_ref(), sync, group.as_deref(), forget).await
        };
        self.0.reserve(sync, "reset the ledger", resetting).await?.end.await
    }

    async fn orphaned_syncs(&self) -> ServiceResult<Vec<OrphanedSync>> {
        self.service_queries(&self.project()).orphaned_syncs().await
    }

    async fn rename(&self, from: &str, to: &str) -> ServiceResult<u64> {
        self.service_queries(&self.project()).can_rename(from, to).await?;
        let (service, from) = (DaemonService(Arc::clone(&self.0)), from.to_owned());
        let renaming = |reserved: Reserved, _: mpsc::Sender<()>, _| async move {
            let Reserved(supervisor, to) = &reserved;
            // Once more: a run may have begun or ended until the sync was reserved.
            service.service_queries(&service.project()).can_rename(&from, to).await?;
            service.has_ended(&from)?;
            let ledger = supervisor.ledger.connect(Access::ReadWrite)?;
            let groups = commands::rename(ledger.as_ref(), &from, to).await?;
            supervisor.pause_as_stored(to).await?;
            Ok(groups)
        };
        self.0.reserve(to, "rename the sync", renaming).await?.end.await
    }

    async fn drop_sync(&self, sync: &str) -> ServiceResult<u64> {
        self.service_queries(&self.project()).is_orphaned(sync).await?;
        self.has_ended(sync)?;
        let (supervisor, sync) = (Arc::clone(&self.0), sync.to_owned());
        let dropping = async move {
            let ledger = supervisor.ledger.connect(Access::ReadWrite)?;
            commands::drop_sync(ledger.as_ref(), &sync).await
        };
        Ok(to_the_end(dropping).await?)
    }

    async fn adopt(&self, sync: &str) -> ServiceResult<ResultStream<(), u64>> {
        let adopting = |reserved: Reserved, _, signal| async move {
            let ledger = reserved.0.ledger.connect(Access::ReadWrite)?;
            let (options, origin) = (RunOptions::default(), RunOrigin::of("adoption"));
            reserved
                .with_job(ledger.as_ref(), (&options, &origin), signal, async |job: &Job<'_>, _: &Tracker| {
                    Ok(job.adopt().await?)
                })
                .await
        };
        self.0.reserve(sync, "adopt the groups", adopting).await
    }

    async fn verify(&self, sync: &str, repair: bool) -> ServiceResult<ResultStream<Drifted, Verified>> {
        let verifying = move |reserved: Reserved, items: mpsc::Sender<Drifted>, signal| async move {
            let ledger = reserved.0.ledger.connect(Access::ReadWrite)?;
            let (options, origin) = (RunOptions::default(), RunOrigin::of("verify"));
            reserved
                .with_job(ledger.as_ref(), (&options, &origin), signal, async |job: &Job<'_>, _: &Tracker| {
                    commands::verify(job, repair, &items).await
                })
                .await
        };
        self.0.reserve(sync, "verify the groups", verifying).await
    }

    async fn daemons(&self) -> ServiceResult<Vec<DaemonView>> {
        match self.queries.shared() {
            Some(shared) => Ok(peers::daemons(&shared.leases().await?)),
            None => Ok(vec![self.alone()]),
        }
    }

    async fn drain(&self, name: Option<&str>) -> ServiceResult<DaemonView> {
        match (name, self.ledger.shared()) {
            (Some(name), Some(shared)) if name != self.peers.name => peers::request_drain(shared, name).await,
            (Some(name), None) if name != self.peers.name => Err(peers::unknown_daemon(name)),
            _ => {
                self.start_draining();
                Ok(self.alone())
            }
        }
    }

    async fn metrics(&self) -> ServiceResult<String> {
        let syncs = self.syncs(1).await?;
        let (sent, dropped) = self.notifier.alerts.sent_and_dropped();
        Ok(self.notifier.metrics.render(metrics::Scrape {
            syncs: &syncs,
            mistaken: self.project().broken.iter().map(|broken| broken.name.clone()).collect(),
            about: &self.0.about(),
            alerts: [sent, dropped],
            reloads: [0, 0],
            // As seen at most two seconds ago; this one may not have looked yet.
            daemons: peers::daemons(&self.peers.leases()).len().max(1) as u64,
            leases: self.ledger.shared().map(SharedState::lease_counts).unwrap_or_default(),
            log_lines_dropped: log::dropped(),
            now: self.clock.now(),
        }))
    }
}
