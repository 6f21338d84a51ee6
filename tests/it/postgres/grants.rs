//! Is a model read by a user who may see some of its columns, and who gives the rest?

use groupcast::error::Kind;
use groupcast::mapping::{Expr, From, Model};
use groupcast::source::Source as _;
use groupcast::source::postgres::Postgres;
use serde_json::json;

use super::{key, projection, stage, table, text};
use crate::support::postgres::shared;

const TABLES: &str = r#"
    CREATE TABLE plain (id int, name text, "Secret" text, plan text);
    CREATE TABLE parted (id int, name text, "Secret" text, plan text) PARTITION BY RANGE (id);
    CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (100);
    CREATE VIEW seen AS SELECT * FROM plain;
    CREATE MATERIALIZED VIEW kept AS SELECT 1 AS id, 'x'::text AS name, 's'::text AS "Secret", 'pro'::text AS plan;
    INSERT INTO plain VALUES (1, 'x', 's', 'pro'); INSERT INTO parted VALUES (1, 'x', 's', 'pro');
    CREATE EXTENSION IF NOT EXISTS file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
    CREATE FOREIGN TABLE elsewhere (id int, name text, "Secret" text, plan text) SERVER files
        OPTIONS (program 'printf ''1,x,s,pro\n''', format 'csv');
    DO $$ BEGIN CREATE ROLE columnist LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
"#;

#[tokio::test]
async fn a_role_that_may_read_some_columns_syncs_those() {
    let database = shared().create_database().await;
    database.execute(TABLES).await;
    for name in ["plain", "parted", "seen", "kept", "elsewhere"] {
        database.execute(&format!("GRANT SELECT (id, name) ON {name} TO columnist")).await;
        for read in ["auto", "copy", "cursor"] {
            let settings = database.settings_as("columnist", json!({ "read": read }));
            let mut source = Postgres::connect(&settings, "warehouse").await.unwrap();
            // THEN a mapping that uses what is granted works
            let (_, rows) = stage(&mut source, &projection(table(name), "id", &["name"])).await.unwrap();
            assert_eq!(rows, [(key("1"), vec![text("x")])], "{name}");
            // AND the description says which column is not granted, with the statement that grants it
            let columns = source.describe(&Model { from: table(name), filter: Some("id > 0".into()) }).await.unwrap();
            let denied: Vec<_> = columns.iter().map(|column| (column.name.as_str(), column.denied.clone())).collect();
            let grant = |column: &str| Some(format!("GRANT SELECT (\"{column}\") ON \"{name}\" TO \"columnist\""));
            let expected = [("id", None), ("name", None), ("Secret", grant("Secret")), ("plan", grant("plan"))];
            assert_eq!(denied, expected, "{name}");
            assert_eq!(columns[1].declared, "text");
            // AND so does an attempt to read it all the same
            let error = stage(&mut source, &projection(table(name), "id", &["name", "plan"])).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Source, "{error}");
            assert!(error.to_string().contains("user `columnist` may not read column `plan`"), "{error}");
            assert!(error.advice().unwrap().contains(&grant("plan").unwrap()), "{error}");
            let mut wanted = projection(table(name), "id", &[]);
            wanted.columns = vec![Expr::Sql("upper(plan)".into())];
            let error = source.describe_projection(&wanted).await.unwrap_err();
            assert!(error.advice().unwrap().contains("may read `id` and `name`"), "{:?}", error.advice());
            let model = Model { from: table(name), filter: Some("plan = 'pro'".into()) };
            let error = source.describe(&model).await.unwrap_err();
            assert!(error.advice().unwrap().contains("may read `id` and `name`"), "{:?}", error.advice());
        }
    }
    // Somebody else's query: what it reads must be granted.
    let settings = database.settings_as("columnist", json!({}));
    let mut source = Postgres::connect(&settings, "warehouse").await.unwrap();
    let query = |sql: &str| projection(From::Query(sql.to_owned()), "id", &["name"]);
    assert_eq!(stage(&mut source, &query("SELECT id, name FROM plain")).await.unwrap().1.len(), 1);
    let error = stage(&mut source, &query("SELECT id, name, plan FROM plain")).await.unwrap_err();
    assert!(error.to_string().contains("42501") && error.advice().unwrap().contains("GRANT SELECT"), "{error}");
}

#[tokio::test]
async fn rows_that_a_policy_hides_are_not_read() {
    let database = shared().create_database().await;
    database.execute(TABLES).await;
    database
        .execute(
            "GRANT SELECT (id, name) ON plain TO columnist; ALTER TABLE plain ENABLE ROW LEVEL SECURITY;
             CREATE POLICY pros ON plain FOR SELECT TO columnist USING (plan = 'pro');
             INSERT INTO plain VALUES (2, 'y', 's', 'free')",
        )
        .await;
    let mut source = Postgres::connect(&database.settings_as("columnist", json!({})), "warehouse").await.unwrap();
    let (_, rows) = stage(&mut source, &projection(table("plain"), "id", &["name"])).await.unwrap();
    assert_eq!(rows, [(key("1"), vec![text("x")])], "the policy's own column need not be granted");
}
