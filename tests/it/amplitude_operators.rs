//! What do `add`, `append` and `prepend` do in the real program, when all is well and when an answer is lost?

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::amplitude::Fault;
use crate::support::cli::{Place, Receiver, changes_sent, mapping, settings};

const TRAITS: &str = "plan = \"plan\"\n\
     logins = { column = \"logins\", op = \"add\" }\n\
     tags = { column = \"tags\", as = \"list\", op = \"append\" }\n";

/// Two accounts whose logins somebody else counts as well; `more` goes to the destination.
fn place(receiver: &Receiver, more: &str) -> Place {
    let place = Place::with(receiver);
    place.write("groupcast.toml", &settings(&receiver.url, more));
    place.warehouse(
        "CREATE TABLE accounts (id VARCHAR, plan VARCHAR, logins BIGINT, tags VARCHAR[]);
         INSERT INTO accounts VALUES ('a', 'free', 5, ['x']), ('b', 'pro', 7, ['y', 'z'])",
    );
    place.mapping("accounts", &mapping(TRAITS, "[guards]\nchanged_max = 1"));
    receiver.vendor.edit(|groups| {
        let held = json!({"logins": 100, "tags": "theirs"});
        groups.insert(("company".to_owned(), "a".to_owned()), held.as_object().unwrap().clone());
    });
    place
}

fn held(receiver: &Receiver, key: &str) -> Value {
    Value::Object(receiver.group("company", key).unwrap())
}

#[test]
fn only_the_difference_is_added() {
    for more in ["", "api = \"http_v2\"\ngzip = true\n"] {
        let receiver = Receiver::start();
        let place = place(&receiver, more);
        place.run(&["run"]).exits(0).says(&["2 delivered"]);
        assert_eq!(held(&receiver, "a"), json!({"plan": "free", "logins": 105, "tags": ["theirs", "x"]}), "{more}");
        assert_eq!(held(&receiver, "b"), json!({"plan": "pro", "logins": 7, "tags": ["y", "z"]}));
        // WHEN one number falls, a list grows, and another loses an element
        place.warehouse(
            "UPDATE accounts SET logins = 3, tags = ['x', 'x', 'new'] WHERE id = 'a';
             UPDATE accounts SET tags = ['z'] WHERE id = 'b'",
        );
        place.run(&["plan"]).exits(0).says(&["(added to what is there)", "(appended to what is there)"]);
        place.run(&["run"]).exits(0);
        assert_eq!(held(&receiver, "a"), json!({"plan": "free", "logins": 103, "tags": ["theirs", "x", "x", "new"]}));
        assert_eq!(held(&receiver, "b")["tags"], json!(["y", "z"]), "an element is never taken away");
        // AND nothing is said twice
        let seen = receiver.requests();
        place.run(&["run"]).exits(0).says(&["nothing sent"]);
        assert_eq!(receiver.requests(), seen);
        // WHEN the number leaves, and comes back
        place.warehouse("UPDATE accounts SET logins = NULL WHERE id = 'a'");
        place.run(&["run"]).exits(0);
        assert_eq!(held(&receiver, "a").get("logins"), None);
        place.warehouse("UPDATE accounts SET logins = 4 WHERE id = 'a'");
        place.run(&["run"]).exits(0);
        assert_eq!(held(&receiver, "a")["logins"], json!(4));
    }
}

#[test]
fn a_lost_answer_holds_the_group_until_the_operator_decides() {
    // GIVEN an addition that arrived, and whose answer did not
    let receiver = Receiver::start();
    let place = place(&receiver, "");
    place.run(&["run"]).exits(0);
    place.warehouse("UPDATE accounts SET logins = 8 WHERE id = 'a'");
    let seen = receiver.requests();
    receiver.vendor.script([Fault::ApplyThenDrop]);
    place.run(&["run"]).exits(1).says(&["retrying it could apply it twice"]);
    assert_eq!(receiver.requests(), seen + 1, "not repeated within the run");
    assert_eq!(held(&receiver, "a")["logins"], json!(108));
    // WHEN it runs again, and once more, and the row even changes
    place.run(&["run"]).exits(3).says(&["groupcast rejected accounts"]);
    let shown = place.run(&["rejected"]).exits(0);
    shown.says(&["outcome unknown", "`logins`", "--retry-rejected"]);
    let listed = place.run(&["rejected", "accounts", "--json"]).exits(0).json();
    assert_eq!(listed["rejected"].as_array().unwrap().len(), 1);
    assert_eq!(listed["rejected"][0]["key"], json!("a"));
    place.run(&["run"]);
    place.warehouse(
        "UPDATE accounts SET logins = 9, plan = 'pro' WHERE id = 'a'; UPDATE accounts SET logins = 8 WHERE id = 'b'",
    );
    place.run(&["run"]).exits(3).says(&["1 delivered"]);
    // THEN nothing was said about the group, while the other one moves on
    let keys: BTreeSet<String> = changes_sent(&receiver.since(seen + 1)).into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, BTreeSet::from(["b".to_owned()]));
    assert_eq!(held(&receiver, "a")["logins"], json!(108));
    assert_eq!(held(&receiver, "b")["logins"], json!(8));
    // WHEN the operator has looked, and decides
    let seen = receiver.requests();
    place.run(&["plan", "--retry-rejected"]).exits(0).says(&["~ a", "9"]);
    place.run(&["run", "--retry-rejected"]).exits(0);
    // THEN the value is set
    let sent = changes_sent(&receiver.since(seen));
    let set = json!({"$set": {"logins": 9, "plan": "pro", "tags": ["x"]}});
    assert_eq!(sent, [("a".to_owned(), set)]);
    assert_eq!(held(&receiver, "a"), json!({"plan": "pro", "logins": 9, "tags": ["x"]}));
    place.run(&["rejected"]).exits(0).says(&["no rejected groups"]);
    // AND from here on differences are added again
    place.warehouse("UPDATE accounts SET logins = 11 WHERE id = 'a'");
    let seen = receiver.requests();
    place.run(&["run"]).exits(0);
    assert_eq!(changes_sent(&receiver.since(seen)), [("a".to_owned(), json!({"$add": {"logins": 2}}))]);
    assert_eq!(held(&receiver, "a")["logins"], json!(11));
}

#[test]
fn with_events_a_lost_answer_is_asked_for_again_and_nobody_has_to_decide() {
    let receiver = Receiver::start();
    let place = place(&receiver, "api = \"http_v2\"\n");
    place.run(&["run"]).exits(0);
    place.warehouse("UPDATE accounts SET logins = 8, tags = ['x', 'w'] WHERE id = 'a'");
    let seen = receiver.requests();
    let failed = Fault::Answer { status: 500, headers: Vec::new(), body: "oops".to_owned(), apply: true };
    receiver.vendor.script([Fault::ApplyThenDrop, failed]);
    place.run(&["run"]).exits(0).says(&["1 delivered", "3 requests"]);
    let requests = receiver.since(seen);
    assert_eq!(requests.iter().map(|request| request.status).collect::<Vec<_>>(), [0, 500, 200]);
    assert!(requests.windows(2).all(|pair| pair[0].body == pair[1].body));
    assert_eq!(held(&receiver, "a"), json!({"plan": "free", "logins": 108, "tags": ["theirs", "x", "w"]}));
    place.run(&["rejected"]).exits(0).says(&["no rejected groups"]);
    place.run(&["run"]).exits(0).says(&["nothing sent"]);
    // Its requests are shown without the key.
    place.warehouse("UPDATE accounts SET logins = 9 WHERE id = 'a'");
    let shown =
        place.run(&["plan", "--requests"]).exits(0).says(&[r#"{"api_key":"***","events":["#, r#""$add":{"logins":1}"#]);
    assert!(!shown.all().contains(crate::support::cli::KEY));
}

#[test]
fn with_events_an_addition_is_held_only_when_every_attempt_was_lost() {
    let receiver = Receiver::start();
    let place = place(&receiver, "api = \"http_v2\"\nattempts_max = 2\n");
    place.run(&["run"]).exits(0);
    place.warehouse("UPDATE accounts SET logins = 8 WHERE id = 'a'");
    receiver.vendor.script([Fault::Drop, Fault::ApplyThenDrop]);
    place.run(&["run"]).exits(1);
    place.run(&["run"]).exits(3);
    place.run(&["rejected"]).exits(0).says(&["outcome unknown", "`logins`"]);
    assert_eq!(held(&receiver, "a")["logins"], json!(108), "once, in two attempts");
    place.run(&["run", "--retry-rejected"]).exits(0);
    assert_eq!(held(&receiver, "a")["logins"], json!(8));
}

#[test]
fn check_says_what_a_destination_cannot_promise_or_do() {
    let receiver = Receiver::start();
    let place = place(&receiver, "");
    place.run(&["check"]).exits(0).says(&["cannot be retried safely", "set `api = \"http_v2\"` at the destination"]);
    place.write("groupcast.toml", &settings(&receiver.url, "api = \"http_v2\"\ngzip = true\n"));
    let quiet = place.run(&["check"]).exits(0);
    assert!(!quiet.all().contains("set `api = "), "{}", quiet.all());
    for (more, texts) in [
        ("gzip = true\n", ["accepts no compressed requests", "destination amplitude", "set `api = \"http_v2\"`"]),
        (
            "api = \"groupidentify\"\ngzip = true\n",
            ["accepts no compressed requests", "destination amplitude", "help:"],
        ),
        ("api = \"batch\"\n", ["`groupidentify`", "`http_v2`", "groupcast.toml"]),
        ("api = \"http_v2\"\ngzip = \"yes\"\n", ["gzip", "true or false", "groupcast.toml"]),
    ] {
        place.write("groupcast.toml", &settings(&receiver.url, more));
        place.run(&["check"]).exits(2).says(&texts);
    }
}
