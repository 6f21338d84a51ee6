//! Does `run --plan` send exactly what was looked at, and nothing that changed since? And are the other forms of a plan right?

use std::os::unix::fs::PermissionsExt;

use crate::support::cli::{KEY, Output, Place, Receiver, changes_sent, mapping};
use crate::support::daemon::Daemon;

const TRAITS: &str = "plan = \"plan\"\narr = \"arr\"\naddress = { city = \"city\", zip = \"zip\" }\n";
const POLICY: &str = "[policy]\non_missing = \"unset\"\n[guards]\nchanged_max = 1.0\nremoved_max = 1.0\n";

/// Four accounts, all synced.
fn synced(receiver: &Receiver) -> Place {
    let place = Place::with(receiver);
    place.mapping("accounts", &mapping(TRAITS, POLICY));
    place.warehouse(
        "CREATE TABLE accounts (id text, plan text, arr bigint, city text, zip text); INSERT INTO accounts VALUES \
         ('a', 'free', 1, 'Bonn', '1'), ('b', 'free', 2, 'Bonn', '2'), ('c', 'free', 3, 'Bonn', '3'), \
         ('d', 'free', 4, 'Bonn', '4')",
    );
    place.run(&["run"]).exits(0);
    place
}

/// A change of each kind: `a` and `b` change, `c` leaves, `e` is new.
fn edit(place: &Place) {
    place.warehouse(
        "UPDATE accounts SET plan = 'pro' WHERE id IN ('a', 'b'); UPDATE accounts SET city = 'Köln' WHERE id = 'a'; \
         DELETE FROM accounts WHERE id = 'c'; INSERT INTO accounts VALUES ('e', 'new', 5, NULL, NULL)",
    );
}

/// The keys that a run spoke about.
fn keys(receiver: &Receiver, seen: usize) -> Vec<String> {
    let mut keys: Vec<String> = changes_sent(&receiver.since(seen)).into_iter().map(|(key, _)| key).collect();
    keys.sort();
    keys
}

#[test]
fn a_plan_is_sent_as_it_was_looked_at() {
    let receiver = Receiver::start();
    for beside in [false, true] {
        let place = synced(&receiver);
        edit(&place);
        let daemon = beside.then(|| Daemon::start(&place));
        let shown = place.run(&["plan", "--out", "nightly.plan"]).exits(0);
        assert!(shown.stdout.contains("groupcast run --plan"), "{}", shown.stdout);
        let mode = std::fs::metadata(place.path("nightly.plan")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "keys and values are its owner's");
        let seen = receiver.requests();
        let report = place.run(&["run", "--plan", "nightly.plan", "--json"]).exits(0).json();
        assert_eq!(report["runs"][0]["counts"]["delivered"], 3, "{report}");
        assert_eq!(report["runs"][0]["counts"]["removed"]["delivered"], 1, "{report}");
        assert_eq!(keys(&receiver, seen), ["a", "b", "c", "e"]);
        // Sent once, there is nothing left of it to send.
        let seen = receiver.requests();
        place.run(&["run", "--plan", "nightly.plan"]).exits(0).says(&["nothing sent"]);
        assert_eq!(receiver.requests(), seen);
        place.run(&["plan", "--detailed-exitcode"]).exits(0);
        if let Some(daemon) = daemon {
            daemon.stop().exits(0);
        }
    }
}

#[test]
fn what_changed_since_the_plan_is_not_sent() {
    let receiver = Receiver::start();
    for beside in [false, true] {
        let place = synced(&receiver);
        edit(&place);
        let daemon = beside.then(|| Daemon::start(&place));
        place.run(&["plan", "--out", "p.plan", "--detailed-exitcode"]).exits(5);
        // `b` is another change now, `c` is back, `d` was not in the plan, and `e` was sent by another run.
        place.run(&["run", "accounts", "--group", "e"]).exits(0);
        place.warehouse(
            "UPDATE accounts SET plan = 'max' WHERE id = 'b'; UPDATE accounts SET arr = 44 WHERE id = 'd'; \
             INSERT INTO accounts VALUES ('c', 'free', 33, 'Bonn', '3')",
        );
        let seen = receiver.requests();
        let run = place.run(&["run", "--plan", "p.plan"]).exits(1);
        let run = run.says(&["3 groups differ from the plan and were not sent", "make a new one", "1 delivered"]);
        assert!(run.stdout.contains("3 pending"), "{}", run.all());
        assert_eq!(keys(&receiver, seen), ["a"]);
        let report = place.run(&["run", "--plan", "p.plan", "--json"]).exits(1).json();
        let run = &report["runs"][0];
        assert_eq!(
            (&run["status"], &run["stopped"]["kind"]),
            (&"incomplete".into(), &"plan_outdated".into()),
            "{report}"
        );
        // What was left out is what the next run sends.
        let seen = receiver.requests();
        place.run(&["run"]).exits(0);
        assert_eq!(keys(&receiver, seen), ["b", "c", "d"]);
        if let Some(daemon) = daemon {
            daemon.stop().exits(0);
        }
    }
}

#[test]
fn a_group_that_left_since_the_plan_is_not_removed_by_it() {
    let receiver = Receiver::start();
    let place = synced(&receiver);
    place.warehouse("UPDATE accounts SET plan = 'pro' WHERE id = 'a'");
    place.run(&["plan", "--out", "p.plan"]).exits(0);
    place.warehouse("DELETE FROM accounts WHERE id IN ('b', 'a')");
    let seen = receiver.requests();
    let report = place.run(&["run", "--plan", "p.plan", "--json"]).exits(1).json();
    assert_eq!(report["runs"][0]["counts"]["removed"]["pending"], 2, "{report}");
    assert_eq!(receiver.requests(), seen);
    assert_eq!(receiver.group("company", "a").unwrap()["plan"], "free");
}

#[test]
fn a_group_whose_user_changed_since_the_plan_is_not_sent() {
    let place = Place::new();
    place.write(
        "groupcast.toml",
        "[sources.warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n[destinations.amplitude]\n\
         type = \"file\"\npath = \"changes.ndjson\"\n",
    );
    place.mapping("accounts", &mapping("plan = \"plan\"\n", "[user]\nid = { column = \"owner\" }\n"));
    place.warehouse(
        "CREATE TABLE accounts (id text, plan text, owner text); \
         INSERT INTO accounts VALUES ('a', 'free', 'ada'), ('b', 'free', 'bea')",
    );
    let planned = place.run(&["plan", "--out", "p.plan", "--json"]).exits(0).json_lines();
    assert_eq!(planned[0]["user"]["id"], "ada", "{planned:?}");
    place.warehouse("UPDATE accounts SET owner = 'eve' WHERE id = 'a'");
    place.run(&["run", "--plan", "p.plan"]).exits(1).says(&["1 group differs from the plan and was not sent"]);
    let sent = place.read("changes.ndjson");
    assert_eq!(sent, "{\"group_type\":\"company\",\"key\":\"b\",\"set\":{\"plan\":\"free\"}}\n");
}

#[test]
fn a_plan_of_another_mapping_or_destination_sends_nothing() {
    let receiver = Receiver::start();
    let place = synced(&receiver);
    edit(&place);
    place.run(&["plan", "--out", "p.plan"]).exits(0);
    let seen = receiver.requests();
    place.mapping("accounts", &mapping("plan = \"plan\"\n", POLICY));
    let refused = place.run(&["run", "--plan", "p.plan"]).exits(1);
    refused.says(&["mappings/accounts.toml changed after the plan was made", "groupcast plan --out"]);
    assert_eq!(receiver.requests(), seen);
    // The file of another sync is of no use for this one.
    place.mapping("accounts", &mapping(TRAITS, POLICY));
    place.mapping("others", &mapping("other = \"plan\"\n", POLICY));
    place.run(&["run", "others", "--plan", "p.plan"]).exits(2).says(&["the plan has no sync `others`", "`accounts`"]);
    place.run(&["run", "--exclude", "accounts", "--plan", "p.plan"]).exits(2).says(&["are not in the plan"]);
    place.mapping("others", "source = 1");
    place.run(&["run", "others", "--plan", "p.plan"]).exits(2).says(&["others.toml"]);
    assert_eq!(receiver.requests(), seen);
    place.run(&["run", "--plan", "p.plan"]).exits(0);
}

#[test]
fn a_plan_of_other_settings_of_the_destination_sends_nothing() {
    let receiver = Receiver::start();
    for beside in [false, true] {
        let mut place = synced(&receiver);
        edit(&place);
        place.run(&["plan", "--out", "p.plan"]).exits(0);
        let file = place.read("p.plan");
        assert!(!file.contains(KEY) && !file.contains(&receiver.url), "no value of a setting: {file}");
        let seen = receiver.requests();
        for (setting, value, named) in [
            ("API_KEY", "another-key-0123456789abcdef", "`api_key` of destination `amplitude` is not what"),
            ("LONG_STRINGS", "truncate", "`long_strings` of destination `amplitude` is not what"),
            ("BASE_URL", "http://127.0.0.1:9", "`base_url` of destination `amplitude` is not what"),
        ] {
            let variable = format!("GROUPCAST__DESTINATIONS__AMPLITUDE__{setting}");
            place.set(&variable, value);
            let daemon = beside.then(|| Daemon::start(&place));
            let refused = place.run(&["run", "--plan", "p.plan"]).exits(1);
            let refused = refused.says(&[named, "the plan was made with", "groupcast plan --out"]);
            assert!(!refused.all().contains("another-key"), "{}", refused.all());
            assert_eq!(receiver.requests(), seen);
            if let Some(daemon) = daemon {
                daemon.stop().exits(0);
            }
            place.unset(&variable);
        }
        // What changes neither the requests nor who receives them is no reason to refuse.
        place.set("GROUPCAST__DESTINATIONS__AMPLITUDE__BATCH_MAX", "1");
        place.set("GROUPCAST__DESTINATIONS__AMPLITUDE__CONCURRENCY", "1");
        place.run(&["run", "--plan", "p.plan"]).exits(0);
        assert_eq!(keys(&receiver, seen), ["a", "b", "c", "e"]);
    }
}

#[test]
fn a_plan_of_one_target_is_not_run_with_another() {
    let receiver = Receiver::start();
    let place = synced(&receiver);
    edit(&place);
    place.write("groupcast.prod.toml", &place.read("groupcast.toml"));
    place.run(&["plan", "--target", "prod", "--out", "prod.plan"]).exits(0);
    place.run(&["plan", "--out", "own.plan"]).exits(0);
    let seen = receiver.requests();
    place
        .run(&["run", "--plan", "prod.plan"])
        .exits(2)
        .says(&["made with the target `prod`", "run it with `--target prod`"]);
    let refused = place.run(&["run", "--target", "prod", "--plan", "own.plan"]).exits(2);
    refused.says(&["made without a target", "run it without `--target`"]);
    assert_eq!(receiver.requests(), seen);
    place.run(&["run", "--plan", "own.plan"]).exits(0);
}

#[test]
fn a_damaged_plan_sends_nothing() {
    let receiver = Receiver::start();
    let place = synced(&receiver);
    edit(&place);
    place.run(&["plan", "--out", "p.plan"]).exits(0);
    let seen = receiver.requests();
    let whole = std::fs::read(place.path("p.plan")).unwrap();
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    let refused = |bytes: &[u8], code: i32, texts: &[&str]| {
        std::fs::write(place.path("p.plan"), bytes).unwrap();
        let output = place.run(&["run", "--plan", "p.plan"]).exits(code).says(texts);
        assert!(!output.all().contains("Köln"), "an error has no values: {}", output.all());
        assert_eq!(receiver.requests(), seen);
    };
    refused(&lines[..lines.len() - 1].concat(), 1, &["the plan is cut off"]);
    refused(&whole[..whole.len() / 2], 1, &["is damaged"]);
    refused(&[&whole[..], lines[1]].concat(), 1, &["is damaged"]);
    refused(&[lines[0], b"{\"change\":\n", &lines[1..].concat()].concat(), 1, &["line 2 of the plan is damaged"]);
    refused(&lines[1..].concat(), 2, &["the file is not a plan"]);
    refused(b"", 1, &["the plan is cut off"]);
    let other = String::from_utf8(whole.clone()).unwrap().replacen("\"version\":\"", "\"version\":\"9", 1);
    refused(other.as_bytes(), 1, &["the plan was made by version 9"]);
    place.run(&["run", "--plan", "nosuch.plan"]).exits(2).says(&["nosuch.plan", "failed to read the plan"]);
    // A plan never takes the place of something else, but of an older plan.
    let refused = place.run(&["plan", "--out", "mappings/accounts.toml"]).exits(2);
    refused.says(&["is there already, and is not a plan"]);
    assert!(place.read("mappings/accounts.toml").starts_with("source"));
    std::fs::write(place.path("p.plan"), &whole).unwrap();
    place.run(&["plan", "--out", "p.plan"]).exits(0);
    place.run(&["plan", "--out", "no/such/folder/p.plan"]).exits(2).says(&["failed to write the plan"]);
    let left: Vec<_> = std::fs::read_dir(place.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(".tmp")), "{left:?}");
    place.run(&["run", "--plan", "p.plan"]).exits(0);
}

#[test]
fn a_plan_of_some_syncs_is_not_written() {
    let receiver = Receiver::start();
    let place = synced(&receiver);
    edit(&place);
    place.mapping("broken", "source = 1");
    place.run(&["plan", "--out", "p.plan"]).exits(2).says(&["p.plan was not written"]);
    assert!(!place.path("p.plan").exists());
    place.run(&["plan", "accounts", "--out", "p.plan"]).exits(0);
    place.run(&["run", "--plan", "p.plan"]).exits(0);
}

#[test]
fn a_plan_keeps_its_options_and_a_run_of_it_can_be_limited() {
    let receiver = Receiver::start();
    let place = synced(&receiver);
    edit(&place);
    place.run(&["plan", "accounts", "--group", "b", "--out", "one.plan"]).exits(0);
    let seen = receiver.requests();
    place.run(&["run", "--plan", "one.plan"]).exits(0);
    assert_eq!(keys(&receiver, seen), ["b"]);
    place.run(&["plan", "--out", "all.plan"]).exits(0);
    let seen = receiver.requests();
    place.run(&["run", "--plan", "all.plan", "--limit", "1"]).exits(0).says(&["limit reached: 2 changes pending"]);
    assert_eq!(keys(&receiver, seen).len(), 1);
    place.run(&["run", "--plan", "all.plan", "--full"]).exits(2);
    place.run(&["run", "--plan", "all.plan"]).exits(0);
    assert_eq!(keys(&receiver, seen).len(), 3);
}

/// Plans everything as text.
fn text(place: &Place, arguments: &[&str]) -> Output {
    place.run(&[&["plan"], arguments].concat()).exits(0)
}

#[test]
fn traits_come_before_groups_and_can_be_chosen() {
    let receiver = Receiver::start();
    let place = synced(&receiver);
    edit(&place);
    let shown = text(&place, &[]).stdout;
    insta::assert_snapshot!(shown, @r###"
    accounts  warehouse → amplitude (company)

      address  1 changed, 1 unset           {"city":"Bonn","zip":"1"} → {"city":"Köln","zip":"1"}
      arr      1 added, 1 unset             3 → (unset); 5
      plan     1 added, 2 changed, 1 unset  "free" → "pro"; "free" → (unset); "new"

    ~ a
        ~ address  in part:
            ~ .city  "Bonn" → "Köln"
        ~ plan     "free" → "pro"

    ~ b
        ~ plan  "free" → "pro"

    - c  left the model
        - address  {"city":"Bonn","zip":"3"}
        - arr      3
        - plan     "free"

    + e
        + arr   5
        + plan  "new"

    Plan: 1 to add, 2 to change, 1 to remove, 1 unchanged; 5 traits to set, 3 to unset
    "###);
    let one = text(&place, &["--trait", "address", "--kind", "changed"]).stdout;
    let groups: Vec<&str> = one.lines().filter(|line| line.starts_with(['+', '~', '-'])).collect();
    assert_eq!(groups, ["~ a"], "{one}");
    assert!(!one.contains("arr   "), "{one}");
    let shown = text(&place, &["--kind", "new", "--show", "0"]).stdout;
    assert!(shown.contains("… and 1 more group"), "{shown}");
    text(&place, &["--trait", "pln"]).says(&["no selected mapping has a trait `pln`", "did you mean `plan`?"]);
    place.run(&["plan", "--kind", "gone"]).exits(2);
    // A file has every change, whatever is shown.
    let seen = receiver.requests();
    text(&place, &["--kind", "new", "--show", "1", "--out", "p.plan"]);
    place.run(&["run", "--plan", "p.plan"]).exits(0);
    assert_eq!(keys(&receiver, seen).len(), 4);
}

#[test]
fn a_pull_request_shows_a_plan_as_markdown() {
    let receiver = Receiver::start();
    let place = synced(&receiver);
    edit(&place);
    place.warehouse("UPDATE accounts SET plan = 'a|b ``` <b>' WHERE id = 'b'");
    insta::assert_snapshot!(text(&place, &["--output", "markdown", "--show", "3"]).stdout, @r###"
    ### Plan of `accounts`

    `warehouse` → `amplitude`, group type `company`

    | to add | to change | to remove | unchanged | rejected |
    |--:|--:|--:|--:|--:|
    | 1 | 2 | 1 | 1 | 0 |

    | trait | added | changed | unset | examples |
    |:--|--:|--:|--:|:--|
    | `address` |  | 1 | 1 | `a`: `{"city":"Bonn","zip":"1"}` → `{"city":"Köln","zip":"1"}`<br>`c`: `{"city":"Bonn","zip":"3"}` → unset |
    | `arr` | 1 |  | 1 | `c`: `3` → unset<br>`e`: `5` |
    | `plan` | 1 | 2 | 1 | `a`: `"free"` → `"pro"`<br>`b`: `"free"` → ````"a\|b ``` <b>"````<br>`c`: `"free"` → unset |

    <details><summary>3 groups of 4</summary>

    ````diff
    @@ a (changed) @@
    - address.city = "Bonn"
    + address.city = "Köln"
    - plan = "free"
    + plan = "pro"
    @@ b (changed) @@
    - plan = "free"
    + plan = "a|b ``` <b>"
    @@ c (left the model) @@
    - address = {"city":"Bonn","zip":"3"}
    - arr = 3
    - plan = "free"
    ````

    </details>
    "###);
    place.run(&["run"]).exits(0);
    text(&place, &["--output", "markdown"]).says(&["No changes: 4 rows equal the synced state."]);
    let json = text(&place, &["--output", "json"]).json_lines();
    assert_eq!(json.last().unwrap()["type"], "plan");
}
