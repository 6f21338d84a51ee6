//! The sections of a mapping file, one file each: what it means, its keys and words, and what is reported about them.

pub mod group;
pub mod guards;
pub mod incremental;
pub mod model;
pub mod policy;
pub mod schedule;
pub mod traits;
pub mod user;
