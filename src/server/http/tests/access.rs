//! Authentication, sessions, forms, and what another site can make a browser do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};

use super::{Served, ServerSettings, TOKEN, TestResponse, pages, request};
use crate::io::Clock;
use crate::secret::Secret;
use crate::server::http::auth::PeerAddress;

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const HTML: (&str, &str) = ("accept", "text/html");

/// A clock that tests move.
struct TestClock(AtomicU64);

#[async_trait]
impl Clock for TestClock {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap() + TimeDelta::seconds(self.0.load(Ordering::Relaxed) as i64)
    }

    fn elapsed(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }

    async fn sleep(&self, _: Duration) {}
}

fn with_test_clock() -> (Arc<TestClock>, Served) {
    let clock = Arc::new(TestClock(AtomicU64::new(0)));
    let settings = ServerSettings::new(Some(Secret::new(TOKEN))).with_pages(pages());
    (Arc::clone(&clock), Served::with_clock(&settings, clock))
}

async fn send_token(served: &Served, token: &str) -> TestResponse {
    let bearer = format!("Bearer {token}");
    served.send(request("GET", "/api/v1/about", &[("authorization", &bearer)], "")).await
}

/// Logs in; the cookie as the browser sends it back.
async fn log_in(served: &Served) -> String {
    let response =
        served.send(request("POST", "/login", &[FORM, HTML], &format!("token={TOKEN}&next=%2Fsyncs%2Fa"))).await;
    assert_eq!((response.status.as_u16(), response.header("location")), (303, "/syncs/a"));
    response.header("set-cookie").split(';').next().unwrap().to_owned()
}

/// The token that the page of this session carries.
async fn csrf_of(served: &Served, cookie: &str) -> String {
    let page = served.send(request("GET", "/", &[("cookie", cookie)], "")).await;
    page.body.strip_prefix("csrf=").unwrap().split(' ').next().unwrap().to_owned()
}

#[tokio::test]
async fn with_a_token_nothing_is_served_without_it() {
    let served = Served::guarded();
    for path in ["/api/v1/about", "/api/v1/openapi.json", "/metrics", "/", "/api/v1/nothing", "/nothing"] {
        let response = served.get(path).await;
        assert_eq!(response.error_status(), 401, "{path}");
        assert!(response.header("www-authenticate").starts_with("Bearer"), "{path}");
    }
    assert_eq!(served.post("/api/v1/syncs/accounts/runs", "").await.error_status(), 401);
    for header in ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", TOKEN, "bearer wrong", &format!("Bearer {TOKEN}x")] {
        let response = served.send(request("GET", "/api/v1/about", &[("authorization", header)], "")).await;
        assert_eq!(response.error_status(), 401, "{header}");
        assert!(!response.body.contains(TOKEN));
    }
    assert_eq!(send_token(&served, TOKEN).await.status, 200);
    let lower = format!("bearer  {TOKEN}");
    assert_eq!(served.send(request("GET", "/api/v1/about", &[("authorization", &lower)], "")).await.status, 200);
    let (bearer, json) = (format!("Bearer {TOKEN}"), ("content-type", "application/json"));
    let run = request("POST", "/api/v1/syncs/accounts/runs", &[("authorization", &bearer), json], "{}");
    assert_eq!(served.send(run).await.status, 202);
    assert_eq!(served.service.requests().len(), 1);
    for path in ["/healthz", "/readyz", "/login", "/assets/style.css"] {
        assert_eq!(served.get(path).await.status, 200, "{path}");
    }
    for path in ["/login/", "/healthz/", "/assets", "/Assets/style.css", "//healthz"] {
        assert_eq!(served.get(path).await.error_status(), 401, "{path}");
    }
    for path in ["/assets/../api/v1/about", "/assets/..%2f..%2fapi/v1/about", "/assets/%2e%2e/metrics"] {
        assert_eq!(served.get(path).await.error_status(), 404, "{path}: dots are not resolved behind authentication");
    }
}

#[tokio::test]
async fn a_browser_is_sent_to_the_login_and_back() {
    let served = Served::guarded();
    let response = served.send(request("GET", "/syncs/a%2Fb?x=1&y=2", &[HTML], "")).await;
    assert_eq!(response.status, 303);
    assert_eq!(response.header("location"), "/login?next=%2Fsyncs%2Fa%252Fb%3Fx%3D1%26y%3D2");
    let api = served.send(request("GET", "/api/v1/about", &[HTML], "")).await;
    assert_eq!(api.error_status(), 401, "the API has no login page");
    let page = served.get("/login").await;
    assert_eq!(page.body, "csrf= logged_in=false");

    let wrong = served.send(request("POST", "/login?next=%2Fx", &[FORM, HTML], "token=wrong")).await;
    assert_eq!((wrong.status.as_u16(), wrong.header("location")), (303, "/login?failed=true&next=%2Fx"));
    assert!(wrong.headers.get("set-cookie").is_none());
    assert_eq!(served.send(request("POST", "/login", &[FORM], "token=wrong")).await.error_status(), 401);
    assert_eq!(served.send(request("POST", "/login", &[FORM], "")).await.error_status(), 401);
    assert_eq!(served.send(request("POST", "/login", &[], "token=x")).await.error_status(), 415);

    let right = format!("token={TOKEN}&next=https%3A%2F%2Fevil.example");
    let response = served.send(request("POST", "/login", &[FORM], &right)).await;
    assert_eq!((response.status.as_u16(), response.header("location")), (303, "/"));
    let cookie = response.header("set-cookie");
    assert!(
        cookie.starts_with("groupcast_session=")
            && cookie.ends_with("; HttpOnly; SameSite=Strict; Path=/; Max-Age=43200")
    );
    let tls = served.send(request("POST", "/login", &[FORM, ("x-forwarded-proto", "https")], &right)).await;
    assert!(tls.header("set-cookie").ends_with("; Secure"), "{}", tls.header("set-cookie"));
    assert!(!cookie.contains(TOKEN));
}

#[tokio::test]
async fn a_session_ends_with_its_time_or_its_logout() {
    let (clock, served) = with_test_clock();
    let cookie = log_in(&served).await;
    let both = format!("theme=dark; {cookie}; groupcast_session=nonsense");
    assert_eq!(served.send(request("GET", "/api/v1/about", &[("cookie", &both)], "")).await.status, 200);
    let page = served.send(request("GET", "/login", &[("cookie", &cookie)], "")).await;
    assert!(page.body.ends_with("logged_in=true"), "{}", page.body);
    assert_eq!(
        served.send(request("GET", "/", &[("cookie", "groupcast_session=1.2.3")], "")).await.error_status(),
        401
    );

    clock.0.store(12 * 3_600 - 1, Ordering::Relaxed);
    assert_eq!(served.send(request("GET", "/", &[("cookie", &cookie)], "")).await.status, 200);
    clock.0.store(12 * 3_600, Ordering::Relaxed);
    assert_eq!(served.send(request("GET", "/", &[("cookie", &cookie)], "")).await.error_status(), 401);

    let (cookie, other) = (log_in(&served).await, log_in(&served).await);
    let csrf = format!("csrf={}", csrf_of(&served, &cookie).await);
    assert_eq!(served.send(request("POST", "/logout", &[FORM, ("cookie", &cookie)], "")).await.error_status(), 403);
    let response = served.send(request("POST", "/logout", &[FORM, ("cookie", &cookie)], &csrf)).await;
    assert_eq!((response.status.as_u16(), response.header("location")), (303, "/login"));
    assert!(response.header("set-cookie").contains("Max-Age=0"));
    assert_eq!(
        served.send(request("GET", "/", &[("cookie", &cookie)], "")).await.error_status(),
        401,
        "a kept copy is void"
    );
    assert_eq!(served.send(request("GET", "/", &[("cookie", &other)], "")).await.status, 200);
}

#[tokio::test]
async fn a_form_must_carry_what_its_page_was_given() {
    let served = Served::guarded();
    let (mine, theirs) = (log_in(&served).await, log_in(&served).await);
    let (csrf, foreign) = (csrf_of(&served, &mine).await, csrf_of(&served, &theirs).await);
    assert_ne!(csrf, foreign);
    let send = |headers: Vec<(&'static str, String)>, body: String| {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let request = request("POST", "/syncs/accounts/pause", &headers, &body);
        served.send(request)
    };
    let (form, cookie) = (("content-type", FORM.1.to_owned()), ("cookie", mine.clone()));
    let fine = send(vec![form.clone(), cookie.clone()], format!("csrf={csrf}&why=later")).await;
    assert_eq!((fine.status.as_u16(), fine.body), (200, format!("form: csrf={csrf}&why=later")));
    for body in [
        String::new(),
        "csrf=".to_owned(),
        format!("csrf={foreign}"),
        format!("csrf={csrf}&csrf={csrf}"),
        format!("CSRF={csrf}"),
    ] {
        assert_eq!(send(vec![form.clone(), cookie.clone()], body.clone()).await.error_status(), 403, "{body}");
    }
    for media_type in ["text/plain", "application/json", "multipart/form-data; boundary=x"] {
        let headers = vec![("content-type", media_type.to_owned()), cookie.clone()];
        assert_eq!(send(headers, format!("csrf={csrf}")).await.error_status(), 415, "{media_type}");
    }
    assert_eq!(send(vec![cookie.clone()], format!("csrf={csrf}")).await.error_status(), 415);
    let other_site = vec![form.clone(), cookie.clone(), ("origin", "http://evil.example".to_owned())];
    assert_eq!(send(other_site, format!("csrf={csrf}")).await.error_status(), 403);
    assert_eq!(send(vec![form.clone()], format!("csrf={csrf}")).await.error_status(), 401, "a form is no session");
    let bearer = ("authorization", format!("Bearer {TOKEN}"));
    assert_eq!(send(vec![form.clone(), bearer], String::new()).await.status, 200, "no browser sends this by itself");
}

#[tokio::test]
async fn without_a_token_forms_are_bound_to_the_process() {
    let (served, other) = (Served::open(), Served::open());
    let (csrf, foreign) = (csrf_of(&served, "a=b").await, csrf_of(&other, "a=b").await);
    for (body, expected) in [(format!("csrf={csrf}"), 200), (format!("csrf={foreign}"), 403), (String::new(), 403)] {
        let response = served.send(request("POST", "/syncs/accounts/pause", &[FORM], &body)).await;
        assert_eq!(response.status.as_u16(), expected, "{body}");
    }
    let response = served.send(request("POST", "/login", &[FORM], "token=anything&next=%2Fruns")).await;
    assert_eq!(
        (response.status.as_u16(), response.header("location")),
        (303, "/runs"),
        "there is nothing to log in to"
    );
    let logout = served.send(request("POST", "/logout", &[FORM], &format!("csrf={csrf}"))).await;
    assert_eq!((logout.status.as_u16(), logout.header("location")), (303, "/"));
}

#[tokio::test]
async fn without_a_token_only_this_machines_names_are_answered_to() {
    let served = Served::open();
    for host in ["evil.example", "evil.example:4780", "localhost.evil.example", "10.0.0.7:4780", ""] {
        for path in ["/", "/api/v1/syncs", "/healthz", "/login"] {
            let response = served.send(request("GET", path, &[("host", host)], "")).await;
            assert_eq!(response.error_status(), 421, "{host} {path}");
        }
        let run = request("POST", "/api/v1/syncs/accounts/runs", &[("host", host)], "");
        assert_eq!(served.send(run).await.error_status(), 421, "{host}");
    }
    for host in ["localhost", "localhost:1", "127.0.0.1:4780", "[::1]:4780"] {
        assert_eq!(served.send(request("GET", "/api/v1/syncs", &[("host", host)], "")).await.status, 200, "{host}");
    }
    let guarded = Served::guarded();
    let (host, bearer) = (("host", "groupcast.example.com"), format!("Bearer {TOKEN}"));
    let about = request("GET", "/api/v1/about", &[host, ("authorization", &bearer)], "");
    assert_eq!(guarded.send(about).await.status, 200, "with a token the name does not matter");
    assert!(served.service.requests().is_empty());
}

#[tokio::test]
async fn another_site_cannot_use_the_api_through_a_browser() {
    let served = Served::open();
    let json = ("content-type", "application/json");
    for marks in [
        vec![("origin", "http://evil.example")],
        vec![("origin", "null")],
        vec![("origin", "http://localhost:3000")],
        vec![("sec-fetch-site", "cross-site")],
        vec![("sec-fetch-site", "same-site")],
    ] {
        let mut headers = marks.clone();
        headers.push(json);
        let run = served.send(request("POST", "/api/v1/syncs/accounts/runs", &headers, "{}")).await;
        assert_eq!(run.error_status(), 403, "{marks:?}");
        assert_eq!(served.send(request("POST", "/api/v1/syncs/accounts/runs", &marks, "")).await.error_status(), 403);
        assert_eq!(served.send(request("GET", "/api/v1/syncs/accounts/plan", &marks, "")).await.error_status(), 403);
        let mut login = marks.clone();
        login.push(FORM);
        assert_eq!(served.send(request("POST", "/login", &login, "token=x")).await.error_status(), 403);
        assert_eq!(served.send(request("GET", "/", &marks, "")).await.status, 200, "a link from elsewhere works");
    }
    let own = [("origin", "http://localhost:4780"), ("sec-fetch-site", "same-origin"), json];
    assert_eq!(served.send(request("POST", "/api/v1/syncs/accounts/runs", &own, "{}")).await.status, 202);
    assert_eq!(served.service.requests().len(), 1);
}

/// Behind a reverse proxy all callers have one address: a client with an old token must not lock out the others.
#[tokio::test]
async fn after_ten_wrong_tokens_further_wrong_ones_wait_and_the_right_one_passes() {
    let (clock, served) = with_test_clock();
    for _ in 0..10 {
        assert_eq!(send_token(&served, "wrong-wrong-wrong").await.error_status(), 401);
    }
    let response = send_token(&served, "wrong-wrong-wrong").await;
    assert_eq!((response.error_status(), response.header("retry-after")), (429, "61"));
    assert_eq!(response.message(), "too many failed logins: try again in 61 s");
    let login = served.send(request("POST", "/login", &[FORM, HTML], "token=wrong-wrong-wrong")).await;
    assert_eq!(login.status, 429);
    assert!(login.body.contains("too many failed logins: try again in 61 s"), "{}", login.body);
    assert_eq!(send_token(&served, TOKEN).await.status, 200, "the right token at the same address");
    log_in(&served).await;
    let bearer = "Bearer wrong-wrong-wrong";
    let mut elsewhere = request("GET", "/api/v1/about", &[("authorization", bearer)], "");
    elsewhere.extensions_mut().insert(PeerAddress("10.0.0.9".parse().unwrap()));
    assert_eq!(served.send(elsewhere).await.error_status(), 401, "another address is not affected");
    clock.0.store(60, Ordering::Relaxed);
    assert_eq!(send_token(&served, "wrong-wrong-wrong").await.error_status(), 401);
}

#[tokio::test]
async fn a_restart_does_not_bring_back_a_session_that_was_logged_out() {
    let (_, served) = with_test_clock();
    let (cookie, open) = (log_in(&served).await, log_in(&served).await);
    let csrf = format!("csrf={}", csrf_of(&served, &cookie).await);
    assert_eq!(served.send(request("POST", "/logout", &[FORM, ("cookie", &cookie)], &csrf)).await.status, 303);
    let (_, restarted) = with_test_clock();
    for cookie in [cookie, open] {
        assert_eq!(restarted.send(request("GET", "/", &[("cookie", &cookie)], "")).await.error_status(), 401);
    }
}

#[tokio::test]
async fn a_token_is_not_checked_where_none_is_needed() {
    let served = Served::guarded();
    for _ in 0..20 {
        let headers = [("authorization", "Bearer wrong-wrong-wrong")];
        assert_eq!(served.send(request("GET", "/healthz", &headers, "")).await.status, 200);
        assert_eq!(served.send(request("GET", "/api/v1/about", &[], "")).await.error_status(), 401);
    }
    assert_eq!(send_token(&served, TOKEN).await.status, 200, "neither counts as a guess");
}

#[test]
fn a_weak_token_is_refused_at_the_start() {
    let service = Arc::new(super::Fake::default());
    let clock = Arc::new(TestClock(AtomicU64::new(0)));
    let error = super::router(service, &ServerSettings::new(Some(Secret::new("short"))), clock).unwrap_err();
    assert!(error.to_string().contains("5 characters"), "{error}");
}
