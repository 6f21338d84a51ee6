//! Mirrors in PostgreSQL: the comparison by one statement, changes in transactions of their own.

use super::dialect::{DIALECT, MIRROR};
use super::error::fragments;
use super::link::State;
use super::read::{self, Plan, Stop};
use super::{Postgres, rows};
use crate::duckdb::DuckDbConnection;
use crate::error::{Error, Kind, Result};
use crate::mapping::compile::Projection;
use crate::mapping::dialect::Dialect as _;
use crate::source::mirror::{MirrorAccess, MirrorAnswer, MirrorChange, MirrorLines, MirrorQuery, MirrorStatements};
use crate::source::{Staged, staging};

const READING: &str = "failed to compare in the warehouse";

impl Postgres {
    fn mirror_schema(&self) -> Vec<String> {
        // A name that is none was refused when the settings were read.
        let schema = self.settings.mirror().schema;
        crate::mapping::sections::model::table_name(&schema).unwrap_or_else(|_| vec![schema])
    }

    /// How the rows are hashed and read.
    async fn mirror_plan(&mut self, projection: &Projection) -> Result<Plan> {
        if !self.can_hash().await? {
            let error =
                Error::new(Kind::Source, "this server cannot hash rows, which comparing in the warehouse needs");
            return Err(error
                .advise("PostgreSQL can from version 14 on; set `compare = \"local\"` for other servers")
                .at(self.target.place()));
        }
        self.reading_plan(projection, false).await
    }

    pub(super) async fn compare_with_mirror(
        &mut self,
        projection: &Projection,
        query: &MirrorQuery,
        into: &DuckDbConnection,
        rows: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(Staged, MirrorAnswer)> {
        let plan = self.mirror_plan(projection).await?;
        let schema = self.mirror_schema();
        let statements = MirrorStatements { dialect: DIALECT, sql: &MIRROR, schema: &schema };
        let model_rows = plan.model_rows();
        if !query.all && query.wanted.is_empty() {
            // Several of the server's processes can sum up, and none of them joins: most runs end here.
            let sums = self.text_value(&statements.sum(&model_rows), READING).await?;
            if let Some(answer) = sums.and_then(|sums| MirrorAnswer::of_equal_rows(&sums, query)) {
                plan.table().create(into).await?;
                return Ok((plan.table().staged(into.clone(), plan.kinds().to_vec(), None, None), answer));
            }
        }
        let sql = statements.compare(&model_rows, query);
        let (target, limit) = (self.target.clone(), self.settings.stall_timeout());
        let mut lines = MirrorLines::new(query);
        plan.table().create(into).await?;
        let mut link = self.lend().await?;
        let read = read::by_mirror(&link.client, &plan, (&sql, limit), into, rows, &mut lines).await;
        let read = read.and_then(|_| lines.finish().map_err(Stop::Malformed));
        match read {
            Ok(answer) => {
                link.state = State::InTransaction;
                self.link = Some(link);
                Ok((plan.table().staged(into.clone(), plan.kinds().to_vec(), None, None), answer))
            }
            Err(stop) => {
                drop(link);
                // Half a table must not be mistaken for a whole one. If dropping it fails too, the first error counts.
                let _ = staging::discard(into).await;
                Err(match stop {
                    Stop::Server(error) => target.query_error(READING, &error, &sql, &fragments(projection)),
                    Stop::Malformed(what) => Error::new(Kind::Source, format!("{READING}: {what}")).at(target.place()),
                    Stop::Stalled => target.stalled(READING, limit),
                    Stop::Staging(error) => error,
                })
            }
        }
    }

    pub(super) async fn write_mirror(&mut self, projection: &Projection, change: &MirrorChange) -> Result<()> {
        let rows = match change {
            MirrorChange::Fill { .. } => Some(self.mirror_plan(projection).await?.model_rows()),
            _ => None,
        };
        self.rollback().await?;
        let schema = self.mirror_schema();
        let statements = MirrorStatements { dialect: DIALECT, sql: &MIRROR, schema: &schema };
        let mut settings = self.session_settings().join("; ");
        settings.push_str(
            &statements.change(change, rows.as_ref()).iter().map(|sql| format!("; {sql}")).collect::<String>(),
        );
        let sql = format!("BEGIN; {settings}; COMMIT");
        let (target, limit) = (self.target.clone(), self.settings.stall_timeout());
        let mut link = self.lend().await?;
        // Given up or failed, the connection is dropped, and with it the transaction.
        match tokio::time::timeout(limit, link.client.batch_execute(&sql)).await {
            Err(_) => Err(target.stalled("failed to write the mirror", limit)),
            Ok(Err(error)) => Err(target.query_error("failed to write the mirror", &error, &sql, &[])),
            Ok(Ok(())) => {
                link.state = State::Idle;
                self.link = Some(link);
                Ok(())
            }
        }
    }

    pub(super) async fn may_keep_mirrors(&mut self) -> Result<MirrorAccess> {
        let can_hash = self.can_hash().await?;
        let schema = self.mirror_schema();
        let statements = MirrorStatements { dialect: DIALECT, sql: &MIRROR, schema: &schema };
        let name = DIALECT.literal(schema.last().map_or("", String::as_str));
        let sql = format!(
            "SELECT pg_catalog.has_schema_privilege(nspname, 'USAGE') AND pg_catalog.has_schema_privilege(nspname, 'CREATE') \
             FROM pg_catalog.pg_namespace WHERE nspname = {name}"
        );
        let target = self.target.clone();
        let answered = self.link().await?.client.simple_query(&sql).await;
        let answered = answered.map_err(|error| target.query_error("failed to check privileges", &error, &sql, &[]))?;
        let granted = rows(&answered, |row| row.get(0) == Some("t"));
        let shown = schema.join(".");
        let refused = match granted.first() {
            _ if !can_hash => Some("the server cannot hash rows: PostgreSQL can from version 14 on".to_owned()),
            Some(true) => None,
            Some(false) => Some(format!("user `{}` may not create tables in the schema `{shown}`", target.user())),
            None => Some(format!("the schema `{shown}` does not exist")),
        };
        Ok(MirrorAccess { refused, grants: statements.grants(&DIALECT.identifier(target.user())) })
    }
}
