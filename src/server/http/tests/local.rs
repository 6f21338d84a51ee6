//! What does the socket beside the ledger serve, and what not?

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};

use super::service::Fake;
use super::{TestResponse, read, request};
use crate::io::SystemClock;
use crate::io::file_id::FileId;
use crate::server::http::{HttpLimits, local_router};
use crate::service::wire::Hello;
use crate::sync::verify::Verified;

fn hello(folder: &std::path::Path) -> Hello {
    Hello {
        version: "1.2.3".to_owned(),
        pid: 7,
        url: "http://127.0.0.1:4780".to_owned(),
        ledger: FileId::of(folder).unwrap(),
        folder: folder.to_path_buf(),
        target: None,
        folder_id: None,
        command: None,
    }
}

fn served(folder: &std::path::Path) -> TowerToHyperService<Router> {
    let limits = HttpLimits { body_bytes: 100, ..HttpLimits::default() };
    let router = local_router(Arc::new(Fake::default()), hello(folder), limits, Arc::new(SystemClock::start()));
    TowerToHyperService::new(router.unwrap())
}

async fn send(served: &TowerToHyperService<Router>, method: &str, path: &str, body: &str) -> TestResponse {
    let json = [("content-type", "application/json"), ("host", "localhost")];
    read(served.call(request(method, path, &json, body)).await.unwrap()).await
}

#[tokio::test]
async fn it_says_whose_it_is_and_has_the_api_without_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let served = served(folder.path());
    let response = send(&served, "GET", "/local/v1/hello", "").await;
    let response: Hello = serde_json::from_value(response.json()).unwrap();
    let folder_id = Some(FileId::of(folder.path()).unwrap());
    assert_eq!(response, Hello { folder_id, ..hello(folder.path()) });
    assert_eq!(send(&served, "GET", "/api/v1/about", "").await.status, StatusCode::OK);
    assert_eq!(send(&served, "POST", "/api/v1/syncs/accounts/runs", "{}").await.status, StatusCode::ACCEPTED);
    // EmptyBody for people, and limits all the same.
    for path in ["/", "/login", "/local", "/local/v1"] {
        assert_eq!(send(&served, "GET", path, "").await.error_status(), 404, "{path}");
    }
    let long = json!({"group": "x".repeat(200)}).to_string();
    assert_eq!(send(&served, "POST", "/api/v1/syncs/accounts/runs", &long).await.error_status(), 413);
}

#[tokio::test]
async fn a_plan_comes_line_by_line_and_ends_with_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let served = served(folder.path());
    let path = "/local/v1/syncs/accounts/plan";
    let response = send(&served, "POST", path, r#"{"options": {"full": true}}"#).await;
    assert_eq!((response.status, response.header("content-type")), (StatusCode::OK, "application/x-ndjson"));
    let lines: Vec<Value> = response.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (last, changes) = lines.split_last().unwrap();
    assert!(!changes.is_empty() && changes.iter().all(|line| line["item"]["change"]["key"].is_string()), "{lines:?}");
    assert_eq!(last["end"]["changes"], json!([]), "{last}");
    assert_eq!(last["end"]["add"], 1);
    // What keeps it from being made is response before it begins.
    assert_eq!(send(&served, "POST", "/local/v1/syncs/nothing/plan", "{}").await.error_status(), 404);
    assert_eq!(send(&served, "POST", path, r#"{"unknown": 1}"#).await.error_status(), 400);
    assert_eq!(send(&served, "GET", path, "").await.error_status(), 405);
}

#[tokio::test]
async fn the_upkeep_of_the_ledger_is_for_the_socket_alone() {
    let folder = tempfile::tempdir().unwrap();
    let served = served(folder.path());
    for (path, body, end) in [
        ("export", "", json!({"end": null})),
        ("adopt", "", json!({"end": 5})),
        ("verify?repair=1", "", json!({"end": Verified { repaired: 1, ..Verified::default() }})),
        ("reset", r#"{"group": "k1", "forget": true}"#, json!(1)),
    ] {
        let response = send(&served, "POST", &format!("/local/v1/syncs/accounts/{path}"), body).await;
        assert_eq!(response.status, StatusCode::OK, "{path}: {}", response.body);
        let last: Value = serde_json::from_str(response.body.lines().last().unwrap()).unwrap();
        assert_eq!(last, end, "{path}");
        let nothing = send(&served, "POST", &format!("/local/v1/syncs/nothing/{path}"), body).await;
        assert_eq!(nothing.error_status(), 404, "{path}");
        assert_eq!(send(&served, "GET", &format!("/local/v1/syncs/accounts/{path}"), "").await.error_status(), 405);
    }
    let response = send(&served, "POST", "/local/v1/syncs/accounts/export", "").await;
    let first: Value = serde_json::from_str(response.body.lines().next().unwrap()).unwrap();
    assert_eq!(first["item"]["key"], "k1", "{first}");
    let unknown = send(&served, "POST", "/local/v1/syncs/accounts/reset", r#"{"groups": "k1"}"#).await;
    assert_eq!(unknown.error_status(), 400);
}
