//! The statements PH-01 … PH-25 of the wire reference that are about bytes and meanings; those about sequences of requests
//! are in `tests/it/posthog.rs`.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use proptest::prelude::*;
use serde_json::{Map, Number, Value, json};

use super::*;
use crate::destination::Blame;
use crate::destination::readback::ReadBackQuery;
use crate::destination::{AddressedChange, Attempt, Destination, Element, Part, Route, TraitShape, Verdict};
use crate::error::Kind;
use crate::io::http::Applied;
use crate::io::http::{Request, Response};
use crate::model::Change;
use crate::model::{OnNull, Op};
use crate::secret::Secret;

const KEY: &str = "phc_k\"e+y";
const PERSONAL: &str = "phx_personal+key";

fn settings() -> PostHogSettings {
    PostHogSettings {
        api_key: Secret::new(KEY),
        personal_api_key: None,
        project_id: None,
        region: None,
        base_url: None,
        app_url: None,
        write_via: WriteVia::Capture,
        capture: CaptureProtocol::V0,
        gzip: None,
    }
}

fn with_rest(write_via: WriteVia) -> PostHogSettings {
    let personal_api_key = Some(Secret::new(PERSONAL));
    PostHogSettings { personal_api_key, project_id: Some("77".to_owned()), write_via, ..settings() }
}

fn posthog() -> PostHog {
    PostHog::new(&settings(), "company").unwrap()
}

/// With the responses to its questions: these group types, and whether there is `upsert_properties`.
fn prepared(write_via: WriteVia, types: &[&str], upsert: bool) -> PostHog {
    let mut posthog = PostHog::new(&with_rest(write_via), "company").unwrap();
    posthog.set_up(&types_reply(types)).unwrap();
    if posthog.setup_request().is_some() {
        posthog.set_up(&response(if upsert { 405 } else { 404 }, "{}")).unwrap();
    }
    assert_eq!(posthog.setup_request(), None);
    posthog
}

fn types_reply(types: &[&str]) -> Response {
    let types = types.iter().enumerate().map(|(index, name)| json!({"group_type": name, "group_type_index": index}));
    response(200, &types.collect::<Value>().to_string())
}

const ATTEMPT: Attempt = Attempt { at: DateTime::UNIX_EPOCH, number: 1, request: 0 };

fn addressed(key: &str, change: Value) -> AddressedChange {
    AddressedChange {
        key: key.to_owned(),
        change: Arc::new(serde_json::from_value(change).unwrap()),
        ..AddressedChange::default()
    }
}

fn setting(value: Value) -> AddressedChange {
    addressed("acme", json!({"set": {"t": value}}))
}

fn requests(posthog: &PostHog, change: &AddressedChange) -> Vec<Request> {
    let parts = posthog.parts(change).unwrap();
    let one = |part: &Part| posthog.request(part.route, &[&posthog.element(change, part)], ATTEMPT);
    parts.iter().map(one).collect()
}

fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

/// The only event of a change that is one.
fn event(change: &AddressedChange) -> Value {
    body(&requests(&posthog(), change)[0])["batch"][0].clone()
}

fn response(status: u16, body: &str) -> Response {
    Response { status, body: body.into(), ..Response::default() }
}

fn refusal(change: &AddressedChange) -> String {
    posthog().parts(change).unwrap_err()
}

#[test]
fn ph_01_one_post_of_json_with_the_key_in_the_body_alone() {
    for (region, base_url, url) in [
        (None, None, "https://us.i.posthog.com/batch/"),
        (Some(PostHogRegion::Eu), None, "https://eu.i.posthog.com/batch/"),
        (Some(PostHogRegion::Eu), Some("http://127.0.0.1:8000/ingest/"), "http://127.0.0.1:8000/ingest/batch/"),
    ] {
        let settings = PostHogSettings { region, base_url: base_url.map(str::to_owned), ..settings() };
        let request = &requests(&PostHog::new(&settings, "company").unwrap(), &setting(json!(1)))[0];
        assert_eq!((request.method, request.url.as_str()), ("POST", url));
        assert_eq!(request.headers, [("content-type", "application/json".to_owned())], "no authorization");
        assert_eq!(body(request)["api_key"], json!(KEY));
    }
}

#[test]
fn ph_02_every_element_is_a_whole_groupidentify() {
    let at = DateTime::parse_from_rfc3339("2026-11-22T15:43:58.357+01:00").unwrap().to_utc();
    let change = AddressedChange { at, ..addressed("acme-1", json!({"set": {"plan": "pro", "seats": 5}})) };
    let posthog = posthog();
    let part = &posthog.parts(&change).unwrap()[0];
    let attempt = Attempt { at: at + TimeDelta::milliseconds(1_500), number: 2, request: 0 };
    let sent = body(&posthog.request(CAPTURE, &[&posthog.element(&change, part)], attempt));
    let uuid = sent["batch"][0]["uuid"].clone();
    let expected = json!({
        "api_key": KEY,
        "batch": [{
            "event": "$groupidentify",
            "distinct_id": "$company_acme-1",
            "uuid": uuid,
            "timestamp": "2026-11-22T14:43:58.357Z",
            "properties": {
                "$group_type": "company", "$group_key": "acme-1", "$group_set": {"plan": "pro", "seats": 5},
                "$lib": "groupcast", "$lib_version": env!("CARGO_PKG_VERSION"), "$geoip_disable": true, "$is_server": true,
            },
        }],
        "sent_at": "2026-11-22T14:43:59.857Z",
    });
    assert_eq!(sent, expected);
    let uuid = uuid.as_str().unwrap();
    assert!(uuid.len() == 36 && uuid.as_bytes()[14] == b'5', "{uuid}");
}

#[test]
fn ph_03_group_set_is_an_object_even_without_traits() {
    let posthog = posthog();
    let part = Part { route: CAPTURE, change: Arc::default() };
    let element = posthog.element(&addressed("a", json!({})), &part);
    let event: Value = serde_json::from_slice(&element.bytes).unwrap();
    assert_eq!(event["properties"]["$group_set"], json!({}));
}

#[test]
fn ph_04_keys_are_texts_of_1_to_400_characters_without_nul() {
    assert_eq!(
        event(&addressed("0", json!({"set": {"t": 1}})))["properties"]["$group_key"],
        json!("0"),
        "a text is true"
    );
    for length in [1, 400] {
        assert!(posthog().parts(&addressed(&"é".repeat(length), json!({"set": {"t": 1}}))).is_ok());
    }
    for (key, words) in
        [(String::new(), "empty"), ("\0".to_owned(), "NUL"), ("a\0b".to_owned(), "NUL"), ("é".repeat(401), "400")]
    {
        assert!(refusal(&addressed(&key, json!({"set": {"t": 1}}))).contains(words), "{key:?}");
    }
    for group_type in [String::new(), "x".repeat(401), "a\0".to_owned()] {
        assert_eq!(PostHog::new(&settings(), &group_type).err().unwrap().kind(), Kind::Config);
    }
    assert!(PostHog::new(&settings(), &"é".repeat(400)).is_ok());
}

#[test]
fn ph_05_person_processing_is_never_switched_off() {
    let event = event(&setting(json!(1)));
    assert!(!event.to_string().contains("$process_person_profile"), "{event}");
}

#[test]
fn ph_06_the_distinct_id_is_stable_and_never_cut() {
    let id = |key: &str| event(&addressed(key, json!({"set": {"t": 1}})))["distinct_id"].as_str().unwrap().to_owned();
    assert_eq!(id("acme-1"), "$company_acme-1");
    let fits = "é".repeat(200 - "$company_".len());
    assert_eq!(id(&fits), format!("$company_{fits}"));
    let (one, other) = (id(&format!("{fits}1")), id(&format!("{fits}2")));
    assert!(one.len() <= 200 && one.starts_with("$groupcast_") && one != other, "{one}");
    assert_eq!(one, id(&format!("{fits}1")));
}

#[test]
fn ph_07_a_uuid_belongs_to_a_group_and_what_is_said_about_it() {
    let uuid = |change: &AddressedChange| event(change)["uuid"].clone();
    let first = addressed("acme", json!({"set": {"plan": "pro"}}));
    let later = AddressedChange { at: DateTime::UNIX_EPOCH + TimeDelta::days(3), ..first.clone() };
    assert_eq!(uuid(&first), uuid(&first), "a repetition within the run");
    let others = [
        // A rerun is another event: between the two, a third may have said something else and lost its response.
        later,
        AddressedChange { settled_seq: 8, ..first.clone() },
        addressed("acme2", json!({"set": {"plan": "pro"}})),
        addressed("acme", json!({"set": {"plan": "free"}})),
    ];
    assert!(others.iter().all(|other| uuid(other) != uuid(&first)));
}

#[test]
fn ph_08_no_event_and_no_request_passes_a_limit() {
    let posthog = posthog();
    let limits = posthog.limits(CAPTURE);
    assert_eq!((limits.elements_max, limits.body_bytes_max), (100, 5 * 1024 * 1024));
    let elements: Vec<Element> = (0..3).map(|at| vec![b'x'; at + 1].into()).collect();
    for count in 0..=3 {
        let all: Vec<&Element> = elements[..count].iter().collect();
        let inner = all.iter().map(|element| element.bytes.len()).sum::<usize>();
        let expected = limits.envelope_bytes + inner + limits.separator_bytes * count.saturating_sub(1);
        assert_eq!(posthog.request(CAPTURE, &all, ATTEMPT).body.len(), expected);
    }
    // Twelve traits whose quotes double in capture's own queue: 2.4 MB there.
    let set: Map<String, Value> = (0..12).map(|at| (format!("t{at}"), json!("\"".repeat(50_000)))).collect();
    let change = addressed("acme", json!({"set": set, "unset": []}));
    let parts = posthog.parts(&change).unwrap();
    let mut said = Map::new();
    let mut uuids = Vec::new();
    for part in &parts {
        let bytes = posthog.element(&change, part).bytes;
        // As capture writes it: the event's text as a string inside JSON.
        assert!(Value::from(String::from_utf8(bytes.clone()).unwrap()).to_string().len() <= 1_000_000 - 2_000);
        let event: Value = serde_json::from_slice(&bytes).unwrap();
        uuids.push(event["uuid"].clone());
        said.extend(event["properties"]["$group_set"].as_object().unwrap().clone());
    }
    assert_eq!((parts.len(), said), (3, set));
    uuids.dedup();
    assert_eq!(uuids.len(), 3, "each part is an event of its own");
    let reason = refusal(&setting(json!("x".repeat(1_000_000))));
    assert!(reason.contains("trait `t`") && reason.contains("1,000,000"), "{reason}");
}

#[test]
fn ph_09_gzip_is_the_transports_and_the_body_the_same() {
    let change = setting(json!("é"));
    let body_of = |gzip| {
        let request =
            requests(&PostHog::new(&PostHogSettings { gzip, ..settings() }, "company").unwrap(), &change).remove(0);
        (request.gzip, request.body)
    };
    let (on, packed) = body_of(None);
    let (off, plain) = body_of(Some(false));
    assert!(on && !off && body_of(Some(true)).0);
    assert_eq!(packed, plain);
}

#[test]
fn ph_10_nothing_to_say_is_no_request() {
    assert_eq!(posthog().parts(&addressed("acme", json!({}))).unwrap(), []);
}

#[test]
fn ph_11_to_ph_14_what_an_answer_means() {
    let interpret = |status, body: &str| posthog().interpret(CAPTURE, 2, &response(status, body));
    for body in [r#"{"status":"Ok"}"#, r#"{"status":"ok"}"#, r#"{"status":1}"#] {
        assert_eq!(interpret(200, body), Verdict::ACCEPTED, "{body}");
    }
    for (status, body) in
        [(200, ""), (204, ""), (200, "<html>"), (200, "{}"), (200, r#"{"status":0}"#), (201, r#"{"status":1}"#)]
    {
        let verdict = interpret(status, body);
        assert!(matches!(verdict, Verdict::Stop { applied: Applied::Maybe, .. }), "{status} {body}: {verdict:?}");
    }
    assert_eq!(interpret(200, r#"{"status":"Ok","quota_limited":[]}"#), Verdict::ACCEPTED);
    let Verdict::Stop { reason, advice, .. } = interpret(200, r#"{"status":"Ok","quota_limited":["events"]}"#) else {
        panic!("dropped events are not delivered")
    };
    assert!(reason.contains("events") && advice.contains("billing"), "{reason}; {advice}");
    for status in [408, 500, 502, 503, 504, 0, 999] {
        assert!(
            matches!(interpret(status, ""), Verdict::Retry { applied: Applied::Maybe, after: None, .. }),
            "{status}"
        );
    }
    let mut throttled = response(429, "rate limited");
    throttled.headers.push(("retry-after".to_owned(), "7".to_owned()));
    let Verdict::Retry { after, applied: Applied::No, .. } = posthog().interpret(CAPTURE, 1, &throttled) else {
        panic!()
    };
    assert_eq!(after, Some(Duration::from_secs(7)));
    for status in [301, 401, 402, 403, 404, 405, 407] {
        assert!(matches!(interpret(status, ""), Verdict::Stop { .. }), "{status}");
    }
    assert!(matches!(interpret(400, "event submitted without a distinct_id"), Verdict::Rejected { .. }));
    assert!(matches!(interpret(413, ""), Verdict::TooLarge { .. }));
    assert!(posthog().too_large_in_part(CAPTURE), "the events before the large one may be queued");
}

#[test]
fn any_answer_has_a_verdict_and_only_success_is_delivered() {
    let posthog = prepared(WriteVia::Rest, &["company"], true);
    for route in [CAPTURE, DELETE_PROPERTY, CREATE, UPDATE_PROPERTY, UPSERT_PROPERTIES] {
        for status in 0..1_000 {
            const GROUP: &str = r#"{"group_type_index":0,"group_key":"acme","group_properties":{}}"#;
            for body in [
                "",
                "null",
                "[]",
                "{}",
                "\u{0}\u{1}",
                r#"{"quota_limited":"x"}"#,
                r#"{"detail":5,"type":[]}"#,
                r#"{"status":"Ok"}"#,
                GROUP,
            ] {
                let delivered =
                    matches!(posthog.interpret(route, 1, &response(status, body)), Verdict::Accepted { .. });
                let success = match (route, status) {
                    (CAPTURE, 200) => body.contains("Ok"),
                    (UPDATE_PROPERTY | DELETE_PROPERTY, 200) => body == GROUP || body.is_empty(),
                    (CREATE, 201) | (UPSERT_PROPERTIES, 200 | 201) => body == GROUP,
                    // No group, no trait: PostHog's own 404.
                    (DELETE_PROPERTY, 404) => body.contains("detail"),
                    _ => false,
                };
                assert_eq!(delivered, success, "route {route}: {status} {body}");
            }
        }
    }
}

#[test]
fn ph_15_a_null_stays_and_a_removal_is_a_call_of_its_own() {
    assert_eq!(event(&setting(json!(null)))["properties"]["$group_set"], json!({"t": null}));
    let posthog = prepared(WriteVia::Capture, &["project", "company"], false);
    let change = addressed("a/c&m e", json!({"set": {"plan": "pro"}, "unset": ["old", "o'\"ther"]}));
    let sent = requests(&posthog, &change);
    let address =
        "https://us.posthog.com/api/projects/77/groups/delete_property/?group_type_index=1&group_key=a%2Fc%26m+e";
    for (request, name) in sent.iter().zip(["o'\"ther", "old"]) {
        assert_eq!((request.method, request.url.as_str()), ("POST", address));
        let bearer = ("authorization", format!("Bearer {PERSONAL}"));
        assert_eq!(request.headers, [bearer, ("content-type", "application/json".to_owned())]);
        assert_eq!(body(request), json!({"$unset": name}));
    }
    assert_eq!(sent.len(), 3, "removals take effect at once, so they come first");
    assert_eq!(body(&sent[2])["batch"][0]["properties"]["$group_set"], json!({"plan": "pro"}));
    let gone = r#"{"type":"validation_error","code":"invalid_input","detail":"Property 'old' does not exist on this group.","attr":"$unset"}"#;
    let interpret = |status, body: &str| posthog.interpret(DELETE_PROPERTY, 1, &response(status, body));
    assert_eq!(interpret(400, gone), Verdict::ACCEPTED);
    assert_eq!(interpret(404, r#"{"detail":"Not found."}"#), Verdict::ACCEPTED, "no group, no trait");
    assert!(matches!(
        interpret(400, r#"{"attr":"$unset","detail":"This field is required"}"#),
        Verdict::Rejected { .. }
    ));
    let lost = r#"{"attr":"$unset","code":"Failed to submit group property deletion event.","detail":"capture_error","type":"capture_error"}"#;
    for status in [400, 401, 502] {
        assert!(matches!(interpret(status, lost), Verdict::Retry { applied: Applied::Maybe, .. }), "{status}");
    }
    for (status, word) in [(401, "personal_api_key"), (403, "group:write")] {
        let told = interpret(status, r#"{"type":"authentication_error","detail":"no"}"#);
        let Verdict::Stop { advice, .. } = told else { panic!("{status}") };
        assert!(advice.contains(word), "{advice}");
    }
    // Not in PostHog's form: a firewall, which may dislike this one request.
    for (status, body) in [(403, r#"{"code":403,"error":"Forbidden"}"#), (404, r#"{"message":"Not found"}"#), (404, "")]
    {
        let told = interpret(status, body);
        assert!(matches!(told, Verdict::Stop { blame: Blame::Unclear, .. }), "{status} {body}: {told:?}");
    }
}

#[test]
fn ph_15_what_nulls_and_removals_need_is_told_before_a_run() {
    let on_null = |settings: &PostHogSettings| PostHog::new(settings, "company").unwrap().features().on_null;
    assert_eq!(on_null(&settings()), [OnNull::Null, OnNull::Skip]);
    assert_eq!(on_null(&with_rest(WriteVia::Capture)), [OnNull::Unset, OnNull::Null, OnNull::Skip]);
    assert_eq!(on_null(&with_rest(WriteVia::Rest)), [OnNull::Unset, OnNull::Skip], "`update_property` takes no null");
    assert!(refusal(&addressed("acme", json!({"unset": ["t"]}))).contains("personal_api_key"));
    // A type that is not there yet has no group with traits, unless something was acknowledged before.
    let new = prepared(WriteVia::Capture, &["project"], false);
    let change = addressed("acme", json!({"set": {"a": 1}, "unset": ["b"]}));
    let routes: Vec<Route> = new.parts(&change).unwrap().iter().map(|part| part.route).collect();
    assert_eq!(routes, [CAPTURE]);
    let reason = new.parts(&AddressedChange { settled_seq: 3, ..change }).unwrap_err();
    assert!(reason.contains("--retry-rejected") && reason.contains("`company`"), "{reason}");
}

#[test]
fn ph_16_a_nested_object_is_sent_whole() {
    let value = json!({"city": "Gent", "lines": ["a", null, ["b"]], "geo": {"lat": 51.05}});
    assert_eq!(event(&setting(value.clone()))["properties"]["$group_set"], json!({"t": value}));
}

#[test]
fn ph_18_a_sixth_group_type_is_refused_before_a_run() {
    let mut full = PostHog::new(&with_rest(WriteVia::Capture), "company").unwrap();
    let error = full.set_up(&types_reply(&["a", "b", "c", "d", "e"])).unwrap_err();
    assert!(error.kind() == Kind::Config && error.to_string().contains("a, b, c, d, e"), "{error}");
    assert!(full.set_up(&types_reply(&["a", "b", "c", "d", "company"])).is_ok(), "one of five");
    assert_eq!(prepared(WriteVia::Capture, &["a", "b", "c", "d"], false).setup_request(), None, "the fifth");
    assert_eq!(posthog().group_types_max(), Some(5));
}

#[test]
fn ph_19_ph_20_numbers_that_would_change_are_refused_by_name() {
    let number = |text: &str| Value::Number(Number::from_string_unchecked(text.to_owned()));
    for text in ["0", "-1", "9007199254740991", "0.1", "12345.678", "1e+300"] {
        let sent = event(&setting(number(text)));
        assert_eq!(sent["properties"]["$group_set"]["t"].to_string(), text);
    }
    for text in ["9007199254740993", "170141183460469231731687303715884105727", "0.12345678901234567890123"] {
        let reason = refusal(&setting(json!({"deep": [number(text)]})));
        assert!(reason.contains("trait `t`") && reason.contains("as = \"string\""), "{reason}");
    }
    for text in ["NaN", "Infinity", "-Infinity"] {
        let mut change = Change::default();
        change.set.insert("t".to_owned(), number(text));
        let addressed =
            AddressedChange { key: "acme".to_owned(), change: Arc::new(change), ..AddressedChange::default() };
        assert!(refusal(&addressed).contains("trait `t`"), "{text}");
    }
}

#[test]
fn ph_21_a_nul_is_removed_from_values_as_the_server_would() {
    let value = json!(["a\0b", {"c\0": "\0"}, "\u{1}\u{2028}\\\""]);
    let held = json!(["ab", {"c": ""}, "\u{1}\u{2028}\\\""]);
    assert_eq!(event(&setting(value.clone()))["properties"]["$group_set"]["t"], held);
    let posthog = prepared(WriteVia::Rest, &["company"], false);
    assert_eq!(posthog.readback().unwrap().held(&value), held, "what is read back is compared with that");
    assert!(refusal(&addressed("acme", json!({"set": {"a\0": 1}}))).contains("name"));
}

#[test]
fn ph_25_rest_writes_with_what_the_server_has() {
    let change = addressed("acme", json!({"set": {"a": 1, "b": {"c": [true]}}, "unset": ["d"]}));
    let base = "https://us.posthog.com/api/projects/77/groups/";
    let sent = |upsert| {
        let requests = requests(&prepared(WriteVia::Rest, &["company"], upsert), &change);
        requests
            .iter()
            .map(|request| (request.url.strip_prefix(base).unwrap().to_owned(), body(request)))
            .collect::<Vec<_>>()
    };
    let query = "?group_type_index=0&group_key=acme";
    let removal = (format!("delete_property/{query}"), json!({"$unset": "d"}));
    let group = |properties: Value| json!({"group_type_index": 0, "group_key": "acme", "group_properties": properties});
    assert_eq!(
        sent(false),
        [
            removal.clone(),
            (String::new(), group(json!({}))),
            (format!("update_property/{query}"), json!({"key": "a", "value": 1})),
            (format!("update_property/{query}"), json!({"key": "b", "value": {"c": [true]}})),
        ]
    );
    assert_eq!(sent(true), [removal, ("upsert_properties/".to_owned(), group(json!({"a": 1, "b": {"c": [true]}})))]);
    for upsert in [false, true] {
        let reason = prepared(WriteVia::Rest, &["company"], upsert).parts(&setting(json!(null))).unwrap_err();
        assert!(reason.contains("no null"), "{reason}");
    }
    let posthog = prepared(WriteVia::Rest, &["company"], false);
    let exists = r#"{"type":"validation_error","code":"invalid_input","detail":"A group with this key already exists","attr":"detail"}"#;
    assert_eq!(posthog.interpret(CREATE, 1, &response(400, exists)), Verdict::ACCEPTED);
    let gone = response(404, r#"{"type":"invalid_request","code":"not_found","detail":"Not found.","attr":null}"#);
    assert!(matches!(posthog.interpret(CREATE, 1, &gone), Verdict::Stop { blame: Blame::Us, .. }));
    assert!(matches!(posthog.interpret(UPDATE_PROPERTY, 1, &gone), Verdict::Rejected { .. }));
    assert!(matches!(posthog.interpret(UPSERT_PROPERTIES, 1, &gone), Verdict::Rejected { .. }));
    let foreign = posthog.interpret(CREATE, 1, &response(404, "<html>Not found</html>"));
    assert!(matches!(foreign, Verdict::Stop { blame: Blame::Unclear, .. }), "{foreign:?}");
    let unrouted = response(404, r#"{"detail":"Endpoint not found."}"#);
    assert!(matches!(posthog.interpret(UPSERT_PROPERTIES, 1, &unrouted), Verdict::Stop { .. }));
}

#[test]
fn the_questions_change_nothing_and_are_asked_once() {
    let mut posthog = PostHog::new(&with_rest(WriteVia::Rest), "company").unwrap();
    let types = posthog.setup_request().unwrap();
    assert_eq!((types.method, types.url.as_str()), ("GET", "https://us.posthog.com/api/projects/77/groups_types/"));
    for (status, word) in [(401, "personal_api_key"), (403, "group:read"), (404, "project_id"), (400, "app_url")] {
        let error = posthog.set_up(&response(status, PERSONAL)).unwrap_err();
        assert_eq!(error.kind(), Kind::Destination);
        assert!(error.advice().unwrap().contains(word) && !error.to_string().contains(PERSONAL), "{error}");
    }
    assert!(posthog.set_up(&response(200, "<html>")).is_err());
    assert!(posthog.set_up(&response(200, r#"{"results":[]}"#)).is_err());
    let error = posthog.set_up(&types_reply(&["project"])).unwrap_err();
    assert!(error.to_string().contains("REST cannot create"), "{error}");
    posthog.set_up(&types_reply(&["company"])).unwrap();
    let probe = posthog.setup_request().unwrap();
    assert_eq!((probe.method, probe.body.len()), ("GET", 0));
    assert!(probe.url.ends_with("/groups/upsert_properties/"), "{}", probe.url);
    posthog.set_up(&response(405, "")).unwrap();
    assert_eq!(posthog.setup_request(), None);
    assert_eq!(posthog_without_rest_asks(), None);
}

fn posthog_without_rest_asks() -> Option<Request> {
    posthog().setup_request()
}

#[test]
fn rest_has_a_pace_and_capture_none() {
    let posthog = prepared(WriteVia::Rest, &["company"], false);
    assert_eq!(posthog.pace(CAPTURE), None, "events have no limit");
    let pace = posthog.pace(DELETE_PROPERTY).unwrap();
    assert!([CREATE, UPDATE_PROPERTY, UPSERT_PROPERTIES].iter().all(|route| posthog.pace(*route) == Some(pace)));
}

#[test]
fn reading_back_asks_for_one_type_and_never_follows_to_another_host() {
    let posthog = prepared(WriteVia::Capture, &["project", "company"], false);
    let readback = posthog.readback().unwrap();
    let url = |question| {
        let request = readback.request(question).unwrap();
        assert_eq!((request.method, request.body.len()), ("GET", 0));
        request.url.strip_prefix("https://us.posthog.com/api/projects/77/groups/").unwrap().to_owned()
    };
    assert_eq!(url(ReadBackQuery::Page(None)), "?group_type_index=1");
    assert_eq!(url(ReadBackQuery::Page(Some("a=&b"))), "?group_type_index=1&cursor=a%3D%26b");
    assert_eq!(url(ReadBackQuery::Find("a b")), "find/?group_type_index=1&group_key=a+b&skip_create_notebook=true");
    assert_eq!(url(ReadBackQuery::Related("a")), "related/?group_type_index=1&id=a");
    assert_eq!(url(ReadBackQuery::Activity("a")), "activity/?group_type_index=1&id=a&group_key=a");
    assert_eq!(url(ReadBackQuery::Names), "property_definitions/");
    assert_eq!(url(ReadBackQuery::Values("p")), "property_values/?group_type_index=1&key=p");
    let page = r#"{"next":"http://internal:8000/api/projects/77/groups/?group_type_index=1&cursor=eyJj%3D","previous":null,
        "results":[{"group_type_index":1,"group_key":"a","group_properties":{"n":12345678901234567890},"created_at":"x"},
                   {"group_type_index":1,"group_key":"b","group_properties":null},
                   {"group_key":"c","group_properties":"{\"plan\": \"pro\"}"}]}"#;
    let page = readback.page(&response(200, page)).unwrap();
    assert_eq!(page.next.as_deref(), Some("eyJj="));
    assert_eq!(page.groups[0].traits["n"].to_string(), "12345678901234567890");
    assert_eq!((page.groups[1].key.as_str(), page.groups[1].traits.len()), ("b", 0));
    assert_eq!(page.groups[2].traits["plan"], json!("pro"), "as text");
    for wrong in [r#"{"next":"http://internal/?page=2","results":[]}"#, "[]", "{}", r#"{"results":[{"group_key":1}]}"#]
    {
        assert!(readback.page(&response(200, wrong)).is_err(), "{wrong}");
    }
    assert_eq!(readback.found(&response(404, "")).unwrap(), None);
    assert!(readback.found(&response(403, "")).unwrap_err().advice().unwrap().contains("group:read"));
    let absent = prepared(WriteVia::Capture, &["project"], false);
    assert_eq!(absent.readback().unwrap().request(ReadBackQuery::Page(None)), None, "no such type, nothing to ask");
    assert!(self::posthog().readback().is_none());
}

#[test]
fn what_is_read_back_of_one_group() {
    let posthog = prepared(WriteVia::Capture, &["project", "company"], false);
    let readback = posthog.readback().unwrap();
    let related = r#"[{"type":"person","id":"0190","distinct_ids":["u1","u2"],"properties":{"email":"a@b.c"}},
        {"type":"group","id":"p-7","group_type_index":0,"properties":{"name":"Site"}}]"#;
    let related = readback.related(&response(200, related)).unwrap();
    let flat: Vec<_> = related.iter().map(|one| (one.kind.as_str(), one.id.as_str(), one.name.as_deref())).collect();
    assert_eq!(flat, [("person", "u1", Some("a@b.c")), ("project", "p-7", Some("Site"))]);
    let activity = r#"{"results":[{"created_at":"2026-01-02T03:04:05Z","activity":"update_property","user":{"email":"x@y.z"},
        "detail":{"name":"plan","changes":[]}},{"created_at":"2026-01-01T00:00:00Z","activity":"create_group","user":null,"detail":{}}]}"#;
    let activity = readback.activity(&response(200, activity)).unwrap();
    assert_eq!((activity[0].about.as_deref(), activity[0].by.as_deref()), (Some("plan"), Some("x@y.z")));
    assert_eq!((activity[1].what.as_str(), &activity[1].by), ("create_group", &None));
    assert!(readback.activity(&response(403, "")).is_err() && readback.related(&response(200, "{}")).is_err());
    let names = readback.names(&response(200, r#"{"0":[{"name":"x","count":1}],"1":[{"name":"plan","count":3}]}"#));
    assert_eq!(names, Some(vec!["plan".to_owned()]));
    assert_eq!(readback.names(&response(200, "{}")), Some(Vec::new()));
    assert_eq!(readback.names(&response(404, "")), None, "newer servers have it no more");
    for body in [r#"{"results":[{"name":"pro","count":3}],"refreshing":false}"#, r#"[{"name":"pro","count":3}]"#] {
        assert_eq!(readback.values(&response(200, body)), Some(vec![json!("pro")]));
    }
    assert_eq!(readback.values(&response(404, "")), None);
}

#[test]
fn settings_that_cannot_work_are_told_apart() {
    let key = |key: &str| Some(Secret::new(key));
    let project = || Some("77".to_owned());
    let wrong = [
        (PostHogSettings { api_key: Secret::new(" "), ..settings() }, "`api_key` is empty"),
        (PostHogSettings { api_key: Secret::new("phx_abc"), ..settings() }, "personal API key"),
        (PostHogSettings { personal_api_key: key("phx_abc"), ..settings() }, "only one"),
        (PostHogSettings { project_id: project(), ..settings() }, "only one"),
        (PostHogSettings { write_via: WriteVia::Rest, ..settings() }, "`write_via"),
        (
            PostHogSettings { personal_api_key: key("phc_abc"), project_id: project(), ..settings() },
            "no personal API key",
        ),
        (PostHogSettings { project_id: Some("../7".to_owned()), ..with_rest(WriteVia::Capture) }, "`project_id`"),
        (
            PostHogSettings { base_url: Some("https://e.example.com".to_owned()), ..with_rest(WriteVia::Capture) },
            "`app_url`",
        ),
    ];
    for (settings, words) in wrong {
        let error = PostHog::new(&settings, "company").err().unwrap();
        assert_eq!(error.kind(), Kind::Config);
        assert!(error.to_string().contains(words) && error.advice().is_some(), "{error}");
        assert!(!error.to_string().contains("_abc"), "{error}");
    }
    let own = "https://ph.example.com".to_owned();
    let own = PostHogSettings { base_url: Some(own.clone()), app_url: Some(own), ..with_rest(WriteVia::Capture) };
    let question = PostHog::new(&own, "company").unwrap().setup_request().unwrap();
    assert_eq!(question.url, "https://ph.example.com/api/projects/77/groups_types/");
    let eu = PostHogSettings { region: Some(PostHogRegion::Eu), ..with_rest(WriteVia::Capture) };
    assert!(PostHog::new(&eu, "company").unwrap().setup_request().unwrap().url.starts_with("https://eu.posthog.com/"));
}

#[test]
fn names_that_look_like_posthogs_own_are_remarked() {
    let shape = |name| TraitShape { name, op: Op::Set, declared: None, constant: None, members: None, always: false };
    let remarks = posthog().findings(&[shape("plan"), shape("$geoip_city"), shape("a\0")]);
    let flat: Vec<(Option<&str>, bool)> = remarks.iter().map(|one| (one.about.as_deref(), one.error)).collect();
    assert_eq!(flat, [(Some("$geoip_city"), false), (Some("a\0"), true)]);
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "\\PC{0,12}|[\\x00-\\x1f\"\\\\]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,4}", inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_parts_say_exactly_the_change(
        set in prop::collection::btree_map("[a-z\"]{1,8}", values(), 0..20),
        unset in prop::collection::btree_set("[A-Z]{1,3}", 0..4),
        key in "[^\\x00]{1,40}",
    ) {
        let change = Change { set: set.into_iter().collect(), unset, ..Change::default() };
        let posthog = prepared(WriteVia::Capture, &["company"], false);
        let addressed = AddressedChange { key: key.clone(), change: Arc::new(change.clone()), ..AddressedChange::default() };
        let (mut said, mut removed) = (Map::new(), Vec::new());
        for part in posthog.parts(&addressed).unwrap() {
            let body: Value = serde_json::from_slice(&posthog.element(&addressed, &part).bytes).unwrap();
            if part.route == CAPTURE {
                prop_assert_eq!(&body["properties"]["$group_key"], &json!(key));
                said.extend(body["properties"]["$group_set"].as_object().unwrap().clone());
            } else {
                removed.push(body["$unset"].as_str().unwrap().to_owned());
            }
        }
        let held = rest::held(&Value::Object(change.set));
        prop_assert_eq!(Value::Object(said), held);
        prop_assert_eq!(removed, change.unset.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn a_group_that_posthog_would_not_keep_is_refused_to_the_byte() {
    let of = |letters: usize| {
        let whole = [("t".to_owned(), json!("x".repeat(letters)))].into_iter().collect();
        let addressed = AddressedChange { large_document: Some(Arc::new(whole)), ..setting(json!({"plan": "pro"})) };
        PostHog::new(&settings(), "company").unwrap().parts(&addressed)
    };
    // `{"t":"…"}` is eight bytes, and as text inside JSON its four quotes are one more each.
    let room = 1_000_000 - 2_048 - 12;
    assert!(of(room).is_ok());
    let told = of(room + 1).unwrap_err();
    assert!(told.contains("would take 997953 bytes together") && told.contains("shorten `t`"), "{told}");
}

#[test]
fn ph_24_capture_v1_has_its_headers_and_nothing_secret_in_its_body() {
    let v1 = PostHog::new(&PostHogSettings { capture: CaptureProtocol::V1, ..settings() }, "company").unwrap();
    let change = setting(json!({"plan": "pro"}));
    let part = &v1.parts(&change).unwrap()[0];
    let element = v1.element(&change, part);
    let at = DateTime::UNIX_EPOCH + TimeDelta::milliseconds(1_500);
    let attempt = |number, request| v1.request(CAPTURE, &[&element], Attempt { at, number, request });
    let request = attempt(2, 7);
    assert_eq!(request.url, "https://us.i.posthog.com/i/v1/analytics/events");
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body.as_object().unwrap().keys().collect::<Vec<_>>(), ["batch", "created_at"]);
    assert_eq!(
        (&body["created_at"], &body["batch"][0]["uuid"]),
        (&json!("1970-01-01T00:00:01.500Z"), &json!(element.id))
    );
    assert_eq!(request.body.len(), v1.limits(CAPTURE).envelope_bytes + element.bytes.len());
    let header = |request: &Request, name: &str| {
        request.headers.iter().find(|(header, _)| *header == name).map(|(_, value)| value.clone()).unwrap()
    };
    assert_eq!(header(&request, "posthog-attempt"), "2");
    assert_eq!(header(&request, "posthog-request-id"), header(&attempt(1, 7), "posthog-request-id"));
    assert_ne!(header(&request, "posthog-request-id"), header(&attempt(1, 8), "posthog-request-id"));
    let masked = v1.masked(&request);
    let key = settings().api_key.expose().to_owned();
    assert!(header(&request, "authorization").contains(&key) && header(&masked, "authorization") == "Bearer ***");
    // Only by its id is known what became of an event, and nothing of it is repeated that holds the key.
    let told = |result: &str, details: &str| {
        let body = json!({"results": {&element.id: {"result": result, "details": details}}}).to_string();
        v1.interpret_each(
            CAPTURE,
            &[&element],
            &Response { status: 200, body: body.into_bytes(), ..Response::default() },
        )
    };
    assert_eq!(told("ok", ""), Verdict::ACCEPTED);
    assert!(!format!("{:?}", told("drop", &key)).contains(&key));
    let unasked =
        v1.interpret(CAPTURE, 1, &Response { status: 200, body: br#"{"results":{}}"#.to_vec(), ..Response::default() });
    assert!(!matches!(unasked, Verdict::Accepted { .. }), "{unasked:?}");
}
