//! Why the service did not do what it was called for: the one error type of queries and commands.

use serde_json::{Value, json};

use super::open::Failure;
use crate::config::Diagnostics;
use crate::error::Error;
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
