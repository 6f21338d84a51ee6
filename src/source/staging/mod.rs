//! Staging: Arrow batches of a projection's rows become a temporary table of the run's DuckDB instance. For every source
//! that sends rows over a connection.

pub mod batch;

use duckdb::arrow::record_batch::RecordBatch;
use tokio::sync::mpsc;

use self::batch::{BatchBuilder, Physical};
use super::staged::{Ahead, Staged};
use crate::duckdb::{DuckDbConnection, ledger_error, quote_identifier};
use crate::error::{Error, Result};
use crate::model::ColumnType;

/// The table's name. It is temporary: it ends with DuckDB's connection, and never reaches the ledger's file.
const TABLE: &str = "incoming";
/// Batches that wait between reading and appending; more would only take more memory.
pub const BATCHES_WAITING: usize = 2;

/// The table of a projection's rows: key, columns, and the cursor where there is one.
pub struct StagingTable {
    columns: Vec<Physical>,
    cursor: Option<Physical>,
}

impl StagingTable {
    /// A table of these columns, not yet made.
    pub fn new(columns: Vec<Physical>, cursor: Option<Physical>) -> StagingTable {
        StagingTable { columns, cursor }
    }

    /// Creates the empty table in place of one that an earlier run left.
    pub async fn create(&self, into: &DuckDbConnection) -> Result<()> {
        let mut columns = vec!["key VARCHAR".to_owned()];
        columns.extend(self.columns.iter().enumerate().map(|(at, physical)| format!("c{at} {}", physical.sql())));
        columns.extend(self.cursor.iter().map(|physical| format!("cursor_value {}", physical.sql())));
        let table = format!("CREATE OR REPLACE TEMP TABLE {} ({})", quote_identifier(TABLE), columns.join(", "));
        let failed = ledger_error("create the staging table");
        into.call("create the staging table", move |connection| connection.execute_batch(&table).map_err(failed)).await
    }

    /// The largest cursor among the staged rows that is not above `until`, and how many rows are above it. Without
    /// `until` every value counts. Infinities, the least and the largest integer, never do.
    pub async fn largest_cursor(&self, into: &DuckDbConnection, until: Option<i64>) -> Result<(Option<i64>, u64)> {
        let (counts, is_ahead) = match until {
            Some(until) => (
                format!("cursor_value BETWEEN {} AND {until}", i64::MIN + 1),
                format!("cursor_value > {until} AND cursor_value < {}", i64::MAX),
            ),
            None => ("true".to_owned(), "false".to_owned()),
        };
        let sql = format!(
            "SELECT max(cursor_value) FILTER (WHERE {counts}), count(*) FILTER (WHERE {is_ahead}) FROM temp.main.{}",
            quote_identifier(TABLE)
        );
        into.call("find the cursor's maximum", move |connection| {
            let read = connection.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?)));
            read.map_err(ledger_error("find the cursor's maximum"))
        })
        .await
    }

    /// What the comparison may ask of the table's rows.
    pub fn staged(
        &self,
        duckdb: DuckDbConnection,
        kinds: Vec<ColumnType>,
        cursor: Option<String>,
        ahead: Option<Ahead>,
    ) -> Staged {
        let physical: Vec<String> = (0..self.columns.len()).map(|at| format!("c{at}")).collect();
        let hashed = std::iter::once("key").chain(physical.iter().map(String::as_str)).collect::<Vec<_>>().join(", ");
        let relation = quote_identifier(TABLE);
        Staged { duckdb, relation, row: Some("rowid"), hashed, physical, kinds, cursor, ahead, summary: None }
    }
}

/// Drops the table, if it is there.
pub async fn discard(from: &DuckDbConnection) -> Result<()> {
    from.call("drop the staging table", |connection| {
        connection
            .execute_batch(&format!("DROP TABLE IF EXISTS temp.main.{}", quote_identifier(TABLE)))
            .map_err(ledger_error("drop the staging table"))
    })
    .await
}

/// Takes the batches that a source reads and passes them on.
pub struct BatchSink<'a> {
    batches: mpsc::Sender<RecordBatch>,
    progress: &'a (dyn Fn(u64) + Send + Sync),
    count: u64,
}

/// The table takes no more rows; [`fill_batches`] says why.
pub struct Closed;

impl BatchSink<'_> {
    /// Passes a batch on: its columns are those of the table, in its forms.
    pub async fn send(&mut self, batch: RecordBatch) -> Result<(), Closed> {
        self.count += batch.num_rows() as u64;
        self.batches.send(batch).await.map_err(|_| Closed)?;
        (self.progress)(self.count);
        // The appender runs in this same task: a reader that never waits would not let it take the batch.
        tokio::task::yield_now().await;
        Ok(())
    }
}

/// Takes the rows that a source reads and passes them on in batches.
pub struct RowSink<'a> {
    /// The batch that is being built.
    pub batch: BatchBuilder,
    batches: BatchSink<'a>,
}

/// Why rows could not be passed on.
pub enum SinkError {
    /// The table takes no more rows; [`fill`] says why.
    Closed,
    /// The values do not make a batch.
    Malformed(String),
}

impl RowSink<'_> {
    /// Passes the batch on if it is full.
    pub async fn pass_on(&mut self) -> Result<(), SinkError> {
        if self.batch.is_full() { self.send().await } else { Ok(()) }
    }

    /// Passes the last rows on; yields how many there were in all.
    pub async fn finish(mut self) -> Result<u64, SinkError> {
        if self.batch.rows() > 0 {
            self.send().await?;
        }
        Ok(self.batches.count)
    }

    async fn send(&mut self) -> Result<(), SinkError> {
        let batch = self.batch.take().map_err(SinkError::Malformed)?;
        self.batches.send(batch).await.map_err(|Closed| SinkError::Closed)
    }
}

/// Why a table was not filled.
pub enum FillError<E> {
    /// Reading failed.
    Read(E),
    /// DuckDB could not take the rows.
    Append(Error),
}

/// Fills the table with batches: runs a reader and the appender side by side; both are done, or dropped, together.
/// `progress` gets the rows so far.
pub async fn fill_batches<'a, E, R>(
    into: &DuckDbConnection,
    progress: &'a (dyn Fn(u64) + Send + Sync),
    read: impl FnOnce(BatchSink<'a>) -> R,
) -> Result<u64, FillError<E>>
where
    R: Future<Output = Result<u64, E>>,
{
    let (batches, receiver) = mpsc::channel(BATCHES_WAITING);
    match tokio::join!(read(BatchSink { batches, progress, count: 0 }), append_all(into, receiver)) {
        (_, Err(error)) => Err(FillError::Append(error)),
        (read, Ok(())) => read.map_err(FillError::Read),
    }
}

/// The same with a reader that passes values on, row by row.
pub async fn fill<'a, E, R>(
    into: &DuckDbConnection,
    columns: impl IntoIterator<Item = (String, Physical)>,
    progress: &'a (dyn Fn(u64) + Send + Sync),
    read: impl FnOnce(RowSink<'a>) -> R,
) -> Result<u64, FillError<E>>
where
    R: Future<Output = Result<u64, E>>,
{
    let batch = BatchBuilder::new(columns);
    fill_batches(into, progress, |batches| read(RowSink { batch, batches })).await
}

/// Appends batches as they come. A failure closes the channel, which stops the reader.
async fn append_all(into: &DuckDbConnection, mut batches: mpsc::Receiver<RecordBatch>) -> Result<()> {
    while let Some(batch) = batches.recv().await {
        into.call("stage rows", move |connection| {
            let failed = ledger_error("stage rows");
            let mut appender = connection.appender_to_catalog_and_db(TABLE, "temp", "main").map_err(&failed)?;
            appender.append_record_batch(batch).map_err(&failed)?;
            appender.flush().map_err(failed)
        })
        .await?;
    }
    Ok(())
}
