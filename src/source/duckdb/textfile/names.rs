//! File names: the files that a table's name means. A path, or a pattern with `*`, `?`, `[…]` and `**`, relative to the config folder.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::{Error, Kind, Result};

/// What is in a file, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Delimited,
    Objects,
    Sheet,
}

/// A file, and how it was distinguished from another of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    /// As it is shown.
    pub(super) shown: String,
    /// `key=value` folders on the way, as Spark and Hive write them.
    pub(super) parts: Vec<(String, String)>,
    pub(super) state: State,
}

/// What changes when a file does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    bytes: u64,
    modified: Option<SystemTime>,
    #[cfg(unix)]
    inode: u64,
}

impl State {
    pub(super) fn of(meta: &std::fs::Metadata) -> State {
        State {
            bytes: meta.len(),
            modified: meta.modified().ok(),
            #[cfg(unix)]
            inode: std::os::unix::fs::MetadataExt::ino(meta),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    pub(super) fn modified(&self) -> Option<SystemTime> {
        self.modified
    }
}

/// The format that a name's extension says, with or without the one of a packed file; `None` for what is not read here.
pub(super) fn format(name: &str) -> Option<Format> {
    let mut name = name.trim_end_matches(['*', '?']).to_ascii_lowercase();
    for packed in [".gz", ".zst"] {
        if let Some(bare) = name.strip_suffix(packed) {
            name = bare.to_owned();
        }
    }
    match name.rsplit_once('.')?.1 {
        "csv" | "tsv" | "tab" | "txt" | "psv" => Some(Format::Delimited),
        "json" | "ndjson" | "jsonl" => Some(Format::Objects),
        "xlsx" | "xlsm" | "xlsb" | "xls" | "ods" => Some(Format::Sheet),
        _ => None,
    }
}

/// Whether a name means several files.
pub(super) fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?', '['])
}

/// Most files of a pattern: each is opened, one after the other, before anything is sent.
const FILES_MAX: usize = 100_000;
/// Deepest folder that `**` goes down to.
const DEPTH_MAX: usize = 32;

/// The files, in the order of their names. A pattern without files is an error, like a path without one.
pub(super) fn find(name: &str, folder: &Path) -> Result<Vec<Found>> {
    let name = name.strip_prefix("file://").unwrap_or(name);
    let home = name.strip_prefix("~/").and_then(|rest| Some((std::env::var_os("HOME")?, rest)));
    let (base, rest) = match home {
        Some((home, rest)) => (PathBuf::from(home), rest),
        None => (folder.to_path_buf(), name),
    };
    let whole = base.join(rest);
    // A file of exactly this name is meant, whatever marks are in it.
    let mut paths: Vec<(PathBuf, String)> = Vec::new();
    if !is_pattern(rest) || whole.is_file() {
        paths.push((whole, name.to_owned()));
    } else {
        let absolute = Path::new(rest).is_absolute();
        let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
        let (start, shown) = if absolute { (PathBuf::from("/"), "/".to_owned()) } else { (base, String::new()) };
        walk(&start, &shown, &parts, 0, &mut paths)?;
        paths.sort();
        paths.dedup();
        if paths.is_empty() {
            return Err(Error::new(Kind::Source, format!("no file matches `{name}`"))
                .advise("check the pattern; a relative path starts at the folder of groupcast.toml")
                .missing());
        }
    }
    let mut found = Vec::new();
    for (path, shown) in paths {
        let meta = std::fs::metadata(&path).map_err(|error| unreadable(&shown, &error))?;
        if meta.is_dir() {
            return Err(Error::new(Kind::Source, format!("{shown}: this is a folder"))
                .advise(format!("name its files: `table = \"{shown}/*.csv\"`")));
        }
        let folders = shown.rsplit_once('/').map_or("", |(folders, _)| folders);
        let parts = folders.split('/').filter_map(|part| part.split_once('=')).map(|(key, value)| {
            (key.to_owned(), if value == "__HIVE_DEFAULT_PARTITION__" { String::new() } else { decoded(value) })
        });
        found.push(Found { parts: parts.collect(), state: State::of(&meta), path, shown });
    }
    Ok(found)
}

/// A file that cannot be opened or read.
pub(super) fn unreadable(shown: &str, error: &std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::NotFound => Error::new(Kind::Source, format!("{shown}: no such file"))
            .advise("check `table`; a relative path starts at the folder of groupcast.toml")
            .missing(),
        std::io::ErrorKind::PermissionDenied => Error::new(Kind::Source, format!("{shown}: the file cannot be read"))
            .advise("give this user read access to the file and its folder"),
        _ => Error::new(Kind::Source, format!("{shown}: the file cannot be read"))
            .advise("check the disk it is on")
            .because(error.kind().to_string()),
    }
}

fn decoded(value: &str) -> String {
    let bytes = value.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| value.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| value.to_owned())
}

fn walk(folder: &Path, shown: &str, parts: &[&str], depth: usize, found: &mut Vec<(PathBuf, String)>) -> Result<()> {
    let Some((part, rest)) = parts.split_first() else { return Ok(()) };
    if found.len() >= FILES_MAX || depth > DEPTH_MAX {
        return Err(Error::new(
            Kind::Source,
            format!("the pattern means more than {FILES_MAX} files, or folders {DEPTH_MAX} deep"),
        )
        .advise("write a narrower pattern"));
    }
    let below = |name: &str| match shown.is_empty() || shown.ends_with('/') {
        true => format!("{shown}{name}"),
        false => format!("{shown}/{name}"),
    };
    if *part == "**" {
        walk(folder, shown, rest, depth, found)?;
    } else if !is_pattern(part) {
        let path = folder.join(part);
        match rest {
            [] if path.is_file() => found.push((path, below(part))),
            [] => {}
            _ => walk(&path, &below(part), rest, depth + 1, found)?,
        }
        return Ok(());
    }
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            use std::io::ErrorKind::{NotADirectory, NotFound};
            // What is no folder holds nothing; a folder that may not be looked into may hold rows.
            return match error.kind() {
                NotFound | NotADirectory => Ok(()),
                _ => Err(unreadable(if shown.is_empty() { "." } else { shown }, &error)),
            };
        }
    };
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(shown, &error))?;
        let file_name = entry.file_name();
        let Some(name) = file_name.to_str() else { continue };
        let path = entry.path();
        // Hidden files are an editor's, or a download that is not done.
        if name.starts_with('.') && !part.starts_with('.') {
            continue;
        }
        if *part == "**" {
            if path.is_dir() && !path.is_symlink() {
                walk(&path, &below(name), parts, depth + 1, found)?;
            }
        } else if matches(part.as_bytes(), name.as_bytes()) {
            match rest {
                [] if path.is_file() => found.push((path, below(name))),
                [] => {}
                _ => walk(&path, &below(name), rest, depth + 1, found)?,
            }
        }
    }
    Ok(())
}

/// Whether a name is of a pattern.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=name.len()).any(|skipped| matches(rest, &name[skipped..])),
        (Some((b'?', rest)), Some((_, others))) => matches(rest, others),
        (Some((b'[', rest)), Some((byte, others))) => {
            let Some(end) = rest.iter().skip(1).position(|end| *end == b']').map(|end| end + 1) else {
                return *byte == b'[' && matches(rest, others);
            };
            let (negated, set) = match rest[..end].split_first() {
                Some((b'!', set)) => (true, set),
                _ => (false, &rest[..end]),
            };
            let mut among = false;
            let mut at = 0;
            while at < set.len() {
                if at + 2 < set.len() && set[at + 1] == b'-' {
                    among |= (set[at]..=set[at + 2]).contains(byte);
                    at += 3;
                } else {
                    among |= set[at] == *byte;
                    at += 1;
                }
            }
            among != negated && matches(&rest[end + 1..], others)
        }
        (Some((wanted, rest)), Some((byte, others))) => wanted == byte && matches(rest, others),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_patterns() {
        for (pattern, name, expected) in [
            ("*.csv", "a.csv", true),
            ("*.csv", "a.csv.gz", false),
            ("a?.csv", "a1.csv", true),
            ("a[0-9].csv", "a7.csv", true),
            ("a[!0-9].csv", "a7.csv", false),
            ("a[.csv", "a[.csv", true),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_finds_files_in_folders_and_their_partitions() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["x/dt=2026-01-01/b.csv", "x/dt=2026-01-01/.b.csv.part", "x/dt=2025-12-31/a.csv", "x/c.json"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "k\n").unwrap();
        }
        let names = |pattern: &str| -> Vec<String> {
            find(pattern, folder.path()).unwrap().into_iter().map(|found| found.shown).collect()
        };
        let both = ["x/dt=2025-12-31/a.csv", "x/dt=2026-01-01/b.csv"];
        assert_eq!(names("x/*/*.csv"), both);
        assert_eq!(names("**/*.csv"), both);
        assert_eq!(names("x/c.json"), ["x/c.json"]);
        let found = find("x/*/b.csv", folder.path()).unwrap();
        assert_eq!(found[0].parts, [("dt".to_owned(), "2026-01-01".to_owned())]);
        assert!(find("x/*.csv", folder.path()).unwrap_err().to_string().contains("no file matches `x/*.csv`"));
        assert!(find("nope.csv", folder.path()).unwrap_err().is_missing());
    }
}
