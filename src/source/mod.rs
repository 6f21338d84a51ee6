//! Sources: how account rows get from a warehouse into the comparison.
//!
//! A source describes the columns of a model ([`Source::describe`]) and puts its rows into a DuckDB instance of their own
//! ([`Source::stage`], [`instance`]), in one snapshot, read once. It is deliberately not a general query interface: it
//! sees a compiled projection, and never the ledger. What the ledger may then ask of the rows is in [`staged`].

pub mod adbc;
mod conversion;
pub mod dbt;
pub mod duckdb;
pub mod extensions;
pub mod instance;
mod listing;
pub mod mirror;
pub mod postgres;
pub mod registry;
mod remote_error;
pub mod staged;
pub mod staging;
mod statement_error;
mod unreadable_file;

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use self::extensions::Extensions;
use self::instance::Instance;
use self::mirror::{MirrorAccess, MirrorAnswer, MirrorChange, MirrorQuery, MirrorSettings};
use crate::duckdb::{DuckDbConnection, Limits};
use crate::error::{Error, Kind, Result};
use crate::mapping::compile::Projection;
use crate::mapping::dialect::Dialect;
use crate::mapping::template::ColumnShape;
use crate::mapping::{Model, Quoting};
use crate::model::ColumnType;
use crate::model::setting::{Setting, SettingValues};

pub use listing::TableListing;
pub use staged::{Ahead, RowsSummary, Staged};

/// A column as the source declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What its values mean.
    pub kind: ColumnType,
    /// The source's own name of the type (`numeric(38,2)`, `DECIMAL(38,2)`), for messages.
    pub declared: String,
    /// Whether the source says it is never null (informational: views and queries never say so).
    pub not_null: bool,
    /// Where this user may not read the column: the statement that lets it.
    pub denied: Option<String>,
}

impl Column {
    /// What a mapping's template needs to know of it.
    pub fn shape(&self) -> ColumnShape<'_> {
        ColumnShape { name: &self.name, kind: &self.kind, declared: &self.declared, not_null: self.not_null }
    }
}

/// What a source findings about a model that it can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFinding {
    /// What it is about.
    pub subject: FindingSubject,
    /// Whether it only reports what was inferred.
    pub note: bool,
    /// The remark: one line, without values.
    pub what: String,
    /// What to do about it.
    pub help: Vec<String>,
}

/// What a remark is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FindingSubject {
    /// The model as a whole.
    Table,
    /// A column, wherever it is used.
    Column(String),
    /// A column, where a trait takes it without declaring a type.
    Untyped(String),
}

/// A warehouse connection.
#[async_trait]
pub trait Source: Send {
    /// How its SQL is written.
    fn dialect(&self) -> &'static dyn Dialect;

    /// The columns the model yields, in its order, without reading rows. `filter` is checked with it.
    ///
    /// Columns that this user may not read are among them, and marked. Errors name what is missing (table, permission,
    /// syntax) in the source's words.
    async fn describe(&mut self, model: &Model) -> Result<Vec<Column>>;

    /// The types of a projection's expressions, in its order: what [`Source::describe`] says of plain columns, and the
    /// engine's own answer for SQL expressions. Fails naming the expression that does not compile.
    async fn describe_projection(&mut self, projection: &Projection) -> Result<Vec<Column>>;

    /// The tables and views that this user can read, for a person who chooses one; `None` where the source cannot list them.
    async fn tables(&mut self) -> Result<Option<Vec<TableListing>>> {
        Ok(None)
    }

    /// What a person should know about how this projection is read; for `check`.
    async fn findings(&mut self, _projection: &Projection) -> Result<Vec<SourceFinding>> {
        Ok(Vec::new())
    }

    /// An instance that [`Source::stage`] can put rows into.
    async fn instance(&mut self, limits: &Limits) -> Result<Instance> {
        Instance::take(limits).await
    }

    /// Puts the projection's rows within reach of `into`, an instance that nothing else uses, in one snapshot. `rows` gets the number of rows read so
    /// far, now and then. Afterwards the source holds no lock that a call to [`Source::release`] does not drop.
    async fn stage(
        &mut self,
        projection: &Projection,
        into: &DuckDbConnection,
        rows: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Staged>;

    /// Whether [`Source::stage`] sums rows up where the projection says so, and [`Source::summary`] may know their sums.
    fn sums_rows(&self) -> bool {
        false
    }

    /// What [`Source::stage`] would say of all rows in [`Staged::summary`], without handing any over.
    /// `None` where the source cannot say.
    async fn summary(&mut self, _projection: &Projection) -> Result<Option<RowsSummary>> {
        Ok(None)
    }

    /// The mirrors that it can keep; none where its server, or the way to it, is not made for that.
    fn mirror(&self) -> Option<MirrorSettings> {
        None
    }

    /// Compares the projection's rows with a mirror, in one snapshot, and puts those that the query wants within reach of
    /// `into`, like [`Source::stage`].
    async fn compare(
        &mut self,
        _projection: &Projection,
        _query: &MirrorQuery,
        _into: &DuckDbConnection,
        _rows: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(Staged, MirrorAnswer)> {
        Err(no_mirror())
    }

    /// Changes a mirror. When it returns, the change lasts; when it fails, it may come later.
    async fn change_mirror(&mut self, _projection: &Projection, _change: &MirrorChange) -> Result<()> {
        Err(no_mirror())
    }

    /// Whether its user may keep mirrors.
    async fn mirror_access(&mut self) -> Result<MirrorAccess> {
        Err(no_mirror())
    }

    /// Releases every lock and snapshot. Called after the cells of all candidates were kept and before anything is sent.
    async fn release(&mut self, into: &DuckDbConnection) -> Result<()>;
}

/// A source that keeps no mirror is used as if it did.
fn no_mirror() -> Error {
    Error::new(Kind::Bug, "this source keeps no mirror")
}

/// A type of source: one row of [`registry::SOURCE_TYPES`].
#[async_trait]
pub trait SourceType: Sync {
    /// The value of `type`.
    fn name(&self) -> &'static str;

    /// Its settings, besides `type`.
    fn settings(&self) -> &'static [Setting];

    /// What its settings tell without connecting.
    ///
    /// Errors: [`Kind::Config`], they cannot be used.
    fn inspect(&self, settings: &SettingValues) -> Result<Inspection>;

    /// A source of this type, ready to be described.
    async fn open(&self, settings: &SettingValues, context: &OpenContext<'_>) -> Result<Box<dyn Source>>;
}

/// What settings alone tell about a source.
#[derive(Debug, Default)]
pub struct Inspection {
    /// Settings without effect: what, and what to do about it.
    pub warnings: Vec<(String, String)>,
    /// The files of this machine that it reads, and what each is to the source.
    pub files: Vec<(PathBuf, &'static str)>,
    /// How a mapping's SQL is written for it.
    pub quoting: Quoting,
    /// The mirrors that it can keep, as far as its settings tell.
    pub mirror: Option<MirrorSettings>,
}

/// What a source is opened with, besides its settings.
#[derive(Debug, Clone, Copy)]
pub struct OpenContext<'a> {
    /// Its name in `groupcast.toml`.
    pub name: &'a str,
    /// The config folder.
    pub folder: &'a Path,
    /// What a DuckDB instance that describes it may use.
    pub limits: &'a Limits,
    /// What DuckDB loads to read with.
    pub extensions: &'a Extensions,
}
