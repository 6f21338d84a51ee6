//! The environment variables among the layers: `GROUPCAST__SECTION__KEY`, each a value of the last layer or an error that names it.

use std::collections::BTreeSet;

use toml::de::DeValue;

use super::{TOP, Walk, how_to_give, inner_sections};
use crate::config::environment::Environment;
use crate::config::implausible;
use crate::config::schema::{self, DELIVERY, SECTIONS, SettingsType};
use crate::config::value::{RawValue, convert};
use crate::mapping::diagnostic::{Diagnostic, did_you_mean, listed_all};
use crate::mapping::reader::{Section, shown};
use crate::model::setting::{Setting, SettingType};

/// What environment variables of ours begin with.
const PREFIX: &str = "GROUPCAST__";

/// A variable that sets something.
pub(super) struct Variable {
    pub(super) name: String,
    /// Its path in lower case, the name of a source or destination as the file spells it.
    pub(super) path: Vec<String>,
    pub(super) value: String,
}

/// The variables of ours, sorted by name, with their paths. Names are matched to the file's without regard to case, and
/// `_` matches `-` too, since variables cannot have dashes.
pub(super) fn variables(environment: &Environment, root: &Section<'_>, found: &mut Vec<Diagnostic>) -> Vec<Variable> {
    let plain = |name: &str| name.to_lowercase().replace('-', "_");
    let mut out = Vec::new();
    for (name, value) in &environment.values {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let mut path: Vec<String> = rest.split("__").map(str::to_lowercase).collect();
        let named = ["sources", "destinations"].contains(&path[0].as_str());
        let inner = path.get(1).is_some_and(|second| inner_sections(&path[0]).any(|inner| inner == second));
        let length = if named || inner { 3 } else { 2 };
        if path.len() != length || path.iter().any(String::is_empty) || !TOP.contains(&path[0].as_str()) {
            let help = "write `GROUPCAST__SECTION__KEY` or `GROUPCAST__SOURCES__NAME__KEY`, with two underscores each";
            let sections = listed_all(TOP);
            let message = format!("setting not found; the sections are {sections}");
            found.push(environment.problem(name, "", message).help(help));
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

impl Walk<'_> {
    /// The variables: each becomes a value of the last layer, or an error that names it.
    pub(super) fn apply_variables(&mut self, root: &Section<'_>) {
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
        let environment = self.environment;
        let error = |message: String| environment.problem(&variable.name, &variable.path.join("."), message);
        match kind {
            None if last == "type" => {
                let help = format!("there is {}", listed_all(kinds.iter().map(|kind| kind.name)));
                self.found.push(error(format!("{what} type not found")).help(help));
            }
            // With a type, the type is the mistake and is named; with a file, its missing type is.
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
            self.found.push(self.environment.problem(&variable.name, &dotted, message).help(help));
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
                self.found.push(self.environment.problem(&variable.name, &dotted, message).maybe_help(help));
            }
        }
    }
}
