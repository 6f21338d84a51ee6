//! Who asks for a page, with what, and how is the answer sent?

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::page::{Here, Page, framed};
use super::words::{advice, prose, sentence, shown};
use crate::server::http::auth::Session;
use crate::service::api::{About, Service, ServiceError, ServiceResult};

/// Texts of a query or a form are read up to this many, so that nobody makes us keep a million.
const PARAMS_MAX: usize = 100;

/// One visit: the service, the visitor, and the moment.
pub(super) struct Visit {
    pub(super) service: Arc<dyn Service>,
    pub(super) session: Session,
    pub(super) about: About,
    pub(super) now: DateTime<Utc>,
}

impl FromRequestParts<Arc<dyn Service>> for Visit {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, service: &Arc<dyn Service>) -> Result<Visit, Infallible> {
        let session = parts.extensions.get::<Session>().cloned().unwrap_or_default();
        Ok(Visit::new(Arc::clone(service), session))
    }
}

impl Visit {
    pub(super) fn new(service: Arc<dyn Service>, session: Session) -> Visit {
        let (about, now) = (service.about(), service.now());
        Visit { service, session, about, now }
    }

    /// A page, or the refusal as a page.
    pub(super) fn respond(&self, page: ServiceResult<Page>) -> Response {
        match page {
            Ok(page) => sent(StatusCode::OK, framed(self, &page)),
            Err(refusal) => self.refuse(refusal),
        }
    }

    /// Why something was not done, and what to do.
    pub(super) fn refuse(&self, refusal: ServiceError) -> Response {
        self.refuse_with(refusal, &html! {})
    }

    /// The same, with what else may help.
    pub(super) fn refuse_with(&self, refusal: ServiceError, more: &Markup) -> Response {
        let (status, heading, error) = match refusal {
            ServiceError::NotFound(error) => (StatusCode::NOT_FOUND, "Not found", error),
            ServiceError::Invalid(error) => (StatusCode::BAD_REQUEST, "This cannot be asked", error),
            ServiceError::Conflict(error) => (StatusCode::CONFLICT, "Not now", error),
            ServiceError::Busy(error) => (StatusCode::SERVICE_UNAVAILABLE, "Too much at once", error),
            ServiceError::Failed(error) => (StatusCode::INTERNAL_SERVER_ERROR, "It was tried and failed", error),
        };
        let next = error.advice().map(str::to_owned);
        let body = html! {
            h1 { (heading) }
            section class="notice bad" aria-label="Error" {
                p class="message" { (shown(&error.to_string())) }
                p {
                    strong { "What to do: " }
                    (prose(&sentence(next.as_deref().unwrap_or_else(|| advice(Some(error.kind().name()))))))
                }
            }
            (more)
            p { a href="/" { "Back to the overview" } }
        };
        sent(status, framed(self, &Page::new(heading, Here::Elsewhere, body)))
    }

    /// A form that gives an order: a button with the token that shows it comes from a page of ours.
    pub(super) fn order(&self, action: &str, fields: Markup, button: Markup) -> Markup {
        html! {
            form method="post" action=(action) {
                input type="hidden" name="csrf" value=(self.session.csrf);
                (fields)
                (button)
            }
        }
    }
}

/// Sends a page.
pub(super) fn sent(status: StatusCode, page: Markup) -> Response {
    (status, Html(page.into_string())).into_response()
}

/// Sends the browser elsewhere after an order. The path is ASCII because it is percent-encoded.
pub(super) fn see_other(path: &str) -> Response {
    let place = HeaderValue::from_str(path).unwrap_or(HeaderValue::from_static("/"));
    (StatusCode::SEE_OTHER, [(header::LOCATION, place)]).into_response()
}

/// The fields of a query or a form, repeated ones included. Empty texts count as left out.
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    pub(super) fn read(text: &[u8]) -> Params {
        let pairs = form_urlencoded::parse(text).filter(|(_, value)| !value.is_empty());
        Params(pairs.take(PARAMS_MAX).map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    pub(super) fn of_query(query: &axum::extract::RawQuery) -> Params {
        Params::read(query.0.as_deref().unwrap_or_default().as_bytes())
    }

    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn one<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next()
    }

    /// Whether a box is ticked.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.one(name).is_some_and(|value| !matches!(value, "0" | "false" | "off"))
    }

    /// A number; the default where there is none or it makes no sense.
    pub(super) fn number(&self, name: &str, default: u64) -> u64 {
        self.one(name).and_then(|value| value.parse().ok()).unwrap_or(default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_with_their_repetitions_and_never_without_end() {
        let params = Params::read(b"accept=keys&accept=removed&full=on&retry_rejected=0&group=&from=x");
        assert_eq!(params.all("accept").collect::<Vec<_>>(), ["keys", "removed"]);
        assert!(params.flag("full") && !params.flag("retry_rejected") && params.one("group").is_none());
        assert_eq!(params.number("from", 7), 7);
        assert_eq!(Params::read("a=1&".repeat(5_000).as_bytes()).all("a").count(), PARAMS_MAX);
    }
}
