//! Are the last requests of groups that were not delivered kept for people, without a secret and within their limits; and does
//! nothing depend on it?

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::support::cli::{Place, mapping};
use crate::support::daemon::Daemon;
use crate::support::http_stub::{HttpStub, StubRequest};

const TOKEN: &str = "tok-41c7/e9d2\"a6f8<b305";
const SIGNING: &str = "whsec-8f3a5c1d9b7e2046";

/// A receiver that rejects requests with a text of `poison`, and repeats all that it knows of us: as it is, in JSON, in HTML, in a
/// query, in base64.
fn receiver(poison: &'static str) -> HttpStub {
    HttpStub::start(move |request: &StubRequest| {
        let body = String::from_utf8_lossy(&request.body);
        if !body.contains(poison) {
            return (200, "{\"ok\":true}".to_owned());
        }
        let html = TOKEN.replace('"', "&quot;").replace('<', "&lt;");
        let query: String = form_urlencoded::byte_serialize(TOKEN.as_bytes()).collect();
        let echo = json!({"error": "plan is not known", "you": TOKEN, "head": request.head});
        (422, format!("{echo}\n<p>{html}</p> ?token={query} {}", base64_of(&format!("user:{TOKEN}"))))
    })
}

fn base64_of(text: &str) -> String {
    use base64::Engine;
    base64::prelude::BASE64_STANDARD.encode(text)
}

/// Accounts `a0` … of the plans `free`, sent by `accounts` to the receiver, with these settings of `[state]`.
fn place(stub: &HttpStub, groups: usize, state: &str) -> Place {
    let mut place = Place::new();
    place.set("HOOK_TOKEN", TOKEN);
    place.set("HOOK_SIGNING", SIGNING);
    place.set("HOOK_PATH", "?token=path-5ecre7-9a8b7c");
    place.write(
        "groupcast.toml",
        &format!(
            "[state]\n{state}\n[sources.warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n\n\
             [destinations.amplitude]\ntype = \"webhook\"\nurl = \"{}/in\"\nsecret_path = \"${{HOOK_PATH}}\"\n\
             auth_header = \"Authorization: Bearer ${{HOOK_TOKEN}}\"\nsigning_secret = \"${{HOOK_SIGNING}}\"\n\
             retry_for = \"0s\"\n",
            stub.url
        ),
    );
    place.warehouse(&format!(
        "CREATE TABLE accounts AS SELECT 'a' || i AS id, 'free' AS plan FROM range({groups}) r(i); \
         UPDATE accounts SET plan = 'poison' WHERE id = 'a1'"
    ));
    place.mapping("accounts", &mapping("plan = \"plan\"\n", "[guards]\nchanged_max = 1.0\n"));
    place
}

/// The files of kept requests, as one text.
fn kept(place: &Place) -> String {
    let files = crate::support::cli::files(&place.path("state/ledger.duckdb.requests"));
    files.values().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
}

fn requests(place: &Place, sync: &str, key: &str) -> Vec<Value> {
    let group = place.run(&["group", sync, key, "--requests", "--json"]).exits(0).json();
    group["requests"].as_array().unwrap().clone()
}

#[track_caller]
fn holds_no_secret(text: &str) {
    let query: String = form_urlencoded::byte_serialize(TOKEN.as_bytes()).collect();
    let json = json!(TOKEN).to_string();
    for secret in [TOKEN, json.trim_matches('"'), &query, SIGNING, "path-5ecre7", &base64_of(TOKEN)[4..16]] {
        assert!(!text.contains(secret), "{secret} in\n{text}");
    }
}

#[test]
fn the_last_request_of_a_rejected_group_is_shown_without_secrets_with_and_without_a_daemon() {
    let stub = receiver("poison");
    for beside in [false, true] {
        let place = place(&stub, 40, "");
        let daemon = beside.then(|| Daemon::start(&place));
        place.run(&["run"]).exits(3).says(&["39 delivered", "1 rejected"]);
        let shown = place.run(&["group", "accounts", "a1", "--requests"]).exits(0).says(&[
            "Last request",
            "rejected",
            "POST http://127.0.0.1",
            "authorization: ***",
            "x-groupcast-signature: ***",
            "\"key\":\"a1\"",
            "\"plan\":\"poison\"",
            "HTTP 422",
            "plan is not known",
        ]);
        holds_no_secret(&shown.all());
        let found = requests(&place, "accounts", "a1");
        let [request] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((&request["outcome"], &request["groups"]), (&json!("rejected"), &json!(1)), "{request}");
        assert_eq!(request["exchange"]["response"]["status"], 422);
        let body = request["exchange"]["request"]["body"]["text"].as_str().unwrap();
        let changes: Value = serde_json::from_str(body).unwrap();
        assert_eq!(changes["changes"][0]["set"], json!({"plan": "poison"}), "the body is whole");
        // Delivered groups cost nothing, and the one request is there once.
        assert_eq!(requests(&place, "accounts", "a2"), Vec::<Value>::new());
        place.run(&["group", "accounts", "a2", "--requests"]).exits(0).says(&["No request is kept of this group"]);
        let file = place.path("state/ledger.duckdb.requests/accounts.json");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(kept(&place).lines().count(), 2, "{}", kept(&place));
        holds_no_secret(&kept(&place));
        assert!(!kept(&place).contains("v1="), "a signature that came back is masked, too");
        if let Some(daemon) = daemon {
            let all = daemon.get("/api/v1/syncs/accounts/requests?key=a1").is(200);
            assert_eq!(all.as_array().unwrap(), &found);
            assert_eq!(daemon.get("/api/v1/syncs/accounts/requests?key=a2").is(200), json!([]));
            assert_eq!(daemon.get("/api/v1/syncs/nosuch/requests?key=a2").status, 404);
            let page = daemon.get("/syncs/accounts/groups?key=a1").text;
            assert!(page.contains("Last request") && page.contains("HTTP 422") && page.contains("poison"), "{page}");
            holds_no_secret(&page);
            assert!(daemon.get("/rejected").text.contains("/syncs/accounts/groups?key=a1#requests"));
            daemon.stop().exits(0);
        }
    }
}

#[test]
fn a_chosen_group_is_kept_though_it_was_delivered_and_pending_groups_are() {
    let stub = receiver("nothing");
    let place = place(&stub, 3, "");
    place.run(&["run", "accounts", "--group", "a2"]).exits(0).says(&["1 delivered"]);
    let found = requests(&place, "accounts", "a2");
    assert_eq!(found[0]["outcome"], "delivered", "{found:?}");
    assert_eq!(found[0]["exchange"]["response"]["body"]["text"], "{\"ok\":true}");
    // A destination that is down: the groups are pending, and why is kept, once for all that the request carried.
    let text = place.read("groupcast.toml");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    place.write("groupcast.toml", &text.replace(&stub.url, &format!("http://127.0.0.1:{port}")));
    place.run(&["run"]).exits(1);
    for key in ["a0", "a1"] {
        let found = requests(&place, "accounts", key);
        let [request] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((&request["outcome"], &request["groups"]), (&json!("pending"), &json!(2)), "{request}");
        assert!(request["exchange"]["no_response"].as_str().unwrap().contains("refused"), "{request}");
        assert!(request["part"]["text"].as_str().unwrap().contains(key), "{request}");
    }
    let shown = place.run(&["group", "accounts", "a0", "--requests"]).exits(0);
    shown.says(&["it carried 2 groups", "Part about this group", "no response:"]);
    // What went well since does not hide what is kept of before, and is said.
    place.write("groupcast.toml", &text);
    place.run(&["run"]).exits(0);
    place.run(&["group", "accounts", "a0", "--requests"]).exits(0).says(&["pending", "which were delivered"]);
}

#[test]
fn kept_requests_follow_their_sync_and_end() {
    let stub = receiver("poison");
    let place = place(&stub, 3, "");
    place.run(&["run"]).exits(3);
    std::fs::rename(place.path("mappings/accounts.toml"), place.path("mappings/crm.toml")).unwrap();
    place.run(&["ledger", "rename", "accounts", "crm"]).exits(0);
    assert_eq!(requests(&place, "crm", "a1").len(), 1);
    place.run(&["ledger", "reset", "crm", "--yes"]).exits(0);
    assert_eq!(requests(&place, "crm", "a1").len(), 1, "a reset keeps the history, and this");
    // Rejected again: the newer one takes the place of the older.
    let before = kept(&place);
    place.run(&["run"]).exits(3);
    let after = kept(&place);
    assert!(after.lines().count() == 2 && after != before, "{after}");
    // What is older than it is kept is neither shown nor, after the next run, there.
    let text = place.read("groupcast.toml");
    place.write("groupcast.toml", &text.replace("[state]\n", "[state]\nrequests_retention = \"1s\"\n"));
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    assert_eq!(requests(&place, "crm", "a1"), Vec::<Value>::new());
    assert_ne!(kept(&place), "");
    place.run(&["run"]);
    assert_eq!(kept(&place), "");
    // And what is not to be kept never was.
    place.write("groupcast.toml", &text.replace("[state]\n", "[state]\nrequests_retention = \"0s\"\n"));
    place.run(&["run", "--retry-rejected"]).exits(3);
    assert_eq!(kept(&place), "");
    place.write("groupcast.toml", &text);
    place.run(&["run", "--retry-rejected"]).exits(3);
    assert_ne!(kept(&place), "");
    std::fs::remove_file(place.path("mappings/crm.toml")).unwrap();
    place.run(&["ledger", "drop", "crm", "--yes"]).exits(0);
    assert_eq!(kept(&place), "");
}

#[test]
fn a_place_that_cannot_be_written_fails_no_run() {
    let stub = receiver("poison");
    let place = place(&stub, 3, "");
    place.write("state/ledger.duckdb.requests", "not a folder");
    place.run(&["run"]).exits(3).says(&["2 delivered", "1 rejected", "could not be kept beside the ledger"]);
    assert_eq!(requests(&place, "accounts", "a1"), Vec::<Value>::new());
    std::fs::remove_file(place.path("state/ledger.duckdb.requests")).unwrap();
    // Nor does a file of other content, or one that breaks off.
    place.write("state/ledger.duckdb.requests/accounts.json", "{\"request\":{\"run\":\n\0\0\0");
    assert_eq!(requests(&place, "accounts", "a1"), Vec::<Value>::new());
    place.run(&["run", "--retry-rejected"]).exits(3);
    assert_eq!(requests(&place, "accounts", "a1").len(), 1);
    assert_eq!(kept(&place).lines().count(), 2);
}
