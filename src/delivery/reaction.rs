//! How a page reacts to the outcome of a request: what it means for each of its changes, what is sent next, and when
//! nothing more is. Pure.

use std::collections::{HashMap, VecDeque};

use super::breaker::{FailureCause, REJECTIONS_MAX, Release, Undecided};
use super::outcome::{ElementOutcome, RequestEnd, RequestOutcome};
use super::piece::{Batch, Piece};
use super::work::PageWork;
use crate::destination::batch;
use crate::destination::{Blame, ElementVerdict, Route};
use crate::error::{Error, Kind};

/// A request of less than this share of a route's documented limit is too large for something else than the destination.
const FAR_BELOW: usize = 10;

impl PageWork<'_> {
    /// Called when nothing is in flight and nothing can be sent: nothing is left to compare undecided groups
    /// with. Returns
    /// whether there may be more to send now.
    ///
    /// Errors ([`Kind::Destination`]): nothing works, so that no group is to blame.
    pub(super) fn release_undecided(&mut self) -> Result<bool, Error> {
        let undecided = std::mem::take(&mut self.undecided);
        if undecided.is_empty() {
            return Ok(false);
        }
        let release = |undecided| self.learned.failures.at_the_end(undecided, self.attempts_max);
        let releases: Vec<Option<Release>> = undecided.iter().map(release).collect();
        let stopped = releases.contains(&None);
        for (undecided, release) in undecided.into_iter().zip(releases) {
            match release {
                Some(release) => self.release(undecided, release),
                None => self.undecided.push(undecided),
            }
        }
        if stopped { Err(self.blocked_error()) } else { Ok(true) }
    }

    fn release(&mut self, mut undecided: Undecided, release: Release) {
        match release {
            Release::Reject => self.reject(undecided.piece, undecided.reason),
            Release::LeaveUnsent => self.leave_piece_unsent(undecided.piece, &undecided.reason),
            Release::Retry => {
                undecided.piece.retried_alone = true;
                self.queue.push_back(Batch::of(undecided.route, vec![undecided.piece]));
            }
        }
    }

    /// Takes in the outcome of a request. An error concerns the whole destination: nothing more must be sent.
    pub(super) fn absorb(&mut self, batch: Batch, mut outcome: RequestOutcome) -> Result<(), Error> {
        let settled = std::mem::take(&mut outcome.settled);
        if settled.is_empty() {
            return self.absorb_whole(batch, outcome);
        }
        let (route, mut pieces): (Route, Vec<Option<Piece>>) =
            (batch.route, batch.pieces.into_iter().map(Some).collect());
        self.learned.failures.reached();
        if settled.iter().any(|one| one.verdict == ElementVerdict::Accepted) {
            self.accepted(pieces.len(), outcome.attempts);
        }
        let mut rejected = None;
        for ElementOutcome { index, verdict, maybe_applied, last } in settled {
            let Some(mut piece) = pieces.get_mut(index).and_then(Option::take) else { continue };
            piece.maybe_applied |= maybe_applied;
            piece.last = last.or(piece.last);
            match verdict {
                ElementVerdict::Accepted => self.accept_piece(piece),
                ElementVerdict::Rejected { reason } => {
                    rejected = Some(reason.clone());
                    self.defer(route, piece, FailureCause::Rejected, reason);
                }
                ElementVerdict::Unclear { reason } => {
                    piece.maybe_applied = true;
                    self.leave_piece_unsent(piece, &reason);
                }
            }
        }
        let others: Vec<Piece> = pieces.into_iter().flatten().collect();
        let end = if others.is_empty() { Ok(()) } else { self.absorb_whole(Batch::of(route, others), outcome) };
        let Some(reason) = rejected else { return end };
        // One response, however many elements it names.
        self.learned.failures.count_rejected_some();
        end.and(self.check_rejections(&reason))
    }

    fn absorb_whole(&mut self, mut batch: Batch, outcome: RequestOutcome) -> Result<(), Error> {
        for piece in &mut batch.pieces {
            piece.maybe_applied |= outcome.maybe_applied;
            if outcome.last.is_some() {
                piece.last.clone_from(&outcome.last);
            }
        }
        if let [piece] = batch.pieces.as_mut_slice() {
            piece.alone_attempts += outcome.attempts;
            piece.failures_alone += outcome.failures;
        }
        if !matches!(outcome.end, RequestEnd::GaveUp { failing: false, .. }) {
            self.learned.failures.reached();
        }
        match outcome.end {
            RequestEnd::Accepted { .. } => {
                self.accepted(batch.pieces.len(), outcome.attempts);
                for piece in batch.pieces {
                    self.accept_piece(piece);
                }
                Ok(())
            }
            RequestEnd::Rejected { reason } => self.on_rejected(batch, reason),
            RequestEnd::RejectedSome { elements } => self.on_rejected_some(batch, elements),
            RequestEnd::TooLarge { reason } => self.on_too_large(batch, reason),
            RequestEnd::GaveUp { reason, failing: true } => self.on_failed(batch, reason, outcome.accepted_since),
            RequestEnd::GaveUp { reason, failing: false } => {
                self.leave_unsent(batch, &reason);
                self.learned.failures.unreached();
                self.check_down(&reason)
            }
            RequestEnd::Stop { reason, advice, blame: Blame::Us } => {
                self.leave_unsent(batch, &reason);
                Err(self.error("rejects all requests", &reason).advise(advice))
            }
            RequestEnd::Stop { reason, advice, blame } => {
                let cause = if blame == Blame::Credentials { FailureCause::Credentials } else { FailureCause::Blocked };
                self.on_blocked(batch, cause, reason, advice)
            }
            RequestEnd::Halted { reason } => {
                self.leave_unsent(batch, reason);
                Ok(())
            }
        }
    }

    /// A request with so many groups was accepted, after so many attempts: what that means for undecided groups.
    fn accepted(&mut self, groups: usize, attempts: u32) {
        self.learned.failures.accept(groups, attempts);
        for undecided in std::mem::take(&mut self.undecided) {
            match self.learned.failures.after_acceptance(&undecided, self.attempts_max) {
                Some(release) => self.release(undecided, release),
                None => self.undecided.push(undecided),
            }
        }
    }

    fn accept_piece(&mut self, mut piece: Piece) {
        if self.keeps_delivered {
            self.keep_request(&mut piece);
        }
        self.progress[piece.change].begun = true;
        self.advance(piece.change);
    }

    /// How messages name the destination: by its name in `groupcast.toml` and its type.
    fn label(&self) -> String {
        match (self.name, self.destination.name()) {
            ("", of) => format!("destination `{of}`"),
            (name, of) if name == of => format!("destination `{name}`"),
            (name, of) => format!("destination `{name}` ({of})"),
        }
    }

    fn error(&self, what: &str, reason: &str) -> Error {
        Error::new(Kind::Destination, format!("{} {what}: {reason}", self.label()))
    }

    /// A group that failed alone: its outcome waits for those of others, or everything stops.
    fn defer(&mut self, route: Route, mut piece: Piece, cause: FailureCause, reason: String) {
        self.learned.failures.note_evidence(&mut piece);
        self.undecided.push(Undecided { route, piece, cause, reason });
    }

    /// Whether sending any of these again could apply it twice.
    fn may_apply_twice(&self, batch: &Batch) -> bool {
        !self.destination.repeatable(batch.route) && batch.pieces.iter().any(|piece| piece.maybe_applied)
    }

    fn check_rejections(&self, reason: &str) -> Result<(), Error> {
        if !self.learned.failures.rejects_everything() {
            return Ok(());
        }
        let what = format!("rejects every group: stopped after {REJECTIONS_MAX} consecutive rejections");
        Err(self.error(&what, reason).advise(
            "check the account's plan and the group type at the vendor; if the data is at fault, correct the mapping",
        ))
    }

    fn check_down(&self, reason: &str) -> Result<(), Error> {
        if !self.learned.failures.is_down() {
            return Ok(());
        }
        Err(self
            .error("is unavailable", reason)
            .advise("run again later: the next run sends what is pending (`groupcast status` shows how much)"))
    }

    /// No request is accepted, or none any more.
    fn blocked_error(&self) -> Error {
        let Some((cause, reason, advice)) = self.learned.failures.last_block() else {
            return self.error("rejects all requests", "for different reasons");
        };
        let error = match (cause, self.learned.failures.any_accepted()) {
            (FailureCause::Credentials, _) => {
                let what = format!("authentication failed at {}: {reason}", self.label());
                Error::new(Kind::Destination, what)
            }
            (_, false) => self.error("rejects all requests", reason),
            (_, true) => self.error("accepted requests and now rejects all of them", reason),
        };
        error.advise(match self.learned.failures.any_accepted() {
            false => advice.clone(),
            true => format!(
                "{advice}; since others were accepted before, look for what changed meanwhile: a limit, a firewall, a key \
                 that was revoked"
            ),
        })
    }

    fn halve(&mut self, mut batch: Batch) -> [Batch; 2] {
        let right = batch.pieces.split_off(batch.pieces.len() / 2);
        [Batch::of(batch.route, batch.pieces), Batch::of(batch.route, right)]
    }

    /// The response is about the data. One element: it is rejected, once another one is accepted. Several: two halves.
    fn on_rejected(&mut self, batch: Batch, reason: String) -> Result<(), Error> {
        if self.may_apply_twice(&batch) {
            self.leave_unsent(batch, &reason);
            return Ok(());
        }
        if batch.pieces.len() > 1 {
            let [left, right] = self.halve(batch);
            self.queue.push_front(right);
            self.queue.push_front(left);
            return Ok(());
        }
        for piece in batch.pieces {
            self.learned.failures.count(FailureCause::Rejected, &piece);
            self.defer(batch.route, piece, FailureCause::Rejected, reason.clone());
        }
        self.check_rejections(&reason)
    }

    /// The named elements are rejected, the others sent again.
    fn on_rejected_some(&mut self, batch: Batch, elements: Vec<(usize, String)>) -> Result<(), Error> {
        let mut reasons: HashMap<usize, String> = elements.into_iter().collect();
        let count = batch.pieces.len();
        let mut others = Vec::with_capacity(count);
        let mut last = None;
        for (at, piece) in batch.pieces.into_iter().enumerate() {
            match reasons.remove(&at) {
                Some(reason) => {
                    last = Some(reason.clone());
                    self.defer(batch.route, piece, FailureCause::Rejected, reason);
                }
                None => others.push(piece),
            }
        }
        let Some(last) = last else {
            // It names no element that was there. Sending the same again would not end, so it rejects all of them.
            let reason = reasons.into_values().next().unwrap_or_else(|| "rejected without naming elements".to_owned());
            return self.on_rejected(Batch::of(batch.route, others), reason);
        };
        if !others.is_empty() {
            self.queue.push_front(Batch::of(batch.route, others));
        }
        // One response, however many elements it names.
        self.learned.failures.count_rejected_some();
        self.check_rejections(&last)
    }

    /// The response is not about the data, though something in it may have caused it. Several elements: halves. One: it is
    /// rejected if others are accepted, and everything stops if none is.
    fn on_blocked(
        &mut self,
        mut batch: Batch,
        cause: FailureCause,
        reason: String,
        advice: String,
    ) -> Result<(), Error> {
        self.learned.failures.note_failure(&mut batch.pieces);
        self.learned.failures.note_block(cause, &reason, advice);
        // A 401 is rarely about a text, so that each one counts, however many groups it is about.
        if let Some(piece) =
            batch.pieces.first().filter(|_| cause == FailureCause::Credentials || batch.pieces.len() == 1)
        {
            self.learned.failures.count(cause, piece);
        }
        if self.may_apply_twice(&batch) {
            self.learned.failures.count_unconfirmed();
            self.leave_unsent(batch, &reason);
        } else if batch.pieces.len() > 1 {
            // Found while there are others left to be accepted, or many of them would be the last of all.
            let [left, right] = self.halve(batch);
            self.queue.push_front(right);
            self.queue.push_front(left);
        } else {
            for piece in batch.pieces {
                self.defer(batch.route, piece, cause, reason.clone());
            }
        }
        match self.learned.failures.blocks_everything() || self.learned.failures.rejects_everything() {
            true => Err(self.blocked_error()),
            false => Ok(()),
        }
    }

    /// The destination failed at this request as often as it may be tried. Several elements: halves, after everything
    /// else, since each attempt may take long. One: it is rejected if it goes on so while others are accepted, and the
    /// destination is down if none is.
    fn on_failed(&mut self, mut batch: Batch, reason: String, accepted_since: u64) -> Result<(), Error> {
        self.learned.failures.note_failure_since(&mut batch.pieces, accepted_since);
        if self.may_apply_twice(&batch) {
            self.learned.failures.count_unrepeatable_failure();
            self.leave_unsent(batch, &reason);
        } else if batch.pieces.len() > 1 {
            let halves = self.halve(batch);
            self.queue.extend(halves);
        } else {
            for piece in batch.pieces {
                self.learned.failures.count(FailureCause::Failing, &piece);
                self.defer(batch.route, piece, FailureCause::Failing, reason.clone());
            }
        }
        self.check_down(&reason)
    }

    /// One element: it is rejected. Several: halves, and the route's later requests stay below half this size.
    fn on_too_large(&mut self, mut batch: Batch, reason: String) -> Result<(), Error> {
        let route = batch.route;
        let limits = self.destination.limits(route);
        let body_bytes = batch.body_bytes(&limits);
        if batch.pieces.len() <= 1 {
            let far_below = body_bytes < limits.body_bytes_max.min(limits.element_bytes_max) / FAR_BELOW;
            if !far_below {
                return self.on_rejected(batch, reason);
            }
            let name = self.destination.name();
            let reason = format!(
                "{reason} (for {body_bytes} bytes, far below the limit of {name}: a proxy or gateway in between may have a \
                 smaller one)"
            );
            let advice =
                "raise the limit for request bodies at the proxy or gateway before the destination, and run again";
            self.learned.failures.note_failure(&mut batch.pieces);
            self.learned.failures.note_block(FailureCause::TooLarge, &reason, advice.to_owned());
            for piece in batch.pieces {
                self.learned.failures.count(FailureCause::TooLarge, &piece);
                self.defer(route, piece, FailureCause::TooLarge, reason.clone());
            }
            return match self.learned.failures.blocks_everything() || self.learned.failures.rejects_everything() {
                true => Err(self.blocked_error()),
                false => Ok(()),
            };
        }
        let bytes: Vec<usize> = batch.pieces.iter().map(|piece| piece.element.bytes.len()).collect();
        let goal = body_bytes / 2 + limits.envelope_bytes;
        let goal = goal.min(self.learned.body_bytes.get(&route).copied().unwrap_or(usize::MAX));
        self.learned.body_bytes.insert(route, goal);
        let right = batch.pieces.split_off(batch::middle_by_bytes(&bytes));
        let (keep, repack): (VecDeque<Batch>, VecDeque<Batch>) = std::mem::take(&mut self.queue)
            .into_iter()
            .partition(|other| other.route != route || other.pieces.len() == 1 || other.body_bytes(&limits) <= goal);
        self.queue = keep;
        for batch in repack {
            self.loose.extend(batch.pieces.into_iter().map(|piece| (route, piece)));
        }
        self.queue.push_front(Batch::of(route, right));
        self.queue.push_front(batch);
        Ok(())
    }
}
