//! Checks a mapping against the columns of its source. The caller describes the columns.

use std::collections::{BTreeMap, BTreeSet};

use crate::mapping::diagnostic::{At, Diagnostic, did_you_mean, listed, listed_all};
use crate::mapping::dialect::Dialect;
use crate::mapping::file::MappingFile;
use crate::mapping::reader::{join, shown};
use crate::mapping::sections::model::From;
use crate::mapping::sections::traits::{Expr, Field, trait_path};
use crate::mapping::sections::user::{User, UserFrom};
use crate::mapping::sql::{self, Quoting};
use crate::model::ColumnType;
use crate::model::cell::As;

/// A column, or an SQL expression, as the source describes it.
#[derive(Debug, Clone, Copy)]
pub struct Described<'a> {
    /// The column's name; ignored for expressions.
    pub name: &'a str,
    /// What its values mean.
    pub kind: &'a ColumnType,
    /// The source's own name of the type.
    pub declared: &'a str,
    /// Where the source's user may not read it: the statement that lets it.
    pub denied: Option<&'a str>,
}

/// Checks key, cursor and every plain column against the columns the model yields.
pub fn check_columns(file: &MappingFile, columns: &[Described<'_>], dialect: &dyn Dialect) -> Vec<Diagnostic> {
    let mapping = &file.mapping;
    let columns = &Columns::new(file, columns);
    let mut found = Vec::new();
    match columns.resolve(&file.at("group.key"), &mapping.key) {
        Err(missing) => found.push(missing),
        Ok(key) if !key.kind.can_be_key() => {
            let what = format!("column `{}` is {}, which cannot be a group's key", shown(key.name), key.declared);
            found.push(
                Diagnostic::error(&mapping.file, &file.at("group.key"), what)
                    .help("a key is text, a whole number, a decimal or a UUID: cast it to text in the model's `sql`"),
            );
        }
        Ok(_) => {}
    }
    if let Some(incremental) = &mapping.incremental {
        let at = file.at("incremental.cursor");
        match columns.resolve(&at, &incremental.cursor) {
            Err(missing) => found.push(missing),
            Ok(cursor) if !cursor.kind.can_be_cursor() => {
                let what = format!("column `{}` is {}, which cannot be a cursor", shown(cursor.name), cursor.declared);
                found.push(
                    Diagnostic::error(&mapping.file, &at, what)
                        .help("a cursor is a timestamp, a date or a whole number that grows when a row changes"),
                );
            }
            Ok(_) => {}
        }
    }
    if let Some(User { from: UserFrom::Expr(Expr::Column(name)), .. }) = &mapping.user {
        found.extend(columns.resolve(&file.at("user"), name).err());
    }
    let mut reported = BTreeSet::new();
    each_value(file, &mut |path, expr, declared| {
        let Expr::Column(name) = expr else { return };
        match columns.resolve(&column_place(file, path), name) {
            // One cause is reported once, where it is first met.
            Err(missing) => found.extend(reported.insert(name.clone()).then_some(missing)),
            Ok(column) => {
                let subject = format!("column `{}`", shown(name));
                found.extend(check_type(file, path, &subject, column, declared, dialect));
            }
        }
    });
    found
}

/// Checks the types of SQL expressions. `expressions` and `described` are the projection's columns and what the source
/// says of them, in the same order.
pub fn check_expressions(
    file: &MappingFile,
    expressions: &[Expr],
    described: &[Described<'_>],
    dialect: &dyn Dialect,
) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    each_value(file, &mut |path, expr, declared| {
        let Expr::Sql(_) = expr else { return };
        let position = expressions.iter().position(|other| other == expr);
        if let Some(column) = position.and_then(|position| described.get(position)) {
            found.extend(check_type(file, path, "this expression", column, declared, dialect));
        }
    });
    found
}

/// The values whose types leave open whether they can become what is declared: path, expression, declared type. `kind_of`
/// says what the source says of an expression.
pub fn doubtful(file: &MappingFile, kind_of: &dyn Fn(&Expr) -> Option<ColumnType>) -> Vec<(String, Expr, As)> {
    let mut found = Vec::new();
    each_value(file, &mut |path, expr, declared| {
        let open = match (kind_of(expr), declared) {
            (Some(ColumnType::Text | ColumnType::Written(_) | ColumnType::CommaText), Some(declared)) => {
                declared != As::String
            }
            (Some(ColumnType::Json), Some(declared)) => !matches!(declared, As::String | As::Json),
            _ => false,
        };
        if let (true, Some(declared)) = (open, declared) {
            found.push((path.to_owned(), expr.clone(), declared));
        }
    });
    found
}

/// Where a column is first used: by the key or a trait, or only by a trait that declares no type.
pub fn first_use(file: &MappingFile, name: &str, untyped: bool) -> Option<At> {
    if !untyped && file.mapping.key == name {
        return Some(file.at("group.key"));
    }
    let mut found = None;
    each_value(file, &mut |path, expr, declared| {
        let is_used = matches!(expr, Expr::Column(column) if column == name) && (!untyped || declared.is_none());
        if is_used && found.is_none() {
            found = Some(column_place(file, path));
        }
    });
    found
}

/// Where a mapping first uses an SQL expression.
pub fn first_use_of_sql(file: &MappingFile, expr: &Expr) -> At {
    let mut found = None;
    each_value(file, &mut |path, other, _| {
        if other == expr && found.is_none() {
            found = Some(At { path: path.to_owned(), ..file.at(&format!("{path}.sql")) });
        }
    });
    found.unwrap_or_else(|| file.at("user"))
}

/// Checks that each SQL text of a mapping is one piece by the rules of its source.
pub fn check_sql(file: &MappingFile, quoting: Quoting) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut check = |at: At, text: &str| {
        if let Err(problem) = sql::single_by(text, quoting) {
            let help = "close it; the source's own rules decide whether a backslash stands before a mark or is itself";
            found.push(Diagnostic::error(&file.mapping.file, &at, format!("here is {problem}")).help(help));
        }
    };
    let model = &file.mapping.model;
    if let From::Query(query) = &model.from {
        check(at_model(file, false), query);
    }
    if let Some(filter) = &model.filter {
        check(at_model(file, true), filter);
    }
    each_value(file, &mut |path, expr, _| {
        if let Expr::Sql(text) = expr {
            check(At { path: path.to_owned(), ..file.at(&format!("{path}.sql")) }, text);
        }
    });
    found
}

/// Where a model's rows come from, or its condition, is written.
pub fn at_model(file: &MappingFile, condition: bool) -> At {
    let keys: &[&str] = if condition { &["where"] } else { &["table", "sql", "file"] };
    let written = keys.iter().map(|key| format!("model.{key}")).find(|path| file.places.contains_key(path));
    file.at(written.as_deref().unwrap_or("model"))
}

/// Calls `visit` with the dotted path, expression and declared type of every value that is read from the source.
fn each_value(file: &MappingFile, visit: &mut dyn FnMut(&str, &Expr, Option<As>)) {
    fn walk(field: &Field, path: &str, visit: &mut dyn FnMut(&str, &Expr, Option<As>)) {
        match field {
            Field::Column { expr, declared } => visit(path, expr, *declared),
            Field::Const(_) => {}
            Field::Object(members) => members.iter().for_each(|(name, member)| walk(member, &join(path, name), visit)),
        }
    }
    for mapped in &file.mapping.traits {
        walk(&mapped.value, &trait_path(&mapped.name), visit);
    }
}

/// Where a value names its column.
fn column_place(file: &MappingFile, path: &str) -> At {
    At { path: path.to_owned(), ..file.at(&format!("{path}.column")) }
}

/// Most missing columns for which a similar name is searched, which compares with every other: more are not drawn.
const SUGGESTIONS_MAX: usize = 100;

/// The columns of a model, by name.
struct Columns<'a> {
    file: &'a MappingFile,
    all: &'a [Described<'a>],
    by_name: BTreeMap<&'a str, &'a Described<'a>>,
    suggestions: std::cell::Cell<usize>,
}

impl<'a> Columns<'a> {
    fn new(file: &'a MappingFile, all: &'a [Described<'a>]) -> Columns<'a> {
        // Of two columns with one name the first counts.
        let by_name = all.iter().rev().map(|column| (column.name, column)).collect();
        Columns { file, all, by_name, suggestions: std::cell::Cell::new(0) }
    }

    /// The column of this name, or what is wrong with it.
    fn resolve(&self, at: &At, name: &str) -> Result<&'a Described<'a>, Diagnostic> {
        let error = |what: String| Diagnostic::error(&self.file.mapping.file, at, what);
        if let Some(column) = self.by_name.get(name) {
            return match column.denied {
                None => Ok(column),
                Some(grant) => {
                    let what = format!("the source's user may not read column `{}`", shown(name));
                    Err(error(what).help(format!("grant it: `{grant}`")))
                }
            };
        }
        let names = || self.all.iter().map(|column| column.name);
        self.suggestions.set(self.suggestions.get() + 1);
        let meant = if self.suggestions.get() > SUGGESTIONS_MAX { None } else { did_you_mean(name, names()) };
        let missing = error(format!("the model has no column `{}`", shown(name))).missing();
        Err(match meant {
            Some(meant) if meant.to_lowercase() == name.to_lowercase() => missing.help(format!(
                "there is `{meant}`: write it exactly so, capitals matter (PostgreSQL folds unquoted names to lower case)"
            )),
            Some(meant) => missing.help(format!("did you mean `{meant}`?")),
            None if self.all.is_empty() => missing.help("the model yields no columns at all"),
            None => missing.help(format!("it has {}", listed_all(names()))),
        })
    }
}

/// How a column is written in SQL; of an expression only that it stands there.
fn as_sql(subject: &str, name: &str, dialect: &dyn Dialect) -> String {
    if !subject.starts_with("column") {
        return "(…)".to_owned();
    }
    let bare = name.starts_with(|letter: char| letter.is_ascii_lowercase() || letter == '_')
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if bare { name.to_owned() } else { dialect.identifier(name) }
}

fn check_type(
    file: &MappingFile,
    path: &str,
    subject: &str,
    column: &Described<'_>,
    declared: Option<As>,
    dialect: &dyn Dialect,
) -> Option<Diagnostic> {
    let name = &file.mapping.file;
    let fits = |wanted| dialect.can_become(column.kind, column.declared, wanted);
    match declared {
        None if *column.kind == ColumnType::Other && !dialect.text_is_plain(column.declared) => {
            let what = format!(
                "{subject} is {}, which is sent as the server's own text of it (`$1,234.50`, `(a,b)`, `[1,5)`)",
                column.declared
            );
            let found = Diagnostic::warning(name, &file.at(path), what);
            let better = [As::Number, As::Json].into_iter().find_map(|wanted| {
                let sql = dialect.conversion(column.declared, &as_sql(subject, column.name, dialect), wanted)?;
                Some(format!("`{sql}` in SQL gives {}", if wanted == As::Number { "a number" } else { "JSON" }))
            });
            Some(found.maybe_help(better).help("write `as = \"string\"` where the text is meant"))
        }
        None if column.kind.default_as().is_some() => None,
        None => {
            let what = format!("{subject} is {}", column.declared);
            let described = ["column", "sql"].iter().any(|key| file.places.contains_key(&format!("{path}.{key}")));
            let at = At { path: path.to_owned(), ..file.at(path) };
            let found = Diagnostic::error(name, &at, format!("{what}: add `as = \"number\"` or `as = \"string\"`"));
            let written = format!("write `{{ column = {:?}, as = \"number\" }}`", column.name);
            Some(found.maybe_help((!described).then_some(written)))
        }
        Some(wanted) if fits(wanted) => None,
        Some(wanted) => {
            let what = format!("{subject} is {}, which cannot become `{}`", column.declared, wanted.name());
            let possible = As::ALL.iter().filter(|other| fits(**other)).map(|other| other.name());
            let at = At { path: path.to_owned(), ..file.at(&format!("{path}.as")) };
            let found = Diagnostic::error(name, &at, what).help(format!("it can become {}", listed(possible)));
            let sql = dialect.conversion(column.declared, &as_sql(subject, column.name, dialect), wanted);
            Some(found.maybe_help(sql.map(|sql| format!("or write `sql = …` with `{sql}`"))))
        }
    }
}
