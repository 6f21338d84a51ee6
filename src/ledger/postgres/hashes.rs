//! The hashes of groups: their buckets and what they add to the sums, by DuckDB's hash functions, as the rows' side has
//! them. The server cannot compute them, so they are stored with each group.

use std::sync::Arc;

use duckdb::Connection;
use duckdb::arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, UInt64Array};
use duckdb::arrow::datatypes::UInt64Type;

use crate::duckdb::{DuckDbConnection, ledger_error};
use crate::error::{Error, Kind, Result};
use crate::source::staged::{bucket, row_hash};

/// The hashes of one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hashes {
    pub(super) bucket: i16,
    pub(super) row_hash: i64,
}

/// A text that differs where DuckDB hashes differently, as it may in another version.
pub(super) async fn hashing(duckdb: &DuckDbConnection) -> Result<String> {
    let sql = format!("SELECT {}::VARCHAR || ' ' || {}", bucket("'groupcast'"), row_hash("'é'", "7::UBIGINT"));
    duckdb
        .call("hash", move |connection| {
            connection.query_row(&sql, [], |row| row.get(0)).map_err(ledger_error("hash groups"))
        })
        .await
}

/// The hashes of groups with these keys and fingerprints, in their order.
pub(super) async fn hashes(
    duckdb: &DuckDbConnection,
    keys: Vec<String>,
    fingerprints: Vec<Option<u64>>,
) -> Result<Vec<Hashes>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let failed = ledger_error("hash groups");
    duckdb.call("hash", move |connection| hashed(connection, keys, fingerprints).map_err(failed)?.ok_or_else(bug)).await
}

fn bug() -> Error {
    Error::new(Kind::Bug, "groups were hashed, and not all came back")
}

fn hashed(
    connection: &Connection,
    keys: Vec<String>,
    fingerprints: Vec<Option<u64>>,
) -> duckdb::Result<Option<Vec<Hashes>>> {
    let count = keys.len();
    connection.execute_batch("CREATE OR REPLACE TEMP TABLE hashing (n UBIGINT, key VARCHAR, fingerprint UBIGINT)")?;
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("n", Arc::new(UInt64Array::from_iter_values(0..count as u64)) as ArrayRef, true),
        ("key", Arc::new(StringArray::from_iter_values(keys)), true),
        ("fingerprint", Arc::new(UInt64Array::from(fingerprints)), true),
    ])
    .map_err(|error| duckdb::Error::ToSqlConversionFailure(Box::new(error)))?;
    let mut appender = connection.appender_to_catalog_and_db("hashing", "temp", "main")?;
    appender.append_record_batch(batch)?;
    appender.flush()?;
    drop(appender);
    let sql =
        format!("SELECT n, {}::UBIGINT, {}::UBIGINT FROM temp.hashing", bucket("key"), row_hash("key", "fingerprint"));
    let mut hashes = vec![None; count];
    let mut statement = connection.prepare(&sql)?;
    for batch in statement.query_arrow([])? {
        let column = |index: usize| batch.column(index).as_primitive_opt::<UInt64Type>();
        let (Some(positions), Some(buckets), Some(rows)) = (column(0), column(1), column(2)) else { return Ok(None) };
        for row in 0..batch.num_rows() {
            let found = Hashes { bucket: buckets.value(row) as i16, row_hash: rows.value(row) as i64 };
            if let Some(place) = hashes.get_mut(positions.value(row) as usize) {
                *place = Some(found);
            }
        }
    }
    Ok(hashes.into_iter().collect())
}
