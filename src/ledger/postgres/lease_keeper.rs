//! The keeper of a process's leases: a thread that extends them, and gives back those that are not needed any more. It has a
//! connection of its own: a long statement of a run must not hold it up.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use super::error::Failure;
use super::held_lease::{LeaseState, Release};
use crate::error::{Error, Kind, Result};
use crate::io::Clock;
use crate::source::postgres::Link;

/// Longest that giving leases back may take at the end of a process. Without it they expire by themselves.
const RELEASE_MAX: Duration = Duration::from_secs(3);

/// The keeper.
pub(super) enum Keeper {
    /// Nothing was claimed so far.
    Idle(UnboundedReceiver<Release>),
    /// The thread.
    Running { stop: oneshot::Sender<()>, stopped: std::sync::mpsc::Receiver<()> },
}

impl Keeper {
    /// It, once its thread runs.
    pub(super) fn started(self, state: &Arc<LeaseState>) -> Result<Keeper> {
        let Keeper::Idle(mut releases) = self else { return Ok(self) };
        let failed = |error: std::io::Error| {
            Error::new(Kind::Ledger, "failed to start the thread that extends leases in the ledger").because(error)
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (stop, mut stopping) = oneshot::channel();
        let (ended, stopped) = std::sync::mpsc::channel();
        let state = Arc::clone(state);
        let keep = move || {
            runtime.block_on(async {
                let mut link = None;
                let mut left = keep_until(&state, &mut link, &mut releases, &mut stopping).await;
                while let Ok(release) = releases.try_recv() {
                    left.push(release);
                }
                // Best effort: they expire by themselves.
                drop(tokio::time::timeout(RELEASE_MAX, give_back(&state, &mut link, &left)).await);
            });
            drop(ended);
        };
        std::thread::Builder::new().name("groupcast-lease".to_owned()).spawn(keep).map_err(failed)?;
        Ok(Keeper::Running { stop, stopped })
    }

    /// Ends it, once what was given back is.
    pub(super) fn stop(self) {
        if let Keeper::Running { stop, stopped } = self {
            let _ = stop.send(());
            let _ = stopped.recv_timeout(RELEASE_MAX);
        }
    }
}

/// Extends leases until `stopping` resolves. Returns those that were about to be given back.
async fn keep_until(
    state: &LeaseState,
    link: &mut Option<Link>,
    releases: &mut UnboundedReceiver<Release>,
    stopping: &mut oneshot::Receiver<()>,
) -> Vec<Release> {
    // Three extensions may fail before a lease expires.
    let (every, again) = (state.lasts * 4 / 15, state.lasts / 30);
    // However often something is given back meanwhile.
    let mut due = state.clock.elapsed() + every;
    let mut again_released = Vec::new();
    loop {
        let pause = due.saturating_sub(state.clock.elapsed());
        let mut released = std::mem::take(&mut again_released);
        tokio::select! {
            _ = &mut *stopping => return released,
            Some(release) = releases.recv() => {
                released.push(release);
                while let Ok(release) = releases.try_recv() {
                    released.push(release);
                }
            }
            _ = tokio::time::timeout(pause, std::future::pending::<()>()) => {}
        }
        // What cannot be given back must not hold up what is extended.
        let is_due = state.clock.elapsed() >= due;
        let done = async {
            if is_due {
                extend(state, link).await?;
            }
            give_back(state, link, &released).await
        };
        // A connection that was cut off does not respond.
        let done = tokio::select! {
            _ = &mut *stopping => None,
            done = tokio::time::timeout(state.lasts / 4, done) => Some(done),
        };
        let Some(done) = done else {
            // What the connection was used for may not be done.
            *link = None;
            return released;
        };
        match done {
            Ok(Ok(())) if is_due => due = state.clock.elapsed() + every,
            Ok(Ok(())) => {}
            Ok(Err(failure)) => {
                tracing::debug!("{}", failure.error(&state.server, "extend the leases"));
                (*link, due, again_released) = (None, state.clock.elapsed() + again, released);
            }
            Err(_) => (*link, due, again_released) = (None, state.clock.elapsed() + again, released),
        }
    }
}

async fn connected<'a>(state: &LeaseState, link: &'a mut Option<Link>) -> Result<&'a Link, Failure> {
    if link.as_ref().is_none_or(|link| link.client.is_closed()) {
        *link = Some(state.server.connect().await?);
    }
    link.as_ref().ok_or_else(|| Failure::Final(Error::new(Kind::Bug, "a connection was made that is not there")))
}

async fn extend(state: &LeaseState, link: &mut Option<Link>) -> Result<(), Failure> {
    let link = connected(state, link).await?;
    state.extend(&link.client).await
}

async fn give_back(state: &LeaseState, link: &mut Option<Link>, releases: &[Release]) -> Result<(), Failure> {
    if releases.is_empty() {
        return Ok(());
    }
    let link = connected(state, link).await?;
    state.release_all(&link.client, releases).await
}
