//! Queries and notes of the ledger in memory.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use groupcast::error::Result;
use groupcast::ledger::{
    ChangeOutcome, ChangeRecord, GroupCounts, History, HistoryEntry, KeyValue, RunRecord, RunStatus, SinceSuccess,
    Storage, SyncedGroup,
};
use groupcast::model::Change;

use super::{Line, MemoryLedger, Record, Row, State};

fn run_record(Record { start, checkpoint }: &Record) -> RunRecord {
    RunRecord {
        sync: start.sync.clone(),
        run: start.run.clone(),
        started_at: start.started_at,
        ended_at: checkpoint.as_ref().map(|checkpoint| checkpoint.ended_at),
        status: checkpoint.as_ref().map_or(RunStatus::Running, |checkpoint| checkpoint.status),
        counts: checkpoint.as_ref().map(|checkpoint| checkpoint.counts.clone()).unwrap_or_default(),
        error: checkpoint.as_ref().and_then(|checkpoint| checkpoint.error.clone()),
        mapping: start.mapping.clone(),
        started_by: start.started_by.clone(),
        partial: start.partial,
        error_kind: checkpoint.as_ref().and_then(|checkpoint| checkpoint.error_kind.clone()),
        guard: checkpoint.as_ref().and_then(|checkpoint| checkpoint.guard.clone()),
    }
}

fn with_detail(record: &Record) -> (RunRecord, String) {
    let detail = record.checkpoint.as_ref().map(|checkpoint| checkpoint.detail.clone());
    (run_record(record), detail.unwrap_or_default())
}

fn history_entry(line: &Line) -> HistoryEntry {
    // A change that was not sent is not kept.
    let sent =
        !matches!(line.entry.outcome, ChangeOutcome::Unchanged | ChangeOutcome::Pending | ChangeOutcome::Adopted);
    HistoryEntry {
        seq: line.seq,
        run: line.run.clone(),
        at: line.at,
        change: if sent { Change::clone(&line.entry.change) } else { Change::default() },
        outcome: line.entry.outcome.name().to_owned(),
        reason: line.entry.reason.clone(),
    }
}

fn group((key, row): (&str, &Row)) -> SyncedGroup {
    SyncedGroup {
        key: key.to_owned(),
        document: row.document.clone(),
        unconfirmed_in: row.unconfirmed_in.clone(),
        rejected: row.rejected.clone(),
        at: row.at,
        fingerprint: row.fingerprint,
        attempted: row.attempted.iter().cloned().collect(),
        settled_seq: row.seq,
        unreadable: None,
    }
}

impl State {
    /// The runs of a sync, or all, the newest first.
    fn newest<'a>(&'a self, sync: Option<&'a str>) -> impl Iterator<Item = &'a Record> {
        self.runs.iter().rev().filter(move |record| sync.is_none_or(|sync| record.start.sync == sync))
    }

    fn syncs(&self) -> Vec<String> {
        let mut syncs: Vec<String> = self.runs.iter().map(|record| record.start.sync.clone()).collect();
        syncs.extend(self.groups.keys().map(|(sync, _)| sync.clone()));
        syncs.sort();
        syncs.dedup();
        syncs
    }

    fn last_successful(&self, sync: &str) -> Option<RunRecord> {
        let successful = |record: &RunRecord| {
            matches!(record.status, RunStatus::Succeeded | RunStatus::SucceededWithRejections) && !record.partial
        };
        self.newest(Some(sync)).map(run_record).find(successful)
    }

    fn counts(&self, sync: &str) -> GroupCounts {
        let mut counts = GroupCounts::default();
        for (_, row) in self.of_sync(sync) {
            counts.synced += u64::from(row.was_delivered());
            counts.unconfirmed += u64::from(row.unconfirmed_in.is_some());
            counts.rejected += u64::from(row.rejected.is_some());
        }
        counts
    }

    fn rejected(&self, sync: &str, after: Option<&str>, count: u64) -> Vec<SyncedGroup> {
        let rejected =
            self.of_sync(sync).filter(|(key, row)| row.rejected.is_some() && after.is_none_or(|at| *key > at));
        rejected.take(count as usize).map(group).collect()
    }
}

#[async_trait]
impl History for MemoryLedger {
    async fn runs(&self, sync: Option<&str>, before: Option<&str>, count: u64) -> Result<Vec<RunRecord>> {
        let state = self.state();
        let earlier =
            state.newest(sync).filter(|record| before.is_none_or(|before| record.start.run.as_str() < before));
        Ok(earlier.take(count as usize).map(run_record).collect())
    }

    async fn run(&self, run: &str) -> Result<Option<(RunRecord, String)>> {
        Ok(self.state().runs.iter().find(|record| record.start.run == run).map(with_detail))
    }

    async fn runs_with_details(&self, sync: &str, count: u64) -> Result<Vec<(RunRecord, String)>> {
        Ok(self.state().newest(Some(sync)).take(count as usize).map(with_detail).collect())
    }

    async fn latest_runs(&self, each: u64) -> Result<BTreeMap<String, Vec<RunRecord>>> {
        let state = self.state();
        let of = |sync: String| {
            let runs: Vec<RunRecord> = state.newest(Some(&sync)).take(each as usize).map(run_record).collect();
            (!runs.is_empty()).then_some((sync, runs))
        };
        Ok(state.syncs().into_iter().filter_map(of).collect())
    }

    async fn whole_runs(&self, sync: &str, count: u64) -> Result<Vec<RunRecord>> {
        let state = self.state();
        Ok(state
            .newest(Some(sync))
            .filter(|record| !record.start.partial)
            .take(count as usize)
            .map(run_record)
            .collect())
    }

    async fn unfinished_runs(&self) -> Result<Vec<RunRecord>> {
        Ok(self.state().runs.iter().filter(|record| record.checkpoint.is_none()).map(run_record).collect())
    }

    async fn last_success(&self, sync: &str) -> Result<Option<DateTime<Utc>>> {
        Ok(self.state().last_successful(sync).and_then(|run| run.ended_at))
    }

    async fn last_successes(&self) -> Result<BTreeMap<String, DateTime<Utc>>> {
        let state = self.state();
        let of = |sync: String| state.last_successful(&sync)?.ended_at.map(|at| (sync, at));
        Ok(state.syncs().into_iter().filter_map(of).collect())
    }

    async fn since_success(&self, sync: &str) -> Result<SinceSuccess> {
        let state = self.state();
        let success = state.last_successful(sync);
        let since = |run: &RunRecord| !run.partial && success.as_ref().is_none_or(|success| run.run > success.run);
        let attempts: Vec<RunRecord> = state.newest(Some(sync)).map(run_record).filter(since).collect();
        let attempted_at = attempts.iter().map(|run| run.started_at).min();
        let failed_at = attempts.iter().filter_map(|run| run.ended_at).max();
        Ok(SinceSuccess { success, attempted_at, failed_at })
    }

    async fn group_counts(&self, sync: &str) -> Result<GroupCounts> {
        Ok(self.state().counts(sync))
    }

    async fn all_group_counts(&self) -> Result<BTreeMap<String, GroupCounts>> {
        let state = self.state();
        let mut syncs: Vec<&String> = state.groups.keys().map(|(sync, _)| sync).collect();
        syncs.dedup();
        Ok(syncs.into_iter().map(|sync| (sync.clone(), state.counts(sync))).collect())
    }

    async fn group(&self, sync: &str, key: &str) -> Result<Option<SyncedGroup>> {
        Ok(self.state().groups.get(&(sync.to_owned(), key.to_owned())).map(|row| group((key, row))))
    }

    async fn groups(&self, sync: &str, after: Option<&str>, count: u64) -> Result<Vec<SyncedGroup>> {
        let state = self.state();
        let following = state.of_sync(sync).filter(|(key, _)| after.is_none_or(|after| *key > after));
        Ok(following.take(count as usize).map(group).collect())
    }

    async fn rejected(&self, sync: &str, after: Option<&str>, count: u64) -> Result<Vec<SyncedGroup>> {
        Ok(self.state().rejected(sync, after, count))
    }

    async fn all_rejected(&self, each: u64) -> Result<BTreeMap<String, Vec<SyncedGroup>>> {
        let state = self.state();
        let of = |sync: String| (state.rejected(&sync, None, each), sync);
        let all = state.syncs().into_iter().map(of).filter(|(groups, _)| !groups.is_empty());
        Ok(all.map(|(groups, sync)| (sync, groups)).collect())
    }

    async fn unconfirmed_or_rejected(&self, sync: &str, count: u64) -> Result<Vec<String>> {
        let state = self.state();
        let open = state.of_sync(sync).filter(|(_, row)| row.unconfirmed_in.is_some() || row.rejected.is_some());
        Ok(open.take(count as usize).map(|(key, _)| key.to_owned()).collect())
    }

    async fn group_history(&self, sync: &str, key: &str, before: Option<u64>, count: u64) -> Result<Vec<HistoryEntry>> {
        let state = self.state();
        let of_group = |line: &&Line| line.sync == sync && line.entry.key == key;
        let earlier = state.journal.iter().rev().filter(of_group).filter(|line| before.is_none_or(|at| line.seq < at));
        Ok(earlier.take(count as usize).map(history_entry).collect())
    }

    async fn changes(
        &self,
        run: &str,
        outcome: Option<ChangeOutcome>,
        from: u64,
        count: u64,
    ) -> Result<Vec<ChangeRecord>> {
        let state = self.state();
        let of_run = |line: &&Line| line.run == run && outcome.is_none_or(|outcome| line.entry.outcome == outcome);
        let recorded = state.journal.iter().filter(of_run).skip(from as usize).take(count as usize);
        Ok(recorded.map(|line| ChangeRecord { key: line.entry.key.clone(), entry: history_entry(line) }).collect())
    }
}

#[async_trait]
impl KeyValue for MemoryLedger {
    async fn get(&self, name: &str) -> Result<Option<String>> {
        Ok(self.state().notes.get(name).cloned())
    }

    async fn all(&self) -> Result<BTreeMap<String, String>> {
        Ok(self.state().notes.clone())
    }

    async fn put(&self, name: &str, text: &str) -> Result<()> {
        self.state().notes.insert(name.to_owned(), text.to_owned());
        Ok(())
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.state().notes.remove(name);
        Ok(())
    }

    async fn delete_if(&self, name: &str, contains: &str) -> Result<()> {
        let mut state = self.state();
        if state.notes.get(name).is_some_and(|text| text.contains(contains)) {
            state.notes.remove(name);
        }
        Ok(())
    }
}

impl Storage for MemoryLedger {}
