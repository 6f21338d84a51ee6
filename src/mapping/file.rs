//! Mapping files: [`parse`] reads one and reports all of its mistakes at once. Each section is read by a file of its own in
//! `sections`.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::DeValue;

use super::diagnostic::{At, Diagnostic, Severity, did_you_mean, listed_all};
use super::reader::{self, Entry, Report, Section, shown};
use super::sections::guards::Guards;
use super::sections::model::Lookup;
use super::sections::policy::Policy;
use super::sections::{group, guards, incremental, model, policy, schedule, traits, user};
use super::spec::Mapping;

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
    /// Where models are looked up that are not in the file.
    pub lookup: &'a Lookup<'a>,
}

/// The keys at the top of a mapping file.
pub(crate) const TOP: [&str; 12] = [
    "source",
    "destination",
    "enabled",
    "tags",
    "schedule",
    "model",
    "group",
    "user",
    "traits",
    "policy",
    "guards",
    "incremental",
];

/// Reads the mapping file `text`, called `file` in messages, as the sync `name`.
///
/// The mapping is there exactly when no diagnostic is an error. Total: any text gives an answer.
pub fn parse(name: &str, file: &str, text: &str, context: &Context<'_>) -> (Option<MappingFile>, Vec<Diagnostic>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (table, mut report) = reader::parse(file, text);
    report.belongs = belongs;
    let root = Section::root(table.get_ref());
    let mapping = mapping(name, &root, context, &mut report);
    let (found, places) = report.into_found();
    let failed = found.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
    let mapping = mapping.filter(|_| !failed);
    (mapping.map(|mapping| MappingFile { mapping, text: text.to_owned(), places }), found)
}

fn mapping(name: &str, root: &Section<'_>, context: &Context<'_>, report: &mut Report<'_>) -> Option<Mapping> {
    root.expect_keys(&TOP, report);
    let names = context.names;
    let source = reference(root, "source", names.map(|names| names.sources.as_slice()), report);
    let destination = reference(root, "destination", names.map(|names| names.destinations.as_slice()), report);
    let enabled = root.get("enabled").and_then(|entry| entry.flag(report)).unwrap_or(true);
    let tags = root.get("tags").map_or_else(|| Some(Vec::new()), |entry| tags(&entry, report));
    let schedule = root.get("schedule").and_then(|entry| schedule::read(&entry, report));
    let model =
        required(root, "model", "define where the account rows come from: `[model]` with `table = \"…\"`", report)
            .and_then(|section| {
                Some((model::compare(&section, report), model::read(&section, context.lookup, report)?))
            });
    let group = required(root, "group", "add `[group]` with `type = \"company\"` and `key = \"account_id\"`", report)
        .map(|section| group::read(&section, report));
    // A user that was written and refused must not turn into "no user".
    let user = match optional(root, "user", report) {
        None if root.has("user") => None,
        None => Some(None),
        Some(section) => user::read(&section, report).map(Some),
    };
    let traits = required(root, "traits", "add `[traits]` with a line like `name = \"account_name\"`", report)
        .map(|section| traits::read(&section, report));
    let policy = optional(root, "policy", report)
        .map_or_else(|| context.policy.clone(), |section| policy::read(&section, context.policy, report));
    let guards = optional(root, "guards", report)
        .map_or_else(|| context.guards.clone(), |section| guards::read(&section, context.guards, report));
    let incremental = optional(root, "incremental", report).and_then(|section| incremental::read(&section, report));
    let group = group?;
    let traits = traits?;
    let label = group.label(&traits, report);
    let (compare, (model, dbt)) = model?;
    Some(Mapping {
        name: name.to_owned(),
        file: report.file.to_owned(),
        source: source?,
        destination: destination?,
        enabled,
        tags: tags?,
        schedule,
        model,
        compare,
        dbt,
        group_type: group.group_type?,
        key: group.key?,
        label,
        user: user?,
        traits,
        policy,
        guards,
        incremental,
    })
}

/// The tags by which a sync can be selected.
fn tags(entry: &Entry<'_>, report: &mut Report<'_>) -> Option<Vec<String>> {
    let DeValue::Array(items) = entry.value else {
        entry.mistyped("a list of strings, such as `[\"nightly\"]`", report);
        return None;
    };
    let mut tags = Vec::new();
    for item in items {
        let is_tag =
            |tag: &str| !tag.is_empty() && tag.chars().all(|char| char.is_alphanumeric() || "-_.".contains(char));
        match item.get_ref() {
            DeValue::String(tag) if is_tag(tag) => tags.push(tag.clone().into_owned()),
            _ => {
                let message = "a tag is a string of letters, digits, `-`, `_` and `.`";
                report.push(report.error(&entry.at, message).help("write it like `tags = [\"nightly\", \"crm\"]`"));
                return None;
            }
        }
    }
    tags.sort_unstable();
    tags.dedup();
    Some(tags)
}

/// What a mapping that has mistakes can be selected by, as far as its text can be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadableParts {
    /// Its source.
    pub source: Option<String>,
    /// Its destination.
    pub destination: Option<String>,
    /// Its tags.
    pub tags: Option<Vec<String>>,
}

impl ReadableParts {
    /// Reads them from the text of a mapping.
    pub fn of(text: &str) -> ReadableParts {
        let Ok(table) = text.parse::<toml::Table>() else { return ReadableParts::default() };
        let name = |key: &str| Some(table.get(key)?.as_str()?.to_owned());
        let tags = match table.get("tags") {
            None => Some(Vec::new()),
            Some(tags) => {
                tags.as_array().and_then(|tags| tags.iter().map(|tag| Some(tag.as_str()?.to_owned())).collect())
            }
        };
        ReadableParts { source: name("source"), destination: name("destination"), tags }
    }
}

/// Where a key belongs that is right elsewhere in a mapping file.
fn belongs(key: &str) -> Option<String> {
    let settings = |settings: &[crate::model::setting::Setting]| settings.iter().any(|setting| setting.name == key);
    let section = [
        ("model", model::KEYS.contains(&key)),
        ("group", group::KEYS.contains(&key)),
        ("user", user::KEYS.contains(&key)),
        ("policy", settings(policy::SETTINGS)),
        ("guards", settings(guards::SETTINGS)),
        ("incremental", incremental::KEYS.contains(&key)),
    ]
    .into_iter()
    .find(|(_, has_key)| *has_key);
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
        report.push(report.error(&entry.at, format!("{key} `{}` not found", shown(&name))).help(help));
        return None;
    }
    Some(name)
}
