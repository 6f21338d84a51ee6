//! Does a request say what the change says: every text, every digit, nothing twice, and the same thing in the same bytes?

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::TimeDelta;
use groupcast::destination::{AddressedChange, Attempt, Destination, Route, User, UserRule};
use groupcast::error::Kind;
use groupcast::model::document::number_value;
use groupcast::model::plain::{self, Written};
use groupcast::model::{Change, Document, OnNull, Op, PlainDocument, Traits, number};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};

use super::read::Trees;
use super::{Says, Sent, Subject, addressed, first_attempt, needs_user, says_what_to_do, send, shown, union};

/// Texts that some encoder somewhere gets wrong.
fn hostile() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        " ",
        "&=+%#\"",
        "a&b=c",
        "%41%zz%",
        "a+b c",
        "..",
        "a/../b?c#d;e",
        "{\"$set\":{}}",
        "\\\"\\u0000\\",
        "line\nbreak\r\n\ttab",
        "\0",
        "a\0b\u{1}\u{1f}\u{7f}",
        "\u{2028}\u{2029}\u{feff}",
        "é中\u{301}",
        "😀𝕏\u{10ffff}",
        "$set",
        "__proto__",
        "null",
        "0",
        "-1",
        "true",
        "$groupcast",
        "<script>alert('x')</script>",
        "${SECRET}",
        "a.b[0]",
        "{{key}} {key} %s",
    ]
    .map(str::to_owned)
    .into();
    for length in [200, 201, 255, 256, 400, 401, 1_023, 1_024, 1_025] {
        texts.push("x".repeat(length));
        texts.push("😀".repeat(length));
    }
    texts.extend(["y".repeat(40_000), "é\"\\\n".repeat(30_000), "z".repeat(1_200_000)]);
    texts
}

/// Checks that an accepted change is in its requests, whole.
#[track_caller]
fn carried(subject: &Subject, addressed: &AddressedChange, sent: &[Sent]) {
    let parts: Vec<_> = sent.iter().map(|sent| sent.part.clone()).collect();
    let name = subject.row.name;
    assert_eq!(union(&parts), *addressed.change, "{name}: the parts say something else than the change");
    for sent in sent {
        let trees = sent.trees();
        let place = || format!("{name}: not in {}", shown(&sent.request));
        assert!(trees.mention(&addressed.key), "the key {:.200?} is {}", addressed.key, place());
        if let Some(User::Id(user) | User::Anonymous(user)) = &addressed.user {
            assert!(trees.mention(user), "the user {user:.200?} is {}", place());
        }
        for (op, trait_name, value) in sent.part.change.values() {
            let value = (subject.row.carried)(value);
            assert!(trees.give(trait_name, &value), "{} of {trait_name:.200?} is {}", op.name(), place());
        }
        for unset in &sent.part.change.unset {
            assert!(trees.mention(unset), "unset {unset:.200?} is {}", place());
        }
    }
}

fn setting(name: &str, value: Value) -> Change {
    Change { set: [(name.to_owned(), value)].into_iter().collect(), ..Change::default() }
}

#[test]
fn hostile_texts_arrive_unchanged_or_are_refused_with_advice() {
    for subject in Subject::all() {
        let destination = subject.destination();
        let who = subject.row.name;
        let mut accepted = 0;
        for text in hostile() {
            let value = Value::String(text.clone());
            let mut places: Vec<(&str, &str, Change)> = vec![
                ("key", &text, setting("plan", json!("pro"))),
                ("name", "acme", setting(&text, json!("pro"))),
                ("value", "acme", setting("plan", value.clone())),
                ("item", "acme", setting("plan", json!(["a", value, "b"]))),
            ];
            if destination.features().objects {
                places.push(("member", "acme", setting("plan", json!({"inner": {text.clone(): 1}}))));
                places.push(("member's value", "acme", setting("plan", json!({"inner": [{"deep": value}]}))));
            }
            if destination.features().on_null.contains(&OnNull::Unset) {
                let unset = Change { unset: [text.clone()].into(), ..Change::default() };
                places.push(("unset", "acme", unset));
            }
            for (place, key, change) in places {
                let addressed = addressed(&*destination, key, change);
                match send(&*destination, &addressed) {
                    Ok(sent) => {
                        accepted += 1;
                        carried(&subject, &addressed, &sent);
                    }
                    Err(reason) => {
                        let repeated = place.contains("value") || place == "item";
                        says_what_to_do(&format!("{who}: {place} {text:.50?}"), &reason, repeated.then_some(&text));
                    }
                }
            }
            if destination.features().user != UserRule::Never {
                for user in [User::Id(text.clone()), User::Anonymous(text.clone())] {
                    let mut addressed = addressed(&*destination, "acme", setting("plan", json!("pro")));
                    addressed.user = Some(user);
                    match send(&*destination, &addressed) {
                        Ok(sent) => carried(&subject, &addressed, &sent),
                        Err(reason) => says_what_to_do(&format!("{who}: user {text:.50?}"), &reason, None),
                    }
                }
            }
            match subject.try_of(&text) {
                Ok(destination) => {
                    let addressed = addressed(&*destination, "acme", setting("plan", json!("pro")));
                    match send(&*destination, &addressed) {
                        Ok(sent) => {
                            carried(&subject, &addressed, &sent);
                            let named = sent.iter().all(|sent| sent.trees().mention(&text));
                            assert!(
                                named || !subject.row.tells_group_type,
                                "{who}: the group type {text:.50?} is lost"
                            );
                        }
                        Err(reason) => says_what_to_do(&format!("{who}: group type {text:.50?}"), &reason, None),
                    }
                }
                Err(error) => {
                    assert_eq!(error.kind(), Kind::Config, "{who}: group type {text:.50?}: {error}");
                    says_what_to_do(who, error.advice().unwrap_or_default(), None);
                }
            }
        }
        assert!(accepted > 60, "{who} takes hardly any text: {accepted}");
    }
}

#[test]
fn no_number_is_rounded() {
    for subject in Subject::all() {
        let destination = subject.destination();
        let features = destination.features();
        let who = subject.row.name;
        for text in [
            "0",
            "-0",
            "0.1",
            "-12.5",
            "1e21",
            "1e-7",
            "9007199254740992",
            "9007199254740993",
            "-9007199254740993",
            "18446744073709551615",
            "170141183460469231731687303715884105727",
            "12345678901234567890123456.0123456789",
            "0.30000000000000004",
            "0.1000000000000000055511151231257827",
            "123456789.123456789",
            "5e-324",
            "1.7976931348623157e308",
            "1e400",
        ] {
            let value = number_value(text).unwrap();
            let held = number::fits_double(&value.to_string());
            let mut shapes =
                vec![("value", setting("arr", value.clone())), ("item", setting("arr", json!([1, value])))];
            if features.objects {
                shapes.push(("member", setting("arr", json!({"inner": {"deep": value}}))));
            }
            for (place, change) in shapes {
                let addressed = addressed(&*destination, "acme", change);
                match send(&*destination, &addressed) {
                    Ok(sent) => {
                        let promised = features.exact_numbers || held;
                        assert!(promised, "{who}: {text} as {place} is sent to a parser that rounds");
                        carried(&subject, &addressed, &sent);
                    }
                    Err(reason) => {
                        assert!(place != "value" || !held && !features.exact_numbers, "{who}: {text}: {reason}");
                        says_what_to_do(who, &reason, Some(&value.to_string()));
                    }
                }
            }
        }
    }
}

#[test]
fn values_of_every_shape_arrive_or_are_refused_with_advice() {
    let deep = |layers: usize| (0..layers).fold(json!("core"), |inner, _| json!({ "layer": inner }));
    let values = [
        json!(null),
        json!(true),
        json!(false),
        json!(""),
        json!("2024-02-29"),
        json!("2024-02-29T23:59:59.123456789Z"),
        json!("-0043-03-15T00:00:00Z"),
        json!([]),
        json!({}),
        json!(["a", null, "b"]),
        json!([null]),
        json!([1, "a", true, 2.5]),
        json!([[1, 2], [3]]),
        json!([{"id": 1}, {"id": 2, "note": null}]),
        json!({"city": "Gent", "note": null, "geo": {"lat": 51.05, "lon": 3.72}}),
        json!((0..10_000).collect::<Vec<_>>()),
        deep(37),
        deep(39),
        deep(100),
    ];
    for subject in Subject::all() {
        let destination = subject.destination();
        let who = subject.row.name;
        for value in &values {
            let addressed = addressed(&*destination, "acme", setting("plan", value.clone()));
            let scalar = !value.is_array() && !value.is_object() && !value.is_null();
            match send(&*destination, &addressed) {
                Ok(sent) => {
                    let null_allowed = !value.is_null() || Says::Null.promised(&*destination);
                    assert!(null_allowed, "{who}: takes a null, which its features rule out");
                    carried(&subject, &addressed, &sent);
                }
                Err(reason) => {
                    assert!(!scalar, "{who}: {value}: {reason}");
                    says_what_to_do(&format!("{who}: {value:.60}"), &reason, None);
                }
            }
        }
    }
}

#[test]
fn what_features_promise_is_carried_and_nothing_else_is_dropped() {
    for subject in Subject::all() {
        let destination = subject.destination();
        let who = subject.row.name;
        if needs_user(&*destination) {
            let nobody =
                AddressedChange { user: None, ..addressed(&*destination, "acme", setting("plan", json!("pro"))) };
            says_what_to_do(who, &send(&*destination, &nobody).err().expect("a user is needed"), None);
        }
        for says in Says::ALL {
            let addressed = addressed(&*destination, "acme", says.change(3, "pro"));
            match send(&*destination, &addressed) {
                Ok(sent) => {
                    assert!(!sent.is_empty(), "{who}: {says:?} is silently dropped");
                    carried(&subject, &addressed, &sent);
                }
                Err(reason) => {
                    assert!(!says.promised(&*destination), "{who}: {says:?}: {reason}");
                    says_what_to_do(&format!("{who}: {says:?}"), &reason, None);
                }
            }
            for part in destination.parts(&addressed).unwrap_or_default() {
                let accumulates = part.change.accumulates();
                let safe = subject.row.unions
                    || !accumulates
                    || !destination.repeatable(part.route)
                    || dedup_place(&subject, says, part.route).is_some();
                assert!(safe, "{who}: {says:?} may be repeated, and nothing tells the vendor that it is a repetition");
            }
        }
        for [one, other] in [[Op::Set, Op::SetOnce], [Op::Append, Op::Prepend]] {
            let [Some(one), Some(other)] = [one, other].map(|op| {
                let sent = send(&*destination, &addressed(&*destination, "acme", Says::Values(op).change(1, "pro")));
                sent.ok()?.pop()
            }) else {
                continue;
            };
            let mut differences = one.trees().differences(&other.trees());
            let place = dedup_place(&subject, Says::Values(Op::Set), one.part.route);
            differences.retain(|(path, ..)| Some(path) != place.as_ref());
            let told_apart = one.part.route != other.part.route || !differences.is_empty();
            assert!(told_apart, "{who}: one operator is sent as another: {}", shown(&one.request));
        }
        let nothing = addressed(&*destination, "acme", Change::default());
        for sent in send(&*destination, &nothing).unwrap() {
            assert!(sent.trees().mention("acme"), "{who}");
        }
    }
}

fn trait_names() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-z]{1,6}", 1 => "\\PC{1,4}", 1 => any::<String>()]
}

fn values(objects: bool) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (any::<i128>(), 0_u32..30).prop_map(|(digits, places)| number_value(&format!("{digits}e-{places}")).unwrap()),
        any::<f64>()
            .prop_filter("finite", |number| number.is_finite())
            .prop_map(|number| { number_value(&format!("{number:e}")).unwrap() }),
        any::<String>().prop_map(Value::from),
        "[ -~]{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 6, move |inner| {
        let list = prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from);
        let object = prop::collection::btree_map(trait_names(), inner, 0..6)
            .prop_map(|members| Value::Object(members.into_iter().collect()));
        if objects { prop_oneof![list, object].boxed() } else { list.boxed() }
    })
}

/// Changes of what the destination says it can do.
fn changes(destination: &dyn Destination) -> impl Strategy<Value = Change> + use<> {
    let features = destination.features();
    let can_unset = features.on_null.contains(&OnNull::Unset);
    let what = (0..features.ops.len() + usize::from(can_unset), values(features.objects));
    prop::collection::btree_map(trait_names(), what, 0..12).prop_map(move |traits| {
        let mut change = Change::default();
        for (name, (at, value)) in traits {
            match features.ops.get(at) {
                None => drop(change.unset.insert(name)),
                Some(Op::Add) => drop(change.add.insert(name, json!(value.to_string().len()))),
                Some(op @ (Op::Append | Op::Prepend)) => drop(change.under(*op).insert(name, json!([value]))),
                Some(op) => drop(change.under(*op).insert(name, value)),
            }
        }
        change
    })
}

#[test]
fn any_change_arrives_whole_or_is_refused_with_advice() {
    for subject in Subject::all() {
        let destination = subject.destination();
        let strategy = (any::<String>(), changes(&*destination), any::<u32>());
        let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
        let outcome = runner.run(&strategy, |(key, change, settled_seq)| {
            let mut addressed = addressed(&*destination, &key, change);
            addressed.settled_seq = settled_seq.into();
            match send(&*destination, &addressed) {
                Ok(sent) => carried(&subject, &addressed, &sent),
                Err(reason) => says_what_to_do(subject.row.name, &reason, None),
            }
            Ok(())
        });
        outcome.unwrap_or_else(|failure| panic!("{}: {failure}", subject.row.name));
    }
}

/// A document of plain values; none if some are not plain, or if there are none.
fn plain_document(set: &Traits) -> Option<PlainDocument> {
    let plain = |value: &Value| plain::write_value(&mut Vec::new(), value) == Written::Value;
    let text = (!set.is_empty() && set.values().all(plain)).then(|| Document(set.clone()).to_text())?;
    Some(PlainDocument { text: text.into(), traits: set.len(), omitted: Box::default() })
}

#[test]
fn plain_values_of_a_new_group_travel_as_any_change_that_sets_them() {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        (-1e9..1e9_f64).prop_map(|number| number_value(&format!("{number:e}")).unwrap()),
        "\\PC{0,20}".prop_map(Value::from),
        Just(Value::from("é\"\\\u{7f}\u{2028}".repeat(60))),
        Just(Value::from("%".repeat(1_000))),
    ];
    let mut taken = BTreeMap::new();
    for subject in Subject::all() {
        let destination = subject.destination();
        let times = Cell::new(0);
        let keys = prop_oneof![4 => "[a-z0-9_/ ]{1,12}", 1 => any::<String>(), 1 => "[é%]{150,600}"];
        let sets = prop::collection::btree_map(trait_names(), leaf.clone(), 0..12);
        let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
        let outcome = runner.run(&(keys, sets, any::<u32>()), |(key, set, settled_seq)| {
            let set: Traits = set.into_iter().collect();
            let names: Vec<&str> = set.keys().map(String::as_str).collect();
            let Some(document) = plain_document(&set).filter(|_| destination.takes_plain(&names)) else {
                return Ok(());
            };
            let mut addressed = addressed(&*destination, &key, Change { set, ..Change::default() });
            addressed.settled_seq = settled_seq.into();
            let without = AddressedChange { change: Arc::default(), ..addressed.clone() };
            let Some(route) = destination.plain_route(&without, &document) else { return Ok(()) };
            times.set(times.get() + 1);
            let parts = destination.parts(&addressed).map_err(TestCaseError::fail)?;
            let [part] = parts.as_slice() else { return Err(TestCaseError::fail("more parts than one")) };
            prop_assert_eq!(part.route, route);
            let (plain, general) =
                (destination.plain_element(&without, &document), destination.element(&addressed, part));
            prop_assert_eq!(String::from_utf8_lossy(&plain.bytes), String::from_utf8_lossy(&general.bytes));
            prop_assert_eq!(plain, general);
            Ok(())
        });
        outcome.unwrap_or_else(|failure| panic!("{}: {failure}", subject.row.name));
        taken.extend((times.get() > 0).then_some((subject.row.name, times.get())));
    }
    assert!(taken.values().all(|times| *times > 50) && taken.len() >= 5, "of 200 each: {taken:?}");
}

#[test]
fn the_same_part_gives_the_same_bytes_and_every_attempt_carries_them() {
    for subject in Subject::all() {
        let (destination, again) = (subject.destination(), subject.destination());
        for says in Says::ALL {
            let addressed = addressed(&*destination, "acme", says.change(40, "é\"+ x"));
            let Ok(sent) = send(&*destination, &addressed) else { continue };
            assert_eq!(again.parts(&addressed).unwrap(), sent.iter().map(|sent| sent.part.clone()).collect::<Vec<_>>());
            for sent in &sent {
                assert_eq!(destination.element(&addressed, &sent.part), sent.element);
                assert_eq!(again.element(&addressed, &sent.part), sent.element, "another process");
                let later = Attempt { at: first_attempt().at + TimeDelta::days(2), number: 9, request: 0 };
                for attempt in [first_attempt(), later] {
                    let request = again.request(sent.part.route, &[&sent.element], attempt);
                    assert_eq!((request.method, &request.url), (sent.request.method, &sent.request.url));
                    let bytes = &sent.element.bytes;
                    // Within its braces: a message that travels alone may tell of the attempt beside it.
                    let inner = bytes.get(1..bytes.len().saturating_sub(1)).unwrap_or_default();
                    let whole = inner.is_empty() || request.body.windows(inner.len()).any(|window| window == inner);
                    assert!(whole, "{}: an attempt carries other bytes than the element's", subject.row.name);
                }
            }
        }
    }
}

/// The only part of this kind of change on `route`.
fn alone(destination: &dyn Destination, addressed: &AddressedChange, route: Route) -> Option<Trees> {
    let sent = send(destination, addressed).ok()?;
    sent.iter().find(|sent| sent.part.route == route).map(Sent::trees)
}

/// Where a request of this route holds what distinguishes two acknowledged changes, if anything does.
pub(super) fn dedup_place(subject: &Subject, says: Says, route: Route) -> Option<String> {
    let destination = subject.destination();
    let first = addressed(&*destination, "acme", says.change(1, "pro"));
    let later = AddressedChange { settled_seq: first.settled_seq + 1, ..first.clone() };
    let (one, other) = (alone(&*destination, &first, route)?, alone(&*destination, &later, route)?);
    let differences = one.differences(&other);
    assert!(differences.len() <= 1, "{}: {differences:?}", subject.row.name);
    differences.into_iter().next().map(|(place, ..)| place)
}

#[test]
fn a_dedup_id_is_the_same_for_a_repetition_and_another_for_anything_else() {
    for subject in Subject::all() {
        let who = subject.row.name;
        for (route, says) in subject.routes() {
            let Some(place) = dedup_place(&subject, says, route) else { continue };
            let destination = subject.destination();
            let id_by = |destination: &dyn Destination, addressed: &AddressedChange| {
                let trees = alone(destination, addressed, route)?;
                let id = trees.at(&place).and_then(Value::as_str).unwrap_or_default().to_owned();
                assert!((16..100).contains(&id.len()), "{who}: {place} is {id:?}");
                Some(id)
            };
            let id = |addressed: &AddressedChange| id_by(&*destination, addressed);
            let first = addressed(&*destination, "acme", says.change(1, "pro"));
            let expected = id(&first).unwrap();
            assert_eq!(
                id_by(&*subject.destination(), &first).as_ref(),
                Some(&expected),
                "{who}: so does another process"
            );

            let mut others: Vec<(String, Option<String>)> = Vec::new();
            let mut other = |what: &str, id: Option<String>| others.push((what.to_owned(), id));
            other("another settled sequence", id(&AddressedChange { settled_seq: 8, ..first.clone() }));
            other("another key", id(&AddressedChange { key: "acme2".to_owned(), ..first.clone() }));
            other("another group type", subject.try_of("workspace").ok().and_then(|of| id_by(&*of, &first)));
            other("another value", id(&addressed(&*destination, "acme", says.change(1, "basic"))));
            other("another trait", id(&addressed(&*destination, "acme", says.change(2, "pro"))));
            for value in [json!(1), json!("1"), json!(true), json!("true"), json!([1]), json!(["1"]), json!(1.5)] {
                let change = setting("trait_0000000", value.clone());
                other(&format!("{value}"), id(&addressed(&*destination, "acme", change)));
            }
            for kind in Says::ALL.into_iter().filter(|kind| *kind != says) {
                other(&format!("{kind:?}"), id(&addressed(&*destination, "acme", kind.change(1, "pro"))));
            }
            // What a kind of change or a filler does not affect says the same: an unset has no value.
            let mut ids = BTreeSet::from([expected.clone()]);
            for (what, id) in others {
                let valueless = matches!(says, Says::Unset | Says::Null | Says::Delete | Says::Values(Op::Add));
                let same = valueless && what == "another value" || says == Says::Delete && what == "another trait";
                match id {
                    Some(id) if same => assert_eq!(id, expected, "{who}: {what}"),
                    Some(id) => assert!(ids.insert(id), "{who}: {what} has an id that something else has as well"),
                    None => {}
                }
            }
            assert!(ids.len() >= 3, "{who}: {ids:?}");
            let large = addressed(&*destination, "acme", says.change(3_000, "a value of some length, as they are"));
            if let Ok(sent) = send(&*destination, &large) {
                let places = sent.iter().filter(|sent| sent.part.route == route);
                let ids: Vec<Value> = places.filter_map(|sent| sent.trees().at(&place).cloned()).collect();
                let distinct: BTreeSet<String> = ids.iter().map(Value::to_string).collect();
                assert_eq!(distinct.len(), ids.len(), "{who}: two parts of a change share an id");
            }
        }
    }
}

/// What travels with every change is in each request that a change is cut into, within every limit, and a removal alone
/// takes it along.
#[test]
fn repeated_traits_are_in_every_request_that_sets() {
    let repeated: Map<String, Value> = [("kind", json!("company")), ("name", json!("Acme"))]
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect();
    for subject in Subject::all() {
        let destination = subject.destination();
        let who = subject.row.name;
        let can_unset = destination.features().on_null.contains(&OnNull::Unset);
        for (traits, letters) in [(1, 1), (0, 0), (1_022, 1), (1_023, 1), (3_000, 1), (300, 900), (40, 30_000)] {
            let set = (0..traits).map(|at| (format!("t{at:04}"), json!("x".repeat(letters)))).collect();
            let unset = if can_unset { BTreeSet::from(["old".to_owned()]) } else { BTreeSet::new() };
            let change = Change { set, unset, repeated: repeated.clone(), ..Change::default() };
            if change.is_empty() {
                continue;
            }
            let whole = change.as_sent();
            let addressed =
                AddressedChange { repeated: repeated.clone(), ..addressed(&*destination, "acme", whole.clone()) };
            let sent = match send(&*destination, &addressed) {
                Ok(sent) => sent,
                Err(reason) => {
                    assert!(traits > 1, "{who}: {reason}");
                    continue;
                }
            };
            let mut changed = BTreeSet::new();
            let sets: Vec<&Sent> = sent.iter().filter(|sent| !sent.part.change.set.is_empty()).collect();
            // A route that takes one trait per request takes the repeated ones once.
            let one_by_one = whole.set.len() > 1 && sets.iter().all(|sent| sent.part.change.set.len() == 1);
            for sent in &sets {
                assert!(sent.part.change.repeated.is_empty(), "{who}: what travels is set like any other");
                changed.extend(sent.part.change.set.keys().cloned());
                for (name, value) in repeated.iter().filter(|_| !one_by_one) {
                    let value = (subject.row.carried)(value);
                    assert!(sent.trees().give(name, &value), "{who}: `{name}` is not in {}", shown(&sent.request));
                }
            }
            assert_eq!(changed, whole.set.keys().cloned().collect(), "{who}: {traits} traits");
        }
    }
}
