//! Integration tests, one module per question. Real PostgreSQL, real DuckDB files, real HTTP.

mod postgres;
mod support;
