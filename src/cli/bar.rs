//! The progress bar's place on the terminal. Whatever else is written there goes through [`beside`], which takes the bar off
//! the screen, writes, and draws it again below: nothing is drawn over, and nothing is appended to the bar.

use indicatif::ProgressBar;
use parking_lot::Mutex;

/// The bar on the screen, if there is one: runs follow each other, so there are never two.
static DRAWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// From now on `bar` is on the screen.
pub(super) fn show(bar: ProgressBar) {
    *DRAWN.lock() = Some(bar);
}

/// Takes the bar off the screen.
pub(super) fn remove() {
    if let Some(bar) = DRAWN.lock().take() {
        bar.finish_and_clear();
    }
}

/// Writes whole lines to the terminal. `write` locks a stream only inside: the bar draws itself from another thread, and it
/// locks standard error after the bar.
pub(super) fn beside<T>(write: impl FnOnce() -> T) -> T {
    let drawn = DRAWN.lock().clone();
    match drawn {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}
