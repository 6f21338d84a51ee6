//! Do sequences of requests leave Mixpanel's group profiles as they must be? Over real HTTP against a stand-in, and with
//! the real program.

use std::collections::BTreeSet;

use groupcast::delivery::DeliveryOutcome;
use groupcast::destination::AddressedChange;
use groupcast::destination::mixpanel::{self, LongStrings};
use groupcast::error::Kind;
use groupcast::secret::Secret;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::support::cli::Place;
use crate::support::mixpanel::Mixpanel;
use crate::support::stand_in::{Answer, Fault, Scene, StandIn, change, faults, groups, pages};

/// As long as a real one, so that no other text holds it by chance.
const TOKEN: &str = "0c4f8f1d7a2b4e6f93a1d5c7b8e90f21";

fn scene() -> Scene<Mixpanel> {
    Scene::new(Mixpanel::new(TOKEN))
}

fn destination(scene: &Scene<Mixpanel>, token: &str) -> mixpanel::Mixpanel {
    let base_url = Some(scene.vendor.url.clone());
    let settings = mixpanel::MixpanelSettings {
        token: Secret::new(token),
        region: None,
        base_url,
        long_strings: LongStrings::Reject,
    };
    mixpanel::Mixpanel::new(&settings, "company_id").unwrap()
}

fn held(scene: &Scene<Mixpanel>, key: &str) -> Option<Map<String, Value>> {
    scene.vendor.api().groups("company_id").remove(key)
}

#[tokio::test]
async fn every_operator_arrives_and_can_be_taken_back() {
    let scene = scene();
    let mixpanel = destination(&scene, TOKEN);
    let first = json!({"set": {"plan": "free", "n": 1.5, "address": {"city": "Ghent", "zip": null}},
        "set_once": {"source": "web"}, "append": {"tags": ["a", "b"]}, "unset": ["never"]});
    scene.arrives(&mixpanel, &[change("acme", first)]).await;
    assert_eq!(scene.vendor.statuses(), [200; 4], "one update per operator");
    let second = json!({"set": {"plan": "pro"}, "set_once": {"source": "ads"}, "append": {"tags": ["c"]},
        "unset": ["n"]});
    scene.arrives(&mixpanel, &[change("acme", second)]).await;
    let expected = json!({"plan": "pro", "address": {"city": "Ghent"}, "source": "web", "tags": ["a", "b", "c"]});
    assert_eq!(Value::Object(held(&scene, "acme").unwrap()), expected);
    scene.arrives(&mixpanel, &[change("acme", json!({"delete": true}))]).await;
    assert_eq!(held(&scene, "acme"), None);
}

#[tokio::test]
async fn an_appended_value_is_there_once_however_often_it_is_said() {
    let scene = scene();
    let mixpanel = destination(&scene, TOKEN);
    scene.vendor.script([Fault::ApplyThenDrop, Fault::ApplyThen(Answer::new(500, "no")), Fault::ApplyThenDrop]);
    scene.arrives(&mixpanel, &[change("acme", json!({"append": {"tags": ["a", 2]}}))]).await;
    assert_eq!(scene.vendor.statuses(), [0, 500, 0, 200]);
    assert_eq!(held(&scene, "acme").unwrap()["tags"], json!(["a", 2]));
}

#[tokio::test]
async fn requests_keep_to_the_limits() {
    let scene = scene();
    let mixpanel = destination(&scene, TOKEN);
    scene.arrives(&mixpanel, &groups(4_001, 3)).await;
    let counts: Vec<usize> =
        scene.vendor.received().iter().map(|request| request.json().as_array().unwrap().len()).collect();
    assert_eq!((counts.iter().max(), counts.iter().sum::<usize>(), counts.len()), (Some(&2_000), 4_001, 3));
    scene.arrives(&mixpanel, &groups(1, 600)).await;
    assert_eq!(held(&scene, "g0").unwrap().len(), 600);
    let bodies = scene.vendor.received().split_off(3);
    let sizes: Vec<usize> = bodies.iter().map(|request| request.json()[0]["$set"].as_object().unwrap().len()).collect();
    assert_eq!(sizes, [255, 255, 90]);
}

#[tokio::test]
async fn an_update_keeps_to_a_megabyte_and_a_request_to_two() {
    let scene = scene();
    let mixpanel = destination(&scene, TOKEN);
    // Lists of some 60 KB each, 40 in a group: three updates.
    let list: Vec<String> = (0..250).map(|at| format!("{at:0>238}")).collect();
    let set: serde_json::Map<String, Value> = (0..40).map(|at| (format!("t{at}"), json!(list))).collect();
    let large: Vec<_> = ["a", "b", "c"].iter().map(|key| change(key, json!({"set": set}))).collect();
    scene.arrives(&mixpanel, &large).await;
    for group in scene.vendor.api().groups("company_id").values() {
        assert_eq!(group.len(), 40);
    }
    let updates: Vec<Vec<usize>> = (scene.vendor.received().iter())
        .map(|request| request.json().as_array().unwrap().iter().map(|update| update.to_string().len()).collect())
        .collect();
    assert!(updates.concat().len() == 9 && updates.concat().iter().all(|bytes| *bytes <= 1_000_000), "{updates:?}");
    assert!(updates.iter().all(|request| request.iter().sum::<usize>() <= 2_000_000), "{updates:?}");
    // Responses that arrive together let three parts share a request.
    assert!(updates.len() <= 6, "two large ones in a request, and parts of a group one after the other: {updates:?}");
}

#[tokio::test]
async fn a_failure_in_a_200_is_searched_for_and_the_others_arrive() {
    for fails_in_a_200 in [true, false] {
        let scene = scene();
        scene.vendor.api().fails_in_a_200 = fails_in_a_200;
        scene.vendor.api().poison = BTreeSet::from(["g7".to_owned(), "g130".to_owned()]);
        let mixpanel = destination(&scene, TOKEN);
        let (outcome, outcomes) = scene.deliver(&mixpanel, &groups(200, 2)).await;
        outcome.unwrap();
        for (at, outcome) in outcomes.iter().enumerate() {
            match outcome {
                DeliveryOutcome::Delivered => assert!(at != 7 && at != 130),
                DeliveryOutcome::Rejected { reason, partly_applied: false } => {
                    assert!(at == 7 || at == 130, "{at}: {reason}");
                    assert!(reason.contains("valid"), "{reason}");
                }
                other => panic!("{at}: {other:?}"),
            }
        }
        assert_eq!(scene.vendor.api().groups("company_id").len(), 198);
        let requests = scene.vendor.received().len();
        // Named by strict validation, they are taken out at once; else two are found among two hundred by halving.
        assert!(if fails_in_a_200 { requests <= 40 } else { requests == 2 }, "{requests}");
    }
}

#[tokio::test]
async fn a_wrong_token_is_taken_and_goes_nowhere() {
    // What the documentation of `type = "mixpanel"` warns of: nothing in the answer tells.
    let scene = scene();
    scene.arrives(&destination(&scene, "another"), &groups(3, 1)).await;
    assert!(scene.vendor.api().profiles.is_empty());
}

#[tokio::test]
async fn a_refused_token_stops_everything_and_is_not_repeated() {
    let scene = scene();
    let words = format!(r#"{{"status":0,"error":"token, missing or empty: {TOKEN}"}}"#);
    scene.vendor.script((0..4).map(|_| Fault::Instead(Answer::new(200, &words))));
    let (outcome, outcomes) = scene.deliver(&destination(&scene, TOKEN), &groups(1_000, 1)).await;
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), Kind::Destination);
    assert!(error.advice().unwrap().contains("Project Token"), "{error}");
    assert!(!format!("{error:?} {outcomes:?}").contains(TOKEN));
    assert!(outcomes.iter().any(|outcome| matches!(outcome, DeliveryOutcome::NotSent { .. })));
}

#[tokio::test]
async fn a_413_is_halved() {
    let scene = scene();
    scene.vendor.api().body_bytes_max = 5_000;
    scene.arrives(&destination(&scene, TOKEN), &groups(150, 3)).await;
    assert_eq!(scene.vendor.api().groups("company_id").len(), 150);
}

/// A profile without properties is as good as none, and whether one is there depends on how a change was cut.
fn with_properties(mut groups: crate::support::stand_in::Groups) -> crate::support::stand_in::Groups {
    groups.retain(|_, traits| !traits.is_empty());
    groups
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn after_any_storm_mixpanel_holds_what_was_said(pages in pages(), faults in faults()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let scene = scene();
            scene.vendor.script(faults);
            let wanted = scene.insist(&destination(&scene, TOKEN), pages).await;
            let held = scene.vendor.api().groups("company_id");
            assert_eq!(with_properties(held), with_properties(wanted));
        });
    }
}

#[test]
fn the_program_keeps_mixpanel_equal_to_the_warehouse() {
    // GIVEN two accounts, one of which grows a text that Mixpanel would cut
    let vendor = StandIn::start(Mixpanel::new(TOKEN));
    let mut place = Place::new();
    place.set("MIXPANEL_TOKEN", TOKEN);
    place.write(
        "groupcast.toml",
        &format!(
            "[sources.warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n\n\
             [destinations.mixpanel]\ntype = \"mixpanel\"\ntoken = \"${{MIXPANEL_TOKEN}}\"\nbase_url = \"{}\"\n",
            vendor.url
        ),
    );
    place.mapping(
        "accounts",
        "source = \"warehouse\"\ndestination = \"mixpanel\"\n[model]\ntable = \"accounts\"\n\
         [group]\ntype = \"company_id\"\nkey = \"id\"\n[traits]\n\"$name\" = \"name\"\nplan = \"plan\"\n\
         first_plan = { column = \"plan\", op = \"set_once\" }\ntags = { column = \"tags\", op = \"append\" }\n\
         [policy]\non_null = \"unset\"\non_missing = \"delete\"\n[guards]\nremoved_max = 1\nrows_dropped_max = 1\n\
         nulled_max = 1\nchanged_max = 1\n",
    );
    place.warehouse(
        "CREATE TABLE accounts (id VARCHAR, name VARCHAR, plan VARCHAR, tags VARCHAR[]);
         INSERT INTO accounts VALUES ('a', 'Acme', 'free', ['x']), ('b', 'Bolt', 'pro', NULL)",
    );
    place.run(&["check", "--connect"]).exits(0);
    let plan = place.run(&["plan", "--requests"]).exits(0).says(&["/groups?strict=1", r#""$token":"***""#, "$union"]);
    assert!(!plan.all().contains(TOKEN));
    // WHEN it runs
    place.run(&["run"]).exits(0).says(&["2 delivered"]);
    let groups = || vendor.api().groups("company_id");
    assert_eq!(
        json!(groups()),
        json!({"a": {"$name": "Acme", "plan": "free", "first_plan": "free", "tags": ["x"]},
            "b": {"$name": "Bolt", "plan": "pro", "first_plan": "pro"}})
    );
    let seen = vendor.received().len();
    place.run(&["run"]).exits(0).says(&["nothing sent"]);
    assert_eq!(vendor.received().len(), seen);
    // THEN a change, a null, a new element and a row that is gone all arrive
    place.warehouse(
        "UPDATE accounts SET plan = 'pro', name = NULL, tags = ['x', 'y'] WHERE id = 'a'; DELETE FROM accounts WHERE id = 'b'",
    );
    let output = place.run(&["run"]).exits(0);
    assert!(!output.all().contains(TOKEN));
    assert_eq!(json!(groups()), json!({"a": {"plan": "pro", "first_plan": "free", "tags": ["x", "y"]}}));
    // AND what Mixpanel would cut is rejected with a remedy, without a request
    let seen = vendor.received().len();
    place.warehouse("UPDATE accounts SET name = repeat('x', 256) WHERE id = 'a'");
    place.run(&["run"]).exits(3);
    place.run(&["rejected"]).exits(0).says(&["`$name`", "more than 255 bytes", "long_strings"]);
    assert_eq!(vendor.received().len(), seen);
}

#[test]
fn an_operator_mixpanel_does_not_have_is_told_by_check() {
    let mut place = Place::new();
    place.set("MIXPANEL_TOKEN", TOKEN);
    place.write(
        "groupcast.toml",
        "[sources.warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n\
         [destinations.mixpanel]\ntype = \"mixpanel\"\ntoken = \"${MIXPANEL_TOKEN}\"\nregion = \"in\"\n",
    );
    place.mapping(
        "accounts",
        "source = \"warehouse\"\ndestination = \"mixpanel\"\n[model]\ntable = \"accounts\"\n\
         [group]\ntype = \"company_id\"\nkey = \"id\"\n[traits]\n\
         n = { column = \"n\", op = \"add\" }\n\"$city\" = \"city\"\n[policy]\non_null = \"null\"\n",
    );
    place.run(&["check"]).exits(2).says(&[
        "mixpanel does not support `op = \"add\"`",
        "mixpanel does not support `on_null = \"null\"`",
        "are Mixpanel's own",
    ]);
}

/// The addressed changes of this module are made by `support::stand_in`; this one needs its own key.
#[tokio::test]
async fn a_key_that_mixpanel_cannot_hold_is_rejected_without_a_request() {
    let scene = scene();
    let long = AddressedChange { key: "k".repeat(256), ..change("", json!({"set": {"n": 1}})) };
    let (outcome, outcomes) = scene.deliver(&destination(&scene, TOKEN), &[long]).await;
    outcome.unwrap();
    assert!(
        matches!(&outcomes[0], DeliveryOutcome::Rejected { reason, .. } if reason.contains("255 bytes")),
        "{outcomes:?}"
    );
    assert!(scene.vendor.received().is_empty());
}
