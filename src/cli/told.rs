//! Who tells about syncs, runs and groups: the ledger, or the daemon that holds it? Commands ask here and do not care.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::config::Project;
use crate::daemon::desk::Accepted;
use crate::delivery::Outside;
use crate::destination::{Reply, Request};
use crate::env::Transport;
use crate::error::{Error, Kind, Result};
use crate::ledger::Ledger;
use crate::ledger::local::LocalLedger;
use crate::mapping::MappingFile;
use crate::open;
use crate::open::address::{self, Address};
use crate::view::{Ask, GroupView, PlanView, RejectedView, RunDetail, RunView, SyncView, ask};

/// Longest the daemon may take to answer a question: it reads its own ledger.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Longest it may take to make a plan, as long as its own limit.
const PLAN_MAX: Duration = Duration::from_secs(610);
/// Groups that one answer holds at most.
const PAGE_MAX: u64 = 1_000;

/// Who tells.
pub(super) enum Teller {
    /// The ledger itself: no daemon holds it.
    Ledger(LocalLedger),
    /// The daemon.
    Daemon(Client),
}

impl Teller {
    /// The ledger, or, when a daemon holds it, that daemon.
    pub(super) async fn open(project: &Project) -> Result<Teller> {
        match open::ledger_to_read(project).await {
            Ok(ledger) => {
                super::warn_of_older(&ledger);
                Ok(Teller::Ledger(ledger))
            }
            Err(busy) if busy.kind() == Kind::LedgerBusy => Ok(Teller::Daemon(Client::find(project, busy).await?)),
            Err(error) => Err(error),
        }
    }

    /// How these syncs stand, each with the next `fires` times of its schedule.
    pub(super) async fn syncs(
        &self,
        project: &Project,
        files: &[&MappingFile],
        now: DateTime<Utc>,
        fires: usize,
    ) -> Result<Vec<SyncView>> {
        match self {
            Teller::Ledger(ledger) => {
                let mut memories = ask::memories(ledger).await?;
                let mut views = Vec::with_capacity(files.len());
                for file in files {
                    let timetable = ask::timetable(project, &file.mapping, ledger, now).await?;
                    let memory = memories.remove(&file.mapping.name).unwrap_or_default();
                    views.push(ask::sync(project, &file.mapping, memory, timetable, now, fires));
                }
                Ok(views)
            }
            Teller::Daemon(client) => {
                let mut views: Vec<SyncView> = client.get("syncs", &[("fires", fires.to_string())]).await?;
                views.retain(|view| files.iter().any(|file| file.mapping.name == view.sync));
                Ok(views)
            }
        }
    }

    /// The latest runs.
    pub(super) async fn runs(&self, sync: Option<&str>, count: u64) -> Result<Vec<RunView>> {
        match self {
            Teller::Ledger(ledger) => Ok(ledger.runs(sync, count).await?.into_iter().map(ask::run).collect()),
            Teller::Daemon(client) => {
                let mut all: Vec<RunView> = Vec::new();
                while (all.len() as u64) < count {
                    let wanted = (count - all.len() as u64).min(PAGE_MAX);
                    let mut query = vec![("count", wanted.to_string())];
                    query.extend(all.last().map(|last| ("before", last.run.clone())));
                    let path = sync.map_or_else(|| "runs".to_owned(), |sync| format!("syncs/{}/runs", segment(sync)));
                    let page: Vec<RunView> = client.get(&path, &query).await?;
                    let full = page.len() as u64 == wanted;
                    all.extend(page);
                    if !full {
                        break;
                    }
                }
                Ok(all)
            }
        }
    }

    /// One run.
    pub(super) async fn run(&self, run: &str) -> Result<RunDetail> {
        match self {
            Teller::Ledger(ledger) => ask::run_detail(ledger, run).await?.ok_or_else(|| {
                Error::new(Kind::Config, format!("no run is called `{run}`")).advise("`groupcast runs` lists them")
            }),
            Teller::Daemon(client) => client.run(run).await,
        }
    }

    /// Rejected groups of a sync.
    pub(super) async fn rejected(&self, sync: &str, count: u64) -> Result<Vec<RejectedView>> {
        match self {
            Teller::Ledger(ledger) => ask::rejected(ledger, sync, count).await,
            Teller::Daemon(client) => {
                let query = [("count", count.clamp(1, PAGE_MAX).to_string())];
                client.get(&format!("syncs/{}/rejected", segment(sync)), &query).await
            }
        }
    }

    /// What is known of a group; none when nothing is.
    pub(super) async fn group(&self, sync: &str, key: &str, count: u64) -> Result<Option<GroupView>> {
        match self {
            Teller::Ledger(ledger) => ask::group(ledger, sync, key, count).await,
            Teller::Daemon(client) => {
                let query = [("key", key.to_owned()), ("count", count.clamp(1, PAGE_MAX).to_string())];
                match client.ask("GET", &format!("syncs/{}/groups", segment(sync)), &query, None, ANSWER_MAX).await? {
                    reply if reply.status == 404 => Ok(None),
                    reply => client.read(&reply).map(Some),
                }
            }
        }
    }
}

/// A daemon that holds the ledger.
pub(super) struct Client {
    address: Address,
    token: Option<String>,
    outside: Outside,
}

/// A path segment.
fn segment(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

impl Client {
    /// The daemon that wrote its address beside the ledger. `busy` is told when there is none.
    pub(super) async fn find(project: &Project, busy: Error) -> Result<Client> {
        let Some(address) = address::read(&address::path(&project.settings.state.path)) else { return Err(busy) };
        let token = project.settings.daemon.token.as_ref().map(|token| token.expose().to_owned());
        let client = Client { address, token, outside: Outside::direct()? };
        match client.ask("GET", "about", &[], None, ANSWER_MAX).await {
            Ok(reply) => client.read::<Value>(&reply).map(|_| client),
            // A file left behind by a daemon that was killed, and something else has the ledger open now.
            Err(_) => Err(busy),
        }
    }

    /// The daemon, if one holds the ledger of this project at this moment.
    pub(super) async fn of(project: &Project) -> Option<Client> {
        let path: PathBuf = address::path(&project.settings.state.path);
        if !Path::exists(&path) {
            return None;
        }
        Client::find(project, Error::new(Kind::LedgerBusy, "no daemon answers")).await.ok()
    }

    /// Where it listens and which process it is, for people.
    pub(super) fn whom(&self) -> String {
        self.address.whom()
    }

    async fn ask(
        &self,
        method: &'static str,
        path: &str,
        query: &[(&str, String)],
        body: Option<&Value>,
        deadline: Duration,
    ) -> Result<Reply> {
        let mut url = format!("{}/api/v1/{path}", self.address.url);
        if !query.is_empty() {
            url.push('?');
            url.push_str(&form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish());
        }
        let mut headers = Vec::new();
        if let Some(token) = &self.token {
            headers.push(("authorization", format!("Bearer {token}")));
        }
        if body.is_some() {
            headers.push(("content-type", "application/json".to_owned()));
        }
        let body = body.map(ToString::to_string).unwrap_or_default().into_bytes();
        let request = Request { method, url, headers, body, gzip: false };
        self.outside.send(&request, deadline).await.map_err(|silent| {
            Error::new(
                Kind::LedgerBusy,
                format!("{} holds the ledger and does not answer: {}", self.whom(), silent.what),
            )
            .advise("look at its log, or stop it")
        })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> Result<T> {
        let reply = self.ask("GET", path, query, None, ANSWER_MAX).await?;
        self.read(&reply)
    }

    /// The answer, or the daemon's error.
    fn read<T: DeserializeOwned>(&self, reply: &Reply) -> Result<T> {
        let value: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        if !(200..300).contains(&reply.status) {
            let error = &value["error"];
            let kind = error["kind"].as_str().and_then(Kind::from_name).unwrap_or(Kind::Bug);
            let message = error["message"].as_str().unwrap_or("it gave no reason");
            let told = Error::new(kind, message);
            let told = match error["advice"].as_str() {
                Some(advice) => told.advise(advice),
                None if reply.status == 401 => told.advise("give this command the `daemon.token` the daemon has"),
                None => told,
            };
            return Err(told.at(self.whom()));
        }
        serde_json::from_value(value).map_err(|error| {
            Error::new(Kind::Bug, format!("{} answers in a way this command does not understand", self.whom()))
                .advise("let both be of one version: start the daemon again after an update")
                .because(error)
        })
    }

    /// One run.
    pub(super) async fn run(&self, run: &str) -> Result<RunDetail> {
        let reply = self.ask("GET", &format!("runs/{}", segment(run)), &[], None, ANSWER_MAX).await?;
        self.read(&reply)
    }

    /// Asks for a run.
    pub(super) async fn trigger(&self, sync: &str, asked: &Ask) -> Result<Accepted> {
        let body = json_of(asked);
        let path = format!("syncs/{}/runs", segment(sync));
        let reply = self.ask("POST", &path, &[], Some(&body), ANSWER_MAX).await?;
        self.read(&reply)
    }

    /// Stops a run.
    pub(super) async fn cancel(&self, run: &str) -> Result<()> {
        let reply = self.ask("POST", &format!("runs/{}/cancel", segment(run)), &[], None, ANSWER_MAX).await?;
        self.read::<Value>(&reply).map(|_| ())
    }

    /// What a run would do, with the first `show` changes.
    pub(super) async fn plan(&self, sync: &str, asked: &Ask, show: usize) -> Result<PlanView> {
        let mut body = json_of(asked);
        body["dry_run"] = true.into();
        let query = [("show", show.min(PAGE_MAX as usize).to_string())];
        let path = format!("syncs/{}/runs", segment(sync));
        let reply = self.ask("POST", &path, &query, Some(&body), PLAN_MAX).await?;
        self.read(&reply)
    }
}

fn json_of(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}
