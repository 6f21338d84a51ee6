//! Opening a ledger in PostgreSQL.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio_postgres::Client;

use super::error::Failure;
use super::hashes::hashing;
use super::lease::Lease;
use super::server::Server;
use super::session::{Attempts, Session};
use super::{PostgresLedger, schema};
use crate::duckdb::{DuckDbConnection, Limits};
use crate::error::{Error, Kind, Result};
use crate::ledger::Retention;
use crate::source::postgres::PostgresSettings;
use crate::source::staged::ORDERED_MAX;

/// What opening found.
struct Opened {
    lease: Option<Lease>,
    hashing: String,
}

impl PostgresLedger {
    /// Opens the ledger in this schema to write, creating it when absent.
    ///
    /// Errors: [`Kind::LedgerBusy`], another process has it; [`Kind::Ledger`], the server cannot be reached, refuses, or has
    /// a newer version's; [`Kind::Config`], the settings cannot be used.
    pub async fn open(
        settings: &PostgresSettings,
        schema: &str,
        limits: &Limits,
        retention: Retention,
    ) -> Result<PostgresLedger> {
        let server = Arc::new(Server::of(settings, schema)?);
        let ledger = PostgresLedger::over(server, limits, retention, true).await?;
        ledger.ok_or_else(|| Error::new(Kind::Bug, "a ledger was opened to write that does not exist"))
    }

    /// Opens the ledger in this schema without the right to write: for queries and plans. None where there is no ledger.
    pub async fn open_read_only(
        settings: &PostgresSettings,
        schema: &str,
        limits: &Limits,
    ) -> Result<Option<PostgresLedger>> {
        let server = Arc::new(Server::of(settings, schema)?);
        PostgresLedger::over(server, limits, Retention::FOREVER, false).await
    }

    async fn over(
        server: Arc<Server>,
        limits: &Limits,
        retention: Retention,
        writes: bool,
    ) -> Result<Option<PostgresLedger>> {
        let duckdb = DuckDbConnection::open(None, limits)?;
        let session = Session::new(Arc::clone(&server));
        let mut attempts = Attempts::default();
        let opened = loop {
            let opened = async {
                let lent = session.lend().await?;
                let opened = open(&server, lent.client()?, writes).await?;
                lent.done();
                Ok::<_, Failure>(opened)
            };
            match opened.await {
                Ok(opened) => break opened,
                Err(failure) => attempts.again(&server, "open the ledger", failure).await?,
            }
        };
        let Some(Opened { lease, hashing: stored }) = opened else { return Ok(None) };
        let own = hashing(&duckdb).await?;
        let mut ledger = PostgresLedger {
            session,
            duckdb,
            lease: lease.map(Arc::new),
            retention,
            kept_requests: None,
            ordered_max: ORDERED_MAX,
            hashes_alike: stored == own,
            found: Arc::default(),
            plan_is_open: AtomicBool::new(false),
        };
        if writes && !ledger.hashes_alike {
            ledger.hash_again(&own).await?;
            ledger.hashes_alike = true;
        }
        Ok(Some(ledger))
    }
}

async fn open(server: &Arc<Server>, client: &Client, writes: bool) -> Result<Option<Opened>, Failure> {
    let found = schema::find(server, client).await?;
    if writes {
        schema::migrate(server, client, &found).await?;
    } else if found.version.is_none() {
        return Ok(None);
    } else if found.version < Some(schema::VERSION) {
        let what = format!("this ledger has the older version {}", found.version.unwrap_or_default());
        let advice = "run `groupcast run` once to bring it to the current one";
        return Err(Error::new(Kind::Ledger, what).advise(advice).into());
    }
    let hashing = client.query_typed_one(&server.sql("SELECT hashing FROM @.version"), &[]).await?.try_get(0)?;
    let lease = if writes { Some(Lease::acquire(server, client).await?) } else { None };
    Ok(Some(Opened { lease, hashing }))
}
