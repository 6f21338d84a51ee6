//! Integration tests, one module per question. Real PostgreSQL, real DuckDB files, real HTTP.

#![allow(unreachable_pub, reason = "a test binary exports nothing; `pub` says what its modules share")]
#![expect(clippy::unwrap_used, reason = "clippy's own exception covers test functions, not their helpers")]

mod adbc;
mod always;
mod amplitude;
mod amplitude_http_v2;
mod amplitude_operators;
mod bad_input;
mod conformance;
mod convergence;
mod daemon;
mod dbt;
mod delivery;
mod delivery_storm;
mod deploy;
mod duckdb_source;
mod failed_full_read;
mod field_reports;
mod files;
mod first_contact;
mod first_errors;
mod gateway;
mod getting_started;
mod guards;
mod incremental;
mod isolation;
mod journey;
mod journy;
mod json_output;
mod kept_requests;
mod killed;
mod layers;
mod ledger;
mod ledger_age;
mod ledger_formats;
mod ledger_postgres;
mod ledger_storm;
mod mapping_edits;
mod mapping_tests;
mod mirror;
mod mixpanel;
#[cfg(feature = "otlp")]
mod otlp;
mod parity;
mod plan_file;
mod postgres;
mod posthog;
mod ready_mappings;
mod release;
mod renamed;
mod schedule;
mod segment;
mod selection;
mod shared_state;
mod simulation;
mod sources;
mod support;
mod terminal;
mod thrivestack;
mod transport;
mod types;
mod unchanged;
mod vocabulary;
mod webhook;
