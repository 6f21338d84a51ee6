//! Where a config is: its folder, and which of the folder's targets is meant.
//!
//! A target is a settings file of its own, `groupcast.prod.toml` for `prod`, rather than changes laid over
//! `groupcast.toml`: a reader sees all that counts, and a problem is at one line of one file. Mappings are shared.
//! Its ledger is its own, because what is synced to one destination says nothing about another.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Longest name of a target: it is part of file names.
const NAME_CHARS_MAX: usize = 40;

/// The name of a target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TargetName(String);

impl TargetName {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TargetName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl FromStr for TargetName {
    type Err = String;

    fn from_str(text: &str) -> Result<TargetName, String> {
        let sound = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
        if text.is_empty() || text.len() > NAME_CHARS_MAX || !text.chars().all(sound) {
            return Err(format!("a target has a name of letters, digits, `-` and `_`, at most {NAME_CHARS_MAX}"));
        }
        Ok(TargetName(text.to_owned()))
    }
}

/// The folder of a config, and the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The folder.
    pub folder: PathBuf,
    /// The target; none for `groupcast.toml` itself.
    pub target: Option<TargetName>,
}

impl From<&Path> for Location {
    fn from(folder: &Path) -> Location {
        Location { folder: folder.to_path_buf(), target: None }
    }
}

impl From<&PathBuf> for Location {
    fn from(folder: &PathBuf) -> Location {
        Location::from(folder.as_path())
    }
}

impl From<&Location> for Location {
    fn from(location: &Location) -> Location {
        location.clone()
    }
}

impl Location {
    /// The path of the settings' file.
    pub fn settings_path(&self) -> PathBuf {
        self.folder.join(self.settings_name())
    }

    /// The settings' file as it is called in messages.
    pub fn settings_file(&self) -> String {
        self.shown(self.settings_name())
    }

    fn settings_name(&self) -> String {
        with_target("groupcast", self.target.as_ref(), ".toml")
    }

    /// The names of the files with variables, the one that wins first.
    pub fn environment_files(&self) -> Vec<String> {
        let own = self.target.as_ref().map(|target| format!("{ENVIRONMENT_FILE}.{target}"));
        own.into_iter().chain([ENVIRONMENT_FILE.to_owned()]).collect()
    }

    /// The path of the ledger, unless the settings name another.
    pub fn ledger_path(&self) -> PathBuf {
        self.folder.join("state").join(with_target("ledger", self.target.as_ref(), ".duckdb"))
    }

    /// The same folder with each of its other settings files.
    pub(super) fn others(&self) -> Vec<Location> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let target = match name.strip_prefix("groupcast.").and_then(|rest| rest.strip_suffix("toml")) {
                Some("") => None,
                Some(middle) => match middle.strip_suffix('.').map(TargetName::from_str) {
                    Some(Ok(target)) => Some(target),
                    _ => continue,
                },
                None => continue,
            };
            all.push(Location { folder: self.folder.clone(), target });
        }
        all.retain(|other| other.target != self.target);
        all.sort_by(|left, right| left.target.cmp(&right.target));
        all
    }

    /// A path below the folder as a person would type it.
    pub(super) fn shown(&self, below: impl AsRef<Path>) -> String {
        let plain = self.folder.as_os_str().is_empty() || self.folder == Path::new(".");
        let path = if plain { below.as_ref().to_path_buf() } else { self.folder.join(below) };
        path.display().to_string()
    }
}

/// The folder of the mappings.
pub const MAPPINGS_FOLDER: &str = "mappings";

/// The file whose variables count where the process does not have them.
pub const ENVIRONMENT_FILE: &str = ".env";

fn with_target(stem: &str, target: Option<&TargetName>, extension: &str) -> String {
    target.map_or_else(|| format!("{stem}{extension}"), |target| format!("{stem}.{target}{extension}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_files_of_its_own() {
        let mut location = Location::from(Path::new("sync"));
        assert_eq!(location.settings_file(), "sync/groupcast.toml");
        assert_eq!(location.ledger_path(), Path::new("sync/state/ledger.duckdb"));
        assert_eq!(location.environment_files(), [".env"]);
        location.target = Some("prod".parse().unwrap());
        assert_eq!(location.settings_path(), Path::new("sync/groupcast.prod.toml"));
        assert_eq!(location.ledger_path(), Path::new("sync/state/ledger.prod.duckdb"));
        assert_eq!(location.environment_files(), [".env.prod", ".env"]);
        assert_eq!(Location { folder: PathBuf::from("."), ..location }.settings_file(), "groupcast.prod.toml");
    }

    #[test]
    fn names_of_targets_are_parts_of_file_names() {
        for name in ["prod", "eu-1", "a_B"] {
            assert!(name.parse::<TargetName>().is_ok(), "{name}");
        }
        for name in ["", "a.b", "../x", "a b", "é", &"x".repeat(41)] {
            assert!(name.parse::<TargetName>().is_err(), "{name}");
        }
    }

    #[test]
    fn other_targets_are_found_by_their_files() {
        let folder = tempfile::tempdir().unwrap();
        for name in
            ["groupcast.toml", "groupcast.prod.toml", "groupcast.dev.toml", "groupcast.a.b.toml", "groupcast.toml~"]
        {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let location = Location { folder: folder.path().to_path_buf(), target: Some("dev".parse().unwrap()) };
        let names: Vec<Option<String>> =
            location.others().into_iter().map(|other| other.target.map(|name| name.0)).collect();
        assert_eq!(names, [None, Some("prod".to_owned())]);
    }
}
