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
mod attachment;
mod conversion;
mod dialect;
mod files;
mod findings;
mod identity;
mod lexer;
mod order;
mod physical;
mod relation;
mod settings;
mod stage;
mod tables;
mod textfile;
mod turn;
mod type_text;

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use duckdb::Connection;
use sha2::{Digest, Sha256};

use self::attached::{Attached, Database};
use self::attachment::Attachment;
use self::dialect::DIALECT;
pub use self::files::{FilesSettings, FilesType};
use self::relation::Resolved;
pub use self::settings::DuckDbSettings;
pub use self::textfile::Encoding;
use self::textfile::{Options, TextTable, View};
use self::turn::Turn;
use self::type_text::DuckType;
use super::extensions::{self, Extensions, Problem};
use super::instance::Instance;
use super::{Column, Inspection, OpenContext, RowsSummary, Source, SourceFinding, SourceType, Staged, TableListing};
use crate::duckdb::{DuckDbConnection, Limits};
use crate::error::{Error, Kind, Result, Within};
use crate::io::{Clock, SystemClock};
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
        let settings = settings.parse::<DuckDbSettings>()?;
        let attached = settings.attach.as_ref().and_then(|address| attachment::file(address.expose()));
        let Some(path) = settings.path.or(attached) else { return Ok(Inspection::default()) };
        let mut wal = path.clone().into_os_string();
        wal.push(".wal");
        let files = vec![(PathBuf::from(wal), "the write-ahead log"), (path, "the file")];
        Ok(Inspection { files, ..Inspection::default() })
    }

    async fn open(&self, settings: &SettingValues, context: &OpenContext<'_>) -> Result<Box<dyn Source>> {
        let settings = settings.parse()?;
        let opened = DuckDb::open(&settings, context.name, context.folder, context.limits)?;
        Ok(Box::new(opened.with_extensions(context.extensions)))
    }
}

/// A DuckDB file, or no file and queries over Parquet, CSV and JSON files.
pub struct DuckDb {
    name: String,
    database: Database,
    folder: PathBuf,
    text: Options,
    /// Whether a pattern means only the newest of its files.
    latest: bool,
    limits: Limits,
    /// Longest that a statement may make no progress.
    stall: Duration,
    /// Whether something was staged that was not released yet.
    staged: bool,
    /// The turn at the file, while something is staged.
    turn: Option<Turn>,
    extensions: Extensions,
    clock: Box<dyn Clock>,
    /// What of them the instance taken last is without.
    problems: Vec<Problem>,
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
/// The same where no file is held that a writer may wait for, as with what an extension reads from a server.
const RELEASE_MAX_WITHOUT_FILE: Duration = Duration::from_secs(1);

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
        if settings.path.is_some() && settings.attach.is_some() {
            let error = Error::new(Kind::Config, "the source has both `path` and `attach`")
                .advise("keep `path` for a DuckDB file, `attach` for what an extension reaches");
            return Err(error).within(place);
        }
        if settings.attach.is_none() && settings.attach_options.is_some() {
            let error = Error::new(Kind::Config, "`attach_options` belong to `attach`, which is missing")
                .advise("add `attach`, or remove them");
            return Err(error).within(place);
        }
        // DuckDB splits its search path at commas and knows no escape.
        if settings.path.is_none() && settings.attach.is_none() && folder.to_string_lossy().contains(',') {
            let error = Error::new(Kind::Config, "the config folder's path has a comma, which DuckDB cannot search in")
                .advise("rename the folder");
            return Err(error).within(place);
        }
        let text = settings.text().within(place)?;
        let has_database = settings.path.is_some() || settings.attach.is_some();
        if has_database && (text != Options::default() || settings.decimal.is_some()) {
            let what =
                "`encoding`, `delimiter`, `quote` and `decimal` are about text files, and this source is a database";
            let error = Error::new(Kind::Config, what)
                .advise("give text files a source of their own, without `path` and `attach`");
            return Err(error).within(place);
        }
        let no_options = toml::Table::new();
        let database = match (&settings.path, &settings.attach) {
            (Some(path), _) => Database::File(path.clone()),
            (None, Some(address)) => {
                let options = settings.attach_options.as_ref().unwrap_or(&no_options);
                Database::Attachment(Attachment::new(address, options, name, folder).within(place)?)
            }
            (None, None) => Database::Empty,
        };
        Ok(DuckDb {
            name: name.to_owned(),
            database,
            folder: folder.to_path_buf(),
            text,
            latest: false,
            limits: limits.clone(),
            stall: settings.stall_timeout_seconds.map_or(STALL_TIMEOUT, |seconds| Duration::from_secs(seconds.max(1))),
            staged: false,
            turn: None,
            extensions: Extensions::default(),
            clock: Box::new(SystemClock::start()),
            problems: Vec::new(),
        })
    }

    /// A source of files below `folder`.
    ///
    /// Errors: [`Kind::Config`].
    pub fn of_files(settings: &FilesSettings, name: &str, folder: &Path, limits: &Limits) -> Result<DuckDb> {
        let stall_timeout_seconds = settings.stall_timeout_seconds;
        let empty = DuckDbSettings { stall_timeout_seconds, ..DuckDbSettings::default() };
        let mut source = DuckDb::open(&empty, name, folder, limits)?;
        source.text = settings.options().within(|| format!("source {name}"))?;
        source.latest = settings.latest;
        Ok(source)
    }

    /// The source, reading with these extensions and secrets.
    pub fn with_extensions(mut self, extensions: &Extensions) -> DuckDb {
        self.extensions = extensions.clone();
        self
    }

    /// The source with another clock, by which files are old enough to be known again.
    pub fn with_clock(mut self, clock: Box<dyn Clock>) -> DuckDb {
        self.clock = clock;
        self
    }

    /// An error of this source, with what explains it and without what must not be shown.
    fn explained(&self, error: Error) -> Error {
        let error = extensions::explain(error, &self.problems);
        match &self.database {
            _ if self.extensions.is_empty() && !matches!(self.database, Database::Attachment(_)) => error,
            Database::Attachment(attachment) => error.reworded(|text| attachment.masked(&self.extensions.masked(text))),
            Database::Empty | Database::File(_) => error.reworded(|text| self.extensions.masked(text)),
        }
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
        let (database, folder, model) = (self.database.clone(), self.folder.clone(), model.cloned());
        let limits = self.limits.clone();
        let looked = async {
            let turn = self.wait_for_turn().await?;
            let instance = self.instance(&limits).await?;
            let kept = turn.clone();
            let looked = instance
                .duckdb()
                .call_with_slot(what, Some(self.stall.min(DESCRIBE_MAX)), move |held| {
                    held.until_closed = turn.map(|turn| Box::new(turn) as _);
                    let connection = &held.connection;
                    let attached = match &model {
                        Some(model) => Attached::open_for(connection, &database, &folder, model),
                        None => Attached::open(connection, &database, &folder),
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
        let looked = looked.await;
        looked.map_err(|error| self.explained(error)).within(|| place)
    }

    /// The turn at the file, if there is one.
    async fn wait_for_turn(&self) -> Result<Option<Turn>> {
        match self.database.opened_file() {
            Some(file) => Turn::wait(file).await.map(Some),
            None => Ok(None),
        }
    }

    /// What a model means: of files that match a pattern only the newest, where the settings say so.
    fn chosen(&self, from: &mapping::From) -> Result<mapping::From> {
        let newest = match (from, self.latest) {
            (mapping::From::Table(parts), true) => textfile::newest(&parts.join("."), &self.folder),
            _ => Ok(None),
        };
        let newest = newest.within(|| format!("source {}", self.name))?;
        Ok(newest.map_or_else(|| from.clone(), |newest| mapping::From::Table(vec![newest.shown])))
    }

    /// The files behind a table, where nothing else decides what its rows are.
    fn files_of(&self, from: &mapping::From) -> Option<Vec<PathBuf>> {
        match (&self.database, from) {
            (Database::File(file), mapping::From::Table(_)) => {
                let mut wal = file.clone().into_os_string();
                wal.push(".wal");
                (!Path::new(&wal).exists()).then(|| vec![file.clone()])
            }
            (Database::Empty, mapping::From::Table(parts)) => textfile::files(&parts.join("."), &self.folder),
            _ => None,
        }
    }

    /// What identifies the rows of a projection that are in files, and everything else that they depend on.
    fn identity(&self, projection: &Projection) -> Option<RowsSummary> {
        let from = self.chosen(&projection.from).ok()?;
        let files = identity::of(&self.files_of(&from)?, self.clock.now().into())?;
        let projection = Projection { summed: false, ..projection.clone() };
        let read = Sha256::digest(format!("{projection:?} {:?}", self.text));
        let read: String = read.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Some(format!("files {files} {read}"))
    }

    /// The text file that a model of this source means by its table, if it does.
    fn text_table(&self, from: &mapping::From) -> Result<Option<TextTable>> {
        match self.database {
            Database::File(_) | Database::Attachment(_) => Ok(None),
            Database::Empty => {
                TextTable::meant(from, &self.folder, self.text.clone()).within(|| format!("source {}", self.name))
            }
        }
    }
}

#[async_trait]
impl Source for DuckDb {
    fn dialect(&self) -> &'static dyn Dialect {
        DIALECT
    }

    async fn describe(&mut self, model: &Model) -> Result<Vec<Column>> {
        let model = Model { from: self.chosen(&model.from)?, ..model.clone() };
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

    async fn tables(&mut self) -> Result<Option<Vec<TableListing>>> {
        self.list_tables().await.map(Some)
    }

    async fn describe_projection(&mut self, projection: &Projection) -> Result<Vec<Column>> {
        let projection = Projection { from: self.chosen(&projection.from)?, ..projection.clone() };
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
        let newest = match (&projection.from, self.latest) {
            (mapping::From::Table(parts), true) => textfile::newest(&parts.join("."), &self.folder)?,
            _ => None,
        };
        let projection = Projection { from: self.chosen(&projection.from)?, ..projection.clone() };
        let (folder, options) = (self.folder.clone(), self.text.clone());
        let text = self.text_table(&projection.from)?;
        let has_tables = !matches!(self.database, Database::Empty);
        let from = projection.from.clone();
        self.look("inspect the model's files", Some(&from), move |connection, attached| {
            let mut found: Vec<SourceFinding> = newest.iter().map(findings::chosen_newest).collect();
            if let Some(text) = text {
                let profile = text.profile()?;
                profile.whole()?;
                found.extend(profile.findings(&projection));
                return Ok(found);
            }
            found.extend(findings::loaded(connection));
            let from = Resolved::new(connection, attached, &projection.from)?;
            let columns = attached.inside(connection, |connection| from.columns(connection))?;
            found.extend(findings::binary(&projection, &columns, has_tables));
            if let mapping::From::Query(sql) = &projection.from {
                found.extend(textfile::sniffed(sql, &folder, options, &projection, &columns));
            }
            Ok(found)
        })
        .await
    }

    async fn instance(&mut self, limits: &Limits) -> Result<Instance> {
        let (instance, problems) = Instance::with_extensions(limits, &self.extensions).await?;
        self.problems = problems;
        Ok(instance)
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
        let identity = if projection.summed { self.identity(projection) } else { None };
        let asked = projection.clone();
        let projection = Projection { from: self.chosen(&projection.from)?, ..projection.clone() };
        let (database, folder) = (self.database.clone(), self.folder.clone());
        let text = self.text_table(&projection.from)?;
        let instance = into.clone();
        let staged = into
            .call_with_slot("read the source", Some(self.stall), move |held| {
                held.until_closed = turn.map(|turn| Box::new(turn) as _);
                let staged = stage::stage(held, &database, &folder, text, &projection, instance);
                if staged.is_err() {
                    // The first error is the one that counts; releasing must not hide it.
                    let _ = stage::let_go(held);
                }
                staged
            })
            .await;
        let (mut staged, count, of_files) = staged.map_err(|error| self.explained(error)).within(|| place)?;
        rows(count);
        // Also after they were read, so that none changed meanwhile.
        if of_files && identity.is_some() && identity == self.identity(&asked) {
            staged.summary = identity;
        }
        Ok(staged)
    }

    fn sums_rows(&self) -> bool {
        !matches!(self.database, Database::Attachment(_))
    }

    async fn summary(&mut self, projection: &Projection) -> Result<Option<RowsSummary>> {
        Ok(self.identity(projection))
    }

    async fn release(&mut self, into: &DuckDbConnection) -> Result<()> {
        if !self.staged {
            return Ok(());
        }
        let place = || format!("source {}", self.name);
        let limit = if self.turn.is_some() { RELEASE_MAX } else { RELEASE_MAX_WITHOUT_FILE };
        match tokio::time::timeout(limit, into.call_with_slot("release the source", None, stage::let_go)).await {
            Ok(released) => {
                released.within(place)?;
                (self.staged, self.turn) = (false, None);
                Ok(())
            }
            Err(_) => {
                let advice = match &self.turn {
                    Some(turn) => {
                        turn.pass_on();
                        "simplify the model's SQL; writers cannot open the file until the statement ends or the process does"
                    }
                    None => "its thread is lost until the statement ends or the process does",
                };
                let what = "the statement that reads the model does not react to being interrupted";
                Err(Error::new(Kind::Source, what).advise(advice)).within(place)
            }
        }
    }
}
