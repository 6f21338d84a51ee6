//! Logging in and out: the two forms that create and end a browser's session. The login page itself is the console's.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;

use super::auth::{AuthState, COOKIE, peer, wants_page};
use super::body::form_field;
use super::redirect::{redirect, to_login};
use super::session::SESSION_SECONDS;
use crate::secret::Secret;

/// `POST /login` and `POST /logout`.
pub(super) fn routes(state: Arc<AuthState>) -> Router {
    Router::new().route("/login", post(log_in)).route("/logout", post(log_out)).with_state(state)
}

/// Where to go after the login: one of our pages, never another site.
fn own_page(next: Option<String>) -> String {
    next.filter(|next| {
        let mut bytes = next.bytes();
        bytes.next() == Some(b'/')
            && bytes.next() != Some(b'/')
            && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
            && !next.starts_with("/login")
            && !next.starts_with("/logout")
    })
    .unwrap_or_else(|| "/".to_owned())
}

/// A cookie that scripts cannot read and that is never sent from another site.
fn cookie(value: &str, seconds: i64, headers: &HeaderMap) -> HeaderValue {
    let proto = headers.get("x-forwarded-proto").and_then(|proto| proto.to_str().ok()).unwrap_or_default();
    let secure = if proto.eq_ignore_ascii_case("https") { "; Secure" } else { "" };
    let text = format!("{COOKIE}={value}; HttpOnly; SameSite=Strict; Path=/; Max-Age={seconds}{secure}");
    HeaderValue::from_str(&text).expect("ASCII letters, digits and punctuation")
}

/// `POST /login` with the fields `token` and `next`.
async fn log_in(
    State(state): State<Arc<AuthState>>,
    uri: Uri,
    extensions: Extensions,
    headers: HeaderMap,
    form: Bytes,
) -> Response {
    let from_query = || form_field(uri.query().unwrap_or_default().as_bytes(), "next");
    let next = own_page(form_field(&form, "next").or_else(from_query));
    if !state.needs_token() {
        return redirect(&next);
    }
    let token = Secret::new(form_field(&form, "token").unwrap_or_default());
    match state.check_token(token.expose().trim(), peer(&extensions)) {
        Ok(()) => {
            let cookie = cookie(&state.sessions.create(state.clock.now()), SESSION_SECONDS, &headers);
            let mut response = redirect(&next);
            response.headers_mut().insert(header::SET_COOKIE, cookie);
            response
        }
        Err(error) => {
            let response = error.into_response();
            if response.status() == StatusCode::UNAUTHORIZED && state.has_pages && wants_page("/login", &headers) {
                return to_login("failed=true&", &next);
            }
            response
        }
    }
}

/// `POST /logout`.
async fn log_out(State(state): State<Arc<AuthState>>, headers: HeaderMap) -> Response {
    if !state.needs_token() {
        return redirect("/");
    }
    if let Some(id) = state.session_id(&headers) {
        state.sessions.end(&id);
    }
    let mut response = redirect("/login");
    response.headers_mut().insert(header::SET_COOKIE, cookie("", 0, &headers));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logging_in_leads_to_one_of_our_pages_only() {
        for (next, expected) in [
            (Some("/syncs/accounts?x=1"), "/syncs/accounts?x=1"),
            (Some("/"), "/"),
            (None, "/"),
            (Some(""), "/"),
            (Some("//evil.example"), "/"),
            (Some("/\\evil.example"), "/"),
            (Some("https://evil.example"), "/"),
            (Some("javascript:alert(1)"), "/"),
            (Some("/a\r\nSet-Cookie: x=y"), "/"),
            (Some("/\t/evil.example"), "/"),
            (Some("/login?next=/"), "/"),
        ] {
            assert_eq!(own_page(next.map(str::to_owned)), expected, "{next:?}");
        }
    }
}
