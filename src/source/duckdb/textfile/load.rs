//! How do a text file's rows get into a temporary table? Read on a thread of its own, as they are written, and appended
//! batch by batch.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use duckdb::Connection;
use duckdb::arrow::array::{ArrayRef, NullBufferBuilder, StringArray};
use duckdb::arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use duckdb::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use duckdb::arrow::record_batch::RecordBatch;

use super::rows::{Columns, Rows, Value};
use super::{Options, Survey, changes, names, written};
use crate::error::{Error, Kind, Result};
use crate::source::statement_error::statement_error;

/// The temporary table of a text file's rows: the key as `k`, and the columns as they are written.
pub(super) const TABLE: &str = "file rows";
/// Rows in a batch: ten of DuckDB's vectors of 2,048 rows.
const ROWS_MAX: usize = 20_480;
/// Bytes of text in a batch, of which at most four are in memory.
const BYTES_MAX: usize = 8 * 1024 * 1024;
const BATCHES_WAITING: usize = 2;

struct TextColumn {
    ends: Vec<i32>,
    bytes: Vec<u8>,
    nulls: NullBufferBuilder,
}

impl TextColumn {
    fn new() -> TextColumn {
        TextColumn { ends: vec![0], bytes: Vec::new(), nulls: NullBufferBuilder::new(ROWS_MAX) }
    }

    fn push(&mut self, value: Option<&[u8]>) -> usize {
        self.bytes.extend_from_slice(value.unwrap_or_default());
        // A batch is passed on long before its text reaches two gigabytes.
        self.ends.push(self.bytes.len() as i32);
        self.nulls.append(value.is_some());
        value.map_or(0, <[u8]>::len)
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        let ends = std::mem::replace(&mut self.ends, vec![0]);
        let bytes = std::mem::take(&mut self.bytes);
        let array = StringArray::try_new(
            OffsetBuffer::new(ScalarBuffer::from(ends)),
            Buffer::from_vec(bytes),
            self.nulls.finish(),
        );
        Ok(Arc::new(
            array.map_err(|error| Error::new(Kind::Bug, "a file's text is no UTF-8 after all").because(error))?,
        ))
    }
}

/// Fills the table with the rows of these columns; the first of `needed` columns is the key's.
pub(super) fn load(
    connection: &Connection,
    survey: &Survey,
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
        let reader = scope.spawn(move || read(survey, options, key, needed, &sender));
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
    survey: &Survey,
    options: &Options,
    key: usize,
    needed: &[usize],
    sender: &SyncSender<RecordBatch>,
) -> Result<()> {
    let schema: SchemaRef = Arc::new(Schema::new(
        (0..=needed.len()).map(|at| Field::new(at.to_string(), DataType::Utf8, true)).collect::<Vec<_>>(),
    ));
    let mut builders: Vec<TextColumn> = (0..=needed.len()).map(|_| TextColumn::new()).collect();
    let (mut rows, mut bytes) = (0, 0);
    let pass_on = |builders: &mut Vec<TextColumn>| -> Result<bool> {
        let arrays = builders.iter_mut().map(TextColumn::finish).collect::<Result<_>>()?;
        let batch = RecordBatch::try_new(Arc::clone(&schema), arrays)
            .map_err(|error| Error::new(Kind::Bug, "failed to build a batch of rows").because(error))?;
        Ok(sender.send(batch).is_ok())
    };
    for found in &survey.files {
        let (mut file, state) = Rows::open(found, options)?;
        if state != found.state {
            return Err(changes(&found.shown));
        }
        let mut columns = Columns::default();
        for column in &survey.columns {
            columns.add(&column.name);
        }
        let partition = |position: usize| {
            let name = &survey.columns[position].name;
            found
                .parts
                .iter()
                .find(|(part, _)| part == name)
                .map(|(_, value)| value.as_bytes())
                .filter(|value| !value.is_empty())
        };
        let mut string = String::new();
        file.each(&mut columns, &mut |_, line, row| {
            let value = row.value(key);
            bytes += match value {
                Some(Value::Json(text)) => {
                    builders[0].push(Some(key_text(text, &found.shown, line, &survey.columns[key].name, &mut string)?))
                }
                Some(Value::Text(text)) => builders[0].push(Some(text)),
                None => builders[0].push(partition(key)),
            };
            for (builder, position) in builders[1..].iter_mut().zip(needed) {
                bytes += match row.value(*position) {
                    Some(Value::Text(text)) => builder.push(Some(text)),
                    Some(Value::Json(text)) if text.starts_with('"') && !survey.columns[*position].is_json() => builder
                        .push(Some(
                            unquoted(text, &mut string)
                                .ok_or_else(|| no_text(&found.shown, line, &survey.columns[*position].name))?,
                        )),
                    Some(Value::Json(text)) => builder.push(Some(text.as_bytes())),
                    None => builder.push(partition(*position)),
                };
            }
            rows += 1;
            if rows >= ROWS_MAX || bytes >= BYTES_MAX {
                (rows, bytes) = (0, 0);
                if !pass_on(&mut builders)? {
                    return Err(Error::new(Kind::Source, "the rows were not taken"));
                }
            }
            Ok(())
        })?;
        let after = std::fs::metadata(&found.path).map_err(|error| names::unreadable(&found.shown, &error))?;
        if names::State::of(&after) != found.state {
            return Err(changes(&found.shown));
        }
    }
    if rows > 0 {
        pass_on(&mut builders)?;
    }
    Ok(())
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
    .advise("correct the file: whoever wrote it cut a text within a character")
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
