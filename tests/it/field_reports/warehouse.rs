//! DuckDB: names that mean two things, and types that came with new versions.

use serde_json::json;

use super::{mapping, place_of_file, sent};
use crate::support::daemon::Daemon;

/// duckdb #11520, #6490 and #13159: a name that a query yields twice is no error, and the first column is taken, whichever was
/// meant. Here an old plan was sent for the new one, without a word.
#[test]
fn a_name_that_stands_for_two_columns_is_refused() {
    const TABLES: &str = "CREATE TABLE a AS SELECT 'k' AS id, 'old' AS plan, 1 AS n; \
        CREATE TABLE b AS SELECT 'k' AS id, 'new' AS \"Plan\"";
    let place = place_of_file(TABLES);
    let join = |select: &str| format!("sql = \"SELECT {select} FROM a JOIN b USING (id)\"");
    let wrong = [
        (join("a.*, b.*"), "plan = \"plan\"", "`id`"),
        (join("id, a.plan, b.plan"), "plan = \"plan\"", "`Plan`"),
        (join("id, a.plan, b.plan"), "plan = { sql = \"upper(PLAN)\" }", "`Plan`"),
        (join("id, a.plan, b.plan"), "plan = { sql = 'upper(\"plan\")' }", "`Plan`"),
        ("sql = \"SELECT *, 'x' AS n FROM a\"\nwhere = \"n = 1\"".to_owned(), "plan = \"plan\"", "`n`"),
        ("sql = \"FROM a JOIN b ON a.id = b.id\"".to_owned(), "n = \"n\"", "`id`"),
    ];
    for (model, traits, name) in wrong {
        place.mapping("accounts", &mapping(&model, traits, ""));
        let says = format!("the model's SQL has two columns {name}");
        for command in [["check", "--connect"].as_slice(), &["run"]] {
            place.run(command).exits(2).says(&[&says, "AS other"]);
        }
    }
    assert_eq!(sent(&place), []);
    // AND what nobody uses may stand there twice
    for (select, traits, expected) in [
        ("id, a.plan, b.plan, n", "n = \"n\"", json!({ "n": 1 })),
        ("id, a.plan, b.plan, n", "n = { sql = \"n || 'plan'\" }", json!({ "n": "1plan" })),
        ("id, b.plan AS plan, a.plan AS before", "plan = \"plan\"", json!({ "plan": "new" })),
    ] {
        let place = place_of_file(TABLES);
        place.mapping("accounts", &mapping(&join(select), traits, ""));
        place.run(&["run"]).exits(0);
        assert_eq!(sent(&place), [("k".to_owned(), expected)], "{select}");
    }
}

/// duckdb #25476, spiceai/docs #1810: since DuckDB 2.0 the times of pandas, Polars and Arrow (nanoseconds with a zone) are of a
/// type of their own, which few functions know. Here they were text in DuckDB's spelling.
#[test]
fn nanoseconds_with_a_zone_are_times() {
    let traits = "seen = \"seen\"\nall = { sql = \"[seen]\" }\nin = { sql = \"{'seen': seen}\" }\n\
        day = { column = \"seen\", as = \"date\" }";
    let models = ["table = \"accounts\"", "sql = \"SELECT * FROM accounts\"", "sql = \"FROM 'accounts.parquet'\""];
    for model in models {
        let place = place_of_file(
            "CREATE TABLE accounts AS SELECT * FROM (VALUES ('a', TIMESTAMPTZ_NS '2024-05-06 07:08:09.123456789+02'), \
             ('b', TIMESTAMPTZ_NS '1960-01-01 00:00:00+00')) v(id, seen)",
        );
        let path = place.path("accounts.parquet");
        place.warehouse(&format!("COPY accounts TO '{}'", path.display()));
        place.mapping("accounts", &mapping(model, traits, "[incremental]\ncursor = \"seen\""));
        place.run(&["check", "--connect"]).exits(0);
        place.run(&["run"]).exits(0);
        let of = |at: &str| json!({ "seen": at, "all": [at], "in": { "seen": at }, "day": &at[..10] });
        let expected =
            [("a".to_owned(), of("2024-05-06T05:08:09.123456789Z")), ("b".to_owned(), of("1960-01-01T00:00:00Z"))];
        assert_eq!(sent(&place), expected, "{model}");
        // AND what lies long before the checkpoint is not read again
        place.run(&["run"]).exits(0).says(&["1 row:"]);
    }
}

/// duckdb #11855 and #13945: columns that are called like what the program selects them as stay themselves.
#[test]
fn columns_that_are_called_like_ours_stay_themselves() {
    let names =
        ["key", "c0", "c1", "n", "model", "bucket", "cursor", "rowid", "t0", "one", "incoming", "select", "a.b"];
    let values: Vec<String> = names.iter().map(|name| format!("'is {name}' AS \"{name}\"")).collect();
    let table = format!("CREATE TABLE accounts AS SELECT 'k' AS id, {}", values.join(", "));
    let traits: Vec<String> = names.iter().rev().map(|name| format!("\"{name}\" = \"{name}\"")).collect();
    for model in ["table = \"accounts\"", "sql = \"SELECT * FROM accounts\""] {
        let place = place_of_file(&table);
        let filtered = format!("{model}\nwhere = '''c0 = 'is c0' AND \"key\" = 'is key' AND n = 'is n' '''");
        place.mapping("accounts", &mapping(&filtered, &traits.join("\n"), ""));
        place.run(&["run"]).exits(0);
        let expected: serde_json::Map<_, _> =
            names.iter().map(|name| ((*name).to_owned(), json!(format!("is {name}")))).collect();
        assert_eq!(sent(&place), [("k".to_owned(), json!(expected))], "{model}");
    }
}

/// sqlitebrowser #1986, OpenRefine #259, dbt-utils #1119: text that says a number, a time or a list as spreadsheets, Java, Go, .NET and PostgreSQL write it: what has one meaning is
/// read, what has two is rejected by name.
#[test]
fn numbers_times_and_lists_in_text_are_read_where_they_have_one_meaning() {
    let place = place_of_file(
        "CREATE TABLE accounts AS SELECT * FROM (VALUES \
         ('a', '1 234,50', '/Date(1714979289000+0200)/', '{pro,\"a b\",NULL}'), \
         ('b', '1,234,567', 'Mon May 06 07:08:09 UTC 2024', '[\"pro\"]'), \
         ('c', '−7', '2024-05-06 07:08:09 +0000 UTC', '{}'), \
         ('d', '1,234', '06/05/2024', 'pro,free')) v(id, n, seen, tags)",
    );
    let traits = "n = { column = \"n\", as = \"number\" }\nat = { column = \"seen\", as = \"timestamp\" }\n\
        tags = { column = \"tags\", as = \"list\" }";
    place.mapping("accounts", &mapping("table = \"accounts\"", traits, ""));
    place.run(&["check", "--connect"]).exits(0).says(&["1 of the first 4 rows cannot become what is declared"]);
    place.run(&["run"]).exits(3).says(&["3 delivered", "1 rejected"]);
    let at = "2024-05-06T07:08:09Z";
    let expected = [
        ("a", json!({ "n": 1234.5, "at": at, "tags": ["pro", "a b", null] })),
        ("b", json!({ "n": 1234567, "at": at, "tags": ["pro"] })),
        ("c", json!({ "n": -7, "at": at, "tags": [] })),
    ];
    assert_eq!(sent(&place), expected.map(|(key, set)| (key.to_owned(), set)));
}

/// apache/amoro #873: whoever overwrites a folder of Parquet files, or makes a table anew, takes
/// it away for a while. The daemon tries such a run again where an earlier one has read it, instead of waiting a day.
#[test]
fn files_and_tables_that_are_away_for_a_while_are_waited_for() {
    let place = place_of_file("CREATE TABLE accounts AS SELECT 'k' AS id, 'pro' AS plan");
    let copy = format!("COPY accounts TO '{}'", place.path("accounts.parquet").display());
    place.warehouse(&copy);
    place.mapping("table", &mapping("table = \"accounts\"", "plan = \"plan\"", ""));
    let files = mapping("sql = \"FROM '*.parquet'\"", "plan = \"plan\"", "").replace("company", "file");
    place.mapping("files", &files);
    let daemon = Daemon::start(&place);
    let run = |sync: &str| {
        let run = daemon.run(sync, &json!({}))["run"].clone();
        (run["status"].as_str().unwrap().to_owned(), run["error_kind"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(run("table").0, "succeeded");
    assert_eq!(run("files").0, "succeeded");
    place.warehouse("ALTER TABLE accounts RENAME TO elsewhere");
    std::fs::remove_file(place.path("accounts.parquet")).unwrap();
    for sync in ["table", "files"] {
        assert_eq!(run(sync), ("failed".to_owned(), "source_busy".to_owned()), "{sync}");
    }
    std::fs::remove_file(place.path("warehouse.duckdb")).unwrap();
    assert_eq!(run("table"), ("failed".to_owned(), "source_busy".to_owned()));
    // AND a person who asks learns what is missing, at its place
    drop(daemon);
    place.run(&["run", "files"]).exits(2).says(&["the DuckDB file does not exist", "mappings/files.toml"]);
}
