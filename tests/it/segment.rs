//! The statements of the wire reference about Segment and its kin that speak of sequences of requests, over real HTTP
//! against their rules. Those about bytes alone are in `src/destination/segment/tests.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use groupcast::delivery::{Delivery, DeliveryOutcome, DeliverySettings, Signal};
use groupcast::destination::segment::{self, Segment};
use groupcast::destination::{AddressedChange, User};
use groupcast::error::Result;
use groupcast::io::http::HttpClient;
use groupcast::io::{Clock, Random};
use groupcast::model::Change;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::support::cli::Place;
use crate::support::clock::SimulatedClock;
use crate::support::group_server::{Answer, Fault, Groups, Received, Server, answer};
use crate::support::segment::{Kind, Vendor};
use crate::support::toy::RecordedOutcomes;

const KEY: &str = "wr1te-k3y-7f1d2c9a";
/// What [`KEY`] becomes in Basic authentication: base64 of the key and a colon.
const BASIC: &str = "Basic d3IxdGUtazN5LTdmMWQyYzlhOg==";

/// A vendor at work, the real encoder and the real way out.
struct Scene {
    server: Server<Vendor>,
    destination: Segment,
    http_client: HttpClient,
    clock: Arc<SimulatedClock>,
    settings: DeliverySettings,
}

/// The preset that speaks to a vendor, and how that vendor knows [`KEY`].
fn known_by(kind: Kind) -> (&'static str, String) {
    match kind {
        Kind::Segment => ("segment", BASIC.to_owned()),
        Kind::RudderStack => ("rudderstack", BASIC.to_owned()),
        Kind::CustomerIo => ("customerio", BASIC.to_owned()),
        Kind::Dittofeed => ("dittofeed", format!("Basic {KEY}")),
        Kind::Accoil => ("accoil", format!("Basic {KEY}")),
        Kind::Jitsu => ("jitsu", KEY.to_owned()),
    }
}

const KINDS: [Kind; 6] =
    [Kind::Segment, Kind::RudderStack, Kind::CustomerIo, Kind::Dittofeed, Kind::Accoil, Kind::Jitsu];

impl Scene {
    fn new(kind: Kind) -> Scene {
        Scene::with(kind, KEY, &[])
    }

    fn with(kind: Kind, key: &str, more: &[(&str, toml::Value)]) -> Scene {
        let (preset, shown) = known_by(kind);
        let server = Server::start(Vendor::new(kind, &shown));
        let mut table: toml::Table = more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        for (name, value) in [("preset", preset), ("write_key", key), ("base_url", &server.url)] {
            table.insert(name.to_owned(), value.into());
        }
        let settings: segment::SegmentSettings = toml::Value::Table(table).try_into().unwrap();
        Scene {
            server,
            destination: Segment::new(&settings, "company").unwrap(),
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
        assert_eq!(self.server.rules().dropped, [], "200 and dropped");
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

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

/// The messages of a request, together or alone.
fn messages(received: &Received) -> Vec<Value> {
    let body = received.json();
    body["batch"].as_array().cloned().unwrap_or_else(|| vec![body])
}

#[tokio::test]
async fn sg_01_sg_02_sg_09_sg_15_every_vendor_ends_with_the_traits_that_were_said() {
    for kind in KINDS {
        let scene = Scene::new(kind);
        let address = json!({"city": "Köln", "postalCode": "50667"});
        scene
            .all_delivered(&[
                change("Acme 😀", json!({"plan": "pro", "arr": 12.5, "address": address, "tags": ["a"]})),
                change("b", json!({"plan": "free"})),
            ])
            .await;
        // A null replaces, what is not mentioned stays.
        let later = AddressedChange { settled_seq: 1, ..change("Acme 😀", json!({"plan": null, "arr": 13})) };
        scene.all_delivered(&[later]).await;
        let expected = Groups::from([
            ("Acme 😀".to_owned(), object(json!({"plan": null, "arr": 13, "address": address, "tags": ["a"]}))),
            ("b".to_owned(), object(json!({"plan": "free"}))),
        ]);
        assert_eq!(scene.groups(), expected, "{kind:?}");
        let alone = matches!(kind, Kind::Accoil | Kind::Jitsu);
        assert_eq!(scene.received().len(), if alone { 3 } else { 2 }, "{kind:?}");
    }
}

#[tokio::test]
async fn sg_05_no_batch_is_one_that_segment_would_drop() {
    for (count, requests) in [(2_499, 1), (2_500, 1), (2_501, 2)] {
        // Without an id a message is short enough that the count is reached before the bytes.
        let scene = Scene::with(Kind::Segment, KEY, &[("message_id", false.into())]);
        scene.all_delivered(&groups(count)).await;
        assert_eq!((scene.groups().len(), scene.received().len()), (count, requests));
    }
    let scene = Scene::new(Kind::Segment);
    let large: Vec<AddressedChange> =
        (0..40).map(|at| change(&format!("g{at}"), json!({"t": "é".repeat(15_000)}))).collect();
    scene.all_delivered(&large).await;
    let sizes: Vec<usize> = scene.received().iter().map(|request| request.body.len()).collect();
    assert!(sizes.iter().all(|bytes| *bytes <= 500_000) && sizes.len() == 3, "{sizes:?}");
}

#[tokio::test]
async fn sg_06_a_message_above_32_kb_is_refused_here_and_the_others_arrive() {
    let scene = Scene::new(Kind::Segment);
    let mut page = groups(3);
    let bare = {
        scene.all_delivered(&[change("gx", json!({"t": ""}))]).await;
        serde_json::to_string(&messages(&scene.received()[0])[0]).unwrap().len()
    };
    page[0] = change("g0", json!({"t": "x".repeat(32_768 - bare)}));
    page[1] = change("g1", json!({"t": "x".repeat(32_769 - bare)}));
    let (outcome, outcomes) = scene.deliver(&page).await;
    outcome.unwrap();
    assert_eq!((&outcomes[0], &outcomes[2]), (&DeliveryOutcome::Delivered, &DeliveryOutcome::Delivered));
    let DeliveryOutcome::Rejected { reason, partly_applied: false } = &outcomes[1] else { panic!("{:?}", outcomes[1]) };
    assert!(reason.contains("takes 32769 bytes") && reason.contains("shorten `t`"), "{reason}");
    assert_eq!(scene.server.rules().dropped, []);
    assert!(!scene.groups().contains_key("g1"));
}

#[tokio::test]
async fn sg_07_sg_08_a_repeated_message_is_recognised_and_only_sent_at_is_new() {
    let scene = Scene::new(Kind::Segment);
    scene.server.script([Fault::AppliedThenLost, Fault::Lost, Fault::Answer(answer(503, "busy"))]);
    let (outcome, outcomes) = scene.deliver(&[change("a", json!({"plan": "pro"}))]).await;
    outcome.unwrap();
    assert_eq!(outcomes, [DeliveryOutcome::Delivered]);
    let bodies: Vec<Value> = scene.received().iter().map(Received::json).collect();
    assert_eq!(bodies.len(), 4);
    for pair in bodies.windows(2) {
        assert_eq!(pair[0]["batch"], pair[1]["batch"], "the same messages");
        assert!(pair[0]["sentAt"].as_str() < pair[1]["sentAt"].as_str(), "{pair:?}");
    }
    assert_eq!(scene.server.rules().dropped.len(), 1, "the fourth was known from the first");
    assert_eq!(scene.groups()["a"], object(json!({"plan": "pro"})));
    // The same value after another one is another message, though the day is not over.
    let again = |settled_seq, plan: &str| AddressedChange { settled_seq, ..change("a", json!({"plan": plan})) };
    for (seq, plan) in [(5, "free"), (9, "pro")] {
        let (outcome, outcomes) = scene.deliver(&[again(seq, plan)]).await;
        outcome.unwrap();
        assert_eq!((outcomes, &scene.groups()["a"]["plan"]), (vec![DeliveryOutcome::Delivered], &json!(plan)));
    }
}

#[tokio::test]
async fn sg_03_one_message_without_a_user_does_not_cost_the_batch() {
    for kind in [Kind::Segment, Kind::RudderStack] {
        let scene = Scene::new(kind);
        let mut page = groups(20);
        page[7].user = None;
        page[8].user = Some(User::Anonymous("visitor".to_owned()));
        let (outcome, outcomes) = scene.deliver(&page).await;
        outcome.unwrap();
        assert_eq!(scene.received().len(), 1, "nothing to bisect");
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == DeliveryOutcome::Delivered).count(), 19);
        assert!(matches!(&outcomes[7], DeliveryOutcome::Rejected { reason, .. } if reason.contains("[user]")));
        assert_eq!((scene.groups().len(), scene.server.rules().dropped.len()), (19, 0));
    }
    // Where a user is not needed, none is made up.
    let scene = Scene::new(Kind::CustomerIo);
    scene.all_delivered(&[AddressedChange { user: None, ..change("a", json!({"n": 1})) }]).await;
    assert_eq!(messages(&scene.received()[0])[0].get("userId"), None);
}

#[tokio::test]
async fn sg_14_a_batch_that_fails_as_a_whole_is_bisected_to_the_guilty_message() {
    for kind in [Kind::RudderStack, Kind::CustomerIo] {
        let scene = Scene::new(kind);
        scene.server.rules().poison = ["g13", "g77"].map(str::to_owned).into();
        let (outcome, outcomes) = scene.deliver(&groups(100)).await;
        outcome.unwrap();
        for (at, outcome) in outcomes.iter().enumerate() {
            let guilty = at == 13 || at == 77;
            assert_eq!(
                matches!(outcome, DeliveryOutcome::Rejected { partly_applied: false, .. }),
                guilty,
                "{kind:?} {at} {outcome:?}"
            );
            assert_eq!(*outcome == DeliveryOutcome::Delivered, !guilty);
        }
        assert_eq!(scene.groups().len(), 98);
        assert!(scene.received().len() < 40, "{}", scene.received().len());
    }
}

#[tokio::test]
async fn sg_13_sg_14_a_wrong_key_stops_the_run_where_the_vendor_says_so() {
    for kind in [Kind::RudderStack, Kind::CustomerIo, Kind::Dittofeed, Kind::Jitsu] {
        let scene = Scene::with(kind, "another-key", &[]);
        let (outcome, outcomes) = scene.deliver(&groups(3)).await;
        let error = outcome.unwrap_err();
        assert!(error.advice().unwrap_or_default().contains("check `write_key`"), "{kind:?}: {error}");
        assert!(!format!("{error:?}").contains("another-key"));
        assert!(
            outcomes.iter().all(|outcome| matches!(outcome, DeliveryOutcome::NotSent { .. })),
            "{kind:?}: {outcomes:?}"
        );
        assert!(scene.groups().is_empty());
    }
    // The trap: these say yes. Nothing on the wire can tell, which the documentation says.
    for kind in [Kind::Segment, Kind::Accoil] {
        let scene = Scene::with(kind, "another-key", &[]);
        let (outcome, outcomes) = scene.deliver(&groups(1)).await;
        outcome.unwrap();
        assert_eq!(outcomes, [DeliveryOutcome::Delivered]);
        assert_eq!(scene.server.rules().dropped, [("g0".to_owned(), "unknown write key")]);
    }
    let lenient = toml::Table::from_iter([("X-Strict-Mode".to_owned(), "0".into())]);
    let scene = Scene::with(Kind::CustomerIo, "another-key", &[("headers", lenient.into())]);
    let (_, outcomes) = scene.deliver(&groups(1)).await;
    assert_eq!(outcomes, [DeliveryOutcome::Delivered], "without the strict mode Customer.io says yes, too");
    assert!(scene.groups().is_empty());
}

#[tokio::test]
async fn sg_14_throttles_are_obeyed_and_passing_failures_repeated() {
    let scene = Scene::new(Kind::Segment);
    let throttled = |name, value: &str| {
        Fault::Answer(Answer { headers: vec![(name, value.to_owned())], ..answer(429, "slow down") })
    };
    scene.server.script([throttled("retry-after", "30"), throttled("x-ratelimit-reset", "90")]);
    scene.all_delivered(&groups(1)).await;
    assert!(scene.clock.elapsed() >= Duration::from_secs(120), "{:?}", scene.clock.elapsed());
    for status in [408, 410, 460, 500, 502, 503, 504, 520] {
        let scene = Scene::new(Kind::RudderStack);
        scene.server.script([Fault::Answer(answer(status, "")), Fault::AppliedThen(answer(status, ""))]);
        scene.all_delivered(&groups(2)).await;
        assert_eq!(scene.received().len(), 3, "{status}");
        assert_eq!(scene.groups().len(), 2);
    }
    for status in [404, 501, 505, 302] {
        let scene = Scene::new(Kind::Segment);
        scene.server.script((0..9).map(|_| Fault::Answer(answer(status, ""))));
        let (outcome, outcomes) = scene.deliver(&groups(2)).await;
        assert!(outcome.is_err() && scene.received().len() <= 3, "{status}: both together, and each alone");
        // Some servers work first and redirect then.
        let seen = |outcome: &DeliveryOutcome| match outcome {
            DeliveryOutcome::Unconfirmed { .. } => status == 302,
            outcome => matches!(outcome, DeliveryOutcome::NotSent { .. }) && status != 302,
        };
        assert!(outcomes.iter().all(seen), "{status}: {outcomes:?}");
    }
}

#[tokio::test]
async fn sg_14_what_is_too_large_for_the_server_is_split() {
    for kind in [Kind::Segment, Kind::RudderStack, Kind::Dittofeed] {
        let scene = Scene::new(kind);
        scene.server.rules().body_bytes_max = 20_000;
        scene.all_delivered(&groups(400)).await;
        assert_eq!(scene.groups().len(), 400, "{kind:?}");
        let taken = scene.received().iter().filter(|request| request.body.len() <= 20_000).count();
        assert!((4..40).contains(&taken), "{kind:?} {taken}");
    }
}

#[tokio::test]
async fn sg_15_a_success_of_another_kind_is_no_success() {
    for (kind, status) in [(Kind::Segment, 204), (Kind::Dittofeed, 200), (Kind::Accoil, 200)] {
        let scene = Scene::new(kind);
        scene.server.script([Fault::Answer(answer(status, "<html>welcome</html>"))]);
        let (outcome, outcomes) = scene.deliver(&groups(1)).await;
        let advice = outcome.unwrap_err().advice().unwrap_or_default().to_owned();
        assert!(advice.contains("does not seem to be what responds there"), "{advice}");
        // Whoever answers may have passed it on.
        assert!(matches!(outcomes[0], DeliveryOutcome::Unconfirmed { .. }));
    }
}

#[tokio::test]
async fn a_compressed_batch_says_the_same() {
    let scene = Scene::with(Kind::Segment, KEY, &[("gzip", true.into()), ("key_in_body", true.into())]);
    scene.all_delivered(&groups(200)).await;
    let request = &scene.received()[0];
    assert_eq!(request.header("content-encoding"), "gzip");
    assert_eq!(request.json()["writeKey"], json!(KEY));
    assert_eq!(scene.groups().len(), 200);
}

#[tokio::test]
async fn one_message_per_request_however_many_there_are() {
    let scene = Scene::new(Kind::Accoil);
    scene.all_delivered(&groups(25)).await;
    assert_eq!((scene.received().len(), scene.groups().len()), (25, 25));
    // Any preset with an address for it can be told to.
    let scene = Scene::with(Kind::Segment, KEY, &[("wire", "single".into())]);
    scene.all_delivered(&groups(2)).await;
    assert!(scene.received().iter().all(|request| request.path == "/v1/group"));
    assert_eq!((scene.received().len(), scene.groups().len()), (2, 2));
}

/// Groups by number, each with its traits by number and their values.
type Page = BTreeMap<u8, Vec<(u8, Option<u32>)>>;

fn pages() -> impl Strategy<Value = Vec<Page>> {
    let traits = prop::collection::vec((0_u8..4, prop::option::weighted(0.8, 0_u32..3)), 1..4);
    prop::collection::vec(prop::collection::btree_map(0_u8..12, traits, 1..10), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// After any faults, once everything is acknowledged, the vendor holds what was said, whether it remembers message
    /// ids for a day (Segment), refuses batches as a whole (RudderStack) or takes one at a time (Jitsu).
    #[test]
    fn after_any_storm_the_vendor_holds_what_was_said(pages in pages(), faults in prop::collection::vec(0_u8..9, 0..25), kind in 0_usize..3) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let scene = Scene::new([Kind::Segment, Kind::RudderStack, Kind::Jitsu][kind]);
            scene.server.script(faults.into_iter().map(|fault| match fault {
                0 => Fault::Lost,
                1 => Fault::AppliedThenLost,
                2 => Fault::Answer(answer(500, "")),
                3 => Fault::AppliedThen(answer(502, "")),
                4 => Fault::Answer(Answer { headers: vec![("retry-after", "1".to_owned())], ..answer(429, "") }),
                5 => Fault::Answer(answer(413, "")),
                _ => Fault::None,
            }));
            let mut wanted = Groups::new();
            // As the ledger counts: the sequence of a group's last delivered change.
            let (mut seq, mut settled) = (0, BTreeMap::<String, u64>::new());
            for page in pages {
                let mut left: Vec<AddressedChange> = page.into_iter().map(|(key, traits)| {
                    let set: Map<String, Value> = traits.into_iter().map(|(name, value)| (format!("t{name}"), json!(value))).collect();
                    let key = format!("g{key}");
                    AddressedChange { settled_seq: settled.get(&key).copied().unwrap_or(0), ..change(&key, Value::Object(set)) }
                }).collect();
                for _ in 0..100 {
                    let (_, outcomes) = scene.deliver(&left).await;
                    let mut again = Vec::new();
                    for (change, outcome) in left.into_iter().zip(outcomes) {
                        if outcome == DeliveryOutcome::Delivered {
                            seq += 1;
                            settled.insert(change.key.clone(), seq);
                            wanted.entry(change.key.clone()).or_default().extend(change.change.set.clone());
                        } else {
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
            assert_eq!(scene.groups(), wanted);
            let lost: BTreeSet<&str> = scene.server.rules().dropped.iter().map(|(_, why)| *why).collect();
            assert!(lost.iter().all(|why| why.starts_with("messageId")), "{lost:?}");
        });
    }
}

/// A folder with a DuckDB warehouse and a vendor as destination `cdp`.
fn place(server: &Server<Vendor>, preset: &str, more: &str) -> Place {
    let mut place = Place::new();
    place.set("WRITE_KEY", KEY);
    place.write(
        "groupcast.toml",
        &format!(
            "[sources.warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n\n[destinations.cdp]\n\
             type = \"segment\"\npreset = \"{preset}\"\nwrite_key = \"${{WRITE_KEY}}\"\nbase_url = \"{}\"\n{more}",
            server.url
        ),
    );
    place
}

fn mapping(traits: &str, more: &str) -> String {
    format!(
        "source = \"warehouse\"\ndestination = \"cdp\"\n[model]\ntable = \"accounts\"\n[group]\ntype = \"company\"\n\
         key = \"id\"\n{more}\n[traits]\n{traits}\n[policy]\non_null = \"null\"\n"
    )
}

const USER: &str = "[user]\nid = \"account:{key}\"";

#[test]
fn the_program_keeps_a_segment_source_equal_to_the_warehouse() {
    let server = Server::start(Vendor::new(Kind::Segment, BASIC));
    let place = place(&server, "segment", "integrations = { All = true }\n");
    place.warehouse(
        "CREATE TABLE accounts (id VARCHAR, name VARCHAR, seats INTEGER, since DATE, city VARCHAR, owner VARCHAR);
         INSERT INTO accounts VALUES ('a', 'Acme', 3, '2024-02-29', 'Bonn', 'u1'), ('b', 'Bär & Söhne', NULL, NULL, NULL, 'u2')",
    );
    let traits = "name = \"name\"\nseats = \"seats\"\ncreatedAt = { column = \"since\", as = \"date\" }\n\
                  address = { city = \"city\" }";
    // WHEN nothing says whose group it is
    place.mapping("accounts", &mapping(traits, ""));
    place.run(&["check"]).exits(2).says(&["segment needs a user in every group call", "account:{key}"]);
    // WHEN the mapping names the owner's column
    place.mapping("accounts", &mapping(traits, "[user]\nid = { column = \"owner\" }"));
    place.run(&["check"]).exits(0);
    place.run(&["run"]).exits(0).says(&["2 delivered"]);
    // THEN the vendor holds the rows, with nulls where the warehouse has them
    let expected = Groups::from([
        (
            "a".to_owned(),
            object(json!({"name": "Acme", "seats": 3, "createdAt": "2024-02-29", "address": {"city": "Bonn"}})),
        ),
        ("b".to_owned(), object(json!({"name": "Bär & Söhne"}))),
    ]);
    let held: Groups = server
        .rules()
        .groups
        .clone()
        .into_iter()
        .map(|(key, mut traits)| {
            traits.retain(|_, value| !value.is_null());
            (key, traits)
        })
        .collect();
    assert_eq!(held, expected);
    let message = &messages(&server.received()[0])[0];
    assert_eq!((&message["userId"], &message["integrations"]), (&json!("u1"), &json!({"All": true})));
    // AND a second run says nothing, a change only what changed
    place.run(&["run"]).exits(0).says(&["nothing sent"]);
    assert_eq!(server.received().len(), 1);
    place.warehouse("UPDATE accounts SET seats = NULL WHERE id = 'a'");
    place.run(&["run"]).exits(0);
    assert_eq!(messages(&server.received()[1])[0]["traits"], json!({"seats": null}));
    assert_eq!(server.rules().groups["a"]["seats"], Value::Null);
    // AND back again within the day, which the vendor's memory of ids must not swallow
    place.warehouse("UPDATE accounts SET seats = 3 WHERE id = 'a'");
    place.run(&["run"]).exits(0);
    assert_eq!(server.rules().groups["a"]["seats"], json!(3));
    assert_eq!(server.rules().dropped, []);
    // AND nothing shows the key
    let shown = place.run(&["plan", "--full"]).exits(0).all();
    assert!(!shown.contains(KEY) && !shown.contains("d3IxdGU"), "{shown}");
}

#[test]
fn the_program_says_what_the_protocol_cannot_do() {
    let server = Server::start(Vendor::new(Kind::RudderStack, BASIC));
    let place = place(&server, "rudderstack", "");
    place.warehouse("CREATE TABLE accounts (id VARCHAR, n INTEGER); INSERT INTO accounts VALUES ('a', 1), ('b', 2)");
    let traits = "createdAt = { column = \"n\", as = \"string\" }\ncreated_at = \"n\"";
    let text = mapping(traits, USER).replace("on_null = \"null\"", "on_null = \"unset\"\non_missing = \"delete\"");
    place.mapping("accounts", &text);
    place.run(&["check"]).exits(2).says(&[
        "traits `createdAt` and `created_at` are one to RudderStack",
        "segment does not support `on_null = \"unset\"`",
        "segment cannot delete groups",
        "`createdAt` is an ISO 8601 date in the group spec",
    ]);
    // A key that the vendor does not know stops the run before anything is believed delivered.
    place.mapping("accounts", &mapping("n = \"n\"", USER));
    let mut wrong = place;
    wrong.set("WRITE_KEY", "not-the-key-at-all");
    let output = wrong.run(&["run"]).exits(1).says(&["invalid write key", "check `write_key`"]).all();
    assert!(!output.contains("not-the-key-at-all"), "{output}");
    wrong.set("WRITE_KEY", KEY);
    // One group that the vendor refuses does not cost the other.
    server.rules().poison = BTreeSet::from(["b".to_owned()]);
    wrong.run(&["run"]).exits(3).says(&["1 delivered", "1 rejected"]);
    wrong.run(&["rejected"]).exits(0).says(&["invalid json"]);
    server.rules().poison.clear();
    wrong.run(&["run", "--retry-rejected"]).exits(0);
    let expected = ["a", "b"].into_iter().zip(1..).map(|(key, n)| (key.to_owned(), object(json!({"n": n})))).collect();
    assert_eq!(server.rules().groups, expected);
}
