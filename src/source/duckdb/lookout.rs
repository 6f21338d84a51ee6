//! Where are models described? In an empty database in memory, which binds statements and reads samples of files.
//!
//! Making such a database means filling a catalog with thousands of functions: over twenty milliseconds of a small run's
//! time, and memory that a daemon gets back in pieces. So one that has described something waits here for the next.
//! Nobody shares one: what is attached while a model is described is in reach of that model alone.

use std::sync::{Mutex, PoisonError};

use crate::duck::{Duck, Limits};
use crate::error::Result;

/// Those that nobody uses at the moment.
static IDLE: Mutex<Vec<Duck>> = Mutex::new(Vec::new());
/// More are not kept: as many models are seldom described at once.
const IDLE_MAX: usize = 4;

/// One for whoever asks, as if it were new.
pub(super) fn take() -> Result<Duck> {
    let waiting = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let limits = || Limits { memory_bytes: 256 * 1024 * 1024, threads: 1, ..Limits::standard() };
    waiting.map_or_else(|| Duck::open(None, &limits()), Ok)
}

/// Keeps one for the next; it has nothing attached any more, and its settings are those it was made with.
pub(super) fn give_back(duck: Duck) {
    let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
    if idle.len() < IDLE_MAX && !duck.given_up() {
        idle.push(duck);
    }
}
