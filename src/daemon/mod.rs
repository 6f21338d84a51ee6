//! The daemon: keeps every sync's schedule, runs it, and tells about it.

pub mod alert;
pub mod desk;
pub mod metrics;
pub mod notify;
