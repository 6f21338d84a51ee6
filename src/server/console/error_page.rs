//! The page for a request that fails before it reaches a page: an expired session, an old form, a plan that takes too long.

use axum::http::StatusCode;
use maud::html;

use super::layout::{html_document, logo};
use super::text::{prose, sentence, shown};
use crate::server::http::ErrorMessage;

/// The page. Like the login it needs no authentication, so it shows nothing about the daemon.
pub fn error_page(error: &ErrorMessage) -> String {
    let logged_out = error.status == StatusCode::UNAUTHORIZED;
    let heading = match error.status {
        StatusCode::UNAUTHORIZED => "You are logged out",
        StatusCode::FORBIDDEN => "Request rejected",
        StatusCode::TOO_MANY_REQUESTS => "Too many failed logins",
        StatusCode::GATEWAY_TIMEOUT | StatusCode::SERVICE_UNAVAILABLE => "Timeout",
        status if status.is_server_error() => "Failed",
        _ => "Invalid request",
    };
    let body = html! {
        main id="main" class="login" tabindex="-1" {
            p class="brand" { (logo()) "Groupcast" }
            h1 { (heading) }
            section class="notice bad" aria-label="Error" {
                @if logged_out {
                    // The advice for the API, about headers, does not help here.
                    p { "The session has expired or was logged out. Nothing was changed." }
                    p { strong { "Next step: " } "Log in and try again." }
                } @else if error.status == StatusCode::METHOD_NOT_ALLOWED {
                    p { "This address belongs to a button of the console and has no page. Nothing was changed." }
                } @else {
                    p class="message" { (shown(&sentence(&error.message))) }
                    @if let Some(advice) = &error.advice {
                        p { strong { "Next step: " } (prose(&sentence(advice))) }
                    }
                }
            }
            p {
                @if logged_out { a href="/login" { "Log in" } }
                @else { a href="/" { "Back to the overview" } }
            }
        }
    };
    html_document(&format!("{heading} · Groupcast"), &body).into_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(status: StatusCode, message: &str, advice: Option<&str>) -> String {
        error_page(&ErrorMessage { status, message: message.to_owned(), advice: advice.map(str::to_owned) })
    }

    #[test]
    fn an_error_has_a_next_step_and_cannot_carry_markup() {
        let text = page(StatusCode::FORBIDDEN, "a form of <b>elsewhere</b>", Some("load the page again"));
        assert!(
            text.contains("A form of &lt;b&gt;elsewhere&lt;/b&gt;.") && text.contains("Load the page again."),
            "{text}"
        );
        let text =
            page(StatusCode::UNAUTHORIZED, "authentication required", Some("send `Authorization: Bearer TOKEN`"));
        assert!(text.contains("href=\"/login\"") && !text.contains("Bearer"), "{text}");
        let text = page(StatusCode::METHOD_NOT_ALLOWED, "method GET is not allowed", Some("see the header `Allow`"));
        assert!(text.contains("Nothing was changed") && !text.contains("Allow"), "{text}");
    }
}
