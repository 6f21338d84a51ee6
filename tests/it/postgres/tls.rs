//! Whom does a source trust, and what does it say when it does not?

use groupcast::error::Kind;
use groupcast::source::postgres::Postgres;
use serde_json::{Value, json};

use crate::support::postgres::{Cluster, Database, shared};

/// Whether a source that connects to this host with these settings is encrypted.
async fn encrypted(database: &Database, host: &str, more: Value) -> Result<bool, groupcast::error::Error> {
    let url = format!("postgres://root_user@{host}:{}/{}", shared().port(), database.name());
    let mut settings = json!({ "url": url });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let source = Postgres::connect(&serde_json::from_value(settings).unwrap(), "warehouse").await?;
    let row = database
        .client()
        .query_one(
            "SELECT s.ssl FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) \
             WHERE a.application_name = 'groupcast' AND a.datname = $1",
            &[&database.name()],
        )
        .await
        .unwrap();
    drop(source);
    // The server forgets the session a moment after it ends; the next question must not meet it.
    while database
        .client()
        .query_one(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'groupcast' AND datname = $1",
            &[&database.name()],
        )
        .await
        .unwrap()
        .get::<_, i64>(0)
        > 0
    {
        tokio::task::yield_now().await;
    }
    Ok(row.get(0))
}

#[tokio::test]
async fn each_mode_checks_what_it_says() {
    let database = shared().create_database().await;
    let (ca, other) = (shared().ca_file(), shared().other_ca_file());
    let good = [
        ("localhost", json!({"sslmode": "verify-full", "ca_file": ca}), true),
        ("127.0.0.1", json!({"sslmode": "verify-ca", "ca_file": ca}), true),
        ("127.0.0.1", json!({"sslmode": "require", "ca_file": ca}), true),
        ("127.0.0.1", json!({"sslmode": "require"}), true),
        ("127.0.0.1", json!({"sslmode": "prefer"}), true),
        ("127.0.0.1", json!({}), true),
        ("127.0.0.1", json!({"sslmode": "disable"}), false),
    ];
    for (host, settings, expected) in good {
        assert_eq!(encrypted(&database, host, settings.clone()).await.unwrap(), expected, "{host} {settings}");
    }
    let bad = [
        ("127.0.0.1", json!({"sslmode": "verify-full", "ca_file": ca}), "another host", "host name"),
        ("localhost", json!({"sslmode": "verify-full", "ca_file": other}), "authority", "ca_file"),
        ("localhost", json!({"sslmode": "verify-ca", "ca_file": other}), "authority", "ca_file"),
        ("localhost", json!({"sslmode": "require", "ca_file": other}), "authority", "ca_file"),
        ("localhost", json!({"sslmode": "verify-full"}), "authority", "ca_file"),
    ];
    for (host, settings, what, advice) in bad {
        let error = encrypted(&database, host, settings.clone()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Source, "{error}");
        assert!(error.to_string().contains(what), "{settings}: {error}");
        assert!(error.advice().unwrap().contains(advice), "{settings}: {error}");
    }
    let url = format!("postgres://root_user@localhost:{}/{}", shared().port(), database.name());
    let url = format!("{url}?sslmode=verify-full&sslrootcert={}", ca.display());
    let from_url = serde_json::from_value(json!({ "url": url })).unwrap();
    assert!(Postgres::connect(&from_url, "warehouse").await.is_ok());
}

#[tokio::test]
async fn prefer_takes_what_the_servers_rules_allow() {
    let database = shared().create_database().await;
    database.execute("DO $$ BEGIN CREATE ROLE plain_only LOGIN; CREATE ROLE tls_only LOGIN; END $$").await;
    for user in ["plain_only", "tls_only"] {
        assert!(Postgres::connect(&database.settings_as(user, json!({})), "warehouse").await.is_ok(), "{user}");
    }
    for (user, mode) in [("plain_only", "require"), ("tls_only", "disable")] {
        let settings = database.settings_as(user, json!({"sslmode": mode}));
        let error = Postgres::connect(&settings, "warehouse").await.unwrap_err();
        assert!(error.to_string().contains("[28000]"), "{error}");
        assert!(error.advice().unwrap().contains("pg_hba"), "{error}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_by_require() {
    // GIVEN a server that answers the request for TLS with "no", as PostgreSQL does without `ssl`
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 8];
            let _ = stream.read_exact(&mut request).await;
            let _ = stream.write_all(b"N").await;
        }
    });
    let settings = json!({ "url": format!("postgres://u@127.0.0.1:{port}/db"), "sslmode": "require" });
    let error = Postgres::connect(&serde_json::from_value(settings).unwrap(), "warehouse").await.unwrap_err();
    assert!(error.to_string().contains("has no TLS"), "{error}");
    assert!(error.advice().unwrap().contains("sslmode"), "{error}");
}

#[tokio::test]
async fn a_ca_file_that_is_none_is_named() {
    let cluster: &Cluster = shared();
    let key = cluster.socket_folder().join("server.key");
    for path in ["/nowhere/ca.pem", key.to_str().unwrap()] {
        let settings = json!({ "url": format!("postgres://u@localhost:{}/db", cluster.port()), "sslmode": "verify-full", "ca_file": path });
        let error = Postgres::connect(&serde_json::from_value(settings).unwrap(), "warehouse").await.unwrap_err();
        assert_eq!(error.kind(), Kind::Config, "{error}");
        assert!(error.to_string().contains(path) && error.advice().is_some(), "{error}");
    }
}
