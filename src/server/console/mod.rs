//! The console: pages for a browser that show what a running daemon does, and forms that command it.
//!
//! Pages are rendered here from the views of the [`Service`], and work without scripts; the script only refreshes them
//! when something has changed. No page carries inline style or script, so that a strict content security policy applies.
//! Authentication and the check of form tokens are layers around this router; what they know of the visitor arrives as a
//! [`PageSession`](super::http::auth::PageSession).

mod actions;
mod assets;
mod badge;
mod changes;
mod chart;
mod context;
mod day;
mod destination;
mod diff;
mod error_messages;
mod error_page;
mod events;
mod format;
mod group;
mod group_requests;
mod guards;
mod health;
mod issues;
mod layout;
mod links;
mod login;
mod mapping;
mod mirror;
mod next_step;
mod overview;
mod params;
mod plan;
mod progress;
mod rejected;
mod rejected_download;
mod respond;
mod retry;
mod run;
mod run_comparison;
mod run_counts;
mod run_log;
mod run_requests;
mod run_traits;
mod runs;
mod schedule;
mod sync;
mod sync_filter;
mod sync_list;
mod table;
#[cfg(test)]
mod tests;
mod text;

use std::sync::Arc;

use axum::Router;
use axum::response::Response;
use axum::routing::{get, post};

use crate::error::{Error, Kind};
use crate::io::Clock;
use crate::service::api::{Service, ServiceError};
use context::PageContext;
pub use error_page::error_page;

/// Every page, form and asset of the console.
///
/// `/assets/…` and `/login` show nothing about any sync, so they need no authentication.
pub fn router(service: Arc<dyn Service>, clock: Arc<dyn Clock>) -> Router {
    let events = move |service, closing| events::stream(Arc::clone(&clock), service, closing);
    Router::new()
        .route("/", get(overview::page))
        .route("/runs", get(runs::page))
        .route("/runs/{run}", get(run::page))
        .route("/runs/{run}/cancel", post(actions::cancel))
        .route("/rejected", get(rejected::page))
        .route("/rejected.csv", get(rejected_download::csv))
        .route("/rejected.json", get(rejected_download::json))
        .route("/syncs/{sync}", get(sync::page))
        .route("/syncs/{sync}/plan", get(plan::page))
        .route("/syncs/{sync}/groups", get(group::page))
        .route("/syncs/{sync}/run", post(actions::run))
        .route("/syncs/{sync}/retry", post(retry::page))
        .route("/syncs/{sync}/pause", post(actions::pause))
        .route("/syncs/{sync}/resume", post(actions::resume))
        .route("/destinations/{destination}", get(destination::page))
        .route("/events", get(events))
        .route("/login", get(login::page))
        .route("/assets/console.css", get(assets::style))
        .route("/assets/console.js", get(assets::script))
        .fallback(not_found)
        .with_state(service)
}

/// The page for an unknown path.
async fn not_found(context: PageContext) -> Response {
    let error = Error::new(Kind::Config, "this page does not exist").advise("start from the overview");
    respond::error(&context, ServiceError::NotFound(error))
}
