//! Which groups must be looked at? The comparison in DuckDB, and its suspects as they are read, page by page.

use std::sync::Arc;

use duckdb::Connection;
use duckdb::arrow::array::{Array, AsArray, RecordBatch};
use duckdb::arrow::datatypes::{DataType, Float64Type, Int64Type, UInt8Type, UInt64Type};

use super::{Comparison, Missing, Scope, Suspect, SuspectKind, statements, with_attempted};
use crate::duck::ledger_error;
use crate::error::{Error, Kind, Result};
use crate::model::{Cell, Document};
use crate::source::Staged;

/// How many duplicate keys a comparison names.
pub(super) const EXAMPLES: usize = 10;
/// How many keys of new and of missing groups a comparison names, where there are both.
pub(super) const KEY_EXAMPLES: usize = 3;
/// Up to here suspects come in key order, so that plans read well; sorting more would cost more than it helps.
const ORDERED_SUSPECTS_MAX: u64 = 100_000;

fn count(connection: &Connection, sql: &str) -> Result<u64> {
    connection.query_row(sql, [], |row| row.get(0)).map_err(ledger_error("compare"))
}

/// What a comparison leaves behind but the suspects.
const CLEAN_UP: &str =
    "DROP TABLE scan; DROP TABLE candidate; DROP TABLE IF EXISTS duplicate; DROP TABLE IF EXISTS temp.incoming";

/// Finds the suspects; see [`super::Ledger::compare`].
pub(super) fn compare(connection: &Connection, sync: &str, staged: &Staged, scope: &Scope) -> Result<Comparison> {
    let run = |sql: &str| connection.execute_batch(sql).map_err(|error| compare_error(&error));
    run(&statements::scan(staged, scope))?;
    let (rows, null_keys, empty_keys): (u64, u64, u64) = connection
        .query_row(statements::KEY_COUNTS, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .map_err(ledger_error("count keys"))?;
    run(&statements::candidates(sync, scope))?;
    let known = count(connection, &statements::known_count(sync))?;
    let mut found = Comparison { rows, null_keys, empty_keys, known, ..Comparison::default() };

    // Known groups are unique and each was matched or found missing, so rows without duplicates are exactly as many as
    // matched groups and distinct new keys. Only when the sum does not add up is every key grouped.
    let valid = rows - null_keys - empty_keys;
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
    let missing_suspects;
    (found.new, found.changed, found.held, found.missing, missing_suspects) = connection
        .query_row(&statements::candidate_counts(scope), [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })
        .map_err(ledger_error("count suspects"))?;
    if found.missing > 0 && found.new > 0 {
        for (kind, examples) in [(0, &mut found.new_examples), (2, &mut found.missing_examples)] {
            *examples = key_examples(connection, kind)?;
        }
    }
    found.missing_suspects = if scope.act_on_missing { missing_suspects } else { 0 };
    found.unchanged = valid - found.duplicate_rows - found.new - found.changed - found.held;

    if found.suspects() == 0 {
        // The usual night: neither rows nor documents are read.
        run("CREATE OR REPLACE TEMP TABLE suspect AS SELECT 0 AS none WHERE false")?;
        run(CLEAN_UP)?;
        return Ok(found);
    }
    let ordered = found.suspects() <= ORDERED_SUSPECTS_MAX;
    if ordered {
        run("SET preserve_insertion_order = true")?;
    }
    let stored = run(&statements::suspects(sync, staged, scope, ordered));
    if ordered {
        run("SET preserve_insertion_order = false")?;
    }
    stored?;
    run(CLEAN_UP)?;
    Ok(found)
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
    if text.contains("Conversion Error") || text.contains("Invalid Input Error") || text.contains("Out of Range Error")
    {
        return Error::new(Kind::Source, "the model's SQL failed on a row")
            .advise("fix the expression, or guard it with `try_cast`")
            .because(crate::duck::first_line(&text));
    }
    let failed = Error::new(Kind::Ledger, "failed to compare the source with what is known");
    let failed = if crate::duck::is_damaged(&text) {
        failed.advise(
            "the warehouse's file or the ledger's is damaged: restore the ledger from a backup if `groupcast ledger export` \
             fails as well, the warehouse's file otherwise",
        )
    } else if text.contains("Out of Memory") || crate::duck::is_full(&text) {
        failed.advise("raise `state.memory` in groupcast.toml, or free space where DuckDB spills (`state.temp_folder`)")
    } else if text.contains("INTERRUPT") {
        Error::new(Kind::Interrupted, "interrupted while comparing")
    } else {
        failed
    };
    failed.because(crate::duck::first_line(&text))
}

/// Columns of the suspect table before the row's own.
const SUSPECT_COLUMNS: usize = 9;

pub(super) fn suspects_of(batch: &RecordBatch, out: &mut Vec<Suspect>) -> Result<()> {
    let broken = || Error::new(Kind::Bug, "the suspect table has unexpected columns");
    let text = |index: usize| batch.column(index).as_string_opt::<i32>().ok_or_else(broken);
    let (keys, documents, rejected, reasons, attempted) = (text(0)?, text(3)?, text(6)?, text(7)?, text(8)?);
    let kinds = batch.column(1).as_primitive_opt::<UInt8Type>().ok_or_else(broken)?;
    let fingerprints = batch.column(2).as_primitive_opt::<UInt64Type>().ok_or_else(broken)?;
    let certain = batch.column(4).as_boolean_opt().ok_or_else(broken)?;
    let seqs = batch.column(5).as_primitive_opt::<UInt64Type>().ok_or_else(broken)?;
    let columns = batch.columns()[SUSPECT_COLUMNS..].iter().map(cells_of).collect::<Result<Vec<_>>>()?;
    let mut columns: Vec<_> = columns.into_iter().map(Vec::into_iter).collect();
    let parsed = |text: &str| {
        Document::from_text(text).map_err(|error| {
            Error::new(Kind::Ledger, "a known document cannot be read")
                .advise("restore the ledger from a backup, or run `groupcast ledger reset --forget` for this sync")
                .because(error)
        })
    };
    for row in 0..batch.num_rows() {
        let kind = match kinds.value(row) {
            0 => SuspectKind::New,
            1 => SuspectKind::Changed,
            _ => SuspectKind::Missing,
        };
        let cells = columns.iter_mut().map(|column| column.next().unwrap_or(Cell::Null));
        let cells: Vec<Cell> = cells.collect();
        out.push(Suspect {
            key: keys.value(row).to_owned(),
            kind,
            cells: if kind == SuspectKind::Missing { Vec::new() } else { cells },
            fingerprint: fingerprints.is_valid(row).then(|| fingerprints.value(row)),
            known: match (documents.is_valid(row), attempted.is_valid(row)) {
                (false, _) => Document::default(),
                (true, false) => parsed(documents.value(row))?,
                (true, true) => {
                    let names: Vec<String> = serde_json::from_str(attempted.value(row)).map_err(|_| broken())?;
                    with_attempted(parsed(documents.value(row))?, &names)
                }
            },
            certain: kind == SuspectKind::New || certain.value(row),
            settled_seq: if seqs.is_valid(row) { seqs.value(row) } else { 0 },
            rejected: match rejected.is_valid(row) {
                true => Some((parsed(rejected.value(row))?, reasons.value(row).to_owned())),
                false => None,
            },
        });
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
