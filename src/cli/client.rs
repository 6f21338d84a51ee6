//! The daemon that has the ledger open, reached over the socket beside the ledger: one client for every command.
//!
//! Nothing is sent to an address that merely stands in a file. The socket is in the ledger's folder and belongs to the
//! ledger's owner, and the first question is whose daemon answers: that of this ledger and of this config folder, or none.

use std::path::Path;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::config::Project;
use crate::error::{Error, Kind, Result};
use crate::io::file_id::FileId;
use crate::ledger::BackupSummary;
use crate::server::http::local::{BACKUP, BackupRequest, HELLO, Hello, Line, Reset};
use crate::service::api::EnqueuedRun;
use crate::service::open::{self, socket};
use crate::service::views::{ExportedView, PlanPart, PlanView, RunDetail};
use crate::sync::RunOptions;
use crate::sync::verify::{self, Verified};

/// Longest the daemon may take to answer a question: it reads its own ledger.
const ANSWER_MAX: Duration = Duration::from_secs(70);
/// Longest it may take to say who it is.
const HELLO_MAX: Duration = Duration::from_secs(30);

/// A daemon that has the ledger open.
pub(super) struct Client {
    socket: socket::Reachable,
    hello: Hello,
}

/// An answer, read to its end.
pub(super) struct Answer {
    pub(super) status: u16,
    body: Vec<u8>,
}

/// A path segment.
pub(super) fn segment(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

/// A path of the API with its query.
pub(super) fn api(path: &str, query: &[(&str, String)]) -> String {
    let mut target = format!("/api/v1/{path}");
    if !query.is_empty() {
        target.push('?');
        target.push_str(&form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish());
    }
    target
}

impl Client {
    /// The daemon of this project. `busy` says that another process has the ledger open, and is told when that is no daemon
    /// that can be reached.
    pub(super) async fn find(project: &Project, busy: Error) -> Result<Client> {
        let state = &project.settings.state.path;
        let Some(socket) = socket::find(state) else { return Err(unreachable(busy, state)) };
        let Ok(hello) = hello(&socket).await else { return Err(unreachable(busy, state)) };
        if FileId::of(state).ok() != Some(hello.ledger) {
            // A daemon whose ledger was moved away from here.
            return Err(unreachable(busy, state));
        }
        let client = Client { socket, hello };
        // One that runs in another container may see the folder under the same path on a file system of its own.
        let folder = &project.settings.folder;
        let same_path = std::path::absolute(folder).is_ok_and(|folder| folder == client.hello.folder);
        if !same_path && FileId::of(folder).ok() != client.hello.folder_id {
            let what = format!("{} runs another project with this ledger", client.whom());
            return Err(Error::new(Kind::LedgerBusy, what)
                .advise("run the command in that folder, or give each project a ledger of its own with `state.path`")
                .at(client.hello.folder.display().to_string()));
        }
        Ok(client)
    }

    /// Where it listens and which process it is, for people.
    pub(super) fn whom(&self) -> String {
        open::address::whom(&self.hello.url, self.hello.pid)
    }

    fn silent(&self, why: &str) -> Error {
        let what = format!("{} holds the ledger and does not answer: {why}", self.whom());
        Error::new(Kind::LedgerBusy, what).advise("look at its log, or stop it")
    }

    /// An answer that ended before its end, which says nothing about what was asked.
    fn cut(&self, why: &str) -> Error {
        let what = format!("the response of {} was cut off: {why}", self.whom());
        Error::new(Kind::LedgerBusy, what).advise("look at its log, and repeat the command")
    }

    /// Asks, and reads the whole answer, however long it is.
    pub(super) async fn ask(&self, method: &str, target: &str, body: Option<&Value>) -> Result<Answer> {
        let seconds = ANSWER_MAX.as_secs();
        tokio::time::timeout(ANSWER_MAX, self.ask_patiently(method, target, body))
            .await
            .unwrap_or_else(|_| Err(self.silent(&format!("not in {seconds} s"))))
    }

    /// The same of something that takes as long as it takes: the daemon's death ends it here, and the end of this command
    /// ends it there.
    async fn ask_patiently(&self, method: &str, target: &str, body: Option<&Value>) -> Result<Answer> {
        let response = send(&self.socket, method, target, body).await.map_err(|why| self.silent(&why))?;
        let status = response.status().as_u16();
        let mut chunks = Body::new(response.into_body()).into_data_stream();
        let mut body = Vec::new();
        while let Some(chunk) = chunks.next().await {
            body.extend_from_slice(&chunk.map_err(|error| self.cut(&error.to_string()))?);
        }
        Ok(Answer { status, body })
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> Result<T> {
        let answer = self.ask("GET", &api(path, query), None).await?;
        self.read(&answer)
    }

    /// What an answer holds, or the daemon's error.
    pub(super) fn read<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T> {
        if !(200..300).contains(&answer.status) {
            let value: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            return Err(told(&value["error"]).at(self.whom()));
        }
        serde_json::from_slice(&answer.body).map_err(|error| self.misunderstood(error))
    }

    fn misunderstood(&self, error: serde_json::Error) -> Error {
        Error::new(Kind::Bug, format!("{} answers in a way this command does not understand", self.whom()))
            .advise("let both be of one version: start the daemon again after an update")
            .because(error)
    }

    /// One run; none where there is no such run, or it was taken back before it began.
    pub(super) async fn run(&self, run: &str) -> Result<Option<RunDetail>> {
        let answer = self.ask("GET", &api(&format!("runs/{}", segment(run)), &[]), None).await?;
        if answer.status == 404 { Ok(None) } else { self.read(&answer).map(Some) }
    }

    /// Asks for a run.
    pub(super) async fn trigger(&self, sync: &str, asked: &RunOptions) -> Result<EnqueuedRun> {
        let target = format!("/local/v1/syncs/{}/runs", segment(sync));
        let answer = self.ask("POST", &target, Some(&json_of(asked))).await?;
        self.read(&answer)
    }

    /// Stops a run, or takes it back. It may have ended meanwhile.
    pub(super) async fn cancel(&self, run: &str) -> Result<()> {
        let answer = self.ask("POST", &api(&format!("runs/{}/cancel", segment(run)), &[]), None).await?;
        if matches!(answer.status, 404 | 409) { Ok(()) } else { self.read::<Value>(&answer).map(|_| ()) }
    }

    /// Has the ledger copied to a new file, whose path starts in this process's working directory.
    pub(super) async fn backup(&self, file: &Path) -> Result<BackupSummary> {
        let file = std::path::absolute(file).map_err(|error| {
            Error::new(Kind::Config, "the working directory cannot be told, in which this file would be")
                .advise("name the file by its whole path")
                .because(error)
                .at(file.display().to_string())
        })?;
        let Some(file) = file.to_str() else {
            return Err(Error::new(Kind::Config, "the file's path is not valid UTF-8").advise("name another file"));
        };
        let asked = BackupRequest { file: file.into() };
        let answer = self.ask_patiently("POST", BACKUP, Some(&json_of(&asked))).await?;
        self.read(&answer)
    }

    /// What a run would do. The first `show` changes, and the requests if they are asked for, are handed to `each` as they
    /// come; the plan itself has none.
    pub(super) async fn plan(
        &self,
        sync: &str,
        asked: &RunOptions,
        (show, requests): (usize, bool),
        each: &mut (dyn FnMut(PlanPart) -> Result<()> + Send),
    ) -> Result<PlanView> {
        let path = format!("plan?show={show}&requests={}", u8::from(requests));
        self.lines(sync, &path, Some(&json_of(asked)), each).await
    }

    /// Every group that is known of a sync.
    pub(super) async fn export(
        &self,
        sync: &str,
        each: &mut (dyn FnMut(ExportedView) -> Result<()> + Send),
    ) -> Result<()> {
        self.lines(sync, "export", None, each).await
    }

    /// Has everything about a group, or about all of a sync, sent again, or forgets what is known of them.
    pub(super) async fn reset(&self, sync: &str, group: Option<&str>, forget: bool) -> Result<u64> {
        let target = format!("/local/v1/syncs/{}/reset", segment(sync));
        let asked = json_of(&Reset { group: group.map(str::to_owned), forget });
        let answer = self.ask("POST", &target, Some(&asked)).await?;
        self.read(&answer)
    }

    /// Takes the source's rows as held by the destination.
    pub(super) async fn adopt(&self, sync: &str) -> Result<u64> {
        self.lines(sync, "adopt", None, &mut |()| Ok(())).await
    }

    /// Compares what the destination holds with what it is known to hold.
    pub(super) async fn verify(&self, sync: &str, repair: bool, each: &mut verify::Sink<'_>) -> Result<Verified> {
        self.lines(sync, &format!("verify?repair={}", u8::from(repair)), None, each).await
    }

    /// Asks for what is told line by line.
    ///
    /// It may take as long as reading the source takes. The connection's end is the only limit: the daemon's death ends it
    /// here, and the end of this command ends it there.
    async fn lines<Item: DeserializeOwned, End: DeserializeOwned>(
        &self,
        sync: &str,
        path: &str,
        body: Option<&Value>,
        each: &mut (dyn FnMut(Item) -> Result<()> + Send),
    ) -> Result<End> {
        let target = format!("/local/v1/syncs/{}/{path}", segment(sync));
        let response = send(&self.socket, "POST", &target, body).await.map_err(|why| self.silent(&why))?;
        let status = response.status().as_u16();
        let mut chunks = Body::new(response.into_body()).into_data_stream();
        // Read beside the printing: a pager that waits for its reader must not hold the daemon up.
        let (sender, mut read) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(chunk) = chunks.next().await {
                if sender.send(chunk.map_err(|error| error.to_string())).is_err() {
                    break;
                }
            }
        });
        let mut open = Vec::new();
        while let Some(chunk) = read.recv().await {
            let chunk: Bytes = chunk.map_err(|why| self.cut(&why))?;
            open.extend_from_slice(&chunk);
            if !(200..300).contains(&status) {
                continue;
            }
            let mut start = 0;
            while let Some(end) = open[start..].iter().position(|byte| *byte == b'\n').map(|at| start + at) {
                let line = serde_json::from_slice(&open[start..end]).map_err(|error| self.misunderstood(error))?;
                match line {
                    Line::Item(item) => each(item)?,
                    Line::End(end) => return Ok(end),
                    Line::Error(error) => return Err(told(&error)),
                }
                start = end + 1;
            }
            open.drain(..start);
        }
        if (200..300).contains(&status) {
            return Err(self.cut("it has no end"));
        }
        self.read(&Answer { status, body: open })
    }
}

/// That another process has the ledger open, which cannot be asked: when that is a daemon, what to do about it.
fn unreachable(busy: Error, ledger: &Path) -> Error {
    match open::address::of_holder(ledger, &busy) {
        None => busy,
        Some(daemon) => busy.advise(format!(
            "{daemon} has it open and cannot be reached over the socket beside the ledger: look at its log, use its API or \
             console, or stop it"
        )),
    }
}

/// The daemon's error as ours.
fn told(error: &Value) -> Error {
    let kind = error["kind"].as_str().and_then(Kind::from_name).unwrap_or(Kind::Bug);
    let told = Error::new(kind, error["message"].as_str().unwrap_or("it gave no reason"));
    match error["advice"].as_str() {
        Some(advice) => told.advise(advice),
        None => told,
    }
}

fn json_of(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// Who listens on the socket.
async fn hello(socket: &socket::Reachable) -> Result<Hello, String> {
    let asked = async {
        let response = send(socket, "GET", HELLO, None).await?;
        let body = axum::body::to_bytes(Body::new(response.into_body()), 64 * 1024).await;
        serde_json::from_slice(&body.map_err(|error| error.to_string())?).map_err(|error| error.to_string())
    };
    tokio::time::timeout(HELLO_MAX, asked).await.unwrap_or_else(|_| Err("it says nothing".to_owned()))
}

/// Sends one request over a connection of its own, and returns the answer's head with its body to read.
async fn send(
    socket: &socket::Reachable,
    method: &str,
    target: &str,
    body: Option<&Value>,
) -> Result<hyper::Response<hyper::body::Incoming>, String> {
    let stream = UnixStream::connect(socket.path()).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        http1::handshake::<_, Body>(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // It ends with the last of the request and its answer.
    tokio::spawn(connection);
    let request = hyper::Request::builder().method(method).uri(target).header("host", "localhost");
    let request = match body {
        Some(body) => request.header("content-type", "application/json").body(Body::from(body.to_string())),
        None => request.body(Body::empty()),
    };
    let request = request.map_err(|error| error.to_string())?;
    sender.send_request(request).await.map_err(|error| error.to_string())
}
