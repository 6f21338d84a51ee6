//! SQLite, PostgreSQL and DuckDB behind their ADBC drivers, in a reader process.

use std::path::{Path, PathBuf};

use adbc_core::options::{AdbcVersion, OptionDatabase, OptionValue};
use adbc_core::{Connection as _, Database as _, Driver as _, Statement as _};
use rustix::process::Signal;

use crate::support::cli::{Place, Running};

use super::native::{PostgreSql, duckdb_type, large, tables};
use super::{Case, Engine, Middle, Models, conforms, readers_of, signal, values};

#[test]
fn sqlite() {
    conforms(&mut Sqlite);
}

#[test]
fn postgresql_driver() {
    let driver = driver("postgresql");
    conforms(&mut PostgreSql::new(&format!("type = \"adbc\"\ndriver = \"{}\"\nuri = \"URL\"", driver.display())));
}

#[test]
fn duckdb_driver() {
    // Where DuckDB is compiled into the program there is no library of it.
    if let Some(mut library) = DuckDbDriver::find() {
        conforms(&mut library);
    }
}

/// A driver from the folder that `.ci/drivers` fills.
pub(crate) fn driver(name: &str) -> PathBuf {
    let folder = std::env::var_os("GROUPCAST_TEST_DRIVERS").map_or_else(
        || {
            let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
            let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"))).unwrap();
            cache.join("groupcast/drivers")
        },
        PathBuf::from,
    );
    let path = folder.join(format!("libadbc_driver_{name}.so"));
    assert!(path.is_file(), "{} is missing: run `.ci/drivers`", path.display());
    path
}

/// Runs statements through a driver.
pub(crate) fn execute(path: &Path, uri: &str, statements: &str) {
    let mut driver =
        adbc_driver_manager::ManagedDriver::load_dynamic_from_filename(path, None, AdbcVersion::V110).unwrap();
    let options = [(OptionDatabase::Uri, OptionValue::from(uri))];
    let database = driver.new_database_with_opts(options).unwrap();
    let mut connection = database.new_connection().unwrap();
    for sql in statements.split(";\n").map(str::trim).filter(|sql| !sql.is_empty()) {
        let mut statement = connection.new_statement().unwrap();
        statement.set_sql_query(sql).unwrap();
        statement.execute_update().unwrap_or_else(|error| panic!("{error}\n{sql}"));
    }
}

fn kill_reader(run: &Running) {
    for reader in readers_of(run.pid()) {
        signal(reader, Signal::KILL);
    }
}

struct Sqlite;

impl Sqlite {
    fn execute(place: &Place, statements: &str) {
        execute(&driver("sqlite"), &place.path("accounts.sqlite").display().to_string(), statements);
    }
}

impl Engine for Sqlite {
    fn set_up(&mut self, place: &mut Place) -> (String, Models) {
        // It has neither booleans nor decimals nor times.
        let types = |kind: &str| match kind {
            "boolean" | "smallint" | "bigint" => "INTEGER".to_owned(),
            "double" => "REAL".to_owned(),
            _ => "TEXT".to_owned(),
        };
        // Writers do not wait for readers, nor readers for writers.
        Sqlite::execute(place, "PRAGMA journal_mode = WAL");
        Sqlite::execute(place, &values::table("My Accounts", types));
        let numbers =
            "(WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < ROWS) SELECT n FROM r)";
        Sqlite::execute(
            place,
            &large(numbers).replace("repeat('x', ", "printf('%.*c', ").replace(") AS word", ", 'x') AS word"),
        );
        let source = format!("type = \"adbc\"\ndriver = \"{}\"\nuri = \"accounts.sqlite\"", driver("sqlite").display());
        (format!("[sources.engine]\n{source}\n"), tables())
    }

    fn middle(&self) -> Middle {
        Middle::Reader
    }

    fn kill(&mut self, run: &Running, _place: &Place) {
        kill_reader(run);
    }

    fn change(&mut self, place: &Place) {
        Sqlite::execute(place, "UPDATE large SET version = 2");
    }
}

/// DuckDB's library, which is a driver.
pub(super) struct DuckDbDriver(PathBuf);

impl DuckDbDriver {
    pub(super) fn find() -> Option<DuckDbDriver> {
        Some(DuckDbDriver(PathBuf::from(std::env::var_os("DUCKDB_LIB_DIR")?).join("libduckdb.so")))
    }

    /// `[sources.engine]`.
    pub(super) fn section(&self) -> String {
        let library = self.0.display();
        format!(
            "[sources.engine]\ntype = \"adbc\"\ndriver = \"{library}\"\nentrypoint = \"duckdb_adbc_init\"\n\
             options = {{ path = \"warehouse.duckdb\" }}\n"
        )
    }
}

impl Engine for DuckDbDriver {
    fn set_up(&mut self, place: &mut Place) -> (String, Models) {
        place.warehouse(&values::table("My Accounts", duckdb_type));
        place.warehouse(&large("range(1, ROWS + 1) t(n)"));
        (self.section(), tables())
    }

    fn middle(&self) -> Middle {
        Middle::Reader
    }

    fn cannot(&self, case: Case) -> Option<&'static str> {
        (case == Case::Snapshot).then_some("the driver's process has the file open, and no other gets at it")
    }

    fn kill(&mut self, run: &Running, _place: &Place) {
        kill_reader(run);
    }
}
