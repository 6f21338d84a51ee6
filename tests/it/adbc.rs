//! Sources behind ADBC drivers: the real drivers of DuckDB, SQLite and PostgreSQL, and one that misbehaves.
//!
//! DuckDB's driver is the library that the program links itself. The others come from the folder that `.ci/drivers` fills.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::json;

use crate::support::cli::{Output, Place, until};
use crate::support::postgres::shared;
use adbc_core::options::{AdbcVersion, OptionDatabase, OptionValue};
use adbc_core::{Connection as _, Database as _, Driver as _, Statement as _};

/// The folder of drivers.
fn drivers() -> PathBuf {
    match std::env::var_os("GROUPCAST_TEST_DRIVERS") {
        Some(folder) => PathBuf::from(folder),
        None => {
            let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
            let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"))).unwrap();
            cache.join("groupcast/drivers")
        }
    }
}

fn driver(name: &str) -> PathBuf {
    let path = drivers().join(format!("libadbc_driver_{name}.so"));
    assert!(path.is_file(), "{} is missing: run `.ci/drivers`", path.display());
    path
}

/// The driver that misbehaves, compiled once.
fn bad_driver() -> &'static Path {
    static PATH: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = PATH.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libbad.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/files/adbc_driver.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-Wno-deprecated-non-prototype", "-o"])
            .args([&path, Path::new(source)])
            .output()
            .unwrap();
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        (folder, path)
    });
    path
}

fn settings(name: &str, driver: &Path, more: &str) -> String {
    format!("[sources.{name}]\ntype = \"adbc\"\ndriver = \"{}\"\n{more}\n", driver.display())
}

fn file(name: &str) -> String {
    format!("[destinations.{name}]\ntype = \"file\"\npath = \"{name}.ndjson\"\n")
}

fn mapping(source: &str, table: &str, traits: &str, more: &str) -> String {
    format!(
        "source = \"{source}\"\ndestination = \"{source}\"\n\n[model]\ntable = \"{table}\"\n\n\
         [group]\ntype = \"company\"\nkey = \"id\"\n\n[traits]\n{traits}\n{more}"
    )
}

/// Runs statements through a driver.
fn execute(path: &Path, uri: &str, statements: &str) {
    let mut driver =
        adbc_driver_manager::ManagedDriver::load_dynamic_from_filename(path, None, AdbcVersion::V110).unwrap();
    let options = [(OptionDatabase::Uri, OptionValue::from(uri))];
    let database = driver.new_database_with_opts(options).unwrap();
    let mut connection = database.new_connection().unwrap();
    for sql in statements.split(";\n").map(str::trim).filter(|sql| !sql.is_empty()) {
        let mut statement = connection.new_statement().unwrap();
        statement.set_sql_query(sql).unwrap();
        statement.execute_update().unwrap_or_else(|error| panic!("{error}\n{sql}"));
    }
}

/// Columns with the values that every engine here can hold: name, its type in PostgreSQL and DuckDB, in SQLite, how the
/// trait is declared, and the values.
const COLUMNS: &[(&str, &str, &str, &str, &[&str])] = &[
    ("flag", "BOOLEAN", "INTEGER", "boolean", &["true", "false", "NULL"]),
    ("small", "SMALLINT", "INTEGER", "integer", &["-32768", "32767"]),
    (
        "big",
        "BIGINT",
        "INTEGER",
        "integer",
        &["9007199254740993", "-9223372036854775807 - 1", "9223372036854775807", "0"],
    ),
    ("money", "NUMERIC(12,2)", "TEXT", "number", &["12.50", "-0.01", "9999999999.99", "0.00"]),
    ("exact", "NUMERIC(38,10)", "TEXT", "string", &["'1234567890123456789012345678.0123456789'", "'-0.0000000001'"]),
    (
        "ratio",
        "DOUBLE PRECISION",
        "REAL",
        "number",
        &["0.1", "1e21", "1e-7", "5e-324", "1.7976931348623157e308", "123456789.125"],
    ),
    (
        "word",
        "TEXT",
        "TEXT",
        "string",
        &["''", "'Grüße 🎉 𝄞'", "'it''s \"quoted\" \\ `x`'", "' spaced '", "'null'", "'a\nb\tc'"],
    ),
    ("day", "DATE", "TEXT", "date", &["'2024-02-29'", "'1969-12-31'", "'1800-01-01'", "'9999-12-31'"]),
    (
        "moment",
        "TIMESTAMP",
        "TEXT",
        "timestamp",
        &[
            "'2024-01-02 03:04:05.678901'",
            "'1969-12-31 23:59:59.999999'",
            "'1677-01-01 00:00:00'",
            "'2300-01-01 00:00:00.000001'",
        ],
    ),
    (
        "zoned",
        "TIMESTAMP WITH TIME ZONE",
        "TEXT",
        "timestamp",
        &["'2024-01-02 03:04:05.678901+05:30'", "'1969-12-31 23:59:59.5+00'"],
    ),
    ("Hostile \"Name\" `x` [y]", "TEXT", "TEXT", "string", &["'hostile'"]),
];

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn rows(sqlite: bool) -> String {
    let mut sql = format!("CREATE TABLE {} (id TEXT", quoted("My Accounts"));
    for (name, usual, in_sqlite, _, _) in COLUMNS {
        sql.push_str(&format!(", {} {}", quoted(name), if sqlite { in_sqlite } else { usual }));
    }
    sql.push_str(");\n");
    for (at, (name, _, _, _, values)) in COLUMNS.iter().enumerate() {
        for (number, value) in values.iter().enumerate() {
            sql.push_str(&format!(
                "INSERT INTO {} (id, {}) VALUES ('{at}/{number}', {value});\n",
                quoted("My Accounts"),
                quoted(name)
            ));
        }
    }
    sql
}

fn traits() -> String {
    let one = |(at, (name, _, _, declared, _)): (usize, &(&str, &str, &str, &str, &[&str]))| {
        let column = name.replace('\\', "\\\\").replace('"', "\\\"");
        format!("t{at} = {{ column = \"{column}\", as = \"{declared}\" }}\n")
    };
    COLUMNS.iter().enumerate().map(one).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_rows_give_equal_bytes_whatever_the_driver() {
    // GIVEN the same rows in DuckDB, SQLite and PostgreSQL
    let place = Place::new();
    place.warehouse(&rows(false));
    std::fs::copy(place.path("warehouse.duckdb"), place.path("other.duckdb")).unwrap();
    execute(&driver("sqlite"), &place.path("warehouse.sqlite").display().to_string(), &rows(true));
    let database = Box::leak(Box::new(shared().create_database().await));
    database.execute(&rows(false)).await;
    let url = format!("postgres://root_user@127.0.0.1:{}/{}", shared().port(), database.name());
    let mut all = "[sources.native]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n".to_owned();
    let mut sources = vec!["native", "sqlite", "postgres"];
    // Where DuckDB is compiled into the program there is no library of it.
    if let Some(folder) = std::env::var_os("DUCKDB_LIB_DIR") {
        let library = PathBuf::from(folder).join("libduckdb.so");
        all +=
            &settings("duckdb", &library, "entrypoint = \"duckdb_adbc_init\"\noptions = { path = \"other.duckdb\" }");
        sources.push("duckdb");
    }
    all += &settings("sqlite", &driver("sqlite"), "uri = \"warehouse.sqlite\"");
    all += &settings("postgres", &driver("postgresql"), &format!("uri = \"{url}\""));
    for source in sources.iter().copied() {
        all += &file(source);
        place.mapping(source, &mapping(source, "\\\"My Accounts\\\"", &traits(), ""));
    }
    place.write("groupcast.toml", &all);
    // WHEN all of them run
    place.run(&["check", "--connect"]).exits(0);
    place.run(&["run"]).exits(0);
    // THEN they have written the same
    let native = place.read("native.ndjson");
    let values = COLUMNS.iter().flat_map(|column| column.4);
    assert_eq!(native.lines().count(), values.filter(|value| **value != "NULL").count());
    for source in &sources[1..] {
        for (left, right) in native.lines().zip(place.read(&format!("{source}.ndjson")).lines()) {
            assert_eq!(left, right, "DuckDB left, {source} right");
        }
        assert_eq!(native.len(), place.read(&format!("{source}.ndjson")).len(), "{source}");
    }
    // AND nothing is sent again
    place.run(&["run"]).exits(0);
    assert_eq!(place.read("native.ndjson"), native);
    assert_eq!(place.read("postgres.ndjson"), native);
}

#[test]
fn only_rows_at_and_after_the_cursor_are_read_again() {
    let place = Place::new();
    let sqlite = driver("sqlite");
    let uri = place.path("warehouse.sqlite").display().to_string();
    execute(
        &sqlite,
        &uri,
        "CREATE TABLE accounts (id TEXT, plan TEXT, version INTEGER);\n\
         INSERT INTO accounts VALUES ('a', 'free', 1), ('b', 'free', 2);\n",
    );
    place.write("groupcast.toml", &(settings("sqlite", &sqlite, "uri = \"warehouse.sqlite\"") + &file("sqlite")));
    let incremental = "[incremental]\ncursor = \"version\"\nlookback = \"0s\"\nfull_every = \"1d\"";
    place.mapping("accounts", &mapping("sqlite", "accounts", "plan = \"plan\"", incremental));
    place.run(&["run"]).exits(0);
    // WHEN one row changes with its version, and another behind the cursor
    execute(
        &sqlite,
        &uri,
        "UPDATE accounts SET plan = 'pro', version = 3 WHERE id = 'b';\nUPDATE accounts SET plan = 'pro' WHERE id = 'a';\n",
    );
    // THEN the first one is read and sent
    let run = place.run(&["run", "--json"]).exits(0).json();
    assert_eq!(run["runs"][0]["counts"]["rows"], 1, "{run}");
    assert!(
        place
            .read("sqlite.ndjson")
            .ends_with("{\"group_type\":\"company\",\"key\":\"b\",\"set\":{\"plan\":\"pro\"}}\n")
    );
}

/// A place whose source is the driver that misbehaves.
fn misbehaving(how: &str) -> Place {
    let place = Place::new();
    let more = format!("dialect = \"postgres\"\nuri = \"{how}\"\nstall_timeout_seconds = 2");
    place.write("groupcast.toml", &(settings("bad", bad_driver(), &more) + &file("bad")));
    place.mapping("accounts", &mapping("bad", "accounts", "seats = \"seats\"", ""));
    place
}

fn sent(place: &Place) -> usize {
    std::fs::read_to_string(place.path("bad.ndjson")).unwrap_or_default().lines().count()
}

#[test]
fn what_a_driver_prints_is_not_taken_for_rows() {
    for how in ["rows=3000;print", "rows=3000;flood"] {
        let place = misbehaving(how);
        place.run(&["run"]).exits(0);
        assert_eq!(sent(&place), 3000, "{how}");
    }
}

#[test]
fn a_driver_that_stops_in_the_middle_never_yields_half_a_table() {
    for (how, words) in [
        ("rows=5000;exit=4000", "the driver ended its process (exit status: 3)"),
        ("rows=5000;abort=4000", "the driver ended its process (signal: 6"),
        ("rows=5000;fail=4000", "the connection was reset"),
        ("rows=5000;hang=4000", "the driver sent nothing for 2s"),
        ("rows=5000;narrow", "1 columns instead of 2"),
    ] {
        // GIVEN a sync that has sent everything before
        let place = misbehaving("rows=5000");
        place.run(&["run"]).exits(0);
        assert_eq!(sent(&place), 5000);
        // WHEN the driver stops in the middle
        let settings = place.read("groupcast.toml").replace("rows=5000", how);
        place.write("groupcast.toml", &settings);
        // THEN it is an error of the source, with a next step, and nothing counts as gone
        let output: Output = place.run(&["run"]).exits(1).says(&[words, "help:", "source bad"]);
        assert!(!output.all().contains("panicked"), "{}", output.all());
        assert_eq!(sent(&place), 5000, "{how}");
        let status = place.run(&["status", "--json"]).exits(0).json();
        assert_eq!(status["syncs"][0]["groups"]["synced"], 5000, "{how}: {status}");
    }
}

#[test]
fn a_refused_login_shows_the_drivers_words_without_the_password() {
    let mut place = misbehaving("refuse;x=${PASSWORD}");
    place.set("PASSWORD", "s3cr3t-s3cr3t");
    let settings = place.read("groupcast.toml").replace("stall", "password = \"${PASSWORD}\"\nstall");
    place.write("groupcast.toml", &settings);
    let output = place.run(&["check", "--connect"]);
    assert!(output.all().contains("wrong password ***"), "{}", output.all());
    assert!(!output.all().contains("s3cr3t"), "{}", output.all());
}

#[test]
fn a_driver_that_is_not_there_says_what_to_do() {
    let place = misbehaving("rows=1");
    let settings = place.read("groupcast.toml").replace(&bad_driver().display().to_string(), "no_such_warehouse");
    place.write("groupcast.toml", &settings);
    place.run(&["check", "--connect"]).exits(2).says(&["no_such_warehouse", "dbc install no_such_warehouse"]);
}

#[test]
fn another_library_than_the_pinned_one_is_not_loaded() {
    use sha2::Digest as _;
    let place = misbehaving("rows=1");
    let right = hex::encode(sha2::Sha256::digest(std::fs::read(bad_driver()).unwrap()));
    let settings = place.read("groupcast.toml");
    place.write("groupcast.toml", &settings.replace("stall", &format!("sha256 = \"{right}\"\nstall")));
    place.run(&["run"]).exits(0);
    place.write("groupcast.toml", &settings.replace("stall", &format!("sha256 = \"{}\"\nstall", "0".repeat(64))));
    place.run(&["run"]).exits(2).says(&["is not the one that `sha256` names"]);
}

/// The reader processes of a process, by number.
fn readers_of(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers
        .filter(|number| {
            let line = std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
            let after = line.rsplit_once(')').map_or("", |(_, after)| after);
            let mut fields = after.split_whitespace();
            fields.next().is_some_and(|state| state != "Z") && fields.next() == Some(&parent.to_string())
        })
        .collect()
}

#[test]
fn no_reader_outlives_a_run_that_is_cancelled_or_killed() {
    for signal in ["INT", "KILL"] {
        // GIVEN a run whose driver hangs
        let mut place = misbehaving("rows=5000;hang=4000");
        place.set("A_SECRET_OF_THE_USER", "s3cr3t-s3cr3t");
        let settings = place.read("groupcast.toml").replace("stall_timeout_seconds = 2", "");
        place.write("groupcast.toml", &settings);
        let run = place.start(&["run"]);
        let reader = until("a reader runs", || readers_of(run.pid()).first().copied());
        until("it has its program", || {
            let line = std::fs::read(format!("/proc/{reader}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains("read-through-adbc").then_some(())
        });
        // THEN neither its command line nor its environment has a secret
        let shown = [format!("/proc/{reader}/cmdline"), format!("/proc/{reader}/environ")];
        let shown: String =
            shown.iter().map(|path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()).collect();
        assert!(!shown.contains("s3cr3t") && !shown.contains("hang"), "{shown}");
        // WHEN the run ends THEN so does the reader
        run.signal(signal);
        let output = run.wait();
        assert_ne!(output.code, Some(0));
        until("the reader is gone", || {
            (!Path::new(&format!("/proc/{reader}/cmdline")).exists()
                || std::fs::read(format!("/proc/{reader}/cmdline")).unwrap_or_default().is_empty())
            .then_some(())
        });
        assert_eq!(sent(&place), 0);
    }
}

#[test]
fn a_reader_may_be_killed_at_any_moment() {
    let kills: u32 = std::env::var("GROUPCAST_READER_KILLS").map_or(12, |count| count.parse().unwrap());
    // GIVEN a source whose rows come slowly, and a synced state that is whole
    let place = misbehaving("rows=4000;batch=20;slow");
    place.run(&["run"]).exits(0);
    assert_eq!(sent(&place), 4000);
    let mut failed = 0;
    for kill in 0..kills {
        // WHEN its reader is killed somewhere in the middle
        let run = place.start(&["run", "--full"]);
        let reader = until("a reader runs", || readers_of(run.pid()).first().copied());
        std::thread::sleep(std::time::Duration::from_millis(u64::from(kill * 37 % 400)));
        let _ = Command::new("kill").args(["-KILL", &reader.to_string()]).output().unwrap();
        let output = run.wait();
        // THEN the run has failed or had read everything, and never takes half a table for a whole one
        match output.code {
            Some(0) => {}
            Some(1) => {
                failed += 1;
                assert!(
                    output.all().contains("the driver ended its process (signal: 9 (SIGKILL))"),
                    "{}",
                    output.all()
                );
            }
            _ => panic!("{}", output.all()),
        }
        assert_eq!(sent(&place), 4000);
    }
    assert!(failed > 0);
    let status = place.run(&["status", "--json"]).exits(0).json();
    assert_eq!(status["syncs"][0]["groups"], json!({"rejected": 0, "synced": 4000, "unconfirmed": 0}));
}

#[test]
fn a_mapping_is_written_from_a_drivers_table() {
    let place = misbehaving("rows=10");
    std::fs::remove_file(place.path("mappings/accounts.toml")).unwrap();
    place.run(&["init", "--source", "bad", "--table", "accounts"]).exits(0);
    let written = place.read("mappings/accounts.toml");
    assert!(written.contains("key = \"id\"") && written.contains("seats"), "{written}");
    place.run(&["plan"]).exits(0).says(&["acct_0"]);
}

#[test]
fn a_backslash_before_a_mark_means_what_the_warehouse_says() {
    for (dialect, text, sound) in [
        ("bigquery", r"name = 'it\'s'", true),
        ("databricks", r"name = 'it\'s'", true),
        ("mysql", r"`it's` = 1", true),
        ("postgres", r"name = 'it\'s'", false),
        ("bigquery", r"name = 'C:\'", false),
        ("postgres", r"name = 'C:\'", true),
    ] {
        let place = misbehaving("rows=10");
        let settings =
            place.read("groupcast.toml").replace("dialect = \"postgres\"", &format!("dialect = \"{dialect}\""));
        place.write("groupcast.toml", &settings);
        let model = format!("where = \"\"\"\n{}\"\"\"\n\n[group]", text.replace('\\', "\\\\"));
        place.mapping("accounts", &mapping("bad", "accounts", "seats = \"seats\"", "").replace("[group]", &model));
        let output = place.run(&["check"]).exits(if sound { 0 } else { 2 });
        assert_eq!(output.all().contains("is never closed in the SQL"), !sound, "{dialect}: {}", output.all());
    }
}
