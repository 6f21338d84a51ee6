//! Staging from DuckDB: rows that are compared in place, or copied once into a temporary table.

use std::path::Path;

use duckdb::Connection;
use sha2::{Digest, Sha256};

use super::attached::{self, Attached, Database};
use super::dialect::DIALECT;
use super::order;
use super::relation::Resolved;
use super::textfile::{self, TextTable};
use super::type_text::DuckType;
use crate::duckdb::{ConnectionSlot, DuckDbConnection, quote_identifier, quote_literal};
use crate::error::Result;
use crate::mapping::Expr;
use crate::mapping::compile::Projection;
use crate::mapping::dialect::Dialect as _;
use crate::source::staged::{Ahead, Staged};
use crate::source::statement_error::statement_error;

/// The temporary table of rows that are not compared in place.
const INCOMING: &str = "temp.main.\"incoming\"";

/// Drops the temporary table, detaches the file and passes the turn on. What fails stays held, for the next attempt.
pub(super) fn let_go(held: &mut ConnectionSlot) -> Result<()> {
    held.reacquire();
    let connection = &held.connection;
    connection
        .execute_batch(&format!("DROP TABLE IF EXISTS {INCOMING}"))
        .map_err(|error| statement_error("drop the staged rows", &error))?;
    drop_text(connection)?;
    let attached =
        "SELECT database_name FROM duckdb_databases() WHERE NOT internal AND database_name <> current_database()";
    let attached = attached::texts(connection, attached);
    for alias in attached.map_err(|error| statement_error("detach the source's file", &error))? {
        attached::detach(connection, &alias)?;
    }
    held.until_closed = None;
    Ok(())
}

/// Drops the rows of a text file, if there are any.
fn drop_text(connection: &Connection) -> Result<()> {
    connection
        .execute_batch(&format!("DROP TABLE IF EXISTS {}", textfile::table()))
        .map_err(|error| statement_error("drop the file's rows", &error))
}

/// Attaches, reads, and says where the rows are; also how many, and whether they depend on the files behind them alone.
pub(super) fn stage(
    held: &mut ConnectionSlot,
    database: &Database,
    folder: &Path,
    text: Option<TextTable>,
    projection: &Projection,
    duckdb: DuckDbConnection,
) -> Result<(Staged, u64, bool)> {
    let connection = &held.connection;
    let attached = Attached::open_for(connection, database, folder, &projection.from)?;
    let from = match text {
        Some(text) => Resolved::of_text(text.load(connection, projection)?),
        None => Resolved::new(connection, &attached, &projection.from)?,
    };
    let of_files = from.depends_on_files_alone(connection, &attached, projection);
    let types = attached.inside(connection, |connection| from.types(connection, projection))?;
    let parsed: Vec<DuckType> = types.columns.iter().map(|declared| DuckType::parse(declared)).collect();
    let cursor = projection.cursor.as_ref().map(|cursor| (quote_identifier(cursor), types.cursor(cursor)));
    let mut staged = Staged {
        duckdb,
        relation: String::new(),
        row: None,
        hashed: String::new(),
        physical: Vec::new(),
        kinds: projection
            .columns
            .iter()
            .zip(&parsed)
            .map(|(expr, parsed)| from.kind(expr).unwrap_or_else(|| parsed.meaning()))
            .collect(),
        cursor: None,
        ahead: None,
        summary: None,
    };
    // Equal bytes of another type are another value: 1.50 and 15.0 are both 150, an enum's first label is always 0.
    let salt = quote_literal(&digest(&types.columns, &staged.kinds));
    let condition = from.condition(projection);
    // A key whose column ignores case must not do so in the comparison.
    let key = format!("CAST({} AS VARCHAR) COLLATE posix AS \"key\"", from.key(projection));
    let mut selected = vec![key];
    selected.extend(projection.columns.iter().enumerate().map(|(n, expr)| format!("{} AS c{n}", from.select(expr))));

    if from.can_be_read_in_place(connection, &attached, projection) {
        if let Some(number) = from.row_number(&types) {
            selected.push(format!("{number} AS {ROW}"));
            staged.row = Some(ROW);
        }
        staged.relation = format!("(SELECT {} FROM {}{condition})", selected.join(", "), from.sql);
        let hashed = parsed
            .iter()
            .enumerate()
            .map(|(n, kind)| if kind.hashes_natively() { format!("c{n}") } else { kind.physical(&format!("c{n}")) });
        staged.hashed = [salt, "\"key\"".to_owned()].into_iter().chain(hashed).collect::<Vec<_>>().join(", ");
        staged.physical = parsed.iter().enumerate().map(|(n, kind)| kind.physical(&format!("c{n}"))).collect();
        let largest = cursor.map_or(NO_CURSOR.to_owned(), |(column, kind)| reached(&kind, &column));
        // Expressions that fail on some row must fail here, as the source's error, not within the comparison.
        let expressions =
            projection.columns.iter().filter(|expr| matches!(expr, Expr::Sql(_))).map(|expr| DIALECT.expression(expr));
        let tried = ["NULL".to_owned()].into_iter().chain(expressions).collect::<Vec<_>>().join(", ");
        let sql = format!("{largest}, max(hash({tried})) FROM {}{condition}", from.sql);
        let count;
        (count, staged.cursor, staged.ahead) = count_and_largest(connection, &sql)?;
        return Ok((staged, count, of_files));
    }

    let mut physical = vec!["\"key\"".to_owned()];
    physical.extend(parsed.iter().enumerate().map(|(n, kind)| format!("{} AS c{n}", kind.physical(&format!("c{n}")))));
    if let Some((column, _)) = &cursor {
        selected.push(format!("{column} AS \"cursor\""));
        physical.push("\"cursor\"".to_owned());
    }
    let rows = format!("SELECT {} FROM {}{condition}", selected.join(", "), from.sql);
    let rows = projection.limit.map_or(rows.clone(), |limit| DIALECT.first_rows(&rows, limit));
    let select = format!("SELECT {} FROM ({rows})", physical.join(", "));
    let statement = format!("CREATE OR REPLACE TEMP TABLE {INCOMING} AS {select}");
    attached.inside(connection, |connection| {
        let failed = |error: duckdb::Error| statement_error("read the model", &error);
        let in_order = order::matters(connection, &select);
        let threads: i64 =
            connection.query_row("SELECT current_setting('threads')", [], |row| row.get(0)).map_err(failed)?;
        if in_order {
            connection.execute_batch("SET threads = 1; SET preserve_insertion_order = true").map_err(failed)?;
        }
        let read = connection.execute_batch(&statement).map_err(failed);
        if in_order {
            let reset = format!("SET threads = {threads}; SET preserve_insertion_order = false");
            connection.execute_batch(&reset).map_err(failed)?;
        }
        read
    })?;
    drop_text(connection)?;
    // The rows are ours now: writers need not wait for the comparison.
    if let Some(turn) = held.until_closed.as_mut() {
        turn.reacquire();
    }
    attached::detach(connection, attached.alias())?;
    held.until_closed = None;
    let names: Vec<String> = (0..parsed.len()).map(|n| format!("c{n}")).collect();
    staged.hashed =
        [salt, "\"key\"".to_owned()].into_iter().chain(names.iter().cloned()).collect::<Vec<_>>().join(", ");
    staged.physical = names;
    let largest = cursor.map_or(NO_CURSOR.to_owned(), |(_, kind)| reached(&kind, "\"cursor\""));
    let count;
    (count, staged.cursor, staged.ahead) = count_and_largest(connection, &format!("{largest} FROM {INCOMING}"))?;
    (staged.relation, staged.row) = (INCOMING.to_owned(), Some("rowid"));
    Ok((staged, count, of_files))
}

/// The number of a row that is read in place.
const ROW: &str = "\"row number\"";

/// The largest cursor of a model without one. Typed, because a bare NULL arrives as Arrow's type of nulls alone.
const NO_CURSOR: &str = "NULL::VARCHAR, 0::BIGINT";

/// The largest cursor, and how many rows are ahead of the clock.
fn reached(kind: &DuckType, value: &str) -> String {
    format!("{}, {}", kind.largest(value), kind.ahead(value))
}

fn count_and_largest(connection: &Connection, largest_from: &str) -> Result<(u64, Option<String>, Option<Ahead>)> {
    connection
        .query_row(&format!("SELECT count(*), {largest_from}"), [], |row| {
            let rows = row.get::<_, i64>(2)?.unsigned_abs();
            let ahead =
                (rows > 0).then_some(Ahead { rows, clock: "this machine's clock (a time without a zone is UTC)" });
            Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get(1)?, ahead))
        })
        .map_err(|error| statement_error("read the model", &error))
}

/// Sixteen hexadecimal digits that differ when a column's type does.
fn digest(declared: &[String], kinds: &[crate::model::ColumnType]) -> String {
    let hash = Sha256::digest(format!("{declared:?}{kinds:?}"));
    hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
