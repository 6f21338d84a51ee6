//! Checks of a request's origin: another site's page can make a browser send requests to this machine, but it can neither
//! read the responses (no CORS header is ever sent) nor fake `Host`, `Origin` and `Sec-Fetch-Site`.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, header};

use super::error::ApiError;

/// Rejects requests whose `Host` is not a name of this machine: a site whose own name suddenly resolves to this machine
/// (DNS rebinding) would count as the same origin. Only for a daemon without a token; with one the name proves nothing.
pub(super) fn check_host(request: &Request) -> Result<(), ApiError> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    let valid = host.is_some_and(is_loopback) && hosts.next().is_none();
    let target = request.uri().authority().is_none_or(|authority| is_loopback(authority.as_str()));
    if valid && target {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::MISDIRECTED_REQUEST,
        "this daemon has no token and accepts only this machine's own names as `Host`",
        "use http://localhost or http://127.0.0.1; to serve it under another name, set `token` under `[daemon]`",
    ))
}

fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    if authority.as_str().contains('@') {
        return false;
    }
    let bracketed = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
        || bracketed.is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_loopback()))
}

/// Rejects requests that a browser marks as another origin's. Programs other than browsers send no marks and pass.
pub(super) fn check_origin(headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("unreadable"));
    let host = text("host").unwrap_or_default();
    let same_origin = text("origin").is_none_or(|origin| {
        let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        rest.is_some_and(|rest| !host.is_empty() && rest.eq_ignore_ascii_case(host))
    });
    // `none`: typed into the address bar, or a bookmark.
    let same_site = text("sec-fetch-site").is_none_or(|site| matches!(site, "same-origin" | "none"));
    if same_origin && same_site {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::FORBIDDEN,
        "cross-site request rejected",
        "use the console's own pages; a reverse proxy must pass the `Host` header unchanged (nginx: \
         `proxy_set_header Host $http_host`)",
    ))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        for host in
            ["localhost", "LOCALHOST:80", "localhost:4780", "127.0.0.1", "127.0.0.1:9", "127.3.2.1", "[::1]:4780"]
        {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil@localhost",
            "0.0.0.0",
            "[::]",
            "::1",
            "localhost.",
            "10.0.0.1",
            "127.0.0.1:80:80",
            "127.1",
            "[::ffff:10.0.0.1]",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_request_with_two_hosts_or_a_foreign_target_is_rejected() {
        let request = |uri: &str, hosts: &[&'static str]| {
            let mut request = Request::builder().uri(uri).body(Body::empty()).unwrap();
            for host in hosts {
                request.headers_mut().append(header::HOST, HeaderValue::from_static(host));
            }
            request
        };
        assert!(check_host(&request("/", &["localhost"])).is_ok());
        assert!(check_host(&request("/", &[])).is_err());
        assert!(check_host(&request("/", &["localhost", "evil.example"])).is_err());
        assert!(check_host(&request("http://evil.example/", &["localhost"])).is_err());
    }

    #[test]
    fn another_origin_is_rejected() {
        for (marks, passes) in [
            (vec![], true),
            (vec![("origin", "http://localhost:4780")], true),
            (vec![("origin", "http://LOCALHOST:4780")], true),
            (vec![("origin", "https://localhost:4780"), ("sec-fetch-site", "same-origin")], true),
            (vec![("sec-fetch-site", "none")], true),
            (vec![("origin", "null")], false),
            (vec![("origin", "")], false),
            (vec![("origin", "http://localhost")], false),
            (vec![("origin", "http://localhost:4781")], false),
            (vec![("origin", "http://evil.example")], false),
            (vec![("origin", "file://localhost:4780")], false),
            (vec![("sec-fetch-site", "cross-site")], false),
            (vec![("sec-fetch-site", "same-site")], false),
            (vec![("origin", "http://localhost:4780"), ("sec-fetch-site", "cross-site")], false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("host", HeaderValue::from_static("localhost:4780"));
            for (name, value) in &marks {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            assert_eq!(check_origin(&headers).is_ok(), passes, "{marks:?}");
        }
    }
}
