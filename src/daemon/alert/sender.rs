//! How does a message reach its webhook? A bounded queue, one message at a time, repeated until it is taken or given up.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use super::message::{Format, Message};
use crate::config;
use crate::delivery::pace;
use crate::error::{Error, Kind, Result};
use crate::io::http::Transport;
use crate::io::http::{CallLimits, Request, Response};
use crate::io::{Clock, Random};
use crate::secret::Secret;

/// Messages that wait. One takes about 2 KB; more of them mean that the webhook takes none, and the newest matter most.
const QUEUE_MAX: usize = 64;
/// Longest one attempt may take, and longest response: a code word of a few letters is all that is read.
const LIMITS: CallLimits = CallLimits { timeout: Duration::from_secs(10), body_bytes_max: 1_024 };
/// How old a message may get before it is given up: a webhook may be down for a while, but after an hour it is history.
const RETRY_FOR: Duration = Duration::from_secs(3_600);
/// Attempts even for an old message, such as one that waited behind another or over a restart.
const ATTEMPTS_MIN: u32 = 3;
/// Attempts in all, should the wall clock be set back: with waits of half a minute on average, an hour has 120.
const ATTEMPTS_MAX: u32 = 240;

/// Where messages go.
#[derive(Debug, Clone)]
pub struct Target {
    url: Secret,
    format: Format,
}

impl Target {
    /// The webhook of these settings, if they name one.
    pub fn of(settings: &config::Alerts) -> Result<Option<Target>> {
        let Some(url) = &settings.url else { return Ok(None) };
        let wrong = |what: &str| Error::new(Kind::Config, what.to_owned()).at("[daemon.alerts]");
        let format = match settings.format.as_str() {
            "slack" => Format::Slack,
            "json" => Format::Json,
            _ => return Err(wrong("`format` is not one").advise("set it to slack or json")),
        };
        // The address is a secret: what is wrong with it is not quoted.
        let is_http = url::Url::parse(url.expose()).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if !is_http {
            return Err(wrong("`url` is not an address").advise("set it to the webhook's address, with https://"));
        }
        Ok(Some(Target { url: url.clone(), format }))
    }

    fn request(&self, message: &Message) -> Request {
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
pub struct Sender {
    queue: Mutex<Queue>,
    /// How many messages wait, the one on its way included.
    waiting: watch::Sender<usize>,
    limits: CallLimits,
}

#[derive(Default)]
struct Queue {
    target: Option<Target>,
    messages: VecDeque<(u64, Message)>,
    next_id: u64,
    /// Whether the first message is on its way.
    in_flight: bool,
    told: u64,
    lost: u64,
}

impl Sender {
    /// A sender with nothing to send.
    pub fn new(target: Option<Target>) -> Sender {
        Sender {
            queue: Mutex::new(Queue { target, ..Queue::default() }),
            waiting: watch::Sender::new(0),
            limits: LIMITS,
        }
    }

    /// A sender that is less patient with one attempt.
    #[cfg(test)]
    pub(super) fn impatient(target: Target, timeout: Duration) -> Sender {
        Sender { limits: CallLimits { timeout, ..LIMITS }, ..Sender::new(Some(target)) }
    }

    /// Whether there is somebody to tell.
    pub fn has_target(&self) -> bool {
        self.locked().target.is_some()
    }

    /// Sends to another webhook from now on, what waits included; without one, what waits is dropped.
    pub fn aim(&self, target: Option<Target>) {
        let mut queue = self.locked();
        if target.is_none() {
            queue.messages.clear();
        }
        queue.target = target;
        self.waiting.send_replace(queue.messages.len());
    }

    /// Takes messages, at once. At most 64 wait; beyond that the oldest are lost.
    pub fn queue(&self, messages: Vec<Message>) {
        let mut queue = self.locked();
        if queue.target.is_none() {
            return;
        }
        for message in messages {
            if queue.messages.len() >= QUEUE_MAX {
                // The one that is on its way may be taken any moment.
                let oldest = usize::from(queue.in_flight);
                if let Some((_, lost)) = queue.messages.remove(oldest) {
                    queue.lost += 1;
                    tracing::error!(
                        sync = lost.sync,
                        "the alert \"{}\" is lost, for {QUEUE_MAX} wait already; check `url` under [daemon.alerts]",
                        lost.title
                    );
                }
            }
            let id = queue.next_id;
            queue.next_id += 1;
            queue.messages.push_back((id, message));
        }
        self.waiting.send_replace(queue.messages.len());
    }

    /// What has not arrived, the oldest first.
    pub fn unsent(&self) -> Vec<Message> {
        self.locked().messages.iter().map(|(_, message)| message.clone()).collect()
    }

    /// Messages that arrived and messages given up.
    pub fn told_and_lost(&self) -> (u64, u64) {
        let queue = self.locked();
        (queue.told, queue.lost)
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
            let told = self.tell(&message, transport, clock, random).await;
            let mut queue = self.locked();
            queue.in_flight = false;
            // It is gone if the config named no webhook any more meanwhile.
            if queue.messages.front().is_some_and(|(first, _)| *first == id) {
                queue.messages.pop_front();
                match told {
                    Ok(()) => queue.told += 1,
                    Err(why) => {
                        queue.lost += 1;
                        tracing::error!(
                            sync = message.sync,
                            "the alert \"{}\" is lost: {why}; check `url` under [daemon.alerts]",
                            message.title
                        );
                    }
                }
            }
            self.waiting.send_replace(queue.messages.len());
        }
    }

    /// Says one message until it is taken; an error says why it is given up, without the address.
    async fn tell(
        &self,
        message: &Message,
        transport: &dyn Transport,
        clock: &dyn Clock,
        random: &Random,
    ) -> Result<(), String> {
        for attempt in 1.. {
            // Read anew each time: the config may have named another webhook meanwhile.
            let Some(target) = self.locked().target.clone() else { break };
            let (why, asked) = match transport.send(&target.request(message), self.limits).await {
                Ok(response) if (200..300).contains(&response.status) => break,
                Ok(response) if matches!(response.status, 408 | 425 | 429 | 500..=599) => {
                    (answered(&response), response.retry_after())
                }
                Ok(response) => return Err(format!("the webhook refuses it with {}", answered(&response))),
                Err(no_reply) => (no_reply.what, None),
            };
            let wait = pace::wait(attempt, asked, |max| random.up_to(max));
            let age = (clock.now() - message.at).to_std().unwrap_or_default();
            if attempt >= ATTEMPTS_MAX || (attempt >= ATTEMPTS_MIN && age + wait > RETRY_FOR) {
                return Err(format!("the webhook did not take it, at last: {why}"));
            }
            if attempt == 1 {
                tracing::warn!(sync = message.sync, "an alert did not arrive and is tried again: {why}");
            }
            clock.sleep(wait).await;
        }
        Ok(())
    }

    fn locked(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }
}

/// The status, and the answer if it is one of Slack's code words (`no_service`, `invalid_payload`). Anything longer could
/// quote the address.
fn answered(response: &Response) -> String {
    let word = std::str::from_utf8(&response.body).unwrap_or_default().trim();
    let is_code = (1..=40).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if is_code { format!("HTTP {}: {word}", response.status) } else { format!("HTTP {}", response.status) }
}
