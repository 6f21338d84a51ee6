//! Sources behind ADBC drivers: one that misbehaves, and what the conformance of `sources` has not of the real ones.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::json;

use crate::sources::drivers::{driver, execute};
use crate::sources::{has_ended, readers_of};
use crate::support::cli::{Output, Place, until};

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

#[test]
fn init_reads_a_sqlite_file_by_its_path() {
    let place = Place::new();
    let sqlite = driver("sqlite");
    let uri = place.path("app.sqlite").display().to_string();
    execute(&sqlite, &uri, "CREATE TABLE accounts (id TEXT, name TEXT);\nINSERT INTO accounts VALUES ('a', 'Acme');\n");
    let library = format!("driver={}", sqlite.display());
    let init = |path: &str| {
        let path = format!("path={path}");
        place.run(&[
            "init",
            "new",
            "--source-type",
            "sqlite",
            "--source-set",
            &library,
            "--source-set",
            &path,
            "--table",
            "accounts",
            "--key",
            "id",
            "--destination-type",
            "file",
        ])
    };
    init("nosuch.sqlite").exits(2).says(&["failed to read nosuch.sqlite", "--source-set path=FILE"]);
    assert!(!place.path("nosuch.sqlite").exists(), "SQLite would have made it");
    init("app.sqlite").exits(0).says(&["1 mapping valid"]);
    let settings = place.read("new/groupcast.toml");
    assert!(settings.contains("type = \"adbc\"") && settings.contains("app.sqlite\""), "{settings}");
    place.run(&["-C", "new", "run"]).exits(0).says(&["1 delivered"]);
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
    // A machine under load lets a driver that works wait for seconds; only one that hangs is given up soon.
    let stall = if how.contains("hang") { 2 } else { 60 };
    let more = format!("dialect = \"postgres\"\nuri = \"{how}\"\nstall_timeout_seconds = {stall}");
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
        place.write("groupcast.toml", &misbehaving(how).read("groupcast.toml"));
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
        until("the reader is gone", || has_ended(reader).then_some(()));
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
        let mut run = place.start(&["run", "--full"]);
        // On a machine under load the run may have ended before its reader is seen.
        let reader = until("a reader runs", || match readers_of(run.pid()).first() {
            None if !run.ended() => None,
            reader => Some(reader.copied()),
        });
        if let Some(reader) = reader {
            std::thread::sleep(std::time::Duration::from_millis(u64::from(kill * 37 % 400)));
            let _ = Command::new("kill").args(["-KILL", &reader.to_string()]).output().unwrap();
        }
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
