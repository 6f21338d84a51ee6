//! Do the mappings we ship fit the tables they say they expect?

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use duckdb::Connection;
use groupcast::mapping::compile::Projection;
use groupcast::mapping::{Expr, From, Model};
use groupcast::model::ColumnType;
use groupcast::source::Source;
use groupcast::source::duckdb::{DuckDb, Settings};
use toml::{Table, Value};

const READY: [(&str, &str); 3] = [
    ("b2b_saas_accounts", include_str!("../../mappings/b2b_saas_accounts.toml")),
    ("dbt_dim_accounts", include_str!("../../mappings/dbt_dim_accounts.toml")),
    ("workspaces", include_str!("../../mappings/workspaces.toml")),
];

/// The statements in the file's opening comment: its lines that are indented.
fn expected_tables(text: &str) -> String {
    let comment = text.lines().take_while(|line| line.starts_with('#'));
    comment.filter_map(|line| line.strip_prefix("#   ")).map(|line| format!("{line}\n")).collect()
}

/// Every expression a value of `[traits]` selects, with its declared type.
fn selected(value: &Value, found: &mut Vec<(Expr, Option<String>)>) {
    match value {
        Value::String(column) => found.push((Expr::Column(column.clone()), None)),
        Value::Table(table) if table.contains_key("const") => {}
        Value::Table(table) => {
            let declared = table.get("as").map(|declared| declared.as_str().unwrap().to_owned());
            match (table.get("sql"), table.get("column")) {
                (Some(sql), _) => found.push((Expr::Sql(sql.as_str().unwrap().to_owned()), declared)),
                (None, Some(column)) => found.push((Expr::Column(column.as_str().unwrap().to_owned()), declared)),
                (None, None) => table.values().for_each(|member| selected(member, found)),
            }
        }
        other => panic!("{other:?} is no trait"),
    }
}

#[tokio::test]
async fn every_ready_mapping_compiles_against_its_own_tables() {
    for (name, text) in READY {
        // GIVEN a warehouse with the tables the file's comment describes
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("warehouse.duckdb");
        let tables = expected_tables(text);
        assert!(tables.contains("CREATE TABLE"), "{name}");
        Connection::open(&file).unwrap().execute_batch(&format!("CREATE SCHEMA analytics; {tables}")).unwrap();
        // WHEN the source is asked what the mapping's expressions yield
        let mapping: Table = text.parse().unwrap();
        assert_eq!(
            (mapping["source"].as_str(), mapping["destination"].as_str()),
            (Some("warehouse"), Some("amplitude"))
        );
        let model = mapping["model"].as_table().unwrap();
        let from = match model.get("table") {
            Some(table) => From::Table(table.as_str().unwrap().split('.').map(str::to_owned).collect()),
            None => From::Query(model["sql"].as_str().unwrap().to_owned()),
        };
        let filter = model.get("where").map(|filter| filter.as_str().unwrap().to_owned());
        let mut found = Vec::new();
        mapping["traits"].as_table().unwrap().values().for_each(|value| selected(value, &mut found));
        let projection = Projection {
            from: from.clone(),
            conditions: filter.iter().cloned().collect(),
            key: mapping["group"]["key"].as_str().unwrap().to_owned(),
            columns: found.iter().map(|(expr, _)| expr.clone()).collect(),
            cursor: mapping.get("incremental").map(|incremental| incremental["cursor"].as_str().unwrap().to_owned()),
        };
        let mut source = DuckDb::open(&Settings { path: Some(file) }, "warehouse", folder.path()).unwrap();
        let columns = source.describe_projection(&projection).await.unwrap();
        // THEN every trait has a type that needs no further decision, and the key can be one
        assert_eq!(columns.len(), found.len());
        for (column, (_, declared)) in columns.iter().zip(&found) {
            assert!(column.kind.default_as().is_some() || declared.is_some(), "{name}: {column:?}");
            let fits = match declared.as_deref() {
                Some("date") => matches!(column.kind, ColumnType::Date | ColumnType::Timestamp),
                Some("timestamp") => column.kind == ColumnType::Timestamp,
                Some("number") => matches!(column.kind, ColumnType::Decimal | ColumnType::Float64),
                Some("list") => matches!(column.kind, ColumnType::List(_)),
                Some("json") => column.kind == ColumnType::Json,
                Some("string") => column.kind == ColumnType::Decimal,
                Some(other) => panic!("{name} declares `{other}`"),
                None => !matches!(column.kind, ColumnType::Bytes | ColumnType::Other),
            };
            assert!(fits, "{name}: {column:?} declared {declared:?}");
        }
        let described = source.describe(&Model { from, filter }).await.unwrap();
        let key = described.iter().find(|column| column.name == projection.key).unwrap();
        assert!(key.kind.can_be_key(), "{name}: {key:?}");
    }
}
