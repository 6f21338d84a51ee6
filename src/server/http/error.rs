//! The error response: always `{"error": {"kind", "message", "advice"}}`, as the command line's `--json` prints errors too.
//! With `problems` where mapping files do not fit their source.
//! A browser that wants a page gets the same message as a page of the console (see [`super::middleware`]).

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::error::{Error, Kind};
use crate::mapping::diagnostic::Problem;
use crate::service::api::ServiceError;
use crate::service::error::error_object;

/// Seconds after which a busy service may be tried again: about as long as a warehouse takes to restart or a ledger to be
/// compacted.
const RETRY_AFTER_SECONDS: u64 = 30;

/// What a handler returns.
pub(super) type ApiResult<T> = Result<Json<T>, ApiError>;

/// An error and the response it becomes.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    error: Error,
    /// Boxed: it is rare, and every handler's result has room for one of these.
    more: Option<Box<More>>,
}

/// What few errors have.
#[derive(Debug, Default)]
struct More {
    /// A header that belongs to the status.
    header: Option<(HeaderName, HeaderValue)>,
    /// The problems in files.
    problems: Vec<Problem>,
}

/// The text of an error response, kept beside it for clients that want no JSON.
#[derive(Debug, Clone)]
pub struct ErrorMessage {
    /// The response's status.
    pub status: StatusCode,
    /// What was rejected or failed.
    pub message: String,
    /// What to do next.
    pub advice: Option<String>,
}

impl ErrorMessage {
    /// As plain text.
    pub(super) fn plain(&self) -> String {
        let reason = self.status.canonical_reason().unwrap_or("error");
        let mut text = format!("{} {reason}\n\n{}\n", self.status.as_u16(), self.message);
        if let Some(advice) = &self.advice {
            text.push_str(advice);
            text.push('\n');
        }
        text
    }
}

impl ApiError {
    /// The caller's mistake: they must change something, which is what [`Kind::Config`] means.
    pub(super) fn new(status: StatusCode, what: impl Into<String>, advice: impl Into<String>) -> ApiError {
        ApiError { status, error: Error::new(Kind::Config, what).advise(advice), more: None }
    }

    /// A failure of ours, of the source or of the destination.
    pub(super) fn failed(status: StatusCode, error: Error) -> ApiError {
        ApiError { status, error, more: None }
    }

    /// 400.
    pub(super) fn bad(what: impl Into<String>, advice: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, what, advice)
    }

    /// Adds a header that belongs to the status.
    pub(super) fn with(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> ApiError {
        self.more.get_or_insert_default().header = Some((name, value.into()));
        self
    }
}

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> ApiError {
        let status = match &error {
            ServiceError::NotFound(_) => StatusCode::NOT_FOUND,
            ServiceError::Invalid(_) => StatusCode::BAD_REQUEST,
            ServiceError::Conflict(_) => StatusCode::CONFLICT,
            ServiceError::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
            ServiceError::Failed(error) => failed_status(error.kind()),
            ServiceError::Problems(_) => StatusCode::CONFLICT,
        };
        let problems = error.problems();
        let mut error = ApiError::failed(status, error.into_error());
        if !problems.is_empty() {
            error.more.get_or_insert_default().problems = problems;
        }
        match status {
            StatusCode::SERVICE_UNAVAILABLE => error.with(header::RETRY_AFTER, RETRY_AFTER_SECONDS),
            _ => error,
        }
    }
}

/// The status of something that was tried and failed. What passes by itself is 503, what the source or destination rejected
/// is 502, and a config that turned out wrong is the server's mistake, not the caller's.
fn failed_status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Guard | Kind::PlanOutdated => StatusCode::CONFLICT,
        Kind::Source | Kind::Destination => StatusCode::BAD_GATEWAY,
        Kind::SourceBusy | Kind::LedgerBusy | Kind::Interrupted => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Config | Kind::Ledger | Kind::Bug => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, advice) = (self.status, self.error.advice().map(str::to_owned));
        let message = ErrorMessage { status, message: self.error.to_string(), advice };
        let More { header, problems } = self.more.map(|more| *more).unwrap_or_default();
        let mut response = (self.status, Json(json!({"error": error_object(&self.error, &problems)}))).into_response();
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, value);
        }
        response.extensions_mut().insert(message);
        response
    }
}
