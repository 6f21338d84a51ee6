//! Does the daemon do what `groupcast run` does, by itself, for months? The real program, real sockets, real files.

mod alike;
mod answers;
mod beside;
mod browser;
mod commands;
mod config;
mod ends;
mod events;
mod many;
mod moved;
mod orders;
mod retry;
mod schedules;
mod several;
mod soak;
mod table;
mod telling;
mod trouble;
mod url;

use std::fmt::Write;
use std::time::Duration;

use serde_json::Value;

use crate::support::cli::{KEY, Place, Receiver, mapping, settings, until};

/// A warehouse table `accounts` of so many groups, fed to the receiver.
fn place(receiver: &Receiver, groups: usize) -> Place {
    let place = Place::with(receiver);
    place.write("groupcast.toml", &settings(&receiver.url, "retry_for = \"5s\"\n"));
    place.warehouse(&format!(
        "CREATE TABLE accounts AS SELECT 'k' || i AS id, 'n' || i AS name, 0 AS rev FROM range({groups}) r(i)"
    ));
    place
}

/// A mapping of the traits `name` and `rev`, with this line above it.
fn scheduled(schedule: &str) -> String {
    format!("{schedule}\n{}", mapping("name = \"name\"\nrev = \"rev\"", "[guards]\nchanged_max = 1"))
}

/// Runs SQL on the warehouse as its owner would who waits for the file.
#[track_caller]
fn edit(place: &Place, sql: &str) {
    until("the warehouse can be written", || {
        let connection = duckdb::Connection::open(place.path("warehouse.duckdb")).ok()?;
        connection.execute_batch(sql).unwrap_or_else(|error| panic!("{error}\n{sql}"));
        connection.close().map_err(|(_, error)| error).unwrap();
        Some(())
    });
}

/// The counts of a run must add up, and nothing be left open.
#[track_caller]
fn adds_up(run: &Value) {
    let counts = &run["counts"];
    let count = |name: &str| counts[name].as_u64().unwrap_or_else(|| panic!("no {name}: {run}"));
    assert_eq!(
        count("rows"),
        count("unchanged") + count("delivered") + count("rejected") + count("pending") + count("unconfirmed"),
        "{run}"
    );
}

/// Makes every answer of the receiver take so long.
fn slow(receiver: &Receiver, ms: u64) {
    receiver.vendor.change(|rules| rules.answer_after = Duration::from_millis(ms));
}

/// Wide rows, so that a run needs many requests: a request carries 1,024 traits.
fn wide(receiver: &Receiver, groups: usize) -> Place {
    let place = Place::with(receiver);
    place.write("groupcast.toml", &settings(&receiver.url, "concurrency = 2\n"));
    place.warehouse(&format!("CREATE TABLE accounts AS SELECT 'k' || i AS id, 0 AS rev FROM range({groups}) r(i)"));
    place
}

/// A mapping of a hundred traits that all hold `rev`.
fn wide_mapping(schedule: &str) -> String {
    let traits = (0..100).fold(String::new(), |mut lines, n| {
        writeln!(lines, "t{n} = \"rev\"").unwrap();
        lines
    });
    format!("{schedule}\n{}", mapping(&traits, "[guards]\nchanged_max = 1\nnulled_max = 1"))
}

/// How many of the groups hold this `rev`.
fn holding(receiver: &Receiver, name: &str, rev: u64) -> usize {
    receiver.vendor.groups().values().filter(|traits| traits.get(name) == Some(&Value::from(rev))).count()
}

#[test]
fn nothing_of_the_daemon_shows_a_secret() {
    let receiver = Receiver::start();
    let place = place(&receiver, 3);
    place.mapping("accounts", &scheduled(""));
    let daemon = crate::support::daemon::Daemon::start(&place);
    daemon.run("accounts", &serde_json::json!({}));
    let pages =
        ["/", "/syncs/accounts", "/runs", "/metrics", "/api/v1/about", "/api/v1/syncs", "/api/v1/syncs/accounts"];
    for page in pages {
        let response = daemon.get(page);
        assert_eq!(response.status, 200, "{page}: {}", response.text);
        assert!(!response.text.contains(KEY), "{page}");
    }
    let output = daemon.stop();
    assert!(!output.all().contains(KEY), "{}", output.all());
}
