//! One problem in a file a person wrote: what, where, what to write instead. Pure data; `config::diagnostic` draws it.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// A place in the mapping file: line and column from 1, and the key's dotted path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct At {
    /// Byte range in the file's text.
    pub span: std::ops::Range<usize>,
    /// `traits.arr`.
    pub path: String,
}

/// Whether a problem stops the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used; a person should look.
    Warning,
    /// Nothing is wrong; what was decided, for whom it interests.
    Note,
}

/// A problem at a place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether it stops the command.
    pub severity: Severity,
    /// What is wrong: one line, lower case, never a secret.
    pub message: String,
    /// The file (or environment variable) as it is shown.
    pub file: String,
    /// Bytes of the file's text; `0..0` speaks about the file as a whole.
    pub span: Range<usize>,
    /// The key's dotted path (`traits.arr`); empty when the problem is not about a key.
    pub path: String,
    /// What to do about it, one line each.
    pub help: Vec<String>,
    /// Whether something was not found at the source that another process may be recreating just now.
    pub missing: bool,
}

impl Diagnostic {
    /// An error about `at`.
    pub fn error(file: &str, at: &At, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            message: message.into(),
            file: file.to_owned(),
            span: at.span.clone(),
            path: at.path.clone(),
            help: Vec::new(),
            missing: false,
        }
    }

    /// A warning about `at`.
    pub fn warning(file: &str, at: &At, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(file, at, message) }
    }

    /// A note about `at`.
    pub fn note(file: &str, at: &At, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Note, ..Diagnostic::error(file, at, message) }
    }

    /// Notes that it is about something that was not found at the source.
    pub fn missing(mut self) -> Diagnostic {
        self.missing = true;
        self
    }

    /// Adds a line of advice.
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help.push(help.into());
        self
    }

    /// Adds a line of advice if there is one.
    pub fn maybe_help(self, help: Option<impl Into<String>>) -> Diagnostic {
        match help {
            Some(help) => self.help(help),
            None => self,
        }
    }
}

/// A problem for readers who do not have the file: in `--json` output, in the API and in a run's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Problem {
    /// `error`, `warning` or `note`.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// The file, or the environment variable.
    pub file: String,
    /// Line from 1; absent when the file as a whole is meant.
    pub line: Option<usize>,
    /// Column in characters from 1.
    pub column: Option<usize>,
    /// The key's dotted path.
    pub path: String,
    /// What to do.
    pub help: Vec<String>,
    /// The line as it was, so that it can be drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<Excerpt>,
}

/// The line that a problem is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Excerpt {
    /// The line's text.
    pub text: String,
    /// The byte of it at which the problem begins.
    pub start: usize,
    /// The byte after it.
    pub end: usize,
}

/// Where the lines of a text begin, so that the line of a place is found without reading the text again.
#[derive(Debug, Clone)]
pub struct Lines {
    /// The offset after each line end.
    begin: Vec<usize>,
}

impl Lines {
    /// Of this text.
    pub fn of(text: &str) -> Lines {
        Lines { begin: text.match_indices('\n').map(|(at, _)| at + 1).collect() }
    }

    /// The line of a byte offset, from 1. An offset beyond the text is on the last one.
    pub fn line(&self, offset: usize) -> usize {
        self.begin.partition_point(|begin| *begin <= offset) + 1
    }
}

/// Line and column (in characters), both from 1, of a byte offset, for tests that look at one place.
#[cfg(test)]
pub(crate) fn position(text: &str, offset: usize) -> (usize, usize) {
    let start = text[..offset].rfind('\n').map_or(0, |newline| newline + 1);
    (Lines::of(text).line(offset), text[start..offset].chars().count() + 1)
}

/// The word a person most likely meant: spelled the same but for case and dashes, or a few slips away.
pub fn did_you_mean<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |word: &str| word.to_lowercase().replace('-', "_");
    let wanted = plain(written);
    // One slip in three letters; a word of one or two letters is never "close" to another.
    let slips_max = |word: &str| wanted.chars().count().min(word.chars().count()).min(12) / 3;
    known
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(&wanted, &plain(word)), word))
        .filter(|(slips, word)| *slips <= slips_max(word))
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, word)| word)
}

/// `a`, `b` or `c`, for messages; at most twelve words, then how many more there are.
pub fn listed<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    joined(words, "or")
}

/// `a`, `b` and `c`, likewise.
pub fn listed_all<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    joined(words, "and")
}

fn joined<'a>(words: impl IntoIterator<Item = &'a str>, last_word: &str) -> String {
    const SHOWN_MAX: usize = 12;
    // Only those that are shown are formatted: a model may have thousands of columns, and as many mistakes.
    let mut words = words.into_iter();
    let shown: Vec<String> = words.by_ref().take(SHOWN_MAX).map(|word| format!("`{word}`")).collect();
    match (shown.as_slice(), words.count()) {
        ([], _) => "nothing".to_owned(),
        ([one], _) => one.clone(),
        ([first @ .., last], 0) => format!("{} {last_word} {last}", first.join(", ")),
        (_, more) => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_count_from_one() {
        let lines = Lines::of("a = 1\nb = \"x\"\r\n");
        let expected = [(0, 1), (5, 1), (6, 2), (14, 2), (15, 3), (999, 3)];
        assert_eq!(expected.map(|(offset, _)| (offset, lines.line(offset))), expected);
        assert_eq!(Lines::of("").line(0), 1);
    }

    #[test]
    fn guesses_are_close_or_absent() {
        let known = ["source", "destination", "schedule", "on_null"];
        for (written, expected) in [
            ("sorce", Some("source")),
            ("Source", Some("source")),
            ("destintaion", Some("destination")),
            ("on-null", Some("on_null")),
            ("onnull", Some("on_null")),
            ("zzz", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(did_you_mean(written, known), expected, "{written}");
        }
    }

    #[test]
    fn lists_read_like_a_sentence_and_end() {
        assert_eq!(listed([]), "nothing");
        assert_eq!(listed(["a"]), "`a`");
        assert_eq!(listed(["a", "b", "c"]), "`a`, `b` or `c`");
        let many: Vec<String> = (0..20).map(|n| n.to_string()).collect();
        assert!(listed(many.iter().map(String::as_str)).ends_with("`11` and 8 more"));
    }
}
