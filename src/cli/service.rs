//! Opens the service that a command uses: over the ledger, or, while another process has the ledger open, the service of that
//! process. Commands do not care which.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::watch;

use super::args::Cli;
use super::screen;
use crate::config::Project;
use crate::error::{Error, Kind, Result};
use crate::io::file_id::FileId;
use crate::io::{Clock, SystemClock};
use crate::ledger::Ledger;
use crate::server::http;
use crate::service::api::Service;
use crate::service::local::LocalService;
use crate::service::open::{self, socket::Bound};
use crate::service::remote::RemoteService;
use crate::service::wire::{Hello, HolderCommand};

/// How long a ledger that another command has open is waited for, where that command serves no queries: most take less.
const WAIT_MAX: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);

/// What a command does with the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// It reads.
    Read,
    /// It writes; the text is the command as it is typed, for those who find the ledger in use.
    Write(&'static str),
}

/// An open service.
pub(super) struct Opened {
    /// The service.
    pub(super) service: Arc<dyn Service>,
    /// The process behind it, for people; none when it is this one.
    pub(super) source: Option<String>,
    /// What others are served meanwhile.
    _serving: Option<Serving>,
}

/// Serves queries of other commands while this one has the ledger open.
struct Serving {
    _bound: Bound,
    _stop: watch::Sender<bool>,
}

/// Opens the service of a project.
pub(super) async fn open(cli: &Cli, project: &Arc<Project>, access: Access) -> Result<Opened> {
    let clock = SystemClock::start();
    let mut announced = false;
    if let Some(remote) = beside(project).await
        && (access == Access::Read || !remote.is_command())
    {
        let source = Some(remote.whom());
        return Ok(Opened { service: Arc::new(remote), source, _serving: None });
    }
    loop {
        let ledger = match access {
            Access::Read => open::ledger_to_read(project).await,
            Access::Write(_) => open::ledger(project).await,
        };
        let busy = match ledger {
            Ok(ledger) => return Ok(local(project, ledger, access, WAIT_MAX.max(cli.lock_timeout))),
            Err(error) if error.kind() == Kind::LedgerBusy => error,
            Err(error) => return Err(error),
        };
        match RemoteService::find(project, busy).await {
            // The command that holds it serves queries; what writes has to wait for its end.
            Ok(remote) if access != Access::Read && remote.is_command() && clock.elapsed() < cli.lock_timeout => {
                if !announced {
                    announce_wait(cli, &remote);
                    announced = true;
                }
                clock.sleep(PAUSE).await;
            }
            Ok(remote) => {
                let source = Some(remote.whom());
                return Ok(Opened { service: Arc::new(remote), source, _serving: None });
            }
            // It cannot be reached, or it has ended meanwhile.
            Err(error) if error.kind() == Kind::LedgerBusy && clock.elapsed() < WAIT_MAX.max(cli.lock_timeout) => {
                clock.sleep(PAUSE).await
            }
            Err(error) => return Err(error),
        }
    }
}

/// Says once whose end is waited for.
pub(super) fn announce_wait(cli: &Cli, holder: &RemoteService) {
    if !cli.json {
        // A closed standard error cannot be reported anywhere.
        drop(writeln!(screen::stderr(), "waiting for {}, which is using the ledger", holder.whom()));
    }
}

/// The process on this machine that has a ledger in a database open, which can be read beside it, but knows less than the
/// process does.
async fn beside(project: &Project) -> Option<RemoteService> {
    project.settings.state.database.as_ref()?;
    let busy = Error::new(Kind::LedgerBusy, "another process is using the ledger");
    RemoteService::find(project, busy).await.ok()
}

fn local(project: &Arc<Project>, ledger: Arc<dyn Ledger>, access: Access, patience: Duration) -> Opened {
    super::warn_of_older(ledger.as_ref());
    let file = FileId::of(&project.settings.state.path).ok();
    let service = LocalService::new(Arc::clone(project), ledger).patient(patience);
    let serving = match (access, file) {
        // Without it others only learn that the ledger is in use.
        (Access::Write(command), Some(ledger)) => serve(project, &service, command, ledger).ok(),
        _ => None,
    };
    Opened { service: Arc::new(service), source: None, _serving: serving }
}

fn serve(project: &Project, service: &LocalService, command: &str, ledger: FileId) -> Result<Serving> {
    let (bound, listener) = Bound::bind(&project.settings.state.path)?;
    let folder = &project.settings.folder;
    let hello = Hello {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        url: String::new(),
        ledger,
        folder: std::path::absolute(folder).unwrap_or_else(|_| folder.clone()),
        target: project.settings.target.as_ref().map(ToString::to_string),
        folder_id: None,
        command: Some(HolderCommand { name: command.to_owned(), since: SystemClock::start().now() }),
    };
    let failed = |error| Error::new(Kind::Bug, "failed to listen on the socket beside the ledger").because(error);
    let listener = UnixListener::from_std(listener).map_err(failed)?;
    let service = Arc::new(service.for_others(hello.whom()));
    let (stop, stopped) = watch::channel(false);
    let clock = Arc::new(SystemClock::start());
    tokio::spawn(async move {
        // Only other commands' queries depend on it.
        drop(http::serve_local(listener, service, hello, http::HttpLimits::default(), clock, stopped).await);
    });
    Ok(Serving { _bound: bound, _stop: stop })
}
