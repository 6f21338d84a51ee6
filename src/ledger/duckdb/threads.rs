//! The thread budget: how many threads DuckDB uses while several runs share it.
//!
//! Reading, comparing and folding want all of them. Marking and recording are small statements: with one thread they run
//! where they are called; with more, the caller spins while another thread does the work, which costs the cores that
//! encode and send. The number belongs to the whole database, and lowering it waits for what the threads are at, so it is
//! lowered only when no run has large statements left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use duckdb::Connection;

use parking_lot::{Mutex, MutexGuard};

/// The threads of a database, shared by all connections, and whether this connection has large statements to run.
pub(super) struct ThreadBudget {
    shared: Arc<Shared>,
    large: AtomicBool,
}

struct Shared {
    threads: usize,
    /// How many connections have large statements to run.
    large: Mutex<usize>,
}

impl ThreadBudget {
    pub(super) fn new(threads: usize) -> ThreadBudget {
        ThreadBudget { shared: Arc::new(Shared { threads, large: Mutex::new(0) }), large: AtomicBool::new(false) }
    }

    /// The budget of another connection to the same database.
    pub(super) fn another(&self) -> ThreadBudget {
        ThreadBudget { shared: Arc::clone(&self.shared), large: AtomicBool::new(false) }
    }

    /// Before large statements: all threads.
    pub(super) fn raise(&self, connection: &Connection) -> duckdb::Result<()> {
        let mut large = self.shared.large();
        if !self.large.swap(true, Ordering::SeqCst) {
            *large += 1;
        }
        connection.execute_batch(&format!("SET threads = {}", self.shared.threads))
    }

    /// Before small statements: one thread, once no connection needs more.
    pub(super) fn lower(&self, connection: &Connection) -> duckdb::Result<()> {
        let mut large = self.shared.large();
        if !self.large.swap(false, Ordering::SeqCst) {
            return Ok(());
        }
        *large -= 1;
        if *large == 0 { connection.execute_batch("SET threads = 1") } else { Ok(()) }
    }
}

impl Shared {
    fn large(&self) -> MutexGuard<'_, usize> {
        self.large.lock()
    }
}

impl Drop for ThreadBudget {
    fn drop(&mut self) {
        if self.large.swap(false, Ordering::SeqCst) {
            *self.shared.large() -= 1;
        }
    }
}
