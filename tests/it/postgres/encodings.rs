//! Are databases read whose encoding is not UTF-8, and is text that has no place in UTF-8 told from the rest?

use groupcast::error::Kind;
use groupcast::mapping::compile::Restriction;
use groupcast::source::postgres::Postgres;
use serde_json::json;

use super::{Expr, key, projection, stage, table, text};
use crate::support::postgres::shared;

/// A source that reads a database made for this test with another encoding.
async fn encoded(name: &str, encoding: &str, fill: &str) -> Postgres {
    let client = shared().client("postgres").await;
    let create = format!("CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
    client.batch_execute(&create).await.unwrap();
    shared().client(name).await.batch_execute(fill).await.unwrap();
    let url = format!("postgres://root_user@127.0.0.1:{}/{name}", shared().port());
    Postgres::connect(&serde_json::from_value(json!({ "url": url })).unwrap(), "warehouse").await.unwrap()
}

#[tokio::test]
async fn a_database_in_latin_1_is_read_as_what_it_says() {
    let mut source =
        encoded("latin", "LATIN1", "CREATE TABLE t (id text, name text); INSERT INTO t VALUES ('é', 'Zoë')").await;
    let (_, rows) = stage(&mut source, &projection(table("t"), "id", &["name"])).await.unwrap();
    assert_eq!(rows, [(key("é"), vec![text("Zoë")])]);
    let mut one = projection(table("t"), "id", &["name"]);
    one.restriction = Some(Restriction::Groups(vec!["é".to_owned()]));
    assert_eq!(stage(&mut source, &one).await.unwrap().1.len(), 1);
}

#[tokio::test]
async fn bytes_of_no_encoding_are_refused_with_the_sql_that_converts_them() {
    let fill = "CREATE TABLE t (id text, name text); INSERT INTO t VALUES ('1', 'plain');
        INSERT INTO t SELECT '2', convert_from('\\x5a6feb'::bytea, 'SQL_ASCII')";
    let mut source = encoded("ascii", "SQL_ASCII", fill).await;
    let mut wanted = projection(table("t"), "id", &["name"]);
    let error = stage(&mut source, &wanted).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Source, "{error}");
    assert!(error.to_string().contains("22021") && error.advice().unwrap().contains("LATIN1"), "{error}");
    wanted.columns =
        vec![Expr::Sql("convert_from(convert(convert_to(name, 'SQL_ASCII'), 'LATIN1', 'UTF8'), 'UTF8')".into())];
    let (_, rows) = stage(&mut source, &wanted).await.unwrap();
    assert_eq!(rows, [(key("1"), vec![text("plain")]), (key("2"), vec![text("Zoë")])]);
}
