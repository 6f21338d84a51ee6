//! A changed config is reloaded; a bad one is rejected while the last good one stays in use.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;

use super::{place, scheduled};
use crate::support::cli::{Receiver, until};
use crate::support::daemon::Daemon;

#[test]
fn edits_are_reloaded_and_bad_ones_are_not() {
    let receiver = Receiver::start();
    let place = place(&receiver, 3);
    place.mapping("accounts", &scheduled(""));
    let daemon = Daemon::start(&place);
    // a new mapping
    place.mapping("teams", &scheduled("").replace("\"company\"", "\"team\""));
    until("the new sync is there", || (daemon.get("/api/v1/syncs/teams").status == 200).then_some(()));
    assert_eq!(daemon.run("teams", &json!({}))["run"]["status"], "succeeded");
    // a mistake
    let good = place.read("mappings/accounts.toml");
    place.mapping("accounts", &good.replace("source = ", "sorce = "));
    let about = until("the mistake is shown", || {
        let about = daemon.get("/api/v1/about").is(200);
        about["config_problems"].is_string().then_some(about)
    });
    let problems = about["config_problems"].as_str().unwrap();
    assert!(problems.contains("sorce") && problems.contains("mappings/accounts.toml:"), "{problems}");
    assert_eq!(daemon.run("accounts", &json!({}))["run"]["status"], "succeeded", "the last good config is in use");
    // and put right
    place.mapping("accounts", &good);
    until("nothing is wrong any more", || {
        daemon.get("/api/v1/about").is(200)["config_problems"].is_null().then_some(())
    });
    // a sync that leaves
    std::fs::remove_file(place.path("mappings/teams.toml")).unwrap();
    daemon.signal("HUP");
    until("it left", || (daemon.get("/api/v1/syncs/teams").status == 404).then_some(()));
    let output = daemon.stop().exits(0);
    assert!(output.stderr.contains("sorce"), "{}", output.stderr);
}

#[test]
fn files_outside_the_folder_are_followed_and_nothing_is_logged_of_what_did_not_change() {
    let receiver = Receiver::start();
    let place = place(&receiver, 3);
    let elsewhere = tempfile::tempdir().unwrap();
    let (model, secret) = (elsewhere.path().join("model.sql"), elsewhere.path().join("key"));
    std::fs::write(&model, "SELECT * FROM accounts WHERE id <> 'k0'").unwrap();
    let from_file = |text: String| text.replace("table = \"accounts\"", &format!("file = \"{}\"", model.display()));
    place.mapping("accounts", &from_file(scheduled("")));
    let daemon = Daemon::start(&place);
    let rows = |daemon: &Daemon| daemon.run("accounts", &json!({}))["run"]["counts"]["rows"].clone();
    assert_eq!(rows(&daemon), 2);
    // a model elsewhere is edited
    std::fs::write(&model, "SELECT * FROM accounts").unwrap();
    until("the edit is seen", || (rows(&daemon) == 3).then_some(()));
    // a setting needs a secret that is not there yet
    let settings = place.read("groupcast.toml");
    let more =
        format!("{settings}\n[destinations.later]\ntype = \"webhook\"\nurl = \"${{file:{}}}\"\n", secret.display());
    place.write("groupcast.toml", &more);
    until("it is missed", || daemon.get("/api/v1/about").is(200)["config_problems"].is_string().then_some(()));
    std::fs::write(&secret, "http://127.0.0.1:9/hook").unwrap();
    until("it came", || daemon.get("/api/v1/about").is(200)["config_problems"].is_null().then_some(()));
    let output = daemon.stop().exits(0);
    // The command line gives an address, the file does not: that changed nothing.
    assert!(!output.stderr.contains("`daemon.listen` changed"), "{}", output.stderr);
}

#[test]
fn what_cannot_be_served_is_refused_at_the_start() {
    let receiver = Receiver::start();
    let place = place(&receiver, 1);
    place.mapping("accounts", &scheduled(""));
    place.run(&["daemon", "--listen", "0.0.0.0:0"]).exits(2).says(&["token", "GROUPCAST_TOKEN"]);
    place.run(&["daemon", "--listen", "nowhere"]).exits(2).says(&["listen"]);
    let good = place.read("groupcast.toml");
    place.write("groupcast.toml", &good.replace("[sources.", "[sorces."));
    place.run(&["daemon"]).exits(2).says(&["sorces"]);
}

#[test]
fn a_mapping_with_mistakes_affects_no_other_sync() {
    let receiver = Receiver::start();
    let place = place(&receiver, 3);
    let good = scheduled("");
    place.mapping("accounts", &good);
    let broken = good.replace("\"company\"", "\"team\"").replace("source = ", "sorce = ");
    place.mapping("teams", &broken);
    // GIVEN a folder with a good and a broken mapping THEN commands do what they can, and report what they cannot
    place.run(&["check"]).exits(2).says(&["sorce", "mappings/teams.toml:"]);
    place.run(&["run"]).exits(2).says(&["accounts: 3 rows", "3 delivered", "sorce"]);
    place.run(&["run", "accounts"]).exits(0).says(&["3 unchanged", "mappings/teams.toml has mistakes"]);
    let run = place.run(&["run", "--json"]).exits(2).json();
    assert_eq!((&run["runs"][0]["status"], &run["runs"][1]["sync"]), (&json!("succeeded"), &json!("teams")), "{run}");
    assert!(run["runs"][1]["error"]["message"].as_str().unwrap().contains("sorce"), "{run}");
    place.run(&["run", "teams"]).exits(2).says(&["sorce"]);
    place.run(&["plan"]).exits(2).says(&["3 unchanged", "sorce"]);
    place.run(&["plan", "accounts"]).exits(0);
    for command in [
        &["status"][..],
        &["runs"],
        &["runs", "teams"],
        &["rejected"],
        &["rejected", "teams"],
        &["schedule"],
        &["status", "teams"],
    ] {
        place.run(command).exits(0);
    }
    place.run(&["status"]).says(&["accounts", "mappings/teams.toml has mistakes"]);
    place.run(&["group", "accounts", "k1"]).exits(0).says(&["n1"]);
    place.run(&["group", "teams", "k1"]).exits(2).says(&["group `k1` has no sync history"]);
    place.run(&["ledger", "export", "teams"]).exits(0);
    // AND two that send the same traits are one too many, which is the second
    place.mapping("zzz", &good);
    place.run(&["run"]).exits(2).says(&["accounts: 3 rows", "is also written by mappings/accounts.toml"]);
    std::fs::remove_file(place.path("mappings/zzz.toml")).unwrap();
    // AND the daemon starts, shows it, runs the good one, and the other once it is corrected
    let daemon = Daemon::start(&place);
    daemon.get("/readyz").is(200);
    let about = daemon.get("/api/v1/about").is(200);
    assert!(about["config_problems"].as_str().unwrap().contains("sorce"), "{about}");
    let metrics = daemon.get("/metrics").text;
    assert!(metrics.contains("groupcast_config_problems 1"), "{metrics}");
    assert!(metrics.contains("groupcast_mapping_problem{sync=\"teams\"} 1"), "{metrics}");
    assert_eq!(daemon.run("accounts", &json!({}))["run"]["status"], "succeeded");
    place.run(&["run"]).exits(2).says(&["accounts: 3 rows", "sorce"]);
    assert!(daemon.get("/api/v1/syncs/teams").is(409)["error"]["message"].as_str().unwrap().contains("sorce"));
    let error = &about["sync_errors"][0];
    assert_eq!((&error["sync"], &error["runs"]), (&json!("teams"), &json!(false)), "{about}");
    assert!(error["error"].as_str().unwrap().contains("sorce"), "{about}");
    let overview = daemon.get("/").text;
    assert!(overview.contains("The mapping has errors; the sync does not run."), "{overview}");
    for command in [
        &["status"][..],
        &["runs", "teams"],
        &["rejected"],
        &["rejected", "teams"],
        &["schedule"],
        &["ledger", "export", "teams"],
        &["ledger", "export", "accounts"],
    ] {
        place.run(command).exits(0);
    }
    place.run(&["group", "teams", "k1"]).exits(2).says(&["group `k1` has no sync history"]);
    place.mapping("teams", &broken.replace("sorce", "source"));
    until("the other sync is there", || (daemon.get("/api/v1/syncs/teams").status == 200).then_some(()));
    assert_eq!(daemon.run("teams", &json!({}))["run"]["status"], "succeeded");
    // AND while one is broken, edits of others are reloaded
    place.mapping("teams", &broken);
    until("the mistake is shown", || daemon.get("/api/v1/about").is(200)["config_problems"].is_string().then_some(()));
    place.mapping("more", &good.replace("\"company\"", "\"crew\""));
    assert_eq!(daemon.get("/api/v1/about").is(200)["sync_errors"][0]["runs"], true);
    until("the third sync is there", || (daemon.get("/api/v1/syncs/more").status == 200).then_some(()));
    assert_eq!(daemon.run("teams", &json!({}))["run"]["status"], "succeeded", "its last good mapping is in use");
    daemon.stop().exits(0).says(&["sorce", "last good mapping stays in use"]);
}

#[test]
fn a_token_is_needed_over_the_network_and_not_by_commands_beside_the_ledger() {
    let receiver = Receiver::start();
    let mut place = place(&receiver, 1);
    place.mapping("accounts", &scheduled(""));
    let settings = place.read("groupcast.toml");
    place.write("groupcast.toml", &format!("{settings}\n[daemon]\ntoken = \"${{GROUPCAST_TOKEN}}\"\n"));
    place.set("GROUPCAST_TOKEN", "t0ken-of-twenty-chars");
    let daemon = Daemon::start_with(&place, Some("t0ken-of-twenty-chars"));
    daemon.get("/api/v1/syncs").is(200);
    place.run(&["status"]).exits(0).says(&["source: the daemon at"]);
    place.set("GROUPCAST_TOKEN", "another-of-twenty-chars");
    place.run(&["status"]).exits(0).says(&["source: the daemon at"]);
    for shown in ["", "authorization: Bearer another-of-twenty-chars\r\n"] {
        let mut client = TcpStream::connect(daemon.url.trim_start_matches("http://")).unwrap();
        write!(client, "GET /api/v1/syncs HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{shown}\r\n").unwrap();
        let mut response = String::new();
        client.read_to_string(&mut response).unwrap();
        assert!(response.starts_with("HTTP/1.1 401 "), "{response}");
    }
    let output = daemon.stop().exits(0);
    assert!(!output.all().contains("t0ken"), "{}", output.all());
}
