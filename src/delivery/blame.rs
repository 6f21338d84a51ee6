//! Whose fault is it that nothing is accepted: the group's, ours, or the destination's? Counts what went wrong since a
//! request was last accepted, and says when to stop. Pure.
//!
//! A response that could be about the data or about us (a firewall's 403, a failing server) is held against a group only
//! if the group fails alone, and others were accepted since it first failed. While others fail as well, nothing is held
//! against anybody: the next to try are drawn at random from the whole page, one at a time, and after enough of them the
//! run stops.

use super::work::Piece;
use crate::destination::Route;

/// Refusals of single groups in a row after which the destination is taken to refuse everything. Until then they are held
/// back, not recorded: a project that lacks a feature must not turn its accounts into rejected ones.
pub(super) const REFUSALS_MAX: usize = 32;
/// The same for answers that are not about the data by their words. A firewall that dislikes four of five groups would
/// pass for a wrong address in 3 of 100 runs.
const BARRED_MAX: usize = 16;
/// The same for a 401, of any request: few, because many servers lock an account after many.
const CREDENTIALS_MAX: usize = 3;
/// The same for requests that used up all attempts because the destination failed at them: few, because each takes long.
const FAILURES_MAX: usize = 4;
/// Requests in a row that used up all attempts without reaching the destination, after which it is taken to be down.
const UNREACHED_MAX: usize = 4;
/// Requests in a row that must not be repeated and may have been applied.
const DOUBTS_MAX: usize = 2;
/// From so many setbacks on, the next to try are drawn at random from the whole page, so that bad rows that stand
/// together do not pass for a bad project: if a fifth of the page is good, 28 draws miss it once in 500 runs.
const ORDERED_REFUSALS: usize = 4;
/// The same where refusals are not about the data by their words.
const ORDERED_OTHERS: usize = 2;
/// Barred groups at the end of a page that may be tried once more although nothing was accepted since: more of them are
/// no coincidence.
const LAST_ONES_MAX: usize = 3;
/// Attempts of a request that only looks for the group at fault.
const SEARCH_ATTEMPTS: u32 = 2;
/// Attempts at a group alone at which the destination fails, before it may be blamed.
const FAILURES_ALONE_MIN: u32 = 3;
/// How likely it may be that any group of the run fails alone so often by chance, going by how often requests fail that
/// are accepted in the end. It is asked at the end of a page, when most is known about that. The more groups are sent
/// alone, the likelier that one of them has bad luck at every attempt: with 10,000 of them and a server that fails at
/// every fifth attempt, three fail five times.
const CHANCE_MAX: f64 = 0.005;

/// Why a group that failed alone is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// It was refused by words about the data.
    Refused,
    /// It was refused by something that may refuse everything.
    Barred,
    /// So it was, and the words are about credentials.
    Credentials,
    /// The destination failed at it.
    Failing,
    /// It was too large, far below every limit that is documented.
    TooLarge,
}

/// A group that failed alone, and whose outcome waits for what becomes of others.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) route: Route,
    pub(super) piece: Piece,
    pub(super) cause: Cause,
    pub(super) reason: String,
}

/// What becomes of a held group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Release {
    /// It is rejected.
    Reject,
    /// It is tried once more.
    Again,
    /// It was not delivered, and the next run tries again.
    Leave,
}

/// What went wrong since a request was last accepted.
#[derive(Debug, Default)]
struct Row {
    refusals: usize,
    barred: usize,
    credentials: usize,
    failures: usize,
    /// Groups that failed alone after others had been accepted since they were first in doubt, of whatever kind: they say
    /// less about everybody else.
    evident: usize,
    unreached: usize,
    doubts: usize,
    /// Whatever is not about the data by its words, whether or not a group was alone.
    others: usize,
    /// What the operator should do about the last of them.
    advice: Option<(String, String)>,
}

/// The record of a run, kept from page to page.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Requests that were accepted.
    accepted: u64,
    /// How many of these held one group.
    accepted_alone: u64,
    /// Attempts that they took.
    attempts: u64,
    row: Row,
}

impl Record {
    /// A request with so many groups was accepted, after so many attempts.
    pub(super) fn accept(&mut self, groups: usize, attempts: u32) {
        self.accepted += 1;
        self.accepted_alone += u64::from(groups == 1);
        self.attempts += u64::from(attempts.max(1));
        self.row = Row::default();
    }

    /// Whether anything was accepted in this run.
    pub(super) fn any_accepted(&self) -> bool {
        self.accepted > 0
    }

    /// A request failed in a way that is not about the data by its words: remembers since when its groups are in doubt.
    pub(super) fn set_back(&mut self, pieces: &mut [Piece]) {
        self.set_back_earlier(pieces, 0);
    }

    /// The same, of a request that was repeated while so many others were accepted.
    pub(super) fn set_back_earlier(&mut self, pieces: &mut [Piece], accepted_since: u64) {
        self.row.others += 1;
        for piece in pieces {
            piece.doubted_at.get_or_insert(self.accepted.saturating_sub(accepted_since));
        }
    }

    /// Whether other groups were accepted since this one was first in doubt.
    fn is_evident(&self, piece: &Piece) -> bool {
        piece.doubted_at.is_some_and(|at| self.accepted > at)
    }

    /// A group failed alone. That the same one fails again says nothing new about the others.
    pub(super) fn count(&mut self, cause: Cause, piece: &Piece) {
        if piece.tried_again {
            return;
        }
        match cause {
            Cause::Barred | Cause::TooLarge | Cause::Failing if self.is_evident(piece) => self.row.evident += 1,
            Cause::Refused => self.row.refusals += 1,
            Cause::Barred | Cause::TooLarge => self.row.barred += 1,
            Cause::Credentials => self.row.credentials += 1,
            Cause::Failing => self.row.failures += 1,
        }
    }

    /// A request did not reach the destination, or was asked to wait, as often as it may be tried.
    pub(super) fn unreached(&mut self) {
        self.row.unreached += 1;
    }

    /// The destination was reached.
    pub(super) fn reached(&mut self) {
        self.row.unreached = 0;
    }

    /// A request that must not be repeated may have been applied.
    pub(super) fn doubt(&mut self) {
        self.row.doubts += 1;
    }

    /// The destination failed at a request that must not be repeated.
    pub(super) fn fail_for_good(&mut self) {
        self.row.failures += 1;
    }

    /// Elements were refused by name.
    pub(super) fn refuse_some(&mut self) {
        self.row.refusals += 1;
    }

    /// What to tell and to advise, should the run stop for what is not about the data.
    pub(super) fn advise(&mut self, reason: &str, advice: String) {
        self.row.advice = Some((reason.to_owned(), advice));
    }

    /// The last reason and its advice.
    pub(super) fn advice(&self) -> Option<&(String, String)> {
        self.row.advice.as_ref()
    }

    /// Whether the destination is down.
    pub(super) fn is_down(&self) -> bool {
        self.row.failures >= FAILURES_MAX || self.row.unreached >= UNREACHED_MAX || self.row.evident >= REFUSALS_MAX
    }

    /// Whether everything is refused, by whatever words.
    pub(super) fn is_refused(&self) -> bool {
        let Row { refusals, barred, credentials, evident, .. } = self.row;
        refusals + barred + credentials + evident >= REFUSALS_MAX
    }

    /// Whether something refuses everything, or could do harm by taking everything without saying so.
    pub(super) fn is_barred(&self) -> bool {
        let doubts_max = if self.any_accepted() { DOUBTS_MAX } else { 1 };
        self.row.barred >= BARRED_MAX || self.row.credentials >= CREDENTIALS_MAX || self.row.doubts >= doubts_max
    }

    /// Whether the next group to try is drawn at random, and alone.
    pub(super) fn is_searching(&self) -> bool {
        let ordered = if self.row.credentials > 0 { 1 } else { ORDERED_OTHERS };
        self.row.refusals + self.row.barred >= ORDERED_REFUSALS || self.row.others >= ordered
    }

    /// Whether requests go one at a time until one is accepted.
    pub(super) fn is_careful(&self) -> bool {
        self.row.others > 0
    }

    /// How often a request with these groups may be sent, where one is sent `attempts_max` times at most. A search tries
    /// less often, but whoever is about to be blamed gets every chance that is left.
    pub(super) fn attempts_max(&self, pieces: &[Piece], attempts_max: u32) -> u32 {
        let left = match pieces {
            [piece] => attempts_max.saturating_sub(piece.alone_attempts).max(1),
            _ => attempts_max,
        };
        let alone = matches!(pieces, [piece] if self.is_evident(piece));
        let searching = self.row.others > 0 || pieces.iter().any(|piece| piece.doubted_at.is_some());
        if searching && !alone { left.min(SEARCH_ATTEMPTS) } else { left }
    }

    /// Whether the destination fails at this group, rather than now and then.
    fn fails_at(&self, piece: &Piece) -> bool {
        // Laplace's estimate, which starts at one half.
        let failed = (self.attempts - self.accepted) as f64;
        let rate = (failed + 1.0) / (self.attempts as f64 + 2.0);
        let chance = rate.powf(f64::from(piece.failures_alone)) * (self.accepted_alone + 1) as f64;
        piece.failures_alone >= FAILURES_ALONE_MIN && chance <= CHANCE_MAX
    }

    /// What becomes of a held group now that another one was accepted; nothing where it is held on. A request is sent
    /// `attempts_max` times at most.
    pub(super) fn after_acceptance(&self, held: &Held, attempts_max: u32) -> Option<Release> {
        let piece = &held.piece;
        match held.cause {
            Cause::Refused | Cause::TooLarge => Some(Release::Reject),
            Cause::Barred | Cause::Credentials if piece.was_evident => Some(Release::Reject),
            _ if piece.alone_attempts < attempts_max => Some(Release::Again),
            // Nothing more can be tried, and others are accepted now.
            Cause::Barred | Cause::Credentials => Some(Release::Reject),
            Cause::Failing => None,
        }
    }

    /// What becomes of a held group when there is nothing left to compare it with; nothing where the run stops instead.
    pub(super) fn at_the_end(&self, held: &Held, attempts_max: u32) -> Option<Release> {
        let piece = &held.piece;
        let again = piece.alone_attempts < attempts_max;
        match held.cause {
            Cause::Refused => Some(Release::Reject),
            Cause::TooLarge => self.any_accepted().then_some(Release::Reject),
            Cause::Failing => Some(match self.is_evident(piece) {
                true if self.fails_at(piece) => Release::Reject,
                true if again => Release::Again,
                _ => Release::Leave,
            }),
            Cause::Barred | Cause::Credentials if piece.was_evident => Some(Release::Reject),
            Cause::Barred if self.any_accepted() && self.row.barred <= LAST_ONES_MAX => {
                Some(if again && !piece.tried_again { Release::Again } else { Release::Reject })
            }
            Cause::Barred | Cause::Credentials => None,
        }
    }

    /// Whether this group may be blamed: see [`Piece::was_evident`].
    pub(super) fn judge(&self, piece: &mut Piece) {
        piece.was_evident = piece.tried_again || self.is_evident(piece);
    }
}
