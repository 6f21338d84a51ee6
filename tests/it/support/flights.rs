//! A receiver of webhooks that watches what is on its way: which groups are in flight, from the last byte of a request to its
//! response or the end of its connection. Two requests with one group at a time are a fault of the sender.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use groupcast::io::{Clock, SystemClock};
use serde_json::{Map, Value};

/// A group: its type and its key.
type Group = (String, String);

#[derive(Default)]
struct State {
    in_flight: BTreeMap<Group, usize>,
    groups: BTreeMap<Group, Map<String, Value>>,
    faults: Vec<String>,
    requests: usize,
}

/// The receiver.
pub(crate) struct Flights {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
    delay_ms: Arc<AtomicU64>,
}

impl Flights {
    /// Starts one that takes so long for a response.
    pub(crate) fn start(delay: Duration) -> Flights {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (state, delay_ms) = (Arc::<Mutex<State>>::default(), Arc::new(AtomicU64::new(delay.as_millis() as u64)));
        let (shared, slow) = (Arc::clone(&state), Arc::clone(&delay_ms));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, delay) = (Arc::clone(&shared), Arc::clone(&slow));
                std::thread::spawn(move || serve(stream, &state, &delay));
            }
        });
        Flights { url, state, delay_ms }
    }

    pub(crate) fn slow(&self, delay: Duration) {
        self.delay_ms.store(delay.as_millis() as u64, Ordering::SeqCst);
    }

    pub(crate) fn requests(&self) -> usize {
        self.state.lock().unwrap().requests
    }

    /// Groups that were in flight twice at one time.
    pub(crate) fn faults(&self) -> Vec<String> {
        self.state.lock().unwrap().faults.clone()
    }

    /// How many groups hold this value of a trait.
    pub(crate) fn holding(&self, name: &str, value: &Value) -> usize {
        self.state.lock().unwrap().groups.values().filter(|traits| traits.get(name) == Some(value)).count()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.state.lock().unwrap().in_flight.len()
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>, delay: &AtomicU64) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(body) = request(&mut reader) {
        let body: Value = serde_json::from_slice(&body).unwrap();
        let changes = body["changes"].as_array().cloned().unwrap_or_else(|| vec![body]);
        let text = |change: &Value, name: &str| change[name].as_str().unwrap_or_default().to_owned();
        let groups: Vec<Group> =
            changes.iter().map(|change| (text(change, "group_type"), text(change, "key"))).collect();
        {
            let mut state = state.lock().unwrap();
            state.requests += 1;
            for (group, change) in groups.iter().zip(&changes) {
                let flights = state.in_flight.entry(group.clone()).or_default();
                *flights += 1;
                if *flights > 1 {
                    state.faults.push(format!("{group:?}"));
                }
                let traits = state.groups.entry(group.clone()).or_default();
                if let Some(set) = change["set"].as_object() {
                    traits.extend(set.clone());
                }
            }
        }
        let is_open = wait(&stream, Duration::from_millis(delay.load(Ordering::SeqCst)));
        {
            let mut state = state.lock().unwrap();
            for group in &groups {
                let flights = state.in_flight.get_mut(group).unwrap();
                *flights -= 1;
                if *flights == 0 {
                    state.in_flight.remove(group);
                }
            }
        }
        let response = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n{\"ok\":true}";
        if !is_open || (&stream).write_all(response).is_err() {
            return;
        }
    }
}

/// Waits, at most until the sender is gone. Returns whether it is still there.
fn wait(stream: &TcpStream, delay: Duration) -> bool {
    let clock = SystemClock::start();
    while clock.elapsed() < delay {
        stream.set_nonblocking(true).unwrap();
        let peeked = stream.peek(&mut [0]);
        stream.set_nonblocking(false).unwrap();
        let is_gone = match peeked {
            Ok(read) => read == 0,
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        };
        if is_gone {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

/// The body of the next request; none at the end of the connection.
fn request(reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut length = 0;
    let mut first = true;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() && !first {
            break;
        }
        first = false;
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}
