//! Integration tests, one module per question. Real PostgreSQL, real DuckDB files, real HTTP.

mod duckdb_source;
mod ready_mappings;
