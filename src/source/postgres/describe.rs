//! Describing models: the columns and types of a query, and what the server refuses about them.

use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::types::Type;

use super::dialect::DIALECT;
use super::error::{fragments, shortened};
use super::{Postgres, rows, types, value};
use crate::error::{Error, Kind, Result};
use crate::mapping::compile::Projection;
use crate::mapping::diagnostic::{did_you_mean, listed_all};
use crate::mapping::dialect::Dialect as _;
use crate::mapping::{Expr, From};
use crate::source::Column;

/// A statement that the server refused.
struct Refused {
    error: tokio_postgres::Error,
    statement: String,
}

/// A column as the server sees it.
struct Described {
    name: String,
    of: Type,
    /// The type's modifier, as in `numeric(14,2)`; -1 means no modifier.
    modifier: i32,
    /// The table and the column's number in it, where it is a table's.
    origin: Option<(u32, i16)>,
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
    pub(super) async fn shape(&mut self, projection: &Projection) -> Result<(String, Vec<Type>)> {
        let mut selected = vec![format!("{} AS key", DIALECT.identifier(&projection.key))];
        selected.extend(
            projection.columns.iter().enumerate().map(|(at, expr)| format!("{} AS c{at}", DIALECT.expression(expr))),
        );
        selected
            .extend(projection.cursor.iter().map(|cursor| format!("{} AS cursor_value", DIALECT.identifier(cursor))));
        // A limit of its own would clash with that of the probe, and has no part in the types.
        let sql = Projection { limit: None, ..projection.clone() }.select(DIALECT, &selected);
        match self.probe(&sql, selected.len()).await? {
            Ok(types) => Ok((sql, types)),
            Err(refused) => Err(self.diagnose(projection, refused).await?),
        }
    }

    /// Finds what made a projection fail, by having the server parse its parts alone.
    async fn diagnose(&mut self, projection: &Projection, refused: Refused) -> Result<Error> {
        let target = self.target.clone();
        let fragments = fragments(projection);
        let failure =
            |what: &str, refused: &Refused| target.query_error(what, &refused.error, &refused.statement, &fragments);
        if refused.error.as_db_error().is_none() {
            return Ok(failure("failed to read the model", &refused));
        }
        let from = projection.relation(DIALECT);
        let known: Vec<String> = match self.names(&format!("SELECT * FROM {from}")).await? {
            Ok(names) => names,
            Err(closed) if is_denied(&closed.error) => match self.granted(&projection.from).await? {
                Some(columns) => {
                    columns.into_iter().filter(|column| column.denied.is_none()).map(|column| column.name).collect()
                }
                None => return Ok(failure("failed to read the model", &closed)),
            },
            Err(refused) => return Ok(failure("failed to read the model", &refused)),
        };
        for condition in conditions(projection) {
            let sql = format!("SELECT 1 FROM {from} WHERE ({condition}\n)");
            if let Err(refused) = self.probe(&sql, 1).await? {
                return Ok(
                    failure("failed to filter the model", &refused).maybe_advise(self.readable(&refused, &known))
                );
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
                Expr::Column(name) => failure(&format!("failed to read column `{name}`"), &refused),
                Expr::Sql(sql) => failure(&format!("failed to read `{}`", shortened(sql)), &refused)
                    .maybe_advise(self.readable(&refused, &known)),
            });
        }
        Ok(failure("failed to read the model", &refused))
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
    pub(super) async fn hidden_rows(&mut self, model: &Projection) -> Result<Option<String>> {
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

    pub(super) async fn describe_model(&mut self, model: &Projection) -> Result<Vec<Column>> {
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

    pub(super) async fn describe_columns(&mut self, projection: &Projection) -> Result<Vec<Column>> {
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
