//! Alerting: one message to one webhook when a sync gets a problem, and one when it is over.
//!
//! [`AlertState`] decides (pure), [`AlertMessage`] is what is sent, and [`AlertSender`] makes sure that it arrives. [`Alerting`] holds
//! them together:
//!
//! - [`Alerting::run_ended`], [`Alerting::check`] and [`Alerting::ledger`] feed it. They only take note: a run never waits for an
//!   alert.
//! - [`Alerting::to_store`] is to be stored after each, and given back to [`Alerting::new`] after a restart.
//! - [`Alerting::send`] runs beside everything else for as long as the process does.
//!
//! # How often a message arrives
//!
//! At least once, if the webhook accepts it within an hour. A decision is stored together with the messages that were not
//! accepted yet, so a crash between the two repeats a message rather than losing it; a webhook that accepted a message and
//! responded too late gets it twice. `sync`, `event` and `at` together tell repetitions apart.
//!
//! A message that is dropped (an hour of failures, or a response that rejects it for good) is logged as an error, counted,
//! and **not** sent later: its state counts as reported. Sending it later would report a state that may be over, and a
//! webhook that rejects everything would get the same for ever; the next change is sent anyway, and the log and the metrics,
//! which do not depend on the webhook, show that alerts are dropped.

mod message;
mod sender;
mod state;

use parking_lot::{Mutex, MutexGuard};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use message::{AlertEvent, AlertFormat, AlertMessage, Mistaken};
pub use sender::{AlertSender, AlertWebhook};
pub use state::{AlertState, ObservedRun};

use crate::config;
use crate::error::{Error, Result};
use crate::io::http::Transport;
use crate::io::{Clock, Random};
use crate::ledger::Ledger;
use crate::service::views::SyncView;

/// The key under which the ledger stores the state of the alerts.
pub const KEY: &str = "alerts";

/// The state of the alerts that the ledger stores, if it does.
pub async fn stored(ledger: &dyn Ledger) -> Result<Option<String>> {
    ledger.kv().get(KEY).await
}

/// The alerts of the daemon. Without a webhook nothing is noted or sent.
pub struct Alerting {
    state: Mutex<AlertingState>,
    sender: AlertSender,
}

struct AlertingState {
    settings: Option<config::Alerts>,
    alerts: AlertState,
    /// What was last returned to be stored.
    stored: Option<String>,
}

/// What is stored over a restart.
#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Stored {
    #[serde(flatten)]
    alerts: AlertState,
    unsent: Vec<AlertMessage>,
}

impl Alerting {
    /// Alerts to the webhook of these settings, continuing from what was stored ([`Alerting::to_store`]). Fails when the URL is
    /// invalid.
    pub fn new(settings: Option<&config::Alerts>, stored: Option<&str>) -> Result<Alerting> {
        let sender = AlertSender::new(settings.map(AlertWebhook::of).transpose()?.flatten());
        let settings = settings.filter(|_| sender.has_target()).cloned();
        let mut state = AlertingState { settings, alerts: AlertState::default(), stored: stored.map(str::to_owned) };
        if let (Some(text), Some(_)) = (stored, &state.settings) {
            match serde_json::from_str::<Stored>(text) {
                Ok(stored) => {
                    state.alerts = stored.alerts;
                    sender.queue(stored.unsent);
                }
                // A newer version may have written it.
                Err(_) => tracing::warn!("failed to read the stored state of the alerts; some may be sent once more"),
            }
        }
        Ok(Alerting { state: Mutex::new(state), sender })
    }

    /// Continues from what another daemon has stored, in whose place this one sends alerts now.
    pub fn resume(&self, stored: Option<&str>) {
        let mut state = self.state();
        let stored = stored.and_then(|text| serde_json::from_str::<Stored>(text).ok());
        if let (Some(stored), Some(_)) = (stored, &state.settings) {
            state.alerts = stored.alerts;
            self.sender.queue(stored.unsent);
        }
    }

    /// Uses other settings, after the config was reloaded. On failure the old ones stay.
    pub fn configure(&self, settings: Option<&config::Alerts>) -> Result<()> {
        self.sender.set_target(settings.map(AlertWebhook::of).transpose()?.flatten());
        let mut state = self.state();
        state.settings = settings.filter(|_| self.sender.has_target()).cloned();
        if state.settings.is_none() {
            state.alerts = AlertState::default();
        }
        Ok(())
    }

    /// Takes note of a run that ended.
    pub fn run_ended(&self, ended: &ObservedRun<'_>) {
        let mut state = self.state();
        let AlertingState { settings: Some(settings), alerts, .. } = &mut *state else { return };
        let message = alerts.run_ended(ended, settings.rejected_above);
        self.sender.queue(message.into_iter().collect());
    }

    /// Takes note of what is late and of mappings with mistakes, once a minute. `syncs` are all syncs of the config in use:
    /// others are forgotten.
    pub fn check(&self, now: DateTime<Utc>, syncs: &[SyncView], mistaken: &[Mistaken]) {
        let mut state = self.state();
        let AlertingState { settings: Some(settings), alerts, .. } = &mut *state else { return };
        let mut messages = alerts.check(now, syncs, settings.late_after);
        messages.extend(alerts.check_mappings(now, mistaken));
        self.sender.queue(messages);
    }

    /// Takes note of mappings with mistakes, when the config was read. Returns whether there is anything to send.
    pub fn check_mappings(&self, now: DateTime<Utc>, mistaken: &[Mistaken]) -> bool {
        let mut state = self.state();
        let AlertingState { settings: Some(_), alerts, .. } = &mut *state else { return false };
        let messages = alerts.check_mappings(now, mistaken);
        let any = !messages.is_empty();
        self.sender.queue(messages);
        any
    }

    /// Reports that the ledger lets no run start, and why, or that it does again.
    pub fn ledger(&self, problem: Option<&Error>, since: DateTime<Utc>, now: DateTime<Utc>) {
        if self.state().settings.is_some() {
            self.sender.queue(vec![AlertMessage::ledger(problem, since, now)]);
        }
    }

    /// A small text to store over a restart, if it changed since the last call.
    pub fn to_store(&self) -> Option<String> {
        let mut state = self.state();
        let stored = Stored { alerts: state.alerts.clone(), unsent: self.sender.unsent() };
        // Nothing in it has keys that are not texts, which is all that can go wrong.
        let text = serde_json::to_string(&stored).ok()?;
        if state.stored.as_ref() == Some(&text) {
            return None;
        }
        state.stored = Some(text.clone());
        Some(text)
    }

    /// Sends what is queued, for ever.
    pub async fn send(&self, transport: &dyn Transport, clock: &dyn Clock, random: &Random) {
        self.sender.send(transport, clock, random).await;
    }

    /// Resolves once everything is sent. For the end of the process, with a time limit of the caller's: the rest is stored.
    pub async fn sent(&self) {
        self.sender.sent().await;
    }

    /// The numbers of messages sent and dropped since the start.
    pub fn sent_and_dropped(&self) -> (u64, u64) {
        self.sender.sent_and_dropped()
    }

    fn state(&self) -> MutexGuard<'_, AlertingState> {
        self.state.lock()
    }
}

#[cfg(test)]
mod tests;
