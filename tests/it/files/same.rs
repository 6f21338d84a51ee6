//! Are files that did not change known again, and every change found all the same?

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use groupcast::duckdb::{DuckDbConnection, Limits};
use groupcast::io::{Clock, SystemClock};
use groupcast::mapping::compile::Projection;
use groupcast::mapping::{Expr, From};
use groupcast::source::Source;
use groupcast::source::duckdb::{DuckDb, DuckDbSettings, FilesSettings};

/// The machine's clock, so much ahead.
struct Ahead(SystemClock, Duration);

#[async_trait]
impl Clock for Ahead {
    fn now(&self) -> DateTime<Utc> {
        self.0.now() + self.1
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        self.0.sleep(duration).await;
    }
}

const LATER: Duration = Duration::from_secs(61);

fn projection(from: From) -> Projection {
    Projection {
        from,
        filters: Vec::new(),
        restriction: None,
        key: "id".to_owned(),
        columns: vec![Expr::Column("plan".to_owned())],
        cursor: None,
        limit: None,
        summed: true,
    }
}

fn table(name: &str) -> From {
    From::Table(name.split('.').map(str::to_owned).collect())
}

struct Bench {
    folder: tempfile::TempDir,
    into: DuckDbConnection,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let into = DuckDbConnection::open(None, &Limits::standard()).unwrap();
        let bench = Bench { folder, into };
        bench.sql("CREATE TABLE accounts AS SELECT 'a' AS id, 'free' AS plan; CREATE VIEW seen AS FROM accounts");
        for name in ["a.csv", "b.csv"] {
            std::fs::write(bench.folder.path().join(name), format!("id,plan\n{},free\n", &name[..1])).unwrap();
        }
        bench
    }

    fn sql(&self, sql: &str) {
        let connection = duckdb::Connection::open(self.folder.path().join("warehouse.duckdb")).unwrap();
        connection.execute_batch(sql).unwrap();
        connection.close().map_err(|(_, error)| error).unwrap();
    }

    fn warehouse(&self, ahead: Duration) -> DuckDb {
        let path = Some(self.folder.path().join("warehouse.duckdb"));
        let settings = DuckDbSettings { path, ..DuckDbSettings::default() };
        let source = DuckDb::open(&settings, "warehouse", self.folder.path(), &Limits::standard()).unwrap();
        source.with_clock(Box::new(Ahead(SystemClock::start(), ahead)))
    }

    fn files(&self, settings: &FilesSettings) -> DuckDb {
        let source = DuckDb::of_files(settings, "files", self.folder.path(), &Limits::standard()).unwrap();
        source.with_clock(Box::new(Ahead(SystemClock::start(), LATER)))
    }

    /// The summary that reading gives, and the one without reading.
    async fn summaries(&self, source: &mut DuckDb, wanted: &Projection) -> (Option<String>, Option<String>) {
        let staged = source.stage(wanted, &self.into, &|_| {}).await.unwrap();
        source.release(&self.into).await.unwrap();
        (staged.summary, source.summary(wanted).await.unwrap())
    }
}

#[tokio::test]
async fn tables_of_files_that_are_the_same_are_known_again() {
    let bench = Bench::new();
    let files = bench.files(&FilesSettings::default());
    for (mut source, of) in [(bench.warehouse(LATER), "accounts"), (files, "*.csv")] {
        let wanted = projection(table(of));
        let (read, known) = bench.summaries(&mut source, &wanted).await;
        assert!(read.is_some() && read == known, "{of}: {read:?} {known:?}");
        // Another mapping is another question.
        let other = Projection { filters: vec!["plan = 'free'".to_owned()], ..wanted.clone() };
        let (read_too, known_too) = bench.summaries(&mut source, &other).await;
        assert!(read_too == known_too && read_too.is_some() && read_too != read, "{of}");
        // Any change is one.
        match of {
            "accounts" => bench.sql("UPDATE accounts SET plan = 'pro'"),
            _ => std::fs::write(bench.folder.path().join("b.csv"), "id,plan\nb,paid\n").unwrap(),
        }
        assert_ne!(source.summary(&wanted).await.unwrap(), read, "{of}");
        assert_ne!(bench.summaries(&mut source, &wanted).await.0, read, "{of}");
    }
    // So is another file, and another way of reading the same.
    let wanted = projection(table("*.csv"));
    let before = bench.files(&FilesSettings::default()).summary(&wanted).await.unwrap();
    let csv = toml::from_str("null = 'free'").unwrap();
    let settings = FilesSettings { csv: Some(csv), ..FilesSettings::default() };
    assert_ne!(bench.files(&settings).summary(&wanted).await.unwrap(), before);
    std::fs::write(bench.folder.path().join("c.csv"), "id,plan\n").unwrap();
    assert_ne!(bench.files(&FilesSettings::default()).summary(&wanted).await.unwrap(), before);
}

#[tokio::test]
async fn what_may_change_without_its_files_is_read() {
    let bench = Bench::new();
    let mut source = bench.warehouse(LATER);
    let changing = Projection {
        columns: vec![Expr::Sql("plan || CAST(now() AS VARCHAR)".to_owned())],
        ..projection(table("accounts"))
    };
    for (wanted, of) in [
        (projection(table("seen")), "a view"),
        (projection(From::Query("FROM accounts".to_owned())), "a query"),
        (changing, "an expression that changes"),
    ] {
        assert_eq!(bench.summaries(&mut source, &wanted).await.0, None, "{of}");
    }
    // A file that is so young that a second change of it may be hidden is not known again.
    let wanted = projection(table("accounts"));
    assert_eq!(bench.summaries(&mut bench.warehouse(Duration::ZERO), &wanted).await, (None, None));
    // Nor beside a log that another process has not folded in yet.
    std::fs::write(bench.folder.path().join("warehouse.duckdb.wal"), "").unwrap();
    assert_eq!(source.summary(&wanted).await.unwrap(), None);
}
