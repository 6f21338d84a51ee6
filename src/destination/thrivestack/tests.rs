//! The statements TS-01 … TS-15 of the wire reference that are about bytes and meanings; those about sequences of
//! requests are in `tests/it/thrivestack.rs`.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::destination::batch::{Size, pack};
use crate::destination::{
    AddressedChange, Attempt, Destination, Element, MappingFinding, Part, TraitShape, User, UserRule, Verdict,
};
use crate::error::Kind;
use crate::io::http::{Applied, Request, Response};
use crate::model::Change;
use crate::model::cell::As;
use crate::model::document::number_value;
use crate::model::{OnNull, Op};
use crate::secret::Secret;
use serde_json::Value;
use std::sync::Arc;

const KEY: &str = "ts-k3y-7f1d2c9a";

fn settings() -> ThriveStackSettings {
    ThriveStackSettings {
        api_key: Secret::new(KEY),
        base_url: None,
        wire: ThriveStackWire::Array,
        legacy_fields: true,
        context: None,
    }
}

fn thrivestack() -> ThriveStack {
    ThriveStack::new(&settings(), "company").unwrap()
}

fn single() -> ThriveStack {
    ThriveStack::new(&ThriveStackSettings { wire: ThriveStackWire::Single, ..settings() }, "company").unwrap()
}

fn addressed(key: &str, set: Value) -> AddressedChange {
    let change: Change = serde_json::from_value(json!({"set": set})).unwrap();
    let at = chrono::DateTime::from_timestamp_millis(1_700_000_000_123).unwrap();
    let user = Some(User::Id(format!("account:{key}")));
    AddressedChange {
        key: key.to_owned(),
        user,
        at,
        change: Arc::new(change),
        settled_seq: 3,
        ..AddressedChange::default()
    }
}

fn request(destination: &ThriveStack, changes: &[AddressedChange]) -> Request {
    let elements: Vec<Element> = changes
        .iter()
        .flat_map(|change| {
            destination.parts(change).unwrap().into_iter().map(|part| destination.element(change, &part))
        })
        .collect();
    let attempt = Attempt { at: chrono::DateTime::UNIX_EPOCH, number: 1, request: 0 };
    destination.request(0, &elements.iter().collect::<Vec<_>>(), attempt)
}

fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

fn interpret(status: u16, body: &str) -> Verdict {
    thrivestack().interpret(0, 2, &Response { status, body: body.into(), ..Response::default() })
}

fn shape(name: &str) -> TraitShape<'_> {
    TraitShape { name, op: Op::Set, declared: None, constant: None, members: None, always: false }
}

fn remarked(destination: &ThriveStack, traits: &[TraitShape<'_>]) -> Vec<(bool, String)> {
    let told = |remark: MappingFinding| (remark.error, format!("{} ({})", remark.what, remark.help));
    destination.findings(traits).into_iter().map(told).collect()
}

#[test]
fn ts_01_one_post_with_the_key_in_its_header() {
    let request = request(&thrivestack(), &[addressed("acme", json!({"plan": "pro"}))]);
    assert_eq!((request.method, request.url.as_str()), ("POST", "https://api.app.thrivestack.ai/api/group"));
    assert_eq!(request.headers, [("content-type", "application/json".to_owned()), ("x-api-key", KEY.to_owned())]);
    let own = ThriveStackSettings { base_url: Some("http://127.0.0.1:9/proxy/".to_owned()), ..settings() };
    let own = ThriveStack::new(&own, "company").unwrap();
    assert_eq!(self::request(&own, &[]).url, "http://127.0.0.1:9/proxy/api/group");
    for (key, base_url) in [("", None), ("a\nb", None), ("k", Some("ftp://x"))] {
        let settings =
            ThriveStackSettings { api_key: Secret::new(key), base_url: base_url.map(str::to_owned), ..settings() };
        assert_eq!(ThriveStack::new(&settings, "company").err().unwrap().kind(), Kind::Config);
    }
}

#[test]
fn ts_02_an_array_even_for_one_group_and_a_bare_object_only_when_asked_for() {
    let changes = [addressed("acme", json!({"plan": "pro"}))];
    assert_eq!(body(&request(&thrivestack(), &changes)).as_array().unwrap().len(), 1);
    assert_eq!(body(&request(&single(), &changes))["group_id"], json!("acme"));
    assert_eq!((thrivestack().limits(0).elements_max, single().limits(0).elements_max), (1_000, 1));
}

#[test]
fn ts_03_ts_05_ts_06_a_group_has_these_keys() {
    let change = addressed("acme", json!({"plan": "pro", "address": {"postal_code": "53111"}}));
    let group = json!({
        "group_id": "acme", "user_id": "account:acme", "timestamp": "2023-11-14T22:13:20.123Z",
        "traits": {"plan": "pro", "address": {"postal_code": "53111"}, "group_type": "company"},
        "context": {"group_id": "acme"},
    });
    assert_eq!(body(&request(&thrivestack(), std::slice::from_ref(&change))), json!([group]));
    assert_eq!(body(&request(&single(), std::slice::from_ref(&change))), group);
    let context = toml::Table::from_iter([("source".to_owned(), "warehouse".into())]);
    let bare = ThriveStackSettings { legacy_fields: false, context: Some(context.clone()), ..settings() };
    let bare = body(&request(&ThriveStack::new(&bare, "company").unwrap(), std::slice::from_ref(&change)));
    assert_eq!(bare[0]["context"], json!({"source": "warehouse"}));
    assert_eq!(bare[0]["traits"], json!({"plan": "pro", "address": {"postal_code": "53111"}}));
    let both = ThriveStackSettings { context: Some(context), ..settings() };
    let both = body(&request(&ThriveStack::new(&both, "company").unwrap(), &[change]));
    assert_eq!(both[0]["context"], json!({"source": "warehouse", "group_id": "acme"}));
    let own = toml::Table::from_iter([("group_id".to_owned(), "x".into())]);
    assert!(ThriveStack::new(&ThriveStackSettings { context: Some(own), ..settings() }, "company").is_err());
    // The traits are there even when there is none.
    let element = thrivestack().element(&addressed("a", json!({})), &Part { route: 0, change: Arc::default() });
    let empty: Value = serde_json::from_slice(&element.bytes).unwrap();
    assert_eq!(empty["traits"], json!({"group_type": "company"}));
}

#[test]
fn ts_04_a_group_without_ids_is_not_sent() {
    let destination = thrivestack();
    assert_eq!(destination.features().user, UserRule::RequiredKnown);
    let change = addressed("a", json!({"n": 1}));
    for (user, reason) in [
        (None, "add `[user]` to the mapping, like `id = \"account:{key}\"`"),
        (Some(User::Anonymous("x".to_owned())), "only known users"),
        (Some(User::Id(String::new())), "the user's id is empty"),
    ] {
        let told = destination.parts(&AddressedChange { user, ..change.clone() }).unwrap_err();
        assert!(told.contains(reason), "{told}");
    }
    assert_eq!(
        destination.parts(&AddressedChange { key: String::new(), ..change }).unwrap_err(),
        "the group's key is empty: give the row one, or leave it out with `where`"
    );
}

#[test]
fn ts_05_a_timestamp_has_a_year_of_four_digits() {
    let body = body(&request(&thrivestack(), &[addressed("a", json!({"n": 1}))]));
    let written = body[0]["timestamp"].as_str().unwrap();
    assert!(chrono::DateTime::parse_from_rfc3339(written).is_ok());
    assert!(chrono::DateTime::parse_from_rfc3339("20-11-23T22:28:55.111Z").is_err(), "the document's own sample");
}

#[test]
fn ts_07_a_request_has_a_thousand_groups_and_two_megabytes_at_most() {
    let destination = thrivestack();
    let limits = destination.limits(0);
    for (count, requests) in [(999, 1), (1_000, 1), (1_001, 2)] {
        let sizes = vec![Size { bytes: 100, traits: 1 }; count];
        assert_eq!(pack(&sizes, &limits, usize::MAX).batches.len(), requests, "{count}");
    }
    let bare = request(&destination, &[addressed("a", json!({"t": ""}))]).body.len();
    for (bytes, fits) in [(1_999_999, true), (2_000_000, true), (2_000_001, false)] {
        let change = addressed("a", json!({"t": "x".repeat(bytes - bare)}));
        let element = destination.element(&change, &destination.parts(&change).unwrap()[0]);
        let packed = pack(&[Size { bytes: element.bytes.len(), traits: 1 }], &limits, usize::MAX);
        assert_eq!(packed.oversized.is_empty(), fits, "{bytes}");
        assert_eq!(request(&destination, &[change]).body.len(), bytes);
    }
}

#[test]
fn ts_08_ts_09_reserved_traits_are_compared_with_the_documentation() {
    let declared = |name, kind| TraitShape { declared: Some(kind), ..shape(name) };
    let members = |members| TraitShape { members: Some(members), ..shape("address") };
    for (destination, shape, told) in [
        (thrivestack(), declared("employees", As::Integer), ""),
        (
            thrivestack(),
            declared("employees", As::String),
            "`employees` is a number in ThriveStack's documentation (a number today",
        ),
        (single(), declared("employees", As::String), ""),
        (single(), declared("employees", As::Integer), "declare `as = \"string\"`"),
        (thrivestack(), declared("created_at", As::Timestamp), ""),
        (thrivestack(), declared("Created_At", As::Integer), "is an ISO 8601 date"),
        (thrivestack(), declared("plan", As::Number), "is text"),
        (thrivestack(), members(vec!["city", "country", "postal_code", "state", "street"]), ""),
        (thrivestack(), members(vec!["postalCode"]), "did you mean `postal_code`?"),
    ] {
        let found = remarked(&destination, std::slice::from_ref(&shape));
        match told {
            "" => assert_eq!(found, [], "{shape:?}"),
            told => assert!(found.len() == 1 && !found[0].0 && found[0].1.contains(told), "{found:?}"),
        }
    }
    // "42" stays text and 42 a number: nothing is converted that the mapping did not ask for.
    let group = &body(&request(&thrivestack(), &[addressed("a", json!({"employees": "42", "seats": 42}))]))[0];
    assert_eq!((&group["traits"]["employees"], &group["traits"]["seats"]), (&json!("42"), &json!(42)));
}

#[test]
fn ts_10_names_that_differ_in_capitals_collide() {
    let found = remarked(&thrivestack(), &[shape("Plan"), shape("plan"), shape("created_at"), shape("createdat")]);
    assert_eq!(found.len(), 1);
    assert!(found[0].0 && found[0].1.contains("traits `Plan` and `plan` are one to ThriveStack"), "{found:?}");
    let found = remarked(&thrivestack(), &[shape("Group_Type")]);
    assert!(found[0].0 && found[0].1.contains("legacy_fields = false"), "{found:?}");
    assert!(thrivestack().parts(&addressed("a", json!({"group_type": "x"}))).is_err());
    let own = ThriveStack::new(&ThriveStackSettings { legacy_fields: false, ..settings() }, "company").unwrap();
    assert_eq!(remarked(&own, &[shape("group_type")]), []);
    assert!(own.parts(&addressed("a", json!({"group_type": "x"}))).is_ok());
}

#[test]
fn ts_11_success_false_is_no_success_and_warnings_are_told() {
    assert_eq!(interpret(200, r#"{"success":true,"eventId":"e1"}"#), Verdict::ACCEPTED);
    assert_eq!(
        interpret(200, r#"{"success":true,"response_id":"r1","message":"ok","warnings":[]}"#),
        Verdict::ACCEPTED
    );
    for (status, body) in
        [(201, r#"{"success":true}"#), (200, ""), (200, "<html>"), (200, "{}"), (200, r#"{"success":1}"#)]
    {
        let verdict = interpret(status, body);
        assert!(matches!(verdict, Verdict::Stop { applied: Applied::Maybe, .. }), "{status} {body}: {verdict:?}");
    }
    let refused = r#"{"success":false,"response_id":"r7","message":"no"}"#;
    assert_eq!(interpret(200, refused), Verdict::rejected(format!("HTTP 200: {refused}")), "its id is kept");
    for (warnings, told) in [
        (json!(["unknown trait `x`"]), "unknown trait `x`".to_owned()),
        (json!(["a", "b", "c"]), "a (and 2 more in the same response)".to_owned()),
        (json!([{"message": "late", "id": 7}]), "late".to_owned()),
        (json!([{"code": 7}]), r#"{"code":7}"#.to_owned()),
        (json!([format!("key {KEY}\nis old")]), "key *** is old".to_owned()),
        (json!(["é".repeat(300)]), format!("{}…", "é".repeat(200))),
    ] {
        let body = json!({"success": true, "response_id": "r", "warnings": warnings}).to_string();
        assert_eq!(interpret(200, &body), Verdict::Accepted { warning: Some(told) });
    }
    for warnings in [json!(null), json!("text"), json!({})] {
        let body = json!({"success": true, "warnings": warnings}).to_string();
        assert_eq!(interpret(200, &body), Verdict::ACCEPTED);
    }
}

#[test]
fn ts_12_what_other_answers_mean() {
    let is = |verdict: &Verdict| match verdict {
        Verdict::Rejected { .. } => "refused",
        Verdict::TooLarge { .. } => "too large",
        Verdict::Retry { .. } => "retry",
        Verdict::Stop { .. } => "stop",
        _ => "delivered",
    };
    for (status, expected) in [
        (400, "refused"),
        (401, "stop"),
        (403, "stop"),
        (404, "stop"),
        (302, "stop"),
        (408, "retry"),
        (413, "too large"),
        (422, "refused"),
        (429, "retry"),
        (500, "retry"),
        (501, "stop"),
        (503, "retry"),
    ] {
        assert_eq!(is(&interpret(status, "no")), expected, "{status}");
    }
    let Verdict::Stop { reason, .. } = interpret(401, &format!("bad key {KEY}")) else { panic!() };
    assert_eq!(reason, "HTTP 401: bad key ***");
    // No key deduplicates; the same values twice change nothing.
    assert!(thrivestack().repeatable(0));
}

#[test]
fn ts_13_nulls_are_sent_and_nothing_can_be_removed() {
    let destination = thrivestack();
    let body = body(&request(&destination, &[addressed("a", json!({"plan": null}))]));
    assert_eq!(body[0]["traits"], json!({"plan": null, "group_type": "company"}));
    assert_eq!(destination.features().on_null, [OnNull::Null, OnNull::Skip]);
    for said in [json!({"unset": ["x"]}), json!({"delete": true}), json!({"append": {"x": [1]}})] {
        let change = Arc::new(serde_json::from_value(said).unwrap());
        assert!(destination.parts(&AddressedChange { change, ..addressed("a", json!({})) }).is_err());
    }
}

#[test]
fn ts_14_nothing_is_compressed_and_no_secret_is_shown() {
    let destination = thrivestack();
    let request = request(&destination, &[addressed("a", json!({"n": 1}))]);
    assert!(!request.gzip && !destination.features().gzip);
    let shown = destination.masked(&request);
    assert!(!format!("{:?} {}", shown.headers, String::from_utf8_lossy(&shown.body)).contains(KEY));
    assert!(destination.probe().unwrap().headers.is_empty());
}

#[test]
fn ts_15_what_would_be_rounded_is_refused_and_text_arrives_as_it_is() {
    let destination = thrivestack();
    let set = |value: Value| addressed("a", json!({"arr": value}));
    assert!(destination.parts(&set(number_value("9007199254740993").unwrap())).unwrap_err().contains("trait `arr`"));
    let nasty = "\" \\ \n \u{2028} é 中 😀";
    let body = body(&request(&destination, &[addressed(nasty, json!({nasty: {"x": [nasty, 0.1]}}))]));
    assert_eq!(body[0]["group_id"], json!(nasty));
    assert_eq!(body[0]["traits"][nasty], json!({"x": [nasty, 0.1]}));
}

proptest! {
    #[test]
    fn any_answer_has_a_verdict_and_only_a_2xx_is_delivered(
        status in any::<u16>(), body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..60),
            ".{0,20}".prop_map(|text| json!({"success": true, "warnings": [text, {"message": text}]}).to_string().into_bytes()),
        ],
    ) {
        let verdict = thrivestack().interpret(0, 2, &Response { status, body, ..Response::default() });
        let delivered = matches!(verdict, Verdict::Accepted { .. });
        prop_assert!(!delivered || (200..300).contains(&status));
    }
}
