//! A mapping over the rows of a test: the same traits, key and policy, with the rows in the place of its model.

use std::collections::BTreeSet;

use super::table::{self, Table};
use crate::duckdb::DuckDbConnection;
use crate::error::Result;
use crate::mapping::diagnostic::{Diagnostic, did_you_mean, listed_all};
use crate::mapping::test_file::{GivenRow, Rows, TestFile};
use crate::mapping::{Expr, Field, From, Mapping, MappingFile, Model, UserFrom};
use crate::model::cell::As;

/// The mapping over these rows, or what in the test file does not fit it.
pub(super) async fn over_rows(
    file: &MappingFile,
    tests: &TestFile,
    rows: &[GivenRow],
    duckdb: &DuckDbConnection,
) -> Result<Result<MappingFile, Vec<Diagnostic>>> {
    let mut problems = types(tests, duckdb).await?;
    let mut adapted = file.clone();
    for replaced in &tests.traits {
        let Some(expr) = expression(&mut adapted.mapping, &replaced.path) else {
            let what = format!("the mapping has no value `{}`", replaced.path);
            let known = paths(&file.mapping);
            let help = match did_you_mean(&replaced.path, known.iter().map(String::as_str)) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("its values are {}", listed_all(known.iter().map(String::as_str))),
            };
            problems.push(Diagnostic::error(&tests.file, &replaced.at, what).help(help));
            continue;
        };
        *expr = Expr::Sql(replaced.sql.clone());
    }
    let declared: Vec<(String, String)> =
        tests.columns.iter().map(|column| (column.name.clone(), column.declared.clone())).collect();
    let mut table = match Table::of(rows, &declared) {
        Ok(table) => table,
        Err(mixed) => {
            let problem = Diagnostic::error(&tests.file, &mixed.at, mixed.what);
            problems.push(problem.help("declare the column's type under `[columns]`"));
            return Ok(Err(problems));
        }
    };
    let wanted = columns(&adapted.mapping);
    let absent: Vec<&(String, &str)> = wanted.iter().filter(|(name, _)| !table.has(name)).collect();
    problems.extend(misspelled(tests, rows, &adapted.mapping, &absent));
    if !problems.is_empty() {
        return Ok(Err(problems));
    }
    // What another test of the file gives is a column of the model, null in these rows.
    for other in &tests.tests {
        let Rows::Given(rows) = &other.rows else { continue };
        for column in Table::of(rows, &[]).map_or(Vec::new(), |other| other.columns) {
            if !table.has(&column.name) {
                table.add_nulls(&column.name, &column.declared);
            }
        }
    }
    for (name, declared) in &wanted {
        if !table.has(name) {
            table.add_nulls(name, declared);
        }
    }
    let filter = tests.filter.clone().or(adapted.mapping.model.filter.take());
    adapted.mapping.model = Model { from: From::Query(table.query()), filter };
    // How dbt's last build went is no matter of the mapping.
    adapted.mapping.dbt = None;
    Ok(Ok(adapted))
}

/// Declared types that DuckDB does not know.
async fn types(tests: &TestFile, duckdb: &DuckDbConnection) -> Result<Vec<Diagnostic>> {
    let mut problems = Vec::new();
    for column in &tests.columns {
        let declared = table::duckdb_type(&column.declared);
        let known = table::is_type(&declared) && {
            let sql = format!("SELECT CAST(NULL AS {declared})");
            let prepare = move |connection: &mut duckdb::Connection| Ok(connection.prepare(&sql).is_ok());
            duckdb.call("look up a type", prepare).await?
        };
        if !known {
            let what = format!("DuckDB has no type `{}`", column.declared);
            let help = "write it like `BIGINT`, `DECIMAL(12, 2)`, `VARCHAR[]`, `TIMESTAMPTZ` or `JSON`";
            problems.push(Diagnostic::error(&tests.file, &column.at, what).help(help));
        }
    }
    Ok(problems)
}

/// Columns of rows that the mapping does not read, where one that it reads and that no row has is spelled alike.
fn misspelled(tests: &TestFile, rows: &[GivenRow], mapping: &Mapping, absent: &[&(String, &str)]) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    let sql = sql_texts(mapping);
    for cell in rows.iter().flat_map(|row| &row.cells) {
        let is_read = columns(mapping).iter().any(|(name, _)| name.eq_ignore_ascii_case(&cell.column))
            || sql.iter().any(|text| text.contains(&cell.column));
        if is_read || !seen.insert(cell.column.as_str()) {
            continue;
        }
        if let Some(meant) = did_you_mean(&cell.column, absent.iter().map(|(name, _)| name.as_str())) {
            let what = format!("the mapping reads no column `{}`", cell.column);
            let help = format!("did you mean `{meant}`?");
            problems.push(Diagnostic::error(&tests.file, &cell.at, what).help(help));
        }
    }
    if problems.is_empty() && !rows.is_empty() && absent.iter().any(|(name, _)| *name == mapping.key) {
        let at = rows.iter().flat_map(|row| &row.cells).next().map_or_else(Default::default, |cell| cell.at.clone());
        let what = format!("no row has a `{}`, the group's key", mapping.key);
        problems.push(Diagnostic::error(&tests.file, &at, what).help("give each row its key"));
    }
    problems
}

/// Every column that the mapping names, with the type that an absent one gets so that it can become what is declared.
fn columns(mapping: &Mapping) -> Vec<(String, &'static str)> {
    fn collect(field: &Field, out: &mut Vec<(String, &'static str)>) {
        match field {
            Field::Column { expr: Expr::Column(name), declared } => out.push((name.clone(), null_type(*declared))),
            Field::Column { .. } | Field::Const(_) => {}
            Field::Object(members) => members.iter().for_each(|(_, member)| collect(member, out)),
        }
    }
    let mut out = vec![(mapping.key.clone(), "VARCHAR")];
    mapping.traits.iter().for_each(|mapped| collect(&mapped.value, &mut out));
    if let Some(UserFrom::Expr(Expr::Column(name))) = mapping.user.as_ref().map(|user| &user.from) {
        out.push((name.clone(), "VARCHAR"));
    }
    if let Some(incremental) = &mapping.incremental {
        out.push((incremental.cursor.clone(), "TIMESTAMP"));
    }
    let mut seen = BTreeSet::new();
    out.retain(|(name, _)| seen.insert(name.to_ascii_lowercase()));
    out
}

/// A type whose values can become this.
fn null_type(declared: Option<As>) -> &'static str {
    match declared {
        None | Some(As::String) => "VARCHAR",
        Some(As::Number) => "DOUBLE",
        Some(As::Integer) => "BIGINT",
        Some(As::Boolean) => "BOOLEAN",
        Some(As::Date) => "DATE",
        Some(As::Timestamp) => "TIMESTAMP",
        Some(As::Json) => "JSON",
        Some(As::List) => "VARCHAR[]",
    }
}

/// Every SQL text over the model's columns.
fn sql_texts(mapping: &Mapping) -> Vec<String> {
    fn collect(field: &Field, out: &mut Vec<String>) {
        match field {
            Field::Column { expr: Expr::Sql(sql), .. } => out.push(sql.clone()),
            Field::Column { .. } | Field::Const(_) => {}
            Field::Object(members) => members.iter().for_each(|(_, member)| collect(member, out)),
        }
    }
    let mut out: Vec<String> = mapping.model.filter.iter().cloned().collect();
    mapping.traits.iter().for_each(|mapped| collect(&mapped.value, &mut out));
    if let Some(UserFrom::Expr(Expr::Sql(sql))) = mapping.user.as_ref().map(|user| &user.from) {
        out.push(sql.clone());
    }
    out
}

/// The dotted paths of the values that come from the source.
fn paths(mapping: &Mapping) -> Vec<String> {
    fn collect(path: &str, field: &Field, out: &mut Vec<String>) {
        match field {
            Field::Column { .. } => out.push(path.to_owned()),
            Field::Const(_) => {}
            Field::Object(members) => {
                members.iter().for_each(|(name, member)| collect(&format!("{path}.{name}"), member, out));
            }
        }
    }
    let mut out = Vec::new();
    mapping.traits.iter().for_each(|mapped| collect(&mapped.name, &mapped.value, &mut out));
    out
}

/// The expression of the value at a dotted path.
fn expression<'m>(mapping: &'m mut Mapping, path: &str) -> Option<&'m mut Expr> {
    fn find<'m>(field: &'m mut Field, above: &str, path: &str) -> Option<&'m mut Expr> {
        match field {
            Field::Column { expr, .. } if above == path => Some(expr),
            Field::Column { .. } | Field::Const(_) => None,
            Field::Object(members) => {
                members.iter_mut().find_map(|(name, member)| find(member, &format!("{above}.{name}"), path))
            }
        }
    }
    mapping.traits.iter_mut().find_map(|mapped| find(&mut mapped.value, &mapped.name, path))
}
