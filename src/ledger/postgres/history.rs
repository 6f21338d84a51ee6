//! Queries about runs, groups, and what was sent to them.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::candidates::document;
use super::session::reading;
use super::{PostgresLedger, key_text};
use crate::error::Result;
use crate::ledger::duckdb::rows::{DOCUMENTS, GROUPS_BYTES_MAX};
use crate::ledger::kept_requests::KeptRequests;
use crate::ledger::{
    ChangeOutcome, ChangeRecord, GroupCounts, History, HistoryEntry, RunRecord, RunStatus, SinceSuccess, SyncedGroup,
};
use crate::model::Change;

type Given<'a> = [(&'a (dyn ToSql + Sync), Type)];
type Read<T> = Result<T, tokio_postgres::Error>;

/// More unfinished runs than there can be: each is of another sync.
const UNFINISHED_MAX: i64 = 1_000_000;
/// A run of the whole model that succeeded, with or without rejections.
const SUCCESSFUL: &str = "r.status IN ('succeeded', 'succeeded_with_rejections') AND NOT r.partial";
const RUN_COLUMNS: &str = "s.name, r.run, r.started_at, r.ended_at, r.status, r.counts, r.error, r.mapping, r.started_by, \
    r.error_kind, r.partial, r.guard, r.detail";
const GROUP_COLUMNS: &str = "k.key, k.document, k.unconfirmed_in, k.rejected_document, k.rejected_reason, k.recorded_at, k.fingerprint, \
    k.attempted, k.seq, s.name";
const COUNTS: &str = "coalesce(sum(c.groups - c.undelivered), 0)::bigint, coalesce(sum(c.unconfirmed), 0)::bigint, \
    coalesce(sum(c.rejected), 0)::bigint";
/// The columns of a journal's line. A first delivery has its text in the group's document, until that is replaced.
const LINES: &str = "SELECT j.seq, j.run, j.recorded_at, coalesce(j.change, '{\"set\":' || k.document || '}'), j.outcome, \
    j.reason, j.key FROM (SELECT j.* FROM @.journal j WHERE {which}) j LEFT JOIN @.synced k ON j.in_synced AND j.change IS NULL \
    AND j.outcome = 'delivered' AND k.sync = j.sync AND k.key = j.key AND k.seq = j.seq ORDER BY j.seq {order}";

fn limit(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn run_record(row: &Row) -> Read<RunRecord> {
    let status: &str = row.try_get(4)?;
    Ok(RunRecord {
        sync: row.try_get(0)?,
        run: row.try_get(1)?,
        started_at: row.try_get(2)?,
        ended_at: row.try_get(3)?,
        status: RunStatus::from_name(status).unwrap_or(RunStatus::Failed),
        counts: row.try_get::<_, Option<String>>(5)?.unwrap_or_default(),
        error: row.try_get(6)?,
        mapping: row.try_get(7)?,
        started_by: row.try_get(8)?,
        error_kind: row.try_get(9)?,
        partial: row.try_get(10)?,
        guard: row.try_get(11)?,
    })
}

fn with_detail(row: &Row) -> Read<(RunRecord, String)> {
    Ok((run_record(row)?, row.try_get::<_, Option<String>>(12)?.unwrap_or_default()))
}

fn group(row: &Row) -> Read<SyncedGroup> {
    let mut unreadable = None;
    let rejected: Option<&str> = row.try_get(3)?;
    let mut attempted: Vec<String> = row.try_get::<_, Option<_>>(7)?.unwrap_or_default();
    attempted.sort_unstable();
    Ok(SyncedGroup {
        key: key_text(row.try_get(0)?),
        document: document(DOCUMENTS[0], row.try_get(1)?, &mut unreadable),
        unconfirmed_in: row.try_get(2)?,
        rejected: rejected.map(|text| document(DOCUMENTS[1], text, &mut unreadable)).zip(row.try_get(4)?),
        at: row.try_get(5)?,
        fingerprint: row.try_get::<_, Option<i64>>(6)?.map(|hash| hash as u64),
        attempted,
        settled_seq: row.try_get::<_, i64>(8)? as u64,
        unreadable,
    })
}

fn counts(row: &Row, from: usize) -> Read<GroupCounts> {
    let count = |column: usize| row.try_get::<_, i64>(from + column).map(|count| count as u64);
    Ok(GroupCounts { synced: count(0)?, unconfirmed: count(1)?, rejected: count(2)? })
}

fn change_record(row: &Row) -> Read<ChangeRecord> {
    let mut reason: Option<String> = row.try_get(5)?;
    let change = match row.try_get::<_, Option<&str>>(3)? {
        None => Change::default(),
        Some(text) => serde_json::from_str(text).unwrap_or_else(|error| {
            let why = format!("what was sent cannot be read in the ledger: {error}");
            reason = Some(reason.take().map_or_else(|| why.clone(), |before| format!("{before}; {why}")));
            Change::default()
        }),
    };
    let entry = HistoryEntry {
        seq: row.try_get::<_, i64>(0)? as u64,
        run: row.try_get(1)?,
        at: row.try_get(2)?,
        change,
        outcome: row.try_get(4)?,
        reason,
    };
    Ok(ChangeRecord { key: key_text(row.try_get(6)?), entry })
}

impl PostgresLedger {
    /// Rows of a statement, each read.
    async fn rows<T: Send>(
        &self,
        what: &'static str,
        sql: &str,
        given: &Given<'_>,
        read: impl Fn(&Row) -> Read<T> + Send + Sync,
    ) -> Result<Vec<T>> {
        let sql = self.sql(sql);
        reading!(self, what, |client| {
            let rows = client.query_typed(&sql, given).await?;
            rows.iter().map(&read).collect::<Result<_, _>>()?
        })
    }

    /// The records of the runs that a condition names, the newest first.
    async fn records<T: Send>(
        &self,
        condition: &str,
        given: &Given<'_>,
        count: u64,
        read: impl Fn(&Row) -> Read<T> + Send + Sync,
    ) -> Result<Vec<T>> {
        let count = limit(count);
        let sql = format!(
            "SELECT {RUN_COLUMNS} FROM @.runs r JOIN @.syncs s ON s.id = r.sync WHERE {condition} ORDER BY r.run DESC LIMIT {count}"
        );
        self.rows("list runs", &sql, given, read).await
    }

    /// The groups that a condition names, in key order, at most `count`; fewer where they are large, unless `whole`, but not
    /// none.
    async fn list_groups(
        &self,
        condition: &str,
        given: &Given<'_>,
        count: u64,
        whole: bool,
    ) -> Result<Vec<SyncedGroup>> {
        let bytes = "octet_length(k.document) + coalesce(octet_length(k.rejected_document), 0)";
        let (sizes, cut) = match whole {
            true => (String::new(), String::new()),
            false => (
                format!(", sum({bytes}) OVER (ORDER BY k.key) AS bytes, row_number() OVER (ORDER BY k.key) AS n"),
                format!("WHERE k.bytes <= {GROUPS_BYTES_MAX} OR k.n = 1"),
            ),
        };
        let sql = format!(
            "SELECT {GROUP_COLUMNS} FROM (SELECT *{sizes} FROM (SELECT k.* FROM @.synced k JOIN @.syncs s ON s.id = k.sync \
             WHERE {condition} ORDER BY k.key LIMIT {}) k) k JOIN @.syncs s ON s.id = k.sync {cut} ORDER BY k.key",
            limit(count)
        );
        self.rows("list groups", &sql, given, group).await
    }

    async fn lines(&self, which: &str, order: &str, given: &Given<'_>) -> Result<Vec<ChangeRecord>> {
        let sql = LINES.replace("{which}", which).replace("{order}", order);
        self.rows("read what was sent", &sql, given, change_record).await
    }
}

#[async_trait]
impl History for PostgresLedger {
    fn kept_requests(&self) -> Option<&KeptRequests> {
        self.kept_requests.as_ref()
    }

    async fn runs(&self, sync: Option<&str>, before: Option<&str>, count: u64) -> Result<Vec<RunRecord>> {
        let which = match (sync, before) {
            (Some(_), _) => "s.name = $1 AND ($2::text IS NULL OR r.run < $2)",
            (None, _) => "$1::text IS NULL AND ($2::text IS NULL OR r.run < $2)",
        };
        self.records(which, &[(&sync, Type::TEXT), (&before, Type::TEXT)], count, run_record).await
    }

    async fn run(&self, run: &str) -> Result<Option<(RunRecord, String)>> {
        Ok(self.records("r.run = $1", &[(&run, Type::TEXT)], 1, with_detail).await?.pop())
    }

    async fn runs_with_details(&self, sync: &str, count: u64) -> Result<Vec<(RunRecord, String)>> {
        self.records("s.name = $1", &[(&sync, Type::TEXT)], count, with_detail).await
    }

    async fn latest_runs(&self, each: u64) -> Result<BTreeMap<String, Vec<RunRecord>>> {
        let sql = format!(
            "SELECT {RUN_COLUMNS} FROM @.syncs s CROSS JOIN LATERAL \
             (SELECT * FROM @.runs r WHERE r.sync = s.id ORDER BY r.run DESC LIMIT {}) r ORDER BY r.run DESC",
            limit(each)
        );
        let mut latest: BTreeMap<String, Vec<RunRecord>> = BTreeMap::new();
        for record in self.rows("list runs", &sql, &[], run_record).await? {
            latest.entry(record.sync.clone()).or_default().push(record);
        }
        Ok(latest)
    }

    async fn whole_runs(&self, sync: &str, count: u64) -> Result<Vec<RunRecord>> {
        self.records("s.name = $1 AND NOT r.partial", &[(&sync, Type::TEXT)], count, run_record).await
    }

    async fn unfinished_runs(&self) -> Result<Vec<RunRecord>> {
        let mut runs = self.records("r.status = 'running'", &[], UNFINISHED_MAX as u64, run_record).await?;
        runs.reverse();
        Ok(runs)
    }

    async fn last_success(&self, sync: &str) -> Result<Option<DateTime<Utc>>> {
        let which = format!("s.name = $1 AND {SUCCESSFUL} AND r.ended_at IS NOT NULL");
        let found = self.records(&which, &[(&sync, Type::TEXT)], 1, run_record).await?;
        Ok(found.into_iter().next().and_then(|run| run.ended_at))
    }

    async fn last_successes(&self) -> Result<BTreeMap<String, DateTime<Utc>>> {
        let sql = format!(
            "SELECT s.name, r.ended_at FROM @.syncs s CROSS JOIN LATERAL (SELECT r.ended_at FROM @.runs r \
             WHERE r.sync = s.id AND {SUCCESSFUL} AND r.ended_at IS NOT NULL ORDER BY r.run DESC LIMIT 1) r"
        );
        let read = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?));
        Ok(self.rows("read the last successful runs", &sql, &[], read).await?.into_iter().collect())
    }

    async fn since_success(&self, sync: &str) -> Result<SinceSuccess> {
        let which = format!("s.name = $1 AND {SUCCESSFUL}");
        let success = self.records(&which, &[(&sync, Type::TEXT)], 1, run_record).await?.pop();
        let after = success.as_ref().map(|run| run.run.clone()).unwrap_or_default();
        let sql = "SELECT min(r.started_at), max(r.ended_at) FROM @.runs r JOIN @.syncs s ON s.id = r.sync \
            WHERE s.name = $1 AND NOT r.partial AND r.run > $2";
        let read = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?));
        let given: &Given<'_> = &[(&sync, Type::TEXT), (&after, Type::TEXT)];
        let found = self.rows("read the runs since the last success", sql, given, read).await?.pop();
        let (attempted_at, failed_at) = found.unwrap_or_default();
        Ok(SinceSuccess { success, attempted_at, failed_at })
    }

    async fn group_counts(&self, sync: &str) -> Result<GroupCounts> {
        let sql = format!("SELECT {COUNTS} FROM @.sums c JOIN @.syncs s ON s.id = c.sync WHERE s.name = $1");
        let read = |row: &Row| counts(row, 0);
        Ok(self.rows("count groups", &sql, &[(&sync, Type::TEXT)], read).await?.pop().unwrap_or_default())
    }

    async fn all_group_counts(&self) -> Result<BTreeMap<String, GroupCounts>> {
        let sql = format!(
            "SELECT s.name, {COUNTS} FROM @.sums c JOIN @.syncs s ON s.id = c.sync GROUP BY s.name HAVING sum(c.groups) > 0"
        );
        let read = |row: &Row| Ok((row.try_get(0)?, counts(row, 1)?));
        Ok(self.rows("count groups", &sql, &[], read).await?.into_iter().collect())
    }

    async fn group(&self, sync: &str, key: &str) -> Result<Option<SyncedGroup>> {
        let given: &Given<'_> = &[(&sync, Type::TEXT), (&key.as_bytes(), Type::BYTEA)];
        Ok(self.list_groups("s.name = $1 AND k.key = $2", given, 1, true).await?.pop())
    }

    async fn groups(&self, sync: &str, after: Option<&str>, count: u64) -> Result<Vec<SyncedGroup>> {
        let after = after.map(str::as_bytes);
        let given: &Given<'_> = &[(&sync, Type::TEXT), (&after, Type::BYTEA)];
        match after {
            Some(_) => self.list_groups("s.name = $1 AND k.key > $2", given, count, false).await,
            None => self.list_groups("s.name = $1 AND $2::bytea IS NULL", given, count, false).await,
        }
    }

    async fn rejected(&self, sync: &str, after: Option<&str>, count: u64) -> Result<Vec<SyncedGroup>> {
        let after = after.map(str::as_bytes);
        let which = "s.name = $1 AND ($2::bytea IS NULL OR k.key > $2) AND k.rejected_reason IS NOT NULL";
        self.list_groups(which, &[(&sync, Type::TEXT), (&after, Type::BYTEA)], count, true).await
    }

    async fn all_rejected(&self, each: u64) -> Result<BTreeMap<String, Vec<SyncedGroup>>> {
        let sql = format!(
            "SELECT {GROUP_COLUMNS} FROM @.syncs s CROSS JOIN LATERAL (SELECT * FROM @.synced k WHERE k.sync = s.id \
             AND k.rejected_reason IS NOT NULL ORDER BY k.key LIMIT {}) k ORDER BY k.key",
            limit(each)
        );
        let read = |row: &Row| Ok((row.try_get::<_, String>(9)?, group(row)?));
        let mut rejected: BTreeMap<String, Vec<SyncedGroup>> = BTreeMap::new();
        for (sync, group) in self.rows("list rejected groups", &sql, &[], read).await? {
            rejected.entry(sync).or_default().push(group);
        }
        Ok(rejected)
    }

    async fn unconfirmed_or_rejected(&self, sync: &str, count: u64) -> Result<Vec<String>> {
        let sql = format!(
            "SELECT k.key FROM @.syncs s JOIN @.synced k ON k.sync = s.id WHERE s.name = $1 AND k.state & 3 > 0 LIMIT {}",
            limit(count)
        );
        let read = |row: &Row| Ok(key_text(row.try_get(0)?));
        self.rows("list unconfirmed and rejected groups", &sql, &[(&sync, Type::TEXT)], read).await
    }

    async fn group_history(&self, sync: &str, key: &str, before: Option<u64>, count: u64) -> Result<Vec<HistoryEntry>> {
        let before = limit(before.unwrap_or(u64::MAX));
        let which = format!(
            "j.sync = (SELECT id FROM @.syncs WHERE name = $1) AND j.key = $2 AND j.seq < $3 ORDER BY j.seq DESC LIMIT {}",
            limit(count)
        );
        let given: &Given<'_> = &[(&sync, Type::TEXT), (&key.as_bytes(), Type::BYTEA), (&before, Type::INT8)];
        Ok(self.lines(&which, "DESC", given).await?.into_iter().map(|record| record.entry).collect())
    }

    async fn changes(
        &self,
        run: &str,
        outcome: Option<ChangeOutcome>,
        from: u64,
        count: u64,
    ) -> Result<Vec<ChangeRecord>> {
        let outcome = outcome.map(ChangeOutcome::name);
        let which = format!(
            "j.run = $1 AND ($2::text IS NULL OR j.outcome = $2) ORDER BY j.seq LIMIT {} OFFSET {}",
            limit(count),
            limit(from)
        );
        self.lines(&which, "", &[(&run, Type::TEXT), (&outcome, Type::TEXT)]).await
    }
}
