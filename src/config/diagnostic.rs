//! Diagnostics of a config folder: drawn with the lines they are about, or as JSON.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use crate::format::{one_line, thousands};
use crate::mapping::MappingFile;
use crate::mapping::diagnostic::{Diagnostic, Excerpt, Problem, Severity};
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

/// The most problems that are drawn. With more than that, the user corrects some of these first.
const DRAWN_MAX: usize = 100;
/// Longest line that is drawn. A longer one was generated, and a terminal shows only a hundred characters of it.
const LINE_BYTES_MAX: usize = 10_000;
/// Longest file, in lines, of which problems from elsewhere are drawn with their lines: a text of that many empty lines takes
/// a megabyte.
const LINES_MAX: usize = 1_000_000;

/// Problems with the texts they point into. The texts of files that may hold secrets come in blanked.
#[derive(Debug, Clone, Default)]
pub struct Diagnostics {
    items: Vec<Diagnostic>,
    texts: BTreeMap<String, String>,
}

impl Diagnostics {
    /// None yet.
    pub fn new() -> Diagnostics {
        Diagnostics::default()
    }

    /// Problems about mapping files that were read without errors.
    pub fn about(files: &[MappingFile], items: Vec<Diagnostic>) -> Diagnostics {
        let mut all = Diagnostics::new();
        for file in files {
            all.add_text(&file.mapping.file, &file.text);
        }
        all.extend(items);
        all
    }

    /// Gives the text behind a file's name. It is shown to people: blank secrets first.
    pub fn add_text(&mut self, file: &str, text: &str) {
        self.texts.insert(file.to_owned(), text.to_owned());
    }

    /// Adds a problem.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.items.push(diagnostic);
    }

    /// Adds problems.
    pub fn extend(&mut self, diagnostics: impl IntoIterator<Item = Diagnostic>) {
        self.items.extend(diagnostics);
    }

    /// Adds the problems and texts of `other`.
    pub fn append(&mut self, other: Diagnostics) {
        self.items.extend(other.items);
        self.texts.extend(other.texts);
    }

    /// The problems by file and position.
    pub fn sorted(&self) -> Vec<&Diagnostic> {
        let mut items: Vec<&Diagnostic> = self.items.iter().collect();
        items.sort_by(|a, b| order(a, b));
        items.dedup();
        items
    }

    /// The files that one of the errors is about.
    pub fn files_with_errors(&self) -> BTreeSet<&str> {
        let errors = self.items.iter().filter(|problem| problem.severity == Severity::Error);
        errors.map(|problem| problem.file.as_str()).collect()
    }

    /// Those about one file.
    pub fn of_file(&self, file: &str) -> Diagnostics {
        let items = self.items.iter().filter(|problem| problem.file == file).cloned().collect();
        Diagnostics { items, texts: self.texts.clone() }
    }

    /// The warnings alone.
    pub fn warnings(&self) -> Diagnostics {
        let items = self.items.iter().filter(|problem| problem.severity == Severity::Warning).cloned().collect();
        Diagnostics { items, texts: self.texts.clone() }
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether one of them is an error.
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// Whether every error is about something that was not found at the source, and there is one.
    pub fn all_missing(&self) -> bool {
        self.has_errors() && self.items.iter().all(|problem| problem.missing || problem.severity != Severity::Error)
    }

    /// How many there are of this severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.sorted().iter().filter(|diagnostic| diagnostic.severity == severity).count()
    }

    /// `3 errors, 1 warning`.
    pub fn counts(&self) -> String {
        counts(&self.sorted())
    }

    /// The problems with the lines they are about, a blank line between them, counts last. Empty without
    /// problems. Of very many, the first errors are drawn, and how many more there are.
    pub fn render(&self, colour: bool) -> String {
        if self.items.is_empty() {
            return String::new();
        }
        let mut out = String::new();
        let all = self.sorted();
        let mut drawn = all.clone();
        if drawn.len() > DRAWN_MAX {
            // Keeps the order within each.
            drawn.sort_by_key(|diagnostic| diagnostic.severity);
            drawn.truncate(DRAWN_MAX);
        }
        let mut places = Places::default();
        for diagnostic in drawn {
            let place = places.of(diagnostic, &self.texts);
            out.push_str(&render(diagnostic, place, colour));
            out.push_str("\n\n");
        }
        if all.len() > DRAWN_MAX {
            let more = thousands((all.len() - DRAWN_MAX) as u64);
            out.push_str(&format!("… and {more} more; `groupcast check --json` lists them all\n\n"));
        }
        out.push_str(&counts(&all));
        out.push('\n');
        out
    }

    /// All problems for `--json`.
    pub fn shown(&self) -> Vec<Problem> {
        let problems = self.problems().into_iter();
        problems.map(|problem| Problem { excerpt: None, ..problem }).collect()
    }

    /// All problems with the lines they are about, for who does not have the files: [`Diagnostics::from`] reads them back.
    pub fn problems(&self) -> Vec<Problem> {
        let mut places = Places::default();
        let problem = |diagnostic| {
            let place = places.of(diagnostic, &self.texts);
            Problem {
                severity: diagnostic.severity,
                message: diagnostic.message.clone(),
                file: diagnostic.file.clone(),
                line: place.map(|place| place.line),
                column: place.map(|place| place.column),
                path: diagnostic.path.clone(),
                help: diagnostic.help.clone(),
                excerpt: place.and_then(|place| place.excerpt(diagnostic)),
            }
        };
        self.sorted().into_iter().map(problem).collect()
    }
}

impl From<Vec<Problem>> for Diagnostics {
    /// The texts hold the problems' lines; all others are empty.
    fn from(problems: Vec<Problem>) -> Diagnostics {
        // A line that is too long to be drawn came without its text, and stays too long.
        let text = |problem: &Problem| match &problem.excerpt {
            Some(excerpt) => excerpt.text.clone(),
            None => " ".repeat(LINE_BYTES_MAX + 1),
        };
        let mut lines: BTreeMap<&str, BTreeMap<usize, String>> = BTreeMap::new();
        for problem in &problems {
            if let Some(line) = problem.line.filter(|line| (1..=LINES_MAX).contains(line)) {
                lines.entry(&problem.file).or_default().entry(line).or_insert_with(|| text(problem));
            }
        }
        let mut all = Diagnostics::new();
        let mut starts: BTreeMap<(&str, usize), usize> = BTreeMap::new();
        for (file, lines) in lines {
            let (mut text, mut next) = (String::new(), 1);
            for (line, excerpt) in lines {
                text.push_str(&"\n".repeat(line - next));
                starts.insert((file, line), text.len());
                text.push_str(&excerpt);
                text.push('\n');
                next = line + 1;
            }
            all.texts.insert(file.to_owned(), text);
        }
        all.items = problems.iter().map(|problem| diagnostic(problem, &starts)).collect();
        all
    }
}

/// A problem at its place in a text where lines start so.
fn diagnostic(problem: &Problem, starts: &BTreeMap<(&str, usize), usize>) -> Diagnostic {
    let start = problem.line.and_then(|line| starts.get(&(problem.file.as_str(), line)));
    let span = start.map_or(0..0, |start| {
        let (from, to) = match (&problem.excerpt, problem.column) {
            (Some(excerpt), _) => (excerpt.start.min(excerpt.text.len()), excerpt.end.min(excerpt.text.len())),
            (None, column) => (column.unwrap_or(1).clamp(1, LINE_BYTES_MAX) - 1, 0),
        };
        // The line's end is beyond its text. An empty span would be about the file as a whole.
        start + from..start + to.max(from + 1)
    });
    Diagnostic {
        severity: problem.severity,
        message: problem.message.clone(),
        file: problem.file.clone(),
        span,
        path: problem.path.clone(),
        help: problem.help.clone(),
        missing: false,
    }
}

/// By file and place. The end comes last: of a problem that came from elsewhere it is known on its first line only.
fn order(a: &Diagnostic, b: &Diagnostic) -> Ordering {
    a.file
        .cmp(&b.file)
        .then_with(|| a.span.start.cmp(&b.span.start))
        .then_with(|| a.severity.cmp(&b.severity))
        .then_with(|| a.message.cmp(&b.message))
        .then_with(|| a.help.cmp(&b.help))
        .then_with(|| a.span.end.cmp(&b.span.end))
}

/// Where in its file's text a problem is.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    text: &'a str,
    /// The byte at which the span begins, at a whole character.
    offset: usize,
    /// Where its line begins.
    line_start: usize,
    /// From 1.
    line: usize,
    /// In characters, from 1.
    column: usize,
}

impl Place<'_> {
    /// The line with the part of a problem's span that is on it; none when the line is too long to be drawn. The start of a
    /// section or of a long SQL text is found.
    fn excerpt(&self, diagnostic: &Diagnostic) -> Option<Excerpt> {
        let rest = &self.text[self.line_start..];
        // No further than what is drawn: a hundred thousand problems may be on one line.
        let length = match rest.bytes().take(LINE_BYTES_MAX + 1).position(|byte| matches!(byte, b'\n' | b'\r')) {
            Some(length) => length,
            None if rest.len() <= LINE_BYTES_MAX => rest.len(),
            None => return None,
        };
        let line = &rest[..length];
        let start = (self.offset - self.line_start).min(line.len());
        let end = whole(self.text, diagnostic.span.end).saturating_sub(self.line_start).clamp(start, line.len());
        Some(Excerpt { text: line.to_owned(), start, end })
    }
}

/// Finds the places of problems that come in order, looking at each file once.
#[derive(Default)]
struct Places<'a> {
    last: Option<(&'a str, Place<'a>)>,
}

impl<'a> Places<'a> {
    /// Where a problem is; none when it is about its file as a whole.
    fn of(&mut self, diagnostic: &'a Diagnostic, texts: &'a BTreeMap<String, String>) -> Option<Place<'a>> {
        let text = texts.get(&diagnostic.file).filter(|_| !diagnostic.span.is_empty())?;
        let offset = whole(text, diagnostic.span.start);
        let start = Place { text, offset: 0, line_start: 0, line: 1, column: 1 };
        let last = self.last.filter(|(file, place)| *file == diagnostic.file && place.offset <= offset);
        let mut place = last.map_or(start, |(_, place)| place);
        let between = &text[place.offset..offset];
        match between.rfind('\n') {
            None => place.column += between.chars().count(),
            Some(newline) => {
                place.line += between.bytes().filter(|byte| *byte == b'\n').count();
                place.line_start = place.offset + newline + 1;
                place.column = 1 + text[place.line_start..offset].chars().count();
            }
        }
        place.offset = offset;
        self.last = Some((&diagnostic.file, place));
        Some(place)
    }
}

fn counts(all: &[&Diagnostic]) -> String {
    let many = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let of = |severity| all.iter().filter(|diagnostic| diagnostic.severity == severity).count();
    match (of(Severity::Error), of(Severity::Warning)) {
        (0, 0) => many(of(Severity::Note), "note"),
        (errors, 0) => many(errors, "error"),
        (0, warnings) => many(warnings, "warning"),
        (errors, warnings) => format!("{}, {}", many(errors, "error"), many(warnings, "warning")),
    }
}

/// One problem, drawn with its line.
fn render(diagnostic: &Diagnostic, place: Option<Place<'_>>, colour: bool) -> String {
    // A tool reads the first line; keep the message on it whatever a parser or a file's name put in.
    let (message, file) = (on_one_line(&diagnostic.message), one_line(&diagnostic.file));
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    let title = level.primary_title(message);
    let excerpt = place.and_then(|place| place.excerpt(diagnostic));
    let mut group = match (place, &excerpt) {
        (Some(place), Some(Excerpt { text, start, end })) => {
            let annotation = AnnotationKind::Primary.span(*start..*end);
            title.element(Snippet::source(text).line_start(place.line).path(&*file).annotation(annotation))
        }
        (Some(place), None) => title.element(Origin::path(&*file).line(place.line).char_column(place.column)),
        (None, _) => title.element(Origin::path(&*file)),
    };
    for help in &diagnostic.help {
        group = group.element(Level::HELP.message(on_one_line(help)));
    }
    let groups: [Group<'_>; 1] = [group];
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let drawn = renderer.render(&groups);
    if diagnostic.path.is_empty() {
        return drawn;
    }
    // The key's path follows the place: it is the same key wherever the file's lines move to.
    let mut lines: Vec<String> = drawn.lines().map(str::to_owned).collect();
    if let Some(place) = lines.iter_mut().find(|line| line.contains("--> ")) {
        place.push_str("  ");
        place.push_str(&one_line(&diagnostic.path));
    }
    lines.join("\n")
}

/// A message on one line; what a parser put on several lines follows each other.
fn on_one_line(text: &str) -> String {
    let lines = text.split(['\n', '\r']).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    one_line(&lines).into_owned()
}

/// The next byte before `at` at which a character begins.
fn whole(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::At;

    const TEXT: &str =
        "source = \"warehouse\"\n\n[traits]\narr = { column = \"arr_cents\" }\nlong = '''\nselect 1\n'''\n";

    fn sample() -> Diagnostics {
        let mut all = Diagnostics::new();
        all.add_text("mappings/accounts.toml", TEXT);
        let span = TEXT.find("{ column").unwrap()..TEXT.find(" }\n").unwrap() + 2;
        let arr = At { span, path: "traits.arr".to_owned() };
        let file = "mappings/accounts.toml";
        all.push(
            Diagnostic::error(file, &arr, "column `arr_cents` is DECIMAL(38,2); say how to send it")
                .help("add `as = \"number\"` or `as = \"string\"`"),
        );
        let start = TEXT.find("'''").unwrap();
        let long = At { span: start..TEXT.len() - 1, path: "traits.long".to_owned() };
        all.push(Diagnostic::warning(file, &long, "two\nlines").help("one").help("two"));
        all.push(Diagnostic::error("groupcast.toml", &At::default(), "no such file").help("run `groupcast init`"));
        all
    }

    #[test]
    fn problems_are_drawn_in_order_with_their_lines_and_counted() {
        insta::assert_snapshot!(sample().render(false), @r#"
        error: no such file
        --> groupcast.toml
         = help: run `groupcast init`

        error: column `arr_cents` is DECIMAL(38,2); say how to send it
         --> mappings/accounts.toml:4:7  traits.arr
          |
        4 | arr = { column = "arr_cents" }
          |       ^^^^^^^^^^^^^^^^^^^^^^^^
          |
          = help: add `as = "number"` or `as = "string"`

        warning: two lines
         --> mappings/accounts.toml:5:8  traits.long
          |
        5 | long = '''
          |        ^^^
          |
          = help: one
          = help: two

        2 errors, 1 warning
        "#);
    }

    #[test]
    fn problems_that_travelled_as_json_are_drawn_as_at_home() {
        let mut all = sample();
        let long = format!("# {}\r\nx = 1\r\n", "ü".repeat(LINE_BYTES_MAX));
        all.add_text("mappings/long.toml", &long);
        for (span, message) in [(2..6, "too long"), (long.len() - 7..long.len() - 4, "returns"), (2..long.len(), "all")]
        {
            all.push(Diagnostic::error("mappings/long.toml", &At { span, path: "x".to_owned() }, message));
        }
        // At the end of a line, about which nothing is left to underline.
        let end = TEXT.find('\n').unwrap();
        let at = At { span: end..end + 1, path: String::new() };
        all.push(Diagnostic::note("mappings/accounts.toml", &at, "ends here"));
        let json = serde_json::to_string(&all.problems()).unwrap();
        let travelled = Diagnostics::from(serde_json::from_str::<Vec<Problem>>(&json).unwrap());
        assert_eq!(travelled.render(false), all.render(false));
        assert_eq!(travelled.problems(), all.problems());
        assert_eq!(travelled.counts(), all.counts());
    }

    #[test]
    fn problems_from_elsewhere_may_be_anything() {
        let mut problem = sample().problems().pop().unwrap();
        for (line, column, start, end) in [(0, 0, 9, 3), (usize::MAX, usize::MAX, usize::MAX, 0), (3, 1, 1, usize::MAX)]
        {
            (problem.line, problem.column) = (Some(line), Some(column));
            for text in ["", "ü = 1", "two\nlines\r"] {
                problem.excerpt = Some(Excerpt { text: text.to_owned(), start, end });
                let drawn = Diagnostics::from(vec![problem.clone()]).render(false);
                assert!(drawn.starts_with("warning: two lines\n"), "{drawn}");
            }
            problem.excerpt = None;
            Diagnostics::from(vec![problem.clone()]).render(false);
        }
    }

    #[test]
    fn colour_only_adds_escapes() {
        let drawn = sample().render(true);
        assert!(drawn.contains("\u{1b}["));
        let mut plain = String::new();
        let mut rest = drawn.as_str();
        while let Some(at) = rest.find("\u{1b}[") {
            plain.push_str(&rest[..at]);
            rest = &rest[at..];
            rest = &rest[rest.find('m').unwrap() + 1..];
        }
        plain.push_str(rest);
        assert_eq!(plain, sample().render(false));
    }

    #[test]
    fn a_hundred_thousand_problems_take_a_moment_and_a_page() {
        // On lines of their own, and all on one line.
        for separator in ["\n", " "] {
            let mut all = Diagnostics::new();
            let text = (0..100_000).fold(String::new(), |text, n| text + &format!("ü{n:05} = 1{separator}"));
            all.add_text("mappings/a.toml", &text);
            for n in 0..100_000 {
                let start = n * (text.len() / 100_000);
                let at = At { span: start..start + 7, path: format!("traits.{n}") };
                all.push(Diagnostic::warning("mappings/a.toml", &at, "mistake"));
            }
            let at = At { span: text.len() - 5..text.len() - 1, path: String::new() };
            all.push(Diagnostic::error("mappings/a.toml", &at, "the only error"));
            let drawn = all.render(false);
            assert!(drawn.starts_with("error: the only error"), "errors come first where not all are drawn");
            let end = "… and 99,901 more; `groupcast check --json` lists them all\n\n1 error, 100000 warnings\n";
            assert!(drawn.ends_with(end), "{}", &drawn[drawn.len() - 200..]);
            assert!(drawn.len() < 100_000, "{}", drawn.len());
            let shown = all.shown();
            assert_eq!(shown.len(), 100_001);
            let last = &shown[99_999];
            let expected = if separator == "\n" { (100_000, 1) } else { (1, 99_999 * 11 + 1) };
            assert_eq!((last.line.unwrap(), last.column.unwrap()), expected);
        }
    }

    #[test]
    fn a_file_with_a_hostile_name_stays_on_its_line() {
        let mut all = Diagnostics::new();
        let file = "mappings/a\nb\u{1b}[2J\u{202e}.toml";
        all.add_text(file, TEXT);
        let at = At { span: 0..6, path: "x\u{200b}y".to_owned() };
        all.push(Diagnostic::error(file, &at, "bad\u{1b}]0;t\u{7}").help("one\u{2028}two"));
        all.push(Diagnostic::error(file, &At::default(), "a sync is named after its file"));
        let drawn = all.render(false);
        assert!(!drawn.contains(|char| char != '\n' && crate::format::is_unsafe(char)), "{drawn:?}");
        assert!(drawn.contains("--> mappings/a\\nb\\u{1b}[2J\\u{202e}.toml:1:1  x\\u{200b}y\n"), "{drawn}");
        assert!(drawn.contains("error: bad\\u{1b}]0;t\\u{7}\n") && drawn.contains("help: one\\u{2028}two"), "{drawn}");
    }

    #[test]
    fn json_has_lines_and_columns() {
        let json = serde_json::to_string(&sample().shown()[1]).unwrap();
        insta::assert_snapshot!(json, @r#"{"severity":"error","message":"column `arr_cents` is DECIMAL(38,2); say how to send it","file":"mappings/accounts.toml","line":4,"column":7,"path":"traits.arr","help":["add `as = \"number\"` or `as = \"string\"`"]}"#);
    }
}
