//! Names and texts in DuckDB's SQL.

/// A name as SQL, safe whatever it contains.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as a literal, for the many statements that cannot bind values. It must not contain a NUL.
pub fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
