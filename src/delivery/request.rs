//! What becomes of one request? Token → send → interpret → wait and repeat the same elements, until there is an answer that
//! ends it, the budget is used up, or we are asked to stop.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::pace::{self, Bucket};
use super::{Counters, Settings, Signal};
use crate::destination::{Applied, Attempt, Blame, Destination, Element, NoReply, Reply, Request, Route, Verdict};
use crate::env::{Clock, Random, Transport};

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
    pub(super) end: End,
    /// How often it was sent.
    pub(super) attempts: u32,
    /// How many of these the destination failed at: no answer, or one of a server that failed.
    pub(super) failures: u32,
    /// How many requests were accepted since the destination first failed at this one.
    pub(super) accepted_since: u64,
    pub(super) maybe_applied: bool,
}

/// Everything a request needs from its surroundings.
#[derive(Clone, Copy)]
pub(super) struct Wire<'a> {
    pub(super) destination: &'a dyn Destination,
    pub(super) transport: &'a dyn Transport,
    pub(super) clock: &'a dyn Clock,
    pub(super) random: &'a Random,
    pub(super) settings: &'a Settings,
    pub(super) bucket: &'a Mutex<Bucket>,
    /// The vendor's own paces, by lane.
    pub(super) lanes: &'a Mutex<HashMap<u8, Bucket>>,
    pub(super) counters: &'a Counters,
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
        let mut maybe_applied = false;
        let mut first_attempt_at = None;
        let (mut attempt, mut failures): (u32, u32) = (0, 0);
        let mut accepted_before = None;
        let accepted = || self.accepted.load(Ordering::Relaxed);
        let ended = |failures, end, attempts, maybe_applied| Ended {
            end,
            attempts,
            failures,
            accepted_since: 0,
            maybe_applied,
        };
        loop {
            if !self.token(route, &mut stops).await {
                return ended(failures, End::Halted { reason: ASKED_TO_STOP }, attempt, maybe_applied);
            }
            let started = *first_attempt_at.get_or_insert_with(|| self.clock.elapsed());
            attempt += 1;
            let request = self.destination.request(route, elements, Attempt { at: self.clock.now(), number: attempt });
            self.count(&request, attempt);
            let (reason, asked, applied) = match self.exchange(&request, &mut stops).await {
                None => return ended(failures, End::Halted { reason: ABANDONED }, attempt, true),
                Some(Err(NoReply { applied, what })) => {
                    self.counters.count_status(0);
                    (what, None, applied)
                }
                Some(Ok(reply)) => {
                    self.counters.count_status(reply.status);
                    if let Some(pause) = self.destination.pause(&reply) {
                        self.bucket().hold_until(self.clock.elapsed() + pause);
                    }
                    match self.destination.interpret(route, elements.len(), &reply) {
                        Verdict::Delivered { warning } => {
                            self.accepted.fetch_add(1, Ordering::Relaxed);
                            return ended(failures, End::Delivered { warning }, attempt, maybe_applied);
                        }
                        Verdict::Refused { reason, applied } => {
                            let maybe_applied = maybe_applied || applied == Applied::Maybe;
                            return ended(failures, End::Refused { reason }, attempt, maybe_applied);
                        }
                        Verdict::RefusedSome { elements } => {
                            return ended(failures, End::RefusedSome { elements }, attempt, maybe_applied);
                        }
                        Verdict::TooLarge { reason } => {
                            let in_part = elements.len() > 1 && self.destination.too_large_in_part(route);
                            return ended(failures, End::TooLarge { reason }, attempt, maybe_applied || in_part);
                        }
                        Verdict::Stop { reason, advice, blame, applied } => {
                            let maybe_applied = maybe_applied || applied == Applied::Maybe;
                            return ended(failures, End::Stop { reason, advice, blame }, attempt, maybe_applied);
                        }
                        Verdict::Retry { reason, after, applied } => (reason, after, applied),
                    }
                }
            };
            maybe_applied |= applied == Applied::Maybe;
            if applied == Applied::Maybe {
                failures += 1;
                accepted_before.get_or_insert_with(accepted);
            }
            let accepted_since = accepted_before.map_or(0, |before| accepted() - before);
            if applied == Applied::Maybe && !self.destination.repeatable(route) {
                let reason = format!("{reason}; repeating it could apply it twice");
                return ended(failures, End::GaveUp { reason, failing: true }, attempt, maybe_applied);
            }
            let wait = pace::wait(attempt, asked, |max| self.random.up_to(max));
            if asked.is_some() {
                // The vendor means all of us, not this one request.
                self.bucket().hold_until(self.clock.elapsed() + wait);
            }
            let spent = self.clock.elapsed().saturating_sub(started);
            if attempt >= attempts_max || spent + wait > self.settings.retry_for {
                let times = if attempt == 1 { "once".to_owned() } else { format!("{attempt} times") };
                let failing = applied == Applied::Maybe;
                let reason = format!("{reason} (tried {times})");
                let ended = ended(failures, End::GaveUp { reason, failing }, attempt, maybe_applied);
                return Ended { accepted_since, ..ended };
            }
            Counters::add_wait(&self.counters.retry_wait_ms, wait);
            if !self.wait(wait, &mut stops).await {
                return ended(failures, End::Halted { reason: ASKED_TO_STOP }, attempt, maybe_applied);
            }
        }
    }

    fn bucket(&self) -> std::sync::MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn count(&self, request: &Request, attempt: u32) {
        Counters::add(&self.counters.requests, 1);
        Counters::add(&self.counters.bytes, request.body.len() as u64);
        if attempt > 1 {
            Counters::add(&self.counters.retries, 1);
        }
    }

    /// How long the vendor's own pace for a route makes this attempt wait.
    fn lane_wait(&self, route: Route) -> Duration {
        let Some(pace) = self.destination.pace(route) else { return Duration::ZERO };
        let mut lanes = self.lanes.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        lanes.entry(pace.lane).or_insert_with(|| Bucket::paced(pace)).take(self.clock.elapsed())
    }

    /// Waits for a token; false when we are stopped instead.
    async fn token(&self, route: Route, stops: &mut Stops) -> bool {
        loop {
            let wait = self.bucket().take(self.clock.elapsed()).max(self.lane_wait(route));
            Counters::add_wait(&self.counters.rate_wait_ms, wait);
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
    async fn exchange(&self, request: &Request, stops: &mut Stops) -> Option<Result<Reply, NoReply>> {
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
            reply = self.transport.send(request, self.settings.timeout) => Some(reply),
            () = abandoned => None,
        }
    }
}
