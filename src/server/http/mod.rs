//! How is a running daemon asked over HTTP? The JSON API, the metrics and the health checks, with a guard in front of them
//! and of the console's pages.
//!
//! A request passes, from the outside in: `serve` (connections, headers, slow clients) → `finish` (how long an answer
//! may take, panics, headers of every answer) → [`auth`] (who asks, from where, with which body) → `api` or a page. All
//! of it speaks to the daemon through [`Service`] alone. Commands come by the socket beside the ledger (`local`), where the file
//! system is the guard; otherwise it is the same.

mod api;
pub mod auth;
mod body;
mod browser;
mod finish;
mod limits;
mod listen;
pub mod local;
mod query;
mod refused;
mod seats;
mod serve;
mod session;
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

pub use limits::Limits;
pub use listen::check_listen;
pub use local::Hello;
pub use refused::Words;
pub use serve::{serve, serve_local};

/// What the server needs to know beside the daemon itself.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The token callers must show; without one only programs and browsers of this machine are served.
    pub token: Option<Secret>,
    /// The console's pages. They answer `GET /login` (the form posts `token`, and `next` from the query; `failed=true` says
    /// that the token was wrong) and may have a fallback of their own; `POST /login`, `POST /logout` and everything under
    /// `/api` belong to this module. Every request that reaches them carries an [`auth::Session`], and every POST has passed
    /// the check of its form field `csrf`.
    pub pages: Option<Router>,
    /// How a person reads a refusal of this module; as plain text without it.
    pub refusal_page: Option<fn(&Words) -> String>,
    /// What clients may ask for.
    pub limits: Limits,
}

impl Settings {
    /// With the token of the config, without pages, with the usual limits.
    pub fn new(token: Option<Secret>) -> Settings {
        Settings { token, ..Settings::default() }
    }

    /// Serves these pages too.
    pub fn with_pages(mut self, pages: Router) -> Settings {
        self.pages = Some(pages);
        self
    }

    /// Writes refusals for people in this way.
    pub fn with_refusal_page(mut self, page: fn(&Words) -> String) -> Settings {
        self.refusal_page = Some(page);
        self
    }
}

/// Everything that is served, with the guard in front, for a server or for tests without one.
///
/// Fails when no unguessable bytes can be had, or the token is too weak. Panics when the pages claim a path and method of
/// this module: a mistake of ours that any start shows.
pub fn router(service: Arc<dyn Service>, settings: &Settings, clock: Arc<dyn Clock>) -> Result<Router> {
    let gate = Arc::new(auth::Gate::new(settings, clock)?);
    let mut all = api::routes(service, &settings.limits).merge(auth::routes(Arc::clone(&gate)));
    if let Some(pages) = &settings.pages {
        all = all.merge(pages.clone());
    }
    Ok(all.layer(from_fn_with_state(Arc::clone(&gate), auth::guard)).layer(from_fn_with_state(gate, finish::finish)))
}

/// What the socket beside the ledger serves: the API, and what only commands need. Whoever can connect is the daemon's user
/// or root, so nothing is asked of them.
pub fn local_router(service: Arc<dyn Service>, hello: Hello, limits: Limits, clock: Arc<dyn Clock>) -> Result<Router> {
    let gate = Arc::new(auth::Gate::new(&Settings { limits, ..Settings::default() }, clock)?);
    let all = api::routes(service.clone(), &limits).merge(local::routes(service, hello));
    Ok(all
        .layer(from_fn_with_state(Arc::clone(&gate), local::whole_body))
        .layer(from_fn_with_state(gate, finish::finish)))
}
