//! The counting mode: takes requests of every destination, acknowledges them as the vendor does, and keeps only counts.
//! For benchmarks, so it costs little: a body is searched as it arrives and never held whole.
//!
//! With a recording, every request is also written to a file, from which the benchmark replays it. That costs time, so
//! nothing is measured meanwhile.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use memchr::memmem::Finder;
use serde_json::json;
use tokio::net::TcpListener;

/// An endpoint: the end of its path, what is found once per group in a body, and the acknowledgement.
const ENDPOINTS: [(&str, &str, &str); 5] = [
    ("/groupidentify", "%22group_value%22", "success"),
    ("/2/httpapi", r#""$groupidentify""#, r#"{"code":200}"#),
    ("/batch/", r#""$groupidentify""#, r#"{"status":"Ok"}"#),
    ("/v1/batch", r#""groupId""#, r#"{"success":true}"#),
    // Whole rows, as other tools send them.
    ("/rows", r#""account_id""#, "{}"),
];

/// Any other path: a webhook.
const WEBHOOK: (&str, &str, &str) = ("", r#""group_type""#, "{}");

/// What was received so far.
#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    groups: AtomicU64,
    bytes: AtomicU64,
}

/// The counting receiver.
pub(crate) struct Counting {
    counts: Counts,
    recording: Option<Mutex<BufWriter<File>>>,
    answer_after: Duration,
}

impl Counting {
    /// A receiver that acknowledges after `answer_after`, and records into a file if there is one.
    pub(crate) fn new(recording: Option<&Path>, answer_after: Duration) -> std::io::Result<Counting> {
        let recording = recording.map(File::create).transpose()?;
        let recording = recording.map(|file| Mutex::new(BufWriter::with_capacity(1 << 20, file)));
        Ok(Counting { counts: Counts::default(), recording, answer_after })
    }

    /// Serves until it is dropped.
    pub(crate) async fn serve(self, listener: TcpListener) -> std::io::Result<()> {
        let receiver = Arc::new(self);
        loop {
            let (stream, _) = listener.accept().await?;
            // Acknowledgements are written in one piece: waiting for more to fill the packet only delays them.
            drop(stream.set_nodelay(true));
            let receiver = Arc::clone(&receiver);
            tokio::spawn(async move {
                let service = service_fn(|request| receiver.take(request));
                // The sender sees a broken connection itself.
                drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
            });
        }
    }

    async fn take(&self, request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
        let path = request.uri().path().to_owned();
        if path == "/stats" {
            return Ok(Response::new(Body::from(self.stats())));
        }
        let (_, group, acknowledgement) =
            ENDPOINTS.into_iter().find(|(end, ..)| path.ends_with(end)).unwrap_or(WEBHOOK);
        let mut body = request.into_body();
        let mut search = Search::new(group);
        let mut kept = Vec::new();
        while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            let Ok(data) = frame?.into_data() else { continue };
            search.take(&data);
            if self.recording.is_some() {
                kept.push(data);
            }
        }
        self.counts.requests.fetch_add(1, Ordering::Relaxed);
        self.counts.groups.fetch_add(search.found, Ordering::Relaxed);
        self.counts.bytes.fetch_add(search.bytes, Ordering::Relaxed);
        self.record(&path, &kept);
        if !self.answer_after.is_zero() {
            tokio::time::sleep(self.answer_after).await;
        }
        Ok(Response::new(Body::from(acknowledgement)))
    }

    fn stats(&self) -> String {
        let [requests, groups, bytes] =
            [&self.counts.requests, &self.counts.groups, &self.counts.bytes].map(|count| count.load(Ordering::Relaxed));
        if let Some(recording) = &self.recording {
            // The benchmark asks for the counts before it reads the recording.
            drop(recording.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).flush());
        }
        format!("{:#}\n", json!({"requests": requests, "identifications": groups, "bytes": bytes}))
    }

    /// Writes a request: the lengths of its path and its body in eight bytes each, then both.
    fn record(&self, path: &str, body: &[Bytes]) {
        let Some(recording) = &self.recording else { return };
        let mut recording = recording.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let length: usize = body.iter().map(Bytes::len).sum();
        let written = (|| {
            recording.write_all(&(path.len() as u64).to_le_bytes())?;
            recording.write_all(&(length as u64).to_le_bytes())?;
            recording.write_all(path.as_bytes())?;
            body.iter().try_for_each(|piece| recording.write_all(piece))
        })();
        if let Err(error) = written {
            eprintln!("receiver: failed to record a request: {error}");
        }
    }
}

/// Counts a text in a body that arrives in pieces.
struct Search {
    finder: Finder<'static>,
    /// The end of what was searched, in which the text may begin.
    end: Vec<u8>,
    found: u64,
    bytes: u64,
}

impl Search {
    fn new(text: &'static str) -> Search {
        Search { finder: Finder::new(text), end: Vec::new(), found: 0, bytes: 0 }
    }

    fn take(&mut self, piece: &[u8]) {
        let overlap = self.finder.needle().len() - 1;
        // Where two pieces meet: the end of the last one and the beginning of this one.
        self.end.extend_from_slice(&piece[..piece.len().min(overlap)]);
        self.found += self.finder.find_iter(&self.end).count() as u64 + self.finder.find_iter(piece).count() as u64;
        self.bytes += piece.len() as u64;
        if piece.len() >= overlap {
            self.end.clear();
            self.end.extend_from_slice(&piece[piece.len() - overlap..]);
        } else {
            self.end.drain(..self.end.len().saturating_sub(overlap));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Search;

    #[test]
    fn a_text_is_counted_once_wherever_the_pieces_part() {
        let body = br#"{"group_type":1,"group_type":2}["group_type"]"#;
        for size in 1..=body.len() {
            let mut search = Search::new(r#""group_type""#);
            body.chunks(size).for_each(|piece| search.take(piece));
            assert_eq!((search.found, search.bytes), (3, body.len() as u64), "pieces of {size}");
        }
    }
}
