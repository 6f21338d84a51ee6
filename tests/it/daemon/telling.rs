//! What does the real daemon tell by itself: alerts, logs, metrics, the service manager?

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use serde_json::{Value, json};

use super::{edit, place, scheduled};
use crate::support::cli::{Receiver, until};
use crate::support::daemon::Daemon;
use crate::support::stand_in::{Answer, Api, Fault, Received, StandIn};

/// A webhook that takes everything.
struct Webhook;

impl Api for Webhook {
    fn take(&mut self, _: &Received) -> Answer {
        Answer::new(200, "ok")
    }
}

const SECRET: &str = "/services/T0p/s3cret-path";

/// The messages that were taken, as `event sync`.
fn messages(hook: &StandIn<Webhook>) -> Vec<String> {
    let taken = hook.received().into_iter().filter(|request| request.status == 200);
    taken
        .map(|request| request.json())
        .map(|message| format!("{} {}", message["event"].as_str().unwrap(), message["sync"].as_str().unwrap()))
        .collect()
}

#[test]
fn each_change_of_state_is_told_once_also_over_a_restart() {
    let receiver = Receiver::start();
    let hook = StandIn::start(Webhook);
    let mut place = place(&receiver, 100);
    place.mapping("accounts", &scheduled(""));
    let settings = place.read("groupcast.toml");
    let alerts = "\n[daemon.alerts]\nurl = \"${ALERTS}\"\nformat = \"json\"\nrejected_above = 2\n";
    place.write("groupcast.toml", &format!("{settings}{alerts}"));
    place.set("ALERTS", &format!("{}{SECRET}", hook.url));
    let daemon = Daemon::start(&place);
    daemon.run("accounts", &json!({}));
    // a guard stops it, twice
    edit(&place, "CREATE TABLE all_accounts AS FROM accounts; DELETE FROM accounts WHERE id > 'k3'");
    daemon.run("accounts", &json!({}));
    // The webhook fails once: the message is sent again.
    hook.script([Fault::Instead(Answer::new(503, "later"))]);
    daemon.run("accounts", &json!({}));
    until("the guard is sent", || (messages(&hook) == ["guard_stopped accounts"]).then_some(()));
    daemon.stop().exits(0);
    let daemon = Daemon::start(&place);
    daemon.run("accounts", &json!({}));
    // the rows are back
    edit(&place, "DROP TABLE accounts; ALTER TABLE all_accounts RENAME TO accounts");
    daemon.run("accounts", &json!({}));
    let expected = ["guard_stopped accounts", "recovered accounts"];
    until("the recovery is sent", || (messages(&hook) == expected).then_some(()));
    // more groups are rejected than may be
    receiver.vendor.change(|rules| rules.poison = (0..5).map(|n| format!("k{n}")).collect());
    edit(&place, "UPDATE accounts SET rev = 1");
    daemon.run("accounts", &json!({}));
    let expected = ["guard_stopped accounts", "recovered accounts", "rejected accounts"];
    until("the rejections are sent", || (messages(&hook) == expected).then_some(()));
    // the source is gone, and comes back
    receiver.vendor.change(|rules| rules.poison.clear());
    std::fs::rename(place.path("warehouse.duckdb"), place.path("away.duckdb")).unwrap();
    daemon.run("accounts", &json!({}));
    daemon.run("accounts", &json!({}));
    std::fs::rename(place.path("away.duckdb"), place.path("warehouse.duckdb")).unwrap();
    daemon.run("accounts", &json!({"retry_rejected": true}));
    let expected = [&expected[..], &["failed accounts", "recovered accounts"]].concat();
    until("everything is sent", || (messages(&hook) == expected).then_some(()));
    let received: Vec<Value> = hook.received().iter().map(Received::json).collect();
    let guard = received.iter().find(|message| message["event"] == "guard_stopped").unwrap();
    assert_eq!(guard["guard"], "rows-dropped");
    assert!(guard["text"].as_str().unwrap().contains("--accept rows-dropped"), "{guard}");
    let metrics = daemon.get("/metrics").text;
    assert!(metrics.contains("groupcast_alerts_total{result=\"sent\"} 4"), "{metrics}");
    let output = daemon.stop().exits(0);
    assert!(!output.all().contains("s3cret") && !metrics.contains("s3cret"), "{}", output.all());
}

#[test]
fn a_mapping_with_mistakes_and_its_correction_are_told() {
    let receiver = Receiver::start();
    let hook = StandIn::start(Webhook);
    let mut place = place(&receiver, 3);
    let good = scheduled("");
    place.mapping("accounts", &good);
    let other = good.replace("\"company\"", "\"team\"");
    place.mapping("teams", &other.replace("source = ", "sorce = "));
    let settings = place.read("groupcast.toml");
    let alerts = "\n[daemon.alerts]\nurl = \"${ALERTS}\"\nformat = \"json\"\n";
    place.write("groupcast.toml", &format!("{settings}{alerts}"));
    place.set("ALERTS", &format!("{}{SECRET}", hook.url));
    // A mistake is reported at the start, and so is one that is made later.
    let daemon = Daemon::start(&place);
    until("the first mistake is sent", || (messages(&hook) == ["mapping_invalid teams"]).then_some(()));
    assert_eq!(daemon.run("accounts", &json!({}))["run"]["status"], "succeeded");
    place.mapping("accounts", &good.replace("[group]", "[grup]"));
    let expected = ["mapping_invalid teams", "mapping_invalid accounts"];
    until("the second mistake is sent", || (messages(&hook) == expected).then_some(()));
    // Corrected, or gone.
    place.mapping("accounts", &good);
    let expected = [&expected[..], &["recovered accounts"]].concat();
    until("the correction is sent", || (messages(&hook) == expected).then_some(()));
    std::fs::remove_file(place.path("mappings/teams.toml")).unwrap();
    let expected = [&expected[..], &["recovered teams"]].concat();
    until("the removal is sent", || (messages(&hook) == expected).then_some(()));
    daemon.stop().exits(0);
    let received: Vec<Value> = hook.received().iter().map(Received::json).collect();
    let contains = |at: usize, name: &str, part: &str| {
        let text = received[at][name].as_str().unwrap_or_default();
        assert!(text.contains(part), "{name} of message {at} lacks {part}: {:#}", received[at]);
    };
    contains(0, "text", "teams: the mapping has mistakes; the sync does not run");
    contains(0, "error", "mappings/teams.toml:");
    contains(0, "error", "sorce");
    contains(1, "text", "accounts: the mapping has mistakes; its last valid version stays in use");
    contains(1, "error", "mappings/accounts.toml:");
    for message in &received[..2] {
        assert_eq!((&message["error_kind"], &message["run"]), (&json!("config"), &Value::Null), "{message:#}");
        assert!(message["advice"].as_str().is_some_and(|advice| !advice.is_empty()), "{message:#}");
    }
    contains(2, "text", "accounts: the mapping was corrected or removed after");
    assert!(received[2]["advice"].is_null(), "{:#}", received[2]);
}

#[test]
fn every_log_line_of_a_run_carries_its_id_and_its_end_the_counts() {
    let receiver = Receiver::start();
    let mut place = place(&receiver, 5);
    place.set("GROUPCAST__DAEMON__LOG", "json");
    place.mapping("accounts", &scheduled(""));
    place.mapping("broken", &scheduled("").replace("\"accounts\"", "\"nothing\"").replace("\"company\"", "\"team\""));
    let daemon = Daemon::start(&place);
    let good = daemon.run("accounts", &json!({}))["run"]["run"].clone();
    let bad = daemon.run("broken", &json!({}))["run"]["run"].clone();
    let runs = |status: &str| format!("status=\"{status}\",started_by=\"api\"}} 1");
    let metrics = until("the metrics count both", || {
        let metrics = daemon.get("/metrics").text;
        (metrics.contains(&runs("succeeded")) && metrics.contains(&runs("failed"))).then_some(metrics)
    });
    for line in [
        "groupcast_changes_total{sync=\"accounts\",destination=\"amplitude\",outcome=\"delivered\"} 5",
        "groupcast_requests_total{sync=\"accounts\",destination=\"amplitude\",status=\"200\"} 1",
        "groupcast_synced_groups{sync=\"accounts\",destination=\"amplitude\"} 5",
        "groupcast_consecutive_failures{sync=\"broken\",destination=\"amplitude\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}\n{metrics}");
    }
    let output = daemon.stop().exits(0);
    let lines: Vec<Value> =
        output.stderr.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    let of = |run: &Value| lines.iter().filter(|line| line["run"] == *run).collect::<Vec<_>>();
    let ended = of(&good).into_iter().find(|line| line["event"] == "run ended").unwrap();
    assert_eq!((&ended["rows"], &ended["delivered"], &ended["sync"]), (&json!(5), &json!(5), &json!("accounts")));
    let failed = of(&bad).into_iter().find(|line| line["event"] == "run ended").unwrap();
    assert!(failed["error"].as_str().unwrap().contains("nothing"), "{failed}");
    assert_eq!(failed["level"], "error");
    assert_eq!(lines.iter().filter(|line| line["event"] == "run ended").count(), 2, "one line per run");
}

#[test]
fn the_service_manager_hears_of_the_start_reloads_and_the_end() {
    let receiver = Receiver::start();
    let mut place = place(&receiver, 2);
    place.mapping("accounts", &scheduled(""));
    let path = place.path("notify.socket");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    place.set("NOTIFY_SOCKET", path.to_str().unwrap());
    place.set("WATCHDOG_USEC", "400000");
    let daemon = Daemon::start(&place);
    let mut heard = Vec::new();
    let mut hear = |what: &str| {
        let mut buffer = [0; 4_096];
        loop {
            let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{what}: {error} after {heard:?}"));
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            heard.push(message.clone());
            if message.lines().any(|line| line.starts_with(what)) {
                return message;
            }
        }
    };
    hear("READY=1");
    hear("WATCHDOG=1");
    place.mapping("accounts", &place.read("mappings/accounts.toml").replace("source = ", "sorce = "));
    daemon.signal("HUP");
    assert!(hear("RELOADING=1").contains("MONOTONIC_USEC="));
    assert!(hear("READY=1").contains("mistakes"), "the state of the config is told");
    hear("WATCHDOG=1");
    daemon.signal("TERM");
    hear("STOPPING=1");
    daemon.stop_was_asked().exits(0);
}
