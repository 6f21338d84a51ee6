//! Who may ask, and does this request come from them? The guard in front of everything, and logging in and out.
//!
//! With a token every caller shows it as `Authorization: Bearer TOKEN`, or has a session that began with it. Without one
//! every program of this machine may ask, and browsers on behalf of pages this daemon served, never of another site's.
//! Either way a form must carry what only our pages know ([`Session::csrf`]).

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Extensions, HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::limits::Limits;
use super::refused::{Refused, Words};
use super::seats::Handle;
use super::session::{Found, SESSION_SECONDS, Sessions};
use super::throttle::Throttle;
use super::{Settings, body, browser, listen};
use crate::error::Result;
use crate::io::Clock;
use crate::secret::Secret;

/// The cookie of a session.
const COOKIE: &str = "groupcast_session";

/// Whose form a page is, for callers without a session of their own. A cookie's id is 32 hex digits, so none is equal.
const LOCAL: &str = "local";

/// Who asks, as pages see it: an extension of every request that reaches them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Session {
    /// What every form must send back as its field `csrf`. Empty for the login page of somebody who is not logged in.
    pub csrf: String,
    /// Whether there is a session to log out of.
    pub logged_in: bool,
}

/// The address a request came from; the server notes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// Who asks.
enum Caller {
    /// A program or browser of this machine; there is no token.
    Local,
    /// Somebody who showed the token.
    Bearer,
    /// A browser that is logged in.
    Browser(Found),
    /// Somebody who showed nothing.
    Nobody,
}

/// What the guard knows.
pub(super) struct Gate {
    token: Option<[u8; 32]>,
    sessions: Sessions,
    throttle: Throttle,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) limits: Limits,
    has_pages: bool,
    pub(super) refusal_page: Option<fn(&Words) -> String>,
}

/// Logging in and out. The login page itself is the console's.
pub(super) fn routes(gate: Arc<Gate>) -> Router {
    Router::new().route("/login", post(login)).route("/logout", post(logout)).with_state(gate)
}

/// Lets a request through to the router, or answers it.
pub(super) async fn guard(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    match gate.admit(request).await {
        Ok(request) => next.run(request).await,
        Err(response) => *response,
    }
}

impl From<Refused> for Box<Response> {
    fn from(refused: Refused) -> Box<Response> {
        Box::new(refused.into_response())
    }
}

impl Gate {
    pub(super) fn new(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Gate> {
        listen::check_token(settings.token.as_ref())?;
        Ok(Gate {
            token: settings.token.as_ref().map(|token| digest(token.expose())),
            sessions: Sessions::new(settings.token.as_ref())?,
            throttle: Throttle::default(),
            clock,
            limits: settings.limits,
            has_pages: settings.pages.is_some(),
            refusal_page: settings.refusal_page,
        })
    }

    /// Checks come first that need nothing but the head; the body is read only for those who may send one.
    async fn admit(&self, request: Request) -> Result<Request, Box<Response>> {
        if self.token.is_none() {
            browser::check_host(&request)?;
        }
        let (parts, raw) = request.into_parts();
        let path = parts.uri.path();
        let changes = !matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
        // A plan changes nothing, but has the warehouse read: not on another site's behalf either.
        if changes || is_api(path) || path.ends_with("/plan") {
            browser::check_origin(&parts.headers)?;
        }
        let caller = if is_open(path) {
            self.visitor(&parts.headers)
        } else {
            self.caller(&parts.headers, peer(&parts.extensions))?
        };
        if matches!(caller, Caller::Nobody) && !is_open(path) {
            return Err(self.turn_away(&parts.method, &parts.uri, &parts.headers));
        }
        let seat = parts.extensions.get::<Handle>().cloned();
        if let Some(seat) = &seat {
            seat.waits();
        }
        let read = body::read(raw, &self.limits).await;
        if let Some(seat) = &seat {
            seat.works();
        }
        let bytes = read?;
        let session = self.session(&caller);
        if changes && !is_api(path) && !READ_ONLY.contains(&path) && !matches!(caller, Caller::Bearer) {
            check_form(&parts.headers)?;
            let shown = field(&bytes, "csrf").unwrap_or_default();
            if path != "/login" && !self.csrf_fits(&caller, &shown) {
                return Err(Refused::new(
                    StatusCode::FORBIDDEN,
                    "the form is not from a page of this session",
                    "load the page again and repeat it; programs use the API under /api/v1",
                )
                .into());
            }
        }
        let mut request = Request::from_parts(parts, Body::from(bytes));
        request.extensions_mut().insert(session);
        Ok(request)
    }

    /// Who asks for something that is open to everyone: a token is not looked at, so it cannot be guessed there.
    fn visitor(&self, headers: &HeaderMap) -> Caller {
        match self.token {
            None => Caller::Local,
            Some(_) => self.browser(headers).map_or(Caller::Nobody, Caller::Browser),
        }
    }

    fn caller(&self, headers: &HeaderMap, peer: IpAddr) -> Result<Caller, Refused> {
        let (Some(_), Some(shown)) = (self.token, headers.get(header::AUTHORIZATION)) else {
            return Ok(self.visitor(headers));
        };
        let shown = shown.to_str().ok().and_then(|text| text.split_once(' '));
        match shown {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                self.check(token.trim(), peer)?;
                Ok(Caller::Bearer)
            }
            _ => Err(unauthorized("`Authorization` is not of the form `Bearer TOKEN`")),
        }
    }

    /// Compares digests, so that the time taken tells neither how much of a token is right nor how long it is.
    fn check(&self, shown: &str, peer: IpAddr) -> Result<(), Refused> {
        let now = self.clock.elapsed();
        if let Some(wait) = self.throttle.closed_for(peer, now) {
            let seconds = wait.as_secs() + 1;
            return Err(Refused::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too many wrong tokens came from this address within a minute",
                format!("wait {seconds} seconds, then use the token of `[daemon]`"),
            )
            .with(header::RETRY_AFTER, seconds));
        }
        if self.token.is_some_and(|token| bool::from(token.ct_eq(&digest(shown)))) {
            return Ok(());
        }
        if self.throttle.wrong(peer, now) {
            tracing::warn!(%peer, "ten wrong tokens within a minute: nobody at this address is listened to for a minute");
        }
        Err(unauthorized("the token is wrong"))
    }

    fn browser(&self, headers: &HeaderMap) -> Option<Found> {
        let now = self.clock.now();
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        cookies
            .flat_map(|cookies| cookies.split(';'))
            .filter_map(|cookie| cookie.trim().strip_prefix(COOKIE)?.strip_prefix('='))
            .find_map(|value| self.sessions.find(value, now))
    }

    fn session(&self, caller: &Caller) -> Session {
        let csrf = match caller {
            Caller::Local | Caller::Bearer => self.sessions.csrf(LOCAL),
            Caller::Browser(found) => self.sessions.csrf(&found.id),
            Caller::Nobody => String::new(),
        };
        Session { csrf, logged_in: matches!(caller, Caller::Browser(_)) }
    }

    fn csrf_fits(&self, caller: &Caller, shown: &str) -> bool {
        match caller {
            Caller::Local | Caller::Bearer => self.sessions.csrf_fits(LOCAL, shown),
            Caller::Browser(found) => self.sessions.csrf_fits(&found.id, shown),
            Caller::Nobody => false,
        }
    }

    /// A browser that wants a page is led to the login, everybody else is told what to show.
    fn turn_away(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Box<Response> {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        if self.has_pages && reads && wants_page(uri.path(), headers) {
            let here = uri.path_and_query().map_or("/", |here| here.as_str());
            return Box::new(redirect(&login_page("", here)));
        }
        unauthorized("a token is needed").into()
    }
}

/// What has no POST at all: it answers 405 rather than asking for a form.
const READ_ONLY: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Whether everyone may ask for it: health checks, the login page and what it is painted with.
fn is_open(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz" | "/login") || path.starts_with("/assets/")
}

fn is_api(path: &str) -> bool {
    path == "/api" || path.starts_with("/api/")
}

/// Whether a page is wanted rather than JSON: what browsers send when a person follows a link or sends a form.
pub(super) fn wants_page(path: &str, headers: &HeaderMap) -> bool {
    let accepts = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    !is_api(path) && !READ_ONLY.contains(&path) && accepts.is_some_and(|accept| accept.contains("text/html"))
}

fn unauthorized(what: &str) -> Refused {
    let advice = "send `Authorization: Bearer TOKEN` with the token of `[daemon]`; browsers log in at /login";
    Refused::new(StatusCode::UNAUTHORIZED, what, advice)
        .with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"groupcast\""))
}

/// Everything outside the API that changes something is a form: what other sites may send without being asked is refused
/// by its media type or by the missing field.
fn check_form(headers: &HeaderMap) -> Result<(), Refused> {
    if body::media_type(headers).as_deref() == Some("application/x-www-form-urlencoded") {
        return Ok(());
    }
    Err(Refused::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "only forms are taken here",
        "send `application/x-www-form-urlencoded`, or use the API under /api/v1",
    ))
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn peer(extensions: &Extensions) -> IpAddr {
    extensions.get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0)
}

/// The only value of a form's field; none if it is absent or ambiguous.
fn field(form: &[u8], name: &str) -> Option<String> {
    let mut values = form_urlencoded::parse(form).filter(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    values.next().filter(|_| values.next().is_none())
}

fn redirect(location: &str) -> Response {
    let location = HeaderValue::from_str(location).unwrap_or(HeaderValue::from_static("/"));
    (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response()
}

fn login_page(remark: &str, next: &str) -> String {
    let next: String = form_urlencoded::byte_serialize(next.as_bytes()).collect();
    format!("/login?{remark}next={next}")
}

/// Where to go after logging in: a page of ours, never another site's.
fn page_of_ours(next: Option<String>) -> String {
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

/// A cookie that scripts do not see and that is never sent on behalf of another site.
fn cookie(value: &str, seconds: i64, headers: &HeaderMap) -> HeaderValue {
    let proto = headers.get("x-forwarded-proto").and_then(|proto| proto.to_str().ok()).unwrap_or_default();
    let secure = if proto.eq_ignore_ascii_case("https") { "; Secure" } else { "" };
    let text = format!("{COOKIE}={value}; HttpOnly; SameSite=Strict; Path=/; Max-Age={seconds}{secure}");
    HeaderValue::from_str(&text).expect("digits, hex and our own words")
}

/// `POST /login` with the fields `token` and `next`.
async fn login(
    State(gate): State<Arc<Gate>>,
    uri: Uri,
    extensions: Extensions,
    headers: HeaderMap,
    form: Bytes,
) -> Response {
    let from_query = || field(uri.query().unwrap_or_default().as_bytes(), "next");
    let next = page_of_ours(field(&form, "next").or_else(from_query));
    if gate.token.is_none() {
        return redirect(&next);
    }
    let shown = Secret::new(field(&form, "token").unwrap_or_default());
    match gate.check(shown.expose().trim(), peer(&extensions)) {
        Ok(()) => {
            let cookie = cookie(&gate.sessions.open(gate.clock.now()), SESSION_SECONDS, &headers);
            let mut response = redirect(&next);
            response.headers_mut().insert(header::SET_COOKIE, cookie);
            response
        }
        Err(refused) => {
            let refused = refused.into_response();
            if refused.status() == StatusCode::UNAUTHORIZED && gate.has_pages && wants_page("/login", &headers) {
                return redirect(&login_page("failed=true&", &next));
            }
            refused
        }
    }
}

/// `POST /logout`.
async fn logout(State(gate): State<Arc<Gate>>, headers: HeaderMap) -> Response {
    if gate.token.is_none() {
        return redirect("/");
    }
    if let Some(session) = gate.browser(&headers) {
        gate.sessions.end(session, gate.clock.now());
    }
    let mut response = redirect("/login");
    response.headers_mut().insert(header::SET_COOKIE, cookie("", 0, &headers));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logging_in_leads_to_a_page_of_ours_only() {
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
            assert_eq!(page_of_ours(next.map(str::to_owned)), expected, "{next:?}");
        }
    }

    #[test]
    fn a_field_that_occurs_twice_is_no_field() {
        assert_eq!(field(b"token=a%20b&x=1", "token").as_deref(), Some("a b"));
        assert_eq!(field(b"token=a&token=b", "token"), None);
        assert_eq!(field(b"", "token"), None);
    }
}
