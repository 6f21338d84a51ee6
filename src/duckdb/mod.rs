//! The embedded DuckDB, for the ledger and for a run's rows. It knows nothing of either.
//!
//! | module | what it holds |
//! |---|---|
//! | `connection` | a connection for async callers, its limits and settings |
//! | `spill` | where an instance puts what its memory does not hold |
//! | `error` | DuckDB's errors as ours |
//! | `sql` | quoting |

mod connection;
mod error;
mod spill;
mod sql;

pub(crate) use connection::{ConnectionSlot, FileHold};
pub use connection::{DuckDbConnection, Limits};
pub use error::{first_line, ledger_error};
pub(crate) use error::{format_is_newer, is_damaged, is_full, made_by};
pub use sql::{quote_identifier, quote_literal};
