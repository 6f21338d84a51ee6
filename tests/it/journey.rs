//! Does the way a user takes work, from `init` to the third run, and does each command keep its word?

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::cli::{KEY, Output, Place, Receiver, changes_sent, identifications, mapping};
use crate::support::postgres::shared;

/// The folder that `init` makes, with the receiver in place of the file.
fn made_by_init(receiver: &Receiver) -> Place {
    let mut place = Place::new();
    place.run(&["init"]).exits(0).says(&["+ ./groupcast.toml", "groupcast plan"]);
    place.set("AMPLITUDE_API_KEY", KEY);
    let settings = place.read("groupcast.toml");
    let (before, _) = settings.split_once("[destinations.changes]").unwrap();
    let destination = format!(
        "{before}[destinations.changes]\ntype = \"amplitude\"\napi_key = \"${{AMPLITUDE_API_KEY}}\"\nbase_url = \"{}\"\n",
        receiver.url
    );
    place.write("groupcast.toml", &destination);
    place
}

/// A command that only looks: it must leave every file as it is.
#[track_caller]
fn look(place: &Place, arguments: &[&str]) -> Output {
    let before = place.ledger_bytes();
    let output = place.run(arguments);
    assert_eq!(place.ledger_bytes(), before, "{arguments:?} wrote to the ledger");
    output
}

#[test]
fn the_folder_that_init_makes_runs_as_it_is() {
    let place = Place::new();
    let made = place.run(&["init", "my-sync"]).exits(0).says(&["cd my-sync && groupcast plan"]);
    assert_eq!(made.stderr, "");
    let again = place.run(&["init", "my-sync"]).exits(2).says(&["already exists", "help:"]);
    assert_eq!(again.stdout, "");
    for (arguments, words) in [
        (&["-C", "my-sync", "check"][..], "1 mapping valid"),
        (&["-C", "my-sync", "check", "--connect"], "source schema matches"),
        (&["-C", "my-sync", "plan"], "300 to add"),
        (&["-C", "my-sync", "run"], "300 delivered"),
        (&["-C", "my-sync", "run"], "nothing sent"),
        (&["-C", "my-sync", "status"], "300"),
        (&["-C", "my-sync", "group", "accounts", "acct_0001"], "Marco Rossi"),
    ] {
        place.run(arguments).exits(0).says(&[words]);
    }
    assert_eq!(place.read("my-sync/changes.ndjson").lines().count(), 300);
}

#[test]
fn from_init_to_a_changed_row() {
    // GIVEN the sample
    let receiver = Receiver::start();
    let place = made_by_init(&receiver);
    place.run(&["check"]).exits(0).says(&["1 mapping valid", "`--connect`"]);
    place.run(&["check", "--connect"]).exits(0).says(&["source schema matches"]);
    // WHEN it is planned and run
    let plan = look(&place, &["plan"]).exits(0);
    assert!(!place.path("state").exists(), "a plan makes no ledger");
    let plan = plan.says(&["+ acct_0001", "300 to add, 0 to change", "and 280 more groups"]);
    assert_eq!(plan.stderr, "");
    assert_eq!(receiver.requests(), 0);
    let shown = look(&place, &["plan", "--show", "all"]).exits(0);
    assert_eq!(shown.stdout.matches("\n+ acct_").count(), 300);
    place.run(&["run"]).exits(0).says(&["300 rows: 0 unchanged, 300 delivered"]);
    let held = receiver.group("company", "acct_0001").unwrap();
    assert_eq!(held["synced_by"], json!("groupcast"));
    assert_eq!(receiver.vendor.groups().len(), 300);
    // THEN a second run sends nothing
    let seen = receiver.requests();
    place.run(&["run"]).exits(0).says(&["300 rows: 300 unchanged; nothing sent"]);
    assert_eq!(receiver.requests(), seen);

    // WHEN a row changes
    let old_plan = held["plan"].as_str().unwrap().to_owned();
    place.warehouse("UPDATE accounts SET plan = 'galactic', health_score = NULL WHERE account_id = 'acct_0001'");
    let plan = look(&place, &["plan"]).exits(0);
    plan.says(&[
        "~ acct_0001",
        &format!("\"{old_plan}\" → \"galactic\""),
        "0 to add, 1 to change, 0 to remove, 299 unchanged",
    ]);
    // THEN the plan as JSON says the same
    let lines = look(&place, &["plan", "--json"]).exits(0).json_lines();
    let [change, summary] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!((&change["type"], &change["key"]), (&json!("change"), &json!("acct_0001")));
    assert_eq!(change["before"]["plan"], json!(old_plan));
    assert_eq!(change["change"]["set"], json!({"plan": "galactic"}));
    assert_eq!((&summary["type"], &summary["change"], &summary["unchanged"]), (&json!("plan"), &json!(1), &json!(299)));
    // AND the shown request is what the run then sends, but for the key
    let requests = look(&place, &["plan", "--requests"]).exits(0);
    assert!(!requests.all().contains(KEY));
    let shown = requests.stdout.lines().find_map(|line| line.strip_prefix("api_key=***")).expect("a masked key");
    let as_json = look(&place, &["plan", "--requests", "--json"]).exits(0);
    assert!(!as_json.all().contains(KEY));
    let in_json: Vec<Value> = as_json.json_lines().into_iter().filter(|line| line["type"] == "request").collect();
    assert_eq!(in_json.len(), 1);
    assert_eq!(receiver.requests(), seen, "a plan sends nothing");
    place.run(&["run"]).exits(0).says(&["299 unchanged, 1 delivered; 1 trait set; 1 request"]);
    let sent = receiver.since(seen);
    assert_eq!(sent.len(), 1);
    let body = String::from_utf8(sent[0].body.clone()).unwrap();
    let (key, rest) = body.split_once('&').unwrap();
    assert_eq!(key, format!("api_key={KEY}"));
    assert_eq!(format!("&{rest}"), shown);
    assert_eq!(in_json[0]["body"], json!(format!("api_key=***&{rest}")));
    assert_eq!(in_json[0]["url"], json!(format!("{}/groupidentify", receiver.url)));
    // AND only that trait travels
    assert_eq!(changes_sent(&sent), [("acct_0001".to_owned(), json!({"$set": {"plan": "galactic"}}))]);
    assert_eq!(receiver.group("company", "acct_0001").unwrap()["plan"], json!("galactic"));

    // WHEN one asks
    let group = look(&place, &["group", "accounts", "acct_0001"]).exits(0);
    let group = group.says(&["acct_0001 in accounts", "\"galactic\"", "History", "+ plan = \"galactic\""]);
    assert_eq!(group.stdout.matches("delivered").count(), 2, "{}", group.stdout);
    let runs = look(&place, &["runs"]).exits(0);
    assert_eq!(runs.stdout.lines().filter(|line| line.contains("accounts")).count(), 3, "{}", runs.stdout);
    look(&place, &["runs", "accounts", "-n", "1"]).exits(0).says(&["succeeded"]);
    look(&place, &["status"]).exits(0).says(&["accounts", "changes", "300", "succeeded"]);
    look(&place, &["rejected"]).exits(0).says(&["no rejected groups"]);
    look(&place, &["group", "accounts", "nobody"]).exits(2).says(&["group `nobody` has no sync history", "help:"]);
    look(&place, &["group", "acounts", "acct_0001"]).exits(2).says(&["did you mean `accounts`?"]);
}

#[test]
fn a_null_unsets_and_a_missing_group_is_kept() {
    let receiver = Receiver::start();
    let place = made_by_init(&receiver);
    place.run(&["run"]).exits(0);
    place.warehouse(
        "UPDATE accounts SET renewal_date = NULL, seats = 7 WHERE account_id = 'acct_0002';
         UPDATE accounts SET renewal_date = '2031-05-06' WHERE account_id = 'acct_0003';
         DELETE FROM accounts WHERE account_id = 'acct_0004'",
    );
    let held = receiver.group("company", "acct_0002").unwrap();
    let seen = receiver.requests();
    let gone = receiver.group("company", "acct_0004");
    look(&place, &["plan"]).exits(0).says(&["1 synced group left the model and is kept as it is"]);
    place.run(&["run"]).exits(0);
    let mut expected = json!({"$set": {"seats": 7}});
    if held.contains_key("renewal") {
        expected["$unset"] = json!({"renewal": "-"});
    }
    assert_eq!(
        changes_sent(&receiver.since(seen)),
        [("acct_0002".to_owned(), expected), ("acct_0003".to_owned(), json!({"$set": {"renewal": "2031-05-06"}}))]
    );
    assert!(!receiver.group("company", "acct_0002").unwrap().contains_key("renewal"));
    assert_eq!(receiver.group("company", "acct_0004"), gone);
}

#[test]
fn the_ledger_is_exported_adopted_and_reset() {
    let receiver = Receiver::start();
    let place = Place::with(&receiver);
    place.warehouse("CREATE TABLE accounts AS SELECT 'k' || i AS id, i AS n, 'x' AS name FROM range(30) r(i)");
    place.mapping("accounts", &mapping("n = \"n\"\nname = \"name\"", ""));
    // WHEN the source is taken as delivered
    place.run(&["ledger", "adopt", "accounts"]).exits(0).says(&["30 groups marked as synced at amplitude"]);
    // THEN nothing is sent until something changes
    place.run(&["run"]).exits(0).says(&["30 unchanged; nothing sent"]);
    place.warehouse("UPDATE accounts SET n = 100 WHERE id = 'k7'");
    place.run(&["run"]).exits(0);
    assert_eq!(changes_sent(&receiver.since(0)), [("k7".to_owned(), json!({"$set": {"n": 100}}))]);
    // AND the export holds every group
    let export = look(&place, &["ledger", "export", "accounts"]).exits(0).json_lines();
    assert_eq!(export.len(), 30);
    let by_key: BTreeMap<&str, &Value> = export.iter().map(|line| (line["key"].as_str().unwrap(), line)).collect();
    assert_eq!(by_key["k7"]["document"], json!({"n": 100, "name": "x"}));
    assert_eq!(by_key["k8"]["document"], json!({"n": 8, "name": "x"}));
    assert!(export.iter().all(|line| line["unconfirmed_in"].is_null()));

    // WHEN one group is reset
    let seen = receiver.requests();
    place.run(&["ledger", "reset", "accounts", "--group", "k8", "--yes"]).exits(0).says(&["1 group will be resent"]);
    look(&place, &["plan"]).exits(0).says(&["~ k8", "unconfirmed: resent in full", "1 to change"]);
    place.run(&["run"]).exits(0);
    assert_eq!(changes_sent(&receiver.since(seen)), [("k8".to_owned(), json!({"$set": {"n": 8, "name": "x"}}))]);
    // AND without an answer nothing is reset
    place.run(&["ledger", "reset", "accounts"]).exits(2).says(&["nothing was reset", "--yes"]);
    let seen = receiver.requests();
    place.run(&["run"]).exits(0);
    assert_eq!(receiver.requests(), seen);
    // WHEN all is forgotten
    place.run(&["ledger", "reset", "accounts", "--forget", "--yes"]).exits(0).says(&["30 groups forgotten"]);
    place.run(&["run"]).exits(0).says(&["30 delivered"]);
    assert_eq!(receiver.vendor.groups().len(), 30);
}

#[test]
fn exit_codes_say_how_it_went() {
    let receiver = Receiver::start();
    let place = Place::with(&receiver);
    place.warehouse(
        "CREATE TABLE accounts AS SELECT 'k' || i AS id, i AS n, repeat('x', i * 40) AS note FROM range(30) r(i)",
    );
    place.mapping("accounts", &mapping("n = \"n\"\nnote = \"note\"", ""));
    // 3: finished, some rejected
    let run = place.run(&["run"]).exits(3).says(&[
        "26 delivered",
        "4 rejected",
        "`groupcast rejected accounts` shows the error messages",
    ]);
    assert!(!run.all().contains("xxxx"), "no trait's value");
    look(&place, &["rejected"]).exits(0).says(&["k26", "k29", "trait `note`", "more than 1,024 characters"]);
    assert_eq!(look(&place, &["rejected", "--json"]).exits(0).json()["rejected"].as_array().unwrap().len(), 4);
    place.run(&["run"]).exits(3).says(&["nothing sent", "4 rejected earlier and unchanged"]);
    // 0: all delivered
    place.warehouse("UPDATE accounts SET note = 'short' WHERE length(note) > 1024");
    place.run(&["run"]).exits(0).says(&["4 delivered"]);
    // 4: stopped by a guard
    place.warehouse("UPDATE accounts SET n = n + 1000");
    look(&place, &["plan"]).exits(4).says(&["--accept changed"]);
    place.run(&["run"]).exits(4).says(&["--accept changed"]);
    // 1: failed
    place.warehouse("UPDATE accounts SET n = n - 1000; UPDATE accounts SET n = 5000 WHERE id = 'k1'");
    let mut down = Place::with(&receiver);
    down.set("GROUPCAST__DESTINATIONS__AMPLITUDE__API_KEY", "wrong");
    down.warehouse("CREATE TABLE accounts (id VARCHAR, n INTEGER); INSERT INTO accounts VALUES ('a', 1)");
    down.mapping("accounts", &mapping("n = \"n\"", ""));
    down.run(&["run"]).exits(1).says(&["Invalid API key"]);
    // 2: bad config or usage
    place.run(&["run", "nothing"]).exits(2).says(&["sync `nothing` not found"]);
    place.run(&["run", "--accept", "everything"]).exits(2).says(&["rows-dropped"]);
    place.run(&["fly"]).exits(2);
    place.mapping("second", "source = 3");
    place.run(&["run"]).exits(2).says(&["mappings/second.toml"]);
    place.run(&["run", "--group", "k1"]).exits(2).says(&["needs exactly one sync", "groupcast run SYNC --group KEY"]);
}

#[test]
fn json_is_json_for_every_command() {
    let receiver = Receiver::start();
    let place = Place::with(&receiver);
    let made = place.run(&["init", "sample", "--json"]).exits(0);
    assert_eq!(made.json()["written"].as_array().unwrap().len(), 9);
    place.warehouse(
        "CREATE TABLE accounts AS SELECT 'k' || i AS id, i AS n, repeat('x', i * 60) AS note FROM range(20) r(i)",
    );
    let shaped = place.run(&["init", "--source", "warehouse", "--table", "accounts", "--json"]).exits(0);
    assert_eq!(shaped.json()["written"].as_array().unwrap().len(), 1);
    assert_eq!(place.run(&["check", "--json"]).exits(0).json()["problems"], json!([]));
    assert_eq!(place.run(&["check", "--connect", "--json"]).exits(0).json()["problems"], json!([]));
    let planned = place.run(&["plan", "--json"]).exits(0).json_lines();
    assert_eq!(planned.len(), 21);
    assert_eq!((&planned[20]["add"], &planned[20]["rejected"]), (&json!(18), &json!(2)), "what the run will do");
    let ran = place.run(&["run", "--json"]).exits(3);
    assert_eq!(ran.stderr, "");
    let ran = ran.json();
    assert_eq!((&ran["exit_code"], &ran["runs"][0]["status"]), (&json!(3), &json!("succeeded_with_rejections")));
    assert_eq!(ran["runs"][0]["counts"]["delivered"], json!(18));
    let again = place.run(&["run", "--json"]).exits(3).json();
    assert_eq!(again["runs"][0]["counts"]["rejected_unchanged"], json!(2));
    assert_eq!(again["runs"][0]["counts"]["requests"], json!(0));
    let status = place.run(&["status", "--json"]).exits(0).json();
    assert_eq!(status["syncs"][0]["groups"]["rejected"], json!(2));
    let runs = place.run(&["runs", "--json"]).exits(0).json();
    assert_eq!(runs["runs"].as_array().unwrap().len(), 2);
    let group = place.run(&["group", "accounts", "k3", "--json"]).exits(0).json();
    assert_eq!(group["traits"]["n"]["value"], json!(3));
    assert!(group["traits"]["n"]["sent_at"].is_string());
    let rejected = place.run(&["rejected", "--json"]).exits(0).json();
    assert_eq!(rejected["rejected"][0]["key"], json!("k18"));
    assert_eq!(place.run(&["ledger", "export", "accounts", "--json"]).exits(0).json_lines().len(), 20);
    let reset = place.run(&["ledger", "reset", "accounts", "--yes", "--json"]).exits(0).json();
    assert_eq!(reset["groups"], json!(20));
    let adopted = place.run(&["ledger", "adopt", "accounts", "--json"]).exits(0).json();
    assert_eq!(adopted["adopted"], json!(20));
    // Mistakes are JSON as well.
    let failed = place.run(&["group", "accounts", "nobody", "--json"]).exits(2).json();
    assert_eq!(failed["error"]["kind"], json!("config"));
    place.mapping("second", "source = 3");
    let second = "mappings/second.toml";
    for (arguments, code) in [
        (&["check", "--json"][..], 2),
        (&["plan", "--json"], 2),
        (&["plan", "second", "--json"], 2),
        (&["run", "--json"], 2),
        (&["status", "--json"], 0),
        (&["schedule", "--json"], 0),
    ] {
        let output = place.run(arguments).exits(code);
        assert_eq!(output.stderr, "");
        let last = output.json_lines().pop().unwrap();
        match arguments[0] {
            "check" | "plan" => assert!(last["problems"].as_array().unwrap().len() > 1, "{}", output.stdout),
            "run" => assert_eq!(last["runs"][1]["error"]["kind"], json!("config"), "{}", output.stdout),
            _ => assert_eq!(last["broken"], json!([{"sync": "second", "file": second}]), "{}", output.stdout),
        }
    }
}

#[test]
fn man_pages_are_written_where_they_can_be() {
    let place = Place::new();
    place.run(&["man", "share/man1"]).exits(0);
    let page = place.read("share/man1/groupcast-run.1");
    assert!(page.contains(".TH groupcast-run 1") && page.contains(r"\-\-accept rows\-dropped"), "{page}");
    // Again over what is there, as a new version would.
    let written = place.run(&["man", "share/man1", "--json"]).exits(0).json();
    assert!(written["written"].as_array().unwrap().contains(&"groupcast.1".into()), "{written}");
    place.write("taken", "");
    place
        .run(&["man", "taken"])
        .exits(2)
        .says(&["failed to write man pages to taken", "check the folder's permissions"]);
}

#[test]
fn completions_and_help_print() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.run(&["completions", shell]).exits(0);
        assert!(script.stdout.contains("groupcast") && script.stdout.contains("rejected"), "{shell}");
    }
    let help = place.run(&["--help"]).exits(0).says(&["Exit codes:", "4 stopped by a guard", "130"]);
    assert_eq!(help.stderr, "");
    place.run(&["--version"]).exits(0).says(&["groupcast "]);
    for command in ["init", "check", "plan", "run", "status", "runs", "group", "rejected", "ledger"] {
        place.run(&[command, "--help"]).exits(0).says(&["Usage: groupcast"]);
    }
    // A closed pipe is no reason to panic.
    let mut piped = std::process::Command::new("sh");
    place.prepare(&mut piped);
    piped.args(["-c", "\"$0\" --help | true; \"$0\" completions bash | head -c 10", env!("CARGO_BIN_EXE_groupcast")]);
    let piped = crate::support::cli::start(piped).wait().exits(0);
    assert!(!piped.stderr.contains("panicked"), "{}", piped.stderr);
}

/// Columns of many types, as each engine spells them.
const COLUMNS: &str = "name TEXT, seats INTEGER, big BIGINT, arr DECIMAL(12,2), huge DECIMAL(38,10), score DOUBLE PRECISION, \
    active BOOLEAN, renewal DATE, created_at TIMESTAMP, updated_at TIMESTAMP, ref UUID, tags TEXT[], contact_email TEXT, \
    \"odd \"\"name\"\".x\" TEXT";
const ROW: &str = "'a1', 'Acme', 5, 9007199254740991, 12.50, 1234567890.0123456789, 0.1, true, '2027-01-02', \
    '2024-01-02 03:04:05', '2024-01-02 03:04:05', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn init_writes_a_mapping_that_fits_the_table() {
    // GIVEN the same table in a DuckDB file and in PostgreSQL
    let database = shared().create_database().await;
    let table = |schema: &str| {
        format!("CREATE SCHEMA {schema}; CREATE TABLE {schema}.dim_accounts (account_id TEXT NOT NULL, {COLUMNS});")
    };
    database
        .execute(&format!(
            "{} INSERT INTO analytics.dim_accounts VALUES ({ROW}, ARRAY['x', 'y'], 'a@b.c', 'q');",
            table("analytics")
        ))
        .await;
    let receiver = Receiver::start();
    let place = Place::with(&receiver);
    place.warehouse(&format!(
        "{} INSERT INTO analytics.dim_accounts VALUES ({ROW}, ['x', 'y'], 'a@b.c', 'q')",
        table("analytics")
    ));
    let settings = place.read("groupcast.toml");
    let url = format!("postgres://root_user@127.0.0.1:{}/{}", shared().port(), database.name());
    place.write("groupcast.toml", &format!("{settings}\n[sources.pg]\ntype = \"postgres\"\nurl = \"{url}\"\n"));
    // WHEN mappings are drafted
    for (source, name) in [("warehouse", "duck"), ("pg", "post")] {
        let drafted = ["init", "--source", source, "--table", "analytics.dim_accounts", "--name", name];
        place.run(&drafted).exits(0).says(&[&format!("mappings/{name}.toml"), "groupcast check --connect"]);
        // Two mappings may not write the same traits.
        let text = place.read(&format!("mappings/{name}.toml"));
        let (before, after) = text.split_once("type = \"account\"").expect("the guessed group type");
        place.mapping(name, &format!("{before}type = \"{name}\"{after}"));
        place.run(&drafted).exits(2).says(&["already exists", "--name"]);
    }
    // THEN they pass every check and run
    place.run(&["check", "--connect"]).exits(0).says(&["2 mappings valid"]);
    place.run(&["run"]).exits(0);
    // AND both say the same about the row
    let [duckdb, post] = ["duck", "post"].map(|kind| receiver.group(kind, "a1").unwrap());
    assert_eq!(duckdb, post);
    assert_eq!(duckdb["huge"], json!("1234567890.0123456789"));
    assert_eq!(duckdb["renewal"], json!("2027-01-02"));
    assert!(!duckdb.contains_key("contact_email") && !duckdb.contains_key("updated_at"), "{duckdb:?}");
    // AND what does not exist is named
    place.run(&["init", "--source", "pg", "--table", "analytics.nothing"]).exits(1).says(&["analytics.nothing"]);
    place.run(&["init", "--source", "nobody", "--table", "t"]).exits(2).says(&["no source `nobody`", "`warehouse`"]);
    place.run(&["init", "--table", "t"]).exits(2).says(&["--source"]);
}

#[test]
fn the_recorded_body_is_what_the_receiver_understood() {
    let receiver = Receiver::start();
    let place = Place::with(&receiver);
    place.warehouse("CREATE TABLE accounts AS SELECT 'é & = + %' AS id, 'line\nbreak \"quoted\" 🎉' AS name");
    place.mapping("accounts", &mapping("\"näme\" = \"name\"", ""));
    place.run(&["run"]).exits(0);
    let sent = receiver.since(0);
    assert_eq!(
        identifications(&sent[0].body),
        [json!({"group_type": "company", "group_value": "é & = + %",
            "group_properties": {"$set": {"näme": "line\nbreak \"quoted\" 🎉"}}})]
    );
    place.run(&["group", "accounts", "é & = + %"]).exits(0).says(&["näme"]);
}
