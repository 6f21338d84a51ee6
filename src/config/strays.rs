//! Files that look like mappings and are not read, because they are elsewhere or called otherwise; and where a config folder is,
//! when it is not this one. For messages only.

use std::path::{Path, PathBuf};

use super::location::{Location, MAPPINGS_FOLDER};
use crate::mapping::At;
use crate::mapping::diagnostic::{Diagnostic, listed};

/// Files and folders of one folder that are looked through.
const ENTRIES_MAX: usize = 1_000;
/// The largest file that is looked into. Mappings are smaller, and settings are not looked into at all.
const BYTES_MAX: u64 = 1_000_000;
/// Warnings about one folder; more say nothing new.
const SHOWN_MAX: usize = 5;

/// Warnings about what looks like a mapping and is not read.
pub(super) fn warnings(location: &Location) -> Vec<Diagnostic> {
    let folder = location.folder.as_path();
    let warning = |below: &Path, help: String| {
        let what = "this looks like a mapping, and is not read";
        Diagnostic::warning(&location.shown(below), &At::default(), what).help(help)
    };
    let mut found = Vec::new();
    for other in [Path::new(""), Path::new("mapping")] {
        let all = entries(&folder.join(other)).into_iter().filter(|path| has_toml(path) && is_mapping(path));
        for path in all.take(SHOWN_MAX) {
            let below = other.join(path.file_name().unwrap_or_default());
            found.push(warning(&below, format!("move it into the folder `{MAPPINGS_FOLDER}`")));
        }
    }
    let within = entries(&folder.join(MAPPINGS_FOLDER));
    for path in within.iter().filter(|path| has_extension(path, &["yml", "yaml", "tml"])).take(SHOWN_MAX) {
        let below = Path::new(MAPPINGS_FOLDER).join(path.file_name().unwrap_or_default());
        found.push(warning(&below, "a mapping is TOML, in a file that ends in `.toml`".to_owned()));
    }
    for inner in within.iter().filter(|path| path.is_dir()).take(SHOWN_MAX) {
        let all = entries(inner).into_iter().filter(|path| has_toml(path) && is_mapping(path));
        for path in all.take(SHOWN_MAX) {
            let name = inner.file_name().unwrap_or_default();
            let below = Path::new(MAPPINGS_FOLDER).join(name).join(path.file_name().unwrap_or_default());
            let help =
                format!("move it up: mappings are directly in `{MAPPINGS_FOLDER}`; group them by `tags` instead");
            found.push(warning(&below, help));
        }
    }
    found
}

/// The config folder that was probably meant: one above this one, or below it; as a next step.
pub(super) fn elsewhere(location: &Location) -> Option<String> {
    if !location.folder.is_dir() {
        return None;
    }
    let folder = std::path::absolute(&location.folder).ok()?;
    let has_settings = |folder: &Path| folder.join("groupcast.toml").is_file();
    if let Some(steps) = folder.ancestors().skip(1).position(has_settings) {
        let up = location.folder.join(vec![".."; steps + 1].join("/"));
        return Some(format!("the config folder is {0}: add `-C {0}`, or go there", shown(&up)));
    }
    let below: Vec<String> = entries(&location.folder)
        .iter()
        .filter(|path| path.is_dir() && has_settings(path))
        .take(SHOWN_MAX)
        .map(|path| shown(&location.folder.join(path.file_name().unwrap_or_default())))
        .collect();
    match &below[..] {
        [] => None,
        [one] => Some(format!("the config folder is {one}: add `-C {one}`, or go there")),
        many => Some(format!("choose a config folder with `-C`: {}", listed(many.iter().map(String::as_str)))),
    }
}

/// A path without the `./` before it.
fn shown(path: &Path) -> String {
    path.strip_prefix(".").unwrap_or(path).display().to_string()
}

/// What a folder has, by name; nothing where it cannot be read.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let all = std::fs::read_dir(folder).into_iter().flatten().flatten().take(ENTRIES_MAX);
    let mut paths: Vec<PathBuf> =
        all.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.')).map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn has_toml(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    has_extension(path, &["toml"]) && !name.starts_with("groupcast.") && !name.ends_with(".test.toml")
}

fn has_extension(path: &Path, known: &[&str]) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    known.contains(&extension.as_str()) && !path.is_dir()
}

/// Whether a file has the sections of a mapping.
fn is_mapping(path: &Path) -> bool {
    let is_small = path.metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= BYTES_MAX);
    let text = if is_small { std::fs::read_to_string(path).unwrap_or_default() } else { String::new() };
    let has = |section: &str| text.lines().any(|line| line.trim_start().starts_with(section));
    has("[traits") && (has("[model") || has("[group"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &Path, name: &str, text: &str) {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    const MAPPING: &str = "source = \"w\"\n[model]\ntable = \"t\"\n[traits]\na = \"a\"\n";

    #[test]
    fn mappings_in_other_places_are_found_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.toml", "mapping/b.toml", "mappings/crm/c.toml", "mappings/d.yml", "mappings/e.toml"] {
            file(folder.path(), name, MAPPING);
        }
        for name in ["groupcast.toml", "groupcast.prod.toml", "mappings/crm/x.test.toml", "other/f.toml", "g.txt"] {
            file(folder.path(), name, MAPPING);
        }
        file(folder.path(), "Cargo.toml", "[package]\nname = \"x\"\n");
        let found = warnings(&Location::from(folder.path()));
        let files: Vec<String> = found
            .iter()
            .map(|found| Path::new(&found.file).strip_prefix(folder.path()).unwrap().display().to_string())
            .collect();
        assert_eq!(files, ["a.toml", "mapping/b.toml", "mappings/d.yml", "mappings/crm/c.toml"]);
    }

    #[test]
    fn a_config_folder_above_or_below_is_named() {
        let folder = tempfile::tempdir().unwrap();
        file(folder.path(), "sync/groupcast.toml", "");
        file(folder.path(), "sync/mappings/deep/x.toml", "");
        let of = |below: &str| elsewhere(&Location::from(&folder.path().join(below)));
        assert!(of("sync/mappings").unwrap().ends_with("sync/mappings/..`, or go there"));
        assert!(of("sync/mappings/deep").unwrap().contains("deep/../.."));
        assert!(of("").unwrap().contains("sync`, or go there"));
        assert_eq!(of("nosuch"), None);
        file(folder.path(), "two/groupcast.toml", "");
        assert!(of("").unwrap().starts_with("choose a config folder with `-C`: "));
        std::fs::remove_dir_all(folder.path().join("two")).unwrap();
        std::fs::remove_dir_all(folder.path().join("sync")).unwrap();
        assert_eq!(of(""), None);
    }
}
