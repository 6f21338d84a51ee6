//! The PostgreSQL source, also for warehouses with the same protocol.
//!
//! Everything happens inside short transactions: `READ COMMITTED, READ ONLY` where the server has it. Servers that refuse
//! that (Redshift, CockroachDB and proxies differ) are probed once for the best they take. A stage reads all its rows with
//! one statement, and so in one snapshot; `link` says why the transaction has none of its own. Session settings (time
//! zone, date style, digits of floats, what a backslash means) are made with `SET LOCAL`, so a pooler in transaction mode
//! neither loses them nor hands them to another client; what a server refuses of them is left out.
//!
//! Rows come by one unnamed statement, by a cursor, or by `COPY … (FORMAT BINARY)`; all feed the same decoder. Decoding
//! and appending to DuckDB overlap through a channel of two batches. A read that fails or is dropped closes its connection
//! and cancels the statement at the server; the next call connects anew.

mod batch;
mod conversion;
mod describe;
mod dialect;
mod error;
mod link;
mod literal;
mod mirror;
mod options;
mod read;
mod settings;
mod sslmode;
mod summary;
mod tables;
mod tls;
mod types;
mod value;

use std::time::Duration;

use async_trait::async_trait;
use tokio_postgres::SimpleQueryMessage;

use self::dialect::DIALECT;
pub(crate) use self::error::Target;
use self::link::probe_opening;
pub(crate) use self::link::{Link, State};
use self::read::{Plan, Stop};
pub(crate) use self::settings::Address;
pub use self::settings::{PostgresSettings, Read, SSL_MODES};
pub use self::sslmode::SslMode;
use self::summary::RowHashes;
use super::mirror::{MirrorAccess, MirrorAnswer, MirrorChange, MirrorQuery, MirrorSettings};
use super::{
    Column, FindingSubject, Inspection, OpenContext, RowsSummary, Source, SourceFinding, SourceType, Staged,
    TableListing, staging,
};
use crate::duckdb::DuckDbConnection;
use crate::error::{Error, Kind, Result, Within};
use crate::mapping::Model;
use crate::mapping::compile::Projection;
use crate::mapping::dialect::Dialect;
use crate::model::setting::{Setting, SettingValues};

/// Longest that a server may take to end a transaction that has only read.
const RELEASE_MAX: Duration = Duration::from_secs(5);

/// Longest that questions about tables and columns may take: they read no rows, and a table that is held for longer than
/// `lock_timeout` is not waited for.
const DESCRIBE_MAX: Duration = Duration::from_secs(300);

/// PostgreSQL, and warehouses that speak its protocol.
pub struct PostgresType;

#[async_trait]
impl SourceType for PostgresType {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn settings(&self) -> &'static [Setting] {
        settings::SETTINGS
    }

    fn inspect(&self, settings: &SettingValues) -> Result<Inspection> {
        let settings = settings.parse::<PostgresSettings>()?;
        let warnings = settings.check()?;
        let mirror = Some(settings.mirror());
        let certificates = [settings.ca_file, settings.cert_file, settings.key_file].into_iter().flatten();
        let files = certificates.map(|path| (path, "the certificates")).collect();
        Ok(Inspection { warnings, files, mirror, ..Inspection::default() })
    }

    async fn open(&self, settings: &SettingValues, context: &OpenContext<'_>) -> Result<Box<dyn Source>> {
        Ok(Box::new(Postgres::connect(&settings.parse()?, context.name).await?))
    }
}

/// A connection to a PostgreSQL server, made anew when it broke.
pub struct Postgres {
    settings: PostgresSettings,
    target: Target,
    link: Option<Link>,
    /// The statements that begin a read, once the server has taken them.
    opening: Option<String>,
    /// Whether the server has refused to tell types by `pg_typeof` before.
    typeof_refused: bool,
    /// Whether the server can hash rows, once it is known.
    can_hash: Option<bool>,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Postgres({})", self.target.place())
    }
}

impl Postgres {
    /// Connects to the server these settings name. `name` is the source's name in `groupcast.toml`, for messages.
    ///
    /// Errors: [`Kind::Config`] for unreadable settings, [`Kind::SourceBusy`] when the server is down, full or does not
    /// answer, [`Kind::Source`] when it (or its certificate) refuses us.
    pub async fn connect(settings: &PostgresSettings, name: &str) -> Result<Postgres> {
        let address = settings.address().within(|| format!("source {name}"))?;
        let target = Target::new(format!("source {name}"), &address, &settings.url);
        let link = Link::open(&address, &target).await?;
        Ok(Postgres {
            settings: settings.clone(),
            target,
            link: Some(link),
            opening: None,
            typeof_refused: false,
            can_hash: None,
        })
    }

    /// The connection, made anew if it broke.
    async fn link(&mut self) -> Result<&mut Link> {
        let usable = self.link.take().filter(|link| !link.client.is_closed());
        let link = match usable {
            Some(link) => link,
            None => {
                let address = self.settings.address().within(|| self.target.place())?;
                Link::open(&address, &self.target).await?
            }
        };
        Ok(self.link.insert(link))
    }

    /// Takes the connection for a statement that may run long. It is given back when the statement is done; a failure or
    /// a dropped future drops it, and so stops the statement.
    async fn lend(&mut self) -> Result<Link> {
        self.link().await?;
        let mut link = self.link.take().expect("just connected");
        link.state = State::Reading;
        Ok(link)
    }

    /// Begins a transaction; one that is open is given up first.
    async fn begin(&mut self) -> Result<()> {
        self.rollback().await?;
        let target = self.target.clone();
        let failed =
            |error: tokio_postgres::Error| target.query_error("failed to begin a transaction", &error, "", &[]);
        let settings = self.session_settings();
        let known = self.opening.clone();
        let link = self.link().await?;
        // Before the answer: should this future be dropped now, the next one knows what to clear away.
        link.state = State::InTransaction;
        let opening = match known {
            Some(opening) => opening,
            None => probe_opening(&link.client, &settings).await.map_err(failed)?,
        };
        link.client.batch_execute(&opening).await.map_err(failed)?;
        self.opening = Some(opening);
        Ok(())
    }

    async fn rollback(&mut self) -> Result<()> {
        if let Some(link) = self.link.as_mut().filter(|link| link.state == State::InTransaction) {
            if !link.client.is_closed() {
                link.client
                    .batch_execute("ROLLBACK")
                    .await
                    .map_err(|error| self.target.query_error("failed to end the transaction", &error, "", &[]))?;
            }
            link.state = State::Idle;
        }
        Ok(())
    }

    fn session_settings(&self) -> Vec<String> {
        let mut settings: Vec<String> = [
            "TimeZone = 'UTC'",
            "DateStyle = 'ISO, YMD'",
            "IntervalStyle = 'postgres'",
            "bytea_output = 'hex'",
            // The shortest text that reads back as the same float, also before PostgreSQL 12.
            "extra_float_digits = 3",
            // A mapping's SQL was checked to be one statement by this rule.
            "standard_conforming_strings = on",
            // A migration that holds a table for longer is not waited for.
            "lock_timeout = '60s'",
        ]
        .map(|setting| format!("SET LOCAL {setting}"))
        .into();
        if let Some(seconds) = self.settings.statement_timeout_seconds {
            settings.push(format!("SET LOCAL statement_timeout = '{seconds}s'"));
        }
        settings
    }

    async fn stage_rows(
        &mut self,
        projection: &Projection,
        into: &DuckDbConnection,
        rows: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Staged> {
        let is_summed = projection.summed && self.sums_rows() && self.can_hash().await?;
        let plan = self.reading_plan(projection, is_summed).await?;
        let now = if plan.follows_time() { self.server_time().await? } else { None };
        let cursor_before = match plan.cursor_maximum() {
            Some(sql) => self.text_maximum(&sql).await?,
            None => None,
        };
        plan.table().create(into).await?;
        let read = self.read_rows(&plan, into, rows).await;
        let (count, hashes) = match read {
            Ok(read) => read,
            Err(error) => {
                // Half a table must not be mistaken for a whole one. If dropping it fails too, the first error counts.
                let _ = staging::discard(into).await;
                return Err(error);
            }
        };
        let (largest, ahead) = read::maximum(into, &plan, now).await?;
        let cursor = if count == 0 { None } else { cursor_before.or(largest) };
        let staged = plan.table().staged(into.clone(), plan.kinds().to_vec(), cursor, ahead);
        Ok(Staged { summary: is_summed.then(|| plan.summary(&hashes)), ..staged })
    }

    /// How the rows are read, by their types. A transaction is open afterwards, and holds the tables as they are.
    async fn reading_plan(&mut self, projection: &Projection, is_summed: bool) -> Result<Plan> {
        let limit = self.describe_limit();
        let types = match tokio::time::timeout(limit, self.shape(projection)).await {
            Ok(shape) => shape?.1,
            Err(_) => return Err(self.give_up("failed to read the model", limit)),
        };
        Plan::new(projection, types, is_summed).within(|| self.target.place())
    }

    /// Whether the server can hash rows.
    async fn can_hash(&mut self) -> Result<bool> {
        if let Some(known) = self.can_hash {
            return Ok(known);
        }
        self.begin().await?;
        let target = self.target.clone();
        let can_hash = match self.link().await?.client.simple_query(summary::PROBE).await {
            Ok(_) => true,
            Err(error) if error.as_db_error().is_some() => false,
            Err(error) => return Err(target.query_error("failed to read the model", &error, summary::PROBE, &[])),
        };
        self.rollback().await?;
        self.can_hash = Some(can_hash);
        Ok(can_hash)
    }

    /// The sums of all rows, with what they mean. `None` where the server cannot sum them up, or not in time: reading them
    /// shows what is wrong.
    async fn sum_rows(&mut self, projection: &Projection) -> Result<Option<RowsSummary>> {
        if !self.can_hash().await? {
            return Ok(None);
        }
        let plan = self.reading_plan(projection, false).await?;
        let (limit, statement) = (self.settings.stall_timeout(), plan.summary_statement());
        let mut link = self.lend().await?;
        // Given up, the link is dropped, and its statement stopped.
        let summed = tokio::time::timeout(limit, link.client.simple_query(&statement)).await;
        let Ok(Ok(summed)) = summed else { return Ok(None) };
        link.state = State::InTransaction;
        self.link = Some(link);
        let hashes = self::rows(&summed, |row| RowHashes::read(|at| row.get(at))).into_iter().next().flatten();
        Ok(hashes.map(|hashes| plan.summary(&hashes)))
    }

    /// The server's time at the start of the transaction, in microseconds since 1970; none where it cannot tell.
    async fn server_time(&mut self) -> Result<Option<i64>> {
        let sql = "SELECT (pg_catalog.date_part('epoch', pg_catalog.now()) * 1000000)::bigint";
        let target = self.target.clone();
        match self.link().await?.client.simple_query(sql).await {
            Ok(messages) => {
                let read = self::rows(&messages, |row| row.get(0).and_then(|text| text.parse().ok()));
                Ok(read.into_iter().next().flatten())
            }
            Err(error) => Err(target.query_error("failed to read the server's time", &error, sql, &[])),
        }
    }

    /// The largest value of a cursor that only the server can compare. Asked before the rows are read: should the server
    /// have no snapshots, later rows are read again next time rather than never.
    async fn text_maximum(&mut self, sql: &str) -> Result<Option<String>> {
        self.text_value(sql, "failed to read the cursor").await
    }

    /// The first value of a statement's first row, as text. `failed` is what to say where it fails.
    async fn text_value(&mut self, sql: &str, failed: &str) -> Result<Option<String>> {
        let target = self.target.clone();
        let mut link = self.lend().await?;
        let limit = self.settings.stall_timeout();
        // Given up, the link is dropped, and its statement stopped.
        let answer = tokio::time::timeout(limit, link.client.simple_query(sql)).await;
        let answer = answer.map_err(|_| target.stalled(failed, limit))?;
        link.state = State::InTransaction;
        self.link = Some(link);
        let answer = answer.map_err(|error| target.query_error(failed, &error, sql, &[]))?;
        Ok(self::rows(&answer, |row| row.get(0).map(str::to_owned)).into_iter().next().flatten())
    }

    async fn read_rows(
        &mut self,
        plan: &Plan,
        into: &DuckDbConnection,
        rows: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(u64, RowHashes)> {
        let (target, limit) = (self.target.clone(), self.settings.stall_timeout());
        self.pump(plan, into, rows).await?.map_err(|stop| match stop {
            Stop::Server(error) => {
                target.query_error("failed to read rows; nothing was sent", &error, plan.sql(), &plan.fragments())
            }
            Stop::Malformed(what) => Error::new(Kind::Source, format!("failed to read rows; nothing was sent: {what}"))
                .advise("try `read = \"cursor\"` for this source, and report this if it helps")
                .at(target.place()),
            Stop::Stalled => target.stalled("failed to read rows; nothing was sent", limit),
            Stop::Staging(error) => error,
        })
    }

    /// Reads all rows in the way that the settings name.
    async fn pump(
        &mut self,
        plan: &Plan,
        into: &DuckDbConnection,
        rows: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Result<(u64, RowHashes), Stop>> {
        let limit = self.settings.stall_timeout();
        let mut link = self.lend().await?;
        let mut hashes = RowHashes::default();
        let outcome = match self.settings.read {
            Read::Auto => read::by_query(&link.client, plan, limit, into, rows, &mut hashes).await,
            Read::Copy => read::by_copy(&link.client, plan, limit, into, rows).await,
            Read::Cursor => read::by_cursor(&link.client, plan, limit, into, rows, &mut hashes).await,
        };
        // After an error of its own the server waits for the next statement; after any other it may still be sending.
        let is_usable = match &outcome {
            Ok(_) => true,
            Err(Stop::Server(error)) => error.as_db_error().is_some(),
            Err(Stop::Malformed(_) | Stop::Stalled | Stop::Staging(_)) => false,
        };
        if is_usable {
            link.state = State::InTransaction;
            self.link = Some(link);
        }
        Ok(outcome.map(|count| (count, hashes)))
    }
}

/// The rows among the answers to a simple query.
fn rows<T>(messages: &[SimpleQueryMessage], read: impl Fn(&tokio_postgres::SimpleQueryRow) -> T) -> Vec<T> {
    messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(read(row)),
            _ => None,
        })
        .collect()
}

impl Postgres {
    /// How long questions about columns may take.
    fn describe_limit(&self) -> Duration {
        self.settings.stall_timeout().min(DESCRIBE_MAX)
    }

    /// Gives up on a server that does not answer: the socket is closed, which ends what was begun.
    fn give_up(&mut self, what: &str, limit: Duration) -> Error {
        self.close();
        self.target.stalled(what, limit)
    }

    /// Closes the socket, whatever the server is doing.
    fn close(&mut self) {
        if let Some(mut link) = self.link.take() {
            link.state = State::Reading;
        }
    }

    /// Ends the transaction, or the connection if the server does not answer.
    async fn let_go(&mut self) -> Result<()> {
        let ended = tokio::time::timeout(RELEASE_MAX, self.rollback()).await;
        ended.unwrap_or_else(|_| {
            self.close();
            Ok(())
        })
    }

    async fn columns_of_model(&mut self, model: &Model) -> Result<Vec<Column>> {
        let projection = Projection {
            from: model.from.clone(),
            filters: model.filter.iter().cloned().collect(),
            restriction: None,
            key: String::new(),
            columns: Vec::new(),
            cursor: None,
            limit: None,
            summed: false,
        };
        let described = self.describe_model(&projection).await;
        self.after(described).await
    }

    async fn columns_of_projection(&mut self, projection: &Projection) -> Result<Vec<Column>> {
        let described = self.describe_columns(projection).await;
        self.after(described).await
    }

    /// Ends the transaction of what was asked. Of two errors the first one counts: a server that broke the connection off
    /// has reported why before.
    async fn after<T>(&mut self, outcome: Result<T>) -> Result<T> {
        let ended = self.rollback().await;
        match (outcome, ended) {
            (Ok(value), ended) => ended.map(|()| value),
            (Err(error), Ok(())) => Err(error),
            (Err(error), Err(_)) => {
                self.close();
                Err(error)
            }
        }
    }
}

#[async_trait]
impl Source for Postgres {
    fn dialect(&self) -> &'static dyn Dialect {
        DIALECT
    }

    async fn describe(&mut self, model: &Model) -> Result<Vec<Column>> {
        let limit = self.describe_limit();
        match tokio::time::timeout(limit, self.columns_of_model(model)).await {
            Ok(columns) => columns,
            Err(_) => Err(self.give_up("failed to describe the model", limit)),
        }
    }

    async fn describe_projection(&mut self, projection: &Projection) -> Result<Vec<Column>> {
        let limit = self.describe_limit();
        match tokio::time::timeout(limit, self.columns_of_projection(projection)).await {
            Ok(columns) => columns,
            Err(_) => Err(self.give_up("failed to describe the model", limit)),
        }
    }

    async fn tables(&mut self) -> Result<Option<Vec<TableListing>>> {
        let limit = self.describe_limit();
        match tokio::time::timeout(limit, self.list_tables()).await {
            Ok(listed) => listed.map(Some),
            Err(_) => Err(self.give_up("failed to list the tables", limit)),
        }
    }

    async fn findings(&mut self, projection: &Projection) -> Result<Vec<SourceFinding>> {
        let limit = self.describe_limit();
        let hidden = match tokio::time::timeout(limit, self.hidden_rows(projection)).await {
            Ok(hidden) => hidden,
            Err(_) => return Err(self.give_up("failed to describe the model", limit)),
        };
        let Some(table) = self.after(hidden).await? else { return Ok(Vec::new()) };
        let user = self.target.user();
        Ok(vec![SourceFinding {
            subject: FindingSubject::Table,
            note: false,
            what: format!(
                "a row-security policy of `{table}` decides which rows user `{user}` sees; those it hides count as gone"
            ),
            help: vec![format!(
                "where all rows are meant: `ALTER ROLE {} BYPASSRLS`, or a policy that lets it read them",
                DIALECT.identifier(user)
            )],
        }])
    }

    async fn stage(
        &mut self,
        projection: &Projection,
        into: &DuckDbConnection,
        rows: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Staged> {
        let staged = self.stage_rows(projection, into, rows).await;
        match staged {
            Ok(staged) => {
                self.let_go().await?;
                Ok(staged)
            }
            Err(error) => {
                // Closes the connection, and with it the transaction.
                self.link = None;
                Err(error)
            }
        }
    }

    fn sums_rows(&self) -> bool {
        // A binary COPY is taken apart by the columns that were asked for.
        self.settings.read != Read::Copy
    }

    async fn summary(&mut self, projection: &Projection) -> Result<Option<RowsSummary>> {
        let summed = self.sum_rows(projection).await;
        match summed {
            Ok(summed) => {
                self.let_go().await?;
                Ok(summed)
            }
            Err(error) => {
                self.link = None;
                Err(error)
            }
        }
    }

    fn mirror(&self) -> Option<MirrorSettings> {
        Some(self.settings.mirror())
    }

    async fn compare(
        &mut self,
        projection: &Projection,
        query: &MirrorQuery,
        into: &DuckDbConnection,
        rows: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(Staged, MirrorAnswer)> {
        let compared = self.compare_with_mirror(projection, query, into, rows).await;
        match compared {
            Ok(compared) => self.let_go().await.map(|()| compared),
            Err(error) => {
                self.link = None;
                Err(error)
            }
        }
    }

    async fn change_mirror(&mut self, projection: &Projection, change: &MirrorChange) -> Result<()> {
        let written = self.write_mirror(projection, change).await;
        if written.is_err() {
            self.link = None;
        }
        written
    }

    async fn mirror_access(&mut self) -> Result<MirrorAccess> {
        let limit = self.describe_limit();
        match tokio::time::timeout(limit, self.may_keep_mirrors()).await {
            Ok(access) => access,
            Err(_) => Err(self.give_up("failed to check privileges", limit)),
        }
    }

    async fn release(&mut self, into: &DuckDbConnection) -> Result<()> {
        // The cells of the candidates were kept: the rows only take up room.
        if into.is_idle() {
            staging::discard(into).await?;
        }
        // A server that does not answer is left by closing the socket, which ends the transaction too.
        self.let_go().await
    }
}
