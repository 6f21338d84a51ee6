//! Do sequences of requests leave journy.io's accounts as they must be? Over real HTTP against a stand-in.

use std::time::Duration;

use groupcast::delivery::DeliveryOutcome;
use groupcast::destination::journy;
use groupcast::error::Kind;
use groupcast::io::Clock;
use groupcast::model::Change;
use groupcast::secret::Secret;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::cli::Place;
use crate::support::journy::Journy;
use crate::support::stand_in::{Answer, Fault, Scene, StandIn, change, faults, groups, pages};

const API_KEY: &str = "jk-5b1f9c3e7a2d4086";

fn scene() -> Scene<Journy> {
    let scene = Scene::new(Journy::new(API_KEY));
    scene.vendor.api().keep_time(scene.clock.clone());
    scene
}

fn destination(scene: &Scene<Journy>) -> journy::Journy {
    let settings = journy::JournySettings { api_key: Secret::new(API_KEY), base_url: Some(scene.vendor.url.clone()) };
    journy::Journy::new(&settings, "account").unwrap()
}

#[tokio::test]
async fn jy_02_accounts_are_written_one_by_one_and_null_deletes() {
    let scene = scene();
    let journy = destination(&scene);
    let mut page = groups(20, 3);
    page.push(change("acme", json!({"set": {"plan": "free", "n": 1.5, "tags": ["a", "b"]}})));
    scene.arrives(&journy, &page).await;
    assert_eq!(scene.vendor.statuses(), [201; 21]);
    scene.arrives(&journy, &[change("acme", json!({"set": {"plan": "pro"}, "unset": ["n"]}))]).await;
    assert_eq!(Value::Object(scene.vendor.api().accounts["acme"].clone()), json!({"plan": "pro", "tags": ["a", "b"]}));
    for request in scene.vendor.received() {
        assert_eq!(request.headers["content-type"], "application/json");
        assert!(!request.target.contains(API_KEY));
    }
}

#[tokio::test]
async fn jy_02_a_refusal_has_the_vendors_words_and_hurts_nobody_else() {
    let scene = scene();
    let mut page = groups(5, 1);
    page.push(change("bad", json!({"set": {"plan": "forbidden"}})));
    page.push(change("local", json!({"set": {"plan": {"name": "pro"}}})));
    let (outcome, outcomes) = scene.deliver(&destination(&scene), &page).await;
    outcome.unwrap();
    assert!(outcomes[..5].iter().all(|outcome| *outcome == DeliveryOutcome::Delivered));
    let reason = "HTTP 400: The parameters are not correct.; properties.plan: is not allowed".to_owned();
    assert_eq!(outcomes[5], DeliveryOutcome::Rejected { reason, partly_applied: false });
    assert!(
        matches!(&outcomes[6], DeliveryOutcome::Rejected { reason, .. } if reason.contains("an object")),
        "{outcomes:?}"
    );
    assert_eq!(scene.vendor.received().len(), 6, "what journy.io cannot take is not sent");
}

#[tokio::test]
async fn jy_02_a_bad_or_disabled_key_stops_everything_and_blames_no_account() {
    for disabled in [false, true] {
        let scene = scene();
        let destination = destination(&scene);
        scene.vendor.api().disabled = disabled;
        if !disabled {
            scene.vendor.api().api_key = "another".to_owned();
        }
        let (outcome, outcomes) = scene.deliver(&destination, &groups(100, 1)).await;
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), Kind::Destination);
        assert!(error.advice().unwrap().contains("TrackData"), "{error}");
        assert!(outcomes.iter().all(|outcome| matches!(outcome, DeliveryOutcome::NotSent { .. })), "{outcomes:?}");
        assert!(scene.vendor.received().len() <= 4, "those in flight and no more");
    }
}

#[tokio::test]
async fn jy_02_an_empty_quota_waits_until_the_window_has_moved() {
    for (tells_reset, at_least) in [(false, 2 * 3_600), (true, 2 * 3_590)] {
        let mut scene = scene();
        // One at a time, so that no request is on its way when the quota's end is told.
        scene.settings.concurrency = 1;
        scene.vendor.api().quota = 40;
        scene.vendor.api().tells_reset = tells_reset;
        scene.arrives(&destination(&scene), &groups(100, 1)).await;
        assert_eq!(scene.vendor.statuses(), [201; 100], "no request was made for nothing");
        assert_eq!(scene.vendor.api().accounts.len(), 100);
        let waited = scene.clock.elapsed();
        assert!(waited >= Duration::from_secs(at_least) && waited < Duration::from_secs(2 * 3_700), "{waited:?}");
    }
}

#[tokio::test]
async fn jy_02_requests_that_are_too_many_wait_for_the_window_too() {
    let scene = scene();
    scene.vendor.api().quota = 40;
    // Four at a time: some are under way when the quota ends, and are told so by a 429.
    scene.arrives(&destination(&scene), &groups(100, 1)).await;
    let statuses = scene.vendor.statuses();
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 100);
    assert!(statuses.iter().filter(|status| **status == 429).count() <= 2 * 3, "{statuses:?}");
}

#[tokio::test]
async fn jy_03_deleting_what_is_gone_is_done() {
    let scene = scene();
    let journy = destination(&scene);
    scene.arrives(&journy, &groups(1, 1)).await;
    let gone = [change("g0", json!({"delete": true})), change("never", json!({"delete": true}))];
    scene.arrives(&journy, &gone).await;
    // Its answer was lost, so it is said again.
    scene.arrives(&journy, &groups(1, 1)).await;
    scene.vendor.script([Fault::ApplyThenDrop, Fault::ApplyThen(Answer::new(500, ""))]);
    scene.arrives(&journy, &gone[..1]).await;
    assert!(scene.vendor.api().accounts.is_empty());
    assert_eq!(scene.vendor.statuses().split_off(4), [0, 500, 404]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn after_any_storm_journy_holds_what_was_said(pages in pages(), faults in faults()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let scene = scene();
            scene.vendor.script(faults);
            // journy.io has no `set_once`.
            let only_sets = |mut page: Vec<groupcast::destination::AddressedChange>| {
                for addressed in &mut page {
                    let change = Change { set_once: Default::default(), ..Change::clone(&addressed.change) };
                    addressed.change = change.into();
                }
                page
            };
            let pages = pages.into_iter().map(only_sets).collect();
            let mut wanted = scene.insist(&destination(&scene), pages).await;
            let mut held = scene.vendor.api().accounts.clone();
            wanted.retain(|_, traits| !traits.is_empty());
            held.retain(|_, traits| !traits.is_empty());
            assert_eq!(held, wanted);
        });
    }
}

#[test]
fn the_program_keeps_journy_equal_to_the_warehouse() {
    let vendor = StandIn::start(Journy::new(API_KEY));
    let mut place = Place::new();
    place.set("JOURNY_API_KEY", API_KEY);
    place.write(
        "groupcast.toml",
        &format!(
            "[sources.warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n\n\
             [destinations.journy]\ntype = \"journy\"\napi_key = \"${{JOURNY_API_KEY}}\"\nbase_url = \"{}\"\n",
            vendor.url
        ),
    );
    let mapping = |traits: &str| {
        format!(
            "source = \"warehouse\"\ndestination = \"journy\"\n[model]\ntable = \"accounts\"\n\
             [group]\ntype = \"account\"\nkey = \"id\"\n[traits]\n{traits}\n\
             [policy]\non_null = \"unset\"\non_missing = \"delete\"\n[guards]\nremoved_max = 1\nrows_dropped_max = 1\n\
             nulled_max = 1\nchanged_max = 1\n"
        )
    };
    place.mapping("accounts", &mapping("plan = \"plan\"\nPlan = \"plan\"\naddress = { city = \"plan\" }"));
    place.run(&["check"]).exits(2).says(&["treats this name and", "does not accept objects as values"]);
    place.mapping("accounts", &mapping("plan = \"plan\"\nseats = \"seats\""));
    place.warehouse(
        "CREATE TABLE accounts (id VARCHAR, plan VARCHAR, seats INTEGER);
         INSERT INTO accounts VALUES ('a', 'free', 3), ('b', 'pro', 5)",
    );
    let plan = place.run(&["plan", "--requests"]).exits(0).says(&["/accounts/upsert", "x-api-key: ***"]);
    assert!(!plan.all().contains(API_KEY));
    place.run(&["run"]).exits(0).says(&["2 delivered"]);
    place.run(&["run"]).exits(0).says(&["nothing sent"]);
    place.warehouse("UPDATE accounts SET seats = NULL WHERE id = 'a'; DELETE FROM accounts WHERE id = 'b'");
    place.run(&["run"]).exits(0);
    assert_eq!(json!(vendor.api().accounts), json!({"a": {"plan": "free"}}));
}
