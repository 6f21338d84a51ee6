//! The service over a ledger, in this process: no daemon is involved.
//!
//! While a command has the ledger open for writing, other processes cannot open it at all. So such a command serves this
//! service over the socket beside the ledger, for queries alone ([`LocalService::for_others`]).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::api::{About, EnqueuedRun, PlanStream, ResultStream, RunMonitor, Service, ServiceError, ServiceResult};
use super::commands;
use super::job::Context;
use super::open;
use super::peers::{self, RunLease};
use super::queries::{Queries, sync_errors, unknown_run};
use super::remote::in_use;
use super::stop_signal::StopSignal;
use super::tracker::Tracker;
use super::views::{
    ActivityState, ChangeView, DaemonView, DestinationView, ExportedGroup, GroupRequestView, GroupView, OrphanedSync,
    PlanRequest, RejectedView, RunDetail, RunView, SyncActivity, SyncDetail, SyncView,
};
use crate::config::Project;
use crate::delivery::Signal;
use crate::error::{Error, Kind, Result};
use crate::io::http::HttpClient;
use crate::io::{Clock, Random, SystemClock};
use crate::ledger::kv::{PAUSED, note_of};
use crate::ledger::shared::{Claim, LeaseRecord, sync_lease};
use crate::ledger::{Access, BackupSummary, Ledger, RunStatus};
use crate::sync::report::Report;
use crate::sync::verify::{Drifted, Verified};
use crate::sync::{self, BY_COMMAND_LINE, Event, Monitor, RunOptions, RunOrigin};

/// Between two looks whether another process has ended with a sync.
const BUSY_PAUSE: Duration = Duration::from_millis(200);

/// What is on record of a run whose process ended before it did.
const CRASHED: &str = "the process ended during this run; unconfirmed groups will be resent";

/// Answers from a ledger that this process has open, and writes to it.
pub struct LocalService {
    shared: Arc<Shared>,
    /// The command that has the ledger open, where others use it meanwhile.
    holder: Option<String>,
    /// How long a sync is waited for that another process runs.
    patience: Duration,
}

struct Shared {
    project: Arc<Project>,
    ledger: Arc<dyn Ledger>,
    clock: SystemClock,
    random: Random,
    started_at: DateTime<Utc>,
    http_client: OnceLock<HttpClient>,
    /// The runs of this process, by sync.
    running: Mutex<BTreeMap<String, Arc<Tracker>>>,
}

impl Shared {
    /// Made when it is first needed: queries need none.
    fn http_client(&self) -> Result<&HttpClient> {
        match self.http_client.get() {
            Some(client) => Ok(client),
            None => {
                let client = HttpClient::new()?;
                Ok(self.http_client.get_or_init(|| client))
            }
        }
    }

    fn context<'a>(&'a self, ledger: &'a dyn Ledger) -> Result<Context<'a>> {
        let http_client = self.http_client()?;
        Ok(Context { project: &self.project, ledger, http_client, clock: &self.clock, random: &self.random })
    }

    async fn new_run(&self) -> Result<String> {
        let latest = self.ledger.history().runs(None, None, 1).await?.pop();
        Ok(sync::run_id(self.clock.now(), latest.as_ref().map(|run| run.run.as_str()), &self.random))
    }
}

impl LocalService {
    /// Over a ledger that this process has open.
    pub fn new(project: Arc<Project>, ledger: Arc<dyn Ledger>) -> LocalService {
        let clock = SystemClock::start();
        let shared = Shared {
            project,
            ledger,
            started_at: clock.now(),
            clock,
            random: Random::from_entropy(),
            http_client: OnceLock::new(),
            running: Mutex::default(),
        };
        LocalService { shared: Arc::new(shared), holder: None, patience: Duration::ZERO }
    }

    /// The same for other processes: queries and plans only, because the command `holder` is using the ledger.
    pub fn for_others(&self, holder: String) -> LocalService {
        LocalService { shared: Arc::clone(&self.shared), holder: Some(holder), patience: Duration::ZERO }
    }

    /// The same that waits for so long for a sync that another process runs.
    pub fn patient(self, patience: Duration) -> LocalService {
        LocalService { patience, ..self }
    }

    /// The lease of a sync for a run of this id, where other processes may run it.
    async fn claim(&self, sync: &str, run: &str) -> ServiceResult<Option<Claim>> {
        let Some(shared) = self.shared.ledger.shared() else { return Ok(None) };
        let project = &self.shared.project;
        let file = open::named(project, sync)?;
        let attempt = open::attempt_longest(project, file)?;
        let detail = RunLease::text(Some(run), BY_COMMAND_LINE, None);
        let began = self.shared.clock.elapsed();
        loop {
            match shared.claim(&sync_lease(sync), attempt, &detail).await {
                Err(busy)
                    if busy.kind() == Kind::LedgerBusy
                        && self.shared.clock.elapsed().saturating_sub(began) < self.patience =>
                {
                    self.shared.clock.sleep(BUSY_PAUSE).await;
                }
                claimed => return Ok(Some(claimed?)),
            }
        }
    }

    /// The leases that processes have now, where several use the ledger.
    async fn leases(&self) -> ServiceResult<Vec<LeaseRecord>> {
        match self.shared.ledger.shared() {
            Some(shared) => Ok(shared.leases().await?),
            None => Ok(Vec::new()),
        }
    }

    /// The run of a sync that this process has under way, for others, or that another one has.
    async fn activity(&self, leases: &[LeaseRecord], sync: &str) -> Result<Option<SyncActivity>> {
        let own = self.shared.running.lock().get(sync).map(|tracker| tracker.progress());
        let elsewhere = peers::lease_of(leases, sync).filter(|lease| !lease.is_own && own.is_none());
        if own.is_none() && elsewhere.is_none() {
            return Ok(None);
        }
        let paused = self.shared.ledger.kv().get(&note_of(PAUSED, sync)).await?;
        Ok(Some(SyncActivity {
            state: ActivityState::Running,
            running: own.or_else(|| RunLease::of(elsewhere?).progress),
            queued: None,
            paused_since: paused.and_then(|since| since.parse().ok()),
            failures: 0,
            next_attempt_at: None,
            holder: elsewhere.map(peers::holder),
        }))
    }

    fn queries(&self) -> Queries<'_> {
        let Shared { project, ledger, clock, .. } = self.shared.as_ref();
        Queries { project, history: ledger.history(), kv: ledger.kv(), now: clock.now() }
    }

    /// Fails where another command is using the ledger.
    fn writable(&self) -> ServiceResult<()> {
        let Some(holder) = &self.holder else { return Ok(()) };
        Err(ServiceError::Conflict(in_use(holder)))
    }

    /// Fails because only a daemon does this.
    fn needs_daemon<T>(&self) -> ServiceResult<T> {
        self.writable()?;
        let error = Error::new(Kind::Config, "no daemon is running with this ledger");
        Err(ServiceError::Conflict(error.advise("start one: `groupcast daemon`")))
    }

    /// A run that is on record as running, and that no process runs, has crashed. Where several processes use the ledger, one
    /// of those with these leases may.
    fn corrected(&self, leases: &[LeaseRecord], mut run: RunView) -> RunView {
        let runs_here = || self.shared.running.lock().values().any(|tracker| tracker.run() == run.run);
        if run.status != RunStatus::Running || runs_here() {
            return run;
        }
        run.holder = peers::holder_of(leases, &run.sync);
        if run.holder.is_none() {
            run.status = RunStatus::Crashed;
            run.error.get_or_insert_with(|| CRASHED.to_owned());
        }
        run
    }
}

/// Reports to a tracker and to a person.
struct Both<'a>(&'a Tracker, &'a dyn RunMonitor);

impl Monitor for Both<'_> {
    fn note(&self, event: Event<'_>) {
        self.0.observe(&event);
        self.1.note(event);
    }
}

#[async_trait]
impl Service for LocalService {
    async fn about(&self) -> ServiceResult<About> {
        let Shared { project, started_at, .. } = self.shared.as_ref();
        let daemon = &project.settings.daemon;
        Ok(About {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            target: project.settings.target.as_ref().map(ToString::to_string),
            started_at: *started_at,
            config_read_at: *started_at,
            config_problems: None,
            ledger_problem: None,
            sync_errors: sync_errors(project),
            stopping: false,
            running: self.shared.running.lock().len(),
            parallel_runs: daemon.parallel_runs,
            timezone: daemon.zone().name().to_owned(),
            tzdata: crate::time_zone::tables(),
            name: None,
            draining: false,
        })
    }

    async fn daemons(&self) -> ServiceResult<Vec<DaemonView>> {
        Ok(peers::daemons(&self.leases().await?))
    }

    async fn drain(&self, name: Option<&str>) -> ServiceResult<DaemonView> {
        match (self.shared.ledger.shared(), name) {
            (Some(shared), Some(name)) => peers::request_drain(shared, name).await,
            (Some(_), None) => {
                let error = Error::new(Kind::Config, "no daemon is running on this machine with this ledger");
                Err(ServiceError::Conflict(
                    error.advise("name one: `groupcast daemon drain NAME`; `groupcast status` lists them"),
                ))
            }
            (None, Some(name)) => Err(peers::unknown_daemon(name)),
            (None, None) => self.needs_daemon(),
        }
    }

    fn now(&self) -> DateTime<Utc> {
        self.shared.clock.now()
    }

    async fn ready(&self) -> ServiceResult<()> {
        self.needs_daemon()
    }

    async fn syncs(&self, times: usize) -> ServiceResult<Vec<SyncView>> {
        let (mut syncs, leases) = (self.queries().syncs(times).await?, self.leases().await?);
        for sync in &mut syncs {
            sync.activity = self.activity(&leases, &sync.sync).await?;
            sync.last_run = sync.last_run.take().map(|run| self.corrected(&leases, run));
        }
        Ok(syncs)
    }

    async fn sync(&self, sync: &str) -> ServiceResult<SyncDetail> {
        let (mut detail, leases) = (self.queries().sync(sync).await?, self.leases().await?);
        detail.sync.activity = self.activity(&leases, sync).await?;
        detail.sync.last_run = detail.sync.last_run.map(|run| self.corrected(&leases, run));
        detail.runs = detail.runs.into_iter().map(|run| self.corrected(&leases, run)).collect();
        Ok(detail)
    }

    async fn destination(&self, destination: &str) -> ServiceResult<DestinationView> {
        self.queries().destination(destination).await
    }

    async fn trigger(&self, sync: &str, _options: RunOptions, _by: &str) -> ServiceResult<EnqueuedRun> {
        self.queries().exists(sync)?;
        self.needs_daemon()
    }

    async fn execute(
        &self,
        sync: &str,
        options: &RunOptions,
        monitor: &dyn RunMonitor,
        signal: watch::Receiver<Signal>,
    ) -> ServiceResult<Report> {
        self.queries().file(sync)?;
        self.writable()?;
        let ledger = self.shared.ledger.connect(Access::ReadWrite)?;
        let run = self.shared.new_run().await?;
        let claim = self.claim(sync, &run).await?;
        monitor.assigned(&run);
        let tracker = Tracker::new(&run, self.now(), BY_COMMAND_LINE).timed(Arc::new(SystemClock::start()));
        let tracker = Arc::new(tracker);
        if let Some(claim) = &claim {
            claim.report_by(RunLease::report(Arc::clone(&tracker), None));
        }
        self.shared.running.lock().insert(sync.to_owned(), Arc::clone(&tracker));
        let origin = RunOrigin { run: Some(run), ..RunOrigin::of(BY_COMMAND_LINE) };
        let both = Both(&tracker, monitor);
        let stop = StopSignal::follow(signal, claim.as_ref(), &tracker);
        let done = match self.shared.context(ledger.as_ref()) {
            Ok(context) => match context.job(sync, (options, &origin), &both, stop.signal.clone()) {
                Ok(job) => stop.during(job.run(), monitor).await,
                Err(failure) => Err(failure),
            },
            Err(error) => Err(error.into()),
        };
        self.shared.running.lock().remove(sync);
        Ok(done?)
    }

    async fn plan_stream(&self, sync: &str, request: PlanRequest) -> ServiceResult<PlanStream> {
        self.queries().file(sync)?;
        request.options.check().map_err(ServiceError::Invalid)?;
        if let Some(tracker) = self.shared.running.lock().get(sync) {
            let error = Error::new(Kind::LedgerBusy, format!("run {} of {sync} is in progress", tracker.run()));
            return Err(ServiceError::Conflict(error.advise("try again when it has ended")));
        }
        let (shared, sync) = (Arc::clone(&self.shared), sync.to_owned());
        Ok(ResultStream::spawn(&Handle::current(), "make the plan", |parts, signal| async move {
            let ledger = shared.ledger.connect(Access::ReadOnly)?;
            let origin = RunOrigin::of("plan");
            let tracker = Tracker::new("", shared.clock.now(), "plan");
            let job = shared.context(ledger.as_ref())?.job(&sync, (&request.options, &origin), &tracker, signal)?;
            commands::plan(&job, &request, &tracker, &parts).await
        }))
    }

    async fn cancel(&self, run: &str) -> ServiceResult<()> {
        if let Some(shared) = self.shared.ledger.shared()
            && peers::request_cancel(shared, run).await?
        {
            return Ok(());
        }
        match self.queries().find_run(run).await? {
            None => Err(unknown_run(run)),
            Some(_) => self.needs_daemon(),
        }
    }

    async fn pause(&self, sync: &str, _paused: bool) -> ServiceResult<SyncActivity> {
        self.queries().exists(sync)?;
        self.needs_daemon()
    }

    async fn runs(&self, sync: Option<&str>, before: Option<&str>, count: u64) -> ServiceResult<Vec<RunView>> {
        let (runs, leases) = (self.queries().runs(sync, before, count).await?, self.leases().await?);
        Ok(runs.into_iter().map(|run| self.corrected(&leases, run)).collect())
    }

    async fn latest_runs(&self, each: u64) -> ServiceResult<BTreeMap<String, Vec<RunView>>> {
        let (latest, leases) = (self.queries().latest_runs(each).await?, self.leases().await?);
        let corrected = |runs: Vec<RunView>| runs.into_iter().map(|run| self.corrected(&leases, run)).collect();
        Ok(latest.into_iter().map(|(sync, runs)| (sync, corrected(runs))).collect())
    }

    async fn run(&self, run: &str) -> ServiceResult<RunDetail> {
        let (mut detail, leases) = (self.queries().run(run).await?, self.leases().await?);
        let running = self.shared.running.lock();
        if let Some(tracker) = running.values().find(|tracker| tracker.run() == run) {
            detail.progress = Some(tracker.progress());
            tracker.log_into(&mut detail);
        }
        drop(running);
        detail.run = self.corrected(&leases, detail.run);
        if detail.run.holder.is_some() {
            let lease = peers::lease_of(&leases, &detail.run.sync);
            detail.progress = detail.progress.or_else(|| peers::progress_of(lease?, run));
        }
        Ok(detail)
    }

    async fn run_changes(
        &self,
        run: &str,
        outcome: Option<&str>,
        from: u64,
        count: u64,
    ) -> ServiceResult<Vec<ChangeView>> {
        let changes = self.queries().run_changes(run, outcome, from, count).await?;
        if changes.is_empty() {
            // Whether it sent nothing, or does not exist.
            self.queries().run(run).await?;
        }
        Ok(changes)
    }

    async fn rejected(&self, sync: Option<&str>, after: Option<&str>, count: u64) -> ServiceResult<Vec<RejectedView>> {
        self.queries().rejected(sync, after, count).await
    }

    async fn group(&self, sync: &str, key: &str, before: Option<u64>, count: u64) -> ServiceResult<GroupView> {
        self.queries().group(sync, key, before, count).await
    }

    async fn requests(&self, sync: &str, key: &str) -> ServiceResult<Vec<GroupRequestView>> {
        self.queries().requests(sync, key).await
    }

    async fn backup(&self, file: &Path) -> ServiceResult<BackupSummary> {
        Ok(self.shared.ledger.storage().backup(file).await?)
    }

    async fn export(&self, sync: &str) -> ServiceResult<ResultStream<ExportedGroup, ()>> {
        self.queries().exists(sync)?;
        let (shared, sync) = (Arc::clone(&self.shared), sync.to_owned());
        Ok(ResultStream::spawn(&Handle::current(), "export the ledger", |items, _| async move {
            commands::export(shared.ledger.connect(Access::ReadOnly)?.history(), &sync, &items).await
        }))
    }

    async fn reset(&self, sync: &str, group: Option<&str>, forget: bool) -> ServiceResult<u64> {
        self.queries().exists(sync)?;
        self.writable()?;
        commands::reset(self.shared.ledger.as_ref(), &self.shared.clock, sync, group, forget).await
    }

    async fn orphaned_syncs(&self) -> ServiceResult<Vec<OrphanedSync>> {
        self.queries().orphaned_syncs().await
    }

    async fn rename(&self, from: &str, to: &str) -> ServiceResult<u64> {
        self.queries().can_rename(from, to).await?;
        self.writable()?;
        Ok(commands::rename(self.shared.ledger.as_ref(), from, to).await?)
    }

    async fn drop_sync(&self, sync: &str) -> ServiceResult<u64> {
        self.queries().is_orphaned(sync).await?;
        self.writable()?;
        Ok(commands::drop_sync(self.shared.ledger.as_ref(), sync).await?)
    }

    async fn adopt(&self, sync: &str) -> ServiceResult<ResultStream<(), u64>> {
        self.queries().file(sync)?;
        self.writable()?;
        let (shared, sync) = (Arc::clone(&self.shared), sync.to_owned());
        Ok(ResultStream::spawn(&Handle::current(), "adopt the groups", |_, signal| async move {
            let ledger = shared.ledger.connect(Access::ReadWrite)?;
            let (options, origin) = (RunOptions::default(), RunOrigin::of("adoption"));
            let tracker = Tracker::new("", shared.clock.now(), &origin.started_by);
            let job = shared.context(ledger.as_ref())?.job(&sync, (&options, &origin), &tracker, signal)?;
            Ok(job.adopt().await?)
        }))
    }

    async fn verify(&self, sync: &str, repair: bool) -> ServiceResult<ResultStream<Drifted, Verified>> {
        self.queries().file(sync)?;
        if repair {
            self.writable()?;
        }
        let (shared, sync) = (Arc::clone(&self.shared), sync.to_owned());
        Ok(ResultStream::spawn(&Handle::current(), "verify the groups", move |items, signal| async move {
            let ledger = if repair {
                shared.ledger.connect(Access::ReadWrite)?
            } else {
                shared.ledger.connect(Access::ReadOnly)?
            };
            let (options, origin) = (RunOptions::default(), RunOrigin::of("verify"));
            let tracker = Tracker::new("", shared.clock.now(), &origin.started_by);
            let job = shared.context(ledger.as_ref())?.job(&sync, (&options, &origin), &tracker, signal)?;
            commands::verify(&job, repair, &items).await
        }))
    }

    async fn metrics(&self) -> ServiceResult<String> {
        self.needs_daemon()
    }
}
