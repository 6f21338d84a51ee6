//! The mirror: keys and fingerprints of the rows that were compared last, in a table of the warehouse that has the rows.
//!
//! With it the warehouse compares: one statement joins the model's rows with the mirror and yields the rows that differ, the
//! keys that the model no longer has, the keys that the ledger wants to see in any case, and one line of totals. Nothing else
//! leaves the warehouse. The mirror is a cache. What decides whether it can be relied on is in the ledger
//! ([`crate::ledger::mirror`]); who keeps both in step is `sync::mirror`.
//!
//! # The table
//!
//! A sync has a table of its own, `(group_key, fingerprint, seq)`, to which rows are only ever added. Of a key the row with the
//! highest `seq` counts, up to the `seq` that the statement names: what was added by a run that crashed, or arrives late, has
//! another one and is not seen. A fingerprint is a whole number of 60 bits; [`GONE`] is that of a key without one, because half of all
//! engines skip nulls where the newest of several values is chosen.
//!
//! One table for each sync rather than one for all: a statement scans its own rows alone, a first filling and a compaction are
//! `CREATE TABLE … AS SELECT`, which every warehouse does at its full speed, and what is no longer needed goes with `DROP TABLE`.
//! Appends are plain `INSERT`s; nothing is updated, merged or deleted, and no transaction has more than one statement.

use crate::mapping::Compare;
use crate::mapping::dialect::{Dialect, MirrorSql};

/// The fingerprint of a key that has none any more.
pub const GONE: i64 = -1;
/// The largest fingerprint: 60 bits are a whole number everywhere, and their sums fit 38 digits.
pub const FINGERPRINT_MAX: i64 = (1 << 60) - 1;
/// Keys that a statement may yield or ask for, at most. They are in memory, in the ledger, and in the text of statements.
pub const KEYS_MAX: usize = 20_000;
/// Bytes of all keys that a statement asks for, at most: BigQuery takes a megabyte, ClickHouse 256 KB.
pub const WANTED_BYTES_MAX: usize = 200_000;
/// The schema of mirrors, where a source names none.
pub const SCHEMA: &str = "groupcast_mirror";
/// Rows of one INSERT, at most, and bytes of their keys.
const INSERTED_ROWS: usize = 1_000;
const INSERTED_BYTES: usize = 100_000;

/// The mirrors that a source can keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorSettings {
    /// Where rows are compared if a mapping does not say.
    pub compare: Compare,
    /// The schema of the tables, as it is written in the settings.
    pub schema: String,
}

/// Whether a source's user may keep mirrors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorAccess {
    /// What the warehouse answered, if it may not.
    pub refused: Option<String>,
    /// The statements that permit it.
    pub grants: Vec<String>,
}

/// What is asked of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorQuery {
    /// The table's name without its schema.
    pub table: String,
    /// The number of the rows that it was made with: one for each key.
    pub base: u64,
    /// Rows with a higher number are not seen.
    pub seq: u64,
    /// Keys that it holds, by the ledger.
    pub keys: u64,
    /// The sum of their fingerprints, by the ledger.
    pub checksum: i128,
    /// Keys whose rows are handed over although they are equal.
    pub wanted: Vec<String>,
    /// Whether every row is handed over.
    pub all: bool,
}

/// What is changed in a mirror's schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MirrorChange {
    /// Makes the table with the fingerprints of all rows. Keys that several rows share have none.
    Fill {
        /// Its name without its schema.
        table: String,
        /// The number of its rows.
        seq: u64,
    },
    /// Adds rows.
    Append {
        /// The table's name.
        table: String,
        /// The number of the rows.
        seq: u64,
        /// Key and fingerprint, or [`GONE`].
        rows: Vec<(String, i64)>,
    },
    /// Makes another table with the rows that count.
    Compact {
        /// The table's name.
        table: String,
        /// The number of the rows that it was made with.
        base: u64,
        /// The number up to which rows count, and that of the rows in the other table.
        seq: u64,
        /// The other table's name.
        into: String,
    },
    /// Drops a table, if it is there.
    Drop {
        /// Its name.
        table: String,
    },
}

/// A key that a comparison handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComparedKey {
    /// The key.
    pub key: String,
    /// The fingerprint of its row, if it has one.
    pub fingerprint: Option<i64>,
    /// The mirror's fingerprint, if it has one.
    pub mirrored: Option<i64>,
}

/// The figures of a comparison.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MirrorTotals {
    /// Rows of the model.
    pub rows: u64,
    /// Rows without a key, unless all rows were handed over.
    pub null_keys: u64,
    /// Rows whose key is the empty text, likewise.
    pub empty_keys: u64,
    /// Keys of the mirror, as often as rows of the model have them, or once.
    pub joined: u64,
    /// Keys of the mirror.
    pub keys: u64,
    /// The sum of their fingerprints.
    pub checksum: i128,
}

/// What a comparison yields beside rows.
#[derive(Debug, Default)]
pub struct MirrorAnswer {
    /// The keys that differ; of a query that does not want all rows, every key that was handed over.
    pub keys: Vec<ComparedKey>,
    /// Whether there were more than [`KEYS_MAX`] of them; the rest is missing.
    pub too_many: bool,
    /// The figures.
    pub totals: MirrorTotals,
}

impl MirrorAnswer {
    /// The answer to a query, if these are the sums of rows of which none differs.
    pub fn of_equal_rows(sums: &str, query: &MirrorQuery) -> Option<MirrorAnswer> {
        let totals = totals(sums)?;
        let is_equal = (totals.keys, totals.checksum) == (query.keys, query.checksum) && query.wanted.is_empty();
        is_equal.then(|| MirrorAnswer { totals, ..MirrorAnswer::default() })
    }
}

/// Takes the lines of a comparison.
pub struct MirrorLines {
    all: bool,
    rows: u64,
    joined: u64,
    answer: MirrorAnswer,
    has_totals: bool,
}

impl MirrorLines {
    /// For the lines of this query.
    pub fn new(query: &MirrorQuery) -> MirrorLines {
        MirrorLines { all: query.all, rows: 0, joined: 0, answer: MirrorAnswer::default(), has_totals: false }
    }

    /// Takes the columns of one line that are not cells. Returns whether it is a row of the model. An error says what
    /// cannot be read.
    pub fn push(
        &mut self,
        key: Option<&str>,
        fingerprint: Option<i64>,
        mirror_key: Option<&str>,
        mirrored: Option<i64>,
    ) -> Result<bool, String> {
        if fingerprint.is_none() && mirrored.is_none() {
            if std::mem::replace(&mut self.has_totals, true) {
                return Err("the totals came twice".to_owned());
            }
            self.answer.totals = mirror_key.and_then(totals).ok_or("the totals cannot be read")?;
            return Ok(false);
        }
        let is_row = fingerprint.is_some();
        self.rows += u64::from(is_row);
        self.joined += u64::from(mirrored.is_some());
        let key = if is_row { key } else { mirror_key };
        let Some(key) = key.filter(|key| !key.is_empty()) else { return Ok(is_row) };
        if self.all && fingerprint == mirrored {
            return Ok(is_row);
        }
        match self.answer.keys.len() < KEYS_MAX {
            true => self.answer.keys.push(ComparedKey { key: key.to_owned(), fingerprint, mirrored }),
            false => self.answer.too_many = true,
        }
        Ok(is_row)
    }

    /// The answer, once all lines have come.
    pub fn finish(mut self) -> Result<MirrorAnswer, String> {
        if !self.has_totals {
            return Err("the totals did not come".to_owned());
        }
        if self.all {
            let MirrorTotals { keys, checksum, .. } = self.answer.totals;
            let (rows, joined) = (self.rows, self.joined);
            self.answer.totals = MirrorTotals { rows, joined, keys, checksum, ..MirrorTotals::default() };
        }
        Ok(self.answer)
    }
}

/// The totals in their line: rows, rows with a key, rows with a key that is not empty, joined, keys, checksum.
fn totals(text: &str) -> Option<MirrorTotals> {
    let mut parts = text.split(' ');
    let mut count = || parts.next()?.parse::<u64>().ok();
    let [rows, with_key, with_text, joined, keys] = [count()?, count()?, count()?, count()?, count()?];
    let checksum = parts.next()?.parse().ok()?;
    let (null_keys, empty_keys) = (rows.checked_sub(with_key)?, with_key.checked_sub(with_text)?);
    parts.next().is_none().then_some(MirrorTotals { rows, null_keys, empty_keys, joined, keys, checksum })
}

/// The statements of one mirror.
pub struct MirrorStatements<'a> {
    /// The dialect.
    pub dialect: &'a dyn Dialect,
    /// How it writes them.
    pub sql: &'a MirrorSql,
    /// The schema's name in parts.
    pub schema: &'a [String],
}

/// The model's rows as a mirror's statements take them.
pub struct ModelRows {
    /// A SELECT of `k`, `c0`, `c1`, … and `fp`.
    pub select: String,
    /// A SELECT of `k` and `fp` alone.
    pub keys: String,
    /// How many cells a row has.
    pub cells: usize,
}

impl MirrorStatements<'_> {
    fn table(&self, name: &str) -> String {
        let parts: Vec<String> = self.schema.iter().cloned().chain([name.to_owned()]).collect();
        self.dialect.table(&parts)
    }

    /// The fingerprint of a row: of its key and cells as texts, each with its length before it, so that no two rows have the
    /// same text.
    pub fn fingerprint(&self, texts: &[String]) -> String {
        let marked = texts.iter().map(|text| {
            let length = self.sql.text.replace("{}", &self.sql.length.replace("{}", text));
            // What is joined to a null is null.
            format!("COALESCE({length} || ':' || {text}, '-')")
        });
        let marked: Vec<String> = marked.collect();
        self.sql.hash.replace("{}", &marked.join(" || "))
    }

    fn newest(&self, table: &str, base: u64, seq: u64) -> String {
        let newest = self.sql.newest.replace("{table}", &self.table(table));
        let newest = newest.replace("{base}", &base.to_string()).replace("{seq}", &seq.to_string());
        format!("SELECT mirror_key, mirrored FROM ({newest}) AS newest WHERE mirrored >= 0")
    }

    /// The statement that compares. Its columns are `k`, the cells, `fp`, `mirror_key` and `mirrored`; the line of the totals has
    /// them in `mirror_key`, and nothing else.
    ///
    /// Only keys and fingerprints are joined with the mirror. Cells come from a second look at the model, which an engine need
    /// not take where no key differs; the fingerprint comes from it too, so that it is that of the cells.
    pub fn compare(&self, rows: &ModelRows, query: &MirrorQuery) -> String {
        let cells: String = (0..rows.cells).map(|at| format!("model_rows.c{at} AS c{at}, ")).collect();
        let nulls = "NULL, ".repeat(rows.cells);
        let text = |number: &str| self.sql.text.replace("{}", number);
        let figures = |names: &[&str]| names.iter().map(|name| text(name)).collect::<Vec<_>>().join(" || ' ' || ");
        let sum = self.sql.sum.replace("{}", "mirrored");
        let held = format!("SELECT count(*) AS keys_held, coalesce({sum}, 0) AS sum_held FROM mirror");
        let newest = self.newest(&query.table, query.base, query.seq);
        let columns = format!("model_rows.k AS k, {cells}model_rows.fp AS fp");
        if query.all {
            let statement = format!(
                "WITH mirror AS (\n{newest}\n)\nSELECT {columns}, mirror.mirror_key AS mirror_key, mirror.mirrored AS mirrored \
                 FROM (\n{}\n) AS model_rows FULL JOIN mirror ON mirror.mirror_key = model_rows.k\nUNION ALL\n\
                 SELECT NULL, {nulls}NULL, '0 0 0 0 ' || {}, NULL FROM ({held}) AS of_mirror",
                rows.select,
                figures(&["keys_held", "sum_held"]),
            );
            return self.sql.joined.replace("{}", &statement);
        }
        let mut differs = "fp IS NULL OR mirrored IS NULL OR fp <> mirrored".to_owned();
        if !query.wanted.is_empty() {
            let wanted: Vec<String> = query.wanted.iter().map(|key| self.dialect.literal(key)).collect();
            differs.push_str(&format!(" OR k IN ({})", wanted.join(", ")));
        }
        let statement = format!(
            "WITH mirror AS (\n{newest}\n), joined AS (\nSELECT model_keys.k AS k, model_keys.fp AS fp, mirror.mirror_key AS \
             mirror_key, mirror.mirrored AS mirrored FROM (\n{keys}\n) AS model_keys FULL JOIN mirror ON mirror.mirror_key = \
             model_keys.k\n), differing AS (\nSELECT DISTINCT k, mirror_key, mirrored FROM joined WHERE ({differs}) AND (fp IS NULL OR \
             k <> '')\n)\nSELECT {columns}, differing.mirror_key AS mirror_key, differing.mirrored AS mirrored FROM differing LEFT \
             JOIN (\n{select}\n) AS model_rows ON model_rows.k = differing.k\nUNION ALL\nSELECT NULL, {nulls}NULL, {figures}, NULL \
             FROM (SELECT count(fp) AS rows_all, count(CASE WHEN k IS NOT NULL THEN fp END) AS rows_with_key, count(CASE WHEN \
             k <> '' THEN fp END) AS rows_with_text, count(mirrored) AS keys_joined FROM joined) AS of_rows CROSS JOIN ({held}) \
             AS of_mirror",
            keys = rows.keys,
            select = rows.select,
            figures = figures(&["rows_all", "rows_with_key", "rows_with_text", "keys_joined", "keys_held", "sum_held"]),
        );
        self.sql.joined.replace("{}", &statement)
    }

    /// The statement that sums up the rows' fingerprints, in the line of totals alone: where they are those that the mirror
    /// should hold, no row differs, and the mirror need not be read.
    pub fn sum(&self, rows: &ModelRows) -> String {
        let text = |number: &str| self.sql.text.replace("{}", number);
        let figures = ["rows_all", "rows_with_key", "rows_with_text", "rows_with_text", "rows_with_text", "sum_all"];
        let figures: Vec<String> = figures.map(text).into();
        format!(
            "SELECT {} FROM (SELECT count(fp) AS rows_all, count(CASE WHEN k IS NOT NULL THEN fp END) AS rows_with_key, \
             count(CASE WHEN k <> '' THEN fp END) AS rows_with_text, coalesce({}, 0) AS sum_all FROM (\n{}\n) AS model_keys) AS \
             of_rows",
            figures.join(" || ' ' || "),
            self.sql.sum.replace("{}", "CASE WHEN k <> '' THEN fp END"),
            rows.keys,
        )
    }

    /// The statements that make a change. `rows` are needed to fill a table.
    pub fn change(&self, change: &MirrorChange, rows: Option<&ModelRows>) -> Vec<String> {
        let create = |table: &str, select: &str| {
            self.sql.create.replace("{table}", &self.table(table)).replace("{select}", select)
        };
        let int = |number: u64| self.sql.int.replace("{}", &number.to_string());
        match change {
            MirrorChange::Fill { table, seq } => {
                let Some(rows) = rows else { return Vec::new() };
                let select = format!(
                    "SELECT k AS group_key, max(fp) AS fingerprint, {} AS seq FROM (\n{}\n) AS model_keys \
                     WHERE k IS NOT NULL AND k <> '' GROUP BY k HAVING count(*) = 1",
                    int(*seq),
                    rows.keys
                );
                vec![create(table, &select)]
            }
            MirrorChange::Append { table, seq, rows } => {
                let insert = format!("INSERT INTO {} (group_key, fingerprint, seq) VALUES ", self.table(table));
                let value = |(key, fingerprint): &(String, i64)| {
                    format!("({}, {fingerprint}, {seq})", self.dialect.literal(key))
                };
                let (mut all, mut values, mut bytes) = (Vec::new(), Vec::new(), 0);
                for row in rows {
                    if values.len() == INSERTED_ROWS || (bytes + row.0.len() > INSERTED_BYTES && !values.is_empty()) {
                        all.push(format!("{insert}{}", std::mem::take(&mut values).join(", ")));
                        bytes = 0;
                    }
                    bytes += row.0.len();
                    values.push(value(row));
                }
                if !values.is_empty() {
                    all.push(format!("{insert}{}", values.join(", ")));
                }
                all
            }
            MirrorChange::Compact { table, base, seq, into } => {
                let select = format!(
                    "SELECT mirror_key AS group_key, mirrored AS fingerprint, {} AS seq FROM ({}) AS counting",
                    int(*seq),
                    self.newest(table, *base, *seq)
                );
                vec![create(into, &select)]
            }
            MirrorChange::Drop { table } => vec![format!("DROP TABLE IF EXISTS {}", self.table(table))],
        }
    }

    /// The statements that permit `user` to keep mirrors.
    pub fn grants(&self, user: &str) -> Vec<String> {
        let schema = self.dialect.table(self.schema);
        self.sql.grants.iter().map(|grant| grant.replace("{schema}", &schema).replace("{user}", user)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(all: bool) -> MirrorLines {
        let table = "t".to_owned();
        MirrorLines::new(&MirrorQuery { table, base: 1, seq: 1, keys: 0, checksum: 0, wanted: Vec::new(), all })
    }

    #[test]
    fn lines_are_told_apart_by_what_they_lack() {
        let mut lines = lines(false);
        assert_eq!(lines.push(Some("a"), Some(5), Some("a"), Some(4)), Ok(true));
        assert_eq!(lines.push(Some("b"), Some(7), None, None), Ok(true));
        assert_eq!(lines.push(None, None, Some("c"), Some(9)), Ok(false));
        assert_eq!(lines.push(None, Some(3), None, None), Ok(true), "a row without a key");
        assert_eq!(lines.push(None, None, Some("5 4 3 2 2 -170141183460469231731687303715884105728"), None), Ok(false));
        let answer = lines.finish().unwrap();
        let key = |key: &str, fingerprint, mirrored| ComparedKey { key: key.to_owned(), fingerprint, mirrored };
        assert_eq!(answer.keys, [key("a", Some(5), Some(4)), key("b", Some(7), None), key("c", None, Some(9))]);
        assert_eq!(
            answer.totals,
            MirrorTotals { rows: 5, null_keys: 1, empty_keys: 1, joined: 2, keys: 2, checksum: i128::MIN }
        );
    }

    #[test]
    fn of_all_rows_only_those_that_differ_are_noted() {
        let mut lines = lines(true);
        assert_eq!(lines.push(Some("a"), Some(5), Some("a"), Some(5)), Ok(true));
        assert_eq!(lines.push(Some("b"), Some(5), Some("b"), Some(6)), Ok(true));
        assert_eq!(lines.push(None, None, Some("0 0 0 0 2 11"), None), Ok(false));
        let answer = lines.finish().unwrap();
        assert_eq!((answer.keys.len(), answer.totals.rows, answer.totals.joined, answer.totals.keys), (1, 2, 2, 2));
    }

    #[test]
    fn an_answer_without_its_totals_is_none() {
        let mut without = lines(false);
        without.push(Some("a"), Some(5), None, None).unwrap();
        assert!(without.finish().is_err());
        assert!(lines(false).push(None, None, Some("1 1 1 2 x 4"), None).is_err());
        assert!(lines(false).push(None, None, None, None).is_err());
    }
}
