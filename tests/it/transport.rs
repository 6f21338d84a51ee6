//! Does the way out tell "certainly not sent" from "may have arrived", and does it keep secrets? Real sockets and files.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::routing::any;
use groupcast::destination::{Destination, file};
use groupcast::io::http::CallLimits;
use groupcast::io::http::HttpClient;
use groupcast::io::http::Transport;
use groupcast::io::http::{Applied, NoResponse, Request, Response};
use groupcast::model::Change;
use serde_json::json;

const LIMITS: CallLimits = CallLimits { timeout: Duration::from_secs(10), body_bytes_max: 64 * 1024 };

fn post(url: &str) -> Request {
    Request { method: "POST", url: url.to_owned(), headers: Vec::new(), body: b"body".to_vec(), gzip: false }
}

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

async fn send(request: &Request) -> Result<Response, NoResponse> {
    HttpClient::new().unwrap().send(request, LIMITS).await
}

#[tokio::test]
async fn without_a_connection_nothing_was_sent() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = send(&post(&format!("http://user:s3cret@{address}/x?key=s3cret"))).await.unwrap_err();
    assert_eq!(error.applied, Applied::No);
    assert!(error.what.starts_with("failed to connect") && !error.what.contains("s3cret"), "{}", error.what);
}

#[tokio::test]
async fn without_tls_nothing_was_sent() {
    let url = serve(Router::new()).await.replace("http:", "https:");
    let error = send(&post(&url)).await.unwrap_err();
    assert_eq!(error.applied, Applied::No, "{}", error.what);
}

#[tokio::test]
async fn what_cannot_be_a_request_was_not_sent() {
    for (url, headers) in [("no address", vec![]), ("http://127.0.0.1:1/", vec![("x-key", "a\nb".to_owned())])] {
        let error = send(&Request { headers, ..post(url) }).await.unwrap_err();
        assert_eq!(error.applied, Applied::No);
        assert!(!error.what.contains("a\nb"), "{}", error.what);
    }
}

#[tokio::test]
async fn silence_may_have_had_an_effect() {
    let url = serve(Router::new().fallback(any(std::future::pending::<()>))).await;
    let error = HttpClient::new()
        .unwrap()
        .send(&post(&url), CallLimits { timeout: Duration::from_millis(200), ..LIMITS })
        .await
        .unwrap_err();
    assert_eq!(error, NoResponse { applied: Applied::Maybe, what: "no response within 0.2 s".to_owned() });
}

#[tokio::test]
async fn redirects_are_replies() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let elsewhere =
        serve(Router::new().fallback(any(move || async move { counted.fetch_add(1, Ordering::SeqCst).to_string() })))
            .await;
    let to = elsewhere.clone();
    let redirect = any(move || async move { (axum::http::StatusCode::TEMPORARY_REDIRECT, [("location", to)]) });
    let url = serve(Router::new().fallback(redirect)).await;
    let response = send(&post(&url)).await.unwrap();
    assert_eq!((response.status, response.header("location")), (307, Some(elsewhere.as_str())));
    assert_eq!(asked.load(Ordering::SeqCst), 0, "the body went nowhere else");
}

#[tokio::test]
async fn bodies_and_headers_arrive_and_a_longer_response_is_cut_and_says_so() {
    let echo = any(|headers: HeaderMap, body: Bytes| async move {
        assert_eq!(headers["user-agent"], concat!("groupcast/", env!("CARGO_PKG_VERSION")));
        assert_eq!(headers["x-one"], "1");
        let mut text = String::new();
        if headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip") {
            flate2::read::GzDecoder::new(&*body).read_to_string(&mut text).unwrap();
        } else {
            text = String::from_utf8(body.to_vec()).unwrap();
        }
        text
    });
    let url = serve(Router::new().fallback(echo)).await;
    for gzip in [false, true] {
        for (length, answered) in [(0, 0), (1_000, 1_000), (65_536, 65_536), (200_000, 65_536)] {
            let request =
                Request { headers: vec![("x-one", "1".to_owned())], body: vec![b'x'; length], gzip, ..post(&url) };
            let response = send(&request).await.unwrap();
            assert_eq!((response.status, response.body.len()), (200, answered), "gzip {gzip}");
            assert_eq!(response.truncated, length > answered, "gzip {gzip} {length}");
        }
    }
}

#[tokio::test]
async fn each_caller_names_the_longest_response_it_accepts() {
    let long = "x".repeat(3_000_000);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, long.as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    let plain = serve(Router::new().fallback(any(move || async move { long }))).await;
    let gzip = any(move || async move { ([("content-encoding", "gzip")], packed) });
    let gzip = serve(Router::new().fallback(gzip)).await;
    for url in [plain, gzip] {
        for (body_bytes_max, length) in [(0, 0), (1_000, 1_000), (2_999_999, 2_999_999), (3_000_000, 3_000_000)] {
            let limits = CallLimits { body_bytes_max, ..LIMITS };
            let response = HttpClient::new().unwrap().send(&Request::get(url.clone()), limits).await.unwrap();
            assert_eq!((response.status, response.body.len()), (200, length));
            assert_eq!(response.truncated, length < 3_000_000, "{length}");
        }
    }
}

#[tokio::test]
async fn changes_are_lines_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out/changes.ndjson");
    let destination = file::File::new(&file::FileSettings { path: Some(path.clone()) }, "company");
    let change = |at: usize| groupcast::destination::AddressedChange {
        key: format!("k{at}"),
        change: Change { set: [("n".to_owned(), json!(at))].into_iter().collect(), ..Change::default() }.into(),
        ..Default::default()
    };
    let changes: Vec<_> = (0..12_000).map(change).collect();
    let (clock, random) = (groupcast::io::SystemClock::start(), groupcast::io::Random::seeded(1));
    let http_client = HttpClient::new().unwrap();
    let (_signal, signalled) = tokio::sync::watch::channel(groupcast::delivery::Signal::Go);
    let settings = groupcast::delivery::DeliverySettings::default();
    let delivery = groupcast::delivery::Delivery::new(&destination, &http_client, &clock, &random, settings, signalled);
    let outcomes = crate::support::toy::RecordedOutcomes::default();
    delivery.deliver(&changes, &outcomes).await.unwrap();
    assert!(outcomes.all(12_000).iter().all(|outcome| *outcome == groupcast::delivery::DeliveryOutcome::Delivered));
    assert_eq!(destination.name(), "file");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut keys: Vec<usize> = text
        .lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(line["group_type"], "company");
            line["set"]["n"].as_u64().unwrap() as usize
        })
        .collect();
    keys.sort_unstable();
    assert_eq!(keys, (0..12_000).collect::<Vec<_>>());
    // Where a folder stands in the way nothing can be written, and the next step is named.
    let blocked = file::File::new(&file::FileSettings { path: Some(folder.path().into()) }, "company");
    let delivery = groupcast::delivery::Delivery::new(
        &blocked,
        &http_client,
        &clock,
        &random,
        groupcast::delivery::DeliverySettings::default(),
        tokio::sync::watch::channel(groupcast::delivery::Signal::Go).1,
    );
    let error = delivery.deliver(&changes[..1], &crate::support::toy::RecordedOutcomes::default()).await.unwrap_err();
    assert_eq!(error.advice(), Some("check the path and its permissions"));
}
