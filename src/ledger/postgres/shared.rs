//! What processes that use the ledger know of each other.

use std::time::Duration;

use async_trait::async_trait;
use tokio_postgres::types::Type;

use super::session::{reading, writing};
use super::{PostgresLedger, held_lease, stored};
use crate::error::Result;
use crate::ledger::shared::{Claim, LeaseCounts, LeaseRecord, SharedState};

#[async_trait]
impl SharedState for PostgresLedger {
    async fn claim(&self, lease: &str, attempt: Duration, detail: &str) -> Result<Claim> {
        Ok(self.take_lease(lease, attempt, &stored(detail)).await?)
    }

    async fn describe(&self, lease: &str, detail: &str) -> Result<()> {
        let Some(held) = self.leases()?.state.held(lease) else { return Ok(()) };
        let update = self.sql("UPDATE @.leases SET detail = $2 WHERE name = $1");
        writing!(self, Some(&held), "describe a lease", |client, _again| {
            client.execute_typed(&update, &[(&lease, Type::TEXT), (&stored(detail), Type::TEXT)]).await?;
        })
    }

    async fn leases(&self) -> Result<Vec<LeaseRecord>> {
        let server = &self.session.server;
        let own = self.leases.as_ref().map_or("", |leases| leases.state.holder.as_str());
        reading!(self, "read the leases", |client| held_lease::all(server, client, own).await?)
    }

    async fn request(&self, lease: &str, request: &str) -> Result<bool> {
        let update = self.sql("UPDATE @.leases SET request = $2 WHERE name = $1 AND until > clock_timestamp()");
        writing!(self, None, "send a request to a process", |client, _again| {
            client.execute_typed(&update, &[(&lease, Type::TEXT), (&stored(request), Type::TEXT)]).await? == 1
        })
    }

    async fn replace_note(&self, name: &str, expected: Option<&str>, text: &str) -> Result<bool> {
        let text = stored(text);
        let insert = self.sql("INSERT INTO @.kv (name, text) VALUES ($1, $2) ON CONFLICT DO NOTHING");
        let update = self.sql("UPDATE @.kv SET text = $2 WHERE name = $1 AND text = $3");
        let is_there = self.sql("SELECT EXISTS (SELECT 1 FROM @.kv WHERE name = $1 AND text = $2)");
        writing!(self, None, "replace a note", |client, again| {
            let note = [(&name as &(dyn tokio_postgres::types::ToSql + Sync), Type::TEXT), (&text, Type::TEXT)];
            let changed = match expected {
                None => client.execute_typed(&insert, &note).await?,
                Some(expected) => {
                    let [name, text] = note.clone();
                    client.execute_typed(&update, &[name, text, (&expected, Type::TEXT)]).await?
                }
            };
            // What was committed before the connection was lost counts.
            changed == 1 || (again && client.query_typed_one(&is_there, &note).await?.try_get::<_, bool>(0)?)
        })
    }

    fn lease_counts(&self) -> LeaseCounts {
        self.leases.as_ref().map(|leases| leases.state.counts()).unwrap_or_default()
    }

    fn lease_lasts(&self) -> Duration {
        self.leases.as_ref().map_or(super::LEASE_LASTS, |leases| leases.state.lasts)
    }
}
