//! Who is told when a sync changes for the worse or the better? One message per change of state, to one webhook.
//!
//! [`Watchman`] decides (pure), [`Message`] is what is said, and [`Sender`] sees to it that it arrives. [`Alerts`] holds
//! them together for the supervisor:
//!
//! - [`Alerts::run_ended`] and, once a minute, [`Alerts::look`] feed it. Both only take note: a run never waits for an
//!   alert.
//! - [`Alerts::to_keep`] is to be stored after either, and given back to [`Alerts::new`] after a restart.
//! - [`Alerts::send`] runs beside everything else for as long as the process does.
//!
//! # How often a message arrives
//!
//! At least once, as long as the webhook takes it within an hour. What was decided is kept together with the messages that
//! have not arrived yet, so a crash between the two repeats a message rather than losing it; a webhook that took a message
//! and was slow to say so gets it twice. `sync`, `event` and `at` together tell repetitions apart.
//!
//! A message that is given up (an hour of failures, or a reply that says the webhook will never take it) is logged as an
//! error, counted, and **not** said again later: its state counts as told. Saying it later would tell of a state that may be
//! over, and a webhook that refuses everything would be asked the same for ever; the next change of state is told anyway,
//! and the log and the metrics, which do not hang on the webhook, say that alerts are lost.

mod message;
mod sender;
mod watchman;

use parking_lot::{Mutex, MutexGuard};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use message::{Event, Format, Message};
pub use sender::{Sender, Target};
pub use watchman::{Ended, Watchman};

use crate::config;
use crate::error::{Error, Result};
use crate::io::http::Transport;
use crate::io::{Clock, Random};
use crate::service::views::SyncView;

/// Alerts as the supervisor sees them. Where no webhook is set, nothing is watched and nothing is sent.
pub struct Alerts {
    state: Mutex<State>,
    sender: Sender,
}

struct State {
    settings: Option<config::Alerts>,
    watchman: Watchman,
    /// What was last handed out to be kept.
    kept: Option<String>,
}

/// What is kept over a restart.
#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Kept {
    told: Watchman,
    unsent: Vec<Message>,
}

impl Alerts {
    /// Alerts to the webhook of these settings, going on from what was kept ([`Alerts::to_keep`]). Fails when the address
    /// is none.
    pub fn new(settings: Option<&config::Alerts>, kept: Option<&str>) -> Result<Alerts> {
        let sender = Sender::new(settings.map(Target::of).transpose()?.flatten());
        let settings = settings.filter(|_| sender.has_target()).cloned();
        let mut state = State { settings, watchman: Watchman::default(), kept: kept.map(str::to_owned) };
        if let (Some(text), Some(_)) = (kept, &state.settings) {
            match serde_json::from_str::<Kept>(text) {
                Ok(kept) => {
                    state.watchman = kept.told;
                    sender.queue(kept.unsent);
                }
                // A newer version's, or nobody's: then states are told once more.
                Err(_) => tracing::warn!("what was kept about alerts cannot be read; states may be told once more"),
            }
        }
        Ok(Alerts { state: Mutex::new(state), sender })
    }

    /// Takes over other settings, after the config was read again. On failure the old ones stay.
    pub fn configure(&self, settings: Option<&config::Alerts>) -> Result<()> {
        self.sender.aim(settings.map(Target::of).transpose()?.flatten());
        let mut state = self.state();
        state.settings = settings.filter(|_| self.sender.has_target()).cloned();
        if state.settings.is_none() {
            state.watchman = Watchman::default();
        }
        Ok(())
    }

    /// Takes note of a run that has ended, whoever started it.
    pub fn run_ended(&self, ended: &Ended<'_>) {
        let mut state = self.state();
        let State { settings: Some(settings), watchman, .. } = &mut *state else { return };
        let message = watchman.ended(ended, settings.rejected_above);
        self.sender.queue(message.into_iter().collect());
    }

    /// Takes note of what is late, once a minute. `syncs` are all syncs of the config in use: others are forgotten.
    pub fn look(&self, now: DateTime<Utc>, syncs: &[SyncView]) {
        let mut state = self.state();
        let State { settings: Some(settings), watchman, .. } = &mut *state else { return };
        let messages = watchman.look(now, syncs, settings.late_after);
        self.sender.queue(messages);
    }

    /// Takes note that the ledger lets no run start, and why, or that it does again.
    pub fn ledger(&self, problem: Option<&Error>, since: DateTime<Utc>, now: DateTime<Utc>) {
        if self.state().settings.is_some() {
            self.sender.queue(vec![Message::ledger(problem, since, now)]);
        }
    }

    /// A small text to keep over a restart, if it changed since the last call.
    pub fn to_keep(&self) -> Option<String> {
        let mut state = self.state();
        let kept = Kept { told: state.watchman.clone(), unsent: self.sender.unsent() };
        // Nothing in it has keys that are not texts, which is all that can go wrong.
        let text = serde_json::to_string(&kept).ok()?;
        if state.kept.as_ref() == Some(&text) {
            return None;
        }
        state.kept = Some(text.clone());
        Some(text)
    }

    /// Sends what is queued, for ever.
    pub async fn send(&self, transport: &dyn Transport, clock: &dyn Clock, random: &Random) {
        self.sender.send(transport, clock, random).await;
    }

    /// Resolves once nothing is left to send. For the end of the process, with a time limit of the caller's: what is left
    /// then is kept.
    pub async fn sent(&self) {
        self.sender.sent().await;
    }

    /// Messages that arrived and messages given up, since the start.
    pub fn told_and_lost(&self) -> (u64, u64) {
        self.sender.told_and_lost()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

#[cfg(test)]
mod tests;
