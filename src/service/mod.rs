//! Every query and command, once: the command line, the HTTP API and the console are faces of it.
//!
//! | module | contents |
//! |---|---|
//! | [`api`] | the trait [`Service`](api::Service) with every query and command, |
//! | [`error`] | why one of them failed |
//! | [`views`] | the values it returns |
//! | [`local`] | the service over a ledger, in this process |
//! | [`remote`] | the service of another process, over the socket beside the ledger ([`wire`]) |
//! | [`queries`], [`commands`], [`job`] | what every service does in its own process; the daemon builds on them too |
//! | [`peers`] | the daemons and commands that use the same ledger, what each runs, and how far it is |
//! | `stop_signal` | what stops a run of this process: a person, or another process |
//! | [`follow`] | a run that another process carries out, from its start to its end |
//! | [`url`] | runs at a daemon on another machine, over its HTTP API |
//! | [`stream`], [`tracker`], [`pace`] | results item by item, how far a run is, and how fast |
//! | `trace` | spans of runs for OpenTelemetry (the feature `otlp`) |
//! | [`mapping_test`] | the tests of mappings: a plan over given rows, compared with what is expected |
//! | [`open`] | from a config folder to its sources, destinations and ledger |

pub mod api;
pub mod commands;
pub mod error;
pub mod follow;
pub mod job;
pub mod local;
pub mod mapping_test;
pub mod open;
pub mod pace;
pub mod peers;
pub mod queries;
pub mod remote;
mod stop_signal;
pub mod stream;
#[cfg(feature = "otlp")]
mod trace;
pub mod tracker;
pub mod url;
pub mod views;
pub mod wire;
