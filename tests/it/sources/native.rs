//! PostgreSQL and DuckDB files, read by the program itself.

use crate::support::cli::{Place, Running};
use crate::support::postgres::{Database, shared};
use crate::support::proxy::Proxy;

use super::{Case, Engine, Middle, Models, ROWS, WIDTH, conforms, values};

#[test]
fn postgresql() {
    conforms(&mut PostgreSql::new("type = \"postgres\"\nurl = \"URL\""));
}

#[test]
fn duckdb_file() {
    conforms(&mut DuckDbFile);
}

/// A database of the shared server, behind a proxy.
pub(super) struct PostgreSql {
    runtime: tokio::runtime::Runtime,
    database: Database,
    proxy: Proxy,
    /// The section of the source; `URL` stands for the address.
    source: String,
}

impl PostgreSql {
    pub(super) fn new(source: &str) -> PostgreSql {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let database = runtime.block_on(shared().create_database());
        let proxy = Proxy::start();
        proxy.lead_to(shared().port());
        PostgreSql { runtime, database, proxy, source: source.to_owned() }
    }

    pub(super) fn execute(&self, sql: &str) {
        self.runtime.block_on(self.database.execute(sql));
    }

    /// What lies before it.
    pub(super) fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// `[sources.engine]`.
    pub(super) fn section(&self) -> String {
        let url = format!("postgres://root_user@127.0.0.1:{}/{}", self.proxy.port(), self.database.name());
        format!("[sources.engine]\n{}\n", self.source.replace("URL", &url))
    }
}

impl Engine for PostgreSql {
    fn set_up(&mut self, _place: &mut Place) -> (String, Models) {
        self.execute(&values::table("My Accounts", |kind| {
            if kind == "double" { "double precision" } else { kind }.to_owned()
        }));
        self.execute(&large("generate_series(1, ROWS) t(n)"));
        (self.section(), tables())
    }

    fn middle(&self) -> Middle {
        Middle::Wire(self.proxy.clone())
    }

    fn kill(&mut self, _run: &Running, _place: &Place) {
        self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
        );
    }

    fn change(&mut self, _place: &Place) {
        self.execute("UPDATE large SET version = 2");
    }
}

struct DuckDbFile;

impl Engine for DuckDbFile {
    fn set_up(&mut self, place: &mut Place) -> (String, Models) {
        place.warehouse(&values::table("My Accounts", duckdb_type));
        place.warehouse(&large("range(1, ROWS + 1) t(n)"));
        (
            "[sources.engine]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n".to_owned(),
            Models { endless: Some(ENDLESS.to_owned()), ..tables() },
        )
    }

    fn middle(&self) -> Middle {
        Middle::Program
    }

    fn cannot(&self, case: Case) -> Option<&'static str> {
        match case {
            Case::Death => Some("the engine is a part of the program, whose death is in `killed`"),
            Case::Snapshot => Some("no writer gets at the file while it is read: `duckdb_source` has that"),
            Case::Values | Case::Cancel => None,
        }
    }
}

/// A model that DuckDB works on for ever.
pub(super) const ENDLESS: &str =
    "sql = \"SELECT 'k' || sum(hash(i)) AS id, 1 AS version, 'n' AS word FROM range(400000000000) r(i)\"";

/// The models of engines with two tables.
pub(super) fn tables() -> Models {
    Models { small: "table = \"\\\"My Accounts\\\"\"".to_owned(), large: "table = \"large\"".to_owned(), endless: None }
}

/// The statement that makes the large table; `rows` yields the numbers.
pub(super) fn large(rows: &str) -> String {
    let rows = rows.replace("ROWS", &ROWS.to_string());
    format!("CREATE TABLE large AS SELECT 'k' || n AS id, 1 AS version, repeat('x', {WIDTH}) AS word FROM {rows};\n")
}

/// DuckDB has the types under the names of standard SQL.
pub(super) fn duckdb_type(kind: &str) -> String {
    kind.to_owned()
}
