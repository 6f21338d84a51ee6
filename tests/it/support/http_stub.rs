//! A server of a few lines: each request is read whole and answered by a function.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct StubRequest {
    /// Its first line and headers.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl StubRequest {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let headers = self.head.lines().filter_map(|line| line.split_once(':'));
        headers.filter(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }
}

/// A server on a port of its own, for as long as the test process lives.
pub(crate) struct HttpStub {
    pub(crate) url: String,
    received: Arc<Mutex<Vec<StubRequest>>>,
}

impl HttpStub {
    /// Answers with a status and a body.
    pub(crate) fn start(answer: impl Fn(&StubRequest) -> (u16, String) + Send + Sync + 'static) -> HttpStub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (received, answer) = (Arc::<Mutex<Vec<StubRequest>>>::default(), Arc::new(answer));
        let stub = HttpStub { url, received: Arc::clone(&received) };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (received, answer) = (Arc::clone(&received), Arc::clone(&answer));
                std::thread::spawn(move || {
                    // A client that goes away ends its connection.
                    let _ = serve(&stream, &received, answer.as_ref());
                });
            }
        });
        stub
    }

    /// The requests so far.
    pub(crate) fn received(&self) -> Vec<StubRequest> {
        self.received.lock().unwrap().clone()
    }
}

fn serve(
    stream: &TcpStream,
    received: &Mutex<Vec<StubRequest>>,
    answer: &dyn Fn(&StubRequest) -> (u16, String),
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let mut request = StubRequest { head, body: Vec::new() };
        let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
        request.body.resize(length, 0);
        reader.read_exact(&mut request.body)?;
        let (status, body) = answer(&request);
        received.lock().unwrap().push(request);
        let mut stream = stream;
        write!(stream, "HTTP/1.1 {status} Status\r\ncontent-length: {}\r\n\r\n{body}", body.len())?;
    }
}
