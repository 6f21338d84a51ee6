use serde_json::{Value, json};

use super::*;
use crate::destination::{AddressedChange, Attempt, Destination, Element, User, Verdict};
use crate::error::{Error, Kind};
use crate::io::http::{Applied, Response};
use crate::secret::Secret;
use std::sync::Arc;

fn settings() -> WebhookSettings {
    WebhookSettings { url: "https://hooks.example.com/in/groups".to_owned(), ..WebhookSettings::default() }
}

fn headers(headers: &[(&str, &str)]) -> Option<toml::Table> {
    Some(headers.iter().map(|(name, value)| ((*name).to_owned(), toml::Value::from(*value))).collect())
}

fn webhook(settings: &WebhookSettings) -> Webhook {
    Webhook::new(settings, "company").unwrap()
}

fn addressed(key: &str, change: Value) -> AddressedChange {
    let at = chrono::DateTime::from_timestamp_millis(1_700_000_000_250).unwrap();
    let change = Arc::new(serde_json::from_value(change).unwrap());
    AddressedChange { key: key.to_owned(), change, at, settled_seq: 3, user: None, ..AddressedChange::default() }
}

fn element(webhook: &Webhook, addressed: &AddressedChange) -> Element {
    webhook.element(addressed, &webhook.parts(addressed).unwrap()[0])
}

fn attempt(seconds: i64) -> Attempt {
    Attempt { at: chrono::DateTime::from_timestamp(seconds, 0).unwrap(), number: 1, request: 0 }
}

fn response(status: u16, headers: &[(&str, &str)], body: &str) -> Response {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Response { status, headers, body: body.as_bytes().to_vec(), ..Response::default() }
}

fn problem(settings: WebhookSettings) -> Error {
    let error = Webhook::new(&settings, "company").err().unwrap();
    assert_eq!(error.kind(), Kind::Config);
    assert!(!format!("{error:?} {error} {:?}", error.advice()).contains("hunter2"), "{error:?}");
    error
}

#[test]
fn wh_01_a_change_says_only_what_it_says_and_digits_stay() {
    let webhook = webhook(&settings());
    let change: Value = serde_json::from_str(
        r#"{"set":{"arr":12345678901234567890.123,"note":null},"set_once":{"first":"web"},"add":{"n":1},"unset":["plan"]}"#,
    )
    .unwrap();
    let said = addressed("b \"c\"", change);
    let text = String::from_utf8(element(&webhook, &said).bytes).unwrap();
    let (id, rest) = text[7..].split_at(36);
    assert!(text.starts_with(r#"{"id":""#) && id.bytes().filter(|byte| *byte == b'-').count() == 4, "{text}");
    assert_eq!(
        rest,
        concat!(
            r#"","group_type":"company","key":"b \"c\"","at":"2023-11-14T22:13:20.250Z","#,
            r#""set":{"arr":12345678901234567890.123,"note":null},"set_once":{"first":"web"},"add":{"n":1},"unset":["plan"]}"#
        )
    );
    let gone: Value =
        serde_json::from_slice(&element(&webhook, &addressed("x", json!({"delete": true}))).bytes).unwrap();
    assert_eq!(gone["delete"], true);
    for (user, written) in [
        (None, Value::Null),
        (Some(User::Id("u".to_owned())), json!({"id": "u"})),
        (Some(User::Anonymous("u".to_owned())), json!({"anonymous_id": "u"})),
    ] {
        let said = AddressedChange { user, ..addressed("x", json!({"set": {"n": 1}})) };
        let value: Value = serde_json::from_slice(&element(&webhook, &said).bytes).unwrap();
        assert_eq!(value["user"], written);
    }
    assert!(webhook.parts(&addressed("x", json!({}))).unwrap().is_empty());
}

#[test]
fn wh_02_bodies_hold_one_change_or_several_within_the_limits() {
    let (a, b) = (addressed("a", json!({"set": {"n": 1}})), addressed("b", json!({"unset": ["n"]})));
    let batch = webhook(&WebhookSettings { batch_max: Some(7), bytes_max: Some(5_000), ..settings() });
    let elements = [element(&batch, &a), element(&batch, &b)];
    let body = batch.request(0, &elements.each_ref(), attempt(0)).body;
    let limits = batch.limits(0);
    assert_eq!((limits.elements_max, limits.body_bytes_max), (7, 5_000));
    let inner: usize = elements.iter().map(|element| element.bytes.len()).sum();
    assert_eq!(body.len(), limits.envelope_bytes + inner + limits.separator_bytes);
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((body["changes"][0]["key"].as_str(), body["changes"][1]["key"].as_str()), (Some("a"), Some("b")));
    let single = webhook(&WebhookSettings { body: WebhookBody::Single, batch_max: Some(7), ..settings() });
    assert_eq!((single.limits(0).elements_max, single.limits(0).envelope_bytes), (1, 0));
    let body = single.request(0, &[&elements[0]], attempt(0)).body;
    assert_eq!(body, elements[0].bytes);
    for (method, name) in [(WebhookMethod::Post, "POST"), (WebhookMethod::Put, "PUT"), (WebhookMethod::Patch, "PATCH")]
    {
        assert_eq!(webhook(&WebhookSettings { method, ..settings() }).request(0, &[], attempt(0)).method, name);
    }
}

#[test]
fn wh_03_the_id_stays_for_a_repetition_and_is_new_for_all_else() {
    let webhook = webhook(&settings());
    let id = |addressed: &AddressedChange| -> String {
        let value: Value = serde_json::from_slice(&element(&webhook, addressed).bytes).unwrap();
        value["id"].as_str().unwrap().to_owned()
    };
    let first = addressed("a", json!({"set": {"n": 1}}));
    assert_eq!(id(&first), id(&addressed("a", json!({"set": {"n": 1}}))), "said again within a run");
    let later_run = AddressedChange { at: first.at + std::time::Duration::from_millis(1), ..first.clone() };
    assert_ne!(id(&first), id(&later_run), "what lies between is not known");
    assert_ne!(id(&first), id(&AddressedChange { settled_seq: 4, ..first.clone() }), "said again after it was settled");
    assert_ne!(id(&first), id(&addressed("a", json!({"set": {"n": 2}}))));
    assert_ne!(id(&first), id(&addressed("b", json!({"set": {"n": 1}}))));
}

#[test]
fn wh_04_only_a_receiver_that_remembers_is_told_an_accumulating_change_twice() {
    let (set, add) = (json!({"set": {"n": 1}}), json!({"add": {"n": 1}, "set": {"m": 1}}));
    let plain = webhook(&settings());
    let route = |change: &Value| plain.parts(&addressed("a", change.clone())).unwrap()[0].route;
    assert_ne!(route(&set), route(&add));
    assert!(plain.repeatable(route(&set)) && !plain.repeatable(route(&add)));
    let remembering = webhook(&WebhookSettings { dedup: true, ..settings() });
    assert!(remembering.repeatable(route(&set)) && remembering.repeatable(route(&add)));
}

#[test]
fn wh_05_headers_are_sent_and_their_values_never_shown() {
    let webhook = webhook(&WebhookSettings {
        headers: headers(&[("X-Team", "data"), ("X-Env", "prod")]),
        auth_header: Some(Secret::new("Authorization: Bearer hunter2hunter2\nX-Api-Key: letmein99")),
        secret_path: Some(Secret::new("/catch/s3cr3t?x=1")),
        signing_secret: Some(Secret::new("whsec-test-0123456789")),
        ..settings()
    });
    let request = webhook.request(0, &[], attempt(1_700_000_000));
    assert_eq!(request.url, "https://hooks.example.com/in/groups/catch/s3cr3t?x=1");
    let sent = |name: &str| request.headers.iter().find(|header| header.0 == name).map(|header| header.1.as_str());
    assert_eq!(sent("content-type"), Some("application/json"));
    assert_eq!((sent("x-team"), sent("x-env")), (Some("data"), Some("prod")));
    assert_eq!((sent("authorization"), sent("x-api-key")), (Some("Bearer hunter2hunter2"), Some("letmein99")));
    assert_eq!(sent("x-groupcast-timestamp"), Some("1700000000"));
    // The documented vector: this very body at this very time.
    assert_eq!(
        sent("x-groupcast-signature"),
        Some("v1=91ab098b3515ebff27184a2cd0407c77f008c80de0471f5fbd3d9b0940fe81eb")
    );
    let shown = webhook.masked(&request);
    let text = format!("{} {:?}", shown.url, shown.headers);
    for secret in ["hunter2", "letmein99", "s3cr3t", "v1=91ab", "data", "prod"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    assert!(text.contains("https://hooks.example.com/in/groups/***") && text.contains("x-team"), "{text}");
    let echo = "Bearer hunter2hunter2, hunter2hunter2, letmein99, /catch/s3cr3t?x=1, whsec-test-0123456789";
    let verdict = webhook.interpret(0, 1, &response(500, &[], echo));
    assert!(!format!("{verdict:?}").contains("hunter2") && !format!("{verdict:?}").contains("s3cr3t"), "{verdict:?}");
    assert!(!format!("{verdict:?}").contains("letmein99") && !format!("{verdict:?}").contains("whsec"), "{verdict:?}");
    let probe = webhook.probe().unwrap();
    assert_eq!((probe.method, probe.url.as_str(), probe.headers.len()), ("GET", "https://hooks.example.com/", 0));
    let own_type = WebhookSettings { headers: headers(&[("Content-Type", "application/vnd.acme+json")]), ..settings() };
    let headers = self::webhook(&own_type).request(0, &[], attempt(0)).headers;
    assert_eq!(headers, [("content-type", "application/vnd.acme+json".to_owned())]);
}

#[test]
fn wh_06_a_repeated_request_is_signed_anew_over_the_same_body() {
    let settings = WebhookSettings {
        signing_secret: Some(Secret::new("whsec-test-0123456789")),
        signature_header: Some("X-Hub-Signature".to_owned()),
        timestamp_header: Some("X-Hub-Time".to_owned()),
        ..settings()
    };
    let webhook = webhook(&settings);
    let change = element(&webhook, &addressed("a", json!({"set": {"n": 1}})));
    let (first, second) = (webhook.request(0, &[&change], attempt(10)), webhook.request(0, &[&change], attempt(20)));
    assert_eq!(first.body, second.body);
    let names: Vec<&str> = first.headers.iter().map(|header| header.0).collect();
    assert_eq!(names, ["content-type", "x-hub-signature", "x-hub-time"]);
    assert_ne!(first.headers[1], second.headers[1]);
    assert_eq!(second.headers[2].1, "20");
}

#[test]
fn wh_07_statuses_have_their_meaning() {
    let webhook = webhook(&settings());
    let verdict = |status| webhook.interpret(0, 2, &response(status, &[("retry-after", "30")], "words"));
    for status in [301, 308, 401, 403, 404, 405, 407, 410] {
        assert!(matches!(verdict(status), Verdict::Stop { .. }), "{status}");
    }
    for status in [400, 409, 422, 499] {
        assert_eq!(verdict(status), Verdict::rejected(format!("HTTP {status}: words")));
    }
    let after = Some(std::time::Duration::from_secs(30));
    for (status, applied) in
        [(408, Applied::Maybe), (425, Applied::No), (429, Applied::No), (500, Applied::Maybe), (503, Applied::Maybe)]
    {
        assert_eq!(verdict(status), Verdict::Retry { reason: format!("HTTP {status}: words"), after, applied });
    }
    assert!(matches!(verdict(413), Verdict::TooLarge { .. }));
    for status in 0..1_000 {
        assert_eq!(matches!(verdict(status), Verdict::Accepted { .. }), (200..300).contains(&status), "{status}");
    }
}

#[test]
fn wh_08_the_operators_rule_decides_what_a_success_is() {
    let webhook = webhook(&WebhookSettings {
        success: Some("200".to_owned()),
        success_pointer: Some("/ok".to_owned()),
        success_equals: Some("true".to_owned()),
        ..settings()
    });
    let verdict = |status, body| webhook.interpret(0, 2, &response(status, &[], body));
    assert_eq!(verdict(200, r#"{"ok":true}"#), Verdict::ACCEPTED);
    let reason = r#"HTTP 200: {"ok":false} (`/ok` in the response is not true)"#.to_owned();
    assert_eq!(verdict(200, r#"{"ok":false}"#), Verdict::rejected(reason));
    let unlisted =
        Verdict::Rejected { reason: "HTTP 207 (207 is not in `success`)".to_owned(), applied: Applied::Maybe };
    assert_eq!(verdict(207, ""), unlisted, "what the receiver did is not known");
}

#[test]
fn wh_08_a_page_is_no_success_unless_the_operator_says_so() {
    let page = |settings: &WebhookSettings, kind, body: &str| {
        webhook(settings).interpret(0, 2, &response(200, &[("content-type", kind)], body))
    };
    let by_status = WebhookSettings { success: Some("200".to_owned()), ..settings() };
    let by_value = WebhookSettings {
        success_pointer: Some("/ok".to_owned()),
        success_equals: Some("true".to_owned()),
        ..settings()
    };
    for (kind, body) in [("text/html; charset=utf-8", "ok"), ("text/plain", "<!DOCTYPE html><html></html>")] {
        for settings in [settings(), by_value.clone()] {
            let verdict = page(&settings, kind, body);
            let Verdict::Stop { advice, applied: Applied::Maybe, .. } = verdict else { panic!("{verdict:?}") };
            assert!(advice.starts_with("check `url`") && advice.contains("success = \"200\""), "{advice}");
        }
        assert_eq!(page(&by_status, kind, body), Verdict::ACCEPTED, "the operator's rule");
    }
    for (kind, body) in [("text/html", ""), ("text/xml", "<ok/>"), ("application/json", "{}"), ("text/plain", "ok")] {
        assert_eq!(page(&settings(), kind, body), Verdict::ACCEPTED, "{kind} {body}");
    }
    let none = webhook(&by_value).interpret(0, 2, &response(200, &[], "{}"));
    assert!(matches!(none, Verdict::Rejected { applied: Applied::Maybe, .. }), "it did not say: {none:?}");
}

#[test]
fn wh_09_wrong_settings_are_told_without_their_secrets() {
    let with_url = |url: &str| WebhookSettings { url: url.to_owned(), ..settings() };
    for url in
        ["", "hooks.example.com", "ftp://h/x", "https://u:hunter2@h/", "https://h/?token=hunter2", "https://h/#a"]
    {
        assert!(problem(with_url(url)).advice().unwrap().contains("secret_path"), "{url}");
    }
    for path in ["@evil.example/hunter2 x", "/a#hunter2", "/a b hunter2"] {
        problem(WebhookSettings { secret_path: Some(Secret::new(path)), ..settings() });
    }
    problem(WebhookSettings { auth_header: Some(Secret::new("hunter2")), ..settings() });
    problem(WebhookSettings { headers: headers(&[("Authorization", "hunter2")]), ..settings() });
    problem(WebhookSettings {
        headers: headers(&[("X-A", "1")]),
        auth_header: Some(Secret::new("x-a: hunter2")),
        ..settings()
    });
    problem(WebhookSettings { signing_secret: Some(Secret::new("hunter2")), ..settings() });
    let key = Some(Secret::new("hunter2hunter2hunter2"));
    problem(WebhookSettings { signing_secret: key.clone(), signature_header: Some("a b".to_owned()), ..settings() });
    problem(WebhookSettings {
        signing_secret: key,
        signature_header: Some("x-groupcast-timestamp".to_owned()),
        ..settings()
    });
    problem(WebhookSettings { success: Some("500".to_owned()), ..settings() });
}

#[test]
fn wh_10_the_secret_rest_of_an_address_stays_at_its_host() {
    let url = |shown: &str, rest: &str| {
        let settings = WebhookSettings {
            url: shown.to_owned(),
            secret_path: Some(Secret::new(rest)),
            ..WebhookSettings::default()
        };
        webhook(&settings).request(0, &[], attempt(0)).url
    };
    assert_eq!(url("https://h.example", "/catch/1"), "https://h.example/catch/1");
    assert_eq!(url("https://h.example/a/", "catch/1"), "https://h.example/a/catch/1");
    assert_eq!(url("https://h.example/a", "?t=1"), "https://h.example/a?t=1");
    assert_eq!(url("https://h.example", "//evil.example/x"), "https://h.example//evil.example/x");
    assert_eq!(url("https://h.example", "@evil.example"), "https://h.example/@evil.example");
}
