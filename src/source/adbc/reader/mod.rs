//! The reader process and how it is spoken to.
//!
//! A driver is loaded in a process of its own: one written in Go brings a runtime and signal handlers that end the
//! process they are in, one written in C may corrupt it, and neither can be cancelled for certain. The program starts
//! itself for it. What a driver needs to know goes over standard input, so that no credential is in a command line or
//! an environment; the environment has only what drivers look up themselves. Rows come over standard output (`protocol`).
//! To cancel is to kill. Standard input ends with this process, and the reader with it.

mod child;
mod protocol;

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use arrow_ipc::reader::StreamDecoder;
use duckdb::arrow::array::RecordBatch;
use duckdb::arrow::buffer::Buffer;
use duckdb::arrow::datatypes::Schema;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use self::protocol::{DONE, Done, FAILED, FRAME_BYTES_MAX, ROWS};
pub(super) use self::protocol::{Failed, Request, Step};

/// The argument that makes the program a reader process.
pub const ARGUMENT: &str = "read-through-adbc";
/// What a driver prints is kept up to here, for the message when the process dies.
const WORDS_BYTES_MAX: usize = 2_000;
/// Longest that a driver may take to disconnect.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// Longest that a reader that was killed is waited for.
const GONE_MAX: Duration = Duration::from_secs(1);

/// Variables that a driver may look up: where programs, libraries, certificates, proxies and its own files are.
const VARIABLES: [&str; 22] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "GOOGLE_APPLICATION_CREDENTIALS",
];

/// Runs as a reader process. Returns the exit code.
pub fn run() -> u8 {
    crate::io::process::dump_no_core();
    child::run()
}

/// Why an answer did not come, or not whole.
#[derive(Debug)]
pub(super) enum Stop {
    /// The process could not be started.
    Start(std::io::Error),
    /// The driver failed.
    Failed(Failed),
    /// The process ended: how, and what the driver printed last.
    Ended { how: String, words: String },
    /// What came is not an answer.
    Malformed(String),
    /// Nothing came for so long.
    Stalled(Duration),
    /// The staging table takes no more rows.
    Refused,
}

/// A reader process. It is killed when it is dropped.
pub(super) struct Reader {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    words: Arc<Mutex<Vec<u8>>>,
}

impl Reader {
    /// Starts a reader process: this program again, or another that does the same.
    pub(super) fn start(other: Option<&Path>) -> Result<Reader, Stop> {
        let program = other.map_or_else(program, |other| Ok(other.to_path_buf()));
        let mut command = Command::new(program.map_err(Stop::Start)?);
        let variables = std::env::vars_os().filter(|(name, _)| is_passed_on(name));
        command
            .arg0("groupcast")
            .arg(ARGUMENT)
            .env_clear()
            .envs(variables)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // An interrupt at the terminal is for this process, which then ends the reader.
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(Stop::Start)?;
        let piped = || Stop::Malformed("the reader process has no pipes".to_owned());
        let stdin = child.stdin.take().ok_or_else(piped)?;
        let stdout = BufReader::with_capacity(256 * 1024, child.stdout.take().ok_or_else(piped)?);
        let words = Arc::default();
        tokio::spawn(listen(child.stderr.take().ok_or_else(piped)?, Arc::clone(&words)));
        Ok(Reader { child, stdin, stdout, words })
    }

    /// Asks for something that has no rows.
    pub(super) async fn ask(&mut self, request: &Request, limit: Duration) -> Result<Option<String>, Stop> {
        let mut answer = self.answer(request, limit).await?;
        while answer.next().await?.is_some() {}
        Ok(answer.incoming.value)
    }

    /// The schema of a statement.
    pub(super) async fn describe(&mut self, sql: String, limit: Duration) -> Result<Arc<Schema>, Stop> {
        let mut answer = self.answer(&Request::Describe { sql }, limit).await?;
        while answer.next().await?.is_some() {}
        answer
            .incoming
            .decoder
            .schema()
            .ok_or_else(|| Stop::Malformed("the reader process described nothing".to_owned()))
    }

    /// Asks, and hands out the answer batch by batch.
    pub(super) async fn answer(&mut self, request: &Request, limit: Duration) -> Result<Answer<'_>, Stop> {
        self.send(request, limit).await?;
        Ok(Answer { reader: self, limit, incoming: Incoming::new() })
    }

    /// Lets the driver disconnect, for a while; then the process ends in any case.
    pub(super) async fn close(mut self) {
        let closed = async {
            self.send(&Request::Close, CLOSE_MAX).await?;
            self.child.wait().await.map_err(Stop::Start)
        };
        if !matches!(tokio::time::timeout(CLOSE_MAX, closed).await, Ok(Ok(_))) {
            // Waits for its end as well; a process that is gone cannot be killed.
            let _ = self.child.kill().await;
        }
    }

    async fn send(&mut self, request: &Request, limit: Duration) -> Result<(), Stop> {
        let mut line = serde_json::to_vec(request).map_err(|error| Stop::Malformed(error.to_string()))?;
        line.push(b'\n');
        let sent = async {
            self.stdin.write_all(&line).await?;
            self.stdin.flush().await
        };
        match tokio::time::timeout(limit, sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.ended().await),
            Err(_) => Err(Stop::Stalled(limit)),
        }
    }

    /// How the process ended, which has closed its pipes.
    async fn ended(&mut self) -> Stop {
        let how = match tokio::time::timeout(CLOSE_MAX, self.child.wait()).await {
            Ok(Ok(status)) => status.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "its pipe was closed".to_owned(),
        };
        // What it printed last may be on its way.
        tokio::task::yield_now().await;
        let words = String::from_utf8_lossy(&self.words.lock()).trim().to_owned();
        Stop::Ended { how, words }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // A killed process lets go of files that it has locked when it is gone, a moment later: the next one wants them.
        let _ = self.child.start_kill();
        for _ in 0..GONE_MAX.as_millis() {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// An answer that is coming in.
pub(super) struct Answer<'a> {
    reader: &'a mut Reader,
    limit: Duration,
    incoming: Incoming,
}

impl Answer<'_> {
    /// How many rows were handed out so far; all of them, once there are no more.
    pub(super) fn rows(&self) -> u64 {
        self.incoming.rows
    }

    /// The next rows, or none when the answer has ended well: as many as the reader process says it sent.
    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>, Stop> {
        match self.incoming.next(&mut self.reader.stdout, self.limit).await {
            Ok(batch) => Ok(batch),
            Err(Some(stop)) => Err(stop),
            Err(None) => Err(self.reader.ended().await),
        }
    }
}

/// The frames of an answer, put together.
struct Incoming {
    decoder: StreamDecoder,
    /// Bytes that were not decoded yet.
    pending: Buffer,
    /// Whether any rows, or their schema, have arrived.
    arrived: bool,
    rows: u64,
    value: Option<String>,
}

impl Incoming {
    fn new() -> Incoming {
        let pending = Buffer::from_vec(Vec::<u8>::new());
        Incoming { decoder: StreamDecoder::new(), pending, arrived: false, rows: 0, value: None }
    }

    /// The next rows, or none when the answer has ended well. Fails without a reason where the input ends before it.
    async fn next(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        limit: Duration,
    ) -> Result<Option<RecordBatch>, Option<Stop>> {
        let unreadable = |what: &dyn std::fmt::Display| Stop::Malformed(format!("the rows cannot be read: {what}"));
        loop {
            if !self.pending.is_empty() {
                // Lengths that contradict each other end in a panic of the decoder, not in an error.
                let decode = AssertUnwindSafe(|| self.decoder.decode(&mut self.pending));
                let decoded = catch_unwind(decode).map_err(|_| unreadable(&"what arrived contradicts itself"))?;
                match decoded.map_err(|error| unreadable(&error))? {
                    Some(batch) => {
                        self.rows += batch.num_rows() as u64;
                        return Ok(Some(batch));
                    }
                    None if self.pending.is_empty() => {}
                    None => return Err(Some(unreadable(&"something follows their end"))),
                }
            }
            match tokio::time::timeout(limit, frame(from)).await.map_err(|_| Stop::Stalled(limit))? {
                Ok((ROWS, content)) => {
                    self.arrived = true;
                    self.pending = Buffer::from_vec(content);
                }
                Ok((DONE, content)) => {
                    let done: Done =
                        serde_json::from_slice(&content).map_err(|error| Stop::Malformed(error.to_string()))?;
                    if self.arrived {
                        self.decoder.finish().map_err(|error| unreadable(&error))?;
                    }
                    if done.rows != self.rows {
                        let arrived = format!("{} of {} rows arrived", self.rows, done.rows);
                        return Err(Some(Stop::Malformed(arrived)));
                    }
                    self.value = done.value;
                    return Ok(None);
                }
                Ok((FAILED, content)) => {
                    let failed = serde_json::from_slice(&content);
                    return Err(Some(failed.map_or_else(|error| Stop::Malformed(error.to_string()), Stop::Failed)));
                }
                Ok((kind, _)) => return Err(Some(Stop::Malformed(format!("a frame of the unknown kind {kind}")))),
                Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                    return Err(Some(Stop::Malformed(error.to_string())));
                }
                Err(_) => return Err(None),
            }
        }
    }
}

/// The next frame: its kind and its content. A length that no reader writes is an error of kind `InvalidData`.
async fn frame(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    from.read_exact(&mut head).await?;
    let [kind, length @ ..] = head;
    let length = u32::from_le_bytes(length) as usize;
    if ![ROWS, DONE, FAILED].contains(&kind) || length > FRAME_BYTES_MAX {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "what arrived is no frame"));
    }
    // Grows as the bytes come: a length alone must not take memory.
    let mut content = Vec::with_capacity(length.min(1024 * 1024));
    let read = from.take(length as u64).read_to_end(&mut content).await?;
    if read < length { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok((kind, content)) }
}

/// Keeps the end of what is printed, and reads on: a full pipe would stop the driver.
async fn listen(mut from: ChildStderr, words: Arc<Mutex<Vec<u8>>>) {
    let mut bytes = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        let mut words = words.lock();
        words.extend_from_slice(&bytes[..read]);
        let beyond = words.len().saturating_sub(WORDS_BYTES_MAX);
        words.drain(..beyond);
    }
}

fn is_passed_on(name: &OsString) -> bool {
    name.to_str().is_some_and(|name| VARIABLES.contains(&name) || name.starts_with("ADBC_"))
}

/// This program. The link leads to the file that this process was started from, also when another has its name since.
fn program() -> std::io::Result<PathBuf> {
    let link = PathBuf::from("/proc/self/exe");
    if link.exists() { Ok(link) } else { std::env::current_exe() }
}

#[cfg(test)]
mod tests {
    use duckdb::arrow::array::{Int64Array, StringArray};
    use duckdb::arrow::datatypes::{DataType, Field};

    use super::protocol::{RowFrames, write_frame};
    use super::*;

    const ROWS_SENT: i64 = 2_500;

    /// What a reader process writes for an answer of so many rows.
    fn answer() -> Vec<u8> {
        let fields = vec![Field::new("id", DataType::Utf8, true), Field::new("seats", DataType::Int64, true)];
        let schema = Arc::new(Schema::new(fields));
        let mut bytes = Vec::new();
        let mut rows = arrow_ipc::writer::StreamWriter::try_new(RowFrames(&mut bytes), &schema).unwrap();
        for start in (0..ROWS_SENT).step_by(500) {
            let ids: StringArray = (start..start + 500).map(|n| Some(format!("acct_{n}"))).collect();
            let seats: Int64Array = (start..start + 500).map(|n| (n % 7 > 0).then_some(n)).collect();
            rows.write(&RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(ids), Arc::new(seats)]).unwrap())
                .unwrap();
        }
        rows.finish().unwrap();
        drop(rows);
        let done = serde_json::to_vec(&Done { rows: ROWS_SENT as u64, value: None }).unwrap();
        write_frame(&mut bytes, DONE, &done).unwrap();
        bytes
    }

    /// Takes an answer as it comes; whether it ended well, and its rows.
    async fn taken(mut bytes: &[u8]) -> (bool, u64) {
        let mut incoming = Incoming::new();
        loop {
            match incoming.next(&mut bytes, Duration::from_secs(60)).await {
                Ok(Some(_)) => {}
                Ok(None) => return (true, incoming.rows),
                Err(_) => return (false, incoming.rows),
            }
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_cut_off_anywhere_is_none() {
        let whole = answer();
        assert_eq!(taken(&whole).await, (true, ROWS_SENT as u64));
        // Every cut within the first and last frames, and a thousand in between.
        let edges = (0..300).chain(whole.len() - 300..whole.len());
        let between = (0..1000).map(|n| n * whole.len() / 1000);
        for cut in edges.chain(between) {
            assert!(!taken(&whole[..cut]).await.0, "cut at {cut} of {}", whole.len());
        }
    }

    #[tokio::test]
    async fn bytes_that_are_lost_added_or_changed_never_make_another_number_of_rows_a_table() {
        let whole = answer();
        for n in 0..1000_usize {
            let at = n * 7919 % whole.len();
            let mut bytes = whole.clone();
            match n % 3 {
                0 => bytes[at] ^= 1 << (n % 8),
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, n as u8),
            }
            let (well, rows) = taken(&bytes).await;
            assert!(!well || rows == ROWS_SENT as u64, "{n}: {rows} rows");
        }
    }
}
