//! The one error type: what failed, where, and what the operator does next.
//!
//! An error is classified once, where it arises, into a [`Kind`]; above that it only gains context
//! ([`Error::at`], [`Within::within`]). A kind exists only if a caller or an operator would act differently. Texts are
//! lower-case fragments that fit "failed to …"; they never hold a secret or a trait's value.

use std::fmt;

/// The class of a failure. Decides the exit code, whether a schedule retries soon, and the default advice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Kind {
    /// A config or mapping file, a flag or an environment variable is wrong. A person must edit something.
    Config,
    /// The source failed in a way that a retry does not mend: credentials, permissions, bad SQL.
    Source,
    /// The source is busy, locked or unreachable right now; the same call may succeed later.
    SourceBusy,
    /// The destination refuses every request: bad credentials, wrong region, disabled project.
    Destination,
    /// The ledger cannot be read or written: disk full, read-only, corrupt, newer version.
    Ledger,
    /// Another process has the ledger open.
    LedgerBusy,
    /// A guard stopped the run before the first byte was sent.
    Guard,
    /// A plan does not fit any more: what it was made from has changed. A new one has to be made and reviewed.
    PlanOutdated,
    /// The run was cancelled (Ctrl-C, SIGTERM).
    Interrupted,
    /// An invariant of ours does not hold: not the operator's fault.
    Bug,
}

impl Kind {
    /// Every kind.
    pub const ALL: &'static [Kind] = <Kind as strum::VariantArray>::VARIANTS;

    /// The process exit code: 1 failed, 2 bad config or usage, 4 stopped by a guard, 130 interrupted.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Config => 2,
            Kind::Guard => 4,
            Kind::Interrupted => 130,
            Kind::Source
            | Kind::SourceBusy
            | Kind::Destination
            | Kind::Ledger
            | Kind::LedgerBusy
            | Kind::PlanOutdated
            | Kind::Bug => 1,
        }
    }

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Kind> {
        name.parse().ok()
    }

    /// The name used in `--json` output.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// A failure with its kind, what was attempted, where, and the next step.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    what: String,
    places: Vec<String>,
    advice: Option<String>,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
    missing: bool,
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A new error; `what` is a lower-case fragment that fits after "failed to" or stands alone.
    pub fn new(kind: Kind, what: impl Into<String>) -> Error {
        Error { kind, what: what.into(), places: Vec::new(), advice: None, cause: None, missing: false }
    }

    /// Adds the operator's next step, one imperative sentence without a full stop.
    pub fn advise(mut self, advice: impl Into<String>) -> Error {
        self.advice = Some(advice.into());
        self
    }

    /// The same with another next step, if there is one.
    pub fn maybe_advise(self, advice: Option<String>) -> Error {
        match advice {
            Some(advice) => self.advise(advice),
            None => self,
        }
    }

    /// Marks that a table or column was not found at the source; another process may be recreating it just now.
    pub fn missing(mut self) -> Error {
        self.missing = true;
        self
    }

    /// Whether a table or column was not found at the source.
    pub fn is_missing(&self) -> bool {
        self.missing
    }

    /// Adds the underlying error; its text is printed after ours.
    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        self.cause = Some(cause.into());
        self
    }

    /// Adds a place: a file, `source warehouse`, `sync accounts`. The innermost comes first.
    pub fn at(mut self, place: impl Into<String>) -> Error {
        let place = place.into();
        // The source says where it is, and so may those that asked it.
        if self.places.last() != Some(&place) {
            self.places.push(place);
        }
        self
    }

    /// A copy with its cause as text, to record an error that is also returned.
    pub fn again(&self) -> Error {
        Error {
            kind: self.kind,
            what: self.to_string(),
            places: Vec::new(),
            advice: self.advice.clone(),
            cause: None,
            missing: self.missing,
        }
    }

    /// The same error with all of its texts put through `reword`.
    pub fn reworded(self, reword: impl Fn(&str) -> String) -> Error {
        let Error { kind, what, places, advice, cause, missing } = self;
        let mut causes = String::new();
        let mut next: Option<&dyn std::error::Error> = cause.as_deref().map(|cause| cause as _);
        while let Some(error) = next {
            causes = if causes.is_empty() { error.to_string() } else { format!("{causes}: {error}") };
            next = error.source();
        }
        Error {
            kind,
            what: reword(&what),
            places: places.iter().map(|place| reword(place)).collect(),
            advice: advice.as_deref().map(&reword),
            cause: (!causes.is_empty()).then(|| reword(&causes).into()),
            missing,
        }
    }

    /// The same error of another kind: what a source's connection meets is the ledger's where that connection is its own.
    pub fn of_kind(self, kind: Kind) -> Error {
        Error { kind, ..self }
    }

    /// Its class.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What failed, without places and causes.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The operator's next step, when one is known.
    pub fn advice(&self) -> Option<&str> {
        self.advice.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in self.places.iter().rev() {
            write!(out, "{place}: ")?;
        }
        write!(out, "{}", self.what)?;
        let mut cause: Option<&dyn std::error::Error> = self.cause.as_deref().map(|cause| cause as _);
        while let Some(error) = cause {
            write!(out, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Adds a place to the error of a result.
pub trait Within<T> {
    /// Names the place (`source warehouse`, a path) in the error, if there is one.
    fn within(self, place: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Within<T> for Result<T> {
    fn within(self, place: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| error.at(place()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_printed_outermost_first_and_the_cause_last() {
        let error = Error::new(Kind::Source, "failed to read `accounts`")
            .because(std::io::Error::other("connection reset"))
            .at("source warehouse")
            .at("sync accounts");
        assert_eq!(error.to_string(), "sync accounts: source warehouse: failed to read `accounts`: connection reset");
        assert_eq!(error.kind().exit_code(), 1);
    }
}
