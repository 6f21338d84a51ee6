//! A service without a daemon, whose commands have effects: a run that is started finishes after its page was loaded a few
//! times.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::fixture::{HOSTILE_KEYS, HOSTILE_WORDS, activity, at, change_view, counts, detail, run, syncs, traits};
use crate::error::{Error, Kind};
use crate::ledger::{BackupSummary, Comparison, RunStatus};
use crate::model::{Change, document};
use crate::service::api::{
    About, EnqueuedRun, PlanStream, ResultStream, Service, ServiceError, ServiceResult, SyncError,
};
use crate::service::views::{
    ActivityState, ChangeView, DestinationView, ExportedGroup, GroupRequestView, GroupView, HistoryView, OrphanedSync,
    PlanPart, PlanRequest, PlanView, PlannedChange, RejectedDocument, RejectedView, RunDetail, RunProgress, RunView,
    SyncActivity, SyncDetail, SyncView, SyncedTrait,
};
use crate::sync::RunOptions;
use crate::sync::guard::NAMES;
use crate::sync::planned::{ChangeFilter, TraitTotals};
use crate::sync::report::Detail;
use crate::sync::verify::{Drifted, Verified};

pub(super) struct FakeService {
    about: About,
    world: Mutex<FakeState>,
    changes: watch::Sender<u64>,
}

struct FakeState {
    syncs: Vec<SyncDetail>,
    runs: Vec<RunDetail>,
    /// Runs that were started, and how often their page was loaded since.
    loaded: BTreeMap<String, u32>,
    orders: Vec<String>,
}

impl FakeService {
    /// A daemon that was just set up.
    pub(super) fn empty() -> FakeService {
        let about = About {
            name: None,
            draining: false,
            version: "0.1.0".to_owned(),
            target: None,
            started_at: at(3_000),
            config_read_at: at(190),
            config_problems: None,
            ledger_problem: None,
            sync_errors: Vec::new(),
            stopping: false,
            running: 0,
            parallel_runs: 2,
            timezone: "Europe/Berlin".to_owned(),
            tzdata: "2026f, built in".to_owned(),
        };
        let world = FakeState { syncs: Vec::new(), runs: Vec::new(), loaded: BTreeMap::new(), orders: Vec::new() };
        FakeService { about, world: Mutex::new(world), changes: watch::Sender::new(0) }
    }

    /// A daemon with a bad night.
    pub(super) fn rich() -> FakeService {
        let mut service = FakeService::empty();
        service.about.running = 1;
        let world = service.world.get_mut();
        world.syncs = syncs();
        for sync in &world.syncs {
            for view in &sync.runs {
                let mut record =
                    RunDetail { run: view.clone(), detail: Detail::default(), progress: None, rejected: Vec::new() };
                if view.status != RunStatus::Running && view.status != RunStatus::Crashed {
                    record.detail = detail(view.status == RunStatus::StoppedByGuard);
                }
                if view.status == RunStatus::Running {
                    record.progress = sync.sync.activity.as_ref().and_then(|activity| activity.running.clone());
                }
                if view.status == RunStatus::SucceededWithRejections {
                    record.rejected = HOSTILE_KEYS.iter().map(|key| change_view(key, "rejected")).collect();
                    record.rejected.push(change_view(&"k".repeat(300), "partly_rejected"));
                }
                world.runs.push(record);
            }
        }
        world.runs.sort_by(|one, other| other.run.run.cmp(&one.run.run));
        service
    }

    pub(super) fn with_problems(mut self) -> FakeService {
        self.about.config_problems = Some(
            "error: column `arr_cents` is DECIMAL(38,2): add `as = \"number\"` or `as = \"string\"`\n  --> mappings/<script>.toml:14:12  traits.arr\n   = help: add `as = \"number\"`"
                .to_owned(),
        );
        self.about.sync_errors = ["crm", "teams<b>"]
            .map(|sync| SyncError {
                sync: sync.to_owned(),
                file: format!("mappings/{sync}.toml"),
                error: "unknown key `sorce`".to_owned(),
                advice: Some("did you mean `source`?".to_owned()),
                runs: sync == "crm",
            })
            .into();
        self.about.ledger_problem = Some("ledger <x>/ledger.duckdb: it was moved or deleted".to_owned());
        self.about.stopping = true;
        self
    }

    /// A run of another daemon under way.
    pub(super) fn with_run_elsewhere(self) -> FakeService {
        let holder = Some("daemon two<b> (process 7 on web-2)".to_owned());
        {
            let world = &mut *self.world.lock();
            let known = world.syncs.iter_mut().find(|known| known.sync.sync == "fresh").unwrap();
            let view = RunView { holder: holder.clone(), ..run("fresh", 7, 1, RunStatus::Running, None) };
            let progress = RunProgress {
                run: view.run.clone(),
                started_at: view.started_at,
                started_by: view.started_by.clone(),
                phase: "sending".to_owned(),
                rows_read: 905,
                candidates: Some(900),
                done: 300,
                requests: 31,
                retries: 0,
                per_second: None,
            };
            let running = Some(progress.clone());
            known.sync.activity = Some(SyncActivity { running, holder, ..activity(ActivityState::Running) });
            known.sync.last_run = Some(view.clone());
            known.runs.insert(0, view.clone());
            let (detail, progress) = (Detail::default(), Some(progress));
            world.runs.insert(0, RunDetail { run: view, detail, progress, rejected: Vec::new() });
        }
        self
    }

    /// What was ordered so far.
    pub(super) fn orders(&self) -> Vec<String> {
        self.world.lock().orders.clone()
    }
}

fn missing(what: &str) -> ServiceError {
    ServiceError::NotFound(Error::new(Kind::Config, format!("there is no {what}")))
}

#[async_trait]
impl Service for FakeService {
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
        Ok(self.about.clone())
    }

    fn now(&self) -> DateTime<Utc> {
        at(0)
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        Some(self.changes.subscribe())
    }

    async fn ready(&self) -> ServiceResult<()> {
        Ok(())
    }

    async fn syncs(&self, _next: usize) -> ServiceResult<Vec<SyncView>> {
        Ok(self.world.lock().syncs.iter().map(|sync| sync.sync.clone()).collect())
    }

    async fn sync(&self, sync: &str) -> ServiceResult<SyncDetail> {
        let world = self.world.lock();
        let found = world.syncs.iter().find(|known| known.sync.sync == sync).cloned();
        found.ok_or_else(|| missing(&format!("sync `{sync}`")))
    }

    async fn destination(&self, destination: &str) -> ServiceResult<DestinationView> {
        let syncs: Vec<SyncDetail> = self.world.lock().syncs.clone();
        let of = syncs.iter().filter(|sync| sync.sync.destination == destination);
        let names: Vec<String> = of.map(|sync| sync.sync.sync.clone()).collect();
        if names.is_empty() {
            return Err(missing(&format!("destination `{destination}`")));
        }
        Ok(super::fixture::destination_view(destination, names, &syncs))
    }

    async fn trigger(&self, sync: &str, options: RunOptions, by: &str) -> ServiceResult<EnqueuedRun> {
        let world = &mut *self.world.lock();
        if let Some(guard) = options.accept.iter().find(|guard| !NAMES.contains(&guard.as_str())) {
            let error =
                Error::new(Kind::Config, format!("there is no guard `{guard}`")).advise("name one of keys, empty");
            return Err(ServiceError::Invalid(error));
        }
        let Some(known) = world.syncs.iter_mut().find(|known| known.sync.sync == sync) else {
            return Err(missing(&format!("sync `{sync}`")));
        };
        world.orders.push(format!("{by}: run {sync} {}", serde_json::to_string(&options).unwrap()));
        if let Some(waiting) = known.sync.activity.as_ref().and_then(|activity| activity.queued.clone()) {
            return Ok(EnqueuedRun { sync: sync.to_owned(), run: waiting.run, joined: true });
        }
        let mut view = run(sync, 0x100 + world.loaded.len(), 0, RunStatus::Running, None);
        view.started_by = by.to_owned();
        let progress = RunProgress {
            run: view.run.clone(),
            started_at: view.started_at,
            started_by: by.to_owned(),
            phase: "reading".to_owned(),
            rows_read: 0,
            candidates: None,
            done: 0,
            requests: 0,
            retries: 0,
            per_second: None,
        };
        known.sync.activity =
            Some(SyncActivity { running: Some(progress.clone()), ..activity(ActivityState::Running) });
        known.sync.last_run = Some(view.clone());
        known.runs.insert(0, view.clone());
        world.loaded.insert(view.run.clone(), 0);
        let accepted = EnqueuedRun { sync: sync.to_owned(), run: view.run.clone(), joined: false };
        let record = RunDetail { run: view, detail: Detail::default(), progress: Some(progress), rejected: Vec::new() };
        world.runs.insert(0, record);
        Ok(accepted)
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
        self.sync(sync).await?;
        if sync == "fresh" {
            return Err(ServiceError::Failed(
                Error::new(Kind::SourceBusy, "failed to open the database: it is locked")
                    .advise("wait for the job that fills it"),
            ));
        }
        let planned = |key: &str, kind: &str, before: Value, change: Change| PlannedChange {
            key: key.to_owned(),
            label: (key == "acme").then(|| "Acme <b>Inc</b>".to_owned()),
            kind: kind.to_owned(),
            certain: true,
            before: traits(before),
            change,
            user: None,
            rejection: None,
        };
        let set = |value: Value| Change { set: traits(value), ..Change::default() };
        let mut changes = vec![
            planned(
                "acme",
                "changed",
                json!({"plan": "free", "arr": 12.5, "gone": true, "owner": document::unconfirmed()}),
                Change {
                    unset: BTreeSet::from(["gone".to_owned()]),
                    append: traits(json!({"tags": ["vip"]})),
                    ..set(
                        json!({"plan": "pro", "arr": 120_000, "owner": "<script>alert(1)</script>", "note": "n".repeat(400)}),
                    )
                },
            ),
            planned(
                "globex-inc",
                "new",
                json!({}),
                set(json!({"name": "Globex", "x\" onclick=\"alert(1)": "\u{202e}"})),
            ),
            planned(HOSTILE_KEYS[0], "missing", json!({"plan": "free"}), Change { delete: true, ..Change::default() }),
            PlannedChange {
                certain: false,
                ..planned(HOSTILE_KEYS[2], "changed", json!({}), set(json!({"plan": "pro"})))
            },
            PlannedChange {
                user: None,
                rejection: Some(HOSTILE_WORDS.to_owned()),
                ..planned(HOSTILE_KEYS[3], "changed", json!({}), Change::default())
            },
        ];
        changes.retain(|planned| options.group.as_ref().is_none_or(|groups| groups.contains(&planned.key)));
        let mut totals = TraitTotals::default();
        changes.iter().for_each(|change| totals.add(change, &ChangeFilter::default()));
        let hidden = if show < 200 && options.group.is_none() { 1_733 } else { 0 };
        let guard = (sync == "billing").then(|| {
            json!({"kind": "guard", "guard": "removed",
            "message": "stopped by the guard `removed` before anything was sent: 480 of 1200 <b>",
            "advice": "look at the model's filter; if this is right, accept it once with `--accept removed`"})
        });
        Ok(PlanView {
            sync: sync.to_owned(),
            full: options.full,
            comparison: Comparison { rows: 1_221_000, missing: 4, missing_candidates: 1, ..Comparison::default() },
            add: 120,
            change: 1_611,
            remove: 1,
            unchanged: 1_219_268,
            rejected: 14,
            rejected_unchanged: 0,
            traits_set: 4_004,
            traits_unset: 31,
            guard,
            changes,
            hidden,
            traits: totals.finish(),
            mapping: String::new(),
        })
    }

    async fn cancel(&self, run: &str) -> ServiceResult<()> {
        let world = &mut *self.world.lock();
        world.orders.push(format!("cancel {run}"));
        for sync in &mut world.syncs {
            let activity = sync.sync.activity.as_mut().unwrap();
            if activity.queued.as_ref().is_some_and(|waiting| waiting.run == run) {
                (activity.queued, activity.state) = (None, ActivityState::Scheduled);
                return Ok(());
            }
        }
        let Some(record) = world.runs.iter_mut().find(|record| record.run.run == run) else {
            return Err(missing("such run"));
        };
        match &mut record.progress {
            Some(progress) => progress.phase = "stopping".to_owned(),
            None => return Err(ServiceError::Conflict(Error::new(Kind::Config, "the run has ended already"))),
        }
        Ok(())
    }

    async fn pause(&self, sync: &str, paused: bool) -> ServiceResult<SyncActivity> {
        let world = &mut *self.world.lock();
        let Some(known) = world.syncs.iter_mut().find(|known| known.sync.sync == sync) else {
            return Err(missing(&format!("sync `{sync}`")));
        };
        self.changes.send_modify(|version| *version += 1);
        world.orders.push(format!("{} {sync}", if paused { "pause" } else { "resume" }));
        let activity = known.sync.activity.as_mut().unwrap();
        activity.state = if paused { ActivityState::Paused } else { ActivityState::Scheduled };
        activity.paused_since = paused.then(|| at(0));
        Ok(activity.clone())
    }

    async fn runs(&self, sync: Option<&str>, before: Option<&str>, count: u64) -> ServiceResult<Vec<RunView>> {
        let world = self.world.lock();
        let runs = world.runs.iter().map(|record| &record.run);
        let runs = runs.filter(|run| sync.is_none_or(|sync| run.sync == sync));
        let runs = runs.filter(|run| before.is_none_or(|before| run.run.as_str() < before));
        Ok(runs.take(count as usize).cloned().collect())
    }

    async fn latest_runs(&self, each: u64) -> ServiceResult<BTreeMap<String, Vec<RunView>>> {
        let names: BTreeSet<String> = self.world.lock().runs.iter().map(|run| run.run.sync.clone()).collect();
        let mut latest = BTreeMap::new();
        for name in names {
            latest.insert(name.clone(), self.runs(Some(&name), None, each).await?);
        }
        Ok(latest)
    }

    async fn run(&self, run: &str) -> ServiceResult<RunDetail> {
        let world = &mut *self.world.lock();
        let Some(record) = world.runs.iter_mut().find(|record| record.run.run == run) else {
            return Err(missing("such run"));
        };
        if let Some(loads) = world.loaded.get_mut(run) {
            *loads += 1;
            if let Some(progress) = &mut record.progress {
                progress.rows_read = 400 * u64::from(*loads);
                if *loads > 1 {
                    (progress.phase, progress.candidates, progress.done) =
                        ("sending".to_owned(), Some(40), 13 * u64::from(*loads - 1));
                }
            }
            if *loads == 4 {
                record.progress = None;
                (record.run.status, record.run.ended_at) = (RunStatus::Succeeded, Some(at(0)));
                record.run.counts = Some(counts(1_200, 40, 0));
                record.detail = detail(false);
                for sync in world.syncs.iter_mut().filter(|sync| sync.sync.sync == record.run.sync) {
                    sync.sync.activity = Some(activity(ActivityState::Scheduled));
                    sync.sync.last_run = Some(record.run.clone());
                    sync.sync.last_success_at = record.run.ended_at;
                    sync.runs[0] = record.run.clone();
                    sync.last = Some(record.detail.clone());
                }
            }
        }
        Ok(record.clone())
    }

    async fn run_changes(
        &self,
        run: &str,
        outcome: Option<&str>,
        from: u64,
        count: u64,
    ) -> ServiceResult<Vec<ChangeView>> {
        let record = self.world.lock().runs.iter().find(|record| record.run.run == run).cloned();
        let counts = record.and_then(|record| record.run.counts).unwrap_or_default();
        let all =
            (0..counts.changes.delivered.min(120)).map(|index| change_view(&format!("acct-{index:06}"), "delivered"));
        let all = all.chain(
            (0..counts.changes.rejected.min(6)).map(|index| change_view(HOSTILE_KEYS[index as usize], "rejected")),
        );
        let all = all.filter(|change_view| outcome.is_none_or(|outcome| change_view.outcome == outcome));
        Ok(all.skip(from as usize).take(count as usize).collect())
    }

    async fn rejected(&self, sync: Option<&str>, after: Option<&str>, count: u64) -> ServiceResult<Vec<RejectedView>> {
        if self.world.lock().syncs.is_empty() || sync.is_some_and(|sync| sync != "crm") {
            return Ok(Vec::new());
        }
        let long = "The property `industry` must be one of the configured values, got something else. ".repeat(5);
        let keys = HOSTILE_KEYS.iter().copied().chain(["acme"]);
        let views = keys.enumerate().filter(|(_, key)| after.is_none_or(|after| *key > after)).map(|(index, key)| {
            RejectedView {
                sync: "crm".to_owned(),
                key: key.to_owned(),
                label: (key == "acme").then(|| "Acme <b>Inc</b>".to_owned()),
                at: at(70),
                reason: if index % 2 == 0 { HOSTILE_WORDS.to_owned() } else { long.clone() },
                document: traits(json!({"plan": "pro", "x\" onclick=\"": "<script>alert(1)</script>"})),
            }
        });
        Ok(views.take(count as usize).collect())
    }

    async fn requests(&self, sync: &str, key: &str) -> ServiceResult<Vec<GroupRequestView>> {
        self.sync(sync).await?;
        let hostile = HOSTILE_KEYS.contains(&key);
        let run = self.world.lock().runs.last().map(|record| record.run.run.clone()).unwrap();
        Ok(if hostile { super::fixture::kept_requests(&run) } else { Vec::new() })
    }

    async fn group(&self, sync: &str, key: &str, _before: Option<u64>, _count: u64) -> ServiceResult<GroupView> {
        self.sync(sync).await?;
        let hostile = HOSTILE_KEYS.contains(&key);
        if !hostile && key != "acme" && !key.starts_with("acct-") && !key.starts_with("kkk") {
            return Err(missing(&format!("group `{key}` in sync `{sync}`")));
        }
        let run = self.world.lock().runs.last().map(|record| record.run.run.clone()).unwrap();
        let held = |value: Value, sent: bool| SyncedTrait {
            value,
            sent_at: sent.then(|| at(1_513)),
            run: sent.then(|| run.clone()),
        };
        let history = |seq: u64, outcome: &str| HistoryView {
            seq,
            run: run.clone(),
            at: at(2_000 - seq as i64 * 60),
            outcome: outcome.to_owned(),
            reason: (outcome == "rejected").then(|| HOSTILE_WORDS.to_owned()),
            change: change_view(key, outcome).change,
        };
        Ok(GroupView {
            sync: sync.to_owned(),
            key: key.to_owned(),
            label: (key == "acme").then(|| "Acme <b>Inc</b>".to_owned()),
            unreadable: None,
            synced: true,
            unconfirmed_in: (key == "acme").then(|| run.clone()),
            rejected: hostile.then(|| RejectedDocument {
                document: traits(json!({"plan": "pro", "<script>": "</ul><script>alert(1)</script>"})),
                reason: HOSTILE_WORDS.to_owned(),
            }),
            traits: [
                ("plan", held(json!("pro"), true)),
                ("arr", held(json!(120_000), true)),
                ("tags", held(json!(["vip", "\u{202e}", {"deep": [1, 2, 3]}]), false)),
                ("note", held(json!("<img src=x onerror=alert(1)> ".repeat(30)), true)),
                ("x\" onclick=\"alert(1)", held(document::taken(), true)),
            ]
            .map(|(name, held)| (name.to_owned(), held))
            .into(),
            history: vec![history(9, "rejected"), history(5, "unconfirmed"), history(2, "delivered")],
        })
    }

    async fn export(&self, _sync: &str) -> ServiceResult<ResultStream<ExportedGroup, ()>> {
        unreachable!("no page exports")
    }

    async fn reset(&self, _sync: &str, _group: Option<&str>, _forget: bool) -> ServiceResult<u64> {
        unreachable!("no page resets")
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

    async fn adopt(&self, _sync: &str) -> ServiceResult<ResultStream<(), u64>> {
        unreachable!("no page adopts")
    }

    async fn verify(&self, _sync: &str, _repair: bool) -> ServiceResult<ResultStream<Drifted, Verified>> {
        unreachable!("no page verifies")
    }

    async fn backup(&self, _file: &Path) -> ServiceResult<BackupSummary> {
        Ok(BackupSummary { syncs: 1, groups: 2 })
    }

    async fn metrics(&self) -> ServiceResult<String> {
        Ok(String::new())
    }
}
