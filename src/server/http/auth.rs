//! Authentication: who a caller is, and whether a request really comes from them. It runs before every route and page.
//!
//! With a token every caller sends it as `Authorization: Bearer TOKEN`, or has a session that began with
//! it. Without a token every program of this machine may call, and browsers from pages that this daemon served, never from
//! another site's. Either way a form must carry what only our pages know (`Session::csrf`).

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Extensions, HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::error::{ApiError, ErrorMessage};
use super::limits::{HttpLimits, PLANS};
use super::redirect::to_login;
use super::session::SessionStore;
use super::slots::SlotHandle;
use super::throttle::{FailedLogin, LoginThrottle};
use super::{ServerSettings, address, body, origin};
use crate::error::Result;
use crate::io::Clock;

/// The session cookie.
pub(super) const COOKIE: &str = "groupcast_session";

/// In place of a session's id for callers without one. Ids have 43 characters, so none is equal.
const LOCAL: &str = "local";

/// What pages know about their visitor: an extension of every request that reaches them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageSession {
    /// What every form must send back as its field `csrf`. Empty on the login page before the login.
    pub csrf: String,
    /// Whether there is a session to log out of.
    pub logged_in: bool,
}

/// The address a request came from; the listener sets it.
#[derive(Debug, Clone, Copy)]
pub(super) struct PeerAddress(pub(super) IpAddr);

/// Who sends a request.
enum Caller {
    /// A program or browser of this machine; there is no token.
    Local,
    /// A caller with the token.
    Bearer,
    /// A browser that has logged in, by its session's id.
    Browser(String),
    /// A caller without token or session.
    Anonymous,
}

/// What authentication needs.
pub(super) struct AuthState {
    token: Option<[u8; 32]>,
    pub(super) sessions: SessionStore,
    throttle: LoginThrottle,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) limits: HttpLimits,
    /// The places for bodies that are larger than others.
    large_bodies: Semaphore,
    pub(super) has_pages: bool,
    pub(super) error_page: Option<fn(&ErrorMessage) -> String>,
}

/// Passes a request to the router, or returns an error or a redirect.
pub(super) async fn authenticate(State(state): State<Arc<AuthState>>, request: Request, next: Next) -> Response {
    let _place = match state.place_for(request.uri().path()).await {
        Ok(place) => place,
        Err(full) => return full.into_response(),
    };
    match state.admit(request).await {
        Ok(request) => next.run(request).await,
        Err(response) => *response,
    }
}

impl From<ApiError> for Box<Response> {
    fn from(error: ApiError) -> Box<Response> {
        Box::new(error.into_response())
    }
}

impl AuthState {
    pub(super) fn new(settings: &ServerSettings, clock: Arc<dyn Clock>) -> Result<AuthState> {
        address::check_token(settings.token.as_ref())?;
        Ok(AuthState {
            token: settings.token.as_ref().map(|token| digest(token.expose())),
            sessions: SessionStore::new()?,
            throttle: LoginThrottle::default(),
            clock,
            limits: settings.limits,
            large_bodies: Semaphore::new(1),
            has_pages: settings.pages.is_some(),
            error_page: settings.error_page,
        })
    }

    /// Whether callers need a token.
    pub(super) fn needs_token(&self) -> bool {
        self.token.is_some()
    }

    /// A place in memory for a large body, where this path takes one.
    async fn place_for(&self, path: &str) -> Result<Option<SemaphorePermit<'_>>, ApiError> {
        if path != PLANS {
            return Ok(None);
        }
        match tokio::time::timeout(self.limits.body, self.large_bodies.acquire()).await {
            // It is never closed.
            Ok(place) => Ok(place.ok()),
            Err(_) => Err(ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "another plan is being received",
                "try again in some seconds",
            )),
        }
    }

    /// Checks come first that need nothing but the head; the body is read only for those who may send one.
    async fn admit(&self, request: Request) -> Result<Request, Box<Response>> {
        if self.token.is_none() {
            origin::check_host(&request)?;
        }
        let (parts, raw) = request.into_parts();
        let path = parts.uri.path();
        let changes = !matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
        // A plan changes nothing, but it reads the warehouse: another site must not cause that either.
        if changes || is_api(path) || path.ends_with("/plan") {
            origin::check_origin(&parts.headers)?;
        }
        let caller = if is_public(path) {
            self.visitor(&parts.headers)
        } else {
            self.caller(&parts.headers, peer(&parts.extensions))?
        };
        if matches!(caller, Caller::Anonymous) && !is_public(path) {
            return Err(self.challenge(&parts.method, &parts.uri, &parts.headers));
        }
        let slot = parts.extensions.get::<SlotHandle>().cloned();
        if let Some(slot) = &slot {
            slot.idle();
        }
        let read = body::read(raw, self.limits.of_body(path)).await;
        if let Some(slot) = &slot {
            slot.busy();
        }
        let bytes = read?;
        let session = self.session(&caller);
        if changes && !is_api(path) && !READ_ONLY.contains(&path) && !matches!(caller, Caller::Bearer) {
            check_form(&parts.headers)?;
            let csrf = body::form_field(&bytes, "csrf").unwrap_or_default();
            if path != "/login" && !self.csrf_matches(&caller, &csrf) {
                return Err(ApiError::new(
                    StatusCode::FORBIDDEN,
                    "the form is not from a page of this session",
                    "reload the page and try again; programs use the API under /api/v1",
                )
                .into());
            }
        }
        let mut request = Request::from_parts(parts, Body::from(bytes));
        request.extensions_mut().insert(session);
        Ok(request)
    }

    /// The caller of a public path: a token is not checked there, so it cannot be guessed there.
    fn visitor(&self, headers: &HeaderMap) -> Caller {
        match self.token {
            None => Caller::Local,
            Some(_) => self.session_id(headers).map_or(Caller::Anonymous, Caller::Browser),
        }
    }

    fn caller(&self, headers: &HeaderMap, peer: IpAddr) -> Result<Caller, ApiError> {
        let (Some(_), Some(header)) = (self.token, headers.get(header::AUTHORIZATION)) else {
            return Ok(self.visitor(headers));
        };
        match header.to_str().ok().and_then(|text| text.split_once(' ')) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                self.check_token(token.trim(), peer)?;
                Ok(Caller::Bearer)
            }
            _ => Err(unauthorized("the header `Authorization` is not `Bearer TOKEN`")),
        }
    }

    /// Compares digests, so that the time taken reveals neither how much of a token is right nor how long it is.
    pub(super) fn check_token(&self, token: &str, peer: IpAddr) -> Result<(), ApiError> {
        if self.token.is_some_and(|expected| bool::from(expected.ct_eq(&digest(token)))) {
            return Ok(());
        }
        match self.throttle.fail(peer, self.clock.elapsed()) {
            FailedLogin::Wrong => Err(unauthorized("wrong token")),
            FailedLogin::Last => {
                tracing::warn!(%peer, "ten failed logins within a minute: further wrong tokens from this address get 429");
                Err(unauthorized("wrong token"))
            }
            FailedLogin::Wait(wait) => {
                let seconds = wait.as_secs() + 1;
                Err(ApiError::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    format!("too many failed logins: try again in {seconds} s"),
                    "use the value of `token` under `[daemon]` in `groupcast.toml`",
                )
                .with(header::RETRY_AFTER, seconds))
            }
        }
    }

    /// The session of a browser.
    pub(super) fn session_id(&self, headers: &HeaderMap) -> Option<String> {
        let now = self.clock.now();
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        cookies
            .flat_map(|cookies| cookies.split(';'))
            .filter_map(|cookie| cookie.trim().strip_prefix(COOKIE)?.strip_prefix('='))
            .find(|id| self.sessions.is_valid(id, now))
            .map(str::to_owned)
    }

    fn session(&self, caller: &Caller) -> PageSession {
        let csrf = match caller {
            Caller::Local | Caller::Bearer => self.sessions.csrf(LOCAL),
            Caller::Browser(id) => self.sessions.csrf(id),
            Caller::Anonymous => String::new(),
        };
        PageSession { csrf, logged_in: matches!(caller, Caller::Browser(_)) }
    }

    fn csrf_matches(&self, caller: &Caller, csrf: &str) -> bool {
        match caller {
            Caller::Local | Caller::Bearer => self.sessions.csrf_matches(LOCAL, csrf),
            Caller::Browser(id) => self.sessions.csrf_matches(id, csrf),
            Caller::Anonymous => false,
        }
    }

    /// The response to an anonymous caller: a browser that wants a page is sent to the login, a program gets 401.
    fn challenge(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Box<Response> {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        if self.has_pages && reads && wants_page(uri.path(), headers) {
            let here = uri.path_and_query().map_or("/", |here| here.as_str());
            return Box::new(to_login("", here));
        }
        unauthorized("authentication required").into()
    }
}

/// Paths without a POST: they return 405 rather than require a form.
const READ_ONLY: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Whether a path needs no authentication: health checks, the login page and its assets.
fn is_public(path: &str) -> bool {
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

fn unauthorized(what: &str) -> ApiError {
    let advice = "send `Authorization: Bearer TOKEN` with the `token` of `[daemon]`; browsers log in at /login";
    ApiError::new(StatusCode::UNAUTHORIZED, what, advice)
        .with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"groupcast\""))
}

/// Everything outside the API that changes something is a form. What another site can make a browser send is rejected by
/// its media type or by the missing field.
fn check_form(headers: &HeaderMap) -> Result<(), ApiError> {
    if body::media_type(headers).as_deref() == Some("application/x-www-form-urlencoded") {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "this path accepts forms only",
        "send `application/x-www-form-urlencoded`, or use the API under /api/v1",
    ))
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// The address a request came from.
pub(super) fn peer(extensions: &Extensions) -> IpAddr {
    extensions.get::<PeerAddress>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0)
}
