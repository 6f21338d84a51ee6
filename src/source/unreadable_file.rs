//! Unreadable CSV and JSON files: the place, the reason and the remedy, out of DuckDB's message. That has them on lines of
//! their own, next to the row itself, which an error must not contain.

/// A place in a file that cannot be read.
pub(super) struct Unreadable {
    /// File, line and reason.
    pub(super) what: String,
    /// The next step.
    pub(super) advice: String,
}

/// What DuckDB says about a file's contents; `None` when it speaks of something else.
pub(super) fn unreadable(text: &str) -> Option<Unreadable> {
    csv(text).or_else(|| json(text))
}

/// The text between two others.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let rest = &text[text.find(before)? + before.len()..];
    Some(rest[..rest.find(after).unwrap_or(rest.len())].trim())
}

fn csv(text: &str) -> Option<Unreadable> {
    if text.contains("It was not possible to automatically detect the CSV") {
        let file = between(text, "  file = ", "\n").unwrap_or("the file");
        return Some(Unreadable {
            what: format!("{file}: the CSV dialect cannot be detected"),
            advice: format!(
                "describe its format: `sql = \"FROM read_csv('{file}', delim = ';', quote = '\\\"', header = true)\"`"
            ),
        });
    }
    let line = between(text, "CSV Error on Line: ", "\n")?;
    let file = between(text, "\n  file = ", "\n").unwrap_or("the file");
    let (reason, advice) = if text.contains("not utf-8 encoded") || text.contains("Invalid unicode") {
        (
            "this is not UTF-8".to_owned(),
            format!(
                "convert the file to UTF-8, or name its encoding: `sql = \"FROM read_csv('{file}', encoding = 'latin-1')\"` \
                 (also 'utf-16')"
            ),
        )
    } else if let Some(column) = between(text, "Error when converting column \"", "\".") {
        let kind = between(text, " is being converted as type ", "\n").unwrap_or("another type");
        (
            format!("column `{column}` has a value that is no {kind}, the type that the rows before have"),
            format!(
                "correct the value, or read the column as text: `sql = \"FROM read_csv('{file}', types = {{'{column}': 'VARCHAR'}})\"`"
            ),
        )
    } else if let Some(counts) = between(text, "Expected Number of Columns: ", "\n") {
        let (expected, found) = counts.split_once(" Found: ").unwrap_or((counts, "another number"));
        (
            format!("{found} columns instead of {expected}"),
            "correct the row: a value that contains a delimiter or a line break needs quotation marks".to_owned(),
        )
    } else if text.contains("unterminated quote")
        || text.contains("quoted value")
        || text.contains("quote should be followed")
    {
        (
            "a quotation mark is not closed, or is not doubled inside a value".to_owned(),
            "correct the row; inside quotation marks a quotation mark is written twice".to_owned(),
        )
    } else if text.contains("Maximum line size") {
        (
            "the line is longer than DuckDB reads".to_owned(),
            format!("`sql = \"FROM read_csv('{file}', max_line_size = 20000000)\"`"),
        )
    } else {
        (
            "the row cannot be read".to_owned(),
            "correct the row, or describe the file's format with the options of `read_csv` in the mapping's SQL"
                .to_owned(),
        )
    };
    Some(Unreadable { what: format!("{file}, line {line}: {reason}"), advice })
}

fn json(text: &str) -> Option<Unreadable> {
    let (file, rest) = ["Malformed JSON in file \"", "JSON transform error in file \""]
        .iter()
        .find_map(|start| text[text.find(start)? + start.len()..].split_once('"'))?;
    let line = between(rest, "in line ", ":").or_else(|| between(rest, "record/value ", ":")).unwrap_or("?");
    let (reason, advice) = if text.contains("invalid UTF-8") {
        ("this is not UTF-8", format!("convert {file} to UTF-8"))
    } else if text.contains("JSON transform error") {
        (
            "a value has another type than the rows before",
            format!(
                "declare the columns' types: `sql = \"FROM read_json('{file}', columns = {{account_id: 'VARCHAR', …}})\"`"
            ),
        )
    } else {
        (
            "this is not JSON",
            "correct the line; a file that is being written is read when it is whole: write another one and rename it"
                .to_owned(),
        )
    };
    Some(Unreadable { what: format!("{file}, line {line}: {reason}"), advice })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UTF8: &str = "Invalid Input Error: CSV Error on Line: 30002\nOriginal Line: x,secret\nInvalid unicode (byte \
                        sequence mismatch) detected. This file is not utf-8 encoded.\n\n  file = late.csv\n  delimiter = ,";
    const CONVERSION: &str = "Conversion Error: CSV Error on Line: 7\nOriginal Line: x,many secret\nError when converting \
                              column \"seats\". Could not convert string \"many secret\" to 'BIGINT'\n\nColumn seats is \
                              being converted as type BIGINT\nThis type was auto-detected\n\n  file = a b.csv\n";
    const COLUMNS: &str = "Invalid Input Error: CSV Error on Line: 3\nOriginal Line: secret,1,2\nExpected Number of \
                           Columns: 2 Found: 3\nPossible fixes:\n\n  file = cols.csv\n";
    const JSON: &str = "Invalid Input Error: Malformed JSON in file \"bad.json\", at byte 24 in line 30002: invalid UTF-8 \
                        encoding in string. ";

    #[test]
    fn the_place_is_told_and_the_row_is_not() {
        for (text, what) in [
            (UTF8, "late.csv, line 30002: this is not UTF-8"),
            (
                CONVERSION,
                "a b.csv, line 7: column `seats` has a value that is no BIGINT, the type that the rows before have",
            ),
            (COLUMNS, "cols.csv, line 3: 3 columns instead of 2"),
            (JSON, "bad.json, line 30002: this is not UTF-8"),
        ] {
            let found = unreadable(text).unwrap();
            assert_eq!(found.what, what);
            assert!(!found.advice.is_empty() && !found.advice.contains("secret"), "{}", found.advice);
        }
        assert!(unreadable("Binder Error: Referenced column \"nope\" not found").is_none());
    }
}
