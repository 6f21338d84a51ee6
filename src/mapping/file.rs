//! The shape of a mapping file as a person writes it: every section and key, what each may hold, and what is said when
//! it doesn't. [`parse`] reports all mistakes of a file at once; `traits.rs` reads the `[traits]`, `timing.rs`
//! the schedule.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use toml::de::DeValue;

use super::diagnostic::{Diagnostic, did_you_mean, listed_all};
use super::reader::{self, Entry, Report, Section, join, shown};
use super::{
    At, Expr, From, Guards, Incremental, Mapping, Model, OnDuplicate, OnMissing, OnRemovedTrait, Policy, User,
    UserFrom, sql, timing, traits,
};
use crate::model::OnNull;

/// A mapping with the text it was read from, so that later checks can point into it.
#[derive(Debug, Clone, PartialEq)]
pub struct MappingFile {
    /// What it means.
    pub mapping: Mapping,
    /// The file's text, without a byte order mark; spans count its bytes.
    pub text: String,
    /// Where the values stand, by dotted path (`traits.arr.column`, `policy.on_null`).
    pub places: BTreeMap<String, Range<usize>>,
}

impl MappingFile {
    /// The place of a dotted path, or of the nearest enclosing key that was written.
    pub fn at(&self, path: &str) -> At {
        let mut written = path;
        loop {
            if let Some(span) = self.places.get(written) {
                return At { span: span.clone(), path: path.to_owned() };
            }
            match written.rsplit_once('.') {
                Some((parent, _)) => written = parent,
                None => return At { span: 0..0, path: path.to_owned() },
            }
        }
    }
}

/// The names `groupcast.toml` defines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Sources.
    pub sources: Vec<String>,
    /// Destinations.
    pub destinations: Vec<String>,
}

/// What a mapping file is read against.
pub struct Context<'a> {
    /// The names it may use; absent when `groupcast.toml` could not be read, and then any name will do.
    pub names: Option<&'a Names>,
    /// The policy it starts from.
    pub policy: &'a Policy,
    /// The guards it starts from.
    pub guards: &'a Guards,
    /// Reads the SQL file a model names; the error is a fragment.
    pub resolve: &'a dyn Fn(&str) -> Result<String, String>,
}

const TOP: [&str; 11] = [
    "source",
    "destination",
    "enabled",
    "schedule",
    "model",
    "group",
    "user",
    "traits",
    "policy",
    "guards",
    "incremental",
];
const MODEL: [&str; 4] = ["table", "sql", "file", "where"];
const GROUP: [&str; 2] = ["type", "key"];
const USER: [&str; 2] = ["id", "anonymous_id"];
pub(crate) const POLICY: [&str; 4] = ["on_null", "on_missing", "on_removed_trait", "on_duplicate"];
pub(crate) const GUARDS: [&str; 8] = [
    "empty",
    "rows_dropped_max",
    "keys_changed_max",
    "changed_max",
    "removed_max",
    "nulled_max",
    "unsendable_max",
    "groups_min",
];
const INCREMENTAL: [&str; 3] = ["cursor", "lookback", "full_every"];

/// The words of each choice.
pub(crate) const ON_NULL: [(&str, OnNull); 3] =
    [("unset", OnNull::Unset), ("null", OnNull::Null), ("skip", OnNull::Skip)];
pub(crate) const ON_MISSING: [(&str, OnMissing); 3] =
    [("keep", OnMissing::Keep), ("unset", OnMissing::Unset), ("delete", OnMissing::Delete)];
pub(crate) const ON_REMOVED_TRAIT: [(&str, OnRemovedTrait); 2] =
    [("keep", OnRemovedTrait::Keep), ("unset", OnRemovedTrait::Unset)];
pub(crate) const ON_DUPLICATE: [(&str, OnDuplicate); 2] = [("fail", OnDuplicate::Fail), ("skip", OnDuplicate::Skip)];

/// Reads the mapping file `text`, called `file` in messages, as the sync `name`.
///
/// The mapping is there exactly when no diagnostic is an error. Total: any text gives an answer.
pub fn parse(name: &str, file: &str, text: &str, context: &Context<'_>) -> (Option<MappingFile>, Vec<Diagnostic>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (table, mut report) = reader::parse(file, text);
    let root = Section::root(table.get_ref());
    let mapping = mapping(name, &root, context, &mut report);
    let (found, places) = report.into_found();
    let failed = found.iter().any(|diagnostic| diagnostic.severity == super::diagnostic::Severity::Error);
    let mapping = mapping.filter(|_| !failed);
    (mapping.map(|mapping| MappingFile { mapping, text: text.to_owned(), places }), found)
}

fn mapping(name: &str, root: &Section<'_>, context: &Context<'_>, report: &mut Report<'_>) -> Option<Mapping> {
    root.expect_keys(&TOP, &belongs, report);
    let names = context.names;
    let source = reference(root, "source", names.map(|names| names.sources.as_slice()), report);
    let destination = reference(root, "destination", names.map(|names| names.destinations.as_slice()), report);
    let enabled = root.get("enabled").and_then(|entry| entry.flag(report)).unwrap_or(true);
    let schedule = root.get("schedule").and_then(|entry| timing::read(&entry, report));
    let model = required(root, "model", "say where the account rows come from: `[model]` with `table = \"…\"`", report)
        .and_then(|section| model(&section, context, report));
    let group = required(root, "group", "add `[group]` with `type = \"company\"` and `key = \"account_id\"`", report)
        .map(|section| group(&section, report));
    // A user that was written and refused must not turn into "no user".
    let user = match optional(root, "user", report) {
        None if root.has("user") => None,
        None => Some(None),
        Some(section) => user(&section, report).map(Some),
    };
    let traits = required(root, "traits", "add `[traits]` with a line like `name = \"account_name\"`", report)
        .map(|section| traits::read(&section, report));
    let policy = optional(root, "policy", report)
        .map_or_else(|| context.policy.clone(), |section| policy(&section, context.policy, report));
    let guards = optional(root, "guards", report)
        .map_or_else(|| context.guards.clone(), |section| guards(&section, context.guards, report));
    let incremental = optional(root, "incremental", report).and_then(|section| incremental(&section, report));
    let (group_type, key) = group?;
    Some(Mapping {
        name: name.to_owned(),
        file: report.file.to_owned(),
        source: source?,
        destination: destination?,
        enabled,
        schedule,
        model: model?,
        group_type: group_type?,
        key: key?,
        user: user?,
        traits: traits?,
        policy,
        guards,
        incremental,
    })
}

/// Where a key belongs that is right elsewhere in a mapping file.
fn belongs(key: &str) -> Option<String> {
    let section = [
        ("model", &MODEL[..]),
        ("group", &GROUP[..]),
        ("user", &USER[..]),
        ("policy", &POLICY[..]),
        ("guards", &GUARDS[..]),
        ("incremental", &INCREMENTAL[..]),
    ]
    .into_iter()
    .find(|(_, keys)| keys.contains(&key));
    match section {
        Some((section, _)) => Some(format!("`{key}` belongs in `[{section}]`")),
        None if TOP.contains(&key) => Some(format!("`{key}` belongs at the top, above the first `[section]`")),
        None => None,
    }
}

fn optional<'d>(root: &Section<'d>, key: &str, report: &mut Report<'_>) -> Option<Section<'d>> {
    root.get(key).and_then(|entry| entry.section(report))
}

fn required<'d>(root: &Section<'d>, key: &str, help: &str, report: &mut Report<'_>) -> Option<Section<'d>> {
    let entry = root.get(key);
    if entry.is_none() {
        report.push_missing(key, report.error(&At::default(), format!("`[{key}]` is missing")).help(help));
    }
    entry.and_then(|entry| entry.section(report))
}

/// The name of a source or destination.
fn reference(root: &Section<'_>, key: &str, known: Option<&[String]>, report: &mut Report<'_>) -> Option<String> {
    let Some(entry) = root.get(key) else {
        let astray = root.entries().into_iter().find_map(|section| match section.value {
            DeValue::Table(table) if table.get(key).is_some() => Some(section.key.to_owned()),
            _ => None,
        });
        let help = match astray {
            Some(section) => format!("there is one in `[{section}]`: move it above the first `[section]`"),
            None => format!("write `{key} = \"…\"` above the first `[section]`, with a name from groupcast.toml"),
        };
        report.push_missing(key, report.error(&At::default(), format!("`{key}` is missing")).help(help));
        return None;
    };
    let name = entry.name(report)?;
    if let Some(known) = known
        && !known.contains(&name)
    {
        let known = || known.iter().map(String::as_str);
        let help = match did_you_mean(&name, known()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None if known().next().is_none() => format!("groupcast.toml defines none: add `[{key}s.{}]`", shown(&name)),
            None => format!("groupcast.toml defines {}", listed_all(known())),
        };
        report.push(report.error(&entry.at, format!("no {key} is called `{}`", shown(&name))).help(help));
        return None;
    }
    Some(name)
}

fn model(section: &Section<'_>, context: &Context<'_>, report: &mut Report<'_>) -> Option<Model> {
    section.expect_keys(&MODEL, &belongs, report);
    let filter = section.get("where").map(|entry| {
        let condition = fragment(&entry, report)?;
        if condition.get(..6).is_some_and(|word| word.eq_ignore_ascii_case("where ")) {
            let message = "`where` repeats the word WHERE";
            report.push(report.error(&entry.at, message).help("write the condition alone: `where = \"is_customer\"`"));
            return None;
        }
        Some(condition)
    });
    let ways: Vec<Entry<'_>> =
        section.entries().into_iter().filter(|entry| ["table", "sql", "file"].contains(&entry.key)).collect();
    let from = match ways.as_slice() {
        [] => {
            let missing = report.error(&section.at, "the model has no `table`, `sql` or `file`");
            let path =
                ["table", "sql", "file"].map(|key| join("model", key)).into_iter().find(|path| report.was_meant(path));
            let path = path.unwrap_or_default();
            report.push_missing(
                &path,
                missing.help("write `table = \"schema.table\"`, or `sql` with a query, or `file` with a path"),
            );
            None
        }
        [one] => from(one, context, report),
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
    Some(Model { from: from?, filter })
}

fn from(entry: &Entry<'_>, context: &Context<'_>, report: &mut Report<'_>) -> Option<From> {
    match entry.key {
        "table" => {
            let text = entry.text(report)?;
            entry.noted(table_name(text), report).map(From::Table)
        }
        "sql" => fragment(entry, report).map(From::Query),
        _ => {
            let path = entry.text(report)?;
            let text = match (context.resolve)(path) {
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
                    report.push(report.error(&entry.at, format!("`{}` holds {problem}", shown(path))));
                    None
                }
            }
        }
    }
}

/// A text of SQL: a query, a condition, an expression.
pub(super) fn fragment(entry: &Entry<'_>, report: &mut Report<'_>) -> Option<String> {
    let text = entry.text(report)?;
    match sql::single(text) {
        Ok(sql) => Some(sql),
        Err(problem) => {
            report.push(report.error(&entry.at, format!("`{}` holds {problem}", shown(entry.key))));
            None
        }
    }
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
                    None => return Err("not a table's name: a `\"` is never closed".to_owned()),
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
                    "not a table's name: quote odd names like `main.\"odd name\"`, or use `sql` for a query".to_owned()
                );
            }
        }
        if part.is_empty() || part.contains('\0') {
            return Err("not a table's name: a part of it is empty".to_owned());
        }
        parts.push(part);
        match rest.strip_prefix('.') {
            Some(after) => rest = after,
            None if rest.is_empty() => break,
            None => return Err("not a table's name: only a dot may follow a `\"`".to_owned()),
        }
    }
    if parts.len() > PARTS_MAX {
        return Err("not a table's name: it has more than three parts (quote a part that holds a dot)".to_owned());
    }
    Ok(parts)
}

fn group(section: &Section<'_>, report: &mut Report<'_>) -> (Option<String>, Option<String>) {
    section.expect_keys(&GROUP, &belongs, report);
    let mut one = |key: &str, help: &str| {
        let entry = section.get(key);
        if entry.is_none() {
            let missing = report.error(&section.at, format!("`[group]` has no `{key}`"));
            report.push_missing(&join("group", key), missing.help(help));
        }
        entry.and_then(|entry| entry.name(report))
    };
    let group_type = one("type", "name the group type at the destination: `type = \"company\"`");
    let key = one("key", "name the column that holds the group's id: `key = \"account_id\"`");
    (group_type, key)
}

/// Reads `[user]`: `id` or `anonymous_id`, a template or a column.
fn user(section: &Section<'_>, report: &mut Report<'_>) -> Option<User> {
    section.expect_keys(&USER, &belongs, report);
    let (entry, anonymous) = match (section.get("id"), section.get("anonymous_id")) {
        (Some(entry), None) => (entry, false),
        (None, Some(entry)) => (entry, true),
        (Some(_), Some(second)) => {
            let message = "`[user]` has both `id` and `anonymous_id`";
            report.push(report.error(&second.key_at, message).help("keep one of them"));
            return None;
        }
        (None, None) => {
            let missing = report.error(&section.at, "`[user]` has no `id`");
            let help = "write `id = \"account:{key}\"`, or `id = { column = \"owner_id\" }`";
            report.push_missing("user.id", missing.help(help));
            return None;
        }
    };
    let DeValue::Table(table) = entry.value else {
        let text = entry.text(report)?;
        let from = entry.noted(user_template(text), report)?;
        return Some(User { anonymous, from: UserFrom::Template(from) });
    };
    let described = Section { table, at: entry.at.clone() };
    described.expect_keys(&["column", "sql"], &|_| None, report);
    let expr = match (described.get("column"), described.get("sql")) {
        (Some(column), None) => Expr::Column(column.name(report)?),
        (None, Some(sql)) => Expr::Sql(fragment(&sql, report)?),
        _ => {
            let message = format!("`{}` needs either `column` or `sql`", entry.key);
            report.push(report.error(&entry.at, message));
            return None;
        }
    };
    Some(User { anonymous, from: UserFrom::Expr(expr) })
}

/// The texts around each `{key}`; `{{` and `}}` stand for braces.
fn user_template(text: &str) -> Result<Vec<String>, String> {
    let wrong =
        |what: &str| Err(format!("not a template: {what}; write `account:{{key}}`, braces as `{{{{` and `}}}}`"));
    let (mut texts, mut rest) = (vec![String::new()], text);
    while let Some(at) = rest.find(['{', '}']) {
        let (before, brace) = rest.split_at(at);
        let current = texts.len() - 1;
        texts[current].push_str(before);
        rest = if let Some(after) = brace.strip_prefix("{key}") {
            texts.push(String::new());
            after
        } else if let Some(after) = brace.strip_prefix("{{").or_else(|| brace.strip_prefix("}}")) {
            texts[current].push_str(&brace[..1]);
            after
        } else if brace.starts_with('}') {
            return wrong("a `}` without its `{`");
        } else {
            return wrong("only `{key}` can stand in braces, columns are named by `{ column = … }`");
        };
    }
    let current = texts.len() - 1;
    texts[current].push_str(rest);
    Ok(texts)
}

/// Reads `[policy]`; what it doesn't say stays as in `base`.
pub(crate) fn policy(section: &Section<'_>, base: &Policy, report: &mut Report<'_>) -> Policy {
    section.expect_keys(&POLICY, &belongs, report);
    Policy {
        on_null: section.get("on_null").and_then(|entry| entry.choice(&ON_NULL, report)).unwrap_or(base.on_null),
        on_missing: section
            .get("on_missing")
            .and_then(|entry| entry.choice(&ON_MISSING, report))
            .unwrap_or(base.on_missing),
        on_removed_trait: section
            .get("on_removed_trait")
            .and_then(|entry| entry.choice(&ON_REMOVED_TRAIT, report))
            .unwrap_or(base.on_removed_trait),
        on_duplicate: section
            .get("on_duplicate")
            .and_then(|entry| entry.choice(&ON_DUPLICATE, report))
            .unwrap_or(base.on_duplicate),
    }
}

/// Reads `[guards]`; what it doesn't say stays as in `base`.
pub(crate) fn guards(section: &Section<'_>, base: &Guards, report: &mut Report<'_>) -> Guards {
    section.expect_keys(&GUARDS, &belongs, report);
    let empty = section.get("empty").and_then(|entry| entry.flag(report)).unwrap_or(base.empty);
    let mut share = |key: &str, base: f64| section.get(key).and_then(|entry| entry.share(report)).unwrap_or(base);
    let rows_dropped_max = share("rows_dropped_max", base.rows_dropped_max);
    let keys_changed_max = share("keys_changed_max", base.keys_changed_max);
    let changed_max = share("changed_max", base.changed_max);
    let removed_max = share("removed_max", base.removed_max);
    let nulled_max = share("nulled_max", base.nulled_max);
    let unsendable_max = share("unsendable_max", base.unsendable_max);
    let groups_min = section
        .get("groups_min")
        .and_then(|entry| entry.count(0..=i64::MAX, report))
        .map_or(base.groups_min, i64::unsigned_abs);
    Guards {
        empty,
        rows_dropped_max,
        keys_changed_max,
        changed_max,
        removed_max,
        nulled_max,
        unsendable_max,
        groups_min,
    }
}

fn incremental(section: &Section<'_>, report: &mut Report<'_>) -> Option<Incremental> {
    const HOUR: Duration = Duration::from_secs(3_600);
    section.expect_keys(&INCREMENTAL, &belongs, report);
    let mut duration = |key: &str, base: Duration| section.get(key).map_or(Some(base), |entry| entry.duration(report));
    let lookback = duration("lookback", HOUR);
    let full_every = duration("full_every", 24 * HOUR);
    if full_every == Some(Duration::ZERO)
        && let Some(entry) = section.get("full_every")
    {
        let help = "to read everything every time remove `[incremental]`";
        report.push(report.error(&entry.at, "`full_every` must be more than nothing").help(help));
    }
    let Some(entry) = section.get("cursor") else {
        let missing = report.error(&section.at, "`[incremental]` has no `cursor`");
        report.push_missing(
            "incremental.cursor",
            missing.help("name a column that grows when a row changes: `cursor = \"updated_at\"`"),
        );
        return None;
    };
    Some(Incremental { cursor: entry.name(report)?, lookback: lookback?, full_every: full_every? })
}

/// The dotted path of a trait.
pub fn trait_path(name: &str) -> String {
    join("traits", name)
}
