//! The canonical layout of our TOML files: spaces, blank lines, quotes, alignment of comments.
//!
//! Only what lies between keys and values is rewritten, event by event of the parser, so values, comments and the order of
//! keys are what they were. Formatting twice is the same as once.

use toml_parser::decoder::Encoding;
use toml_parser::parser::{Event, EventKind, parse_document};
use toml_parser::{ParseError, Source};

/// Spaces for each level of a value of several lines.
const INDENT: usize = 2;
/// Least spaces before a comment at the end of a line.
const BEFORE_COMMENT: usize = 2;

/// The text in canonical layout; `None` when it is not valid TOML.
pub fn formatted(text: &str) -> Option<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let source = Source::new(text);
    let tokens = source.lex().into_vec();
    let (mut events, mut errors): (Vec<Event>, Vec<ParseError>) = (Vec::new(), Vec::new());
    parse_document(&tokens, &mut |event: Event| events.push(event), &mut errors);
    // Broken escapes and numbers are found where values are decoded.
    if !errors.is_empty() || toml::de::DeTable::parse(text).is_err() {
        return None;
    }
    let mut writer = Writer::default();
    for event in &events {
        let raw = text.get(event.span().start()..event.span().end()).unwrap_or_default();
        writer.event(event, raw);
    }
    writer.end_line();
    let lines = spaced(writer.lines);
    Some(joined(&lines))
}

/// A line of the result; a text of several lines within a value is one.
#[derive(Debug, Clone, Default, PartialEq)]
struct Line {
    /// Without what is around it.
    text: String,
    comment: Option<String>,
    indent: usize,
    /// Where its comment began, in characters.
    comment_column: usize,
    is_header: bool,
    /// Whether it is a part of a value of several lines.
    is_inside: bool,
}

impl Line {
    fn is_blank(&self) -> bool {
        self.text.is_empty() && self.comment.is_none()
    }

    fn is_comment(&self) -> bool {
        self.text.is_empty() && self.comment.is_some()
    }

    /// Characters of its last row.
    fn width(&self) -> usize {
        match self.text.rsplit_once('\n') {
            Some((_, last)) => last.chars().count(),
            None => self.indent + self.text.chars().count(),
        }
    }
}

#[derive(Default)]
struct Writer {
    lines: Vec<Line>,
    line: Line,
    /// Characters of the line as it was read.
    column: usize,
    /// Open arrays and inline tables.
    depth: usize,
    /// Whether a space belongs before what comes next on this line.
    space: bool,
    /// Whether this line's first comma went to a line above.
    comma_moved: bool,
    last: Option<EventKind>,
}

impl Writer {
    fn event(&mut self, event: &Event, raw: &str) {
        let kind = event.kind();
        match kind {
            EventKind::Whitespace => {
                self.column += raw.chars().count();
                return;
            }
            EventKind::Newline => {
                self.end_line();
                return;
            }
            EventKind::Comment => {
                self.line.comment = Some(raw.trim_end().to_owned());
                self.line.comment_column = self.column;
                return;
            }
            EventKind::StdTableOpen | EventKind::ArrayTableOpen => {
                self.line.is_header = true;
                self.put(raw);
            }
            EventKind::StdTableClose | EventKind::ArrayTableClose | EventKind::KeySep => self.put(raw),
            EventKind::KeyValSep => self.put(" = "),
            EventKind::SimpleKey => {
                self.open_space();
                self.put(&key(raw, event.encoding()));
            }
            EventKind::Scalar => {
                self.open_space();
                self.put(&scalar(raw, event.encoding()));
            }
            EventKind::ValueSep if self.line.text.is_empty() => {
                // At the start of a line: it belongs to the value above.
                self.end_last_value();
                self.comma_moved = true;
            }
            EventKind::ValueSep => {
                self.put(",");
                self.space = true;
            }
            EventKind::ArrayOpen | EventKind::InlineTableOpen => {
                self.open_space();
                self.put(raw);
                self.depth += 1;
                self.space = kind == EventKind::InlineTableOpen;
            }
            EventKind::ArrayClose | EventKind::InlineTableClose => self.close(kind, raw),
            EventKind::Error => {}
        }
        self.column = match raw.rsplit_once('\n') {
            Some((_, last)) => last.chars().count(),
            None => self.column + raw.chars().count(),
        };
        self.last = Some(kind);
    }

    fn close(&mut self, kind: EventKind, raw: &str) {
        self.depth = self.depth.saturating_sub(1);
        self.space = false;
        let is_empty = matches!(self.last, Some(EventKind::ArrayOpen | EventKind::InlineTableOpen));
        if self.line.text.is_empty() {
            // On a line of its own: the last element ends with a comma, as the others do.
            if !is_empty && self.last != Some(EventKind::ValueSep) && kind == EventKind::ArrayClose {
                self.end_last_value();
            }
        } else {
            if self.last == Some(EventKind::ValueSep) && self.line.text.ends_with(',') {
                self.line.text.pop();
            }
            if kind == EventKind::InlineTableClose && !is_empty {
                self.line.text.push(' ');
            }
        }
        self.put(raw);
    }

    /// Puts a comma after the value that a line above ends with.
    fn end_last_value(&mut self) {
        if let Some(last) = self.lines.iter_mut().rev().find(|line| !line.text.is_empty()) {
            last.text.push(',');
        }
    }

    fn put(&mut self, text: &str) {
        if self.line.text.is_empty() {
            self.line.indent = self.depth * INDENT;
            self.line.is_inside = self.depth > 0;
        }
        self.line.text.push_str(text);
    }

    fn open_space(&mut self) {
        if self.space && !self.line.text.is_empty() {
            self.line.text.push(' ');
        }
        self.space = false;
    }

    fn end_line(&mut self) {
        let mut line = std::mem::take(&mut self.line);
        if line.text.is_empty() {
            (line.indent, line.is_inside) = (self.depth * INDENT, self.depth > 0);
        }
        line.text.truncate(line.text.trim_end_matches(' ').len());
        // Of a line with nothing but a comma nothing is left.
        if !(std::mem::take(&mut self.comma_moved) && line.is_blank()) {
            self.lines.push(line);
        }
        self.column = 0;
    }
}

/// A key: without quotation marks where it needs none.
fn key(raw: &str, encoding: Option<Encoding>) -> String {
    let inner = || raw.get(1..raw.len().checked_sub(1)?);
    let is_bare =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    match (encoding, inner()) {
        (Some(Encoding::BasicString | Encoding::LiteralString), Some(inner)) if is_bare(inner) => inner.to_owned(),
        (Some(Encoding::LiteralString), _) => scalar(raw, encoding),
        _ => raw.to_owned(),
    }
}

/// A value: text in double quotation marks where nothing in it needs to be escaped for that.
fn scalar(raw: &str, encoding: Option<Encoding>) -> String {
    let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
    let is_plain = !inner.contains(['"', '\\']) && !inner.chars().any(char::is_control);
    match encoding {
        Some(Encoding::LiteralString) if is_plain => format!("\"{inner}\""),
        _ => raw.to_owned(),
    }
}

/// The lines with one blank line before each header and its comments, and never two in a row.
fn spaced(lines: Vec<Line>) -> Vec<Line> {
    let mut out: Vec<Line> = Vec::with_capacity(lines.len());
    for line in lines {
        let follows_nothing = out.last().is_none_or(Line::is_blank);
        if line.is_blank() && follows_nothing {
            continue;
        }
        if line.is_header {
            let comments = out.iter().rev().take_while(|line| line.is_comment() && !line.is_inside).count();
            let at = out.len() - comments;
            if at > 0 && out.get(at - 1).is_some_and(|before| !before.is_blank()) {
                out.insert(at, Line::default());
            }
        }
        out.push(line);
    }
    while out.last().is_some_and(Line::is_blank) {
        out.pop();
    }
    out
}

/// The lines as one text, the comments at their ends aligned within each block of lines.
fn joined(lines: &[Line]) -> String {
    let mut out = String::new();
    let is_block = |line: &Line| !line.text.is_empty() && !line.text.contains('\n');
    for block in lines.chunk_by(|left, right| is_block(left) && is_block(right) && left.is_inside == right.is_inside) {
        let commented = || block.iter().filter(|line| line.comment.is_some() && !line.text.is_empty());
        let widest = commented().map(Line::width).max().unwrap_or(0);
        // A column that fits already stays.
        let columns: Vec<usize> = commented().map(|line| line.comment_column).collect();
        let fits = |column: &&usize| columns.iter().all(|other| other == *column) && **column > widest;
        let column = columns.first().filter(fits).copied().unwrap_or(widest + BEFORE_COMMENT);
        for line in block {
            if !line.is_blank() {
                out.extend(std::iter::repeat_n(' ', line.indent));
            }
            out.push_str(&line.text);
            if let Some(comment) = &line.comment {
                let before = if line.text.is_empty() { 0 } else { column - line.width() };
                out.extend(std::iter::repeat_n(' ', before));
                out.push_str(comment);
            }
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spaces_quotes_and_blank_lines_become_canonical() {
        for (text, expected) in [
            ("", ""),
            ("\n\n", ""),
            ("a=1", "a = 1\n"),
            ("  a   =   'x'  \r\n", "a = \"x\"\n"),
            ("a = 'say \"hi\"'\nb = 'C:\\x'", "a = 'say \"hi\"'\nb = 'C:\\x'\n"),
            ("\"a\" . 'b c' = 1", "a.\"b c\" = 1\n"),
            ("a=[1,2 , 3,]\nb={x=1,y = { z=[ ] }}\nc = { }", "a = [1, 2, 3]\nb = { x = 1, y = { z = [] } }\nc = {}\n"),
            ("a=1\n[ b ]\nc=2\n\n\n\n[[ d.e ]]\n", "a = 1\n\n[b]\nc = 2\n\n[[d.e]]\n"),
            ("a = 1\n# about b\n# more\n[b]\n", "a = 1\n\n# about b\n# more\n[b]\n"),
            ("# top\n\n# about b\n[b]\n", "# top\n\n# about b\n[b]\n"),
            (
                "rows=[\n{a=1},\n      {a=2} # two\n# last\n]",
                "rows = [\n  { a = 1 },\n  { a = 2 },  # two\n  # last\n]\n",
            ),
            ("a = [1\n,2\n,\n3 # x\n,]", "a = [1,\n  2,\n  3,  # x\n]\n"),
            ("a = [ # first\n1, 2,\n]", "a = [ # first\n  1, 2,\n]\n"),
            ("a = 1 # x\nlonger = 2# y\n\nb = 3     # z", "a = 1       # x\nlonger = 2  # y\n\nb = 3     # z\n"),
            ("a = 1      # x\nlonger = 2 # y", "a = 1      # x\nlonger = 2 # y\n"),
            ("a = '''\n x  \n\n\n y'''   # end", "a = '''\n x  \n\n\n y'''   # end\n"),
            ("\u{feff}#:schema ./x.json  \na = 1", "#:schema ./x.json\na = 1\n"),
        ] {
            assert_eq!(formatted(text).as_deref(), Some(expected), "{text:?}");
            assert_eq!(formatted(expected).as_deref(), Some(expected), "again: {text:?}");
        }
        for broken in ["a = ", "[a", "a = 1\na = 2", "a = \"\\q\""] {
            assert_eq!(formatted(broken), None, "{broken}");
        }
    }

    /// A value in TOML with any spaces, comments and line breaks that TOML allows there.
    fn value() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            "-?[1-9][0-9]{0,5}",
            "[0-9]\\.[0-9]{1,3}",
            Just("true".to_owned()),
            Just("2026-01-02T03:04:05Z".to_owned()),
            "[a-zé#,= ]{0,6}".prop_map(|text| format!("'{text}'")),
            "[a-z#\\[\\]{}' ]{0,6}".prop_map(|text| format!("\"{text}\"")),
            "[a-z\" \n]{0,8}".prop_map(|text| format!("'''\n{text}'''")),
            Just("\"a\\tb\\\"c\"".to_owned()),
        ];
        let space = || prop_oneof![Just(""), Just(" "), Just("\t"), Just("\n"), Just(" # c\n"), Just("\n\n\n  ")];
        leaf.prop_recursive(3, 16, 4, move |inner| {
            let items = prop::collection::vec((inner.clone(), space(), space()), 0..4);
            let members = prop::collection::vec((inner, "[a-c]", "[ ]{0,2}"), 0..3);
            prop_oneof![
                (items, space(), any::<bool>()).prop_map(|(items, end, comma)| {
                    let count = items.len();
                    let one = |(n, (item, before, after)): (usize, (String, &str, &str))| {
                        let comma = if n + 1 < count || comma { "," } else { "" };
                        format!("{before}{item}{after}{comma}")
                    };
                    format!("[{}{end}]", items.into_iter().enumerate().map(one).collect::<String>())
                }),
                members.prop_map(|members| {
                    let one = |(n, (value, key, space)): (usize, (String, String, String))| {
                        format!("{space}{key}{n}{space}={space}{value}")
                    };
                    format!("{{{}}}", members.into_iter().enumerate().map(one).collect::<Vec<_>>().join(","))
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_value_changes_and_twice_is_the_same_as_once(
            lines in prop::collection::vec((value(), "[a-c]", "( |\t|\n|# x\n){0,3}", any::<bool>(), "( {0,3}#.{0,4})?"), 0..8)
        ) {
            let mut text = String::new();
            for (n, (value, key, before, header, comment)) in lines.iter().enumerate() {
                text.push_str(before);
                if *header {
                    text.push_str(&format!("\n[ t{n} . {key} ]{comment}\n"));
                }
                text.push_str(&format!("\n{key}{n}  ={value}{comment}\n"));
            }
            let before = toml::from_str::<toml::Table>(&text);
            prop_assume!(before.is_ok());
            let once = formatted(&text).unwrap();
            prop_assert_eq!(toml::from_str::<toml::Table>(&once).unwrap(), before.unwrap(), "{}", once);
            prop_assert_eq!(formatted(&once).unwrap(), once.clone());
            for comment in text.lines().filter_map(|line| line.trim_start().strip_prefix("# x")) {
                prop_assert!(comment.is_empty() && once.contains("# x"));
            }
        }
    }
}
