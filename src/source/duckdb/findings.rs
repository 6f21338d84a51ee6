//! Findings about how a source is read, for `check --connect`: which file of a pattern, with which extensions, and columns
//! of Parquet files that hold bytes. Those about text files are in `textfile`.

use duckdb::Connection;

use super::textfile;
use crate::mapping::compile::Projection;
use crate::mapping::{self, Expr};
use crate::source::extensions::{self, Extensions};
use crate::source::{FindingSubject, SourceFinding};

/// Which file is meant by a pattern.
pub(super) fn chosen_newest(newest: &textfile::Newest) -> SourceFinding {
    let textfile::Newest { shown, modified, of } = newest;
    SourceFinding {
        subject: FindingSubject::Table,
        note: true,
        what: format!(
            "{shown} is read, {}, last changed {}",
            if *of == 1 {
                "the only file that matches".to_owned()
            } else {
                format!("the newest of {of} files that match")
            },
            chrono::DateTime::<chrono::Utc>::from(*modified).format("%Y-%m-%d %H:%M:%S UTC")
        ),
        help: Vec::new(),
    }
}

/// What the instance has loaded to read with.
pub(super) fn loaded(connection: &Connection) -> Vec<SourceFinding> {
    let loaded = Extensions::loaded(connection);
    if loaded.is_empty() {
        return Vec::new();
    }
    let (version, platform) = extensions::engine(connection);
    vec![SourceFinding {
        subject: FindingSubject::Table,
        note: true,
        what: format!("DuckDB {version} ({platform}) reads it with {}", loaded.join(", ")),
        help: Vec::new(),
    }]
}

/// Remarks about columns of Parquet files that hold bytes, which often are text that its writer did not mark as such.
pub(super) fn binary(projection: &Projection, columns: &[(String, String)], has_tables: bool) -> Vec<SourceFinding> {
    let help = match &projection.from {
        mapping::From::Table(parts) if !has_tables && parts.join(".").to_lowercase().contains(".parquet") => {
            format!("`sql = \"FROM read_parquet('{}', binary_as_string = true)\"`", parts.join("."))
        }
        mapping::From::Query(sql) if sql.to_lowercase().contains("parquet") && !sql.contains("binary_as_string") => {
            "`read_parquet('…', binary_as_string = true)` in its SQL".to_owned()
        }
        _ => return Vec::new(),
    };
    let used = projection.columns.iter().filter_map(|expr| match expr {
        Expr::Column(name) => Some(name),
        Expr::Sql(_) => None,
    });
    let is_binary = |name: &&String| columns.iter().any(|(column, kind)| column == *name && kind == "BLOB");
    used.chain([&projection.key])
        .filter(is_binary)
        .map(|name| SourceFinding {
            subject: FindingSubject::Column(name.clone()),
            note: false,
            what: format!(
                "column `{name}` is binary in the Parquet file, not marked as text: it is sent as hexadecimal digits"
            ),
            help: vec![format!("where it is text read it as such: {help}")],
        })
        .collect()
}
