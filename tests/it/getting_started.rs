//! Does a folder become what a newcomer means it to be: variables from `.env`, and one settings file per target?

use std::os::unix::fs::PermissionsExt;

use crate::support::cli::{KEY, Place, Receiver, mapping, settings, until};
use crate::support::daemon::Daemon;
use crate::support::postgres::shared;
use crate::support::terminal::{Ended, Terminal};

const ROWS: &str =
    "CREATE TABLE accounts (id text, plan text); INSERT INTO accounts VALUES ('a1', 'free'), ('a2', 'pro')";

/// Two accounts for a receiver whose key is in `.env` alone.
fn place(receiver: &Receiver) -> Place {
    let mut place = Place::with(receiver);
    place.unset("AMPLITUDE_API_KEY");
    place.mapping("accounts", &mapping("plan = \"plan\"\n", "[guards]\nchanged_max = 1.0\n"));
    place.warehouse(ROWS);
    dotenv(&place, ".env", &format!("AMPLITUDE_API_KEY='{KEY}'\n"));
    place
}

fn dotenv(place: &Place, name: &str, text: &str) {
    place.write(name, text);
    std::fs::set_permissions(place.path(name), std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn secrets_come_from_the_env_file_and_are_never_shown() {
    let receiver = Receiver::start();
    let mut place = place(&receiver);
    let run = place.run(&["run"]).exits(0).says(&["2 delivered"]);
    let plan = place.run(&["plan", "--requests", "--json"]).exits(0);
    // What the process has wins.
    place.set("AMPLITUDE_API_KEY", "an0ther-k3y-77c1");
    place.run(&["ledger", "reset", "accounts", "--yes"]).exits(0);
    let refused = place.run(&["run"]).exits(1).says(&["Invalid API key"]);
    place.unset("AMPLITUDE_API_KEY");
    dotenv(&place, ".env", &format!("AMPLITUDE_API_KEY = {KEY}\n{KEY}\n"));
    let broken = place.run(&["check"]).exits(2).says(&[".env:2:1", "this line is not `NAME=value`"]);
    let json = place.run(&["check", "--json"]).exits(2);
    assert_eq!(json.json()["problems"][0]["line"], 2, "{}", json.stdout);
    for output in [&run, &plan, &refused, &broken, &json] {
        assert!(!output.all().contains(KEY), "{}", output.all());
    }
    dotenv(&place, ".env", "AMPLITUDE_API_KEYS=x\n");
    place
        .run(&["check"])
        .exits(2)
        .says(&["`AMPLITUDE_API_KEY`, which is not set", "did you mean `AMPLITUDE_API_KEYS`?"]);
}

#[test]
fn a_daemon_notices_a_changed_env_file() {
    let receiver = Receiver::start();
    let place = place(&receiver);
    let daemon = Daemon::start(&place);
    place.run(&["run"]).exits(0).says(&["2 delivered"]);
    let read_at = || daemon.get("/api/v1/about").is(200)["config_read_at"].clone();
    let before = read_at();
    dotenv(&place, ".env", "AMPLITUDE_API_KEY='an0ther-k3y-77c1'\n");
    until("the daemon reloads", || (read_at() != before).then_some(()));
    place.run(&["ledger", "reset", "accounts", "--yes"]).exits(0);
    place.run(&["run"]).exits(1).says(&["Invalid API key"]);
    daemon.stop().exits(0);
}

#[test]
fn a_target_has_settings_variables_and_a_ledger_of_its_own() {
    let (receiver, other) = (Receiver::start(), Receiver::start());
    let mut place = place(&receiver);
    place.write("groupcast.prod.toml", &settings(&other.url, ""));
    dotenv(&place, ".env", "AMPLITUDE_API_KEY=wrong-k3y-6625\n");
    dotenv(&place, ".env.prod", &format!("AMPLITUDE_API_KEY={KEY}\n"));
    let run =
        place.run(&["run", "--target", "prod"]).exits(0).says(&["2 delivered", "target: prod (groupcast.prod.toml)"]);
    assert!(!run.stdout.contains("target:"), "{}", run.stdout);
    assert_eq!((receiver.requests(), other.requests() > 0), (0, true));
    assert!(place.path("state/ledger.prod.duckdb").exists() && !place.path("state/ledger.duckdb").exists());
    // Without the target everything is still to be sent, with another key.
    place.run(&["plan"]).exits(0).says(&["2 to add"]);
    place.run(&["run"]).exits(1).says(&["Invalid API key"]);
    place.set("GROUPCAST_TARGET", "prod");
    place.run(&["plan"]).exits(0).says(&["target: prod", "2 unchanged"]);
    assert_eq!(place.run(&["status", "--json"]).exits(0).json()["target"], "prod");
    place.unset("GROUPCAST_TARGET");
    place
        .run(&["status", "--target", "prodd"])
        .exits(2)
        .says(&["groupcast.prodd.toml", "did you mean `--target prod`?"]);
    place.run(&["status", "--target", "a/b"]).exits(2).says(&["letters, digits"]);
    // Mistakes are at the line of the target's own file.
    place.write("groupcast.bad.toml", "[destinations.amplitude]\ntype = \"amplitud\"\n");
    place.run(&["check", "--target", "bad"]).exits(2).says(&["groupcast.bad.toml:2:", "did you mean `amplitude`?"]);
    let copied = format!("[state]\npath = \"state/ledger.duckdb\"\n{}", settings(&other.url, ""));
    place.write("groupcast.copied.toml", &copied);
    dotenv(&place, ".env.copied", &format!("AMPLITUDE_API_KEY={KEY}\n"));
    let shared = ["`state.path` is the ledger of groupcast.toml", "state/ledger.copied.duckdb"];
    place.run(&["run", "--target", "copied"]).exits(2).says(&shared);
    std::fs::remove_file(place.path("groupcast.toml")).unwrap();
    place.run(&["status"]).exits(2).says(&["choose a target with `--target`", "`prod`"]);
}

#[test]
fn a_group_is_shown_with_its_name() {
    let receiver = Receiver::start();
    for beside in [false, true] {
        let place = place(&receiver);
        let named = |label: &str| {
            let text = mapping("called = \"name\"\nplan = \"plan\"\n", "[guards]\nchanged_max = 1.0\n");
            place.mapping("accounts", &text.replace("key = \"id\"", &format!("key = \"id\"\nlabel = \"{label}\"")));
        };
        place.warehouse("ALTER TABLE accounts ADD COLUMN name text; UPDATE accounts SET name = 'Acme ' || id");
        named("caled");
        place.run(&["check"]).exits(2).says(&[
            "accounts.toml:10:9",
            "trait `caled` not found",
            "did you mean `called`?",
        ]);
        named("called");
        let daemon = beside.then(|| Daemon::start(&place));
        place.run(&["plan"]).exits(0).says(&["+ a1  Acme a1"]);
        place.run(&["run"]).exits(0).says(&["2 delivered"]);
        until("the warehouse can be written", || {
            let connection = duckdb::Connection::open(place.path("warehouse.duckdb")).ok()?;
            connection.execute_batch("UPDATE accounts SET plan = 'enterprise' WHERE id = 'a1'").unwrap();
            Some(())
        });
        // Of a changed group that keeps its name, the name is the synced one.
        let plan = place.run(&["plan", "--json"]).exits(0).json_lines();
        assert_eq!((&plan[0]["key"], &plan[0]["label"]), (&"a1".into(), &"Acme a1".into()), "{plan:?}");
        place.run(&["plan", "--output", "markdown"]).exits(0).says(&["@@ a1  Acme a1 (changed) @@"]);
        // It is no part of what is approved.
        place.run(&["plan", "--out", "one.plan"]).exits(0);
        place.run(&["run", "--plan", "one.plan"]).exits(0).says(&["1 delivered"]);
        place.run(&["group", "accounts", "a1"]).exits(0).says(&["a1  Acme a1 in accounts"]);
        assert_eq!(place.run(&["group", "accounts", "a2", "--json"]).exits(0).json()["label"], "Acme a2");
        if let Some(daemon) = daemon {
            daemon.stop().exits(0);
        }
    }
}

#[test]
fn a_rejected_group_is_shown_with_its_name() {
    let receiver = Receiver::start();
    let place = place(&receiver);
    let text = mapping("name = \"name\"\nseats = { column = \"plan\", as = \"integer\" }\n", "");
    place.mapping("accounts", &text.replace("key = \"id\"", "key = \"id\"\nlabel = \"name\""));
    place.warehouse("ALTER TABLE accounts ADD COLUMN name text; UPDATE accounts SET name = 'Acme ' || id, plan = '5'");
    place.run(&["run"]).exits(0).says(&["2 delivered"]);
    until("the warehouse can be written", || {
        let connection = duckdb::Connection::open(place.path("warehouse.duckdb")).ok()?;
        connection.execute_batch("UPDATE accounts SET plan = 'many' WHERE id = 'a1'").unwrap();
        Some(())
    });
    place.run(&["plan"]).exits(0).says(&["! a1  Acme a1"]);
    place.run(&["run"]).exits(3);
    place.run(&["rejected"]).exits(0).says(&["a1  Acme a1"]);
    assert_eq!(place.run(&["rejected", "--json"]).exits(0).json()["rejected"][0]["label"], "Acme a1");
}

#[test]
fn a_daemon_is_one_target_s() {
    let (receiver, other) = (Receiver::start(), Receiver::start());
    let place = place(&receiver);
    place.write("groupcast.prod.toml", &settings(&other.url, ""));
    let ready = place.path("state/ledger.prod.duckdb.daemon");
    let daemon = place.start(&["daemon", "--target", "prod", "--listen", "127.0.0.1:0"]);
    until("the daemon writes its address", || ready.exists().then_some(()));
    place.run(&["run", "--target", "prod"]).exits(0).says(&["2 delivered", "daemon"]);
    let about = place.run(&["status", "--target", "prod"]).exits(0).says(&["target: prod", "source: the daemon"]);
    assert!(about.stdout.contains("accounts"), "{}", about.all());
    // The other target is not its business.
    let own = place.run(&["run"]).exits(0).says(&["2 delivered"]);
    assert!(!own.all().contains("daemon"), "{}", own.all());
    // Its settings are, as they change.
    place.write("groupcast.prod.toml", &settings(&other.url, "timeout = \"nonsense\"\n"));
    until("the daemon reads its changed file", || daemon.stderr().contains("groupcast.prod.toml").then_some(()));
    daemon.signal("TERM");
    daemon.wait().exits(0).says(&["target: prod"]);
}

#[test]
fn the_doctor_looks_at_everything_and_shows_no_secret() {
    let receiver = Receiver::start();
    let mut place = place(&receiver);
    let found = |place: &Place, code: i32| {
        let text = place.run(&["doctor"]).exits(code);
        let output = place.run(&["doctor", "--json"]).exits(code);
        assert!(!text.all().contains(KEY) && !output.all().contains(KEY), "{}", text.all());
        (text, output.json())
    };
    let state = |json: &serde_json::Value, subject: &str| {
        let mut all = json["findings"].as_array().unwrap().iter();
        let found = all.find(|one| one["subject"] == subject).unwrap_or_else(|| panic!("no {subject}: {json}"));
        (found["state"].as_str().unwrap().to_owned(), found["what"].as_str().unwrap().to_owned())
    };
    let (text, json) = found(&place, 0);
    assert_eq!(json["errors"], 0, "{json}");
    let ok = |subject: &str, what: &str| {
        let (state, shown) = state(&json, subject);
        assert!(state == "ok" && shown.contains(what), "{subject}: {state} {shown}");
    };
    ok("version", env!("CARGO_PKG_VERSION"));
    ok("settings", "1 source, 1 destination");
    ok("secrets", "AMPLITUDE_API_KEY (.env)");
    ok("mappings", "1 mapping valid");
    ok("ledger", "is not there yet");
    ok("daemon", "none runs");
    ok("DuckDB", "v");
    ok("source warehouse", "connected in");
    ok("destination amplitude", "reached in");
    assert!(text.stdout.contains("0 errors"), "{}", text.stdout);
    place.run(&["run"]).exits(0);
    assert!(state(&found(&place, 0).1, "ledger").1.contains("2 synced groups"));
    let daemon = Daemon::start(&place);
    let (_, beside) = found(&place, 0);
    assert!(
        state(&beside, "ledger").1.contains("in use") && state(&beside, "daemon").1.contains(&daemon.url),
        "{beside}"
    );
    daemon.stop().exits(0);
    // What is wrong is an error with a next step, and hides nothing else.
    std::fs::remove_file(place.path("warehouse.duckdb")).unwrap();
    place.write("groupcast.toml", &settings("http://127.0.0.1:9", ""));
    place.mapping("broken", "source = 5\n");
    let (text, json) = found(&place, 1);
    for subject in ["source warehouse", "destination amplitude", "sync broken"] {
        assert_eq!(state(&json, subject).0, "error", "{json}");
    }
    assert!(
        json["errors"] == 3 && text.stdout.contains("3 errors") && text.stdout.contains("help:"),
        "{}",
        text.stdout
    );
    dotenv(&place, ".env", "OTHER=x\n");
    let (_, json) = found(&place, 1);
    let lost = ("error".to_owned(), "not found or empty: AMPLITUDE_API_KEY".to_owned());
    assert_eq!((state(&json, "settings").0.as_str(), state(&json, "secrets")), ("error", lost));
    place.set("GROUPCAST_TARGET", "nosuch");
    assert!(state(&found(&place, 1).1, "config folder").1.contains("target nosuch"));
}

/// Columns of a usual terminal.
const COLUMNS: u16 = 80;

const TEAMS: &str = "CREATE TABLE dim_teams (team_code text, name text, plan text, since date);
    INSERT INTO dim_teams SELECT 't' || i, 'Team ' || i, 'free', DATE '2026-01-01' FROM range(1200) r(i);
    CREATE TABLE events (id text); CREATE VIEW team_view AS SELECT * FROM dim_teams";

#[test]
fn a_newcomer_at_a_terminal_gets_a_project_that_runs() {
    let place = Place::new();
    place.warehouse(TEAMS);
    place.write(".gitignore", "*.log");
    let mut terminal = Terminal::start(&place, COLUMNS, &["init"]);
    terminal.types("Start with [1]:", "duckdb\n");
    terminal.types("Path of the file:", "nosuch.duckdb\n");
    terminal.types("Try again?", "\n");
    terminal.types("Path of the file:", "warehouse.duckdb\n");
    terminal.types("Table or view [1]:", "dim_teams\n");
    terminal.types("unique and never null [team_code]:", "\n");
    terminal.types("for none [name]:", "\n");
    terminal.types("Group type at the destination [team]:", "workspace\n");
    terminal.types("Destination [2]:", "amplitude\n");
    terminal.types("api_key (not shown):", &format!("{KEY}\n"));
    terminal.types("region [1]:", "eu\n");
    let Ended { code, written: shown, .. } = terminal.ends();
    assert!(!shown.contains(KEY), "{shown}");
    assert!(shown.contains("mappings/dim_teams.toml") && shown.contains("groupcast check --connect"), "{shown}");
    // The real destination is not reached from a test, or it is.
    assert!([Some(0), Some(2)].contains(&code), "{shown}");
    assert_eq!(std::fs::metadata(place.path(".env")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(place.read(".env"), format!("AMPLITUDE_API_KEY='{KEY}'\n"));
    assert!(!place.read("groupcast.toml").contains(KEY), "{}", place.read("groupcast.toml"));
    assert!(place.read(".gitignore").starts_with("*.log\n.env\n"), "{}", place.read(".gitignore"));
    place.run(&["check"]).exits(0);
    place.run(&["plan", "--show", "1"]).exits(0).says(&["1,200 to add", "(workspace)", "Team "]);
}

#[test]
fn a_newcomer_with_postgresql_sees_its_tables_with_their_sizes() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let database = runtime.block_on(shared().create_database());
    runtime.block_on(database.execute(
        "CREATE SCHEMA crm; CREATE TABLE crm.companies (id uuid PRIMARY KEY, name text);
         INSERT INTO crm.companies SELECT gen_random_uuid(), 'x' FROM generate_series(1, 1234);
         CREATE VIEW \"Odd View\" AS SELECT 1 AS id; ANALYZE crm.companies",
    ));
    let place = Place::new();
    let url = format!("postgres://root_user@127.0.0.1:{}/{}", shared().port(), database.name());
    let mut terminal = Terminal::start(&place, COLUMNS, &["init", "sync"]);
    terminal.types("Start with [1]:", "postgres\n");
    terminal.types("(not shown):", &format!("{url}\n"));
    until("the tables", || terminal.shown().contains("Table or view [1]:").then_some(()));
    let shown = terminal.shown();
    assert!(shown.contains("connected: 2 tables and views"), "{shown}");
    assert!(shown.contains("crm.companies      about 1,234 rows") && shown.contains("view"), "{shown}");
    terminal.types("Table or view [1]:", "\n");
    terminal.types("unique and never null [id]:", "\n");
    terminal.types("for none [name]:", "\n");
    terminal.types("Group type at the destination [account]:", "\n");
    terminal.types("Destination [2]:", "\n");
    terminal.types("Path of the file that gets the changes [changes.ndjson]:", "\n");
    let Ended { code, written: shown, .. } = terminal.ends();
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("1 mapping valid") && shown.contains("cd sync && groupcast plan companies"), "{shown}");
    assert_eq!(place.read("sync/.env"), format!("WAREHOUSE_URL='{url}'\n"));
    place.run(&["-C", "sync", "run"]).exits(0).says(&["1,234 delivered"]);
    assert_eq!(place.read("sync/changes.ndjson").lines().count(), 1_234);
}

#[test]
fn who_cancels_leaves_nothing() {
    let place = Place::new();
    place.warehouse(TEAMS);
    let left = || std::fs::read_dir(place.path("")).unwrap().count();
    // In a question that is shown, and in one that is not.
    let mut terminal = Terminal::start(&place, COLUMNS, &["init", "new"]);
    terminal.types("Start with [1]:", "duckdb\n");
    terminal.types("Path of the file:", "\u{3}");
    assert_ne!(terminal.ends().code, Some(0));
    let mut terminal = Terminal::start_shell(&place, COLUMNS, "groupcast init new; echo \"code $?\"; stty -a");
    terminal.types("Start with [1]:", "postgres\n");
    until("the question", || terminal.shown().contains("(not shown):").then_some(()));
    assert!(!terminal.echoes());
    terminal.types("(not shown):", "postgres://hunter2\u{3}");
    let shown = terminal.ends().written;
    assert!(shown.contains("code 130"), "{shown}");
    // The shell gets its terminal back as it was.
    for mode in ["echo", "icanon", "isig"] {
        assert!(shown.split_whitespace().any(|word| word == mode), "{mode}: {shown}");
    }
    assert!(shown.contains("nothing was written") && !shown.contains("hunter2"), "{shown}");
    assert_eq!(left(), 1, "the warehouse alone");
    // The sample is the first choice, and what there is without a terminal.
    let mut terminal = Terminal::start(&place, COLUMNS, &["init", "new"]);
    terminal.types("Start with [1]:", "\n");
    terminal.ends().exits(0);
    assert!(place.path("new/warehouse.duckdb").exists());
    place.run(&["init", "other"]).exits(0);
    assert!(place.path("other/.env.example").exists());
}

#[test]
fn a_target_gets_settings_of_its_own() {
    let place = Place::new();
    // The sample, for a target alone.
    place
        .run(&["init", "sample", "--target", "prod"])
        .exits(0)
        .says(&["groupcast.prod.toml", "groupcast plan --target prod"]);
    assert!(!place.path("sample/groupcast.toml").exists());
    place.run(&["-C", "sample", "--target", "prod", "run"]).exits(0).says(&["300 delivered"]);
    // Beside settings that are there: the same names, with other values.
    place.run(&["init", "own", "--sample"]).exits(0);
    let copied = place.run(&["init", "own", "--target", "prod"]).exits(0);
    let copied =
        copied.says(&["groupcast.prod.toml  (a copy of own/groupcast.toml)", "`.env.prod`", "--connect --target prod"]);
    assert!(!copied.all().contains("mappings/"), "{}", copied.all());
    // But for the ledger, which each target has of its own.
    assert_eq!(
        place.read("own/groupcast.toml").replace("\npath = \"state", "\n# path = \"state"),
        place.read("own/groupcast.prod.toml")
    );
    place.run(&["-C", "own", "--target", "prod", "run"]).exits(0).says(&["300 delivered"]);
    place.run(&["init", "own", "--target", "prod"]).exits(2).says(&["groupcast.prod.toml already exists"]);
    // The answers of a person, whose secrets are the target's.
    place.warehouse(TEAMS);
    let mut terminal = Terminal::start(&place, COLUMNS, &["init", "asked", "--target", "eu"]);
    terminal.types("Start with [1]:", "duckdb\n");
    terminal.types("Path of the file:", "warehouse.duckdb\n");
    terminal.types("Table or view [1]:", "dim_teams\n");
    terminal.types("unique and never null [team_code]:", "\n");
    terminal.types("for none [name]:", "\n");
    terminal.types("Group type at the destination [team]:", "\n");
    terminal.types("Destination [2]:", "journy\n");
    terminal.types("api_key (not shown):", &format!("{KEY}\n"));
    let shown = terminal.ends().written;
    assert!(shown.contains("asked/groupcast.eu.toml") && shown.contains("plan dim_teams --target eu"), "{shown}");
    assert_eq!(place.read("asked/.env.eu"), format!("JOURNY_API_KEY='{KEY}'\n"));
    assert!(!place.path("asked/.env").exists() && !place.path("asked/groupcast.toml").exists());
    place.run(&["-C", "asked", "--target", "eu", "plan"]).exits(0).says(&["1,200 to add"]);
}

#[test]
fn the_same_answers_are_options() {
    let receiver = Receiver::start();
    let mut place = Place::new();
    place.warehouse(TEAMS);
    let url = format!("base_url={}", receiver.url);
    let init = |place: &Place, more: &[&str]| {
        let path = format!("path={}", place.path("warehouse.duckdb").display());
        let base =
            ["init", "sync", "--source-type", "duckdb", "--source-set", &path, "--destination-type", "amplitude"];
        place.run(&[&base, &["--destination-set", &url] as &[&str], more].concat())
    };
    init(&place, &[]).exits(2).says(&["`--table` is missing"]);
    init(&place, &["--table", "dim_teams"]).exits(2).says(&["the variable AMPLITUDE_API_KEY is not set"]);
    init(&place, &["--table", "dim_teams", "--destination-set", &format!("api_key={KEY}")])
        .exits(2)
        .says(&["contains a plaintext secret"]);
    place.set("AMPLITUDE_API_KEY", KEY);
    init(&place, &["--table", "dim_teams", "--key", "nme"]).exits(2).says(&["`nme` not found", "did you mean `name`?"]);
    init(&place, &["--table", "dim_tems"]).exits(1);
    assert!(!place.path("sync").exists(), "nothing is written before the last answer");
    init(&place, &["--table", "dim_teams", "--group-type", "team"]).exits(0).says(&["ok: 1 mapping valid"]);
    assert!(!place.path("sync/.env").exists(), "the secret stays where it is");
    place.run(&["-C", "sync", "run"]).exits(0).says(&["1,200 delivered"]);
    init(&place, &["--table", "dim_teams"]).exits(2).says(&["groupcast.toml already exists"]);
}
