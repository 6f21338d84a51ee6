//! Groups that come from another ledger.

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::error::Failure;
use super::fold::keep_first_changes;
use super::hashes::{Hashes, hashes};
use super::session::writing;
use super::{PostgresLedger, begin, stored};
use crate::error::{Error, Kind, Result};
use crate::ledger::SyncedGroup;
use crate::ledger::import::{ImportedGroups, refused};

impl PostgresLedger {
    /// Takes groups over; see [`crate::ledger::Ledger::import`].
    pub(super) async fn take_over(&self, sync: &str, mut groups: ImportedGroups, replace: bool) -> Result<u64> {
        let server = &self.session.server;
        let lease = self.lease_for(sync).await?;
        let imported = writing!(self, Some(&lease), "import groups", |client, again| {
            if again {
                // Some of the groups were taken already.
                let lost = Error::new(Kind::Ledger, "the connection was lost during the import");
                return Err(Failure::Final(
                    lost.advise("import the file again: nothing of it was kept, unless all of it was"),
                ));
            }
            let number = begin::number(server, client, sync).await?;
            self.make_room(client, sync, number, replace).await?;
            let (mut count, mut last_seq) = (0, 0);
            while let Some(page) = groups.recv().await {
                let page = page?;
                count += page.len() as u64;
                last_seq = page.iter().map(|group| group.settled_seq).fold(last_seq, u64::max);
                let (keys, fingerprints) = page.iter().map(|group| (group.key.clone(), group.fingerprint)).unzip();
                let hashes = hashes(self.duckdb(), keys, fingerprints).await?;
                self.insert(client, number, &page, &hashes).await?;
            }
            // Later changes must not repeat a sequence: dedup keys are made of them.
            let raise =
                "SELECT setval($1::text::regclass, greatest($2, (SELECT last_value FROM @.journal_seq))) WHERE $2 > 0";
            let sequence = self.sql("@.journal_seq");
            client.query_typed(&self.sql(raise), &[(&sequence, Type::TEXT), (&(last_seq as i64), Type::INT8)]).await?;
            count
        });
        self.give_back(lease).await;
        imported
    }

    async fn make_room(&self, client: &Client, sync: &str, number: i32, replace: bool) -> Result<(), Failure> {
        let count = "SELECT (SELECT count(*) FROM @.synced WHERE sync = $1), \
            (SELECT count(*) FROM @.runs WHERE sync = $1 AND status = 'running')";
        let row = client.query_typed_one(&self.sql(count), &[(&number, Type::INT4)]).await?;
        let (groups, running): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        if !replace && groups + running > 0 {
            return Err(refused(sync, groups as u64).into());
        }
        self.drop_mirror(client, sync).await?;
        keep_first_changes(&self.session.server, client, number, None).await?;
        for sql in [
            "DELETE FROM @.synced WHERE sync = $1",
            "DELETE FROM @.marks WHERE sync = $1",
            "UPDATE @.runs SET status = 'crashed', ended_at = started_at WHERE sync = $1 AND status = 'running'",
            "UPDATE @.runs SET cursor_value = NULL, read_all = NULL, full_read = false WHERE sync = $1",
        ] {
            client.execute_typed(&self.sql(sql), &[(&number, Type::INT4)]).await?;
        }
        Ok(())
    }

    async fn insert(&self, client: &Client, sync: i32, page: &[SyncedGroup], hashes: &[Hashes]) -> Result<(), Failure> {
        let insert = "INSERT INTO @.synced (sync, key, bucket, row_hash, fingerprint, seq, recorded_at, document, \
            unconfirmed_in, rejected_document, rejected_reason, attempted) SELECT $1, key, bucket, row_hash, fingerprint, seq, \
            at, document, unconfirmed, rejected, reason, CASE WHEN attempted IS NOT NULL \
            THEN ARRAY(SELECT json_array_elements_text(attempted::json)) END \
            FROM unnest($2::bytea[], $3::smallint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::timestamptz[], $8::text[], \
            $9::text[], $10::text[], $11::text[], $12::text[]) \
            g(key, bucket, row_hash, fingerprint, seq, at, document, unconfirmed, rejected, reason, attempted)";
        fn all<'a, T>(page: &'a [SyncedGroup], of: impl Fn(&'a SyncedGroup) -> T) -> Vec<T> {
            page.iter().map(of).collect()
        }
        let attempted = |group: &SyncedGroup| {
            (!group.attempted.is_empty()).then(|| serde_json::Value::from(group.attempted.clone()).to_string())
        };
        let rejected = |group: &SyncedGroup| group.rejected.as_ref().map(|(document, _)| document.to_text());
        client
            .execute_typed(
                &self.sql(insert),
                &[
                    (&sync, Type::INT4),
                    (&all(page, |group| group.key.as_bytes()), Type::BYTEA_ARRAY),
                    (&hashes.iter().map(|hashes| hashes.bucket).collect::<Vec<_>>(), Type::INT2_ARRAY),
                    (&hashes.iter().map(|hashes| hashes.row_hash).collect::<Vec<_>>(), Type::INT8_ARRAY),
                    (&all(page, |group| group.fingerprint.map(|hash| hash as i64)), Type::INT8_ARRAY),
                    (&all(page, |group| group.settled_seq as i64), Type::INT8_ARRAY),
                    (&all(page, |group| group.at), Type::TIMESTAMPTZ_ARRAY),
                    (&all(page, |group| group.document.to_text()), Type::TEXT_ARRAY),
                    (&all(page, |group| group.unconfirmed_in.as_deref().map(stored)), Type::TEXT_ARRAY),
                    (&all(page, rejected), Type::TEXT_ARRAY),
                    (&all(page, |group| group.rejected.as_ref().map(|(_, reason)| stored(reason))), Type::TEXT_ARRAY),
                    (&all(page, attempted), Type::TEXT_ARRAY),
                ],
            )
            .await?;
        Ok(())
    }
}
