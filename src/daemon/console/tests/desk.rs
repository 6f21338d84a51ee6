//! A desk without a daemon: eight syncs in every state, hostile texts in every place, and orders that have effects.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use async_trait::async_trait;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::daemon::desk::{About, Accepted, Answer, Desk, Refusal};
use crate::error::{Error, Kind};
use crate::ledger::{Comparison, Standing, Status};
use crate::model::{Change, Traits, document};
use crate::sync::guard::{NAMES, Reading};
use crate::sync::report::{Counts, Detail, Tally};
use crate::sync::timeline::Timeline;
use crate::view::{
    Activity, Ask, FireView, GroupView, HeldView, HistoryView, MappingView, PlanView, PlannedView, Progress,
    RefusedView, RejectedView, RunDetail, RunView, SaidView, ScheduleView, State, SyncDetail, SyncView, TraitView,
    WaitingRun,
};

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
const HOSTILE_WORDS: &str = "400 Bad Request: <img src=x onerror=alert(1)> \u{202e}drow\u{202c} isn't \"valid\"";

pub(super) struct FakeDesk {
    about: About,
    world: Mutex<World>,
}

struct World {
    syncs: Vec<SyncDetail>,
    runs: Vec<RunDetail>,
    /// Runs that were ordered, and how often they were looked at since.
    looked: BTreeMap<String, u32>,
    orders: Vec<String>,
}

pub(super) fn at(minutes_ago: i64) -> DateTime<Utc> {
    "2026-11-22T03:12:00Z".parse::<DateTime<Utc>>().unwrap() - TimeDelta::minutes(minutes_ago)
}

pub(super) fn traits(value: Value) -> Traits {
    match value {
        Value::Object(traits) => traits,
        other => panic!("no traits: {other}"),
    }
}

fn counts(rows: u64, delivered: u64, rejected: u64) -> Counts {
    Counts {
        rows,
        unchanged: rows - delivered - rejected,
        said: Tally { delivered, rejected, ..Tally::default() },
        held: rejected / 2,
        new: delivered / 10,
        traits_set: delivered * 2,
        traits_unset: delivered / 7,
        requests: delivered.div_ceil(100) + 2,
        retries: 2,
        ..Counts::default()
    }
}

fn run(sync: &str, number: usize, minutes_ago: i64, status: Status, counts: Option<Counts>) -> RunView {
    let started_at = at(minutes_ago);
    RunView {
        sync: sync.to_owned(),
        run: format!("{}-{number:04x}", started_at.format("%Y%m%dT%H%M%S%.3fZ")),
        status,
        started_at,
        ended_at: (status != Status::Running && status != Status::Died)
            .then(|| started_at + TimeDelta::milliseconds(21_000 + 1_700 * (number as i64 % 7))),
        started_by: "schedule".to_owned(),
        counts,
        error: None,
        error_kind: None,
    }
}

fn failed(mut run: RunView, kind: &str, error: &str) -> RunView {
    run.error = Some(error.to_owned());
    run.error_kind = Some(kind.to_owned());
    run
}

fn readings(trips: bool) -> Vec<Reading> {
    let reading = |guard: &str, what: &str, part, whole, share_max, trips| Reading {
        guard: guard.to_owned(),
        what: what.to_owned(),
        part,
        whole,
        share_max,
        exact: true,
        trips,
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

fn detail(trips: bool) -> Detail {
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
        warnings: [(HOSTILE_WORDS.to_owned(), 3)].into(),
    }
}

fn activity(state: State) -> Activity {
    Activity { state, running: None, waiting: None, paused_since: None, failures: 0, next_try_at: None }
}

fn schedule(written: &str, in_minutes: &[i64]) -> ScheduleView {
    let fire = |minutes: &i64| {
        let utc = at(-minutes);
        let berlin = utc.with_timezone(&chrono_tz::Europe::Berlin);
        FireView { local: berlin.to_rfc3339_opts(SecondsFormat::Secs, false), utc }
    };
    ScheduleView {
        written: written.to_owned(),
        timezone: "Europe/Berlin".to_owned(),
        overdue_since: None,
        next: in_minutes.iter().map(fire).collect(),
    }
}

fn sync(name: &str, state: State, schedule: Option<ScheduleView>, runs: Vec<RunView>) -> SyncDetail {
    let well = |run: &&RunView| matches!(run.status, Status::Delivered | Status::SomeRejected);
    let mapped = |name: &str, from: &str, kind: Option<&str>, op: &str| TraitView {
        name: name.to_owned(),
        from: from.to_owned(),
        kind: kind.map(str::to_owned),
        op: op.to_owned(),
        on_null: "unset".to_owned(),
    };
    SyncDetail {
        sync: SyncView {
            sync: name.to_owned(),
            source: "warehouse".to_owned(),
            destination: "amplitude eu".to_owned(),
            destination_type: "amplitude".to_owned(),
            group_type: "company".to_owned(),
            enabled: state != State::Disabled,
            standing: Standing { known: 1_204_331, unsettled: 0, rejected: 0 },
            schedule,
            last_run: runs.first().cloned(),
            last_success_at: runs.iter().find(well).and_then(|run| run.ended_at),
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

fn said(key: &str, outcome: &str) -> SaidView {
    let mut change = Change { set: traits(json!({"plan": "pro", "arr": 120_000})), ..Change::default() };
    change.unset.insert("churned_at".to_owned());
    let refused = outcome.contains("reject");
    SaidView {
        key: key.to_owned(),
        at: at(70),
        outcome: outcome.to_owned(),
        reason: refused.then(|| HOSTILE_WORDS.to_owned()),
        change,
    }
}

impl FakeDesk {
    /// A daemon that was just set up.
    pub(super) fn empty() -> FakeDesk {
        let about = About {
            version: "0.1.0".to_owned(),
            started_at: at(3_000),
            config_read_at: at(190),
            config_problems: None,
            stopping: false,
            running: 0,
            parallel_runs: 2,
            timezone: "Europe/Berlin".to_owned(),
        };
        let world = World { syncs: Vec::new(), runs: Vec::new(), looked: BTreeMap::new(), orders: Vec::new() };
        FakeDesk { about, world: Mutex::new(world) }
    }

    /// A daemon with a bad night.
    pub(super) fn rich() -> FakeDesk {
        let mut desk = FakeDesk::empty();
        desk.about.running = 1;
        let world = desk.world.get_mut().unwrap();
        world.syncs = syncs();
        for sync in &world.syncs {
            for view in &sync.runs {
                let mut record =
                    RunDetail { run: view.clone(), detail: Detail::default(), progress: None, rejected: Vec::new() };
                if view.status != Status::Running && view.status != Status::Died {
                    record.detail = detail(view.status == Status::Guarded);
                }
                if view.status == Status::Running {
                    record.progress = sync.sync.activity.as_ref().and_then(|activity| activity.running.clone());
                }
                if view.status == Status::SomeRejected {
                    record.rejected = HOSTILE_KEYS.iter().map(|key| said(key, "rejected")).collect();
                    record.rejected.push(said(&"k".repeat(300), "partly_rejected"));
                }
                world.runs.push(record);
            }
        }
        world.runs.sort_by(|one, other| other.run.run.cmp(&one.run.run));
        desk
    }

    pub(super) fn with_problems(mut self) -> FakeDesk {
        self.about.config_problems = Some(
            "error: column `arr_cents` is DECIMAL(38,2); say how to send it\n  --> mappings/<script>.toml:14:12  traits.arr\n   = help: add `as = \"number\"`"
                .to_owned(),
        );
        self.about.stopping = true;
        self
    }

    /// What was ordered so far.
    pub(super) fn orders(&self) -> Vec<String> {
        self.world.lock().unwrap().orders.clone()
    }
}

fn syncs() -> Vec<SyncDetail> {
    let history = |name: &str, every: i64, offset: i64| -> Vec<RunView> {
        (0..24_usize)
            .map(|index| {
                let ago = offset + every * index as i64;
                match index {
                    5 => failed(
                        run(name, index, ago, Status::Failed, None),
                        "source_busy",
                        "source warehouse: connection refused",
                    ),
                    11 => run(name, index, ago, Status::Died, None),
                    _ => {
                        let rows = 1_200_000 + 900 * (24 - index as u64);
                        let rejected = if index % 6 == 0 { 14 } else { 0 };
                        let status = if rejected > 0 { Status::SomeRejected } else { Status::Delivered };
                        run(name, index, ago, status, Some(counts(rows, 800 + 613 * (index as u64 * 7 % 11), rejected)))
                    }
                }
            })
            .collect()
    };
    let mut accounts = history("accounts", 45, 40);
    let mut now = run("accounts", 99, 1, Status::Running, None);
    now.started_by = "console".to_owned();
    let progress = Progress {
        run: now.run.clone(),
        started_at: now.started_at,
        started_by: "console".to_owned(),
        phase: "sending".to_owned(),
        rows_read: 1_221_000,
        suspects: Some(5_120),
        settled: 1_733,
        requests: 18,
        retries: 2,
    };
    accounts.insert(0, now);
    let mut all = vec![sync("accounts", State::Running, Some(schedule("every 45m", &[4, 49, 94])), accounts)];
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
                Status::Guarded,
                Some(Counts { rows: 720, unchanged: 720, missing: 480, ..Counts::default() }),
            ),
            "guard",
            stopped,
        ),
    );
    let mut guarded = sync("billing", State::Scheduled, Some(schedule("0 2 * * *", &[1_368, 2_808])), billing);
    guarded.last = Some(detail(true));
    all.push(guarded);

    let mut crm = history("crm", 60, 71);
    let mut odd = counts(5_230, 812, 14);
    odd.said.not_sent = 3;
    odd.unchanged -= 3;
    odd.missing = 21;
    odd.removed = Tally { delivered: 20, rejected: 1, ..Tally::default() };
    crm[0].counts = Some(odd);
    all.push(sync("crm", State::Waiting, Some(schedule("after accounts", &[])), crm));
    all[2].sync.standing = Standing { known: 5_230, unsettled: 3, rejected: 7 };
    all[2].sync.activity.as_mut().unwrap().waiting = Some(WaitingRun {
        run: "20261122T031100.000Z-beef".to_owned(),
        since: at(1),
        ask: Ask {
            full: true,
            accept: ["keys".to_owned()].into(),
            group: Some(HOSTILE_KEYS[0].to_owned()),
            ..Ask::default()
        },
    });

    all.push(sync("fresh", State::Manual, None, Vec::new()));
    all[3].sync.standing = Standing::default();
    all.push(sync(
        "legacy",
        State::Disabled,
        None,
        vec![run("legacy", 1, 60_000, Status::Delivered, Some(counts(12, 12, 0)))],
    ));
    all.push(sync("paused", State::Paused, Some(schedule("30 5 * * 1-5", &[78])), history("paused", 1_440, 8_000)));
    all[5].sync.activity.as_mut().unwrap().paused_since = Some(at(7_000));

    let mut usage = vec![
        failed(
            run(HOSTILE_SYNC, 2, 30, Status::Failed, None),
            "destination",
            &format!("destination amplitude eu: {HOSTILE_WORDS}"),
        ),
        run(HOSTILE_SYNC, 1, 90, Status::Died, None),
        run(HOSTILE_SYNC, 0, 150, Status::Delivered, Some(counts(77, 0, 0))),
    ];
    usage[0].started_by = "retry".to_owned();
    all.push(sync(HOSTILE_SYNC, State::BackingOff, Some(schedule("*/30 * * * *", &[18, 48])), usage));
    let backing = all[6].sync.activity.as_mut().unwrap();
    (backing.failures, backing.next_try_at) = (2, Some(at(-9)));
    all
}

fn missing(what: &str) -> Refusal {
    Refusal::NotFound(Error::new(Kind::Config, format!("there is no {what}")))
}

#[async_trait]
impl Desk for FakeDesk {
    fn about(&self) -> About {
        self.about.clone()
    }

    fn now(&self) -> DateTime<Utc> {
        at(0)
    }

    async fn ready(&self) -> Answer<()> {
        Ok(())
    }

    async fn syncs(&self, _fires: usize) -> Answer<Vec<SyncView>> {
        Ok(self.world.lock().unwrap().syncs.iter().map(|sync| sync.sync.clone()).collect())
    }

    async fn sync(&self, sync: &str) -> Answer<SyncDetail> {
        let world = self.world.lock().unwrap();
        let found = world.syncs.iter().find(|known| known.sync.sync == sync).cloned();
        found.ok_or_else(|| missing(&format!("sync `{sync}`")))
    }

    async fn trigger(&self, sync: &str, ask: Ask, by: &str) -> Answer<Accepted> {
        let world = &mut *self.world.lock().unwrap();
        if let Some(guard) = ask.accept.iter().find(|guard| !NAMES.contains(&guard.as_str())) {
            let error =
                Error::new(Kind::Config, format!("there is no guard `{guard}`")).advise("name one of keys, empty");
            return Err(Refusal::Invalid(error));
        }
        let Some(known) = world.syncs.iter_mut().find(|known| known.sync.sync == sync) else {
            return Err(missing(&format!("sync `{sync}`")));
        };
        world.orders.push(format!("{by}: run {sync} {}", serde_json::to_string(&ask).unwrap()));
        if let Some(waiting) = known.sync.activity.as_ref().and_then(|activity| activity.waiting.clone()) {
            return Ok(Accepted { sync: sync.to_owned(), run: waiting.run, joined: true });
        }
        let mut view = run(sync, 0x100 + world.looked.len(), 0, Status::Running, None);
        view.started_by = by.to_owned();
        let progress = Progress {
            run: view.run.clone(),
            started_at: view.started_at,
            started_by: by.to_owned(),
            phase: "reading".to_owned(),
            rows_read: 0,
            suspects: None,
            settled: 0,
            requests: 0,
            retries: 0,
        };
        known.sync.activity = Some(Activity { running: Some(progress.clone()), ..activity(State::Running) });
        known.sync.last_run = Some(view.clone());
        known.runs.insert(0, view.clone());
        world.looked.insert(view.run.clone(), 0);
        let accepted = Accepted { sync: sync.to_owned(), run: view.run.clone(), joined: false };
        let record = RunDetail { run: view, detail: Detail::default(), progress: Some(progress), rejected: Vec::new() };
        world.runs.insert(0, record);
        Ok(accepted)
    }

    async fn plan(&self, sync: &str, ask: Ask, show: usize) -> Answer<PlanView> {
        self.sync(sync).await?;
        if sync == "fresh" {
            return Err(Refusal::Failed(
                Error::new(Kind::SourceBusy, "failed to open the database: it is locked")
                    .advise("wait for the job that fills it"),
            ));
        }
        let planned = |key: &str, kind: &str, before: Value, change: Change| PlannedView {
            key: key.to_owned(),
            kind: kind.to_owned(),
            certain: true,
            before: traits(before),
            change,
            refused: None,
        };
        let set = |value: Value| Change { set: traits(value), ..Change::default() };
        let mut changes = vec![
            planned(
                "acme",
                "changed",
                json!({"plan": "free", "arr": 12.5, "gone": true, "owner": document::unsure()}),
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
            PlannedView {
                certain: false,
                ..planned(HOSTILE_KEYS[2], "changed", json!({}), set(json!({"plan": "pro"})))
            },
            PlannedView {
                refused: Some(HOSTILE_WORDS.to_owned()),
                ..planned(HOSTILE_KEYS[3], "changed", json!({}), Change::default())
            },
        ];
        changes.retain(|planned| ask.group.as_ref().is_none_or(|group| planned.key == *group));
        let hidden = if show < 200 && ask.group.is_none() { 1_733 } else { 0 };
        let guard = (sync == "billing").then(|| {
            json!({"kind": "guard",
            "message": "stopped by the guard `removed` before anything was sent: 480 of 1200 <b>",
            "advice": "look at the model's filter; if this is right, accept it once with `--accept removed`"})
        });
        Ok(PlanView {
            sync: sync.to_owned(),
            full: ask.full,
            comparison: Comparison { rows: 1_221_000, missing: 4, missing_suspects: 1, ..Comparison::default() },
            add: 120,
            change: 1_611,
            remove: 1,
            unchanged: 1_219_268,
            held: 0,
            rejected: 14,
            traits_set: 4_004,
            traits_unset: 31,
            guard,
            changes,
            hidden,
        })
    }

    async fn cancel(&self, run: &str) -> Answer<()> {
        let world = &mut *self.world.lock().unwrap();
        world.orders.push(format!("cancel {run}"));
        for sync in &mut world.syncs {
            let activity = sync.sync.activity.as_mut().unwrap();
            if activity.waiting.as_ref().is_some_and(|waiting| waiting.run == run) {
                (activity.waiting, activity.state) = (None, State::Scheduled);
                return Ok(());
            }
        }
        let Some(record) = world.runs.iter_mut().find(|record| record.run.run == run) else {
            return Err(missing("such run"));
        };
        match &mut record.progress {
            Some(progress) => progress.phase = "stopping".to_owned(),
            None => return Err(Refusal::Conflict(Error::new(Kind::Config, "the run has ended already"))),
        }
        Ok(())
    }

    async fn pause(&self, sync: &str, paused: bool) -> Answer<Activity> {
        let world = &mut *self.world.lock().unwrap();
        let Some(known) = world.syncs.iter_mut().find(|known| known.sync.sync == sync) else {
            return Err(missing(&format!("sync `{sync}`")));
        };
        world.orders.push(format!("{} {sync}", if paused { "pause" } else { "resume" }));
        let activity = known.sync.activity.as_mut().unwrap();
        activity.state = if paused { State::Paused } else { State::Scheduled };
        activity.paused_since = paused.then(|| at(0));
        Ok(activity.clone())
    }

    async fn runs(&self, sync: Option<&str>, before: Option<&str>, count: u64) -> Answer<Vec<RunView>> {
        let world = self.world.lock().unwrap();
        let runs = world.runs.iter().map(|record| &record.run);
        let runs = runs.filter(|run| sync.is_none_or(|sync| run.sync == sync));
        let runs = runs.filter(|run| before.is_none_or(|before| run.run.as_str() < before));
        Ok(runs.take(count as usize).cloned().collect())
    }

    async fn run(&self, run: &str) -> Answer<RunDetail> {
        let world = &mut *self.world.lock().unwrap();
        let Some(record) = world.runs.iter_mut().find(|record| record.run.run == run) else {
            return Err(missing("such run"));
        };
        if let Some(looks) = world.looked.get_mut(run) {
            *looks += 1;
            if let Some(progress) = &mut record.progress {
                progress.rows_read = 400 * u64::from(*looks);
                if *looks > 1 {
                    (progress.phase, progress.suspects, progress.settled) =
                        ("sending".to_owned(), Some(40), 13 * u64::from(*looks - 1));
                }
            }
            if *looks == 4 {
                record.progress = None;
                (record.run.status, record.run.ended_at) = (Status::Delivered, Some(at(0)));
                record.run.counts = Some(counts(1_200, 40, 0));
                record.detail = detail(false);
                for sync in world.syncs.iter_mut().filter(|sync| sync.sync.sync == record.run.sync) {
                    sync.sync.activity = Some(activity(State::Scheduled));
                    sync.sync.last_run = Some(record.run.clone());
                    sync.sync.last_success_at = record.run.ended_at;
                    sync.runs[0] = record.run.clone();
                    sync.last = Some(record.detail.clone());
                }
            }
        }
        Ok(record.clone())
    }

    async fn said(&self, run: &str, outcome: Option<&str>, from: u64, count: u64) -> Answer<Vec<SaidView>> {
        let record = self.world.lock().unwrap().runs.iter().find(|record| record.run.run == run).cloned();
        let counts = record.and_then(|record| record.run.counts).unwrap_or_default();
        let all = (0..counts.said.delivered.min(120)).map(|index| said(&format!("acct-{index:06}"), "delivered"));
        let all =
            all.chain((0..counts.said.rejected.min(6)).map(|index| said(HOSTILE_KEYS[index as usize], "rejected")));
        let all = all.filter(|said| outcome.is_none_or(|outcome| said.outcome == outcome));
        Ok(all.skip(from as usize).take(count as usize).collect())
    }

    async fn rejected(&self, sync: Option<&str>, count: u64) -> Answer<Vec<RejectedView>> {
        if self.world.lock().unwrap().syncs.is_empty() || sync.is_some_and(|sync| sync != "crm") {
            return Ok(Vec::new());
        }
        let long = "The property `industry` must be one of the configured values, got something else. ".repeat(5);
        let keys = HOSTILE_KEYS.iter().copied().chain(["acme"]);
        let views = keys.enumerate().map(|(index, key)| RejectedView {
            sync: "crm".to_owned(),
            key: key.to_owned(),
            at: at(70),
            reason: if index % 2 == 0 { HOSTILE_WORDS.to_owned() } else { long.clone() },
            document: traits(json!({"plan": "pro", "x\" onclick=\"": "<script>alert(1)</script>"})),
        });
        Ok(views.take(count as usize).collect())
    }

    async fn group(&self, sync: &str, key: &str, _count: u64) -> Answer<GroupView> {
        self.sync(sync).await?;
        let hostile = HOSTILE_KEYS.contains(&key);
        if !hostile && key != "acme" && !key.starts_with("acct-") && !key.starts_with("kkk") {
            return Err(missing(&format!("group `{key}` in sync `{sync}`")));
        }
        let run = self.world.lock().unwrap().runs.last().map(|record| record.run.run.clone()).unwrap();
        let held = |value: Value, sent: bool| HeldView {
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
            change: said(key, outcome).change,
        };
        Ok(GroupView {
            sync: sync.to_owned(),
            key: key.to_owned(),
            known: true,
            unsettled_in: (key == "acme").then(|| run.clone()),
            rejected: hostile.then(|| RefusedView {
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
            history: vec![history(9, "rejected"), history(5, "unknown"), history(2, "delivered")],
        })
    }

    async fn metrics(&self) -> Answer<String> {
        Ok(String::new())
    }
}
