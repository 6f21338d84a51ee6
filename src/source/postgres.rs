//! How are rows read from PostgreSQL and from warehouses that speak its protocol?
//!
//! Everything happens inside short transactions: `REPEATABLE READ, READ ONLY` where the server has it. Servers that
//! refuse that (Redshift, CockroachDB and proxies differ) are probed once for the strictest they take; since a stage
//! reads all its rows with one statement, even a plain transaction sees one snapshot. Session settings (time zone, date
//! style, digits of floats) are made with `SET LOCAL`, so a pooler in transaction mode neither loses them nor hands
//! them to somebody else; what a server refuses of them is left out.
//!
//! Rows come by `COPY … (FORMAT BINARY)`, or by a cursor where COPY is refused; both feed the same decoder. Decoding and
//! appending to DuckDB overlap through a channel of two batches. A read that fails or is dropped closes its connection
//! and cancels the statement at the server; the next call connects anew.

use std::time::Duration;

use async_trait::async_trait;
use tokio_postgres::{SimpleQueryMessage, Statement};

use super::pgerror::{Target, fragments, shortened};
use super::pglink::{Link, State, probe_opening};
use super::pgread::{self, Plan, Stop};
pub use super::pgsettings::{Read, Settings, SslMode};
use super::{Column, Source, Staged, pgvalue};
use crate::duck::{Duck, quote_identifier};
use crate::error::{Error, Kind, Result, Within};
use crate::mapping::compile::Projection;
use crate::mapping::{Expr, From, Model};

/// Longest that a server may take to end a transaction that has only read.
const RELEASE_MAX: Duration = Duration::from_secs(5);

/// Longest that questions about tables and columns may take: they read no rows, and a table that is held for longer than
/// `lock_timeout` is not waited for.
const DESCRIBE_MAX: Duration = Duration::from_secs(300);

/// A connection to a PostgreSQL server, made anew when it broke.
pub struct Postgres {
    settings: Settings,
    target: Target,
    link: Option<Link>,
    /// The statements that begin a read, once the server has taken them.
    opening: Option<String>,
    /// Whether the server has refused a binary COPY before.
    copy_refused: bool,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Postgres({})", self.target.place())
    }
}

/// Whether a server says by this error that it lacks a feature (class 0A) or its syntax (class 42).
fn is_refusal(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| code.code().starts_with("0A") || code.code().starts_with("42"))
}

impl Postgres {
    /// Connects to the server these settings name. `name` is the source's name in `groupcast.toml`, for messages.
    ///
    /// Errors: [`Kind::Config`] for unreadable settings, [`Kind::SourceBusy`] when the server is down, full or does not
    /// answer, [`Kind::Source`] when it (or its certificate) refuses us.
    pub async fn connect(settings: &Settings, name: &str) -> Result<Postgres> {
        let address = settings.address().within(|| format!("source {name}"))?;
        let target = Target::new(name, &address, &settings.url);
        let link = Link::open(&address, &target).await?;
        Ok(Postgres { settings: settings.clone(), target, link: Some(link), opening: None, copy_refused: false })
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

    /// Has the server parse a query, and start it for no rows: rights are checked only then. A transaction of its own is
    /// open afterwards. The inner error is about the query.
    async fn probe(&mut self, sql: &str) -> Result<Result<Statement, tokio_postgres::Error>> {
        self.begin().await?;
        let client = &self.link().await?.client;
        let statement = match client.prepare(&format!("{sql} LIMIT 0")).await {
            Ok(statement) => statement,
            Err(error) => return Ok(Err(error)),
        };
        Ok(client.query(&statement, &[]).await.map(|_| statement))
    }

    /// What the server says about columns: its name of their types, and whether they are never null.
    async fn columns(&mut self, described: &[(String, &tokio_postgres::Column)], table: bool) -> Result<Vec<Column>> {
        let values: Vec<String> = described
            .iter()
            .enumerate()
            .map(|(index, (_, column))| {
                let (relation, number) = match (table, column.table_oid(), column.column_id()) {
                    (true, Some(relation), Some(number)) => (relation, number),
                    // A query's columns may be null by an outer join whatever their table says.
                    _ => (0, 0),
                };
                format!(
                    "({index}, {}::oid, {}, {relation}::oid, {number})",
                    column.type_().oid(),
                    column.type_modifier()
                )
            })
            .collect();
        let sql = format!(
            "SELECT pg_catalog.format_type(t.type, t.modifier), a.attnotnull FROM (VALUES {}) \
             AS t(position, type, modifier, relation, number) LEFT JOIN pg_catalog.pg_attribute a \
             ON a.attrelid = t.relation AND a.attnum = t.number ORDER BY t.position",
            values.join(", ")
        );
        let answered = if values.is_empty() {
            Vec::new()
        } else {
            match self.link().await?.client.simple_query(&sql).await {
                Ok(messages) => rows(&messages, |row| (row.get(0).map(str::to_owned), row.get(1) == Some("t"))),
                // A server without this catalog still has names for its types.
                Err(error) if error.as_db_error().is_some() => Vec::new(),
                Err(error) => return Err(self.target.query_error("failed to describe the model", &error, "", &[])),
            }
        };
        Ok(described
            .iter()
            .enumerate()
            .map(|(index, (name, column))| {
                let (declared, not_null) = answered.get(index).cloned().unwrap_or_default();
                Column {
                    name: name.clone(),
                    kind: pgvalue::meaning(column.type_()).0,
                    declared: declared.unwrap_or_else(|| column.type_().name().to_owned()),
                    not_null,
                }
            })
            .collect())
    }

    /// The projection's statement, parsed by the server. A transaction is open afterwards, and holds the tables as they
    /// are. Fails naming the part that does not compile.
    async fn shape(&mut self, projection: &Projection) -> Result<Statement> {
        let mut selected = vec![format!("{} AS key", quote_identifier(&projection.key))];
        selected.extend(projection.columns.iter().enumerate().map(|(at, expr)| format!("{} AS c{at}", expr.sql())));
        selected.extend(projection.cursor.iter().map(|cursor| format!("{} AS cursor_value", quote_identifier(cursor))));
        let sql = format!("SELECT {} FROM {}{}", selected.join(", "), projection.relation(), projection.condition());
        match self.probe(&sql).await? {
            Ok(statement) => Ok(statement),
            Err(error) => Err(self.diagnose(projection, &sql, error).await?),
        }
    }

    /// Finds what made a projection fail, by having the server parse its parts alone.
    async fn diagnose(&mut self, projection: &Projection, sql: &str, error: tokio_postgres::Error) -> Result<Error> {
        let target = self.target.clone();
        let fragments = fragments(projection);
        if error.as_db_error().is_none() {
            return Ok(target.query_error("failed to read the model", &error, sql, &fragments));
        }
        let from = projection.relation();
        let all = format!("SELECT * FROM {from}");
        let known: Vec<String> = match self.probe(&all).await? {
            Ok(statement) => statement.columns().iter().map(|column| column.name().to_owned()).collect(),
            Err(error) => return Ok(target.query_error("failed to read the model", &error, &all, &fragments)),
        };
        for condition in &projection.conditions {
            let sql = format!("SELECT 1 FROM {from} WHERE ({condition}\n)");
            if let Err(error) = self.probe(&sql).await? {
                return Ok(target.query_error("failed to filter the model", &error, &sql, &fragments));
            }
        }
        let (key, cursor) = (Expr::Column(projection.key.clone()), projection.cursor.clone().map(Expr::Column));
        for expr in std::iter::once(&key).chain(&projection.columns).chain(&cursor) {
            let sql = format!("SELECT {} FROM {from}", expr.sql());
            let Err(error) = self.probe(&sql).await? else { continue };
            return Ok(match expr {
                Expr::Column(name) if error.code().is_some_and(|code| code.code() == "42703") => {
                    missing_column(name, &projection.from, &known).at(target.place())
                }
                Expr::Column(name) => {
                    target.query_error(&format!("failed to select column `{name}`"), &error, &sql, &fragments)
                }
                Expr::Sql(text) => {
                    let what = format!("failed to select `{}`", shortened(text));
                    target.query_error(&what, &error, &sql, &fragments)
                }
            });
        }
        Ok(target.query_error("failed to read the model", &error, sql, &fragments))
    }

    async fn stage_rows(
        &mut self,
        projection: &Projection,
        into: &Duck,
        rows: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Staged> {
        let statement = self.shape_in_time(projection).await?;
        let plan = Plan::new(projection, &statement).within(|| self.target.place())?;
        let cursor_before = match plan.cursor_maximum() {
            Some(sql) => self.text_maximum(&sql).await?,
            None => None,
        };
        pgread::create(into, &plan).await?;
        let read = self.read_rows(&plan, into, rows).await;
        let count = match read {
            Ok(count) => count,
            Err(error) => {
                // Half a table must not be mistaken for a whole one. If dropping it fails too, the first error counts.
                let _ = pgread::discard(into).await;
                return Err(error);
            }
        };
        let cursor = if count == 0 { None } else { cursor_before.or(pgread::maximum(into, &plan).await?) };
        Ok(plan.staged(into.clone(), cursor))
    }

    /// The largest value of a cursor that only the server can compare. Asked before the rows are read: should the server
    /// have no snapshots, later rows are read again next time rather than never.
    async fn text_maximum(&mut self, sql: &str) -> Result<Option<String>> {
        let target = self.target.clone();
        let mut link = self.lend().await?;
        let limit = self.settings.stall_timeout();
        // Given up, the link is dropped, and its statement stopped.
        let answer = tokio::time::timeout(limit, link.client.simple_query(sql)).await;
        let answer = answer.map_err(|_| target.stalled("failed to read the cursor", limit))?;
        link.state = State::InTransaction;
        self.link = Some(link);
        let answer = answer.map_err(|error| target.query_error("failed to read the cursor", &error, sql, &[]))?;
        Ok(self::rows(&answer, |row| row.get(0).map(str::to_owned)).into_iter().next().flatten())
    }

    async fn read_rows(&mut self, plan: &Plan, into: &Duck, rows: &(dyn Fn(u64) + Send + Sync)) -> Result<u64> {
        let (target, limit) = (self.target.clone(), self.settings.stall_timeout());
        let failed = |stop: Stop| match stop {
            Stop::Server(error) => {
                target.query_error("failed to read rows; nothing was sent", &error, plan.sql(), &plan.fragments())
            }
            Stop::Garbled(what) => Error::new(Kind::Source, format!("failed to read rows; nothing was sent: {what}"))
                .advise("try `read = \"cursor\"` for this source, and report this if it helps")
                .at(target.place()),
            Stop::Stalled => target.stalled("failed to read rows; nothing was sent", limit),
            Stop::Duck(error) => error,
        };
        if self.settings.read != Read::Cursor && !self.copy_refused {
            match self.pump(plan, into, rows, true).await? {
                Err(Stop::Server(error)) if self.settings.read == Read::Auto && is_refusal(&error) => {
                    self.copy_refused = true;
                    let limit = self.describe_limit();
                    match tokio::time::timeout(limit, self.begin()).await {
                        Ok(begun) => begun?,
                        Err(_) => return Err(self.give_up("failed to begin a transaction", limit)),
                    }
                }
                outcome => return outcome.map_err(failed),
            }
        }
        self.pump(plan, into, rows, false).await?.map_err(failed)
    }

    /// Reads all rows one way.
    async fn pump(
        &mut self,
        plan: &Plan,
        into: &Duck,
        rows: &(dyn Fn(u64) + Send + Sync),
        copy: bool,
    ) -> Result<Result<u64, Stop>> {
        let limit = self.settings.stall_timeout();
        let mut link = self.lend().await?;
        let outcome = if copy {
            pgread::by_copy(&link.client, plan, limit, into, rows).await
        } else {
            pgread::by_cursor(&link.client, plan, limit, into, rows).await
        };
        // After an error of its own the server waits for the next statement; after any other it may still be sending.
        let is_usable = match &outcome {
            Ok(_) => true,
            Err(Stop::Server(error)) => error.as_db_error().is_some(),
            Err(Stop::Garbled(_) | Stop::Stalled | Stop::Duck(_)) => false,
        };
        if is_usable {
            link.state = State::InTransaction;
            self.link = Some(link);
        }
        Ok(outcome)
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

fn missing_column(name: &str, from: &From, known: &[String]) -> Error {
    let model = match from {
        From::Table(parts) => format!("`{}`", parts.join(".")),
        From::Query(_) => "the model's SQL".to_owned(),
    };
    let wanted = name.to_lowercase();
    let closest = known
        .iter()
        .map(|known| (strsim::jaro_winkler(&wanted, &known.to_lowercase()), known))
        .filter(|(similarity, _)| *similarity > 0.8)
        .max_by(|(one, _), (other, _)| one.total_cmp(other));
    let advice = match closest {
        Some((_, known)) => format!("did you mean `{known}`?"),
        None => {
            let shown: Vec<&str> = known.iter().map(String::as_str).take(20).collect();
            let more = if known.len() > shown.len() { ", …" } else { "" };
            format!("use one of its columns: {}{more}", shown.join(", "))
        }
    };
    Error::new(Kind::Source, format!("{model} has no column `{name}` [42703]")).advise(advice)
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

    async fn shape_in_time(&mut self, projection: &Projection) -> Result<Statement> {
        let limit = self.describe_limit();
        match tokio::time::timeout(limit, self.shape(projection)).await {
            Ok(shape) => shape,
            Err(_) => Err(self.give_up("failed to read the model", limit)),
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
            conditions: model.filter.iter().cloned().collect(),
            key: String::new(),
            columns: Vec::new(),
            cursor: None,
        };
        let sql = format!("SELECT * FROM {}{}", projection.relation(), projection.condition());
        let statement = match self.probe(&sql).await? {
            Ok(statement) => statement,
            Err(error) => {
                let (target, fragments) = (self.target.clone(), fragments(&projection));
                let error = target.query_error("failed to read the model", &error, &sql, &fragments);
                self.rollback().await?;
                return Err(error);
            }
        };
        let described: Vec<_> = statement.columns().iter().map(|column| (column.name().to_owned(), column)).collect();
        let columns = self.columns(&described, matches!(model.from, From::Table(_))).await?;
        self.rollback().await?;
        Ok(columns)
    }

    async fn columns_of_projection(&mut self, projection: &Projection) -> Result<Vec<Column>> {
        let statement = match self.shape(projection).await {
            Ok(statement) => statement,
            Err(error) => {
                self.rollback().await?;
                return Err(error);
            }
        };
        let names = projection.columns.iter().map(|expr| match expr {
            Expr::Column(name) => name.clone(),
            Expr::Sql(sql) => sql.clone(),
        });
        let described: Vec<_> = names.zip(statement.columns().iter().skip(1)).collect();
        let columns = self.columns(&described, matches!(projection.from, From::Table(_))).await?;
        self.rollback().await?;
        Ok(columns)
    }
}

#[async_trait]
impl Source for Postgres {
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

    async fn stage(
        &mut self,
        projection: &Projection,
        into: &Duck,
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

    async fn release(&mut self, into: &Duck) -> Result<()> {
        // The cells of the candidates were kept: the rows only take up room.
        if into.is_idle() {
            pgread::discard(into).await?;
        }
        // A server that does not answer is left by closing the socket, which ends the transaction too.
        self.let_go().await
    }
}
