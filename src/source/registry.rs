//! The registry of source types.

use super::SourceType;
use super::adbc::AdbcType;
use super::duckdb::{DuckDbType, FilesType};
use super::postgres::PostgresType;

/// Every source type, one per line.
pub const SOURCE_TYPES: &[&dyn SourceType] = &[&DuckDbType, &FilesType, &PostgresType, &AdbcType];

/// The type of this name.
pub fn find(name: &str) -> Option<&'static dyn SourceType> {
    SOURCE_TYPES.iter().copied().find(|of| of.name() == name)
}
