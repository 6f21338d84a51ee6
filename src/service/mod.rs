//! Every query and command, once: what the command line, the HTTP API and the console are faces of.

pub mod api;
pub mod open;
pub mod views;
