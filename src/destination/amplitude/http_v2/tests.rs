//! The statements AM-20 … AM-26 of the wire reference that are about bytes and meanings; those about sequences of
//! requests are in `tests/it/amplitude_http_v2.rs`.

use chrono::{DateTime, Utc};
use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;
use crate::destination::amplitude::AmplitudeRegion;
use crate::model::Change;
use crate::model::document::number_value;

const KEY: &str = r#"k+y &"=%é"#;
const ATTEMPT: Attempt = Attempt { at: DateTime::UNIX_EPOCH, number: 1, request: 0 };

fn settings() -> AmplitudeSettings {
    AmplitudeSettings::new(Secret::new(KEY))
}

fn http_v2() -> HttpV2 {
    HttpV2::new(&settings(), "org id").unwrap()
}

fn addressed(key: &str, change: Value) -> AddressedChange {
    let at: DateTime<Utc> = "2024-05-06T07:08:09.123Z".parse().unwrap();
    let change = Arc::new(serde_json::from_value(change).unwrap());
    AddressedChange { key: key.to_owned(), change, at, ..AddressedChange::default() }
}

fn request(http_v2: &HttpV2, changes: &[AddressedChange]) -> Request {
    let elements: Vec<Element> = changes
        .iter()
        .flat_map(|change| {
            let parts = http_v2.parts(change).unwrap();
            parts.into_iter().map(|part| http_v2.element(change, &part)).collect::<Vec<_>>()
        })
        .collect();
    http_v2.request(0, &elements.iter().collect::<Vec<_>>(), ATTEMPT)
}

fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

fn event(http_v2: &HttpV2, change: &AddressedChange) -> Value {
    body(&request(http_v2, std::slice::from_ref(change)))["events"][0].clone()
}

fn interpret(status: u16, body: Value) -> Verdict {
    http_v2().interpret(0, 4, &Response { status, body: body.to_string().into(), ..Response::default() })
}

#[test]
fn am_20_one_json_post_of_group_events_that_name_no_user() {
    for (region, base_url, url) in [
        (None, None, "https://api2.amplitude.com/2/httpapi"),
        (Some(AmplitudeRegion::Us), None, "https://api2.amplitude.com/2/httpapi"),
        (Some(AmplitudeRegion::Eu), None, "https://api.eu.amplitude.com/2/httpapi"),
        (Some(AmplitudeRegion::Eu), Some("http://127.0.0.1:8321/x/"), "http://127.0.0.1:8321/x/2/httpapi"),
    ] {
        let settings = AmplitudeSettings { region, base_url: base_url.map(str::to_owned), ..settings() };
        let changes = [
            addressed("Acme Corp", json!({"set": {"plan": "pro"}, "unset": ["old"]})),
            addressed("b", json!({"add": {"n": 1}})),
        ];
        let request = request(&HttpV2::new(&settings, "org id").unwrap(), &changes);
        assert_eq!((request.method, request.url.as_str(), request.gzip), ("POST", url, false));
        assert_eq!(request.headers, [("content-type", "application/json".to_owned())]);
        let body = body(&request);
        assert_eq!(body.as_object().unwrap().keys().collect::<Vec<_>>(), ["api_key", "events"]);
        assert_eq!(body["api_key"], json!(KEY));
        let events = body["events"].as_array().unwrap();
        assert_eq!(events.len(), 2);
        for event in events {
            let keys: Vec<&String> = event.as_object().unwrap().keys().collect();
            assert_eq!(keys, ["event_type", "group_properties", "groups", "insert_id", "time"]);
            assert_eq!(event["event_type"], json!("$groupidentify"));
        }
        assert_eq!(events[0]["groups"], json!({"org id": "Acme Corp"}));
        assert_eq!(events[0]["group_properties"], json!({"$set": {"plan": "pro"}, "$unset": {"old": "-"}}));
    }
    let small = HttpV2::new(&AmplitudeSettings { batch_max: Some(10), ..settings() }, "org id").unwrap();
    assert_eq!(small.limits(0).elements_max, 10, "what the Starter plan recommends");
    let compressing = HttpV2::new(&AmplitudeSettings { gzip: true, ..settings() }, "org id").unwrap();
    assert!(request(&compressing, &[addressed("a", json!({"set": {"x": 1}}))]).gzip);
}

#[test]
fn am_20_all_six_operators_stand_in_one_event_that_may_be_repeated() {
    let http_v2 = http_v2();
    assert!(http_v2.features().ops == Op::ALL && http_v2.repeatable(0) && http_v2.features().user == UserRule::Never);
    let change = addressed(
        "acme",
        json!({"set": {"a": [1]}, "set_once": {"b": 2}, "unset": ["c"],
            "add": {"n": -1.5}, "append": {"tags": ["x", null]}, "prepend": {"log": ["z"]}}),
    );
    assert_eq!(http_v2.parts(&change).unwrap().len(), 1);
    assert_eq!(
        event(&http_v2, &change)["group_properties"],
        json!({"$set": {"a": [1]}, "$setOnce": {"b": 2}, "$unset": {"c": "-"},
            "$add": {"n": -1.5}, "$append": {"tags": ["x"]}, "$prepend": {"log": ["z"]}})
    );
}

#[test]
fn am_21_the_limits_are_the_documented_ones_and_the_body_is_counted_exactly() {
    let http_v2 = http_v2();
    let limits = http_v2.limits(0);
    assert_eq!((limits.elements_max, limits.body_bytes_max), (2_000, 1_000_000));
    for count in 0..4 {
        let changes: Vec<AddressedChange> = (0..count).map(|at| addressed(&"é".repeat(at + 1), json!({}))).collect();
        let part = Part { route: 0, change: Arc::default() };
        let elements: Vec<Element> = changes.iter().map(|change| http_v2.element(change, &part)).collect();
        let inner: usize = elements.iter().map(|element| element.bytes.len()).sum();
        let between = limits.separator_bytes * count.saturating_sub(1);
        let body = http_v2.request(0, &elements.iter().collect::<Vec<_>>(), ATTEMPT).body;
        assert_eq!(body.len(), limits.envelope_bytes + inner + between);
    }
}

#[test]
fn am_21_a_change_that_no_event_holds_becomes_several() {
    let http_v2 = http_v2();
    let wide: Map<String, Value> = (0..1_030).map(|at| (format!("t{at}"), json!(at))).collect();
    let text = "😀".repeat(1_024);
    let large: Map<String, Value> = (0..300).map(|at| (format!("t{at}"), json!(text))).collect();
    for (change, parts) in [(json!({"set": wide, "add": {"n": 1}}), 2), (json!({"set": large, "unset": ["u"]}), 2)] {
        let change = addressed("acme", change);
        let cut = http_v2.parts(&change).unwrap();
        assert_eq!(cut.len(), parts);
        let mut ids = BTreeSet::new();
        let mut whole = Change::default();
        for part in &cut {
            properties::Slot::all(&part.change).for_each(|slot| slot.put(&mut whole));
            assert!(part.change.traits_count() <= 1_024);
            let element = http_v2.element(&change, part);
            let request = http_v2.request(0, &[&element], ATTEMPT);
            assert!(request.body.len() <= BODY_BYTES_MAX);
            ids.insert(body(&request)["events"][0]["insert_id"].clone().to_string());
        }
        assert_eq!((whole, ids.len()), ((*change.change).clone(), parts), "each part is an event of its own");
    }
    let alone = http_v2.parts(&addressed("acme", json!({"set": {"t": vec!["x".repeat(1_000); 1_000]}})));
    assert!(alone.unwrap_err().contains("trait `t` takes"));
}

#[test]
fn am_22_the_insert_id_follows_from_the_change_and_the_time_is_the_runs() {
    let http_v2 = http_v2();
    let change = addressed("acme", json!({"set": {"plan": "pro"}}));
    let first = event(&http_v2, &change);
    assert_eq!(first["time"].to_string(), "1714979289123");
    // An attempt changes nothing, whenever it is made.
    let parts = http_v2.parts(&change).unwrap();
    let again = http_v2.element(&change, &parts[0]);
    let later = Attempt { at: change.at + Duration::from_secs(3_600), number: 7, request: 0 };
    assert_eq!(http_v2.request(0, &[&again], later).body, request(&http_v2, std::slice::from_ref(&change)).body);
    let id = first["insert_id"].as_str().unwrap();
    assert_eq!(id.len(), 36, "a UUID: {id}");
    let others = [
        addressed("acme", json!({"set": {"plan": "free"}})),
        addressed("acme", json!({"set_once": {"plan": "pro"}})),
        addressed("acm", json!({"set": {"plan": "pro"}})),
        AddressedChange { settled_seq: 1, ..change.clone() },
        // The same words in another run are no retry.
        AddressedChange { at: change.at + Duration::from_millis(1), ..change.clone() },
    ];
    for other in others {
        assert_ne!(event(&http_v2, &other)["insert_id"], json!(id));
    }
    assert_ne!(event(&HttpV2::new(&settings(), "company").unwrap(), &change)["insert_id"], json!(id));
}

#[test]
fn am_23_a_400_names_events_or_us() {
    let some = json!({"code": 400, "error": "Invalid field values on some events", "missing_field": null,
        "events_with_invalid_fields": {"time": [1, 3], "groups": [3]}, "events_with_missing_fields": {}});
    let said = "HTTP 400: Invalid field values on some events";
    let refused = vec![(1, format!("{said}: `time`")), (3, format!("{said}: `groups`, `time`"))];
    assert_eq!(interpret(400, some), Verdict::RejectedSome { elements: refused });
    let missing = json!({"code": 400, "error": "bad", "events_with_missing_fields": {"event_type": [0]},
        "silenced_events": [2], "events_with_invalid_id_lengths": {"x": [2]}});
    let refused = vec![(0, "HTTP 400: bad: `event_type`".to_owned()), (2, "HTTP 400: bad: `x`".to_owned())];
    assert_eq!(interpret(400, missing), Verdict::RejectedSome { elements: refused });
    let silenced = interpret(400, json!({"error": "bad", "silenced_events": [3]}));
    assert_eq!(silenced, Verdict::RejectedSome { elements: vec![(3, "HTTP 400: bad".to_owned())] });
    // Everything is rejected, or nothing that was there: bisected, and at first taken for a rejection of us.
    for indexes in [json!([0, 1, 2, 3]), json!([4, 99]), json!([-1, "0", null, 1.5])] {
        let verdict = interpret(400, json!({"error": "bad", "events_with_invalid_fields": {"groups": indexes}}));
        assert!(matches!(verdict, Verdict::Rejected { .. }), "{verdict:?}");
    }
    for error in ["Invalid JSON request body", "Missing request body", "Invalid event JSON"] {
        assert!(matches!(interpret(400, json!({"error": error})), Verdict::Rejected { .. }));
    }
    for (answer, word) in [
        (json!({"error": format!("Invalid API key: {KEY}")}), "a US key on the EU host"),
        (json!({"error": "Request missing required field", "missing_field": "api_key"}), "`api_key`"),
        (json!({"error": "Request missing required field", "missing_field": "user_id"}), "groupidentify"),
        (json!({"error": "bad", "events_with_missing_fields": {"device_id": [0, 1, 2, 3]}}), "groupidentify"),
        (json!({"error": "Invalid request path"}), "base_url"),
    ] {
        let verdict = interpret(400, answer.clone());
        let Verdict::Stop { reason, advice, .. } = verdict else { panic!("{answer}: {verdict:?}") };
        assert!(advice.contains(word) && !reason.contains(KEY), "{reason} {advice}");
    }
}

#[test]
fn am_24_a_429_waits_half_a_minute_or_for_tomorrow() {
    let throttled = json!({"code": 429, "error": "Too many requests for some devices and users", "eps_threshold": 30,
        "throttled_devices": {}, "throttled_users": {}, "throttled_events": [0],
        "exceeded_daily_quota_users": {}, "exceeded_daily_quota_devices": {}});
    let wait = |verdict| match verdict {
        Verdict::Retry { after: Some(after), applied: Applied::No, .. } => after.as_secs(),
        other => panic!("{other:?}"),
    };
    assert_eq!(wait(interpret(429, throttled.clone())), 30);
    assert_eq!(wait(interpret(429, Value::Null)), 30);
    for (asked, waits) in [("5", 30), ("90", 90)] {
        let headers = vec![("retry-after".to_owned(), asked.to_owned())];
        let response = Response { status: 429, headers, body: throttled.to_string().into(), ..Response::default() };
        assert_eq!(wait(http_v2().interpret(0, 4, &response)), waits);
    }
    for key in ["exceeded_daily_quota_users", "exceeded_daily_quota_devices"] {
        let mut spent = throttled.clone();
        spent[key] = json!({"a": 500_001});
        let Verdict::Stop { reason, advice, .. } = interpret(429, spent) else { panic!("{key} stops") };
        assert_eq!(reason, "HTTP 429: Too many requests for some devices and users");
        assert!(advice.contains("tomorrow"));
    }
}

#[test]
fn am_25_every_status_has_its_meaning() {
    for status in [408, 500, 502, 503, 504, 599, 0, 999] {
        let verdict = interpret(status, json!("<html>"));
        assert!(matches!(verdict, Verdict::Retry { applied: Applied::Maybe, .. }), "{status}");
    }
    let unavailable = interpret(503, json!({"code": 503, "error": "Service Unavailable"}));
    assert!(matches!(unavailable, Verdict::Retry { applied: Applied::No, after: None, .. }), "Amplitude took nothing");
    assert!(matches!(interpret(413, json!({"code": 413, "error": "Payload too large"})), Verdict::TooLarge { .. }));
    for (status, word) in [(301, "base_url"), (401, "key"), (403, "firewall"), (404, "base_url"), (407, "proxy")] {
        let Verdict::Stop { advice, .. } = interpret(status, json!({"code": status})) else { panic!("{status} stops") };
        assert!(advice.contains(word), "{status}: {advice}");
    }
    assert_eq!(interpret(200, json!({"code": 200, "events_ingested": 4})), Verdict::ACCEPTED);
    for body in [
        json!({}),
        json!(null),
        json!({"code": 200}),
        json!({"events_ingested": 4}),
        json!({"code": 200, "events_ingested": "4"}),
        json!({"code": 400, "error": "Invalid API key"}),
    ] {
        let stops = interpret(200, body.clone());
        assert!(matches!(stops, Verdict::Stop { applied: Applied::Maybe, .. }), "{body}: {stops:?}");
    }
    let refused = |count| interpret(200, json!({"code": 200, "events_ingested": count}));
    assert!(matches!(refused(3), Verdict::Rejected { applied: Applied::Maybe, .. }), "one of them is missing");
    assert!(matches!(refused(0), Verdict::Rejected { applied: Applied::No, .. }), "0 ingested is no delivery");
}

/// Captured from Amplitude's Python client 1.3.0 (`group_identify`, server URL of a local server).
const PYTHON: &str = r#"{"api_key": "KEY", "events": [{"event_type": "$groupidentify", "group_properties": {"$add": {"logins": 3}, "$append": {"regions": ["eu", "us"]}, "$prepend": {"notes": ["n1"]}, "$set": {"active": true, "arr": 12.5, "name": "Zo\u00eb \u4e2d \ud83d\ude00 \"q\"", "plan": "pro", "seats": 7, "tags": ["a", "b"]}, "$setOnce": {"first_plan": "free"}, "$unset": {"old": "-"}}, "groups": {"org id": "Acme Corp"}, "insert_id": "522085ee-1883-4975-8637-2971810ee618", "library": "amplitude-python/1.3.0", "time": 1795376731350}]}"#;

#[test]
fn am_26_the_official_client_says_the_same() {
    let change = addressed(
        "Acme Corp",
        json!({"set": {"plan": "pro", "arr": 12.5, "seats": 7, "active": true, "name": "Zoë 中 😀 \"q\"", "tags": ["a", "b"]},
            "set_once": {"first_plan": "free"}, "add": {"logins": 3}, "append": {"regions": ["eu", "us"]},
            "prepend": {"notes": ["n1"]}, "unset": ["old"]}),
    );
    let ours = HttpV2::new(&AmplitudeSettings::new(Secret::new("KEY")), "org id").unwrap();
    let (mut ours, mut theirs) = (body(&request(&ours, &[change])), serde_json::from_str::<Value>(PYTHON).unwrap());
    for said in [&mut ours, &mut theirs] {
        assert!(said["events"][0]["time"].is_u64() && said["events"][0]["insert_id"].is_string());
        let event = said["events"][0].as_object_mut().unwrap();
        ["time", "insert_id", "library"].iter().for_each(|differs| drop(event.remove(*differs)));
    }
    assert_eq!(ours, theirs);
}

#[test]
fn am_18_the_key_is_in_the_body_and_nowhere_else() {
    let http_v2 = http_v2();
    let request = request(&http_v2, &[addressed("acme", json!({"set": {"x": 1}}))]);
    let masked = http_v2.masked(&request);
    assert_eq!(body(&masked)["api_key"], json!("***"));
    assert_eq!(body(&masked)["events"], body(&request)["events"], "the rest is shown as it is");
    for shown in [format!("{request:?}"), request.url.clone(), format!("{:?}", request.headers)] {
        assert!(!shown.contains(KEY));
    }
    for status in [200, 400, 401, 413, 429, 500] {
        let answers = [
            json!({"error": KEY}),
            json!({"error": "e", "missing_field": KEY}),
            json!(KEY),
            json!({"error": "e", "events_with_invalid_fields": {KEY: [1]}}),
        ];
        for answer in answers {
            assert!(!format!("{:?}", interpret(status, answer)).contains(KEY), "{status}");
        }
    }
    let probe = http_v2.probe().unwrap();
    assert_eq!((probe.method, probe.url.as_str(), probe.body.len()), ("GET", "https://api2.amplitude.com/", 0));
}

#[test]
fn am_12_numbers_are_exact_or_refused_here_too() {
    let exact = number_value("0.1").unwrap();
    let said = String::from_utf8(request(&http_v2(), &[addressed("a", json!({"add": {"n": exact}}))]).body).unwrap();
    assert!(said.contains(r#""$add":{"n":0.1}"#), "{said}");
    for change in [json!({"set": {"n": number_value("9007199254740993").unwrap()}}), json!({"delete": true})] {
        assert!(http_v2().parts(&addressed("a", change)).is_err());
    }
    assert!(http_v2().parts(&addressed("a", json!({}))).unwrap().is_empty(), "nothing to say, nothing to send");
}

proptest! {
    #[test]
    fn am_25_any_reply_has_a_verdict(status in any::<u16>(), body in prop::collection::vec(any::<u8>(), 0..100), indexes in prop::collection::vec(any::<i64>(), 0..5)) {
        let named = json!({"events_with_invalid_fields": {"f": indexes}, "exceeded_daily_quota_users": body.len()});
        for body in [body, named.to_string().into()] {
            let verdict = http_v2().interpret(0, 3, &Response { status, body, ..Response::default() });
            let delivered = matches!(verdict, Verdict::Accepted { .. });
            prop_assert!(!delivered);
        }
        let body: Vec<u8> = json!({"code": 200, "events_ingested": 3}).to_string().into();
        for status in [status, 200] {
            let verdict = http_v2().interpret(0, 3, &Response { status, body: body.clone(), ..Response::default() });
            prop_assert_eq!(matches!(verdict, Verdict::Accepted { .. }), status == 200);
        }
    }

    #[test]
    fn am_20_any_text_arrives_whole(key in ".{1,40}", name in ".{1,40}", text in any::<String>()) {
        let change = AddressedChange { key: key.clone(), ..addressed("", json!({"set": {&name: &text}})) };
        let event = event(&http_v2(), &change);
        prop_assert_eq!(&event["groups"]["org id"], &json!(key));
        prop_assert_eq!(&event["group_properties"], &json!({"$set": {name: text}}));
    }
}
