//! Why the service did not do what it was called for: the one error type of queries and commands.

use serde::Deserialize;
use serde_json::{Value, json};

use super::open::Failure;
use crate::config::Diagnostics;
use crate::error::{Error, Kind};
use crate::mapping::diagnostic::Problem;
use crate::sync::report::error_json;

/// An error as machines read it, with the problems in files where it is about these.
pub fn error_object(error: &Error, problems: &[Problem]) -> Value {
    let mut object = error_json(error);
    if !problems.is_empty() {
        object["problems"] = json!(problems);
    }
    object
}

/// Why a query or command failed.
#[derive(Debug)]
pub enum ServiceError {
    /// There is no such sync, run or group.
    NotFound(Error),
    /// The request is not sound: an unknown guard, an option that does not fit.
    Invalid(Error),
    /// It cannot be done now: the sync is busy, or the daemon is stopping. The same request may succeed later.
    Conflict(Error),
    /// Too many others are in progress. The same request succeeds once they are done.
    Busy(Error),
    /// It was tried and failed.
    Failed(Error),
    /// Files have problems, each at its place.
    Problems(Diagnostics),
}

impl ServiceError {
    /// The problems in files, with the lines they are about.
    pub fn problems(&self) -> Vec<Problem> {
        match self {
            ServiceError::Problems(problems) => problems.problems(),
            _ => Vec::new(),
        }
    }

    /// As machines read it.
    pub fn into_json(self) -> Value {
        let problems = self.problems();
        error_object(&self.into_error(), &problems)
    }

    /// From what [`ServiceError::into_json`] wrote.
    pub fn from_json(error: &Value) -> ServiceError {
        if let Ok(problems) = Vec::<Problem>::deserialize(&error["problems"])
            && !problems.is_empty()
        {
            return ServiceError::Problems(problems.into());
        }
        let kind = error["kind"].as_str().and_then(Kind::from_name).unwrap_or(Kind::Bug);
        let text = Error::new(kind, error["message"].as_str().unwrap_or("the response names no reason"));
        ServiceError::Failed(text.maybe_advise(error["advice"].as_str().map(str::to_owned)))
    }

    /// The error of a response of the API; none where something else responded.
    pub fn from_response(status: u16, body: &[u8]) -> Option<ServiceError> {
        let value: Value = serde_json::from_slice(body).ok()?;
        let error = value.get("error").filter(|error| error.is_object())?;
        Some(match (ServiceError::from_json(error), status) {
            (ServiceError::Failed(error), 404) => ServiceError::NotFound(error),
            (ServiceError::Failed(error), 400) => ServiceError::Invalid(error),
            (ServiceError::Failed(error), 409) => ServiceError::Conflict(error),
            (ServiceError::Failed(error), 503) => ServiceError::Busy(error),
            (error, _) => error,
        })
    }

    /// The error itself.
    pub fn into_error(self) -> Error {
        match self {
            ServiceError::NotFound(error)
            | ServiceError::Invalid(error)
            | ServiceError::Conflict(error)
            | ServiceError::Busy(error)
            | ServiceError::Failed(error) => error,
            ServiceError::Problems(problems) => Failure::Problems(problems).as_error(),
        }
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Failure {
        match error {
            ServiceError::Problems(problems) => Failure::Problems(problems),
            error => Failure::Error(error.into_error()),
        }
    }
}

impl From<Failure> for ServiceError {
    fn from(failure: Failure) -> ServiceError {
        match failure {
            Failure::Error(error) => ServiceError::Failed(error),
            Failure::Problems(problems) => ServiceError::Problems(problems),
        }
    }
}

impl From<Error> for ServiceError {
    fn from(error: Error) -> ServiceError {
        ServiceError::Failed(error)
    }
}

/// The result of a query or command.
pub type ServiceResult<T> = std::result::Result<T, ServiceError>;
