//! PostgreSQL's dialect, as all servers of its protocol understand it.

use crate::mapping::dialect::{self, Dialect};

/// The one instance.
pub(super) const DIALECT: &PostgresDialect = &PostgresDialect;

pub(super) struct PostgresDialect;

impl Dialect for PostgresDialect {
    /// No backslash is between quotes: it would escape where `standard_conforming_strings` is off, and at Redshift.
    fn literal(&self, text: &str) -> String {
        dialect::literal_without(text, &['\\', '\0'])
    }
}
