//! What is said again, and what is not, when a mapping, a column or a policy changes between two runs?

use serde_json::{Value, json};

use crate::support::cli::{Place, Receiver, mapping, settings, told, until};
use crate::support::postgres::shared;

const SIX: &str = "CREATE TABLE accounts AS SELECT 'k' || i AS id, 'Name ' || i AS name, i AS seats, 'p' || i % 2 AS plan FROM range(6) r(i)";

/// A folder whose six accounts were delivered once, with these traits.
fn delivered(receiver: &Receiver, traits: &str, more: &str) -> Place {
    let place = Place::with(receiver);
    place.warehouse(SIX);
    place.mapping("accounts", &mapping(traits, more));
    place.run(&["check", "--connect"]).exits(0);
    place.run(&["run"]).exits(0).says(&["6 delivered"]);
    place
}

/// Runs and gives what every group was told.
#[track_caller]
fn said(receiver: &Receiver, place: &Place, arguments: &[&str], code: i32) -> Vec<(String, Value)> {
    let seen = receiver.requests();
    place.run(arguments).exits(code);
    told(&receiver.since(seen))
}

#[track_caller]
fn silent(receiver: &Receiver, place: &Place) {
    assert_eq!(said(receiver, place, &["run"], 0), []);
}

/// The report of the only sync of a run.
#[track_caller]
fn report(place: &Place, arguments: &[&str], code: i32) -> Value {
    let mut all = vec!["run", "--json"];
    all.extend(arguments);
    place.run(&all).exits(code).json()["runs"][0].clone()
}

#[test]
fn a_new_trait_is_said_to_every_group_once() {
    let receiver = Receiver::start();
    let place = delivered(&receiver, "name = \"name\"", "");
    place.mapping("accounts", &mapping("name = \"name\"\ntier = \"plan\"\nby = { const = 1 }", ""));
    let expected = |i: usize| (format!("k{i}"), json!({"$set": {"by": 1, "tier": format!("p{}", i % 2)}}));
    assert_eq!(said(&receiver, &place, &["run"], 0), (0..6).map(expected).collect::<Vec<_>>());
    silent(&receiver, &place);
    // The order of traits, comments and what is the default anyway are no change.
    let again = mapping("by = { const = 1 }  # us\ntier = { column = \"plan\", as = \"string\" }\nname = \"name\"", "");
    place.mapping("accounts", &format!("# reordered\n{again}\n[policy]\non_null = \"unset\""));
    silent(&receiver, &place);
}

#[test]
fn a_removed_trait_is_kept_or_unset() {
    let receiver = Receiver::start();
    let place = delivered(&receiver, "name = \"name\"\nplan = \"plan\"", "");
    // keep: the destination keeps its value, and it is not said again when the trait comes back
    place.mapping("accounts", &mapping("name = \"name\"", ""));
    silent(&receiver, &place);
    assert_eq!(receiver.group("company", "k1").unwrap()["plan"], json!("p1"));
    place.warehouse("UPDATE accounts SET plan = 'other' WHERE id = 'k2'");
    silent(&receiver, &place);
    place.mapping("accounts", &mapping("name = \"name\"\nplan = \"plan\"", ""));
    assert_eq!(said(&receiver, &place, &["run"], 0), [("k2".to_owned(), json!({"$set": {"plan": "other"}}))]);
    // unset: it is unset, also when it was removed while the policy was to keep
    place.mapping("accounts", &mapping("name = \"name\"", ""));
    silent(&receiver, &place);
    place.mapping("accounts", &mapping("name = \"name\"", "[policy]\non_removed_trait = \"unset\""));
    let expected = |i: usize| (format!("k{i}"), json!({"$unset": {"plan": "-"}}));
    assert_eq!(said(&receiver, &place, &["run"], 0), (0..6).map(expected).collect::<Vec<_>>());
    silent(&receiver, &place);
    assert!(!receiver.group("company", "k1").unwrap().contains_key("plan"));
    // and a renamed trait is both
    place.mapping("accounts", &mapping("title = \"name\"", "[policy]\non_removed_trait = \"unset\""));
    let first = said(&receiver, &place, &["run"], 0)[0].clone();
    assert_eq!(first, ("k0".to_owned(), json!({"$set": {"title": "Name 0"}, "$unset": {"name": "-"}})));
}

#[test]
fn a_renamed_column_or_another_expression_of_equal_value_says_nothing() {
    let receiver = Receiver::start();
    let place = delivered(&receiver, "name = \"name\"\nseats = \"seats\"", "");
    place.warehouse("ALTER TABLE accounts RENAME COLUMN seats TO places");
    place.run(&["run"]).exits(2).says(&[
        "the model has no column `seats`",
        "mappings/accounts.toml:13",
        "traits.seats",
    ]);
    place.mapping("accounts", &mapping("name = \"name\"\nseats = \"places\"", ""));
    silent(&receiver, &place);
    place.mapping("accounts", &mapping("name = { sql = \"trim(name)\" }\nseats = { sql = \"places + 0\" }", ""));
    silent(&receiver, &place);
    // Another model with the same rows.
    let queried = mapping("name = \"name\"\nseats = \"places\"", "")
        .replace("table = \"accounts\"", "sql = \"SELECT * FROM accounts\"\nwhere = \"places >= 0\"");
    place.mapping("accounts", &queried);
    silent(&receiver, &place);
}

/// Column, declared type, its types one after the other, and its value as the first type spells it.
const WIDENED: [(&str, &str, &[&str], &str); 4] = [
    ("seats", "number", &["INTEGER", "BIGINT", "DECIMAL(12,2)", "DOUBLE PRECISION", "VARCHAR(40)", "TEXT"], "42"),
    ("plan", "string", &["VARCHAR(20)", "TEXT"], "'pro'"),
    ("since", "date", &["DATE", "TIMESTAMP", "TIMESTAMPTZ"], "'2024-02-29'"),
    ("price", "string", &["INTEGER", "BIGINT", "DECIMAL(20,0)", "TEXT"], "7"),
];

/// The statements that bring the table from types `step` to the next; a column at its end stays. The session is in UTC.
fn widen(step: usize) -> String {
    let steps = WIDENED.iter().filter_map(|(column, _, types, _)| Some((column, types.get(step)?)));
    steps.map(|(column, to)| format!("ALTER TABLE accounts ALTER COLUMN {column} TYPE {to};")).collect()
}

fn widened_table() -> String {
    let columns: String = WIDENED.iter().map(|(column, _, types, _)| format!(", {column} {}", types[0])).collect();
    let values: String = WIDENED.iter().map(|(_, _, _, value)| format!(", {value}")).collect();
    format!("CREATE TABLE accounts (id TEXT{columns}); INSERT INTO accounts VALUES ('k1'{values}), ('k2'{values});")
}

fn widened_traits() -> String {
    WIDENED
        .iter()
        .map(|(column, declared, ..)| format!("{column} = {{ column = \"{column}\", as = \"{declared}\" }}\n"))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wider_column_type_of_equal_value_says_nothing() {
    let receiver = Receiver::start();
    let database = shared().create_database().await;
    database.execute(&widened_table()).await;
    let place = Place::with(&receiver);
    place.warehouse(&widened_table());
    let url = format!("postgres://root_user@127.0.0.1:{}/{}", shared().port(), database.name());
    place.write(
        "groupcast.toml",
        &format!("{}\n[sources.pg]\ntype = \"postgres\"\nurl = \"{url}\"\n", place.read("groupcast.toml")),
    );
    let duck = mapping(&widened_traits(), "");
    place.mapping("duck", &duck);
    place.mapping("pg", &duck.replace("\"warehouse\"", "\"pg\"").replace("\"company\"", "\"pg\""));
    place.run(&["run"]).exits(0);
    let held = receiver.group("company", "k1").unwrap();
    assert_eq!(Value::Object(held.clone()), json!({"seats": 42, "plan": "pro", "since": "2024-02-29", "price": "7"}));
    assert_eq!(receiver.group("pg", "k1").unwrap(), held);
    for step in 1..6 {
        // DuckDB's tests here have no zones, PostgreSQL's session is in New York unless told otherwise.
        place.warehouse(&widen(step).replace("since TYPE TIMESTAMPTZ", "since TYPE TIMESTAMP"));
        database.execute(&format!("SET timezone = 'UTC'; {}", widen(step))).await;
        let run = place.run(&["run"]).exits(0);
        let changed: Vec<Value> = receiver.since(2).iter().map(|one| json!(told(std::slice::from_ref(one)))).collect();
        assert_eq!(changed, [] as [Value; 0], "step {step}\n{}", run.all());
    }
}

#[test]
fn a_null_unsets_is_sent_or_skipped() {
    let receiver = Receiver::start();
    let traits = "name = \"name\"\nplan = { column = \"plan\", on_null = \"skip\" }\nseats = \"seats\"";
    let place = delivered(&receiver, traits, "");
    place.warehouse("UPDATE accounts SET plan = NULL, seats = NULL WHERE id = 'k1'");
    assert_eq!(said(&receiver, &place, &["run"], 0), [("k1".to_owned(), json!({"$unset": {"seats": "-"}}))]);
    assert_eq!(receiver.group("company", "k1").unwrap()["plan"], json!("p1"));
    silent(&receiver, &place);
    // What was skipped and comes back as it was is no news; another value is.
    place.warehouse("UPDATE accounts SET plan = 'p1', seats = 1 WHERE id = 'k1'");
    assert_eq!(said(&receiver, &place, &["run"], 0), [("k1".to_owned(), json!({"$set": {"seats": 1}}))]);
    // A new group's nulls are not said at all.
    place.warehouse("INSERT INTO accounts VALUES ('new', 'New', NULL, NULL), ('void', NULL, NULL, NULL)");
    assert_eq!(said(&receiver, &place, &["run"], 0), [("new".to_owned(), json!({"$set": {"name": "New"}}))]);
    silent(&receiver, &place);
    // Amplitude does not document what a null does.
    place.mapping("accounts", &mapping("name = \"name\"", "[policy]\non_null = \"null\""));
    for command in ["check", "plan", "run"] {
        place.run(&[command]).exits(2).says(&[
            "amplitude does not support `on_null = \"null\"`",
            "mappings/accounts.toml:14:",
            "`unset`",
        ]);
    }
    silent_after_edit(&receiver, &place, traits);
}

#[track_caller]
fn silent_after_edit(receiver: &Receiver, place: &Place, traits: &str) {
    place.mapping("accounts", &mapping(traits, ""));
    silent(receiver, place);
}

#[test]
fn a_file_takes_nulls_and_deletions() {
    let place = Place::new();
    place.write(
        "groupcast.toml",
        "[sources.warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n[destinations.amplitude]\ntype = \"file\"\npath = \"out.ndjson\"\n",
    );
    place.warehouse(SIX);
    place.mapping("accounts", &mapping("plan = \"plan\"", "[policy]\non_null = \"null\"\non_missing = \"delete\""));
    place.run(&["run"]).exits(0);
    place.warehouse("UPDATE accounts SET plan = NULL WHERE id = 'k1'; DELETE FROM accounts WHERE id = 'k2'");
    place.run(&["run"]).exits(0).says(&["1 removed"]);
    place.run(&["run"]).exits(0).says(&["nothing sent"]);
    let written = place.read("out.ndjson");
    let lines: Vec<&str> = written.lines().skip(6).collect();
    assert_eq!(
        lines,
        [
            r#"{"group_type":"company","key":"k1","set":{"plan":null}}"#,
            r#"{"group_type":"company","key":"k2","delete":true}"#
        ]
    );
}

#[test]
fn a_group_that_leaves_is_kept_or_unset() {
    let receiver = Receiver::start();
    let place = delivered(&receiver, "name = \"name\"\nplan = \"plan\"", "");
    let (away, back) =
        ("DELETE FROM accounts WHERE id = 'k3'", "INSERT INTO accounts VALUES ('k3', 'Name 3', 3, 'p1')");
    // keep
    place.warehouse(away);
    silent(&receiver, &place);
    place.warehouse(back);
    silent(&receiver, &place);
    // unset
    place.mapping("accounts", &mapping("name = \"name\"\nplan = \"plan\"", "[policy]\non_missing = \"unset\""));
    silent(&receiver, &place);
    place.warehouse(away);
    place.run(&["plan"]).exits(0).says(&["- k3", "left the model", "1 to remove"]);
    let unset = json!({"$unset": {"name": "-", "plan": "-"}});
    assert_eq!(said(&receiver, &place, &["run"], 0), [("k3".to_owned(), unset)]);
    silent(&receiver, &place);
    place.run(&["group", "accounts", "k3"]).exits(0).says(&["removed", "- plan"]);
    assert_eq!(receiver.group("company", "k3").unwrap().len(), 0);
    place.warehouse(back);
    let set = json!({"$set": {"name": "Name 3", "plan": "p1"}});
    assert_eq!(said(&receiver, &place, &["run"], 0), [("k3".to_owned(), set)]);
    silent(&receiver, &place);
    // A policy that turns to unset later finds those who left before.
    place.mapping("accounts", &mapping("name = \"name\"\nplan = \"plan\"", ""));
    place.warehouse(away);
    silent(&receiver, &place);
    place.mapping("accounts", &mapping("name = \"name\"\nplan = \"plan\"", "[policy]\non_missing = \"unset\""));
    assert_eq!(said(&receiver, &place, &["run"], 0).len(), 1);
    silent(&receiver, &place);
}

#[test]
fn the_first_value_stays() {
    let receiver = Receiver::start();
    let place = Place::with(&receiver);
    place.warehouse(
        "CREATE TABLE accounts AS SELECT 'k' || i AS id, CASE WHEN i > 0 THEN 'free' END AS plan FROM range(3) r(i)",
    );
    place.mapping("accounts", &mapping("plan = \"plan\"\nfirst_plan = { column = \"plan\", op = \"set_once\" }", ""));
    let first = |key: &str| (key.to_owned(), json!({"$set": {"plan": "free"}, "$setOnce": {"first_plan": "free"}}));
    assert_eq!(said(&receiver, &place, &["run"], 0), [first("k1"), first("k2")]);
    place.warehouse(
        "UPDATE accounts SET plan = 'pro' WHERE id <> 'k2'; UPDATE accounts SET plan = NULL WHERE id = 'k2'",
    );
    assert_eq!(
        said(&receiver, &place, &["run"], 0),
        [
            ("k0".to_owned(), json!({"$set": {"plan": "pro"}, "$setOnce": {"first_plan": "pro"}})),
            ("k1".to_owned(), json!({"$set": {"plan": "pro"}})),
            ("k2".to_owned(), json!({"$unset": {"plan": "-"}})),
        ]
    );
    silent(&receiver, &place);
    let firsts: Vec<Value> =
        ["k0", "k1", "k2"].iter().map(|key| receiver.group("company", key).unwrap()["first_plan"].clone()).collect();
    assert_eq!(firsts, ["pro", "free", "free"]);
}

#[test]
fn a_rejected_group_is_held_until_it_changes() {
    // GIVEN a group that the vendor refuses, among others
    let receiver = Receiver::start();
    let place = delivered(&receiver, "seats = \"seats\"\nplan = \"plan\"", "");
    receiver.vendor.change(|rules| rules.poison.extend(["k2".to_owned()]));
    place.warehouse("UPDATE accounts SET seats = seats + 100 WHERE id IN ('k1', 'k2', 'k3')");
    // WHEN it runs
    let run = place.run(&["run"]).exits(3);
    run.says(&["2 delivered", "1 rejected"]);
    assert_eq!(receiver.group("company", "k1").unwrap()["seats"], json!(101));
    place.run(&["rejected"]).exits(0).says(&["k2", "HTTP 400", "invalid_group_properties"]);
    // THEN it is held
    assert_eq!(said(&receiver, &place, &["run"], 3), []);
    // AND tried again when its document changes, its traits only partly
    place.warehouse("UPDATE accounts SET plan = 'new' WHERE id = 'k2'");
    let both = json!({"$set": {"seats": 102, "plan": "new"}});
    assert_eq!(said(&receiver, &place, &["run"], 3), [("k2".to_owned(), both.clone())]);
    assert_eq!(said(&receiver, &place, &["run"], 3), []);
    // AND when it is asked for
    receiver.vendor.change(|rules| rules.poison.clear());
    assert_eq!(said(&receiver, &place, &["run"], 3), []);
    assert_eq!(said(&receiver, &place, &["run", "--retry-rejected"], 0), [("k2".to_owned(), both)]);
    silent(&receiver, &place);
    place.run(&["rejected"]).exits(0).says(&["no group is rejected"]);

    // WHEN a rejected row returns to what the vendor holds, THEN there is nothing to say and nothing rejected
    receiver.vendor.change(|rules| rules.poison.extend(["k4".to_owned()]));
    place.warehouse("UPDATE accounts SET seats = 400 WHERE id = 'k4'");
    place.run(&["run"]).exits(3);
    place.warehouse("UPDATE accounts SET seats = 4 WHERE id = 'k4'");
    silent(&receiver, &place);
    place.run(&["rejected"]).exits(0).says(&["no group is rejected"]);
}

#[test]
fn one_group_some_groups_and_then_the_rest() {
    let receiver = Receiver::start();
    let place = Place::with(&receiver);
    place.warehouse("CREATE TABLE accounts AS SELECT i AS id, i * 2 AS n FROM range(8) r(i)");
    place.mapping("accounts", &mapping("n = \"n\"", "[policy]\non_missing = \"unset\""));
    let keys = |said: Vec<(String, Value)>| said.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    // one
    assert_eq!(keys(said(&receiver, &place, &["run", "accounts", "--group", "5"], 0)), ["5"]);
    assert_eq!(said(&receiver, &place, &["run", "accounts", "--group", "5"], 0), []);
    assert_eq!(said(&receiver, &place, &["run", "accounts", "--group", "nobody"], 0), []);
    place.run(&["plan", "accounts", "--group", "6"]).exits(0).says(&["1 to add"]);
    // three
    let limited = place.run(&["run", "accounts", "--limit", "3"]).exits(0);
    limited.says(&["3 delivered", "4 not sent", "4 groups left by --limit"]);
    assert_eq!(receiver.vendor.groups().len(), 4);
    assert_eq!(said(&receiver, &place, &["run", "--limit", "0"], 0), []);
    // the rest
    assert_eq!(said(&receiver, &place, &["run"], 0).len(), 4);
    silent(&receiver, &place);
    // One group that left is unset, no other.
    place.warehouse("DELETE FROM accounts WHERE id IN (1, 2)");
    assert_eq!(keys(said(&receiver, &place, &["run", "accounts", "--group", "1"], 0)), ["1"]);
    assert_eq!(keys(said(&receiver, &place, &["run"], 0)), ["2"]);
}

/// Accounts with the time of their last change; `day` is a day of January 2024.
fn touched(rows: &[(&str, i32, &str)]) -> String {
    let values: Vec<String> = rows.iter().map(|(id, n, at)| format!("('{id}', {n}, '2024-01-{at}')")).collect();
    format!("INSERT INTO accounts VALUES {}", values.join(", "))
}

const INCREMENTAL: &str =
    "[policy]\non_missing = \"unset\"\n[incremental]\ncursor = \"updated_at\"\nlookback = \"1h\"\nfull_every = \"7d\"";

#[test]
fn an_incremental_run_reads_what_is_new() {
    let receiver = Receiver::start();
    let mut place = Place::with(&receiver);
    place.warehouse(&format!(
        "CREATE TABLE accounts (id VARCHAR, n INTEGER, updated_at TIMESTAMP); {}",
        touched(&[("a", 1, "01 00:00:00"), ("b", 2, "02 00:00:00"), ("c", 3, "03 12:00:00.5")])
    ));
    place.mapping("accounts", &mapping("n = \"n\"", INCREMENTAL));
    let rows = |report: &Value| (report["full"].as_bool().unwrap(), report["counts"]["rows"].as_u64().unwrap());
    assert_eq!(rows(&report(&place, &[], 0)), (true, 3));
    // THEN only the overlap is read again, and nothing sent
    let seen = receiver.requests();
    assert_eq!(rows(&report(&place, &[], 0)), (false, 1));
    assert_eq!(receiver.requests(), seen);
    // WHEN rows are new, within the lookback, and before it
    place.warehouse(&touched(&[("d", 4, "04 00:00:00"), ("late", 5, "03 11:30:00.5"), ("too-late", 6, "03 11:00:00")]));
    let second = report(&place, &[], 0);
    assert_eq!((rows(&second), &second["counts"]["delivered"]), ((false, 3), &json!(2)));
    assert!(receiver.group("company", "too-late").is_none());
    // WHEN a run fails THEN the cursor stays
    place.warehouse(&touched(&[("e", 7, "09 00:00:00"), ("f", 8, "10 00:00:00")]));
    let key = place.read("groupcast.toml");
    place.set("AMPLITUDE_API_KEY", "wrong");
    place.run(&["run"]).exits(1);
    place.set("AMPLITUDE_API_KEY", crate::support::cli::KEY);
    assert_eq!(place.read("groupcast.toml"), key);
    let third = report(&place, &["--limit", "1"], 0);
    assert_eq!((rows(&third), &third["counts"]["delivered"]), ((false, 3), &json!(1)));
    let fourth = report(&place, &[], 0);
    assert_eq!((rows(&fourth), &fourth["counts"]["delivered"]), ((false, 3), &json!(1)));
    assert_eq!(rows(&report(&place, &[], 0)), (false, 1));
    // WHEN a group leaves THEN an incremental run cannot see it, a full one does
    place.warehouse("DELETE FROM accounts WHERE id = 'b'");
    assert_eq!(report(&place, &[], 0)["counts"]["missing"], json!(0));
    assert!(!receiver.group("company", "b").unwrap().is_empty());
    let full = report(&place, &["--full"], 0);
    assert_eq!((rows(&full), &full["counts"]["removed"]["delivered"]), ((true, 7), &json!(1)));
    assert_eq!(receiver.group("company", "b").unwrap().len(), 0);
    assert_eq!(receiver.group("company", "too-late").unwrap()["n"], json!(6));
    // AND one that is due does by itself
    place.warehouse("DELETE FROM accounts WHERE id = 'a'");
    place.mapping("accounts", &mapping("n = \"n\"", &INCREMENTAL.replace("7d", "1s")));
    let due = until("a full read is due", || Some(report(&place, &[], 0)).filter(|report| report["full"] == true));
    assert_eq!(due["counts"]["removed"]["delivered"], json!(1));
    // AND an edited mapping starts with a full read
    place.mapping("accounts", &mapping("n = \"n\"\nid = \"id\"", INCREMENTAL));
    let edited = report(&place, &[], 0);
    assert_eq!((rows(&edited), &edited["counts"]["delivered"]), ((true, 6), &json!(6)));
}

#[test]
fn what_must_be_said_again_is_read_again() {
    // GIVEN an incremental sync with a rejected group, long behind the cursor
    let receiver = Receiver::start();
    let place = Place::with(&receiver);
    place.warehouse(&format!(
        "CREATE TABLE accounts (id VARCHAR, n INTEGER, updated_at TIMESTAMP); {}",
        touched(&[("a", 1, "01 00:00:00"), ("b", 2, "02 00:00:00"), ("c", 3, "03 12:00:00")])
    ));
    place.mapping("accounts", &mapping("n = \"n\"", INCREMENTAL));
    receiver.vendor.change(|rules| rules.poison.extend(["a".to_owned()]));
    place.run(&["run"]).exits(3);
    receiver.vendor.change(|rules| rules.poison.clear());
    place.run(&["run"]).exits(0);
    // WHEN rejected groups are to be tried again THEN they are
    assert_eq!(said(&receiver, &place, &["run", "--retry-rejected"], 0), [("a".to_owned(), json!({"$set": {"n": 1}}))]);
    // WHEN the sync, or one group, is reset THEN the next run says it again, as the command promised
    for (arguments, count) in [
        (&["ledger", "reset", "accounts", "--yes"][..], 3),
        (&["ledger", "reset", "accounts", "--group", "b", "--yes"], 1),
        (&["ledger", "reset", "accounts", "--forget", "--yes"], 3),
    ] {
        place.run(arguments).exits(0);
        assert_eq!(said(&receiver, &place, &["run"], 0).len(), count, "{arguments:?}");
        assert_eq!(report(&place, &[], 0)["full"], json!(false), "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_cursor_works_in_both_engines() {
    let receiver = Receiver::start();
    let database = shared().create_database().await;
    let place = Place::with(&receiver);
    let url = format!("postgres://root_user@127.0.0.1:{}/{}", shared().port(), database.name());
    place.write(
        "groupcast.toml",
        &format!("{}\n[sources.pg]\ntype = \"postgres\"\nurl = \"{url}\"\n", place.read("groupcast.toml")),
    );
    let kinds = [
        ("TIMESTAMP", "'2024-01-02 03:04:05.678901'", "'2024-01-03'"),
        ("TIMESTAMPTZ", "'2024-01-02 03:04:05.678901+02'", "'2024-01-03 00:00:00-05'"),
        ("DATE", "'2024-01-02'", "'2024-01-05'"),
        ("BIGINT", "9007199254740993", "9007199254750000"),
        ("SMALLINT", "-12", "32767"),
    ];
    for (kind, first, _) in kinds {
        let table = format!("CREATE TABLE {kind}_t (id TEXT, n INTEGER, moved {kind});");
        let old = format!("{table} INSERT INTO {kind}_t VALUES ('a', 1, {first}), ('b', 2, {first}), ('n', 2, NULL);");
        place.warehouse(&old);
        database.execute(&old).await;
        for source in ["warehouse", "pg"] {
            let name = format!("{}_{source}", kind.to_lowercase());
            let text = mapping("n = \"n\"", "[incremental]\ncursor = \"moved\"\nlookback = \"1s\"");
            let table = format!("\"{kind}_t\"").to_lowercase();
            place.mapping(
                &name,
                &text
                    .replace("\"warehouse\"", &format!("\"{source}\""))
                    .replace("\"accounts\"", &table)
                    .replace("\"company\"", &format!("\"{name}\"")),
            );
        }
    }
    let reports = |code| place.run(&["run", "--json"]).exits(code).json()["runs"].as_array().unwrap().clone();
    for report in reports(0) {
        assert_eq!((&report["full"], &report["counts"]["delivered"]), (&json!(true), &json!(3)), "{report}");
    }
    for (kind, _, second) in kinds {
        let new = format!("INSERT INTO {kind}_t VALUES ('c', 3, {second});");
        place.warehouse(&new);
        database.execute(&new).await;
    }
    for report in reports(0) {
        let counts = &report["counts"];
        assert_eq!(
            (&report["full"], &counts["rows"], &counts["delivered"]),
            (&json!(false), &json!(3), &json!(1)),
            "{report}"
        );
    }
    for report in reports(0) {
        let counts = &report["counts"];
        assert_eq!(
            (&report["full"], &counts["rows"], &counts["delivered"]),
            (&json!(false), &json!(1), &json!(0)),
            "{report}"
        );
    }
}

#[test]
fn another_destination_or_group_type_is_not_taken_for_the_old_one() {
    // GIVEN a sync that was delivered to one destination
    let (receiver, other) = (Receiver::start(), Receiver::start());
    let place = delivered(&receiver, "name = \"name\"", "");
    let second = settings(&other.url, "").replace("[destinations.amplitude]", "[destinations.second]");
    let (_, second) = second.split_once("\n\n").unwrap();
    place.write("groupcast.toml", &format!("{}\n{second}", place.read("groupcast.toml")));
    let there = mapping("name = \"name\"", "").replace("\"amplitude\"", "\"second\"");
    // WHEN the mapping names another
    place.mapping("accounts", &there);
    for command in ["plan", "run", "run"] {
        let stopped = place.run(&[command]).exits(2).says(&["`amplitude` as `company`", "`second` as `company`"]);
        stopped.says(&["ledger reset accounts --forget", "ledger adopt accounts"]);
    }
    assert_eq!((receiver.requests(), other.requests()), (1, 0));
    // THEN the way the advice shows sends everything there
    place.run(&["ledger", "reset", "accounts", "--forget", "--yes"]).exits(0);
    place.run(&["run"]).exits(0).says(&["6 delivered"]);
    assert_eq!(other.vendor.groups(), receiver.vendor.groups());
    // AND the same holds for the group type
    place.mapping("accounts", &there.replace("\"company\"", "\"team\""));
    place.run(&["run"]).exits(2).says(&["`second` as `company`", "`second` as `team`"]);
    // AND a name that changed alone can be kept
    place.run(&["ledger", "adopt", "accounts"]).exits(0);
    place.run(&["run"]).exits(0).says(&["6 unchanged; nothing sent"]);
    // AND the way back is open as long as the file says what it said.
    place.mapping("accounts", &there);
    place.run(&["run"]).exits(2);
    assert_eq!((receiver.requests(), other.requests()), (1, 1));
}

#[test]
fn a_cursor_goes_on_only_where_it_means_the_same() {
    let receiver = Receiver::start();
    let place = Place::with(&receiver);
    place.warehouse(
        "CREATE TABLE accounts (id VARCHAR, n INTEGER, created_at TIMESTAMP, updated_at TIMESTAMP);
         INSERT INTO accounts VALUES ('a', 1, '2024-05-01', '2024-01-01'), ('b', 2, '2024-06-01', '2024-01-02')",
    );
    let by = |cursor: &str| mapping("n = \"n\"", &format!("[incremental]\ncursor = \"{cursor}\""));
    place.mapping("accounts", &by("created_at"));
    place.run(&["run"]).exits(0);
    // WHEN another column becomes the cursor THEN the old one's value says nothing about it
    place.warehouse("UPDATE accounts SET n = 10, updated_at = '2024-02-01' WHERE id = 'a'");
    place.mapping("accounts", &by("updated_at"));
    let edited = report(&place, &[], 0);
    assert_eq!((&edited["full"], &edited["counts"]["delivered"]), (&json!(true), &json!(1)));
    // WHEN a full read finds old rows and is cut short THEN the next run goes on there, as it was told
    place.warehouse("UPDATE accounts SET n = n + 100");
    assert_eq!(report(&place, &[], 0)["counts"]["delivered"], json!(1), "the lookback reaches one");
    place.warehouse("UPDATE accounts SET n = n + 100");
    place
        .run(&["run", "accounts", "--full", "--limit", "1"])
        .exits(0)
        .says(&["1 group left by --limit; the next run goes on there"]);
    let rest = report(&place, &[], 0);
    assert_eq!((&rest["full"], &rest["counts"]["delivered"]), (&json!(true), &json!(1)));
    assert_eq!(report(&place, &[], 0)["full"], json!(false));
}
