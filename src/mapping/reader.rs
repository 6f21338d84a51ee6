//! A reader of TOML tables that reports every mistake, each at its place.
//!
//! Reading never stops at a mistake: it is noted in the [`Report`] and the value is absent. Where the TOML itself is
//! broken, the parser's recovery may have lost keys, so what looks missing is not reported, nor is anything on a line
//! that has a syntax error.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::At;
use super::diagnostic::{Diagnostic, Lines, did_you_mean, listed, listed_all};
use super::{sql, units};
use crate::model::setting::Setting;

/// The mistakes found in one file so far, and where its keys are.
pub(crate) struct Report<'t> {
    /// The file as it is shown.
    pub(crate) file: &'t str,
    lines: Lines,
    found: Vec<Diagnostic>,
    broken_lines: BTreeSet<usize>,
    /// Dotted paths that an unknown key was probably meant to be.
    meant: BTreeSet<String>,
    /// Dotted path → where its value stands.
    pub(crate) places: BTreeMap<String, Range<usize>>,
    /// Where a key belongs that is right in another section of the file.
    pub(crate) belongs: fn(&str) -> Option<String>,
}

/// Parses `text`, noting syntax errors; what could be recovered is returned.
pub(crate) fn parse<'t>(file: &'t str, text: &'t str) -> (Spanned<DeTable<'t>>, Report<'t>) {
    let (table, mut errors) = DeTable::parse_recoverable(text);
    errors.sort_by_key(|error| error.span().map(|span| span.start));
    let mut report = Report {
        file,
        lines: Lines::of(text),
        found: Vec::new(),
        broken_lines: BTreeSet::new(),
        meant: BTreeSet::new(),
        places: BTreeMap::new(),
        belongs: |_| None,
    };
    for error in errors {
        let span = error.span().unwrap_or_default();
        let line = report.lines.line(span.start);
        // One slip often has several consequences on its line; the first says most.
        if report.broken_lines.insert(line) {
            let help = slip(text, &span, error.message());
            let at = At { span: visible(text, span), path: String::new() };
            let what = format!("not valid TOML: {}", error.message().trim_end_matches(", expected nothing"));
            report.found.push(Diagnostic::error(file, &at, what).maybe_help(help.map(str::to_owned)));
        }
    }
    (table, report)
}

/// The next step for the slips that people make in TOML. It quotes nothing: a value may be a secret.
fn slip(text: &str, span: &Range<usize>, message: &str) -> Option<&'static str> {
    let at = span.start.min(text.len());
    let start = text.get(..at)?.rfind('\n').map_or(0, |end| end + 1);
    let line = text.get(start..)?.lines().next()?;
    let before = text.get(start..at)?;
    let value = text.get(span.clone()).unwrap_or_default();
    if line.contains(['“', '”', '„', '‘', '’', '«']) {
        return Some("these are quotation marks of a text program: write straight ones, `\"`");
    }
    if !before.contains('=') && line.get(before.len()..).unwrap_or_default().trim_start().starts_with(':') {
        return Some("TOML writes `key = value`, with `=` in place of the colon");
    }
    if message.contains("boolean") {
        return Some("write `true` or `false`, in small letters");
    }
    if message.contains("must be quoted") {
        return Some(match value.to_lowercase().as_str() {
            "true" | "false" | "yes" | "no" | "on" | "off" => "write `true` or `false`, in small letters",
            _ => "put the value in quotation marks: `key = \"value\"`",
        });
    }
    if message.contains("basic string") {
        return Some("end the text with a quotation mark, on the same line");
    }
    if message.contains("escape") {
        return Some(
            "a backslash has a meaning in `\"…\"`: write the text in single ones, `'C:\\data'`, or each backslash twice",
        );
    }
    if message.contains("duplicate key") {
        return Some(match line.trim_start().starts_with('[') {
            true => "this section is in the file already: put its keys there",
            false => "this key is in its section already: keep one of them",
        });
    }
    None
}

/// A span that shows something: an empty one (the end of a line or of the file) takes the character before it.
fn visible(text: &str, span: Range<usize>) -> Range<usize> {
    let end = span.end.min(text.len());
    let mut start = span.start.min(end);
    if start == end {
        start = start.saturating_sub(1);
        while !text.is_char_boundary(start) {
            start -= 1;
        }
    }
    start..end
}

impl<'t> Report<'t> {
    /// Whether the TOML itself is broken.
    pub(crate) fn is_broken(&self) -> bool {
        !self.broken_lines.is_empty()
    }

    /// Notes a mistake.
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        // The parser's recovery invents values for what it could not read; they stand nowhere.
        let line = self.lines.line(diagnostic.span.start);
        let invented = diagnostic.span.is_empty() && self.is_broken();
        if !invented && !self.broken_lines.contains(&line) {
            self.found.push(diagnostic);
        }
    }

    /// Notes that the key `path` is missing, unless broken syntax may have swallowed it or it was only misspelled.
    pub(crate) fn push_missing(&mut self, path: &str, diagnostic: Diagnostic) {
        if !self.is_broken() && !self.meant.contains(path) {
            self.found.push(diagnostic);
        }
    }

    /// Whether an unknown key was probably meant to be this one.
    pub(crate) fn was_meant(&self, path: &str) -> bool {
        self.meant.contains(path)
    }

    /// An error at `at`, to be completed and pushed.
    pub(crate) fn error(&self, at: &At, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(self.file, at, message)
    }

    /// Everything that was found.
    pub(crate) fn into_found(self) -> (Vec<Diagnostic>, BTreeMap<String, Range<usize>>) {
        (self.found, self.places)
    }
}

/// `traits.arr`; a key that is not a bare TOML key is quoted, so that paths are unambiguous.
pub(crate) fn join(path: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    let key = if bare { Cow::Borrowed(key) } else { Cow::Owned(format!("{key:?}")) };
    if path.is_empty() { key.into_owned() } else { format!("{path}.{key}") }
}

/// An enum whose names are the words of a choice.
pub(crate) trait Words: Copy + Into<&'static str> + strum::VariantArray {}

impl<T: Copy + Into<&'static str> + strum::VariantArray> Words for T {}

/// A table and where it stands.
#[derive(Clone)]
pub(crate) struct Section<'d> {
    pub(crate) table: &'d DeTable<'d>,
    pub(crate) at: At,
}

/// A key with its value.
#[derive(Clone)]
pub(crate) struct Entry<'d> {
    pub(crate) key: &'d str,
    /// Where the key stands.
    pub(crate) key_at: At,
    pub(crate) value: &'d DeValue<'d>,
    /// Where the value stands.
    pub(crate) at: At,
}

impl<'d> Section<'d> {
    /// The whole file.
    pub(crate) fn root(table: &'d DeTable<'d>) -> Section<'d> {
        Section { table, at: At::default() }
    }

    /// The entries in the file's order.
    pub(crate) fn entries(&self) -> Vec<Entry<'d>> {
        let mut entries: Vec<Entry<'d>> = self
            .table
            .iter()
            .map(|(key, value)| {
                let path = join(&self.at.path, key.get_ref());
                Entry {
                    key: key.get_ref(),
                    key_at: At { span: key.span(), path: path.clone() },
                    value: value.get_ref(),
                    at: At { span: value.span(), path },
                }
            })
            .collect();
        entries.sort_by_key(|entry| entry.key_at.span.start);
        entries
    }

    /// The entry of this key.
    pub(crate) fn get(&self, key: &str) -> Option<Entry<'d>> {
        self.entries().into_iter().find(|entry| entry.key == key)
    }

    /// Whether the key is there.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.get(key).is_some()
    }

    /// Reports every key that is not one of these settings.
    pub(crate) fn expect_settings(&self, settings: &[Setting], report: &mut Report<'_>) {
        let names: Vec<&str> = settings.iter().map(|setting| setting.name).collect();
        self.expect_keys(&names, report);
    }

    /// The value of this key as one of the words of `T`, if it is there and right.
    pub(crate) fn choice<T: Words>(&self, key: &str, report: &mut Report<'_>) -> Option<T> {
        self.get(key)?.choice(report)
    }

    /// Reports every key that is not `known`, with the word that was probably meant, and remembers the places of those
    /// that are.
    pub(crate) fn expect_keys(&self, known: &[&str], report: &mut Report<'_>) {
        for entry in self.entries() {
            if known.contains(&entry.key) {
                report.places.insert(entry.at.path.clone(), entry.at.span.clone());
                continue;
            }
            let what = format!("unknown key `{}`", shown(entry.key));
            let meant = did_you_mean(entry.key, known.iter().copied());
            report.meant.extend(meant.map(|meant| join(&self.at.path, meant)));
            let help = meant
                .map(|meant| format!("did you mean `{meant}`?"))
                .or_else(|| (report.belongs)(entry.key))
                .unwrap_or_else(|| format!("known here: {}", listed_all(known.iter().copied())));
            report.push(report.error(&entry.key_at, what).help(help));
        }
    }
}

/// A key or word as it may stand in a message: one line, not endless.
pub(crate) fn shown(word: &str) -> String {
    const LETTERS_MAX: usize = 60;
    let mut out: String = word.chars().take(LETTERS_MAX).flat_map(char::escape_debug).collect();
    if word.chars().count() > LETTERS_MAX {
        out.push('…');
    }
    out
}

/// "a string", "an integer", for messages.
pub(crate) fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

impl<'d> Entry<'d> {
    /// Reports that the value is of the wrong type.
    pub(crate) fn mistyped(&self, wanted: &str, report: &mut Report<'_>) {
        let message = format!("`{}` must be {wanted}, not {}", shown(self.key), kind_of(self.value));
        report.push(report.error(&self.at, message));
    }

    /// The value as a table.
    pub(crate) fn section(&self, report: &mut Report<'_>) -> Option<Section<'d>> {
        match self.value {
            DeValue::Table(table) => Some(Section { table, at: self.at.clone() }),
            _ => {
                self.mistyped("a table", report);
                None
            }
        }
    }

    /// The value as text that says something.
    pub(crate) fn text(&self, report: &mut Report<'_>) -> Option<&'d str> {
        match self.value {
            DeValue::String(text) if text.trim().is_empty() => {
                report.push(report.error(&self.at, format!("`{}` is empty", shown(self.key))));
                None
            }
            DeValue::String(text) => Some(text),
            _ => {
                self.mistyped("a string", report);
                None
            }
        }
    }

    /// The value as a name: text of at most 255 characters without control characters or space around it.
    pub(crate) fn name(&self, report: &mut Report<'_>) -> Option<String> {
        let text = self.text(report)?;
        match name_problem(text) {
            None => Some(text.to_owned()),
            Some(problem) => {
                report.push(report.error(&self.at, format!("`{}` {problem}", shown(self.key))));
                None
            }
        }
    }

    /// The value as true or false.
    pub(crate) fn flag(&self, report: &mut Report<'_>) -> Option<bool> {
        match self.value {
            DeValue::Boolean(flag) => Some(*flag),
            _ => {
                self.mistyped("true or false", report);
                None
            }
        }
    }

    /// The value as one of a few words.
    pub(crate) fn choice<T: Words>(&self, report: &mut Report<'_>) -> Option<T> {
        let words = || T::VARIANTS.iter().map(|option| -> &'static str { (*option).into() });
        let DeValue::String(text) = self.value else {
            self.mistyped(&listed(words()), report);
            return None;
        };
        if let Some(at) = words().position(|word| word == text) {
            return Some(T::VARIANTS[at]);
        }
        let message = format!("`{}` must be {}, not `{}`", shown(self.key), listed(words()), shown(text));
        let help = did_you_mean(text, words()).map(|meant| format!("did you mean `{meant}`?"));
        report.push(report.error(&self.at, message).maybe_help(help));
        None
    }

    /// The value as a duration (`"30m"`).
    pub(crate) fn duration(&self, report: &mut Report<'_>) -> Option<Duration> {
        match self.value {
            DeValue::String(text) => self.noted(units::duration(text), report),
            DeValue::Integer(number) => {
                let help =
                    format!("write the unit: `\"{number}s\"`, `\"{number}m\"`, `\"{number}h\"` or `\"{number}d\"`");
                let message = format!("`{}` is a duration without a unit", shown(self.key));
                report.push(report.error(&self.at, message).help(help));
                None
            }
            _ => {
                self.mistyped("a duration like \"30m\"", report);
                None
            }
        }
    }

    /// The value as a share from 0 to 1 (`0.3`, `"30%"`).
    pub(crate) fn share(&self, report: &mut Report<'_>) -> Option<f64> {
        match self.value {
            DeValue::String(text) => self.noted(units::share(text), report),
            DeValue::Float(number) => self.noted(units::share(number.as_str()), report),
            DeValue::Integer(number) => {
                let share = units::share(&number.to_string());
                if share.is_err() && integer(self.value).is_some_and(|percent| (2..=100).contains(&percent)) {
                    let message = format!("`{}` is a share from 0 to 1", shown(self.key));
                    report.push(report.error(&self.at, message).help(format!("for {number} % write `\"{number}%\"`")));
                    return None;
                }
                self.noted(share, report)
            }
            _ => {
                self.mistyped("a share like 0.3 or \"30%\"", report);
                None
            }
        }
    }

    /// The value as a whole number within `range`.
    pub(crate) fn count(&self, range: std::ops::RangeInclusive<i64>, report: &mut Report<'_>) -> Option<i64> {
        let DeValue::Integer(_) = self.value else {
            self.mistyped("a whole number", report);
            return None;
        };
        let number = integer(self.value).filter(|number| range.contains(number));
        if number.is_none() {
            let (least, most) = range.into_inner();
            let wanted = if most == i64::MAX { format!("at least {least}") } else { format!("from {least} to {most}") };
            report.push(report.error(&self.at, format!("`{}` must be {wanted}", shown(self.key))));
        }
        number
    }

    /// A result whose error is about this value: what is wrong, and the conversion after a colon.
    pub(crate) fn noted<T>(&self, result: Result<T, String>, report: &mut Report<'_>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(problem) => {
                let (message, help) = match problem.split_once(": ") {
                    Some((message, help)) => (message.to_owned(), Some(help.to_owned())),
                    None => (problem, None),
                };
                // What is wrong with the value as a whole follows its name; what is wrong within it stands alone.
                let predicate = ["is", "has"].iter().any(|verb| message.split(' ').next() == Some(verb));
                let message = format!("`{}`{} {message}", shown(self.key), if predicate { "" } else { ":" });
                report.push(report.error(&self.at, message).maybe_help(help));
                None
            }
        }
    }
}

/// Why a text is no name, as the end of a sentence that begins with what it names.
pub(crate) fn name_problem(text: &str) -> Option<&'static str> {
    /// No vendor takes longer property names, most stop well before.
    const LETTERS_MAX: usize = 255;
    if text.trim().is_empty() {
        Some("is empty")
    } else if text.trim() != text {
        Some("has space around it")
    } else if text.chars().any(char::is_control) {
        Some("contains a control character")
    } else if text.chars().count() > LETTERS_MAX {
        Some("is longer than 255 characters")
    } else {
        None
    }
}

/// The value as one piece of SQL: a query, a condition, an expression.
pub(crate) fn sql_text(entry: &Entry<'_>, report: &mut Report<'_>) -> Option<String> {
    let text = entry.text(report)?;
    match sql::single(text) {
        Ok(sql) => Some(sql),
        Err(problem) => {
            report.push(report.error(&entry.at, format!("`{}` contains {problem}", shown(entry.key))));
            None
        }
    }
}

/// An integer of up to 64 bits, whatever its radix.
pub(crate) fn integer(value: &DeValue<'_>) -> Option<i64> {
    let DeValue::Integer(number) = value else { return None };
    // TOML allows a leading plus, and so does from_str_radix; underscores are gone by now.
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_in_the_files_order_with_their_places() {
        let text = "b = 1\na.\"x y\" = 2\n[c]\nd = true\n";
        let (table, report) = parse("f.toml", text);
        assert!(report.into_found().0.is_empty());
        let root = Section::root(table.get_ref());
        let keys: Vec<&str> = root.entries().iter().map(|entry| entry.key).collect();
        assert_eq!(keys, ["b", "a", "c"]);
        let (_, mut report) = parse("f.toml", text);
        let inner = root.get("a").unwrap().section(&mut report).unwrap().get("x y").unwrap();
        assert_eq!(inner.at.path, "a.\"x y\"");
        assert_eq!(&text[inner.at.span.clone()], "2");
        assert_eq!(&text[inner.key_at.span.clone()], "\"x y\"");
    }

    #[test]
    fn several_syntax_errors_are_reported_at_once_and_the_rest_is_still_read() {
        let text = "a = \nb = \"open\nc = 1\nd == 2\n";
        let (table, report) = parse("f.toml", text);
        let (places, found) = (Lines::of(text), report.into_found().0);
        let lines: Vec<usize> = found.iter().map(|found| places.line(found.span.start)).collect();
        assert_eq!(lines, [1, 2, 4]);
        assert!(table.get_ref().contains_key("c"));
    }
}
