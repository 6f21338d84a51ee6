//! How does a person show the token?

use axum::extract::RawQuery;
use axum::http::StatusCode;
use axum::response::Response;
use maud::html;

use super::page::{document, mark};
use super::visit::{Params, Visit, sent};

/// `GET /login`. It stands before the door, so it tells nothing about the daemon.
pub(super) async fn page(visit: Visit, query: RawQuery) -> Response {
    let params = Params::of_query(&query);
    let failed = params.flag("failed");
    let body = html! {
        main id="main" class="login" tabindex="-1" {
            h1 { (mark()) "Groupcast" }
            @if failed {
                div class="notice bad" role="alert" id="failed" {
                    p { strong { "That token is not right. " } "Look for " code { "token" } " under "
                        code { "[daemon]" } " in " code { "groupcast.toml" } "." }
                }
            }
            (visit.order("/login",
                html! {
                    @if let Some(next) = params.one("next").filter(|next| is_ours(next)) {
                        input type="hidden" name="next" value=(next);
                    }
                    label for="token" { "Token" }
                    input id="token" name="token" type="password" required autocomplete="current-password" autofocus
                        aria-describedby=[failed.then_some("failed")] aria-invalid=[failed.then_some("true")];
                },
                html! { button class="primary" { "Log in" } }))
        }
    };
    sent(StatusCode::OK, document("Log in · Groupcast", false, &body))
}

/// Whether a place to go on to is on this site.
fn is_ours(next: &str) -> bool {
    let mut chars = next.chars();
    chars.next() == Some('/')
        && !matches!(chars.next(), Some('/' | '\\'))
        && !next.chars().any(|char| char.is_control() || char == '\\')
}

#[cfg(test)]
mod tests {
    use super::is_ours;

    #[test]
    fn only_places_on_this_site_are_gone_on_to() {
        for (next, ours) in [
            ("/", true),
            ("/syncs/a?x=1", true),
            ("//evil.example", false),
            ("/\\evil.example", false),
            ("/\t/evil.example", false),
            ("https://evil.example", false),
            ("", false),
        ] {
            assert_eq!(is_ours(next), ours, "{next}");
        }
    }
}
