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
use super::rows::{Line, Outcomes, append};
use crate::duckdb::quote_literal;

/// Lines of a bundle. With more, what each row costs exceeds what a bundle spares.
const LINES_MAX: usize = 500;
/// Bytes of a bundle: so few that all its pieces are committed together.
const BUNDLE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of the bundles of one connection: they may have to be read at once when they are unpacked.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// The text of a bundle of these outcomes, unless they are too many, or too many beside `waiting` bytes of other bundles.
pub(super) fn text(outcomes: &Outcomes, waiting: usize) -> Option<String> {
    let lines = &outcomes.lines;
    let is_small = lines.len() <= LINES_MAX && lines.iter().map(Line::bytes).sum::<usize>() <= BUNDLE_BYTES_MAX;
    let text = is_small.then(|| serde_json::to_string(outcomes).ok()).flatten()?;
    (text.len() <= BUNDLE_BYTES_MAX && waiting + text.len() <= BYTES_MAX).then_some(text)
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
    connection.query_row(&any_statement(), [], |row| row.get(0))
}

/// The statement for [`any`].
pub(super) fn any_statement() -> String {
    format!("SELECT EXISTS (SELECT 1 FROM texts WHERE {})", first_pieces(None))
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
    let parse = |(id, text): &(u64, String)| {
        let parsed = serde_json::from_str(text);
        // Their marks are there: without outcomes they are unconfirmed, which is true.
        parsed
            .inspect_err(|error| {
                tracing::error!(id, "outcomes in the ledger cannot be read ({error}): their groups are sent again")
            })
            .ok()
    };
    Ok(texts.iter().filter_map(parse).collect())
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
    if !outcomes.is_empty() {
        append(connection, outcomes, None, inline_max)?;
    }
    connection.execute(&format!("DELETE FROM texts WHERE id IN ({})", list(&ids)), []).map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::long_texts::INLINE_BYTES_MAX;
    use super::super::schema;
    use super::*;
    use crate::ledger::{ChangeOutcome, JournalEntry};
    use crate::model::After;

    fn outcomes(sync: &str, first_seq: u64, bytes: usize) -> Outcomes {
        let entry = JournalEntry {
            key: format!("k{first_seq}"),
            is_new: true,
            change: Arc::default(),
            document: Some(After::Text(format!("{{\"t\":\"{}\"}}", "x".repeat(bytes)).into())),
            fingerprint: Some(1),
            outcome: ChangeOutcome::Delivered,
            reason: None,
        };
        let at = chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let lines = vec![Line::of(entry, INLINE_BYTES_MAX)];
        Outcomes { sync: sync.to_owned(), run: "r".to_owned(), at, first_seq, lines }
    }

    #[test]
    fn bundles_of_one_sync_are_unpacked_alone_and_a_damaged_one_costs_only_itself() {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::migrate(&mut connection, None, false).unwrap();
        for (sync, seq) in [("a", 1), ("a\"", 2), ("a", 3), ("a", 4)] {
            let outcomes = outcomes(sync, seq, 3_000);
            store(&connection, seq, text(&outcomes, 0).unwrap()).unwrap();
        }
        let damage = format!("UPDATE texts SET text = left(text, 40) WHERE id = {} AND part = 0", BUNDLES_FROM + 3);
        connection.execute_batch(&damage).unwrap();
        let keys = |table: &str| -> Vec<String> {
            let sql = format!("SELECT key FROM {table} ORDER BY key");
            connection.prepare(&sql).unwrap().query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
        };
        unpack(&connection, Some("a"), &mut Waiting::default(), INLINE_BYTES_MAX).unwrap();
        assert_eq!(
            (keys("journal"), keys("synced")),
            (vec!["k1".to_owned(), "k4".to_owned()], vec!["k1".to_owned(), "k4".to_owned()])
        );
        assert!(any(&connection).unwrap(), "the other sync's is there");
        unpack(&connection, None, &mut Waiting::default(), INLINE_BYTES_MAX).unwrap();
        assert_eq!(keys("journal"), ["k1", "k2", "k4"]);
        assert!(!any(&connection).unwrap());
        // What is in memory is used only if it is what is stored.
        store(&connection, 5, text(&outcomes("a", 5, 1), 0).unwrap()).unwrap();
        let mut waiting = vec![outcomes("a", 4, 1), outcomes("a", 5, 1)];
        unpack(&connection, Some("a"), &mut waiting, INLINE_BYTES_MAX).unwrap();
        assert_eq!((keys("journal").len(), waiting.len()), (4, 0));
    }

    #[test]
    fn large_outcomes_are_no_bundle() {
        assert!(text(&outcomes("a", 1, 900_000), 0).is_some());
        assert!(text(&outcomes("a", 1, 900_000), BYTES_MAX - 100_000).is_none());
        assert!(text(&outcomes("a", 1, 1_100_000), 0).is_none());
    }
}
