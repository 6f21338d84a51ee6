//! What does each PostgreSQL type become as each declared type, and does the SQL that `check` proposes give what it says?
//! The rows are those of the table in docs/configuration.md.

use groupcast::mapping::{Expr, remedy};
use groupcast::model::cell::{self, As};
use groupcast::source::Source as _;
use serde_json::{Value, json};

use super::{projection, stage, table};
use crate::support::postgres::shared;

/// A type, a value, the declared type, the JSON, and the SQL that it takes where the type alone never fits.
type Row = (&'static str, &'static str, Option<As>, Value, Option<&'static str>);

fn rows() -> Vec<Row> {
    use As::{Boolean, Date, Integer, Json, List, Number, String, Timestamp};
    vec![
        ("money", "1234.50", None, json!("$1,234.50"), None),
        ("money", "1234.50", Some(Number), json!(1234.5), Some("v::numeric")),
        ("money", "1234.50", Some(Integer), json!(1235), Some("round(v::numeric)::bigint")),
        ("hstore", "'plan=>pro,seats=>NULL'", None, json!("\"plan\"=>\"pro\", \"seats\"=>NULL"), None),
        (
            "hstore",
            "'plan=>pro,seats=>NULL'",
            Some(Json),
            json!({"plan": "pro", "seats": null}),
            Some("hstore_to_json(v)"),
        ),
        ("addr", "ROW('Bonn','01234')", None, json!("(Bonn,01234)"), None),
        ("addr", "ROW('Bonn','01234')", Some(Json), json!({"city": "Bonn", "zip": "01234"}), Some("to_json(v)")),
        (
            "addr",
            "ROW('Bonn','01234')",
            Some(List),
            json!(["Bonn", "01234"]),
            Some("(SELECT json_agg(value) FROM json_each(to_json(v)))"),
        ),
        ("int4range", "'[1,5)'", None, json!("[1,5)"), None),
        (
            "int4range",
            "'[1,5)'",
            Some(Json),
            json!([1, 5]),
            Some("json_build_array(to_json(lower(v)), to_json(upper(v)))"),
        ),
        ("int4range", "'[1,5)'", Some(Integer), json!(1), Some("lower(v)")),
        (
            "daterange",
            "'[2024-05-06,2024-05-08)'",
            Some(Json),
            json!(["2024-05-06", "2024-05-08"]),
            Some("json_build_array(to_json(lower(v)), to_json(upper(v)))"),
        ),
        (
            "int4multirange",
            "'{[1,2),[5,6)}'",
            Some(Json),
            json!(["[1,2)", "[5,6)"]),
            Some("to_json(ARRAY(SELECT unnest(v)::text))"),
        ),
        ("point", "'(1,2)'", None, json!("(1,2)"), None),
        ("point", "'(1,2)'", Some(Number), json!(1), Some("v[0]")),
        ("point", "'(1,2)'", Some(Json), json!([1, 2]), Some("json_build_array(v[0], v[1])")),
        ("interval", "'1 day 2 hours'", None, json!("P1DT2H"), None),
        ("interval", "'1 day 2 hours'", Some(Number), json!(93600), Some("extract(epoch FROM v)")),
        ("boolean", "true", None, json!(true), None),
        ("boolean", "true", Some(Integer), json!(1), Some("CAST(v AS integer)")),
        ("date", "'2024-05-06'", None, json!("2024-05-06"), None),
        ("date", "'2024-05-06'", Some(Timestamp), json!("2024-05-06T00:00:00Z"), None),
        ("date", "'2024-05-06'", Some(Integer), json!(1714953600), Some("extract(epoch FROM v)")),
        ("timestamptz", "'2024-05-06 07:08:09+02'", None, json!("2024-05-06T05:08:09Z"), None),
        ("timestamptz", "'2024-05-06 07:08:09+02'", Some(Date), json!("2024-05-06"), None),
        ("timestamptz", "'2024-05-06 07:08:09+02'", Some(Number), json!(1714972089), Some("extract(epoch FROM v)")),
        ("bigint", "1714972089", Some(Timestamp), json!("2024-05-06T05:08:09Z"), Some("to_timestamp(v)")),
        ("numeric(10,2)", "1.50", Some(Number), json!(1.5), None),
        ("numeric(10,2)", "1.50", Some(String), json!("1.50"), None),
        ("numeric(10,2)", "1.50", Some(Boolean), json!(true), Some("v <> 0")),
        ("jsonb", "'\"2024-05-06\"'", Some(Date), json!("2024-05-06"), Some("v #>> '{}'")),
        ("bytea", "'\\x7b7d'", None, json!("7b7d"), None),
        ("bytea", "'\\x7b7d'", Some(Json), json!({}), Some("convert_from(v, 'UTF8')::json")),
        ("text[]", "'{a,NULL}'", None, json!(["a", null]), None),
        ("text[]", "'{a,NULL}'", Some(Integer), json!(2), Some("cardinality(v)")),
        ("mood", "'sad'", None, json!("sad"), None),
        ("positive", "7", None, json!(7), None),
        ("uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", None, json!("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"), None),
        ("inet", "'10.0.0.1'", None, json!("10.0.0.1/32"), None),
        ("time", "'07:08:09'", None, json!("07:08:09"), None),
        ("time", "'07:08:09'", Some(Integer), json!(25689), Some("extract(epoch FROM v)")),
        ("bit(3)", "B'101'", None, json!("101"), None),
        ("bit(3)", "B'101'", Some(Integer), json!(5), Some("lpad(v::text, 64, '0')::bit(64)::bigint")),
        ("xml", "'<a/>'", None, json!("<a/>"), None),
        ("text", "' 1,234.50 '", Some(Number), json!(1234.5), None),
        ("text", "'2024-05-06T09:08:09.000+0200'", Some(Timestamp), json!("2024-05-06T07:08:09Z"), None),
        ("text", "'yes'", Some(Boolean), json!(true), None),
    ]
}

#[tokio::test]
async fn each_row_of_the_documents_table_holds() {
    let database = shared().create_database().await;
    database
        .execute(
            "CREATE EXTENSION hstore; CREATE TYPE addr AS (city text, zip text); CREATE TYPE mood AS ENUM ('sad');
             CREATE DOMAIN positive AS int",
        )
        .await;
    let mut source = database.source(json!({})).await;
    for (of, value, declared, expected, sql) in rows() {
        let case = format!("{of} {value} as {declared:?}");
        database
            .execute(&format!(
                "DROP TABLE IF EXISTS t; CREATE TABLE t (id int, v {of}); INSERT INTO t VALUES (1, {value})"
            ))
            .await;
        let mut wanted = projection(table("t"), "id", &["v"]);
        let column = source.describe_projection(&wanted).await.unwrap().remove(0);
        match (sql, declared) {
            (None, Some(declared)) => assert!(column.kind.can_become(declared), "{case}"),
            (None, None) => assert!(column.kind.default_as().is_some(), "{case}"),
            (Some(sql), Some(declared)) => {
                // GIVEN a type of which no value fits THEN the check says so, with SQL that does
                assert!(!column.kind.can_become(declared), "{case}");
                assert_eq!(remedy::sql(&column.declared, "v", declared).as_deref(), Some(sql), "{case}");
                wanted.columns = vec![Expr::Sql(sql.to_owned())];
            }
            (Some(_), None) => unreachable!("SQL is proposed for a declared type"),
        }
        let (staged, rows) = stage(&mut source, &wanted).await.unwrap_or_else(|error| panic!("{case}: {error}"));
        let sent =
            cell::to_json(&rows[0].1[0], &staged.kinds[0], declared).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(sent, expected, "{case}");
    }
}
