//! The daemon: a process that runs for months beside a warehouse, does every sync on time, and can be watched and stopped.
//!
//! | module | question it answers |
//! |---|---|
//! | [`roster`] | what is each sync doing, and which one starts now? (pure) |
//! | `supervisor` | who carries that out, and what happens when a run fails, panics or must stop? |
//! | `reload` | did the config folder change, and is the change sound? |
//! | [`desk`] | what may be asked and ordered of it? |
//! | `office` | how is that answered? |
//! | [`address`] | where does the daemon of a ledger listen? |
//!
//! What it is not: a cluster. One process owns a ledger; a second one is refused. It stores nothing of its own but what
//! stands in the ledger: a kill at any moment leaves what a kill of `groupcast run` leaves.

pub mod address;
pub mod desk;
pub mod http;
mod office;
mod reload;
pub mod roster;
mod supervisor;
mod tracker;

use std::path::Path;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use self::address::{Address, Written};
use self::supervisor::{Ended, Supervisor};
use crate::delivery::Signal;
use crate::env::{Clock, SystemClock};
use crate::error::{Error, Kind, Result};
use crate::open::{self, Failure};

/// Runs the daemon until it is told to stop. Returns the exit code. `listen` stands instead of the config's.
pub async fn serve(folder: &Path, listen: Option<&str>) -> Result<u8, Failure> {
    let mut project = open::project(folder)?;
    if let Some(listen) = listen {
        listen.clone_into(&mut project.settings.daemon.listen);
    }
    let state = project.settings.state.path.clone();
    let daemon = project.settings.daemon.clone();
    let ledger = open::ledger(&project).await?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let (stop, hup) = listen_for_signals()?;
    let supervisor = Arc::new(Supervisor::new(folder.to_path_buf(), project, ledger, Arc::clone(&clock)).await?);
    let address = Address { url: format!("http://{}", daemon.listen), pid: std::process::id() };
    let _written = Written::write(address::path(&state), &address)?;
    let (ended, mut endings) = mpsc::unbounded_channel::<Ended>();
    let files = tokio::spawn(Arc::clone(&supervisor).follow_files(hup, stop.clone(), |_sound| {}));
    let listening = tokio::spawn(async move {
        while let Some(Ended { sync, run, panicked }) = endings.recv().await {
            tracing::info!(sync, run, panicked, "ended");
        }
    });
    supervisor.keep(stop, ended).await;
    files.abort();
    listening.abort();
    Ok(0)
}

/// SIGTERM and SIGINT raise the signal, once to stop and once more to abandon; each SIGHUP asks for the config again.
/// Installed explicitly, so that they work for process 1 of a container, which has no defaults.
fn listen_for_signals() -> Result<(watch::Receiver<Signal>, mpsc::UnboundedReceiver<()>)> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |error| Error::new(Kind::Bug, "failed to listen for signals").because(error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    let (stop, stopping) = watch::channel(Signal::Go);
    let (reload, reloads) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {
                    // Nobody listens any more only while stopping.
                    drop(reload.send(()));
                    continue;
                }
            }
            let level = if *stop.borrow() == Signal::Go { Signal::Stop } else { Signal::Abandon };
            tracing::info!(signal = ?level, "told to stop");
            stop.send_replace(level);
        }
    });
    Ok((stopping, reloads))
}
