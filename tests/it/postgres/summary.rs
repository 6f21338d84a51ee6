//! Does the server's summary of all rows change with every value that changes, however equal the server takes both for?

use groupcast::mapping::compile::Projection;
use groupcast::source::Source as _;
use groupcast::source::postgres::Postgres;
use serde_json::json;

use super::{duckdb, projection, stage, table};
use crate::support::postgres::{Database, shared};

/// Each type with two values that an equality of some kind may take for one.
const VALUES: &[(&str, &str, &str)] = &[
    ("boolean", "true", "false"),
    ("boolean", "false", "NULL"),
    ("smallint", "1", "-2"),
    ("integer", "1", "-2"),
    // Halves that the server's own hash folds into the same 32 bits.
    ("bigint", "5", "-6"),
    ("bigint", "4", "4294967301"),
    ("bigint", "0", "NULL"),
    ("oid", "1", "2"),
    ("real", "'-0'", "'0'"),
    ("double precision", "'-0'", "'0'"),
    ("double precision", "0.1", "0.10000000000000002"),
    ("double precision", "'NaN'", "'Infinity'"),
    ("numeric", "1.50", "1.5"),
    ("numeric", "0", "0.00"),
    ("numeric(10,2)", "1.50", "1.51"),
    ("amount", "1.50", "1.5"),
    ("text", "''", "NULL"),
    ("text", "'a '", "'a'"),
    ("text COLLATE no_case", "'Acme'", "'acme'"),
    ("varchar(10)", "'a '", "'a'"),
    ("char(3)", "'a'", "'b'"),
    ("citext", "'Acme'", "'acme'"),
    ("plan", "'free'", "'pro'"),
    ("uuid", "'00000000-0000-0000-0000-000000000001'", "'00000000-0000-0000-0000-000000000002'"),
    ("bytea", "'\\x00'", "'\\x0000'"),
    ("date", "'2024-01-01'", "'infinity'"),
    ("time", "'00:00'", "'24:00'"),
    ("time with time zone", "'12:00+00'", "'13:00+01'"),
    ("timestamp", "'2024-01-01 00:00:00'", "'2024-01-01 00:00:00.000001'"),
    ("timestamptz", "'2024-01-01 00:00:00+00'", "'2024-01-01 00:00:00+01'"),
    ("timestamptz", "'infinity'", "'-infinity'"),
    ("interval", "'1 day'", "'24:00:00'"),
    ("interval", "'1 month'", "'30 days'"),
    ("json", "'{\"a\":1}'", "'{\"a\": 1}'"),
    ("jsonb", "'{\"a\":1.0}'", "'{\"a\":1.00}'"),
    ("numeric[]", "'{1.50}'", "'{1.5}'"),
    ("citext[]", "'{A}'", "'{a}'"),
    ("text[]", "'{NULL}'", "'{\"NULL\"}'"),
    ("integer[]", "'{1,2}'", "'[0:1]={1,2}'"),
    ("inet", "'10.0.0.1'", "'10.0.0.1/31'"),
    ("pair", "'(1.50,a)'", "'(1.5,a)'"),
    ("numrange", "'[1.0,2.0)'", "'[1,2.0)'"),
];

async fn summary(source: &mut Postgres, wanted: &Projection) -> String {
    source.summary(wanted).await.unwrap().expect("this server sums rows up")
}

async fn database() -> Database {
    let database = shared().create_database().await;
    database
        .execute(
            "CREATE EXTENSION citext; CREATE DOMAIN amount AS numeric; CREATE TYPE plan AS ENUM ('free', 'pro'); \
             CREATE TYPE pair AS (n numeric, t text); \
             CREATE COLLATION no_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
        )
        .await;
    database
}

#[tokio::test]
async fn every_value_that_changes_changes_it_and_it_is_what_reading_sums_up() {
    let database = database().await;
    let mut source = database.source(json!({})).await;
    for (at, (of, before, after)) in VALUES.iter().enumerate() {
        let name = format!("t{at}");
        database
            .execute(&format!(
                "CREATE TABLE {name} (id text, v {of}); INSERT INTO {name} VALUES ('a', {before}), ('b', {before})"
            ))
            .await;
        let wanted = Projection { summed: true, ..projection(table(&name), "id", &["v"]) };
        let first = summary(&mut source, &wanted).await;
        assert_eq!(summary(&mut source, &wanted).await, first, "{of}");
        let (staged, _) = stage(&mut source, &wanted).await.unwrap();
        assert_eq!(staged.summary.as_ref(), Some(&first), "{of}");
        database.execute(&format!("UPDATE {name} SET v = {after} WHERE id = 'b'")).await;
        assert_ne!(summary(&mut source, &wanted).await, first, "{of}: {before} became {after}");
        let (staged, _) = stage(&mut source, &wanted).await.unwrap();
        assert_ne!(staged.summary.as_ref(), Some(&first), "{of}: {before} became {after}");
        database.execute(&format!("UPDATE {name} SET v = {before}")).await;
        assert_eq!(summary(&mut source, &wanted).await, first, "{of}");
    }
}

#[tokio::test]
async fn rows_that_exchange_values_have_another_one_as_keys_and_counts_do() {
    let database = database().await;
    database
        .execute("CREATE TABLE t (id text, n bigint, plan text); INSERT INTO t VALUES ('a', 1, 'x'), ('b', 2, 'y'), (NULL, 3, 'z')")
        .await;
    let mut source = database.source(json!({})).await;
    let wanted = projection(table("t"), "id", &["n", "plan"]);
    let first = summary(&mut source, &wanted).await;
    for change in [
        "UPDATE t SET plan = CASE id WHEN 'a' THEN 'y' WHEN 'b' THEN 'x' ELSE plan END",
        "UPDATE t SET id = CASE id WHEN 'a' THEN 'b' WHEN 'b' THEN 'a' END",
        "UPDATE t SET id = '' WHERE id IS NULL",
        "INSERT INTO t VALUES ('a', 1, 'x'), ('a', 1, 'x')",
        "DELETE FROM t WHERE id = 'a'",
        "ALTER TABLE t ALTER n TYPE text",
    ] {
        database.execute(&format!("CREATE TABLE kept AS TABLE t; {change}")).await;
        assert_ne!(summary(&mut source, &wanted).await, first, "{change}");
        database.execute("DROP TABLE t; ALTER TABLE kept RENAME TO t").await;
        assert_eq!(summary(&mut source, &wanted).await, first);
    }
    for other in [
        projection(table("t"), "id", &["plan", "n"]),
        Projection { filters: vec!["true".to_owned()], ..wanted.clone() },
    ] {
        assert_ne!(summary(&mut source, &other).await, first, "{other:?}");
    }
}

#[tokio::test]
async fn it_is_summed_up_only_on_request_and_where_rows_do_not_come_by_copy() {
    let database = database().await;
    database.execute("CREATE TABLE t AS SELECT n::text AS id, n FROM generate_series(1, 25000) n").await;
    let wanted = projection(table("t"), "id", &["n"]);
    let summed = Projection { summed: true, ..wanted.clone() };
    for (read, sums) in [("auto", true), ("cursor", true), ("copy", false)] {
        let mut source = database.source(json!({ "read": read })).await;
        assert_eq!(source.sums_rows(), sums, "{read}");
        for (projection, expected) in [(&wanted, false), (&summed, sums)] {
            let duckdb = duckdb();
            let staged = source.stage(projection, &duckdb, &|_| ()).await.unwrap();
            assert_eq!(staged.summary.is_some(), expected, "{read}");
        }
    }
}
