//! Rows on their way into the tables: outcomes, marks, and what of both is hashed.

use chrono::{DateTime, Utc};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::error::Failure;
use super::hashes::{Hashes, hashes};
use super::held_lease::HeldLease;
use super::server::Server;
use super::session::writing;
use super::{PostgresLedger, key_text, stored};
use crate::error::Result;
use crate::ledger::ChangeOutcome;
use crate::ledger::duckdb::rows::Line;

/// Most bytes of texts in one statement, but for one row's: they are in memory twice, as values and as a message.
const STATEMENT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most rows in one statement.
const STATEMENT_ROWS_MAX: usize = 20_000;
/// Rows that are hashed again at a time, where DuckDB hashes differently than before.
const AGAIN_ROWS: i64 = 50_000;

/// Outcomes of one run, ready to be written.
pub(super) struct Outcomes<'a> {
    pub(super) sync: i32,
    pub(super) run: &'a str,
    pub(super) at: DateTime<Utc>,
    pub(super) lines: &'a [Line],
    pub(super) seqs: &'a [i64],
    pub(super) hashes: &'a [Hashes],
}

/// The hashes of the lines' groups as they will be in the synced state.
pub(super) async fn hashes_of(ledger: &PostgresLedger, lines: &[Line]) -> Result<Vec<Hashes>> {
    let fingerprint = |line: &Line| line.fingerprint.filter(|_| line.outcome != ChangeOutcome::Unconfirmed);
    let (keys, fingerprints) = lines.iter().map(|line| (line.key.clone(), fingerprint(line))).unzip();
    hashes(ledger.duckdb(), keys, fingerprints).await
}

/// Writes outcomes in the transaction under way, and what is known of new groups into the synced state.
pub(super) async fn append(server: &Server, client: &Client, outcomes: &Outcomes<'_>) -> Result<(), Failure> {
    let mut from = 0;
    while from < outcomes.lines.len() {
        let mut bytes = 0;
        let fitting = outcomes.lines[from..].iter().take(STATEMENT_ROWS_MAX).take_while(|line| {
            bytes += line.bytes() + line.key.len();
            bytes <= STATEMENT_BYTES_MAX
        });
        let to = from + fitting.count().max(1);
        append_some(server, client, outcomes, from, to).await?;
        from = to;
    }
    Ok(())
}

async fn append_some(
    server: &Server,
    client: &Client,
    outcomes: &Outcomes<'_>,
    from: usize,
    to: usize,
) -> Result<(), Failure> {
    let Outcomes { sync, run, at, .. } = outcomes;
    let (lines, seqs, hashes) = (&outcomes.lines[from..to], &outcomes.seqs[from..to], &outcomes.hashes[from..to]);
    let new: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].is_new).collect();
    if !new.is_empty() {
        fn document(line: &Line) -> &str {
            let set = || line.change.as_deref().and_then(|change| change.get(7..change.len().saturating_sub(1)));
            line.document.as_deref().or_else(|| set().filter(|_| line.document_from_change)).unwrap_or_default()
        }
        let seq = |at: usize| if lines[at].outcome == ChangeOutcome::Delivered { seqs[at] } else { 0 };
        let insert = "INSERT INTO @.synced (sync, recorded_at, key, bucket, row_hash, fingerprint, seq, document) \
            SELECT $1, $2, * FROM unnest($3::bytea[], $4::smallint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::text[])";
        client
            .execute_typed(
                &server.sql(insert),
                &[
                    (sync, Type::INT4),
                    (at, Type::TIMESTAMPTZ),
                    (&new.iter().map(|at| lines[*at].key.as_bytes()).collect::<Vec<_>>(), Type::BYTEA_ARRAY),
                    (&new.iter().map(|at| hashes[*at].bucket).collect::<Vec<_>>(), Type::INT2_ARRAY),
                    (&new.iter().map(|at| hashes[*at].row_hash).collect::<Vec<_>>(), Type::INT8_ARRAY),
                    (
                        &new.iter().map(|at| lines[*at].fingerprint.map(|hash| hash as i64)).collect::<Vec<_>>(),
                        Type::INT8_ARRAY,
                    ),
                    (&new.iter().map(|at| seq(*at)).collect::<Vec<_>>(), Type::INT8_ARRAY),
                    (&new.iter().map(|at| document(&lines[*at])).collect::<Vec<_>>(), Type::TEXT_ARRAY),
                ],
            )
            .await?;
    }
    // What a new group's row has is not repeated.
    let insert = "INSERT INTO @.journal (sync, run, recorded_at, key, bucket, row_hash, seq, fingerprint, outcome, change, \
        document, reason, document_from_change, in_synced) SELECT $1, $2, $3, * FROM unnest($4::bytea[], $5::smallint[], \
        $6::bigint[], $7::bigint[], $8::bigint[], $9::text[], $10::text[], $11::text[], $12::text[], $13::boolean[], $14::boolean[])";
    client
        .execute_typed(
            &server.sql(insert),
            &[
                (sync, Type::INT4),
                (run, Type::TEXT),
                (at, Type::TIMESTAMPTZ),
                (&lines.iter().map(|line| line.key.as_bytes()).collect::<Vec<_>>(), Type::BYTEA_ARRAY),
                (&hashes.iter().map(|hashes| hashes.bucket).collect::<Vec<_>>(), Type::INT2_ARRAY),
                (&hashes.iter().map(|hashes| hashes.row_hash).collect::<Vec<_>>(), Type::INT8_ARRAY),
                (&seqs, Type::INT8_ARRAY),
                (
                    &lines
                        .iter()
                        .map(|line| line.fingerprint.filter(|_| !line.is_new).map(|hash| hash as i64))
                        .collect::<Vec<_>>(),
                    Type::INT8_ARRAY,
                ),
                (&lines.iter().map(|line| line.outcome.name()).collect::<Vec<_>>(), Type::TEXT_ARRAY),
                (&lines.iter().map(|line| line.change.as_deref()).collect::<Vec<_>>(), Type::TEXT_ARRAY),
                (
                    &lines.iter().map(|line| line.document.as_deref().filter(|_| !line.is_new)).collect::<Vec<_>>(),
                    Type::TEXT_ARRAY,
                ),
                (&lines.iter().map(|line| line.reason.as_deref().map(stored)).collect::<Vec<_>>(), Type::TEXT_ARRAY),
                (&lines.iter().map(|line| line.document_from_change).collect::<Vec<_>>(), Type::BOOL_ARRAY),
                (&lines.iter().map(|line| line.is_new).collect::<Vec<_>>(), Type::BOOL_ARRAY),
            ],
        )
        .await?;
    Ok(())
}

/// Marks groups in the transaction under way.
pub(super) async fn mark(
    server: &Server,
    client: &Client,
    (sync, run): (i32, &str),
    keys: &[String],
    hashes: &[Hashes],
) -> Result<(), Failure> {
    for (keys, hashes) in keys.chunks(STATEMENT_ROWS_MAX).zip(hashes.chunks(STATEMENT_ROWS_MAX)) {
        let insert = "INSERT INTO @.marks (sync, run, key, bucket, row_hash) \
            SELECT $1, $2, * FROM unnest($3::bytea[], $4::smallint[], $5::bigint[])";
        client
            .execute_typed(
                &server.sql(insert),
                &[
                    (&sync, Type::INT4),
                    (&run, Type::TEXT),
                    (&keys.iter().map(String::as_bytes).collect::<Vec<_>>(), Type::BYTEA_ARRAY),
                    (&hashes.iter().map(|hashes| hashes.bucket).collect::<Vec<_>>(), Type::INT2_ARRAY),
                    (&hashes.iter().map(|hashes| hashes.row_hash).collect::<Vec<_>>(), Type::INT8_ARRAY),
                ],
            )
            .await?;
    }
    Ok(())
}

impl PostgresLedger {
    /// Hashes every group again, where another DuckDB did it last. Its rows' fingerprints differ then as well.
    pub(super) async fn hash_again(&self, ledger: &HeldLease, hashing: &str) -> Result<()> {
        writing!(self, Some(ledger), "hash the groups again", |client, _again| {
            for (table, of) in [
                ("synced", "true"),
                ("marks", "true"),
                ("journal", "run IN (SELECT run FROM @.runs WHERE status = 'running') AND NOT in_synced"),
            ] {
                self.hash_table(client, table, of).await?;
            }
            let set = self.sql("UPDATE @.version SET hashing = $1");
            client.execute_typed(&set, &[(&hashing, Type::TEXT)]).await?;
        })
    }

    async fn hash_table(&self, client: &Client, table: &str, of: &str) -> Result<(), Failure> {
        let fingerprint = match table {
            "marks" => "NULL::bigint",
            "journal" => "CASE WHEN outcome <> 'unconfirmed' THEN fingerprint END",
            _ => "fingerprint",
        };
        let page = self.sql(&format!(
            "SELECT sync, key, {fingerprint} FROM @.{table} WHERE {of} AND (sync, key) > ($1, $2) ORDER BY sync, key LIMIT $3"
        ));
        let update = self.sql(&format!(
            "UPDATE @.{table} t SET bucket = h.bucket, row_hash = h.row_hash \
             FROM unnest($1::integer[], $2::bytea[], $3::smallint[], $4::bigint[]) h(sync, key, bucket, row_hash) \
             WHERE t.sync = h.sync AND t.key = h.key AND {of}"
        ));
        let (mut sync, mut key) = (-1_i32, Vec::<u8>::new());
        loop {
            let after: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)] =
                &[(&sync, Type::INT4), (&key, Type::BYTEA), (&AGAIN_ROWS, Type::INT8)];
            let rows = client.query_typed(&page, after).await?;
            let (mut syncs, mut keys, mut fingerprints) = (Vec::new(), Vec::new(), Vec::new());
            for row in &rows {
                syncs.push(row.try_get::<_, i32>(0)?);
                keys.push(row.try_get::<_, Vec<u8>>(1)?);
                fingerprints.push(row.try_get::<_, Option<i64>>(2)?.map(|hash| hash as u64));
            }
            let (Some(last_sync), Some(last_key)) = (syncs.last().copied(), keys.last().cloned()) else {
                return Ok(());
            };
            let texts = keys.iter().cloned().map(key_text).collect();
            let hashed = hashes(self.duckdb(), texts, fingerprints).await?;
            client
                .execute_typed(
                    &update,
                    &[
                        (&syncs, Type::INT4_ARRAY),
                        (&keys, Type::BYTEA_ARRAY),
                        (&hashed.iter().map(|hashes| hashes.bucket).collect::<Vec<_>>(), Type::INT2_ARRAY),
                        (&hashed.iter().map(|hashes| hashes.row_hash).collect::<Vec<_>>(), Type::INT8_ARRAY),
                    ],
                )
                .await?;
            (sync, key) = (last_sync, last_key);
        }
    }
}
