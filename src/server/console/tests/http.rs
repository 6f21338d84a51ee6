//! A client of a few lines for the tests, over a real socket.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Extension;
use axum::http::HeaderValue;
use axum::middleware::map_response;
use axum::response::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::router;
use super::service::FakeService;
use crate::io::SystemClock;
use crate::server::http::auth::PageSession;

/// The policy that the layers around the console send, so that a browser applies it.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self' data:; script-src 'self'; form-action 'self'; \
    base-uri 'none'; frame-ancestors 'none'; connect-src 'self'";
pub(super) const CSRF: &str = "token\"&<of>";

/// A console on a port of its own.
pub(super) struct Site {
    pub(super) address: SocketAddr,
    pub(super) service: Arc<FakeService>,
}

/// A response.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Fetched {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    /// The body of a response that is sent in pieces.
    pub(super) fn text(&self) -> String {
        let (mut rest, mut text) = (self.body.as_str(), String::new());
        while let Some((length, after)) = rest.split_once("\r\n") {
            let length = usize::from_str_radix(length, 16).unwrap();
            text.push_str(&after[..length]);
            rest = &after[length + 2..];
        }
        text
    }
}

impl Site {
    pub(super) async fn open(service: FakeService) -> Site {
        let service = Arc::new(service);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let session = PageSession { csrf: CSRF.to_owned(), logged_in: true };
        let with_policy = map_response(|mut response: Response| async {
            response.headers_mut().insert("content-security-policy", HeaderValue::from_static(POLICY));
            response
        });
        let app = router(service.clone(), Arc::new(SystemClock::start())).layer(Extension(session)).layer(with_policy);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Site { address, service }
    }

    pub(super) async fn get(&self, path: &str) -> Fetched {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: console\r\nConnection: close\r\n\r\n")).await
    }

    pub(super) async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Fetched {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let length = body.len();
        self.send(&format!(
            "POST {path} HTTP/1.1\r\nHost: console\r\nConnection: close\r\nContent-Length: {length}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}"
        ))
        .await
    }

    async fn send(&self, request: &str) -> Fetched {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = Vec::new();
        stream.read_to_end(&mut response).await.unwrap();
        let response = String::from_utf8(response).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Fetched { status, head: head.to_owned(), body: body.to_owned() }
    }
}
