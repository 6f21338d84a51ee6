//! A session with the ledger's server: connecting when it is needed, transactions, and which failures are tried again.
//!
//! Nothing outlives a transaction on the server: no named statement, no setting, no lock, no temporary table. So a pooler
//! in transaction mode may give every transaction another connection.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Client;

use super::error::{self, Failure};
use super::server::Server;
use crate::error::{Error, Kind, Result};
use crate::source::postgres::{Link, State};

/// How long is waited before what a lost connection interrupted is tried again. A server that restarts is back within
/// seconds; one that takes longer fails the run, and the next one recovers it.
const PAUSES: [Duration; 3] = [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(3)];

/// One connection, made when it is needed, and again when it broke.
pub(super) struct Session {
    pub(super) server: Arc<Server>,
    link: tokio::sync::Mutex<Option<Link>>,
}

/// The connection, lent for one piece of work. Unless the work is [done](Lent::done), the connection is closed, and the
/// server rolls back what it had begun.
pub(super) struct Lent<'a> {
    held: tokio::sync::MutexGuard<'a, Option<Link>>,
    /// Whether the connection was made for this loan.
    pub(super) is_new: bool,
    done: bool,
}

impl Session {
    pub(super) fn new(server: Arc<Server>) -> Session {
        Session { server, link: tokio::sync::Mutex::new(None) }
    }

    /// Waits for its turn, and connects where that is needed.
    pub(super) async fn lend(&self) -> Result<Lent<'_>, Failure> {
        let mut held = self.link.lock().await;
        let is_new = held.as_ref().is_none_or(|link| link.client.is_closed());
        if is_new {
            *held = None;
            let connected = self.server.connect().await;
            *held = Some(connected.map_err(|error| match error.kind() {
                Kind::Ledger if error::may_pass(&error) => Failure::Unreachable(error),
                _ => Failure::Final(error),
            })?);
        }
        if let Some(link) = held.as_mut() {
            link.state = State::Reading;
        }
        Ok(Lent { held, is_new, done: false })
    }
}

impl Lent<'_> {
    pub(super) fn client(&self) -> Result<&Client, Failure> {
        let lost = || Failure::Final(Error::new(Kind::Bug, "a connection was lent that is not there"));
        self.held.as_ref().map(|link| &link.client).ok_or_else(lost)
    }

    /// Begins a transaction that writes. What it commits is on the server's disk when the commit returns, whatever the
    /// server's default; one that is left open, by a process that was stopped, is ended by the server.
    pub(super) async fn begin(&self) -> Result<(), Failure> {
        const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
            SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') IN ('off', 'local'); \
            SET LOCAL idle_in_transaction_session_timeout = '60s'";
        Ok(self.client()?.batch_execute(BEGIN).await?)
    }

    /// Commits. An error leaves open whether it is.
    pub(super) async fn commit(&self) -> Result<(), Failure> {
        Ok(self.client()?.batch_execute("COMMIT").await?)
    }

    /// The work is done: the connection can be used again.
    pub(super) fn done(mut self) {
        self.done = true;
        if let Some(link) = self.held.as_mut() {
            link.state = State::Idle;
        }
    }

    /// The same with a transaction left open, which goes on with the next loan.
    pub(super) fn in_transaction(mut self) {
        self.done = true;
        if let Some(link) = self.held.as_mut() {
            link.state = State::InTransaction;
        }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if !self.done {
            *self.held = None;
        }
    }
}

/// How often something was tried.
#[derive(Default)]
pub(super) struct Attempts {
    made: usize,
}

impl Attempts {
    /// Whether this is not the first: what is tried may have been done already.
    pub(super) fn is_another(&self) -> bool {
        self.made > 0
    }

    /// Waits before the next attempt, or returns the error where another one would not help.
    pub(super) async fn again(&mut self, server: &Server, what: &str, failure: Failure) -> Result<()> {
        let pause = PAUSES.get(self.made).filter(|_| failure.may_pass());
        let Some(pause) = pause else { return Err(failure.error(server, what)) };
        self.made += 1;
        drop(tokio::time::timeout(*pause, std::future::pending::<()>()).await);
        Ok(())
    }
}

/// Runs work over a connection of `$ledger`, again when the connection was lost. `$attempts` says whether it is again.
macro_rules! reading {
    ($ledger:expr, $what:expr, |$client:ident| $work:expr) => {{
        let mut attempts = crate::ledger::postgres::session::Attempts::default();
        loop {
            let done = async {
                $ledger.check_lease()?;
                let lent = $ledger.session.lend().await?;
                $ledger.check_plan(lent.is_new)?;
                let $client = lent.client()?;
                let value = $work;
                if $ledger.has_open_plan() {
                    lent.in_transaction()
                } else {
                    lent.done()
                }
                Ok::<_, crate::ledger::postgres::error::Failure>(value)
            };
            match done.await {
                Ok(value) => break Ok(value),
                Err(failure) => {
                    let failure = $ledger.of_plan(failure);
                    if let Err(error) = attempts.again(&$ledger.session.server, $what, failure).await {
                        break Err(error);
                    }
                }
            }
        }
    }};
}

/// Runs work in a transaction of its own, which commits only while this process has the `$lease`, if one is given; again when
/// the connection was lost. `$again` says whether it is again: the work may have been committed before.
macro_rules! writing {
    ($ledger:expr, $lease:expr, $what:expr, |$client:ident, $again:ident| $work:expr) => {{
        let lease: Option<&crate::ledger::postgres::held_lease::HeldLease> = $lease;
        let mut attempts = crate::ledger::postgres::session::Attempts::default();
        loop {
            let $again = attempts.is_another();
            let done = async {
                $ledger.check_lease()?;
                let lent = $ledger.session.lend().await?;
                lent.begin().await?;
                let $client = lent.client()?;
                if let Some(lease) = lease {
                    lease.check_known()?;
                    lease.check($client, false).await?;
                }
                let value = $work;
                lent.commit().await?;
                lent.done();
                Ok::<_, crate::ledger::postgres::error::Failure>(value)
            };
            match done.await {
                Ok(value) => break Ok(value),
                Err(failure) => {
                    if let Err(error) = attempts.again(&$ledger.session.server, $what, failure).await {
                        break Err(error);
                    }
                }
            }
        }
    }};
}

pub(super) use {reading, writing};
