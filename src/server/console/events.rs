//! `GET /events`: an event when something that pages show has changed, so that open pages refresh by themselves. One
//! version in the service is all that a stream waits for.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::future::Either;
use futures_util::{StreamExt, stream};

use crate::io::Clock;
use crate::server::http::ServerClosing;
use crate::service::api::Service;

/// Between two events at least: what happens together is one change.
const EVENT_EVERY: Duration = Duration::from_millis(300);
/// Between two signs of life. Proxies close a connection that is silent for 30 to 60 seconds.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(15);
/// A stream ends after this time and the browser opens it again, with its session checked anew.
const STREAM_MAX: Duration = Duration::from_secs(300);

/// The version of what pages show, at first and whenever it moves.
pub(super) async fn stream(
    clock: Arc<dyn Clock>,
    State(service): State<Arc<dyn Service>>,
    closing: Option<Extension<ServerClosing>>,
) -> Response {
    // For this status a browser does not try again; the page polls.
    let Some(mut changes) = service.changes() else { return StatusCode::NO_CONTENT.into_response() };
    changes.mark_changed();
    let started = Arc::clone(&clock);
    let versions = stream::unfold((changes, clock), |(mut changes, clock)| async move {
        changes.changed().await.ok()?;
        clock.sleep(EVENT_EVERY).await;
        let version = *changes.borrow_and_update();
        Some((Ok::<_, Infallible>(Event::default().event("change").data(version.to_string())), (changes, clock)))
    });
    let ended = async move { started.sleep(STREAM_MAX).await };
    let closed = match closing {
        Some(Extension(closing)) => Either::Left(closing.closed()),
        None => Either::Right(std::future::pending()),
    };
    let events = versions.take_until(ended).take_until(closed);
    // Some proxies collect a response before they pass it on.
    let headers = [("x-accel-buffering", "no")];
    (headers, Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT_EVERY))).into_response()
}
