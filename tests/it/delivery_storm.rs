//! Does every change get exactly one true outcome, whatever the network does? Seeded simulation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use groupcast::delivery::{Delivery, DeliveryOutcome, DeliverySettings, Signal};
use groupcast::destination::{AddressedChange, RequestLimits};
use groupcast::io::http::Applied;
use groupcast::io::{Clock, Random};
use groupcast::model::Change;
use proptest::prelude::*;
use serde_json::json;
use tokio::sync::watch;

use crate::support::clock::SimulatedClock;
use crate::support::toy::{Answer, Attempt, RecordedOutcomes, Seen, Toy, World, lost, status, throttled};

/// How bad the weather is, in thousandths.
#[derive(Debug, Clone)]
struct Weather {
    seed: u64,
    lost_before: u64,
    lost_after: u64,
    throttled: u64,
    failing: u64,
    stopping: u64,
    bytes_max: usize,
    /// Every n-th change is refused.
    poison_every: usize,
    stop_after_s: Option<u64>,
}

fn weather() -> impl Strategy<Value = Weather> {
    let (share, rare) = (0_u64..200, prop_oneof![9 => Just(0_u64), 1 => 0_u64..30]);
    let bytes = prop_oneof![Just(usize::MAX), 20_usize..200];
    let poison = prop_oneof![Just(usize::MAX), 2_usize..40];
    let stop = prop_oneof![4 => Just(None), 1 => (0_u64..100).prop_map(Some)];
    (any::<u64>(), share.clone(), share.clone(), share.clone(), share, rare, bytes, poison, stop).prop_map(
        |(seed, lost_before, lost_after, throttled, failing, stopping, bytes_max, poison_every, stop_after_s)| {
            Weather {
                seed,
                lost_before,
                lost_after,
                throttled,
                failing,
                stopping,
                bytes_max,
                poison_every,
                stop_after_s,
            }
        },
    )
}

fn poisoned(name: &str, weather: &Weather) -> bool {
    let number: usize = name[1..].split('t').next().unwrap().parse().unwrap();
    number % weather.poison_every == weather.poison_every - 1
}

fn answer(attempt: &Attempt, random: &Random, weather: &Weather) -> Answer {
    let after = Duration::from_millis(random.up_to(3_000));
    let mut roll = random.up_to(999);
    let mut hit = |share: u64| {
        let hit = roll < share;
        roll = roll.saturating_sub(share);
        hit
    };
    let answer = if hit(weather.lost_before) {
        lost(if random.up_to(1) == 0 { Applied::No } else { Applied::Maybe }, false)
    } else if hit(weather.stopping) {
        status(401)
    } else if hit(weather.throttled) {
        throttled(random.up_to(20))
    } else if hit(weather.failing) {
        status(503)
    } else if attempt.bytes > weather.bytes_max {
        status(413)
    } else if attempt.elements.iter().flat_map(|(_, names)| names).any(|name| poisoned(name, weather)) {
        status(400)
    } else if hit(weather.lost_after) {
        if random.up_to(1) == 0 { lost(Applied::Maybe, true) } else { Answer { apply: true, ..status(500) } }
    } else {
        status(200)
    };
    Answer { after, ..answer }
}

fn page(seed: u64, count: usize) -> Vec<AddressedChange> {
    let random = Random::seeded(seed);
    let change = |at: usize| {
        // Trait names are unique, so what was applied of which change is always visible; keys repeat now and then.
        let key = format!("k{}", if random.up_to(9) == 0 { random.up_to(at as u64) as usize } else { at });
        let names: Vec<String> = (0..random.up_to(6)).map(|trait_at| format!("c{at}t{trait_at}")).collect();
        let (unset, set) = names.split_at(names.len() / 3);
        let change = Change {
            set: set.iter().map(|name| (name.clone(), json!(1))).collect(),
            unset: unset.iter().cloned().collect(),
            ..Change::default()
        };
        AddressedChange { key, change: change.into(), ..AddressedChange::default() }
    };
    (0..count).map(change).collect()
}

struct After {
    outcomes: Vec<DeliveryOutcome>,
    applied: BTreeSet<String>,
    /// Keys at which the network failed alone, at least three times and never otherwise, while it accepted others.
    failed_alone: BTreeSet<String>,
    failed: bool,
    trace: Vec<(Duration, Vec<String>)>,
}

fn run(page: &[AddressedChange], weather: &Weather, settings: &DeliverySettings) -> After {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let limits = RequestLimits {
        elements_max: 7,
        traits_max: 12,
        body_bytes_max: 300,
        element_bytes_max: 100,
        envelope_bytes: 2,
        separator_bytes: 1,
    };
    let toy = Toy { limits, per_part: 2, repeatable: true };
    runtime.block_on(async {
        let clock = Arc::new(SimulatedClock::default());
        let fate_of_the_wire = Random::seeded(weather.seed);
        let known = weather.clone();
        let world = World::new(clock.clone(), move |attempt| answer(attempt, &fate_of_the_wire, &known));
        let (random, outcomes) = (Random::seeded(weather.seed ^ 1), RecordedOutcomes::default());
        let (signal, signalled) = watch::channel(Signal::Go);
        let delivery = Delivery::new(&toy, &world, &*clock, &random, settings.clone(), signalled);
        let stop = async {
            if let Some(seconds) = weather.stop_after_s {
                clock.sleep(Duration::from_secs(seconds)).await;
                signal.send_replace(Signal::Stop);
            }
        };
        let (outcome, ()) = tokio::join!(delivery.deliver(page, &outcomes), stop);
        let seen = world.seen();
        assert!(seen.overlaps.is_empty(), "in flight twice: {:?}", seen.overlaps);
        assert!(seen.in_flight_max <= settings.concurrency);
        for attempt in &seen.attempts {
            let route_max = if attempt.url == "toy:0" { limits.elements_max } else { 1 };
            assert!(attempt.elements.len() <= route_max && attempt.bytes <= limits.body_bytes_max);
            assert!(attempt.elements.iter().map(|(_, names)| names.len()).sum::<usize>() <= limits.traits_max);
            assert!(attempt.repeated < settings.attempts_max as usize);
            assert_eq!(attempt.keys().into_iter().collect::<BTreeSet<_>>().len(), attempt.elements.len());
        }
        if let Some(rate) = settings.requests_per_second {
            let mut starts: Vec<Duration> = seen.attempts.iter().map(|attempt| attempt.at).collect();
            starts.sort_unstable();
            assert!(starts.windows(2).all(|pair| (pair[1] - pair[0]).as_secs_f64() >= 1.0 / rate - 1e-6));
        }
        After {
            outcomes: outcomes.all(page.len()),
            applied: seen.applied.clone(),
            failed_alone: failed_alone(&seen),
            failed: outcome.is_err(),
            trace: seen
                .attempts
                .iter()
                .map(|attempt| (attempt.at, attempt.keys().into_iter().map(str::to_owned).collect()))
                .collect(),
        }
    })
}

/// What can be held against a group that is as good as any other: see [`After::failed_alone`].
fn failed_alone(seen: &Seen) -> BTreeSet<String> {
    let mut alone: BTreeMap<Vec<(String, Vec<String>)>, Vec<usize>> = BTreeMap::new();
    for attempt in seen.attempts.iter().filter(|attempt| attempt.elements.len() == 1) {
        alone.entry(attempt.elements.clone()).or_default().push(attempt.number);
    }
    let accepted: Vec<usize> =
        seen.statuses.iter().filter(|(_, status)| **status == 200).map(|(number, _)| *number).collect();
    alone.retain(|_, numbers| {
        let failures = numbers.iter().filter(|number| seen.statuses.get(number).is_some_and(|status| *status >= 500));
        failures.count() >= 3
            && !numbers.iter().any(|number| accepted.contains(number))
            && accepted.iter().any(|accepted| Some(accepted) > numbers.first())
    });
    alone.into_keys().map(|mut elements| elements.remove(0).0).collect()
}

/// A server that fails at every fifth attempt, whomever it is about, has nothing against anybody; one that fails at one
/// group only is found out nevertheless.
#[test]
fn bad_luck_is_no_fault_of_a_group() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (mut changes, mut unlucky, mut blamed) = (0, 0, 0);
    for seed in 0..60 {
        let poison = if seed % 2 == 0 { "k77" } else { "nobody" };
        let share = if seed % 2 == 0 { 20 } else { 200 };
        let page: Vec<AddressedChange> = (0..300)
            .map(|at| {
                let change =
                    Change { set: std::iter::once((format!("t{at}"), json!(1))).collect(), ..Change::default() };
                AddressedChange { key: format!("k{at}"), change: change.into(), ..AddressedChange::default() }
            })
            .collect();
        let toy = Toy { limits: RequestLimits { elements_max: 1, ..Toy::default().limits }, ..Toy::default() };
        let luck = Random::seeded(seed);
        let clock = Arc::new(SimulatedClock::default());
        let world = World::new(clock.clone(), move |attempt| {
            if attempt.keys() == [poison] || luck.up_to(999) < share { status(500) } else { status(200) }
        });
        let (_signal, signalled) = watch::channel(Signal::Go);
        let (random, outcomes) = (Random::seeded(seed ^ 1), RecordedOutcomes::default());
        let settings = DeliverySettings { attempts_max: 5, ..DeliverySettings::default() };
        let delivery = Delivery::new(&toy, &world, &*clock, &random, settings, signalled);
        let outcome = runtime.block_on(delivery.deliver(&page, &outcomes));
        assert!(outcome.is_ok(), "{seed}: {outcome:?}");
        for (change, outcome) in page.iter().zip(outcomes.all(page.len())) {
            changes += 1;
            match outcome {
                DeliveryOutcome::Delivered => assert_ne!(change.key, poison, "{seed}"),
                DeliveryOutcome::Rejected { .. } => {
                    assert_eq!(change.key, poison, "{seed}: an innocent group is blamed");
                    blamed += 1;
                }
                other @ (DeliveryOutcome::Unconfirmed { .. } | DeliveryOutcome::NotSent { .. }) => {
                    assert_ne!(
                        change.key,
                        poison,
                        "{seed}: the group at fault is not found: {other:?} {:?}",
                        world
                            .seen()
                            .attempts
                            .iter()
                            .filter(|a| a.keys() == [poison])
                            .map(|a| a.number)
                            .collect::<Vec<_>>()
                    );
                    unlucky += 1;
                }
            }
        }
    }
    assert_eq!((changes, blamed), (18_000, 30));
    assert!(unlucky > 0, "nobody had bad luck: this tests nothing");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_change_gets_one_true_fate(
        weather in weather(), count in 0_usize..120, concurrency in 1_usize..6, attempts_max in 1_u32..6,
        rate in prop::option::of(1_f64..50.0),
    ) {
        let page = page(weather.seed, count);
        let settings = DeliverySettings { concurrency, attempts_max, requests_per_second: rate, ..DeliverySettings::default() };
        let after = run(&page, &weather, &settings);
        for (change, outcome) in page.iter().zip(&after.outcomes) {
            let names: Vec<&String> = change.change.set.keys().chain(&change.change.unset).collect();
            let applied = names.iter().filter(|name| after.applied.contains(**name)).count();
            let bad = names.iter().any(|name| poisoned(name, &weather));
            match outcome {
                DeliveryOutcome::Delivered => prop_assert_eq!(applied, names.len(), "{:?}", change),
                DeliveryOutcome::NotSent { .. } => prop_assert_eq!(applied, 0, "{:?}", change),
                DeliveryOutcome::Rejected { partly_applied, .. } => {
                    prop_assert!(*partly_applied || applied == 0, "{:?}", change);
                    // A part that is alone in a request can be too large by the network's measure.
                    // At one that the network failed at each time by chance, delivery cannot know.
                    let unlucky = after.failed_alone.contains(&change.key);
                    prop_assert!(bad || weather.bytes_max < 100 || unlucky, "{:?} is innocent", change);
                }
                DeliveryOutcome::Unconfirmed { .. } => {}
            }
            if !after.failed && weather.poison_every < usize::MAX && bad {
                prop_assert!(*outcome != DeliveryOutcome::Delivered);
            }
        }
        let calm = weather.lost_before + weather.lost_after + weather.throttled + weather.failing + weather.stopping == 0;
        if calm && weather.poison_every == usize::MAX && weather.bytes_max == usize::MAX && weather.stop_after_s.is_none() {
            prop_assert!(after.outcomes.iter().all(|outcome| *outcome == DeliveryOutcome::Delivered));
        }
        // The same seed tells the same story.
        let again = run(&page, &weather, &settings);
        prop_assert_eq!(again.trace, after.trace);
        prop_assert_eq!(again.outcomes, after.outcomes);
    }
}
