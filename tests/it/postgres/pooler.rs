//! Does a source work behind a pooler, in each of its modes, without a named statement left or met?

use groupcast::error::Kind;
use groupcast::source::Source as _;
use groupcast::source::postgres::Postgres;
use serde_json::{Value, json};

use super::{model, projection, stage, table};
use crate::support::pooler::Pooler;
use crate::support::postgres::{Database, shared};

async fn source(pooler: &Pooler, database: &Database, read: &str) -> Postgres {
    let settings = json!({ "url": pooler.url(database), "sslmode": "disable", "read": read });
    Postgres::connect(&serde_json::from_value(settings).unwrap(), "warehouse").await.unwrap()
}

/// Statements as somebody else at the pooler, by the simple protocol.
async fn somebody(pooler: &Pooler, database: &Database, sql: &str) -> Vec<String> {
    let (client, connection) = tokio_postgres::connect(&pooler.url(database), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let messages = client.simple_query(sql).await.unwrap();
    let first = |message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    };
    messages.into_iter().filter_map(first).collect()
}

const TABLE: &str = "CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE DOMAIN positive AS int;
    CREATE TABLE t AS SELECT n AS id, 'sad'::mood AS m, n::positive AS p, ARRAY['glad'::mood] AS ms, n * 1.5 AS d
    FROM generate_series(1, 25000) n";

#[tokio::test(flavor = "multi_thread")]
async fn no_named_statement_is_left_or_met() {
    let database = shared().create_database().await;
    database.execute(TABLE).await;
    let wanted = projection(table("t"), "id", &["m", "p", "ms", "d"]);
    let (_, expected) = stage(&mut database.source(json!({})).await, &wanted).await.unwrap();
    for mode in ["session", "transaction"] {
        for more in ["", "server_round_robin = 1"] {
            let pooler = Pooler::start(mode, more);
            // GIVEN statements of the driver's names on the only connection to the server
            if mode == "transaction" {
                let planted: String = (0..2_000).map(|number| format!("PREPARE s{number} AS SELECT 1; ")).collect();
                somebody(&pooler, &database, &planted).await;
            }
            for read in ["auto", "cursor"] {
                let mut source = source(&pooler, &database, read).await;
                for _ in 0..2 {
                    assert_eq!(source.describe(&model(table("t"))).await.unwrap().len(), 5, "{mode}");
                    assert_eq!(source.describe_projection(&wanted).await.unwrap().len(), 4, "{mode}");
                    let (_, rows) = stage(&mut source, &wanted).await.unwrap_or_else(|error| panic!("{mode}: {error}"));
                    assert!(rows == expected, "{mode}, {read}");
                    let missing = projection(table("t"), "id", &["nothing"]);
                    assert_eq!(source.describe_projection(&missing).await.unwrap_err().kind(), Kind::Source);
                }
                drop(source);
            }
            // THEN none of ours is there
            let left = somebody(
                &pooler,
                &database,
                "SELECT name FROM pg_prepared_statements WHERE statement NOT LIKE 'PREPARE s%'",
            )
            .await;
            assert_eq!(left, Vec::<String>::new(), "{mode}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pooler_does_not_bear_is_a_mistake_in_the_settings() {
    let database = shared().create_database().await;
    database.execute("CREATE TABLE t AS SELECT 1 AS id").await;
    let pooler = Pooler::start("statement", "");
    let mut source = source(&pooler, &database, "auto").await;
    let error = source.describe(&model(table("t"))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config, "{error}");
    assert!(error.advice().unwrap().contains("transaction or session mode"), "{error}");

    let pooler = Pooler::start("transaction", "");
    let refused = async |settings: Value| {
        Postgres::connect(&serde_json::from_value(settings).unwrap(), "warehouse").await.unwrap_err()
    };
    let url = format!("{}?options=-c%20search_path%3Danalytics", pooler.url(&database));
    let error = refused(json!({ "url": url, "sslmode": "disable" })).await;
    assert_eq!(error.kind(), Kind::Config, "{error}");
    assert!(error.advice().unwrap().contains("ignore_startup_parameters"), "{error}");
}
