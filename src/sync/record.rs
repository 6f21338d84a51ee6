//! The recorder sends one page: what needs no request is recorded immediately, the rest is marked, handed to delivery, and
//! recorded batch by batch as the responses arrive.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::decide::{Decider, Decision};
use super::mirror::SettledKeys;
use super::read::ComparisonPhase;
use super::report::Counts;
use super::request_log::{LoggedGroup, RequestLog};
use super::session::{Event, Session};
use super::timeline::Timeline;
use super::trait_counts::TraitTally;
use crate::delivery::{Delivery, DeliveryOutcome, Settle, SettledChange};
use crate::destination::AddressedChange;
use crate::error::Result;
use crate::ledger::{CandidateKind, ChangeOutcome, JournalEntry};

/// Adds a decision to the counts, with the outcome of its change if one was sent.
pub(super) fn count(counts: &mut Counts, decision: &Decision, outcome: ChangeOutcome) {
    let outcome = decision.outcome(outcome);
    let missing = decision.kind == CandidateKind::Missing;
    let new = decision.kind == CandidateKind::New && outcome == ChangeOutcome::Delivered;
    counts.add(outcome, decision.traits(), missing, new);
}

/// What is counted and measured of a run while it sends.
pub(super) struct RunSums<'a> {
    pub(super) counts: &'a mut Counts,
    pub(super) timeline: &'a mut Timeline,
    pub(super) traits: TraitTally,
    pub(super) settled: &'a mut SettledKeys,
}

/// One page on its way.
pub(super) struct Recorder<'a, 'r> {
    session: &'a Session<'a>,
    decider: &'a Decider,
    run: &'a str,
    /// What was handed to delivery, in that order; each is taken when its outcome is known.
    sent: Mutex<Vec<Option<Decision>>>,
    total: u64,
    sums: Mutex<&'a mut RunSums<'r>>,
    /// When the sending began, on the session's clock.
    began: Duration,
    /// The first of the changes that were left open, and why it was.
    left: Mutex<Option<String>>,
    log: &'a RequestLog,
}

impl<'a, 'r> Recorder<'a, 'r> {
    pub(super) fn new(
        session: &'a Session<'a>,
        phase: &'a ComparisonPhase,
        sums: &'a mut RunSums<'r>,
        began: Duration,
        log: &'a RequestLog,
    ) -> Recorder<'a, 'r> {
        Recorder {
            session,
            decider: &phase.decider,
            run: &phase.run,
            sent: Mutex::default(),
            total: phase.found.candidates(),
            sums: Mutex::new(sums),
            began,
            left: Mutex::default(),
            log,
        }
    }

    /// Sends the page. Every decision has been recorded when this returns, unless it fails.
    pub(super) async fn send(&self, page: Vec<Decision>, delivery: &Delivery<'_>) -> Result<()> {
        let (mut sent, unchanged): (Vec<Decision>, Vec<Decision>) = page.into_iter().partition(Decision::sends);
        self.record(
            unchanged.into_iter().map(|decision| self.entry(decision, ChangeOutcome::Unchanged, None)).collect(),
        )
        .await?;
        if sent.is_empty() {
            return Ok(());
        }
        let destination = delivery.destination();
        let changes: Vec<AddressedChange> =
            sent.iter_mut().filter_map(|decision| decision.addressed_to(destination)).collect();
        let keys = changes.iter().map(|change| change.key.clone()).collect();
        *self.sent.lock() = sent.into_iter().map(Some).collect();
        self.session.ledger.mark(&self.session.mapping.name, self.run, keys).await?;
        delivery.deliver(&changes, self).await
    }

    /// Why changes were left open, if any was.
    pub(super) fn left(&self) -> Option<String> {
        self.left.lock().clone()
    }

    fn entry(&self, decision: Decision, outcome: ChangeOutcome, reason: Option<String>) -> JournalEntry {
        {
            let sums = &mut *self.sums.lock();
            count(sums.counts, &decision, outcome);
            sums.settled.note(&decision.key, decision.outcome(outcome));
            if outcome == ChangeOutcome::Delivered {
                sums.traits.add(&decision);
            }
        }
        self.decider.entry(decision, outcome, reason)
    }

    async fn record(&self, entries: Vec<JournalEntry>) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let settled = entries.len() as u64;
        let session = self.session;
        if let Some(delivery) = session.delivery {
            let counters = delivery.counters();
            let (requests, retries) =
                (counters.requests.load(Ordering::Relaxed), counters.retries.load(Ordering::Relaxed));
            self.sums.lock().timeline.note(session.clock.elapsed().saturating_sub(self.began), requests, retries);
        }
        session.ledger.record(&session.mapping.name, self.run, session.clock.now(), entries).await?;
        session.monitor.note(Event::Sending { settled, total: self.total });
        Ok(())
    }
}

#[async_trait]
impl Settle for Recorder<'_, '_> {
    async fn settle(&self, settled: Vec<SettledChange>) -> Result<()> {
        let mut logged = Vec::new();
        let entries = settled.into_iter().filter_map(|SettledChange { index, outcome, requests }| {
            let (outcome, reason) = match outcome {
                DeliveryOutcome::Delivered => (ChangeOutcome::Delivered, None),
                DeliveryOutcome::Rejected { reason, partly_applied: false } => (ChangeOutcome::Rejected, Some(reason)),
                DeliveryOutcome::Rejected { reason, partly_applied: true } => {
                    (ChangeOutcome::PartlyRejected, Some(reason))
                }
                DeliveryOutcome::NotSent { reason } => (ChangeOutcome::Pending, Some(reason)),
                DeliveryOutcome::Unconfirmed { reason } => (ChangeOutcome::Unconfirmed, Some(reason)),
            };
            // Delivery gives one outcome to each change; a second one would find nothing to record.
            let decision = self.sent.lock().get_mut(index)?.take()?;
            if matches!(outcome, ChangeOutcome::Pending | ChangeOutcome::Unconfirmed) {
                let why = || format!("`{}`: {}", decision.key.escape_debug(), reason.as_deref().unwrap_or_default());
                self.left.lock().get_or_insert_with(why);
            }
            if !requests.is_empty() {
                logged.push(LoggedGroup { key: decision.key.clone(), outcome, requests });
            }
            Some(self.entry(decision, outcome, reason))
        });
        self.record(entries.collect()).await?;
        self.log.add(self.session.clock.now(), logged).await;
        Ok(())
    }
}
