//! How many threads does DuckDB use while several runs share it?
//!
//! Reading, comparing and folding want all of them. Marking and recording are small statements: with one thread they run
//! where they are called; with more, the caller spins while another thread does the work, which costs the cores that
//! encode and send. The number belongs to the whole database, and lowering it waits for what the threads are at, so it is
//! lowered only when no run has large statements left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use duckdb::Connection;
use parking_lot::{Mutex, MutexGuard};

/// The threads of a database, shared by all who use it.
pub(super) struct Threads {
    all: usize,
    /// How many have large statements to run.
    large: Mutex<usize>,
}

impl Threads {
    pub(super) fn new(all: usize) -> Arc<Threads> {
        Arc::new(Threads { all, large: Mutex::new(0) })
    }

    fn large(&self) -> MutexGuard<'_, usize> {
        self.large.lock()
    }
}

/// Whether one of them has large statements to run.
pub(super) struct Share {
    threads: Arc<Threads>,
    large: AtomicBool,
}

impl Share {
    pub(super) fn of(threads: &Arc<Threads>) -> Share {
        Share { threads: Arc::clone(threads), large: AtomicBool::new(false) }
    }

    pub(super) fn threads(&self) -> &Arc<Threads> {
        &self.threads
    }

    /// Large statements follow.
    pub(super) fn large(&self, connection: &Connection) -> duckdb::Result<()> {
        let mut large = self.threads.large();
        if !self.large.swap(true, Ordering::SeqCst) {
            *large += 1;
        }
        connection.execute_batch(&format!("SET threads = {}", self.threads.all))
    }

    /// Small statements follow.
    pub(super) fn small(&self, connection: &Connection) -> duckdb::Result<()> {
        let mut large = self.threads.large();
        if self.large.swap(false, Ordering::SeqCst) {
            *large -= 1;
        }
        if *large == 0 { connection.execute_batch("SET threads = 1") } else { Ok(()) }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.large.swap(false, Ordering::SeqCst) {
            *self.threads.large() -= 1;
        }
    }
}
