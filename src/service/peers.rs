//! The peers: which daemons and commands use the same ledger, which of them runs what and how far it is, and how one is
//! drained, or its run cancelled.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::api::{ServiceError, ServiceResult};
use super::tracker::Tracker;
use super::views::{DaemonView, RunProgress};
use crate::error::{Error, Kind, Result};
use crate::ledger::SharedState;
use crate::ledger::shared::{LeaseRecord, LeaseReport, daemon_lease, sync_lease};

/// What is wanted of a daemon that is to be drained.
pub const DRAIN: &str = "drain";

/// What a process reports of the sync that it runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunLease {
    /// The run's id, once it has one.
    #[serde(default)]
    pub run: Option<String>,
    /// Who or what started it.
    #[serde(default)]
    pub started_by: String,
    /// The daemon that runs it; none for a command.
    #[serde(default)]
    pub daemon: Option<String>,
    /// How far the run was when the lease was last extended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<RunProgress>,
}

impl RunLease {
    /// As it is kept.
    pub fn text(run: Option<&str>, started_by: &str, daemon: Option<&str>) -> String {
        let lease = RunLease {
            run: run.map(str::to_owned),
            started_by: started_by.to_owned(),
            daemon: daemon.map(str::to_owned),
            progress: None,
        };
        serde_json::to_string(&lease).unwrap_or_default()
    }

    /// The same with the progress of a run, whenever it is asked for.
    pub fn report(tracker: Arc<Tracker>, daemon: Option<String>) -> LeaseReport {
        Box::new(move || {
            let progress = tracker.progress();
            let lease = RunLease {
                run: Some(progress.run.clone()),
                started_by: progress.started_by.clone(),
                daemon: daemon.clone(),
                progress: Some(progress),
            };
            serde_json::to_string(&lease).unwrap_or_default()
        })
    }

    /// The run that the holder of a lease has begun.
    pub fn begun(lease: &LeaseRecord) -> Option<String> {
        RunLease::of(lease).run.filter(|_| lease.is_held)
    }

    /// What the holder of a lease reports of it.
    pub fn of(lease: &LeaseRecord) -> RunLease {
        serde_json::from_str(&lease.detail).unwrap_or_default()
    }
}

/// What a daemon reports of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonLease {
    /// The program's version.
    pub version: String,
    /// Whether it starts no more runs.
    pub draining: bool,
}

/// What is wanted of the process that runs a sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelRequest {
    /// The run to cancel.
    pub cancel: String,
    /// How often that was requested: a second request aborts requests in flight.
    pub times: u32,
}

/// The process that has a lease, for people.
fn whom(lease: &LeaseRecord, daemon: Option<&str>) -> String {
    daemon.map_or_else(|| lease.holder.clone(), |daemon| format!("daemon {daemon} ({})", lease.holder))
}

/// The lease of a sync that a process has now.
pub fn lease_of<'a>(leases: &'a [LeaseRecord], sync: &str) -> Option<&'a LeaseRecord> {
    let name = sync_lease(sync);
    leases.iter().find(|lease| lease.is_held && lease.name == name)
}

/// The process that runs a sync now, for people.
pub fn holder_of(leases: &[LeaseRecord], sync: &str) -> Option<String> {
    lease_of(leases, sync).map(holder)
}

/// The process that has the lease of a sync, for people.
pub fn holder(lease: &LeaseRecord) -> String {
    whom(lease, RunLease::of(lease).daemon.as_deref())
}

/// How far a run is that another process has under way.
pub fn progress_of(lease: &LeaseRecord, run: &str) -> Option<RunProgress> {
    RunLease::of(lease).progress.filter(|progress| progress.run == run)
}

/// The daemons that use the ledger now, and what each of them runs.
pub fn daemons(leases: &[LeaseRecord]) -> Vec<DaemonView> {
    let named = leases.iter().filter_map(|lease| Some((lease.name.strip_prefix("daemon/")?, lease)));
    let running = |name: &str| {
        let held = leases.iter().filter(|lease| lease.is_held);
        let syncs = held.filter_map(|lease| Some((lease.name.strip_prefix("sync/")?, RunLease::of(lease))));
        syncs.filter(|(_, run)| run.daemon.as_deref() == Some(name)).map(|(sync, _)| sync.to_owned()).collect()
    };
    let view = |(name, lease): (&str, &LeaseRecord)| {
        let detail: DaemonLease = serde_json::from_str(&lease.detail).unwrap_or_default();
        DaemonView {
            name: name.to_owned(),
            process: lease.holder.clone(),
            version: detail.version,
            since: lease.since,
            draining: detail.draining || lease.request.as_deref() == Some(DRAIN),
            running: running(name),
        }
    };
    named.filter(|(_, lease)| lease.is_held).map(view).collect()
}

/// There is no daemon of this name.
pub fn unknown_daemon(name: &str) -> ServiceError {
    let error = Error::new(Kind::Config, format!("no daemon `{name}` is running with this ledger"));
    ServiceError::NotFound(error.advise("`groupcast status` lists the daemons"))
}

/// Has the daemon of this name start no more runs, and end with those it has.
pub async fn request_drain(shared: &dyn SharedState, name: &str) -> ServiceResult<DaemonView> {
    let found = daemons(&shared.leases().await?).into_iter().find(|daemon| daemon.name == name);
    let Some(daemon) = found else {
        return Err(unknown_daemon(name));
    };
    shared.request(&daemon_lease(name), DRAIN).await?;
    Ok(DaemonView { draining: true, ..daemon })
}

/// Has the process that has this run under way cancel it. False where no other process has it.
pub async fn request_cancel(shared: &dyn SharedState, run: &str) -> Result<bool> {
    let leases = shared.leases().await?;
    let held = |lease: &&LeaseRecord| RunLease::begun(lease).as_deref() == Some(run) && !lease.is_own;
    let Some(lease) = leases.iter().find(held) else { return Ok(false) };
    let earlier = lease.request.as_deref().and_then(|text| serde_json::from_str::<CancelRequest>(text).ok());
    let times = earlier.filter(|request| request.cancel == run).map_or(1, |request| request.times + 1);
    let request = CancelRequest { cancel: run.to_owned(), times };
    shared.request(&lease.name, &serde_json::to_string(&request).unwrap_or_default()).await
}
