//! Does a receiver of webhooks end with what was said, and can it tell repetitions and strangers? Over real HTTP, and
//! with the real program.

use std::collections::BTreeSet;
use std::time::Duration;

use groupcast::delivery::DeliveryOutcome;
use groupcast::destination::AddressedChange;
use groupcast::destination::webhook::{Webhook, WebhookBody, WebhookSettings};
use groupcast::error::Kind;
use groupcast::io::{Clock, SystemClock};
use groupcast::model::Change;
use groupcast::secret::Secret;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::cli::{Place, mapping};
use crate::support::stand_in::{Answer, Fault, Scene, StandIn, change, faults, groups, pages};
use crate::support::webhook::Hook;

const SECRET: &str = "whsec-8f3a5c1d9b7e2046";
const TOKEN: &str = "tok-41c7e9d2a6f8b305";

fn scene() -> Scene<Hook> {
    Scene::new(Hook::new("POST", "/in/groups"))
}

fn settings(scene: &Scene<Hook>) -> WebhookSettings {
    WebhookSettings { url: format!("{}/in/groups", scene.vendor.url), ..WebhookSettings::default() }
}

fn webhook(settings: &WebhookSettings) -> Webhook {
    Webhook::new(settings, "company").unwrap()
}

#[tokio::test]
async fn batches_and_single_changes_arrive_signed() {
    for body in [WebhookBody::Batch, WebhookBody::Single] {
        let scene = scene();
        scene.vendor.api().secret = Some(SECRET.to_owned());
        scene.vendor.api().authorization = Some(format!("Bearer {TOKEN}"));
        let webhook = webhook(&WebhookSettings {
            body,
            batch_max: Some(30),
            headers: Some([("X-Team".to_owned(), "data".into())].into_iter().collect()),
            auth_header: Some(Secret::new(format!("Authorization: Bearer {TOKEN}"))),
            signing_secret: Some(Secret::new(SECRET)),
            ..settings(&scene)
        });
        // The second attempt is signed anew.
        scene.vendor.script([Fault::Instead(Answer::new(500, ""))]);
        scene.arrives(&webhook, &groups(100, 2)).await;
        let requests = scene.vendor.received();
        assert_eq!(requests.len(), if body == WebhookBody::Batch { 5 } else { 101 });
        assert!(requests.iter().all(|request| request.headers["x-team"] == "data"));
        assert_eq!(scene.vendor.api().groups.len(), 100);
    }
}

#[tokio::test]
async fn a_receiver_that_refuses_us_stops_everything() {
    let scene = scene();
    scene.vendor.api().secret = Some("another secret of some length".to_owned());
    let signed = WebhookSettings { signing_secret: Some(Secret::new(SECRET)), ..settings(&scene) };
    let elsewhere = WebhookSettings { url: format!("{}/elsewhere", scene.vendor.url), ..settings(&scene) };
    for (settings, advice) in [(signed, "signing_secret"), (elsewhere, "`url`")] {
        let (outcome, outcomes) = scene.deliver(&webhook(&settings), &groups(1_000, 1)).await;
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), Kind::Destination);
        assert!(error.advice().unwrap().contains(advice), "{error:?}");
        assert!(outcomes.iter().all(|outcome| matches!(outcome, DeliveryOutcome::NotSent { .. })));
    }
    scene.vendor.script([Fault::Instead(Answer::new(410, "gone"))]);
    let (outcome, _) = scene.deliver(&webhook(&settings(&scene)), &groups(1, 1)).await;
    assert!(outcome.unwrap_err().what().contains("HTTP 410: gone"));
}

#[tokio::test]
async fn a_refused_batch_is_halved_down_to_the_guilty_change() {
    for fails_in_a_200 in [false, true] {
        let scene = scene();
        scene.vendor.api().poison = BTreeSet::from(["g17".to_owned()]);
        scene.vendor.api().fails_in_a_200 = fails_in_a_200;
        let webhook = webhook(&WebhookSettings {
            success_pointer: Some("/ok".to_owned()),
            success_equals: Some("true".to_owned()),
            ..settings(&scene)
        });
        let (outcome, outcomes) = scene.deliver(&webhook, &groups(100, 1)).await;
        outcome.unwrap();
        for (at, outcome) in outcomes.iter().enumerate() {
            match outcome {
                DeliveryOutcome::Delivered => assert_ne!(at, 17),
                DeliveryOutcome::Rejected { reason, .. } => {
                    assert!(at == 17 && reason.contains(r#"{"ok":false}"#), "{reason}")
                }
                other => panic!("{at}: {other:?}"),
            }
        }
        assert_eq!(scene.vendor.api().groups.len(), 99);
    }
}

#[tokio::test]
async fn large_batches_are_halved_and_throttling_is_waited_for() {
    let scene = scene();
    scene.vendor.api().body_bytes_max = 2_000;
    let throttled = Answer { headers: vec![("retry-after", "42".to_owned())], ..Answer::new(429, "") };
    scene.vendor.script([Fault::Instead(throttled)]);
    scene.arrives(&webhook(&settings(&scene)), &groups(60, 3)).await;
    assert_eq!(scene.vendor.api().groups.len(), 60);
    let waited = scene.clock.elapsed();
    assert!(waited >= Duration::from_secs(42) && waited < Duration::from_secs(44), "{waited:?}");
    let huge = change("huge", json!({"set": {"text": "x".repeat(1_000)}}));
    let (outcome, outcomes) =
        scene.deliver(&webhook(&WebhookSettings { bytes_max: Some(1_000), ..settings(&scene) }), &[huge]).await;
    outcome.unwrap();
    assert!(
        matches!(&outcomes[0], DeliveryOutcome::Rejected { reason, .. } if reason.contains("at most")),
        "{outcomes:?}"
    );
}

#[tokio::test]
async fn what_accumulates_is_repeated_only_for_a_receiver_that_remembers() {
    let more = || [change("a", json!({"add": {"n": 5}, "append": {"log": ["x"]}}))];
    // GIVEN a receiver that does not say it remembers: after a lost answer nothing is said twice
    let scene = scene();
    scene.vendor.script([Fault::ApplyThenDrop]);
    let (outcome, outcomes) = scene.deliver(&webhook(&settings(&scene)), &more()).await;
    outcome.unwrap();
    assert!(
        matches!(&outcomes[0], DeliveryOutcome::Unconfirmed { reason } if reason.contains("twice")),
        "{outcomes:?}"
    );
    assert_eq!(json!(scene.vendor.api().groups["a"]), json!({"n": 5, "log": ["x"]}));
    // GIVEN one that does: it is told again, by the same id
    let scene = self::scene();
    scene.vendor.api().remembers = true;
    scene.vendor.script([Fault::ApplyThenDrop, Fault::ApplyThen(Answer::new(503, "")), Fault::Drop]);
    let remembering = webhook(&WebhookSettings { dedup: true, ..settings(&scene) });
    scene.arrives(&remembering, &more()).await;
    assert_eq!(json!(scene.vendor.api().groups["a"]), json!({"n": 5, "log": ["x"]}));
    assert_eq!(scene.vendor.api().repetitions, 2);
    // WHEN the same is said anew, once the first is settled, it counts
    let [later] = more();
    scene.arrives(&remembering, &[AddressedChange { settled_seq: 9, ..later }]).await;
    assert_eq!(json!(scene.vendor.api().groups["a"]), json!({"n": 10, "log": ["x", "x"]}));
}

#[tokio::test]
async fn a_value_that_returns_is_no_repetition() {
    // GIVEN two runs whose answers were lost although the receiver took what they said
    let mut scene = scene();
    scene.settings.attempts_max = 1;
    scene.vendor.api().remembers = true;
    let remembering = webhook(&WebhookSettings { dedup: true, ..settings(&scene) });
    let run = |seconds, plan: &str| AddressedChange {
        at: chrono::DateTime::from_timestamp(seconds, 0).unwrap(),
        ..change("a", json!({"set": {"plan": plan}}))
    };
    scene.vendor.script([Fault::ApplyThenDrop, Fault::ApplyThenDrop]);
    for (seconds, plan) in [(1, "pro"), (2, "free")] {
        let (_, outcomes) = scene.deliver(&remembering, &[run(seconds, plan)]).await;
        assert!(matches!(outcomes[0], DeliveryOutcome::Unconfirmed { .. }), "{outcomes:?}");
    }
    // WHEN the third says what the first said, from the same point, since nothing was settled in between
    scene.arrives(&remembering, &[run(3, "pro")]).await;
    // THEN it counts
    assert_eq!(json!(scene.vendor.api().groups["a"]), json!({"plan": "pro"}));
    assert_eq!(scene.vendor.api().repetitions, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn after_any_storm_the_receiver_holds_what_was_said(pages in pages(), faults in faults(), remembers: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let scene = scene();
            scene.vendor.script(faults);
            scene.vendor.api().remembers = remembers;
            scene.vendor.api().secret = Some(SECRET.to_owned());
            let webhook = webhook(&WebhookSettings {
                dedup: remembers,
                batch_max: Some(4),
                signing_secret: Some(Secret::new(SECRET)),
                ..settings(&scene)
            });
            let mut pages = pages;
            for (at, page) in pages.iter_mut().enumerate() {
                for addressed in page {
                    addressed.settled_seq = at as u64 + 1;
                    if remembers && !addressed.change.delete {
                        // Added on top of everything else, whatever happened to the answer.
                        let add = [("sum".to_owned(), json!(at + 1))].into_iter().collect();
                        let change = Change { add, ..Change::clone(&addressed.change) };
                        addressed.change = change.into();
                    }
                }
            }
            let wanted = scene.insist(&webhook, pages).await;
            let mut held = scene.vendor.api().groups.clone();
            let mut wanted = wanted;
            held.retain(|_, traits| !traits.is_empty());
            wanted.retain(|_, traits| !traits.is_empty());
            assert_eq!(held, wanted);
        });
    }
}

#[test]
fn the_program_speaks_to_a_receiver_of_ones_own() {
    // GIVEN a receiver behind a secret path that wants a signature and remembers ids
    let vendor = StandIn::start(Hook {
        secret: Some(SECRET.to_owned()),
        authorization: Some(format!("Bearer {TOKEN}")),
        remembers: true,
        ..Hook::new("PUT", "/in/hidden-41c7?v=1")
    });
    let mut place = Place::new();
    place.set("HOOK_TOKEN", TOKEN);
    place.set("TEAM_ENV", "test");
    place.set("HOOK_PATH", "/hidden-41c7?v=1");
    place.write("signing.key", &format!("{SECRET}\n"));
    place.write(
        "groupcast.toml",
        &format!(
            "[sources.warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n\n\
             [destinations.hook]\ntype = \"webhook\"\nurl = \"{}/in\"\nsecret_path = \"${{HOOK_PATH}}\"\nmethod = \"PUT\"\n\
             headers = {{ X-Team = \"data\", \"X-Env\" = \"${{TEAM_ENV}}\" }}\nauth_header = \"Authorization: Bearer ${{HOOK_TOKEN}}\"\n\
             signing_secret = \"${{file:signing.key}}\"\nsuccess_pointer = \"/ok\"\nsuccess_equals = \"true\"\ndedup = true\n",
            vendor.url
        ),
    );
    place.mapping(
        "accounts",
        "source = \"warehouse\"\ndestination = \"hook\"\n[model]\ntable = \"accounts\"\n\
         [group]\ntype = \"company\"\nkey = \"id\"\n[user]\nid = \"account:{key}\"\n[traits]\nplan = \"plan\"\n\
         sent = { column = \"sent\", op = \"add\" }\nfirst = { column = \"plan\", op = \"set_once\" }\n\
         [policy]\non_null = \"unset\"\non_missing = \"delete\"\n[guards]\nremoved_max = 1\nrows_dropped_max = 1\n\
         nulled_max = 1\nchanged_max = 1\n",
    );
    place.warehouse(
        "CREATE TABLE accounts (id VARCHAR, plan VARCHAR, sent INTEGER);
         INSERT INTO accounts VALUES ('a', 'free', 3), ('b', 'pro', 5)",
    );
    place.run(&["check", "--connect"]).exits(0);
    // WHEN it is planned, no secret is shown
    let plan = place.run(&["plan", "--requests"]).exits(0).says(&[
        "/in/***",
        "x-team: ***",
        "authorization: ***",
        "x-groupcast-signature: ***",
        r#""user":{"id":"account:a"}"#,
    ]);
    // WHEN it runs, and the first answer is lost
    vendor.script([Fault::ApplyThenDrop]);
    let ran = place.run(&["run"]).exits(0).says(&["2 delivered"]);
    for output in [&plan, &ran] {
        for secret in [TOKEN, SECRET, "hidden-41c7", "v1="] {
            assert!(!output.all().contains(secret), "{secret} in {}", output.all());
        }
    }
    // THEN everything is there once
    let groups = || json!(vendor.api().groups);
    assert_eq!(
        groups(),
        json!({"a": {"plan": "free", "sent": 3, "first": "free"}, "b": {"plan": "pro", "sent": 5, "first": "pro"}})
    );
    assert_eq!(vendor.api().repetitions, 2);
    let requests = vendor.received();
    let first = requests.iter().find(|request| request.method == "PUT").unwrap();
    assert_eq!((first.headers["x-team"].as_str(), first.headers["x-env"].as_str()), ("data", "test"));
    let signed_at: i64 = first.headers["x-groupcast-timestamp"].parse().unwrap();
    assert!((SystemClock::start().now().timestamp() - signed_at).abs() < 600, "{signed_at}");
    place.run(&["run"]).exits(0).says(&["nothing sent"]);
    // AND changes, nulls and rows that are gone follow
    place.warehouse("UPDATE accounts SET plan = NULL, sent = 10 WHERE id = 'a'; DELETE FROM accounts WHERE id = 'b'");
    place.run(&["run"]).exits(0);
    assert_eq!(groups(), json!({"a": {"sent": 10, "first": "free"}}));
}

#[test]
fn a_receiver_that_is_down_leads_to_its_url() {
    // An address at which nothing listens.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let place = Place::new();
    place.write(
        "groupcast.toml",
        &format!(
            "[sources.warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n\n\
             [destinations.hook]\ntype = \"webhook\"\nurl = \"http://127.0.0.1:{port}/in\"\nretry_for = \"1s\"\n"
        ),
    );
    place.mapping("accounts", &mapping("name = \"name\"", "").replace("\"amplitude\"", "\"hook\""));
    place.warehouse("CREATE TABLE accounts AS SELECT 'k' || i AS id, 'n' || i AS name FROM range(5) r(i)");
    let unavailable = "destination `hook` (webhook) is unavailable: ";
    let checked = place.run(&["check", "--connect"]).exits(2);
    let checked = checked.says(&[unavailable, "refused", "help: check `url` of the destination"]);
    let ran = place.run(&["run"]).exits(1).says(&["5 pending", "failed to connect", "refused", "help: "]);
    for output in [checked, ran] {
        for setting in ["base_url", "region"] {
            assert!(!output.all().contains(setting), "a webhook has no {setting}: {}", output.all());
        }
    }
}

#[test]
fn secrets_in_the_open_and_impossible_settings_are_told_before_anything_is_sent() {
    let place = Place::new();
    let refused = |keys: &str, words: &[&str]| {
        place.write(
            "groupcast.toml",
            &format!(
                "[sources.warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n[destinations.hook]\n\
                 type = \"webhook\"\n{keys}\n"
            ),
        );
        place.mapping(
            "accounts",
            "source = \"warehouse\"\ndestination = \"hook\"\n[model]\ntable = \"accounts\"\n\
             [group]\ntype = \"company\"\nkey = \"id\"\n[traits]\nplan = \"plan\"\n",
        );
        let output = place.run(&["check"]).exits(2).says(words);
        assert!(!output.all().contains("hunter2"), "{}", output.all());
    };
    let url = "url = \"https://hooks.example.com/in\"\n";
    refused("", &["has no `url`"]);
    refused(
        "url = \"https://hooks.example.com/in?token=hunter2hunter2\"",
        &["contains more than a host and a path", "secret_path"],
    );
    refused(&format!("{url}auth_header = \"Authorization: Bearer hunter2\""), &["contains a plaintext secret"]);
    refused(&format!("{url}headers = {{ X-Api-Key = \"hunter2hunter2\" }}"), &["`X-Api-Key`", "auth_header"]);
    refused(&format!("{url}method = \"GET\""), &["must be"]);
    refused(&format!("{url}success = \"302\""), &["`success`"]);
}

#[test]
fn the_documented_receiver_accepts_what_the_program_sends() {
    // The recipe as anybody would check it by hand, with a tool that shares no code with us.
    let vendor = StandIn::start(Hook::new("POST", "/in"));
    let mut place = Place::new();
    place.set("HOOK_SECRET", SECRET);
    place.write(
        "groupcast.toml",
        &format!(
            "[sources.warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n[destinations.hook]\n\
             type = \"webhook\"\nurl = \"{}/in\"\nbody = \"single\"\nsigning_secret = \"${{HOOK_SECRET}}\"\n",
            vendor.url
        ),
    );
    place.mapping(
        "accounts",
        "source = \"warehouse\"\ndestination = \"hook\"\n[model]\ntable = \"accounts\"\n\
         [group]\ntype = \"company\"\nkey = \"id\"\n[traits]\nplan = \"plan\"\n",
    );
    place.warehouse("CREATE TABLE accounts (id VARCHAR, plan VARCHAR); INSERT INTO accounts VALUES ('a', 'é')");
    place.run(&["run"]).exits(0).says(&["1 delivered"]);
    let request = &vendor.received()[0];
    let body: Value = request.json();
    assert_eq!((body["key"].as_str(), body["set"]["plan"].as_str()), (Some("a"), Some("é")));
    let signed = [request.headers["x-groupcast-timestamp"].as_bytes(), b".", &request.body].concat();
    std::fs::write(place.path("signed"), signed).unwrap();
    let checked = std::process::Command::new("openssl")
        .args(["dgst", "-sha256", "-hmac", SECRET, "-r"])
        .arg(place.path("signed"))
        .output()
        .unwrap();
    let hex = String::from_utf8(checked.stdout).unwrap();
    let hex = hex.split_whitespace().next().unwrap();
    assert_eq!(request.headers["x-groupcast-signature"], format!("v1={hex}"));
}
