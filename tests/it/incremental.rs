//! What does an incremental sync read, and when does it read everything all the same?

use serde_json::{Value, json};

use super::mapping_edits::sent_by;
use crate::support::cli::{KEY, Place, Receiver, mapping, until};
use crate::support::postgres::shared;

/// The report of the only sync of a run.
#[track_caller]
fn report(place: &Place, arguments: &[&str], code: i32) -> Value {
    let mut all = vec!["run", "--json"];
    all.extend(arguments);
    place.run(&all).exits(code).json()["runs"][0].clone()
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
    place.set("AMPLITUDE_API_KEY", KEY);
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
    assert_eq!(
        sent_by(&receiver, &place, &["run", "--retry-rejected"], 0),
        [("a".to_owned(), json!({"$set": {"n": 1}}))]
    );
    // WHEN the sync, or one group, is reset THEN the next run says it again, as the command promised
    for (arguments, count) in [
        (&["ledger", "reset", "accounts", "--yes"][..], 3),
        (&["ledger", "reset", "accounts", "--group", "b", "--yes"], 1),
        (&["ledger", "reset", "accounts", "--forget", "--yes"], 3),
    ] {
        place.run(arguments).exits(0);
        assert_eq!(sent_by(&receiver, &place, &["run"], 0).len(), count, "{arguments:?}");
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
    // The row without a cursor is read every time.
    for report in reports(0) {
        let counts = &report["counts"];
        assert_eq!(
            (&report["full"], &counts["rows"], &counts["delivered"]),
            (&json!(false), &json!(4), &json!(1)),
            "{report}"
        );
    }
    for report in reports(0) {
        let counts = &report["counts"];
        assert_eq!(
            (&report["full"], &counts["rows"], &counts["delivered"]),
            (&json!(false), &json!(2), &json!(0)),
            "{report}"
        );
    }
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
        .says(&["limit reached: 1 change pending; the next run continues"]);
    let rest = report(&place, &[], 0);
    assert_eq!((&rest["full"], &rest["counts"]["delivered"]), (&json!(true), &json!(1)));
    assert_eq!(report(&place, &[], 0)["full"], json!(false));
}
