//! Groups that were rejected are sent again on request: some, those with one error message, or all; by the API, the console
//! and the command line. And what the record of such a run, and the page of its destination, show.

use serde_json::{Value, json};

use super::{adds_up, edit, place, scheduled};
use crate::support::amplitude::Fault;
use crate::support::cli::{KEY, Place, Receiver, settings};
use crate::support::daemon::Daemon;

/// A daemon after a run that had these groups rejected, which the destination would take now.
fn rejected(groups: &[&str]) -> (Receiver, Place, Daemon) {
    let receiver = Receiver::start();
    let place = place(&receiver, 8);
    place.mapping("accounts", &scheduled(""));
    receiver.vendor.change(|rules| rules.poison = groups.iter().map(|group| (*group).to_owned()).collect());
    let daemon = Daemon::start(&place);
    let first = daemon.run("accounts", &json!({}));
    assert_eq!(first["run"]["counts"]["rejected"], groups.len(), "{first}");
    receiver.vendor.change(|rules| rules.poison.clear());
    (receiver, place, daemon)
}

/// The value of a form's hidden field.
fn field<'p>(page: &'p str, name: &str) -> &'p str {
    let (_, after) =
        page.split_once(&format!("name=\"{name}\" value=\"")).unwrap_or_else(|| panic!("no {name}: {page}"));
    after.split('"').next().unwrap()
}

fn keys(daemon: &Daemon) -> Vec<String> {
    let rejected = daemon.get("/api/v1/syncs/accounts/rejected").is(200);
    rejected.as_array().unwrap().iter().map(|group| group["key"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn some_groups_are_retried_by_the_api_and_the_command_line() {
    let (receiver, place, daemon) = rejected(&["k1", "k2", "k3", "k4"]);
    let before = receiver.requests();
    // GIVEN that no group is sent again by itself
    assert_eq!(daemon.run("accounts", &json!({}))["run"]["counts"]["rejected_unchanged"], 4);
    assert_eq!(receiver.requests(), before);
    // WHEN two are retried, with one that nobody has
    let run = daemon.run("accounts", &json!({"group": ["k1", "k2", "nobody"], "retry_rejected": true}));
    // THEN a run of these groups alone sends them
    let counts = &run["run"]["counts"];
    assert_eq!((&counts["rows"], &counts["delivered"]), (&json!(2), &json!(2)), "{run}");
    adds_up(&run["run"]);
    let remark = "1 of the 3 groups is neither in the model nor in the ledger";
    assert_eq!(run["detail"]["remarks"], json!([remark]));
    assert_eq!(keys(&daemon), ["k3", "k4"]);
    // AND a request for no group at all starts nothing
    let none = daemon.post("/api/v1/syncs/accounts/runs", &json!({"group": [], "retry_rejected": true})).is(400);
    assert!(none["error"]["message"].as_str().unwrap().contains("`group` is an empty list"), "{none}");
    let plan = daemon
        .post("/api/v1/syncs/accounts/runs", &json!({"group": ["k3", "k4"], "retry_rejected": true, "dry_run": true}));
    assert_eq!(plan.is(200)["change"], 2);
    // AND the command line does the same beside the daemon, and without it
    let arguments = ["run", "accounts", "--retry-rejected", "--json", "--group"];
    let one = place.run(&[&arguments[..], &["k3"]].concat()).exits(0).json();
    assert_eq!(one["runs"][0]["counts"]["delivered"], 1, "{one}");
    daemon.stop().exits(0);
    let rest = place.run(&[&arguments[..], &["k4", "--group", "k1"]].concat()).exits(0).json();
    let counts = &rest["runs"][0]["counts"];
    assert_eq!(
        (&counts["rows"], &counts["delivered"], &counts["unchanged"]),
        (&json!(2), &json!(1), &json!(1)),
        "{rest}"
    );
    assert_eq!(receiver.vendor.groups().len(), 8);
}

#[test]
fn the_console_confirms_a_selection_and_starts_one_run_of_it() {
    let (receiver, _place, daemon) = rejected(&["k1", "k2", "k3", "k4"]);
    let page = daemon.get("/rejected?sync=accounts").text;
    assert_eq!(page.matches("type=\"checkbox\" name=\"key\"").count(), 4, "{page}");
    let csrf = field(&page, "csrf");
    let retry = "/syncs/accounts/retry";
    // GIVEN forms that are not ours, or select nothing
    assert_eq!(daemon.submit(retry, &[("of", "selected"), ("key", "k1")]).status, 403);
    let nothing = daemon.submit(retry, &[("csrf", csrf), ("of", "selected")]);
    assert!(nothing.status == 400 && nothing.text.contains("no group is selected"), "{}", nothing.text);
    // WHEN two are selected
    let requests = receiver.requests();
    let confirm = daemon.submit(retry, &[("csrf", csrf), ("of", "selected"), ("key", "k1"), ("key", "k3")]);
    assert!(confirm.status == 200 && confirm.text.contains("Retry 2 groups of "), "{}", confirm.text);
    assert!(confirm.text.contains("value=\"k1\"") && confirm.text.contains("value=\"k3\""));
    assert_eq!(receiver.requests(), requests, "nothing is sent before it is confirmed");
    // AND confirmed
    let started =
        daemon.submit("/syncs/accounts/run", &[("csrf", csrf), ("retry_rejected", "1"), ("key", "k1"), ("key", "k3")]);
    let run = started.location.as_deref().and_then(|path| path.strip_prefix("/runs/")).map(str::to_owned);
    let run = run.unwrap_or_else(|| panic!("{}", started.text));
    let detail = daemon.ended(&run);
    assert_eq!((&detail["run"]["started_by"], &detail["run"]["counts"]["delivered"]), (&json!("console"), &json!(2)));
    // THEN these are synced and the others wait, whom the form for their error message finds
    assert_eq!(keys(&daemon), ["k2", "k4"]);
    let page = daemon.get("/rejected?sync=accounts&q=k").text;
    assert!(page.contains("Retry matching…"));
    let matching = daemon.submit(retry, &[("csrf", csrf), ("of", "matching"), ("q", "K4")]);
    assert!(matching.text.contains("Retry 1 group of ") && matching.text.contains("value=\"k4\""), "{}", matching.text);
    let all = daemon.submit(retry, &[("csrf", csrf), ("of", "all")]);
    assert!(all.text.contains("Retry 2 rejected groups of "), "{}", all.text);
    let page = daemon.get(&format!("/runs/{run}")).text;
    assert!(page.contains("Guards") && page.contains("Previous run"), "{page}");
    daemon.stop().exits(0);
}

#[test]
fn a_record_has_the_log_the_traits_and_the_latency_of_its_run() {
    let receiver = Receiver::start();
    let place = place(&receiver, 8);
    place.mapping("accounts", &scheduled(""));
    // Amplitude documents a pause of 15 seconds.
    place.write("groupcast.toml", &settings(&receiver.url, "retry_for = \"5m\"\n"));
    let daemon = Daemon::start(&place);
    // GIVEN a destination that fails, and then throttles
    let answer = |status| Fault::Answer { status, headers: Vec::new(), body: format!("later, {KEY}"), apply: false };
    receiver.vendor.script([answer(503), answer(429)]);
    let first = daemon.run("accounts", &json!({}));
    let detail = &first["detail"];
    // THEN the log has what the run got over, without the key that was echoed
    let lines: Vec<(&str, &str)> = (detail["log"]["lines"].as_array().unwrap().iter())
        .map(|line| (line["level"].as_str().unwrap(), line["text"].as_str().unwrap()))
        .collect();
    assert_eq!(lines[0], ("info", "read 8 rows: 8 to compare, 0 unchanged"), "{detail}");
    assert!(
        lines.iter().any(|(level, text)| *level == "warning" && text.contains("503") && text.contains("retrying")),
        "{lines:?}"
    );
    assert!(lines.iter().any(|(_, text)| text.contains("429") && text.contains("requests pause for 15s")), "{lines:?}");
    assert!(!first.to_string().contains(KEY));
    assert_eq!(
        detail["traits"],
        json!({
        "name": {"added": 8, "changed": 0, "unset": 0}, "rev": {"added": 8, "changed": 0, "unset": 0}})
    );
    let latency = &detail["latency"];
    assert_eq!(latency["responses"], 3, "{latency}");
    let figure = |name: &str| latency[name].as_u64().unwrap_or_else(|| panic!("no {name}: {latency}"));
    assert!(
        1 <= figure("median_ms") && figure("median_ms") <= figure("p95_ms") && figure("p95_ms") <= figure("max_ms")
    );
    // AND the next run is counted by itself
    edit(
        &place,
        "UPDATE accounts SET rev = 7, name = CASE id WHEN 'k1' THEN NULL ELSE name END WHERE id IN ('k1', 'k2')",
    );
    let second = daemon.run("accounts", &json!({}));
    assert_eq!(
        second["detail"]["traits"],
        json!({
        "name": {"added": 0, "changed": 0, "unset": 1}, "rev": {"added": 0, "changed": 2, "unset": 0}})
    );
    // AND the destination adds them up
    let destination = daemon.get("/api/v1/destinations/amplitude").is(200);
    let traffic = &destination["traffic"];
    assert_eq!(
        (&traffic["requests"], &traffic["throttled"], &traffic["server_errors"]),
        (&json!(4), &json!(1), &json!(1))
    );
    assert_eq!((&traffic["retries"], &traffic["latency"]["responses"]), (&json!(2), &json!(4)), "{destination}");
    assert_eq!(destination["runs"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        (&destination["limits"]["requests_per_second"], &destination["syncs"]),
        (&Value::Null, &json!(["accounts"]))
    );
    daemon.get("/api/v1/destinations/nowhere").is(404);
    let page = daemon.get("/destinations/amplitude").text;
    assert!(page.contains("Median latency") && page.contains("Throttled (429)"), "{page}");
    let id = first["run"]["run"].as_str().unwrap();
    let page = daemon.get(&format!("/runs/{id}")).text;
    assert!(page.contains("requests pause for 15s") && !page.contains(KEY), "{page}");
    daemon.stop().exits(0);
}

#[test]
fn a_guard_shows_its_reading_beside_the_previous_one() {
    let receiver = Receiver::start();
    let place = place(&receiver, 40);
    let guarded = scheduled("").replace("changed_max = 1", "changed_max = 0.5");
    place.mapping("accounts", &guarded);
    let daemon = Daemon::start(&place);
    daemon.run("accounts", &json!({}));
    edit(&place, "UPDATE accounts SET rev = 1 WHERE id IN ('k1', 'k2')");
    daemon.run("accounts", &json!({}));
    edit(&place, "UPDATE accounts SET rev = 2");
    let stopped = daemon.run("accounts", &json!({}));
    assert_eq!(stopped["run"]["status"], "stopped_by_guard", "{stopped}");
    let lines = stopped["detail"]["log"]["lines"].as_array().unwrap();
    assert_eq!(lines.last().unwrap()["level"], "error", "{lines:?}");
    let id = stopped["run"]["run"].as_str().unwrap();
    let page = daemon.get(&format!("/runs/{id}")).text;
    let row = page.split("<code>changed</code>").last().unwrap().split("</tr>").next().unwrap();
    let at = |text: &str| row.find(text).unwrap_or_else(|| panic!("no `{text}`: {row}"));
    assert!(at("40 of 40 (100 %)") < at("2 of 40 (5 %)") && at("2 of 40 (5 %)") < at("up to 50 %"), "{row}");
    daemon.stop().exits(0);
}
