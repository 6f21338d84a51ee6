//! The generation on this machine: a number beside the file that represents the ledger here, by which a database is recognized
//! that is older than what was sent.
//!
//! A database that was restored from a backup, and a standby that was promoted without the primary's last transactions, opens
//! without complaint. So every transaction after which something may be sent raises the number of the machine that it comes
//! from, in the ledger; once it is durable, the number is written beside the stand-in file and synced, and only then is
//! anything sent. A ledger behind that number lacks what this machine has sent. A machine that keeps no file knows nothing, and
//! raises no alarm.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::PostgresLedger;
use super::error::Failure;
use super::server::Server;
use super::session::{reading, writing};
use crate::error::{Error, Kind, Result};
use crate::io::Random;
use crate::ledger::duckdb::generation::{self, Recorded};

/// The generation of one ledger on this machine, shared by all connections of a process.
pub(super) struct Generation {
    path: PathBuf,
    ledger: String,
    machine: String,
    latest: Mutex<u64>,
    is_behind: AtomicBool,
}

impl Generation {
    /// The last number that was recorded.
    pub(super) fn latest(&self) -> u64 {
        *self.latest.lock()
    }

    /// Counts the transaction under way as this machine's next, which follows `before`.
    pub(super) async fn raise(&self, server: &Server, client: &Client, before: u64) -> Result<u64, Failure> {
        let raise = "INSERT INTO @.machines AS m (machine, generation) VALUES ($1, 1) \
            ON CONFLICT (machine) DO UPDATE SET generation = m.generation + 1 RETURNING generation";
        let row = client.query_typed_one(&server.sql(raise), &[(&self.machine, Type::TEXT)]).await?;
        let raised = row.try_get::<_, i64>(0)? as u64;
        if raised <= before {
            self.is_behind.store(true, Ordering::SeqCst);
            self.check()?;
        }
        Ok(raised)
    }

    /// Fails once the database was found to be older than it was.
    pub(super) fn check(&self) -> Result<(), Failure> {
        match self.is_behind.load(Ordering::SeqCst) {
            false => Ok(()),
            true => Err(Failure::Final(
                Error::new(
                    Kind::Ledger,
                    "the ledger's database is older than it was: its latest transactions are lost",
                )
                .advise(
                    "start again: every group is unconfirmed then, and the next run of each sync resends everything",
                ),
            )),
        }
    }

    /// Records a number that is durable in the ledger. Durable itself when it returns.
    pub(super) async fn record(self: &Arc<Self>, raised: u64) -> Result<()> {
        let own = Arc::clone(self);
        let recorded = tokio::task::spawn_blocking(move || {
            let mut latest = own.latest.lock();
            if raised <= *latest {
                return Ok(());
            }
            let ledger = name(&own.ledger, &own.machine);
            generation::write(&own.path, &Recorded { ledger, generation: raised })
                .map_err(|error| generation::failed(&own.path, error))?;
            *latest = raised;
            Ok(())
        });
        recorded
            .await
            .map_err(|panic| Error::new(Kind::Bug, "failed to record the ledger's generation").because(panic))?
    }
}

/// How a ledger on a machine is called in the file.
fn name(ledger: &str, machine: &str) -> String {
    format!("{ledger} {machine}")
}

impl PostgresLedger {
    /// The same ledger with its generation in the file at `path`. Where the database lacks what that file says was sent, every
    /// group is made unconfirmed.
    pub(in crate::ledger) async fn recorded_at(mut self, path: PathBuf) -> Result<PostgresLedger> {
        let found = generation::read(&path)?;
        let sql = self.sql("SELECT ledger FROM @.version");
        let ledger: Result<String> =
            reading!(self, "read the ledger's id", |client| { client.query_typed_one(&sql, &[]).await?.try_get(0)? });
        let ledger = ledger?;
        let known = found.as_ref().and_then(|found| {
            let (of, machine) = found.ledger.split_once(' ')?;
            (of == ledger).then(|| (machine.to_owned(), found.generation))
        });
        // Another ledger's number says nothing about this one.
        let (machine, sent) = known.unwrap_or_else(|| (format!("{:016x}", Random::from_entropy().up_to(u64::MAX)), 0));
        let own = self.raised_by(&machine).await?;
        if own < sent {
            self.unconfirm_all(&machine, sent).await?;
            self.outdated = Some(format!(
                "this ledger is older than what was last sent from this machine (`{}` says {sent}, the ledger {own}): its \
                 database was restored from a backup, or lost its latest transactions",
                path.file_name().unwrap_or_default().display()
            ));
        }
        let latest = Mutex::new(own.max(sent));
        self.generation =
            Some(Arc::new(Generation { path, ledger, machine, latest, is_behind: AtomicBool::new(false) }));
        Ok(self)
    }

    /// How often a machine was about to send something, as the ledger has it.
    async fn raised_by(&self, machine: &str) -> Result<u64> {
        let sql = self.sql("SELECT coalesce(max(generation), 0) FROM @.machines WHERE machine = $1");
        let raised: Result<i64> = reading!(self, "read the ledger's generation", |client| {
            client.query_typed_one(&sql, &[(&machine, Type::TEXT)]).await?.try_get(0)?
        });
        Ok(raised? as u64)
    }

    /// Makes every group of every sync unconfirmed, while no other process has any of them.
    async fn unconfirm_all(&self, machine: &str, sent: u64) -> Result<()> {
        let is_done = async || Ok(self.raised_by(machine).await? >= sent);
        let Some(ledger) = self.claim_ledger(is_done).await? else { return Ok(()) };
        let mark = format!("outdated-{machine}-{sent}");
        let done: Result<()> = writing!(self, Some(&ledger), "make all groups unconfirmed", |client, _again| {
            let unconfirm = "UPDATE @.synced SET unconfirmed_in = coalesce(unconfirmed_in, $1), rejected_document = NULL, \
                rejected_reason = NULL";
            client.execute_typed(&self.sql(unconfirm), &[(&mark, Type::TEXT)]).await?;
            let rewind = "UPDATE @.runs SET cursor_value = NULL, read_all = NULL, full_read = false";
            client.execute_typed(&self.sql(rewind), &[]).await?;
            let reach = "INSERT INTO @.machines (machine, generation) VALUES ($1, $2) \
                ON CONFLICT (machine) DO UPDATE SET generation = EXCLUDED.generation";
            client.execute_typed(&self.sql(reach), &[(&machine, Type::TEXT), (&(sent as i64), Type::INT8)]).await?;
        });
        self.give_back(ledger).await;
        done
    }
}
