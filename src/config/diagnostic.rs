//! How are the problems of a config folder shown: drawn with the lines they are about, or as JSON?

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde::Serialize;

use crate::mapping::MappingFile;
use crate::mapping::diagnostic::{Diagnostic, Severity, position};

/// Problems with the texts they point into. The texts of files that may hold secrets come in blanked.
#[derive(Debug, Clone, Default)]
pub struct Diagnostics {
    items: Vec<Diagnostic>,
    texts: BTreeMap<String, String>,
}

/// A problem in `--json` output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// `error` or `warning`.
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

    /// Takes over the problems and texts of `other`.
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
        self.has_errors() && self.items.iter().all(|problem| problem.missing || problem.severity == Severity::Warning)
    }

    /// How many there are of this severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.sorted().iter().filter(|diagnostic| diagnostic.severity == severity).count()
    }

    /// `3 errors, 1 warning`.
    pub fn counts(&self) -> String {
        let many = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
        let (errors, warnings) = (self.count(Severity::Error), self.count(Severity::Warning));
        match (errors, warnings) {
            (errors, 0) => many(errors, "error"),
            (0, warnings) => many(warnings, "warning"),
            _ => format!("{}, {}", many(errors, "error"), many(warnings, "warning")),
        }
    }

    /// All problems with the lines they are about, a blank line between them, counts last. Empty when there is none.
    pub fn render(&self, colour: bool) -> String {
        if self.items.is_empty() {
            return String::new();
        }
        let mut out = String::new();
        for diagnostic in self.sorted() {
            out.push_str(&render(diagnostic, self.texts.get(&diagnostic.file).map(String::as_str), colour));
            out.push_str("\n\n");
        }
        out.push_str(&self.counts());
        out.push('\n');
        out
    }

    /// All problems for `--json`.
    pub fn shown(&self) -> Vec<Shown> {
        self.sorted()
            .into_iter()
            .map(|diagnostic| {
                let text = self.texts.get(&diagnostic.file).filter(|_| !diagnostic.span.is_empty());
                let place = text.map(|text| position(text, diagnostic.span.start));
                Shown {
                    severity: diagnostic.severity,
                    message: diagnostic.message.clone(),
                    file: diagnostic.file.clone(),
                    line: place.map(|(line, _)| line),
                    column: place.map(|(_, column)| column),
                    path: diagnostic.path.clone(),
                    help: diagnostic.help.clone(),
                }
            })
            .collect()
    }
}

fn order(a: &Diagnostic, b: &Diagnostic) -> Ordering {
    let place = |diagnostic: &Diagnostic| (diagnostic.span.start, diagnostic.span.end);
    a.file
        .cmp(&b.file)
        .then_with(|| place(a).cmp(&place(b)))
        .then_with(|| a.severity.cmp(&b.severity))
        .then_with(|| a.message.cmp(&b.message))
        .then_with(|| a.help.cmp(&b.help))
}

/// One problem, drawn; `text` is the file's.
fn render(diagnostic: &Diagnostic, text: Option<&str>, colour: bool) -> String {
    // A tool reads the first line; keep the message on it whatever a parser put in.
    let message = one_line(&diagnostic.message);
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(message);
    let mut group = match text.filter(|_| !diagnostic.span.is_empty()) {
        Some(text) => {
            let annotation = AnnotationKind::Primary.span(on_one_line(text, &diagnostic.span));
            title.element(Snippet::source(text).path(diagnostic.file.as_str()).annotation(annotation))
        }
        None => title.element(Origin::path(diagnostic.file.as_str())),
    };
    for help in &diagnostic.help {
        group = group.element(Level::HELP.message(one_line(help)));
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

fn one_line(text: &str) -> String {
    text.split(['\n', '\r']).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The part of a span on its first line, at whole characters; the start of a section or of a long SQL text is found.
fn on_one_line(text: &str, span: &Range<usize>) -> Range<usize> {
    let whole = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let (start, end) = (whole(span.start), whole(span.end));
    let line = text[start..end].find(['\n', '\r']).map_or(end, |newline| start + newline);
    start..line.max(start)
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
    fn json_has_lines_and_columns() {
        let json = serde_json::to_string(&sample().shown()[1]).unwrap();
        insta::assert_snapshot!(json, @r#"{"severity":"error","message":"column `arr_cents` is DECIMAL(38,2); say how to send it","file":"mappings/accounts.toml","line":4,"column":7,"path":"traits.arr","help":["add `as = \"number\"` or `as = \"string\"`"]}"#);
    }
}
