//! DuckDB's dialect.

use crate::duckdb::quote_identifier;
use crate::mapping::dialect::{self, Dialect};

/// The one instance.
pub(super) const DIALECT: &DuckDbDialect = &DuckDbDialect;

pub(super) struct DuckDbDialect;

impl Dialect for DuckDbDialect {
    fn identifier(&self, name: &str) -> String {
        quote_identifier(name)
    }

    /// A statement ends at a NUL.
    fn literal(&self, text: &str) -> String {
        dialect::literal_without(text, &['\0'])
    }
}
