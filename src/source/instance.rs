//! DuckDB instances for reading: input is read in one of its own, never in the ledger's.
//!
//! An instance that meets bytes it cannot take, runs out of memory or trips over an extension may be invalid afterwards
//! as a whole: then one run fails, and neither the ledger nor any other run notices. What crosses to the ledger is small:
//! sums, then keys and fingerprints, then the cells of candidates ([`super::staged`]).
//!
//! Making an instance means filling a catalog with thousands of functions: over twenty milliseconds of a small run's
//! time, and memory that a daemon gets back in pieces. So one that is whole and empty again waits here for the next.

use parking_lot::{Mutex, MutexGuard};

use crate::duckdb::{ConnectionSlot, DuckDbConnection, Limits, ledger_error, quote_identifier};
use crate::error::{Error, Kind, Result};
use crate::source::extensions::{Extensions, Problem};

/// Instances in use, and idle ones.
static POOL: Mutex<Pool> = Mutex::new(Pool { idle: Vec::new(), used: 0 });
/// More are not kept: as many models are seldom read at once.
const IDLE_MAX: usize = 4;
/// Least memory of an instance, in bytes: below it a table of twenty columns cannot be written by two threads.
const MEMORY_MIN_BYTES: u64 = 128 * 1024 * 1024;

struct Pool {
    idle: Vec<DuckDbConnection>,
    used: u64,
}

/// An instance for one reading at a time; it returns to the pool when it is dropped, unless something is wrong with it or
/// it has what others must not get.
pub struct Instance {
    duckdb: Option<DuckDbConnection>,
    is_plain: bool,
}

impl Instance {
    /// An empty instance. Of `limits.memory_bytes`, which all instances share, it gets what is left when each takes an
    /// equal part at its start: all of it for the first, half for the second beside it, a third for the next.
    pub async fn take(limits: &Limits) -> Result<Instance> {
        // Counted as used from here on, whatever comes: the drop counts back.
        let mut instance = Instance { duckdb: None, is_plain: true };
        let (waiting, used) = {
            let mut pool = pool();
            pool.used += 1;
            (pool.idle.pop(), pool.used)
        };
        let limits = Limits { memory_bytes: (limits.memory_bytes / used).max(MEMORY_MIN_BYTES), ..limits.clone() };
        let settings = format!("SET memory_limit = '{}B'; SET threads = {}", limits.memory_bytes, limits.threads);
        let duckdb = match waiting {
            Some(duckdb) => duckdb,
            None => {
                let open = tokio::task::spawn_blocking(move || DuckDbConnection::open(None, &limits)).await;
                open.map_err(|panic| Error::new(Kind::Bug, "failed to open an instance of DuckDB").because(panic))??
            }
        };
        instance
            .duckdb
            .insert(duckdb)
            .call("set up an instance of DuckDB", move |connection| {
                connection.execute_batch(&settings).map_err(ledger_error("set up an instance of DuckDB"))
            })
            .await?;
        Ok(instance)
    }

    /// A new instance with extensions and secrets, and what of them it is without. It never returns to the pool.
    pub async fn with_extensions(limits: &Limits, extensions: &Extensions) -> Result<(Instance, Vec<Problem>)> {
        if extensions.is_empty() {
            return Ok((Instance::take(limits).await?, Vec::new()));
        }
        let mut instance = Instance { duckdb: None, is_plain: false };
        let used = {
            let mut pool = pool();
            pool.used += 1;
            pool.used
        };
        let limits = Limits { memory_bytes: (limits.memory_bytes / used).max(MEMORY_MIN_BYTES), ..limits.clone() };
        let unsigned = extensions.allow_unsigned_extensions;
        let open = tokio::task::spawn_blocking(move || DuckDbConnection::open_for_extensions(&limits, unsigned)).await;
        let duckdb =
            open.map_err(|panic| Error::new(Kind::Bug, "failed to open an instance of DuckDB").because(panic))??;
        let extensions = extensions.clone();
        let problems = instance
            .duckdb
            .insert(duckdb)
            .call("load extensions", move |connection| Ok(extensions.set_up(connection)))
            .await?;
        Ok((instance, problems))
    }

    /// The instance's connection.
    pub fn duckdb(&self) -> &DuckDbConnection {
        self.duckdb.as_ref().expect("an instance is there until it is dropped")
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        pool().used -= 1;
        let Some(duckdb) = self.duckdb.take().filter(|_| self.is_plain) else { return };
        // Where a statement is still running nobody waits for it: the instance closes when the statement ends. Emptying is
        // done here and now, since a process that ends must not have a thread in DuckDB.
        let emptied = !duckdb.is_invalidated() && duckdb.try_call(|held| empty(held).is_ok()) == Some(true);
        // Whoever takes one meanwhile does not wait for the emptying.
        let mut pool = pool();
        if emptied && pool.idle.len() < IDLE_MAX {
            pool.idle.push(duckdb);
        }
    }
}

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock()
}

/// Removes everything that a reading left. One thread is kept, so that an idle instance costs none.
///
/// Fails where the turn at a file was passed on: the instance is then closed when that is had again.
fn empty(held: &mut ConnectionSlot) -> duckdb::Result<()> {
    if held.until_closed.as_ref().is_some_and(|had| !had.is_active()) {
        return Err(duckdb::Error::InvalidQuery);
    }
    let connection = &held.connection;
    connection.execute_batch("USE memory.main; RESET SESSION file_search_path; SET threads = 1")?;
    let left: Vec<(String, String)> = connection
        .prepare(
            "SELECT 'DROP TABLE temp.main.', table_name FROM duckdb_tables() WHERE database_name = 'temp' UNION ALL \
             SELECT 'DETACH DATABASE ', database_name FROM duckdb_databases() WHERE NOT internal AND database_name <> 'memory'",
        )?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<duckdb::Result<_>>()?;
    for (remove, name) in left {
        connection.execute_batch(&format!("{remove}{}", quote_identifier(&name)))?;
    }
    held.until_closed = None;
    Ok(())
}
