//! An attached database: the warehouse file within reach of a connection, its name there, and its tables.

use std::io::Read;
use std::path::{Path, PathBuf};

use duckdb::{Connection, params};

use super::attachment::Attachment;
use crate::duckdb::{first_line, quote_identifier, quote_literal};
use crate::error::{Error, Kind, Result};
use crate::mapping::From;
use crate::mapping::diagnostic::did_you_mean;
use crate::source::statement_error::statement_error;

/// The database behind a source.
#[derive(Clone)]
pub(super) enum Database {
    /// None of its own: models are files, and queries over files.
    Empty,
    /// A DuckDB file.
    File(PathBuf),
    /// What an extension attaches.
    Attachment(Attachment),
}

impl Database {
    /// The file behind it, which one reading at a time has open.
    pub(super) fn opened_file(&self) -> Option<&Path> {
        match self {
            Database::File(path) => Some(path),
            Database::Attachment(attachment) => attachment.file.as_deref(),
            Database::Empty => None,
        }
    }

    /// The DuckDB file, if it is one.
    pub(super) fn file(&self) -> Option<&Path> {
        match self {
            Database::File(path) => Some(path),
            Database::Empty | Database::Attachment(_) => None,
        }
    }
}

/// An attached database: the warehouse file, or an empty one in memory for queries over files.
pub(super) struct Attached {
    /// The name it is attached under.
    alias: String,
    /// What the connection used before, quoted for `USE`.
    home: String,
    database: Database,
    /// Where relative paths inside SQL start.
    folder: PathBuf,
}

/// A table or view of the attached database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Relation {
    pub(super) schema: String,
    pub(super) name: String,
    /// A base table, which can be read in place.
    pub(super) is_table: bool,
}

impl Attached {
    /// Attaches the file under the name that suits a model. That is the name DuckDB's own shell gives it, because views
    /// name their tables with it (dbt writes all three parts). Only where a query's two-part names could mean the file as
    /// well as a schema of it, and would be refused, the file has another name.
    pub(super) fn open_for(
        connection: &Connection,
        database: &Database,
        folder: &Path,
        from: &From,
    ) -> Result<Attached> {
        let attached = Attached::open(connection, database, folder)?;
        let From::Query(sql) = from else { return Ok(attached) };
        if attached.database.file().is_none() || !attached.has_schema_of_its_name(connection) {
            return Ok(attached);
        }
        let bound = attached.inside(connection, |connection| {
            let sql = format!("DESCRIBE SELECT * FROM (\n{}\n)", super::lexer::without_semicolon(sql));
            let refused = connection.prepare(&sql).and_then(|mut statement| statement.query([]).map(|_| ())).err();
            Ok(!refused.is_some_and(|error| error.to_string().contains("Ambiguous reference to catalog or schema")))
        })?;
        if bound {
            return Ok(attached);
        }
        detach(connection, &attached.alias)?;
        Attached::open_as(connection, database, folder, false)
    }

    /// Whether a schema is called like the file, so that two-part names have two meanings.
    fn has_schema_of_its_name(&self, connection: &Connection) -> bool {
        let sql = "SELECT count(*) > 0 FROM duckdb_schemas() WHERE database_name = ? AND lower(schema_name) = lower(?)";
        connection.query_row(sql, params![self.alias, self.alias], |row| row.get(0)).unwrap_or(false)
    }

    /// Attaches the file read-only. While it is attached, no process can write to it, so everything read from it until
    /// [`detach`] is one snapshot, without a transaction to hold open.
    pub(super) fn open(connection: &Connection, database: &Database, folder: &Path) -> Result<Attached> {
        Attached::open_as(connection, database, folder, true)
    }

    fn open_as(connection: &Connection, database: &Database, folder: &Path, by_stem: bool) -> Result<Attached> {
        let failed = |error: duckdb::Error| statement_error("list the attached databases", &error);
        let databases = || -> duckdb::Result<Vec<(String, String)>> {
            let sql = "SELECT database_name, current_database(), current_schema() FROM duckdb_databases()";
            let mut statement = connection.prepare(sql)?;
            let home = |database: String, schema: String| {
                format!("{}.{}", quote_identifier(&database), quote_identifier(&schema))
            };
            statement.query_map([], |row| Ok((row.get(0)?, home(row.get(1)?, row.get(2)?))))?.collect()
        };
        let databases = databases().map_err(failed)?;
        let home = databases.first().map(|(_, home)| home.clone()).unwrap_or_default();
        let folder = folder.to_path_buf();
        if let Database::Attachment(attachment) = database {
            attachment.attach(connection)?;
            return Ok(Attached { alias: attachment.alias.clone(), home, database: database.clone(), folder });
        }
        let file = database.file();
        let taken: Vec<String> = databases.into_iter().map(|(name, _)| name).collect();
        // The file's stem first, because that is the name people and views write in SQL (`warehouse.analytics.accounts`);
        // DuckDB's own names cannot be used.
        let stem = file.and_then(Path::file_stem).map(|stem| stem.to_string_lossy().into_owned()).filter(|_| by_stem);
        let reserved = ["main", "temp", "system", "memory", "pg_catalog", "information_schema"];
        let free = |name: &String| {
            !name.is_empty()
                && !taken.iter().any(|taken| taken.eq_ignore_ascii_case(name))
                && !reserved.iter().any(|reserved| reserved.eq_ignore_ascii_case(name))
        };
        let numbered = (1u32..).map(|n| if n == 1 { "source".to_owned() } else { format!("source_{n}") });
        for alias in stem.into_iter().chain(numbered).filter(free) {
            let quoted = quote_identifier(&alias);
            let statement = match file {
                // The type is said so that a path is never taken for another kind of database, which would ask for an
                // extension.
                Some(file) => {
                    let path = quote_literal(&file.to_string_lossy());
                    format!("ATTACH {path} AS {quoted} (READ_ONLY, TYPE duckdb)")
                }
                None => format!("ATTACH ':memory:' AS {quoted}"),
            };
            if let Err(error) = connection.execute_batch(&statement) {
                // Names belong to the whole process: another run took this one since the list was made.
                if error.to_string().contains("already exists") {
                    continue;
                }
                return Err(attach_error(&error, file.unwrap_or(Path::new(":memory:"))));
            }
            return Ok(Attached { alias, home, database: database.clone(), folder });
        }
        unreachable!("the numbered names never end")
    }

    /// The name it is attached under, unquoted.
    pub(super) fn alias(&self) -> &str {
        &self.alias
    }

    /// Whether it has tables of its own.
    pub(super) fn has_tables(&self) -> bool {
        !matches!(self.database, Database::Empty)
    }

    /// Whether an extension attached it.
    pub(super) fn is_attachment(&self) -> bool {
        matches!(self.database, Database::Attachment(_))
    }

    /// Runs `work` as if connected to this database alone: unqualified names mean its tables, relative paths start at
    /// the config folder. Afterwards the connection is as it was, whatever `work` returned.
    pub(super) fn inside<T>(&self, connection: &Connection, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let folder = quote_literal(&self.folder.to_string_lossy());
        // Where an extension attached it, the schema that names mean by default is the extension's to say.
        let schema = if self.is_attachment() { "" } else { ".main" };
        let enter = format!("USE {}{schema}; SET SESSION file_search_path = {folder}", quote_identifier(&self.alias));
        let leave = format!("USE {}; RESET SESSION file_search_path", self.home);
        let entered =
            connection.execute_batch(&enter).map_err(|error| statement_error("enter the attached database", &error));
        let outcome = entered.and_then(|()| work(connection));
        let left = connection
            .execute_batch(&leave)
            .map_err(|error| Error::new(Kind::Bug, "failed to leave the source's database").because(error));
        let value = outcome?;
        left.map(|()| value)
    }

    /// Every table and view, those of the schema `main` first.
    pub(super) fn relations(&self, connection: &Connection) -> Result<Vec<Relation>> {
        let alias = quote_literal(&self.alias);
        let sql = format!(
            "FROM (SELECT schema_name, table_name, true FROM duckdb_tables() WHERE database_name = {alias} AND NOT internal \
             UNION ALL SELECT schema_name, view_name, false FROM duckdb_views() WHERE database_name = {alias} AND NOT internal) \
             ORDER BY schema_name <> 'main', schema_name, table_name"
        );
        let read = || -> duckdb::Result<Vec<Relation>> {
            let mut statement = connection.prepare(&sql)?;
            let rows = statement
                .query_map([], |row| Ok(Relation { schema: row.get(0)?, name: row.get(1)?, is_table: row.get(2)? }))?;
            rows.collect()
        };
        read().map_err(|error| statement_error("list the tables", &error))
    }

    /// The table or view that one to three name parts mean.
    pub(super) fn find(&self, connection: &Connection, parts: &[String]) -> Result<Relation> {
        let written = parts.join(".");
        let relations = self.relations(connection)?;
        let is_catalog = |part: &str| {
            let stem = self.database.file().and_then(Path::file_stem).map(|stem| stem.to_string_lossy().into_owned());
            stem.is_some_and(|stem| stem.eq_ignore_ascii_case(part))
        };
        let named = |schema: &str, name: &str| {
            relations
                .iter()
                .find(|relation| {
                    relation.schema.eq_ignore_ascii_case(schema) && relation.name.eq_ignore_ascii_case(name)
                })
                .cloned()
        };
        let found = match parts {
            [name] => named("main", name),
            [first, name] => named(first, name).or_else(|| is_catalog(first).then(|| named("main", name)).flatten()),
            [catalog, schema, name] if is_catalog(catalog) => named(schema, name),
            _ => None,
        };
        found.ok_or_else(|| {
            let full = |relation: &Relation| match relation.schema.as_str() {
                "main" => relation.name.clone(),
                schema => format!("{schema}.{}", relation.name),
            };
            let names: Vec<String> = relations.iter().map(full).collect();
            let last = parts.last().map_or("", String::as_str);
            let elsewhere = relations.iter().find(|relation| relation.name.eq_ignore_ascii_case(last)).map(full);
            let near =
                elsewhere.or_else(|| did_you_mean(&written, names.iter().map(String::as_str)).map(str::to_owned));
            let advice = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None if names.is_empty() => "the file has no tables; check `path`".to_owned(),
                None => {
                    let some = names.iter().take(8).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                    format!("the file has {some}{}", if names.len() > 8 { " and more" } else { "" })
                }
            };
            Error::new(Kind::Source, format!("table `{written}` not found")).advise(advice).missing()
        })
    }

    /// Whether the database defines functions of its own, which only [`Attached::inside`] can see.
    pub(super) fn has_macros(&self, connection: &Connection) -> bool {
        let sql = "SELECT count(*) > 0 FROM duckdb_functions() WHERE database_name = ? AND NOT internal";
        // When in doubt, yes: then expressions are evaluated inside.
        connection.query_row(sql, params![self.alias], |row| row.get(0)).unwrap_or(true)
    }

    /// A relation's full name, quoted.
    pub(super) fn qualified(&self, relation: &Relation) -> String {
        [&self.alias, &relation.schema, &relation.name].map(|part| quote_identifier(part)).join(".")
    }
}

/// Releases the file. Nothing happens when it is not attached.
pub(super) fn detach(connection: &Connection, alias: &str) -> Result<()> {
    let statement = format!("DETACH DATABASE IF EXISTS {}", quote_identifier(alias));
    connection.execute_batch(&statement).map_err(|error| statement_error("detach the source's file", &error))
}

pub(super) fn texts(connection: &Connection, sql: &str) -> duckdb::Result<Vec<String>> {
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| row.get(0))?;
    rows.collect()
}

/// Whether a file is a SQLite database, by its first bytes.
fn is_sqlite(path: &Path) -> bool {
    const MAGIC: &[u8; 16] = b"SQLite format 3\0";
    let mut first = [0; MAGIC.len()];
    std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut first)).is_ok() && first == *MAGIC
}

/// A file that could not be attached.
fn attach_error(error: &duckdb::Error, path: &Path) -> Error {
    let text = error.to_string();
    let failed = if text.contains("Conflicting lock") || text.contains("Could not set lock") {
        Error::new(Kind::SourceBusy, "another process has this file open for writing")
            .advise("run again when the writer has closed it, or point `path` at a copy that nothing writes to")
    } else if text.contains("already attached") {
        Error::new(Kind::Config, "this file is Groupcast's own state, it cannot be a source as well")
            .advise("point `path` at the warehouse file, or move the state to another file with `state.path`")
    } else if text.contains("does not exist") || text.contains("No such file") {
        Error::new(Kind::Source, "the DuckDB file does not exist")
            .advise("check `path` in groupcast.toml; a relative path starts at the folder of that file")
            .missing()
    } else if let Some(newer) = crate::duckdb::format_is_newer(&text) {
        let maker = crate::duckdb::made_by(path).map_or_else(String::new, |maker| format!(" ({maker})"));
        match newer {
            true => {
                Error::new(Kind::Source, format!("the file was written by a newer DuckDB{maker} than Groupcast has"))
                    .advise(
                        "update Groupcast, or have that DuckDB write a file of an older format: \
                     `ATTACH 'older.duckdb' AS older (STORAGE_VERSION 'v2.0.0'); COPY FROM DATABASE … TO older`",
                    )
            }
            false => Error::new(Kind::Source, format!("the file was written by a very old DuckDB{maker}"))
                .advise("have that DuckDB `EXPORT DATABASE`, and a current one `IMPORT` it"),
        }
    } else if text.contains("ncrypt") {
        Error::new(Kind::Source, "the file is encrypted, which is not supported")
            .advise("point `path` at an unencrypted copy")
    } else if is_sqlite(path) {
        Error::new(Kind::Source, "this is a SQLite database").advise(
            "read it with `type = \"adbc\"`, `driver = \"sqlite\"` and its path as `uri`, or through DuckDB's extension \
             (docs/warehouses.md)",
        )
    } else if text.contains("not a valid DuckDB") || text.contains("orrupt") || text.contains("checksum") {
        Error::new(Kind::Source, "the file is not a readable DuckDB database")
            .advise("check `path`; CSV, JSON, Excel and Parquet files have a source of `type = \"files\"`, with their folder as `path`")
    } else if text.contains("ermission denied") {
        Error::new(Kind::Source, "the file cannot be read").advise("give this user read access to the file")
    } else if text.contains("directory") {
        Error::new(Kind::Source, "the path is a folder, not a DuckDB file")
            .advise("put the file's name into `path`, or leave `path` out to query files in the mapping's `sql`")
    } else {
        Error::new(Kind::Source, "failed to open the DuckDB file")
            .advise("check that `duckdb -readonly` can open this file")
    };
    failed.because(first_line(&text)).at(path.display().to_string())
}
