//! Can a scheduler on another machine start a run, wait for it, and fail with it: `run --url`?

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{place, scheduled, slow};
use crate::support::cli::{Output, Place, Receiver, changes_sent, until};
use crate::support::daemon::Daemon;

const TOKEN: &str = "a-token-of-the-daemon-0123456789";

/// A daemon with a token and the sync `accounts`, and a place elsewhere: an empty folder with that token.
fn two_places(receiver: &Receiver, mapping: &str) -> (Place, Daemon, Place) {
    let mut home = place(receiver, 3);
    home.set("GROUPCAST__DAEMON__TOKEN", TOKEN);
    home.mapping("accounts", mapping);
    let daemon = Daemon::start_with(&home, Some(TOKEN));
    let mut elsewhere = Place::new();
    elsewhere.set("GROUPCAST_TOKEN", TOKEN);
    (home, daemon, elsewhere)
}

fn run(elsewhere: &Place, url: &str, arguments: &[&str]) -> Output {
    elsewhere.run(&[&["run", "--url", url], arguments].concat())
}

/// A proxy before the daemon: the first so many connections get an HTML page, the next ones reach the daemon.
fn proxy(daemon: &str, pages: usize) -> (String, Arc<AtomicUsize>) {
    let target = daemon.trim_start_matches("http://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if counter.fetch_add(1, Ordering::SeqCst) < pages {
                let _ = stream.read(&mut [0; 4096]);
                let page = "<html><body>Bad Gateway</body></html>";
                let head = format!(
                    "HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    page.len()
                );
                let _ = stream.write_all(format!("{head}{page}").as_bytes());
                continue;
            }
            let Ok(upstream) = TcpStream::connect(&target) else { continue };
            let pairs = [(stream.try_clone().unwrap(), upstream.try_clone().unwrap()), (upstream, stream)];
            for (mut from, mut to) in pairs {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    (url, connections)
}

#[test]
fn a_run_elsewhere_is_waited_for() {
    let receiver = Receiver::start();
    let (_home, daemon, elsewhere) = two_places(&receiver, &scheduled("tags = [\"nightly\"]"));
    let done = run(&elsewhere, &daemon.url, &["accounts"]).exits(0);
    let id =
        done.stdout.split_whitespace().find(|word| word.starts_with("20")).unwrap().trim_end_matches(')').to_owned();
    assert!(done.stdout.contains("3 delivered"), "{}", done.all());
    let page = format!("{}/runs/{id}", daemon.url);
    assert_eq!(done.stdout.lines().last(), Some(page.as_str()), "an orchestrator takes the last line for the result");
    assert!(!done.all().contains(TOKEN));
    // By tag, through a proxy that answers with pages of its own at first.
    let (proxied, connections) = proxy(&daemon.url, 2);
    let json = run(&elsewhere, &proxied, &["--select", "tag:nightly", "--json"]).exits(0).json();
    assert_eq!((&json["runs"][0]["sync"], &json["exit_code"]), (&"accounts".into(), &0.into()), "{json}");
    assert!(connections.load(Ordering::SeqCst) > 2);
    run(&elsewhere, &daemon.url, &["--select", "tag:weekly"])
        .exits(2)
        .says(&["no sync for `tag:weekly`", "`accounts`"]);
    run(&elsewhere, &daemon.url, &["acounts"]).exits(2).says(&["no sync for `acounts`"]);
    daemon.stop().exits(0);
}

#[test]
fn a_detached_run_is_submitted_only() {
    let receiver = Receiver::start();
    let (home, daemon, elsewhere) = two_places(&receiver, &scheduled(""));
    let submitted = run(&elsewhere, &daemon.url, &["accounts", "--detach", "--json"]).exits(0).json();
    let id = submitted["runs"][0]["run"].as_str().unwrap().to_owned();
    assert_eq!(submitted["runs"][0]["url"], format!("{}/runs/{id}", daemon.url));
    until("the run ends", || {
        let run = daemon.get(&format!("/api/v1/runs/{id}")).is(200);
        (run["run"]["status"] == "succeeded").then_some(())
    });
    // The same beside the daemon, whose page is not needed there.
    home.run(&["run", "accounts", "--detach"]).exits(0).says(&["accounts: submitted (run 20"]);
    daemon.stop().exits(0);
    home.run(&["run", "accounts", "--detach"]).exits(2).says(&["no daemon is running with this ledger"]);
}

#[test]
fn a_plan_is_followed_by_a_daemon_elsewhere() {
    let receiver = Receiver::start();
    let (home, daemon, elsewhere) = two_places(&receiver, &scheduled(""));
    home.run(&["plan", "--out", "p.plan"]).exits(0);
    std::fs::copy(home.path("p.plan"), elsewhere.path("p.plan")).unwrap();
    // What changed since is left out, as here.
    super::edit(&home, "UPDATE accounts SET rev = rev + 1 WHERE id = 'k1'");
    let seen = receiver.requests();
    let limited = run(&elsewhere, &daemon.url, &["--plan", "p.plan", "--limit", "1", "--json"]).json();
    assert_eq!(limited["runs"][0]["counts"]["delivered"], 1, "{limited}");
    let done = run(&elsewhere, &daemon.url, &["accounts", "--plan", "p.plan"]).exits(1);
    done.says(&["1 group differs from the plan and was not sent", "1 pending", "/runs/20"]);
    let mut sent: Vec<String> = changes_sent(&receiver.since(seen)).into_iter().map(|(key, _)| key).collect();
    sent.sort();
    assert_eq!(sent, ["k0", "k2"]);
    // It has no key and no value of a group.
    let kept: Vec<_> = std::fs::read_dir(home.path("state/ledger.duckdb.plans")).unwrap().collect();
    assert_eq!(kept.len(), 1, "the same plan is kept once");
    let kept = kept[0].as_ref().unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&kept.metadata().unwrap().permissions()) & 0o777, 0o600);
    let text = std::fs::read_to_string(kept.path()).unwrap();
    assert!(text.contains("{\"hash\":\"") && !text.contains("k2"), "{text}");
    // Submitted, and not waited for.
    home.run(&["plan", "--out", "q.plan"]).exits(0);
    std::fs::copy(home.path("q.plan"), elsewhere.path("q.plan")).unwrap();
    let submitted = run(&elsewhere, &daemon.url, &["--plan", "q.plan", "--detach", "--json"]).exits(0).json();
    let id = submitted["runs"][0]["run"].as_str().unwrap().to_owned();
    until("the run ends", || {
        let run = daemon.get(&format!("/api/v1/runs/{id}")).is(200);
        (run["run"]["status"] == "succeeded").then_some(())
    });
    assert_eq!(changes_sent(&receiver.since(seen)).len(), 3);
    daemon.stop().exits(0);
}

#[test]
fn a_plan_that_does_not_fit_a_daemon_elsewhere_is_refused() {
    let receiver = Receiver::start();
    let (home, daemon, elsewhere) = two_places(&receiver, &scheduled(""));
    home.run(&["plan", "--out", "p.plan"]).exits(0);
    let whole = home.read("p.plan");
    let seen = receiver.requests();
    let refused = |text: &str, code: i32, texts: &[&str]| {
        elsewhere.write("p.plan", text);
        run(&elsewhere, &daemon.url, &["--plan", "p.plan"]).exits(code).says(texts);
        assert_eq!(receiver.requests(), seen);
    };
    refused(&whole.replacen("\"target\":null", "\"target\":\"prod\"", 1), 2, &["made with the target `prod`"]);
    refused(&whole.replacen("\"version\":\"", "\"version\":\"9", 1), 1, &["the plan was made by version 9"]);
    refused(&whole[..whole.len() / 2], 1, &["is damaged"]);
    refused(&whole.replacen("\"destination\":\"amplitude\"", "\"destination\":\"other\"", 1), 1, &["the plan is for"]);
    elsewhere.write("p.plan", &whole);
    run(&elsewhere, &daemon.url, &["others", "--plan", "p.plan"]).exits(2).says(&["no sync for `others`"]);
    run(&elsewhere, &daemon.url, &["--exclude", "accounts", "--plan", "p.plan"])
        .exits(2)
        .says(&["are not in the plan"]);
    // The daemon's own settings count, not those of the machine where the command is typed.
    daemon.stop().exits(0);
    let mut home = home;
    home.set("GROUPCAST__DESTINATIONS__AMPLITUDE__LONG_STRINGS", "truncate");
    let daemon = Daemon::start_with(&home, Some(TOKEN));
    run(&elsewhere, &daemon.url, &["--plan", "p.plan"]).exits(1).says(&["`long_strings` of destination `amplitude`"]);
    assert_eq!(receiver.requests(), seen);
    // Of what is no plan of ours the API says what it is.
    let body = serde_json::json!({"version": "0.1.0", "target": null, "syncs": [{"planned": 1}]});
    daemon.post("/api/v1/plans", &body).is(400);
    daemon.stop().exits(0);
}

#[test]
fn a_run_that_fails_elsewhere_fails_here() {
    let receiver = Receiver::start();
    let (home, daemon, elsewhere) = two_places(&receiver, &scheduled(""));
    run(&elsewhere, &daemon.url, &["accounts"]).exits(0);
    super::edit(&home, "DELETE FROM accounts");
    run(&elsewhere, &daemon.url, &["accounts"]).exits(4).says(&[
        "stopped by the guard `empty`",
        "--accept empty",
        "/runs/20",
    ]);
    super::edit(&home, "DROP TABLE accounts");
    let failed = run(&elsewhere, &daemon.url, &["accounts", "--json"]).exits(1).json();
    assert_eq!(failed["exit_code"], 1, "{failed}");
    // What links to the run finds it under its id.
    let id = failed["runs"][0]["run"].as_str().unwrap_or_else(|| panic!("{failed}"));
    let shown = home.run(&["runs", "show", id, "--json"]).exits(0).json();
    assert_eq!(shown["run"]["status"], "failed", "{shown}");
    daemon.stop().exits(0);
}

#[test]
fn what_is_not_a_daemon_is_named() {
    let receiver = Receiver::start();
    let (_home, daemon, mut elsewhere) = two_places(&receiver, &scheduled(""));
    elsewhere.set("GROUPCAST_TOKEN", "another-token-0123456789abcdef");
    run(&elsewhere, &daemon.url, &["accounts"]).exits(2).says(&["authentication failed at http://", "GROUPCAST_TOKEN"]);
    elsewhere.write("token", &format!("{TOKEN}\n"));
    run(&elsewhere, &daemon.url, &["accounts", "--token-file", "token"]).exits(0);
    run(&elsewhere, &daemon.url, &["accounts", "--token-file", "nosuch"]).exits(2).says(&["failed to read the token"]);
    for (url, text) in [
        ("ftp://example.com", "must begin with `https://`"),
        ("groupcast.example.com", "is not a valid URL"),
        ("https://user:secret-pass@example.com", "contains credentials"),
    ] {
        let refused = run(&elsewhere, url, &["accounts"]).exits(2).says(&[text]);
        assert!(!refused.all().contains("secret-pass"), "{}", refused.all());
    }
    daemon.stop().exits(0);
}

#[test]
fn another_command_that_uses_the_ledger_is_waited_for() {
    let receiver = Receiver::start();
    let place = place(&receiver, 3);
    place.mapping("accounts", &scheduled(""));
    slow(&receiver, 10_000);
    let first = place.start(&["run"]);
    until("the first run has the ledger", || place.path("state/ledger.duckdb.sock").exists().then_some(()));
    for command in ["run", "daemon"] {
        let refused = place.run(&[command]).exits(1).says(&["is using the ledger", "`--lock-timeout 10m` does"]);
        assert!(!refused.all().contains("lock on file"), "nothing of the engine's own words: {}", refused.all());
    }
    let second = place.start(&["run", "--lock-timeout", "10m"]);
    until("the second one waits", || second.stderr().contains("waiting for `groupcast run`").then_some(()));
    slow(&receiver, 0);
    first.wait().exits(0).says(&["3 delivered"]);
    second.wait().exits(0).says(&["3 unchanged"]);
    place.run(&["run", "--lock-timeout", "soon"]).exits(2).says(&["is not a duration"]);
}

#[test]
fn a_daemon_waits_for_a_command_that_uses_the_ledger() {
    let receiver = Receiver::start();
    let place = place(&receiver, 3);
    place.mapping("accounts", &scheduled(""));
    slow(&receiver, 4_000);
    let first = place.start(&["run"]);
    until("the first run has the ledger", || place.path("state/ledger.duckdb.sock").exists().then_some(()));
    let start = || place.start(&["daemon", "--listen", "127.0.0.1:0", "--lock-timeout", "10m"]);
    let daemon = Daemon::begin(&place, None, start);
    first.wait().exits(0).says(&["3 delivered"]);
    assert!(daemon.log().contains("waiting for the end of `groupcast run`"), "{}", daemon.log());
    place.run(&["run"]).exits(0).says(&["submitted to the daemon", "3 unchanged"]);
    daemon.stop().exits(0);
}
