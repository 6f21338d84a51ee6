//! The records and values of delimited text: RFC 4180, and beyond it only what cannot be mistaken: line ends of
//! one kind, a quotation mark inside a value that does not begin with one. Everything else is a [`Fault`] with its place.

use super::decode::{Decoder, Undecodable};

/// How a file's values stand apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DelimitedFormat {
    pub(super) delimiter: u8,
    pub(super) quote: Option<u8>,
    /// What makes the character after it, within quotation marks, part of the value.
    pub(super) escape: Option<u8>,
}

/// Why a file cannot be read any further.
#[derive(Debug)]
pub(super) enum Wrong {
    Undecodable(Undecodable),
    /// A NUL byte.
    Nul,
    /// A carriage return alone in a file whose lines end otherwise, or the other way round.
    LineEnds,
    /// A quotation mark that is never closed.
    Unclosed,
    /// A value that is longer than any may be.
    TooLong,
    /// Text behind a closing quotation mark.
    BehindQuote,
}

/// What is wrong, and where: the line from 1, and the value's position in its record from 0.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) line: u64,
    pub(super) field: usize,
    pub(super) wrong: Wrong,
}

/// Longest value: no destination takes one of a megabyte, and a quotation mark that is never closed swallows the file.
const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endings {
    Unknown,
    /// `\n` or `\r\n`.
    Newline,
    /// `\r`.
    Return,
}

/// The records of a text, one after the other.
pub(super) struct Records {
    decoder: Option<Decoder>,
    buffer: Vec<u8>,
    at: usize,
    dialect: DelimitedFormat,
    endings: Endings,
    /// The line that is read.
    line: u64,
    /// The line the current record begins in.
    begins: u64,
    text: Vec<u8>,
    ends: Vec<usize>,
    quoted: bool,
}

impl Records {
    /// The records of `start` and of what the decoder yields after it; `line` is the number of its first line.
    pub(super) fn new(start: Vec<u8>, decoder: Option<Decoder>, dialect: DelimitedFormat, line: u64) -> Records {
        Records {
            decoder,
            buffer: start,
            at: 0,
            dialect,
            endings: Endings::Unknown,
            line,
            begins: line,
            text: Vec::new(),
            ends: Vec::new(),
            quoted: false,
        }
    }

    /// The line the current record begins in.
    pub(super) fn first_line(&self) -> u64 {
        self.begins
    }

    /// How many values the current record has.
    pub(super) fn width(&self) -> usize {
        self.ends.len()
    }

    /// A value of the current record.
    pub(super) fn value(&self, field: usize) -> &[u8] {
        let start = if field == 0 { 0 } else { self.ends[field - 1] };
        &self.text[start..self.ends[field]]
    }

    /// Whether the record is an empty line.
    pub(super) fn is_blank(&self) -> bool {
        self.ends.len() == 1 && self.text.is_empty() && !self.quoted
    }

    /// Whether no value of the record holds anything.
    pub(super) fn is_hollow(&self) -> bool {
        self.text.is_empty()
    }

    pub(super) fn decoder(&self) -> Option<&Decoder> {
        self.decoder.as_ref()
    }

    /// Which characters end the lines, by what was met so far.
    pub(super) fn line_ends(&self) -> &'static str {
        if self.endings == Endings::Return { "carriage returns" } else { "newlines" }
    }

    fn fault(&self, wrong: Wrong) -> Fault {
        Fault { line: self.line, field: self.ends.len(), wrong }
    }

    fn peek(&mut self) -> Result<Option<u8>, Fault> {
        if self.at == self.buffer.len() {
            self.buffer.clear();
            self.at = 0;
            if let Some(decoder) = &mut self.decoder {
                match decoder.fill(&mut self.buffer) {
                    Ok(_) => {}
                    Err(undecodable) => return Err(self.fault(Wrong::Undecodable(undecodable))),
                }
            }
        }
        Ok(self.buffer.get(self.at).copied())
    }

    /// Reads the next record; `false` after the last.
    pub(super) fn next(&mut self) -> Result<bool, Fault> {
        self.text.clear();
        self.ends.clear();
        self.quoted = false;
        self.begins = self.line;
        if self.peek()?.is_none() {
            return Ok(false);
        }
        loop {
            match self.peek()? {
                Some(byte) if Some(byte) == self.dialect.quote => {
                    self.at += 1;
                    self.quoted = true;
                    self.quoted_value(byte)?;
                }
                _ => self.bare_value()?,
            }
            match self.peek()? {
                Some(byte) if byte == self.dialect.delimiter => {
                    self.at += 1;
                    self.ends.push(self.text.len());
                }
                Some(b'\n' | b'\r') => {
                    self.end_line()?;
                    self.ends.push(self.text.len());
                    return Ok(true);
                }
                None => {
                    self.ends.push(self.text.len());
                    return Ok(true);
                }
                Some(0) => return Err(self.fault(Wrong::Nul)),
                Some(_) => return Err(self.fault(Wrong::BehindQuote)),
            }
        }
    }

    fn bare_value(&mut self) -> Result<(), Fault> {
        let delimiter = self.dialect.delimiter;
        loop {
            let rest = &self.buffer[self.at..];
            let ends = |byte: &u8| *byte == delimiter || *byte == b'\n' || *byte == b'\r' || *byte == 0;
            let length = rest.iter().position(ends).unwrap_or(rest.len());
            self.text.extend_from_slice(&rest[..length]);
            self.at += length;
            match self.peek()? {
                None => return Ok(()),
                Some(0) => return Err(self.fault(Wrong::Nul)),
                Some(byte) if ends(&byte) => return Ok(()),
                Some(_) => self.check_length(self.line)?,
            }
        }
    }

    fn quoted_value(&mut self, quote: u8) -> Result<(), Fault> {
        let opened = self.line;
        loop {
            let rest = &self.buffer[self.at..];
            let escape = self.dialect.escape;
            let ends = |byte: &u8| *byte == quote || *byte == 0 || Some(*byte) == escape;
            let length = rest.iter().position(ends).unwrap_or(rest.len());
            let piece = &rest[..length];
            self.line += match self.endings {
                Endings::Return => piece.iter().filter(|byte| **byte == b'\r').count() as u64,
                _ => piece.iter().filter(|byte| **byte == b'\n').count() as u64,
            };
            self.text.extend_from_slice(piece);
            self.at += length;
            match self.peek()? {
                None => return Err(Fault { line: opened, field: self.ends.len(), wrong: Wrong::Unclosed }),
                Some(0) => return Err(self.fault(Wrong::Nul)),
                Some(byte) if Some(byte) == escape && byte != quote => {
                    self.at += 1;
                    // What it stands before is read as it is, a line's end among it.
                    match self.peek()? {
                        Some(next) if next != 0 => {
                            self.at += 1;
                            self.line += u64::from(next == b'\n');
                            self.text.push(next);
                        }
                        _ => {}
                    }
                }
                Some(byte) if byte == quote => {
                    self.at += 1;
                    if self.peek()? != Some(quote) {
                        return Ok(());
                    }
                    self.at += 1;
                    self.text.push(quote);
                }
                Some(_) => self.check_length(opened)?,
            }
        }
    }

    fn check_length(&self, line: u64) -> Result<(), Fault> {
        let start = self.ends.last().copied().unwrap_or(0);
        match self.text.len() - start > VALUE_BYTES_MAX {
            true => Err(Fault { line, field: self.ends.len(), wrong: Wrong::TooLong }),
            false => Ok(()),
        }
    }

    fn end_line(&mut self) -> Result<(), Fault> {
        let first = self.buffer[self.at];
        self.at += 1;
        let ending = match first {
            b'\n' => Endings::Newline,
            _ if self.peek()? == Some(b'\n') => {
                self.at += 1;
                Endings::Newline
            }
            // A file may end with a carriage return and nothing behind it.
            _ if self.peek()?.is_none() && self.endings == Endings::Newline => Endings::Newline,
            _ => Endings::Return,
        };
        if self.endings != Endings::Unknown && self.endings != ending {
            return Err(self.fault(Wrong::LineEnds));
        }
        self.endings = ending;
        self.line += 1;
        Ok(())
    }
}

/// The delimiters that are tried, in this order.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];
/// Records that are read to infer the delimiter.
const LOOKED_AT: usize = 1_000;

/// The delimiter that parts the first records into values of equal number, the most of them. `start` is the file's
/// beginning, `whole` says whether it is all of it.
pub(super) fn delimiter(start: &[u8], whole: bool, quote: Option<u8>, escape: Option<u8>) -> u8 {
    struct Seen {
        delimiter: u8,
        header: usize,
        equal: usize,
        all: bool,
    }
    let seen = DELIMITERS.map(|delimiter| {
        let mut records = Records::new(start.to_vec(), None, DelimitedFormat { delimiter, quote, escape }, 1);
        let (mut header, mut equal, mut all) = (0, 0, true);
        for _ in 0..LOOKED_AT {
            match records.next() {
                Ok(true) if records.is_hollow() => {}
                // The last record of a piece of a file may be cut off.
                Ok(true) if !whole && records.at == records.buffer.len() => break,
                Ok(true) if header == 0 => header = records.width(),
                Ok(true) if fits(&records, header) => equal += 1,
                Ok(true) => {
                    all = false;
                    break;
                }
                Ok(false) => break,
                Err(_) => {
                    all = !whole && records.at == records.buffer.len();
                    break;
                }
            }
        }
        Seen { delimiter, header, equal, all }
    });
    // Parts everything evenly; else parts the header, and as many records as possible; else one column.
    let even = seen.iter().filter(|seen| seen.all && seen.header > 1).max_by_key(|seen| seen.header);
    let single = seen.iter().find(|seen| seen.all && seen.header <= 1);
    let uneven = seen.iter().filter(|seen| seen.header > 1).max_by_key(|seen| (seen.equal, seen.header));
    even.or(uneven).or(single).map_or(b',', |seen| seen.delimiter)
}

/// Whether a record has as many values as the header, but for empty ones behind them.
pub(super) fn fits(records: &Records, header: usize) -> bool {
    records.width() >= header && (header..records.width()).all(|field| records.value(field).is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, delimiter: u8) -> Vec<Vec<String>> {
        let mut records = Records::new(
            text.as_bytes().to_vec(),
            None,
            DelimitedFormat { delimiter, quote: Some(b'"'), escape: None },
            1,
        );
        let mut all = Vec::new();
        while records.next().unwrap() {
            let values = (0..records.width()).map(|field| String::from_utf8(records.value(field).to_vec()).unwrap());
            all.push(values.collect());
        }
        all
    }

    #[test]
    fn values_stand_as_they_are_written() {
        assert_eq!(
            read("a,b\r\n\"x, \"\"y\"\"\",12\" pipe\n,\" z\nw\"\n", b','),
            [["a", "b"], ["x, \"y\"", "12\" pipe"], ["", " z\nw"]]
        );
        assert_eq!(read("a\rb\r", b','), [["a"], ["b"]]);
        assert_eq!(read("a;\n", b';'), [["a", ""]]);
    }

    #[test]
    fn the_delimiter_that_parts_all_records_evenly_is_meant() {
        for (text, expected) in [
            ("id,name\n1,Acme; Ltd\n", b','),
            ("id;amount;name\n1;12,50;Acme\n2;3,10;Beta\n", b';'),
            ("id\tname\n1\tAcme, Inc.\n", b'\t'),
            ("id|name\n1|Acme, Inc.\n", b'|'),
            ("name\n\"Acme, Inc.\"\n", b','),
            ("name\nAcme, Inc.\n", b';'),
            ("id,name\n1,Acme, Inc.\n", b','),
            ("id,betrag,eur;name\n", b','),
        ] {
            assert_eq!(char::from(delimiter(text.as_bytes(), true, Some(b'"'), None)), char::from(expected), "{text}");
        }
    }
}
