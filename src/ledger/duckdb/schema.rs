//! The ledger's tables and how an older file becomes a current one.
//!
//! No primary keys: uniqueness of `synced` is proved by the key check of every comparison, and an append to an unkeyed
//! table costs a twentieth of an upsert into a keyed one. No foreign keys either: the journal outlives the groups it is about.

use std::path::Path;

use duckdb::Connection;

use super::{backup, long_texts};
use crate::duckdb::{ledger_error, quote_identifier};
use crate::error::{Error, Kind, Result};

/// The version this program writes. Each step of [`STEPS`] brings a file one version further.
pub(super) const VERSION: usize = STEPS.len();

/// `STEPS[n]` turns version n into n + 1; version 0 is an empty file. Never edit a released step: add one.
const STEPS: [&str; 6] = [
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
    IDENTITY,
    long_texts::TABLE,
    // `=` stays in the lines of finished runs: nothing reads it there, and rewriting the column could take gigabytes.
    "
ALTER TABLE known RENAME TO synced;
ALTER TABLE synced RENAME COLUMN unsettled_in TO unconfirmed_in;
ALTER TABLE pending RENAME TO marks;
ALTER TABLE notes RENAME TO kv;
ALTER TABLE runs ADD COLUMN read_all BOOLEAN;
ALTER TABLE runs ADD COLUMN guard VARCHAR;
UPDATE runs SET guard = nullif(regexp_extract(error, 'guard `([a-z-]+)`', 1), '') WHERE status = 'guarded';
UPDATE runs SET cursor_value = NULL, read_all = true WHERE cursor_value = '';
UPDATE runs SET status = CASE status WHEN 'delivered' THEN 'succeeded' WHEN 'some_rejected' THEN 'succeeded_with_rejections'
    WHEN 'guarded' THEN 'stopped_by_guard' ELSE 'crashed' END
WHERE status IN ('delivered', 'some_rejected', 'guarded', 'died');
ALTER TABLE journal ADD COLUMN document_from_change BOOLEAN;
UPDATE journal SET document = NULL, document_from_change = true
WHERE document = '=' AND run IN (SELECT run FROM runs WHERE status = 'running');
UPDATE journal SET outcome = CASE outcome WHEN 'same' THEN 'unchanged' WHEN 'not_sent' THEN 'pending' ELSE 'unconfirmed' END
WHERE outcome IN ('same', 'not_sent', 'unknown');
",
    // Lines whose effect is in `synced` already.
    "
ALTER TABLE journal ADD COLUMN in_synced BOOLEAN;
",
];

/// The tables of a new file. Documents resemble each other, and so do keys that follow each other: zstd takes half of what
/// DuckDB chooses by itself, in less time. Keys of `synced` are read in every comparison, for which DuckDB's choice is the
/// better one. Files of earlier versions keep their tables, since the format of DuckDB 1.0 has no zstd.
const DENSE: &str = "
DROP TABLE synced; DROP TABLE marks; DROP TABLE journal;
CREATE TABLE synced (
    sync VARCHAR NOT NULL, key VARCHAR NOT NULL, fingerprint UBIGINT, document VARCHAR NOT NULL USING COMPRESSION zstd,
    unconfirmed_in VARCHAR, attempted VARCHAR[], rejected_document VARCHAR, rejected_reason VARCHAR, seq UBIGINT NOT NULL,
    recorded_at TIMESTAMP NOT NULL
);
CREATE TABLE marks (sync VARCHAR NOT NULL, run VARCHAR NOT NULL, key VARCHAR NOT NULL USING COMPRESSION zstd);
CREATE TABLE journal (
    sync VARCHAR NOT NULL, run VARCHAR NOT NULL, seq UBIGINT NOT NULL, key VARCHAR NOT NULL USING COMPRESSION zstd,
    change VARCHAR, document VARCHAR, fingerprint UBIGINT, outcome VARCHAR NOT NULL, reason VARCHAR,
    recorded_at TIMESTAMP NOT NULL, document_from_change BOOLEAN, in_synced BOOLEAN
);
";

/// Which ledger this is and how new it is (see `generation`), and after which run it was found to be an older one.
const IDENTITY: &str = "
CREATE TABLE identity (id VARCHAR NOT NULL, generation UBIGINT NOT NULL, rewound_after VARCHAR);
INSERT INTO identity VALUES (uuid()::VARCHAR, 0, NULL);
";

/// Brings the file to [`VERSION`], in one transaction, with a copy of what it was beside `file` when it has an older one.
/// Rejects a newer one.
pub(super) fn migrate(connection: &mut Connection, file: Option<&Path>, read_only: bool) -> Result<()> {
    let failed = ledger_error("read the ledger's version");
    let read =
        |connection: &Connection| connection.query_row("SELECT version FROM meta", [], |row| row.get::<_, u32>(0));
    let known = read(connection).ok();
    // Looking through the catalog takes longer than everything else here, and is seldom needed.
    let exists: bool = known.is_some()
        || connection
            .query_row(
                "SELECT count(*) > 0 FROM duckdb_tables() WHERE database_name = current_database() AND table_name = 'meta'",
                [],
                |row| row.get(0),
            )
            .map_err(&failed)?;
    let version = if exists {
        known.map_or_else(|| read(connection), Ok).map_err(&failed)? as usize
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
        .advise(format!(
            "use the newer Groupcast that wrote it; to go back to this one, put the copy beside it that ends in \
             `.v{VERSION}-backup` in its place: then every group is sent again once. Nothing was changed"
        )));
    }
    if version == VERSION {
        return Ok(());
    }
    if read_only {
        return as_current(connection, version);
    }
    if let (true, Some(file)) = (exists, file) {
        let database: String = connection
            .query_row("SELECT current_database()", [], |row| row.get(0))
            .map_err(ledger_error("read the ledger's name"))?;
        backup::copy(connection, &database, &backup::of_version(file, version))?;
    }
    let dense = if exists { "" } else { DENSE };
    let steps = format!("{}{dense}", STEPS[version..].concat());
    connection.execute_batch(&format!("BEGIN; {steps}; UPDATE meta SET version = {VERSION}; COMMIT;")).map_err(
        |error| {
            // The failed batch leaves its transaction open; the error that matters is the first.
            drop(connection.execute_batch("ROLLBACK"));
            ledger_error("bring the ledger to the current version")(error)
        },
    )
}

/// The name of the database that shows an older file as a current one.
pub(super) const CURRENT: &str = "current_ledger";

/// Lets an older file be read as a current one, through views in a database of its own: a plan can be made before the first
/// run of a new version.
fn as_current(connection: &Connection, version: usize) -> Result<()> {
    if version < 2 {
        return Err(Error::new(Kind::Ledger, format!("this ledger has the older version {version}"))
            .advise("run `groupcast run` once to bring it to the current one; a copy of it is kept beside it"));
    }
    let show = || -> duckdb::Result<()> {
        let file: String = connection.query_row("SELECT current_database()", [], |row| row.get(0))?;
        let views = if version < 5 { WITH_OLD_NAMES } else { WITHOUT_IN_SYNCED };
        let views = views.replace("{file}", &quote_identifier(&file));
        let tables = STEPS[version.min(4)..4].concat();
        let texts = if version < 4 { "" } else { "CREATE VIEW texts AS SELECT * FROM {file}.main.texts;" };
        let identity = if version < 3 { "" } else { "CREATE VIEW identity AS SELECT * FROM {file}.main.identity;" };
        let newer = [identity, texts].concat().replace("{file}", &quote_identifier(&file));
        connection.execute_batch(&format!(
            "ATTACH ':memory:' AS {CURRENT} (READ_WRITE); USE {CURRENT}; {tables} {views} {newer}"
        ))
    };
    show().map_err(ledger_error("read a ledger of an older version"))
}

/// What the last step changes, as views of a file of version 5.
const WITHOUT_IN_SYNCED: &str = "
CREATE VIEW meta AS SELECT * FROM {file}.main.meta;
CREATE VIEW synced AS SELECT * FROM {file}.main.synced;
CREATE VIEW marks AS SELECT * FROM {file}.main.marks;
CREATE VIEW kv AS SELECT * FROM {file}.main.kv;
CREATE VIEW runs AS SELECT * FROM {file}.main.runs;
CREATE VIEW journal AS SELECT *, NULL::BOOLEAN AS in_synced FROM {file}.main.journal;
";

/// What the last two steps change, as views of a still older file.
const WITH_OLD_NAMES: &str = "
CREATE VIEW meta AS SELECT * FROM {file}.main.meta;
CREATE VIEW synced AS SELECT * RENAME (unsettled_in AS unconfirmed_in) FROM {file}.main.known;
CREATE VIEW marks AS SELECT * FROM {file}.main.pending;
CREATE VIEW kv AS SELECT * FROM {file}.main.notes;
CREATE VIEW runs AS SELECT * REPLACE (
    nullif(cursor_value, '') AS cursor_value,
    CASE status WHEN 'delivered' THEN 'succeeded' WHEN 'some_rejected' THEN 'succeeded_with_rejections'
        WHEN 'guarded' THEN 'stopped_by_guard' WHEN 'died' THEN 'crashed' ELSE status END AS status
), cursor_value = '' AS read_all,
    nullif(regexp_extract(CASE WHEN status = 'guarded' THEN error END, 'guard `([a-z-]+)`', 1), '') AS guard
FROM {file}.main.runs;
CREATE VIEW journal AS SELECT * REPLACE (
    nullif(document, '=') AS document,
    CASE outcome WHEN 'same' THEN 'unchanged' WHEN 'not_sent' THEN 'pending' WHEN 'unknown' THEN 'unconfirmed'
        ELSE outcome END AS outcome
), document = '=' AS document_from_change, NULL::BOOLEAN AS in_synced FROM {file}.main.journal;
";
