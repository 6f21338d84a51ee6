//! The beginning of a run: what crashed runs left is folded, and the new run recorded.

use chrono::NaiveDateTime;
use duckdb::{Connection, params};

use super::rows::{append, fold};
use super::{bundles, statements};
use crate::duckdb::quote_literal;
use crate::ledger::{Cursor, PreviousRun, RunStart};

/// Folds crashed runs and records the new one; see [`crate::ledger::Ledger::begin`]. A read-only ledger folds temporary
/// copies and records nothing; `outdated`: it is not the newest there was, so that nothing in it is confirmed.
pub(super) fn begin(
    connection: &Connection,
    start: &RunStart,
    read_only: bool,
    outdated: bool,
    next_seq: u64,
) -> duckdb::Result<PreviousRun> {
    let sync = &start.sync;
    let mut crashed = connection.prepare("SELECT run FROM runs WHERE sync = ? AND status = 'running' ORDER BY run")?;
    let crashed: Vec<String> = crashed.query_map([sync], |row| row.get(0))?.collect::<Result<_, _>>()?;
    if read_only {
        // Copies that an earlier sync of this command needed hold nothing about this one.
        connection.execute_batch(statements::NO_OVERLAY)?;
        if !crashed.is_empty() || outdated {
            connection.execute_batch(&statements::overlay(sync))?;
            let bundles = bundles::read(connection, Some(sync))?;
            if !bundles.is_empty() {
                append(connection, bundles, Some("temp"), usize::MAX)?;
            }
        }
    }
    for run in &crashed {
        fold(connection, sync, run)?;
    }
    if outdated {
        connection.execute_batch(&statements::nothing_is_confirmed())?;
    }
    let latest = |column: &str, condition: &str| {
        format!(
            "(SELECT {column} FROM runs WHERE sync = {sync} AND {condition} ORDER BY run DESC LIMIT 1)",
            sync = quote_literal(sync)
        )
    };
    let same_mapping = format!("mapping = {}", quote_literal(&start.mapping));
    let cursor = format!("{same_mapping} AND (cursor_value IS NOT NULL OR read_all)");
    let sql = format!(
        "SELECT {}, {}, {}, {}",
        latest("true", &cursor),
        latest("cursor_value", &cursor),
        latest("ended_at", &format!("{same_mapping} AND full_read")),
        latest("source_rows", "source_rows IS NOT NULL"),
    );
    let previous = connection.query_row(&sql, [], |row| {
        let (has_cursor, cursor): (Option<bool>, Option<String>) = (row.get(0)?, row.get(1)?);
        let cursor = has_cursor.map(|_| cursor.map_or(Cursor::ReadAll, Cursor::At));
        let full_read_at = row.get::<_, Option<NaiveDateTime>>(2)?.map(|at| at.and_utc());
        Ok(PreviousRun {
            recovered: Vec::new(),
            cursor: cursor.filter(|_| !outdated),
            full_read_at: full_read_at.filter(|_| !outdated),
            rows: row.get(3)?,
        })
    })?;
    let has_crashed = !crashed.is_empty();
    let previous = PreviousRun { recovered: crashed, ..previous };
    if !read_only {
        let traits = serde_json::Value::from(start.traits.clone()).to_string();
        connection.execute("UPDATE meta SET next_seq = greatest(next_seq, ?)", [next_seq])?;
        if has_crashed {
            connection.execute(
                "UPDATE runs SET status = 'crashed', ended_at = ? WHERE sync = ? AND status = 'running'",
                params![start.started_at.naive_utc(), sync],
            )?;
        }
        connection.execute(
            "INSERT INTO runs (sync, run, mapping, traits, started_at, started_by, partial, status) \
             VALUES (?, ?, ?, ?::JSON::VARCHAR[], ?, ?, ?, 'running')",
            params![
                sync,
                start.run,
                start.mapping,
                traits,
                start.started_at.naive_utc(),
                start.started_by,
                start.partial
            ],
        )?;
    }
    Ok(previous)
}
