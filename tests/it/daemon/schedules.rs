//! Are schedules kept, side by side and in turn, and what happens when a sync fails?

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use groupcast::io::{Clock, SystemClock};
use serde_json::{Value, json};

use super::{adds_up, edit, holding, place, scheduled};
use crate::support::cli::{Receiver, mapping, until};
use crate::support::daemon::Daemon;

fn time(text: &Value) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text.as_str().unwrap()).unwrap().to_utc()
}

/// Every run, by sync, the oldest first.
fn runs(daemon: &Daemon) -> BTreeMap<String, Vec<Value>> {
    let all = daemon.get("/api/v1/runs?count=1000").is(200);
    let mut by_sync: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for run in all.as_array().unwrap().iter().rev() {
        by_sync.entry(run["sync"].as_str().unwrap().to_owned()).or_default().push(run.clone());
    }
    by_sync
}

#[test]
fn syncs_of_one_warehouse_run_side_by_side_and_followers_follow() {
    let receiver = Receiver::start();
    let place = place(&receiver, 50);
    let names = ["one", "two", "three", "four", "five"];
    for (position, name) in names.iter().enumerate() {
        let kind = format!("\"{name}\"");
        place.mapping(name, &scheduled("schedule = '* * * * * *'").replace("\"company\"", &kind));
        assert!(position < 5);
    }
    place.mapping("follower", &scheduled("schedule = { after = 'one' }").replace("\"company\"", "\"follower\""));
    let daemon = Daemon::start(&place);
    until("each has run three times", || {
        let runs = runs(&daemon);
        let ended = |runs: &Vec<Value>| runs.iter().filter(|run| run["status"] == "succeeded").count() >= 3;
        (runs.len() == 6 && runs.values().all(ended)).then_some(())
    });
    // WHEN the warehouse changes under way, every sync sees it
    edit(&place, "UPDATE accounts SET rev = 1");
    for name in names.iter().chain(&["follower"]) {
        // The writer had the file open; a sync that met it backs off, and is requested instead of waited for.
        daemon.run(name, &json!({}));
    }
    assert_eq!(holding(&receiver, "rev", 1), 6 * 50);
    let all = runs(&daemon);
    let mut spans = Vec::new();
    for (sync, runs) in &all {
        for pair in runs.windows(2) {
            assert!(time(&pair[0]["ended_at"]) <= time(&pair[1]["started_at"]), "{sync} overlaps: {pair:?}");
        }
        for run in runs.iter().filter(|run| run["status"] == "succeeded") {
            adds_up(run);
            spans.push((time(&run["started_at"]), time(&run["ended_at"])));
        }
    }
    let most = spans.iter().map(|(at, _)| spans.iter().filter(|(from, to)| from <= at && at < to).count()).max();
    assert!(most.is_some_and(|most| (2..=4).contains(&most)), "side by side, and four at most: {most:?}");
    assert!(all["follower"].iter().all(|run| ["schedule", "api"].contains(&run["started_by"].as_str().unwrap())));
    assert!(all["follower"].len() <= all["one"].len() + 1);
    daemon.stop().exits(0);
}

#[test]
fn a_failing_sync_backs_off_and_disturbs_nobody() {
    let receiver = Receiver::start();
    let place = place(&receiver, 5);
    place.mapping("good", &scheduled("schedule = '* * * * * *'"));
    place.mapping(
        "bad",
        &scheduled("schedule = '* * * * * *'")
            .replace("\"accounts\"", "\"nothing\"")
            .replace("\"company\"", "\"team\""),
    );
    let daemon = Daemon::start(&place);
    until("the good one has run four times", || {
        (runs(&daemon).get("good").is_some_and(|runs| runs.len() >= 4)).then_some(())
    });
    let bad = daemon.get("/api/v1/syncs/bad").is(200);
    let activity = &bad["sync"]["activity"];
    assert_eq!((&activity["state"], &activity["failures"]), (&json!("backing_off"), &json!(1)), "{bad}");
    assert!(time(&activity["next_attempt_at"]) > SystemClock::start().now());
    let failed = &bad["runs"][0];
    assert_eq!((&failed["status"], &failed["error_kind"]), (&json!("failed"), &json!("config")), "{failed}");
    assert!(failed["error"].as_str().unwrap().contains("nothing"), "{failed}");
    // the mapping is corrected: it is tried immediately
    place.mapping("bad", &scheduled("schedule = '* * * * * *'").replace("\"company\"", "\"team\""));
    until("the bad one is good", || receiver.group("team", "k1"));
    until("and counts as such", || {
        let state = daemon.get("/api/v1/syncs/bad").is(200)["sync"]["activity"].clone();
        (state["failures"] == 0).then_some(())
    });
    let output = daemon.stop().exits(0);
    assert!(output.stderr.contains("bad") && output.stderr.contains("nothing"), "{}", output.stderr);
}

#[test]
fn a_disabled_sync_runs_by_hand_only() {
    let receiver = Receiver::start();
    let place = place(&receiver, 3);
    place.mapping("off", &scheduled("enabled = false\nschedule = '* * * * * *'"));
    place.mapping("on", &format!("schedule = '* * * * * *'\n{}", mapping("other = \"rev\"", "")));
    let daemon = Daemon::start(&place);
    until("the other has run three times", || {
        (runs(&daemon).get("on").is_some_and(|runs| runs.len() >= 3)).then_some(())
    });
    assert!(!runs(&daemon).contains_key("off"));
    assert_eq!(daemon.get("/api/v1/syncs/off").is(200)["sync"]["activity"]["state"], "disabled");
    assert_eq!(daemon.run("off", &json!({}))["run"]["status"], "succeeded");
    daemon.stop().exits(0);
}
