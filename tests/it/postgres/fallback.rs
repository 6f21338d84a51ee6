//! Are servers read that speak PostgreSQL's protocol and lack some of its statements?

use groupcast::source::postgres::Postgres;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{projection, stage, table};
use crate::support::postgres::shared;

/// A server that has a syntax error for these words: a proxy before the real one that spoils them. Returns its port.
async fn server_without(words: &'static [&'static str]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", shared().port())).await.unwrap();
            let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                (client.into_split(), server.into_split());
            tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
            tokio::spawn(async move {
                let mut buffer = vec![0; 1 << 16];
                while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
                    for word in words {
                        for at in 0..read.saturating_sub(word.len()) {
                            if buffer[at..].starts_with(word.as_bytes()) {
                                buffer[at] = b'#';
                            }
                        }
                    }
                    to_server.write_all(&buffer[..read]).await?;
                }
                to_server.shutdown().await
            });
        }
    });
    port
}

#[tokio::test]
async fn what_a_server_lacks_is_done_without() {
    let database = shared().create_database().await;
    database.execute("CREATE TABLE t AS SELECT n AS id, now() AS at FROM generate_series(1, 25000) n").await;
    let wanted = projection(table("t"), "id", &["at"]);
    let (_, expected) = stage(&mut database.source(json!({})).await, &wanted).await.unwrap();
    for lacking in [
        &["COPY ("][..],
        &["REPEATABLE READ"],
        &["BEGIN ISOLATION", "COPY ("],
        &["BEGIN ISOLATION", "READ ONLY", "SET LOCAL extra_float_digits", "SET LOCAL lock_timeout"],
        &["pg_catalog.format_type"],
        &["pg_catalog.pg_typeof"],
        &["pg_catalog.pg_typeof", "pg_catalog.format_type", "BEGIN ISOLATION"],
    ] {
        let port = server_without(lacking).await;
        let url = format!("postgres://root_user@127.0.0.1:{port}/{}", database.name());
        let settings = json!({ "url": url, "sslmode": "disable" });
        let mut source = Postgres::connect(&serde_json::from_value(settings).unwrap(), "w").await.unwrap();
        for _ in 0..2 {
            let (staged, rows) =
                stage(&mut source, &wanted).await.unwrap_or_else(|error| panic!("{lacking:?}: {error}"));
            assert!(rows == expected, "{lacking:?}");
            use groupcast::source::Source as _;
            let columns = source.describe_projection(&wanted).await.unwrap();
            assert_eq!(columns[0].kind, staged.kinds[0], "{lacking:?}");
        }
    }
    let port = server_without(&["COPY ("]).await;
    let url = format!("postgres://root_user@127.0.0.1:{port}/{}", database.name());
    let settings = json!({ "url": url, "sslmode": "disable", "read": "copy" });
    let mut source = Postgres::connect(&serde_json::from_value(settings).unwrap(), "w").await.unwrap();
    let error = stage(&mut source, &wanted).await.unwrap_err();
    assert!(error.to_string().contains("42601"), "{error}");
}
