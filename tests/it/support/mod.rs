//! What tests of more than one question need.

pub(crate) mod postgres;
pub mod rows;
