//! How is an order carried out? Runs that are asked for or cancelled, syncs that are paused: each changes the
//! [queue](crate::scheduler::queue), and what must survive a restart is noted in the ledger.

use super::restore::text_of;
use super::supervisor::Supervisor;
use crate::delivery::Signal;
use crate::error::{Error, Kind, Result};
use crate::ledger::SharedState;
use crate::ledger::kv::note_of;
use crate::scheduler::queue::{EnqueueError, QueuedRun};
use crate::service::peers;
use crate::sync::RunOptions;

/// How often a request is tried again that others came before.
const ATTEMPTS_MAX: usize = 10;

impl Supervisor {
    /// Asks for a run; see [`RunQueue::enqueue`](crate::scheduler::queue::RunQueue::enqueue). What waits is remembered over a restart.
    pub(super) async fn ask(
        &self,
        sync: &str,
        options: RunOptions,
        by: &str,
    ) -> Result<Result<(String, bool), EnqueueError>> {
        let _turn = self.orders.lock().await;
        if let Some(shared) = self.ledger.shared() {
            return self.ask_shared(shared, sync, options, by).await;
        }
        let (accepted, waiting) = {
            let now = self.clock.now();
            let mut queue = self.queue();
            let asked = QueuedRun { run: self.new_run(now), request: options, requested_by: by.to_owned(), since: now };
            (queue.enqueue(sync, asked), queue.queued().remove(sync))
        };
        let Ok((run, joined)) = accepted else { return Ok(accepted) };
        if let Some(waiting) = waiting
            && let Err(error) = self.store_queued(sync, waiting).await
        {
            if !joined && self.queue().cancel_queued(&run).is_some() {
                return Err(error);
            }
            tracing::error!(sync, run, "failed to store the queued run, which a restart would lose: {error}");
        }
        self.wake();
        Ok(Ok((run, joined)))
    }

    /// The same where other daemons queue and start runs too: what is stored counts, and is replaced only as it was read.
    async fn ask_shared(
        &self,
        shared: &dyn SharedState,
        sync: &str,
        options: RunOptions,
        by: &str,
    ) -> Result<Result<(String, bool), EnqueueError>> {
        let name = note_of("waiting", sync);
        for _ in 0..ATTEMPTS_MAX {
            let note = self.ledger.kv().get(&name).await?;
            let noted = note.as_deref().and_then(|text| self.stored_run(sync, text));
            let (accepted, waiting) = {
                let now = self.clock.now();
                let mut queue = self.queue();
                queue.set_queued(sync, noted.clone());
                let (run, request) = (self.new_run(now), options.clone());
                let asked = QueuedRun { run, request, requested_by: by.to_owned(), since: now };
                (queue.enqueue(sync, asked), queue.queued().remove(sync))
            };
            let (Ok(_), Some(waiting)) = (&accepted, waiting) else { return Ok(accepted) };
            let text = text_of(waiting);
            let is_stored = note.as_deref() == Some(text.as_str()) || {
                let stored = shared.replace_note(&name, note.as_deref(), &text).await;
                if !matches!(stored, Ok(true)) {
                    self.queue().set_queued(sync, noted);
                }
                stored?
            };
            if is_stored {
                self.wake();
                return Ok(accepted);
            }
        }
        Err(Error::new(Kind::LedgerBusy, format!("others change what is queued for {sync} all the time"))
            .advise("repeat the request"))
    }

    /// Stops a run of another process. False where none has it that could be reached.
    pub(super) async fn cancel_elsewhere(&self, run: &str) -> Result<bool> {
        match self.ledger.shared() {
            Some(shared) => peers::request_cancel(shared, run).await,
            None => Ok(false),
        }
    }

    /// Stops a run, or takes back one that waits. False when there is no such run.
    pub(super) async fn cancel(&self, run: &str) -> bool {
        if self.cancel_running(run) {
            return true;
        }
        let _turn = self.orders.lock().await;
        let taken_back = self.queue().cancel_queued(run);
        match taken_back {
            Some(sync) => {
                self.forget_queued(&sync, run).await;
                self.changed();
                true
            }
            // It may have begun meanwhile.
            None => self.cancel_running(run),
        }
    }

    pub(super) fn cancel_running(&self, run: &str) -> bool {
        let mut running = self.running();
        let Some(found) = running.values_mut().find(|running| running.run == run) else { return false };
        found.cancelled = true;
        found.tracker.stopping();
        self.changed();
        found.signal.send_modify(|signal| {
            *signal = if *signal == Signal::Go { Signal::Stop } else { Signal::Abandon };
        });
        true
    }

    /// Pauses a sync that the ledger has as paused: it was renamed.
    pub(super) async fn pause_as_stored(&self, sync: &str) -> Result<()> {
        let _turn = self.orders.lock().await;
        let now = self.clock.now();
        if let Some(since) = self.stored_pause(sync, now).await?
            && self.queue().pause(sync, Some(since), now).is_ok()
        {
            self.wake();
        }
        Ok(())
    }

    /// Pauses or resumes a sync, and remembers it.
    pub(super) async fn pause(&self, sync: &str, paused: bool) -> Result<Result<(), EnqueueError>> {
        let _turn = self.orders.lock().await;
        let now = self.clock.now();
        let done = self.queue().pause(sync, paused.then_some(now), now);
        if done.is_ok() {
            let since = self.queue().status(sync, self.clock.now()).and_then(|status| status.paused_since);
            self.wake();
            self.store_pause(sync, since).await?;
        }
        Ok(done)
    }
}
