//! PostgreSQL's dialect, as all servers of its protocol understand it.

use super::conversion;
use crate::mapping::dialect::{self, Dialect, MirrorSql, NEWEST};
use crate::model::cell::As;
use crate::source::conversion::fill;

/// The one instance.
pub(super) const DIALECT: &PostgresDialect = &PostgresDialect;

/// `hash`, `length` and `double` are not used: the server hashes rows as it does for [`super::summary`].
pub(super) const MIRROR: MirrorSql = MirrorSql {
    hash: "",
    length: "",
    double: "",
    int: "{}::bigint",
    text: "({})::text",
    sum: "sum({})",
    newest: NEWEST,
    create: "CREATE TABLE {table} AS {select}",
    joined: "{}",
    grants: &["CREATE SCHEMA {schema}", "GRANT USAGE, CREATE ON SCHEMA {schema} TO {user}"],
};

pub(super) struct PostgresDialect;

impl Dialect for PostgresDialect {
    /// No backslash is between quotes: it would escape where `standard_conforming_strings` is off, and at Redshift.
    fn literal(&self, text: &str) -> String {
        dialect::literal_without(text, &['\\', '\0'])
    }

    fn conversion(&self, declared: &str, column: &str, wanted: As) -> Option<String> {
        conversion::template(declared, wanted).map(|template| fill(template, column))
    }

    fn mirror(&self) -> Option<&'static MirrorSql> {
        Some(&MIRROR)
    }

    fn text_is_plain(&self, declared: &str) -> bool {
        conversion::text_is_plain(declared)
    }
}
