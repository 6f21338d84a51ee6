//! Which groups must be looked at? The comparison of a run's rows with what is known, and its candidates as they are read,
//! page by page.
//!
//! The rows stand in another DuckDB instance than the ledger ([`crate::source::staged`]). Buckets of keys whose counts and
//! sums are equal on both sides are done with; of the others keys and fingerprints come over and are joined; cells only
//! of the candidates are kept, on their side. A page is then read from both sides and matched by position.

use std::sync::Arc;

use duckdb::arrow::array::{Array, AsArray, RecordBatch};
use duckdb::arrow::datatypes::{DataType, Float64Type, Int64Type, UInt8Type, UInt64Type};
use duckdb::{Connection, params};

use super::long_texts::Texts;
use super::rows::{DOCUMENTS, at_once, document};
use super::{Candidate, CandidateKind, Comparison, Missing, Scope, statements, with_attempted};
use crate::duckdb::{DuckDbConnection, ledger_error};
use crate::error::{Error, Kind, Result};
use crate::model::{Cell, Document};
use crate::source::Staged;
use crate::source::staged::{self, BUCKETS, Bucket, KeptCells, ROW_BYTES_MAX, Wanted};

/// How many duplicate keys a comparison names.
pub(super) const EXAMPLES: usize = 10;
/// How many keys of new and of missing groups a comparison names, where there are both.
pub(super) const KEY_EXAMPLES: usize = 3;
/// Bytes of documents and cells in one page, at most, unless a single group has more: two pages are in memory at a time,
/// as text, as values and as requests.
const PAGE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The candidates of a comparison, ready to be read.
#[derive(Clone, Default)]
pub(super) struct Candidates {
    /// How many there are; their positions start at 0.
    total: u64,
    /// The cells of those that have a row.
    cells: Option<KeptCells>,
    /// Bytes of the largest known document.
    document_bytes_max: u64,
}

impl Candidates {
    /// The cells, for whoever tidies up.
    pub(super) fn into_cells(self) -> Option<KeptCells> {
        self.cells
    }
}

/// What is known, by bucket.
struct KnownSums {
    buckets: Vec<Bucket>,
    /// Groups that are candidates whatever their row says.
    open: Vec<u64>,
    /// Groups whose last word is a rejection.
    rejected: Vec<u64>,
}

/// Interrupts what runs in two instances, unless it is disarmed: a comparison that nobody waits for must not go on.
struct Interrupter(Option<(DuckDbConnection, DuckDbConnection)>);

impl Drop for Interrupter {
    fn drop(&mut self) {
        if let Some((ledger, input)) = &self.0 {
            ledger.interrupt();
            input.interrupt();
        }
    }
}

/// Finds the candidates; see [`super::Ledger::compare`].
///
/// Up to `ordered_max` candidates come in key order.
pub(super) async fn compare(
    ledger: &DuckDbConnection,
    sync: &str,
    staged: &Staged,
    scope: &Scope,
    ordered_max: u64,
) -> Result<(Comparison, Candidates)> {
    let mut interrupter = Interrupter(Some((ledger.clone(), staged.duckdb.clone())));
    let compared = compare_all(ledger, sync, staged, scope, ordered_max).await;
    interrupter.0 = None;
    compared
}

async fn compare_all(
    ledger: &DuckDbConnection,
    sync: &str,
    staged: &Staged,
    scope: &Scope,
    ordered_max: u64,
) -> Result<(Comparison, Candidates)> {
    let whole = scope.missing == Missing::All;
    let (rows, known) = tokio::try_join!(staged.sums(&scope.salt), known_sums(ledger, sync, scope))?;
    let mut found = Comparison {
        rows: rows.rows,
        null_keys: rows.null_keys,
        empty_keys: rows.empty_keys,
        known: known.buckets.iter().map(|bucket| bucket.rows).sum(),
        ..Comparison::default()
    };
    let valid = found.rows - found.null_keys - found.empty_keys;
    // Where only a part of the model was read, the rest of a bucket is not known to be equal.
    let differs = |bucket: usize| !whole || rows.buckets[bucket] != known.buckets[bucket] || known.open[bucket] > 0;
    let differing: Vec<u16> = (0..BUCKETS).filter(|bucket| differs(*bucket)).map(|bucket| bucket as u16).collect();
    // A rejected row that did not change is as its group's fingerprint says: held back, and equal.
    let held_elsewhere: u64 =
        (0..BUCKETS).filter(|bucket| !differs(*bucket)).map(|bucket| known.rejected[bucket]).sum();
    if whole && differing.is_empty() {
        // The usual night: neither rows nor documents are read.
        found.held = held_elsewhere;
        found.unchanged = valid - found.held;
        return Ok((found, Candidates::default()));
    }
    let of = |buckets: &[Bucket]| differing.iter().map(|bucket| buckets[usize::from(*bucket)].rows).sum::<u64>();
    let (valid_here, known_here) = (of(&rows.buckets), of(&known.buckets));
    // Most of them: then looking for the few that are equal costs more than it saves.
    let only = (whole && differing.len() <= BUCKETS / 2).then_some(differing);
    let (valid_here, known_here) = if only.is_some() { (valid_here, known_here) } else { (valid, found.known) };
    let held_elsewhere = if only.is_some() { held_elsewhere } else { 0 };

    let setup = [Some(statements::SCAN.to_owned()), only.as_deref().map(staged::differing)];
    run(ledger, setup.into_iter().flatten().collect()).await?;
    staged.copy_fingerprints(&scope.salt, only.as_deref(), ledger, "scan").await?;
    let (text, scope_here, filtered) = (sync.to_owned(), scope.clone(), only.is_some());
    let found = ledger
        .call("compare", move |connection| {
            join(connection, &text, &scope_here, filtered, (valid_here, known_here), &mut found)?;
            found.held += held_elsewhere;
            found.unchanged = valid - found.duplicate_rows - found.new - found.changed - found.held;
            Ok(found)
        })
        .await?;
    if found.candidates() == 0 {
        run(ledger, vec![statements::CLEAN_UP.to_owned()]).await?;
        return Ok((found, Candidates::default()));
    }
    let candidates = choose(ledger, sync, staged, scope, &found, (valid, ordered_max)).await?;
    run(ledger, vec![statements::CLEAN_UP.to_owned()]).await?;
    Ok((found, candidates))
}

async fn known_sums(ledger: &DuckDbConnection, sync: &str, scope: &Scope) -> Result<KnownSums> {
    let sql = statements::known_sums(sync, scope);
    ledger
        .call("compare", move |connection| {
            let mut sums = KnownSums {
                buckets: vec![Bucket::default(); BUCKETS],
                open: vec![0; BUCKETS],
                rejected: vec![0; BUCKETS],
            };
            let mut read = || -> duckdb::Result<()> {
                let mut statement = connection.prepare(&sql)?;
                let mut rows = statement.query([])?;
                while let Some(row) = rows.next()? {
                    let bucket: usize = row.get(0)?;
                    sums.buckets[bucket] = Bucket { rows: row.get(1)?, sum: row.get(2)?, xor: row.get(3)? };
                    (sums.open[bucket], sums.rejected[bucket]) = (row.get(4)?, row.get(5)?);
                }
                Ok(())
            };
            read().map_err(|error| compare_error(&error))?;
            Ok(sums)
        })
        .await
}

async fn run(duckdb: &DuckDbConnection, statements: Vec<String>) -> Result<()> {
    duckdb
        .call("compare", move |connection| {
            statements.iter().try_for_each(|sql| connection.execute_batch(sql)).map_err(|error| compare_error(&error))
        })
        .await
}

fn count(connection: &Connection, sql: &str) -> Result<u64> {
    connection.query_row(sql, [], |row| row.get(0)).map_err(ledger_error("compare"))
}

/// Joins the keys and fingerprints that came over with what is known. `valid` and `known` are how many rows and known
/// groups are looked at.
fn join(
    connection: &Connection,
    sync: &str,
    scope: &Scope,
    filtered: bool,
    (valid, known): (u64, u64),
    found: &mut Comparison,
) -> Result<()> {
    let run = |sql: &str| connection.execute_batch(sql).map_err(|error| compare_error(&error));
    run(&statements::candidates(sync, scope, filtered))?;
    // Known groups are unique and each was matched or found missing, so rows without duplicates are exactly as many as
    // matched groups and distinct new keys. Only when the sum does not add up is every key grouped.
    let distinct = (scope.missing == Missing::All)
        .then(|| {
            Ok::<_, Error>(
                known - count(connection, statements::MISSING_COUNT)? + count(connection, statements::NEW_DISTINCT)?,
            )
        })
        .transpose()?;
    if distinct != Some(valid) {
        run(statements::DUPLICATES)?;
        found.duplicate_rows = count(connection, statements::DUPLICATE_ROWS)?;
        if found.duplicate_rows > 0 {
            run(statements::DROP_DUPLICATES)?;
            let mut examples = connection
                .prepare(&format!("SELECT key FROM duplicate ORDER BY key LIMIT {EXAMPLES}"))
                .map_err(ledger_error("list duplicate keys"))?;
            let keys = examples.query_map([], |row| row.get(0)).map_err(ledger_error("list duplicate keys"))?;
            found.duplicate_examples = keys.collect::<Result<_, _>>().map_err(ledger_error("list duplicate keys"))?;
        }
    }
    let missing_candidates;
    (found.new, found.changed, found.held, found.missing, missing_candidates) = connection
        .query_row(&statements::candidate_counts(scope), [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })
        .map_err(ledger_error("count suspects"))?;
    if found.missing > 0 && found.new > 0 {
        for (kind, examples) in [(0, &mut found.new_examples), (2, &mut found.missing_examples)] {
            *examples = key_examples(connection, kind)?;
        }
    }
    found.missing_candidates = if scope.act_on_missing { missing_candidates } else { 0 };
    Ok(())
}

/// Gives every candidate a position, has the cells of their rows kept, and gathers what is known of them.
///
/// Few candidates come in key order: only keys are sorted, never documents or cells. Of many, the cells are kept in the
/// order in which they are read, and the known documents are sorted to fit.
async fn choose(
    ledger: &DuckDbConnection,
    sync: &str,
    staged: &Staged,
    scope: &Scope,
    found: &Comparison,
    (valid, ordered_max): (u64, u64),
) -> Result<Candidates> {
    let total = found.candidates();
    let with_row = found.new + found.changed;
    let ordered = total <= ordered_max;
    let mut cells = None;
    if ordered {
        run(ledger, vec![statements::choose_ordered(scope)]).await?;
        if with_row > 0 {
            let sql = "SELECT n, key FROM temp.chosen WHERE kind < 2".to_owned();
            cells = Some(staged.keep_cells(Wanted::Positions { from: ledger, sql }).await?);
        }
    } else {
        run(ledger, vec![statements::choose_unordered(scope), statements::POSITIONS.to_owned()]).await?;
        if with_row > 0 {
            // Without an order of its own a row's position is where it was put.
            let sql = "SELECT key FROM temp.chosen WHERE kind < 2".to_owned();
            let wanted = if with_row == valid { Wanted::All } else { Wanted::Keys { from: ledger, sql } };
            let kept = staged.keep_cells(wanted).await?;
            kept.copy_positions(ledger, "positions").await?;
            cells = Some(kept);
        }
        run(ledger, vec![statements::POSITION_CHOSEN.to_owned()]).await?;
    }
    let gather = statements::suspects(sync, ordered);
    let document_bytes_max = ledger
        .call("compare", move |connection| {
            let run = |sql: &str| connection.execute_batch(sql).map_err(|error| compare_error(&error));
            if !ordered {
                run("SET preserve_insertion_order = true")?;
            }
            let stored = run(&gather);
            if !ordered {
                run("SET preserve_insertion_order = false")?;
            }
            stored?;
            let (stored, bytes): (u64, u64) = connection
                .query_row("SELECT count(*), coalesce(max(bytes), 0)::UBIGINT FROM suspect", [], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .map_err(ledger_error("compare"))?;
            if stored != total {
                let what = format!("{total} groups were to be compared, and {stored} were found");
                return Err(Error::new(Kind::Bug, what));
            }
            Ok(bytes)
        })
        .await?;
    Ok(Candidates { total, cells, document_bytes_max })
}

/// The candidates from position `from`, at most `count` and [`PAGE_BYTES_MAX`] of them; see [`super::Ledger::page`].
pub(super) async fn page(
    ledger: &DuckDbConnection,
    candidates: &Candidates,
    new_are_certain: bool,
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
    let documents = ledger.call("read suspects", move |connection| {
        let read = |connection: &Connection| {
            let mut page = connection.prepare(statements::PAGE)?;
            let batches: Vec<RecordBatch> = page.query_arrow(params![from, to])?.collect();
            let columns = batches.iter().flat_map(|batch| [batch.column(4), batch.column(7)]);
            let stored = columns.filter_map(|column| column.as_string_opt::<i32>()).flat_map(|column| column.iter());
            let texts = Texts::of(connection, stored)?;
            Ok((batches, texts))
        };
        at_once(connection, read).map_err(ledger_error("read suspects"))
    });
    let cells = async {
        match &candidates.cells {
            Some(cells) => cells.rows(from, to).await,
            None => Ok(Vec::new()),
        }
    };
    let ((documents, texts), cells) = tokio::try_join!(documents, cells)?;
    let decode = move || matched(&documents, &texts, &cells, new_are_certain, (to - from) as usize);
    let decoded = tokio::task::spawn_blocking(decode).await;
    decoded.map_err(|panic| Error::new(Kind::Bug, "failed to read a page of suspects").because(panic))?
}

/// Where a page from `from` must end so that its documents and cells have at most [`PAGE_BYTES_MAX`]; not before it has
/// one group.
async fn until_full(ledger: &DuckDbConnection, candidates: &Candidates, from: u64, to: u64) -> Result<u64> {
    let documents = ledger.call("read suspects", move |connection| {
        let read = || -> duckdb::Result<Vec<(u64, u64)>> {
            let mut statement = connection.prepare(statements::SIZES)?;
            statement.query_map(params![from, to], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        };
        read().map_err(ledger_error("read suspects"))
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

/// The first keys of candidates of a kind.
fn key_examples(connection: &Connection, kind: u8) -> Result<Vec<String>> {
    let failed = ledger_error("list keys");
    let mut first = connection
        .prepare(&format!("SELECT key FROM candidate WHERE kind = {kind} ORDER BY key LIMIT {KEY_EXAMPLES}"))
        .map_err(&failed)?;
    let keys = first.query_map([], |row| row.get(0)).map_err(&failed)?;
    keys.collect::<Result<_, _>>().map_err(failed)
}

/// A failure while comparing is the source's when its values cannot be read, the ledger's otherwise.
fn compare_error(error: &duckdb::Error) -> Error {
    let text = error.to_string();
    let failed = Error::new(Kind::Ledger, "failed to compare the source with what is known");
    let failed = if crate::duckdb::is_damaged(&text) {
        failed.advise("the ledger is damaged: restore it from a backup, and leave its `.generation` file in place")
    } else if text.contains("Out of Memory") {
        failed.advise("raise `state.memory` in groupcast.toml; half of it is the ledger's")
    } else if crate::duckdb::is_full(&text) {
        failed.advise("free space where DuckDB spills (`state.temp_folder`)")
    } else if text.contains("INTERRUPT") {
        Error::new(Kind::Interrupted, "interrupted while comparing")
    } else {
        failed
    };
    failed.because(crate::duckdb::first_line(&text))
}

/// Columns of a page of cells before the cells: position, key and bytes.
const CELL_COLUMNS: usize = 3;

fn broken() -> Error {
    Error::new(Kind::Bug, "a page of candidates does not have the expected columns")
}

/// Decodes a page: what is known of each candidate with the cells of its row, in order of position.
fn matched(
    documents: &[RecordBatch],
    texts: &Texts,
    cells: &[RecordBatch],
    new_are_certain: bool,
    expected: usize,
) -> Result<Vec<Candidate>> {
    let mut rows: Vec<(u64, &str, u64, Vec<Cell>)> = Vec::with_capacity(expected);
    for batch in cells {
        let positions = batch.column(0).as_primitive_opt::<UInt64Type>().ok_or_else(broken)?;
        let keys = batch.column(1).as_string_opt::<i32>().ok_or_else(broken)?;
        let bytes = batch.column(2).as_primitive_opt::<UInt64Type>().ok_or_else(broken)?;
        let columns = batch.columns()[CELL_COLUMNS..].iter().map(cells_of).collect::<Result<Vec<_>>>()?;
        let mut columns: Vec<_> = columns.into_iter().map(Vec::into_iter).collect();
        for row in 0..batch.num_rows() {
            let cells = columns.iter_mut().map(|column| column.next().unwrap_or(Cell::Null)).collect();
            rows.push((positions.value(row), keys.value(row), bytes.value(row), cells));
        }
    }
    rows.sort_unstable_by_key(|(position, ..)| *position);
    let mut suspects = Vec::with_capacity(expected);
    for batch in documents {
        suspects_of(batch, texts, new_are_certain, &mut suspects)?;
    }
    suspects.sort_unstable_by_key(|(position, _)| *position);
    let vanished = || Error::new(Kind::Bug, "a page of candidates is not whole");
    if suspects.len() != expected {
        return Err(vanished());
    }
    let mut rows = rows.into_iter().peekable();
    suspects
        .into_iter()
        .map(|(position, mut suspect)| {
            if suspect.kind != CandidateKind::Missing {
                let (at, key, bytes, cells) = rows.next().ok_or_else(vanished)?;
                if at != position || key != suspect.key {
                    return Err(vanished());
                }
                suspect.cells = cells;
                suspect.oversize = Some(bytes).filter(|bytes| *bytes > ROW_BYTES_MAX);
            }
            Ok(suspect)
        })
        .collect()
}

/// What is known of the candidates in a batch, with their positions; without their cells. `new_are_certain`: of a group
/// the ledger does not know, nothing was ever sent.
fn suspects_of(
    batch: &RecordBatch,
    texts: &Texts,
    new_are_certain: bool,
    out: &mut Vec<(u64, Candidate)>,
) -> Result<()> {
    let column = |index: usize| batch.column(index).as_string_opt::<i32>().ok_or_else(broken);
    let positions = batch.column(0).as_primitive_opt::<UInt64Type>().ok_or_else(broken)?;
    let (keys, documents, rejected, reasons, attempted) = (column(1)?, column(4)?, column(7)?, column(8)?, column(9)?);
    let kinds = batch.column(2).as_primitive_opt::<UInt8Type>().ok_or_else(broken)?;
    let fingerprints = batch.column(3).as_primitive_opt::<UInt64Type>().ok_or_else(broken)?;
    let certain = batch.column(5).as_boolean_opt().ok_or_else(broken)?;
    let seqs = batch.column(6).as_primitive_opt::<UInt64Type>().ok_or_else(broken)?;
    for row in 0..batch.num_rows() {
        let kind = match kinds.value(row) {
            0 => CandidateKind::New,
            1 => CandidateKind::Changed,
            _ => CandidateKind::Missing,
        };
        let mut unreadable = None;
        let mut known = match documents.is_valid(row) {
            true => document(DOCUMENTS[0], documents.value(row), texts, &mut unreadable),
            false => Document::default(),
        };
        if documents.is_valid(row) && attempted.is_valid(row) {
            let names: Vec<String> = serde_json::from_str(attempted.value(row)).unwrap_or_else(|error| {
                unreadable.get_or_insert_with(|| format!("its attempted traits cannot be read: {error}"));
                Vec::new()
            });
            known = with_attempted(known, &names);
        }
        let rejected = rejected.is_valid(row).then(|| {
            (document(DOCUMENTS[1], rejected.value(row), texts, &mut unreadable), reasons.value(row).to_owned())
        });
        let certain = if kind == CandidateKind::New { new_are_certain } else { certain.value(row) };
        let suspect = Candidate {
            key: keys.value(row).to_owned(),
            kind,
            cells: Vec::new(),
            oversize: None,
            fingerprint: fingerprints.is_valid(row).then(|| fingerprints.value(row)),
            known,
            certain: certain && unreadable.is_none(),
            settled_seq: if seqs.is_valid(row) { seqs.value(row) } else { 0 },
            rejected,
            unreadable,
        };
        out.push((positions.value(row), suspect));
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
