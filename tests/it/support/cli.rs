//! The real program on a config folder of its own: write files, edit the warehouse, run commands, see what came out.
//!
//! Blocking on purpose: a test of the program is a person at a terminal. The receiver serves on a thread of its own.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use groupcast::io::{Clock, SystemClock};
use serde_json::{Map, Value};

use super::amplitude::{Received, Rules, Vendor};

/// The key the receiver takes. Long enough that no other text holds it by chance.
pub(crate) const KEY: &str = "K3y-7f1d2c9a4b8e6f05";
/// Longest that a command may take. A debug build on a busy machine needs about a second.
const COMMAND_MAX: Duration = Duration::from_secs(90);
/// Longest that a condition may take to come true.
const CONDITION_MAX: Duration = Duration::from_secs(60);
/// Between two looks at whether a process has ended.
const LOOK: Duration = Duration::from_millis(2);
/// Between two looks at a condition, each of which may cost a request: the processor is for what is waited for.
const CONDITION_LOOK: Duration = Duration::from_millis(10);

/// Waits until `condition` gives a value; fails when it never does.
#[track_caller]
pub(crate) fn until<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    within(CONDITION_MAX, what, condition)
}

/// The same for a condition that takes longer.
#[track_caller]
pub(crate) fn within<T>(longest: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let clock = SystemClock::start();
    while clock.elapsed() < longest {
        if let Some(value) = condition() {
            return value;
        }
        std::thread::sleep(CONDITION_LOOK);
    }
    panic!("{what}: not within {longest:?}");
}

/// A receiver that behaves like Amplitude, on a port of its own for as long as the test process lives.
#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) vendor: Vendor,
    pub(crate) url: String,
}

impl Receiver {
    /// Takes [`KEY`] only, and keeps what it receives.
    pub(crate) fn start() -> Receiver {
        let rules = Rules { api_key: Some(KEY.to_owned()), record: true, ..Rules::default() };
        let vendor = Vendor::new(rules);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = vendor.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                serving.serve(listener).await.unwrap();
            });
        });
        Receiver { vendor, url }
    }

    /// How many requests came so far.
    pub(crate) fn requests(&self) -> usize {
        self.vendor.received().len()
    }

    /// The requests after the first `seen`.
    pub(crate) fn since(&self, seen: usize) -> Vec<Received> {
        self.vendor.received().split_off(seen)
    }

    /// What is held for a group.
    pub(crate) fn group(&self, kind: &str, key: &str) -> Option<Map<String, Value>> {
        self.vendor.groups().get(&(kind.to_owned(), key.to_owned())).cloned()
    }
}

/// The identifications of a request's body, as they were sent.
pub(crate) fn identifications(body: &[u8]) -> Vec<Value> {
    let text = form_urlencoded::parse(body).find(|(name, _)| name == "identification").unwrap().1;
    serde_json::from_str(&text).unwrap()
}

/// What each group was told by these requests, in their order: key and operators.
pub(crate) fn changes_sent(requests: &[Received]) -> Vec<(String, Value)> {
    let all = requests.iter().flat_map(|request| identifications(&request.body));
    all.map(|one| (one["group_value"].as_str().unwrap().to_owned(), one["group_properties"].clone())).collect()
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Output {
    /// The exit code; none when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// Fails, showing everything, unless the exit code is this.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Output {
        assert_eq!(self.code, Some(code), "\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }

    /// Both streams.
    pub(crate) fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Fails unless both streams together hold each of these texts.
    #[track_caller]
    pub(crate) fn says(self, texts: &[&str]) -> Output {
        for text in texts {
            assert!(self.all().contains(text), "`{text}` is missing in\n{}", self.all());
        }
        self
    }

    /// Standard output as one JSON value.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.all()))
    }

    /// Standard output as one JSON value per line.
    #[track_caller]
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        let parsed = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.stdout.lines().map(parsed).collect()
    }
}

/// A process that ends with its owner: a test that fails leaves nothing running.
pub(crate) struct Owned(pub(crate) Child);

impl Drop for Owned {
    fn drop(&mut self) {
        // It has ended by itself already, unless the test gave up.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A command under way.
pub(crate) struct Running {
    child: Owned,
    readers: [Reader; 2],
}

impl Running {
    /// Sends a signal by name (`INT`, `TERM`, `KILL`).
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.0.id().to_string()).output().unwrap();
        assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// Kills it at once, as the machine's end would. It may have ended by itself just before.
    pub(crate) fn kill(mut self) -> Output {
        self.child.0.kill().unwrap();
        self.wait()
    }

    /// Whether it has ended.
    pub(crate) fn ended(&mut self) -> bool {
        self.child.0.try_wait().unwrap().is_some()
    }

    /// What it has printed to its standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.readers[1].so_far()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(mut self) -> Output {
        let clock = SystemClock::start();
        let status: ExitStatus = loop {
            if let Some(status) = self.child.0.try_wait().unwrap() {
                break status;
            }
            if clock.elapsed() > COMMAND_MAX {
                self.child.0.kill().unwrap();
                let [stdout, stderr] = self.readers.map(Reader::into_text);
                panic!("still running after {COMMAND_MAX:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}");
            }
            std::thread::sleep(LOOK);
        };
        let [stdout, stderr] = self.readers.map(Reader::into_text);
        Output { code: status.code(), stdout, stderr }
    }
}

/// What a stream has given so far, and the thread that reads it.
struct Reader {
    read: Arc<Mutex<Vec<u8>>>,
    thread: std::thread::JoinHandle<()>,
}

impl Reader {
    fn of(mut from: impl Read + Send + 'static) -> Reader {
        let read = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&read);
        let thread = std::thread::spawn(move || {
            let mut piece = [0; 4096];
            loop {
                let count = from.read(&mut piece).unwrap();
                if count == 0 {
                    return;
                }
                all.lock().unwrap().extend_from_slice(&piece[..count]);
            }
        });
        Reader { read, thread }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.read.lock().unwrap()).into_owned()
    }

    fn into_text(self) -> String {
        self.thread.join().unwrap();
        String::from_utf8(std::mem::take(&mut *self.read.lock().unwrap())).expect("the program prints UTF-8")
    }
}

/// Starts a prepared command with its streams kept.
pub(crate) fn start(mut command: Command) -> Running {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let readers = [Reader::of(child.stdout.take().unwrap()), Reader::of(child.stderr.take().unwrap())];
    Running { child: Owned(child), readers }
}

/// A config folder and the environment of the commands that run on it.
pub(crate) struct Place {
    folder: tempfile::TempDir,
    environment: BTreeMap<String, String>,
}

impl Place {
    /// An empty folder.
    pub(crate) fn new() -> Place {
        let folder = tempfile::Builder::new().prefix("groupcast-it-").tempdir().unwrap();
        // DuckDB's threads wait by spinning: with tests side by side, one each takes a third less time.
        let environment = [("GROUPCAST__STATE__THREADS".to_owned(), "1".to_owned())].into();
        Place { folder, environment }
    }

    /// A folder with a DuckDB warehouse called `warehouse`, the receiver as destination `amplitude`, and the key in
    /// the environment.
    pub(crate) fn with(receiver: &Receiver) -> Place {
        let mut place = Place::new();
        place.set("AMPLITUDE_API_KEY", KEY);
        place.write("groupcast.toml", &settings(&receiver.url, ""));
        place
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    /// Sets an environment variable of the commands.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.insert(name.to_owned(), value.to_owned());
    }

    pub(crate) fn unset(&mut self, name: &str) {
        self.environment.remove(name);
    }

    /// Writes a file, its folder included.
    pub(crate) fn write(&self, below: &str, text: &str) {
        let path = self.path(below);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, below: &str) -> String {
        std::fs::read_to_string(self.path(below)).unwrap()
    }

    /// Writes `mappings/<name>.toml`.
    pub(crate) fn mapping(&self, name: &str, text: &str) {
        self.write(&format!("mappings/{name}.toml"), text);
    }

    /// Runs SQL on `warehouse.duckdb` as its owner would, and lets go of it.
    #[track_caller]
    pub(crate) fn warehouse(&self, sql: &str) {
        let connection = duckdb::Connection::open(self.path("warehouse.duckdb")).unwrap();
        connection.execute_batch(sql).unwrap_or_else(|error| panic!("{error}\n{sql}"));
        connection.close().map_err(|(_, error)| error).unwrap();
    }

    /// The program, ready to run here: nothing of ours and no proxy is inherited.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_groupcast"));
        self.prepare(&mut command);
        command.args(arguments);
        command
    }

    /// Gives a command this folder and environment.
    pub(crate) fn prepare(&self, command: &mut Command) {
        for (name, _) in std::env::vars_os() {
            let plain = name.to_string_lossy().to_ascii_uppercase();
            let steers = ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "SSL_CERT_FILE", "SSL_CERT_DIR"];
            if plain.starts_with("GROUPCAST_") || plain.ends_with("_PROXY") || steers.contains(&plain.as_str()) {
                command.env_remove(&name);
            }
        }
        command.current_dir(self.folder.path()).envs(&self.environment);
    }

    /// Starts a command.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        start(self.command(arguments))
    }

    /// Runs a command to its end.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.start(arguments).wait()
    }

    /// The ledger's files as they are, by name.
    pub(crate) fn ledger_bytes(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        files(&self.path("state"))
    }
}

/// Every file of a folder; nothing when there is no such folder.
pub(crate) fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let paths = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// `groupcast.toml` with a DuckDB warehouse and the receiver; `more` goes to the destination.
pub(crate) fn settings(url: &str, more: &str) -> String {
    format!(
        "[sources.warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n\n\
         [destinations.amplitude]\ntype = \"amplitude\"\napi_key = \"${{AMPLITUDE_API_KEY}}\"\nbase_url = \"{url}\"\n{more}"
    )
}

/// A mapping of the table `accounts` with key `id` to groups of type `company` at `amplitude`; `traits` are the lines
/// of its section, `more` whatever follows.
pub(crate) fn mapping(traits: &str, more: &str) -> String {
    format!(
        "source = \"warehouse\"\ndestination = \"amplitude\"\n\n[model]\ntable = \"accounts\"\n\n\
         [group]\ntype = \"company\"\nkey = \"id\"\n\n[traits]\n{traits}\n{more}"
    )
}
