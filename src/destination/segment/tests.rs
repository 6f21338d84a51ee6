//! The statements SG-01 … SG-21 of the wire reference that are about bytes and meanings; those about sequences of
//! requests are in `tests/it/segment.rs`.

use chrono::Utc;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::preset::PRESETS;
use super::settings::{KeyPlacement, SegmentSettings, SegmentWire, UserSetting};
use super::*;
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
use std::sync::Arc;

const KEY: &str = "abc123";

fn settings(preset: &str) -> SegmentSettings {
    let table = toml::Table::from_iter([("preset".to_owned(), preset.into()), ("write_key".to_owned(), KEY.into())]);
    let mut settings: SegmentSettings = toml::Value::Table(table).try_into().unwrap();
    settings.downstream = Some("none".to_owned());
    if ["rudderstack", "dittofeed", "custom"].contains(&preset) {
        settings.base_url = Some("https://own.example.com".to_owned());
    }
    settings
}

fn vendor(preset: &str) -> Segment {
    Segment::new(&settings(preset), "company").unwrap()
}

fn with(change: impl FnOnce(&mut SegmentSettings)) -> Segment {
    let mut settings = settings("custom");
    change(&mut settings);
    Segment::new(&settings, "company").unwrap()
}

fn refused(change: impl FnOnce(&mut SegmentSettings)) -> String {
    let mut settings = settings("custom");
    change(&mut settings);
    let error = Segment::new(&settings, "company").err().expect("refused");
    assert_eq!(error.kind(), Kind::Config);
    format!("{error} | {}", error.advice().unwrap_or_default())
}

fn table(value: Value) -> toml::Table {
    serde_json::from_value(value).unwrap()
}

fn at() -> chrono::DateTime<Utc> {
    chrono::DateTime::from_timestamp_millis(1_700_000_000_123).unwrap()
}

fn addressed(key: &str, set: Value) -> AddressedChange {
    let change: Change = serde_json::from_value(json!({"set": set})).unwrap();
    let user = Some(User::Id(format!("account:{key}")));
    AddressedChange {
        key: key.to_owned(),
        user,
        at: at(),
        change: Arc::new(change),
        settled_seq: 3,
        ..AddressedChange::default()
    }
}

/// A change whose message takes exactly so many bytes.
fn sized(segment: &Segment, key: &str, bytes: usize) -> AddressedChange {
    let bare = element(segment, &addressed(key, json!({"t": ""}))).bytes.len();
    addressed(key, json!({"t": "x".repeat(bytes - bare)}))
}

fn element(segment: &Segment, change: &AddressedChange) -> Element {
    segment.element(change, &Part { route: 0, change: Arc::clone(&change.change) })
}

fn request(segment: &Segment, changes: &[AddressedChange], number: u32) -> Request {
    let elements: Vec<Element> = changes
        .iter()
        .flat_map(|change| segment.parts(change).unwrap().into_iter().map(|part| segment.element(change, &part)))
        .collect();
    let at = at() + chrono::Duration::seconds(i64::from(number));
    segment.request(0, &elements.iter().collect::<Vec<_>>(), Attempt { at, number, request: 0 })
}

fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

fn header<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.headers.iter().find(|(header, _)| *header == name).map(|(_, value)| value.as_str())
}

fn response(status: u16, headers: &[(&str, &str)], body: &str) -> Response {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Response { status, headers, body: body.into(), ..Response::default() }
}

fn interpret(preset: &str, status: u16, body: &str) -> Verdict {
    vendor(preset).interpret(0, 2, &response(status, &[], body))
}

fn shape(name: &str) -> TraitShape<'_> {
    TraitShape { name, op: Op::Set, declared: None, constant: None, members: None, always: false }
}

fn remarked(preset: &str, traits: &[TraitShape<'_>]) -> Vec<String> {
    let told = |remark: MappingFinding| {
        let severity = if remark.error { "error" } else { "warning" };
        format!("{severity} {}: {} ({})", remark.about.unwrap_or_default(), remark.what, remark.help)
    };
    vendor(preset).findings(traits).into_iter().map(told).collect()
}

#[test]
fn sg_01_a_post_of_json_with_the_key_and_a_colon_in_basic_authentication() {
    let request = request(&vendor("segment"), &[addressed("acme", json!({"plan": "pro"}))], 1);
    assert_eq!((request.method, request.url.as_str()), ("POST", "https://api.segment.io/v1/batch"));
    assert_eq!(header(&request, "content-type"), Some("application/json"));
    assert_eq!(header(&request, "authorization"), Some("Basic YWJjMTIzOg=="), "Segment's own test vector");
    assert!(!request.gzip && !String::from_utf8_lossy(&request.body).contains(KEY));
}

#[test]
fn sg_02_a_message_has_the_specs_keys_and_a_batch_two() {
    let anonymous =
        AddressedChange { user: Some(User::Anonymous("anon-1".to_owned())), ..addressed("b", json!({"n": 1})) };
    let body = body(&request(&vendor("segment"), &[addressed("a", json!({"plan": "pro"})), anonymous], 1));
    let keys: Vec<&String> = body.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["batch", "sentAt"]);
    let library = json!({"name": "groupcast", "version": env!("CARGO_PKG_VERSION")});
    let id = body["batch"][0]["messageId"].clone();
    assert_eq!(
        body["batch"][0],
        json!({
            "type": "group", "groupId": "a", "userId": "account:a", "traits": {"plan": "pro"}, "messageId": id,
            "timestamp": "2023-11-14T22:13:20.123Z", "context": {"library": library},
        })
    );
    assert_eq!(body["batch"][1]["anonymousId"], json!("anon-1"));
    // With the key in the body, as some servers want it.
    let with_key = with(|settings| settings.key_in_body = Some(true));
    let request = request(&with_key, &[addressed("a", json!({"plan": "pro"}))], 1);
    assert_eq!(self::body(&request)["writeKey"], json!(KEY));
}

#[test]
fn sg_03_a_message_without_a_user_is_never_sent_where_one_is_needed() {
    for preset in PRESETS {
        let segment = vendor(preset.name);
        let nobody = AddressedChange { user: None, ..addressed("a", json!({"n": 1})) };
        let optional = ["customerio", "customerio-eu", "accoil"].contains(&preset.name);
        assert_eq!(segment.features().user == UserRule::Optional, optional, "{}", preset.name);
        match segment.parts(&nobody) {
            Ok(parts) => assert!(optional && parts.len() == 1, "{}", preset.name),
            Err(reason) => assert!(!optional && reason.contains("[user]"), "{reason}"),
        }
        assert_eq!(segment.parts(&addressed("a", json!({"n": 1}))).unwrap().len(), 1);
        let empty = AddressedChange { user: Some(User::Id(" ".to_owned())), ..addressed("a", json!({"n": 1})) };
        let reason = segment.parts(&empty).unwrap_err();
        assert_eq!(reason, "the user's id is empty: give the row one, or leave it out with `where`");
    }
    assert_eq!(with(|settings| settings.user = Some(UserSetting::Optional)).features().user, UserRule::Optional);
    let keyless = AddressedChange { key: String::new(), ..addressed("a", json!({"n": 1})) };
    assert_eq!(
        vendor("segment").parts(&keyless).unwrap_err(),
        "the group's key is empty: give the row one, or leave it out with `where`"
    );
}

#[test]
fn sg_04_absent_ids_are_absent_and_not_null() {
    let segment = vendor("accoil");
    for user in [None, Some(User::Id("u".to_owned())), Some(User::Anonymous("x".to_owned()))] {
        let change = AddressedChange { user: user.clone(), ..addressed("a", json!({"n": 1})) };
        let message: Value = serde_json::from_slice(&element(&segment, &change).bytes).unwrap();
        let has = |key: &str| message.get(key).is_some();
        let expected = match user {
            None => (false, false),
            Some(User::Id(_)) => (true, false),
            Some(User::Anonymous(_)) => (false, true),
        };
        assert_eq!((has("userId"), has("anonymousId")), expected);
        assert!(!message.as_object().unwrap().values().any(Value::is_null));
    }
}

#[test]
fn sg_05_a_message_has_32_768_bytes_at_most_in_bytes() {
    let segment = vendor("segment");
    let limits = segment.limits(0);
    assert_eq!((limits.element_bytes_max, limits.body_bytes_max, limits.elements_max), (32_768, 500_000, 2_500));
    for (bytes, fits) in [(32_767, true), (32_768, true), (32_769, false)] {
        let change = sized(&segment, "acme", bytes);
        assert_eq!(element(&segment, &change).bytes.len(), bytes);
        assert_eq!(segment.parts(&change).is_ok(), fits, "{bytes}");
    }
    // Bytes, not characters: the same count of characters in one, two and four bytes each.
    for (character, fits) in [("x", true), ("é", false), ("😀", false)] {
        assert_eq!(segment.parts(&addressed("a", json!({"t": character.repeat(30_000)}))).is_ok(), fits);
    }
    assert!(segment.parts(&addressed("a", json!({"t": "😀".repeat(8_000)}))).is_ok(), "32,000 bytes");
    // The envelope is counted, too, and alone as well.
    for preset in PRESETS {
        let segment = vendor(preset.name);
        let limits = segment.limits(0);
        let changes: Vec<AddressedChange> =
            (0..limits.elements_max.min(3)).map(|at| addressed(&format!("g{at}"), json!({"n": at}))).collect();
        let inner: usize = changes.iter().map(|change| element(&segment, change).bytes.len()).sum();
        let request = request(&segment, &changes, 1);
        let expected = limits.envelope_bytes + inner + (changes.len() - 1) * limits.separator_bytes;
        assert_eq!(request.body.len(), expected, "{}", preset.name);
    }
}

#[test]
fn sg_06_a_message_that_is_too_large_is_refused_with_the_trait_to_shorten() {
    let change = addressed("a", json!({"name": "Acme", "notes": "é".repeat(20_000), "plan": "pro"}));
    let reason = vendor("segment").parts(&change).unwrap_err();
    assert!(reason.contains("takes at most 32768") && reason.contains("`notes` (40002 bytes)"), "{reason}");
    assert!(vendor("dittofeed").parts(&change).is_ok(), "no such limit is documented there");
    // Alone, the moment and the key join the message.
    let jitsu = vendor("jitsu");
    let limits = jitsu.limits(0);
    let largest = sized(&jitsu, "a", limits.element_bytes_max);
    assert_eq!(request(&jitsu, &[largest], 1).body.len(), 32_768);
    assert!(jitsu.parts(&sized(&jitsu, "a", limits.element_bytes_max + 1)).is_err());
}

#[test]
fn sg_07_a_message_id_is_short_stable_and_another_for_another_change() {
    let segment = vendor("segment");
    let id = |change: &AddressedChange| {
        let message: Value = serde_json::from_slice(&element(&segment, change).bytes).unwrap();
        message["messageId"].as_str().unwrap().to_owned()
    };
    let first = addressed("a", json!({"plan": "pro"}));
    assert!(id(&first).len() < 100);
    assert_eq!(id(&first), id(&first), "a repetition within the run");
    let others = [
        // A rerun is another message: between the two, a third may have said something else and lost its response.
        AddressedChange { at: at() + chrono::Duration::hours(1), ..first.clone() },
        addressed("a", json!({"plan": "free"})),
        addressed("b", json!({"plan": "pro"})),
        AddressedChange { settled_seq: 4, ..first.clone() },
    ];
    assert!(others.iter().all(|other| id(other) != id(&first)));
    let without = with(|settings| settings.message_id = Some(false));
    assert!(!String::from_utf8(element(&without, &first).bytes).unwrap().contains("messageId"));
}

#[test]
fn sg_08_sent_at_is_the_attempts_and_timestamp_the_runs() {
    for preset in ["segment", "accoil"] {
        let segment = vendor(preset);
        let changes = [addressed("a", json!({"n": 1}))];
        let bodies: Vec<Value> = [1, 2].map(|number| body(&request(&segment, &changes, number))).into();
        let message = |body: &Value| if preset == "segment" { body["batch"][0].clone() } else { body.clone() };
        assert_eq!(bodies[0]["sentAt"], json!("2023-11-14T22:13:21.123Z"));
        assert_eq!(bodies[1]["sentAt"], json!("2023-11-14T22:13:22.123Z"));
        assert_eq!(message(&bodies[0])["timestamp"], json!("2023-11-14T22:13:20.123Z"));
        assert_eq!(message(&bodies[0])["timestamp"], message(&bodies[1])["timestamp"]);
        assert_eq!(message(&bodies[0])["messageId"], message(&bodies[1])["messageId"]);
    }
}

#[test]
fn sg_09_sg_10_a_null_is_sent_as_null_in_reserved_traits_too_and_nothing_can_be_removed() {
    let segment = vendor("segment");
    let message: Value =
        serde_json::from_slice(&element(&segment, &addressed("a", json!({"plan": null, "x": null}))).bytes).unwrap();
    assert_eq!(message["traits"], json!({"plan": null, "x": null}));
    assert_eq!(segment.features().on_null, [OnNull::Null, OnNull::Skip]);
    for (said, reason) in [
        (json!({"unset": ["x"]}), "no call that removes a trait"),
        (json!({"delete": true}), "no call that deletes a group"),
        (json!({"set_once": {"x": 1}}), "no `op = \"set_once\"`"),
        (json!({"add": {"x": 1}}), "no `op = \"add\"`"),
    ] {
        let change = Arc::new(serde_json::from_value(said).unwrap());
        let told = segment.parts(&AddressedChange { change, ..addressed("a", json!({})) }).unwrap_err();
        assert!(told.contains(reason), "{told}");
    }
    assert_eq!(segment.parts(&addressed("a", json!({}))).unwrap(), [], "nothing to say");
}

#[test]
fn sg_11_names_that_differ_in_capitals_or_underscores_collide() {
    assert_eq!(
        remarked("segment", &[shape("createdAt"), shape("plan"), shape("created_at"), shape("CREATEDAT")]),
        [
            "error created_at: traits `createdAt` and `created_at` are one to Segment, which compares names regardless of \
             capitals and underscores (keep one of them)",
            "error CREATEDAT: traits `created_at` and `CREATEDAT` are one to Segment, which compares names regardless of \
             capitals and underscores (keep one of them)",
        ]
    );
    let members = TraitShape { members: Some(vec!["city", "City"]), ..shape("place") };
    assert!(remarked("segment", &[members])[0].starts_with("error place: members `city` and `City` are one"));
    assert_eq!(remarked("segment", &[shape("created_at"), shape("name"), shape("mrr"), shape("mrr2")]), [""; 0]);
}

/// What `check` says with these tools behind a preset.
fn remarked_behind(preset: &str, downstream: Option<&str>, traits: &[TraitShape<'_>]) -> Vec<(bool, String)> {
    let settings = SegmentSettings { downstream: downstream.map(str::to_owned), ..settings(preset) };
    let remarks = Segment::new(&settings, "company").unwrap().findings(traits);
    remarks.into_iter().map(|remark| (remark.error, format!("{} | {}", remark.what, remark.help))).collect()
}

#[test]
fn tools_that_take_names_and_types_from_each_call_are_known() {
    let always = |name| TraitShape { always: true, ..shape(name) };
    // Nobody said which tools there are, and nothing travels with every change.
    for preset in ["segment", "segment-eu", "rudderstack", "hightouch", "jitsu"] {
        let told = remarked_behind(preset, None, &[shape("plan")]);
        assert!(matches!(&told[..], [(false, words)] if words.contains("`always = true`")), "{preset}: {told:?}");
        assert_eq!(remarked_behind(preset, None, &[shape("plan"), always("name")]), []);
        assert_eq!(remarked_behind(preset, Some("none"), &[shape("plan")]), []);
    }
    for preset in ["dittofeed", "journy", "accoil", "custom"] {
        assert_eq!(remarked_behind(preset, None, &[shape("plan")]), [], "{preset} is where it ends");
    }
    for (tools, mapped, said) in [
        ("hubspot", vec![always("name"), always("website")], vec![]),
        ("hubspot", vec![always("name")], vec!["HubSpot takes `website` from the traits of each call, and without it"]),
        (
            "hubspot",
            vec![shape("name"), always("website")],
            vec!["the first change after the first call would go without"],
        ),
        ("salesforce", vec![shape("plan")], vec!["Salesforce takes `name`"]),
        ("attio, salesforce", vec![always("name")], vec!["Attio takes `website`"]),
        ("posthog", vec![shape("groupType")], vec!["an event without a group type"]),
        ("amplitude", vec![shape("group_type")], vec!["its settings name as the group's type and value"]),
        ("amplitude,mixpanel", vec![always("company_type"), always("company_id")], vec![]),
        ("mixpanel", vec![shape("company")], vec!["its settings name as group key"]),
    ] {
        let told = remarked_behind("rudderstack", Some(tools), &mapped);
        assert_eq!(told.len(), said.len(), "{tools}: {told:?}");
        assert!(told.iter().zip(said).all(|((error, told), said)| !error && told.contains(said)), "{tools}: {told:?}");
    }
    let unknown = refused(|settings| settings.downstream = Some("hubspot, hubspott".to_owned()));
    assert!(unknown.contains("`hubspott`") && unknown.contains("salesforce"), "{unknown}");
}

#[test]
fn customer_ios_objects_have_a_type_in_each_call_and_short_ids() {
    let typed = TraitShape { always: true, ..shape("objectTypeId") };
    let one = json!("1");
    let of_type_one = TraitShape { constant: Some(&one), ..shape("objectTypeId") };
    for preset in ["customerio", "customerio-eu"] {
        assert_eq!(remarked_behind(preset, None, &[shape("plan"), typed.clone()]), []);
        assert_eq!(remarked_behind(preset, None, std::slice::from_ref(&of_type_one)), [], "type 1 is the default");
        let other = remarked_behind(preset, None, &[shape("objectTypeId")]);
        assert!(
            matches!(&other[..], [(true, words)] if words.contains("files the object under type `1`")),
            "{other:?}"
        );
        let none = remarked_behind(preset, None, &[shape("plan")]);
        assert!(matches!(&none[..], [(false, words)] if words.contains("objectTypeId = { const")), "{none:?}");
        for name in ["relationship", "_relationship"] {
            let told = remarked_behind(preset, None, &[typed.clone(), shape(name)]);
            assert!(matches!(&told[..], [(true, words)] if words.contains("rename the trait")), "{told:?}");
        }
    }
    let through = SegmentSettings { downstream: Some("customerio".to_owned()), ..settings("segment") };
    for segment in [vendor("customerio"), Segment::new(&through, "company").unwrap()] {
        let call = |key: &str| segment.parts(&addressed(key, json!({"plan": "pro"})));
        assert!(call(&"é".repeat(150)).is_ok());
        let told = call(&"x".repeat(151)).unwrap_err();
        assert!(told.contains("more than 150 characters, which Customer.io does not accept"), "{told}");
        let told = segment.parts(&addressed("a", json!({"_relationship": 1}))).unwrap_err();
        assert!(told.contains("`_relationship` has a name that Customer.io reserves"), "{told}");
    }
    assert!(vendor("segment").parts(&addressed(&"x".repeat(151), json!({"plan": "pro"}))).is_ok());
}

#[test]
fn sg_12_reserved_traits_are_compared_with_the_spec() {
    let text = |text: &str| Value::String(text.to_owned());
    let (lead, churned, day, noon) = (text("lead"), text("churned"), text("2024-02-29"), text("soon"));
    let (iso, number) = (text("2024-01-02T03:04:05Z"), json!(7));
    let declared = |name, kind| TraitShape { declared: Some(kind), ..shape(name) };
    let constant = |name, value| TraitShape { constant: Some(value), ..shape(name) };
    let members = |name, members| TraitShape { members: Some(members), ..shape(name) };
    for (preset, shape, told) in [
        ("segment", declared("employees", As::Integer), ""),
        (
            "segment",
            declared("employees", As::String),
            "`employees` is a number in the group spec (its table says string",
        ),
        ("segment", declared("Employees", As::String), "`Employees` is a number"),
        ("segment", declared("plan", As::String), ""),
        ("segment", declared("plan", As::Integer), "`plan` is text in the group spec"),
        ("segment", declared("phone", As::Number), "declare `as = \"string\"`"),
        ("segment", declared("website", As::List), "is text"),
        ("segment", declared("created_at", As::Timestamp), ""),
        ("segment", declared("createdAt", As::Date), ""),
        ("segment", declared("createdAt", As::Integer), "`createdAt` is an ISO 8601 date"),
        ("segment", declared("createdAt", As::String), "declare `as = \"timestamp\"`"),
        ("segment", constant("createdAt", &iso), ""),
        ("segment", constant("createdAt", &day), ""),
        ("segment", constant("createdAt", &noon), "is an ISO 8601 date"),
        ("segment", constant("name", &number), "is text"),
        ("segment", declared("address", As::String), "`address` is an object in the group spec (map it as an object"),
        ("segment", declared("address", As::Json), ""),
        ("segment", members("address", vec!["city", "postalCode"]), ""),
        (
            "segment",
            members("address", vec!["postal_code"]),
            "no member `postal_code` in the group spec (did you mean `postalCode`?)",
        ),
        ("segment", members("address", vec!["line2"]), "its members are `city`"),
        ("segment", constant("status", &churned), ""),
        ("journy", constant("status", &lead), ""),
        (
            "journy",
            constant("status", &churned),
            "`status` is `lead`, `trial`, `trial_expired`, `paying` or `churn` in journy.io's",
        ),
        ("journy", declared("status", As::Integer), "`status` is `lead`"),
        ("journy", declared("status", As::String), ""),
        ("segment", shape("employees"), ""),
    ] {
        let found = remarked(preset, std::slice::from_ref(&shape));
        match told {
            "" => assert_eq!(found, [""; 0], "{shape:?}"),
            told => {
                assert!(found.len() == 1 && found[0].starts_with("warning") && found[0].contains(told), "{found:?}")
            }
        }
    }
    // Values keep their types and nesting on the wire.
    let set = json!({"createdAt": "2024-01-02T03:04:05Z", "employees": 3294, "address": {"city": "Bonn", "postalCode": null}});
    let message: Value =
        serde_json::from_slice(&element(&vendor("segment"), &addressed("a", set.clone())).bytes).unwrap();
    assert_eq!(message["traits"], set);
}

#[test]
fn sg_13_a_wrong_key_shows_only_where_the_vendor_has_a_strict_mode() {
    assert_eq!(interpret("segment", 200, r#"{"success":true}"#), Verdict::ACCEPTED, "whatever the key");
    for preset in PRESETS {
        let request = request(&vendor(preset.name), &[addressed("a", json!({"n": 1}))], 1);
        let strict = preset.name.starts_with("customerio").then_some("1");
        assert_eq!(header(&request, "x-strict-mode"), strict, "{}", preset.name);
    }
    let mut lenient = settings("customerio");
    lenient.headers = Some(table(json!({"X-Strict-Mode": "0"})));
    let request = request(&Segment::new(&lenient, "company").unwrap(), &[addressed("a", json!({"n": 1}))], 1);
    let strict: Vec<_> = request.headers.iter().filter(|(name, _)| *name == "x-strict-mode").collect();
    assert_eq!(strict, [&("x-strict-mode", "0".to_owned())], "the configuration's word replaces the preset's");
}

#[test]
fn sg_14_what_answers_mean() {
    let is = |verdict: &Verdict| match verdict {
        Verdict::Accepted { .. } => "delivered",
        Verdict::Rejected { .. } => "refused",
        Verdict::RejectedSome { .. } => "refused some",
        Verdict::TooLarge { .. } => "too large",
        Verdict::Retry { applied: Applied::No, .. } => "retry",
        Verdict::Retry { applied: Applied::Maybe, .. } => "retry, maybe applied",
        Verdict::Stop { .. } => "stop",
        Verdict::PerElement { .. } => "each",
    };
    for (status, expected) in [
        (400, "refused"),
        (401, "stop"),
        (402, "stop"),
        (403, "stop"),
        (404, "stop"),
        (408, "retry, maybe applied"),
        (410, "retry, maybe applied"),
        (413, "too large"),
        (422, "refused"),
        (429, "retry"),
        (460, "retry, maybe applied"),
        (500, "retry, maybe applied"),
        (501, "stop"),
        (502, "retry, maybe applied"),
        (503, "retry, maybe applied"),
        (504, "retry, maybe applied"),
        (505, "stop"),
        (301, "stop"),
    ] {
        for preset in PRESETS {
            assert_eq!(is(&interpret(preset.name, status, "no")), expected, "{} {status}", preset.name);
        }
    }
    let refused = interpret("rudderstack", 400, "request neither has anonymousId nor userId");
    let reason = "HTTP 400: request neither has anonymousId nor userId".to_owned();
    assert_eq!(refused, Verdict::rejected(reason));
    // A size that a 400 mentions is the request's, unless the server judges single messages.
    assert_eq!(is(&interpret("segment", 400, "Exceeds max message size: too large")), "too large");
    assert_eq!(is(&interpret("rudderstack", 400, "message too large")), "refused");
    let Verdict::Stop { advice, .. } = interpret("rudderstack", 401, "failed to read writekey from header") else {
        panic!("a wrong key stops");
    };
    assert!(advice.contains("the write key of an HTTP source"), "{advice}");
    let asked = |headers: &[(&str, &str)]| match vendor("segment").interpret(0, 1, &response(429, headers, "")) {
        Verdict::Retry { after, .. } => after.map(|after| after.as_secs()),
        other => panic!("{other:?}"),
    };
    let date = ("date", "Tue, 14 Nov 2023 22:13:20 GMT");
    assert_eq!(asked(&[]), None);
    assert_eq!(asked(&[("retry-after", "7")]), Some(7));
    assert_eq!(asked(&[("x-ratelimit-reset", "12")]), Some(12));
    assert_eq!(asked(&[("retry-after", "7"), ("x-ratelimit-reset", "12")]), Some(12));
    assert_eq!(asked(&[("x-ratelimit-reset", "1700000030"), date]), Some(30), "a Unix time");
    assert_eq!(asked(&[("x-ratelimit-reset", "1700000030")]), None, "against which clock?");
    assert_eq!(asked(&[("x-ratelimit-reset", "soon")]), None);
}

#[test]
fn sg_15_each_preset_knows_the_status_that_means_taken() {
    for (preset, taken, body, others) in [
        ("segment", 200, r#"{"success":true}"#, [202, 204]),
        ("rudderstack", 200, "OK", [202, 204]),
        ("rudderstack", 200, "\"OK\"", [202, 204]),
        ("customerio", 200, "{}", [202, 204]),
        ("journy", 200, "", [202, 204]),
        ("hightouch", 200, "", [202, 204]),
        ("jitsu", 200, r#"{"ok":true}"#, [202, 204]),
        ("dittofeed", 204, "", [200, 202]),
        ("accoil", 202, "Accepted", [200, 204]),
    ] {
        assert_eq!(interpret(preset, taken, body), Verdict::ACCEPTED, "{preset}");
        for other in others {
            let Verdict::Stop { advice, .. } = interpret(preset, other, body) else { panic!("{preset} {other}") };
            assert!(advice.contains(&format!("responds with {taken} to what it accepts")), "{advice}");
        }
        for body in ["<html><title>Sign in</title></html>", r#"{"error":"no"}"#, r#"{"success":tr"#, "Bad Gateway"] {
            let verdict = interpret(preset, taken, body);
            let Verdict::Stop { advice, applied: Applied::Maybe, .. } = verdict else { panic!("{preset} {body}") };
            assert!(advice.starts_with("check `base_url`"), "{advice}");
        }
    }
    for status in [200, 201, 202, 204] {
        for body in ["", "Thank you!", "{}"] {
            assert_eq!(interpret("custom", status, body), Verdict::ACCEPTED);
        }
        for body in ["<html>", r#"{"error":"no"}"#, r#"{"status":"#, "Error: no"] {
            assert!(matches!(interpret("custom", status, body), Verdict::Stop { .. }), "{body}");
        }
    }
    let own = with(|settings| settings.success_status = Some(206));
    assert_eq!(own.interpret(0, 1, &response(206, &[], "")), Verdict::ACCEPTED);
    assert!(matches!(own.interpret(0, 1, &response(200, &[], "")), Verdict::Stop { .. }));
    for body in [r#"{"success":false}"#, r#"{"ok":false,"error":"x"}"#] {
        assert!(matches!(interpret("segment", 200, body), Verdict::Rejected { .. }), "{body}");
        for preset in ["rudderstack", "customerio", "journy", "hightouch"] {
            let told = interpret(preset, 200, body);
            assert!(
                matches!(told, Verdict::Stop { applied: Applied::Maybe, .. }),
                "{preset} has no such body: {told:?}"
            );
        }
    }
    for body in ["", "OK", "{}", "[false]", "\u{0}"] {
        assert!(matches!(interpret("segment", 200, body), Verdict::Stop { .. }), "{body:?}");
    }
}

#[test]
fn sg_16_every_way_to_show_the_key() {
    let shown = |segment: &Segment| {
        let request = request(segment, &[addressed("a", json!({"n": 1}))], 1);
        let header = request.headers.iter().find(|(_, value)| value.contains(KEY) || value.starts_with("Basic"));
        header.map(|(name, value)| format!("{name}: {value}")).unwrap_or_default()
    };
    for (preset, expected) in [
        ("segment", "authorization: Basic YWJjMTIzOg=="),
        ("rudderstack", "authorization: Basic YWJjMTIzOg=="),
        ("dittofeed", "authorization: Basic abc123"),
        ("accoil", "authorization: Basic abc123"),
        ("jitsu", "x-write-key: abc123"),
        ("hightouch", "authorization: Basic YWJjMTIzOg=="),
        ("journy", "authorization: Basic YWJjMTIzOg=="),
    ] {
        assert_eq!(shown(&vendor(preset)), expected, "{preset}");
    }
    assert_eq!(shown(&with(|settings| settings.auth = Some(KeyPlacement::Bearer))), "authorization: Bearer abc123");
    assert_eq!(shown(&with(|settings| settings.auth_header = Some("X-Token".to_owned()))), "x-token: abc123");
    let body_only = with(|settings| (settings.auth, settings.key_in_body) = (Some(KeyPlacement::None), Some(true)));
    assert_eq!(shown(&body_only), "");
    for (told, expected) in [
        (refused(|settings| settings.auth = Some(KeyPlacement::None)), "sent nowhere"),
        (refused(|settings| settings.auth = Some(KeyPlacement::Header)), "needs `auth_header`"),
        (
            refused(|settings| {
                (settings.auth, settings.auth_header) = (Some(KeyPlacement::Basic), Some("x".to_owned()))
            }),
            "has no effect with",
        ),
        (refused(|settings| settings.auth_header = Some("x y".to_owned())), "a header's name is not valid"),
        (refused(|settings| settings.write_key = Secret::new(" ")), "`write_key` is empty"),
        (
            refused(|settings| {
                (settings.auth, settings.write_key) = (Some(KeyPlacement::Bearer), Secret::new("a\nb"));
            }),
            "cannot be sent in a header",
        ),
        (refused(|settings| settings.headers = Some(table(json!({"Host": "x"})))), "cannot be set"),
        (refused(|settings| settings.headers = Some(table(json!({"X": "a\r\nb"})))), "no text as its value"),
        (refused(|settings| settings.preset = Some("segmnt".to_owned())), "no preset `segmnt`"),
        (refused(|settings| settings.base_url = None), "preset `custom` needs a `base_url`"),
        (refused(|settings| settings.batch_path = Some("/v1?x=1".to_owned())), "is not a path"),
    ] {
        assert!(told.contains(expected) && !told.contains("a\nb"), "{told}");
    }
}

#[test]
fn sg_17_jy_01_the_path_of_the_base_is_kept() {
    let url = |base: Option<&str>, path: Option<&str>, preset: &str| {
        let mut settings = settings(preset);
        settings.base_url = base.map(str::to_owned).or(settings.base_url);
        settings.batch_path = path.map(str::to_owned);
        Segment::new(&settings, "company").unwrap().url
    };
    assert_eq!(url(None, None, "journy"), "https://analyze.journy.io/backend/v1/batch");
    for base in ["https://analyze.journy.io/backend", "https://analyze.journy.io/backend/"] {
        for path in ["/v1/batch", "v1/batch", "//v1/batch"] {
            assert_eq!(url(Some(base), Some(path), "custom"), "https://analyze.journy.io/backend/v1/batch");
        }
    }
    assert_eq!(url(Some("http://127.0.0.1:9"), None, "rudderstack"), "http://127.0.0.1:9/v1/batch");
    assert_eq!(url(None, None, "dittofeed"), "https://own.example.com/api/public/apps/batch");
    assert_eq!(vendor("jitsu").url, "https://use.jitsu.com/api/s/s2s/group");
    assert_eq!(vendor("accoil").url, "https://in.accoil.com/v2/group");
    let mut journy = settings("journy");
    journy.wire = Some(SegmentWire::Single);
    assert!(Segment::new(&journy, "company").is_err(), "no such path is documented");
    let probe = vendor("journy").probe().unwrap();
    assert_eq!((probe.url.as_str(), probe.headers.len()), ("https://analyze.journy.io/", 0));
}

#[test]
fn sg_18_regions_have_their_own_addresses() {
    assert_eq!(vendor("segment-eu").url, "https://events.eu1.segmentapis.com/v1/batch");
    assert_eq!(vendor("customerio-eu").url, "https://cdp-eu.customer.io/v1/batch");
    assert_eq!(vendor("customerio").url, "https://cdp.customer.io/v1/batch");
}

#[test]
fn sg_19_context_is_the_configurations_and_the_same_for_every_group() {
    let mut settings = settings("segment");
    settings.context = Some(table(json!({"ip": "0.0.0.0", "app": {"name": "dwh"}})));
    settings.integrations = Some(table(json!({"All": false, "Amplitude": true})));
    for (preset, at_the_batch) in [("segment", false), ("customerio", true)] {
        settings.preset = Some(preset.to_owned());
        let segment = Segment::new(&settings, "company").unwrap();
        let changes = [addressed("a", json!({"n": 1})), addressed("b", json!({"n": 2}))];
        let body = body(&request(&segment, &changes, 1));
        let library = json!({"name": "groupcast", "version": env!("CARGO_PKG_VERSION")});
        let context = json!({"ip": "0.0.0.0", "app": {"name": "dwh"}, "library": library});
        for message in body["batch"].as_array().unwrap() {
            assert_eq!(message["context"], context);
            assert_eq!(message["integrations"], json!({"All": false, "Amplitude": true}));
        }
        assert_eq!(body.get("context"), at_the_batch.then_some(&context));
        assert_eq!(body.get("integrations").is_some(), at_the_batch);
        let limits = segment.limits(0);
        let inner: usize = changes.iter().map(|change| element(&segment, change).bytes.len()).sum();
        assert_eq!(request(&segment, &changes, 1).body.len(), limits.envelope_bytes + inner + 1);
    }
}

#[test]
fn sg_20_what_would_be_rounded_or_is_too_deep_is_refused() {
    let segment = vendor("rudderstack");
    let set = |value: Value| addressed("a", json!({"arr": value}));
    let told = segment.parts(&set(number_value("9007199254740993").unwrap())).unwrap_err();
    assert!(told.starts_with("trait `arr`: ") && told.contains("as = \"string\""), "{told}");
    assert!(segment.parts(&set(number_value("9007199254740992").unwrap())).is_ok());
    assert!(segment.parts(&set(number_value("0.1").unwrap())).is_ok());
    assert!(segment.parts(&set(json!("a\0b"))).unwrap_err().contains("NUL"));
    let nested = |layers| (0..layers).fold(json!(1), |inner, _| json!({"x": inner}));
    assert!(segment.parts(&set(nested(190))).is_ok());
    assert!(segment.parts(&set(nested(191))).unwrap_err().contains("nested deeper"));
}

/// What the official clients were seen to put on the wire for one group call of these traits, byte for byte.
const CLIENTS: [(&str, &str); 3] = [
    (
        "segment-analytics-python 2.4.0",
        r#"{"batch": [{"integrations": {}, "anonymousId": null, "timestamp": "2023-11-14T22:13:20.123+00:00", "groupId": "acme", "context": {"library": {"name": "analytics-python", "version": "2.4.0"}}, "userId": "u1", "traits": {"name": "Acm\u00e9 \ud83d\ude00", "employees": 3294, "arr": 12.5, "trial": null, "tags": ["a", "b"], "address": {"city": "Bonn"}}, "type": "group", "messageId": "34757f1f-ec2e-4f42-9069-676b42731a2e"}], "sentAt": "2026-11-22T20:01:17.447268+00:00", "writeKey": "abc123"}"#,
    ),
    (
        "rudder-sdk-python 2.1.9",
        r#"{"batch": [{"integrations": {"All": true}, "anonymousId": null, "timestamp": "2023-11-14T22:13:20.123000+00:00", "groupId": "acme", "context": {"library": {"name": "analytics-python", "version": "2.1.9"}}, "userId": "u1", "traits": {"name": "Acm\u00e9 \ud83d\ude00", "employees": 3294, "arr": 12.5, "trial": null, "tags": ["a", "b"], "address": {"city": "Bonn"}}, "type": "group", "messageId": "a49c6f6d-a699-4b35-8f4c-ec63ddc4e3a9", "channel": "server"}], "sentAt": "2026-11-22T20:01:18.060983+00:00"}"#,
    ),
    (
        "@segment/analytics-node 3.1.0",
        r#"{"batch":[{"timestamp":"2023-11-14T22:13:20.123Z","integrations":{},"type":"group","traits":{"name":"Acmé 😀","employees":3294,"arr":12.5,"trial":null,"tags":["a","b"],"address":{"city":"Bonn"}},"groupId":"acme","context":{"library":{"name":"@segment/analytics-node","version":"3.1.0"}},"userId":"u1","messageId":"node-next-1795377678608-a2eaeefd-bd19-4c82-b546-a4efcd7565ff","_metadata":{"nodeVersion":"v20.20.2","jsRuntime":"node"}}],"writeKey":"abc123","sentAt":"2026-11-22T20:01:18.613Z"}"#,
    ),
];

/// A body without what differs by intention: the key (ours is in the header alone), the clients' own names, ids and
/// times of sending, a null `anonymousId`, default `integrations`.
fn without_intended(mut body: Value) -> Value {
    let millis =
        |moment: &Value| chrono::DateTime::parse_from_rfc3339(moment.as_str().unwrap()).unwrap().timestamp_millis();
    let top = body.as_object_mut().unwrap();
    top.remove("writeKey");
    assert!(millis(&top.remove("sentAt").unwrap()) > 0);
    for message in top["batch"].as_array_mut().unwrap() {
        let message = message.as_object_mut().unwrap();
        message["timestamp"] = json!(millis(&message["timestamp"]));
        assert!(message.remove("messageId").unwrap().as_str().unwrap().len() < 100);
        assert!(message["context"].as_object_mut().unwrap().remove("library").unwrap()["name"].is_string());
        assert_eq!(message.remove("anonymousId").unwrap_or_default(), Value::Null);
        ["integrations", "channel", "_metadata"].iter().for_each(|key| drop(message.remove(*key)));
    }
    body
}

#[test]
fn sg_21_a_batch_says_what_the_official_clients_batches_say() {
    let traits = json!({
        "name": "Acmé 😀", "employees": 3294, "arr": 12.5, "trial": null, "tags": ["a", "b"], "address": {"city": "Bonn"}
    });
    let change = AddressedChange { user: Some(User::Id("u1".to_owned())), ..addressed("acme", traits) };
    for (client, theirs) in CLIENTS {
        let preset = if client.starts_with("rudder") { "rudderstack" } else { "segment" };
        let ours = body(&request(&vendor(preset), std::slice::from_ref(&change), 1));
        assert_eq!(without_intended(ours), without_intended(serde_json::from_str(theirs).unwrap()), "{client}");
    }
}

#[test]
fn no_secret_is_shown() {
    let key = "k3y-never-shown";
    let mut settings = settings("custom");
    settings.write_key = Secret::new(key);
    settings.key_in_body = Some(true);
    settings.headers = Some(table(json!({"X-Proxy-Token": "pr0xy-never-shown"})));
    for wire in [SegmentWire::Batch, SegmentWire::Single] {
        settings.wire = Some(wire);
        let segment = Segment::new(&settings, "company").unwrap();
        let sent = request(&segment, &[addressed("a", json!({"n": 1}))], 1);
        let encoded = BASE64_STANDARD.encode(format!("{key}:"));
        assert!(sent.headers.iter().any(|(_, value)| value.contains(&encoded)));
        let shown = segment.masked(&sent);
        let all = format!("{} {:?} {}", shown.url, shown.headers, String::from_utf8_lossy(&shown.body));
        assert!(!all.contains("never-shown") && !all.contains(&encoded), "{all}");
        assert_eq!(body(&shown)["writeKey"], json!("***"));
        assert_eq!(header(&shown, "content-type"), Some("application/json"));
        let echo = format!("bad Basic {encoded} for {key} via pr0xy-never-shown");
        let Verdict::Rejected { reason, .. } = segment.interpret(0, 1, &response(400, &[], &echo)) else { panic!() };
        assert_eq!(reason, "HTTP 400: bad *** for *** via ***");
    }
    assert!(!format!("{settings:?}").contains(key));
}

#[test]
fn the_table_of_presets_is_sound() {
    for preset in PRESETS {
        let segment = vendor(preset.name);
        let path = if preset.single { preset.group_path } else { preset.batch_path };
        assert!(path.is_some_and(|path| path.starts_with('/')), "{}", preset.name);
        let limits = segment.limits(0);
        assert!(limits.element_bytes_max + limits.envelope_bytes <= limits.body_bytes_max, "{}", preset.name);
        assert!(!preset.success.is_empty() && preset.success.iter().all(|status| (200..300).contains(status)));
        assert!(preset.headers.iter().all(|(name, _)| name.to_lowercase() == *name));
        assert!(segment.repeatable(0));
    }
}

proptest! {
    #[test]
    fn any_traits_that_are_taken_arrive_as_they_are(
        names in prop::collection::btree_set("[^\0]{1,6}", 1..6), text in "[^\0]{0,30}", number in any::<i32>(),
        key in "[^\0 ]{1,20}", single in any::<bool>(),
    ) {
        let set: Map<String, Value> =
            names.into_iter().map(|name| (name, json!({"a": [text, number, null], "b": text}))).collect();
        let change = addressed(&key, Value::Object(set.clone()));
        prop_assume!(!key.trim().is_empty());
        let segment = vendor(if single { "jitsu" } else { "segment" });
        let body = body(&request(&segment, &[change], 1));
        let message = if single { &body } else { &body["batch"][0] };
        prop_assert_eq!(&message["traits"], &Value::Object(set));
        prop_assert_eq!(&message["groupId"], &json!(key));
    }
}
