//! The work on a page of changes: which parts wait, which requests to form next, which changes have their outcome. Pure
//! bookkeeping; every change that enters leaves with exactly one outcome.

use std::collections::{HashMap, VecDeque};

use super::breaker::{FailureRecord, Undecided};
use super::outcome::{ChangeRequest, DeliveryOutcome, SettledChange};
use super::piece::{Batch, Piece};
use super::settings::{DeliverySettings, KeepRequests};
use crate::destination::batch::{self, Size};
use crate::destination::{AddressedChange, Destination, Part, PlainSet, Route};

/// The progress of one change.
#[derive(Debug, Default)]
pub(super) struct ChangeProgress {
    /// Parts that have not been encoded yet.
    pub(super) parts: VecDeque<Part>,
    /// Whether an earlier part was delivered.
    pub(super) begun: bool,
    /// Whether it has its outcome.
    done: bool,
    /// The page's next change with the same key, which waits for this one.
    next: Option<usize>,
    /// The requests it was in last, where they are kept.
    requests: Vec<ChangeRequest>,
}

/// Requests that are kept of one change: of a longer sequence the last ones.
const REQUESTS_KEPT_MAX: usize = 10;

/// What delivery has learned about a destination, kept from page to page.
#[derive(Debug, Default)]
pub(super) struct Learned {
    /// Body sizes that a route rejected as too large, halved.
    pub(super) body_bytes: HashMap<Route, usize>,
    /// What was accepted, and what failed since.
    pub(super) failures: FailureRecord,
}

/// The state of a page.
pub(super) struct PageWork<'a> {
    pub(super) destination: &'a dyn Destination,
    /// The destination's name in `groupcast.toml`, for messages.
    pub(super) name: &'a str,
    changes: &'a [AddressedChange],
    /// How often one request may be sent.
    pub(super) attempts_max: u32,
    /// Whether the requests of delivered parts are kept.
    pub(super) keeps_delivered: bool,
    pub(super) progress: Vec<ChangeProgress>,
    /// Pieces that no request holds yet.
    pub(super) loose: Vec<(Route, Piece)>,
    pub(super) queue: VecDeque<Batch>,
    /// Groups that failed alone, whose outcomes wait for those of others.
    pub(super) undecided: Vec<Undecided>,
    settled: Vec<SettledChange>,
    pub(super) learned: Learned,
}

impl<'a> PageWork<'a> {
    pub(super) fn new(
        destination: &'a dyn Destination,
        settings: &'a DeliverySettings,
        changes: &'a [AddressedChange],
        learned: Learned,
    ) -> PageWork<'a> {
        let progress = changes.iter().map(|_| ChangeProgress::default()).collect();
        let mut work = PageWork {
            destination,
            name: &settings.destination,
            changes,
            attempts_max: settings.attempts_max.max(1),
            keeps_delivered: settings.keep == KeepRequests::Always,
            progress,
            loose: Vec::new(),
            queue: VecDeque::new(),
            undecided: Vec::new(),
            settled: Vec::new(),
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

    /// What was learned about the destination.
    pub(super) fn into_learned(self) -> Learned {
        self.learned
    }

    /// Changes that have their outcome and were not yet taken.
    pub(super) fn take_settled(&mut self) -> Vec<SettledChange> {
        std::mem::take(&mut self.settled)
    }

    /// The next request to send, if any can be formed. `draw` gives a number from zero to its argument.
    pub(super) fn next_batch(&mut self, draw: impl Fn(usize) -> usize) -> Option<Batch> {
        // Packing may reject a change and so begin the one that waited for it; each turn ends at least one change.
        while self.queue.is_empty() && !self.loose.is_empty() {
            self.pack_loose();
        }
        let mut batch = match self.learned.failures.is_searching() {
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
        batch.attempts_max = self.learned.failures.attempts_max(&batch.pieces, self.attempts_max);
        Some(batch)
    }

    /// How many requests may be in flight, of `concurrency`: one at a time while it is not known what works.
    pub(super) fn in_flight_max(&self, concurrency: usize) -> usize {
        if self.learned.failures.is_careful() { 1 } else { concurrency.max(1) }
    }

    /// Nothing more is sent: everything without a outcome gets one.
    pub(super) fn abandon(&mut self, reason: &str) {
        // No other group was accepted since they failed, so the next run tries them again.
        for undecided in std::mem::take(&mut self.undecided) {
            self.leave_piece_unsent(undecided.piece, &undecided.reason);
        }
        let queued = std::mem::take(&mut self.queue).into_iter().flat_map(|batch| batch.pieces);
        let loose = std::mem::take(&mut self.loose).into_iter().map(|(_, piece)| piece);
        for piece in queued.chain(loose).collect::<Vec<_>>() {
            self.leave_piece_unsent(piece, reason);
        }
        // Changes that waited for another one of their key were begun by its end, and are loose again.
        while let Some((_, piece)) = self.loose.pop() {
            self.leave_piece_unsent(piece, reason);
        }
    }

    /// Cuts a change into parts and readies the first.
    fn begin(&mut self, change: usize) {
        let addressed = &self.changes[change];
        if let Some(PlainSet { document, route }) = &addressed.plain {
            let element = self.destination.plain_element(addressed, document);
            self.loose.push((*route, Piece::new(change, element, document.traits)));
            return;
        }
        match self.destination.parts(addressed) {
            Ok(parts) => {
                self.progress[change].parts = parts.into();
                self.advance(change);
            }
            Err(reason) => self.finish(change, DeliveryOutcome::Rejected { reason, partly_applied: false }),
        }
    }

    /// Readies a change's next part, or ends it as delivered when no part is left.
    pub(super) fn advance(&mut self, change: usize) {
        let Some(part) = self.progress[change].parts.pop_front() else {
            return self.finish(change, DeliveryOutcome::Delivered);
        };
        let element = self.destination.element(&self.changes[change], &part);
        let traits = part.change.traits_count();
        self.loose.push((part.route, Piece::new(change, element, traits)));
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
            let requests = std::mem::take(&mut progress.requests);
            self.settled.push(SettledChange { index: change, outcome, requests });
            let Some(waiting) = waiting else { continue };
            if self.changes[waiting].plain.is_some() {
                self.begin(waiting);
                continue;
            }
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

    /// Keeps the request that a piece was in last, if it is to be kept.
    pub(super) fn keep_request(&mut self, piece: &mut Piece) {
        let Some(request) = piece.take_last() else { return };
        let kept = &mut self.progress[piece.change].requests;
        if kept.len() == REQUESTS_KEPT_MAX {
            kept.remove(0);
        }
        kept.push(request);
    }

    pub(super) fn reject(&mut self, mut piece: Piece, reason: String) {
        self.keep_request(&mut piece);
        self.finish(piece.change, DeliveryOutcome::Rejected { reason, partly_applied: piece.maybe_applied });
    }

    pub(super) fn leave_unsent(&mut self, batch: Batch, reason: &str) {
        for piece in batch.pieces {
            self.leave_piece_unsent(piece, reason);
        }
    }

    pub(super) fn leave_piece_unsent(&mut self, mut piece: Piece, reason: &str) {
        self.keep_request(&mut piece);
        let reason = reason.to_owned();
        let outcome = if piece.maybe_applied {
            DeliveryOutcome::Unconfirmed { reason }
        } else {
            DeliveryOutcome::NotSent { reason }
        };
        self.finish(piece.change, outcome);
    }
}
