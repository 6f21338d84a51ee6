//! The supervisor when a run or the ledger breaks: a real ledger and real runs, on a clock that breaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, watch};

use super::peers::Peers;
use super::run_task::EndedRun;
use super::service::DaemonService;
use super::supervisor::Supervisor;
use crate::delivery::Signal;
use crate::duckdb::DuckDbConnection;
use crate::error::{Error, Kind, Result};
use crate::io::{Clock, SystemClock};
use crate::ledger::duckdb::DuckDbLedger;
use crate::ledger::{Retention, RunStatus};
use crate::scheduler::queue::SyncState;
use crate::service::api::Service;
use crate::service::open;
use crate::service::views::ActivityState;

/// Panics once when a task reads it: a run then, because the loop is no task here.
struct Breaking {
    clock: SystemClock,
    armed: AtomicBool,
}

#[async_trait]
impl Clock for Breaking {
    fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    fn elapsed(&self) -> Duration {
        assert!(tokio::task::try_id().is_none() || !self.armed.swap(false, Ordering::SeqCst), "the clock broke");
        self.clock.elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        self.clock.sleep(duration).await;
    }
}

/// A supervisor of these syncs, each due at once.
async fn supervisor(folder: &std::path::Path, syncs: &[&str], armed: bool) -> Arc<Supervisor> {
    Arc::new(prepared(folder, syncs, armed).await.0)
}

/// The same before it is shared, with a connection to its ledger's database.
async fn prepared(folder: &std::path::Path, syncs: &[&str], armed: bool) -> (Supervisor, DuckDbConnection) {
    let write = |below: &str, text: &str| std::fs::write(folder.join(below), text).unwrap();
    let settings = "[sources.w]\ntype = \"duckdb\"\n[destinations.f]\ntype = \"file\"\npath = \"out.ndjson\"\n\
                    [daemon]\ndrain = \"1s\"\n";
    write("groupcast.toml", settings);
    std::fs::create_dir(folder.join("mappings")).unwrap();
    for sync in syncs {
        let mapping = format!(
            "source = \"w\"\ndestination = \"f\"\nschedule = {{ every = \"24h\" }}\n\
             [model]\nsql = \"SELECT 'k' || i AS id, i AS n FROM range(5) r(i)\"\n\
             [group]\ntype = \"company\"\nkey = \"id\"\n[traits]\n{sync} = \"n\"\n"
        );
        write(&format!("mappings/{sync}.toml"), &mapping);
    }
    let project = open::project(folder).unwrap_or_else(|failure| panic!("{}", failure.as_error()));
    let limits = project.settings.state.limits();
    let ledger = DuckDbLedger::open(&project.settings.state.path, &limits, Retention::FOREVER).await.unwrap();
    let database = ledger.duckdb().clone();
    let clock = Arc::new(Breaking { clock: SystemClock::start(), armed: AtomicBool::new(armed) });
    let supervisor =
        Supervisor::new(folder.into(), project, Arc::new(ledger), clock, Peers::new("here", None)).await.unwrap();
    supervisor.restore().await.unwrap();
    (supervisor, database)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_ends_its_run_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let supervisor = supervisor(folder.path(), &["one", "two"], true).await;
    let (stop, stopping) = watch::channel(Signal::Go);
    let (ended, mut endings) = mpsc::unbounded_channel();
    let seen = async {
        let seen: [EndedRun; 2] = [endings.recv().await.unwrap(), endings.recv().await.unwrap()];
        // The one that broke is tried again, later.
        let broken = seen.iter().find(|ended| ended.panicked).expect("one panicked").sync.clone();
        let status = supervisor.queue().status(&broken, supervisor.clock.now()).unwrap();
        assert_eq!((status.state, status.backoff.failures, status.backoff.retry), (SyncState::BackingOff, 1, true));
        assert!(supervisor.running().is_empty());
        stop.send_replace(Signal::Stop);
        seen
    };
    let (left, seen) = tokio::join!(supervisor.run_loop(stopping, ended), seen);
    assert_eq!(left, 0);
    let mut statuses = Vec::new();
    for ended in &seen {
        let (record, _) = supervisor.ledger.history().run(&ended.run).await.unwrap().expect("it is recorded");
        statuses.push((ended.panicked, record.status, record.error_kind));
    }
    statuses.sort_by_key(|(panicked, ..)| *panicked);
    let bug = Some(Kind::Bug.name().to_owned());
    assert_eq!(statuses, [(false, RunStatus::Succeeded, None), (true, RunStatus::Crashed, bug)]);
}

#[tokio::test]
async fn a_daemon_stops_although_its_runs_hang() {
    let folder = tempfile::tempdir().unwrap();
    let (mut supervisor, _) = prepared(folder.path(), &["one"], false).await;
    // GIVEN threads for runs that something blocks for good
    let work = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (go_on, blocked) = std::sync::mpsc::channel::<()>();
    work.spawn(async move { blocked.recv() });
    supervisor.work = work.handle().clone();
    let supervisor = Arc::new(supervisor);
    let (stop, stopping) = watch::channel(Signal::Go);
    let (ended, _endings) = mpsc::unbounded_channel();
    let service = DaemonService(Arc::clone(&supervisor));
    let ordered = async {
        while supervisor.running().is_empty() {
            tokio::task::yield_now().await;
        }
        // THEN it responds,
        let syncs = Service::syncs(&service, 1).await.unwrap();
        assert_eq!(syncs[0].activity.as_ref().map(|activity| activity.state), Some(ActivityState::Running));
        stop.send_replace(Signal::Stop);
    };
    let clock = SystemClock::start();
    let (left, ()) = tokio::join!(supervisor.run_loop(stopping, ended), ordered);
    // and stops within the drain and a little more
    assert_eq!(left, 1);
    assert!(clock.elapsed() < Duration::from_secs(20), "{:?}", clock.elapsed());
    drop(go_on);
    work.shutdown_background();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_quotes_a_failed_database_ends_nothing_while_it_responds() {
    let folder = tempfile::tempdir().unwrap();
    let (supervisor, database) = prepared(folder.path(), &["one"], false).await;
    // An error quotes what it is about: a cell, a file's name, a column.
    let quoted = |_: &mut duckdb::Connection| -> Result<()> {
        Err(Error::new(Kind::Source, "failed to read: cannot convert 'FATAL Error: database has been invalidated'"))
    };
    database.call("read", quoted).await.unwrap_err();
    assert!(!supervisor.ledger_gave_up().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_gave_up_ends_the_loop() {
    let folder = tempfile::tempdir().unwrap();
    let (supervisor, database) = prepared(folder.path(), &["one"], false).await;
    let supervisor = Arc::new(supervisor);
    let (_stop, stopping) = watch::channel(Signal::Go);
    let (ended, mut endings) = mpsc::unbounded_channel();
    let broken = async {
        endings.recv().await.unwrap();
        let fold = |connection: &mut duckdb::Connection| {
            let sql = "SET debug_checkpoint_abort = 'before_header'; CHECKPOINT";
            connection.execute_batch(sql).map_err(crate::duckdb::ledger_error("fold the log"))
        };
        let failed = database.call("fold the log", fold).await.unwrap_err();
        assert!(supervisor.ledger.storage().is_invalidated(), "{failed}");
        supervisor.ledger.history().runs(None, None, 1).await.unwrap_err();
        supervisor.wake();
    };
    let (left, ()) = tokio::join!(supervisor.run_loop(stopping, ended), broken);
    assert_eq!(left, 0);
    // The next process finds everything.
    let project = supervisor.project();
    drop((supervisor, database));
    let runs = open::ledger(&project).await.unwrap().history().runs(None, None, 9).await.unwrap();
    assert_eq!(runs.iter().map(|run| run.status).collect::<Vec<_>>(), [RunStatus::Succeeded]);
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_of_the_same_time_have_different_ids() {
    let folder = tempfile::tempdir().unwrap();
    let supervisor = supervisor(folder.path(), &["one"], false).await;
    let now = supervisor.clock.now();
    let ids: Vec<String> = (0..3_000).map(|_| supervisor.new_run(now)).collect();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "each is greater than the one before");
}
