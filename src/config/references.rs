//! The secrets that a settings file refers to, and where each is found, without their values.

use std::collections::BTreeSet;

use super::environment::Environment;
use super::files::Files;
use super::location::Location;
use super::secrets::References;

/// A reference of the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceStatus {
    /// As it is written, without its braces: `NAME`, `file:/run/secrets/key`.
    pub name: String,
    /// Where its value is: `environment`, `.env`, `file`; none where it has no value.
    pub found_in: Option<String>,
}

/// The references of a settings file's text, each once.
pub(super) fn of_text(text: &str, location: &Location, environment: &Environment) -> Vec<ReferenceStatus> {
    let Ok(table) = text.parse::<toml::Table>() else { return Vec::new() };
    let mut names = BTreeSet::new();
    collect(&toml::Value::Table(table), &mut names);
    let files = Files::default();
    let references =
        References { variables: &environment.values, folder: &location.folder, files: &files, stand_ins: false };
    let status = |name: String| {
        let is_found = references.resolve(&format!("${{{name}}}")).is_ok();
        let place = if name.starts_with("file:") { "file".to_owned() } else { environment.place(&name) };
        ReferenceStatus { name, found_in: is_found.then_some(place) }
    };
    names.into_iter().map(status).collect()
}

fn collect(value: &toml::Value, names: &mut BTreeSet<String>) {
    match value {
        toml::Value::String(text) => {
            for (at, _) in text.match_indices("${").filter(|(at, _)| !text[..*at].ends_with('$')) {
                let name = text[at + 2..].split('}').next().unwrap_or_default();
                // Whatever else stands here may be a secret in the wrong place.
                let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
                if is_name || name.starts_with("file:") {
                    names.insert(name.to_owned());
                }
            }
        }
        toml::Value::Array(items) => items.iter().for_each(|item| collect(item, names)),
        toml::Value::Table(table) => table.values().for_each(|value| collect(value, names)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::dotenv::Dotenv;
    use super::*;

    #[test]
    fn every_reference_is_listed_once_with_its_place_and_never_its_value() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), "hunter2").unwrap();
        let values = [("A".to_owned(), "hunter2".to_owned())].into();
        let mut environment = Environment::of_process(values);
        environment.add("sync/.env", Dotenv::parse("A=x\nB=hunter2\n"));
        let text = "# ${NOT}\n[destinations.x]\nurl = '${A}-${B}-$${C}'\nkeys = ['${file:key}', { k = '${file:none}' }]\nz = '${A} ${N} ${hunter2 !}'\n";
        let found = of_text(text, &folder.path().into(), &environment);
        let shown: Vec<(&str, Option<&str>)> =
            found.iter().map(|one| (one.name.as_str(), one.found_in.as_deref())).collect();
        let expected = [
            ("A", Some("environment")),
            ("B", Some("sync/.env")),
            ("N", None),
            ("file:key", Some("file")),
            ("file:none", None),
        ];
        assert_eq!(shown, expected);
    }
}
