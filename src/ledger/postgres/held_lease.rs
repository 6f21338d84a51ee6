//! A lease that this process has: its row, how it is extended, given back and checked, and how the rows of all are read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::watch;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::error::Failure;
use super::server::Server;
use crate::error::{Error, Kind, Result};
use crate::io::process_id::ProcessId;
use crate::io::{Clock, Random, SystemClock};
use crate::ledger::shared::{Lease, LeaseCounts, LeaseRecord, LeaseReport};

/// The lease of the whole ledger. Its statements use only what the first version's table had.
pub(super) const LEDGER: &str = "ledger";
/// The holder of a lease, as it is stored. One process may have opened the ledger more than once.
#[derive(Serialize, Deserialize)]
struct Holder {
    #[serde(flatten)]
    process: ProcessId,
    #[serde(default)]
    opened: u64,
}

/// A lease that is given back.
pub(super) struct Release {
    name: String,
    fence: i64,
}

/// What the leases of a process share.
pub(super) struct LeaseState {
    pub(super) server: Arc<Server>,
    pub(super) clock: SystemClock,
    pub(super) lasts: Duration,
    pub(super) holder: String,
    held: Mutex<BTreeMap<String, Weak<HeldLease>>>,
    releases: UnboundedSender<Release>,
    /// How many leases other processes have taken from this one.
    lost: AtomicU64,
}

/// A lease that this process has.
pub(super) struct HeldLease {
    name: String,
    fence: i64,
    lost: AtomicBool,
    released: AtomicBool,
    /// When the statement began that extended it last, by the clock that only goes forward and by the wall's: the first
    /// stands still while a machine sleeps.
    extended: Mutex<(Duration, DateTime<Utc>)>,
    report: Mutex<Option<LeaseReport>>,
    /// What another process wants of this one.
    request: watch::Sender<Option<String>>,
    state: Arc<LeaseState>,
}

/// A lease as it is found.
pub(super) struct Found {
    pub(super) fence: i64,
    pub(super) holder: String,
    /// In so many seconds it can be taken.
    pub(super) free_in: f64,
}

impl Found {
    fn process(&self) -> Option<ProcessId> {
        serde_json::from_str::<Holder>(&self.holder).ok().map(|holder| holder.process)
    }

    /// Whether it may be taken from its holder now, whatever its time: the holder has certainly ended.
    pub(super) fn is_left(&self, own: &str) -> bool {
        self.holder == own || self.process().is_some_and(|process| process.is_gone())
    }

    pub(super) fn busy(&self, lease: &str) -> Error {
        let whom = self.process().map_or_else(|| "another process".to_owned(), |process| process.to_string());
        let what = match lease.split_once('/') {
            Some(("sync", sync)) => format!("{whom} is using sync `{sync}`"),
            Some(("daemon", name)) => format!("a daemon with the name `{name}` runs already: {whom}"),
            _ => format!("{whom} is using the ledger"),
        };
        Error::new(Kind::LedgerBusy, what).advise(format!(
            "wait until it has ended, or stop it; if it crashed, this is free again in {} s",
            self.free_in.ceil().max(1.0)
        ))
    }
}

impl LeaseState {
    /// Of a process that has no lease yet, and what is given back by those it will have.
    pub(super) fn new(server: Arc<Server>, lasts: Duration) -> (LeaseState, UnboundedReceiver<Release>) {
        let holder = Holder { process: ProcessId::own(), opened: Random::from_entropy().up_to(u64::MAX) };
        let (releases, released) = tokio::sync::mpsc::unbounded_channel();
        let state = LeaseState {
            server,
            clock: SystemClock::start(),
            lasts,
            holder: serde_json::to_string(&holder).unwrap_or_default(),
            held: Mutex::default(),
            releases,
            lost: AtomicU64::new(0),
        };
        (state, released)
    }

    /// A lease that this process has, lost or not.
    pub(super) fn held(&self, name: &str) -> Option<Arc<HeldLease>> {
        self.held.lock().get(name).and_then(Weak::upgrade)
    }

    /// Keeps a lease that was taken by a statement that `began` then.
    pub(super) fn keep(self: &Arc<Self>, name: &str, fence: i64, began: (Duration, DateTime<Utc>)) -> Arc<HeldLease> {
        let held = Arc::new(HeldLease {
            name: name.to_owned(),
            fence,
            lost: AtomicBool::new(false),
            released: AtomicBool::new(false),
            extended: Mutex::new(began),
            report: Mutex::default(),
            request: watch::Sender::new(None),
            state: Arc::clone(self),
        });
        self.held.lock().insert(name.to_owned(), Arc::downgrade(&held));
        held
    }

    /// Gives back everything that this process has.
    pub(super) fn queue_releases(&self) {
        let left: Vec<_> = self.held.lock().values().filter_map(Weak::upgrade).collect();
        left.iter().for_each(|held| held.queue_release());
    }

    pub(super) fn now(&self) -> (Duration, DateTime<Utc>) {
        (self.clock.elapsed(), self.clock.now())
    }

    /// How many leases this process has, and has lost.
    pub(super) fn counts(&self) -> LeaseCounts {
        // None of them is dropped while the list is locked.
        let all: Vec<_> = self.held.lock().values().filter_map(Weak::upgrade).collect();
        let held = all.iter().filter(|held| !held.is_lost() && !held.released.load(Ordering::SeqCst)).count();
        LeaseCounts { held: held as u64, lost: self.lost.load(Ordering::Relaxed) }
    }

    /// Extends everything that this process has, in one statement, which also brings the holders' reports to the server and
    /// requests back from it.
    pub(super) async fn extend(&self, client: &Client) -> Result<(), Failure> {
        // None of them is dropped while the list is locked: that looks at the list.
        let mut all: Vec<_> = self.held.lock().values().filter_map(Weak::upgrade).collect();
        all.retain(|held| !held.is_lost());
        if all.is_empty() {
            return Ok(());
        }
        let (names, fences): (Vec<&str>, Vec<i64>) = all.iter().map(|held| (held.name.as_str(), held.fence)).unzip();
        let reports: Vec<Option<String>> = all.iter().map(|held| held.reported()).collect();
        let began = self.now();
        let extend = "UPDATE @.leases SET until = clock_timestamp() + $3 * interval '1 second', detail = coalesce(report, detail) \
            FROM unnest($1::text[], $2::bigint[], $4::text[]) h(lease, held, report) WHERE name = lease AND fence = held \
            RETURNING name, request";
        let given = [
            (&names as &(dyn tokio_postgres::types::ToSql + Sync), Type::TEXT_ARRAY),
            (&fences, Type::INT8_ARRAY),
            (&self.lasts.as_secs_f64(), Type::FLOAT8),
            (&reports, Type::TEXT_ARRAY),
        ];
        let rows = client.query_typed(&self.server.sql(extend), &given).await?;
        let extended: BTreeMap<String, Option<String>> = rows
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .collect::<Result<_, tokio_postgres::Error>>()?;
        for held in all {
            if let Some(request) = extended.get(&held.name) {
                *held.extended.lock() = began;
                held.request.send_if_modified(|known| {
                    let is_new = known != request;
                    if is_new {
                        known.clone_from(request);
                    }
                    is_new
                });
            } else if !held.released.load(Ordering::SeqCst) {
                held.note_lost();
                tracing::error!("{}", lost(&held.name));
            }
        }
        Ok(())
    }

    /// Gives leases back.
    pub(super) async fn release_all(&self, client: &Client, releases: &[Release]) -> Result<(), Failure> {
        let names: Vec<&str> = releases.iter().map(|release| release.name.as_str()).collect();
        let fences: Vec<i64> = releases.iter().map(|release| release.fence).collect();
        let release = "UPDATE @.leases SET until = '-infinity' FROM unnest($1::text[], $2::bigint[]) h(lease, held) \
            WHERE name = lease AND fence = held";
        let given =
            [(&names as &(dyn tokio_postgres::types::ToSql + Sync), Type::TEXT_ARRAY), (&fences, Type::INT8_ARRAY)];
        client.execute_typed(&self.server.sql(release), &given).await?;
        Ok(())
    }

    /// Gives a lease back now, if this is its last copy; otherwise when the last one is dropped.
    pub(super) async fn release(&self, client: &Client, held: Arc<HeldLease>) {
        let Some(held) = Arc::into_inner(held) else { return };
        let release = Release { name: held.name.clone(), fence: held.fence };
        if self.release_all(client, &[release]).await.is_ok() {
            held.released.store(true, Ordering::SeqCst);
        }
    }
}

impl HeldLease {
    /// Checks, in the transaction under way, that it is still ours, and sees to it that it is until the transaction ends.
    /// `sends`: something will be sent after this, so it must not have expired either.
    pub(super) async fn check(&self, client: &Client, sends: bool) -> Result<(), Failure> {
        let check = "SELECT until > clock_timestamp() FROM @.leases WHERE name = $1 AND fence = $2 FOR KEY SHARE";
        let given: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
            [(&self.name, Type::TEXT), (&self.fence, Type::INT8)];
        let found = client.query_typed_opt(&self.state.server.sql(check), &given).await?;
        match found.map(|row| row.try_get::<_, bool>(0)).transpose()? {
            None => {
                self.note_lost();
                Err(Failure::Final(lost(&self.name)))
            }
            Some(false) if sends => Err(Failure::Final(
                Error::new(Kind::LedgerBusy, "this process could not extend its lease in the ledger in time")
                    .advise("check the network to the ledger's server, then run again: nothing more was sent"),
            )),
            Some(_) => Ok(()),
        }
    }

    /// Fails once another process is known to have taken it.
    pub(super) fn check_known(&self) -> Result<(), Failure> {
        if self.is_lost() { Err(Failure::Final(lost(&self.name))) } else { Ok(()) }
    }

    /// Another process has taken it.
    fn note_lost(&self) {
        if !self.lost.swap(true, Ordering::SeqCst) {
            self.state.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What is reported with its next extension. The server stores no null characters.
    fn reported(&self) -> Option<String> {
        let report = self.report.lock();
        report.as_ref().map(|report| super::stored(&report()).into_owned())
    }

    fn queue_release(&self) {
        if !self.lost.load(Ordering::SeqCst) && !self.released.swap(true, Ordering::SeqCst) {
            // Without a receiver it expires by itself.
            let _ = self.state.releases.send(Release { name: self.name.clone(), fence: self.fence });
        }
    }
}

impl Lease for HeldLease {
    fn is_lost(&self) -> bool {
        self.lost.load(Ordering::SeqCst)
    }

    fn may_send(&self) -> bool {
        let ((elapsed, now), (since, at)) = (self.state.now(), *self.extended.lock());
        // What the clocks of two machines may drift apart meanwhile.
        let lasts = self.state.lasts - self.state.lasts / 50;
        let by_wall = now.signed_duration_since(at).to_std().unwrap_or_default();
        !self.is_lost() && elapsed.saturating_sub(since) < lasts && by_wall < lasts
    }

    fn report_by(&self, report: LeaseReport) {
        *self.report.lock() = Some(report);
    }

    fn requests(&self) -> watch::Receiver<Option<String>> {
        self.request.subscribe()
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        let mut held = self.state.held.lock();
        if held.get(&self.name).is_some_and(|held| held.strong_count() == 0) {
            held.remove(&self.name);
        }
        drop(held);
        self.queue_release();
    }
}

/// Another process has the lease now.
pub(super) fn lost(lease: &str) -> Error {
    let what = match lease.split_once('/') {
        Some(("sync", sync)) => format!("sync `{sync}`"),
        Some(("daemon", name)) => format!("the name `{name}`"),
        _ => "the ledger".to_owned(),
    };
    Error::new(
        Kind::LedgerBusy,
        format!("another process has taken {what} over from this one, which did not extend its lease in time"),
    )
    .advise("nothing is to be done: what was sent without being recorded is unconfirmed, and is resent")
}

/// The lease of this name, by what the first version's table had.
pub(super) async fn find(server: &Server, client: &Client, name: &str) -> Result<Option<Found>, Failure> {
    let find = "SELECT fence, holder, extract(epoch FROM greatest(until, 'epoch'::timestamptz) - clock_timestamp())::float8 \
        FROM @.leases WHERE name = $1";
    let row = client.query_typed_opt(&server.sql(find), &[(&name, Type::TEXT)]).await?;
    Ok(row
        .map(|row| Ok(Found { fence: row.try_get(0)?, holder: row.try_get(1)?, free_in: row.try_get(2)? }))
        .transpose()
        .map_err(|error: tokio_postgres::Error| error)?)
}

/// The lease of the whole ledger, and the one of this name.
pub(super) async fn find_both(server: &Server, client: &Client, name: &str) -> Result<[Option<Found>; 2], Failure> {
    let find = "SELECT name = $1, fence, holder, extract(epoch FROM greatest(until, 'epoch'::timestamptz) \
        + attempt * interval '1 second' - clock_timestamp())::float8 FROM @.leases WHERE name IN ($1, $2)";
    let mut both = [None, None];
    for row in client.query_typed(&server.sql(find), &[(&name, Type::TEXT), (&LEDGER, Type::TEXT)]).await? {
        let at = usize::from(row.try_get::<_, bool>(0)?);
        both[at] = Some(Found { fence: row.try_get(1)?, holder: row.try_get(2)?, free_in: row.try_get(3)? });
    }
    Ok(both)
}

/// Whether a process has the lease that is not gone.
pub(super) async fn is_held(server: &Server, client: &Client, name: &str) -> Result<bool, Failure> {
    let [_, found] = find_both(server, client, name).await?;
    Ok(found.is_some_and(|found| found.free_in > 0.0 && !found.is_left("")))
}

/// The leases that a process has, or left behind. `own` is how this process's are held.
pub(super) async fn all(server: &Server, client: &Client, own: &str) -> Result<Vec<LeaseRecord>, Failure> {
    let sql = "SELECT name, fence, holder, extract(epoch FROM until + attempt * interval '1 second' - clock_timestamp())::float8, \
        since, detail, request FROM @.leases WHERE until > '-infinity' ORDER BY name";
    let rows = client.query_typed(&server.sql(sql), &[]).await?;
    let record = |row: &tokio_postgres::Row| {
        let found = Found { fence: row.try_get(1)?, holder: row.try_get(2)?, free_in: row.try_get(3)? };
        let holder = found.process().map_or_else(|| "another process".to_owned(), |process| process.to_string());
        let is_own = found.holder == own;
        let is_held = found.free_in > 0.0 && (is_own || !found.is_left(own));
        let (since, detail, request) = (row.try_get(4)?, row.try_get(5)?, row.try_get(6)?);
        Ok(LeaseRecord { name: row.try_get(0)?, holder, is_held, is_own, since, detail, request })
    };
    Ok(rows.iter().map(record).collect::<Result<_, tokio_postgres::Error>>()?)
}
