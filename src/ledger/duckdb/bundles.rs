//! Bundles: outcomes that are durable, and not in their tables yet.
//!
//! A destination that takes fifty groups a request responds two thousand times for a hundred thousand groups, and appending
//! rows to `synced` and `journal` for a few responses costs three times what appending one text does. So the outcomes of
//! few groups are first stored as one text, a bundle, in the table of long texts, under an id that no text has. The
//! transaction that marks the next page or ends the run *unpacks* them: it writes the rows of all bundles of the sync, and
//! removes the bundles.
//!
//! A bundle never outlives its run: whatever folds a run unpacks its bundles before, in the same transaction, also where
//! the connection that stored them is gone; and a process that opens the ledger unpacks those of a process that was killed.
//! Queries see no bundles, and unpack them first. A plan over a file that it may not write reads them into its temporary
//! tables.

use duckdb::Connection;

use super::long_texts::{BUNDLES_FROM, Writer};
use super::rows::{Outcomes, append};
use crate::duckdb::quote_literal;

/// Lines of a bundle. With more, what each row costs exceeds what a bundle spares.
const LINES_MAX: usize = 500;
/// Bytes of the bundles of one connection: they are read at once when they are unpacked.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// The text of a bundle of these outcomes, unless they are too many beside `waiting` bytes of other bundles.
pub(super) fn text(outcomes: &Outcomes, waiting: usize) -> Option<String> {
    let text = (outcomes.lines.len() <= LINES_MAX).then(|| serde_json::to_string(outcomes).ok()).flatten()?;
    (waiting + text.len() <= BYTES_MAX).then_some(text)
}

/// Stores a bundle, durably.
pub(super) fn store(connection: &Connection, first_seq: u64, text: String) -> duckdb::Result<()> {
    let mut writer = Writer::new(connection, 0);
    writer.store(BUNDLES_FROM + first_seq, text)?;
    writer.finish()
}

/// Outcomes that a connection stored as bundles and still has in memory, in the order of their sequences.
pub(super) type Waiting = Vec<Outcomes>;

/// A condition for the first pieces of a sync's bundles, or of all.
fn first_pieces(sync: Option<&str>) -> String {
    let begins = sync.map_or_else(String::new, |sync| {
        let begins = format!("{{\"sync\":{},", serde_json::Value::from(sync));
        format!(" AND starts_with(text, {})", quote_literal(&begins))
    });
    format!("id >= {BUNDLES_FROM} AND part = 0{begins}")
}

/// The ids of the bundles of a sync, or of all, in order.
fn ids(connection: &Connection, sync: Option<&str>) -> duckdb::Result<Vec<u64>> {
    let sql = format!("SELECT id FROM texts WHERE {} ORDER BY id", first_pieces(sync));
    connection.prepare(&sql)?.query_map([], |row| row.get(0))?.collect()
}

/// Whether there are any.
pub(super) fn any(connection: &Connection) -> duckdb::Result<bool> {
    let sql = format!("SELECT EXISTS (SELECT 1 FROM texts WHERE {})", first_pieces(None));
    connection.query_row(&sql, [], |row| row.get(0))
}

/// The bundles of a sync, or of all, in the order of their sequences.
pub(super) fn read(connection: &Connection, sync: Option<&str>) -> duckdb::Result<Vec<Outcomes>> {
    let ids = ids(connection, sync)?;
    if ids.is_empty() { Ok(Vec::new()) } else { read_these(connection, &ids) }
}

fn read_these(connection: &Connection, ids: &[u64]) -> duckdb::Result<Vec<Outcomes>> {
    let sql = format!("SELECT id, text FROM texts WHERE id IN ({}) ORDER BY id, part", list(ids));
    let mut pieces = connection.prepare(&sql)?;
    let mut rows = pieces.query([])?;
    let mut texts: Vec<(u64, String)> = Vec::new();
    while let Some(row) = rows.next()? {
        let (id, piece): (u64, String) = (row.get(0)?, row.get(1)?);
        match texts.last_mut().filter(|(last, _)| *last == id) {
            Some((_, text)) => text.push_str(&piece),
            None => texts.push((id, piece)),
        }
    }
    let parsed = texts.iter().map(|(_, text)| serde_json::from_str(text)).collect::<Result<_, _>>();
    parsed.map_err(|error| duckdb::Error::ToSqlConversionFailure(Box::new(error)))
}

fn list(ids: &[u64]) -> String {
    ids.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

/// Writes the outcomes of all bundles of a sync, or of all, into their tables, in the transaction under way. They are read
/// unless they are those that are `waiting`, which are taken in any case: should the transaction fail, they are read next
/// time.
pub(super) fn unpack(
    connection: &Connection,
    sync: Option<&str>,
    waiting: &mut Waiting,
    inline_max: usize,
) -> duckdb::Result<()> {
    let (ids, waiting) = (ids(connection, sync)?, std::mem::take(waiting));
    if ids.is_empty() {
        return Ok(());
    }
    let are_waiting = waiting.iter().map(|outcomes| BUNDLES_FROM + outcomes.first_seq).eq(ids.iter().copied());
    let outcomes = if are_waiting { waiting } else { read_these(connection, &ids)? };
    append(connection, outcomes, None, inline_max)?;
    connection.execute(&format!("DELETE FROM texts WHERE id IN ({})", list(&ids)), []).map(drop)
}
