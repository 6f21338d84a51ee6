//! The layers of the settings: `groupcast.toml` and the environment, with everything that is wrong in them.
//!
//! The file is walked with spans and the variables by name, so that each mistake is reported where a person made it;
//! only sound values are merged (`merge.rs`). A value that a variable replaces is not even looked
//! up: `url = "${WAREHOUSE_URL}"` asks for nothing while `GROUPCAST__SOURCES__WAREHOUSE__URL` is set.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::files::Files;
use super::implausible;
use super::merge::{Layer, merge};
use super::schema::{self, DELIVERY, SECTIONS, SettingsType};
use super::secrets::{self, References, contains_password, refers};
use super::settings::Settings;
use super::value::{RawValue, convert};
use crate::mapping::diagnostic::{At, Diagnostic, did_you_mean, listed, listed_all};
use crate::mapping::reader::{self, Entry, Report, Section, integer, kind_of, name_problem, shown};
use crate::model::setting::{Setting, SettingType};

/// What environment variables of ours begin with.
const PREFIX: &str = "GROUPCAST__";
const TOP: [&str; 5] = ["state", "sources", "destinations", "defaults", "daemon"];

/// A variable that sets something.
struct Variable {
    name: String,
    /// Its path in lower case, the name of a source or destination as the file spells it.
    path: Vec<String>,
    value: String,
}

/// What was found in `groupcast.toml` and the environment.
pub(super) struct Read {
    /// The settings, if nothing is wrong.
    pub(super) settings: Option<Settings>,
    /// The names of sources and destinations, wrong or not; `None` where the file is too broken to tell.
    pub(super) names: Option<(Vec<String>, Vec<String>)>,
    /// What is wrong.
    pub(super) found: Vec<Diagnostic>,
}

/// Reads the settings of `folder` from the text of its `groupcast.toml`, called `file` in messages.
pub(super) fn read(
    folder: &Path,
    file: &str,
    text: &str,
    environment: &BTreeMap<String, String>,
    files: &Files,
) -> Read {
    let (table, mut report) = reader::parse(file, text);
    let root = Section::root(table.get_ref());
    let broken = report.is_broken();
    let references = References { variables: environment, folder, files };
    let mut walk = Walk {
        folder,
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
    let settings = if found.is_empty() { merge(walk.layer, walk.overrides, folder, file, &mut found) } else { None };
    Read { settings, names, found }
}

/// The variables of ours, sorted by name, with their paths. Names are matched to the file's without regard to case, and
/// `_` matches `-` too, since variables cannot have dashes.
fn variables(environment: &BTreeMap<String, String>, root: &Section<'_>, found: &mut Vec<Diagnostic>) -> Vec<Variable> {
    let plain = |name: &str| name.to_lowercase().replace('-', "_");
    let mut out = Vec::new();
    for (name, value) in environment {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let mut path: Vec<String> = rest.split("__").map(str::to_lowercase).collect();
        let named = ["sources", "destinations"].contains(&path[0].as_str());
        let inner = path.get(1).is_some_and(|second| inner_sections(&path[0]).any(|inner| inner == second));
        let length = if named || inner { 3 } else { 2 };
        if path.len() != length || path.iter().any(String::is_empty) || !TOP.contains(&path[0].as_str()) {
            let help = "write `GROUPCAST__SECTION__KEY` or `GROUPCAST__SOURCES__NAME__KEY`, with two underscores each";
            let sections = listed_all(TOP);
            let message = format!("setting not found; the sections are {sections}");
            found.push(about_variable(name, "", message).help(help));
            continue;
        }
        if named
            && let Some(DeValue::Table(section)) = root.get(&path[0]).map(|entry| entry.value)
            && let Some(spelled) = section.keys().find(|spelled| plain(spelled.get_ref()) == plain(&path[1]))
        {
            path[1] = spelled.get_ref().to_string();
        }
        out.push(Variable { name: name.clone(), path, value: value.clone() });
    }
    out
}

/// The sections that stand inside one of fixed name: `policy` and `guards` in `defaults`.
fn inner_sections(path: &str) -> impl Iterator<Item = &'static str> {
    SECTIONS.iter().filter_map(move |(name, _)| name.strip_prefix(path)?.strip_prefix('.'))
}

struct Walk<'a> {
    folder: &'a Path,
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
                    DeValue::Table(table) if matches!(key.of, SettingType::Table) => match self.tree(table) {
                        Ok(table) => RawValue::Table(table),
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

    /// A table of anything, with its references resolved; dates are their text.
    fn tree(&self, table: &DeTable<'_>) -> Result<config::Map<String, config::Value>, Vec<String>> {
        let one = |(name, value): (&Spanned<Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
            Ok((name.get_ref().to_string(), self.node(value.get_ref())?))
        };
        table.iter().map(one).collect()
    }

    fn node(&self, value: &DeValue<'_>) -> Result<config::Value, Vec<String>> {
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
                let items: Result<Vec<config::Value>, _> = items.iter().map(|item| self.node(item.get_ref())).collect();
                items?.into()
            }
            DeValue::Table(table) => self.tree(table)?.into(),
        };
        Ok(config::Value::new(None, kind))
    }

    /// The variables: each becomes a value of the last layer, or an error that names it.
    fn apply_variables(&mut self, root: &Section<'_>) {
        let mut met: BTreeSet<(&str, &str)> = BTreeSet::new();
        let variables = std::mem::take(&mut self.variables);
        for variable in &variables {
            let keys = match variable.path[0].as_str() {
                "sources" => self.keys_of("source", &schema::sources(), &[], variable, &variables, root, &mut met),
                "destinations" => {
                    self.keys_of("destination", &schema::destinations(), DELIVERY, variable, &variables, root, &mut met)
                }
                _ => {
                    let section = variable.path[..variable.path.len() - 1].join(".");
                    SECTIONS.iter().find(|(name, _)| *name == section).map(|(_, keys)| keys.to_vec())
                }
            };
            self.apply(variable, keys.as_deref());
        }
        self.variables = variables;
    }

    /// The keys of the source or destination a variable speaks of; `None` when they could not be determined, which is
    /// then reported here or with the file. A source that only variables describe is checked as a whole the first time
    /// it is `met`.
    #[expect(clippy::too_many_arguments, reason = "the first three are one row of a two-row table")]
    fn keys_of<'v>(
        &mut self,
        what: &str,
        kinds: &[SettingsType],
        generic: &[Setting],
        variable: &'v Variable,
        variables: &[Variable],
        root: &Section<'_>,
        met: &mut BTreeSet<(&'v str, &'v str)>,
    ) -> Option<Vec<Setting>> {
        let [section, name, last] = variable.path.as_slice() else { return None };
        let written = root.get(section).and_then(|section| match section.value {
            DeValue::Table(table) => table.get(name.as_str()).map(|entry| entry.get_ref()),
            _ => None,
        });
        let sibling =
            |key: &str| variables.iter().find(|other| other.path[..2] == variable.path[..2] && other.path[2] == key);
        let word = match sibling("type") {
            Some(typed) => Some(typed.value.as_str()),
            None => written.and_then(|table| table.get("type")).and_then(|kind| kind.get_ref().as_str()),
        };
        let kind = kinds.iter().find(|kind| Some(kind.name) == word).copied();
        let first = written.is_none() && met.insert((section, name));
        let error = |message: String| about_variable(&variable.name, &variable.path.join("."), message);
        match kind {
            None if last == "type" => {
                let help = format!("there is {}", listed_all(kinds.iter().map(|kind| kind.name)));
                self.found.push(error(format!("{what} type not found")).help(help));
            }
            // With a type, the type is wrong and said to be so; with a file, so is its lack of one.
            None if first && word.is_none() => {
                let known = self.names(root, section);
                let help = match did_you_mean(name, known.iter().map(String::as_str)) {
                    Some(meant) => format!("did you mean `{}`?", meant.to_uppercase()),
                    None => format!("add `[{section}.{}]` to groupcast.toml", shown(name)),
                };
                let message = format!("{what} `{}` not found, and no type is given", shown(name));
                self.found.push(error(message).help(help));
            }
            Some(kind) if first => {
                for key in kind.settings.iter().filter(|key| key.required && sibling(key.name).is_none()) {
                    let message = format!("{what} `{}` has no `{}`", shown(name), key.name);
                    self.found.push(error(message).help(how_to_give(key)));
                }
            }
            _ => {}
        }
        let types = Setting { name: "type", of: SettingType::Text, required: true };
        Some([types].into_iter().chain(kind?.settings.iter().chain(generic).copied()).collect())
    }

    /// Applies the value of a variable whose section has these keys; without keys, only a section that does not exist
    /// is left to report.
    fn apply(&mut self, variable: &Variable, keys: Option<&[Setting]>) {
        let dotted = variable.path.join(".");
        let named = ["sources", "destinations"].contains(&variable.path[0].as_str());
        if keys.is_none() && named {
            return;
        }
        let keys = keys.unwrap_or_default();
        let last = variable.path.last().map_or("", String::as_str);
        let Some(key) = keys.iter().find(|key| key.name == last) else {
            let names = || keys.iter().map(|key| key.name);
            let help = match did_you_mean(last, names()) {
                Some(meant) => format!("did you mean `{}`?", meant.to_uppercase()),
                None => format!("known here: {}", listed_all(names())),
            };
            let message = format!("setting `{}` not found", shown(&dotted));
            self.found.push(about_variable(&variable.name, &dotted, message).help(help));
            return;
        };
        let odd = match key.of {
            SettingType::Url => implausible::in_value(&variable.value),
            of if of.is_secret() => implausible::in_value(&variable.value),
            _ => None,
        };
        let accepted = match odd {
            Some(odd) => Err(odd.to_owned()),
            None => convert(RawValue::Text(variable.value.clone()), key.of, self.folder, true),
        };
        match accepted {
            Ok(value) => self.overrides.set(&variable.path, value),
            Err(problem) => {
                let (message, help) = match problem.split_once(": ") {
                    Some((message, help)) => (message, Some(help)),
                    None => (problem.as_str(), None),
                };
                let message = format!("its value {message}");
                self.found.push(about_variable(&variable.name, &dotted, message).maybe_help(help));
            }
        }
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

/// A problem with an environment variable rather than a file.
fn about_variable(name: &str, path: &str, message: String) -> Diagnostic {
    let at = At { span: 0..0, path: path.to_owned() };
    Diagnostic::error(&format!("environment variable {name}"), &at, message)
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
