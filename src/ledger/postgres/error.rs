//! Failures of the ledger's server: which may pass, and what the operator does about the others.

use tokio_postgres::error::DbError;

use super::server::Server;
use crate::error::{Error, Kind};

/// Why a piece of work was not done.
pub(super) enum Failure {
    /// The server or the driver failed.
    Database(tokio_postgres::Error),
    /// There is no connection, which may change.
    Unreachable(Error),
    /// Another attempt would not help.
    Final(Error),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Failure {
        Failure::Database(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Final(error)
    }
}

/// Whether a failed connection may succeed soon. What a server says about users, databases and certificates does not pass;
/// that one starts or shuts down does.
pub(super) fn may_pass(error: &Error) -> bool {
    let text = error.to_string();
    !["[28P01]", "[28000]", "[3D000]", "TLS", "certificate", "password"].iter().any(|lasting| text.contains(lasting))
}

impl Failure {
    /// Whether another attempt may help.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Failure::Database(error) => match error.as_db_error() {
                // The connection is gone.
                None => error.is_closed() || find_io(error),
                Some(db) => {
                    let code = db.code().code();
                    matches!(code, "40001" | "40P01" | "57P01" | "57P02" | "57P03" | "25P03" | "55P03" | "53300")
                        || code.starts_with("08")
                }
            },
            Failure::Unreachable(_) => true,
            Failure::Final(_) => false,
        }
    }

    /// It as an error. `what` fits after "failed to".
    pub(super) fn error(self, server: &Server, what: &str) -> Error {
        match self {
            Failure::Database(error) => match error.as_db_error() {
                Some(db) => of_server(db, server, what),
                None => {
                    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                    let words = server.masked(&format!("{error}{cause}"));
                    Error::new(Kind::Ledger, format!("failed to {what}: the connection broke off ({words})"))
                        .advise(
                            "check the network and the server's log, then run again: the next run resends what may not have \
                             been recorded",
                        )
                        .at(server.place())
                }
            },
            Failure::Unreachable(error) => error,
            Failure::Final(error) if error.kind() == Kind::Ledger => error.at(server.place()),
            Failure::Final(error) => error,
        }
    }
}

fn find_io(error: &tokio_postgres::Error) -> bool {
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        if cause.is::<std::io::Error>() {
            return true;
        }
        next = cause.source();
    }
    false
}

/// The statements that let a user have its ledger in a schema that another user makes.
pub(super) fn grants(server: &Server) -> String {
    let user = crate::duckdb::quote_identifier(server.user());
    let database = crate::duckdb::quote_identifier(server.database());
    format!(
        "`CREATE SCHEMA {schema} AUTHORIZATION {user};` (or `GRANT CREATE ON DATABASE {database} TO {user};`)",
        schema = server.schema
    )
}

fn of_server(db: &DbError, server: &Server, what: &str) -> Error {
    let code = db.code().code();
    let user = server.user();
    let advice = match code {
        "42501" => format!("have the database's owner run {}", grants(server)),
        "25006" => {
            "name the primary in `state.url` (`target_session_attrs=read-write` with several hosts): this server, or \
                    this session, only reads"
                .to_owned()
        }
        "42P01" | "3F000" | "42703" => format!(
            "the tables in schema {} are not as this program made them: restore them from a backup, or set `state.schema` to \
             another name, with which everything is sent again once",
            server.schema
        ),
        "42P07" | "42723" | "42710" => {
            format!("schema {} has other tables: set `state.schema` to a name of its own", server.schema)
        }
        "53100" | "53200" | "54000" => "free space or memory on the server; nothing was lost".to_owned(),
        "53300" => "close other connections, or raise the limit of this server, database or user".to_owned(),
        "57014" => {
            "raise the server's `statement_timeout` for this user: folding a large run may take minutes".to_owned()
        }
        "25P03" => {
            "this process was stopped, or the machine slept, in the middle of a transaction: run again".to_owned()
        }
        "26000" | "42P05" => "let the pooler work in transaction or session mode".to_owned(),
        _ if code.starts_with("57P") || code.starts_with("08") => {
            "wait until the server is up, then run again; the next run resends what may not have been recorded"
                .to_owned()
        }
        "40001" | "40P01" | "55P03" => "run again".to_owned(),
        _ => format!("see the server's log, and what user `{user}` may do in schema {}", server.schema),
    };
    // Errors about data quote values.
    let words = match &code[..code.len().min(2)] {
        "22" | "23" => "the server rejected a value".to_owned(),
        _ => server.masked(db.message()),
    };
    Error::new(Kind::Ledger, format!("failed to {what}: {words} [{code}]")).advise(advice).at(server.place())
}
