//! Does the DuckDB source hand over exactly the rows a file holds, in one snapshot, and let go of the file afterwards?

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use duckdb::Connection;
use duckdb::types::Value as DuckValue;
use groupcast::duckdb::{DuckDbConnection, Limits, ledger_error};
use groupcast::error::{Error, Kind};
use groupcast::mapping::compile::Projection;
use groupcast::mapping::{Expr, From, Model};
use groupcast::model::cell::{self, As};
use groupcast::model::{Cell, ColumnType};
use groupcast::source::duckdb::{DuckDb, DuckDbSettings};
use groupcast::source::{Source, Staged};
use serde_json::{Value, json};

/// A folder with a warehouse file and a connection to stage into, which has a table of its own.
struct Bench {
    folder: tempfile::TempDir,
    into: DuckDbConnection,
}

impl Bench {
    async fn with(setup: &str) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let warehouse = Connection::open(folder.path().join("warehouse.duckdb")).unwrap();
        warehouse.execute_batch(setup).unwrap();
        drop(warehouse);
        let into = DuckDbConnection::open(Some(&folder.path().join("ledger.duckdb")), &Limits::standard()).unwrap();
        let bench = Bench { folder, into };
        bench.run("CREATE TABLE known AS SELECT 'ours' AS account_id, 1 AS n").await;
        bench
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("warehouse.duckdb")
    }

    fn source(&self) -> DuckDb {
        DuckDb::open(
            &DuckDbSettings { path: Some(self.file()), ..DuckDbSettings::default() },
            "warehouse",
            self.folder.path(),
            &Limits::standard(),
        )
        .unwrap()
    }

    fn fileless(&self) -> DuckDb {
        DuckDb::open(&DuckDbSettings::default(), "files", self.folder.path(), &Limits::standard()).unwrap()
    }

    async fn run(&self, sql: &str) {
        let sql = sql.to_owned();
        self.into.call("run", move |c| c.execute_batch(&sql).map_err(ledger_error("run"))).await.unwrap();
    }

    async fn query(&self, sql: String) -> Vec<Vec<DuckValue>> {
        self.into
            .call("query", move |connection| {
                let mut statement = connection.prepare(&sql).map_err(ledger_error("prepare"))?;
                let mut rows = statement.query([]).map_err(ledger_error("query"))?;
                let mut out = Vec::new();
                while let Some(row) = rows.next().map_err(ledger_error("fetch"))? {
                    let count = row.as_ref().column_count();
                    out.push((0..count).map(|n| row.get(n).unwrap()).collect());
                }
                Ok(out)
            })
            .await
            .unwrap()
    }

    /// The staged rows in key order: the key and the cells.
    async fn cells(&self, staged: &Staged) -> Vec<(String, Vec<Cell>)> {
        let physical: String = staged.physical.iter().map(|sql| format!(", {sql}")).collect();
        let rows = self.query(format!("SELECT key{physical} FROM {} ORDER BY key", staged.relation)).await;
        rows.into_iter()
            .map(|row| {
                let mut row = row.into_iter();
                let DuckValue::Text(key) = row.next().unwrap() else { panic!("a key is text") };
                let cells = row.map(|value| match value {
                    DuckValue::Null => Cell::Null,
                    DuckValue::Boolean(bool) => Cell::Bool(bool),
                    DuckValue::BigInt(int) => Cell::Int(int),
                    DuckValue::Double(double) => Cell::Double(double),
                    DuckValue::Text(text) => Cell::Text(text),
                    other => panic!("{other:?} is no physical form"),
                });
                (key, cells.collect())
            })
            .collect()
    }

    async fn hashes(&self, staged: &Staged) -> Vec<Vec<DuckValue>> {
        self.query(format!("SELECT key, hash({}) FROM {} ORDER BY key", staged.hashed, staged.relation)).await
    }

    /// Whether the source's lock is gone: another process can open the file for writing.
    fn can_be_written(&self) -> bool {
        Holder::start(&self.file()).is_some_and(|holder| {
            holder.stop();
            true
        })
    }

    async fn assert_clean(&self) {
        let attached = self.query("SELECT database_name FROM duckdb_databases() WHERE NOT internal".to_owned()).await;
        assert_eq!(attached, [[DuckValue::Text("ledger".to_owned())]]);
        let temporary = self.query("SELECT table_name FROM duckdb_tables() WHERE temporary".to_owned()).await;
        assert_eq!(temporary, Vec::<Vec<DuckValue>>::new());
        let session = self.query("SELECT current_database(), current_setting('file_search_path')".to_owned()).await;
        assert_eq!(session, [[DuckValue::Text("ledger".to_owned()), DuckValue::Text(String::new())]]);
    }
}

fn table(name: &str) -> From {
    From::Table(name.split('.').map(str::to_owned).collect())
}

fn query(sql: &str) -> From {
    From::Query(sql.to_owned())
}

fn reading(from: From, key: &str, columns: &[&str]) -> Projection {
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

async fn stage(source: &mut DuckDb, projection: &Projection, into: &DuckDbConnection) -> Result<Staged, Error> {
    source.stage(projection, into, &|_| {}).await
}

/// Whether nothing was copied.
fn is_in_place(staged: &Staged) -> bool {
    staged.relation.starts_with("(SELECT")
}

/// The document's value, exact numbers as numbers.
fn value(cell: &Cell, kind: &ColumnType) -> Value {
    let declared = kind.default_as().is_none().then_some(As::Number);
    cell::to_json(cell, kind, declared).unwrap()
}

/// Another process that has the file open for writing until it is told to stop.
struct Holder {
    child: Child,
    output: std::io::Lines<BufReader<ChildStdout>>,
}

impl Holder {
    /// `None` when the other process cannot open the file.
    fn start(file: &Path) -> Option<Holder> {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "duckdb_source::holds_a_file_for_another_test", "--ignored", "--nocapture"])
            .env("GROUPCAST_TEST_HOLD", file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        if output.by_ref().any(|line| line.unwrap().contains("HELD")) {
            return Some(Holder { child, output });
        }
        child.wait().unwrap();
        None
    }

    fn stop(mut self) {
        self.child.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert!(self.output.all(|line| line.is_ok()));
        self.child.wait().unwrap();
    }
}

#[test]
#[ignore = "the other process of the lock tests, which start it themselves"]
fn holds_a_file_for_another_test() {
    let file = std::env::var_os("GROUPCAST_TEST_HOLD").expect("only the lock tests start this");
    match Connection::open(file) {
        Ok(connection) => {
            connection.execute_batch("CREATE OR REPLACE TABLE written AS SELECT 1 AS n").unwrap();
            println!("\nHELD");
            std::io::stdin().read_line(&mut String::new()).unwrap();
        }
        Err(_) => println!("\nREFUSED"),
    }
}

/// Type, literal, what the source says of it, and the text of the value.
fn scalars() -> Vec<(&'static str, &'static str, ColumnType, &'static str)> {
    vec![
        ("BOOLEAN", "true", ColumnType::Bool, "true"),
        ("TINYINT", "-128", ColumnType::Int, "-128"),
        ("UTINYINT", "255", ColumnType::Int, "255"),
        ("SMALLINT", "-32768", ColumnType::Int, "-32768"),
        ("USMALLINT", "65535", ColumnType::Int, "65535"),
        ("INTEGER", "-2147483648", ColumnType::Int, "-2147483648"),
        ("UINTEGER", "4294967295", ColumnType::Int, "4294967295"),
        ("BIGINT", "'-9223372036854775808'", ColumnType::Int, "-9223372036854775808"),
        ("BIGINT", "9223372036854775807", ColumnType::Int, "9223372036854775807"),
        ("UBIGINT", "18446744073709551615", ColumnType::HugeInt, "18446744073709551615"),
        (
            "HUGEINT",
            "'-170141183460469231731687303715884105728'",
            ColumnType::HugeInt,
            "-170141183460469231731687303715884105728",
        ),
        (
            "UHUGEINT",
            "'340282366920938463463374607431768211455'",
            ColumnType::HugeInt,
            "340282366920938463463374607431768211455",
        ),
        (
            "DECIMAL(38,10)",
            "'1234567890123456789012345678.0123456789'",
            ColumnType::Decimal,
            "1234567890123456789012345678.0123456789",
        ),
        ("DECIMAL(4,2)", "-0.05", ColumnType::Decimal, "-0.05"),
        ("FLOAT", "0.1", ColumnType::Float32, "0.1"),
        ("FLOAT", "'-inf'", ColumnType::Float32, "-Infinity"),
        ("DOUBLE", "0.1", ColumnType::Float64, "0.1"),
        ("DOUBLE", "'5e-324'", ColumnType::Float64, "5e-324"),
        ("DOUBLE", "'nan'", ColumnType::Float64, "NaN"),
        ("DOUBLE", "'inf'", ColumnType::Float64, "Infinity"),
        ("VARCHAR", "'Zoë \"O''Neil\" 🦆'", ColumnType::Text, "Zoë \"O'Neil\" 🦆"),
        ("VARCHAR", "''", ColumnType::Text, ""),
        ("ENUM('free', 'p''ro')", "'p''ro'", ColumnType::Text, "p'ro"),
        ("UUID", "'159D3FAE-1c2c-43e1-b7e6-98d9a9a2993a'", ColumnType::Uuid, "159d3fae-1c2c-43e1-b7e6-98d9a9a2993a"),
        ("JSON", "'{\"b\": 9007199254740993, \"a\": 1.10}'", ColumnType::Json, r#"{"a":1.1,"b":9007199254740993}"#),
        ("BLOB", "'\\xFF\\x00a'", ColumnType::Bytes, "ff0061"),
        ("DATE", "'2024-02-29'", ColumnType::Date, "2024-02-29"),
        ("DATE", "'0044-03-15 (BC)'", ColumnType::Date, "-0043-03-15"),
        ("DATE", "'infinity'", ColumnType::Date, "infinity"),
        ("DATE", "'-infinity'", ColumnType::Date, "-infinity"),
        ("TIME", "'12:34:56.789'", ColumnType::Time, "12:34:56.789"),
        ("TIME", "'24:00:00'", ColumnType::Time, "24:00:00"),
        ("TIME_NS", "'12:34:56.123456789'", ColumnType::Other, "12:34:56.123456789"),
        ("TIMETZ", "'12:00:00+05'", ColumnType::Other, "12:00:00+05"),
        ("TIMESTAMP", "'1969-12-31 23:59:59.5'", ColumnType::Timestamp, "1969-12-31T23:59:59.500Z"),
        ("TIMESTAMP", "'infinity'", ColumnType::Timestamp, "infinity"),
        ("TIMESTAMP", "'-infinity'", ColumnType::Timestamp, "-infinity"),
        ("TIMESTAMP_S", "'2024-01-01 00:00:01'", ColumnType::Timestamp, "2024-01-01T00:00:01Z"),
        ("TIMESTAMP_S", "'infinity'", ColumnType::Timestamp, "infinity"),
        ("TIMESTAMP_MS", "'2024-01-01 00:00:01.25'", ColumnType::Timestamp, "2024-01-01T00:00:01.250Z"),
        ("TIMESTAMP_NS", "'1970-01-01 00:00:00.000000001'", ColumnType::TimestampNs, "1970-01-01T00:00:00.000000001Z"),
        ("TIMESTAMP_NS", "'1677-09-22 00:00:00'", ColumnType::TimestampNs, "1677-09-22T00:00:00Z"),
        ("TIMESTAMP_NS", "'infinity'", ColumnType::TimestampNs, "infinity"),
        ("TIMESTAMPTZ", "'2024-05-06 09:08:07.5+02'", ColumnType::Timestamp, "2024-05-06T07:08:07.500Z"),
        ("TIMESTAMPTZ", "'-infinity'", ColumnType::Timestamp, "-infinity"),
        ("INTERVAL", "'14 months 3 days 14706500000 microseconds'", ColumnType::Interval, "P1Y2M3DT4H5M6.5S"),
        ("INTERVAL", "'-1 month'", ColumnType::Interval, "P-1M"),
        ("BIT", "'10101'", ColumnType::Other, "10101"),
        (
            "BIGNUM",
            "'123456789012345678901234567890123456789012345'",
            ColumnType::HugeInt,
            "123456789012345678901234567890123456789012345",
        ),
    ]
}

#[tokio::test]
async fn every_scalar_keeps_its_value_in_place_and_staged() {
    // GIVEN a table with a column per type, a row of values and a row of nulls, and a view of it
    let scalars = scalars();
    let names: Vec<String> = (0..scalars.len()).map(|n| format!("v{n}")).collect();
    let columns: Vec<String> = scalars.iter().zip(&names).map(|(row, name)| format!("{name} {}", row.0)).collect();
    let literals: Vec<String> = scalars.iter().map(|row| format!("CAST({} AS {})", row.1, row.0)).collect();
    let bench = Bench::with(&format!(
        "CREATE TABLE t (id INTEGER NOT NULL, {}); INSERT INTO t SELECT 1, {}; INSERT INTO t (id) VALUES (2); \
         CREATE VIEW v AS SELECT * FROM t",
        columns.join(", "),
        literals.join(", ")
    ))
    .await;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for model in ["t", "v"] {
        // WHEN it is read
        let mut source = bench.source();
        let projection = reading(table(model), "id", &names);
        let described = source.describe_projection(&projection).await.unwrap();
        let staged = stage(&mut source, &projection, &bench.into).await.unwrap();
        assert_eq!(is_in_place(&staged), model == "t");
        let rows = bench.cells(&staged).await;
        // THEN every value is the one that was written
        assert_eq!(rows.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["1", "2"]);
        for (n, (declared, literal, kind, expected)) in scalars.iter().enumerate() {
            assert_eq!(staged.kinds[n], *kind, "{declared}");
            assert_eq!(described[n].kind, *kind, "{declared}");
            let text = cell::text(&rows[0].1[n], kind).unwrap();
            assert_eq!(text, *expected, "{declared} {literal} of {model}");
            assert_eq!(rows[1].1[n], Cell::Null, "{declared} of {model}");
        }
        assert_eq!(bench.hashes(&staged).await.len(), 2);
        source.release(&bench.into).await.unwrap();
        bench.assert_clean().await;
    }
}

#[tokio::test]
async fn lists_and_structs_are_exact_json() {
    let cases = [
        ("INTEGER[]", "[1, NULL, 3]", json!([1, null, 3])),
        ("BIGINT[]", "[9007199254740993]", json!([9007199254740993u64])),
        ("INTEGER[]", "[]", json!([])),
        ("BOOLEAN[]", "[true, NULL]", json!([true, null])),
        ("VARCHAR[]", "['a,\"b', '', NULL, 'é\n']", json!(["a,\"b", "", null, "é\n"])),
        ("DOUBLE[]", "[0.1, 1e21, -0.0]", serde_json::from_str("[0.1,1000000000000000000000,0]").unwrap()),
        ("FLOAT[]", "[0.1, 16777216]", serde_json::from_str("[0.1,16777216]").unwrap()),
        ("DECIMAL(38,2)[]", "['123456789012345678901234567890.10']", serde_json::from_str("[123456789012345678901234567890.1]").unwrap()),
        ("HUGEINT[]", "['170141183460469231731687303715884105727']", serde_json::from_str("[170141183460469231731687303715884105727]").unwrap()),
        ("DATE[]", "['2024-02-29', NULL]", json!(["2024-02-29", null])),
        ("TIMESTAMP[]", "['2024-02-29 01:02:03']", json!(["2024-02-29T01:02:03Z"])),
        ("TIMESTAMPTZ[]", "['2024-02-29 01:02:03+01']", json!(["2024-02-29T00:02:03Z"])),
        ("TIME[]", "['01:02:03']", json!(["01:02:03"])),
        ("INTERVAL[]", "['1 month', NULL]", json!(["P1M", null])),
        ("UUID[]", "['159d3fae-1c2c-43e1-b7e6-98d9a9a2993a']", json!(["159d3fae-1c2c-43e1-b7e6-98d9a9a2993a"])),
        ("BLOB[]", "['\\xFF']", json!(["ff"])),
        ("ENUM('x','y')[]", "['y']", json!(["y"])),
        ("JSON[]", "['{\"a\": 1.10}', '2']", serde_json::from_str(r#"[{"a":1.1},2]"#).unwrap()),
        ("INTEGER[][]", "[[1], [], NULL, [NULL]]", json!([[1], [], null, [null]])),
        ("INTEGER[2][]", "[[1, 2]]", json!([[1, 2]])),
        ("STRUCT(a INTEGER, b VARCHAR[])[]", "[{'a': 1, 'b': ['x']}, NULL]", json!([{"a": 1, "b": ["x"]}, null])),
        (
            "STRUCT(\"a b\" INTEGER, d DECIMAL(38,10), h HUGEINT, f FLOAT, n DOUBLE, s STRUCT(\"q\"\"x\" VARCHAR), z INTEGER)",
            "{'a b': 1, 'd': '1234567890123456789012345678.0123456789', 'h': '170141183460469231731687303715884105727', \
              'f': 0.1, 'n': 'nan', 's': {'q\"x': 'é\"'}, 'z': NULL}",
            serde_json::from_str(
                r#"{"a b":1,"d":1234567890123456789012345678.0123456789,"f":0.1,"h":170141183460469231731687303715884105727,"n":"NaN","s":{"q\"x":"é\""},"z":null}"#,
            )
            .unwrap(),
        ),
        (
            "STRUCT(t TIMESTAMP, z TIMESTAMPTZ, d DATE, i TIMESTAMP, n TIMESTAMP_NS, b BLOB, j JSON)",
            "{'t': '2024-01-01 00:00:00.5', 'z': '2024-01-01 00:00:00+01', 'd': '2024-01-01', 'i': 'infinity', \
              'n': '2024-01-01 00:00:00.000000001', 'b': '\\xFF', 'j': '{\"n\": 9007199254740993}'}",
            json!({"t": "2024-01-01T00:00:00.5Z", "z": "2023-12-31T23:00:00Z", "d": "2024-01-01", "i": "infinity",
                   "n": "2024-01-01T00:00:00.000000001Z", "b": "ff", "j": {"n": 9007199254740993u64}}),
        ),
        ("MAP(VARCHAR, INTEGER[])", "MAP {'a': [1], 'b\"': NULL}", json!({"a": [1], "b\"": null})),
        ("MAP(INTEGER, DATE)", "MAP {7: DATE '2024-01-01'}", json!({"7": "2024-01-01"})),
        ("UNION(n INTEGER, s VARCHAR)", "'x'", json!({"s": "x"})),
    ];
    let names: Vec<String> = (0..cases.len()).map(|n| format!("v{n}")).collect();
    let columns: Vec<String> = cases
        .iter()
        .zip(&names)
        .map(|((kind, literal, _), name)| format!("CAST({literal} AS {kind}) AS {name}"))
        .collect();
    let nulls: Vec<String> = cases.iter().map(|(kind, _, _)| format!("CAST(NULL AS {kind})")).collect();
    let bench = Bench::with(&format!(
        "CREATE TABLE t AS SELECT 1 AS id, {} UNION ALL SELECT 2, {}",
        columns.join(", "),
        nulls.join(", ")
    ))
    .await;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for from in [table("t"), query("FROM t")] {
        let mut source = bench.source();
        let staged = stage(&mut source, &reading(from, "id", &names), &bench.into).await.unwrap();
        let rows = bench.cells(&staged).await;
        for (n, (kind, literal, expected)) in cases.iter().enumerate() {
            assert_eq!(value(&rows[0].1[n], &staged.kinds[n]), *expected, "{kind} {literal}");
            assert_eq!(rows[1].1[n], Cell::Null, "{kind}");
        }
        assert_eq!(bench.hashes(&staged).await.len(), 2);
        source.release(&bench.into).await.unwrap();
    }
}

#[tokio::test]
async fn a_row_without_names_is_an_array() {
    let bench = Bench::with("SELECT 1").await;
    let mut source = bench.source();
    let projection = reading(query("SELECT 1 AS id, row(1, 'a', row(NULL)) AS r"), "id", &["r"]);
    let staged = stage(&mut source, &projection, &bench.into).await.unwrap();
    assert_eq!(value(&bench.cells(&staged).await[0].1[0], &staged.kinds[0]), json!([1, "a", [null]]));
    source.release(&bench.into).await.unwrap();
}

#[tokio::test]
async fn a_list_of_nothing_finite_is_refused_by_name_not_silently_changed() {
    let bench = Bench::with("CREATE TABLE t AS SELECT 1 AS id, ['nan'::DOUBLE, 'inf', '-inf'] AS l").await;
    let mut source = bench.source();
    let staged = stage(&mut source, &reading(table("t"), "id", &["l"]), &bench.into).await.unwrap();
    let rows = bench.cells(&staged).await;
    assert_eq!(rows[0].1[0], Cell::Text(r#"["NaN","Infinity","-Infinity"]"#.to_owned()));
    assert!(cell::to_json(&rows[0].1[0], &staged.kinds[0], None).unwrap_err().contains("no such number"));
    source.release(&bench.into).await.unwrap();
}

const ACCOUNTS: &str = "CREATE SCHEMA analytics; \
     CREATE TABLE accounts (account_id VARCHAR NOT NULL, n INTEGER, plan VARCHAR, updated_at TIMESTAMP); \
     INSERT INTO accounts VALUES ('a', 1, 'free', '2024-01-01'), ('b', 2, 'pro', '2024-01-02 03:04:05.6'), \
                                 ('c', NULL, 'pro', 'infinity'); \
     CREATE TABLE analytics.dim_accounts AS SELECT * FROM accounts; \
     CREATE VIEW analytics.active AS SELECT * FROM accounts WHERE n IS NOT NULL; \
     CREATE MACRO doubled(x) AS x * 2; CREATE TYPE plan_kind AS ENUM ('free', 'pro')";

#[tokio::test]
async fn tables_are_found_by_one_two_or_three_names() {
    let bench = Bench::with(ACCOUNTS).await;
    let mut source = bench.source();
    for (name, rows, in_place) in [
        ("accounts", 3, true),
        ("ACCOUNTS", 3, true),
        ("main.accounts", 3, true),
        ("analytics.dim_accounts", 3, true),
        ("warehouse.analytics.dim_accounts", 3, true),
        ("warehouse.accounts", 3, true),
        ("analytics.active", 2, false),
    ] {
        let seen = AtomicU64::new(0);
        let note = |count| seen.store(count, Ordering::Relaxed);
        let projection = reading(table(name), "account_id", &["n"]);
        let staged = source.stage(&projection, &bench.into, &note).await.unwrap();
        assert_eq!(bench.cells(&staged).await.len(), rows, "{name}");
        assert_eq!(seen.load(Ordering::Relaxed), rows as u64, "{name}");
        assert_eq!(is_in_place(&staged), in_place, "{name}");
    }
    source.release(&bench.into).await.unwrap();
    bench.assert_clean().await;
    assert_eq!(source.tables().await.unwrap(), ["accounts", "analytics.active", "analytics.dim_accounts"]);
    let columns = source
        .describe(&Model { from: table("accounts"), filter: Some("n > 0 -- only these".to_owned()) })
        .await
        .unwrap();
    let summary: Vec<_> = columns.iter().map(|c| (c.name.as_str(), c.declared.as_str(), c.not_null)).collect();
    assert_eq!(
        summary,
        [
            ("account_id", "VARCHAR", true),
            ("n", "INTEGER", false),
            ("plan", "VARCHAR", false),
            ("updated_at", "TIMESTAMP", false)
        ]
    );
}

#[tokio::test]
async fn queries_see_the_warehouse_and_not_the_ledger() {
    let bench = Bench::with(ACCOUNTS).await;
    let mut source = bench.source();
    for sql in [
        "select account_id, n from accounts -- all of them",
        "select account_id, n from accounts; -- all; of them\n",
        "select account_id, n from warehouse.main.accounts;",
        "with x as (from analytics.dim_accounts) select account_id, n from x /* ; */ ;;",
    ] {
        let staged = stage(&mut source, &reading(query(sql), "account_id", &["n"]), &bench.into).await.unwrap();
        assert_eq!(bench.cells(&staged).await.len(), 3, "{sql}");
        // The file is let go as soon as the rows are here.
        assert!(bench.can_be_written(), "{sql}");
        source.release(&bench.into).await.unwrap();
    }
    let error = stage(&mut source, &reading(query("select * from known"), "account_id", &["n"]), &bench.into)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("known"), "{error}");
    bench.assert_clean().await;
}

#[tokio::test]
async fn filters_expressions_and_macros_mean_the_same_in_place_and_staged() {
    let bench = Bench::with(ACCOUNTS).await;
    let mut source = bench.source();
    let plain = "CREATE OR REPLACE TABLE accounts AS SELECT * FROM accounts; DROP MACRO doubled";
    for (sql, condition, in_place, keys) in [
        ("n * 10", "plan = 'pro'", false, vec!["b", "c"]),
        ("doubled(n) * 5", "true", false, vec!["a", "b", "c"]),
        ("n * 10", "plan = 'pro' -- the paying ones", true, vec!["b", "c"]),
        ("n * 10 -- tenfold", "accounts.n > 1 or n is null", true, vec!["b", "c"]),
        ("(select max(n) from accounts) * 0 + n * 10", "true", false, vec!["a", "b", "c"]),
        ("CASE WHEN plan::plan_kind = 'pro' THEN n * 10 ELSE 10 END", "true", false, vec!["a", "b", "c"]),
        ("CASE WHEN random() < 2 THEN n * 10 END", "now() > '2000-01-01'", false, vec!["a", "b", "c"]),
    ] {
        if in_place {
            // A file with functions of its own is read from inside, because an expression may use them.
            Connection::open(bench.file()).unwrap().execute_batch(plain).ok();
        }
        let projection = Projection {
            filters: vec![condition.to_owned(), "account_id <> 'zzz'".to_owned()],
            columns: vec![Expr::Sql(sql.to_owned()), Expr::Column("n".to_owned())],
            ..reading(table("accounts"), "account_id", &[])
        };
        let described = source.describe_projection(&projection).await.unwrap();
        assert!(matches!(described[0].kind, ColumnType::Int | ColumnType::HugeInt), "{sql}: {described:?}");
        let staged = stage(&mut source, &projection, &bench.into).await.unwrap();
        assert_eq!(is_in_place(&staged), in_place, "{sql}");
        let rows = bench.cells(&staged).await;
        assert_eq!(rows.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), keys, "{sql}");
        for (key, cells) in rows {
            let tenfold = match &cells[1] {
                Cell::Int(n) => (n * 10).to_string(),
                _ => String::new(),
            };
            assert_eq!(cell::text(&cells[0], &staged.kinds[0]).unwrap(), tenfold, "{sql} of {key}");
        }
        source.release(&bench.into).await.unwrap();
    }
}

#[tokio::test]
async fn the_cursor_is_the_largest_finite_value_as_a_literal() {
    let bench = Bench::with(
        "CREATE TABLE t AS SELECT i AS id, i * 3 AS n, DATE '2024-01-01' + i::INTEGER AS d, \
           TIMESTAMP '2024-01-01 00:00:00' + to_seconds(i * 1.5) AS ts, \
           CASE WHEN i = 2 THEN TIMESTAMPTZ 'infinity' ELSE TIMESTAMPTZ '2024-01-01 00:00:00.25+02' END AS tz \
         FROM range(3) t(i)",
    )
    .await;
    let mut source = bench.source();
    for from in [table("t"), query("FROM t")] {
        for (cursor, expected) in
            [("n", "6"), ("d", "2024-01-03"), ("ts", "2024-01-01 00:00:03"), ("tz", "2023-12-31 22:00:00.25+00")]
        {
            let mut projection = reading(from.clone(), "id", &["n"]);
            projection.cursor = Some(cursor.to_owned());
            let staged = stage(&mut source, &projection, &bench.into).await.unwrap();
            assert_eq!(staged.cursor.as_deref(), Some(expected));
            // It reads back as a condition: everything at or after it.
            projection.filters = vec![format!("\"{cursor}\" >= '{expected}'")];
            let staged = stage(&mut source, &projection, &bench.into).await.unwrap();
            assert!(!bench.cells(&staged).await.is_empty(), "{cursor}");
            projection.filters = vec!["false".to_owned()];
            let staged = stage(&mut source, &projection, &bench.into).await.unwrap();
            assert_eq!(staged.cursor, None);
        }
    }
    source.release(&bench.into).await.unwrap();
}

#[tokio::test]
async fn parquet_csv_and_ndjson_are_read_without_a_file() {
    let bench = Bench::with("SELECT 1").await;
    let folder = bench.folder.path().display().to_string();
    bench
        .run(&format!(
            "CREATE TEMP TABLE x AS SELECT 'a' || i AS id, i AS n, DATE '2024-01-01' AS d FROM range(3) t(i); \
             COPY x TO '{folder}/x.parquet'; COPY x TO '{folder}/x.csv'; COPY x TO '{folder}/x.ndjson' (FORMAT json); DROP TABLE x"
        ))
        .await;
    let mut source = bench.fileless();
    for from in [
        query("select * from 'x.parquet'"),
        query("select * from read_parquet('*.parquet')"),
        query("select * from read_csv('x.csv')"),
        query("select * from read_json('x.ndjson')"),
        query(&format!("select * from '{folder}/x.parquet';")),
        table("x.parquet"),
        table("x.csv"),
    ] {
        let columns = source.describe(&Model { from: from.clone(), filter: None }).await.unwrap();
        assert_eq!(columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>(), ["id", "n", "d"]);
        let staged = stage(&mut source, &reading(from.clone(), "id", &["n", "d"]), &bench.into).await.unwrap();
        let rows = bench.cells(&staged).await;
        assert_eq!(rows.len(), 3);
        if from == table("x.csv") {
            // Read here, as it is written.
            assert_eq!(staged.kinds, [ColumnType::Written(As::Integer), ColumnType::Written(As::Date)]);
            let cells = ["2", "2024-01-01"].map(|text| Cell::Text(text.to_owned()));
            assert_eq!(rows[2], ("a2".to_owned(), cells.to_vec()));
        } else {
            assert_eq!(staged.kinds, [ColumnType::Int, ColumnType::Date], "{from:?}");
            assert_eq!(rows[2], ("a2".to_owned(), vec![Cell::Int(2), Cell::Int(19723)]));
        }
        source.release(&bench.into).await.unwrap();
        bench.assert_clean().await;
    }
    let error = source.describe(&Model { from: table("accounts"), filter: None }).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    let error = source.describe(&Model { from: query("from 'nope.parquet'"), filter: None }).await.unwrap_err();
    assert!(error.to_string().contains("nope.parquet") && error.advice().unwrap().contains("path"), "{error}");
    let error = source.describe(&Model { from: query("from known"), filter: None }).await.unwrap_err();
    assert!(error.to_string().contains("known"), "{error}");
}

#[tokio::test]
async fn a_parquet_file_that_does_not_fit_together_may_be_whole_the_next_time() {
    let bench = Bench::with("SELECT 1").await;
    let path = bench.folder.path().join("x.parquet");
    let sql = format!("COPY (SELECT 'k' || i AS id, i AS n FROM range(50_000) r(i)) TO '{}'", path.display());
    bench.run(&sql).await;
    let whole = std::fs::read(&path).unwrap();
    let other = |from: usize, count: usize| {
        let mut bytes = whole.clone();
        bytes[from..from + count].fill(0xff);
        bytes
    };
    // What is read with an end that belongs to another file.
    let shifted = [&whole[..4], &whole[12..whole.len() - 2_000], &[0; 8], &whole[whole.len() - 2_000..]].concat();
    let mut source = bench.fileless();
    let reading = reading(query("select * from 'x.parquet'"), "id", &["n"]);
    for bytes in [whole[..whole.len() / 2].to_vec(), Vec::new(), other(4, 64), other(20_000, 64), shifted] {
        std::fs::write(&path, bytes).unwrap();
        let error = stage(&mut source, &reading, &bench.into).await.unwrap_err();
        assert_eq!(error.kind(), Kind::SourceBusy, "{error}");
        assert!(error.advice().unwrap().contains("run again"), "{:?}", error.advice());
        assert_eq!(error.to_string().matches("source ").count(), 1, "{error}");
        bench.assert_clean().await;
    }
    std::fs::write(&path, &whole).unwrap();
    let staged = stage(&mut source, &reading, &bench.into).await.unwrap();
    assert_eq!(bench.cells(&staged).await.len(), 50_000);
    source.release(&bench.into).await.unwrap();
}

#[tokio::test]
async fn names_may_hold_anything() {
    let bench = Bench::with(
        "CREATE SCHEMA \"my \"\"schema\"; \
         CREATE TABLE \"my \"\"schema\".\"Größe, 'x' – \"\"y\"\"\" (\"the key\" VARCHAR, \"na\"\"me\" VARCHAR, \"select\" INTEGER, \"key\" INTEGER, c0 INTEGER); \
         INSERT INTO \"my \"\"schema\".\"Größe, 'x' – \"\"y\"\"\" VALUES ('k', 'v', 1, 2, 3)",
    )
    .await;
    let mut source = bench.source();
    let from = From::Table(vec!["my \"schema".to_owned(), "Größe, 'x' – \"y\"".to_owned()]);
    let staged =
        stage(&mut source, &reading(from, "the key", &["na\"me", "select", "key", "c0"]), &bench.into).await.unwrap();
    let expected = vec![Cell::Text("v".to_owned()), Cell::Int(1), Cell::Int(2), Cell::Int(3)];
    assert_eq!(bench.cells(&staged).await, [("k".to_owned(), expected)]);
    source.release(&bench.into).await.unwrap();

    // A file and a folder with awkward names, the file's stem being the name of one of its schemas.
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join("o'dd \"folder\"");
    std::fs::create_dir(&odd).unwrap();
    for stem in ["a'b \"c", "source", "main", "ledger", "analytics"] {
        let file = odd.join(format!("{stem}.duckdb"));
        let connection = Connection::open(&file).unwrap();
        let catalog: String = connection.query_row("SELECT current_database()", [], |row| row.get(0)).unwrap();
        let catalog = catalog.replace('"', "\"\"");
        connection
            .execute_batch(&format!(
                "CREATE SCHEMA analytics; CREATE SCHEMA source; \
                 CREATE TABLE \"{catalog}\".analytics.t AS SELECT 'k' AS id, 1 AS n"
            ))
            .unwrap();
        drop(connection);
        let mut source = DuckDb::open(
            &DuckDbSettings { path: Some(file), ..DuckDbSettings::default() },
            "odd",
            &odd,
            &Limits::standard(),
        )
        .unwrap();
        for from in [table("analytics.t"), query("select * from analytics.t")] {
            let staged = stage(&mut source, &reading(from, "id", &["n"]), &bench.into).await.unwrap();
            assert_eq!(bench.cells(&staged).await, [("k".to_owned(), vec![Cell::Int(1)])], "{stem}");
        }
        source.release(&bench.into).await.unwrap();
    }
    bench.assert_clean().await;
}

#[tokio::test]
async fn keys_that_differ_in_case_stay_apart() {
    let bench = Bench::with(
        "CREATE TABLE t (id VARCHAR COLLATE NOCASE, n INTEGER); INSERT INTO t VALUES ('A', 1), ('a', 2), (NULL, 3)",
    )
    .await;
    let mut source = bench.source();
    for from in [table("t"), query("FROM t")] {
        let staged = stage(&mut source, &reading(from, "id", &["n"]), &bench.into).await.unwrap();
        let counts = bench
            .query(format!(
                "SELECT count(*), count(r.key), count(DISTINCT r.key), count(k.key) \
                 FROM {} AS r LEFT JOIN (SELECT 'a' AS key) k ON r.key = k.key",
                staged.relation
            ))
            .await;
        assert_eq!(counts, [[3, 2, 2, 1].map(DuckValue::BigInt)]);
    }
    source.release(&bench.into).await.unwrap();
}

#[tokio::test]
async fn equal_bytes_of_another_type_hash_differently() {
    let mut hashes = Vec::new();
    for kind in [
        "1.50::DECIMAL(4,2)",
        "15.0::DECIMAL(4,1)",
        "'a'::ENUM('a','b')",
        "'b'::ENUM('b','a')",
        "150::SMALLINT",
        "INTERVAL '1 month'",
        "INTERVAL '30 days'",
        "'1'::VARCHAR",
        "'1'::JSON",
        "{'a': 1}",
        "{'b': 1}",
    ] {
        let bench = Bench::with(&format!("CREATE TABLE t AS SELECT 'k' AS id, {kind} AS v")).await;
        let mut source = bench.source();
        let projection = reading(table("t"), "id", &["v"]);
        let staged = stage(&mut source, &projection, &bench.into).await.unwrap();
        let hash = format!("{:?}", bench.hashes(&staged).await);
        let again = stage(&mut source, &projection, &bench.into).await.unwrap();
        assert_eq!(hash, format!("{:?}", bench.hashes(&again).await));
        assert!(!hashes.contains(&hash), "{kind}");
        hashes.push(hash);
        source.release(&bench.into).await.unwrap();
    }
}

#[tokio::test]
async fn while_staged_in_place_nobody_writes_and_after_release_anybody_may() {
    let bench = Bench::with(ACCOUNTS).await;
    let mut source = bench.source();
    let projection = reading(table("accounts"), "account_id", &["n"]);
    let staged = stage(&mut source, &projection, &bench.into).await.unwrap();
    assert!(is_in_place(&staged));
    assert!(!bench.can_be_written());
    // The ledger works with the rows and its own tables, in a transaction of its own.
    bench.run(&format!("BEGIN; CREATE TEMP TABLE candidates AS SELECT r.key FROM {} r; INSERT INTO known SELECT key, 2 FROM candidates; COMMIT", staged.relation)).await;
    // Another source of the same file waits for its turn rather than dropping the lock of the first.
    let mut other = bench.source();
    let waiting = tokio::spawn(async move { other.tables().await });
    tokio::task::yield_now().await;
    assert!(!bench.can_be_written());
    assert!(!waiting.is_finished());
    source.release(&bench.into).await.unwrap();
    source.release(&bench.into).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().len(), 3);
    assert!(bench.can_be_written());
    bench.run("DROP TABLE candidates").await;
    bench.assert_clean().await;
}

#[tokio::test]
async fn a_file_another_process_writes_to_is_busy_and_nothing_is_left_behind() {
    let bench = Bench::with(ACCOUNTS).await;
    let holder = Holder::start(&bench.file()).unwrap();
    let mut source = bench.source();
    let projection = reading(table("accounts"), "account_id", &["n"]);
    for error in [
        source.describe(&Model { from: table("accounts"), filter: None }).await.unwrap_err(),
        stage(&mut source, &projection, &bench.into).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), Kind::SourceBusy, "{error}");
        assert!(error.to_string().contains("source warehouse") && error.to_string().contains("PID"), "{error}");
        assert!(error.advice().unwrap().contains("run again"));
    }
    bench.assert_clean().await;
    holder.stop();
    assert!(stage(&mut source, &projection, &bench.into).await.is_ok());
    source.release(&bench.into).await.unwrap();
}

#[tokio::test]
async fn everything_that_is_missing_or_wrong_is_named_with_a_next_step() {
    let bench = Bench::with(ACCOUNTS).await;
    let folder = bench.folder.path();
    std::fs::write(folder.join("text.duckdb"), "no database at all ".repeat(2_000)).unwrap();
    std::fs::write(folder.join("empty.duckdb"), "").unwrap();
    let files = [
        (folder.join("nope.duckdb"), Kind::Source, "does not exist", "path"),
        (folder.join("text.duckdb"), Kind::Source, "not a readable DuckDB", "Parquet"),
        (folder.join("empty.duckdb"), Kind::Source, "not a readable DuckDB", "Parquet"),
        (folder.to_path_buf(), Kind::Source, "folder", "file's name"),
        (folder.join("ledger.duckdb"), Kind::Config, "Groupcast's own state", "state.path"),
    ];
    for (file, kind, words, advice) in files {
        let mut source = DuckDb::open(
            &DuckDbSettings { path: Some(file.clone()), ..DuckDbSettings::default() },
            "warehouse",
            folder,
            &Limits::standard(),
        )
        .unwrap();
        let error = stage(&mut source, &reading(table("t"), "id", &[]), &bench.into).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(
            error.to_string().contains(words) && error.advice().unwrap().contains(advice),
            "{error}: {:?}",
            error.advice()
        );
        bench.assert_clean().await;
    }
    let with_sql = |sql: &str| Projection {
        columns: vec![Expr::Column("n".to_owned()), Expr::Sql(sql.to_owned())],
        ..reading(table("accounts"), "account_id", &[])
    };
    let with_condition =
        |sql: &str| Projection { filters: vec![sql.to_owned()], ..reading(table("accounts"), "account_id", &["n"]) };
    let wrong = [
        (reading(table("acounts"), "account_id", &[]), "table `acounts` not found", "did you mean `accounts`"),
        (
            reading(table("dim_accounts"), "account_id", &[]),
            "table `dim_accounts` not found",
            "did you mean `analytics.dim_accounts`",
        ),
        (reading(table("a.b.c"), "account_id", &[]), "table `a.b.c` not found", "analytics.active"),
        (reading(table("accounts"), "acount_id", &[]), "no column `acount_id`", "did you mean `account_id`"),
        (reading(table("accounts"), "account_id", &["accounts"]), "no column `accounts`", ""),
        (with_sql("nn / 100"), "failed to compile `nn / 100`", "column's name"),
        (with_sql("n / "), "failed to compile `n /`", "DuckDB's dialect"),
        (with_condition("plann = 'x'"), "failed to compile the condition `plann = 'x'`", "column's name"),
        (reading(query("select * form accounts"), "account_id", &[]), "syntax error", "SQL"),
        (reading(query("select * from acounts"), "account_id", &[]), "acounts", "table's name"),
        (with_sql("CAST(plan AS INTEGER)"), "Conversion Error", "TRY_CAST"),
        (with_condition("error('secret of ' || account_id)"), "Invalid Input Error", "DuckDB shell"),
    ];
    for (projection, words, advice) in wrong {
        let mut source = bench.source();
        let staged = stage(&mut source, &projection, &bench.into).await;
        let Err(error) = staged else { panic!("{words}: staged {staged:?}") };
        let text = error.to_string();
        assert!(text.starts_with("source warehouse: ") && text.contains(words), "{words}: {text}");
        assert!(error.advice().unwrap().contains(advice), "{text}: {:?}", error.advice());
        assert!(!text.contains("free") && !text.contains("secret of a") && !text.contains('\n'), "{text}");
        bench.assert_clean().await;
        assert!(source.release(&bench.into).await.is_ok());
    }
    assert!(bench.can_be_written());
}

#[tokio::test]
async fn an_expression_that_fails_on_a_row_fails_when_it_is_staged_in_place() {
    let bench =
        Bench::with("CREATE TABLE t AS SELECT 'a' AS id, '1' AS n UNION ALL SELECT 'b', 'ann@example.com'").await;
    let mut source = bench.source();
    let projection =
        Projection { columns: vec![Expr::Sql("CAST(n AS INTEGER)".to_owned())], ..reading(table("t"), "id", &[]) };
    let error = stage(&mut source, &projection, &bench.into).await.unwrap_err();
    assert!(error.to_string().contains("Conversion Error") && error.advice().unwrap().contains("TRY_CAST"), "{error}");
    assert!(!error.to_string().contains("ann@"), "{error}");
    bench.assert_clean().await;
    let filtered = Projection { filters: vec!["id = 'a'".to_owned()], ..projection };
    let staged = stage(&mut source, &filtered, &bench.into).await.unwrap();
    assert!(is_in_place(&staged));
    assert_eq!(bench.cells(&staged).await, [("a".to_owned(), vec![Cell::Int(1)])]);
    source.release(&bench.into).await.unwrap();
}

/// A model whose query never ends.
fn endless() -> Projection {
    let sql = "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT 1 FROM r) SELECT max(i)::VARCHAR AS id FROM r";
    reading(query(sql), "id", &[])
}

#[tokio::test]
async fn a_statement_without_progress_ends_and_lets_go_of_its_file() {
    let bench = Bench::with(ACCOUNTS).await;
    let settings =
        DuckDbSettings { path: Some(bench.file()), stall_timeout_seconds: Some(1), ..DuckDbSettings::default() };
    let mut stuck = DuckDb::open(&settings, "warehouse", bench.folder.path(), &Limits::standard()).unwrap();
    let error = stage(&mut stuck, &endless(), &bench.into).await.unwrap_err();
    assert_eq!(error.kind(), Kind::SourceBusy, "{error}");
    assert!(error.to_string().contains("no progress for 1s"), "{error}");
    assert!(error.advice().unwrap().contains("stall_timeout_seconds"), "{:?}", error.advice());
    bench.assert_clean().await;
    assert!(bench.can_be_written());
    stage(&mut stuck, &reading(table("accounts"), "account_id", &[]), &bench.into).await.unwrap();
    stuck.release(&bench.into).await.unwrap();
}

#[tokio::test]
async fn a_statement_that_does_not_react_does_not_keep_its_file_from_other_runs() {
    let bench = Bench::with("CREATE TABLE t AS SELECT 'k' AS id, repeat('a', 60000) AS long").await;
    // GIVEN a single call within a statement, which nothing interrupts, and whose run was cancelled
    let stuck = DuckDbConnection::open(None, &Limits::standard()).unwrap();
    let (mut source, into) = (bench.source(), stuck.clone());
    let sql = query("SELECT levenshtein(long, repeat('b', 60000))::VARCHAR AS id FROM t");
    let run = tokio::spawn(async move { stage(&mut source, &reading(sql, "id", &[]), &into).await.map(drop) });
    tokio::time::timeout(Duration::from_secs(2), std::future::pending::<()>()).await.unwrap_err();
    run.abort();
    let _ = run.await;
    stuck.interrupt();
    assert!(!stuck.is_idle(), "it goes on");
    // THEN others read the same file at once, and what they read cannot be written meanwhile
    let mut other = bench.source();
    let projection = reading(table("t"), "id", &["id"]);
    let staging = stage(&mut other, &projection, &bench.into);
    let staged = tokio::time::timeout(Duration::from_secs(10), staging).await.unwrap().unwrap();
    assert!(is_in_place(&staged));
    assert!(!bench.can_be_written());
    // AND the end of the one does not let go of the file under the other
    let _ = tokio::time::timeout(Duration::from_secs(8), std::future::pending::<()>()).await;
    assert!(!bench.can_be_written());
    other.release(&bench.into).await.unwrap();
    while !stuck.is_idle() {
        let _ = tokio::time::timeout(Duration::from_millis(100), std::future::pending::<()>()).await;
    }
}

#[tokio::test]
async fn files_of_one_name_are_not_mixed_up_by_runs_side_by_side() {
    let bench = Bench::with("CREATE TABLE t AS SELECT 'ours' AS id").await;
    let other = bench.folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let path = other.join("warehouse.duckdb");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE t AS SELECT 'theirs' AS id").unwrap();
    // GIVEN a run that reads `warehouse.duckdb` in place
    let mut ours = bench.source();
    stage(&mut ours, &reading(table("t"), "id", &["id"]), &bench.into).await.unwrap();
    // WHEN another one, beside it, says that name and means another file
    let beside = Bench {
        folder: tempfile::tempdir().unwrap(),
        into: DuckDbConnection::open(None, &Limits::standard()).unwrap(),
    };
    let mut theirs = DuckDb::open(
        &DuckDbSettings { path: Some(path), ..DuckDbSettings::default() },
        "other",
        &other,
        &Limits::standard(),
    )
    .unwrap();
    let projection = reading(query("SELECT * FROM warehouse.main.t"), "id", &["id"]);
    // THEN it reads its own file, without waiting for the first
    let staged = stage(&mut theirs, &projection, &beside.into).await.unwrap();
    assert_eq!(beside.cells(&staged).await, [("theirs".to_owned(), vec![Cell::Text("theirs".to_owned())])]);
    theirs.release(&beside.into).await.unwrap();
    ours.release(&bench.into).await.unwrap();
    bench.assert_clean().await;
}

#[tokio::test]
async fn a_schema_called_like_the_ledger_is_told_apart() {
    let bench = Bench::with("CREATE SCHEMA ledger; CREATE TABLE ledger.t AS SELECT 'a' AS id").await;
    let mut source = bench.source();
    for from in [table("ledger.t"), query("SELECT * FROM warehouse.ledger.t")] {
        let staged = stage(&mut source, &reading(from, "id", &["id"]), &bench.into).await.unwrap();
        assert_eq!(bench.cells(&staged).await.len(), 1);
        source.release(&bench.into).await.unwrap();
    }
    let ambiguous = reading(query("SELECT * FROM ledger.t"), "id", &["id"]);
    let error = stage(&mut source, &ambiguous, &bench.into).await.unwrap_err();
    assert!(error.advice().unwrap().contains("state.path"), "{error}");
    bench.assert_clean().await;
}
