//! The statements of the wire reference about sequences of requests, over real HTTP against a stand-in for the vendor.
//! Those about bytes alone are in `src/destination/amplitude/tests.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use groupcast::delivery::{Delivery, DeliveryOutcome, DeliverySettings, Signal};
use groupcast::destination::amplitude::{self, Amplitude};
use groupcast::destination::{AddressedChange, Destination};
use groupcast::error::{Kind, Result};
use groupcast::io::http::HttpClient;
use groupcast::io::{Clock, Random};
use groupcast::model::Change;
use groupcast::secret::Secret;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tokio::sync::{Notify, watch};

use crate::support::amplitude::{Fault, Groups, Received, Rules, Vendor};
use crate::support::clock::SimulatedClock;
use crate::support::toy::RecordedOutcomes;

const KEY: &str = "0123456789abcdef+/= &é";

/// A stand-in at work, the real encoder and the real way out.
struct Scene {
    vendor: Vendor,
    destination: Amplitude,
    http_client: HttpClient,
    clock: Arc<SimulatedClock>,
    settings: DeliverySettings,
}

impl Scene {
    async fn new(rules: Rules) -> Scene {
        let vendor = Vendor::new(Rules { api_key: Some(KEY.to_owned()), record: true, ..rules });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = Some(format!("http://{}", listener.local_addr().unwrap()));
        tokio::spawn(vendor.clone().serve(listener));
        let settings = amplitude::AmplitudeSettings { base_url, ..amplitude::AmplitudeSettings::new(Secret::new(KEY)) };
        Scene {
            vendor,
            destination: Amplitude::new(&settings, "org id").unwrap(),
            http_client: HttpClient::new().unwrap(),
            clock: Arc::default(),
            settings: DeliverySettings::default(),
        }
    }

    async fn deliver(&self, changes: &[AddressedChange]) -> (Result<()>, Vec<DeliveryOutcome>) {
        let (random, outcomes) = (Random::seeded(7), RecordedOutcomes::default());
        let (_signal, signalled) = watch::channel(Signal::Go);
        let settings = self.settings.clone();
        let delivery = Delivery::new(&self.destination, &self.http_client, &*self.clock, &random, settings, signalled);
        let outcome = delivery.deliver(changes, &outcomes).await;
        (outcome, outcomes.all(changes.len()))
    }

    async fn all_delivered(&self, changes: &[AddressedChange]) {
        let (outcome, outcomes) = self.deliver(changes).await;
        outcome.unwrap();
        let other = outcomes.iter().find(|outcome| **outcome != DeliveryOutcome::Delivered);
        assert_eq!(other, None);
    }

    fn received(&self) -> Vec<Received> {
        self.vendor.received()
    }
}

fn change(key: &str, change: Value) -> AddressedChange {
    AddressedChange {
        key: key.to_owned(),
        change: Arc::new(serde_json::from_value(change).unwrap()),
        ..AddressedChange::default()
    }
}

fn groups(count: usize, traits: usize) -> Vec<AddressedChange> {
    let set: Map<String, Value> = (0..traits).map(|at| (format!("t{at}"), json!(at))).collect();
    (0..count).map(|at| change(&format!("g{at}"), json!({"set": set}))).collect()
}

/// The identifications of a request.
fn identified(received: &Received) -> Vec<Value> {
    let fields: Vec<_> = form_urlencoded::parse(&received.body).into_owned().collect();
    serde_json::from_str(&fields[1].1).unwrap()
}

#[tokio::test]
async fn am_01_am_02_one_form_post_and_the_state_that_follows() {
    let scene = Scene::new(Rules::default()).await;
    scene
        .all_delivered(&[change("Acme Corp", json!({"set": {"plan": "pro", "arr": 12.5}, "set_once": {"first": "a"}}))])
        .await;
    let request = &scene.received()[0];
    assert_eq!(
        (request.uri.as_str(), &request.headers["content-type"]),
        ("/groupidentify", &"application/x-www-form-urlencoded".parse().unwrap())
    );
    assert!(!request.headers.contains_key("content-encoding") && !request.headers.contains_key("authorization"));
    scene
        .all_delivered(&[change(
            "Acme Corp",
            json!({"set": {"arr": 13}, "set_once": {"first": "b"}, "unset": ["plan"]}),
        )])
        .await;
    let group = ("org id".to_owned(), "Acme Corp".to_owned());
    assert_eq!(scene.vendor.groups()[&group], json!({"arr": 13, "first": "a"}).as_object().unwrap().clone());
}

#[tokio::test]
async fn am_05_no_request_passes_a_limit() {
    for (count, traits, requests) in [
        (1_023, 1, 1),
        (1_024, 1, 1),
        (1_025, 1, 2),
        (512, 2, 1),
        (512, 3, 2),
        (1, 1_023, 1),
        (1, 1_024, 1),
        (1, 1_025, 2),
        (2, 512, 1),
        (2, 513, 2),
    ] {
        let scene = Scene::new(Rules::default()).await;
        scene.all_delivered(&groups(count, traits)).await;
        assert_eq!(scene.received().len(), requests, "{count} groups of {traits} traits");
        assert_eq!(scene.vendor.groups().len(), count);
    }
    // A megabyte of encoded body: each of these groups takes 3 × 1,000 bytes of it and a little more.
    let scene = Scene::new(Rules::default()).await;
    let text = "é".repeat(500);
    let large: Vec<AddressedChange> =
        (0..640).map(|at| change(&format!("g{at}"), json!({"set": {"t": text}}))).collect();
    scene.all_delivered(&large).await;
    let sizes: Vec<usize> = scene.received().iter().map(|request| request.body.len()).collect();
    assert!(sizes.iter().all(|bytes| *bytes <= 1_000_000) && sizes.iter().sum::<usize>() > 1_900_000, "{sizes:?}");
    assert_eq!(sizes.len(), 3);
}

#[tokio::test]
async fn am_06_the_parts_of_a_large_group_follow_each_other() {
    let scene = Scene::new(Rules::default()).await;
    let hold = Arc::new(Notify::new());
    scene.vendor.script([Fault::Hold(hold.clone())]);
    let mut large = groups(1, 2_500);
    Arc::make_mut(&mut large[0].change).unset = BTreeSet::from(["gone".to_owned()]);
    let release = async {
        // While the first part waits for its answer no other may arrive.
        while scene.vendor.counts.requests.load(std::sync::atomic::Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        assert_eq!(scene.vendor.counts.requests.load(std::sync::atomic::Ordering::Relaxed), 1);
        hold.notify_one();
    };
    tokio::join!(scene.all_delivered(&large), release);
    let requests = scene.received();
    let counts = requests.iter().map(|request| {
        let properties = identified(request)[0]["group_properties"].as_object().unwrap().clone();
        properties.values().map(|traits| traits.as_object().unwrap().len()).sum::<usize>()
    });
    assert_eq!(counts.collect::<Vec<_>>(), [1_024, 1_024, 453]);
    assert_eq!(scene.vendor.groups().values().next().unwrap().len(), 2_500);
}

#[tokio::test]
async fn am_14_a_group_is_never_twice_in_a_request_and_the_last_word_wins() {
    let scene = Scene::new(Rules::default()).await;
    let page: Vec<AddressedChange> =
        (0..6).map(|at| change(if at % 2 == 0 { "a" } else { "b" }, json!({"set": {"n": at}}))).collect();
    scene.all_delivered(&page).await;
    for request in scene.received() {
        let values: Vec<Value> = identified(&request).iter().map(|one| one["group_value"].clone()).collect();
        assert!(values.len() < 2 || values[0] != values[1], "{values:?}");
    }
    let held: Vec<Value> = scene.vendor.groups().values().map(|traits| traits["n"].clone()).collect();
    assert_eq!(held, [json!(4), json!(5)]);
}

#[tokio::test]
async fn am_15_a_200_needs_no_json() {
    let scene = Scene::new(Rules::default()).await;
    let headers = vec![("content-type", "text/html".to_owned())];
    scene.vendor.script([Fault::Answer { status: 200, headers, body: "success".to_owned(), apply: true }]);
    scene.all_delivered(&groups(3, 1)).await;
    assert_eq!(scene.received().len(), 1);
}

#[tokio::test]
async fn am_16_a_400_is_not_repeated_and_one_bad_group_blocks_no_other() {
    let poison = BTreeSet::from(["g7".to_owned(), "g300".to_owned()]);
    let scene = Scene::new(Rules { poison, ..Rules::default() }).await;
    let (outcome, outcomes) = scene.deliver(&groups(600, 1)).await;
    outcome.unwrap();
    for (at, outcome) in outcomes.iter().enumerate() {
        if at == 7 || at == 300 {
            let reason = "HTTP 400: invalid_group_properties".to_owned();
            assert_eq!(*outcome, DeliveryOutcome::Rejected { reason, partly_applied: false });
        } else {
            assert_eq!(*outcome, DeliveryOutcome::Delivered, "{at}");
        }
    }
    let requests = scene.received();
    let bodies: BTreeSet<&Vec<u8>> = requests.iter().map(|request| &request.body).collect();
    assert_eq!(bodies.len(), requests.len(), "nothing went twice");
    // Two bad groups among 600: at most 2 × log₂ 600 requests each.
    assert!(requests.len() <= 40, "{}", requests.len());
    assert_eq!(scene.vendor.groups().len(), 598);
}

#[tokio::test]
async fn am_16_a_wrong_key_stops_everything_and_blames_no_group() {
    let scene = Scene::new(Rules::default()).await;
    scene.vendor.change(|rules| rules.api_key = Some("another".to_owned()));
    let (outcome, outcomes) = scene.deliver(&groups(5_000, 1)).await;
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), Kind::Destination);
    assert!(error.advice().unwrap().contains("a US key on the EU host"));
    assert!(error.what().contains("Invalid API key: ***") && !format!("{error:?}").contains(KEY), "{error}");
    assert!(
        outcomes.iter().all(|outcome| matches!(outcome, DeliveryOutcome::NotSent { reason } if !reason.contains(KEY)))
    );
    assert!(scene.received().len() <= 4, "those in flight and no more");
}

#[tokio::test]
async fn am_17_a_429_waits_fifteen_seconds_and_sends_the_same_body() {
    let scene = Scene::new(Rules::default()).await;
    let throttled = |after: Option<&str>| Fault::Answer {
        status: 429,
        headers: after.map(|after| ("retry-after", after.to_owned())).into_iter().collect(),
        body: "Too many requests".to_owned(),
        apply: false,
    };
    scene.vendor.script([throttled(None), throttled(Some("2")), throttled(Some("60"))]);
    scene.all_delivered(&groups(10, 2)).await;
    let requests = scene.received();
    assert_eq!(requests.iter().map(|request| request.status).collect::<Vec<_>>(), [429, 429, 429, 200]);
    assert!(requests.windows(2).all(|pair| pair[0].body == pair[1].body));
    let waited = scene.clock.elapsed();
    assert!(waited >= Duration::from_secs(15 + 15 + 60) && waited <= Duration::from_secs(15 + 15 + 62), "{waited:?}");
}

#[tokio::test]
async fn am_17_failures_and_broken_connections_are_repeated_with_the_same_body() {
    let scene = Scene::new(Rules::default()).await;
    let failing = |apply| Fault::Answer { status: 500, headers: Vec::new(), body: "oops".to_owned(), apply };
    scene.vendor.script([Fault::Drop, Fault::ApplyThenDrop, failing(false), failing(true), Fault::Drop]);
    scene.all_delivered(&groups(10, 2)).await;
    let requests = scene.received();
    assert_eq!(requests.iter().map(|request| request.status).collect::<Vec<_>>(), [0, 0, 500, 500, 0, 200]);
    assert!(requests.windows(2).all(|pair| pair[0].body == pair[1].body));
    assert_eq!(scene.vendor.groups().len(), 10);
}

#[tokio::test]
async fn am_17_no_answer_in_time_is_repeated_and_then_unknown() {
    let mut scene = Scene::new(Rules::default()).await;
    scene.settings =
        DeliverySettings { timeout: Duration::from_millis(100), attempts_max: 2, ..DeliverySettings::default() };
    let never = Arc::new(Notify::new());
    scene.vendor.script([Fault::Hold(never.clone()), Fault::Hold(never.clone())]);
    let (outcome, outcomes) = scene.deliver(&groups(1, 1)).await;
    outcome.unwrap();
    let reason = "no response within 0.1 s (tried 2 times)".to_owned();
    assert_eq!(outcomes, [DeliveryOutcome::Unconfirmed { reason }]);
}

#[tokio::test]
async fn am_17_a_413_is_halved_and_a_single_group_is_rejected() {
    let scene = Scene::new(Rules { body_bytes_max: 20_000, ..Rules::default() }).await;
    let mut page = groups(400, 4);
    page.push(change("huge", json!({"set": {"text": vec!["x".repeat(1_000); 25]}})));
    let (outcome, outcomes) = scene.deliver(&page).await;
    outcome.unwrap();
    assert!(outcomes[..400].iter().all(|outcome| *outcome == DeliveryOutcome::Delivered));
    assert!(
        matches!(&outcomes[400], DeliveryOutcome::Rejected { reason, partly_applied: false } if reason.contains("413"))
    );
    assert_eq!(scene.vendor.groups().len(), 400);
}

#[tokio::test]
async fn am_17_a_redirect_is_not_followed() {
    let scene = Scene::new(Rules::default()).await;
    let headers = vec![("location", "http://127.0.0.1:1/elsewhere".to_owned())];
    scene.vendor.script([Fault::Answer { status: 307, headers, body: String::new(), apply: false }]);
    let (outcome, outcomes) = scene.deliver(&groups(1, 1)).await;
    let error = outcome.unwrap_err();
    assert!(error.advice().unwrap().contains("base_url") && error.what().contains("HTTP 307"), "{error}");
    // Some servers work first and redirect then.
    assert!(matches!(outcomes[0], DeliveryOutcome::Unconfirmed { .. }));
    assert_eq!(scene.received().len(), 1);
}

#[tokio::test]
async fn am_18_the_key_is_in_the_body_only() {
    let scene = Scene::new(Rules::default()).await;
    let echo = |status| Fault::Answer { status, headers: Vec::new(), body: format!("you sent {KEY}"), apply: false };
    scene.vendor.script([echo(400), echo(500)]);
    let (_, outcomes) = scene.deliver(&groups(1, 1)).await;
    assert!(
        matches!(&outcomes[0], DeliveryOutcome::Rejected { reason, .. } if reason == "HTTP 400: you sent ***"),
        "{outcomes:?}"
    );
    let (_, outcomes) = scene.deliver(&groups(1, 1)).await;
    assert_eq!(outcomes, [DeliveryOutcome::Delivered]);
    scene.vendor.script([echo(200)]);
    let (outcome, outcomes) = scene.deliver(&groups(1, 1)).await;
    assert!(
        matches!(&outcomes[0], DeliveryOutcome::Unconfirmed { reason } if reason.starts_with("HTTP 200: you sent ***")),
        "{outcomes:?}"
    );
    assert!(outcome.unwrap_err().advice().unwrap().contains("check `base_url`"));
    let encoded: String = form_urlencoded::byte_serialize(KEY.as_bytes()).collect();
    for request in scene.received() {
        let outside_the_body = format!("{} {:?}", request.uri, request.headers);
        assert!(!outside_the_body.contains(KEY) && !outside_the_body.contains(&encoded));
        let text = String::from_utf8(request.body.clone()).unwrap();
        assert_eq!(text.matches(&encoded).count(), 1);
        let masked = scene.destination.masked(&groupcast::io::http::Request {
            method: "POST",
            url: String::new(),
            headers: Vec::new(),
            body: request.body,
            gzip: false,
        });
        assert!(!String::from_utf8(masked.body).unwrap().contains(&encoded));
    }
}

#[tokio::test]
async fn am_09_what_accumulates_follows_what_is_set_and_is_said_once() {
    let scene = Scene::new(Rules::default()).await;
    let group = ("org id".to_owned(), "acme".to_owned());
    scene.vendor.edit(|groups| {
        let held = json!({"logins": 10, "tags": "a", "log": ["old"]});
        groups.insert(group.clone(), held.as_object().unwrap().clone());
    });
    let all = json!({"set": {"plan": "pro"}, "add": {"logins": 2.5, "seats": 3},
        "append": {"tags": ["b"], "regions": ["eu"]}, "prepend": {"log": ["new"]}});
    scene.all_delivered(&[change("acme", all)]).await;
    let requests = scene.received();
    let operators: Vec<Vec<String>> = requests
        .iter()
        .map(|request| identified(request)[0]["group_properties"].as_object().unwrap().keys().cloned().collect())
        .collect();
    assert_eq!(operators, [vec!["$set"], vec!["$add", "$append", "$prepend"]]);
    let held = json!({"plan": "pro", "logins": 12.5, "seats": 3, "tags": ["a", "b"], "regions": ["eu"],
        "log": ["new", "old"]});
    assert_eq!(Value::Object(scene.vendor.groups()[&group].clone()), held);
}

#[tokio::test]
async fn am_09_an_unclear_answer_is_not_asked_for_again_and_a_clear_refusal_is() {
    let answer = |status, apply| Fault::Answer { status, headers: Vec::new(), body: "no".to_owned(), apply };
    for (fault, applied) in [
        (Fault::ApplyThenDrop, true),
        (Fault::Drop, false),
        (answer(500, true), true),
        (answer(503, false), false),
        (answer(408, false), false),
    ] {
        let scene = Scene::new(Rules::default()).await;
        scene.vendor.script([Fault::None, fault]);
        let (outcome, outcomes) = scene.deliver(&[change("a", json!({"set": {"s": 1}, "add": {"n": 1}}))]).await;
        outcome.unwrap();
        let [DeliveryOutcome::Unconfirmed { reason }] = &outcomes[..] else { panic!("{outcomes:?}") };
        assert!(reason.ends_with("; retrying it could apply it twice"), "{reason}");
        assert_eq!(scene.received().len(), 2, "nothing is repeated");
        let held = &scene.vendor.groups()[&("org id".to_owned(), "a".to_owned())];
        assert_eq!((&held["s"], held.get("n")), (&json!(1), applied.then_some(&json!(1))));
    }
    // Too many requests and too large a request had no effect, so they are no reason to give up.
    let scene = Scene::new(Rules::default()).await;
    scene.vendor.script([answer(429, false), answer(413, false)]);
    let page: Vec<AddressedChange> =
        (0..6).map(|at| change(&format!("g{at}"), json!({"append": {"l": [at]}}))).collect();
    scene.all_delivered(&page).await;
    assert_eq!(scene.received().iter().map(|one| one.status).collect::<Vec<_>>(), [429, 413, 200, 200]);
    for (at, held) in scene.vendor.groups().into_values().enumerate() {
        assert_eq!(held["l"], json!([at]));
    }
}

/// What a group's traits become by changes that are all carried out.
fn carry_out(groups: &mut Groups, change: &AddressedChange) {
    let held = groups.entry(("org id".to_owned(), change.key.clone())).or_default();
    for (name, value) in &change.change.set {
        held.insert(name.clone(), value.clone());
    }
    for (name, value) in &change.change.set_once {
        held.entry(name.clone()).or_insert_with(|| value.clone());
    }
    for name in &change.change.unset {
        held.remove(name);
    }
}

fn pages() -> impl Strategy<Value = Vec<Vec<AddressedChange>>> {
    let one = (0_u8..20, 0_u8..6, 0_u8..6, 0_u8..6, 0_u32..100).prop_map(|(key, set, once, unset, value)| {
        let name = |prefix: &str, at: u8| format!("{prefix}{at}");
        let change = Change {
            set: (0..set).map(|at| (name("s", at), json!(value))).collect(),
            set_once: (0..once).map(|at| (name("o", at), json!("first"))).collect(),
            unset: (set..set + unset).map(|at| name("s", at)).collect(),
            ..Change::default()
        };
        AddressedChange { key: format!("g{key}"), change: change.into(), ..AddressedChange::default() }
    });
    prop::collection::vec(prop::collection::vec(one, 1..30), 1..4)
}

fn faults() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(0_u8..8, 0..25)
}

fn fault(kind: u8) -> Fault {
    let answer = |status, apply| Fault::Answer { status, headers: Vec::new(), body: "no".to_owned(), apply };
    match kind {
        0 => Fault::Drop,
        1 => Fault::ApplyThenDrop,
        2 => answer(500, false),
        3 => answer(500, true),
        4 => answer(429, false),
        5 => answer(413, false),
        _ => Fault::None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// After any faults, once everything is acknowledged the vendor holds exactly what was said.
    #[test]
    fn after_any_storm_the_vendor_holds_what_was_said(pages in pages(), faults in faults()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let scene = Scene::new(Rules::default()).await;
            scene.vendor.script(faults.into_iter().map(fault));
            let mut wanted = Groups::new();
            for page in pages {
                let mut left = page;
                // A change that was not acknowledged is said again, in its place, until it is.
                for _ in 0..100 {
                    let (_, outcomes) = scene.deliver(&left).await;
                    let mut again = Vec::new();
                    let mut blocked = BTreeSet::new();
                    for (change, outcome) in left.into_iter().zip(outcomes) {
                        if outcome == DeliveryOutcome::Delivered && !blocked.contains(&change.key) {
                            carry_out(&mut wanted, &change);
                        } else {
                            blocked.insert(change.key.clone());
                            again.push(change);
                        }
                    }
                    left = again;
                    if left.is_empty() {
                        break;
                    }
                }
                assert!(left.is_empty(), "everything arrives in the end");
            }
            wanted.retain(|_, traits| !traits.is_empty());
            let mut held = scene.vendor.groups();
            held.retain(|_, traits| !traits.is_empty());
            assert_eq!(held, wanted);
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever goes wrong, nothing is accumulated twice, and every outcome tells how often it may have been.
    #[test]
    fn am_09_in_any_storm_nothing_is_accumulated_twice(groups in 1_usize..150, faults in faults()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let scene = Scene::new(Rules::default()).await;
            scene.vendor.script(faults.into_iter().map(fault));
            let page: Vec<AddressedChange> = (0..groups)
                .map(|at| change(&format!("g{at}"), json!({"set": {"s": at}, "add": {"n": 1}, "append": {"l": ["x"]}})))
                .collect();
            let (_, outcomes) = scene.deliver(&page).await;
            let held = scene.vendor.groups();
            for (at, outcome) in outcomes.iter().enumerate() {
                let traits = held.get(&("org id".to_owned(), format!("g{at}")));
                let added = traits.and_then(|traits| traits.get("n").cloned()).unwrap_or(json!(0));
                let listed = traits.and_then(|traits| traits.get("l").cloned()).unwrap_or(json!([]));
                let (one, none) = ((json!(1), json!(["x"])), (json!(0), json!([])));
                match outcome {
                    DeliveryOutcome::Delivered => assert_eq!((added, listed), one),
                    DeliveryOutcome::Unconfirmed { .. } | DeliveryOutcome::Rejected { partly_applied: true, .. } => {
                        let held = (added, listed);
                        assert!(held == one || held == none, "{held:?}");
                    }
                    DeliveryOutcome::NotSent { .. } | DeliveryOutcome::Rejected { .. } => assert_eq!((added, listed), none),
                }
            }
        });
    }
}

#[tokio::test]
async fn the_stand_in_shows_what_it_holds_and_can_only_count() {
    let scene = Scene::new(Rules::default()).await;
    scene.all_delivered(&groups(3, 2)).await;
    scene.vendor.change(|rules| rules.count_only = true);
    scene.all_delivered(&groups(7, 2)).await;
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!((count(&scene.vendor.counts.requests), count(&scene.vendor.counts.groups)), (2, 10));
    assert_eq!(scene.vendor.groups().len(), 3, "only counting keeps nothing");
}
