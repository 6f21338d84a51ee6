//! How do a projection's rows travel from a PostgreSQL connection into DuckDB's `incoming` table?

use std::pin::pin;
use std::time::Duration;

use duckdb::arrow::record_batch::RecordBatch;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::mpsc;
use tokio_postgres::Client;
use tokio_postgres::types::{FromSql, Type};

use super::batch::{Batch, CopyDecoder};
use super::dialect::DIALECT;
use super::error::{Fragment, fragments};
use super::value::{self, Wire};
use crate::duckdb::{DuckDbConnection, ledger_error, quote_identifier};
use crate::error::{Error, Kind, Result};
use crate::mapping::Expr;
use crate::mapping::compile::Projection;
use crate::mapping::dialect::Dialect as _;
use crate::model::ColumnType;
use crate::source::{Ahead, Staged};

/// The staged table. It is temporary: it dies with DuckDB's connection, and never reaches the ledger's file.
const TABLE: &str = "incoming";
/// Batches that wait between decoding and appending; more would only hold more memory.
const BATCHES_WAITING: usize = 2;
/// Rows a cursor fetches at a time: a round trip per 10,000 rows adds a hundredth of a second each at 10 ms.
const FETCH_ROWS: u32 = 10_000;

/// Why reading stopped early.
pub(super) enum Stop {
    /// The server refused or vanished.
    Server(tokio_postgres::Error),
    /// The server sent what we cannot read.
    Garbled(String),
    /// The server sent nothing for too long.
    Stalled,
    /// DuckDB could not take the rows.
    DuckDbConnection(Error),
}

/// A projection with the types the server gave it: what is selected, and how it arrives.
pub(super) struct Plan {
    projection: Projection,
    sql: String,
    kinds: Vec<ColumnType>,
    /// Key, columns, cursor: name for messages, form on the wire.
    wires: Vec<(String, Wire)>,
    cursor: Option<Type>,
}

impl Plan {
    /// `types` are those of the key, the columns and the cursor, uncast.
    pub(super) fn new(projection: &Projection, types: Vec<Type>) -> Result<Plan> {
        let mut types = types.into_iter();
        let mut next = || types.next().expect("the whole projection has types");
        let (key, key_wire) = value::meaning(&next()).1.select_key(&DIALECT.identifier(&projection.key));
        let mut selected = vec![format!("{key} AS key")];
        let mut wires = vec![(format!("the key `{}`", projection.key), key_wire)];
        let mut kinds = Vec::new();
        for (index, expr) in projection.columns.iter().enumerate() {
            let (kind, wire) = value::meaning(&next());
            let (sql, wire) = wire.select(&DIALECT.expression(expr));
            selected.push(format!("{sql} AS c{index}"));
            kinds.push(kind);
            wires.push(match expr {
                Expr::Column(name) | Expr::Sql(name) => (format!("`{name}`"), wire),
            });
        }
        let mut cursor = None;
        if let Some(name) = &projection.cursor {
            let of = next();
            let (kind, wire) = value::meaning(&of);
            if !is_compared_here(&of) && kind != ColumnType::Text {
                return Err(Error::new(
                    Kind::Config,
                    format!("the cursor `{name}` is {}, whose largest value says nothing about change", of.name()),
                )
                .advise("use a timestamp, date or integer column, or cast it to one in the model's SQL"));
            }
            let (sql, wire) = wire.select(&DIALECT.identifier(name));
            selected.push(format!("{sql} AS cursor_value"));
            wires.push((format!("the cursor `{name}`"), wire));
            cursor = Some(of);
        }
        let sql = projection.select(DIALECT, &selected);
        Ok(Plan { projection: projection.clone(), sql, kinds, wires, cursor })
    }

    /// The statement that yields the rows.
    pub(super) fn sql(&self) -> &str {
        &self.sql
    }

    /// The parts of it that a person wrote.
    pub(super) fn fragments(&self) -> Vec<Fragment<'_>> {
        fragments(&self.projection)
    }

    /// How the server is asked for the cursor's maximum, where only its own collation can compare.
    pub(super) fn cursor_maximum(&self) -> Option<String> {
        let name = self.projection.cursor.as_ref().filter(|_| !self.cursor.as_ref().is_some_and(is_compared_here))?;
        Some(self.projection.select(DIALECT, &[format!("max({})::text", DIALECT.identifier(name))]))
    }

    /// What the table looks like, for the comparison.
    pub(super) fn staged(&self, duckdb: DuckDbConnection, cursor: Option<String>, ahead: Option<Ahead>) -> Staged {
        let physical: Vec<String> = (0..self.kinds.len()).map(|index| format!("c{index}")).collect();
        let hashed = std::iter::once("key").chain(physical.iter().map(String::as_str)).collect::<Vec<_>>().join(", ");
        Staged {
            duckdb,
            relation: quote_identifier(TABLE),
            row: Some("rowid"),
            hashed,
            physical,
            kinds: self.kinds.clone(),
            cursor,
            ahead,
        }
    }

    /// Whether the cursor is a time, so that a value of it may lie in the future.
    pub(super) fn follows_time(&self) -> bool {
        matches!(self.cursor, Some(Type::DATE | Type::TIMESTAMP | Type::TIMESTAMPTZ))
    }

    fn table(&self) -> String {
        let mut columns = vec!["key VARCHAR".to_owned()];
        for (index, (_, wire)) in self.wires[1..].iter().enumerate() {
            let name = if index < self.kinds.len() { format!("c{index}") } else { "cursor_value".to_owned() };
            columns.push(format!("{name} {}", wire.physical().sql()));
        }
        format!("CREATE OR REPLACE TEMP TABLE {} ({})", quote_identifier(TABLE), columns.join(", "))
    }
}

/// Whether we compare a cursor's values ourselves; text is compared by the server's collation, so by the server.
fn is_compared_here(of: &Type) -> bool {
    matches!(*of, Type::INT2 | Type::INT4 | Type::INT8 | Type::DATE | Type::TIMESTAMP | Type::TIMESTAMPTZ)
}

/// Creates the empty table in place of whatever an earlier stage left.
pub(super) async fn create(into: &DuckDbConnection, plan: &Plan) -> Result<()> {
    let table = plan.table();
    into.call("create the staged table", move |connection| {
        let failed = ledger_error("create the staged table");
        connection.execute_batch(&table).map_err(failed)
    })
    .await
}

/// Drops the table after a failed read.
pub(super) async fn discard(into: &DuckDbConnection) -> Result<()> {
    into.call("drop the staged table", |connection| {
        connection
            .execute_batch(&format!("DROP TABLE IF EXISTS temp.main.{}", quote_identifier(TABLE)))
            .map_err(ledger_error("drop the staged table"))
    })
    .await
}

/// The cursor's largest value among the staged rows, as a literal for the server, and how many rows are ahead of the
/// server's clock, `now` in microseconds. What lies in the future is left out, infinite dates among it: rows that change
/// until then would lie behind such a checkpoint, and none would ever lie beyond an infinite one.
pub(super) async fn maximum(
    into: &DuckDbConnection,
    plan: &Plan,
    now: Option<i64>,
) -> Result<(Option<String>, Option<Ahead>)> {
    let Some(of) = plan.cursor.clone().filter(is_compared_here) else { return Ok((None, None)) };
    let (past, ahead) = if plan.follows_time() {
        // Without the server's time only infinity is known to be in the future.
        let until = match (now, &of) {
            (Some(now), &Type::DATE) => now.div_euclid(86_400_000_000),
            (Some(now), _) => now,
            (None, _) => i64::MAX - 1,
        };
        (
            format!("cursor_value BETWEEN {} AND {until}", i64::MIN + 1),
            format!("cursor_value > {until} AND cursor_value < {}", i64::MAX),
        )
    } else {
        ("true".to_owned(), "false".to_owned())
    };
    let sql = format!(
        "SELECT max(cursor_value) FILTER (WHERE {past}), count(*) FILTER (WHERE {ahead}) FROM temp.main.{}",
        quote_identifier(TABLE)
    );
    let (largest, rows): (Option<i64>, u64) = into
        .call("find the cursor's maximum", move |connection| {
            let read = connection.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?)));
            read.map_err(ledger_error("find the cursor's maximum"))
        })
        .await?;
    let clock = match of {
        Type::TIMESTAMPTZ => "the server's clock",
        _ => "the server's clock in UTC (a time without a zone is UTC)",
    };
    let ahead = (rows > 0).then_some(Ahead { rows, clock });
    Ok((largest.map(|largest| value::literal(&of, largest)), ahead))
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

/// Collects rows into batches and passes them on.
struct Pump<'a> {
    batch: Batch,
    batches: mpsc::Sender<RecordBatch>,
    rows: &'a (dyn Fn(u64) + Send + Sync),
    count: u64,
}

/// Reading ended early; `None` when it was for the appender's sake.
type Early = Option<Stop>;

fn garbled(what: String) -> Early {
    Some(Stop::Garbled(what))
}

fn server(error: tokio_postgres::Error) -> Early {
    Some(Stop::Server(error))
}

/// What the server sends next, unless it is nothing for so long. What has come already costs no timer.
async fn sent<T>(limit: Duration, next: impl Future<Output = T>) -> Result<T, Early> {
    let mut next = pin!(next);
    match next.as_mut().now_or_never() {
        Some(come) => Ok(come),
        None => tokio::time::timeout(limit, next).await.map_err(|_| Some(Stop::Stalled)),
    }
}

impl Pump<'_> {
    /// Passes the batch on if it is full, or if it is the last.
    async fn pass_on(&mut self, last: bool) -> Result<(), Early> {
        if !(self.batch.is_full() || last && self.batch.rows() > 0) {
            return Ok(());
        }
        self.count += self.batch.rows() as u64;
        let batch = self.batch.take().map_err(garbled)?;
        self.batches.send(batch).await.map_err(|_| None)?;
        (self.rows)(self.count);
        // The appender runs in this same task: a reader that never waits would not let it take the batch.
        tokio::task::yield_now().await;
        Ok(())
    }
}

/// Runs a reader and the appender side by side; both are done, or dropped, together.
async fn both<'a, R>(
    plan: &Plan,
    into: &DuckDbConnection,
    rows: &'a (dyn Fn(u64) + Send + Sync),
    read: impl FnOnce(Pump<'a>) -> R,
) -> Result<u64, Stop>
where
    R: Future<Output = Result<u64, Early>>,
{
    let (sender, receiver) = mpsc::channel(BATCHES_WAITING);
    let pump = Pump { batch: Batch::new(plan.wires.iter().cloned()), batches: sender, rows, count: 0 };
    let (read, appended) = tokio::join!(read(pump), append_all(into, receiver));
    match (read, appended) {
        (_, Err(error)) => Err(Stop::DuckDbConnection(error)),
        (Err(Some(stop)), Ok(())) => Err(stop),
        (Err(None), Ok(())) => Err(Stop::Garbled("the rows were not taken".to_owned())),
        (Ok(count), Ok(())) => Ok(count),
    }
}

/// Reads all rows by a binary COPY, which the driver can only begin with a named statement. Stops when the server sends
/// nothing for `limit`.
pub(super) async fn by_copy(
    client: &Client,
    plan: &Plan,
    limit: Duration,
    into: &DuckDbConnection,
    rows: &(dyn Fn(u64) + Send + Sync),
) -> Result<u64, Stop> {
    let sql = format!("COPY ({}) TO STDOUT (FORMAT BINARY)", plan.sql);
    both(plan, into, rows, |mut pump| async move {
        let mut stream = pin!(sent(limit, client.copy_out(&sql)).await?.map_err(server)?);
        let mut decoder = CopyDecoder::default();
        while let Some(chunk) = sent(limit, stream.next()).await? {
            decoder.feed(&chunk.map_err(server)?, &mut pump.batch).map_err(garbled)?;
            pump.pass_on(false).await?;
        }
        decoder.finish().map_err(garbled)?;
        pump.pass_on(true).await?;
        Ok(pump.count)
    })
    .await
}

/// Reads all rows of one unnamed statement as they come. Stops when the server sends nothing for `limit`.
pub(super) async fn by_query(
    client: &Client,
    plan: &Plan,
    limit: Duration,
    into: &DuckDbConnection,
    rows: &(dyn Fn(u64) + Send + Sync),
) -> Result<u64, Stop> {
    both(plan, into, rows, |mut pump| async move {
        pump.take_all(client, &plan.sql, limit).await?;
        pump.pass_on(true).await?;
        Ok(pump.count)
    })
    .await
}

/// Reads all rows through a cursor. Stops when the server sends nothing for `limit`.
pub(super) async fn by_cursor(
    client: &Client,
    plan: &Plan,
    limit: Duration,
    into: &DuckDbConnection,
    rows: &(dyn Fn(u64) + Send + Sync),
) -> Result<u64, Stop> {
    both(plan, into, rows, |mut pump| async move {
        let declare = format!("DECLARE groupcast_rows CURSOR FOR {}", plan.sql);
        sent(limit, client.batch_execute(&declare)).await?.map_err(server)?;
        let fetch = format!("FETCH FORWARD {FETCH_ROWS} FROM groupcast_rows");
        while pump.take_all(client, &fetch, limit).await? {}
        pump.pass_on(true).await?;
        Ok(pump.count)
    })
    .await
}

impl Pump<'_> {
    /// Takes the rows of an unnamed statement; whether there were any.
    async fn take_all(&mut self, client: &Client, sql: &str, limit: Duration) -> Result<bool, Early> {
        let none: [(i32, Type); 0] = [];
        let mut answered = pin!(sent(limit, client.query_typed_raw(sql, none)).await?.map_err(server)?);
        let mut any = false;
        while let Some(row) = sent(limit, answered.next()).await? {
            let row = row.map_err(server)?;
            any = true;
            if row.len() != self.batch.width() {
                return Err(garbled(format!("a row of {} columns", row.len())));
            }
            for column in 0..row.len() {
                let raw: Option<Raw<'_>> = row.try_get(column).map_err(server)?;
                self.batch.append(column, raw.map(|raw| raw.0)).map_err(garbled)?;
            }
            self.batch.end_row();
            self.pass_on(false).await?;
        }
        Ok(any)
    }
}

/// A value's bytes as they came.
struct Raw<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Raw<'a>, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Raw(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}
