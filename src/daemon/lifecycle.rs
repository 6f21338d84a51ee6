//! The life of the daemon, from its config to its exit code, in three steps: the config is [read](PreparedDaemon::read), the ledger
//! is [opened](PreparedDaemon::open), and the daemon [runs](OpenedDaemon::run) until it is stopped. How it is reached (HTTP, the socket
//! beside the ledger) is the caller's, who serves the [`Serving`] that it is given.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{mpsc, watch};

use super::observe::log;
use super::peers::Peers;
use super::reload::{self, FileSnapshot};
use super::service::DaemonService;
use super::supervisor::Supervisor;
use super::{observer, project, signals};
use crate::config::files::Files;
use crate::config::{Daemon, Location, Project};
use crate::delivery::Signal;
use crate::error::{Error, Kind, Result};
use crate::io::file_id::FileId;
use crate::io::process;
use crate::io::process_id::ProcessId;
use crate::io::{Clock, SystemClock};
use crate::ledger::shared::{Claim, daemon_lease};
use crate::ledger::{Ledger, OUTDATED_ADVICE, SharedState, file_error};
use crate::service::api::Service;
use crate::service::open::{self, Failure};
use crate::service::remote::{self, RemoteService};

/// How long the last alerts and records may take, once every run has ended or was left behind.
const LAST_RECORDS_MAX: Duration = Duration::from_secs(8);

/// Between two attempts to take a daemon's name.
const REGISTER_PAUSE: Duration = Duration::from_secs(1);

/// A daemon whose config was read.
pub struct PreparedDaemon {
    location: Location,
    listen: Option<String>,
    name: String,
    project: Project,
    files: FileSnapshot,
}

/// A daemon whose ledger is open.
pub struct OpenedDaemon {
    prepared: PreparedDaemon,
    ledger: Arc<dyn Ledger>,
    file: FileId,
    registration: Option<Claim>,
}

/// What the caller serves while the daemon runs.
pub struct Serving {
    /// Every query and command.
    pub service: Arc<dyn Service>,
    /// The daemon's clock.
    pub clock: Arc<dyn Clock>,
    /// Becomes true when the last run has ended: then the serving ends.
    pub closing: watch::Receiver<bool>,
}

impl PreparedDaemon {
    /// Reads the config and starts the log. `listen` takes precedence over the config's. `name` is how other daemons over the
    /// same ledger know this one.
    pub fn read(location: Location, listen: Option<&str>, name: Option<&str>) -> Result<PreparedDaemon, Failure> {
        // Before the files are read: whatever changes from now on is a change.
        let mut files = reload::snapshot(&location.folder, &BTreeSet::new());
        let noted = Files::default();
        let project = project::read(&location, listen, &noted)?;
        files.add(noted.noted());
        log::init(log::LogFormat::from_name(&project.settings.daemon.log).unwrap_or_default(), log::filter()?)?;
        let name = name.map_or_else(|| standard_name(&location), str::to_owned);
        Ok(PreparedDaemon { location, listen: listen.map(str::to_owned), name, project, files })
    }

    /// The settings of the daemon.
    pub fn settings(&self) -> &Daemon {
        &self.project.settings.daemon
    }

    /// Opens the ledger. So long the end of a command that is using it is waited for.
    ///
    /// Errors: [`Kind::LedgerBusy`], another process has it open; it says which one that is.
    pub async fn open(self, lock_timeout: Duration) -> Result<OpenedDaemon> {
        let path = &self.project.settings.state.path;
        let open = async || open::ledger(&self.project).await;
        let waiting = |holder: &remote::RemoteService| tracing::info!("waiting for the end of {}", holder.whom());
        let ledger = remote::open_when_free(&self.project, lock_timeout, open, waiting).await?;
        if let Some(why) = ledger.storage().outdated() {
            tracing::warn!("{why}; {OUTDATED_ADVICE}");
        }
        let file = FileId::of(path).map_err(|error| file_error::read_error(&error))?;
        let registration = match ledger.shared() {
            Some(shared) => Some(self.register(shared).await?),
            None => None,
        };
        Ok(OpenedDaemon { prepared: self, ledger, file, registration })
    }
}

impl PreparedDaemon {
    /// Takes the daemon's name. One that ended without giving it back is waited for.
    async fn register(&self, shared: &dyn SharedState) -> Result<Claim> {
        let clock = SystemClock::start();
        let wait = shared.lease_lasts() + REGISTER_PAUSE * 2;
        loop {
            match shared.claim(&daemon_lease(&self.name), Duration::ZERO, "").await {
                Err(busy) if busy.kind() == Kind::LedgerBusy => {
                    let here =
                        RemoteService::find(&self.project, busy.again()).await.is_ok_and(|found| !found.is_command());
                    if here || clock.elapsed() >= wait {
                        let advice = "use that one (`groupcast status` shows what it does), stop it first, or give this one another \
                            name: `groupcast daemon --name NAME`";
                        let error = match RemoteService::find(&self.project, busy).await {
                            Ok(holder) => remote::in_use(&holder.whom()),
                            Err(busy) => busy,
                        };
                        return Err(error.advise(advice));
                    }
                    tracing::info!("waiting for the name `{}`: {busy}", self.name);
                    clock.sleep(REGISTER_PAUSE).await;
                }
                claimed => return claimed,
            }
        }
    }
}

/// The name of a daemon that is given none: the machine's, and a number for the config folder on it.
fn standard_name(location: &Location) -> String {
    let own = ProcessId::own();
    let folder = std::path::absolute(&location.folder).unwrap_or_else(|_| location.folder.clone());
    let target = location.target.as_ref().map(ToString::to_string).unwrap_or_default();
    let hash = Sha256::digest(format!("{}\n{target}", folder.display()));
    format!("{}-{:02x}{:02x}", own.host(), hash[0], hash[1])
}

impl OpenedDaemon {
    /// The settings of the daemon.
    pub fn settings(&self) -> &Daemon {
        self.prepared.settings()
    }

    /// The path of the ledger.
    pub fn ledger_path(&self) -> &Path {
        &self.prepared.project.settings.state.path
    }

    /// Which file the ledger is.
    pub fn ledger_file(&self) -> FileId {
        self.file
    }

    /// Runs the daemon at this URL until it is stopped, or until `serve` ends. Returns the exit code: 1 when the service
    /// manager is to start it again.
    pub async fn run<Served>(self, url: &str, serve: impl FnOnce(Serving) -> Served) -> Result<u8>
    where
        Served: Future<Output = Result<()>> + Send + 'static,
    {
        let OpenedDaemon { prepared, ledger, registration, .. } = self;
        let PreparedDaemon { location, listen, name, project, files } = prepared;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let (stopper, stop) = watch::channel(Signal::Go);
        let hup = signals::listen(stopper.clone())?;
        let work = Workers::start()?;
        let mut supervisor =
            Supervisor::new(location, project, ledger, Arc::clone(&clock), Peers::new(&name, registration)).await?;
        (supervisor.listen, supervisor.work) = (listen, work.handle());
        supervisor.restore().await?;
        let supervisor = Arc::new(supervisor);
        let (close, closing) = watch::channel(false);
        let serving = serve(Serving { service: Arc::new(DaemonService(Arc::clone(&supervisor))), clock, closing });
        let serving = tokio::spawn(async move {
            let served = serving.await;
            // A daemon that cannot be observed or stopped is of no use.
            stopper.send_if_modified(|signal| {
                let goes_on = *signal == Signal::Go;
                *signal = Signal::Stop.max(*signal);
                goes_on
            });
            served
        });
        let (ended, endings) = mpsc::unbounded_channel();
        let (leave, left) = watch::channel(false);
        let files = tokio::spawn(Arc::clone(&supervisor).follow_files(files, hup, stop.clone()));
        let observing = tokio::spawn(observer::observe(Arc::clone(&supervisor), endings, stop.clone(), left));
        let following = tokio::spawn(Arc::clone(&supervisor).follow_peers());
        let watchdog = tokio::spawn(Arc::clone(&supervisor).keep_alive());
        tracing::info!(url, "ready: {}", supervisor.status_line());
        supervisor.notifier.service_manager.ready(&supervisor.status_line());
        let left_behind = supervisor.run_loop(stop, ended).await;
        files.abort();
        // Requests are served while runs drain, and not any more now.
        close.send_replace(true);
        // The observer ends with the last run. Runs that were left behind may never end.
        leave.send_replace(left_behind > 0);
        // It stores the alerts in the ledger, which a hanging statement may hold.
        let (served, observed) = tokio::join!(serving, tokio::time::timeout(LAST_RECORDS_MAX, observing));
        let served = served.unwrap_or_else(|panic| Err(Error::new(Kind::Bug, "the server ended").because(panic)));
        if observed.is_err() {
            tracing::warn!("the ledger does not respond; the latest state of the alerts is not stored");
        }
        watchdog.abort();
        following.abort();
        // A database that a run was left behind in may not respond any more.
        let given_up = supervisor.ledger.storage().is_invalidated();
        let gave_up = given_up && (left_behind > 0 || supervisor.ledger_gave_up().await);
        tokio::task::block_in_place(|| work.end());
        served?;
        tracing::info!("stopped");
        Ok(u8::from(gave_up || supervisor.peers.is_name_taken()))
    }
}

/// The threads of runs and plans.
struct Workers(Option<Runtime>);

impl Workers {
    fn start() -> Result<Workers> {
        let failed = |error| Error::new(Kind::Bug, "failed to start the threads of runs").because(error);
        let runtime = Builder::new_multi_thread().thread_name("groupcast-work").enable_all().build();
        Ok(Workers(Some(runtime.map_err(failed)?)))
    }

    fn handle(&self) -> Handle {
        self.0.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone())
    }

    /// Ends them. Threads with a hanging statement are left to the end of the process.
    fn end(mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_timeout(process::STATEMENTS_MAX);
        }
    }
}

/// Where they are not ended in good order.
impl Drop for Workers {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
