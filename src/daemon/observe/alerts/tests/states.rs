//! Which changes are reported.

use std::time::Duration;

use super::*;
use proptest::prelude::*;

const HOUR: Duration = Duration::from_secs(3_600);

/// Feeds whole, full runs and returns what was reported, as events with titles.
fn reported(runs: &[RunDetail]) -> Vec<(Event, String)> {
    let mut state = AlertState::default();
    let messages = runs.iter().filter_map(|run| state.run_ended(&ended(run), 0));
    messages.map(|message| (message.event, message.title.replace("accounts → crm: ", ""))).collect()
}

fn assert_reported(reported: &[(Event, String)], expected: &[(Event, &str)]) {
    let reported: Vec<(Event, &str)> = reported.iter().map(|(event, title)| (*event, title.as_str())).collect();
    assert_eq!(reported, expected);
}

#[test]
fn good_runs_are_silent() {
    assert_reported(&reported(&[good(0), good(10)]), &[]);
}

#[test]
fn a_failure_is_reported_once_and_its_end_with_how_long_it_was() {
    let runs = [failed(0, "source"), failed(60, "source"), failed(120, "source"), good(180), good(240)];
    assert_reported(
        &reported(&runs),
        &[(Event::Failed, "runs fail (source)"), (Event::Recovered, "recovered after 3 h 1 min and 3 failed runs")],
    );
}

#[test]
fn another_kind_of_failure_is_reported_and_goes_on_from_the_first() {
    let guarded = run(20, RunStatus::StoppedByGuard, Some("guard"));
    let incomplete = run(30, RunStatus::Incomplete, Some("destination"));
    assert_reported(
        &reported(&[failed(0, "source_busy"), failed(10, "source"), guarded.clone(), guarded, incomplete, good(59)]),
        &[
            (Event::Failed, "runs fail (source_busy)"),
            (Event::Failed, "runs fail (source)"),
            (Event::GuardStopped, "stopped by the guard `removed`"),
            (Event::Failed, "runs fail (destination)"),
            (Event::Recovered, "recovered after 1 h and 5 failed runs"),
        ],
    );
}

#[test]
fn a_crashed_run_and_an_unclassified_one_are_failures() {
    assert_reported(
        &reported(&[run(0, RunStatus::Crashed, None), run(1, RunStatus::Failed, None)]),
        &[(Event::Failed, "runs fail (crashed)"), (Event::Failed, "runs fail (unknown)")],
    );
}

#[test]
fn stopped_limited_and_partial_runs_say_nothing_about_a_sync() {
    let mut state = AlertState::default();
    assert!(state.run_ended(&ended(&failed(0, "source")), 0).is_some());
    let before = state.clone();
    for run in [
        run(10, RunStatus::Incomplete, Some("interrupted")),
        run(10, RunStatus::Failed, Some("interrupted")),
        run(10, RunStatus::Incomplete, None),
        run(10, RunStatus::Running, None),
    ] {
        assert_eq!(state.run_ended(&ended(&run), 0), None, "{run:?}");
    }
    for run in [good(10), failed(10, "destination")] {
        assert_eq!(state.run_ended(&Ended { whole: false, ..ended(&run) }, 0), None, "one group only");
    }
    assert_eq!(state, before);
}

#[test]
fn rejections_are_reported_above_the_threshold_and_when_they_fall_back() {
    let mut state = AlertState::default();
    let mut reported = |rejected: u64, full: bool, known: u64| {
        let mut run = good(0);
        run.run.counts = Some(Counts {
            rows: 100,
            changes: OutcomeCounts { rejected: rejected / 2, ..OutcomeCounts::default() },
            removed: OutcomeCounts { rejected: rejected - rejected / 2, ..OutcomeCounts::default() },
            ..Counts::default()
        });
        let message = state.run_ended(&Ended { full, rejected_groups: known, ..ended(&run) }, 10)?;
        assert_eq!(message.rejected, Some(if full { rejected } else { rejected.max(known) }));
        Some((message.event, message.title))
    };
    assert_eq!(reported(10, true, 0), None, "as many as allowed");
    let rejected = "accounts → crm: 11 rejected groups".to_owned();
    assert_eq!(reported(11, true, 0), Some((Event::Rejected, rejected)));
    assert_eq!(reported(50, true, 0), None, "reported already");
    assert_eq!(reported(0, false, 11), None, "an incremental run does not see those of earlier runs");
    let fallen = "accounts → crm: rejected groups are down to 3".to_owned();
    assert_eq!(reported(3, true, 99), Some((Event::Recovered, fallen)), "a full run is exact");
    assert!(reported(0, false, 11).is_some());
    assert!(reported(0, false, 10).is_some());
}

#[test]
fn rejections_and_failures_take_turns() {
    let rejected = |minute| run(minute, RunStatus::SucceededWithRejections, None);
    assert_reported(
        &reported(&[rejected(0), failed(10, "source"), rejected(20), rejected(30), good(40)]),
        &[
            (Event::Rejected, "5 rejected groups"),
            (Event::Failed, "runs fail (source)"),
            (Event::Rejected, "5 rejected groups; recovered after 11 min and 1 failed run"),
            (Event::Recovered, "rejected groups are down to 0"),
        ],
    );
}

#[test]
fn messages_carry_what_a_person_and_a_machine_need() {
    let mut state = AlertState::default();
    let guarded = run(0, RunStatus::StoppedByGuard, Some("guard"));
    let message = state.run_ended(&ended(&guarded), 0).unwrap();
    assert_eq!(message.guard.as_deref(), Some("removed"));
    assert_eq!((message.at, message.bad_since, message.failed_runs), (at(1), at(0), 1));
    assert_eq!(
        message.text,
        "accounts → crm: stopped by the guard `removed`\n\
         stopped by the guard `removed` before anything was sent: 21 of 100\n\
         Next step: look at `groupcast plan accounts`; if this is right, accept it once with \
         `groupcast run accounts --accept removed`\n\
         Run run-0: 100 rows, 100 unchanged"
    );
    let failing = failed(10, "source");
    let own = Ended { advice: Some("grant SELECT"), ..ended(&failing) };
    assert_eq!(state.run_ended(&own, 0).unwrap().advice.as_deref(), Some("grant SELECT"));
    let message = state.run_ended(&ended(&good(20)), 0).unwrap();
    assert_eq!((message.error, message.error_kind, message.advice), (None, None, None));
    assert_eq!((message.run.as_deref(), message.status), (Some("run-20"), Some(RunStatus::Succeeded)));
}

#[test]
fn a_sync_is_late_once_and_until_a_run_ends_well() {
    let mut state = AlertState::default();
    let view = overdue(Some(0));
    let mut look = |minute, view: &SyncView| state.check(at(minute), std::slice::from_ref(view), HOUR);
    assert_eq!(look(59, &view), []);
    let message = look(60, &view).pop().unwrap();
    assert_eq!((message.event, message.title.as_str()), (Event::Late, "accounts → crm: late by 1 h"));
    assert_eq!((message.run, message.at, message.bad_since), (None, at(60), at(0)));
    assert_eq!(look(61, &view), []);
    assert_eq!(look(62, &overdue(None)), [], "a run is under way; whether it ends well is open");
    let message = state.run_ended(&ended(&good(62)), 0).unwrap();
    assert_eq!(message.title, "accounts → crm: recovered after 1 h 3 min");
}

#[test]
fn a_sync_that_runs_every_few_minutes_is_late_too() {
    use crate::mapping::{CatchUp, Overlap};
    use crate::scheduler::cron::{SyncSchedule, Trigger};
    use crate::scheduler::timetable::{RunHistory, Timetable};
    let plan = SyncSchedule {
        sync: "accounts".to_owned(),
        trigger: Trigger::Every(chrono::TimeDelta::minutes(5)),
        jitter: Duration::ZERO,
        catch_up: CatchUp::Once,
        overlap: Overlap::Skip,
    };
    let mut table = Timetable::resume(plan, RunHistory::default(), at(0));
    let mut state = AlertState::default();
    let mut reported = Vec::new();
    // Due at once, and there is no room for two hours.
    for minute in 0..120 {
        table.tick(at(minute));
        let mut view = overdue(None);
        if let Some(schedule) = &mut view.schedule {
            schedule.overdue_since = table.overdue_since();
        }
        reported.extend(state.check(at(minute), &[view], HOUR).into_iter().map(|message| (minute, message.title)));
    }
    assert_eq!(reported, [(60, "accounts → crm: late by 1 h".to_owned())]);
    table.started(at(120));
    table.ended(true, at(121));
    assert!(state.run_ended(&ended(&good(120)), 0).unwrap().title.contains("recovered after 2 h"));
    assert_eq!(table.overdue_since(), None);
}

#[test]
fn a_late_run_that_fails_is_reported_as_a_failure_since_it_was_late() {
    let mut state = AlertState::default();
    assert_eq!(state.check(at(90), &[overdue(Some(0))], HOUR).len(), 1);
    let message = state.run_ended(&ended(&failed(91, "source")), 0).unwrap();
    assert_eq!((message.event, message.bad_since, message.failed_runs), (Event::Failed, at(0), 1));
    assert_eq!(state.check(at(900), &[overdue(Some(100))], HOUR), [], "failing explains why it is late");
    // Rejections do not explain it.
    let rejecting = run(901, RunStatus::SucceededWithRejections, None);
    assert!(state.run_ended(&ended(&rejecting), 0).is_some());
    assert_eq!(state.check(at(990), &[overdue(Some(920))], HOUR).len(), 1);
}

#[test]
fn whoever_is_not_waited_for_is_not_late() {
    let activity = |change: fn(&mut SyncActivity)| {
        let mut view = overdue(Some(0));
        change(view.activity.as_mut().unwrap());
        view
    };
    for view in [
        activity(|activity| activity.state = Doing::Paused),
        activity(|activity| activity.paused_since = Some(at(0))),
        activity(|activity| activity.state = Doing::Disabled),
        SyncView { enabled: false, ..overdue(Some(0)) },
        SyncView { schedule: None, ..overdue(Some(0)) },
        overdue(None),
    ] {
        assert_eq!(AlertState::default().check(at(9_999), &[view], HOUR), []);
    }
    let waiting = activity(|activity| activity.state = Doing::Queued);
    let message = AlertState::default().check(at(60), &[waiting], HOUR).pop().unwrap();
    assert!(message.advice.unwrap().contains("parallel_runs"));
    let running = activity(|activity| activity.state = Doing::Running);
    let message = AlertState::default().check(at(60), &[running], HOUR).pop().unwrap();
    assert!(message.advice.unwrap().contains("still under way"), "what it does not serve is late");
}

#[test]
fn a_sync_that_left_the_config_is_forgotten() {
    let mut state = AlertState::default();
    assert!(state.run_ended(&ended(&failed(0, "source")), 0).is_some());
    assert_eq!(state.check(at(1), &[], HOUR), []);
    assert_eq!(state, AlertState::default());
}

#[test]
fn mistakes_in_a_mapping_are_reported_once_and_so_is_their_end() {
    let mistaken = |sync: &str, runs| Mistaken {
        sync: sync.to_owned(),
        error: Error::new(crate::error::Kind::Config, "`sorce` is unknown").advise("did you mean `source`?"),
        runs,
    };
    let mut state = AlertState::default();
    let messages = state.check_mappings(at(0), &[mistaken("accounts", true), mistaken("teams", false)]);
    let titles: Vec<&str> = messages.iter().map(|message| message.title.as_str()).collect();
    assert_eq!(
        titles,
        [
            "accounts: the mapping has mistakes; its last valid version stays in use",
            "teams: the mapping has mistakes; the sync does not run"
        ]
    );
    assert_eq!((messages[0].event, messages[0].error.as_deref()), (Event::MappingInvalid, Some("`sorce` is unknown")));
    assert!(messages[0].text.contains("Next step: did you mean `source`?"), "{}", messages[0].text);
    assert_eq!(state.check_mappings(at(1), &[mistaken("accounts", true), mistaken("teams", false)]), []);
    // What fails or is late beside it is reported apart, and a restart changes nothing.
    assert!(state.run_ended(&ended(&failed(2, "source")), 0).is_some());
    let stored = serde_json::to_string(&state).unwrap();
    let mut state: AlertState = serde_json::from_str(&stored).unwrap();
    let messages = state.check_mappings(at(60), &[mistaken("teams", false)]);
    assert_eq!(messages.len(), 1);
    let recovered = (messages[0].event, messages[0].title.as_str());
    assert_eq!(recovered, (Event::Recovered, "accounts: the mapping was corrected or removed after 1 h"));
}

#[test]
fn what_was_reported_survives_a_restart() {
    let first = Alerts::new(Some(&settings("https://hooks.example/T0/B0", "slack")), None).unwrap();
    assert!(first.to_store().is_some(), "the empty state, once");
    assert_eq!(first.to_store(), None, "nothing new");
    first.run_ended(&ended(&failed(0, "source")));
    let kept = first.to_store().unwrap();
    assert!(!kept.contains("hooks.example"), "{kept}");
    let second = Alerts::new(Some(&settings("https://hooks.example/T0/B0", "slack")), Some(&kept)).unwrap();
    second.run_ended(&ended(&failed(10, "source")));
    let titles: Vec<String> = second.sender.unsent().into_iter().map(|message| message.title).collect();
    assert_eq!(titles, ["accounts → crm: runs fail (source)"], "the one that had not arrived, and no second one");
    second.run_ended(&ended(&good(20)));
    assert_eq!(second.sender.unsent()[1].failed_runs, 2, "counted on");
    // The shape on disk is a promise to the next version.
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&kept).unwrap()["told"],
        serde_json::json!({"accounts": {"state": {"failing": {"kind": "source"}}, "since": "2026-11-22T00:00:00Z", "failed_runs": 1}})
    );
    for broken in ["", "{", r#"{"told": 7}"#] {
        let alerts = Alerts::new(Some(&settings("https://hooks.example/T0/B0", "slack")), Some(broken)).unwrap();
        alerts.run_ended(&ended(&failed(10, "source")));
        assert_eq!(alerts.sender.unsent().len(), 1, "{broken}");
    }
}

#[test]
fn without_a_webhook_nothing_is_watched() {
    for none in [None, Some(&config::Alerts::default())] {
        let alerts = Alerts::new(none, None).unwrap();
        alerts.run_ended(&ended(&failed(0, "source")));
        alerts.check(at(600), &[overdue(Some(0))], &[]);
        assert!(alerts.sender.unsent().is_empty());
        // Once there is one, its problems are reported.
        alerts.configure(Some(&settings("http://127.0.0.1:1/x", "json"))).unwrap();
        alerts.run_ended(&ended(&failed(10, "source")));
        assert_eq!(alerts.sender.unsent().len(), 1);
        alerts.configure(None).unwrap();
        assert!(alerts.sender.unsent().is_empty());
    }
}

#[test]
fn an_address_that_is_none_is_refused_without_being_shown() {
    for url in ["hooks.example/secret-path", "file:///etc/passwd-secret", "", "http//secret"] {
        let error = Alerts::new(Some(&settings(url, "slack")), None).err().unwrap();
        assert_eq!(error.kind(), crate::error::Kind::Config);
        assert!(!error.to_string().contains("secret") && error.advice().is_some(), "{error}");
    }
    assert!(Alerts::new(Some(&settings("https://x.example", "xml")), None).is_err());
    let alerts = Alerts::new(Some(&settings("https://x.example", "json")), None).unwrap();
    assert!(alerts.configure(Some(&settings("nothing", "json"))).is_err());
    assert!(alerts.sender.has_target(), "the old one stays");
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Good,
    Rejected,
    Failed(&'static str),
    Guarded,
    Stopped,
    Late,
    OnTime,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Good),
        Just(Step::Rejected),
        Just(Step::Failed("source")),
        Just(Step::Failed("destination")),
        Just(Step::Guarded),
        Just(Step::Stopped),
        Just(Step::Late),
        Just(Step::OnTime),
    ]
}

proptest! {
    /// No message repeats the one before it, a recovery only follows a problem, and a good run is always
    /// followed by a clean slate. A restart in between changes nothing.
    #[test]
    fn no_message_comes_twice_in_a_row(steps in prop::collection::vec(step(), 1..40)) {
        let mut state = AlertState::default();
        let mut last: Option<(Event, Option<String>, Option<String>)> = None;
        for (index, step) in steps.into_iter().enumerate() {
            let minute = 100 * index as i64;
            let text = serde_json::to_string(&state).unwrap();
            state = serde_json::from_str(&text).unwrap();
            let run = match step {
                Step::Good => good(minute),
                Step::Rejected => run(minute, RunStatus::SucceededWithRejections, None),
                Step::Failed(kind) => failed(minute, kind),
                Step::Guarded => run(minute, RunStatus::StoppedByGuard, Some("guard")),
                Step::Stopped => run(minute, RunStatus::Incomplete, Some("interrupted")),
                Step::Late | Step::OnTime => good(minute),
            };
            let message = match step {
                Step::Late => state.check(at(minute), &[overdue(Some(minute - 90))], HOUR).pop(),
                Step::OnTime => state.check(at(minute), &[overdue(None)], HOUR).pop(),
                _ => state.run_ended(&ended(&run), 0),
            };
            if let Some(message) = message {
                let reported = (message.event, message.error_kind.clone(), message.guard.clone());
                prop_assert_ne!(last.as_ref(), Some(&reported));
                if message.event == Event::Recovered {
                    prop_assert!(last.as_ref().is_some_and(|(event, ..)| *event != Event::Recovered));
                }
                prop_assert!(message.bad_since <= message.at);
                last = Some(reported);
            }
            if matches!(step, Step::Good) {
                prop_assert_eq!(&state, &AlertState::default());
            }
        }
    }
}
