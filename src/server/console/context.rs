//! The context of a page: the service, the visitor's session, and the time of the request.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use chrono::{DateTime, Utc};
use maud::{Markup, html};

use crate::server::http::auth::PageSession;
use crate::service::api::{About, Service};

/// What every page is rendered with.
pub(super) struct PageContext {
    pub(super) service: Arc<dyn Service>,
    pub(super) session: PageSession,
    pub(super) about: About,
    pub(super) now: DateTime<Utc>,
    /// The version of what the page shows, if changes are followed.
    pub(super) version: Option<u64>,
}

impl FromRequestParts<Arc<dyn Service>> for PageContext {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, service: &Arc<dyn Service>) -> Result<PageContext, Infallible> {
        let session = parts.extensions.get::<PageSession>().cloned().unwrap_or_default();
        // Before anything is read: a page is never older than the version it has.
        let version = service.changes().map(|changes| *changes.borrow());
        let (about, now) = (service.about().await.unwrap_or_default(), service.now());
        Ok(PageContext { service: Arc::clone(service), session, about, now, version })
    }
}

impl PageContext {
    /// A form that changes something: fields, a button, and the token that shows it comes from a page of ours.
    pub(super) fn post_form(&self, action: &str, fields: Markup, button: Markup) -> Markup {
        html! {
            form method="post" action=(action) {
                input type="hidden" name="csrf" value=(self.session.csrf);
                (fields)
                (button)
            }
        }
    }
}
