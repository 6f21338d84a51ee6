//! The statements AM-20 … AM-26 about sequences of requests, over real HTTP against a stand-in for the vendor. Those
//! about bytes alone are in `src/destination/amplitude/http_v2/tests.rs`.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use groupcast::delivery::{Delivery, DeliveryOutcome, DeliverySettings, Signal};
use groupcast::destination::AddressedChange;
use groupcast::destination::amplitude::http_v2::HttpV2;
use groupcast::destination::amplitude::{self, AmplitudeApi};
use groupcast::error::{Kind, Result};
use groupcast::io::http::HttpClient;
use groupcast::io::{Clock, Random};
use groupcast::model::{Change, Op};
use groupcast::secret::Secret;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::support::amplitude::{Fault, Groups, Received, Rules, Vendor};
use crate::support::clock::SimulatedClock;
use crate::support::toy::RecordedOutcomes;

const KEY: &str = "0123456789abcdef+/= &é";
const DAY: Duration = Duration::from_secs(86_400);

/// A stand-in at work whose time is ours, the real encoder and the real way out.
struct Scene {
    vendor: Vendor,
    destination: HttpV2,
    http_client: HttpClient,
    clock: Arc<SimulatedClock>,
    settings: DeliverySettings,
}

impl Scene {
    async fn new(rules: Rules) -> Scene {
        Scene::with(rules, false).await
    }

    async fn with(rules: Rules, gzip: bool) -> Scene {
        let clock: Arc<SimulatedClock> = Arc::default();
        let rules = Rules { api_key: Some(KEY.to_owned()), record: true, ..rules };
        let vendor = Vendor::with_clock(rules, clock.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = Some(format!("http://{}", listener.local_addr().unwrap()));
        tokio::spawn(vendor.clone().serve(listener));
        let settings = amplitude::AmplitudeSettings {
            api: AmplitudeApi::HttpV2,
            base_url,
            gzip,
            ..amplitude::AmplitudeSettings::new(Secret::new(KEY))
        };
        Scene {
            vendor,
            destination: HttpV2::new(&settings, "org id").unwrap(),
            http_client: HttpClient::new().unwrap(),
            clock,
            settings: DeliverySettings::default(),
        }
    }

    async fn deliver(&self, changes: &[AddressedChange]) -> (Result<()>, Vec<DeliveryOutcome>) {
        let (random, outcomes) = (Random::seeded(7), RecordedOutcomes::default());
        let (_signal, signalled) = watch::channel(Signal::Go);
        let settings = self.settings.clone();
        let delivery = Delivery::new(&self.destination, &self.http_client, &*self.clock, &random, settings, signalled);
        let outcome = delivery.deliver(changes, &outcomes).await;
        assert_eq!(self.count(|vendor| &vendor.counts.misnamed), 0, "one id for two things");
        (outcome, outcomes.all(changes.len()))
    }

    async fn all_delivered(&self, changes: &[AddressedChange]) {
        let (outcome, outcomes) = self.deliver(changes).await;
        outcome.unwrap();
        assert_eq!(outcomes.iter().find(|outcome| **outcome != DeliveryOutcome::Delivered), None);
    }

    fn received(&self) -> Vec<Received> {
        self.vendor.received()
    }

    fn statuses(&self) -> Vec<u16> {
        self.received().iter().map(|request| request.status).collect()
    }

    fn count(&self, of: impl Fn(&Vendor) -> &AtomicU64) -> u64 {
        of(&self.vendor).load(Ordering::Relaxed)
    }

    fn held(&self, key: &str) -> Value {
        Value::Object(self.vendor.groups()[&("org id".to_owned(), key.to_owned())].clone())
    }
}

fn change(key: &str, settled_seq: u64, change: Value) -> AddressedChange {
    let change = Arc::new(serde_json::from_value(change).unwrap());
    AddressedChange { key: key.to_owned(), change, settled_seq, ..AddressedChange::default() }
}

fn groups(count: usize, traits: usize) -> Vec<AddressedChange> {
    let set: Map<String, Value> = (0..traits).map(|at| (format!("t{at}"), json!(at))).collect();
    (0..count).map(|at| change(&format!("g{at}"), 0, json!({"set": set}))).collect()
}

fn answer(status: u16, body: Value, apply: bool) -> Fault {
    Fault::Answer { status, headers: Vec::new(), body: body.to_string(), apply }
}

/// The events of a request.
fn events(received: &Received) -> Vec<Value> {
    let body: Value = serde_json::from_slice(&received.body).unwrap();
    body["events"].as_array().unwrap().clone()
}

#[tokio::test]
async fn am_20_one_post_of_events_and_the_state_that_follows() {
    let scene = Scene::new(Rules::default()).await;
    let first = json!({"set": {"plan": "pro", "arr": 12.5}, "set_once": {"first": "a"}, "add": {"n": 2},
        "append": {"tags": ["a"]}});
    scene.all_delivered(&[change("Acme Corp", 0, first)]).await;
    let request = &scene.received()[0];
    assert_eq!(
        (request.uri.as_str(), &request.headers["content-type"]),
        ("/2/httpapi", &"application/json".parse().unwrap())
    );
    assert!(!request.headers.contains_key("content-encoding") && !request.headers.contains_key("authorization"));
    let second = json!({"set": {"arr": 13}, "set_once": {"first": "b"}, "unset": ["plan"], "add": {"n": -0.5},
        "append": {"tags": ["b", "c"]}, "prepend": {"tags2": ["z"]}});
    scene.all_delivered(&[change("Acme Corp", 1, second)]).await;
    assert_eq!(
        scene.held("Acme Corp"),
        json!({"arr": 13, "first": "a", "n": 1.5, "tags": ["a", "b", "c"], "tags2": ["z"]})
    );
}

#[tokio::test]
async fn am_21_no_request_passes_a_limit() {
    for (count, traits, requests) in
        [(1_999, 1, 1), (2_000, 1, 1), (2_001, 1, 2), (3, 1_024, 1), (1, 1_025, 2), (4_000, 2, 2)]
    {
        let scene = Scene::new(Rules::default()).await;
        scene.all_delivered(&groups(count, traits)).await;
        assert_eq!(scene.received().len(), requests, "{count} groups of {traits} traits");
        assert_eq!(scene.vendor.groups().len(), count);
        assert!(scene.vendor.groups().values().all(|held| held.len() == traits));
    }
    let scene = Scene::new(Rules::default()).await;
    let text = "é".repeat(1_000);
    let large: Vec<AddressedChange> =
        (0..900).map(|at| change(&format!("g{at}"), 0, json!({"set": {"t": text}}))).collect();
    scene.all_delivered(&large).await;
    let sizes: Vec<usize> = scene.received().iter().map(|request| request.body.len()).collect();
    assert!(
        sizes.len() == 2 && sizes.iter().all(|bytes| *bytes <= 1_000_000) && sizes.iter().any(|bytes| *bytes > 990_000),
        "{sizes:?}"
    );
}

#[tokio::test]
async fn am_21_the_megabyte_is_counted_before_compression() {
    let scene = Scene::with(Rules::default(), true).await;
    let text = "é".repeat(1_000);
    let large: Vec<AddressedChange> =
        (0..900).map(|at| change(&format!("g{at}"), 0, json!({"set": {"t": text}}))).collect();
    scene.all_delivered(&large).await;
    let requests = scene.received();
    assert_eq!(requests.len(), 2, "packed as if it were not compressed");
    for request in &requests {
        assert_eq!(request.headers["content-encoding"], "gzip");
        assert!(request.body.len() < 50_000);
        let mut unpacked = String::new();
        flate2::read::GzDecoder::new(&request.body[..]).read_to_string(&mut unpacked).unwrap();
        assert!(unpacked.starts_with(r#"{"api_key":""#) && unpacked.len() <= 1_000_000);
    }
    assert_eq!(scene.vendor.groups().len(), 900);
}

#[tokio::test]
async fn am_22_a_lost_answer_is_asked_for_again_and_added_once() {
    let scene = Scene::new(Rules::default()).await;
    scene.vendor.script([Fault::ApplyThenDrop, answer(500, json!({}), true), Fault::Drop]);
    let sent = json!({"set": {"plan": "pro"}, "add": {"n": 2}, "append": {"tags": ["a"]}, "prepend": {"log": ["x"]}});
    scene.all_delivered(&[change("acme", 0, sent.clone())]).await;
    let requests = scene.received();
    assert_eq!(scene.statuses(), [0, 500, 0, 200]);
    assert!(requests.windows(2).all(|pair| pair[0].body == pair[1].body), "byte for byte");
    assert_eq!(scene.held("acme"), json!({"plan": "pro", "n": 2, "tags": ["a"], "log": ["x"]}));
    assert_eq!(scene.count(|vendor| &vendor.counts.repeated), 2);
    // The same words after they were settled are something new.
    scene.all_delivered(&[change("acme", 1, sent)]).await;
    assert_eq!(scene.held("acme")["n"], json!(4));
    let ids: BTreeSet<String> = scene.received().iter().map(|one| events(one)[0]["insert_id"].to_string()).collect();
    assert_eq!(ids.len(), 2);
}

#[tokio::test]
async fn am_22_a_value_that_comes_back_is_no_repetition() {
    // GIVEN two runs whose answers were lost, so that no state was settled in between
    let mut scene = Scene::new(Rules::default()).await;
    scene.settings.attempts_max = 1;
    let run = |plan: &str, second: i64| AddressedChange {
        at: chrono::DateTime::from_timestamp(second, 0).unwrap(),
        ..change("acme", 5, json!({"set": {"plan": plan}}))
    };
    for (plan, second) in [("pro", 1), ("free", 2)] {
        scene.vendor.script([Fault::ApplyThenDrop]);
        let (_, outcomes) = scene.deliver(&[run(plan, second)]).await;
        assert!(matches!(outcomes[..], [DeliveryOutcome::Unconfirmed { .. }]), "{outcomes:?}");
        assert_eq!(scene.held("acme"), json!({"plan": plan}));
    }
    // WHEN the third says what the first said
    scene.all_delivered(&[run("pro", 3)]).await;
    // THEN it is not ignored
    assert_eq!(scene.held("acme"), json!({"plan": "pro"}));
}

#[tokio::test]
async fn am_22_an_id_is_remembered_for_seven_days() {
    let scene = Scene::new(Rules::default()).await;
    let sent = [change("acme", 0, json!({"add": {"n": 1}}))];
    scene.all_delivered(&sent).await;
    scene.clock.sleep(7 * DAY - Duration::from_secs(60)).await;
    scene.all_delivered(&sent).await;
    assert_eq!(scene.held("acme"), json!({"n": 1}), "recognised");
    scene.clock.sleep(Duration::from_secs(60)).await;
    scene.all_delivered(&sent).await;
    assert_eq!(scene.held("acme"), json!({"n": 2}), "forgotten: the stand-in's window ends");
}

#[tokio::test]
async fn am_23_the_named_events_are_rejected_and_the_others_sent_once_more() {
    let poison = BTreeSet::from(["g1".to_owned(), "g3".to_owned()]);
    let scene = Scene::new(Rules { poison, ..Rules::default() }).await;
    let (outcome, outcomes) = scene.deliver(&groups(600, 2)).await;
    outcome.unwrap();
    for (at, outcome) in outcomes.iter().enumerate() {
        if at == 1 || at == 3 {
            let reason = "HTTP 400: Invalid field values on some events: `group_properties`".to_owned();
            assert_eq!(*outcome, DeliveryOutcome::Rejected { reason, partly_applied: false });
        } else {
            assert_eq!(*outcome, DeliveryOutcome::Delivered, "{at}");
        }
    }
    assert_eq!(scene.statuses(), [400, 200]);
    let (first, second) = (events(&scene.received()[0]), events(&scene.received()[1]));
    let left: Vec<Value> =
        first.into_iter().enumerate().filter(|(at, _)| *at != 1 && *at != 3).map(|(_, one)| one).collect();
    assert_eq!(second, left, "the same events, with the same ids");
    assert_eq!(scene.vendor.groups().len(), 598);
}

#[tokio::test]
async fn am_23_a_wrong_key_and_a_project_that_wants_users_blame_no_group() {
    let scene = Scene::new(Rules::default()).await;
    scene.vendor.change(|rules| rules.api_key = Some("another".to_owned()));
    let (outcome, outcomes) = scene.deliver(&groups(9_000, 1)).await;
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), Kind::Destination);
    assert!(error.advice().unwrap().contains("a US key on the EU host"));
    assert!(error.what().contains("Invalid API key: ***") && !format!("{error:?}").contains(KEY), "{error}");
    assert!(
        outcomes.iter().all(|outcome| matches!(outcome, DeliveryOutcome::NotSent { reason } if !reason.contains(KEY)))
    );
    assert!(scene.received().len() <= 4, "those in flight and no more");

    let scene = Scene::new(Rules::default()).await;
    let missing = json!({"code": 400, "error": "Invalid events", "events_with_missing_fields": {"user_id": [0, 1, 2]}});
    scene.vendor.script([answer(400, missing, false)]);
    let (outcome, outcomes) = scene.deliver(&groups(3, 1)).await;
    assert!(outcome.unwrap_err().advice().unwrap().contains("groupidentify"));
    assert!(outcomes.iter().all(|outcome| matches!(outcome, DeliveryOutcome::NotSent { .. })));
    // A project that refuses every event, for a reason of its own, does not turn its accounts into rejected ones.
    let scene = Scene::new(Rules { poison: (0..500).map(|at| format!("g{at}")).collect(), ..Rules::default() }).await;
    let (outcome, outcomes) = scene.deliver(&groups(500, 1)).await;
    assert_eq!(outcome.unwrap_err().kind(), Kind::Destination);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, DeliveryOutcome::NotSent { .. })));
}

#[tokio::test]
async fn am_24_throttled_events_wait_half_a_minute() {
    let scene = Scene::new(Rules { events_per_second: Some(10), ..Rules::default() }).await;
    scene.all_delivered(&groups(20, 1)).await;
    let before = scene.received().len();
    // This second's events are used up.
    let started = scene.clock.elapsed();
    let more: Vec<AddressedChange> = (0..5).map(|at| change(&format!("g{at}"), 1, json!({"add": {"n": 1}}))).collect();
    scene.all_delivered(&more).await;
    let waited = scene.clock.elapsed() - started;
    assert!(waited >= Duration::from_secs(30) && waited <= Duration::from_secs(31), "{waited:?}");
    let requests = scene.received().split_off(before);
    assert_eq!(requests.iter().map(|one| one.status).collect::<Vec<_>>(), [429, 200], "once is enough");
    assert_eq!(requests[0].body, requests[1].body);
    assert_eq!(scene.held("g3"), json!({"t0": 0, "n": 1}));
}

#[tokio::test]
async fn am_24_a_days_quota_ends_the_run_and_the_next_day_goes_on() {
    let scene = Scene::new(Rules { events_per_day: Some(1_000), ..Rules::default() }).await;
    scene.all_delivered(&groups(1_000, 1)).await;
    let more: Vec<AddressedChange> =
        (0..3_000).map(|at| change(&format!("g{at}"), 1, json!({"add": {"n": 1}}))).collect();
    let (outcome, outcomes) = scene.deliver(&more).await;
    let error = outcome.unwrap_err();
    assert!(error.kind() == Kind::Destination && error.advice().unwrap().contains("tomorrow"), "{error}");
    assert!(
        outcomes.iter().all(|outcome| matches!(outcome, DeliveryOutcome::NotSent { .. })),
        "nothing is unconfirmed"
    );
    scene.clock.sleep(DAY).await;
    scene.all_delivered(&more[..900]).await;
    assert_eq!(scene.held("g899"), json!({"t0": 0, "n": 1}));
}

#[tokio::test]
async fn am_25_failures_are_repeated_and_a_413_is_halved_with_the_same_ids() {
    let scene = Scene::new(Rules::default()).await;
    let unavailable = json!({"code": 503, "error": "Service Unavailable"});
    scene.vendor.script([
        answer(500, json!({}), false),
        answer(502, json!("<html>"), true),
        answer(504, json!({}), false),
        answer(503, unavailable, false),
    ]);
    scene.all_delivered(&groups(10, 2)).await;
    assert_eq!(scene.statuses(), [500, 502, 504, 503, 200]);
    assert!(scene.received().windows(2).all(|pair| pair[0].body == pair[1].body));
    assert_eq!(scene.vendor.groups().len(), 10);

    let scene = Scene::new(Rules { body_bytes_max: 20_000, ..Rules::default() }).await;
    let mut page = groups(400, 4);
    page.push(change("huge", 0, json!({"append": {"text": vec!["x".repeat(1_000); 25]}})));
    let (outcome, outcomes) = scene.deliver(&page).await;
    outcome.unwrap();
    assert!(outcomes[..400].iter().all(|outcome| *outcome == DeliveryOutcome::Delivered));
    assert!(
        matches!(&outcomes[400], DeliveryOutcome::Rejected { reason, partly_applied: false } if reason.contains("Payload too large"))
    );
    assert_eq!(scene.vendor.groups().len(), 400);
    let mut ids: Vec<BTreeSet<String>> = vec![BTreeSet::new(); 401];
    for event in scene.received().iter().flat_map(events) {
        let key = event["groups"]["org id"].as_str().unwrap();
        let at = key.strip_prefix('g').map_or(400, |at| at.parse().unwrap());
        ids[at].insert(event["insert_id"].to_string());
    }
    assert!(ids.iter().all(|ids| ids.len() == 1), "however often it is packed anew");
}

#[tokio::test]
async fn am_25_what_was_never_answered_is_unknown_unless_amplitude_says_it_took_nothing() {
    let outcomes = async |fault: fn() -> Fault| {
        let mut scene = Scene::new(Rules::default()).await;
        scene.settings.attempts_max = 2;
        scene.vendor.script([fault(), fault()]);
        scene.deliver(&[change("acme", 0, json!({"add": {"n": 1}}))]).await.1
    };
    assert!(matches!(outcomes(|| Fault::ApplyThenDrop).await[..], [DeliveryOutcome::Unconfirmed { .. }]));
    assert!(matches!(outcomes(|| answer(503, json!("busy"), false)).await[..], [DeliveryOutcome::Unconfirmed { .. }]));
    let unavailable = || answer(503, json!({"code": 503, "error": "Service Unavailable"}), false);
    assert!(matches!(outcomes(unavailable).await[..], [DeliveryOutcome::NotSent { .. }]));
}

/// What a group's traits become by changes that are all carried out.
fn carry_out(groups: &mut Groups, addressed: &AddressedChange) {
    let held = groups.entry(("org id".to_owned(), addressed.key.clone())).or_default();
    let int = |value: &Value| value.as_i64().unwrap();
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    for (op, name, value) in addressed.change.values() {
        let before = held.get(name);
        let after = match op {
            Op::Set => value.clone(),
            Op::SetOnce => before.unwrap_or(value).clone(),
            Op::Add => json!(before.map_or(0, int) + int(value)),
            Op::Append => json!([list(before), list(Some(value))].concat()),
            Op::Prepend => json!([list(Some(value)), list(before)].concat()),
        };
        held.insert(name.clone(), after);
    }
    for name in &addressed.change.unset {
        held.remove(name);
    }
}

fn pages() -> impl Strategy<Value = Vec<Vec<AddressedChange>>> {
    let one = (0_u8..20, 0_usize..4, 0_u8..64, -50_i32..50).prop_map(|(key, traits, ops, value)| {
        let traits = |prefix: &str, value: Value| -> Map<String, Value> {
            (0..traits).map(|at| (format!("{prefix}{at}"), value.clone())).collect()
        };
        let mut change = Change::default();
        for (at, op) in Op::ALL.iter().copied().enumerate().filter(|(at, _)| ops & (1 << at) != 0) {
            let value = if at > 2 { json!([value]) } else { json!(value) };
            *change.under(op) = traits(op.name(), value);
        }
        change.unset.extend((ops & 32 != 0).then(|| "set3".to_owned()));
        AddressedChange { key: format!("g{key}"), change: change.into(), ..AddressedChange::default() }
    });
    prop::collection::vec(prop::collection::vec(one, 1..30), 1..4)
}

fn fault(kind: u8) -> Fault {
    match kind {
        0 => Fault::Drop,
        1 => Fault::ApplyThenDrop,
        2 => answer(500, json!({}), false),
        3 => answer(502, json!({}), true),
        4 => answer(429, json!({"code": 429, "throttled_events": [0]}), false),
        5 => answer(413, json!({"code": 413, "error": "Payload too large"}), false),
        _ => Fault::None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// After any faults, once everything is acknowledged the vendor holds exactly what was said, each word once.
    #[test]
    fn after_any_storm_everything_was_carried_out_once(
        pages in pages(), faults in prop::collection::vec(0_u8..8, 0..25), gzip in any::<bool>()
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let scene = Scene::with(Rules::default(), gzip).await;
            scene.vendor.script(faults.into_iter().map(fault));
            let (mut wanted, mut seq) = (Groups::new(), 0);
            for mut left in pages {
                for change in &mut left {
                    seq += 1;
                    change.settled_seq = seq;
                }
                // A run says one thing about a group.
                let mut keys = BTreeSet::new();
                left.retain(|change| keys.insert(change.key.clone()));
                // A change that was not acknowledged is said again, under its id, until it is.
                for _ in 0..100 {
                    let (_, outcomes) = scene.deliver(&left).await;
                    let (done, again): (Vec<_>, Vec<_>) =
                        left.into_iter().zip(outcomes).partition(|(_, outcome)| *outcome == DeliveryOutcome::Delivered);
                    done.iter().for_each(|(change, _)| carry_out(&mut wanted, change));
                    left = again.into_iter().map(|(change, _)| change).collect();
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
