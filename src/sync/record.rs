//! Says one page: what needs no word is recorded at once, the rest is marked, handed to delivery, and recorded batch by
//! batch as the answers arrive.

use std::sync::Mutex;

use async_trait::async_trait;

use super::decide::{Decision, Judgement};
use super::report::Counts;
use super::{Event, Session, count};
use crate::delivery::{Delivery, Fate, Settle};
use crate::destination::Addressed;
use crate::error::Result;
use crate::ledger::{Entry, Outcome};

/// One page on its way.
pub(super) struct Recorder<'a> {
    session: &'a Session<'a>,
    run: &'a str,
    page: &'a [Decision],
    /// Positions in `page` of the changes, in the order they are handed to delivery.
    said: Vec<usize>,
    total: u64,
    counts: Mutex<&'a mut Counts>,
    /// Why the first of the changes that were left open was.
    left: Mutex<Option<String>>,
}

impl<'a> Recorder<'a> {
    pub(super) fn new(
        session: &'a Session<'a>,
        run: &'a str,
        page: &'a [Decision],
        total: u64,
        counts: &'a mut Counts,
    ) -> Recorder<'a> {
        let said = (0..page.len()).filter(|at| page[*at].change().is_some()).collect();
        Recorder { session, run, page, said, total, counts: Mutex::new(counts), left: Mutex::default() }
    }

    /// Says the page. Every decision has been recorded when this returns, unless it fails.
    pub(super) async fn say(&self, delivery: &Delivery<'_>) -> Result<()> {
        let silent: Vec<Entry> = self
            .page
            .iter()
            .filter(|decision| !matches!(decision.verdict, Judgement::Say { .. }))
            .map(|decision| {
                self.tally(decision, Outcome::Same);
                decision.entry(Outcome::Same, None)
            })
            .collect();
        self.record(silent).await?;
        if self.said.is_empty() {
            return Ok(());
        }
        let changes: Vec<Addressed> = self.said.iter().filter_map(|at| self.page[*at].addressed()).collect();
        let keys = changes.iter().map(|change| change.key.clone()).collect();
        self.session.ledger.mark(&self.session.mapping.name, self.run, keys).await?;
        delivery.deliver(&changes, self).await
    }

    /// Why changes were left open, if any was.
    pub(super) fn left(&self) -> Option<String> {
        self.left.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    fn tally(&self, decision: &Decision, outcome: Outcome) {
        count(&mut self.counts.lock().unwrap_or_else(|poisoned| poisoned.into_inner()), decision, outcome);
    }

    async fn record(&self, entries: Vec<Entry>) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let settled = entries.len() as u64;
        let session = self.session;
        session.ledger.record(&session.mapping.name, self.run, session.clock.now(), entries).await?;
        session.monitor.note(Event::Saying { settled, total: self.total });
        Ok(())
    }
}

#[async_trait]
impl Settle for Recorder<'_> {
    async fn settle(&self, results: Vec<(usize, Fate)>) -> Result<()> {
        let entries = results.into_iter().map(|(index, fate)| {
            let decision = &self.page[self.said[index]];
            let (outcome, reason) = match fate {
                Fate::Delivered => (Outcome::Delivered, None),
                Fate::Rejected { reason, partly_applied: false } => (Outcome::Rejected, Some(reason)),
                Fate::Rejected { reason, partly_applied: true } => (Outcome::PartlyRejected, Some(reason)),
                Fate::NotSent { reason } => (Outcome::NotSent, Some(reason)),
                Fate::Unknown { reason } => (Outcome::Unknown, Some(reason)),
            };
            self.tally(decision, outcome);
            if matches!(outcome, Outcome::NotSent | Outcome::Unknown) {
                let mut left = self.left.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                left.get_or_insert_with(|| reason.clone().unwrap_or_default());
            }
            decision.entry(outcome, reason)
        });
        self.record(entries.collect()).await
    }
}
