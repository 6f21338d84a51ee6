//! The listen address and the token: only this machine can connect, unless callers need a token.

use std::net::{Ipv4Addr, SocketAddr};

use crate::config::Daemon;
use crate::error::{Error, Kind, Result};
use crate::secret::Secret;

/// The shortest token: 16 random letters and digits are 95 bits: far too many to guess.
pub(super) const TOKEN_CHARS_MIN: usize = 16;

/// The longest token: it must fit well into a request's head.
const TOKEN_CHARS_MAX: usize = 1_024;

/// The address of `[daemon] listen`. Fails when it is not an address, when others could reach it and there is no token, and
/// when the token is too weak.
pub fn check_listen(daemon: &Daemon) -> Result<SocketAddr> {
    let address = parsed(&daemon.listen)?;
    check_token(daemon.token.as_ref())?;
    check_reach(address, daemon.token.as_ref())?;
    Ok(address)
}

fn parsed(listen: &str) -> Result<SocketAddr> {
    let local = listen.strip_prefix("localhost:").and_then(|port| port.parse().ok());
    if let Some(port) = local {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    listen.parse().map_err(|_| {
        Error::new(Kind::Config, format!("`listen` is not an IP address with a port: `{listen}`"))
            .advise(
                "write an IP address and a port: `127.0.0.1:4780` for this machine only, `0.0.0.0:4780` for every \
                 network, `[::1]:4780` for IPv6; other names are not resolved",
            )
            .at("[daemon]")
    })
}

/// Rejects a token that could be guessed, or that no header can carry.
pub(super) fn check_token(token: Option<&Secret>) -> Result<()> {
    let Some(token) = token else { return Ok(()) };
    let token = token.expose();
    let generate = "generate one with `openssl rand -hex 32`, keep it in an environment variable and set \
                    `token = \"${GROUPCAST_TOKEN}\"`";
    let chars = token.chars().count();
    if !(TOKEN_CHARS_MIN..=TOKEN_CHARS_MAX).contains(&chars) {
        let what = format!("`token` has {chars} characters, {TOKEN_CHARS_MIN} to {TOKEN_CHARS_MAX} are allowed");
        return Err(Error::new(Kind::Config, what).advise(generate).at("[daemon]"));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        let what = "`token` contains a space or a non-ASCII character, which an HTTP header cannot carry";
        return Err(Error::new(Kind::Config, what).advise(generate).at("[daemon]"));
    }
    Ok(())
}

/// Rejects an address that other machines can reach without a token.
pub(super) fn check_reach(address: SocketAddr, token: Option<&Secret>) -> Result<()> {
    if address.ip().to_canonical().is_loopback() || token.is_some() {
        return Ok(());
    }
    let what = format!("`listen = \"{address}\"` is reachable from other machines, and there is no token");
    Err(Error::new(Kind::Config, what)
        .advise(
            "set `token = \"${GROUPCAST_TOKEN}\"` under `[daemon]`, or listen on 127.0.0.1; over a network, add TLS: \
             a reverse proxy such as Caddy or nginx on this machine that forwards to 127.0.0.1:4780 (see docs/api.md)",
        )
        .at("[daemon]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daemon(listen: &str, token: Option<&str>) -> Daemon {
        Daemon { listen: listen.to_owned(), token: token.map(Secret::new), ..Daemon::default() }
    }

    #[test]
    fn an_address_others_can_reach_needs_a_token() {
        let good = Some("0123456789abcdef");
        for (listen, token, expected) in [
            ("127.0.0.1:4780", None, Ok("127.0.0.1:4780")),
            ("localhost:4780", None, Ok("127.0.0.1:4780")),
            ("[::1]:4780", None, Ok("[::1]:4780")),
            ("[::ffff:127.0.0.1]:4780", None, Ok("[::ffff:127.0.0.1]:4780")),
            ("127.9.9.9:0", None, Ok("127.9.9.9:0")),
            ("127.0.0.1:4780", good, Ok("127.0.0.1:4780")),
            ("0.0.0.0:4780", good, Ok("0.0.0.0:4780")),
            ("0.0.0.0:4780", None, Err("no token")),
            ("[::]:4780", None, Err("no token")),
            ("10.0.0.7:4780", None, Err("no token")),
            ("[::ffff:10.0.0.7]:4780", None, Err("no token")),
            ("127.0.0.1:4780", Some("0123456789abcde"), Err("15 characters")),
            ("127.0.0.1:4780", Some(""), Err("0 characters")),
            ("0.0.0.0:4780", Some(""), Err("0 characters")),
            ("127.0.0.1:4780", Some("0123456789 abcdef"), Err("contains a space")),
            ("127.0.0.1:4780", Some("0123456789äbcdefg"), Err("non-ASCII")),
            ("127.0.0.1", None, Err("not an IP address")),
            ("4780", None, Err("not an IP address")),
            ("localhost:99999", None, Err("not an IP address")),
            ("example.com:80", good, Err("not an IP address")),
        ] {
            let found = check_listen(&daemon(listen, token));
            match expected {
                Ok(address) => assert_eq!(found.unwrap().to_string(), address, "{listen}"),
                Err(text) => {
                    let error = found.unwrap_err();
                    assert_eq!(error.kind(), Kind::Config, "{listen}");
                    assert!(error.to_string().contains(text), "{listen}: {error}");
                    assert!(error.advice().is_some(), "{listen}");
                }
            }
        }
    }

    #[test]
    fn the_error_explains_tls_and_shows_no_token() {
        let error = check_listen(&daemon("0.0.0.0:4780", None)).unwrap_err();
        let advice = error.advice().unwrap();
        assert!(advice.contains("${GROUPCAST_TOKEN}") && advice.contains("Caddy"), "{advice}");
        let error = check_listen(&daemon("127.0.0.1:4780", Some("hunter2"))).unwrap_err();
        assert!(!error.to_string().contains("hunter2") && !error.advice().unwrap().contains("hunter2"));
    }
}
