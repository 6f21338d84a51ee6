//! How are the questions and orders of the [`Service`] answered? From the ledger, the run queue and the runs under way.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, watch};

use super::observe::{log, metrics};
use super::plans::{Full, WAITING_MAX};
use super::supervisor::Supervisor;
use super::tracker::Tracker;
use super::upkeep;
use crate::delivery::Signal;
use crate::error::{Error, Kind};
use crate::ledger::{Access, BackupSummary, ChangeOutcome, RunRecord};
use crate::mapping::MappingFile;
use crate::scheduler::queue::{EnqueueError, SyncState};
use crate::service::api::{
    About, EnqueuedRun, PlanStream, ResultStream, SCHEDULED_TIMES, Service, ServiceError, ServiceResult,
};
use crate::service::open::job::Job;
use crate::service::open::{self, Failure};
use crate::service::views::ask::Memory;
use crate::service::views::{
    Activity, ExportedView, GroupView, PlanPart, PlanView, QueuedRunView, RejectedView, RunDetail, RunView, SaidView,
    State, SyncDetail, SyncView, ask,
};
use crate::sync::RunOptions;
use crate::sync::verify::{Drifted, Verified};
use crate::sync::{RunOrigin, requests};

/// Runs that a sync's detail tells of: as many as its charts have room for.
const RUNS_TOLD: u64 = 50;

pub(super) fn unknown(what: &str, name: &str) -> ServiceError {
    let lists = if what == "run" { "runs" } else { "status" };
    let error = Error::new(Kind::Config, format!("there is no {what} `{name}`"));
    ServiceError::NotFound(error.advise(format!("`groupcast {lists}` lists what there is")))
}

pub(super) fn declined(declined: EnqueueError, sync: &str) -> ServiceError {
    let conflict = |what: String, advice: &str| ServiceError::Conflict(Error::new(Kind::Config, what).advise(advice));
    match declined {
        EnqueueError::UnknownSync => unknown("sync", sync),
        EnqueueError::AlreadyQueued(run) => conflict(
            format!("run {run} of {sync} waits already, with other options"),
            "wait until it has begun, or cancel it",
        ),
        EnqueueError::Busy(Some(run)) => {
            conflict(format!("run {run} of {sync} is under way"), "ask again when it has ended, or cancel it")
        }
        EnqueueError::Busy(None) => conflict(format!("a plan of {sync} is being made"), "ask again when it is done"),
        EnqueueError::ShuttingDown => {
            conflict("the daemon is stopping".to_owned(), "ask again when it has been started again")
        }
    }
}

/// The refusal where too many plans wait.
fn too_many_plans() -> ServiceError {
    let what = format!("{WAITING_MAX} plans wait already for those being made");
    ServiceError::Busy(Error::new(Kind::SourceBusy, what).advise("ask again when some are done"))
}

/// The service of a running daemon.
pub(super) struct DaemonService(pub(super) Arc<Supervisor>);

impl std::ops::Deref for DaemonService {
    type Target = Supervisor;

    fn deref(&self) -> &Supervisor {
        &self.0
    }
}

impl Supervisor {
    fn activity(&self, sync: &str) -> Option<Activity> {
        let status = self.queue().status(sync, self.clock.now())?;
        let waiting =
            status.queued.map(|queued| QueuedRunView { run: queued.run, since: queued.since, options: queued.request });
        Some(Activity {
            state: state_of(status.state),
            running: self.running().get(sync).map(|running| running.tracker.progress()),
            waiting,
            paused_since: status.paused_since,
            failures: status.backoff.failures,
            next_try_at: status.backoff.not_before.filter(|_| status.backoff.failures > 0),
        })
    }

    /// A sync as it stands, the daemon's own knowledge included.
    pub(super) fn sync_view(&self, file: &MappingFile, memory: Memory, fires: usize) -> SyncView {
        let name = &file.mapping.name;
        let timetable = self.queue().timetable(name).cloned();
        let mut view = ask::sync(&self.project(), &file.mapping, memory, timetable, self.clock.now(), fires);
        view.activity = self.activity(name);
        view
    }

    /// Whether there is such a sync, also one whose mapping has mistakes: what is on record of it can be asked.
    pub(super) fn exists(&self, sync: &str) -> bool {
        self.queue().contains(sync) || self.project().broken.iter().any(|broken| broken.name == sync)
    }

    /// Has something made that reads a source or a ledger and tells items: in a place of the plans', while no run of the
    /// sync begins, and ended soon when whoever asked is gone.
    pub(super) async fn make<Item, End, Making>(
        self: &Arc<Self>,
        sync: &str,
        what: &'static str,
        make: impl FnOnce(Reserved, mpsc::Sender<Item>, watch::Receiver<Signal>) -> Making,
    ) -> ServiceResult<ResultStream<Item, End>>
    where
        End: Send + 'static,
        Making: Future<Output = ServiceResult<End>> + Send + 'static,
    {
        // What is refused anyway need not wait; the sync is not kept from its runs before this begins.
        self.queue().check_plan(sync).map_err(|refused| declined(refused, sync))?;
        let place = self.plans.place().await.map_err(|Full| too_many_plans())?;
        self.queue().plan_started(sync).map_err(|refused| declined(refused, sync))?;
        let reserved = Reserved(Arc::clone(self), sync.to_owned());
        // Dropped when whoever asked goes away.
        let (sender, signal) = watch::channel(Signal::Go);
        let stop = StopOnDrop(sender);
        let (found, items) = mpsc::channel(ITEMS_WAITING);
        let making = make(reserved, found, signal);
        let made = self.work.spawn(async move {
            let made = making.await;
            drop(place);
            made
        });
        let end = async move {
            let _stop = stop;
            let failed = |panic| Err(Error::new(Kind::Bug, format!("failed to {what}")).because(panic).into());
            made.await.unwrap_or_else(failed)
        };
        Ok(ResultStream { items, end: Box::pin(end) })
    }

    /// The runs under way that have no record yet.
    fn unrecorded(&self, sync: Option<&str>, recorded: &[RunView]) -> Vec<RunView> {
        let running = self.running();
        let wanted = running.iter().filter(|(name, running)| {
            sync.is_none_or(|sync| sync == *name) && !recorded.iter().any(|run| run.run == running.run)
        });
        wanted.map(|(name, running)| running.tracker.run_view(name)).collect()
    }
}

/// The state of a sync as it is shown.
fn state_of(state: SyncState) -> State {
    match state {
        SyncState::Running => State::Running,
        SyncState::Queued => State::Waiting,
        SyncState::Paused => State::Paused,
        SyncState::BackingOff => State::BackingOff,
        SyncState::Scheduled => State::Scheduled,
        SyncState::Manual => State::Manual,
        SyncState::Disabled => State::Disabled,
    }
}

/// What is told of it until then.
fn unrecorded(sync: &str, tracker: &Tracker) -> RunDetail {
    RunDetail {
        run: tracker.run_view(sync),
        detail: Default::default(),
        progress: Some(tracker.progress()),
        rejected: Vec::new(),
    }
}

/// Frees a sync that was reserved for a plan or the like, however that ends.
pub(super) struct Reserved(pub(super) Arc<Supervisor>, pub(super) String);

impl Drop for Reserved {
    fn drop(&mut self) {
        self.0.queue().plan_ended(&self.1);
        self.0.wake();
    }
}

/// Stops a plan nobody waits for.
struct StopOnDrop(watch::Sender<Signal>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.send_replace(Signal::Stop);
    }
}

/// Items that wait to be taken: a few pages' worth would be held by nobody's wish.
pub(super) const ITEMS_WAITING: usize = 256;

/// Makes a plan. As a task of its own, because it must let go of the source by itself when nobody waits for it any more.
async fn make_plan(
    reserved: Reserved,
    options: RunOptions,
    (show, requests): (usize, bool),
    parts: mpsc::Sender<PlanPart>,
    signal: watch::Receiver<Signal>,
) -> ServiceResult<PlanView> {
    let Reserved(supervisor, sync) = &reserved;
    let project = supervisor.project();
    let file = open::named(&project, sync).map_err(failed)?;
    let ledger = supervisor.ledger.connect(Access::ReadOnly)?;
    let now = supervisor.clock.now();
    let tracker = Tracker::new("", now, "plan");
    let job = Job {
        project: &project,
        file,
        ledger: ledger.as_ref(),
        http_client: &supervisor.http_client,
        clock: supervisor.clock.as_ref(),
        random: &supervisor.random,
        monitor: &tracker,
        options: &options,
        origin: &RunOrigin::of("plan"),
        signal,
    };
    let (mut told, mut hidden) = (0, 0);
    let planned = job
        .plan(&mut |destination, page| {
            let mut found: Vec<PlanPart> =
                page.iter().filter_map(ask::planned).map(|change| PlanPart::Change(Box::new(change))).collect();
            let now_told = found.len().min(show - told);
            hidden += (found.len() - now_told) as u64;
            told += now_told;
            found.truncate(now_told);
            if requests {
                found.extend(requests::of_page(destination, page, now).into_iter().map(PlanPart::Request));
            }
            give(&parts, found)
        })
        .await
        .map_err(failed)?;
    Ok(ask::plan(planned, Vec::new(), hidden))
}

/// Gives items to whoever asked. Whoever takes them slowly holds this thread up, and nothing else.
pub(super) fn give<Item>(
    items: &mpsc::Sender<Item>,
    found: impl IntoIterator<Item = Item>,
) -> crate::error::Result<()> {
    let all_taken = tokio::task::block_in_place(|| found.into_iter().all(|item| items.blocking_send(item).is_ok()));
    let gone = || Error::new(Kind::Interrupted, "nobody waits for the answer any more");
    if all_taken { Ok(()) } else { Err(gone()) }
}

/// Carries an order out to its end, also when whoever gave it is gone.
async fn ordered<T: Send + 'static>(
    order: impl Future<Output = crate::error::Result<T>> + Send + 'static,
) -> crate::error::Result<T> {
    let done = tokio::spawn(order).await;
    done.unwrap_or_else(|panic| Err(Error::new(Kind::Bug, "failed to carry the order out").because(panic)))
}

pub(super) fn failed(failure: Failure) -> ServiceError {
    match failure {
        Failure::Error(error) => ServiceError::Failed(error),
        Failure::Problems(_) => ServiceError::Failed(failure.as_error()),
    }
}

#[async_trait]
impl Service for DaemonService {
    fn about(&self) -> About {
        let (stopping, running) = (self.queue().is_stopped(), self.running().len());
        // After the others: whoever takes a changed config over holds the queue when it takes this.
        let config = self.config.read();
        let daemon = &config.project.settings.daemon;
        About {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started_at,
            config_read_at: config.read_at,
            config_problems: config.problems.clone(),
            ledger_problem: self.ledger_problem(),
            stopping,
            running,
            parallel_runs: daemon.parallel_runs,
            timezone: daemon.zone().name().to_owned(),
            tzdata: crate::time_zone::tables(),
        }
    }

    fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    async fn ready(&self) -> ServiceResult<()> {
        if self.queue().is_stopped() {
            return Err(declined(EnqueueError::ShuttingDown, ""));
        }
        self.ledger_usable().await?;
        self.queries.history().runs(None, None, 1).await?;
        Ok(())
    }

    async fn syncs(&self, fires: usize) -> ServiceResult<Vec<SyncView>> {
        let mut memories = ask::memories(self.queries.history()).await?;
        let mut memory = |file: &MappingFile| memories.remove(&file.mapping.name).unwrap_or_default();
        let project = self.project();
        Ok(project.mappings.iter().map(|file| self.sync_view(file, memory(file), fires)).collect())
    }

    async fn latest_runs(&self, each: u64) -> ServiceResult<BTreeMap<String, Vec<RunView>>> {
        let records = self.queries.history().latest_runs(each).await?;
        let views = |runs: Vec<RunRecord>| runs.into_iter().map(ask::run).collect();
        let mut latest: BTreeMap<String, Vec<RunView>> =
            records.into_iter().map(|(sync, runs)| (sync, views(runs))).collect();
        latest.retain(|sync, _| self.queue().contains(sync));
        let recorded: Vec<RunView> = latest.values().filter_map(|runs| runs.first().cloned()).collect();
        for run in self.unrecorded(None, &recorded) {
            let runs = latest.entry(run.sync.clone()).or_default();
            runs.insert(0, run);
            runs.truncate(usize::try_from(each).unwrap_or(usize::MAX));
        }
        Ok(latest)
    }

    async fn sync(&self, sync: &str) -> ServiceResult<SyncDetail> {
        let project = self.project();
        let file = project.mappings.iter().find(|file| file.mapping.name == sync);
        let file = file.ok_or_else(|| unknown("sync", sync))?;
        let last = self.queries.history().runs_with_details(sync, RUNS_TOLD).await?;
        let detail = last.iter().find_map(|(_, detail)| serde_json::from_str(detail).ok());
        let mut runs: Vec<RunView> = last.into_iter().map(|(record, _)| ask::run(record)).collect();
        runs.splice(0..0, self.unrecorded(Some(sync), &runs));
        Ok(SyncDetail {
            sync: self.sync_view(file, ask::memory(self.queries.history(), sync).await?, SCHEDULED_TIMES),
            mapping: ask::mapping(&file.mapping),
            last: detail,
            runs,
        })
    }

    async fn trigger(&self, sync: &str, options: RunOptions, by: &str) -> ServiceResult<EnqueuedRun> {
        options.check().map_err(ServiceError::Invalid)?;
        // As a task of its own: whoever asked may go away before it is written down and begun.
        let (supervisor, name, by) = (Arc::clone(&self.0), sync.to_owned(), by.to_owned());
        match ordered(async move { supervisor.ask(&name, options, &by).await }).await? {
            Ok((run, joined)) => Ok(EnqueuedRun { sync: sync.to_owned(), run, joined }),
            Err(refused) => Err(declined(refused, sync)),
        }
    }

    async fn plan_stream(
        &self,
        sync: &str,
        options: RunOptions,
        show: usize,
        requests: bool,
    ) -> ServiceResult<PlanStream> {
        options.check().map_err(ServiceError::Invalid)?;
        let making = move |reserved, parts, signal| make_plan(reserved, options, (show, requests), parts, signal);
        self.0.make(sync, "make the plan", making).await
    }

    async fn cancel(&self, run: &str) -> ServiceResult<()> {
        let (supervisor, id) = (Arc::clone(&self.0), run.to_owned());
        if ordered(async move { Ok(supervisor.cancel(&id).await) }).await? {
            return Ok(());
        }
        match self.queries.history().run(run).await? {
            Some(_) => {
                let error = Error::new(Kind::Config, format!("run {run} has ended"));
                Err(ServiceError::Conflict(error.advise("there is nothing left to cancel")))
            }
            None => Err(unknown("run", run)),
        }
    }

    async fn pause(&self, sync: &str, paused: bool) -> ServiceResult<Activity> {
        let (supervisor, name) = (Arc::clone(&self.0), sync.to_owned());
        let done = ordered(async move { supervisor.pause(&name, paused).await }).await?;
        done.map_err(|refused| declined(refused, sync))?;
        self.activity(sync).ok_or_else(|| unknown("sync", sync))
    }

    async fn runs(&self, sync: Option<&str>, before: Option<&str>, count: u64) -> ServiceResult<Vec<RunView>> {
        if let Some(sync) = sync.filter(|sync| !self.exists(sync)) {
            return Err(unknown("sync", sync));
        }
        let records = self.queries.history().runs(sync, before, count).await?;
        let mut runs: Vec<RunView> = records.into_iter().map(ask::run).collect();
        if before.is_none() {
            runs.splice(0..0, self.unrecorded(sync, &runs));
            runs.truncate(usize::try_from(count).unwrap_or(usize::MAX));
        }
        Ok(runs)
    }

    async fn run(&self, run: &str) -> ServiceResult<RunDetail> {
        // It may begin between two of the places it is looked for in: then the second look finds it.
        for _ in 0..2 {
            let under_way = {
                let running = self.running();
                let found = running.iter().find(|(_, running)| running.run == run);
                found.map(|(sync, running)| (sync.clone(), Arc::clone(&running.tracker)))
            };
            if let Some(mut detail) = ask::run_detail(self.queries.history(), run).await? {
                detail.progress = under_way.map(|(_, tracker)| tracker.progress());
                return Ok(detail);
            }
            if let Some((sync, tracker)) = under_way {
                return Ok(unrecorded(&sync, &tracker));
            }
            let waiting = self.queue().queued().into_iter().find(|(_, asked)| asked.run == run);
            if let Some((sync, asked)) = waiting {
                return Ok(unrecorded(&sync, &Tracker::waiting(run, asked.since, &asked.requested_by)));
            }
        }
        Err(unknown("run", run))
    }

    async fn run_changes(
        &self,
        run: &str,
        outcome: Option<&str>,
        from: u64,
        count: u64,
    ) -> ServiceResult<Vec<SaidView>> {
        let outcome = match outcome {
            None => None,
            Some(name) => Some(ChangeOutcome::from_name(name).ok_or_else(|| {
                let error = Error::new(Kind::Config, format!("no outcome is called `{name}`"));
                ServiceError::Invalid(error.advise("there is delivered, rejected, partly_rejected, unknown, adopted"))
            })?),
        };
        let said = self.queries.history().changes(run, outcome, from, count).await?;
        if said.is_empty() {
            // Whether it said nothing, or does not exist.
            Service::run(self, run).await?;
        }
        Ok(said.into_iter().map(ask::said).collect())
    }

    async fn rejected(&self, sync: Option<&str>, after: Option<&str>, count: u64) -> ServiceResult<Vec<RejectedView>> {
        if let Some(sync) = sync {
            if !self.exists(sync) {
                return Err(unknown("sync", sync));
            }
            return Ok(ask::rejected(self.queries.history(), sync, after, count).await?);
        }
        let mut all = ask::rejected_of_all(self.queries.history(), count).await?;
        all.retain(|sync, _| self.queue().contains(sync));
        Ok(all.into_values().flatten().collect())
    }

    async fn group(&self, sync: &str, key: &str, before: Option<u64>, count: u64) -> ServiceResult<GroupView> {
        if !self.exists(sync) {
            return Err(unknown("sync", sync));
        }
        let view = ask::group(self.queries.history(), sync, key, before, count).await?;
        view.ok_or_else(|| {
            let error = Error::new(Kind::Config, format!("nothing is known of this group in {sync}"));
            ServiceError::NotFound(error.advise("a plan of the group shows whether the source has it"))
        })
    }

    async fn backup(&self, file: &Path) -> ServiceResult<BackupSummary> {
        Ok(self.ledger.storage().backup(file).await?)
    }

    async fn export(&self, sync: &str) -> ServiceResult<ResultStream<ExportedView, ()>> {
        upkeep::export(self, sync).await
    }

    async fn reset(&self, sync: &str, group: Option<&str>, forget: bool) -> ServiceResult<u64> {
        upkeep::reset(&self.0, sync, group, forget).await
    }

    async fn adopt(&self, sync: &str) -> ServiceResult<ResultStream<(), u64>> {
        upkeep::adopt(&self.0, sync).await
    }

    async fn verify(&self, sync: &str, repair: bool) -> ServiceResult<ResultStream<Drifted, Verified>> {
        upkeep::verify(&self.0, sync, repair).await
    }

    async fn metrics(&self) -> ServiceResult<String> {
        let syncs = self.syncs(1).await?;
        let (sent, dropped) = self.notifier.alerts.sent_and_dropped();
        Ok(self.notifier.metrics.render(metrics::Scrape {
            syncs: &syncs,
            mistaken: self.project().broken.iter().map(|broken| broken.name.clone()).collect(),
            about: &self.about(),
            alerts: [sent, dropped],
            reloads: [0, 0],
            log_lines_dropped: log::dropped(),
            now: self.clock.now(),
        }))
    }
}
