//! What is said again, and what is not, when a mapping, a column or a policy changes between two runs?

use serde_json::{Value, json};

use crate::support::cli::{Place, Receiver, changes_sent, mapping, settings};
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
pub(super) fn sent_by(receiver: &Receiver, place: &Place, arguments: &[&str], code: i32) -> Vec<(String, Value)> {
    let seen = receiver.requests();
    place.run(arguments).exits(code);
    changes_sent(&receiver.since(seen))
}

#[track_caller]
fn silent(receiver: &Receiver, place: &Place) {
    assert_eq!(sent_by(receiver, place, &["run"], 0), []);
}

#[test]
fn a_new_trait_is_said_to_every_group_once() {
    let receiver = Receiver::start();
    let place = delivered(&receiver, "name = \"name\"", "");
    place.mapping("accounts", &mapping("name = \"name\"\ntier = \"plan\"\nby = { const = 1 }", ""));
    let expected = |i: usize| (format!("k{i}"), json!({"$set": {"by": 1, "tier": format!("p{}", i % 2)}}));
    assert_eq!(sent_by(&receiver, &place, &["run"], 0), (0..6).map(expected).collect::<Vec<_>>());
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
    assert_eq!(sent_by(&receiver, &place, &["run"], 0), [("k2".to_owned(), json!({"$set": {"plan": "other"}}))]);
    // unset: it is unset, also when it was removed while the policy was to keep
    place.mapping("accounts", &mapping("name = \"name\"", ""));
    silent(&receiver, &place);
    place.mapping("accounts", &mapping("name = \"name\"", "[policy]\non_removed_trait = \"unset\""));
    let expected = |i: usize| (format!("k{i}"), json!({"$unset": {"plan": "-"}}));
    assert_eq!(sent_by(&receiver, &place, &["run"], 0), (0..6).map(expected).collect::<Vec<_>>());
    silent(&receiver, &place);
    assert!(!receiver.group("company", "k1").unwrap().contains_key("plan"));
    // and a renamed trait is both
    place.mapping("accounts", &mapping("title = \"name\"", "[policy]\non_removed_trait = \"unset\""));
    let first = sent_by(&receiver, &place, &["run"], 0)[0].clone();
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
    let duckdb = mapping(&widened_traits(), "");
    place.mapping("duck", &duckdb);
    place.mapping("pg", &duckdb.replace("\"warehouse\"", "\"pg\"").replace("\"company\"", "\"pg\""));
    place.run(&["run"]).exits(0);
    let held = receiver.group("company", "k1").unwrap();
    assert_eq!(Value::Object(held.clone()), json!({"seats": 42, "plan": "pro", "since": "2024-02-29", "price": "7"}));
    assert_eq!(receiver.group("pg", "k1").unwrap(), held);
    for step in 1..6 {
        // DuckDB's tests here have no zones, PostgreSQL's session is in New York unless told otherwise.
        place.warehouse(&widen(step).replace("since TYPE TIMESTAMPTZ", "since TYPE TIMESTAMP"));
        database.execute(&format!("SET timezone = 'UTC'; {}", widen(step))).await;
        let run = place.run(&["run"]).exits(0);
        let changed: Vec<Value> =
            receiver.since(2).iter().map(|one| json!(changes_sent(std::slice::from_ref(one)))).collect();
        assert_eq!(changed, [] as [Value; 0], "step {step}\n{}", run.all());
    }
}

#[test]
fn a_null_unsets_is_sent_or_skipped() {
    let receiver = Receiver::start();
    let traits = "name = \"name\"\nplan = { column = \"plan\", on_null = \"skip\" }\nseats = \"seats\"";
    let place = delivered(&receiver, traits, "");
    place.warehouse("UPDATE accounts SET plan = NULL, seats = NULL WHERE id = 'k1'");
    assert_eq!(sent_by(&receiver, &place, &["run"], 0), [("k1".to_owned(), json!({"$unset": {"seats": "-"}}))]);
    assert_eq!(receiver.group("company", "k1").unwrap()["plan"], json!("p1"));
    silent(&receiver, &place);
    // What was skipped and comes back as it was is no news; another value is.
    place.warehouse("UPDATE accounts SET plan = 'p1', seats = 1 WHERE id = 'k1'");
    assert_eq!(sent_by(&receiver, &place, &["run"], 0), [("k1".to_owned(), json!({"$set": {"seats": 1}}))]);
    // A new group's nulls are not said at all.
    place.warehouse("INSERT INTO accounts VALUES ('new', 'New', NULL, NULL), ('void', NULL, NULL, NULL)");
    assert_eq!(sent_by(&receiver, &place, &["run"], 0), [("new".to_owned(), json!({"$set": {"name": "New"}}))]);
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
    assert_eq!(sent_by(&receiver, &place, &["run"], 0), [("k3".to_owned(), unset)]);
    silent(&receiver, &place);
    place.run(&["group", "accounts", "k3"]).exits(0).says(&["removed", "- plan"]);
    assert_eq!(receiver.group("company", "k3").unwrap().len(), 0);
    place.warehouse(back);
    let set = json!({"$set": {"name": "Name 3", "plan": "p1"}});
    assert_eq!(sent_by(&receiver, &place, &["run"], 0), [("k3".to_owned(), set)]);
    silent(&receiver, &place);
    // A policy that turns to unset later finds those who left before.
    place.mapping("accounts", &mapping("name = \"name\"\nplan = \"plan\"", ""));
    place.warehouse(away);
    silent(&receiver, &place);
    place.mapping("accounts", &mapping("name = \"name\"\nplan = \"plan\"", "[policy]\non_missing = \"unset\""));
    assert_eq!(sent_by(&receiver, &place, &["run"], 0).len(), 1);
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
    assert_eq!(sent_by(&receiver, &place, &["run"], 0), [first("k1"), first("k2")]);
    place.warehouse(
        "UPDATE accounts SET plan = 'pro' WHERE id <> 'k2'; UPDATE accounts SET plan = NULL WHERE id = 'k2'",
    );
    assert_eq!(
        sent_by(&receiver, &place, &["run"], 0),
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
    assert_eq!(sent_by(&receiver, &place, &["run"], 3), []);
    // AND tried again when its document changes, its traits only partly
    place.warehouse("UPDATE accounts SET plan = 'new' WHERE id = 'k2'");
    let both = json!({"$set": {"seats": 102, "plan": "new"}});
    assert_eq!(sent_by(&receiver, &place, &["run"], 3), [("k2".to_owned(), both.clone())]);
    assert_eq!(sent_by(&receiver, &place, &["run"], 3), []);
    // AND when it is asked for
    receiver.vendor.change(|rules| rules.poison.clear());
    assert_eq!(sent_by(&receiver, &place, &["run"], 3), []);
    assert_eq!(sent_by(&receiver, &place, &["run", "--retry-rejected"], 0), [("k2".to_owned(), both)]);
    silent(&receiver, &place);
    place.run(&["rejected"]).exits(0).says(&["no rejected groups"]);

    // WHEN a rejected row returns to what the vendor holds, THEN there is nothing to say and nothing rejected
    receiver.vendor.change(|rules| rules.poison.extend(["k4".to_owned()]));
    place.warehouse("UPDATE accounts SET seats = 400 WHERE id = 'k4'");
    place.run(&["run"]).exits(3);
    place.warehouse("UPDATE accounts SET seats = 4 WHERE id = 'k4'");
    silent(&receiver, &place);
    place.run(&["rejected"]).exits(0).says(&["no rejected groups"]);
}

#[test]
fn one_group_some_groups_and_then_the_rest() {
    let receiver = Receiver::start();
    let place = Place::with(&receiver);
    place.warehouse("CREATE TABLE accounts AS SELECT i AS id, i * 2 AS n FROM range(8) r(i)");
    place.mapping("accounts", &mapping("n = \"n\"", "[policy]\non_missing = \"unset\""));
    let keys = |sent_by: Vec<(String, Value)>| sent_by.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    // one
    assert_eq!(keys(sent_by(&receiver, &place, &["run", "accounts", "--group", "5"], 0)), ["5"]);
    assert_eq!(sent_by(&receiver, &place, &["run", "accounts", "--group", "5"], 0), []);
    let nothing = place.run(&["run", "accounts", "--group", "nobody"]).exits(0);
    nothing.says(&["nothing sent", "group `nobody` is neither in the model nor in the ledger"]);
    place.run(&["plan", "accounts", "--group", "nobody"]).exits(0).says(&["neither in the model nor in the ledger"]);
    place.run(&["plan", "accounts", "--group", "6"]).exits(0).says(&["1 to add"]);
    // three
    let limited = place.run(&["run", "accounts", "--limit", "3"]).exits(0);
    limited.says(&["3 delivered", "4 pending", "limit reached: 4 changes pending"]);
    assert_eq!(receiver.vendor.groups().len(), 4);
    assert_eq!(sent_by(&receiver, &place, &["run", "--limit", "0"], 0), []);
    // the rest
    assert_eq!(sent_by(&receiver, &place, &["run"], 0).len(), 4);
    silent(&receiver, &place);
    // One group that left is unset, no other.
    place.warehouse("DELETE FROM accounts WHERE id IN (1, 2)");
    assert_eq!(keys(sent_by(&receiver, &place, &["run", "accounts", "--group", "1"], 0)), ["1"]);
    assert_eq!(keys(sent_by(&receiver, &place, &["run"], 0)), ["2"]);
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
