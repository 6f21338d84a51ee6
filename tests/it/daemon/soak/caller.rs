//! The client of a soak: a new connection for every request, as scrapers and shells have.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::support::daemon::Told;

/// Longest that the daemon may be silent.
const SILENT_MAX: Duration = Duration::from_secs(60);

/// A client of one daemon.
#[derive(Clone)]
pub(super) struct Caller(String);

impl Caller {
    pub(super) fn new(url: &str) -> Caller {
        Caller(url.strip_prefix("http://").unwrap().to_owned())
    }

    #[track_caller]
    pub(super) fn get(&self, path: &str) -> Told {
        self.send("GET", path, "")
    }

    #[track_caller]
    pub(super) fn post(&self, path: &str, body: &Value) -> Told {
        self.send("POST", path, &body.to_string())
    }

    /// HTTP/1.0, whose responses end with their connection.
    #[track_caller]
    fn send(&self, method: &str, path: &str, body: &str) -> Told {
        let exchange = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(&self.0)?;
            stream.set_read_timeout(Some(SILENT_MAX))?;
            let length = body.len();
            let head = format!(
                "{method} {path} HTTP/1.0\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n",
                self.0
            );
            stream.write_all(format!("{head}{body}").as_bytes())?;
            let mut response = String::new();
            stream.read_to_string(&mut response)?;
            Ok(response)
        };
        let response = exchange().unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let (head, text) = response.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{method} {path}: {response}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("{method} {path}: {head}"));
        Told { status, body: serde_json::from_str(text).unwrap_or_default(), text: text.to_owned(), location: None }
    }
}
