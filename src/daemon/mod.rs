//! The daemon: a process that runs for months beside a warehouse, does every sync on time, and can be watched and stopped.
//!
//! | module | question it answers |
//! |---|---|
//! | `supervisor` | who carries that out, and what happens when a run fails, panics or must stop? |
//! | `ledger_watch` | may a run start, or would what it does be lost? |
//! | `reload` | did the config folder change, and is the change sound? |
//! | `service` | how does it answer the queries and commands of [`Service`]? |
//! | `plans` | how many plans are made at a time? |
//! | `orders` | how is an order carried out, and remembered over a restart? |
//! | [`http`] | who may ask over HTTP and over the socket beside the ledger, and what does the API look like? |
//! | [`console`] | the pages for people |
//! | `herald` | who hears of what happened? |
//! | [`alert`], [`metrics`], [`notify`] | what is told, and how: webhooks, Prometheus, the service manager |
//!
//! What it is not: a cluster. One process owns a ledger; a second one is refused. It stores nothing of its own but what
//! stands in the ledger: a kill at any moment leaves what a kill of `groupcast run` leaves.

pub mod alert;
mod herald;
mod ledger_watch;
pub mod metrics;
pub mod notify;
mod orders;
mod plans;
mod reload;
mod restore;
mod service;
mod supervisor;
mod tracker;
mod upkeep;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{mpsc, watch};

use self::service::DaemonService;
use self::supervisor::{Ended, Supervisor};
use crate::config::files::Files;
use crate::delivery::Signal;
use crate::error::{Error, Kind, Result};
use crate::io::file_id::FileId;
use crate::io::process;
use crate::io::{Clock, SystemClock};
use crate::ledger::file_error;
use crate::server::http::Hello;
use crate::server::{console, http};
use crate::service::api::Service;
use crate::service::open::address::{self, Address, Written};
use crate::service::open::socket::Bound;
use crate::service::open::{self, Failure};
use crate::telemetry;

/// How long the last messages and notes may take, once every run has ended or was left behind.
const LAST_WORDS_MAX: Duration = Duration::from_secs(8);

/// Runs the daemon until it is told to stop. Returns the exit code. `listen` stands instead of the config's.
pub async fn serve(folder: &Path, listen: Option<&str>) -> Result<u8, Failure> {
    // Before they are read: what changes from now on is a change.
    let mut files = reload::look(folder, &BTreeSet::new());
    let noted = Files::default();
    let project = reload::read(folder, listen, &noted)?;
    files.read(noted.noted());
    let settings = project.settings.daemon.clone();
    telemetry::init(telemetry::Format::from_name(&settings.log).unwrap_or_default(), telemetry::level()?)?;
    let state = project.settings.state.path.clone();
    // Before anything is opened: an address that may not be served is a mistake of the config.
    let address = http::check_listen(&settings)?;
    // Before the port: a second daemon is told who runs already, not that its port is taken.
    let ledger = open::ledger(&project).await.map_err(|busy| runs_already(busy, &state))?;
    if let Some(why) = ledger.storage().outdated() {
        tracing::warn!("{why}; {}", crate::ledger::OUTDATED_ADVICE);
    }
    let file = FileId::of(&state).map_err(|error| file_error::read_error(&error))?;
    let listener = bind(address).await?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let (stopper, stop) = watch::channel(Signal::Go);
    let hup = listen_for_signals(stopper.clone())?;
    let work = Workers::start()?;
    let mut supervisor = Supervisor::new(folder.to_path_buf(), project, ledger, Arc::clone(&clock)).await?;
    (supervisor.listen, supervisor.work) = (listen.map(str::to_owned), work.handle());
    let supervisor = Arc::new(supervisor);
    let service: Arc<dyn Service> = Arc::new(DaemonService(Arc::clone(&supervisor)));
    let (close, closing) = watch::channel(false);
    let pages = console::router(Arc::clone(&service));
    let served =
        http::ServerSettings::new(settings.token.clone()).with_pages(pages).with_error_page(console::error_page);
    let address = Address { url: reached_at(&listener)?, pid: std::process::id() };
    let url = address.url.clone();
    let beside = listen_beside(&state, &address, file, folder);
    let serving = {
        let clock = Arc::clone(&clock);
        tokio::spawn(async move {
            let commands = commands(beside, Arc::clone(&service), Arc::clone(&clock), closing.clone());
            let served = http::serve(listener, service, &served, clock, closing);
            let (served, ()) = tokio::join!(served, commands);
            // A daemon that nobody can watch or stop is none.
            stopper.send_if_modified(|signal| {
                let goes_on = *signal == Signal::Go;
                *signal = Signal::Stop.max(*signal);
                goes_on
            });
            served
        })
    };
    let _written = Written::write(address::path(&state), address)
        .inspect_err(|error| tracing::warn!("{error}; the daemon does not need it"));
    let (ended, endings) = mpsc::unbounded_channel::<Ended>();
    let (leave, left) = watch::channel(false);
    let files = tokio::spawn(Arc::clone(&supervisor).follow_files(files, hup, stop.clone()));
    let telling = tokio::spawn(Arc::clone(&supervisor).tell(endings, stop.clone(), left));
    let watchdog = tokio::spawn(Arc::clone(&supervisor).keep_alive());
    tracing::info!(url, "ready: {}", supervisor.status_line());
    supervisor.herald.notifier.ready(&supervisor.status_line());
    let left_behind = supervisor.keep(stop, ended).await;
    files.abort();
    // Whoever asks while runs drain is still answered; now nobody is.
    close.send_replace(true);
    // It ends by itself: with the last run, the last that could tell it anything is gone. Runs that were left behind may
    // never end.
    leave.send_replace(left_behind > 0);
    // What is told is noted in the ledger, which a statement that does not react may hold.
    let (served, told) = tokio::join!(serving, tokio::time::timeout(LAST_WORDS_MAX, telling));
    let served = served.unwrap_or_else(|panic| Err(Error::new(Kind::Bug, "the API ended").because(panic)));
    if told.is_err() {
        tracing::warn!("the ledger does not answer; what was told last is not noted");
    }
    watchdog.abort();
    // One that somebody is left behind in may not answer any more.
    let given_up = supervisor.ledger.storage().is_invalidated();
    let gave_up = given_up && (left_behind > 0 || supervisor.ledger_gave_up().await);
    tokio::task::block_in_place(|| work.end());
    served?;
    tracing::info!("stopped");
    // Other than after an order to stop, the service manager is to start it again.
    Ok(u8::from(gave_up))
}

/// The threads in which runs and plans work.
struct Workers(Option<Runtime>);

impl Workers {
    fn start() -> Result<Workers> {
        let failed = |error| Error::new(Kind::Bug, "failed to start the threads that runs work in").because(error);
        let runtime = Builder::new_multi_thread().thread_name("groupcast-work").enable_all().build();
        Ok(Workers(Some(runtime.map_err(failed)?)))
    }

    fn handle(&self) -> Handle {
        self.0.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone())
    }
}

impl Workers {
    /// Ends them. Threads in which a statement does not react are left to the end of the process.
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

/// A ledger that another process has open, when that is a daemon: this one would be the second.
fn runs_already(busy: Error, state: &Path) -> Error {
    match address::of_holder(state, &busy) {
        None => busy,
        Some(daemon) => Error::new(Kind::LedgerBusy, format!("a daemon runs already with this ledger: {daemon}"))
            .advise("use that one (`groupcast status` shows what it does), or stop it first")
            .because(busy.to_string()),
    }
}

/// A socket beside the ledger, and what is said there of this process.
type Beside = (Bound, UnixListener, Hello);

/// Listens beside the ledger for commands. Where that cannot be, the daemon does its work without them.
fn listen_beside(state: &Path, address: &Address, ledger: FileId, folder: &Path) -> Option<Beside> {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
    let hello = Hello {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: address.pid,
        url: address.url.clone(),
        ledger,
        folder,
        folder_id: None,
    };
    let bound = Bound::bind(state).and_then(|(bound, listener)| {
        let failed = |error| Error::new(Kind::Bug, "failed to listen on the socket beside the ledger").because(error);
        Ok((bound, UnixListener::from_std(listener).map_err(failed)?, hello))
    });
    bound
        .inspect_err(|error| {
            let advice = error.advice().unwrap_or_default();
            tracing::warn!(
                "commands cannot reach this daemon, only its API and console can be used: {error}; {advice}"
            );
        })
        .ok()
}

/// Serves commands until the daemon stops.
async fn commands(
    beside: Option<Beside>,
    service: Arc<dyn Service>,
    clock: Arc<dyn Clock>,
    stop: watch::Receiver<bool>,
) {
    let Some((_bound, listener, hello)) = beside else { return };
    let served = http::serve_local(listener, service, hello, http::RequestLimits::default(), clock, stop).await;
    if let Err(error) = served {
        tracing::error!("commands cannot reach this daemon any more: {error}");
    }
}

/// Listens on the config's address.
async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let what = format!("failed to listen on {address}");
        Error::new(Kind::Config, what)
            .advise("end whatever uses this port, or choose another one with `daemon.listen` or `--listen`")
            .because(error)
    })
}

/// The address as this machine reaches it: one that stands for all of its addresses is reached through loopback.
fn reached_at(listener: &TcpListener) -> Result<String> {
    let failed = |error| Error::new(Kind::Bug, "failed to learn the address that is listened on").because(error);
    let mut address = listener.local_addr().map_err(failed)?;
    if address.ip().is_unspecified() {
        let loopback = if address.is_ipv4() { IpAddr::from(Ipv4Addr::LOCALHOST) } else { Ipv6Addr::LOCALHOST.into() };
        address.set_ip(loopback);
    }
    Ok(format!("http://{address}"))
}

/// SIGTERM and SIGINT raise the signal, once to stop and once more to abandon; each SIGHUP asks for the config again.
/// Installed explicitly, so that they work for process 1 of a container, which has no defaults.
fn listen_for_signals(stop: watch::Sender<Signal>) -> Result<mpsc::UnboundedReceiver<()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |error| Error::new(Kind::Bug, "failed to listen for signals").because(error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    let (reload, reloads) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {
                    // Nobody listens any more only while stopping.
                    let _ = reload.send(());
                    continue;
                }
            }
            let level = if *stop.borrow() == Signal::Go { Signal::Stop } else { Signal::Abandon };
            tracing::info!(signal = ?level, "told to stop");
            stop.send_replace(level);
        }
    });
    Ok(reloads)
}
