//! What becomes of one request? Token → send → interpret → wait and repeat the same elements, until there is an answer that
//! ends it, the budget is used up, or we are asked to stop.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::{Mutex, MutexGuard};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::pace::{self, Bucket};
use super::{DeliveryCounters, DeliverySettings, READ_BYTES_MAX, RESPONSE_BYTES_MAX, Signal};
use crate::destination::{Attempt, Blame, Destination, Element, ElementVerdict, Route, Verdict};
use crate::io::http::{Applied, CallLimits, NoResponse, Request, Response, Transport};
use crate::io::{Clock, Random};

/// How a request ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    Delivered {
        warning: Option<String>,
    },
    Refused {
        reason: String,
    },
    RefusedSome {
        elements: Vec<(usize, String)>,
    },
    TooLarge {
        reason: String,
    },
    Stop {
        reason: String,
        advice: String,
        blame: Blame,
    },
    /// Attempts or time are used up, or repeating would not be safe.
    GaveUp {
        reason: String,
        /// Whether the destination failed at this request, rather than being out of reach or asking to wait: then a part
        /// of it may fare better.
        failing: bool,
    },
    /// We were asked to stop, or the page was stopped, before an answer that ends it.
    Halted {
        reason: &'static str,
    },
}

/// The end of a request, and whether some attempt before it may have been applied.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// What became of the elements that are not [`Ended::settled`].
    pub(super) end: End,
    /// How often it was sent.
    pub(super) attempts: u32,
    /// How many of these the destination failed at: no answer, or one of a server that failed.
    pub(super) failures: u32,
    /// How many requests were accepted since the destination first failed at this one.
    pub(super) accepted_since: u64,
    pub(super) maybe_applied: bool,
    /// What became of single elements, by index, where the destination told of each.
    pub(super) settled: Vec<SettledElement>,
}

/// What became of one element.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SettledElement {
    pub(super) index: usize,
    pub(super) settled: ElementVerdict,
    /// Whether an attempt before the one that settled it may have been applied.
    pub(super) maybe_applied: bool,
}

/// A request on its way.
struct InFlight<'a> {
    /// The elements that no response settled yet, and their indexes in the whole request.
    open: Vec<(usize, &'a Element)>,
    attempts: u32,
    failures: u32,
    /// How many requests had been accepted when the destination first failed at this one.
    accepted_before: Option<u64>,
    maybe_applied: bool,
    settled: Vec<SettledElement>,
}

impl<'a> InFlight<'a> {
    fn carried(&self) -> Vec<&'a Element> {
        self.open.iter().map(|(_, element)| *element).collect()
    }

    /// Takes in what was told of single elements, by their index among those carried.
    fn settle(&mut self, told: Vec<(usize, ElementVerdict)>) {
        let mut told: HashMap<usize, ElementVerdict> = told.into_iter().collect();
        let open = std::mem::take(&mut self.open);
        for (at, (index, element)) in open.into_iter().enumerate() {
            match told.remove(&at) {
                Some(settled) => {
                    self.settled.push(SettledElement { index, settled, maybe_applied: self.maybe_applied });
                }
                None => self.open.push((index, element)),
            }
        }
    }

    fn end(self, end: End) -> Ended {
        let InFlight { attempts, failures, maybe_applied, settled, .. } = self;
        Ended { end, attempts, failures, accepted_since: 0, maybe_applied, settled }
    }
}

/// An id for a request whose elements have ids: retries of some of its elements carry it, too.
fn request_id(elements: &[&Element], at: DateTime<Utc>) -> u128 {
    let Some(first) = elements.first().filter(|element| !element.id.is_empty()) else { return 0 };
    let mut hash = Sha256::new();
    hash.update(first.id.as_bytes());
    hash.update((elements.len() as u64).to_be_bytes());
    hash.update(at.timestamp_micros().to_be_bytes());
    let digest = hash.finalize();
    digest.iter().take(16).fold(0, |id, byte| id << 8 | u128::from(*byte))
}

/// Everything a request needs from its surroundings.
#[derive(Clone, Copy)]
pub(super) struct Wire<'a> {
    pub(super) destination: &'a dyn Destination,
    pub(super) transport: &'a dyn Transport,
    pub(super) clock: &'a dyn Clock,
    pub(super) random: &'a Random,
    pub(super) settings: &'a DeliverySettings,
    pub(super) bucket: &'a Mutex<Bucket>,
    /// The vendor's own paces, by lane.
    pub(super) lanes: &'a Mutex<HashMap<u8, Bucket>>,
    pub(super) counters: &'a DeliveryCounters,
    /// How many requests were accepted.
    pub(super) accepted: &'a AtomicU64,
}

/// The two ways to be stopped: the run's signal, and the page's own halt after a verdict that concerns all of it.
#[derive(Clone)]
pub(super) struct Stops {
    pub(super) signal: watch::Receiver<Signal>,
    pub(super) halted: watch::Receiver<bool>,
}

impl Stops {
    pub(super) fn stopping(&self) -> bool {
        *self.signal.borrow() >= Signal::Stop || *self.halted.borrow()
    }

    /// Resolves once no new attempt may start.
    async fn stopped(&mut self) {
        tokio::select! {
            () = reached(&mut self.signal, |signal| *signal >= Signal::Stop) => {}
            () = reached(&mut self.halted, |halted| *halted) => {}
        }
    }
}

/// Resolves once the watched value is as wanted; never when nobody can change it any more.
async fn reached<T>(watched: &mut watch::Receiver<T>, wanted: impl FnMut(&T) -> bool) {
    if watched.wait_for(wanted).await.is_err() {
        std::future::pending::<()>().await;
    }
}

const ASKED_TO_STOP: &str = "the run stopped before it was sent";
const ABANDONED: &str = "the run stopped while the answer was awaited";

impl Wire<'_> {
    /// Sends until there is an end, at most `attempts_max` times.
    pub(super) async fn send(&self, route: Route, elements: &[&Element], attempts_max: u32, mut stops: Stops) -> Ended {
        let open = elements.iter().copied().enumerate().collect();
        let mut sent = InFlight {
            open,
            attempts: 0,
            failures: 0,
            accepted_before: None,
            maybe_applied: false,
            settled: Vec::new(),
        };
        let accepted = || self.accepted.load(Ordering::Relaxed);
        let mut first = None;
        loop {
            if !self.token(route, &mut stops).await {
                return sent.end(End::Halted { reason: ASKED_TO_STOP });
            }
            let at = self.clock.now();
            let (started, id) = *first.get_or_insert_with(|| (self.clock.elapsed(), request_id(elements, at)));
            sent.attempts += 1;
            let carried = sent.carried();
            let attempt = Attempt { at, number: sent.attempts, request: id };
            let request = self.destination.request(route, &carried, attempt);
            self.count(&request, sent.attempts);
            let verdict = match self.exchange(&request, RESPONSE_BYTES_MAX, &mut stops).await {
                None => {
                    sent.maybe_applied = true;
                    return sent.end(End::Halted { reason: ABANDONED });
                }
                Some(Err(NoResponse { applied, what })) => {
                    self.counters.count_status(0);
                    Verdict::Retry { reason: what, after: None, applied }
                }
                Some(Ok(response)) => {
                    self.counters.count_status(response.status);
                    if let Some(pause) = self.destination.pause(&response) {
                        self.bucket().hold_until(self.clock.elapsed() + pause);
                    }
                    match self.destination.interpret_each(route, &carried, &response) {
                        Verdict::Retry { .. } if self.is_done(route, &carried, &response, &mut stops).await => {
                            Verdict::ACCEPTED
                        }
                        verdict => verdict,
                    }
                }
            };
            let verdict = match verdict {
                Verdict::PerElement { verdicts, warning, rest } => {
                    if let Some(warning) = warning {
                        self.counters.warn(&warning);
                    }
                    if verdicts.iter().any(|(_, verdict)| *verdict == ElementVerdict::Accepted) {
                        self.accepted.fetch_add(1, Ordering::Relaxed);
                    }
                    sent.settle(verdicts);
                    if sent.open.is_empty() {
                        return sent.end(End::Delivered { warning: None });
                    }
                    *rest
                }
                verdict => verdict,
            };
            let (reason, asked, applied) = match verdict {
                Verdict::Accepted { warning } => {
                    self.accepted.fetch_add(1, Ordering::Relaxed);
                    return sent.end(End::Delivered { warning });
                }
                Verdict::Rejected { reason, applied } => {
                    sent.maybe_applied |= applied == Applied::Maybe;
                    return sent.end(End::Refused { reason });
                }
                Verdict::RejectedSome { elements } => return sent.end(End::RefusedSome { elements }),
                Verdict::TooLarge { reason } => {
                    sent.maybe_applied |= sent.open.len() > 1 && self.destination.too_large_in_part(route);
                    return sent.end(End::TooLarge { reason });
                }
                Verdict::Stop { reason, advice, blame, applied } => {
                    sent.maybe_applied |= applied == Applied::Maybe;
                    return sent.end(End::Stop { reason, advice, blame });
                }
                Verdict::Retry { reason, after, applied } => (reason, after, applied),
                Verdict::PerElement { .. } => {
                    ("a response that tells nothing of some elements".to_owned(), None, Applied::Maybe)
                }
            };
            sent.maybe_applied |= applied == Applied::Maybe;
            if applied == Applied::Maybe {
                sent.failures += 1;
                sent.accepted_before.get_or_insert_with(accepted);
            }
            let accepted_since = sent.accepted_before.map_or(0, |before| accepted() - before);
            if applied == Applied::Maybe && !self.destination.repeatable(route) {
                let reason = format!("{reason}; repeating it could apply it twice");
                return sent.end(End::GaveUp { reason, failing: true });
            }
            let wait = pace::wait(sent.attempts, asked, |max| self.random.up_to(max));
            if asked.is_some() {
                // The vendor means all of us, not this one request.
                self.bucket().hold_until(self.clock.elapsed() + wait);
            }
            let spent = self.clock.elapsed().saturating_sub(started);
            if sent.attempts >= attempts_max || spent + wait > self.settings.retry_for {
                let times = if sent.attempts == 1 { "once".to_owned() } else { format!("{} times", sent.attempts) };
                let failing = applied == Applied::Maybe;
                let reason = format!("{reason} (tried {times})");
                return Ended { accepted_since, ..sent.end(End::GaveUp { reason, failing }) };
            }
            DeliveryCounters::add_wait(&self.counters.retry_wait_ms, wait);
            if !self.wait(wait, &mut stops).await {
                return sent.end(End::Halted { reason: ASKED_TO_STOP });
            }
        }
    }

    /// Whether a request that failed had nothing to do, where the destination has a question that tells.
    async fn is_done(&self, route: Route, carried: &[&Element], response: &Response, stops: &mut Stops) -> bool {
        let [element] = carried else { return false };
        let Some(question) = self.destination.confirmation_request(route, element, response) else { return false };
        if !self.token(route, stops).await {
            return false;
        }
        self.count(&question, 1);
        let Some(Ok(answer)) = self.exchange(&question, READ_BYTES_MAX, stops).await else { return false };
        self.counters.count_status(answer.status);
        self.destination.confirms(route, element, &answer)
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock()
    }

    fn count(&self, request: &Request, attempt: u32) {
        DeliveryCounters::add(&self.counters.requests, 1);
        DeliveryCounters::add(&self.counters.bytes, request.body.len() as u64);
        if attempt > 1 {
            DeliveryCounters::add(&self.counters.retries, 1);
        }
    }

    /// How long the vendor's own pace for a route makes this attempt wait.
    fn lane_wait(&self, route: Route) -> Duration {
        let Some(pace) = self.destination.pace(route) else { return Duration::ZERO };
        let mut lanes = self.lanes.lock();
        lanes.entry(pace.lane).or_insert_with(|| Bucket::paced(pace)).take(self.clock.elapsed())
    }

    /// Waits for a token; false when we are stopped instead.
    async fn token(&self, route: Route, stops: &mut Stops) -> bool {
        loop {
            let wait = self.bucket().take(self.clock.elapsed()).max(self.lane_wait(route));
            DeliveryCounters::add_wait(&self.counters.rate_wait_ms, wait);
            if !self.wait(wait, stops).await {
                return false;
            }
            // A pause that began while we waited voids the token. Each turn needs a new pause, so this ends.
            if !self.bucket().is_held(self.clock.elapsed()) {
                return true;
            }
        }
    }

    /// Waits; false when we are stopped instead.
    async fn wait(&self, wait: Duration, stops: &mut Stops) -> bool {
        if !wait.is_zero() {
            tokio::select! {
                () = stops.stopped() => {}
                () = self.clock.sleep(wait) => {}
            }
        }
        !stops.stopping()
    }

    /// One attempt; nothing when it was abandoned.
    async fn exchange(
        &self,
        request: &Request,
        body_bytes_max: usize,
        stops: &mut Stops,
    ) -> Option<Result<Response, NoResponse>> {
        let limits = CallLimits { timeout: self.settings.timeout, body_bytes_max };
        let abandoned = async {
            reached(&mut stops.signal, |signal| *signal >= Signal::Stop).await;
            tokio::select! {
                () = reached(&mut stops.signal, |signal| *signal >= Signal::Abandon) => {}
                () = self.clock.sleep(self.settings.grace) => {}
            }
        };
        tokio::select! {
            // An answer that is there counts, whatever else has happened.
            biased;
            response = self.transport.send(request, limits) => Some(response),
            () = abandoned => None,
        }
    }
}
