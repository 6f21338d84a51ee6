//! Responses: a page, an error as a page, or a redirect.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use maud::{Markup, html};

use super::context::PageContext;
use super::layout::{NavItem, PageContent, layout};
use super::next_step::next_step;
use super::text::{prose, sentence, shown};
use crate::service::api::{ServiceError, ServiceResult};

/// A page, or its error as a page.
pub(super) fn page(context: &PageContext, page: ServiceResult<PageContent>) -> Response {
    match page {
        Ok(page) => html_response(StatusCode::OK, layout(context, &page)),
        Err(error) => self::error(context, error),
    }
}

/// An error as a page.
pub(super) fn error(context: &PageContext, error: ServiceError) -> Response {
    error_with(context, error, &html! {})
}

/// An error as a page, with more below it.
pub(super) fn error_with(context: &PageContext, error: ServiceError, more: &Markup) -> Response {
    let (status, heading) = match &error {
        ServiceError::NotFound(_) => (StatusCode::NOT_FOUND, "Not found"),
        ServiceError::Invalid(_) => (StatusCode::BAD_REQUEST, "Invalid request"),
        ServiceError::Conflict(_) => (StatusCode::CONFLICT, "Not possible now"),
        ServiceError::Busy(_) => (StatusCode::SERVICE_UNAVAILABLE, "Busy"),
        ServiceError::Failed(_) | ServiceError::Problems(_) => (StatusCode::INTERNAL_SERVER_ERROR, "Failed"),
    };
    let error = error.into_error();
    let advice = error.advice().unwrap_or_else(|| next_step(Some(error.kind().name())));
    let body = html! {
        h1 { (heading) }
        section class="notice bad" aria-label="Error" {
            p class="message" { (shown(&error.to_string())) }
            p { strong { "Next step: " } (prose(&sentence(advice))) }
        }
        (more)
        p { a href="/" { "Back to the overview" } }
    };
    html_response(status, layout(context, &PageContent::new(heading, NavItem::Elsewhere, body)))
}

/// A rendered page.
pub(super) fn html_response(status: StatusCode, page: Markup) -> Response {
    (status, Html(page.into_string())).into_response()
}

/// Redirects the browser after a form. The path is ASCII because it is percent-encoded.
pub(super) fn see_other(path: &str) -> Response {
    let location = HeaderValue::from_str(path).unwrap_or(HeaderValue::from_static("/"));
    (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response()
}
