//! The rows of a test as a relation of DuckDB: columns with types, and a query that yields the rows.

use crate::mapping::At;
use crate::mapping::dialect::literal_without;
use crate::mapping::test_file::{Given, GivenRow};
use serde_json::Value;

/// A column and its type.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Column {
    /// Its name.
    pub(super) name: String,
    /// Its type, as DuckDB has it.
    pub(super) declared: String,
}

/// The rows of a model.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Table {
    pub(super) columns: Vec<Column>,
    rows: Vec<Vec<Given>>,
}

/// A column whose values are of several kinds.
#[derive(Debug, PartialEq)]
pub(super) struct Mixed {
    pub(super) at: At,
    pub(super) what: String,
}

impl Table {
    /// The rows with the columns that any of them names. `declared` has types that values do not decide.
    pub(super) fn of(rows: &[GivenRow], declared: &[(String, String)]) -> Result<Table, Mixed> {
        let mut columns: Vec<Column> = declared
            .iter()
            .map(|(name, declared)| Column { name: name.clone(), declared: duckdb_type(declared) })
            .collect();
        let mut kinds: Vec<Option<Kind>> = vec![None; columns.len()];
        let mut table = Table::default();
        for row in rows {
            let mut cells = vec![Given::Null; columns.len()];
            for cell in &row.cells {
                let named = |column: &Column| column.name.eq_ignore_ascii_case(&cell.column);
                let at = columns.iter().position(named).unwrap_or_else(|| {
                    columns.push(Column { name: cell.column.clone(), declared: String::new() });
                    kinds.push(None);
                    cells.push(Given::Null);
                    columns.len() - 1
                });
                if at >= declared.len() && cell.value != Given::Null {
                    let kind = Kind::of(&cell.value);
                    kinds[at] = Some(match kinds[at].take() {
                        None => kind,
                        Some(before) => before.clone().with(kind.clone()).ok_or_else(|| Mixed {
                            at: cell.at.clone(),
                            what: format!(
                                "column `{}` is {} here and {} in a row above",
                                cell.column,
                                kind.duckdb(),
                                before.duckdb()
                            ),
                        })?,
                    });
                }
                cells[at] = cell.value.clone();
            }
            table.rows.push(cells);
        }
        for (column, kind) in columns.iter_mut().zip(kinds).skip(declared.len()) {
            column.declared = kind.map_or_else(|| "VARCHAR".to_owned(), |kind| kind.duckdb());
        }
        table.columns = columns;
        Ok(table)
    }

    /// Whether it has a column of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.columns.iter().any(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// Adds a column that is null in every row.
    pub(super) fn add_nulls(&mut self, name: &str, declared: &str) {
        self.columns.push(Column { name: name.to_owned(), declared: declared.to_owned() });
    }

    /// The query that yields the rows.
    pub(super) fn query(&self) -> String {
        let name = |column: &Column| format!("\"{}\"", column.name.replace('"', "\"\""));
        let row = |row: &Vec<Given>| {
            let cells: Vec<String> = (self.columns.iter().enumerate())
                .map(|(at, column)| cell(row.get(at).unwrap_or(&Given::Null), &column.declared))
                .collect();
            format!("({})", cells.join(", "))
        };
        let names: Vec<String> = self.columns.iter().map(name).collect();
        let none = || {
            let nulls: Vec<String> = self.columns.iter().map(|column| cell(&Given::Null, &column.declared)).collect();
            format!("SELECT {}", nulls.join(", "))
        };
        let (rows, condition) = match self.rows.as_slice() {
            [] => (none(), " WHERE false"),
            rows => (format!("VALUES {}", rows.iter().map(row).collect::<Vec<_>>().join(",\n")), ""),
        };
        format!("SELECT * FROM (\n{rows}\n) AS given({}){condition}", names.join(", "))
    }
}

/// A cell as a value of its column's type.
fn cell(value: &Given, declared: &str) -> String {
    let literal = |text: &str| literal_without(text, &['\0']);
    let value = match value {
        Given::Null => "NULL".to_owned(),
        Given::Boolean(flag) => flag.to_string(),
        Given::List(value) | Given::Json(value) => {
            let json = literal(&value.to_string());
            // JSON text of any other type of text.
            if is_text(declared) { json } else { format!("CAST({json} AS JSON)") }
        }
        Given::Integer(text)
        | Given::Float(text)
        | Given::Text(text)
        | Given::Date(text)
        | Given::Time(text)
        | Given::Timestamp(text)
        | Given::ZonedTimestamp(text) => literal(text),
    };
    format!("CAST({value} AS {declared})")
}

fn is_text(declared: &str) -> bool {
    ["VARCHAR", "TEXT", "STRING", "CHAR", "JSON"].iter().any(|name| declared.eq_ignore_ascii_case(name))
}

/// The kind of a value, where the column's type is not declared.
#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Plain(&'static str),
    List(&'static str),
}

impl Kind {
    fn of(value: &Given) -> Kind {
        Kind::Plain(match value {
            Given::Null | Given::Text(_) => "VARCHAR",
            Given::Boolean(_) => "BOOLEAN",
            Given::Integer(text) if text.parse::<i64>().is_ok() => "BIGINT",
            Given::Integer(_) => "HUGEINT",
            Given::Float(_) => "DOUBLE",
            Given::Date(_) => "DATE",
            Given::Time(_) => "TIME",
            Given::Timestamp(_) => "TIMESTAMP",
            Given::ZonedTimestamp(_) => "TIMESTAMPTZ",
            Given::Json(_) => "JSON",
            Given::List(value) => return element(value).map_or(Kind::Plain("JSON"), Kind::List),
        })
    }

    /// The kind of both.
    fn with(self, other: Kind) -> Option<Kind> {
        use Kind::{List, Plain};
        Some(match (self, other) {
            (a, b) if a == b => a,
            (Plain(a), Plain(b)) => Plain(common(a, b)?),
            (List(""), List(b)) => List(b),
            (List(a), List("")) => List(a),
            (List(a), List(b)) => List(common(a, b)?),
            (List(_), Plain("JSON")) | (Plain("JSON"), List(_)) => Plain("JSON"),
            (List(_), Plain(_)) | (Plain(_), List(_)) => return None,
        })
    }

    fn duckdb(&self) -> String {
        match self {
            Kind::Plain(name) => (*name).to_owned(),
            Kind::List("") => "VARCHAR[]".to_owned(),
            Kind::List(name) => format!("{name}[]"),
        }
    }
}

/// The type that has the values of both.
fn common(a: &'static str, b: &'static str) -> Option<&'static str> {
    const WIDER: [(&str, &str); 5] = [
        ("BIGINT", "HUGEINT"),
        ("BIGINT", "DOUBLE"),
        ("HUGEINT", "DOUBLE"),
        ("DATE", "TIMESTAMP"),
        ("DATE", "TIMESTAMPTZ"),
    ];
    WIDER.iter().find(|(narrow, wide)| (*narrow, *wide) == (a, b) || (*narrow, *wide) == (b, a)).map(|(_, wide)| *wide)
}

/// The type of a list's elements; empty where it has none, and `None` where they are of several kinds or lists.
fn element(list: &Value) -> Option<&'static str> {
    let of = |value: &Value| match value {
        Value::Bool(_) => Some("BOOLEAN"),
        Value::String(_) => Some("VARCHAR"),
        Value::Number(number) if number.as_i64().is_some() => Some("BIGINT"),
        Value::Number(number) if number.is_f64() => Some("DOUBLE"),
        Value::Number(_) | Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    let mut elements = list.as_array()?.iter().filter(|value| !value.is_null());
    let Some(first) = elements.next() else { return Some("") };
    elements.try_fold(of(first)?, |kind, value| match of(value)? {
        same if same == kind => Some(kind),
        other => common(kind, other),
    })
}

/// A type as DuckDB calls it: the names of other warehouses are understood.
pub(super) fn duckdb_type(declared: &str) -> String {
    const NAMES: [(&str, &str); 12] = [
        ("jsonb", "JSON"),
        ("variant", "JSON"),
        ("super", "JSON"),
        ("object", "JSON"),
        ("number", "DECIMAL"),
        ("bignumeric", "DECIMAL"),
        ("int64", "BIGINT"),
        ("float64", "DOUBLE"),
        ("citext", "VARCHAR"),
        ("timestamp_ntz", "TIMESTAMP"),
        ("timestamp_ltz", "TIMESTAMPTZ"),
        ("timestamp_tz", "TIMESTAMPTZ"),
    ];
    let end = declared.find(['(', '[', ' ']).unwrap_or(declared.len());
    let (name, rest) = declared.split_at(end);
    match NAMES.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)) {
        Some((_, ours)) => format!("{ours}{rest}"),
        None => declared.to_owned(),
    }
}

/// Whether a type is written with nothing but names, numbers, brackets and commas.
pub(super) fn is_type(declared: &str) -> bool {
    !declared.is_empty()
        && declared.chars().all(|char| char.is_alphanumeric() || " _(),[]\"".contains(char))
        && declared.chars().filter(|char| *char == '"').count() % 2 == 0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mapping::test_file::GivenCell;

    fn rows(of: &[&[(&str, Given)]]) -> Vec<GivenRow> {
        let cell = |(column, value): &(&str, Given)| GivenCell {
            column: (*column).to_owned(),
            value: value.clone(),
            at: At::default(),
        };
        of.iter().map(|row| GivenRow { cells: row.iter().map(cell).collect() }).collect()
    }

    #[test]
    fn types_follow_the_values_unless_they_are_declared() {
        let given = rows(&[
            &[("a", Given::Integer("1".into())), ("b", Given::Null), ("l", Given::List(json!([])))],
            &[("A", Given::Float("1.5".into())), ("c", Given::Date("2026-01-02".into()))],
            &[("c", Given::ZonedTimestamp("2026-01-02T00:00:00Z".into())), ("l", Given::List(json!(["x", null])))],
            &[("d", Given::Integer("9223372036854775808".into())), ("e", Given::List(json!([1, "x"])))],
            &[("m", Given::Integer("1".into()))],
        ]);
        let table = Table::of(&given, &[("m".into(), "NUMBER(12, 2)".into())]).unwrap();
        let types: Vec<(&str, &str)> =
            table.columns.iter().map(|column| (column.name.as_str(), column.declared.as_str())).collect();
        assert_eq!(
            types,
            [
                ("m", "DECIMAL(12, 2)"),
                ("a", "DOUBLE"),
                ("b", "VARCHAR"),
                ("l", "VARCHAR[]"),
                ("c", "TIMESTAMPTZ"),
                ("d", "HUGEINT"),
                ("e", "JSON"),
            ]
        );
        let mixed = Table::of(&rows(&[&[("a", Given::Integer("1".into()))], &[("a", Given::Text("x".into()))]]), &[]);
        assert_eq!(mixed.unwrap_err().what, "column `a` is VARCHAR here and BIGINT in a row above");
    }

    #[test]
    fn duckdb_reads_the_rows_that_were_given() {
        let given = rows(&[
            &[
                ("id", Given::Text("it's".into())),
                ("n", Given::Integer("7".into())),
                ("tags", Given::List(json!(["a", "b,c", "d\"e"]))),
                ("meta", Given::Json(json!({"a": {"b": null}}))),
                ("at", Given::ZonedTimestamp("2026-01-02T03:00:00+02:00".into())),
                ("day", Given::Date("2026-01-02".into())),
            ],
            &[("id", Given::Text("b".into()))],
        ]);
        let query = Table::of(&given, &[]).unwrap().query();
        let duckdb = duckdb::Connection::open_in_memory().unwrap();
        let texts: Vec<String> = duckdb
            .prepare(&format!(
                "SELECT concat_ws('|', id, n, len(tags), meta->>'a', epoch(\"at\"), \"day\") FROM ({query})"
            ))
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        assert!(texts[0].starts_with("it's|7|3|{\"b\":null}|1767315600"), "{texts:?}");
        assert!(texts[0].ends_with("|2026-01-02"), "{texts:?}");
        assert_eq!(texts[1], "b", "all else is null");
        let empty = Table::of(&[], &[("id".into(), "BIGINT".into())]).unwrap().query();
        let count: i64 = duckdb.query_row(&format!("SELECT count(*) FROM ({empty})"), [], |row| row.get(0)).unwrap();
        assert_eq!(count, 0);
    }

    #[test]
    fn a_type_is_no_other_sql() {
        for (text, expected) in [
            ("DECIMAL(12, 2)", true),
            ("timestamp with time zone", true),
            ("STRUCT(a INTEGER, \"b c\" VARCHAR)[]", true),
            ("", false),
            ("INTEGER); DROP TABLE x --", false),
            ("\"a", false),
        ] {
            assert_eq!(is_type(text), expected, "{text}");
        }
    }
}
