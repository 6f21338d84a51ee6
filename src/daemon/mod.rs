//! The daemon: keeps every sync's schedule, runs it, and tells about it.

pub mod desk;
mod office;
mod reload;
pub mod roster;
mod supervisor;
mod tracker;
