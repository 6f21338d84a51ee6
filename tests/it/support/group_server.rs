//! A real HTTP server in front of one vendor's rules: breaks what a test asks it to break, keeps what came.

use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Method, Uri};
use axum::response::Response;
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Map, Value};

/// Group id → the traits it ended up with.
pub(crate) type Groups = BTreeMap<String, Map<String, Value>>;

/// What a vendor does with a request.
pub(crate) trait Rules: Send + 'static {
    /// Carries it out and answers.
    fn take(&mut self, request: &Received) -> Answer;
}

/// A request as it came, decompressed.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What the vendor says.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

pub(crate) fn answer(status: u16, body: impl Into<String>) -> Answer {
    Answer { status, headers: Vec::new(), body: body.into() }
}

/// What happens to a request instead of the usual.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// The connection breaks, and nothing was carried out.
    Lost,
    /// The request is carried out, and the connection breaks before its answer is whole.
    AppliedThenLost,
    /// This answer, and nothing is carried out.
    Answer(Answer),
    /// The request is carried out, and this is answered.
    AppliedThen(Answer),
}

/// A vendor on a port of its own, for as long as the test process lives. Clones are the same one.
pub(crate) struct Server<R> {
    pub(crate) url: String,
    rules: Arc<Mutex<R>>,
    script: Arc<Mutex<VecDeque<Fault>>>,
    received: Arc<Mutex<Vec<Received>>>,
}

impl<R> Clone for Server<R> {
    fn clone(&self) -> Server<R> {
        let Server { url, rules, script, received } = self;
        Server { url: url.clone(), rules: rules.clone(), script: script.clone(), received: received.clone() }
    }
}

impl<R: Rules> Server<R> {
    pub(crate) fn start(rules: R) -> Server<R> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let server = Server {
            url: format!("http://{}", listener.local_addr().unwrap()),
            rules: Arc::new(Mutex::new(rules)),
            script: Arc::default(),
            received: Arc::default(),
        };
        let serving = server.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let limit = DefaultBodyLimit::max(64 * 1024 * 1024);
                let router = Router::new().fallback(take::<R>).layer(limit).with_state(serving);
                axum::serve(listener, router).await.unwrap();
            });
        });
        server
    }

    /// What happens to the next requests, one each; then everything is usual again.
    pub(crate) fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.script.lock().extend(faults);
    }

    /// The vendor itself.
    pub(crate) fn rules(&self) -> MutexGuard<'_, R> {
        self.rules.lock()
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().clone()
    }
}

async fn take<R: Rules>(
    State(server): State<Server<R>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut plain = Vec::new();
    if headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip") {
        flate2::read::GzDecoder::new(&*body).read_to_end(&mut plain).unwrap();
    } else {
        plain.extend_from_slice(&body);
    }
    let request = Received { method: method.to_string(), path: uri.to_string(), headers, body: plain };
    server.received.lock().push(request.clone());
    let fault = server.script.lock().pop_front().unwrap_or(Fault::None);
    let answer = match fault {
        Fault::None => server.rules().take(&request),
        Fault::Lost => return broken(),
        Fault::AppliedThenLost => {
            server.rules().take(&request);
            return broken();
        }
        Fault::Answer(answer) => answer,
        Fault::AppliedThen(answer) => {
            server.rules().take(&request);
            answer
        }
    };
    let mut response = Response::builder().status(answer.status);
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    response.body(Body::from(answer.body)).unwrap()
}

/// A success that breaks off: the connection is reset before the body it announces.
fn broken() -> Response {
    let torn = futures_util::stream::once(async { Err::<Bytes, _>(std::io::Error::other("torn")) });
    Response::builder().header("content-length", "100").body(Body::from_stream(torn)).unwrap()
}
