//! The counting receiver, as a process of its own: its address, and how much it received.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::Deserialize;

use crate::Result;

/// What was received.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(crate) struct Received {
    pub(crate) requests: u64,
    pub(crate) bytes: u64,
    /// Groups in all requests.
    #[serde(rename = "identifications")]
    pub(crate) groups: u64,
}

impl Received {
    fn since(self, earlier: Received) -> Received {
        Received {
            requests: self.requests - earlier.requests,
            bytes: self.bytes - earlier.bytes,
            groups: self.groups - earlier.groups,
        }
    }
}

/// A running receiver; it ends with this value.
pub(crate) struct Receiver {
    process: Child,
    host: String,
    earlier: Received,
}

/// How a receiver behaves beside counting.
#[derive(Default)]
pub(crate) struct Manner<'a> {
    pub(crate) recording: Option<&'a Path>,
    pub(crate) answer_after: Duration,
}

impl Receiver {
    /// Starts the built example in the folder of programs.
    pub(crate) fn start(programs: &Path, manner: &Manner<'_>) -> Result<Receiver> {
        let mut command = Command::new(programs.join("examples/receiver"));
        command.args(["--port", "0", "--count-only", "--answer-after"]);
        command.arg(manner.answer_after.as_millis().to_string());
        if let Some(file) = manner.recording {
            command.arg("--record").arg(file);
        }
        let mut process = command.stdout(Stdio::piped()).spawn()?;
        let mut first = String::new();
        BufReader::new(process.stdout.take().ok_or("the receiver has no output")?).read_line(&mut first)?;
        let host = first.split_whitespace().find_map(|word| word.strip_prefix("http://"));
        let host = host.ok_or("the receiver has no address")?.to_owned();
        Ok(Receiver { process, host, earlier: Received::default() })
    }

    /// Its address, for settings.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.host)
    }

    /// What was received since this was called last.
    pub(crate) fn received(&mut self) -> Result<Received> {
        let mut stream = TcpStream::connect(&self.host)?;
        stream.write_all(b"GET /stats HTTP/1.1\r\nhost: receiver\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let body = answer.split_once("\r\n\r\n").ok_or("the receiver's answer has no body")?.1;
        let now: Received = serde_json::from_str(body)?;
        let received = now.since(self.earlier);
        self.earlier = now;
        Ok(received)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
