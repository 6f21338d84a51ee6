//! Builds views from the ledger's records and the config. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::Value;

use super::{
    ChangeView, ExportedGroup, ExportedRejection, GroupRequestView, GroupView, HistoryView, MappingView, MirrorView,
    PlanView, RejectedDocument, RejectedView, RunDetail, RunView, ScheduleView, ScheduledTime, SyncView, SyncedTrait,
    TraitSummary, TraitView,
};
use crate::config::Project;
use crate::ledger::kept_requests::KeptRequest;
use crate::ledger::mirror::MirrorRecord;
use crate::ledger::{ChangeOutcome, ChangeRecord, GroupCounts, HistoryEntry, RunRecord, SyncedGroup};
use crate::mapping::{Compare, Expr, Field, From, Mapping};
use crate::model::Op;
use crate::model::document::{self, Document};
use crate::scheduler::timetable::Timetable;
use crate::sync::Plan;
use crate::sync::guard::Reading;
use crate::sync::report::{Counts, error_json};

/// What the ledger has recorded of a sync.
#[derive(Debug, Clone, Default)]
pub struct SyncRecord {
    /// The last run.
    pub last: Option<RunRecord>,
    /// Its groups by state.
    pub groups: GroupCounts,
    /// When a run last succeeded.
    pub last_success_at: Option<DateTime<Utc>>,
    /// The record of its mirror.
    pub mirror: Option<MirrorRecord>,
}

/// A sync, with the next `times` of its schedule by its timetable.
pub fn sync(
    project: &Project,
    mapping: &Mapping,
    record: SyncRecord,
    timetable: Option<Timetable>,
    now: DateTime<Utc>,
    times: usize,
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
        tags: mapping.tags.clone(),
        groups: record.groups,
        schedule: match timetable {
            Some(timetable) => schedule(project, mapping, timetable, now, times),
            None => schedule_written(project, mapping),
        },
        last_run: record.last.map(run),
        last_success_at: record.last_success_at,
        compare: compare(project, mapping),
        mirror: record.mirror.map(|record| mirror(record, &mapping.source)),
        activity: None,
    }
}

/// Where its rows are to be compared: what the mapping says, or its source.
fn compare(project: &Project, mapping: &Mapping) -> Compare {
    let of_source = || {
        let settings = project.settings.sources.get(&mapping.source)?;
        let (_, text) = settings.values.texts().find(|(name, _)| *name == "compare")?;
        serde_json::from_str(&text).ok()
    };
    mapping.compare.or_else(of_source).unwrap_or_default()
}

fn mirror(record: MirrorRecord, source: &str) -> MirrorView {
    // A place is a source's name and a schema's.
    let schema = record.place.strip_prefix(source).and_then(|rest| rest.strip_prefix('.'));
    let schema = schema.unwrap_or_default().to_owned();
    MirrorView {
        unmirrored: record.unmirrored.len() as u64,
        schema,
        table: record.table,
        keys: record.keys,
        rows: record.rows,
        made_at: record.made_at,
        reason: Some(record.reason).filter(|reason| !reason.is_empty()),
        behind_since: record.behind_since,
    }
}

/// The schedule with its next `times`.
pub fn schedule(
    project: &Project,
    mapping: &Mapping,
    mut timetable: Timetable,
    now: DateTime<Utc>,
    times: usize,
) -> Option<ScheduleView> {
    let mut view = schedule_written(project, mapping)?;
    let zone = zone(project, mapping);
    let local = |at: DateTime<Utc>| at.with_timezone(&zone).to_rfc3339_opts(SecondsFormat::Secs, false);
    let next = timetable.upcoming(now, times);
    view.next = next.into_iter().map(|utc| ScheduledTime { local: local(utc), utc }).collect();
    timetable.tick(now);
    view.overdue_since = timetable.overdue_since();
    Some(view)
}

/// The schedule as it is written, without times.
fn schedule_written(project: &Project, mapping: &Mapping) -> Option<ScheduleView> {
    let schedule = mapping.schedule.as_ref()?;
    let expression = if schedule.jitter.is_zero() {
        schedule.when.to_string()
    } else {
        format!("{} + up to {}", schedule.when, crate::format::duration(schedule.jitter))
    };
    let timezone = zone(project, mapping).name().to_owned();
    Some(ScheduleView { expression, timezone, overdue_since: None, next: Vec::new() })
}

/// The zone in which a sync's times are read and shown.
pub fn zone(project: &Project, mapping: &Mapping) -> crate::time_zone::Zone {
    let own = mapping.schedule.as_ref().and_then(|schedule| schedule.timezone);
    own.unwrap_or_else(|| project.settings.daemon.zone())
}

/// A value that is stored as JSON; none where nothing is stored. Where it cannot be read, the error is extended.
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
        holder: None,
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

/// A run with everything on record of it, and groups that it could not deliver.
pub fn run_detail(record: RunRecord, detail: &str, rejected: Vec<ChangeRecord>) -> RunDetail {
    let mut run = run(record);
    let detail = stored("record", detail, &mut run.error).unwrap_or_default();
    RunDetail { run, detail, progress: None, rejected: rejected.into_iter().map(change).collect() }
}

/// A change that a run sent.
pub fn change(group: ChangeRecord) -> ChangeView {
    let ChangeRecord { key, entry } = group;
    ChangeView { key, at: entry.at, outcome: entry.outcome, reason: entry.reason, change: entry.change }
}

/// Notes of traits of which that is not known yet when they were last sent, by older lines of their group's history.
pub fn sent_in(traits: &mut BTreeMap<String, SyncedTrait>, older: &[HistoryView]) {
    for (name, synced) in traits.iter_mut().filter(|(_, synced)| synced.sent_at.is_none()) {
        let sends = |entry: &&HistoryView| {
            entry.outcome == ChangeOutcome::Delivered.name() && entry.change.names().any(|spoken| spoken == name)
        };
        if let Some(sent) = older.iter().find(sends) {
            (synced.sent_at, synced.run) = (Some(sent.at), Some(sent.run.clone()));
        }
    }
}

/// A request that is kept of a group.
pub fn group_request(kept: KeptRequest) -> GroupRequestView {
    let KeptRequest { group, part, request } = kept;
    GroupRequestView {
        run: group.run,
        outcome: group.outcome,
        at: group.at,
        groups: request.groups as u64,
        part,
        exchange: request.exchange,
    }
}

/// A group, called by the value of the trait `label`: its synced state, and the latest `count` lines of its history.
pub fn group(
    sync: &str,
    key: &str,
    label: Option<&str>,
    known: Option<SyncedGroup>,
    mut history: Vec<HistoryEntry>,
    count: u64,
) -> GroupView {
    let is_known = known.is_some();
    let (document, unconfirmed_in, rejected, unreadable) = match known {
        Some(known) => (known.document, known.unconfirmed_in, known.rejected, known.unreadable),
        None => Default::default(),
    };
    let label = label.and_then(|label| {
        let rejected = rejected.iter().flat_map(|(document, _)| &document.0);
        document::label(label, document.0.iter().chain(rejected))
    });
    let traits = document.0.into_iter().map(|(name, value)| {
        let sends = |entry: &&HistoryEntry| {
            entry.outcome == ChangeOutcome::Delivered.name() && entry.change.names().any(|spoken| *spoken == name)
        };
        let sent = history.iter().find(sends);
        let synced = SyncedTrait { value, sent_at: sent.map(|sent| sent.at), run: sent.map(|sent| sent.run.clone()) };
        (name, synced)
    });
    let traits = traits.collect();
    history.truncate(usize::try_from(count).unwrap_or(usize::MAX));
    GroupView {
        sync: sync.to_owned(),
        key: key.to_owned(),
        label,
        synced: is_known,
        unconfirmed_in,
        rejected: rejected.map(|(document, reason)| RejectedDocument { document: document.0, reason }),
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

/// Rejected groups of a sync, called by the values of the trait `label`.
pub fn rejected(sync: &str, groups: Vec<SyncedGroup>, label: Option<&str>) -> Vec<RejectedView> {
    let views = groups.into_iter().filter_map(|group| {
        let (document, mut reason) = group.rejected?;
        if let Some(what) = group.unreadable {
            reason = format!("{reason} (the ledger is damaged here: {what})");
        }
        let label = label.and_then(|label| document::label(label, document.0.iter().chain(&group.document.0)));
        let (sync, document) = (sync.to_owned(), document.0);
        Some(RejectedView { sync, key: group.key, label, at: group.at, reason, document })
    });
    views.collect()
}

/// A group as it is exported.
pub fn exported(sync: &str, group: SyncedGroup) -> ExportedGroup {
    let SyncedGroup { key, document, unconfirmed_in, rejected, at, fingerprint, attempted, settled_seq, unreadable } =
        group;
    // What cannot be read is not an empty document.
    let shown = |document: Document| unreadable.is_none().then_some(document.0);
    let rejected = rejected.map(|(document, reason)| ExportedRejection { document: shown(document), reason });
    ExportedGroup {
        at,
        attempted,
        document: shown(document),
        fingerprint: fingerprint.map(|hash| hash.to_string()),
        key,
        rejected,
        seq: Some(settled_seq),
        sync: sync.to_owned(),
        unreadable,
        unconfirmed_in,
    }
}

/// The guard that would stop a run.
fn guard_json(reading: &Reading) -> Value {
    let mut guard = error_json(&reading.error());
    guard["guard"] = Value::from(reading.guard.as_str());
    guard
}

/// A plan, of whose changes none are shown but `hidden` are counted.
pub fn plan(planned: Plan, hidden: u64, traits: Vec<TraitSummary>) -> PlanView {
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
        changes: Vec::new(),
        hidden,
        traits,
        mapping: planned.mapping,
    }
}

/// A mapping.
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
                    Field::Column { declared: Some(declared), .. } => Some(setting(declared)),
                    _ => None,
                },
                op: op(mapped.op).to_owned(),
                on_null: setting(mapped.on_null.unwrap_or(policy.on_null)),
                always: mapped.always,
            })
            .collect(),
        policy: match serde_json::to_value(policy) {
            Ok(Value::Object(settings)) => settings.into_iter().map(|(name, value)| (name, setting(value))).collect(),
            _ => BTreeMap::new(),
        },
    }
}

/// A setting as it is written in JSON.
fn setting(value: impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(text)) => text,
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
