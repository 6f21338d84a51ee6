//! Does DuckDB load what `[duckdb]` names, and only that; is what it attaches read like any table; and does an extension or a
//! secret that is missing hurt only the syncs that need it?
//!
//! The extensions here are small ones of our own. DuckDB's are tried by `make test-warehouses`.

use std::path::Path;
use std::process::Command;

use crate::support::cli::Place;
use crate::support::daemon::Daemon;

/// What an extension was built for: the interface, its version, and the platform.
type BuiltFor<'a> = [&'a str; 3];

fn platform() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "linux_arm64",
        _ => "linux_amd64",
    }
}

/// Builds an extension of this name.
fn extension(folder: &Path, name: &str, [interface, version, platform]: BuiltFor<'_>, fails: bool) -> String {
    let (library, path) = (folder.join(format!("{name}.so")), folder.join(format!("{name}.duckdb_extension")));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/files/duckdb_extension.c");
    let mut command = Command::new("cc");
    command.args(["-shared", "-fPIC", &format!("-DINIT={name}_init_c_api"), "-o"]).args([&library, Path::new(source)]);
    if fails {
        command.arg("-DFAILS");
    }
    let compiled = command.output().unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    // What DuckDB reads at the end: eight fields from the last to the first, and a signature.
    let mut bytes = std::fs::read(&library).unwrap();
    for field in ["", "", "", interface, "1.0", version, platform, "4"] {
        let mut field = field.as_bytes().to_vec();
        field.resize(32, 0);
        bytes.extend(field);
    }
    bytes.extend([0; 256]);
    std::fs::write(&path, bytes).unwrap();
    path.display().to_string()
}

fn mapping(name: &str, table: &str) -> String {
    format!(
        "source = \"{name}\"\ndestination = \"{name}\"\nschedule = {{ every = \"1d\" }}\n[model]\ntable = \"{table}\"\n[group]\n\
         type = \"company\"\nkey = \"id\"\n[traits]\nplan = \"plan\"\n"
    )
}

/// A project with these sources, each with a destination and a mapping of its name, and a DuckDB file to read.
fn place(duckdb: &str, sources: &[(&str, &str, &str)]) -> Place {
    let place = Place::new();
    place.warehouse(
        "CREATE TABLE accounts AS SELECT 'a' || i AS id, 'free' AS plan FROM range(3) r(i); \
         CREATE SCHEMA crm; CREATE TABLE crm.accounts AS FROM accounts LIMIT 2",
    );
    let mut settings = duckdb.to_owned();
    for (name, source, table) in sources {
        settings.push_str(&format!(
            "[sources.{name}]\n{source}\n[destinations.{name}]\ntype = \"file\"\npath = \"{name}.ndjson\"\n"
        ));
        place.mapping(name, &mapping(name, table));
    }
    place.write("groupcast.toml", &settings);
    place
}

fn groups(place: &Place, name: &str) -> usize {
    std::fs::read_to_string(place.path(&format!("{name}.ndjson"))).unwrap_or_default().lines().count()
}

const ATTACHED: &str = "type = \"duckdb\"\nattach = \"duckdb:warehouse.duckdb\"";

#[test]
fn an_attached_database_is_read_like_a_warehouse() {
    let place = place(
        "",
        &[("one", ATTACHED, "accounts"), ("two", ATTACHED, "crm.accounts"), ("three", ATTACHED, "three.crm.accounts")],
    );
    place.run(&["check", "--connect"]).exits(0);
    place.run(&["plan", "one"]).exits(0).says(&["+ a0", "\"free\""]);
    place.run(&["run"]).exits(0);
    assert_eq!(["one", "two", "three"].map(|name| groups(&place, name)), [3, 2, 2]);
    place.warehouse("UPDATE accounts SET plan = 'pro' WHERE id = 'a1'; DELETE FROM crm.accounts");
    place.run(&["run", "one"]).exits(0).says(&["2 unchanged, 1 delivered"]);
    // What is not there is named, by DuckDB's own words.
    place.mapping("one", &mapping("one", "acounts"));
    place.run(&["check", "--connect"]).exits(2).says(&["Table with name acounts does not exist"]);
    place.mapping("one", &mapping("one", "accounts").replace("plan = \"plan\"", "plan = \"plam\""));
    place.run(&["check", "--connect"]).exits(2).says(&["plam", "did you mean `plan`"]);
}

#[test]
fn an_attached_database_can_be_described_for_init_and_read_by_a_query_and_a_cursor() {
    let place = place("", &[("one", ATTACHED, "accounts")]);
    place.run(&["init", "--source", "one", "--table", "crm.accounts", "--destination", "one"]).exits(0);
    place.warehouse("ALTER TABLE accounts ADD COLUMN changed TIMESTAMP; UPDATE accounts SET changed = '2026-01-01'");
    place.mapping(
        "one",
        &mapping("one", "accounts")
            .replace("table = \"accounts\"", "sql = \"SELECT id, upper(plan) AS plan, changed FROM accounts\"")
            .replace("[group]", "[incremental]\ncursor = \"changed\"\n[group]"),
    );
    std::fs::remove_file(place.path("mappings/accounts.toml")).ok();
    place.run(&["run", "one"]).exits(0).says(&["3 rows", "3 delivered"]);
    place.warehouse("UPDATE accounts SET plan = 'pro', changed = '2026-01-02' WHERE id = 'a2'");
    place.run(&["run", "one"]).exits(0).says(&["1 delivered"]);
    assert!(std::fs::read_to_string(place.path("one.ndjson")).unwrap().contains("\"PRO\""));
}

#[test]
fn what_is_loaded_is_shown_and_what_cannot_be_hurts_only_who_needs_it() {
    let folder = tempfile::tempdir().unwrap();
    let sound = extension(folder.path(), "groupcast_toy", ["C_STRUCT", "v1.2.0", platform()], false);
    let settings = format!(
        "[duckdb]\nextensions = ['{sound}', 'httpfs', 'sqlite']\nextension_folder = 'extensions'\n\
         allow_unsigned_extensions = true\n[duckdb.secrets.lake]\ntype = 's3'\nkey_id = 'AKIA'\nsecret = '${{LAKE}}'\n"
    );
    let mut place = place(
        &settings,
        &[
            ("local", "type = \"duckdb\"\npath = \"warehouse.duckdb\"", "accounts"),
            ("remote", "type = \"files\"", "s3://lake/accounts/*.parquet"),
            ("other", "type = \"duckdb\"\nattach = \"sqlite:crm.db\"", "accounts"),
        ],
    );
    place.set("LAKE", "wJalrXUtnFEMI");
    let output = place.run(&["check", "--connect"]).exits(2);
    let text = output.all();
    assert!(!text.contains("wJalrXUtnFEMI"), "{text}");
    for said in [
        "reads it with groupcast_toy 1.0",
        "source remote: the DuckDB extension `httpfs` cannot be loaded into DuckDB v",
        "source other: the DuckDB extension `sqlite` cannot be loaded into DuckDB v",
        "INSTALL sqlite",
        "install = true",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    // The sync that needs nothing of it runs, alone and beside the others, without and with a daemon.
    place.run(&["run"]).exits(2).says(&["3 delivered", "source remote", "source other"]);
    assert_eq!(groups(&place, "local"), 3);
    let daemon = Daemon::start(&place);
    place.run(&["run", "local"]).exits(0).says(&["3 unchanged"]);
    place.run(&["run", "other"]).exits(2).says(&["cannot be loaded"]);
    daemon.get("/healthz").is(200);
    let output = daemon.stop().exits(0);
    assert!(!output.stderr.contains("wJalrXUtnFEMI"), "{}", output.stderr);
}

#[test]
fn an_extension_that_does_not_fit_or_does_not_begin_says_so() {
    // DuckDB knows a loaded extension again by its name, in the whole process: each has its own.
    for (name, built_for, fails, why, advice) in [
        (
            "groupcast_broken",
            ["C_STRUCT", "v1.2.0", platform()],
            true,
            "this extension is out of order",
            "its code gave up",
        ),
        (
            "groupcast_future",
            ["C_STRUCT", "v99.0.0", platform()],
            false,
            "built for DuckDB C API version 'v99.0.0'",
            "check the path, and that the file was built for DuckDB v",
        ),
        (
            "groupcast_older",
            ["CPP", "v1.5.5", platform()],
            false,
            "built specifically for DuckDB version 'v1.5.5'",
            "check the path, and that the file was built for DuckDB v",
        ),
        (
            "groupcast_elsewhere",
            ["C_STRUCT", "v1.2.0", "osx_arm64"],
            false,
            "built for the platform 'osx_arm64'",
            "check the path, and that the file was built for DuckDB v",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = extension(folder.path(), name, built_for, fails);
        let settings = |named: &str| {
            format!(
                "[duckdb]\nextensions = ['{named}']\nextension_folder = 'extensions'\nallow_unsigned_extensions = true\n"
            )
        };
        let attach = format!("type = \"duckdb\"\nattach = \"{name}:crm\"");
        let place = place(
            &settings(&path),
            &[("local", "type = \"duckdb\"\npath = \"warehouse.duckdb\"", "accounts"), ("other", &attach, "accounts")],
        );
        let shown = format!("source other: the DuckDB extension `{path}` cannot be loaded into DuckDB v");
        for command in [&["check", "--connect"][..], &["run"]] {
            let output = place.run(command).exits(2);
            let text = output.all();
            assert!(text.contains(&shown) && text.contains(why) && text.contains(advice), "{text}");
            assert!(!text.contains("name it in groupcast.toml"), "{text}");
        }
        assert_eq!((groups(&place, "local"), groups(&place, "other")), (3, 0));
        // WHEN it stands in the folder instead THEN the same is said of its name
        let text = place.read("groupcast.toml").replace(&settings(&path), &settings(name));
        place.write("groupcast.toml", &text);
        let version = duckdb::Connection::open_in_memory()
            .unwrap()
            .query_row("SELECT library_version FROM pragma_version()", [], |row| row.get::<_, String>(0))
            .unwrap();
        let installed = place.path(&format!("extensions/{version}/{}", platform()));
        std::fs::create_dir_all(&installed).unwrap();
        std::fs::copy(&path, installed.join(format!("{name}.duckdb_extension"))).unwrap();
        let output = place.run(&["check", "--connect"]).exits(2);
        let advice = if fails { advice.to_owned() } else { format!("FORCE INSTALL {name}") };
        output.says(&[&format!("the DuckDB extension `{name}` cannot be loaded"), why, &advice]);
    }
}

#[test]
fn nothing_is_loaded_that_nobody_named() {
    let place = place(
        "",
        &[
            ("remote", "type = \"files\"", "s3://lake/a.parquet"),
            ("other", "type = \"duckdb\"\nattach = \"mysql:host=127.0.0.1 password=${P}\"", "accounts"),
        ],
    );
    let mut place = place;
    place.set("P", "hunter2hunter2");
    let output = place.run(&["check", "--connect"]).exits(2);
    let text = output.all();
    assert!(text.contains("extensions = [\"httpfs\"]") && text.contains("extensions = [\"mysql\"]"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn mistakes_are_found_before_anything_is_opened() {
    for (settings, said) in [
        ("[duckdb]\nextensions = 'httpfs'\n", "must be a list"),
        ("[duckdb]\nextensions = ['a b']\n", "neither an extension's name nor the path"),
        ("[duckdb]\nextensions = ['./x.duckdb_extension']\n", "allow_unsigned_extensions"),
        ("[duckdb.secrets.lake]\ntype = 's3'\nsecret = 'wJalrXUtnFEMI'\n", "plaintext secret"),
        ("[duckdb.secrets.lake]\nkey_id = 'a'\n", "has no `type`"),
        ("[duckdb]\nextension = ['httpfs']\n", "did you mean `extensions`"),
    ] {
        let place = place(settings, &[("one", ATTACHED, "accounts")]);
        let output = place.run(&["check"]).exits(2);
        let text = output.all();
        assert!(text.contains(said) && !text.contains("wJalrXUtnFEMI"), "{settings}: {text}");
    }
    for (source, said) in [
        ("type = \"duckdb\"\nattach = \"warehouse.duckdb\"", "does not begin with what it is"),
        ("type = \"duckdb\"\nattach = \"duckdb:x\"\npath = \"y\"", "both `path` and `attach`"),
        ("type = \"duckdb\"\nattach_options = { a = 1 }", "belong to `attach`"),
        ("type = \"duckdb\"\nattach = \"duckdb:x\"\nattach_options = { read_only = false }", "always read-only"),
        ("type = \"duckdb\"\nattach = \"mysql:host=h password=plain\"", "plaintext secret"),
    ] {
        let place = place("", &[("one", source, "accounts")]);
        let output = place.run(&["check", "--connect"]).exits(2);
        assert!(output.all().contains(said), "{source}: {}", output.all());
    }
}
