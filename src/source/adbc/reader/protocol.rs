//! What this process and a reader process say to each other.
//!
//! Requests are lines of JSON on the reader's standard input. Each is answered on its standard output by frames: one byte
//! that says what follows, the length of it in four bytes, little-endian, and that many bytes. Rows are an Arrow IPC
//! stream, cut into frames anywhere. The last frame of an answer says how it ended, and how many rows there were: without
//! it, whatever came is not a table.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::super::settings::OptionText;
use crate::source::staging::batch::Physical;

/// A frame with bytes of an Arrow IPC stream.
pub(super) const ROWS: u8 = b'R';
/// A frame that ends an answer well: [`Done`] as JSON.
pub(super) const DONE: u8 = b'D';
/// A frame that ends an answer badly: [`Failed`] as JSON.
pub(super) const FAILED: u8 = b'F';
/// More than a reader puts into one frame: a length beyond it is no length.
pub(super) const FRAME_BYTES_MAX: usize = 1 << 31;

/// What a reader is asked.
#[derive(Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(in crate::source::adbc) enum Request {
    /// Load the driver and connect.
    Connect {
        driver: String,
        sha256: Option<String>,
        entrypoint: Option<String>,
        options: Vec<(String, OptionText)>,
        /// Whether statements will write.
        writes: bool,
    },
    /// The schema of a statement, as an IPC stream without rows.
    Describe { sql: String },
    /// The rows of a statement, each column in this form.
    Read { sql: String, forms: Vec<Physical> },
    /// The first value of the first row, as text.
    Value { sql: String },
    /// Run a statement that yields nothing.
    Execute { sql: String },
    /// Disconnect and end.
    Close,
}

/// How an answer ended well.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Done {
    /// How many rows were sent.
    pub(super) rows: u64,
    /// What [`Request::Value`] asked for.
    pub(super) value: Option<String>,
}

/// What a driver was doing when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::source::adbc) enum Step {
    /// The library is not the one that was expected.
    Verify,
    /// Finding or loading the library.
    Load,
    /// Connecting.
    Connect,
    /// Running a statement.
    Execute,
    /// Reading its rows.
    Read,
    /// Giving a value its form.
    Convert,
}

/// How an answer ended badly.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::source::adbc) struct Failed {
    pub(in crate::source::adbc) step: Step,
    /// ADBC's name of the error's class, in lower case.
    pub(in crate::source::adbc) status: String,
    /// The driver's words.
    pub(in crate::source::adbc) message: String,
    /// Five letters, where the driver has them.
    pub(in crate::source::adbc) sqlstate: Option<String>,
}

/// Writes one frame.
pub(super) fn write_frame(to: &mut impl Write, kind: u8, content: &[u8]) -> io::Result<()> {
    let length = u32::try_from(content.len()).map_err(|_| io::Error::other("a frame of more than 4 GB"))?;
    to.write_all(&[kind])?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(content)
}

/// Whatever is written becomes frames of rows.
pub(super) struct RowFrames<'a, W: Write>(pub(super) &'a mut W);

impl<W: Write> Write for RowFrames<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(FRAME_BYTES_MAX)];
        write_frame(self.0, ROWS, bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
