//! Which proxy do requests go through? Whether what the environment names is one: the HTTP library ignores what it cannot
//! read, and the request would go out directly, past a proxy that somebody wants it to go through.

use std::ffi::OsString;

use crate::error::{Error, Kind, Result};

/// The variables that the HTTP library reads, by what they are for; of each pair the first that is set counts.
const VARIABLES: [[&str; 2]; 3] =
    [["HTTP_PROXY", "http_proxy"], ["HTTPS_PROXY", "https_proxy"], ["ALL_PROXY", "all_proxy"]];

/// Checks the proxies that `environment` names. An empty variable names none.
///
/// Errors ([`Kind::Config`]): a variable that names no HTTP proxy. The text holds its name and never its value, which may
/// hold a password.
pub(super) fn check(environment: impl Fn(&str) -> Option<OsString>) -> Result<()> {
    for pair in VARIABLES {
        let Some((name, value)) = pair.into_iter().find_map(|name| Some((name, environment(name)?))) else { continue };
        if value.to_str().is_some_and(str::is_empty) {
            continue;
        }
        if let Err(what) = value.to_str().ok_or("is not text").and_then(is_proxy) {
            return Err(Error::new(Kind::Config, format!("the environment variable `{name}` {what}")).advise(
                "write it like `http://proxy.example.com:3128`, with special characters of a password percent-encoded, \
                 or unset it",
            ));
        }
    }
    Ok(())
}

fn is_proxy(value: &str) -> Result<(), &'static str> {
    if value.starts_with(['"', '\'']) {
        return Err("is in quotation marks, which belong to the shell and not to the value");
    }
    if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("is not a valid proxy URL: it holds a blank or another character that no URL can have");
    }
    let whole = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
    let authority = whole.split("://").nth(1).unwrap_or_default().split(['/', '?', '#']).next().unwrap_or_default();
    if authority.matches('@').count() > 1 {
        return Err("is not a valid proxy URL: a user's name or password holds an `@` that is not percent-encoded");
    }
    let url = url::Url::parse(&whole).map_err(|_| "is not a valid proxy URL")?;
    match url.scheme() {
        "http" | "https" => {}
        "socks4" | "socks4a" | "socks5" | "socks5h" => {
            return Err("names a SOCKS proxy, and only HTTP proxies are supported");
        }
        _ => return Err("is not a valid proxy URL: it begins with neither `http://` nor `https://`"),
    }
    match url.host_str() {
        Some(host) if !host.is_empty() => Ok(()),
        _ => Err("is not a valid proxy URL: it names no host"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(name: &str, value: &str) -> Result<()> {
        check(|asked| (asked == name).then(|| OsString::from(value)))
    }

    #[test]
    fn proxies_are_told_from_what_is_none() {
        for value in [
            "",
            "http://proxy:3128",
            "https://proxy.example.com",
            "proxy:3128",
            "proxy",
            "10.0.0.1:8080",
            "[::1]:3128",
            "http://user:p%40ss@proxy:3128/",
        ] {
            checked("HTTPS_PROXY", value).unwrap();
        }
        for value in [
            "http://",
            "http:// proxy",
            " http://proxy",
            "\"http://proxy\"",
            "ftp://proxy",
            "socks5://proxy:1080",
            "http://proxy:hunter2",
            "http://user:hun@ter2@proxy",
            "http://user:hunter2#x@proxy:3128",
            "://proxy",
            "http://proxy:99999",
            "prox\u{fc}",
        ] {
            for name in ["HTTPS_PROXY", "http_proxy", "all_proxy"] {
                let error = checked(name, value).unwrap_err();
                assert_eq!(error.kind(), Kind::Config);
                assert!(error.what().contains(&format!("`{name}`")) && error.advice().is_some(), "{error}");
                assert!(!format!("{error:?} {error} {:?}", error.advice()).contains("ter2"), "{error}");
            }
        }
    }

    #[test]
    fn the_first_that_is_set_counts() {
        let environment = |name: &str| match name {
            "HTTPS_PROXY" => Some(OsString::from("http://proxy")),
            "https_proxy" => Some(OsString::from("ftp://x")),
            _ => None,
        };
        check(environment).unwrap();
    }
}
