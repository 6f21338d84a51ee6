use super::*;
use crate::destination::{AddressedChange, Attempt, Destination, TraitShape, Verdict};
use crate::error::Kind;
use crate::io::http::Applied;
use crate::io::http::{Request, Response};
use crate::model::Op;
use crate::secret::Secret;
use chrono::DateTime;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const API_KEY: &str = "jk_5d3f0e7c1a";

fn journy() -> Journy {
    Journy::new(&JournySettings { api_key: Secret::new(API_KEY), base_url: None }, "account").unwrap()
}

fn addressed(change: Value) -> AddressedChange {
    let change = Arc::new(serde_json::from_value(change).unwrap());
    AddressedChange { key: "acme \"é\"".to_owned(), change, ..AddressedChange::default() }
}

fn request(change: Value) -> Request {
    let addressed = addressed(change);
    let parts = journy().parts(&addressed).unwrap();
    assert_eq!(parts.len(), 1);
    let element = journy().element(&addressed, &parts[0]);
    journy().request(parts[0].route, &[&element], Attempt { at: DateTime::UNIX_EPOCH, number: 1, request: 0 })
}

fn response(status: u16, headers: &[(&str, &str)], body: &str) -> Response {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Response { status, headers, body: body.as_bytes().to_vec(), ..Response::default() }
}

#[test]
fn jy_02_one_account_per_request_and_null_means_delete() {
    let upsert = request(json!({"set": {"plan": "pro", "mrr": 12.5, "paying": true, "note": "", "tags": ["a", "b"]},
        "unset": ["trial"]}));
    assert_eq!((upsert.method, upsert.url.as_str()), ("POST", "https://api.journy.io/accounts/upsert"));
    assert!(upsert.headers.contains(&("x-api-key", API_KEY.to_owned())));
    assert_eq!(
        String::from_utf8(upsert.body).unwrap(),
        r#"{"identification":{"accountId":"acme \"é\""},"properties":{"mrr":12.5,"note":"","paying":true,"plan":"pro","tags":["a","b"],"trial":null}}"#
    );
    assert_eq!((journy().limits(UPSERT).elements_max, journy().limits(DELETE).elements_max), (1, 1));
    assert!(journy().parts(&addressed(json!({}))).unwrap().is_empty());
}

#[test]
fn jy_02_what_journy_does_not_take_is_refused_here() {
    for (change, words) in [
        (json!({"set": {"t": {"a": 1}}}), "an object"),
        (json!({"set": {"t": [1.5]}}), "non-empty strings"),
        (json!({"set": {"t": ["a", ""]}}), "non-empty strings"),
        (json!({"set": {"t": ["a", null]}}), "non-empty strings"),
        (json!({"set": {"t": null}}), "set `on_null` to `unset`"),
        (json!({"set": {" ": 1}}), "empty name"),
        (json!({"set_once": {"t": 1}}), "no `set_once`"),
        (json!({"add": {"t": 1}}), "no `add`"),
        (json!({"set": {"t": 1}, "unset": ["t"]}), "both set and unset"),
    ] {
        let reason = journy().parts(&addressed(change)).unwrap_err();
        assert!(reason.contains(words), "{reason}");
    }
    let number: Value = serde_json::from_str(r#"{"set":{"t":9007199254740993}}"#).unwrap();
    assert!(journy().parts(&addressed(number)).unwrap_err().contains("declare `as = \"string\"`"));
    let exact: Value = serde_json::from_str(r#"{"set":{"t":9007199254740992}}"#).unwrap();
    assert!(String::from_utf8(request(exact).body).unwrap().contains(":9007199254740992"));
    let no_key = AddressedChange { key: String::new(), ..addressed(json!({"set": {"t": 1}})) };
    assert!(journy().parts(&no_key).is_err());
}

#[test]
fn jy_02_statuses_have_their_meaning() {
    let verdict = |route, status, body: &str| journy().interpret(route, 1, &response(status, &[], body));
    const SAVED: &str = r#"{"meta":{"requestId":"r","status":201},"message":"The account was saved."}"#;
    for status in [200, 201] {
        assert_eq!(verdict(UPSERT, status, SAVED), Verdict::ACCEPTED);
        for body in ["", "OK", "<html></html>", "{}", r#"{"message":"no","errors":{"fields":{"a":"b"}}}"#] {
            assert!(matches!(verdict(UPSERT, status, body), Verdict::Stop { applied: Applied::Maybe, .. }), "{body}");
        }
    }
    let refused = r#"{"meta":{"requestId":"r","status":400},"message":"The parameters are not correct.",
        "errors":{"fields":{"properties.plan":"must be a string","identification":"jk_5d3f0e7c1a?"},"parameters":{}}}"#;
    let reason = "HTTP 400: The parameters are not correct.; identification: ***?; properties.plan: must be a string";
    assert_eq!(verdict(UPSERT, 400, refused), Verdict::rejected(reason.to_owned()));
    assert_eq!(verdict(UPSERT, 400, "no"), Verdict::rejected("HTTP 400: no".to_owned()));
    let header = r#"{"errors":{"parameters":{"header":{"X-Api-Key":"is missing"}}}}"#;
    assert!(matches!(verdict(UPSERT, 400, header), Verdict::Stop { .. }));
    for status in [301, 401, 403, 405, 407] {
        assert!(matches!(verdict(UPSERT, status, ""), Verdict::Stop { .. }), "{status}");
    }
    let Verdict::Stop { advice, .. } = verdict(UPSERT, 401, "") else { panic!("a bad key stops") };
    assert!(advice.contains("TrackData"));
    assert_eq!(
        verdict(UPSERT, 429, "slow"),
        Verdict::Retry {
            reason: "HTTP 429: slow".to_owned(),
            after: Some(Duration::from_secs(60)),
            applied: Applied::No
        }
    );
    assert!(matches!(verdict(UPSERT, 413, ""), Verdict::TooLarge { .. }));
    for status in [408, 500, 503] {
        assert!(matches!(verdict(UPSERT, status, ""), Verdict::Retry { applied: Applied::Maybe, .. }), "{status}");
    }
    for status in 0..1_000 {
        let delivered = matches!(verdict(UPSERT, status, SAVED), Verdict::Accepted { .. });
        assert_eq!(delivered, [200, 201].contains(&status), "{status}");
    }
}

#[test]
fn jy_02_an_empty_quota_pauses_until_the_window_moves() {
    let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
    for (headers, seconds) in [
        (vec![], None),
        (vec![("x-ratelimit-remaining", "1"), ("x-ratelimit-reset", "30")], None),
        (vec![("x-ratelimit-remaining", "0")], Some(3_600)),
        (vec![("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "30")], Some(30)),
        (vec![("x-ratelimit-remaining", "0"), ("retry-after", "90")], Some(90)),
        (vec![("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "soon")], Some(3_600)),
        (vec![("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "7200")], Some(3_600)),
        (vec![("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "-5")], Some(3_600)),
        (vec![("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "nan")], Some(3_600)),
    ] {
        let paused = journy().pause(&response(200, &headers, ""));
        assert_eq!(paused, seconds.map(Duration::from_secs), "{headers:?}");
    }
    // 784111777 is that date; such times are recognised from 2001 on.
    let later = ("date", "Wed, 01 Jan 2025 00:00:00 GMT");
    let reset = |at| [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", at), later];
    assert_eq!(journy().pause(&response(429, &reset("1735689900"), "")), Some(Duration::from_secs(300)));
    assert_eq!(journy().pause(&response(429, &reset("1735689000"), "")), Some(Duration::ZERO), "over already");
    let no_clock = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1735689900")];
    assert_eq!(journy().pause(&response(429, &no_clock, "")), Some(WINDOW));
    assert_eq!(journy().pause(&response(429, &reset("inf"), "")), Some(WINDOW));
    assert_eq!(journy().pause(&response(429, &[date], "")), None);
}

#[test]
fn jy_03_an_account_is_deleted_and_may_be_gone_already() {
    let delete = request(json!({"delete": true}));
    assert_eq!((delete.method, delete.url.as_str()), ("DELETE", "https://api.journy.io/accounts"));
    assert_eq!(String::from_utf8(delete.body).unwrap(), r#"{"identification":{"accountId":"acme \"é\""}}"#);
    let gone = r#"{"meta":{"requestId":"r","status":404},"message":"The account does not exist."}"#;
    assert_eq!(journy().interpret(DELETE, 1, &response(404, &[], gone)), Verdict::ACCEPTED);
    let elsewhere = journy().interpret(DELETE, 1, &response(404, &[], "<html>not found</html>"));
    assert!(matches!(elsewhere, Verdict::Stop { .. }), "another server's 404: {elsewhere:?}");
    assert!(matches!(journy().interpret(UPSERT, 1, &response(404, &[], "not found")), Verdict::Stop { .. }));
}

#[test]
fn keys_that_cannot_be_sent_are_config_errors() {
    for key in ["", "two words", "é"] {
        let settings = JournySettings { api_key: Secret::new(key), base_url: None };
        assert_eq!(Journy::new(&settings, "account").err().unwrap().kind(), Kind::Config);
    }
}

#[test]
fn names_that_differ_in_capitals_collide_and_other_groups_are_remarked() {
    let shape = |name| TraitShape { name, op: Op::Set, declared: None, constant: None, members: None, always: false };
    let remarks = journy().findings(&["Plan", "seats", " plan"].map(shape));
    assert_eq!(remarks.len(), 1);
    assert!(remarks[0].error && remarks[0].about.as_deref() == Some(" plan") && remarks[0].what.contains("`Plan`"));
    let settings = JournySettings { api_key: Secret::new(API_KEY), base_url: None };
    let remarks = Journy::new(&settings, "workspace").unwrap().findings(&["plan"].map(shape));
    assert!(!remarks[0].error && remarks[0].what.contains("accounts"));
}

#[test]
fn a_trait_renamed_in_its_capitals_is_unset_before_it_is_set() {
    let change = addressed(json!({"set": {"plan": "pro", "n": 1}, "unset": ["Plan", "old"]}));
    let parts = journy().parts(&change).unwrap();
    let bodies: Vec<Value> =
        parts.iter().map(|part| serde_json::from_slice(&journy().element(&change, part).bytes).unwrap()).collect();
    assert_eq!(bodies[0]["properties"], json!({"Plan": null}));
    assert_eq!(bodies[1]["properties"], json!({"plan": "pro", "n": 1, "old": null}));
    assert_eq!(bodies.len(), 2);
}
