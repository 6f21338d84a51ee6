//! Rows of the ledger's tables: what a run changes in them, and how they are read.

use chrono::{DateTime, NaiveDateTime, Utc};
use duckdb::{Connection, OptionalExt, params};

use super::long_texts::{self, Texts, Writer};
use super::statements;
use crate::duckdb::{ledger_error, quote_literal};
use crate::error::Result;
use crate::ledger::{
    ChangeOutcome, Cursor, HistoryEntry, JournalEntry, PreviousRun, RunRecord, RunStart, RunStatus, SyncedGroup,
};
use crate::model::{After, Change, Document};

/// Folds what a run left into the synced state. Returns whether it had sent anything.
pub(super) fn fold(connection: &Connection, sync: &str, run: &str) -> duckdb::Result<bool> {
    let nothing: bool = connection.query_row(&statements::nothing_to_fold(sync, run), [], |row| row.get(0))?;
    if nothing {
        return Ok(false);
    }
    for statement in statements::fold(sync, run) {
        connection.execute_batch(&statement)?;
    }
    Ok(true)
}

/// Folds crashed runs and records the new one; see [`crate::ledger::Ledger::begin`]. A read-only ledger folds temporary
/// copies and records nothing; `outdated`: it is not the newest there was, so that nothing in it is confirmed.
pub(super) fn begin(
    connection: &Connection,
    start: &RunStart,
    read_only: bool,
    outdated: bool,
    next_seq: u64,
) -> duckdb::Result<PreviousRun> {
    let sync = &start.sync;
    let mut crashed = connection.prepare("SELECT run FROM runs WHERE sync = ? AND status = 'running' ORDER BY run")?;
    let crashed: Vec<String> = crashed.query_map([sync], |row| row.get(0))?.collect::<Result<_, _>>()?;
    if read_only {
        // Copies that an earlier sync of this command needed hold nothing about this one.
        connection.execute_batch(statements::NO_OVERLAY)?;
        if !crashed.is_empty() || outdated {
            connection.execute_batch(&statements::overlay(sync))?;
        }
    }
    for run in &crashed {
        fold(connection, sync, run)?;
    }
    if outdated {
        connection.execute_batch(&statements::nothing_is_confirmed())?;
    }
    let latest = |column: &str, condition: &str| {
        format!(
            "SELECT {column} FROM runs WHERE sync = {sync} AND {condition} ORDER BY run DESC LIMIT 1",
            sync = quote_literal(sync)
        )
    };
    let same_mapping = format!("mapping = {}", quote_literal(&start.mapping));
    let cursor = latest("cursor_value", &format!("{same_mapping} AND (cursor_value IS NOT NULL OR read_all)"));
    let full_read_at = latest("ended_at", &format!("{same_mapping} AND full_read"));
    let rows = latest("source_rows", "source_rows IS NOT NULL");
    let previous = PreviousRun {
        recovered: crashed,
        cursor: (connection.query_row(&cursor, [], |row| row.get::<_, Option<String>>(0)).optional()?)
            .filter(|_| !outdated)
            .map(|cursor| cursor.map_or(Cursor::ReadAll, Cursor::At)),
        full_read_at: (connection.query_row(&full_read_at, [], |row| row.get::<_, NaiveDateTime>(0)).optional()?)
            .filter(|_| !outdated)
            .map(|at| at.and_utc()),
        rows: connection.query_row(&rows, [], |row| row.get(0)).optional()?,
    };
    if !read_only {
        let traits = serde_json::Value::from(start.traits.clone()).to_string();
        connection.execute("UPDATE meta SET next_seq = greatest(next_seq, ?)", [next_seq])?;
        connection.execute(
            "UPDATE runs SET status = 'crashed', ended_at = ? WHERE sync = ? AND status = 'running'",
            params![start.started_at.naive_utc(), sync],
        )?;
        connection.execute(
            "INSERT INTO runs (sync, run, mapping, traits, started_at, started_by, partial, status) \
             VALUES (?, ?, ?, ?::JSON::VARCHAR[], ?, ?, ?, 'running')",
            params![
                sync,
                start.run,
                start.mapping,
                traits,
                start.started_at.naive_utc(),
                start.started_by,
                start.partial
            ],
        )?;
    }
    Ok(previous)
}

/// A line of the journal, spelled out.
pub(super) struct Line {
    key: String,
    change: Option<String>,
    document: Option<String>,
    /// Whether the document is exactly what the change sets, and not written once more.
    document_from_change: bool,
    fingerprint: Option<u64>,
    outcome: ChangeOutcome,
    reason: Option<String>,
}

impl Line {
    pub(super) fn of(entry: JournalEntry) -> Line {
        let JournalEntry { key, change, document, fingerprint, outcome, reason } = entry;
        let sent = !matches!(outcome, ChangeOutcome::Unchanged | ChangeOutcome::Pending | ChangeOutcome::Adopted);
        let only_sets = !change.set.is_empty() && change.only_sets();
        let document_from_change = sent && only_sets && matches!(document, Some(After::WhatIsSet));
        let document = match document {
            _ if document_from_change || outcome == ChangeOutcome::Pending => None,
            after => after.map(|after| after.document(&change).to_text()),
        };
        let change = sent.then(|| serde_json::to_string(change.as_ref()).unwrap_or_default());
        Line { key, change, document, document_from_change, fingerprint, outcome, reason }
    }
}

/// Writes outcomes in one transaction. If it fails, the marks stay and the groups are unconfirmed, which is true.
pub(super) fn append(
    connection: &Connection,
    sync: &str,
    run: &str,
    at: DateTime<Utc>,
    lines: Vec<Line>,
    first_seq: u64,
    inline_max: usize,
) -> duckdb::Result<()> {
    let mut appender = connection.appender("journal")?;
    let mut texts = Writer::new(connection, inline_max)?;
    for (seq, line) in (first_seq..).zip(lines) {
        let change = line.change.map(|text| texts.store(2 * seq, text)).transpose()?;
        let document = line.document.map(|text| texts.store(2 * seq + 1, text)).transpose()?;
        appender.append_row(params![
            sync,
            run,
            seq,
            line.key,
            change,
            document,
            line.fingerprint,
            line.outcome.name(),
            line.reason,
            at.naive_utc(),
            line.document_from_change,
        ])?;
    }
    texts.finish()?;
    appender.flush()
}

/// Reads in one transaction, so that what rows refer to is still there.
pub(super) fn at_once<T>(
    connection: &Connection,
    read: impl FnOnce(&Connection) -> duckdb::Result<T>,
) -> duckdb::Result<T> {
    connection.execute_batch("BEGIN")?;
    let found = read(connection);
    let ended = connection.execute_batch("COMMIT");
    if ended.is_err() {
        drop(connection.execute_batch("ROLLBACK"));
    }
    let found = found?;
    ended.map(|()| found)
}

/// A stored document. One that cannot be read is an empty one, and is added to what cannot be read.
pub(super) fn document(what: &str, stored: &str, texts: &Texts, unreadable: &mut Option<String>) -> Document {
    let read = texts.text(stored).and_then(|text| Document::from_text(text).map_err(|error| error.to_string()));
    read.unwrap_or_else(|error| {
        let also = unreadable.take().map_or_else(String::new, |before| format!("{before}; "));
        *unreadable = Some(format!("{also}its {what} document cannot be read: {error}"));
        Document::default()
    })
}

/// The names of a group's documents, for people.
pub(super) const DOCUMENTS: [&str; 2] = ["synced", "rejected"];

/// A group as it is stored; its columns are [`GROUP_COLUMNS`].
struct StoredGroup {
    key: String,
    document: String,
    unconfirmed_in: Option<String>,
    rejected: Option<String>,
    reason: Option<String>,
    at: DateTime<Utc>,
}

impl StoredGroup {
    fn read(row: &duckdb::Row<'_>) -> duckdb::Result<StoredGroup> {
        Ok(StoredGroup {
            key: row.get(0)?,
            document: row.get(1)?,
            unconfirmed_in: row.get(2)?,
            rejected: row.get(3)?,
            reason: row.get(4)?,
            at: row.get::<_, NaiveDateTime>(5)?.and_utc(),
        })
    }

    fn stored(&self) -> [Option<&str>; 2] {
        [Some(&self.document), self.rejected.as_deref()]
    }

    fn group(self, texts: &Texts) -> SyncedGroup {
        let mut unreadable = None;
        SyncedGroup {
            document: document(DOCUMENTS[0], &self.document, texts, &mut unreadable),
            rejected: (self.rejected)
                .map(|text| document(DOCUMENTS[1], &text, texts, &mut unreadable))
                .zip(self.reason),
            key: self.key,
            unconfirmed_in: self.unconfirmed_in,
            at: self.at,
            unreadable,
        }
    }
}

/// A journal's line as it is stored; its columns are [`HISTORY_COLUMNS`].
struct StoredLine {
    seq: u64,
    run: String,
    at: DateTime<Utc>,
    change: Option<String>,
    outcome: String,
    reason: Option<String>,
}

impl StoredLine {
    fn read(row: &duckdb::Row<'_>) -> duckdb::Result<StoredLine> {
        Ok(StoredLine {
            seq: row.get(0)?,
            run: row.get(1)?,
            at: row.get::<_, NaiveDateTime>(2)?.and_utc(),
            change: row.get(3)?,
            outcome: row.get(4)?,
            reason: row.get(5)?,
        })
    }

    fn entry(self, texts: &Texts) -> HistoryEntry {
        let mut reason = self.reason;
        let change = self.change.map_or_else(Change::default, |stored| {
            let read = texts.text(&stored);
            read.and_then(|text| serde_json::from_str(text).map_err(|error| error.to_string())).unwrap_or_else(
                |error| {
                    let why = format!("what was sent cannot be read in the ledger: {error}");
                    reason = Some(reason.take().map_or_else(|| why.clone(), |before| format!("{before}; {why}")));
                    Change::default()
                },
            )
        });
        HistoryEntry { seq: self.seq, run: self.run, at: self.at, change, outcome: self.outcome, reason }
    }
}

/// The columns of a journal's line that [`lines`] reads.
pub(super) const HISTORY_COLUMNS: &str = "seq, run, recorded_at, change, outcome, reason";

/// The journal's lines that a statement yields, each with what `beside` reads of its row.
pub(super) fn lines<T>(
    connection: &Connection,
    sql: &str,
    given: impl duckdb::Params,
    beside: impl Fn(&duckdb::Row<'_>) -> duckdb::Result<T>,
) -> duckdb::Result<Vec<(T, HistoryEntry)>> {
    at_once(connection, |connection| {
        let mut statement = connection.prepare(sql)?;
        let found = statement.query_map(given, |row| Ok((beside(row)?, StoredLine::read(row)?)))?;
        let found: Vec<(T, StoredLine)> = found.collect::<duckdb::Result<_>>()?;
        let texts = Texts::of(connection, found.iter().map(|(_, line)| line.change.as_deref()))?;
        Ok(found.into_iter().map(|(beside, line)| (beside, line.entry(&texts))).collect())
    })
}

pub(super) const RUN_COLUMNS: &str =
    "sync, run, started_at, ended_at, status, counts, error, mapping, started_by, error_kind, partial, guard";

pub(super) fn run_record(row: &duckdb::Row<'_>) -> duckdb::Result<RunRecord> {
    let status: String = row.get(4)?;
    Ok(RunRecord {
        sync: row.get(0)?,
        run: row.get(1)?,
        started_at: row.get::<_, NaiveDateTime>(2)?.and_utc(),
        ended_at: row.get::<_, Option<NaiveDateTime>>(3)?.map(|at| at.and_utc()),
        status: RunStatus::from_name(&status).unwrap_or(RunStatus::Failed),
        counts: row.get::<_, Option<String>>(5)?.unwrap_or_default(),
        error: row.get(6)?,
        mapping: row.get(7)?,
        started_by: row.get::<_, Option<String>>(8)?.unwrap_or_default(),
        error_kind: row.get(9)?,
        partial: row.get::<_, Option<bool>>(10)?.unwrap_or(false),
        guard: row.get(11)?,
    })
}

/// The columns of a group that [`groups`] reads.
pub(super) const GROUP_COLUMNS: &str = "key, document, unconfirmed_in, rejected_document, rejected_reason, recorded_at";

/// Bytes of documents that are read at a time, where the caller reads on.
const GROUPS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The groups that a statement yields, each with what `beside` reads of its row. `whole`: all of them; otherwise it
/// may be fewer, where their documents are large, but not none.
pub(super) fn groups<T>(
    connection: &Connection,
    sql: &str,
    given: impl duckdb::Params,
    whole: bool,
    beside: impl Fn(&duckdb::Row<'_>) -> duckdb::Result<T>,
) -> duckdb::Result<Vec<(T, SyncedGroup)>> {
    at_once(connection, |connection| {
        let mut statement = connection.prepare(sql)?;
        let mut rows = statement.query(given)?;
        let (mut found, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            let group = StoredGroup::read(row)?;
            bytes += group.stored().into_iter().flatten().map(long_texts::len).sum::<usize>();
            if !whole && bytes > GROUPS_BYTES_MAX && !found.is_empty() {
                break;
            }
            found.push((beside(row)?, group));
        }
        drop(rows);
        let texts = Texts::of(connection, found.iter().flat_map(|(_, group)| group.stored()))?;
        Ok(found.into_iter().map(|(beside, group)| (beside, group.group(&texts))).collect())
    })
}

/// The groups that a condition names, in key order, at most `count`; fewer where they are large, unless `whole`.
pub(super) fn list(connection: &Connection, condition: &str, count: u64, whole: bool) -> Result<Vec<SyncedGroup>> {
    let sql = format!("SELECT {GROUP_COLUMNS} FROM synced WHERE {condition} ORDER BY key LIMIT {count}");
    let found = groups(connection, &sql, [], whole, |_| Ok(())).map_err(ledger_error("list groups"))?;
    Ok(found.into_iter().map(|((), group)| group).collect())
}

/// What was sent to a group before a sequence, the latest first.
pub(super) fn history(
    connection: &Connection,
    sync: &str,
    key: &str,
    before: u64,
    count: u64,
) -> duckdb::Result<Vec<HistoryEntry>> {
    let sql = format!(
        "SELECT {HISTORY_COLUMNS} FROM journal WHERE sync = ? AND key = ? AND seq < ? ORDER BY seq DESC LIMIT ?"
    );
    let found = lines(connection, &sql, params![sync, key, before, count], |_| Ok(()))?;
    Ok(found.into_iter().map(|((), entry)| entry).collect())
}
