//! How do account rows get from a DuckDB file, or from Parquet, CSV and JSON files, into the comparison?
//!
//! The file is attached to the comparison's own connection, read-only. A base table is compared **in place**: no copy,
//! DuckDB scans the mapped columns where they are (a million rows of 20 columns hash in about 0.4 s on two cores).
//! Anything else — a view, a query, files — may be dear to evaluate or answer differently the second time, so it is
//! read once into a temporary table (about 2 s for the same rows) and the file is let go at once.
//!
//! One snapshot without a transaction: DuckDB's read-only attachment holds a lock that no writer gets past, so the file
//! cannot change between [`Source::stage`] and [`Source::release`]. Nothing else on the connection is bound up with it.
//!
//! The lock is a POSIX one: it belongs to the process, and closing *any* handle of the file drops it. So within this
//! process a file is attached once at a time, and later comers wait. Beside the ledger only one database is attached at
//! a time, because all of its connections see it: `warehouse.main.accounts` must not mean the `warehouse` of another run,
//! nor `finance.accounts` be ambiguous while a run reads a file of that name.

mod attached;
mod failure;
mod fragment;
mod lookout;
mod physical;
mod relation;
mod type_text;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use duckdb::Connection;
use sha2::{Digest, Sha256};
use tokio::sync::OwnedMutexGuard;

use self::attached::Attached;
use self::relation::Resolved;
use self::type_text::DuckType;
use super::{Ahead, Column, Source, Staged};
use crate::duck::Duck;
use crate::error::{Error, Kind, Result, Within};
use crate::mapping::compile::{Projection, quote_identifier, quote_literal};
use crate::mapping::{Expr, Model};

/// A DuckDB source, as written in `groupcast.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The DuckDB file, opened read-only. Without it the source has no tables of its own: its models are queries over
    /// Parquet, CSV or JSON files.
    #[serde(default)]
    pub path: Option<PathBuf>,
}

/// A DuckDB file, or no file and queries over Parquet, CSV and JSON files.
pub struct DuckDb {
    name: String,
    file: Option<PathBuf>,
    folder: PathBuf,
    held: Arc<Mutex<Held>>,
}

/// What a staged read still holds on to.
#[derive(Default)]
struct Held {
    alias: Option<String>,
    table: Option<String>,
    turn: Option<OwnedMutexGuard<()>>,
    attaching: Option<OwnedMutexGuard<()>>,
}

impl Held {
    /// Lets the next one have its turn.
    fn pass_on(&mut self) {
        (self.turn, self.attaching) = (None, None);
    }
}

/// Whose turn it is with each file; see the module's docs.
static FILES: Mutex<BTreeMap<PathBuf, Arc<tokio::sync::Mutex<()>>>> = Mutex::new(BTreeMap::new());

/// Makes the names of temporary tables differ, so that two sources can stage on one connection.
static STAGED: AtomicU64 = AtomicU64::new(1);

impl DuckDb {
    /// The source `name`. Nothing is opened before the first call. `folder` is where relative paths inside SQL start.
    ///
    /// Errors: [`Kind::Config`] when a path cannot be handed to DuckDB.
    pub fn open(settings: &Settings, name: &str, folder: &Path) -> Result<DuckDb> {
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
        Ok(DuckDb {
            name: name.to_owned(),
            file: settings.path.clone(),
            folder: folder.to_path_buf(),
            held: Arc::default(),
        })
    }

    /// The names of all tables and views, `main` first and without its name.
    pub async fn tables(&mut self) -> Result<Vec<String>> {
        self.look("list the source's tables", |connection, attached| {
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
        work: impl FnOnce(&Connection, &Attached) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let place = format!("source {}", self.name);
        if self.held().turn.is_some() {
            let error = Error::new(Kind::Bug, "a staged source was asked to describe itself before it was released");
            return Err(error.at(place));
        }
        let turn = self.turn().await;
        let (file, folder) = (self.file.clone(), self.folder.clone());
        let looked = async {
            let duck = lookout::take()?;
            let value = duck
                .call(what, move |connection| {
                    let attached = Attached::open(connection, file.as_deref(), &folder)?;
                    let outcome = work(connection, &attached);
                    let detached = attached::detach(connection, attached.alias());
                    drop(turn);
                    match (detached, outcome) {
                        (Ok(()), outcome) => Ok(outcome),
                        (Err(_), Err(error)) | (Err(error), Ok(_)) => Err(error),
                    }
                })
                .await?;
            lookout::give_back(duck);
            value
        };
        looked.await.within(|| place)
    }

    /// Waits until no other source of this process has the file open.
    async fn turn(&self) -> Option<OwnedMutexGuard<()>> {
        let file = self.file.as_ref()?;
        let path = std::fs::canonicalize(file).unwrap_or_else(|_| file.clone());
        let turns = {
            let mut files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(files.entry(path).or_default())
        };
        Some(turns.lock_owned().await)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Source for DuckDb {
    async fn describe(&mut self, model: &Model) -> Result<Vec<Column>> {
        let model = model.clone();
        self.look("describe the model", move |connection, attached| {
            let from = Resolved::new(connection, attached, &model.from)?;
            attached.inside(connection, |connection| {
                let columns = from.columns(connection)?;
                if let Some(filter) = &model.filter {
                    from.check_condition(connection, filter)?;
                }
                let not_null = from.not_null(connection);
                Ok(columns
                    .into_iter()
                    .map(|(name, declared)| Column {
                        kind: DuckType::parse(&declared).meaning(),
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
        self.look("describe the projection", move |connection, attached| {
            let from = Resolved::new(connection, attached, &projection.from)?;
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
                            kind: DuckType::parse(&declared).meaning(),
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

    async fn stage(
        &mut self,
        projection: &Projection,
        into: &Duck,
        rows: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Staged> {
        let place = format!("source {}", self.name);
        // What a cancelled run left behind goes first.
        self.release(into).await?;
        // In this order: whoever has its turn at the ledger waits for the file at most as long as somebody describes it.
        let attaching = into.attaching().lock_owned().await;
        let turn = self.turn().await;
        {
            let mut held = self.held();
            (held.attaching, held.turn) = (Some(attaching), turn);
        }
        let (file, folder, projection) = (self.file.clone(), self.folder.clone(), projection.clone());
        let held = Arc::clone(&self.held);
        let staged = into
            .call("read the source", move |connection| {
                let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
                let staged = stage(connection, file.as_deref(), &folder, &projection, &mut held);
                if staged.is_err() {
                    // The first error is the one worth telling; letting go must not hide it.
                    let _ = let_go(connection, &mut held);
                }
                staged
            })
            .await;
        if staged.is_err() {
            self.held().pass_on();
        }
        let (staged, count) = staged.within(|| place)?;
        rows(count);
        Ok(staged)
    }

    async fn release(&mut self, into: &Duck) -> Result<()> {
        let held = Arc::clone(&self.held);
        {
            let held = self.held();
            if held.alias.is_none() && held.table.is_none() {
                drop(held);
                self.held().pass_on();
                return Ok(());
            }
        }
        into.call("release the source", move |connection| {
            let_go(connection, &mut held.lock().unwrap_or_else(PoisonError::into_inner))
        })
        .await
        .within(|| format!("source {}", self.name))
    }
}

/// Drops the temporary table, detaches the file and passes the turn on. What fails stays held, for the next attempt.
fn let_go(connection: &Connection, held: &mut Held) -> Result<()> {
    if let Some(table) = &held.table {
        connection
            .execute_batch(&format!("DROP TABLE IF EXISTS {table}"))
            .map_err(|error| failure::statement("drop the staged rows", &error))?;
        held.table = None;
    }
    if let Some(alias) = &held.alias {
        attached::detach(connection, alias)?;
        held.alias = None;
    }
    held.pass_on();
    Ok(())
}

/// Attaches, reads, and says where the rows are; also how many.
fn stage(
    connection: &Connection,
    file: Option<&Path>,
    folder: &Path,
    projection: &Projection,
    held: &mut Held,
) -> Result<(Staged, u64)> {
    let attached = Attached::open(connection, file, folder)?;
    held.alias = Some(attached.alias().to_owned());
    let from = Resolved::new(connection, &attached, &projection.from)?;
    let types = attached.inside(connection, |connection| from.types(connection, projection))?;
    let parsed: Vec<DuckType> = types.columns.iter().map(|declared| DuckType::parse(declared)).collect();
    let cursor = projection.cursor.as_ref().map(|cursor| (quote_identifier(cursor), types.cursor(cursor)));
    let mut staged = Staged {
        relation: String::new(),
        hashed: String::new(),
        physical: Vec::new(),
        kinds: parsed.iter().map(DuckType::meaning).collect(),
        cursor: None,
        ahead: None,
    };
    // Equal bytes of another type are another value: 1.50 and 15.0 are both 150, an enum's first label is always 0.
    let salt = quote_literal(&digest(&types.columns, &staged.kinds));
    let condition = projection.condition();
    // A key whose column ignores case must not do so in the comparison.
    let key = format!("CAST({} AS VARCHAR) COLLATE posix AS \"key\"", quote_identifier(&projection.key));
    let mut selected = vec![key];
    selected.extend(projection.columns.iter().enumerate().map(|(n, expr)| format!("{} AS c{n}", expr.sql())));

    if from.can_be_read_in_place(connection, &attached, projection) {
        staged.relation = format!("(SELECT {} FROM {}{condition})", selected.join(", "), from.sql);
        let hashed = parsed
            .iter()
            .enumerate()
            .map(|(n, kind)| if kind.hashes_natively() { format!("c{n}") } else { kind.physical(&format!("c{n}")) });
        staged.hashed = [salt, "\"key\"".to_owned()].into_iter().chain(hashed).collect::<Vec<_>>().join(", ");
        staged.physical = parsed.iter().enumerate().map(|(n, kind)| kind.physical(&format!("c{n}"))).collect();
        let largest = cursor.map_or(NO_CURSOR.to_owned(), |(column, kind)| reached(&kind, &column));
        // Expressions that fail on some row must fail here, as the source's error, not within the comparison.
        let expressions = projection.columns.iter().filter(|expr| matches!(expr, Expr::Sql(_))).map(Expr::sql);
        let tried = ["NULL".to_owned()].into_iter().chain(expressions).collect::<Vec<_>>().join(", ");
        let sql = format!("{largest}, max(hash({tried})) FROM {}{condition}", from.sql);
        let count;
        (count, staged.cursor, staged.ahead) = count_and_largest(connection, &sql)?;
        return Ok((staged, count));
    }

    let table = format!("temp.main.\"incoming_{}\"", STAGED.fetch_add(1, Ordering::Relaxed));
    held.table = Some(table.clone());
    let mut physical = vec!["\"key\"".to_owned()];
    physical.extend(parsed.iter().enumerate().map(|(n, kind)| format!("{} AS c{n}", kind.physical(&format!("c{n}")))));
    if let Some((column, _)) = &cursor {
        selected.push(format!("{column} AS \"cursor\""));
        physical.push("\"cursor\"".to_owned());
    }
    let statement = format!(
        "CREATE TEMP TABLE {table} AS SELECT {} FROM (SELECT {} FROM {}{condition})",
        physical.join(", "),
        selected.join(", "),
        from.sql
    );
    attached.inside(connection, |connection| {
        connection.execute_batch(&statement).map_err(|error| failure::statement("read the model", &error))
    })?;
    // The rows are ours now: writers need not wait for the comparison.
    attached::detach(connection, attached.alias())?;
    held.alias = None;
    held.pass_on();
    let names: Vec<String> = (0..parsed.len()).map(|n| format!("c{n}")).collect();
    staged.hashed =
        [salt, "\"key\"".to_owned()].into_iter().chain(names.iter().cloned()).collect::<Vec<_>>().join(", ");
    staged.physical = names;
    let largest = cursor.map_or(NO_CURSOR.to_owned(), |(_, kind)| reached(&kind, "\"cursor\""));
    let count;
    (count, staged.cursor, staged.ahead) = count_and_largest(connection, &format!("{largest} FROM {table}"))?;
    staged.relation = table;
    Ok((staged, count))
}

/// The largest cursor of a model without one. Typed, because a bare NULL arrives as Arrow's type of nulls alone.
const NO_CURSOR: &str = "NULL::VARCHAR, 0::BIGINT";

/// The largest cursor, and how many rows are ahead of the clock.
fn reached(kind: &DuckType, value: &str) -> String {
    format!("{}, {}", kind.largest(value), kind.ahead(value))
}

fn count_and_largest(connection: &Connection, largest_from: &str) -> Result<(u64, Option<String>, Option<Ahead>)> {
    connection
        .query_row(&format!("SELECT count(*), {largest_from}"), [], |row| {
            let rows = row.get::<_, i64>(2)?.unsigned_abs();
            let ahead =
                (rows > 0).then_some(Ahead { rows, clock: "this machine's clock (a time without a zone is UTC)" });
            Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get(1)?, ahead))
        })
        .map_err(|error| failure::statement("read the model", &error))
}

/// Sixteen hexadecimal digits that differ when a column's type does.
fn digest(declared: &[String], kinds: &[crate::model::ColumnType]) -> String {
    let hash = Sha256::digest(format!("{declared:?}{kinds:?}"));
    hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
