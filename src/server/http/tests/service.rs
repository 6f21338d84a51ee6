//! A service whose answers are all there: every optional part is filled in, so that the document's schemas are held to all of
//! it. Syncs with certain names misbehave.

use std::collections::BTreeMap;
use std::path::Path;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use crate::error::{Error, Kind};
use crate::io::http::exchange::{Excerpt, Exchange, HttpHeader, ReceivedResponse, SentRequest};
use crate::ledger::{BackupSummary, ChangeOutcome, Comparison, GroupCounts, RunStatus};
use crate::model::{Change, Traits};
use crate::service::api::{
    About, EnqueuedRun, PlanStream, ResultStream, Service, ServiceError, ServiceResult, SyncError,
};
use crate::service::views::{
    ActivityState, ChangeView, DaemonView, DeliveryLimits, DestinationRun, DestinationView, ExportedGroup,
    GroupRequestView, GroupView, HistoryView, MappingView, OrphanedSync, PlanPart, PlanRequest, PlanView,
    PlannedChange, QueuedRunView, RejectedDocument, RejectedView, RunDetail, RunProgress, RunView, ScheduleView,
    ScheduledTime, SyncActivity, SyncDetail, SyncView, SyncedTrait, Traffic, TraitView,
};
use crate::sync::options::PlanFile;
use crate::sync::plan_file::SealedPlan;
use crate::sync::report::{Counts, Detail, OutcomeCounts, error_json};
use crate::sync::verify::{Drifted, Verified};
use crate::sync::{GroupKeys, RunOptions};

/// Its requests, one line each, and whether it is ready.
#[derive(Default)]
pub(super) struct Fake {
    pub(super) requests: Mutex<Vec<String>>,
    pub(super) unready: std::sync::atomic::AtomicBool,
}

fn error(kind: Kind, what: &str) -> Error {
    Error::new(kind, what).advise("do something about it").at("sync accounts")
}

impl Fake {
    fn note(&self, what: String) {
        self.requests.lock().push(what);
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().clone()
    }

    /// What a sync of this name does.
    async fn behave(&self, sync: &str) -> ServiceResult<()> {
        match sync {
            "accounts" => Ok(()),
            "panics" => panic!("a handler panics on purpose"),
            "never" => {
                self.note("never".to_owned());
                std::future::pending().await
            }
            "slow" => {
                let _ = tokio::time::timeout(std::time::Duration::from_millis(400), std::future::pending::<()>()).await;
                Ok(())
            }
            "busy" => Err(ServiceError::Conflict(error(Kind::LedgerBusy, "the sync is busy"))),
            "invalid" => Err(ServiceError::Invalid(error(Kind::Config, "unknown guard `all`"))),
            name => match Kind::ALL.iter().copied().find(|kind| name == format!("fails-{}", kind.name())) {
                Some(kind) => Err(ServiceError::Failed(error(kind, "it was tried and failed"))),
                None => Err(ServiceError::NotFound(error(Kind::Config, "no such sync"))),
            },
        }
    }
}

fn at() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn traits() -> Traits {
    Map::from_iter([("plan".to_owned(), json!("pro")), ("seats".to_owned(), json!(12))])
}

fn change() -> Change {
    Change {
        set: traits(),
        set_once: traits(),
        add: traits(),
        append: Map::from_iter([("tags".to_owned(), json!(["a"]))]),
        prepend: Map::from_iter([("tags".to_owned(), json!(["b"]))]),
        unset: ["old".to_owned()].into(),
        repeated: Map::from_iter([("name".to_owned(), json!("Acme"))]),
        delete: true,
    }
}

fn daemon() -> DaemonView {
    DaemonView {
        name: "one".to_owned(),
        process: "process 7 on web-1".to_owned(),
        version: "0.1.0".to_owned(),
        since: at(),
        draining: false,
        running: vec!["accounts".to_owned()],
    }
}

fn run_view() -> RunView {
    let tally = OutcomeCounts { delivered: 3, rejected: 1, pending: 0, unconfirmed: 0 };
    RunView {
        sync: "accounts".to_owned(),
        run: "r1".to_owned(),
        status: RunStatus::SucceededWithRejections,
        started_at: at(),
        ended_at: Some(at()),
        started_by: "api".to_owned(),
        counts: Some(Counts { rows: 10, unchanged: 6, changes: tally, ..Counts::default() }),
        error: Some("1 group was rejected".to_owned()),
        error_kind: Some("destination".to_owned()),
        guard: None,
        holder: None,
    }
}

fn progress() -> RunProgress {
    RunProgress {
        run: "r2".to_owned(),
        started_at: at(),
        started_by: "schedule".to_owned(),
        phase: "sending".to_owned(),
        rows_read: 10,
        candidates: Some(4),
        done: 2,
        requests: 3,
        retries: 1,
        per_second: None,
    }
}

fn activity() -> SyncActivity {
    let options = RunOptions {
        accept: ["changed_max".to_owned()].into(),
        group: Some(GroupKeys::one("a")),
        ..RunOptions::default()
    };
    SyncActivity {
        holder: None,
        state: ActivityState::Running,
        running: Some(progress()),
        queued: Some(QueuedRunView { run: "r3".to_owned(), since: at(), options }),
        paused_since: Some(at()),
        failures: 2,
        next_attempt_at: Some(at()),
    }
}

fn sync_view() -> SyncView {
    SyncView {
        sync: "accounts".to_owned(),
        source: "warehouse".to_owned(),
        destination: "amplitude".to_owned(),
        destination_type: "amplitude".to_owned(),
        group_type: "account".to_owned(),
        enabled: true,
        tags: Vec::new(),
        groups: GroupCounts { synced: 9, unconfirmed: 1, rejected: 1 },
        schedule: Some(ScheduleView {
            expression: "0 2 * * *".to_owned(),
            timezone: "Europe/Berlin".to_owned(),
            overdue_since: Some(at()),
            next: vec![ScheduledTime { local: "2027-01-15T02:00:00+01:00".to_owned(), utc: at() }],
        }),
        last_run: Some(run_view()),
        last_success_at: Some(at()),
        compare: Default::default(),
        mirror: None,
        activity: Some(activity()),
    }
}

fn detail() -> Detail {
    // Read back from JSON, as from the ledger; a key that is no part of it would be missing in what is described.
    serde_json::from_value(json!({
        "found": {"rows": 10, "null_keys": 0, "empty_keys": 0, "duplicate_rows": 2, "duplicate_examples": ["a"], "synced": 9,
            "new": 1, "changed": 3, "missing": 0, "missing_candidates": 0, "removable": 0, "missing_examples": ["00123"], "new_examples": ["123"], "rejected_unchanged": 0, "unchanged": 6},
        "guards": [
            {"guard": "changed_max", "what": "changed groups", "part": 3, "whole": 9, "share_max": 0.5, "exact": true,
                "trips": false},
            {"guard": "empty", "what": "rows", "part": 10, "whole": 0, "share_max": null, "exact": true, "trips": false}],
        "by_status": {"200": 3, "0": 1}, "rate_wait_ms": 5, "retry_wait_ms": 6, "bytes": 700, "traits_sent": 8,
        "timeline": {"slot_ms": 250, "requests": [1, 2], "retries": [0, 1]}, "warnings": {"too many traits": 2},
        "remarks": ["2 rows have a cursor in the future"],
        "latency": {"responses": 3, "median_ms": 12, "p95_ms": 320, "max_ms": 320, "by_ms": {"12": 2, "320": 1}},
        "traits": {"plan": {"added": 1, "changed": 2, "unset": 0}},
        "log": {"lines": [{"at": "2027-01-15T08:00:01Z", "level": "warning", "text": "HTTP 503; retrying the request",
            "times": 2}], "dropped": 7, "before_dropped": 1},
        "advice": "look at the job that fills the model"}))
    .unwrap()
}

fn said_view(outcome: &str) -> ChangeView {
    let reason = Some("no".to_owned());
    ChangeView { key: "a/b".to_owned(), at: at(), outcome: outcome.to_owned(), reason, change: change() }
}

#[async_trait]
impl Service for Fake {
    async fn execute(
        &self,
        sync: &str,
        options: &RunOptions,
        monitor: &dyn crate::service::api::RunMonitor,
        signal: tokio::sync::watch::Receiver<crate::delivery::Signal>,
    ) -> ServiceResult<crate::sync::report::Report> {
        crate::service::follow::execute(self, sync, options, monitor, signal).await
    }

    async fn about(&self) -> ServiceResult<About> {
        Ok(About {
            name: None,
            draining: false,
            version: "0.1.0".to_owned(),
            target: None,
            started_at: at(),
            config_read_at: at(),
            config_problems: Some("groupcast.toml: line 3".to_owned()),
            ledger_problem: None,
            sync_errors: vec![SyncError {
                sync: "teams".to_owned(),
                file: "mappings/teams.toml".to_owned(),
                error: "mappings/teams.toml:3:1: unknown key `sorce`".to_owned(),
                advice: Some("did you mean `source`?".to_owned()),
                runs: false,
            }],
            stopping: false,
            running: 1,
            parallel_runs: 4,
            timezone: "UTC".to_owned(),
            tzdata: "2026f, built in".to_owned(),
        })
    }

    fn now(&self) -> DateTime<Utc> {
        at()
    }

    async fn ready(&self) -> ServiceResult<()> {
        if self.unready.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(ServiceError::Conflict(error(Kind::LedgerBusy, "the ledger is not open yet")));
        }
        Ok(())
    }

    async fn accept_plan(&self, plan: SealedPlan) -> ServiceResult<PlanFile> {
        Ok(PlanFile {
            path: "/ledgers/ledger.duckdb.plans/1.plan".into(),
            sha256: format!("{:064x}", plan.syncs.len()),
        })
    }

    async fn syncs(&self, _next: usize) -> ServiceResult<Vec<SyncView>> {
        Ok(vec![sync_view(), SyncView { schedule: None, last_run: None, activity: None, ..sync_view() }])
    }

    async fn sync(&self, sync: &str) -> ServiceResult<SyncDetail> {
        self.behave(sync).await?;
        let mapping = MappingView {
            file: "mappings/accounts.toml".to_owned(),
            model: "analytics.accounts".to_owned(),
            filter: Some("active".to_owned()),
            key: "id".to_owned(),
            cursor: Some("updated_at".to_owned()),
            traits: vec![TraitView {
                name: "plan".to_owned(),
                from: "plan_name".to_owned(),
                kind: Some("text".to_owned()),
                op: "set".to_owned(),
                on_null: "unset".to_owned(),
                always: true,
            }],
            policy: BTreeMap::from([("on_missing".to_owned(), "keep".to_owned())]),
        };
        Ok(SyncDetail { sync: sync_view(), mapping, last: Some(detail()), runs: vec![run_view()] })
    }

    async fn destination(&self, destination: &str) -> ServiceResult<DestinationView> {
        self.note(format!("destination {destination}"));
        let traffic = Traffic {
            requests: 4,
            retries: 1,
            by_status: [(200, 3), (0, 1)].into(),
            per_second_max: Some(12.5),
            latency: detail().latency,
            ..Traffic::default()
        };
        Ok(DestinationView {
            destination: destination.to_owned(),
            destination_type: "amplitude".to_owned(),
            syncs: vec!["accounts".to_owned()],
            limits: DeliveryLimits {
                requests_per_second: Some(100.0),
                concurrency: 4,
                timeout_seconds: 30,
                retry_for_seconds: 600,
                attempts_max: 8,
            },
            traffic: traffic.clone(),
            runs: vec![DestinationRun {
                sync: "accounts".to_owned(),
                run: "r1".to_owned(),
                started_at: at(),
                status: RunStatus::Succeeded,
                traffic,
            }],
        })
    }

    async fn trigger(&self, sync: &str, options: RunOptions, by: &str) -> ServiceResult<EnqueuedRun> {
        self.behave(sync).await?;
        self.note(format!("trigger {sync} {} by {by}", serde_json::to_string(&options).unwrap()));
        Ok(EnqueuedRun { sync: sync.to_owned(), run: "r4".to_owned(), joined: true })
    }

    async fn plan_stream(&self, sync: &str, request: PlanRequest) -> ServiceResult<PlanStream> {
        let mut plan = self.plan(sync, request).await?;
        let changes = std::mem::take(&mut plan.changes);
        let parts = changes.into_iter().map(|change| PlanPart::Change(Box::new(change))).collect();
        Ok(PlanStream::complete(parts, plan))
    }

    async fn plan(&self, sync: &str, request: PlanRequest) -> ServiceResult<PlanView> {
        let PlanRequest { options, show, .. } = request;
        let show = show.unwrap_or(usize::MAX);
        self.behave(sync).await?;
        self.note(format!("plan {sync} {} show {show}", serde_json::to_string(&options).unwrap()));
        Ok(PlanView {
            sync: sync.to_owned(),
            full: true,
            comparison: Comparison::default(),
            add: 1,
            change: 2,
            remove: 3,
            unchanged: 4,
            rejected_unchanged: 0,
            rejected: 5,
            traits_set: 6,
            traits_unset: 7,
            guard: Some(error_json(&error(Kind::Guard, "too many groups change"))),
            changes: vec![PlannedChange {
                key: "a".to_owned(),
                label: None,
                kind: "changed".to_owned(),
                certain: false,
                before: traits(),
                change: change(),
                user: None,
                rejection: Some("a trait is too long".to_owned()),
            }],
            hidden: 8,
            traits: Vec::new(),
            mapping: String::new(),
        })
    }

    async fn cancel(&self, run: &str) -> ServiceResult<()> {
        self.note(format!("cancel {run}"));
        match run {
            "r1" => Err(ServiceError::Conflict(error(Kind::Config, "the run has ended"))),
            "r2" => Ok(()),
            _ => Err(ServiceError::NotFound(error(Kind::Config, "no such run"))),
        }
    }

    async fn daemons(&self) -> ServiceResult<Vec<DaemonView>> {
        Ok(vec![daemon()])
    }

    async fn drain(&self, name: Option<&str>) -> ServiceResult<DaemonView> {
        self.note(format!("drain {}", name.unwrap_or("this one")));
        Ok(DaemonView { draining: true, ..daemon() })
    }

    async fn pause(&self, sync: &str, paused: bool) -> ServiceResult<SyncActivity> {
        self.behave(sync).await?;
        self.note(format!("pause {sync} {paused}"));
        Ok(activity())
    }

    async fn runs(&self, sync: Option<&str>, before: Option<&str>, count: u64) -> ServiceResult<Vec<RunView>> {
        self.behave(sync.unwrap_or("accounts")).await?;
        self.note(format!("runs {sync:?} {before:?} {count}"));
        let none = RunView { ended_at: None, counts: None, error: None, error_kind: None, ..run_view() };
        Ok(vec![run_view(), none])
    }

    async fn latest_runs(&self, _each: u64) -> ServiceResult<BTreeMap<String, Vec<RunView>>> {
        Ok(BTreeMap::from([(run_view().sync, vec![run_view()])]))
    }

    async fn run(&self, run: &str) -> ServiceResult<RunDetail> {
        match run {
            "r1" => Ok(RunDetail {
                run: run_view(),
                detail: detail(),
                progress: Some(progress()),
                rejected: vec![said_view("rejected")],
            }),
            "r2" => Ok(RunDetail { run: run_view(), detail: Detail::default(), progress: None, rejected: Vec::new() }),
            _ => Err(ServiceError::NotFound(error(Kind::Config, "no such run"))),
        }
    }

    async fn run_changes(
        &self,
        run: &str,
        outcome: Option<&str>,
        from: u64,
        count: u64,
    ) -> ServiceResult<Vec<ChangeView>> {
        self.note(format!("changes {run} {outcome:?} {from} {count}"));
        let empty = ChangeView { reason: None, change: Change::default(), ..said_view("delivered") };
        Ok(vec![said_view(outcome.unwrap_or("adopted")), empty])
    }

    async fn rejected(&self, sync: Option<&str>, after: Option<&str>, count: u64) -> ServiceResult<Vec<RejectedView>> {
        self.behave(sync.unwrap_or("accounts")).await?;
        let after = after.map_or_else(String::new, |after| format!(" after {after}"));
        self.note(format!("rejected {sync:?} {count}{after}"));
        let (sync, key, reason) = ("accounts".to_owned(), "a".to_owned(), "no".to_owned());
        Ok(vec![RejectedView { sync, key, label: None, at: at(), reason, document: traits() }])
    }

    async fn requests(&self, sync: &str, key: &str) -> ServiceResult<Vec<GroupRequestView>> {
        self.behave(sync).await?;
        self.note(format!("requests {sync} {key}"));
        let excerpt = |text: &str, bytes_left_out| Excerpt { text: text.to_owned(), bytes_left_out };
        let request = SentRequest {
            method: "POST".to_owned(),
            url: "https://hook.example/groups".to_owned(),
            headers: vec![HttpHeader { name: "x-key".to_owned(), value: "***".to_owned() }],
            body: excerpt("{", 7),
        };
        let response = ReceivedResponse { status: 400, headers: request.headers.clone(), body: excerpt("no", 0) };
        let exchange =
            Exchange { sent_at: at(), took_ms: 35, attempts: 2, request, response: Some(response), no_response: None };
        let silent = Exchange { response: None, no_response: Some("refused".to_owned()), ..exchange.clone() };
        let (run, outcome) = ("r1".to_owned(), ChangeOutcome::Rejected);
        let view = GroupRequestView { run, outcome, at: at(), groups: 2, part: Some(excerpt("{}", 0)), exchange };
        let alone = GroupRequestView { groups: 1, part: None, exchange: silent, ..view.clone() };
        Ok(vec![view, alone])
    }

    async fn group(&self, sync: &str, key: &str, before: Option<u64>, count: u64) -> ServiceResult<GroupView> {
        self.behave(sync).await?;
        let before = before.map_or_else(String::new, |before| format!(" before {before}"));
        self.note(format!("group {sync} {key} {count}{before}"));
        let held = |value: Value| SyncedTrait { value, sent_at: Some(at()), run: Some("r1".to_owned()) };
        let traits = BTreeMap::from([("plan".to_owned(), held(json!("pro"))), ("gone".to_owned(), held(Value::Null))]);
        let (outcome, reason) = ("delivered".to_owned(), Some("ok".to_owned()));
        Ok(GroupView {
            sync: sync.to_owned(),
            key: key.to_owned(),
            label: None,
            synced: true,
            unconfirmed_in: Some("r1".to_owned()),
            rejected: Some(RejectedDocument { document: self::traits(), reason: "no".to_owned() }),
            traits,
            history: vec![HistoryView { seq: 7, run: "r1".to_owned(), at: at(), outcome, reason, change: change() }],
            unreadable: None,
        })
    }

    async fn backup(&self, _file: &Path) -> ServiceResult<BackupSummary> {
        Ok(BackupSummary { syncs: 1, groups: 2 })
    }

    async fn metrics(&self) -> ServiceResult<String> {
        Ok("# TYPE groupcast_runs counter\ngroupcast_runs_total 1\n# EOF\n".to_owned())
    }

    async fn export(&self, sync: &str) -> ServiceResult<ResultStream<ExportedGroup, ()>> {
        self.behave(sync).await?;
        let (sender, items) = mpsc::channel(1);
        let group = ExportedGroup {
            at: DateTime::UNIX_EPOCH,
            document: Some(traits()),
            key: "k1".to_owned(),
            rejected: None,
            sync: sync.to_owned(),
            unreadable: None,
            unconfirmed_in: None,
            attempted: Vec::new(),
            fingerprint: None,
            seq: Some(1),
        };
        sender.try_send(group).unwrap();
        Ok(ResultStream { items, end: Box::pin(std::future::ready(Ok(()))) })
    }

    async fn reset(&self, sync: &str, group: Option<&str>, forget: bool) -> ServiceResult<u64> {
        self.behave(sync).await?;
        self.note(format!("reset {sync} {group:?} {forget}"));
        Ok(1)
    }

    async fn orphaned_syncs(&self) -> ServiceResult<Vec<OrphanedSync>> {
        Ok(Vec::new())
    }

    async fn rename(&self, from: &str, _: &str) -> ServiceResult<u64> {
        self.drop_sync(from).await
    }

    async fn drop_sync(&self, sync: &str) -> ServiceResult<u64> {
        self.sync(sync).await.map(|_| 0)
    }

    async fn adopt(&self, sync: &str) -> ServiceResult<ResultStream<(), u64>> {
        self.behave(sync).await?;
        Ok(ResultStream { items: mpsc::channel(1).1, end: Box::pin(std::future::ready(Ok(5))) })
    }

    async fn verify(&self, sync: &str, repair: bool) -> ServiceResult<ResultStream<Drifted, Verified>> {
        self.behave(sync).await?;
        let found = Verified { repaired: u64::from(repair), ..Verified::default() };
        Ok(ResultStream { items: mpsc::channel(1).1, end: Box::pin(std::future::ready(Ok(found))) })
    }
}
