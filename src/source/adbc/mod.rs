//! The ADBC source: any warehouse that has an ADBC driver.
//!
//! A driver is loaded in a process of its own (`reader`). A model is described by a statement for no rows; its rows are
//! read by one statement, in which the warehouse casts every column to one of four forms (`dialects`), and go into the
//! staging table as the Arrow batches they come in. One statement is one snapshot in all of these warehouses. The reader
//! ends with the reading, and with it the session at the warehouse.

#[cfg(test)]
mod dialect_tests;
mod dialects;
mod error;
mod mirror;
mod plan;
mod reader;
mod settings;
mod types;

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;

use self::dialects::Warehouse;
use self::error::Target;
use self::plan::Plan;
pub use self::reader::{ARGUMENT as READER_ARGUMENT, run as run_reader};
use self::reader::{Reader, Request, Stop};
pub use self::settings::AdbcSettings;
use self::types::Meaning;
use super::mirror::{MirrorAccess, MirrorAnswer, MirrorChange, MirrorQuery, MirrorSettings};
use super::staged::Ahead;
use super::staging::{self, BatchSink, FillError};
use super::{Column, Inspection, OpenContext, Source, SourceType, Staged};
use crate::duckdb::DuckDbConnection;
use crate::error::{Result, Within};
use crate::io::{Clock as _, SystemClock};
use crate::mapping::compile::{Projection, where_clause};
use crate::mapping::dialect::Dialect;
use crate::mapping::{Expr, Model};
use crate::model::setting::{Setting, SettingValues};

/// Longest that connecting and describing may take.
const DESCRIBE_MAX: Duration = Duration::from_secs(300);

/// Warehouses with an ADBC driver.
pub struct AdbcType;

#[async_trait]
impl SourceType for AdbcType {
    fn name(&self) -> &'static str {
        "adbc"
    }

    fn settings(&self) -> &'static [Setting] {
        settings::SETTINGS
    }

    fn inspect(&self, settings: &SettingValues) -> Result<Inspection> {
        let settings = settings.parse::<AdbcSettings>()?;
        let dialect = settings.check()?;
        let (quoting, mirror) = (dialect.quoting, settings.mirror(dialect));
        let files = match settings.is_path() {
            true => vec![(PathBuf::from(&settings.driver), "the driver")],
            false => Vec::new(),
        };
        Ok(Inspection { files, quoting, mirror, ..Inspection::default() })
    }

    async fn open(&self, settings: &SettingValues, context: &OpenContext<'_>) -> Result<Box<dyn Source>> {
        let settings: AdbcSettings = settings.parse()?;
        let dialect = settings.check().within(|| format!("source {}", context.name))?;
        // A path starts at the config folder, like every other.
        let driver = match settings.is_path() {
            true => context.folder.join(&settings.driver).to_string_lossy().into_owned(),
            false => settings.driver.clone(),
        };
        let target = Target {
            name: context.name.to_owned(),
            driver: settings.driver.clone(),
            is_path: settings.is_path(),
            secrets: settings.secrets(),
        };
        let mut source = Adbc { driver, settings, dialect, target, reader: None };
        source.reader = Some(source.reader().await?);
        Ok(Box::new(source))
    }
}

/// A warehouse behind a driver.
pub struct Adbc {
    driver: String,
    settings: AdbcSettings,
    dialect: &'static Warehouse,
    target: Target,
    /// The connected reader, between two questions.
    reader: Option<Reader>,
}

impl std::fmt::Debug for Adbc {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Adbc({}, {})", self.target.place(), self.target.driver)
    }
}

impl Adbc {
    fn describe_limit(&self) -> Duration {
        self.settings.stall_timeout().min(DESCRIBE_MAX)
    }

    /// Takes the reader, started and connected. It is given back when it has answered; a future that is dropped before
    /// drops it, and so ends it.
    async fn reader(&mut self) -> Result<Reader> {
        match self.reader.take() {
            Some(reader) => Ok(reader),
            None => self.connected(false).await,
        }
    }

    /// A reader process that is connected anew. `writes`: its statements may write.
    async fn connected(&self, writes: bool) -> Result<Reader> {
        let mut options = self.settings.options()?;
        for (name, value) in self.dialect.options {
            if options.iter().all(|(given, _)| given != name) {
                options.push(((*name).to_owned(), settings::OptionText::Text((*value).to_owned())));
            }
        }
        let connect = Request::Connect {
            driver: self.driver.clone(),
            sha256: self.settings.sha256.clone(),
            entrypoint: self.settings.entrypoint.clone(),
            options,
            writes,
        };
        let mut reader =
            Reader::start(self.settings.reader.as_deref()).map_err(|stop| self.target.error("connect", stop))?;
        reader.ask(&connect, self.describe_limit()).await.map_err(|stop| self.target.error("connect", stop))?;
        Ok(reader)
    }

    /// Gives the reader back, unless its process is broken.
    fn keep<T>(&mut self, reader: Reader, outcome: Result<T, Stop>) -> Result<T, Stop> {
        if matches!(outcome, Ok(_) | Err(Stop::Failed(_))) {
            self.reader = Some(reader);
        }
        outcome
    }

    /// The columns of a statement.
    async fn columns(&mut self, sql: &str) -> Result<Result<Vec<(String, Meaning, bool)>, Stop>> {
        let mut reader = self.reader().await?;
        let described =
            reader.describe(self.dialect.first_rows(sql, self.dialect.described_by), self.describe_limit()).await;
        let described = self.keep(reader, described);
        Ok(described.map(|schema| {
            let column = |field: &std::sync::Arc<duckdb::arrow::datatypes::Field>| {
                (self.dialect.written(field.name()), Meaning::of(field, self.dialect), !field.is_nullable())
            };
            schema.fields().iter().map(column).collect()
        }))
    }

    /// The meanings of a projection's expressions.
    async fn meanings(&mut self, projection: &Projection, expressions: &[String]) -> Result<Vec<(Meaning, bool)>> {
        let projection = &Projection { limit: None, ..projection.clone() };
        let whole = self.columns(&plan::select(projection, self.dialect, expressions)).await?;
        match whole {
            Ok(columns) if columns.len() == expressions.len() => {
                Ok(columns.into_iter().map(|(_, meaning, not_null)| (meaning, not_null)).collect())
            }
            Ok(columns) => {
                let what = format!("describe the model: {} columns instead of {}", columns.len(), expressions.len());
                Err(self.target.error(&what, Stop::Malformed("the driver described another statement".to_owned())))
            }
            Err(stop) => Err(self.target.error("describe the model", stop)),
        }
    }

    async fn stage_rows(
        &mut self,
        projection: &Projection,
        into: &DuckDbConnection,
        rows: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Staged> {
        let expressions = plan::expressions(projection, self.dialect);
        let meanings = self.meanings(projection, &expressions).await?;
        let meanings = meanings.into_iter().map(|(meaning, _)| meaning).collect();
        let plan = Plan::new(projection, self.dialect, meanings).within(|| self.target.place())?;
        let limit = self.settings.stall_timeout();
        let now = SystemClock::start().now();
        let mut cursor = None;
        if let Some(sql) = plan.cursor_maximum.clone() {
            // Before the rows: later ones are then read again next time rather than never.
            let mut reader = self.reader().await?;
            let value = reader.ask(&Request::Value { sql }, limit).await;
            cursor = self.keep(reader, value).map_err(|stop| self.target.error("read the cursor", stop))?;
        }
        plan.table().create(into).await?;
        let request = Request::Read { sql: plan.sql.clone(), forms: plan.forms.clone() };
        let mut reader = self.reader().await?;
        let read = staging::fill_batches(into, rows, |sink| read(&mut reader, &request, limit, sink)).await;
        let count = match read {
            Ok(count) => count,
            Err(error) => {
                // Half a table must not be mistaken for a whole one. If dropping it fails too, the first error counts.
                let _ = staging::discard(into).await;
                return Err(match error {
                    FillError::Append(error) => error,
                    FillError::Read(stop) => self.target.error("read rows; nothing was sent", stop),
                });
            }
        };
        reader.close().await;
        let mut ahead = None;
        if plan.compares_here() {
            let (largest, rows) = plan.table().largest_cursor(into, plan.until(now)).await?;
            cursor = largest.and_then(|largest| plan.checkpoint(largest));
            let clock = "this machine's clock (a time without a zone is UTC)";
            ahead = (rows > 0).then_some(Ahead { rows, clock });
        }
        let cursor = cursor.filter(|_| count > 0);
        Ok(plan.table().staged(into.clone(), plan.kinds.clone(), cursor, ahead))
    }
}

/// Passes the rows of a statement on, as they come.
async fn read(reader: &mut Reader, request: &Request, limit: Duration, mut sink: BatchSink<'_>) -> Result<u64, Stop> {
    let mut answer = reader.answer(request, limit).await?;
    while let Some(batch) = answer.next().await? {
        sink.send(batch).await.map_err(|_| Stop::Refused)?;
    }
    Ok(answer.rows())
}

#[async_trait]
impl Source for Adbc {
    fn dialect(&self) -> &'static dyn Dialect {
        self.dialect
    }

    async fn describe(&mut self, model: &Model) -> Result<Vec<Column>> {
        let conditions: Vec<String> = model.filter.iter().cloned().collect();
        let sql = format!("SELECT * FROM {}{}", self.dialect.relation(&model.from), where_clause(&conditions));
        let columns = self.columns(&sql).await?.map_err(|stop| self.target.error("describe the model", stop))?;
        let column = |(name, meaning, not_null): (String, Meaning, bool)| Column {
            name,
            kind: meaning.kind,
            declared: meaning.declared,
            not_null,
            denied: None,
        };
        Ok(columns.into_iter().map(column).collect())
    }

    async fn describe_projection(&mut self, projection: &Projection) -> Result<Vec<Column>> {
        if projection.columns.is_empty() {
            return Ok(Vec::new());
        }
        let expressions: Vec<String> = projection.columns.iter().map(|expr| self.dialect.expression(expr)).collect();
        let meanings = self.meanings(projection, &expressions).await?;
        let column = |(expr, (meaning, not_null)): (&Expr, (Meaning, bool))| {
            let (Expr::Column(name) | Expr::Sql(name)) = expr;
            Column { name: name.clone(), kind: meaning.kind, declared: meaning.declared, not_null, denied: None }
        };
        Ok(projection.columns.iter().zip(meanings).map(column).collect())
    }

    async fn stage(
        &mut self,
        projection: &Projection,
        into: &DuckDbConnection,
        rows: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Staged> {
        self.stage_rows(projection, into, rows).await
    }

    fn mirror(&self) -> Option<MirrorSettings> {
        self.settings.mirror(self.dialect)
    }

    async fn compare(
        &mut self,
        projection: &Projection,
        query: &MirrorQuery,
        into: &DuckDbConnection,
        rows: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(Staged, MirrorAnswer)> {
        self.compare_with_mirror(projection, query, into, rows).await
    }

    async fn change_mirror(&mut self, projection: &Projection, change: &MirrorChange) -> Result<()> {
        self.write_mirror(projection, change).await
    }

    async fn mirror_access(&mut self) -> Result<MirrorAccess> {
        self.may_keep_mirrors().await
    }

    async fn release(&mut self, into: &DuckDbConnection) -> Result<()> {
        if let Some(reader) = self.reader.take() {
            reader.close().await;
        }
        staging::discard(into).await
    }
}
