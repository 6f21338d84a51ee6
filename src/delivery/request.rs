//! One request, with its retries: token → send → interpret → wait and send the same elements again, until a response ends
//! it, its attempts or its time are used up, or the run stops.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::{Mutex, MutexGuard};
use sha2::{Digest, Sha256};

use super::counters::DeliveryCounters;
use super::outcome::{ElementOutcome, LastRequest, RequestEnd, RequestOutcome};
use super::pace::{self, Bucket};
use super::query;
use super::run_log::LogLevel;
use super::settings::{DeliverySettings, KeepRequests};
use super::stop::{Signal, Stops, reached};
use crate::destination::{Attempt, Destination, Element, ElementVerdict, Route, Verdict};
use crate::format;
use crate::io::http::exchange::RawExchange;
use crate::io::http::{Applied, CallLimits, NoResponse, Request, Response, Transport};
use crate::io::{Clock, Random};

/// A request on its way.
struct InFlight<'a> {
    /// The elements without an outcome, and their indexes in the whole request.
    open: Vec<(usize, &'a Element)>,
    attempts: u32,
    failures: u32,
    /// How many requests had been accepted when the destination first failed at this one.
    accepted_before: Option<u64>,
    maybe_applied: bool,
    settled: Vec<ElementOutcome>,
    /// The last attempt, where it is kept.
    last: Option<Arc<LastRequest>>,
}

impl<'a> InFlight<'a> {
    fn carried(&self) -> Vec<&'a Element> {
        self.open.iter().map(|(_, element)| *element).collect()
    }

    /// Takes in the verdicts on single elements, by their index among those carried.
    fn settle(&mut self, verdicts: Vec<(usize, ElementVerdict)>) {
        let mut verdicts: HashMap<usize, ElementVerdict> = verdicts.into_iter().collect();
        let open = std::mem::take(&mut self.open);
        for (at, (index, element)) in open.into_iter().enumerate() {
            match verdicts.remove(&at) {
                Some(verdict) => {
                    let last = self.last.clone();
                    self.settled.push(ElementOutcome { index, verdict, maybe_applied: self.maybe_applied, last });
                }
                None => self.open.push((index, element)),
            }
        }
    }

    fn end(self, end: RequestEnd) -> RequestOutcome {
        let InFlight { attempts, failures, maybe_applied, settled, last, .. } = self;
        RequestOutcome { end, attempts, failures, accepted_since: 0, maybe_applied, settled, last }
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

/// Whether a verdict on a request with so many elements leaves none of them undelivered.
fn delivers_all(verdict: &Verdict, elements: usize) -> bool {
    match verdict {
        Verdict::Accepted { .. } => true,
        Verdict::PerElement { verdicts, .. } => {
            verdicts.len() == elements && verdicts.iter().all(|(_, verdict)| *verdict == ElementVerdict::Accepted)
        }
        _ => false,
    }
}

/// Sends requests: everything that one needs from its surroundings.
#[derive(Clone, Copy)]
pub(super) struct RequestSender<'a> {
    pub(super) destination: &'a dyn Destination,
    pub(super) transport: &'a dyn Transport,
    pub(super) clock: &'a dyn Clock,
    pub(super) random: &'a Random,
    pub(super) settings: &'a DeliverySettings,
    pub(super) bucket: &'a Mutex<Bucket>,
    /// The vendor's own rate limits, by lane.
    pub(super) lanes: &'a Mutex<HashMap<u8, Bucket>>,
    pub(super) counters: &'a DeliveryCounters,
    /// How many requests were accepted.
    pub(super) accepted: &'a AtomicU64,
    /// The number of the next request that is kept.
    pub(super) next_kept: &'a AtomicU64,
}

/// Longest response to a change that is read: vendors' are a few hundred bytes, errors for each element a few thousand.
const RESPONSE_BYTES_MAX: usize = 64 * 1024;

const STOPPED_BEFORE: &str = "the run stopped before it was sent";
const STOPPED_WAITING: &str = "the run stopped before a response arrived";

impl RequestSender<'_> {
    /// Sends until there is an end, at most `attempts_max` times.
    pub(super) async fn send(
        &self,
        route: Route,
        elements: &[&Element],
        attempts_max: u32,
        mut stops: Stops,
    ) -> RequestOutcome {
        let open = elements.iter().copied().enumerate().collect();
        let mut sent = InFlight {
            open,
            attempts: 0,
            failures: 0,
            accepted_before: None,
            maybe_applied: false,
            settled: Vec::new(),
            last: None,
        };
        let accepted = || self.accepted.load(Ordering::Relaxed);
        let mut first = None;
        loop {
            if !self.token(route, &mut stops).await {
                return sent.end(RequestEnd::Halted { reason: STOPPED_BEFORE });
            }
            let at = self.clock.now();
            let (started, id) = *first.get_or_insert_with(|| (self.clock.elapsed(), request_id(elements, at)));
            sent.attempts += 1;
            let carried = sent.carried();
            let attempt = Attempt { at, number: sent.attempts, request: id };
            let request = self.destination.request(route, &carried, attempt);
            self.count(&request, sent.attempts);
            let began = self.clock.elapsed();
            let result = self.exchange(&request, RESPONSE_BYTES_MAX, &mut stops).await;
            let timing = (at, self.clock.elapsed().saturating_sub(began), sent.attempts);
            let Some(result) = result else {
                let what = STOPPED_WAITING.to_owned();
                let result = Err(NoResponse { applied: Applied::Maybe, what });
                sent.last = self.kept(false, &carried, request, timing, result);
                sent.maybe_applied = true;
                return sent.end(RequestEnd::Halted { reason: STOPPED_WAITING });
            };
            let verdict = match &result {
                Err(NoResponse { applied, what }) => {
                    self.counters.count_status(0);
                    Verdict::Retry { reason: what.clone(), after: None, applied: *applied }
                }
                Ok(response) => {
                    self.counters.count_status(response.status);
                    if let Some(pause) = self.destination.pause(response) {
                        self.bucket().hold_until(self.clock.elapsed() + pause);
                        self.log_pause("the rate limit is used up", pause);
                    }
                    match self.destination.interpret_each(route, &carried, response) {
                        Verdict::Retry { .. }
                            if self.had_nothing_to_do(route, &carried, response, &mut stops).await =>
                        {
                            Verdict::ACCEPTED
                        }
                        verdict => verdict,
                    }
                }
            };
            let delivered = delivers_all(&verdict, carried.len());
            sent.last = self.kept(delivered, &carried, request, timing, result);
            let verdict = match verdict {
                Verdict::PerElement { verdicts, warning, rest } => {
                    if let Some(warning) = warning {
                        self.counters.warn(&warning, self.clock.now());
                    }
                    if verdicts.iter().any(|(_, verdict)| *verdict == ElementVerdict::Accepted) {
                        self.accepted.fetch_add(1, Ordering::Relaxed);
                    }
                    sent.settle(verdicts);
                    if sent.open.is_empty() {
                        return sent.end(RequestEnd::Accepted { warning: None });
                    }
                    *rest
                }
                verdict => verdict,
            };
            let (reason, after, applied) = match verdict {
                Verdict::Accepted { warning } => {
                    self.accepted.fetch_add(1, Ordering::Relaxed);
                    return sent.end(RequestEnd::Accepted { warning });
                }
                Verdict::Rejected { reason, applied } => {
                    sent.maybe_applied |= applied == Applied::Maybe;
                    return sent.end(RequestEnd::Rejected { reason });
                }
                Verdict::RejectedSome { elements } => return sent.end(RequestEnd::RejectedSome { elements }),
                Verdict::TooLarge { reason } => {
                    sent.maybe_applied |= sent.open.len() > 1 && self.destination.too_large_in_part(route);
                    return sent.end(RequestEnd::TooLarge { reason });
                }
                Verdict::Stop { reason, advice, blame, applied } => {
                    sent.maybe_applied |= applied == Applied::Maybe;
                    return sent.end(RequestEnd::Stop { reason, advice, blame });
                }
                Verdict::Retry { reason, after, applied } => (reason, after, applied),
                Verdict::PerElement { .. } => {
                    ("the response has no result for some elements".to_owned(), None, Applied::Maybe)
                }
            };
            sent.maybe_applied |= applied == Applied::Maybe;
            if applied == Applied::Maybe {
                sent.failures += 1;
                sent.accepted_before.get_or_insert_with(accepted);
            }
            let accepted_since = sent.accepted_before.map_or(0, |before| accepted() - before);
            if applied == Applied::Maybe && !self.destination.repeatable(route) {
                let reason = format!("{reason}; retrying it could apply it twice");
                return sent.end(RequestEnd::GaveUp { reason, failing: true });
            }
            let wait = pace::wait(sent.attempts, after, |max| self.random.up_to(max));
            if after.is_some() {
                // The vendor means all of us, not this one request.
                self.bucket().hold_until(self.clock.elapsed() + wait);
                self.log_pause(&reason, wait);
            }
            let spent = self.clock.elapsed().saturating_sub(started);
            if sent.attempts >= attempts_max || spent + wait > self.settings.retry_for {
                let times = if sent.attempts == 1 { "once".to_owned() } else { format!("{} times", sent.attempts) };
                let failing = applied == Applied::Maybe;
                let reason = format!("{reason} (tried {times})");
                return RequestOutcome { accepted_since, ..sent.end(RequestEnd::GaveUp { reason, failing }) };
            }
            DeliveryCounters::add_wait(&self.counters.retry_wait_ms, wait);
            if after.is_none() {
                self.counters.log.add(self.clock.now(), LogLevel::Warning, &format!("{reason}; retrying the request"));
            }
            if !self.wait(wait, &mut stops).await {
                return sent.end(RequestEnd::Halted { reason: STOPPED_BEFORE });
            }
        }
    }

    /// An attempt to be kept, if attempts like it are.
    fn kept(
        &self,
        delivered: bool,
        carried: &[&Element],
        request: Request,
        timing: (DateTime<Utc>, Duration, u32),
        result: Result<Response, NoResponse>,
    ) -> Option<Arc<LastRequest>> {
        match self.settings.keep {
            KeepRequests::Never => return None,
            KeepRequests::Undelivered if delivered => return None,
            KeepRequests::Undelivered | KeepRequests::Always => {}
        }
        let masked = self.destination.masked(&request);
        let exchange = RawExchange::new((&request, masked), self.destination.secrets(), timing, result);
        let number = self.next_kept.fetch_add(1, Ordering::Relaxed);
        Some(Arc::new(LastRequest { number, changes: carried.len(), exchange }))
    }

    /// Whether a request that failed had nothing to do, where the destination has a query that shows it.
    async fn had_nothing_to_do(
        &self,
        route: Route,
        carried: &[&Element],
        response: &Response,
        stops: &mut Stops,
    ) -> bool {
        let [element] = carried else { return false };
        let Some(request) = self.destination.confirmation_request(route, element, response) else { return false };
        if !self.token(route, stops).await {
            return false;
        }
        self.count(&request, 1);
        let Some(Ok(confirmation)) = self.exchange(&request, query::LIMITS.body_bytes_max, stops).await else {
            return false;
        };
        self.counters.count_status(confirmation.status);
        self.destination.confirms(route, element, &confirmation)
    }

    /// Logs that no request starts for so long.
    fn log_pause(&self, why: &str, pause: Duration) {
        // The odd half second is ours; without it, the same pause is one line.
        let seconds = pause.as_secs().max(1);
        let text = format!("{why}; requests pause for {}", format::duration(Duration::from_secs(seconds)));
        self.counters.log.add(self.clock.now(), LogLevel::Warning, &text);
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

    /// How long the vendor's own rate limit for a route makes this attempt wait.
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
        let started = self.clock.elapsed();
        let response = tokio::select! {
            // A response that is there counts, whatever else has happened.
            biased;
            response = self.transport.send(request, limits) => response,
            () = abandoned => return None,
        };
        if response.is_ok() {
            self.counters.count_response(self.clock.elapsed().saturating_sub(started));
        }
        Some(response)
    }
}
