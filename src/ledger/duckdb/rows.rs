//! Rows of the ledger's tables: what outcomes change in them, and how they are read.

use std::sync::Arc;

use chrono::{DateTime, NaiveDateTime, Utc};
use duckdb::arrow::array::{
    Array, ArrayRef, BooleanBuilder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder, UInt64Builder,
};
use duckdb::{Connection, params};

use serde::{Deserialize, Serialize};

use super::long_texts::{self, Texts, Writer};
use super::statements;
use crate::duckdb::ledger_error;
use crate::error::Result;
use crate::ledger::{ChangeOutcome, HistoryEntry, JournalEntry, RunRecord, RunStatus, SyncedGroup};
use crate::model::{After, Change, Document};

/// Folds what a run left into the synced state, if anything.
pub(super) fn fold(connection: &Connection, sync: &str, run: &str) -> duckdb::Result<()> {
    if has_lines(connection, sync, run)? { fold_lines(connection, sync, run) } else { Ok(()) }
}

/// Whether a run left anything to be folded.
pub(super) fn has_lines(connection: &Connection, sync: &str, run: &str) -> duckdb::Result<bool> {
    connection.query_row(&statements::has_lines(sync, run), [], |row| row.get(0))
}

/// Folds what a run left.
pub(super) fn fold_lines(connection: &Connection, sync: &str, run: &str) -> duckdb::Result<()> {
    statements::fold(sync, run).iter().try_for_each(|statement| connection.execute_batch(statement))
}

/// A line of the journal, spelled out.
#[derive(Serialize, Deserialize)]
pub(in crate::ledger) struct Line {
    pub(in crate::ledger) key: String,
    /// Whether what becomes known is written into `synced` at once.
    pub(in crate::ledger) is_new: bool,
    pub(in crate::ledger) change: Option<String>,
    #[serde(with = "shared_text")]
    pub(in crate::ledger) document: Option<Arc<str>>,
    /// Whether the document is exactly what the change sets, and not written once more.
    pub(in crate::ledger) document_from_change: bool,
    pub(in crate::ledger) fingerprint: Option<u64>,
    pub(in crate::ledger) outcome: ChangeOutcome,
    pub(in crate::ledger) reason: Option<String>,
}

impl Line {
    /// Bytes of its texts.
    pub(in crate::ledger) fn bytes(&self) -> usize {
        self.change.as_ref().map_or(0, String::len) + self.document.as_ref().map_or(0, |text| text.len())
    }

    pub(in crate::ledger) fn of(entry: JournalEntry, inline_max: usize) -> Line {
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

/// Outcomes of one run that were recorded together. The sync stands first, so that the beginning of the stored text names it.
#[derive(Serialize, Deserialize)]
pub(super) struct Outcomes {
    pub(super) sync: String,
    pub(super) run: String,
    pub(super) at: DateTime<Utc>,
    /// The sequence of the first line; the others follow.
    pub(super) first_seq: u64,
    pub(super) lines: Vec<Line>,
}

/// A text that is shared in memory, and stored like any.
mod shared_text {
    use std::sync::Arc;

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(text: &Option<Arc<str>>, serializer: S) -> Result<S::Ok, S::Error> {
        text.as_deref().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Arc<str>>, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.map(Arc::from))
    }
}

/// What a change has around the document that it sets: `{"set":` and `}`.
const SET_BYTES: usize = 8;

/// Columns of new rows of `synced`; the others are null.
const NEW_GROUP_COLUMNS: [&str; 6] = ["sync", "key", "fingerprint", "document", "seq", "recorded_at"];

/// Writes outcomes of one sync, in the transaction under way, into tables of this database if it is given. If that fails,
/// the marks stay and the groups are unconfirmed, which is true.
///
/// What is known of a new group is written into `synced` at once: there is no row to be replaced when the run ends, and its
/// document, which the journal's line does not repeat, is compressed once.
pub(super) fn append(
    connection: &Connection,
    recorded: Vec<Outcomes>,
    database: Option<&str>,
    inline_max: usize,
) -> duckdb::Result<()> {
    let (mut journal, mut groups) = (JournalRows::default(), GroupRows::default());
    let mut texts = Writer::new(connection, inline_max);
    let outcomes = recorded.into_iter().flat_map(|outcomes| {
        let Outcomes { sync, run, at, first_seq, lines } = outcomes;
        let of: Arc<(String, String, i64)> = Arc::new((sync, run, at.timestamp_micros()));
        (first_seq..).zip(lines).map(move |(seq, line)| (Arc::clone(&of), seq, line))
    });
    for (of, seq, mut line) in outcomes {
        let (sync, run, at) = &*of;
        let change = line.change.map(|text| texts.store(2 * seq, text)).transpose()?;
        let mut document = line.document.map(|text| texts.store(2 * seq + 1, text.as_ref().to_owned())).transpose()?;
        if line.is_new {
            groups.syncs.append_value(sync);
            groups.keys.append_value(&line.key);
            groups.fingerprints.append_option(line.fingerprint.take());
            let what_is_set = change.as_deref().filter(|_| line.document_from_change).map(long_texts::what_is_set);
            groups.documents.append_value(document.take().or(what_is_set).unwrap_or_default());
            groups.seqs.append_value(if line.outcome == ChangeOutcome::Delivered { seq } else { 0 });
            groups.recorded_at.append_value(*at);
        }
        journal.syncs.append_value(sync);
        journal.runs.append_value(run);
        journal.recorded_at.append_value(*at);
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
    if let Some(batch) = groups.batch()? {
        let mut appender = match database {
            Some(database) => {
                connection.appender_with_columns_to_catalog_and_db("synced", database, "main", &NEW_GROUP_COLUMNS)?
            }
            None => connection.appender_with_columns("synced", &NEW_GROUP_COLUMNS)?,
        };
        appender.append_record_batch(batch)?;
        appender.flush()?;
    }
    let mut appender = match database {
        Some(database) => connection.appender_to_catalog_and_db("journal", database, "main")?,
        None => connection.appender("journal")?,
    };
    appender.append_record_batch(journal.batch()?)?;
    appender.flush()
}

/// Rows of the journal, by column.
#[derive(Default)]
struct JournalRows {
    syncs: StringBuilder,
    runs: StringBuilder,
    recorded_at: TimestampMicrosecondBuilder,
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
    fn batch(mut self) -> duckdb::Result<RecordBatch> {
        batch([
            ("sync", Arc::new(self.syncs.finish()) as ArrayRef),
            ("run", Arc::new(self.runs.finish())),
            ("seq", Arc::new(self.seqs.finish())),
            ("key", Arc::new(self.keys.finish())),
            ("change", Arc::new(self.changes.finish())),
            ("document", Arc::new(self.documents.finish())),
            ("fingerprint", Arc::new(self.fingerprints.finish())),
            ("outcome", Arc::new(self.outcomes.finish())),
            ("reason", Arc::new(self.reasons.finish())),
            ("recorded_at", Arc::new(self.recorded_at.finish())),
            ("document_from_change", Arc::new(self.from_change.finish())),
            ("in_synced", Arc::new(self.in_synced.finish())),
        ])
    }
}

/// Rows of `synced` for groups that have none, by column.
#[derive(Default)]
struct GroupRows {
    syncs: StringBuilder,
    recorded_at: TimestampMicrosecondBuilder,
    keys: StringBuilder,
    fingerprints: UInt64Builder,
    documents: StringBuilder,
    seqs: UInt64Builder,
}

impl GroupRows {
    fn batch(mut self) -> duckdb::Result<Option<RecordBatch>> {
        let syncs = self.syncs.finish();
        if syncs.is_empty() {
            return Ok(None);
        }
        let [sync, key, fingerprint, document, seq, recorded_at] = NEW_GROUP_COLUMNS;
        batch([
            (sync, Arc::new(syncs) as ArrayRef),
            (key, Arc::new(self.keys.finish())),
            (fingerprint, Arc::new(self.fingerprints.finish())),
            (document, Arc::new(self.documents.finish())),
            (seq, Arc::new(self.seqs.finish())),
            (recorded_at, Arc::new(self.recorded_at.finish())),
        ])
        .map(Some)
    }
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
pub(in crate::ledger) const DOCUMENTS: [&str; 2] = ["synced", "rejected"];

/// A group as it is stored; its columns are [`GROUP_COLUMNS`].
struct StoredGroup {
    key: String,
    document: String,
    unconfirmed_in: Option<String>,
    rejected: Option<String>,
    reason: Option<String>,
    at: DateTime<Utc>,
    fingerprint: Option<u64>,
    attempted: Option<String>,
    seq: u64,
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
            fingerprint: row.get(6)?,
            attempted: row.get(7)?,
            seq: row.get(8)?,
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
            fingerprint: self.fingerprint,
            // A list that cannot be read is reported by the next run, whose candidate the group is.
            attempted: (self.attempted).and_then(|names| serde_json::from_str(&names).ok()).unwrap_or_default(),
            settled_seq: self.seq,
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
pub(super) const GROUP_COLUMNS: &str = "key, document, unconfirmed_in, rejected_document, rejected_reason, recorded_at, \
    fingerprint, to_json(attempted)::VARCHAR AS attempted, seq";
/// How many they are.
pub(super) const GROUP_COLUMNS_COUNT: usize = 9;

/// Bytes of documents that are read at a time, where the caller reads on.
pub(in crate::ledger) const GROUPS_BYTES_MAX: usize = 16 * 1024 * 1024;

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
