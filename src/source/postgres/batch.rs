//! How do rows off the wire become batches for DuckDB? Columns grow as plain vectors and become Arrow arrays in one
//! step; UTF-8 is checked once per column and batch. Also here: the framing of `COPY … (FORMAT BINARY)`.

use std::sync::Arc;

use bytes::Bytes;
use duckdb::arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, NullBufferBuilder, StringArray};
use duckdb::arrow::buffer::{BooleanBuffer, Buffer, OffsetBuffer, ScalarBuffer};
use duckdb::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use duckdb::arrow::record_batch::RecordBatch;

use super::value::{self, Physical, Wire};

/// Rows in a batch: ten of DuckDB's vectors of 2,048 rows.
const ROWS_MAX: usize = 20_480;
/// Bytes of text in a batch. With one batch being filled, two waiting and one being appended, text needs at most four
/// times this and the longest rows.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// Rows on their way to DuckDB.
pub(super) struct Batch {
    columns: Vec<Column>,
    schema: SchemaRef,
    rows: usize,
    bytes: usize,
}

struct Column {
    name: String,
    wire: Wire,
    values: Values,
    nulls: NullBufferBuilder,
}

enum Values {
    Bool(Vec<bool>),
    Int(Vec<i64>),
    Double(Vec<f64>),
    Text { ends: Vec<i32>, bytes: Vec<u8> },
}

impl Values {
    fn empty(physical: Physical) -> Values {
        match physical {
            Physical::Bool => Values::Bool(Vec::with_capacity(ROWS_MAX)),
            Physical::Int => Values::Int(Vec::with_capacity(ROWS_MAX)),
            Physical::Double => Values::Double(Vec::with_capacity(ROWS_MAX)),
            Physical::Text => {
                let mut ends = Vec::with_capacity(ROWS_MAX + 1);
                ends.push(0);
                Values::Text { ends, bytes: Vec::with_capacity(ROWS_MAX * 8) }
            }
        }
    }
}

/// A value that is not what its type sends. Names the column, never the value.
fn unreadable(column: &str) -> String {
    format!("the server sent a value for {column} that is not of the type it announced")
}

impl Column {
    fn append(&mut self, raw: Option<&[u8]>) -> Result<usize, String> {
        let before = self.text_bytes();
        // A null occupies a place in the vector like any value.
        let done = match &mut self.values {
            Values::Bool(values) => raw.map_or(Some(false), value::boolean).map(|value| values.push(value)),
            Values::Int(values) => {
                raw.map_or(Some(0), |raw| value::int(&self.wire, raw)).map(|value| values.push(value))
            }
            Values::Double(values) => {
                raw.map_or(Some(0.0), |raw| value::double(&self.wire, raw)).map(|value| values.push(value))
            }
            Values::Text { ends, bytes } => {
                let done = raw.map_or(Some(()), |raw| value::text(&self.wire, raw, bytes));
                ends.push(i32::try_from(bytes.len()).map_err(|_| format!("a value of {} exceeds 2 GB", self.name))?);
                done
            }
        };
        self.nulls.append(raw.is_some());
        done.ok_or_else(|| unreadable(&self.name))?;
        Ok(self.text_bytes() - before)
    }

    fn text_bytes(&self) -> usize {
        if let Values::Text { bytes, .. } = &self.values { bytes.len() } else { 0 }
    }

    fn finish(&mut self) -> Result<ArrayRef, String> {
        let nulls = self.nulls.finish();
        let values = std::mem::replace(&mut self.values, Values::empty(self.wire.physical()));
        Ok(match values {
            Values::Bool(values) => Arc::new(BooleanArray::new(BooleanBuffer::from(values), nulls)),
            Values::Int(values) => Arc::new(Int64Array::new(ScalarBuffer::from(values), nulls)),
            Values::Double(values) => Arc::new(Float64Array::new(ScalarBuffer::from(values), nulls)),
            Values::Text { ends, bytes } => {
                let ends = OffsetBuffer::new(ScalarBuffer::from(ends));
                let array = StringArray::try_new(ends, Buffer::from_vec(bytes), nulls);
                Arc::new(array.map_err(|_| format!("{} holds text that is not UTF-8", self.name))?)
            }
        })
    }
}

impl Batch {
    /// An empty batch of these columns: name for messages, form on the wire.
    pub(super) fn new(columns: impl IntoIterator<Item = (String, Wire)>) -> Batch {
        let columns: Vec<Column> = columns
            .into_iter()
            .map(|(name, wire)| Column {
                name,
                values: Values::empty(wire.physical()),
                wire,
                nulls: NullBufferBuilder::new(ROWS_MAX),
            })
            .collect();
        let fields: Vec<Field> = columns
            .iter()
            .enumerate()
            .map(|(index, column)| {
                let kind = match column.wire.physical() {
                    Physical::Bool => DataType::Boolean,
                    Physical::Int => DataType::Int64,
                    Physical::Double => DataType::Float64,
                    Physical::Text => DataType::Utf8,
                };
                Field::new(index.to_string(), kind, true)
            })
            .collect();
        Batch { columns, schema: Arc::new(Schema::new(fields)), rows: 0, bytes: 0 }
    }

    /// How many columns a row has.
    pub(super) fn width(&self) -> usize {
        self.columns.len()
    }

    /// Appends one value of the row being built. Columns go in order; [`Batch::end_row`] closes the row.
    pub(super) fn append(&mut self, column: usize, raw: Option<&[u8]>) -> Result<(), String> {
        self.bytes += self.columns[column].append(raw)?;
        Ok(())
    }

    /// Closes a row.
    pub(super) fn end_row(&mut self) {
        self.rows += 1;
    }

    /// Rows held.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Whether it is time to hand the rows on.
    pub(super) fn is_full(&self) -> bool {
        self.rows >= ROWS_MAX || self.bytes >= BYTES_MAX
    }

    /// The rows as Arrow arrays; the batch is empty afterwards.
    pub(super) fn take(&mut self) -> Result<RecordBatch, String> {
        (self.rows, self.bytes) = (0, 0);
        let arrays = self.columns.iter_mut().map(Column::finish).collect::<Result<Vec<_>, _>>()?;
        RecordBatch::try_new(Arc::clone(&self.schema), arrays).map_err(|error| error.to_string())
    }
}

/// The first bytes of every binary COPY.
const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";

/// Takes the stream of a binary COPY apart. Chunks may end anywhere, also inside a field's length.
#[derive(Default)]
pub(super) struct CopyDecoder {
    pending: Vec<u8>,
    header_read: bool,
    ended: bool,
}

impl CopyDecoder {
    /// Appends the rows that this chunk completes.
    pub(super) fn feed(&mut self, chunk: &Bytes, batch: &mut Batch) -> Result<(), String> {
        if self.pending.is_empty() {
            // The usual case: PostgreSQL sends one row per message.
            let read = self.rows(chunk, batch)?;
            self.pending.extend_from_slice(&chunk[read..]);
        } else {
            let mut pending = std::mem::take(&mut self.pending);
            pending.extend_from_slice(chunk);
            let read = self.rows(&pending, batch)?;
            pending.drain(..read);
            self.pending = pending;
        }
        Ok(())
    }

    /// Checks that the stream was complete.
    pub(super) fn finish(&self) -> Result<(), String> {
        if self.ended && self.pending.is_empty() {
            Ok(())
        } else {
            Err("the server ended the copy in the middle of a row".to_owned())
        }
    }

    /// Reads complete rows; returns how many bytes they took.
    fn rows(&mut self, data: &[u8], batch: &mut Batch) -> Result<usize, String> {
        let mut at = 0;
        if !self.header_read {
            let Some(length) = header(data)? else { return Ok(0) };
            at = length;
            self.header_read = true;
        }
        while !self.ended {
            let Some(count) = data.get(at..at + 2) else { break };
            let count = i16::from_be_bytes([count[0], count[1]]);
            if count == -1 {
                self.ended = true;
                at += 2;
                break;
            }
            if usize::try_from(count) != Ok(batch.width()) {
                return Err(format!("the server sent a row of {count} columns instead of {}", batch.width()));
            }
            let Some(length) = row_length(&data[at + 2..], batch.width())? else { break };
            let mut rest = &data[at + 2..];
            for column in 0..batch.width() {
                let (field_length, fields) = rest.split_at(4);
                let field_length = i32::from_be_bytes(field_length.try_into().expect("split at four"));
                match usize::try_from(field_length) {
                    Ok(length) => {
                        let (field, fields) = fields.split_at(length);
                        batch.append(column, Some(field))?;
                        rest = fields;
                    }
                    Err(_) => {
                        batch.append(column, None)?;
                        rest = fields;
                    }
                }
            }
            batch.end_row();
            at += 2 + length;
        }
        if self.ended && at < data.len() {
            return Err("the server sent something after the end of the copy".to_owned());
        }
        Ok(at)
    }
}

/// The length of the stream's header, once all of it is there.
fn header(data: &[u8]) -> Result<Option<usize>, String> {
    let Some(fixed) = data.get(..19) else { return Ok(None) };
    if &fixed[..11] != SIGNATURE {
        return Err("the server's copy is not in PostgreSQL's binary format".to_owned());
    }
    let word = |at: usize| u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
    // The high half of the flags marks changes that a reader must know; none is defined but row oids, long gone.
    if word(11) >> 16 != 0 {
        return Err("the server's copy has a format this version does not know".to_owned());
    }
    let length = 19 + word(15) as usize;
    Ok((data.len() >= length).then_some(length))
}

/// The length of a row's fields, once all of them are there.
fn row_length(data: &[u8], columns: usize) -> Result<Option<usize>, String> {
    let mut at = 0;
    for _ in 0..columns {
        let Some(length) = data.get(at..at + 4) else { return Ok(None) };
        at += 4;
        match i32::from_be_bytes([length[0], length[1], length[2], length[3]]) {
            -1 => {}
            length => at += usize::try_from(length).map_err(|_| "the server sent a field of negative length")?,
        }
        if at > data.len() {
            return Ok(None);
        }
    }
    Ok(Some(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use duckdb::arrow::array::{Array, AsArray};
    use duckdb::arrow::datatypes::Int64Type;
    use proptest::prelude::*;

    fn stream(rows: &[(Option<i32>, Option<&str>)]) -> Vec<u8> {
        let mut out = SIGNATURE.to_vec();
        out.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 3, 9, 9, 9]);
        for (int, text) in rows {
            out.extend_from_slice(&2i16.to_be_bytes());
            match int {
                Some(int) => {
                    out.extend_from_slice(&4i32.to_be_bytes());
                    out.extend_from_slice(&int.to_be_bytes());
                }
                None => out.extend_from_slice(&(-1i32).to_be_bytes()),
            }
            match text {
                Some(text) => {
                    out.extend_from_slice(&(text.len() as i32).to_be_bytes());
                    out.extend_from_slice(text.as_bytes());
                }
                None => out.extend_from_slice(&(-1i32).to_be_bytes()),
            }
        }
        out.extend_from_slice(&(-1i16).to_be_bytes());
        out
    }

    fn batch() -> Batch {
        Batch::new([("n".to_owned(), Wire::Int4), ("t".to_owned(), Wire::Text)])
    }

    const ROWS: [(Option<i32>, Option<&str>); 4] =
        [(Some(-1), Some("")), (None, Some("Grüße 🎉")), (Some(i32::MAX), None), (None, None)];

    fn check(mut batch: Batch) {
        assert_eq!(batch.rows(), ROWS.len());
        let arrow = batch.take().unwrap();
        let (ints, texts) = (arrow.column(0).as_primitive::<Int64Type>(), arrow.column(1).as_string::<i32>());
        for (index, (int, text)) in ROWS.iter().enumerate() {
            assert_eq!(ints.is_valid(index).then(|| ints.value(index)), int.map(i64::from));
            assert_eq!(texts.is_valid(index).then(|| texts.value(index)), *text);
        }
        assert_eq!(batch.rows(), 0);
        assert_eq!(batch.take().unwrap().num_rows(), 0);
    }

    proptest! {
        #[test]
        fn chunks_may_end_anywhere(mut cuts in proptest::collection::vec(0usize..90, 0..20)) {
            let stream = Bytes::from(stream(&ROWS));
            cuts.retain(|cut| *cut < stream.len());
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let (mut decoder, mut batch) = (CopyDecoder::default(), batch());
            for pair in cuts.windows(2) {
                decoder.feed(&stream.slice(pair[0]..pair[1]), &mut batch).unwrap();
            }
            decoder.finish().unwrap();
            check(batch);
        }

        #[test]
        fn damage_is_an_error_or_another_value_never_a_panic(at in 0usize..80, byte: u8) {
            let mut stream = stream(&ROWS);
            let at = at % stream.len();
            stream[at] = byte;
            let (mut decoder, mut batch) = (CopyDecoder::default(), batch());
            if decoder.feed(&Bytes::from(stream), &mut batch).is_ok() && decoder.finish().is_ok() {
                let _ = batch.take();
            }
        }
    }

    #[test]
    fn a_cut_stream_is_not_complete() {
        let whole = Bytes::from(stream(&ROWS));
        for cut in 0..whole.len() {
            let (mut decoder, mut batch) = (CopyDecoder::default(), batch());
            decoder.feed(&whole.slice(..cut), &mut batch).unwrap();
            assert!(decoder.finish().is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn text_that_is_not_utf_8_names_its_column() {
        let mut batch = batch();
        batch.append(0, None).unwrap();
        batch.append(1, Some(&[0xff])).unwrap();
        batch.end_row();
        assert!(batch.take().unwrap_err().contains('t'));
    }
}
