//! `[traits]`: a column, a table that describes a value, or a nested object of those.
//!
//! A table that has one of the reserved keys (`column`, `sql`, `const`, `as`, `op`, `on_null`, `always`) describes a value; any
//! other table is an object, whose members are described the same way. A table that could be either is refused.

use serde_json::{Map, Value};
use toml::de::DeValue;

use crate::mapping::diagnostic::{At, did_you_mean, listed};
use crate::mapping::reader::{Entry, Report, Section, integer, join, kind_of, name_problem, shown, sql_text};
use crate::model::cell::As;
use crate::model::{OnNull, Op, document};

pub(crate) const RESERVED: [&str; 7] = ["column", "sql", "const", "as", "op", "on_null", "always"];
/// What a member of an object may say; operator, null policy and repetition belong to the trait as a whole.
pub(crate) const MEMBER: [&str; 4] = ["column", "sql", "const", "as"];

/// Operators that vendors have and that a comparison with the warehouse's present state cannot express.
const OPS_ELSEWHERE: [&str; 2] = ["unset", "remove"];

/// One trait.
#[derive(Debug, Clone, PartialEq)]
pub struct Trait {
    /// Its name at the destination.
    pub name: String,
    /// Where its value comes from.
    pub value: Field,
    /// What a new value does.
    pub op: Op,
    /// What a null means; the policy's when absent.
    pub on_null: Option<OnNull>,
    /// Whether it is sent along with every change of its group, although it did not change.
    pub always: bool,
    /// Where the mapping file names it, for messages.
    pub at: At,
}

/// A value's origin.
#[derive(Debug, Clone, PartialEq)]
pub enum Field {
    /// A column or an SQL expression over columns.
    Column {
        /// The column as written, or the SQL expression.
        expr: Expr,
        /// The declared JSON type.
        declared: Option<As>,
    },
    /// The same value for every group.
    Const(Value),
    /// An object with named members, in name order.
    Object(Vec<(String, Field)>),
}

/// What is selected from the source.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Expr {
    /// A column by name.
    Column(String),
    /// SQL in the source's dialect.
    Sql(String),
}

/// The dotted path of a trait.
pub fn trait_path(name: &str) -> String {
    join("traits", name)
}

/// Reads the section; an empty result means mistakes were reported.
pub(crate) fn read(section: &Section<'_>, report: &mut Report<'_>) -> Vec<Trait> {
    let entries = section.entries();
    if entries.is_empty() {
        let missing = report.error(&section.at, "`[traits]` is empty");
        report.push_missing(
            &section.at.path,
            missing.help("map at least one: `name = \"account_name\"` (trait = column)"),
        );
    }
    entries.iter().filter_map(|entry| one(entry, report)).collect()
}

fn one(entry: &Entry<'_>, report: &mut Report<'_>) -> Option<Trait> {
    report.places.insert(entry.at.path.clone(), entry.at.span.clone());
    let named = check_name("trait", entry, report);
    let value = field(entry, true, report);
    let How { op, on_null, always } = match entry.value {
        DeValue::Table(table) if table.keys().any(|key| RESERVED.contains(&&**key.get_ref())) => {
            how(&Section { table, at: entry.at.clone() }, report)
        }
        _ => Some(How::default()),
    }?;
    named.then_some(())?;
    Some(Trait { name: entry.key.to_owned(), value: value?, op, on_null, always, at: entry.at.clone() })
}

fn check_name(what: &str, entry: &Entry<'_>, report: &mut Report<'_>) -> bool {
    let Some(problem) = name_problem(entry.key) else { return true };
    report.push(report.error(&entry.key_at, format!("the name of this {what} {problem}")));
    false
}

/// How a trait behaves.
#[derive(Default)]
struct How {
    op: Op,
    on_null: Option<OnNull>,
    always: bool,
}

/// How a trait behaves; `None` when something about it is wrong.
fn how(section: &Section<'_>, report: &mut Report<'_>) -> Option<How> {
    let op = section.get("op").map(|entry| match entry.value {
        DeValue::String(word) if OPS_ELSEWHERE.contains(&&**word) => {
            let message = format!("`op = \"{word}\"` is not supported");
            let help = "a trait is unset when its column is null (`on_null = \"unset\"`) or when it leaves the mapping \
                 (`on_removed_trait = \"unset\"`)";
            report.push(report.error(&entry.at, message).help(help));
            None
        }
        _ => entry.choice::<Op>(report),
    });
    let on_null = section.get("on_null").map(|entry| {
        let chosen = entry.choice::<OnNull>(report);
        if section.has("const") {
            let message = "`on_null` has no effect: a constant is never null";
            report.push(report.error(&entry.key_at, message).help("remove `on_null`"));
            return None;
        }
        chosen
    });
    let on_null = match on_null {
        None => None,
        Some(chosen) => Some(chosen?),
    };
    let op = op.unwrap_or(Some(Op::Set))?;
    let always = match section.get("always") {
        None => false,
        Some(entry) => entry.flag(report)?,
    };
    if let (true, Some(entry)) = (always && op != Op::Set, section.get("always")) {
        let why = match op.accumulates() {
            true => "a value that is sent again would be applied again",
            false => "the destination keeps its first value, so sending it again has no effect",
        };
        let message = format!("`always` together with `op = \"{}\"`: {why}", op.name());
        report.push(report.error(&entry.key_at, message).help("remove `always`, or use `op = \"set\"`"));
        return None;
    }
    Some(How { op, on_null, always })
}

fn field(entry: &Entry<'_>, top: bool, report: &mut Report<'_>) -> Option<Field> {
    match entry.value {
        DeValue::String(_) => {
            let column = column(entry, report)?;
            Some(Field::Column { expr: Expr::Column(column), declared: None })
        }
        DeValue::Table(table) => {
            let section = Section { table, at: entry.at.clone() };
            if table.keys().any(|key| RESERVED.contains(&&**key.get_ref())) {
                described(&section, top, report)
            } else {
                object(&section, entry, report)
            }
        }
        value => {
            let message =
                format!("`{}` must be a column's name (a string) or a table, not {}", shown(entry.key), kind_of(value));
            let help = "to send the same value for every group write `{ const = … }`";
            report.push(report.error(&entry.at, message).help(help));
            None
        }
    }
}

/// A column's name is taken as it is, odd or not; it is quoted wherever it is used.
fn column(entry: &Entry<'_>, report: &mut Report<'_>) -> Option<String> {
    let name = entry.text(report)?;
    if name.contains('\0') {
        report.push(report.error(&entry.at, "a column's name with a NUL character"));
        return None;
    }
    Some(name.to_owned())
}

/// A table with reserved keys.
fn described(section: &Section<'_>, top: bool, report: &mut Report<'_>) -> Option<Field> {
    let known: &[&str] = if top { &RESERVED } else { &MEMBER };
    let mut sound = true;
    for entry in section.entries() {
        if known.contains(&entry.key) {
            report.places.insert(entry.at.path.clone(), entry.at.span.clone());
            continue;
        }
        sound = false;
        if RESERVED.contains(&entry.key) {
            let message = format!("`{}` belongs to the whole trait, not to a member of an object", entry.key);
            report.push(report.error(&entry.key_at, message).help("remove it here"));
            continue;
        }
        let reserved = section.entries().into_iter().find(|other| RESERVED.contains(&other.key));
        let error = report.error(&entry.key_at, format!("unknown key `{}`", shown(entry.key)));
        let error = match (did_you_mean(entry.key, known.iter().copied()), reserved) {
            (Some(meant), _) => error.help(format!("did you mean `{meant}`?")),
            (None, Some(reserved)) => error.help(format!(
                "`{}` makes this table one value; an object's members cannot be called {}",
                reserved.key,
                listed(RESERVED)
            )),
            (None, None) => error,
        };
        report.push(error);
    }
    let value = value_of(section, top, report);
    value.filter(|_| sound)
}

fn value_of(section: &Section<'_>, top: bool, report: &mut Report<'_>) -> Option<Field> {
    let declared = section.get("as").map(|entry| entry.choice::<As>(report));
    if let Some(entry) = section.get("const") {
        let mut alone = true;
        for other in ["column", "sql", "as"].iter().filter_map(|key| section.get(key)) {
            alone = false;
            let message = format!("a constant together with `{}`", other.key);
            report.push(
                report.error(&other.key_at, message).help("keep one of them; a constant is sent as it is written"),
            );
        }
        return constant(entry.value, &entry, report).filter(|_| alone).map(Field::Const);
    }
    let column = section.get("column").map(|entry| column(&entry, report));
    let sql = section.get("sql").map(|entry| sql_text(&entry, report));
    let declared = match declared {
        None => None,
        Some(declared) => Some(declared?),
    };
    // `column` beside `sql` documents what the expression is made from.
    let expr = match (column, sql) {
        (Some(None), _) => return None,
        (_, Some(sql)) => Expr::Sql(sql?),
        (Some(column), None) => Expr::Column(column?),
        (None, None) => {
            let name = shown(section.at.path.rsplit('.').next().unwrap_or_default());
            let what = if top { format!("trait `{name}`") } else { format!("member `{name}`") };
            let missing = report.error(&section.at, format!("{what} has no source"));
            report.push_missing(&section.at.path, missing.help("set `column`, `sql` or `const`"));
            return None;
        }
    };
    Some(Field::Column { expr, declared })
}

fn object(section: &Section<'_>, owner: &Entry<'_>, report: &mut Report<'_>) -> Option<Field> {
    let entries = section.entries();
    if entries.is_empty() {
        let missing = report.error(&section.at, format!("`{}` is an object without members", shown(owner.key)));
        report.push_missing(
            &section.at.path,
            missing.help("write `{ column = \"…\" }`, or members: `{ city = \"billing_city\" }`"),
        );
        return None;
    }
    if let Some(described) = misnamed(&entries) {
        for (entry, meant) in described {
            let what = format!("unknown key `{}`", shown(entry.key));
            report.push(report.error(&entry.key_at, what).help(format!("did you mean `{meant}`?")));
        }
        return None;
    }
    let mut members = Vec::new();
    let mut sound = true;
    for entry in &entries {
        report.places.insert(entry.at.path.clone(), entry.at.span.clone());
        sound &= check_name("member", entry, report);
        // `{ colum = "x" }` would quietly send an object; who means it writes the member as a table.
        if let (DeValue::String(_), 1, Some(meant)) = (entry.value, entries.len(), did_you_mean(entry.key, RESERVED)) {
            let message = format!("unknown key `{}`", shown(entry.key));
            let help = format!("did you mean `{meant}`?");
            let otherwise =
                format!("if an object with this member is meant, write `{} = {{ column = … }}`", shown(entry.key));
            report.push(report.error(&entry.key_at, message).help(help).help(otherwise));
            sound = false;
            continue;
        }
        match field(entry, false, report) {
            Some(value) => members.push((entry.key.to_owned(), value)),
            None => sound = false,
        }
    }
    members.sort_by(|(a, _), (b, _)| a.cmp(b));
    sound.then_some(Field::Object(members))
}

/// What other tools call the reserved keys.
const ALIASES: [(&str, &str); 12] = [
    ("col", "column"),
    ("field", "column"),
    ("type", "as"),
    ("cast", "as"),
    ("expr", "sql"),
    ("expression", "sql"),
    ("query", "sql"),
    ("value", "const"),
    ("constant", "const"),
    ("operation", "op"),
    ("operator", "op"),
    ("null", "on_null"),
];

/// The keys of a table that describes a value in other tools' words, with ours. An object may have members of these names,
/// so `col` must be among them, or a type's word that is hardly a column's name.
fn misnamed<'e, 'd>(entries: &'e [Entry<'d>]) -> Option<Vec<(&'e Entry<'d>, &'static str)>> {
    let alias = |entry: &Entry<'_>| ALIASES.iter().find(|(name, _)| *name == entry.key).map(|(_, meant)| *meant);
    let is_type = |text: &str| As::ALL.iter().any(|of| of.name() == text);
    let is_telling = |entry: &Entry<'_>| match entry.value {
        DeValue::String(text) => entry.key == "col" || (alias(entry) == Some("as") && is_type(text)),
        _ => false,
    };
    let all: Option<Vec<_>> = entries.iter().map(|entry| Some((entry, alias(entry)?))).collect();
    all.filter(|_| entries.iter().any(is_telling))
}

/// A TOML value as canonical JSON; dates and times are their text.
fn constant(value: &DeValue<'_>, entry: &Entry<'_>, report: &mut Report<'_>) -> Option<Value> {
    Some(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Datetime(moment) => Value::String(moment.to_string()),
        DeValue::Integer(_) => match integer(value) {
            Some(number) => Value::Number(number.into()),
            None => {
                let message = "a whole number of more than 64 bits";
                report.push(report.error(&entry.at, message).help("send it as text: put it in quotes"));
                return None;
            }
        },
        DeValue::Float(number) => match document::number_value(number.as_str()) {
            Ok(number) => number,
            Err(_) => {
                let message = format!("JSON has no number `{}`", shown(number.as_str()));
                report.push(report.error(&entry.at, message).help("send it as text: put it in quotes"));
                return None;
            }
        },
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| constant(item.get_ref(), entry, report)).collect::<Option<_>>()?)
        }
        DeValue::Table(table) => {
            let members: Option<Map<String, Value>> = table
                .iter()
                .map(|(name, value)| Some((name.get_ref().to_string(), constant(value.get_ref(), entry, report)?)))
                .collect();
            Value::Object(members?)
        }
    })
}
