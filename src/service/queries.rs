//! The queries of syncs, runs and groups over a ledger: every service in its own process answers with these. What only a
//! daemon knows (its queue, its runs in progress) the daemon adds.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::api::{SCHEDULED_TIMES, ServiceError, ServiceResult, SyncError};
use super::views::build::{self, SyncRecord};
use super::views::{
    ChangeView, DestinationView, GroupRequestView, GroupView, OrphanedSync, RejectedView, RunDetail, RunView,
    SyncDetail, SyncView, destination,
};
use crate::config::Project;
use crate::error::{Error, Kind, Result};
use crate::ledger::mirror::MirrorRecord;
use crate::ledger::{ChangeOutcome, GroupCounts, History, KeyValue, RunRecord, SinceSuccess};
use crate::mapping::{Mapping, MappingFile, When};
use crate::scheduler::cron::SyncSchedule;
use crate::scheduler::timetable::{RunHistory, RunSpan, Timetable};
use crate::service::open::{self, Failure};
use crate::sync;

/// Lines of a group's history that are searched for when each trait was last sent.
const HISTORY_SEARCHED: u64 = 1_000;
/// Rejected groups that a run's detail names.
const REJECTED_SHOWN: u64 = 100;
/// Runs in a sync's detail: as many as its charts have room for.
const DETAIL_RUNS: u64 = 50;

/// Syncs of a destination whose runs are read, one statement each …
const DESTINATION_SYNCS: usize = 50;
/// … and runs of each.
const DESTINATION_RUNS: u64 = 20;

/// Answers queries from a ledger.
#[derive(Clone, Copy)]
pub struct Queries<'a> {
    /// The config folder.
    pub project: &'a Project,
    /// The ledger's history.
    pub history: &'a dyn History,
    /// Its notes.
    pub kv: &'a dyn KeyValue,
    /// The time.
    pub now: DateTime<Utc>,
}

impl Queries<'_> {
    /// Fails unless there is a sync of this name, with or without mistakes in its mapping.
    pub fn exists(&self, sync: &str) -> ServiceResult<()> {
        open::exists(self.project, sync).map_err(ServiceError::NotFound)
    }

    /// Every sync, by name, each with the next `times` of its schedule.
    pub async fn syncs(&self, times: usize) -> ServiceResult<Vec<SyncView>> {
        let mut records = self.records().await?;
        let mut views = Vec::with_capacity(self.project.mappings.len());
        for file in &self.project.mappings {
            let timetable = timetable(self.project, &file.mapping, self.history, self.now).await?;
            let record = records.remove(&file.mapping.name).unwrap_or_default();
            views.push(build::sync(self.project, &file.mapping, record, timetable, self.now, times));
        }
        Ok(views)
    }

    /// What the ledger has recorded of every sync, by name, in four statements however many there are.
    pub async fn records(&self) -> ServiceResult<BTreeMap<String, SyncRecord>> {
        let mut records: BTreeMap<String, SyncRecord> = BTreeMap::new();
        for (sync, mut runs) in self.history.latest_runs(1).await? {
            records.entry(sync).or_default().last = runs.pop();
        }
        for (sync, groups) in self.history.all_group_counts().await? {
            records.entry(sync).or_default().groups = groups;
        }
        for (sync, at) in self.history.last_successes().await? {
            records.entry(sync).or_default().last_success_at = Some(at);
        }
        for (sync, mirror) in MirrorRecord::all(self.kv).await? {
            records.entry(sync).or_default().mirror = Some(mirror);
        }
        Ok(records)
    }

    /// One sync with its mapping, guards and latest runs.
    pub async fn sync(&self, sync: &str) -> ServiceResult<SyncDetail> {
        let file = self.file(sync)?;
        let timetable = timetable(self.project, &file.mapping, self.history, self.now).await?;
        self.sync_by(file, timetable).await
    }

    /// The same, by this timetable.
    pub async fn sync_by(&self, file: &MappingFile, timetable: Option<Timetable>) -> ServiceResult<SyncDetail> {
        let sync = &file.mapping.name;
        let record = SyncRecord {
            last: self.history.runs(Some(sync), None, 1).await?.pop(),
            groups: self.history.group_counts(sync).await?,
            last_success_at: self.history.last_success(sync).await?,
            mirror: MirrorRecord::load(self.kv, sync).await?,
        };
        let runs = self.history.runs_with_details(sync, DETAIL_RUNS).await?;
        let last = runs.iter().find_map(|(_, detail)| serde_json::from_str(detail).ok());
        Ok(SyncDetail {
            sync: build::sync(self.project, &file.mapping, record, timetable, self.now, SCHEDULED_TIMES),
            mapping: build::mapping(&file.mapping),
            last,
            runs: runs.into_iter().map(|(record, _)| build::run(record)).collect(),
        })
    }

    /// The mapping of a sync.
    pub fn file(&self, sync: &str) -> ServiceResult<&MappingFile> {
        self.exists(sync)?;
        Ok(open::named(self.project, sync)?)
    }

    /// A destination: how it is sent to, and how it responded to the latest runs of its syncs.
    pub async fn destination(&self, name: &str) -> ServiceResult<DestinationView> {
        let Some(settings) = self.project.settings.destinations.get(name) else {
            let error = Error::new(Kind::Config, format!("destination `{name}` not found"));
            return Err(ServiceError::NotFound(error.advise("see [destinations] in groupcast.toml")));
        };
        let mappings = self.project.mappings.iter().map(|file| &file.mapping);
        let syncs: Vec<String> =
            mappings.filter(|mapping| mapping.destination == name).map(|mapping| mapping.name.clone()).collect();
        let mut runs = Vec::new();
        for sync in syncs.iter().take(DESTINATION_SYNCS) {
            for (record, detail) in self.history.runs_with_details(sync, DESTINATION_RUNS).await? {
                let RunDetail { run, detail, .. } = build::run_detail(record, &detail, Vec::new());
                runs.push((run, detail));
            }
        }
        Ok(destination::view(settings, syncs, runs))
    }

    /// The syncs that the ledger has groups of, and this project has no mapping for.
    pub async fn orphaned_syncs(&self) -> ServiceResult<Vec<OrphanedSync>> {
        let groups = self.history.all_group_counts().await?;
        let mut orphaned = Vec::new();
        let mut fresh = None;
        for (sync, groups) in groups {
            if groups.is_empty() || open::exists(self.project, &sync).is_ok() {
                continue;
            }
            let last = self.history.runs(Some(&sync), None, 1).await?.pop();
            let target = last.as_ref().and_then(|run| sync::target_of(&run.mapping));
            let (destination, group_type) = target.unzip();
            let fresh = match &mut fresh {
                Some(fresh) => fresh,
                None => fresh.insert(self.fresh_syncs().await?),
            };
            let would_send_there = |file: &&&MappingFile| {
                let Mapping { destination: to, group_type: kind, .. } = &file.mapping;
                (Some(to), Some(kind)) == (destination.as_ref(), group_type.as_ref())
            };
            let renamed_to = fresh.iter().filter(would_send_there).map(|file| file.mapping.name.clone()).collect();
            let last_run_at = last.map(|run| run.started_at);
            orphaned.push(OrphanedSync { sync, groups, destination, group_type, last_run_at, renamed_to });
        }
        Ok(orphaned)
    }

    /// The mappings of which the ledger has no groups.
    async fn fresh_syncs(&self) -> ServiceResult<Vec<&MappingFile>> {
        let groups = self.history.all_group_counts().await?;
        let is_fresh = |file: &&MappingFile| groups.get(&file.mapping.name).is_none_or(GroupCounts::is_empty);
        Ok(self.project.mappings.iter().filter(is_fresh).collect())
    }

    /// Fails unless what the ledger has of `from` can become that of `to`.
    pub async fn can_rename(&self, from: &str, to: &str) -> ServiceResult<()> {
        self.exists(to)?;
        self.is_orphaned(from).await?;
        let groups = self.history.group_counts(to).await?;
        if groups.is_empty() {
            return Ok(());
        }
        let count = groups.synced.max(groups.unconfirmed).max(groups.rejected);
        let error = Error::new(Kind::Config, format!("sync `{to}` has {count} groups of its own in the ledger"));
        let advice = format!(
            "drop one of the two: `groupcast ledger drop {from}`, or `groupcast ledger reset {to} --forget` and rename again"
        );
        Err(ServiceError::Conflict(error.advise(advice)))
    }

    /// Fails unless the ledger has something of a sync that has no mapping.
    pub async fn is_orphaned(&self, sync: &str) -> ServiceResult<()> {
        if open::exists(self.project, sync).is_ok() {
            let error = Error::new(Kind::Config, format!("sync `{sync}` has a mapping: it is in use"));
            let advice = format!("rename or remove its file first; `groupcast ledger reset {sync}` resets it");
            return Err(ServiceError::Conflict(error.advise(advice)));
        }
        if self.history.group_counts(sync).await?.is_empty() && self.history.runs(Some(sync), None, 1).await?.is_empty()
        {
            let error = Error::new(Kind::Config, format!("the ledger has nothing of a sync `{sync}`"));
            return Err(ServiceError::NotFound(error.advise("`groupcast status` lists the syncs without a mapping")));
        }
        Ok(())
    }

    /// Runs, the newest first: those before the run `before` if given, at most `count`.
    pub async fn runs(&self, sync: Option<&str>, before: Option<&str>, count: u64) -> ServiceResult<Vec<RunView>> {
        sync.map_or(Ok(()), |sync| self.exists(sync))?;
        let records = self.history.runs(sync, before, count).await?;
        Ok(records.into_iter().map(build::run).collect())
    }

    /// The latest runs of every sync, by name and the newest first, at most `each` of one.
    pub async fn latest_runs(&self, each: u64) -> ServiceResult<BTreeMap<String, Vec<RunView>>> {
        let views = |runs: Vec<RunRecord>| runs.into_iter().map(build::run).collect();
        let mut latest = self.history.latest_runs(each).await?;
        latest.retain(|sync, _| self.exists(sync).is_ok());
        Ok(latest.into_iter().map(|(sync, runs)| (sync, views(runs))).collect())
    }

    /// One run with everything on record; none where there is no such run.
    pub async fn find_run(&self, run: &str) -> Result<Option<RunDetail>> {
        run_detail(self.history, run).await
    }

    /// One run.
    pub async fn run(&self, run: &str) -> ServiceResult<RunDetail> {
        self.find_run(run).await?.ok_or_else(|| unknown_run(run))
    }

    /// The changes of a run, in order, from position `from`, at most `count`; of one outcome (by name) or of all.
    pub async fn run_changes(
        &self,
        run: &str,
        outcome: Option<&str>,
        from: u64,
        count: u64,
    ) -> ServiceResult<Vec<ChangeView>> {
        let unknown = |name: &str| {
            let error = Error::new(Kind::Config, format!("there is no outcome `{name}`"));
            ServiceError::Invalid(
                error.advise("use delivered, rejected, partly_rejected, not_sent, unknown or adopted"),
            )
        };
        let outcome = outcome.map(|name| ChangeOutcome::from_name(name).ok_or_else(|| unknown(name))).transpose()?;
        Ok(self.history.changes(run, outcome, from, count).await?.into_iter().map(build::change).collect())
    }

    /// Rejected groups in key order, at most `count` per sync; of one sync those after the group `after`, if given.
    pub async fn rejected(
        &self,
        sync: Option<&str>,
        after: Option<&str>,
        count: u64,
    ) -> ServiceResult<Vec<RejectedView>> {
        if let Some(sync) = sync {
            self.exists(sync)?;
            return Ok(build::rejected(sync, self.history.rejected(sync, after, count).await?, self.label(sync)));
        }
        let mut all = self.history.all_rejected(count).await?;
        all.retain(|sync, _| self.exists(sync).is_ok());
        Ok(all.into_iter().flat_map(|(sync, groups)| build::rejected(&sync, groups, self.label(&sync))).collect())
    }

    /// The trait that names a sync's groups for people.
    fn label(&self, sync: &str) -> Option<&str> {
        let file = self.project.mappings.iter().find(|file| file.mapping.name == sync)?;
        file.mapping.label.as_deref()
    }

    /// One group with the latest `count` lines of its history (before the line `before`, if given).
    pub async fn group(&self, sync: &str, key: &str, before: Option<u64>, count: u64) -> ServiceResult<GroupView> {
        self.exists(sync)?;
        let synced = self.history.group(sync, key).await?;
        let searched = if before.is_some() { count } else { count.max(HISTORY_SEARCHED) };
        let history = self.history.group_history(sync, key, before, searched).await?;
        if synced.is_none() && history.is_empty() {
            return Err(no_history(sync, key));
        }
        Ok(build::group(sync, key, self.label(sync), synced, history, count))
    }
}

impl Queries<'_> {
    /// The requests that a group was in last, unless they are older than they are kept.
    pub async fn requests(&self, sync: &str, key: &str) -> ServiceResult<Vec<GroupRequestView>> {
        self.exists(sync)?;
        let Some(kept) = self.history.kept_requests().cloned() else { return Ok(Vec::new()) };
        let kept_for = chrono::TimeDelta::from_std(self.project.settings.state.requests_retention).ok();
        let oldest = kept_for.and_then(|kept_for| self.now.checked_sub_signed(kept_for));
        let (sync, key) = (sync.to_owned(), key.to_owned());
        // The file may have some megabytes.
        let found = tokio::task::spawn_blocking(move || kept.of_group(&sync, &key, oldest)).await;
        let found = found.map_err(|panic| Error::new(Kind::Bug, "failed to read the kept requests").because(panic))?;
        Ok(found.into_iter().map(build::group_request).collect())
    }
}

/// A run with everything on record; none where there is no such run.
pub async fn run_detail(history: &dyn History, run: &str) -> Result<Option<RunDetail>> {
    let Some((record, detail)) = history.run(run).await? else { return Ok(None) };
    let mut rejected = history.changes(run, Some(ChangeOutcome::Rejected), 0, REJECTED_SHOWN).await?;
    if (rejected.len() as u64) < REJECTED_SHOWN {
        rejected.extend(history.changes(run, Some(ChangeOutcome::PartlyRejected), 0, REJECTED_SHOWN).await?);
    }
    Ok(Some(build::run_detail(record, &detail, rejected)))
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

/// There is no run of this id.
pub fn unknown_run(run: &str) -> ServiceError {
    let error = Error::new(Kind::Config, format!("run `{run}` not found"));
    ServiceError::NotFound(error.advise("`groupcast runs` lists the runs"))
}

/// Nothing is on record of a group.
pub fn no_history(sync: &str, key: &str) -> ServiceError {
    let key = crate::format::one_line(key);
    let error = Error::new(Kind::Config, format!("group `{key}` has no sync history in {sync}"));
    ServiceError::NotFound(
        error.advise(format!("`groupcast plan {sync} --group {key}` shows whether the source has it")),
    )
}

/// The syncs whose mappings have errors, by name.
pub fn sync_errors(project: &Project) -> Vec<SyncError> {
    let runs = |sync: &str| project.mappings.iter().any(|file| file.mapping.name == sync);
    let broken = project.broken.iter().filter_map(|broken| Some((broken, project.mistakes(&broken.name)?)));
    broken
        .map(|(broken, mistakes)| {
            let error = Failure::from(mistakes).as_error();
            let (advice, runs) = (error.advice().map(str::to_owned), runs(&broken.name));
            let (sync, file) = (broken.name.clone(), broken.file.clone());
            SyncError { sync, file, error: error.to_string(), advice, runs }
        })
        .collect()
}
