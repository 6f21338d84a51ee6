//! The DuckDB source: account rows from a DuckDB file, or from Parquet, CSV and JSON files.
//!
//! Text files that a model names as its table are read by `textfile`, as they are written.
//!
//! The file is attached, read-only, to an instance that reads nothing else ([`super::instance`]). A base table is compared
//! **in place**: no copy, DuckDB scans the mapped columns where they are (a million rows of 20 columns hash in about 0.1 s
//! on two cores). Anything else — a view, a query, files — may be dear to evaluate or answer differently the second time,
//! so it is read once into a temporary table (about 2 s for the same rows) and the file is released immediately.
//!
//! One snapshot without a transaction: DuckDB's read-only attachment holds a lock that no writer gets past, so the file
//! cannot change between [`Source::stage`] and [`Source::release`]. Nothing else on the connection is bound up with it.
//!
//! The lock is a POSIX one: it belongs to the process, and closing *any* handle of the file drops it. So within this
//! process a file is attached once at a time, and later comers wait, for a while. The turn at a file belongs to the
//! connection that has it attached. Where a statement goes on although its run has ended, the turn is passed on: the file
//! may well be open twice, since both only read it. Only to close it, later, the turn must be had again (`Turn`).

mod attached;
mod conversion;
mod dialect;
mod lexer;
mod order;
mod physical;
mod relation;
mod settings;
mod stage;
mod textfile;
mod turn;
mod type_text;

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use duckdb::Connection;

use self::attached::Attached;
use self::dialect::DIALECT;
use self::relation::Resolved;
pub use self::settings::DuckDbSettings;
pub use self::textfile::Encoding;
use self::textfile::{Options, TextTable, View};
use self::turn::Turn;
use self::type_text::DuckType;
use super::instance::Instance;
use super::{Column, FindingSubject, Inspection, OpenContext, Source, SourceFinding, SourceType, Staged};
use crate::duckdb::{DuckDbConnection, Limits};
use crate::error::{Error, Kind, Result, Within};
use crate::mapping::compile::Projection;
use crate::mapping::dialect::Dialect;
use crate::mapping::{self, Expr, Model};
use crate::model::setting::{Setting, SettingValues};

/// DuckDB files, and text and Parquet files.
pub struct DuckDbType;

#[async_trait]
impl SourceType for DuckDbType {
    fn name(&self) -> &'static str {
        "duckdb"
    }

    fn settings(&self) -> &'static [Setting] {
        settings::SETTINGS
    }

    fn inspect(&self, settings: &SettingValues) -> Result<Inspection> {
        let Some(path) = settings.parse::<DuckDbSettings>()?.path else { return Ok(Inspection::default()) };
        let mut wal = path.clone().into_os_string();
        wal.push(".wal");
        let files = vec![(PathBuf::from(wal), "the write-ahead log"), (path, "the file")];
        Ok(Inspection { files, ..Inspection::default() })
    }

    async fn open(&self, settings: &SettingValues, context: &OpenContext<'_>) -> Result<Box<dyn Source>> {
        let settings = settings.parse()?;
        Ok(Box::new(DuckDb::open(&settings, context.name, context.folder, context.limits)?))
    }
}

/// A DuckDB file, or no file and queries over Parquet, CSV and JSON files.
pub struct DuckDb {
    name: String,
    file: Option<PathBuf>,
    folder: PathBuf,
    text: Options,
    limits: Limits,
    /// Longest that a statement may make no progress.
    stall: Duration,
    /// Whether something was staged that was not released yet.
    staged: bool,
    /// The turn at the file, while something is staged.
    turn: Option<Turn>,
}

impl Drop for DuckDb {
    fn drop(&mut self) {
        // A run that was cancelled in the middle of a statement.
        if let Some(turn) = self.turn.take() {
            turn.pass_on();
        }
    }
}

/// Longest that a statement may make no progress, where the settings set none.
const STALL_TIMEOUT: Duration = Duration::from_secs(1_800);
/// Longest that describing may take without progress, whatever the settings are.
const DESCRIBE_MAX: Duration = Duration::from_secs(300);
/// Longest that releasing a file may take: a statement that was interrupted and does not react is left behind.
const RELEASE_MAX: Duration = Duration::from_secs(10);

impl DuckDb {
    /// The source `name`. Nothing is opened before the first call. `folder` is where relative paths inside SQL start,
    /// `limits` is what describing it may use.
    ///
    /// Errors: [`Kind::Config`] when a path cannot be handed to DuckDB.
    pub fn open(settings: &DuckDbSettings, name: &str, folder: &Path, limits: &Limits) -> Result<DuckDb> {
        let place = || format!("source {name}");
        if settings.path.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            let error = Error::new(Kind::Config, "`path` is empty")
                .advise("name a DuckDB file, or leave `path` out to query Parquet, CSV or JSON files");
            return Err(error).within(place);
        }
        if [settings.path.as_deref(), Some(folder)].into_iter().flatten().any(|path| path.to_str().is_none()) {
            let error = Error::new(Kind::Config, "a path is not valid UTF-8").advise("rename the file or folder");
            return Err(error).within(place);
        }
        // DuckDB splits its search path at commas and knows no escape.
        if settings.path.is_none() && folder.to_string_lossy().contains(',') {
            let error = Error::new(Kind::Config, "the config folder's path has a comma, which DuckDB cannot search in")
                .advise("rename the folder");
            return Err(error).within(place);
        }
        let text = settings.text().within(place)?;
        if settings.path.is_some() && (text != Options::default() || settings.decimal.is_some()) {
            let what =
                "`encoding`, `delimiter`, `quote` and `decimal` are about text files, and this source is a DuckDB file";
            let error = Error::new(Kind::Config, what).advise("give text files a source of their own, without `path`");
            return Err(error).within(place);
        }
        Ok(DuckDb {
            name: name.to_owned(),
            file: settings.path.clone(),
            folder: folder.to_path_buf(),
            text,
            limits: limits.clone(),
            stall: settings.stall_timeout_seconds.map_or(STALL_TIMEOUT, |seconds| Duration::from_secs(seconds.max(1))),
            staged: false,
            turn: None,
        })
    }

    /// The names of all tables and views, `main` first and without its name.
    pub async fn tables(&mut self) -> Result<Vec<String>> {
        self.look("list the source's tables", None, |connection, attached| {
            let relations = attached.relations(connection)?.into_iter();
            Ok(relations
                .map(|relation| match relation.schema.as_str() {
                    "main" => relation.name,
                    schema => format!("{schema}.{}", relation.name),
                })
                .collect())
        })
        .await
    }

    /// Runs `work` on a connection of its own that has the file attached for as long as it takes.
    async fn look<T: Send + 'static>(
        &mut self,
        what: &'static str,
        model: Option<&mapping::From>,
        work: impl FnOnce(&Connection, &Attached) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let place = format!("source {}", self.name);
        if self.staged {
            let error = Error::new(Kind::Bug, "a staged source was described before it was released");
            return Err(error.at(place));
        }
        let (file, folder, model) = (self.file.clone(), self.folder.clone(), model.cloned());
        let looked = async {
            let turn = self.wait_for_turn().await?;
            let instance = Instance::take(&self.limits).await?;
            let kept = turn.clone();
            let looked = instance
                .duckdb()
                .call_with_slot(what, Some(self.stall.min(DESCRIBE_MAX)), move |held| {
                    held.until_closed = turn.map(|turn| Box::new(turn) as _);
                    let connection = &held.connection;
                    let attached = match &model {
                        Some(model) => Attached::open_for(connection, file.as_deref(), &folder, model),
                        None => Attached::open(connection, file.as_deref(), &folder),
                    };
                    let attached = match attached {
                        Ok(attached) => attached,
                        Err(error) => {
                            held.until_closed = None;
                            return Err(error);
                        }
                    };
                    let outcome = work(connection, &attached);
                    if let Some(turn) = held.until_closed.as_mut() {
                        turn.reacquire();
                    }
                    let detached = attached::detach(connection, attached.alias());
                    if detached.is_ok() {
                        held.until_closed = None;
                    }
                    match (detached, outcome) {
                        (Ok(()), outcome) => outcome,
                        (Err(_), Err(error)) | (Err(error), Ok(_)) => Err(error),
                    }
                })
                .await;
            if let Some(turn) = kept.filter(|_| !instance.duckdb().is_idle()) {
                turn.pass_on();
            }
            looked
        };
        looked.await.within(|| place)
    }

    /// The turn at the file, if there is one.
    async fn wait_for_turn(&self) -> Result<Option<Turn>> {
        match &self.file {
            Some(file) => Turn::wait(file).await.map(Some),
            None => Ok(None),
        }
    }

    /// The text file that a model of this source means by its table, if it does.
    fn text_table(&self, from: &mapping::From) -> Result<Option<TextTable>> {
        match self.file {
            Some(_) => Ok(None),
            None => TextTable::meant(from, &self.folder, self.text).within(|| format!("source {}", self.name)),
        }
    }
}

#[async_trait]
impl Source for DuckDb {
    fn dialect(&self) -> &'static dyn Dialect {
        DIALECT
    }

    async fn describe(&mut self, model: &Model) -> Result<Vec<Column>> {
        let model = model.clone();
        let text = self.text_table(&model.from)?;
        let from = model.from.clone();
        self.look("describe the model", Some(&from), move |connection, attached| {
            let from = match &text {
                Some(text) => Resolved::of_text(View::empty_of_all(text.profile()?)),
                None => Resolved::new(connection, attached, &model.from)?,
            };
            attached.inside(connection, |connection| {
                let columns = from.columns(connection)?;
                if let Some(filter) = &model.filter {
                    from.check_condition(connection, filter)?;
                }
                let not_null = from.not_null(connection);
                Ok(columns
                    .into_iter()
                    .map(|(name, declared)| Column {
                        kind: from.written(&name).unwrap_or_else(|| DuckType::parse(&declared).meaning()),
                        not_null: not_null.contains(&name),
                        name,
                        declared,
                        denied: None,
                    })
                    .collect())
            })
        })
        .await
    }

    async fn describe_projection(&mut self, projection: &Projection) -> Result<Vec<Column>> {
        let projection = projection.clone();
        let text = self.text_table(&projection.from)?;
        let from = projection.from.clone();
        self.look("describe the projection", Some(&from), move |connection, attached| {
            let from = match &text {
                Some(text) => Resolved::of_text(View::empty(text.profile()?, &projection)?),
                None => Resolved::new(connection, attached, &projection.from)?,
            };
            attached.inside(connection, |connection| {
                let declared = from.types(connection, &projection)?.columns;
                let not_null = from.not_null(connection);
                Ok(projection
                    .columns
                    .iter()
                    .zip(declared)
                    .map(|(expr, declared)| {
                        let (Expr::Column(name) | Expr::Sql(name)) = expr;
                        let plain = matches!(expr, Expr::Column(_));
                        Column {
                            name: name.clone(),
                            kind: from.kind(expr).unwrap_or_else(|| DuckType::parse(&declared).meaning()),
                            not_null: plain && not_null.iter().any(|column| column.eq_ignore_ascii_case(name)),
                            declared,
                            denied: None,
                        }
                    })
                    .collect())
            })
        })
        .await
    }

    async fn findings(&mut self, projection: &Projection) -> Result<Vec<SourceFinding>> {
        let (projection, folder, options) = (projection.clone(), self.folder.clone(), self.text);
        let text = self.text_table(&projection.from)?;
        let has_file = self.file.is_some();
        let from = projection.from.clone();
        self.look("inspect the model's files", Some(&from), move |connection, attached| {
            if let Some(text) = text {
                let profile = text.profile()?;
                profile.whole()?;
                return Ok(profile.findings(&projection));
            }
            let from = Resolved::new(connection, attached, &projection.from)?;
            let columns = attached.inside(connection, |connection| from.columns(connection))?;
            let mut findings = binary(&projection, &columns, has_file);
            if let mapping::From::Query(sql) = &projection.from {
                findings.extend(textfile::sniffed(sql, &folder, options, &projection, &columns));
            }
            Ok(findings)
        })
        .await
    }

    async fn stage(
        &mut self,
        projection: &Projection,
        into: &DuckDbConnection,
        rows: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Staged> {
        let place = format!("source {}", self.name);
        // What a cancelled run left behind goes first.
        self.release(into).await?;
        let turn = self.wait_for_turn().await.within(|| place.clone())?;
        (self.staged, self.turn) = (true, turn.clone());
        let (file, folder, projection) = (self.file.clone(), self.folder.clone(), projection.clone());
        let text = self.text_table(&projection.from)?;
        let instance = into.clone();
        let staged = into
            .call_with_slot("read the source", Some(self.stall), move |held| {
                held.until_closed = turn.map(|turn| Box::new(turn) as _);
                let staged = stage::stage(held, file.as_deref(), &folder, text, &projection, instance);
                if staged.is_err() {
                    // The first error is the one that counts; releasing must not hide it.
                    let _ = stage::let_go(held);
                }
                staged
            })
            .await;
        let (staged, count) = staged.within(|| place)?;
        rows(count);
        Ok(staged)
    }

    async fn release(&mut self, into: &DuckDbConnection) -> Result<()> {
        if !self.staged {
            return Ok(());
        }
        let place = || format!("source {}", self.name);
        match tokio::time::timeout(RELEASE_MAX, into.call_with_slot("release the source", None, stage::let_go)).await {
            Ok(released) => {
                released.within(place)?;
                (self.staged, self.turn) = (false, None);
                Ok(())
            }
            Err(_) => {
                if let Some(turn) = &self.turn {
                    turn.pass_on();
                }
                Err(Error::new(Kind::Source, "the statement that reads the model does not react to being interrupted")
                    .advise(
                        "simplify the model's SQL; writers cannot open the file until the statement ends or the process does",
                    ))
                .within(place)
            }
        }
    }
}

/// Remarks about columns of Parquet files that hold bytes, which often are text that its writer did not mark as such.
fn binary(projection: &Projection, columns: &[(String, String)], has_file: bool) -> Vec<SourceFinding> {
    let help = match &projection.from {
        mapping::From::Table(parts) if !has_file && parts.join(".").to_lowercase().contains(".parquet") => {
            format!("`sql = \"FROM read_parquet('{}', binary_as_string = true)\"`", parts.join("."))
        }
        mapping::From::Query(sql) if sql.to_lowercase().contains("parquet") && !sql.contains("binary_as_string") => {
            "`read_parquet('…', binary_as_string = true)` in its SQL".to_owned()
        }
        _ => return Vec::new(),
    };
    let used = projection.columns.iter().filter_map(|expr| match expr {
        Expr::Column(name) => Some(name),
        Expr::Sql(_) => None,
    });
    let is_binary = |name: &&String| columns.iter().any(|(column, kind)| column == *name && kind == "BLOB");
    used.chain([&projection.key])
        .filter(is_binary)
        .map(|name| SourceFinding {
            subject: FindingSubject::Column(name.clone()),
            note: false,
            what: format!(
                "column `{name}` is binary in the Parquet file, not marked as text: it is sent as hexadecimal digits"
            ),
            help: vec![format!("where it is text read it as such: {help}")],
        })
        .collect()
}
