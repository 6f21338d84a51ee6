//! Loading a text file's rows into a temporary table: read on a thread of its own, as they are written, and appended batch
//! by batch.

use std::sync::mpsc::{SyncSender, sync_channel};

use duckdb::Connection;
use duckdb::arrow::record_batch::RecordBatch;

use super::column::written;
use super::names::Found;
use super::row::{Columns, Value};
use super::rows::Rows;
use super::{FileProfile, Options, changes, names};
use crate::error::{Error, Kind, Result};
use crate::source::staging::BATCHES_WAITING;
use crate::source::staging::batch::{BatchBuilder, Physical};
use crate::source::statement_error::statement_error;

/// The temporary table of a text file's rows: the key as `k`, and the columns as they are written.
pub(super) const TABLE: &str = "file rows";
/// Fills the table with the rows of these columns; the first of `needed` columns is the key's.
pub(super) fn load(
    connection: &Connection,
    profile: &FileProfile,
    options: &Options,
    key: usize,
    needed: &[usize],
) -> Result<()> {
    let failed = |error: duckdb::Error| statement_error("read the file", &error);
    let columns: Vec<String> = needed.iter().map(|position| format!(", {} VARCHAR", written(*position))).collect();
    let table = crate::duckdb::quote_identifier(TABLE);
    connection
        .execute_batch(&format!("CREATE OR REPLACE TEMP TABLE {table} (k VARCHAR{})", columns.concat()))
        .map_err(failed)?;
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(BATCHES_WAITING);
        let reader = scope.spawn(move || read(profile, options, key, needed, &sender));
        let append = || -> duckdb::Result<()> {
            let mut appender = connection.appender_to_catalog_and_db(TABLE, "temp", "main")?;
            for batch in receiver {
                appender.append_record_batch(batch)?;
            }
            appender.flush()
        };
        let appended = append();
        let read = reader.join().unwrap_or_else(|_| Err(Error::new(Kind::Bug, "the thread that reads the file ended")));
        // Where the appender fails the reader only finds nobody waiting.
        appended.map_err(failed)?;
        read
    })
}

fn read(
    profile: &FileProfile,
    options: &Options,
    key: usize,
    needed: &[usize],
    sender: &SyncSender<RecordBatch>,
) -> Result<()> {
    let names = std::iter::once(key).chain(needed.iter().copied()).map(|position| &profile.columns[position].name);
    let mut batch = BatchBuilder::new(names.map(|name| (format!("`{name}`"), Physical::Text)));
    let malformed = |what: String| Error::new(Kind::Source, format!("failed to read the file: {what}"));
    let pass_on =
        |batch: &mut BatchBuilder| -> Result<bool> { Ok(sender.send(batch.take().map_err(malformed)?).is_ok()) };
    for found in &profile.files {
        let (mut file, state) = unless_changed(found, Rows::open(found, options))?;
        if state != found.state {
            return Err(changes(&found.shown));
        }
        let mut columns = Columns::default();
        for column in &profile.columns {
            columns.add(&column.name);
        }
        let partition = |position: usize| {
            let name = &profile.columns[position].name;
            found
                .parts
                .iter()
                .find(|(part, _)| part == name)
                .map(|(_, value)| value.as_bytes())
                .filter(|value| !value.is_empty())
        };
        let mut string = String::new();
        let all = file.each(&mut columns, &mut |_, line, row| {
            let value = match row.value(key) {
                Some(Value::Json(text)) => {
                    Some(key_text(text, &found.shown, line, &profile.columns[key].name, &mut string)?)
                }
                Some(Value::Text(text)) => Some(profile.columns[key].notation.read(text, options, &mut string)),
                None => partition(key),
            };
            batch.append_text(0, value).map_err(malformed)?;
            for (at, position) in needed.iter().enumerate() {
                let value = match row.value(*position) {
                    Some(Value::Text(text)) => {
                        Some(profile.columns[*position].notation.read(text, options, &mut string))
                    }
                    Some(Value::Json(text)) if text.starts_with('"') && !profile.columns[*position].is_json() => Some(
                        unquoted(text, &mut string)
                            .ok_or_else(|| no_text(&found.shown, line, &profile.columns[*position].name))?,
                    ),
                    Some(Value::Json(text)) => Some(text.as_bytes()),
                    None => partition(*position),
                };
                batch.append_text(at + 1, value).map_err(malformed)?;
            }
            batch.end_row();
            if batch.is_full() && !pass_on(&mut batch)? {
                return Err(Error::new(Kind::Source, "the rows were not taken"));
            }
            Ok(())
        });
        unless_changed(found, all)?;
    }
    if batch.rows() > 0 {
        pass_on(&mut batch)?;
    }
    Ok(())
}

/// What became of reading a file, unless it changed meanwhile: then a mistake in it may be where the older half meets the newer.
fn unless_changed<T>(found: &Found, read: Result<T>) -> Result<T> {
    match std::fs::metadata(&found.path) {
        Ok(now) if names::State::of(&now) != found.state => Err(changes(&found.shown)),
        Err(error) if read.is_ok() => Err(names::unreadable(&found.shown, &error)),
        _ => read,
    }
}

/// The text that a JSON string means.
fn unquoted<'a>(text: &'a str, string: &'a mut String) -> Option<&'a [u8]> {
    let within = text.get(1..text.len() - 1)?;
    if !within.contains('\\') {
        return Some(within.as_bytes());
    }
    *string = serde_json::from_str(text).ok()?;
    Some(string.as_bytes())
}

fn no_text(shown: &str, line: u64, column: &str) -> Error {
    Error::new(
        Kind::Source,
        format!("{shown}, line {line}: `{column}` has half a character (`\\ud800` to `\\udfff` come in pairs)"),
    )
    .advise("correct the file: its writer cut a text within a character")
}

/// The key that a JSON value is: a string's text, or a number's digits.
fn key_text<'a>(text: &'a str, shown: &str, line: u64, column: &str, string: &'a mut String) -> Result<&'a [u8]> {
    match text.as_bytes().first() {
        Some(b'"') => unquoted(text, string).ok_or_else(|| no_text(shown, line, column)),
        Some(b'-' | b'0'..=b'9') => Ok(text.as_bytes()),
        _ => Err(Error::new(
            Kind::Source,
            format!("{shown}, line {line}: `{column}` is neither text nor a number, and cannot be a key"),
        )
        .advise("name another column as the key, or correct the file")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_in_a_file_that_changed_while_it_was_read_is_no_mistake_of_its_writer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("accounts.csv");
        std::fs::write(&path, "id,name\na,\"b\n").unwrap();
        let found = names::find("accounts.csv", folder.path()).unwrap().remove(0);
        let mistake = || Err::<(), _>(Error::new(Kind::Source, "a quotation mark that is never closed"));
        assert_eq!(unless_changed(&found, mistake()).unwrap_err().kind(), Kind::Source);
        unless_changed(&found, Ok(())).unwrap();
        // WHEN its writer goes on, THEN it is busy, whatever came of reading it
        std::fs::write(&path, "id,name\na,\"b\"\nc,d\n").unwrap();
        for read in [mistake(), Ok(())] {
            let error = unless_changed(&found, read).unwrap_err();
            assert_eq!(error.kind(), Kind::SourceBusy, "{error}");
            assert!(error.to_string().contains("accounts.csv: the file changes while it is read"), "{error}");
        }
        // AND one that is gone after it was read to its end is missing
        std::fs::remove_file(&path).unwrap();
        assert_eq!(unless_changed(&found, mistake()).unwrap_err().kind(), Kind::Source);
        assert!(unless_changed(&found, Ok(())).unwrap_err().to_string().contains("accounts.csv"));
    }
}
