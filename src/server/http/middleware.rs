//! The outermost middleware: the time limit, panics, error texts, and the headers that restrict what browsers do with a
//! response.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;

use super::auth::{AuthState, wants_page};
use super::error::{ApiError, ErrorMessage};
use super::limits::HttpLimits;
use crate::error::{Error, Kind};
use crate::io;

/// What a page may load and do: its own styles, scripts, images and forms, nothing inline, and no other site may frame it.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self' data:; script-src 'self'; \
                           form-action 'self'; base-uri 'none'; frame-ancestors 'none'; connect-src 'self'";

/// Runs the inner router and finishes its response.
pub(super) async fn finalize(State(state): State<Arc<AuthState>>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let as_page = wants_page(&path, request.headers());
    let limit = time_limit(&method, &path, &state.limits);
    let started = state.clock.elapsed();
    let response = AssertUnwindSafe(next.run(request)).catch_unwind();
    let mut response = match tokio::time::timeout(limit, response).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => {
            // The response names the log line that has the trace.
            let id = request_id();
            tracing::error!(%method, path, request = id, "a request handler panicked; the trace is on stderr, please report it");
            panicked(&id).into_response()
        }
        Err(_) => timed_out(limit).into_response(),
    };
    add_text(&mut response, &method, &path);
    if as_page && let Some(message) = response.extensions_mut().remove::<ErrorMessage>() {
        let (body, kind) = match state.error_page {
            Some(page) => (page(&message), "text/html; charset=utf-8"),
            None => (message.plain(), "text/plain; charset=utf-8"),
        };
        *response.body_mut() = Body::from(body);
        set(&mut response, header::CONTENT_TYPE, kind);
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    add_headers(&mut response);
    let took_ms = (state.clock.elapsed().saturating_sub(started)).as_millis();
    tracing::debug!(%method, path, status = response.status().as_u16(), took_ms, "request handled");
    response
}

/// How long a request may take. Plans read the source; so does a dry run, which is a POST to a sync's runs.
fn time_limit(method: &Method, path: &str, limits: &HttpLimits) -> Duration {
    let plans = path.ends_with("/plan") || (*method == Method::POST && path.ends_with("/runs"));
    if plans { limits.plan } else { limits.response }
}

/// 504.
pub(super) fn timed_out(limit: Duration) -> ApiError {
    let what = format!("the request took longer than {} s", limit.as_secs_f32());
    let error = Error::new(Kind::SourceBusy, what)
        .advise("try again later; the daemon's log and metrics show what keeps it busy");
    ApiError::failed(StatusCode::GATEWAY_TIMEOUT, error)
}

fn panicked(request: &str) -> ApiError {
    let error = Error::new(Kind::Bug, format!("internal error: the request handler panicked (request ID {request})"))
        .advise("find the request ID in the daemon's log and report the trace beside it");
    ApiError::failed(StatusCode::INTERNAL_SERVER_ERROR, error)
}

/// An id for the log. Without random bytes it is the same for all, which is still found.
fn request_id() -> String {
    u64::from_ne_bytes(io::secret_bytes().unwrap_or_default()).to_string()
}

/// Adds a text to a bare status, such as the router's own 404 and 405.
fn add_text(response: &mut Response, method: &Method, path: &str) {
    let status = response.status();
    let bare = !response.headers().contains_key(header::CONTENT_TYPE);
    if !bare || !(status.is_client_error() || status.is_server_error()) {
        return;
    }
    let shown: String = path.chars().take(200).collect();
    let error = match status {
        StatusCode::NOT_FOUND => {
            ApiError::new(status, format!("{shown} not found"), "see /api/v1/openapi.json for all paths")
        }
        StatusCode::METHOD_NOT_ALLOWED => ApiError::new(
            status,
            format!("method {method} is not allowed at {shown}"),
            "see the response header `Allow`, or /api/v1/openapi.json",
        ),
        _ => ApiError::new(status, "the request was rejected", "see /api/v1/openapi.json"),
    };
    let allow = response.headers_mut().remove(header::ALLOW);
    *response = error.into_response();
    if let Some(allow) = allow {
        response.headers_mut().insert(header::ALLOW, allow);
    }
}

fn add_headers(response: &mut Response) {
    let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let page = content_type.is_some_and(|value| value.starts_with("text/html"));
    set(response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(response, header::REFERRER_POLICY, "no-referrer");
    set(response, header::X_FRAME_OPTIONS, "DENY");
    if page {
        set(response, header::CONTENT_SECURITY_POLICY, PAGE_POLICY);
    }
    // Only the console's assets may be cached.
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

fn set(response: &mut Response, name: header::HeaderName, value: &'static str) {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_reads_the_source_may_take_minutes() {
        let limits = HttpLimits::default();
        for (method, path, expected) in [
            (Method::GET, "/api/v1/syncs/accounts/plan", limits.plan),
            (Method::GET, "/syncs/accounts/plan", limits.plan),
            (Method::POST, "/api/v1/syncs/accounts/runs", limits.plan),
            (Method::GET, "/api/v1/syncs/accounts/runs", limits.response),
            (Method::GET, "/api/v1/runs", limits.response),
            (Method::POST, "/api/v1/runs/r/cancel", limits.response),
        ] {
            assert_eq!(time_limit(&method, path, &limits), expected, "{method} {path}");
        }
    }
}
