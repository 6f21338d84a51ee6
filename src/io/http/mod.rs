//! HTTP: one request, and the response or why it is missing. [`HttpClient`] sends over the machine's network; a test or
//! a simulation implements [`Transport`] instead.
//!
//! Requests for a file or for standard output ([`FILE_URL`], [`STDOUT_URL`]) travel the same way, so that a destination of
//! type `file` is delivered to like any other.

mod append;
mod client;
pub mod exchange;
mod proxy;

use std::time::Duration;

use async_trait::async_trait;
use chrono::DateTime;

pub use client::HttpClient;

/// The URL of standard output.
pub const STDOUT_URL: &str = "stdout:";
/// What the URL of a file begins with; its path follows, not encoded.
pub const FILE_URL: &str = "file:";

/// How long a request may still arrive after it was given up. The operating system goes on sending what it was handed when a
/// connection is closed, and when the process is gone, until it is acknowledged.
pub const LATE_MAX: Duration = Duration::from_secs(30);

/// Longest wait read from a response; delivery has its own, shorter cap.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(86_400);

/// Where a request goes and what it carries. The body and some headers hold secrets: never log one whole.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// `POST`, `DELETE`, …
    pub method: &'static str,
    /// The full URL, without secrets.
    pub url: String,
    /// Header names and values.
    pub headers: Vec<(&'static str, String)>,
    /// The body before compression.
    pub body: Vec<u8>,
    /// Whether the body travels gzip-compressed.
    pub gzip: bool,
}

impl Request {
    /// A GET without headers or a body.
    pub fn get(url: String) -> Request {
        Request { method: "GET", url, headers: Vec::new(), body: Vec::new(), gzip: false }
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} {} ({} bytes)", self.method, self.url, self.body.len())
    }
}

/// What came back: any status, never an error by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// Header names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body, up to [`CallLimits::body_bytes_max`].
    pub body: Vec<u8>,
    /// Whether the body was longer than that.
    pub truncated: bool,
}

impl Response {
    /// The first header of this (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// Its `Retry-After`: seconds, or an HTTP date read against the response's own `Date`, so that neither clock matters.
    pub fn retry_after(&self) -> Option<Duration> {
        let value = self.header("retry-after")?.trim();
        let wait = match value.parse::<f64>() {
            Ok(seconds) if seconds >= 0.0 => Duration::try_from_secs_f64(seconds).unwrap_or(RETRY_AFTER_MAX),
            Ok(_) => return None,
            Err(_) => {
                let at = DateTime::parse_from_rfc2822(value).ok()?;
                let now = DateTime::parse_from_rfc2822(self.header("date")?.trim()).ok()?;
                (at - now).to_std().unwrap_or(Duration::ZERO)
            }
        };
        Some(wait.min(RETRY_AFTER_MAX))
    }
}

/// Why no response came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoResponse {
    /// Whether the server may have acted on the request all the same.
    pub applied: Applied,
    /// What happened, without secrets: "connection refused", "no response within 30 s".
    pub what: String,
}

/// Whether a request that was not acknowledged can have had an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It certainly had none: no byte of it left, or the response says so.
    No,
    /// It may have had one.
    Maybe,
}

/// How long one call may take, and how much of a response its caller accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallLimits {
    /// Longest the call may take, from the connection to the last byte.
    pub timeout: Duration,
    /// Longest body, decompressed. What is beyond it is cut off, and [`Response::truncated`] says so.
    pub body_bytes_max: usize,
}

/// Sends one HTTP request and returns whatever came back. A status other than 2xx is a response, not an error. So is a
/// redirect: it is never followed, because that would hand credentials to another host.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends `request`, once.
    ///
    /// `Err` with [`Applied::No`] only when the request certainly did not reach the server.
    async fn send(&self, request: &Request, limits: CallLimits) -> Result<Response, NoResponse>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(headers: &[(&str, &str)]) -> Response {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Response { headers, ..Response::default() }
    }

    #[test]
    fn waits_are_seconds_or_dates() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        for (value, seconds) in [
            ("30", Some(30.0)),
            (" 1.5 ", Some(1.5)),
            ("0", Some(0.0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60.0)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0.0)),
            ("99999999999999999999", Some(86_400.0)),
            ("-1", None),
            ("NaN", None),
            ("soon", None),
        ] {
            let waits = response(&[("retry-after", value), date]).retry_after();
            assert_eq!(waits, seconds.map(Duration::from_secs_f64), "{value}");
        }
        assert_eq!(response(&[("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT")]).retry_after(), None, "no `Date`");
        assert_eq!(response(&[]).retry_after(), None);
    }
}
