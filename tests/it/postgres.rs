//! Does a PostgreSQL source stage exactly the rows it should, and say clearly what is wrong when it cannot?

mod encodings;
mod fallback;
mod grants;
mod injection;
mod pooler;
mod refusals;
mod reload;
mod summary;
mod tls;
mod values;

use groupcast::duckdb::{DuckDbConnection, Limits};
use groupcast::error::Result;
use groupcast::mapping::compile::Projection;
use groupcast::mapping::{Expr, From, Model};
use groupcast::model::{Cell, ColumnType};
use groupcast::source::postgres::Postgres;
use groupcast::source::{Source, Staged};
use serde_json::json;

use crate::support::postgres::shared;

pub(crate) fn duckdb() -> DuckDbConnection {
    DuckDbConnection::open(None, &Limits::standard()).unwrap()
}

pub(crate) fn table(name: &str) -> From {
    From::Table(name.split('.').map(str::to_owned).collect())
}

pub(crate) fn model(from: From) -> Model {
    Model { from, filter: None }
}

/// A projection of plain columns.
pub(crate) fn projection(from: From, key: &str, columns: &[&str]) -> Projection {
    Projection {
        from,
        filters: Vec::new(),
        restriction: None,
        key: key.to_owned(),
        columns: columns.iter().map(|name| Expr::Column((*name).to_owned())).collect(),
        cursor: None,
        limit: None,
        summed: false,
    }
}

/// A staged row: the key, and its cells in order.
pub(crate) type Row = (Option<String>, Vec<Cell>);

pub(crate) async fn stage(source: &mut Postgres, projection: &Projection) -> Result<(Staged, Vec<Row>)> {
    let duckdb = duckdb();
    let staged = source.stage(projection, &duckdb, &|_| ()).await?;
    let rows = read(&duckdb, &staged).await;
    Ok((staged, rows))
}

/// The staged rows in key order.
pub(crate) async fn read(duckdb: &DuckDbConnection, staged: &Staged) -> Vec<Row> {
    let columns: Vec<&str> = std::iter::once("key").chain(staged.physical.iter().map(String::as_str)).collect();
    let sql = format!("SELECT {} FROM {} ORDER BY key", columns.join(", "), staged.relation);
    let hashed = format!("SELECT count(DISTINCT hash({})) FROM {}", staged.hashed, staged.relation);
    let width = staged.physical.len();
    duckdb
        .call("read the staged rows", move |connection| {
            let _: i64 = connection.query_row(&hashed, [], |row| row.get(0)).unwrap();
            let mut statement = connection.prepare(&sql).unwrap();
            let rows = statement.query_map([], |row| {
                let cells = (1..=width).map(|at| {
                    Ok(match row.get::<_, duckdb::types::Value>(at)? {
                        duckdb::types::Value::Null => Cell::Null,
                        duckdb::types::Value::Boolean(value) => Cell::Bool(value),
                        duckdb::types::Value::BigInt(value) => Cell::Int(value),
                        duckdb::types::Value::Double(value) => Cell::Double(value),
                        duckdb::types::Value::Text(value) => Cell::Text(value),
                        other => panic!("{other:?} is not a physical form"),
                    })
                });
                Ok((row.get(0)?, cells.collect::<duckdb::Result<_>>()?))
            });
            Ok(rows.unwrap().map(Result::unwrap).collect())
        })
        .await
        .unwrap()
}

fn text(value: &str) -> Cell {
    Cell::Text(value.to_owned())
}

fn key(value: &str) -> Option<String> {
    Some(value.to_owned())
}

#[tokio::test]
async fn a_model_is_described_without_reading_it() {
    let database = shared().create_database().await;
    database
        .execute(
            "CREATE SCHEMA analytics;
             CREATE TABLE analytics.accounts (id int PRIMARY KEY, \"Na me\" varchar(40), arr numeric(38,10) NOT NULL,
                 tags text[], at timestamptz);
             CREATE VIEW analytics.v AS SELECT * FROM analytics.accounts;
             CREATE TABLE left_side (k int NOT NULL)",
        )
        .await;
    let mut source = database.source(json!({})).await;
    let columns = source.describe(&model(table("analytics.accounts"))).await.unwrap();
    let shown: Vec<_> =
        columns.iter().map(|c| (c.name.as_str(), c.kind.clone(), c.declared.as_str(), c.not_null)).collect();
    let texts = ColumnType::List(Box::new(ColumnType::Text));
    let expected = vec![
        ("id", ColumnType::Int, "integer", true),
        ("Na me", ColumnType::Text, "character varying(40)", false),
        ("arr", ColumnType::Decimal, "numeric(38,10)", true),
        ("tags", texts, "text[]", false),
        ("at", ColumnType::Timestamp, "timestamp with time zone", false),
    ];
    assert_eq!(shown, expected);
    let view = source.describe(&model(table("analytics.v"))).await.unwrap();
    assert!(view.iter().all(|column| !column.not_null), "a view promises nothing");
    let joined = From::Query("SELECT a.id, k FROM left_side LEFT JOIN analytics.accounts a ON a.id = k -- all".into());
    let joined = source.describe(&model(joined)).await.unwrap();
    assert!(joined.iter().all(|column| !column.not_null), "an outer join makes null what a table never is");

    let mut projected = projection(table("analytics.accounts"), "id", &["arr"]);
    projected.columns.push(Expr::Sql("arr / 100 -- euros".into()));
    projected.columns.push(Expr::Sql("at::date".into()));
    let columns = source.describe_projection(&projected).await.unwrap();
    let shown: Vec<_> = columns.iter().map(|c| (c.name.as_str(), c.kind.clone(), c.declared.as_str())).collect();
    let expected = vec![
        ("arr", ColumnType::Decimal, "numeric(38,10)"),
        ("arr / 100 -- euros", ColumnType::Decimal, "numeric"),
        ("at::date", ColumnType::Date, "date"),
    ];
    assert_eq!(shown, expected);
    let open: i64 = database
        .client()
        .query_one(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'groupcast' AND datname = $1 \
             AND state <> 'idle'",
            &[&database.name()],
        )
        .await
        .unwrap()
        .get(0);
    assert_eq!(open, 0, "describing leaves no transaction open");
}

#[tokio::test]
async fn tables_views_and_queries_are_filtered_by_the_server() {
    let database = shared().create_database().await;
    database
        .execute(
            "CREATE TABLE accounts (id int, plan text, active bool);
             INSERT INTO accounts VALUES (1, 'pro', true), (2, '', false), (3, NULL, true), (NULL, 'x', true);
             CREATE VIEW actives AS SELECT * FROM accounts WHERE active",
        )
        .await;
    let mut source = database.source(json!({})).await;
    let all = vec![
        (key("1"), vec![text("pro")]),
        (key("2"), vec![text("")]),
        (key("3"), vec![Cell::Null]),
        (None, vec![text("x")]),
    ];
    let (staged, rows) = stage(&mut source, &projection(table("accounts"), "id", &["plan"])).await.unwrap();
    assert_eq!(rows, all);
    assert_eq!((staged.hashed.as_str(), staged.physical, staged.cursor), ("key, c0", vec!["c0".to_owned()], None));

    let without_two = [all[0].clone(), all[2].clone(), all[3].clone()];
    let (_, rows) = stage(&mut source, &projection(table("actives"), "id", &["plan"])).await.unwrap();
    assert_eq!(rows, without_two);

    let query = From::Query("SELECT * FROM accounts -- all; of them".into());
    let mut filtered = projection(query, "id", &[]);
    filtered.columns = vec![Expr::Sql("upper(plan) -- loud".into())];
    filtered.filters = vec!["active -- only".into(), "plan IS NOT NULL OR id = 3".into()];
    let (_, rows) = stage(&mut source, &filtered).await.unwrap();
    assert_eq!(rows, [(key("1"), vec![text("PRO")]), (key("3"), vec![Cell::Null]), (None, vec![text("X")])]);

    let (_, rows) = stage(&mut source, &projection(table("accounts"), "id", &[])).await.unwrap();
    assert_eq!(rows.len(), 4, "a mapping of constants reads keys alone");
    filtered.filters.push("false".into());
    let (staged, rows) = stage(&mut source, &filtered).await.unwrap();
    assert_eq!((rows.len(), staged.kinds), (0, vec![ColumnType::Text]));
}

#[tokio::test]
async fn a_stage_replaces_the_one_before_whatever_it_was() {
    let database = shared().create_database().await;
    database.execute("CREATE TABLE t (id int, a text, b int); INSERT INTO t VALUES (1, 'x', 2)").await;
    let (mut source, duckdb) = (database.source(json!({})).await, duckdb());
    for columns in [&["a"][..], &["b", "a"], &["b"]] {
        let staged = source.stage(&projection(table("t"), "id", columns), &duckdb, &|_| ()).await.unwrap();
        assert_eq!(read(&duckdb, &staged).await[0].1.len(), columns.len());
        source.release(&duckdb).await.unwrap();
    }
}

#[tokio::test]
async fn copy_and_cursor_stage_the_same_rows_in_many_batches() {
    let database = shared().create_database().await;
    database
        .execute(
            "CREATE TABLE big AS SELECT n AS id, repeat(md5(n::text), n % 7) AS t, n * 1.25 AS d,
                 CASE WHEN n % 3 > 0 THEN n END AS i, ARRAY[n, NULL] AS l FROM generate_series(1, 50003) n",
        )
        .await;
    let wanted = projection(table("big"), "id", &["t", "d", "i", "l"]);
    let (mut by_copy, mut by_cursor) =
        (database.source(json!({"read": "copy"})).await, database.source(json!({"read": "cursor"})).await);
    let reported = std::sync::Mutex::new(Vec::new());
    let duckdb = duckdb();
    let staged = by_copy.stage(&wanted, &duckdb, &|rows| reported.lock().unwrap().push(rows)).await.unwrap();
    let copied = read(&duckdb, &staged).await;
    let reported = reported.into_inner().unwrap();
    assert!(reported.len() > 2 && reported.is_sorted() && reported.last() == Some(&50_003), "{reported:?}");
    let (also, fetched) = stage(&mut by_cursor, &wanted).await.unwrap();
    assert_eq!(copied.len(), 50_003);
    assert!(copied == fetched, "the two ways differ");
    assert_eq!(format!("{staged:?}"), format!("{also:?}"));
}

#[tokio::test]
async fn rows_committed_while_staging_are_not_seen() {
    let database = shared().create_database().await;
    database
        .execute("CREATE TABLE t AS SELECT n AS id, repeat('x', 400) AS pad, 1 AS v FROM generate_series(1, 60000) n")
        .await;
    for read in ["auto", "copy", "cursor"] {
        let mut source = database.source(json!({"read": read})).await;
        let (duckdb, wanted) = (duckdb(), projection(table("t"), "id", &["v", "pad"]));
        // GIVEN another session that commits after the first batch and before the second is asked for
        let (first, seen) = std::sync::mpsc::channel();
        let (go_on, gone_on) = std::sync::mpsc::channel::<()>();
        let gone_on = std::sync::Mutex::new(gone_on);
        let first = std::sync::Mutex::new(Some(first));
        let tell = move |_| {
            if let Some(first) = first.lock().unwrap().take() {
                first.send(()).unwrap();
                gone_on.lock().unwrap().recv().unwrap();
            }
        };
        let staging = tokio::task::spawn_blocking({
            let runtime = tokio::runtime::Handle::current();
            move || {
                let staged = runtime.block_on(source.stage(&wanted, &duckdb, &tell)).unwrap();
                runtime.block_on(self::read(&duckdb, &staged))
            }
        });
        tokio::task::spawn_blocking(move || seen.recv().unwrap()).await.unwrap();
        // WHEN it changes every row and adds some
        database.execute("UPDATE t SET v = v + 1; INSERT INTO t SELECT -n, '', 0 FROM generate_series(1, 5) n").await;
        go_on.send(()).unwrap();
        // THEN the stage holds the rows as they were
        let rows = staging.await.unwrap();
        assert_eq!(rows.len(), 60_000, "{read}");
        assert!(rows.iter().all(|(_, cells)| cells[0] == Cell::Int(1)), "{read}: a row of the later snapshot");
        database.execute("UPDATE t SET v = 1; DELETE FROM t WHERE id < 0").await;
    }
}

#[tokio::test]
async fn the_cursors_maximum_reads_back_as_a_literal() {
    let database = shared().create_database().await;
    database
        .execute(
            "CREATE TABLE t (id int, at timestamptz, plain timestamp, day date, n bigint, word text, amount numeric);
             INSERT INTO t VALUES
                (1, '2024-05-06 09:08:07.654321+02', '2024-05-06 09:08:07', '0044-03-15 BC', -5, 'Zebra', 1),
                (2, '1999-12-31 00:00:00Z', '1998-01-02 03:04:05.000001', '-infinity', 9223372036854775807, 'apple', 2),
                (3, 'infinity', NULL, 'infinity', NULL, NULL, 3)",
        )
        .await;
    let mut source = database.source(json!({})).await;
    for (column, of, expected) in [
        ("at", "timestamptz", "2024-05-06 07:08:07.654321+00"),
        ("plain", "timestamp", "2024-05-06 09:08:07.000000"),
        ("day", "date", "0044-03-15 BC"),
        ("n", "bigint", "9223372036854775807"),
        ("word", "text", "apple"),
    ] {
        let mut wanted = projection(table("t"), "id", &["word"]);
        wanted.cursor = Some(column.to_owned());
        let (staged, rows) = stage(&mut source, &wanted).await.unwrap();
        assert_eq!((staged.cursor.as_deref(), rows.len(), staged.physical.len()), (Some(expected), 3, 1), "{column}");
        // The next run's condition: the row itself is still in, whatever the server's own date style.
        wanted.filters = vec![format!("{column} >= '{expected}' AND {column} = {of} '{expected}'")];
        assert_eq!(stage(&mut source, &wanted).await.unwrap().1.len(), 1, "{column}");
        wanted.filters = vec!["false".to_owned()];
        assert_eq!(stage(&mut source, &wanted).await.unwrap().0.cursor, None);
    }
    let mut wanted = projection(table("t"), "id", &["word"]);
    wanted.cursor = Some("amount".to_owned());
    let error = stage(&mut source, &wanted).await.unwrap_err();
    assert!(error.to_string().contains("`amount` is numeric") && error.advice().is_some(), "{error}");
}

#[tokio::test]
async fn a_cursor_in_the_future_moves_no_checkpoint() {
    let database = shared().create_database().await;
    database
        .execute(
            "CREATE TABLE t (id int, at timestamptz, plain timestamp, day date, n bigint);
             INSERT INTO t VALUES (1, '2024-05-06 07:08:07Z', '2024-05-06 07:08:07', '2024-05-06', 1),
                (2, '9999-12-31', '12024-01-02 03:04:05', '9999-12-31', 2),
                (3, now() + interval '10 minutes', (now() AT TIME ZONE 'UTC') + interval '10 minutes',
                    (now() AT TIME ZONE 'UTC')::date + 1, 3),
                (4, 'infinity', 'infinity', 'infinity', 4)",
        )
        .await;
    let mut source = database.source(json!({})).await;
    for (column, expected, ahead) in [
        ("at", "2024-05-06 07:08:07.000000+00", 2),
        ("plain", "2024-05-06 07:08:07.000000", 2),
        ("day", "2024-05-06", 2),
        ("n", "4", 0),
    ] {
        let mut wanted = projection(table("t"), "id", &[]);
        wanted.cursor = Some(column.to_owned());
        let (staged, rows) = stage(&mut source, &wanted).await.unwrap();
        assert_eq!((staged.cursor.as_deref(), rows.len()), (Some(expected), 4), "{column}");
        assert_eq!(staged.ahead.map_or(0, |ahead| ahead.rows), ahead, "{column}");
    }
}

#[tokio::test]
async fn every_way_of_reading_takes_types_that_users_made() {
    let database = shared().create_database().await;
    database
        .execute(
            "CREATE TYPE mood AS ENUM ('sad', 'it''s ok'); CREATE DOMAIN positive AS int CHECK (VALUE > 0);
             CREATE DOMAIN amount AS numeric(10,2); CREATE DOMAIN moody AS mood; CREATE TYPE pair AS (a int, b text);
             CREATE TABLE t (id positive, m mood, ms mood[], p positive, ps positive[], a amount, amounts amount[], md moody,
                 mds moody[], pr pair, prs pair[], r int4range, flags bool[]);
             INSERT INTO t VALUES (1, 'sad', '{sad,NULL}', 2, '{3,4}', 1.50, '{2.50}', 'it''s ok', '{sad}', '(1,x)',
                 ARRAY[ROW(2,'y')::pair], '[1,5)', '{t,f}')",
        )
        .await;
    let columns = ["m", "ms", "p", "ps", "a", "amounts", "md", "mds", "pr", "prs", "r", "flags"];
    let wanted = projection(table("t"), "id", &columns);
    let expected = vec![
        text("sad"),
        text(r#"["sad",null]"#),
        Cell::Int(2),
        text("[3,4]"),
        text("1.50"),
        text(r#"["2.50"]"#),
        text("it's ok"),
        text(r#"["sad"]"#),
        text("(1,x)"),
        text(r#"["(2,y)"]"#),
        text("[1,5)"),
        text("[true,false]"),
    ];
    for read in ["auto", "copy", "cursor"] {
        let mut source = database.source(json!({ "read": read })).await;
        let (_, rows) = stage(&mut source, &wanted).await.unwrap();
        assert_eq!(rows, [(key("1"), expected.clone())], "{read}");
        let declared: Vec<String> =
            source.describe_projection(&wanted).await.unwrap().into_iter().map(|column| column.declared).collect();
        let shown = ["mood", "mood[]", "integer", "positive[]", "numeric(10,2)", "amount[]", "mood", "moody[]", "pair"];
        assert_eq!(declared[..9], shown, "{read}");
    }
}
