//! Proxies: checks those that the environment names. The HTTP library ignores what it cannot read, and requests would go out
//! directly, past a proxy that is meant to see them.

use std::ffi::OsString;
use std::net::IpAddr;

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

/// The hosts that `NO_PROXY` excepts, in all the ways it is written: the HTTP library knows commas, names and networks, and
/// sends through the proxy what is there as `*.example.com`, `example.com:443`, or behind a blank.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Exceptions(Vec<Exception>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Exception {
    host: Host,
    /// Only this port, if one is named.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    /// A name and everything below it.
    Name(String),
    /// A name with `*` for any letters.
    Pattern(String),
    /// The bits of an address that must agree, and how many.
    Network(IpAddr, u32),
}

impl Exceptions {
    /// What `environment` excepts.
    pub(super) fn of(environment: impl Fn(&str) -> Option<OsString>) -> Exceptions {
        let written = environment("NO_PROXY").or_else(|| environment("no_proxy")).unwrap_or_default();
        let written = written.to_string_lossy();
        let entries = written.split(|letter: char| letter.is_whitespace() || ",;".contains(letter));
        Exceptions(entries.filter(|entry| !entry.is_empty()).map(Exception::of).collect())
    }

    /// Whether nothing is excepted.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether requests to this address go past the proxy.
    pub(super) fn except(&self, url: &str) -> bool {
        let Ok(url) = url::Url::parse(url) else { return false };
        let (Some(host), port) = (url.host_str(), url.port_or_known_default()) else { return false };
        let host = host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
        self.0
            .iter()
            .any(|exception| exception.port.is_none_or(|wanted| Some(wanted) == port) && exception.host.holds(&host))
    }
}

impl Exception {
    fn of(entry: &str) -> Exception {
        let entry = entry.to_ascii_lowercase();
        // An address with colons has its port behind brackets.
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) if host.ends_with(']') || !host.contains(':') => match port.parse() {
                Ok(port) => (host, Some(port)),
                Err(_) => (entry.as_str(), None),
            },
            _ => (entry.as_str(), None),
        };
        let host = host.trim_matches(['[', ']']).trim_end_matches('.');
        let (address, bits) = host.split_once('/').map_or((host, None), |(address, bits)| (address, Some(bits)));
        let host = match (address.parse::<IpAddr>(), bits.map(str::parse)) {
            (Ok(address), None) => Host::Network(address, u32::MAX),
            (Ok(address), Some(Ok(bits))) => Host::Network(address, bits),
            _ if host.contains('*') => Host::Pattern(host.to_owned()),
            _ => Host::Name(host.trim_start_matches('.').to_owned()),
        };
        Exception { host, port }
    }
}

impl Host {
    fn holds(&self, host: &str) -> bool {
        match self {
            Host::Name(name) => {
                host == name || host.strip_suffix(name.as_str()).is_some_and(|above| above.ends_with('.'))
            }
            Host::Pattern(pattern) => fits(pattern, host),
            Host::Network(network, bits) => match (network, host.parse()) {
                (IpAddr::V4(network), Ok(IpAddr::V4(host))) => {
                    let shift = 32_u32.saturating_sub(*bits);
                    u32::from(*network).checked_shr(shift) == u32::from(host).checked_shr(shift)
                }
                (IpAddr::V6(network), Ok(IpAddr::V6(host))) => {
                    let shift = 128_u32.saturating_sub(*bits);
                    u128::from(*network).checked_shr(shift) == u128::from(host).checked_shr(shift)
                }
                _ => false,
            },
        }
    }
}

/// Whether a text fits a pattern in which `*` matches any letters.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| fits(after, &rest[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_read_in_every_way_they_are_written() {
        for (written, url, expected) in [
            ("api.corp.com", "https://api.corp.com/x", true),
            ("corp.com", "https://api.corp.com", true),
            (".corp.com", "https://api.corp.com", true),
            ("*.corp.com", "https://api.corp.com", true),
            ("*.corp.com", "https://a.b.corp.com", true),
            ("*.corp.com", "https://corp.com", false),
            ("*.corp.com", "https://evilcorp.com", false),
            ("corp.com", "https://evilcorp.com", false),
            ("CORP.com.", "https://API.corp.COM./x", true),
            ("corp.com:443", "https://corp.com/x", true),
            ("corp.com:443", "http://corp.com/x", false),
            ("corp.com:8443", "https://corp.com:8443/x", true),
            ("localhost corp.com", "https://corp.com", true),
            ("localhost, corp.com", "https://corp.com", true),
            ("localhost;corp.com", "https://corp.com", true),
            ("a,,*", "https://corp.com", true),
            ("10.0.0.0/8", "http://10.1.2.3:9/x", true),
            ("10.0.0.0/8", "http://11.1.2.3:9/x", false),
            ("0.0.0.0/0", "http://11.1.2.3:9/x", true),
            ("10.1.2.3", "http://10.1.2.3:9/x", true),
            ("10.1.2.3:9", "http://10.1.2.3:9/x", true),
            ("10.1.2.3:8", "http://10.1.2.3:9/x", false),
            ("192.168.*", "http://192.168.7.7/x", true),
            ("::1", "http://[::1]:9/x", true),
            ("[::1]:9", "http://[::1]:9/x", true),
            ("fd00::/8", "http://[fd00::7]/x", true),
            ("fd00::/8", "http://[fe00::7]/x", false),
            ("", "http://corp.com", false),
            (" , ;", "http://corp.com", false),
        ] {
            let exceptions = Exceptions::of(|name| (name == "no_proxy").then(|| OsString::from(written)));
            assert_eq!(exceptions.except(url), expected, "{written:?} {url}");
        }
        assert!(Exceptions::of(|_| None).is_empty());
    }

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
