//! Test files: rows that a mapping is given, and what must become of them. `mappings/accounts.test.toml` tests
//! `mappings/accounts.toml`.
//!
//! [`parse`] reads one and reports all of its mistakes at once. It does not know the mapping: whether a column or a trait
//! exists is found out where the test runs.

mod given;
mod written;

use std::ops::Range;

use chrono::{DateTime, Utc};
use serde_json::Value;
use toml::Spanned;
use toml::de::DeValue;

use super::diagnostic::{At, Diagnostic, Severity};
use super::reader::{self, Entry, Report, Section, shown, sql_text};

pub use given::{Given, GivenCell, GivenRow};
pub use written::{Written, pointer};

/// What the name of a test file ends in.
pub const SUFFIX: &str = ".test.toml";

pub(crate) const TOP: [&str; 4] = ["now", "columns", "duckdb", "tests"];
pub(crate) const DUCKDB: [&str; 2] = ["where", "traits"];
pub(crate) const TEST: [&str; 4] = ["name", "rows", "before", "expect"];
pub(crate) const EXPECT: [&str; 6] = ["documents", "traits", "changes", "requests", "rejected", "guard"];
pub(crate) const CHANGE: [&str; 8] = ["set", "set_once", "add", "append", "prepend", "unset", "repeated", "delete"];
pub(crate) const REQUEST: [&str; 3] = ["method", "path", "body"];

/// When the runs of tests take place, unless the file sets a time: requests carry it.
const NOW: &str = "2026-01-01T00:00:00Z";

/// A file of tests.
#[derive(Debug, Clone, PartialEq)]
pub struct TestFile {
    /// As it is shown.
    pub file: String,
    /// Its text, without a byte order mark; spans count its bytes.
    pub text: String,
    /// What time it is in the tests.
    pub now: DateTime<Utc>,
    /// The types of the rows' columns, in DuckDB's notation.
    pub columns: Vec<ColumnType>,
    /// The condition of the model in DuckDB's dialect.
    pub filter: Option<String>,
    /// SQL of traits in DuckDB's dialect, by the trait's path (`address.city`).
    pub traits: Vec<TraitSql>,
    /// The tests.
    pub tests: Vec<MappingTest>,
}

/// A column with its type.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnType {
    /// Its name.
    pub name: String,
    /// Its type as written.
    pub declared: String,
    /// Where the type is written.
    pub at: At,
}

/// A trait's SQL in DuckDB's dialect.
#[derive(Debug, Clone, PartialEq)]
pub struct TraitSql {
    /// `mrr`, `address.city`.
    pub path: String,
    /// The expression.
    pub sql: String,
    /// Where the trait is named.
    pub at: At,
}

/// One test.
#[derive(Debug, Clone, PartialEq)]
pub struct MappingTest {
    /// Its name.
    pub name: String,
    /// Where its name is.
    pub at: At,
    /// The rows of the model.
    pub rows: Rows,
    /// The synced documents before the run, by group.
    pub before: Vec<(String, serde_json::Map<String, Value>)>,
    /// What must come out, by kind; without a kind, it is not compared.
    pub expect: Written,
    /// Where it is written: the test's name where it is missing.
    pub expect_at: Range<usize>,
}

/// The rows of a test.
#[derive(Debug, Clone, PartialEq)]
pub enum Rows {
    /// In the file itself.
    Given(Vec<GivenRow>),
    /// In another file, CSV or JSON, whose path starts at the test file's folder.
    File {
        /// The path as written.
        path: String,
        /// Where it is written.
        at: At,
    },
}

/// Reads the test file `text`, called `file` in messages. The tests are there exactly when no diagnostic is an error.
pub fn parse(file: &str, text: &str) -> (Option<TestFile>, Vec<Diagnostic>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (table, mut report) = reader::parse(file, text);
    report.belongs = belongs;
    let root = Section::root(table.get_ref());
    let read = test_file(file, text, &root, &mut report);
    let (found, _) = report.into_found();
    let failed = found.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
    (read.filter(|_| !failed), found)
}

/// Where a key belongs that is right elsewhere in a test file.
fn belongs(key: &str) -> Option<String> {
    if EXPECT.contains(&key) {
        Some(format!("what a test expects is in its `expect`: `expect.{key} = …`"))
    } else if TEST.contains(&key) {
        Some(format!("`{key}` belongs to a test, below a line `[[tests]]`"))
    } else if TOP.contains(&key) {
        Some(format!("`{key}` belongs at the top, above the first `[[tests]]`"))
    } else {
        None
    }
}

fn test_file(file: &str, text: &str, root: &Section<'_>, report: &mut Report<'_>) -> Option<TestFile> {
    root.expect_keys(&TOP, report);
    let standard: Option<DateTime<Utc>> = NOW.parse().ok();
    let now = match root.get("now") {
        None => standard,
        Some(entry) => now(&entry, report),
    };
    let columns = root.get("columns").and_then(|entry| entry.section(report)).map_or(Vec::new(), |section| {
        let column = |entry: &Entry<'_>| {
            let declared = entry.text(report)?.trim().to_owned();
            Some(ColumnType { name: entry.key.to_owned(), declared, at: entry.at.clone() })
        };
        section.entries().iter().filter_map(column).collect()
    });
    let (mut filter, mut traits) = (None, Vec::new());
    if let Some(section) = root.get("duckdb").and_then(|entry| entry.section(report)) {
        section.expect_keys(&DUCKDB, report);
        filter = section.get("where").and_then(|entry| sql_text(&entry, report));
        if let Some(section) = section.get("traits").and_then(|entry| entry.section(report)) {
            trait_sql(&section, "", &mut traits, report);
        }
    }
    let tests = match root.get("tests") {
        None => {
            let missing = report.error(&At::default(), "the file has no tests");
            report
                .push_missing("tests", missing.help("add one: `[[tests]]`, then `name = \"…\"` and `rows = [{ … }]`"));
            Vec::new()
        }
        Some(entry) => tests(&entry, report),
    };
    Some(TestFile { file: file.to_owned(), text: text.to_owned(), now: now?, columns, filter, traits, tests })
}

/// A point in time with its zone.
fn now(entry: &Entry<'_>, report: &mut Report<'_>) -> Option<DateTime<Utc>> {
    let text = match entry.value {
        DeValue::Datetime(moment) => moment.to_string(),
        DeValue::String(text) => text.to_string(),
        _ => String::new(),
    };
    let read = DateTime::parse_from_rfc3339(&text).ok().map(|moment| moment.to_utc());
    if read.is_none() {
        let error = report.error(&entry.at, "`now` must be a time with its zone");
        report.push(error.help(format!("write it like `now = {NOW}`")));
    }
    read
}

/// The expressions of a table of traits and of the objects in it.
fn trait_sql(section: &Section<'_>, above: &str, out: &mut Vec<TraitSql>, report: &mut Report<'_>) {
    for entry in section.entries() {
        let path = if above.is_empty() { entry.key.to_owned() } else { format!("{above}.{}", entry.key) };
        if let DeValue::Table(table) = entry.value {
            trait_sql(&Section { table, at: entry.at.clone() }, &path, out, report);
        } else if let Some(sql) = sql_text(&entry, report) {
            out.push(TraitSql { path, sql, at: entry.key_at.clone() });
        }
    }
}

fn tests(entry: &Entry<'_>, report: &mut Report<'_>) -> Vec<MappingTest> {
    let DeValue::Array(items) = entry.value else {
        let error = report.error(&entry.at, "`tests` must be a list of tables");
        report.push(error.help("begin each test with a line `[[tests]]`, in double brackets"));
        return Vec::new();
    };
    let mut tests: Vec<MappingTest> = Vec::new();
    for (n, item) in items.iter().enumerate() {
        let Some(test) = test(n, item, report) else { continue };
        if tests.iter().any(|other| other.name == test.name) {
            let error = report.error(&test.at, format!("two tests are called `{}`", shown(&test.name)));
            report.push(error.help("give each test a name of its own"));
        }
        tests.push(test);
    }
    tests
}

fn test(n: usize, item: &Spanned<DeValue<'_>>, report: &mut Report<'_>) -> Option<MappingTest> {
    let at = At { span: item.span(), path: format!("tests[{n}]") };
    let DeValue::Table(table) = item.get_ref() else {
        report.push(report.error(&at, "a test must be a table"));
        return None;
    };
    let section = Section { table, at: at.clone() };
    section.expect_keys(&TEST, report);
    let name = match section.get("name") {
        Some(entry) => entry.name(report).map(|name| (name, entry.at.clone())),
        None => {
            let missing = report.error(&at, "the test has no name");
            report.push_missing(&format!("tests[{n}].name"), missing.help("say what it shows: `name = \"…\"`"));
            None
        }
    };
    let rows = match section.get("rows") {
        None => Some(Rows::Given(Vec::new())),
        Some(entry) => rows(&entry, report),
    };
    let before = section.get("before").and_then(|entry| entry.section(report)).map_or(Vec::new(), |section| {
        let group = |entry: &Entry<'_>| {
            let written = Written::read(entry, report)?;
            match written.value {
                Value::Object(traits) => Some((entry.key.to_owned(), traits)),
                _ => {
                    entry.mistyped("a table of traits", report);
                    None
                }
            }
        };
        section.entries().iter().filter_map(group).collect()
    });
    let expect_at = section.get("expect").map(|entry| entry.key_at.span.clone());
    let expect = match section.get("expect") {
        None => Some(Written::default()),
        Some(entry) => expectations(&entry, report),
    };
    let ((name, name_at), expect) = (name?, expect?);
    let expect_at = expect_at.unwrap_or_else(|| name_at.span.clone());
    Some(MappingTest { name, at: name_at, rows: rows?, before, expect, expect_at })
}

fn rows(entry: &Entry<'_>, report: &mut Report<'_>) -> Option<Rows> {
    match entry.value {
        DeValue::String(_) => Some(Rows::File { path: entry.text(report)?.to_owned(), at: entry.at.clone() }),
        DeValue::Array(items) => {
            let row = |(n, item): (usize, &Spanned<DeValue<'_>>)| given::row(n, item, &entry.at.path, report);
            Some(Rows::Given(items.iter().enumerate().filter_map(row).collect()))
        }
        _ => {
            entry.mistyped("a list of rows, or the path of a CSV or JSON file", report);
            None
        }
    }
}

/// What a test expects, each kind of the type it has.
fn expectations(entry: &Entry<'_>, report: &mut Report<'_>) -> Option<Written> {
    let section = entry.section(report)?;
    section.expect_keys(&EXPECT, report);
    let mut sound = true;
    for kind in section.entries() {
        match (kind.key, kind.value) {
            ("documents" | "traits" | "changes", DeValue::Table(groups)) => {
                let groups = Section { table: groups, at: kind.at.clone() };
                for group in groups.entries() {
                    let is_table = matches!(group.value, DeValue::Table(_));
                    if !is_table {
                        group.mistyped("a table", report);
                    }
                    sound &= is_table;
                    if let (true, "changes") = (is_table, kind.key) {
                        group.section(report)?.expect_keys(&CHANGE, report);
                    }
                }
            }
            ("rejected", DeValue::Table(groups)) => {
                let groups = Section { table: groups, at: kind.at.clone() };
                for group in groups.entries() {
                    sound &= group.text(report).is_some();
                }
            }
            ("requests", DeValue::Array(items)) => {
                for (n, item) in items.iter().enumerate() {
                    let at = At { span: item.span(), path: format!("{}[{n}]", kind.at.path) };
                    match item.get_ref() {
                        DeValue::Table(table) => Section { table, at }.expect_keys(&REQUEST, report),
                        _ => {
                            report.push(report.error(&at, "a request must be a table"));
                            sound = false;
                        }
                    }
                }
            }
            ("guard", DeValue::String(_)) => {}
            ("documents" | "traits" | "changes" | "rejected", _) => {
                kind.mistyped("a table with a key for each group", report);
                sound = false;
            }
            ("requests", _) => {
                kind.mistyped("a list of tables with `method`, `path` and `body`", report);
                sound = false;
            }
            ("guard", _) => {
                kind.mistyped("a guard's name", report);
                sound = false;
            }
            _ => {}
        }
    }
    Written::read(entry, report).filter(|_| sound)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sound(text: &str) -> TestFile {
        let (read, found) = parse("a.test.toml", text);
        assert!(found.is_empty(), "{found:?}");
        read.unwrap()
    }

    #[test]
    fn everything_that_a_file_may_have_is_read() {
        let file = sound(
            r#"
            now = 2026-02-03T04:05:06+01:00
            [columns]
            mrr = "DECIMAL(12, 2)"
            [duckdb]
            where = "deleted_at IS NULL"
            traits.address.city = "upper(city)"
            [[tests]]
            name = "an edit"
            rows = [{ id = { json = "9223372036854775808" }, name = "Acme", since = 2026-01-02, tags = ["a"], meta = { json = '{"a": null}' } }]
            before.1 = { name = "Acme Ltd" }
            expect.documents.1 = { name = "Acme", big = { json = "123456789012345678901234567890" } }
            [[tests.expect.requests]]
            path = "/batch"
            [[tests]]
            name = "from a file"
            rows = "rows.csv"
            "#,
        );
        assert_eq!(file.now.to_rfc3339(), "2026-02-03T03:05:06+00:00");
        assert_eq!((file.columns[0].name.as_str(), file.columns[0].declared.as_str()), ("mrr", "DECIMAL(12, 2)"));
        assert_eq!((file.traits[0].path.as_str(), file.traits[0].sql.as_str()), ("address.city", "upper(city)"));
        let Rows::Given(rows) = &file.tests[0].rows else { panic!() };
        let given: Vec<&Given> = rows[0].cells.iter().map(|cell| &cell.value).collect();
        let expected = [
            Given::Integer("9223372036854775808".into()),
            Given::Text("Acme".into()),
            Given::Date("2026-01-02".into()),
            Given::List(json!(["a"])),
            Given::Json(json!({"a": null})),
        ];
        assert_eq!(given, expected.iter().collect::<Vec<_>>());
        let expect = &file.tests[0].expect;
        assert_eq!(expect.value["documents"]["1"]["big"].to_string(), "123456789012345678901234567890");
        assert_eq!(&file.text[expect.places["/documents/1/name"].clone()], "\"Acme\"");
        assert!(matches!(&file.tests[1].rows, Rows::File { path, .. } if path == "rows.csv"));
    }

    #[test]
    fn every_mistake_has_its_place_and_a_next_step() {
        for (text, what, help) in [
            ("", "the file has no tests", "add one"),
            ("[tests]\nname = \"a\"", "must be a list of tables", "double brackets"),
            ("[[tests]]\nrows = []", "the test has no name", "name ="),
            ("[[tests]]\nnmae = \"a\"", "unknown key `nmae`", "did you mean `name`?"),
            ("[[tests]]\nname = \"a\"\ndocuments.a = {}", "unknown key `documents`", "expect.documents"),
            ("[[tests]]\nname = \"a\"\nexpect.document.a = {}", "unknown key `document`", "`documents`"),
            ("[[tests]]\nname = \"a\"\nexpect.changes.a.sets = {}", "unknown key `sets`", "`set`"),
            ("[[tests]]\nname = \"a\"\n[[tests]]\nname = \"a\"", "two tests are called `a`", "of its own"),
            ("now = 2026-01-01\n[[tests]]\nname = \"a\"", "`now` must be a time", "now ="),
            ("[[tests]]\nname = \"a\"\nrows = [{ a = { json = \"{\" } }]", "not valid JSON", ""),
            ("[[tests]]\nname = \"a\"\nrows = [1]", "a row must be a table", ""),
            ("[[tests]]\nname = \"a\"\nrows = [{ a = 9223372036854775808 }]", "more than 64 bits", "json = "),
            ("[[tests]]\nname = \"a\"\nexpect.documents.a = 1", "`a` must be a table", ""),
            ("[[tests]]\nname = \"a\"\nexpect.guard = 1", "`guard` must be", ""),
            ("name = \"a\"\n[[tests]]\nname = \"b\"", "unknown key `name`", "[[tests]]"),
        ] {
            let (read, found) = parse("a.test.toml", text);
            assert!(read.is_none(), "{text}");
            let described = format!("{found:?}");
            assert!(described.contains(what), "{text}: {described}");
            assert!(found.iter().any(|found| help.is_empty() || found.help.concat().contains(help)), "{described}");
        }
    }
}
