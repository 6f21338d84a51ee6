//! How a command ends: the exit code of several syncs, and errors that name their sync.

use crate::service::open::Failure;

/// The exit code that needs more attention: bad config, then failures, then an interruption, a guard, rejections.
pub(super) fn worse(left: u8, right: u8) -> u8 {
    let rank = |code: u8| [0, 3, 4, 130, 1, 2].iter().position(|known| *known == code).unwrap_or(4);
    if rank(right) > rank(left) { right } else { left }
}

/// A failure with the sync it is about, unless it names it already.
pub(super) fn with_sync(failure: Failure, sync: &str) -> Failure {
    let place = format!("sync {sync}");
    match failure {
        Failure::Error(error) if !error.to_string().starts_with(&place) => Failure::Error(error.at(place)),
        failure => failure,
    }
}
