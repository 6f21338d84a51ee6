//! The console of a real daemon in a real browser. `make test-browser` runs this: it needs Chromium, Node and the npm
//! registry. What the browser does is in `tests/browser/console.mjs`; here is the daemon it visits.

mod night;

use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use crate::support::daemon::Daemon;
use night::Night;

const TOKEN: &str = "a-token-for-browsers-5d1c";

/// One visit of the browser.
#[derive(Default)]
struct Visit<'a> {
    /// Names the folder of its screenshots.
    name: &'a str,
    /// What it does, of `policy`, `look`, `use`, `login`; empty for all.
    does: &'a str,
    /// `NAME=PATH`, separated by spaces: these pages instead of all.
    pages: &'a str,
    /// The token it logs in with.
    token: &'a str,
}

/// Lets the browser visit a daemon; its findings are printed.
#[track_caller]
fn visit(daemon: &Daemon, visit: &Visit<'_>) {
    let cache = || {
        let home = PathBuf::from(std::env::var_os("HOME").expect("a home folder"));
        std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from)
    };
    let shots = std::env::var_os("SCREENSHOTS").map(PathBuf::from);
    let shots = shots.unwrap_or_else(|| cache().join("groupcast/browser/screenshots"));
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser/run.sh"));
    command.arg(&daemon.url).arg(shots.join(visit.name));
    for (name, value) in [("GROUPCAST_DOES", visit.does), ("GROUPCAST_PAGES", visit.pages)] {
        command.env(name, value);
    }
    // This daemon has an occasion for every step: a skipped one is a mistake of this test.
    command.env("GROUPCAST_TOKEN", visit.token).env("GROUPCAST_STRICT", "1");
    let status = command.status().unwrap();
    assert!(status.success(), "{}: the browser's findings are above", visit.name);
}

#[test]
#[ignore = "needs Chromium, Node and the npm registry: `make test-browser`"]
fn a_browser_finds_nothing_wrong_with_a_daemon_after_a_bad_night() {
    let night = Night::with_runs(night::LONG_HISTORY);
    let daemon = night.daemon(None);
    night.start_runs(&daemon);
    visit(&daemon, &Visit { name: "night", ..Visit::default() });
    daemon.kill();
}

#[test]
#[ignore = "needs Chromium, Node and the npm registry: `make test-browser`"]
fn a_browser_finds_nothing_wrong_with_a_daemon_behind_a_token() {
    let night = Night::with_runs(3);
    let daemon = night.daemon(Some(TOKEN));
    night.start_runs(&daemon);
    visit(&daemon, &Visit { name: "token", does: "look", pages: "first=/ logged-in=/runs", token: TOKEN });
    // Last, because it counts as failed logins of this address.
    visit(&daemon, &Visit { name: "token", does: "policy use login", token: TOKEN, ..Visit::default() });
    daemon.kill();
}

#[test]
#[ignore = "needs Chromium, Node and the npm registry: `make test-browser`"]
fn a_browser_finds_nothing_wrong_with_the_notices_of_a_daemon() {
    let night = Night::empty();
    let daemon = night.daemon(None);
    visit(
        &daemon,
        &Visit {
            name: "nothing-yet",
            does: "look",
            pages: "overview=/ runs=/runs rejected=/rejected",
            ..Visit::default()
        },
    );
    daemon.stop().exits(0);
    let night = Night::with_runs(3);
    let daemon = night.daemon(None);
    night.start_runs(&daemon);
    // GIVEN files with errors
    night.break_config();
    crate::support::cli::until("the daemon notices", || {
        daemon.get("/api/v1/about").is(200)["config_problems"].is_string().then_some(())
    });
    visit(
        &daemon,
        &Visit { name: "config", does: "look", pages: "overview=/ sync=/syncs/accounts", ..Visit::default() },
    );
    // AND a daemon that shuts down while a request has no response
    night.hold_responses();
    daemon.signal("TERM");
    crate::support::cli::until("it stops", || {
        (daemon.get("/api/v1/about").is(200)["stopping"] == json!(true)).then_some(())
    });
    visit(
        &daemon,
        &Visit { name: "stopping", does: "look", pages: "overview=/ sync=/syncs/slowly", ..Visit::default() },
    );
    daemon.kill();
}
