//! The daemon: keeps every sync's schedule, runs it, and tells about it.

pub mod desk;
pub mod http;
