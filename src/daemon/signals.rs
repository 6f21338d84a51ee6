//! The signals of the process. SIGTERM and SIGINT shut the daemon down, a second one aborts requests in flight; SIGHUP
//! reloads the config. Installed explicitly, so that they work for process 1 of a container, which has no defaults.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::delivery::Signal;
use crate::error::{Error, Kind, Result};

/// Raises `stop` with each SIGTERM and SIGINT. Each SIGHUP arrives at the receiver.
pub(super) fn listen(stop: watch::Sender<Signal>) -> Result<mpsc::UnboundedReceiver<()>> {
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
                    // There is no receiver only while shutting down.
                    let _ = reload.send(());
                    continue;
                }
            }
            let level = if *stop.borrow() == Signal::Go { Signal::Stop } else { Signal::Abandon };
            tracing::info!("{}", if level == Signal::Stop { "shutting down" } else { "aborting" });
            stop.send_replace(level);
        }
    });
    Ok(reloads)
}
