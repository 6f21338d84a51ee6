//! The program, the machine it runs on, and DuckDB within it.

use chrono::Datelike;

use super::Examined;
use crate::duckdb::{DuckDbConnection, Limits, first_line};
use crate::error::{Error, Kind, Result};
use crate::io::{Clock, SystemClock};
use crate::time_zone;

/// No version was built before this year: a clock that shows less is wrong.
const YEAR_MIN: i32 = 2026;

pub(super) fn examine() -> Vec<Examined> {
    let build = if cfg!(debug_assertions) { "debug build" } else { "release build" };
    let engine = if cfg!(feature = "bundled") { "DuckDB compiled in" } else { "DuckDB as a shared library" };
    let version = format!("groupcast {} ({build}, {engine})", env!("CARGO_PKG_VERSION"));
    vec![Examined::ok("version", version), Examined::ok("system", system()), clock(), time_zones()]
}

fn system() -> String {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let named = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let name = named.map_or_else(|| std::env::consts::OS.to_owned(), |name| name.trim_matches('"').to_owned());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let kilobytes = text.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<f64>().ok()?;
        Some(format!(", {:.1} GB of memory", kilobytes / 1_000_000.0))
    });
    format!("{name}, {}, {threads} threads{}", std::env::consts::ARCH, memory.unwrap_or_default())
}

fn clock() -> Examined {
    let now = SystemClock::start().now();
    let shown = now.format("%Y-%m-%d %H:%M:%SZ").to_string();
    match now.year() < YEAR_MIN {
        true => {
            Examined::warning("clock", format!("{shown} is before this version was built"), "set the machine's clock")
        }
        false => Examined::ok("clock", shown),
    }
}

fn time_zones() -> Examined {
    Examined::ok("time zones", time_zone::tables())
}

/// The engine that reads and compares.
pub(super) async fn engine() -> Vec<Examined> {
    vec![match version().await {
        Ok(version) => Examined::ok("DuckDB", version),
        Err(error) => Examined::error("DuckDB", &error),
    }]
}

async fn version() -> Result<String> {
    let failed =
        |error: duckdb::Error| Error::new(Kind::Bug, "DuckDB does not work").because(first_line(&error.to_string()));
    let connection = DuckDbConnection::open(None, &Limits::standard())?;
    connection
        .call("look at DuckDB's version", move |connection| {
            let sql = "SELECT version() || coalesce((SELECT ', with ' || string_agg(extension_name, ', ' ORDER BY extension_name) \
                       FROM duckdb_extensions() WHERE loaded), '')";
            connection.query_row(sql, [], |row| row.get::<_, String>(0)).map_err(failed)
        })
        .await
}
