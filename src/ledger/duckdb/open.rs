//! Opening a ledger's file: is it the newest there was, by the number recorded beside it?

use std::path::Path;

use duckdb::Connection;

use super::bundles;
use super::generation::{self, Generations, Recorded};
use super::long_texts::INLINE_BYTES_MAX;
use super::rows::fold;
use super::statements;
use super::write::transaction;
use crate::duckdb::ledger_error;
use crate::error::Result;

/// What is recorded in an open file.
pub(super) struct Opened {
    pub(super) next_seq: u64,
    pub(super) recorded: Recorded,
    pub(super) outdated: Option<String>,
}

/// Looks at an open file of the current version: how new is it, by the number recorded beside it? An outdated
/// one is marked as such immediately, or, where it is only read, shown as such.
pub(super) fn opened(connection: &mut Connection, recorded_in: Option<&Path>, read_only: bool) -> Result<Opened> {
    let look = format!(
        "SELECT greatest(next_seq, (SELECT coalesce(max(seq), 0) FROM journal) + 1), id, generation, ({}) FROM meta, identity",
        bundles::any_statement()
    );
    let look = |connection: &Connection| {
        let read = |row: &duckdb::Row<'_>| {
            Ok((row.get(0)?, Recorded { ledger: row.get(1)?, generation: row.get(2)? }, row.get(3)?))
        };
        connection.query_row(&look, [], read).map_err(ledger_error("read the ledger's identity"))
    };
    let (mut next_seq, mut recorded, has_bundles): (u64, Recorded, bool) = look(connection)?;
    if has_bundles && !read_only {
        transaction(connection, "record outcomes", |connection| {
            bundles::unpack(connection, None, &mut Vec::new(), INLINE_BYTES_MAX)
        })?;
        (next_seq, recorded, _) = look(connection)?;
    }
    let Some(path) = recorded_in else { return Ok(Opened { next_seq, recorded, outdated: None }) };
    let beside = generation::read(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let outdated = generation::outdated(&recorded, beside.as_ref(), &name);
    if read_only {
        if outdated.is_some() {
            let look = |connection: &Connection| -> duckdb::Result<()> {
                let database: String = connection.query_row("SELECT current_database()", [], |row| row.get(0))?;
                connection.execute_batch(&statements::unconfirmed_view(&database))
            };
            look(connection).map_err(ledger_error("read an outdated ledger"))?;
        }
        return Ok(Opened { next_seq, recorded, outdated });
    }
    if outdated.is_some() {
        // What runs under way had recorded may be older as well: it is brought in first, and then nothing is confirmed.
        let beyond = beside.as_ref().map_or(0, |beside| beside.generation).max(recorded.generation) + 1;
        transaction(connection, "mark an outdated ledger", |connection| {
            let mut crashed = connection.prepare("SELECT sync, run FROM runs WHERE status = 'running' ORDER BY run")?;
            let crashed = crashed.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let crashed: Vec<(String, String)> = crashed.collect::<duckdb::Result<_>>()?;
            for (sync, run) in &crashed {
                fold(connection, sync, run)?;
            }
            connection
                .execute_batch("UPDATE runs SET status = 'crashed', ended_at = started_at WHERE status = 'running'")?;
            connection.execute_batch(&statements::rewind())?;
            connection.execute("UPDATE identity SET generation = ?", [beyond]).map(drop)
        })?;
        recorded.generation = beyond;
    }
    if beside.as_ref() != Some(&recorded) {
        Generations::of(path.to_path_buf(), recorded.clone()).record(recorded.generation)?;
    }
    Ok(Opened { next_seq, recorded, outdated })
}
