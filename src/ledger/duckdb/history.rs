//! Queries about runs, groups, and what was sent to them.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use chrono::{DateTime, NaiveDateTime, Utc};
use duckdb::{Connection, OptionalExt, params};

use super::rows::{
    GROUP_COLUMNS, GROUP_COLUMNS_COUNT, RUN_COLUMNS, groups, history, history_lines, lines, list, run_record,
};
use super::{DuckDbLedger, bundles, statements};
use crate::duckdb::{ledger_error, quote_literal};
use crate::error::Result;
use crate::ledger::kept_requests::KeptRequests;
use crate::ledger::{
    ChangeOutcome, ChangeRecord, GroupCounts, History, HistoryEntry, RunRecord, SinceSuccess, SyncedGroup,
};

/// More unfinished runs than there can be: each is of another sync.
const UNFINISHED_MAX: u64 = 1_000_000;
/// A run of the whole model that succeeded, with or without rejections.
const SUCCESSFUL: &str = "status IN ('succeeded', 'succeeded_with_rejections') AND partial IS NOT TRUE";

/// The condition for groups of a sync after the group `after`, if given.
fn following(sync: &str, after: Option<&str>) -> String {
    let after = after.map_or_else(String::new, |after| format!(" AND key > {}", quote_literal(after)));
    format!("sync = {}{after}", quote_literal(sync))
}

impl DuckDbLedger {
    /// The records of the runs that a condition names, the newest first, at most `count`.
    async fn records(&self, condition: &str, count: u64) -> Result<Vec<RunRecord>> {
        let sql = format!("SELECT {RUN_COLUMNS} FROM runs WHERE {condition} ORDER BY run DESC LIMIT {count}");
        self.call("list runs", move |connection| {
            let read = |connection: &Connection| -> duckdb::Result<Vec<RunRecord>> {
                connection.prepare(&sql)?.query_map([], run_record)?.collect()
            };
            read(connection).map_err(ledger_error("list runs"))
        })
        .await
    }

    /// [`DuckDbLedger::call`] for a query about groups or lines of the journal: outcomes that are not in their tables yet are
    /// brought there first.
    async fn query<T: Send + 'static>(
        &self,
        what: &'static str,
        query: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if self.has_bundled.load(Ordering::SeqCst) {
            let waiting =
                self.call(what, move |connection| bundles::any(connection).map_err(ledger_error(what))).await?;
            let inline_max = self.inline_max;
            if waiting {
                self.write(what, move |connection| bundles::unpack(connection, None, &mut Vec::new(), inline_max))
                    .await?;
            }
        }
        self.call(what, query).await
    }
}

#[async_trait]
impl History for DuckDbLedger {
    fn kept_requests(&self) -> Option<&KeptRequests> {
        self.kept_requests.as_ref()
    }

    async fn runs(&self, sync: Option<&str>, before: Option<&str>, count: u64) -> Result<Vec<RunRecord>> {
        let mut conditions = vec!["true".to_owned()];
        conditions.extend(sync.map(|sync| format!("sync = {}", quote_literal(sync))));
        conditions.extend(before.map(|before| format!("run < {}", quote_literal(before))));
        self.records(&conditions.join(" AND "), count).await
    }

    async fn run(&self, run: &str) -> Result<Option<(RunRecord, String)>> {
        let run = run.to_owned();
        self.call("read a run", move |connection| {
            connection
                .query_row(&format!("SELECT {RUN_COLUMNS}, detail FROM runs WHERE run = ?"), [run], |row| {
                    Ok((run_record(row)?, row.get::<_, Option<String>>(12)?.unwrap_or_default()))
                })
                .optional()
                .map_err(ledger_error("read a run"))
        })
        .await
    }

    async fn runs_with_details(&self, sync: &str, count: u64) -> Result<Vec<(RunRecord, String)>> {
        let sync = sync.to_owned();
        self.call("list runs", move |connection| {
            let read = || -> duckdb::Result<Vec<(RunRecord, String)>> {
                let mut runs = connection.prepare(&format!(
                    "SELECT {RUN_COLUMNS}, detail FROM runs WHERE sync = ? ORDER BY run DESC LIMIT {count}"
                ))?;
                let runs = runs.query_map([sync], |row| {
                    Ok((run_record(row)?, row.get::<_, Option<String>>(12)?.unwrap_or_default()))
                })?;
                runs.collect()
            };
            read().map_err(ledger_error("list runs"))
        })
        .await
    }

    async fn latest_runs(&self, each: u64) -> Result<BTreeMap<String, Vec<RunRecord>>> {
        self.call("list runs", move |connection| {
            let read = || -> duckdb::Result<BTreeMap<String, Vec<RunRecord>>> {
                let mut runs = connection.prepare(&format!(
                    "SELECT {RUN_COLUMNS} FROM runs \
                     QUALIFY row_number() OVER (PARTITION BY sync ORDER BY run DESC) <= {each} ORDER BY run DESC"
                ))?;
                let mut latest: BTreeMap<String, Vec<RunRecord>> = BTreeMap::new();
                for record in runs.query_map([], run_record)? {
                    let record = record?;
                    latest.entry(record.sync.clone()).or_default().push(record);
                }
                Ok(latest)
            };
            read().map_err(ledger_error("list runs"))
        })
        .await
    }

    async fn whole_runs(&self, sync: &str, count: u64) -> Result<Vec<RunRecord>> {
        let which = format!("sync = {} AND partial IS NOT TRUE", quote_literal(sync));
        self.records(&which, count).await
    }

    async fn unfinished_runs(&self) -> Result<Vec<RunRecord>> {
        let mut runs = self.records("status = 'running'", UNFINISHED_MAX).await?;
        runs.reverse();
        Ok(runs)
    }

    async fn last_success(&self, sync: &str) -> Result<Option<DateTime<Utc>>> {
        let sync = sync.to_owned();
        self.call("read the last successful run", move |connection| {
            let sql = format!("SELECT max_by(ended_at, run) FROM runs WHERE sync = ? AND {SUCCESSFUL}");
            let at: Option<NaiveDateTime> = connection
                .query_row(&sql, [sync], |row| row.get(0))
                .map_err(ledger_error("read the last successful run"))?;
            Ok(at.map(|at| at.and_utc()))
        })
        .await
    }

    async fn last_successes(&self) -> Result<BTreeMap<String, DateTime<Utc>>> {
        self.call("read the last successful runs", |connection| {
            let read = || -> duckdb::Result<BTreeMap<String, DateTime<Utc>>> {
                let mut good = connection.prepare(&format!(
                    "SELECT sync, max_by(ended_at, run) FROM runs WHERE {SUCCESSFUL} AND ended_at IS NOT NULL GROUP BY sync"
                ))?;
                let of = |row: &duckdb::Row<'_>| Ok((row.get(0)?, row.get::<_, NaiveDateTime>(1)?.and_utc()));
                good.query_map([], of)?.collect()
            };
            read().map_err(ledger_error("read the last successful runs"))
        })
        .await
    }

    async fn since_success(&self, sync: &str) -> Result<SinceSuccess> {
        let which = format!("sync = {} AND {SUCCESSFUL}", quote_literal(sync));
        let success = self.records(&which, 1).await?.pop();
        let (sync, after) = (sync.to_owned(), success.as_ref().map(|run| run.run.clone()).unwrap_or_default());
        self.call("read the runs since the last success", move |connection| {
            let sql = "SELECT min(started_at), max(ended_at) FROM runs \
                 WHERE sync = ? AND partial IS NOT TRUE AND run > ?";
            type Times = (Option<NaiveDateTime>, Option<NaiveDateTime>);
            let read = |row: &duckdb::Row<'_>| -> duckdb::Result<Times> { Ok((row.get(0)?, row.get(1)?)) };
            let (first, last) = connection
                .query_row(sql, params![sync, after], read)
                .map_err(ledger_error("read the runs since the last success"))?;
            let (attempted_at, failed_at) = (first.map(|at| at.and_utc()), last.map(|at| at.and_utc()));
            Ok(SinceSuccess { success, attempted_at, failed_at })
        })
        .await
    }

    async fn group_counts(&self, sync: &str) -> Result<GroupCounts> {
        let sync = sync.to_owned();
        self.query("count groups", move |connection| {
            connection
                .query_row(
                    &format!(
                        "SELECT ({}), count(unconfirmed_in), count(rejected_reason) FROM synced WHERE sync = ?",
                        statements::delivered_count(&sync)
                    ),
                    [&sync],
                    |row| Ok(GroupCounts { synced: row.get(0)?, unconfirmed: row.get(1)?, rejected: row.get(2)? }),
                )
                .map_err(ledger_error("count groups"))
        })
        .await
    }

    async fn all_group_counts(&self) -> Result<BTreeMap<String, GroupCounts>> {
        self.query("count groups", |connection| {
            let read = || -> duckdb::Result<BTreeMap<String, GroupCounts>> {
                let mut counts = connection.prepare(
                    "SELECT sync, count(*), count(unconfirmed_in), count(rejected_reason) FROM synced GROUP BY sync",
                )?;
                let of = |row: &duckdb::Row<'_>| {
                    Ok((
                        row.get(0)?,
                        GroupCounts { synced: row.get(1)?, unconfirmed: row.get(2)?, rejected: row.get(3)? },
                    ))
                };
                let mut counts: BTreeMap<String, GroupCounts> =
                    counts.query_map([], of)?.collect::<duckdb::Result<_>>()?;
                let mut never = connection.prepare(&statements::never_delivered_counts())?;
                for count in never.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, u64>(1)?)))? {
                    let (sync, count) = count?;
                    if let Some(of_sync) = counts.get_mut(&sync) {
                        of_sync.synced = of_sync.synced.saturating_sub(count);
                    }
                }
                Ok(counts)
            };
            read().map_err(ledger_error("count groups"))
        })
        .await
    }

    async fn group(&self, sync: &str, key: &str) -> Result<Option<SyncedGroup>> {
        let condition = format!("sync = {} AND key = {}", quote_literal(sync), quote_literal(key));
        self.query("read a group", move |connection| Ok(list(connection, &condition, 1, true)?.pop())).await
    }

    async fn groups(&self, sync: &str, after: Option<&str>, count: u64) -> Result<Vec<SyncedGroup>> {
        let condition = following(sync, after);
        self.query("list groups", move |connection| list(connection, &condition, count, false)).await
    }

    async fn rejected(&self, sync: &str, after: Option<&str>, count: u64) -> Result<Vec<SyncedGroup>> {
        let condition = format!("{} AND rejected_reason IS NOT NULL", following(sync, after));
        self.query("list rejected groups", move |connection| list(connection, &condition, count, true)).await
    }

    async fn all_rejected(&self, each: u64) -> Result<BTreeMap<String, Vec<SyncedGroup>>> {
        self.query("list rejected groups", move |connection| {
            let sql = format!(
                "SELECT {GROUP_COLUMNS}, sync FROM synced WHERE rejected_reason IS NOT NULL \
                 QUALIFY row_number() OVER (PARTITION BY sync ORDER BY key) <= {each} ORDER BY key"
            );
            let found = groups(connection, &sql, [], true, |row| row.get::<_, String>(GROUP_COLUMNS_COUNT));
            let mut rejected: BTreeMap<String, Vec<SyncedGroup>> = BTreeMap::new();
            for (sync, group) in found.map_err(ledger_error("list rejected groups"))? {
                rejected.entry(sync).or_default().push(group);
            }
            Ok(rejected)
        })
        .await
    }

    async fn unconfirmed_or_rejected(&self, sync: &str, count: u64) -> Result<Vec<String>> {
        let sync = sync.to_owned();
        self.query("list unconfirmed and rejected groups", move |connection| {
            let read = || -> duckdb::Result<Vec<String>> {
                let mut keys = connection.prepare(
                    "SELECT key FROM synced WHERE sync = ? AND (unconfirmed_in IS NOT NULL OR rejected_reason IS NOT NULL) LIMIT ?",
                )?;
                keys.query_map(params![sync, count], |row| row.get(0))?.collect()
            };
            read().map_err(ledger_error("list unconfirmed and rejected groups"))
        })
        .await
    }

    async fn group_history(&self, sync: &str, key: &str, before: Option<u64>, count: u64) -> Result<Vec<HistoryEntry>> {
        let (sync, key) = (sync.to_owned(), key.to_owned());
        self.query("read a group's history", move |connection| {
            let before = before.unwrap_or(i64::MAX as u64);
            history(connection, &sync, &key, before, count).map_err(ledger_error("read a group's history"))
        })
        .await
    }

    async fn changes(
        &self,
        run: &str,
        outcome: Option<ChangeOutcome>,
        from: u64,
        count: u64,
    ) -> Result<Vec<ChangeRecord>> {
        let run = run.to_owned();
        let only =
            outcome.map_or_else(String::new, |outcome| format!(" AND outcome = {}", quote_literal(outcome.name())));
        self.query("read what a run sent", move |connection| {
            let sql = history_lines(&format!("run = ?{only} ORDER BY seq LIMIT ? OFFSET ?"), false);
            let found = lines(connection, &sql, params![run, count, from], |row| row.get(6));
            let found = found.map_err(ledger_error("read what a run sent"))?;
            Ok(found.into_iter().map(|(key, entry)| ChangeRecord { key, entry }).collect())
        })
        .await
    }
}
