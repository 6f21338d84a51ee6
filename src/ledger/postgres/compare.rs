//! The synced groups of a sync, as the comparison needs them: sums by bucket from the server, and keys and fingerprints of
//! the few groups that must be joined.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use duckdb::arrow::array::{ArrayRef, BooleanBuilder, RecordBatch, StringBuilder, UInt8Builder, UInt64Builder};
use futures_util::TryStreamExt as _;
use parking_lot::Mutex;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::error::Failure;
use super::session::reading;
use super::{PostgresLedger, key_text};
use crate::duckdb::ledger_error;
use crate::error::{Error, Kind, Result};
use crate::ledger::duckdb::compare::{SyncedGroups, SyncedSums, compare_error, gather_into};
use crate::ledger::{CompareOptions, MissingScope};
use crate::source::staged::{BUCKETS, Bucket};

/// Groups that go into the joining instance at a time.
const BATCH_ROWS: usize = 50_000;
/// Keys that the server is asked about at a time.
const KEYS_AT_A_TIME: usize = 50_000;
/// Rows of a part of the model, up to which their groups are looked up by key; above, all groups come over.
const LOOKED_UP_MAX: u64 = 1_000_000;

/// The groups as they come over. `state` as in the schema.
const SYNCED: &str = "CREATE OR REPLACE TEMP TABLE synced (sync VARCHAR, key VARCHAR, fingerprint UBIGINT, \
    unconfirmed_in VARCHAR, rejected_reason VARCHAR, state UTINYINT)";

/// The state of a group that was only ever rejected: the destination has nothing of it.
const ONLY_REJECTED: u8 = 6;

/// The groups of one sync for one comparison.
pub(super) struct RemoteGroups<'a> {
    pub(super) ledger: &'a PostgresLedger,
    /// Its number.
    pub(super) sync: i32,
    pub(super) name: &'a str,
    pub(super) options: &'a CompareOptions,
    /// Candidates that left the rows and that the destination has, or may have.
    pub(super) removable: Mutex<u64>,
}

#[async_trait]
impl SyncedGroups for RemoteGroups<'_> {
    async fn sums(&self) -> Result<SyncedSums> {
        let always = if self.options.retry_rejected { "unconfirmed + rejected" } else { "unconfirmed" };
        // Of an unconfirmed group that was rejected there are two counts; only whether there is any matters.
        let sql = self.ledger.sql(&format!(
            "SELECT bucket, groups, sum::text, xor, {always}, rejected FROM @.sums WHERE sync = $1 AND groups > 0"
        ));
        let rows =
            reading!(self.ledger, "compare", |client| client.query_typed(&sql, &[(&self.sync, Type::INT4)]).await?)?;
        let mut sums = SyncedSums::empty();
        let read = |row: &Row, sums: &mut SyncedSums| -> Result<(), tokio_postgres::Error> {
            let bucket = row.try_get::<_, i16>(0)? as usize % BUCKETS;
            let number = |column: usize| row.try_get::<_, i64>(column).map(|number| number as u64);
            let sum: String = row.try_get(2)?;
            // Of a sum that makes no sense the bucket differs.
            let sum = sum.parse().unwrap_or(-1);
            // Where rows were hashed otherwise, no bucket is taken for equal.
            let xor = number(3)? ^ u64::from(!self.ledger.hashes_alike);
            sums.buckets[bucket] = Bucket { rows: number(1)?, sum, xor };
            (sums.always[bucket], sums.rejected[bucket]) = (number(4)?, number(5)?);
            if !self.ledger.hashes_alike {
                sums.always.fill(1);
            }
            Ok(())
        };
        for row in &rows {
            read(row, &mut sums).map_err(|error| self.unreadable(&error))?;
        }
        Ok(sums)
    }

    async fn nothing_was_delivered(&self) -> Result<bool> {
        let sql = "SELECT NOT EXISTS (SELECT 1 FROM @.journal WHERE sync = $1 AND outcome = 'delivered')";
        let sql = self.ledger.sql(sql);
        reading!(self.ledger, "compare", |client| client
            .query_typed_one(&sql, &[(&self.sync, Type::INT4)])
            .await?
            .try_get(0)?)
    }

    async fn bring(&self, buckets: Option<&[u16]>) -> Result<()> {
        self.duckdb(|connection| connection.execute_batch(SYNCED)).await?;
        const COLUMNS: &str = "SELECT key, fingerprint, state FROM @.synced WHERE sync = $1";
        if let Some(buckets) = buckets {
            let buckets: Vec<i16> = buckets.iter().map(|bucket| *bucket as i16).collect();
            let sql = self.ledger.sql(&format!("{COLUMNS} AND bucket = ANY($2)"));
            return self.bring_some(&sql, &[(&self.sync, Type::INT4), (&buckets, Type::INT2_ARRAY)]).await;
        }
        let looked_up = match &self.options.missing {
            MissingScope::All => None,
            MissingScope::Only(keys) => Some(keys.clone()),
            MissingScope::None => self.scanned_keys().await?,
        };
        let Some(mut keys) = looked_up else {
            return self.bring_some(&self.ledger.sql(COLUMNS), &[(&self.sync, Type::INT4)]).await;
        };
        if let MissingScope::Only(only) = &self.options.missing {
            keys.extend(self.scanned_keys().await?.unwrap_or_default().into_iter().filter(|key| !only.contains(key)));
        }
        let sql = self.ledger.sql(&format!("{COLUMNS} AND key = ANY($2)"));
        for keys in keys.chunks(KEYS_AT_A_TIME) {
            let keys: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
            self.bring_some(&sql, &[(&self.sync, Type::INT4), (&keys, Type::BYTEA_ARRAY)]).await?;
        }
        Ok(())
    }

    async fn gather(&self, total: u64, ordered: bool) -> Result<u64> {
        let order = if ordered { "" } else { " ORDER BY n" };
        let gather =
            format!("CREATE OR REPLACE TEMP TABLE candidate AS SELECT n, key, kind, fingerprint FROM chosen{order}");
        let count = format!(
            "SELECT (SELECT count(*) FROM candidate), (SELECT count(*) FROM candidate c JOIN synced k ON k.key = c.key \
             WHERE c.kind = 2 AND k.state <> {ONLY_REJECTED})::UBIGINT"
        );
        let call = self
            .ledger
            .duckdb
            .call("compare", move |connection| gather_into(connection, &gather, &count, total, ordered));
        *self.removable.lock() = call.await?;
        // Pages are cut by the server.
        Ok(0)
    }
}

impl RemoteGroups<'_> {
    fn unreadable(&self, error: &tokio_postgres::Error) -> Error {
        Error::new(Kind::Ledger, "the server's answer cannot be read").because(error.to_string()).at(self
            .ledger
            .session
            .server
            .place())
    }

    async fn duckdb(
        &self,
        work: impl FnOnce(&duckdb::Connection) -> duckdb::Result<()> + Send + 'static,
    ) -> Result<()> {
        self.ledger
            .duckdb
            .call("compare", move |connection| work(connection).map_err(|error| compare_error(&error)))
            .await
    }

    /// The keys of the rows, unless they are very many.
    async fn scanned_keys(&self) -> Result<Option<Vec<String>>> {
        let failed = ledger_error("compare");
        let read = |connection: &duckdb::Connection| -> duckdb::Result<Option<Vec<String>>> {
            let count: u64 = connection.query_row("SELECT count(*) FROM scan", [], |row| row.get(0))?;
            if count > LOOKED_UP_MAX {
                return Ok(None);
            }
            let mut keys = connection.prepare("SELECT DISTINCT key FROM scan")?;
            keys.query_map([], |row| row.get(0))?.collect::<duckdb::Result<_>>().map(Some)
        };
        self.ledger.duckdb.call("compare", move |connection| read(connection).map_err(failed)).await
    }

    /// Brings the groups that a statement yields.
    async fn bring_some(&self, sql: &str, given: &[(&(dyn ToSql + Sync), Type)]) -> Result<()> {
        let again = AtomicBool::new(false);
        reading!(self.ledger, "compare", |client| {
            // What came before the connection was lost must not come twice; every statement brings groups of its own.
            if again.swap(true, Ordering::SeqCst) {
                let error = Error::new(Kind::Ledger, "the connection broke off while groups came over");
                return Err(Failure::Final(error.advise("run again; nothing was sent")));
            }
            let rows = client.query_typed_raw(sql, given.iter().map(|(value, kind)| (*value, kind.clone()))).await?;
            let mut rows = std::pin::pin!(rows);
            let mut batch = Batch::default();
            while let Some(row) = rows.try_next().await? {
                batch.push(&row)?;
                if batch.rows == BATCH_ROWS {
                    self.append(std::mem::take(&mut batch)).await?;
                }
            }
            self.append(batch).await?;
        })
    }

    async fn append(&self, batch: Batch) -> Result<(), Failure> {
        if batch.rows == 0 {
            return Ok(());
        }
        let name = self.name.to_owned();
        let append = move |connection: &duckdb::Connection| {
            let mut appender = connection.appender_to_catalog_and_db("synced", "temp", "main")?;
            appender.append_record_batch(batch.finish(&name)?)?;
            appender.flush()
        };
        Ok(self.duckdb(append).await?)
    }

    /// Gives back the room of what came over.
    pub(super) async fn clean_up(&self) {
        drop(self.duckdb(|connection| connection.execute_batch("DROP TABLE IF EXISTS temp.synced")).await);
    }
}

/// Groups that came over, by column.
#[derive(Default)]
struct Batch {
    rows: usize,
    keys: StringBuilder,
    fingerprints: UInt64Builder,
    unconfirmed: BooleanBuilder,
    rejected: BooleanBuilder,
    states: UInt8Builder,
}

impl Batch {
    fn push(&mut self, row: &Row) -> Result<(), tokio_postgres::Error> {
        let state: i16 = row.try_get(2)?;
        self.keys.append_value(key_text(row.try_get(0)?));
        self.fingerprints.append_option(row.try_get::<_, Option<i64>>(1)?.map(|hash| hash as u64));
        self.unconfirmed.append_value(state & 1 > 0);
        self.rejected.append_value(state & 2 > 0);
        self.states.append_value(state as u8);
        self.rows += 1;
        Ok(())
    }

    fn finish(mut self, sync: &str) -> duckdb::Result<RecordBatch> {
        let flag = |mut flags: BooleanBuilder| {
            let mut texts = StringBuilder::new();
            for flag in &flags.finish() {
                texts.append_option(flag.filter(|set| *set).map(|_| "yes"));
            }
            Arc::new(texts.finish()) as ArrayRef
        };
        let mut syncs = StringBuilder::new();
        (0..self.rows).for_each(|_| syncs.append_value(sync));
        let columns = [
            ("sync", Arc::new(syncs.finish()) as ArrayRef),
            ("key", Arc::new(self.keys.finish())),
            ("fingerprint", Arc::new(self.fingerprints.finish())),
            ("unconfirmed_in", flag(self.unconfirmed)),
            ("rejected_reason", flag(self.rejected)),
            ("state", Arc::new(self.states.finish())),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))
            .map_err(|error| duckdb::Error::ToSqlConversionFailure(Box::new(error)))
    }
}
