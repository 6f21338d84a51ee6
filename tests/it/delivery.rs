//! Does delivery keep its rules, one by one? Time is simulated, and the network is a function.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use groupcast::delivery::{ChangeRequest, Delivery, DeliveryOutcome, DeliverySettings, KeepRequests, Signal};
use groupcast::destination::AddressedChange;
use groupcast::error::{Kind, Result};
use groupcast::io::http::Applied;
use groupcast::io::{Clock, Random};
use groupcast::model::Change;
use serde_json::json;
use tokio::sync::watch;

use crate::support::clock::SimulatedClock;
use crate::support::toy::{Answer, Attempt, RecordedOutcomes, Toy, World, lost, status, throttled};

fn change(key: &str, sets: &[&str], unsets: &[&str]) -> AddressedChange {
    let change = Change {
        set: sets.iter().map(|name| ((*name).to_owned(), json!(1))).collect(),
        unset: unsets.iter().map(|name| (*name).to_owned()).collect(),
        ..Change::default()
    };
    AddressedChange { key: key.to_owned(), change: change.into(), ..AddressedChange::default() }
}

/// Changes `g0`, `g1`, … of one trait each, named like their group.
fn changes(count: usize) -> Vec<AddressedChange> {
    (0..count).map(|at| change(&format!("g{at}"), &[&format!("g{at}")], &[])).collect()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A page, delivered: what came out and what the network saw.
struct Done {
    outcome: Result<()>,
    outcomes: Vec<DeliveryOutcome>,
    calls: usize,
    world: World,
    ended_at: Duration,
    requests: u64,
    retries: u64,
}

async fn deliver_with(
    toy: Toy,
    settings: DeliverySettings,
    changes: &[AddressedChange],
    behave: impl Fn(&Attempt) -> Answer + Send + Sync + 'static,
) -> Done {
    let clock = Arc::new(SimulatedClock::default());
    let world = World::new(clock.clone(), behave);
    let (random, outcomes) = (Random::seeded(7), RecordedOutcomes::default());
    let (_signal, signalled) = watch::channel(Signal::Go);
    let delivery = Delivery::new(&toy, &world, &*clock, &random, settings, signalled);
    let outcome = delivery.deliver(changes, &outcomes).await;
    let counters = delivery.counters();
    let calls = outcomes.calls.lock().len();
    let done = Done {
        outcome,
        calls,
        outcomes: outcomes.all(changes.len()),
        ended_at: clock.elapsed(),
        requests: counters.requests.load(Ordering::Relaxed),
        retries: counters.retries.load(Ordering::Relaxed),
        world,
    };
    assert!(done.world.seen().overlaps.is_empty(), "a key was in flight twice");
    assert_eq!(done.requests as usize, done.world.seen().attempts.len(), "every attempt is counted");
    assert_eq!(counters.by_status().values().sum::<u64>(), done.requests);
    done
}

async fn deliver(changes: &[AddressedChange], behave: impl Fn(&Attempt) -> Answer + Send + Sync + 'static) -> Done {
    deliver_with(Toy::default(), DeliverySettings::default(), changes, behave).await
}

fn is_rejected(outcome: &DeliveryOutcome) -> bool {
    matches!(outcome, DeliveryOutcome::Rejected { .. })
}

#[tokio::test]
async fn everything_is_delivered_in_few_requests_and_what_ends_together_is_settled_together() {
    let done = deliver(&changes(95), |_| Answer { after: seconds(1), ..status(200) }).await;
    done.outcome.unwrap();
    assert!(done.outcomes.iter().all(|outcome| *outcome == DeliveryOutcome::Delivered));
    assert_eq!(done.requests, 10, "95 changes, 10 to a request");
    assert_eq!(done.calls, 3, "four, four and two requests are answered at the same instant");
    assert_eq!(done.world.seen().in_flight_max, 4);
    assert_eq!(done.ended_at, seconds(3), "10 requests, 4 at a time");
    assert_eq!(done.world.seen().applied.len(), 95);
}

#[tokio::test]
async fn nothing_to_say_needs_no_request() {
    let done = deliver(&[change("a", &[], &[]), change("local b", &["x"], &[])], |_| status(200)).await;
    done.outcome.unwrap();
    assert_eq!(done.requests, 0);
    assert_eq!(done.outcomes[0], DeliveryOutcome::Delivered);
    let reason = "refused without a request".to_owned();
    assert_eq!(done.outcomes[1], DeliveryOutcome::Rejected { reason, partly_applied: false });
}

#[tokio::test]
async fn a_429_makes_everyone_wait_and_the_same_bytes_go_again() {
    let settings = DeliverySettings { concurrency: 2, ..DeliverySettings::default() };
    let behave = |attempt: &Attempt| if attempt.number == 0 { throttled(40) } else { status(200) };
    let done = deliver_with(Toy::default(), settings, &changes(50), behave).await;
    done.outcome.unwrap();
    assert!(done.outcomes.iter().all(|outcome| *outcome == DeliveryOutcome::Delivered));
    assert_eq!((done.requests, done.retries), (6, 1));
    let seen = done.world.seen();
    assert_eq!(seen.attempts.iter().filter(|attempt| attempt.repeated == 1).count(), 1);
    // The second request was on its way when the first was answered.
    assert!(seen.attempts[2..].iter().all(|attempt| attempt.at >= seconds(40)), "{:?}", seen.attempts);
}

#[tokio::test]
async fn attempts_and_time_are_bounded() {
    for (applied, attempts_max) in [(Applied::No, 8), (Applied::Maybe, 8), (Applied::Maybe, 1)] {
        let settings = DeliverySettings { attempts_max, ..DeliverySettings::default() };
        let done =
            deliver_with(Toy::default(), settings, &changes(1), move |_| lost(applied, applied == Applied::Maybe))
                .await;
        done.outcome.unwrap();
        assert_eq!(done.requests, u64::from(attempts_max));
        for outcome in &done.outcomes {
            assert_eq!(matches!(outcome, DeliveryOutcome::NotSent { .. }), applied == Applied::No, "{outcome:?}");
            assert_eq!(
                matches!(outcome, DeliveryOutcome::Unconfirmed { .. }),
                applied == Applied::Maybe,
                "{outcome:?}"
            );
        }
    }
    let settings = DeliverySettings { attempts_max: 1_000, ..DeliverySettings::default() };
    let done = deliver_with(Toy::default(), settings, &changes(1), |_| status(503)).await;
    assert!(done.ended_at <= seconds(600) && done.ended_at > seconds(400), "{:?}", done.ended_at);
    assert!(matches!(done.outcomes[0], DeliveryOutcome::NotSent { .. }));
}

#[tokio::test]
async fn one_attempt_without_a_clear_answer_makes_the_outcome_unknown() {
    let behave = |attempt: &Attempt| if attempt.number == 0 { lost(Applied::Maybe, true) } else { status(503) };
    let done = deliver(&changes(1), behave).await;
    assert!(
        matches!(&done.outcomes[0], DeliveryOutcome::Unconfirmed { reason } if reason.contains("tried 8 times")),
        "{:?}",
        done.outcomes
    );
}

#[tokio::test]
async fn what_must_not_be_repeated_is_not() {
    let behave = |attempt: &Attempt| match attempt.number {
        0 => throttled(1),
        _ => lost(Applied::Maybe, false),
    };
    let toy = Toy { repeatable: false, ..Toy::default() };
    let done = deliver_with(toy, DeliverySettings::default(), &changes(1), behave).await;
    assert_eq!(done.requests, 2, "a refused attempt may be repeated, an unclear one not");
    assert!(matches!(done.outcomes[0], DeliveryOutcome::Unconfirmed { .. }));
}

#[tokio::test]
async fn too_large_is_halved_and_remembered() {
    let behave = |attempt: &Attempt| if attempt.bytes > 30 { status(413) } else { status(200) };
    let mut changes = changes(60);
    changes.push(change("huge", &["a_trait_with_a_name_far_beyond_the_limit"], &[]));
    let settings = DeliverySettings { concurrency: 1, ..DeliverySettings::default() };
    let done = deliver_with(Toy::default(), settings, &changes, behave).await;
    done.outcome.unwrap();
    assert!(done.outcomes[..60].iter().all(|outcome| *outcome == DeliveryOutcome::Delivered));
    assert!(is_rejected(&done.outcomes[60]));
    let refused = done.world.seen().attempts.iter().filter(|attempt| attempt.bytes > 30).count();
    assert!(refused <= 4, "{refused} requests were too large");
}

#[tokio::test]
async fn one_bad_group_does_not_block_the_others() {
    let behave = |attempt: &Attempt| if attempt.keys().contains(&"g17") { status(400) } else { status(200) };
    let done = deliver(&changes(100), behave).await;
    done.outcome.unwrap();
    for (at, outcome) in done.outcomes.iter().enumerate() {
        assert_eq!(is_rejected(outcome), at == 17, "{at}: {outcome:?}");
    }
    // Ten requests; the one with the bad group is bisected: 10 → 5 + 5 → 2 + 3 → …
    assert!(done.requests <= 10 + 8, "{} requests", done.requests);
}

#[tokio::test]
async fn a_destination_that_refuses_everything_is_left_alone() {
    let done = deliver(&changes(2_000), |_| status(400)).await;
    let error = done.outcome.unwrap_err();
    assert_eq!(error.kind(), Kind::Destination);
    assert!(error.what().contains("stopped after 32 consecutive rejections") && error.advice().is_some(), "{error}");
    assert!(
        done.outcomes.iter().all(|outcome| matches!(outcome, DeliveryOutcome::NotSent { .. })),
        "no group is blamed"
    );
    assert!(done.requests < 100, "{} requests", done.requests);
}

#[tokio::test]
async fn many_bad_groups_at_the_front_are_no_reason_to_stop() {
    let bad = |key: &str| key[1..].parse::<usize>().unwrap() < 300;
    let behave = move |attempt: &Attempt| if attempt.keys().into_iter().any(bad) { status(400) } else { status(200) };
    let done = deliver(&changes(1_000), behave).await;
    done.outcome.unwrap();
    for (at, outcome) in done.outcomes.iter().enumerate() {
        assert_eq!(is_rejected(outcome), at < 300, "{at}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_small_page_that_is_refused_whole_is_rejected() {
    let done = deliver(&changes(5), |_| status(400)).await;
    done.outcome.unwrap();
    assert!(done.outcomes.iter().all(is_rejected));
}

#[tokio::test]
async fn named_elements_are_rejected_and_the_rest_goes_again() {
    let behave = |attempt: &Attempt| match attempt.number {
        0 => {
            let mut answer = status(207);
            answer.response.as_mut().unwrap().body = b"1,4".to_vec();
            answer
        }
        _ => status(200),
    };
    let done = deliver(&changes(6), behave).await;
    done.outcome.unwrap();
    let rejected: Vec<usize> = (0..6).filter(|at| is_rejected(&done.outcomes[*at])).collect();
    assert_eq!((rejected, done.requests), (vec![1, 4], 2));
}

#[tokio::test]
async fn a_refusal_that_names_nothing_we_sent_ends() {
    let behave = |_: &Attempt| {
        let mut answer = status(207);
        answer.response.as_mut().unwrap().body = b"99".to_vec();
        answer
    };
    let done = deliver(&changes(6), behave).await;
    assert!(done.outcomes.iter().all(is_rejected));
    assert!(done.requests <= 11);
}

#[tokio::test]
async fn a_stop_verdict_ends_everything_at_once() {
    let behave = |attempt: &Attempt| match attempt.number {
        0 => status(200),
        1 => Answer { after: seconds(2), ..status(401) },
        2 => Answer { after: seconds(3), ..status(200) },
        _ => lost(Applied::Maybe, false),
    };
    let settings = DeliverySettings { concurrency: 4, ..DeliverySettings::default() };
    let done = deliver_with(Toy::default(), settings, &changes(500), behave).await;
    let error = done.outcome.unwrap_err();
    assert_eq!((error.kind(), error.advice()), (Kind::Destination, Some("check the key")));
    assert_eq!(
        done.outcomes.iter().filter(|outcome| **outcome == DeliveryOutcome::Delivered).count(),
        20,
        "those in flight count"
    );
    assert!(done.ended_at < seconds(10), "nobody goes on repeating");
    let last = done.world.seen().attempts.last().unwrap().at;
    assert!(last <= seconds(2), "no attempt after the verdict");
}

#[tokio::test]
async fn errors_name_the_destination_by_its_name_and_type() {
    for (destination, label) in [("hook", "destination `hook` (toy)"), ("toy", "destination `toy`")] {
        let settings = DeliverySettings { destination: destination.to_owned(), ..DeliverySettings::default() };
        let down = deliver_with(Toy::default(), settings.clone(), &changes(100), |_| lost(Applied::No, false)).await;
        assert_eq!(down.outcome.unwrap_err().what(), format!("{label} is unavailable: lost (tried 8 times)"));
        let refused = deliver_with(Toy::default(), settings, &changes(10), |_| status(402)).await;
        assert_eq!(refused.outcome.unwrap_err().what(), format!("authentication failed at {label}: HTTP 402"));
    }
}

#[tokio::test]
async fn a_destination_that_is_down_is_not_tried_a_thousand_times() {
    let done = deliver(&changes(2_000), |_| lost(Applied::No, false)).await;
    let error = done.outcome.unwrap_err();
    assert_eq!(error.kind(), Kind::Destination);
    assert_eq!(error.what(), "destination `toy` is unavailable: lost (tried 8 times)");
    assert!(done.outcomes.iter().all(|outcome| matches!(outcome, DeliveryOutcome::NotSent { .. })));
    assert!(done.requests <= 4 * 8 + 4 * 8, "{} requests", done.requests);
}

/// The group at fault, and what happens to every request that holds it.
fn at_fault(key: &'static str, answer: impl Fn() -> Answer + Send + Sync + 'static) -> impl Fn(&Attempt) -> Answer {
    move |attempt| if attempt.keys().contains(&key) { answer() } else { status(200) }
}

/// One of these, or none, is rejected, and everything else delivered.
fn only_rejected(done: &Done, guilty: usize) {
    for (at, outcome) in done.outcomes.iter().enumerate() {
        assert!(
            if at == guilty { is_rejected(outcome) } else { *outcome == DeliveryOutcome::Delivered },
            "{at}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_refusal_that_could_be_ours_is_the_groups_if_others_are_accepted() {
    // A firewall's 403, a 401, a redirect for one text: first, in the middle and last, in one request and in many.
    for refusal in [403, 402, 302] {
        for (guilty, key) in [(0, "g0"), (50, "g50"), (99, "g99")] {
            for elements_max in [1, 10, 200] {
                let mut toy = Toy::default();
                toy.limits.elements_max = elements_max;
                let done = deliver_with(
                    toy,
                    DeliverySettings::default(),
                    &changes(100),
                    at_fault(key, move || status(refusal)),
                )
                .await;
                let case = format!("{refusal} for {key}, {elements_max} to a request");
                if refusal == 402 && guilty == 99 && elements_max == 1 {
                    // The last of all: nothing is accepted any more that would show that the credentials are still good.
                    assert!(matches!(done.outcomes[99], DeliveryOutcome::NotSent { .. }), "{case}");
                    continue;
                }
                done.outcome.as_ref().unwrap_or_else(|error| panic!("{case}: {error}"));
                only_rejected(&done, guilty);
                let DeliveryOutcome::Rejected { reason, partly_applied } = &done.outcomes[guilty] else {
                    panic!("{case}")
                };
                assert_eq!((reason.as_str(), *partly_applied), (format!("HTTP {refusal}").as_str(), refusal == 302));
                assert!(done.requests <= 100 / elements_max as u64 + 32, "{case}: {} requests", done.requests);
            }
        }
    }
}

#[tokio::test]
async fn a_refusal_of_everything_is_nobodys_fault_whatever_its_words() {
    for (refusal, requests_max) in [(403, 25), (402, 12), (302, 25), (413, 45)] {
        for count in [1, 2, 200, 3_000] {
            let mut toy = Toy::default();
            toy.limits.elements_max = 100;
            let done = deliver_with(toy, DeliverySettings::default(), &changes(count), move |_| status(refusal)).await;
            let error = done.outcome.unwrap_err();
            assert_eq!(error.kind(), Kind::Destination);
            let expected = match refusal {
                402 => "authentication failed at destination `toy`: HTTP 402",
                _ => "destination `toy` rejects all requests: HTTP",
            };
            assert!(error.what().starts_with(expected) && error.advice().is_some(), "{error}");
            assert!(done.requests <= requests_max, "{refusal} {count}: {} requests", done.requests);
            let unknown =
                done.outcomes.iter().filter(|outcome| matches!(outcome, DeliveryOutcome::Unconfirmed { .. })).count();
            let not_sent =
                done.outcomes.iter().filter(|outcome| matches!(outcome, DeliveryOutcome::NotSent { .. })).count();
            assert_eq!(unknown + not_sent, count, "{refusal}: nobody is rejected");
            // What was in a redirected request may be there; all others were certainly not sent.
            assert_eq!(unknown > 0, refusal == 302, "{refusal}: {unknown} unknown");
        }
    }
}

#[tokio::test]
async fn a_413_far_below_the_limit_is_not_held_against_the_group_alone() {
    let done = deliver(&changes(40), at_fault("g17", || status(413))).await;
    done.outcome.as_ref().unwrap();
    only_rejected(&done, 17);
    let DeliveryOutcome::Rejected { reason, .. } = &done.outcomes[17] else { panic!() };
    assert!(reason.contains("far below the limit of toy: a proxy or gateway"), "{reason}");
    let error = deliver(&changes(40), |_| status(413)).await.outcome.unwrap_err();
    assert!(error.advice().unwrap().starts_with("raise the limit for request bodies at the proxy"), "{error}");
}

#[tokio::test]
async fn refusals_in_a_row_stop_the_run_although_something_was_accepted_before() {
    for refusal in [400, 403, 413] {
        let accepted = |attempt: &Attempt| attempt.number < 5;
        let behave = move |attempt: &Attempt| if accepted(attempt) { status(200) } else { status(refusal) };
        let done = deliver(&changes(2_000), behave).await;
        let error = done.outcome.unwrap_err();
        assert_eq!(error.kind(), Kind::Destination, "{error}");
        assert_eq!(done.outcomes.iter().filter(|outcome| **outcome == DeliveryOutcome::Delivered).count(), 50);
        assert_eq!(
            done.outcomes.iter().filter(|outcome| is_rejected(outcome)).count(),
            0,
            "{refusal}: nobody is blamed"
        );
        assert!(done.requests < 100, "{refusal}: {} requests", done.requests);
    }
}

#[tokio::test]
async fn a_group_at_which_the_destination_fails_is_found_and_rejected() {
    for failing in [|| status(500), || lost(Applied::Maybe, false)] {
        for (guilty, key) in [(0, "g0"), (42, "g42"), (99, "g99")] {
            for elements_max in [10, 200] {
                let mut toy = Toy::default();
                toy.limits.elements_max = elements_max;
                let settings = DeliverySettings { attempts_max: 3, ..DeliverySettings::default() };
                let done = deliver_with(toy, settings, &changes(100), at_fault(key, failing)).await;
                done.outcome.as_ref().unwrap();
                only_rejected(&done, guilty);
                let DeliveryOutcome::Rejected { reason, partly_applied } = &done.outcomes[guilty] else { panic!() };
                assert!(reason.contains("(tried ") && *partly_applied, "{reason}");
            }
        }
    }
}

#[tokio::test]
async fn several_groups_that_fail_do_not_starve_the_others() {
    for bad in [403, 500] {
        let guilty = |key: &str| key[1..].parse::<usize>().unwrap() % 37 == 5;
        let behave =
            move |attempt: &Attempt| if attempt.keys().into_iter().any(guilty) { status(bad) } else { status(200) };
        let settings = DeliverySettings { attempts_max: 3, ..DeliverySettings::default() };
        let mut toy = Toy::default();
        toy.limits.elements_max = 100;
        let done = deliver_with(toy, settings, &changes(400), behave).await;
        done.outcome.unwrap();
        for (at, outcome) in done.outcomes.iter().enumerate() {
            assert_eq!(is_rejected(outcome), at % 37 == 5, "{bad}: {at}: {outcome:?}");
        }
    }
}

#[tokio::test]
async fn a_destination_that_fails_at_everything_is_left_alone_and_nobody_is_blamed() {
    for count in [1, 3, 2_000] {
        let done = deliver(&changes(count), |_| lost(Applied::Maybe, false)).await;
        assert_eq!(done.outcome.is_err(), count > 3, "{count}");
        assert!(
            !done
                .outcomes
                .iter()
                .any(|outcome| matches!(outcome, DeliveryOutcome::Delivered | DeliveryOutcome::Rejected { .. })),
            "{count}"
        );
        assert!(done.requests <= 4 * 8 + 4 * 8, "{count}: {} requests", done.requests);
    }
    // It fails in the middle of a run, and at the last groups of it.
    for from in [3, 9] {
        let behave = move |attempt: &Attempt| if attempt.number < from { status(200) } else { status(500) };
        let settings = DeliverySettings { concurrency: 1, ..DeliverySettings::default() };
        let done = deliver_with(Toy::default(), settings, &changes(92), behave).await;
        assert!(!done.outcomes.iter().any(is_rejected), "{:?}", done.outcomes);
    }
}

#[tokio::test]
async fn what_must_not_be_repeated_is_held_when_it_may_be_there() {
    // A redirect, and an answer that never came: neither is sent again, alone or in halves.
    for doubtful in [|| status(302), || lost(Applied::Maybe, true)] {
        let toy = Toy { repeatable: false, ..Toy::default() };
        let done = deliver_with(toy, DeliverySettings::default(), &changes(40), at_fault("g17", doubtful)).await;
        let unknown: Vec<usize> =
            (0..40).filter(|at| matches!(done.outcomes[*at], DeliveryOutcome::Unconfirmed { .. })).collect();
        assert_eq!(unknown, (10..20).collect::<Vec<_>>(), "its whole request");
        assert_eq!(done.requests, 4);
    }
    let toy = Toy { repeatable: false, ..Toy::default() };
    let settings = DeliverySettings { concurrency: 1, ..DeliverySettings::default() };
    let done = deliver_with(toy, settings, &changes(100), |_| status(302)).await;
    assert_eq!(done.requests, 1, "each request more would put more groups in doubt");
    assert!(done.outcome.unwrap_err().advice().unwrap().contains("check the address"));
}

#[tokio::test]
async fn parts_follow_each_other_and_a_part_that_fails_is_remembered() {
    let page = [
        change("whole", &["w1", "w2", "w3"], &["w4", "w5"]),
        change("second refused", &["r1", "r2"], &[]),
        change("second lost", &["l1", "l2"], &[]),
        change("first refused", &["f1", "f2"], &[]),
    ];
    let behave = |attempt: &Attempt| {
        let names: Vec<&str> = attempt.elements.iter().flat_map(|(_, names)| names).map(String::as_str).collect();
        if names.contains(&"r2") || names.contains(&"f1") {
            status(400)
        } else if names.contains(&"l2") {
            status(503)
        } else {
            status(200)
        }
    };
    let done = deliver_with(Toy { per_part: 1, ..Toy::default() }, DeliverySettings::default(), &page, behave).await;
    done.outcome.unwrap();
    assert_eq!(done.outcomes[0], DeliveryOutcome::Delivered);
    assert!(matches!(done.outcomes[1], DeliveryOutcome::Rejected { partly_applied: true, .. }));
    assert!(matches!(done.outcomes[2], DeliveryOutcome::Unconfirmed { .. }), "half of it is there");
    assert!(matches!(done.outcomes[3], DeliveryOutcome::Rejected { partly_applied: false, .. }));
    let seen = done.world.seen();
    let order: Vec<&String> =
        seen.attempts.iter().flat_map(|attempt| &attempt.elements).flat_map(|(_, names)| names).collect();
    let first = |name: &str| order.iter().position(|seen| *seen == name).unwrap();
    assert!(["w1", "w2", "w3", "w4", "w5"].map(first).is_sorted());
    assert!(!order.contains(&&"f2".to_owned()), "nothing follows a refused part");
}

#[tokio::test]
async fn two_changes_of_one_key_keep_their_order() {
    let page =
        [change("a", &["a1"], &[]), change("b", &["b1"], &[]), change("a", &["a2"], &[]), change("a", &["a3"], &[])];
    let done = deliver(&page, |_| Answer { after: seconds(1), ..status(200) }).await;
    assert!(done.outcomes.iter().all(|outcome| *outcome == DeliveryOutcome::Delivered));
    let seen = done.world.seen();
    let of_a = seen.attempts.iter().flat_map(|attempt| &attempt.elements).filter(|(key, _)| key == "a");
    assert_eq!(of_a.flat_map(|(_, names)| names.clone()).collect::<Vec<_>>(), ["a1", "a2", "a3"]);
}

#[tokio::test]
async fn every_attempt_takes_a_token() {
    let settings = DeliverySettings { requests_per_second: Some(2.0), concurrency: 8, ..DeliverySettings::default() };
    let behave = |attempt: &Attempt| if attempt.repeated < 2 { status(503) } else { status(200) };
    let done = deliver_with(Toy::default(), settings, &changes(100), behave).await;
    done.outcome.unwrap();
    assert_eq!((done.requests, done.retries), (30, 20));
    let mut starts: Vec<Duration> = done.world.seen().attempts.iter().map(|attempt| attempt.at).collect();
    starts.sort_unstable();
    assert!(starts.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(500)), "{starts:?}");
}

#[tokio::test]
async fn a_pause_voids_the_tokens_of_those_who_wait() {
    let settings = DeliverySettings { requests_per_second: Some(1.0), ..DeliverySettings::default() };
    // The others have their tokens for the next seconds when the answer comes.
    let late = |answer| Answer { after: Duration::from_millis(500), ..answer };
    let behave = move |attempt: &Attempt| late(if attempt.number == 0 { throttled(60) } else { status(200) });
    let done = deliver_with(Toy::default(), settings, &changes(40), behave).await;
    done.outcome.unwrap();
    let starts: Vec<Duration> = done.world.seen().attempts.iter().map(|attempt| attempt.at).collect();
    assert!(starts[1..].iter().all(|at| *at >= seconds(60)), "{starts:?}");
    assert!(starts[1..].windows(2).all(|pair| pair[1] - pair[0] >= seconds(1)), "{starts:?}");
}

#[tokio::test]
async fn a_failing_ledger_stops_everything() {
    let toy = Toy::default();
    let clock = Arc::new(SimulatedClock::default());
    let world = World::new(clock.clone(), |_| Answer { after: seconds(1), ..status(200) });
    let (random, outcomes) = (Random::seeded(7), RecordedOutcomes { fails_at: Some(2), ..RecordedOutcomes::default() });
    let (_signal, signalled) = watch::channel(Signal::Go);
    let settings = DeliverySettings { concurrency: 2, ..DeliverySettings::default() };
    let delivery = Delivery::new(&toy, &world, &*clock, &random, settings, signalled);
    let error = delivery.deliver(&changes(100), &outcomes).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Ledger);
    assert_eq!(outcomes.calls.lock().len(), 2, "two were settled");
    assert_eq!(world.seen().attempts.len(), 6, "two pairs were settled, a third was answered, nothing new was begun");
}

/// Delivers 40 changes, four requests of a minute each, and signals after ten seconds.
async fn stopped(signals: &[Signal], grace: Duration, after: Duration) -> (Result<()>, Vec<DeliveryOutcome>, Duration) {
    let toy = Toy::default();
    let clock = Arc::new(SimulatedClock::default());
    let world = World::new(clock.clone(), move |_| Answer { after, ..status(200) });
    let (random, outcomes) = (Random::seeded(7), RecordedOutcomes::default());
    let (signal, signalled) = watch::channel(Signal::Go);
    let settings = DeliverySettings { concurrency: 2, grace, ..DeliverySettings::default() };
    let delivery = Delivery::new(&toy, &world, &*clock, &random, settings, signalled);
    let changes = changes(40);
    let signals = async {
        for next in signals {
            clock.sleep(seconds(10)).await;
            signal.send_replace(*next);
        }
    };
    let (outcome, ()) = tokio::join!(delivery.deliver(&changes, &outcomes), signals);
    (outcome, outcomes.all(40), clock.elapsed())
}

#[tokio::test]
async fn asked_to_stop_the_requests_in_flight_finish_and_no_other_begins() {
    let (outcome, outcomes, ended_at) = stopped(&[Signal::Stop], seconds(30), seconds(25)).await;
    assert_eq!(outcome.unwrap_err().kind(), Kind::Interrupted);
    assert!(outcomes[..20].iter().all(|outcome| *outcome == DeliveryOutcome::Delivered));
    assert!(outcomes[20..].iter().all(|outcome| matches!(outcome, DeliveryOutcome::NotSent { .. })));
    assert_eq!(ended_at, seconds(25));
}

#[tokio::test]
async fn what_outlasts_the_grace_is_unknown() {
    for (signals, ended_at) in
        [(&[Signal::Stop][..], 15), (&[Signal::Abandon], 10), (&[Signal::Stop, Signal::Abandon], 15)]
    {
        let (outcome, outcomes, at) = stopped(signals, seconds(5), seconds(60)).await;
        assert_eq!(outcome.unwrap_err().kind(), Kind::Interrupted);
        assert!(outcomes[..20].iter().all(|outcome| matches!(outcome, DeliveryOutcome::Unconfirmed { .. })));
        assert!(outcomes[20..].iter().all(|outcome| matches!(outcome, DeliveryOutcome::NotSent { .. })));
        assert!(at == seconds(ended_at) || signals.len() > 1, "{at:?}");
    }
}

#[tokio::test]
async fn a_stop_cuts_waiting_short() {
    let toy = Toy::default();
    let clock = Arc::new(SimulatedClock::default());
    let world = World::new(clock.clone(), |_| throttled(300));
    let (random, outcomes) = (Random::seeded(7), RecordedOutcomes::default());
    let (signal, signalled) = watch::channel(Signal::Go);
    let delivery = Delivery::new(&toy, &world, &*clock, &random, DeliverySettings::default(), signalled);
    let changes = changes(40);
    let stop = async {
        clock.sleep(seconds(10)).await;
        signal.send_replace(Signal::Stop);
    };
    let (outcome, ()) = tokio::join!(delivery.deliver(&changes, &outcomes), stop);
    assert_eq!(outcome.unwrap_err().kind(), Kind::Interrupted);
    assert!(
        outcomes.all(40).iter().all(|outcome| matches!(outcome, DeliveryOutcome::NotSent { .. })),
        "a 429 applies nothing"
    );
    assert_eq!(clock.elapsed(), seconds(10));
}

#[test]
fn delivery_can_run_on_any_thread() {
    fn is_send<T: Send>(_: T) {}
    fn check(delivery: &Delivery<'_>, outcomes: &RecordedOutcomes) {
        is_send(delivery.deliver(&[], outcomes));
    }
    let _ = check;
}

/// The requests that are kept of each change: how many changes each carried, and whether it has a response.
async fn kept(
    keep: KeepRequests,
    changes: &[AddressedChange],
    behave: fn(&Attempt) -> Answer,
) -> Vec<Vec<(usize, bool)>> {
    let clock = Arc::new(SimulatedClock::default());
    let world = World::new(clock.clone(), behave);
    let (random, outcomes) = (Random::seeded(7), RecordedOutcomes::default());
    let (_signal, signalled) = watch::channel(Signal::Go);
    let (toy, settings) = (Toy::default(), DeliverySettings { keep, attempts_max: 2, ..DeliverySettings::default() });
    drop(Delivery::new(&toy, &world, &*clock, &random, settings, signalled).deliver(changes, &outcomes).await);
    let mut kept = vec![Vec::new(); changes.len()];
    for (index, requests) in outcomes.requests.lock().drain(..) {
        let of = |of: ChangeRequest| {
            let exchange = of.request.exchange.masked();
            assert_eq!(of.part.is_some(), of.request.changes > 1);
            (of.request.changes, exchange.response.is_some())
        };
        kept[index] = requests.into_iter().map(of).collect();
    }
    kept
}

#[tokio::test]
async fn the_last_requests_of_what_was_not_delivered_are_kept() {
    let poison = |attempt: &Attempt| {
        let guilty = attempt.elements.iter().any(|(key, _)| key == "g3");
        if guilty { status(400) } else { status(200) }
    };
    let of_g3 = |kept: Vec<Vec<(usize, bool)>>, others: usize| {
        assert_eq!(kept[3], [(1, true)], "the request in which it was alone");
        assert_eq!(kept.iter().enumerate().filter(|(at, of)| *at != 3 && !of.is_empty()).count(), others);
    };
    of_g3(kept(KeepRequests::Undelivered, &changes(20), poison).await, 0);
    of_g3(kept(KeepRequests::Always, &changes(20), poison).await, 19);
    assert!(kept(KeepRequests::Never, &changes(20), poison).await.iter().all(Vec::is_empty));
    // Nothing responds: each group has the request it was in, though nothing more was sent about it.
    let silent = kept(KeepRequests::Undelivered, &changes(5), |_| lost(Applied::No, false)).await;
    assert!(silent.iter().all(|of| *of == [(5, false)]), "{silent:?}");
    // What is rejected without a request has none; of a change in parts, the part that was rejected is of interest.
    let without_y = |attempt: &Attempt| {
        let has_y = attempt.elements.iter().any(|(_, names)| names.iter().any(|name| name == "y"));
        if has_y { status(400) } else { status(200) }
    };
    let parts = [change("local", &["x"], &[]), change("g", &["x"], &["y"])];
    assert_eq!(kept(KeepRequests::Undelivered, &parts, without_y).await, [vec![], vec![(1, true)]]);
    assert_eq!(kept(KeepRequests::Always, &parts, without_y).await, [vec![], vec![(1, true), (1, true)]]);
}
