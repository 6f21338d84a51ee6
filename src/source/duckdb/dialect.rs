//! DuckDB's dialect.

use super::conversion;
use crate::duckdb::quote_identifier;
use crate::mapping::dialect::{self, Dialect};
use crate::model::cell::As;
use crate::source::conversion::fill;

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

    fn conversion(&self, declared: &str, column: &str, wanted: As) -> Option<String> {
        conversion::template(declared, wanted).map(|template| fill(template, column))
    }

    fn never_becomes(&self, declared: &str, wanted: As) -> bool {
        conversion::never(declared, wanted)
    }
}
