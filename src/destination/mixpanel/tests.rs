use proptest::strategy::Strategy;
use serde_json::json as value;

use super::*;
use crate::destination::{AddressedChange, Attempt, Destination, Part, TraitShape, Verdict};
use crate::error::Kind;
use crate::io::http::{Applied, Response};
use crate::model::Op;
use crate::secret::Secret;
use serde_json::{Map, Value};
use std::sync::Arc;

const TOKEN: &str = "9f2c71b0e4d84a6f";

fn settings() -> MixpanelSettings {
    MixpanelSettings { token: Secret::new(TOKEN), region: None, base_url: None, long_strings: LongStrings::Reject }
}

fn mixpanel() -> Mixpanel {
    Mixpanel::new(&settings(), "company_id").unwrap()
}

fn addressed(change: Value) -> AddressedChange {
    let change = Arc::new(serde_json::from_value(change).unwrap());
    AddressedChange { key: "acme \"é\"".to_owned(), change, ..AddressedChange::default() }
}

/// The updates that a change becomes, part by part, without what all of them begin with.
fn updates(change: Value) -> Vec<Value> {
    let addressed = addressed(change);
    let parts = mixpanel().parts(&addressed).unwrap();
    let write = |part: &Part| {
        let mut update: Value = serde_json::from_slice(&mixpanel().element(&addressed, part).bytes).unwrap();
        let fields = update.as_object_mut().unwrap();
        for (name, expected) in [("$token", TOKEN), ("$group_key", "company_id"), ("$group_id", "acme \"é\"")] {
            assert_eq!(fields.remove(name).unwrap(), expected);
        }
        update
    };
    parts.iter().map(write).collect()
}

fn refusal(change: Value) -> String {
    mixpanel().parts(&addressed(change)).unwrap_err()
}

fn attempt() -> Attempt {
    Attempt { at: chrono::DateTime::UNIX_EPOCH, number: 1, request: 0 }
}

fn response(status: u16, body: &str) -> Response {
    Response { status, body: body.as_bytes().to_vec(), ..Response::default() }
}

#[test]
fn mp_01_a_request_is_an_array_of_updates() {
    let mixpanel = mixpanel();
    let said = addressed(value!({"set": {"plan": "pro", "n": 1.5}}));
    let element = mixpanel.element(&said, &mixpanel.parts(&said).unwrap()[0]);
    let request = mixpanel.request(0, &[&element, &element], attempt());
    assert_eq!(
        (request.method, request.url.as_str(), request.gzip),
        ("POST", "https://api.mixpanel.com/groups?strict=1&verbose=1&ip=0", false)
    );
    let one = r#"{"$token":"9f2c71b0e4d84a6f","$group_key":"company_id","$group_id":"acme \"é\"","$set":{"n":1.5,"plan":"pro"}}"#;
    assert_eq!(String::from_utf8(request.body.clone()).unwrap(), format!("[{one},{one}]"));
    let limits = mixpanel.limits(0);
    assert_eq!(request.body.len(), limits.envelope_bytes + 2 * element.bytes.len() + limits.separator_bytes);
    for (region, host) in [(MixpanelRegion::Us, "api"), (MixpanelRegion::Eu, "api-eu"), (MixpanelRegion::In, "api-in")]
    {
        let mixpanel = Mixpanel::new(&MixpanelSettings { region: Some(region), ..settings() }, "c").unwrap();
        assert!(mixpanel.request(0, &[], attempt()).url.starts_with(&format!("https://{host}.mixpanel.com/groups?")));
    }
}

#[test]
fn mp_02_every_operator_has_an_update_of_its_own() {
    let change = value!({"set": {"a": 1, "b": {"c": [1, null, "x"], "d": null}}, "set_once": {"first": "web"},
        "append": {"tags": ["x", 2]}, "unset": ["old", "older"]});
    assert_eq!(
        updates(change),
        [
            value!({"$unset": ["old", "older"]}),
            value!({"$set": {"a": 1, "b": {"c": [1, "x"]}}}),
            value!({"$set_once": {"first": "web"}}),
            value!({"$union": {"tags": ["x", 2]}}),
        ]
    );
    assert_eq!(updates(value!({"delete": true})), [value!({"$delete": ""})]);
    assert_eq!(updates(value!({})), Vec::<Value>::new());
}

#[test]
fn mp_03_an_update_keeps_to_its_limits_and_nothing_is_lost() {
    for (count, parts) in [(254, 1), (255, 1), (256, 2), (510, 2), (511, 3)] {
        let set: Map<String, Value> = (0..count).map(|at| (format!("t{at}"), value!(at))).collect();
        let all = updates(value!({"set": set, "unset": ["gone"]}));
        assert_eq!(all.len(), parts + 1, "{count}");
        let mut said = Map::new();
        for update in &all[1..] {
            let traits = update["$set"].as_object().unwrap().clone();
            assert!(traits.len() <= 255);
            said.extend(traits);
        }
        assert_eq!(said, set);
    }
    // Lists of 60 KB each: sixteen fit into a megabyte.
    let list: Vec<String> = (0..250).map(|at| format!("{at:0>238}")).collect();
    let set: Map<String, Value> = (0..40).map(|at| (format!("t{at}"), value!(list))).collect();
    let said = addressed(value!({"set": set}));
    let mixpanel = mixpanel();
    let parts = mixpanel.parts(&said).unwrap();
    assert_eq!(parts.iter().map(|part| part.change.set.len()).collect::<Vec<_>>(), [16, 16, 8]);
    for part in &parts {
        let bytes = mixpanel.element(&said, part).bytes.len();
        assert!(bytes <= mixpanel.limits(0).element_bytes_max, "{bytes}");
    }
}

#[test]
fn mp_04_what_mixpanel_would_change_is_refused_with_a_remedy() {
    let deep = value!({"a": {"b": {"c": {}}}});
    for (change, words) in [
        (value!({"set": {"n": null}}), "trait `n`: a null"),
        (value!({"set": {"s": "x".repeat(256)}}), "more than 255 bytes"),
        (value!({"set": {"s": "é".repeat(128)}}), "more than 255 bytes"),
        (value!({"set": {"l": [[1]]}}), "a list inside a list"),
        (value!({"set": {"l": vec![1; 256]}}), "more than 255 elements"),
        (value!({"set": {"d": deep}}), "deeper than 3 levels"),
        (value!({"set": {"x".repeat(256): 1}}), "name of more than 255 bytes"),
        (value!({"set": {"": 1}}), "empty name"),
        (value!({"append": {"l": ["a", "b", "a"]}}), "keeps each once"),
        (value!({"append": {"l": [{"a": 1}]}}), "only strings and numbers"),
        (value!({"add": {"n": 1}}), "Mixpanel has no `add`"),
        (value!({"set": {"n": 1}, "unset": ["n"]}), "has two operators"),
    ] {
        let reason = refusal(change);
        assert!(reason.contains(words), "{reason}");
    }
    let number: Value = serde_json::from_str(r#"{"set":{"n":9007199254740993}}"#).unwrap();
    assert!(refusal(number).contains("declare `as = \"string\"`"));
    assert_eq!(updates(value!({"set": {"s": "x".repeat(255), "d": {"a": {"b": 1}}, "l": vec![1; 255]}})).len(), 1);
    let mut no_key = addressed(value!({"set": {"n": 1}}));
    no_key.key.clear();
    assert!(mixpanel().parts(&no_key).unwrap_err().contains("key is empty"));
    no_key.key = "é".repeat(128);
    assert!(mixpanel().parts(&no_key).unwrap_err().contains("255 bytes"));
}

#[test]
fn mp_05_long_strings_are_cut_at_a_character() {
    let mixpanel = Mixpanel::new(&MixpanelSettings { long_strings: LongStrings::Truncate, ..settings() }, "c").unwrap();
    let said = addressed(value!({"set": {"s": format!("x{}", "é".repeat(300)), "l": ["y".repeat(256)]}}));
    let element = mixpanel.element(&said, &mixpanel.parts(&said).unwrap()[0]);
    let update: Value = serde_json::from_slice(&element.bytes).unwrap();
    assert_eq!(update["$set"], value!({"s": format!("x{}", "é".repeat(127)), "l": ["y".repeat(255)]}));
}

#[test]
fn mp_06_a_200_is_read() {
    let mixpanel = mixpanel();
    let refused = |body: &str| Verdict::rejected(format!("HTTP 200: {body}"));
    for (body, verdict) in [
        ("1", Verdict::ACCEPTED),
        (" 1\n", Verdict::ACCEPTED),
        (r#"{"status":1,"error":null}"#, Verdict::ACCEPTED),
        (r#"{"error":"","status":1}"#, Verdict::ACCEPTED),
        (r#"{"code":200,"num_records_imported":3,"status":"OK"}"#, Verdict::ACCEPTED),
        (r#"{"code":200,"num_records_imported":3}"#, Verdict::ACCEPTED),
        ("0", refused("0")),
        (r#"{"status":0,"error":"some data invalid"}"#, refused(r#"{"status":0,"error":"some data invalid"}"#)),
        (r#"{"status":1,"error":"oops"}"#, refused(r#"{"status":1,"error":"oops"}"#)),
        (r#"{"num_records_imported":0,"status":"OK"}"#, refused(r#"{"num_records_imported":0,"status":"OK"}"#)),
        (
            r#"{"code":200,"num_records_imported":2}"#,
            Verdict::Rejected {
                reason: r#"HTTP 200: {"code":200,"num_records_imported":2}"#.to_owned(),
                applied: Applied::Maybe,
            },
        ),
    ] {
        assert_eq!(mixpanel.interpret(0, 3, &response(200, body)), verdict, "{body}");
    }
    for body in [
        "",
        "<html>welcome</html>",
        "null",
        "2",
        "true",
        "[]",
        "{}",
        r#"{"status":"Ok"}"#,
        r#"{"status":"error"}"#,
        r#"{"status":1"#,
    ] {
        let verdict = mixpanel.interpret(0, 3, &response(200, body));
        assert!(matches!(verdict, Verdict::Stop { applied: Applied::Maybe, .. }), "{body}: {verdict:?}");
    }
}

#[test]
fn mp_07_named_updates_are_refused_alone() {
    let body = r#"{"code":400,"status":"Bad Request","error":"Some data points in the request failed validation.",
        "num_records_imported":1,
        "failed_records":[{"index":2,"field":"$set","message":"too many"},{"index":0,"message":"no 9f2c71b0e4d84a6f"},{"index":3},{"x":1}]}"#;
    for status in [200, 400] {
        let elements = vec![(2, format!("HTTP {status}: $set: too many")), (0, format!("HTTP {status}: no ***"))];
        assert_eq!(mixpanel().interpret(0, 3, &response(status, body)), Verdict::RejectedSome { elements });
    }
}

#[test]
fn mp_08_statuses_have_their_meaning() {
    let mixpanel = mixpanel();
    let verdict = |status, body: &str| mixpanel.interpret(0, 2, &response(status, body));
    for body in [r#"{"status":0,"error":"token, missing or empty"}"#, r#"{"error":"Invalid project token"}"#] {
        assert!(matches!(verdict(200, body), Verdict::Stop { .. }), "{body}");
    }
    let named = r#"{"failed_records":[{"index":0,"field":"$token","message":"is missing"}]}"#;
    assert!(matches!(verdict(400, named), Verdict::Stop { .. }));
    let trait_called_token = r#"{"failed_records":[{"index":0,"field":"$set.token","message":"is wrong"}]}"#;
    assert!(matches!(verdict(400, trait_called_token), Verdict::RejectedSome { .. }));
    for status in [301, 401, 402, 403, 404, 405, 407] {
        assert!(matches!(verdict(status, "no"), Verdict::Stop { .. }), "{status}");
    }
    assert_eq!(verdict(400, "no"), Verdict::rejected("HTTP 400: no".to_owned()));
    assert_eq!(verdict(413, ""), Verdict::TooLarge { reason: "HTTP 413".to_owned() });
    assert!(matches!(verdict(429, ""), Verdict::Retry { applied: Applied::No, .. }));
    for status in [408, 500, 502, 503, 504] {
        assert!(matches!(verdict(status, ""), Verdict::Retry { applied: Applied::Maybe, .. }), "{status}");
    }
    for status in 0..1_000 {
        assert_eq!(matches!(verdict(status, "1"), Verdict::Accepted { .. }), status == 200, "{status}");
    }
}

#[test]
fn mp_09_the_token_is_never_shown() {
    let mixpanel = mixpanel();
    let said = addressed(value!({"set": {"note": "x"}}));
    let element = mixpanel.element(&said, &mixpanel.parts(&said).unwrap()[0]);
    let shown = mixpanel.masked(&mixpanel.request(0, &[&element, &element], attempt()));
    let text = String::from_utf8(shown.body).unwrap();
    assert_eq!(text.matches(r#""$token":"***""#).count(), 2);
    assert!(!text.contains("71b0e4d84a6f") && !shown.url.contains("71b0e4d84a6f"), "{text}");
    assert!(serde_json::from_str::<Value>(&text).is_ok());
    let said = mixpanel.interpret(0, 1, &response(500, &format!("{TOKEN} and {}", json(TOKEN))));
    assert!(!format!("{said:?}").contains("71b0e4d84a6f"), "{said:?}");
    let short = Mixpanel::new(&MixpanelSettings { token: Secret::new("abc"), ..settings() }, "c").unwrap();
    let element = short.element(&addressed(value!({"set": {"n": 1}})), &Part { route: 0, change: Arc::default() });
    let shown = short.masked(&short.request(0, &[&element], attempt()));
    assert!(!String::from_utf8(shown.body).unwrap().contains("abc"));
}

#[test]
fn mp_10_names_of_mixpanels_own_are_remarked() {
    let shape = |name| TraitShape { name, op: Op::Set, declared: None, constant: None, members: None, always: false };
    let names: Vec<_> = ["plan", "$name", "$email", "mp_country", "dollar$"].map(shape).into();
    let about: Vec<_> = mixpanel().findings(&names).into_iter().map(|remark| remark.about.unwrap()).collect();
    assert_eq!(about, ["$email", "mp_country"]);
}

#[test]
fn mp_11_wrong_settings_are_told() {
    for (settings, group_type) in [
        (MixpanelSettings { token: Secret::new(""), ..settings() }, "company_id"),
        (MixpanelSettings { token: Secret::new("a token"), ..settings() }, "company_id"),
        (MixpanelSettings { token: Secret::new("a\"token"), ..settings() }, "company_id"),
        (settings(), ""),
        (MixpanelSettings { base_url: Some("nowhere".to_owned()), ..settings() }, "company_id"),
    ] {
        assert_eq!(Mixpanel::new(&settings, group_type).err().unwrap().kind(), Kind::Config);
    }
}

proptest::proptest! {
    #[test]
    fn any_answer_has_a_verdict(
        status in 0_u16..1_000,
        elements in 1_usize..5,
        body in proptest::prelude::prop_oneof![
            proptest::prelude::any::<Vec<u8>>(),
            r#"(\{"(status|error|failed_records|num_records_imported)":)?(\[?\{?"?(index|field|message|1|0|-1|null|1e99)"?:?(1|null|"x")?\}?\]?)(\})?"#
                .prop_map(String::into_bytes),
        ],
    ) {
        match mixpanel().interpret(0, elements, &Response { status, body, ..Response::default() }) {
            Verdict::Accepted { .. } => proptest::prop_assert!((200..300).contains(&status)),
            Verdict::RejectedSome { elements: named } => {
                proptest::prop_assert!(!named.is_empty() && named.iter().all(|(index, _)| *index < elements));
            }
            _ => {}
        }
    }
}
