//! The supervisor of runs: one loop asks the [queue](crate::scheduler::queue) which runs start, starts them, and reports
//! their results to it.
//!
//! A run is a task with a connection of its own to the ledger. Its failure, or its panic, ends that task and nothing else:
//! what it left is folded as if the process had died, and the sync backs off. Stopping asks every run to stop (what was
//! answered is recorded), waits for the drain's deadline, then abandons what is in flight; whatever even that does not end
//! is recovered at the next start, like after a kill.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::sync::{Notify, watch};
use tracing::Instrument;

use super::herald::Herald;
use super::ledger_watch::{LOOK_AGAIN, LedgerWatch};
use super::plans::Plans;
use super::reload;
use super::tracker::Tracker;
use crate::config::Project;
use crate::delivery::Signal;
use crate::error::{Error, Kind, Result};
use crate::io::http::HttpClient;
use crate::io::{Clock, Random};
use crate::ledger::{Access, Ledger, RunStatus};
use crate::mapping::diagnostic::listed_all;
use crate::scheduler::queue::{RunQueue, RunResult, RunStart, StartCause};
use crate::service::open::job::Job;
use crate::service::open::{self, Failure};
use crate::service::views::RunView;
use crate::sync::RunOptions;
use crate::sync::report::Report;
use crate::sync::{self, RunOrigin};
use crate::telemetry;

/// Longest between two looks at the roster: the clock may be set, and a moment is late after a minute.
const LOOK_MAX: Duration = Duration::from_secs(30);
/// The loop comes round at least every [`LOOK_MAX`]; after three times that it hangs.
const SILENT_MAX: Duration = Duration::from_secs(90);
/// How long abandoned runs get to write down what they know.
const ABANDONED_MAX: Duration = Duration::from_secs(5);
/// A run under way.
pub(super) struct Running {
    pub(super) run: String,
    pub(super) signal: watch::Sender<Signal>,
    pub(super) tracker: Arc<Tracker>,
    /// Somebody stopped it, rather than the daemon's own end.
    pub(super) cancelled: bool,
}

/// The config in use.
pub(super) struct InUse {
    pub(super) project: Arc<Project>,
    pub(super) read_at: DateTime<Utc>,
    /// What is wrong with the files as they are now, if they could not be taken over.
    pub(super) problems: Option<String>,
}

/// The daemon's working parts, shared by its tasks.
pub(super) struct Supervisor {
    pub(super) folder: PathBuf,
    /// The address that the command line gave instead of the config's.
    pub(super) listen: Option<String>,
    /// Where runs and plans work: a place of their own, so that whatever they do to its threads, the daemon answers,
    /// keeps its time and can be stopped.
    pub(super) work: tokio::runtime::Handle,
    pub(super) config: RwLock<InUse>,
    /// For notes and for what runs leave; each run has a sibling.
    pub(super) ledger: Arc<dyn Ledger>,
    /// For questions, so that they never wait for a run's writing.
    pub(super) asking: Arc<dyn Ledger>,
    pub(super) http_client: HttpClient,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Random,
    pub(super) herald: Herald,
    pub(super) ledger_watch: LedgerWatch,
    pub(super) started_at: DateTime<Utc>,
    /// The places in which plans are made.
    pub(super) plans: Arc<Plans>,
    queue: Mutex<RunQueue<RunOptions>>,
    running: Mutex<BTreeMap<String, Running>>,
    /// Something happened that may let a run start, or end the last one.
    wake: Notify,
    /// The greatest id of a run so far.
    latest_run: Mutex<String>,
    /// Orders that are remembered over a restart are carried out one after the other, so that what is remembered is what
    /// was ordered last.
    pub(super) orders: tokio::sync::Mutex<()>,
    /// When the loop last came round, in milliseconds of the clock: whether it still does its work.
    last_tick: AtomicU64,
}

/// A run that ended, for whoever wants to know.
pub(super) struct Ended {
    pub(super) sync: String,
    pub(super) run: String,
    /// Whether it was a run of the schedule's kind: not of one group, nor of the first so many changes.
    pub(super) whole: bool,
    pub(super) panicked: bool,
    /// What to do about its failure.
    pub(super) advice: Option<String>,
    /// What is known of it without its record.
    pub(super) unrecorded: RunView,
}

impl Supervisor {
    /// Takes up where the last process ended: runs that died are folded, pauses and waiting runs are remembered.
    pub(super) async fn new(
        folder: PathBuf,
        project: Project,
        ledger: Arc<dyn Ledger>,
        clock: Arc<dyn Clock>,
    ) -> Result<Supervisor> {
        reload::log_mistakes(&project);
        let now = clock.now();
        let parallel = project.settings.daemon.parallel_runs;
        let (queue, plans) = (RunQueue::new(parallel), Plans::new(parallel));
        let latest = ledger.history().runs(None, None, 1).await?.pop();
        let kept = Supervisor::kept_alerts(ledger.as_ref()).await?;
        let herald = Herald::new(project.settings.daemon.alerts.as_ref(), kept.as_deref())?;
        let supervisor = Supervisor {
            folder,
            listen: None,
            work: tokio::runtime::Handle::current(),
            config: RwLock::new(InUse {
                problems: reload::problems_of(&project),
                project: Arc::new(project),
                read_at: now,
            }),
            asking: ledger.connect(Access::ReadWrite)?,
            ledger,
            http_client: HttpClient::new()?,
            clock,
            random: Random::from_entropy(),
            herald,
            ledger_watch: LedgerWatch::default(),
            started_at: now,
            plans,
            queue: Mutex::new(queue),
            running: Mutex::default(),
            wake: Notify::new(),
            orders: tokio::sync::Mutex::default(),
            last_tick: AtomicU64::new(0),
            latest_run: Mutex::new(latest.map(|run| run.run).unwrap_or_default()),
        };
        for died in supervisor.ledger.history().unfinished_runs().await? {
            let error = "the process ended during this run; its unanswered groups are said again";
            supervisor.ledger.mark_crashed(&died, now, error, Kind::Interrupted.name()).await?;
            tracing::warn!(sync = died.sync, run = died.run, "recovered a run during which the process had ended");
        }
        let project = supervisor.project();
        let mut candidates = Vec::new();
        for file in &project.mappings {
            let init = supervisor.restored(&project, &file.mapping).await?;
            if init.backoff.crashes > 0 {
                candidates.push(file.mapping.name.as_str());
            }
            supervisor.queue().add(&file.mapping.name, init);
        }
        if candidates.len() > 1 {
            tracing::warn!(
                "the process died during the last runs of {}: one of them may be what ends it, so they run one at a time \
                 until each has shown that it ends",
                listed_all(candidates)
            );
        }
        Ok(supervisor)
    }

    pub(super) fn project(&self) -> Arc<Project> {
        Arc::clone(&self.config.read().project)
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, RunQueue<RunOptions>> {
        self.queue.lock()
    }

    pub(super) fn running(&self) -> MutexGuard<'_, BTreeMap<String, Running>> {
        self.running.lock()
    }

    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Keeps the schedules until it is told to stop, then drains. `ended` hears of every run. Returns how many runs were
    /// left behind.
    pub(super) async fn keep(
        self: &Arc<Self>,
        mut stop: watch::Receiver<Signal>,
        ended: tokio::sync::mpsc::UnboundedSender<Ended>,
    ) -> usize {
        while *stop.borrow_and_update() == Signal::Go {
            if self.ledger_gave_up().await {
                tracing::error!(
                    "the ledger's database cannot be used any more: DuckDB gave it up after a failed write or an error of \
                     its own; what was recorded is safe, and the daemon ends, so that a new start can open it again"
                );
                break;
            }
            self.tick();
            // Before each run: one that starts on a ledger that is gone would be forgotten with all it sent.
            let wait = if self.may_start().await { self.start_due(&ended) } else { LOOK_AGAIN };
            tokio::select! {
                () = self.wake.notified() => {}
                () = self.clock.sleep(wait) => {}
                () = self.mend_ledger_files() => {}
                _ = stop.changed() => {}
            }
        }
        self.drain(stop).await
    }

    /// Whether DuckDB gave the ledger's database up. An error's text may say so without meaning this database: it quotes
    /// what it is about. A database that still answers was not given up.
    pub(super) async fn ledger_gave_up(&self) -> bool {
        self.ledger.storage().is_invalidated() && self.ledger.history().runs(None, None, 1).await.is_err()
    }

    /// An id greater than all before.
    pub(super) fn new_run(&self, now: DateTime<Utc>) -> String {
        let mut latest = self.latest_run.lock();
        let run = sync::run_id(now, Some(latest.as_str()), &self.random);
        latest.clone_from(&run);
        run
    }

    /// Starts what is due, and returns how long there is nothing to look at.
    fn start_due(self: &Arc<Self>, ended: &tokio::sync::mpsc::UnboundedSender<Ended>) -> Duration {
        let now = self.clock.now();
        let mut queue = self.queue();
        let tick = queue.tick(now);
        for (sync, count) in &tick.skipped {
            tracing::warn!(sync, count, "moments passed without a run of their own");
            self.herald.metrics.moments_skipped(sync, *count);
        }
        for start in tick.starts {
            let (run, by, asked) = match &start.cause {
                StartCause::Queued(queued) => (queued.run.clone(), queued.requested_by.clone(), queued.request.clone()),
                StartCause::Scheduled(_) => (self.new_run(now), "schedule".to_owned(), RunOptions::default()),
                StartCause::Retry => (self.new_run(now), "retry".to_owned(), RunOptions::default()),
            };
            queue.started(&start, &run, now);
            self.spawn(&start, run, by, asked, now, ended.clone());
        }
        let until = tick.next.map(|next| next.signed_duration_since(now).to_std().unwrap_or_default());
        until.unwrap_or(LOOK_MAX).min(LOOK_MAX)
    }

    /// Starts one run as a task of its own.
    fn spawn(
        self: &Arc<Self>,
        start: &RunStart<RunOptions>,
        run: String,
        by: String,
        options: RunOptions,
        now: DateTime<Utc>,
        ended: tokio::sync::mpsc::UnboundedSender<Ended>,
    ) {
        let sync = start.sync.clone();
        let (sender, signal) = watch::channel(Signal::Go);
        let tracker = Arc::new(Tracker::new(&run, now, &by));
        let running = Running { run: run.clone(), signal: sender, tracker: Arc::clone(&tracker), cancelled: false };
        self.running().insert(sync.clone(), running);
        let was_asked = matches!(start.cause, StartCause::Queued(_));
        let span = telemetry::run_span(&sync, &run);
        let whole = !options.is_partial();
        let mut unrecorded = super::service::starting(&sync, &tracker);
        // The config of this moment: a later one may know the sync no more.
        let project = self.project();
        // Draining has a deadline of its own; see `drain`.
        let grace = Some(project.settings.daemon.drain);
        let origin = RunOrigin { run: Some(run.clone()), started_by: by, grace };
        let supervisor = Arc::clone(self);
        let work = async move {
            telemetry::run_began(&sync, &run, &origin.started_by);
            supervisor.store_interrupted(&sync, None).await;
            let inner = Arc::clone(&supervisor);
            let name = sync.clone();
            let work =
                async move { inner.execute(&project, &name, (&options, &origin), tracker.as_ref(), signal).await };
            let joined = supervisor.work.spawn(work.in_current_span()).await;
            let panicked = joined.is_err();
            let (ending, error) = match joined {
                Ok(Ok(report)) => (ending_of(&report), report.stopped),
                Ok(Err(failure)) => {
                    let error = failure.as_error();
                    let interrupted = error.kind() == Kind::Interrupted;
                    (if interrupted { RunResult::Cancelled } else { RunResult::Failed(error.kind()) }, Some(error))
                }
                Err(_) => {
                    let error = Error::new(Kind::Bug, "a bug of ours ended the run; the log names the place")
                        .advise("report it with the lines of the log around it");
                    (RunResult::Failed(Kind::Bug), Some(error))
                }
            };
            if let Some(error) = &error {
                // Whatever kept it from writing its own end may be over.
                supervisor.record_crash(&sync, &run, error).await;
                unrecorded.status = RunStatus::Failed;
                unrecorded.error = Some(error.to_string());
                unrecorded.error_kind = Some(error.kind().name().to_owned());
            }
            if was_asked {
                supervisor.forget_queued(&sync, &run).await;
            }
            let cancelled = supervisor.running().remove(&sync).is_some_and(|running| running.cancelled);
            if ending == RunResult::Cancelled && !cancelled {
                // The daemon's own end: the next start goes on at once.
                supervisor.store_interrupted(&sync, Some(&run)).await;
            }
            supervisor.queue().ended(&sync, ending, supervisor.clock.now());
            let advice = error.as_ref().and_then(Error::advice).map(str::to_owned);
            // Whoever listened is gone only when the daemon ends.
            let _ = ended.send(Ended { sync, run, whole, panicked, advice, unrecorded });
            supervisor.wake();
        };
        tokio::spawn(work.instrument(span));
    }

    /// One run, from the config in use.
    async fn execute(
        &self,
        project: &Project,
        sync: &str,
        (options, origin): (&RunOptions, &RunOrigin),
        tracker: &Tracker,
        signal: watch::Receiver<Signal>,
    ) -> Result<Report, Failure> {
        let file = open::named(project, sync)?;
        let ledger = self.ledger.connect(Access::ReadWrite)?;
        let job = Job {
            project,
            file,
            ledger: ledger.as_ref(),
            http_client: &self.http_client,
            clock: self.clock.as_ref(),
            random: &self.random,
            monitor: tracker,
            options,
            origin,
            signal,
        };
        job.run().await
    }

    /// Records a run that ended without recording it: its task panicked, or the ledger could not be written.
    async fn record_crash(&self, sync: &str, run: &str, error: &Error) {
        let (text, kind) = (error.to_string(), error.kind().name());
        let buried = async {
            match self.ledger.history().run(run).await? {
                Some((record, _)) => self.ledger.mark_crashed(&record, self.clock.now(), &text, kind).await,
                None => Ok(()),
            }
        };
        if let Err(error) = buried.await {
            tracing::error!(sync, run, "failed to record it: {error}");
        }
    }

    /// The loop does its work.
    fn tick(&self) {
        let now = u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_tick.store(now, Ordering::Relaxed);
    }

    /// Tells the service manager's watchdog that the loop still does its work, for ever.
    pub(super) async fn keep_alive(self: Arc<Self>) {
        let alive = || {
            let last_tick = Duration::from_millis(self.last_tick.load(Ordering::Relaxed));
            self.clock.elapsed().saturating_sub(last_tick) < SILENT_MAX
        };
        self.herald.notifier.keep_alive(self.clock.as_ref(), alive).await;
    }

    /// What is wrong with the files as they are now.
    pub(super) fn config_problems(&self) -> Option<String> {
        self.config.read().problems.clone()
    }

    /// Stops every run within the deadline, then abandons what is in flight. Returns how many runs even that did not end.
    async fn drain(&self, mut stop: watch::Receiver<Signal>) -> usize {
        self.queue().stop();
        let deadline = self.project().settings.daemon.drain;
        tracing::info!(runs = self.running().len(), "stopping within {}", crate::format::duration(deadline));
        self.herald.notifier.stopping("stopping", deadline + ABANDONED_MAX);
        let began = self.clock.elapsed();
        self.signal_all(Signal::Stop);
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
                tracing::warn!(runs = left, "abandoning what is in flight; the next start says it again");
                self.signal_all(Signal::Abandon);
                abandoned = Some(elapsed);
            }
            let until = abandoned.map_or(deadline, |since| since + ABANDONED_MAX);
            if abandoned.is_some() && elapsed >= until {
                tracing::warn!(runs = left, "leaving runs behind; the next start recovers them");
                return left;
            }
            tokio::select! {
                () = self.wake.notified() => {}
                () = self.clock.sleep(until.saturating_sub(elapsed).min(LOOK_MAX)) => {}
                changed = stop.changed() => {
                    if changed.is_err() {
                        // Nobody is left to hurry us.
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

/// How a run ended that gave a report.
fn ending_of(report: &Report) -> RunResult {
    match (report.status, &report.stopped) {
        (RunStatus::Delivered | RunStatus::SomeRejected, _) => RunResult::Succeeded,
        (_, Some(stopped)) if stopped.kind() == Kind::Interrupted => RunResult::Cancelled,
        (_, stopped) => RunResult::Failed(stopped.as_ref().map_or(Kind::Destination, Error::kind)),
    }
}

#[cfg(test)]
mod tests;
