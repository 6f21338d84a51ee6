//! Opening a ledger in PostgreSQL.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio_postgres::Client;

use super::error::Failure;
use super::hashes::hashing;
use super::held_lease::HeldLease;
use super::lease::{LASTS, Leases};
use super::server::Server;
use super::session::{Attempts, Session, reading};
use super::{PostgresLedger, schema};
use crate::duckdb::{DuckDbConnection, Limits};
use crate::error::{Error, Kind, Result};
use crate::io::{Clock, SystemClock};
use crate::ledger::Retention;
use crate::source::postgres::PostgresSettings;
use crate::source::staged::ORDERED_MAX;

/// How long the ledger is waited for while another process changes its tables.
const EXCLUSIVE_MAX: Duration = Duration::from_secs(5);
const EXCLUSIVE_PAUSE: Duration = Duration::from_millis(100);
/// What to do about a process that keeps the tables from being changed.
const UPDATE_ADVICE: &str = "this process has to change all of the ledger first: stop or drain every daemon and command that uses \
    it, then start again";

impl PostgresLedger {
    /// Opens the ledger in this schema to write, creating it when absent.
    ///
    /// Errors: [`Kind::LedgerBusy`], its tables must change, and another process uses it; [`Kind::Ledger`], the server cannot be reached, refuses, or has
    /// a newer version's; [`Kind::Config`], the settings cannot be used.
    pub async fn open(
        settings: &PostgresSettings,
        schema: &str,
        limits: &Limits,
        retention: Retention,
    ) -> Result<PostgresLedger> {
        PostgresLedger::open_leasing(settings, schema, LASTS, limits, retention).await
    }

    /// The same with leases that last for so long.
    ///
    /// Errors: as [`PostgresLedger::open`].
    pub async fn open_leasing(
        settings: &PostgresSettings,
        schema: &str,
        lease: Duration,
        limits: &Limits,
        retention: Retention,
    ) -> Result<PostgresLedger> {
        let server = Arc::new(Server::of(settings, schema)?);
        let leases = Leases::new(Arc::clone(&server), lease);
        let ledger = PostgresLedger::over(server, limits, retention, Some(leases)).await?;
        ledger.ok_or_else(|| Error::new(Kind::Bug, "a ledger was opened to write that does not exist"))
    }

    /// Opens the ledger in this schema without the right to write: for queries and plans. None where there is no ledger.
    pub async fn open_read_only(
        settings: &PostgresSettings,
        schema: &str,
        limits: &Limits,
    ) -> Result<Option<PostgresLedger>> {
        let server = Arc::new(Server::of(settings, schema)?);
        PostgresLedger::over(server, limits, Retention::FOREVER, None).await
    }

    async fn over(
        server: Arc<Server>,
        limits: &Limits,
        retention: Retention,
        leases: Option<Arc<Leases>>,
    ) -> Result<Option<PostgresLedger>> {
        let duckdb = DuckDbConnection::open(None, limits)?;
        let session = Session::new(Arc::clone(&server));
        let mut attempts = Attempts::default();
        let opened = loop {
            let opened = async {
                let lent = session.lend().await?;
                let opened = open(&server, lent.client()?, leases.as_deref()).await?;
                lent.done();
                Ok::<_, Failure>(opened)
            };
            match opened.await {
                Ok(opened) => break opened,
                Err(failure) => attempts.again(&server, "open the ledger", failure).await?,
            }
        };
        let Some(stored) = opened else { return Ok(None) };
        let own = hashing(&duckdb).await?;
        let mut ledger = PostgresLedger {
            session,
            duckdb,
            leases,
            retention,
            generation: None,
            outdated: None,
            kept_requests: None,
            ordered_max: ORDERED_MAX,
            hashes_alike: stored == own,
            found: Arc::default(),
            plan_is_open: AtomicBool::new(false),
        };
        if ledger.leases.is_some() && !ledger.hashes_alike {
            ledger.hash_alike(&own).await?;
            ledger.hashes_alike = true;
        }
        Ok(Some(ledger))
    }

    /// Takes the lease of the whole ledger, unless what it is for is done by another process. Processes that have the ledger or
    /// a sync are waited for a little.
    pub(super) async fn claim_ledger(&self, is_done: impl AsyncFn() -> Result<bool>) -> Result<Option<Arc<HeldLease>>> {
        let (leases, clock) = (self.leases()?, SystemClock::start());
        loop {
            if is_done().await? {
                return Ok(None);
            }
            let claimed: Result<Arc<HeldLease>> =
                reading!(self, "claim the ledger", |client| leases.claim_ledger(client).await?);
            match claimed {
                Ok(ledger) if is_done().await? => {
                    self.give_back(ledger).await;
                    return Ok(None);
                }
                Err(busy) if busy.kind() == Kind::LedgerBusy && clock.elapsed() < EXCLUSIVE_MAX => {
                    clock.sleep(EXCLUSIVE_PAUSE).await;
                }
                Err(busy) if busy.kind() == Kind::LedgerBusy => return Err(busy.advise(UPDATE_ADVICE)),
                claimed => return claimed.map(Some),
            }
        }
    }

    /// Has every group hashed by this DuckDB, unless another process has seen to that meanwhile.
    async fn hash_alike(&self, own: &str) -> Result<()> {
        let sql = self.sql("SELECT hashing FROM @.version");
        let is_done = async || {
            let stored: Result<String> = reading!(self, "read the ledger's version", |client| {
                client.query_typed_one(&sql, &[]).await?.try_get(0)?
            });
            Ok(stored? == own)
        };
        let Some(ledger) = self.claim_ledger(is_done).await? else { return Ok(()) };
        let hashed = self.hash_again(&ledger, own).await;
        self.give_back(ledger).await;
        hashed
    }
}

/// Returns how rows were hashed; none where there is no ledger.
async fn open(server: &Arc<Server>, client: &Client, leases: Option<&Leases>) -> Result<Option<String>, Failure> {
    let found = schema::find(server, client).await?;
    if let Some(leases) = leases {
        // Another process may use tables that are there.
        let outdated = found.version.is_some_and(|version| version > 0 && version != schema::VERSION);
        let ledger = match outdated && !found.is_standby {
            false => None,
            true => Some(leases.claim_ledger(client).await.map_err(|failure| match failure {
                Failure::Final(error) if error.kind() == Kind::LedgerBusy => {
                    Failure::Final(error.advise(UPDATE_ADVICE))
                }
                failure => failure,
            })?),
        };
        schema::migrate(server, client, &found).await?;
        if let Some(ledger) = ledger {
            leases.state.release(client, ledger).await;
        }
    } else if found.version.is_none() {
        return Ok(None);
    } else if found.version < Some(schema::VERSION) {
        let what = format!("this ledger has the older version {}", found.version.unwrap_or_default());
        let advice = "run `groupcast run` once to bring it to the current one";
        return Err(Error::new(Kind::Ledger, what).advise(advice).into());
    }
    Ok(Some(client.query_typed_one(&server.sql("SELECT hashing FROM @.version"), &[]).await?.try_get(0)?))
}
