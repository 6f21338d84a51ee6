//! Traits marked `always`: do tools that take a group's name or type from each call get it in the second call, is it never
//! a reason to send, and does everything that shows a change tell it from what changed?

use serde_json::{Value, json};

use crate::support::cli::Place;
use crate::support::group_server::{Fault, Server, answer};
use crate::support::segment::{Kind, Vendor};

const BASIC: &str = "Basic U2VnbWVudEtleS0xMjM0NTY6";
const KEY: &str = "SegmentKey-123456";

/// A folder that sends `traits` to a stand-in for `preset`.
fn place(server: &Server<Vendor>, preset: &str, traits: &str) -> Place {
    let mut place = Place::new();
    place.set("WRITE_KEY", KEY);
    place.write(
        "groupcast.toml",
        &format!(
            "[sources.warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n\n[destinations.cdp]\ntype = \"segment\"\n\
             preset = \"{preset}\"\nwrite_key = \"${{WRITE_KEY}}\"\nbase_url = \"{}\"\n",
            server.url
        ),
    );
    place.mapping("accounts", &mapping(traits));
    place.warehouse(
        "CREATE TABLE accounts (id VARCHAR, name VARCHAR, plan VARCHAR, seats INTEGER);
         INSERT INTO accounts VALUES ('a', 'Acme', 'free', 3), ('b', 'Bolt', 'pro', 5), ('c', NULL, 'pro', 7)",
    );
    place
}

fn mapping(traits: &str) -> String {
    format!(
        "source = \"warehouse\"\ndestination = \"cdp\"\n[model]\ntable = \"accounts\"\n[group]\ntype = \"company\"\n\
         key = \"id\"\n[user]\nid = \"account:{{key}}\"\n[traits]\n{traits}\n[policy]\non_null = \"skip\"\n[guards]\n\
         changed_max = 1\n"
    )
}

const TRAITS: &str = "name = { column = \"name\", always = true }\nobjectTypeId = { const = \"7\", always = true }\n\
                      plan = \"plan\"\nseats = \"seats\"";

/// The calls of every request after the first `seen`.
fn calls(server: &Server<Vendor>, seen: usize) -> Vec<(String, Value)> {
    let requests = server.received().split_off(seen);
    let batches = requests.iter().map(|request| request.json()["batch"].as_array().unwrap().clone());
    batches.flatten().map(|call| (call["groupId"].as_str().unwrap().to_owned(), call["traits"].clone())).collect()
}

#[test]
fn the_second_call_has_what_tools_take_from_each() {
    for (kind, preset) in
        [(Kind::Segment, "segment"), (Kind::RudderStack, "rudderstack"), (Kind::CustomerIo, "customerio")]
    {
        let server = Server::start(Vendor::new(kind, BASIC));
        let place = place(&server, preset, TRAITS);
        place.run(&["check"]).exits(0);
        place.run(&["run"]).exits(0).says(&["3 delivered"]);
        let first = calls(&server, 0);
        assert_eq!(
            first[0],
            ("a".to_owned(), json!({"name": "Acme", "objectTypeId": "7", "plan": "free", "seats": 3}))
        );
        assert_eq!(first[2].1, json!({"objectTypeId": "7", "plan": "pro", "seats": 7}), "a skipped null");

        // GIVEN a changed row, one whose `always` trait changed, and one that did not change
        let seen = server.received().len();
        place.run(&["run"]).exits(0).says(&["nothing sent"]);
        assert_eq!(server.received().len(), seen, "it is no reason to send");
        place.warehouse(
            "UPDATE accounts SET plan = 'pro' WHERE id = 'a'; UPDATE accounts SET name = 'Bolts' WHERE id = 'b'",
        );

        // THEN the plan tells what changes from what only goes along, and counts the former
        let plan = place.run(&["plan"]).exits(0);
        let plan =
            plan.says(&["\"free\" → \"pro\"", "= name", "(unchanged, sent with every change)", "2 traits to set"]);
        assert!(!plan.stdout.contains("→ \"Acme\"") && plan.stdout.contains("\"Bolt\" → \"Bolts\""), "{}", plan.stdout);
        let lines = place.run(&["plan", "--json"]).exits(0).json_lines();
        let change = |key: &str| lines.iter().find(|line| line["key"] == key).unwrap().clone();
        let of_a = change("a");
        assert_eq!(of_a["change"], json!({"set": {"plan": "pro"}, "repeated": {"name": "Acme", "objectTypeId": "7"}}));
        assert_eq!(of_a["before"], json!({"plan": "free"}));
        assert_eq!(change("b")["change"], json!({"set": {"name": "Bolts"}, "repeated": {"objectTypeId": "7"}}));
        let requests = place.run(&["plan", "--requests", "--json"]).exits(0).json_lines();
        let request = requests.iter().find(|line| line["type"] == "request").unwrap();
        let body: Value = serde_json::from_str(request["body"].as_str().unwrap()).unwrap();
        let planned: Vec<Value> = body["batch"].as_array().unwrap().iter().map(|call| call["traits"].clone()).collect();

        // WHEN it is run, with a refusal for the time being in between
        server.script([Fault::Answer(answer(503, ""))]);
        let report = place.run(&["run", "--json"]).exits(0);
        let report = report.json_lines().pop().unwrap();
        let counts = &report["runs"][0]["counts"];
        assert_eq!((&counts["delivered"], &counts["traits_set"]), (&json!(2), &json!(2)), "{report}");
        let all = server.received().split_off(seen);
        assert_eq!(all.len(), 2, "{preset}: the same request twice");
        let sent = |at: usize| all[at].json()["batch"].clone();
        assert_eq!(sent(0), sent(1), "{preset}: a retry is the same to the letter, ids included");
        let second: Vec<Value> = sent(1).as_array().unwrap().iter().map(|call| call["traits"].clone()).collect();
        assert_eq!(second[0], json!({"name": "Acme", "objectTypeId": "7", "plan": "pro"}));
        assert_eq!(second[1], json!({"name": "Bolts", "objectTypeId": "7"}));
        assert_eq!(second, planned, "{preset}: `plan --requests` shows it");
        place.run(&["group", "accounts", "a"]).exits(0).says(&["+ plan = \"pro\"", "= name = \"Acme\" (unchanged"]);
        let known = place.run(&["group", "accounts", "a", "--json"]).exits(0).json();
        assert_eq!(known["traits"]["name"]["value"], "Acme", "{known}");
        place.run(&["run"]).exits(0).says(&["nothing sent"]);
    }
}

#[test]
fn marking_a_trait_sends_nothing_and_holds_from_the_next_change_on() {
    let server = Server::start(Vendor::new(Kind::Segment, BASIC));
    let place = place(&server, "segment", "name = \"name\"\nplan = \"plan\"");
    place.run(&["run"]).exits(0).says(&["3 delivered"]);
    let seen = server.received().len();
    place.mapping("accounts", &mapping("name = { column = \"name\", always = true }\nplan = \"plan\""));
    place.run(&["run"]).exits(0).says(&["nothing sent"]);
    assert_eq!(server.received().len(), seen);
    place.warehouse("UPDATE accounts SET plan = 'max' WHERE id <> 'b'");
    place.run(&["run"]).exits(0).says(&["2 delivered"]);
    let second = calls(&server, seen);
    assert_eq!(
        second,
        [("a".to_owned(), json!({"name": "Acme", "plan": "max"})), ("c".to_owned(), json!({"plan": "max"}))]
    );
}

#[test]
fn what_cannot_travel_twice_is_an_error_with_its_line() {
    let server = Server::start(Vendor::new(Kind::Segment, BASIC));
    let place = place(&server, "segment", TRAITS);
    for (op, why) in [
        ("add", "a value that is sent again would be applied again"),
        ("append", "a value that is sent again would be applied again"),
        ("prepend", "a value that is sent again would be applied again"),
        ("set_once", "the destination keeps its first value"),
    ] {
        place.mapping("accounts", &mapping(&format!("seats = {{ column = \"seats\", op = \"{op}\", always = true }}")));
        place.run(&["check"]).exits(2).says(&[
            "mappings/accounts.toml:11:",
            &format!("`op = \"{op}\"`: {why}"),
            "help: ",
        ]);
    }
    for (traits, words) in [
        ("seats = { column = \"seats\", always = \"yes\" }", "true or false"),
        ("address = { city = { column = \"name\", always = true } }", "`always` belongs to the whole trait"),
        ("seats = { column = \"seats\", alway = true }", "did you mean `always`?"),
    ] {
        place.mapping("accounts", &mapping(traits));
        place.run(&["check"]).exits(2).says(&[words]);
    }
    place.mapping("accounts", &mapping("seats = { column = \"seats\", always = false, op = \"set\" }"));
    place.run(&["check"]).exits(0);
}

#[test]
fn init_marks_what_the_destination_needs() {
    let server = Server::start(Vendor::new(Kind::CustomerIo, BASIC));
    for (preset, needed) in [
        ("segment", "name = { column = \"name\", always = true }"),
        ("customerio", "objectTypeId = { const = \"1\", always = true }"),
    ] {
        let place = place(&server, preset, TRAITS);
        place.run(&["init", "--source", "warehouse", "--table", "accounts", "--name", "made"]).exits(0);
        let made = place.read("mappings/made.toml");
        assert!(made.contains(needed), "{preset}: {made}");
    }
}
