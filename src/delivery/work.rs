//! What is left to do for a page of changes? Pure bookkeeping: which parts wait, which requests to form next, and which
//! fate an ended request means for each change. Every change that enters leaves with exactly one fate.

use std::collections::{HashMap, VecDeque};

use super::Fate;
use super::request::{End, Ended};
use crate::destination::pack::{self, Size};
use crate::destination::{Addressed, Destination, Element, Limits, Part, Route};
use crate::error::{Error, Kind};

/// Refusals of single elements, with nothing delivered yet in the run, after which the destination is taken to refuse
/// everything. Until then such refusals are held back, not recorded: a project that lacks a feature must not turn its
/// accounts into rejected ones.
const COLD_REFUSALS_MAX: usize = 32;
/// From this many on, the next elements to try are drawn at random from the whole page, so that bad rows that stand
/// together do not pass for a bad project: if a fifth of the page is good, 28 draws miss it once in 500 runs.
const COLD_REFUSALS_ORDERED: usize = 4;
/// Requests in a row that used up all attempts, after which the destination is taken to be down.
const GIVE_UPS_MAX: usize = 4;

/// One part of one change, encoded.
#[derive(Debug)]
pub(super) struct Piece {
    change: usize,
    pub(super) element: Element,
    traits: usize,
    /// Whether an attempt at this very part may have been applied.
    maybe_applied: bool,
}

/// Pieces that share a request.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) route: Route,
    pub(super) pieces: Vec<Piece>,
}

impl Batch {
    /// The traits it speaks about.
    pub(super) fn traits(&self) -> usize {
        self.pieces.iter().map(|piece| piece.traits).sum()
    }

    fn body_bytes(&self, limits: &Limits) -> usize {
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
    /// Whether it has its fate.
    done: bool,
    /// The page's next change with the same key, which waits for this one.
    next: Option<usize>,
}

/// What delivery has learned about a destination, kept from page to page.
#[derive(Debug, Default)]
pub(super) struct Learned {
    /// Body sizes that a route was seen to refuse as too large, halved.
    body_bytes: HashMap<Route, usize>,
    /// Whether anything was ever delivered.
    delivered: bool,
    /// Requests in a row that used up all attempts.
    give_ups: usize,
}

/// The state of a page.
pub(super) struct Work<'a> {
    destination: &'a dyn Destination,
    changes: &'a [Addressed],
    progress: Vec<Progress>,
    /// Pieces that no request holds yet.
    loose: Vec<(Route, Piece)>,
    queue: VecDeque<Batch>,
    /// Refused changes whose fate waits for the first delivery: index, reason, whether an attempt may have been applied.
    held: Vec<(usize, String, bool)>,
    fates: Vec<(usize, Fate)>,
    learned: Learned,
}

impl<'a> Work<'a> {
    pub(super) fn new(destination: &'a dyn Destination, changes: &'a [Addressed], learned: Learned) -> Work<'a> {
        let progress = changes.iter().map(|_| Progress::default()).collect();
        let mut work = Work {
            destination,
            changes,
            progress,
            loose: Vec::new(),
            queue: VecDeque::new(),
            held: Vec::new(),
            fates: Vec::new(),
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

    /// Fates that are known and not yet taken.
    pub(super) fn take_fates(&mut self) -> Vec<(usize, Fate)> {
        std::mem::take(&mut self.fates)
    }

    /// The next request to send, if any can be formed. `draw` gives a number from zero to its argument.
    pub(super) fn next_batch(&mut self, draw: impl Fn(usize) -> usize) -> Option<Batch> {
        // Packing may reject a change and so begin the one that waited for it; each turn ends at least one change.
        while self.queue.is_empty() && !self.loose.is_empty() {
            self.pack_loose();
        }
        if self.held.len() < COLD_REFUSALS_ORDERED {
            return self.queue.pop_front();
        }
        let at = draw(self.queue.len().checked_sub(1)?);
        let batch = self.queue.get_mut(at)?;
        if batch.pieces.len() <= 1 {
            return self.queue.remove(at);
        }
        let piece = batch.pieces.swap_remove(draw(batch.pieces.len() - 1));
        Some(Batch { route: batch.route, pieces: vec![piece] })
    }

    /// Called when nothing is in flight and nothing can be sent: refusals that waited for a delivery become final, since
    /// nothing was left to compare them with. Returns whether there may be more to send now.
    pub(super) fn release_held(&mut self) -> bool {
        let any = !self.held.is_empty();
        for (change, reason, maybe_applied) in std::mem::take(&mut self.held) {
            self.finish(change, Fate::Rejected { reason, partly_applied: maybe_applied });
        }
        any
    }

    /// Takes in how a request ended. An error concerns the whole destination: nothing more must be sent.
    pub(super) fn absorb(&mut self, mut batch: Batch, ended: Ended) -> Result<(), Error> {
        for piece in &mut batch.pieces {
            piece.maybe_applied |= ended.maybe_applied;
        }
        if !matches!(ended.end, End::GaveUp { .. }) {
            self.learned.give_ups = 0;
        }
        match ended.end {
            End::Delivered { .. } => {
                self.learned.delivered = true;
                self.release_held();
                for piece in batch.pieces {
                    self.progress[piece.change].begun = true;
                    self.advance(piece.change);
                }
            }
            End::Refused { reason } => return self.refused(batch, reason),
            End::RefusedSome { elements } => self.refused_some(batch, elements),
            End::TooLarge { reason } => self.too_large(batch, reason),
            End::GaveUp { reason } => {
                self.unsent(batch, &reason);
                self.learned.give_ups += 1;
                if self.learned.give_ups >= GIVE_UPS_MAX {
                    return Err(self.error("does not take requests now", &reason).advise(
                        "run again later: what was not sent is sent then (`groupcast status` shows how much is left)",
                    ));
                }
            }
            End::Stop { reason, advice } => {
                self.unsent(batch, &reason);
                return Err(self.error("refuses requests", &reason).advise(advice));
            }
            End::Halted { reason } => self.unsent(batch, reason),
        }
        Ok(())
    }

    /// Nothing more is sent: everything without a fate gets one.
    pub(super) fn give_up(&mut self, reason: &str) {
        // Their refusal was never confirmed by a delivery to others, so they are tried again in the next run.
        for (change, refusal, maybe_applied) in std::mem::take(&mut self.held) {
            let fate =
                if maybe_applied { Fate::Unknown { reason: refusal } } else { Fate::NotSent { reason: refusal } };
            self.finish(change, fate);
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
            Err(reason) => self.finish(change, Fate::Rejected { reason, partly_applied: false }),
        }
    }

    /// Readies a change's next part, or ends it as delivered when there is none.
    fn advance(&mut self, change: usize) {
        let Some(part) = self.progress[change].parts.pop_front() else { return self.finish(change, Fate::Delivered) };
        let element = self.destination.element(&self.changes[change], &part);
        let traits = part.change.traits_count();
        self.loose.push((part.route, Piece { change, element, traits, maybe_applied: false }));
    }

    /// Gives a change its fate, and begins the one that waited for it.
    fn finish(&mut self, change: usize, fate: Fate) {
        let mut next = Some((change, fate));
        // A loop, not a recursion: a page may hold any number of changes of one key that are rejected at once.
        while let Some((change, fate)) = next.take() {
            let progress = &mut self.progress[change];
            debug_assert!(!progress.done, "change {change} has two fates");
            progress.done = true;
            progress.parts.clear();
            let fate = match fate {
                Fate::Rejected { reason, partly_applied } => {
                    Fate::Rejected { reason, partly_applied: partly_applied || progress.begun }
                }
                Fate::NotSent { reason } if progress.begun => Fate::Unknown { reason },
                fate => fate,
            };
            let waiting = progress.next;
            self.fates.push((change, fate));
            let Some(waiting) = waiting else { continue };
            match self.destination.parts(&self.changes[waiting]) {
                Ok(parts) if parts.is_empty() => next = Some((waiting, Fate::Delivered)),
                Ok(parts) => {
                    self.progress[waiting].parts = parts.into();
                    self.advance(waiting);
                }
                Err(reason) => next = Some((waiting, Fate::Rejected { reason, partly_applied: false })),
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
            let packed = pack::pack(&sizes, &self.destination.limits(route), goal);
            let mut pieces: Vec<Option<Piece>> = pieces.into_iter().map(Some).collect();
            for (at, reason) in packed.oversized {
                if let Some(piece) = pieces[at].take() {
                    self.reject(piece, reason);
                }
            }
            for batch in packed.batches {
                let pieces = batch.into_iter().filter_map(|at| pieces[at].take()).collect();
                self.queue.push_back(Batch { route, pieces });
            }
        }
    }

    fn reject(&mut self, piece: Piece, reason: String) {
        self.finish(piece.change, Fate::Rejected { reason, partly_applied: piece.maybe_applied });
    }

    fn unsent(&mut self, batch: Batch, reason: &str) {
        for piece in batch.pieces {
            self.unsent_piece(piece, reason);
        }
    }

    fn unsent_piece(&mut self, piece: Piece, reason: &str) {
        let reason = reason.to_owned();
        let fate = if piece.maybe_applied { Fate::Unknown { reason } } else { Fate::NotSent { reason } };
        self.finish(piece.change, fate);
    }

    /// One element: it is rejected (or held back while nothing was delivered yet). Several: two halves.
    fn refused(&mut self, mut batch: Batch, reason: String) -> Result<(), Error> {
        if batch.pieces.len() > 1 {
            let right = batch.pieces.split_off(batch.pieces.len() / 2);
            self.queue.push_front(Batch { route: batch.route, pieces: right });
            self.queue.push_front(batch);
            return Ok(());
        }
        for piece in batch.pieces {
            if self.learned.delivered || self.progress[piece.change].begun {
                self.reject(piece, reason.clone());
            } else {
                self.held.push((piece.change, reason.clone(), piece.maybe_applied));
            }
        }
        if self.held.len() >= COLD_REFUSALS_MAX {
            let what = format!("refused each of the first {COLD_REFUSALS_MAX} groups and took none");
            return Err(self.error(&what, &reason).advise(
                "check the account's plan and the group type at the vendor; if the data is at fault, correct the mapping",
            ));
        }
        Ok(())
    }

    /// The named elements are rejected, the others sent again.
    fn refused_some(&mut self, batch: Batch, elements: Vec<(usize, String)>) {
        let mut reasons: HashMap<usize, String> = elements.into_iter().collect();
        let count = batch.pieces.len();
        let mut others = Vec::with_capacity(count);
        for (at, piece) in batch.pieces.into_iter().enumerate() {
            match reasons.remove(&at) {
                Some(reason) => self.reject(piece, reason),
                None => others.push(piece),
            }
        }
        if others.len() < count {
            if !others.is_empty() {
                self.queue.push_front(Batch { route: batch.route, pieces: others });
            }
            return;
        }
        // It names no element that was there. Sending the same again would not end, so it is treated as a refusal of all.
        let reason = reasons.into_values().next().unwrap_or_else(|| "refused without naming elements".to_owned());
        if others.len() == 1 {
            others.into_iter().for_each(|piece| self.reject(piece, reason.clone()));
        } else {
            let right = others.split_off(count / 2);
            self.queue.push_front(Batch { route: batch.route, pieces: right });
            self.queue.push_front(Batch { route: batch.route, pieces: others });
        }
    }

    /// One element: it is rejected. Several: halves, and the route's later requests stay below half this size.
    fn too_large(&mut self, mut batch: Batch, reason: String) {
        if batch.pieces.len() <= 1 {
            batch.pieces.into_iter().for_each(|piece| self.reject(piece, reason.clone()));
            return;
        }
        let route = batch.route;
        let limits = self.destination.limits(route);
        let bytes: Vec<usize> = batch.pieces.iter().map(|piece| piece.element.bytes.len()).collect();
        let goal = batch.body_bytes(&limits) / 2 + limits.envelope_bytes;
        let goal = goal.min(self.learned.body_bytes.get(&route).copied().unwrap_or(usize::MAX));
        self.learned.body_bytes.insert(route, goal);
        let right = batch.pieces.split_off(pack::middle_by_bytes(&bytes));
        let (keep, repack): (VecDeque<Batch>, VecDeque<Batch>) = std::mem::take(&mut self.queue)
            .into_iter()
            .partition(|other| other.route != route || other.pieces.len() == 1 || other.body_bytes(&limits) <= goal);
        self.queue = keep;
        for batch in repack {
            self.loose.extend(batch.pieces.into_iter().map(|piece| (route, piece)));
        }
        self.queue.push_front(Batch { route, pieces: right });
        self.queue.push_front(batch);
    }
}
