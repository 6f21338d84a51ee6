//! Errors of drivers and of the process they are in: every one is classified here, with the operator's next step.

use super::reader::{Failed, Step, Stop};
use crate::error::{Error, Kind};
use crate::format;
use crate::secret::{self, Secret};
use crate::source::remote_error;

/// Most of a driver's words that are passed on.
const WORDS_MAX: usize = 600;

/// Whom we talk to, for messages.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) driver: String,
    /// Whether the driver is given by its file.
    pub(super) is_path: bool,
    pub(super) secrets: Vec<Secret>,
}

impl Target {
    /// `source warehouse`, the place of every error.
    pub(super) fn place(&self) -> String {
        format!("source {}", self.name)
    }

    /// What went wrong. `what` fits after "failed to".
    pub(super) fn error(&self, what: &str, stop: Stop) -> Error {
        let what = format!("failed to {what}");
        let error = match stop {
            Stop::Start(error) => Error::new(Kind::SourceBusy, format!("{what}: the reader process did not start"))
                .advise(
                    "look at the limits of processes and memory of this user, and at the path `reader` where it is set",
                )
                .because(error),
            Stop::Failed(failed) => self.failed(&what, &failed),
            Stop::Ended { how, words } => {
                let words = self.shown(&words);
                let printed = if words.is_empty() { String::new() } else { format!("; it printed: {words}") };
                Error::new(Kind::SourceBusy, format!("{what}: the driver ended its process ({how}){printed}")).advise(
                    "run again; if it happens again, report it to the driver's makers, and try another version of it",
                )
            }
            Stop::Malformed(how) => Error::new(Kind::SourceBusy, format!("{what}: {how}"))
                .advise("run again; if it happens again, try another version of the driver"),
            Stop::Stalled(limit) => {
                let limit = format::duration(limit);
                Error::new(Kind::SourceBusy, format!("{what}: the driver sent nothing for {limit}")).advise(
                    "find out what the warehouse waits for: a queue, a suspended warehouse, a network that drops packets; \
                     for a model that takes longer before its first row, raise `stall_timeout_seconds`",
                )
            }
            Stop::Refused => Error::new(Kind::Bug, format!("{what}: the rows were not taken")),
        };
        error.at(self.place())
    }

    fn failed(&self, what: &str, failed: &Failed) -> Error {
        let message = self.shown(&failed.message);
        let code = failed.sqlstate.as_ref().map_or_else(String::new, |code| format!(" [{code}]"));
        let because = format!("{message}{code}");
        match failed.step {
            Step::Verify => {
                Error::new(Kind::Config, format!("the driver {} is not the one that `sha256` names", self.driver))
                    .advise("find out who replaced it; where that was you, write the new sum")
                    .because(message)
            }
            Step::Load => {
                let advice = match self.is_path {
                    true => "correct `driver`: the path of an ADBC driver's library for this machine".to_owned(),
                    false => format!(
                        "install it, for example with `dbc install {}`, or write the path of its library as `driver`",
                        self.driver
                    ),
                };
                Error::new(Kind::Config, format!("the driver {} could not be loaded", self.driver))
                    .advise(advice)
                    .because(because)
            }
            Step::Connect => {
                let (kind, advice) = match failed.status.as_str() {
                    "unauthenticated" | "unauthorized" => (Kind::Source, "correct the user, the password or the key"),
                    _ if is_lost(failed) => {
                        (Kind::SourceBusy, "check the host, the network and whether the warehouse is up")
                    }
                    _ => (Kind::Source, "correct `uri` and `options`; the driver's documentation lists them"),
                };
                Error::new(kind, format!("{what}: the driver {} could not connect", self.driver))
                    .advise(advice)
                    .because(because)
            }
            Step::Execute | Step::Read => {
                let lower = failed.message.to_ascii_lowercase();
                let class = failed.sqlstate.as_deref().map(|code| &code[..2]);
                let is_missing = failed.status == "notfound"
                    || ["42P01", "42703", "42S02", "42S22", "02000"]
                        .iter()
                        .any(|code| failed.sqlstate.as_deref() == Some(code))
                    || [
                        "does not exist",
                        "not found",
                        "no such table",
                        "no such column",
                        "unknown table",
                        "unknown_table",
                    ]
                    .iter()
                    .any(|words| lower.contains(words));
                let is_denied = ["unauthenticated", "unauthorized"].contains(&failed.status.as_str())
                    || class == Some("28")
                    || ["permission denied", "access denied", "insufficient privileges"]
                        .iter()
                        .any(|words| lower.contains(words));
                let because = match is_denied || is_missing || !is_about_data(failed) {
                    true => because,
                    false => format!("{}{code}", self.shown(before_values(&failed.message))),
                };
                let (kind, advice) = match (failed.status.as_str(), class) {
                    _ if is_denied => (
                        Kind::Source,
                        "grant the user of this source what the model reads; docs/warehouses.md has the SQL",
                    ),
                    _ if is_missing => (
                        Kind::Source,
                        "correct the table or column in the mapping; the warehouse may also hide what this user may not read",
                    ),
                    (_, Some("08" | "53" | "57")) => (Kind::SourceBusy, "run again; nothing was sent"),
                    _ if is_lost(failed) => (Kind::SourceBusy, "run again; nothing was sent"),
                    _ => (Kind::Source, "run the model's SQL in the warehouse itself, and correct it in the mapping"),
                };
                let error = Error::new(kind, what.to_owned()).advise(advice).because(because);
                if is_missing { error.missing() } else { error }
            }
            Step::Convert => Error::new(Kind::Source, what.to_owned())
                .advise("cast the column in the model's SQL, or set `dialect` to the warehouse's own")
                .because(because),
        }
    }

    /// A driver's words: on one line, without credentials, and not too many.
    fn shown(&self, words: &str) -> String {
        let masked = secret::mask(words, &self.secrets.iter().collect::<Vec<_>>());
        let line = masked.split_whitespace().collect::<Vec<_>>().join(" ");
        match line.char_indices().nth(WORDS_MAX) {
            Some((at, _)) => format!("{}…", &line[..at]),
            None => line,
        }
    }
}

/// Whether the warehouse was not reached, or went away. Drivers that have no status for it still say so.
fn is_lost(failed: &Failed) -> bool {
    ["io", "timeout", "cancelled"].contains(&failed.status.as_str()) || remote_error::advice(&failed.message).is_some()
}

/// Whether a statement failed on a value of a row, which its message may quote.
fn is_about_data(failed: &Failed) -> bool {
    let lower = failed.message.to_ascii_lowercase();
    match failed.sqlstate.as_deref().map(|code| &code[..2]) {
        Some("22" | "23") => true,
        Some("42") => false,
        _ => {
            ["invaliddata", "integrity"].contains(&failed.status.as_str())
                || ["value", "parse", "cast", "convert", "conversion", "invalid input", "out of range"]
                    .iter()
                    .any(|word| lower.contains(word))
        }
    }
}

/// A message up to the first value that it may show.
fn before_values(message: &str) -> &str {
    let quoted = message.find(['"', '\'', '`']);
    let shown = message.to_ascii_lowercase().find("value: ").map(|at| at + "value:".len());
    &message[..quoted.into_iter().chain(shown).min().unwrap_or(message.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        Target {
            name: "warehouse".to_owned(),
            driver: "snowflake".to_owned(),
            is_path: false,
            secrets: vec![Secret::new("hunter2-hunter2")],
        }
    }

    fn failed(step: Step, status: &str, message: &str, sqlstate: Option<&str>) -> Stop {
        Stop::Failed(Failed {
            step,
            status: status.to_owned(),
            message: message.to_owned(),
            sqlstate: sqlstate.map(str::to_owned),
        })
    }

    #[test]
    fn a_driver_that_is_not_there_says_how_to_install_it() {
        let error = target().error("connect", failed(Step::Load, "notfound", "Driver not found", None));
        assert_eq!(error.kind(), Kind::Config);
        assert!(error.advice().unwrap().contains("dbc install snowflake"));
    }

    #[test]
    fn values_of_rows_are_left_out_and_names_are_kept() {
        for (message, sqlstate, kept, left_out) in [
            ("Numeric value 'acme-ltd' is not recognized", Some("22018"), "Numeric value", "acme"),
            ("Bad int64 value: acme-ltd", None, "Bad int64 value:", "acme"),
            ("Cannot parse string 'acme-ltd' as Int32", None, "Cannot parse string", "acme"),
            ("syntax error at or near \"FORM\"", Some("42601"), "FORM", "acme"),
            ("table 'accounts' does not exist", None, "accounts", "acme"),
            ("permission denied for table \"accounts\"", Some("42501"), "accounts", "acme"),
        ] {
            let error = target().error("read rows", failed(Step::Execute, "unknown", message, sqlstate)).to_string();
            assert!(error.contains(kept) && !error.contains(left_out), "{error}");
        }
    }

    #[test]
    fn errors_are_classified_and_keep_no_secret() {
        for (stop, kind, missing) in [
            (failed(Step::Connect, "unauthenticated", "bad hunter2-hunter2", None), Kind::Source, false),
            (failed(Step::Connect, "io", "dial tcp: connection refused", None), Kind::SourceBusy, false),
            (
                failed(Step::Execute, "unknown", "Object 'A' does not exist or not authorized.", Some("02000")),
                Kind::Source,
                true,
            ),
            (failed(Step::Execute, "invalidarguments", "syntax error", Some("42601")), Kind::Source, false),
            (failed(Step::Read, "io", "unexpected EOF", None), Kind::SourceBusy, false),
            (failed(Step::Execute, "unknown", "unexpected EOF", None), Kind::SourceBusy, false),
            (
                failed(Step::Connect, "internal", "dial tcp 127.0.0.1:1: connect: connection refused", None),
                Kind::SourceBusy,
                false,
            ),
            (failed(Step::Connect, "internal", "failed to connect: authentication failed", None), Kind::Source, false),
            (
                Stop::Ended { how: "signal: 6".to_owned(), words: "panic: hunter2-hunter2".to_owned() },
                Kind::SourceBusy,
                false,
            ),
            (Stop::Stalled(std::time::Duration::from_secs(60)), Kind::SourceBusy, false),
        ] {
            let error = target().error("read rows", stop);
            assert_eq!((error.kind(), error.is_missing()), (kind, missing), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
            assert!(error.advice().is_some(), "{error}");
        }
    }
}
