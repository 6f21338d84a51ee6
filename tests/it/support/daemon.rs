//! The real daemon on a port of its own, asked over HTTP as its users ask it.

use std::sync::LazyLock;
use std::time::Duration;

use groupcast::io::http::CallLimits;
use groupcast::io::http::HttpClient;
use groupcast::io::http::Request;
use groupcast::io::http::Transport;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::cli::{Output, Place, Running, until};

/// Longest that an answer may take: a plan on a busy machine.
const LIMITS: CallLimits = CallLimits { timeout: Duration::from_secs(60), body_bytes_max: 32 * 1024 * 1024 };

/// What all requests go through. It reads the machine's certificates when it is made, which takes longer than most requests.
struct Caller {
    runtime: Runtime,
    client: HttpClient,
}

static CALLER: LazyLock<Caller> = LazyLock::new(|| Caller {
    runtime: tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap(),
    client: HttpClient::direct().unwrap(),
});

/// Where a daemon writes its address, beside a ledger in a file and beside the file that represents one in PostgreSQL.
const ADDRESSES: [&str; 2] = ["state/ledger.duckdb.daemon", "state/ledger.postgres.daemon"];

/// A daemon under way.
pub(crate) struct Daemon {
    /// Taken when it is waited for.
    running: Option<Running>,
    pub(crate) url: String,
    token: Option<String>,
}

/// An answer of the API.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) text: String,
    /// Where a form leads.
    pub(crate) location: Option<String>,
}

impl Told {
    /// Fails, showing everything, unless the status is this.
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.body
    }
}

/// The address a daemon wrote beside the ledger; none while there is no daemon.
pub(crate) fn address(place: &Place) -> Option<String> {
    let text = ADDRESSES.iter().find_map(|below| std::fs::read(place.path(below)).ok())?;
    let value: Value = serde_json::from_slice(&text).ok()?;
    value["url"].as_str().map(str::to_owned)
}

impl Daemon {
    /// Starts one and waits until it is ready.
    #[track_caller]
    pub(crate) fn start(place: &Place) -> Daemon {
        Daemon::start_with(place, None)
    }

    /// The same for a folder whose config names this token.
    #[track_caller]
    pub(crate) fn start_with(place: &Place, token: Option<&str>) -> Daemon {
        Daemon::begin(place, token, || place.start(&["daemon", "--listen", "127.0.0.1:0"]))
    }

    /// The same for a daemon that `start` starts.
    #[track_caller]
    pub(crate) fn begin(place: &Place, token: Option<&str>, start: impl FnOnce() -> Running) -> Daemon {
        // What a killed daemon left behind is not this one's.
        for below in ADDRESSES {
            let _ = std::fs::remove_file(place.path(below));
        }
        let mut running = start();
        let url = until("the daemon writes its address", || {
            if running.ended() {
                return Some(Err(()));
            }
            address(place).map(Ok)
        });
        let Ok(url) = url else { panic!("the daemon ended: {:?}", running.wait()) };
        let daemon = Daemon { running: Some(running), url, token: token.map(str::to_owned) };
        until("the daemon is ready", || (daemon.get("/readyz").status == 200).then_some(()));
        daemon
    }

    /// Sends one request.
    #[track_caller]
    pub(crate) fn send(&self, method: &'static str, path: &str, body: Option<&Value>) -> Told {
        let content_type = body.is_some().then_some("application/json");
        self.exchange(method, path, content_type, body.map(ToString::to_string).unwrap_or_default().into_bytes())
    }

    /// Sends a form of the console.
    #[track_caller]
    pub(crate) fn submit(&self, path: &str, fields: &[(&str, &str)]) -> Told {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.exchange("POST", path, Some("application/x-www-form-urlencoded"), body.into_bytes())
    }

    #[track_caller]
    fn exchange(&self, method: &'static str, path: &str, content_type: Option<&str>, body: Vec<u8>) -> Told {
        // Each on a connection of its own, as commands and browsers come.
        let mut headers = vec![("connection", "close".to_owned())];
        if let Some(token) = &self.token {
            headers.push(("authorization", format!("Bearer {token}")));
        }
        headers.extend(content_type.map(|kind| ("content-type", kind.to_owned())));
        let request = Request { method, url: format!("{}{path}", self.url), headers, body, gzip: false };
        let response = CALLER.runtime.block_on(CALLER.client.send(&request, LIMITS));
        let response = response.unwrap_or_else(|error| panic!("{method} {path}: {error:?}"));
        let location = response.header("location").map(str::to_owned);
        let text = String::from_utf8(response.body).unwrap();
        Told { status: response.status, body: serde_json::from_str(&text).unwrap_or_default(), text, location }
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Told {
        self.send("GET", path, None)
    }

    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &Value) -> Told {
        self.send("POST", path, Some(body))
    }

    /// Asks for a run and returns its id.
    #[track_caller]
    pub(crate) fn trigger(&self, sync: &str, body: &Value) -> String {
        let accepted = self.post(&format!("/api/v1/syncs/{sync}/runs"), body).is(202);
        accepted["run"].as_str().unwrap().to_owned()
    }

    /// Waits until a run has ended, and returns what is told of it.
    #[track_caller]
    pub(crate) fn ended(&self, run: &str) -> Value {
        until(&format!("{run} ends"), || {
            let detail = self.get(&format!("/api/v1/runs/{run}")).is(200);
            (detail["run"]["status"] != "running" && detail["run"]["status"] != "queued").then_some(detail)
        })
    }

    /// Runs a sync to its end.
    #[track_caller]
    pub(crate) fn run(&self, sync: &str, body: &Value) -> Value {
        let run = self.trigger(sync, body);
        self.ended(&run)
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        self.under_way().signal(name);
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.under_way().pid()
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.under_way().stderr()
    }

    /// Tells it to stop and waits for its end.
    #[track_caller]
    pub(crate) fn stop(self) -> Output {
        self.under_way().signal("TERM");
        self.stop_was_asked()
    }

    /// Waits for the end it was told to come to.
    #[track_caller]
    pub(crate) fn stop_was_asked(mut self) -> Output {
        self.running.take().unwrap().wait()
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.running.as_mut().is_none_or(Running::ended)
    }

    /// Kills it at once, as the machine's end would.
    pub(crate) fn kill(mut self) -> Output {
        self.running.take().unwrap().kill()
    }

    fn under_way(&self) -> &Running {
        self.running.as_ref().unwrap()
    }
}

/// A test that fails leaves no daemon behind.
impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            let output = running.kill();
            println!("--- the daemon's standard error\n{}", output.stderr);
        }
    }
}
