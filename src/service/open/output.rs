//! The files that a destination must never write to: Its own configuration, the ledger, the warehouse and what the
//! models read: lines of changes in any of them would damage it, or be read as rows.

use std::path::{Path, PathBuf};

use crate::config::Project;
use crate::error::{Error, Kind, Result};
use crate::io::files;
use crate::mapping::From;
use crate::source::Inspection;

/// Checks every destination of a project that writes to a file. Nothing is written, and no file need exist.
///
/// Errors ([`Kind::Config`]): one would write to a file that is something else, or to a pipe, a folder or the kernel.
pub(super) fn check(project: &Project, sources: &[(String, Inspection)]) -> Result<()> {
    let mut taken: Option<Vec<(Identity, String)>> = None;
    for settings in project.settings.destinations.values() {
        let Some(path) = super::destination_type(settings)?.output_file(&settings.values)? else { continue };
        let wrong = |what: String| {
            Err(Error::new(Kind::Config, format!("`path` is {what}"))
                .advise("write the changes to a file of their own, like `path = \"out/changes.ndjson\"`")
                .at(path.display().to_string())
                .at(format!("destination {}", settings.name)))
        };
        if let Some(what) = unfit(&path) {
            return wrong(what.to_owned());
        }
        let output = Identity::of(&path);
        if let Some(what) = reserved(project, &output) {
            return wrong(what);
        }
        let taken = match &taken {
            Some(taken) => taken,
            None => taken.insert(others(project, sources)),
        };
        if let Some((_, what)) = taken.iter().find(|(other, _)| *other == output) {
            return wrong(what.clone());
        }
        if let Some(what) = read_by_a_model(project, &path, &output) {
            return wrong(what);
        }
    }
    Ok(())
}

/// What makes a path unfit for lines, if anything. A character device is fit: `/dev/stdout`, `/dev/null`.
fn unfit(path: &Path) -> Option<&'static str> {
    let about = std::fs::metadata(path).ok()?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if about.file_type().is_char_device() {
            return None;
        }
    }
    // `/dev/stdout` leads there when output is redirected to a file.
    if path.starts_with("/dev") && about.is_file() {
        return None;
    }
    match files::oddity(path, &about) {
        // The writing end of a pipe that somebody redirected our output to.
        Some(what) if what.starts_with("a pipe") && path.starts_with("/dev") => None,
        what => what,
    }
}

/// A file by what it is rather than by how it is written: its path without links, and its number on its disk.
#[derive(Debug)]
struct Identity {
    path: PathBuf,
    number: Option<(u64, u64)>,
}

impl PartialEq for Identity {
    fn eq(&self, other: &Identity) -> bool {
        self.path == other.path || self.number.is_some() && self.number == other.number
    }
}

impl Identity {
    fn of(path: &Path) -> Identity {
        #[cfg(unix)]
        let number = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file).map(|about| {
            use std::os::unix::fs::MetadataExt;
            (about.dev(), about.ino())
        });
        #[cfg(not(unix))]
        let number = None;
        Identity { path: whole(path), number }
    }
}

/// A path without links and dots, as far as it exists.
fn whole(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    for ancestor in absolute.ancestors() {
        if let Ok(real) = ancestor.canonicalize() {
            let rest = absolute.strip_prefix(ancestor).unwrap_or(Path::new(""));
            // What does not exist cannot be a link; its dots are taken away by hand.
            return rest.components().fold(real, |mut path, part| {
                match part {
                    std::path::Component::ParentDir => drop(path.pop()),
                    std::path::Component::Normal(name) => path.push(name),
                    _ => {}
                }
                path
            });
        }
    }
    absolute
}

/// Whole folders and families of files that are not for output.
fn reserved(project: &Project, output: &Identity) -> Option<String> {
    let folder = whole(&project.settings.folder);
    if output.path.starts_with(folder.join(crate::config::location::MAPPINGS_FOLDER)) {
        return Some("in the mappings' folder".to_owned());
    }
    let ledger = whole(&project.settings.state.path);
    let state = ledger.parent()?;
    // The ledger, its `.wal`, its daemon's address, its copies. Beside them there is room: a container has often one folder
    // that can be written.
    let name = ledger.file_name()?.to_string_lossy().into_owned();
    let its = output.path.parent() == Some(state)
        && output.path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&name));
    its.then(|| "Groupcast's own ledger, or belongs to it".to_owned())
}

/// Files that the project reads, and what they are.
fn others(project: &Project, sources: &[(String, Inspection)]) -> Vec<(Identity, String)> {
    let folder = &project.settings.folder;
    let mut all = Vec::new();
    let mut add = |path: &Path, what: String| all.push((Identity::of(path), what));
    let settings = project.settings.location().settings_path();
    add(&settings, "the file of the settings".to_owned());
    add(&folder.join(crate::config::location::ENVIRONMENT_FILE), "a file that holds secrets".to_owned());
    let mut texts = vec![files::read(&settings, 8 * 1024 * 1024).unwrap_or_default()];
    for file in &project.mappings {
        let path = folder.join(crate::config::location::MAPPINGS_FOLDER).join(format!("{}.toml", file.mapping.name));
        add(&path, format!("the file of the mapping `{}`", file.mapping.name));
        texts.push(files::read(&path, 8 * 1024 * 1024).unwrap_or_default());
    }
    for text in texts {
        let text = String::from_utf8_lossy(&text);
        for secret in text.split("${file:").skip(1).filter_map(|rest| rest.split_once('}')) {
            add(&folder.join(secret.0.trim()), "a file that holds a secret".to_owned());
        }
        // A model's SQL file, wherever it stands: any text that names one.
        for written in text.split(['"', '\'']).filter(|written| written.to_ascii_lowercase().ends_with(".sql")) {
            for place in [folder.clone(), folder.join(crate::config::location::MAPPINGS_FOLDER)] {
                add(&place.join(written), "a model's SQL file".to_owned());
            }
        }
    }
    for (name, inspection) in sources {
        for (path, what) in &inspection.files {
            add(path, format!("{what} of the source `{name}`"));
        }
    }
    all
}

/// Whether a model's SQL names the output among the files it reads, by itself or by a pattern.
fn read_by_a_model(project: &Project, path: &Path, output: &Identity) -> Option<String> {
    let folder = &project.settings.folder;
    project.mappings.iter().find_map(|file| {
        let query = match &file.mapping.model.from {
            From::Query(sql) => sql.clone(),
            From::Table(parts) => format!("'{}'", parts.join(".")),
        };
        // Every second piece is inside quotation marks; one mistaken for another is only looked at in vain.
        let named = query.split(['\'', '"']).any(|written| {
            let beside = folder.join(written);
            !written.trim().is_empty()
                && (Identity::of(&beside) == *output
                    || written.contains(['*', '?'])
                        && (matches(&beside.to_string_lossy(), &path.to_string_lossy())
                            || matches(&whole(&beside).to_string_lossy(), &output.path.to_string_lossy())))
        });
        named.then(|| format!("a file that the model of `{}` reads", file.mapping.name))
    })
}

/// Whether a path fits a pattern with `*` and `?`. A star may stand for folders as well: too many fit rather than too few.
fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<char>, Vec<char>) = (pattern.chars().collect(), path.chars().collect());
    let (mut at, mut place, mut star) = (0, 0, None);
    while place < path.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, place));
                at += 1;
            }
            Some(letter) if *letter == '?' || *letter == path[place] => {
                at += 1;
                place += 1;
            }
            _ => match &mut star {
                Some((star_at, from)) => {
                    *from += 1;
                    (at, place) = (*star_at + 1, *from);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|letter| *letter == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit() {
        for (pattern, path, fits) in [
            ("data/*.csv", "data/a.csv", true),
            ("data/*.csv", "data/a.json", false),
            ("data/**/*.parquet", "data/x/y/b.parquet", true),
            ("a?c", "abc", true),
            ("*", "", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
        ] {
            assert_eq!(matches(pattern, path), fits, "{pattern} {path}");
        }
    }

    fn problem(path: &str, state: &str) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let settings = format!(
            "[state]\npath = \"{state}\"\n[sources.w]\ntype = \"duckdb\"\npath = \"w.duckdb\"\n[sources.files]\ntype = \"duckdb\"\n\
             [destinations.hook]\ntype = \"webhook\"\nurl = \"http://127.0.0.1:1/\"\nauth_header = \"${{file:key.txt}}\"\n\
             [destinations.out]\ntype = \"file\"\npath = \"{path}\"\n"
        );
        write("groupcast.toml", &settings);
        write("key.txt", "X-Key: abcdef\n");
        write("w.duckdb", "");
        write("data/a.csv", "id,name\n");
        write("models/accounts.sql", "SELECT * FROM read_csv('data/*.csv')");
        write("state/ledger.duckdb", "");
        std::fs::hard_link(folder.path().join("w.duckdb"), folder.path().join("same.ndjson")).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("groupcast.toml", folder.path().join("link.ndjson")).unwrap();
        let mapping = "source = \"files\"\ndestination = \"out\"\n[model]\nfile = \"models/accounts.sql\"\n[group]\ntype = \
                       \"company\"\nkey = \"id\"\n[traits]\nname = \"name\"\n";
        write("mappings/accounts.toml", mapping);
        let project =
            crate::config::load(folder.path(), Vec::new()).unwrap_or_else(|found| panic!("{}", found.render(false)));
        let found = check(&project, &super::super::inspect_sources(&project).unwrap()).err();
        assert!(found.as_ref().is_none_or(|error| error.kind() == Kind::Config && error.advice().is_some()));
        found.map(|error| error.what().to_owned())
    }

    #[test]
    fn what_the_project_lives_on_is_never_written_to() {
        let usual = "state/ledger.duckdb";
        for (path, what) in [
            ("groupcast.toml", "the settings"),
            ("./mappings/../groupcast.toml", "the settings"),
            ("link.ndjson", "the settings"),
            ("mappings/accounts.toml", "the mappings' folder"),
            ("mappings/new/out.ndjson", "the mappings' folder"),
            ("models/accounts.sql", "SQL file"),
            ("key.txt", "secret"),
            ("w.duckdb", "the file of the source `w`"),
            ("same.ndjson", "the file of the source `w`"),
            ("w.duckdb.wal", "write-ahead log"),
            ("state/ledger.duckdb", "own ledger"),
            ("state/ledger.duckdb.wal", "own ledger"),
            ("state/ledger.duckdb.out.ndjson", "own ledger"),
            ("data/a.csv", "the model of `accounts` reads"),
            ("data/new.csv", "the model of `accounts` reads"),
            ("data", "a folder"),
        ] {
            let found = problem(path, usual).unwrap_or_default();
            assert!(found.starts_with("`path` is ") && found.contains(what), "{path}: {found}");
        }
        assert!(problem("ledger.duckdb.wal", "ledger.duckdb").unwrap().contains("ledger"));
        for path in [
            "changes.ndjson",
            "state/changes.ndjson",
            "out/changes.ndjson",
            "data/changes.ndjson",
            "-",
            "/dev/null",
            "/dev/stdout",
        ] {
            assert_eq!(problem(path, usual), None, "{path}");
        }
        assert_eq!(problem("changes.ndjson", "ledger.duckdb"), None, "a ledger beside the settings");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn nobody_waits_for_a_pipe_without_a_reader() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        for path in [fifo.to_str().unwrap(), "/proc/kmsg"] {
            let found = problem(path, "state/ledger.duckdb").unwrap_or_default();
            assert!(found.contains("a pipe") || found.contains("kernel"), "{path}: {found}");
        }
    }
}
