//! Rows of the ledger's tables: what a run changes in them, and how they are read.

use std::sync::Arc;

use chrono::{DateTime, NaiveDateTime, Utc};
use duckdb::arrow::array::{
    Array, ArrayRef, BooleanBuilder, RecordBatch, StringArray, StringBuilder, TimestampMicrosecondArray, UInt64Builder,
};
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
    /// Whether what becomes known is written into `synced` at once.
    is_new: bool,
    change: Option<String>,
    document: Option<Arc<str>>,
    /// Whether the document is exactly what the change sets, and not written once more.
    document_from_change: bool,
    fingerprint: Option<u64>,
    outcome: ChangeOutcome,
    reason: Option<String>,
}

impl Line {
    pub(super) fn of(entry: JournalEntry, inline_max: usize) -> Line {
        let JournalEntry { key, is_new, change, document, fingerprint, outcome, reason } = entry;
        let sent = !matches!(outcome, ChangeOutcome::Unchanged | ChangeOutcome::Pending | ChangeOutcome::Adopted);
        let only_sets = !change.set.is_empty() && change.only_sets();
        let document_from_change = sent && only_sets && matches!(document, Some(After::WhatIsSet));
        // A new group's plain values: their text is the document, and the change around it is not spelled out.
        let set_as_text = match &document {
            Some(After::Text(text)) if sent && change.is_empty() => Some(Arc::clone(text)),
            _ => None,
        };
        let document_from_change = document_from_change || set_as_text.is_some();
        let settles = matches!(outcome, ChangeOutcome::Delivered | ChangeOutcome::Adopted);
        let is_new = is_new && settles && document.is_some();
        let line =
            Line { key, is_new, change: None, document: None, document_from_change, fingerprint, outcome, reason };
        if is_new && document_from_change {
            let text =
                set_as_text.clone().unwrap_or_else(|| serde_json::to_string(&change.set).unwrap_or_default().into());
            if text.len() + SET_BYTES <= inline_max {
                // The one text of nearly every first delivery, written once.
                return Line { document: Some(text), document_from_change: false, ..line };
            }
        }
        let document = match document {
            _ if document_from_change || outcome == ChangeOutcome::Pending => None,
            after => after.map(|after| after.text(&change)),
        };
        let change = sent.then(|| match &set_as_text {
            Some(text) => format!("{{\"set\":{text}}}"),
            None => serde_json::to_string(change.as_ref()).unwrap_or_default(),
        });
        Line { change, document, ..line }
    }
}

/// What a change has around the document that it sets: `{"set":` and `}`.
const SET_BYTES: usize = 8;

/// Columns of new rows of `synced`; the others are null.
const NEW_GROUP_COLUMNS: [&str; 6] = ["sync", "key", "fingerprint", "document", "seq", "recorded_at"];

/// Writes outcomes in one transaction. If it fails, the marks stay and the groups are unconfirmed, which is true.
///
/// What is known of a new group is written into `synced` at once: there is no row to be replaced when the run ends, and its
/// document, which the journal's line does not repeat, is compressed once.
pub(super) fn append(
    connection: &Connection,
    sync: &str,
    run: &str,
    at: DateTime<Utc>,
    lines: Vec<Line>,
    first_seq: u64,
    inline_max: usize,
) -> duckdb::Result<()> {
    let (mut journal, mut groups) = (JournalRows::default(), GroupRows::default());
    let mut texts = Writer::new(connection, inline_max);
    for (seq, mut line) in (first_seq..).zip(lines) {
        let change = line.change.map(|text| texts.store(2 * seq, text)).transpose()?;
        let mut document = line.document.map(|text| texts.store(2 * seq + 1, text.as_ref().to_owned())).transpose()?;
        if line.is_new {
            groups.keys.append_value(&line.key);
            groups.fingerprints.append_option(line.fingerprint.take());
            let what_is_set = change.as_deref().filter(|_| line.document_from_change).map(long_texts::what_is_set);
            groups.documents.append_value(document.take().or(what_is_set).unwrap_or_default());
            groups.seqs.append_value(if line.outcome == ChangeOutcome::Delivered { seq } else { 0 });
        }
        journal.seqs.append_value(seq);
        journal.keys.append_value(&line.key);
        journal.changes.append_option(change);
        journal.documents.append_option(document);
        journal.fingerprints.append_option(line.fingerprint);
        journal.outcomes.append_value(line.outcome.name());
        journal.reasons.append_option(line.reason);
        journal.from_change.append_value(line.document_from_change);
        journal.in_synced.append_value(line.is_new);
    }
    texts.finish()?;
    let at = at.timestamp_micros();
    if let Some(batch) = groups.batch(sync, at)? {
        let mut appender = connection.appender_with_columns("synced", &NEW_GROUP_COLUMNS)?;
        appender.append_record_batch(batch)?;
        appender.flush()?;
    }
    let mut appender = connection.appender("journal")?;
    appender.append_record_batch(journal.batch(sync, run, at)?)?;
    appender.flush()
}

/// Rows of the journal, by column.
#[derive(Default)]
struct JournalRows {
    seqs: UInt64Builder,
    keys: StringBuilder,
    changes: StringBuilder,
    documents: StringBuilder,
    fingerprints: UInt64Builder,
    outcomes: StringBuilder,
    reasons: StringBuilder,
    from_change: BooleanBuilder,
    in_synced: BooleanBuilder,
}

impl JournalRows {
    fn batch(mut self, sync: &str, run: &str, at: i64) -> duckdb::Result<RecordBatch> {
        let seqs = self.seqs.finish();
        let count = seqs.len();
        batch([
            ("sync", repeated(sync, count)),
            ("run", repeated(run, count)),
            ("seq", Arc::new(seqs)),
            ("key", Arc::new(self.keys.finish())),
            ("change", Arc::new(self.changes.finish())),
            ("document", Arc::new(self.documents.finish())),
            ("fingerprint", Arc::new(self.fingerprints.finish())),
            ("outcome", Arc::new(self.outcomes.finish())),
            ("reason", Arc::new(self.reasons.finish())),
            ("recorded_at", Arc::new(TimestampMicrosecondArray::from(vec![at; count]))),
            ("document_from_change", Arc::new(self.from_change.finish())),
            ("in_synced", Arc::new(self.in_synced.finish())),
        ])
    }
}

/// Rows of `synced` for groups that have none, by column.
#[derive(Default)]
struct GroupRows {
    keys: StringBuilder,
    fingerprints: UInt64Builder,
    documents: StringBuilder,
    seqs: UInt64Builder,
}

impl GroupRows {
    fn batch(mut self, sync: &str, at: i64) -> duckdb::Result<Option<RecordBatch>> {
        let keys = self.keys.finish();
        let count = keys.len();
        if count == 0 {
            return Ok(None);
        }
        let columns: [ArrayRef; 6] = [
            repeated(sync, count),
            Arc::new(keys),
            Arc::new(self.fingerprints.finish()),
            Arc::new(self.documents.finish()),
            Arc::new(self.seqs.finish()),
            Arc::new(TimestampMicrosecondArray::from(vec![at; count])),
        ];
        let mut columns = columns.into_iter();
        batch(NEW_GROUP_COLUMNS.map(|name| (name, columns.next().unwrap_or_else(|| repeated("", count))))).map(Some)
    }
}

fn repeated(text: &str, count: usize) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, count)))
}

fn batch<const N: usize>(columns: [(&str, ArrayRef); N]) -> duckdb::Result<RecordBatch> {
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))
        .map_err(|error| duckdb::Error::ToSqlConversionFailure(Box::new(error)))
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
const HISTORY_COLUMNS: &str = "j.seq, j.run, j.recorded_at, coalesce(j.change, '{\"set\":' || k.document || '}') AS change, \
    j.outcome, j.reason";

/// SQL for the lines of the journal that `which` selects (what follows WHERE), in order of their sequence, with their keys
/// behind [`HISTORY_COLUMNS`]. A first delivery has its text in the group's document, until that is replaced.
pub(super) fn history_lines(which: &str, descending: bool) -> String {
    let order = if descending { " DESC" } else { "" };
    format!(
        "SELECT {HISTORY_COLUMNS}, j.key FROM (SELECT * FROM journal WHERE {which}) j LEFT JOIN synced k \
         ON j.in_synced AND j.change IS NULL AND j.outcome = 'delivered' AND k.sync = j.sync AND k.key = j.key AND k.seq = j.seq \
         ORDER BY j.seq{order}"
    )
}

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
    let sql = history_lines("sync = ? AND key = ? AND seq < ? ORDER BY seq DESC LIMIT ?", true);
    let found = lines(connection, &sql, params![sync, key, before, count], |_| Ok(()))?;
    Ok(found.into_iter().map(|((), entry)| entry).collect())
}
