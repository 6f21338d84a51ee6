//! The circuit breaker: distinguishes a group at fault from a destination that accepts nothing. Counts the failures since a request
//! was last accepted, and decides when the run stops. Pure.
//!
//! A response that could be about the data or about us (a firewall's 403, a failing server) makes a group rejected only if
//! the group fails alone, and others were accepted since it first failed. While others fail as well, no group is rejected:
//! the next to try are drawn at random from the whole page, one at a time, and after enough of them the run stops.

use super::piece::Piece;
use crate::destination::Route;

/// Consecutive rejections of single groups after which the destination is assumed to reject everything. Until then they
/// are undecided and not recorded: a project that lacks a feature must not turn its accounts into rejected ones.
pub(super) const REJECTIONS_MAX: usize = 32;
/// The same for responses that are not about the data. A firewall that blocks four of five groups would pass for a wrong
/// address in 3 of 100 runs.
const BLOCKED_MAX: usize = 16;
/// The same for a 401, of any request: few, because many servers lock an account after many.
const CREDENTIALS_MAX: usize = 3;
/// The same for requests that used up all attempts because the destination failed at them: few, because each takes long.
const FAILURES_MAX: usize = 4;
/// Consecutive requests that used up all attempts without reaching the destination, after which it counts as down.
const UNREACHED_MAX: usize = 4;
/// Consecutive requests that must not be repeated and may have been applied.
const UNCONFIRMED_MAX: usize = 2;
/// From so many failures on, the next to try are drawn at random from the whole page, so that bad rows next to each other
/// do not pass for a bad project: if a fifth of the page is good, 28 draws miss it once in 500 runs.
const ORDERED_REJECTIONS: usize = 4;
/// The same for responses that are not about the data.
const ORDERED_FAILURES: usize = 2;
/// Blocked groups at the end of a page that may be tried once more although nothing was accepted since: more of them are
/// no coincidence.
const LAST_ONES_MAX: usize = 3;
/// Attempts of a request that only looks for the group at fault.
const SEARCH_ATTEMPTS: u32 = 2;
/// Attempts at a group alone at which the destination fails, before it may be blamed.
const FAILURES_ALONE_MIN: u32 = 3;
/// How likely it may be that any group of the run fails alone so often by chance, given how often requests fail that are
/// accepted in the end. Computed at the end of a page, when most is known. The more groups are sent alone, the likelier
/// that one of them has bad luck at every attempt: with 10,000 of them and a server that fails at every fifth attempt,
/// three fail five times.
const CHANCE_MAX: f64 = 0.005;

/// Why a group failed alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureCause {
    /// It was rejected for its data.
    Rejected,
    /// It was rejected by something that may reject everything.
    Blocked,
    /// So it was, and the response is about credentials.
    Credentials,
    /// The destination failed at it.
    Failing,
    /// It was too large, far below every limit that is documented.
    TooLarge,
}

/// A group that failed alone, and whose outcome waits for what becomes of others.
#[derive(Debug)]
pub(super) struct Undecided {
    pub(super) route: Route,
    pub(super) piece: Piece,
    pub(super) cause: FailureCause,
    pub(super) reason: String,
}

/// What happens to an undecided group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Release {
    /// It is rejected.
    Reject,
    /// It is tried once more.
    Retry,
    /// It was not delivered, and the next run tries again.
    LeaveUnsent,
}

/// The failures since a request was last accepted.
#[derive(Debug, Default)]
struct FailureStreak {
    rejections: usize,
    blocked: usize,
    credentials: usize,
    failures: usize,
    /// Groups that failed alone after others had been accepted since their first failure, for whatever cause: they say less
    /// about the others.
    evident: usize,
    unreached: usize,
    unconfirmed: usize,
    /// Whatever is not about the data, whether or not a group was alone.
    others: usize,
    /// The last of them, with its error message and what to do about it.
    last_block: Option<(FailureCause, String, String)>,
}

/// The failures of a run, kept from page to page.
#[derive(Debug, Default)]
pub(super) struct FailureRecord {
    /// Requests that were accepted.
    accepted: u64,
    /// How many of these contained one group.
    accepted_alone: u64,
    /// Attempts that they took.
    attempts: u64,
    streak: FailureStreak,
}

impl FailureRecord {
    /// A request with so many groups was accepted, after so many attempts.
    pub(super) fn accept(&mut self, groups: usize, attempts: u32) {
        self.accepted += 1;
        self.accepted_alone += u64::from(groups == 1);
        self.attempts += u64::from(attempts.max(1));
        self.streak = FailureStreak::default();
    }

    /// Whether anything was accepted in this run.
    pub(super) fn any_accepted(&self) -> bool {
        self.accepted > 0
    }

    /// A request failed for a reason that is not about the data: remembers since when its groups fail.
    pub(super) fn note_failure(&mut self, pieces: &mut [Piece]) {
        self.note_failure_since(pieces, 0);
    }

    /// The same, of a request that was retried while so many others were accepted.
    pub(super) fn note_failure_since(&mut self, pieces: &mut [Piece], accepted_since: u64) {
        self.streak.others += 1;
        for piece in pieces {
            piece.failed_at.get_or_insert(self.accepted.saturating_sub(accepted_since));
        }
    }

    /// Whether other groups were accepted since this one first failed.
    fn is_evident(&self, piece: &Piece) -> bool {
        piece.failed_at.is_some_and(|at| self.accepted > at)
    }

    /// A group failed alone. That the same one fails again proves nothing new about the others.
    pub(super) fn count(&mut self, cause: FailureCause, piece: &Piece) {
        if piece.retried_alone {
            return;
        }
        match cause {
            FailureCause::Blocked | FailureCause::TooLarge | FailureCause::Failing if self.is_evident(piece) => {
                self.streak.evident += 1
            }
            FailureCause::Rejected => self.streak.rejections += 1,
            FailureCause::Blocked | FailureCause::TooLarge => self.streak.blocked += 1,
            FailureCause::Credentials => self.streak.credentials += 1,
            FailureCause::Failing => self.streak.failures += 1,
        }
    }

    /// A request did not reach the destination, or had to wait, as often as it may be tried.
    pub(super) fn unreached(&mut self) {
        self.streak.unreached += 1;
    }

    /// The destination was reached.
    pub(super) fn reached(&mut self) {
        self.streak.unreached = 0;
    }

    /// A request that must not be repeated may have been applied.
    pub(super) fn count_unconfirmed(&mut self) {
        self.streak.unconfirmed += 1;
    }

    /// The destination failed at a request that must not be repeated.
    pub(super) fn count_unrepeatable_failure(&mut self) {
        self.streak.failures += 1;
    }

    /// A response rejected some elements by name.
    pub(super) fn count_rejected_some(&mut self) {
        self.streak.rejections += 1;
    }

    /// Remembers the cause, the error message and the advice, should the run stop.
    pub(super) fn note_block(&mut self, cause: FailureCause, reason: &str, advice: String) {
        self.streak.last_block = Some((cause, reason.to_owned(), advice));
    }

    /// The last cause, its error message and its advice.
    pub(super) fn last_block(&self) -> Option<&(FailureCause, String, String)> {
        self.streak.last_block.as_ref()
    }

    /// Whether the destination is down.
    pub(super) fn is_down(&self) -> bool {
        self.streak.failures >= FAILURES_MAX
            || self.streak.unreached >= UNREACHED_MAX
            || self.streak.evident >= REJECTIONS_MAX
    }

    /// Whether every group is rejected, for whatever cause.
    pub(super) fn rejects_everything(&self) -> bool {
        let FailureStreak { rejections, blocked, credentials, evident, .. } = self.streak;
        rejections + blocked + credentials + evident >= REJECTIONS_MAX
    }

    /// Whether something rejects everything, or could do harm by accepting everything without an acknowledgement.
    pub(super) fn blocks_everything(&self) -> bool {
        let doubts_max = if self.any_accepted() { UNCONFIRMED_MAX } else { 1 };
        self.streak.blocked >= BLOCKED_MAX
            || self.streak.credentials >= CREDENTIALS_MAX
            || self.streak.unconfirmed >= doubts_max
    }

    /// Whether the next group to try is drawn at random, and alone.
    pub(super) fn is_searching(&self) -> bool {
        let ordered = if self.streak.credentials > 0 { 1 } else { ORDERED_FAILURES };
        self.streak.rejections + self.streak.blocked >= ORDERED_REJECTIONS || self.streak.others >= ordered
    }

    /// Whether requests go one at a time until one is accepted.
    pub(super) fn is_careful(&self) -> bool {
        self.streak.others > 0
    }

    /// How often a request with these groups may be sent, where one is sent `attempts_max` times at most. A search tries
    /// less often, but a group that is about to be rejected gets every attempt that is left.
    pub(super) fn attempts_max(&self, pieces: &[Piece], attempts_max: u32) -> u32 {
        let left = match pieces {
            [piece] => attempts_max.saturating_sub(piece.alone_attempts).max(1),
            _ => attempts_max,
        };
        let alone = matches!(pieces, [piece] if self.is_evident(piece));
        let searching = self.streak.others > 0 || pieces.iter().any(|piece| piece.failed_at.is_some());
        if searching && !alone { left.min(SEARCH_ATTEMPTS) } else { left }
    }

    /// Whether the destination fails because of this group, rather than now and then.
    fn fails_at(&self, piece: &Piece) -> bool {
        // Laplace's estimate, which starts at one half.
        let failed = (self.attempts - self.accepted) as f64;
        let rate = (failed + 1.0) / (self.attempts as f64 + 2.0);
        let chance = rate.powf(f64::from(piece.failures_alone)) * (self.accepted_alone + 1) as f64;
        piece.failures_alone >= FAILURES_ALONE_MIN && chance <= CHANCE_MAX
    }

    /// What happens to an undecided group now that another one was accepted; nothing where it stays undecided. A request is
    /// sent `attempts_max` times at most.
    pub(super) fn after_acceptance(&self, undecided: &Undecided, attempts_max: u32) -> Option<Release> {
        let piece = &undecided.piece;
        match undecided.cause {
            FailureCause::Rejected | FailureCause::TooLarge => Some(Release::Reject),
            FailureCause::Blocked | FailureCause::Credentials if piece.has_evidence => Some(Release::Reject),
            _ if piece.alone_attempts < attempts_max => Some(Release::Retry),
            // Nothing more can be tried, and others are accepted now.
            FailureCause::Blocked | FailureCause::Credentials => Some(Release::Reject),
            FailureCause::Failing => None,
        }
    }

    /// What happens to an undecided group when there is nothing left to compare it with; nothing where the run stops.
    pub(super) fn at_the_end(&self, undecided: &Undecided, attempts_max: u32) -> Option<Release> {
        let piece = &undecided.piece;
        let again = piece.alone_attempts < attempts_max;
        match undecided.cause {
            FailureCause::Rejected => Some(Release::Reject),
            FailureCause::TooLarge => self.any_accepted().then_some(Release::Reject),
            FailureCause::Failing => Some(match self.is_evident(piece) {
                true if self.fails_at(piece) => Release::Reject,
                true if again => Release::Retry,
                _ => Release::LeaveUnsent,
            }),
            FailureCause::Blocked | FailureCause::Credentials if piece.has_evidence => Some(Release::Reject),
            FailureCause::Blocked if self.any_accepted() && self.streak.blocked <= LAST_ONES_MAX => {
                Some(if again && !piece.retried_alone { Release::Retry } else { Release::Reject })
            }
            FailureCause::Blocked | FailureCause::Credentials => None,
        }
    }

    /// Notes whether this group may be at fault: see [`Piece::has_evidence`].
    pub(super) fn note_evidence(&self, piece: &mut Piece) {
        piece.has_evidence = piece.retried_alone || self.is_evident(piece);
    }
}
