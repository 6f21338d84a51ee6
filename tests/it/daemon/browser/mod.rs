//! Does a real browser find anything wrong with the real daemon? `make test-browser` runs this: it needs Chromium, Node and
//! the npm registry. What the browser does is in `tests/browser/console.mjs`; here is the daemon it does it to.

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
    /// What it does, of `policy`, `look`, `use`, `login`; empty for all that there is.
    does: &'a str,
    /// `NAME=PATH`, separated by spaces: what it looks at instead of all pages.
    pages: &'a str,
    /// What it shows to be let in.
    token: &'a str,
}

/// Has the browser visit a daemon; what it complains of is printed as it is found.
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
    // Here every step has its occasion: one that is left out is a mistake of this test.
    command.env("GROUPCAST_TOKEN", visit.token).env("GROUPCAST_LEAVE_OUT", "nothing");
    let status = command.status().unwrap();
    assert!(status.success(), "{}: the browser's complaints are above", visit.name);
}

#[test]
#[ignore = "needs Chromium, Node and the npm registry: `make test-browser`"]
fn a_browser_finds_nothing_wrong_with_a_daemon_after_a_bad_night() {
    let night = Night::fall(night::LONG_HISTORY);
    let daemon = night.daemon(None);
    night.stir(&daemon);
    visit(&daemon, &Visit { name: "night", ..Visit::default() });
    daemon.kill();
}

#[test]
#[ignore = "needs Chromium, Node and the npm registry: `make test-browser`"]
fn a_browser_finds_nothing_wrong_with_a_daemon_behind_a_token() {
    let night = Night::fall(3);
    let daemon = night.daemon(Some(TOKEN));
    night.stir(&daemon);
    visit(&daemon, &Visit { name: "token", does: "look", pages: "first=/ logged-in=/runs", token: TOKEN });
    // Last, because afterwards nobody here is listened to for a minute.
    visit(&daemon, &Visit { name: "token", does: "policy use login", token: TOKEN, ..Visit::default() });
    daemon.kill();
}

#[test]
#[ignore = "needs Chromium, Node and the npm registry: `make test-browser`"]
fn a_browser_finds_nothing_wrong_with_a_daemon_that_has_something_to_say_about_itself() {
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
    let night = Night::fall(3);
    let daemon = night.daemon(None);
    night.stir(&daemon);
    // GIVEN files that cannot be used any more
    night.break_config();
    crate::support::cli::until("the daemon notices", || {
        daemon.get("/api/v1/about").is(200)["config_problems"].is_string().then_some(())
    });
    visit(
        &daemon,
        &Visit { name: "config", does: "look", pages: "overview=/ sync=/syncs/accounts", ..Visit::default() },
    );
    // AND a daemon that is told to stop, and waits for an answer that does not come
    night.hold_answers();
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
