//! Sending the decisions of a run, page by page: mark, send, record; the next page is decided meanwhile.

use std::sync::atomic::Ordering;

use super::approved::{ApprovedChanges, WithheldChanges};
use super::decide::Decision;
use super::mirror::SettledKeys;
use super::read::ComparisonPhase;
use super::record::{Recorder, RunSums};
use super::report::{Counts, Detail};
use super::request_log::RequestLog;
use super::session::Session;
use super::trait_counts::TraitTally;
use crate::error::{Error, Kind, Result};
use crate::format::thousands;
use crate::ledger::{CandidateKind, Cursor};
use crate::mapping::plain::PlainAssembly;

/// How the sending ended.
pub(super) struct SendResult {
    pub(super) full: bool,
    pub(super) cursor: Option<Cursor>,
    pub(super) beyond_limit: u64,
    /// Why it ended early, after every outcome was recorded.
    pub(super) stopped: Option<Error>,
}

impl Session<'_> {
    /// Sends all pages. The next page is read and decided while the current one is sent.
    pub(super) async fn send_all(
        &self,
        phase: &ComparisonPhase,
        approved: Option<&ApprovedChanges>,
        counts: &mut Counts,
        detail: &mut Detail,
        (log, settled): (&RequestLog, &mut SettledKeys),
    ) -> Result<SendResult> {
        let timeline = &mut detail.timeline;
        let mut sums = RunSums { counts, timeline, traits: TraitTally::default(), settled };
        let sent = self.send_pages(phase, approved, &mut sums, log).await;
        detail.traits = sums.traits.finish(phase.decider.plain.iter().flat_map(PlainAssembly::names));
        sent
    }

    async fn send_pages(
        &self,
        phase: &ComparisonPhase,
        approved: Option<&ApprovedChanges>,
        sums: &mut RunSums<'_>,
        log: &RequestLog,
    ) -> Result<SendResult> {
        let delivery = self.delivery.ok_or_else(|| Error::new(Kind::Bug, "a run without a way to its destination"))?;
        let total = phase.found.candidates();
        let (mut position, mut missing_seen) = (0, 0);
        let mut room = self.options.limit.unwrap_or(u64::MAX);
        let (mut stopped, mut left) = (None, None);
        let (mut beyond_limit, mut outdated) = (0, 0);
        let began = self.clock.elapsed();
        let mut next = self.decided(&phase.decider, position).await?;
        while let Some(mut page) = next.take() {
            if self.stopping() {
                stopped = Some(Error::new(Kind::Interrupted, "run cancelled"));
                break;
            }
            let page_end = position + page.len() as u64;
            if let Some(approved) = approved {
                let WithheldChanges { rows, missing } = approved.withhold(&mut page, delivery.destination());
                sums.counts.changes.pending += rows;
                sums.counts.removed.pending += missing;
                outdated += rows + missing;
                position += rows + missing;
                missing_seen += missing;
            }
            cut_to_limit(&mut page, &mut room);
            let cut = position + (page.len() as u64) < page_end;
            position += page.len() as u64;
            missing_seen += page.iter().filter(|decision| decision.kind == CandidateKind::Missing).count() as u64;
            let recorder = Recorder::new(self, phase, sums, began, log);
            let following = async { if cut { Ok(None) } else { self.decided(&phase.decider, page_end).await } };
            let (sent, following) = tokio::join!(recorder.send(page, delivery), following);
            left = left.or_else(|| recorder.left());
            match sent {
                Ok(()) => next = following?,
                Err(error) if matches!(error.kind(), Kind::Destination | Kind::Interrupted) => {
                    stopped = Some(error);
                    break;
                }
                Err(error) => return Err(error),
            }
            if cut {
                beyond_limit = total - position;
            }
        }
        let counts = &mut *sums.counts;
        // Candidates of pages that were not reached are pending.
        let missing_left = phase.found.missing_candidates - missing_seen;
        counts.removed.pending += missing_left;
        counts.changes.pending += total - position - missing_left;
        if stopped.as_ref().is_some_and(|error| error.kind() == Kind::Interrupted) {
            let sent = counts.changes.delivered + counts.removed.delivered;
            let (sent, pending) = (thousands(sent), thousands(counts.unfinished()));
            stopped = Some(Error::new(Kind::Interrupted, format!("run cancelled: {sent} sent, {pending} pending")));
        }
        if let (None, Some(reason)) = (&stopped, left) {
            let error = Error::new(Kind::Destination, format!("some groups were not delivered: {reason}"));
            stopped =
                Some(error.advise(
                    "check the destination and the network, then run again: the next run sends what is pending",
                ));
        }
        if outdated > 0 && stopped.is_none() {
            let what = match outdated {
                1 => "1 group differs from the plan and was not sent".to_owned(),
                groups => format!("{} groups differ from the plan and were not sent", thousands(groups)),
            };
            stopped = Some(Error::new(Kind::PlanOutdated, what).advise(
                "rows or the synced state changed after the plan was made: make a new one, `groupcast plan --out FILE`",
            ));
        }
        let counters = delivery.counters();
        counts.requests = counters.requests.load(Ordering::Relaxed);
        counts.retries = counters.retries.load(Ordering::Relaxed);
        Ok(SendResult { full: phase.full, cursor: phase.cursor.clone(), beyond_limit, stopped })
    }
}

/// Cuts a page so that at most `room` changes are sent, and subtracts them from it.
fn cut_to_limit(page: &mut Vec<Decision>, room: &mut u64) {
    let mut sent = 0;
    let keep = page
        .iter()
        .position(|decision| {
            sent += u64::from(decision.sends());
            sent > *room
        })
        .unwrap_or(page.len());
    page.truncate(keep);
    *room -= sent.min(*room);
}
