//! Are views read that name the database they were made in, as dbt writes them, and is the cause told where they cannot be?

use duckdb::Connection;

use crate::support::cli::Place;

fn place(file: &str, from: &str) -> Place {
    let place = Place::new();
    place.write(
        "groupcast.toml",
        &format!("[sources.w]\ntype = \"duckdb\"\npath = \"{file}\"\n[destinations.out]\ntype = \"file\"\npath = \"out.ndjson\"\n"),
    );
    place.write(
        "mappings/accounts.toml",
        &format!(
            "source = \"w\"\ndestination = \"out\"\n[model]\n{from}\n[group]\ntype = \"company\"\nkey = \"id\"\n[traits]\nname = \"name\"\n"
        ),
    );
    place
}

fn made(place: &Place, file: &str, statements: &str) {
    Connection::open(place.path(file)).unwrap().execute_batch(statements).unwrap();
}

const SENT: &str = "{\"group_type\":\"company\",\"key\":\"007\",\"set\":{\"name\":\"Acme\"}}\n";

#[track_caller]
fn is_read(place: &Place) {
    place.run(&["check", "--connect"]).exits(0);
    place.run(&["run"]).exits(0);
    assert_eq!(place.read("out.ndjson"), SENT);
}

/// A file that DuckDB 1.5.6 made: the schema `analytics` in `analytics.duckdb`, and views that name all three parts.
fn made_by_1_5(place: &Place) {
    let packed: &[u8] = include_bytes!("../../fixtures/files/analytics-duckdb-1.5.6.gz");
    let mut file = std::fs::File::create(place.path("analytics.duckdb")).unwrap();
    std::io::copy(&mut flate2::read::GzDecoder::new(packed), &mut file).unwrap();
}

#[test]
fn a_schema_called_like_the_file() {
    for from in [
        "table = \"analytics.dim_accounts\"",
        "table = \"analytics.analytics.dim_accounts\"",
        "table = \"marts.dim_accounts\"",
        "sql = \"SELECT * FROM analytics.analytics.dim_accounts\"",
        "sql = \"SELECT * FROM marts.dim_accounts\"",
    ] {
        let place = place("analytics.duckdb", from);
        made_by_1_5(&place);
        is_read(&place);
    }
    // DuckDB 2.0 makes no such view any more; its tables, and views of two parts, are read.
    for from in [
        "table = \"analytics.stg\"",
        "table = \"analytics.dim\"",
        "sql = \"SELECT * FROM analytics.stg\"",
        "sql = \"SELECT * FROM analytics.analytics.stg\"",
    ] {
        let place = place("analytics.duckdb", from);
        made(
            &place,
            "analytics.duckdb",
            "CREATE SCHEMA analytics; USE analytics.analytics; \
             CREATE TABLE stg AS SELECT '007' AS id, 'Acme' AS name; CREATE VIEW dim AS SELECT * FROM stg",
        );
        is_read(&place);
    }
}

#[test]
fn views_of_three_parts_and_names_that_are_taken() {
    for stem in ["warehouse", "ledger", "source", "Groß-Handel 2"] {
        let place = place(&format!("{stem}.duckdb"), "table = \"dim\"");
        let statements = format!(
            "CREATE TABLE \"{stem}\".main.stg AS SELECT '007' AS id, 'Acme' AS name; \
             CREATE VIEW dim AS SELECT * FROM \"{stem}\".main.stg"
        );
        made(&place, &format!("{stem}.duckdb"), &statements);
        is_read(&place);
    }
    for stem in ["main", "system", "temp", "memory"] {
        let place = place(&format!("{stem}.duckdb"), "table = \"dim\"");
        let statements = "CREATE SCHEMA marts; CREATE TABLE marts.stg AS SELECT '007' AS id, 'Acme' AS name; \
                          CREATE VIEW dim AS SELECT * FROM marts.stg";
        made(&place, &format!("{stem}.duckdb"), statements);
        is_read(&place);
    }
}

#[test]
fn a_file_that_was_renamed_since_its_views_were_made() {
    // DuckDB 2.0 leaves the database's name out of a view.
    let renamed = place("warehouse.duckdb", "table = \"dim\"");
    let statements = "CREATE TABLE build.main.stg AS SELECT '007' AS id, 'Acme' AS name; \
                      CREATE VIEW dim AS SELECT * FROM build.main.stg";
    made(&renamed, "build.duckdb", statements);
    std::fs::rename(renamed.path("build.duckdb"), renamed.path("warehouse.duckdb")).unwrap();
    is_read(&renamed);
    let older = place("warehouse.duckdb", "table = \"marts.dim_accounts\"");
    made_by_1_5(&older);
    std::fs::rename(older.path("analytics.duckdb"), older.path("warehouse.duckdb")).unwrap();
    for command in [&["check", "--connect"][..], &["run"]] {
        let output = older.run(command).says(&["a view names the database it was made in", "`analytics.duckdb`"]);
        assert_ne!(output.code, Some(0), "{}", output.all());
    }
    assert!(!older.path("out.ndjson").exists());
}
