//! The ledger's tables and how an older file becomes a current one.
//!
//! No primary keys: uniqueness of `known` is proved by the key check of every comparison, and an append to an unkeyed
//! table costs a twentieth of an upsert into a keyed one. No foreign keys either: the journal outlives what it tells of.

use duckdb::Connection;

use crate::duck::ledger_error;
use crate::error::{Error, Kind, Result};

/// The version this program writes. Each step of [`STEPS`] brings a file one version further.
pub(super) const VERSION: usize = STEPS.len();

/// `STEPS[n]` turns version n into n + 1; version 0 is an empty file. Never edit a released step: add one.
const STEPS: [&str; 2] = [
    "
CREATE TABLE meta (version UINTEGER NOT NULL, next_seq UBIGINT NOT NULL);
INSERT INTO meta VALUES (0, 1);
CREATE TABLE known (
    sync VARCHAR NOT NULL, key VARCHAR NOT NULL, fingerprint UBIGINT, document VARCHAR NOT NULL, unsettled_in VARCHAR,
    attempted VARCHAR[], rejected_document VARCHAR, rejected_reason VARCHAR, seq UBIGINT NOT NULL, recorded_at TIMESTAMP NOT NULL
);
CREATE TABLE pending (sync VARCHAR NOT NULL, run VARCHAR NOT NULL, key VARCHAR NOT NULL);
CREATE TABLE journal (
    sync VARCHAR NOT NULL, run VARCHAR NOT NULL, seq UBIGINT NOT NULL, key VARCHAR NOT NULL, change VARCHAR,
    document VARCHAR, fingerprint UBIGINT, outcome VARCHAR NOT NULL, reason VARCHAR, recorded_at TIMESTAMP NOT NULL
);
CREATE TABLE runs (
    sync VARCHAR NOT NULL, run VARCHAR NOT NULL, mapping VARCHAR NOT NULL, traits VARCHAR[] NOT NULL, started_at TIMESTAMP NOT NULL,
    ended_at TIMESTAMP, status VARCHAR NOT NULL, counts VARCHAR, source_rows UBIGINT, cursor_value VARCHAR,
    full_read BOOLEAN, error VARCHAR
);
",
    "
ALTER TABLE runs ADD COLUMN started_by VARCHAR;
ALTER TABLE runs ADD COLUMN partial BOOLEAN;
ALTER TABLE runs ADD COLUMN error_kind VARCHAR;
ALTER TABLE runs ADD COLUMN detail VARCHAR;
CREATE TABLE notes (name VARCHAR NOT NULL, text VARCHAR NOT NULL);
",
];

/// Brings the file to [`VERSION`]. Refuses a newer one, and an older one that may not be written.
pub(super) fn migrate(connection: &mut Connection, read_only: bool) -> Result<()> {
    let exists: bool = connection
        .query_row(
            "SELECT count(*) > 0 FROM duckdb_tables() WHERE database_name = current_database() AND table_name = 'meta'",
            [],
            |row| row.get(0),
        )
        .map_err(ledger_error("read the ledger's version"))?;
    let version = if exists {
        connection
            .query_row("SELECT version FROM meta", [], |row| row.get::<_, u32>(0))
            .map_err(ledger_error("read the ledger's version"))? as usize
    } else {
        let tables: u64 = connection
            .query_row("SELECT count(*) FROM duckdb_tables() WHERE database_name = current_database()", [], |row| {
                row.get(0)
            })
            .map_err(ledger_error("read the ledger's tables"))?;
        if tables > 0 {
            return Err(Error::new(Kind::Ledger, "this DuckDB file is not a ledger: it has other tables")
                .advise("set `state.path` in groupcast.toml to a file of its own"));
        }
        0
    };
    if version > VERSION {
        return Err(Error::new(
            Kind::Ledger,
            format!("this ledger has version {version}, this program knows versions up to {VERSION}"),
        )
        .advise("use the newer Groupcast that wrote it; nothing was changed"));
    }
    if version < VERSION && read_only {
        return Err(Error::new(Kind::Ledger, format!("this ledger has the older version {version}"))
            .advise("run `groupcast run` once (or `groupcast ledger adopt`) to bring it to the current one"));
    }
    for (from, step) in STEPS.iter().enumerate().skip(version) {
        connection.execute_batch(&format!("BEGIN; {step}; UPDATE meta SET version = {}; COMMIT;", from + 1)).map_err(
            |error| {
                // The failed batch leaves its transaction open; the error that matters is the first.
                drop(connection.execute_batch("ROLLBACK"));
                ledger_error("bring the ledger to the current version")(error)
            },
        )?;
    }
    Ok(())
}
