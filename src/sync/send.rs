//! How is what was decided said? Page by page: mark, say, record; the next page is decided meanwhile.

use std::sync::atomic::Ordering;

use super::Session;
use super::decide::Decision;
use super::read::Survey;
use super::record::Recorder;
use super::report::Counts;
use super::timeline::Timeline;
use crate::error::{Error, Kind, Result};
use crate::ledger::CandidateKind;

/// How the sending ended.
pub(super) struct Executed {
    pub(super) full: bool,
    pub(super) cursor: Option<String>,
    pub(super) beyond_limit: u64,
    /// Why it ended early, after everything learned was recorded.
    pub(super) stopped: Option<Error>,
}

impl Session<'_> {
    /// Page by page: mark, say, record. The next page is read and decided while the current one is said.
    pub(super) async fn say_all(
        &self,
        survey: &Survey,
        counts: &mut Counts,
        timeline: &mut Timeline,
    ) -> Result<Executed> {
        let delivery = self.delivery.ok_or_else(|| Error::new(Kind::Bug, "a run without a way to its destination"))?;
        let total = survey.found.candidates();
        let (mut position, mut missing_seen) = (0, 0);
        let mut room = self.options.limit.unwrap_or(u64::MAX);
        let (mut stopped, mut left) = (None, None);
        let mut beyond_limit = 0;
        let began = self.clock.elapsed();
        let mut next = self.judged(&survey.judge, position).await?;
        while let Some(mut page) = next.take() {
            if self.stopping() {
                stopped = Some(Error::new(Kind::Interrupted, "stopped; what was answered is recorded"));
                break;
            }
            let page_end = position + page.len() as u64;
            cut_to_limit(&mut page, &mut room);
            let cut = position + (page.len() as u64) < page_end;
            position += page.len() as u64;
            missing_seen += page.iter().filter(|decision| decision.kind == CandidateKind::Missing).count() as u64;
            let recorder = Recorder::new(self, survey, counts, timeline, began);
            let following = async { if cut { Ok(None) } else { self.judged(&survey.judge, page_end).await } };
            let (said, following) = tokio::join!(recorder.say(page, delivery), following);
            left = left.or_else(|| recorder.left());
            match said {
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
        // Candidates nobody looked at were certainly not sent.
        let missing_left = survey.found.missing_candidates - missing_seen;
        counts.removed.not_sent += missing_left;
        counts.said.not_sent += total - position - missing_left;
        if let (None, Some(reason)) = (&stopped, left) {
            let error = Error::new(Kind::Destination, format!("some groups were not delivered: {reason}"));
            stopped =
                Some(error.advise("check the destination and the way to it, then run again: it says what is left"));
        }
        let counters = delivery.counters();
        counts.requests = counters.requests.load(Ordering::Relaxed);
        counts.retries = counters.retries.load(Ordering::Relaxed);
        Ok(Executed { full: survey.full, cursor: survey.cursor.clone(), beyond_limit, stopped })
    }
}

/// Cuts a page so that at most `room` changes are said, and takes them from it.
fn cut_to_limit(page: &mut Vec<Decision>, room: &mut u64) {
    let mut said = 0;
    let keep = page
        .iter()
        .position(|decision| {
            said += u64::from(decision.change().is_some());
            said > *room
        })
        .unwrap_or(page.len());
    page.truncate(keep);
    *room -= said.min(*room);
}
