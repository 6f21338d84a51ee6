//! The ledger in an embedded DuckDB file: the default. Runs the SQL of `statements`, and reads pages as Arrow.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use duckdb::{Connection, params};
use parking_lot::{Mutex, MutexGuard};

use super::compare::{self, Candidates};
use super::generation::{self, Generations, Recorded, beside};
use super::place::{self, FilePlace, LogPlace};
use super::rows::{Line, append, begin, fold, history, list};
use super::threads::{Share, Threads};
use super::{
    Begun, Candidate, Checkpoint, Comparison, Entry, GroupCounts, HistoryEntry, Incoming, KnownGroup, Ledger,
    RunRecord, RunStart, Scope, long_texts, schema, statements,
};
use crate::duckdb::{DuckDbConnection, Limits, ledger_error, quote_literal};
use crate::error::{Error, Kind, Result, Within};
use crate::source::staged::ORDERED_MAX;

/// A run that ends folds the log into the file when it is larger than this. What stands in the log stands in memory, too,
/// and is read again after a kill: a daemon whose runs say little would let it grow for months. A long run is over before
/// its log is looked at, so what it wrote is compressed once.
const LOG_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How often, and how soon after each other, a run tries to fold the log into the file.
const FOLD_TRIES: u32 = 100;
const FOLD_AGAIN: Duration = Duration::from_millis(50);

/// What follows from a ledger that is not the newest there was ([`LocalLedger::older`]).
pub const OLDER_ADVICE: &str = "every group is unconfirmed now, and the next full run of each sync sends everything again; \
    groups that only lost runs sent, and that have left the source, stay at the destination as they are";

/// A ledger in a DuckDB file.
pub struct LocalLedger {
    duckdb: DuckDbConnection,
    path: String,
    /// DuckDB's log beside the file; none for a ledger that is not written.
    log: Option<Arc<LogPlace>>,
    /// Where the open file was found; none for a ledger that is not written, and for one in memory.
    file: Option<Arc<FilePlace>>,
    read_only: bool,
    threads: Arc<Share>,
    retention: Retention,
    /// The next journal sequence.
    next_seq: Arc<AtomicU64>,
    /// Up to so many candidates come in key order.
    ordered_max: u64,
    /// Bytes of a document or change that stands in its row.
    inline_max: usize,
    /// What this connection's comparison found.
    candidates: Arc<Mutex<Candidates>>,
    /// Writers of all siblings take turns: DuckDB would refuse the second of two that touch the same rows.
    writing: Arc<Mutex<()>>,
    /// How new it is; none for a ledger that is not written, or not kept.
    generations: Option<Arc<Generations>>,
    /// Why it was no newest ledger when it was opened.
    older: Option<Arc<str>>,
    /// What groups it does not know are to this connection's run.
    unknown_groups: Arc<UnknownGroups>,
}

/// Whether groups that the ledger does not know may be at the destination all the same.
#[derive(Default)]
struct UnknownGroups {
    may_be_there: AtomicBool,
    /// Whether the view that shows an older ledger's groups as uncertain stands before the real ones.
    behind_view: AtomicBool,
}

/// An open ledger's files.
struct Files {
    file: Arc<FilePlace>,
    log: Arc<LogPlace>,
    generations: Option<Arc<Generations>>,
}

impl Files {
    /// Fails when the ledger's file is not at its path; saves what a log holds that is not at its own. Between transactions
    /// only.
    fn mend(&self, connection: &Connection) -> Result<()> {
        self.file.check()?;
        if self.log.is_lost() {
            connection.execute_batch("CHECKPOINT").map_err(ledger_error("save what the ledger's lost log holds"))?;
            tracing::warn!(
                "the ledger's log (`.wal`) was moved or deleted while the ledger is open; what it held is in the ledger's \
                 file now, and nothing is lost. Leave it alone while a process has the ledger open"
            );
        }
        Ok(())
    }
}

/// What an open file says of itself.
struct Opened {
    next_seq: u64,
    held: Recorded,
    older: Option<String>,
}

/// How long what happened is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The journal: what was said about each group. Both are measured by the runs since, not by the clock alone.
    pub journal: Duration,
    /// The records of runs. What the next run needs of earlier ones is kept however old it is.
    pub runs: Duration,
}

impl Retention {
    /// For a ledger that is only looked at.
    const FOR_EVER: Retention = Retention { journal: Duration::MAX, runs: Duration::MAX };
}

impl LocalLedger {
    /// Opens the ledger at `path`, creating it and its folder when absent.
    ///
    /// Errors: [`Kind::LedgerBusy`] when another process has it open; [`Kind::Ledger`] when it is unreadable, of a newer
    /// version, or cannot be written.
    pub async fn open(path: &Path, limits: &Limits, retention: Retention) -> Result<LocalLedger> {
        let place = format!("ledger {}", path.display());
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)
                .map_err(|error| place::write_error("failed to create the ledger's folder", error).at(place.clone()))?;
        }
        let duckdb = DuckDbConnection::open(Some(path), limits).within(|| "ledger".to_owned())?;
        let file = FilePlace::of(path).within(|| place.clone())?;
        let ledger = LocalLedger::over(duckdb, place, Some(path), false, limits.threads, retention).await?;
        let log = beside(path, "wal");
        for file in [path, &log] {
            // Made by DuckDB with the umask of some process. Where it is another user's, that user has decided.
            drop(std::fs::set_permissions(file, Permissions::from_mode(0o600)));
        }
        Ok(LocalLedger { log: Some(Arc::new(LogPlace::of(&log))), file: Some(Arc::new(file)), ..ledger })
    }

    /// Opens an existing ledger without the right to write: what `plan` and the questions use. A run that died is
    /// folded in temporary copies, so that a plan sees what the next run will see and the file stays as it is.
    pub async fn open_read_only(path: &Path, limits: &Limits) -> Result<LocalLedger> {
        let duckdb = DuckDbConnection::open_read_only(path, limits).within(|| "ledger".to_owned())?;
        let place = format!("ledger {}", path.display());
        LocalLedger::over(duckdb, place, Some(path), true, limits.threads, Retention::FOR_EVER).await
    }

    /// A ledger in memory, with a local ledger's every property but durability: what `plan` uses where there is no ledger
    /// at `path`. Where there was one, and it was lost, that is known as it is to the next run.
    pub async fn in_place_of(path: &Path, limits: &Limits) -> Result<LocalLedger> {
        let recorded_in = beside(path, "generation");
        let name = recorded_in.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let recorded = generation::read(&recorded_in).within(|| format!("ledger {}", path.display()))?;
        let none = Recorded { ledger: String::new(), generation: 0 };
        let older = generation::older(&none, recorded.as_ref(), &name).map(Arc::from);
        Ok(LocalLedger { older, ..LocalLedger::in_memory(limits).await? })
    }

    /// A ledger in memory, with a local ledger's every property but durability.
    pub async fn in_memory(limits: &Limits) -> Result<LocalLedger> {
        let duckdb = DuckDbConnection::open(None, limits)?;
        LocalLedger::over(duckdb, "ledger".to_owned(), None, false, limits.threads, Retention::FOR_EVER).await
    }

    async fn over(
        duckdb: DuckDbConnection,
        path: String,
        file: Option<&Path>,
        read_only: bool,
        threads: usize,
        retention: Retention,
    ) -> Result<LocalLedger> {
        let (at, recorded_in) = (file.map(Path::to_path_buf), file.map(|file| beside(file, "generation")));
        let Opened { next_seq, held, older } = duckdb
            .call("open the ledger", move |connection| {
                schema::migrate(connection, at.as_deref(), read_only)?;
                opened(connection, recorded_in.as_deref(), read_only)
            })
            .await
            .within(|| path.clone())?;
        let recorded_in = file.filter(|_| !read_only).map(|file| beside(file, "generation"));
        Ok(LocalLedger {
            generations: recorded_in.map(|path| Arc::new(Generations::of(path, held))),
            unknown_groups: Arc::new(UnknownGroups {
                behind_view: AtomicBool::new(read_only && older.is_some()),
                ..UnknownGroups::default()
            }),
            older: older.map(Arc::from),
            duckdb,
            path,
            log: None,
            file: None,
            read_only,
            threads: Arc::new(Share::of(&Threads::new(threads))),
            retention,
            next_seq: Arc::new(AtomicU64::new(next_seq)),
            ordered_max: ORDERED_MAX,
            inline_max: long_texts::INLINE_BYTES_MAX,
            candidates: Arc::default(),
            writing: Arc::default(),
        })
    }

    /// The same ledger over a connection of its own, for a run beside other runs: the suspects of a run belong to its
    /// connection, everything that lasts is shared.
    pub fn sibling(&self) -> Result<LocalLedger> {
        self.beside(self.read_only)
    }

    /// A sibling that never writes, as if opened with [`LocalLedger::open_read_only`]: for a plan. A run of the sync
    /// that is under way would be taken for one that died; the caller sees to it that there is none.
    pub fn sibling_read_only(&self) -> Result<LocalLedger> {
        self.beside(true)
    }

    fn beside(&self, read_only: bool) -> Result<LocalLedger> {
        Ok(LocalLedger {
            duckdb: self.duckdb.sibling().within(|| self.path.clone())?,
            path: self.path.clone(),
            log: self.log.clone().filter(|_| !read_only),
            file: self.file.clone().filter(|_| !read_only),
            read_only,
            threads: Arc::new(Share::of(self.threads.threads())),
            retention: self.retention,
            next_seq: Arc::clone(&self.next_seq),
            ordered_max: self.ordered_max,
            inline_max: self.inline_max,
            candidates: Arc::default(),
            writing: Arc::clone(&self.writing),
            generations: self.generations.clone().filter(|_| !read_only),
            // What it was found to be is settled in the tables, unless they could not be written.
            older: self.older.clone().filter(|_| self.generations.is_none()),
            unknown_groups: Arc::default(),
        })
    }

    /// The same ledger with another limit up to which candidates come in key order, so that what happens to very many can
    /// be tried with few.
    pub fn ordered_up_to(self, ordered_max: u64) -> LocalLedger {
        LocalLedger { ordered_max, ..self }
    }

    /// The same ledger with another limit of bytes up to which documents and changes stand in their rows, so that what
    /// happens to large ones can be tried with small ones. The empty document, which conditions ask for, always does.
    pub fn inline_up_to(self, inline_max: usize) -> LocalLedger {
        LocalLedger { inline_max: inline_max.max("{}".len()), ..self }
    }

    /// An error of the ledger with its place; what the source says has its own.
    fn own(&self, error: Error) -> Error {
        if error.kind() == Kind::Ledger { error.at(self.path.clone()) } else { error }
    }

    /// The file that is open for writing; none for a ledger that is only read, or lives in memory.
    pub fn file(&self) -> Option<Arc<FilePlace>> {
        self.file.clone()
    }

    fn files(&self) -> Option<Files> {
        let (file, log) = (self.file.clone()?, self.log.clone()?);
        Some(Files { file, log, generations: self.generations.clone() })
    }

    /// Looks whether the files beside the ledger are what the next start needs, and mends what can be mended.
    ///
    /// Errors: the ledger's file is not at its path, or something could not be mended.
    pub async fn mend_files(&self) -> Result<()> {
        let Some(files) = self.files() else { return Ok(()) };
        let looked = tokio::task::spawn_blocking(move || {
            files.file.check()?;
            let whole =
                !files.log.is_lost() && files.generations.as_ref().is_none_or(|recorded| recorded.is_recorded());
            Ok((!whole).then_some(files))
        });
        let bug = |panic| Err(Error::new(Kind::Bug, "failed to look at the ledger's files").because(panic));
        let found = looked.await.unwrap_or_else(bug).map_err(|error: Error| error.at(self.path.clone()))?;
        let Some(files) = found else { return Ok(()) };
        let writing = Arc::clone(&self.writing);
        self.call("mend the ledger's files", move |connection| {
            // Whoever writes may be about to record what was missed.
            let _turn = writing.lock();
            files.mend(connection)?;
            files.generations.as_deref().map_or(Ok(false), |generations| generations.repair(connection)).map(|repaired| {
                if repaired {
                    tracing::warn!(
                        "the `.generation` file beside the ledger was deleted or changed while the ledger is open; it is \
                         right again, and nothing is lost"
                    );
                }
            })
        })
        .await
    }

    fn candidates(&self) -> MutexGuard<'_, Candidates> {
        self.candidates.lock()
    }

    /// Why it was not the newest ledger when it was opened, if so: what was sent since is not in it. Nothing in it is
    /// certain then, and the next run of each sync sends everything again.
    pub fn older(&self) -> Option<&str> {
        self.older.as_deref()
    }

    /// The ledger's own connection.
    pub fn duckdb(&self) -> &DuckDbConnection {
        &self.duckdb
    }

    fn next_seq(&self) -> u64 {
        self.next_seq.load(Ordering::SeqCst)
    }

    /// Runs `work` in a transaction of its own; writers of all siblings take turns.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&Connection) -> duckdb::Result<T> + Send + 'static,
    ) -> Result<T> {
        let writing = Arc::clone(&self.writing);
        self.call(what, move |connection| {
            let _turn = writing.lock();
            transaction(connection, what, work)
        })
        .await
    }

    /// [`LocalLedger::write`], unless the file is not where it was opened: what the next start must find is written there.
    pub(super) async fn write_in_place<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&Connection) -> duckdb::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (writing, files) = (Arc::clone(&self.writing), self.files());
        self.call(what, move |connection| {
            let _turn = writing.lock();
            files.map_or(Ok(()), |files| files.mend(connection))?;
            transaction(connection, what, work)
        })
        .await
    }

    /// Like [`LocalLedger::write`], for work after which something may be sent, or which changes what is known, if it says
    /// so: the generation it makes is recorded before this returns. With `in_place` like [`LocalLedger::write_in_place`].
    async fn write_generation<T: Send + 'static>(
        &self,
        what: &'static str,
        in_place: bool,
        work: impl FnOnce(&Connection) -> duckdb::Result<(T, bool)> + Send + 'static,
    ) -> Result<T> {
        let (writing, generations) = (Arc::clone(&self.writing), self.generations.clone());
        let files = self.files().filter(|_| in_place);
        self.call(what, move |connection| {
            let _turn = writing.lock();
            files.map_or(Ok(()), |files| files.mend(connection))?;
            let (value, reached) = transaction(connection, what, |connection| {
                let (value, counts) = work(connection)?;
                let counted = generations.as_deref().filter(|_| counts);
                Ok((value, counted.map(|generations| generations.raise(connection)).transpose()?))
            })?;
            if let (Some(generations), Some(reached)) = (generations, reached) {
                generations.record(reached)?;
            }
            Ok(value)
        })
        .await
    }

    pub(super) async fn call<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.duckdb.call(what, work).await.within(|| self.path.clone())
    }
}

/// Looks at an open file of the current version: how new is it, by the number recorded beside it? One that is not the
/// newest is settled as such at once, or, where it may only be looked at, shown as such.
fn opened(connection: &mut Connection, recorded_in: Option<&Path>, read_only: bool) -> Result<Opened> {
    let next_seq = connection
        .query_row("SELECT greatest(next_seq, (SELECT coalesce(max(seq), 0) FROM journal) + 1) FROM meta", [], |row| {
            row.get(0)
        })
        .map_err(ledger_error("read the journal"))?;
    let mut held = connection
        .query_row("SELECT id, generation FROM identity", [], |row| {
            Ok(Recorded { ledger: row.get(0)?, generation: row.get(1)? })
        })
        .map_err(ledger_error("read the ledger's identity"))?;
    let Some(path) = recorded_in else { return Ok(Opened { next_seq, held, older: None }) };
    let recorded = generation::read(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let older = generation::older(&held, recorded.as_ref(), &name);
    if read_only {
        if older.is_some() {
            let look = |connection: &Connection| -> duckdb::Result<()> {
                let database: String = connection.query_row("SELECT current_database()", [], |row| row.get(0))?;
                connection.execute_batch(&statements::uncertain_view(&database))
            };
            look(connection).map_err(ledger_error("look at an older ledger"))?;
        }
        return Ok(Opened { next_seq, held, older });
    }
    if older.is_some() {
        // What runs under way had recorded may be older as well: it is brought in first, and then nothing is certain.
        let beyond = recorded.as_ref().map_or(0, |recorded| recorded.generation).max(held.generation) + 1;
        transaction(connection, "settle an older ledger", |connection| {
            let mut dead = connection.prepare("SELECT sync, run FROM runs WHERE status = 'running' ORDER BY run")?;
            let dead = dead.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let dead: Vec<(String, String)> = dead.collect::<duckdb::Result<_>>()?;
            for (sync, run) in &dead {
                fold(connection, sync, run)?;
            }
            connection
                .execute_batch("UPDATE runs SET status = 'died', ended_at = started_at WHERE status = 'running'")?;
            connection.execute_batch(&statements::rewind())?;
            connection.execute("UPDATE identity SET generation = ?", [beyond]).map(drop)
        })?;
        held.generation = beyond;
    }
    if recorded.as_ref() != Some(&held) {
        Generations::of(path.to_path_buf(), held.clone()).record(held.generation)?;
    }
    Ok(Opened { next_seq, held, older })
}

/// Runs `work` in a transaction of its own.
fn transaction<T>(
    connection: &mut Connection,
    what: &'static str,
    work: impl FnOnce(&Connection) -> duckdb::Result<T>,
) -> Result<T> {
    connection.execute_batch("BEGIN").map_err(ledger_error(what))?;
    let done = work(connection).and_then(|value| connection.execute_batch("COMMIT").map(|()| value));
    done.map_err(|error| {
        // A failed COMMIT has already rolled back; either way the first error is the one that matters.
        drop(connection.execute_batch("ROLLBACK"));
        ledger_error(what)(error)
    })
}

/// The last run that is older than `kept` when one ends at `now`; see `statements`.
fn last_forgotten(connection: &Connection, now: DateTime<Utc>, kept: Duration) -> duckdb::Result<Option<String>> {
    let Some(oldest) = chrono::TimeDelta::from_std(kept).ok().and_then(|kept| now.checked_sub_signed(kept)) else {
        return Ok(None);
    };
    let Ok(kept) = i64::try_from(kept.as_micros()) else { return Ok(None) };
    let oldest = oldest.naive_utc();
    let maybe: bool = connection.query_row(statements::MAYBE_OLD, params![oldest, oldest], |row| row.get(0))?;
    if !maybe {
        return Ok(None);
    }
    connection.query_row(&statements::last_forgotten(kept), [], |row| row.get(0))
}

#[async_trait]
impl Ledger for LocalLedger {
    async fn begin(&self, start: &RunStart) -> Result<Begun> {
        let (start, read_only, next_seq) = (start.clone(), self.read_only, self.next_seq());
        let (threads, unknown_groups) = (Arc::clone(&self.threads), Arc::clone(&self.unknown_groups));
        let older = self.generations.is_none() && self.older.is_some();
        self.write_in_place("begin a run", move |connection| {
            threads.large(connection)?;
            if unknown_groups.behind_view.swap(false, Ordering::SeqCst) {
                connection.execute_batch(statements::NO_UNCERTAIN_VIEW)?;
            }
            let may_be_there: bool =
                connection.query_row(statements::NEW_MAY_BE_THERE, [&start.sync], |row| row.get(0))?;
            unknown_groups.may_be_there.store(older || may_be_there, Ordering::SeqCst);
            begin(connection, &start, read_only, older, next_seq)
        })
        .await
    }

    async fn compare(&self, sync: &str, incoming: Incoming<'_>, scope: &Scope) -> Result<Comparison> {
        let Incoming::Staged(staged) = incoming else {
            return Err(Error::new(Kind::Bug, "the local ledger compares staged rows only"));
        };
        let (mut found, candidates) = compare::compare(&self.duckdb, sync, staged, scope, self.ordered_max)
            .await
            .map_err(|error| self.own(error))?;
        *self.candidates() = candidates;
        let (sync, threads) = (sync.to_owned(), Arc::clone(&self.threads));
        self.call("compare", move |connection| {
            let count =
                |sql: &str| connection.query_row(sql, [], |row| row.get(0)).map_err(ledger_error("count groups"));
            // What guards measure against: of a group that was only refused nothing can be changed or taken away.
            found.known = count(&statements::held_count(&sync))?;
            if found.missing_candidates > 0 {
                found.removable = count(statements::REMOVABLE)?;
            }
            threads.small(connection).map_err(ledger_error("compare"))?;
            Ok(found)
        })
        .await
    }

    async fn page(&self, from: u64, count: u64) -> Result<Vec<Candidate>> {
        let candidates = self.candidates().clone();
        let new_are_certain = !self.unknown_groups.may_be_there.load(Ordering::SeqCst);
        let page = compare::page(&self.duckdb, &candidates, new_are_certain, from, count).await;
        page.map_err(|error| self.own(error))
    }

    async fn mark(&self, sync: &str, run: &str, keys: Vec<String>) -> Result<()> {
        let (sync, run) = (sync.to_owned(), run.to_owned());
        self.write_generation("mark groups", true, move |connection| {
            let mut appender = connection.appender("pending")?;
            for key in &keys {
                appender.append_row([&sync, &run, key])?;
            }
            appender.flush()?;
            Ok(((), true))
        })
        .await
    }

    async fn record(&self, sync: &str, run: &str, at: DateTime<Utc>, entries: Vec<Entry>) -> Result<()> {
        let (sync, run) = (sync.to_owned(), run.to_owned());
        let first_seq = self.next_seq.fetch_add(entries.len() as u64, Ordering::SeqCst);
        // The connection is what a first run waits for: everything that can be done beside it is.
        let lines: Vec<Line> = entries.into_iter().map(Line::of).collect();
        let inline_max = self.inline_max;
        self.write("record outcomes", move |connection| {
            append(connection, &sync, &run, at, lines, first_seq, inline_max)
        })
        .await
    }

    async fn finish(&self, sync: &str, run: &str, checkpoint: Checkpoint) -> Result<()> {
        let (sync, run) = (sync.to_owned(), run.to_owned());
        let retention = self.retention;
        let (next_seq, threads) = (self.next_seq(), Arc::clone(&self.threads));
        let left_behind = self.write_generation("finish the run", false, move |connection| {
            threads.large(connection)?;
            let spoke = fold(connection, &sync, &run)?;
            connection.execute("UPDATE meta SET next_seq = greatest(next_seq, ?)", [next_seq])?;
            connection.execute(
                "UPDATE runs SET ended_at = ?, status = ?, counts = ?, source_rows = ?, cursor_value = ?, \
                 full_read = ?, error = ?, error_kind = ?, detail = ? WHERE sync = ? AND run = ?",
                params![
                    checkpoint.ended_at.naive_utc(),
                    checkpoint.status.name(),
                    checkpoint.counts,
                    checkpoint.rows,
                    checkpoint.cursor,
                    checkpoint.full,
                    checkpoint.error,
                    checkpoint.error_kind,
                    checkpoint.detail,
                    sync,
                    run,
                ],
            )?;
            let mut forgotten = 0;
            for (kept, forget) in
                [(retention.journal, statements::FORGET_LINES), (retention.runs, statements::FORGET_RUNS)]
            {
                if let Some(run) = last_forgotten(connection, checkpoint.ended_at, kept)? {
                    forgotten += connection.execute(forget, [run])?;
                }
            }
            Ok((spoke || forgotten > 0, spoke))
        });
        let left_behind = left_behind.await?;
        let cells = std::mem::take(&mut *self.candidates()).into_cells();
        if let Some(cells) = cells {
            // The run is recorded; an instance that cannot be tidied up is not used again.
            drop(cells.drop_all().await);
        }
        let (log, writing) = (self.log.clone(), Arc::clone(&self.writing));
        let threads = Arc::clone(&self.threads);
        self.call("drop the suspects", move |connection| {
            threads.small(connection).map_err(ledger_error("drop the suspects"))?;
            connection
                .execute_batch("DROP TABLE IF EXISTS temp.suspect; DROP TABLE IF EXISTS temp.folded")
                .map_err(ledger_error("drop the suspects"))?;
            if left_behind {
                let _turn = writing.lock();
                // Like the tidying below: the next run tries again.
                drop(long_texts::remove_unused(connection));
            }
            if log.and_then(|log| log.bytes()).is_some_and(|bytes| bytes > LOG_BYTES_MAX) {
                // DuckDB refuses while somebody writes, or still reads what was removed just now, which takes moments.
                // The run is recorded: a failure to tidy up is none of its own, and the next run tries again.
                for _ in 0..FOLD_TRIES {
                    let turn = writing.lock();
                    if connection.execute_batch("CHECKPOINT").is_ok() {
                        break;
                    }
                    drop(turn);
                    std::thread::sleep(FOLD_AGAIN);
                }
            }
            Ok(())
        })
        .await
    }

    async fn known(&self, sync: &str, key: &str) -> Result<Option<KnownGroup>> {
        let condition = format!("sync = {} AND key = {}", quote_literal(sync), quote_literal(key));
        self.call("read a group", move |connection| Ok(list(connection, &condition, 1, true)?.pop())).await
    }

    async fn history(&self, sync: &str, key: &str, count: u64) -> Result<Vec<HistoryEntry>> {
        let (sync, key) = (sync.to_owned(), key.to_owned());
        self.call("read a group's history", move |connection| {
            history(connection, &sync, &key, i64::MAX as u64, count).map_err(ledger_error("read a group's history"))
        })
        .await
    }

    async fn rejected(&self, sync: &str, count: u64) -> Result<Vec<KnownGroup>> {
        let sync = sync.to_owned();
        self.call("list rejected groups", move |connection| {
            list(connection, &format!("sync = {} AND rejected_reason IS NOT NULL", quote_literal(&sync)), count, true)
        })
        .await
    }

    async fn runs(&self, sync: Option<&str>, count: u64) -> Result<Vec<RunRecord>> {
        let condition = sync.map_or_else(|| "true".to_owned(), |sync| format!("sync = {}", quote_literal(sync)));
        self.records(&condition, count).await
    }

    async fn standing(&self, sync: &str) -> Result<GroupCounts> {
        let sync = sync.to_owned();
        self.call("count groups", move |connection| {
            connection
                .query_row(
                    &format!(
                        "SELECT ({}), count(unsettled_in), count(rejected_reason) FROM known WHERE sync = ?",
                        statements::delivered_count(&sync)
                    ),
                    [&sync],
                    |row| Ok(GroupCounts { known: row.get(0)?, unconfirmed: row.get(1)?, rejected: row.get(2)? }),
                )
                .map_err(ledger_error("count groups"))
        })
        .await
    }

    async fn reset(&self, sync: &str, key: Option<&str>, mark: &str, forget: bool) -> Result<u64> {
        let condition = match key {
            Some(key) => format!("sync = {} AND key = {}", quote_literal(sync), quote_literal(key)),
            None => format!("sync = {}", quote_literal(sync)),
        };
        let (sync, mark) = (sync.to_owned(), mark.to_owned());
        self.write_generation("reset the sync", true, move |connection| {
            connection.execute("UPDATE runs SET cursor_value = NULL, full_read = false WHERE sync = ?", [sync])?;
            let rows = if forget {
                connection.execute(&format!("DELETE FROM known WHERE {condition}"), [])?
            } else {
                connection.execute(
                    &format!(
                        "UPDATE known SET unsettled_in = coalesce(unsettled_in, ?), rejected_document = NULL, \
                         rejected_reason = NULL WHERE {condition}"
                    ),
                    [mark],
                )?
            };
            Ok((rows as u64, true))
        })
        .await
    }

    async fn export(&self, sync: &str, after: Option<&str>, count: u64) -> Result<Vec<KnownGroup>> {
        let after = after.map_or_else(String::new, |after| format!(" AND key > {}", quote_literal(after)));
        let condition = format!("sync = {}{after}", quote_literal(sync));
        self.call("export known groups", move |connection| list(connection, &condition, count, false)).await
    }
}
