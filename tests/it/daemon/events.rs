//! The stream that open pages of the console follow, at a real daemon.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use super::{place, scheduled};
use crate::support::cli::Receiver;
use crate::support::daemon::Daemon;

const TOKEN: &str = "a-token-for-streams-77ab";

/// Opens the stream; its lines, the head included.
fn open(daemon: &Daemon, more: &str) -> BufReader<TcpStream> {
    let address = daemon.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(stream, "GET /events HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n{more}\r\n").unwrap();
    BufReader::new(stream)
}

/// The version of the next event.
#[track_caller]
fn next(stream: &mut BufReader<TcpStream>) -> u64 {
    loop {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the stream ended");
        if let Some(version) = line.strip_prefix("data: ") {
            return version.trim().parse().unwrap();
        }
    }
}

#[test]
fn open_pages_learn_of_every_change_and_do_not_hold_up_the_shutdown() {
    let receiver = Receiver::start();
    let place = place(&receiver, 20);
    place.write("token", TOKEN);
    let config = place.read("groupcast.toml");
    place.write("groupcast.toml", &format!("[daemon]\ntoken = \"${{file:token}}\"\n\n{config}"));
    place.mapping("accounts", &scheduled(""));
    let daemon = Daemon::start_with(&place, Some(TOKEN));
    // GIVEN nobody without the token follows
    let mut refused = String::new();
    open(&daemon, "Connection: close\r\n").read_to_string(&mut refused).unwrap();
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    let mut stream = open(&daemon, &format!("Authorization: Bearer {TOKEN}\r\n"));
    let mut version = next(&mut stream);
    let mut moved = |what: &str| {
        let now = next(&mut stream);
        assert!(now > version, "{what}: {now} after {version}");
        version = now;
    };
    // WHEN a run starts and ends, a sync is paused, a mapping is added
    daemon.run("accounts", &json!({}));
    moved("a run");
    std::thread::sleep(Duration::from_secs(1));
    daemon.post("/api/v1/syncs/accounts/pause", &json!({})).is(200);
    moved("a pause");
    place.mapping("more", &scheduled(""));
    moved("a reload");
    // THEN the daemon shuts down at once, with the stream open
    let stopped = daemon.stop();
    assert!(!stopped.stderr.contains("did not finish in time"), "{}", stopped.stderr);
    stopped.exits(0);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
}
