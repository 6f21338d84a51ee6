//! Do a PostgreSQL and a DuckDB source that hold the same rows say the same, byte for byte?

use serde_json::Value;

use crate::support::cli::{Place, Receiver, mapping};
use crate::support::postgres::{Database, shared};

/// A column with its values. Where the engines spell a type or a value differently: `PostgreSQL ¦ DuckDB`.
const COLUMNS: &[(&str, &str, &[&str])] = &[
    ("bool", "BOOLEAN", &["true", "false", "NULL"]),
    ("int2", "SMALLINT", &["-32768", "32767"]),
    ("int4", "INTEGER", &["-2147483648", "0"]),
    ("int8", "BIGINT", &["9007199254740993", "-9223372036854775808", "9223372036854775807"]),
    ("money", "NUMERIC(12,2)", &["12.50", "-0.01", "1000", "0.00", "9999999999.99"]),
    (
        "exact",
        "NUMERIC(38,10)",
        &[
            "1234567890123456789012345678.0123456789",
            "-0.0000000001",
            "9007199254740993",
            "100000000000000000000.5",
            "0",
        ],
    ),
    (
        "float8",
        "DOUBLE PRECISION",
        &["0.1", "1e21", "1e-7", "5e-324", "1.7976931348623157e308", "-0.0", "123456789.125", "'NaN'", "'-Infinity'"],
    ),
    ("float4", "REAL", &["0.1", "3.4028235e38", "16777216", "1e-45", "'Infinity'"]),
    (
        "word",
        "TEXT",
        &[
            "''",
            "'Grüße 🎉 𝄞 \u{202e}'",
            "E'tab\\tline\\nquote\"back\\\\'",
            "'it''s'",
            "' spaced '",
            "'true'",
            "'null'",
        ],
    ),
    ("short", "VARCHAR(8)", &["'é🎉'"]),
    ("padded", "CHAR(5)", &["'ab'"]),
    ("uuid", "UUID", &["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"]),
    (
        "json",
        "JSON",
        &[
            r#"'{"b": 1.50, "a": [null, 9007199254740993, 1e400, "é"], "c": {"z": true}}'"#,
            "'null'",
            "'\"text\"'",
            "'[]'",
            "' 5.0 '",
        ],
    ),
    ("bytes", "BYTEA ¦ BLOB", &["'\\xdeadbeef00' ¦ from_hex('DEADBEEF00')", "'' ¦ ''::BLOB"]),
    (
        "day",
        "DATE",
        &[
            "'2024-02-29'",
            "'1969-12-31'",
            "'0001-01-01'",
            "'9999-12-31'",
            "'10000-01-01'",
            "'0044-03-15 BC' ¦ '0044-03-15 (BC)'",
            "'infinity'",
            "'-infinity'",
        ],
    ),
    ("hour", "TIME", &["'00:00:00'", "'23:59:59.999999'", "'12:30:00.5'", "'24:00:00'"]),
    (
        "moment",
        "TIMESTAMP",
        &[
            "'2024-01-02 03:04:05.678901'",
            "'1969-12-31 23:59:59.999999'",
            "'2024-01-02 03:04:05'",
            "'0044-03-15 01:02:03 BC' ¦ '0044-03-15 (BC) 01:02:03'",
            "'infinity'",
            "'-infinity'",
        ],
    ),
    ("zoned", "TIMESTAMPTZ", &["'2024-01-02 03:04:05.678901+05:30'", "'2024-07-01 00:00:00-04'", "'infinity'"]),
    (
        "span",
        "INTERVAL",
        &[
            "'1 year 2 months 3 days 04:05:06.789'",
            "'-1 month'",
            "'0 seconds'",
            "'-00:00:00.5'",
            "'36 hours'",
            "'1 month -1 day 00:00:01'",
        ],
    ),
    ("ints", "INTEGER[]", &["ARRAY[1, NULL, 3]", "'{}' ¦ []", "ARRAY[NULL]::INTEGER[]"]),
    ("bigs", "BIGINT[]", &["ARRAY[9007199254740993]"]),
    ("words", "TEXT[]", &["ARRAY['a', '', NULL, 'NULL', '🎉', 'x,y', '\"q\"', '{}']"]),
    ("bools", "BOOLEAN[]", &["ARRAY[true, false, NULL]"]),
    ("sums", "NUMERIC(12,2)[]", &["ARRAY[1.50, 2, NULL]"]),
    ("floats", "DOUBLE PRECISION[]", &["ARRAY[0.1, 1e21]"]),
    ("days", "DATE[]", &["ARRAY['2024-02-29', NULL]::DATE[]"]),
    ("moments", "TIMESTAMP[]", &["ARRAY['2024-01-02 03:04:05.5']::TIMESTAMP[]"]),
    ("uuids", "UUID[]", &["ARRAY['a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11']::UUID[]"]),
    ("grid", "INTEGER[][]", &["ARRAY[ARRAY[1, 2], ARRAY[3, 4]]"]),
    ("mood", "mood", &["'happy'"]),
];

/// The spelling of one engine.
fn spelled(text: &str, postgres: bool) -> &str {
    match text.split_once(" ¦ ") {
        Some((post, duckdb)) => {
            if postgres {
                post
            } else {
                duckdb
            }
        }
        None => text,
    }
}

/// Every value in a row of its own, so that a refused one hides no other.
fn table(postgres: bool) -> String {
    let mut sql = "CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE TABLE accounts (id TEXT".to_owned();
    for (name, kind, _) in COLUMNS {
        sql.push_str(&format!(", {name}_ {}", spelled(kind, postgres)));
    }
    sql.push_str(");");
    for (name, _, values) in COLUMNS {
        for (at, value) in values.iter().enumerate() {
            sql.push_str(&format!(
                "INSERT INTO accounts (id, {name}_) VALUES ('{name}/{at}', {});\n",
                spelled(value, postgres)
            ));
        }
    }
    sql
}

async fn both(place: &Place, sql: impl Fn(bool) -> String) -> &'static Database {
    let database: &'static Database = Box::leak(Box::new(shared().create_database().await));
    database.execute(&sql(true)).await;
    // A type of this very schema shadows nothing in DuckDB.
    place.warehouse(&sql(false));
    database
}

fn settings(database: &Database, destinations: &str) -> String {
    format!(
        "[sources.duck]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n\
         [sources.post]\ntype = \"postgres\"\nurl = \"postgres://root_user@127.0.0.1:{}/{}\"\n\
         [sources.cursor]\ntype = \"postgres\"\nread = \"cursor\"\nurl = \"postgres://root_user@127.0.0.1:{}/{}\"\n{destinations}",
        shared().port(),
        database.name(),
        shared().port(),
        database.name()
    )
}

const SOURCES: [&str; 3] = ["duck", "post", "cursor"];

/// One file per source.
fn files() -> String {
    SOURCES
        .iter()
        .map(|source| format!("[destinations.{source}]\ntype = \"file\"\npath = \"{source}.ndjson\"\n"))
        .collect()
}

/// What was rejected, without the times.
fn rejected(place: &Place, source: &str) -> Vec<(String, String)> {
    let all = place.run(&["rejected", source, "--json"]).exits(0).json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    all["rejected"].as_array().unwrap().iter().map(|one| (text(&one["key"]), text(&one["reason"]))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_rows_give_equal_bytes() {
    // GIVEN the same rows in both engines, each column as it is by default, and as text
    let place = Place::new();
    let database = both(&place, table).await;
    place.write("groupcast.toml", &settings(database, &files()));
    for (suffix, declared) in [("", None), ("_text", Some("string"))] {
        let mut traits = String::new();
        for (name, kind, _) in COLUMNS {
            let needed = if kind.starts_with("NUMERIC(") && !kind.ends_with(']') { Some("number") } else { None };
            match declared.or(needed) {
                Some(declared) => {
                    traits.push_str(&format!("{name} = {{ column = \"{name}_\", as = \"{declared}\" }}\n"))
                }
                None => traits.push_str(&format!("{name} = \"{name}_\"\n")),
            }
        }
        let text = mapping(&traits, "").replace("\"company\"", &format!("\"company{suffix}\""));
        for source in SOURCES {
            let text = text
                .replace("\"warehouse\"", &format!("\"{source}\""))
                .replace("\"amplitude\"", &format!("\"{source}\""));
            place.mapping(&format!("{source}{suffix}"), &text);
        }
    }
    // WHEN all run
    place.run(&["check", "--connect"]).exits(0);
    place.run(&["run"]).exits(3);
    // THEN the lines are equal
    let [duckdb, post, cursor] = SOURCES.map(|source| place.read(&format!("{source}.ndjson")));
    for (name, other) in [("post", &post), ("cursor", &cursor)] {
        for (left, right) in duckdb.lines().zip(other.lines()) {
            assert_eq!(left, right, "DuckDB left, {name} right");
        }
        assert_eq!(duckdb.len(), other.len());
    }
    // AND so is what cannot be said, and why
    for suffix in ["", "_text"] {
        let [duckdb, post, cursor] = SOURCES.map(|source| rejected(&place, &format!("{source}{suffix}")));
        assert_eq!(duckdb, post);
        assert_eq!(post, cursor);
        let keys: Vec<&str> = duckdb.iter().map(|(key, _)| key.as_str()).collect();
        println!("rejected{suffix}: {keys:?}");
    }
    // AND they are right
    for line in [
        r#"{"group_type":"company","key":"int8/0","set":{"int8":9007199254740993}}"#,
        r#"{"group_type":"company","key":"int8/1","set":{"int8":-9223372036854775808}}"#,
        r#"{"group_type":"company","key":"money/0","set":{"money":12.5}}"#,
        r#"{"group_type":"company","key":"exact/0","set":{"exact":1234567890123456789012345678.0123456789}}"#,
        r#"{"group_type":"company","key":"exact/1","set":{"exact":-1e-10}}"#,
        r#"{"group_type":"company","key":"float8/0","set":{"float8":0.1}}"#,
        r#"{"group_type":"company","key":"float8/1","set":{"float8":1000000000000000000000}}"#,
        r#"{"group_type":"company","key":"float8/5","set":{"float8":0}}"#,
        r#"{"group_type":"company","key":"float4/0","set":{"float4":0.1}}"#,
        r#"{"group_type":"company","key":"word/0","set":{"word":""}}"#,
        r#"{"group_type":"company","key":"padded/0","set":{"padded":"ab"}}"#,
        r#"{"group_type":"company","key":"uuid/0","set":{"uuid":"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"}}"#,
        r#"{"group_type":"company","key":"bytes/0","set":{"bytes":"deadbeef00"}}"#,
        r#"{"group_type":"company","key":"day/0","set":{"day":"2024-02-29"}}"#,
        r#"{"group_type":"company","key":"moment/0","set":{"moment":"2024-01-02T03:04:05.678901Z"}}"#,
        r#"{"group_type":"company","key":"zoned/0","set":{"zoned":"2024-01-01T21:34:05.678901Z"}}"#,
        r#"{"group_type":"company","key":"ints/0","set":{"ints":[1,null,3]}}"#,
        r#"{"group_type":"company","key":"bigs/0","set":{"bigs":[9007199254740993]}}"#,
        r#"{"group_type":"company","key":"grid/0","set":{"grid":[[1,2],[3,4]]}}"#,
        r#"{"group_type":"company","key":"mood/0","set":{"mood":"happy"}}"#,
        r#"{"group_type":"company_text","key":"int8/0","set":{"int8":"9007199254740993"}}"#,
        r#"{"group_type":"company_text","key":"money/0","set":{"money":"12.50"}}"#,
    ] {
        assert!(duckdb.lines().any(|written| written == line), "{line} is missing in\n{duckdb}");
    }
    // AND nothing is news the second time
    place.run(&["run"]).exits(3);
    assert_eq!(place.read("duck.ndjson"), duckdb);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_every_type_are_the_same_text() {
    let place = Place::new();
    let kinds = [
        ("TEXT", "'é 🎉'"),
        ("VARCHAR(10)", "' x '"),
        ("BIGINT", "-9007199254740993"),
        ("SMALLINT", "7"),
        ("NUMERIC(38,10)", "1.5"),
        ("NUMERIC(10,2)", "12345678.90"),
        ("UUID", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"),
    ];
    let sql = |_| {
        let tables = kinds.iter().enumerate().map(|(at, (kind, key))| {
            format!("CREATE TABLE t{at} (id {kind}, n INTEGER); INSERT INTO t{at} VALUES ({key}, 1);")
        });
        tables.collect()
    };
    let database = both(&place, sql).await;
    place.write("groupcast.toml", &settings(database, &files()));
    for at in 0..kinds.len() {
        for source in SOURCES {
            let text = mapping("n = \"n\"", "")
                .replace("\"accounts\"", &format!("\"t{at}\""))
                .replace("\"company\"", &format!("\"t{at}\""));
            place.mapping(
                &format!("{source}{at}"),
                &text
                    .replace("\"warehouse\"", &format!("\"{source}\""))
                    .replace("\"amplitude\"", &format!("\"{source}\"")),
            );
        }
    }
    place.run(&["run"]).exits(0);
    let [duckdb, post, cursor] = SOURCES.map(|source| place.read(&format!("{source}.ndjson")));
    assert_eq!((&duckdb, &post), (&post, &cursor));
    let keys: Vec<String> = duckdb
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["key"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        keys,
        [
            "é 🎉",
            " x ",
            "-9007199254740993",
            "7",
            "1.5000000000",
            "12345678.90",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
        ]
    );
    // One group is found by the key as it is shown.
    for (at, key) in keys.iter().enumerate() {
        for source in SOURCES {
            let one = place.run(&["plan", &format!("{source}{at}"), "--group", key]).exits(0);
            one.says(&["1 unchanged"]);
            place.run(&["group", &format!("{source}{at}"), key]).exits(0).says(&["TRAIT"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_reach_amplitude_as_they_are_declared() {
    let receiver = Receiver::start();
    let mut place = Place::new();
    place.set("AMPLITUDE_API_KEY", crate::support::cli::KEY);
    let sql = |_| {
        "CREATE TABLE accounts (id TEXT, big BIGINT, arr NUMERIC(14,2), long NUMERIC(38,10), ratio DOUBLE PRECISION, word TEXT);
         INSERT INTO accounts VALUES ('a', 9007199254740993, 1250.50, 1234567890123456789012345678.0123456789, 0.1, '12.0'),
            ('b', 2, 9999999999.99, 0.1, 1e21, '1e3')"
            .to_owned()
    };
    let database = both(&place, sql).await;
    let url = &receiver.url;
    let amplitude = format!(
        "[destinations.amplitude]\ntype = \"amplitude\"\napi_key = \"${{AMPLITUDE_API_KEY}}\"\nbase_url = \"{url}\"\n"
    );
    place.write("groupcast.toml", &settings(database, &amplitude));
    let traits = "big = { column = \"big\", as = \"string\" }\narr = { column = \"arr\", as = \"number\" }\n\
        long = { column = \"long\", as = \"string\" }\nratio = \"ratio\"\nword = { column = \"word\", as = \"number\" }";
    for source in SOURCES {
        place.mapping(
            source,
            &mapping(traits, "")
                .replace("\"warehouse\"", &format!("\"{source}\""))
                .replace("\"company\"", &format!("\"{source}\"")),
        );
    }
    place.run(&["run"]).exits(0);
    for (request, source) in receiver.since(0).iter().zip(["cursor", "duck", "post"]) {
        let text =
            form_urlencoded::parse(&request.body).find(|(name, _)| name == "identification").unwrap().1.into_owned();
        let set = |key: &str, traits: &str| {
            format!(r#"{{"group_properties":{{"$set":{{{traits}}}}},"group_type":"{source}","group_value":"{key}"}}"#)
        };
        let a = set(
            "a",
            r#""arr":1250.5,"big":"9007199254740993","long":"1234567890123456789012345678.0123456789","ratio":0.1,"word":12"#,
        );
        let b = set(
            "b",
            r#""arr":9999999999.99,"big":"2","long":"0.1000000000","ratio":1000000000000000000000,"word":1000"#,
        );
        assert_eq!(text, format!("[{a},{b}]"));
    }
    assert_eq!(receiver.requests(), 3);
    // A number the vendor would round is refused, not rounded.
    for source in SOURCES {
        let text = mapping("big = \"big\"\nlong = { column = \"long\", as = \"number\" }", "");
        place.mapping(
            source,
            &text.replace("\"warehouse\"", &format!("\"{source}\"")).replace("\"company\"", &format!("\"{source}\"")),
        );
    }
    place.run(&["plan"]).exits(0).says(&["a number that Amplitude would round", "as = \"string\""]);
    place.run(&["run"]).exits(3);
    for source in SOURCES {
        let rejected = rejected(&place, source);
        assert_eq!(rejected.len(), 1);
        assert!(rejected[0].0 == "a" && rejected[0].1.contains("trait `big`"), "{rejected:?}");
    }
}
