//! Rows in memory, handed to either ledger.

use groupcast::duckdb::{DuckDbConnection, quote_identifier};
use groupcast::error::Result;
use groupcast::model::{Cell, ColumnType};
use groupcast::source::Staged;

pub type Row = (Option<String>, Vec<Cell>);

/// Stages rows of integers and texts as a source would, over a connection of their own.
pub async fn stage(duckdb: &DuckDbConnection, rows: &[Row], kinds: &[ColumnType]) -> Result<Staged> {
    let columns: Vec<String> = (0..kinds.len()).map(|index| quote_identifier(&format!("c{index}"))).collect();
    let types = kinds.iter().map(|kind| if *kind == ColumnType::Int { "BIGINT" } else { "VARCHAR" });
    let declared: String = columns.iter().zip(types).map(|(name, kind)| format!(", {name} {kind}")).collect();
    let (rows, columns_count) = (rows.to_vec(), kinds.len());
    let duckdb = duckdb.sibling()?;
    duckdb
        .call("stage rows", move |connection| {
            connection
                .execute_batch(&format!("CREATE OR REPLACE TEMP TABLE incoming (key VARCHAR{declared})"))
                .expect("the table is created");
            if rows.is_empty() {
                return Ok(());
            }
            let mut values: Vec<Box<dyn duckdb::ToSql>> = Vec::new();
            let row = format!("({})", vec!["?"; columns_count + 1].join(", "));
            let marks = vec![row; rows.len()].join(", ");
            for (key, cells) in rows {
                values.push(Box::new(key));
                for cell in cells {
                    values.push(match cell {
                        Cell::Null => Box::new(None::<String>),
                        Cell::Int(int) => Box::new(int),
                        Cell::Text(text) => Box::new(text),
                        other => panic!("only integers and texts are staged here, not {other:?}"),
                    });
                }
            }
            let values: Vec<&dyn duckdb::ToSql> = values.iter().map(AsRef::as_ref).collect();
            connection
                .execute(&format!("INSERT INTO temp.incoming VALUES {marks}"), &values[..])
                .expect("the rows are staged");
            Ok(())
        })
        .await?;
    Ok(Staged {
        duckdb,
        relation: "temp.incoming".to_owned(),
        row: Some("rowid"),
        hashed: std::iter::once("key".to_owned()).chain(columns.iter().cloned()).collect::<Vec<_>>().join(", "),
        physical: columns,
        kinds: kinds.to_vec(),
        cursor: None,
        ahead: None,
        summary: None,
    })
}
