//! Reading a projection's rows from a PostgreSQL connection into the staging table.

use std::pin::pin;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use tokio_postgres::Client;
use tokio_postgres::types::{FromSql, Type};

use super::batch::{self, CopyDecoder};
use super::dialect::DIALECT;
use super::error::{Fragment, fragments};
use super::literal::literal;
use super::summary::{self, RowHashes};
use super::value::{self, Wire};
use crate::duckdb::DuckDbConnection;
use crate::error::{Error, Kind, Result};
use crate::mapping::Expr;
use crate::mapping::compile::Projection;
use crate::mapping::dialect::Dialect as _;
use crate::model::ColumnType;
use crate::source::mirror::{FINGERPRINT_MAX, MirrorLines, ModelRows};
use crate::source::staged::Ahead;
use crate::source::staging::{self, FillError, RowSink, SinkError, StagingTable};

/// Rows a cursor fetches at a time: a round trip per 10,000 rows adds a hundredth of a second each at 10 ms.
const FETCH_ROWS: u32 = 10_000;

/// Why reading stopped early.
pub(super) enum Stop {
    /// The server refused or vanished.
    Server(tokio_postgres::Error),
    /// The server sent what cannot be read.
    Malformed(String),
    /// The server sent nothing for too long.
    Stalled,
    /// DuckDB could not take the rows.
    Staging(Error),
}

impl std::convert::From<SinkError> for Stop {
    fn from(error: SinkError) -> Stop {
        match error {
            SinkError::Malformed(what) => Stop::Malformed(what),
            // Where the table takes no more rows, its own error comes first.
            SinkError::Closed => Stop::Malformed("the rows were not taken".to_owned()),
        }
    }
}

/// A projection with the types the server gave it: what is selected, and how it arrives.
pub(super) struct Plan {
    projection: Projection,
    sql: String,
    kinds: Vec<ColumnType>,
    /// Key, columns, cursor: how they are called in messages.
    names: Vec<String>,
    /// Their forms on the wire, in the same order.
    wires: Vec<Wire>,
    cursor: Option<Type>,
    /// SQL for the key and the columns.
    values: Vec<String>,
    /// SQL for a row's hash.
    hash: String,
    /// Whether the hash is selected, behind everything else.
    is_summed: bool,
}

impl Plan {
    /// `types` are those of the key, the columns and the cursor, uncast. `is_summed`: every row comes with its hash.
    pub(super) fn new(projection: &Projection, types: Vec<Type>, is_summed: bool) -> Result<Plan> {
        let mut types = types.into_iter();
        let mut next = || types.next().expect("the whole projection has types");
        let (key, key_wire) = value::meaning(&next()).1.select_key(&DIALECT.identifier(&projection.key));
        let mut values = vec![key];
        let mut names = vec![format!("the key `{}`", projection.key)];
        let mut wires = vec![key_wire];
        let mut kinds = Vec::new();
        for expr in &projection.columns {
            let (kind, wire) = value::meaning(&next());
            let (sql, wire) = wire.select(&DIALECT.expression(expr));
            values.push(sql);
            kinds.push(kind);
            let (Expr::Column(name) | Expr::Sql(name)) = expr;
            names.push(format!("`{name}`"));
            wires.push(wire);
        }
        let hash = summary::row_hash(values.iter().map(String::as_str).zip(&wires));
        let names_of = |at: usize| if at == 0 { "key".to_owned() } else { format!("c{}", at - 1) };
        let mut selected: Vec<String> =
            values.iter().enumerate().map(|(at, sql)| format!("{sql} AS {}", names_of(at))).collect();
        let mut cursor = None;
        if let Some(name) = &projection.cursor {
            let of = next();
            let (kind, wire) = value::meaning(&of);
            if !is_compared_here(&of) && kind != ColumnType::Text {
                return Err(Error::new(
                    Kind::Config,
                    format!("the cursor `{name}` is {}, whose largest value does not show what changed", of.name()),
                )
                .advise("use a timestamp, date or integer column, or cast it to one in the model's SQL"));
            }
            let (sql, wire) = wire.select(&DIALECT.identifier(name));
            selected.push(format!("{sql} AS cursor_value"));
            names.push(format!("the cursor `{name}`"));
            wires.push(wire);
            cursor = Some(of);
        }
        if is_summed {
            selected.push(format!("{hash} AS hash"));
        }
        let sql = projection.select(DIALECT, &selected);
        Ok(Plan { projection: projection.clone(), sql, kinds, names, wires, cursor, values, hash, is_summed })
    }

    /// The statement that sums the rows up.
    pub(super) fn summary_statement(&self) -> String {
        RowHashes::statement(&self.projection.select(DIALECT, &[format!("{} AS hash", self.hash)]))
    }

    /// The sums as a text that no other rows have.
    pub(super) fn summary(&self, hashes: &RowHashes) -> String {
        hashes.text(&format!("{}\n{:?}\n{:?}", self.summary_statement(), self.kinds, self.wires))
    }

    /// The rows as a mirror's statements take them.
    pub(super) fn model_rows(&self) -> ModelRows {
        // One collation, by bytes, on both sides of the join.
        let key = format!("(({})::text) COLLATE \"C\" AS k", self.values[0]);
        let cells = self.values[1..].iter().enumerate().map(|(at, sql)| format!("{sql} AS c{at}"));
        let fingerprint = format!("({} & {FINGERPRINT_MAX}) AS fp", self.hash);
        let keys = self.projection.select(DIALECT, &[key.clone(), fingerprint.clone()]);
        let selected: Vec<String> = std::iter::once(key).chain(cells).chain([fingerprint]).collect();
        ModelRows { select: self.projection.select(DIALECT, &selected), keys, cells: self.kinds.len() }
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

    /// The table that holds the rows.
    pub(super) fn table(&self) -> StagingTable {
        let mut physical = self.wires[1..].iter().map(Wire::physical);
        let columns = physical.by_ref().take(self.kinds.len()).collect();
        StagingTable::new(columns, physical.next())
    }

    /// What the columns mean.
    pub(super) fn kinds(&self) -> &[ColumnType] {
        &self.kinds
    }

    /// Whether the cursor is a time, so that a value of it may lie in the future.
    pub(super) fn follows_time(&self) -> bool {
        matches!(self.cursor, Some(Type::DATE | Type::TIMESTAMP | Type::TIMESTAMPTZ))
    }
}

/// Whether we compare a cursor's values ourselves; text is compared by the server's collation, so by the server.
fn is_compared_here(of: &Type) -> bool {
    matches!(*of, Type::INT2 | Type::INT4 | Type::INT8 | Type::DATE | Type::TIMESTAMP | Type::TIMESTAMPTZ)
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
    // Without the server's time only infinity is known to be in the future.
    let until = plan.follows_time().then(|| match (now, &of) {
        (Some(now), &Type::DATE) => now.div_euclid(86_400_000_000),
        (Some(now), _) => now,
        (None, _) => i64::MAX - 1,
    });
    let (largest, rows) = plan.table().largest_cursor(into, until).await?;
    let clock = match of {
        Type::TIMESTAMPTZ => "the server's clock",
        _ => "the server's clock in UTC (a time without a zone is UTC)",
    };
    let ahead = (rows > 0).then_some(Ahead { rows, clock });
    Ok((largest.map(|largest| literal(&of, largest)), ahead))
}

/// What the server sends next, unless it is nothing for so long. What has come already costs no timer.
async fn sent<T>(limit: Duration, next: impl Future<Output = T>) -> Result<T, Stop> {
    let mut next = pin!(next);
    match next.as_mut().now_or_never() {
        Some(come) => Ok(come),
        None => tokio::time::timeout(limit, next).await.map_err(|_| Stop::Stalled),
    }
}

/// Fills the table with what a reader passes on.
async fn fill<'a, R>(
    plan: &Plan,
    into: &DuckDbConnection,
    rows: &'a (dyn Fn(u64) + Send + Sync),
    read: impl FnOnce(RowSink<'a>) -> R,
) -> Result<u64, Stop>
where
    R: Future<Output = Result<u64, Stop>>,
{
    let columns = plan.names.iter().cloned().zip(plan.wires.iter().map(Wire::physical));
    staging::fill(into, columns, rows, read).await.map_err(|error| match error {
        FillError::Append(error) => Stop::Staging(error),
        FillError::Read(stop) => stop,
    })
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
    fill(plan, into, rows, |mut sink| async move {
        let mut stream = pin!(sent(limit, client.copy_out(&sql)).await?.map_err(Stop::Server)?);
        let mut decoder = CopyDecoder::new(&plan.wires);
        while let Some(chunk) = sent(limit, stream.next()).await? {
            decoder.feed(&chunk.map_err(Stop::Server)?, &mut sink.batch).map_err(Stop::Malformed)?;
            sink.pass_on().await?;
        }
        decoder.finish().map_err(Stop::Malformed)?;
        Ok(sink.finish().await?)
    })
    .await
}

/// Reads all rows of one unnamed statement as they come, and adds their hashes to `hashes` if they have any. Stops when the
/// server sends nothing for `limit`.
pub(super) async fn by_query(
    client: &Client,
    plan: &Plan,
    limit: Duration,
    into: &DuckDbConnection,
    rows: &(dyn Fn(u64) + Send + Sync),
    hashes: &mut RowHashes,
) -> Result<u64, Stop> {
    fill(plan, into, rows, |mut sink| async move {
        take_all(&mut sink, client, plan, (&plan.sql, limit), hashes).await?;
        Ok(sink.finish().await?)
    })
    .await
}

/// The same through a cursor.
pub(super) async fn by_cursor(
    client: &Client,
    plan: &Plan,
    limit: Duration,
    into: &DuckDbConnection,
    rows: &(dyn Fn(u64) + Send + Sync),
    hashes: &mut RowHashes,
) -> Result<u64, Stop> {
    fill(plan, into, rows, |mut sink| async move {
        let declare = format!("DECLARE groupcast_rows CURSOR FOR {}", plan.sql);
        sent(limit, client.batch_execute(&declare)).await?.map_err(Stop::Server)?;
        let fetch = format!("FETCH FORWARD {FETCH_ROWS} FROM groupcast_rows");
        while take_all(&mut sink, client, plan, (&fetch, limit), hashes).await? {}
        Ok(sink.finish().await?)
    })
    .await
}

/// Reads the lines of a comparison with a mirror, `sql`, and passes on the rows among them.
pub(super) async fn by_mirror(
    client: &Client,
    plan: &Plan,
    (sql, limit): (&str, Duration),
    into: &DuckDbConnection,
    rows: &(dyn Fn(u64) + Send + Sync),
    lines: &mut MirrorLines,
) -> Result<u64, Stop> {
    fill(plan, into, rows, |mut sink| async move {
        let none: [(i32, Type); 0] = [];
        let mut rows = pin!(sent(limit, client.query_typed_raw(sql, none)).await?.map_err(Stop::Server)?);
        let cells = plan.kinds.len();
        while let Some(row) = sent(limit, rows.next()).await? {
            let row = row.map_err(Stop::Server)?;
            if row.len() != cells + 4 {
                return Err(Stop::Malformed(format!("a line of {} columns", row.len())));
            }
            let texts: (Option<&str>, Option<&str>) =
                (row.try_get(0).map_err(Stop::Server)?, row.try_get(cells + 2).map_err(Stop::Server)?);
            let numbers: (Option<i64>, Option<i64>) =
                (row.try_get(cells + 1).map_err(Stop::Server)?, row.try_get(cells + 3).map_err(Stop::Server)?);
            if !lines.push(texts.0, numbers.0, texts.1, numbers.1).map_err(Stop::Malformed)? {
                continue;
            }
            let mut append = |column: usize, wire: &Wire, raw: Option<Raw<'_>>| {
                batch::append(&mut sink.batch, column, wire, raw.map(|raw| raw.0)).map_err(Stop::Malformed)
            };
            append(0, &Wire::Text, row.try_get(0).map_err(Stop::Server)?)?;
            for (column, wire) in plan.wires.iter().enumerate().skip(1).take(cells) {
                append(column, wire, row.try_get(column).map_err(Stop::Server)?)?;
            }
            sink.batch.end_row();
            sink.pass_on().await?;
        }
        Ok(sink.finish().await?)
    })
    .await
}

/// Passes on the rows of an unnamed statement; whether there were any.
async fn take_all(
    sink: &mut RowSink<'_>,
    client: &Client,
    plan: &Plan,
    (sql, limit): (&str, Duration),
    hashes: &mut RowHashes,
) -> Result<bool, Stop> {
    let none: [(i32, Type); 0] = [];
    let mut rows = pin!(sent(limit, client.query_typed_raw(sql, none)).await?.map_err(Stop::Server)?);
    let mut any = false;
    while let Some(row) = sent(limit, rows.next()).await? {
        let row = row.map_err(Stop::Server)?;
        any = true;
        let width = plan.wires.len() + usize::from(plan.is_summed);
        if row.len() != width {
            return Err(Stop::Malformed(format!("a row of {} columns", row.len())));
        }
        for (column, wire) in plan.wires.iter().enumerate() {
            let raw: Option<Raw<'_>> = row.try_get(column).map_err(Stop::Server)?;
            batch::append(&mut sink.batch, column, wire, raw.map(|raw| raw.0)).map_err(Stop::Malformed)?;
        }
        if plan.is_summed {
            let raw: Option<Raw<'_>> = row.try_get(width - 1).map_err(Stop::Server)?;
            hashes.add(raw.map(|raw| raw.0)).ok_or_else(|| Stop::Malformed("a row without its hash".to_owned()))?;
        }
        sink.batch.end_row();
        sink.pass_on().await?;
    }
    Ok(any)
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
