//! Do the mappings and examples we ship work as they are? The real program checks each against the tables it expects.

use std::path::Path;
use std::process::{Command, Output};

use duckdb::Connection;

use crate::support::postgres::shared;

fn groupcast(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_groupcast"))
        .arg("-C")
        .arg(folder)
        .args(arguments)
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

fn succeeds(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let output = groupcast(folder, arguments, environment);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{} {arguments:?}:\n{out}\n{err}", folder.display());
    out.into_owned()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn shipped(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The statements in a mapping's opening comment: its lines that are indented.
fn expected_tables(text: &str) -> String {
    let comment = text.lines().take_while(|line| line.starts_with('#'));
    comment.filter_map(|line| line.strip_prefix("#   ")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn every_ready_mapping_fits_the_tables_its_comment_describes() {
    let mut count = 0;
    for entry in std::fs::read_dir(shipped("mappings")).unwrap() {
        let path = entry.unwrap().path();
        if path.to_str().unwrap().ends_with(".test.toml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let tables = expected_tables(&text);
        assert!(tables.contains("CREATE TABLE"), "{} tells its tables", path.display());
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("mappings")).unwrap();
        std::fs::copy(&path, folder.path().join("mappings").join(path.file_name().unwrap())).unwrap();
        std::fs::write(
            folder.path().join("groupcast.toml"),
            "[sources.warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n\
             [destinations.amplitude]\ntype = \"amplitude\"\napi_key = \"${AMPLITUDE_API_KEY}\"\n\
             [destinations.mixpanel]\ntype = \"mixpanel\"\ntoken = \"${AMPLITUDE_API_KEY}\"\n\
             [destinations.journy]\ntype = \"journy\"\napi_key = \"${AMPLITUDE_API_KEY}\"\n\
             [destinations.hook]\ntype = \"webhook\"\nurl = \"https://hooks.example.com/groups\"\ndedup = true\n\
             [destinations.segment]\ntype = \"segment\"\nwrite_key = \"${AMPLITUDE_API_KEY}\"\n\
             [destinations.thrivestack]\ntype = \"thrivestack\"\napi_key = \"${AMPLITUDE_API_KEY}\"\n\
             [destinations.changes]\ntype = \"file\"\npath = \"changes.ndjson\"\n\
             [destinations.posthog]\ntype = \"posthog\"\napi_key = \"${POSTHOG_API_KEY}\"\n",
        )
        .unwrap();
        let warehouse = Connection::open(folder.path().join("warehouse.duckdb")).unwrap();
        warehouse.execute_batch(&format!("CREATE SCHEMA analytics; {tables}")).unwrap();
        drop(warehouse);
        let environment = [("AMPLITUDE_API_KEY", "a-key-for-tests"), ("POSTHOG_API_KEY", "phc_for_tests")];
        succeeds(folder.path(), &["check"], &environment);
        // A plan asks the source everything that `check --connect` asks it, and needs no destination.
        succeeds(folder.path(), &["plan"], &environment);
        count += 1;
    }
    assert_eq!(count, 11);
}

#[test]
fn the_csv_example_runs_and_then_sends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    copy(&shipped("examples/duckdb-to-file"), folder.path());
    for made in ["state", "changes.ndjson"] {
        let made = folder.path().join(made);
        drop(std::fs::remove_dir_all(&made));
        drop(std::fs::remove_file(&made));
    }
    succeeds(folder.path(), &["check", "--connect"], &[]);
    assert!(succeeds(folder.path(), &["run"], &[]).contains("3 delivered"));
    assert!(succeeds(folder.path(), &["run"], &[]).contains("nothing sent"));
    let lines = std::fs::read_to_string(folder.path().join("changes.ndjson")).unwrap();
    assert_eq!(lines.lines().count(), 3);
    assert!(lines.contains(r#""seat_usage":0.2"#), "{lines}");
}

#[tokio::test]
async fn the_postgresql_example_plans_its_three_accounts() {
    let database = shared().create_database().await;
    database.execute(&std::fs::read_to_string(shipped("examples/postgres-to-amplitude/warehouse.sql")).unwrap()).await;
    let folder = tempfile::tempdir().unwrap();
    copy(&shipped("examples/postgres-to-amplitude"), folder.path());
    let url = format!("postgres://root_user@127.0.0.1:{}/{}", shared().port(), database.name());
    let environment = [("WAREHOUSE_URL", url.as_str()), ("AMPLITUDE_API_KEY", "a-key-for-tests")];
    succeeds(folder.path(), &["check"], &environment);
    let plan = succeeds(folder.path(), &["plan"], &environment);
    assert!(plan.contains("3 to add") && plan.contains("90000.5"), "{plan}");
}
