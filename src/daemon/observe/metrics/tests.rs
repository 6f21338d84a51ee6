//! The text and the numbers of the metrics, with a strict reader of the format in place of a scraper.

use super::*;
use crate::ledger::shared::LeaseCounts;
use crate::ledger::{Comparison, GroupCounts, RunStatus};
use crate::service::api::About;
use crate::service::tracker::Tracker;
use crate::service::views::{ActivityState, MirrorView, RunView, ScheduleView, ScheduledTime, SyncActivity};
use crate::sync::mirror::MirrorReport;
use crate::sync::report::{Counts, Detail, OutcomeCounts};

fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

fn now() -> DateTime<Utc> {
    at("2026-11-22T02:10:00Z")
}

fn about() -> About {
    About {
        name: None,
        draining: false,
        version: "0.1.0".to_owned(),
        target: None,
        started_at: at("2026-11-22T00:00:00Z"),
        config_read_at: at("2026-11-22T00:00:01.5Z"),
        config_problems: None,
        ledger_problem: None,
        sync_errors: Vec::new(),
        stopping: false,
        running: 1,
        parallel_runs: 4,
        timezone: "UTC".to_owned(),
        tzdata: "2026f, built in".to_owned(),
    }
}

fn scrape<'a>(syncs: &'a [SyncView], about: &'a About) -> Scrape<'a> {
    let mistaken = vec!["broken".to_owned()];
    let leases = LeaseCounts { held: 3, lost: 2 };
    let (alerts, reloads) = ([5, 1], [0, 0]);
    Scrape { syncs, mistaken, about, alerts, reloads, daemons: 4, leases, log_lines_dropped: 7, now: now() }
}

fn view(sync: &str) -> SyncView {
    SyncView {
        sync: sync.to_owned(),
        source: "warehouse".to_owned(),
        destination: "crm".to_owned(),
        destination_type: "webhook".to_owned(),
        group_type: "company".to_owned(),
        enabled: true,
        tags: Vec::new(),
        groups: GroupCounts { synced: 100, unconfirmed: 2, rejected: 3 },
        schedule: Some(ScheduleView {
            expression: "0 2 * * *".to_owned(),
            timezone: "UTC".to_owned(),
            overdue_since: Some(at("2026-11-22T02:00:00Z")),
            next: vec![ScheduledTime { local: String::new(), utc: at("2026-11-23T02:00:00Z") }],
        }),
        last_run: None,
        last_success_at: Some(at("2026-11-21T02:10:00Z")),
        compare: Default::default(),
        mirror: None,
        activity: Some(SyncActivity {
            holder: None,
            state: ActivityState::Scheduled,
            running: None,
            queued: None,
            paused_since: None,
            failures: 2,
            next_attempt_at: None,
        }),
    }
}

fn ended(sync: &str, status: RunStatus, by: &str) -> RunDetail {
    let started_at = at("2026-11-22T02:00:00Z");
    RunDetail {
        run: RunView {
            sync: sync.to_owned(),
            run: "r".to_owned(),
            status,
            started_at,
            ended_at: Some(started_at + std::time::Duration::from_millis(1_500)),
            started_by: by.to_owned(),
            holder: None,
            counts: Some(Counts {
                rows: 10,
                unchanged: 3,
                changes: OutcomeCounts { delivered: 1, rejected: 4, pending: 1, unconfirmed: 1 },
                rejected_unchanged: 2,
                invalid_keys: 1,
                removed: OutcomeCounts { delivered: 5, rejected: 6, pending: 7, unconfirmed: 8 },
                traits_set: 11,
                traits_unset: 12,
                requests: 6,
                retries: 2,
                ..Counts::default()
            }),
            error: (status == RunStatus::StoppedByGuard)
                .then(|| "stopped by the guard `removed` before anything".to_owned()),
            error_kind: None,
            guard: (status == RunStatus::StoppedByGuard).then(|| "removed".to_owned()),
        },
        detail: Detail {
            found: Some(Comparison { rows: 10, new: 2, changed: 3, missing_candidates: 4, ..Comparison::default() }),
            by_status: [(0, 1), (200, 3), (429, 1), (299, 1), (999, 1)].into(),
            rate_wait_ms: 1_250,
            retry_wait_ms: 500,
            bytes: 2_048,
            mirror: Some(MirrorReport { rebuilt: true, ..MirrorReport::default() }),
            ..Detail::default()
        },
        progress: None,
        rejected: Vec::new(),
    }
}

/// Reads the classic text format and refuses everything that is not exactly it. Returns samples by name and labels.
fn read(text: &str) -> BTreeMap<String, f64> {
    let is_name = |name: &str| {
        name.starts_with("groupcast_") && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    let (mut samples, mut families) = (BTreeMap::new(), BTreeMap::new());
    let mut family = (String::new(), String::new());
    let mut helped = String::new();
    assert!(text.ends_with('\n') && !text.contains("\n\n") && !text.contains('\r'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').unwrap();
            assert!(is_name(name) && text.ends_with('.') && !text.contains('\\'), "{line}");
            helped = name.to_owned();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(name, helped, "the help comes before the type");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(families.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} comes twice");
            family = (name.to_owned(), kind.to_owned());
        } else {
            assert!(!line.starts_with('#'), "{line}");
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let of_family = match family.1.as_str() {
                "histogram" => ["_bucket", "_sum", "_count"].iter().any(|end| name == format!("{}{end}", family.0)),
                _ => name == family.0,
            };
            assert!(is_name(name) && of_family, "{line} stands under {}", family.0);
            if let Some(labels) = series.strip_prefix(name).filter(|labels| !labels.is_empty()) {
                read_labels(labels);
            }
            let value: f64 = value.parse().unwrap();
            assert!(value.is_finite() && value >= 0.0, "{line}");
            assert!(samples.insert(series.to_owned(), value).is_none(), "{series} comes twice");
        }
    }
    samples
}

fn read_labels(text: &str) {
    let inside = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap();
    let mut chars = inside.chars().peekable();
    while chars.peek().is_some() {
        let name: String = chars.by_ref().take_while(|char| *char != '=').collect();
        assert!(!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{text}");
        assert_eq!(chars.next(), Some('"'), "{text}");
        loop {
            match chars.next().expect("a label's value ends") {
                '"' => break,
                '\\' => assert!(matches!(chars.next(), Some('\\' | '"' | 'n')), "{text}"),
                char => assert_ne!(char, '\n'),
            }
        }
        assert!(matches!(chars.next(), None | Some(',')), "{text}");
    }
}

const OF: &str = r#"{sync="accounts",destination="crm"}"#;

fn of(more: &str) -> String {
    format!(r#"{{sync="accounts",destination="crm",{more}}}"#)
}

fn le(end: &str) -> String {
    format!(r#"{{le="{end}",sync="accounts",destination="crm"}}"#)
}

#[test]
fn what_runs_did_adds_up() {
    let metrics = Metrics::new();
    metrics.run_ended(&ended("accounts", RunStatus::SucceededWithRejections, "schedule"), "crm");
    metrics.run_ended(&ended("accounts", RunStatus::StoppedByGuard, "a caller with a free text"), "crm");
    metrics.skipped("accounts", 3);
    metrics.panicked("accounts");
    metrics.reloaded(true);
    metrics.reloaded(false);
    let samples = read(&metrics.render(scrape(&[view("accounts")], &about())));
    for (series, value) in [
        (format!("rows_read_total{OF}"), 20.0),
        (format!("rows_unchanged_total{OF}"), 6.0),
        (format!("candidates_total{OF}"), 18.0),
        (format!("changes_total{}", of(r#"outcome="delivered""#)), 12.0),
        (format!("changes_total{}", of(r#"outcome="rejected""#)), 14.0),
        (format!("changes_total{}", of(r#"outcome="pending""#)), 16.0),
        (format!("changes_total{}", of(r#"outcome="unconfirmed""#)), 18.0),
        (format!("traits_total{}", of(r#"action="set""#)), 22.0),
        (format!("traits_total{}", of(r#"action="unset""#)), 24.0),
        (format!("requests_total{}", of(r#"status="none""#)), 2.0),
        (format!("requests_total{}", of(r#"status="200""#)), 6.0),
        (format!("requests_total{}", of(r#"status="2xx""#)), 2.0),
        (format!("requests_total{}", of(r#"status="other""#)), 2.0),
        (format!("request_retries_total{OF}"), 4.0),
        (format!("request_bytes_total{OF}"), 4_096.0),
        (format!("rate_limit_wait_seconds_total{OF}"), 2.5),
        (format!("retry_wait_seconds_total{OF}"), 1.0),
        (format!("runs_total{}", of(r#"status="succeeded_with_rejections",started_by="schedule""#)), 1.0),
        (format!("runs_total{}", of(r#"status="stopped_by_guard",started_by="other""#)), 1.0),
        (format!("runs_total{}", of(r#"status="failed",started_by="schedule""#)), 0.0),
        (format!("guard_stops_total{}", of(r#"guard="removed""#)), 1.0),
        (format!("guard_stops_total{}", of(r#"guard="keys""#)), 0.0),
        (format!("run_duration_seconds_sum{OF}"), 3.0),
        (format!("run_duration_seconds_count{OF}"), 2.0),
        (format!("run_duration_seconds_bucket{}", le("1.0")), 0.0),
        (format!("run_duration_seconds_bucket{}", le("2.5")), 2.0),
        (format!("run_duration_seconds_bucket{}", le("+Inf")), 2.0),
        (format!("skipped_scheduled_times_total{OF}"), 3.0),
        (format!("panics_total{OF}"), 1.0),
        (format!("mirror_rebuilds_total{OF}"), 2.0),
        (r#"config_reloads_total{result="success"}"#.to_owned(), 1.0),
        (r#"config_reloads_total{result="failure"}"#.to_owned(), 1.0),
        (r#"alerts_total{result="sent"}"#.to_owned(), 5.0),
        (r#"alerts_total{result="dropped"}"#.to_owned(), 1.0),
    ] {
        assert_eq!(samples.get(&format!("groupcast_{series}")), Some(&value), "{series}");
    }
}

#[test]
fn gauges_are_read_at_each_scrape() {
    let metrics = Metrics::new();
    let paused = SyncView {
        schedule: None,
        last_success_at: None,
        mirror: None,
        activity: Some(SyncActivity {
            paused_since: Some(now()),
            state: ActivityState::Paused,
            ..view("x").activity.unwrap()
        }),
        ..view("paused")
    };
    let problems = About {
        config_problems: Some("error: …".to_owned()),
        ledger_problem: Some("the disk is full".to_owned()),
        sync_errors: Vec::new(),
        ..about()
    };
    let mirror = MirrorView {
        table: "groupcast_accounts_a".to_owned(),
        schema: "groupcast_mirror".to_owned(),
        keys: 100,
        rows: 140,
        unmirrored: 6,
        made_at: at("2026-11-20T02:10:00Z"),
        reason: None,
        behind_since: Some(at("2026-11-22T02:09:00Z")),
    };
    let accounts = SyncView { mirror: Some(mirror), ..view("accounts") };
    // A run of another daemon is in that one's metrics.
    let mut elsewhere = view("elsewhere");
    let activity = elsewhere.activity.as_mut().unwrap();
    activity.running = Some(Tracker::new("r", now(), "schedule").progress());
    let mut here = SyncView { sync: "here".to_owned(), ..elsewhere.clone() };
    elsewhere.activity.as_mut().unwrap().holder = Some("daemon two".to_owned());
    here.mirror = Some(MirrorView { unmirrored: 0, behind_since: None, ..accounts.mirror.clone().unwrap() });
    let text = metrics.render(scrape(&[accounts, paused, elsewhere, here], &problems));
    let samples = read(&text);
    for (name, value) in [
        ("last_success_timestamp_seconds", at("2026-11-21T02:10:00Z").timestamp() as f64),
        ("lag_seconds", 86_400.0),
        ("overdue_seconds", 600.0),
        ("next_run_timestamp_seconds", at("2026-11-23T02:00:00Z").timestamp() as f64),
        ("synced_groups", 100.0),
        ("unconfirmed_groups", 2.0),
        ("rejected_groups", 3.0),
        ("mirror_rows", 140.0),
        ("mirror_unmirrored_keys", 6.0),
        ("mirror_behind_seconds", 60.0),
        ("mirror_rebuild_timestamp_seconds", at("2026-11-20T02:10:00Z").timestamp() as f64),
        ("enabled", 1.0),
        ("running", 0.0),
        ("paused", 0.0),
        ("consecutive_failures", 2.0),
    ] {
        assert_eq!(samples.get(&format!("groupcast_{name}{OF}")), Some(&value), "{name}");
    }
    for (series, value) in [
        ("config_problems", 1.0),
        ("ledger_problem", 1.0),
        ("config_read_timestamp_seconds", at("2026-11-22T00:00:01Z").timestamp() as f64 + 0.5),
        ("start_time_seconds", at("2026-11-22T00:00:00Z").timestamp() as f64),
        ("runs_under_way", 1.0),
        ("runs_parallel_max", 4.0),
        ("stopping", 0.0),
        ("daemons", 4.0),
        ("draining", 0.0),
        ("leases_held", 3.0),
        ("leases_lost_total", 2.0),
        (r#"running{sync="elsewhere",destination="crm"}"#, 0.0),
        (r#"running{sync="here",destination="crm"}"#, 1.0),
        (r#"mirror_behind_seconds{sync="here",destination="crm"}"#, 0.0),
        ("log_lines_dropped_total", 7.0),
        (r#"mapping_problem{sync="broken"}"#, 1.0),
        (r#"build_info{version="0.1.0"}"#, 1.0),
        (r#"paused{sync="paused",destination="crm"}"#, 1.0),
    ] {
        assert_eq!(samples.get(&format!("groupcast_{series}")), Some(&value), "{series}");
    }
    let absent = ["lag_seconds", "last_success_timestamp_seconds", "overdue_seconds", "next_run_timestamp_seconds"];
    let of_mirror =
        ["mirror_rows", "mirror_unmirrored_keys", "mirror_behind_seconds", "mirror_rebuild_timestamp_seconds"];
    for name in absent.into_iter().chain(of_mirror) {
        assert!(!text.contains(&format!(r#"groupcast_{name}{{sync="paused""#)), "{name}");
    }
}

#[test]
fn a_removed_sync_takes_its_series_along() {
    let metrics = Metrics::new();
    metrics.run_ended(&ended("accounts", RunStatus::Succeeded, "api"), "crm");
    metrics.run_ended(&ended("gone", RunStatus::Succeeded, "api"), "crm");
    let text = metrics.render(scrape(&[view("accounts")], &about()));
    assert!(text.contains(r#"sync="accounts""#) && !text.contains(r#"sync="gone""#));
    let again = read(&metrics.render(scrape(&[view("accounts"), view("gone")], &about())));
    assert_eq!(again[r#"groupcast_rows_read_total{sync="gone",destination="crm"}"#], 0.0, "forgotten, not hidden");
    assert_eq!(again[&format!("groupcast_rows_read_total{OF}")], 10.0);
    // Another destination starts anew: its series are others.
    metrics.run_ended(&ended("accounts", RunStatus::Succeeded, "api"), "other");
    let moved = SyncView { destination: "other".to_owned(), ..view("accounts") };
    let samples = read(&metrics.render(scrape(&[moved], &about())));
    assert_eq!(samples[r#"groupcast_rows_read_total{sync="accounts",destination="other"}"#], 10.0);
}

#[test]
fn labels_are_escaped_and_bounded() {
    let metrics = Metrics::new();
    let evil = "a\"b\\c\nd";
    for status in 0..2_000 {
        let mut run = ended(evil, RunStatus::Succeeded, &format!("caller {status}"));
        run.detail.by_status = [(status, 1)].into();
        metrics.run_ended(&run, "crm");
    }
    let samples = read(&metrics.render(scrape(&[view(evil)], &about())));
    let of_sync = r#"{sync="a\"b\\c\nd",destination="crm""#;
    let statuses =
        samples.keys().filter(|name| name.starts_with(&format!("groupcast_requests_total{of_sync}"))).count();
    assert!((50..100).contains(&statuses), "{statuses} statuses");
    let runs = samples.keys().filter(|name| name.starts_with(&format!("groupcast_runs_total{of_sync}"))).count();
    assert_eq!(runs, 8, "each of seven statuses from schedules, one from all others");
}

#[test]
fn a_page_without_syncs_is_valid() {
    let samples = read(&Metrics::new().render(scrape(&[], &about())));
    assert_eq!(samples["groupcast_start_time_seconds"], at("2026-11-22T00:00:00Z").timestamp() as f64);
    assert!(!samples.keys().any(|name| name.contains("destination=")));
}

/// Writes the text for tools that check it: `GROUPCAST_METRICS_TO=page.txt cargo test … metrics`, then
/// `promtool check metrics < page.txt`.
#[test]
fn the_page_can_be_written_for_other_readers() {
    let metrics = Metrics::new();
    metrics.run_ended(&ended("accounts", RunStatus::StoppedByGuard, "schedule"), "crm");
    let text = metrics.render(scrape(&[view("accounts")], &about()));
    if let Some(path) = std::env::var_os("GROUPCAST_METRICS_TO") {
        std::fs::write(path, &text).unwrap();
    }
    assert!(read(&text).len() > 60);
}
