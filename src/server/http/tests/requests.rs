//! Which requests reach the service, and with which status each result is returned.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::http::header;

use super::{Served, ServerSettings, TOKEN, pages, request};
use crate::server::http::HttpLimits;
use crate::service::api::METRICS_CONTENT_TYPE;

#[tokio::test]
async fn a_request_reaches_the_service_unchanged() {
    let served = Served::open();
    let default = r#"{"full":false,"accept":[],"retry_rejected":false,"group":null,"limit":null}"#;
    for (method, path, body, expected) in [
        ("POST", "/api/v1/syncs/accounts/runs", "", format!("trigger accounts {default} by api")),
        ("POST", "/api/v1/syncs/accounts/runs", "{}", format!("trigger accounts {default} by api")),
        ("POST", "/api/v1/syncs/accounts/runs", r#"{"dry_run":false}"#, format!("trigger accounts {default} by api")),
        (
            "POST",
            "/api/v1/syncs/accounts/runs",
            r#"{"full":true,"accept":["empty"],"retry_rejected":true,"group":"a/b","limit":18446744073709551615}"#,
            r#"trigger accounts {"full":true,"accept":["empty"],"retry_rejected":true,"group":"a/b","limit":18446744073709551615} by api"#.to_owned(),
        ),
        ("POST", "/api/v1/syncs/accounts/runs?show=0", r#"{"dry_run":true}"#, format!("plan accounts {default} show 0")),
        ("GET", "/api/v1/syncs/accounts/plan", "", format!("plan accounts {default} show 20")),
        (
            "GET",
            "/api/v1/syncs/accounts/plan?show=1000&full=true&group=a%2Fb%26c",
            "",
            format!("plan accounts {} show 1000", default.replacen("false", "true", 1).replace(r#""group":null"#, r#""group":"a/b&c""#)),
        ),
        ("POST", "/api/v1/syncs/accounts/pause", "", "pause accounts true".to_owned()),
        ("POST", "/api/v1/syncs/accounts/resume", "{}", "pause accounts false".to_owned()),
        ("POST", "/api/v1/runs/r2/cancel", "", "cancel r2".to_owned()),
        ("POST", "/api/v1/daemons/one/drain", "", "drain one".to_owned()),
        ("POST", "/api/v1/drain", "", "drain this one".to_owned()),
        ("GET", "/api/v1/runs", "", "runs None None 20".to_owned()),
        ("GET", "/api/v1/runs?before=r9&count=1000", "", r#"runs None Some("r9") 1000"#.to_owned()),
        ("GET", "/api/v1/syncs/accounts/runs?count=1", "", r#"runs Some("accounts") None 1"#.to_owned()),
        ("GET", "/api/v1/rejected", "", "rejected None 100".to_owned()),
        ("GET", "/api/v1/syncs/accounts/rejected?count=3", "", r#"rejected Some("accounts") 3"#.to_owned()),
        ("GET", "/api/v1/syncs/accounts/rejected?after=a%20b", "", r#"rejected Some("accounts") 100 after a b"#.to_owned()),
        ("GET", "/api/v1/syncs/accounts/groups/acme?before=7", "", "group accounts acme 20 before 7".to_owned()),
        ("GET", "/api/v1/syncs/accounts/groups?key=x&before=0", "", "group accounts x 20 before 0".to_owned()),
        ("GET", "/api/v1/syncs/accounts/requests?key=a%2Fb", "", "requests accounts a/b".to_owned()),
        ("GET", "/api/v1/runs/r1/groups", "", "changes r1 None 0 100".to_owned()),
        ("GET", "/api/v1/runs/r1/groups?outcome=rejected&from=9223372036854775807&count=2", "", r#"changes r1 Some("rejected") 9223372036854775807 2"#.to_owned()),
        ("GET", "/api/v1/syncs/accounts/groups/acme", "", "group accounts acme 20".to_owned()),
        ("GET", "/api/v1/syncs/accounts/groups/a/b//c%20d?count=5", "", "group accounts a/b//c d 5".to_owned()),
        ("GET", "/api/v1/syncs/accounts/groups/a%2Fb%3F%C3%A4", "", "group accounts a/b?ä 20".to_owned()),
        ("GET", "/api/v1/syncs/accounts/groups?key=..%2F.%20x", "", "group accounts ../. x 20".to_owned()),
    ] {
        let json = [("content-type", "application/json")];
        let response = served.send(request(method, path, if body.is_empty() { &[] } else { &json }, body)).await;
        assert!(response.status.is_success(), "{method} {path}: {} {}", response.status, response.body);
        assert_eq!(served.service.requests().last().unwrap(), &expected, "{method} {path}");
    }
}

#[tokio::test]
async fn an_enqueued_run_has_a_location() {
    let served = Served::open();
    let response = served.post("/api/v1/syncs/accounts/runs", "").await;
    assert_eq!(response.status, 202);
    assert_eq!(response.header("location"), "/api/v1/runs/r4");
    assert_eq!(response.json(), serde_json::json!({"sync": "accounts", "run": "r4", "joined": true}));
    let response = served.post("/api/v1/runs/r2/cancel", "").await;
    assert_eq!((response.status.as_u16(), response.json()), (202, serde_json::json!({"run": "r2"})));
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_before_it_reaches_the_service() {
    let served = Served::open();
    let runs = "/api/v1/syncs/accounts/runs";
    for (path, body, text) in [
        (runs, "{", "line 1 column 1"),
        (runs, "[true]", "not a JSON object"),
        (runs, "null", "not a JSON object"),
        (runs, " ", "not a JSON object"),
        (runs, "\"{}\"", "not a JSON object"),
        (runs, "{}{}", "trailing"),
        (runs, r#"{"limit": "ten"}"#, "limit"),
        (runs, r#"{"limit": -1}"#, "limit"),
        (runs, r#"{"limit": 1.5}"#, "limit"),
        (runs, r#"{"full": 1}"#, "full"),
        (runs, r#"{"accept": "empty"}"#, "accept"),
        (runs, r#"{"accept": [1]}"#, "accept[0]"),
        (runs, r#"{"ful": true}"#, "unknown field `ful`"),
        (runs, r#"{"full": true, "full": true}"#, "duplicate field `full`"),
        (runs, r#"{"dry_run": "yes"}"#, "dry_run"),
        ("/api/v1/syncs/accounts/runs?show=3", "{}", "`show`"),
        ("/api/v1/syncs/accounts/runs?show=1001", r#"{"dry_run": true}"#, "show: expected"),
        ("/api/v1/syncs/accounts/pause", r#"{"paused": false}"#, "unknown field `paused`"),
        ("/api/v1/syncs/accounts/pause?for=1h", "", "`for`"),
        ("/api/v1/runs/r2/cancel", "{\"now\": true}", "`now`"),
    ] {
        let response = served.post(path, body).await;
        assert_eq!(response.error_status(), 400, "{path} {body}");
        assert!(response.message().contains(text), "{path} {body}: {}", response.message());
    }
    for path in [
        "/api/v1/runs?count=0",
        "/api/v1/runs?count=1001",
        "/api/v1/runs?limit=1",
        "/api/v1/runs?count=1&count=2",
        "/api/v1/runs/r1/groups?outcome=Rejected",
        "/api/v1/runs/r1/groups?from=-1",
        "/api/v1/runs/r1/groups?from=9223372036854775808",
        "/api/v1/syncs/accounts/plan?full=1",
        "/api/v1/syncs/accounts/plan?full",
        "/api/v1/syncs/accounts/groups",
        "/api/v1/syncs/accounts/groups?key=",
        "/api/v1/syncs/accounts/requests",
        "/api/v1/syncs/accounts/requests?key=",
        "/api/v1/syncs/accounts/groups?key=%ff",
        "/api/v1/syncs/accounts/groups/%ff",
        "/api/v1/syncs?x",
        "/api/v1/about?x=1",
        "/healthz?x=1",
    ] {
        assert_eq!(served.get(path).await.error_status(), 400, "{path}");
    }
    assert!(served.service.requests().is_empty(), "{:?}", served.service.requests());
}

#[tokio::test]
async fn a_body_must_be_declared_to_be_json() {
    let served = Served::open();
    let posts = super::super::routes::table().into_iter().filter(|route| route.method == "POST");
    let paths: Vec<String> =
        posts.map(|route| route.path.replace("{sync}", "accounts").replace("{run}", "r2")).collect();
    assert!(paths.len() >= 4);
    for path in &paths {
        for (media_type, body, expected) in [
            ("text/plain", "{}", 415),
            ("text/plain", "", 415),
            ("application/x-www-form-urlencoded", "", 415),
            ("multipart/form-data; boundary=x", "{}", 415),
            ("application/jsonp", "{}", 415),
            ("application/json; charset=utf-8", "{}", 200),
            ("APPLICATION/JSON", "{}", 200),
            ("application/json", "", 200),
        ] {
            let response = served.send(request("POST", path, &[("content-type", media_type)], body)).await;
            if expected == 200 {
                assert!(response.status.is_success(), "{path} {media_type} {body}: {}", response.status);
            } else {
                assert_eq!(response.error_status(), expected, "{path} {media_type} {body}");
            }
        }
        assert_eq!(served.send(request("POST", path, &[], "{}")).await.error_status(), 415, "{path}");
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_have_their_status() {
    let served = Served::open();
    for path in [
        "/api",
        "/api/",
        "/api/v1",
        "/api/v1/",
        "/api/v2/syncs",
        "/api/v1/syncs/accounts/nothing",
        "/api/v1/syncs/accounts/runs/r1",
        "/api/v1/syncs/",
        "/api/v1/syncs/accounts/",
        "/api/v1/runs/r1/groups/a",
        "/nothing",
        "/API/v1/about",
    ] {
        let response = served.get(path).await;
        assert_eq!(response.error_status(), 404, "{path}");
        assert!(response.message().contains(path), "{}", response.message());
    }
    for (method, path, allow) in [
        ("DELETE", "/api/v1/runs/r1", "GET,HEAD"),
        ("POST", "/api/v1/syncs", "GET,HEAD"),
        ("GET", "/api/v1/syncs/accounts/pause", "POST"),
        ("PUT", "/api/v1/syncs/accounts/runs", "GET,HEAD,POST"),
        ("OPTIONS", "/api/v1/syncs/accounts/runs", "GET,HEAD,POST"),
        ("POST", "/healthz", "GET,HEAD"),
        ("POST", "/metrics", "GET,HEAD"),
        ("TRACE", "/api/v1/about", "GET,HEAD"),
    ] {
        let response = served.send(request(method, path, &[], "")).await;
        assert_eq!(response.error_status(), 405, "{method} {path}");
        let mut allowed: Vec<&str> = response.header("allow").split(',').map(str::trim).collect();
        allowed.sort_unstable();
        assert_eq!(allowed.join(","), allow, "{method} {path}");
    }
}

#[tokio::test]
async fn each_service_error_has_its_status() {
    let served = Served::open();
    for (sync, status, kind) in [
        ("unknown", 404, "config"),
        ("invalid", 400, "config"),
        ("busy", 409, "ledger_busy"),
        ("fails-config", 500, "config"),
        ("fails-source", 502, "source"),
        ("fails-source_busy", 503, "source_busy"),
        ("fails-destination", 502, "destination"),
        ("fails-ledger", 500, "ledger"),
        ("fails-ledger_busy", 503, "ledger_busy"),
        ("fails-guard", 409, "guard"),
        ("fails-interrupted", 503, "interrupted"),
        ("fails-bug", 500, "bug"),
    ] {
        for response in [
            served.get(&format!("/api/v1/syncs/{sync}")).await,
            served.get(&format!("/api/v1/syncs/{sync}/plan")).await,
            served.get(&format!("/api/v1/syncs/{sync}/runs")).await,
            served.get(&format!("/api/v1/syncs/{sync}/rejected")).await,
            served.get(&format!("/api/v1/syncs/{sync}/groups/a")).await,
            served.post(&format!("/api/v1/syncs/{sync}/runs"), "").await,
            served.post(&format!("/api/v1/syncs/{sync}/pause"), "").await,
            served.post(&format!("/api/v1/syncs/{sync}/resume"), "").await,
        ] {
            assert_eq!(response.error_status(), status, "{sync}");
            assert_eq!(response.json()["error"]["kind"], kind, "{sync}");
            assert!(response.message().starts_with("sync accounts: "), "{}", response.message());
            assert_eq!(response.headers.contains_key("retry-after"), status == 503, "{sync}");
        }
    }
    assert_eq!(served.get("/api/v1/runs/unknown").await.error_status(), 404);
    assert_eq!(served.post("/api/v1/runs/unknown/cancel", "").await.error_status(), 404);
    assert_eq!(served.post("/api/v1/runs/r1/cancel", "").await.error_status(), 409);
}

#[tokio::test]
async fn a_handler_that_panics_or_takes_too_long_gets_a_response() {
    let limits =
        HttpLimits { response: Duration::from_millis(50), plan: Duration::from_millis(800), ..HttpLimits::default() };
    let served = Served::new(&ServerSettings { limits, ..ServerSettings::default() });
    let response = served.get("/api/v1/syncs/panics").await;
    assert_eq!((response.error_status(), response.json()["error"]["kind"].as_str()), (500, Some("bug")));
    assert!(!response.body.contains("on purpose"), "{}", response.body);
    assert_eq!(served.get("/api/v1/syncs/never").await.error_status(), 504);
    assert_eq!(served.get("/api/v1/syncs/slow").await.error_status(), 504);
    assert_eq!(served.post("/api/v1/syncs/slow/runs", "").await.error_status(), 504, "starting a run is not a plan");
    assert_eq!(served.get("/api/v1/syncs/slow/plan").await.status, 200, "a plan may take longer");
    assert_eq!(served.post("/api/v1/syncs/slow/runs", r#"{"dry_run":true}"#).await.status, 200);
    assert_eq!(served.get("/api/v1/syncs/never/plan").await.error_status(), 504);
}

#[tokio::test]
async fn a_plan_may_be_larger_than_other_bodies() {
    let limits = HttpLimits { body_bytes: 100, plan_bytes: 300, ..HttpLimits::default() };
    let served = Served::new(&ServerSettings { limits, ..ServerSettings::default() });
    let body = |bytes: usize| format!("{{\"version\":\"{}\"}}", "1".repeat(bytes));
    assert_eq!(served.post("/api/v1/plans", &body(200)).await.status, 201);
    assert_eq!(served.post("/api/v1/plans", &body(400)).await.error_status(), 413);
    assert_eq!(served.post("/api/v1/syncs/accounts/runs", &body(200)).await.error_status(), 413);
    assert_eq!(served.post("/api/v1/plans", r#"{"plan":1}"#).await.error_status(), 400);
}

#[tokio::test]
async fn health_needs_no_token_and_readiness_gives_its_reason() {
    for served in [Served::open(), Served::guarded()] {
        let response = served.get("/healthz").await;
        assert_eq!((response.status.as_u16(), response.body.as_str()), (200, "ok\n"));
        assert_eq!(served.get("/readyz").await.status, 200);
        served.service.unready.store(true, Ordering::Relaxed);
        let response = served.get("/readyz").await;
        assert_eq!(response.error_status(), 503);
        assert!(response.message().contains("not open yet"));
        assert_eq!(served.get("/healthz").await.status, 200);
    }
    let served = Served::guarded();
    let bearer = format!("Bearer {TOKEN}");
    let response = served.send(request("GET", "/metrics", &[("authorization", &bearer)], "")).await;
    assert_eq!(response.header("content-type"), METRICS_CONTENT_TYPE);
    assert!(response.body.ends_with("# EOF\n"));
    assert_eq!(served.get("/metrics").await.error_status(), 401);
}

#[tokio::test]
async fn every_response_has_the_headers_that_restrict_browsers() {
    let served = Served::open();
    for path in [
        "/",
        "/login",
        "/assets/style.css",
        "/api/v1/about",
        "/healthz",
        "/metrics",
        "/nothing",
        "/api/v1/syncs/panics",
    ] {
        let response = served.get(path).await;
        assert_eq!(response.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(response.header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(response.header("cache-control"), "no-store", "{path}");
        assert_eq!(response.header("x-frame-options"), "DENY", "{path}");
        let page = ["/", "/login"].contains(&path);
        let policy = response.header("content-security-policy");
        assert_eq!(policy.starts_with("default-src 'none'; style-src 'self';"), page, "{path}");
        assert!(response.headers.keys().all(|name| !name.as_str().starts_with("access-control")), "{path}");
    }
    let origin = [("origin", "http://localhost:4780"), ("access-control-request-method", "POST")];
    let preflight = served.send(request("OPTIONS", "/api/v1/syncs/accounts/runs", &origin, "")).await;
    assert!(preflight.headers.keys().all(|name| !name.as_str().starts_with("access-control")));
}

#[tokio::test]
async fn a_browser_that_wants_a_page_gets_text_instead_of_json() {
    let served = Served::open();
    let html = [("accept", "text/html,application/xhtml+xml")];
    let response = served.send(request("GET", "/nothing", &html, "")).await;
    assert_eq!(response.status, 404);
    assert_eq!(response.header("content-type"), "text/plain; charset=utf-8");
    assert!(response.body.starts_with("404 Not Found\n\n/nothing not found\n"), "{}", response.body);
    let response = served.send(request("GET", "/api/v1/nothing", &html, "")).await;
    assert_eq!(response.error_status(), 404, "the API returns JSON to everyone");
    // The console writes them as pages.
    let painted = ServerSettings::new(None).with_pages(pages()).with_error_page(|text| format!("<p>{}", text.message));
    let served = Served::new(&painted);
    let response = served.send(request("GET", "/nothing", &html, "")).await;
    assert_eq!((response.status.as_u16(), response.body.as_str()), (404, "<p>/nothing not found"));
    assert_eq!(response.header("content-type"), "text/html; charset=utf-8");
    assert!(response.header("content-security-policy").contains("style-src 'self'"), "it is a page like any other");
}

#[tokio::test]
async fn a_fallback_of_the_pages_does_not_reach_into_the_api() {
    let with_fallback = pages().fallback(|| async { axum::response::Html("no such page") });
    let served = Served::new(&ServerSettings::new(None).with_pages(with_fallback));
    assert_eq!(served.get("/nothing").await.body, "no such page");
    for path in ["/api", "/api/v1/nothing", "/api/v1/syncs/accounts/nothing", "/api/v1/runs/r1/groups/x/y"] {
        assert_eq!(served.get(path).await.error_status(), 404, "{path}");
    }
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let served = Served::open();
    let (get, head) = (served.get("/api/v1/about").await, served.send(request("HEAD", "/api/v1/about", &[], "")).await);
    assert_eq!((head.status, head.body.as_str()), (get.status, ""));
    assert_eq!(head.header("content-type"), get.header("content-type"));
    assert_eq!(head.header("content-length"), get.body.len().to_string());
    assert_eq!(served.send(request("HEAD", "/api/v1/syncs/accounts/pause", &[], "")).await.status, 405);
}

#[tokio::test]
async fn bodies_are_bounded_wherever_they_go() {
    let served = Served::open();
    let fits = format!(r#"{{"group": "{}"}}"#, "x".repeat(131_072 - 13));
    assert_eq!(fits.len(), 131_072);
    assert_eq!(served.post("/api/v1/syncs/accounts/runs", &fits).await.status, 202);
    for path in ["/api/v1/syncs/accounts/runs", "/api/v1/nothing", "/login", "/nothing"] {
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let response = served.send(request("POST", path, &form, &format!("{fits} "))).await;
        assert_eq!(response.error_status(), 413, "{path}");
        assert_eq!(response.header("connection"), "close");
    }
    // Chunks, without a length to look at first.
    let chunks = futures_util::stream::iter((0..200).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1_000])));
    let mut chunked = request("POST", "/api/v1/syncs/accounts/runs", &[("content-type", "application/json")], "");
    *chunked.body_mut() = Body::from_stream(chunks);
    assert_eq!(served.send(chunked).await.error_status(), 413);
    let broken = futures_util::stream::iter([Ok(vec![b'{']), Err(std::io::Error::other("gone"))]);
    let mut broken_off = request("POST", "/api/v1/syncs/accounts/runs", &[], "");
    *broken_off.body_mut() = Body::from_stream(broken);
    assert_eq!(served.send(broken_off).await.error_status(), 400);
    assert!(served.get("/api/v1/about").await.headers.get(header::CONNECTION).is_none());
}
