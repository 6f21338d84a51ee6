//! The lease: which process may write the ledger.
//!
//! A row per thing that one process has at a time; so far that is the whole ledger, under the name [`LEDGER`]. Its holder
//! extends it every few seconds, by the server's clock. Who finds it expired takes it over and raises its *fence*, and every
//! transaction that writes first checks, and locks, the fence it was opened with: a process that was stopped meanwhile and
//! wakes up cannot write any more. The lock is one that extending does not wait for and taking over does (`fence` is part
//! of a unique index), so a transaction under way ends before the next holder begins.
//!
//! Advisory locks would be simpler, and poolers break them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::error::Failure;
use super::server::Server;
use crate::error::{Error, Kind, Result};
use crate::io::process_id::ProcessId;
use crate::source::postgres::Link;

/// The lease of the whole ledger.
pub(super) const LEDGER: &str = "ledger";
/// How long a lease lasts that is not extended: after a crash on another machine, the next process waits for so long.
const LASTS_SECONDS: f64 = 30.0;
/// How often it is extended: three may fail before it expires.
const EXTENDED_EVERY: Duration = Duration::from_secs(8);
/// How soon it is tried again when that failed.
const RETRIED_EVERY: Duration = Duration::from_secs(1);
/// Longest that giving it back may take at the end of a process. Without it the lease expires by itself.
const RELEASE_MAX: Duration = Duration::from_secs(3);

/// A lease that this process has.
pub(super) struct Lease {
    fence: i64,
    lost: Arc<AtomicBool>,
    keeper: Mutex<Option<Keeper>>,
}

/// The thread that extends a lease. It has a connection of its own: a long statement of a run must not hold it up.
struct Keeper {
    stop: oneshot::Sender<()>,
    stopped: std::sync::mpsc::Receiver<()>,
}

/// The holder of a lease, as it is stored.
struct Held {
    fence: i64,
    holder: Option<ProcessId>,
    expires_in: f64,
}

impl Lease {
    /// Takes the lease, where no process has it, or one that is gone.
    ///
    /// Errors: [`Kind::LedgerBusy`], another process has it.
    pub(super) async fn acquire(server: &Arc<Server>, client: &Client) -> Result<Lease, Failure> {
        let own = ProcessId::own();
        let holder = serde_json::to_string(&own).unwrap_or_default();
        let insert =
            "INSERT INTO @.leases (name, holder, fence, until) VALUES ($1, '', 0, '-infinity') ON CONFLICT DO NOTHING";
        client.execute_typed(&server.sql(insert), &[(&LEDGER, Type::TEXT)]).await?;
        let held = find(server, client).await?;
        let is_free = held.expires_in <= 0.0 || held.holder.as_ref().is_some_and(ProcessId::is_gone);
        if !is_free {
            return Err(Failure::Final(busy(&held)));
        }
        let take = "UPDATE @.leases SET holder = $3, fence = fence + 1, until = clock_timestamp() + $4 * interval '1 second' \
            WHERE name = $1 AND fence = $2 RETURNING fence";
        let taken = client
            .query_typed_opt(
                &server.sql(take),
                &[
                    (&LEDGER, Type::TEXT),
                    (&held.fence, Type::INT8),
                    (&holder, Type::TEXT),
                    (&LASTS_SECONDS, Type::FLOAT8),
                ],
            )
            .await?;
        let Some(taken) = taken else {
            return Err(Failure::Final(busy(&find(server, client).await?)));
        };
        let (fence, lost) = (taken.try_get(0)?, Arc::new(AtomicBool::new(false)));
        let keeper = Keeper::start(Arc::clone(server), fence, Arc::clone(&lost))?;
        Ok(Lease { fence, lost, keeper: Mutex::new(Some(keeper)) })
    }

    /// Whether a process has it that is not gone.
    pub(super) async fn is_held(server: &Server, client: &Client) -> Result<bool, Failure> {
        let held = find(server, client).await?;
        Ok(held.expires_in > 0.0 && !held.holder.as_ref().is_some_and(ProcessId::is_gone))
    }

    /// Whether another process was found to have taken it over.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::SeqCst)
    }

    /// Checks, in the transaction under way, that it is still ours, and sees to it that it is until the transaction ends.
    /// `sends`: something will be sent after this, so it must not have expired either.
    pub(super) async fn check(&self, server: &Server, client: &Client, sends: bool) -> Result<(), Failure> {
        let check = "SELECT until > clock_timestamp() FROM @.leases WHERE name = $1 AND fence = $2 FOR KEY SHARE";
        let found =
            client.query_typed_opt(&server.sql(check), &[(&LEDGER, Type::TEXT), (&self.fence, Type::INT8)]).await?;
        match found.map(|row| row.try_get::<_, bool>(0)).transpose()? {
            None => {
                self.lost.store(true, Ordering::SeqCst);
                Err(Failure::Final(lost()))
            }
            Some(false) if sends => Err(Failure::Final(
                Error::new(Kind::LedgerBusy, "this process could not extend its lease of the ledger in time")
                    .advise("check the network to the ledger's server, then run again: nothing more was sent"),
            )),
            Some(_) => Ok(()),
        }
    }
}

/// Another process has the ledger now.
pub(super) fn lost() -> Error {
    Error::new(
        Kind::LedgerBusy,
        "another process has taken the ledger over from this one, which did not extend its lease in time",
    )
    .advise(
        "let one process at a time use the ledger; what this one sent without recording it is unconfirmed, and resent",
    )
}

fn busy(held: &Held) -> Error {
    let whom = held.holder.as_ref().map_or_else(|| "another process".to_owned(), ProcessId::to_string);
    Error::new(Kind::LedgerBusy, format!("{whom} is using the ledger")).advise(format!(
        "wait until it has ended, or stop it; if it crashed, the ledger is free again in {} s",
        held.expires_in.ceil().max(1.0)
    ))
}

async fn find(server: &Server, client: &Client) -> Result<Held, Failure> {
    let find = "SELECT fence, holder, extract(epoch FROM greatest(until, 'epoch'::timestamptz) - clock_timestamp())::float8 \
        FROM @.leases WHERE name = $1";
    let Some(row) = client.query_typed_opt(&server.sql(find), &[(&LEDGER, Type::TEXT)]).await? else {
        return Ok(Held { fence: 0, holder: None, expires_in: 0.0 });
    };
    let holder: String = row.try_get(1)?;
    Ok(Held { fence: row.try_get(0)?, holder: serde_json::from_str(&holder).ok(), expires_in: row.try_get(2)? })
}

impl Keeper {
    fn start(server: Arc<Server>, fence: i64, lost: Arc<AtomicBool>) -> Result<Keeper> {
        let failed = |error: std::io::Error| {
            Error::new(Kind::Ledger, "failed to start the thread that extends the ledger's lease").because(error)
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (stop, mut stopping) = oneshot::channel();
        let (ended, stopped) = std::sync::mpsc::channel();
        let keep = move || {
            runtime.block_on(async {
                extend_until(&server, fence, &lost, &mut stopping).await;
                if !lost.load(Ordering::SeqCst) {
                    // Best effort: it expires by itself.
                    drop(tokio::time::timeout(RELEASE_MAX, release(&server, fence)).await);
                }
            });
            drop(ended);
        };
        std::thread::Builder::new().name("groupcast-lease".to_owned()).spawn(keep).map_err(failed)?;
        Ok(Keeper { stop, stopped })
    }
}

/// Extends a lease until `stopping` resolves, or another process has it.
async fn extend_until(server: &Server, fence: i64, lost: &AtomicBool, stopping: &mut oneshot::Receiver<()>) {
    let mut link = None;
    let mut pause = EXTENDED_EVERY;
    while tokio::time::timeout(pause, &mut *stopping).await.is_err() {
        let extended = tokio::select! {
            _ = &mut *stopping => return,
            extended = extend(server, fence, &mut link) => extended,
        };
        pause = match extended {
            Ok(true) => EXTENDED_EVERY,
            Ok(false) => {
                lost.store(true, Ordering::SeqCst);
                tracing::error!("{}", lost_text());
                return;
            }
            Err(failure) => {
                tracing::debug!("{}", failure.error(server, "extend the lease"));
                link = None;
                RETRIED_EVERY
            }
        };
    }
}

fn lost_text() -> String {
    let error = lost();
    format!("{error}: {}", error.advice().unwrap_or_default())
}

async fn extend(server: &Server, fence: i64, link: &mut Option<Link>) -> Result<bool, Failure> {
    let link = match link {
        Some(link) => link,
        None => link.insert(server.connect().await?),
    };
    let extend =
        "UPDATE @.leases SET until = clock_timestamp() + $3 * interval '1 second' WHERE name = $1 AND fence = $2";
    let extended = link
        .client
        .execute_typed(
            &server.sql(extend),
            &[(&LEDGER, Type::TEXT), (&fence, Type::INT8), (&LASTS_SECONDS, Type::FLOAT8)],
        )
        .await?;
    Ok(extended == 1)
}

async fn release(server: &Server, fence: i64) -> Result<(), Failure> {
    let link = server.connect().await?;
    let release = "UPDATE @.leases SET until = '-infinity' WHERE name = $1 AND fence = $2";
    link.client.execute_typed(&server.sql(release), &[(&LEDGER, Type::TEXT), (&fence, Type::INT8)]).await?;
    Ok(())
}

impl Drop for Lease {
    /// Gives the lease back, so that the next command need not wait.
    fn drop(&mut self) {
        if let Some(Keeper { stop, stopped }) = self.keeper.get_mut().take() {
            let _ = stop.send(());
            let _ = stopped.recv_timeout(RELEASE_MAX);
        }
    }
}
