//! The statements AM-01 … AM-18 of the wire reference that are about bytes and meanings; those about sequences of
//! requests are in `tests/it/amplitude.rs`.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::encode::encoded_bytes;
use super::properties::Slot;
use super::*;
use crate::destination::{AddressedChange, Attempt, Destination, Element, Part, Route, TraitShape, Verdict};
use crate::error::Kind;
use crate::io::http::Applied;
use crate::io::http::{Request, Response};
use crate::model::document::number_value;
use crate::model::{Change, Op};
use crate::secret::Secret;
use std::sync::Arc;
use std::time::Duration;

const KEY: &str = "k+y &=%é";

fn settings() -> AmplitudeSettings {
    AmplitudeSettings::new(Secret::new(KEY))
}

const ATTEMPT: Attempt = Attempt { at: chrono::DateTime::UNIX_EPOCH, number: 1, request: 0 };

fn amplitude() -> Amplitude {
    Amplitude::new(&settings(), "org id").unwrap()
}

fn truncating() -> Amplitude {
    Amplitude::new(&AmplitudeSettings { long_strings: LongStrings::Truncate, ..settings() }, "org id").unwrap()
}

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

/// The request that carries all parts of these changes, each an element of its own.
fn request(amplitude: &Amplitude, changes: &[AddressedChange]) -> Request {
    let elements: Vec<Element> = changes
        .iter()
        .flat_map(|change| {
            let parts = amplitude.parts(change).unwrap();
            parts.into_iter().map(|part| amplitude.element(change, &part)).collect::<Vec<_>>()
        })
        .collect();
    amplitude.request(0, &elements.iter().collect::<Vec<_>>(), ATTEMPT)
}

/// A form's fields, as a form parser reads them.
fn fields(request: &Request) -> Vec<(String, String)> {
    form_urlencoded::parse(&request.body).into_owned().collect()
}

fn identifications(request: &Request) -> Vec<Map<String, Value>> {
    serde_json::from_str(&fields(request)[1].1).unwrap()
}

fn response(status: u16, body: &str) -> Response {
    Response { status, body: body.into(), ..Response::default() }
}

fn interpret(status: u16, body: &str) -> Verdict {
    amplitude().interpret(0, 2, &response(status, body))
}

#[test]
fn am_01_one_post_of_a_form_to_the_regions_address() {
    let change = [addressed("acme", json!({"set": {"plan": "pro"}}))];
    for (region, base_url, url) in [
        (None, None, "https://api2.amplitude.com/groupidentify"),
        (Some(AmplitudeRegion::Us), None, "https://api2.amplitude.com/groupidentify"),
        (Some(AmplitudeRegion::Eu), None, "https://api.eu.amplitude.com/groupidentify"),
        (Some(AmplitudeRegion::Eu), Some("http://127.0.0.1:8321/"), "http://127.0.0.1:8321/groupidentify"),
    ] {
        let settings = AmplitudeSettings { region, base_url: base_url.map(str::to_owned), ..settings() };
        let request = request(&Amplitude::new(&settings, "company").unwrap(), &change);
        assert_eq!((request.method, request.url.as_str()), ("POST", url));
        assert!(!request.url.contains('?'));
        assert_eq!(request.headers, [("content-type", "application/x-www-form-urlencoded".to_owned())]);
        assert!(!request.gzip, "compression is not documented for this API");
    }
}

#[test]
fn am_02_the_body_is_two_fields_and_the_second_an_array_of_identifications() {
    let changes = [addressed("a", json!({"set": {"x": 1}})), addressed("b", json!({"unset": ["x"]}))];
    let request = request(&amplitude(), &changes);
    let fields = fields(&request);
    assert_eq!(fields.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["api_key", "identification"]);
    assert_eq!(fields[0].1, KEY);
    let identifications = identifications(&request);
    assert_eq!(identifications.len(), 2);
    for identification in identifications {
        let keys: Vec<&String> = identification.keys().collect();
        assert_eq!(keys, ["group_properties", "group_type", "group_value"]);
        assert!(identification["group_properties"].is_object());
    }
}

const NASTY: &str = "& = + % space # \" \n \0 é 中 😀 \u{2028} \\ ' < > ; ? / \u{7f}";

#[test]
fn am_03_every_character_survives_the_form() {
    let settings = settings();
    let amplitude = Amplitude::new(&settings, NASTY).unwrap();
    let mut change = Change::default();
    change.set.insert(NASTY.to_owned(), json!(NASTY));
    let request = request(
        &amplitude,
        &[AddressedChange { key: NASTY.to_owned(), change: Arc::new(change), ..AddressedChange::default() }],
    );
    let body = String::from_utf8(request.body.clone()).unwrap();
    assert!(body.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"%+*-._=&".contains(&byte)));
    assert_eq!((body.matches('&').count(), body.matches('=').count()), (1, 2));
    assert!(body.contains("%2B"), "a literal plus");
    assert_eq!(fields(&request)[0].1, KEY);
    let identification = &identifications(&request)[0];
    assert_eq!(identification["group_type"], json!(NASTY));
    assert_eq!(identification["group_value"], json!(NASTY));
    assert_eq!(identification["group_properties"], json!({"$set": {NASTY: NASTY}}));
}

#[test]
fn am_04_group_types_and_values_are_strings_and_may_hold_spaces() {
    let changes = [addressed("Acme Corp", json!({"set": {"x": 1}})), addressed("12345678", json!({"set": {"x": 1}}))];
    let identifications = identifications(&request(&amplitude(), &changes));
    assert_eq!(identifications[0]["group_type"], json!("org id"));
    assert_eq!(identifications[0]["group_value"], json!("Acme Corp"));
    assert_eq!(identifications[1]["group_value"], json!("12345678"), "a numeric key is a string");
}

#[test]
fn am_05_the_limits_are_the_documented_ones_and_the_body_is_counted_exactly() {
    let amplitude = amplitude();
    let limits = amplitude.limits(0);
    assert_eq!((limits.elements_max, limits.traits_max, limits.body_bytes_max), (1_024, 1_024, 1_000_000));
    for count in 0..4 {
        let elements: Vec<Element> = (0..count)
            .map(|at| {
                let change = addressed(&"k".repeat(at + 1), json!({}));
                amplitude.element(&change, &Part { route: 0, change: Arc::default() })
            })
            .collect();
        let all: Vec<&Element> = elements.iter().collect();
        let inner = elements.iter().map(|element| element.bytes.len()).sum::<usize>()
            + limits.separator_bytes * count.max(1)
            - limits.separator_bytes;
        assert_eq!(amplitude.request(0, &all, ATTEMPT).body.len(), limits.envelope_bytes + inner);
    }
}

/// Puts parts together again.
fn union(parts: &[Part]) -> Change {
    let mut whole = Change::default();
    for part in parts {
        for slot in Slot::all(&part.change) {
            slot.put(&mut whole);
        }
    }
    whole
}

fn wide(sets: usize, unsets: usize) -> AddressedChange {
    let set: Map<String, Value> = (0..sets).map(|at| (format!("s{at}"), json!(at))).collect();
    let unset: Vec<String> = (0..unsets).map(|at| format!("u{at}")).collect();
    addressed("acme", json!({"set": set, "unset": unset}))
}

#[test]
fn am_06_a_change_of_more_than_1024_traits_is_cut_into_disjoint_parts() {
    for (sets, unsets, counts) in [
        (1_023, 0, vec![1_023]),
        (1_024, 0, vec![1_024]),
        (1_000, 24, vec![1_024]),
        (1_025, 0, vec![1_024, 1]),
        (1_000, 1_100, vec![1_024, 1_024, 52]),
    ] {
        let change = wide(sets, unsets);
        let parts = amplitude().parts(&change).unwrap();
        assert_eq!(parts.iter().map(|part| part.change.traits_count()).collect::<Vec<_>>(), counts);
        assert_eq!(union(&parts), *change.change, "said whole");
    }
}

#[test]
fn am_06_a_change_of_more_than_a_megabyte_is_cut_by_bytes() {
    let text = "😀".repeat(1_024);
    let set: Map<String, Value> = (0..300).map(|at| (format!("t{at}"), json!(text))).collect();
    let change = addressed("acme", json!({"set": set}));
    let amplitude = amplitude();
    let parts = amplitude.parts(&change).unwrap();
    assert_eq!(union(&parts), *change.change);
    // 300 × 12,300 bytes.
    assert_eq!(parts.len(), 4);
    for part in &parts {
        let element = amplitude.element(&change, part);
        assert!(amplitude.request(0, &[&element], ATTEMPT).body.len() <= BODY_BYTES_MAX);
    }
}

#[test]
fn am_07_operators_only() {
    let change = addressed("acme", json!({"set": {"a": 1}, "set_once": {"b": 2}, "unset": ["c"]}));
    let identification = &identifications(&request(&amplitude(), &[change]))[0];
    assert_eq!(
        identification["group_properties"],
        json!({"$set": {"a": 1}, "$setOnce": {"b": 2}, "$unset": {"c": "-"}})
    );
}

#[test]
fn am_08_removal_is_unset_with_a_dash_and_no_trait_is_under_two_operators() {
    let identification =
        &identifications(&request(&amplitude(), &[addressed("acme", json!({"unset": ["a", "b"]}))]))[0];
    assert_eq!(identification["group_properties"], json!({"$unset": {"a": "-", "b": "-"}}));
    for twice in [
        json!({"set": {"a": 1}, "unset": ["a"]}),
        json!({"set_once": {"a": 1}, "unset": ["a"]}),
        json!({"set": {"a": 1}, "set_once": {"a": 1}}),
        json!({"set": {"a": 1}, "add": {"a": 1}}),
        json!({"add": {"a": 1}, "unset": ["a"]}),
        json!({"append": {"a": [1]}, "prepend": {"a": [1]}}),
    ] {
        assert!(amplitude().parts(&addressed("acme", twice)).unwrap_err().contains("trait `a` has two operators"));
    }
}

#[test]
fn am_09_what_is_set_is_never_accumulated() {
    let features = amplitude().features();
    assert!(!features.delete && !features.exact_numbers && !features.gzip);
    let change = addressed("acme", json!({"set": {"a": [1], "n": 5}, "set_once": {"b": 2}, "unset": ["c"]}));
    assert_eq!(amplitude().parts(&change).unwrap().iter().map(|part| part.route).collect::<Vec<_>>(), [REPEATABLE]);
    let said = fields(&request(&amplitude(), &[change]))[1].1.clone();
    for operator in ["$add", "$append", "$prepend"] {
        assert!(!said.contains(operator));
    }
}

#[test]
fn am_09_what_accumulates_travels_apart_and_is_not_repeated() {
    let amplitude = amplitude();
    assert_eq!(amplitude.features().ops, Op::ALL);
    assert!(amplitude.repeatable(REPEATABLE) && !amplitude.repeatable(ONCE));
    assert!(amplitude.limits(ONCE).elements_max <= 100, "a failure holds few groups");
    let all = json!({"set": {"a": 1}, "set_once": {"b": 2}, "unset": ["c"],
        "add": {"n": -1.5}, "append": {"tags": ["x", "y"]}, "prepend": {"log": ["z"]}});
    for (change, said) in [
        (
            all,
            vec![
                (REPEATABLE, json!({"$set": {"a": 1}, "$setOnce": {"b": 2}, "$unset": {"c": "-"}})),
                (ONCE, json!({"$add": {"n": -1.5}, "$append": {"tags": ["x", "y"]}, "$prepend": {"log": ["z"]}})),
            ],
        ),
        (json!({"add": {"n": 1}}), vec![(ONCE, json!({"$add": {"n": 1}}))]),
        (json!({"set": {"n": 1}}), vec![(REPEATABLE, json!({"$set": {"n": 1}}))]),
    ] {
        let change = addressed("acme", change);
        let parts = amplitude.parts(&change).unwrap();
        let told = parts.iter().map(|part| {
            let element = amplitude.element(&change, part);
            let request = amplitude.request(part.route, &[&element], ATTEMPT);
            assert_eq!(request.url, "https://api2.amplitude.com/groupidentify");
            (part.route, identifications(&request)[0]["group_properties"].clone())
        });
        assert_eq!(told.collect::<Vec<_>>(), said);
        assert_eq!(union(&parts), *change.change);
    }
}

#[test]
fn am_09_what_accumulates_obeys_the_rules_of_values() {
    let long = "x".repeat(1_025);
    for (change, word) in [
        (json!({"add": {"t": "5"}}), "only numbers can be added"),
        (json!({"add": {"t": null}}), "only numbers can be added"),
        (json!({"add": {"t": number_value("9007199254740993").unwrap()}}), "Amplitude would round"),
        (json!({"append": {"t": [number_value("0.1234567890123456789").unwrap()]}}), "Amplitude would round"),
        (json!({"append": {"t": [["a"]]}}), "array inside an array"),
        (json!({"prepend": {"t": [{"in": [[1]]}]}}), "array inside an array"),
        (json!({"prepend": {"t": [long]}}), "more than 1,024 characters"),
        (json!({"append": {"t": null}}), "on_null"),
        (json!({"prepend": {"t": [nested(39)]}}), "40 levels"),
        (json!({"append": {"t": vec!["x".repeat(1_000); 1_000]}}), "which holds at most"),
    ] {
        let reason = amplitude().parts(&addressed("acme", change)).unwrap_err();
        assert!(reason.contains("trait `t`") && reason.contains(word), "{reason}");
    }
    let change =
        json!({"append": {"t": ["a", null, {"b": null, "c": 1}]}, "prepend": {"u": [long]}, "add": {"n": 0.1}});
    let change = addressed("acme", change);
    let parts = truncating().parts(&change).unwrap();
    let element = truncating().element(&change, &parts[0]);
    let said = &identifications(&truncating().request(ONCE, &[&element], ATTEMPT))[0]["group_properties"];
    assert_eq!(
        *said,
        json!({"$add": {"n": 0.1}, "$append": {"t": ["a", {"c": 1}]}, "$prepend": {"u": [&long[1..]]}}),
        "without nulls, cut"
    );
}

#[test]
fn am_06_what_accumulates_is_cut_as_well() {
    let traits = |prefix: &str, count: usize| -> Map<String, Value> {
        (0..count).map(|at| (format!("{prefix}{at}"), json!(at))).collect()
    };
    let change = addressed("acme", json!({"set": traits("s", 1_030), "add": traits("a", 1_025), "unset": ["gone"]}));
    let parts = amplitude().parts(&change).unwrap();
    let counts: Vec<(Route, usize)> = parts.iter().map(|part| (part.route, part.change.traits_count())).collect();
    assert_eq!(counts, [(REPEATABLE, 1_024), (REPEATABLE, 7), (ONCE, 1_024), (ONCE, 1)]);
    assert_eq!(union(&parts), *change.change);
}

#[test]
fn the_default_api_advises_the_other_one_to_mappings_that_accumulate() {
    let shape = |op| TraitShape { name: "logins", op, declared: None, constant: None, members: None, always: false };
    assert_eq!(amplitude().findings(&[shape(Op::Set), shape(Op::SetOnce)]), []);
    let remarks = amplitude().findings(&[shape(Op::Set), shape(Op::Add), shape(Op::Append)]);
    assert!(matches!(&remarks[..], [one] if !one.error && one.help.contains("api = \"http_v2\"")), "{remarks:?}");
}

#[test]
fn am_10_long_strings_are_refused_or_cut_between_characters() {
    for (text, fits) in [
        ("x".repeat(1_024), true),
        ("x".repeat(1_025), false),
        ("😀".repeat(1_024), true),
        ("😀".repeat(1_025), false),
        (format!("{}é", "x".repeat(1_023)), true),
        (format!("{}é", "x".repeat(1_024)), false),
    ] {
        for value in [json!(text), json!([text]), json!({"deep": {"er": text}})] {
            let refused = amplitude().parts(&setting(value.clone()));
            assert_eq!(refused.is_ok(), fits);
            let sent = identifications(&request(&truncating(), &[setting(value)]))[0].clone();
            let cut: String = text.chars().take(1_024).collect();
            assert!(Value::Object(sent).to_string().contains(&format!("\"{cut}\"")));
        }
    }
    let reason = amplitude().parts(&setting(json!("x".repeat(2_000)))).unwrap_err();
    assert!(reason.contains("trait `t`") && reason.contains("long_strings") && !reason.contains("xx"), "{reason}");
}

#[test]
fn am_11_dates_travel_as_the_strings_the_document_holds() {
    use crate::model::cell::to_json;
    use crate::model::{Cell, ColumnType};
    let date = to_json(&Cell::Int(20_000), &ColumnType::Date, None).unwrap();
    let at = to_json(&Cell::Int(1_700_000_000_123_000), &ColumnType::Timestamp, None).unwrap();
    let identification =
        &identifications(&request(&amplitude(), &[addressed("a", json!({"set": {"d": date, "t": at}}))]))[0];
    assert_eq!(identification["group_properties"]["$set"], json!({"d": "2024-10-04", "t": "2023-11-14T22:13:20.123Z"}));
}

#[test]
fn am_12_numbers_are_exact_or_refused() {
    for digits in ["0.1", "9007199254740992", "-1.5", "1e21", "0", "123456789.125", "1e300"] {
        let number = number_value(digits).unwrap();
        let said = fields(&request(&amplitude(), &[setting(number.clone())]))[1].1.clone();
        assert!(said.contains(&format!(r#"{{"t":{number}}}"#)), "{said}");
        let parsed: f64 = number.to_string().parse().unwrap();
        assert_eq!(parsed, digits.parse::<f64>().unwrap());
    }
    for digits in
        ["9007199254740993", "-9007199254740993", "0.1234567890123456789", "170141183460469231731687303715884105727"]
    {
        let number = number_value(digits).unwrap();
        for value in [number.clone(), json!([number]), json!({"deep": [{"er": number}]})] {
            let reason = amplitude().parts(&setting(value)).unwrap_err();
            assert!(reason.contains("as = \"string\"") && !reason.contains(digits), "{reason}");
        }
        let said = fields(&request(&amplitude(), &[setting(json!(digits))]))[1].1.clone();
        assert!(said.contains(&format!("\"{digits}\"")), "as a string it keeps its digits");
    }
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(json!(1), |inner, at| if at % 2 == 0 { json!({"in": inner}) } else { json!([inner]) })
}

#[test]
fn am_13_nulls_leave_arrays_nested_arrays_are_refused_and_depth_ends() {
    for (value, sent) in [
        (json!(["a", null, "b"]), json!(["a", "b"])),
        (json!([null]), json!([])),
        (json!({"city": null, "zip": "1"}), json!({"zip": "1"})),
        (json!([{"a": null}, true, 1.5]), json!([{}, true, 1.5])),
    ] {
        let identification = &identifications(&request(&amplitude(), &[setting(value)]))[0];
        assert_eq!(identification["group_properties"], json!({"$set": {"t": sent}}));
    }
    for value in [json!([["a"]]), json!({"x": [1, []]})] {
        assert!(amplitude().parts(&setting(value)).unwrap_err().contains("array inside an array"));
    }
    // `group_properties` and `$set` are layers too.
    assert!(amplitude().parts(&setting(nested(38))).is_ok());
    assert!(amplitude().parts(&setting(nested(39))).unwrap_err().contains("40 levels"));
    assert!(amplitude().parts(&setting(Value::Null)).unwrap_err().contains("on_null"));
}

#[test]
fn am_15_only_the_word_or_the_code_is_a_success() {
    for body in ["success", " success\n", "\"success\"", "{\"code\":200}"] {
        assert_eq!(interpret(200, body), Verdict::ACCEPTED, "{body}");
        assert!(matches!(interpret(202, body), Verdict::Stop { .. }), "{body}");
    }
    for body in
        ["", "<html>success</html>", "\u{0}", "succes", "{\"code\":400}", "{\"code\":200,\"error\":\"no\"}", "{\"co"]
    {
        let verdict = interpret(200, body);
        let Verdict::Stop { advice, applied: Applied::Maybe, .. } = verdict else { panic!("{body}: {verdict:?}") };
        assert!(advice.starts_with("check `base_url`"), "{advice}");
    }
}

#[test]
fn am_16_a_400_is_the_vendors_words_masked_and_cut() {
    let Verdict::Rejected { reason, .. } = interpret(400, &format!("missing_event for {KEY} {}", "x".repeat(9_000)))
    else {
        panic!("refused")
    };
    assert!(reason.starts_with("HTTP 400: missing_event for *** xxx") && reason.len() < 2_100);
    assert_eq!(
        interpret(400, "invalid_group_properties"),
        Verdict::rejected("HTTP 400: invalid_group_properties".into())
    );
    for status in [409, 422, 499] {
        assert!(matches!(interpret(status, "no"), Verdict::Rejected { .. }), "{status}");
    }
}

#[test]
fn am_16_a_400_about_the_key_stops_everything() {
    for body in ["Invalid API key: k+y &=%é", "invalid_api_key", "{\"error\":\"Invalid API key\"}", "missing api_key"]
    {
        let Verdict::Stop { reason, advice, .. } = interpret(400, body) else { panic!("{body} stops") };
        assert!(advice.contains("EU host") && !reason.contains(KEY));
    }
    for body in ["invalid value of api_key_count", "missing_event", ""] {
        assert!(matches!(interpret(400, body), Verdict::Rejected { .. }), "{body}");
    }
}

#[test]
fn am_17_every_status_has_its_meaning() {
    let seconds = Duration::from_secs;
    let after = |value: &str| Response {
        status: 429,
        headers: vec![("retry-after".into(), value.into()), ("date".into(), "Sun, 06 Nov 1994 08:49:37 GMT".into())],
        body: Vec::new(),
        ..Response::default()
    };
    for (value, wait) in [("3", 15), ("15", 15), ("40", 40), ("Sun, 06 Nov 1994 08:50:37 GMT", 60), ("soon", 15)] {
        let verdict = amplitude().interpret(0, 1, &after(value));
        let Verdict::Retry { after, applied, .. } = verdict else { panic!("429 is repeated") };
        assert_eq!((after, applied), (Some(seconds(wait)), Applied::No), "{value}");
    }
    assert!(matches!(interpret(429, ""), Verdict::Retry { after: Some(wait), .. } if wait == seconds(15)));
    for status in [408, 500, 502, 503, 504, 599, 100, 0, 600, 999] {
        let verdict = interpret(status, "");
        assert!(matches!(verdict, Verdict::Retry { after: None, applied: Applied::Maybe, .. }), "{status}");
    }
    assert!(matches!(interpret(413, ""), Verdict::TooLarge { .. }));
    for (status, word) in [
        (301, "base_url"),
        (307, "base_url"),
        (304, "base_url"),
        (401, "key"),
        (403, "key"),
        (404, "base_url"),
        (405, "base_url"),
        (402, "plan"),
        (407, "proxy"),
    ] {
        let Verdict::Stop { advice, .. } = interpret(status, "") else { panic!("{status} stops") };
        assert!(advice.contains(word), "{status}: {advice}");
    }
}

#[test]
fn am_18_the_key_is_in_the_body_and_nowhere_else() {
    let amplitude = amplitude();
    let request = request(&amplitude, &[addressed("acme", json!({"set": {"note": "k%2By+%26%3D%25%C3%A9"}}))]);
    let encoded: String = form_urlencoded::byte_serialize(KEY.as_bytes()).collect();
    assert!(request.body.starts_with(format!("api_key={encoded}&").as_bytes()));
    let masked = amplitude.masked(&request);
    assert!(masked.body.starts_with(b"api_key=***&identification=%5B%7B"));
    assert_eq!(fields(&masked)[1], fields(&request)[1], "the rest is shown as it is");
    for shown in
        [format!("{request:?}"), format!("{:?}", settings()), request.url.clone(), format!("{:?}", request.headers)]
    {
        assert!(!shown.contains(KEY) && !shown.contains(&encoded), "{shown}");
    }
}

#[test]
fn settings_that_cannot_work_are_config_errors() {
    let with = |key: &str, base: Option<&str>, group_type: &str| {
        let settings = AmplitudeSettings { api_key: Secret::new(key), base_url: base.map(str::to_owned), ..settings() };
        Amplitude::new(&settings, group_type).err().map(|error| error.kind())
    };
    assert_eq!(with("key", None, "company"), None);
    for (key, base, group_type) in
        [(" ", None, "company"), ("key", None, ""), ("key", Some("amplitude.com"), "company")]
    {
        assert_eq!(with(key, base, group_type), Some(Kind::Config));
    }
    let read = |text: &str| toml::from_str::<AmplitudeSettings>(text);
    let settings = read("api_key = 'k'\nregion = 'eu'\nlong_strings = 'truncate'").unwrap();
    assert_eq!((settings.region, settings.long_strings), (Some(AmplitudeRegion::Eu), LongStrings::Truncate));
    assert!(read("api_key = 'k'\nregion = 'asia'").is_err());
    assert_eq!((settings.api, settings.gzip), (AmplitudeApi::GroupIdentify, false));
    assert_eq!(read("api_key = 'k'\napi = 'groupidentify'").unwrap().api, AmplitudeApi::GroupIdentify);
    assert_eq!(read("api_key = 'k'\napi = 'http_v2'").unwrap().api, AmplitudeApi::HttpV2);
    let compressed = Amplitude::new(&read("api_key = 'k'\ngzip = true").unwrap(), "company").err().unwrap();
    assert!(compressed.kind() == Kind::Config && compressed.advice().unwrap().contains("http_v2"), "{compressed}");
    assert!(read("api_key = 'k'\nbaseurl = 'x'").is_err(), "unknown keys are errors");
}

#[test]
fn names_and_keys_that_cannot_be_sent_are_refused() {
    let long = "é".repeat(1_025);
    for (change, word) in [
        (addressed("", json!({"set": {"a": 1}})), "key is empty"),
        (addressed(&long, json!({"set": {"a": 1}})), "key has more"),
        (addressed("a", json!({"set": {"": 1}})), "empty name"),
        (addressed("a", json!({"unset": [long]})), "name of more"),
        (addressed("a", json!({"set": {"o": {"": 1}}})), "empty name"),
        (addressed("a", json!({"delete": true})), "deletes a group"),
    ] {
        assert!(amplitude().parts(&change).unwrap_err().contains(word), "{word}");
    }
    assert!(amplitude().parts(&addressed(&"é".repeat(1_024), json!({"set": {"é".repeat(1_024): 1}}))).is_ok());
    assert!(amplitude().parts(&addressed("a", json!({}))).unwrap().is_empty(), "nothing to say, nothing to send");
}

fn value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(|int| number_value(&int.to_string()).unwrap()),
        any::<String>().prop_map(Value::from),
    ];
    scalar.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((any::<String>(), inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// What a value becomes on the wire.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().filter(|item| !item.is_null()).map(without_nulls).collect(),
        Value::Object(members) => Value::Object(
            members
                .iter()
                .filter(|(_, member)| !member.is_null())
                .map(|(name, member)| (name.clone(), without_nulls(member)))
                .collect(),
        ),
        other => other.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever is accepted arrives as it was, and the size estimate is an upper bound.
    #[test]
    fn am_03_any_accepted_change_arrives_whole(key in any::<String>(), set in prop::collection::vec((any::<String>(), value()), 0..5)) {
        let change = Change { set: set.into_iter().collect(), ..Change::default() };
        let amplitude = amplitude();
        let addressed = AddressedChange { key: key.clone(), change: Arc::new(change.clone()), settled_seq: 7, ..AddressedChange::default() };
        for slot in Slot::all(&change) {
            prop_assert!(slot.bytes(LongStrings::Reject, encoded_bytes) <= slot.bytes_at_most());
            prop_assert!(slot.bytes(LongStrings::Reject, <[u8]>::len) <= slot.bytes_at_most());
        }
        if let Ok(parts) = amplitude.parts(&addressed) && !parts.is_empty() {
            prop_assert_eq!(&union(&parts), &change);
            let request = request(&amplitude, &[addressed]);
            let identification = &identifications(&request)[0];
            prop_assert_eq!(&identification["group_value"], &json!(key));
            prop_assert_eq!(&identification["group_properties"]["$set"], &without_nulls(&Value::Object(change.set)));
        }
    }

    #[test]
    fn am_17_any_reply_has_a_verdict(
        status in prop_oneof![any::<u16>(), Just(200_u16)],
        body in prop_oneof![prop::collection::vec(any::<u8>(), 0..100), Just(b"success".to_vec())],
        after in any::<String>(),
    ) {
        let word = body.trim_ascii().eq_ignore_ascii_case(b"success");
        let response = Response { status, headers: vec![("retry-after".into(), after)], body, ..Response::default() };
        let verdict = amplitude().interpret(0, 3, &response);
        prop_assert_eq!(verdict == Verdict::ACCEPTED, status == 200 && word);
    }
}
