//! Integration tests, one module per question. Real PostgreSQL, real DuckDB files, real HTTP.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test, as the tests themselves do")]

mod postgres;
mod support;
