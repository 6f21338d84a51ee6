//! Groupcast keeps the account traits of product tools equal to a warehouse.
//!
//! It reads account rows from a source, compares them in the [`ledger`] with what is synced to each destination,
//! and sends only the changed traits. The modules are the stages of that pipeline, and imports point one way:
//!
//! `cli → {server, daemon} → service → {sync, scheduler} → {ledger, delivery, config} → {source, duckdb, mapping} → destination → {model, io}`
//!
//! | module | contents |
//! |---|---|
//! | [`model`] | cells, numbers, documents, and the delta between two documents (pure) |
//! | [`mapping`] | mapping files: parsing, checking, compiling to SQL in a source's dialect (pure) |
//! | [`destination`] | one folder per vendor: how a change becomes requests, and what a response means (pure) |
//! | [`config`] | groupcast.toml, its layers, and secrets by reference |
//! | [`duckdb`](mod@duckdb) | DuckDB for async code: connections, deadlines, interrupts, errors |
//! | [`source`] | one folder per warehouse type: how rows get into the comparison |
//! | [`ledger`] | the synced state: its protocol, its queries, and their implementations on DuckDB and PostgreSQL |
//! | [`delivery`] | how changes become acknowledged requests: pace, retries, bisection |
//! | [`sync`] | one run of one sync, top to bottom; plan, adopt, verify |
//! | [`scheduler`] | cron, timetable, queue and back-off (pure) |
//! | [`service`] | every query and command, once: over a ledger, or over the socket of the process that has it open |
//! | [`daemon`] | the process that runs syncs on their schedules, its metrics, alerts and log |
//! | [`server`] | the HTTP API and the console, faces of the service |
//! | [`cli`] | the commands, faces of the service |
//! | [`time_zone`] | the rules of time zones, and which version of them is in use |
//! | `otlp` | spans for OpenTelemetry, exported over HTTP (the feature `otlp`) |
//! | [`io`] | the only door out: clock, random numbers, HTTP, files, the process itself |
//! | [`error`] | the error type, with its kinds, places and advice |
//! | [`secret`] | credentials, and their redaction from text |
//! | [`mod@format`] | numbers, durations and foreign text, for terminals, logs and pages (pure) |
//!
//! `docs/architecture.md` has the life of a row, the invariants and the reasons.

pub mod cli;
pub mod config;
pub mod daemon;
pub mod delivery;
pub mod destination;
pub mod duckdb;
pub mod error;
pub mod format;
pub mod io;
pub mod ledger;
pub mod mapping;
pub mod model;
#[cfg(feature = "otlp")]
pub mod otlp;
pub mod scheduler;
pub mod secret;
pub mod server;
pub mod service;
pub mod source;
pub mod sync;
pub mod time_zone;
