//! A bad night: seven syncs in every state, with hostile texts in every place.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::config::{Delivery, DestinationSettings};
use crate::delivery::{Latency, LogLevel, LogLine, LogLines};
use crate::io::http::exchange::{Excerpt, Exchange, HttpHeader, ReceivedResponse, SentRequest};
use crate::ledger::{ChangeOutcome, GroupCounts, RunStatus};
use crate::mapping::Compare;
use crate::model::setting::SettingValues;
use crate::model::{Change, Traits};
use crate::service::views::{
    ActivityState, ChangeView, DestinationView, GroupRequestView, MappingView, MirrorView, QueuedRunView, RunProgress,
    RunView, ScheduleView, ScheduledTime, SyncActivity, SyncDetail, SyncView, TraitView, destination,
};
use crate::sync::guard::Reading;
use crate::sync::mirror::MirrorReport;
use crate::sync::report::{Counts, Detail, OutcomeCounts};
use crate::sync::timeline::Timeline;
use crate::sync::trait_counts::TraitCounts;
use crate::sync::{GroupKeys, RunOptions};

/// Keys that try to be something else.
pub(super) const HOSTILE_KEYS: [&str; 6] = [
    "\"><script>alert(1)</script>",
    "acct\u{202e}gpj.exe",
    "nul\0key",
    "a b&c=d/é?#%41+",
    "' onmouseover='alert(1)",
    "line\r\nbreak",
];
pub(super) const HOSTILE_SYNC: &str = "usage <b>&\"ü";
pub(super) const HOSTILE_WORDS: &str =
    "400 Bad Request: <img src=x onerror=alert(1)> \u{202e}drow\u{202c} isn't \"valid\"";

pub(super) fn at(minutes_ago: i64) -> DateTime<Utc> {
    "2026-11-22T03:12:00Z".parse::<DateTime<Utc>>().unwrap() - TimeDelta::minutes(minutes_ago)
}

pub(super) fn traits(value: Value) -> Traits {
    match value {
        Value::Object(traits) => traits,
        other => panic!("no traits: {other}"),
    }
}

pub(super) fn counts(rows: u64, delivered: u64, rejected: u64) -> Counts {
    Counts {
        rows,
        unchanged: rows - delivered - rejected,
        changes: OutcomeCounts { delivered, rejected, ..OutcomeCounts::default() },
        rejected_unchanged: rejected / 2,
        new: delivered / 10,
        traits_set: delivered * 2,
        traits_unset: delivered / 7,
        requests: delivered.div_ceil(100) + 2,
        retries: 2,
        ..Counts::default()
    }
}

pub(super) fn run(sync: &str, number: usize, minutes_ago: i64, status: RunStatus, counts: Option<Counts>) -> RunView {
    let started_at = at(minutes_ago);
    RunView {
        holder: None,
        sync: sync.to_owned(),
        run: format!("{}-{number:04x}", started_at.format("%Y%m%dT%H%M%S%.3fZ")),
        status,
        started_at,
        ended_at: (status != RunStatus::Running && status != RunStatus::Crashed)
            .then(|| started_at + TimeDelta::milliseconds(21_000 + 1_700 * (number as i64 % 7))),
        started_by: "schedule".to_owned(),
        counts,
        error: None,
        error_kind: None,
        guard: (status == RunStatus::StoppedByGuard).then(|| "removed".to_owned()),
    }
}

pub(super) fn failed(mut run: RunView, kind: &str, error: &str) -> RunView {
    run.error = Some(error.to_owned());
    run.error_kind = Some(kind.to_owned());
    run
}

pub(super) fn readings(trips: bool) -> Vec<Reading> {
    let reading = |guard: &str, what: &str, part, whole, share_max, trips| Reading {
        guard: guard.to_owned(),
        what: what.to_owned(),
        part,
        whole,
        share_max,
        exact: true,
        trips,
        message: None,
        advice: None,
    };
    let removed = if trips { 480 } else { 12 };
    vec![
        reading("keys", "rows without a usable key", 0, 720, None, false),
        reading("empty", "rows the model yields", 720, 1_200, None, false),
        reading("rows-dropped", "rows fewer than at the last run", 3, 723, Some(0.3), false),
        reading("removed", "known groups that would be removed", removed, 1_200, Some(0.2), trips),
        Reading {
            exact: false,
            ..reading("changed", "known groups whose held values are replaced or removed", 41, 1_200, Some(0.5), false)
        },
        reading("nulled", "known groups of which one trait turns null", 0, 0, Some(0.2), false),
    ]
}

fn latency() -> Latency {
    let mut latency = Latency::default();
    (0..392_u64)
        .for_each(|at| latency.record(Duration::from_millis(38 + at * at % 91 + if at % 40 == 0 { 2_000 } else { 0 })));
    latency
}

pub(super) fn detail(trips: bool) -> Detail {
    let mut timeline = Timeline { slot_ms: 500, ..Timeline::default() };
    for slot in 0..44_u64 {
        timeline.requests.push(if slot % 11 == 7 { 0 } else { 3 + slot * 5 % 13 });
        timeline.retries.push(if (18..24).contains(&slot) && slot % 11 != 7 { 2 } else { 0 });
    }
    Detail {
        full: true,
        beyond_limit: 0,
        found: None,
        guards: readings(trips),
        by_status: if trips { BTreeMap::new() } else { [(0, 2), (200, 380), (429, 9), (503, 1)].into() },
        rate_wait_ms: 4_200,
        retry_wait_ms: 61_000,
        bytes: 1_734_221,
        traits_sent: 12_400,
        timeline: if trips { Timeline::default() } else { timeline },
        remarks: vec!["2 rows have a `touched` in the future by the server's clock".to_owned()],
        warnings: [(HOSTILE_WORDS.to_owned(), 3)].into(),
        latency: if trips { Latency::default() } else { latency() },
        traits: if trips {
            BTreeMap::new()
        } else {
            [("plan", 12, 700, 0), ("churned_at", 0, 3, 116), ("x\" onclick=\"alert(1)", 1, 0, 0)]
                .map(|(name, added, changed, unset)| (name.to_owned(), TraitCounts { added, changed, unset }))
                .into()
        },
        log: if trips { LogLines::default() } else { log() },
        advice: None,
        problems: Vec::new(),
        mirror: None,
        stopped_by: None,
    }
}

/// How a destination responded: the runs of `syncs` that have counts.
pub(super) fn destination_view(name: &str, names: Vec<String>, syncs: &[SyncDetail]) -> DestinationView {
    let delivery = Delivery { requests_per_second: Some(95.5), ..Delivery::default() };
    let settings = DestinationSettings {
        name: name.to_owned(),
        kind: "amplitude".to_owned(),
        delivery,
        values: SettingValues::new(toml::Table::new()),
    };
    let runs = syncs.iter().flat_map(|sync| &sync.runs).filter(|run| run.counts.is_some());
    let runs = runs.take(30).map(|run| (run.clone(), detail(run.status == RunStatus::StoppedByGuard))).collect();
    destination::view(&settings, names, runs)
}

/// A log with something of every kind.
fn log() -> LogLines {
    let line = |seconds: i64, level, text: &str, times| LogLine {
        at: at(70) + TimeDelta::seconds(seconds),
        level,
        text: text.to_owned(),
        times,
    };
    LogLines {
        lines: vec![
            line(2, LogLevel::Info, "read 1,221,000 rows: 5,120 to compare, 1,215,880 unchanged", None),
            line(3, LogLevel::Warning, "HTTP 429: slow down; requests pause for 15s", Some(9)),
            line(9, LogLevel::Warning, HOSTILE_WORDS, None),
            line(
                21,
                LogLevel::Error,
                &format!("destination amplitude eu: {HOSTILE_WORDS} {}", "long ".repeat(60)),
                None,
            ),
        ],
        dropped: 1_234,
        before_dropped: 2,
    }
}

pub(super) fn activity(state: ActivityState) -> SyncActivity {
    SyncActivity {
        holder: None,
        state,
        running: None,
        queued: None,
        paused_since: None,
        failures: 0,
        next_attempt_at: None,
    }
}

pub(super) fn schedule(written: &str, in_minutes: &[i64]) -> ScheduleView {
    let fire = |minutes: &i64| {
        let utc = at(-minutes);
        let berlin = utc.with_timezone(&crate::time_zone::Zone::named("Europe/Berlin").unwrap());
        ScheduledTime { local: berlin.to_rfc3339_opts(SecondsFormat::Secs, false), utc }
    };
    ScheduleView {
        expression: written.to_owned(),
        timezone: "Europe/Berlin".to_owned(),
        overdue_since: None,
        next: in_minutes.iter().map(fire).collect(),
    }
}

pub(super) fn sync(name: &str, state: ActivityState, schedule: Option<ScheduleView>, runs: Vec<RunView>) -> SyncDetail {
    let well = |run: &&RunView| matches!(run.status, RunStatus::Succeeded | RunStatus::SucceededWithRejections);
    let mapped = |name: &str, from: &str, kind: Option<&str>, op: &str| TraitView {
        name: name.to_owned(),
        from: from.to_owned(),
        kind: kind.map(str::to_owned),
        op: op.to_owned(),
        on_null: "unset".to_owned(),
        always: false,
    };
    SyncDetail {
        sync: SyncView {
            sync: name.to_owned(),
            source: "warehouse".to_owned(),
            destination: "amplitude eu".to_owned(),
            destination_type: "amplitude".to_owned(),
            group_type: "company".to_owned(),
            enabled: state != ActivityState::Disabled,
            tags: if name == "billing" { vec!["nightly".to_owned(), "finance".to_owned()] } else { Vec::new() },
            groups: GroupCounts { synced: 1_204_331, unconfirmed: 0, rejected: 0 },
            schedule,
            last_run: runs.first().cloned(),
            last_success_at: runs.iter().find(well).and_then(|run| run.ended_at),
            compare: Default::default(),
            mirror: None,
            activity: Some(activity(state)),
        },
        mapping: MappingView {
            file: format!("mappings/{name}.toml"),
            model: "analytics.dim_accounts".to_owned(),
            filter: Some("is_customer AND name <> '<script>'".to_owned()),
            key: "account_id".to_owned(),
            cursor: None,
            traits: vec![
                mapped("name", "account_name", None, "set"),
                mapped("arr", "arr_cents / 100", Some("number"), "set"),
                mapped("first_plan", "plan", Some("string"), "set_once"),
                mapped("x\" onclick=\"alert(1)", "<script>alert(1)</script>", Some("date"), "set"),
                mapped(
                    "address",
                    &format!("{{ city = billing_city, {} }}", "street = billing_street, ".repeat(8)),
                    None,
                    "set",
                ),
            ],
            policy: [
                ("on_null", "unset"),
                ("on_missing", "keep"),
                ("on_removed_trait", "unset"),
                ("on_duplicate", "fail"),
            ]
            .map(|(name, word)| (name.to_owned(), word.to_owned()))
            .into(),
        },
        last: (!runs.is_empty()).then(|| detail(false)),
        runs,
    }
}

pub(super) fn change_view(key: &str, outcome: &str) -> ChangeView {
    let mut change = Change { set: traits(json!({"plan": "pro", "arr": 120_000})), ..Change::default() };
    change.unset.insert("churned_at".to_owned());
    let refused = outcome.contains("reject");
    ChangeView {
        key: key.to_owned(),
        at: at(70),
        outcome: outcome.to_owned(),
        reason: refused.then(|| HOSTILE_WORDS.to_owned()),
        change,
    }
}

/// A request that was rejected with many groups, and one without a response.
pub(super) fn kept_requests(run: &str) -> Vec<GroupRequestView> {
    let body = format!(
        "{{\"api_key\":\"***\",\"events\":[\"</pre><script>alert(1)</script>\u{202e}\",{}]}}",
        "1,".repeat(20_000)
    );
    let header = |name: &str, value: &str| HttpHeader { name: name.to_owned(), value: value.to_owned() };
    let request = SentRequest {
        method: "POST".to_owned(),
        url: "https://api.eu.amplitude.com/2/httpapi?<b>".to_owned(),
        headers: vec![header("content-type", "application/json"), header("authorization", "***")],
        body: Excerpt { text: body, bytes_left_out: 12_345 },
    };
    let response = ReceivedResponse {
        status: 400,
        headers: vec![header("content-type", "text/html")],
        body: Excerpt { text: HOSTILE_WORDS.to_owned(), bytes_left_out: 0 },
    };
    let exchange =
        Exchange { sent_at: at(70), took_ms: 1_234, attempts: 3, request, response: Some(response), no_response: None };
    let silent =
        Exchange { response: None, no_response: Some("no response within 30 s".to_owned()), ..exchange.clone() };
    let (run, outcome) = (run.to_owned(), ChangeOutcome::Rejected);
    let part = Some(Excerpt { text: "{\"group_properties\":{\"note\":\"<img>\"}}".to_owned(), bytes_left_out: 0 });
    let first = GroupRequestView { run, outcome, at: at(70), groups: 1_000, part, exchange };
    let second = GroupRequestView { groups: 1, part: None, exchange: silent, ..first.clone() };
    vec![first, second]
}

pub(super) fn syncs() -> Vec<SyncDetail> {
    let history = |name: &str, every: i64, offset: i64| -> Vec<RunView> {
        (0..24_usize)
            .map(|index| {
                let ago = offset + every * index as i64;
                match index {
                    5 => failed(
                        run(name, index, ago, RunStatus::Failed, None),
                        "source_busy",
                        "source warehouse: connection refused",
                    ),
                    11 => run(name, index, ago, RunStatus::Crashed, None),
                    _ => {
                        let rows = 1_200_000 + 900 * (24 - index as u64);
                        let rejected = if index % 6 == 0 { 14 } else { 0 };
                        let status =
                            if rejected > 0 { RunStatus::SucceededWithRejections } else { RunStatus::Succeeded };
                        run(name, index, ago, status, Some(counts(rows, 800 + 613 * (index as u64 * 7 % 11), rejected)))
                    }
                }
            })
            .collect()
    };
    let mut accounts = history("accounts", 45, 40);
    let mut now = run("accounts", 99, 1, RunStatus::Running, None);
    now.started_by = "console".to_owned();
    let progress = RunProgress {
        run: now.run.clone(),
        started_at: now.started_at,
        started_by: "console".to_owned(),
        phase: "sending".to_owned(),
        rows_read: 1_221_000,
        candidates: Some(5_120),
        done: 1_733,
        requests: 18,
        retries: 2,
        per_second: Some(48.4),
    };
    accounts.insert(0, now);
    let mut all = vec![sync("accounts", ActivityState::Running, Some(schedule("every 45m", &[4, 49, 94])), accounts)];
    all[0].sync.activity.as_mut().unwrap().running = Some(progress);
    all[0].mapping.cursor = Some("updated_at".to_owned());
    all[0].mapping.model =
        "SELECT *\nFROM analytics.dim_accounts\nWHERE note <> '</pre><script>alert(1)</script>'".to_owned();

    let mut billing = history("billing", 1_440, 1_500);
    let stopped = "sync billing: stopped by the guard `removed` before anything was sent: 480 of 1200 known groups left the model and would be removed (40.0 %, at most 20.0 % pass)";
    billing.insert(
        0,
        failed(
            run(
                "billing",
                98,
                72,
                RunStatus::StoppedByGuard,
                Some(Counts { rows: 720, unchanged: 720, missing: 480, ..Counts::default() }),
            ),
            "guard",
            stopped,
        ),
    );
    let mut guarded = sync("billing", ActivityState::Scheduled, Some(schedule("0 2 * * *", &[1_368, 2_808])), billing);
    guarded.last = Some(detail(true));
    all.push(guarded);

    let mut crm = history("crm", 60, 71);
    let mut odd = counts(5_230, 812, 14);
    odd.changes.pending = 3;
    odd.unchanged -= 3;
    odd.missing = 21;
    odd.removed = OutcomeCounts { delivered: 20, rejected: 1, ..OutcomeCounts::default() };
    crm[0].counts = Some(odd);
    all.push(sync("crm", ActivityState::Queued, Some(schedule("after accounts", &[])), crm));
    all[2].sync.groups = GroupCounts { synced: 5_230, unconfirmed: 3, rejected: 7 };
    all[2].sync.activity.as_mut().unwrap().queued = Some(QueuedRunView {
        run: "20261122T031100.000Z-beef".to_owned(),
        since: at(1),
        options: RunOptions {
            full: true,
            accept: ["keys".to_owned()].into(),
            group: Some(GroupKeys::one(HOSTILE_KEYS[0])),
            ..RunOptions::default()
        },
    });

    // Its mirror was replaced behind our back, and could not be written since.
    all[2].sync.compare = Compare::Warehouse;
    all[2].sync.mirror = Some(MirrorView {
        table: "groupcast_crm_<b>_a".to_owned(),
        schema: "groupcast_mirror".to_owned(),
        keys: 5_230,
        rows: 7_412,
        unmirrored: 3,
        made_at: at(1_500),
        reason: Some("the mirror does not hold what it should".to_owned()),
        behind_since: Some(at(71)),
    });
    let crm_run = all[2].last.as_mut().unwrap();
    crm_run.mirror = Some(MirrorReport {
        compared: Compare::Warehouse,
        rows_read: 829,
        keys: 5_230,
        unmirrored: 3,
        ..MirrorReport::default()
    });

    all.push(sync("fresh", ActivityState::Manual, None, Vec::new()));
    all[3].sync.groups = GroupCounts::default();
    all.push(sync(
        "legacy",
        ActivityState::Disabled,
        None,
        vec![run("legacy", 1, 60_000, RunStatus::Succeeded, Some(counts(12, 12, 0)))],
    ));
    all[4].sync.compare = Compare::Warehouse;
    all[4].last.as_mut().unwrap().mirror = Some(MirrorReport {
        reason: Some(format!("the mirror could not be made: {HOSTILE_WORDS}")),
        ..MirrorReport::default()
    });
    all.push(sync(
        "paused",
        ActivityState::Paused,
        Some(schedule("30 5 * * 1-5", &[78])),
        history("paused", 1_440, 8_000),
    ));
    all[5].sync.activity.as_mut().unwrap().paused_since = Some(at(7_000));

    let mut usage = vec![
        failed(
            run(HOSTILE_SYNC, 2, 30, RunStatus::Failed, None),
            "destination",
            &format!("destination amplitude eu: {HOSTILE_WORDS}"),
        ),
        run(HOSTILE_SYNC, 1, 90, RunStatus::Crashed, None),
        run(HOSTILE_SYNC, 0, 150, RunStatus::Succeeded, Some(counts(77, 0, 0))),
    ];
    usage[0].started_by = "retry".to_owned();
    all.push(sync(HOSTILE_SYNC, ActivityState::BackingOff, Some(schedule("*/30 * * * *", &[18, 48])), usage));
    let backing = all[6].sync.activity.as_mut().unwrap();
    (backing.failures, backing.next_attempt_at) = (2, Some(at(-9)));
    all
}
