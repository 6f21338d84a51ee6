//! All rows in one line: count, sum and exclusive or of hashes that the server computes of each row.
//!
//! Hashing takes the server less than half of what sending and decoding the same rows takes, and can be done by several of
//! its processes. A run that reads the rows has their hashes sent along, so that both are of one snapshot.
//!
//! Equal values need not be the same values: 1.50 and 1.5, `-0` and `0`, `interval '1 day'` and `'24:00:00'`, texts whose
//! collation ignores case. So what is hashed is the binary form of a value, or its text compared byte by byte; a type is
//! hashed by the server's own function only where equal values are the same value. `bigint` and what is stored like it is
//! not: the server folds its halves into 32 bits. The hash of a row is linear in those of its columns, so that two rows
//! that exchange a value would keep their sum: it is hashed once more.

use sha2::{Digest, Sha256};

use super::value::Wire;

/// What a server must have. Servers without (before PostgreSQL 14, and other makes) refuse it.
pub(super) const PROBE: &str = "SELECT bit_xor(pg_catalog.hash_record_extended(ROW(pg_catalog.int8send(1), \
    pg_catalog.float4send(1), pg_catalog.float8send(1), pg_catalog.numeric_send(1), \
    pg_catalog.time_send('00:00'::time), pg_catalog.timestamp_send('epoch'::timestamp), \
    pg_catalog.interval_send('1 day'::interval), 'a'::text COLLATE \"C\"), 1))";

/// SQL for the hash of a row of these expressions, which arrive in these forms.
pub(super) fn row_hash<'a>(columns: impl Iterator<Item = (&'a str, &'a Wire)>) -> String {
    let columns: Vec<String> = columns.map(|(sql, wire)| identity(sql, wire)).collect();
    let hash = |row: &str| format!("pg_catalog.hash_record_extended(ROW({row}), 1)");
    hash(&format!("pg_catalog.int8send({})", hash(&columns.join(", "))))
}

/// SQL for something that is equal for equal values alone.
fn identity(sql: &str, wire: &Wire) -> String {
    let send = |function: &str, sql: &str| format!("pg_catalog.{function}({sql})");
    match wire {
        Wire::Bool | Wire::Int2 | Wire::Int4 | Wire::Oid | Wire::Date | Wire::Uuid | Wire::Bytea => sql.to_owned(),
        Wire::Int8 => send("int8send", sql),
        Wire::Float4 => send("float4send", sql),
        Wire::Float8 => send("float8send", sql),
        Wire::Numeric => send("numeric_send", sql),
        Wire::Time => send("time_send", sql),
        // With a zone it is shifted to the session's, which is UTC.
        Wire::Timestamp => send("timestamp_send", &format!("({sql})::timestamp")),
        Wire::Interval => send("interval_send", sql),
        Wire::Text | Wire::Jsonb | Wire::List(_) | Wire::Cast | Wire::CastList | Wire::BaseList(..) => {
            format!("(({sql})::text) COLLATE \"C\"")
        }
    }
}

/// The hashes of rows, summed up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RowHashes {
    rows: u64,
    sum: i128,
    xor: i64,
}

impl RowHashes {
    /// SQL for the sums over the rows of a statement that yields `hash`.
    pub(super) fn statement(rows: &str) -> String {
        format!(
            "SELECT count(*), coalesce(sum(hash), 0)::text, coalesce(bit_xor(hash), 0)::text FROM (\n{rows}\n) AS hashed"
        )
    }

    /// The row of [`RowHashes::statement`].
    pub(super) fn read<'a>(column: impl Fn(usize) -> Option<&'a str>) -> Option<RowHashes> {
        Some(RowHashes { rows: column(0)?.parse().ok()?, sum: column(1)?.parse().ok()?, xor: column(2)?.parse().ok()? })
    }

    /// Adds a row's hash, as it arrived.
    pub(super) fn add(&mut self, raw: Option<&[u8]>) -> Option<()> {
        let hash = i64::from_be_bytes(raw?.try_into().ok()?);
        self.rows += 1;
        self.sum += i128::from(hash);
        self.xor ^= hash;
        Some(())
    }

    /// The sums as a text, with what the values are: `what` is the statement, and what its columns mean.
    pub(super) fn text(&self, what: &str) -> String {
        let RowHashes { rows, sum, xor } = self;
        let what = hex::encode(&Sha256::digest(what.as_bytes())[..16]);
        format!("{what} {rows} {sum} {xor}")
    }
}
