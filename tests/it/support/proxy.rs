//! What lies between the program and a server: passes bytes on, and can hold an answer in its middle.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::cli::until;

/// Bytes of an answer's beginning that are passed on while it is held: more than connecting and describing take, less than
/// the rows of a large model.
const HELD_AFTER: usize = 1024 * 1024;

#[derive(Default)]
struct State {
    /// Where connections lead to.
    port: u16,
    /// Whether answers are held.
    holds: bool,
    /// Whether one is.
    held: bool,
    /// Connections that the program has not closed.
    open: usize,
    /// Bytes that were answered.
    answered: u64,
}

/// A port that leads to an engine's.
#[derive(Clone)]
pub(crate) struct Proxy {
    port: u16,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Proxy {
    pub(crate) fn start() -> Proxy {
        Proxy::start_at(Ipv4Addr::LOCALHOST)
    }

    /// The same at another address of this machine.
    pub(crate) fn start_at(address: Ipv4Addr) -> Proxy {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let proxy = Proxy { port: listener.local_addr().unwrap().port(), state: Arc::default() };
        let accepting = proxy.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let port = accepting.state.0.lock().unwrap().port;
                let Ok(engine) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                accepting.pass(client, engine);
            }
        });
        proxy
    }

    /// The port that the program connects to.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Leads to this port of the engine from now on.
    pub(crate) fn lead_to(&self, port: u16) {
        self.state.0.lock().unwrap().port = port;
    }

    /// Holds the next answers in their middle.
    pub(crate) fn hold(&self) {
        let mut state = self.state.0.lock().unwrap();
        (state.holds, state.held) = (true, false);
    }

    /// Lets go of what is held.
    pub(crate) fn release(&self) {
        self.state.0.lock().unwrap().holds = false;
        self.state.1.notify_all();
    }

    pub(crate) fn is_holding(&self) -> bool {
        self.state.0.lock().unwrap().held
    }

    /// Bytes that the engine has answered with so far.
    pub(crate) fn answered(&self) -> u64 {
        self.state.0.lock().unwrap().answered
    }

    /// Waits until the program has closed its connections.
    #[track_caller]
    pub(crate) fn closes(&self) {
        until("the program closes its connections", || (self.state.0.lock().unwrap().open == 0).then_some(()));
    }

    fn pass(&self, client: TcpStream, engine: TcpStream) {
        self.state.0.lock().unwrap().open += 1;
        for stream in [&client, &engine] {
            stream.set_nodelay(true).unwrap();
        }
        let (mut asks, mut answers) = (client.try_clone().unwrap(), engine.try_clone().unwrap());
        let proxy = self.clone();
        let (mut to_engine, mut to_client) = (engine, client);
        std::thread::spawn(move || {
            let mut piece = [0; 16 * 1024];
            while let Ok(count @ 1..) = asks.read(&mut piece) {
                if to_engine.write_all(&piece[..count]).is_err() {
                    break;
                }
            }
            let _ = to_engine.shutdown(Shutdown::Both);
            proxy.state.0.lock().unwrap().open -= 1;
        });
        let proxy = self.clone();
        std::thread::spawn(move || {
            let (mut piece, mut passed) = ([0; 16 * 1024], 0);
            while let Ok(count @ 1..) = answers.read(&mut piece) {
                passed += count;
                proxy.state.0.lock().unwrap().answered += count as u64;
                if passed > HELD_AFTER {
                    proxy.wait();
                }
                if to_client.write_all(&piece[..count]).is_err() {
                    break;
                }
            }
            let _ = to_client.shutdown(Shutdown::Both);
        });
    }

    /// Waits while answers are held, though not for ever: a test that failed leaves its threads.
    fn wait(&self) {
        let (state, released) = &*self.state;
        let mut state = state.lock().unwrap();
        state.held |= state.holds;
        drop(released.wait_timeout_while(state, Duration::from_secs(120), |state| state.holds).unwrap());
    }
}
