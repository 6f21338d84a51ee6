//! What several tests share.

pub mod rows;
