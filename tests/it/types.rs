//! Does docs/types.md hold? Each row of its tables goes through the real engine; the document is what is tested, so a row
//! that says something else fails, and the failure shows the row as it should be.

use std::collections::BTreeSet;

use groupcast::duckdb::{DuckDbConnection, Limits};
use groupcast::mapping::{Expr, From};
use groupcast::model::cell::{self, As};
use groupcast::source::duckdb::{DuckDb, DuckDbSettings};
use groupcast::source::{Column, Source};
use serde_json::json;

use super::postgres::{projection, read};
use crate::support::cli::Place;
use crate::support::postgres::shared;

const DOCUMENT: &str = include_str!("../../docs/types.md");

/// The columns of the tables, after type and value.
const WANTED: [(Option<As>, &str); 9] = [
    (None, "no `as`"),
    (Some(As::String), "`string`"),
    (Some(As::Number), "`number`"),
    (Some(As::Integer), "`integer`"),
    (Some(As::Boolean), "`boolean`"),
    (Some(As::Date), "`date`"),
    (Some(As::Timestamp), "`timestamp`"),
    (Some(As::Json), "`json`"),
    (Some(As::List), "`list`"),
];

/// A row of a table: type, value, cells as they are written.
struct Row {
    of: String,
    value: String,
    written: Vec<String>,
}

/// The rows below a heading.
fn rows(heading: &str) -> Vec<Row> {
    let section = DOCUMENT.split("\n## ").find(|section| section.starts_with(heading)).expect("a heading");
    let head = WANTED.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(" | ");
    assert!(section.contains(&format!("| type | value | {head} |")), "{heading}: the columns are others");
    let lines = section.lines().filter(|line| line.starts_with("| `"));
    lines
        .map(|line| {
            // A bar within a cell is written `\|`.
            let line = line.replace("\\|", "\u{1}");
            let cells: Vec<String> =
                line.trim_matches('|').split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect();
            let plain = |cell: &String| cell.trim_matches('`').to_owned();
            Row { of: plain(&cells[0]), value: plain(&cells[1]), written: cells[2..].to_vec() }
        })
        .collect()
}

/// What a column of one row becomes, written as in the document.
async fn cells(source: &mut dyn Source, duckdb: &DuckDbConnection, from: &From, case: &str) -> Vec<String> {
    let wanted = projection(from.clone(), "id", &["v"]);
    let column: Column =
        source.describe_projection(&wanted).await.unwrap_or_else(|error| panic!("{case}: {error}")).remove(0);
    let mut found = Vec::new();
    for (declared, _) in WANTED {
        let Some(becomes) = declared else {
            found.push(match column.kind.default_as() {
                None => "a decision".to_owned(),
                Some(_) => sent(source, duckdb, from, None, None, case).await,
            });
            continue;
        };
        found.push(if source.dialect().can_become(&column.kind, &column.declared, becomes) {
            sent(source, duckdb, from, declared, None, case).await
        } else {
            match source.dialect().conversion(&column.declared, "v", becomes) {
                None => "–".to_owned(),
                Some(sql) => {
                    let value = sent(source, duckdb, from, declared, Some(&sql), case).await;
                    format!("SQL `{sql}`: {value}")
                }
            }
        });
    }
    found
}

/// What is sent for the value, or why it is not.
async fn sent(
    source: &mut dyn Source,
    duckdb: &DuckDbConnection,
    from: &From,
    declared: Option<As>,
    sql: Option<&str>,
    case: &str,
) -> String {
    let mut wanted = projection(from.clone(), "id", &["v"]);
    if let Some(sql) = sql {
        wanted.columns = vec![Expr::Sql(sql.to_owned())];
        // It must compile; that it fails on a value is another matter.
        source.describe_projection(&wanted).await.unwrap_or_else(|error| panic!("{case} {sql}: {error}"));
    }
    let Ok(staged) = source.stage(&wanted, duckdb, &|_| ()).await else {
        source.release(duckdb).await.unwrap();
        return "fails".to_owned();
    };
    let rows = read(duckdb, &staged).await;
    source.release(duckdb).await.unwrap();
    match cell::to_json(&rows[0].1[0], &staged.kinds[0], declared) {
        Ok(json) => format!("`{json}`"),
        Err(_) => "rejected".to_owned(),
    }
}

/// Compares, and shows every row that is wrong as it should be.
fn compare(found: Vec<(Row, Vec<String>)>) {
    let escaped = |cell: &String| cell.replace('|', "\\|");
    let wrong: Vec<String> = found
        .into_iter()
        .filter(|(row, cells)| row.written != *cells)
        .map(|(row, cells)| {
            let cells: Vec<String> = cells.iter().map(escaped).collect();
            format!("| `{}` | `{}` | {} |", escaped(&row.of), escaped(&row.value), cells.join(" | "))
        })
        .collect();
    assert!(wrong.is_empty(), "docs/types.md should say:\n{}", wrong.join("\n"));
}

/// What the rows about PostgreSQL speak of and every database has to make.
const MADE: &str = "CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree; \
    CREATE TYPE address AS (city text, zip text); CREATE TYPE mood AS ENUM ('ok', 'sad'); \
    CREATE DOMAIN positive AS int; CREATE DOMAIN tags AS text[]";

/// A table with a column for each type, and a folder whose mapping declares each of them as everything. `check --connect` must
/// refuse exactly what the table says no value can become, with the SQL that it says.
fn checks(heading: &str, source: &str, make: impl FnOnce(&Place, &str)) {
    let mut of: Vec<Row> = rows(heading);
    let mut seen = BTreeSet::new();
    of.retain(|row| seen.insert(row.of.clone()));
    let columns: Vec<String> = of.iter().enumerate().map(|(at, row)| format!("v{at} {}", row.of)).collect();
    let place = Place::new();
    make(&place, &format!("CREATE TABLE t (id int, {})", columns.join(", ")));
    place.write("groupcast.toml", &format!("{source}\n[destinations.out]\ntype = \"file\"\npath = \"out.ndjson\"\n"));
    let mut traits = String::new();
    let mut expected = std::collections::BTreeMap::new();
    for (at, row) in of.iter().enumerate() {
        for ((declared, name), written) in WANTED.iter().zip(&row.written).skip(1) {
            let name = name.trim_matches('`');
            traits.push_str(&format!("t{at}_{name} = {{ column = \"v{at}\", as = \"{name}\" }}\n"));
            let never = written == "–" || written.starts_with("SQL `");
            if never {
                let sql = written.strip_prefix("SQL `").map(|rest| rest.split('`').next().unwrap().to_owned());
                expected.insert(format!("traits.t{at}_{name}"), (row.of.clone(), declared, sql, format!("v{at}")));
            }
        }
    }
    let mapping = "source = \"warehouse\"\ndestination = \"out\"\n[model]\ntable = \"t\"\n[group]\ntype = \"company\"\nkey = \"id\"";
    place.mapping("accounts", &format!("{mapping}\n[traits]\n{traits}"));
    let output = place.run(&["check", "--connect", "--json"]).exits(2).json();
    let mut refused = BTreeSet::new();
    for problem in output["problems"].as_array().unwrap().iter().filter(|problem| problem["severity"] == "error") {
        let path = problem["path"].as_str().unwrap();
        let Some((of, declared, sql, column)) = expected.get(path) else { panic!("{heading}: {problem}") };
        assert!(problem["message"].as_str().unwrap().contains("cannot become"), "{problem}");
        if let Some(sql) = sql {
            // The table's column is `v`, and no word of the proposals ends in that letter.
            let sql = sql.split_inclusive(|letter: char| !letter.is_alphanumeric() && letter != '_');
            let named: String = sql
                .map(|word| match word.strip_prefix('v') {
                    Some(rest) if !rest.starts_with(char::is_alphanumeric) => format!("{column}{rest}"),
                    _ => word.to_owned(),
                })
                .collect();
            assert!(
                problem["help"].to_string().contains(&named.replace('"', "\\\"")),
                "{of} {declared:?} {named}\n{problem}"
            );
        }
        refused.insert(path.to_owned());
    }
    let passed: Vec<&String> = expected.keys().filter(|path| !refused.contains(*path)).collect();
    assert!(passed.is_empty(), "{heading}: check lets pass {passed:?}");
    assert!(refused.len() > 100, "{}", refused.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_refuses_what_no_value_of_a_type_of_postgresql_can_become() {
    let database = shared().create_database().await;
    database.execute(MADE).await;
    let url = format!("postgres://root_user@127.0.0.1:{}/{}", shared().port(), database.name());
    let source = format!("[sources.warehouse]\ntype = \"postgres\"\nurl = \"{url}\"\n");
    let mut statement = String::new();
    checks("PostgreSQL", &source, |_, table| {
        statement = table.to_owned();
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(database.execute(&statement)));
    });
}

#[test]
fn check_refuses_what_no_value_of_a_type_of_duckdb_can_become() {
    let source = "[sources.warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n";
    checks("DuckDB", source, |place, table| place.warehouse(table));
}

#[tokio::test]
async fn each_row_about_postgresql_holds() {
    let database = shared().create_database().await;
    database.execute(MADE).await;
    let mut source = database.source(json!({})).await;
    let duckdb = DuckDbConnection::open(None, &Limits::standard()).unwrap();
    let mut found = Vec::new();
    for row in rows("PostgreSQL") {
        let table = format!("CREATE TABLE t (id int, v {}); INSERT INTO t VALUES (1, {})", row.of, row.value);
        database.execute(&format!("DROP TABLE IF EXISTS t; {table}")).await;
        let cells = cells(&mut source, &duckdb, &From::Table(vec!["t".to_owned()]), &row.of).await;
        found.push((row, cells));
    }
    compare(found);
}

#[tokio::test]
async fn each_row_about_duckdb_holds() {
    let folder = tempfile::tempdir().unwrap();
    let duckdb = DuckDbConnection::open(None, &Limits::standard()).unwrap();
    let mut found = Vec::new();
    for (at, row) in rows("DuckDB").into_iter().enumerate() {
        let file = folder.path().join(format!("{at}.duckdb"));
        let connection = duckdb::Connection::open(&file).unwrap();
        let table = format!("CREATE TABLE t (id INTEGER, v {}); INSERT INTO t VALUES (1, {})", row.of, row.value);
        connection.execute_batch(&table).unwrap_or_else(|error| panic!("{}: {error}", row.of));
        drop(connection);
        let settings = DuckDbSettings { path: Some(file), ..DuckDbSettings::default() };
        let mut source = DuckDb::open(&settings, "warehouse", folder.path(), &Limits::standard()).unwrap();
        let cells = cells(&mut source, &duckdb, &From::Table(vec!["t".to_owned()]), &row.of).await;
        found.push((row, cells));
    }
    compare(found);
}

#[tokio::test]
async fn every_type_of_postgresql_has_a_row() {
    let database = shared().create_database().await;
    let documented: BTreeSet<String> = rows("PostgreSQL").into_iter().map(|row| row.of).collect();
    let rows = database
        .client()
        .query(
            // A column may have any of these; arrays, composites and domains go by their elements.
            "SELECT format_type(oid, NULL) FROM pg_type WHERE typtype IN ('b', 'r', 'm') AND typcategory <> 'A' \
             AND typnamespace = 'pg_catalog'::regnamespace AND typisdefined",
            &[],
        )
        .await
        .unwrap();
    // The catalogs' own: names of things and statistics, which nobody has in a model.
    let internal = |name: &str| {
        name.starts_with("pg_") && name != "pg_lsn"
            || name.starts_with("reg")
            || ["aclitem", "cid", "gtsvector", "int2vector", "oidvector", "refcursor", "tid", "txid_snapshot", "xid"]
                .contains(&name)
    };
    let missing: Vec<String> = rows
        .iter()
        .map(|row| row.get::<_, String>(0))
        .filter(|name| !internal(name) && !documented.iter().any(|row| row.split('(').next() == Some(name)))
        .collect();
    assert!(missing.is_empty(), "docs/types.md has no row for {missing:?}");
}

#[test]
fn every_type_of_duckdb_has_a_row() {
    let documented: BTreeSet<String> =
        rows("DuckDB").into_iter().map(|row| row.of.split('(').next().unwrap().to_owned()).collect();
    let connection = duckdb::Connection::open_in_memory().unwrap();
    let mut statement = connection.prepare("SELECT DISTINCT logical_type FROM duckdb_types()").unwrap();
    let types: Vec<String> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let missing: Vec<&String> = types
        .iter()
        .filter(|name| {
            let shown = match name.as_str() {
                "LIST" => "INTEGER[]",
                "ARRAY" => "FLOAT[3]",
                // A struct without names; a type as a value, and none at all, no table has.
                "TUPLE" | "NULL" | "TYPE" => return false,
                "TIMESTAMPTZ_NS" => "TIMESTAMPTZ_NS",
                name => name,
            };
            !documented.contains(shown)
        })
        .collect();
    assert!(missing.is_empty(), "docs/types.md has no row for {missing:?}");
}
