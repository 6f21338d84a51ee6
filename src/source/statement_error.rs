//! Errors of statements over a source's rows: what DuckDB's message means, and what the operator does next.

use super::{extensions, remote_error, unreadable_file};
use crate::duckdb::first_line;
use crate::error::{Error, Kind};

/// A statement over the model that failed. `what` fits after "failed to".
pub(super) fn statement_error(what: impl Into<String>, error: &duckdb::Error) -> Error {
    let text = error.to_string();
    let line = first_line(&text);
    let what = format!("failed to {}", what.into());
    if line.contains("INTERRUPT") {
        return Error::new(Kind::Interrupted, what).because("interrupted");
    }
    if let Some(unreadable) = unreadable_file::unreadable(&text) {
        return Error::new(Kind::Source, what).advise(unreadable.advice).because(unreadable.what);
    }
    if text.contains("INTERNAL Error") || text.contains("FATAL Error") || text.contains("database has been invalidated")
    {
        return Error::new(Kind::Source, what)
            .because("DuckDB met an error of its own over this input")
            .advise("run the model's SQL in the DuckDB shell: if it fails there as well, convert the input or report it to DuckDB");
    }
    if let Some(database) = other_database(&line) {
        return Error::new(Kind::Source, what)
            .advise(format!(
                "a view names the database it was made in, and a file is attached as its name without extension: call the \
                 file `{database}.duckdb` again, or make the view anew without the database's name"
            ))
            .because(masked(&line));
    }
    if let Some(extension) = extensions::needed(&text) {
        let advice = match extension {
            "icu" => {
                "`CURRENT_DATE`, `AT TIME ZONE` and their kin need the ICU extension, which a build that compiles DuckDB from \
                 source lacks: `make build` links one that has it"
                    .to_owned()
            }
            other => extensions::with_extension(other),
        };
        return Error::new(Kind::Source, what)
            .advise(advice)
            .because(format!("DuckDB needs its extension {extension}, which is not loaded"));
    }
    let (kind, advice) = if line.contains("Parser Error") || line.contains("syntax error") {
        (Kind::Source, "correct the SQL of the mapping; it is DuckDB's dialect")
    } else if line.contains("Referenced column") || line.contains("does not have a column") {
        (Kind::Source, "correct the column's name in the mapping")
    } else if line.contains("Table with name") {
        (Kind::Source, "correct the table's name in the mapping's SQL, with its schema where it is not `main`")
    } else if line.contains("Ambiguous reference to catalog or schema") {
        (
            Kind::Source,
            "write the schema with its database, as DuckDB proposes; where the ledger's file has the schema's name, \
             `state.path` in groupcast.toml gives it another one",
        )
    } else if line.contains("Catalog Error") || line.contains("Binder Error") {
        (Kind::Source, "correct the SQL of the mapping; run it in the DuckDB shell to see the place")
    } else if line.contains("No files found") || line.contains("Cannot open file") || line.contains("No such file") {
        (Kind::Source, "check the path in the mapping; a relative path starts at the folder of groupcast.toml")
    } else if let Some(advice) = remote_error::advice(&text) {
        (Kind::SourceBusy, advice)
    } else if line.contains("Conversion Error") {
        (Kind::Source, "use TRY_CAST, which gives null for what cannot be converted, or filter those rows with `where`")
    } else if line.contains("Out of Memory") || line.contains("failed to allocate") {
        (Kind::Source, "raise `state.memory` in groupcast.toml: half of it is for reading, shared by runs side by side")
    } else if line.contains("No space left") || line.contains("disk is full") {
        (Kind::Source, "free space where DuckDB spills (`state.temp_folder`) and run again; nothing was lost")
    } else if is_broken_parquet(&line) {
        (Kind::SourceBusy, "run again if the file was being written or replaced; otherwise it is damaged")
    } else if line.contains("CSV Error") || line.contains("JSON") {
        (
            Kind::Source,
            "correct the file, or tell DuckDB how to read it with the options of `read_csv` or `read_json` in the mapping's SQL",
        )
    } else {
        (Kind::Source, "run the model's SQL in the DuckDB shell to see the rows it fails on")
    };
    let failed = Error::new(kind, what).advise(advice).because(masked(&line));
    if is_missing(&line) { failed.missing() } else { failed }
}

/// Whether a table, a column or a file is not there: Spark and its kin empty a folder before they fill it again.
fn is_missing(line: &str) -> bool {
    let words = ["Table with name", "Referenced column", "No files found", "No such file", "does not have a column"];
    words.iter().any(|words| line.contains(words))
}

/// The database that a statement names and that is not there.
fn other_database(line: &str) -> Option<&str> {
    if let Some((_, rest)) = line.split_once("Catalog \"").or_else(|| line.split_once("Catalog with name ")) {
        let name = rest.split(['"', ' ']).next()?;
        return line.contains("does not exist").then_some(name).filter(|name| !name.is_empty());
    }
    // DuckDB 2.0 takes the first two of three parts for a nested schema.
    let (_, rest) = line.split_once("because schema \"")?;
    let (database, _) = rest.split('"').next()?.rsplit_once('.')?;
    Some(database.trim_matches('"'))
}

/// Whether a Parquet file does not fit together: damaged, half written, or replaced while it was read, because DuckDB opens
/// it once more for each thread and has read its end before. What its reader's libraries throw has the bare class.
fn is_broken_parquet(line: &str) -> bool {
    line.starts_with("Invalid Error: ") || names_broken_parquet(line)
}

fn names_broken_parquet(line: &str) -> bool {
    BROKEN_PARQUET.iter().any(|words| line.contains(words))
}

/// What DuckDB says of such a file, followed by its name.
const BROKEN_PARQUET: [&str; 3] =
    ["No magic bytes found at end of file '", "too small to be a Parquet file", "Failed to read file \""];

/// The first line without the values of rows. Errors about SQL quote names, which a person needs; errors about data
/// quote data, which an error must not hold.
fn masked(line: &str) -> String {
    const ABOUT_SQL: [&str; 5] = ["Parser Error", "Binder Error", "Catalog Error", "IO Error", "Not implemented Error"];
    if ABOUT_SQL.iter().any(|class| line.starts_with(class)) || line.starts_with("Out of Memory Error") {
        return line.to_owned();
    }
    // The file's name is worth keeping.
    if line.contains(" in file \"") || line.contains("CSV Error on Line") || names_broken_parquet(line) {
        return line.to_owned();
    }
    if let Some(rest) = line.strip_prefix("Invalid Input Error: ") {
        // Also what a model's own `error(…)` says; its words may hold anything.
        let words = rest.split(['"', '\'', ':']).next().unwrap_or_default().trim();
        let known = ["Could not parse", "Failed to cast", "Malformed", "Invalid"];
        return match known.iter().any(|start| words.starts_with(start)) {
            true => format!("Invalid Input Error: {words} …"),
            false => "Invalid Input Error".to_owned(),
        };
    }
    let mut out = String::new();
    let mut quote: Option<char> = None;
    for character in line.chars() {
        match quote {
            Some(open) if character == open => {
                quote = None;
                out.push('…');
                out.push(character);
            }
            Some(_) => {}
            None if character == '\'' && !out.ends_with(char::is_alphanumeric) || character == '"' => {
                quote = Some(character);
                out.push(character);
            }
            // Digits that stand alone are values; those in INT32 are a type's name.
            None if character.is_ascii_digit() && !out.ends_with(char::is_alphabetic) && !ends_in_type(&out) => {
                if !out.ends_with('…') {
                    out.push('…');
                }
            }
            None => out.push(character),
        }
    }
    out
}

fn ends_in_type(text: &str) -> bool {
    let word = text.rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    word.starts_with(|c: char| c.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_rows_are_masked_and_names_are_not() {
        for (line, expected) in [
            (
                "Conversion Error: Could not convert string 'ann@example.com' to INT32 when casting from source column n",
                "Conversion Error: Could not convert string '…' to INT32 when casting from source column n",
            ),
            (
                "Conversion Error: Type INT32 with value 300 can't be cast because the value is out of range for the destination type INT8",
                "Conversion Error: Type INT32 with value … can't be cast because the value is out of range for the destination type INT8",
            ),
            (
                "Out of Range Error: Overflow in multiplication of INT64 (1000000 * 100)!",
                "Out of Range Error: Overflow in multiplication of INT64 (… * …)!",
            ),
            (
                "Invalid Input Error: Could not parse string \"A\" according",
                "Invalid Input Error: Could not parse string …",
            ),
            ("Invalid Input Error: bad value of Ann", "Invalid Input Error"),
            (
                "Binder Error: Referenced column \"nope\" not found",
                "Binder Error: Referenced column \"nope\" not found",
            ),
        ] {
            assert_eq!(masked(line), expected);
        }
    }
}
