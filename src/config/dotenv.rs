//! The text of a `.env` file: lines of `NAME=value`, as shells, Docker Compose and their kin write them.
//!
//! Ours instead of the crate `dotenvy`, whose errors quote the line with its secret and have no line number, and which takes
//! `$` in a password for a reference to the process's environment. Here every value is what it looks like: a text that other
//! tools would expand is an error.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;

use super::secrets::star;

/// A variable of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DotenvEntry {
    pub(super) value: String,
    /// Where its name is written.
    pub(super) span: Range<usize>,
}

/// A mistake in the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DotenvMistake {
    pub(super) span: Range<usize>,
    pub(super) message: String,
    pub(super) help: &'static str,
}

/// What a file has.
#[derive(Debug, Default)]
pub(super) struct Dotenv {
    pub(super) entries: BTreeMap<String, DotenvEntry>,
    pub(super) mistakes: Vec<DotenvMistake>,
}

impl Dotenv {
    /// Reads a text.
    pub(super) fn parse(text: &str) -> Dotenv {
        let mut read = Dotenv::default();
        let mut at = 0;
        while at < text.len() {
            at = read.line(text, at);
        }
        read
    }

    /// Reads what begins at `start`, the beginning of a line, and returns where the next line begins.
    fn line(&mut self, text: &str, start: usize) -> usize {
        let end = line_end(text, start);
        let next = (end + 1).min(text.len());
        let begin = skip_blanks(text, start);
        let line = text[begin..end].trim_end();
        if line.is_empty() || line.starts_with('#') {
            return next;
        }
        let whole = begin..begin + line.len();
        let name_at = match line.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t'])) {
            Some(_) => skip_blanks(text, begin + "export".len()),
            None => begin,
        };
        let length =
            text[name_at..end].bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
        let span = name_at..name_at + length;
        let name = &text[span.clone()];
        let equals = skip_blanks(text, span.end);
        if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) || !text[equals..].starts_with('=')
        {
            self.mistake(whole, "this line is not `NAME=value`", "write a name of letters, digits and `_`, then `=`");
            return next;
        }
        let from = skip_blanks(text, equals + 1);
        let (value, after) = match text[from..].chars().next() {
            Some(quote @ ('\'' | '"')) => match quoted(text, from + 1, quote) {
                Some((value, after)) => (value, after),
                None => {
                    let message = format!("the value of `{name}` has no closing quotation mark");
                    self.mistake(span, message, "close it; a value with quotation marks in it goes into the others");
                    return next;
                }
            },
            _ => {
                let written = plain(&text[from..end]);
                (written.to_owned(), from + written.len())
            }
        };
        let (name, end) = (name.to_owned(), line_end(text, after));
        let rest = text[after..end].trim();
        if !(rest.is_empty() || rest.starts_with('#')) {
            let message = format!("the value of `{name}` goes on after its closing quotation mark");
            self.mistake(span, message, "put all of it inside the quotation marks");
        } else if refers(&text[from..after]) {
            let message = format!("the value of `{name}` refers to another variable");
            self.mistake(span, message, "write the value itself, or '…' around it if these are its characters");
        } else {
            match self.entries.entry(name) {
                Entry::Vacant(entry) => {
                    entry.insert(DotenvEntry { value, span });
                }
                Entry::Occupied(entry) => {
                    let message = format!("`{}` is set twice", entry.key());
                    self.mistake(span, message, "remove one of the lines");
                }
            }
        }
        (end + 1).min(text.len())
    }

    fn mistake(&mut self, span: Range<usize>, message: impl Into<String>, help: &'static str) {
        self.mistakes.push(DotenvMistake { span, message: message.into(), help });
    }

    /// The text as it may be shown: its variables' names. Everything else is stars, comments too, since a key that was
    /// replaced often stays behind in one. Byte offsets stay what they were.
    pub(super) fn blank(&self, text: &str) -> String {
        let names: Vec<&Range<usize>> = self.entries.values().map(|entry| &entry.span).collect();
        let shown = |at: usize, letter: char| letter.is_whitespace() || names.iter().any(|name| name.contains(&at));
        text.char_indices().map(|(at, letter)| if shown(at, letter) { letter } else { star(letter) }).collect()
    }
}

/// The end of the line that `at` is on, before its line feed.
fn line_end(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |end| at + end)
}

fn skip_blanks(text: &str, from: usize) -> usize {
    from + text[from..].bytes().take_while(|byte| matches!(byte, b' ' | b'\t')).count()
}

/// A value without quotation marks: to a comment or the end of its line.
fn plain(line: &str) -> &str {
    let comment =
        line.char_indices().find(|(at, letter)| *letter == '#' && (*at == 0 || line[..*at].ends_with([' ', '\t'])));
    line[..comment.map_or(line.len(), |(at, _)| at)].trim_end()
}

/// Whether a value as it is written contains what other tools take for a reference.
fn refers(written: &str) -> bool {
    let escaped = |at: usize| written.starts_with('"') && written[..at].ends_with('\\');
    !written.starts_with('\'') && written.match_indices("${").any(|(at, _)| !escaped(at))
}

/// The value from `start` to its closing quotation mark, and what comes after that. It may have several lines.
fn quoted(text: &str, start: usize, quote: char) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut letters = text[start..].char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            _ if letter == quote => return Some((value, start + at + 1)),
            '\\' if quote == '"' => match letters.next()?.1 {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                escaped @ ('"' | '\\' | '$') => value.push(escaped),
                other => value.extend(['\\', other]),
            },
            _ => value.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values(text: &str) -> Vec<(String, String)> {
        let read = Dotenv::parse(text);
        assert_eq!(read.mistakes, [], "{text}");
        read.entries.into_iter().map(|(name, entry)| (name, entry.value)).collect()
    }

    #[test]
    fn values_are_what_they_look_like() {
        for (line, expected) in [
            ("A=plain", "plain"),
            ("  export A = spaced out  # why", "spaced out"),
            ("A=p#ss#w$rd", "p#ss#w$rd"),
            ("A=", ""),
            ("A= # nothing", ""),
            ("A='it is ${literal} # \\n'", "it is ${literal} # \\n"),
            ("A=\"two\\nlines \\\"quoted\\\" \\${5} C:\\\\x \\d\" # why", "two\nlines \"quoted\" ${5} C:\\x \\d"),
            ("A=\"-----BEGIN\nabc=\n-----END\"", "-----BEGIN\nabc=\n-----END"),
            ("A=a=b==", "a=b=="),
            ("A=postgres://u:pw@h/db?x=1\r", "postgres://u:pw@h/db?x=1"),
        ] {
            assert_eq!(values(&format!("# first\n\n{line}\n")), [("A".to_owned(), expected.to_owned())], "{line}");
            assert_eq!(values(line).len(), 1, "without a line feed: {line}");
        }
        assert_eq!(values("A=1\nB='2\n3'\nC=4").len(), 3);
    }

    #[test]
    fn every_mistake_is_at_its_line_and_the_others_count() {
        let text = "A=1\nhunter2\n1B=x\nC=\"open\nD=${A}\nE=\"x\" y\nA=2\nF=ok\n";
        let read = Dotenv::parse(text);
        let lines: Vec<(usize, &str)> = read
            .mistakes
            .iter()
            .map(|one| (text[..one.span.start].matches('\n').count() + 1, one.message.as_str()))
            .collect();
        let expected = [
            (2, "this line is not `NAME=value`"),
            (3, "this line is not `NAME=value`"),
            (4, "the value of `C` goes on after its closing quotation mark"),
            (7, "`A` is set twice"),
        ];
        assert_eq!(lines, expected);
        assert_eq!(read.entries.keys().collect::<Vec<_>>(), ["A", "F"]);
        let open = Dotenv::parse("A='x\nB=${C}\nC=\"$${D}\"");
        let messages: Vec<&str> = open.mistakes.iter().map(|one| one.message.as_str()).collect();
        assert_eq!(messages.len(), 3, "{messages:?}");
        assert!(messages[0].contains("no closing") && messages[1].contains("refers to another"), "{messages:?}");
    }

    #[test]
    fn only_names_are_shown() {
        let text = "# OLD=hunter1\nexport KEY=\"hunter2\nabc=\" # hünter3\nhunter4\n";
        let shown = Dotenv::parse(text).blank(text);
        assert_eq!(shown, "* ***********\n****** KEY*********\n***** * *×*****\n*******\n");
    }

    proptest! {
        #[test]
        fn any_text_is_read_to_its_end(text in "(A|B1|export|=|\"|'|\\\\|#|\\$\\{|\\}|ü| |\t|\r|\n){0,40}") {
            let read = Dotenv::parse(&text);
            prop_assert_eq!(read.blank(&text).len(), text.len());
            for span in read.entries.values().map(|one| &one.span).chain(read.mistakes.iter().map(|one| &one.span)) {
                prop_assert!(text.get(span.clone()).is_some());
            }
        }

        #[test]
        fn a_value_in_single_quotation_marks_is_kept(value in "[^']{0,20}") {
            prop_assert_eq!(values(&format!("A='{value}'")), [("A".to_owned(), value)]);
        }
    }
}
