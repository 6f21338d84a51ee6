//! Integration tests, one module per question. Real PostgreSQL, real DuckDB files, real HTTP.

#![allow(unreachable_pub, reason = "a test binary exports nothing; `pub` says what its modules share")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test, as the tests themselves do")]

mod duckdb_source;
mod ledger;
mod postgres;
mod ready_mappings;
mod simulation;
mod support;
