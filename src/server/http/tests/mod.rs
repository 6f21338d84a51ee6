//! Tests of the whole server, from the socket to the service: the API, authentication, real sockets that misbehave, and the
//! OpenAPI document.

mod access;
mod document;
mod local;
mod requests;
mod service;
mod sockets;

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, Request, Response, StatusCode, header};
use axum::response::Html;
use axum::{Extension, Router, routing};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;

use super::auth::PageSession;
use super::{ServerSettings, router};
use crate::io::{Clock, SystemClock};
use crate::secret::Secret;
use service::Fake;

const TOKEN: &str = "0123456789abcdef-secret";

/// A response.
struct TestResponse {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl TestResponse {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The status, after checking that the body is an error with a message and a next step.
    fn error_status(&self) -> u16 {
        let body = self.json();
        let error = body["error"].as_object().unwrap_or_else(|| panic!("no error: {body}"));
        let keys: Vec<&str> = error.keys().map(String::as_str).collect();
        assert_eq!(keys, ["advice", "kind", "message"], "{body}");
        assert!(error["message"].as_str().is_some_and(|text| text.len() > 5), "{body}");
        assert!(error["advice"].as_str().is_some_and(|text| text.len() > 5), "{body}");
        self.status.as_u16()
    }

    fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap().to_owned()
    }
}

/// A server without sockets.
struct Served {
    router: TowerToHyperService<Router>,
    service: Arc<Fake>,
}

impl Served {
    fn new(settings: &ServerSettings) -> Served {
        Served::with_clock(settings, Arc::new(SystemClock::start()))
    }

    fn with_clock(settings: &ServerSettings, clock: Arc<dyn Clock>) -> Served {
        let service = Arc::new(Fake::default());
        let router = router(Arc::clone(&service) as _, settings, clock).unwrap();
        Served { router: TowerToHyperService::new(router), service }
    }

    /// Without a token and with pages.
    fn open() -> Served {
        Served::new(&ServerSettings::new(None).with_pages(pages()))
    }

    /// With a token and with pages.
    fn guarded() -> Served {
        Served::new(&ServerSettings::new(Some(Secret::new(TOKEN))).with_pages(pages()))
    }

    async fn send(&self, mut request: Request<Body>) -> TestResponse {
        let local = header::HeaderValue::from_static("localhost:4780");
        request.headers_mut().entry(header::HOST).or_insert(local);
        read(self.router.call(request).await.unwrap()).await
    }

    async fn get(&self, path: &str) -> TestResponse {
        self.send(request("GET", path, &[], "")).await
    }

    async fn post(&self, path: &str, body: &str) -> TestResponse {
        let json = [("content-type", "application/json")];
        self.send(request("POST", path, if body.is_empty() { &[] } else { &json }, body)).await
    }
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Request<Body> {
    let start = Request::builder().method(method).uri(path);
    let request = headers.iter().fold(start, |request, (name, value)| request.header(*name, *value));
    request.body(Body::from(body.to_owned())).unwrap()
}

async fn read(response: Response<Body>) -> TestResponse {
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    TestResponse { status: parts.status, headers: parts.headers, body: String::from_utf8(body.to_vec()).unwrap() }
}

/// Pages as the console has them: they show the session that authentication attached.
fn pages() -> Router {
    async fn show(Extension(session): Extension<PageSession>) -> Html<String> {
        Html(format!("csrf={} logged_in={}", session.csrf, session.logged_in))
    }
    async fn echo(Extension(_): Extension<PageSession>, form: String) -> Html<String> {
        Html(format!("form: {form}"))
    }
    Router::new()
        .route("/", routing::get(show))
        .route("/login", routing::get(show))
        .route("/assets/style.css", routing::get(|| async { ([("content-type", "text/css")], "body{}") }))
        .route("/syncs/{sync}/pause", routing::post(echo))
}
