//! What is left when a run is killed at any moment, or asked to stop? Nothing lost, little said twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use groupcast::io::{Clock, SystemClock};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::amplitude::{Fault, Received};
use crate::support::cli::{Place, Receiver, Running, changes_sent, identifications, mapping, settings, until};

/// Traits of each group. A request carries 1,024, so ten groups.
const TRAITS: usize = 100;
const GROUPS: usize = 300;
const CONCURRENCY: usize = 3;

/// Hundreds of wide groups; `rev` is what all their traits hold.
fn wide(receiver: &Receiver, groups: usize) -> Place {
    let mut place = Place::with(receiver);
    place.unset("GROUPCAST__STATE__THREADS");
    place.write("groupcast.toml", &settings(&receiver.url, &format!("concurrency = {CONCURRENCY}\n")));
    place.warehouse(&format!("CREATE TABLE accounts AS SELECT 'k' || i AS id, 0 AS rev FROM range({groups}) r(i)"));
    let traits: String = (0..TRAITS).map(|n| format!("t{n} = \"rev\"\n")).collect();
    place.mapping("accounts", &mapping(&traits, "[guards]\nchanged_max = 1\nnulled_max = 1"));
    place
}

/// What the warehouse says every group should hold.
fn wanted(place: &Place) -> BTreeMap<(String, String), serde_json::Map<String, Value>> {
    let connection = duckdb::Connection::open(place.path("warehouse.duckdb")).unwrap();
    let mut rows = connection.prepare("SELECT id, rev FROM accounts").unwrap();
    let rows = rows.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))).unwrap();
    let traits = |rev: i64| (0..TRAITS).map(|n| (format!("t{n}"), json!(rev))).collect();
    rows.map(|row| row.unwrap()).map(|(id, rev)| (("company".to_owned(), id), traits(rev))).collect()
}

/// For every request that was acknowledged and then said again although nothing had changed: its position.
fn repeated(received: &[Received]) -> BTreeSet<usize> {
    let mut held: BTreeMap<String, (usize, Value)> = BTreeMap::new();
    let mut again = BTreeSet::new();
    for (position, request) in received.iter().enumerate().filter(|(_, request)| request.status == 200) {
        for one in identifications(&request.body) {
            let (key, says) = (one["group_value"].as_str().unwrap().to_owned(), one["group_properties"].clone());
            if let Some((before, _)) = held.get(&key).filter(|(_, held)| *held == says) {
                again.insert(*before);
            }
            held.insert(key, (position, says));
        }
    }
    again
}

#[test]
fn a_history_of_kills_loses_nothing_and_repeats_little() {
    let seed = std::env::var("GROUPCAST_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_26u64);
    println!("GROUPCAST_TEST_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let receiver = Receiver::start();
    let place = wide(&receiver, GROUPS);
    receiver.vendor.change(|rules| rules.answer_after = Duration::from_millis(30));
    // GIVEN a warehouse that changes between runs, which are killed at any moment
    let (mut kills, mut amid, mut begins) = (0, 0, Vec::new());
    let mut history = Vec::new();
    while kills < 16 {
        let step = history.len();
        assert!(step < 60, "runs end before they can be killed: {history:?}");
        let share = random.u32(1..=10);
        place.warehouse(&format!("UPDATE accounts SET rev = rev + 1 WHERE hash(id, {step}) % 10 < {share}"));
        if random.u32(0..4) == 0 {
            place.warehouse(&format!(
                "DELETE FROM accounts WHERE hash(id, {step}) % 97 = 0; INSERT INTO accounts VALUES ('new{step}', 0)"
            ));
        }
        let seen = receiver.requests();
        begins.push(seen);
        let mut run = place.start(&["run"]);
        let (mut requests, mut delay_ms) = (0, random.u64(0..500));
        if random.u32(0..4) > 0 {
            (requests, delay_ms) = (random.usize(1..20), random.u64(0..40));
        }
        until("requests, or the end", || (receiver.requests() >= seen + requests || run.ended()).then_some(()));
        // The moment is what is drawn here; nothing is waited for.
        std::thread::sleep(Duration::from_millis(delay_ms));
        let killed = !run.ended();
        let output = if killed { run.kill() } else { run.wait() };
        history.push((requests, delay_ms, killed));
        if killed {
            assert_eq!(output.code, None, "{}", output.all());
            kills += 1;
            amid += usize::from(receiver.requests() > seen);
        } else {
            output.exits(0);
        }
        if step % 5 == 2 {
            // A plan sees through the dead run, and leaves it to the next.
            let before = place.ledger_bytes();
            place.run(&["plan", "--show", "0"]).exits(0).says(&["Plan:"]);
            assert_eq!(place.ledger_bytes(), before);
        }
    }
    println!("{amid} of {kills} kills amid sending: {history:?}");
    assert!(amid >= 5, "{history:?}");
    // WHEN it may finish
    begins.push(receiver.requests());
    let report = place.run(&["run", "--json"]).exits(0).json();
    // THEN the destination holds what the warehouse says; groups that left keep what they had
    let (held, wanted) = (receiver.vendor.groups(), wanted(&place));
    let wrong: Vec<_> = wanted.iter().filter(|(id, traits)| held.get(*id) != Some(traits)).map(|(id, _)| id).collect();
    assert!(wrong.is_empty(), "{wrong:?}\n{report}");
    let seen = receiver.requests();
    place.run(&["run"]).exits(0).says(&["nothing sent"]);
    assert_eq!(receiver.requests(), seen);
    // Only a group that left the model while it was unconfirmed stays so: nothing is said about it any more.
    for line in place.run(&["ledger", "export", "accounts"]).exits(0).json_lines() {
        let id = ("company".to_owned(), line["key"].as_str().unwrap().to_owned());
        assert!(line["unconfirmed_in"].is_null() || !wanted.contains_key(&id), "{line}");
    }
    // AND of each killed run at most the requests in flight were said again
    let received = receiver.vendor.received();
    assert!(received.iter().all(|request| request.status == 200));
    let again = repeated(&received);
    for (run, begin) in begins.iter().enumerate() {
        let end = begins.get(run + 1).copied().unwrap_or(received.len());
        let count = again.range(begin..&end).count();
        assert!(count <= CONCURRENCY, "run {run} had {count} requests said again: {history:?}");
    }
    println!("{} of {} requests were said again in part", again.len(), received.len());
    // AND each killed run that had begun is on record: as crashed, or whole where the kill came after its record was closed
    let runs = place.run(&["runs", "--json", "-n", "1000"]).json();
    let with = |status: &str| runs["runs"].as_array().unwrap().iter().filter(|run| run["status"] == status).count();
    let ended = history.iter().filter(|(_, _, killed)| !killed).count() + 2;
    let (crashed, whole) = (with("crashed"), with("succeeded") - ended);
    assert!(crashed >= 5 && (amid..=kills).contains(&(crashed + whole)), "{crashed} crashed, {whole} whole: {runs}");
}

/// A run whose first `free` requests were answered and whose next `CONCURRENCY` are held.
fn held_in_flight(receiver: &Receiver, place: &Place, free: usize) -> (Running, Arc<Notify>) {
    let answer = Arc::new(Notify::new());
    let holds = (0..CONCURRENCY).map(|_| Fault::Hold(Arc::clone(&answer)));
    receiver.vendor.script((0..free).map(|_| Fault::None).chain(holds));
    let run = place.start(&["run"]);
    let arrived = || receiver.vendor.counts.requests.load(std::sync::atomic::Ordering::SeqCst) as usize;
    until("requests in flight", || (receiver.requests() == free && arrived() == free + CONCURRENCY).then_some(()));
    (run, answer)
}

fn keys(requests: &[Received]) -> Vec<String> {
    changes_sent(requests).into_iter().map(|(key, _)| key).collect()
}

#[test]
fn asked_to_stop_it_settles_what_is_answered() {
    for signal in ["INT", "TERM"] {
        let receiver = Receiver::start();
        let place = wide(&receiver, 100);
        let text = place.read("mappings/accounts.toml");
        place.mapping("later", &text.replace("\"company\"", "\"team\""));
        let (run, answer) = held_in_flight(&receiver, &place, 2);
        // WHEN it is asked to stop, and the answers come
        run.signal(signal);
        answer.notify_waiters();
        let output = run.wait().exits(130);
        // THEN nothing more was sent, and what was answered is settled
        let output = output.says(&[
            "stopping: waiting for requests in flight",
            "50 delivered",
            "50 pending",
            "run cancelled: 50 sent, 50 pending",
        ]);
        assert!(!output.all().contains("unconfirmed"), "{}", output.all());
        let before = receiver.vendor.received();
        assert_eq!(before.len(), 2 + CONCURRENCY);
        let later = place.run(&["runs", "later", "--json"]).exits(0).json();
        assert_eq!(later["runs"], json!([]), "the second sync never began");
        assert_eq!(place.run(&["runs", "accounts", "--json"]).json()["runs"][0]["status"], json!("cancelled"));
        // AND the next run sends only the rest
        place.run(&["run", "accounts"]).exits(0).says(&["50 unchanged, 50 delivered"]);
        let rest = keys(&receiver.since(before.len()));
        let all: BTreeSet<String> = keys(&receiver.since(0)).into_iter().collect();
        assert_eq!((rest.len(), all.len()), (50, 100));
        assert_eq!(repeated(&receiver.vendor.received()), BTreeSet::new());
    }
}

#[test]
fn without_answers_it_ends_after_the_grace_or_a_second_signal() {
    for (signals, seconds_max) in [(&["TERM"][..], 20), (&["INT", "TERM"], 8)] {
        let receiver = Receiver::start();
        let place = wide(&receiver, 60);
        let (run, _never) = held_in_flight(&receiver, &place, 1);
        let clock = SystemClock::start();
        for signal in signals {
            // Of different kinds, because two of one kind may arrive as one.
            run.signal(signal);
        }
        let output = run.wait().exits(130);
        let took = clock.elapsed();
        assert!(took < Duration::from_secs(seconds_max), "{took:?}");
        if signals.len() > 1 {
            assert!(output.stderr.contains("aborting requests in flight"), "{}", output.stderr);
        }
        output.says(&["10 delivered", "30 unconfirmed", "20 pending"]);
        // What nobody answered is unconfirmed, and is said again in full; nothing else is.
        place.run(&["status"]).exits(0).says(&["30"]);
        let seen = receiver.requests();
        place.run(&["plan"]).exits(0).says(&["unconfirmed: resent in full", "20 to add, 30 to change"]);
        place.run(&["run"]).exits(0).says(&["10 unchanged, 50 delivered"]);
        assert_eq!(keys(&receiver.since(seen)).len(), 50);
        assert_eq!(receiver.vendor.groups(), wanted(&place));
    }
}

#[test]
fn a_plan_of_several_syncs_sees_each_as_it_is() {
    // GIVEN two syncs that were delivered, the first of which then died
    let receiver = Receiver::start();
    let place = wide(&receiver, 40);
    let text = place.read("mappings/accounts.toml");
    place.mapping("later", &text.replace("\"company\"", "\"team\""));
    place.run(&["run"]).exits(0);
    place.warehouse("UPDATE accounts SET rev = 1");
    let answer = Arc::new(Notify::new());
    receiver.vendor.script([Fault::Hold(Arc::clone(&answer))]);
    let (seen, run) =
        (receiver.vendor.counts.requests.load(std::sync::atomic::Ordering::SeqCst), place.start(&["run", "accounts"]));
    until("a request", || {
        (receiver.vendor.counts.requests.load(std::sync::atomic::Ordering::SeqCst) > seen).then_some(())
    });
    assert_eq!(run.kill().code, None);
    place.warehouse("UPDATE accounts SET rev = 0");
    // WHEN both are planned
    let before = place.ledger_bytes();
    let planned = place.run(&["plan", "--json"]).exits(0).json_lines();
    assert_eq!(place.ledger_bytes(), before);
    // THEN one is unconfirmed, although the warehouse is back at what was known, and the other has nothing to say
    let summary = |sync: &str| planned.iter().find(|line| line["type"] == "plan" && line["sync"] == sync).unwrap();
    assert_eq!((&summary("accounts")["change"], &summary("later")["unchanged"]), (&json!(40), &json!(40)));
    let run = place.run(&["run"]).exits(0);
    run.says(&[
        "recovered",
        "accounts: 40 rows: 0 unchanged, 40 delivered",
        "later: 40 rows: 40 unchanged; nothing sent",
    ]);
    assert!(receiver.vendor.groups().values().all(|traits| traits.values().all(|value| *value == json!(0))));
}
