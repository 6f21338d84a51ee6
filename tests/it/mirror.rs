//! Does PostgreSQL compare as this program would: are the same changes found, do only they leave the server, and is a mirror
//! that is missing, behind or wrong noticed?

use std::sync::Mutex;

use groupcast::delivery::Signal;
use groupcast::io::http::HttpClient;
use groupcast::io::{Random, SystemClock};
use groupcast::mapping::Compare;
use groupcast::service::job::Context;
use groupcast::service::open;
use groupcast::sync::mirror::MirrorReport;
use groupcast::sync::report::Report;
use groupcast::sync::{Event, GroupKeys, Monitor, RunOptions, RunOrigin};
use serde_json::Value;
use tokio::sync::watch;

use crate::support::cli::Place;
use crate::support::postgres::{Database, shared};

const MAPPING: &str = "source = \"warehouse\"\ndestination = \"out\"\n[model]\ntable = \"accounts\"\n[group]\n\
    type = \"company\"\nkey = \"id\"\n[traits]\nplan = \"plan\"\nn = { column = \"n\", as = \"string\" }\n\
    at = \"at\"\nratio = \"ratio\"\n[policy]\non_missing = \"delete\"\non_duplicate = \"skip\"\n[guards]\ngroups_min = 100000\n";

#[derive(Default)]
struct RowsRead(Mutex<u64>);

impl Monitor for RowsRead {
    fn note(&self, event: Event<'_>) {
        if let Event::Reading(rows) = event {
            *self.0.lock().unwrap() = rows;
        }
    }
}

/// Accounts in a server, with a schema for mirrors.
struct Bench {
    place: Place,
    database: Database,
}

const ROWS: u64 = 3_000;

impl Bench {
    async fn new() -> Bench {
        let database = shared().create_database().await;
        database
            .execute(
                "CREATE TABLE accounts (id text, plan text, n numeric, at timestamptz, ratio float8); \
                 INSERT INTO accounts SELECT 'a' || i, 'free', 1.50, '2024-02-29 00:00+00'::timestamptz + i * interval '1 s', \
                 i / 7.0 FROM generate_series(1, 3000) i; CREATE SCHEMA groupcast_mirror",
            )
            .await;
        let place = Place::new();
        let name = database.name();
        let settings = format!(
            "[sources.warehouse]\ntype = \"postgres\"\ncompare = \"warehouse\"\n\
             url = \"postgres://root_user@127.0.0.1:{}/{name}?sslmode=disable\"\n\
             [destinations.out]\ntype = \"file\"\npath = \"out.ndjson\"\n",
            shared().port()
        );
        place.write("groupcast.toml", &settings);
        place.mapping("accounts", MAPPING);
        Bench { place, database }
    }

    async fn execute(&self, sql: &str) {
        self.database.execute(sql).await;
    }

    async fn run_with(&self, options: &RunOptions) -> (Report, u64) {
        let project = open::project(&self.place.path("")).unwrap();
        let ledger = open::ledger(&project).await.unwrap();
        let http_client = HttpClient::new().unwrap();
        let (clock, random, origin) = (SystemClock::start(), Random::from_entropy(), RunOrigin::of("test"));
        let context =
            Context { project: &project, ledger: &*ledger, http_client: &http_client, clock: &clock, random: &random };
        let (_signal, signal) = watch::channel(Signal::Go);
        let read = RowsRead::default();
        let job = context.job("accounts", (options, &origin), &read, signal).unwrap();
        let report = job.run().await.unwrap_or_else(|failure| panic!("{}", failure.as_error()));
        (report, *read.0.lock().unwrap())
    }

    /// Runs the sync: how many groups were sent, how many rows left the server, and what became of the mirror.
    async fn run(&self) -> (u64, u64, MirrorReport) {
        let (report, read) = self.run_with(&RunOptions::default()).await;
        let counts = &report.counts;
        assert_eq!(counts.rows, counts.unchanged + counts.changes.total(), "{counts:?}");
        (counts.changes.delivered + counts.removed.delivered, read, report.detail.mirror.clone().unwrap_or_default())
    }

    /// Runs it where the mirror is expected to be used.
    async fn compared(&self) -> (u64, u64) {
        let (sent, read, mirror) = self.run().await;
        assert_eq!((mirror.compared, mirror.reason), (Compare::Warehouse, None));
        (sent, read)
    }

    /// Runs it where the mirror is expected to be made anew; what of `reason` it says.
    async fn rebuilt(&self, reason: &str) -> u64 {
        let (sent, read, mirror) = self.run().await;
        assert!(mirror.rebuilt && mirror.reason.as_ref().is_some_and(|why| why.contains(reason)), "{mirror:?}");
        assert!(read >= ROWS - 10, "{read}");
        sent
    }
}

#[tokio::test]
async fn only_rows_that_differ_leave_the_server() {
    let bench = Bench::new().await;
    assert_eq!(bench.rebuilt("there was no mirror").await, ROWS);
    assert_eq!(bench.compared().await, (0, 0), "a quiet run");
    bench.execute("UPDATE accounts SET plan = 'pro' WHERE id = 'a7'").await;
    assert_eq!(bench.compared().await, (1, 1));
    assert_eq!(bench.compared().await, (0, 0));
    // Each of these is a change of one column.
    for (sql, sent) in [
        ("UPDATE accounts SET n = 1.5 WHERE id = 'a8'", 1),
        ("UPDATE accounts SET n = NULL WHERE id = 'a8'", 1),
        ("UPDATE accounts SET at = at + interval '1 microsecond' WHERE id = 'a9'", 1),
        ("UPDATE accounts SET ratio = ratio + 1e-15 WHERE id = 'a1'", 1),
        ("UPDATE accounts SET plan = '' WHERE id = 'a10'", 1),
        ("INSERT INTO accounts VALUES ('new', 'free', 0, now(), 0.5)", 1),
        ("DELETE FROM accounts WHERE id IN ('new', 'a11')", 2),
        ("INSERT INTO accounts SELECT 'a11', plan, n, at, ratio FROM accounts WHERE id = 'a12'", 1),
        ("VACUUM FULL accounts", 0),
    ] {
        bench.execute(sql).await;
        let (found, read) = bench.compared().await;
        assert_eq!(found, sent, "{sql}");
        assert!(read <= sent, "{sql}: {read}");
    }
}

#[tokio::test]
async fn what_was_sent_and_not_mirrored_is_looked_at_again() {
    let bench = Bench::new().await;
    bench.run().await;
    // The mirror cannot be written: the change is sent all the same.
    bench.execute("UPDATE accounts SET plan = 'pro' WHERE id = 'a7'").await;
    let locked = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no room'; END $$; DO $$ BEGIN \
        EXECUTE (SELECT format('CREATE TRIGGER refuse BEFORE INSERT ON groupcast_mirror.%I EXECUTE FUNCTION refuse()', tablename) \
        FROM pg_tables WHERE schemaname = 'groupcast_mirror'); END $$";
    bench.execute(locked).await;
    let (report, _) = bench.run_with(&RunOptions::default()).await;
    assert_eq!(report.counts.changes.delivered, 1);
    assert!(report.detail.remarks.iter().any(|remark| remark.contains("could not be written")), "{:?}", report.detail);
    // It is shown what waits, and since when.
    bench.place.run(&["status"]).exits(0).says(&["3,000 keys, 1 waiting since"]);
    let status = bench.place.run(&["status", "--json"]).exits(0).json();
    let since = status["syncs"][0]["mirror"]["behind_since"].as_str().unwrap().to_owned();
    let show = bench.place.run(&["runs", "show", &report.run]).exits(0);
    show.says(&["compared in the warehouse: 1 row left it; 1 key of the mirror waiting"]);
    let limited = RunOptions { group: Some(GroupKeys::one("a9")), ..RunOptions::default() };
    bench.run_with(&limited).await;
    let status = bench.place.run(&["status", "--json"]).exits(0).json();
    let shown = &status["syncs"][0]["mirror"];
    assert_eq!((&shown["behind_since"], &shown["unmirrored"]), (&Value::from(since), &Value::from(2)), "{status}");
    // It changes back to what the mirror holds.
    bench.execute("UPDATE accounts SET plan = 'free' WHERE id = 'a7'; DROP FUNCTION refuse() CASCADE").await;
    assert_eq!(bench.compared().await, (1, 2), "what waits is read in any case");
    assert_eq!(bench.compared().await, (0, 0));
    let status = bench.place.run(&["status", "--json"]).exits(0).json();
    assert_eq!(status["syncs"][0]["mirror"]["behind_since"], Value::Null, "nothing waits any more");
}

#[tokio::test]
async fn a_mirror_that_is_not_what_it_should_be_is_made_anew() {
    let bench = Bench::new().await;
    bench.run().await;
    bench.execute("UPDATE accounts SET plan = 'pro' WHERE id = 'a1'; DROP SCHEMA groupcast_mirror CASCADE; CREATE SCHEMA groupcast_mirror").await;
    assert_eq!(bench.rebuilt("could not be read").await, 1);
    // Rows that are what the mirror should hold need no mirror: each time one of them changes.
    let broken = async |statement: &str, plan: &str| {
        let of_table = format!(
            "DO $$ BEGIN EXECUTE (SELECT format('{statement}', tablename) FROM pg_tables WHERE schemaname = 'groupcast_mirror'); \
             END $$"
        );
        bench.execute(&of_table).await;
        assert_eq!(bench.compared().await, (0, 0), "a quiet run");
        bench.execute(&format!("UPDATE accounts SET plan = '{plan}' WHERE id = 'a20'")).await;
    };
    broken("DELETE FROM groupcast_mirror.%I WHERE group_key = ''a5''", "x").await;
    assert_eq!(bench.rebuilt("does not hold what it should").await, 1);
    broken("UPDATE groupcast_mirror.%I SET fingerprint = fingerprint + 1 WHERE group_key = ''a6''", "y").await;
    assert_eq!(bench.rebuilt("does not hold what it should").await, 1);
    // A late append of a process that was thought dead has a number of its own.
    broken("INSERT INTO groupcast_mirror.%I VALUES (''a6'', 5, 9223372036854775807)", "z").await;
    assert_eq!(bench.compared().await, (1, 1));
    // Rows that share a key: none of them is sent, as ever, and the others are compared.
    bench.execute("INSERT INTO accounts SELECT * FROM accounts WHERE id IN ('a3', 'a4')").await;
    assert_eq!(bench.rebuilt("several rows have one key").await, 0);
    bench.execute("UPDATE accounts SET plan = 'pro' WHERE id IN ('a3', 'a20')").await;
    let (report, read) = bench.run_with(&RunOptions::default()).await;
    assert_eq!((report.counts.changes.delivered, report.counts.invalid_keys, read), (1, 4, 5));
    bench.execute("DELETE FROM accounts WHERE id = 'a3'").await;
    assert_eq!(bench.compared().await.0, 1, "it was there twice, and is gone");
    // An edited mapping makes other documents of the same rows.
    bench.place.mapping("accounts", &MAPPING.replace("plan = \"plan\"", "tier = \"plan\""));
    assert!(bench.rebuilt("the mapping was edited").await > ROWS - 10);
}

#[tokio::test]
async fn runs_of_a_part_and_runs_that_compare_here_leave_nothing_hidden() {
    let bench = Bench::new().await;
    bench.run().await;
    bench.execute("UPDATE accounts SET plan = 'pro' WHERE id IN ('a1', 'a2', 'a3')").await;
    let group = RunOptions { group: Some(GroupKeys::one("a1")), ..RunOptions::default() };
    assert_eq!(bench.run_with(&group).await.0.counts.changes.delivered, 1);
    let limited = RunOptions { limit: Some(1), ..RunOptions::default() };
    let (report, _) = bench.run_with(&limited).await;
    assert_eq!((report.counts.changes.delivered, report.counts.changes.pending), (1, 1));
    bench.execute("UPDATE accounts SET plan = 'free' WHERE id IN ('a1', 'a2', 'a3')").await;
    assert_eq!(bench.compared().await, (2, 3), "two were sent, and changed back");
    // One line switches back and forth.
    bench.place.mapping("accounts", &MAPPING.replace("[group]", "compare = \"local\"\n[group]"));
    bench.execute("UPDATE accounts SET plan = 'pro' WHERE id = 'a1'").await;
    assert_eq!(bench.run().await.0, 1);
    bench.execute("UPDATE accounts SET plan = 'free' WHERE id = 'a1'").await;
    bench.place.mapping("accounts", MAPPING);
    assert_eq!(bench.rebuilt("there was no mirror").await, 1);
    assert_eq!(bench.compared().await, (0, 0));
    // Another user, who may not write: rows are compared here.
    bench.execute("DROP SCHEMA groupcast_mirror CASCADE; UPDATE accounts SET plan = 'pro' WHERE id = 'a1'").await;
    let (sent, _, mirror) = bench.run().await;
    assert_eq!((sent, mirror.compared, mirror.rebuilt), (1, Compare::Local, false));
    assert!(mirror.reason.unwrap().contains("could not be made"));
}

#[tokio::test]
async fn a_mirror_of_many_changes_is_compacted_and_status_shows_it() {
    let bench = Bench::new().await;
    bench.place.run(&["status"]).exits(0).says(&["MIRROR", "none"]);
    bench.run().await;
    let status = bench.place.run(&["status", "--json"]).exits(0).json();
    let shown = &status["syncs"][0]["mirror"];
    assert_eq!(status["syncs"][0]["compare"], "warehouse");
    assert_eq!(
        (shown["schema"].as_str(), shown["reason"].as_str(), shown["behind_since"].as_str()),
        (Some("groupcast_mirror"), Some("there was no mirror"), None),
        "{status}"
    );
    bench.place.run(&["status"]).exits(0).says(&["3,000 keys"]);
    let rows = async || {
        let status = bench.place.run(&["status", "--json"]);
        let status = status.exits(0).json();
        let sync = &status["syncs"][0];
        assert_eq!(
            (sync["mirror"]["keys"].as_u64(), sync["mirror"]["unmirrored"].as_u64()),
            (Some(ROWS), Some(0)),
            "{status}"
        );
        sync["mirror"]["rows"].as_u64().unwrap()
    };
    for plan in ["pro", "free", "pro"] {
        bench.execute(&format!("UPDATE accounts SET plan = '{plan}'")).await;
        assert_eq!(bench.compared().await, (ROWS, ROWS));
    }
    assert_eq!(rows().await, ROWS, "four rows of each key are one again");
    assert_eq!(bench.compared().await, (0, 0));
}

#[tokio::test]
async fn check_says_what_a_mirror_needs() {
    let bench = Bench::new().await;
    let checked = bench.place.run(&["check", "--connect"]);
    checked.exits(0).says(&["GRANT USAGE, CREATE ON SCHEMA \"groupcast_mirror\""]);
    bench.execute("DROP SCHEMA groupcast_mirror").await;
    let checked = bench.place.run(&["check", "--connect"]);
    checked.exits(2).says(&["does not exist", "CREATE SCHEMA \"groupcast_mirror\""]);
    bench.place.mapping("accounts", &format!("{MAPPING}[incremental]\ncursor = \"at\"\n"));
    bench.place.run(&["check"]).exits(2).says(&["exclude each other"]);
}

/// The same behind an ADBC driver, whose statements the dialect makes: DuckDB's library, which is one.
#[tokio::test]
async fn a_warehouse_behind_a_driver_compares_too() {
    let Some(folder) = std::env::var_os("DUCKDB_LIB_DIR") else { return };
    let library = std::path::PathBuf::from(folder).join("libduckdb.so");
    let place = Place::new();
    place.warehouse(
        "CREATE TABLE accounts AS SELECT 'a' || i AS id, 'it''s ' || i AS plan, i::DECIMAL(9, 2) AS n, \
         TIMESTAMPTZ '2024-02-29 00:00:00+00' + i * INTERVAL 1 SECOND AS at, i / 7.0::DOUBLE AS ratio FROM range(1, 501) t(i); \
         CREATE SCHEMA groupcast_mirror",
    );
    place.write(
        "groupcast.toml",
        &format!(
            "[sources.warehouse]\ntype = \"adbc\"\ndriver = \"{}\"\nentrypoint = \"duckdb_adbc_init\"\ncompare = \"warehouse\"\n\
             options = {{ path = \"warehouse.duckdb\" }}\n[destinations.out]\ntype = \"file\"\npath = \"out.ndjson\"\n",
            library.display()
        ),
    );
    place.mapping("accounts", MAPPING);
    place.run(&["check", "--connect"]).exits(0).says(&["CREATE SCHEMA \"groupcast_mirror\""]);
    let run = async |sent: &str, compared: &str, rows_read: u64| {
        place.run(&["run"]).exits(0).says(&[sent]);
        let project = open::project(&place.path("")).unwrap();
        let ledger = open::ledger(&project).await.unwrap();
        let (_, detail) = ledger.history().runs_with_details("accounts", 1).await.unwrap().remove(0);
        let mirror = serde_json::from_str::<serde_json::Value>(&detail).unwrap()["mirror"].clone();
        assert_eq!(
            (mirror["compared"].as_str(), mirror["rows_read"].as_u64()),
            (Some(compared), Some(rows_read)),
            "{mirror}"
        );
    };
    run("500 delivered", "local", 500).await;
    run("500 unchanged", "warehouse", 0).await;
    for change in [
        "UPDATE accounts SET n = n + 0.01 WHERE id = 'a7'",
        "UPDATE accounts SET \"at\" = \"at\" + INTERVAL 1 MICROSECOND WHERE id = 'a7'",
        "UPDATE accounts SET ratio = ratio + 1e-13 WHERE id = 'a7'",
        "UPDATE accounts SET plan = NULL WHERE id = 'a7'",
        "UPDATE accounts SET plan = '' WHERE id = 'a7'",
    ] {
        place.warehouse(change);
        run("1 delivered", "warehouse", 1).await;
    }
    place.warehouse("DELETE FROM accounts WHERE id = 'a8'");
    run("1 removed", "warehouse", 0).await;
    place.run(&["plan"]).says(&["499"]);
    place.warehouse("DROP SCHEMA groupcast_mirror CASCADE");
    run("499 unchanged", "local", 0).await;
    place.warehouse("CREATE SCHEMA groupcast_mirror; UPDATE accounts SET plan = 'x' WHERE id = 'a1'");
    run("1 delivered", "local", 499).await;
    run("499 unchanged", "warehouse", 0).await;
}
