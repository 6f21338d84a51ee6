//! The reader process: loads a driver, and sends what it reads to the process that started it.
//!
//! A driver is foreign code in this process: it may print to standard output, abort, or never return. So standard output
//! is taken away before it is loaded, and the process ends as soon as its standard input does, whatever a driver is doing
//! then: that is how it is cancelled, and how it notices that the process above it is gone.

use std::fs::File;
use std::io::{BufRead, BufWriter, Write};
use std::sync::mpsc;

use adbc_core::error::Status;
use adbc_core::options::{AdbcVersion, OptionConnection, OptionDatabase, OptionValue};
use adbc_core::{Connection as _, Database as _, Driver as _, LOAD_FLAG_DEFAULT, Statement as _};
use adbc_driver_manager::{ManagedConnection, ManagedDatabase, ManagedDriver, ManagedStatement};
use arrow_ipc::writer::StreamWriter;
use duckdb::arrow::array::{ArrayRef, RecordBatch, RecordBatchReader};
use duckdb::arrow::compute::{CastOptions, cast_with_options};
use duckdb::arrow::datatypes::{DataType, Schema};
use duckdb::arrow::util::display::FormatOptions;
use rustix::process::{Signal, getpid, kill_process};
use sha2::{Digest as _, Sha256};

use super::super::settings::OptionText;
use super::protocol::{DONE, Done, FAILED, Failed, Request, RowFrames, Step, write_frame};
use crate::source::staging::batch::{BYTES_MAX, Physical, ROWS_MAX, schema_of};

/// Bytes that go to the pipe at a time.
const WRITE_BYTES: usize = 256 * 1024;

/// Runs until standard input ends. Returns the exit code.
pub(super) fn run() -> u8 {
    match frames_to_parent() {
        Ok(frames) => serve(requests(), frames),
        Err(error) => {
            eprintln!("failed to set up the reader process: {error}");
            1
        }
    }
}

/// Standard output, for frames alone: what a driver prints goes to standard error.
fn frames_to_parent() -> std::io::Result<File> {
    let frames = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    Ok(File::from(frames))
}

/// The requests as they come. When they end, so does the process.
fn requests() -> mpsc::Receiver<String> {
    let (lines, received) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                break;
            }
        }
        // Destructors of drivers may wait for a server that does not answer.
        let _ = kill_process(getpid(), Signal::KILL);
    });
    received
}

/// Answers requests. The driver's objects end in the order in which they depend on each other.
fn serve(requests: mpsc::Receiver<String>, mut frames: File) -> u8 {
    let mut session: Option<Session> = None;
    for line in requests {
        let answer = match serde_json::from_str(&line) {
            Ok(Request::Close) => {
                drop(session.take());
                return 0;
            }
            Ok(request) => answer(&mut session, request, &mut frames),
            Err(error) => Err(failed(Step::Load, "invalid_arguments", &error.to_string())),
        };
        let (kind, content) = match &answer {
            Ok(done) => (DONE, serde_json::to_vec(done)),
            Err(failed) => (FAILED, serde_json::to_vec(failed)),
        };
        let sent = content.map_err(std::io::Error::other).and_then(|content| write_frame(&mut frames, kind, &content));
        if sent.is_err() {
            return 1;
        }
    }
    0
}

struct Session {
    connection: ManagedConnection,
    _database: ManagedDatabase,
}

fn answer(session: &mut Option<Session>, request: Request, frames: &mut File) -> Result<Done, Failed> {
    let missing = || failed(Step::Connect, "invalid_state", "not connected");
    match request {
        Request::Connect { driver, sha256, entrypoint, options, writes } => {
            if let Some(expected) = sha256 {
                verify(&driver, &expected)?;
            }
            *session = Some(connect(&driver, entrypoint.as_deref(), options, writes)?);
            Ok(Done::default())
        }
        Request::Describe { sql } => {
            let schema = session.as_mut().ok_or_else(missing)?.schema(&sql)?;
            let mut writer = StreamWriter::try_new(BufWriter::new(RowFrames(frames)), &schema).map_err(unwritten)?;
            writer.finish().map_err(unwritten)?;
            writer.into_inner().map_err(unwritten)?.flush().map_err(unwritten)?;
            Ok(Done::default())
        }
        Request::Read { sql, forms } => {
            let rows = session.as_mut().ok_or_else(missing)?.read(&sql, &forms, frames)?;
            Ok(Done { rows, value: None })
        }
        Request::Value { sql } => {
            let value = session.as_mut().ok_or_else(missing)?.value(&sql)?;
            Ok(Done { rows: 0, value })
        }
        Request::Execute { sql } => {
            session.as_mut().ok_or_else(missing)?.execute(&sql)?;
            Ok(Done::default())
        }
        Request::Close => Ok(Done::default()),
    }
}

fn verify(path: &str, expected: &str) -> Result<(), Failed> {
    let content = std::fs::read(path).map_err(|error| failed(Step::Load, "not_found", &error.to_string()))?;
    let found = hex::encode(Sha256::digest(&content));
    if found.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    Err(failed(Step::Verify, "unauthorized", &format!("its SHA-256 is {found}")))
}

fn connect(
    driver: &str,
    entrypoint: Option<&str>,
    options: Vec<(String, OptionText)>,
    writes: bool,
) -> Result<Session, Failed> {
    let entrypoint = entrypoint.map(str::as_bytes);
    let load = |version| ManagedDriver::load_from_name(driver, entrypoint, version, LOAD_FLAG_DEFAULT, None);
    let mut driver = load(AdbcVersion::V110)
        .or_else(|error| if error.status == Status::NotImplemented { load(AdbcVersion::V100) } else { Err(error) })
        .map_err(|error| of_driver(Step::Load, error))?;
    let options = options.into_iter().map(|(name, value)| {
        let value = match value {
            OptionText::Text(text) => OptionValue::String(text),
            OptionText::Integer(number) => OptionValue::Int(number),
            OptionText::Number(number) => OptionValue::Double(number),
        };
        (OptionDatabase::from(name.as_str()), value)
    });
    let database = driver.new_database_with_opts(options).map_err(|error| of_driver(Step::Connect, error))?;
    let read_only = (OptionConnection::ReadOnly, OptionValue::from(true));
    // Many drivers do not know the option, and say so in many ways.
    let connection = match writes {
        true => database.new_connection(),
        false => database.new_connection_with_opts([read_only]).or_else(|_| database.new_connection()),
    };
    let connection = connection.map_err(|error| of_driver(Step::Connect, error))?;
    Ok(Session { connection, _database: database })
}

impl Session {
    fn statement(&mut self, sql: &str) -> Result<ManagedStatement, Failed> {
        let mut statement = self.connection.new_statement().map_err(|error| of_driver(Step::Execute, error))?;
        statement.set_sql_query(sql).map_err(|error| of_driver(Step::Execute, error))?;
        Ok(statement)
    }

    /// What the driver says of a statement without running it; where it cannot, what it says when it runs it.
    fn schema(&mut self, sql: &str) -> Result<Schema, Failed> {
        // It may be the describing that fails, and not the statement: that shows when it is run.
        if let Some(schema) = self.statement(sql)?.execute_schema().ok().filter(|schema| !schema.fields().is_empty()) {
            return Ok(schema);
        }
        let mut statement = self.statement(sql)?;
        let reader = statement.execute().map_err(|error| of_driver(Step::Execute, error))?;
        Ok(reader.schema().as_ref().clone())
    }

    fn read(&mut self, sql: &str, forms: &[Physical], frames: &mut File) -> Result<u64, Failed> {
        let mut statement = self.statement(sql)?;
        let reader = statement.execute().map_err(|error| of_driver(Step::Execute, error))?;
        let schema = schema_of(forms);
        let frames = BufWriter::with_capacity(WRITE_BYTES, RowFrames(frames));
        let mut writer = StreamWriter::try_new(frames, &schema).map_err(unwritten)?;
        let mut rows = 0;
        for batch in reader {
            let batch = batch.map_err(|error| failed(Step::Read, "io", &error.to_string()))?;
            if batch.num_columns() != forms.len() {
                let what = format!("the driver sent {} columns instead of {}", batch.num_columns(), forms.len());
                return Err(failed(Step::Read, "invalid_data", &what));
            }
            let columns = batch.columns().iter().zip(forms).enumerate();
            let columns =
                columns.map(|(at, (column, form))| formed(column, *form, at)).collect::<Result<Vec<_>, _>>()?;
            let batch = RecordBatch::try_new(schema.clone(), columns).map_err(unwritten)?;
            let at_a_time = rows_at_a_time(&batch);
            for from in (0..batch.num_rows()).step_by(at_a_time) {
                let part = batch.slice(from, at_a_time.min(batch.num_rows() - from));
                rows += part.num_rows() as u64;
                writer.write(&part).map_err(unwritten)?;
            }
            writer.flush().map_err(unwritten)?;
        }
        writer.finish().map_err(unwritten)?;
        writer.into_inner().map_err(unwritten)?.flush().map_err(unwritten)?;
        Ok(rows)
    }

    /// Runs a statement that changes something. A server that knows queries alone (Sail's Flight SQL) is given it as one: what
    /// is not implemented was not done. Until its rows are read to their end, some servers have not done it either.
    fn execute(&mut self, sql: &str) -> Result<(), Failed> {
        match self.statement(sql)?.execute_update() {
            Err(error) if error.status == Status::NotImplemented => {}
            updated => return updated.map(drop).map_err(|error| of_driver(Step::Execute, error)),
        }
        let mut statement = self.statement(sql)?;
        let reader = statement.execute().map_err(|error| of_driver(Step::Execute, error))?;
        for batch in reader {
            batch.map_err(|error| failed(Step::Execute, "io", &error.to_string()))?;
        }
        Ok(())
    }

    fn value(&mut self, sql: &str) -> Result<Option<String>, Failed> {
        let mut statement = self.statement(sql)?;
        let reader = statement.execute().map_err(|error| of_driver(Step::Execute, error))?;
        for batch in reader {
            let batch = batch.map_err(|error| failed(Step::Read, "io", &error.to_string()))?;
            if batch.num_rows() == 0 || batch.num_columns() == 0 {
                continue;
            }
            let text = formed(batch.column(0), Physical::Text, 0)?;
            let texts = duckdb::arrow::array::AsArray::as_string::<i32>(&text);
            return Ok(duckdb::arrow::array::Array::is_valid(texts, 0).then(|| texts.value(0).to_owned()));
        }
        Ok(None)
    }
}

/// Batches are cut to what the staging table takes at a time.
fn rows_at_a_time(batch: &RecordBatch) -> usize {
    let parts = batch.get_array_memory_size().div_ceil(BYTES_MAX).max(1);
    batch.num_rows().div_ceil(parts).clamp(1, ROWS_MAX)
}

/// A column in its form. A value that does not fit is an error, never null.
fn formed(column: &ArrayRef, form: Physical, at: usize) -> Result<ArrayRef, Failed> {
    let wanted = form.arrow();
    let given = column.data_type();
    if *given == wanted {
        return Ok(column.clone());
    }
    // Numbers are compared with zero where a driver knows no booleans.
    let sound = match form {
        Physical::Bool => given.is_integer() || *given == DataType::Null,
        Physical::Int => {
            given.is_integer()
                || matches!(
                    given,
                    DataType::Decimal128(_, 0)
                        | DataType::Decimal256(_, 0)
                        | DataType::Decimal64(_, 0)
                        | DataType::Decimal32(_, 0)
                        | DataType::Null
                )
        }
        Physical::Double => given.is_numeric() || *given == DataType::Null,
        Physical::Text => !given.is_nested(),
    };
    let refused = |why: &str| {
        failed(
            Step::Convert,
            "invalid_data",
            &format!("column {} arrived as {given} where {wanted} was asked for{why}", at + 1),
        )
    };
    if !sound {
        return Err(refused(""));
    }
    let options = CastOptions { safe: false, format_options: FormatOptions::default() };
    // The error of a cast quotes the value.
    cast_with_options(column, &wanted, &options).map_err(|_| refused(", with a value that does not fit"))
}

fn failed(step: Step, status: &str, message: &str) -> Failed {
    Failed { step, status: status.to_owned(), message: message.to_owned(), sqlstate: None }
}

fn unwritten(error: impl std::fmt::Display) -> Failed {
    failed(Step::Read, "io", &error.to_string())
}

fn of_driver(step: Step, error: adbc_core::error::Error) -> Failed {
    let letters: String = error.sqlstate.iter().map(|letter| char::from(letter.to_ne_bytes()[0])).collect();
    let sound = letters.bytes().all(|letter| letter.is_ascii_alphanumeric()) && letters != "00000";
    let trace =
        error.details.unwrap_or_default().into_iter().map(|(_, text)| String::from_utf8_lossy(&text).into_owned());
    let message =
        std::iter::once(error.message).chain(trace.filter(|_| step == Step::Load)).collect::<Vec<_>>().join("\n");
    Failed {
        step,
        status: format!("{:?}", error.status).to_ascii_lowercase(),
        message,
        sqlstate: sound.then_some(letters),
    }
}
