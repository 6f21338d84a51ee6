//! How is an order carried out? Runs that are asked for or cancelled, syncs that are paused: each changes the
//! [roster](super::roster), and what must survive a restart is noted in the ledger.

use super::roster::{Asked, Declined};
use super::supervisor::{Supervisor, note};
use crate::delivery::Signal;
use crate::error::Result;
use crate::sync::RunOptions;

impl Supervisor {
    /// Asks for a run; see [`Roster::ask`](super::roster::Roster::ask). What waits is remembered over a restart.
    pub(super) async fn ask(
        &self,
        sync: &str,
        options: RunOptions,
        by: &str,
    ) -> Result<Result<(String, bool), Declined>> {
        let _turn = self.orders.lock().await;
        let (accepted, waiting) = {
            let now = self.clock.now();
            let mut roster = self.roster();
            let asked = Asked { run: self.new_run(now), options, by: by.to_owned(), since: now };
            (roster.ask(sync, asked), roster.waiting().remove(sync))
        };
        let Ok((run, joined)) = accepted else { return Ok(accepted) };
        if let Some(waiting) = waiting {
            let text = serde_json::to_string(&waiting).unwrap_or_default();
            if let Err(error) = self.ledger.keep(&note("waiting", sync), Some(&text)).await {
                if !joined && self.roster().take_back(&run).is_some() {
                    return Err(error);
                }
                tracing::error!(sync, run, "failed to remember over a restart that this run was asked for: {error}");
            }
        }
        self.wake();
        Ok(Ok((run, joined)))
    }

    /// Stops a run, or takes back one that waits. False when there is no such run.
    pub(super) async fn cancel(&self, run: &str) -> bool {
        if self.cancel_running(run) {
            return true;
        }
        let _turn = self.orders.lock().await;
        let taken_back = self.roster().take_back(run);
        match taken_back {
            Some(sync) => {
                self.forget_waiting(&sync, run).await;
                true
            }
            // It may have begun meanwhile.
            None => self.cancel_running(run),
        }
    }

    fn cancel_running(&self, run: &str) -> bool {
        let mut running = self.running();
        let Some(found) = running.values_mut().find(|running| running.run == run) else { return false };
        found.cancelled = true;
        found.tracker.stopping();
        found.signal.send_modify(|signal| {
            *signal = if *signal == Signal::Go { Signal::Stop } else { Signal::Abandon };
        });
        true
    }

    /// Pauses or resumes a sync, and remembers it.
    pub(super) async fn pause(&self, sync: &str, paused: bool) -> Result<Result<(), Declined>> {
        let _turn = self.orders.lock().await;
        let now = self.clock.now();
        let done = self.roster().pause(sync, paused.then_some(now), now);
        if done.is_ok() {
            let since = self.roster().doing(sync, self.clock.now()).and_then(|doing| doing.paused_since);
            let text = since.map(|since| since.to_rfc3339());
            self.wake();
            self.ledger.keep(&note("paused", sync), text.as_deref()).await?;
        }
        Ok(done)
    }
}
