//! The daemon: keeps every sync's schedule, runs it, and tells about it.

pub mod console;
pub mod desk;
