//! Long texts: documents and changes that are too long for a row of their table.
//!
//! DuckDB logs, compresses and often reads 2,048 values of a column at a time, all of them in memory at once, and
//! committing a single row rereads the up to 2,047 before it. Values of 200 KB then need 400 MB however little of the
//! table is touched, and a ledger that cannot commit cannot be used again either. So no value is longer than
//! [`INLINE_BYTES_MAX`]: a longer text is stored in the table `texts`, in pieces, and the row has a [`Reference`] to it.
//!
//! A text is written once, with the outcome it belongs to. Folding moves references, not texts, and what no row refers to
//! any more is removed afterwards ([`remove_unused`]).

use std::collections::BTreeMap;

use duckdb::{Appender, Connection, params};

/// Bytes of a text that is stored in its row. Two columns of 2,048 such values have 16 MB; DuckDB, too, stores longer ones
/// elsewhere.
pub(super) const INLINE_BYTES_MAX: usize = 4_000;
/// Bytes of a piece: 2,048 of them have 4 MB.
const PIECE_BYTES: usize = 2_000;
/// Bytes of pieces that are handed over at a time. DuckDB's appender counts rows, of which it would gather 200,000.
const FLUSH_BYTES: usize = 4 * 1024 * 1024;

/// Ids of bundles of outcomes are sequences from here on; those of texts are below.
pub(super) const BUNDLES_FROM: u64 = 1 << 62;

/// The table of texts. Ids are those of the journal's lines, times two, so none is used twice.
pub(super) const TABLE: &str = "
CREATE TABLE texts (id UBIGINT NOT NULL, part UINTEGER NOT NULL, text VARCHAR NOT NULL);
";

/// What a column has in place of a long text: `@ID:BYTES`, or `@ID:BYTES=` for what the change of that id sets.
/// Documents and changes themselves begin with a brace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reference {
    id: u64,
    bytes: usize,
    what_is_set: bool,
}

impl Reference {
    fn parse(stored: &str) -> Option<Reference> {
        let named = stored.strip_prefix('@')?;
        let (id, bytes) = named.strip_suffix('=').unwrap_or(named).split_once(':')?;
        Some(Reference { id: id.parse().ok()?, bytes: bytes.parse().ok()?, what_is_set: named.ends_with('=') })
    }
}

/// Bytes of the text that a stored value represents.
pub(super) fn len(stored: &str) -> usize {
    Reference::parse(stored).map_or(stored.len(), |reference| reference.bytes)
}

/// What a stored change sets, as [`LINE_DOCUMENT`] has it.
pub(super) fn what_is_set(change: &str) -> String {
    match Reference::parse(change) {
        Some(_) => format!("{change}="),
        None => change.get(7..change.len().saturating_sub(1)).unwrap_or_default().to_owned(),
    }
}

/// SQL for the document in a journal's line: itself, what its change sets, or a reference to either.
pub(super) const LINE_DOCUMENT: &str = "CASE WHEN document_from_change IS NOT TRUE THEN document WHEN starts_with(change, '@') \
    THEN change || '=' ELSE substring(change, 8, length(change) - 8) END";

/// SQL for [`len`].
pub(super) fn bytes(column: &str) -> String {
    format!(
        "coalesce(CASE WHEN starts_with({column}, '@') \
         THEN TRY_CAST(split_part(rtrim({column}, '='), ':', 2) AS UBIGINT) ELSE strlen({column}) END, 0)"
    )
}

/// SQL for the ids of the texts that a column refers to. Row groups without any are not read.
fn referred(column: &str, table: &str) -> String {
    format!(
        "SELECT TRY_CAST(split_part(substring({column}, 2), ':', 1) AS UBIGINT) AS id FROM {table} \
         WHERE {column} >= '@' AND {column} < 'A'"
    )
}

/// Removes the texts that no row refers to; bundles are none. The caller excludes other writers.
pub(super) fn remove_unused(connection: &Connection) -> duckdb::Result<()> {
    if !connection.query_row("SELECT EXISTS (SELECT 1 FROM texts)", [], |row| row.get::<_, bool>(0))? {
        return Ok(());
    }
    let used =
        [("document", "synced"), ("rejected_document", "synced"), ("document", "journal"), ("change", "journal")];
    let used = used.map(|(column, table)| referred(column, table)).join(" UNION ALL ");
    connection.execute_batch(&format!(
        "DELETE FROM texts WHERE id < {BUNDLES_FROM} AND id NOT IN (SELECT id FROM ({used}) WHERE id IS NOT NULL)"
    ))
}

/// Writes long texts in the transaction under way.
pub(super) struct Writer<'a> {
    connection: &'a Connection,
    /// Opened for the first text: most transactions have none.
    appender: Option<Appender<'a>>,
    inline_max: usize,
    unflushed: usize,
}

impl<'a> Writer<'a> {
    pub(super) fn new(connection: &'a Connection, inline_max: usize) -> Writer<'a> {
        Writer { connection, appender: None, inline_max, unflushed: 0 }
    }

    /// What to store in a column: the text itself, or a reference to it, which `id` makes unique.
    pub(super) fn store(&mut self, id: u64, text: String) -> duckdb::Result<String> {
        if text.len() <= self.inline_max {
            return Ok(text);
        }
        let appender = match &mut self.appender {
            Some(appender) => appender,
            none => none.insert(self.connection.appender("texts")?),
        };
        for (part, piece) in (0_u32..).zip(pieces(&text)) {
            appender.append_row(params![id, part, piece])?;
            self.unflushed += piece.len();
            if self.unflushed >= FLUSH_BYTES {
                appender.flush()?;
                self.unflushed = 0;
            }
        }
        Ok(format!("@{id}:{}", text.len()))
    }

    pub(super) fn finish(self) -> duckdb::Result<()> {
        self.appender.map_or(Ok(()), |mut appender| appender.flush())
    }
}

/// A text in pieces of at most [`PIECE_BYTES`].
fn pieces(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let mut end = text.len().min(PIECE_BYTES);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let (piece, rest) = text.split_at(end);
        text = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Long texts that some rows refer to.
#[derive(Default)]
pub(super) struct Texts(BTreeMap<u64, String>);

impl Texts {
    /// Reads what these stored values refer to; most refer to nothing, which costs nothing.
    pub(super) fn of<'a>(
        connection: &Connection,
        stored: impl IntoIterator<Item = Option<&'a str>>,
    ) -> duckdb::Result<Texts> {
        let wanted = stored.into_iter().flatten().filter_map(Reference::parse);
        let mut texts = Texts(wanted.map(|wanted| (wanted.id, String::new())).collect());
        let ids: Vec<u64> = texts.0.keys().copied().collect();
        // Ids that follow each other were mostly written together: a range of them is found without reading the others.
        for near in ids.chunk_by(|id, next| next - id <= 8) {
            let list = near.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
            let (first, last) = (near[0], near[near.len() - 1]);
            let mut statement = connection.prepare(&format!(
                "SELECT id, part, text FROM texts WHERE id BETWEEN {first} AND {last} AND id IN ({list})"
            ))?;
            let found = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            let mut pieces: Vec<(u64, u32, String)> = found.collect::<duckdb::Result<_>>()?;
            pieces.sort_unstable_by_key(|(id, part, _)| (*id, *part));
            for (id, _, piece) in pieces {
                if let Some(text) = texts.0.get_mut(&id) {
                    text.push_str(&piece);
                }
            }
        }
        Ok(texts)
    }

    /// The text that a stored value represents.
    ///
    /// Errors: what is wrong with it, for people.
    pub(super) fn text<'a>(&'a self, stored: &'a str) -> Result<&'a str, String> {
        let Some(Reference { id, bytes, what_is_set }) = Reference::parse(stored) else { return Ok(stored) };
        let whole = self.0.get(&id).filter(|text| text.len() == bytes);
        let part = whole.and_then(|text| if what_is_set { text.get(7..bytes.checked_sub(1)?) } else { Some(text) });
        part.ok_or_else(|| "a part of it is missing".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(TABLE).unwrap();
        let other = "CREATE TABLE synced (document VARCHAR, rejected_document VARCHAR); \
                     CREATE TABLE journal (document VARCHAR, change VARCHAR)";
        connection.execute_batch(other).unwrap();
        connection
    }

    #[test]
    fn a_long_text_comes_back_as_it_was_and_a_short_one_stays_where_it_is() {
        let connection = tables();
        // Characters of four bytes, so that no piece can end where it would like to.
        let long = format!("{{\"set\":{{\"a\":\"{}\"}}}}", "😀".repeat(1_700));
        let mut writer = Writer::new(&connection, INLINE_BYTES_MAX);
        let stored = writer.store(14, long.clone()).unwrap();
        assert_eq!(writer.store(15, "{}".to_owned()).unwrap(), "{}");
        let other = writer.store(4_000, "x".repeat(INLINE_BYTES_MAX + 1)).unwrap();
        writer.finish().unwrap();
        assert_eq!(stored, format!("@14:{}", long.len()));
        let set = format!("{stored}=");
        let texts =
            Texts::of(&connection, [Some(stored.as_str()), None, Some("{}"), Some(&set), Some(&other)]).unwrap();
        assert_eq!(texts.text(&stored).unwrap(), long);
        assert_eq!(texts.text(&set).unwrap(), &long[7..long.len() - 1]);
        assert_eq!(texts.text("{}").unwrap(), "{}");
        assert_eq!(texts.text(&other).unwrap().len(), INLINE_BYTES_MAX + 1);
        let bytes: u64 = connection
            .query_row(&format!("SELECT {} FROM (SELECT ? AS d)", bytes("d")), [&set], |row| row.get(0))
            .unwrap();
        assert_eq!(bytes, long.len() as u64);
    }

    #[test]
    fn a_text_with_a_lost_part_is_not_taken_for_a_shorter_one() {
        let connection = tables();
        let mut writer = Writer::new(&connection, 10);
        let stored = writer.store(2, "y".repeat(9_000)).unwrap();
        writer.finish().unwrap();
        connection.execute_batch("DELETE FROM texts WHERE part = 1").unwrap();
        let texts = Texts::of(&connection, [Some(stored.as_str())]).unwrap();
        assert!(texts.text(&stored).unwrap_err().contains("missing"));
    }

    #[test]
    fn only_what_no_row_refers_to_is_removed() {
        let connection = tables();
        let mut writer = Writer::new(&connection, 10);
        let stored: Vec<String> = (1..=6).map(|id| writer.store(id, "z".repeat(5_000)).unwrap()).collect();
        writer.finish().unwrap();
        connection.execute("INSERT INTO synced VALUES (?, ?), ('{}', NULL)", [&stored[0], &stored[1]]).unwrap();
        connection
            .execute("INSERT INTO journal VALUES (?, ?), (NULL, '{}'), (NULL, NULL)", [&stored[2], &stored[3]])
            .unwrap();
        connection.execute("INSERT INTO synced VALUES (?, NULL)", [format!("{}=", stored[5])]).unwrap();
        remove_unused(&connection).unwrap();
        let mut left = connection.prepare("SELECT DISTINCT id FROM texts ORDER BY id").unwrap();
        let left: Vec<u64> = left.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        assert_eq!(left, [1, 2, 3, 4, 6]);
    }
}
