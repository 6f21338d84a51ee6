//! With which status and words is a request refused? Always `{"error": {"kind", "message", "advice"}}`, as the command
//! line prints errors too; for a browser that wants a page, the same words as a page of the console
//! (see [`super::finish`]).

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::error::{Error, Kind};
use crate::service::api::ServiceError;
use crate::sync::report::error_json;

/// Seconds after which something busy may be tried again: about as long as a warehouse takes to restart or a ledger to be
/// compacted.
const RETRY_AFTER_SECONDS: u64 = 30;

/// Why a request is refused, and how the answer says so.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    error: Error,
    /// Boxed: it is rare, and every handler's result has room for one of these.
    header: Option<Box<(HeaderName, HeaderValue)>>,
}

/// The words of a refusal, kept beside the answer for those who want no JSON.
#[derive(Debug, Clone)]
pub struct Words {
    /// The answer's status.
    pub status: StatusCode,
    /// What was refused or failed.
    pub message: String,
    /// What to do about it.
    pub advice: Option<String>,
}

impl Words {
    /// As plain text.
    pub(super) fn plain(&self) -> String {
        let mut text = format!("{} {}\n\n{}\n", self.status.as_u16(), reason(self.status), self.message);
        if let Some(advice) = &self.advice {
            text.push_str(advice);
            text.push('\n');
        }
        text
    }
}

impl Refused {
    /// The caller's mistake: they must change something, which is what [`Kind::Config`] means.
    pub(super) fn new(status: StatusCode, what: impl Into<String>, advice: impl Into<String>) -> Refused {
        Refused { status, error: Error::new(Kind::Config, what).advise(advice), header: None }
    }

    /// A failure of ours or of somebody behind us.
    pub(super) fn failed(status: StatusCode, error: Error) -> Refused {
        Refused { status, error, header: None }
    }

    /// 400.
    pub(super) fn bad(what: impl Into<String>, advice: impl Into<String>) -> Refused {
        Refused::new(StatusCode::BAD_REQUEST, what, advice)
    }

    /// Adds a header that belongs to the status.
    pub(super) fn with(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Refused {
        self.header = Some(Box::new((name, value.into())));
        self
    }
}

impl From<ServiceError> for Refused {
    fn from(refusal: ServiceError) -> Refused {
        match refusal {
            ServiceError::NotFound(error) => Refused::failed(StatusCode::NOT_FOUND, error),
            ServiceError::Invalid(error) => Refused::failed(StatusCode::BAD_REQUEST, error),
            ServiceError::Conflict(error) => Refused::failed(StatusCode::CONFLICT, error),
            ServiceError::Busy(error) => {
                Refused::failed(StatusCode::SERVICE_UNAVAILABLE, error).with(header::RETRY_AFTER, RETRY_AFTER_SECONDS)
            }
            ServiceError::Failed(error) => {
                let status = failed(error.kind());
                let refused = Refused::failed(status, error);
                if status == StatusCode::SERVICE_UNAVAILABLE {
                    return refused.with(header::RETRY_AFTER, RETRY_AFTER_SECONDS);
                }
                refused
            }
        }
    }
}

/// The status of something that was tried and failed. What heals by waiting is 503, what somebody behind us refused is 502,
/// and a config that turned out wrong is the server's, not the caller's.
pub(super) fn failed(kind: Kind) -> StatusCode {
    match kind {
        Kind::Guard => StatusCode::CONFLICT,
        Kind::Source | Kind::Destination => StatusCode::BAD_GATEWAY,
        Kind::SourceBusy | Kind::LedgerBusy | Kind::Interrupted => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Config | Kind::Ledger | Kind::Bug => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, advice) = (self.status, self.error.advice().map(str::to_owned));
        let words = Words { status, message: self.error.to_string(), advice };
        let mut response = (self.status, Json(json!({"error": error_json(&self.error)}))).into_response();
        if let Some((name, value)) = self.header.map(|header| *header) {
            response.headers_mut().insert(name, value);
        }
        response.extensions_mut().insert(words);
        response
    }
}

fn reason(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("error")
}
