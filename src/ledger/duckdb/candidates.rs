//! The candidates of a comparison, read page by page: what the ledger has of each, with the cells of its row.
//!
//! The two are in different DuckDB instances; both are read by position, and matched.

use std::sync::Arc;

use duckdb::arrow::array::{Array, AsArray, RecordBatch};
use duckdb::arrow::datatypes::{DataType, Float64Type, Int64Type, UInt8Type, UInt64Type};
use duckdb::{Connection, params};

use super::long_texts::Texts;
use super::rows::{DOCUMENTS, at_once, document};
use super::statements;
use crate::duckdb::{DuckDbConnection, ledger_error};
use crate::error::{Error, Kind, Result};
use crate::ledger::{Candidate, CandidateKind, with_attempted};
use crate::model::{Cell, Document};
use crate::source::staged::{KeptCells, ROW_BYTES_MAX};

/// Bytes of documents and cells in one page, at most, unless a single group has more: two pages are in memory at a time,
/// as text, as values and as requests.
pub(in crate::ledger) const PAGE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The candidates of a comparison, ready to be read.
#[derive(Clone, Default)]
pub(in crate::ledger) struct Candidates {
    /// How many there are; their positions start at 0.
    pub(in crate::ledger) total: u64,
    /// The cells of those that have a row.
    pub(in crate::ledger) cells: Option<KeptCells>,
    /// Whether the ledger has nothing of any of them.
    pub(in crate::ledger) all_new: bool,
    /// Bytes of the largest synced document.
    pub(in crate::ledger) document_bytes_max: u64,
}

impl Candidates {
    /// The cells, to be dropped.
    pub(in crate::ledger) fn into_cells(self) -> Option<KeptCells> {
        self.cells
    }
}

/// The candidates from position `from`, at most `count` and [`PAGE_BYTES_MAX`] of them; see [`crate::ledger::Ledger::page`].
pub(super) async fn page(
    ledger: &DuckDbConnection,
    candidates: &Candidates,
    new_are_confirmed: bool,
    from: u64,
    count: u64,
) -> Result<Vec<Candidate>> {
    let mut to = (from.saturating_add(count)).min(candidates.total);
    if from >= to {
        return Ok(Vec::new());
    }
    let row_bytes_max = candidates.cells.as_ref().map_or(0, |cells| cells.row_bytes_max.min(ROW_BYTES_MAX));
    if (row_bytes_max + candidates.document_bytes_max).saturating_mul(to - from) > PAGE_BYTES_MAX {
        to = until_full(ledger, candidates, from, to).await?;
    }
    let cells = async {
        match &candidates.cells {
            Some(cells) => cells.rows(from, to).await,
            None => Ok(Vec::new()),
        }
    };
    let expected = (to - from) as usize;
    if candidates.all_new {
        let cells = cells.await?;
        return decoded(move || new_candidates(&cells, new_are_confirmed, expected)).await;
    }
    let documents = ledger.call("read candidates", move |connection| {
        let read = |connection: &Connection| {
            let mut page = connection.prepare(statements::PAGE)?;
            let batches: Vec<RecordBatch> = page.query_arrow(params![from, to])?.collect();
            let columns = batches.iter().flat_map(|batch| [batch.column(4), batch.column(7)]);
            let stored = columns.filter_map(|column| column.as_string_opt::<i32>()).flat_map(|column| column.iter());
            let texts = Texts::of(connection, stored)?;
            Ok((batches, texts))
        };
        at_once(connection, read).map_err(ledger_error("read candidates"))
    });
    let ((documents, texts), cells) = tokio::try_join!(documents, cells)?;
    decoded(move || matched(&documents, &texts, &cells, new_are_confirmed, expected)).await
}

/// Decodes a page off the async threads.
pub(in crate::ledger) async fn decoded(
    decode: impl FnOnce() -> Result<Vec<Candidate>> + Send + 'static,
) -> Result<Vec<Candidate>> {
    let page = tokio::task::spawn_blocking(decode).await;
    page.map_err(|panic| Error::new(Kind::Bug, "failed to read a page of candidates").because(panic))?
}

/// Where a page from `from` must end so that its documents and cells have at most [`PAGE_BYTES_MAX`]; not before it has
/// one group.
async fn until_full(ledger: &DuckDbConnection, candidates: &Candidates, from: u64, to: u64) -> Result<u64> {
    let stored = !candidates.all_new;
    let documents = ledger.call("read candidates", move |connection| {
        let read = || -> duckdb::Result<Vec<(u64, u64)>> {
            if !stored {
                return Ok(Vec::new());
            }
            let mut statement = connection.prepare(statements::SIZES)?;
            statement.query_map(params![from, to], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        };
        read().map_err(ledger_error("read candidates"))
    });
    let cells = async {
        match &candidates.cells {
            Some(cells) => cells.sizes(from, to).await,
            None => Ok(Vec::new()),
        }
    };
    let (documents, cells) = tokio::try_join!(documents, cells)?;
    let mut bytes = vec![0; (to - from) as usize];
    for (position, size) in documents.into_iter().chain(cells) {
        if let Some(sum) = bytes.get_mut((position - from) as usize) {
            *sum += size;
        }
    }
    let mut sum = 0;
    let fitting = bytes.iter().take_while(|size| {
        sum += *size;
        sum <= PAGE_BYTES_MAX
    });
    Ok(from + (fitting.count() as u64).max(1))
}

/// Columns of a page of cells before the cells: position, key, bytes and fingerprint.
const CELL_COLUMNS: usize = 4;

fn broken() -> Error {
    Error::new(Kind::Bug, "a page of candidates does not have the expected columns")
}

pub(in crate::ledger) fn vanished() -> Error {
    Error::new(Kind::Bug, "a page of candidates is not whole")
}

/// A row of a page of cells.
pub(in crate::ledger) struct CellRow<'a> {
    pub(in crate::ledger) position: u64,
    pub(in crate::ledger) key: &'a str,
    bytes: u64,
    fingerprint: Option<u64>,
    pub(in crate::ledger) cells: Vec<Cell>,
}

impl CellRow<'_> {
    /// The size of a row that is not read any further.
    pub(in crate::ledger) fn oversize(&self) -> Option<u64> {
        Some(self.bytes).filter(|bytes| *bytes > ROW_BYTES_MAX)
    }
}

/// The rows of a page of cells, in order of position.
pub(in crate::ledger) fn cell_rows(batches: &[RecordBatch], expected: usize) -> Result<Vec<CellRow<'_>>> {
    let mut rows = Vec::with_capacity(expected);
    for batch in batches {
        let positions = batch.column(0).as_primitive_opt::<UInt64Type>().ok_or_else(broken)?;
        let keys = batch.column(1).as_string_opt::<i32>().ok_or_else(broken)?;
        let bytes = batch.column(2).as_primitive_opt::<UInt64Type>().ok_or_else(broken)?;
        let fingerprints = batch.column(3).as_primitive_opt::<UInt64Type>().ok_or_else(broken)?;
        let columns = batch.columns()[CELL_COLUMNS..].iter().map(cells_of).collect::<Result<Vec<_>>>()?;
        let mut columns: Vec<_> = columns.into_iter().map(Vec::into_iter).collect();
        for row in 0..batch.num_rows() {
            rows.push(CellRow {
                position: positions.value(row),
                key: keys.value(row),
                bytes: bytes.value(row),
                fingerprint: fingerprints.is_valid(row).then(|| fingerprints.value(row)),
                cells: columns.iter_mut().map(|column| column.next().unwrap_or(Cell::Null)).collect(),
            });
        }
    }
    rows.sort_unstable_by_key(|row| row.position);
    Ok(rows)
}

/// A page of candidates of which the ledger has nothing.
pub(in crate::ledger) fn new_candidates(
    batches: &[RecordBatch],
    new_are_confirmed: bool,
    expected: usize,
) -> Result<Vec<Candidate>> {
    let rows = cell_rows(batches, expected)?;
    if rows.len() != expected {
        return Err(vanished());
    }
    let candidate = |row: CellRow<'_>| Candidate {
        key: row.key.to_owned(),
        kind: CandidateKind::New,
        oversize: row.oversize(),
        fingerprint: row.fingerprint,
        cells: row.cells,
        synced: Document::default(),
        confirmed: new_are_confirmed,
        settled_seq: 0,
        rejected: None,
        unreadable: None,
    };
    Ok(rows.into_iter().map(candidate).collect())
}

/// Decodes a page: the synced state of each candidate with the cells of its row, in order of position.
fn matched(
    documents: &[RecordBatch],
    texts: &Texts,
    cells: &[RecordBatch],
    new_are_confirmed: bool,
    expected: usize,
) -> Result<Vec<Candidate>> {
    let rows = cell_rows(cells, expected)?;
    let mut candidates = Vec::with_capacity(expected);
    for batch in documents {
        candidates_of(batch, texts, new_are_confirmed, &mut candidates)?;
    }
    candidates.sort_unstable_by_key(|(position, _)| *position);
    if candidates.len() != expected {
        return Err(vanished());
    }
    let mut rows = rows.into_iter();
    candidates
        .into_iter()
        .map(|(position, mut candidate)| {
            if candidate.kind != CandidateKind::Missing {
                let row = rows.next().ok_or_else(vanished)?;
                if row.position != position || row.key != candidate.key {
                    return Err(vanished());
                }
                candidate.oversize = row.oversize();
                candidate.cells = row.cells;
            }
            Ok(candidate)
        })
        .collect()
}

/// The candidates in a batch with their positions, without their cells. `new_are_confirmed`: of a group that the ledger
/// does not have, nothing was ever sent.
fn candidates_of(
    batch: &RecordBatch,
    texts: &Texts,
    new_are_confirmed: bool,
    out: &mut Vec<(u64, Candidate)>,
) -> Result<()> {
    let column = |index: usize| batch.column(index).as_string_opt::<i32>().ok_or_else(broken);
    let positions = batch.column(0).as_primitive_opt::<UInt64Type>().ok_or_else(broken)?;
    let (keys, documents, rejected, reasons, attempted) = (column(1)?, column(4)?, column(7)?, column(8)?, column(9)?);
    let kinds = batch.column(2).as_primitive_opt::<UInt8Type>().ok_or_else(broken)?;
    let fingerprints = batch.column(3).as_primitive_opt::<UInt64Type>().ok_or_else(broken)?;
    let confirmed = batch.column(5).as_boolean_opt().ok_or_else(broken)?;
    let seqs = batch.column(6).as_primitive_opt::<UInt64Type>().ok_or_else(broken)?;
    for row in 0..batch.num_rows() {
        let kind = match kinds.value(row) {
            0 => CandidateKind::New,
            1 => CandidateKind::Changed,
            _ => CandidateKind::Missing,
        };
        let mut unreadable = None;
        let mut synced = match documents.is_valid(row) {
            true => document(DOCUMENTS[0], documents.value(row), texts, &mut unreadable),
            false => Document::default(),
        };
        if documents.is_valid(row) && attempted.is_valid(row) {
            let names: Vec<String> = serde_json::from_str(attempted.value(row)).unwrap_or_else(|error| {
                unreadable.get_or_insert_with(|| format!("its attempted traits cannot be read: {error}"));
                Vec::new()
            });
            synced = with_attempted(synced, &names);
        }
        let rejected = rejected.is_valid(row).then(|| {
            (document(DOCUMENTS[1], rejected.value(row), texts, &mut unreadable), reasons.value(row).to_owned())
        });
        let confirmed = if kind == CandidateKind::New { new_are_confirmed } else { confirmed.value(row) };
        let candidate = Candidate {
            key: keys.value(row).to_owned(),
            kind,
            cells: Vec::new(),
            oversize: None,
            fingerprint: fingerprints.is_valid(row).then(|| fingerprints.value(row)),
            synced,
            confirmed: confirmed && unreadable.is_none(),
            settled_seq: if seqs.is_valid(row) { seqs.value(row) } else { 0 },
            rejected,
            unreadable,
        };
        out.push((positions.value(row), candidate));
    }
    Ok(())
}

fn cells_of(column: &Arc<dyn Array>) -> Result<Vec<Cell>> {
    macro_rules! cells {
        ($array:expr, $variant:expr) => {
            $array.iter().map(|value| value.map_or(Cell::Null, $variant)).collect()
        };
    }
    Ok(match column.data_type() {
        DataType::Boolean => cells!(column.as_boolean(), Cell::Bool),
        DataType::Int64 => cells!(column.as_primitive::<Int64Type>(), Cell::Int),
        DataType::Float64 => cells!(column.as_primitive::<Float64Type>(), Cell::Double),
        DataType::Utf8 => cells!(column.as_string::<i32>(), |text: &str| Cell::Text(text.to_owned())),
        DataType::Null => vec![Cell::Null; column.len()],
        other => return Err(Error::new(Kind::Bug, format!("a staged column has the unexpected type {other}"))),
    })
}
