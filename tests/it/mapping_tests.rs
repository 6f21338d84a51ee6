//! `groupcast test`, `fmt` and `schema` as a person uses them: no warehouse, no ledger, no network, no secrets.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// A config folder without anything behind it.
struct Folder(tempfile::TempDir);

const SETTINGS: &str = r#"[sources.warehouse]
type = "postgres"
url = "${WAREHOUSE_URL}"

[sources.lake]
type = "duckdb"
path = "nowhere.duckdb"

[destinations.hook]
type = "webhook"
url = "${HOOK_URL}"
auth_header = "Authorization: Bearer ${HOOK_KEY}"
signing_secret = "${file:/nowhere/secret}"
dedup = true

[destinations.amplitude]
type = "amplitude"
api_key = "${AMPLITUDE_API_KEY}"
"#;

const MAPPING: &str = r#"source = "warehouse"
destination = "hook"

[model]
table = "analytics.accounts"
where = "deleted_at IS NULL"

[group]
type = "company"
key = "id"

[traits]
name = "name"
plan = { column = "plan", on_null = "null" }
mrr = { column = "mrr", as = "number" }
seats = { column = "seats", as = "integer" }
since = { column = "since", as = "timestamp" }
renewal = { column = "renewal", as = "date" }
tags = "tags"
meta = { column = "meta", as = "json" }
place = { city = { sql = "upper(city)" }, zip = "zip" }
big = { column = "big", as = "string" }

[policy]
on_missing = "delete"
on_removed_trait = "unset"

[incremental]
cursor = "updated_at"
"#;

impl Folder {
    fn new(tests: &str) -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        folder.write("groupcast.toml", SETTINGS);
        folder.write("mappings/accounts.toml", MAPPING);
        folder.write("mappings/accounts.test.toml", tests);
        folder
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Runs the program in the folder; fails unless it ends with this code. Both streams.
    #[track_caller]
    fn run(&self, arguments: &[&str], code: i32) -> String {
        run_in(self.0.path(), arguments, code)
    }
}

#[track_caller]
fn run_in(folder: &Path, arguments: &[&str], code: i32) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_groupcast"))
        .current_dir(folder)
        .args(arguments)
        .env_remove("AMPLITUDE_API_KEY")
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{text}");
    text
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing in\n{text}");
    }
}

/// Every kind of value and of expectation, all met.
const SOUND: &str = r#"[columns]
mrr = "NUMERIC(20, 4)"
deleted_at = "timestamp with time zone"
seats = "INTEGER"

[[tests]]
name = "values of every type"
rows = [
  { id = 7, name = "Acme", plan = "pro", mrr = 12345678901.1000, seats = 5, since = 2026-01-31T08:30:00+02:00, renewal = 2026-02-01, tags = ["a", "b"], meta = { json = '{"a": [1, null, {"b": 2.50}]}' }, city = "köln", zip = "01234", big = { json = "123456789012345678901234567890" } },
]

[tests.expect.documents.7]
name = "Acme"
plan = "pro"
mrr = 12345678901.1
seats = 5
since = "2026-01-31T06:30:00Z"
renewal = "2026-02-01"
tags = ["a", "b"]
meta = { json = '{"a": [1, null, {"b": 2.5}]}' }
place = { city = "KÖLN", zip = "01234" }
big = "123456789012345678901234567890"

[[tests]]
name = "an edit, a null that is sent, a null that removes, a trait that left the mapping"
rows = [{ id = "a", name = "New" }]
before.a = { name = "Old", plan = "pro", mrr = 5, gone = true }
expect.changes.a = { set = { name = "New", plan = { json = "null" } }, unset = ["gone", "mrr"] }
expect.documents.a = { name = "New", plan = { json = "null" } }

[[tests]]
name = "what did not change is not sent, and what is filtered out is gone"
rows = [{ id = "a", name = "A" }, { id = "b", name = "B", deleted_at = 2026-01-01T00:00:00Z }]
before = { a = { name = "A", plan = { json = "null" } }, b = { name = "B" } }
expect.changes.b.delete = true
expect.documents.a = { name = "A", plan = { json = "null" } }

[[tests]]
name = "a request with its signature's key masked"
rows = [{ id = "a", name = "A", plan = "x" }]
expect.requests = [{ method = "POST", path = "/" }]

[[tests]]
name = "a duplicate key stops the run"
rows = [{ id = "a" }, { id = "a" }]
expect.guard = "keys"

[[tests]]
name = "rows of a file"
rows = "rows.csv"
expect.traits.007 = { place = { city = "ROM" }, mrr = 12.5 }
"#;

#[test]
fn tests_pass_without_anything_but_the_files() {
    let folder = Folder::new(SOUND);
    folder.write("mappings/rows.csv", "id,mrr,city,seats\n007,12.50,rom,3\n008,,bonn,\n");
    let text = folder.run(&["test", "--junit", "out.xml"], 0);
    has(&text, &["✓ accounts: values of every type", "6 tests: 6 passed"]);
    has(&folder.read("out.xml"), &["tests=\"6\" failures=\"0\"", "line=\"7\""]);
    assert!(!folder.path("state").exists(), "a test has no ledger");
    // Nothing is left to update, and the file stays as it is.
    folder.run(&["test", "--update"], 0);
    assert_eq!(folder.read("mappings/accounts.test.toml"), SOUND);
    has(&folder.run(&["test", "accounts", "--name", "DUPLICATE"], 0), &["1 test: 1 passed"]);
    let lines = folder.run(&["test", "--json", "--name", "edit"], 0);
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["outcome"], &lines[1]["passed"]), (&Value::from("passed"), &Value::from(1)));
}

#[test]
fn a_failure_shows_its_line_and_what_came_out() {
    let folder = Folder::new(
        r#"[columns]
deleted_at = "TIMESTAMPTZ"
city = "VARCHAR"

[[tests]]
name = "all wrong"
rows = [{ id = "a", name = "A", seats = 5 }, { id = "c", seats = 2.5 }]
before.b = { name = "B" }
[tests.expect]
changes.b.unset = ["name"]
changes.z.delete = true
rejected.a = "no such reason"
[tests.expect.documents.a]
# the name
name = "B"     # really
seats = 5
plan = "pro"
"#,
    );
    let text = folder.run(&["test"], 1);
    has(
        &text,
        &[
            "mappings/accounts.test.toml:15:8  documents.a.name\n      - \"B\"\n      + \"A\"",
            "mappings/accounts.test.toml:17:8  documents.a.plan\n      - \"pro\"\n      + null",
            "  changes.z\n",
            "expected, and did not come out",
            "rejected.c",
            "came out, and is not expected",
            "1 test: 0 passed, 1 failed",
        ],
    );
    let lines = folder.run(&["test", "--json"], 1);
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    let mismatches = first["mismatches"].as_array().unwrap();
    assert!(mismatches.iter().any(|one| one["path"] == "/documents/a/name" && one["line"] == 15), "{first}");
    // What comes out becomes what is expected; comments stay.
    has(&folder.run(&["test", "--update"], 0), &["1 updated"]);
    let updated = folder.read("mappings/accounts.test.toml");
    has(&updated, &["# the name\nname = \"A\"     # really\nseats = 5\n", "plan = { json = \"null\" }"]);
    folder.run(&["test"], 0);
}

#[test]
fn mistakes_name_their_place_and_the_next_step() {
    let head = "[columns]\ndeleted_at = \"TIMESTAMPTZ\"\ncity = \"VARCHAR\"\n";
    for (test, code, parts) in [
        ("[[tests]]\nnmae = \"a\"", 2, vec!["unknown key `nmae`", "did you mean `name`?", "accounts.test.toml:5:1"]),
        (
            "[[tests]]\nname = \"a\"\nrows = [{ id = 1, nmae = \"x\" }]",
            1,
            vec!["no column `nmae`", "did you mean `name`?"],
        ),
        ("[[tests]]\nname = \"a\"\nrows = [{ name = \"x\" }]", 1, vec!["no row has a `id`, the group's key"]),
        (
            "[[tests]]\nname = \"a\"\nrows = [{ id = 1 }, { id = \"x\" }]",
            1,
            vec!["VARCHAR here and BIGINT", "[columns]"],
        ),
        ("[[tests]]\nname = \"a\"\nrows = \"none.csv\"", 1, vec!["none.csv", "no such file"]),
        ("[[tests]]\nname = \"a\"\nrows = [{ id = 1 }]", 1, vec!["expects nothing", "--update"]),
        (
            "[duckdb.traits]\nplce.city = \"1\"\n[[tests]]\nname = \"a\"",
            1,
            vec!["no value `plce.city`", "`place.city`"],
        ),
        (
            "[[tests]]\nname = \"a\"\nrows = [{ id = 1, since = \"yesterday\" }]\nexpect.rejected.1 = \"since\"",
            0,
            vec![],
        ),
    ] {
        let text = Folder::new(&format!("{head}{test}\n")).run(&["test"], code);
        has(&text, &parts);
    }
    let folder = Folder::new("[columns]\ndeleted_at = \"TIMSTAMP\"\n[[tests]]\nname = \"a\"\nrows = [{ id = 1 }]\n");
    has(&folder.run(&["test"], 1), &["DuckDB has no type `TIMSTAMP`", "accounts.test.toml:2:14"]);
    // A column that only SQL reads.
    let folder = Folder::new("[[tests]]\nname = \"a\"\nrows = [{ id = 1, deleted_at = 2026-01-01 }]\n");
    has(&folder.run(&["test"], 1), &["mappings/accounts.toml:", "\"city\" not found", "`[columns]`"]);
    has(&folder.run(&["test", "acounts"], 2), &["did you mean `accounts`?"]);
    has(&folder.run(&["test", "--name", "zebra"], 2), &["no test has `zebra` in its name"]);
    std::fs::remove_file(folder.path("mappings/accounts.test.toml")).unwrap();
    has(&folder.run(&["test"], 2), &["there are no tests", "mappings/NAME.test.toml"]);
    folder.write("mappings/acounts.test.toml", "[[tests]]\nname = \"a\"\n");
    has(&folder.run(&["test"], 2), &["no mapping `acounts`", "accounts.test.toml"]);
}

#[test]
fn sql_of_another_warehouse_is_skipped_or_given_in_duckdbs() {
    let tests = |more: &str| {
        format!(
            "{more}\n[[tests]]\nname = \"a\"\nrows = [{{ id = \"a\", city = \"rom\" }}]\nexpect.traits.a.place.city = \"ROM\"\n"
        )
    };
    let folder = Folder::new(&tests("[columns]\ndeleted_at = \"DATE\"\n"));
    let mapping = MAPPING.replace("upper(city)", "initcap_of(city)::citext");
    folder.write("mappings/accounts.toml", &mapping);
    let text = folder.run(&["test"], 0);
    has(
        &text,
        &["– accounts: a", "trait `place.city`", "written for postgres", "`duckdb.traits.place.city`", "1 skipped"],
    );
    folder.write(
        "mappings/accounts.test.toml",
        &tests("[columns]\ndeleted_at = \"DATE\"\n[duckdb]\ntraits.place.city = \"upper(city)\"\n"),
    );
    has(&folder.run(&["test"], 0), &["1 test: 1 passed"]);
    // Of DuckDB's own SQL it is a mistake.
    folder.write("mappings/accounts.toml", &mapping.replace("\"warehouse\"", "\"lake\""));
    folder.write("mappings/accounts.test.toml", &tests("[columns]\ndeleted_at = \"DATE\"\n"));
    has(&folder.run(&["test"], 1), &["initcap_of"]);
}

#[test]
fn a_test_file_is_no_mapping_and_a_broken_one_stops_nothing_but_check() {
    let folder = Folder::new("[[tests]]\nname = 1\n");
    folder.write("groupcast.toml", "[sources.lake]\ntype = \"duckdb\"\npath = \"lake.duckdb\"\n[destinations.hook]\ntype = \"file\"\npath = \"out.ndjson\"\n");
    folder.write("mappings/accounts.toml", "source = \"lake\"\ndestination = \"hook\"\n[model]\ntable = \"t\"\n[group]\ntype = \"g\"\nkey = \"id\"\n[traits]\nname = \"name\"\n");
    let lake = duckdb::Connection::open(folder.path("lake.duckdb")).unwrap();
    lake.execute_batch("CREATE TABLE t AS SELECT 'a' AS id, 'A' AS name").unwrap();
    drop(lake);
    has(&folder.run(&["run"], 0), &["1 delivered"]);
    let status = folder.run(&["status", "--json"], 0);
    assert!(!status.contains("accounts.test"), "{status}");
    has(&folder.run(&["check"], 2), &["accounts.test.toml:2:8", "`name` must be a string"]);
    has(&folder.run(&["test"], 2), &["accounts.test.toml:2:8"]);
}

/// Where the quick start, a mapping that we ship or an example has tests, they pass.
#[test]
fn the_tests_that_we_ship_pass() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    run_in(folder.path(), &["init", "."], 0);
    has(&run_in(folder.path(), &["test"], 0), &["4 tests: 4 passed"]);
    run_in(folder.path(), &["fmt", "--check"], 0);
    run_in(folder.path(), &["check"], 0);
    // Each ready mapping, at the destinations they are written for.
    let ready = tempfile::tempdir().unwrap();
    std::fs::create_dir(ready.path().join("mappings")).unwrap();
    let settings = "[sources.warehouse]\ntype = \"postgres\"\nurl = \"${URL}\"\n\
        [destinations.amplitude]\ntype = \"amplitude\"\napi_key = \"${KEY}\"\n\
        [destinations.mixpanel]\ntype = \"mixpanel\"\ntoken = \"${KEY}\"\n\
        [destinations.journy]\ntype = \"journy\"\napi_key = \"${KEY}\"\n\
        [destinations.hook]\ntype = \"webhook\"\nurl = \"${HOOK}\"\n\
        [destinations.segment]\ntype = \"segment\"\nwrite_key = \"${KEY}\"\n\
        [destinations.thrivestack]\ntype = \"thrivestack\"\napi_key = \"${KEY}\"\n\
        [destinations.changes]\ntype = \"file\"\npath = \"changes.ndjson\"\n\
        [destinations.posthog]\ntype = \"posthog\"\napi_key = \"${KEY}\"\n";
    std::fs::write(ready.path().join("groupcast.toml"), settings).unwrap();
    let mut tested = 0;
    for entry in std::fs::read_dir(root.join("mappings")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        tested += usize::from(name.ends_with(".test.toml"));
        // One at a time: several write the same traits of the same groups.
        let Some(stem) = name.strip_suffix(".test.toml") else { continue };
        for name in [format!("{stem}.toml"), name.clone()] {
            std::fs::copy(root.join("mappings").join(&name), ready.path().join("mappings").join(&name)).unwrap();
        }
        let text = run_in(ready.path(), &["test"], 0);
        assert!(!text.contains("skipped") && !text.contains("0 passed"), "{text}");
        for name in [format!("{stem}.toml"), name] {
            std::fs::remove_file(ready.path().join("mappings").join(name)).unwrap();
        }
    }
    assert_eq!(tested, 11, "each of them has tests");
    for example in ["duckdb-to-file", "postgres-to-amplitude", "quickstart"] {
        run_in(&root.join("examples").join(example), &["test"], 0);
    }
}

#[test]
fn formatting_shows_a_diff_rewrites_and_then_has_nothing_to_do() {
    let folder = Folder::new("[[tests]]\nname='a'\n");
    let text = folder.run(&["fmt", "--check"], 1);
    has(&text, &["- name='a'", "+ name = \"a\"", "1 of 3 files would change"]);
    has(&folder.run(&["fmt", "--check", "--json"], 1), &["\"changed\":true"]);
    assert_eq!(folder.read("mappings/accounts.test.toml"), "[[tests]]\nname='a'\n");
    has(&folder.run(&["fmt"], 0), &["~ mappings/accounts.test.toml", "1 of 3 files rewritten"]);
    assert_eq!(folder.read("mappings/accounts.test.toml"), "[[tests]]\nname = \"a\"\n");
    has(&folder.run(&["fmt", "--check"], 0), &["ok: 3 files"]);
    folder.write("mappings/broken.toml", "a = \n");
    has(&folder.run(&["fmt", "mappings/broken.toml"], 2), &["not valid TOML", "mappings/broken.toml:1"]);
    has(&folder.run(&["fmt", "none.toml"], 2), &["none.toml cannot be read", "help:"]);
}

#[test]
fn schemas_are_printed_and_written() {
    let folder = Folder::new("");
    for (of, title) in [("project", "groupcast.toml"), ("mapping", "Groupcast mapping"), ("test", "Tests of")] {
        let schema: Value = serde_json::from_str(&folder.run(&["schema", of], 0)).unwrap();
        assert!(schema["title"].as_str().unwrap().starts_with(title), "{schema}");
        assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    }
    has(&folder.run(&["schema", "--write"], 0), &[".groupcast/mapping.schema.json"]);
    assert_eq!(folder.read(".groupcast/mapping.schema.json"), folder.run(&["schema", "mapping"], 0));
}
