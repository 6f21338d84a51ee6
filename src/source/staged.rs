//! What may be asked of a run's rows? They stand in a DuckDB instance of their own ([`super::instance`]), and little of
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

use crate::duck::{Duck, ledger_error, quote_literal};
use crate::error::Result;
use crate::model::ColumnType;

use super::duckdb::failed_statement;

/// Parts of all keys. A power of two; more cost more to group than they save to join (measured in `docs`: 65,536 double
/// the cost of a quiet run).
pub const BUCKETS: usize = 4096;
/// Batches that wait between two instances; each has 2,048 rows.
const BATCHES_WAITING: usize = 16;
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

/// What stands for all rows of a bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bucket {
    /// How many rows.
    pub rows: u64,
    /// The sum of the rows' hashes.
    pub sum: i128,
    /// Their exclusive or.
    pub xor: u64,
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

/// Rows in a DuckDB instance of their own.
#[derive(Clone)]
pub struct Staged {
    /// The instance.
    pub duck: Duck,
    /// What stands after FROM, quoted. It has a text column `key` and columns `c0`, `c1`, … in the projection's order.
    pub relation: String,
    /// How the comparison hashes a row: comma-separated expressions over `relation` whose equality implies equal cells.
    pub hashed: String,
    /// How each column is selected in its physical form (`model::cell`'s table), in the projection's order.
    pub physical: Vec<String>,
    /// What the columns mean.
    pub kinds: Vec<ColumnType>,
    /// The largest cursor value among the rows, as text in the source's own notation; `None` without a cursor or rows.
    pub cursor: Option<String>,
}

impl std::fmt::Debug for Staged {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Staged { duck: _, relation, hashed, physical, kinds, cursor } = self;
        write!(out, "Staged({relation:?}, {hashed:?}, {physical:?}, {kinds:?}, {cursor:?})")
    }
}

/// Which rows' cells are kept.
pub enum Wanted<'a> {
    /// Those of all rows with a key, in positions of their own.
    All,
    /// Those of the keys that a statement over another instance yields, in positions of their own.
    Keys {
        /// The other instance.
        from: &'a Duck,
        /// Yields `key`.
        sql: String,
    },
    /// Those of the keys that a statement over another instance yields, in the positions that it gives them.
    Positions {
        /// The other instance.
        from: &'a Duck,
        /// Yields `n` and `key`.
        sql: String,
    },
}

/// Cells that were kept, by position.
#[derive(Clone)]
pub struct KeptCells {
    duck: Duck,
    /// The column that holds a row's position: one of its own, or the table's row id.
    position: &'static str,
    /// Bytes of the largest row.
    pub row_bytes_max: u64,
}

const KEYED: &str = "key IS NOT NULL AND key <> ''";

impl Staged {
    fn fingerprint(&self, salt: &str) -> String {
        format!("hash({}, {})", quote_literal(salt), self.hashed)
    }

    /// Counts and sums of all rows, in one pass.
    pub async fn sums(&self, salt: &str) -> Result<Sums> {
        let sql = format!(
            "SELECT CASE WHEN key IS NULL THEN {null} WHEN key = '' THEN {empty} ELSE {bucket} END AS bucket, count(*), \
             sum(row_hash)::HUGEINT, bit_xor(row_hash) \
             FROM (SELECT key, {row_hash} AS row_hash FROM (SELECT key, {fingerprint} AS fingerprint FROM {relation})) \
             GROUP BY 1",
            null = BUCKETS,
            empty = BUCKETS + 1,
            bucket = bucket("key"),
            row_hash = row_hash("key", "fingerprint"),
            fingerprint = self.fingerprint(salt),
            relation = self.relation,
        );
        self.duck
            .call("read the model", move |connection| {
                let mut buckets =
                    read_buckets(connection, &sql).map_err(|error| failed_statement("read the model", &error))?;
                buckets.resize(BUCKETS + 2, Bucket::default());
                let (empty_keys, null_keys) = (buckets[BUCKETS + 1].rows, buckets[BUCKETS].rows);
                let rows = buckets.iter().map(|bucket| bucket.rows).sum();
                buckets.truncate(BUCKETS);
                Ok(Sums { rows, null_keys, empty_keys, buckets })
            })
            .await
    }

    /// Writes key and fingerprint of every row with a key into the temporary table `table` of another instance; only of
    /// these buckets, where they are given.
    pub async fn copy_fingerprints(
        &self,
        salt: &str,
        buckets: Option<&[u16]>,
        to: &Duck,
        table: &'static str,
    ) -> Result<()> {
        let only = buckets
            .map_or_else(String::new, |_| format!(" AND {} IN (SELECT bucket FROM temp.differing)", bucket("key")));
        let setup = buckets.map(differing);
        let sql = format!(
            "SELECT key::VARCHAR AS key, {} AS fingerprint FROM {} WHERE {KEYED}{only}",
            self.fingerprint(salt),
            self.relation
        );
        copy(&self.duck, setup, sql, to, table).await
    }

    /// Keeps the cells of the candidates in physical form, so that the source can be let go of. `wanted` says which.
    pub async fn keep_cells(&self, wanted: Wanted<'_>) -> Result<KeptCells> {
        let (position, join, filter) = match &wanted {
            Wanted::All => ("NULL::UBIGINT", "", " WHERE model.key IS NOT NULL AND model.key <> ''"),
            Wanted::Keys { .. } => ("NULL::UBIGINT", " JOIN temp.wanted ON wanted.key = model.key", ""),
            Wanted::Positions { .. } => ("wanted.n", " JOIN temp.wanted ON wanted.key = model.key", ""),
        };
        match &wanted {
            Wanted::All => {}
            Wanted::Keys { from, sql } => {
                self.statement("CREATE OR REPLACE TEMP TABLE wanted (key VARCHAR)".to_owned()).await?;
                copy(from, None, sql.clone(), &self.duck, "wanted").await?;
            }
            Wanted::Positions { from, sql } => {
                self.statement("CREATE OR REPLACE TEMP TABLE wanted (n UBIGINT, key VARCHAR)".to_owned()).await?;
                copy(from, None, sql.clone(), &self.duck, "wanted").await?;
            }
        }
        let (mut cells, mut bytes, mut kept) = (String::new(), String::from("0"), String::new());
        for (index, (physical, is_text)) in self.physical.iter().zip(self.texts().await?).enumerate() {
            write!(cells, ", {physical} AS p{index}").expect("text takes text");
            write!(kept, ", p{index}").expect("text takes text");
            if is_text {
                write!(bytes, " + coalesce(strlen(p{index}), 0)").expect("text takes text");
            }
        }
        // The cells are formed above the join, so that only those of candidates are.
        self.statement(format!(
            "CREATE OR REPLACE TEMP TABLE cells AS SELECT n, key, ({bytes})::UBIGINT AS bytes{kept} \
             FROM (SELECT {position} AS n, model.key::VARCHAR AS key{cells} FROM {} AS model{join}{filter})",
            self.relation
        ))
        .await?;
        let row_bytes_max = self
            .duck
            .call("read the model", |connection| {
                let sql = "SELECT coalesce(max(bytes), 0)::UBIGINT FROM temp.cells";
                connection.query_row(sql, [], |row| row.get(0)).map_err(ledger_error("keep cells"))
            })
            .await?;
        let position = if matches!(wanted, Wanted::Positions { .. }) { "n" } else { "rowid" };
        Ok(KeptCells { duck: self.duck.clone(), position, row_bytes_max })
    }

    async fn statement(&self, sql: String) -> Result<()> {
        self.duck
            .call("read the model", move |connection| {
                connection.execute_batch(&sql).map_err(|error| failed_statement("read the model", &error))
            })
            .await
    }

    /// Which of the cells are text, by the engine's own word.
    async fn texts(&self) -> Result<Vec<bool>> {
        if self.physical.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!("DESCRIBE SELECT {} FROM {} AS model", self.physical.join(", "), self.relation);
        self.duck
            .call("describe the model", move |connection| {
                let read = || -> duckdb::Result<Vec<bool>> {
                    let mut statement = connection.prepare(&sql)?;
                    let types = statement.query_map([], |row| Ok(row.get::<_, String>(1)? == "VARCHAR"))?;
                    types.collect()
                };
                read().map_err(|error| failed_statement("describe the model", &error))
            })
            .await
    }
}

impl KeptCells {
    /// Writes position and key of all cells into the temporary table `table` of another instance.
    pub async fn copy_positions(&self, to: &Duck, table: &'static str) -> Result<()> {
        let sql = format!("SELECT {}::UBIGINT AS n, key FROM temp.cells", self.position);
        copy(&self.duck, None, sql, to, table).await
    }

    /// Bytes of the rows at the positions from `from` to below `to`, by position.
    pub async fn sizes(&self, from: u64, to: u64) -> Result<Vec<(u64, u64)>> {
        let sql = format!("SELECT {0}::UBIGINT, bytes FROM temp.cells WHERE {0} >= ? AND {0} < ?", self.position);
        self.duck
            .call("read cells", move |connection| {
                let read = || -> duckdb::Result<Vec<(u64, u64)>> {
                    let mut statement = connection.prepare(&sql)?;
                    statement.query_map(params![from, to], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
                };
                read().map_err(ledger_error("read cells"))
            })
            .await
    }

    /// The rows at the positions from `from` to below `to`, in no order: position, key, cells.
    pub async fn rows(&self, from: u64, to: u64) -> Result<Vec<RecordBatch>> {
        let sql = format!(
            "SELECT {0}::UBIGINT AS n, * EXCLUDE (n, bytes) FROM temp.cells WHERE {0} >= ? AND {0} < ?",
            self.position
        );
        self.duck
            .call("read cells", move |connection| {
                let mut page = connection.prepare(&sql).map_err(ledger_error("read cells"))?;
                let batches = page.query_arrow(params![from, to]).map_err(ledger_error("read cells"))?;
                Ok(batches.collect())
            })
            .await
    }

    /// Gives the room of the cells back.
    pub async fn drop_all(&self) -> Result<()> {
        self.duck
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
async fn copy(from: &Duck, setup: Option<String>, sql: String, to: &Duck, table: &'static str) -> Result<()> {
    let (sender, receiver) = sync_channel::<RecordBatch>(BATCHES_WAITING);
    let read = from.call("read the model", move |connection| {
        let failed = |error: duckdb::Error| failed_statement("read the model", &error);
        if let Some(setup) = setup {
            connection.execute_batch(&setup).map_err(failed)?;
        }
        let mut statement = connection.prepare(&sql).map_err(failed)?;
        for batch in statement.stream_arrow([]).map_err(failed)? {
            // Whoever takes them has failed and says why.
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
