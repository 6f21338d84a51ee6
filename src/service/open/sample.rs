//! A sample of rows for `check`: do the values fit what the mapping declares, where their types leave it open?

use duckdb::types::Value;

use crate::duckdb::{DuckDbConnection, Limits, ledger_error};
use crate::error::Result;
use crate::mapping::compile::{self, Projection};
use crate::mapping::diagnostic::{Diagnostic, Severity};
use crate::mapping::{Compare, Expr, MappingFile, check};
use crate::model::Cell;
use crate::model::cell::{self, As};
use crate::source::mirror::MirrorAccess;
use crate::source::{FindingSubject, Source, Staged};

/// What the source remarks about the model, at the lines of the mapping that it is about. Where the mapping does not fit the
/// source a remark may say why; `fits` says whether it does.
pub async fn of_source(file: &MappingFile, source: &mut dyn Source, fits: bool) -> Result<Vec<Diagnostic>> {
    let mapping = &file.mapping;
    let remarks = match source.findings(&compile::projection(mapping, None)).await {
        Err(_) if !fits => return Ok(Vec::new()),
        remarks => remarks?,
    };
    let mut found = Vec::new();
    for remark in remarks {
        // One cause is reported once, wherever else it shows.
        let place = match &remark.subject {
            FindingSubject::Table => Some(file.at("model.table")),
            FindingSubject::Column(name) => check::first_use(file, name, false),
            FindingSubject::Untyped(name) => check::first_use(file, name, true),
        };
        found.extend(place.map(|at| {
            let diagnostic = match remark.note {
                true => Diagnostic::note(&mapping.file, &at, remark.what.as_str()),
                false => Diagnostic::warning(&mapping.file, &at, remark.what.as_str()),
            };
            remark.help.iter().fold(diagnostic, Diagnostic::help)
        }));
    }
    Ok(found)
}

/// Whether the source's user may keep the mirror that the mapping needs, with the statements that permit it.
pub async fn of_mirror(file: &MappingFile, source: &mut dyn Source) -> Result<Option<Diagnostic>> {
    let mapping = &file.mapping;
    let Some(settings) = source.mirror() else { return Ok(None) };
    if check::compares_in(file, Some(settings.compare)) != Compare::Warehouse {
        return Ok(None);
    }
    let at = file.at(if mapping.compare.is_some() { "model.compare" } else { "source" });
    let MirrorAccess { refused, grants } = source.mirror_access().await?;
    let diagnostic = match refused {
        Some(refused) => {
            let what = format!("rows cannot be compared in the warehouse: {refused}");
            Diagnostic::error(&mapping.file, &at, what)
        }
        None => {
            let what = format!("rows are compared in the warehouse; tables for it are in `{}`", settings.schema);
            Diagnostic::note(&mapping.file, &at, what)
        }
    };
    let verb = if diagnostic.severity == Severity::Error { "needed" } else { "granted" };
    Ok(Some(grants.iter().fold(diagnostic, |diagnostic, grant| diagnostic.help(format!("{verb}: {grant};")))))
}

/// Rows in the sample.
const ROWS: u64 = 500;

/// Warnings about traits that some of the first rows cannot become: text declared as a number, say. Where no type leaves it
/// open, nothing is read.
pub async fn remarks(file: &MappingFile, source: &mut dyn Source) -> Result<Vec<Diagnostic>> {
    let mapping = &file.mapping;
    let whole = compile::projection(mapping, None);
    let described = source.describe_projection(&whole).await?;
    let kind_of = |expr: &Expr| {
        let position = whole.columns.iter().position(|other| other == expr)?;
        described.get(position).map(|column| column.kind.clone())
    };
    let doubtful = check::doubtful(file, &kind_of);
    if doubtful.is_empty() {
        return Ok(Vec::new());
    }
    let columns = doubtful.iter().map(|(_, expr, _)| expr.clone()).collect();
    let some = Projection { columns, cursor: None, limit: Some(ROWS), ..whole };
    judge(file, source, &doubtful, &some).await
}

/// Warnings about the first rows of a projection, whose columns are those of `doubtful`.
async fn judge(
    file: &MappingFile,
    source: &mut dyn Source,
    doubtful: &[(String, Expr, As)],
    some: &Projection,
) -> Result<Vec<Diagnostic>> {
    // One that has the extensions that the source reads through.
    let instance = source.instance(&Limits::standard()).await?;
    let duckdb = instance.duckdb();
    let staged = source.stage(some, duckdb, &|_| ()).await?;
    let rows = cells(duckdb, &staged).await;
    source.release(duckdb).await?;
    let rows = rows?;
    let mut found = Vec::new();
    for (at, (path, _, declared)) in doubtful.iter().enumerate() {
        let failed: Vec<String> =
            rows.iter().filter_map(|row| cell::to_json(&row[at], &staged.kinds[at], Some(*declared)).err()).collect();
        if let Some(reason) = failed.first() {
            let what = format!(
                "{} of the first {} rows cannot become what is declared: {}",
                failed.len(),
                rows.len(),
                cell::without_value(reason)
            );
            found.push(
                Diagnostic::warning(&file.mapping.file, &file.at(path), what)
                    .help("such groups are rejected; convert the column in SQL, or declare another `as`"),
            );
        }
    }
    Ok(found)
}

/// The staged cells, row by row.
async fn cells(duckdb: &DuckDbConnection, staged: &Staged) -> Result<Vec<Vec<Cell>>> {
    let (sql, width) =
        (format!("SELECT {} FROM {} LIMIT {ROWS}", staged.physical.join(", "), staged.relation), staged.physical.len());
    duckdb
        .call("read some rows", move |connection| {
            let failed = ledger_error("read some rows");
            let mut statement = connection.prepare(&sql).map_err(&failed)?;
            let rows = statement.query_map([], |row| (0..width).map(|at| Ok(cell_of(row.get(at)?))).collect());
            rows.map_err(&failed)?.collect::<Result<_, _>>().map_err(failed)
        })
        .await
}

fn cell_of(value: Value) -> Cell {
    match value {
        Value::Boolean(flag) => Cell::Bool(flag),
        Value::BigInt(number) => Cell::Int(number),
        Value::Double(number) => Cell::Double(number),
        Value::Text(text) => Cell::Text(text),
        _ => Cell::Null,
    }
}
