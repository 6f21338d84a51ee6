//! How are rows read from PostgreSQL and from warehouses that speak its protocol?
//!
//! Everything happens inside short transactions: `READ COMMITTED, READ ONLY` where the server has it. Servers that refuse
//! that (Redshift, CockroachDB and proxies differ) are probed once for the best they take. A stage reads all its rows with
//! one statement, and so in one snapshot; `link` says why the transaction has none of its own. Session settings (time
//! zone, date style, digits of floats, what a backslash means) are made with `SET LOCAL`, so a pooler in transaction mode
//! neither loses them nor hands them to somebody else; what a server refuses of them is left out.
//!
//! Rows come by one unnamed statement, by a cursor, or by `COPY … (FORMAT BINARY)`; all feed the same decoder. Decoding
//! and appending to DuckDB overlap through a channel of two batches. A read that fails or is dropped closes its connection
//! and cancels the statement at the server; the next call connects anew.

mod batch;
mod dialect;
mod error;
mod link;
mod options;
mod read;
mod settings;
mod sslmode;
mod tls;
mod types;
mod value;

use std::time::Duration;

use async_trait::async_trait;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::types::Type;

use self::dialect::DIALECT;
use self::error::{Target, fragments, shortened};
use self::link::{Link, State, probe_opening};
use self::read::{Plan, Stop};
pub use self::settings::{PostgresSettings, Read};
pub use self::sslmode::SslMode;
use super::{Column, FindingSubject, Inspection, OpenContext, Source, SourceFinding, SourceType, Staged, staging};
use crate::duckdb::DuckDbConnection;
use crate::error::{Error, Kind, Result, Within};
use crate::mapping::compile::Projection;
use crate::mapping::diagnostic::{did_you_mean, listed_all};
use crate::mapping::dialect::Dialect;
use crate::mapping::{Expr, From, Model};
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
        let certificates = [settings.ca_file, settings.cert_file, settings.key_file].into_iter().flatten();
        Ok(Inspection { warnings, files: certificates.map(|path| (path, "the certificates")).collect() })
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
}

/// A statement that the server refused.
struct Refused {
    error: tokio_postgres::Error,
    statement: String,
}

/// A column as the server sees it.
struct Described {
    name: String,
    of: Type,
    /// The type's modifier, as in `numeric(14,2)`; -1 is none.
    modifier: i32,
    /// The table and the column's number in it, where it is a table's.
    origin: Option<(u32, i16)>,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Postgres({})", self.target.place())
    }
}

/// Whether a server says by this error that it lacks a feature (class 0A), its syntax or schema (classes 42 and 3F), or means something else
/// by it (class 22: CockroachDB's `pg_typeof` is a text).
fn is_refusal(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| ["0A", "42", "22", "3F"].iter().any(|class| code.code().starts_with(class)))
}

/// Whether a server says by this error that the user lacks a right.
fn is_denied(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| code.code() == "42501")
}

impl Postgres {
    /// Connects to the server these settings name. `name` is the source's name in `groupcast.toml`, for messages.
    ///
    /// Errors: [`Kind::Config`] for unreadable settings, [`Kind::SourceBusy`] when the server is down, full or does not
    /// answer, [`Kind::Source`] when it (or its certificate) refuses us.
    pub async fn connect(settings: &PostgresSettings, name: &str) -> Result<Postgres> {
        let address = settings.address().within(|| format!("source {name}"))?;
        let target = Target::new(name, &address, &settings.url);
        let link = Link::open(&address, &target).await?;
        Ok(Postgres { settings: settings.clone(), target, link: Some(link), opening: None, typeof_refused: false })
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

    /// Has the server parse a query, and start it for no rows: rights are checked only then. Yields the types of its
    /// `count` columns. A transaction of its own is open afterwards, and holds the query's tables as they are. The inner
    /// error is about the query.
    async fn probe(&mut self, sql: &str, count: usize) -> Result<Result<Vec<Type>, Refused>> {
        if !self.typeof_refused {
            self.begin().await?;
            let statement = types::typing(sql, count);
            let client = &self.link().await?.client;
            let error = match client.query_typed(&statement, &[]).await {
                Ok(rows) => {
                    let numbers = rows.first().map(|row| (0..count).map(|at| row.try_get::<_, u32>(at)).collect());
                    match numbers.unwrap_or_else(|| Ok(Vec::new())) {
                        Ok(numbers) => {
                            let types: Result<Vec<Type>, _> = types::resolve(client, &numbers).await;
                            return Ok(types.map_err(|error| Refused { error, statement }));
                        }
                        Err::<Vec<u32>, _>(_) => None,
                    }
                }
                Err(error) => Some(error),
            };
            if let Some(error) = error.filter(|error| !is_refusal(error)) {
                return Ok(Err(Refused { error, statement }));
            }
        }
        // The query is wrong, or the server lacks `pg_typeof`: then the driver finds out.
        self.begin().await?;
        let statement = types::sampling(sql, count, &(0..count).collect::<Vec<_>>());
        match self.link().await?.client.query_typed(&statement, &[]).await {
            Ok(rows) => {
                self.typeof_refused = true;
                let columns = rows.first().map(|row| row.columns()).unwrap_or_default();
                Ok(Ok(columns.iter().map(|column| column.type_().clone()).collect()))
            }
            Err(error) => Ok(Err(Refused { error, statement })),
        }
    }

    /// The names of a query's columns. A transaction is open afterwards.
    async fn names(&mut self, sql: &str) -> Result<Result<Vec<String>, Refused>> {
        self.begin().await?;
        let statement = DIALECT.first_rows(sql, 0);
        Ok(match self.link().await?.client.simple_query(&statement).await {
            Ok(messages) => Ok(messages
                .iter()
                .find_map(|message| match message {
                    SimpleQueryMessage::RowDescription(columns) => {
                        Some(columns.iter().map(|column| column.name().to_owned()).collect())
                    }
                    _ => None,
                })
                .unwrap_or_default()),
            Err(error) => Err(Refused { error, statement }),
        })
    }

    /// The columns of a query with all that the server knows of them; `types` are theirs. A transaction is open.
    async fn details(&mut self, sql: &str, names: Vec<String>, types: Vec<Type>) -> Result<Vec<Described>> {
        // What the driver would have to look up is left out, and so has no modifier.
        let count = types.len();
        let builtin = |at: &usize| Type::from_oid(types::base(&types[*at]).oid()).is_some();
        let positions: Vec<usize> = (0..count).filter(builtin).collect();
        let mut described: Vec<Described> = names
            .into_iter()
            .zip(&types)
            .map(|(name, of)| Described { name, of: of.clone(), modifier: -1, origin: None })
            .collect();
        if positions.is_empty() {
            return Ok(described);
        }
        let statement = types::sampling(sql, count, &positions);
        let rows = self.link().await?.client.query_typed(&statement, &[]).await;
        let rows =
            rows.map_err(|error| self.target.query_error("failed to describe the model", &error, &statement, &[]))?;
        let columns = rows.first().map(|row| row.columns()).unwrap_or_default();
        for (at, column) in positions.into_iter().zip(columns) {
            described[at].modifier = column.type_modifier();
            described[at].origin = column.table_oid().zip(column.column_id());
        }
        Ok(described)
    }

    /// What the server says about columns: its name of their types, and whether they are never null.
    async fn columns(&mut self, described: Vec<Described>, table: bool) -> Result<Vec<Column>> {
        let values: Vec<String> = described
            .iter()
            .enumerate()
            .map(|(index, column)| {
                // A query's columns may be null by an outer join whatever their table says.
                let (relation, number) = column.origin.filter(|_| table).unwrap_or((0, 0));
                let of = types::base(&column.of).oid();
                format!("({index}, {of}::oid, {}, {relation}::oid, {number})", column.modifier)
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
            .into_iter()
            .enumerate()
            .map(|(index, column)| {
                let (declared, not_null) = answered.get(index).cloned().unwrap_or_default();
                Column {
                    kind: value::meaning(&column.of).0,
                    declared: declared.unwrap_or_else(|| column.of.name().to_owned()),
                    name: column.name,
                    not_null,
                    denied: None,
                }
            })
            .collect())
    }

    /// The columns of a table as the catalogs have them, of which this user may read some only; none when it may read
    /// none of them, or where the server cannot tell.
    async fn granted(&mut self, from: &From) -> Result<Option<Vec<Column>>> {
        let From::Table(parts) = from else { return Ok(None) };
        self.begin().await?;
        let relation = DIALECT.table(parts);
        let sql = format!(
            "SELECT a.attname, a.atttypid, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, \
             pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT') FROM pg_catalog.pg_attribute a \
             WHERE a.attrelid = {}::pg_catalog.regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
            DIALECT.literal(&relation)
        );
        let client = &self.link().await?.client;
        let listed = match client.simple_query(&sql).await {
            Ok(messages) => rows(&messages, |row| {
                let number: u32 = row.get(1).and_then(|number| number.parse().ok()).unwrap_or_default();
                let text = |at: usize| row.get(at).unwrap_or_default().to_owned();
                (text(0), number, text(2), row.get(3) == Some("t"), row.get(4) == Some("t"))
            }),
            Err(error) if error.as_db_error().is_some() => return Ok(None),
            Err(error) => return Err(self.target.query_error("failed to describe the model", &error, "", &[])),
        };
        if !listed.iter().any(|(.., granted)| *granted) {
            return Ok(None);
        }
        let numbers: Vec<u32> = listed.iter().map(|(_, number, ..)| *number).collect();
        let types = types::resolve(client, &numbers).await;
        let types = types.map_err(|error| self.target.query_error("failed to describe the model", &error, "", &[]))?;
        let column = |((name, _, declared, not_null, granted), of): ((String, u32, String, bool, bool), Type)| Column {
            kind: value::meaning(&of).0,
            declared,
            not_null,
            denied: (!granted).then(|| self.target.grant(&relation, std::slice::from_ref(&name))),
            name,
        };
        Ok(Some(listed.into_iter().zip(types).map(column).collect()))
    }

    /// The types of the projection's key, columns and cursor. A transaction is open afterwards, and holds the tables as
    /// they are. Fails naming the part that does not compile.
    async fn shape(&mut self, projection: &Projection) -> Result<(String, Vec<Type>)> {
        let mut selected = vec![format!("{} AS key", DIALECT.identifier(&projection.key))];
        selected.extend(
            projection.columns.iter().enumerate().map(|(at, expr)| format!("{} AS c{at}", DIALECT.expression(expr))),
        );
        selected
            .extend(projection.cursor.iter().map(|cursor| format!("{} AS cursor_value", DIALECT.identifier(cursor))));
        let sql = projection.select(DIALECT, &selected);
        match self.probe(&sql, selected.len()).await? {
            Ok(types) => Ok((sql, types)),
            Err(refused) => Err(self.diagnose(projection, refused).await?),
        }
    }

    /// Finds what made a projection fail, by having the server parse its parts alone.
    async fn diagnose(&mut self, projection: &Projection, refused: Refused) -> Result<Error> {
        let target = self.target.clone();
        let fragments = fragments(projection);
        let told =
            |what: &str, refused: &Refused| target.query_error(what, &refused.error, &refused.statement, &fragments);
        if refused.error.as_db_error().is_none() {
            return Ok(told("failed to read the model", &refused));
        }
        let from = projection.relation(DIALECT);
        let known: Vec<String> = match self.names(&format!("SELECT * FROM {from}")).await? {
            Ok(names) => names,
            Err(closed) if is_denied(&closed.error) => match self.granted(&projection.from).await? {
                Some(columns) => {
                    columns.into_iter().filter(|column| column.denied.is_none()).map(|column| column.name).collect()
                }
                None => return Ok(told("failed to read the model", &closed)),
            },
            Err(refused) => return Ok(told("failed to read the model", &refused)),
        };
        for condition in conditions(projection) {
            let sql = format!("SELECT 1 FROM {from} WHERE ({condition}\n)");
            if let Err(refused) = self.probe(&sql, 1).await? {
                return Ok(told("failed to filter the model", &refused).maybe_advise(self.readable(&refused, &known)));
            }
        }
        let (key, cursor) = (Expr::Column(projection.key.clone()), projection.cursor.clone().map(Expr::Column));
        // A description has no key.
        let key = Some(&key).filter(|_| !projection.key.is_empty());
        for expr in key.into_iter().chain(&projection.columns).chain(&cursor) {
            let sql = format!("SELECT {} FROM {from}", DIALECT.expression(expr));
            let Err(refused) = self.probe(&sql, 1).await? else { continue };
            return Ok(match expr {
                Expr::Column(name) if refused.error.code().is_some_and(|code| code.code() == "42703") => {
                    missing_column(name, &projection.from, &known).at(target.place())
                }
                Expr::Column(name) if is_denied(&refused.error) => {
                    target.denied(name, &from, matches!(projection.from, From::Table(_)))
                }
                Expr::Column(name) => told(&format!("failed to read column `{name}`"), &refused),
                Expr::Sql(sql) => told(&format!("failed to read `{}`", shortened(sql)), &refused)
                    .maybe_advise(self.readable(&refused, &known)),
            });
        }
        Ok(told("failed to read the model", &refused))
    }

    /// What to do about a part that reads a column without the right to.
    fn readable(&self, refused: &Refused, known: &[String]) -> Option<String> {
        is_denied(&refused.error).then(|| {
            let may = listed_all(known.iter().map(String::as_str));
            format!("user `{}` may read {may} here: use no other column, or grant it", self.target.user())
        })
    }

    /// Where a relation that is not found may be meant to be: under this name in another schema, or in other capitals.
    async fn elsewhere(&mut self, error: &tokio_postgres::Error) -> Option<String> {
        let db = error.as_db_error().filter(|db| db.code().code() == "42P01")?;
        let name = db.message().split('"').nth(1)?.rsplit('.').next()?.to_owned();
        self.begin().await.ok()?;
        let sql = format!(
            "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE pg_catalog.lower(c.relname) = pg_catalog.lower({}) AND c.relkind IN ('r', 'v', 'm', 'f', 'p') \
             AND n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY n.nspname, c.relname LIMIT 3",
            DIALECT.literal(&name)
        );
        let messages = self.link().await.ok()?.client.simple_query(&sql).await.ok()?;
        let part = |name: &str| match name.chars().all(|letter| letter.is_alphanumeric() || letter == '_') {
            true => name.to_owned(),
            false => DIALECT.identifier(name),
        };
        let found = rows(&messages, |row| [0, 1].map(|at| part(row.get(at).unwrap_or_default())).join("."));
        match found.as_slice() {
            [] => None,
            found => Some(format!(
                "correct the name: there is {}; capitals count, in the model's SQL only within quotation marks",
                listed_all(found.iter().map(String::as_str))
            )),
        }
    }

    /// Rows that a policy may hide from this user: what the server says when it is to fail rather than hide any.
    async fn hidden_rows(&mut self, model: &Projection) -> Result<Option<String>> {
        self.begin().await?;
        let select = model.select(DIALECT, &["1".to_owned()]);
        let sql = format!("SET LOCAL row_security = off; {}", DIALECT.first_rows(&select, 0));
        match self.link().await?.client.simple_query(&sql).await {
            Err(error) => {
                let db = error.as_db_error().filter(|db| db.code().code() == "42501");
                Ok(db
                    .filter(|db| db.message().contains("row-level security"))
                    .map(|db| db.message().split('"').nth(1).unwrap_or_default().to_owned()))
            }
            Ok(_) => Ok(None),
        }
    }

    async fn describe_model(&mut self, model: &Projection) -> Result<Vec<Column>> {
        let (target, fragments) = (self.target.clone(), fragments(model));
        let failed = |refused: &Refused| {
            target.query_error("failed to read the model", &refused.error, &refused.statement, &fragments)
        };
        let sql = model.select(DIALECT, &["*".to_owned()]);
        let names = match self.names(&sql).await? {
            Ok(names) => names,
            Err(closed) if is_denied(&closed.error) => {
                let Some(columns) = self.granted(&model.from).await? else { return Err(failed(&closed)) };
                // The right to the condition's columns, and its syntax.
                if let Err(refused) = self.probe(&model.select(DIALECT, &["1".to_owned()]), 1).await? {
                    return Err(self.diagnose(model, refused).await?);
                }
                return Ok(columns);
            }
            Err(refused) => {
                let error = failed(&refused);
                return Err(error.maybe_advise(self.elsewhere(&refused.error).await));
            }
        };
        let types = self.probe(&sql, names.len()).await?.map_err(|refused| failed(&refused))?;
        let described = self.details(&sql, names, types).await?;
        self.columns(described, matches!(model.from, From::Table(_))).await
    }

    async fn describe_columns(&mut self, projection: &Projection) -> Result<Vec<Column>> {
        let (sql, types) = self.shape(projection).await?;
        let names = std::iter::once(&projection.key).chain(projection.columns.iter().map(|expr| match expr {
            Expr::Column(name) | Expr::Sql(name) => name,
        }));
        let names = names.chain(&projection.cursor).cloned().collect();
        let mut described = self.details(&sql, names, types).await?;
        described.truncate(projection.columns.len() + 1);
        described.remove(0);
        self.columns(described, matches!(projection.from, From::Table(_))).await
    }

    async fn stage_rows(
        &mut self,
        projection: &Projection,
        into: &DuckDbConnection,
        rows: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Staged> {
        let limit = self.describe_limit();
        let types = match tokio::time::timeout(limit, self.shape(projection)).await {
            Ok(shape) => shape?.1,
            Err(_) => return Err(self.give_up("failed to read the model", limit)),
        };
        let plan = Plan::new(projection, types).within(|| self.target.place())?;
        let now = if plan.follows_time() { self.server_time().await? } else { None };
        let cursor_before = match plan.cursor_maximum() {
            Some(sql) => self.text_maximum(&sql).await?,
            None => None,
        };
        plan.table().create(into).await?;
        let read = self.read_rows(&plan, into, rows).await;
        let count = match read {
            Ok(count) => count,
            Err(error) => {
                // Half a table must not be mistaken for a whole one. If dropping it fails too, the first error counts.
                let _ = staging::discard(into).await;
                return Err(error);
            }
        };
        let (largest, ahead) = read::maximum(into, &plan, now).await?;
        let cursor = if count == 0 { None } else { cursor_before.or(largest) };
        Ok(plan.table().staged(into.clone(), plan.kinds().to_vec(), cursor, ahead))
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

    async fn read_rows(
        &mut self,
        plan: &Plan,
        into: &DuckDbConnection,
        rows: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<u64> {
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
    ) -> Result<Result<u64, Stop>> {
        let limit = self.settings.stall_timeout();
        let mut link = self.lend().await?;
        let outcome = match self.settings.read {
            Read::Auto => read::by_query(&link.client, plan, limit, into, rows).await,
            Read::Copy => read::by_copy(&link.client, plan, limit, into, rows).await,
            Read::Cursor => read::by_cursor(&link.client, plan, limit, into, rows).await,
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

/// Every condition of a projection.
fn conditions(projection: &Projection) -> Vec<String> {
    projection.conditions(DIALECT, &DIALECT.identifier(&projection.key))
}

fn missing_column(name: &str, from: &From, known: &[String]) -> Error {
    let model = match from {
        From::Table(parts) => format!("`{}`", parts.join(".")),
        From::Query(_) => "the model's SQL".to_owned(),
    };
    let advice = match did_you_mean(name, known.iter().map(String::as_str)) {
        Some(known) => format!("did you mean `{known}`?"),
        None => {
            let shown: Vec<&str> = known.iter().map(String::as_str).take(20).collect();
            let more = if known.len() > shown.len() { ", …" } else { "" };
            format!("use one of its columns: {}{more}", shown.join(", "))
        }
    };
    Error::new(Kind::Source, format!("{model} has no column `{name}` [42703]")).advise(advice).missing()
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
        };
        let described = self.describe_model(&projection).await;
        self.after(described).await
    }

    async fn columns_of_projection(&mut self, projection: &Projection) -> Result<Vec<Column>> {
        let described = self.describe_columns(projection).await;
        self.after(described).await
    }

    /// Ends the transaction of what was asked. Of two errors the first one counts: a server that broke the connection off
    /// has said why before.
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

    async fn release(&mut self, into: &DuckDbConnection) -> Result<()> {
        // The cells of the candidates were kept: the rows only take up room.
        if into.is_idle() {
            staging::discard(into).await?;
        }
        // A server that does not answer is left by closing the socket, which ends the transaction too.
        self.let_go().await
    }
}
