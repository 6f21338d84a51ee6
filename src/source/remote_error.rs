//! Errors of DuckDB's extensions and of drivers over what they read from: a server that cannot be reached, goes away, or changes
//! a file while it is read. All of that may be otherwise the next time.

/// The operator's next step, where an error is one of these.
pub(super) fn advice(text: &str) -> Option<&'static str> {
    if text.contains("likely means the remote file has changed") {
        return Some("run again; its writer should write another file, and not change one that is read");
    }
    let lower = text.to_ascii_lowercase();
    if DENIED.iter().any(|words| lower.contains(words)) {
        return None;
    }
    LOST.iter()
        .any(|words| lower.contains(words))
        .then_some("check the network and whether the server is up, and run again; nothing was sent")
}

/// What an error says of credentials that are wrong, beside a connection that was not had.
const DENIED: [&str; 4] = ["access denied", "authentication failed", "permission denied", "no password supplied"];

/// What the libraries behind them say: those of PostgreSQL and MySQL, the one that speaks HTTP, and Go's.
const LOST: [&str; 27] = [
    "could not connect",
    "unable to connect",
    "failed to connect",
    "can't connect",
    "connection refused",
    "connection reset",
    "connection to server",
    "connection not open",
    "no connection to the server",
    "lost connection",
    "closed the connection",
    "terminating connection",
    "gone away",
    "could not resolve",
    "could not establish",
    "timed out",
    "timeout was reached",
    "failed to fetch result row",
    // The cause stands before it; a status that the server answered with is worded otherwise.
    " error for http ",
    "(http 429",
    "(http 5",
    "network is unreachable",
    "unexpected eof",
    "broken pipe",
    "no such host",
    "i/o timeout",
    "dial tcp",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_told_from_what_does_not() {
        for (text, passes) in [
            ("IO Error: Failed to fetch result row for MySQL query \"SELECT `id` FROM `crm`.`large`\":", true),
            ("IO Error: Failed to connect to MySQL database: Can't connect to server on '127.0.0.1' (115)", true),
            ("IO Error: Failed to connect to MySQL database: Access denied for user 'groupcast'@'localhost'", false),
            ("IO Error: Could not connect to server error for HTTP GET to 'http://127.0.0.1:4/lake'", true),
            (
                "HTTP Error: Unable to read: HTTP GET error reading 'https://lake/a' (HTTP 503 Service Unavailable)",
                true,
            ),
            ("HTTP Error: HTTP GET error on 'https://lake/a' (HTTP 403 Forbidden)", false),
            ("HTTP Error: ETag was initially a and now it is b, this likely means the remote file has changed.", true),
            ("unexpected EOF", true),
            ("Catalog Error: Table with name connections does not exist!", false),
        ] {
            assert_eq!(advice(text).is_some(), passes, "{text}");
        }
    }
}
