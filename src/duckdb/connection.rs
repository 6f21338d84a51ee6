//! A connection to a DuckDB database: every call runs on a blocking thread, one at a time, with a deadline.
//!
//! Waiting for a connection is async, so nothing that waits holds a thread: a statement that does not react to its
//! interrupt costs the thread it runs on and nothing else.
//!
//! Settings that decide correctness or memory are explicit: `memory_limit`, `threads`, `temp_directory`, the session's
//! time zone, and no extension is loaded or downloaded by itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use duckdb::{AccessMode, Config, Connection};
use parking_lot::Mutex;

use super::error::{invalidates, ledger_error, open_error};
use super::spill::spill_folder;
use crate::error::{Error, Kind, Result};

/// How much of the machine DuckDB may use.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Memory in bytes; beyond it DuckDB spills to `temp_folder`.
    pub memory_bytes: u64,
    /// Worker threads.
    pub threads: usize,
    /// Where it spills to: each instance in a folder of its own below this one.
    pub temp_folder: PathBuf,
}

impl Limits {
    /// 512 MB, as many threads as the machine has up to 8, spilling beside the operating system's temporary files.
    /// Half a gigabyte holds the no-change comparison of ten million keys; with the process's own needs it stays under one.
    pub fn standard() -> Limits {
        Limits {
            memory_bytes: 512 * 1024 * 1024,
            threads: std::thread::available_parallelism().map_or(2, usize::from).min(8),
            temp_folder: std::env::temp_dir(),
        }
    }
}

/// A connection that can be shared between tasks; clones speak to the same one.
#[derive(Clone)]
pub struct DuckDbConnection {
    connection: Arc<tokio::sync::Mutex<ConnectionSlot>>,
    /// Makes further connections and does nothing else, so that making one never waits for a statement.
    seed: Arc<Mutex<Connection>>,
    /// Whether DuckDB gave the whole database up.
    is_invalidated: Arc<AtomicBool>,
    interrupt: Arc<duckdb::InterruptHandle>,
    progress: duckdb::ProgressHandle,
    deadline: Duration,
}

/// A connection with what must outlive it. Fields are dropped in this order: the connection first.
pub(crate) struct ConnectionSlot {
    pub(crate) connection: Connection,
    /// Kept until the connection is closed, or until the code that put it here takes it away: a turn at a file.
    pub(crate) until_closed: Option<Box<dyn FileHold>>,
}

/// What is had for as long as a connection has a file open, and may be passed on while a statement does not end.
pub(crate) trait FileHold: Send {
    /// Whether it was not passed on.
    fn is_active(&self) -> bool;

    /// Waits until it is had again. Blocks its thread.
    fn reacquire(&mut self);
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        if self.until_closed.as_ref().is_none_or(|had| had.is_active()) {
            return;
        }
        // Somebody else's turn: closing the file now would let go of the lock that they read under.
        let (Some(mut passed_on), Ok(none)) = (self.until_closed.take(), Connection::open_in_memory()) else { return };
        let connection = std::mem::replace(&mut self.connection, none);
        std::thread::spawn(move || {
            passed_on.reacquire();
            drop(connection);
        });
    }
}

impl ConnectionSlot {
    /// To be called before a file is closed: waits for its turn where that was passed on.
    pub(crate) fn reacquire(&mut self) {
        if let Some(had) = self.until_closed.as_mut() {
            had.reacquire();
        }
    }

    fn new(connection: Connection) -> Arc<tokio::sync::Mutex<ConnectionSlot>> {
        Arc::new(tokio::sync::Mutex::new(ConnectionSlot { connection, until_closed: None }))
    }
}

/// DuckDB's setting for the threads that read ahead.
const READ_AHEAD: &str = "async_threads";
/// Longest a single statement may take. A full comparison of ten million rows takes seconds; an hour is a hang.
const DEADLINE: Duration = Duration::from_secs(3600);
/// How long an interrupted statement may take to end. DuckDB looks at its interrupts every few thousand rows; what does
/// not react in half a minute may never do so.
const REACTION_MAX: Duration = Duration::from_secs(30);

impl DuckDbConnection {
    /// Opens (or creates) the database file at `path`, or an in-memory one.
    ///
    /// Errors: [`Kind::LedgerBusy`] when another process holds the file, [`Kind::Ledger`] otherwise.
    pub fn open(path: Option<&Path>, limits: &Limits) -> Result<DuckDbConnection> {
        DuckDbConnection::open_set(path, limits, false, false)
    }

    /// Opens the existing database file at `path` without the right to write; temporary tables can still be made.
    pub fn open_read_only(path: &Path, limits: &Limits) -> Result<DuckDbConnection> {
        DuckDbConnection::open_set(Some(path), limits, true, false)
    }

    /// An in-memory database that may load extensions, also such that DuckDB has not signed if `unsigned`.
    pub fn open_for_extensions(limits: &Limits, unsigned: bool) -> Result<DuckDbConnection> {
        DuckDbConnection::open_set(None, limits, false, unsigned)
    }

    fn open_set(path: Option<&Path>, limits: &Limits, read_only: bool, unsigned: bool) -> Result<DuckDbConnection> {
        let settings = |error: duckdb::Error| Error::new(Kind::Bug, "failed to configure DuckDB").because(error);
        // DuckDB makes the folder itself when it first spills, but not those above it. Where they cannot be made, only what
        // must spill fails, and says so.
        let _ = std::fs::create_dir_all(&limits.temp_folder);
        let temp_folder = spill_folder(&limits.temp_folder);
        let open = |reads_ahead: bool| -> Result<duckdb::Result<Connection>> {
            let mut config = Config::default()
                .access_mode(if read_only { AccessMode::ReadOnly } else { AccessMode::Automatic })
                .and_then(|config| config.with("memory_limit", format!("{}B", limits.memory_bytes)))
                .and_then(|config| config.threads(limits.threads as i64))
                .and_then(|config| config.with("temp_directory", temp_folder.display().to_string()))
                .and_then(|config| config.with("autoinstall_known_extensions", "false"))
                // Nor is one loaded without being named, only because it is on this machine.
                .and_then(|config| config.with("autoload_known_extensions", "false"))
                .and_then(|config| config.with("allow_community_extensions", "false"))
                .and_then(|config| config.with("allow_unsigned_extensions", unsigned.to_string()))
                .and_then(|config| config.with("preserve_insertion_order", "false"))
                // A model's files are read once in a run; what is kept of them would crowd out the comparison.
                .and_then(|config| config.with("enable_external_file_cache", "false"))
                // The log is folded into the file when it has this size, and when the file is closed. DuckDB's own 16 MB
                // would compress a long run's journal dozens of times; what is in the log is in memory, too (measured in
                // `docs/performance.md`).
                .and_then(|config| config.with("checkpoint_threshold", "128MB"))
                .and_then(|config| config.with("custom_user_agent", "groupcast"))
                .map_err(settings)?;
            if reads_ahead {
                // Eight threads for reading ahead per database by default, of which there are several.
                config = config.with(READ_AHEAD, limits.threads.to_string()).map_err(settings)?;
            }
            Ok(match path {
                Some(path) => Connection::open_with_flags(path, config),
                None => Connection::open_in_memory_with_flags(config),
            })
        };
        let mut opened = open(true)?;
        // DuckDB 1.5, for which there are other extensions, has no such threads.
        if opened.as_ref().is_err_and(|error| error.to_string().contains(READ_AHEAD)) {
            opened = open(false)?;
        }
        let connection = opened.map_err(|error| open_error(&error.to_string(), path))?;
        // Builds with the ICU extension take the machine's zone; those without know only UTC and refuse the setting.
        drop(connection.execute_batch("SET TimeZone = 'UTC'"));
        let seed = connection.try_clone().map_err(ledger_error("open another connection"))?;
        Ok(DuckDbConnection {
            interrupt: connection.interrupt_handle(),
            progress: connection.progress_handle(),
            connection: ConnectionSlot::new(connection),
            seed: Arc::new(Mutex::new(seed)),
            is_invalidated: Arc::default(),
            deadline: DEADLINE,
        })
    }

    /// Another connection to the same database, for work that goes on beside this one's: temporary tables are its own,
    /// files and memory are shared. Waits for no statement.
    pub fn sibling(&self) -> Result<DuckDbConnection> {
        let seed = self.seed.lock();
        let connection = seed.try_clone().map_err(ledger_error("open another connection"))?;
        drop(connection.execute_batch("SET TimeZone = 'UTC'"));
        Ok(DuckDbConnection {
            interrupt: connection.interrupt_handle(),
            progress: connection.progress_handle(),
            connection: ConnectionSlot::new(connection),
            seed: Arc::clone(&self.seed),
            is_invalidated: Arc::clone(&self.is_invalidated),
            deadline: self.deadline,
        })
    }

    /// Runs `work` with the connection on a blocking thread. One call runs at a time; later ones queue.
    ///
    /// A call that exceeds the deadline is interrupted. If the future is dropped the work still runs to its end, so a
    /// statement is never half done; code that cancels a run calls [`DuckDbConnection::interrupt`] as well.
    pub async fn call<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.call_with_slot(what, None, move |held| work(&mut held.connection)).await
    }

    /// [`DuckDbConnection::call`] for work that leaves something to be held as long as the connection is open. If DuckDB reports no
    /// progress of a statement for as long as `stall`, it is interrupted, and the call fails.
    pub(crate) async fn call_with_slot<T: Send + 'static>(
        &self,
        what: &'static str,
        stall: Option<Duration>,
        work: impl FnOnce(&mut ConnectionSlot) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut held = Arc::clone(&self.connection).lock_owned().await;
        // A panic inside DuckDB's bindings leaves the connection usable: each statement is its own transaction or is
        // rolled back by the next BEGIN failing loudly.
        let mut task = tokio::task::spawn_blocking(move || {
            if stall.is_none() {
                return work(&mut held);
            }
            // Best effort: without it no statement seems to get on.
            let _ = held.connection.set_query_progress_tracking(true);
            let done = work(&mut held);
            let _ = held.connection.set_query_progress_tracking(false);
            done
        });
        let stalled = async {
            match stall {
                Some(limit) => self.stalled(limit).await,
                None => std::future::pending().await,
            }
        };
        let deadline = self.deadline.max(stall.unwrap_or_default());
        let ended = tokio::select! {
            joined = &mut task => Ok(joined),
            () = stalled => Err(stall),
            _ = tokio::time::timeout(deadline, std::future::pending::<()>()) => Err(None),
        };
        let joined = match ended {
            Ok(joined) => joined,
            Err(stalled) => {
                self.interrupt.interrupt();
                match (tokio::time::timeout(REACTION_MAX, task).await, stalled) {
                    (Ok(Ok(Err(error))), Some(limit)) if error.kind() == Kind::Interrupted => {
                        return Err(no_progress(what, limit));
                    }
                    (Ok(joined), _) => joined,
                    // A read from a server that says nothing more notices its interrupt only when something comes.
                    (Err(_), Some(limit)) => return Err(no_progress(what, limit)),
                    (Err(_), None) => return Err(unresponsive(what)),
                }
            }
        };
        let done =
            joined.unwrap_or_else(|panic| Err(Error::new(Kind::Bug, format!("failed to {what}")).because(panic)));
        if done.as_ref().is_err_and(|error| invalidates(&error.to_string())) {
            self.is_invalidated.store(true, Ordering::Relaxed);
        }
        done
    }

    /// Returns when the running statement has made no progress for as long as `limit`, by DuckDB's own account of it.
    async fn stalled(&self, limit: Duration) {
        let every = (limit / 20).clamp(Duration::from_millis(50), Duration::from_secs(5));
        let (mut before, mut still) = (self.progress.query_progress(), Duration::ZERO);
        while still < limit {
            let _ = tokio::time::timeout(every, std::future::pending::<()>()).await;
            let now = self.progress.query_progress();
            still = if now == before { still + every } else { Duration::ZERO };
            before = now;
        }
    }

    /// Runs work that is over at once on this thread; `None` while a statement is running.
    pub(crate) fn try_call<T>(&self, work: impl FnOnce(&mut ConnectionSlot) -> T) -> Option<T> {
        let mut held = self.connection.try_lock().ok()?;
        Some(work(&mut held))
    }

    /// Whether no statement is running.
    pub fn is_idle(&self) -> bool {
        self.connection.try_lock().is_ok()
    }

    /// Whether DuckDB gave the whole database up, as it does when it fails half way through folding its log into the file.
    /// What was committed is safe, and nothing more can be read or written before the file is opened again, by a process
    /// that has closed every connection.
    pub fn is_invalidated(&self) -> bool {
        self.is_invalidated.load(Ordering::Relaxed)
    }

    /// Makes the running statement fail soon.
    pub fn interrupt(&self) {
        self.interrupt.interrupt();
    }
}

/// A statement that did not get on.
fn no_progress(what: &str, limit: Duration) -> Error {
    let limit = crate::format::duration(limit);
    Error::new(Kind::SourceBusy, format!("failed to {what}: the statement made no progress for {limit}")).advise(
        "check whether the model's SQL ever ends, and whether the server that it reads from answers; if it takes longer \
         before DuckDB reports progress, raise `stall_timeout_seconds`",
    )
}

/// A statement that went on although it was interrupted.
fn unresponsive(what: &str) -> Error {
    Error::new(Kind::Source, format!("failed to {what}: the statement does not react to being interrupted"))
        .advise("simplify the model's SQL; the thread that runs the statement is lost until the process ends")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn calls_run_and_their_panics_are_errors() {
        let duckdb = DuckDbConnection::open(None, &Limits::standard()).unwrap();
        let one: i64 = duckdb
            .call("count", |connection| {
                connection.query_row("SELECT 1", [], |row| row.get(0)).map_err(ledger_error("count"))
            })
            .await
            .unwrap();
        assert_eq!(one, 1);
        let error = duckdb.call::<()>("explode", |_| panic!("boom")).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Bug);
        assert!(duckdb.call("go on", |_| Ok(())).await.is_ok());
    }

    #[tokio::test]
    async fn another_connection_waits_for_no_statement() {
        let duckdb = DuckDbConnection::open(None, &Limits::standard()).unwrap();
        let (go_on, waiting) = std::sync::mpsc::channel::<()>();
        let (begun, began) = tokio::sync::oneshot::channel();
        let busy = duckdb.clone();
        let long = tokio::spawn(async move {
            let work = move |_: &mut Connection| {
                begun.send(()).unwrap();
                waiting.recv().unwrap();
                Ok(())
            };
            busy.call("take long", work).await
        });
        began.await.unwrap();
        let (made, makes) = std::sync::mpsc::channel();
        std::thread::spawn(move || made.send(duckdb.sibling().is_ok()));
        let made = makes.recv_timeout(Duration::from_secs(10));
        go_on.send(()).unwrap();
        long.await.unwrap().unwrap();
        assert_eq!(made, Ok(true));
    }

    #[test]
    fn a_file_that_is_no_database_is_named_with_a_next_step() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.duckdb");
        std::fs::write(&path, vec![7u8; 20_000]).unwrap();
        let error = DuckDbConnection::open(Some(&path), &Limits::standard()).err().unwrap();
        assert_eq!(error.kind(), Kind::Ledger);
        assert!(error.to_string().contains("ledger.duckdb"), "{error}");
        assert!(error.advice().unwrap().contains("backup"), "{error}");
    }
}
