//! The service of the process that has the ledger open, over the socket beside the ledger.
//!
//! Nothing is sent to an address that is merely written in a file. The socket is in the ledger's folder and belongs to
//! the ledger's owner, and the first request asks for the process behind it: it must have this ledger open, for this
//! config folder.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::api::{About, EnqueuedRun, PlanStream, ResultStream, SCHEDULED_TIMES, Service, ServiceError, ServiceResult};
use super::open::socket;
use super::views::{
    ChangeView, DaemonView, DestinationView, ExportedGroup, GroupRequestView, GroupView, OrphanedSync, PlanRequest,
    RejectedView, RunDetail, RunView, SyncActivity, SyncDetail, SyncView, build,
};
use super::wire::{
    BACKUP, BackupRequest, DROP, DropRequest, HELLO, Hello, Line, ORPHANED, RENAME, RenameRequest, ResetRequest,
    segment,
};
use crate::config::{Project, TargetName};
use crate::error::{Error, Kind, Result};
use crate::io::file_id::FileId;
use crate::io::{Clock, SystemClock};
use crate::ledger::BackupSummary;
use crate::sync::RunOptions;
use crate::sync::verify::{Drifted, Verified};

/// Longest a query may take: the process reads its own ledger.
const RESPONSE_MAX: Duration = Duration::from_secs(70);
/// Longest the process may take to say hello.
const HELLO_MAX: Duration = Duration::from_secs(30);
/// Between two attempts to open a ledger that is in use.
const LOCK_PAUSE: Duration = Duration::from_millis(100);
/// Items that one response holds at most.
const PAGE_MAX: u64 = 1_000;

/// The service of another process.
#[derive(Clone)]
pub struct RemoteService(Arc<Peer>);

/// The process behind the socket.
struct Peer {
    socket: socket::Reachable,
    hello: Hello,
}

/// A response, read to its end.
struct Response {
    status: u16,
    body: Vec<u8>,
}

/// A name and a value of a query.
type Pair = (&'static str, String);

/// A path of the API with its query.
fn api(path: &str, query: &[(&str, String)]) -> String {
    let mut target = format!("/api/v1/{path}");
    if !query.is_empty() {
        target.push('?');
        target.push_str(&form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish());
    }
    target
}

impl RemoteService {
    /// The process that has this project's ledger open. `busy` says that there is one, and is returned when it cannot be
    /// reached.
    pub async fn find(project: &Project, busy: Error) -> Result<RemoteService> {
        let state = &project.settings.state.path;
        let Some(socket) = socket::find(state) else { return Err(busy) };
        let Ok(hello) = hello(&socket).await else { return Err(busy) };
        if FileId::of(state).ok() != Some(hello.ledger) {
            // Its ledger was moved away from here.
            return Err(busy);
        }
        let folder = &project.settings.folder;
        // One that runs in another container may see the folder under the same path on a file system of its own.
        let same_path = std::path::absolute(folder).is_ok_and(|folder| folder == hello.folder);
        let own_target = project.settings.target.as_ref().map(TargetName::as_str);
        if own_target != hello.target.as_deref() {
            let what = format!("{} runs another target with this ledger", hello.whom());
            return Err(Error::new(Kind::LedgerBusy, what)
                .advise("give each target a ledger of its own: remove `state.path` from its settings"));
        }
        if !same_path && FileId::of(folder).ok() != hello.folder_id {
            let what = format!("{} runs another project with this ledger", hello.whom());
            return Err(Error::new(Kind::LedgerBusy, what)
                .advise("run the command in that folder, or give each project a ledger of its own with `state.path`")
                .at(hello.folder.display().to_string()));
        }
        Ok(RemoteService(Arc::new(Peer { socket, hello })))
    }

    /// The process, for people.
    pub fn whom(&self) -> String {
        self.0.hello.whom()
    }

    /// Whether it is a command, which ends by itself, rather than a daemon.
    pub fn is_command(&self) -> bool {
        self.0.hello.command.is_some()
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> ServiceResult<T> {
        self.0.request("GET", &api(path, query), None).await
    }

    async fn post<T: DeserializeOwned>(&self, target: &str, body: Option<&Value>) -> ServiceResult<T> {
        self.0.request("POST", target, body).await
    }

    /// A list, page by page. `cursor` is the query that continues after an item, of which so many were read.
    async fn pages<Item: DeserializeOwned + Send>(
        &self,
        path: &str,
        fixed: Option<Pair>,
        (start, count): (Option<Pair>, u64),
        cursor: impl Fn(&Item, u64) -> Pair + Send,
    ) -> ServiceResult<Vec<Item>> {
        let (mut all, mut start): (Vec<Item>, _) = (Vec::new(), start);
        while (all.len() as u64) < count {
            let wanted = (count - all.len() as u64).min(PAGE_MAX);
            let mut query = vec![("count", wanted.to_string())];
            query.extend(fixed.clone().into_iter().chain(start.take()));
            let page: Vec<Item> = self.get(path, &query).await?;
            let full = page.len() as u64 == wanted;
            all.extend(page);
            start = all.last().map(|last| cursor(last, all.len() as u64));
            if !full {
                break;
            }
        }
        Ok(all)
    }

    /// Requests a streamed response.
    ///
    /// It may take as long as reading the source takes. The connection's end is the only limit: the other process's end ends
    /// it here, and dropping the stream ends it there.
    async fn stream<Item, End>(
        &self,
        sync: &str,
        path: &str,
        body: Option<&Value>,
    ) -> ServiceResult<ResultStream<Item, End>>
    where
        Item: DeserializeOwned + Send + 'static,
        End: DeserializeOwned + Send + 'static,
    {
        let target = format!("/local/v1/syncs/{}/{path}", segment(sync));
        let peer = Arc::clone(&self.0);
        let response = send(&peer.socket, "POST", &target, body).await.map_err(|why| peer.silent(&why))?;
        let status = response.status().as_u16();
        if !(200..300).contains(&status) {
            let body = peer.read_all(response).await?;
            return Err(peer.error(&Response { status, body }));
        }
        let mut chunks = Body::new(response.into_body()).into_data_stream();
        // Read beside the printing: a pager that waits for its reader must not hold the daemon up.
        let (sender, read) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(chunk) = chunks.next().await {
                if sender.send(chunk.map_err(|error| error.to_string())).is_err() {
                    break;
                }
            }
        });
        Ok(ResultStream::spawn(&Handle::current(), "read the response", |items, _| async move {
            peer.lines(read, &items).await
        }))
    }
}

/// The error that a command, `whom`, is using the ledger.
pub fn in_use(whom: &str) -> Error {
    Error::new(Kind::LedgerBusy, format!("{whom} is using the ledger")).advise(
        "wait until it has ended (`--lock-timeout 10m` does), or stop it; `groupcast status` shows its progress",
    )
}

/// Opens a ledger that another command may be using. So long its end is waited for, of which `waiting` hears once; the error
/// after that names the process, if it can be reached.
pub async fn open_when_free<T>(
    project: &Project,
    lock_timeout: Duration,
    open: impl AsyncFn() -> Result<T>,
    waiting: impl FnOnce(&RemoteService),
) -> Result<T> {
    let clock = SystemClock::start();
    let mut waiting = Some(waiting);
    loop {
        let busy = match open().await {
            Err(busy) if busy.kind() == Kind::LedgerBusy => busy,
            opened => return opened,
        };
        let holder = match RemoteService::find(project, busy).await {
            Ok(holder) => holder,
            // It cannot be reached, or it has ended meanwhile.
            Err(_) if clock.elapsed() < lock_timeout => {
                clock.sleep(LOCK_PAUSE).await;
                continue;
            }
            Err(busy) => return Err(busy),
        };
        if !holder.is_command() {
            // It does not end by itself.
            let what = format!("a daemon already runs with this ledger: {}", holder.whom());
            return Err(Error::new(Kind::LedgerBusy, what)
                .advise("use that one (`groupcast status` shows what it does), or stop it first"));
        }
        if clock.elapsed() >= lock_timeout {
            return Err(in_use(&holder.whom()));
        }
        if let Some(waiting) = waiting.take() {
            waiting(&holder);
        }
        clock.sleep(LOCK_PAUSE).await;
    }
}

impl Peer {
    fn whom(&self) -> String {
        self.hello.whom()
    }

    fn silent(&self, why: &str) -> Error {
        let what = format!("{} has the ledger open and does not respond: {why}", self.whom());
        Error::new(Kind::LedgerBusy, what).advise("look at its log, or stop it")
    }

    /// A response that ended too early.
    fn cut_off(&self, why: &str) -> Error {
        let what = format!("the response of {} was cut off: {why}", self.whom());
        Error::new(Kind::LedgerBusy, what).advise("look at its log, and repeat the command")
    }

    fn misunderstood(&self, error: serde_json::Error) -> Error {
        Error::new(Kind::Bug, format!("the response of {} cannot be read", self.whom()))
            .advise("use one version of groupcast for both: restart the daemon after an update")
            .because(error)
    }

    /// Sends a request and reads its whole response, however long it is.
    async fn request<T: DeserializeOwned>(&self, method: &str, target: &str, body: Option<&Value>) -> ServiceResult<T> {
        let seconds = RESPONSE_MAX.as_secs();
        let response = tokio::time::timeout(RESPONSE_MAX, self.request_patiently(method, target, body)).await;
        response.unwrap_or_else(|_| Err(self.silent(&format!("no response within {seconds} s")).into()))
    }

    /// The same without a limit to the time: the other process's end ends it.
    async fn request_patiently<T: DeserializeOwned>(
        &self,
        method: &str,
        target: &str,
        body: Option<&Value>,
    ) -> ServiceResult<T> {
        let response = send(&self.socket, method, target, body).await.map_err(|why| self.silent(&why))?;
        let status = response.status().as_u16();
        let body = self.read_all(response).await?;
        if !(200..300).contains(&status) {
            return Err(self.error(&Response { status, body }));
        }
        Ok(serde_json::from_slice(&body).map_err(|error| self.misunderstood(error))?)
    }

    async fn read_all(&self, response: hyper::Response<hyper::body::Incoming>) -> Result<Vec<u8>> {
        let mut chunks = Body::new(response.into_body()).into_data_stream();
        let mut body = Vec::new();
        while let Some(chunk) = chunks.next().await {
            body.extend_from_slice(&chunk.map_err(|error| self.cut_off(&error.to_string()))?);
        }
        Ok(body)
    }

    /// The error of a response.
    fn error(&self, response: &Response) -> ServiceError {
        ServiceError::from_response(response.status, &response.body).unwrap_or_else(|| {
            let what = format!("{} answered HTTP {} without a reason", self.whom(), response.status);
            Error::new(Kind::Bug, what).into()
        })
    }

    /// The items of a streamed response, and its end.
    async fn lines<Item: DeserializeOwned, End: DeserializeOwned>(
        &self,
        mut read: mpsc::UnboundedReceiver<Result<Bytes, String>>,
        items: &mpsc::Sender<Item>,
    ) -> ServiceResult<End> {
        let mut text = Vec::new();
        loop {
            let chunk = tokio::select! {
                chunk = read.recv() => chunk,
                // Nobody reads the items any more.
                () = items.closed() => None,
            };
            let Some(chunk) = chunk else { return Err(self.cut_off("its end is missing").into()) };
            text.extend_from_slice(&chunk.map_err(|why| self.cut_off(&why))?);
            let mut start = 0;
            while let Some(end) = text[start..].iter().position(|byte| *byte == b'\n').map(|at| start + at) {
                match serde_json::from_slice(&text[start..end]).map_err(|error| self.misunderstood(error))? {
                    // A reader that is gone has dropped the stream and with it this error.
                    Line::Item(item) => drop(items.send(item).await),
                    Line::End(end) => return Ok(end),
                    Line::Error(error) => return Err(ServiceError::from_json(&error)),
                }
                start = end + 1;
            }
            text.drain(..start);
        }
    }
}

#[async_trait]
impl Service for RemoteService {
    async fn execute(
        &self,
        sync: &str,
        options: &RunOptions,
        monitor: &dyn crate::service::api::RunMonitor,
        signal: tokio::sync::watch::Receiver<crate::delivery::Signal>,
    ) -> ServiceResult<crate::sync::report::Report> {
        crate::service::follow::execute(self, sync, options, monitor, signal).await
    }

    async fn about(&self) -> ServiceResult<About> {
        self.get("about", &[]).await
    }

    fn now(&self) -> DateTime<Utc> {
        SystemClock::start().now()
    }

    async fn ready(&self) -> ServiceResult<()> {
        let response = send(&self.0.socket, "GET", "/readyz", None).await.map_err(|why| self.0.silent(&why))?;
        let status = response.status().as_u16();
        let body = self.0.read_all(response).await?;
        if status == 200 { Ok(()) } else { Err(self.0.error(&Response { status, body })) }
    }

    async fn syncs(&self, times: usize) -> ServiceResult<Vec<SyncView>> {
        self.get("syncs", &[("next", times.to_string())]).await
    }

    async fn sync(&self, sync: &str) -> ServiceResult<SyncDetail> {
        self.get(&format!("syncs/{}", segment(sync)), &[]).await
    }

    async fn destination(&self, destination: &str) -> ServiceResult<DestinationView> {
        self.get(&format!("destinations/{}", segment(destination)), &[]).await
    }

    /// A run triggered over the socket is on record as triggered by the command line.
    async fn trigger(&self, sync: &str, options: RunOptions, _by: &str) -> ServiceResult<EnqueuedRun> {
        self.post(&format!("/local/v1/syncs/{}/runs", segment(sync)), Some(&json_of(&options))).await
    }

    async fn plan_stream(&self, sync: &str, request: PlanRequest) -> ServiceResult<PlanStream> {
        self.stream(sync, "plan", Some(&json_of(&request))).await
    }

    async fn cancel(&self, run: &str) -> ServiceResult<()> {
        self.post::<Value>(&api(&format!("runs/{}/cancel", segment(run)), &[]), None).await.map(|_| ())
    }

    async fn pause(&self, sync: &str, paused: bool) -> ServiceResult<SyncActivity> {
        let what = if paused { "pause" } else { "resume" };
        self.post(&api(&format!("syncs/{}/{what}", segment(sync)), &[]), None).await
    }

    async fn daemons(&self) -> ServiceResult<Vec<DaemonView>> {
        self.get("daemons", &[]).await
    }

    async fn drain(&self, name: Option<&str>) -> ServiceResult<DaemonView> {
        let path = name.map_or_else(|| "drain".to_owned(), |name| format!("daemons/{}/drain", segment(name)));
        self.post(&api(&path, &[]), None).await
    }

    async fn runs(&self, sync: Option<&str>, before: Option<&str>, count: u64) -> ServiceResult<Vec<RunView>> {
        let path = sync.map_or_else(|| "runs".to_owned(), |sync| format!("syncs/{}/runs", segment(sync)));
        let start = before.map(|before| ("before", before.to_owned()));
        self.pages(&path, None, (start, count), |last: &RunView, _| ("before", last.run.clone())).await
    }

    async fn latest_runs(&self, each: u64) -> ServiceResult<BTreeMap<String, Vec<RunView>>> {
        let mut latest = BTreeMap::new();
        for sync in self.syncs(SCHEDULED_TIMES).await? {
            let runs = self.runs(Some(&sync.sync), None, each).await?;
            latest.insert(sync.sync, runs);
        }
        Ok(latest)
    }

    async fn run(&self, run: &str) -> ServiceResult<RunDetail> {
        self.get(&format!("runs/{}", segment(run)), &[]).await
    }

    async fn run_changes(
        &self,
        run: &str,
        outcome: Option<&str>,
        from: u64,
        count: u64,
    ) -> ServiceResult<Vec<ChangeView>> {
        let path = format!("runs/{}/groups", segment(run));
        let (outcome, start) = (outcome.map(|name| ("outcome", name.to_owned())), Some(("from", from.to_string())));
        let cursor = |_: &ChangeView, read: u64| ("from", (from + read).to_string());
        self.pages(&path, outcome, (start, count), cursor).await
    }

    async fn rejected(&self, sync: Option<&str>, after: Option<&str>, count: u64) -> ServiceResult<Vec<RejectedView>> {
        let Some(sync) = sync else {
            return self.get("rejected", &[("count", count.clamp(1, PAGE_MAX).to_string())]).await;
        };
        let path = format!("syncs/{}/rejected", segment(sync));
        let start = after.map(|after| ("after", after.to_owned()));
        self.pages(&path, None, (start, count), |last: &RejectedView, _| ("after", last.key.clone())).await
    }

    async fn group(&self, sync: &str, key: &str, before: Option<u64>, count: u64) -> ServiceResult<GroupView> {
        let path = format!("syncs/{}/groups", segment(sync));
        let (mut found, mut before): (Option<GroupView>, _) = (None, before);
        loop {
            let read = found.as_ref().map_or(0, |group| group.history.len() as u64);
            let wanted = count.saturating_sub(read).clamp(1, PAGE_MAX);
            let mut query = vec![("key", key.to_owned()), ("count", wanted.to_string())];
            query.extend(before.map(|before| ("before", before.to_string())));
            let page: GroupView = self.get(&path, &query).await?;
            let full = page.history.len() as u64 == wanted;
            before = page.history.last().map(|last| last.seq);
            let group = match &mut found {
                None => found.insert(page),
                Some(group) => {
                    build::sent_in(&mut group.traits, &page.history);
                    group.history.extend(page.history);
                    group
                }
            };
            if !full || group.history.len() as u64 >= count {
                group.history.truncate(usize::try_from(count).unwrap_or(usize::MAX));
                return Ok(group.clone());
            }
        }
    }

    async fn requests(&self, sync: &str, key: &str) -> ServiceResult<Vec<GroupRequestView>> {
        self.get(&format!("syncs/{}/requests", segment(sync)), &[("key", key.to_owned())]).await
    }

    async fn backup(&self, file: &Path) -> ServiceResult<BackupSummary> {
        let file = std::path::absolute(file).map_err(|error| {
            Error::new(Kind::Config, "the working directory cannot be read, in which this file would be")
                .advise("name the file by its absolute path")
                .because(error)
                .at(file.display().to_string())
        })?;
        let Some(file) = file.to_str() else {
            let error = Error::new(Kind::Config, "the file's path is not valid UTF-8").advise("name another file");
            return Err(error.into());
        };
        let request = BackupRequest { file: file.into() };
        self.0.request_patiently("POST", BACKUP, Some(&json_of(&request))).await
    }

    async fn export(&self, sync: &str) -> ServiceResult<ResultStream<ExportedGroup, ()>> {
        self.stream(sync, "export", None).await
    }

    async fn reset(&self, sync: &str, group: Option<&str>, forget: bool) -> ServiceResult<u64> {
        let request = ResetRequest { group: group.map(str::to_owned), forget };
        self.post(&format!("/local/v1/syncs/{}/reset", segment(sync)), Some(&json_of(&request))).await
    }

    async fn orphaned_syncs(&self) -> ServiceResult<Vec<OrphanedSync>> {
        self.0.request("GET", ORPHANED, None).await
    }

    async fn rename(&self, from: &str, to: &str) -> ServiceResult<u64> {
        let request = RenameRequest { from: from.to_owned(), to: to.to_owned() };
        self.0.request_patiently("POST", RENAME, Some(&json_of(&request))).await
    }

    async fn drop_sync(&self, sync: &str) -> ServiceResult<u64> {
        self.0.request_patiently("POST", DROP, Some(&json_of(&DropRequest { sync: sync.to_owned() }))).await
    }

    async fn adopt(&self, sync: &str) -> ServiceResult<ResultStream<(), u64>> {
        self.stream(sync, "adopt", None).await
    }

    async fn verify(&self, sync: &str, repair: bool) -> ServiceResult<ResultStream<Drifted, Verified>> {
        self.stream(sync, &format!("verify?repair={}", u8::from(repair)), None).await
    }

    async fn metrics(&self) -> ServiceResult<String> {
        let response = send(&self.0.socket, "GET", "/metrics", None).await.map_err(|why| self.0.silent(&why))?;
        let status = response.status().as_u16();
        let body = self.0.read_all(response).await?;
        if status != 200 {
            return Err(self.0.error(&Response { status, body }));
        }
        Ok(String::from_utf8_lossy(&body).into_owned())
    }
}

fn json_of(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// The process behind the socket.
async fn hello(socket: &socket::Reachable) -> Result<Hello, String> {
    let response = async {
        let response = send(socket, "GET", HELLO, None).await?;
        let body = axum::body::to_bytes(Body::new(response.into_body()), 64 * 1024).await;
        serde_json::from_slice(&body.map_err(|error| error.to_string())?).map_err(|error| error.to_string())
    };
    tokio::time::timeout(HELLO_MAX, response).await.unwrap_or_else(|_| Err("no response".to_owned()))
}

/// Sends one request over a connection of its own, and returns the response's head with its body to read.
async fn send(
    socket: &socket::Reachable,
    method: &str,
    target: &str,
    body: Option<&Value>,
) -> Result<hyper::Response<hyper::body::Incoming>, String> {
    let stream = UnixStream::connect(socket.path()).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        http1::handshake::<_, Body>(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // It ends with the last of the request and its response.
    tokio::spawn(connection);
    let request = hyper::Request::builder().method(method).uri(target).header("host", "localhost");
    let request = match body {
        Some(body) => request.header("content-type", "application/json").body(Body::from(body.to_string())),
        None => request.body(Body::empty()),
    };
    let request = request.map_err(|error| error.to_string())?;
    sender.send_request(request).await.map_err(|error| error.to_string())
}
