//! The protocol of a run.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::compare::RemoteGroups;
use super::error::Failure;
use super::fold::{fold, keep_first_changes};
use super::hashes::hashes;
use super::held_lease;
use super::record::{Outcomes, append, hashes_of, mark};
use super::session::{reading, writing};
use super::{Found, PostgresLedger, begin, stored};
use crate::duckdb::ledger_error;
use crate::error::{Error, Kind, Result};
use crate::ledger::duckdb::compare::compare_with;
use crate::ledger::duckdb::rows::Line;
use crate::ledger::kept_requests::note_failure;
use crate::ledger::kv::note_of;
use crate::ledger::mirror::MIRROR;
use crate::ledger::shared::{SharedState, sync_lease};
use crate::ledger::{
    Access, Candidate, CompareOptions, Comparison, Cursor, History, ImportedGroups, JournalEntry, KeyValue, Ledger,
    PreviousRun, Retention, RunCheckpoint, RunRecord, RunStart, SourceRows, Storage,
};

/// The tables whose rows belong to a sync.
const TABLES_OF_SYNCS: [&str; 5] = ["synced", "marks", "journal", "runs", "sums"];

#[async_trait]
impl Ledger for PostgresLedger {
    async fn begin(&self, start: &RunStart) -> Result<PreviousRun> {
        // A plan leaves its candidates behind.
        *self.found() = Found::default();
        if self.is_read_only() {
            return self.begin_plan(start).await;
        }
        let server = &self.session.server;
        let lease = self.lease_for(&start.sync).await?;
        let begun: Result<(i32, PreviousRun)> = writing!(self, Some(&lease), "begin a run", |client, _again| {
            begin::begin(server, client, start).await?
        });
        let (sync, previous) = begun?;
        let mut found = self.found();
        (found.sync, found.lease) = (Some((start.sync.clone(), sync)), Some(lease));
        drop(found);
        Ok(previous)
    }

    async fn compare(&self, sync: &str, rows: SourceRows<'_>, options: &CompareOptions) -> Result<Comparison> {
        let SourceRows::Staged(staged) = rows else {
            return Err(Error::new(Kind::Bug, "the PostgreSQL ledger compares staged rows only"));
        };
        let number = self.number(sync).await?;
        let groups = RemoteGroups { ledger: self, sync: number, name: sync, options, removable: Mutex::new(0) };
        let compared = compare_with(&groups, &self.duckdb, sync, staged, options, self.ordered_max).await;
        groups.clean_up().await;
        let (mut found, candidates) = compared.map_err(|error| self.own(error))?;
        {
            let mut kept = self.found();
            (kept.candidates, kept.sync) = (candidates, Some((sync.to_owned(), number)));
        }
        // What guards measure against: of a group that was only rejected nothing can be changed or removed.
        found.synced = self.may_exist(number).await?.0;
        if found.missing_candidates > 0 {
            found.removable = *groups.removable.lock();
        }
        Ok(found)
    }

    async fn synced_summary(&self, sync: &str) -> Result<Option<String>> {
        if !self.hashes_alike {
            return Ok(None);
        }
        let number = self.number(sync).await?;
        let sql = self.sql(
            "SELECT encode(sha256(convert_to(coalesce(string_agg(concat_ws(' ', bucket, groups, sum, xor, unconfirmed_sum, \
             rejected_sum, unconfirmed, rejected), ',' ORDER BY bucket), ''), 'UTF8')), 'hex') \
             FROM @.sums WHERE sync = $1 AND groups > 0",
        );
        let hash: String = reading!(self, "sum up the synced state", |client| client
            .query_typed_one(&sql, &[(&number, Type::INT4)])
            .await?
            .try_get(0)?)?;
        let (may_exist, groups) = self.may_exist(number).await?;
        Ok(Some(format!("{groups} {hash} {may_exist}")))
    }

    async fn page(&self, from: u64, count: u64) -> Result<Vec<Candidate>> {
        self.candidates(from, count).await.map_err(|error| self.own(error))
    }

    async fn mark(&self, sync: &str, run: &str, keys: Vec<String>) -> Result<()> {
        let hashes = hashes(&self.duckdb, keys.clone(), vec![None; keys.len()]).await?;
        let server = &self.session.server;
        let lease = self.lease_of_run(sync)?;
        let before = self.generation.as_ref().map_or(0, |generation| generation.latest());
        let raised: Result<Option<u64>> = writing!(self, Some(&lease), "mark groups", |client, _again| {
            lease.check(client, true).await?;
            let number = self.number_in(client, sync).await?;
            mark(server, client, (number, run), &keys, &hashes).await?;
            match &self.generation {
                Some(generation) => Some(generation.raise(server, client, before).await?),
                None => None,
            }
        });
        match (&self.generation, raised?) {
            (Some(generation), Some(raised)) => generation.record(raised).await,
            _ => Ok(()),
        }
    }

    async fn record(&self, sync: &str, run: &str, at: DateTime<Utc>, entries: Vec<JournalEntry>) -> Result<()> {
        let lines: Vec<Line> = entries.into_iter().map(|entry| Line::of(entry, usize::MAX)).collect();
        let hashes = hashes_of(self, &lines).await?;
        let (server, count) = (&self.session.server, lines.len() as i64);
        if count == 0 {
            return Ok(());
        }
        // Taken before the transaction, so that one which may have been committed is recognized by them.
        let next = self.sql("SELECT nextval($1::text::regclass) FROM generate_series(1, $2)");
        let sequence = self.sql("@.journal_seq");
        let seqs: Vec<i64> = reading!(self, "record outcomes", |client| {
            let rows = client.query_typed(&next, &[(&sequence, Type::TEXT), (&count, Type::INT8)]).await?;
            rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?
        })?;
        let lease = self.lease_of_run(sync)?;
        writing!(self, Some(&lease), "record outcomes", |client, again| {
            let number = self.number_in(client, sync).await?;
            if !again || !self.is_recorded(client, run, seqs[0]).await? {
                let outcomes = Outcomes { sync: number, run, at, lines: &lines, seqs: &seqs, hashes: &hashes };
                append(server, client, &outcomes).await?;
            }
        })
    }

    async fn finish(&self, sync: &str, run: &str, checkpoint: RunCheckpoint) -> Result<()> {
        let server = &self.session.server;
        let lease = self.lease_of_run(sync)?;
        writing!(self, Some(&lease), "finish the run", |client, again| {
            let number = self.number_in(client, sync).await?;
            if !again || self.is_running(client, number, run).await? {
                fold(server, client, number, run).await?;
                self.checkpoint(client, number, run, &checkpoint).await?;
                self.forget(client, checkpoint.ended_at, self.retention).await?;
            }
        })?;
        let Found { candidates, lease: own, .. } = std::mem::take(&mut *self.found());
        drop(own);
        self.give_back(lease).await;
        if let Some(cells) = candidates.into_cells() {
            // The run is recorded; an instance that cannot be tidied up is not used again.
            drop(cells.drop_all().await);
        }
        self.duckdb
            .call("drop the candidates", |connection| {
                let drop = "DROP TABLE IF EXISTS temp.candidate; DROP TABLE IF EXISTS temp.hashing";
                connection.execute_batch(drop).map_err(ledger_error("drop the candidates"))
            })
            .await
    }

    async fn mark_crashed(&self, record: &RunRecord, at: DateTime<Utc>, error: &str, kind: &str) -> Result<()> {
        let server = &self.session.server;
        let lease = self.lease_for(&record.sync).await?;
        let recorded = writing!(self, Some(&lease), "record a crashed run", |client, _again| {
            let number = begin::number(server, client, &record.sync).await?;
            if self.is_running(client, number, &record.run).await? {
                fold(server, client, number, &record.run).await?;
                let end = "UPDATE @.runs SET status = 'crashed', ended_at = $3, error = $4, error_kind = $5 \
                    WHERE sync = $1 AND run = $2";
                client
                    .execute_typed(
                        &self.sql(end),
                        &[
                            (&number, Type::INT4),
                            (&record.run, Type::TEXT),
                            (&at, Type::TIMESTAMPTZ),
                            (&stored(error), Type::TEXT),
                            (&kind, Type::TEXT),
                        ],
                    )
                    .await?;
            }
        });
        self.give_back(lease).await;
        recorded
    }

    async fn reset(&self, sync: &str, keys: Option<&[String]>, mark: &str, forget: bool) -> Result<u64> {
        if keys.is_some_and(<[String]>::is_empty) {
            return Ok(0);
        }
        // Groups that are unconfirmed are compared whatever the mirror holds.
        let drops_mirror = keys.is_none() || forget;
        let keys: Option<Vec<&[u8]>> = keys.map(|keys| keys.iter().map(String::as_bytes).collect());
        let server = &self.session.server;
        let lease = self.lease_for(sync).await?;
        let reset = writing!(self, Some(&lease), "reset the sync", |client, _again| {
            let number = begin::number(server, client, sync).await?;
            if drops_mirror {
                self.drop_mirror(client, sync).await?;
            }
            let rewind = "UPDATE @.runs SET cursor_value = NULL, read_all = NULL, full_read = false WHERE sync = $1";
            client.execute_typed(&self.sql(rewind), &[(&number, Type::INT4)]).await?;
            const OF: &str = "sync = $1 AND ($2::bytea[] IS NULL OR key = ANY($2))";
            if forget {
                keep_first_changes(server, client, number, keys.as_ref()).await?;
                let delete = self.sql(&format!("DELETE FROM @.synced WHERE {OF}"));
                client.execute_typed(&delete, &[(&number, Type::INT4), (&keys, Type::BYTEA_ARRAY)]).await?
            } else {
                let unconfirm = self.sql(&format!(
                    "UPDATE @.synced SET unconfirmed_in = coalesce(unconfirmed_in, $3), rejected_document = NULL, \
                     rejected_reason = NULL WHERE {OF}"
                ));
                client
                    .execute_typed(
                        &unconfirm,
                        &[(&number, Type::INT4), (&keys, Type::BYTEA_ARRAY), (&stored(mark), Type::TEXT)],
                    )
                    .await?
            }
        });
        self.give_back(lease).await;
        reset
    }

    async fn rename(&self, from: &str, to: &str) -> Result<u64> {
        let server = &self.session.server;
        let (lease, other) = (self.lease_for(from).await?, self.lease_for(to).await?);
        let renamed: Result<u64> = writing!(self, Some(&lease), "rename the sync", |client, _again| {
            other.check(client, false).await?;
            self.drop_mirror(client, from).await?;
            self.drop_mirror(client, to).await?;
            match begin::find_number(server, client, from).await? {
                None => 0,
                Some(number) => {
                    // The new name may have runs already, and no groups.
                    if let Some(taken) = begin::find_number(server, client, to).await? {
                        for table in TABLES_OF_SYNCS.into_iter().filter(|table| *table != "sums") {
                            let give = self.sql(&format!("UPDATE @.{table} SET sync = $2 WHERE sync = $1"));
                            client.execute_typed(&give, &[(&taken, Type::INT4), (&number, Type::INT4)]).await?;
                        }
                        self.drop_number(client, taken).await?;
                    }
                    let rename = self.sql("UPDATE @.syncs SET name = $2 WHERE id = $1");
                    client.execute_typed(&rename, &[(&number, Type::INT4), (&to, Type::TEXT)]).await?;
                    self.groups_of(client, number).await?
                }
            }
        });
        self.give_back(lease).await;
        self.give_back(other).await;
        let groups = renamed?;
        note_failure(self.kept_requests.as_ref().map(|kept| kept.rename(from, to)), "rename");
        Ok(groups)
    }

    async fn import(&self, sync: &str, groups: ImportedGroups, replace: bool) -> Result<u64> {
        self.take_over(sync, groups, replace).await
    }

    async fn drop_sync(&self, sync: &str) -> Result<u64> {
        let server = &self.session.server;
        let lease = self.lease_for(sync).await?;
        let dropped: Result<u64> = writing!(self, Some(&lease), "drop the sync", |client, _again| {
            self.drop_mirror(client, sync).await?;
            match begin::find_number(server, client, sync).await? {
                None => 0,
                Some(number) => {
                    let groups = self.groups_of(client, number).await?;
                    for table in TABLES_OF_SYNCS {
                        let delete = self.sql(&format!("DELETE FROM @.{table} WHERE sync = $1"));
                        client.execute_typed(&delete, &[(&number, Type::INT4)]).await?;
                    }
                    self.drop_number(client, number).await?;
                    groups
                }
            }
        });
        self.give_back(lease).await;
        let groups = dropped?;
        note_failure(self.kept_requests.as_ref().map(|kept| kept.drop_sync(sync)), "remove");
        Ok(groups)
    }

    fn history(&self) -> &dyn History {
        self
    }

    fn kv(&self) -> &dyn KeyValue {
        self
    }

    fn storage(&self) -> &dyn Storage {
        self
    }

    fn shared(&self) -> Option<&dyn SharedState> {
        Some(self)
    }

    fn connect(&self, access: Access) -> Result<Arc<dyn Ledger>> {
        Ok(Arc::new(self.another(access)?))
    }
}

impl PostgresLedger {
    /// Begins a plan: what a crashed run left is folded in a transaction that is never committed, so that the plan sees what
    /// the next run will see. While a process has the sync, a run that goes on is not one that crashed.
    async fn begin_plan(&self, start: &RunStart) -> Result<PreviousRun> {
        let server = &self.session.server;
        if self.plan_is_open.swap(false, Ordering::SeqCst) {
            // Of an earlier sync of this command.
            reading!(self, "end the plan", |client| client.batch_execute("ROLLBACK").await?)?;
        }
        let (number, previous) = reading!(self, "begin a plan", |client| {
            match begin::find_number(server, client, &start.sync).await? {
                None => (0, PreviousRun::default()),
                Some(number) => {
                    let recovered = self.fold_for_plan(client, (&start.sync, number), &start.run).await?;
                    let previous = begin::previous(server, client, number, start).await?;
                    (number, PreviousRun { recovered, ..previous })
                }
            }
        })?;
        self.found().sync = Some((start.sync.clone(), number));
        Ok(previous)
    }

    async fn fold_for_plan(
        &self,
        client: &Client,
        (sync_name, sync): (&str, i32),
        own: &str,
    ) -> Result<Vec<String>, Failure> {
        let server = &self.session.server;
        let crashed = begin::crashed(server, client, sync, own).await?;
        if crashed.is_empty() || held_lease::is_held(server, client, &sync_lease(sync_name)).await? {
            return Ok(Vec::new());
        }
        client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await?;
        self.plan_is_open.store(true, Ordering::SeqCst);
        for run in &crashed {
            fold(server, client, sync, run).await?;
        }
        Ok(crashed)
    }

    /// Drops the record of a sync's mirror, in the transaction under way: what it knows of the synced state is no longer so.
    pub(super) async fn drop_mirror(&self, client: &Client, sync: &str) -> Result<(), Failure> {
        let name = note_of(MIRROR, sync);
        let delete = self.sql("DELETE FROM @.kv WHERE name = $1");
        client.execute_typed(&delete, &[(&stored(&name), Type::TEXT)]).await?;
        Ok(())
    }

    /// The number of a sync; 0, which none has, where the ledger has nothing of it.
    pub(super) async fn number(&self, sync: &str) -> Result<i32> {
        if let Some(number) = self.number_at_hand(sync) {
            return Ok(number);
        }
        let server = &self.session.server;
        let number = reading!(self, "find the sync", |client| begin::find_number(server, client, sync).await?)?;
        Ok(number.unwrap_or_default())
    }

    /// The number of a sync, in the transaction under way.
    async fn number_in(&self, client: &Client, sync: &str) -> Result<i32, Failure> {
        match self.number_at_hand(sync) {
            Some(number) => Ok(number),
            None => begin::number(&self.session.server, client, sync).await,
        }
    }

    /// Groups of a sync that the destination has, or may have; and all.
    async fn may_exist(&self, sync: i32) -> Result<(u64, u64)> {
        let sql = "SELECT coalesce(sum(groups - only_rejected), 0)::bigint, coalesce(sum(groups), 0)::bigint \
            FROM @.sums WHERE sync = $1";
        let sql = self.sql(sql);
        reading!(self, "count groups", |client| {
            let row = client.query_typed_one(&sql, &[(&sync, Type::INT4)]).await?;
            (row.try_get::<_, i64>(0)? as u64, row.try_get::<_, i64>(1)? as u64)
        })
    }

    async fn groups_of(&self, client: &Client, sync: i32) -> Result<u64, Failure> {
        let count = self.sql("SELECT coalesce(sum(groups), 0)::bigint FROM @.sums WHERE sync = $1");
        let groups: i64 = client.query_typed_one(&count, &[(&sync, Type::INT4)]).await?.try_get(0)?;
        Ok(groups as u64)
    }

    async fn drop_number(&self, client: &Client, sync: i32) -> Result<(), Failure> {
        for sql in ["DELETE FROM @.sums WHERE sync = $1", "DELETE FROM @.syncs WHERE id = $1"] {
            client.execute_typed(&self.sql(sql), &[(&sync, Type::INT4)]).await?;
        }
        Ok(())
    }

    async fn is_recorded(&self, client: &Client, run: &str, seq: i64) -> Result<bool, Failure> {
        let sql = self.sql("SELECT EXISTS (SELECT 1 FROM @.journal WHERE run = $1 AND seq = $2)");
        Ok(client.query_typed_one(&sql, &[(&run, Type::TEXT), (&seq, Type::INT8)]).await?.try_get(0)?)
    }

    async fn is_running(&self, client: &Client, sync: i32, run: &str) -> Result<bool, Failure> {
        let sql = "SELECT EXISTS (SELECT 1 FROM @.runs WHERE sync = $1 AND run = $2 AND status = 'running')";
        Ok(client.query_typed_one(&self.sql(sql), &[(&sync, Type::INT4), (&run, Type::TEXT)]).await?.try_get(0)?)
    }

    async fn checkpoint(
        &self,
        client: &Client,
        sync: i32,
        run: &str,
        checkpoint: &RunCheckpoint,
    ) -> Result<(), Failure> {
        let (cursor, read_all) = match &checkpoint.cursor {
            Some(Cursor::At(cursor)) => (Some(cursor.as_bytes()), None),
            Some(Cursor::ReadAll) => (None, Some(true)),
            None => (None, None),
        };
        let update = "UPDATE @.runs SET ended_at = $3, status = $4, counts = $5, source_rows = $6, cursor_value = $7, \
            read_all = $8, full_read = $9, error = $10, error_kind = $11, guard = $12, detail = $13 WHERE sync = $1 AND run = $2";
        client
            .execute_typed(
                &self.sql(update),
                &[
                    (&sync, Type::INT4),
                    (&run, Type::TEXT),
                    (&checkpoint.ended_at, Type::TIMESTAMPTZ),
                    (&checkpoint.status.name(), Type::TEXT),
                    (&stored(&checkpoint.counts), Type::TEXT),
                    (&checkpoint.rows.map(|rows| rows as i64), Type::INT8),
                    (&cursor, Type::BYTEA),
                    (&read_all, Type::BOOL),
                    (&checkpoint.full, Type::BOOL),
                    (&checkpoint.error.as_deref().map(stored), Type::TEXT),
                    (&checkpoint.error_kind, Type::TEXT),
                    (&checkpoint.guard, Type::TEXT),
                    (&stored(&checkpoint.detail), Type::TEXT),
                ],
            )
            .await?;
        Ok(())
    }

    /// Removes what has been kept for long enough when a run ends at `now`. A run is as old as the time between the ends of
    /// all runs since, each gap counted with at most a tenth of what is kept, as in the DuckDB ledger.
    async fn forget(&self, client: &Client, now: DateTime<Utc>, retention: Retention) -> Result<(), Failure> {
        let Some(oldest) = oldest(now, retention.journal.min(retention.runs)) else { return Ok(()) };
        // Most runs find nothing to forget.
        let maybe = "SELECT EXISTS (SELECT 1 FROM @.runs WHERE ended_at < $1) \
            OR (SELECT recorded_at FROM @.journal ORDER BY run, seq LIMIT 1) < $1";
        let maybe: Option<bool> =
            client.query_typed_one(&self.sql(maybe), &[(&oldest, Type::TIMESTAMPTZ)]).await?.try_get(0)?;
        if maybe != Some(true) {
            return Ok(());
        }
        const LAST: &str = "WITH ended AS (
    SELECT run, extract(epoch FROM lead(ended_at) OVER (ORDER BY run) - ended_at) * 1000000 AS gap
    FROM @.runs WHERE ended_at IS NOT NULL
), aged AS (
    SELECT run, sum(least(greatest(coalesce(gap, 0), 0), greatest($1 / 10, 1))) OVER (ORDER BY run DESC) AS age FROM ended
)
SELECT max(run) FROM aged WHERE age > $1";
        const LINES: &str =
            "DELETE FROM @.journal WHERE run <= $1 AND run NOT IN (SELECT run FROM @.runs WHERE status = 'running')";
        /// All but what later runs and queries need: each sync's last run, its last good one, the last that counted all rows,
        /// and for each mapping the last that moved the cursor or read everything.
        const RUNS: &str = "DELETE FROM @.runs WHERE run <= $1 AND ended_at IS NOT NULL AND run NOT IN (
    SELECT max(run) FROM @.runs GROUP BY sync
    UNION ALL SELECT max(run) FROM @.runs WHERE NOT partial GROUP BY sync
    UNION ALL SELECT max(run) FROM @.runs WHERE status IN ('succeeded', 'succeeded_with_rejections') AND NOT partial GROUP BY sync
    UNION ALL SELECT max(run) FROM @.runs WHERE source_rows IS NOT NULL GROUP BY sync
    UNION ALL SELECT max(run) FROM @.runs WHERE cursor_value IS NOT NULL OR read_all GROUP BY sync, mapping
    UNION ALL SELECT max(run) FROM @.runs WHERE full_read GROUP BY sync, mapping)";
        for (kept, forget) in [(retention.journal, LINES), (retention.runs, RUNS)] {
            let Ok(kept) = i64::try_from(kept.as_micros()) else { continue };
            let last = client.query_typed_one(&self.sql(LAST), &[(&kept, Type::INT8)]).await?;
            if let Some(last) = last.try_get::<_, Option<String>>(0)? {
                client.execute_typed(&self.sql(forget), &[(&last, Type::TEXT)]).await?;
            }
        }
        Ok(())
    }
}

/// When what is older than `kept` ended, at the latest; none where nothing ever is.
fn oldest(now: DateTime<Utc>, kept: Duration) -> Option<DateTime<Utc>> {
    now.checked_sub_signed(chrono::TimeDelta::from_std(kept).ok()?)
}
