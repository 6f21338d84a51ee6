//! The rows of one file, delimited text or objects alike: its columns by name, its values one after the other, and what is
//! wrong with it in words, with file, line and column.

use std::fs::File;

use super::decode::{Decoder, Encoding, Undecodable};
use super::names::{Format, Found, State, format, unreadable};
use super::objects::{self, Objects};
use super::options::Options;
use super::records::{self, DelimitedFormat, Records};
use super::row::{Columns, Row};
use super::sheet::Sheet;
use crate::error::{Error, Kind, Result};

/// Bytes at a file's beginning that tell its delimiter.
const START_BYTES: usize = 256 * 1024;

/// The rows of a file.
pub(super) enum Rows {
    Delimited(Delimited),
    Objects { objects: Objects, shown: String },
    Sheet(Box<Sheet>),
}

impl Rows {
    /// Opens a file; also says in which state it is.
    pub(super) fn open(found: &Found, options: &Options) -> Result<(Rows, State)> {
        let file = File::open(&found.path).map_err(|error| unreadable(&found.shown, &error))?;
        let state = State::of(&file.metadata().map_err(|error| unreadable(&found.shown, &error))?);
        let format = format(&found.shown);
        if format == Some(Format::Sheet) {
            return Ok((Rows::Sheet(Box::new(Sheet::open(found, options)?)), state));
        }
        let decoder = Decoder::new(file, options.encoding)
            .map_err(|wrong| undecodable(wrong, format!("{}: ", found.shown), &found.shown))?;
        let rows = match format {
            Some(Format::Objects) => Rows::Objects { objects: Objects::new(decoder), shown: found.shown.clone() },
            _ => Rows::Delimited(Delimited::new(decoder, &found.shown, options)?),
        };
        Ok((rows, state))
    }

    /// How the file was read, once it was, for people.
    pub(super) fn reading(&self) -> String {
        let decoded = |decoder: Option<&Decoder>, form: &str| {
            let encoding = decoder.map_or(Encoding::Utf8, Decoder::encoding);
            let mark = if decoder.is_some_and(Decoder::marked) { " with a byte order mark" } else { "" };
            format!("{}{mark}, {form}", encoding.name())
        };
        match self {
            Rows::Delimited(file) => {
                let mark = |byte: u8| match byte {
                    b'\t' => "tab".to_owned(),
                    other => format!("`{}`", char::from(other)),
                };
                let quote = file
                    .dialect
                    .quote
                    .map_or("no quotation marks".to_owned(), |quote| format!("quote {}", mark(quote)));
                let form = format!(
                    "delimiter {}, {quote}, lines end with {}",
                    mark(file.dialect.delimiter),
                    file.records.line_ends()
                );
                decoded(file.records.decoder(), &form)
            }
            Rows::Objects { objects, .. } => {
                let form = if objects.in_array() { "an array of objects" } else { "one object after the other" };
                decoded(Some(objects.decoder()), form)
            }
            Rows::Sheet(sheet) => sheet.reading(),
        }
    }

    /// Visits every row with its line. `columns` grows by what the file has.
    pub(super) fn each(
        &mut self,
        columns: &mut Columns,
        visit: &mut dyn FnMut(&Columns, u64, &Row<'_>) -> Result<()>,
    ) -> Result<u64> {
        let mut count = 0;
        match self {
            Rows::Delimited(file) => {
                let mut fields: Vec<Option<usize>> = vec![None; columns.names.len()];
                for (field, name) in file.header.iter().enumerate() {
                    let position = columns.add(name);
                    fields.resize(columns.names.len(), None);
                    // Of columns with one name the first one counts; they are refused where they are used.
                    fields[position] = fields[position].or(Some(field));
                }
                while file.next()? {
                    visit(
                        columns,
                        file.records.first_line(),
                        &Row::Delimited { records: &file.records, fields: &fields, nulls: &file.nulls },
                    )?;
                    count += 1;
                }
            }
            Rows::Objects { objects, shown } => {
                let (mut text, mut spans) = (String::new(), Vec::new());
                // Where each member's column is if the object is like the one before, and which object had a column last.
                let (mut usual, mut last_seen): (Vec<usize>, Vec<u64>) = (Vec::new(), Vec::new());
                while objects.next().map_err(|fault| broken_json(fault, shown))? {
                    text.clear();
                    spans.clear();
                    let number = count + 1;
                    objects
                        .members(&mut |at, name, value| {
                            let position = match usual.get(at) {
                                Some(position) if columns.names[*position] == name => *position,
                                _ => columns.add(name),
                            };
                            usual.resize(usual.len().max(at + 1), position);
                            usual[at] = position;
                            last_seen.resize(columns.names.len(), 0);
                            if std::mem::replace(&mut last_seen[position], number) == number {
                                return false;
                            }
                            if value != "null" {
                                spans.resize(spans.len().max(position + 1), None);
                                let start = text.len();
                                text.push_str(value);
                                spans[position] = Some((start, text.len()));
                            }
                            true
                        })
                        .map_err(|fault| broken_json(fault, shown))?;
                    visit(columns, objects.first_line(), &Row::Objects { text: &text, spans: &spans })?;
                    count += 1;
                }
            }
            Rows::Sheet(sheet) => count = sheet.each(columns, visit)?,
        }
        Ok(count)
    }

    /// The names in the header; nothing where every object brings its own.
    pub(super) fn header(&self) -> Option<&[String]> {
        match self {
            Rows::Delimited(file) => Some(&file.header),
            Rows::Objects { .. } => None,
            Rows::Sheet(sheet) => Some(sheet.header()),
        }
    }
}

/// Delimited text with a header.
pub(super) struct Delimited {
    records: Records,
    header: Vec<String>,
    header_line: u64,
    dialect: DelimitedFormat,
    nulls: Vec<String>,
    shown: String,
}

impl Delimited {
    fn new(mut decoder: Decoder, shown: &str, options: &Options) -> Result<Delimited> {
        let mut start = Vec::new();
        let mut whole = false;
        let mut failed = None;
        while start.len() < START_BYTES {
            match decoder.fill(&mut start) {
                Ok(true) => {}
                Ok(false) => {
                    whole = true;
                    break;
                }
                // It is told where it stands, when the rows before it were read.
                Err(wrong) => {
                    failed = Some(wrong);
                    break;
                }
            }
        }
        let mut line = 1;
        let mut given = options.delimiter;
        for _ in 0..options.skip_lines {
            let Some(end) = start.iter().position(|byte| *byte == b'\n') else { break };
            start.drain(..=end);
            line += 1;
        }
        // Excel's own first line says which delimiter it means.
        if let Some(rest) = start.strip_prefix(b"sep=").or_else(|| start.strip_prefix(b"SEP="))
            && let Some((mark, rest)) = rest.split_first()
            && let Some(newline) = rest.iter().position(|byte| *byte == b'\n').filter(|at| *at <= 1)
        {
            given = given.or(Some(*mark));
            let skipped = start.len() - rest.len() + newline + 1;
            start.drain(..skipped);
            line += 1;
        }
        let quote = options.quote;
        let named = shown.to_ascii_lowercase();
        let by_name = [".tsv", ".tab"]
            .iter()
            .any(|end| named.trim_end_matches(".gz").trim_end_matches(".zst").ends_with(end))
            .then_some(b'\t');
        let delimiter = given
            .or(by_name)
            .unwrap_or_else(|| records::delimiter(&start, whole && failed.is_none(), quote, options.escape));
        let dialect = DelimitedFormat { delimiter, quote, escape: options.escape };
        if let Some(wrong) = failed {
            decoder.fail_again(wrong);
        }
        let mut file = Delimited {
            records: Records::new(start, Some(decoder), dialect, line),
            header: Vec::new(),
            header_line: line,
            dialect,
            nulls: options.nulls.clone(),
            shown: shown.to_owned(),
        };
        loop {
            let more = file.records.next().map_err(|fault| file.broken(fault))?;
            if !more {
                return Ok(file);
            }
            if !file.records.is_blank() {
                break;
            }
        }
        file.header_line = file.records.first_line();
        let mut header: Vec<String> = (0..file.records.width())
            .map(|field| {
                let name = String::from_utf8_lossy(file.records.value(field)).into_owned();
                // Blanks around a name are nobody's intention, and invisible ones cannot be typed.
                name.trim_matches(|letter: char| letter.is_whitespace() || "\u{feff}\u{200b}\u{a0}".contains(letter))
                    .to_owned()
            })
            .collect();
        // A delimiter at the end of each line.
        while header.len() > 1 && header.last().is_some_and(String::is_empty) {
            header.pop();
        }
        file.header = header;
        Ok(file)
    }

    /// Reads the next row that holds anything.
    fn next(&mut self) -> Result<bool> {
        loop {
            if !self.records.next().map_err(|fault| self.broken(fault))? {
                return Ok(false);
            }
            if self.records.is_hollow() {
                continue;
            }
            if !records::fits(&self.records, self.header.len()) {
                return Err(self.uneven());
            }
            let repeated = (0..self.header.len()).all(|field| {
                let value = String::from_utf8_lossy(self.records.value(field));
                value.trim_matches(|letter: char| letter.is_whitespace() || letter == '\u{feff}') == self.header[field]
            });
            if repeated {
                return Err(Error::new(
                    Kind::Source,
                    format!("{}, line {}: the header of line {} is repeated here", self.shown, self.records.first_line(), self.header_line),
                )
                .advise("several files were put together: name them all in `table = \"….*.csv\"` instead, or remove this line"));
            }
            return Ok(true);
        }
    }

    fn column(&self, field: usize) -> String {
        match self.header.get(field) {
            Some(name) if !name.is_empty() => format!("column {} (`{name}`)", field + 1),
            _ => format!("column {}", field + 1),
        }
    }

    fn broken(&self, fault: records::Fault) -> Error {
        let place = format!("{}, line {}, {}: ", self.shown, fault.line, self.column(fault.field));
        let quote = self.dialect.quote.map_or('"', char::from);
        let (what, help) = match fault.wrong {
            records::Wrong::Undecodable(wrong) => return undecodable(wrong, place, &self.shown),
            records::Wrong::Nul => (
                "a NUL byte".to_owned(),
                "remove it, or write the file again: it was cut off or damaged, or is not text".to_owned(),
            ),
            records::Wrong::LineEnds => (
                "a line that ends otherwise than the lines before (a carriage return alone, or a newline alone)"
                    .to_owned(),
                format!("put a value with a line break between `{quote}`, or give all lines the same end"),
            ),
            records::Wrong::Unclosed => {
                (format!("a quotation mark `{quote}` that is opened here and never closed"), self.about_quotes(quote))
            }
            records::Wrong::TooLong => (
                "a value of more than 16 MB begins here, or a quotation mark is never closed".to_owned(),
                self.about_quotes(quote),
            ),
            records::Wrong::BehindQuote => {
                (format!("text behind the closing quotation mark `{quote}`"), self.about_quotes(quote))
            }
        };
        Error::new(Kind::Source, format!("{place}{what}")).advise(help)
    }

    fn about_quotes(&self, quote: char) -> String {
        format!(
            "correct the line: inside quotation marks `{quote}` is written twice. For a file without quotation marks write \
             `csv = {{ quote = \"none\" }}` at the source (of type `files`), for one with backslashes before them \
             `csv = {{ escape = '\\' }}`"
        )
    }

    fn uneven(&self) -> Error {
        let (found, wanted) = (self.records.width(), self.header.len());
        let mark = match self.dialect.delimiter {
            b'\t' => "tab".to_owned(),
            other => format!("`{}`", char::from(other)),
        };
        let plural = |count: usize| if count == 1 { format!("{count} value") } else { format!("{count} values") };
        let message = format!(
            "{}, line {}: {} instead of {wanted}, the number of columns in line {} (delimiter {mark}, quote {})",
            self.shown,
            self.records.first_line(),
            plural(found),
            self.header_line,
            self.dialect.quote.map_or("none".to_owned(), |quote| format!("`{}`", char::from(quote)))
        );
        let help = if found > wanted {
            "correct the row: a value that contains a delimiter needs quotation marks; write `delimiter` and `quote` at the \
             source (in `csv = { … }` where its type is `files`) where they are others"
                .to_owned()
        } else {
            format!(
                "correct the row, and see that the file is whole; where lines before the header do not belong to it, write \
                 `csv = {{ skip = … }}` at the source (of type `files`), where lines below the table do not, read it with \
                 `sql = \"FROM read_csv('{}', all_varchar = true, null_padding = true)\"`",
                self.shown
            )
        };
        Error::new(Kind::Source, message).advise(help)
    }
}

fn undecodable(wrong: Undecodable, place: String, shown: &str) -> Error {
    match wrong {
        Undecodable::Io(error) => unreadable(shown, &error),
        Undecodable::Packed => Error::new(Kind::Source, format!("{place}the packed data is damaged or cut off"))
            .advise("write the file again; its writer should write to another file and rename it"),
        Undecodable::Encoding(encoding) => Error::new(Kind::Source, format!("{place}this is not {}", encoding.name()))
            .advise(
                "convert the file to UTF-8, or write its encoding at the source: `encoding = \"windows-1252\"`, in `csv = { … }` where \
                 its type is `files` (docs/files.md lists the others)",
            ),
        Undecodable::LooksUtf16(encoding) => {
            Error::new(Kind::Source, format!("{shown}: this is {}, not UTF-8", encoding.name())).advise(format!(
                "write `encoding = \"{}\"` at the source (in `csv = {{ … }}` where its type is `files`), or convert the file to UTF-8",
                encoding.name().to_lowercase()
            ))
        }
        Undecodable::Format(what, help) => {
            Error::new(Kind::Source, format!("{shown}: this is {what}, not text")).advise(help)
        }
    }
}

fn broken_json(fault: objects::Fault, shown: &str) -> Error {
    let column = fault.column.map_or_else(String::new, |column| format!(", column {column}"));
    let place = format!("{shown}, line {}{column}: ", fault.line);
    let (what, help) = match fault.wrong {
        objects::Wrong::Undecodable(wrong) => return undecodable(wrong, place, shown),
        objects::Wrong::Syntax(what) => (
            format!("this is not JSON: {what}"),
            "correct the line; a file that is being written is read when it is whole: write another one and rename it"
                .to_owned(),
        ),
        objects::Wrong::NoObject => (
            "a value that is not an object, and only objects can be rows".to_owned(),
            format!(
                "write one object per group, or take the values apart: `sql = \"SELECT … FROM read_json_objects('{shown}')\"`"
            ),
        ),
        objects::Wrong::Cut => (
            "the file ends within an object that begins here".to_owned(),
            "write the file again; its writer should write to another file and rename it".to_owned(),
        ),
        objects::Wrong::TooLarge => {
            ("an object of more than 64 MB begins here".to_owned(), unwrap_advice(shown, "data"))
        }
        objects::Wrong::Twice(name) => (
            format!("the object that begins here has `{name}` twice"),
            "it is not clear which of them is meant: correct the file".to_owned(),
        ),
    };
    Error::new(Kind::Source, format!("{place}{what}")).advise(help)
}

/// How a query takes the rows out of an object around them.
pub(super) fn unwrap_advice(shown: &str, member: &str) -> String {
    format!(
        "if the rows are in a member of one object, extract them: `sql = \"SELECT row->>'account_id' AS account_id, … \
         FROM (SELECT unnest(from_json(json->'{member}', '[\\\"JSON\\\"]')) AS row FROM read_json_objects('{shown}'))\"`"
    )
}
