//! Rows of a test that are in a file of their own: CSV, JSON, or JSON lines.

use std::path::Path;

use crate::duckdb::DuckDbConnection;
use crate::error::{Error, Kind, Result};
use crate::format::one_line;
use crate::io::files;
use crate::mapping::At;
use crate::mapping::dialect::literal_without;
use crate::mapping::test_file::{Given, GivenCell, GivenRow};
use serde_json::Value;

/// Largest file; more rows than a test needs.
const BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The rows in a file.
///
/// Errors: [`Kind::Config`], what is wrong with it, to follow its name.
pub(super) async fn read(path: &Path, duckdb: &DuckDbConnection) -> Result<Vec<GivenRow>> {
    let failed = |what: String| Error::new(Kind::Config, what);
    let bytes = files::read(path, BYTES_MAX).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            failed("no such file".to_owned()).advise("the path starts at the folder of the test file")
        }
        std::io::ErrorKind::FileTooLarge => failed("larger than 4 MB".to_owned()).advise("keep what the test needs"),
        _ => failed(format!("the file cannot be read: {error}")),
    })?;
    let text = String::from_utf8(bytes).map_err(|_| failed("not UTF-8 text".to_owned()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    match ending.as_str() {
        "json" => json(text).map_err(failed),
        "ndjson" | "jsonl" => lines(text).map_err(failed),
        "csv" | "tsv" => csv(path, duckdb).await,
        _ => Err(failed("neither CSV nor JSON by its name".to_owned())
            .advise("name it `.csv`, `.tsv`, `.json`, `.ndjson` or `.jsonl`")),
    }
}

fn json(text: &str) -> Result<Vec<GivenRow>, String> {
    let rows: Vec<Value> =
        serde_json::from_str(text).map_err(|error| format!("not a list of JSON objects: {error}"))?;
    rows.into_iter().enumerate().map(|(n, row)| object(row).ok_or(format!("element {} is no object", n + 1))).collect()
}

fn lines(text: &str) -> Result<Vec<GivenRow>, String> {
    let written = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let row = |(n, line): (usize, &str)| {
        let value = serde_json::from_str(line).map_err(|error| format!("line {}: not JSON: {error}", n + 1))?;
        object(value).ok_or(format!("line {} is no object", n + 1))
    };
    written.map(row).collect()
}

fn object(value: Value) -> Option<GivenRow> {
    let Value::Object(members) = value else { return None };
    let cell = |(column, value)| GivenCell { column, value: Given::from(value), at: At::default() };
    Some(GivenRow { cells: members.into_iter().map(cell).collect() })
}

/// CSV with a line of names. Texts keep their spelling; a column's type is that of all of its values.
async fn csv(path: &Path, duckdb: &DuckDbConnection) -> Result<Vec<GivenRow>> {
    let name = literal_without(&path.to_string_lossy(), &['\0']);
    let sql = format!("FROM read_csv({name}, all_varchar = true, header = true, sample_size = -1)");
    let (names, rows) = duckdb
        .call("read the rows of a test", move |connection| {
            let failed = |error: duckdb::Error| {
                let why = error.to_string();
                let first = why.lines().next().unwrap_or_default();
                Error::new(Kind::Config, format!("the CSV cannot be read: {}", one_line(first)))
            };
            let mut statement = connection.prepare(&sql).map_err(failed)?;
            let mut rows = statement.query([]).map_err(failed)?;
            let names: Vec<String> = rows.as_ref().map(|statement| statement.column_names()).unwrap_or_default();
            let mut all: Vec<Vec<Option<String>>> = Vec::new();
            while let Some(row) = rows.next().map_err(failed)? {
                all.push((0..names.len()).map(|at| row.get(at)).collect::<Result<_, _>>().map_err(failed)?);
            }
            Ok((names, all))
        })
        .await?;
    let column_kind = |at: usize| kind(rows.iter().filter_map(|row: &Vec<Option<String>>| row[at].as_deref()));
    let kinds: Vec<fn(String) -> Given> = (0..names.len()).map(column_kind).collect();
    let row = |row: Vec<Option<String>>| {
        let cell = |(at, text): (usize, Option<String>)| GivenCell {
            column: names[at].clone(),
            value: text.map_or(Given::Null, kinds[at]),
            at: At::default(),
        };
        GivenRow { cells: row.into_iter().enumerate().map(cell).collect() }
    };
    Ok(rows.iter().cloned().map(row).collect())
}

/// Whether a text is of a kind.
type IsKind = fn(&str) -> bool;
/// A text as a value of its kind.
type OfKind = fn(String) -> Given;

/// What all of these texts are.
fn kind<'a>(texts: impl Iterator<Item = &'a str>) -> OfKind {
    /// What a text may be, the narrowest first.
    const KINDS: [(IsKind, OfKind); 6] = [
        (|text| matches!(text, "true" | "false"), |text| Given::Boolean(text == "true")),
        // A leading zero is part of an id.
        (is_integer, Given::Integer),
        (|text| is_integer(text) || is_fraction(text), Given::Float),
        (|text| chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok() && text.len() == 10, Given::Date),
        (is_timestamp, Given::Timestamp),
        (is_zoned, Given::ZonedTimestamp),
    ];
    let mut left: Vec<usize> = (0..KINDS.len()).collect();
    let mut any = false;
    for text in texts {
        any = true;
        left.retain(|at| KINDS[*at].0(text));
    }
    left.first().filter(|_| any).map_or(Given::Text, |at| KINDS[*at].1)
}

fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.bytes().all(|byte| byte.is_ascii_digit())
        && !digits.is_empty()
        && (digits == "0" || !digits.starts_with('0'))
}

fn is_fraction(text: &str) -> bool {
    let rest = text.strip_prefix('-').unwrap_or(text);
    rest.split_once('.').is_some_and(|(whole, fraction)| {
        is_integer(whole) && !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn is_timestamp(text: &str) -> bool {
    ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"]
        .iter()
        .any(|format| chrono::NaiveDateTime::parse_from_str(text, format).is_ok())
}

fn is_zoned(text: &str) -> bool {
    ["%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f%#z"]
        .iter()
        .any(|format| chrono::DateTime::parse_from_str(text, format).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::duckdb::Limits;

    #[tokio::test]
    async fn values_of_files_keep_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let duckdb = DuckDbConnection::open(None, &Limits::standard()).unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let csv =
            write("rows.csv", "id,zip,n,x,day,at\na,01234,1,1.5,2026-01-02,2026-01-02 03:04:05\n\"b,c\",5,,2,,\n");
        let rows = read(&csv, &duckdb).await.unwrap();
        let values: Vec<&Given> = rows[0].cells.iter().map(|cell| &cell.value).collect();
        let expected = [
            Given::Text("a".into()),
            Given::Text("01234".into()),
            Given::Integer("1".into()),
            Given::Float("1.5".into()),
            Given::Date("2026-01-02".into()),
            Given::Timestamp("2026-01-02 03:04:05".into()),
        ];
        assert_eq!(values, expected.iter().collect::<Vec<_>>());
        assert_eq!((&rows[1].cells[0].value, &rows[1].cells[2].value), (&Given::Text("b,c".into()), &Given::Null));
        let json = write("rows.json", r#"[{"id": 12345678901234567890, "tags": ["a"], "no": null}]"#);
        let rows = read(&json, &duckdb).await.unwrap();
        assert_eq!(rows[0].cells[0].value, Given::Integer("12345678901234567890".into()));
        let lines = write("rows.ndjson", "{\"id\": 1}\n\n{\"id\": 1.5}\n");
        assert_eq!(read(&lines, &duckdb).await.unwrap()[1].cells[0].value, Given::Float("1.5".into()));
        for (name, text, what) in [
            ("a.txt", "x", "neither CSV nor JSON"),
            ("a.json", "{}", "not a list"),
            ("b.json", "[1]", "element 1 is no object"),
            ("a.jsonl", "{\n", "line 1: not JSON"),
        ] {
            let error = read(&write(name, text), &duckdb).await.unwrap_err();
            assert!(error.to_string().contains(what), "{error}");
        }
        assert!(read(&folder.path().join("none.csv"), &duckdb).await.unwrap_err().to_string().contains("no such file"));
    }
}
