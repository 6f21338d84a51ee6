//! The relation that a model means: its columns, their types, and where its rows can be read.

use duckdb::Connection;

use super::attached::{Attached, Relation};
use super::dialect::DIALECT;
use super::lexer;
use super::textfile::View;
use super::type_text::DuckType;
use crate::duckdb::{quote_identifier, quote_literal};
use crate::error::{Error, Kind, Result};
use crate::mapping::compile::{Projection, where_clause};
use crate::mapping::diagnostic::did_you_mean;
use crate::mapping::dialect::Dialect as _;
use crate::mapping::{Expr, From};
use crate::model::ColumnType;
use crate::source::statement_error::statement_error;

/// A model's relation, found and ready to follow FROM.
pub(super) struct Resolved {
    pub(super) sql: String,
    /// The base table behind it, if it is one.
    table: Option<Relation>,
    alias: String,
    is_view: bool,
    /// The rows of a text file.
    text: Option<View>,
}

/// The declared types of a projection.
pub(super) struct Types {
    pub(super) columns: Vec<String>,
    /// Every column of the model with its type.
    model: Vec<(String, String)>,
}

impl Types {
    /// Whether the model has a column of this name.
    pub(super) fn has_column(&self, name: &str) -> bool {
        self.model.iter().any(|(column, _)| column.eq_ignore_ascii_case(name))
    }

    pub(super) fn cursor(&self, name: &str) -> DuckType {
        let found = self.model.iter().find(|(column, _)| column.eq_ignore_ascii_case(name));
        found.map_or(DuckType::Other, |(_, declared)| DuckType::parse(declared))
    }
}

impl Resolved {
    pub(super) fn new(connection: &Connection, attached: &Attached, from: &From) -> Result<Resolved> {
        let alias = attached.alias().to_owned();
        let mut is_view = false;
        let (sql, table) = match from {
            From::Query(sql) => (format!("(\n{}\n) AS model", lexer::without_semicolon(sql)), None),
            From::Table(parts) if attached.is_attachment() => {
                let quoted: Vec<String> = parts.iter().map(|part| quote_identifier(part)).collect();
                (format!("{} AS model", quoted.join(".")), None)
            }
            From::Table(parts) if !attached.has_tables() => {
                // `table = "accounts.parquet"` has two name parts as written.
                let path = parts.join(".");
                if !path.contains('.') {
                    return Err(Error::new(
                        Kind::Config,
                        format!("this source has no file, so it has no table `{path}`"),
                    )
                    .advise("give the source a `path`, or name a file: `table = \"accounts.parquet\"`"));
                }
                (format!("{} AS model", quote_literal(&path)), None)
            }
            From::Table(parts) => {
                let relation = attached.find(connection, parts)?;
                is_view = !relation.is_table;
                (attached.qualified(&relation), relation.is_table.then_some(relation))
            }
        };
        Ok(Resolved { sql, table, alias, is_view, text: None })
    }

    /// The rows of a text file.
    pub(super) fn of_text(view: View) -> Resolved {
        Resolved { sql: view.sql(), table: None, alias: String::new(), is_view: false, text: Some(view) }
    }

    /// What a column's values mean, where they are read as they are written.
    pub(super) fn written(&self, name: &str) -> Option<ColumnType> {
        self.text.as_ref().and_then(|view| view.kind(name))
    }

    /// What an expression's values mean, likewise.
    pub(super) fn kind(&self, expr: &Expr) -> Option<ColumnType> {
        match expr {
            Expr::Column(name) => self.written(name),
            Expr::Sql(_) => None,
        }
    }

    /// SQL for an expression: a column of a text file as it is written, anything else by its type.
    pub(super) fn select(&self, expr: &Expr) -> String {
        match (expr, &self.text) {
            (Expr::Column(name), Some(view)) => view.written(name).unwrap_or_else(|| DIALECT.expression(expr)),
            _ => DIALECT.expression(expr),
        }
    }

    /// SQL for the key.
    pub(super) fn key(&self, projection: &Projection) -> String {
        match &self.text {
            Some(_) => "k".to_owned(),
            None => quote_identifier(&projection.key),
        }
    }

    /// The conditions on the rows.
    fn conditions(&self, projection: &Projection) -> Vec<String> {
        projection.conditions(DIALECT, &self.key(projection))
    }

    /// The WHERE clause, or nothing.
    pub(super) fn condition(&self, projection: &Projection) -> String {
        where_clause(&self.conditions(projection))
    }

    /// The number of a row in its table. A column of that name would be none.
    pub(super) fn row_number(&self, types: &Types) -> Option<&'static str> {
        match &self.text {
            Some(_) => Some(super::textfile::ROW),
            None => (!types.has_column("rowid")).then_some("rowid"),
        }
    }

    /// Every column with its declared type.
    pub(super) fn columns(&self, connection: &Connection) -> Result<Vec<(String, String)>> {
        if let Some(view) = &self.text {
            return Ok(view.columns());
        }
        let select = format!("SELECT * FROM {}", self.sql);
        // DuckDB describes a view by the columns it had when it was made; whether it still can be read is another question.
        let bound = match self.is_view {
            true => connection.prepare(&format!("{select} LIMIT 0")).and_then(|mut all| all.query([]).map(|_| ())),
            false => Ok(()),
        };
        bound.and_then(|()| described(connection, &select)).map_err(|error| statement_error("read the model", &error))
    }

    /// A column that a projection names and a query yields twice. DuckDB renames the second one (`plan_1`) where others
    /// refuse, so the mapping would get the first of the two, whichever was meant.
    fn named_twice(&self, connection: &Connection, projection: &Projection) -> Result<()> {
        let From::Query(query) = &projection.from else { return Ok(()) };
        // Where the query is wrong, whoever reads it says so.
        let own = described(connection, lexer::without_semicolon(query)).unwrap_or_default();
        let twice = own
            .iter()
            .enumerate()
            .filter(|(at, (name, _))| own[..*at].iter().any(|(other, _)| other.eq_ignore_ascii_case(name)));
        for (_, (name, _)) in twice {
            let plain =
                [&projection.key].into_iter().chain(&projection.cursor).any(|used| used.eq_ignore_ascii_case(name));
            let mut within = projection.columns.iter().map(|expr| match expr {
                Expr::Column(used) => used.eq_ignore_ascii_case(name),
                Expr::Sql(sql) => lexer::names(sql, name),
            });
            if plain || within.any(|used| used) || projection.filters.iter().any(|sql| lexer::names(sql, name)) {
                return Err(Error::new(Kind::Source, format!("the model's SQL has two columns `{name}`")).advise(format!(
                    "select one of them, or give one another name (`AS other`): it is not certain which `{name}` is meant"
                )));
            }
        }
        Ok(())
    }

    /// The types of a projection. Fails naming the column, expression or condition that is wrong.
    pub(super) fn types(&self, connection: &Connection, projection: &Projection) -> Result<Types> {
        let model = self.columns(connection)?;
        self.named_twice(connection, projection)?;
        let columns = projection.columns.iter().filter_map(|expr| match expr {
            Expr::Column(name) => Some(name),
            Expr::Sql(_) => None,
        });
        // DuckDB would take a missing column of the table's own name for the whole row.
        for name in [&projection.key].into_iter().chain(columns).chain(&projection.cursor) {
            if !model.iter().any(|(column, _)| column.eq_ignore_ascii_case(name)) {
                let near = did_you_mean(name, model.iter().map(|(column, _)| column.as_str()));
                let advice =
                    near.map_or("name a column the model has".to_owned(), |near| format!("did you mean `{near}`?"));
                return Err(Error::new(Kind::Source, format!("the model has no column `{name}`"))
                    .advise(advice)
                    .missing());
            }
        }
        let key = self.key(projection);
        let select: Vec<String> =
            projection.columns.iter().enumerate().map(|(n, expr)| format!(", {} AS c{n}", self.select(expr))).collect();
        let condition = self.condition(projection);
        let all = format!("SELECT {key} AS \"key\"{} FROM {}{condition}", select.concat(), self.sql);
        match described(connection, &all) {
            Ok(columns) => {
                let columns: Vec<String> = columns.into_iter().skip(1).map(|(_, declared)| declared).collect();
                for (expr, declared) in projection.columns.iter().zip(&columns) {
                    if DuckType::parse(declared) == DuckType::TooDeep {
                        let (Expr::Column(text) | Expr::Sql(text)) = expr;
                        let what =
                            format!("`{}` nests too deep: lists and maps at most five, structs 64 deep", text.trim());
                        return Err(Error::new(Kind::Source, what)
                            .advise(format!("send it as JSON text: `sql = \"to_json({})\"`", text.trim())));
                    }
                }
                Ok(Types { columns, model })
            }
            Err(error) => {
                for condition in self.conditions(projection) {
                    self.check_condition(connection, &condition)?;
                }
                for expr in &projection.columns {
                    let alone = format!("SELECT {} FROM {}", self.select(expr), self.sql);
                    let (Expr::Column(text) | Expr::Sql(text)) = expr;
                    described(connection, &alone)
                        .map_err(|error| statement_error(format!("compile `{}`", text.trim()), &error))?;
                }
                Err(statement_error("read the model", &error))
            }
        }
    }

    pub(super) fn check_condition(&self, connection: &Connection, condition: &str) -> Result<()> {
        described(connection, &format!("SELECT 1 FROM {} WHERE ({condition}\n)", self.sql))
            .map(|_| ())
            .map_err(|error| statement_error(format!("compile the condition `{}`", condition.trim()), &error))
    }

    /// The columns a base table declares NOT NULL; none for anything else.
    pub(super) fn not_null(&self, connection: &Connection) -> Vec<String> {
        let Some(table) = &self.table else { return Vec::new() };
        let read = || -> duckdb::Result<Vec<String>> {
            let mut statement = connection.prepare(
                "SELECT column_name FROM duckdb_columns() \
                 WHERE database_name = ? AND schema_name = ? AND table_name = ? AND NOT is_nullable",
            )?;
            let rows = statement.query_map([&self.alias, &table.schema, &table.name], |row| row.get(0))?;
            rows.collect()
        };
        // Informational, so a failure is no reason to fail.
        read().unwrap_or_default()
    }

    /// Whether equal files yield equal rows whenever they are read: a table or a file as it is, and no expression that
    /// answers otherwise another time.
    pub(super) fn depends_on_files_alone(
        &self,
        connection: &Connection,
        attached: &Attached,
        projection: &Projection,
    ) -> bool {
        let is_file = matches!(projection.from, From::Table(_)) && !attached.has_tables();
        let written = written(projection);
        (self.table.is_some() || is_file)
            && projection.limit.is_none()
            && (written.is_empty()
                || !written.iter().any(|sql| lexer::reaches_beyond_its_row(sql)) && !attached.has_macros(connection))
    }

    /// Whether the comparison may scan the table itself: a base table, and expressions that mean the same outside the
    /// attached database and every time they are evaluated.
    pub(super) fn can_be_read_in_place(
        &self,
        connection: &Connection,
        attached: &Attached,
        projection: &Projection,
    ) -> bool {
        let written = written(projection);
        (self.table.is_some() || self.text.is_some())
            && projection.limit.is_none()
            && (written.is_empty()
                || !written.iter().any(|sql| lexer::reaches_beyond_its_row(sql))
                    && !attached.has_macros(connection)
                    // Types the file defines, say: the same statement must bind from outside.
                    && self.types(connection, projection).is_ok())
    }
}

/// The SQL that the mapping writes: expressions and conditions.
fn written(projection: &Projection) -> Vec<&String> {
    let expressions = projection.columns.iter().filter_map(|expr| match expr {
        Expr::Sql(sql) => Some(sql),
        Expr::Column(_) => None,
    });
    expressions.chain(&projection.filters).collect()
}

/// The columns of a statement and their types, without running it.
fn described(connection: &Connection, select: &str) -> duckdb::Result<Vec<(String, String)>> {
    let mut statement = connection.prepare(&format!("DESCRIBE {select}"))?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}
