//! The console: how does a person look into a running daemon and give it orders, with nothing but a browser?
//!
//! Pages are made here, on the server, from what the [`Service`] tells, and work without scripts; the script only keeps a
//! page about a run under way fresh. No page carries inline style or script, so that a strict content security policy
//! can stand in front of it. Who may see a page and whether a form was sent from one is decided by the layers around
//! this router; what they know of the visitor arrives as a [`Session`](super::http::auth::Session).

mod assets;
mod chart;
mod group;
mod guards;
mod history;
mod login;
mod orders;
mod overview;
mod page;
mod plan;
mod refused;
mod rejected;
mod run;
mod said;
mod sync;
mod table;
#[cfg(test)]
mod tests;
mod values;
mod visit;
mod words;

use std::sync::Arc;

use axum::Router;
use axum::response::Response;
use axum::routing::{get, post};

use crate::error::{Error, Kind};
use crate::service::api::{Service, ServiceError};
pub use refused::refused;
use visit::Visit;

/// Every page, form and asset of the console.
///
/// `/assets/…` and `/login` tell nothing about any sync, so they may be served to anybody.
pub fn router(service: Arc<dyn Service>) -> Router {
    Router::new()
        .route("/", get(overview::page))
        .route("/runs", get(history::page))
        .route("/runs/{run}", get(run::page))
        .route("/runs/{run}/cancel", post(orders::cancel))
        .route("/rejected", get(rejected::page))
        .route("/syncs/{sync}", get(sync::page))
        .route("/syncs/{sync}/plan", get(plan::page))
        .route("/syncs/{sync}/groups", get(group::page))
        .route("/syncs/{sync}/run", post(orders::run))
        .route("/syncs/{sync}/pause", post(orders::pause))
        .route("/syncs/{sync}/resume", post(orders::resume))
        .route("/login", get(login::page))
        .route("/assets/console.css", get(assets::style))
        .route("/assets/console.js", get(assets::script))
        .fallback(nowhere)
        .with_state(service)
}

/// The page for an address that leads nowhere.
async fn nowhere(visit: Visit) -> Response {
    let error = Error::new(Kind::Config, "there is no such page").advise("start from the overview");
    visit.refuse(ServiceError::NotFound(error))
}
