//! Integration tests, one module per question. Real PostgreSQL, real DuckDB files, real HTTP.

#![expect(clippy::unwrap_used, reason = "clippy's own exception covers test functions, not their helpers")]

mod amplitude;
mod delivery;
mod delivery_storm;
mod support;
mod transport;
