//! A piece is one part of one change, encoded; a batch is the pieces that share a request.

use std::collections::HashMap;
use std::sync::Arc;

use super::outcome::{ChangeRequest, LastRequest, RequestEnd, RequestOutcome};
use crate::destination::{Element, ElementVerdict, RequestLimits, Route};

/// One part of one change, encoded.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) change: usize,
    pub(super) element: Element,
    pub(super) traits: usize,
    /// Whether an attempt at this very part may have been applied.
    pub(super) maybe_applied: bool,
    /// How many requests had been accepted when it was first in a request that failed for a reason not about the data.
    pub(super) failed_at: Option<u64>,
    /// Whether others had been accepted in between when it failed alone.
    pub(super) has_evidence: bool,
    /// Whether it is tried once more after it failed alone.
    pub(super) retried_alone: bool,
    /// How often it was sent alone.
    pub(super) alone_attempts: u32,
    /// How many of these the destination failed at.
    pub(super) failures_alone: u32,
    /// The request it was in last, where that is kept.
    pub(super) last: Option<Arc<LastRequest>>,
}

impl Piece {
    /// A piece that was not sent yet.
    pub(super) fn new(change: usize, element: Element, traits: usize) -> Piece {
        Piece {
            change,
            element,
            traits,
            maybe_applied: false,
            failed_at: None,
            has_evidence: false,
            retried_alone: false,
            alone_attempts: 0,
            failures_alone: 0,
            last: None,
        }
    }

    /// The request it was in last, where that is kept.
    pub(super) fn take_last(&mut self) -> Option<ChangeRequest> {
        let request = self.last.take()?;
        let part = (request.changes > 1).then(|| std::mem::take(&mut self.element.bytes));
        Some(ChangeRequest { request, part })
    }
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
    pub(super) fn of(route: Route, pieces: Vec<Piece>) -> Batch {
        Batch { route, pieces, attempts_max: 1 }
    }

    /// The traits of its accepted elements.
    pub(super) fn traits_accepted(&self, outcome: &RequestOutcome) -> usize {
        let whole = matches!(outcome.end, RequestEnd::Accepted { .. });
        let settled: HashMap<usize, &ElementVerdict> =
            outcome.settled.iter().map(|one| (one.index, &one.verdict)).collect();
        let accepted = |at: &usize| settled.get(at).map_or(whole, |verdict| **verdict == ElementVerdict::Accepted);
        self.pieces.iter().enumerate().filter(|(at, _)| accepted(at)).map(|(_, piece)| piece.traits).sum()
    }

    pub(super) fn body_bytes(&self, limits: &RequestLimits) -> usize {
        let elements: usize = self.pieces.iter().map(|piece| piece.element.bytes.len() + limits.separator_bytes).sum();
        limits.envelope_bytes + elements
    }
}
