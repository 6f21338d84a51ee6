//! What does the ledger tell about syncs, runs and groups? Views from records; what the daemon alone knows is added there.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::Value;

use super::{
    ExportedRejection, ExportedView, FireView, GroupView, HeldView, HistoryView, MappingView, PlanView, PlannedView,
    RefusedView, RejectedView, RunDetail, RunView, SaidView, ScheduleView, SyncView, TraitView,
};
use crate::config::Project;
use crate::error::Result;
use crate::ledger::{
    CandidateKind, ChangeOutcome, ChangeRecord, GroupCounts, History, HistoryEntry, RunRecord, SinceSuccess,
    SyncedGroup,
};
use crate::mapping::{Expr, Field, From, Mapping, When};
use crate::model::Op;
use crate::model::document::Document;
use crate::scheduler::cron::SyncSchedule;
use crate::scheduler::timetable::{RunHistory, RunSpan, Timetable};
use crate::sync::Plan;
use crate::sync::decide::{Action, Decision};
use crate::sync::guard::Reading;
use crate::sync::report::{Counts, error_json};

/// Lines of a group's history that are searched for when each trait was last sent.
const HISTORY_SEARCHED: u64 = 1_000;
/// Rejected groups that a run's detail names.
pub const REJECTED_SHOWN: u64 = 100;

/// What the ledger remembers of a sync.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    last: Option<RunRecord>,
    standing: GroupCounts,
    last_success_at: Option<DateTime<Utc>>,
}

/// What the ledger remembers of one sync.
pub async fn memory(history: &dyn History, sync: &str) -> Result<Memory> {
    Ok(Memory {
        last: history.runs(Some(sync), None, 1).await?.pop(),
        standing: history.group_counts(sync).await?,
        last_success_at: history.last_success(sync).await?,
    })
}

/// What the ledger remembers of every sync, by name, in three questions however many there are.
pub async fn memories(history: &dyn History) -> Result<BTreeMap<String, Memory>> {
    let mut memories: BTreeMap<String, Memory> = BTreeMap::new();
    for (sync, mut runs) in history.latest_runs(1).await? {
        memories.entry(sync).or_default().last = runs.pop();
    }
    for (sync, standing) in history.all_group_counts().await? {
        memories.entry(sync).or_default().standing = standing;
    }
    for (sync, at) in history.last_successes().await? {
        memories.entry(sync).or_default().last_success_at = Some(at);
    }
    Ok(memories)
}

/// How a sync stands, with the next `fires` times of its schedule by its timetable.
pub fn sync(
    project: &Project,
    mapping: &Mapping,
    memory: Memory,
    timetable: Option<Timetable>,
    now: DateTime<Utc>,
    fires: usize,
) -> SyncView {
    SyncView {
        sync: mapping.name.clone(),
        source: mapping.source.clone(),
        destination: mapping.destination.clone(),
        destination_type: (project.settings.destinations.get(&mapping.destination))
            .map(|settings| settings.kind.clone())
            .unwrap_or_default(),
        group_type: mapping.group_type.clone(),
        enabled: mapping.enabled,
        standing: memory.standing,
        schedule: match timetable {
            Some(timetable) => schedule(project, mapping, timetable, now, fires),
            None => schedule_written(project, mapping),
        },
        last_run: memory.last.map(run),
        last_success_at: memory.last_success_at,
        activity: None,
    }
}

/// The timetable of a sync as its recorded runs leave it; none for one that is disabled or has no schedule.
pub async fn timetable(
    project: &Project,
    mapping: &Mapping,
    history: &dyn History,
    now: DateTime<Utc>,
) -> Result<Option<Timetable>> {
    let Some(rules) = SyncSchedule::of(mapping, project.settings.daemon.zone())? else { return Ok(None) };
    let followed_ended_at = match mapping.schedule.as_ref().map(|schedule| &schedule.when) {
        Some(When::After(other)) => history.last_success(other).await?,
        _ => None,
    };
    let recorded = |run: RunRecord| RunSpan { started_at: run.started_at, ended_at: run.ended_at };
    let last = history.whole_runs(&mapping.name, 1).await?.pop().map(recorded);
    let SinceSuccess { success, attempted_at, failed_at } = history.since_success(&mapping.name).await?;
    let success = success.map(recorded);
    let history = RunHistory { last, followed_ended_at, success, attempted_at, failed_at };
    Ok(Some(Timetable::resume(rules, history, now)))
}

/// The schedule with its next `fires` times.
pub fn schedule(
    project: &Project,
    mapping: &Mapping,
    mut timetable: Timetable,
    now: DateTime<Utc>,
    fires: usize,
) -> Option<ScheduleView> {
    let mut view = schedule_written(project, mapping)?;
    let zone = zone(project, mapping);
    let local = |at: DateTime<Utc>| at.with_timezone(&zone).to_rfc3339_opts(SecondsFormat::Secs, false);
    let next = timetable.upcoming(now, fires);
    view.next = next.into_iter().map(|utc| FireView { local: local(utc), utc }).collect();
    timetable.tick(now);
    view.overdue_since = timetable.overdue_since();
    Some(view)
}

/// The schedule as it is written, without times.
fn schedule_written(project: &Project, mapping: &Mapping) -> Option<ScheduleView> {
    let schedule = mapping.schedule.as_ref()?;
    let written = if schedule.jitter.is_zero() {
        schedule.when.to_string()
    } else {
        format!("{} + up to {}", schedule.when, crate::format::duration(schedule.jitter))
    };
    let timezone = zone(project, mapping).name().to_owned();
    Some(ScheduleView { written, timezone, overdue_since: None, next: Vec::new() })
}

/// The zone in which a sync's times are read and shown.
pub fn zone(project: &Project, mapping: &Mapping) -> crate::time_zone::Zone {
    let own = mapping.schedule.as_ref().and_then(|schedule| schedule.timezone);
    own.unwrap_or_else(|| project.settings.daemon.zone())
}

/// Something that is stored as JSON; absent where nothing is, and with a word to the error where it cannot be read.
fn stored<T: serde::de::DeserializeOwned>(what: &str, text: &str, error: &mut Option<String>) -> Option<T> {
    if text.is_empty() {
        return None;
    }
    serde_json::from_str(text)
        .map_err(|why| {
            let why = format!("the run's {what} cannot be read in the ledger: {why}");
            *error = Some(error.take().map_or_else(|| why.clone(), |before| format!("{before}; {why}")));
        })
        .ok()
}

/// A run's record.
pub fn run(record: RunRecord) -> RunView {
    let mut error = record.error;
    RunView {
        sync: record.sync,
        run: record.run,
        status: record.status,
        started_at: record.started_at,
        ended_at: record.ended_at,
        started_by: record.started_by,
        counts: stored("counts", &record.counts, &mut error),
        error,
        error_kind: record.error_kind,
        guard: record.guard,
    }
}

/// A run with everything its record tells.
pub async fn run_detail(history: &dyn History, id: &str) -> Result<Option<RunDetail>> {
    let Some((record, detail)) = history.run(id).await? else { return Ok(None) };
    let mut rejected = history.changes(id, Some(ChangeOutcome::Rejected), 0, REJECTED_SHOWN).await?;
    if (rejected.len() as u64) < REJECTED_SHOWN {
        rejected.extend(history.changes(id, Some(ChangeOutcome::PartlyRejected), 0, REJECTED_SHOWN).await?);
    }
    let mut run = run(record);
    let detail = stored("record", &detail, &mut run.error).unwrap_or_default();
    Ok(Some(RunDetail { run, detail, progress: None, rejected: rejected.into_iter().map(said).collect() }))
}

/// What a run said about a group.
pub fn said(group: ChangeRecord) -> SaidView {
    let ChangeRecord { key, entry } = group;
    SaidView { key, at: entry.at, outcome: entry.outcome, reason: entry.reason, change: entry.change }
}

/// What is known of a group, with the latest `count` lines of its history (before the line `before`, if given); none when
/// nothing is.
pub async fn group(
    history: &dyn History,
    sync: &str,
    key: &str,
    before: Option<u64>,
    count: u64,
) -> Result<Option<GroupView>> {
    let known = history.group(sync, key).await?;
    let entries = if before.is_some() { count } else { count.max(HISTORY_SEARCHED) };
    let history = history.group_history(sync, key, before, entries).await?;
    if known.is_none() && history.is_empty() {
        return Ok(None);
    }
    Ok(Some(group_view(sync, key, known, history, count)))
}

/// Notes of traits of which that is not known yet when they were last sent, by older lines of their group's history.
pub fn sent_in(traits: &mut BTreeMap<String, HeldView>, older: &[HistoryView]) {
    for (name, held) in traits.iter_mut().filter(|(_, held)| held.sent_at.is_none()) {
        let spoke = |entry: &&HistoryView| {
            entry.outcome == ChangeOutcome::Delivered.name() && entry.change.names().any(|spoken| spoken == name)
        };
        if let Some(said) = older.iter().find(spoke) {
            (held.sent_at, held.run) = (Some(said.at), Some(said.run.clone()));
        }
    }
}

fn group_view(
    sync: &str,
    key: &str,
    known: Option<SyncedGroup>,
    mut history: Vec<HistoryEntry>,
    count: u64,
) -> GroupView {
    let is_known = known.is_some();
    let (document, unconfirmed_in, rejected, unreadable) = match known {
        Some(known) => (known.document, known.unconfirmed_in, known.rejected, known.unreadable),
        None => Default::default(),
    };
    let traits = document.0.into_iter().map(|(name, value)| {
        let spoke = |entry: &&HistoryEntry| {
            entry.outcome == ChangeOutcome::Delivered.name() && entry.change.names().any(|spoken| *spoken == name)
        };
        let said = history.iter().find(spoke);
        let held = HeldView { value, sent_at: said.map(|said| said.at), run: said.map(|said| said.run.clone()) };
        (name, held)
    });
    let traits = traits.collect();
    history.truncate(usize::try_from(count).unwrap_or(usize::MAX));
    GroupView {
        sync: sync.to_owned(),
        key: key.to_owned(),
        known: is_known,
        unconfirmed_in,
        rejected: rejected.map(|(document, reason)| RefusedView { document: document.0, reason }),
        traits,
        history: (history.into_iter())
            .map(|entry| HistoryView {
                seq: entry.seq,
                run: entry.run,
                at: entry.at,
                outcome: entry.outcome,
                reason: entry.reason,
                change: entry.change,
            })
            .collect(),
        unreadable,
    }
}

/// Groups of a sync whose last word is a rejection, in key order (after the group `after`, if given), at most `count`.
pub async fn rejected(history: &dyn History, sync: &str, after: Option<&str>, count: u64) -> Result<Vec<RejectedView>> {
    Ok(rejected_views(sync, history.rejected(sync, after, count).await?))
}

/// The same of every sync, at most `each` of one.
pub async fn rejected_of_all(history: &dyn History, each: u64) -> Result<BTreeMap<String, Vec<RejectedView>>> {
    let all = history.all_rejected(each).await?.into_iter();
    Ok(all.map(|(sync, groups)| (sync.clone(), rejected_views(&sync, groups))).collect())
}

fn rejected_views(sync: &str, groups: Vec<SyncedGroup>) -> Vec<RejectedView> {
    let views = groups.into_iter().filter_map(|group| {
        let (document, mut reason) = group.rejected?;
        if let Some(what) = group.unreadable {
            reason = format!("{reason} (the ledger is damaged here: {what})");
        }
        Some(RejectedView { sync: sync.to_owned(), key: group.key, at: group.at, reason, document: document.0 })
    });
    views.collect()
}

/// A decision of a plan; none where nothing needs to be said.
pub fn planned(decision: &Decision) -> Option<PlannedView> {
    let kind = match decision.kind {
        CandidateKind::New => "new",
        CandidateKind::Changed => "changed",
        CandidateKind::Missing => "missing",
    };
    let view = |change, before, refused| PlannedView {
        key: decision.key.clone(),
        kind: kind.to_owned(),
        certain: decision.confirmed,
        before,
        change,
        refused,
    };
    match &decision.action {
        Action::Unchanged { .. } => None,
        Action::Reject { reason, .. } => Some(view(Default::default(), Default::default(), Some(reason.clone()))),
        Action::Send { change, .. } => {
            let held = |name: &String| Some((name.clone(), decision.before.0.get(name)?.clone()));
            Some(view(change.as_ref().clone(), change.names().filter_map(held).collect(), None))
        }
    }
}

/// A group as it is exported.
pub fn exported(sync: &str, group: SyncedGroup) -> ExportedView {
    let SyncedGroup { key, document, unconfirmed_in, rejected, at, unreadable } = group;
    // What cannot be read is not an empty document.
    let shown = |document: Document| unreadable.is_none().then_some(document.0);
    let rejected = rejected.map(|(document, reason)| ExportedRejection { document: shown(document), reason });
    ExportedView { at, document: shown(document), key, rejected, sync: sync.to_owned(), unreadable, unconfirmed_in }
}

/// The guard that would stop a run.
fn guard_json(reading: &Reading) -> Value {
    let mut guard = error_json(&reading.error());
    guard["guard"] = Value::from(reading.guard.as_str());
    guard
}

/// A plan, with the changes that are to be shown.
pub fn plan(planned: Plan, changes: Vec<PlannedView>, hidden: u64) -> PlanView {
    let Counts { new, changes: sent, removed, unchanged, rejected_unchanged, traits_set, traits_unset, .. } =
        planned.counts;
    PlanView {
        sync: planned.sync,
        full: planned.full,
        comparison: planned.found,
        add: new,
        change: sent.delivered.saturating_sub(new),
        remove: removed.delivered,
        unchanged,
        rejected: sent.rejected,
        rejected_unchanged,
        traits_set,
        traits_unset,
        guard: planned.guarded.as_ref().map(guard_json),
        changes,
        hidden,
    }
}

/// What a mapping says.
pub fn mapping(mapping: &Mapping) -> MappingView {
    let policy = &mapping.policy;
    MappingView {
        file: mapping.file.clone(),
        model: match &mapping.model.from {
            From::Table(parts) => parts.join("."),
            From::Query(sql) => sql.clone(),
        },
        filter: mapping.model.filter.clone(),
        key: mapping.key.clone(),
        cursor: mapping.incremental.as_ref().map(|incremental| incremental.cursor.clone()),
        traits: (mapping.traits.iter())
            .map(|mapped| TraitView {
                name: mapped.name.clone(),
                from: field(&mapped.value),
                kind: match &mapped.value {
                    Field::Column { declared: Some(declared), .. } => Some(word(declared)),
                    _ => None,
                },
                op: op(mapped.op).to_owned(),
                on_null: word(mapped.on_null.unwrap_or(policy.on_null)),
                always: mapped.always,
            })
            .collect(),
        policy: BTreeMap::from([
            ("on_null".to_owned(), word(policy.on_null)),
            ("on_missing".to_owned(), word(policy.on_missing)),
            ("on_removed_trait".to_owned(), word(policy.on_removed_trait)),
            ("on_duplicate".to_owned(), word(policy.on_duplicate)),
        ]),
    }
}

/// A setting's word, as it is written in JSON.
fn word(value: impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

fn op(op: Op) -> &'static str {
    match op {
        Op::Set => "set",
        Op::SetOnce => "set_once",
        Op::Add => "add",
        Op::Append => "append",
        Op::Prepend => "prepend",
    }
}

fn field(value: &Field) -> String {
    match value {
        Field::Column { expr: Expr::Column(column), .. } => column.clone(),
        Field::Column { expr: Expr::Sql(sql), .. } => sql.clone(),
        Field::Const(value) => value.to_string(),
        Field::Object(members) => {
            let members = members.iter().map(|(name, value)| format!("{name} = {}", field(value)));
            format!("{{ {} }}", members.collect::<Vec<_>>().join(", "))
        }
    }
}
