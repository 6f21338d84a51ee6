//! Groupcast keeps the account traits of product tools equal to a warehouse.
//!
//! It reads account rows from a source, compares them in the [`ledger`] with what is synced to each destination,
//! and sends only the changed traits. The modules are the stages of that pipeline, and imports point one way:
//!
//! `cli → {server, daemon} → service → {sync, scheduler} → {ledger, delivery, config} → {source, duckdb, mapping} → destination → model`
//!
//! | module | question it answers |
//! |---|---|
//! | [`model`] | what is a document, and what differs between two of them? (pure) |
//! | [`mapping`] | what does a mapping file mean, and which SQL reads it? (pure) |
//! | [`destination`] | how does one vendor's API want a change, and what does its answer mean? (pure) |
//! | [`config`] | which sources, destinations and mappings does this folder describe? |
//! | [`duckdb`](mod@duckdb) | how does async code talk to DuckDB safely? |
//! | [`source`] | how do rows get from a warehouse into the comparison? |
//! | [`ledger`] | what does each destination hold, and which rows differ? |
//! | [`delivery`] | how do changes become acknowledged requests? |
//! | [`sync`] | one run of one sync, top to bottom |
//! | [`scheduler`] | when does a sync run? (pure) |
//! | [`service`] | every query and command, once: from a config folder to one run of one sync, and the views of syncs, runs and groups |
//! | [`daemon`] | the process that runs syncs on their schedules |
//! | [`server`] | the HTTP API and the console |
//! | [`cli`] | the commands |
//! | [`time_zone`] | which rules does a time zone follow? |
//! | [`io`] | the only door out: clock, random numbers, HTTP, small files, the process itself |
//! | [`error`] | one error type with kinds, places and advice |
//! | [`mod@format`] | how are numbers and foreign texts written so that they can be read, and do nothing else? (pure) |

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
pub mod scheduler;
pub mod secret;
pub mod server;
pub mod service;
pub mod source;
pub mod sync;
pub mod time_zone;
