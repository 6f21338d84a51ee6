//! What does every answer carry, whatever happened inside? A status with words, and headers that keep browsers from doing
//! anything else with it. A handler that takes too long is given up, one that panics harms nobody else.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;

use super::auth::{Gate, wants_page};
use super::limits::Limits;
use super::refused::{Refused, Words};
use crate::error::{Error, Kind};

/// What a page may load and do: its own styles, scripts, images and forms, nothing inline, and nobody may frame it.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self' data:; script-src 'self'; \
                           form-action 'self'; base-uri 'none'; frame-ancestors 'none'; connect-src 'self'";

/// Runs everything inside and finishes its answer.
pub(super) async fn finish(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let as_page = wants_page(&path, request.headers());
    let limit = patience(&method, &path, &gate.limits);
    let began = gate.clock.elapsed();
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind();
    let mut response = match tokio::time::timeout(limit, answer).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => {
            tracing::error!(%method, path, "a request handler panicked; the trace is on stderr, please report it");
            panicked().into_response()
        }
        Err(_) => too_slow(limit).into_response(),
    };
    worded(&mut response, &method, &path);
    if as_page && let Some(words) = response.extensions_mut().remove::<Words>() {
        let (body, kind) = match gate.refusal_page {
            Some(page) => (page(&words), "text/html; charset=utf-8"),
            None => (words.plain(), "text/plain; charset=utf-8"),
        };
        *response.body_mut() = Body::from(body);
        set(&mut response, header::CONTENT_TYPE, kind);
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    seal(&mut response);
    let took_ms = (gate.clock.elapsed().saturating_sub(began)).as_millis();
    tracing::debug!(%method, path, status = response.status().as_u16(), took_ms, "answered");
    response
}

/// How long a request may take. Plans read the source; that goes for a dry run too, which is a POST to a sync's runs.
fn patience(method: &Method, path: &str, limits: &Limits) -> Duration {
    let plans = path.ends_with("/plan") || (*method == Method::POST && path.ends_with("/runs"));
    if plans { limits.plan } else { limits.answer }
}

/// 504.
pub(super) fn too_slow(limit: Duration) -> Refused {
    let what = format!("the answer was not there within {} seconds", limit.as_secs_f32());
    let error = Error::new(Kind::SourceBusy, what).advise("try again later, and look at what keeps the daemon busy");
    Refused::failed(StatusCode::GATEWAY_TIMEOUT, error)
}

fn panicked() -> Refused {
    let error = Error::new(Kind::Bug, "the daemon met a mistake of its own and gave up on this request")
        .advise("look at the daemon's log for the trace, and report it");
    Refused::failed(StatusCode::INTERNAL_SERVER_ERROR, error)
}

/// Gives words to a bare status, such as the router's own 404 and 405.
fn worded(response: &mut Response, method: &Method, path: &str) {
    let status = response.status();
    let bare = !response.headers().contains_key(header::CONTENT_TYPE);
    if !bare || !(status.is_client_error() || status.is_server_error()) {
        return;
    }
    let shown: String = path.chars().take(200).collect();
    let refused = match status {
        StatusCode::NOT_FOUND => {
            Refused::new(status, format!("there is nothing at {shown}"), "see /api/v1/openapi.json for what there is")
        }
        StatusCode::METHOD_NOT_ALLOWED => Refused::new(
            status,
            format!("{method} is not possible at {shown}"),
            "see the header `Allow`, or /api/v1/openapi.json",
        ),
        _ => Refused::new(status, "the request was refused", "see /api/v1/openapi.json"),
    };
    let allow = response.headers_mut().remove(header::ALLOW);
    *response = refused.into_response();
    if let Some(allow) = allow {
        response.headers_mut().insert(header::ALLOW, allow);
    }
}

fn seal(response: &mut Response) {
    let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let page = content_type.is_some_and(|value| value.starts_with("text/html"));
    set(response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(response, header::REFERRER_POLICY, "no-referrer");
    set(response, header::X_FRAME_OPTIONS, "DENY");
    if page {
        set(response, header::CONTENT_SECURITY_POLICY, PAGE_POLICY);
    }
    // Only the console's own assets may say otherwise.
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
        let limits = Limits::default();
        for (method, path, expected) in [
            (Method::GET, "/api/v1/syncs/accounts/plan", limits.plan),
            (Method::GET, "/syncs/accounts/plan", limits.plan),
            (Method::POST, "/api/v1/syncs/accounts/runs", limits.plan),
            (Method::GET, "/api/v1/syncs/accounts/runs", limits.answer),
            (Method::GET, "/api/v1/runs", limits.answer),
            (Method::POST, "/api/v1/runs/r/cancel", limits.answer),
        ] {
            assert_eq!(patience(&method, path, &limits), expected, "{method} {path}");
        }
    }
}
