//! The statements of the wire reference about ThriveStack that speak of sequences of requests, over real HTTP against its
//! rules. Those about bytes alone are in `src/destination/thrivestack/tests.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use groupcast::delivery::{Delivery, DeliveryOutcome, DeliverySettings, Signal};
use groupcast::destination::thrivestack::{self, ThriveStack, ThriveStackWire};
use groupcast::destination::{AddressedChange, User};
use groupcast::error::Result;
use groupcast::io::Random;
use groupcast::io::http::HttpClient;
use groupcast::model::Change;
use groupcast::secret::Secret;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::support::cli::Place;
use crate::support::clock::SimulatedClock;
use crate::support::group_server::{Answer, Fault, Groups, Received, Server, answer};
use crate::support::thrivestack::Vendor;
use crate::support::toy::RecordedOutcomes;

const KEY: &str = "ts-k3y-7f1d2c9a4b";

struct Scene {
    server: Server<Vendor>,
    destination: ThriveStack,
    http_client: HttpClient,
    clock: Arc<SimulatedClock>,
    settings: DeliverySettings,
}

/// What a page came to: its outcome, each change's outcome, the vendor's remarks and the repetitions.
struct Told {
    outcome: Result<()>,
    outcomes: Vec<DeliveryOutcome>,
    warnings: BTreeMap<String, u64>,
    retries: u64,
}

impl Scene {
    fn new(wire: ThriveStackWire) -> Scene {
        Scene::with(wire, KEY)
    }

    fn with(wire: ThriveStackWire, key: &str) -> Scene {
        let server = Server::start(Vendor::new(KEY, wire == ThriveStackWire::Single));
        let settings = thrivestack::ThriveStackSettings {
            api_key: Secret::new(key),
            base_url: Some(server.url.clone()),
            wire,
            legacy_fields: true,
            context: None,
        };
        Scene {
            destination: ThriveStack::new(&settings, "company").unwrap(),
            server,
            http_client: HttpClient::new().unwrap(),
            clock: Arc::default(),
            settings: DeliverySettings::default(),
        }
    }

    async fn deliver(&self, changes: &[AddressedChange]) -> Told {
        let (random, outcomes) = (Random::seeded(7), RecordedOutcomes::default());
        let (_signal, signalled) = watch::channel(Signal::Go);
        let settings = self.settings.clone();
        let delivery = Delivery::new(&self.destination, &self.http_client, &*self.clock, &random, settings, signalled);
        let outcome = delivery.deliver(changes, &outcomes).await;
        let counters = delivery.counters();
        let retries = counters.retries.load(std::sync::atomic::Ordering::Relaxed);
        Told { outcome, outcomes: outcomes.all(changes.len()), warnings: counters.warnings(), retries }
    }

    async fn all_delivered(&self, changes: &[AddressedChange]) -> Told {
        let delivered = self.deliver(changes).await;
        assert!(delivered.outcome.is_ok(), "{:?}", delivered.outcome);
        assert_eq!(delivered.outcomes.iter().find(|outcome| **outcome != DeliveryOutcome::Delivered), None);
        delivered
    }

    fn groups(&self) -> Groups {
        self.server.rules().groups.clone()
    }

    fn received(&self) -> Vec<Received> {
        self.server.received()
    }
}

fn change(key: &str, set: Value) -> AddressedChange {
    AddressedChange {
        key: key.to_owned(),
        user: Some(User::Id(format!("account:{key}"))),
        change: Arc::new(Change { set: set.as_object().unwrap().clone(), ..Change::default() }),
        ..AddressedChange::default()
    }
}

fn groups(count: usize) -> Vec<AddressedChange> {
    (0..count).map(|at| change(&format!("g{at}"), json!({"n": at}))).collect()
}

/// A group's traits as the vendor keeps them.
fn held(mut traits: Value) -> Map<String, Value> {
    traits["group_type"] = json!("company");
    traits.as_object().unwrap().clone()
}

#[tokio::test]
async fn ts_01_ts_02_ts_13_both_wires_leave_the_same_state() {
    for (wire, requests) in [(ThriveStackWire::Array, 2), (ThriveStackWire::Single, 3)] {
        let scene = Scene::new(wire);
        let address = json!({"city": "Köln", "postal_code": "50667"});
        scene.all_delivered(&[change("acme", json!({"plan": "pro", "address": address})), groups(1).remove(0)]).await;
        scene.all_delivered(&[change("acme", json!({"plan": null, "employees": 7}))]).await;
        let expected = Groups::from([
            ("acme".to_owned(), held(json!({"plan": null, "employees": 7, "address": address}))),
            ("g0".to_owned(), held(json!({"n": 0}))),
        ]);
        assert_eq!(scene.groups(), expected);
        assert_eq!(scene.server.rules().users["acme"], "account:acme");
        assert_eq!(scene.received().len(), requests, "{wire:?}");
        assert!(scene.received().iter().all(|request| request.json().is_array() == (wire == ThriveStackWire::Array)));
    }
}

#[tokio::test]
async fn ts_07_no_request_passes_a_limit() {
    for (count, requests) in [(999, 1), (1_000, 1), (1_001, 2)] {
        let scene = Scene::new(ThriveStackWire::Array);
        scene.all_delivered(&groups(count)).await;
        assert_eq!((scene.groups().len(), scene.received().len()), (count, requests));
    }
    let scene = Scene::new(ThriveStackWire::Array);
    let large: Vec<AddressedChange> =
        (0..50).map(|at| change(&format!("g{at}"), json!({"t": "é".repeat(50_000)}))).collect();
    scene.all_delivered(&large).await;
    let sizes: Vec<usize> = scene.received().iter().map(|request| request.body.len()).collect();
    assert!(sizes.len() == 3 && sizes.iter().all(|bytes| *bytes <= 2_000_000), "{sizes:?}");
}

#[tokio::test]
async fn ts_04_a_group_without_a_known_user_stays_here_and_the_others_arrive() {
    let scene = Scene::new(ThriveStackWire::Array);
    let mut page = groups(10);
    page[3].user = None;
    page[4].user = Some(User::Anonymous("visitor".to_owned()));
    let delivered = scene.deliver(&page).await;
    delivered.outcome.unwrap();
    for (at, outcome) in delivered.outcomes.iter().enumerate() {
        assert_eq!(matches!(outcome, DeliveryOutcome::Rejected { .. }), at == 3 || at == 4, "{at} {outcome:?}");
    }
    assert_eq!((scene.groups().len(), scene.received().len()), (8, 1));
}

#[tokio::test]
async fn ts_11_warnings_are_told_and_success_false_is_not_delivered() {
    let scene = Scene::new(ThriveStackWire::Array);
    scene.server.rules().warnings = vec![json!("trait `n` is not reserved"), json!("late")];
    let delivered = scene.all_delivered(&groups(1_500)).await;
    let expected = BTreeMap::from([("trait `n` is not reserved (and 1 more in the same response)".to_owned(), 2)]);
    assert_eq!(delivered.warnings, expected, "equal warnings are counted together");
    let scene = Scene::new(ThriveStackWire::Array);
    scene.server.rules().sour = Some("g5".to_owned());
    let delivered = scene.deliver(&groups(40)).await;
    delivered.outcome.unwrap();
    let DeliveryOutcome::Rejected { reason, .. } = &delivered.outcomes[5] else {
        panic!("{:?}", delivered.outcomes[5])
    };
    assert!(reason.contains("could not be processed") && reason.contains("resp-sour"), "{reason}");
    assert_eq!(delivered.outcomes.iter().filter(|outcome| **outcome == DeliveryOutcome::Delivered).count(), 39);
    assert_eq!(scene.groups().len(), 39);
}

#[tokio::test]
async fn ts_12_one_bad_group_is_found_a_bad_key_stops_and_repetitions_are_counted() {
    let scene = Scene::new(ThriveStackWire::Array);
    scene.server.rules().poison = Some("g17".to_owned());
    let delivered = scene.deliver(&groups(100)).await;
    delivered.outcome.unwrap();
    assert!(
        matches!(&delivered.outcomes[17], DeliveryOutcome::Rejected { reason, .. } if reason.contains("invalid traits"))
    );
    assert_eq!(scene.groups().len(), 99);

    let scene = Scene::with(ThriveStackWire::Array, "another-key");
    let delivered = scene.deliver(&groups(3)).await;
    let error = delivered.outcome.unwrap_err();
    assert!(error.to_string().contains("invalid api key"), "{error}");
    assert!(error.advice().unwrap_or_default().contains("check `api_key`"));
    assert!(delivered.outcomes.iter().all(|outcome| matches!(outcome, DeliveryOutcome::NotSent { .. })));

    // An answer that is lost after the work was done: the same values twice are the same values.
    let scene = Scene::new(ThriveStackWire::Array);
    let throttled = Answer { headers: vec![("retry-after", "20".to_owned())], ..answer(429, "") };
    scene.server.script([Fault::AppliedThenLost, Fault::AppliedThen(answer(500, "")), Fault::Answer(throttled)]);
    let delivered = scene.all_delivered(&groups(2)).await;
    assert_eq!((delivered.retries, scene.received().len()), (3, 4));
    let bodies: Vec<Vec<u8>> = scene.received().into_iter().map(|request| request.body).collect();
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]), "the same bytes");
    assert_eq!(scene.groups().len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(25))]

    /// After any faults, once everything is acknowledged, the vendor holds what was said.
    #[test]
    fn after_any_storm_the_vendor_holds_what_was_said(
        pages in prop::collection::vec(prop::collection::btree_map(0_u8..10, prop::collection::btree_map(0_u8..4, prop::option::of(0_u32..3), 1..4), 1..8), 1..5),
        faults in prop::collection::vec(0_u8..8, 0..20), single in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let scene = Scene::new(if single { ThriveStackWire::Single } else { ThriveStackWire::Array });
            scene.server.script(faults.into_iter().map(|fault| match fault {
                0 => Fault::Lost,
                1 => Fault::AppliedThenLost,
                2 => Fault::Answer(answer(500, "")),
                3 => Fault::AppliedThen(answer(500, "")),
                4 => Fault::Answer(answer(429, "")),
                _ => Fault::None,
            }));
            let mut wanted = Groups::new();
            for page in pages {
                let mut left: Vec<AddressedChange> = page.into_iter().map(|(key, traits)| {
                    let set: Map<String, Value> = traits.into_iter().map(|(name, value)| (format!("t{name}"), json!(value))).collect();
                    change(&format!("g{key}"), Value::Object(set))
                }).collect();
                for one in &left {
                    let group = wanted.entry(one.key.clone()).or_insert_with(|| held(json!({})));
                    group.extend(one.change.set.clone());
                }
                for _ in 0..100 {
                    let outcomes = scene.deliver(&left).await.outcomes;
                    left = left.into_iter().zip(outcomes).filter(|(_, outcome)| *outcome != DeliveryOutcome::Delivered).map(|(one, _)| one).collect();
                    if left.is_empty() {
                        break;
                    }
                }
                assert!(left.is_empty(), "everything arrives in the end");
            }
            assert_eq!(scene.groups(), wanted);
        });
    }
}

#[test]
fn the_program_keeps_thrivestack_equal_to_the_warehouse() {
    let server = Server::start(Vendor::new(KEY, false));
    let mut place = Place::new();
    place.set("THRIVE_KEY", KEY);
    place.write(
        "groupcast.toml",
        &format!(
            "[sources.warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n\n[destinations.thrive]\n\
             type = \"thrivestack\"\napi_key = \"${{THRIVE_KEY}}\"\nbase_url = \"{}\"\ncontext = {{ source = \"warehouse\" }}\n",
            server.url
        ),
    );
    place.warehouse(
        "CREATE TABLE accounts (id INTEGER, plan VARCHAR, staff INTEGER);
         INSERT INTO accounts VALUES (1, 'pro', 12), (2, 'free', NULL)",
    );
    let mapping = |user: &str, traits: &str| {
        format!(
            "source = \"warehouse\"\ndestination = \"thrive\"\n[model]\ntable = \"accounts\"\n[group]\ntype = \"company\"\n\
             key = \"id\"\n{user}\n[traits]\n{traits}\n[policy]\non_null = \"skip\"\n"
        )
    };
    let traits = "plan = \"plan\"\nemployees = { column = \"staff\", as = \"integer\" }";
    for (user, traits, message) in [
        ("", traits, "thrivestack needs a user in every group call"),
        ("[user]\nanonymous_id = \"{key}\"", traits, "thrivestack has no anonymous users"),
        (
            "[user]\nid = \"account:{key}\"",
            "plan = \"plan\"\nPlan = \"plan\"",
            "`plan` and `Plan` are one to ThriveStack",
        ),
    ] {
        place.mapping("accounts", &mapping(user, traits));
        place.run(&["check"]).exits(2).says(&[message]);
    }
    place.mapping("accounts", &mapping("[user]\nid = \"account:{key}\"", traits));
    server.rules().warnings = vec![json!("`employees` will be renamed")];
    place.run(&["run"]).exits(0).says(&["2 delivered", "`employees` will be renamed"]);
    let expected = Groups::from([
        ("1".to_owned(), held(json!({"plan": "pro", "employees": 12}))),
        ("2".to_owned(), held(json!({"plan": "free"}))),
    ]);
    assert_eq!(server.rules().groups, expected);
    assert_eq!(server.rules().users["2"], "account:2");
    assert_eq!(server.received()[0].json()[0]["context"], json!({"group_id": "1", "source": "warehouse"}));
    place.run(&["run"]).exits(0).says(&["nothing sent"]);
    // A null is skipped: what the destination has stays.
    place.warehouse("UPDATE accounts SET staff = NULL, plan = 'basic' WHERE id = 1");
    place.run(&["run"]).exits(0);
    assert_eq!(server.rules().groups["1"], held(json!({"plan": "basic", "employees": 12})));
}
