//! Pages of candidates: what the server has of each, with the cells of its row.

use std::collections::HashMap;

use duckdb::params;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::error::Failure;
use super::session::reading;
use super::{Found, PostgresLedger};
use crate::duckdb::ledger_error;
use crate::error::Result;
use crate::ledger::duckdb::candidates::{PAGE_BYTES_MAX, cell_rows, decoded, new_candidates, vanished};
use crate::ledger::duckdb::rows::DOCUMENTS;
use crate::ledger::{Candidate, CandidateKind, with_attempted};
use crate::model::Document;
use crate::source::staged::ROW_BYTES_MAX;

/// What the server has of the groups with these keys ($2), of as many of the first as their documents fit into a page ($3),
/// but of one at least. A group that was removed or forgotten and comes back takes its last delivered sequence from the
/// journal, so that its dedup keys do not repeat.
const LOOK_UP: &str = "
SELECT n, document, is_confirmed, seq, rejected_document, rejected_reason, attempted FROM (
    SELECT g.n, k.document, k.unconfirmed_in IS NULL AS is_confirmed, k.rejected_document, k.rejected_reason, k.attempted,
        CASE WHEN k.key IS NOT NULL THEN k.seq
             ELSE (SELECT max(j.seq) FROM @.journal j WHERE j.sync = $1 AND j.key = g.key AND j.outcome = 'delivered') END AS seq,
        sum(coalesce(octet_length(k.document), 0) + coalesce(octet_length(k.rejected_document), 0)) OVER (ORDER BY g.n) AS bytes
    FROM unnest($2::bytea[]) WITH ORDINALITY g(key, n) LEFT JOIN @.synced k ON k.sync = $1 AND k.key = g.key
) found WHERE bytes <= $3 OR n = 1 ORDER BY n";

/// A candidate as the comparison found it.
struct Chosen {
    key: String,
    kind: CandidateKind,
    fingerprint: Option<u64>,
}

impl PostgresLedger {
    /// The candidates from position `from`, at most `count` and [`PAGE_BYTES_MAX`] of them.
    pub(super) async fn candidates(&self, from: u64, count: u64) -> Result<Vec<Candidate>> {
        let Found { candidates, sync, .. } = self.found().clone();
        let to = from.saturating_add(count).min(candidates.total);
        if from >= to {
            return Ok(Vec::new());
        }
        let mut to = to;
        if let Some(cells) = &candidates.cells {
            let row_bytes_max = cells.row_bytes_max.clamp(1, ROW_BYTES_MAX);
            // Where the largest rows would not fit, fewer than would fit of them.
            to = to.min(from + (PAGE_BYTES_MAX / row_bytes_max).max(1));
        }
        if candidates.all_new {
            let cells = match &candidates.cells {
                Some(cells) => cells.rows(from, to).await?,
                None => Vec::new(),
            };
            return decoded(move || new_candidates(&cells, true, (to - from) as usize)).await;
        }
        let chosen = self.chosen(from, to).await?;
        if chosen.len() as u64 != to - from {
            return Err(vanished());
        }
        let keys: Vec<&[u8]> = chosen.iter().map(|chosen| chosen.key.as_bytes()).collect();
        let sync = sync.map_or(0, |(_, number)| number);
        let (most, sql) = (PAGE_BYTES_MAX as i64, self.sql(LOOK_UP));
        let rows = reading!(self, "read candidates", |client| {
            let given: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)] =
                &[(&sync, Type::INT4), (&keys, Type::BYTEA_ARRAY), (&most, Type::INT8)];
            client.query_typed(&sql, given).await?
        })?;
        let to = from + rows.len() as u64;
        let cells = match &candidates.cells {
            Some(cells) => cells.rows(from, to).await?,
            None => Vec::new(),
        };
        let server = std::sync::Arc::clone(&self.session.server);
        decoded(move || {
            let mut by_position: HashMap<u64, _> =
                cell_rows(&cells, rows.len())?.into_iter().map(|row| (row.position, row)).collect();
            let mut page = Vec::with_capacity(rows.len());
            for (position, (chosen, row)) in (from..).zip(chosen.into_iter().zip(&rows)) {
                let read = candidate(chosen, row);
                let mut candidate = read.map_err(|error| Failure::Database(error).error(&server, "read candidates"))?;
                if candidate.kind != CandidateKind::Missing {
                    let row =
                        by_position.remove(&position).filter(|row| row.key == candidate.key).ok_or_else(vanished)?;
                    candidate.oversize = row.oversize();
                    candidate.cells = row.cells;
                }
                page.push(candidate);
            }
            Ok(page)
        })
        .await
    }

    async fn chosen(&self, from: u64, to: u64) -> Result<Vec<Chosen>> {
        let read = move |connection: &mut duckdb::Connection| -> duckdb::Result<Vec<Chosen>> {
            let sql = "SELECT key, kind, fingerprint FROM temp.candidate WHERE n >= ? AND n < ? ORDER BY n";
            let mut statement = connection.prepare(sql)?;
            let chosen = |row: &duckdb::Row<'_>| {
                let kind = match row.get::<_, u8>(1)? {
                    0 => CandidateKind::New,
                    1 => CandidateKind::Changed,
                    _ => CandidateKind::Missing,
                };
                Ok(Chosen { key: row.get(0)?, kind, fingerprint: row.get(2)? })
            };
            statement.query_map(params![from, to], chosen)?.collect()
        };
        let failed = ledger_error("read candidates");
        self.duckdb.call("read candidates", move |connection| read(connection).map_err(failed)).await
    }
}

fn candidate(chosen: Chosen, row: &Row) -> Result<Candidate, tokio_postgres::Error> {
    let mut unreadable = None;
    let stored: Option<&str> = row.try_get(1)?;
    let mut synced = stored.map_or_else(Document::default, |text| document(DOCUMENTS[0], text, &mut unreadable));
    let attempted: Option<Vec<String>> = row.try_get(6)?;
    if let Some(attempted) = attempted.filter(|_| stored.is_some()) {
        synced = with_attempted(synced, &attempted);
    }
    let rejected: Option<&str> = row.try_get(4)?;
    let rejected = rejected.map(|text| document(DOCUMENTS[1], text, &mut unreadable));
    let is_confirmed: bool = row.try_get(2)?;
    Ok(Candidate {
        key: chosen.key,
        kind: chosen.kind,
        cells: Vec::new(),
        oversize: None,
        fingerprint: chosen.fingerprint,
        synced,
        confirmed: is_confirmed && unreadable.is_none(),
        settled_seq: row.try_get::<_, Option<i64>>(3)?.unwrap_or_default() as u64,
        rejected: rejected.zip(row.try_get::<_, Option<String>>(5)?),
        unreadable,
    })
}

/// A stored document. One that cannot be read is an empty one, and is added to what cannot be read.
pub(super) fn document(what: &str, text: &str, unreadable: &mut Option<String>) -> Document {
    Document::from_text(text).unwrap_or_else(|error| {
        let also = unreadable.take().map_or_else(String::new, |before| format!("{before}; "));
        *unreadable = Some(format!("{also}its {what} document cannot be read: {error}"));
        Document::default()
    })
}
