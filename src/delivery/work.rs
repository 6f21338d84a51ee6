//! What is left to do for a page of changes? Pure bookkeeping: which parts wait, which requests to form next, and which
//! outcome an ended request means for each change. Every change that enters leaves with exactly one outcome.

use std::collections::{HashMap, VecDeque};

use super::DeliveryOutcome;
use super::blame::{Cause, Held, REFUSALS_MAX, Record, Release};
use super::request::{End, Ended, SettledElement};
use crate::destination::batch::{self, Size};
use crate::destination::{AddressedChange, Blame, Destination, Element, ElementVerdict, Part, RequestLimits, Route};
use crate::error::{Error, Kind};

/// A request of less than this share of a route's documented limit is too large for something else than the destination.
const FAR_BELOW: usize = 10;

/// One part of one change, encoded.
#[derive(Debug)]
pub(super) struct Piece {
    change: usize,
    pub(super) element: Element,
    traits: usize,
    /// Whether an attempt at this very part may have been applied.
    maybe_applied: bool,
    /// How many requests had been accepted when it was first in a request that failed without a word about the data.
    pub(super) doubted_at: Option<u64>,
    /// Whether others had been accepted since when it failed alone.
    pub(super) was_evident: bool,
    /// Whether it is tried once more after it failed alone.
    pub(super) tried_again: bool,
    /// How often it was sent alone.
    pub(super) alone_attempts: u32,
    /// How often the destination failed at it then.
    pub(super) failures_alone: u32,
}

/// Pieces that share a request.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) route: Route,
    pub(super) pieces: Vec<Piece>,
    /// How often it may be sent.
    pub(super) attempts_max: u32,
}

impl Batch {
    fn of(route: Route, pieces: Vec<Piece>) -> Batch {
        Batch { route, pieces, attempts_max: 1 }
    }

    /// The traits of those of its elements that were taken.
    pub(super) fn traits_taken(&self, ended: &Ended) -> usize {
        let whole = matches!(ended.end, End::Delivered { .. });
        let settled: HashMap<usize, &ElementVerdict> =
            ended.settled.iter().map(|one| (one.index, &one.settled)).collect();
        let taken = |at: &usize| settled.get(at).map_or(whole, |settled| **settled == ElementVerdict::Accepted);
        self.pieces.iter().enumerate().filter(|(at, _)| taken(at)).map(|(_, piece)| piece.traits).sum()
    }

    fn body_bytes(&self, limits: &RequestLimits) -> usize {
        let elements: usize = self.pieces.iter().map(|piece| piece.element.bytes.len() + limits.separator_bytes).sum();
        limits.envelope_bytes + elements
    }
}

/// Where one change stands.
#[derive(Debug, Default)]
struct Progress {
    /// Parts that have not been encoded yet.
    parts: VecDeque<Part>,
    /// Whether an earlier part was delivered.
    begun: bool,
    /// Whether it has its outcome.
    done: bool,
    /// The page's next change with the same key, which waits for this one.
    next: Option<usize>,
}

/// What delivery has learned about a destination, kept from page to page.
#[derive(Debug, Default)]
pub(super) struct Learned {
    /// Body sizes that a route was seen to refuse as too large, halved.
    body_bytes: HashMap<Route, usize>,
    /// What was accepted, and what went wrong since.
    record: Record,
}

/// The state of a page.
pub(super) struct Work<'a> {
    destination: &'a dyn Destination,
    changes: &'a [AddressedChange],
    /// How often one request may be sent.
    attempts_max: u32,
    progress: Vec<Progress>,
    /// Pieces that no request holds yet.
    loose: Vec<(Route, Piece)>,
    queue: VecDeque<Batch>,
    /// Groups that failed alone, and whose outcome waits for what becomes of others.
    held: Vec<Held>,
    outcomes: Vec<(usize, DeliveryOutcome)>,
    learned: Learned,
}

impl<'a> Work<'a> {
    pub(super) fn new(
        destination: &'a dyn Destination,
        changes: &'a [AddressedChange],
        attempts_max: u32,
        learned: Learned,
    ) -> Work<'a> {
        let progress = changes.iter().map(|_| Progress::default()).collect();
        let mut work = Work {
            destination,
            changes,
            attempts_max: attempts_max.max(1),
            progress,
            loose: Vec::new(),
            queue: VecDeque::new(),
            held: Vec::new(),
            outcomes: Vec::new(),
            learned,
        };
        let mut latest: HashMap<&str, usize> = HashMap::with_capacity(changes.len());
        let mut first = Vec::with_capacity(changes.len());
        for (index, change) in changes.iter().enumerate() {
            match latest.insert(&change.key, index) {
                Some(earlier) => work.progress[earlier].next = Some(index),
                None => first.push(index),
            }
        }
        for index in first {
            work.begin(index);
        }
        work
    }

    /// Gives back what was learned about the destination.
    pub(super) fn into_learned(self) -> Learned {
        self.learned
    }

    /// RecordedOutcomes that are known and not yet taken.
    pub(super) fn take_fates(&mut self) -> Vec<(usize, DeliveryOutcome)> {
        std::mem::take(&mut self.outcomes)
    }

    /// The next request to send, if any can be formed. `draw` gives a number from zero to its argument.
    pub(super) fn next_batch(&mut self, draw: impl Fn(usize) -> usize) -> Option<Batch> {
        // Packing may reject a change and so begin the one that waited for it; each turn ends at least one change.
        while self.queue.is_empty() && !self.loose.is_empty() {
            self.pack_loose();
        }
        let mut batch = match self.learned.record.is_searching() {
            false => self.queue.pop_front()?,
            true => {
                let at = draw(self.queue.len().checked_sub(1)?);
                let batch = self.queue.get_mut(at)?;
                if batch.pieces.len() <= 1 {
                    self.queue.remove(at)?
                } else {
                    let piece = batch.pieces.swap_remove(draw(batch.pieces.len() - 1));
                    Batch::of(batch.route, vec![piece])
                }
            }
        };
        batch.attempts_max = self.learned.record.attempts_max(&batch.pieces, self.attempts_max);
        Some(batch)
    }

    /// How many requests may be in flight, of `concurrency`: one at a time while it is not known what works.
    pub(super) fn in_flight_max(&self, concurrency: usize) -> usize {
        if self.learned.record.is_careful() { 1 } else { concurrency.max(1) }
    }

    /// Called when nothing is in flight and nothing can be sent: nothing is left to compare held groups with. Returns
    /// whether there may be more to send now.
    ///
    /// Errors ([`Kind::Destination`]): nothing works, so that no group is to blame.
    pub(super) fn release_held(&mut self) -> Result<bool, Error> {
        let held = std::mem::take(&mut self.held);
        if held.is_empty() {
            return Ok(false);
        }
        let release = |held| self.learned.record.at_the_end(held, self.attempts_max);
        let releases: Vec<Option<Release>> = held.iter().map(release).collect();
        let stopped = releases.contains(&None);
        for (held, release) in held.into_iter().zip(releases) {
            match release {
                Some(release) => self.release(held, release),
                None => self.held.push(held),
            }
        }
        if stopped { Err(self.barred_error()) } else { Ok(true) }
    }

    fn release(&mut self, mut held: Held, release: Release) {
        match release {
            Release::Reject => self.reject(held.piece, held.reason),
            Release::Leave => self.unsent_piece(held.piece, &held.reason),
            Release::Again => {
                held.piece.tried_again = true;
                self.queue.push_back(Batch::of(held.route, vec![held.piece]));
            }
        }
    }

    /// Takes in how a request ended. An error concerns the whole destination: nothing more must be sent.
    pub(super) fn absorb(&mut self, batch: Batch, mut ended: Ended) -> Result<(), Error> {
        let settled = std::mem::take(&mut ended.settled);
        if settled.is_empty() {
            return self.absorb_whole(batch, ended);
        }
        let (route, mut pieces): (Route, Vec<Option<Piece>>) =
            (batch.route, batch.pieces.into_iter().map(Some).collect());
        self.learned.record.reached();
        if settled.iter().any(|one| one.settled == ElementVerdict::Accepted) {
            self.accepted(pieces.len(), ended.attempts);
        }
        let mut refused = None;
        for SettledElement { index, settled, maybe_applied } in settled {
            let Some(mut piece) = pieces.get_mut(index).and_then(Option::take) else { continue };
            piece.maybe_applied |= maybe_applied;
            match settled {
                ElementVerdict::Accepted => self.taken(piece),
                ElementVerdict::Rejected { reason } => {
                    refused = Some(reason.clone());
                    self.hold(route, piece, Cause::Refused, reason);
                }
                ElementVerdict::Unclear { reason } => {
                    piece.maybe_applied = true;
                    self.unsent_piece(piece, &reason);
                }
            }
        }
        let others: Vec<Piece> = pieces.into_iter().flatten().collect();
        let end = if others.is_empty() { Ok(()) } else { self.absorb_whole(Batch::of(route, others), ended) };
        let Some(reason) = refused else { return end };
        // One answer, however many it names.
        self.learned.record.refuse_some();
        end.and(self.check_refused(&reason))
    }

    fn absorb_whole(&mut self, mut batch: Batch, ended: Ended) -> Result<(), Error> {
        for piece in &mut batch.pieces {
            piece.maybe_applied |= ended.maybe_applied;
        }
        if let [piece] = batch.pieces.as_mut_slice() {
            piece.alone_attempts += ended.attempts;
            piece.failures_alone += ended.failures;
        }
        if !matches!(ended.end, End::GaveUp { failing: false, .. }) {
            self.learned.record.reached();
        }
        match ended.end {
            End::Delivered { .. } => {
                self.accepted(batch.pieces.len(), ended.attempts);
                for piece in batch.pieces {
                    self.taken(piece);
                }
                Ok(())
            }
            End::Refused { reason } => self.refused(batch, reason),
            End::RefusedSome { elements } => self.refused_some(batch, elements),
            End::TooLarge { reason } => self.too_large(batch, reason),
            End::GaveUp { reason, failing: true } => self.failed(batch, reason, ended.accepted_since),
            End::GaveUp { reason, failing: false } => {
                self.unsent(batch, &reason);
                self.learned.record.unreached();
                self.check_down(&reason)
            }
            End::Stop { reason, advice, blame: Blame::Us } => {
                self.unsent(batch, &reason);
                Err(self.error("refuses requests", &reason).advise(advice))
            }
            End::Stop { reason, advice, blame } => {
                let cause = if blame == Blame::Credentials { Cause::Credentials } else { Cause::Barred };
                self.barred(batch, cause, reason, advice)
            }
            End::Halted { reason } => {
                self.unsent(batch, reason);
                Ok(())
            }
        }
    }

    /// A request with so many groups was accepted, after so many attempts: what that means for those held back.
    fn accepted(&mut self, groups: usize, attempts: u32) {
        self.learned.record.accept(groups, attempts);
        for held in std::mem::take(&mut self.held) {
            match self.learned.record.after_acceptance(&held, self.attempts_max) {
                Some(release) => self.release(held, release),
                None => self.held.push(held),
            }
        }
    }

    fn taken(&mut self, piece: Piece) {
        self.progress[piece.change].begun = true;
        self.advance(piece.change);
    }

    /// Nothing more is sent: everything without a outcome gets one.
    pub(super) fn give_up(&mut self, reason: &str) {
        // What they failed with was never confirmed by an acceptance of others, so they are tried again in the next run.
        for held in std::mem::take(&mut self.held) {
            self.unsent_piece(held.piece, &held.reason);
        }
        let queued = std::mem::take(&mut self.queue).into_iter().flat_map(|batch| batch.pieces);
        let loose = std::mem::take(&mut self.loose).into_iter().map(|(_, piece)| piece);
        for piece in queued.chain(loose).collect::<Vec<_>>() {
            self.unsent_piece(piece, reason);
        }
        // Changes that waited for another one of their key were begun by its end, and are loose again.
        while let Some((_, piece)) = self.loose.pop() {
            self.unsent_piece(piece, reason);
        }
    }

    fn error(&self, what: &str, reason: &str) -> Error {
        Error::new(Kind::Destination, format!("{} {what}: {reason}", self.destination.name()))
    }

    /// Cuts a change into parts and readies the first.
    fn begin(&mut self, change: usize) {
        match self.destination.parts(&self.changes[change]) {
            Ok(parts) => {
                self.progress[change].parts = parts.into();
                self.advance(change);
            }
            Err(reason) => self.finish(change, DeliveryOutcome::Rejected { reason, partly_applied: false }),
        }
    }

    /// Readies a change's next part, or ends it as delivered when there is none.
    fn advance(&mut self, change: usize) {
        let Some(part) = self.progress[change].parts.pop_front() else {
            return self.finish(change, DeliveryOutcome::Delivered);
        };
        let element = self.destination.element(&self.changes[change], &part);
        let traits = part.change.traits_count();
        let piece = Piece {
            change,
            element,
            traits,
            maybe_applied: false,
            doubted_at: None,
            was_evident: false,
            tried_again: false,
            alone_attempts: 0,
            failures_alone: 0,
        };
        self.loose.push((part.route, piece));
    }

    /// Gives a change its outcome, and begins the one that waited for it.
    fn finish(&mut self, change: usize, outcome: DeliveryOutcome) {
        let mut next = Some((change, outcome));
        // A loop, not a recursion: a page may hold any number of changes of one key that are rejected at once.
        while let Some((change, outcome)) = next.take() {
            let progress = &mut self.progress[change];
            debug_assert!(!progress.done, "change {change} has two outcomes");
            progress.done = true;
            progress.parts.clear();
            let outcome = match outcome {
                DeliveryOutcome::Rejected { reason, partly_applied } => {
                    DeliveryOutcome::Rejected { reason, partly_applied: partly_applied || progress.begun }
                }
                DeliveryOutcome::NotSent { reason } if progress.begun => DeliveryOutcome::Unconfirmed { reason },
                outcome => outcome,
            };
            let waiting = progress.next;
            self.outcomes.push((change, outcome));
            let Some(waiting) = waiting else { continue };
            match self.destination.parts(&self.changes[waiting]) {
                Ok(parts) if parts.is_empty() => next = Some((waiting, DeliveryOutcome::Delivered)),
                Ok(parts) => {
                    self.progress[waiting].parts = parts.into();
                    self.advance(waiting);
                }
                Err(reason) => next = Some((waiting, DeliveryOutcome::Rejected { reason, partly_applied: false })),
            }
        }
    }

    fn pack_loose(&mut self) {
        let mut by_route: Vec<(Route, Vec<Piece>)> = Vec::new();
        for (route, piece) in std::mem::take(&mut self.loose) {
            match by_route.iter_mut().find(|(other, _)| *other == route) {
                Some((_, pieces)) => pieces.push(piece),
                None => by_route.push((route, vec![piece])),
            }
        }
        for (route, pieces) in by_route {
            let sizes: Vec<Size> =
                pieces.iter().map(|piece| Size { bytes: piece.element.bytes.len(), traits: piece.traits }).collect();
            let goal = self.learned.body_bytes.get(&route).copied().unwrap_or(usize::MAX);
            let packed = batch::pack(&sizes, &self.destination.limits(route), goal);
            let mut pieces: Vec<Option<Piece>> = pieces.into_iter().map(Some).collect();
            for (at, reason) in packed.oversized {
                if let Some(piece) = pieces[at].take() {
                    self.reject(piece, reason);
                }
            }
            for batch in packed.batches {
                let pieces = batch.into_iter().filter_map(|at| pieces[at].take()).collect();
                self.queue.push_back(Batch::of(route, pieces));
            }
        }
    }

    fn reject(&mut self, piece: Piece, reason: String) {
        self.finish(piece.change, DeliveryOutcome::Rejected { reason, partly_applied: piece.maybe_applied });
    }

    fn unsent(&mut self, batch: Batch, reason: &str) {
        for piece in batch.pieces {
            self.unsent_piece(piece, reason);
        }
    }

    fn unsent_piece(&mut self, piece: Piece, reason: &str) {
        let reason = reason.to_owned();
        let outcome = if piece.maybe_applied {
            DeliveryOutcome::Unconfirmed { reason }
        } else {
            DeliveryOutcome::NotSent { reason }
        };
        self.finish(piece.change, outcome);
    }

    /// A group that failed alone: its outcome waits for what becomes of others, or everything stops.
    fn hold(&mut self, route: Route, mut piece: Piece, cause: Cause, reason: String) {
        self.learned.record.judge(&mut piece);
        self.held.push(Held { route, piece, cause, reason });
    }

    /// Whether sending any of these again could apply it twice.
    fn is_doubtful(&self, batch: &Batch) -> bool {
        !self.destination.repeatable(batch.route) && batch.pieces.iter().any(|piece| piece.maybe_applied)
    }

    fn check_refused(&self, reason: &str) -> Result<(), Error> {
        if !self.learned.record.is_refused() {
            return Ok(());
        }
        let what = format!("refused groups one after the other: stopped after {REFUSALS_MAX} consecutive rejections");
        Err(self.error(&what, reason).advise(
            "check the account's plan and the group type at the vendor; if the data is at fault, correct the mapping",
        ))
    }

    fn check_down(&self, reason: &str) -> Result<(), Error> {
        if !self.learned.record.is_down() {
            return Ok(());
        }
        Err(self
            .error("does not take requests now", reason)
            .advise("run again later: what was not sent is sent then (`groupcast status` shows how much is left)"))
    }

    /// Nothing works, as far as can be told.
    fn barred_error(&self) -> Error {
        let (reason, advice) = self.learned.record.advice().cloned().unwrap_or_default();
        if !self.learned.record.any_accepted() {
            return self.error("refuses requests", &reason).advise(advice);
        }
        self.error("accepted requests and now refuses them", &reason).advise(format!(
            "{advice}; since others were accepted before, look for what changed meanwhile: a limit, a firewall, a key that \
             was revoked"
        ))
    }

    fn halve(&mut self, mut batch: Batch) -> [Batch; 2] {
        let right = batch.pieces.split_off(batch.pieces.len() / 2);
        [Batch::of(batch.route, batch.pieces), Batch::of(batch.route, right)]
    }

    /// Words about the data. One element: it is rejected, once another one is accepted. Several: two halves.
    fn refused(&mut self, batch: Batch, reason: String) -> Result<(), Error> {
        if self.is_doubtful(&batch) {
            self.unsent(batch, &reason);
            return Ok(());
        }
        if batch.pieces.len() > 1 {
            let [left, right] = self.halve(batch);
            self.queue.push_front(right);
            self.queue.push_front(left);
            return Ok(());
        }
        for piece in batch.pieces {
            self.learned.record.count(Cause::Refused, &piece);
            self.hold(batch.route, piece, Cause::Refused, reason.clone());
        }
        self.check_refused(&reason)
    }

    /// The named elements are rejected, the others sent again.
    fn refused_some(&mut self, batch: Batch, elements: Vec<(usize, String)>) -> Result<(), Error> {
        let mut reasons: HashMap<usize, String> = elements.into_iter().collect();
        let count = batch.pieces.len();
        let mut others = Vec::with_capacity(count);
        let mut last = None;
        for (at, piece) in batch.pieces.into_iter().enumerate() {
            match reasons.remove(&at) {
                Some(reason) => {
                    last = Some(reason.clone());
                    self.hold(batch.route, piece, Cause::Refused, reason);
                }
                None => others.push(piece),
            }
        }
        let Some(last) = last else {
            // It names no element that was there. Sending the same again would not end, so it is a refusal of all.
            let reason = reasons.into_values().next().unwrap_or_else(|| "refused without naming elements".to_owned());
            return self.refused(Batch::of(batch.route, others), reason);
        };
        if !others.is_empty() {
            self.queue.push_front(Batch::of(batch.route, others));
        }
        // One answer, however many it names.
        self.learned.record.refuse_some();
        self.check_refused(&last)
    }

    /// Words that are not about the data, though something in it may have caused them. Several elements: halves. One: it is rejected if others are accepted, and everything stops if none is.
    fn barred(&mut self, mut batch: Batch, cause: Cause, reason: String, advice: String) -> Result<(), Error> {
        self.learned.record.set_back(&mut batch.pieces);
        self.learned.record.advise(&reason, advice);
        // A 401 is rarely about a text, so that each one counts, however many groups it speaks of.
        if let Some(piece) = batch.pieces.first().filter(|_| cause == Cause::Credentials || batch.pieces.len() == 1) {
            self.learned.record.count(cause, piece);
        }
        if self.is_doubtful(&batch) {
            self.learned.record.doubt();
            self.unsent(batch, &reason);
        } else if batch.pieces.len() > 1 {
            // Found while there are others left to be accepted, or many of them would be the last of all.
            let [left, right] = self.halve(batch);
            self.queue.push_front(right);
            self.queue.push_front(left);
        } else {
            for piece in batch.pieces {
                self.hold(batch.route, piece, cause, reason.clone());
            }
        }
        match self.learned.record.is_barred() || self.learned.record.is_refused() {
            true => Err(self.barred_error()),
            false => Ok(()),
        }
    }

    /// The destination failed at this request as often as it may be tried. Several elements: halves, after everything
    /// else, since each attempt may take long. One: it is rejected if it goes on so while others are accepted, and the destination is down if none is.
    fn failed(&mut self, mut batch: Batch, reason: String, accepted_since: u64) -> Result<(), Error> {
        self.learned.record.set_back_earlier(&mut batch.pieces, accepted_since);
        if self.is_doubtful(&batch) {
            self.learned.record.fail_for_good();
            self.unsent(batch, &reason);
        } else if batch.pieces.len() > 1 {
            let halves = self.halve(batch);
            self.queue.extend(halves);
        } else {
            for piece in batch.pieces {
                self.learned.record.count(Cause::Failing, &piece);
                self.hold(batch.route, piece, Cause::Failing, reason.clone());
            }
        }
        self.check_down(&reason)
    }

    /// One element: it is rejected. Several: halves, and the route's later requests stay below half this size.
    fn too_large(&mut self, mut batch: Batch, reason: String) -> Result<(), Error> {
        let route = batch.route;
        let limits = self.destination.limits(route);
        let body_bytes = batch.body_bytes(&limits);
        if batch.pieces.len() <= 1 {
            let far_below = body_bytes < limits.body_bytes_max.min(limits.element_bytes_max) / FAR_BELOW;
            if !far_below {
                return self.refused(batch, reason);
            }
            let name = self.destination.name();
            let reason = format!(
                "{reason} (for {body_bytes} bytes, far below the limit of {name}: a proxy or gateway in between may have a \
                 smaller one)"
            );
            let advice =
                "raise the limit for request bodies at the proxy or gateway before the destination, and run again";
            self.learned.record.set_back(&mut batch.pieces);
            self.learned.record.advise(&reason, advice.to_owned());
            for piece in batch.pieces {
                self.learned.record.count(Cause::TooLarge, &piece);
                self.hold(route, piece, Cause::TooLarge, reason.clone());
            }
            return match self.learned.record.is_barred() || self.learned.record.is_refused() {
                true => Err(self.barred_error()),
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
