//! Whole config folders: what is read, which problems are reported, and that no secret is ever shown.

use std::path::Path;
use std::time::Duration;

use super::diagnostic::Diagnostics;
use super::{Delivery, Project, load};
use crate::model::OnNull;
use crate::secret::Secret;

const SETTINGS: &str = r#"[state]
memory = "1GB"
threads = 3

[sources.warehouse]
type = "postgres"
url = "postgres://sync:${PGPASSWORD}@db.internal/dwh"
ca_file = "ca.pem"
connect_timeout_seconds = 5

[sources."My-Lake"]
type = "duckdb"
path = "lake.duckdb"

[destinations.amplitude]
type = "amplitude"
api_key = "${file:key}"
region = "eu"
concurrency = 2
timeout = "5s"

[destinations.out]
type = "file"
path = "-"

[defaults.policy]
on_null = "skip"

[defaults.guards]
changed_max = "80%"

[daemon]
listen = "127.0.0.1:7000"
token = "${TOKEN}"
"#;

const MAPPING: &str = r#"source = "warehouse"
destination = "amplitude"
[model]
file = "accounts.sql"
[group]
type = "company"
key = "id"
[traits]
name = "name"
"#;

const ENVIRONMENT: [(&str, &str); 2] = [("PGPASSWORD", "hunter2-db"), ("TOKEN", "hunter2-token")];

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("mappings")).unwrap();
    write(folder.path(), "groupcast.toml", SETTINGS);
    write(folder.path(), "key", "hunter2-key\n");
    write(folder.path(), "mappings/accounts.toml", MAPPING);
    write(folder.path(), "mappings/accounts.sql", "select 1;");
    folder
}

fn write(folder: &Path, name: &str, text: impl AsRef<[u8]>) {
    std::fs::write(folder.join(name), text).unwrap();
}

fn load_with(folder: &Path, more: &[(&str, &str)]) -> Result<Project, Diagnostics> {
    let all = ENVIRONMENT.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    load(folder, all)
}

/// Every problem that is reported about a folder, with `demo` for its path.
fn rendered(folder: &Path, more: &[(&str, &str)]) -> String {
    let problems = match load_with(folder, more) {
        Ok(project) => project.problems,
        Err(problems) => problems,
    };
    let json = serde_json::to_string(&problems.shown()).unwrap();
    let drawn = problems.render(false);
    for text in [&json, &drawn, &problems.render(true)] {
        assert!(!text.contains("hunt") && !text.contains("ter2"), "a secret is shown: {text}");
    }
    drawn.replace(folder.to_str().unwrap(), "demo")
}

fn patched(changes: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = folder();
    let mut text = SETTINGS.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "the golden settings have no {from:?}");
        text = text.replacen(from, to, 1);
    }
    write(folder.path(), "groupcast.toml", text);
    folder
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Postgres {
    url: Secret,
    ca_file: Option<std::path::PathBuf>,
    connect_timeout_seconds: Option<u64>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Amplitude {
    api_key: Secret,
    region: Option<String>,
}

#[test]
fn a_folder_becomes_a_project() {
    let folder = folder();
    let Project { settings, mappings, broken, problems } = load_with(folder.path(), &[]).unwrap();
    assert!(problems.is_empty() && broken.is_empty());
    assert_eq!(settings.state.path, folder.path().join("state/ledger.duckdb"));
    assert_eq!(settings.state.memory_bytes, Some(1_000_000_000));
    // Half for the ledger, half for reading.
    assert_eq!((settings.state.limits().memory_bytes, settings.state.limits().threads), (500_000_000, 3));
    assert_eq!(settings.state.input_limits().memory_bytes, 500_000_000);
    assert_eq!(settings.state.journal_retention, Duration::from_secs(90 * 86_400));
    assert_eq!(settings.state.runs_retention, Duration::from_secs(180 * 86_400));
    assert_eq!(settings.state.requests_retention, Duration::from_secs(30 * 86_400));
    let warehouse = &settings.sources["warehouse"];
    assert_eq!((warehouse.name.as_str(), warehouse.kind.as_str()), ("warehouse", "postgres"));
    let postgres: Postgres = warehouse.values.parse().unwrap();
    assert_eq!(postgres.url.expose(), "postgres://sync:hunter2-db@db.internal/dwh");
    assert_eq!(postgres.ca_file, Some(folder.path().join("ca.pem")));
    assert_eq!(postgres.connect_timeout_seconds, Some(5));
    let amplitude = &settings.destinations["amplitude"];
    let typed: Amplitude = amplitude.parse().unwrap();
    assert_eq!((typed.api_key.expose(), typed.region.as_deref()), ("hunter2-key", Some("eu")));
    let expected = Delivery { concurrency: 2, timeout: Duration::from_secs(5), ..Delivery::default() };
    assert_eq!(amplitude.delivery, expected);
    assert_eq!(settings.destinations["out"].delivery, Delivery::default());
    let out: std::collections::BTreeMap<String, String> = settings.destinations["out"].parse().unwrap();
    assert_eq!(out["path"], "-");
    assert_eq!(settings.daemon.token.as_ref().unwrap().expose(), "hunter2-token");
    assert_eq!(settings.daemon.listen, "127.0.0.1:7000");
    assert_eq!(mappings.len(), 1);
    assert_eq!(mappings[0].mapping.name, "accounts");
    assert_eq!(mappings[0].mapping.policy.on_null, OnNull::Skip, "from the defaults");
    assert_eq!(mappings[0].mapping.guards.changed_max, 0.8, "from the defaults");
    assert!(!format!("{settings:?}").contains("hunter2"));
    let mismatch = warehouse.values.parse::<Amplitude>().unwrap_err();
    assert!(!format!("{mismatch} {mismatch:?}").contains("hunter2"));
}

/// Writes `.env` so that only its owner can read it.
fn write_dotenv(folder: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    write(folder, ".env", text);
    std::fs::set_permissions(folder.join(".env"), std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn what_the_process_lacks_comes_from_the_env_file() {
    let folder = folder();
    write_dotenv(
        folder.path(),
        "PGPASSWORD=hunter2-file\nTOKEN='hunter2 ignored'\nGROUPCAST__STATE__THREADS=5\nGROUPCAST__STATE__MEMORY=3GB\n",
    );
    let environment = [("TOKEN", "hunter2-token"), ("GROUPCAST__STATE__MEMORY", "2GB")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let project = load(folder.path(), environment).unwrap();
    assert!(project.problems.is_empty(), "{}", project.problems.render(false));
    let settings = project.settings;
    let postgres: Postgres = settings.sources["warehouse"].values.parse().unwrap();
    assert_eq!(postgres.url.expose(), "postgres://sync:hunter2-file@db.internal/dwh");
    assert_eq!(settings.daemon.token.as_ref().unwrap().expose(), "hunter2-token", "the process wins");
    assert_eq!((settings.state.threads, settings.state.memory_bytes), (Some(5), Some(2_000_000_000)));
    let noted = super::files::Files::default();
    super::load::load_noting(&folder.path().into(), Vec::new(), &noted, super::Unset::Error).unwrap();
    assert!(noted.noted()[&folder.path().join(".env")].is_some(), "a daemon watches it");
}

#[test]
fn mistakes_in_the_env_file_are_at_their_lines_without_a_value() {
    let folder = folder();
    write_dotenv(
        folder.path(),
        "# hunter2 was the old one\nKEY='hunter2'\nhunter2\nGROUPCAST__STATE__THREADS=hunter2\nGROUPCAST__STATES__X=hunter2\n",
    );
    let found = rendered(folder.path(), &[]);
    for expected in [
        "this line is not `NAME=value`",
        "demo/.env:3:1",
        "its value must be a whole number",
        "demo/.env:4:1",
        "demo/.env:5:1",
        "4 | GROUPCAST__STATE__THREADS********",
    ] {
        assert!(found.contains(expected), "{expected} is missing in {found}");
    }
}

#[test]
fn an_env_file_that_others_can_read_is_warned_of_and_a_folder_of_that_name_ignored() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    write_dotenv(folder.path(), "UNUSED=hunter2\n");
    std::fs::set_permissions(folder.path().join(".env"), std::fs::Permissions::from_mode(0o640)).unwrap();
    let found = rendered(folder.path(), &[]);
    assert!(
        found.contains("warning") && found.contains("mode 0640") && found.contains("chmod 600 demo/.env"),
        "{found}"
    );
    std::fs::remove_file(folder.path().join(".env")).unwrap();
    std::fs::create_dir(folder.path().join(".env")).unwrap();
    assert!(load_with(folder.path(), &[]).unwrap().problems.is_empty());
}

#[test]
fn variables_go_over_the_file() {
    let folder = folder();
    let project = load(
        folder.path(),
        [
            // Replaces a reference to a variable that is not set.
            ("GROUPCAST__SOURCES__WAREHOUSE__URL", "postgres://u:hunter2@other/${x}"),
            ("GROUPCAST__SOURCES__WAREHOUSE__CONNECT_TIMEOUT_SECONDS", "9"),
            ("GROUPCAST__SOURCES__MY_LAKE__PATH", "/lake.duckdb"),
            ("GROUPCAST__DESTINATIONS__AMPLITUDE__REQUESTS_PER_SECOND", "2.5"),
            ("GROUPCAST__DESTINATIONS__EXTRA__TYPE", "file"),
            ("GROUPCAST__DESTINATIONS__EXTRA__PATH", "out.jsonl"),
            ("GROUPCAST__DEFAULTS__GUARDS__EMPTY", "false"),
            ("GROUPCAST__DEFAULTS__GUARDS__CHANGED_MAX", "90%"),
            ("GROUPCAST__STATE__MEMORY", "2GB"),
            ("GROUPCAST_CONFIG", "not ours"),
            ("TOKEN", "t"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    )
    .unwrap();
    let settings = project.settings;
    let postgres: Postgres = settings.sources["warehouse"].values.parse().unwrap();
    assert_eq!(postgres.url.expose(), "postgres://u:hunter2@other/${x}", "taken as it is");
    assert_eq!(postgres.connect_timeout_seconds, Some(9));
    let lake: std::collections::BTreeMap<String, String> = settings.sources["My-Lake"].values.parse().unwrap();
    assert_eq!(lake["path"], "/lake.duckdb");
    assert_eq!(settings.destinations["amplitude"].delivery.requests_per_second, Some(2.5));
    let extra: std::collections::BTreeMap<String, String> = settings.destinations["extra"].parse().unwrap();
    assert_eq!(Path::new(&extra["path"]), folder.path().join("out.jsonl"));
    assert_eq!((settings.defaults.guards.empty, settings.defaults.guards.changed_max), (false, 0.9));
    assert_eq!(settings.state.memory_bytes, Some(2_000_000_000));
}

#[test]
fn each_mistake_in_the_settings_is_told() {
    let mut wrong = Vec::new();
    for (from, to, expected) in [
        ("[state]", "[stat]", "error: unknown key `stat`\n --> demo/groupcast.toml:1:2  stat"),
        ("threads = 3", "treads = 3", "did you mean `threads`?"),
        ("threads = 3", "threads = 0", "`threads` must be from 1 to 1024"),
        ("threads = 3", "threads = \"3\"", "`threads` must be a whole number, not a string"),
        ("\"1GB\"", "\"1\"", "`memory` is not a size\n"),
        ("\"1GB\"", "\"1MB\"", "`memory` must be at least 64MB"),
        ("\"1GB\"", "1", "`memory` must be a size like \"512MB\", not an integer"),
        ("type = \"postgres\"", "type = \"postgress\"", "source type `postgress` not found"),
        ("type = \"postgres\"\n", "", "source `warehouse` has no `type`"),
        ("type = \"postgres\"", "type = \"duckdb\"", "unknown key `url`"),
        ("url = \"postgres://sync:${PGPASSWORD}@db.internal/dwh\"", "", "source `warehouse` has no `url`"),
        ("${PGPASSWORD}", "${PGPASWORD}", "refers to the environment variable `PGPASWORD`, which is not set\n"),
        ("${PGPASSWORD}", "${PGPASWORD}", "did you mean `PGPASSWORD`?"),
        ("${PGPASSWORD}", "hunter2", "`url` contains a plaintext secret\n"),
        ("\"${file:key}\"", "\"hunter2\"", "use `${NAME}` or `${file:…}`: `api_key = \"${API_KEY}\"`"),
        ("\"${file:key}\"", "\"hunter2\"", "api_key = \"*******\""),
        ("\"${file:key}\"", "\"${file:kye}\"", "refers to the file `kye`, which does not exist"),
        ("\"${file:key}\"", "\"\"", "`api_key` is empty"),
        ("\"${file:key}\"", "1337", "`api_key` must be a string, not an integer"),
        ("api_key = \"${file:key}\"", "api_kye = \"hunter2\"", "did you mean `api_key`?"),
        ("api_key = \"${file:key}\"", "api_key = \"hunter2", "not valid TOML"),
        ("api_key = \"${file:key}\"", "api_key = hunter2", "string values must be quoted"),
        ("region = \"eu\"", "region = \"ue\"", "`region` must be `us` or `eu`"),
        ("region = \"eu\"", "base_url = \"amplitude\"", "`base_url` is not a valid URL\n"),
        ("region = \"eu\"", "base_url = \"https://u:hunter2@proxy\"", "`base_url` contains a plaintext secret"),
        ("concurrency = 2", "concurrency = 1000", "`concurrency` must be from 1 to 100"),
        ("concurrency = 2", "requests_per_second = 0", "`requests_per_second` must be a number above 0"),
        ("\"5s\"", "\"5\"", "`timeout` is not a duration"),
        ("\"5s\"", "\"0s\"", "`timeout` must be at least 1s"),
        ("path = \"lake.duckdb\"", "path = \":memory:\"", "`path` is not a path"),
        ("on_null = \"skip\"", "on_null = \"skipp\"", "did you mean `skip`?"),
        ("\"80%\"", "80", "`changed_max` is not a share"),
        ("[defaults.guards]", "[defaults.gards]", "did you mean `guards`?"),
        ("${PGPASSWORD}", "$PGPASSWORD", "`url` contains a plaintext secret"),
        ("\"${TOKEN}\"", "\"$TOKEN\"", "`token` refers to `TOKEN` in a notation that is not read here"),
        ("\"${TOKEN}\"", "\"{{ env_var('TOKEN') }}\"", "help: use `token = \"${TOKEN}\"`, or `${file:…}`"),
        ("region = \"eu\"", "base_url = \"eu.example.com\"", "help: missing `http://` or `https://`"),
        ("token = \"${TOKEN}\"", "token = \"hunter2\"", "`token` contains a plaintext secret"),
        ("[destinations.amplitude]", "[destinations.amplitudo]", "destination `amplitude` not found"),
        ("[destinations.amplitude]", "[destinations.amplitudo]", "did you mean `amplitudo`?"),
    ] {
        let folder = patched(&[(from, to)]);
        let shown = rendered(folder.path(), &[]);
        if !shown.contains(expected) || load_with(folder.path(), &[]).is_ok() {
            wrong.push(format!("{to}\n  expected {expected}\n  shown {shown}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_table_of_anything_is_resolved_and_its_mistakes_are_told() {
    let segment = |written: &str| {
        patched(&[("type = \"amplitude\"\napi_key", "type = \"segment\"\nwrite_key"), ("region = \"eu\"", written)])
    };
    let folder = segment("context = { token = \"a ${TOKEN}\", deep = { on = 2026-01-02 } }");
    let project = load_with(folder.path(), &[]).unwrap();
    let values: toml::Table = project.settings.destinations["amplitude"].values.parse().unwrap();
    let table = values["context"].as_table().unwrap();
    assert_eq!(table["token"].as_str(), Some("a hunter2-token"));
    assert_eq!(table["deep"]["on"].as_str(), Some("2026-01-02"));
    for (written, expected) in [
        ("context = \"x\"", "`context` must be a table like { key = \"value\" }, not a string"),
        ("context = [1]", "`context` must be a table like { key = \"value\" }, not an array"),
        ("context = { a = [{ b = \"${NOPE}\" }] }", "refers to the environment variable `NOPE`, which is not set"),
        ("context = { a = nan }", "`context` contains a number that JSON does not have"),
        ("context = { a = 99999999999999999999 }", "`context` contains a number of more than 64 bits"),
        ("context = { a = \"https://u:hunter2@proxy\" }", "`context` contains a plaintext secret"),
        ("preset = \"segmnt\"", "did you mean `segment`?"),
        ("event_bytes_max = 10", "`event_bytes_max` must be from 1024"),
    ] {
        let shown = rendered(segment(written).path(), &[]);
        assert!(shown.contains(expected), "{written}\n{shown}");
    }
    let shown = rendered(segment("gzip = true").path(), &[("GROUPCAST__DESTINATIONS__AMPLITUDE__CONTEXT", "hunter2")]);
    assert!(shown.contains("its value must be a table, which only groupcast.toml can contain"), "{shown}");
}

#[test]
fn each_mistake_in_a_variable_is_told_by_its_name_and_without_its_value() {
    let mut wrong = Vec::new();
    for (name, value, expected) in [
        ("GROUPCAST__STATE__THREADS", "hunter2", "its value must be a whole number, not a string"),
        ("GROUPCAST__STATE__TREADS", "3", "did you mean `THREADS`?"),
        ("GROUPCAST__STATE", "3", "setting not found; the sections are"),
        ("GROUPCAST__STAET__THREADS", "3", "setting not found; the sections are"),
        ("GROUPCAST__SOURCES__WAREHOSE__URL", "hunter2", "did you mean `WAREHOUSE`?"),
        ("GROUPCAST__SOURCES__WAREHOUSE__TYPE", "hunter2", "source type not found"),
        ("GROUPCAST__SOURCES__EXTRA__TYPE", "postgres", "source `extra` has no `url`"),
        ("GROUPCAST__DESTINATIONS__AMPLITUDE__API_KEY", "", "its value is empty"),
        ("GROUPCAST__DESTINATIONS__AMPLITUDE__REGION", "hunter2", "its value must be `us` or `eu`"),
        ("GROUPCAST__DEFAULTS__GUARDS__EMPTY", "maybe", "its value must be true or false"),
    ] {
        let shown = rendered(folder().path(), &[(name, value)]);
        if !shown.contains(expected) || !shown.contains(&format!("environment variable {name}")) {
            wrong.push(format!("{name}\n  expected {expected}\n  shown {shown}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn all_problems_of_all_files_come_at_once_in_order() {
    let folder = patched(&[("threads = 3", "treads = 3"), ("\"${file:key}\"", "\"hunter2\"")]);
    write(folder.path(), "mappings/accounts.toml", MAPPING.replace("warehouse", "warehose"));
    write(folder.path(), "mappings/binary.toml", b"a = 1\nb = \"\xff\"");
    write(
        folder.path(),
        "mappings/teams.toml",
        MAPPING.replace("key = \"id\"", "").replace("accounts.sql", "team.sql"),
    );
    insta::assert_snapshot!(rendered(folder.path(), &[("GROUPCAST__STATE__MEMORY", "lots")]), @r#"
    error: unknown key `treads`
     --> demo/groupcast.toml:3:1  state.treads
      |
    3 | treads = 3
      | ^^^^^^
      |
      = help: did you mean `threads`?

    error: `api_key` contains a plaintext secret
      --> demo/groupcast.toml:17:11  destinations.amplitude.api_key
       |
    17 | api_key = "*******"
       |           ^^^^^^^^^
       |
       = help: use `${NAME}` or `${file:…}`: `api_key = "${API_KEY}"`

    error: source `warehose` not found
     --> demo/mappings/accounts.toml:1:10  source
      |
    1 | source = "warehose"
      |          ^^^^^^^^^^
      |
      = help: did you mean `warehouse`?

    error: not UTF-8 text: line 2 has other bytes
    --> demo/mappings/binary.toml
     = help: save the file as UTF-8

    error: no such file, neither below the config folder nor beside the mapping
     --> demo/mappings/teams.toml:4:8  model.file
      |
    4 | file = "team.sql"
      |        ^^^^^^^^^^

    error: `[group]` has no `key`
     --> demo/mappings/teams.toml:5:1  group
      |
    5 | [group]
      | ^^^^^^^
      |
      = help: name the column that contains the group's id: `key = "account_id"`

    error: its value is not a size
    --> environment variable GROUPCAST__STATE__MEMORY  state.memory
     = help: write a number and B, KB, MB, GB or TB (or KiB, MiB, …), like `512MB`

    7 errors
    "#);
}

#[test]
fn what_is_not_a_mapping_is_left_alone_and_what_is_broken_is_named() {
    let folder = folder();
    let mappings = folder.path().join("mappings");
    std::fs::create_dir(mappings.join("old.toml")).unwrap();
    std::fs::create_dir(mappings.join("drafts")).unwrap();
    write(&mappings, "drafts/broken.toml", "= =");
    write(&mappings, ".#accounts.toml", "= =");
    write(&mappings, "notes.md", "= =");
    write(
        &mappings,
        "elsewhere.txt",
        format!("\u{feff}{}", MAPPING.replace("name = \"name\"", "x = \"x\"").replace('\n', "\r\n")),
    );
    std::os::unix::fs::symlink(mappings.join("elsewhere.txt"), mappings.join("linked.toml")).unwrap();
    let project = load_with(folder.path(), &[]).unwrap();
    let names: Vec<&str> = project.mappings.iter().map(|file| file.mapping.name.as_str()).collect();
    assert_eq!(names, ["accounts", "linked"]);

    std::os::unix::fs::symlink(mappings.join("nowhere"), mappings.join("dangling.toml")).unwrap();
    write(&mappings, "odd name.toml", MAPPING.replace("name = \"name\"", "y = \"y\""));
    write(&mappings, "twice.toml", MAPPING);
    let shown = rendered(folder.path(), &[]);
    for expected in [
        "a link to a file that does not exist",
        "a sync is named after its file, and this file's name cannot be a sync's",
        "trait `name` of `company` at `amplitude` is also written by demo/mappings/accounts.toml:9",
        "3 errors",
    ] {
        assert!(shown.contains(expected), "{shown}");
    }
}

#[test]
fn a_folder_without_settings_or_mappings_says_what_to_do() {
    let empty = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(rendered(empty.path(), &[]), @r#"
    error: no such file
    --> demo/groupcast.toml
     = help: run `groupcast init` to write one, or name its folder with `--folder`

    1 error
    "#);
    let folder = folder();
    std::fs::remove_file(folder.path().join("mappings/accounts.toml")).unwrap();
    let project = load_with(folder.path(), &[]).unwrap();
    assert!(project.mappings.is_empty());
    assert!(project.problems.render(false).contains("warning: there are no mappings"));
    write(folder.path(), "groupcast.toml", [0xff]);
    assert!(rendered(folder.path(), &[]).contains("not UTF-8 text: line 1 has other bytes"));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn any_slip_in_the_settings_is_answered_and_shows_no_secret(at in 0..SETTINGS.len(), length in 0..30_usize, put in "[\"'={}\\[\\]\n.a#$]{0,3}") {
        let text = SETTINGS.replace("${file:key}", "hunter2").replace("${TOKEN}", "hunter2").replace("${PGPASSWORD}", "hunter2");
        let at = at.min(text.len());
        // A slip in a secret's key makes it another word, one with a line break cuts the secret off its key: what is
        // secret can then not be told.
        let line = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[at..].find('\n').map_or(text.len(), |end| at + end);
        let (before, after) = (&text[line..at], &text[at..line_end]);
        let within = before.contains('=') && !put.contains('\n');
        if at + length > line_end || (format!("{before}{after}").contains("hunter2") && !within) {
            return Ok(());
        }
        let folder = folder();
        write(folder.path(), "groupcast.toml", format!("{}{put}{}", &text[..at], text.get(at + length..).unwrap_or("")));
        rendered(folder.path(), &[]);
    }
}

#[test]
fn alerts_stand_inside_the_daemon_and_their_address_is_a_secret() {
    let more = "[daemon.alerts]\nurl = \"${ALERTS}\"\nlate_after = \"2h\"\n\n[daemon]\n";
    let folder = patched(&[("[daemon]\n", more)]);
    let variables = [("ALERTS", "https://hooks.example/hunt-ter2"), ("GROUPCAST__DAEMON__ALERTS__REJECTED_ABOVE", "5")];
    let alerts = load_with(folder.path(), &variables).unwrap().settings.daemon.alerts.unwrap();
    assert_eq!(alerts.url.unwrap().expose(), "https://hooks.example/hunt-ter2");
    assert_eq!((alerts.rejected_above, alerts.late_after), (5, Duration::from_secs(7_200)));
    assert_eq!(alerts.format, "slack");
    let problems = load_with(folder.path(), &[("ALERTS", "hooks.example/hunt-ter2")]).unwrap_err();
    let text = problems.render(false);
    assert!(text.contains("daemon.alerts.url") && text.contains("is not a valid URL"), "{text}");
    assert!(!text.contains("hunt-ter2"), "{text}");
    let folder =
        patched(&[("[daemon]\n", "[daemon.alerts]\nurl = \"https://hooks.example/hunt-ter2\"\nto = 1\n[daemon]\n")]);
    let text = load_with(folder.path(), &[]).unwrap_err().render(false);
    assert!(text.contains("contains a plaintext secret") && text.contains("unknown key `to`"), "{text}");
    assert!(!text.contains("hunt-ter2"), "{text}");
}
