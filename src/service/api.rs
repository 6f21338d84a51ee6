//! The service: every query and command of Groupcast, once. The command line, the HTTP API and the console call this trait
//! and to nothing else. It is implemented over a ledger ([`local`](super::local)), over the socket of the process that has the
//! ledger open ([`remote`](super::remote)), and by the daemon.

use std::collections::BTreeMap;
use std::path::Path;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use super::error::{ServiceError, ServiceResult};
pub use super::stream::ResultStream;
use crate::delivery::Signal;
use crate::error::{Error, Kind};
use crate::ledger::BackupSummary;
use crate::service::views::{
    ChangeView, DaemonView, DestinationView, ExportedGroup, GroupRequestView, GroupView, OrphanedSync, PlanPart,
    PlanRequest, PlanView, RejectedView, RunDetail, RunProgress, RunView, SyncActivity, SyncDetail, SyncView,
};
use crate::sync::options::PlanFile;
use crate::sync::plan_file::SealedPlan;
use crate::sync::report::Report;
use crate::sync::verify::{Drifted, Verified};
use crate::sync::{Monitor, RunOptions};

/// The content type of [`Service::metrics`].
pub const METRICS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Times of a schedule that are returned unless more are requested.
pub const SCHEDULED_TIMES: usize = 3;

/// A run that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct EnqueuedRun {
    /// The sync.
    pub sync: String,
    /// The run's id; its record appears under it as soon as it begins.
    pub run: String,
    /// Whether an equal run was already waiting, which will do: it has not read the source yet.
    pub joined: bool,
}

/// A sync in error: its mapping file cannot be used as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SyncError {
    /// The sync's name.
    pub sync: String,
    /// The mapping's file.
    pub file: String,
    /// The first error, and where it is.
    pub error: String,
    /// What to do next.
    pub advice: Option<String>,
    /// Whether the sync runs with the last good version of its mapping; otherwise it does not run until the file is corrected.
    pub runs: bool,
}

/// The daemon itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct About {
    /// The program's version.
    pub version: String,
    /// The target of its config folder; none for `groupcast.toml`.
    #[serde(default)]
    pub target: Option<String>,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// When the config in use was read.
    pub config_read_at: DateTime<Utc>,
    /// What is wrong with the files as they are now, when they could not be applied: the config in use is older.
    pub config_problems: Option<String>,
    /// Why no run starts, when the ledger's file was moved or cannot be written.
    #[serde(default)]
    pub ledger_problem: Option<String>,
    /// The syncs whose mapping files have errors now, by name.
    #[serde(default)]
    pub sync_errors: Vec<SyncError>,
    /// Whether it is stopping.
    pub stopping: bool,
    /// Runs under way.
    pub running: usize,
    /// Runs of different syncs at a time.
    pub parallel_runs: usize,
    /// The zone of schedules that name none.
    pub timezone: String,
    /// The version of the time zones' tables.
    pub tzdata: String,
    /// The daemon's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it starts no more runs, and ends with those it has.
    #[serde(default)]
    pub draining: bool,
}

/// A plan that arrives as it is made; the plan at its end has no changes of its own.
pub type PlanStream = ResultStream<PlanPart, PlanView>;

/// Watches a run that may take place in another process.
pub trait RunMonitor: Monitor {
    /// This process runs it, and records it under this id however it ends.
    fn assigned(&self, _run: &str) {}
    /// The run was submitted to another process.
    fn submitted(&self, run: &EnqueuedRun);
    /// The run is queued behind others.
    fn queued(&self);
    /// How far the run is, where its events are not at hand.
    fn progress(&self, at: &RunProgress);
    /// Another process has cancelled the run. `aborts`: requests in flight are given up as well.
    fn cancelled_elsewhere(&self, _aborts: bool) {}
}

/// Every query and command.
#[async_trait]
pub trait Service: Send + Sync {
    /// The daemon itself.
    async fn about(&self) -> ServiceResult<About>;

    /// Now, on the daemon's clock.
    fn now(&self) -> DateTime<Utc>;

    /// A version that moves when what the queries return has changed: a run was queued, started or ended, a sync was paused,
    /// the configuration was reloaded. None where it is not followed.
    fn changes(&self) -> Option<watch::Receiver<u64>> {
        None
    }

    /// Whether it can do its work: config read, ledger open, not stopping. Cheap.
    async fn ready(&self) -> ServiceResult<()>;

    /// Every sync, by name, each with the next `fires` times of its schedule.
    async fn syncs(&self, fires: usize) -> ServiceResult<Vec<SyncView>>;

    /// One sync with its mapping, guards and latest runs.
    async fn sync(&self, sync: &str) -> ServiceResult<SyncDetail>;

    /// One destination: how it is sent to, and how it responded to the latest runs.
    async fn destination(&self, destination: &str) -> ServiceResult<DestinationView>;

    /// Requests a run. One that cannot begin yet is queued: one per sync, and equal requests join it.
    async fn trigger(&self, sync: &str, options: RunOptions, by: &str) -> ServiceResult<EnqueuedRun>;

    /// Keeps a plan that was made elsewhere, for runs that follow it. Only a daemon does.
    async fn accept_plan(&self, _plan: SealedPlan) -> ServiceResult<PlanFile> {
        let error = Error::new(Kind::Config, "only a daemon keeps plans that were made elsewhere");
        Err(ServiceError::Conflict(error.advise("run the plan by its file: `groupcast run --plan FILE`")))
    }

    /// What a run would do now, with the changes that are to be shown. Writes nothing. Only so many plans are made at a time.
    async fn plan(&self, sync: &str, request: PlanRequest) -> ServiceResult<PlanView> {
        let PlanStream { mut items, end } = self.plan_stream(sync, request).await?;
        let mut changes = Vec::new();
        while let Some(part) = items.recv().await {
            if let PlanPart::Change(change) = part {
                changes.push(*change);
            }
        }
        Ok(PlanView { changes, ..end.await? })
    }

    /// A plan of any size: changes arrive as they are found, with the requests if they are wanted. Nothing is kept in memory.
    async fn plan_stream(&self, sync: &str, request: PlanRequest) -> ServiceResult<PlanStream>;

    /// Runs a sync to its end, in this process or in the one that has the ledger open. `signal` stops it, like Ctrl-C.
    async fn execute(
        &self,
        sync: &str,
        options: &RunOptions,
        monitor: &dyn RunMonitor,
        signal: watch::Receiver<Signal>,
    ) -> ServiceResult<Report>;

    /// Cancels a run: one in progress stops (what was acknowledged is recorded, the next run sends the rest; a second request
    /// aborts requests in flight), a queued one is removed.
    async fn cancel(&self, run: &str) -> ServiceResult<()>;

    /// Pauses a sync: neither schedule nor retries start it. Survives a restart. Resuming is `paused = false`.
    async fn pause(&self, sync: &str, paused: bool) -> ServiceResult<SyncActivity>;

    /// Past and current runs, the newest first, those before the run `before` if given, at most `count`.
    async fn runs(&self, sync: Option<&str>, before: Option<&str>, count: u64) -> ServiceResult<Vec<RunView>>;

    /// The latest runs of every sync, current ones included, by name and the newest first, at most `each` of one. A sync
    /// that never ran may be absent.
    async fn latest_runs(&self, each: u64) -> ServiceResult<BTreeMap<String, Vec<RunView>>>;

    /// One run.
    async fn run(&self, run: &str) -> ServiceResult<RunDetail>;

    /// The changes that a run sent, in order, from position `from`, at most `count`; of one outcome (by name) or of all.
    async fn run_changes(
        &self,
        run: &str,
        outcome: Option<&str>,
        from: u64,
        count: u64,
    ) -> ServiceResult<Vec<ChangeView>>;

    /// Rejected groups in key order, at most `count` per sync; of one sync those after the group
    /// `after`, if given.
    async fn rejected(&self, sync: Option<&str>, after: Option<&str>, count: u64) -> ServiceResult<Vec<RejectedView>>;

    /// What is known of a group, with the latest `count` lines of its history before the line `before`, if given.
    async fn group(&self, sync: &str, key: &str, before: Option<u64>, count: u64) -> ServiceResult<GroupView>;

    /// The requests that a group was in last, in their order, with their responses; none where none is kept.
    async fn requests(&self, sync: &str, key: &str) -> ServiceResult<Vec<GroupRequestView>>;

    /// Copies the ledger to a new file, given by its whole path. Runs go on meanwhile.
    async fn backup(&self, file: &Path) -> ServiceResult<BackupSummary>;

    /// The daemons that use the same ledger, by name; none where one process uses it.
    async fn daemons(&self) -> ServiceResult<Vec<DaemonView>> {
        Ok(Vec::new())
    }

    /// Has a daemon start no more runs, and end with those it has: this one, or another one by its name.
    async fn drain(&self, _name: Option<&str>) -> ServiceResult<DaemonView> {
        let error = Error::new(Kind::Config, "no daemon is running with this ledger");
        Err(ServiceError::Conflict(error.advise("start one: `groupcast daemon`")))
    }

    /// Prometheus text.
    async fn metrics(&self) -> ServiceResult<String>;

    /// Every group that is known of a sync, in key order, as lines of `groupcast ledger export`.
    async fn export(&self, sync: &str) -> ServiceResult<ResultStream<ExportedGroup, ()>>;

    /// Has everything about a group, or about all of a sync, sent again, or forgets what is known of them. Returns how many
    /// groups that were.
    async fn reset(&self, sync: &str, group: Option<&str>, forget: bool) -> ServiceResult<u64>;

    /// The syncs that the ledger has groups of, and the config folder has no mapping for.
    async fn orphaned_syncs(&self) -> ServiceResult<Vec<OrphanedSync>>;

    /// Gives what the ledger has of the sync `from`, which has no mapping any more, to `to`, which has one and no groups yet.
    /// Returns how many groups.
    async fn rename(&self, from: &str, to: &str) -> ServiceResult<u64>;

    /// Drops everything that the ledger has of a sync without a mapping. Returns how many groups.
    async fn drop_sync(&self, sync: &str) -> ServiceResult<u64>;

    /// Marks the source's current rows as synced, without sending anything. Returns how many groups those are.
    async fn adopt(&self, sync: &str) -> ServiceResult<ResultStream<(), u64>>;

    /// Compares what the destination holds with what is synced; with `repair`, the next run sends in full what
    /// differs.
    async fn verify(&self, sync: &str, repair: bool) -> ServiceResult<ResultStream<Drifted, Verified>>;
}
