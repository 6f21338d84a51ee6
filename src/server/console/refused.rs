//! What does somebody read whose request was turned away before it came to a page: the session over, a form too old, a plan
//! that takes too long?

use axum::http::StatusCode;
use maud::html;

use super::page::{document, mark};
use super::words::{prose, sentence, shown};
use crate::server::http::Words;

/// The page. Like the login it stands before the door, so it tells nothing about the daemon.
pub fn refused(words: &Words) -> String {
    let logged_out = words.status == StatusCode::UNAUTHORIZED;
    let heading = match words.status {
        StatusCode::UNAUTHORIZED => "You are logged out",
        StatusCode::FORBIDDEN => "This was not done",
        StatusCode::TOO_MANY_REQUESTS => "Not now",
        StatusCode::GATEWAY_TIMEOUT | StatusCode::SERVICE_UNAVAILABLE => "No answer in time",
        status if status.is_server_error() => "It was tried and failed",
        _ => "This cannot be asked",
    };
    let body = html! {
        main id="main" class="login" tabindex="-1" {
            p class="brand" { (mark()) "Groupcast" }
            h1 { (heading) }
            section class="notice bad" aria-label="Error" {
                @if logged_out {
                    // What the API is told about headers helps nobody here.
                    p { "The session has ended or was logged out, so nothing was done." }
                    p { strong { "What to do: " } "Log in, then do it again." }
                } @else if words.status == StatusCode::METHOD_NOT_ALLOWED {
                    p { "This address is for a button of the console; there is no page behind it, and nothing was done." }
                } @else {
                    p class="message" { (shown(&sentence(&words.message))) }
                    @if let Some(advice) = &words.advice {
                        p { strong { "What to do: " } (prose(&sentence(advice))) }
                    }
                }
            }
            p {
                @if logged_out { a href="/login" { "Log in" } }
                @else { a href="/" { "Back to the overview" } }
            }
        }
    };
    document(&format!("{heading} · Groupcast"), false, &body).into_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(status: StatusCode, message: &str, advice: Option<&str>) -> String {
        refused(&Words { status, message: message.to_owned(), advice: advice.map(str::to_owned) })
    }

    #[test]
    fn a_refusal_says_what_to_do_and_cannot_carry_markup() {
        let text = page(StatusCode::FORBIDDEN, "a form of <b>elsewhere</b>", Some("load the page again"));
        assert!(
            text.contains("A form of &lt;b&gt;elsewhere&lt;/b&gt;.") && text.contains("Load the page again."),
            "{text}"
        );
        let text = page(StatusCode::UNAUTHORIZED, "a token is needed", Some("send `Authorization: Bearer TOKEN`"));
        assert!(text.contains("href=\"/login\"") && !text.contains("Bearer"), "{text}");
        let text = page(StatusCode::METHOD_NOT_ALLOWED, "GET is not possible", Some("see the header `Allow`"));
        assert!(text.contains("nothing was done") && !text.contains("Allow"), "{text}");
    }
}
