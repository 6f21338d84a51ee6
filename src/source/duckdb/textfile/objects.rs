//! The objects of a JSON file: one after the other, on lines of their own or not (NDJSON), or as the elements of
//! one array. Members keep the text they are written with, so that no digit is lost.

use std::borrow::Cow;

use serde::Deserializer as _;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::decode::{Decoder, Undecodable};

/// Largest object: rows of eight megabytes are rejected later, and a file that is one object is not meant.
const OBJECT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why a file cannot be read any further.
#[derive(Debug)]
pub(super) enum Wrong {
    Undecodable(Undecodable),
    /// Not JSON: what the parser says.
    Syntax(String),
    /// A value where an object should be.
    NoObject,
    /// The text ends within an object, or an array.
    Cut,
    /// Larger than an object may be.
    TooLarge,
    /// A member that appears twice in its object.
    Twice(String),
}

/// What is wrong, and where; lines and columns count from 1.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) line: u64,
    pub(super) column: Option<u64>,
    pub(super) wrong: Wrong,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Unknown,
    Sequence,
    /// Within an array: whether a comma may come, or must before the next object.
    Array {
        needs_comma: bool,
    },
    Ended,
}

/// The objects of a text, one after the other.
pub(super) struct Objects {
    decoder: Decoder,
    buffer: Vec<u8>,
    at: usize,
    ended: bool,
    form: Form,
    line: u64,
    /// Bytes of the current line before `at`.
    column: u64,
    /// The line the current object begins in, and the bytes before it there.
    begins: u64,
    begin_column: u64,
    object: std::ops::Range<usize>,
}

impl Objects {
    pub(super) fn new(decoder: Decoder) -> Objects {
        Objects {
            decoder,
            buffer: Vec::new(),
            at: 0,
            ended: false,
            form: Form::Unknown,
            line: 1,
            column: 0,
            begins: 1,
            begin_column: 0,
            object: 0..0,
        }
    }

    pub(super) fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The line the current object begins in.
    pub(super) fn first_line(&self) -> u64 {
        self.begins
    }

    /// Whether the objects stand in an array.
    pub(super) fn in_array(&self) -> bool {
        !matches!(self.form, Form::Sequence | Form::Unknown)
    }

    fn fault(&self, wrong: Wrong) -> Fault {
        Fault { line: self.line, column: Some(self.column + 1), wrong }
    }

    fn step(&mut self) {
        self.at += 1;
        self.column += 1;
    }

    /// Reads more behind what is there; `false` at the end.
    fn more(&mut self) -> Result<bool, Fault> {
        if self.ended {
            return Ok(false);
        }
        match self.decoder.fill(&mut self.buffer) {
            Ok(more) => {
                self.ended = !more;
                Ok(more)
            }
            Err(undecodable) => {
                // The line counts what was consumed; what is left belongs to the object that cannot be read.
                let line = self.line + newlines(&self.buffer[self.at..]);
                let last =
                    self.buffer[self.at..].iter().rposition(|byte| *byte == b'\n').map_or(self.at, |n| self.at + n + 1);
                let column = String::from_utf8_lossy(&self.buffer[last..]).chars().count() as u64 + 1;
                Err(Fault { line, column: Some(column), wrong: Wrong::Undecodable(undecodable) })
            }
        }
    }

    /// The next byte that is no blank.
    fn peek(&mut self) -> Result<Option<u8>, Fault> {
        loop {
            while let Some(byte) = self.buffer.get(self.at) {
                match byte {
                    b'\n' => (self.line, self.column) = (self.line + 1, 0),
                    b' ' | b'\t' | b'\r' => self.column += 1,
                    other => return Ok(Some(*other)),
                }
                self.at += 1;
            }
            self.buffer.clear();
            self.at = 0;
            if !self.more()? {
                return Ok(None);
            }
        }
    }

    /// Finds the next object; `false` after the last.
    pub(super) fn next(&mut self) -> Result<bool, Fault> {
        loop {
            let next = self.peek()?;
            match (self.form, next) {
                (Form::Unknown, Some(b'[')) => {
                    self.form = Form::Array { needs_comma: false };
                    self.step();
                }
                (Form::Unknown, Some(_)) => self.form = Form::Sequence,
                (Form::Unknown | Form::Sequence | Form::Ended, None) => return Ok(false),
                (Form::Array { .. }, None) => return Err(self.fault(Wrong::Cut)),
                (Form::Array { .. }, Some(b']')) => {
                    self.form = Form::Ended;
                    self.step();
                }
                (Form::Array { needs_comma: true }, Some(b',')) => {
                    self.step();
                    self.form = Form::Array { needs_comma: false };
                    if self.peek()? == Some(b']') {
                        return Err(self.fault(Wrong::Syntax("a comma behind the last object".to_owned())));
                    }
                }
                (Form::Sequence | Form::Array { needs_comma: false }, Some(b'{')) => {
                    self.find_end()?;
                    if self.form != Form::Sequence {
                        self.form = Form::Array { needs_comma: true };
                    }
                    return Ok(true);
                }
                (Form::Array { needs_comma: true }, Some(_)) => {
                    return Err(self.fault(Wrong::Syntax("no comma between two objects of the array".to_owned())));
                }
                (Form::Ended, Some(_)) => {
                    return Err(self.fault(Wrong::Syntax("text behind the array".to_owned())));
                }
                (Form::Sequence | Form::Array { .. }, Some(_)) => return Err(self.fault(Wrong::NoObject)),
            }
        }
    }

    fn find_end(&mut self) -> Result<(), Fault> {
        (self.begins, self.begin_column) = (self.line, self.column);
        // The object stands at the buffer's beginning, so that it may grow without end.
        self.buffer.drain(..self.at);
        self.at = 0;
        let (mut depth, mut within, mut escaped, mut scan) = (0usize, false, false, 0usize);
        loop {
            while let Some(byte) = self.buffer.get(scan) {
                scan += 1;
                if within {
                    match byte {
                        _ if escaped => escaped = false,
                        b'\\' => escaped = true,
                        b'"' => within = false,
                        // A text cannot go on behind the line's end: then the rest is not searched for its end.
                        b'\n' => return Err(self.broken(scan)),
                        _ => {}
                    }
                    continue;
                }
                match byte {
                    b'"' => within = true,
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => {
                        depth -= 1;
                        if depth == 0 {
                            self.object = 0..scan;
                            self.line += newlines(&self.buffer[..scan]);
                            self.column = match self.buffer[..scan].iter().rposition(|byte| *byte == b'\n') {
                                Some(newline) => (scan - newline - 1) as u64,
                                None => self.column + scan as u64,
                            };
                            self.at = scan;
                            return Ok(());
                        }
                    }
                    _ => {}
                }
            }
            if scan > OBJECT_BYTES_MAX {
                return Err(Fault { line: self.begins, column: None, wrong: Wrong::TooLarge });
            }
            if !self.more()? {
                let error = self.broken(scan);
                return Err(match error.wrong {
                    Wrong::Syntax(what) if what.starts_with("EOF") => {
                        Fault { line: self.begins, column: None, wrong: Wrong::Cut }
                    }
                    _ => error,
                });
            }
        }
    }

    /// What is wrong with the object's text up to `end`.
    fn broken(&self, end: usize) -> Fault {
        match serde_json::from_slice::<IgnoredAny>(&self.buffer[..end]) {
            Err(error) => self.syntax(&error),
            Ok(_) => Fault { line: self.begins, column: None, wrong: Wrong::Cut },
        }
    }

    fn syntax(&self, error: &serde_json::Error) -> Fault {
        // The parser's words quote nothing of the text but single letters.
        let words = error.to_string();
        let what = words.split(" at line ").next().unwrap_or_default().to_owned();
        let before = if error.line() <= 1 { self.begin_column } else { 0 };
        let column = Some(before + error.column() as u64);
        Fault { line: self.begins + error.line().max(1) as u64 - 1, column, wrong: Wrong::Syntax(what) }
    }

    /// The members of the current object, in its order: how many came before, name, and the value as it is written. `visit`
    /// says whether the name is new in its object.
    pub(super) fn members(&self, visit: &mut dyn FnMut(usize, &str, &str) -> bool) -> Result<(), Fault> {
        let mut reader = serde_json::Deserializer::from_slice(&self.buffer[self.object.clone()]);
        let read = reader.deserialize_map(Members { visit }).and_then(|()| reader.end());
        read.map_err(|error| match error.to_string().strip_prefix(TWICE) {
            Some(name) => {
                let name = name.rsplit_once(" at line ").map_or(name, |(name, _)| name).to_owned();
                Fault { line: self.begins, column: None, wrong: Wrong::Twice(name) }
            }
            None => self.syntax(&error),
        })
    }
}

/// Most members of an object: each is a column.
const MEMBERS_MAX: usize = 10_000;
const TWICE: &str = "twice ";

fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

struct Members<'a> {
    visit: &'a mut dyn FnMut(usize, &str, &str) -> bool,
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = ();

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut count = 0;
        while let Some(name) = members.next_key_seed(Name)? {
            if count >= MEMBERS_MAX {
                return Err(serde::de::Error::custom(format!("more than {MEMBERS_MAX} members")));
            }
            let value: &RawValue = members.next_value()?;
            if !(self.visit)(count, &name, value.get()) {
                return Err(serde::de::Error::custom(format!("{TWICE}{name}")));
            }
            count += 1;
        }
        Ok(())
    }
}

/// A member's name, copied only where it has escapes.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Cow<'de, str>, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}
