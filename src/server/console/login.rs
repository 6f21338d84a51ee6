//! The login page.

use axum::extract::RawQuery;
use axum::http::StatusCode;
use axum::response::Response;
use maud::html;

use super::context::PageContext;
use super::layout::{html_document, logo};
use super::params::Params;
use super::respond::html_response;

/// `GET /login`. It needs no authentication, so it shows nothing about the daemon.
pub(super) async fn page(context: PageContext, query: RawQuery) -> Response {
    let params = Params::of_query(&query);
    let failed = params.flag("failed");
    let body = html! {
        main id="main" class="login" tabindex="-1" {
            h1 { (logo()) "Groupcast" }
            @if failed {
                div class="notice bad" role="alert" id="failed" {
                    p { strong { "Wrong token. " } "Use the value of " code { "token" } " under "
                        code { "[daemon]" } " in " code { "groupcast.toml" } "." }
                }
            }
            (context.post_form("/login",
                html! {
                    @if let Some(next) = params.one("next").filter(|next| is_own_page(next)) {
                        input type="hidden" name="next" value=(next);
                    }
                    label for="token" { "Token" }
                    input id="token" name="token" type="password" required autocomplete="current-password" autofocus
                        aria-describedby=[failed.then_some("failed")] aria-invalid=[failed.then_some("true")];
                },
                html! { button class="primary" { "Log in" } }))
        }
    };
    html_response(StatusCode::OK, html_document("Log in · Groupcast", &body))
}

/// Whether the page after the login is on this site.
fn is_own_page(next: &str) -> bool {
    let mut chars = next.chars();
    chars.next() == Some('/')
        && !matches!(chars.next(), Some('/' | '\\'))
        && !next.chars().any(|char| char.is_control() || char == '\\')
}

#[cfg(test)]
mod tests {
    use super::is_own_page;

    #[test]
    fn the_login_leads_to_pages_of_this_site_only() {
        for (next, ours) in [
            ("/", true),
            ("/syncs/a?x=1", true),
            ("//evil.example", false),
            ("/\\evil.example", false),
            ("/\t/evil.example", false),
            ("https://evil.example", false),
            ("", false),
        ] {
            assert_eq!(is_own_page(next), ours, "{next}");
        }
    }
}
