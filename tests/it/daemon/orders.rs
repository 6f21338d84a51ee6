//! What may be ordered of a daemon, and does it survive a restart?

use serde_json::json;

use super::{adds_up, edit, holding, place, scheduled, slow, wide, wide_mapping};
use crate::support::cli::{Receiver, until};
use crate::support::daemon::Daemon;

#[test]
fn a_run_is_requested_and_shown() {
    let receiver = Receiver::start();
    let place = place(&receiver, 5);
    place.mapping("accounts", &scheduled(""));
    let daemon = Daemon::start(&place);
    // a plan writes nothing
    let plan = daemon.get("/api/v1/syncs/accounts/plan").is(200);
    assert_eq!((&plan["add"], &plan["unchanged"]), (&json!(5), &json!(0)), "{plan}");
    assert_eq!(plan["changes"].as_array().unwrap().len(), 5);
    let dry = daemon.post("/api/v1/syncs/accounts/runs", &json!({"dry_run": true})).is(200);
    assert_eq!(dry["add"], 5);
    assert_eq!(receiver.requests(), 0);
    // a run is found under the id that was given out
    let detail = daemon.run("accounts", &json!({}));
    let run = &detail["run"];
    assert_eq!((&run["status"], &run["started_by"]), (&json!("succeeded"), &json!("api")), "{detail}");
    assert_eq!(run["counts"]["delivered"], 5);
    adds_up(run);
    assert_eq!(detail["detail"]["by_status"]["200"], 1);
    assert_eq!(detail["detail"]["guards"].as_array().unwrap().len(), groupcast::sync::guard::NAMES.len());
    let id = run["run"].as_str().unwrap();
    let changes = daemon.get(&format!("/api/v1/runs/{id}/groups?count=2")).is(200);
    assert_eq!(changes.as_array().unwrap().len(), 2, "{changes}");
    let group = daemon.get("/api/v1/syncs/accounts/groups?key=k3").is(200);
    assert_eq!((&group["traits"]["name"]["value"], &group["traits"]["name"]["run"]), (&json!("n3"), &json!(id)));
    assert_eq!(daemon.get("/api/v1/syncs/accounts/groups/k3").is(200), group);
    // what is unknown is not found, what is invalid is explained
    for (path, status) in [
        ("/api/v1/syncs/acounts", 404),
        ("/api/v1/runs/nothing", 404),
        ("/api/v1/syncs/accounts/groups?key=none", 404),
        ("/api/v1/runs?count=0", 400),
    ] {
        let error = daemon.get(path).is(status);
        assert!(error["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{path}: {error}");
    }
    let wrong = daemon.post("/api/v1/syncs/accounts/runs", &json!({"accept": ["rows-droped"]})).is(400);
    assert!(wrong["error"]["advice"].as_str().unwrap().contains("rows-dropped"), "{wrong}");
    // a changed trait alone is sent
    edit(&place, "UPDATE accounts SET rev = 7 WHERE id = 'k2'");
    let one = daemon.run("accounts", &json!({}));
    assert_eq!((&one["run"]["counts"]["delivered"], &one["run"]["counts"]["traits_set"]), (&json!(1), &json!(1)));
    let syncs = daemon.get("/api/v1/syncs").is(200);
    let sync = &syncs[0];
    assert_eq!((&sync["groups"]["synced"], &sync["activity"]["state"]), (&json!(5), &json!("manual")), "{sync}");
    daemon.stop().exits(0);
    assert_eq!(crate::support::daemon::address(&place), None, "the address is taken away");
}

#[test]
fn many_triggers_of_one_sync_lose_none_and_repeat_none() {
    let receiver = Receiver::start();
    let place = place(&receiver, 5);
    place.mapping("accounts", &scheduled(""));
    let daemon = Daemon::start(&place);
    slow(&receiver, 25_000);
    let first = daemon.trigger("accounts", &json!({}));
    until("the first run sends", || (receiver.requests() > 0).then_some(()));
    // WHEN many request a run while the source has been read already, and the first run goes on
    edit(&place, "UPDATE accounts SET rev = 1");
    let accepted: Vec<(String, bool)> = std::thread::scope(|scope| {
        let requests: Vec<_> = (0..40)
            .map(|_| {
                scope.spawn(|| {
                    let accepted = daemon.post("/api/v1/syncs/accounts/runs", &json!({})).is(202);
                    (accepted["run"].as_str().unwrap().to_owned(), accepted["joined"].as_bool().unwrap())
                })
            })
            .collect();
        requests.into_iter().map(|request| request.join().unwrap()).collect()
    });
    slow(&receiver, 0);
    // THEN one more run serves all of them, and it sees what changed before they requested it
    let mut runs: Vec<&String> = accepted.iter().map(|(run, _)| run).filter(|run| **run != first).collect();
    runs.sort();
    runs.dedup();
    assert_eq!(runs.len(), 1, "{accepted:?}");
    for run in &runs {
        assert_eq!(daemon.ended(run)["run"]["status"], "succeeded");
    }
    assert_eq!(holding(&receiver, "rev", 1), 5);
    let records = daemon.get("/api/v1/runs").is(200);
    assert_eq!(records.as_array().unwrap().len(), 1 + runs.len(), "{records}");
    daemon.stop().exits(0);
}

#[test]
fn a_run_is_cancelled_and_the_next_one_says_the_rest() {
    let receiver = Receiver::start();
    let place = wide(&receiver, 400);
    place.mapping("accounts", &wide_mapping(""));
    slow(&receiver, 100);
    let daemon = Daemon::start(&place);
    let run = daemon.trigger("accounts", &json!({}));
    until("it sends", || (receiver.requests() > 3).then_some(()));
    let progress = daemon.get(&format!("/api/v1/runs/{run}")).is(200);
    assert_eq!((&progress["run"]["status"], &progress["progress"]["candidates"]), (&json!("running"), &json!(400)));
    daemon.post(&format!("/api/v1/runs/{run}/cancel"), &json!({})).is(202);
    let ended = daemon.ended(&run);
    assert_eq!((&ended["run"]["status"], &ended["run"]["error_kind"]), (&json!("cancelled"), &json!("interrupted")));
    adds_up(&ended["run"]);
    // The record is there just before the daemon has taken note of the end.
    until("there is nothing left to cancel", || {
        (daemon.post(&format!("/api/v1/runs/{run}/cancel"), &json!({})).status == 409).then_some(())
    });
    slow(&receiver, 0);
    let rest = daemon.run("accounts", &json!({}));
    assert_eq!(rest["run"]["status"], "succeeded");
    assert_eq!(holding(&receiver, "t99", 0), 400);
    daemon.stop().exits(0);
}

#[test]
fn pauses_and_queued_runs_survive_a_restart() {
    let receiver = Receiver::start();
    let place = place(&receiver, 5);
    place.mapping("often", &scheduled("schedule = '* * * * * *'"));
    place.mapping("other", &scheduled("").replace("\"company\"", "\"team\""));
    let daemon = Daemon::start(&place);
    until("it ran", || (receiver.requests() > 0).then_some(()));
    let paused = daemon.post("/api/v1/syncs/often/pause", &json!({})).is(200);
    assert_eq!(
        paused["state"].as_str().filter(|state| ["paused", "running"].contains(state)),
        paused["state"].as_str()
    );
    until("it rests", || {
        (daemon.get("/api/v1/syncs/often").is(200)["sync"]["activity"]["state"] == "paused").then_some(())
    });
    let before = daemon.get("/api/v1/syncs/often/runs").is(200).as_array().unwrap().len();
    // A run is under way when another is requested, and the machine crashes.
    slow(&receiver, 3_000);
    let first = daemon.trigger("other", &json!({}));
    until("it sends", || receiver.group("team", "k1"));
    let waiting = daemon.trigger("other", &json!({"full": true}));
    assert_ne!(first, waiting);
    assert_eq!(daemon.get(&format!("/api/v1/runs/{waiting}")).is(200)["progress"]["phase"], "queued");
    daemon.kill();
    slow(&receiver, 0);
    let daemon = Daemon::start(&place);
    assert_eq!(daemon.ended(&waiting)["run"]["status"], "succeeded", "what was accepted is done");
    assert_eq!(daemon.get(&format!("/api/v1/runs/{first}")).is(200)["run"]["status"], "crashed");
    let often = daemon.get("/api/v1/syncs/often").is(200);
    assert_eq!(often["sync"]["activity"]["state"], "paused", "{often}");
    assert_eq!(daemon.get("/api/v1/syncs/often/runs").is(200).as_array().unwrap().len(), before);
    daemon.post("/api/v1/syncs/often/resume", &json!({})).is(200);
    until("it runs again", || {
        let runs = daemon.get("/api/v1/syncs/often/runs").is(200);
        (runs.as_array().unwrap().len() > before).then_some(())
    });
    daemon.stop().exits(0);
}

#[test]
fn a_guard_stops_a_run_until_somebody_accepts_it() {
    let receiver = Receiver::start();
    let place = place(&receiver, 100);
    place.mapping("accounts", &scheduled(""));
    let daemon = Daemon::start(&place);
    daemon.run("accounts", &json!({}));
    edit(&place, "DELETE FROM accounts WHERE hash(id) % 2 = 0");
    let stopped = daemon.run("accounts", &json!({}));
    assert_eq!(
        (&stopped["run"]["status"], &stopped["run"]["error_kind"]),
        (&json!("stopped_by_guard"), &json!("guard"))
    );
    let trips: Vec<_> =
        stopped["detail"]["guards"].as_array().unwrap().iter().filter(|guard| guard["trips"] == true).collect();
    assert_eq!(trips.len(), 1, "{stopped}");
    assert_eq!(trips[0]["guard"], "rows-dropped");
    let accepted = daemon.run("accounts", &json!({"accept": ["rows-dropped"]}));
    assert_eq!(accepted["run"]["status"], "succeeded", "{accepted}");
    let again = daemon.run("accounts", &json!({}));
    assert_eq!(again["run"]["status"], "succeeded", "accepted once is enough: {again}");
    daemon.stop().exits(0);
}
