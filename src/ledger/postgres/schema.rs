//! The ledger's tables in PostgreSQL, and how an older schema becomes a current one.
//!
//! | table | contents |
//! |---|---|
//! | `version` | the schema's version, and by which hash functions rows were summed up |
//! | `leases` | what a process has to itself for a time |
//! | `fences` | the numbers that leases get, so that none comes twice |
//! | `machines` | how often each machine was about to send something |
//! | `syncs` | a number for every sync, which the other tables have instead of its name |
//! | `synced` | the synced state, one row per group |
//! | `sums` | counts and sums of `synced` by bucket, kept by triggers: what a quiet run reads |
//! | `marks`, `journal`, `runs`, `kv` | as in the DuckDB ledger |
//!
//! Keys and cursors are `bytea`: they may hold what `text` cannot (a null character), compare by their bytes as everywhere
//! in Groupcast, and do not depend on a collation. Documents and changes are `text`, exactly the text that was sent: JSON
//! has escapes for what `text` cannot hold. Numbers without a sign are stored as those with the same bits.

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::error::{Failure, grants};
use super::server::Server;
use crate::error::{Error, Kind};

/// The version this program writes. Each step of [`STEPS`] brings a schema one version further.
pub(super) const VERSION: usize = STEPS.len();

/// `STEPS[n]` turns version n into n + 1; version 0 is an empty schema. Never edit a released step: add one.
const STEPS: [&str; 2] = [
    "
CREATE TABLE @.version (version integer NOT NULL, hashing text NOT NULL);
INSERT INTO @.version VALUES (0, '');
CREATE TABLE @.leases (
    name text PRIMARY KEY, holder text NOT NULL, fence bigint NOT NULL, until timestamptz NOT NULL, UNIQUE (name, fence)
);
CREATE TABLE @.syncs (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text COLLATE \"C\" NOT NULL UNIQUE);
CREATE SEQUENCE @.journal_seq;
CREATE TABLE @.synced (
    sync integer NOT NULL, bucket smallint NOT NULL,
    state smallint NOT NULL GENERATED ALWAYS AS ((CASE WHEN unconfirmed_in IS NULL THEN 0 ELSE 1 END
        + CASE WHEN rejected_reason IS NULL THEN 0 ELSE 2 END
        + CASE WHEN seq = 0 AND document = '{}' THEN 4 ELSE 0 END)::smallint) STORED,
    row_hash bigint NOT NULL, fingerprint bigint, seq bigint NOT NULL, recorded_at timestamptz NOT NULL, key bytea NOT NULL,
    document text NOT NULL, unconfirmed_in text COLLATE \"C\", attempted text[], rejected_document text, rejected_reason text,
    PRIMARY KEY (sync, key)
);
COMMENT ON COLUMN @.synced.state IS '1: unconfirmed, 2: rejected, 4: nothing was delivered; added up';
CREATE INDEX synced_by_bucket ON @.synced (sync, bucket) INCLUDE (key, fingerprint, state);
CREATE INDEX synced_rejected ON @.synced (sync, key) WHERE rejected_reason IS NOT NULL;
CREATE TABLE @.sums (
    sync integer NOT NULL, bucket smallint NOT NULL, groups bigint NOT NULL, sum numeric NOT NULL, xor bigint NOT NULL,
    unconfirmed bigint NOT NULL, unconfirmed_sum numeric NOT NULL, rejected bigint NOT NULL, rejected_sum numeric NOT NULL,
    only_rejected bigint NOT NULL, undelivered bigint NOT NULL, PRIMARY KEY (sync, bucket)
) WITH (fillfactor = 40);
CREATE TABLE @.marks (
    sync integer NOT NULL, bucket smallint NOT NULL, row_hash bigint NOT NULL, run text COLLATE \"C\" NOT NULL, key bytea NOT NULL
);
CREATE INDEX marks_by_run ON @.marks (sync, run, key);
CREATE TABLE @.journal (
    sync integer NOT NULL, bucket smallint NOT NULL, document_from_change boolean NOT NULL, in_synced boolean NOT NULL,
    seq bigint NOT NULL, row_hash bigint NOT NULL, fingerprint bigint, recorded_at timestamptz NOT NULL,
    run text COLLATE \"C\" NOT NULL, key bytea NOT NULL, outcome text NOT NULL, change text, document text, reason text
);
CREATE INDEX journal_by_run ON @.journal (run, seq);
CREATE INDEX journal_by_group ON @.journal (sync, key, seq);
CREATE TABLE @.runs (
    sync integer NOT NULL, run text COLLATE \"C\" NOT NULL, mapping text NOT NULL, traits text[] NOT NULL,
    started_at timestamptz NOT NULL, ended_at timestamptz, status text NOT NULL, counts text, source_rows bigint,
    cursor_value bytea, read_all boolean, full_read boolean, partial boolean NOT NULL, started_by text NOT NULL, error text,
    error_kind text, guard text, detail text, PRIMARY KEY (sync, run)
);
CREATE INDEX runs_by_run ON @.runs (run);
CREATE INDEX runs_running ON @.runs (run) WHERE status = 'running';
CREATE TABLE @.kv (name text COLLATE \"C\" PRIMARY KEY, text text NOT NULL);
",
    "
CREATE SEQUENCE @.fences START 1000000000;
ALTER TABLE @.leases ADD COLUMN attempt float8 NOT NULL DEFAULT 0, ADD COLUMN since timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN detail text NOT NULL DEFAULT '', ADD COLUMN request text;
INSERT INTO @.leases (name, holder, fence, until) VALUES ('ledger', '', 0, '-infinity') ON CONFLICT DO NOTHING;
CREATE TABLE @.machines (machine text COLLATE \"C\" PRIMARY KEY, generation bigint NOT NULL);
ALTER TABLE @.version ADD COLUMN ledger text NOT NULL DEFAULT gen_random_uuid()::text;
",
];

/// The columns of `sums` that add up, each with what one group adds to it.
const SUMS: [(&str, &str); 8] = [
    ("groups", "1"),
    ("sum", "row_hash + CASE WHEN row_hash < 0 THEN 18446744073709551616 ELSE 0 END"),
    ("unconfirmed", "state & 1"),
    ("unconfirmed_sum", "CASE WHEN state & 1 > 0 THEN row_hash::numeric ELSE 0 END"),
    ("rejected", "(state & 2) / 2"),
    ("rejected_sum", "CASE WHEN state & 2 > 0 THEN row_hash::numeric ELSE 0 END"),
    ("only_rejected", "CASE WHEN state = 6 THEN 1 ELSE 0 END"),
    ("undelivered", "CASE WHEN state > 4 THEN 1 ELSE 0 END"),
];

/// The triggers that keep `sums`, whatever statement changes `synced`.
fn triggers() -> String {
    let columns = SUMS.map(|(name, _)| name).join(", ");
    let added = SUMS.map(|(name, adds)| format!("sum(sign * ({adds})) AS {name}")).join(", ");
    let updated = SUMS.map(|(name, _)| format!("{name} = s.{name} + EXCLUDED.{name}")).join(", ");
    let rows = |sign: &str, of: &str| format!("SELECT {sign} AS sign, sync, bucket, row_hash, state FROM {of}");
    let keep = |rows: String| {
        format!(
            "INSERT INTO @.sums AS s (sync, bucket, xor, {columns})
        SELECT sync, bucket, bit_xor(row_hash), {added} FROM ({rows}) changed GROUP BY sync, bucket ORDER BY sync, bucket
        ON CONFLICT (sync, bucket) DO UPDATE SET xor = s.xor # EXCLUDED.xor, {updated};"
        )
    };
    let (gone, come) = (rows("-1", "before"), rows("1", "after"));
    let (inserted, deleted) = (keep(come.clone()), keep(gone.clone()));
    let changed = keep(format!("{gone} UNION ALL {come}"));
    format!(
        "CREATE FUNCTION @.keep_sums() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    IF TG_OP = 'INSERT' THEN
        {inserted}
    ELSIF TG_OP = 'DELETE' THEN
        {deleted}
    ELSE
        {changed}
    END IF;
    RETURN NULL;
END
$body$;
CREATE TRIGGER synced_inserted AFTER INSERT ON @.synced REFERENCING NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION @.keep_sums();
CREATE TRIGGER synced_deleted AFTER DELETE ON @.synced REFERENCING OLD TABLE AS before
    FOR EACH STATEMENT EXECUTE FUNCTION @.keep_sums();
CREATE TRIGGER synced_updated AFTER UPDATE ON @.synced REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION @.keep_sums();"
    )
}

/// PostgreSQL's oldest supported version: `bit_xor` came with it.
const SERVER_VERSION_MIN: i32 = 140_000;

/// What is found on a server before anything is changed there.
pub(super) struct Found {
    /// The schema's version; none where it has no ledger.
    pub(super) version: Option<usize>,
    /// Whether the server only reads.
    pub(super) is_standby: bool,
}

/// Looks at a server and the schema in it.
///
/// Errors: [`Kind::Ledger`], the server is too old or stores text in another encoding, or the ledger is a newer version's.
pub(super) async fn find(server: &Server, client: &Client) -> Result<Found, Failure> {
    let about = client
        .query_typed_one(
            "SELECT current_setting('server_version_num')::int, current_setting('server_encoding'), pg_is_in_recovery(), \
             EXISTS (SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                WHERE n.nspname = $1 AND c.relname = 'version')",
            &[(&server.schema_name, Type::TEXT)],
        )
        .await?;
    let (number, encoding): (i32, String) = (about.try_get(0)?, about.try_get(1)?);
    if number < SERVER_VERSION_MIN {
        let what = format!("the server has version {}, and the ledger needs PostgreSQL 14 or newer", number / 10_000);
        return Err(Error::new(Kind::Ledger, what).advise("name a newer server in `state.url`").into());
    }
    if encoding != "UTF8" {
        let what = format!("the database stores text as {encoding}, in which not every document can be stored");
        let advice = "make a database for the ledger: `CREATE DATABASE groupcast ENCODING 'UTF8' TEMPLATE template0`";
        return Err(Error::new(Kind::Ledger, what).advise(advice).into());
    }
    let (is_standby, has_version): (bool, bool) = (about.try_get(2)?, about.try_get(3)?);
    let version = if has_version { Some(version(server, client).await?) } else { None };
    Ok(Found { version, is_standby })
}

async fn version(server: &Server, client: &Client) -> Result<usize, Failure> {
    let found = client.query_typed_opt(&server.sql("SELECT version FROM @.version"), &[]).await?;
    let version: i32 = found.map(|row| row.try_get(0)).transpose()?.unwrap_or(0);
    let version = usize::try_from(version).unwrap_or_default();
    if version > VERSION {
        return Err(Error::new(
            Kind::Ledger,
            format!("this ledger has version {version}, this program knows versions up to {VERSION}"),
        )
        .advise(
            "use the newer Groupcast that wrote it; to go back to this one, restore the schema from a backup that was made \
             before: then every group is sent again once (`groupcast ledger reset`). Nothing was changed",
        )
        .into());
    }
    Ok(version)
}

/// Brings the schema to [`VERSION`], creating it when absent, in one transaction.
pub(super) async fn migrate(server: &Server, client: &Client, found: &Found) -> Result<(), Failure> {
    if found.version == Some(VERSION) {
        return Ok(());
    }
    if found.is_standby {
        return Err(Error::new(Kind::Ledger, "the server is a standby, which only reads")
            .advise("name the primary in `state.url` (`target_session_attrs=read-write` with several hosts)")
            .into());
    }
    client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await?;
    let migrated = migrate_in_transaction(server, client, found).await;
    match migrated {
        Ok(()) => Ok(client.batch_execute("COMMIT").await?),
        Err(failure) => {
            drop(client.batch_execute("ROLLBACK").await);
            Err(failure)
        }
    }
}

async fn migrate_in_transaction(server: &Server, client: &Client, found: &Found) -> Result<(), Failure> {
    // Two processes that make the schema at a time take turns; the second finds it made. The lock ends with the transaction.
    let turn = "SELECT pg_advisory_xact_lock(hashtextextended('groupcast ' || $1, 0))";
    client.query_typed(turn, &[(&server.schema_name, Type::TEXT)]).await?;
    let exists = "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)";
    let exists: bool = client.query_typed_one(exists, &[(&server.schema_name, Type::TEXT)]).await?.try_get(0)?;
    if !exists && let Err(refused) = client.batch_execute(&format!("CREATE SCHEMA {}", server.schema)).await {
        if refused.as_db_error().is_some_and(|db| db.code().code() == "42501") {
            let what = format!("user `{}` may not create the schema {}", server.user(), server.schema);
            let advice = format!("have the database's owner run {}", grants(server));
            return Err(Error::new(Kind::Ledger, what).advise(advice).into());
        }
        return Err(refused.into());
    }
    let table = server.sql("@.version");
    let there = client.query_typed_one("SELECT to_regclass($1) IS NOT NULL", &[(&table, Type::TEXT)]).await?;
    let from = if there.try_get(0)? { version(server, client).await? } else { 0 };
    debug_assert!(found.version.is_none_or(|version| version <= from));
    let steps = STEPS[from..].concat();
    let triggers = if from == 0 { triggers() } else { String::new() };
    client.batch_execute(&server.sql(&format!("{steps}{triggers}"))).await?;
    client.batch_execute(&server.sql(&format!("UPDATE @.version SET version = {VERSION}"))).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_of_the_sums_is_kept() {
        let table = STEPS[0].split("CREATE TABLE @.sums (").nth(1).unwrap().split("PRIMARY KEY").next().unwrap();
        let columns: Vec<&str> = table.split(", ").filter_map(|column| column.split_whitespace().next()).collect();
        for column in columns.into_iter().filter(|column| !["sync", "bucket", "xor"].contains(column)) {
            assert!(SUMS.iter().any(|(name, _)| *name == column), "{column}");
        }
    }
}
