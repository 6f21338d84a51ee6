//! What did a run say, and what must be remembered over a restart? Questions and notes beside the protocol, which only the
//! local ledger answers.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDateTime, Utc};
use duckdb::{Connection, OptionalExt, params};

use super::local::LocalLedger;
use super::rows::{HISTORY_COLUMNS, KNOWN_COLUMNS, RUN_COLUMNS, fold, groups, history, lines, list, run_record};
use super::{GroupCounts, HistoryEntry, KnownGroup, Outcome, RunRecord, SaidGroup, statements};
use crate::duckdb::{ledger_error, quote_literal};
use crate::error::Result;

/// More runs than can be under way: each is of another sync.
const RUNS_MAX: u64 = 1_000_000;
/// A run that ended with everything delivered, or all but some rejected groups.
const ENDED_WELL: &str = "status IN ('delivered', 'some_rejected') AND partial IS NOT TRUE";

impl LocalLedger {
    /// The records of the runs that a condition names, the newest first, at most `count`.
    pub(super) async fn records(&self, condition: &str, count: u64) -> Result<Vec<RunRecord>> {
        let sql = format!("SELECT {RUN_COLUMNS} FROM runs WHERE {condition} ORDER BY run DESC LIMIT {count}");
        self.call("list runs", move |connection| {
            let read = |connection: &Connection| -> duckdb::Result<Vec<RunRecord>> {
                connection.prepare(&sql)?.query_map([], run_record)?.collect()
            };
            read(connection).map_err(ledger_error("list runs"))
        })
        .await
    }

    /// One run with its detail ([`Checkpoint::detail`](super::Checkpoint::detail), empty while it is running).
    pub async fn run(&self, run: &str) -> Result<Option<(RunRecord, String)>> {
        let run = run.to_owned();
        self.call("read a run", move |connection| {
            connection
                .query_row(&format!("SELECT {RUN_COLUMNS}, detail FROM runs WHERE run = ?"), [run], |row| {
                    Ok((run_record(row)?, row.get::<_, Option<String>>(11)?.unwrap_or_default()))
                })
                .optional()
                .map_err(ledger_error("read a run"))
        })
        .await
    }

    /// The details of a sync's latest runs, the newest first.
    pub async fn runs_with_details(&self, sync: &str, count: u64) -> Result<Vec<(RunRecord, String)>> {
        let sync = sync.to_owned();
        self.call("list runs", move |connection| {
            let read = || -> duckdb::Result<Vec<(RunRecord, String)>> {
                let mut runs = connection.prepare(&format!(
                    "SELECT {RUN_COLUMNS}, detail FROM runs WHERE sync = ? ORDER BY run DESC LIMIT {count}"
                ))?;
                let runs = runs.query_map([sync], |row| {
                    Ok((run_record(row)?, row.get::<_, Option<String>>(11)?.unwrap_or_default()))
                })?;
                runs.collect()
            };
            read().map_err(ledger_error("list runs"))
        })
        .await
    }

    /// When the last run of a sync that ended with everything delivered, or all but some rejected groups, ended. Runs are
    /// in the order of their ids: a clock that was ahead once has left a later time.
    pub async fn last_success(&self, sync: &str) -> Result<Option<DateTime<Utc>>> {
        let sync = sync.to_owned();
        self.call("read the last good run", move |connection| {
            let sql = format!("SELECT max_by(ended_at, run) FROM runs WHERE sync = ? AND {ENDED_WELL}");
            let at: Option<NaiveDateTime> =
                connection.query_row(&sql, [sync], |row| row.get(0)).map_err(ledger_error("read the last good run"))?;
            Ok(at.map(|at| at.and_utc()))
        })
        .await
    }

    /// The latest runs of every sync, at most `each` of one, the newest first. For whoever looks at all syncs at once: one
    /// question instead of one per sync.
    pub async fn latest_runs(&self, each: u64) -> Result<BTreeMap<String, Vec<RunRecord>>> {
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

    /// How the ledger stands for every sync of which a group is known ([`Ledger::standing`](super::Ledger::standing)).
    pub async fn standings(&self) -> Result<BTreeMap<String, GroupCounts>> {
        self.call("count groups", |connection| {
            let read = || -> duckdb::Result<BTreeMap<String, GroupCounts>> {
                let mut standings = connection.prepare(
                    "SELECT sync, count(*), count(unsettled_in), count(rejected_reason) FROM known GROUP BY sync",
                )?;
                let of = |row: &duckdb::Row<'_>| {
                    Ok((
                        row.get(0)?,
                        GroupCounts { known: row.get(1)?, unconfirmed: row.get(2)?, rejected: row.get(3)? },
                    ))
                };
                let mut standings: BTreeMap<String, GroupCounts> =
                    standings.query_map([], of)?.collect::<duckdb::Result<_>>()?;
                let mut never = connection.prepare(&statements::never_delivered_counts())?;
                for count in never.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, u64>(1)?)))? {
                    let (sync, count) = count?;
                    if let Some(standing) = standings.get_mut(&sync) {
                        standing.known = standing.known.saturating_sub(count);
                    }
                }
                Ok(standings)
            };
            read().map_err(ledger_error("count groups"))
        })
        .await
    }

    /// Groups of every sync whose last word is a rejection, in key order, at most `each` of one sync.
    pub async fn rejected_of_all(&self, each: u64) -> Result<BTreeMap<String, Vec<KnownGroup>>> {
        self.call("list rejected groups", move |connection| {
            let sql = format!(
                "SELECT {KNOWN_COLUMNS}, sync FROM known WHERE rejected_reason IS NOT NULL \
                 QUALIFY row_number() OVER (PARTITION BY sync ORDER BY key) <= {each} ORDER BY key"
            );
            let found = groups(connection, &sql, [], true, |row| row.get::<_, String>(6));
            let mut rejected: BTreeMap<String, Vec<KnownGroup>> = BTreeMap::new();
            for (sync, group) in found.map_err(ledger_error("list rejected groups"))? {
                rejected.entry(sync).or_default().push(group);
            }
            Ok(rejected)
        })
        .await
    }

    /// Groups of a sync whose last word is a rejection, in key order, after the group `after` if given, at most `count`.
    pub async fn rejected_after(&self, sync: &str, after: Option<&str>, count: u64) -> Result<Vec<KnownGroup>> {
        let after = after.map_or_else(String::new, |after| format!(" AND key > {}", quote_literal(after)));
        let condition = format!("sync = {} AND rejected_reason IS NOT NULL{after}", quote_literal(sync));
        self.call("list rejected groups", move |connection| list(connection, &condition, count, true)).await
    }

    /// What was said about a group before the sequence `before`, the latest first, at most `count`.
    pub async fn history_before(&self, sync: &str, key: &str, before: u64, count: u64) -> Result<Vec<HistoryEntry>> {
        let (sync, key) = (sync.to_owned(), key.to_owned());
        self.call("read a group's history", move |connection| {
            history(connection, &sync, &key, before, count).map_err(ledger_error("read a group's history"))
        })
        .await
    }

    /// When a run of each sync last ended well ([`LocalLedger::last_success`]).
    pub async fn last_successes(&self) -> Result<BTreeMap<String, DateTime<Utc>>> {
        self.call("read the last good runs", |connection| {
            let read = || -> duckdb::Result<BTreeMap<String, DateTime<Utc>>> {
                let mut good = connection.prepare(&format!(
                    "SELECT sync, max_by(ended_at, run) FROM runs WHERE {ENDED_WELL} AND ended_at IS NOT NULL GROUP BY sync"
                ))?;
                let of = |row: &duckdb::Row<'_>| Ok((row.get(0)?, row.get::<_, NaiveDateTime>(1)?.and_utc()));
                good.query_map([], of)?.collect()
            };
            read().map_err(ledger_error("read the last good runs"))
        })
        .await
    }

    /// The latest runs of a sync that were not partial, the newest first: what a schedule goes by.
    pub async fn whole_runs(&self, sync: &str, count: u64) -> Result<Vec<RunRecord>> {
        let which = format!("sync = {} AND partial IS NOT TRUE", quote_literal(sync));
        self.records(&which, count).await
    }

    /// The last run of a sync that was not partial and ended well, when the first one after it began (without one, the first
    /// on record), and when the latest one after it ended: what a schedule still owes.
    pub async fn since_success(
        &self,
        sync: &str,
    ) -> Result<(Option<RunRecord>, Option<DateTime<Utc>>, Option<DateTime<Utc>>)> {
        let which = format!("sync = {} AND {ENDED_WELL}", quote_literal(sync));
        let success = self.records(&which, 1).await?.pop();
        let (sync, after) = (sync.to_owned(), success.as_ref().map(|run| run.run.clone()).unwrap_or_default());
        self.call("read the runs since the last good one", move |connection| {
            let sql = "SELECT min(started_at), max(ended_at) FROM runs \
                 WHERE sync = ? AND partial IS NOT TRUE AND run > ?";
            type Times = (Option<NaiveDateTime>, Option<NaiveDateTime>);
            let read = |row: &duckdb::Row<'_>| -> duckdb::Result<Times> { Ok((row.get(0)?, row.get(1)?)) };
            let (first, last) = connection
                .query_row(sql, params![sync, after], read)
                .map_err(ledger_error("read the runs since the last good one"))?;
            Ok((success, first.map(|at| at.and_utc()), last.map(|at| at.and_utc())))
        })
        .await
    }

    /// Records that a run under way died, folding what it left, as the next run of the sync would: for a process that
    /// goes on. Nothing happens to a run that has ended.
    pub async fn give_up(&self, record: &RunRecord, at: DateTime<Utc>, error: &str, kind: &str) -> Result<()> {
        let (sync, run) = (record.sync.clone(), record.run.clone());
        let (error, kind) = (error.to_owned(), kind.to_owned());
        self.write("record a run that died", move |connection| {
            let running: bool = connection.query_row(
                "SELECT count(*) > 0 FROM runs WHERE sync = ? AND run = ? AND status = 'running'",
                [&sync, &run],
                |row| row.get(0),
            )?;
            if running {
                fold(connection, &sync, &run)?;
                connection.execute(
                    "UPDATE runs SET status = 'died', ended_at = ?, error = ?, error_kind = ? WHERE sync = ? AND run = ?",
                    params![at.naive_utc(), error, kind, sync, run],
                )?;
                connection.execute_batch("DROP TABLE IF EXISTS temp.folded")?;
            }
            Ok(())
        })
        .await
    }

    /// Every run that is recorded as under way, the oldest first: the order to fold them in.
    pub async fn under_way(&self) -> Result<Vec<RunRecord>> {
        let mut runs = self.records("status = 'running'", RUNS_MAX).await?;
        runs.reverse();
        Ok(runs)
    }

    /// The latest runs before the run `before`, the newest first, of one sync or of all.
    pub async fn runs_before(&self, sync: Option<&str>, before: &str, count: u64) -> Result<Vec<RunRecord>> {
        let of_sync = sync.map_or_else(String::new, |sync| format!(" AND sync = {}", quote_literal(sync)));
        self.records(&format!("run < {}{of_sync}", quote_literal(before)), count).await
    }

    /// What was said in a run, in the order in which it was recorded: groups with their outcomes, from position `from`, at
    /// most `count`; of one outcome or of all. What only confirmed the known documents is not kept.
    pub async fn said(&self, run: &str, outcome: Option<Outcome>, from: u64, count: u64) -> Result<Vec<SaidGroup>> {
        let run = run.to_owned();
        let only =
            outcome.map_or_else(String::new, |outcome| format!(" AND outcome = {}", quote_literal(outcome.name())));
        self.call("read what a run said", move |connection| {
            let sql =
                format!("SELECT {HISTORY_COLUMNS}, key FROM journal WHERE run = ?{only} ORDER BY seq LIMIT ? OFFSET ?");
            let said = lines(connection, &sql, params![run, count, from], |row| row.get(6));
            let said = said.map_err(ledger_error("read what a run said"))?;
            Ok(said.into_iter().map(|(key, entry)| SaidGroup { key, entry }).collect())
        })
        .await
    }

    /// Keeps a small text under a name, for whoever must remember something over a restart; `None` drops it. Durable when
    /// it returns.
    pub async fn keep(&self, name: &str, text: Option<&str>) -> Result<()> {
        let (name, text) = (name.to_owned(), text.map(str::to_owned));
        self.write_in_place("keep a note", move |connection| {
            connection.execute("DELETE FROM notes WHERE name = ?", [&name])?;
            if let Some(text) = text {
                connection.execute("INSERT INTO notes VALUES (?, ?)", [name, text])?;
            }
            Ok(())
        })
        .await
    }

    /// Drops the text kept under a name if it holds these words: another one may have been kept there since.
    pub async fn drop_kept(&self, name: &str, holding: &str) -> Result<()> {
        let (name, holding) = (name.to_owned(), holding.to_owned());
        self.write("drop a note", move |connection| {
            connection.execute("DELETE FROM notes WHERE name = ? AND contains(text, ?)", [name, holding]).map(drop)
        })
        .await
    }

    /// Every kept text, by name.
    pub async fn kept(&self) -> Result<BTreeMap<String, String>> {
        self.call("read the notes", |connection| {
            let read = || -> duckdb::Result<BTreeMap<String, String>> {
                let mut notes = connection.prepare("SELECT name, text FROM notes")?;
                notes.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
            };
            read().map_err(ledger_error("read the notes"))
        })
        .await
    }
}
