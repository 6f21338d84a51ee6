//! Groups that come from another ledger.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use duckdb::arrow::array::{ArrayRef, RecordBatch, StringBuilder, TimestampMicrosecondBuilder, UInt64Builder};
use duckdb::{Connection, params};
use parking_lot::Mutex;

use super::long_texts::{BUNDLES_FROM, Writer};
use super::{DuckDbLedger, bundles, statements};
use crate::duckdb::quote_literal;
use crate::error::{Error, Result};
use crate::ledger::SyncedGroup;
use crate::ledger::import::{ImportedGroups, refused};
use crate::ledger::kv::note_of;
use crate::ledger::mirror::MIRROR;

/// The groups as they come: what traits were attempted as JSON.
const TABLE: &str = "CREATE OR REPLACE TEMP TABLE imported (key VARCHAR, fingerprint UBIGINT, document VARCHAR, \
    unconfirmed_in VARCHAR, attempted VARCHAR, rejected_document VARCHAR, rejected_reason VARCHAR, seq UBIGINT, \
    recorded_at TIMESTAMP)";

/// From here on ids are those of imported long texts: others are made of sequences, which come nowhere near.
const TEXTS_FROM: u64 = BUNDLES_FROM / 2;

/// Why an import ends without having changed anything.
enum Ended {
    DuckDb(duckdb::Error),
    Other(Error),
}

impl From<duckdb::Error> for Ended {
    fn from(error: duckdb::Error) -> Ended {
        Ended::DuckDb(error)
    }
}

impl DuckDbLedger {
    /// Takes groups over; see [`crate::ledger::Ledger::import`].
    pub(super) async fn take_over(&self, sync: &str, mut groups: ImportedGroups, replace: bool) -> Result<u64> {
        let (sync, inline_max, next_seq) = (sync.to_owned(), self.inline_max, Arc::clone(&self.next_seq));
        // An error that is none of DuckDB's ends the transaction as one of its errors, and is returned in its place.
        let reason = Arc::new(Mutex::new(None));
        let ended = Arc::clone(&reason);
        let imported = self
            .write_generation("import groups", true, move |connection| {
                bundles::unpack(connection, Some(&sync), &mut Vec::new(), inline_max)?;
                let taken = prepare(connection, &sync, replace)
                    .and_then(|()| import(connection, &sync, &mut groups, &next_seq, inline_max));
                match taken {
                    Ok(count) => Ok((count, true)),
                    Err(Ended::DuckDb(error)) => Err(error),
                    Err(Ended::Other(error)) => {
                        *ended.lock() = Some(error);
                        Err(duckdb::Error::InvalidQuery)
                    }
                }
            })
            .await;
        match reason.lock().take() {
            Some(error) => Err(error),
            None => imported,
        }
    }
}

/// Makes room for the groups of a sync.
fn prepare(connection: &Connection, sync: &str, replace: bool) -> Result<(), Ended> {
    let count = |sql: &str| connection.query_row(sql, [sync], |row| row.get::<_, u64>(0));
    let groups = count("SELECT count(*) FROM synced WHERE sync = ?")?;
    let running = count("SELECT count(*) FROM runs WHERE sync = ? AND status = 'running'")?;
    if !replace && groups + running > 0 {
        return Err(Ended::Other(refused(sync, groups)));
    }
    let of_sync = format!("SELECT sync, key, seq, document FROM synced WHERE sync = {}", quote_literal(sync));
    connection.execute_batch(&statements::keep_first_changes(&of_sync))?;
    for sql in [
        "DELETE FROM synced WHERE sync = ?",
        "DELETE FROM marks WHERE sync = ?",
        "UPDATE runs SET status = 'crashed', ended_at = started_at WHERE sync = ? AND status = 'running'",
        "UPDATE runs SET cursor_value = NULL, read_all = NULL, full_read = false WHERE sync = ?",
    ] {
        connection.execute(sql, [sync])?;
    }
    connection.execute(statements::DROP_MIRROR, [note_of(MIRROR, sync)])?;
    Ok(())
}

fn import(
    connection: &Connection,
    sync: &str,
    groups: &mut ImportedGroups,
    next_seq: &AtomicU64,
    inline_max: usize,
) -> Result<u64, Ended> {
    let (mut count, mut last_seq) = (0, 0);
    let last_id = format!(
        "SELECT coalesce(max(id) + 1, {TEXTS_FROM})::UBIGINT FROM texts WHERE id >= {TEXTS_FROM} AND id < {BUNDLES_FROM}"
    );
    let mut ids: u64 = connection.query_row(&last_id, [], |row| row.get(0))?;
    while let Some(page) = groups.blocking_recv() {
        let page = page.map_err(Ended::Other)?;
        count += page.len() as u64;
        last_seq = page.iter().map(|group| group.settled_seq).fold(last_seq, u64::max);
        connection.execute_batch(TABLE)?;
        let mut texts = Writer::new(connection, inline_max);
        let page_ids = ids..ids + 2 * page.len() as u64;
        ids = page_ids.end;
        let batch = batch(page, page_ids.start, &mut texts)?;
        texts.finish()?;
        let mut appender = connection.appender_to_catalog_and_db("imported", "temp", "main")?;
        appender.append_record_batch(batch)?;
        appender.flush()?;
        drop(appender);
        connection.execute(
            "INSERT INTO synced SELECT ?, key, fingerprint, document, unconfirmed_in, attempted::JSON::VARCHAR[], \
             rejected_document, rejected_reason, seq, recorded_at FROM temp.imported",
            [sync],
        )?;
    }
    connection.execute_batch("DROP TABLE IF EXISTS temp.imported")?;
    // Later changes must not repeat a sequence: dedup keys are made of them.
    next_seq.fetch_max(last_seq + 1, Ordering::SeqCst);
    let next = next_seq.load(Ordering::SeqCst);
    connection.execute("UPDATE meta SET next_seq = greatest(next_seq, ?)", params![next])?;
    Ok(count)
}

fn batch(page: Vec<SyncedGroup>, ids: u64, texts: &mut Writer<'_>) -> duckdb::Result<RecordBatch> {
    let [mut keys, mut documents, mut unconfirmed, mut attempted, mut rejected, mut reasons] =
        std::array::from_fn(|_| StringBuilder::new());
    let (mut fingerprints, mut seqs, mut times) =
        (UInt64Builder::new(), UInt64Builder::new(), TimestampMicrosecondBuilder::new());
    for (id, group) in (ids..).step_by(2).zip(page) {
        keys.append_value(group.key);
        fingerprints.append_option(group.fingerprint);
        documents.append_value(texts.store(id, group.document.to_text())?);
        unconfirmed.append_option(group.unconfirmed_in);
        let names = (!group.attempted.is_empty()).then(|| serde_json::Value::from(group.attempted).to_string());
        attempted.append_option(names);
        let (document, reason) = group.rejected.unzip();
        rejected.append_option(document.map(|document| texts.store(id + 1, document.to_text())).transpose()?);
        reasons.append_option(reason);
        seqs.append_value(group.settled_seq);
        times.append_value(group.at.timestamp_micros());
    }
    RecordBatch::try_from_iter_with_nullable([
        ("key", Arc::new(keys.finish()) as ArrayRef, true),
        ("fingerprint", Arc::new(fingerprints.finish()), true),
        ("document", Arc::new(documents.finish()), true),
        ("unconfirmed_in", Arc::new(unconfirmed.finish()), true),
        ("attempted", Arc::new(attempted.finish()), true),
        ("rejected_document", Arc::new(rejected.finish()), true),
        ("rejected_reason", Arc::new(reasons.finish()), true),
        ("seq", Arc::new(seqs.finish()), true),
        ("recorded_at", Arc::new(times.finish()), true),
    ])
    .map_err(|error| duckdb::Error::ToSqlConversionFailure(Box::new(error)))
}
