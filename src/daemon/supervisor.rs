//! The supervisor: the daemon's working parts, shared by its tasks. What they do is in the files beside it, each a part of
//! `impl Supervisor`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use chrono::{DateTime, Utc};
use parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::sync::{Notify, watch};

use super::ledger_watch::LedgerWatch;
use super::observe::{Notifier, alerts};
use super::peers::Peers;
use super::plans::Plans;
use super::project;
use crate::config::{Location, Project};
use crate::delivery::Signal;
use crate::error::Result;
use crate::io::http::HttpClient;
use crate::io::{Clock, Random};
use crate::ledger::{Access, Ledger};
use crate::scheduler::queue::RunQueue;
use crate::service::tracker::Tracker;
use crate::service::views::words::plural;
use crate::sync::{self, RunOptions};

/// A run under way.
pub(super) struct ActiveRun {
    pub(super) run: String,
    pub(super) signal: watch::Sender<Signal>,
    pub(super) tracker: Arc<Tracker>,
    /// It was cancelled, rather than interrupted by the daemon's shutdown.
    pub(super) cancelled: bool,
}

/// The config in use.
pub(super) struct ConfigInUse {
    pub(super) project: Arc<Project>,
    pub(super) read_at: DateTime<Utc>,
    /// The mistakes in the files as they are now, if they are not all in use.
    pub(super) problems: Option<String>,
}

/// The daemon's working parts.
pub(super) struct Supervisor {
    pub(super) location: Location,
    /// The command line's address, which takes precedence over the config's.
    pub(super) listen: Option<String>,
    /// The threads of runs and plans: apart from the daemon's own, so that whatever blocks them, the daemon responds, keeps
    /// its time and can be stopped.
    pub(super) work: tokio::runtime::Handle,
    pub(super) config: RwLock<ConfigInUse>,
    /// For what the daemon stores; each run has a connection of its own.
    pub(super) ledger: Arc<dyn Ledger>,
    /// For queries, so that they never wait for a run's writes.
    pub(super) queries: Arc<dyn Ledger>,
    pub(super) http_client: HttpClient,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Random,
    pub(super) notifier: Notifier,
    pub(super) ledger_watch: LedgerWatch,
    pub(super) started_at: DateTime<Utc>,
    /// The places in which plans are made.
    pub(super) plans: Arc<Plans>,
    /// Other daemons over the same ledger.
    pub(super) peers: Peers,
    queue: Mutex<RunQueue<RunOptions>>,
    running: Mutex<BTreeMap<String, ActiveRun>>,
    /// Something happened that may let a run start, or that ended the last one.
    pub(super) woken: Notify,
    /// How often what the service shows has changed so far.
    pub(super) changes: watch::Sender<u64>,
    /// The config was read: at the start, or anew.
    pub(super) config_read: Notify,
    /// The greatest id of a run so far.
    latest_run: Mutex<String>,
    /// Requests that are stored over a restart are carried out one after the other, so that what is stored is the latest.
    pub(super) orders: tokio::sync::Mutex<()>,
    /// When the run loop last ticked, in milliseconds of the clock: whether it still works.
    pub(super) last_tick: AtomicU64,
}

impl Supervisor {
    /// The parts of a daemon with this project; its syncs are added by [`Supervisor::restore`].
    pub(super) async fn new(
        location: Location,
        project: Project,
        ledger: Arc<dyn Ledger>,
        clock: Arc<dyn Clock>,
        peers: Peers,
    ) -> Result<Supervisor> {
        let now = clock.now();
        let parallel = project.settings.daemon.parallel_runs;
        let latest = ledger.history().runs(None, None, 1).await?.pop();
        // Where there may be other daemons, the one that sends the alerts of all continues from there.
        let stored = if ledger.shared().is_some() { None } else { alerts::stored(ledger.as_ref()).await? };
        let notifier = Notifier::new(project.settings.daemon.alerts.as_ref(), stored.as_deref())?;
        Ok(Supervisor {
            location,
            listen: None,
            work: tokio::runtime::Handle::current(),
            config: RwLock::new(ConfigInUse {
                problems: project::mistakes_of(&project),
                project: Arc::new(project),
                read_at: now,
            }),
            queries: ledger.connect(Access::ReadWrite)?,
            ledger,
            http_client: HttpClient::new()?,
            clock,
            random: Random::from_entropy(),
            notifier,
            ledger_watch: LedgerWatch::default(),
            started_at: now,
            plans: Plans::new(parallel),
            peers,
            queue: Mutex::new(RunQueue::new(parallel)),
            running: Mutex::default(),
            woken: Notify::new(),
            changes: watch::Sender::new(0),
            config_read: Notify::new(),
            orders: tokio::sync::Mutex::default(),
            last_tick: AtomicU64::new(0),
            latest_run: Mutex::new(latest.map(|run| run.run).unwrap_or_default()),
        })
    }

    pub(super) fn project(&self) -> Arc<Project> {
        Arc::clone(&self.config.read().project)
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, RunQueue<RunOptions>> {
        self.queue.lock()
    }

    pub(super) fn running(&self) -> MutexGuard<'_, BTreeMap<String, ActiveRun>> {
        self.running.lock()
    }

    /// Lets the run loop tick, after something has changed.
    pub(super) fn wake(&self) {
        self.changed();
        self.woken.notify_one();
    }

    /// What the service shows has changed.
    pub(super) fn changed(&self) {
        self.changes.send_modify(|version| *version += 1);
    }

    /// An id greater than all before.
    pub(super) fn new_run(&self, now: DateTime<Utc>) -> String {
        let mut latest = self.latest_run.lock();
        let run = sync::run_id(now, Some(latest.as_str()), &self.random);
        latest.clone_from(&run);
        run
    }

    /// Takes note of a run's id: later ones are greater.
    pub(super) fn note_run(&self, run: &str) {
        let mut latest = self.latest_run.lock();
        if run > latest.as_str() {
            run.clone_into(&mut latest);
        }
    }

    /// The mistakes in the files as they are now.
    pub(super) fn config_problems(&self) -> Option<String> {
        self.config.read().problems.clone()
    }

    /// Fails when no run may start because of the ledger's file.
    pub(super) async fn ledger_usable(&self) -> Result<()> {
        self.ledger_watch.check(self.ledger.as_ref(), self.clock.as_ref()).await
    }

    /// Why no run starts, if the ledger lets none start.
    pub(super) fn ledger_problem(&self) -> Option<String> {
        self.ledger_watch.problem()
    }

    /// Whether DuckDB gave up the ledger's database. An error's text may say so without meaning this database: it quotes
    /// what it is about. A database that still responds was not given up.
    pub(super) async fn ledger_gave_up(&self) -> bool {
        self.ledger.storage().is_invalidated() && self.ledger.history().runs(None, None, 1).await.is_err()
    }

    /// The daemon's status in a line, for the log and the service manager.
    pub(super) fn status_line(&self) -> String {
        let (syncs, running) = (self.queue().names().len() as u64, self.running().len());
        let problems = self.config_problems().map_or("", |_| "; the config files have mistakes");
        let ledger = self.ledger_problem().map_or("", |_| "; no run starts: the ledger is unusable");
        let draining = if self.queue().is_draining() { "; draining: no run starts here" } else { "" };
        format!("{}, {running} running{draining}{problems}{ledger}", plural(syncs, "sync"))
    }
}
