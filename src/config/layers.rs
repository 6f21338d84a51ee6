//! The layers of the settings: `groupcast.toml` and the environment, with everything that is wrong in them.
//!
//! The file is walked with spans and the variables by name, so that each mistake is reported where a person made it;
//! only sound values are merged (`merge.rs`). A value that a variable replaces is not even looked
//! up: `url = "${WAREHOUSE_URL}"` asks for nothing while `GROUPCAST__SOURCES__WAREHOUSE__URL` is set.

mod variables;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use self::variables::{Variable, variables};
use super::environment::Environment;
use super::implausible;
use super::location::Location;
use super::merge::{Layer, merge};
use super::schema::{self, DELIVERY, SECTIONS, SettingsType};
use super::secrets::{self, References, contains_password, is_stand_in, refers};
use super::settings::Settings;
use super::value::{RawValue, convert};
use crate::mapping::At;
use crate::mapping::diagnostic::{Diagnostic, did_you_mean, listed};
use crate::mapping::reader::{self, Entry, Report, Section, integer, kind_of, name_problem, shown};
use crate::model::setting::{Setting, SettingType};

pub(super) const TOP: [&str; 7] = ["state", "sources", "destinations", "defaults", "daemon", "dbt", "duckdb"];

/// What was found in `groupcast.toml` and the environment.
pub(super) struct Read {
    /// The settings, if nothing is wrong.
    pub(super) settings: Option<Settings>,
    /// The names of sources and destinations, wrong or not; `None` where the file is too broken to tell.
    pub(super) names: Option<(Vec<String>, Vec<String>)>,
    /// What is wrong.
    pub(super) found: Vec<Diagnostic>,
}

/// Reads the settings of `location` from the text of its file.
pub(super) fn read(location: &Location, text: &str, environment: &Environment, references: References<'_>) -> Read {
    let (folder, file) = (location.folder.as_path(), location.settings_file());
    let (table, mut report) = reader::parse(&file, text);
    let root = Section::root(table.get_ref());
    let broken = report.is_broken();
    let mut walk = Walk {
        folder,
        environment,
        references,
        variables: Vec::new(),
        layer: Layer::new(),
        overrides: Layer::new(),
        found: Vec::new(),
        kind: "",
    };
    walk.variables = variables(environment, &root, &mut walk.found);
    root.expect_keys(&TOP, &mut report);
    for entry in root.entries().iter().filter(|entry| TOP.contains(&entry.key)) {
        match (entry.key, entry.section(&mut report)) {
            ("sources", Some(section)) => walk.named(&section, &schema::sources(), &[], "source", &mut report),
            ("destinations", Some(section)) => {
                walk.named(&section, &schema::destinations(), DELIVERY, "destination", &mut report)
            }
            (key, Some(section)) => walk.fixed(&section, key, &mut report),
            (_, None) => {}
        }
    }
    walk.apply_variables(&root);
    let (mut found, _) = report.into_found();
    found.append(&mut walk.found);
    let names = (!broken).then(|| (walk.names(&root, "sources"), walk.names(&root, "destinations")));
    let settings = if found.is_empty() { merge(walk.layer, walk.overrides, location, &mut found) } else { None };
    found.extend(settings.iter().flat_map(|settings| settings.duckdb.mistakes()).map(|(key, what, help)| {
        let at = At { path: format!("duckdb.{key}"), ..At::default() };
        Diagnostic::error(&file, &at, format!("`duckdb.{key}` {what}")).help(help)
    }));
    found.extend(settings.iter().filter_map(|settings| another_targets_ledger(settings, location)));
    let settings = settings.filter(|_| found.is_empty());
    Read { settings, names, found }
}

/// A ledger that is the one of another target, as a copied settings file has it: what is synced there says nothing about the
/// destinations here.
fn another_targets_ledger(settings: &Settings, location: &Location) -> Option<Diagnostic> {
    let whole = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_default();
    let ledger = whole(&settings.state.path);
    let other = location.others().into_iter().find(|other| whole(&other.ledger_path()) == ledger)?;
    let at = At { path: "state.path".to_owned(), ..At::default() };
    let what = format!("`state.path` is the ledger of {}", other.settings_file());
    let own = location.ledger_path();
    let help = format!(
        "remove `state.path`: without it the ledger is {}",
        location.shown(own.strip_prefix(&location.folder).unwrap_or(&own))
    );
    Some(Diagnostic::error(&location.settings_file(), &at, what).help(help))
}

/// The sections that stand inside one of fixed name: `policy` and `guards` in `defaults`.
fn inner_sections(path: &str) -> impl Iterator<Item = &'static str> {
    SECTIONS.iter().filter_map(move |(name, _)| name.strip_prefix(path)?.strip_prefix('.'))
}

struct Walk<'a> {
    folder: &'a Path,
    environment: &'a Environment,
    references: References<'a>,
    variables: Vec<Variable>,
    layer: Layer,
    overrides: Layer,
    found: Vec<Diagnostic>,
    /// The type of the source or destination that is being read.
    kind: &'static str,
}

impl Walk<'_> {
    fn variable(&self, path: &[&str]) -> Option<&Variable> {
        self.variables.iter().find(|variable| variable.path == path)
    }

    /// A section whose name is fixed.
    fn fixed(&mut self, section: &Section<'_>, path: &str, report: &mut Report<'_>) {
        self.kind = "";
        let keys = SECTIONS.iter().find(|(name, _)| *name == path).map_or(&[][..], |(_, keys)| keys);
        let inner: Vec<&str> = inner_sections(path).collect();
        let names: Vec<&str> = keys.iter().map(|key| key.name).chain(inner.iter().copied()).collect();
        section.expect_keys(&names, report);
        let parents: Vec<&str> = path.split('.').collect();
        for entry in section.entries() {
            if let Some(key) = keys.iter().find(|key| key.name == entry.key) {
                self.value(&entry, &parents, key, report);
            } else if inner.contains(&entry.key)
                && let Some(section) = entry.section(report)
            {
                self.fixed(&section, &format!("{path}.{}", entry.key), report);
            }
        }
    }

    /// `[sources]` or `[destinations]`: sections named by a person.
    fn named(
        &mut self,
        section: &Section<'_>,
        kinds: &[SettingsType],
        generic: &[Setting],
        what: &str,
        report: &mut Report<'_>,
    ) {
        for entry in section.entries() {
            if let Some(problem) = name_problem(entry.key) {
                report.push(report.error(&entry.key_at, format!("the name of this {what} {problem}")));
                continue;
            }
            let Some(inner) = entry.section(report) else { continue };
            let parents = [if what == "source" { "sources" } else { "destinations" }, entry.key];
            let Some(kind) = self.kind(&inner, &parents, kinds, what, report) else { continue };
            self.layer.set(&owned(&parents, "type"), kind.name.into());
            self.kind = kind.name;
            let keys: Vec<&Setting> = kind.settings.iter().chain(generic).collect();
            let names: Vec<&str> = ["type"].into_iter().chain(keys.iter().map(|key| key.name)).collect();
            inner.expect_keys(&names, report);
            for value in inner.entries() {
                if let Some(key) = keys.iter().find(|key| key.name == value.key) {
                    self.value(&value, &parents, key, report);
                }
            }
            for key in kind.settings.iter().filter(|key| key.required && !inner.has(key.name)) {
                if self.variable(&[parents[0], parents[1], key.name]).is_none() {
                    let error = report.error(&inner.at, format!("{what} `{}` has no `{}`", shown(entry.key), key.name));
                    report.push_missing(&reader::join(&inner.at.path, key.name), error.help(how_to_give(key)));
                }
            }
        }
    }

    /// The type of a source or destination, the variable's word before the file's.
    fn kind(
        &self,
        section: &Section<'_>,
        parents: &[&str; 2],
        kinds: &[SettingsType],
        what: &str,
        report: &mut Report<'_>,
    ) -> Option<SettingsType> {
        let names = || kinds.iter().map(|kind| kind.name);
        if let Some(variable) = self.variable(&[parents[0], parents[1], "type"]) {
            // A wrong word is reported with the variables.
            return kinds.iter().find(|kind| kind.name == variable.value).copied();
        }
        let Some(entry) = section.get("type") else {
            let error = report.error(&section.at, format!("{what} `{}` has no `type`", shown(parents[1])));
            report.push_missing(
                &reader::join(&section.at.path, "type"),
                error.help(format!("write `type = …` with {}", listed(names()))),
            );
            return None;
        };
        let text = entry.text(report)?;
        let kind = kinds.iter().find(|kind| kind.name == text).copied();
        if kind.is_none() {
            let error = report.error(&entry.at, format!("{what} type `{}` not found", shown(text)));
            let help = match did_you_mean(text, names()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("there is {}", listed(names())),
            };
            report.push(error.help(help));
        }
        kind
    }

    /// One value of the file.
    fn value(&mut self, entry: &Entry<'_>, parents: &[&str], key: &Setting, report: &mut Report<'_>) {
        let path: Vec<&str> = parents.iter().copied().chain([key.name]).collect();
        let replaced = self.variable(&path).is_some();
        let error = |report: &Report<'_>, problem: &str| {
            let (message, help) = match problem.split_once(": ") {
                Some((message, help)) => (message, Some(help)),
                None => (problem, None),
            };
            report.error(&entry.at, format!("`{}` {message}", key.name)).maybe_help(help)
        };
        let written = match entry.value {
            DeValue::String(text) => text,
            other => {
                let given = match other {
                    DeValue::Integer(_) => {
                        integer(other).map_or(RawValue::Other("a number of more than 64 bits"), RawValue::Integer)
                    }
                    DeValue::Float(number) => RawValue::Float(number.as_str().to_owned()),
                    DeValue::Boolean(flag) => RawValue::Boolean(*flag),
                    DeValue::Table(table) if matches!(key.of, SettingType::Table) => match self.tree(table, key.name) {
                        Ok(table) => RawValue::Table(table),
                        Err(problems) => {
                            problems.iter().for_each(|problem| report.push(error(report, problem)));
                            return;
                        }
                    },
                    DeValue::Array(items) if matches!(key.of, SettingType::Names) => match self.names_in(items) {
                        Ok(names) => RawValue::List(names),
                        Err(problems) => {
                            problems.iter().for_each(|problem| report.push(error(report, problem)));
                            return;
                        }
                    },
                    other => RawValue::Other(kind_of(other)),
                };
                match convert(given, key.of, self.folder, false) {
                    Ok(value) => self.layer.set(&owned(parents, key.name), value),
                    Err(problem) => report.push(error(report, &problem)),
                }
                return;
            }
        };
        let literal = !refers(written);
        let bare = match key.of {
            SettingType::Secret | SettingType::SecretUrl => literal && !written.trim().is_empty(),
            _ => contains_password(written),
        };
        if bare {
            let (what, help) = match (secrets::foreign_reference(written), key.of) {
                (Some(Some(name)), _) => (
                    format!("`{}` refers to `{name}` in a notation that is not read here", key.name),
                    format!("use `{} = \"${{{name}}}\"`, or `${{file:…}}`", key.name),
                ),
                (Some(None), _) => (
                    format!("`{}` contains a reference in a notation that is not read here", key.name),
                    "use `${NAME}` or `${file:…}`".to_owned(),
                ),
                (None, SettingType::ConnectionString) => (
                    format!("`{}` contains a plaintext secret", key.name),
                    "use `${NAME}` or `${file:…}` for the password, or for all of it".to_owned(),
                ),
                (None, _) => (
                    format!("`{}` contains a plaintext secret", key.name),
                    format!("use `${{NAME}}` or `${{file:…}}`: `{} = \"${{{}}}\"`", key.name, key.name.to_uppercase()),
                ),
            };
            report.push(report.error(&entry.at, what).help(help));
            return;
        }
        if replaced {
            return;
        }
        let resolved = if key.of.is_secret() || matches!(key.of, SettingType::Url) {
            self.references.resolve_secret(written)
        } else {
            self.references.resolve(written)
        };
        let resolved = match resolved {
            Ok(resolved) => resolved,
            Err(problems) => {
                for problem in problems {
                    report.push(error(report, &problem));
                }
                return;
            }
        };
        let resolved = match key.of {
            _ if !is_stand_in(&resolved) => resolved,
            SettingType::Url | SettingType::SecretUrl => format!("https://{resolved}.example"),
            SettingType::ConnectionString => format!("postgres://{resolved}@localhost/test"),
            SettingType::Text | SettingType::Secret | SettingType::Path | SettingType::PathOrDash => resolved,
            // No text will do, so it is as if it was not set.
            _ => return,
        };
        if let Some(what) = implausible::of_another_kind(self.kind, key.name, &resolved) {
            let problem = format!("is {what}, not what belongs here: set the right one");
            report.push(error(report, &problem));
            return;
        }
        match convert(RawValue::Text(resolved), key.of, self.folder, !literal) {
            Ok(value) => self.layer.set(&owned(parents, key.name), value),
            Err(problem) => {
                let meant = match key.of {
                    SettingType::OneOf(words) if literal => did_you_mean(written, words.iter().copied()),
                    _ => None,
                };
                report.push(error(report, &problem).maybe_help(meant.map(|meant| format!("did you mean `{meant}`?"))));
            }
        }
    }

    /// The texts of a list, with their references resolved.
    fn names_in(&self, items: &[Spanned<DeValue<'_>>]) -> Result<Vec<String>, Vec<String>> {
        let one = |item: &Spanned<DeValue<'_>>| match item.get_ref() {
            DeValue::String(text) => self.references.resolve(text),
            other => Err(vec![format!("has {}, where each name is text", kind_of(other))]),
        };
        items.iter().map(one).collect()
    }

    /// A table of anything, with its references resolved; dates are their text.
    fn tree(&self, table: &DeTable<'_>, of: &str) -> Result<config::Map<String, config::Value>, Vec<String>> {
        // An attachment's `secret` is the name of one.
        let is_credential = |name: &str| secrets::is_credential(name) && !(of == "attach_options" && name == "secret");
        let one = |(name, value): (&Spanned<Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
            let name = name.get_ref().to_string();
            match value.get_ref() {
                DeValue::String(text) if is_credential(&name) && !refers(text) && !text.trim().is_empty() => {
                    Err(vec![format!(
                        "contains a plaintext secret, `{}`: use `${{NAME}}` or `${{file:…}}`",
                        shown(&name)
                    )])
                }
                value => Ok((name, self.node(value, of)?)),
            }
        };
        table.iter().map(one).collect()
    }

    fn node(&self, value: &DeValue<'_>, of: &str) -> Result<config::Value, Vec<String>> {
        let kind: config::ValueKind = match value {
            DeValue::String(text) if contains_password(text) => {
                return Err(vec!["contains a plaintext secret: use `${NAME}` or `${file:…}`".to_owned()]);
            }
            DeValue::String(text) => self.references.resolve(text)?.into(),
            DeValue::Integer(_) => integer(value)
                .ok_or_else(|| vec!["contains a number of more than 64 bits: write it as text".to_owned()])?
                .into(),
            DeValue::Float(number) => match number.as_str().parse::<f64>() {
                Ok(number) if number.is_finite() => number.into(),
                _ => return Err(vec!["contains a number that JSON does not have: write it as text".to_owned()]),
            },
            DeValue::Boolean(flag) => (*flag).into(),
            DeValue::Datetime(moment) => moment.to_string().into(),
            DeValue::Array(items) => {
                let items: Result<Vec<config::Value>, _> =
                    items.iter().map(|item| self.node(item.get_ref(), of)).collect();
                items?.into()
            }
            DeValue::Table(table) => self.tree(table, of)?.into(),
        };
        Ok(config::Value::new(None, kind))
    }

    /// The names of all sources or destinations, from the file and from variables that give a type.
    fn names(&self, root: &Section<'_>, what: &str) -> Vec<String> {
        let mut names: BTreeSet<String> = match root.get(what).map(|entry| entry.value) {
            Some(DeValue::Table(table)) => table.keys().map(|key| key.get_ref().to_string()).collect(),
            _ => BTreeSet::new(),
        };
        let typed = self.variables.iter().filter(|variable| variable.path[0] == what && variable.path[2] == "type");
        names.extend(typed.map(|variable| variable.path[1].clone()));
        names.into_iter().collect()
    }
}

fn owned(parents: &[&str], last: &str) -> Vec<String> {
    parents.iter().chain([&last]).map(|part| (*part).to_owned()).collect()
}

fn how_to_give(key: &Setting) -> String {
    if key.of.is_secret() {
        format!("write `{} = \"${{{}}}\"` and set that environment variable", key.name, key.name.to_uppercase())
    } else {
        format!("write `{} = …`", key.name)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::schema::{self, DELIVERY};

    #[test]
    fn no_type_claims_a_generic_key() {
        for kind in schema::destinations() {
            for key in kind.settings {
                assert!(key.name != "type" && DELIVERY.iter().all(|generic| generic.name != key.name));
            }
        }
    }
}
