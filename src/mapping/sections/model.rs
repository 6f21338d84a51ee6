//! `[model]`: where the account rows come from, and which of them.

use std::path::PathBuf;

use crate::mapping::reader::{Entry, Report, Section, join, shown, sql_text};
use crate::mapping::sql;
use crate::model::setting::SettingType;

/// The keys of the section.
pub(crate) const KEYS: [&str; 6] = ["table", "sql", "file", "dbt", "where", "compare"];

/// The rows of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// Where they come from.
    pub from: From,
    /// A SQL condition in the source's dialect that rows must satisfy.
    pub filter: Option<String>,
}

/// Where rows are compared with the synced state.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    strum::IntoStaticStr,
    strum::VariantArray,
    strum::VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Compare {
    /// Here, after all of them were read.
    #[default]
    Local,
    /// In the warehouse, which hands over those that differ.
    Warehouse,
}

impl Compare {
    /// The setting's type.
    pub const SETTING: SettingType = SettingType::OneOf(<Compare as strum::VariantNames>::VARIANTS);
}

/// A model of dbt's: its table, and how to find out how its last build went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DbtModel {
    /// dbt's `unique_id`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// As dbt's files refer to it: `ref('dim_accounts')`.
    pub reference: String,
    /// Its table's name in parts.
    pub table: Vec<String>,
    /// The `unique_id`s of its tests.
    pub tests: Vec<String>,
    /// The file with the results of dbt's last command.
    pub results: PathBuf,
}

/// What a model's section is looked up in. The errors are fragments.
pub struct Lookup<'a> {
    /// The text of an SQL file.
    pub sql_file: &'a dyn Fn(&str) -> Result<String, String>,
    /// A model of dbt's.
    pub dbt: &'a dyn Fn(&str) -> Result<DbtModel, String>,
}

/// A table or a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// A table or view, one to three name parts as written (`analytics.dim_accounts`).
    Table(Vec<String>),
    /// A query in the source's dialect, without a trailing semicolon.
    Query(String),
}

/// Where the rows are compared, if the section says.
pub(crate) fn compare(section: &Section<'_>, report: &mut Report<'_>) -> Option<Compare> {
    section.choice("compare", report)
}

/// Reads the section: the model, and what dbt knows of it where it is one of dbt's.
pub(crate) fn read(
    section: &Section<'_>,
    lookup: &Lookup<'_>,
    report: &mut Report<'_>,
) -> Option<(Model, Option<DbtModel>)> {
    section.expect_keys(&KEYS, report);
    let filter = section.get("where").map(|entry| {
        let condition = sql_text(&entry, report)?;
        if condition.get(..6).is_some_and(|word| word.eq_ignore_ascii_case("where ")) {
            let message = "`where` repeats the word WHERE";
            report.push(report.error(&entry.at, message).help("write the condition alone: `where = \"is_customer\"`"));
            return None;
        }
        Some(condition)
    });
    let ways: Vec<Entry<'_>> =
        section.entries().into_iter().filter(|entry| ["table", "sql", "file", "dbt"].contains(&entry.key)).collect();
    let from = match ways.as_slice() {
        [] => {
            let missing = report.error(&section.at, "the model has no `table`, `sql`, `file` or `dbt`");
            let path = ["table", "sql", "file", "dbt"]
                .map(|key| join("model", key))
                .into_iter()
                .find(|path| report.was_meant(path));
            let path = path.unwrap_or_default();
            report.push_missing(
                &path,
                missing.help("write `table = \"schema.table\"`, or `sql` with a query, or `file` with a path, or `dbt` with a model's name"),
            );
            None
        }
        [one] => from(one, lookup, report),
        [first, rest @ ..] => {
            for second in rest {
                let message = format!("the model has both `{}` and `{}`", first.key, second.key);
                report.push(report.error(&second.key_at, message).help("keep one of them"));
            }
            None
        }
    };
    // A filter that was written and refused must not turn into "no filter".
    let filter = match filter {
        None => None,
        Some(condition) => Some(condition?),
    };
    let (from, dbt) = from?;
    Some((Model { from, filter }, dbt))
}

fn from(entry: &Entry<'_>, lookup: &Lookup<'_>, report: &mut Report<'_>) -> Option<(From, Option<DbtModel>)> {
    let from = match entry.key {
        "table" => {
            let text = entry.text(report)?;
            entry.noted(table_name(text), report).map(From::Table)
        }
        "sql" => sql_text(entry, report).map(From::Query),
        "dbt" => {
            let text = entry.text(report)?;
            let model = entry.noted((lookup.dbt)(text), report)?;
            return Some((From::Table(model.table.clone()), Some(model)));
        }
        _ => {
            let path = entry.text(report)?;
            let text = match (lookup.sql_file)(path) {
                Ok(text) => text,
                Err(problem) => {
                    report.push(report.error(&entry.at, problem));
                    return None;
                }
            };
            let text = text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned();
            match sql::single(&text) {
                Ok(sql) => Some(From::Query(sql)),
                Err(problem) => {
                    report.push(report.error(&entry.at, format!("`{}` contains {problem}", shown(path))));
                    None
                }
            }
        }
    };
    from.map(|from| (from, None))
}

/// A table's name in its parts: split on dots, except within double quotes.
pub fn table_name(text: &str) -> Result<Vec<String>, String> {
    let text = text.trim();
    name_parts(text).or_else(|problem| match is_file(text) {
        true => Ok(vec![text.to_owned()]),
        false => Err(problem),
    })
}

/// Whether a name is a file's: its dots and blanks part nothing.
fn is_file(text: &str) -> bool {
    const EXTENSIONS: [&str; 9] = ["csv", "tsv", "tab", "txt", "psv", "json", "ndjson", "jsonl", "parquet"];
    let lower = text.to_ascii_lowercase();
    let bare = lower.strip_suffix(".gz").unwrap_or(&lower);
    let extension = bare.rsplit_once('.').map_or("", |(_, extension)| extension);
    EXTENSIONS.contains(&extension) && !text.contains(['"', '\'', ';', '\0'])
}

fn name_parts(text: &str) -> Result<Vec<String>, String> {
    const PARTS_MAX: usize = 3;
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let part;
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut name = String::new();
            let mut letters = quoted.char_indices().peekable();
            let end = loop {
                match letters.next() {
                    None => return Err("is not a table's name: a `\"` is never closed".to_owned()),
                    Some((at, '"')) => {
                        if letters.next_if(|(_, next)| *next == '"').is_none() {
                            break at + 1;
                        }
                        name.push('"');
                    }
                    Some((_, letter)) => name.push(letter),
                }
            };
            part = name;
            rest = &quoted[end..];
        } else {
            let end = rest.find('.').unwrap_or(rest.len());
            part = rest[..end].to_owned();
            rest = &rest[end..];
            if part.contains(|letter: char| letter.is_whitespace() || "\"'();,".contains(letter)) {
                return Err(
                    "is not a table's name: quote odd names like `main.\"odd name\"`, or use `sql` for a query"
                        .to_owned(),
                );
            }
        }
        if part.is_empty() || part.contains('\0') {
            return Err("is not a table's name: a part of it is empty".to_owned());
        }
        parts.push(part);
        match rest.strip_prefix('.') {
            Some(after) => rest = after,
            None if rest.is_empty() => break,
            None => return Err("is not a table's name: only a dot may follow a `\"`".to_owned()),
        }
    }
    if parts.len() > PARTS_MAX {
        return Err("is not a table's name: it has more than three parts (quote a part that contains a dot)".to_owned());
    }
    Ok(parts)
}
