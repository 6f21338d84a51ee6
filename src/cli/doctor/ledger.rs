//! The ledger, its disk, and the daemon that has it open.

use std::path::Path;

use super::{Examined, Health};
use crate::cli::screen::plural;
use crate::config::{Project, State};
use crate::error::{Error, Kind, Result};
use crate::format::bytes;
use crate::io::disk;
use crate::io::{Clock, SystemClock};
use crate::ledger::{Ledger, OUTDATED_ADVICE};
use crate::service::api::Service;
use crate::service::open::{self, Failure};
use crate::service::remote::RemoteService;

/// Less than this is little for a ledger: a first run of a million groups writes about 80 MB, and as much again for a while.
const FREE_BYTES_MIN: u64 = 500_000_000;
/// How far into the future a run may have started before a clock is wrong.
const AHEAD_MAX: chrono::TimeDelta = chrono::TimeDelta::minutes(5);

pub(super) async fn examine(project: &Project) -> Vec<Examined> {
    let path = &project.settings.state.path;
    let mut found = Vec::new();
    if project.settings.state.database.is_some() {
        let busy = Error::new(Kind::LedgerBusy, "another process is using the ledger");
        if RemoteService::find(project, busy.again()).await.is_ok() {
            return in_use(project, busy).await;
        }
    }
    match open::ledger_to_read(project).await {
        Ok(ledger) => {
            found.push(
                ledger_itself(project, ledger.as_ref()).await.unwrap_or_else(|error| Examined::error("ledger", &error)),
            );
            found.push(without_daemon(project));
        }
        Err(busy) if busy.kind() == Kind::LedgerBusy => found.extend(in_use(project, busy).await),
        Err(error) => found.push(Examined::error("ledger", &error)),
    }
    if project.settings.state.database.is_none() {
        found.push(place(path));
    }
    found
}

async fn ledger_itself(project: &Project, ledger: &dyn Ledger) -> Result<Examined> {
    let State { path, database, .. } = &project.settings.state;
    let shown = project.settings.state.place();
    if database.is_none() && !path.exists() {
        return Ok(Examined::ok("ledger", format!("{shown} is not there yet; the first run creates it")));
    }
    if let Some(why) = ledger.storage().outdated() {
        return Ok(Examined::warning("ledger", why, OUTDATED_ADVICE));
    }
    let groups: u64 = ledger.history().all_group_counts().await?.values().map(|groups| groups.synced).sum();
    if let Some(last) = ledger.history().runs(None, None, 1).await?.pop()
        && last.started_at > SystemClock::start().now() + AHEAD_MAX
    {
        let what = format!("the last run started at {}, which is in the future", last.started_at);
        return Ok(Examined::warning("ledger", what, "compare the clocks of the machines that use this ledger"));
    }
    let size = if database.is_none() { format!("{}, ", size(path)) } else { String::new() };
    Ok(Examined::ok("ledger", format!("{shown}: {size}{}", plural(groups, "synced group"))))
}

/// The sizes of the file and of its log.
fn size(path: &Path) -> String {
    let of = |path: &Path| std::fs::metadata(path).map_or(0, |about| about.len());
    let mut log = path.as_os_str().to_owned();
    log.push(".wal");
    match of(Path::new(&log)) {
        0 => bytes(of(path)),
        log => format!("{} and {} of log", bytes(of(path)), bytes(log)),
    }
}

fn without_daemon(project: &Project) -> Examined {
    let scheduled = project.mappings.iter().filter(|file| file.mapping.enabled && file.mapping.schedule.is_some());
    match scheduled.count() as u64 {
        0 => Examined::ok("daemon", "none runs; no sync has a schedule"),
        count => {
            let has = if count == 1 { "has" } else { "have" };
            let what = format!("none runs, but {} {has} a schedule", plural(count, "sync"));
            Examined::warning("daemon", what, "start `groupcast daemon`, unless another program starts the runs")
        }
    }
}

/// A ledger that another process has open: that process says how it is.
async fn in_use(project: &Project, busy: Error) -> Vec<Examined> {
    let path = &project.settings.state.path;
    let remote = match RemoteService::find(project, busy).await {
        Ok(remote) => remote,
        Err(error) => return vec![Examined::error("ledger", &error)],
    };
    let is_file = project.settings.state.database.is_none();
    let size = if is_file { format!("{}, ", size(path)) } else { String::new() };
    let ledger = Examined::ok("ledger", format!("{}: {size}in use", project.settings.state.place()));
    let subject = if remote.is_command() { "command" } else { "daemon" };
    let whom = remote.whom();
    let process = match remote.about().await {
        Err(error) => Examined::error(subject, &Failure::from(error).as_error()),
        Ok(about) if about.version != env!("CARGO_PKG_VERSION") => {
            let what = format!("{whom} is of version {}", about.version);
            Examined::warning(subject, what, "restart it, so that it is of this version")
        }
        Ok(about) => match (about.ledger_problem, about.config_problems) {
            (Some(what), _) => Examined::new(subject, Health::Error, format!("{whom} starts no run: {what}")),
            (None, Some(_)) => {
                let what = format!("{whom} runs with an older config, because the files have mistakes");
                Examined::warning(subject, what, "`groupcast check` shows them")
            }
            (None, None) => Examined::ok(subject, format!("{whom}, {} under way", plural(about.running as u64, "run"))),
        },
    };
    vec![ledger, process]
}

/// The disk.
fn place(path: &Path) -> Examined {
    let kind = disk::file_system(path);
    let free = disk::free_bytes(path);
    let shown = match (free, &kind) {
        (Some(free), Some(kind)) => format!("{} free ({kind})", bytes(free)),
        (Some(free), None) => format!("{} free", bytes(free)),
        (None, _) => "its free space cannot be read".to_owned(),
    };
    let shared = ["nfs", "cifs", "smb", "9p", "fuse.sshfs", "ceph", "glusterfs"];
    let of = |kinds: &[&str]| kind.as_ref().is_some_and(|kind| kinds.iter().any(|one| kind.starts_with(one)));
    if free.is_some_and(|free| free < FREE_BYTES_MIN) {
        return Examined::warning("disk", shown, "make room, or set `state.path` to a disk with more");
    }
    if of(&shared) {
        let what = format!("{shown}: locks of a network's file system do not always hold");
        return Examined::warning("disk", what, "set `state.path` to a local disk");
    }
    if of(&["tmpfs", "ramfs"]) {
        let what = format!("{shown}: the ledger is lost when the machine restarts");
        return Examined::warning("disk", what, "set `state.path` to a disk that stays");
    }
    Examined::ok("disk", shown)
}
