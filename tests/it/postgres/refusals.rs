//! What does a source say when it cannot read, and what does it leave behind?

use std::time::Duration;

use groupcast::error::{Error, Kind};
use groupcast::mapping::{Expr, From, Model};
use groupcast::source::Source as _;
use groupcast::source::postgres::Postgres;
use serde_json::{Value, json};

use super::{duckdb, model, projection, stage, table};
use crate::support::postgres::{Cluster, Database, SCRAM_PASSWORD, SCRAM_USER, shared};

const PASSWORD: &str = SCRAM_PASSWORD;

/// Checks an error's kind, words and advice, and that it gives away no secret.
#[track_caller]
fn check(error: &Error, kind: Kind, words: &[&str], advice: &str) {
    assert_eq!(error.kind(), kind, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "`{word}` is missing: {error}");
    }
    let given = error.advice().unwrap_or_else(|| panic!("no advice: {error}"));
    assert!(given.contains(advice), "`{advice}` is missing: {given}");
    for text in [error.to_string(), format!("{error:?}")] {
        assert!(!text.contains(PASSWORD) && !text.contains("postgres://"), "{text}");
    }
}

async fn refused(url: String, more: Value) -> Error {
    let mut settings = json!({ "url": url });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Postgres::connect(&serde_json::from_value(settings).unwrap(), "warehouse").await.unwrap_err()
}

#[tokio::test]
async fn who_is_not_let_in_learns_why() {
    let database = shared().create_database().await;
    database
        .execute(&format!(
            "{SCRAM_USER}; DO $$ BEGIN CREATE ROLE stranger LOGIN; CREATE ROLE narrow LOGIN CONNECTION LIMIT 1; END $$"
        ))
        .await;
    let (port, name) = (shared().port(), database.name());
    let with = |user: &str, password: &str| format!("postgres://{user}:{password}@127.0.0.1:{port}/{name}");
    let settings = database.settings_as("scram_user", json!({ "password": PASSWORD }));
    let source = Postgres::connect(&settings, "warehouse").await.unwrap();
    assert!(!format!("{source:?} {settings:?}").contains(PASSWORD));
    assert!(
        Postgres::connect(&serde_json::from_value(json!({"url": with("scram_user", PASSWORD)})).unwrap(), "w")
            .await
            .is_ok()
    );

    let wrong = refused(with("scram_user", &format!("{PASSWORD}1")), json!({})).await;
    check(&wrong, Kind::Source, &["source warehouse: ", "28P01", &format!("127.0.0.1:{port}"), name], "password");
    let missing = refused(format!("postgres://scram_user@127.0.0.1:{port}/{name}"), json!({})).await;
    check(&missing, Kind::Source, &["requires a password"], "password");
    let stranger = refused(with("stranger", PASSWORD), json!({"sslmode": "disable"})).await;
    check(&stranger, Kind::Source, &["28000", "stranger"], "pg_hba");
    let nobody = refused(with("no_such_role", PASSWORD), json!({})).await;
    check(&nobody, Kind::Source, &["no_such_role"], "user");
    let nowhere = refused(format!("postgres://root_user:{PASSWORD}@127.0.0.1:{port}/no_such_db"), json!({})).await;
    check(&nowhere, Kind::Source, &["3D000", "no_such_db"], "database");
    let _first = Postgres::connect(&database.settings_as("narrow", json!({})), "warehouse").await.unwrap();
    let second = refused(with("narrow", PASSWORD), json!({})).await;
    check(&second, Kind::SourceBusy, &["53300"], "close other connections");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_busy() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let down = refused(format!("postgres://u:{PASSWORD}@127.0.0.1:{port}/db"), json!({})).await;
    check(&down, Kind::SourceBusy, &[&format!("127.0.0.1:{port}"), "nothing listens"], "start the server");
    let down = refused(format!("postgres://u:{PASSWORD}@127.0.0.1:{port}/db?sslmode=require"), json!({})).await;
    check(&down, Kind::SourceBusy, &["nothing listens"], "start the server");
    let socket = refused(format!("host=/nowhere user=u password={PASSWORD}"), json!({})).await;
    check(&socket, Kind::SourceBusy, &["no such socket"], "start the server");
    let unknown = refused(format!("postgres://u:{PASSWORD}@no-such-host.invalid/db"), json!({})).await;
    check(&unknown, Kind::SourceBusy, &["no-such-host.invalid:5432"], "host");
    // A listener that never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://u:{PASSWORD}@{}/db", silent.local_addr().unwrap());
    let silent = refused(url, json!({"connect_timeout_seconds": 1})).await;
    check(&silent, Kind::SourceBusy, &["did not answer within 1 s"], "firewall");
}

#[tokio::test]
async fn a_unix_socket_needs_no_tls() {
    let database = shared().create_database().await;
    database.execute("CREATE TABLE t AS SELECT 1 AS id").await;
    let url = format!(
        "host={} port={} user=root_user dbname={} sslmode=require",
        shared().socket_folder().display(),
        shared().port(),
        database.name()
    );
    let mut source = Postgres::connect(&serde_json::from_value(json!({ "url": url })).unwrap(), "w").await.unwrap();
    assert_eq!(stage(&mut source, &projection(table("t"), "id", &[])).await.unwrap().1.len(), 1);
}

#[tokio::test]
async fn what_the_model_gets_wrong_is_named() {
    let database = shared().create_database().await;
    database
        .execute(
            "CREATE SCHEMA hidden; CREATE TABLE hidden.t (id int); CREATE TABLE closed (id int);
             CREATE TABLE accounts (id int, account_name text, plan text); INSERT INTO accounts VALUES (1, 'x', 'y');
             CREATE FUNCTION writes() RETURNS int LANGUAGE sql AS 'DELETE FROM accounts RETURNING 1';
             DO $$ BEGIN CREATE ROLE reader LOGIN; END $$; GRANT SELECT ON accounts TO reader",
        )
        .await;
    let mut source = Postgres::connect(&database.settings_as("reader", json!({})), "warehouse").await.unwrap();
    for (from, words, advice) in [
        ("nowhere", &["42P01", "nowhere"][..], "name"),
        ("no_schema.t", &["no_schema"], "name"),
        ("closed", &["42501", "closed"], "GRANT SELECT"),
        ("hidden.t", &["42501", "hidden"], "GRANT USAGE"),
    ] {
        let error = source.describe(&model(table(from))).await.unwrap_err();
        check(&error, Kind::Source, words, advice);
        let error = source.describe_projection(&projection(table(from), "id", &["id"])).await.unwrap_err();
        check(&error, Kind::Source, words, advice);
        let error = stage(&mut source, &projection(table(from), "id", &["id"])).await.unwrap_err();
        check(&error, Kind::Source, words, advice);
    }
    let sql = From::Query("SELECT id,\n  account_name,,\n  plan FROM accounts".into());
    let error = source.describe(&model(sql)).await.unwrap_err();
    check(&error, Kind::Source, &["42601", "line 2, column 16 of the model's SQL"], "correct the SQL");
    let filter = Model { from: table("accounts"), filter: Some("plan = = 'pro'".into()) };
    let error = source.describe(&filter).await.unwrap_err();
    check(&error, Kind::Source, &["42601", "line 1, column 8 of the condition"], "correct the SQL");

    let mut wanted = projection(table("accounts"), "id", &["plan", "acount_name"]);
    for error in
        [source.describe_projection(&wanted).await.unwrap_err(), stage(&mut source, &wanted).await.unwrap_err()]
    {
        check(
            &error,
            Kind::Source,
            &["`accounts` has no column `acount_name`", "42703"],
            "did you mean `account_name`?",
        );
    }
    wanted.columns = vec![Expr::Column("zzz".into())];
    let error = source.describe_projection(&wanted).await.unwrap_err();
    check(&error, Kind::Source, &["`zzz`"], "id, account_name, plan");
    wanted = projection(table("accounts"), "ID", &[]);
    let error = source.describe_projection(&wanted).await.unwrap_err();
    check(&error, Kind::Source, &["`ID`"], "did you mean `id`?");
    wanted = projection(table("accounts"), "id", &["plan"]);
    wanted.cursor = Some("updated_at".into());
    let error = source.describe_projection(&wanted).await.unwrap_err();
    check(&error, Kind::Source, &["`updated_at`"], "account_name");
    wanted.cursor = None;
    wanted.columns = vec![Expr::Sql("upper(plan)".into()), Expr::Sql("lower(plans)".into())];
    let error = source.describe_projection(&wanted).await.unwrap_err();
    check(&error, Kind::Source, &["`lower(plans)`", "42703", "line 1, column 7"], "accounts.plan");
    wanted.columns = vec![Expr::Sql("nonsense(plan)".into())];
    let error = source.describe_projection(&wanted).await.unwrap_err();
    check(&error, Kind::Source, &["`nonsense(plan)`", "42883"], "SQL");
    wanted.columns = vec![Expr::Column("plan".into())];
    wanted.filters = vec!["plan = 'x'".into(), "id = 'x'".into()];
    let error = source.describe_projection(&wanted).await.unwrap_err();
    check(&error, Kind::Source, &["failed to filter"], "data");

    // Errors that only rows bring out. The value stays out of the message.
    wanted = projection(table("accounts"), "id", &[]);
    wanted.columns = vec![Expr::Sql("('secret' || plan)::int".into())];
    for read in ["auto", "copy", "cursor"] {
        let settings = database.settings(json!({ "read": read }));
        let mut source = Postgres::connect(&settings, "warehouse").await.unwrap();
        let error = stage(&mut source, &wanted).await.unwrap_err();
        check(&error, Kind::Source, &["nothing was sent", "22P02"], "data");
        assert!(!error.to_string().contains("secrety"), "{error}");
        wanted.columns = vec![Expr::Sql("writes()".into())];
        let error = stage(&mut source, &wanted).await.unwrap_err();
        check(&error, Kind::Source, &["25006"], "only read");
        wanted.columns = vec![Expr::Sql("('secret' || plan)::int".into())];
    }
    // After all that, the same source still reads.
    let (_, rows) = stage(&mut source, &projection(table("accounts"), "id", &["plan"])).await.unwrap();
    assert_eq!(rows.len(), 1);
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_busy() {
    let database = shared().create_database().await;
    database.execute("CREATE TABLE t AS SELECT n AS id FROM generate_series(1, 100) n").await;
    for read in ["auto", "copy", "cursor"] {
        let mut source = database.source(json!({"read": read, "statement_timeout_seconds": 1})).await;
        let mut wanted = projection(table("t"), "id", &[]);
        wanted.columns = vec![Expr::Sql("pg_sleep(0.2)::text".into())];
        let error = stage(&mut source, &wanted).await.unwrap_err();
        check(&error, Kind::SourceBusy, &["57014", "nothing was sent"], "statement_timeout_seconds");
    }
}

/// Stops or continues a process of the server's, as an operator or a hanging disk does.
fn signal(pid: i32, name: &str) {
    let sent = std::process::Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

/// The server's process that serves our source.
async fn server_process(database: &Database) -> i32 {
    let question = "SELECT pid FROM pg_stat_activity WHERE application_name = 'groupcast' AND datname = $1";
    database.client().query_one(question, &[&database.name()]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_server_that_stalls_without_closing_is_given_up() {
    let database = shared().create_database().await;
    database
        .execute("CREATE TABLE t AS SELECT n AS id, repeat('x', 500) AS pad FROM generate_series(1, 200000) n")
        .await;
    for read in ["copy", "cursor"] {
        let (mut source, duckdb) = (database.source(json!({"read": read, "stall_timeout_seconds": 1})).await, duckdb());
        // GIVEN a server that stops after the first batch and keeps the connection open
        let pid = server_process(&database).await;
        let stopped = std::sync::Once::new();
        let stop = |_| stopped.call_once(|| signal(pid, "STOP"));
        let wanted = projection(table("t"), "id", &["pad"]);
        let staged = source.stage(&wanted, &duckdb, &stop);
        let error = tokio::time::timeout(Duration::from_secs(30), staged).await.expect("it is given up").unwrap_err();
        signal(pid, "CONT");
        // THEN the read is given up, and the next one finds the server again
        check(&error, Kind::SourceBusy, &["nothing was sent", "sent nothing for 1s"], "stall_timeout_seconds");
        let (_, rows) = stage(&mut source, &projection(table("t"), "id", &[])).await.unwrap();
        assert_eq!(rows.len(), 200_000);
        // GIVEN one that stops before it is asked
        let pid = server_process(&database).await;
        signal(pid, "STOP");
        let wanted = model(table("t"));
        let described = source.describe(&wanted);
        let error = tokio::time::timeout(Duration::from_secs(30), described).await.expect("too").unwrap_err();
        check(&error, Kind::SourceBusy, &["failed to describe", "sent nothing for 1s"], "stall_timeout_seconds");
        let released = tokio::time::timeout(Duration::from_secs(30), source.release(&duckdb)).await;
        released.expect("nothing is held").unwrap();
        signal(pid, "CONT");
        assert_eq!(source.describe(&model(table("t"))).await.unwrap().len(), 2);
        drop(source);
    }
}

#[tokio::test]
async fn rows_that_come_slowly_are_no_stall() {
    let database = shared().create_database().await;
    database.execute("CREATE TABLE t AS SELECT n AS id FROM generate_series(1, 25) n").await;
    let mut wanted = projection(table("t"), "id", &[]);
    // Wider than the server's buffer, so that each row is sent when it is there.
    wanted.columns = vec![Expr::Sql("repeat('x', 10000) || pg_sleep(0.1)::text".into())];
    let mut source = database.source(json!({"read": "copy", "stall_timeout_seconds": 1})).await;
    let (_, rows) = stage(&mut source, &wanted).await.unwrap();
    assert_eq!(rows.len(), 25);
}

#[tokio::test]
async fn a_server_that_goes_away_while_reading_is_busy() {
    for read in ["auto", "copy", "cursor"] {
        // GIVEN a server of our own with more rows than the buffers between us hold
        let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start()));
        let database = cluster.create_database().await;
        database
            .execute("CREATE TABLE t AS SELECT n AS id, repeat('x', 500) AS pad FROM generate_series(1, 200000) n")
            .await;
        let (mut source, duckdb) = (database.source(json!({"read": read})).await, duckdb());
        // WHEN it is gone after the first batch
        let stopped = std::sync::Once::new();
        let stop = |_| stopped.call_once(|| cluster.stop());
        let error = source.stage(&projection(table("t"), "id", &["pad"]), &duckdb, &stop).await.unwrap_err();
        // THEN the error says so, no half table is left, and so does the next call
        check(&error, Kind::SourceBusy, &["nothing was sent"], "");
        let left: i64 = duckdb
            .call("count tables", |connection| {
                Ok(connection.query_row("SELECT count(*) FROM duckdb_tables()", [], |row| row.get(0)).unwrap())
            })
            .await
            .unwrap();
        assert_eq!(left, 0);
        let error = source.describe(&model(table("t"))).await.unwrap_err();
        check(&error, Kind::SourceBusy, &["nothing listens"], "start the server");
        assert!(!cluster.socket_folder().exists(), "the cluster's folder is gone");
    }
}

#[tokio::test]
async fn a_dropped_stage_ends_its_statement_at_the_server() {
    let database = shared().create_database().await;
    database.execute("CREATE TABLE t AS SELECT n AS id FROM generate_series(1, 100000) n").await;
    for read in ["auto", "copy", "cursor"] {
        let (mut source, duckdb) = (database.source(json!({"read": read})).await, duckdb());
        let mut wanted = projection(table("t"), "id", &[]);
        wanted.columns = vec![Expr::Sql("pg_sleep(CASE WHEN id > 50000 THEN 600 ELSE 0 END)::text".into())];
        // GIVEN a stage that has rows and waits for more for ten minutes
        let begun = tokio::sync::Notify::new();
        let tell = |_| begun.notify_one();
        tokio::select! {
            _ = source.stage(&wanted, &duckdb, &tell) => panic!("this takes minutes"),
            // WHEN it is dropped
            () = begun.notified() => {}
        }
        // THEN the session ends long before the statement would have, and the source goes on
        let question = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'groupcast' AND datname = $1";
        let gone = async {
            while database.client().query_one(question, &[&database.name()]).await.unwrap().get::<_, i64>(0) > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), gone).await.expect("the server still reads for nobody");
        let (_, rows) = stage(&mut source, &projection(table("t"), "id", &[])).await.unwrap();
        assert_eq!(rows.len(), 100_000);
        drop(source);
    }
}
