//! A run's staged rows. They are in a DuckDB instance of their own ([`super::instance`]), and little of
//! them leaves it: first counts and sums per bucket of keys, then keys and fingerprints of the buckets that differ from
//! what is known, then the cells of the candidates, page by page.
//!
//! A bucket is a part of all keys, by hash. Two sets of rows with equal counts, 128-bit sums and exclusive ors of
//! `hash(key, fingerprint)` in a bucket are taken for equal; a quiet run therefore costs little more than hashing.

use std::fmt::Write as _;
use std::sync::mpsc::sync_channel;

use duckdb::Connection;
use duckdb::arrow::array::RecordBatch;
use duckdb::params;

use crate::duckdb::{DuckDbConnection, ledger_error, quote_literal};
use crate::error::{Error, Result};
use crate::model::ColumnType;

use super::statement_error::statement_error;

/// Parts of all keys. A power of two; more cost more to group than they save to join (measured in `docs`: 65,536 double
/// the cost of a quiet run).
pub const BUCKETS: usize = 4096;
/// Batches that wait between two instances; each has 2,048 rows.
const BATCHES_WAITING: usize = 16;
/// Most bytes of a row's cells. A row with more is not read any further: its group is rejected by name. Two pages in
/// memory, as cells, values and requests, have room for a few of them; no destination takes a megabyte for one group.
pub const ROW_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Rows that are read at a time where memory does not suffice for more, at first: one of DuckDB's vectors, whose 2,048
/// values it unpacks together even where one of them is wanted. Where it still does not suffice, an eighth of them, and so
/// on to one.
const SLICE_ROWS: u64 = 2048;
const SMALLER: u64 = 8;
/// Up to here candidates come in key order, so that plans read well; sorting more would cost more than it helps.
pub const ORDERED_MAX: u64 = 100_000;

/// SQL for the bucket of a key that is neither null nor empty.
pub fn bucket(key: &str) -> String {
    format!("(hash({key}) & {})::USMALLINT", BUCKETS - 1)
}

/// SQL for what one row adds to the sums of its bucket.
pub fn row_hash(key: &str, fingerprint: &str) -> String {
    format!("hash({key}, {fingerprint})")
}

/// What represents all rows of a bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bucket {
    /// How many rows.
    pub rows: u64,
    /// The sum of the rows' hashes.
    pub sum: i128,
    /// Their exclusive or.
    pub xor: u64,
}

impl Bucket {
    fn add(&mut self, other: Bucket) {
        self.rows += other.rows;
        self.sum = self.sum.wrapping_add(other.sum);
        self.xor ^= other.xor;
    }
}

/// The sums of all buckets, and what has no bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sums {
    /// Rows in all.
    pub rows: u64,
    /// Rows without a key.
    pub null_keys: u64,
    /// Rows whose key is the empty text.
    pub empty_keys: u64,
    /// By bucket.
    pub buckets: Vec<Bucket>,
}

/// What a source says of all rows of a projection in one short text. Two equal ones were made of equal rows.
pub type RowsSummary = String;

/// Rows whose cursor lies in the future.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// How many.
    pub rows: u64,
    /// By which clock: fits after "by".
    pub clock: &'static str,
}

/// Rows in a DuckDB instance of their own.
#[derive(Clone)]
pub struct Staged {
    /// The instance.
    pub duckdb: DuckDbConnection,
    /// The relation that follows FROM, quoted. It has a text column `key` and columns `c0`, `c1`, … in the projection's order.
    pub relation: String,
    /// The column of `relation` that numbers its rows, where there is one.
    pub row: Option<&'static str>,
    /// How the comparison hashes a row: comma-separated expressions over `relation` whose equality implies equal cells.
    pub hashed: String,
    /// How each column is selected in its physical form (`model::cell`'s table), in the projection's order.
    pub physical: Vec<String>,
    /// What the columns mean.
    pub kinds: Vec<ColumnType>,
    /// The largest cursor value among the rows that is not in the future, as text in the source's own notation; `None`
    /// without a cursor or rows.
    pub cursor: Option<String>,
    /// Rows whose cursor lies in the future. They do not count for `cursor`: rows that change until then would lie behind
    /// it.
    pub ahead: Option<Ahead>,
    /// What the source says of all rows, if it was asked to sum them up and can.
    pub summary: Option<RowsSummary>,
}

impl std::fmt::Debug for Staged {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Staged { duckdb: _, row: _, relation, hashed, physical, kinds, cursor, ahead, summary } = self;
        write!(out, "Staged({relation:?}, {hashed:?}, {physical:?}, {kinds:?}, {cursor:?}, {ahead:?}, {summary:?})")
    }
}

/// Which rows' cells are kept.
pub enum Wanted<'a> {
    /// Those of all rows with a key, in positions of their own.
    All,
    /// The same with their fingerprints, where every row is a candidate and no two have the same key.
    New {
        /// The fingerprints' salt.
        salt: &'a str,
        /// Whether the positions follow the keys' order.
        ordered: bool,
    },
    /// Those of the keys that a statement over another instance yields, in positions of their own.
    Keys {
        /// The other instance.
        from: &'a DuckDbConnection,
        /// Yields `key`.
        sql: String,
    },
    /// Those of the keys that a statement over another instance yields, in the positions that it gives them.
    Positions {
        /// The other instance.
        from: &'a DuckDbConnection,
        /// Yields `n` and `key`.
        sql: String,
    },
}

/// Cells that were kept, by position.
#[derive(Clone)]
pub struct KeptCells {
    duckdb: DuckDbConnection,
    /// The column that holds a row's position: one of its own, or the table's row id.
    position: &'static str,
    /// Bytes of the largest row.
    pub row_bytes_max: u64,
}

/// Which rows a statement is run for: all at once, or, where memory does not suffice for that, few at a time.
struct Slices {
    row: &'static str,
    next: u64,
    end: u64,
    /// Rows at a time; none for all at once.
    step: Option<u64>,
}

impl Slices {
    const WHOLE: Slices = Slices { row: "", next: 0, end: 1, step: None };

    /// A condition for the next rows, which is empty or begins with AND; `None` after the last.
    fn next(&mut self) -> Option<String> {
        if self.next >= self.end {
            return None;
        }
        let from = self.next;
        self.next += self.step.unwrap_or(1);
        Some(match self.step {
            None => String::new(),
            Some(_) => format!(" AND model.{0} >= {from} AND model.{0} < {1}", self.row, self.next),
        })
    }

    /// Goes on with fewer rows at a time where that may help after this failure, from the rows that failed. Returns
    /// whether everything begins again.
    async fn shrink(&mut self, staged: &Staged, error: Error) -> Result<bool> {
        let Some(row) = staged.row.filter(|_| error.to_string().contains("Out of Memory")) else { return Err(error) };
        match self.step {
            None => {
                *self = staged.slices(row).await?;
                Ok(true)
            }
            Some(1) => Err(error),
            Some(step) => {
                self.next -= step;
                self.step = Some((step / SMALLER).max(1));
                Ok(false)
            }
        }
    }
}

const KEYED: &str = "key IS NOT NULL AND key <> ''";

impl Staged {
    fn fingerprint(&self, salt: &str) -> String {
        format!("hash({}, {})", quote_literal(salt), self.hashed)
    }

    /// All rows, few at a time.
    async fn slices(&self, row: &'static str) -> Result<Slices> {
        let sql = format!("SELECT coalesce(max(model.{row}) + 1, 0)::UBIGINT FROM {} AS model", self.relation);
        let end: u64 = self
            .duckdb
            .call("read the model", move |connection| {
                connection
                    .query_row(&sql, [], |row| row.get(0))
                    .map_err(|error| statement_error("read the model", &error))
            })
            .await?;
        Ok(Slices { row, next: 0, end, step: Some(SLICE_ROWS) })
    }

    /// Counts and sums of all rows, in one pass.
    pub async fn sums(&self, salt: &str) -> Result<Sums> {
        let mut buckets = vec![Bucket::default(); BUCKETS + 2];
        let mut slices = Slices::WHOLE;
        while let Some(rows) = slices.next() {
            match self.sums_of(salt, &rows).await {
                Err(error) => drop(slices.shrink(self, error).await?),
                Ok(sums) => buckets.iter_mut().zip(sums).for_each(|(sum, bucket)| sum.add(bucket)),
            }
        }
        let (empty_keys, null_keys) = (buckets[BUCKETS + 1].rows, buckets[BUCKETS].rows);
        let rows = buckets.iter().map(|bucket| bucket.rows).sum();
        buckets.truncate(BUCKETS);
        Ok(Sums { rows, null_keys, empty_keys, buckets })
    }

    async fn sums_of(&self, salt: &str, rows: &str) -> Result<Vec<Bucket>> {
        let sql = format!(
            "SELECT CASE WHEN key IS NULL THEN {null} WHEN key = '' THEN {empty} ELSE {bucket} END AS bucket, count(*), \
             sum(row_hash)::HUGEINT, bit_xor(row_hash) FROM (SELECT key, {row_hash} AS row_hash \
             FROM (SELECT key, {fingerprint} AS fingerprint FROM {relation} AS model WHERE true{rows})) GROUP BY 1",
            null = BUCKETS,
            empty = BUCKETS + 1,
            bucket = bucket("key"),
            row_hash = row_hash("key", "fingerprint"),
            fingerprint = self.fingerprint(salt),
            relation = self.relation,
        );
        let read = move |connection: &mut Connection| {
            read_buckets(connection, &sql).map_err(|error| statement_error("read the model", &error))
        };
        self.duckdb.call("read the model", read).await
    }

    /// Writes key and fingerprint of every row with a key into the temporary table `table` of another instance, which is
    /// empty; only of these buckets, where they are given.
    pub async fn copy_fingerprints(
        &self,
        salt: &str,
        buckets: Option<&[u16]>,
        to: &DuckDbConnection,
        table: &'static str,
    ) -> Result<()> {
        let mut only = String::new();
        if let Some(buckets) = buckets {
            self.statement(differing(buckets)).await?;
            only = format!(" AND {} IN (SELECT bucket FROM temp.differing)", bucket("key"));
        }
        let mut slices = Slices::WHOLE;
        while let Some(rows) = slices.next() {
            let sql = format!(
                "SELECT key::VARCHAR AS key, {} AS fingerprint FROM {} AS model WHERE {KEYED}{only}{rows}",
                self.fingerprint(salt),
                self.relation
            );
            let Err(error) = copy(&self.duckdb, sql, to, table).await else { continue };
            // What came over before it failed, of one statement, cannot be told from the rest.
            slices.shrink(self, error).await?;
            slices.next = 0;
            let sql = format!("DELETE FROM temp.{table}");
            to.call("take rows over", move |connection| {
                connection.execute_batch(&sql).map_err(ledger_error("take rows over"))
            })
            .await?;
        }
        Ok(())
    }

    /// Whether no two of the rows with a key have the same one, as far as hashes show: where two keys have one hash, it
    /// may be that they differ.
    pub async fn keys_are_distinct(&self, rows: u64) -> Result<bool> {
        let sql = format!("SELECT count(DISTINCT hash(key)) FROM {} AS model WHERE {KEYED}", self.relation);
        self.duckdb
            .call("read the model", move |connection| {
                let distinct: u64 = connection
                    .query_row(&sql, [], |row| row.get(0))
                    .map_err(|error| statement_error("read the model", &error))?;
                Ok(distinct == rows)
            })
            .await
    }

    /// Keeps the cells of the candidates in physical form, so that the source can be released. `wanted` says which.
    pub async fn keep_cells(&self, wanted: Wanted<'_>) -> Result<KeptCells> {
        const KEYED: &str = "model.key IS NOT NULL AND model.key <> ''";
        const JOIN: &str = " JOIN temp.wanted ON wanted.key = model.key";
        let numbered = "(row_number() OVER (ORDER BY model.key) - 1)::UBIGINT";
        let (position, join, filter) = match &wanted {
            Wanted::All | Wanted::New { ordered: false, .. } => ("NULL::UBIGINT", "", KEYED),
            Wanted::New { ordered: true, .. } => (numbered, "", KEYED),
            Wanted::Keys { .. } => ("NULL::UBIGINT", JOIN, "true"),
            Wanted::Positions { .. } => ("wanted.n", JOIN, "true"),
        };
        let fingerprint = match &wanted {
            Wanted::New { salt, .. } => self.fingerprint(salt),
            _ => "NULL::UBIGINT".to_owned(),
        };
        match &wanted {
            Wanted::All | Wanted::New { .. } => {}
            Wanted::Keys { from, sql } => {
                self.statement("CREATE OR REPLACE TEMP TABLE wanted (key VARCHAR)".to_owned()).await?;
                copy(from, sql.clone(), &self.duckdb, "wanted").await?;
            }
            Wanted::Positions { from, sql } => {
                self.statement("CREATE OR REPLACE TEMP TABLE wanted (n UBIGINT, key VARCHAR)".to_owned()).await?;
                copy(from, sql.clone(), &self.duckdb, "wanted").await?;
            }
        }
        let (mut cells, mut bytes, mut kept) = (String::new(), String::from("0"), String::new());
        for (index, (physical, is_text)) in self.physical.iter().zip(self.texts().await?).enumerate() {
            write!(cells, ", {physical} AS p{index}").expect("text takes text");
            write!(kept, ", CASE WHEN bytes > {ROW_BYTES_MAX} THEN NULL ELSE p{index} END AS p{index}")
                .expect("text takes text");
            if is_text {
                write!(bytes, " + coalesce(strlen(p{index}), 0)").expect("text takes text");
            }
        }
        // The cells are formed above the join, so that only those of candidates are.
        let select = |rows: &str| {
            format!(
                "SELECT n, key, bytes, fingerprint{kept} FROM (SELECT *, ({bytes})::UBIGINT AS bytes FROM (SELECT {position} AS n, \
                 model.key::VARCHAR AS key, {fingerprint} AS fingerprint{cells} FROM {} AS model{join} WHERE {filter}{rows}))",
                self.relation
            )
        };
        self.statement(format!("CREATE OR REPLACE TEMP TABLE cells AS {} LIMIT 0", select(""))).await?;
        let mut slices = Slices::WHOLE;
        while let Some(rows) = slices.next() {
            // A statement that failed has inserted nothing.
            if let Err(error) = self.statement(format!("INSERT INTO temp.cells {}", select(&rows))).await {
                // Rows that are read in parts cannot be numbered over all of them.
                if matches!(wanted, Wanted::New { ordered: true, .. }) {
                    return Err(error);
                }
                slices.shrink(self, error).await?;
            }
        }
        let row_bytes_max = self
            .duckdb
            .call("read the model", |connection| {
                let sql = "SELECT coalesce(max(bytes), 0)::UBIGINT FROM temp.cells";
                connection.query_row(sql, [], |row| row.get(0)).map_err(ledger_error("keep cells"))
            })
            .await?;
        let has_number = matches!(wanted, Wanted::Positions { .. } | Wanted::New { ordered: true, .. });
        let position = if has_number { "n" } else { "rowid" };
        Ok(KeptCells { duckdb: self.duckdb.clone(), position, row_bytes_max })
    }

    async fn statement(&self, sql: String) -> Result<()> {
        self.duckdb
            .call("read the model", move |connection| {
                connection.execute_batch(&sql).map_err(|error| statement_error("read the model", &error))
            })
            .await
    }

    /// Which of the cells are text, by the engine's own word.
    async fn texts(&self) -> Result<Vec<bool>> {
        if self.physical.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!("DESCRIBE SELECT {} FROM {} AS model", self.physical.join(", "), self.relation);
        self.duckdb
            .call("describe the model", move |connection| {
                let read = || -> duckdb::Result<Vec<bool>> {
                    let mut statement = connection.prepare(&sql)?;
                    let types = statement.query_map([], |row| Ok(row.get::<_, String>(1)? == "VARCHAR"))?;
                    types.collect()
                };
                read().map_err(|error| statement_error("describe the model", &error))
            })
            .await
    }
}

impl KeptCells {
    /// Writes position and key of all cells into the temporary table `table` of another instance.
    pub async fn copy_positions(&self, to: &DuckDbConnection, table: &'static str) -> Result<()> {
        let sql = format!("SELECT {}::UBIGINT AS n, key FROM temp.cells", self.position);
        copy(&self.duckdb, sql, to, table).await
    }

    /// Bytes of the rows at the positions from `from` to below `to`, by position.
    pub async fn sizes(&self, from: u64, to: u64) -> Result<Vec<(u64, u64)>> {
        let sql = format!("SELECT {0}::UBIGINT, bytes FROM temp.cells WHERE {0} >= ? AND {0} < ?", self.position);
        self.duckdb
            .call("read cells", move |connection| {
                let read = || -> duckdb::Result<Vec<(u64, u64)>> {
                    let mut statement = connection.prepare(&sql)?;
                    statement.query_map(params![from, to], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
                };
                read().map_err(ledger_error("read cells"))
            })
            .await
    }

    /// The rows at the positions from `from` to below `to`, in no order: position, key, bytes, fingerprint where all rows are
    /// new, cells. Of a row with more than [`ROW_BYTES_MAX`] the cells are null.
    pub async fn rows(&self, from: u64, to: u64) -> Result<Vec<RecordBatch>> {
        let sql = format!(
            "SELECT {0}::UBIGINT AS n, * EXCLUDE (n) FROM temp.cells WHERE {0} >= ? AND {0} < ?",
            self.position
        );
        self.duckdb
            .call("read cells", move |connection| {
                let mut page = connection.prepare(&sql).map_err(ledger_error("read cells"))?;
                let batches = page.query_arrow(params![from, to]).map_err(ledger_error("read cells"))?;
                Ok(batches.collect())
            })
            .await
    }

    /// Gives the room of the cells back.
    pub async fn drop_all(&self) -> Result<()> {
        self.duckdb
            .call("drop the cells", |connection| {
                let sql = "DROP TABLE IF EXISTS temp.cells; DROP TABLE IF EXISTS temp.wanted";
                connection.execute_batch(sql).map_err(ledger_error("drop the cells"))
            })
            .await
    }
}

/// The statement that makes the temporary table of the buckets that differ.
pub fn differing(buckets: &[u16]) -> String {
    let list = buckets.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
    format!("CREATE OR REPLACE TEMP TABLE differing AS SELECT unnest([{list}])::USMALLINT AS bucket")
}

/// The buckets that a statement yields: number, rows, sum, exclusive or. Those without rows are as by default.
fn read_buckets(connection: &Connection, sql: &str) -> duckdb::Result<Vec<Bucket>> {
    let mut buckets = vec![Bucket::default(); BUCKETS + 2];
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let bucket = Bucket { rows: row.get(1)?, sum: row.get(2)?, xor: row.get(3)? };
        if let Some(place) = buckets.get_mut(row.get::<_, usize>(0)?) {
            *place = bucket;
        }
    }
    Ok(buckets)
}

/// Streams a statement's rows from one instance into a temporary table of another, which has the same columns.
async fn copy(from: &DuckDbConnection, sql: String, to: &DuckDbConnection, table: &'static str) -> Result<()> {
    let (sender, receiver) = sync_channel::<RecordBatch>(BATCHES_WAITING);
    let read = from.call("read the model", move |connection| {
        let failed = |error: duckdb::Error| statement_error("read the model", &error);
        let mut statement = connection.prepare(&sql).map_err(failed)?;
        for batch in statement.stream_arrow([]).map_err(failed)? {
            // The receiver has failed and reports why.
            if sender.send(batch.map_err(failed)?).is_err() {
                break;
            }
        }
        Ok(())
    });
    let write = to.call("take rows over", move |connection| {
        let failed = ledger_error("take rows over");
        let mut appender = connection.appender_to_catalog_and_db(table, "temp", "main").map_err(&failed)?;
        while let Ok(batch) = receiver.recv() {
            appender.append_record_batch(batch).map_err(&failed)?;
        }
        appender.flush().map_err(failed)
    });
    let (read, written) = tokio::join!(read, write);
    read.and(written)
}
