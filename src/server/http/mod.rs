//! The HTTP server: the JSON API, metrics, health checks, and the routes around the console's pages.
//!
//! A request passes, from the outside in: `listener` (connections, headers, slow clients) → `middleware` (time limit,
//! panics, headers of every response) → [`auth`] (who calls, from where, with which body) → `routes` or a page. All of it
//! reaches the daemon through [`Service`] alone. Commands connect to the socket beside the ledger ([`local`]), where the file
//! system's permissions replace authentication; otherwise it is the same.

mod address;
pub mod auth;
mod body;
mod closing;
mod error;
mod handlers;
mod limits;
mod listener;
pub mod local;
mod login;
mod middleware;
mod openapi;
mod origin;
mod query;
mod redirect;
mod routes;
mod run_request;
mod session;
mod slots;
mod throttle;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;

use crate::error::Result;
use crate::io::Clock;
use crate::secret::Secret;
use crate::service::api::Service;
use crate::service::wire::Hello;

pub use address::check_listen;
pub use closing::ServerClosing;
pub use error::ErrorMessage;
pub use limits::HttpLimits;
pub use listener::{serve, serve_local};

/// What the server needs beside the service.
#[derive(Debug, Clone, Default)]
pub struct ServerSettings {
    /// The token callers must send; without one only programs and browsers of this machine are served.
    pub token: Option<Secret>,
    /// The console's pages. They serve `GET /login` (the form posts `token`, and `next` from the query; `failed=true` means
    /// that the token was wrong) and may have a fallback of their own; `POST /login`, `POST /logout` and everything under
    /// `/api` belong to this module. Every request that reaches them carries an [`auth::PageSession`], and every POST has passed
    /// the check of its form field `csrf`.
    pub pages: Option<Router>,
    /// Renders an error of this module for a browser; without it, errors are plain text there.
    pub error_page: Option<fn(&ErrorMessage) -> String>,
    /// What clients may request.
    pub limits: HttpLimits,
}

impl ServerSettings {
    /// With the token of the config, without pages, with the default limits.
    pub fn new(token: Option<Secret>) -> ServerSettings {
        ServerSettings { token, ..ServerSettings::default() }
    }

    /// Serves these pages too.
    pub fn with_pages(mut self, pages: Router) -> ServerSettings {
        self.pages = Some(pages);
        self
    }

    /// Renders errors for browsers with this page.
    pub fn with_error_page(mut self, page: fn(&ErrorMessage) -> String) -> ServerSettings {
        self.error_page = Some(page);
        self
    }
}

/// Everything that is served over TCP, behind authentication.
///
/// Fails when the system provides no random bytes, or the token is too weak. Panics when the pages claim a path and method
/// of this module: a bug that any start shows.
pub fn router(service: Arc<dyn Service>, settings: &ServerSettings, clock: Arc<dyn Clock>) -> Result<Router> {
    let state = Arc::new(auth::AuthState::new(settings, clock)?);
    let mut all = routes::router(service, &settings.limits).merge(login::routes(Arc::clone(&state)));
    if let Some(pages) = &settings.pages {
        all = all.merge(pages.clone());
    }
    Ok(all
        .layer(from_fn_with_state(Arc::clone(&state), auth::authenticate))
        .layer(from_fn_with_state(state, middleware::finalize)))
}

/// Everything that is served on the socket beside the ledger: the API, and what only commands need. Only the daemon's user
/// and root can connect, so no authentication is needed.
pub fn local_router(
    service: Arc<dyn Service>,
    hello: Hello,
    limits: HttpLimits,
    clock: Arc<dyn Clock>,
) -> Result<Router> {
    let state = Arc::new(auth::AuthState::new(&ServerSettings { limits, ..ServerSettings::default() }, clock)?);
    let all = routes::router(service.clone(), &limits).merge(local::routes(service, hello));
    Ok(all
        .layer(from_fn_with_state(Arc::clone(&state), local::whole_body))
        .layer(from_fn_with_state(state, middleware::finalize)))
}
