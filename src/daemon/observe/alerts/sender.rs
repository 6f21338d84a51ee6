//! The sender of alerts: a bounded queue, one message at a time, retried until the webhook accepts it or it is dropped.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use super::message::{AlertFormat, AlertMessage};
use crate::config;
use crate::delivery::pace;
use crate::error::{Error, Kind, Result};
use crate::io::http::{CallLimits, Request, Response, Transport};
use crate::io::{Clock, Random};
use crate::secret::Secret;

/// Messages that wait. One has about 2 KB; more of them mean that the webhook accepts none, and the newest matter most.
const QUEUE_MAX: usize = 64;
/// Longest one attempt may take, and longest response: only a code of a few letters is read.
const LIMITS: CallLimits = CallLimits { timeout: Duration::from_secs(10), body_bytes_max: 1_024 };
/// How old a message may get before it is dropped: a webhook may be down for a while, but after an hour it is history.
const RETRY_FOR: Duration = Duration::from_secs(3_600);
/// Attempts even for an old message, such as one that waited behind another or over a restart.
const ATTEMPTS_MIN: u32 = 3;
/// Attempts in all, should the wall clock be set back: with waits of half a minute on average, an hour has 120.
const ATTEMPTS_MAX: u32 = 240;

/// The webhook.
#[derive(Debug, Clone)]
pub struct AlertWebhook {
    url: Secret,
    format: AlertFormat,
}

impl AlertWebhook {
    /// The webhook of these settings, if they name one.
    pub fn of(settings: &config::Alerts) -> Result<Option<AlertWebhook>> {
        let Some(url) = &settings.url else { return Ok(None) };
        let wrong = |what: &str| Error::new(Kind::Config, what.to_owned()).at("[daemon.alerts]");
        let format = match settings.format.as_str() {
            "slack" => AlertFormat::Slack,
            "json" => AlertFormat::Json,
            _ => return Err(wrong("`format` is unknown").advise("set it to slack or json")),
        };
        // The URL is a secret: what is wrong with it is not quoted.
        let is_http = url::Url::parse(url.expose()).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if !is_http {
            return Err(wrong("`url` is not a valid URL").advise("set it to the webhook's URL, with https://"));
        }
        Ok(Some(AlertWebhook { url: url.clone(), format }))
    }

    fn request(&self, message: &AlertMessage) -> Request {
        Request {
            method: "POST",
            url: self.url.expose().to_owned(),
            headers: vec![("content-type", "application/json".to_owned())],
            body: message.body(self.format),
            gzip: false,
        }
    }
}

/// Sends messages to a webhook, in order.
pub struct AlertSender {
    queue: Mutex<Queue>,
    /// How many messages wait, the one in flight included.
    waiting: watch::Sender<usize>,
    limits: CallLimits,
}

#[derive(Default)]
struct Queue {
    target: Option<AlertWebhook>,
    messages: VecDeque<(u64, AlertMessage)>,
    next_id: u64,
    /// Whether the first message is in flight.
    in_flight: bool,
    sent: u64,
    dropped: u64,
}

impl AlertSender {
    /// A sender with nothing to send.
    pub fn new(target: Option<AlertWebhook>) -> AlertSender {
        AlertSender {
            queue: Mutex::new(Queue { target, ..Queue::default() }),
            waiting: watch::Sender::new(0),
            limits: LIMITS,
        }
    }

    /// A sender with a shorter deadline for one attempt.
    #[cfg(test)]
    pub(super) fn impatient(target: AlertWebhook, timeout: Duration) -> AlertSender {
        AlertSender { limits: CallLimits { timeout, ..LIMITS }, ..AlertSender::new(Some(target)) }
    }

    /// Whether there is a webhook.
    pub fn has_target(&self) -> bool {
        self.locked().target.is_some()
    }

    /// Sends to another webhook from now on, also what waits; without one, what waits is dropped.
    pub fn set_target(&self, target: Option<AlertWebhook>) {
        let mut queue = self.locked();
        if target.is_none() {
            queue.messages.clear();
        }
        queue.target = target;
        self.waiting.send_replace(queue.messages.len());
    }

    /// Queues messages. At most 64 wait; beyond that the oldest are dropped.
    pub fn queue(&self, messages: Vec<AlertMessage>) {
        let mut queue = self.locked();
        if queue.target.is_none() {
            return;
        }
        for message in messages {
            if queue.messages.len() >= QUEUE_MAX {
                // The one in flight may be accepted any time.
                let oldest = usize::from(queue.in_flight);
                if let Some((_, dropped)) = queue.messages.remove(oldest) {
                    queue.dropped += 1;
                    tracing::error!(
                        sync = dropped.sync,
                        "dropped the alert \"{}\": {QUEUE_MAX} wait already; check `url` under [daemon.alerts]",
                        dropped.title
                    );
                }
            }
            let id = queue.next_id;
            queue.next_id += 1;
            queue.messages.push_back((id, message));
        }
        self.waiting.send_replace(queue.messages.len());
    }

    /// What was not accepted yet, the oldest first.
    pub fn unsent(&self) -> Vec<AlertMessage> {
        self.locked().messages.iter().map(|(_, message)| message.clone()).collect()
    }

    /// The numbers of messages sent and dropped.
    pub fn sent_and_dropped(&self) -> (u64, u64) {
        let queue = self.locked();
        (queue.sent, queue.dropped)
    }

    /// Resolves once nothing waits.
    pub async fn sent(&self) {
        // The sender of the channel is ours and lives as long as we do.
        let _ = self.waiting.subscribe().wait_for(|waiting| *waiting == 0).await;
    }

    /// Sends what is queued, for ever. Once at a time.
    pub async fn send(&self, transport: &dyn Transport, clock: &dyn Clock, random: &Random) {
        let mut waiting = self.waiting.subscribe();
        loop {
            // The sender of the channel is ours and lives as long as we do.
            let _ = waiting.wait_for(|waiting| *waiting > 0).await;
            let first = {
                let mut queue = self.locked();
                queue.in_flight = !queue.messages.is_empty();
                queue.messages.front().cloned()
            };
            let Some((id, message)) = first else { continue };
            let result = self.post(&message, transport, clock, random).await;
            let mut queue = self.locked();
            queue.in_flight = false;
            // It is gone if the config has no webhook any more.
            if queue.messages.front().is_some_and(|(first, _)| *first == id) {
                queue.messages.pop_front();
                match result {
                    Ok(()) => queue.sent += 1,
                    Err(why) => {
                        queue.dropped += 1;
                        tracing::error!(
                            sync = message.sync,
                            "dropped the alert \"{}\": {why}; check `url` under [daemon.alerts]",
                            message.title
                        );
                    }
                }
            }
            self.waiting.send_replace(queue.messages.len());
        }
    }

    /// Posts one message until it is accepted; an error says why it is dropped, without the URL.
    async fn post(
        &self,
        message: &AlertMessage,
        transport: &dyn Transport,
        clock: &dyn Clock,
        random: &Random,
    ) -> Result<(), String> {
        for attempt in 1.. {
            // Each time, because the config may have another webhook by now.
            let Some(target) = self.locked().target.clone() else { break };
            let (why, wanted) = match transport.send(&target.request(message), self.limits).await {
                Ok(response) if (200..300).contains(&response.status) => break,
                Ok(response) if matches!(response.status, 408 | 425 | 429 | 500..=599) => {
                    (status_text(&response), response.retry_after())
                }
                Ok(response) => return Err(format!("the webhook rejects it with {}", status_text(&response))),
                Err(no_reply) => (no_reply.what, None),
            };
            let wait = pace::wait(attempt, wanted, |max| random.up_to(max));
            let age = (clock.now() - message.at).to_std().unwrap_or_default();
            if attempt >= ATTEMPTS_MAX || (attempt >= ATTEMPTS_MIN && age + wait > RETRY_FOR) {
                return Err(format!("the webhook did not accept it; last attempt: {why}"));
            }
            if attempt == 1 {
                tracing::warn!(sync = message.sync, "failed to send an alert, retrying: {why}");
            }
            clock.sleep(wait).await;
        }
        Ok(())
    }

    fn locked(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }
}

/// The status, and the body if it is one of Slack's codes (`no_service`, `invalid_payload`). Anything longer could quote the
/// URL.
fn status_text(response: &Response) -> String {
    let word = std::str::from_utf8(&response.body).unwrap_or_default().trim();
    let is_code = (1..=40).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if is_code { format!("HTTP {}: {word}", response.status) } else { format!("HTTP {}", response.status) }
}
