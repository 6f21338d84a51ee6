//! Leases: what a process has to itself for a time.
//!
//! | lease | it lets its holder |
//! |---|---|
//! | `sync/NAME` | run the sync, and write what belongs to it |
//! | `daemon/NAME` | be the daemon of this name |
//! | [`LEDGER`] | change the tables themselves; no other process has any lease meanwhile |
//!
//! A row each, and one thread in a process that extends all it has in one statement, by the server's clock. The same statement
//! carries what a run reports of its progress, and returns what other processes want of it. Who finds a lease expired
//! takes it and gets the next *fence*, and every transaction that writes first checks, and locks, the fence it has: a process
//! that was stopped meanwhile and wakes up cannot write any more. The lock is one that extending does not wait for and taking
//! does (`fence` is part of a unique index), so a transaction under way ends before the next holder begins.
//!
//! What was sent cannot be fenced. So a holder starts no attempt unless its lease has not expired by its own clocks, counted
//! from the beginning of the last statement that extended it; and an expired lease is not taken while a request of its
//! holder can still arrive.
//!
//! Advisory locks would be simpler, and poolers break them.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::error::Failure;
use super::held_lease::{Found, HeldLease, LEDGER, LeaseState, find, find_both, lost};
use super::lease_keeper::Keeper;
use super::server::Server;
use crate::error::{Error, Kind, Result};
use crate::ledger::shared::Lease;

/// How long a lease lasts that is not extended, unless the config says otherwise.
pub const LASTS: Duration = Duration::from_secs(30);

/// The leases of this process.
pub(super) struct Leases {
    pub(super) state: Arc<LeaseState>,
    keeper: Mutex<Option<Keeper>>,
    /// Claims take turns, so that one lease is not taken twice.
    turn: tokio::sync::Mutex<()>,
}

impl Leases {
    pub(super) fn new(server: Arc<Server>, lasts: Duration) -> Arc<Leases> {
        let (state, released) = LeaseState::new(server, lasts);
        let keeper = Mutex::new(Some(Keeper::Idle(released)));
        Arc::new(Leases { state: Arc::new(state), keeper, turn: tokio::sync::Mutex::default() })
    }

    /// Takes a lease, where no process has it, or one that is gone; or another copy of one that this process has.
    ///
    /// Errors: [`Kind::LedgerBusy`], another process has it, or has taken it from this one.
    pub(super) async fn claim(
        &self,
        client: &Client,
        name: &str,
        attempt: Duration,
        detail: &str,
    ) -> Result<Arc<HeldLease>, Failure> {
        let _turn = self.turn.lock().await;
        if let Some(held) = self.state.held(name) {
            return if held.is_lost() { Err(Failure::Final(lost(name))) } else { Ok(held) };
        }
        let state = &self.state;
        let [mut whole, mut found] = find_both(&state.server, client, name).await?;
        if found.is_none() {
            let insert = "INSERT INTO @.leases (name, holder, fence, until) \
                VALUES ($1, '', nextval($2::text::regclass), '-infinity') ON CONFLICT DO NOTHING";
            let fences = state.server.sql("@.fences");
            client.execute_typed(&state.server.sql(insert), &[(&name, Type::TEXT), (&fences, Type::TEXT)]).await?;
            [whole, found] = find_both(&state.server, client, name).await?;
        }
        let (Some(whole), Some(found)) = (whole, found) else {
            return Err(Failure::Final(Error::new(Kind::Ledger, "the table of leases has lost rows")));
        };
        if whole.free_in > 0.0 && !whole.is_left(&state.holder) {
            return Err(Failure::Final(whole.busy(LEDGER)));
        }
        let is_left = found.is_left(&state.holder);
        if found.free_in > 0.0 && !is_left {
            return Err(Failure::Final(found.busy(name)));
        }
        // Not while another process changes the tables, and not what was extended since it was found.
        let take = "WITH whole AS MATERIALIZED (SELECT until, fence FROM @.leases WHERE name = $8 FOR KEY SHARE) \
            UPDATE @.leases l SET holder = $3, fence = nextval($9::text::regclass), attempt = $5, detail = $6, request = NULL, \
            since = clock_timestamp(), until = clock_timestamp() + $4 * interval '1 second' FROM whole \
            WHERE l.name = $1 AND l.fence = $2 AND ($7 OR l.until + l.attempt * interval '1 second' < clock_timestamp()) \
            AND (whole.until < clock_timestamp() OR whole.fence = $10) RETURNING l.fence";
        let (began, left_whole) = (state.now(), if whole.is_left(&state.holder) { whole.fence } else { -1 });
        let taken = client
            .query_typed_opt(
                &state.server.sql(take),
                &[
                    (&name, Type::TEXT),
                    (&found.fence, Type::INT8),
                    (&state.holder, Type::TEXT),
                    (&state.lasts.as_secs_f64(), Type::FLOAT8),
                    (&attempt.as_secs_f64(), Type::FLOAT8),
                    (&detail, Type::TEXT),
                    (&is_left, Type::BOOL),
                    (&LEDGER, Type::TEXT),
                    (&state.server.sql("@.fences"), Type::TEXT),
                    (&left_whole, Type::INT8),
                ],
            )
            .await?;
        let Some(taken) = taken else {
            let found = find_both(&state.server, client, name).await?[1].take().unwrap_or(found);
            return Err(Failure::Final(found.busy(name)));
        };
        self.keep(name, taken.try_get(0)?, began)
    }

    /// Takes the lease of the whole ledger: no other process has any lease then, and none gets one.
    pub(super) async fn claim_ledger(&self, client: &Client) -> Result<Arc<HeldLease>, Failure> {
        let _turn = self.turn.lock().await;
        let state = &self.state;
        let insert =
            "INSERT INTO @.leases (name, holder, fence, until) VALUES ($1, '', 0, '-infinity') ON CONFLICT DO NOTHING";
        client.execute_typed(&state.server.sql(insert), &[(&LEDGER, Type::TEXT)]).await?;
        let missing = || Failure::Final(Error::new(Kind::Ledger, "the table of leases has lost rows"));
        let whole = find(&state.server, client, LEDGER).await?.ok_or_else(missing)?;
        let is_left = whole.is_left(&state.holder);
        if whole.free_in > 0.0 && !is_left {
            return Err(Failure::Final(whole.busy(LEDGER)));
        }
        let take = "UPDATE @.leases SET holder = $3, fence = fence + 1, until = clock_timestamp() + $4 * interval '1 second' \
            WHERE name = $1 AND fence = $2 AND ($5 OR until < clock_timestamp()) RETURNING fence";
        let began = state.now();
        let taken = client
            .query_typed_opt(
                &state.server.sql(take),
                &[
                    (&LEDGER, Type::TEXT),
                    (&whole.fence, Type::INT8),
                    (&state.holder, Type::TEXT),
                    (&state.lasts.as_secs_f64(), Type::FLOAT8),
                    (&is_left, Type::BOOL),
                ],
            )
            .await?;
        let Some(taken) = taken else { return Err(Failure::Final(whole.busy(LEDGER))) };
        let held = self.keep(LEDGER, taken.try_get(0)?, began)?;
        // After the row of the whole ledger is ours: what was claimed before is seen here, what comes later is refused.
        let others = "SELECT name, fence, holder, extract(epoch FROM until - clock_timestamp())::float8 FROM @.leases \
            WHERE name <> $1 AND until > clock_timestamp() ORDER BY name";
        for row in client.query_typed(&state.server.sql(others), &[(&LEDGER, Type::TEXT)]).await? {
            let found = Found { fence: row.try_get(1)?, holder: row.try_get(2)?, free_in: row.try_get(3)? };
            if !found.is_left(&state.holder) {
                state.release(client, held).await;
                return Err(Failure::Final(found.busy(LEDGER)));
            }
        }
        Ok(held)
    }

    fn keep(&self, name: &str, fence: i64, began: (Duration, DateTime<Utc>)) -> Result<Arc<HeldLease>, Failure> {
        let held = self.state.keep(name, fence, began);
        let mut keeper = self.keeper.lock();
        *keeper = keeper.take().map(|keeper| keeper.started(&self.state)).transpose()?;
        Ok(held)
    }
}

impl Drop for Leases {
    /// Gives back what is left, so that the next command need not wait.
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.get_mut().take() {
            self.state.queue_releases();
            keeper.stop();
        }
    }
}
