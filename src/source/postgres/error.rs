//! Errors of PostgreSQL and its driver: every one is classified here, with the operator's next step.
//!
//! The server's words are passed on where they speak about names, rights and syntax. Messages about data quote the
//! data, so what is quoted is left out of those.

use std::io::ErrorKind;
use std::time::Duration;

use tokio_postgres::error::{DbError, ErrorPosition};

use super::dialect::DIALECT;
use super::settings::Address;
use super::tls;
use crate::error::{Error, Kind};
use crate::format;
use crate::mapping::compile::Projection;
use crate::mapping::dialect::Dialect as _;
use crate::mapping::{Expr, From};
use crate::secret::Secret;

/// Whom we talk to, for messages.
#[derive(Clone)]
pub(crate) struct Target {
    place: String,
    server: String,
    database: String,
    user: String,
    secrets: Vec<Secret>,
    /// Whether the password in the connection string has an escape, which may be a part of it that was meant as it stands.
    escapes: bool,
}

/// A part of a statement that a person wrote, with the words for it.
pub(super) type Fragment<'a> = (String, &'a str);

impl Target {
    /// `place` is where errors happened: `source warehouse`.
    pub(crate) fn new(place: String, address: &Address, url: &Secret) -> Target {
        let user = address.config.get_user().unwrap_or("(this system's user)").to_owned();
        Target {
            place,
            server: address.shown.clone(),
            database: address.config.get_dbname().unwrap_or(&user).to_owned(),
            user,
            escapes: url.expose().split_once("://").is_some_and(|(_, rest)| {
                rest.split_once('@').is_some_and(|(credentials, _)| credentials.contains('%'))
            }),
            secrets: std::iter::once(url.clone()).chain(address.password.clone()).collect(),
        }
    }

    /// `source warehouse`, the place of every error.
    pub(crate) fn place(&self) -> String {
        self.place.clone()
    }

    /// The user we sign in as.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// The statement that lets our user read columns of a table.
    pub(super) fn grant(&self, relation: &str, columns: &[String]) -> String {
        let columns = columns.iter().map(|column| DIALECT.identifier(column)).collect::<Vec<_>>().join(", ");
        format!("GRANT SELECT ({columns}) ON {relation} TO {}", DIALECT.identifier(&self.user))
    }

    /// Our user has no right to a column. A query's column may come from anywhere.
    pub(super) fn denied(&self, column: &str, relation: &str, is_table: bool) -> Error {
        let advice = if is_table {
            format!("grant it: `{}`", self.grant(relation, std::slice::from_ref(&column.to_owned())))
        } else {
            format!("grant user `{}` what the model's SQL reads, or leave the column out of it", self.user)
        };
        Error::new(Kind::Source, format!("user `{}` may not read column `{column}` [42501]", self.user))
            .advise(advice)
            .at(self.place())
    }

    pub(crate) fn masked(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| secret.mask(&text))
    }

    /// The server took longer than the limit to answer.
    pub(super) fn connect_timeout(&self, seconds: u64) -> Error {
        Error::new(Kind::SourceBusy, format!("{} did not answer within {seconds} s", self.server))
            .advise("check the host, the port and the firewall, or raise `connect_timeout_seconds`")
            .at(self.place())
    }

    /// The server took the question and sent nothing for so long.
    pub(super) fn stalled(&self, what: &str, limit: Duration) -> Error {
        let limit = format::duration(limit);
        Error::new(Kind::SourceBusy, format!("{what}: {} sent nothing for {limit}", self.server))
            .advise(
                "find out what the server waits for: a lock, a stopped process, a network that drops packets; for a model \
                 that takes longer before its first row, raise `stall_timeout_seconds`",
            )
            .at(self.place())
    }

    /// Connecting failed.
    pub(super) fn connect_error(&self, error: &tokio_postgres::Error) -> Error {
        if let Some(db) = error.as_db_error() {
            return self.server_error(&format!("failed to connect to {}", self.server), db);
        }
        let to = |what: &str| format!("failed to connect to {}: {what}", self.server);
        let failed = match find::<std::io::Error>(error) {
            Some(io) => match io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(tls) => {
                    let (what, advice) = tls::explain(tls);
                    Error::new(Kind::Source, to(&what)).advise(advice)
                }
                None => match io.kind() {
                    ErrorKind::ConnectionRefused => Error::new(Kind::SourceBusy, to("nothing listens there"))
                        .advise("start the server, or correct the host and port in `url`"),
                    ErrorKind::NotFound => Error::new(Kind::SourceBusy, to("there is no such socket"))
                        .advise("start the server, or correct the host in `url`"),
                    ErrorKind::TimedOut => Error::new(Kind::SourceBusy, to("no answer in time"))
                        .advise("check the host, the port and the firewall"),
                    ErrorKind::PermissionDenied => Error::new(Kind::Source, to("this user may not open the socket"))
                        .advise("run as a user that may, or connect over TCP"),
                    ErrorKind::InvalidInput => Error::new(Kind::Config, to("the host is not a name TLS can check"))
                        .advise("use the server's host name in `url`"),
                    _ => Error::new(Kind::SourceBusy, to(&self.masked(&io.to_string())))
                        .advise("check the host name, the network and the server's log"),
                },
            },
            None => {
                let words = error.to_string();
                let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
                match cause.as_str() {
                    "server does not support TLS" => Error::new(Kind::Source, to("the server has no TLS"))
                        .advise("turn on `ssl` at the server, or set `sslmode = \"disable\"` on a network you trust"),
                    "password missing" => Error::new(Kind::Source, to("the server requires a password"))
                        .advise("set `password` for this source, by reference to an environment variable or a file"),
                    _ if words.starts_with("timeout") || words.starts_with("connection closed") => {
                        Error::new(Kind::SourceBusy, to(&words)).advise("check the server's log, then try again")
                    }
                    _ => Error::new(Kind::Source, to(&self.masked(&format!("{words} ({cause})"))))
                        .advise("check the server's log and the `url`"),
                }
            }
        };
        failed.at(self.place())
    }

    /// A statement failed. `what` fits after the place (`failed to read rows`); `fragments` are the parts a person
    /// wrote, to say where in them the server stumbled; `statement` is what was sent.
    pub(super) fn query_error(
        &self,
        what: &str,
        error: &tokio_postgres::Error,
        statement: &str,
        fragments: &[Fragment<'_>],
    ) -> Error {
        let Some(db) = error.as_db_error() else {
            let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
            let words = self.masked(&format!("{error}{cause}"));
            return Error::new(Kind::SourceBusy, format!("{what}: the connection broke off ({words})"))
                .advise("check the network and the server's log, then run again; nothing was sent")
                .at(self.place());
        };
        let located = db.position().and_then(|position| match position {
            ErrorPosition::Original(position) => locate(statement, *position, fragments),
            ErrorPosition::Internal { .. } => None,
        });
        match located {
            Some(place) => self.server_error(&format!("{what} at {place}"), db),
            None => self.server_error(what, db),
        }
    }

    fn server_error(&self, what: &str, db: &DbError) -> Error {
        let code = db.code().code();
        let user = &self.user;
        let (kind, advice) = match code {
            _ if let Some(found) = by_words(code, db.message()) => found,
            "28P01" if self.escapes => (
                Kind::Source,
                format!(
                    "correct the password of user `{user}`: in `url` a `%` begins an escape, so write it as `%25`, or keep \
                     the password as it is in `password`"
                ),
            ),
            "28P01" => (Kind::Source, format!("correct the password of user `{user}` for this source")),
            "28000" => (
                Kind::Source,
                format!("let user `{user}` in from this machine (pg_hba.conf), or correct the user in `url`"),
            ),
            "3D000" => (Kind::Source, format!("correct the database in `url`: `{}` does not exist", self.database)),
            "42P01" | "3F000" => (
                Kind::Source,
                format!("correct the table's name, with its schema; this is database `{}`", self.database),
            ),
            "42703" => (
                Kind::Source,
                match db.hint() {
                    Some(hint) => lower_first(hint.trim_end_matches('.')),
                    None => "correct the column's name; unquoted names are lower case in PostgreSQL".to_owned(),
                },
            ),
            "42501" => (
                Kind::Source,
                format!("grant it: `GRANT USAGE ON SCHEMA … TO \"{user}\"; GRANT SELECT ON … TO \"{user}\"`"),
            ),
            "42601" => (Kind::Source, "correct the SQL".to_owned()),
            "57014" => (
                Kind::SourceBusy,
                "raise `statement_timeout_seconds`, or make the model faster; nothing was sent".to_owned(),
            ),
            "42702" => (
                Kind::Source,
                "two columns have this name: select one of them in the model's SQL, or give one another name (`AS other`)"
                    .to_owned(),
            ),
            "40001" if db.message().contains("conflict with recovery") => (
                Kind::SourceBusy,
                "the standby put the primary's changes before this read: run again, or have it wait longer \
                 (`hot_standby_feedback = on`, `max_standby_streaming_delay`); nothing was sent"
                    .to_owned(),
            ),
            "55P03" | "40P01" => {
                (Kind::SourceBusy, "run again when the other session is done; nothing was sent".to_owned())
            }
            "53300" => (
                Kind::SourceBusy,
                "close other connections, or raise the limit of this server, database or user; nothing was sent"
                    .to_owned(),
            ),
            "57P01" | "57P02" | "57P03" | "57P04" | "57P05" => {
                (Kind::SourceBusy, "wait until the server is up, then run again; nothing was sent".to_owned())
            }
            "25006" => (Kind::Source, "let the model only read: it calls something that writes".to_owned()),
            _ => match &code[..code.len().min(2)] {
                // Also what a foreign server answers (HV00N: it cannot be reached).
                _ if code == "HV00N" || code == "58030" => {
                    (Kind::SourceBusy, "run again later, and see the server's log; nothing was sent".to_owned())
                }
                "08" | "53" | "40" | "25" => {
                    (Kind::SourceBusy, "run again later, and see the server's log; nothing was sent".to_owned())
                }
                "22" => (Kind::Source, "correct the data, or guard the expression that fails on it".to_owned()),
                "42" => (Kind::Source, "correct the SQL as PostgreSQL's message says".to_owned()),
                _ => (Kind::Source, "see the server's log".to_owned()),
            },
        };
        let words = match &code[..code.len().min(2)] {
            // Errors about data and errors raised by functions quote values.
            "22" | "23" | "P0" => unquoted(db.message()),
            _ => db.message().to_owned(),
        };
        let words = self.masked(&words);
        let at = match code {
            "28P01" | "28000" | "3D000" | "53300" => format!(" (database `{}`, user `{user}`)", self.database),
            _ => String::new(),
        };
        let failed = Error::new(kind, format!("{what}: {words}{at} [{code}]")).advise(self.masked(&advice));
        let missing = matches!(code, "42P01" | "3F000" | "42703") || is_unpopulated(code, db.message());
        let failed = if missing { failed.missing() } else { failed };
        failed.at(self.place())
    }
}

/// Whether a materialized view has no rows yet, not even none: it was made, or made anew, `WITH NO DATA`.
fn is_unpopulated(code: &str, words: &str) -> bool {
    code == "55000" && words.contains("has not been populated")
}

/// Errors that their words tell apart and their codes do not: poolers have one code for nearly everything, and vendors'
/// proxies none of PostgreSQL's.
fn by_words(code: &str, words: &str) -> Option<(Kind, String)> {
    let lower = words.to_ascii_lowercase();
    let says = |any: &[&str]| any.iter().any(|word| lower.contains(word));
    let found = |kind: Kind, advice: &str| Some((kind, advice.to_owned()));
    if says(&["statement pooling mode"]) {
        return found(
            Kind::Config,
            "connect to a pool in transaction or session mode, or to the server itself: reading settings and rows in one \
             transaction is not possible in statement mode",
        );
    }
    if says(&["unsupported startup parameter"]) {
        return found(
            Kind::Config,
            "the pooler does not pass this on: remove it from `url` (a schema belongs into the mapping's `table`), or \
             let the pooler pass it over (PgBouncer: `ignore_startup_parameters = options`), or connect to the server itself",
        );
    }
    if says(&["tenant or user not found", "tenant/user"]) {
        return found(
            Kind::Config,
            "correct the user in `url`: this pooler wants the project in it (`postgres.PROJECT` at Supabase)",
        );
    }
    if says(&["could not open relation with oid", "cache lookup failed for relation"]) {
        return found(
            Kind::SourceBusy,
            "a table was replaced while it was read: run again when that is done; nothing was sent",
        );
    }
    if is_unpopulated(code, words) {
        return found(
            Kind::Source,
            "fill it: `REFRESH MATERIALIZED VIEW …`; the daemon tries again when an earlier run has read it",
        );
    }
    // Databases that sleep: Neon's proxy, RDS's proxy, Aurora Serverless.
    if code.starts_with("XX")
        && says(&[
            "control plane request failed",
            "console request failed",
            "connect to compute node",
            "compute time out",
            "endpoint is in transition",
            "timed-out waiting to acquire",
            "database is resuming",
        ])
    {
        return found(
            Kind::SourceBusy,
            "the database was asleep or is being moved: run again in a minute; nothing was sent",
        );
    }
    if says(&["max client connections", "maxclients", "no more connections allowed", "too many"]) {
        return found(Kind::SourceBusy, "close other connections, or raise the pooler's limit; nothing was sent");
    }
    match code {
        "42P05" | "26000" => found(
            Kind::Config,
            "set `read = \"auto\"` for this source: `read = \"copy\"` needs a named statement, which the pooler in between \
             mixes up with those of others",
        ),
        "22021" => found(
            Kind::Source,
            "the database holds text that is not UTF-8, so its encoding is wrong for it or is SQL_ASCII: convert the column \
             in the mapping's SQL (`convert_from(convert(convert_to(name, 'SQL_ASCII'), 'LATIN1', 'UTF8'), 'UTF8')`), or \
             the data",
        ),
        // A pooler's word for what passes, too.
        "08P01"
            if says(&[
                "timeout",
                "cannot connect",
                "could not connect",
                "shutting down",
                "closed",
                "crash",
                "paused",
                "disabled",
                "login failed",
                "unexpected",
                "idle",
            ]) =>
        {
            found(Kind::SourceBusy, "run again later, and see the pooler's log; nothing was sent")
        }
        "08P01" => found(
            Kind::Config,
            "correct `url`: the server, or the pooler in between, does not accept one of its options",
        ),
        _ => None,
    }
}

/// The first error of this type in the chain of causes.
fn find<T: std::error::Error + 'static>(error: &tokio_postgres::Error) -> Option<&T> {
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref::<T>() {
            return Some(found);
        }
        next = cause.source();
    }
    None
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// The message without what stands between its first and its last quotation mark.
fn unquoted(message: &str) -> String {
    match (message.find('"'), message.rfind('"')) {
        (Some(first), Some(last)) if first < last => format!("{}\"…\"{}", &message[..first], &message[last + 1..]),
        (Some(first), _) => format!("{}\"…", &message[..first]),
        _ => message.to_owned(),
    }
}

/// `line 2, column 8 of the model's SQL`, when `position` (in characters, from 1) lies in something a person wrote.
fn locate(statement: &str, position: u32, fragments: &[Fragment<'_>]) -> Option<String> {
    let at = statement.char_indices().nth((position as usize).checked_sub(1)?).map_or(statement.len(), |(at, _)| at);
    for (name, sql) in fragments {
        for (start, _) in statement.match_indices(sql) {
            if (start..=start + sql.len()).contains(&at) {
                let before = &statement[start..at];
                let line = before.matches('\n').count() + 1;
                let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
                return Some(format!("line {line}, column {column} of {name}"));
            }
        }
    }
    None
}

/// The parts of a projection's statement that a person wrote.
pub(super) fn fragments(projection: &Projection) -> Vec<Fragment<'_>> {
    let mut fragments = Vec::new();
    for expr in &projection.columns {
        if let Expr::Sql(sql) = expr {
            fragments.push((format!("`{}`", shortened(sql)), sql.as_str()));
        }
    }
    for condition in &projection.filters {
        fragments.push(("the condition".to_owned(), condition.as_str()));
    }
    if let From::Query(sql) = &projection.from {
        fragments.push(("the model's SQL".to_owned(), sql.as_str()));
    }
    fragments
}

/// The first line of an SQL text, and not too much of it.
pub(super) fn shortened(sql: &str) -> String {
    let line = sql.trim().lines().next().unwrap_or_default();
    if line.chars().count() > 60 { line.chars().take(60).chain(['…']).collect() } else { line.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_told_in_what_a_person_wrote() {
        let statement = "SELECT * FROM (\nselect 1,\n  zwölf selec\n) AS model WHERE (a >\n)";
        let fragments = [("the model's SQL".to_owned(), "select 1,\n  zwölf selec"), ("`where`".to_owned(), "a >")];
        let at = |text: &str| statement[..statement.find(text).unwrap()].chars().count() as u32 + 1;
        assert_eq!(locate(statement, at("selec\n"), &fragments).unwrap(), "line 2, column 9 of the model's SQL");
        assert_eq!(locate(statement, at(">"), &fragments).unwrap(), "line 1, column 3 of `where`");
        assert_eq!(locate(statement, 1, &fragments), None);
        assert_eq!(locate(statement, 0, &fragments), None);
        assert_eq!(locate(statement, 10_000, &fragments), None);
    }

    #[test]
    fn values_are_left_out_of_messages() {
        assert_eq!(
            unquoted(r#"invalid input syntax for type integer: "top secret""#),
            r#"invalid input syntax for type integer: "…""#
        );
        assert_eq!(unquoted(r#"value "a "b" c" is out of range"#), r#"value "…" is out of range"#);
        assert_eq!(unquoted("division by zero"), "division by zero");
    }
}
