//! Who tells about syncs, runs and groups: the ledger, or the daemon that holds it? Commands ask here and do not care.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::client::{Client, api, segment};
use crate::config::Project;
use crate::error::{Error, Kind, Result};
use crate::ledger::Ledger;
use crate::mapping::MappingFile;
use crate::service::open;
use crate::service::views::{ExportedView, GroupView, RejectedView, RunDetail, RunView, SyncView, ask};

/// Groups that one answer holds at most.
const PAGE_MAX: u64 = 1_000;

/// Groups per page of an export.
const EXPORT_PAGE: u64 = 10_000;

/// Who tells.
pub(super) enum Teller {
    /// The ledger itself: no daemon holds it.
    Ledger(Arc<dyn Ledger>),
    /// The daemon.
    Daemon(Client),
}

impl Teller {
    /// The ledger, or, when a daemon holds it, that daemon.
    pub(super) async fn open(project: &Project) -> Result<Teller> {
        match open::ledger_to_read(project).await {
            Ok(ledger) => {
                super::warn_of_older(ledger.as_ref());
                Ok(Teller::Ledger(ledger))
            }
            Err(busy) if busy.kind() == Kind::LedgerBusy => Ok(Teller::Daemon(Client::find(project, busy).await?)),
            Err(error) => Err(error),
        }
    }

    /// The ledger to write in, or, when a daemon holds it, that daemon.
    pub(super) async fn open_to_write(project: &Project) -> Result<Teller> {
        match open::ledger(project).await {
            Ok(ledger) => {
                super::warn_of_older(ledger.as_ref());
                Ok(Teller::Ledger(ledger))
            }
            Err(busy) if busy.kind() == Kind::LedgerBusy => Ok(Teller::Daemon(Client::find(project, busy).await?)),
            Err(error) => Err(error),
        }
    }

    /// Every group that is known of a sync, in key order.
    pub(super) async fn export(
        &self,
        sync: &str,
        each: &mut (dyn FnMut(ExportedView) -> Result<()> + Send),
    ) -> Result<()> {
        let ledger = match self {
            Teller::Ledger(ledger) => ledger,
            Teller::Daemon(client) => return client.export(sync, each).await,
        };
        let mut after: Option<String> = None;
        loop {
            let page = ledger.history().groups(sync, after.as_deref(), EXPORT_PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.key.clone());
            page.into_iter().try_for_each(|group| each(ask::exported(sync, group)))?;
        }
    }

    /// How many groups of a sync the destination is known to hold.
    pub(super) async fn known(&self, sync: &str) -> Result<u64> {
        match self {
            Teller::Ledger(ledger) => Ok(ledger.history().group_counts(sync).await?.synced),
            Teller::Daemon(client) => {
                let views: Vec<SyncView> = client.get("syncs", &[]).await?;
                Ok(views.iter().find(|view| view.sync == sync).map_or(0, |view| view.standing.synced))
            }
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
                let mut memories = ask::memories(ledger.history()).await?;
                let mut views = Vec::with_capacity(files.len());
                for file in files {
                    let timetable = ask::timetable(project, &file.mapping, ledger.history(), now).await?;
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
            Teller::Ledger(ledger) => {
                Ok(ledger.history().runs(sync, None, count).await?.into_iter().map(ask::run).collect())
            }
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
        let found = match self {
            Teller::Ledger(ledger) => ask::run_detail(ledger.history(), run).await?,
            Teller::Daemon(client) => client.run(run).await?,
        };
        found.ok_or_else(|| {
            Error::new(Kind::Config, format!("no run is called `{run}`")).advise("`groupcast runs` lists them")
        })
    }

    /// Rejected groups of a sync.
    pub(super) async fn rejected(&self, sync: &str, count: u64) -> Result<Vec<RejectedView>> {
        match self {
            Teller::Ledger(ledger) => ask::rejected(ledger.history(), sync, None, count).await,
            Teller::Daemon(client) => {
                let path = format!("syncs/{}/rejected", segment(sync));
                let mut all: Vec<RejectedView> = Vec::new();
                while (all.len() as u64) < count {
                    let wanted = (count - all.len() as u64).min(PAGE_MAX);
                    let mut query = vec![("count", wanted.to_string())];
                    query.extend(all.last().map(|last| ("after", last.key.clone())));
                    let page: Vec<RejectedView> = client.get(&path, &query).await?;
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

    /// What is known of a group; none when nothing is.
    pub(super) async fn group(&self, sync: &str, key: &str, count: u64) -> Result<Option<GroupView>> {
        match self {
            Teller::Ledger(ledger) => ask::group(ledger.history(), sync, key, None, count).await,
            Teller::Daemon(client) => {
                let path = format!("syncs/{}/groups", segment(sync));
                let mut query = vec![("key", key.to_owned()), ("count", count.clamp(1, PAGE_MAX).to_string())];
                let answer = client.ask("GET", &api(&path, &query), None).await?;
                if answer.status == 404 {
                    return Ok(None);
                }
                let mut group: GroupView = client.read(&answer)?;
                // What the first answer has no room for.
                while (group.history.len() as u64) < count {
                    let Some(last) = group.history.last().filter(|_| group.history.len() as u64 >= PAGE_MAX) else {
                        break;
                    };
                    let wanted = (count - group.history.len() as u64).min(PAGE_MAX);
                    query.truncate(1);
                    query.extend([("count", wanted.to_string()), ("before", last.seq.to_string())]);
                    let page: GroupView = client.get(&path, &query).await?;
                    let full = page.history.len() as u64 == wanted;
                    ask::sent_in(&mut group.traits, &page.history);
                    group.history.extend(page.history);
                    if !full {
                        break;
                    }
                }
                Ok(Some(group))
            }
        }
    }
}
