//! Do a file and a PostgreSQL table that was filled from the same text give the same traits?

use futures_util::SinkExt as _;
use groupcast::duckdb::{DuckDbConnection, Limits};
use groupcast::mapping::From;
use groupcast::service::open;
use groupcast::source::postgres::Postgres;
use serde_json::json;

use super::{documents, project, sent};
use crate::support::postgres::shared;

#[tokio::test]
async fn the_same_text_by_copy_and_as_a_file() {
    // Name, columns of the table, the text, traits.
    let tables = [
        ("integers", "id text, n bigint", "id,n\na,9007199254740993\nb,-1\nc,\n", "n"),
        ("long_integers", "id text, n numeric", "id,n\na,12345678901234567890\nb,1\n", "n:number"),
        ("decimals", "id text, n numeric(20,2)", "id,n\na,1234567890123456.78\nb,0.10\nc,5.00\n", "n:number"),
        ("any_decimals", "id text, n numeric", "id,n\na,1.10\nb,1.9\nc,-0.000001\n", "n:number"),
        ("floats", "id text, n double precision", "id,n\na,0.1\nb,1e+16\nc,1.5e-07\n", "n"),
        ("words", "id text, b boolean", "id,b\na,true\nb,false\nc,\n", "b"),
        ("copied_words", "id text, b boolean", "id,b\na,t\nb,f\n", "b:boolean"),
        ("days", "id text, d date", "id,d\na,2026-03-04\nb,1999-12-31\n", "d"),
        ("times", "id text, t timestamp", "id,t\na,2026-03-04 17:30:00\nb,2026-03-04 17:30:00.123456\n", "t"),
        ("zoned_times", "id text, t timestamptz", "id,t\na,2026-03-04 17:30:00+00\nb,2026-03-04T17:30:00+05:30\n", "t"),
        ("clocks", "id text, t text", "id,t\na,17:30:00\n", "t"),
        ("texts", "id text, s text", "id,s\na,\"x, \"\"y\"\"\nz\"\nb, Zoë 🎉 \nc,007\n", "s"),
        (
            "documents",
            "id text, doc jsonb",
            "id,doc\na,\"{\"\"n\"\": 1.10, \"\"l\"\": [1, 12345678901234567890]}\"\n",
            "doc:json",
        ),
        ("integer_keys", "id bigint, n integer", "id,n\n12345678901,1\n-5,2\n", "n"),
        ("text_keys", "id text, n integer", "id,n\n007,1\n1.10,2\n", "n"),
        ("uuid_keys", "id uuid, n integer", "id,n\na0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11,1\n", "n"),
    ];
    let database = shared().create_database().await;
    let cases: Vec<_> = tables.iter().map(|(name, _, text, traits)| sent(name, "a.csv", text, traits, "{}")).collect();
    let place = project(&cases);
    let project = open::project(&place.path("")).unwrap_or_else(|failure| panic!("{}", failure.as_error()));
    let duckdb = DuckDbConnection::open(None, &Limits::standard()).unwrap();
    for (name, columns, text, _) in tables {
        database.client().batch_execute(&format!("CREATE TABLE {name} ({columns})")).await.unwrap();
        let sink = database.client().copy_in(&format!("COPY {name} FROM STDIN (FORMAT csv, HEADER)")).await.unwrap();
        let mut sink = Box::pin(sink);
        sink.send(bytes::Bytes::from_static(text.as_bytes())).await.unwrap();
        sink.close().await.unwrap();
        let mut file = project.mappings.iter().find(|file| file.mapping.name == name).unwrap().clone();
        let mut source =
            open::fitting_source(&project, &file).await.unwrap_or_else(|failure| panic!("{}", failure.as_error()));
        let of_file = documents(&file, source.as_mut(), &duckdb).await.unwrap();
        file.mapping.model.from = From::Table(vec![name.to_owned()]);
        let mut source = Postgres::connect(&database.settings(json!({})), "pg").await.unwrap();
        let of_table = documents(&file, &mut source, &duckdb).await.unwrap();
        assert_eq!(of_file, of_table, "{name}");
        assert!(!of_file.is_empty(), "{name}");
    }
}
