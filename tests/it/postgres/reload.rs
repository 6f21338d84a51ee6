//! Is a table that is truncated and filled again read as it was or as it is, and never empty?

use groupcast::source::Source as _;
use serde_json::json;

use super::{Cell, duckdb, projection, read, table};
use crate::support::postgres::{Database, shared};

/// Waits until somebody waits for a lock in this database.
async fn somebody_waits(database: &Database) {
    let waiting =
        "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT granted AND datname = $1";
    while database.client().query_one(waiting, &[&database.name()]).await.unwrap().get::<_, i64>(0) == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_is_seen_whole_or_not_at_all() {
    let database = shared().create_database().await;
    database
        .execute(
            "CREATE TABLE a AS SELECT n AS id, 0 AS v FROM generate_series(1, 100) n;
             CREATE TABLE b AS SELECT n AS id, 0 AS v FROM generate_series(101, 110) n;
             CREATE VIEW both_of_them AS SELECT * FROM a UNION ALL SELECT * FROM b;
             CREATE TABLE parent (id int, v int); CREATE TABLE child () INHERITS (parent);
             INSERT INTO child SELECT n, 0 FROM generate_series(1, 110) n",
        )
        .await;
    let loader = shared().client(database.name()).await;
    for read_by in ["auto", "copy", "cursor"] {
        for (model, reloaded, fill) in [
            ("both_of_them", "a", "generate_series(1, 100)"),
            ("both_of_them", "b", "generate_series(101, 110)"),
            ("parent", "child", "generate_series(1, 110)"),
        ] {
            // GIVEN a reload that is under way
            let mut source = database.source(json!({ "read": read_by })).await;
            let reload = format!("BEGIN; TRUNCATE {reloaded}; INSERT INTO {reloaded} SELECT n, 1 FROM {fill} n");
            loader.batch_execute(&reload).await.unwrap();
            // WHEN the model is read, and waits for it
            let (into, wanted) = (duckdb(), projection(table(model), "id", &["v"]));
            let staging = tokio::spawn(async move {
                let staged = source.stage(&wanted, &into, &|_| ()).await.unwrap();
                read(&into, &staged).await
            });
            somebody_waits(&database).await;
            loader.batch_execute("COMMIT").await.unwrap();
            // THEN all rows are there, the reloaded ones as they are now
            let rows = staging.await.unwrap();
            assert_eq!(rows.len(), 110, "{read_by}, {model}, {reloaded}");
            let new = rows.iter().filter(|(_, cells)| cells[0] == Cell::Int(1)).count();
            assert_eq!(
                new,
                if reloaded == "a" {
                    100
                } else if reloaded == "b" {
                    10
                } else {
                    110
                },
                "{read_by}, {model}"
            );
            database.execute(&format!("UPDATE {reloaded} SET v = 0")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_swapped_is_read_as_it_is_now() {
    let database = shared().create_database().await;
    database.execute("CREATE TABLE t AS SELECT n AS id, 0 AS v FROM generate_series(1, 100) n").await;
    let loader = shared().client(database.name()).await;
    let mut source = database.source(json!({})).await;
    loader
        .batch_execute(
            "BEGIN; CREATE TABLE fresh AS SELECT n AS id, 1 AS v FROM generate_series(1, 100) n;
             ALTER TABLE t RENAME TO old; ALTER TABLE fresh RENAME TO t",
        )
        .await
        .unwrap();
    let (into, wanted) = (duckdb(), projection(table("t"), "id", &["v"]));
    let staging = tokio::spawn(async move {
        let staged = source.stage(&wanted, &into, &|_| ()).await.unwrap();
        read(&into, &staged).await
    });
    somebody_waits(&database).await;
    loader.batch_execute("DROP TABLE old; COMMIT").await.unwrap();
    let rows = staging.await.unwrap();
    assert!(rows.len() == 100 && rows.iter().all(|(_, cells)| cells[0] == Cell::Int(1)), "{}", rows.len());
}
