//! PostgreSQL: what hides, sleeps, moves or is away for a while.

use std::time::Duration;

use groupcast::error::Kind;
use groupcast::io::{Clock as _, SystemClock};
use groupcast::source::postgres::Postgres;
use serde_json::json;

use super::{mapping, place_of, sent};
use crate::support::postgres::{Cluster, SCRAM_PASSWORD, SCRAM_USER, shared};

const PLAN: &str = "plan = \"plan\"";

/// airbyte #16567 and #19889, PostHog #76090: rows whose cursor is null fall out of every incremental read, silently.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_without_a_cursor_are_read_by_every_run() {
    let database = shared().create_database().await;
    database
        .execute(
            "CREATE TABLE accounts (id text, plan text, updated_at timestamptz); \
             INSERT INTO accounts VALUES ('a', 'free', now() - interval '2 days'), ('b', 'free', now() - interval '1 day'), \
             ('c', 'free', NULL)",
        )
        .await;
    let place = place_of(&database, "root_user");
    let incremental = "[incremental]\ncursor = \"updated_at\"\n";
    place.mapping("accounts", &mapping("table = \"accounts\"", PLAN, incremental));
    place.run(&["run"]).exits(0).says(&["3 delivered"]);
    // WHEN each row changes and no cursor does THEN what lies before the checkpoint is left, and the row without one is not
    database.execute("UPDATE accounts SET plan = 'pro'; INSERT INTO accounts VALUES ('d', 'pro', NULL)").await;
    place.run(&["run"]).exits(0).says(&["3 delivered"]);
    let last: Vec<_> = sent(&place).into_iter().filter(|(_, set)| set["plan"] == "pro").map(|(key, _)| key).collect();
    assert_eq!(last, ["b", "c", "d"], "within the lookback, and without a cursor");
    // AND the model's own condition still holds for it
    let model = "table = \"accounts\"\nwhere = \"id <> 'c' OR plan = 'x'\"";
    place.mapping("accounts", &mapping(model, PLAN, incremental));
    place.run(&["run"]).exits(0);
    database.execute("UPDATE accounts SET plan = 'free' WHERE id IN ('c', 'd')").await;
    place.run(&["run"]).exits(0).says(&["1 delivered"]);
}

/// powersync-service #275, PostHog #61326, supabase #1730: a row-security policy answers with fewer rows and no error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_hides_rows_is_warned_of() {
    let database = shared().create_database().await;
    database
        .execute(
            "CREATE TABLE accounts (id text, plan text); INSERT INTO accounts VALUES ('a', 'pro'), ('b', 'pro'); \
             CREATE TABLE open (id text, plan text); CREATE VIEW seen AS SELECT * FROM accounts; \
             ALTER TABLE accounts ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON accounts USING (id = 'a'); \
             DO $$ BEGIN CREATE ROLE tenant LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$; \
             GRANT SELECT ON accounts, open, seen TO tenant",
        )
        .await;
    let place = place_of(&database, "tenant");
    let warning = "a row-security policy of `accounts` decides which rows user `tenant` sees";
    for (model, warned) in [
        ("table = \"accounts\"", true),
        ("sql = \"SELECT * FROM accounts WHERE plan = 'pro'\"", true),
        // Its owner may see everything.
        ("table = \"seen\"", false),
        ("table = \"open\"", false),
    ] {
        place.mapping("accounts", &mapping(model, PLAN, ""));
        let output = place.run(&["check", "--connect"]).exits(0);
        assert_eq!(output.all().contains(warning), warned, "{model}\n{}", output.all());
        assert_eq!(output.all().contains("BYPASSRLS"), warned, "{model}");
    }
    // AND who sees everything is not warned
    let place = place_of(&database, "root_user");
    place.mapping("accounts", &mapping("table = \"accounts\"", PLAN, ""));
    let output = place.run(&["check", "--connect"]).exits(0);
    assert!(!output.all().contains("row-security"), "{}", output.all());
}

/// asyncpg #1155, porsager/postgres #988, npgsql #3619: the first of several servers is gone without a word and uses up the
/// whole time limit, so the second one is never tried. Here also a server that takes the connection and hangs.
#[tokio::test]
async fn a_server_that_hangs_does_not_use_up_the_time_of_the_next() {
    let database = shared().create_database().await;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (hanging, working) = (silent.local_addr().unwrap().port(), shared().port());
    let connect = async |hosts: String, more: &str| {
        let url = format!("postgres://root_user@{hosts}/{}?sslmode=disable&connect_timeout=1{more}", database.name());
        Postgres::connect(&serde_json::from_value(json!({ "url": url })).unwrap(), "warehouse").await
    };
    for (first, more) in [(hanging, ""), (hanging, "&target_session_attrs=primary"), (1, "")] {
        connect(format!("127.0.0.1:{first},127.0.0.1:{working}"), more).await.unwrap();
    }
    // A standby is passed over for the primary, and refused where there is no other.
    let error = connect(format!("127.0.0.1:{working}"), "&target_session_attrs=standby").await.unwrap_err();
    assert!(error.advice().is_some(), "{error}");
    // WHEN all of them hang THEN it takes the limit for each, and the error names all
    let clock = SystemClock::start();
    let error = connect(format!("127.0.0.1:{hanging},127.0.0.1:{hanging}"), "").await.unwrap_err();
    assert!(clock.elapsed() >= Duration::from_secs(2), "{:?}", clock.elapsed());
    assert_eq!(error.kind(), Kind::SourceBusy);
    assert!(error.to_string().contains(&format!("127.0.0.1:{hanging}, 127.0.0.1:{hanging}")), "{error}");
    // AND what one of them says counts more than the silence of another
    let error = connect(format!("127.0.0.1:{working},127.0.0.1:{hanging}"), "&dbname=nowhere").await.unwrap_err();
    assert!(error.to_string().contains("[3D000]"), "{error}");
}

/// airbyte #25234 and #22660, Cloud SQL and Heroku: the server lets nobody in without a client certificate.
#[tokio::test]
async fn a_client_certificate_is_shown() {
    let database = shared().create_database().await;
    database
        .execute(
            "DO $$ BEGIN CREATE ROLE certified LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$",
        )
        .await;
    let (certificate, key) = shared().client_certificate();
    let connect = async |more: serde_json::Value| {
        let mut settings = json!({ "sslmode": "verify-ca", "ca_file": shared().ca_file() });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Postgres::connect(&database.settings_as("certified", settings), "warehouse").await
    };
    connect(json!({ "cert_file": certificate, "key_file": key })).await.unwrap();
    let url = format!(
        "postgres://certified@127.0.0.1:{}/{}?sslmode=require&sslcert={}&sslkey={}",
        shared().port(),
        database.name(),
        certificate.display(),
        key.display()
    );
    connect(json!({ "url": url, "sslmode": "require" })).await.unwrap();
    let error = connect(json!({})).await.unwrap_err();
    assert!(error.to_string().contains("certificate") && error.advice().is_some(), "{error}");
    // AND each mistake with the files is named, without a byte of the key
    let (ca, folder) = (shared().ca_file(), tempfile::tempdir().unwrap());
    let encrypted = folder.path().join("encrypted.key");
    std::fs::write(&encrypted, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
        .unwrap();
    for (settings, what) in [
        (json!({ "cert_file": certificate }), "without its key"),
        (json!({ "key_file": key }), "without the certificate"),
        (json!({ "cert_file": ca, "key_file": key }), "do not belong together"),
        (json!({ "cert_file": key, "key_file": key }), "contains no certificate"),
        (json!({ "cert_file": certificate, "key_file": ca }), "contains no private key"),
        (json!({ "cert_file": certificate, "key_file": encrypted }), "encrypted with a passphrase"),
        (json!({ "cert_file": certificate, "key_file": "/nowhere.key" }), "cannot be read"),
    ] {
        let error = connect(settings.clone()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Config, "{error}");
        assert!(error.to_string().contains(what) && error.advice().is_some(), "{settings}: {error}");
    }
}

/// PostHog #63975: a materialized view that was made or restored without data fails every read, with no word about what to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_materialized_view_without_data_says_how_to_fill_it() {
    let database = shared().create_database().await;
    database.execute("CREATE MATERIALIZED VIEW accounts AS SELECT 'a' AS id, 'pro' AS plan WITH NO DATA").await;
    let place = place_of(&database, "root_user");
    place.mapping("accounts", &mapping("table = \"accounts\"", PLAN, ""));
    for command in [["check", "--connect"].as_slice(), &["run"]] {
        place.run(command).exits(2).says(&["has not been populated", "REFRESH MATERIALIZED VIEW"]);
    }
    database.execute("REFRESH MATERIALIZED VIEW accounts").await;
    place.run(&["run"]).exits(0).says(&["1 delivered"]);
}

/// airbyte #1991, dbt-core #9818, meltano target-postgres #119: a table with capitals, or in another schema, "does not exist".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_not_found_is_looked_for() {
    let database = shared().create_database().await;
    database
        .execute(
            "CREATE TABLE \"Accounts\" (id text); CREATE SCHEMA analytics; CREATE TABLE analytics.dim_accounts (id text); \
             CREATE TABLE \"odd one\" (id text)",
        )
        .await;
    let place = place_of(&database, "root_user");
    for (model, hint) in [
        ("table = \"accounts\"", Some("there is public.Accounts")),
        ("table = \"ACCOUNTS\"", Some("there is public.Accounts")),
        ("table = \"dim_accounts\"", Some("there is analytics.dim_accounts")),
        ("table = \"public.dim_accounts\"", Some("there is analytics.dim_accounts")),
        ("sql = \"SELECT * FROM Accounts\"", Some("there is public.Accounts")),
        ("table = '\"Odd One\"'", Some("there is public.\"odd one\"")),
        ("table = \"nowhere\"", None),
    ] {
        place.mapping("accounts", &mapping(model, "x = { const = 1 }", ""));
        let output = place.run(&["check", "--connect"]).exits(2).says(&["does not exist [42P01]"]);
        let shown = output.all().replace('`', "");
        match hint {
            Some(hint) => assert!(shown.contains(hint), "{model}\n{shown}"),
            None => assert!(shown.contains("correct the table's name"), "{model}\n{shown}"),
        }
    }
}

/// neosync #2542, pipelinewise-tap-postgres #114, neon #5654 and #11975: what passes by itself at standbys, sleeping databases
/// and foreign servers is tried again, and a condition of the data is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_passes_by_itself_is_told_from_what_does_not() {
    let database = shared().create_database().await;
    let place = place_of(&database, "root_user");
    place.mapping("accounts", &mapping("table = \"accounts\"", PLAN, ""));
    for (code, message, busy, advice) in [
        ("40001", "canceling statement due to conflict with recovery", true, "hot_standby_feedback"),
        ("40001", "could not serialize access", true, "run again later"),
        ("XX000", "Control plane request failed: endpoint is in transition", true, "in a minute"),
        ("XX000", "Couldn''t connect to compute node", true, "in a minute"),
        ("HV00N", "could not connect to server \"remote\"", true, "run again later"),
        ("25P03", "terminating connection due to idle-in-transaction timeout", true, "run again later"),
        ("XX000", "something else", false, "server's log"),
        ("P0001", "no such tenant", false, "server's log"),
    ] {
        database
            .execute(&format!(
                "CREATE OR REPLACE FUNCTION fail() RETURNS text LANGUAGE plpgsql AS $$ BEGIN \
                 RAISE EXCEPTION USING ERRCODE = '{code}', MESSAGE = '{message}'; END $$; \
                 CREATE OR REPLACE VIEW accounts AS SELECT 'a' AS id, fail() AS plan"
            ))
            .await;
        let output = place.run(&["run", "--json"]);
        let kind = if busy { "source_busy" } else { "\"source\"" };
        assert!(output.all().contains(kind) && output.all().contains(advice), "{code} {message}\n{}", output.all());
    }
}

/// airbyte #19952 and #15163, duckdb-postgres #102, debezium DBZ-6912 (#4867): infinite times and years beyond the calendar
/// became other dates. Here such a row is rejected by name, the others arrive, and text keeps the server's word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_without_end_is_never_another_time() {
    let database = shared().create_database().await;
    database
        .execute(
            "CREATE TABLE accounts (id text, until timestamptz); INSERT INTO accounts VALUES ('a', 'infinity'), \
             ('b', '-infinity'), ('c', '0044-03-15 12:00:00+00 BC'), ('d', '12024-01-01 00:00:00+00'), \
             ('e', '294276-12-31 23:59:59.999999+00'), ('f', '2024-05-06 07:08:09.000001+00')",
        )
        .await;
    let place = place_of(&database, "root_user");
    place.mapping("accounts", &mapping("table = \"accounts\"", "until = \"until\"", "[guards]\nunsendable_max = 1.0"));
    place.run(&["run"]).exits(3).says(&["3 delivered", "3 rejected"]);
    let expected =
        [("c", "-0043-03-15T12:00:00Z"), ("d", "+12024-01-01T00:00:00Z"), ("f", "2024-05-06T07:08:09.000001Z")];
    assert_eq!(sent(&place), expected.map(|(key, until)| (key.to_owned(), json!({ "until": until }))));
    place.run(&["rejected"]).exits(0).says(&["an infinite date", "a date outside the years"]);
    let as_text = "until = { column = \"until\", as = \"string\" }";
    place.mapping("accounts", &mapping("table = \"accounts\"", as_text, "[guards]\nunsendable_max = 1.0"));
    place.run(&["run"]).exits(3);
    assert!(sent(&place).contains(&("a".to_owned(), json!({ "until": "infinity" }))));
}

/// pipelinewise-tap-postgres #190, airbyte #16990, jOOQ #16581: intervals and times with a zone, alone and in arrays, were
/// dropped or lost their zone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_of_day_and_durations_keep_their_zone_and_their_parts() {
    let database = shared().create_database().await;
    database
        .execute(
            "CREATE TABLE accounts (id text, at timetz, ats timetz[], lasts interval, all_last interval[]); INSERT INTO accounts \
             VALUES ('a', '12:00:00.5+05:30', '{12:00:00+02,NULL}', '1 year 2 months -3 days 04:05:06.000007', '{1 mon,30 days}')",
        )
        .await;
    let place = place_of(&database, "root_user");
    let traits = "at = \"at\"\nats = \"ats\"\nlasts = \"lasts\"\nall_last = \"all_last\"";
    place.mapping("accounts", &mapping("table = \"accounts\"", traits, ""));
    place.run(&["run"]).exits(0);
    let expected = json!({
        "at": "12:00:00.5+05:30", "ats": ["12:00:00+02", null], "lasts": "P1Y2M-3DT4H5M6.000007S", "all_last": ["P1M", "P30D"],
    });
    assert_eq!(sent(&place), [("a".to_owned(), expected)]);
}

/// psycopg #580: a server that is up and refuses work is passed over like one that is down.
#[tokio::test]
async fn a_server_that_is_stopped_is_passed_over() {
    let stopped = Cluster::start();
    let (port, database) = (stopped.port(), shared().create_database().await);
    stopped.stop();
    let url = format!("postgres://root_user@127.0.0.1:{port},127.0.0.1:{}/{}", shared().port(), database.name());
    let settings = json!({ "url": url, "sslmode": "disable" });
    Postgres::connect(&serde_json::from_value(settings).unwrap(), "warehouse").await.unwrap();
}

/// hassio-addons #1614, superset #13456, mathesar #4501: a password with `%` in a connection string is another one, and the server
/// only says that it is wrong.
#[tokio::test]
async fn a_password_that_was_unescaped_says_so() {
    let database = shared().create_database().await;
    database.execute(SCRAM_USER).await;
    let connect = async |url: String, password: Option<&str>| {
        let settings = json!({ "url": url, "password": password });
        Postgres::connect(&serde_json::from_value(settings).unwrap(), "warehouse").await
    };
    let at = |password: &str| {
        format!("postgres://scram_user{password}@127.0.0.1:{}/{}?sslmode=disable", shared().port(), database.name())
    };
    let error = connect(at(":secret%de1"), None).await.unwrap_err();
    assert!(error.to_string().contains("[28P01]"), "{error}");
    assert!(error.advice().unwrap().contains("`%25`") && !error.advice().unwrap().contains("secret"), "{error}");
    let error = connect(at(":secret"), None).await.unwrap_err();
    assert!(!error.advice().unwrap().contains('%'), "{error}");
    // AND the right one gets in, escaped or apart
    let escaped: String = SCRAM_PASSWORD.bytes().map(|byte| format!("%{byte:02x}")).collect();
    connect(at(&format!(":{escaped}")), None).await.unwrap();
    connect(at(":secret%de1"), Some(SCRAM_PASSWORD)).await.unwrap();
}
