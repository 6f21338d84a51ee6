//! The delivery of a page of changes: forms requests, keeps a few in flight, settles what ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::counters::DeliveryCounters;
use super::outcome::{RequestEnd, RequestOutcome, Settle};
use super::pace::Bucket;
use super::piece::Batch;
use super::request::RequestSender;
use super::run_log::LogLevel;
use super::settings::DeliverySettings;
use super::stop::{Permit, Signal, Stops};
use super::work::{Learned, PageWork};
use crate::destination::{AddressedChange, Destination, Element};
use crate::error::{Error, Kind, Result};
use crate::format::thousands;
use crate::io::http::Transport;
use crate::io::{Clock, Random};

/// How long responses wait for others that arrive soon after them, unless a request takes less: they share one commit, which
/// costs more than many a request.
const GATHERED_FOR: Duration = Duration::from_millis(2);

/// The delivery to one destination: rate limit, counters and what was learned last as long as this does, so one serves a
/// whole run.
pub struct Delivery<'a> {
    destination: &'a dyn Destination,
    transport: &'a dyn Transport,
    clock: &'a dyn Clock,
    random: &'a Random,
    settings: DeliverySettings,
    signal: watch::Receiver<Signal>,
    bucket: Mutex<Bucket>,
    lanes: Mutex<HashMap<u8, Bucket>>,
    learned: Mutex<Learned>,
    counters: Arc<DeliveryCounters>,
    accepted: AtomicU64,
    next_kept: AtomicU64,
    permit: Option<Permit>,
}

impl<'a> Delivery<'a> {
    /// A delivery to `destination`. Nothing is sent yet.
    pub fn new(
        destination: &'a dyn Destination,
        transport: &'a dyn Transport,
        clock: &'a dyn Clock,
        random: &'a Random,
        settings: DeliverySettings,
        signal: watch::Receiver<Signal>,
    ) -> Delivery<'a> {
        let bucket = Mutex::new(Bucket::new(settings.requests_per_second));
        let (lanes, learned, counters) = (Mutex::default(), Mutex::default(), Arc::default());
        let (accepted, next_kept) = Default::default();
        Delivery {
            destination,
            transport,
            clock,
            random,
            settings,
            signal,
            bucket,
            lanes,
            learned,
            counters,
            accepted,
            next_kept,
            permit: None,
        }
    }

    /// The same that begins no attempt without a permit.
    pub fn permitted_by(self, permit: Option<Permit>) -> Delivery<'a> {
        Delivery { permit, ..self }
    }

    /// Whom it delivers to.
    pub fn destination(&self) -> &'a dyn Destination {
        self.destination
    }

    /// What has been sent so far.
    pub fn counters(&self) -> Arc<DeliveryCounters> {
        Arc::clone(&self.counters)
    }

    /// Delivers a page of changes. Every change gets exactly one outcome through `settle`, also when this fails, except
    /// when `settle` itself does. The page and its encoded requests are held in memory, so the caller bounds it. Two
    /// changes of one key are delivered one after the other, in their order. Pages follow each other: do not call this
    /// concurrently with changes of the same keys.
    ///
    /// Errors: [`Kind::Destination`] when the destination rejects all requests or is down (stop paging);
    /// [`Kind::Interrupted`] after a stop signal; [`Kind::LedgerBusy`] without a permit; whatever `settle` fails with (requests in flight are dropped).
    pub async fn deliver(&self, changes: &[AddressedChange], settle: &dyn Settle) -> Result<()> {
        let (halt, halted) = watch::channel(false);
        let stops = Stops { signal: self.signal.clone(), halted, permit: self.permit.clone() };
        let learned = std::mem::take(&mut *self.learned.lock());
        let mut work = PageWork::new(self.destination, &self.settings, changes, learned);
        let mut failure: Option<Error> = None;
        let mut in_flight = FuturesUnordered::new();
        // Responses are settled while other requests are on their way, one call at a time. A request keeps its place until
        // it is settled, so no more than `concurrency` of them can ever be lost to the ledger by a crash.
        let mut settling: Option<BoxFuture<'_, Result<()>>> = None;
        let (mut unconfirmed, mut being_settled) = (0, 0);
        let mut gathering: Option<BoxFuture<'_, ()>> = None;
        let (mut gathered, mut latency) = (false, Duration::ZERO);
        let outcome = loop {
            if failure.is_none() && *self.signal.borrow() >= Signal::Stop {
                failure = Some(interrupted());
            }
            if failure.is_none() && !stops.permitted() {
                failure = Some(not_permitted());
            }
            while failure.is_none() && in_flight.len() + unconfirmed < work.in_flight_max(self.settings.concurrency) {
                let Some(batch) = work.next_batch(|max| self.random.up_to(max as u64) as usize) else { break };
                in_flight.push(self.send(batch, stops.clone()));
            }
            if in_flight.is_empty() && unconfirmed == 0 {
                match &failure {
                    Some(failure) => work.abandon(failure.what()),
                    None => match work.release_undecided() {
                        Ok(true) => continue,
                        Ok(false) => {}
                        Err(error) => {
                            failure = Some(error);
                            continue;
                        }
                    },
                }
            }
            let wait = GATHERED_FOR.min(latency);
            let more_may_come = !gathered && !wait.is_zero() && !in_flight.is_empty() && failure.is_none();
            if settling.is_none() && unconfirmed > 0 && more_may_come {
                gathering.get_or_insert_with(|| self.clock.sleep(wait));
            } else if settling.is_none() {
                (gathering, gathered) = (None, false);
                let settled = work.take_settled();
                being_settled = unconfirmed;
                if !settled.is_empty() {
                    settling = Some(settle.settle(settled));
                } else if unconfirmed > 0 {
                    // What ended gave no change its outcome: parts of changes, or halves to be sent again.
                    unconfirmed = 0;
                    continue;
                }
            }
            if settling.is_none() && in_flight.is_empty() {
                break failure.map_or(Ok(()), Err);
            }
            let settled = async {
                match &mut settling {
                    Some(settling) => settling.await,
                    None => std::future::pending().await,
                }
            };
            let waited = async {
                match &mut gathering {
                    Some(gathering) => gathering.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                settled = settled => {
                    settling = None;
                    unconfirmed -= being_settled;
                    if let Err(error) = settled {
                        break Err(error);
                    }
                }
                Some(mut ended) = in_flight.next() => {
                    // Whatever else has ended meanwhile is settled with it: one commit instead of several.
                    loop {
                        let (batch, end, took) = ended;
                        latency = took;
                        unconfirmed += 1;
                        if let Err(error) = work.absorb(batch, end) {
                            // Those in flight finish their attempt, but repeat none.
                            halt.send_replace(true);
                            failure.get_or_insert(error);
                        }
                        match in_flight.next().now_or_never() {
                            Some(Some(next)) => ended = next,
                            _ => break,
                        }
                    }
                }
                () = waited => (gathering, gathered) = (None, true),
            }
        };
        drop(settling);
        *self.learned.lock() = work.into_learned();
        outcome
    }

    /// Sends a request; also how long it took.
    async fn send(&self, batch: Batch, stops: Stops) -> (Batch, RequestOutcome, Duration) {
        let started = self.clock.elapsed();
        let sender = RequestSender {
            destination: self.destination,
            transport: self.transport,
            clock: self.clock,
            random: self.random,
            settings: &self.settings,
            bucket: &self.bucket,
            lanes: &self.lanes,
            counters: &self.counters,
            accepted: &self.accepted,
            next_kept: &self.next_kept,
        };
        let elements: Vec<&Element> = batch.pieces.iter().map(|piece| &piece.element).collect();
        let ended = sender.send(batch.route, &elements, batch.attempts_max, stops).await;
        DeliveryCounters::add(&self.counters.traits_sent, batch.traits_accepted(&ended) as u64);
        if let RequestEnd::Accepted { warning: Some(warning) } = &ended.end {
            self.counters.warn(warning, self.clock.now());
        }
        self.log_end(elements.len() as u64, &ended.end);
        let took = self.clock.elapsed().saturating_sub(started);
        (batch, ended, took)
    }

    /// Logs the end of a request with so many groups, where it is out of the ordinary. What a single group is rejected for
    /// is recorded with it.
    fn log_end(&self, groups: u64, end: &RequestEnd) {
        let counted = if groups == 1 { "1 group".to_owned() } else { format!("{} groups", thousands(groups)) };
        let (level, text) = match end {
            RequestEnd::Rejected { reason } if groups > 1 => {
                (LogLevel::Warning, format!("a request with {counted} was rejected and is sent in halves: {reason}"))
            }
            RequestEnd::TooLarge { reason } => {
                (LogLevel::Warning, format!("a request with {counted} was too large: {reason}"))
            }
            RequestEnd::GaveUp { reason, .. } => {
                (LogLevel::Warning, format!("gave up a request with {counted}: {reason}"))
            }
            RequestEnd::Stop { reason, .. } => {
                (LogLevel::Warning, format!("a request with {counted} was refused: {reason}"))
            }
            RequestEnd::Accepted { .. }
            | RequestEnd::Rejected { .. }
            | RequestEnd::RejectedSome { .. }
            | RequestEnd::Halted { .. } => return,
        };
        self.counters.log.add(self.clock.now(), level, &text);
    }
}

fn not_permitted() -> Error {
    Error::new(Kind::LedgerBusy, "this process could not extend its lease in the ledger in time, so it stopped sending")
        .advise("check the network to the ledger's server; the next run sends what is pending")
}

fn interrupted() -> Error {
    Error::new(Kind::Interrupted, "the run was cancelled").advise("run again: the next run sends what is pending")
}
