//! A daemon with many syncs and a long history responds fast.

use std::time::Duration;

use groupcast::io::{Clock, SystemClock};

use super::{place, scheduled};
use crate::support::cli::Receiver;
use crate::support::daemon::Daemon;

const SYNCS: usize = 200;
/// Records of each: half a year of runs every other day.
const RUNS: usize = 100;
const KNOWN: usize = 1_000;
/// A debug build on a busy machine; the figures of a quiet one are printed.
const ANSWER_MAX: Duration = Duration::from_secs(2);

#[test]
fn two_hundred_syncs_with_twenty_thousand_runs_are_shown_fast() {
    let receiver = Receiver::start();
    let place = place(&receiver, 1);
    // One real run shows what a record looks like.
    place.mapping("sync-000", &scheduled(""));
    place.run(&["run"]).exits(0);
    let ledger = duckdb::Connection::open(place.path("state/ledger.duckdb")).unwrap();
    let mut sql = format!(
        "UPDATE runs SET run = '20260101T000000.000Z-0000', started_at = TIMESTAMP '2026-01-01'; \
         CREATE TEMP TABLE syncs AS SELECT printf('sync-%03d', i) AS sync FROM range({SYNCS}) r(i); \
         INSERT INTO runs SELECT runs.* REPLACE (s.sync AS sync, \
             strftime(TIMESTAMP '2026-02-01' + to_hours(i::INTEGER), '%Y%m%dT%H%M%S.000Z-') || printf('%04x', i) AS run, \
             TIMESTAMP '2026-02-01' + to_hours(i::INTEGER) AS started_at, \
             TIMESTAMP '2026-02-01 00:00:09' + to_hours(i::INTEGER) AS ended_at) \
         FROM runs, syncs s, range({RUNS}) t(i); \
         INSERT INTO synced SELECT synced.* REPLACE (s.sync AS sync, 'k' || i AS key) FROM synced, syncs s, range(1, {KNOWN}) t(i);"
    );
    // No two alike where it matters: one never ran, one fails lately, some groups are unconfirmed or rejected.
    sql.push_str(
        "DELETE FROM runs WHERE sync = 'sync-005'; DELETE FROM synced WHERE sync = 'sync-005'; \
         UPDATE runs SET status = 'failed', counts = NULL WHERE sync = 'sync-006' AND started_at > '2026-02-03'; \
         UPDATE runs SET partial = true WHERE sync = 'sync-007' AND started_at > '2026-02-04'; \
         UPDATE synced SET unconfirmed_in = 'r' WHERE sync = 'sync-008' AND key < 'k3'; \
         UPDATE synced SET rejected_document = '{}', rejected_reason = 'no' WHERE sync = 'sync-009' AND key < 'k2';",
    );
    ledger.execute_batch(&sql).unwrap();
    ledger.close().map_err(|(_, error)| error).unwrap();
    for number in 0..SYNCS {
        let schedule = format!(
            "schedule = {{ cron = \"{} 3 * * *\", timezone = \"Europe/Berlin\", catch_up = \"skip\" }}",
            number % 60
        );
        let text = scheduled(&schedule).replace("\"company\"", &format!("\"company-{number}\""));
        place.mapping(&format!("sync-{number:03}"), &text);
    }
    let daemon = Daemon::start(&place);
    let clock = SystemClock::start();
    for path in ["/", "/runs", "/rejected", "/syncs/sync-117", "/api/v1/syncs", "/metrics"] {
        let quickest = (0..5).map(|_| {
            let began = clock.elapsed();
            let response = daemon.get(path);
            assert_eq!(response.status, 200, "{path}: {}", response.text);
            clock.elapsed() - began
        });
        let quickest = quickest.min().unwrap();
        println!("{path}: {quickest:?}");
        assert!(quickest < ANSWER_MAX, "{path} took {quickest:?}");
    }
    let overview = daemon.get("/").text;
    assert_eq!(overview.matches("id=\"spark-").count(), SYNCS - 1, "all but the one that never ran have figures");
    // What is read of all at once is what is read of one.
    let all = daemon.get("/api/v1/syncs").is(200);
    for number in [0, 5, 6, 7, 8, 9, 117] {
        let of_one = daemon.get(&format!("/api/v1/syncs/sync-{number:03}")).is(200);
        assert_eq!(all[number], of_one["sync"]);
    }
    let rejected = daemon.get("/api/v1/rejected?count=1000").is(200);
    assert_eq!(rejected, daemon.get("/api/v1/syncs/sync-009/rejected?count=1000").is(200));
    assert!(rejected.as_array().is_some_and(|groups| groups.len() > 100), "{rejected}");
    daemon.stop().exits(0);
}
