//! The framing of `COPY … (FORMAT BINARY)`, and how values as they arrive get into a batch.

use bytes::Bytes;

use super::value::{self, Wire};
use crate::source::staging::batch::{BatchBuilder, Values};

/// Appends one value of the row being built, as it arrived in this form.
pub(super) fn append(batch: &mut BatchBuilder, column: usize, wire: &Wire, raw: Option<&[u8]>) -> Result<(), String> {
    batch.append(column, raw.is_none(), |values| match values {
        Values::Bool(values) => raw.map_or(Some(false), value::boolean).map(|value| values.push(value)),
        Values::Int(values) => raw.map_or(Some(0), |raw| value::int(wire, raw)).map(|value| values.push(value)),
        Values::Double(values) => raw.map_or(Some(0.0), |raw| value::double(wire, raw)).map(|value| values.push(value)),
        Values::Text(bytes) => raw.map_or(Some(()), |raw| value::text(wire, raw, bytes)),
    })
}

/// The first bytes of every binary COPY.
const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";

/// Takes the stream of a binary COPY apart. Chunks may end anywhere, also inside a field's length.
pub(super) struct CopyDecoder<'w> {
    wires: &'w [Wire],
    pending: Vec<u8>,
    header_read: bool,
    ended: bool,
}

impl<'w> CopyDecoder<'w> {
    /// A decoder of rows whose columns arrive in these forms.
    pub(super) fn new(wires: &'w [Wire]) -> CopyDecoder<'w> {
        CopyDecoder { wires, pending: Vec::new(), header_read: false, ended: false }
    }

    /// Appends the rows that this chunk completes.
    pub(super) fn feed(&mut self, chunk: &Bytes, batch: &mut BatchBuilder) -> Result<(), String> {
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
    fn rows(&mut self, data: &[u8], batch: &mut BatchBuilder) -> Result<usize, String> {
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
            for (column, wire) in self.wires.iter().enumerate() {
                let (field_length, fields) = rest.split_at(4);
                let field_length = i32::from_be_bytes(field_length.try_into().expect("split at four"));
                match usize::try_from(field_length) {
                    Ok(length) => {
                        let (field, fields) = fields.split_at(length);
                        append(batch, column, wire, Some(field))?;
                        rest = fields;
                    }
                    Err(_) => {
                        append(batch, column, wire, None)?;
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

    const WIRES: [Wire; 2] = [Wire::Int4, Wire::Text];

    fn batch() -> BatchBuilder {
        BatchBuilder::new(WIRES.map(|wire| (format!("{wire:?}"), wire.physical())))
    }

    const ROWS: [(Option<i32>, Option<&str>); 4] =
        [(Some(-1), Some("")), (None, Some("Grüße 🎉")), (Some(i32::MAX), None), (None, None)];

    fn check(mut batch: BatchBuilder) {
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
            let (mut decoder, mut batch) = (CopyDecoder::new(&WIRES), batch());
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
            let (mut decoder, mut batch) = (CopyDecoder::new(&WIRES), batch());
            if decoder.feed(&Bytes::from(stream), &mut batch).is_ok() && decoder.finish().is_ok() {
                let _ = batch.take();
            }
        }
    }

    #[test]
    fn a_cut_stream_is_not_complete() {
        let whole = Bytes::from(stream(&ROWS));
        for cut in 0..whole.len() {
            let (mut decoder, mut batch) = (CopyDecoder::new(&WIRES), batch());
            decoder.feed(&whole.slice(..cut), &mut batch).unwrap();
            assert!(decoder.finish().is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn text_that_is_not_utf_8_names_its_column() {
        let mut batch = batch();
        append(&mut batch, 0, &WIRES[0], None).unwrap();
        append(&mut batch, 1, &WIRES[1], Some(&[0xff])).unwrap();
        batch.end_row();
        assert!(batch.take().unwrap_err().contains("Text"));
    }
}
