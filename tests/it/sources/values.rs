//! The rows that every source must yield alike, and what becomes of them (`values.toml`).

use serde::Deserialize;

/// The table as it stands in the file, for engines that are spoken to by another program.
pub(super) const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/sources/values.toml");

/// A column, and the values that it has one after the other.
#[derive(Deserialize)]
pub(super) struct ValueColumn {
    pub(super) name: String,
    /// Its type in the words of standard SQL.
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// How the trait is declared.
    #[serde(rename = "as")]
    declared: String,
    /// As SQL is given it, as the destination gets it.
    pub(super) values: Vec<(String, String)>,
}

/// Keys that hold what ends a text somewhere; each is the value of its row's column `word` as well.
pub(super) const KEYS: [&str; 3] = ["it's", "q\"x%\\", "Größe 🎉"];

pub(super) fn columns() -> Vec<ValueColumn> {
    #[derive(Deserialize)]
    struct File {
        column: Vec<ValueColumn>,
    }
    toml::from_str::<File>(include_str!("values.toml")).unwrap().column
}

/// A row: its key, and its one value with the number of its column.
pub(super) type Row = (String, usize, String);

pub(super) fn rows() -> Vec<Row> {
    let columns = columns();
    let valued = columns.iter().enumerate().flat_map(|(column, of)| {
        of.values.iter().enumerate().map(move |(at, (value, _))| (format!("{column}/{at}"), column, value.clone()))
    });
    let word = columns.iter().position(|column| column.name == "word").unwrap();
    valued.chain(KEYS.map(|key| (key.to_owned(), word, key.to_owned()))).collect()
}

/// `[traits]`.
pub(super) fn traits(except: &[String]) -> String {
    let one = |(at, column): (usize, &ValueColumn)| {
        let name = column.name.replace('\\', "\\\\").replace('"', "\\\"");
        format!("t{at} = {{ column = \"{name}\", as = \"{}\" }}\n", column.declared)
    };
    let columns = columns();
    columns.iter().enumerate().filter(|(_, column)| !except.contains(&column.name)).map(one).collect()
}

/// The lines that a destination of the type `file` must hold, sorted; without the rows and columns that an engine cannot have.
pub(super) fn documents(without: &[String]) -> Vec<String> {
    let columns = columns();
    let document = |(key, column, value): Row| {
        let quoted = |text: &str| serde_json::to_string(text).unwrap();
        let expected = columns[column].values.iter().find(|(given, _)| *given == value);
        let expected = expected.map_or_else(|| quoted(&value), |(_, expected)| expected.clone());
        format!("{{\"group_type\":\"company\",\"key\":{},\"set\":{{\"t{column}\":{expected}}}}}", quoted(&key))
    };
    let is_there = |(key, column, _): &Row| !without.contains(key) && !without.contains(&columns[*column].name);
    let mut all: Vec<String> = rows().into_iter().filter(is_there).map(document).collect();
    all.sort();
    all
}

/// Statements that make a table of the rows, in SQL that most engines take; `types` translates a type.
pub(super) fn table(name: &str, types: impl Fn(&str) -> String) -> String {
    let columns = columns();
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let literal = |kind: &str, value: &str| match kind {
        "boolean" | "smallint" | "bigint" | "double" => value.to_owned(),
        kind if kind.starts_with("decimal") && !types(kind).to_lowercase().contains("text") => value.to_owned(),
        _ => format!("'{}'", value.replace('\'', "''")),
    };
    let mut sql = format!("CREATE TABLE {} (id {}", quoted(name), types("text"));
    for column in &columns {
        sql.push_str(&format!(", {} {}", quoted(&column.name), types(&column.kind)));
    }
    sql.push_str(");\n");
    for (key, column, value) in rows() {
        let column = &columns[column];
        let (table, of, key) = (quoted(name), quoted(&column.name), key.replace('\'', "''"));
        let value = literal(&column.kind, &value);
        sql.push_str(&format!("INSERT INTO {table} (id, {of}) VALUES ('{key}', {value});\n"));
    }
    sql
}
