//! A soak of several daemons: faults at random, and at the end every run is accounted for, destinations equal sources, no
//! group was in flight twice at a time, and no lease had two holders. `make soak-daemons`, with MINUTES, DAEMONS and SYNCS.
//!
//! In the long one each daemon is on a machine of its own, a network namespace, whose cable is pulled for longer than its
//! lease, and the server is restarted and crashes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use groupcast::io::{Clock, Random, SystemClock};
use serde_json::json;

use super::{LEASE, World, daemon, never_overlap, sql};
use crate::support::cli::{Place, start, until, within};
use crate::support::daemon::Daemon;
use crate::support::flights::Flights;
use crate::support::namespace::Namespace;
use crate::support::postgres::shared;
use crate::support::proxy::Proxy;

/// Groups of each sync.
const GROUPS: usize = 60;

/// Keeps every change of holders, and what was left of the lease of the one before.
const HISTORY: &str = "CREATE TABLE groupcast_history (name text, holder text, fence bigint, left_over interval);
CREATE FUNCTION keep_history() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    IF NEW.fence <> OLD.fence AND OLD.until > '-infinity' THEN
        INSERT INTO public.groupcast_history
        VALUES (OLD.name, OLD.holder, OLD.fence, OLD.until + OLD.attempt * interval '1 second' - clock_timestamp());
    END IF;
    RETURN NULL;
END
$body$;
CREATE TRIGGER keep_history AFTER UPDATE ON groupcast.leases FOR EACH ROW EXECUTE FUNCTION keep_history()";

/// Leases that were taken from a holder before their time, and before its requests had ended.
const HELD_BY_TWO: &str =
    "SELECT name, holder::json ->> 'pid', left_over::text FROM groupcast_history WHERE left_over > interval '0'";

/// The token of daemons that others reach.
const TOKEN: &str = "a-token-of-the-soak-0123456789";

/// Where a daemon runs.
struct Machine {
    place: Place,
    name: String,
    /// A machine of its own.
    own: Option<Namespace>,
}

impl Machine {
    /// This machine.
    fn here(world: &World, name: String, schedule: &str, daemon: &str) -> Machine {
        Machine { place: world.place(schedule, daemon), name, own: None }
    }

    /// A machine of its own.
    fn own(world: &World, number: u8, name: String, schedule: &str, daemon: &str) -> Machine {
        let namespace = Namespace::new(number);
        let lead = |port: u16| {
            let proxy = Proxy::start_at(namespace.near());
            proxy.lead_to(port);
            proxy
        };
        let (_, receiver_port) = world.receiver.url.trim_end_matches("/hook").rsplit_once(':').unwrap();
        let (server, receiver) = (lead(shared().port()), lead(receiver_port.parse().unwrap()));
        let at = |proxy: &Proxy| format!("{}:{}", namespace.near(), proxy.port());
        let hook = format!("http://{}/hook", at(&receiver));
        let mut place = world.place_that_reaches(&at(&server), &hook, schedule, daemon);
        place.set("GROUPCAST__DAEMON__TOKEN", TOKEN);
        Machine { place, name, own: Some(namespace) }
    }

    fn daemon(&self) -> Daemon {
        let Some(own) = &self.own else { return daemon(&self.place, &self.name) };
        let address = format!("{}:0", own.far());
        Daemon::begin(&self.place, Some(TOKEN), || {
            let command = self.place.command(&["daemon", "--listen", &address, "--name", &self.name]);
            start(own.inside(&command))
        })
    }

    /// Cuts it off from everything else for so long.
    fn cut_off(&self, lasts: Duration) {
        let own = self.own.as_ref().expect("a machine of its own");
        own.unplug();
        std::thread::sleep(lasts);
        own.plug();
    }
}

/// Longer than a lease: when there is time, half of the times also longer than others wait before they take it.
fn longer_than_the_lease(random: &Random, harsh: bool) -> Duration {
    LEASE + Duration::from_millis(2_000 + random.up_to(if harsh { 70_000 } else { 6_000 }))
}

fn number(name: &str, standard: u64) -> u64 {
    std::env::var(name).map_or(standard, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

#[test]
fn a_short_soak_of_two_daemons_leaves_no_group_wrong() {
    soak(Duration::from_secs(25), 2, 6, false);
}

#[test]
#[ignore = "takes many minutes: `make soak-daemons`"]
fn a_long_soak_of_several_daemons_leaves_no_group_wrong() {
    let minutes = number("MINUTES", 10);
    soak(Duration::from_secs(minutes * 60), number("DAEMONS", 2) as usize, number("SYNCS", 200) as usize, true);
}

/// `harsh`: with faults that reach beyond this test, of the server that others share and of the network, which needs root.
fn soak(lasts: Duration, daemons: usize, syncs: usize, harsh: bool) {
    let seed = number("SEED", 1);
    let random = Random::seeded(seed);
    // Runs of a second or so, which faults may meet.
    let world = World::new(syncs, GROUPS, Duration::from_millis(150));
    let every = if syncs > 30 { 60 } else { 6 };
    let schedule = if every == 60 { "schedule = '0 * * * * *'" } else { "schedule = '*/6 * * * * *'" };
    let machine = |at: usize| {
        let (name, settings) = (format!("daemon-{at}"), "parallel_runs = 4");
        match harsh {
            true => Machine::own(&world, at as u8, name, schedule, settings),
            false => Machine::here(&world, name, schedule, settings),
        }
    };
    let machines: Vec<Machine> = (0..daemons).map(machine).collect();
    let mut running: Vec<Option<Daemon>> = machines.iter().map(|machine| Some(machine.daemon())).collect();
    sql(&world.ledger, HISTORY);
    let clock = SystemClock::start();
    let (mut rev, mut faults, mut killed) = (0, BTreeMap::<&str, u32>::new(), BTreeSet::<String>::new());
    while clock.elapsed() < lasts {
        rev += 1;
        world.update(rev);
        std::thread::sleep(Duration::from_millis(500 + random.up_to(2_000)));
        let at = random.up_to(daemons as u64 - 1) as usize;
        match random.up_to(if harsh { 5 } else { 2 }) {
            0 => {
                *faults.entry("killed").or_default() += 1;
                killed.extend(running[at].as_ref().map(|daemon| daemon.pid().to_string()));
                drop(running[at].take().map(Daemon::kill));
                running[at] = Some(machines[at].daemon());
            }
            1 => {
                *faults.entry("frozen for longer than its lease").or_default() += 1;
                let frozen = running[at].as_ref().unwrap();
                frozen.signal("STOP");
                std::thread::sleep(longer_than_the_lease(&random, harsh));
                frozen.signal("CONT");
            }
            2 => {
                *faults.entry("connections to the ledger cut").or_default() += 1;
                sql(
                    &world.ledger,
                    "DO $$ BEGIN PERFORM pg_terminate_backend(pid) FROM pg_stat_activity \
                     WHERE datname = current_database() AND pid <> pg_backend_pid(); END $$",
                );
            }
            3 => {
                *faults.entry("cable pulled for longer than the lease").or_default() += 1;
                machines[at].cut_off(longer_than_the_lease(&random, harsh));
            }
            4 => {
                *faults.entry("PostgreSQL crashed").or_default() += 1;
                shared().restart();
            }
            _ => {
                *faults.entry("PostgreSQL restarted").or_default() += 1;
                shared().restart_in_order();
            }
        }
        for (at, slot) in running.iter_mut().enumerate() {
            // One whose name was taken while it was frozen, or that lost its ledger, is started again by its service manager.
            if slot.as_mut().is_some_and(|daemon| daemon.has_ended()) {
                *faults.entry("ended by itself").or_default() += 1;
                drop(slot.take());
                *slot = Some(machines[at].daemon());
            }
        }
    }
    let started = clock.elapsed();
    // With a schedule of each minute, two of them and what has piled up.
    let longest = Duration::from_secs(if every == 60 { 300 } else { 60 });
    within(longest, "every group holds the last value", || {
        (world.receiver.holding("rev", &json!(rev)) == syncs * GROUPS).then_some(())
    });
    println!("every group was right {:.1} s after the last fault", (clock.elapsed() - started).as_secs_f64());
    for daemon in running.into_iter().flatten() {
        drop(daemon.stop());
    }
    let runs = world.runs();
    let mut by_status: BTreeMap<&str, u32> = BTreeMap::new();
    runs.iter().for_each(|run| *by_status.entry(&run.status).or_default() += 1);
    println!("seed {seed}, {daemons} daemons, {syncs} syncs, {} runs: {by_status:?}; faults: {faults:?}", runs.len());
    assert!(!by_status.contains_key("running"), "{by_status:?}");
    never_overlap(&runs);
    assert_eq!(world.receiver.faults(), Vec::<String>::new(), "groups in flight twice at a time");
    let taken: Vec<(String, String, String)> =
        sql(&world.ledger, HELD_BY_TWO).iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let from_living: Vec<_> = taken.iter().filter(|(_, pid, _)| !killed.contains(pid)).collect();
    assert!(from_living.is_empty(), "leases were taken from processes that had them: {from_living:?}");
    let times = scheduled_twice(&runs, every);
    assert_eq!(times, Vec::<String>::new(), "scheduled times that were run twice");
}

/// Scheduled times of a sync that two runs began for.
fn scheduled_twice(runs: &[super::RunRow], every: i64) -> Vec<String> {
    let mut seen: BTreeMap<(&str, i64), DateTime<Utc>> = BTreeMap::new();
    let scheduled = runs.iter().filter(|run| run.started_by == "schedule");
    scheduled
        .filter_map(|run| {
            let time = (run.sync.as_str(), run.started_at.timestamp() / every);
            let before = seen.insert(time, run.started_at)?;
            Some(format!("{time:?}: {before} and {}", run.started_at))
        })
        .collect()
}

/// How long a slow destination takes one daemon and several: each runs as many syncs at a time.
#[test]
#[ignore = "measures: `make soak-daemons` prints it"]
fn several_daemons_share_the_syncs_of_a_slow_destination() {
    const SYNCS: usize = 12;
    const EACH: usize = 100;
    for daemons in [1, 2, 4] {
        let world =
            World { receiver: Flights::start(Duration::from_millis(50)), ..World::new(SYNCS, EACH, Duration::ZERO) };
        let places: Vec<_> = (0..daemons).map(|_| world.place("schedule = '0 0 1 1 *'", "parallel_runs = 2")).collect();
        let running: Vec<Daemon> = (0..daemons).map(|at| daemon(&places[at], &format!("daemon-{at}"))).collect();
        let statements =
            "SELECT coalesce(sum(xact_commit), 0)::bigint FROM pg_stat_database WHERE datname = current_database()";
        let before: i64 = sql(&world.ledger, statements)[0].get(0);
        let clock = SystemClock::start();
        for sync in 0..SYNCS {
            running[sync % daemons].trigger(&format!("sync_{sync}"), &json!({}));
        }
        until("every group is sent", || (world.receiver.holding("rev", &json!(0)) == SYNCS * EACH).then_some(()));
        let took = clock.elapsed().as_secs_f64();
        running.into_iter().for_each(|daemon| drop(daemon.stop()));
        let after: i64 = sql(&world.ledger, statements)[0].get(0);
        let per_second = (SYNCS * EACH) as f64 / took;
        println!(
            "{daemons} daemons: {took:.1} s, {per_second:.0} groups/s, {} transactions in the ledger",
            after - before
        );
        assert_eq!(world.receiver.faults(), Vec::<String>::new());
    }
}
