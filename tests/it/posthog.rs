//! The statements PH-01 … PH-25 of the wire reference about sequences of requests, over real HTTP against a stand-in for
//! PostHog, and the commands that read back, with the real program. Statements about bytes alone are in
//! `src/destination/posthog/tests.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use groupcast::delivery::pace::Bucket;
use groupcast::delivery::{self, Delivery, DeliveryOutcome, DeliverySettings, Signal};
use groupcast::destination::posthog::{self, CaptureProtocol, PostHog, WriteVia};
use groupcast::destination::{AddressedChange, Destination};
use groupcast::error::{Kind, Result};
use groupcast::io::http::HttpClient;
use groupcast::io::{Clock, Random};
use groupcast::model::Change;
use groupcast::secret::Secret;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::support::cli::Place;
use crate::support::clock::SimulatedClock;
use crate::support::posthog::{Fault, PERSONAL, PROJECT, Received, Rules, TOKEN, Vendor, answers};
use crate::support::toy::RecordedOutcomes;

/// A stand-in at work, the real encoder and the real way out.
struct Scene {
    vendor: Vendor,
    url: String,
    destination: PostHog,
    http_client: HttpClient,
    clock: Arc<SimulatedClock>,
    random: Random,
    settings: DeliverySettings,
}

fn settings(url: &str) -> posthog::PostHogSettings {
    posthog::PostHogSettings {
        api_key: Secret::new(TOKEN),
        personal_api_key: None,
        project_id: None,
        region: None,
        base_url: Some(url.to_owned()),
        app_url: None,
        write_via: WriteVia::Capture,
        capture: CaptureProtocol::V0,
        gzip: Some(false),
    }
}

impl Scene {
    /// Events alone.
    fn new(rules: Rules) -> Scene {
        Scene::with(rules, |settings| settings)
    }

    /// With a personal key.
    async fn rest(rules: Rules, write_via: WriteVia) -> Scene {
        let mut scene = Scene::with(rules, |settings| with_rest(settings, write_via));
        if write_via == WriteVia::Rest {
            scene.vendor.create_types(&["company"]);
        }
        scene.prepare().await.unwrap();
        scene
    }

    fn with(rules: Rules, change: impl FnOnce(posthog::PostHogSettings) -> posthog::PostHogSettings) -> Scene {
        let vendor = Vendor::new(rules);
        let url = vendor.start();
        let destination = PostHog::new(&change(settings(&url)), "company").unwrap();
        Scene {
            vendor,
            url,
            destination,
            http_client: HttpClient::new().unwrap(),
            clock: Arc::default(),
            random: Random::seeded(7),
            settings: DeliverySettings::default(),
        }
    }

    async fn prepare(&mut self) -> Result<()> {
        delivery::prepare(&mut self.destination, &self.http_client, &*self.clock, &self.random).await
    }

    async fn deliver(&self, changes: &[AddressedChange]) -> (Result<()>, Vec<DeliveryOutcome>) {
        let outcomes = RecordedOutcomes::default();
        let (_signal, signalled) = watch::channel(Signal::Go);
        let settings = self.settings.clone();
        let delivery =
            Delivery::new(&self.destination, &self.http_client, &*self.clock, &self.random, settings, signalled);
        let outcome = delivery.deliver(changes, &outcomes).await;
        (outcome, outcomes.all(changes.len()))
    }

    async fn all_delivered(&self, changes: &[AddressedChange]) {
        let (outcome, outcomes) = self.deliver(changes).await;
        outcome.unwrap();
        assert_eq!(outcomes.iter().find(|outcome| **outcome != DeliveryOutcome::Delivered), None);
    }

    fn group(&self, key: &str) -> Value {
        self.vendor.group("company", key).map_or(Value::Null, Value::Object)
    }

    /// The batches that came.
    fn batches(&self) -> Vec<Received> {
        self.vendor.received().into_iter().filter(|received| received.uri == "/batch/").collect()
    }
}

fn with_rest(settings: posthog::PostHogSettings, write_via: WriteVia) -> posthog::PostHogSettings {
    let (personal_api_key, project_id) = (Some(Secret::new(PERSONAL)), Some(PROJECT.to_owned()));
    posthog::PostHogSettings { personal_api_key, project_id, app_url: settings.base_url.clone(), write_via, ..settings }
}

fn change(key: &str, change: Value) -> AddressedChange {
    AddressedChange {
        key: key.to_owned(),
        change: Arc::new(serde_json::from_value(change).unwrap()),
        ..AddressedChange::default()
    }
}

fn groups(count: usize) -> Vec<AddressedChange> {
    (0..count).map(|at| change(&format!("g{at}"), json!({"set": {"n": at, "s": "x"}}))).collect()
}

#[tokio::test]
async fn ph_01_ph_02_ph_16_a_batch_arrives_and_is_merged() {
    let scene = Scene::new(Rules::default());
    let address = json!({"city": "Gent", "zip": "9000"});
    scene.all_delivered(&[change("acme", json!({"set": {"plan": "pro", "address": address, "seats": 5}}))]).await;
    scene.all_delivered(&[change("acme", json!({"set": {"address": {"city": "Brugge"}, "note": null}}))]).await;
    let expected = json!({"plan": "pro", "address": {"city": "Brugge"}, "seats": 5, "note": null});
    assert_eq!(scene.group("acme"), expected);
    for request in scene.batches() {
        assert_eq!((&request.headers["content-type"], request.status), (&"application/json".parse().unwrap(), 200));
        assert!(!request.headers.contains_key("authorization") && !request.headers.contains_key("content-encoding"));
        let keys: Vec<String> = request.json().as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, ["api_key", "batch", "sent_at"]);
    }
    assert_eq!(scene.vendor.dropped(), [""; 0]);
}

#[tokio::test]
async fn ph_08_requests_hold_a_hundred_events() {
    let scene = Scene::new(Rules { group_bytes_max: usize::MAX, ..Rules::default() });
    scene.all_delivered(&groups(250)).await;
    let mut sizes: Vec<usize> = scene.batches().iter().map(|batch| batch.events().len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [50, 100, 100]);
    assert_eq!(scene.vendor.groups("company").len(), 250);
    // A group whose traits do not fit one event arrives in several.
    let set: Map<String, Value> = (0..30).map(|at| (format!("t{at}"), json!("\"".repeat(40_000)))).collect();
    scene.all_delivered(&[change("large", json!({"set": set}))]).await;
    assert_eq!(scene.group("large"), Value::Object(set));
}

#[tokio::test]
async fn ph_09_a_compressed_body_is_the_same_text() {
    let gzip = Scene::with(Rules::default(), |settings| posthog::PostHogSettings { gzip: None, ..settings });
    let plain = Scene::new(Rules::default());
    let changes = [change("acme", json!({"set": {"name": "é 中 😀", "n": 1.5}}))];
    for scene in [&gzip, &plain] {
        scene.all_delivered(&changes).await;
        assert_eq!(scene.group("acme"), json!({"name": "é 中 😀", "n": 1.5}));
    }
    let (packed, text) = (gzip.batches().remove(0), plain.batches().remove(0));
    assert_eq!(packed.headers["content-encoding"], "gzip");
    assert_eq!(packed.events(), text.events());
    assert!(packed.body.starts_with(&[0x1f, 0x8b]));
}

#[tokio::test]
async fn ph_10_nothing_pending_is_no_request() {
    let scene = Scene::new(Rules::default());
    scene.all_delivered(&[change("acme", json!({}))]).await;
    scene.all_delivered(&[]).await;
    assert_eq!(scene.vendor.received().len(), 0);
}

#[tokio::test]
async fn ph_07_ph_11_a_repetition_is_the_same_but_for_the_time_it_is_sent() {
    for apply in [false, true] {
        let scene = Scene::new(Rules::default());
        scene.vendor.script([408, 500, 502, 503, 504].map(|status| answers(status, apply)));
        let wait = Fault::Answer {
            status: 429,
            headers: vec![("retry-after", "40".to_owned())],
            body: String::new(),
            apply: false,
        };
        scene.vendor.script([wait]);
        let before = scene.clock.elapsed();
        scene.all_delivered(&groups(3)).await;
        assert!(scene.clock.elapsed() - before >= Duration::from_secs(40), "the vendor's wish is a minimum");
        let batches = scene.batches();
        assert_eq!(batches.len(), 7);
        for batch in &batches {
            assert_eq!(batch.events(), batches[0].events());
        }
        let sent: BTreeSet<String> = batches.iter().map(|batch| batch.json()["sent_at"].to_string()).collect();
        assert!(sent.len() > 1, "each attempt tells its own time");
        assert_eq!(scene.group("g1"), json!({"n": 1, "s": "x"}));
        assert_eq!(scene.vendor.dropped().len(), if apply { 15 } else { 0 }, "known by their uuids");
    }
    // What says no is not asked again; attempts are bounded.
    for (status, attempts) in [(400, 1), (401, 1), (403, 1), (404, 1), (413, 1), (500, 8)] {
        let scene = Scene::new(Rules::default());
        scene.vendor.script((0..9).map(|_| answers(status, false)));
        let (_, outcomes) = scene.deliver(&groups(1)).await;
        assert_eq!(scene.batches().len(), attempts, "{status}");
        assert_ne!(outcomes, [DeliveryOutcome::Delivered]);
    }
}

#[tokio::test]
async fn ph_12_after_a_413_the_halves_carry_the_same_uuids() {
    // GIVEN the fifth of eight events too large for the queue: the four before it are queued all the same
    let scene = Scene::new(Rules { event_bytes_max: 5_000, ..Rules::default() });
    let mut changes = groups(8);
    changes[4] = change("g4", json!({"set": {"t": "x".repeat(6_000)}}));
    // WHEN it is delivered
    let (outcome, outcomes) = scene.deliver(&changes).await;
    outcome.unwrap();
    // THEN only that one is refused, and no uuid changed
    for (at, outcome) in outcomes.iter().enumerate() {
        match outcome {
            DeliveryOutcome::Rejected { reason, .. } if at == 4 => assert!(reason.contains("413"), "{reason}"),
            other => assert_eq!((other, at == 4), (&DeliveryOutcome::Delivered, false), "{at}"),
        }
    }
    let first: BTreeSet<String> = scene.batches()[0].uuids().into_iter().collect();
    let later: BTreeSet<String> = scene.batches()[1..].iter().flat_map(Received::uuids).collect();
    assert_eq!((first.len(), first == later), (8, true));
    assert_eq!(scene.vendor.groups("company").len(), 7);
}

#[tokio::test]
async fn ph_12_what_a_413_may_have_queued_is_not_called_unsent() {
    let scene = Scene::new(Rules { event_bytes_max: 5_000, ..Rules::default() });
    let mut changes = groups(8);
    changes[7] = change("g7", json!({"set": {"t": "x".repeat(6_000)}}));
    scene.vendor.script([Fault::None].into_iter().chain((0..9).map(|_| answers(401, false))));
    let (outcome, outcomes) = scene.deliver(&changes).await;
    assert_eq!(outcome.unwrap_err().kind(), Kind::Destination);
    assert_eq!(scene.vendor.groups("company").len(), 7, "seven of them are queued");
    assert!(outcomes.iter().all(|outcome| matches!(outcome, DeliveryOutcome::Unconfirmed { .. })), "{outcomes:?}");
}

#[tokio::test]
async fn ph_13_one_bad_event_blocks_no_other_and_a_401_stops() {
    let scene = Scene::new(Rules { poison: ["g17".to_owned(), "g90".to_owned()].into(), ..Rules::default() });
    let (outcome, outcomes) = scene.deliver(&groups(200)).await;
    outcome.unwrap();
    let rejected: Vec<usize> = (0..200)
        .filter(|at| matches!(&outcomes[*at], DeliveryOutcome::Rejected { reason, .. } if reason.contains("400")))
        .collect();
    assert_eq!(rejected, [17, 90]);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == DeliveryOutcome::Delivered).count(), 198);
    assert_eq!(scene.vendor.groups("company").len(), 198);

    let scene = Scene::with(Rules::default(), |settings| posthog::PostHogSettings {
        api_key: Secret::new("x".repeat(65)),
        ..settings
    });
    let (outcome, outcomes) = scene.deliver(&groups(1_000)).await;
    let error = outcome.unwrap_err();
    assert!(error.kind() == Kind::Destination && error.advice().unwrap().contains("`api_key`"), "{error}");
    assert!(outcomes.iter().all(|outcome| matches!(outcome, DeliveryOutcome::NotSent { .. })));
    assert!(scene.batches().len() <= 4, "no more than were in flight");
}

#[tokio::test]
async fn ph_14_events_over_the_quota_are_not_delivered() {
    let scene = Scene::new(Rules { over_quota: true, ..Rules::default() });
    let (outcome, outcomes) = scene.deliver(&groups(3)).await;
    let error = outcome.unwrap_err();
    assert!(error.to_string().contains("quota") && error.advice().unwrap().contains("billing"), "{error}");
    assert!(outcomes.iter().all(|outcome| matches!(outcome, DeliveryOutcome::NotSent { .. })), "{outcomes:?}");
    assert_eq!(scene.vendor.groups("company").len(), 0);
    scene.vendor.change(|rules| rules.over_quota = false);
    // As servers before the one written in Rust say it.
    let body = r#"{"status":1}"#.to_owned();
    scene.vendor.script([Fault::Answer { status: 200, headers: Vec::new(), body, apply: true }]);
    scene.all_delivered(&groups(3)).await;
    assert_eq!(scene.vendor.groups("company").len(), 3);
}

#[tokio::test]
async fn ph_15_a_trait_is_really_removed() {
    let mut scene = Scene::rest(Rules::default(), WriteVia::Capture).await;
    scene.all_delivered(&[change("acme", json!({"set": {"plan": "pro", "old": 1, "older": 2}}))]).await;
    // The type is there now; a later run asks again.
    scene.destination = PostHog::new(&with_rest(settings(&scene.url), WriteVia::Capture), "company").unwrap();
    scene.prepare().await.unwrap();
    let removal = change("acme", json!({"set": {"plan": null}, "unset": ["old", "older", "never"]}));
    scene.all_delivered(std::slice::from_ref(&removal)).await;
    assert_eq!(scene.group("acme"), json!({"plan": null}));
    let statuses: Vec<u16> = scene.vendor.received().iter().rev().take(4).map(|received| received.status).collect();
    assert_eq!(statuses, [200, 200, 200, 400], "event, older, old, never: not there is as good as removed");
    // A lost answer: the removal is repeated, and finds nothing to do.
    scene.all_delivered(&[change("acme", json!({"set": {"old": 1}}))]).await;
    scene.vendor.script([answers(502, true), answers(429, false), Fault::None]);
    scene.all_delivered(&[removal.clone(), change("nobody", json!({"unset": ["old"]}))]).await;
    assert_eq!(scene.group("acme"), json!({"plan": null}));
    assert_eq!(scene.group("nobody"), Value::Null);
    // A key that may only read.
    scene.vendor.change(|rules| rules.scopes.retain(|scope| *scope != "group:write"));
    let (outcome, _) = scene.deliver(&[removal]).await;
    assert!(outcome.unwrap_err().advice().unwrap().contains("group:write"));
}

#[tokio::test]
async fn ph_17_two_changes_of_a_group_arrive_one_after_the_other() {
    let scene = Scene::new(Rules::default());
    let page: Vec<AddressedChange> = (0..40).map(|at| change(["a", "b"][at % 2], json!({"set": {"n": at}}))).collect();
    scene.all_delivered(&page).await;
    assert_eq!((scene.group("a"), scene.group("b")), (json!({"n": 38}), json!({"n": 39})));
    for batch in scene.batches() {
        let keys: BTreeSet<String> =
            batch.events().iter().map(|event| event["properties"]["$group_key"].to_string()).collect();
        assert_eq!(keys.len(), batch.events().len(), "never twice in a request");
    }
}

#[tokio::test]
async fn ph_18_a_sixth_group_type_is_dropped_silently_unless_we_can_look() {
    let others = ["a", "b", "c", "d", "e"];
    let blind = Scene::new(Rules::default());
    blind.vendor.create_types(&others);
    blind.all_delivered(&groups(1)).await;
    assert_eq!(blind.vendor.dropped(), ["a sixth group type"], "why a personal key is worth its trouble");
    let mut seeing = Scene::with(Rules::default(), |settings| with_rest(settings, WriteVia::Capture));
    seeing.vendor.create_types(&others);
    let error = seeing.prepare().await.unwrap_err();
    assert!(error.kind() == Kind::Config && error.to_string().contains("a sixth, `company`"), "{error}");
}

#[tokio::test]
async fn ph_25_rest_alone_leads_to_the_same_groups() {
    for has_upsert in [false, true] {
        let scene = Scene::rest(Rules { has_upsert, ..Rules::default() }, WriteVia::Rest).await;
        let first = json!({"set": {"plan": "pro", "seats": 5, "tags": ["a", null], "old": true}});
        scene.all_delivered(&[change("a/b", first), change("c", json!({"set": {"plan": "free"}}))]).await;
        scene.vendor.script([answers(502, true), answers(503, false)]);
        scene.all_delivered(&[change("a/b", json!({"set": {"seats": 6}, "unset": ["old"]}))]).await;
        assert_eq!(scene.group("a/b"), json!({"plan": "pro", "seats": 6, "tags": ["a", null]}), "upsert {has_upsert}");
        assert_eq!(scene.group("c"), json!({"plan": "free"}));
        let received = scene.vendor.received();
        let to = |what: &str| received.iter().filter(|request| request.uri.contains(what)).count();
        assert_eq!((to("/batch/"), to("property_definitions")), (0, 0));
        let writes =
            received.iter().filter(|request| request.method == "POST" && request.uri.contains("upsert")).count();
        assert_eq!((writes > 0, to("update_property") > 0), (has_upsert, !has_upsert));
        assert!(
            received
                .iter()
                .all(|request| !request.uri.contains("update_property") || !request.json()["value"].is_null())
        );
    }
    // A type that does not exist cannot be made this way.
    let mut scene = Scene::with(Rules::default(), |settings| with_rest(settings, WriteVia::Rest));
    assert!(scene.prepare().await.unwrap_err().to_string().contains("REST cannot create one"));
}

#[tokio::test]
async fn rest_calls_keep_posthogs_pace_and_events_do_not_wait_for_it() {
    let scene = Scene::rest(Rules::default(), WriteVia::Rest).await;
    let before = scene.clock.elapsed();
    // 250 groups of one trait: each is created, then updated.
    let changes: Vec<AddressedChange> =
        (0..250).map(|at| change(&format!("g{at}"), json!({"set": {"n": at}}))).collect();
    scene.all_delivered(&changes).await;
    let took = (scene.clock.elapsed() - before).as_secs_f64();
    // 500 calls: 400 at once, the others at 1.1 a second.
    assert!((89.0..100.0).contains(&took), "{took}");
    assert_eq!(scene.vendor.groups("company").len(), 250);
    let events = Scene::rest(Rules::default(), WriteVia::Capture).await;
    let before = events.clock.elapsed();
    events.all_delivered(&groups(2_000)).await;
    assert_eq!(events.clock.elapsed(), before);
}

#[tokio::test]
async fn rest_keeps_below_both_of_posthogs_rates() {
    let scene = Scene::rest(Rules::default(), WriteVia::Capture).await;
    let pace = scene.destination.pace(1).unwrap();
    let mut bucket = Bucket::paced(pace);
    let mut now = Duration::from_secs(1_000);
    let starts: Vec<Duration> = (0..12_000)
        .map(|_| {
            now += bucket.take(now);
            now
        })
        .collect();
    for (seconds, most) in [(60, 480), (3_600, 4_800)] {
        let span = Duration::from_secs(seconds);
        let mut from = 0;
        for (at, start) in starts.iter().enumerate() {
            while *start - starts[from] >= span {
                from += 1;
            }
            assert!(at - from < most, "{} in {seconds} s", at - from + 1);
        }
    }
}

#[tokio::test]
async fn whatever_fails_on_the_way_the_groups_end_as_they_should() {
    for seed in 0..12_u64 {
        let random = Random::seeded(seed);
        let write_via = if seed % 3 == 2 { WriteVia::Rest } else { WriteVia::Capture };
        let rules = Rules { dedup: seed % 2 == 0, has_upsert: seed % 4 == 1, ..Rules::default() };
        let mut scene = Scene::with(rules, |settings| with_rest(settings, write_via));
        scene.vendor.create_types(&["company"]);
        scene.prepare().await.unwrap();
        let mut expected: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
        for round in 0..6_u64 {
            let mut page = Vec::new();
            for at in 0..20 {
                let key = format!("g{at}");
                let held = expected.entry(key.clone()).or_default();
                let mut change = Change::default();
                for name in ["a", "b", "c"] {
                    match random.up_to(3) {
                        0 if held.contains_key(name) => {
                            change.unset.insert(name.to_owned());
                            held.remove(name);
                        }
                        1 => {
                            let value = json!({"round": round, "n": random.up_to(9)});
                            change.set.insert(name.to_owned(), value.clone());
                            held.insert(name.to_owned(), value);
                        }
                        _ => {}
                    }
                }
                page.push(AddressedChange {
                    settled_seq: round * 100 + at + 1,
                    key,
                    change: change.into(),
                    ..AddressedChange::default()
                });
            }
            let faults = (0..random.up_to(8)).map(|_| match random.up_to(5) {
                0 => answers(503, false),
                1 => answers(504, true),
                2 => answers(429, false),
                3 => answers(500, true),
                4 => answers(408, true),
                _ => Fault::None,
            });
            scene.vendor.script(faults.collect::<Vec<_>>());
            scene.all_delivered(&page).await;
        }
        let held = scene.vendor.groups("company");
        for (key, traits) in expected {
            let there = held.get(&key).cloned().unwrap_or_default();
            assert_eq!(there, traits, "seed {seed}, {key}");
        }
    }
}

const MAPPING: &str = r#"
source = "warehouse"
destination = "posthog"
[model]
table = "accounts"
[group]
type = "company"
key = "id"
[traits]
name = "name"
plan = "plan"
seats = { column = "seats", as = "number" }
[policy]
on_null = "unset"
"#;

/// A folder whose program speaks to this stand-in, with 25 accounts.
fn place(vendor: &Vendor) -> Place {
    let url = vendor.start();
    let mut place = Place::new();
    place.set("POSTHOG_API_KEY", TOKEN);
    place.set("POSTHOG_PERSONAL_API_KEY", PERSONAL);
    place.write(
        "groupcast.toml",
        &format!(
            "[sources.warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n\n[destinations.posthog]\n\
             type = \"posthog\"\napi_key = \"${{POSTHOG_API_KEY}}\"\npersonal_api_key = \"${{POSTHOG_PERSONAL_API_KEY}}\"\n\
             project_id = \"{PROJECT}\"\nbase_url = \"{url}\"\napp_url = \"{url}\"\n"
        ),
    );
    place.mapping("accounts", MAPPING);
    place.warehouse(
        "CREATE TABLE accounts AS SELECT 'acct_' || lpad(i::VARCHAR, 2, '0') AS id, 'Name ' || i AS name,
             CASE WHEN i % 5 = 0 THEN NULL ELSE 'pro' END AS plan, i * 1.5 AS seats FROM range(25) t(i)",
    );
    place
}

#[test]
fn the_program_runs_verifies_repairs_and_heals() {
    // GIVEN accounts at PostHog, whose list comes in pages of seven
    let vendor = Vendor::new(Rules { page: 7, ..Rules::default() });
    let place = place(&vendor);
    place.run(&["check", "--connect"]).exits(0).says(&["destinations reachable"]);
    place.run(&["run"]).exits(0).says(&["25 delivered"]);
    assert_eq!(vendor.groups("company").len(), 25);
    assert_eq!(
        vendor.group("company", "acct_03").unwrap(),
        *json!({"name": "Name 3", "plan": "pro", "seats": 4.5}).as_object().unwrap()
    );
    place.run(&["verify", "accounts"]).exits(0).says(&["25 groups compared"]);
    // A null removes the trait for good.
    place.warehouse("UPDATE accounts SET plan = NULL WHERE id = 'acct_03'");
    place.run(&["run"]).exits(0).says(&["1 delivered", "1 unset"]);
    assert!(!vendor.group("company", "acct_03").unwrap().contains_key("plan"));
    place.run(&["verify", "accounts"]).exits(0);

    // WHEN somebody changes groups behind our back
    vendor.tamper("company", "acct_01", |held| drop(held.insert("plan".to_owned(), json!("hacked"))));
    vendor.tamper("company", "acct_02", |held| drop(held.remove("name")));
    vendor.tamper("company", "acct_03", |held| drop(held.insert("plan".to_owned(), json!("back again"))));
    vendor.tamper("company", "acct_24", Map::clear);
    vendor.tamper("company", "acct_04", |held| drop(held.insert("theirs".to_owned(), json!(1))));
    vendor.tamper("company", "stranger", |held| drop(held.insert("theirs".to_owned(), json!(1))));
    // THEN a run sees nothing, and a verification everything
    place.run(&["run"]).exits(0).says(&["nothing sent"]);
    let before = place.ledger_bytes();
    let shown = place.run(&["verify", "accounts"]).exits(3).says(&[
        "4 of 25 groups differ",
        "~ acct_01",
        "\"hacked\", not \"pro\"",
        "\"Name 2\" is missing",
        "\"back again\" although it was removed",
        "the destination has no such group",
        "1 group at the destination that this sync never sent",
        "--repair",
    ]);
    assert!(!shown.all().contains("acct_04") && !shown.all().contains("theirs"), "{}", shown.all());
    assert_eq!(place.ledger_bytes(), before, "looking writes nothing");
    let lines = place.run(&["verify", "accounts", "--json"]).exits(3).json_lines();
    let keys: Vec<&str> = lines[..4].iter().map(|line| line["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["acct_01", "acct_02", "acct_03", "acct_24"]);
    let hacked = json!([{"trait": "plan", "difference": "different", "synced": "pro", "actual": "hacked"}]);
    assert_eq!((&lines[0]["traits"], &lines[3]["missing"]), (&hacked, &json!(true)));
    let counts = ["compared", "drifted", "missing_groups", "missing", "different", "unexpected", "foreign", "repaired"]
        .map(|name| lines[4][name].as_u64().unwrap());
    assert_eq!(counts, [25, 4, 1, 1, 1, 1, 1, 0]);
    place.run(&["verify", "accounts", "--show", "1"]).exits(3).says(&["and 3 more groups"]);

    // WHEN it repairs, and the next run says those groups again
    let generation = || {
        let number = std::fs::read_to_string(place.path("state").join("ledger.duckdb.generation")).unwrap();
        serde_json::from_str::<serde_json::Value>(&number).unwrap()["generation"].as_u64().unwrap()
    };
    let before = generation();
    place.run(&["verify", "accounts", "--repair"]).exits(3).says(&["4 groups marked for a full resend"]);
    assert_eq!(generation(), before + 1, "one transaction marks all of them");
    place.run(&["status"]).exits(0).says(&["4"]);
    place.run(&["verify", "accounts"]).exits(0).says(&["4 unconfirmed groups not compared"]);
    place.run(&["run"]).exits(0).says(&["4 delivered"]);
    // THEN all is well, also by answers that need patience, and what is not ours was left alone
    let throttled = Fault::Answer {
        status: 429,
        headers: vec![("retry-after", "0".to_owned())],
        body: String::new(),
        apply: false,
    };
    vendor.script([Fault::None, answers(503, false), Fault::None, throttled]);
    place.run(&["verify", "accounts"]).exits(0).says(&["25 groups compared"]);
    assert_eq!(vendor.group("company", "acct_01").unwrap()["plan"], json!("pro"));
    assert!(!vendor.group("company", "acct_03").unwrap().contains_key("plan"));
    assert_eq!(vendor.group("company", "acct_24").unwrap()["name"], json!("Name 24"));
    assert_eq!(vendor.group("company", "acct_04").unwrap()["theirs"], json!(1));
}

#[test]
fn a_group_is_shown_as_the_destination_holds_it() {
    let vendor = Vendor::new(Rules::default());
    let place = place(&vendor);
    vendor.create_types(&["site"]);
    place.run(&["run"]).exits(0);
    place.warehouse("UPDATE accounts SET plan = NULL WHERE id = 'acct_01'");
    place.run(&["run"]).exits(0);
    vendor.tamper("company", "acct_01", |held| drop(held.insert("name".to_owned(), json!("Renamed"))));
    vendor.tamper("company", "acct_01", |held| drop(held.insert("theirs".to_owned(), json!("x"))));
    let shown = place.run(&["group", "accounts", "acct_01", "--remote"]).exits(0).says(&[
        "At posthog",
        "\"Renamed\"",
        "as \"Name 1\"",
        "theirs",
        "Related",
        "person user-1  a@acct_01.example",
        "site site-1  Site",
        "Activity",
        "update_property  plan  ops@example.com",
    ]);
    assert!(!shown.all().contains(TOKEN) && !shown.all().contains(PERSONAL));
    let shown = place.run(&["group", "accounts", "acct_01", "--remote", "--json"]).exits(0).json();
    assert_eq!(shown["remote"]["traits"], json!({"name": "Renamed", "seats": 1.5, "theirs": "x"}));
    assert_eq!(shown["remote"]["related"][0]["kind"], json!("person"));
    assert_eq!(shown["remote"]["activity"][0]["what"], json!("update_property"));
    // A group that only the destination knows, one that nobody knows, and a key that may not see the activity.
    vendor.tamper("company", "stranger", |held| drop(held.insert("theirs".to_owned(), json!(1))));
    place.run(&["group", "accounts", "stranger", "--remote"]).exits(0).says(&["sent nothing about it", "theirs"]);
    place.run(&["group", "accounts", "nobody", "--remote"]).exits(2).says(&["has no sync history"]);
    vendor.change(|rules| rules.scopes.retain(|scope| *scope != "activity_log:read"));
    place.run(&["group", "accounts", "acct_01", "--remote"]).exits(0).says(&["activity:", "HTTP 403", "Related"]);
    let looked: Vec<Received> = vendor.received().into_iter().filter(|one| one.uri.contains("/find/")).collect();
    assert!(!looked.is_empty() && looked.iter().all(|one| one.uri.contains("skip_create_notebook=true")));
}

#[test]
fn check_connect_asks_posthog_what_only_it_knows() {
    let vendor = Vendor::new(Rules { has_definitions: true, ..Rules::default() });
    let mut place = place(&vendor);
    place.run(&["check", "--connect"]).exits(0);
    vendor.tamper("company", "old", |held| {
        held.extend([("seats".to_owned(), json!("many")), ("plan".to_owned(), json!(5))]);
    });
    for has_definitions in [true, false] {
        vendor.change(|rules| rules.has_definitions = has_definitions);
        place.run(&["check", "--connect"]).exits(0).says(&["`seats` is declared as a number", "accounts.toml"]);
    }
    vendor.create_types(&["a", "b", "c", "d"]);
    place.run(&["check", "--connect"]).exits(0);
    place.mapping("more", &MAPPING.replace("\"company\"", "\"sixth\""));
    place.run(&["check", "--connect"]).exits(2).says(&["a sixth, `sixth`", "company, a, b, c, d"]);
    place.run(&["run", "more"]).exits(2).says(&["a sixth"]);
    place.mapping("more", "");
    std::fs::remove_file(place.path("mappings/more.toml")).unwrap();
    let wrong = "phx_an0ther-key-that-is-wrong";
    place.set("POSTHOG_PERSONAL_API_KEY", wrong);
    let shown = place.run(&["check", "--connect"]).exits(2).says(&["HTTP 401", "`personal_api_key`"]);
    assert!(!shown.all().contains(wrong) && !shown.all().contains(TOKEN));
}

#[test]
fn ph_07_a_rerun_after_lost_answers_says_the_same_under_uuids_of_its_own() {
    let vendor = Vendor::new(Rules::default());
    let mut place = place(&vendor);
    place.set("GROUPCAST__DESTINATIONS__POSTHOG__ATTEMPTS_MAX", "1");
    // The group types are asked for first; then the batch is applied and its answer lost, and so are those to its parts.
    vendor.script([Fault::None].into_iter().chain((0..40).map(|_| answers(504, true))));
    place.run(&["run"]).exits(1).says(&["25 unconfirmed"]);
    vendor.calm();
    let batches = || vendor.received().into_iter().filter(|one| one.uri == "/batch/").collect::<Vec<Received>>();
    // Within that run its parts are known by their uuids.
    let (lost, repeated) = (batches().len(), vendor.dropped().len());
    place.run(&["run"]).exits(0).says(&["25 delivered"]);
    let batches = batches();
    let first: BTreeSet<String> = batches[..lost].iter().flat_map(Received::uuids).collect();
    // Groups whose plan is null are unconfirmed now, so it is removed first, and their events follow alone.
    let later: Vec<String> = batches[lost..].iter().flat_map(Received::uuids).collect();
    assert_eq!((first.len(), later.len()), (25, 25));
    // Were they the same, a value that comes back after a third run's lost answer would be dropped as a duplicate.
    assert!(later.iter().all(|uuid| !first.contains(uuid)));
    assert_eq!(vendor.dropped().len(), repeated);
    place.run(&["verify", "accounts"]).exits(0);
    // A later change is another event, even when it brings an earlier value back.
    for plan in ["free", "pro", "free"] {
        place.warehouse(&format!("UPDATE accounts SET plan = '{plan}' WHERE id = 'acct_01'"));
        place.run(&["run"]).exits(0).says(&["1 delivered"]);
        assert_eq!(vendor.group("company", "acct_01").unwrap()["plan"], json!(plan));
    }
    assert_eq!(vendor.dropped().len(), repeated);
}

#[test]
fn a_run_that_died_must_be_settled_before_it_is_verified() {
    let vendor = Vendor::new(Rules::default());
    let place = place(&vendor);
    place.run(&["verify", "accounts"]).exits(0).says(&["0 groups compared"]);
    place.run(&["run"]).exits(0);
    let ledger = duckdb::Connection::open(place.path("state/ledger.duckdb")).unwrap();
    ledger.execute_batch("UPDATE runs SET status = 'running'").unwrap();
    drop(ledger);
    place.run(&["verify", "accounts"]).exits(1).says(&["the last run crashed", "groupcast run accounts"]);
    place.run(&["run"]).exits(0);
    place.run(&["verify", "accounts"]).exits(0).says(&["25 groups compared"]);
    // Where the list cannot be read, nothing is said about anything.
    vendor.change(|rules| rules.scopes.clear());
    place.run(&["verify", "accounts"]).exits(1).says(&["HTTP 403", "group:read"]);
    place.run(&["run"]).exits(1).says(&["group:read"]);
}

#[test]
fn six_group_types_in_the_mappings_are_one_too_many() {
    let vendor = Vendor::new(Rules::default());
    let place = place(&vendor);
    for name in ["b", "c", "d", "e"] {
        place.mapping(name, &MAPPING.replace("\"company\"", &format!("\"{name}\"")));
    }
    place.run(&["check"]).exits(0);
    place.mapping("f", &MAPPING.replace("\"company\"", "\"f\""));
    place.run(&["check"]).exits(2).says(&["`f` is group type number 6", "takes 5"]);
    place.mapping(
        "f",
        &MAPPING
            .replace("\"company\"", "\"b\"")
            .replace("seats =", "chairs =")
            .replace("name =", "label =")
            .replace("plan =", "tier ="),
    );
    place.run(&["check"]).exits(0);
}

#[test]
fn without_a_personal_key_nulls_are_values_and_nothing_is_read_back() {
    let vendor = Vendor::new(Rules::default());
    let place = place(&vendor);
    let settings = place.read("groupcast.toml");
    let lines = settings.lines().filter(|line| !line.starts_with("personal") && !line.starts_with("project_id"));
    place.write("groupcast.toml", &lines.collect::<Vec<_>>().join("\n"));
    place.run(&["check"]).exits(2).says(&["posthog does not support `on_null = \"unset\"`"]);
    place.mapping("accounts", &MAPPING.replace("\"unset\"", "\"null\""));
    place.run(&["run"]).exits(0).says(&["25 delivered"]);
    assert_eq!(vendor.group("company", "acct_00").unwrap()["plan"], Value::Null);
    place.run(&["verify", "accounts"]).exits(2).says(&["cannot be read back", "`personal_api_key`"]);
    place.run(&["group", "accounts", "acct_00", "--remote"]).exits(2).says(&["cannot be read back"]);
    place.run(&["group", "accounts", "acct_00"]).exits(0);
    assert!(vendor.received().iter().all(|request| request.uri == "/batch/"), "REST is never called");
}

#[test]
fn a_plan_shows_the_requests_without_their_keys() {
    let vendor = Vendor::new(Rules::default());
    let place = place(&vendor);
    place.run(&["run"]).exits(0);
    place.warehouse("UPDATE accounts SET plan = NULL, name = 'Neu' WHERE id = 'acct_01'");
    let plan = place.run(&["plan", "--requests"]).exits(0).says(&[
        "delete_property/?group_type_index=0&group_key=acct_01",
        "Bearer ***",
        "\"api_key\":\"***\"",
    ]);
    assert!(!plan.all().contains(TOKEN) && !plan.all().contains(PERSONAL));
    assert_eq!(vendor.received().iter().filter(|request| request.uri == "/batch/").count(), 1);
}

#[test]
fn events_still_in_the_queue_look_like_drift_and_heal_by_themselves() {
    let vendor = Vendor::new(Rules { lag: true, ..Rules::default() });
    let place = place(&vendor);
    place.run(&["run"]).exits(0).says(&["25 delivered"]);
    place.run(&["verify", "accounts"]).exits(3).says(&["25 missing groups"]);
    // A removal is not taken as done while PostHog does not even list the type.
    place.warehouse("UPDATE accounts SET plan = NULL WHERE id = 'acct_01'");
    place.run(&["run"]).exits(3).says(&["1 rejected"]);
    place.run(&["rejected"]).exits(0).says(&["does not list the group type `company`"]);
    vendor.ingest();
    place.run(&["verify", "accounts"]).exits(0);
    place.run(&["run", "--retry-rejected"]).exits(0).says(&["1 delivered"]);
    assert!(!vendor.group("company", "acct_01").unwrap().contains_key("plan"));
}

/// Events by capture v1.
async fn v1(rules: Rules, capture: CaptureProtocol) -> Scene {
    let mut scene = Scene::with(rules, |settings| posthog::PostHogSettings { capture, ..settings });
    scene.prepare().await.unwrap();
    scene
}

impl Scene {
    /// The requests to capture v1 that carry events.
    fn v1_requests(&self) -> Vec<Received> {
        let all = self.vendor.received().into_iter();
        all.filter(|received| received.uri == "/i/v1/analytics/events" && received.method == "POST").collect()
    }
}

fn of_each(shown: &[(&str, &[(&'static str, &'static str)])]) -> Rules {
    let of_each = shown.iter().map(|(key, answers)| ((*key).to_owned(), answers.iter().copied().collect())).collect();
    Rules { of_each, ..Rules::default() }
}

#[tokio::test]
async fn ph_24_capture_v1_is_used_where_it_is_asked_for_and_there() {
    for (capture, has_v1, uses) in [
        (CaptureProtocol::V0, true, "/batch/"),
        (CaptureProtocol::V1, true, "/i/v1/analytics/events"),
        (CaptureProtocol::Auto, true, "/i/v1/analytics/events"),
        (CaptureProtocol::Auto, false, "/batch/"),
    ] {
        let scene = v1(Rules { has_v1, ..Rules::default() }, capture).await;
        scene.all_delivered(&groups(3)).await;
        let received = scene.vendor.received();
        assert_eq!(received.last().unwrap().uri, uses, "{capture:?}");
        assert_eq!(received.len(), 1 + usize::from(capture != CaptureProtocol::V0), "{capture:?}: asked once");
        assert!(received.iter().all(|received| received.method == "POST" || received.body.is_empty()));
        assert_eq!(scene.group("g1"), json!({"n": 1, "s": "x"}));
        assert_eq!(scene.vendor.dropped(), [""; 0]);
    }
    let rules = Rules { has_v1: false, ..Rules::default() };
    let mut scene =
        Scene::with(rules, |settings| posthog::PostHogSettings { capture: CaptureProtocol::V1, ..settings });
    let error = scene.prepare().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.to_string().contains("the server has no capture v1"), "{error}");
}

#[tokio::test]
async fn ph_24_each_event_has_the_fate_that_its_answer_tells() {
    let rules = of_each(&[
        ("g1", &[("drop", "event_restriction_drop")]),
        ("g2", &[("retry", "not_persisted"), ("retry", "not_persisted")]),
        ("g3", &[("warning", "clock_skew")]),
        ("g4", &[("warning", "person_processing_disabled")]),
        ("g5", &[("retry", "not_persisted"), ("drop", "invalid_options")]),
    ]);
    let scene = v1(rules, CaptureProtocol::V1).await;
    let changes = groups(8);
    let (outcome, outcomes) = scene.deliver(&changes).await;
    outcome.unwrap();
    let rejected = |outcome: &DeliveryOutcome, words: &str| matches!(outcome, DeliveryOutcome::Rejected { reason, partly_applied: false } if reason.contains(words));
    for at in [0, 2, 3, 6, 7] {
        assert_eq!(outcomes[at], DeliveryOutcome::Delivered, "g{at}");
    }
    assert!(rejected(&outcomes[1], "drop: event_restriction_drop"), "{:?}", outcomes[1]);
    assert!(
        matches!(&outcomes[4], DeliveryOutcome::Unconfirmed { reason } if reason.contains("may ignore it")),
        "{:?}",
        outcomes[4]
    );
    assert!(rejected(&outcomes[5], "drop: invalid_options"), "{:?}", outcomes[5]);
    assert_eq!(scene.group("g2"), json!({"n": 2, "s": "x"}));
    // Only what is to be retried is sent again, as the same request, in the same bytes.
    let requests = scene.v1_requests();
    let ids: Vec<Vec<String>> = requests.iter().map(Received::uuids).collect();
    assert_eq!(ids.iter().map(Vec::len).collect::<Vec<_>>(), [8, 2, 1]);
    assert_eq!(ids[1], [ids[0][2].clone(), ids[0][5].clone()]);
    assert_eq!(requests[1].events()[0], requests[0].events()[2]);
    let header = |at: usize, name: &str| requests[at].headers[name].to_str().unwrap().to_owned();
    for (at, attempt) in ["1", "2", "3"].iter().enumerate() {
        assert_eq!(header(at, "posthog-attempt"), *attempt);
        assert_eq!(header(at, "posthog-request-id"), header(0, "posthog-request-id"));
        assert_eq!(header(at, "authorization"), format!("Bearer {TOKEN}"));
        assert!(!String::from_utf8_lossy(&requests[at].body).contains(TOKEN));
    }
    // Another request has another id.
    scene.all_delivered(&[change("later", json!({"set": {"n": 1}}))]).await;
    assert_ne!(scene.v1_requests()[3].headers["posthog-request-id"], header(0, "posthog-request-id").as_str());
}

#[tokio::test]
async fn ph_24_what_never_gets_through_is_not_delivered_and_blames_no_group() {
    // Two events are put off for ever: the others are delivered, and these are for the next run.
    let put_off: Vec<(&'static str, &'static str)> = vec![("retry", "not_persisted"); 50];
    let mut scene = v1(of_each(&[("g1", &put_off), ("g3", &put_off)]), CaptureProtocol::V1).await;
    scene.settings.attempts_max = 3;
    let (_, outcomes) = scene.deliver(&groups(5)).await;
    let kept =
        |at: usize| matches!(&outcomes[at], DeliveryOutcome::NotSent { reason } if reason.contains("not_persisted"));
    assert!(kept(1) && kept(3), "{outcomes:?}");
    assert_eq!(
        [0, 2, 4].map(|at| outcomes[at].clone()),
        [DeliveryOutcome::Delivered, DeliveryOutcome::Delivered, DeliveryOutcome::Delivered]
    );
    // Over the quota: the run stops, and nothing is rejected.
    let scene = v1(Rules { over_quota: true, ..Rules::default() }, CaptureProtocol::V1).await;
    let (outcome, outcomes) = scene.deliver(&groups(5)).await;
    let error = outcome.unwrap_err();
    assert!(error.advice().unwrap().contains("billing limit"), "{error}");
    assert!(outcomes.iter().all(|outcome| matches!(outcome, DeliveryOutcome::NotSent { .. })), "{outcomes:?}");
    // A project whose settings drop everything rejects nobody either: the run stops.
    let keys: BTreeSet<String> = (0..80).map(|at| format!("g{at}")).collect();
    let scene = v1(Rules { poison: keys, ..Rules::default() }, CaptureProtocol::V1).await;
    let (outcome, outcomes) = scene.deliver(&groups(80)).await;
    assert!(outcome.unwrap_err().to_string().contains("consecutive rejections"));
    assert!(outcomes.iter().all(|outcome| matches!(outcome, DeliveryOutcome::NotSent { .. })), "{outcomes:?}");
    // `limited` says the same of single events.
    let scene = v1(of_each(&[("g2", &[("limited", "")])]), CaptureProtocol::V1).await;
    let (outcome, outcomes) = scene.deliver(&groups(4)).await;
    assert!(outcome.is_err() && matches!(outcomes[2], DeliveryOutcome::NotSent { .. }), "{outcomes:?}");
    assert_eq!(
        [0, 1, 3].map(|at| outcomes[at].clone()),
        [DeliveryOutcome::Delivered, DeliveryOutcome::Delivered, DeliveryOutcome::Delivered]
    );
}

#[tokio::test]
async fn ph_24_errors_of_whole_requests_by_capture_v1() {
    let error = |status: u16, tag: &str, after: Option<&str>| Fault::Answer {
        status,
        headers: after.map(|after| ("retry-after", after.to_owned())).into_iter().collect(),
        body: json!({"error": tag, "error_description": tag, "error_uri": "https://posthog.com/docs/api"}).to_string(),
        apply: false,
    };
    // Repeated as the same request.
    for (status, tag) in
        [(429, "rate_limited"), (503, "service_unavailable"), (500, "internal_error"), (408, "request_timeout")]
    {
        let scene = v1(Rules::default(), CaptureProtocol::V1).await;
        scene.vendor.script([error(status, tag, Some("60"))]);
        scene.all_delivered(&groups(2)).await;
        let requests = scene.v1_requests();
        assert_eq!(requests.len(), 2, "{status}");
        assert_eq!(requests[0].headers["posthog-request-id"], requests[1].headers["posthog-request-id"]);
        assert_eq!(requests[0].events(), requests[1].events(), "{status}");
    }
    // Too large: halves.
    let scene = v1(Rules::default(), CaptureProtocol::V1).await;
    scene.vendor.script([error(413, "payload_too_large", None)]);
    scene.all_delivered(&groups(4)).await;
    assert_eq!(scene.v1_requests().iter().map(|request| request.uuids().len()).collect::<Vec<_>>(), [4, 2, 2]);
    // About us: stops at once, and says what to do.
    for (status, tag, advice) in [
        (402, "billing_limit_exceeded", "billing limit"),
        (402, "payment_required", "look at the project's billing"),
        (429, "billing_limit_exceeded", "billing limit"),
        (415, "unsupported_encoding", "gzip = false"),
        (400, "missing_required_headers", "proxy or gateway"),
    ] {
        let scene = v1(Rules::default(), CaptureProtocol::V1).await;
        scene.vendor.script([error(status, tag, None)]);
        let (outcome, outcomes) = scene.deliver(&groups(4)).await;
        let shown = outcome.unwrap_err();
        assert!(shown.advice().unwrap().contains(advice), "{status} {tag}: {shown} {:?}", shown.advice());
        assert_eq!(scene.v1_requests().len(), 1, "{status} {tag}");
        assert!(outcomes.iter().all(|outcome| matches!(outcome, DeliveryOutcome::NotSent { .. })), "{outcomes:?}");
    }
}

#[tokio::test]
async fn ph_24_keys_make_no_distinct_id_that_capture_v1_refuses() {
    let scene = v1(Rules::default(), CaptureProtocol::V1).await;
    let keys = [
        "anonymous",
        "0",
        "null",
        "[object Object]",
        " id ",
        "a\u{e9}".repeat(150).leak(),
        "x".repeat(400).leak(),
        "undefined",
    ];
    let changes: Vec<AddressedChange> = keys.iter().map(|key| change(key, json!({"set": {"n": 1}}))).collect();
    scene.all_delivered(&changes).await;
    assert_eq!(scene.vendor.groups("company").len(), keys.len());
}

/// A group whose traits are together more than PostHog keeps.
#[test]
fn a_group_that_would_outgrow_posthog_is_rejected_by_name() {
    for capture in ["v0", "v1"] {
        let vendor = Vendor::new(Rules::default());
        let url = vendor.start();
        let mut place = Place::new();
        place.set("POSTHOG_KEY", TOKEN);
        place.write(
            "groupcast.toml",
            &format!(
                "[sources.warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n\n[destinations.posthog]\n\
                 type = \"posthog\"\napi_key = \"${{POSTHOG_KEY}}\"\nbase_url = \"{url}\"\ncapture = \"{capture}\"\n"
            ),
        );
        place.mapping(
            "accounts",
            "source = \"warehouse\"\ndestination = \"posthog\"\n[model]\ntable = \"accounts\"\n[group]\ntype = \"company\"\n\
             key = \"id\"\n[traits]\nnotes = \"notes\"\nhistory = \"history\"\nplan = \"plan\"\n[policy]\non_null = \"null\"\n\
             [guards]\nchanged_max = 1\n",
        );
        // Each change fits an event; what the group would hold in the end does not.
        place.warehouse(
            "CREATE TABLE accounts (id VARCHAR, notes VARCHAR, history VARCHAR, plan VARCHAR);
             INSERT INTO accounts VALUES ('a', repeat('n', 600000), NULL, 'free'), ('b', 'short', NULL, 'free')",
        );
        place.run(&["run"]).exits(0).says(&["2 delivered"]);
        place.warehouse("UPDATE accounts SET history = repeat('h', 500000)");
        let run = place.run(&["run"]).exits(3).says(&["1 delivered", "1 rejected"]);
        let shown =
            place.run(&["rejected"]).exits(0).says(&["PostHog keeps at most", "shorten `notes` (600002 bytes)"]);
        assert!(shown.stdout.contains('a'), "{}{}", run.stdout, shown.stdout);
        assert_eq!(vendor.dropped(), [""; 0], "{capture}: nothing was sent that is dropped behind a 200");
        // Below the limit again, it is delivered.
        place.warehouse("UPDATE accounts SET history = repeat('h', 300000) WHERE id = 'a'");
        place.run(&["run"]).exits(0).says(&["1 delivered"]);
        assert_eq!(vendor.group("company", "a").unwrap()["history"].as_str().unwrap().len(), 300_000);
        assert_eq!(vendor.dropped(), [""; 0]);
    }
}

#[tokio::test]
async fn a_removal_at_which_an_older_server_fails_is_done_when_the_property_is_not_there() {
    let rules = Rules { fails_at_absent: true, ..Rules::default() };
    let mut scene = Scene::rest(rules, WriteVia::Capture).await;
    scene.vendor.create_types(&["company"]);
    scene.destination = PostHog::new(&with_rest(settings(&scene.url), WriteVia::Capture), "company").unwrap();
    scene.prepare().await.unwrap();
    scene.all_delivered(&[change("acme", json!({"set": {"plan": "pro", "seats": 3}}))]).await;
    // One is there, one is not, and the third group is not there at all.
    let unset = |key: &str, name: &str| change(key, json!({"unset": [name], "set": {"n": 1}}));
    scene.all_delivered(&[unset("acme", "plan"), unset("bolt", "plan")]).await;
    scene.all_delivered(&[unset("acme", "never_there")]).await;
    assert_eq!(scene.group("acme"), json!({"seats": 3, "n": 1}));
    let failed = scene.vendor.received().iter().filter(|received| received.status == 500).count();
    assert_eq!(failed, 1, "no attempt is repeated that had nothing to do");
    // A failure while the property is there is a failure.
    scene.vendor.script([answers(500, false)]);
    scene.all_delivered(&[unset("acme", "seats")]).await;
    assert_eq!(scene.group("acme"), json!({"n": 1}));
}
