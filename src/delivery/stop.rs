//! How delivery is stopped: by the signal of the run, or by a page whose destination takes nothing more.

use std::sync::Arc;

use tokio::sync::watch;

/// Whether delivery goes on. Signals only ever rise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Signal {
    /// Go on.
    #[default]
    Go,
    /// Start no request; those in flight have [`DeliverySettings::grace`](super::DeliverySettings::grace) to finish.
    Stop,
    /// Abort what is in flight at once; its outcome is unconfirmed.
    Abandon,
}

/// Whether an attempt may begin now, for a run that another process may take over: asked right before each.
pub type Permit = Arc<dyn Fn() -> bool + Send + Sync>;

/// The ways to be stopped: the run's signal, the page's own halt after a verdict that concerns all of it, and a permit that
/// has run out.
#[derive(Clone)]
pub(super) struct Stops {
    pub(super) signal: watch::Receiver<Signal>,
    pub(super) halted: watch::Receiver<bool>,
    pub(super) permit: Option<Permit>,
}

impl Stops {
    pub(super) fn stopping(&self) -> bool {
        *self.signal.borrow() >= Signal::Stop || *self.halted.borrow() || !self.permitted()
    }

    /// Whether an attempt may begin by the permit, if there is one.
    pub(super) fn permitted(&self) -> bool {
        self.permit.as_ref().is_none_or(|permit| permit())
    }

    /// Resolves once no new attempt may start; a permit that runs out is seen before the next one.
    pub(super) async fn stopped(&mut self) {
        tokio::select! {
            () = reached(&mut self.signal, |signal| *signal >= Signal::Stop) => {}
            () = reached(&mut self.halted, |halted| *halted) => {}
        }
    }
}

/// Resolves once the watched value is as wanted; never once it can no longer change.
pub(super) async fn reached<T>(watched: &mut watch::Receiver<T>, wanted: impl FnMut(&T) -> bool) {
    if watched.wait_for(wanted).await.is_err() {
        std::future::pending::<()>().await;
    }
}
