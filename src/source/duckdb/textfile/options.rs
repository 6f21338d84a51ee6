//! How files are written, as far as the source's settings tell.

use chrono::format::{Item, StrftimeItems};
use chrono::{NaiveDate, NaiveDateTime};

use super::decode::Encoding;
use crate::error::{Error, Kind, Result};
use crate::mapping::diagnostic::did_you_mean;

/// What the source says of its files.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::source::duckdb) struct Options {
    pub(super) encoding: Option<Encoding>,
    pub(super) delimiter: Option<u8>,
    pub(super) quote: Option<u8>,
    /// What stands before a quotation mark, or another character, that is part of a value.
    pub(super) escape: Option<u8>,
    pub(super) decimal_comma: bool,
    /// How dates are written, where not year first.
    pub(super) dates: Option<String>,
    /// How dates with a time are written.
    pub(super) times: Option<String>,
    /// Texts that mean that a value is missing.
    pub(super) nulls: Vec<String>,
    /// Whether every column is text.
    pub(super) all_text: bool,
    /// Lines before the header of a text file.
    pub(super) skip_lines: u64,
    /// The sheet of a workbook; the first without it.
    pub(super) sheet: Option<String>,
    /// Rows before the header of a sheet.
    pub(super) skip_rows: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            encoding: None,
            delimiter: None,
            quote: Some(b'"'),
            escape: None,
            decimal_comma: false,
            dates: None,
            times: None,
            nulls: Vec::new(),
            all_text: false,
            skip_lines: 0,
            sheet: None,
            skip_rows: 0,
        }
    }
}

/// The keys of `csv = { … }`.
const CSV: [&str; 10] = [
    "delimiter",
    "quote",
    "escape",
    "encoding",
    "decimal",
    "dateformat",
    "timestampformat",
    "null",
    "all_text",
    "skip",
];
/// The keys of `excel = { … }`.
const EXCEL: [&str; 2] = ["sheet", "skip"];
/// Most lines before a header.
const SKIP_MAX: i64 = 1_000;

impl Options {
    /// What `csv` and `excel` of a source say.
    ///
    /// Errors: [`Kind::Config`], the key and what belongs there.
    pub(in crate::source::duckdb) fn of(csv: Option<&toml::Table>, excel: Option<&toml::Table>) -> Result<Options> {
        let mut options = Options::default();
        for (key, value) in csv.into_iter().flatten() {
            let name = format!("csv.{key}");
            match key.as_str() {
                "delimiter" => options.delimiter = Some(mark(&name, text(&name, value)?)?),
                "quote" => options.quote = unless_none(&name, text(&name, value)?)?,
                "escape" => options.escape = unless_none(&name, text(&name, value)?)?,
                "encoding" => {
                    let known = Encoding::named(text(&name, value)?);
                    options.encoding = Some(known.ok_or_else(|| one_of(&name, Encoding::NAMES))?);
                }
                "decimal" => {
                    options.decimal_comma = match text(&name, value)? {
                        "," => true,
                        "." => false,
                        _ => return Err(one_of(&name, &[".", ","])),
                    };
                }
                "dateformat" => options.dates = Some(format(&name, text(&name, value)?, false)?),
                "timestampformat" => options.times = Some(format(&name, text(&name, value)?, true)?),
                "null" => options.nulls = texts(&name, value)?,
                "all_text" => {
                    options.all_text = value.as_bool().ok_or_else(|| wrong(&name, "must be true or false"))?;
                }
                "skip" => options.skip_lines = lines(&name, value)?,
                _ => return Err(unknown("csv", key, &CSV)),
            }
        }
        for (key, value) in excel.into_iter().flatten() {
            let name = format!("excel.{key}");
            match key.as_str() {
                "sheet" => options.sheet = Some(text(&name, value)?.to_owned()),
                "skip" => options.skip_rows = lines(&name, value)?,
                _ => return Err(unknown("excel", key, &EXCEL)),
            }
        }
        options.check()?;
        Ok(options)
    }

    /// What single settings of an older form say.
    ///
    /// Errors: [`Kind::Config`].
    pub(in crate::source::duckdb) fn of_settings(
        encoding: Option<Encoding>,
        delimiter: Option<&str>,
        quote: Option<&str>,
        decimal: Option<&str>,
    ) -> Result<Options> {
        let mut options = Options { encoding, decimal_comma: decimal == Some(","), ..Options::default() };
        options.delimiter = delimiter.map(|text| mark("delimiter", text)).transpose()?;
        if let Some(text) = quote {
            options.quote = unless_none("quote", text)?;
        }
        options.check()?;
        Ok(options)
    }

    fn check(&self) -> Result<()> {
        match self.delimiter.is_some() && self.delimiter == self.quote {
            true => Err(Error::new(Kind::Config, "`delimiter` and `quote` are the same").advise("correct one of them")),
            false => Ok(()),
        }
    }

    /// Whether dates or times are written in a way of their own.
    pub(super) fn has_formats(&self) -> bool {
        self.dates.is_some() || self.times.is_some()
    }

    /// The type that SQL sees of times in the source's own way of writing.
    pub(super) fn time_type(&self) -> &'static str {
        match self.times.as_deref().is_some_and(has_offset) {
            true => "TIMESTAMP WITH TIME ZONE",
            false => "TIMESTAMP",
        }
    }

    /// A date in the source's own way of writing, year first.
    pub(super) fn date(&self, value: &[u8]) -> Option<String> {
        let value = std::str::from_utf8(value).ok()?;
        let date = NaiveDate::parse_from_str(value, self.dates.as_deref()?).ok()?;
        Some(date.format("%Y-%m-%d").to_string())
    }

    /// A date with a time, likewise; in UTC where the format has an offset.
    pub(super) fn time(&self, value: &[u8]) -> Option<String> {
        let value = std::str::from_utf8(value).ok()?;
        let format = self.times.as_deref()?;
        if has_offset(format) {
            let time = chrono::DateTime::parse_from_str(value, format).ok()?;
            return Some(time.to_utc().format("%Y-%m-%dT%H:%M:%S%.fZ").to_string());
        }
        let time = NaiveDateTime::parse_from_str(value, format).ok()?;
        Some(time.format("%Y-%m-%dT%H:%M:%S%.f").to_string())
    }
}

fn has_offset(format: &str) -> bool {
    format.contains("%z") || format.contains("%:z") || format.contains("%#z")
}

fn wrong(name: &str, what: &str) -> Error {
    Error::new(Kind::Config, format!("`{name}` {what}")).advise("correct it in groupcast.toml")
}

fn one_of(name: &str, words: &[&str]) -> Error {
    let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    Error::new(Kind::Config, format!("`{name}` is not a value that is known"))
        .advise(format!("write {}", words.join(", ")))
}

fn unknown(table: &str, key: &str, known: &[&str]) -> Error {
    let error = Error::new(Kind::Config, format!("`{table}` has no option `{key}`"));
    match did_you_mean(key, known.iter().copied()) {
        Some(meant) => error.advise(format!("did you mean `{meant}`?")),
        None => error.advise(format!("it has {}", known.join(", "))),
    }
}

fn text<'a>(name: &str, value: &'a toml::Value) -> Result<&'a str> {
    value.as_str().filter(|text| !text.is_empty()).ok_or_else(|| wrong(name, "must be a text"))
}

fn texts(name: &str, value: &toml::Value) -> Result<Vec<String>> {
    let one = |value: &toml::Value| text(name, value).map(str::to_owned);
    match value {
        toml::Value::Array(values) => values.iter().map(one).collect(),
        value => Ok(vec![one(value)?]),
    }
}

fn lines(name: &str, value: &toml::Value) -> Result<u64> {
    let lines = value.as_integer().filter(|lines| (0..=SKIP_MAX).contains(lines));
    lines.map(i64::unsigned_abs).ok_or_else(|| wrong(name, "must be a number of lines, at most 1000"))
}

fn unless_none(name: &str, text: &str) -> Result<Option<u8>> {
    if text == "none" { Ok(None) } else { mark(name, text).map(Some) }
}

/// One character that can stand between or around values.
fn mark(name: &str, text: &str) -> Result<u8> {
    match text {
        "tab" | "\\t" => Ok(b'\t'),
        _ => match text.as_bytes() {
            [byte @ (b'\t' | b' '..=b'~')] if !byte.is_ascii_alphanumeric() => Ok(*byte),
            _ => Err(Error::new(Kind::Config, format!("`{name}` is not one character of punctuation"))
                .advise(format!("write `{} = \";\"`, or \"tab\"", name.rsplit('.').next().unwrap_or(name)))),
        },
    }
}

/// A format of dates, or of times, that loses nothing.
fn format(name: &str, written: &str, with_time: bool) -> Result<String> {
    // As DuckDB and Python write fractions of a second.
    let format = written.replace(".%f", "%.f");
    let advice = if with_time { "write it like \"%d.%m.%Y %H:%M:%S\"" } else { "write it like \"%d.%m.%Y\"" };
    let refused = |what: &str| Err(Error::new(Kind::Config, format!("`{name}` {what}")).advise(advice));
    if StrftimeItems::new(&format).any(|item| matches!(item, Item::Error)) {
        return refused("has a `%` that no format has");
    }
    let sample = NaiveDate::from_ymd_opt(2031, 11, 25).and_then(|date| date.and_hms_opt(21, 43, 0)).unwrap_or_default();
    let back = match (with_time, has_offset(&format)) {
        (false, true) | (false, false) => {
            // Writing a time into a date's format would panic: a date has none.
            if ["%H", "%M", "%S", "%I", "%T", "%R", "%z"].iter().any(|part| format.contains(part)) {
                return refused("has a time in it: that is `timestampformat`");
            }
            let text = sample.date().format(&format).to_string();
            NaiveDate::parse_from_str(&text, &format).ok().and_then(|date| date.and_hms_opt(21, 43, 0))
        }
        (true, true) => {
            let text = sample.and_utc().format(&format).to_string();
            chrono::DateTime::parse_from_str(&text, &format).ok().map(|time| time.naive_utc())
        }
        (true, false) => NaiveDateTime::parse_from_str(&sample.format(&format).to_string(), &format).ok(),
    };
    match back == Some(sample) {
        true => Ok(format),
        false if with_time => refused("does not say day, month, year, hour and minute"),
        false => refused("does not say day, month and year"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(csv: &str) -> Result<Options> {
        Options::of(Some(&toml::from_str(csv).unwrap()), None)
    }

    #[test]
    fn options_are_read_and_mistakes_named() {
        let read = options(
            "delimiter = ';'\nquote = 'none'\nescape = '\\'\nencoding = 'latin-1'\ndecimal = ','\nnull = ['NULL', '-']\nall_text = true\nskip = 3",
        )
        .unwrap();
        assert_eq!((read.delimiter, read.quote, read.escape, read.skip_lines), (Some(b';'), None, Some(b'\\'), 3));
        assert!(read.decimal_comma && read.all_text && read.nulls == ["NULL", "-"]);
        for (csv, expected) in [
            ("delimeter = ';'", "did you mean `delimiter`"),
            ("delimiter = 'ab'", "one character"),
            ("delimiter = '\"'", "are the same"),
            ("encoding = 'utf8'", "utf-8"),
            ("all_text = 'yes'", "true or false"),
            ("skip = -1", "number of lines"),
            ("dateformat = '%d.%m'", "day, month and year"),
            ("dateformat = '%d.%m.%Y %H:%M'", "timestampformat"),
            ("dateformat = '%d.%m.%!'", "no format has"),
            ("timestampformat = '%d.%m.%Y'", "hour and minute"),
            ("null = ''", "must be a text"),
        ] {
            let error = options(csv).unwrap_err();
            let text = format!("{error} {}", error.advice().unwrap_or_default());
            assert!(text.contains(expected), "{csv}: {text}");
        }
        let excel = toml::from_str("sheet = 'Accounts'\nskip = 2").unwrap();
        assert_eq!(Options::of(None, Some(&excel)).unwrap().sheet.as_deref(), Some("Accounts"));
    }

    #[test]
    fn dates_and_times_become_those_of_iso_8601() {
        let read = options("dateformat = '%d.%m.%Y'\ntimestampformat = '%d.%m.%Y %H:%M'").unwrap();
        assert_eq!(read.date(b"05.03.2026").as_deref(), Some("2026-03-05"));
        assert_eq!(read.date(b"5.3.2026").as_deref(), Some("2026-03-05"));
        assert_eq!(read.date(b"31.02.2026"), None);
        assert_eq!(read.date(b"05.03.2026 10:00"), None);
        assert_eq!(read.time(b"05.03.2026 10:07").as_deref(), Some("2026-03-05T10:07:00"));
        let read = options("timestampformat = '%m/%d/%Y %I:%M:%S.%f %p %z'").unwrap();
        assert_eq!(read.time(b"03/05/2026 10:07:08.250 PM +0100").as_deref(), Some("2026-03-05T21:07:08.250Z"));
    }
}
