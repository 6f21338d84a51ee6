//! Does each guard stop a run before the first byte, with figures and the flag that accepts it, and only once?

use serde_json::json;

use crate::support::cli::{Place, Receiver, changes_sent, mapping};

/// A hundred accounts, delivered.
fn hundred(receiver: &Receiver, more: &str) -> Place {
    let place = Place::with(receiver);
    place
        .warehouse("CREATE TABLE accounts AS SELECT 'k' || i AS id, i AS n, 'p' || i % 3 AS plan FROM range(100) r(i)");
    place.mapping("accounts", &mapping("n = \"n\"\nplan = \"plan\"", more));
    place.run(&["run"]).exits(0).says(&["100 delivered"]);
    place
}

/// Runs into the guard: nothing is sent, plan and run agree, the run is on record. Then the guard is accepted.
#[track_caller]
fn trips(receiver: &Receiver, place: &Place, guard: &str, figures: &[&str], accepted: &[&str], code: i32) {
    let seen = receiver.requests();
    let flag = format!("--accept {guard}");
    let ledger = place.run(&["ledger", "export", "accounts"]).exits(0).stdout;
    for command in ["plan", "run"] {
        let stopped = place.run(&[command]).exits(4).says(&["help:", &flag, &format!("the guard `{guard}`")]);
        assert!(stopped.stderr.contains("before anything was sent"), "{}", stopped.stderr);
        stopped.says(figures);
    }
    if guard == "keys" {
        let report = place.run(&["run", "--json"]).exits(4).json();
        assert_eq!(report["exit_code"], json!(4));
        assert_eq!(report["runs"][0]["error"]["kind"], json!("guard"), "{report}");
        let recorded = place.run(&["runs", "-n", "1", "--json"]).exits(0).json();
        assert_eq!(report["runs"][0]["run"], recorded["runs"][0]["run"], "{report}");
        let line = place.run(&["plan", "--json"]).exits(4).json_lines().pop().unwrap();
        assert_eq!(line["guard"]["kind"], json!("guard"), "{line}");
    }
    assert_eq!(receiver.requests(), seen, "nothing was sent");
    assert_eq!(place.run(&["ledger", "export", "accounts"]).exits(0).stdout, ledger, "nothing was learned");
    place.run(&["runs", "-n", "1"]).exits(0).says(&["stopped by guard", &flag[9..]]);
    // Another guard's flag does not help.
    let other = if guard == "nulled" { "keys" } else { "nulled" };
    place.run(&["run", "--accept", other]).exits(4);
    let mut arguments = vec!["run", "--accept", guard];
    for more in accepted {
        arguments.extend(["--accept", more]);
    }
    place.run(&arguments).exits(code);
}

#[track_caller]
fn quiet(receiver: &Receiver, place: &Place, code: i32) {
    let seen = receiver.requests();
    place.run(&["run"]).exits(code);
    assert_eq!(receiver.requests(), seen, "nothing more was sent");
}

#[test]
fn keys_that_are_null_empty_or_shared() {
    let receiver = Receiver::start();
    let place = hundred(&receiver, "");
    place.warehouse("INSERT INTO accounts VALUES (NULL, 1, 'x'), ('', 2, 'y'), ('k5', 500, 'z'), ('new', 7, 'w')");
    let seen = receiver.requests();
    let figures = [
        "1 without a key",
        "1 with an empty key",
        "2 that share their key",
        "such as k5",
        "4 of 104 rows",
        "on_duplicate",
    ];
    trips(&receiver, &place, "keys", &figures, &[], 3);
    // What has a key of its own was sent, and nothing else.
    assert_eq!(changes_sent(&receiver.since(seen)), [("new".to_owned(), json!({"$set": {"n": 7, "plan": "w"}}))]);
    place.run(&["run"]).exits(4);
    place.warehouse("DELETE FROM accounts WHERE n = 500 OR id IS NULL OR id = ''");
    quiet(&receiver, &place, 0);
    for (row, figure) in [("(NULL, 1, 'x')", "1 without a key"), ("('', 1, 'x')", "1 with an empty key")] {
        place.warehouse(&format!("INSERT INTO accounts VALUES {row}"));
        place.run(&["run"]).exits(4).says(&[figure, "`where` under [model]", "--accept keys"]);
        place.warehouse("DELETE FROM accounts WHERE id IS NULL OR id = ''");
    }
    quiet(&receiver, &place, 0);
}

#[test]
fn shared_keys_may_be_skipped() {
    let receiver = Receiver::start();
    let place = hundred(&receiver, "[policy]\non_duplicate = \"skip\"");
    place.warehouse(
        "INSERT INTO accounts VALUES ('k5', 500, 'z'), ('k5', 501, 'z'), ('twin', 1, 'a'), ('twin', 1, 'a')",
    );
    let seen = receiver.requests();
    let report = place.run(&["run", "--json"]).exits(3).json();
    let counts = &report["runs"][0]["counts"];
    assert_eq!((&counts["rows"], &counts["invalid_keys"], &counts["unchanged"]), (&json!(104), &json!(5), &json!(99)));
    assert_eq!(receiver.requests(), seen);
    assert_eq!(receiver.group("company", "k5").unwrap()["n"], json!(5));
    // A null key is still no key.
    place.warehouse("INSERT INTO accounts VALUES (NULL, 1, 'x')");
    place.run(&["run"]).exits(4).says(&["1 of 105 rows", "1 without a key"]);
    place.warehouse("DELETE FROM accounts WHERE id IS NULL OR n >= 500 OR id = 'twin'");
    quiet(&receiver, &place, 0);
}

#[test]
fn a_model_without_rows() {
    let receiver = Receiver::start();
    let place = hundred(&receiver, "");
    place.warehouse("ALTER TABLE accounts RENAME TO kept; CREATE TABLE accounts AS FROM kept WHERE false");
    let seen = receiver.requests();
    place.run(&["run", "--accept", "empty"]).exits(4).says(&["rows-dropped", "0 rows, 100 at the last run"]);
    trips(&receiver, &place, "empty", &["the model yields no rows, 100 groups are synced"], &["rows-dropped"], 0);
    place.warehouse("DROP TABLE accounts; ALTER TABLE kept RENAME TO accounts");
    place.run(&["run"]).exits(0);
    assert_eq!(receiver.requests(), seen, "groups that left were kept");
    // With nothing known yet an empty model is no accident.
    let fresh = Place::with(&receiver);
    fresh.warehouse("CREATE TABLE accounts (id VARCHAR, n INTEGER)");
    fresh.mapping("accounts", &mapping("n = \"n\"", ""));
    fresh.run(&["run"]).exits(0).says(&["0 rows"]);
}

#[test]
fn far_fewer_rows_than_last_time() {
    let receiver = Receiver::start();
    let place = hundred(&receiver, "");
    place.warehouse("DELETE FROM accounts WHERE n < 30");
    quiet(&receiver, &place, 0);
    place.warehouse("DELETE FROM accounts WHERE n < 60");
    trips(
        &receiver,
        &place,
        "rows-dropped",
        &["the model yields 40 rows, 70 at the last run", "42.9 %, limit 30.0 %"],
        &[],
        0,
    );
    // Accepted once, the new size is what the next run is measured against.
    quiet(&receiver, &place, 0);
}

#[test]
fn many_groups_that_left() {
    let receiver = Receiver::start();
    let place = hundred(&receiver, "[policy]\non_missing = \"unset\"");
    place.warehouse("DELETE FROM accounts WHERE n < 25");
    let seen = receiver.requests();
    trips(&receiver, &place, "removed", &["25 of 100 synced groups left the model", "25.0 %, limit 10.0 %"], &[], 0);
    assert_eq!(changes_sent(&receiver.since(seen)).len(), 25);
    quiet(&receiver, &place, 0);
}

#[test]
fn many_groups_that_change() {
    let receiver = Receiver::start();
    let place = hundred(&receiver, "");
    place.warehouse("UPDATE accounts SET n = n + 1000 WHERE n < 60");
    let seen = receiver.requests();
    trips(
        &receiver,
        &place,
        "changed",
        &["60 of 100 synced groups would have values replaced", "60.0 %, limit 50.0 %"],
        &[],
        0,
    );
    assert_eq!(changes_sent(&receiver.since(seen)).len(), 60);
    quiet(&receiver, &place, 0);
    // A new trait replaces nothing that is held.
    place.mapping("accounts", &mapping("n = \"n\"\nplan = \"plan\"\nby = { const = \"us\" }", ""));
    place.run(&["run"]).exits(0).says(&["100 delivered"]);
    // Dropping one with `unset` does.
    place.mapping("accounts", &mapping("n = \"n\"\nplan = \"plan\"", "[policy]\non_removed_trait = \"unset\""));
    place.run(&["run"]).exits(4).says(&["--accept changed"]);
    place
        .run(&["run", "--accept", "changed"])
        .exits(4)
        .says(&["trait `by` turns null for 100 of 100", "--accept nulled"]);
    place.run(&["run", "--accept", "changed", "--accept", "nulled"]).exits(0).says(&["100 unset"]);
}

#[test]
fn a_trait_that_turns_null() {
    let receiver = Receiver::start();
    let place = hundred(&receiver, "");
    place.warehouse("UPDATE accounts SET plan = NULL WHERE n < 25");
    let seen = receiver.requests();
    trips(
        &receiver,
        &place,
        "nulled",
        &["trait `plan` turns null for 25 of 100 synced groups", "25.0 %, limit 20.0 %"],
        &[],
        0,
    );
    assert_eq!(changes_sent(&receiver.since(seen)).len(), 25);
    quiet(&receiver, &place, 0);
}

#[test]
fn thresholds_are_the_mappings_own_or_the_folders() {
    let receiver = Receiver::start();
    let mut place = hundred(&receiver, "[guards]\nchanged_max = \"80%\"");
    place.warehouse("UPDATE accounts SET n = n + 1000 WHERE n < 60");
    place.run(&["run"]).exits(0).says(&["60 delivered"]);
    place.warehouse("UPDATE accounts SET n = n + 1000 WHERE n >= 1000");
    place.mapping("accounts", &mapping("n = \"n\"\nplan = \"plan\"", ""));
    place.run(&["run"]).exits(4);
    place.set("GROUPCAST__DEFAULTS__GUARDS__CHANGED_MAX", "0.7");
    place.run(&["run"]).exits(0).says(&["60 delivered"]);
    place.unset("GROUPCAST__DEFAULTS__GUARDS__CHANGED_MAX");
    // Small numbers swing: below `groups_min` the share guards are quiet.
    place.mapping("accounts", &mapping("n = \"n\"\nplan = \"plan\"", "[guards]\ngroups_min = 5\nchanged_max = 0"));
    place.warehouse("UPDATE accounts SET n = -1 WHERE id IN ('k90', 'k91', 'k92', 'k93')");
    place.run(&["run"]).exits(0).says(&["4 delivered"]);
    place.warehouse("UPDATE accounts SET n = -2 WHERE id IN ('k90', 'k91', 'k92', 'k93', 'k94')");
    place.run(&["run"]).exits(4).says(&["5 of 100 synced groups"]);
}

#[test]
fn a_row_without_its_user_is_said_as_soon_as_it_has_one() {
    let receiver = Receiver::start();
    let place = Place::with(&receiver);
    place.warehouse("CREATE TABLE accounts (id VARCHAR, n INTEGER, owner VARCHAR)");
    place.warehouse("INSERT INTO accounts VALUES ('a', 1, 'u1'), ('b', 2, NULL)");
    place.mapping("accounts", &mapping("n = \"n\"", "[user]\nid = { column = \"owner\" }"));
    place.run(&["run"]).exits(3).says(&["1 delivered", "1 rejected"]);
    place.run(&["rejected", "accounts"]).says(&["`[user]`"]);
    quiet(&receiver, &place, 3);
    place.warehouse("UPDATE accounts SET owner = 'u2' WHERE id = 'b'");
    place.run(&["run"]).exits(0).says(&["1 delivered"]);
    assert_eq!(receiver.group("company", "b").unwrap()["n"], json!(2));
    quiet(&receiver, &place, 0);
}

#[test]
fn keys_that_are_written_in_another_way() {
    let receiver = Receiver::start();
    let place = hundred(&receiver, "");
    // GIVEN the same accounts with keys that are spelled otherwise
    place.warehouse("UPDATE accounts SET id = 'K' || substr(id, 2)");
    let seen = receiver.requests();
    trips(
        &receiver,
        &place,
        "keys-changed",
        &[
            "100 of 100 synced groups are gone (such as `k0`, `k1`, `k10`)",
            "100 new ones came (such as `K0`, `K1`, `K10`)",
            "100.0 %, limit 50.0 %",
        ],
        &[],
        0,
    );
    assert_eq!(changes_sent(&receiver.since(seen)).len(), 100);
    quiet(&receiver, &place, 0);
}

#[test]
fn rows_that_mostly_cannot_become_what_is_declared() {
    let receiver = Receiver::start();
    let place = Place::with(&receiver);
    place.warehouse(
        "CREATE TABLE accounts AS SELECT 'k' || i AS id, CASE WHEN i % 10 < 6 THEN 'Acme' ELSE i::VARCHAR END AS size
         FROM range(100) r(i)",
    );
    place.mapping("accounts", &mapping("size = { column = \"size\", as = \"integer\" }", ""));
    // THEN the check looks at some rows
    place.run(&["check", "--connect"]).exits(0).says(&[
        "warning: 60 of the first 100 rows cannot become what is declared: cannot convert text \"…\" to integer",
        "traits.size",
    ]);
    // AND the guard stops a run
    for command in ["plan", "run"] {
        place.run(&[command]).exits(4).says(&[
            "60 of the first 100 rows cannot be sent: trait `size`: cannot convert text \"…\" to integer",
            "60.0 %, limit 50.0 %",
            "--accept unsendable",
        ]);
    }
    assert_eq!(receiver.requests(), 0);
    let accepted = place.run(&["run", "--accept", "unsendable"]).exits(3);
    accepted.says(&["40 delivered", "60 rejected"]);
}
