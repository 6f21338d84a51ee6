//! The protocol of a run, over the SQL of `statements`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, NaiveDateTime, Utc};
use duckdb::{Connection, params};

use super::begin::begin;
use super::rows::{Line, Outcomes, append, fold, fold_lines, has_lines};
use super::{DuckDbLedger, bundles, candidates, compare, long_texts, statements};
use crate::duckdb::{ledger_error, quote_literal};
use crate::error::{Error, Kind, Result};
use crate::ledger::kept_requests::note_failure;
use crate::ledger::kv::note_of;
use crate::ledger::mirror::MIRROR;
use crate::ledger::{
    Access, Candidate, CompareOptions, Comparison, Cursor, History, ImportedGroups, JournalEntry, KeyValue, Ledger,
    PreviousRun, Retention, RunCheckpoint, RunRecord, RunStart, SourceRows, Storage,
};

/// A run that ends folds the log into the file when it is larger than this. What is in the log is in memory, too,
/// and is read again after a kill: a daemon whose runs send little would let it grow for months. A long run is over before
/// its log is checked, so what it wrote is compressed once.
const LOG_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How often, and how soon after each other, a run tries to fold the log into the file.
const FOLD_TRIES: u32 = 100;
const FOLD_AGAIN: Duration = Duration::from_millis(50);

/// When what is older than `kept` ended, at the latest; none where nothing ever is.
fn oldest(now: DateTime<Utc>, kept: Duration) -> Option<NaiveDateTime> {
    let kept = chrono::TimeDelta::from_std(kept).ok()?;
    now.checked_sub_signed(kept).map(|oldest| oldest.naive_utc())
}

/// Removes what has been kept for long enough when a run ends at `now`; returns how many rows that were.
fn forget(connection: &Connection, now: DateTime<Utc>, retention: Retention) -> duckdb::Result<usize> {
    let Some(oldest) = oldest(now, retention.journal.min(retention.runs)) else { return Ok(0) };
    // Most runs find nothing to forget.
    let maybe: bool = connection.query_row(statements::MAYBE_OLD, params![oldest, oldest], |row| row.get(0))?;
    if !maybe {
        return Ok(0);
    }
    let mut forgotten = 0;
    for (kept, forget) in [(retention.journal, statements::FORGET_LINES), (retention.runs, statements::FORGET_RUNS)] {
        let Ok(kept) = i64::try_from(kept.as_micros()) else { continue };
        let last: Option<String> = connection.query_row(&statements::last_forgotten(kept), [], |row| row.get(0))?;
        if let Some(run) = last {
            forgotten += connection.execute(forget, [run])?;
        }
    }
    Ok(forgotten)
}

/// The tables whose rows belong to a sync. Long texts belong to rows of these.
const TABLES_OF_SYNCS: [&str; 4] = ["synced", "marks", "journal", "runs"];

#[async_trait]
impl Ledger for DuckDbLedger {
    async fn begin(&self, start: &RunStart) -> Result<PreviousRun> {
        // A plan leaves its candidates behind.
        *self.candidates() = candidates::Candidates::default();
        let (start, read_only) = (start.clone(), self.read_only);
        let (next_seq, inline_max) = (self.next_seq(), self.inline_max);
        let (has_bundles, waiting) = (self.has_bundled.load(Ordering::SeqCst) && !read_only, Arc::clone(&self.waiting));
        let (threads, unknown_groups) = (Arc::clone(&self.threads), Arc::clone(&self.unknown_groups));
        let outdated = self.generations.is_none() && self.outdated.is_some();
        self.write_in_place("begin a run", move |connection| {
            threads.raise(connection)?;
            if unknown_groups.behind_view.swap(false, Ordering::SeqCst) {
                connection.execute_batch(statements::NO_UNCONFIRMED_VIEW)?;
            }
            let may_be_there: bool =
                connection.query_row(statements::NEW_MAY_BE_THERE, [&start.sync], |row| row.get(0))?;
            unknown_groups.may_be_there.store(outdated || may_be_there, Ordering::SeqCst);
            if has_bundles {
                bundles::unpack(connection, Some(&start.sync), &mut waiting.lock(), inline_max)?;
            }
            begin(connection, &start, read_only, outdated, next_seq)
        })
        .await
    }

    async fn compare(&self, sync: &str, rows: SourceRows<'_>, options: &CompareOptions) -> Result<Comparison> {
        let SourceRows::Staged(staged) = rows else {
            return Err(Error::new(Kind::Bug, "the DuckDB ledger compares staged rows only"));
        };
        let (mut found, candidates) = compare::compare(&self.duckdb, sync, staged, options, self.ordered_max)
            .await
            .map_err(|error| self.own(error))?;
        *self.candidates() = candidates;
        let (sync, threads) = (sync.to_owned(), Arc::clone(&self.threads));
        self.call("compare", move |connection| {
            let count =
                |sql: &str| connection.query_row(sql, [], |row| row.get(0)).map_err(ledger_error("count groups"));
            // What guards measure against: of a group that was only rejected nothing can be changed or removed.
            found.synced = count(&statements::may_exist_count(&sync))?;
            if found.missing_candidates > 0 {
                found.removable = count(statements::REMOVABLE)?;
            }
            threads.lower(connection).map_err(ledger_error("compare"))?;
            Ok(found)
        })
        .await
    }

    async fn synced_summary(&self, sync: &str) -> Result<Option<String>> {
        let (what, sync) = ("sum up the synced state", sync.to_owned());
        self.call(what, move |connection| {
            let may_exist = statements::may_exist_count(&sync);
            let may_exist: u64 = connection.query_row(&may_exist, [], |row| row.get(0)).map_err(ledger_error(what))?;
            let read = |row: &duckdb::Row<'_>| {
                let (groups, sum, xor): (u64, i128, u64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                Ok(format!("{groups} {sum} {xor} {may_exist}"))
            };
            connection.query_row(statements::SYNCED_SUMMARY, [sync], read).map(Some).map_err(ledger_error(what))
        })
        .await
    }

    async fn page(&self, from: u64, count: u64) -> Result<Vec<Candidate>> {
        let candidates = self.candidates().clone();
        let new_are_confirmed = !self.unknown_groups.may_be_there.load(Ordering::SeqCst);
        let page = candidates::page(&self.duckdb, &candidates, new_are_confirmed, from, count).await;
        page.map_err(|error| self.own(error))
    }

    async fn mark(&self, sync: &str, run: &str, keys: Vec<String>) -> Result<()> {
        let (sync, run, inline_max) = (sync.to_owned(), run.to_owned(), self.inline_max);
        let (has_bundles, waiting) = (self.has_bundled.load(Ordering::SeqCst), Arc::clone(&self.waiting));
        self.write_generation("mark groups", true, move |connection| {
            if has_bundles {
                bundles::unpack(connection, Some(&sync), &mut waiting.lock(), inline_max)?;
            }
            let mut appender = connection.appender("marks")?;
            for key in &keys {
                appender.append_row([&sync, &run, key])?;
            }
            appender.flush()?;
            Ok(((), true))
        })
        .await?;
        self.bundled.store(0, Ordering::SeqCst);
        Ok(())
    }

    async fn record(&self, sync: &str, run: &str, at: DateTime<Utc>, entries: Vec<JournalEntry>) -> Result<()> {
        let first_seq = self.next_seq.fetch_add(entries.len() as u64, Ordering::SeqCst);
        // The connection is what a first run waits for: everything that can be done beside it is.
        let inline_max = self.inline_max;
        let lines: Vec<Line> = entries.into_iter().map(|entry| Line::of(entry, inline_max)).collect();
        let waiting = Arc::clone(&self.waiting);
        let outcomes = Outcomes { sync: sync.to_owned(), run: run.to_owned(), at, first_seq, lines };
        if let Some(text) = bundles::text(&outcomes, self.bundled.load(Ordering::SeqCst)) {
            let (what, writing) = ("record outcomes", Arc::clone(&self.writing));
            self.bundled.fetch_add(text.len(), Ordering::SeqCst);
            self.has_bundled.store(true, Ordering::SeqCst);
            return self
                .call(what, move |connection| {
                    let _turn = writing.lock();
                    bundles::store(connection, first_seq, text).map_err(ledger_error(what))?;
                    waiting.lock().push(outcomes);
                    Ok(())
                })
                .await;
        }
        self.write("record outcomes", move |connection| {
            bundles::unpack(connection, Some(&outcomes.sync), &mut waiting.lock(), inline_max)?;
            append(connection, vec![outcomes], None, inline_max)
        })
        .await?;
        self.bundled.store(0, Ordering::SeqCst);
        Ok(())
    }

    async fn finish(&self, sync: &str, run: &str, checkpoint: RunCheckpoint) -> Result<()> {
        let (sync, run) = (sync.to_owned(), run.to_owned());
        let retention = self.retention;
        let (next_seq, threads) = (self.next_seq(), Arc::clone(&self.threads));
        let (inline_max, has_bundles) = (self.inline_max, self.has_bundled.load(Ordering::SeqCst));
        let waiting = Arc::clone(&self.waiting);
        let left_behind = self.write_generation("finish the run", false, move |connection| {
            let (cursor, read_all) = match checkpoint.cursor {
                Some(Cursor::At(cursor)) => (Some(cursor), None),
                Some(Cursor::ReadAll) => (None, Some(true)),
                None => (None, None),
            };
            if has_bundles {
                bundles::unpack(connection, Some(&sync), &mut waiting.lock(), inline_max)?;
            }
            let sent = has_lines(connection, &sync, &run)?;
            if sent {
                threads.raise(connection)?;
                fold_lines(connection, &sync, &run)?;
                connection.execute("UPDATE meta SET next_seq = greatest(next_seq, ?)", [next_seq])?;
            }
            connection.execute(
                "UPDATE runs SET ended_at = ?, status = ?, counts = ?, source_rows = ?, cursor_value = ?, \
                 read_all = ?, full_read = ?, error = ?, error_kind = ?, guard = ?, detail = ? WHERE sync = ? AND run = ?",
                params![
                    checkpoint.ended_at.naive_utc(),
                    checkpoint.status.name(),
                    checkpoint.counts,
                    checkpoint.rows,
                    cursor,
                    read_all,
                    checkpoint.full,
                    checkpoint.error,
                    checkpoint.error_kind,
                    checkpoint.guard,
                    checkpoint.detail,
                    sync,
                    run,
                ],
            )?;
            let forgotten = forget(connection, checkpoint.ended_at, retention)?;
            Ok((sent || forgotten > 0, sent))
        });
        let left_behind = left_behind.await?;
        self.bundled.store(0, Ordering::SeqCst);
        let cells = std::mem::take(&mut *self.candidates()).into_cells();
        if let Some(cells) = cells {
            // The run is recorded; an instance that cannot be tidied up is not used again.
            drop(cells.drop_all().await);
        }
        let (log, writing) = (self.log.clone(), Arc::clone(&self.writing));
        let threads = Arc::clone(&self.threads);
        self.call("drop the candidates", move |connection| {
            connection
                .execute_batch("DROP TABLE IF EXISTS temp.candidate; DROP TABLE IF EXISTS temp.folded")
                .map_err(ledger_error("drop the candidates"))?;
            if left_behind {
                let _turn = writing.lock();
                // Like the tidying below: the next run retries.
                drop(long_texts::remove_unused(connection));
            }
            if log.and_then(|log| log.bytes()).is_some_and(|bytes| bytes > LOG_BYTES_MAX) {
                // DuckDB fails while another connection writes, or still reads what was removed just now, which is over soon.
                // The run is recorded: a failure to tidy up does not fail it, and the next run retries.
                for _ in 0..FOLD_TRIES {
                    let turn = writing.lock();
                    if connection.execute_batch("CHECKPOINT").is_ok() {
                        break;
                    }
                    drop(turn);
                    std::thread::sleep(FOLD_AGAIN);
                }
            }
            // Compressing what a first run wrote is the last of its large work.
            threads.lower(connection).map_err(ledger_error("drop the candidates"))
        })
        .await
    }

    async fn reset(&self, sync: &str, keys: Option<&[String]>, mark: &str, forget: bool) -> Result<u64> {
        let condition = match keys {
            Some(keys) => {
                if keys.is_empty() {
                    return Ok(0);
                }
                let keys = keys.iter().map(|key| quote_literal(key)).collect::<Vec<_>>().join(", ");
                format!("sync = {} AND key IN ({keys})", quote_literal(sync))
            }
            None => format!("sync = {}", quote_literal(sync)),
        };
        let (sync, mark, inline_max) = (sync.to_owned(), mark.to_owned(), self.inline_max);
        // Groups that are unconfirmed are compared whatever the mirror holds.
        let drops_mirror = keys.is_none() || forget;
        self.write_generation("reset the sync", true, move |connection| {
            bundles::unpack(connection, Some(&sync), &mut Vec::new(), inline_max)?;
            if drops_mirror {
                connection.execute(statements::DROP_MIRROR, [note_of(MIRROR, &sync)])?;
            }
            connection.execute(
                "UPDATE runs SET cursor_value = NULL, read_all = NULL, full_read = false WHERE sync = ?",
                [sync],
            )?;
            let rows = if forget {
                let groups = format!("SELECT sync, key, seq, document FROM synced WHERE {condition}");
                connection.execute_batch(&statements::keep_first_changes(&groups))?;
                connection.execute(&format!("DELETE FROM synced WHERE {condition}"), [])?
            } else {
                connection.execute(
                    &format!(
                        "UPDATE synced SET unconfirmed_in = coalesce(unconfirmed_in, ?), rejected_document = NULL, \
                         rejected_reason = NULL WHERE {condition}"
                    ),
                    [mark],
                )?
            };
            Ok((rows as u64, true))
        })
        .await
    }

    async fn rename(&self, from: &str, to: &str) -> Result<u64> {
        let (from, to, inline_max) = (from.to_owned(), to.to_owned(), self.inline_max);
        let kept = self.kept_requests.clone();
        self.write_generation("rename the sync", true, move |connection| {
            bundles::unpack(connection, Some(&from), &mut Vec::new(), inline_max)?;
            let groups: u64 =
                connection.query_row("SELECT count(*) FROM synced WHERE sync = ?", [&from], |row| row.get(0))?;
            for table in TABLES_OF_SYNCS {
                connection.execute(&format!("UPDATE {table} SET sync = ? WHERE sync = ?"), [&to, &from])?;
            }
            for sync in [&from, &to] {
                connection.execute(statements::DROP_MIRROR, [note_of(MIRROR, sync)])?;
            }
            note_failure(kept.map(|kept| kept.rename(&from, &to)), "rename");
            Ok((groups, true))
        })
        .await
    }

    async fn import(&self, sync: &str, groups: ImportedGroups, replace: bool) -> Result<u64> {
        self.take_over(sync, groups, replace).await
    }

    async fn drop_sync(&self, sync: &str) -> Result<u64> {
        let (sync, inline_max) = (sync.to_owned(), self.inline_max);
        let kept = self.kept_requests.clone();
        self.write_generation("drop the sync", true, move |connection| {
            bundles::unpack(connection, Some(&sync), &mut Vec::new(), inline_max)?;
            let groups: u64 =
                connection.query_row("SELECT count(*) FROM synced WHERE sync = ?", [&sync], |row| row.get(0))?;
            for table in TABLES_OF_SYNCS {
                connection.execute(&format!("DELETE FROM {table} WHERE sync = ?"), [&sync])?;
            }
            connection.execute(statements::DROP_MIRROR, [note_of(MIRROR, &sync)])?;
            note_failure(kept.map(|kept| kept.drop_sync(&sync)), "remove");
            Ok((groups, true))
        })
        .await
    }

    async fn mark_crashed(&self, record: &RunRecord, at: DateTime<Utc>, error: &str, kind: &str) -> Result<()> {
        let (sync, run) = (record.sync.clone(), record.run.clone());
        let (error, kind, inline_max) = (error.to_owned(), kind.to_owned(), self.inline_max);
        self.write("record a crashed run", move |connection| {
            let running: bool = connection.query_row(
                "SELECT count(*) > 0 FROM runs WHERE sync = ? AND run = ? AND status = 'running'",
                [&sync, &run],
                |row| row.get(0),
            )?;
            if running {
                bundles::unpack(connection, Some(&sync), &mut Vec::new(), inline_max)?;
                fold(connection, &sync, &run)?;
                connection.execute(
                    "UPDATE runs SET status = 'crashed', ended_at = ?, error = ?, error_kind = ? WHERE sync = ? AND run = ?",
                    params![at.naive_utc(), error, kind, sync, run],
                )?;
                connection.execute_batch("DROP TABLE IF EXISTS temp.folded")?;
            }
            Ok(())
        })
        .await
    }

    fn history(&self) -> &dyn History {
        self
    }

    fn kv(&self) -> &dyn KeyValue {
        self
    }

    fn storage(&self) -> &dyn Storage {
        self
    }

    fn connect(&self, access: Access) -> Result<Arc<dyn Ledger>> {
        Ok(Arc::new(self.another(access)?))
    }
}
