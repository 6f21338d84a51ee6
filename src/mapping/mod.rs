//! Mapping files: reading, checking and compiling them to SQL; and the files of their tests. Pure: no files, no connections.

pub mod check;
pub mod compile;
pub mod cron;
pub mod diagnostic;
pub mod dialect;
pub mod file;
mod fingerprint;
#[cfg(test)]
mod golden;
pub mod plain;
pub(crate) mod reader;
pub mod sections;
mod spec;
mod sql;
pub mod template;
pub mod test_file;
pub mod units;

pub use diagnostic::At;
pub use file::{MappingFile, ReadableParts};
pub use fingerprint::fingerprint;
pub use sections::guards::Guards;
pub use sections::incremental::Incremental;
pub use sections::model::{Compare, DbtModel, From, Model};
pub use sections::policy::{OnDuplicate, OnMissing, OnRemovedTrait, Policy};
pub use sections::schedule::{CatchUp, Overlap, Schedule, When};
pub use sections::traits::{Expr, Field, Trait};
pub use sections::user::{User, UserFrom};
pub use spec::Mapping;
pub use sql::Quoting;
