//! Snapshots of the files that a config consists of: did any of them change?

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::config::files::Mark;

/// How deep below the config folder `.toml` and `.sql` files count: `models/staging/accounts.sql` and one more.
const DEPTH_MAX: usize = 4;
/// Files in a snapshot. A folder with more is not a config folder alone; SIGHUP reloads it all the same.
const FILES_MAX: usize = 10_000;

/// The files of a config, each with what shows that it changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::daemon) struct FileSnapshot {
    marks: BTreeMap<PathBuf, Mark>,
    /// Files that the config names, wherever they are and whether or not they exist.
    pub(super) named: BTreeSet<PathBuf>,
}

impl FileSnapshot {
    /// Adds the files that a load noted just before it read them; of a file that is in the snapshot already, the earlier
    /// mark counts.
    pub(in crate::daemon) fn add(&mut self, noted: BTreeMap<PathBuf, Option<Mark>>) {
        for (path, mark) in noted {
            if let Some(mark) = mark.filter(|_| !self.named.contains(&path)) {
                self.marks.entry(path.clone()).or_insert(mark);
            }
            self.named.insert(path);
        }
    }
}

/// A snapshot of the `.toml` and `.sql` files below `folder` and of the files that the config names: models elsewhere, and
/// secrets. What cannot be read counts as absent.
pub(in crate::daemon) fn snapshot(folder: &Path, named: &BTreeSet<PathBuf>) -> FileSnapshot {
    let mut marks: BTreeMap<PathBuf, Mark> =
        named.iter().filter_map(|path| Some((path.clone(), Mark::at(path)?))).collect();
    let mut folders = vec![(folder.to_path_buf(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            // Through links: config maps and secrets are mounted as links to a folder that is swapped.
            let Ok(meta) = std::fs::metadata(&path) else { continue };
            if meta.is_dir() && !hidden && depth + 1 < DEPTH_MAX {
                folders.push((path, depth + 1));
            } else if meta.is_file()
                && !hidden
                && path.extension().is_some_and(|extension| extension == "toml" || extension == "sql")
                && marks.len() < FILES_MAX
            {
                marks.insert(path, Mark::of(&meta));
            }
        }
    }
    FileSnapshot { marks, named: named.clone() }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::config::files::Files;
    use crate::daemon::project::read;

    #[test]
    fn files_are_seen_to_change_and_others_do_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let write = |below: &str, text: &str| {
            let path = folder.path().join(below);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("groupcast.toml", "a");
        write("mappings/accounts.toml", "b");
        write("models/staging/accounts.sql", "c");
        let first = snapshot(folder.path(), &BTreeSet::new());
        assert_eq!(first.marks.len(), 3);
        write("state/ledger.duckdb", "d");
        write("mappings/.accounts.toml.swp", "e");
        write(".git/config.toml", "f");
        assert_eq!(snapshot(folder.path(), &BTreeSet::new()), first);
        write("models/staging/accounts.sql", "longer");
        assert_ne!(snapshot(folder.path(), &BTreeSet::new()), first);
    }

    #[test]
    fn a_file_replaced_by_one_of_the_same_size_and_date_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("groupcast.toml");
        let dated = |text: &str| {
            let beside = folder.path().join("new");
            std::fs::write(&beside, text).unwrap();
            std::fs::File::options().write(true).open(&beside).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
            std::fs::rename(&beside, &path).unwrap();
        };
        dated("cron = '0 2 * * *'");
        let first = snapshot(folder.path(), &BTreeSet::new());
        dated("cron = '0 3 * * *'");
        assert_ne!(snapshot(folder.path(), &BTreeSet::new()), first);
    }

    #[test]
    fn a_folder_that_is_swapped_by_a_link_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        for (version, text) in [("..1", "a"), ("..2", "b")] {
            std::fs::create_dir(folder.path().join(version)).unwrap();
            std::fs::write(folder.path().join(version).join("groupcast.toml"), text).unwrap();
        }
        let swap = |to: &str| {
            std::os::unix::fs::symlink(to, folder.path().join("..data_tmp")).unwrap();
            std::fs::rename(folder.path().join("..data_tmp"), folder.path().join("..data")).unwrap();
        };
        swap("..1");
        std::os::unix::fs::symlink("..data/groupcast.toml", folder.path().join("groupcast.toml")).unwrap();
        let first = snapshot(folder.path(), &BTreeSet::new());
        assert_eq!(first.marks.len(), 1);
        swap("..2");
        assert_ne!(snapshot(folder.path(), &BTreeSet::new()), first);
    }

    #[test]
    fn files_that_the_config_names_are_seen_wherever_they_are() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let write = |path: PathBuf, text: &str| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let model = elsewhere.path().join("model.txt");
        let mapping = format!(
            "source = \"w\"\ndestination = \"f\"\n[model]\nfile = \"{}\"\n[group]\ntype = \"company\"\nkey = \"id\"\n\
             [traits]\nn = \"n\"\n",
            model.display()
        );
        let settings = "[sources.w]\ntype = \"duckdb\"\n[destinations.f]\ntype = \"webhook\"\n\
                        url = \"${file:key}\"\n";
        write(folder.path().join("groupcast.toml"), settings);
        write(folder.path().join("mappings/accounts.toml"), &mapping);
        let load = || {
            let mut seen = snapshot(folder.path(), &BTreeSet::new());
            let files = Files::default();
            let sound = read(&folder.path().into(), None, &files).is_ok_and(|project| project.broken.is_empty());
            seen.add(files.noted());
            assert_eq!(snapshot(folder.path(), &seen.named), seen, "nothing has changed since");
            (seen, sound)
        };
        // GIVEN a key and a model that do not exist yet THEN their coming is seen
        let (first, sound) = load();
        assert!(!sound);
        write(folder.path().join("key"), "http://127.0.0.1:9/one");
        assert_ne!(snapshot(folder.path(), &first.named), first, "the secret came");
        let (second, sound) = load();
        assert!(!sound);
        write(model.clone(), "SELECT 1 AS id, 2 AS n");
        assert_ne!(snapshot(folder.path(), &second.named), second, "the model came");
        let (third, sound) = load();
        assert!(
            sound,
            "{:?}",
            read(&folder.path().into(), None, &Files::default()).map_err(|failure| failure.as_error())
        );
        // and their changes
        write(model, "SELECT 1 AS id, 22 AS n");
        assert_ne!(snapshot(folder.path(), &third.named), third, "the model changed");
        let (fourth, _) = load();
        write(folder.path().join("key"), "http://127.0.0.1:9/other");
        assert_ne!(snapshot(folder.path(), &fourth.named), fourth, "the secret changed");
    }
}
