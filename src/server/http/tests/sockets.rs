//! What happens to clients on real sockets that dawdle, stall, break off or come in crowds?

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};

use super::service::Fake;
use super::{ServerSettings, TOKEN};
use crate::error::Result;
use crate::io::{Clock, SystemClock};
use crate::secret::Secret;
use crate::server::http::{HttpLimits, serve};

/// A server on a port of its own.
struct RunningServer {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    service: Arc<Fake>,
    finished: JoinHandle<Result<()>>,
}

/// Short enough for tests, long enough for two busy cores.
fn short() -> HttpLimits {
    HttpLimits {
        idle_min: Duration::from_secs(5),
        head: Duration::from_millis(600),
        body: Duration::from_millis(600),
        write: Duration::from_millis(600),
        grace: Duration::from_millis(1_500),
        ..HttpLimits::default()
    }
}

async fn start(settings: ServerSettings) -> RunningServer {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, service) = (listener.local_addr().unwrap(), Arc::new(Fake::default()));
    let (stop, stopped) = watch::channel(false);
    let requests = Arc::clone(&service);
    let finished =
        tokio::spawn(
            async move { serve(listener, requests, &settings, Arc::new(SystemClock::start()), stopped).await },
        );
    RunningServer { address, stop, service, finished }
}

async fn start_with(limits: HttpLimits) -> RunningServer {
    start(ServerSettings { limits, ..ServerSettings::default() }).await
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Everything until the server closes.
fn rest(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{error}: {}", String::from_utf8_lossy(&all)),
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// One response of a connection that stays open: head and body.
fn one(stream: &mut TcpStream) -> String {
    let (mut all, mut byte) = (Vec::new(), [0]);
    while !all.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&all)));
        all.push(byte[0]);
    }
    let head = String::from_utf8(all).unwrap();
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    head + &String::from_utf8(body).unwrap()
}

fn status(response: &str) -> u16 {
    response
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or_else(|| panic!("no status: {response:?}"))
}

/// Sends a request on a connection of its own.
fn fetch(address: SocketAddr, text: &str) -> String {
    let mut stream = connect(address);
    stream.write_all(text.as_bytes()).unwrap();
    rest(&mut stream)
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Waits on the system's clock, as the clients here do.
fn wait(duration: Duration) {
    std::thread::sleep(duration);
}

async fn client<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    spawn_blocking(work).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_serves_several_requests() {
    let running = start_with(short()).await;
    let address = running.address;
    client(move || {
        let mut stream = connect(address);
        for _ in 0..3 {
            stream.write_all(b"GET /api/v1/about HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            let response = one(&mut stream);
            assert_eq!(status(&response), 200);
            assert!(response.contains("\"version\""), "{response}");
        }
        stream.write_all(b"HEAD /api/v1/about HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let response = rest(&mut stream);
        assert!(response.ends_with("\r\n\r\n") && response.to_lowercase().contains("content-length: "), "{response}");
        // A panic closes nothing either.
        let mut stream = connect(address);
        for (path, expected) in [("/api/v1/syncs/panics", 500), ("/api/v1/about", 200)] {
            stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
            assert_eq!(status(&one(&mut stream)), expected);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_heads_and_idle_connections_are_closed() {
    let running = start_with(short()).await;
    let address = running.address;
    client(move || {
        let mut dripping = connect(address);
        for byte in b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaa" {
            if dripping.write_all(&[*byte]).is_err() {
                break;
            }
            wait(Duration::from_millis(30));
        }
        let response = rest(&mut dripping);
        assert!(!response.contains("200"), "{response}");
        let mut silent = connect(address);
        assert_eq!(rest(&mut silent), "");
        let mut idle = connect(address);
        idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        assert_eq!(status(&one(&mut idle)), 200);
        assert_eq!(rest(&mut idle), "");
        assert_eq!(status(&fetch(address, &get("/healthz"))), 200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_oversized_bodies_are_answered_and_closed() {
    let running = start_with(short()).await;
    let (address, service) = (running.address, Arc::clone(&running.service));
    client(move || {
        let path = "/api/v1/syncs/accounts/runs";
        let head = |length: usize| {
            format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
            )
        };
        let mut dripping = connect(address);
        dripping.write_all(head(100).as_bytes()).unwrap();
        for _ in 0..40 {
            if dripping.write_all(b" ").is_err() {
                break;
            }
            wait(Duration::from_millis(30));
        }
        let response = rest(&mut dripping);
        assert_eq!(status(&response), 408, "{response}");
        assert!(response.contains("\"advice\""), "{response}");

        assert_eq!(status(&fetch(address, &post(path, &" ".repeat(131_073)))), 413);
        assert_eq!(status(&fetch(address, &post(path, &" ".repeat(1_000_000)))), 413);
        let mut huge = connect(address);
        huge.write_all(head(10_000_000_000).as_bytes()).unwrap();
        let chunk = vec![b' '; 64 * 1024];
        let sent = (0..1_000).take_while(|_| huge.write_all(&chunk).is_ok()).count();
        assert!(sent < 1_000, "the server does not take 64 MB");

        let mut broken = connect(address);
        broken.write_all(head(100).as_bytes()).unwrap();
        broken.shutdown(Shutdown::Write).unwrap();
        let response = rest(&mut broken);
        assert!(response.is_empty() || status(&response) == 400, "{response}");
        assert!(service.requests().is_empty());
        assert_eq!(status(&fetch(address, &post(path, "{}"))), 202);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_answered_or_closed_and_harms_nobody() {
    let running = start_with(short()).await;
    let address = running.address;
    client(move || {
        let many: String = (0..200).map(|number| format!("X-{number}: y\r\n")).collect();
        for (text, expected) in [
            ("\u{0}\u{1}\u{2}\r\n\r\n".to_owned(), Some(400)),
            ("GET / HTTP/9.9\r\n\r\n".to_owned(), Some(400)),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), None),
            (format!("GET / HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"), Some(431)),
            (format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "y".repeat(40_000)), Some(431)),
            (format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "y".repeat(40_000)), Some(431)),
            ("GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n".to_owned(), Some(421)),
            ("GET /healthz HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n".to_owned(), Some(421)),
            ("GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_owned(), Some(421)),
            ("POST /api/v1/runs/r2/cancel HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nzz\r\n".to_owned(), Some(400)),
        ] {
            let mut stream = connect(address);
            // The server may close while it is still being sent to.
            let _ = stream.write_all(text.as_bytes());
            let response = rest(&mut stream);
            let shown: String = text.chars().take(80).collect();
            match expected {
                Some(expected) if !response.is_empty() => assert_eq!(status(&response), expected, "{shown}: {response}"),
                _ => assert!(!response.contains(" 200 "), "{shown}: {response}"),
            }
        }
        assert_eq!(status(&fetch(address, &get("/healthz"))), 200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_are_all_served_by_few_connections() {
    let running = start_with(HttpLimits { connections: 4, ..short() }).await;
    let address = running.address;
    let fetching: Vec<_> = (0..64)
        .map(|_| spawn_blocking(move || status(&fetch(address, &post("/api/v1/syncs/accounts/runs", "{}")))))
        .collect();
    for requests in fetching {
        assert_eq!(requests.await.unwrap(), 202);
    }
    assert_eq!(running.service.requests().len(), 64);
}

#[tokio::test(flavor = "multi_thread")]
async fn further_connections_wait_while_all_are_being_answered() {
    let limits = HttpLimits { connections: 2, head: Duration::from_secs(60), ..short() };
    let running = start_with(limits).await;
    let (address, service) = (running.address, Arc::clone(&running.service));
    client(move || {
        let open = |address| {
            let mut stream = connect(address);
            stream.write_all(b"GET /api/v1/syncs/never HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            stream
        };
        let (first, _second) = (open(address), open(address));
        let clock = SystemClock::start();
        while service.requests().len() < 2 {
            assert!(clock.elapsed() < Duration::from_secs(20), "both requests are in flight");
            wait(Duration::from_millis(5));
        }
        let mut third = connect(address);
        third.write_all(get("/healthz").as_bytes()).unwrap();
        third.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let blocked = third.read(&mut [0]).unwrap_err().kind();
        assert!(matches!(blocked, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{blocked}");
        drop(first);
        third.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        assert_eq!(status(&rest(&mut third)), 200);
    })
    .await;
}

/// What slow, idle and stuck clients send, and then nothing for as long as they can.
const SLOW: [&str; 4] = [
    "",
    "GET /healthz HTTP/1.1\r\nHost: local",
    "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "POST /api/v1/syncs/accounts/runs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
     Content-Length: 100\r\n\r\n{",
];

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_idle_clients_delay_nobody() {
    // No connection is closed for being slow before the test is over.
    let forever = Duration::from_secs(600);
    let limits = HttpLimits { connections: 32, head: forever, body: forever, write: forever, ..HttpLimits::default() };
    let pages = axum::Router::new().route("/big", axum::routing::get(|| async { vec![b'x'; 16 * 1024 * 1024] }));
    let settings = ServerSettings { limits, pages: Some(pages), ..ServerSettings::default() };
    let running = start(settings).await;
    let address = running.address;
    client(move || {
        let mut slow = Vec::new();
        for number in 0..400 {
            let mut stream = connect(address);
            let text = SLOW.get(number % 5).copied();
            // Also responses that are not read.
            let text = text.unwrap_or("GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n");
            // It may have been closed already.
            let _ = stream.write_all(text.as_bytes());
            slow.push(stream);
            if number % 10 == 9 {
                let clock = SystemClock::start();
                assert_eq!(status(&fetch(address, &get("/healthz"))), 200);
                let took = clock.elapsed();
                assert!(took < Duration::from_secs(1), "{took:?} beside {number} slow clients");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_loses_its_place() {
    let limits = HttpLimits { connections: 8, head: Duration::from_secs(60), ..short() };
    let pages = axum::Router::new().route("/big", axum::routing::get(|| async { vec![b'x'; 64 * 1024 * 1024] }));
    let settings = ServerSettings { limits, pages: Some(pages), ..ServerSettings::default() };
    let running = start(settings).await;
    let address = running.address;
    client(move || {
        let mut stalled = connect(address);
        stalled.write_all(b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        // No other client needs its slot: the connection is closed nevertheless.
        let clock = SystemClock::start();
        while stalled.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").is_ok() {
            assert!(clock.elapsed() < Duration::from_secs(20), "it still holds its place");
            wait(Duration::from_millis(50));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_lets_requests_in_flight_finish_and_cuts_off_the_rest() {
    let running = start_with(HttpLimits { head: Duration::from_secs(60), ..short() }).await;
    let address = running.address;
    let slow = spawn_blocking(move || fetch(address, &get("/api/v1/syncs/slow")));
    let never = spawn_blocking(move || fetch(address, &get("/api/v1/syncs/never")));
    let idle = spawn_blocking(move || {
        let mut stream = connect(address);
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        one(&mut stream);
        rest(&mut stream)
    });
    client(|| wait(Duration::from_millis(150))).await;
    let clock = SystemClock::start();
    running.stop.send(true).unwrap();
    assert_eq!(status(&slow.await.unwrap()), 200, "it was under way");
    assert_eq!(never.await.unwrap(), "", "it would never have finished");
    assert_eq!(idle.await.unwrap(), "");
    running.finished.await.unwrap().unwrap();
    assert!(clock.elapsed() < Duration::from_secs(10), "{:?}", clock.elapsed());
    assert!(TcpStream::connect(address).is_err(), "the port is closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_server_stops_at_once_and_so_does_one_nobody_owns() {
    let running = start_with(HttpLimits { grace: Duration::from_secs(60), ..short() }).await;
    running.stop.send(true).unwrap();
    tokio::time::timeout(Duration::from_secs(10), running.finished).await.unwrap().unwrap().unwrap();
    let running = start_with(short()).await;
    drop(running.stop);
    tokio::time::timeout(Duration::from_secs(10), running.finished).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_tokens_are_counted_by_the_address_of_the_client() {
    let running = start(ServerSettings { limits: short(), ..ServerSettings::new(Some(Secret::new(TOKEN))) }).await;
    let address = running.address;
    client(move || {
        let about = |token: &str| {
            let head = "GET /api/v1/about HTTP/1.1\r\nHost: groupcast.example\r\nConnection: close";
            status(&fetch(address, &format!("{head}\r\nAuthorization: Bearer {token}\r\n\r\n")))
        };
        assert_eq!(about(TOKEN), 200);
        for _ in 0..10 {
            assert_eq!(about("wrong-wrong-wrong"), 401);
        }
        assert_eq!(about("wrong-wrong-wrong"), 429);
        assert_eq!(about(TOKEN), 200);
        assert_eq!(status(&fetch(address, &get("/healthz"))), 200);
    })
    .await;
}

#[tokio::test]
async fn a_listener_others_can_reach_is_refused_without_a_token() {
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let (_stop, stopped) = watch::channel(false);
    let (service, clock) = (Arc::new(Fake::default()), Arc::new(SystemClock::start()));
    let error = serve(listener, service, &ServerSettings::default(), clock, stopped).await.unwrap_err();
    assert!(error.to_string().contains("there is no token"), "{error}");
}
